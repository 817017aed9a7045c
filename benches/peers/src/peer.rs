//! What every engine here can be asked to do, and the tokens it is asked with.

use anyhow::Result;

/// An open engine with one sequence, whose cache holds what was last fed.
pub(crate) trait Peer {
    fn name(&self) -> &'static str;

    /// Reads `prompt` into an empty cache, up to the last token's logits: seconds.
    fn prefill(&mut self, prompt: &[u32]) -> Result<f64>;

    /// Reads `context`, untimed and from the cache where it is there already, then one step for each of
    /// `text`, each up to its logits: seconds of these steps.
    fn decode(&mut self, context: &[u32], text: &[u32]) -> Result<f64>;
}

/// `n` fixed pseudo-random tokens below `vocab`: a linear congruential generator (Knuth's MMIX constants).
/// The first one is the seed: sequences of different seeds have no beginning in common that could be cached.
pub(crate) fn tokens(n: usize, vocab: usize, seed: u64) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocab as u64) as u32
    };
    let first = (seed % vocab as u64) as u32;
    (0..n).map(|i| if i == 0 { first } else { next() }).collect()
}
