//! The configuration in a Hugging Face `config.json`.

use std::{fs::File, io::Read, path::Path};

use coder_kernels::Heads;
use serde_json::{Map, Value};

use super::{Architecture, Config, Moe, in_range, most, unsupported};
use crate::{Error, Pooling, Result, gguf::bad};

impl Config {
    /// Reads a Hugging Face `config.json`. Absent fields have the defaults of the `transformers` library.
    pub fn from_json(path: &Path) -> Result<Self> {
        let fields = object(path)?;
        let keys = Keys { path, fields: &fields };
        let model_type = keys.required("model_type", Value::as_str, "a string")?;
        let architecture = Architecture::find(model_type, "_")?;
        keys.refuse_unsupported(architecture)?;
        let hidden = keys.count("hidden_size", most::HIDDEN)?;
        let q = keys.count("num_attention_heads", most::HEADS)?;
        let moe = match architecture {
            Architecture::Qwen3Moe => Some(keys.moe()?),
            _ => None,
        };
        let config = Config {
            architecture,
            layers: keys.count("num_hidden_layers", most::LAYERS)?,
            hidden,
            heads: Heads {
                q,
                kv: keys.optional_count("num_key_value_heads", most::HEADS)?.unwrap_or(q),
                dim: match keys.optional_count("head_dim", most::HEAD_DIM)? {
                    Some(dim) => dim,
                    None => in_range(path, &at("num_attention_heads"), hidden / q, most::HEAD_DIM)?,
                },
            },
            ffn: match (keys.optional_count("intermediate_size", most::FFN)?, moe) {
                (Some(ffn), _) => ffn,
                (None, Some(moe)) => moe.ffn,
                (None, None) => return Err(bad(path, &at("intermediate_size"), "is missing".into())),
            },
            vocab: keys.count("vocab_size", most::VOCAB)?,
            context: keys.count("max_position_embeddings", most::CONTEXT)?,
            eps: keys.optional("rms_norm_eps", Value::as_f64, "a number")?.unwrap_or(1e-6) as f32,
            rope_theta: keys.rope_theta()?,
            qkv_bias: architecture == Architecture::Qwen2,
            qk_norm: architecture != Architecture::Qwen2,
            moe,
            pooling: pooling(path)?,
            tied: keys.flag("tie_word_embeddings")?.unwrap_or(false),
            name: keys
                .optional("_name_or_path", Value::as_str, "a string")?
                .filter(|n| !n.is_empty())
                .map(str::to_owned),
        };
        config.checked(path)
    }
}

/// What the library sentence-transformers writes beside the configuration of a model for embeddings.
fn pooling(config: &Path) -> Result<Option<Pooling>> {
    let path = config.with_file_name("1_Pooling").join("config.json");
    if !path.exists() {
        return Ok(None);
    }
    let fields = object(&path)?;
    let modes = fields.iter().filter(|(name, value)| name.starts_with("pooling_mode_") && **value == true);
    match modes.map(|(name, _)| name.as_str()).collect::<Vec<_>>()[..] {
        ["pooling_mode_mean_tokens"] => Ok(Some(Pooling::Mean)),
        ["pooling_mode_lasttoken"] => Ok(Some(Pooling::Last)),
        ref others => Err(unsupported("pooling", &others.join(", "), "the mean or the last token alone")),
    }
}

/// Reads a JSON object from a file of at most 64 MiB, which is many times what a large model needs.
pub(crate) fn object(path: &Path) -> Result<Map<String, Value>> {
    const MOST: u64 = 64 << 20;
    let mut text = Vec::new();
    let read = File::open(path).and_then(|f| f.take(MOST + 1).read_to_end(&mut text));
    read.map_err(|source| Error::Io { path: path.to_owned(), source })?;
    if text.len() as u64 > MOST {
        return Err(bad(path, "the file", format!("is larger than {MOST} bytes")));
    }
    serde_json::from_slice(&text).map_err(|e| bad(path, "the file", format!("is not a JSON object: {e}")))
}

