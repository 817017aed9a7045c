//! Checks a vocabulary, wherever it comes from, and builds the tokenizer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    AddedToken, AddedVocabulary, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior,
};

use super::alphabet::Alphabet;
use super::{Core, FimTokens, Tokenizer};
use crate::{Error, Result};

/// How text is cut before byte-pair encoding: the published tokenizers of Qwen2, Qwen2.5 and Qwen3.
pub(super) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// No published vocabulary has more tokens, and a hostile file cannot make tables of another size.
const MAX_TOKENS: usize = 1 << 22;

/// Tokens that end an answer wherever they exist as special tokens, whatever else the file names. Behind the last three,
/// models that fill in the middle go on with another file (the example of Qwen2.5-Coder ends there, too).
pub(super) const ENDS: [&str; 5] =
    ["<|im_end|>", "<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"];

/// The tokenizer's part of a GGUF file's metadata, key by key.
#[derive(Debug, Clone, Default)]
pub struct VocabParts {
    /// The file, for error messages.
    pub path: PathBuf,
    /// `tokenizer.ggml.model`: `gpt2` is byte-level byte-pair encoding.
    pub model: String,
    /// `tokenizer.ggml.pre`: how text is cut.
    pub pre: String,
    /// `tokenizer.ggml.tokens`.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    /// Empty if the file has none: all are normal.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`, best first, both halves with a space between.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.eos_token_id`, and the keys of further tokens that end an answer (`eot_token_id`,
    /// `eom_token_id`).
    pub ends: Vec<u32>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad: Option<u32>,
    /// `tokenizer.ggml.fim_pre_token_id`, or `prefix_token_id` in older files.
    pub fim_prefix: Option<u32>,
    /// `tokenizer.ggml.fim_suf_token_id`, or `suffix_token_id`.
    pub fim_suffix: Option<u32>,
    /// `tokenizer.ggml.fim_mid_token_id`, or `middle_token_id`.
    pub fim_middle: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: bool,
    /// `tokenizer.ggml.add_eos_token`, which models for embeddings have.
    pub add_eos: bool,
    /// `tokenizer.chat_template` as `default`, `tokenizer.chat_template.NAME` as NAME.
    pub templates: Vec<(String, String)>,
}

/// A vocabulary in neutral form.
pub(super) struct Plan {
    pub(super) path: PathBuf,
    /// Where tokens and merges stand in the file, for error messages.
    pub(super) keys: Keys,
    /// Every token with its id, the added ones too.
    pub(super) vocab: HashMap<String, u32>,
    pub(super) merges: Vec<(String, String)>,
    pub(super) ignore_merges: bool,
    pub(super) added: Vec<(u32, AddedToken)>,
    pub(super) normalizer: Option<NormalizerWrapper>,
    pub(super) pre_tokenizer: PreTokenizerWrapper,
    pub(super) ends: Vec<u32>,
    pub(super) bos: Option<u32>,
    pub(super) pad: Option<u32>,
    pub(super) fim: [Option<u32>; 3],
    pub(super) add_bos: bool,
    pub(super) add_eos: bool,
    pub(super) templates: Vec<(String, String)>,
}

#[derive(Clone, Copy)]
pub(super) struct Keys {
    pub(super) tokens: &'static str,
    pub(super) merges: &'static str,
    pub(super) ids: &'static str,
}

const GGUF: Keys = Keys {
    tokens: "tokenizer.ggml.tokens",
    merges: "tokenizer.ggml.merges",
    ids: "tokenizer.ggml.*_token_id",
};

