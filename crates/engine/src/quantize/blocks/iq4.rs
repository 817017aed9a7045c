//! The types whose four-bit codes stand for the values of a fixed, uneven table. Layouts:
//! `kernels/blocks/iq4.rs`.

use half::f16;

use super::{k::shared_signed, search::symmetric};

/// What the sixteen codes stand for, times the block's scale.
const VALUES: [f32; 16] =
    [-127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.];

/// Tries on either side of the obvious scale.
const TRIES: i8 = 7;

/// The value of the table that is nearest to `v`. A sum over the steps between values, because that is what
/// vectors can do.
#[inline(always)]
fn value(v: f32) -> f32 {
    let mut out = VALUES[0];
    for pair in VALUES.windows(2) {
        out += if v + v > pair[0] + pair[1] { pair[1] - pair[0] } else { 0.0 };
    }
    out
}

/// The code of [`value`].
#[inline(always)]
fn code(v: f32) -> u8 {
    VALUES.windows(2).map(|pair| u8::from(v + v > pair[0] + pair[1])).sum()
}

/// The codes of 32 weights, the first half of them in the low halves of the bytes.
fn codes(x: &[f32; 32], scale: f32, out: &mut [u8]) {
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    for l in 0..16 {
        out[l] = code(x[l] * inverse) | code(x[l + 16] * inverse) << 4;
    }
}

pub(super) fn iq4_nl(x: &[f32; 32], out: &mut [u8; 18]) {
    let scale = symmetric(x, VALUES[0], 1.0, TRIES, value);
    out[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    codes(x, scale, &mut out[2..]);
}

pub(super) fn iq4_xs(x: &[f32; 256], out: &mut [u8; 136]) {
    let mut scales = [0f32; 8];
    for (scale, x) in scales.iter_mut().zip(x.as_chunks().0) {
        *scale = symmetric::<32>(x, VALUES[0], 1.0, TRIES, value);
    }
    let (d, scales) = shared_signed(&scales, 32.0);
    out[..2].copy_from_slice(&d.to_le_bytes());
    let mut high = 0u16;
    out[4..8].fill(0);
    for (run, (scale, x)) in scales.into_iter().zip(x.as_chunks::<32>().0).enumerate() {
        let six = (scale + 32) as u8;
        out[4 + run / 2] |= (six & 15) << (run % 2 * 4);
        high |= u16::from(six >> 4) << (2 * run);
        codes(x, d.to_f32() * f32::from(scale), &mut out[8 + 16 * run..][..16]);
    }
    out[2..4].copy_from_slice(&high.to_le_bytes());
}