/// The fields of the file. A field that is `null` counts as absent.
struct Keys<'a> {
    path: &'a Path,
    fields: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|v| !v.is_null())
    }

    fn optional<T>(
        &self,
        name: &str,
        get: impl Fn(&'a Value) -> Option<T>,
        wanted: &str,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        get(value).map(Some).ok_or_else(|| bad(self.path, &at(name), format!("must be {wanted}")))
    }

    fn required<T>(&self, name: &str, get: impl Fn(&'a Value) -> Option<T>, wanted: &str) -> Result<T> {
        let found = self.optional(name, get, wanted)?;
        found.ok_or_else(|| bad(self.path, &at(name), "is missing".into()))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.optional(name, Value::as_bool, "true or false")
    }

    fn optional_count(&self, name: &str, most: usize) -> Result<Option<usize>> {
        let integer = |v: &Value| v.as_u64()?.try_into().ok();
        let found = self.optional(name, integer, "an integer not below 0")?;
        found.map(|n| in_range(self.path, &at(name), n, most)).transpose()
    }

    fn count(&self, name: &str, most: usize) -> Result<usize> {
        self.optional_count(name, most)?.ok_or_else(|| bad(self.path, &at(name), "is missing".into()))
    }

    fn moe(&self) -> Result<Moe> {
        let experts = match self.optional_count("num_experts", most::EXPERTS)? {
            Some(experts) => experts,
            None => self.count("num_local_experts", most::EXPERTS)?,
        };
        Ok(Moe {
            experts,
            top_k: self.count("num_experts_per_tok", most::EXPERTS)?,
            ffn: self.count("moe_intermediate_size", most::FFN)?,
        })
    }

    /// At the top level, or among `rope_parameters`, where newer files have it.
    fn rope_theta(&self) -> Result<f64> {
        if let Some(theta) = self.optional("rope_theta", Value::as_f64, "a number")? {
            return Ok(theta);
        }
        match self.optional("rope_parameters", Value::as_object, "an object")? {
            Some(fields) => {
                let theta =
                    Keys { path: self.path, fields }.optional("rope_theta", Value::as_f64, "a number")?;
                Ok(theta.unwrap_or(10_000.0))
            }
            None => Ok(10_000.0),
        }
    }

    /// Refuses what would run and answer wrongly.
    fn refuse_unsupported(&self, architecture: Architecture) -> Result<()> {
        self.refuse_rope_scaling()?;
        let activation = self.optional("hidden_act", Value::as_str, "a string")?.unwrap_or("silu");
        if activation != "silu" {
            return Err(unsupported("activation", activation, "silu"));
        }
        if self.flag("use_sliding_window")? == Some(true) {
            return Err(unsupported("sliding window", "use_sliding_window", "none"));
        }
        for layer in self.list("layer_types")? {
            match layer.as_str() {
                Some("full_attention") => {}
                other => return Err(unsupported("layer type", other.unwrap_or("?"), "full_attention")),
            }
        }
        if architecture != Architecture::Qwen2 && self.flag("attention_bias")? == Some(true) {
            return Err(unsupported("attention bias", "attention_bias", "biases with qwen2 only"));
        }
        if architecture == Architecture::Qwen3Moe {
            self.refuse_unsupported_experts()?;
        }
        if let Some(method) = self.get("quantization_config") {
            let method = method.get("quant_method").and_then(Value::as_str).unwrap_or("?");
            return Err(unsupported("quantization of a checkpoint", method, "none; use a GGUF file"));
        }
        Ok(())
    }

    fn refuse_rope_scaling(&self) -> Result<()> {
        for name in ["rope_scaling", "rope_parameters"] {
            let Some(fields) = self.optional(name, Value::as_object, "an object")? else { continue };
            let keys = Keys { path: self.path, fields };
            for name in ["rope_type", "type"] {
                match keys.optional(name, Value::as_str, "a string")? {
                    None | Some("default") => {}
                    Some(other) => return Err(unsupported("rope scaling", other, "none")),
                }
            }
            let factor = keys.optional("partial_rotary_factor", Value::as_f64, "a number")?;
            if let Some(factor) = factor.filter(|&f| f != 1.0) {
                let supported = "rotation of whole heads";
                return Err(unsupported("partial rotation", &factor.to_string(), supported));
            }
        }
        Ok(())
    }

    fn refuse_unsupported_experts(&self) -> Result<()> {
        if let Some(step) =
            self.optional("decoder_sparse_step", Value::as_u64, "an integer")?.filter(|&s| s != 1)
        {
            return Err(unsupported("decoder_sparse_step", &step.to_string(), "1"));
        }
        if !self.list("mlp_only_layers")?.is_empty() {
            return Err(unsupported("mlp_only_layers", "dense layers among sparse ones", "[]"));
        }
        // The library's default is false, and every published checkpoint says true.
        match self.flag("norm_topk_prob")? {
            Some(true) => Ok(()),
            _ => Err(unsupported("norm_topk_prob", "false", "true")),
        }
    }

    fn list(&self, name: &str) -> Result<&'a [Value]> {
        Ok(self.optional(name, Value::as_array, "a list")?.map_or(&[], Vec::as_slice))
    }
}

fn at(name: &str) -> String {
    format!("field `{name}`")
}
