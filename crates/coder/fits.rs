//! How much memory the published Qwen models need, computed from their shapes.

use serde::Serialize;

/// Activations, tables and the program itself: measured generously, so that what is said to fit does fit.
const WORKSPACE_BYTES: u64 = 512 << 20;

/// A published model's shape, from its `config.json`.
pub(crate) struct Shape {
    /// The name it is known by.
    pub(crate) name: &'static str,
    layers: u64,
    hidden: u64,
    /// Columns of the feed-forward layer; of one expert in a mixture.
    ffn: u64,
    experts: u64,
    heads: u64,
    kv_heads: u64,
    head_dim: u64,
    vocab: u64,
    /// Whether the output uses the embedding's table.
    tied: bool,
    /// Tokens it was trained for.
    context: u64,
}

/// One row of numbers: layers, hidden, ffn, experts, heads, key-value heads, head size, vocabulary, tied, context.
#[rustfmt::skip]
#[allow(clippy::too_many_arguments)]
const fn shape(
    name: &'static str, layers: u64, hidden: u64, ffn: u64, experts: u64, heads: u64, kv_heads: u64, head_dim: u64,
    vocab: u64, tied: bool, context: u64,
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
];

/// The quantizations people choose from.
pub(crate) const QUANTIZATIONS: &[&str] = &["Q4_K_M", "Q6_K", "Q8_0", "F16"];

/// Whether a model in a quantization fits into this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Fit {
    pub(crate) model: &'static str,
    pub(crate) quantization: &'static str,
    pub(crate) weight_bytes: u64,
    /// Of the key-value cache with f16 entries.
    pub(crate) kv_bytes_per_token: u64,
    /// Tokens that there is room for, at most what the model was trained for; 0: it does not fit.
    pub(crate) context: u64,
}

/// Every model in every quantization, against `available_bytes` of memory.
pub(crate) fn all(available_bytes: u64) -> Vec<Fit> {
    let pairs = SHAPES.iter().flat_map(|shape| QUANTIZATIONS.iter().map(move |quantization| (shape, *quantization)));
    pairs.map(|(shape, quantization)| fit(shape, quantization, available_bytes)).collect()
}

fn fit(shape: &Shape, quantization: &'static str, available_bytes: u64) -> Fit {
    let weight_bytes = shape.weight_bytes(quantization);
    let kv_bytes_per_token = 2 * 2 * shape.layers * shape.kv_heads * shape.head_dim;
    let room = available_bytes.saturating_sub(weight_bytes + WORKSPACE_BYTES) / kv_bytes_per_token;
    // A few hundred tokens of context are no use to anybody.
    let context = if room < 1024 { 0 } else { room.min(shape.context) / 256 * 256 };
    Fit { model: shape.name, quantization, weight_bytes, kv_bytes_per_token, context }
}

impl Shape {
    /// Bytes of a GGUF file's tensors. `Q4_K_M` is llama.cpp's mixture: Q6_K for the output and for half of
    /// `attn_v` and `ffn_down`, Q4_K for the rest. Norms are too small to count.
    fn weight_bytes(&self, quantization: &str) -> u64 {
        let (low, high) = match quantization {
            "Q4_K_M" => ("Q4_K", "Q6_K"),
            other => (other, other),
        };
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let ffn = self.ffn * self.hidden * self.experts;
        let router = if self.experts > 1 { self.experts * self.hidden * 32 } else { 0 };
        let half = |columns| (bits(low, columns) + bits(high, columns)) / 2.0;
        let layer = weights(self.hidden * (q + kv), bits(low, self.hidden))
            + weights(self.hidden * kv, half(self.hidden))
            + weights(q * self.hidden, bits(low, q))
            + weights(2 * ffn, bits(low, self.hidden))
            + weights(ffn, half(self.ffn))
            + router / 8;
        let table = self.vocab * self.hidden;
        let output = weights(table, bits(high, self.hidden));
        let embedding = if self.tied { 0 } else { weights(table, bits(low, self.hidden)) };
        self.layers * layer + output + embedding
    }
}

fn weights(count: u64, bits: f64) -> u64 {
    (count as f64 * bits / 8.0) as u64
}

/// Bits per weight in a row of `columns`. K-quants need whole blocks of 256; llama.cpp falls back to these.
fn bits(quantization: &str, columns: u64) -> f64 {
    match (quantization, columns % 256 == 0) {
        ("Q4_K", true) => 4.5,
        ("Q4_K", false) => 5.5,
        ("Q6_K", true) => 6.5625,
        ("Q6_K" | "Q8_0", _) => 8.5,
        _ => 16.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of the published Q4_K_M files in GB.
    const PUBLISHED: &[f64] = &[0.39, 0.98, 1.92, 4.68, 8.98, 19.85, 0.39, 1.10, 2.49, 5.02, 9.00, 19.76, 18.55];

    #[test]
    fn sizes_are_the_published_ones() {
        for (shape, published) in SHAPES.iter().zip(PUBLISHED) {
            let computed = shape.weight_bytes("Q4_K_M") as f64 / 1e9;
            // The mixture takes a little more than half of the layers, and the figures are rounded.
            assert!((computed / published - 1.0).abs() < 0.02, "{}: {computed} {published}", shape.name);
        }
    }

    #[test]
    fn more_memory_gives_more_context() {
        let shape = &SHAPES[3];
        assert_eq!(fit(shape, "Q4_K_M", 4 << 30).context, 0);
        let small = fit(shape, "Q4_K_M", 6 << 30);
        assert!(small.context > 1024 && small.context < 32_768, "{small:?}");
        assert_eq!(small.kv_bytes_per_token, 56 << 10);
        assert_eq!(fit(shape, "Q4_K_M", 24 << 30).context, 32_768);
        assert_eq!(all(1 << 40).len(), SHAPES.len() * QUANTIZATIONS.len());
    }
}
