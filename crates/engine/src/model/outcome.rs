//! What a step says of its rows whose logits are wanted.

use coder_kernels::Choice;

/// One row: all of its logits, or what they come down to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Row<'a> {
    /// `[vocab]`.
    Whole(&'a [f32]),
    /// With at least one candidate.
    Choice(&'a Choice),
}

/// Rows of a step, in the order in which they were wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome<'a> {
    logits: &'a [f32], // [rows, vocab]; of rows with a clear choice anything
    vocab: usize,
    /// None if all rows are whole.
    choices: &'a [Choice],
}

impl<'a> Outcome<'a> {
    /// Of logits `[rows, vocab]`.
    pub(crate) fn whole(logits: &'a [f32], vocab: usize) -> Self {
        Self { logits, vocab, choices: &[] }
    }

    /// Of a choice of each row, and of logits `[rows, vocab]` where that is not clear.
    pub(crate) fn chosen(logits: &'a [f32], vocab: usize, choices: &'a [Choice]) -> Self {
        Self { logits, vocab, choices }
    }

    /// One of the rows.
    pub(crate) fn row(&self, row: usize) -> Row<'a> {
        match self.choices.get(row).filter(|choice| choice.is_clear()) {
            Some(choice) => Row::Choice(choice),
            None => Row::Whole(&self.logits[row * self.vocab..][..self.vocab]),
        }
    }
}
