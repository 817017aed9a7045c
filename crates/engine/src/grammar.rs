//! Grammars: what an answer must look like, and which tokens may come next.
//!
//! Owns the translation into `llguidance`, the form of edits, and the state of one answer. It does not sample.

mod depth;
mod edit;
mod gbnf;
mod guided;
pub(crate) mod schema;

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::SimpleVob;

use self::edit::EditMatcher;
pub use self::edit::{EditFile, EditGrammar};
pub(crate) use self::guided::Compiler;
pub(crate) use self::guided::GuidedMatcher;
use crate::tools::{self, ToolMatcher};
use crate::{Error, Result, Tokenizer, ToolSet};

/// What an answer must look like, from its first byte to its last.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// A JSON document that is valid under this JSON Schema, written as Python's `json.dumps` does: `", "` and
    /// `": "` between items and no other white space, so a model cannot fill its answer with blanks.
    /// A keyword that cannot be guaranteed is an error, not a hope; so is `oneOf` whose branches may overlap. One that is
    /// not known, and a format, says nothing about what is valid, as JSON Schema has it.
    JsonSchema(serde_json::Value),
    /// The same, as far as a grammar can guarantee it: of two branches of `oneOf`, both may be true, keywords such as
    /// `uniqueItems`, `not` and `if` are ignored, and so is what is no keyword's value. Of a schema that does not compile even
    /// so, the types of the properties hold.
    LooseSchema(serde_json::Value),
    /// A regular expression in the syntax of the `regex` crate that matches the whole answer.
    Regex(String),
    /// A context-free grammar in llguidance's dialect of Lark, from its rule `start`.
    Lark(String),
    /// A context-free grammar in llama.cpp's form, from its rule `root`. Characters follow each other as it says, however
    /// a lexer would cut them.
    Gbnf(String),
    /// Search/replace blocks that apply to these files, whatever the model's weights are.
    Edit(EditGrammar),
    /// Text with calls of tools, or calls alone.
    Tools(Arc<ToolSet>),
}

/// Which tokens may come next: one bit each.
#[derive(Debug, PartialEq, Eq)]
pub struct Mask {
    /// Bit `id % 32` of word `id / 32`.
    words: Vec<u32>,
}

impl Clone for Mask {
    fn clone(&self) -> Self {
        Self { words: self.words.clone() }
    }

    /// In the memory of the one before, so that a step allocates none.
    fn clone_from(&mut self, source: &Self) {
        self.words.clone_from(&source.words);
    }
}

impl Grammar {
    /// A JSON document that is valid under `schema`: all of it where that is `strict`, else as far as can be guaranteed.
    pub fn json(schema: serde_json::Value, strict: bool) -> Self {
        if strict { Self::JsonSchema(schema) } else { Self::LooseSchema(schema) }
    }
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

    /// Allows a token, if there is one.
    fn allow(&mut self, token: Option<u32>) {
        if let Some(token) = token {
            self.words[token as usize / 32] |= 1 << (token % 32);
        }
    }

    /// Takes a token out, if there is one.
    fn forbid(&mut self, token: Option<u32>) {
        if let Some(token) = token {
            self.words[token as usize / 32] &= !(1 << (token % 32));
        }
    }

    fn from_bits(bits: SimpleVob) -> Self {
        // The bits may have room for one more token than there are; that one is never set.
        Self { words: bits.into() }
    }
}

/// Longer grammars, in bytes, are refused: they could keep the compiler busy for seconds.
pub(crate) const MAX_SOURCE: usize = 1 << 19;

/// Follows one answer through its grammar.
///
/// After each sampled token: [`accept`](Self::accept) it, then append what [`forced`](Self::forced) gives. The mask
/// of the next token can be computed on another thread while the forward pass runs.
pub struct Matcher {
    body: Body,
}

enum Body {
    Guided(Box<GuidedMatcher>),
    Edit(Box<EditMatcher>),
    Tools(Box<ToolMatcher>),
}

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matcher").field("must_end", &self.must_end()).finish_non_exhaustive()
    }
}

impl Matcher {
    /// Compiles `grammar` for the vocabulary of `tokenizer`.
    ///
    /// # Errors
    /// [`Error::Grammar`] with the reason when the grammar does not compile, is too large, asks for something
    /// that cannot be guaranteed, or matches nothing at all: nothing is ever generated without its grammar.
    pub fn new(tokenizer: &Tokenizer, grammar: &Grammar) -> Result<Self> {
        Self::within(tokenizer, grammar, usize::MAX)
    }

