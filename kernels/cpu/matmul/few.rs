//! Products with few rows: weights are unpacked in registers as they stream by.

// Registers are numbered: an iterator over them is not inlined for certain, and then they are in memory.
#![allow(clippy::needless_range_loop)]

use super::{Kernel, Task};
use crate::cpu::codes::Codes;
use crate::cpu::integers::Integers;
use crate::cpu::panel::packed;
use crate::cpu::quantized::{RUN, STRIP};
use crate::cpu::scales::Scales;
use std::marker::PhantomData;

/// A task of few rows.
pub(super) struct Few<'a, C, S>(pub(super) Task<'a>, pub(super) PhantomData<(C, S)>);

impl<C: Codes, S: Scales> Kernel for Few<'_, C, S> {
    #[inline(always)]
    fn run<V: Integers>(self) {
        for (p, panel) in self.0.weights.chunks_exact(self.0.part.panel_bytes).enumerate() {
            let mut r = 0;
            while r < self.0.pairs.len() {
                // Conditions on constants first: what an instruction set has no registers for is not compiled.
                let left = STRIP.min(self.0.pairs.len() - r);
                r += if V::ROWS >= 8 && left >= 8 {
                    self.rows::<V, 8>(p, panel, r)
                } else if V::ROWS >= 4 && left >= 4 {
                    self.rows::<V, 4>(p, panel, r)
                } else if V::ROWS >= 2 && left >= 2 {
                    self.rows::<V, 2>(p, panel, r)
                } else {
                    self.rows::<V, 1>(p, panel, r)
                };
            }
        }
    }
}

impl<C: Codes, S: Scales> Few<'_, C, S> {
    /// `R` rows from `first` with a packed panel; returns `R`.
    #[inline(always)]
    fn rows<V: Integers, const R: usize>(&self, p: usize, panel: &[u8], first: usize) -> usize {
        let x = self.0.quantized.tile(self.0.row + first, 0, self.0.cols / RUN);
        assert!(first % STRIP + R <= x.height(), "rows beyond their strip");
        // SAFETY: this is compiled into `Isa::run`'s function for `V`; rows are checked above.
        unsafe {
            let sums = packed::<V, C, S, R, true>([V::zero(); R], panel, x, first % STRIP);
            for r in 0..R {
                self.0.put(p, first + r, sums[r]);
            }
        }
        R
    }
}