pub(super) fn build(mut parts: VocabParts) -> Result<Tokenizer> {
    let path = parts.path.clone();
    if parts.model != "gpt2" {
        let supported = "gpt2 (byte-level byte-pair encoding)".to_owned();
        return Err(Error::Unsupported { what: "tokenizer", got: parts.model, supported });
    }
    let (normalizer, pre_tokenizer) = cutting(&parts.pre)?;
    if !parts.token_types.is_empty() && parts.token_types.len() != parts.tokens.len() {
        let (types, tokens) = (parts.token_types.len(), parts.tokens.len());
        let problem = format!("`{types}` types for `{tokens}` tokens");
        return Err(Error::BadFile { path, at: "tokenizer.ggml.token_type".to_owned(), problem });
    }
    name_placeholders(&mut parts);
    let mut vocab = HashMap::with_capacity(parts.tokens.len());
    let mut added = Vec::new();
    for (id, token) in (0..).zip(parts.tokens) {
        let kind = parts.token_types.get(id as usize).copied().unwrap_or(1);
        if (kind == 3 || kind == 4) && !is_placeholder(&token, id) {
            added.push((id, AddedToken::from(token.clone(), kind == 3).normalized(false)));
        }
        if let Some(first) = vocab.insert(token, id) {
            let problem = format!("tokens `{first}` and `{id}` are the same");
            return Err(Error::BadFile { path, at: GGUF.tokens.to_owned(), problem });
        }
    }
    let halves = |(i, merge): (usize, &String)| {
        let (a, b) = merge.split_once(' ').filter(|(a, b)| !a.is_empty() && !b.is_empty()).ok_or(i)?;
        Ok((a.to_owned(), b.to_owned()))
    };
    let merges = parts.merges.iter().enumerate().map(halves).collect::<Result<Vec<_>, usize>>();
    let merges = merges.map_err(|i| Error::BadFile {
        path: path.clone(),
        at: GGUF.merges.to_owned(),
        problem: format!("merge `{i}` is not two tokens with a space between"),
    })?;
    finish(Plan {
        path,
        keys: GGUF,
        vocab,
        merges,
        ignore_merges: false,
        added,
        normalizer,
        pre_tokenizer,
        ends: parts.ends,
        bos: parts.bos,
        pad: parts.pad,
        fim: [parts.fim_prefix, parts.fim_suffix, parts.fim_middle],
        add_bos: parts.add_bos,
        add_eos: parts.add_eos,
        templates: parts.templates,
    })
}

