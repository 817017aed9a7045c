//! Plain floats, and the types whose blocks are 32 weights with one scale.
//!
//! Where a block is 32 weights of 4 bits, byte `l` holds weight `l` in its low and weight `l + 16` in
//! its high half.

use super::half_at;

/// F32: little-endian floats.
#[inline(always)]
pub(super) fn f32(b: &[u8; 4], out: &mut [f32; 1]) {
    out[0] = f32::from_le_bytes(*b);
}

/// F16: little-endian half-precision floats. A run at a time, because the conversion is a vector
/// instruction on most machines.
#[inline(always)]
pub(super) fn f16(data: &[u8], out: &mut [f32]) {
    use half::slice::HalfFloatSliceExt;
    const RUN: usize = 64;
    for (bytes, out) in data.chunks(2 * RUN).zip(out.chunks_mut(RUN)) {
        let mut run = [half::f16::ZERO; RUN];
        for (h, b) in run.iter_mut().zip(bytes.as_chunks().0) {
            *h = half::f16::from_le_bytes(*b);
        }
        run[..out.len()].convert_to_f32_slice(out);
    }
}

/// BF16: the upper halves of little-endian floats.
#[inline(always)]
pub(super) fn bf16(b: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
}

/// Q4_0: `d: f16`, `q: [u4; 32]`; weight = d · (q − 8).
#[inline(always)]
pub(super) fn q4_0(b: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(b, 0);
    for l in 0..16 {
        let q = b[2 + l];
        out[l] = d * f32::from((q & 15) as i8 - 8);
        out[l + 16] = d * f32::from((q >> 4) as i8 - 8);
    }
}

/// Q4_1: `d: f16`, `m: f16`, `q: [u4; 32]`; weight = d · q + m.
#[inline(always)]
pub(super) fn q4_1(b: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    for l in 0..16 {
        let q = b[4 + l];
        out[l] = d * f32::from(q & 15) + m;
        out[l + 16] = d * f32::from(q >> 4) + m;
    }
}

/// Q5_0: `d: f16`, `h: u32`, `q: [u4; 32]`; bit `i` of `h` is the fifth bit of weight `i`;
/// weight = d · (q − 16).
#[inline(always)]
pub(super) fn q5_0(b: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(b, 0);
    let high = u32::from_le_bytes([b[2], b[3], b[4], b[5]]);
    for l in 0..16 {
        let (low, up) = fives(b[6 + l], high, l);
        out[l] = d * (low - 16) as f32;
        out[l + 16] = d * (up - 16) as f32;
    }
}

/// Q5_1: `d: f16`, `m: f16`, `h: u32`, `q: [u4; 32]`; `h` as in Q5_0; weight = d · q + m.
#[inline(always)]
pub(super) fn q5_1(b: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    let high = u32::from_le_bytes([b[4], b[5], b[6], b[7]]);
    for l in 0..16 {
        let (low, up) = fives(b[8 + l], high, l);
        out[l] = d * low as f32 + m;
        out[l + 16] = d * up as f32 + m;
    }
}

/// The five-bit numbers of weights `l` and `l + 16`.
#[inline(always)]
fn fives(q: u8, high: u32, l: usize) -> (i32, i32) {
    let low = u32::from(q & 15) | ((high >> l) & 1) << 4;
    let up = u32::from(q >> 4) | ((high >> (l + 16)) & 1) << 4;
    (low as i32, up as i32)
}

/// Q8_0: `d: f16`, `q: [i8; 32]`; weight = d · q.
#[inline(always)]
pub(super) fn q8_0(b: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(b, 0);
    for l in 0..32 {
        out[l] = d * f32::from(b[2 + l] as i8);
    }
}
