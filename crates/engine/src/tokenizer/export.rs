//! The tokenizer of a folder under the keys of GGUF.

use std::path::Path;

use serde_json::Value;
use tokenizers::PreTokenizerWrapper;

use super::{
    VocabParts, directory,
    vocab::{ENDS, Plan, QWEN2, looks_special},
};
use crate::{Error, Result, gguf::bad};

/// The kinds of tokens, as `tokenizer.ggml.token_type` numbers them.
mod kind {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const USER_DEFINED: i32 = 4;
    pub(super) const UNUSED: i32 = 5;
}

impl VocabParts {
    /// The tokenizer of a folder with `tokenizer.json`, for a model whose embedding has `rows` rows.
    ///
    /// # Errors
    /// Those of [`Tokenizer::from_dir`](super::Tokenizer::from_dir); [`Error::Unsupported`] if GGUF has no name
    /// for the way text is cut; [`Error::BadFile`] if there are more tokens than rows.
    pub fn from_dir(folder: &Path, rows: usize) -> Result<Self> {
        let plan = directory::read(folder)?;
        let pre = cutting_name(&plan.pre_tokenizer)?.to_owned();
        let (tokens, token_types) = tokens(&plan, rows)?;
        // The ends that every loader finds by their names need no key of their own, except the first.
        let usual = |id: u32| tokens.get(id as usize).is_some_and(|name| ENDS.contains(&name.as_str()));
        let others = plan.ends.iter().skip(1).filter(|&&id| !usual(id));
        let ends = plan.ends.first().into_iter().chain(others).copied().collect();
        Ok(Self {
            model: "gpt2".into(),
            pre,
            tokens,
            token_types,
            merges: plan.merges.iter().map(|(a, b)| format!("{a} {b}")).collect(),
            ends,
            bos: plan.bos,
            pad: plan.pad,
            fim_prefix: None,
            fim_suffix: None,
            fim_middle: None,
            add_bos: plan.add_bos,
            add_eos: plan.add_eos,
            templates: plan.templates,
            path: plan.path,
        })
    }
}

/// `rows` tokens by id, and their kinds.
fn tokens(plan: &Plan, rows: usize) -> Result<(Vec<String>, Vec<i32>)> {
    let mut tokens: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
    let mut kinds = vec![kind::UNUSED; rows];
    for (name, &id) in &plan.vocab {
        let Some(token) = tokens.get_mut(id as usize) else {
            let problem = format!("token `{id}` has no row in the embedding, which has `{rows}`");
            return Err(bad(&plan.path, plan.keys.tokens, problem));
        };
        token.clone_from(name);
        kinds[id as usize] = kind::NORMAL;
    }
    for (id, token) in &plan.added {
        let special = token.special || looks_special(&token.content);
        kinds[*id as usize] = if special { kind::CONTROL } else { kind::USER_DEFINED };
    }
    Ok((tokens, kinds))
}

/// What GGUF calls this way to cut text.
fn cutting_name(pre_tokenizer: &PreTokenizerWrapper) -> Result<&'static str> {
    let value = serde_json::to_value(pre_tokenizer).unwrap_or_default();
    let steps = match value["pretokenizers"].as_array() {
        Some(steps) => steps.clone(),
        None => vec![value],
    };
    let regex = |step: &Value| step["pattern"]["Regex"].as_str().map(str::to_owned);
    match steps.as_slice() {
        [split, _] if regex(split).as_deref() == Some(QWEN2) => Ok("qwen2"),
        [only] if only["use_regex"] == true => Ok("gpt-2"),
        steps => Err(Error::Unsupported {
            what: "pre-tokenizer",
            got: steps.iter().find_map(regex).unwrap_or_else(|| "a sequence of its own".into()),
            supported: "those of Qwen2 and GPT-2, for which GGUF has names".into(),
        }),
    }
}
