//! The published Qwen models by their shapes, and how much of this machine's memory they need.
//!
//! The arithmetic is the engine's (`coder_engine::fit`); `coder fit` asks it about cards.

use coder_engine::config::{Architecture, Config, Moe};
use coder_engine::fit::Tensors;
use coder_engine::{Error, FileType, KvType};
use coder_kernels::Heads;
use serde::Serialize;

/// Activations, tables and the program itself: measured generously, so that what is said to fit does fit.
pub(crate) const WORKSPACE_BYTES: u64 = 512 << 20;

/// A published model's shape, from its `config.json`.
pub(crate) struct Shape {
    /// The name it is known by.
    pub(crate) name: &'static str,
    layers: usize,
    hidden: usize,
    /// Columns of the feed-forward layer; of one expert in a mixture.
    ffn: usize,
    /// 1 in a dense model; of a mixture, each token goes to 8.
    experts: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab: usize,
    /// Whether the output uses the embedding's table.
    tied: bool,
    /// Tokens it was trained for.
    context: usize,
}

/// One row of numbers: layers, hidden, ffn, experts, heads, key-value heads, head size, vocabulary, tied, context.
#[rustfmt::skip]
#[allow(clippy::too_many_arguments)]
const fn shape(
    name: &'static str, layers: usize, hidden: usize, ffn: usize, experts: usize, heads: usize, kv_heads: usize,
    head_dim: usize, vocab: usize, tied: bool, context: usize,
) -> Shape {
    Shape { name, layers, hidden, ffn, experts, heads, kv_heads, head_dim, vocab, tied, context }
}

/// What people run.
#[rustfmt::skip]
pub(crate) const SHAPES: &[Shape] = &[
    shape("Qwen2.5-Coder-0.5B", 24,  896,  4864,   1, 14, 2,  64, 151_936, true,   32_768),
    shape("Qwen2.5-Coder-1.5B", 28, 1536,  8960,   1, 12, 2, 128, 151_936, true,   32_768),
    shape("Qwen2.5-Coder-3B",   36, 2048, 11008,   1, 16, 2, 128, 151_936, true,   32_768),
    shape("Qwen2.5-Coder-7B",   28, 3584, 18944,   1, 28, 4, 128, 152_064, false,  32_768),
    shape("Qwen2.5-Coder-14B",  48, 5120, 13824,   1, 40, 8, 128, 152_064, false,  32_768),
    shape("Qwen2.5-Coder-32B",  64, 5120, 27648,   1, 40, 8, 128, 152_064, false,  32_768),
    shape("Qwen3-0.6B",         28, 1024,  3072,   1, 16, 8, 128, 151_936, true,   40_960),
    shape("Qwen3-1.7B",         28, 2048,  6144,   1, 16, 8, 128, 151_936, true,   40_960),
    shape("Qwen3-4B",           36, 2560,  9728,   1, 32, 8, 128, 151_936, true,   40_960),
    shape("Qwen3-8B",           36, 4096, 12288,   1, 32, 8, 128, 151_936, false,  40_960),
    shape("Qwen3-14B",          40, 5120, 17408,   1, 40, 8, 128, 151_936, false,  40_960),
    shape("Qwen3-32B",          64, 5120, 25600,   1, 64, 8, 128, 151_936, false,  40_960),
    shape("Qwen3-Coder-30B-A3B", 48, 2048,   768, 128, 32, 4, 128, 151_936, false, 262_144),
    shape("Qwen3-30B-A3B",      48, 2048,   768, 128, 32, 4, 128, 151_936, false,  40_960),
    shape("Qwen3-235B-A22B",    94, 4096,  1536, 128, 64, 4, 128, 151_936, false,  40_960),
    shape("Qwen3-Coder-480B-A35B", 62, 6144, 2560, 160, 96, 8, 128, 151_936, false, 262_144),
    shape("Qwen3-Embedding-0.6B", 28, 1024, 3072,   1, 16, 8, 128, 151_669, true,   32_768),
    shape("Qwen3-Embedding-4B", 36, 2560,  9728,   1, 32, 8, 128, 151_665, true,   40_960),
    shape("Qwen3-Embedding-8B", 36, 4096, 12288,   1, 32, 8, 128, 151_665, true,   40_960),
];

/// The quantizations people choose from.
pub(crate) const QUANTIZATIONS: [FileType; 4] =
    [FileType::Q4_K_M, FileType::Q6_K, FileType::Q8_0, FileType::F16];

