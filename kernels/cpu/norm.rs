//! The RMS norm.
//!
//! Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.

use super::isa::{Isa, Kernel};
use super::vector::Vector;
use super::integers::Integers;
use super::lanes;
use super::parallel::Workers;

/// `y[r] = x[r] / sqrt(mean(x[r]²) + eps) · w`; `x, y [rows, w.len()]`.
pub(super) fn rms(isa: Isa, workers: &Workers, y: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
    let cols = w.len();
    let work = 2 * y.len();
    workers.rows(y, cols, work, |r, y| {
        y.copy_from_slice(&x[r * cols..][..cols]);
        isa.run(Row { x: y, w, eps });
    });
}

struct Row<'a> {
    x: &'a mut [f32],
    w: &'a [f32],
    eps: f32,
}

impl Kernel for Row<'_> {
    #[inline(always)]
    fn run<V: Integers>(self) {
        in_place::<V>(self.x, self.w, self.eps);
    }
}

/// Normalises one row where it stands.
#[inline(always)]
pub(super) fn in_place<V: Vector>(x: &mut [f32], w: &[f32], eps: f32) {
    let mean = lanes::dot::<V>(x, x) / x.len() as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    for (x, w) in x.iter_mut().zip(w) {
        *x = *x * scale * w;
    }
}
