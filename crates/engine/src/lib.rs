//! Tokens in, tokens out: quantized language models inside your own process.
//!
//! [`Engine::open`] loads a GGUF file (or a folder with safetensors); [`Engine::generate`] gives the events
//! of one answer. No network, no child processes, no global state, and the same answer for the same seed.
//!
//! What is where: `gguf`, `config`, `weights` and `load` read files, and `quantize` makes smaller ones; `model` is
//! the forward pass, written once over [`coder_kernels::Backend`], and `reference` one more device for it; `device`
//! chooses one, by `fit`'s plan of what a card has room for;
//! `tokenizer`, `chat`, `prompt` and `text` go between text and tokens; `sampler` and `grammar` choose tokens, `tools` makes and reads calls;
//! `kv`, `sequence` and `scheduler` decide what is computed when; `step` computes it and `answer` deals with what came
//! of it, `embedding` with texts whose vectors are wanted, `speculation` and `draft` guess what will; `engine` is the outside.
#![forbid(unsafe_code)]

mod answer;
mod chat;
pub mod config;
mod costs;
mod device;
mod draft;
mod embedding;
mod engine;
mod error;
pub mod fit;
pub mod gguf;
mod grammar;
mod kv;
mod load;
mod memory;
mod model;
mod prefixes;
pub mod probe;
mod prompt;
mod quantize;
mod reference;
mod request;
mod sampler;
mod scheduler;
mod sequence;
mod speculation;
mod stack;
mod step;
mod text;
mod tokenizer;
mod tools;
pub mod weights;

pub use chat::{ChatTemplate, Content, Message};
pub use coder_kernels::{KvType, cpu::Isa, cuda::Library as CudaLibrary};
pub use config::{Architecture, Config};
pub use device::{Device, OnCard};
pub use embedding::{Embedder, Embedding, EmbeddingRequest, Pooling};
pub use engine::{Canceller, Completion, Engine, Generation, Stats};
pub use error::{Error, Result};
pub use gguf::Gguf;
pub use grammar::{EditFile, EditGrammar, Grammar, Mask, Matcher};
pub use load::{LoadProgress, MOST_THREADS, ModelInfo, Options, Source, TextModel};
pub use memory::HostMemory;
pub use prefixes::PrefixCache;
pub use quantize::{FileType, QuantizeOptions, QuantizeProgress, QuantizeReport, quantize};
pub use request::{Event, Finish, Limit, Request, Summary, Timings, Token, Usage};
pub use sampler::{History, Sampled, Sampler, SamplerOptions};
pub use text::TextStream;
pub use tokenizer::{FimTokens, SpecialTokens, Tokenizer, VocabParts};
pub use tools::{CallFormat, Tool, ToolChoice, ToolEvent, ToolReader, ToolSet, ToolStream};
pub use weights::{Role, Weights};
