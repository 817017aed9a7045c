//! One sequence: its tokens, how many of them the cache holds, and in which blocks.

use coder_kernels::{BLOCK, Batch, Span};

/// Tokens `[0, computed)` have their keys and values in `blocks`.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    tokens: Vec<u32>,
    computed: usize,
    blocks: Vec<u32>,
}

impl Sequence {
    pub(crate) fn new(tokens: Vec<u32>) -> Self {
        Self { tokens, computed: 0, blocks: Vec::new() }
    }

    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    pub(crate) fn computed(&self) -> usize {
        self.computed
    }

    pub(crate) fn blocks(&self) -> &[u32] {
        &self.blocks
    }

    /// Tokens that still have to go through the model.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    pub(crate) fn push(&mut self, token: u32) {
        self.tokens.push(token);
    }

    pub(crate) fn push_block(&mut self, block: u32) {
        self.blocks.push(block);
    }

    pub(crate) fn mark_computed(&mut self, computed: usize) {
        debug_assert!(computed <= self.tokens.len() && computed <= self.blocks.len() * BLOCK);
        self.computed = computed;
    }

    /// Starts from blocks that hold the first `computed` tokens already.
    pub(crate) fn adopt(&mut self, blocks: Vec<u32>, computed: usize) {
        debug_assert!(self.blocks.is_empty() && computed <= blocks.len() * BLOCK);
        self.blocks = blocks;
        self.computed = computed;
    }

    /// Length of the common beginning of what is computed here and `prompt`.
    pub(crate) fn common_prefix(&self, prompt: &[u32]) -> usize {
        self.tokens[..self.computed].iter().zip(prompt).take_while(|(a, b)| a == b).count()
    }

    /// Drops the tokens that are not computed and gives back the blocks that held none of the others.
    pub(crate) fn forget_uncomputed(&mut self) -> Vec<u32> {
        self.tokens.truncate(self.computed);
        self.blocks.split_off(self.computed.div_ceil(BLOCK))
    }

    pub(crate) fn into_blocks(self) -> Vec<u32> {
        self.blocks
    }

    /// The next `rows` pending tokens as a batch of their own; the last row's logits are wanted if it is
    /// the sequence's last token. The blocks must reach that far.
    pub(crate) fn batch(&self, rows: usize) -> Batch {
        let range = self.computed..self.computed + rows;
        let span = Span { first: 0, rows: rows as u32, blocks: self.blocks.clone() };
        let slots =
            range.clone().map(|p| span.slot(p).map_or(coder_kernels::NO_SLOT, |s| s as u32)).collect();
        let logits = if range.end == self.tokens.len() { vec![rows as u32 - 1] } else { Vec::new() };
        Batch {
            tokens: self.tokens[range.clone()].to_vec(),
            positions: range.map(|p| p as u32).collect(),
            slots,
            spans: vec![span],
            logits,
        }
    }
}
