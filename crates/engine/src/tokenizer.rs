//! Text to tokens and back, byte for byte as Hugging Face's `tokenizers` does it.
//!
//! Owns the vocabulary: encoding, the bytes of every token, which tokens are special and which end an answer.
//! Byte-level byte-pair encoding only: it is what the supported architectures use.

mod alphabet;
mod directory;
mod export;
mod metadata;
mod trie;
mod vocab;

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use llguidance::toktrie::TokEnv;
use tokenizers::models::bpe::BPE;
use tokenizers::{
    AddedVocabulary, Model as _, NormalizerWrapper, OffsetType, PreTokenizer as _, PreTokenizerWrapper,
};

pub use self::vocab::VocabParts;
use crate::grammar::Compiler;
use crate::{Error, Result};

/// What becomes of the text of special tokens, such as `<|im_start|>`, in text to be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialTokens {
    /// It becomes the token: for prompts rendered by a chat template.
    Parse,
    /// It stays text like any other: for text from outside that must not be able to speak with the template's voice.
    Plain,
}

/// The tokens around a hole to be filled in ("fill in the middle").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FimTokens {
    /// Comes before the text before the hole.
    pub prefix: u32,
    /// Comes before the text after the hole.
    pub suffix: u32,
    /// Comes last; the model goes on with the content of the hole.
    pub middle: u32,
}

/// What of a folder says how it is tokenized.
pub(crate) const FILES: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"];

/// Larger texts, in bytes, are encoded one at a time: the library takes more than a hundred bytes for each of theirs
/// meanwhile, of which a machine has perhaps enough for one.
const LARGE: usize = 1 << 20;

/// A vocabulary and its rules.
pub struct Tokenizer {
    core: Arc<Core>,
    ends: Vec<u32>,
    bos: Option<u32>,
    pad: Option<u32>,
    fim: Option<FimTokens>,
    add_bos: bool,
    add_eos: bool,
    /// Chat templates by name; the usual one is called `default`.
    templates: Vec<(String, String)>,
    /// Held while a large text is encoded.
    large: Mutex<()>,
    trie: OnceLock<Result<TokEnv, String>>,
    compiler: OnceLock<Result<Compiler, String>>,
}

/// What encoding needs; shared with the grammars.
struct Core {
    model: BPE,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: PreTokenizerWrapper,
    /// Tokens found in text before anything else, for [`SpecialTokens::Parse`].
    added: AddedVocabulary,
    /// Those of them that are not special.
    ordinary: AddedVocabulary,
    /// The bytes of all tokens, one after the other.
    bytes: Vec<u8>,
    /// Token `id` is `bytes[offsets[id]..offsets[id + 1]]`.
    offsets: Vec<usize>,
    special: Vec<bool>,
}

impl Tokenizer {
    /// The tokenizer of a GGUF file.
    ///
    /// # Errors
    /// [`Error::BadFile`] naming the metadata key, [`Error::Unsupported`] for an unknown pre-tokenizer.
    pub fn from_vocab(parts: VocabParts) -> Result<Self> {
        vocab::build(parts)
    }

    /// The tokenizer of a folder with `tokenizer.json` and, if there, `tokenizer_config.json`,
    /// `generation_config.json` and `chat_template.jinja`.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read, [`Error::BadFile`] naming file and field,
    /// [`Error::Unsupported`] for anything but byte-level byte-pair encoding.
    pub fn from_dir(path: impl AsRef<Path>) -> Result<Self> {
        directory::open(path.as_ref())
    }

    /// The tokens of `text`. Nothing is added, truncated or lost.
    ///
    /// # Errors
    /// [`Error::Request`] when the pre-tokenizer gives up on the text.
    pub fn encode(&self, text: &str, special: SpecialTokens) -> Result<Vec<u32>> {
        let none = AddedVocabulary::new();
        let added = match special {
            SpecialTokens::Parse => &self.core.added,
            SpecialTokens::Plain => &none,
        };
        // Nothing is left half done under this lock.
        let _turn = (text.len() > LARGE).then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
        self.core.encode(text, added, self.core.normalizer.as_ref())
    }

    /// The bytes of `tokens`, special ones included. An id that does not exist has none.
    pub fn decode(&self, tokens: &[u32]) -> Vec<u8> {
        tokens.iter().flat_map(|&id| self.token_bytes(id)).copied().collect()
    }

