//! Products with many rows on the vector unit.
//!
//! Some inputs of one panel are unpacked into a core's first cache and multiplied with every row of a block, whose
//! same inputs stay in the second cache from one panel to the next.

// Registers are numbered: an iterator over them is not inlined for certain, and then they are in memory.
#![allow(clippy::needless_range_loop)]

use super::{Kernel, Task};
use crate::cpu::codes::Codes;
use crate::cpu::integers::Integers;
use crate::cpu::packed::chunk_bytes;
use crate::cpu::panel::{packed, rows_at_once};
use crate::cpu::parallel::floats_mut;
use crate::cpu::quantized::{STRIP, Tile, Unit};
use crate::cpu::scales::Scales;
use crate::cpu::unpacked::{MOST_UNPACKED, Opened, Unpacked, unpack, unpacked_bytes};
use crate::cpu::vector::{LANES, Lanes};
use std::marker::PhantomData;
use std::ops::Range;

/// Inputs that are unpacked at a time: 9 to 11 KB of weights, beside which a strip of rows has room. Twice as many, of as much
/// of the first cache as there is, if their rows are so few that beginning anew costs more.
const NEAR: usize = 512;
const NEAR_FEWER: usize = 2 * NEAR;

/// Rows of a block: 190 KB of them are used for every panel of a task.
const BLOCK: usize = 256;
const FEWER: usize = BLOCK / 2;

/// Panels of a task, at most: their sums with a block of rows stay in the second cache too.
pub(super) const PANELS: usize = 8;

/// Bytes of unpacked weights, at most, and of sums.
const WEIGHTS: usize = NEAR_FEWER / 256 * MOST_UNPACKED;
const SUMS: usize = PANELS * BLOCK * size_of::<Lanes>();

/// Bytes of scratch that a task needs.
pub(super) const SCRATCH: usize = WEIGHTS + SUMS;

/// A task of many rows.
pub(super) struct Many<'a, C, S> {
    pub(super) task: Task<'a>,
    pub(super) layout: PhantomData<(C, S)>,
}

/// Sums of a panel with one strip of rows.
type Strip = [Lanes; STRIP];

impl<C: Codes, S: Scales> Kernel for Many<'_, C, S> {
    const DOTS: bool = true;

    #[inline(always)]
    fn run<V: Integers>(mut self) {
        let (rows, cols, panel_bytes) = (self.task.pairs.len(), self.task.cols, self.task.part.panel_bytes);
        let (unpacked, sums) = std::mem::take(&mut self.task.scratch).split_at_mut(WEIGHTS);
        let sums = floats_mut(sums).as_chunks_mut::<LANES>().0.as_chunks_mut::<STRIP>().0;
        let near = if rows > FEWER { NEAR } else { NEAR_FEWER };
        for first in (0..rows).step_by(BLOCK) {
            let block = first..rows.min(first + BLOCK);
            let strips = block.len().div_ceil(STRIP);
            for input in (0..cols).step_by(near) {
                let inputs = input..cols.min(input + near);
                let sums = sums.chunks_exact_mut(strips);
                for (p, (panel, sums)) in self.task.weights.chunks_exact(panel_bytes).zip(sums).enumerate() {
                    self.panel::<V>((p, panel), unpacked, sums, &block, &inputs);
                }
            }
        }
    }
}

impl<C: Codes, S: Scales> Many<'_, C, S> {
    /// Some inputs of a packed panel with the strips of a block of rows.
    #[inline(always)]
    fn panel<V: Integers>(
        &self,
        (p, panel): (usize, &[u8]),
        unpacked: &mut [u8],
        sums: &mut [Strip],
        block: &Range<usize>,
        inputs: &Range<usize>,
    ) {
        let (chunk, at_once) = const { (chunk_bytes::<C, S>(), rows_at_once::<V, C, S>()) };
        let packed = &panel[inputs.start / S::CHUNK * chunk..][..inputs.len() / S::CHUNK * chunk];
        let unpacked = &mut unpacked[..unpacked_bytes::<S>(inputs.len())];
        // SAFETY: this is compiled into `Isa::run`'s function for `V`.
        unsafe { unpack::<V, C, S>(packed, unpacked, false) };
        // What lies in rows that are not used goes nowhere.
        let x = S::Unit::of(self.task.activations);
        let x = |row| x.tile(self.task.row + row, inputs.start, inputs.len()).whole::<STRIP>();
        for (first, sums) in block.clone().step_by(STRIP).zip(sums) {
            if inputs.start == 0 {
                *sums = [[0.0; LANES]; STRIP];
            }
            let next = first + STRIP;
            let x = [x(first), x(if next < block.end { next } else { first })];
            if at_once >= 8 {
                self.strip::<V, 8>(unpacked, x, sums);
            } else if at_once >= 4 {
                self.strip::<V, 4>(unpacked, x, sums);
            } else {
                self.strip::<V, 1>(unpacked, x, sums);
            }
            if inputs.end == self.task.cols {
                // One strip at a time: its outputs find their way to memory beside the products of the next.
                for (row, sums) in (first..block.end).zip(&*sums) {
                    // SAFETY: as above.
                    unsafe { self.task.put(p, row, V::load(sums)) };
                }
            }
        }
    }

    /// One strip of rows, `R` at a time; another comes next.
    #[inline(always)]
    fn strip<V: Integers, const R: usize>(
        &self,
        panel: &[u8],
        [x, next]: [Tile<'_, S::Unit>; 2],
        sums: &mut Strip,
    ) {
        for (i, sums) in sums.as_chunks_mut::<R>().0.iter_mut().enumerate() {
            // SAFETY: this is compiled into `Isa::run`'s function for `V`; `R` divides the strip.
            unsafe {
                let mut registers = [V::zero(); R];
                for r in 0..R {
                    registers[r] = V::load(&sums[r]);
                }
                let last = (i + 1) * R == STRIP;
                let next = if last { next.record(0) } else { x.record(0).from((i + 1) * R) };
                let x = (x, i * R, next);
                let registers = packed::<V, Unpacked<C>, Opened<S>, R, 0>(registers, panel, x, 0);
                for r in 0..R {
                    sums[r] = registers[r].store();
                }
            }
        }
    }
}
