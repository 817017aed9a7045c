//! Reads `tokenizer.json` and the files beside it.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

use super::Tokenizer;
use super::vocab::{Keys, Plan, finish};
use crate::{Error, Result};

const KEYS: Keys = Keys { tokens: "model.vocab", merges: "model.merges", ids: "eos_token" };

/// The parts of `tokenizer.json` that matter here. Truncation and padding are left out on purpose.
#[derive(Deserialize)]
struct TokenizerJson {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    #[serde(flatten)]
    token: AddedToken,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: HashMap<String, u32>,
    merges: Merges,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    ignore_merges: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merges {
    Pairs(Vec<(String, String)>),
    Lines(Vec<String>),
}

pub(super) fn open(folder: &Path) -> Result<Tokenizer> {
    finish(read(folder)?)
}

pub(super) fn read(folder: &Path) -> Result<Plan> {
    let path = folder.join("tokenizer.json");
    let text = std::fs::read_to_string(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
    let json: TokenizerJson = serde_json::from_str(&text).map_err(|error| bad(&path, "JSON", error))?;
    let config = optional(&folder.join("tokenizer_config.json"))?;
    let generation = optional(&folder.join("generation_config.json"))?;

    let kind = json.model.kind.as_deref().unwrap_or("BPE");
    let affixes = [&json.model.continuing_subword_prefix, &json.model.end_of_word_suffix];
    if kind != "BPE" || affixes.into_iter().flatten().any(|affix| !affix.is_empty()) {
        return Err(unsupported("tokenizer", kind, "BPE without prefix or suffix"));
    }
    let mut vocab = json.model.vocab;
    let mut added = Vec::with_capacity(json.added_tokens.len());
    for Added { id, token } in json.added_tokens {
        if vocab.insert(token.content.clone(), id).is_some_and(|other| other != id) {
            return Err(bad(&path, "added_tokens", format!("`{}` has two ids", token.content)));
        }
        added.push((id, token));
    }
    let named = |key: &str| named_token(&config, key).and_then(|name| vocab.get(&name).copied());
    let (eos, bos, pad) = (named("eos_token"), named("bos_token"), named("pad_token"));
    let behind =
        json.post_processor.as_ref().and_then(behind_texts).and_then(|name| vocab.get(name).copied());
    let ends = behind.into_iter().chain(eos).chain(generation_ends(&generation)).collect();
    let flag = |name: &str| config.get(name).and_then(Value::as_bool).unwrap_or(false);
    Ok(Plan {
        merges: pairs(json.model.merges)
            .map_err(|i| bad(&path, KEYS.merges, format!("merge `{i}` is not a pair")))?,
        normalizer: normalizer(json.normalizer, &path)?,
        pre_tokenizer: pre_tokenizer(json.pre_tokenizer, &path)?,
        add_bos: flag("add_bos_token"),
        add_eos: behind.is_some() || flag("add_eos_token"),
        templates: templates(folder, &config)?,
        keys: KEYS,
        ignore_merges: json.model.ignore_merges,
        fim: [None; 3],
        vocab,
        added,
        ends,
        bos,
        pad,
        path,
    })
}

/// The special token that the file puts behind every text: models for embeddings read their vector there.
fn behind_texts(post_processor: &Value) -> Option<&str> {
    let steps =
        post_processor["processors"].as_array().map_or(std::slice::from_ref(post_processor), Vec::as_slice);
    let template = steps.iter().find(|step| step["type"] == "TemplateProcessing")?;
    template["single"].as_array()?.last()?["SpecialToken"]["id"].as_str()
}

fn bad(path: &Path, at: &str, problem: impl ToString) -> Error {
    Error::BadFile { path: path.to_owned(), at: at.to_owned(), problem: problem.to_string() }
}

fn unsupported(what: &'static str, got: &str, supported: &str) -> Error {
    Error::Unsupported { what, got: got.to_owned(), supported: supported.to_owned() }
}

/// A JSON file that need not be there; null if it is not.
fn optional(path: &Path) -> Result<Value> {
    match optional_text(path)? {
        Some(text) => serde_json::from_str(&text).map_err(|error| bad(path, "JSON", error)),
        None => Ok(Value::Null),
    }
}

fn optional_text(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path: path.to_owned(), source }),
    }
}

