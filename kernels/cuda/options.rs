//! How a card is opened, and what it takes for itself then.

use super::{inputs, partial_bytes};
use crate::Heads;

/// How to open a card.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which card, from 0.
    pub index: usize,
    /// Bytes of its memory that may be used; by default what is free.
    pub memory_bytes: Option<u64>,
    /// Rows of a step, at most.
    pub rows: usize,
    /// Blocks that the sequences of one step may have together.
    pub blocks: usize,
    /// Record steps of few rows once and replay them.
    pub graphs: bool,
}

impl Default for Options {
    /// The first card, all of its free memory, 512 rows over 131,072 positions, with graphs.
    fn default() -> Self {
        Self { index: 0, memory_bytes: None, rows: 512, blocks: 4096, graphs: true }
    }
}

impl Options {
    /// Bytes of the card that a [`Cuda`](super::Cuda) takes for itself, beside what its caller allocates: inputs of a step,
    /// and places for the results of chunks of contexts.
    pub fn own_bytes(&self, heads: Heads) -> u64 {
        inputs::bytes(self.rows, self.blocks) as u64 + partial_bytes(heads) as u64
    }
}
