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
pub(super) unsafe fn panel<V: Integers, const R: usize>(
    kind: BlockType,
    panel: &[u8],
    x: [&[f32]; R],
) -> [V; R] {
    // SAFETY: the caller is below `Isa::run` for `V`.
    unsafe {
        match kind {
            BlockType::F16 => products::<V, Half, R, { 2 * LANES }>(panel.as_chunks().0, x),
            BlockType::BF16 => products::<V, Brain, R, { 2 * LANES }>(panel.as_chunks().0, x),
            _ => products::<V, Single, R, { 4 * LANES }>(panel.as_chunks().0, x),
        }
    }
}

/// Sixteen weights in `N` bytes. A trait, because a function that is passed as a value is not inlined for certain.
trait Load<const N: usize> {
    unsafe fn load<V: Integers>(from: &[u8; N]) -> V;
}

#[inline(always)]
unsafe fn products<V: Integers, L: Load<N>, const R: usize, const N: usize>(
    weights: &[[u8; N]],
    x: [&[f32]; R],
) -> [V; R] {
    // SAFETY: the caller is below `Isa::run` for `V`.
    unsafe {
        let mut sums = [[V::zero(); SUMS]; R];
        let (fours, rest) = weights.as_chunks::<SUMS>();
        for (k, four) in fours.iter().enumerate() {
            for s in 0..SUMS {
                let w: V = L::load(&four[s]);
                for r in 0..R {
                    sums[r][s] = sums[r][s].add_product(w, V::splat(x[r][k * SUMS + s]));
                }
            }
        }
        for (s, w) in rest.iter().enumerate() {
            let w: V = L::load(w);
            for r in 0..R {
                sums[r][s] = sums[r][s].add_product(w, V::splat(x[r][fours.len() * SUMS + s]));
            }
        }
        let one = V::splat(1.0);
        let mut out = [V::zero(); R];
        for r in 0..R {
            let [a, b, c, d] = sums[r];
            out[r] = a.add_product(b, one).add_product(c.add_product(d, one), one);
        }
        out
    }
}

struct Half;

impl Load<{ 2 * LANES }> for Half {
    #[inline(always)]
    unsafe fn load<V: Integers>(from: &[u8; 2 * LANES]) -> V {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { V::from_f16(from) }
    }
}

struct Brain;

impl Load<{ 2 * LANES }> for Brain {
    #[inline(always)]
    unsafe fn load<V: Integers>(from: &[u8; 2 * LANES]) -> V {
        let mut to = [0.0; LANES];
        for (to, from) in to.iter_mut().zip(from.as_chunks().0) {
            *to = f32::from_bits(u32::from(u16::from_le_bytes(*from)) << 16);
        }
        // SAFETY: as above.
        unsafe { V::load(&to) }
    }
}

struct Single;

impl Load<{ 4 * LANES }> for Single {
    #[inline(always)]
    unsafe fn load<V: Integers>(from: &[u8; 4 * LANES]) -> V {
        let mut to = [0.0; LANES];
        for (to, from) in to.iter_mut().zip(from.as_chunks().0) {
            *to = f32::from_le_bytes(*from);
        }
        // SAFETY: as above.
        unsafe { V::load(&to) }
    }
}
