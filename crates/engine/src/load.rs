//! From a path to a model that can be stepped, with its vocabulary and chat template.

use crate::model::{Limits, Model, Runner};
use crate::reference::Reference;
use crate::weights::Weights;
use crate::{ChatTemplate, Config, Error, Gguf, Result, Tokenizer};
use coder_kernels::cpu::{self, Cpu, Isa};
use coder_kernels::{BLOCK, Backend, KvType};
use std::path::{Path, PathBuf};

/// The largest context that is opened without being asked for.
const DEFAULT_CONTEXT: usize = 32_768;

/// Where the arithmetic happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor, with this project's own operations.
    #[default]
    Cpu,
    /// The processor through candle, in f32: slow and exact, to compare with.
    Reference,
}

impl std::str::FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "cpu" => Ok(Device::Cpu),
            "reference" => Ok(Device::Reference),
            _ => Err(Error::Unsupported {
                what: "device",
                got: name.into(),
                supported: "cpu, reference".into(),
            }),
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Device::Cpu => "cpu",
            Device::Reference => "reference",
        })
    }
}

/// Where a model comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A GGUF file, the first of a split set, or a folder with `config.json` and safetensors.
    Path(PathBuf),
    /// A GGUF file that is part of the program.
    Bytes {
        /// What to call it in errors.
        name: &'static str,
        /// The whole file.
        data: &'static [u8],
    },
}

/// How to open a model.
#[derive(Clone, Debug)]
pub struct Options {
    /// The model.
    pub source: Source,
    /// Where it runs.
    pub device: Device,
    /// Tokens of prompt and answer together. By default the model's own context, at most 32,768.
    pub context: Option<usize>,
    /// How keys and values are stored.
    pub kv: KvType,
    /// Prompt tokens computed in one step.
    pub chunk: usize,
    /// Threads that compute, on the CPU. By default as many as this process may use cores.
    pub threads: Option<usize>,
    /// The CPU's instruction set. By default the best.
    pub isa: Option<Isa>,
    /// A chat template instead of the model's own: a file with Jinja source.
    pub chat_template: Option<PathBuf>,
}

impl Options {
    /// The model at `path` on the CPU, everything else by default.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::from_source(Source::Path(path.into()))
    }

    /// A GGUF file that is part of the program.
    pub fn bytes(name: &'static str, data: &'static [u8]) -> Self {
        Self::from_source(Source::Bytes { name, data })
    }

    /// The model from `source` on the CPU, everything else by default.
    pub fn from_source(source: Source) -> Self {
        let (device, kv) = (Device::default(), KvType::default());
        Self { source, device, context: None, kv, chunk: 512, threads: None, isa: None, chat_template: None }
    }
}

impl Options {
    /// Instruction set and number of threads.
    pub(crate) fn cpu(&self) -> (Isa, usize) {
        (self.isa.unwrap_or_else(Isa::best), self.threads.unwrap_or_else(cpu::cores))
    }

    fn open_cpu(&self) -> Cpu {
        let (isa, threads) = self.cpu();
        Cpu::with(isa, threads)
    }
}

/// How far loading is.
#[derive(Clone, Copy, Debug)]
pub struct LoadProgress {
    /// Weight bytes on the device.
    pub done_bytes: u64,
    /// Weight bytes in all.
    pub total_bytes: u64,
}

/// What was loaded.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ModelInfo {
    /// The model's own name, or its file's.
    pub name: String,
    /// `qwen2`, `qwen3` or `qwen3moe`.
    pub architecture: String,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes of the weights in the file.
    pub weight_bytes: u64,
    /// Bytes of the weights that one token reads.
    pub weight_bytes_per_token: u64,
    /// Transformer layers.
    pub layers: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Tokens of prompt and answer together that there is room for.
    pub context: usize,
    /// Tokens that the model was trained for.
    pub trained_context: usize,
    /// Where it runs, for people.
    pub device: String,
}

/// A model ready to be stepped.
pub(crate) struct Loaded {
    pub(crate) runner: Box<dyn Runner>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) info: ModelInfo,
    pub(crate) blocks: usize,
}

/// The weights alone, without a tokenizer: for measuring.
pub(crate) struct LoadedWeights {
    pub(crate) runner: Box<dyn Runner>,
    pub(crate) info: ModelInfo,
    pub(crate) blocks: usize,
}

/// Opens everything; up to `logits` rows of a step may want their logits.
pub(crate) fn open(options: &Options, logits: usize, progress: impl FnMut(LoadProgress)) -> Result<Loaded> {
    let weights = open_weights(&options.source)?;
    // The vocabulary first: it is quick, and what is wrong with it should not cost a long load.
    let mut text = TextModel::of_weights(&weights)?;
    if let Some(path) = &options.chat_template {
        let source =
            std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.clone(), source })?;
        text.template = Some(ChatTemplate::new(&source, text.tokenizer.template_variables())?);
    }
    let vocab = weights.config().vocab;
    if text.tokenizer.vocab_size() > vocab {
        return Err(Error::BadFile {
            path: weights.path().into(),
            at: "tensor `token_embd.weight`".into(),
            problem: format!("has `{vocab}` rows for `{}` tokens", text.tokenizer.vocab_size()),
        });
    }
    let LoadedWeights { runner, info, blocks } = load_weights(options, &weights, logits, progress)?;
    Ok(Loaded { runner, tokenizer: text.tokenizer, template: text.template, info, blocks })
}

