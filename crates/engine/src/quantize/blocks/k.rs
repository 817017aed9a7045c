//! The K types: blocks of 256 weights in runs of 16 or 32, whose scales are small integers under one or two
//! half-precision scales. Layouts: `kernels/blocks/k.rs`.
//!
//! Each run is fitted by itself; then its scale (and minimum) is rounded to what the block can hold, and the
//! weights are rounded once more against that.

use half::f16;

use super::search::{Tries, affine, descent, round, symmetric, within};

const RUN: usize = 32;
const HALF_RUN: usize = 16;

/// A block of runs with scale and minimum: weight = d · scales\[run\] · level − m · mins\[run\].
struct Affine {
    d: f16,
    m: f16,
    scales: [u8; 16],
    mins: [u8; 16],
    levels: [u8; 256],
}

impl Affine {
    /// Fits runs of `LEN` weights with `0..=levels`; scales and minimums are integers in `0..=most`.
    /// `weigh` gives what the weights of a run count.
    #[inline(always)]
    fn fit<const LEN: usize>(
        x: &[f32; 256],
        levels: f32,
        most: f32,
        tries: Tries,
        weigh: impl Fn(&[f32; LEN]) -> [f32; LEN],
    ) -> Self {
        let (mut scales, mut mins) = ([0f32; 16], [0f32; 16]);
        for (run, x) in x.as_chunks::<LEN>().0.iter().enumerate() {
            (scales[run], mins[run]) = affine(x, &weigh(x), levels, tries);
        }
        let (d, scales) = shared(&scales, most);
        let (m, mins) = shared(&mins, most);
        let mut out = [0; 256];
        let rows = x.as_chunks::<LEN>().0.iter().zip(out.as_chunks_mut::<LEN>().0);
        for (run, (x, out)) in rows.enumerate() {
            let (scale, min) = (d.to_f32() * f32::from(scales[run]), m.to_f32() * f32::from(mins[run]));
            if scale > 0.0 {
                let inverse = 1.0 / scale;
                for i in 0..LEN {
                    out[i] = round(within((x[i] + min) * inverse, 0.0, levels)) as u8;
                }
            }
        }
        Self { d, m, scales, mins, levels: out }
    }

    /// Eight and eight six-bit numbers in twelve bytes: the first four of each in the low bits of bytes 0 to 3
    /// and 4 to 7; the low halves of the others in bytes 8 to 11, their high two bits on top of the first eight.
    fn packed_scales(&self) -> [u8; 12] {
        let mut out = [0; 12];
        for j in 0..4 {
            let (scale, min) = (self.scales[j + 4], self.mins[j + 4]);
            out[j] = self.scales[j] | scale >> 4 << 6;
            out[j + 4] = self.mins[j] | min >> 4 << 6;
            out[j + 8] = scale & 15 | min << 4;
        }
        out
    }
}

/// One half-precision scale for numbers not below zero, and the numbers in units of it, at most `most`.
fn shared(values: &[f32; 16], most: f32) -> (f16, [u8; 16]) {
    let largest = values.iter().fold(0f32, |a, &b| a.max(b));
    if largest <= 0.0 {
        return (f16::ZERO, [0; 16]);
    }
    let inverse = most / largest;
    (f16::from_f32(largest / most), values.map(|v| within(round(v * inverse), 0.0, most) as u8))
}

/// One half-precision scale for numbers of either sign, of which the largest becomes `-most`, and the numbers
/// in units of it, from `-most` to `most - 1`.
pub(super) fn shared_signed<const N: usize>(values: &[f32; N], most: f32) -> (f16, [i8; N]) {
    let largest = values.iter().fold(0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
    let d = f16::from_f32(-largest / most);
    if d == f16::ZERO {
        return (f16::ZERO, [0; N]);
    }
    let inverse = -most / largest;
    (d, values.map(|v| within(round(v * inverse), -most, most - 1.0) as i8))
}

/// The weights of runs of 16 as integers in `-levels..levels`, moved up by `levels`, given the runs' scales.
fn levels_of(x: &[f32; 256], d: f16, scales: &[i8; 16], levels: f32) -> [u8; 256] {
    let mut out = [levels as u8; 256];
    let rows = x.as_chunks::<HALF_RUN>().0.iter().zip(out.as_chunks_mut::<HALF_RUN>().0);
    for (&scale, (x, out)) in scales.iter().zip(rows) {
        let scale = d.to_f32() * f32::from(scale);
        if scale != 0.0 {
            let inverse = 1.0 / scale;
            for i in 0..HALF_RUN {
                out[i] = (round(within(x[i] * inverse, -levels, levels - 1.0)) + levels) as u8;
            }
        }
    }
    out
}

/// Weights count by their magnitude, and all of them by the run's mean.
#[inline(always)]
fn by_magnitude_and_mean(x: &[f32; RUN]) -> [f32; RUN] {
    let mean = (x.iter().map(|v| v * v).sum::<f32>() / RUN as f32).sqrt();
    x.map(|v| mean + v.abs())
}

pub(super) fn q2_k(x: &[f32; 256], out: &mut [u8; 84]) {
    let tries = Tries { first: -0.5, step: 0.1, count: 15, magnitude: true };
    let b = Affine::fit(x, 3.0, 15.0, tries, |x: &[f32; HALF_RUN]| x.map(f32::abs));
    for (out, (scale, min)) in out.iter_mut().zip(b.scales.iter().zip(&b.mins)) {
        *out = scale | min << 4;
    }
    two_bits(&b.levels, &mut out[16..80]);
    out[80..82].copy_from_slice(&b.d.to_le_bytes());
    out[82..84].copy_from_slice(&b.m.to_le_bytes());
}

/// Bits `2j` and `2j + 1` of byte `l` of each half are weight `32j + l` of that half's 128.
fn two_bits(levels: &[u8; 256], out: &mut [u8]) {
    for (levels, out) in levels.as_chunks::<128>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        for l in 0..32 {
            let two = |j: usize| (levels[32 * j + l] & 3) << (2 * j);
            out[l] = two(0) | two(1) | two(2) | two(3);
        }
    }
}

