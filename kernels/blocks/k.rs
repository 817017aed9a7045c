//! The K types: blocks of 256 weights, whose runs of 16 or 32 weights have small integer scales of
//! their own under one or two half-precision scales.
//!
//! The inner loops go over 32 weights even where scales belong to 16, because those are the loops that
//! compilers turn into vector instructions.

use super::half_at;

/// Q2_K: `s: [u8; 16]`, `q: [u2; 256]`, `d: f16`, `m: f16`.
///
/// Run `i` of 16 weights: weight = d · (s[i] & 15) · q − m · (s[i] >> 4). In each half of the block (128
/// weights, 32 bytes of q), bits `2j` and `2j + 1` of byte `l` are weight `32j + l`.
#[inline(always)]
pub(super) fn q2_k(b: &[u8; 84], out: &mut [f32; 256]) {
    let (d, m) = (half_at(b, 80), half_at(b, 82));
    let (s, q) = (&b[..16], &b[16..80]);
    for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (s0, s1) = (s[2 * j], s[2 * j + 1]);
        let scales = (d * f32::from(s0 & 15), d * f32::from(s1 & 15));
        let mins = (m * f32::from(s0 >> 4), m * f32::from(s1 >> 4));
        let (q, shift) = (&q.as_chunks::<32>().0[j / 4], j % 4 * 2);
        for l in 0..32 {
            out[l] = either(l, scales) * f32::from(q[l] >> shift & 3) - either(l, mins);
        }
    }
}

/// The scale of weight `l` of 32, of which the first 16 have scale `a` and the others `b`.
#[inline(always)]
fn either(l: usize, (a, b): (f32, f32)) -> f32 {
    if l < 16 { a } else { b }
}

/// Q3_K: `h: [u1; 256]`, `q: [u2; 256]`, `s: [u6; 16]`, `d: f16`.
///
/// Run `i` of 16 weights: weight = d · (s[i] − 32) · (q − 4 · (1 − h)). `q` lies as in Q2_K; bit `j` of
/// byte `l` of `h` is weight `32j + l`. The low four bits of s[i] are half of byte `i % 8` (low half for
/// i < 8), its high two bits are bits `i / 4 · 2` and up of byte `8 + i % 4`.
#[inline(always)]
pub(super) fn q3_k(b: &[u8; 110], out: &mut [f32; 256]) {
    let d = half_at(b, 108);
    let (h, q, s) = (&b[..32], &b[32..96], &b[96..108]);
    let scale = |run: usize| {
        let low = s[run % 8] >> (run / 8 * 4) & 15;
        let high = s[8 + run % 4] >> (run / 4 * 2) & 3;
        d * f32::from((low | high << 4) as i8 - 32)
    };
    for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scales = (scale(2 * j), scale(2 * j + 1));
        let (q, shift) = (&q.as_chunks::<32>().0[j / 4], j % 4 * 2);
        for l in 0..32 {
            let three = q[l] >> shift & 3 | (h[l] >> j & 1) << 2;
            out[l] = either(l, scales) * f32::from(three as i8 - 4);
        }
    }
}

/// The scale and the minimum of run `j` of 32 weights in Q4_K and Q5_K: eight and eight six-bit numbers
/// in twelve bytes. The first four of each are the low six bits of bytes 0 to 3 and 4 to 7; the others
/// have their low four bits in bytes 8 to 11 and their high two bits on top of those first eight bytes.
#[inline(always)]
fn scale_min(s: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (s[j] & 63, s[j + 4] & 63)
    } else {
        (s[j + 4] & 15 | s[j - 4] >> 6 << 4, s[j + 4] >> 4 | s[j] >> 6 << 4)
    };
    (f32::from(scale), f32::from(min))
}

/// Q4_K: `d: f16`, `m: f16`, `s: [u6; 16]`, `q: [u4; 256]`.
///
/// Run `j` of 32 weights: weight = d · scale(j) · q − m · min(j). Byte `32i + l` of q holds weight `l` of
/// run `2i` in its low and of run `2i + 1` in its high half.
#[inline(always)]
pub(super) fn q4_k(b: &[u8; 144], out: &mut [f32; 256]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    let (s, q) = (&b[4..16], &b[16..]);
    for (run, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_min(s, run);
        let (scale, min) = (d * scale, m * min);
        let (q, shift) = (&q.as_chunks::<32>().0[run / 2], run % 2 * 4);
        for l in 0..32 {
            out[l] = scale * f32::from(q[l] >> shift & 15) - min;
        }
    }
}

/// Q5_K: `d: f16`, `m: f16`, `s: [u6; 16]`, `h: [u1; 256]`, `q: [u4; 256]`.
///
/// As Q4_K, with a fifth bit for each weight: bit `j` of byte `l` of h is weight `l` of run `j`.
#[inline(always)]
pub(super) fn q5_k(b: &[u8; 176], out: &mut [f32; 256]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    let (s, h, q) = (&b[4..16], &b[16..48], &b[48..]);
    for (run, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_min(s, run);
        let (scale, min) = (d * scale, m * min);
        let (q, shift) = (&q.as_chunks::<32>().0[run / 2], run % 2 * 4);
        for l in 0..32 {
            let five = q[l] >> shift & 15 | (h[l] >> run & 1) << 4;
            out[l] = scale * f32::from(five) - min;
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
    let (q, h, s) = (&b[..128], &b[128..192], &b[192..208]);
    for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scales = (d * f32::from(s[2 * j] as i8), d * f32::from(s[2 * j + 1] as i8));
        let (q, nibble) = (&q.as_chunks::<32>().0[j / 4 * 2 + j % 2], j % 4 / 2 * 4);
        let (h, shift) = (&h.as_chunks::<32>().0[j / 4], j % 4 * 2);
        for l in 0..32 {
            let six = q[l] >> nibble & 15 | (h[l] >> shift & 3) << 4;
            out[l] = either(l, scales) * f32::from(six as i8 - 32);
        }
    }
}
