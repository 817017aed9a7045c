//! Products with few rows: weights are unpacked in registers as they stream by.

// Registers are numbered: an iterator over them is not inlined for certain, and then they are in memory.
#![allow(clippy::needless_range_loop)]

use super::{Kernel, Task};
use crate::cpu::codes::Codes;
use crate::cpu::integers::Integers;
use crate::cpu::panel::{AHEAD, packed, part_of_run, rows_at_once};
use crate::cpu::quantized::{STRIP, Unit};
use crate::cpu::scales::Scales;
use std::marker::PhantomData;

/// A task of few rows.
pub(super) struct Few<'a, C, S>(pub(super) Task<'a>, pub(super) PhantomData<(C, S)>);

impl<C: Codes, S: Scales> Kernel for Few<'_, C, S> {
    const DOTS: bool = true;

    #[inline(always)]
    fn run<V: Integers>(self) {
        let rows = self.0.pairs.len();
        let most = const { rows_at_once::<V, C, S>() };
        for (p, panel) in self.0.weights.chunks_exact(self.0.part.panel_bytes).enumerate() {
            let mut r = 0;
            while r < rows {
                // Conditions on constants first: what an instruction set has no registers for is not compiled.
                r += if most >= 8 && rows - r >= 8 {
                    self.pass::<V, 8>((p, panel), r)
                } else if most >= 4 && rows - r >= 4 {
                    self.pass::<V, 4>((p, panel), r)
                } else if most >= 2 && rows - r >= 2 {
                    self.pass::<V, 2>((p, panel), r)
                } else {
                    self.pass::<V, 1>((p, panel), r)
                };
            }
        }
    }
}

impl<C: Codes, S: Scales> Few<'_, C, S> {
    /// `R` rows from `first` with a packed panel; returns `R`. What the next pass uses is in a cache by then: where there
    /// are several, they ask for the next panel, each for a part of it, so that memory is busy all the time.
    #[inline(always)]
    fn pass<V: Integers, const R: usize>(&self, panel: (usize, &[u8]), first: usize) -> usize {
        let (rows, next) = (self.0.pairs.len(), self.0.part.panel_bytes);
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
        let tile = |row| S::Unit::of(self.0.activations).tile(self.0.row + row, 0, self.0.cols);
        let x = if R == STRIP { tile(first).whole::<STRIP>() } else { tile(first) };
        assert!(first % STRIP + R <= x.height(), "rows beyond their strip");
        let next = if first + R < self.0.pairs.len() { first + R } else { 0 };
        // SAFETY: this is compiled into `Isa::run`'s function for `V`; rows are checked above, and `next`
        // is one of its tile.
        unsafe {
            let x = (x, first % STRIP, tile(next).record(0).from(next % STRIP));
            let sums = packed::<V, C, S, R, PARTS>([V::zero(); R], panel, x, ahead);
            for r in 0..R {
                self.0.put(p, first + r, sums[r]);
            }
        }
        R
    }
}
