//! This project's engine. Everything that depends on its public face is in this file.

use std::path::Path;

use anyhow::{Context, Result};
use coder_engine::probe::{self, Bench};
use coder_engine::{Device, KvType, ModelInfo, Options};

use crate::peer::Peer;

pub(crate) struct Ours(Bench);

/// What the machine can do at most.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Limits {
    /// Bytes read from memory per second.
    pub(crate) memory_bytes_s: f64,
    /// Products of eight-bit numbers per second.
    pub(crate) int8_products_s: f64,
}

impl Limits {
    /// The better of two measurements: what else runs only ever slows one down.
    pub(crate) fn best(self, other: Self) -> Self {
        Self {
            memory_bytes_s: self.memory_bytes_s.max(other.memory_bytes_s),
            int8_products_s: self.int8_products_s.max(other.int8_products_s),
        }
    }
}

/// Measures them with the threads and the instruction set of `options`.
pub(crate) fn limits(options: &Options) -> Result<Limits> {
    let limits = probe::Limits::measure(options)?.context("the CPU has limits")?;
    let int8_gmac_s = limits.int8_gmac_s.context("the CPU has products")?;
    Ok(Limits { memory_bytes_s: limits.memory_gb_s * 1e9, int8_products_s: int8_gmac_s * 1e9 })
}

/// How to open `model`.
pub(crate) fn options(model: &Path, context: usize, isa: &str, threads: usize) -> Result<Options> {
    let mut options = Options::new(model);
    options.device = Device::Cpu;
    options.context = Some(context);
    options.kv = KvType::F16;
    options.threads = Some(threads);
    options.isa = if isa == "best" { None } else { Some(isa.parse()?) };
    Ok(options)
}

/// The logits after the last of `tokens`.
pub(crate) fn logits(options: &Options, tokens: &[u32]) -> Result<Vec<f32>> {
    let logits = probe::logits(options, tokens, None)?;
    Ok(logits.values[logits.values.len() - logits.vocab..].to_vec())
}

impl Ours {
    pub(crate) fn open(options: &Options) -> Result<Self> {
        Ok(Self(Bench::open(options, 0, |_| ())?))
    }

    pub(crate) fn info(&self) -> &ModelInfo {
        self.0.info()
    }
}

impl Peer for Ours {
    fn name(&self) -> &'static str {
        "coder"
    }

    fn prefill(&mut self, prompt: &[u32]) -> Result<f64> {
        Ok(self.0.prefill(prompt)?)
    }

    fn decode(&mut self, context: &[u32], text: &[u32]) -> Result<f64> {
        Ok(self.0.decode(context, text)?)
    }
}
