//! From a path to a model that can be stepped, with its vocabulary and chat template.

use crate::device::{self, Device, OnCard, Opened};
use crate::fit::Room;
use crate::model::Runner;
use crate::prefixes::{self, PrefixCache};
use crate::sequence::Key;
use crate::speculation::MOST;
use crate::weights::Weights;
use crate::{ChatTemplate, Config, Error, Gguf, Pooling, Result, Tokenizer};
use coder_kernels::cpu::{self, Cpu, Isa};
use coder_kernels::cuda::Library;
use coder_kernels::{BLOCK, KvType};
use std::path::{Path, PathBuf};

/// The largest context that is opened without being asked for.
const DEFAULT_CONTEXT: usize = 32_768;

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

impl Source {
    /// The configuration and the weights, mapped and not loaded.
    pub fn weights(&self) -> Result<Weights> {
        match self {
            Source::Path(path) => Weights::open(path),
            Source::Bytes { name, data } => Weights::from_gguf(Gguf::from_bytes(name, data.to_vec())?),
        }
    }
}

/// Threads that may be asked for: more than any machine has use for, and few enough to be begun.
pub const MOST_THREADS: usize = 1024;

/// Answers that may grow at the same time.
const MOST_PARALLEL: usize = 1 << 16;

/// Tokens that a cache may have: they are numbered with 32 bits.
const MOST_CACHED: usize = 1 << 31;

/// Rows of one step.
const CHUNK: usize = 512;

/// The same of a mixture that is all on a card: few of the rows are any one expert's, and its weights are read for these alone.
const CHUNK_OF_EXPERTS: usize = 2048;

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
    /// Prompt tokens computed in one step. By default 512, and 2,048 of a mixture that is all on a card.
    pub chunk: Option<usize>,
    /// Layers on the card: the last ones, with the head. By default as many as fit.
    pub gpu_layers: Option<usize>,
    /// Take a larger card for one with this much memory, in bytes, of which the driver has its part; for the model and its
    /// draft model together.
    pub vram: Option<u64>,
    /// Record steps of few rows on a card once and replay them.
    pub graphs: bool,
    /// The kernels for cards. By default those that this program was built with.
    pub library: Option<Library>,
    /// Threads that compute, on the CPU. By default as many as this process may use cores.
    pub threads: Option<usize>,
    /// The CPU's instruction set. By default the best.
    pub isa: Option<Isa>,
    /// A chat template instead of the model's own: a file with Jinja source.
    pub chat_template: Option<PathBuf>,
    /// Tokens that the key-value cache has room for, of all requests together and of those that ended. By default, and
    /// at least, one context.
    pub cache: Option<usize>,
    /// Requests whose answers grow at the same time; others wait.
    pub parallel: usize,
    /// Requests that may be open at a time, waiting or running.
    pub queue: usize,
    /// A small model of the same vocabulary that guesses tokens for this one to verify.
    pub draft: Option<Source>,
    /// A file that keeps computed beginnings from one process to the next.
    pub prefix_cache: Option<PrefixCache>,
}

impl Options {
    /// The model at `path`, everything else by default.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::from_source(Source::Path(path.into()))
    }

    /// A GGUF file that is part of the program.
    pub fn bytes(name: &'static str, data: &'static [u8]) -> Self {
        Self::from_source(Source::Bytes { name, data })
    }

    /// The model from `source`, everything else by default.
    pub fn from_source(source: Source) -> Self {
        Self {
            source,
            device: Device::default(),
            context: None,
            kv: KvType::default(),
            chunk: None,
            gpu_layers: None,
            vram: None,
            graphs: true,
            library: Library::linked(),
            threads: None,
            isa: None,
            chat_template: None,
            cache: None,
            parallel: 16,
            queue: 1024,
            draft: None,
            prefix_cache: None,
        }
    }

    /// Instruction set and number of threads.
    pub(crate) fn cpu(&self) -> (Isa, usize) {
        (self.isa.unwrap_or_else(Isa::best), self.threads.unwrap_or_else(cpu::cores))
    }

    /// Rows of one step whose logits may be wanted: one of each answer, or one answer with as much as can be guessed.
    pub(crate) fn logits(&self) -> usize {
        self.parallel.max(1 + MOST)
    }

    /// What a model of these dimensions is opened with, as far as it takes memory.
    ///
    /// # Errors
    /// [`Error::Request`] for numbers that cannot be.
    pub fn room(&self, config: &Config) -> Result<Room> {
        let context = self.context.unwrap_or(config.context.min(DEFAULT_CONTEXT));
        if context == 0 || context > config.context {
            let problem = format!("`{context}` is not between 1 and the model's `{}`", config.context);
            return Err(Error::Request { field: "context", problem });
        }
        for (field, value) in
            [("chunk", self.chunk), ("parallel", Some(self.parallel)), ("queue", Some(self.queue))]
        {
            if value == Some(0) {
                return Err(Error::Request { field, problem: "must be at least 1".into() });
            }
        }
        let cache = self.cache.unwrap_or(context);
        if cache < context {
            let problem =
                format!("`{cache}` tokens are less than the context of `{context}`; one request must fit");
            return Err(Error::Request { field: "cache", problem });
        }
        for (field, value, most) in [
            ("parallel", self.parallel, MOST_PARALLEL),
            ("cache", cache, MOST_CACHED),
            ("threads", self.threads.unwrap_or(1), MOST_THREADS),
        ] {
            if value > most {
                return Err(Error::Request { field, problem: format!("`{value}` is more than `{most}`") });
            }
        }
        let rows = self.chunk.unwrap_or(CHUNK).min(context);
        let rows_on_card = match (self.chunk, &config.moe) {
            (None, Some(_)) => CHUNK_OF_EXPERTS.min(context),
            _ => rows,
        };
        let logits = self.logits().min(rows);
        Ok(Room { context, cache, kv: self.kv, rows, rows_on_card, logits, graphs: self.graphs })
    }

    pub(crate) fn open_cpu(&self) -> Cpu {
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
    /// Columns of the hidden states: numbers in the vector of a text.
    pub hidden: usize,
    /// How hidden states become the vector of a text, if the model was trained for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Tokens of prompt and answer together that there is room for.
    pub context: usize,
    /// Tokens that the model was trained for.
    pub trained_context: usize,
    /// Prompt tokens computed in one step, at most.
    pub chunk: usize,
    /// Where it runs, for people.
    pub device: String,
    /// What of it is on a card.
    pub card: Option<OnCard>,
    /// What a person should be told about where it runs: why a card that is there is not used, or only in part.
    pub notice: Option<String>,
    /// The model that guesses for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<Box<ModelInfo>>,
}

