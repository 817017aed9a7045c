//! The dimensions of a model, from GGUF metadata or from a Hugging Face `config.json`.
//!
//! This module decides whether the engine can run a model: whatever would change the answers and is not
//! implemented (rope scaling, sliding windows, partial rotation) is refused here by name.

mod json;
mod metadata;

use std::path::Path;

use coder_kernels::Heads;

pub(crate) use json::object;

use crate::{Error, Pooling, Result, gguf::bad};

/// The model families that the engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// Qwen2 and Qwen2.5: biases on q, k and v.
    Qwen2,
    /// Qwen3: a norm on each head of q and k.
    Qwen3,
    /// Qwen3 with a mixture of experts.
    Qwen3Moe,
}

impl Architecture {
    /// The name in GGUF files: `qwen2`, `qwen3`, `qwen3moe`.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
            Architecture::Qwen3Moe => "qwen3moe",
        }
    }
}

/// The dimensions of a model. All are checked: none is zero, products of them do not overflow.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Family.
    pub architecture: Architecture,
    /// Number of layers.
    pub layers: usize,
    /// Columns of the residual.
    pub hidden: usize,
    /// Head geometry of every attention layer.
    pub heads: Heads,
    /// Columns of the feed-forward part of a dense layer.
    pub ffn: usize,
    /// Tokens of the vocabulary: rows of the embedding and of the output.
    pub vocab: usize,
    /// Tokens that the model was trained to attend to.
    pub context: usize,
    /// Epsilon of all norms.
    pub eps: f32,
    /// Base of the rotary embedding's wavelengths.
    pub rope_theta: f64,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether each head of q and k is normalised.
    pub qk_norm: bool,
    /// The experts, if the feed-forward part is a mixture of them.
    pub moe: Option<Moe>,
    /// Whether the output is the embedding's matrix.
    pub tied: bool,
    /// How hidden states become the vector of a text, if the model was trained for it.
    pub pooling: Option<Pooling>,
    /// The name that the model gives itself.
    pub name: Option<String>,
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moe {
    /// Number of experts.
    pub experts: usize,
    /// Experts that each token goes to.
    pub top_k: usize,
    /// Columns of one expert.
    pub ffn: usize,
}

impl Architecture {
    /// The name in files: `qwen2`, `qwen3` or, with `separator` between, `qwen3moe`.
    fn find(name: &str, separator: &str) -> Result<Self> {
        let all = [
            ("qwen2".to_owned(), Self::Qwen2),
            ("qwen3".to_owned(), Self::Qwen3),
            (format!("qwen3{separator}moe"), Self::Qwen3Moe),
        ];
        match all.iter().find(|a| a.0 == name) {
            Some(found) => Ok(found.1),
            None => Err(unsupported("architecture", name, "qwen2, qwen3, qwen3moe")),
        }
    }
}

/// The largest values that are believed: several times those of any published model, and small enough
/// that products of three of them fit 64 bits.
mod most {
    pub(super) const LAYERS: usize = 1024;
    pub(super) const HIDDEN: usize = 1 << 16;
    pub(super) const HEADS: usize = 1024;
    pub(super) const HEAD_DIM: usize = 1024;
    pub(super) const FFN: usize = 1 << 20;
    pub(super) const VOCAB: usize = 1 << 22;
    pub(super) const CONTEXT: usize = 1 << 28;
    pub(super) const EXPERTS: usize = 4096;
}

impl Config {
    /// Number of weights.
    pub fn parameters(&self) -> u64 {
        crate::load::parameters(self)
    }

    /// Checks what concerns more than one field.
    fn checked(self, path: &Path) -> Result<Self> {
        let fail = |at: &str, problem: String| Err(bad(path, at, problem));
        let Heads { q, kv, dim } = self.heads;
        if q % kv != 0 {
            return fail("heads", format!("{q} query heads are not a multiple of {kv} key and value heads"));
        }
        if dim % 2 != 0 {
            return fail("heads", format!("the head dimension {dim} is odd"));
        }
        if !(self.eps > 0.0 && self.eps < 1.0) {
            return fail("norm epsilon", format!("is {}, must be between 0 and 1", self.eps));
        }
        if !(self.rope_theta >= 1.0 && self.rope_theta <= 1e12) {
            return fail("rope base", format!("is {}, must be from 1 to 1e12", self.rope_theta));
        }
        if let Some(moe) = self.moe.filter(|m| m.top_k > m.experts) {
            return fail("experts", format!("{} of {} experts cannot be used", moe.top_k, moe.experts));
        }
        let widest = self.hidden.max(self.heads.qkv_cols());
        let tallest = self.vocab.max(self.ffn).max(widest);
        let experts = self.moe.map_or(1, |m| m.experts);
        let weights = widest.checked_mul(tallest).and_then(|n| n.checked_mul(experts)?.checked_mul(4));
        match weights {
            Some(bytes) if isize::try_from(bytes).is_ok() => Ok(self),
            _ => fail("dimensions", "a matrix would be larger than the address space".into()),
        }
    }
}

/// Refuses an integer that is zero or absurd. `at` names the key.
fn in_range(path: &Path, at: &str, n: usize, most: usize) -> Result<usize> {
    if (1..=most).contains(&n) {
        Ok(n)
    } else {
        Err(bad(path, at, format!("is {n}, must be from 1 to {most}")))
    }
}

fn unsupported(what: &'static str, got: &str, supported: &str) -> Error {
    Error::Unsupported { what, got: crate::gguf::shown(got), supported: supported.into() }
}
