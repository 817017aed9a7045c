//! This project's engine. Everything that depends on its public face is in this file.

use std::path::Path;

use anyhow::Result;
use coder_engine::probe::{self, Bench};
use coder_engine::{Device, KvType, ModelInfo, Options};

use crate::peer::Peer;
use crate::rounds::Figure;

pub(crate) struct Ours(Bench);

/// What the machine can do at most.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Limits {
    /// Bytes read from memory per second, by turns with the tests: the median.
    pub(crate) memory_bytes_s: f64,
    /// Products of eight-bit numbers per second.
    pub(crate) int8_products_s: f64,
}

/// The memory, asked how fast it is before each round.
pub(crate) struct Memory(probe::ReadBandwidth, Vec<f64>);

impl Memory {
    pub(crate) fn new(threads: usize) -> Result<Self> {
        Ok(Self(probe::ReadBandwidth::new(threads)?, Vec::new()))
    }

    /// Bytes read per second at this moment.
    pub(crate) fn now(&mut self) -> f64 {
        self.1.push(self.0.now());
        self.1[self.1.len() - 1]
    }

    /// What the machine can do, with the threads and the instruction set of `options`.
    pub(crate) fn limits(mut self, options: &Options) -> Limits {
        self.now();
        Limits {
            memory_bytes_s: Figure::of(&self.1).median,
            int8_products_s: probe::int8_gmac_s(options) * 1e9,
        }
    }
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
