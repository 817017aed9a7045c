//! Tokens in, tokens out: quantized language models inside your own process.
//!
//! No network, no child processes, no global state.
#![forbid(unsafe_code)]

pub mod config;
mod error;
pub mod gguf;
pub mod weights;

pub use config::Config;
pub use error::{Error, Result};
pub use gguf::Gguf;
pub use weights::{Role, Weights};
