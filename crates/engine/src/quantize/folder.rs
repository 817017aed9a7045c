//! The keys of a GGUF file from a checkpoint's folder.

use crate::{Error, Result, Weights, gguf::Header};

/// Adds what a loader needs to know: dimensions, vocabulary, chat template.
pub(super) fn keys(weights: &Weights, _header: &mut Header) -> Result<()> {
    Err(Error::Unsupported {
        what: "input",
        got: weights.path().display().to_string(),
        supported: "GGUF files".into(),
    })
}
