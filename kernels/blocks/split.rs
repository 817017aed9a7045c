//! A block taken apart: codes, half-precision scales and small integer scales, before any arithmetic.
//!
//! Devices that lay weights out anew start from here. Weight `i` of a block is
//! `scale(i) · (code(i) - bias) + min(i)`, see the types' definitions.

use super::BlockType;

/// The parts of one block of a quantized type.
#[derive(Clone, Debug)]
pub(crate) struct Split {
    /// Codes, not negative: a type's constant offset is still in them. Of IQ4 types, indices into the table.
    pub(crate) codes: [u8; 256],
    /// Half-precision scale, little endian.
    pub(crate) d: [u8; 2],
    /// Half-precision scale of the minima, or the minimum itself; little endian.
    pub(crate) m: [u8; 2],
    /// Integer scales of runs, as two's complement where signed.
    pub(crate) scales: [u8; 16],
    /// Integer minima of runs.
    pub(crate) mins: [u8; 16],
}

impl Split {
    pub(crate) fn new() -> Self {
        Split { codes: [0; 256], d: [0; 2], m: [0; 2], scales: [0; 16], mins: [0; 16] }
    }
}

impl BlockType {
    /// Takes one block apart. The float types have no parts: they leave `to` as it was.
    #[inline(always)]
    pub(crate) fn split(self, b: &[u8], to: &mut Split) {
        match self {
            BlockType::F32 | BlockType::F16 | BlockType::BF16 => {}
            BlockType::Q4_0 | BlockType::IQ4_NL => nibbles(&b[2..18], &mut to.codes),
            BlockType::Q4_1 => nibbles(&b[4..20], &mut to.codes),
            BlockType::Q5_0 => five(&b[2..6], &b[6..22], &mut to.codes),
            BlockType::Q5_1 => five(&b[4..8], &b[8..24], &mut to.codes),
            BlockType::Q8_0 => {
                for (code, q) in to.codes.iter_mut().zip(&b[2..34]) {
                    *code = q ^ 0x80;
                }
            }
            BlockType::Q2_K => {
                pairs(&b[16..80], &mut to.codes);
                for (i, s) in b[..16].iter().enumerate() {
                    (to.scales[i], to.mins[i]) = (s & 15, s >> 4);
                }
            }
            BlockType::Q3_K => q3_k(b, to),
            BlockType::Q4_K => {
                k_nibbles(&b[16..144], &mut to.codes);
                k_scales(&b[4..16], to);
            }
            BlockType::Q5_K => {
                k_nibbles(&b[48..176], &mut to.codes);
                for (run, codes) in to.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                    for (code, h) in codes.iter_mut().zip(&b[16..48]) {
                        *code |= (h >> run & 1) << 4;
                    }
                }
                k_scales(&b[4..16], to);
            }
            BlockType::Q6_K => q6_k(b, to),
            BlockType::IQ4_XS => iq4_xs(b, to),
        }
        let half = |at: usize| [b[at], b[at + 1]];
        (to.d, to.m) = match self {
            BlockType::F32 | BlockType::F16 | BlockType::BF16 => ([0; 2], [0; 2]),
            BlockType::Q2_K => (half(80), half(82)),
            BlockType::Q3_K => (half(108), [0; 2]),
            BlockType::Q6_K => (half(208), [0; 2]),
            BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4_K | BlockType::Q5_K => (half(0), half(2)),
            _ => (half(0), [0; 2]),
        };
    }
}

/// Byte `l` holds code `l` in its low and code `l + 16` in its high half.
#[inline(always)]
fn nibbles(q: &[u8], codes: &mut [u8]) {
    for l in 0..16 {
        codes[l] = q[l] & 15;
        codes[l + 16] = q[l] >> 4;
    }
}

#[inline(always)]
fn five(h: &[u8], q: &[u8], codes: &mut [u8; 256]) {
    nibbles(q, codes);
    let h = u32::from_le_bytes([h[0], h[1], h[2], h[3]]);
    for (l, code) in codes[..32].iter_mut().enumerate() {
        *code |= (h >> l & 1) as u8 * 16;
    }
}

/// Byte `32i + l` holds weight `l` of run `2i` in its low and of run `2i + 1` in its high half.
#[inline(always)]
fn k_nibbles(q: &[u8], codes: &mut [u8; 256]) {
    for (i, codes) in codes.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        for l in 0..32 {
            codes[l] = q[32 * i + l] & 15;
            codes[32 + l] = q[32 * i + l] >> 4;
        }
    }
}

/// Bits `2j` and `2j + 1` of byte `l` of each half are weight `32j + l` of the half.
#[inline(always)]
fn pairs(q: &[u8], codes: &mut [u8; 256]) {
    for (run, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (q, shift) = (&q[32 * (run / 4)..][..32], run % 4 * 2);
        for (code, q) in codes.iter_mut().zip(q) {
            *code = q >> shift & 3;
        }
    }
}

/// The eight six-bit scales and minima of Q4_K and Q5_K in their twelve bytes, see `k::scale_min`.
#[inline(always)]
fn k_scales(s: &[u8], to: &mut Split) {
    for j in 0..4 {
        to.scales[j] = s[j] & 63;
        to.mins[j] = s[j + 4] & 63;
        to.scales[j + 4] = s[j + 8] & 15 | s[j] >> 6 << 4;
        to.mins[j + 4] = s[j + 8] >> 4 | s[j + 4] >> 6 << 4;
    }
}

#[inline(always)]
fn q3_k(b: &[u8], to: &mut Split) {
    pairs(&b[32..96], &mut to.codes);
    for (j, codes) in to.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (code, h) in codes.iter_mut().zip(&b[..32]) {
            *code |= (h >> j & 1) << 2;
        }
    }
    let s = &b[96..108];
    for (run, scale) in to.scales.iter_mut().enumerate() {
        let low = s[run % 8] >> (run / 8 * 4) & 15;
        let high = s[8 + run % 4] >> (run / 4 * 2) & 3;
        *scale = (low | high << 4).wrapping_sub(32);
    }
}

#[inline(always)]
fn q6_k(b: &[u8], to: &mut Split) {
    for (j, codes) in to.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (q, nibble) = (&b[32 * (j / 4 * 2 + j % 2)..][..32], j % 4 / 2 * 4);
        let (h, shift) = (&b[128 + 32 * (j / 4)..][..32], j % 4 * 2);
        for l in 0..32 {
            codes[l] = q[l] >> nibble & 15 | (h[l] >> shift & 3) << 4;
        }
    }
    to.scales.copy_from_slice(&b[192..208]);
}

#[inline(always)]
fn iq4_xs(b: &[u8], to: &mut Split) {
    let high = u16::from_le_bytes([b[2], b[3]]);
    for run in 0..8 {
        let s = b[4 + run / 2] >> (run % 2 * 4) & 15;
        let h = (high >> (2 * run) & 3) as u8;
        to.scales[run] = (s | h << 4).wrapping_sub(32);
        nibbles(&b[8 + 16 * run..][..16], &mut to.codes[32 * run..]);
    }
}
