//! Sums in a fixed order: sixteen lanes, then a tree.
//!
//! Element `i` of a product belongs to lane `i % 16`, whatever the instruction set, the tile or the
//! number of rows, so the same two vectors always give the same bits.

use super::vector::{LANES, Lanes, Vector};

/// `a · b + c`, rounded as `V` does.
#[inline(always)]
pub(super) fn mul_add<V: Vector>(a: f32, b: f32, c: f32) -> f32 {
    if V::FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// The scalar product of two vectors of one length.
#[inline(always)]
pub(super) fn dot<V: Vector>(a: &[f32], b: &[f32]) -> f32 {
    tile::<V, 1>(a, b, a.len().min(b.len()))[0]
}

/// The scalar products of `W` rows of `w`, `cols` long and one behind the other, with `x [cols]`.
#[inline(always)]
pub(super) fn tile<V: Vector, const W: usize>(w: &[f32], x: &[f32], cols: usize) -> [f32; W] {
    let (chunks, rest) = x[..cols].as_chunks();
    let mut rows: [&[Lanes]; W] = [&[]; W];
    // Plain loops: closures are not inlined for certain, and must be.
    for i in 0..W {
        rows[i] = &w[i * cols..][..cols].as_chunks().0[..chunks.len()];
    }
    // SAFETY: this is compiled into `Isa::run`'s function for `V`, which knows the instruction set.
    let mut sums = unsafe { [V::zero(); W] };
    for (c, x) in chunks.iter().enumerate() {
        // SAFETY: as above.
        let x = unsafe { V::load(x) };
        for i in 0..W {
            // SAFETY: as above.
            sums[i] = unsafe { sums[i].add_product(V::load(&rows[i][c]), x) };
        }
    }
    let mut out = [0.0; W];
    for i in 0..W {
        // SAFETY: as above.
        let mut lanes = unsafe { sums[i].store() };
        let w = &w[i * cols + cols - rest.len()..][..rest.len()];
        for l in 0..rest.len() {
            lanes[l] = mul_add::<V>(w[l], rest[l], lanes[l]);
        }
        out[i] = sum(lanes);
    }
    out
}

/// The largest of the lanes; one that is no number is passed over.
#[inline(always)]
pub(super) fn largest(lanes: Lanes) -> f32 {
    let mut largest = f32::NEG_INFINITY;
    for l in lanes {
        largest = if l > largest { l } else { largest };
    }
    largest
}

/// The sum of the lanes: each half onto the other, four times.
#[inline(always)]
pub(super) fn sum(mut lanes: Lanes) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] += lanes[l + width];
        }
        width /= 2;
    }
    lanes[0]
}