    /// The same for an answer of at most `limit` tokens, the end-of-text token not counted. Edits end within it;
    /// the other grammars do not know how long their shortest answer is, so theirs may be cut off.
    ///
    /// # Errors
    /// As [`new`](Self::new); also when `limit` is too small for any edit.
    pub fn within(tokenizer: &Tokenizer, grammar: &Grammar, limit: usize) -> Result<Self> {
        if let Grammar::Regex(text) | Grammar::Lark(text) | Grammar::Gbnf(text) = grammar {
            fits(text)?;
        }
        let source = match grammar {
            Grammar::JsonSchema(value) => {
                let schema = schema::prepare(value)?;
                fits(&schema.to_string())?;
                TopLevelGrammar::from_json_schema(schema)
            }
            Grammar::LooseSchema(value) => {
                let [loose, coarse] = schema::loose_forms(value)?;
                let follow = |schema: serde_json::Value| {
                    fits(&schema.to_string())?;
                    GuidedMatcher::new(tokenizer, TopLevelGrammar::from_json_schema(schema))
                };
                let matcher = follow(loose).or_else(|_| follow(coarse))?;
                return Ok(Self { body: Body::Guided(Box::new(matcher)) });
            }
            Grammar::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Grammar::Lark(lark) => from_lark(lark.clone())?,
            Grammar::Gbnf(gbnf) => from_lark(gbnf::to_lark(gbnf)?)?,
            Grammar::Edit(edit) => {
                let body = EditMatcher::new(&tokenizer.trie_env()?, edit, limit)?;
                return Ok(Self { body: Body::Edit(Box::new(body)) });
            }
            Grammar::Tools(set) => {
                let calls = tools::compile(tokenizer, set)?;
                let body = match ToolMatcher::follow(tokenizer, set, calls)? {
                    tools::Followed::Text(matcher) => Body::Tools(matcher),
                    tools::Followed::Calls(matcher) => Body::Guided(matcher),
                };
                return Ok(Self { body });
            }
        };
        Ok(Self { body: Body::Guided(Box::new(GuidedMatcher::new(tokenizer, source)?)) })
    }

    /// Which tokens may come next. The model's end-of-text tokens are among them only when the answer may end here.
    /// Where the text is forced, only the first token of its usual cutting is; [`accept`](Self::accept) takes others.
    ///
    /// # Errors
    /// [`Error::Grammar`] when the state has become too complex, or no token can continue.
    pub fn mask(&mut self) -> Result<&Mask> {
        match &mut self.body {
            Body::Guided(matcher) => matcher.mask(),
            Body::Edit(matcher) => Ok(matcher.mask()),
            Body::Tools(matcher) => matcher.mask(),
        }
    }

    /// Takes the token that was chosen. A refused token changes nothing.
    ///
    /// # Errors
    /// [`Error::Grammar`] when the grammar does not allow it.
    pub fn accept(&mut self, token: u32) -> Result<()> {
        match &mut self.body {
            Body::Guided(matcher) => matcher.accept(token),
            Body::Edit(matcher) => matcher.accept(token),
            Body::Tools(matcher) => matcher.accept(token),
        }
    }

    /// The tokens that must come next, whatever the model thinks: append them without sampling.
    /// They are accepted already, and count for [`rollback`](Self::rollback).
    ///
    /// # Errors
    /// [`Error::Grammar`] when the state has become too complex.
    pub fn forced(&mut self) -> Result<Vec<u32>> {
        match &mut self.body {
            Body::Guided(matcher) => matcher.forced(),
            Body::Edit(matcher) => matcher.forced(),
            Body::Tools(matcher) => matcher.forced(),
        }
    }

    /// Takes back the last `n` accepted tokens.
    ///
    /// # Errors
    /// [`Error::Grammar`] when there are not so many.
    pub fn rollback(&mut self, n: usize) -> Result<()> {
        match &mut self.body {
            Body::Guided(matcher) => matcher.rollback(n),
            Body::Edit(matcher) => matcher.rollback(n),
            Body::Tools(matcher) => matcher.rollback(n),
        }
    }

    /// What `work` finds with a matcher in this state; whatever it accepts and whatever goes wrong, this one stays as it
    /// is.
    pub(crate) fn suppose<T>(&mut self, work: impl FnOnce(&mut Matcher) -> T) -> Result<T> {
        if let Body::Guided(matcher) = &self.body {
            return Ok(work(&mut Self { body: Body::Guided(Box::new(matcher.trial())) }));
        }
        if let Body::Tools(matcher) = &self.body {
            return Ok(work(&mut Self { body: Body::Tools(Box::new(matcher.trial())) }));
        }
        let accepted = |matcher: &Self| match &matcher.body {
            Body::Guided(_) | Body::Tools(_) => 0,
            Body::Edit(matcher) => matcher.accepted(),
        };
        let before = accepted(self);
        let found = work(self);
        self.rollback(accepted(self) - before)?;
        Ok(found)
    }

    /// Whether the answer may end here.
    pub fn is_complete(&mut self) -> bool {
        match &mut self.body {
            Body::Guided(matcher) => matcher.is_complete(),
            Body::Edit(matcher) => matcher.is_complete(),
            Body::Tools(matcher) => matcher.is_complete(),
        }
    }

    /// Whether the answer must end here: nothing but an end-of-text token can follow.
    pub fn must_end(&self) -> bool {
        match &self.body {
            Body::Guided(matcher) => matcher.must_end(),
            Body::Edit(matcher) => matcher.must_end(),
            Body::Tools(matcher) => matcher.must_end(),
        }
    }
}

/// Refuses what is too long.
fn fits(text: &str) -> Result<()> {
    let size = text.len();
    if size > MAX_SOURCE {
        return Err(Error::Grammar(format!("it has `{size}` bytes; up to `{MAX_SOURCE}` are supported")));
    }
    Ok(())
}

/// A grammar from outside.
fn from_lark(lark: String) -> Result<TopLevelGrammar> {
    depth::check_lark(&lark)?;
    Ok(TopLevelGrammar::from_lark(lark))
}

#[cfg(test)]
mod tests;
