//! This project's engine. Everything that depends on its public face is in this file.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use coder_engine::{Engine, KvType, Limit, ModelInfo, Options, Request, Summary, probe};

use crate::peer::Peer;

pub(crate) struct Ours(Engine);

/// How to open `model`. Threads are those of rayon's global pool, which `main` has made.
pub(crate) fn options(model: &Path, context: usize, isa: &str) -> Result<Options> {
    if isa != "best" {
        bail!("this version of the engine takes the best instruction set it has; it cannot be told `{isa}`");
    }
    let mut options = Options::new(model);
    options.context = Some(context);
    options.kv = KvType::F16;
    Ok(options)
}

/// The logits after the last of `tokens`.
pub(crate) fn logits(options: &Options, tokens: &[u32]) -> Result<Vec<f32>> {
    let logits = probe::logits(options, tokens, None)?;
    Ok(logits.values[logits.values.len() - logits.vocab..].to_vec())
}

impl Ours {
    pub(crate) fn open(options: &Options) -> Result<Self> {
        Ok(Self(Engine::open(options)?))
    }

    pub(crate) fn info(&self) -> &ModelInfo {
        self.0.info()
    }

    fn generate(&self, prompt: &[u32], tokens: usize) -> Result<Summary> {
        let mut request = Request::new(prompt.to_vec()).limit(Limit::Require(tokens));
        request.ignore_end = true;
        Ok(self.0.generate(request)?.finish()?.summary)
    }
}

impl Peer for Ours {
    fn name(&self) -> &'static str {
        "coder"
    }

    fn prefill(&mut self, prompt: &[u32]) -> Result<f64> {
        let summary = self.generate(prompt, 1)?;
        let cached = summary.usage.cached_tokens;
        ensure!(cached == 0, "`{cached}` of the prompt's tokens were in the cache already");
        Ok(summary.timings.prefill_s)
    }

    /// The engine writes what it finds most probable instead of `text`, and is timed with its sampler: the
    /// first token comes from the context's logits, every other one from a step.
    fn decode(&mut self, context: &[u32], text: &[u32]) -> Result<f64> {
        let summary = self.generate(context, text.len() + 1)?;
        ensure!(summary.usage.completion_tokens == text.len() + 1, "the answer ended early");
        Ok(summary.timings.decode_s)
    }
}
