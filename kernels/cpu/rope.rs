//! Rotary position embedding, the norm of heads before it, and the writing of keys and values.

use super::integers::Integers;
use super::isa::{Isa, Kernel};
use super::kv::Kv;
use super::norm;
use super::parallel::Workers;
use crate::{Heads, NO_SLOT, QkNorm, Rope};

/// Cosine and sine of every row's angles, made once in a step and used by all of its layers.
#[derive(Debug, Default)]
pub(super) struct Angles {
    /// `[rows, dim / 2]` each.
    cosines: Vec<f32>,
    sines: Vec<f32>,
    /// Radians per position of each of the `dim / 2` pairs.
    frequencies: Vec<f64>,
    made_for: Option<(u64, usize)>,
}

impl Angles {
    /// A new batch has other positions.
    pub(super) fn forget(&mut self) {
        self.made_for = None;
    }

    /// Makes the angles unless they are there. In f64: at position 100,000 an f32 angle is off by a
    /// hundredth of a radian.
    pub(super) fn prepare(&mut self, positions: &[u32], theta: f64, dim: usize) {
        if self.made_for == Some((theta.to_bits(), dim)) {
            return;
        }
        self.frequencies.clear();
        self.frequencies.extend((0..dim / 2).map(|i| theta.powf(-2.0 * i as f64 / dim as f64)));
        self.cosines.clear();
        self.sines.clear();
        for &position in positions {
            for frequency in &self.frequencies {
                let (sin, cos) = (f64::from(position) * frequency).sin_cos();
                self.cosines.push(cos as f32);
                self.sines.push(sin as f32);
            }
        }
        self.made_for = Some((theta.to_bits(), dim));
    }
}

/// Normalises (if `norm`) and rotates the heads of q and k of every row of `qkv [rows, heads.qkv_cols()]`.
pub(super) fn rotate(
    isa: Isa,
    workers: &Workers,
    qkv: &mut [f32],
    norm: Option<QkNorm<&[f32]>>,
    angles: &Angles,
    rope: &Rope,
) {
    let half = rope.heads.dim / 2;
    let work = 4 * qkv.len();
    workers.rows(qkv, rope.heads.qkv_cols(), work, |r, row| {
        let (cosines, sines) = (&angles.cosines[r * half..][..half], &angles.sines[r * half..][..half]);
        isa.run(Row { row, norm: norm.as_ref(), cosines, sines, heads: rope.heads, eps: rope.eps });
    });
}

struct Row<'a> {
    row: &'a mut [f32],
    norm: Option<&'a QkNorm<&'a [f32]>>,
    cosines: &'a [f32],
    sines: &'a [f32],
    heads: Heads,
    eps: f32,
}

impl Kernel for Row<'_> {
    #[inline(always)]
    fn run<V: Integers>(self) {
        let rotated = (self.heads.q + self.heads.kv) * self.heads.dim;
        for (h, head) in self.row[..rotated].chunks_exact_mut(self.heads.dim).enumerate() {
            if let Some(norm) = self.norm {
                let w = if h < self.heads.q { norm.q } else { norm.k };
                norm::in_place::<V>(head, w, self.eps);
            }
            let (low, high) = head.split_at_mut(self.heads.dim / 2);
            // The compiler makes vectors of this.
            for (((a, b), cos), sin) in low.iter_mut().zip(high).zip(self.cosines).zip(self.sines) {
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}

/// Writes the keys and values of `qkv` to their rows' slots, which are within `kv` or [`NO_SLOT`].
/// One row after the other, so that of two rows with one slot the later wins.
pub(super) fn keep(qkv: &[f32], slots: &[u32], kv: &mut Kv) {
    let heads = kv.heads;
    let rows = qkv.chunks_exact(heads.qkv_cols()).zip(slots);
    for (row, &slot) in rows.filter(|(_, s)| **s != NO_SLOT) {
        let (keys, values) = row[heads.q_cols()..].split_at(heads.kv * heads.dim);
        kv.keep(slot as usize, keys, values);
    }
}
