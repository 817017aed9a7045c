//! The batch of a step in fixed buffers of the card, which operations and recorded graphs read.

use super::device::Device;
use super::storage::{Memory, Place, Used};
use super::{api, bucket, capacity};
use crate::error::below;
use crate::{BLOCK, Batch, NO_SLOT, Result};
use std::sync::Arc;

/// What a recorded step depends on, beside its operations: rows, chunks of the longest context and wanted rows, each
/// of its bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) rows: usize,
    pub(super) chunks: usize,
    pub(super) logits: usize,
}

/// Fields of a row: token, position, slot, place of its block table, wanted row.
const FIELDS: usize = 5;

/// The batch, on the host and on the card: `FIELDS` runs of `max_rows` numbers, then block tables.
#[derive(Debug)]
pub(super) struct Inputs {
    card: Memory,
    host: Vec<i32>,
    max_rows: usize,
    rows: usize,
    logits: usize,
    key: Key,
    /// The first token that no row has, and the first slot that no row or block reaches.
    pub(super) tokens: usize,
    pub(super) slots: usize,
}

/// Bytes of the card for steps of `rows` rows over `blocks` blocks.
pub(super) fn bytes(rows: usize, blocks: usize) -> usize {
    4 * (FIELDS * capacity(rows) + blocks)
}

impl Inputs {
    pub(super) fn new(device: &Arc<Device>, rows: usize, blocks: usize) -> Result<Self> {
        let card = Memory::new(device, Place::Card, "inputs of a step", bytes(rows, blocks))?;
        let host = vec![0; FIELDS * capacity(rows) + blocks];
        let (max_rows, key) = (capacity(rows), Key::default());
        Ok(Self { card, host, max_rows, rows: 0, logits: 0, key, tokens: 0, slots: 0 })
    }

    /// Checks `batch` and copies it to the card, filled up to its bucket if it is `recorded`.
    pub(super) fn upload(&mut self, batch: &Batch, recorded: bool) -> Result<()> {
        // Vocabulary and slots are known to the operations only; they compare with `tokens` and `slots`.
        batch.check(self.max_rows, i32::MAX as usize, i32::MAX as usize)?;
        below("logits", batch.logits.len(), self.max_rows + 1)?;
        let tables = batch.spans.iter().map(|s| s.blocks.len()).sum::<usize>();
        let first_table = FIELDS * self.max_rows;
        below("blocks of all sequences", tables, self.host.len() - first_table + 1)?;
        (self.rows, self.logits) = (batch.rows(), batch.logits.len());
        let end = |i: u32| i as usize + 1;
        let row_slots = batch.slots.iter().filter(|&&s| s != NO_SLOT).map(|&s| end(s));
        let block_slots = batch.spans.iter().flat_map(|s| &s.blocks).map(|&b| end(b) * BLOCK);
        self.tokens = batch.tokens.iter().map(|&t| end(t)).max().unwrap_or(0);
        self.slots = row_slots.chain(block_slots).max().unwrap_or(0);
        let context = batch.positions.iter().map(|&p| end(p)).max().unwrap_or(0);
        let chunks = context.div_ceil(api::ATTENTION_CHUNK).next_power_of_two();
        let filled = |n: usize| if recorded && n > 0 { bucket(n).min(self.max_rows) } else { n };
        self.key = Key { rows: filled(self.rows), chunks, logits: filled(self.logits) };
        self.fill(batch, first_table);
        self.card.upload_numbers(0, &self.host[..first_table + tables])
    }

    /// Lays the batch out as the card has it. Padding has token 0, position 0, no slot and no block table.
    fn fill(&mut self, batch: &Batch, first_table: usize) {
        let (fields, tables) = self.host.split_at_mut(first_table);
        let mut fields = fields.chunks_exact_mut(self.max_rows);
        let mut field = |values: &[u32], padding: i32| {
            let Some(field) = fields.next() else { return };
            let (values_of, rest) = field.split_at_mut(values.len());
            values_of.iter_mut().zip(values).for_each(|(to, from)| *to = *from as i32);
            rest.fill(padding);
        };
        field(&batch.tokens, 0);
        field(&batch.positions, 0);
        field(&batch.slots, -1); // NO_SLOT has the same bits
        let mut table_at = Vec::with_capacity(self.rows);
        let mut at = 0;
        for span in &batch.spans {
            table_at.extend(std::iter::repeat_n(at as u32, span.rows as usize));
            for (to, from) in tables[at..].iter_mut().zip(&span.blocks) {
                *to = *from as i32;
            }
            at += span.blocks.len();
        }
        field(&table_at, -1);
        field(&batch.logits, 0);
    }

    /// Rows of the batch.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// The rows of activations that belong to the batch.
    pub(super) fn used(&self) -> Used {
        Used { rows: self.rows, computed: self.key.rows }
    }

    /// The rows whose logits are wanted.
    pub(super) fn wanted(&self) -> Used {
        Used { rows: self.logits, computed: self.key.logits }
    }

    pub(super) fn operand(&self) -> api::Batch {
        let field = |i: usize| self.card.at(4 * i * self.max_rows).cast::<i32>().cast_const();
        api::Batch {
            tokens: field(0),
            positions: field(1),
            slots: field(2),
            table_at: field(3),
            logits: field(4),
            tables: field(FIELDS),
            rows: self.key.rows as i32,
            chunks: self.key.chunks as i32,
        }
    }
}