fn pairs(merges: Merges) -> Result<Vec<(String, String)>, usize> {
    let lines = match merges {
        Merges::Pairs(pairs) => return Ok(pairs),
        Merges::Lines(lines) => lines,
    };
    let lines = lines.iter().filter(|line| !line.starts_with("#version"));
    let pair = |(i, line): (usize, &String)| {
        line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).ok_or(i)
    };
    lines.enumerate().map(pair).collect()
}

/// Unicode normalisation only: other normalizers change text beyond recognition.
fn normalizer(value: Option<Value>, path: &Path) -> Result<Option<NormalizerWrapper>> {
    let Some(value) = value else { return Ok(None) };
    let kinds = match kind(&value) {
        "Sequence" => value["normalizers"].as_array().into_iter().flatten().map(kind).collect(),
        kind => vec![kind],
    };
    if let Some(other) = kinds.iter().find(|kind| !matches!(**kind, "NFC" | "NFD" | "NFKC" | "NFKD")) {
        return Err(unsupported("normalizer", other, "NFC, NFD, NFKC, NFKD"));
    }
    serde_json::from_value(value).map(Some).map_err(|error| bad(path, "normalizer", error))
}

fn pre_tokenizer(value: Option<Value>, path: &Path) -> Result<PreTokenizerWrapper> {
    let value = value.unwrap_or(Value::Null);
    let kinds = match kind(&value) {
        "Sequence" => value["pretokenizers"].as_array().into_iter().flatten().map(kind).collect(),
        kind => vec![kind],
    };
    let other = kinds.iter().find(|kind| !matches!(**kind, "Split" | "Digits" | "ByteLevel"));
    if let Some(other) = other {
        return Err(unsupported("pre-tokenizer", other, "ByteLevel, after Split and Digits"));
    }
    if kinds.last() != Some(&"ByteLevel") {
        return Err(unsupported(
            "pre-tokenizer",
            kinds.last().unwrap_or(&"none"),
            "ByteLevel as the last one",
        ));
    }
    serde_json::from_value(value).map_err(|error| bad(path, "pre_tokenizer", error))
}

fn kind(value: &Value) -> &str {
    value["type"].as_str().unwrap_or("none")
}

/// A token named in `tokenizer_config.json`, either as text or as an object with its `content`.
fn named_token(config: &Value, key: &str) -> Option<String> {
    let token = &config[key];
    Some(token.as_str().or_else(|| token["content"].as_str())?.to_owned())
}

/// `eos_token_id` of `generation_config.json`: a number or a list.
fn generation_ends(generation: &Value) -> Vec<u32> {
    let ids = &generation["eos_token_id"];
    let list = ids.as_array().map_or(std::slice::from_ref(ids), Vec::as_slice);
    list.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
}

/// `chat_template.jinja` wins over `chat_template` of the configuration, which is a text or a list of named ones.
fn templates(folder: &Path, config: &Value) -> Result<Vec<(String, String)>> {
    let mut templates = Vec::new();
    if let Some(text) = optional_text(&folder.join("chat_template.jinja"))? {
        templates.push(("default".to_owned(), text));
    }
    match &config["chat_template"] {
        Value::String(text) => templates.push(("default".to_owned(), text.clone())),
        Value::Array(list) => templates.extend(list.iter().filter_map(|entry| {
            Some((entry["name"].as_str()?.to_owned(), entry["template"].as_str()?.to_owned()))
        })),
        _ => {}
    }
    Ok(templates)
}
