//! Products with few rows: weights are unpacked in registers as they stream by.

// Registers are numbered: an iterator over them is not inlined for certain, and then they are in memory.
#![allow(clippy::needless_range_loop)]

use super::{Kernel, Task};
use crate::cpu::codes::Codes;
use crate::cpu::integers::Integers;
use crate::cpu::panel::{AHEAD, light, packed, packed_two, part_of_run, rows_at_once};
use crate::cpu::quantized::{STRIP, Unit};
use crate::cpu::scales::Scales;
use std::marker::PhantomData;

/// A task of few rows.
pub(super) struct Few<'a, C, S> {
    pub(super) task: Task<'a>,
    /// Whether two panels are taken at a time where that is possible.
    pub(super) paired: bool,
    pub(super) layout: PhantomData<(C, S)>,
}

/// Rows that are taken at a time with two panels.
const OF_TWO: usize = 4;

impl<C: Codes, S: Scales> Kernel for Few<'_, C, S> {
    const DOTS: bool = true;

    #[inline(always)]
    fn run<V: Integers>(self) {
        let (rows, bytes) = (self.task.pairs.len(), self.task.part.panel_bytes);
        let panels = self.task.weights.chunks_exact(bytes);
        let mut paired = 0;
        // One pass alone would wait for memory.
        if const { V::TWO_PANELS && light::<C, S>() } && self.paired && rows >= STRIP {
            paired = panels.len() / 2 * 2;
            for (p, two) in self.task.weights.chunks_exact(2 * bytes).enumerate() {
                let two = two.split_at(bytes);
                for first in (0..=rows - OF_TWO).step_by(OF_TWO) {
                    self.pass_of_two::<V>(2 * p, [two.0, two.1], first);
                }
                self.panel::<V>((2 * p, two.0), rows / OF_TWO * OF_TWO);
                self.panel::<V>((2 * p + 1, two.1), rows / OF_TWO * OF_TWO);
            }
        }
        for (p, panel) in panels.enumerate().skip(paired) {
            self.panel::<V>((p, panel), 0);
        }
    }
}

impl<C: Codes, S: Scales> Few<'_, C, S> {
    /// The rows from `r` on with a packed panel.
    #[inline(always)]
    fn panel<V: Integers>(&self, panel: (usize, &[u8]), mut r: usize) {
        let (rows, most) = (self.task.pairs.len(), const { rows_at_once::<V, C, S>() });
        while r < rows {
            // Conditions on constants first: what an instruction set has no registers for is not compiled.
            r += if most >= 8 && rows - r >= 8 {
                self.pass::<V, 8>(panel, r)
            } else if most >= 4 && rows - r >= 4 {
                self.pass::<V, 4>(panel, r)
            } else if most >= 2 && rows - r >= 2 {
                self.pass::<V, 2>(panel, r)
            } else {
                self.pass::<V, 1>(panel, r)
            };
        }
    }

    /// `R` rows from `first` with a packed panel; returns `R`. What the next pass uses is in a cache by then: where there
    /// are several, they ask for the next panel, each for a part of it, so that memory is busy all the time.
    #[inline(always)]
    fn pass<V: Integers, const R: usize>(&self, panel: (usize, &[u8]), first: usize) -> usize {
        let (rows, next) = (self.task.pairs.len(), self.task.part.panel_bytes);
        let ahead = |parts| next + part_of_run::<C>(first / R % parts, parts);
        if const { !V::ASKS || R < rows_at_once::<V, C, S>() } || rows < 2 * R {
            self.rows::<V, R, 1>(panel, first, if rows > R { next } else { AHEAD })
        } else if rows < 4 * R {
            self.rows::<V, R, 2>(panel, first, ahead(2))
        } else {
            self.rows::<V, R, 4>(panel, first, ahead(4))
        }
    }

    /// The same, the weights `ahead` bytes further on asked for in `PARTS` parts.
    #[inline(always)]
    fn rows<V: Integers, const R: usize, const PARTS: usize>(
        &self,
        (p, panel): (usize, &[u8]),
        first: usize,
        ahead: usize,
    ) -> usize {
        let tile = |row| S::Unit::of(self.task.activations).tile(self.task.row + row, 0, self.task.cols);
        let x = if R == STRIP { tile(first).whole::<STRIP>() } else { tile(first) };
        assert!(first % STRIP + R <= x.height(), "rows beyond their strip");
        let next = if first + R < self.task.pairs.len() { first + R } else { 0 };
        // SAFETY: this is compiled into `Isa::run`'s function for `V`; rows are checked above, and `next`
        // is one of its tile.
        unsafe {
            let x = (x, first % STRIP, tile(next).record(0).from(next % STRIP));
            let sums = packed::<V, C, S, R, PARTS>([V::zero(); R], panel, x, ahead);
            for r in 0..R {
                self.task.put(p, first + r, sums[r]);
            }
        }
        R
    }

    /// Rows from `first` with two panels.
    #[inline(always)]
    fn pass_of_two<V: Integers>(&self, p: usize, panels: [&[u8]; 2], first: usize) {
        let next = 2 * self.task.part.panel_bytes;
        let ahead = |parts| next + part_of_run::<C>(first / OF_TWO % parts, parts);
        if self.task.pairs.len() < 4 * OF_TWO {
            self.rows_of_two::<V, 2>((p, panels), first, ahead(2));
        } else {
            self.rows_of_two::<V, 4>((p, panels), first, ahead(4));
        }
    }

    /// The same, the weights `ahead` bytes further on asked for in `PARTS` parts.
    #[inline(always)]
    fn rows_of_two<V: Integers, const PARTS: usize>(
        &self,
        (p, panels): (usize, [&[u8]; 2]),
        first: usize,
        ahead: usize,
    ) {
        let tile = |row| S::Unit::of(self.task.activations).tile(self.task.row + row, 0, self.task.cols);
        let x = tile(first).whole::<STRIP>();
        assert!(first % STRIP + OF_TWO <= x.height(), "rows beyond their strip");
        let next = if first + OF_TWO < self.task.pairs.len() { first + OF_TWO } else { 0 };
        // SAFETY: this is compiled into `Isa::run`'s function for `V`; rows are checked above, and `next`
        // is one of its tile.
        unsafe {
            let x = (x, first % STRIP, tile(next).record(0).from(next % STRIP));
            let sums = packed_two::<V, C, S, OF_TWO, PARTS>([[V::zero(); OF_TWO]; 2], panels, x, ahead);
            for i in 0..2 {
                for r in 0..OF_TWO {
                    self.task.put(p + i, first + r, sums[i][r]);
                }
            }
        }
    }
}
