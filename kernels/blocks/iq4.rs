//! The types whose four-bit numbers stand for the values of a fixed, uneven table.

use super::half_at;

/// What the sixteen codes stand for, times the block's scale.
pub(crate) const VALUES: [f32; 16] =
    [-127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.];

/// IQ4_NL: `d: f16`, `q: [u4; 32]`; weight = d · table\[q\]. Byte `l` holds weight `l` in its low and weight
/// `l + 16` in its high half.
#[inline(always)]
pub(super) fn iq4_nl(b: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(b, 0);
    for l in 0..16 {
        let q = b[2 + l];
        out[l] = d * VALUES[usize::from(q & 15)];
        out[l + 16] = d * VALUES[usize::from(q >> 4)];
    }
}

/// IQ4_XS: `d: f16`, `h: [u2; 8]`, `s: [u4; 8]`, `q: [u4; 256]`.
///
/// Run `j` of 32 weights: weight = d · ((s[j] | h[j] << 4) − 32) · table\[q\]; its 16 bytes of q lie as in
/// IQ4_NL.
#[inline(always)]
pub(super) fn iq4_xs(b: &[u8; 136], out: &mut [f32; 256]) {
    let d = half_at(b, 0);
    let high = u16::from_le_bytes([b[2], b[3]]);
    for run in 0..8 {
        let s = b[4 + run / 2] >> (run % 2 * 4) & 15;
        let h = (high >> (2 * run) & 3) as u8;
        let scale = d * f32::from((s | h << 4) as i8 - 32);
        for l in 0..16 {
            let q = b[8 + 16 * run + l];
            out[32 * run + l] = scale * VALUES[usize::from(q & 15)];
            out[32 * run + 16 + l] = scale * VALUES[usize::from(q >> 4)];
        }
    }
}
