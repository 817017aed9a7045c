//! The configuration in GGUF metadata, under llama.cpp's keys.

use coder_kernels::Heads;

use super::{Architecture, Config, Moe, in_range, most, unsupported};
use crate::{
    Error, Pooling, Result,
    gguf::{Gguf, Metadata, bad, key, tensor_label},
};

const EMBEDDING: &str = "token_embd.weight";

impl Config {
    /// Reads the configuration of a GGUF file, whose embedding says how many tokens there are.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let name = "general.architecture";
        let Some(arch) = gguf.metadata().str(name)? else { return Err(missing(gguf, &key(name))) };
        let architecture = Architecture::find(arch, "")?;
        let keys = Keys { gguf, metadata: gguf.metadata(), arch };
        keys.refuse_unsupported(architecture)?;
        let hidden = keys.count("embedding_length", most::HIDDEN)?;
        let heads = keys.heads(hidden)?;
        keys.refuse_partial_rotation(heads.dim)?;
        let moe = match architecture {
            Architecture::Qwen3Moe => Some(keys.moe()?),
            _ => None,
        };
        let config = Config {
            architecture,
            layers: keys.count("block_count", most::LAYERS)?,
            hidden,
            heads,
            ffn: match (keys.optional("feed_forward_length", most::FFN)?, moe) {
                (Some(ffn), _) => ffn,
                (None, Some(moe)) => moe.ffn,
                (None, None) => return Err(missing(gguf, &keys.at("feed_forward_length"))),
            },
            vocab: keys.vocab()?,
            context: keys.count("context_length", most::CONTEXT)?,
            eps: keys.required_f64("attention.layer_norm_rms_epsilon")? as f32,
            // The default is llama.cpp's.
            rope_theta: keys.f64("rope.freq_base")?.unwrap_or(10_000.0),
            qkv_bias: architecture == Architecture::Qwen2,
            qk_norm: architecture != Architecture::Qwen2,
            moe,
            tied: gguf.tensor("output.weight").is_none(),
            pooling: keys.pooling()?,
            name: keys.metadata.str("general.name")?.map(str::to_owned),
        };
        config.checked(gguf.path())
    }
}

/// The keys of one architecture.
struct Keys<'a> {
    gguf: &'a Gguf,
    metadata: Metadata<'a>,
    arch: &'a str,
}

impl Keys<'_> {
    fn name(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.arch)
    }

    fn at(&self, suffix: &str) -> String {
        key(&self.name(suffix))
    }

    fn optional(&self, suffix: &str, most: usize) -> Result<Option<usize>> {
        let found = self.metadata.usize(&self.name(suffix))?;
        found.map(|n| in_range(self.gguf.path(), &self.at(suffix), n, most)).transpose()
    }

    fn count(&self, suffix: &str, most: usize) -> Result<usize> {
        self.optional(suffix, most)?.ok_or_else(|| missing(self.gguf, &self.at(suffix)))
    }

    fn f64(&self, suffix: &str) -> Result<Option<f64>> {
        self.metadata.f64(&self.name(suffix))
    }

    fn required_f64(&self, suffix: &str) -> Result<f64> {
        self.f64(suffix)?.ok_or_else(|| missing(self.gguf, &self.at(suffix)))
    }

    fn heads(&self, hidden: usize) -> Result<Heads> {
        let q = self.count("attention.head_count", most::HEADS)?;
        let kv = self.optional("attention.head_count_kv", most::HEADS)?.unwrap_or(q);
        let dim = match self.optional("attention.key_length", most::HEAD_DIM)? {
            Some(dim) => dim,
            None => in_range(self.gguf.path(), &self.at("attention.head_count"), hidden / q, most::HEAD_DIM)?,
        };
        let value = self.optional("attention.value_length", most::HEAD_DIM)?.unwrap_or(dim);
        if value != dim {
            let got = format!("{value} beside keys of {dim}");
            return Err(unsupported("value head dimension", &got, "the keys' dimension"));
        }
        Ok(Heads { q, kv, dim })
    }

    fn moe(&self) -> Result<Moe> {
        Ok(Moe {
            experts: self.count("expert_count", most::EXPERTS)?,
            top_k: self.count("expert_used_count", most::EXPERTS)?,
            ffn: self.count("expert_feed_forward_length", most::FFN)?,
        })
    }

    fn vocab(&self) -> Result<usize> {
        let path = self.gguf.path();
        let at = tensor_label(EMBEDDING);
        let Some(embedding) = self.gguf.tensor(EMBEDDING) else { return Err(missing(self.gguf, &at)) };
        let rows = embedding.shape().get(1).copied().unwrap_or(1);
        let vocab = in_range(path, &at, rows, most::VOCAB)?;
        let tokens = self.metadata.strings("tokenizer.ggml.tokens")?.map_or(0, |t| t.len());
        if tokens > vocab {
            return Err(bad(path, &at, format!("has {vocab} rows, the vocabulary has {tokens} tokens")));
        }
        Ok(vocab)
    }

    fn pooling(&self) -> Result<Option<Pooling>> {
        let number = self.metadata.usize(&self.name("pooling_type"))?.filter(|&n| n > 0);
        let known =
            |n: usize| Pooling::NUMBERS.iter().find(|known| known.1 as usize == n).map(|known| known.0);
        let Some(number) = number else { return Ok(None) };
        let unknown = || unsupported("pooling", &number.to_string(), "1 (mean), 3 (last token)");
        known(number).map(Some).ok_or_else(unknown)
    }

    /// Refuses what would run and answer wrongly.
    fn refuse_unsupported(&self, architecture: Architecture) -> Result<()> {
        let scaling = self.metadata.str(&self.name("rope.scaling.type"))?;
        if let Some(other) = scaling.filter(|&s| s != "none") {
            return Err(unsupported("rope scaling", other, "none"));
        }
        // Without a type, llama.cpp takes a factor to mean linear scaling; the second key is its older name.
        for suffix in ["rope.scaling.factor", "rope.scale_linear"] {
            let factor = self.f64(suffix)?.filter(|&f| f != 0.0 && f != 1.0);
            if let (None, Some(factor)) = (scaling, factor) {
                return Err(unsupported("rope scaling", &format!("linear, {factor}"), "none"));
            }
        }
        let context = self.count("context_length", most::CONTEXT)?;
        let window = self.metadata.usize(&self.name("attention.sliding_window"))?;
        if let Some(window) = window.filter(|&w| w > 0 && w < context) {
            return Err(unsupported("sliding window", &window.to_string(), "none"));
        }
        let bias = "blk.0.attn_q.bias";
        if architecture != Architecture::Qwen2 && self.gguf.tensor(bias).is_some() {
            return Err(unsupported("attention bias", bias, "biases with qwen2 only"));
        }
        Ok(())
    }

    fn refuse_partial_rotation(&self, dim: usize) -> Result<()> {
        match self.metadata.usize(&self.name("rope.dimension_count"))? {
            Some(n) if n != dim => {
                let got = format!("{n} of {dim} columns");
                Err(unsupported("partial rotation", &got, "rotation of whole heads"))
            }
            _ => Ok(()),
        }
    }
}

fn missing(gguf: &Gguf, at: &str) -> Error {
    bad(gguf.path(), at, "is missing".into())
}
