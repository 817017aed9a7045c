//! Tokens in, tokens out: quantized language models inside your own process.
//!
//! No network, no child processes, no global state.
#![forbid(unsafe_code)]

mod error;

pub use error::{Error, Result};
