//! The tokenizer's keys of a GGUF file.

use super::{Tokenizer, VocabParts};
use crate::gguf::bad;
use crate::{Gguf, Result};

impl Tokenizer {
    /// The tokenizer of a GGUF file, which may be one without tensors.
    ///
    /// # Errors
    /// [`Error::BadFile`](crate::Error::BadFile) naming the metadata key,
    /// [`Error::Unsupported`](crate::Error::Unsupported) for an unknown kind of tokenizer.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        Self::from_vocab(VocabParts::from_gguf(gguf)?)
    }
}

impl VocabParts {
    /// Reads every key that belongs to the tokenizer.
    ///
    /// # Errors
    /// [`Error::BadFile`](crate::Error::BadFile) naming a key that is missing or of another type.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let meta = gguf.metadata();
        let missing = |key: &str| bad(gguf.path(), &crate::gguf::key(key), "is missing".into());
        let text = |key: &str| -> Result<Option<String>> { Ok(meta.str(key)?.map(str::to_owned)) };
        let texts = |key: &str| -> Result<Vec<String>> {
            let Some(list) = meta.strings(key)? else { return Ok(Vec::new()) };
            list.map(|s| s.map(str::to_owned)).collect()
        };
        let id = |name: &str| meta.u32(&format!("tokenizer.ggml.{name}_token_id"));
        let either = |new: &str, old: &str| id(new).and_then(|i| i.map_or_else(|| id(old), |i| Ok(Some(i))));
        let model = "tokenizer.ggml.model";
        let mut ends = Vec::new();
        for name in ["eos", "eot", "eom"] {
            ends.extend(id(name)?);
        }
        let mut templates = Vec::new();
        if let Some(source) = text("tokenizer.chat_template")? {
            templates.push(("default".to_owned(), source));
        }
        for name in texts("tokenizer.chat_templates")? {
            if let Some(source) = text(&format!("tokenizer.chat_template.{name}"))? {
                templates.push((name, source));
            }
        }
        Ok(Self {
            path: gguf.path().to_owned(),
            model: text(model)?.ok_or_else(|| missing(model))?,
            pre: text("tokenizer.ggml.pre")?.unwrap_or_else(|| "default".to_owned()),
            tokens: texts("tokenizer.ggml.tokens")?,
            token_types: meta.i32s("tokenizer.ggml.token_type")?.unwrap_or_default(),
            merges: texts("tokenizer.ggml.merges")?,
            ends,
            bos: id("bos")?,
            pad: id("padding")?,
            fim_prefix: either("fim_pre", "prefix")?,
            fim_suffix: either("fim_suf", "suffix")?,
            fim_middle: either("fim_mid", "middle")?,
            add_bos: meta.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(false),
            add_eos: meta.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
            templates,
        })
    }
}
