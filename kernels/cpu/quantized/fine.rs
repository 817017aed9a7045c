//! Thirty-two inputs share a scale: their largest magnitude over 127, or over a little less where that rounds better.

// Registers are numbered: an iterator over them is not inlined for certain, and then they are in memory.
#![allow(clippy::needless_range_loop)]

use super::{Activations, Quantized, ROUND, RUN, Record, Rounded, TOGETHER, Unit, WORDS, halves};
use crate::cpu::integers::Integers;
use crate::cpu::vector::{LANES, Lanes};

/// For weights whose scales are floats. Beside the codes stand the scale, the scale times the sum of the codes, and
/// that sum as an integer, its sign changed.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cpu) struct Fine;

/// Codes of the largest magnitude that are tried. Each gives other roundings of the 32; the best of four has an error
/// about an eighth smaller than that of 127 alone.
const LARGEST: [f32; 4] = [127.0, 125.0, 123.0, 121.0];

/// [`LARGEST`] for each of the runs.
const TRIED: Lanes = {
    let mut tried = [0.0; LANES];
    let mut i = 0;
    while i < LANES {
        tried[i] = LARGEST[i % LARGEST.len()];
        i += 1;
    }
    tried
};

impl Unit for Fine {
    const INPUTS: usize = RUN;
    const WORDS: usize = 3;

    fn of(all: &Activations) -> &Quantized<Self> {
        &all.fine
    }

    #[inline(always)]
    unsafe fn round<V: Integers>(x: &[[f32; RUN]; TOGETHER]) -> Rounded {
        // SAFETY: the caller knows the instruction set.
        unsafe {
            let round = V::splat(ROUND);
            let choices = choose::<V>(x);
            let mut sums = [V::zero(); TOGETHER];
            let mut codes = [[[0; LANES]; 2]; TOGETHER];
            for i in 0..TOGETHER {
                let inverse = V::splat(choices[i].0);
                let [first, last] = halves::<V>(&x[i]);
                let (first, last) = (first.mul(inverse).add(round), last.mul(inverse).add(round));
                codes[i] = [first.lowest_bytes(), last.lowest_bytes()];
                sums[i] = first.sub(round).add(last.sub(round));
            }
            let mut words = [[0; 4]; WORDS];
            for (i, (words, sum)) in words.chunks_mut(Self::WORDS).zip(V::totals(sums)).enumerate() {
                // What is not a number has codes of zero.
                let (scale, sum) = (choices[i].1, sum as i32);
                words[0] = scale.to_le_bytes();
                words[1] = (scale * sum as f32).to_le_bytes();
                words[2] = (-sum).to_le_bytes();
            }
            Rounded { codes, words }
        }
    }
}

impl Record<'_, Fine> {
    /// The scale times the sum of the codes of row `r`.
    ///
    /// # Safety
    /// See [`quad`](Self::quad).
    #[inline(always)]
    pub(in crate::cpu) unsafe fn scaled_sum(&self, r: usize) -> f32 {
        // SAFETY: the caller's promise.
        f32::from_le_bytes(unsafe { self.word(1, r) })
    }

    /// The sum of the codes of row `r`, its sign changed.
    ///
    /// # Safety
    /// See [`quad`](Self::quad).
    #[inline(always)]
    pub(in crate::cpu) unsafe fn negative_sum(&self, r: usize) -> i32 {
        // SAFETY: the caller's promise.
        i32::from_le_bytes(unsafe { self.word(2, r) })
    }
}

/// Inverse and scale for each of four runs: those of [`LARGEST`] with the least error.
///
/// # Safety
/// As for [`Integers`].
#[inline(always)]
unsafe fn choose<V: Integers>(x: &[[f32; RUN]; TOGETHER]) -> [(f32, f32); TOGETHER] {
    let (mut largest, mut errors) = ([0.0; LANES], [0.0; LANES]);
    // SAFETY: the caller knows the instruction set.
    unsafe {
        let mut inputs = [[V::zero(); 2]; TOGETHER];
        for i in 0..TOGETHER {
            inputs[i] = halves(&x[i]);
        }
        for (largest, magnitude) in largest.as_chunks_mut().0.iter_mut().zip(V::magnitudes(inputs)) {
            *largest = [magnitude; LARGEST.len()];
        }
        let round = V::splat(ROUND);
        let scales = V::load(&largest).div(V::load(&TRIED));
        let inverses = V::splat(1.0).div(scales).zero_below(scales, V::splat(f32::from_bits(1))).store();
        for i in 0..TOGETHER {
            let x = halves::<V>(&x[i]);
            let mut sums = [V::zero(); LARGEST.len()];
            for tried in 0..LARGEST.len() {
                let inverse = V::splat(inverses[i * LARGEST.len() + tried]);
                for h in 0..2 {
                    let exact = x[h].mul(inverse);
                    let error = exact.sub(exact.add(round).sub(round));
                    // In 1024ths: whole numbers, whose squares have one sum in any order, below 2^24.
                    let parts = error.times_plus(V::splat(1024.0), round).sub(round);
                    sums[tried] = parts.times_plus(parts, sums[tried]);
                }
            }
            errors[i * LARGEST.len()..][..LARGEST.len()].copy_from_slice(&V::totals(sums));
        }
        let errors = V::load(&errors).mul(scales).mul(scales).store();
        let scales = scales.store();
        let mut best = [(0.0, 0.0); TOGETHER];
        for i in 0..TOGETHER {
            // Errors compare as their bits do, and of equal ones the first counts. No branch: none could be foreseen.
            let mut least = u64::MAX;
            for tried in i * LARGEST.len()..(i + 1) * LARGEST.len() {
                least = least.min(u64::from(errors[tried].to_bits()) << 32 | tried as u64);
            }
            let tried = least as usize % LANES;
            best[i] = (inverses[tried], scales[tried]);
        }
        best
    }
}
