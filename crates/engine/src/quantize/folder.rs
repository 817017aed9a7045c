//! The keys of a GGUF file from a checkpoint's folder: what `config.json`, `tokenizer.json` and
//! `tokenizer_config.json` say, under llama.cpp's names.

use serde_json::Value;

use crate::{
    Result, VocabParts, Weights,
    config::{Config, object},
    gguf::Header,
};

/// Adds what a loader needs to know: dimensions, vocabulary, chat template.
///
/// The vocabulary gets as many tokens as the embedding has rows; what `tokenizer.json` does not name is called
/// `[PAD7]`, after its number, and marked as unused.
pub(super) fn keys(weights: &Weights, header: &mut Header) -> Result<()> {
    let (config, folder) = (weights.config(), weights.path());
    let mut vocab = VocabParts::from_dir(folder, config.vocab)?;
    // `tokenizer_config.json` of Qwen has no first token; the published files take it from the configuration.
    let of_config = object(&folder.join("config.json"))?.get("bos_token_id").and_then(Value::as_u64);
    let named = of_config.and_then(|id| u32::try_from(id).ok()).filter(|&id| (id as usize) < config.vocab);
    vocab.bos = vocab.bos.or(named);
    let folder_name = || Some(folder.canonicalize().ok()?.file_name()?.to_string_lossy().into_owned());
    let name = config.name.clone().or_else(folder_name).unwrap_or_else(|| "model".into());
    dimensions(config, &name, header);
    vocabulary(&vocab, header);
    Ok(())
}

fn dimensions(config: &Config, name: &str, header: &mut Header) {
    let arch = config.architecture.name();
    header.str("general.architecture", arch);
    header.str("general.type", "model");
    header.str("general.name", name);
    // All are far below 2³²: the configuration was checked.
    let mut number = |suffix: &str, n: usize| header.u32(&format!("{arch}.{suffix}"), n as u32);
    number("block_count", config.layers);
    number("context_length", config.context);
    number("embedding_length", config.hidden);
    number("feed_forward_length", config.ffn);
    number("attention.head_count", config.heads.q);
    number("attention.head_count_kv", config.heads.kv);
    number("attention.key_length", config.heads.dim);
    number("attention.value_length", config.heads.dim);
    number("vocab_size", config.vocab);
    if let Some(moe) = config.moe {
        number("expert_count", moe.experts);
        number("expert_used_count", moe.top_k);
        number("expert_feed_forward_length", moe.ffn);
    }
    let pooling = crate::Pooling::NUMBERS.iter().find(|known| Some(known.0) == config.pooling);
    if let Some((_, number)) = pooling {
        header.u32(&format!("{arch}.pooling_type"), *number);
    }
    header.f32(&format!("{arch}.rope.freq_base"), config.rope_theta as f32);
    header.f32(&format!("{arch}.attention.layer_norm_rms_epsilon"), config.eps);
}

fn vocabulary(vocab: &VocabParts, header: &mut Header) {
    header.str("tokenizer.ggml.model", &vocab.model);
    header.str("tokenizer.ggml.pre", &vocab.pre);
    header.strings("tokenizer.ggml.tokens", vocab.tokens.iter().map(String::as_str));
    header.i32s("tokenizer.ggml.token_type", &vocab.token_types);
    header.strings("tokenizer.ggml.merges", vocab.merges.iter().map(String::as_str));
    let (eos, eot) = (vocab.ends.first().copied(), vocab.ends.get(1).copied());
    let ids = [("eos", eos), ("eot", eot), ("bos", vocab.bos), ("padding", vocab.pad)];
    for (name, id) in ids.into_iter().filter_map(|(name, id)| Some((name, id?))) {
        header.u32(&format!("tokenizer.ggml.{name}_token_id"), id);
    }
    header.bool("tokenizer.ggml.add_bos_token", vocab.add_bos);
    header.bool("tokenizer.ggml.add_eos_token", vocab.add_eos);
    let mut named = Vec::new();
    for (name, source) in &vocab.templates {
        if name == "default" {
            header.str("tokenizer.chat_template", source);
        } else {
            header.str(&format!("tokenizer.chat_template.{name}"), source);
            named.push(name.as_str());
        }
    }
    if !named.is_empty() {
        header.strings("tokenizer.chat_templates", named);
    }
}
