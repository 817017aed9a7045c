//! The RMS norm.
//!
//! Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.

use super::integers::Integers;
use super::isa::{Isa, Kernel};
use super::lanes;
use super::parallel::Workers;
use super::vector::Vector;

/// `y[r] = x[r] / sqrt(mean(x[r]²) + eps) · w`; `x, y [rows, w.len()]`.
pub(super) fn rms(isa: Isa, workers: &Workers, y: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
    let cols = w.len();
    let work = 2 * y.len();
    workers.rows(y, cols, work, |r, y| isa.run(Row { y, x: &x[r * cols..][..cols], w, eps }));
}

struct Row<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
    w: &'a [f32],
    eps: f32,
}

impl Kernel for Row<'_> {
    #[inline(always)]
    fn run<V: Integers>(self) {
        let scale = scale::<V>(self.x, self.eps);
        // The compiler makes vectors of this and of the loop below.
        for ((y, x), w) in self.y.iter_mut().zip(self.x).zip(self.w) {
            *y = x * scale * w;
        }
    }
}

/// What brings the root of the mean square of `x` to one.
#[inline(always)]
fn scale<V: Vector>(x: &[f32], eps: f32) -> f32 {
    1.0 / (lanes::dot::<V>(x, x) / x.len() as f32 + eps).sqrt()
}

/// Normalises one row where it stands.
#[inline(always)]
pub(super) fn in_place<V: Vector>(x: &mut [f32], w: &[f32], eps: f32) {
    let scale = scale::<V>(x, eps);
    for (x, w) in x.iter_mut().zip(w) {
        *x = *x * scale * w;
    }
}
