//! An answer that follows a grammar of llguidance.

use std::sync::{Arc, Mutex, PoisonError};

use llguidance::ParserFactory;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, TokEnv};

use super::Mask;
use crate::{Error, Result, Tokenizer, stack};

/// Follows one answer through its grammar, as [`Matcher`](super::Matcher) says.
pub(crate) struct GuidedMatcher {
    inner: llguidance::Matcher,
    env: TokEnv,
    /// The mask of the current state, if it has been computed.
    mask: Option<Mask>,
    /// End-of-text tokens accepted after the grammar had already ended.
    ends: usize,
}

impl GuidedMatcher {
    /// The beginning of an answer that follows `grammar`, whose rules and references lead no deeper than
    /// [`depth`](super::depth) allows: they are followed by recursion.
    pub(crate) fn new(tokenizer: &Tokenizer, grammar: TopLevelGrammar) -> Result<Self> {
        let compiler = tokenizer.grammar_compiler()?;
        stack::deep("grammar", move || Self::compile(compiler, grammar)).map_err(Error::Grammar)?
    }

    fn compile(compiler: &Compiler, grammar: TopLevelGrammar) -> Result<Self> {
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
        match matcher.mask() {
            // llguidance's word for it.
            Err(Error::Grammar(reason)) if reason.starts_with("NoExtensionBias") => {
                return Err(failed("it matches no text at all; give each rule an end"));
            }
            first => first.map(drop)?,
        }
        Ok(matcher)
    }

    /// The same for a grammar in Lark that is likely to come again, such as that of an agent's tools.
    pub(crate) fn kept(tokenizer: &Tokenizer, lark: &str) -> Result<Self> {
        let kept =
            || tokenizer.grammar_compiler().map(|c| c.kept.lock().unwrap_or_else(PoisonError::into_inner));
        {
            let mut kept = kept()?;
            if let Some(i) = kept.iter().position(|(text, _)| text == lark) {
                kept[i..].rotate_left(1);
                return Ok(kept[kept.len() - 1].1.trial());
            }
        }
        // Others may compile theirs meanwhile.
        let matcher = Self::new(tokenizer, TopLevelGrammar::from_lark(lark.to_owned()))?;
        Self::keep(tokenizer, lark, matcher)
    }

    /// Keeps what stands for the grammar `lark`, at its beginning, for when that comes again.
    pub(crate) fn keep(tokenizer: &Tokenizer, lark: &str, matcher: Self) -> Result<Self> {
        let trial = matcher.trial();
        let mut kept = tokenizer.grammar_compiler()?.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push((lark.to_owned(), matcher));
        if kept.len() > MOST_KEPT {
            kept.remove(0);
        }
        Ok(trial)
    }

    pub(crate) fn mask(&mut self) -> Result<&Mask> {
        let mask = match self.mask.take() {
            Some(mask) => mask,
            None => Mask::from_bits(self.inner.compute_mask_or_eos().map_err(failed)?),
        };
        Ok(self.mask.insert(mask))
    }

    pub(crate) fn accept(&mut self, token: u32) -> Result<()> {
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

    /// Takes `bytes`, however they would be cut into tokens.
    ///
    /// # Errors
    /// As [`accept`](Self::accept), after which the state is of no use; also where a byte is no token of its own.
    pub(crate) fn accept_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        for byte in bytes {
            let trie = self.env.tok_trie();
            let node = trie.child_at_byte(trie.root(), *byte);
            let token = node.and_then(|node| node.token_id());
            let none = || Error::Grammar(format!("the vocabulary has no token for the byte `{byte:#04x}`"));
            self.accept(token.ok_or_else(none)?)?;
        }
        Ok(())
    }

    pub(crate) fn forced(&mut self) -> Result<Vec<u32>> {
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

    pub(crate) fn rollback(&mut self, n: usize) -> Result<()> {
        let ends = n.min(self.ends);
        self.ends -= ends;
        if n > ends {
            self.mask = None;
            self.inner.rollback(n - ends).map_err(failed)?;
        }
        Ok(())
    }

    /// Another one in the same state. Not every grammar of llguidance can be rolled back, and what goes wrong with one
    /// stays so.
    pub(crate) fn trial(&self) -> Self {
        Self { inner: self.inner.deep_clone(), env: self.env.clone(), mask: None, ends: self.ends }
    }

    pub(crate) fn is_complete(&mut self) -> bool {
        match self.must_end() {
            true => self.inner.stop_reason().is_ok(),
            false => self.inner.is_accepting().unwrap_or(false),
        }
    }

    pub(crate) fn must_end(&self) -> bool {
        self.inner.is_stopped()
    }
}

/// What all grammars of one vocabulary share; costly to make, so a tokenizer makes it once.
pub(crate) struct Compiler {
    factory: Arc<ParserFactory>,
    /// Grammars that come again and again, each at its beginning; the one that was used last is the last.
    kept: Mutex<Vec<(String, GuidedMatcher)>>,
}

/// Grammars that are kept.
const MOST_KEPT: usize = 8;

impl Compiler {
    pub(crate) fn new(env: &TokEnv) -> Result<Self> {
        let capabilities = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(env, capabilities, &slices).map_err(failed)?;
        factory.quiet();
        // llguidance's own limits bound time and memory of a hostile grammar at every step.
        *factory.limits_mut() = ParserLimits { verbose_errors: false, ..ParserLimits::default() };
        Ok(Self { factory: Arc::new(factory), kept: Mutex::default() })
    }
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiler").finish_non_exhaustive()
    }
}

/// llguidance's reason without its debugging material, and without the lines of our grammar that it quotes.
fn failed(reason: impl std::fmt::Display) -> Error {
    let reason = format!("{reason:#}");
    let end = ["<non-verbose/>", "<backtrace>", "<state>"].iter().filter_map(|mark| reason.find(mark)).min();
    let reason = &reason[..end.unwrap_or(reason.len())];
    // A place in the grammar comes before what is wrong with it: `at 12(3): `.
    let place = |line: &str| -> Option<usize> {
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let row = digits(line.strip_prefix("at ")?);
        let column = digits(line[3 + row..].strip_prefix('(')?);
        line[4 + row + column..].starts_with("): ").then_some(7 + row + column)
    };
    let mut line = reason.trim().lines().next().unwrap_or_default().trim_end();
    line = &line[place(line).unwrap_or(0)..];
    for mark in ["failed to compile JSON schema: ", "panic: "] {
        line = line.strip_prefix(mark).unwrap_or(line);
    }
    Error::Grammar(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_show_nothing_of_the_grammar() {
        for (reason, shown) in [
            ("at 7(13): failed to compile JSON schema: no way\n   5 | OTHER: /x/\n     ^\n", "no way"),
            ("panic: attempt to negate <backtrace> 0: x", "attempt to negate"),
            ("at night (7)", "at night (7)"),
            ("at 3(", "at 3("),
            ("\n", ""),
        ] {
            assert_eq!(failed(reason).to_string(), Error::Grammar(shown.to_owned()).to_string());
        }
    }
}
