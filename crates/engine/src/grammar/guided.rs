//! An answer that follows a grammar of llguidance.

use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, TokEnv};

use super::Mask;
use crate::{Error, Result, Tokenizer};

/// Follows one answer through its grammar, as [`Matcher`](super::Matcher) says.
pub(super) struct GuidedMatcher {
    inner: llguidance::Matcher,
    env: TokEnv,
    /// The mask of the current state, if it has been computed.
    mask: Option<Mask>,
    /// End-of-text tokens accepted after the grammar had already ended.
    ends: usize,
}

impl GuidedMatcher {
    pub(super) fn new(tokenizer: &Tokenizer, grammar: TopLevelGrammar) -> Result<Self> {
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

    pub(super) fn mask(&mut self) -> Result<&Mask> {
        let mask = match self.mask.take() {
            Some(mask) => mask,
            None => Mask::from_bits(self.inner.compute_mask_or_eos().map_err(failed)?),
        };
        Ok(self.mask.insert(mask))
    }

    pub(super) fn accept(&mut self, token: u32) -> Result<()> {
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

    pub(super) fn forced(&mut self) -> Result<Vec<u32>> {
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

    pub(super) fn rollback(&mut self, n: usize) -> Result<()> {
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
    pub(super) fn trial(&self) -> Self {
        Self { inner: self.inner.deep_clone(), env: self.env.clone(), mask: None, ends: self.ends }
    }

    pub(super) fn is_complete(&mut self) -> bool {
        match self.must_end() {
            true => self.inner.stop_reason().is_ok(),
            false => self.inner.is_accepting().unwrap_or(false),
        }
    }

    pub(super) fn must_end(&self) -> bool {
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
