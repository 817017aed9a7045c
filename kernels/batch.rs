use crate::Result;
use crate::error::{below, equal};

/// Positions in one block of the key-value cache. Sequences own whole blocks.
pub const BLOCK: usize = 32;

/// The slot of a row whose key and value are not kept (padding).
pub const NO_SLOT: u32 = u32::MAX;

/// The rows of one sequence in a batch, and where its keys and values lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First row of the sequence in the batch.
    pub first: u32,
    /// Number of rows.
    pub rows: u32,
    /// Block table: position `p` of the sequence is slot `blocks[p / BLOCK] * BLOCK + p % BLOCK`.
    pub blocks: Vec<u32>,
}

impl Span {
    /// The slot of position `position`, if the block table reaches that far.
    pub fn slot(&self, position: usize) -> Option<usize> {
        let block = *self.blocks.get(position / BLOCK)?;
        Some(block as usize * BLOCK + position % BLOCK)
    }
}

/// One step. A row is one token of one sequence; prefill chunks and decode rows of many sequences mix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Token id of each row.
    pub tokens: Vec<u32>,
    /// Position of each row in its sequence, from 0.
    pub positions: Vec<u32>,
    /// Cache slot that each row's key and value go to, or [`NO_SLOT`].
    pub slots: Vec<u32>,
    /// The sequences; their rows cover the batch without gap or overlap, in order.
    pub spans: Vec<Span>,
    /// Rows whose logits are wanted, ascending.
    pub logits: Vec<u32>,
}

impl Batch {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Checks every index against the limits, so that no operation has to.
    pub fn check(&self, max_rows: usize, vocab: usize, slots: usize) -> Result<()> {
        let rows = self.rows();
        below("rows", rows, max_rows.saturating_add(1))?;
        equal("positions", self.positions.len(), rows)?;
        equal("slots", self.slots.len(), rows)?;
        for &t in &self.tokens {
            below("token", t as usize, vocab)?;
        }
        for &s in self.slots.iter().filter(|&&s| s != NO_SLOT) {
            below("slot", s as usize, slots)?;
        }
        for &r in &self.logits {
            below("logits row", r as usize, rows)?;
        }
        let mut next = 0;
        for span in &self.spans {
            equal("span's first row", span.first as usize, next)?;
            next += span.rows as usize;
            below("span's last row", next, rows + 1)?;
            for &b in &span.blocks {
                // The block's last slot, so that a whole block lies within the slots.
                below(
                    "slot of a block",
                    (b as usize).saturating_mul(BLOCK).saturating_add(BLOCK - 1),
                    slots,
                )?;
            }
            for r in span.first as usize..next {
                below("position", self.positions[r] as usize, span.blocks.len() * BLOCK)?;
            }
        }
        equal("rows in spans", next, rows)
    }
}
