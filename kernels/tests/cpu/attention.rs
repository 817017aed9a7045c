//! Rotation, the cache, and attention over it.

use crate::rig::*;
use coder_kernels::cpu::{Buf, Cpu, Kv};
use coder_kernels::{BLOCK, Backend, Batch, Heads, KvType, NO_SLOT, QkNorm, Rope, Span};

const EPS: f32 = 1e-6;
const THETA: f64 = 1e6;

/// One attention layer and the sequences that go through it.
struct Layer {
    heads: Heads,
    dtype: KvType,
    norm: Option<[Vec<f32>; 2]>,
    /// Queries, keys and values of every position, per sequence.
    sequences: Vec<Vec<f32>>,
    blocks: Vec<Vec<u32>>,
}

impl Layer {
    fn new(heads: Heads, dtype: KvType, normed: bool, lengths: &[usize]) -> Self {
        let mut random = Random::new(40 + heads.q as u64);
        let norm = normed.then(|| [random.floats(heads.dim), random.floats(heads.dim)]);
        let sequences = lengths.iter().map(|n| random.floats(n * heads.qkv_cols())).collect();
        // Blocks in no order, one sequence's between the other's.
        let n = lengths.len() as u32;
        let blocks = (0..n)
            .map(|s| (0..lengths[s as usize].div_ceil(BLOCK) as u32).rev().map(|b| b * n + s).collect())
            .collect();
        Self { heads, dtype, norm, sequences, blocks }
    }

    fn kv(&self, cpu: &Cpu) -> Kv {
        let blocks = self.blocks.iter().flatten().max().unwrap() + 1;
        cpu.kv(blocks as usize * BLOCK, self.heads, self.dtype).unwrap()
    }

    /// A batch of one run of positions of each of some sequences, and its rows.
    fn batch(&self, runs: &[(usize, std::ops::Range<usize>)]) -> (Batch, Vec<f32>) {
        let cols = self.heads.qkv_cols();
        let (mut batch, mut data) = (Batch::default(), Vec::new());
        for (s, positions) in runs {
            let rows = positions.len() as u32;
            let span = Span { first: batch.rows() as u32, rows, blocks: self.blocks[*s].clone() };
            for p in positions.clone() {
                batch.tokens.push(0);
                batch.positions.push(p as u32);
                batch.slots.push(span.slot(p).unwrap() as u32);
            }
            batch.spans.push(span);
            data.extend_from_slice(&self.sequences[*s][positions.start * cols..positions.end * cols]);
        }
        (batch, data)
    }

    /// Rotated rows and attention's output for a batch.
    fn step(&self, cpu: &mut Cpu, kv: &mut Kv, (batch, data): &(Batch, Vec<f32>)) -> (Vec<f32>, Vec<f32>) {
        let (heads, rows) = (self.heads, batch.rows());
        let mut qkv = filled(cpu, data, heads.qkv_cols());
        let mut y = cpu.buf(rows, heads.q_cols()).unwrap();
        let norm: Option<QkNorm<Buf>> =
            self.norm.as_ref().map(|[q, k]| QkNorm { q: cpu.vector(q).unwrap(), k: cpu.vector(k).unwrap() });
        let rope = Rope { heads, theta: THETA, eps: EPS };
        cpu.step(batch, |c| {
            c.rope(&mut qkv, norm.as_ref(), kv, &rope)?;
            c.attention(&mut y, &qkv, kv)
        })
        .unwrap();
        (read(cpu, &qkv, rows, heads.qkv_cols()), read(cpu, &y, rows, heads.q_cols()))
    }

    /// A row of sequence `s` with its heads normalised and rotated, in f64.
    fn rotated(&self, s: usize, position: usize) -> Vec<f64> {
        let (dim, cols) = (self.heads.dim, self.heads.qkv_cols());
        let mut row = wide(&self.sequences[s][position * cols..][..cols]);
        for (h, x) in row.chunks_exact_mut(dim).enumerate().take(self.heads.q + self.heads.kv) {
            if let Some([q, k]) = &self.norm {
                let w = if h < self.heads.q { q } else { k };
                let mean = x.iter().map(|x| x * x).sum::<f64>() / dim as f64;
                let scale = 1.0 / (mean + f64::from(EPS)).sqrt();
                x.iter_mut().zip(w).for_each(|(x, w)| *x *= scale * f64::from(*w));
            }
            for i in 0..dim / 2 {
                let angle = position as f64 * THETA.powf(-2.0 * i as f64 / dim as f64);
                let (a, b) = (x[i], x[i + dim / 2]);
                x[i] = a * angle.cos() - b * angle.sin();
                x[i + dim / 2] = b * angle.cos() + a * angle.sin();
            }
        }
        row
    }

    /// Attention's output for a row, in f64.
    fn exact(&self, s: usize, position: usize) -> Vec<f64> {
        let Heads { q: heads, kv, dim } = self.heads;
        let rows: Vec<_> = (0..=position).map(|p| self.rotated(s, p)).collect();
        let stored = |x: f64| match self.dtype {
            KvType::F32 => x,
            KvType::F16 => half::f16::from_f64(x).to_f64(),
        };
        let mut out = Vec::new();
        for h in 0..heads {
            let q = &rows[position][h * dim..][..dim];
            let k = (heads + h / (heads / kv)) * dim;
            let v = k + kv * dim;
            let scores: Vec<f64> = rows
                .iter()
                .map(|r| (0..dim).map(|i| q[i] * stored(r[k + i])).sum::<f64>() / (dim as f64).sqrt())
                .collect();
            let max = scores.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            out.extend((0..dim).map(|i| {
                let weighted = scores.iter().zip(&rows).map(|(s, r)| (s - max).exp() * stored(r[v + i]));
                weighted.sum::<f64>() / sum
            }));
        }
        out
    }
}

