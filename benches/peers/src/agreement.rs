//! Whether two engines run the same model: their logits after the same tokens.

use anyhow::{Result, ensure};
use serde::Serialize;

/// Above this they do not: rounding activations to 8 bits, as llama.cpp does, costs less than a tenth of it.
const WORST_KL: f64 = 0.1;

/// How far one engine's prediction is from another's.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Agreement {
    /// The most probable token of either.
    pub(crate) argmax: [usize; 2],
    /// Kullback-Leibler divergence of the second from the first, in nats.
    pub(crate) kl: f64,
    /// The largest difference between two logits.
    pub(crate) max_difference: f32,
}

impl Agreement {
    /// # Errors
    /// Predictions of different models.
    pub(crate) fn of(first: &[f32], second: &[f32]) -> Result<Self> {
        ensure!(first.len() == second.len(), "`{}` logits beside `{}`", first.len(), second.len());
        let (p, q) = (log_softmax(first), log_softmax(second));
        let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
        let max_difference = first.iter().zip(second).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        ensure!(kl < WORST_KL, "the engines do not run the same model: KL is `{kl:.3}` nats");
        Ok(Self { argmax: [argmax(first), argmax(second)], kl, max_difference })
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    let log_sum = highest + logits.iter().map(|&x| (f64::from(x) - highest).exp()).sum::<f64>().ln();
    logits.iter().map(|&x| f64::from(x) - log_sum).collect()
}

fn argmax(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or_default()
}