/// The shape that is known by `name`, in any case.
pub(crate) fn find(name: &str) -> Option<&'static Shape> {
    SHAPES.iter().find(|shape| shape.name.eq_ignore_ascii_case(name))
}

/// Whether a model in a quantization fits into this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Fit {
    pub(crate) model: &'static str,
    pub(crate) quantization: String,
    pub(crate) weight_bytes: u64,
    /// Of the key-value cache with f16 entries.
    pub(crate) kv_bytes_per_token: u64,
    /// Tokens that there is room for, at most what the model was trained for; 0: it does not fit.
    pub(crate) context: u64,
}

/// Every model in every quantization, against `available_bytes` of memory.
pub(crate) fn all(available_bytes: u64) -> Result<Vec<Fit>, Error> {
    let pairs = SHAPES.iter().flat_map(|shape| QUANTIZATIONS.map(|quantization| (shape, quantization)));
    pairs.map(|(shape, quantization)| fit(shape, quantization, available_bytes)).collect()
}

fn fit(shape: &Shape, quantization: FileType, available_bytes: u64) -> Result<Fit, Error> {
    let config = shape.config();
    let weight_bytes = Tensors::Mixed(&config, quantization).bytes()?;
    let kv_bytes_per_token = 2 * (KvType::F16.row_bytes(config.heads) * config.layers) as u64;
    let room = available_bytes.saturating_sub(weight_bytes + WORKSPACE_BYTES) / kv_bytes_per_token;
    // A few hundred tokens of context are no use to anybody.
    let context = if room < 1024 { 0 } else { room.min(shape.context as u64) / 256 * 256 };
    Ok(Fit {
        model: shape.name,
        quantization: quantization.name(),
        weight_bytes,
        kv_bytes_per_token,
        context,
    })
}

impl Shape {
    /// The configuration, as far as it takes memory.
    pub(crate) fn config(&self) -> Config {
        let moe = (self.experts > 1).then_some(Moe { experts: self.experts, top_k: 8, ffn: self.ffn });
        let architecture = match (moe, self.name.starts_with("Qwen2")) {
            (Some(_), _) => Architecture::Qwen3Moe,
            (None, true) => Architecture::Qwen2,
            (None, false) => Architecture::Qwen3,
        };
        Config {
            architecture,
            layers: self.layers,
            hidden: self.hidden,
            heads: Heads { q: self.heads, kv: self.kv_heads, dim: self.head_dim },
            ffn: self.ffn,
            vocab: self.vocab,
            context: self.context,
            eps: 1e-6,
            rope_theta: 1e6,
            qkv_bias: architecture == Architecture::Qwen2,
            qk_norm: architecture != Architecture::Qwen2,
            moe,
            tied: self.tied,
            pooling: None,
            name: Some(self.name.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of the published Q4_K_M files in GB.
    const PUBLISHED: &[f64] = &[
        0.39, 0.98, 1.92, 4.68, 8.98, 19.85, 0.39, 1.10, 2.49, 5.02, 9.00, 19.76, 18.55, 18.55, 142.15,
        290.0, 0.39, 2.50, 4.68,
    ];

    #[test]
    fn sizes_are_the_published_ones() {
        for (shape, published) in SHAPES.iter().zip(PUBLISHED) {
            let computed = Tensors::Mixed(&shape.config(), FileType::Q4_K_M).bytes().unwrap() as f64 / 1e9;
            // The figures are rounded, and files have a vocabulary too.
            assert!((computed / published - 1.0).abs() < 0.015, "{}: {computed} {published}", shape.name);
        }
    }

    #[test]
    fn more_memory_gives_more_context() {
        let shape = &SHAPES[3];
        let fit = |bytes| fit(shape, FileType::Q4_K_M, bytes).unwrap();
        assert_eq!(fit(4 << 30).context, 0);
        let small = fit(6 << 30);
        assert!(small.context > 1024 && small.context < 32_768, "{small:?}");
        assert_eq!(small.kv_bytes_per_token, 56 << 10);
        assert_eq!(fit(24 << 30).context, 32_768);
        assert!(find("qwen2.5-coder-32b").is_some() && find("qwen").is_none());
        assert_eq!(all(1 << 40).unwrap().len(), SHAPES.len() * QUANTIZATIONS.len());
    }
}
