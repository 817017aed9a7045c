//! Grammars: what an answer must look like, and which tokens may come next.
//!
//! Owns the translation into `llguidance` and the state of one answer. It does not sample.

mod schema;

use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, SimpleVob, TokEnv};

use crate::{Error, Result, Tokenizer};

/// What an answer must look like, from its first byte to its last.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// A JSON document that is valid under this JSON Schema, written as Python's `json.dumps` does: `", "` and
    /// `": "` between items and no other white space, so a model cannot fill its answer with blanks.
    /// A keyword that cannot be guaranteed is an error, not a hope; so is `oneOf` whose branches may overlap.
    JsonSchema(serde_json::Value),
    /// A regular expression in the syntax of the `regex` crate that matches the whole answer.
    Regex(String),
    /// A context-free grammar in llguidance's dialect of Lark, from its rule `start`.
    Lark(String),
}

/// Which tokens may come next: one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Bit `id % 32` of word `id / 32`.
    words: Vec<u32>,
}

impl Mask {
    /// A mask that allows `tokens` of a vocabulary of `vocab`; ids beyond it are ignored.
    pub fn new(vocab: usize, tokens: impl IntoIterator<Item = u32>) -> Self {
        let mut words = vec![0u32; vocab.div_ceil(32)];
        for id in tokens.into_iter().filter(|&id| (id as usize) < vocab) {
            words[id as usize / 32] |= 1 << (id % 32);
        }
        Self { words }
    }

    /// Whether `token` may come next.
    pub fn allows(&self, token: u32) -> bool {
        self.words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// The bits, 32 tokens in each word, the lowest id in the lowest bit. Tokens beyond the end are not allowed.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    fn from_bits(bits: SimpleVob) -> Self {
        // The bits may have room for one more token than there are; that one is never set.
        Self { words: bits.into() }
    }
}

/// Longer grammars, in bytes, are refused: they could keep the compiler busy for seconds.
const MAX_SOURCE: usize = 1 << 19;

/// Follows one answer through its grammar.
///
/// After each sampled token: [`accept`](Self::accept) it, then append what [`forced`](Self::forced) gives. The mask
/// of the next token can be computed on another thread while the forward pass runs.
pub struct Matcher {
    inner: llguidance::Matcher,
    env: TokEnv,
    /// The mask of the current state, if it has been computed.
    mask: Option<Mask>,
    /// End-of-text tokens accepted after the grammar had already ended.
    ends: usize,
}

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matcher").field("state", &self.inner.stop_reason()).finish_non_exhaustive()
    }
}

impl Matcher {
    /// Compiles `grammar` for the vocabulary of `tokenizer`.
    ///
    /// # Errors
    /// [`Error::Grammar`] with the reason when the grammar does not compile, is too large, asks for something
    /// that cannot be guaranteed, or matches nothing at all: nothing is ever generated without its grammar.
    pub fn new(tokenizer: &Tokenizer, grammar: &Grammar) -> Result<Self> {
        let size = match grammar {
            Grammar::JsonSchema(value) => value.to_string().len(),
            Grammar::Regex(text) | Grammar::Lark(text) => text.len(),
        };
        if size > MAX_SOURCE {
            return Err(Error::Grammar(format!("it has `{size}` bytes; up to `{MAX_SOURCE}` are supported")));
        }
        let grammar = match grammar {
            Grammar::JsonSchema(value) => TopLevelGrammar::from_json_schema(schema::prepare(value)?),
            Grammar::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Grammar::Lark(lark) => TopLevelGrammar::from_lark(lark.clone()),
        };
        let compiler = tokenizer.grammar_compiler()?;
        let parser = compiler.factory.create_parser(grammar).map_err(failed)?;
        let inner = llguidance::Matcher::new(Ok(parser));
        if let Some(problem) = inner.get_error() {
            return Err(failed(problem));
        }
        let env = compiler.factory.tok_env().clone();
        let mut matcher = Self { inner, env, mask: None, ends: 0 };
        let warnings = matcher.inner.grammar_warnings();
        if !warnings.is_empty() {
            // llguidance warns where it would only approximate.
            return Err(failed(warnings.join("; ")));
        }
        matcher.mask()?;
        Ok(matcher)
    }

