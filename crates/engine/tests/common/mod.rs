//! Where test data is, and how to read it.
#![allow(dead_code)] // each test file uses its part

pub(crate) mod requests;

use coder_engine::CudaLibrary;
use std::path::{Path, PathBuf};

/// The crate's folder, where cargo runs tests; not its place at compile time, because test binaries are carried to
/// machines with a card (tests/gpu.sh).
fn here() -> PathBuf {
    std::env::current_dir().expect("a current directory")
}

/// A file or folder of the data set that may lie beside the checkout.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let found =
        here().ancestors().skip(1).map(|dir| dir.join("shared").join("data").join(path)).find(|p| p.exists());
    if found.is_none() {
        eprintln!("`shared/data/{path}` is not beside the checkout: this test covers less");
    }
    found
}

/// The model that is part of the project.
pub(crate) fn bundled() -> PathBuf {
    here().join("../../models/coder-tiny.gguf")
}

/// Every model to test with: the bundled one and, where it is there, the data set's.
pub(crate) fn models() -> Vec<PathBuf> {
    let mut models = vec![bundled()];
    if let Some(dir) = shared("vectors/models") {
        let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
            .expect("a readable folder")
            .map(|e| e.expect("a readable entry").path())
            .filter(|p| p.extension().is_some_and(|e| e == "gguf"))
            .collect();
        found.sort();
        models.extend(found);
    }
    models
}

/// One model for each architecture, with and without a head of its own: emulation is slow.
pub(crate) fn few_models() -> Vec<PathBuf> {
    let names = ["qwen2-Q4_K_M", "qwen2-untied-Q8_0", "qwen3-Q8_0", "qwen3moe-Q4_K_M"];
    let found: Vec<_> =
        names.iter().filter_map(|name| shared(&format!("vectors/models/tiny-{name}.gguf"))).collect();
    if found.is_empty() { vec![bundled()] } else { found }
}

/// The kernels for cards: on a card if this was built for one and it is there, else on the emulator.
pub(crate) fn library() -> CudaLibrary {
    let card = CudaLibrary::linked().filter(|library| library.count().is_ok_and(|cards| cards > 0));
    card.unwrap_or_else(coder_cuda_emulator::library)
}

/// The token ids that the data set's logits belong to.
pub(crate) fn tokens() -> Vec<u32> {
    let fixed = || (0..48u32).map(|i| (i * 37 + 11) % 500).collect();
    let Some(path) = shared("vectors/logits/tokens.txt") else { return fixed() };
    let text = std::fs::read_to_string(path).expect("a readable file");
    text.trim().split(',').map(|t| t.trim().parse().expect("a token id")).collect()
}

/// The values of a little-endian f32 `.npy` file.
pub(crate) fn npy(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("a readable file");
    assert_eq!(&bytes[..6], b"\x93NUMPY");
    let header = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    let text = String::from_utf8_lossy(&bytes[10..10 + header]);
    assert!(text.contains("'<f4'") && text.contains("'fortran_order': False"), "{text}");
    bytes[10 + header..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Distances of logits `[rows, vocab]` from a reference.
pub(crate) struct Distance {
    /// Largest relative L2 error of a row.
    pub(crate) relative_l2: f64,
    /// Mean KL(reference || got) of a row, nats.
    pub(crate) kl: f64,
}

pub(crate) fn distance(reference: &[f32], got: &[f32], vocab: usize) -> Distance {
    assert_eq!(reference.len(), got.len());
    assert!(got.iter().all(|x| x.is_finite()), "logits must be finite");
    let (mut relative_l2, mut kl) = (0f64, 0f64);
    for (r, g) in reference.chunks_exact(vocab).zip(got.chunks_exact(vocab)) {
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|v| v * v).sum::<f64>().sqrt();
        let difference = norm(&mut r.iter().zip(g).map(|(&a, &b)| f64::from(b) - f64::from(a)));
        relative_l2 = relative_l2.max(difference / norm(&mut r.iter().map(|&a| f64::from(a))));
        let (lr, lg) = (log_softmax(r), log_softmax(g));
        kl += lr.iter().zip(&lg).map(|(a, b)| a.exp() * (a - b)).sum::<f64>();
    }
    Distance { relative_l2, kl: kl / (reference.len() / vocab) as f64 }
}

fn log_softmax(x: &[f32]) -> Vec<f64> {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = x.iter().map(|&v| f64::from(v - max).exp()).sum();
    x.iter().map(|&v| f64::from(v - max) - sum.ln()).collect()
}
