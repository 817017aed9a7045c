//! Products with many rows on the matrix unit.
//!
//! A block of weights is unpacked once into a core's second cache and multiplied with every tile of rows.

// Registers are numbered: an iterator over them is not inlined for certain, and then they are in memory.
#![allow(clippy::needless_range_loop)]

use super::{Kernel, Task};
use crate::cpu::amx;
use crate::cpu::codes::Codes;
use crate::cpu::integers::Integers;
use crate::cpu::packed::chunk_bytes;
use crate::cpu::panel::Add;
use crate::cpu::quantized::{TILE, Tile, Unit};
use crate::cpu::scales::Scales;
use crate::cpu::unpacked::{inputs_at_once, unpack, unpacked_bytes};
use std::marker::PhantomData;

/// A task of many rows.
pub(super) struct Tiles<'a, C, S> {
    pub(super) task: Task<'a>,
    pub(super) layout: PhantomData<(C, S)>,
}

impl<C: Codes, S: Scales> Kernel for Tiles<'_, C, S> {
    #[inline(always)]
    fn run<V: Integers>(mut self) {
        if !V::TILES {
            return; // No processor with this instruction set has the unit, so nobody comes here.
        }
        let panel_bytes = self.task.part.panel_bytes;
        let panels = self.task.weights.len() / panel_bytes;
        let _configured = amx::Configured::new(S::Unit::step::<C, S>());
        let scratch = std::mem::take(&mut self.task.scratch);
        let at_once = inputs_at_once(self.task.cols);
        for input in (0..self.task.cols).step_by(at_once) {
            let inputs = at_once.min(self.task.cols - input);
            let size = unpacked_bytes::<S>(inputs);
            let chunk = const { chunk_bytes::<C, S>() };
            for (panel, to) in self.task.weights.chunks_exact(panel_bytes).zip(scratch.chunks_exact_mut(size))
            {
                let packed = &panel[input / S::CHUNK * chunk..][..inputs / S::CHUNK * chunk];
                // SAFETY: this is compiled into `Isa::run`'s function for `V`.
                unsafe { unpack::<V, C, S>(packed, to, true) };
            }
            let scratch = &scratch[..panels * size];
            let block = Block { scratch, size, input, inputs };
            // SAFETY: as above, and tiles are configured.
            unsafe { self.block::<V>(&block) };
        }
    }
}

/// Unpacked weights: some inputs of all panels of a task.
struct Block<'a> {
    scratch: &'a [u8],
    /// Bytes of one panel.
    size: usize,
    /// The first input, and how many.
    input: usize,
    inputs: usize,
}

impl<C: Codes, S: Scales> Tiles<'_, C, S> {
    /// The tile of rows that begins with `row`.
    #[inline(always)]
    fn x(&self, block: &Block<'_>, row: usize) -> Tile<'_, S::Unit> {
        // What lies in rows that are not used goes nowhere.
        S::Unit::of(self.task.activations)
            .tile(self.task.row + row, block.input, block.inputs)
            .whole::<TILE>()
    }

    /// Every row with every panel of the block with two tiles of rows and two panels at a time.
    ///
    /// # Safety
    /// As for [`amx::block`].
    #[inline(always)]
    unsafe fn block<V: Integers>(&self, block: &Block<'_>) {
        let (rows, fresh) = (self.task.pairs.len(), block.input == 0);
        let panels = block.scratch.len() / block.size;
        let mut products = amx::Products::new();
        for row in (0..rows).step_by(2 * TILE) {
            let both = row + TILE < rows;
            let x = [self.x(block, row), self.x(block, if both { row + TILE } else { row })];
            for p in (0..panels).step_by(2) {
                // A last panel without a neighbour is its own, whose outputs are dropped.
                let next = (p + 1).min(panels - 1);
                let weights = [
                    &block.scratch[p * block.size..][..block.size],
                    &block.scratch[next * block.size..][..block.size],
                ];
                // SAFETY: the caller's promise.
                unsafe {
                    let mut sums = [[V::zero(); TILE]; 4];
                    if !fresh {
                        for c in 0..4 {
                            for r in 0..TILE.min(rows.saturating_sub(row + c / 2 * TILE)) {
                                sums[c][r] = self.task.get([p, next][c % 2], row + c / 2 * TILE + r);
                            }
                        }
                    }
                    if both {
                        amx::block::<V, C, S, true>(&mut sums, weights, x, block.inputs, &mut products);
                    } else {
                        amx::block::<V, C, S, false>(&mut sums, weights, x, block.inputs, &mut products);
                    }
                    for c in 0..if next == p { 1 } else { 2 } {
                        for r in 0..(2 * TILE).min(rows - row) {
                            self.task.put(p + c, row + r, sums[r / TILE * 2 + c][r % TILE]);
                        }
                    }
                }
            }
        }
    }
}