    /// Which tokens may come next. The model's end-of-text tokens are among them only when the answer may end here.
    /// Where the text is forced, only the first token of its usual cutting is; [`accept`](Self::accept) takes others.
    ///
    /// # Errors
    /// [`Error::Grammar`] when the state has become too complex, or no token can continue.
    pub fn mask(&mut self) -> Result<&Mask> {
        let mask = match self.mask.take() {
            Some(mask) => mask,
            None => Mask::from_bits(self.inner.compute_mask_or_eos().map_err(failed)?),
        };
        Ok(self.mask.insert(mask))
    }

    /// Takes the token that was chosen. A refused token changes nothing.
    ///
    /// # Errors
    /// [`Error::Grammar`] when the grammar does not allow it.
    pub fn accept(&mut self, token: u32) -> Result<()> {
        let refused = || Error::Grammar(format!("token `{token}` is not allowed here"));
        let trie = self.env.tok_trie();
        if token as usize >= trie.vocab_size() {
            return Err(refused());
        }
        if self.must_end() {
            if !trie.eos_tokens().contains(&token) || self.inner.is_error() {
                return Err(refused());
            }
            self.ends += 1;
            return Ok(());
        }
        if self.inner.try_consume_tokens(&[token]).map_err(failed)? == 0 {
            return Err(refused());
        }
        self.mask = None;
        Ok(())
    }

    /// The tokens that must come next, whatever the model thinks: append them without sampling.
    /// They are accepted already, and count for [`rollback`](Self::rollback).
    ///
    /// # Errors
    /// [`Error::Grammar`] when the state has become too complex.
    pub fn forced(&mut self) -> Result<Vec<u32>> {
        if self.must_end() {
            return Ok(Vec::new());
        }
        let tokens = self.inner.compute_ff_tokens();
        if !tokens.is_empty() {
            self.mask = None;
            self.inner.consume_tokens(&tokens).map_err(failed)?;
        }
        match self.inner.get_error() {
            Some(problem) => Err(failed(problem)),
            None => Ok(tokens),
        }
    }

    /// Takes back the last `n` accepted tokens.
    ///
    /// # Errors
    /// [`Error::Grammar`] when there are not so many.
    pub fn rollback(&mut self, n: usize) -> Result<()> {
        let ends = n.min(self.ends);
        self.ends -= ends;
        if n > ends {
            self.mask = None;
            self.inner.rollback(n - ends).map_err(failed)?;
        }
        Ok(())
    }

    /// Whether the answer may end here.
    pub fn is_complete(&mut self) -> bool {
        match self.must_end() {
            true => self.inner.stop_reason().is_ok(),
            false => self.inner.is_accepting().unwrap_or(false),
        }
    }

    /// Whether the answer must end here: nothing but an end-of-text token can follow.
    pub fn must_end(&self) -> bool {
        self.inner.is_stopped()
    }
}

/// What all grammars of one vocabulary share; costly to make, so a tokenizer makes it once.
pub(crate) struct Compiler {
    factory: Arc<ParserFactory>,
}

impl Compiler {
    pub(crate) fn new(env: &TokEnv) -> Result<Self> {
        let capabilities = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(env, capabilities, &slices).map_err(failed)?;
        factory.quiet();
        // llguidance's own limits bound time and memory of a hostile grammar at every step.
        *factory.limits_mut() = ParserLimits { verbose_errors: false, ..ParserLimits::default() };
        Ok(Self { factory: Arc::new(factory) })
    }
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiler").finish_non_exhaustive()
    }
}

/// llguidance's reason without its debugging material.
fn failed(reason: impl std::fmt::Display) -> Error {
    let reason = format!("{reason:#}");
    let end = ["<non-verbose/>", "<backtrace>", "<state>"].iter().filter_map(|mark| reason.find(mark)).min();
    Error::Grammar(reason[..end.unwrap_or(reason.len())].trim_end().to_owned())
}

#[cfg(test)]
mod tests;
