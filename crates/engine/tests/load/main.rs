//! Opening models: GGUF files, split sets, folders with safetensors; and every way in which they can be wrong.

mod config;
mod folder;
mod gguf;
mod real;
#[allow(dead_code, unreachable_pub)]
mod writer;

use coder_engine::Error;

/// The place and the problem of a file that was refused.
fn refused<T>(result: Result<T, Error>) -> (String, String) {
    match result {
        Err(Error::BadFile { at, problem, .. }) => (at, problem),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("was accepted"),
    }
}

/// What is not supported, and what was found.
fn unsupported<T>(result: Result<T, Error>) -> (&'static str, String) {
    match result {
        Err(Error::Unsupported { what, got, .. }) => (what, got),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("was accepted"),
    }
}
