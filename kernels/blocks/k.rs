//! The K types: blocks of 256 weights, whose runs of 16 or 32 weights have small integer scales of
//! their own under one or two half-precision scales.

use super::half_at;

/// Q2_K: `s: [u8; 16]`, `q: [u2; 256]`, `d: f16`, `m: f16`.
///
/// Run `i` of 16 weights: weight = d · (s[i] & 15) · q − m · (s[i] >> 4). In each half of the block (128
/// weights, 32 bytes of q), bits `2j` and `2j + 1` of byte `l` are weight `32j + l`.
#[inline(always)]
pub(super) fn q2_k(b: &[u8; 84], out: &mut [f32; 256]) {
    let (d, m) = (half_at(b, 80), half_at(b, 82));
    for run in 0..16 {
        let scale = d * f32::from(b[run] & 15);
        let min = m * f32::from(b[run] >> 4);
        let (half, shift, first) = twos(run);
        for l in 0..16 {
            let q = (b[16 + 32 * half + first + l] >> shift) & 3;
            out[16 * run + l] = scale * f32::from(q) - min;
        }
    }
}

/// Where the two-bit numbers of run `run` of 16 lie: half of the block, shift, and first byte of 32.
#[inline(always)]
fn twos(run: usize) -> (usize, usize, usize) {
    (run / 8, run % 8 / 2 * 2, run % 2 * 16)
}

/// Q3_K: `h: [u1; 256]`, `q: [u2; 256]`, `s: [u6; 16]`, `d: f16`.
///
/// Run `i` of 16 weights: weight = d · (s[i] − 32) · (q − 4 · (1 − h)). `q` lies as in Q2_K; bit `j` of
/// byte `l` of `h` is weight `32j + l`. The low four bits of s[i] are half of byte `i % 8` (low half for
/// i < 8), its high two bits are bits `i / 4 · 2` and up of byte `8 + i % 4`.
#[inline(always)]
pub(super) fn q3_k(b: &[u8; 110], out: &mut [f32; 256]) {
    let d = half_at(b, 108);
    for run in 0..16 {
        let low = b[96 + run % 8] >> (run / 8 * 4) & 15;
        let high = b[104 + run % 4] >> (run / 4 * 2) & 3;
        let scale = d * f32::from((low | high << 4) as i8 - 32);
        let (half, shift, first) = twos(run);
        for l in 0..16 {
            let q = (b[32 + 32 * half + first + l] >> shift) & 3;
            let h = (b[first + l] >> (run / 2)) & 1;
            out[16 * run + l] = scale * f32::from((q | h << 2) as i8 - 4);
        }
    }
}

/// The scale and the minimum of run `j` of 32 weights in Q4_K and Q5_K: eight and eight six-bit numbers
/// in twelve bytes. The first four of each are the low six bits of bytes 0 to 3 and 4 to 7; the others
/// have their low four bits in bytes 8 to 11 and their high two bits on top of those first eight bytes.
#[inline(always)]
fn scale_min(s: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (s[j] & 63, s[j + 4] & 63)
    } else {
        (s[j + 4] & 15 | s[j - 4] >> 6 << 4, s[j + 4] >> 4 | s[j] >> 6 << 4)
    }
}

/// Q4_K: `d: f16`, `m: f16`, `s: [u6; 16]`, `q: [u4; 256]`.
///
/// Run `j` of 32 weights: weight = d · scale(j) · q − m · min(j). Byte `32i + l` of q holds weight `l` of
/// run `2i` in its low and of run `2i + 1` in its high half.
#[inline(always)]
pub(super) fn q4_k(b: &[u8; 144], out: &mut [f32; 256]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    for run in 0..8 {
        let (scale, min) = scale_min(&b[4..16], run);
        let (scale, min) = (d * f32::from(scale), m * f32::from(min));
        for l in 0..32 {
            let q = b[16 + run / 2 * 32 + l] >> (run % 2 * 4) & 15;
            out[32 * run + l] = scale * f32::from(q) - min;
        }
    }
}

/// Q5_K: `d: f16`, `m: f16`, `s: [u6; 16]`, `h: [u1; 256]`, `q: [u4; 256]`.
///
/// As Q4_K, with a fifth bit for each weight: bit `j` of byte `l` of h is weight `l` of run `j`.
#[inline(always)]
pub(super) fn q5_k(b: &[u8; 176], out: &mut [f32; 256]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    for run in 0..8 {
        let (scale, min) = scale_min(&b[4..16], run);
        let (scale, min) = (d * f32::from(scale), m * f32::from(min));
        for l in 0..32 {
            let q = b[48 + run / 2 * 32 + l] >> (run % 2 * 4) & 15;
            let h = b[16 + l] >> run & 1;
            out[32 * run + l] = scale * f32::from(q | h << 4) - min;
        }
    }
}

/// Q6_K: `q: [u4; 256]`, `h: [u2; 256]`, `s: [i8; 16]`, `d: f16`.
///
/// Run `i` of 16 weights: weight = d · s[i] · ((q | h << 4) − 32). In each half of the block (128 weights,
/// 64 bytes of q, 32 bytes of h) byte `l` of q holds weight `l` in its low and weight `l + 64` in its high
/// half; bits `2j` and `2j + 1` of byte `l` of h are weight `32j + l`.
#[inline(always)]
pub(super) fn q6_k(b: &[u8; 210], out: &mut [f32; 256]) {
    let d = half_at(b, 208);
    for run in 0..16 {
        let scale = d * f32::from(b[192 + run] as i8);
        let (half, shift, first) = twos(run);
        let (nibble, byte) = (run % 8 / 4 * 4, run % 4 * 16);
        for l in 0..16 {
            let q = b[64 * half + byte + l] >> nibble & 15;
            let h = b[128 + 32 * half + first + l] >> shift & 3;
            out[16 * run + l] = scale * f32::from((q | h << 4) as i8 - 32);
        }
    }
}