/// A model ready to be stepped.
pub(crate) struct Loaded {
    pub(crate) runner: Box<dyn Runner>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) info: ModelInfo,
    pub(crate) blocks: usize,
    /// Of what the cache's numbers depend on, where they are kept on disk.
    pub(crate) identity: Option<Key>,
}

/// The weights alone, without a tokenizer: for measuring.
pub(crate) struct LoadedWeights {
    pub(crate) runner: Box<dyn Runner>,
    pub(crate) info: ModelInfo,
    pub(crate) blocks: usize,
    /// Of the card that has all of the weights.
    pub(crate) memory_bytes_per_s: Option<f64>,
    identity: Option<Key>,
}

/// Opens everything; up to `logits` rows of a step may want their logits.
pub(crate) fn open(options: &Options, logits: usize, progress: impl FnMut(LoadProgress)) -> Result<Loaded> {
    let weights = options.source.weights()?;
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
    let LoadedWeights { runner, info, blocks, identity, .. } =
        load_weights(options, &weights, logits, progress)?;
    Ok(Loaded { runner, tokenizer: text.tokenizer, template: text.template, info, blocks, identity })
}

pub(crate) fn load_weights(
    options: &Options,
    weights: &Weights,
    logits: usize,
    mut progress: impl FnMut(LoadProgress),
) -> Result<LoadedWeights> {
    let config = weights.config();
    let room = options.room(config)?;
    let room = Room { logits, ..room };
    let total_bytes = weights.bytes() as u64;
    let mut done_bytes = 0;
    let mut tell = |bytes: u64| {
        // Two devices may each have the table of a tied model.
        done_bytes = total_bytes.min(done_bytes + bytes);
        progress(LoadProgress { done_bytes, total_bytes });
    };
    let Opened { runner, limits, device, card, notice, memory_bytes_per_s } =
        device::open(options, weights, &room, &mut tell)?;
    let file = weights.path().file_stem().map(|s| s.to_string_lossy().into_owned());
    let info = ModelInfo {
        name: config.name.clone().or(file).unwrap_or_default(),
        architecture: config.architecture.name().into(),
        parameters: parameters(config),
        weight_bytes: total_bytes,
        weight_bytes_per_token: runner.weight_bytes_per_token(),
        layers: config.layers,
        hidden: config.hidden,
        pooling: config.pooling,
        vocab: config.vocab,
        context: room.context,
        trained_context: config.context,
        chunk: limits.rows,
        device,
        card,
        notice,
        draft: None,
    };
    let identity = match &options.prefix_cache {
        Some(_) => Some(prefixes::identity(weights, limits, &*runner)?),
        None => None,
    };
    Ok(LoadedWeights { runner, info, blocks: limits.slots / BLOCK, memory_bytes_per_s, identity })
}

/// Number of weights.
pub(crate) fn parameters(c: &Config) -> u64 {
    let (h, q, kv) = (c.hidden as u64, c.heads.q_cols() as u64, (c.heads.kv * c.heads.dim) as u64);
    let ffn = c.moe.as_ref().map_or(3 * h * c.ffn as u64, |m| (3 * h * m.ffn as u64 + h) * m.experts as u64);
    let bias = if c.qkv_bias { q + 2 * kv } else { 0 };
    let norms = 2 * h + if c.qk_norm { 2 * c.heads.dim as u64 } else { 0 };
    let tables = if c.tied { 1 } else { 2 };
    tables * h * c.vocab as u64 + h + c.layers as u64 * (h * (2 * q + 2 * kv) + ffn + bias + norms)
}

pub(crate) fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
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
