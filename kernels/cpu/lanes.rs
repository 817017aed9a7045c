//! Sums in a fixed order: sixteen lanes, then a tree.
//!
//! Element `i` of a product belongs to lane `i % 16`, whatever the instruction set, the tile or the
//! number of rows, so the same two vectors always give the same bits.

/// Number of independent partial sums.
pub(super) const LANES: usize = 16;

type Lanes = [f32; LANES];

/// `a · b + c`, with one rounding if `FMA`.
#[inline(always)]
pub(super) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// The scalar product of two vectors of one length.
#[inline(always)]
pub(super) fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    tile::<FMA, 1, 1>(a, b, a.len().min(b.len()))[0][0]
}

/// `y += a · x`, element by element.
#[inline(always)]
pub(super) fn axpy<const FMA: bool>(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = mul_add::<FMA>(a, *x, *y);
    }
}

/// The scalar products of `W` rows of `w` with `X` rows of `x`, all `cols` long and one behind the other.
#[inline(always)]
pub(super) fn tile<const FMA: bool, const W: usize, const X: usize>(
    w: &[f32],
    x: &[f32],
    cols: usize,
) -> [[f32; X]; W] {
    let w: [(&[Lanes], &[f32]); W] = std::array::from_fn(|i| w[i * cols..][..cols].as_chunks());
    let x: [(&[Lanes], &[f32]); X] = std::array::from_fn(|j| x[j * cols..][..cols].as_chunks());
    let mut sums = [[[0.0; LANES]; X]; W];
    for c in 0..cols / LANES {
        for i in 0..W {
            for j in 0..X {
                for ((sum, a), b) in sums[i][j].iter_mut().zip(&w[i].0[c]).zip(&x[j].0[c]) {
                    *sum = mul_add::<FMA>(*a, *b, *sum);
                }
            }
        }
    }
    let mut out = [[0.0; X]; W];
    for i in 0..W {
        for j in 0..X {
            for (l, (a, b)) in w[i].1.iter().zip(x[j].1).enumerate() {
                sums[i][j][l] = mul_add::<FMA>(*a, *b, sums[i][j][l]);
            }
            out[i][j] = tree(sums[i][j]);
        }
    }
    out
}

/// The sum of the lanes: each half onto the other, four times.
#[inline(always)]
fn tree(mut lanes: Lanes) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] += lanes[l + width];
        }
        width /= 2;
    }
    lanes[0]
}
