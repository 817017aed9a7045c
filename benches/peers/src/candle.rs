//! candle's own quantized models, as `candle-transformers` has them.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use candle_core::quantized::gguf_file::Content;
use candle_core::{DType, Device, Tensor};
use candle_transformers::models::quantized_qwen2::ModelWeights as Qwen2;
use candle_transformers::models::quantized_qwen3::ModelWeights as Qwen3;
use candle_transformers::models::quantized_qwen3_moe::GGUFQWenMoE as Qwen3Moe;

use crate::peer::Peer;

/// Rows of one step, so that attention over a long prompt fits into memory.
const BATCH: usize = 512;

pub(crate) struct Candle {
    path: PathBuf,
    model: Model,
    /// Tokens in the cache.
    computed: usize,
}

enum Model {
    Qwen2(Qwen2),
    Qwen3(Qwen3),
    Qwen3Moe(Qwen3Moe),
}

impl Model {
    fn open(path: &Path) -> Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let content = Content::read(&mut file)?;
        let architecture = match content.metadata.get("general.architecture") {
            Some(value) => value.to_string()?.clone(),
            None => bail!("`{}` names no architecture", path.display()),
        };
        let device = Device::Cpu;
        Ok(match architecture.as_str() {
            "qwen2" => Model::Qwen2(Qwen2::from_gguf(content, &mut file, &device)?),
            "qwen3" => Model::Qwen3(Qwen3::from_gguf(content, &mut file, &device)?),
            "qwen3moe" => Model::Qwen3Moe(Qwen3Moe::from_gguf(content, &mut file, &device, DType::F32)?),
            other => bail!("candle's models here are qwen2, qwen3 and qwen3moe, not `{other}`"),
        })
    }

    /// The last token's logits, `[1, vocab]`, for `tokens` at `position`.
    fn forward(&mut self, tokens: &Tensor, position: usize) -> candle_core::Result<Tensor> {
        match self {
            Model::Qwen2(model) => model.forward(tokens, position),
            Model::Qwen3(model) => model.forward(tokens, position),
            Model::Qwen3Moe(model) => model.forward(tokens, position),
        }
    }
}

impl Candle {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.into(), model: Model::open(path)?, computed: 0 })
    }

    /// Empties the cache.
    fn clear(&mut self) -> Result<()> {
        match &mut self.model {
            Model::Qwen2(model) => model.clear_kv_cache(),
            Model::Qwen3(model) => model.clear_kv_cache(),
            // It has no way to empty its cache but to begin anew.
            Model::Qwen3Moe(_) if self.computed == 0 => {}
            Model::Qwen3Moe(_) => self.model = Model::open(&self.path)?,
        }
        self.computed = 0;
        Ok(())
    }

    fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        for batch in tokens.chunks(BATCH) {
            let input = Tensor::new(batch, &Device::Cpu)?.unsqueeze(0)?;
            let output = self.model.forward(&input, self.computed)?;
            logits = output.flatten_all()?.to_vec1::<f32>()?;
            self.computed += batch.len();
        }
        Ok(logits)
    }

    /// The logits after the last of `tokens`.
    pub(crate) fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.clear()?;
        self.feed(tokens)
    }
}

impl Peer for Candle {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn prefill(&mut self, prompt: &[u32]) -> Result<f64> {
        self.clear()?;
        let start = Instant::now();
        self.feed(prompt)?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn decode(&mut self, context: &[u32], text: &[u32]) -> Result<f64> {
        self.clear()?;
        self.feed(context)?;
        let start = Instant::now();
        for token in text.chunks(1) {
            self.feed(token)?;
        }
        Ok(start.elapsed().as_secs_f64())
    }
}