    /// The bytes of one token: any bytes, not always whole characters. An id that does not exist has none.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.core.token_bytes(id)
    }

    /// The tokens that this vocabulary and `other` have in common, if all but those that fill gaps in the numbering are:
    /// those below this id.
    ///
    /// # Errors
    /// The first id that means something else, or something only here or there.
    pub(crate) fn common(&self, other: &Self) -> Result<usize, u32> {
        let fills = |text: &[u8], id| {
            text.is_empty() || std::str::from_utf8(text).is_ok_and(|text| vocab::is_placeholder(text, id))
        };
        let is_same = |id| {
            let (own, its) = (self.token_bytes(id), other.token_bytes(id));
            own == its || fills(own, id) && fills(its, id)
        };
        let (own, its) = (self.vocab_size(), other.vocab_size());
        match (0..own.max(its) as u32).find(|&id| !is_same(id)) {
            Some(id) => Err(id),
            None => Ok(own.min(its)),
        }
    }

    /// The token with exactly this text, looked up and not encoded.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.core.model.token_to_id(text)
    }

    /// One more than the largest token id.
    pub fn vocab_size(&self) -> usize {
        self.core.special.len()
    }

    /// Whether a token is markup and not text: control tokens, and others that look like `<|…|>`.
    pub fn is_special(&self, id: u32) -> bool {
        self.core.special.get(id as usize).copied().unwrap_or(false)
    }

    /// The special tokens, ascending.
    pub fn special_ids(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.vocab_size() as u32).filter(|&id| self.is_special(id))
    }

    /// Tokens that end an answer, the model's own end-of-text token first.
    pub fn end_ids(&self) -> &[u32] {
        &self.ends
    }

    /// Whether this token ends an answer.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// The beginning-of-text token, if there is one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether every prompt that is not rendered by a template begins with [`bos`](Self::bos).
    pub fn add_bos(&self) -> bool {
        self.add_bos && self.bos.is_some()
    }

    /// What is behind every text that is embedded: the model's own end-of-text token, if its file asks for it.
    pub fn text_end(&self) -> Option<u32> {
        self.ends.first().copied().filter(|_| self.add_eos)
    }

    /// The padding token, if there is one.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// The tokens for filling in the middle, if the model knows them.
    pub fn fim(&self) -> Option<FimTokens> {
        self.fim
    }

    /// The chat template with this name; the usual one is `default`, one for conversations with tools `tool_use`.
    pub fn chat_template(&self, name: &str) -> Option<&str> {
        self.templates.iter().find(|(n, _)| n == name).map(|(_, source)| source.as_str())
    }

    /// The variables `bos_token`, `eos_token` and `pad_token` of chat templates, as far as they exist.
    pub fn template_variables(&self) -> Vec<(String, String)> {
        let named =
            [("bos_token", self.bos), ("eos_token", self.ends.first().copied()), ("pad_token", self.pad)];
        let text = |id: u32| String::from_utf8_lossy(self.token_bytes(id)).into_owned();
        named.iter().filter_map(|&(name, id)| Some((name.to_owned(), text(id?)))).collect()
    }

    /// The vocabulary as grammars want it, made on first use because it takes longer than reading the tokenizer.
    ///
    /// # Errors
    /// [`Error::Grammar`] when the vocabulary has no end-of-text token or is too large for a prefix tree.
    pub fn trie_env(&self) -> Result<TokEnv> {
        let made = self.trie.get_or_init(|| trie::env(Arc::clone(&self.core), &self.ends));
        made.clone().map_err(Error::Grammar)
    }

    /// What all grammars of this vocabulary share, made on first use.
    pub(crate) fn grammar_compiler(&self) -> Result<&Compiler> {
        let env = self.trie_env()?;
        let made = self.compiler.get_or_init(|| Compiler::new(&env).map_err(|error| error.to_string()));
        made.as_ref().map_err(|problem| Error::Grammar(problem.clone()))
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("tokens", &self.vocab_size()).finish_non_exhaustive()
    }
}

impl Core {
    /// `added` is what is looked for in the text before anything else.
    fn encode(
        &self,
        text: &str,
        added: &AddedVocabulary,
        normalizer: Option<&NormalizerWrapper>,
    ) -> Result<Vec<u32>> {
        let problem = |error: tokenizers::Error| {
            let problem = format!("the text cannot be split into tokens: {error}");
            Error::Request { field: "prompt", problem }
        };
        let mut pieces = added.extract_and_normalize(normalizer, text);
        self.pre_tokenizer.pre_tokenize(&mut pieces).map_err(problem)?;
        pieces.tokenize(|piece| self.model.tokenize(piece.get())).map_err(problem)?;
        let encoding = pieces.into_encoding(None, 0, OffsetType::None).map_err(problem)?;
        Ok(encoding.get_ids().to_vec())
    }

    fn token_bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        match self.offsets.get(id..id.saturating_add(2)) {
            Some(&[start, end]) => &self.bytes[start..end],
            _ => &[],
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