pub(super) fn q3_k(x: &[f32; 256], out: &mut [u8; 110]) {
    let mut scales = [0f32; 16];
    for (scale, x) in scales.iter_mut().zip(x.as_chunks::<HALF_RUN>().0) {
        *scale = descent(x, 4.0);
    }
    let (d, scales) = shared_signed(&scales, 32.0);
    let levels = levels_of(x, d, &scales, 4.0);
    out.fill(0);
    for (j, levels) in levels.as_chunks::<32>().0.iter().enumerate() {
        for l in 0..32 {
            out[l] |= levels[l] >> 2 << j;
        }
    }
    two_bits(&levels, &mut out[32..96]);
    for (run, scale) in scales.into_iter().enumerate() {
        let scale = (scale + 32) as u8;
        out[96 + run % 8] |= (scale & 15) << (run / 8 * 4);
        out[104 + run % 4] |= scale >> 4 << (run / 4 * 2);
    }
    out[108..].copy_from_slice(&d.to_le_bytes());
}

/// Byte `32i + l` holds weight `l` of run `2i` in its low and of run `2i + 1` in its high half.
fn four_bits(levels: &[u8; 256], out: &mut [u8]) {
    for (levels, out) in levels.as_chunks::<64>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        for l in 0..32 {
            out[l] = levels[l] & 15 | levels[l + 32] << 4;
        }
    }
}

pub(super) fn q4_k(x: &[f32; 256], out: &mut [u8; 144]) {
    let tries = Tries { first: -1.0, step: 0.1, count: 20, magnitude: false };
    let b = Affine::fit(x, 15.0, 63.0, tries, by_magnitude_and_mean);
    out[..2].copy_from_slice(&b.d.to_le_bytes());
    out[2..4].copy_from_slice(&b.m.to_le_bytes());
    out[4..16].copy_from_slice(&b.packed_scales());
    four_bits(&b.levels, &mut out[16..]);
}

pub(super) fn q5_k(x: &[f32; 256], out: &mut [u8; 176]) {
    let tries = Tries { first: -0.5, step: 0.1, count: 15, magnitude: false };
    let b = Affine::fit(x, 31.0, 63.0, tries, by_magnitude_and_mean);
    out[..2].copy_from_slice(&b.d.to_le_bytes());
    out[2..4].copy_from_slice(&b.m.to_le_bytes());
    out[4..16].copy_from_slice(&b.packed_scales());
    let high = &mut out[16..48];
    high.fill(0);
    for (run, levels) in b.levels.as_chunks::<32>().0.iter().enumerate() {
        for l in 0..32 {
            high[l] |= levels[l] >> 4 << run;
        }
    }
    four_bits(&b.levels, &mut out[48..]);
}

pub(super) fn q6_k(x: &[f32; 256], out: &mut [u8; 210]) {
    let mut scales = [0f32; 16];
    for (scale, x) in scales.iter_mut().zip(x.as_chunks::<HALF_RUN>().0) {
        *scale = symmetric(x, -32.0, 0.1, 9, |v| within(round(v), -32.0, 31.0));
    }
    let (d, scales) = shared_signed(&scales, 128.0);
    let levels = levels_of(x, d, &scales, 32.0);
    let (low, rest) = out.split_at_mut(128);
    let (high, rest) = rest.split_at_mut(64);
    let halves = levels.as_chunks::<128>().0.iter();
    for (levels, (low, high)) in
        halves.zip(low.as_chunks_mut::<64>().0.iter_mut().zip(high.as_chunks_mut::<32>().0))
    {
        for l in 0..64 {
            low[l] = levels[l] & 15 | levels[l + 64] << 4;
        }
        for l in 0..32 {
            let two = |j: usize| levels[32 * j + l] >> 4 << (2 * j);
            high[l] = two(0) | two(1) | two(2) | two(3);
        }
    }
    for (out, scale) in rest.iter_mut().zip(scales) {
        *out = scale as u8;
    }
    rest[16..].copy_from_slice(&d.to_le_bytes());
}