/// Normalisation and cutting by the name that GGUF gives them.
fn cutting(pre: &str) -> Result<(Option<NormalizerWrapper>, PreTokenizerWrapper)> {
    match pre {
        "qwen2" => {
            let pattern = SplitPattern::Regex(QWEN2.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(|error| Error::Template(format!("the built-in pattern: {error}")))?;
            let parts = vec![split.into(), ByteLevel::new(false, false, false).into()];
            let nfc = tokenizers::normalizers::NFC;
            Ok((Some(nfc.into()), Sequence::new(parts).into()))
        }
        "gpt-2" => Ok((None, ByteLevel::new(false, false, true).into())),
        other => Err(Error::Unsupported {
            what: "pre-tokenizer",
            got: other.to_owned(),
            supported: "qwen2, gpt-2".to_owned(),
        }),
    }
}

/// The tokens of Qwen2.5 that the first conversions to GGUF left without a name.
///
/// They wrote `[PAD151657]` for what `tokenizer.json` calls `<tool_call>`, because they knew only the three tokens of
/// Qwen2. The names are those of the published Qwen2.5 tokenizer; files that name them themselves are not touched.
fn name_placeholders(parts: &mut VocabParts) {
    const FIRST: usize = 151_646;
    const NAMES: [&str; 19] = [
        "<|object_ref_start|>",
        "<|object_ref_end|>",
        "<|box_start|>",
        "<|box_end|>",
        "<|quad_start|>",
        "<|quad_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|vision_pad|>",
        "<|image_pad|>",
        "<|video_pad|>",
        "<tool_call>",
        "</tool_call>",
        "<|fim_prefix|>",
        "<|fim_middle|>",
        "<|fim_suffix|>",
        "<|fim_pad|>",
        "<|repo_name|>",
        "<|file_sep|>",
    ];
    let qwen = parts.pre == "qwen2" && parts.tokens.get(FIRST - 1).is_some_and(|token| token == "<|im_end|>");
    if !qwen || parts.token_types.len() != parts.tokens.len() {
        return;
    }
    for (id, name) in (FIRST..).zip(NAMES) {
        if parts.tokens.get(id).is_some_and(|token| is_placeholder(token, id as u32)) {
            parts.tokens[id] = name.to_owned();
            parts.token_types[id] = if name.starts_with("<|") { 3 } else { 4 };
        }
    }
}

/// Whether a token only fills a gap in the numbering.
pub(super) fn is_placeholder(token: &str, id: u32) -> bool {
    token.strip_prefix("[PAD").and_then(|rest| rest.strip_suffix(']')).is_some_and(|n| n == id.to_string())
}

/// Checks everything that the libraries below would take on trust, and builds.
pub(super) fn finish(plan: Plan) -> Result<Tokenizer> {
    let alphabet = Alphabet::new();
    let names = checked_names(&plan, &alphabet)?;
    let mut special = vec![false; names.len()];
    let mut literal = vec![false; names.len()];
    for (id, token) in &plan.added {
        literal[*id as usize] = true;
        special[*id as usize] = token.special || looks_special(&token.content);
    }
    let (bytes, offsets) = token_bytes(&names, &literal, &alphabet);
    let find = |name: &str, kind: &[bool]| plan.vocab.get(name).copied().filter(|&id| kind[id as usize]);
    let mut ends: Vec<u32> = Vec::new();
    for id in plan.ends.iter().copied().chain(ENDS.iter().filter_map(|name| find(name, &special))) {
        if !ends.contains(&id) {
            ends.push(id);
        }
    }
    let fim_names = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"];
    let fim = [0, 1, 2].map(|i| plan.fim[i].or_else(|| find(fim_names[i], &literal)));

    let Plan { normalizer, pre_tokenizer, added, .. } = plan;
    // Cannot fail: both halves and the whole of every merge have been found in the vocabulary.
    let mut model = BPE::new(plan.vocab.into_iter().collect(), plan.merges);
    model.ignore_merges = plan.ignore_merges;
    let vocabulary = |wanted: &dyn Fn(u32) -> bool| {
        let mut vocabulary = AddedVocabulary::new();
        let tokens = added.iter().filter(|(id, _)| wanted(*id)).map(|(_, token)| token.clone());
        let done = vocabulary.add_tokens(tokens, &model, normalizer.as_ref());
        done.map(|_| vocabulary).map_err(|error| Error::BadFile {
            path: plan.path.clone(),
            at: plan.keys.tokens.to_owned(),
            problem: format!("special tokens: {error}"),
        })
    };
    let (everything, ordinary) = (vocabulary(&|_| true)?, vocabulary(&|id| !special[id as usize])?);
    let core =
        Core { model, normalizer, pre_tokenizer, added: everything, ordinary, bytes, offsets, special };
    Ok(Tokenizer {
        core: Arc::new(core),
        ends,
        bos: plan.bos,
        pad: plan.pad,
        fim: match fim {
            [Some(prefix), Some(suffix), Some(middle)] => Some(FimTokens { prefix, suffix, middle }),
            _ => None,
        },
        add_bos: plan.add_bos,
        add_eos: plan.add_eos,
        templates: plan.templates,
        large: Mutex::new(()),
        trie: OnceLock::new(),
        compiler: OnceLock::new(),
    })
}

/// The name of every token by id, empty where there is none, once everything in the plan refers to tokens that exist.
fn checked_names<'a>(plan: &'a Plan, alphabet: &Alphabet) -> Result<Vec<&'a str>> {
    let bad = |at: &str, problem: String| {
        Err(Error::BadFile { path: plan.path.clone(), at: at.to_owned(), problem })
    };
    let size = plan.vocab.values().max().map_or(0, |&id| id as usize + 1);
    if size == 0 || size > MAX_TOKENS {
        return bad(plan.keys.tokens, format!("ids must be below `{MAX_TOKENS}`, and there must be one"));
    }
    let mut names = vec![""; size];
    for (name, &id) in &plan.vocab {
        if !std::mem::replace(&mut names[id as usize], name).is_empty() {
            return bad(plan.keys.tokens, format!("two tokens have the id `{id}`"));
        }
    }
    for (byte, c) in alphabet.characters() {
        if !plan.vocab.contains_key(c.encode_utf8(&mut [0; 4]) as &str) {
            return bad(plan.keys.tokens, format!("no token for the byte `{byte:#04x}`"));
        }
    }
    for (i, (a, b)) in plan.merges.iter().enumerate() {
        let needed = [a.clone(), b.clone(), format!("{a}{b}")];
        if let Some(token) = needed.into_iter().find(|token| !plan.vocab.contains_key(token)) {
            return bad(plan.keys.merges, format!("merge `{i}` needs the token `{token}`, which is missing"));
        }
    }
    let named = plan.ends.iter().copied().map(Some).chain([plan.bos, plan.pad]).chain(plan.fim);
    if let Some(id) = named.flatten().find(|&id| id as usize >= size) {
        return bad(plan.keys.ids, format!("token `{id}` does not exist; there are `{size}`"));
    }
    Ok(names)
}

/// Qwen marks some markup, such as `<|fim_prefix|>`, as ordinary; conversions to GGUF go by the look of it, and so do
/// we, so that both files give the same tokenizer.
pub(super) fn looks_special(text: &str) -> bool {
    text.starts_with("<|") && text.ends_with("|>")
}

/// The bytes of all tokens one after the other, and where each begins.
fn token_bytes(names: &[&str], literal: &[bool], alphabet: &Alphabet) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    let mut offsets = vec![0];
    for (name, &literal) in names.iter().zip(literal) {
        match (!literal).then(|| alphabet.bytes(name)).flatten() {
            Some(token) => bytes.extend(token),
            // An added token is its own text, and so is one that no byte-level text can contain.
            None => bytes.extend(name.as_bytes()),
        }
        offsets.push(bytes.len());
    }
    (bytes, offsets)
}
