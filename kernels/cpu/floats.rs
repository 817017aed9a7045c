//! One panel of 16 outputs of a float type times a few rows of f32.
//!
//! Input `k` belongs to sum `k % 4`, and the four are added at the end: one order for any number of rows.

use super::integers::Integers;
use super::vector::LANES;
use crate::BlockType;

/// Sums that run side by side, so that one need not wait for the other.
const SUMS: usize = 4;

/// The 16 outputs of each row of `x`; `panel` is `[x[0].len(), 16]` of `kind`, a float type.
///
/// # Safety
/// As for [`Integers`].
#[inline(always)]
pub(super) unsafe fn panel<V: Integers, const R: usize>(kind: BlockType, panel: &[u8], x: [&[f32]; R]) -> [V; R] {
    // SAFETY: the caller is below `Isa::run` for `V`.
    unsafe {
        match kind {
            BlockType::F16 => with(panel.as_chunks::<{ 2 * LANES }>().0, x, half),
            BlockType::BF16 => with(panel.as_chunks::<{ 2 * LANES }>().0, x, brain),
            _ => with(panel.as_chunks::<{ 4 * LANES }>().0, x, single),
        }
    }
}

#[inline(always)]
unsafe fn with<V: Integers, const R: usize, const N: usize>(
    weights: &[[u8; N]],
    x: [&[f32]; R],
    load: impl Fn(&[u8; N]) -> V,
) -> [V; R] {
    // SAFETY: the caller is below `Isa::run` for `V`.
    unsafe {
        let mut sums = [[V::zero(); SUMS]; R];
        let (fours, rest) = weights.as_chunks::<SUMS>();
        for (k, four) in fours.iter().enumerate() {
            for s in 0..SUMS {
                let w = load(&four[s]);
                for r in 0..R {
                    sums[r][s] = sums[r][s].add_product(w, V::spread(x[r][k * SUMS + s]));
                }
            }
        }
        for (s, w) in rest.iter().enumerate() {
            let w = load(w);
            for r in 0..R {
                sums[r][s] = sums[r][s].add_product(w, V::spread(x[r][fours.len() * SUMS + s]));
            }
        }
        let one = V::spread(1.0);
        let mut out = [V::zero(); R];
        for r in 0..R {
            let [a, b, c, d] = sums[r];
            out[r] = a.add_product(b, one).add_product(c.add_product(d, one), one);
        }
        out
    }
}

#[inline(always)]
fn half<V: Integers>(from: &[u8; 2 * LANES]) -> V {
    // SAFETY: only `panel` passes this on, whose caller is below `Isa::run` for `V`.
    unsafe { V::from_f16(from) }
}

#[inline(always)]
fn brain<V: Integers>(from: &[u8; 2 * LANES]) -> V {
    let mut to = [0.0; LANES];
    for (to, from) in to.iter_mut().zip(from.as_chunks().0) {
        *to = f32::from_bits(u32::from(u16::from_le_bytes(*from)) << 16);
    }
    // SAFETY: as above.
    unsafe { V::load(&to) }
}

#[inline(always)]
fn single<V: Integers>(from: &[u8; 4 * LANES]) -> V {
    let mut to = [0.0; LANES];
    for (to, from) in to.iter_mut().zip(from.as_chunks().0) {
        *to = f32::from_le_bytes(*from);
    }
    // SAFETY: as above.
    unsafe { V::load(&to) }
}
