//! Tokens in, tokens out: quantized language models inside your own process.
//!
//! No network, no child processes, no global state.
#![forbid(unsafe_code)]

mod chat;
mod error;
mod grammar;
mod sampler;
mod text;
mod tokenizer;

pub use chat::{ChatTemplate, Content, Message};
pub use error::{Error, Result};
pub use grammar::{Grammar, Mask, Matcher};
pub use sampler::{History, Sampled, Sampler, SamplerOptions};
pub use text::TextStream;
pub use tokenizer::{FimTokens, SpecialTokens, Tokenizer, VocabParts};
