//! One sequence: its tokens, how many of them the cache holds, and in which blocks.

use coder_kernels::{BLOCK, Batch, NO_SLOT, Span};
use sha2::{Digest, Sha256};

/// Names the contents of a block and of every block before it in its sequence: SHA-256 of the key of the block before
/// and the block's tokens. Equal keys are equal beginnings.
pub(crate) type Key = [u8; 32];

/// The key before the first block.
pub(crate) const ROOT: Key = [0; 32];

/// The key of a block of these tokens behind the block of key `parent`.
pub(crate) fn key_after(parent: &Key, tokens: &[u32]) -> Key {
    let mut hash = Sha256::new_with_prefix(parent);
    for token in tokens {
        hash.update(token.to_le_bytes());
    }
    hash.finalize().into()
}

/// Tokens `[0, computed)` have their keys and values in `blocks`.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    tokens: Vec<u32>,
    computed: usize,
    blocks: Vec<u32>,
    /// The key before its first block.
    root: Key,
    /// Of the whole blocks, as far as they were asked for.
    keys: Vec<Key>,
    /// Leading blocks that the cache knows by their keys.
    pub(crate) known: usize,
    /// Leading whole blocks that were announced to the cache.
    pub(crate) announced: usize,
}

impl Sequence {
    pub(crate) fn new(tokens: Vec<u32>) -> Self {
        Self { tokens, computed: 0, blocks: Vec::new(), root: ROOT, keys: Vec::new(), known: 0, announced: 0 }
    }

    /// One that shares nothing with any other but those of the same `number`: all of it is computed.
    pub(crate) fn apart(tokens: Vec<u32>, number: u64) -> Self {
        let mut root = [0xff; 32];
        root[..8].copy_from_slice(&number.to_le_bytes());
        Self { root, ..Self::new(tokens) }
    }

    /// Whether no other sequence shares anything with it.
    pub(crate) fn is_apart(&self) -> bool {
        self.root != ROOT
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

    pub(crate) fn blocks_mut(&mut self) -> &mut Vec<u32> {
        &mut self.blocks
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

    /// The key of whole block `block`.
    pub(crate) fn key(&mut self, block: usize) -> Key {
        while self.keys.len() <= block {
            let first = self.keys.len() * BLOCK;
            let parent = self.keys.last().unwrap_or(&self.root);
            self.keys.push(key_after(parent, &self.tokens[first..first + BLOCK]));
        }
        self.keys[block]
    }

    /// Whether it is announced to compute a block of this key.
    pub(crate) fn announces(&self, key: &Key) -> bool {
        self.keys.get(self.known..self.announced).is_some_and(|keys| keys.contains(key))
    }

    /// The key of what comes before block `block`.
    pub(crate) fn parent(&mut self, block: usize) -> Key {
        if block == 0 { self.root } else { self.key(block - 1) }
    }

    /// Replaces all tokens from `at` on; what was computed from there on counts no more.
    pub(crate) fn rewrite(&mut self, at: usize, tokens: &[u32]) {
        self.tokens.truncate(at);
        self.tokens.extend_from_slice(tokens);
        self.computed = self.computed.min(at);
        self.keys.truncate(at / BLOCK);
        debug_assert!(self.known <= at / BLOCK, "a block that others may read would be written");
    }

    /// Forgets that anything was computed, and gives back the blocks.
    pub(crate) fn release(&mut self) -> Vec<u32> {
        (self.computed, self.known, self.announced) = (0, 0, 0);
        std::mem::take(&mut self.blocks)
    }

    /// The next `rows` pending tokens as a batch of their own; the last row's logits are wanted if it is
    /// the sequence's last token. The blocks must reach that far.
    pub(crate) fn batch(&self, rows: usize) -> Batch {
        let mut batch = Rows::default();
        batch.append(self, rows, &[]);
        if rows > 0 && rows == self.pending() {
            batch.want(0);
        }
        batch.batch
    }
}

/// A batch that is filled for every step anew, in the memory of the one before.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    batch: Batch,
    /// Spans that are not in use, for the memory of their block tables.
    spare: Vec<Span>,
    /// The last pending token's row of the sequence that was appended last.
    last: u32,
}

impl Rows {
    pub(crate) fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Empties it.
    pub(crate) fn clear(&mut self) {
        let Batch { tokens, positions, slots, spans, logits } = &mut self.batch;
        tokens.clear();
        positions.clear();
        slots.clear();
        logits.clear();
        self.spare.append(spans);
    }

    /// Appends the next `rows` pending tokens of a sequence, at least one, and after them `drafts`, which are only
    /// supposed, as the rows of one span. The blocks must reach that far.
    pub(crate) fn append(&mut self, sequence: &Sequence, rows: usize, drafts: &[u32]) {
        let Self { batch, spare, last } = self;
        let (first, computed) = (batch.rows(), sequence.computed);
        let positions = computed..computed + rows + drafts.len();
        let mut span = spare.pop().unwrap_or_default();
        (span.first, span.rows) = (first as u32, positions.len() as u32);
        span.blocks.clone_from(&sequence.blocks);
        batch.tokens.extend_from_slice(&sequence.tokens[computed..computed + rows]);
        batch.tokens.extend_from_slice(drafts);
        batch.slots.extend(positions.clone().map(|p| span.slot(p).map_or(NO_SLOT, |slot| slot as u32)));
        batch.positions.extend(positions.map(|p| p as u32));
        batch.spans.push(span);
        *last = (first + rows).saturating_sub(1) as u32;
    }

    /// Asks for the logits of the row `drafts` behind the last pending token of the sequence that was appended last.
    pub(crate) fn want(&mut self, drafts: usize) {
        self.batch.logits.push(self.last + drafts as u32);
    }
}
