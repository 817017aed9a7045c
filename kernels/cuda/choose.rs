//! Choosing of rows of logits on the card: what is picked of each lies in the host's memory, where the card reads it in
//! place; what it found is copied back, three kilobytes a row instead of all of it.

use super::api;
use super::device::Device;
use super::storage::{Buf, Layout, Memory, Place};
use crate::choice::{self, MAX_CANDIDATES, PIECE};
use crate::error::{below, equal};
use crate::{Choice, Pick, Result};
use std::cell::RefCell;
use std::sync::Arc;

/// What choosing of rows of logits needs beside them. Nothing of it is in use between two calls.
#[derive(Debug)]
pub(super) struct Desk {
    picks: RefCell<Picks>,
    /// Offsets in the logits' memory: of the parts' largest logits, their best tokens, and what was found.
    places: [usize; 3],
    /// Numbers that are found of a row.
    found: usize,
}

/// What is picked of each row, and what was found of them.
#[derive(Debug)]
struct Picks {
    /// On the host: `[rows, 2]` numbers of candidates and of a mask's words, -1 without one, and masks `[rows, words]`.
    memory: Memory,
    masks: usize,
    words: usize,
    wanted: Vec<i32>,
    found: Vec<u64>,
}

impl Desk {
    /// One for `rows` rows at its `places`.
    pub(super) fn new(device: &Arc<Device>, places: [usize; 3], rows: usize, vocab: usize) -> Result<Self> {
        let (words, found) = (vocab.div_ceil(32), found(vocab));
        let mut host = Layout::default();
        host.place(8 * rows);
        let masks = host.place(4 * rows * words);
        let memory = Memory::new(device, Place::Host, "masks", host.0)?;
        let wanted = Vec::with_capacity(2 * rows);
        let picks = Picks { memory, masks, words, wanted, found: vec![0; rows * found] };
        Ok(Self { picks: RefCell::new(picks), places, found })
    }

    /// Where it has its places behind the logits; `None` where a row has more tokens than the kernels take.
    pub(super) fn places(layout: &mut Layout, rows: usize, vocab: usize) -> Option<[usize; 3]> {
        let parts = vocab.div_ceil(api::CHOICE_PART);
        let sizes = [4 * parts, 8 * parts * MAX_CANDIDATES, 8 * found(vocab)];
        (parts <= api::CHOICE_PARTS).then(|| sizes.map(|size| layout.place(rows * size)))
    }
}

/// Numbers that are found of a row: the largest logit, candidates and sums.
fn found(vocab: usize) -> usize {
    1 + MAX_CANDIDATES + vocab.div_ceil(PIECE)
}

impl Picks {
    /// Takes what is picked of `rows` rows.
    fn take<'p>(&mut self, rows: usize, picks: &mut dyn Iterator<Item = Pick<'p>>) -> Result<&mut Self> {
        self.wanted.clear();
        for (row, pick) in picks.enumerate() {
            below("picks of rows", row, rows)?;
            below("candidates", pick.candidates, MAX_CANDIDATES + 1)?;
            let mask = pick.mask.map(|words| &words[..words.len().min(self.words)]);
            self.wanted.extend([pick.candidates as i32, mask.map_or(-1, |words| words.len() as i32)]);
            if let Some(words) = mask.filter(|_| pick.candidates > 0) {
                self.memory.upload_numbers(self.masks + 4 * row * self.words, words)?;
            }
        }
        equal("picks of rows", self.wanted.len() / 2, rows)?;
        self.memory.upload_numbers(0, &self.wanted)?;
        Ok(self)
    }
}

/// [`Backend::choose`](crate::Backend::choose).
pub(super) fn choose<'p>(
    device: &Device,
    choices: &mut [Choice],
    logits: &Buf,
    picks: &mut dyn Iterator<Item = Pick<'p>>,
    rows: &mut [f32],
) -> Result<()> {
    equal("choices of rows", choices.len(), logits.rows())?;
    equal("elements to read", rows.len(), logits.rows() * logits.cols)?;
    let Some(desk) = &logits.desk else {
        logits.download(rows)?;
        return choice::of_rows(choices, rows, picks);
    };
    let mut on = desk.picks.borrow_mut();
    let Picks { memory, masks, wanted, found, .. } = on.take(choices.len(), picks)?;
    let found = &mut found[..choices.len() * desk.found];
    if wanted.chunks_exact(2).any(|wanted| wanted[0] > 0) {
        let [highest, best, found_at] = desk.places.map(|at| logits.place(at));
        let operand = api::Choices {
            wanted: memory.at(0).cast(),
            masks: memory.at(*masks).cast(),
            highest: highest.cast(),
            best: best.cast(),
            found: found_at.cast(),
        };
        let x = api::Rows { rows: choices.len() as i32, ..logits.operand() };
        // SAFETY: the buffer has these rows and the desk room for as many; masks have the words that are told.
        device.call("choose", |api, d| unsafe { (api.choose)(d, &x, &operand) })?;
        logits.download_from(desk.places[2], found)?;
    }
    let found = found.chunks_exact(desk.found).zip(wanted.chunks_exact(2));
    let out = rows.chunks_exact_mut(logits.cols);
    for (row, ((choice, (found, wanted)), out)) in choices.iter_mut().zip(found).zip(out).enumerate() {
        let (ranks, sums) = found[1..].split_at(MAX_CANDIDATES);
        let highest = if wanted[0] > 0 { f32::from_bits(found[0] as u32) } else { f32::INFINITY };
        let sums = sums.iter().map(|&bits| f64::from_bits(bits));
        choice.set(highest, sums, ranks[..wanted[0] as usize].iter().copied());
        if !choice.is_clear() {
            logits.download_row(row, out)?;
        }
    }
    Ok(())
}
