//! An answer that is free text until a call opens, and calls from there to its end.

use std::sync::{Arc, Mutex, PoisonError};

use llguidance::toktrie::{TokEnv, TokTrie};

use super::opening::Opening;
use super::{OPEN, ToolSet};
use crate::grammar::{GuidedMatcher, Mask};
use crate::{Error, Result, Tokenizer};

/// Follows one answer, as [`Matcher`](crate::Matcher) says.
pub(crate) struct ToolMatcher {
    env: TokEnv,
    /// At the beginning of an answer that consists of calls.
    calls: Arc<Mutex<GuidedMatcher>>,
    /// The tag's token, if the vocabulary has one.
    tag: Option<u32>,
    /// At the beginning of the answer.
    begin: Opening,
    opening: Opening,
    phase: Phase,
    accepted: Vec<u32>,
    /// Everything, which is what free text may be.
    everything: Arc<Mask>,
    /// The end alone.
    end: Arc<Mask>,
}

enum Phase {
    Text,
    Calls(Box<GuidedMatcher>),
    Over,
}

/// What the matcher of a set of tools is.
pub(crate) enum Followed {
    /// The answer begins as text.
    Text(Box<ToolMatcher>),
    /// The answer is calls from its first token on.
    Calls(Box<GuidedMatcher>),
}

impl ToolMatcher {
    /// `calls` is the compiled grammar of the calls.
    pub(crate) fn follow(tokenizer: &Tokenizer, set: &ToolSet, calls: GuidedMatcher) -> Result<Followed> {
        if !set.is_free() {
            return Ok(Followed::Calls(Box::new(calls)));
        }
        let env = tokenizer.trie_env()?;
        let vocab = env.tok_trie().vocab_size();
        let tag = tokenizer.token_id(OPEN);
        let opening = Opening::new(set, tag.is_some());
        let end = Mask::new(vocab, env.tok_trie().eos_tokens().iter().copied());
        Ok(Followed::Text(Box::new(Self {
            env,
            calls: Arc::new(Mutex::new(calls)),
            tag,
            begin: opening.clone(),
            opening,
            phase: Phase::Text,
            accepted: Vec::new(),
            everything: Arc::new(Mask::new(vocab, 0..vocab as u32)),
            end: Arc::new(end),
        })))
    }

    pub(crate) fn mask(&mut self) -> Result<&Mask> {
        match &mut self.phase {
            Phase::Text => Ok(&self.everything),
            Phase::Calls(calls) => calls.mask(),
            Phase::Over => Ok(&self.end),
        }
    }

    pub(crate) fn accept(&mut self, token: u32) -> Result<()> {
        match &mut self.phase {
            Phase::Text => self.accept_text(token)?,
            Phase::Calls(calls) => calls.accept(token)?,
            Phase::Over if self.end.allows(token) => {}
            Phase::Over => return Err(refused(token)),
        }
        self.accepted.push(token);
        Ok(())
    }

    fn accept_text(&mut self, token: u32) -> Result<()> {
        let trie = self.env.tok_trie();
        if !self.everything.allows(token) {
            return Err(refused(token));
        }
        if trie.eos_tokens().contains(&token) {
            self.phase = Phase::Over;
            return Ok(());
        }
        if Some(token) == self.tag && self.opening.takes_tag() {
            let mut calls = self.begun()?;
            calls.accept(token)?;
            self.phase = Phase::Calls(Box::new(calls));
            return Ok(());
        }
        let bytes = trie.token(token);
        let bytes = bytes.strip_prefix(&[TokTrie::SPECIAL_TOKEN_MARKER]).unwrap_or(bytes).to_vec();
        for (i, byte) in bytes.iter().enumerate() {
            if !self.opening.push(*byte) {
                continue;
            }
            let mut calls = self.begun()?;
            let header = self.opening.header();
            let header = header.strip_prefix(OPEN.as_bytes()).unwrap_or(header);
            // What cannot be a call is text, whatever its beginning looked like.
            if calls.open(self.tag, header).and_then(|()| calls.accept_bytes(&bytes[i + 1..])).is_ok() {
                self.phase = Phase::Calls(Box::new(calls));
                return Ok(());
            }
            self.opening.decline();
        }
        Ok(())
    }

    /// Another matcher at the beginning of the calls.
    fn begun(&self) -> Result<GuidedMatcher> {
        Ok(self.calls.lock().unwrap_or_else(PoisonError::into_inner).trial())
    }

    pub(crate) fn forced(&mut self) -> Result<Vec<u32>> {
        let Phase::Calls(calls) = &mut self.phase else { return Ok(Vec::new()) };
        let tokens = calls.forced()?;
        self.accepted.extend(&tokens);
        Ok(tokens)
    }

    /// Not every state of llguidance can be taken back, so the tokens that stay are followed anew.
    pub(crate) fn rollback(&mut self, n: usize) -> Result<()> {
        let left = self.accepted.len().checked_sub(n);
        let left = left.ok_or_else(|| {
            let accepted = self.accepted.len();
            Error::Grammar(format!("`{n}` tokens cannot be taken back, there are `{accepted}`"))
        })?;
        if n > 0 {
            let tokens = std::mem::take(&mut self.accepted);
            self.opening = self.begin.clone();
            self.phase = Phase::Text;
            tokens[..left].iter().try_for_each(|&token| self.accept(token))?;
        }
        Ok(())
    }

    /// Another one in the same state.
    pub(crate) fn trial(&self) -> Self {
        let phase = match &self.phase {
            Phase::Text => Phase::Text,
            Phase::Calls(calls) => Phase::Calls(Box::new(calls.trial())),
            Phase::Over => Phase::Over,
        };
        Self {
            env: self.env.clone(),
            calls: self.calls.clone(),
            begin: self.begin.clone(),
            opening: self.opening.clone(),
            phase,
            accepted: self.accepted.clone(),
            everything: self.everything.clone(),
            end: self.end.clone(),
            ..*self
        }
    }

    pub(crate) fn is_complete(&mut self) -> bool {
        match &mut self.phase {
            Phase::Text | Phase::Over => true,
            Phase::Calls(calls) => calls.is_complete(),
        }
    }

    pub(crate) fn must_end(&self) -> bool {
        match &self.phase {
            Phase::Text => false,
            Phase::Calls(calls) => calls.must_end(),
            Phase::Over => true,
        }
    }
}

impl GuidedMatcher {
    /// Takes the tag that begins a call, and a beginning of the call that was written without one.
    fn open(&mut self, tag: Option<u32>, header: &[u8]) -> Result<()> {
        match tag {
            Some(tag) => self.accept(tag)?,
            None => self.accept_bytes(OPEN.as_bytes())?,
        }
        if !header.starts_with(b"\n") {
            self.accept_bytes(b"\n")?;
        }
        self.accept_bytes(header)
    }
}

fn refused(token: u32) -> Error {
    Error::Grammar(format!("token `{token}` is not allowed here"))
}