pub(crate) fn open_weights(source: &Source) -> Result<Weights> {
    match source {
        Source::Path(path) => Weights::open(path),
        Source::Bytes { name, data } => Weights::from_gguf(Gguf::from_bytes(name, data.to_vec())?),
    }
}

pub(crate) fn load_weights(
    options: &Options,
    weights: &Weights,
    logits: usize,
    mut progress: impl FnMut(LoadProgress),
) -> Result<LoadedWeights> {
    let config = weights.config();
    let context = options.context.unwrap_or(config.context.min(DEFAULT_CONTEXT));
    if context == 0 || context > config.context {
        let problem = format!("`{context}` is not between 1 and the model's `{}`", config.context);
        return Err(Error::Request { field: "context", problem });
    }
    if options.chunk == 0 {
        return Err(Error::Request { field: "chunk", problem: "must be at least 1".into() });
    }
    let blocks = context.div_ceil(BLOCK);
    let rows = options.chunk.min(context);
    let limits = Limits { rows, logits: logits.min(rows), slots: blocks * BLOCK, kv: options.kv };
    check_memory(options.device, config, weights, &limits)?;
    let total_bytes = weights.bytes() as u64;
    let mut tell = |done_bytes| progress(LoadProgress { done_bytes, total_bytes });
    let (runner, device) = match options.device {
        Device::Cpu => boxed(options.open_cpu(), weights, limits, &mut tell)?,
        Device::Reference => boxed(Reference::new(), weights, limits, &mut tell)?,
    };
    let file = weights.path().file_stem().map(|s| s.to_string_lossy().into_owned());
    let info = ModelInfo {
        name: config.name.clone().or(file).unwrap_or_default(),
        architecture: config.architecture.name().into(),
        parameters: parameters(config),
        weight_bytes: total_bytes,
        weight_bytes_per_token: runner.weight_bytes_per_token(),
        layers: config.layers,
        vocab: config.vocab,
        context,
        trained_context: config.context,
        device,
    };
    Ok(LoadedWeights { runner, info, blocks })
}

fn boxed<B: Backend + Send + 'static>(
    backend: B,
    weights: &Weights,
    limits: Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<(Box<dyn Runner>, String)> {
    let name = backend.name();
    Ok((Box::new(Model::load(backend, weights, limits, progress)?), name))
}

fn parameters(c: &Config) -> u64 {
    let (h, q, kv) = (c.hidden as u64, c.heads.q_cols() as u64, (c.heads.kv * c.heads.dim) as u64);
    let ffn = c.moe.as_ref().map_or(3 * h * c.ffn as u64, |m| (3 * h * m.ffn as u64 + h) * m.experts as u64);
    let bias = if c.qkv_bias { q + 2 * kv } else { 0 };
    let norms = 2 * h + if c.qk_norm { 2 * c.heads.dim as u64 } else { 0 };
    let tables = if c.tied { 1 } else { 2 };
    tables * h * c.vocab as u64 + h + c.layers as u64 * (h * (2 * q + 2 * kv) + ffn + bias + norms)
}

/// Refuses a model that cannot fit, before anything is allocated.
fn check_memory(device: Device, config: &Config, weights: &Weights, limits: &Limits) -> Result<()> {
    let Some(available) = available_memory() else { return Ok(()) };
    let weight_bytes = match device {
        Device::Cpu => weights.bytes() as u64,
        Device::Reference => parameters(config).saturating_mul(4),
    };
    let kv_row = 2 * (limits.kv.row_bytes(config.heads) * config.layers) as u64;
    let needed = weight_bytes.saturating_add(kv_row.saturating_mul(limits.slots as u64));
    if needed > available {
        return Err(Error::TooLarge { needed_gib: gib(needed), available_gib: gib(available) });
    }
    Ok(())
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// Bytes that can be had without swapping, where the system tells (Linux).
pub fn available_memory() -> Option<u64> {
    let table = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = table.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The text side of a model: vocabulary and chat template, without weights.
#[derive(Debug)]
pub struct TextModel {
    /// The vocabulary.
    pub tokenizer: Tokenizer,
    /// The chat template, if there is one.
    pub template: Option<ChatTemplate>,
}

impl TextModel {
    /// Opens a folder with `tokenizer.json` and `tokenizer_config.json`, or any GGUF file with a
    /// vocabulary, also one without tensors.
    pub fn open(source: &Source) -> Result<Self> {
        match source {
            Source::Path(path) if path.is_dir() => Self::from_dir(path),
            Source::Path(path) => Self::from_gguf(&Gguf::open(path)?),
            Source::Bytes { name, data } => Self::from_gguf(&Gguf::from_bytes(name, data.to_vec())?),
        }
    }

    fn of_weights(weights: &Weights) -> Result<Self> {
        match weights.gguf() {
            Some(gguf) => Self::from_gguf(gguf),
            None => Self::from_dir(weights.path()),
        }
    }

    fn from_dir(path: &Path) -> Result<Self> {
        Self::of(Tokenizer::from_dir(path)?)
    }

    fn from_gguf(gguf: &Gguf) -> Result<Self> {
        Self::of(Tokenizer::from_gguf(gguf)?)
    }

    fn of(tokenizer: Tokenizer) -> Result<Self> {
        let template = ChatTemplate::of(&tokenizer)?;
        Ok(Self { tokenizer, template })
    }
}