const SHAPES: [Heads; 5] = [
    Heads { q: 4, kv: 4, dim: 64 },
    Heads { q: 5, kv: 1, dim: 128 },
    Heads { q: 12, kv: 2, dim: 64 },
    Heads { q: 14, kv: 2, dim: 64 },
    Heads { q: 8, kv: 1, dim: 128 },
];

#[test]
fn near_to_double_precision() {
    // In f16, a key that is rounded the other way after f32's own rounding is off by 5e-4 of itself.
    for (dtype, tolerance) in [(KvType::F32, 2e-6), (KvType::F16, 2e-4)] {
        for (heads, normed) in SHAPES.into_iter().zip([false, true].into_iter().cycle()) {
            let layer = Layer::new(heads, dtype, normed, &[70, 33]);
            every_isa(|cpu| {
                let mut kv = layer.kv(cpu);
                let (rotated, y) = layer.step(cpu, &mut kv, &layer.batch(&[(0, 0..70), (1, 0..33)]));
                let places = (0..70).map(|p| (0, p)).chain((0..33).map(|p| (1, p)));
                for (r, (s, p)) in places.enumerate() {
                    let row = &rotated[r * heads.qkv_cols()..][..heads.qkv_cols()];
                    assert_near("rotated", row, &layer.rotated(s, p), 1e-6);
                    let row = &y[r * heads.q_cols()..][..heads.q_cols()];
                    assert_near("attention", row, &layer.exact(s, p), tolerance);
                }
            });
        }
    }
}

#[test]
fn together_in_chunks_or_one_by_one_is_the_same() {
    for (heads, dtype) in SHAPES.into_iter().zip([KvType::F16, KvType::F32].into_iter().cycle()) {
        let layer = Layer::new(heads, dtype, true, &[75, 40]);
        let cols = heads.q_cols();
        every_isa(|cpu| {
            let mut kv = layer.kv(cpu);
            let (_, whole) = layer.step(cpu, &mut kv, &layer.batch(&[(0, 0..75)]));
            let (_, other) = layer.step(cpu, &mut kv, &layer.batch(&[(1, 0..40)]));
            for chunk in [1, 7, 32] {
                let mut kv = layer.kv(cpu);
                let mut got = Vec::new();
                for first in (0..75).step_by(chunk) {
                    got.extend(
                        layer.step(cpu, &mut kv, &layer.batch(&[(0, first..75.min(first + chunk))])).1,
                    );
                }
                assert_bits("in chunks", &got, &whole);
            }
            // Two sequences at different places in one batch, the second first.
            let mut kv = layer.kv(cpu);
            layer.step(cpu, &mut kv, &layer.batch(&[(0, 0..50), (1, 0..3)]));
            let (_, both) = layer.step(cpu, &mut kv, &layer.batch(&[(1, 3..40), (0, 50..75)]));
            assert_bits("second sequence", &both[..37 * cols], &other[3 * cols..]);
            assert_bits("first sequence", &both[37 * cols..], &whole[50 * cols..]);
        });
    }
}

#[test]
fn rows_without_a_slot_leave_no_trace() {
    let heads = SHAPES[3];
    let layer = Layer::new(heads, KvType::F16, false, &[40]);
    every_isa(|cpu| {
        let mut kv = layer.kv(cpu);
        let (_, expected) = layer.step(cpu, &mut kv, &layer.batch(&[(0, 0..40)]));
        let mut kv = layer.kv(cpu);
        layer.step(cpu, &mut kv, &layer.batch(&[(0, 0..30)]));
        // Four rows of padding that would overwrite the sequence's first block, were they kept.
        let (mut batch, mut data) = layer.batch(&[(0, 30..40)]);
        let padding = Span { first: 10, rows: 4, blocks: layer.blocks[0].clone() };
        batch.spans.push(padding);
        batch.tokens.extend([0; 4]);
        batch.positions.extend([0, 1, 2, 35]);
        batch.slots.extend([NO_SLOT; 4]);
        data.extend(Random::new(77).floats(4 * heads.qkv_cols()));
        let (_, got) = layer.step(cpu, &mut kv, &(batch, data));
        let cols = heads.q_cols();
        assert_bits("beside padding", &got[..10 * cols], &expected[30 * cols..]);
        assert!(got.iter().all(|x| x.is_finite()));
        let (_, last) = layer.step(cpu, &mut kv, &layer.batch(&[(0, 39..40)]));
        assert_bits("after padding", &last, &expected[39 * cols..]);
    });
}

#[test]
fn large_scores_do_not_overflow() {
    let heads = Heads { q: 2, kv: 1, dim: 64 };
    let mut layer = Layer::new(heads, KvType::F32, false, &[66]);
    layer.sequences[0].iter_mut().for_each(|x| *x *= 100.0);
    every_isa(|cpu| {
        let mut kv = layer.kv(cpu);
        let (_, y) = layer.step(cpu, &mut kv, &layer.batch(&[(0, 0..66)]));
        for p in 0..66 {
            // Scores of some 30,000 are exact to 2e-3, which is what their exponentials are exact to.
            assert_near("attention", &y[p * 128..][..128], &layer.exact(0, p), 1e-2);
        }
    });
}
