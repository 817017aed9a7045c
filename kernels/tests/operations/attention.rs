//! Rotation, the cache, and attention over it.

use crate::rig::*;
use coder_kernels::cpu::{Cpu, Isa};
use coder_kernels::{BLOCK, Backend, Batch, Heads, KvType, NO_SLOT, QkNorm, Rope, Span};

const EPS: f32 = 1e-6;
const THETA: f64 = 1e6;

/// One attention layer and the sequences that go through it.
pub(crate) struct Layer {
    heads: Heads,
    dtype: KvType,
    norm: Option<[Vec<f32>; 2]>,
    /// Queries, keys and values of every position, per sequence.
    sequences: Vec<Vec<f32>>,
    blocks: Vec<Vec<u32>>,
}

impl Layer {
    pub(crate) fn new(heads: Heads, dtype: KvType, normed: bool, lengths: &[usize]) -> Self {
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

    pub(crate) fn kv<B: Backend>(&self, cpu: &B) -> B::Kv {
        let blocks = self.blocks.iter().flatten().max().unwrap() + 1;
        cpu.kv(blocks as usize * BLOCK, self.heads, self.dtype).unwrap()
    }

    /// A batch of one run of positions of each of some sequences, and its rows.
    pub(crate) fn batch(&self, runs: &[(usize, std::ops::Range<usize>)]) -> (Batch, Vec<f32>) {
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
    pub(crate) fn step<B: Backend>(
        &self,
        cpu: &mut B,
        kv: &mut B::Kv,
        (batch, data): &(Batch, Vec<f32>),
    ) -> (Vec<f32>, Vec<f32>) {
        let (heads, rows) = (self.heads, batch.rows());
        let mut qkv = filled(cpu, data, heads.qkv_cols());
        let mut y = cpu.buf(rows, heads.q_cols()).unwrap();
        let norm: Option<QkNorm<B::Buf>> =
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

    /// Attention's output for one row, in f64, from what the device rotated: `rows [_, heads.qkv_cols()]`.
    fn exact(&self, rows: &[f32], position: usize) -> Vec<f64> {
        let Heads { q: heads, kv, dim } = self.heads;
        let rows: Vec<_> = rows.chunks_exact(self.heads.qkv_cols()).take(position + 1).collect();
        let mut out = Vec::new();
        for head in 0..kv {
            let k = (heads + head) * dim;
            let stored = |at: usize| -> Vec<Vec<f64>> {
                rows.iter().map(|r| stored(self.dtype, &r[at..at + dim])).collect()
            };
            let (keys, values) = (stored(k), stored(k + kv * dim));
            for h in head * heads / kv..(head + 1) * heads / kv {
                let q = wide(&rows[position][h * dim..][..dim]);
                let score = |k: &Vec<f64>| q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>();
                let scores: Vec<f64> = keys.iter().map(|k| score(k) / (dim as f64).sqrt()).collect();
                let max = scores.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
                let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
                let sum: f64 = weights.iter().sum();
                let column = |i: usize| weights.iter().zip(&values).map(|(w, v)| w * v[i]).sum::<f64>();
                out.extend((0..dim).map(|i| column(i) / sum));
            }
        }
        out
    }
}

/// What is read back of a head's keys or values.
fn stored(dtype: KvType, head: &[f32]) -> Vec<f64> {
    let group = |group: &[f32]| -> Vec<f64> {
        let largest = group.iter().fold(0.0f32, |a, x| a.max(x.abs()));
        let scale = half::f16::from_f32(largest / 127.0).to_f32();
        group.iter().map(|x| f64::from((x / scale).round_ties_even()) * f64::from(scale)).collect()
    };
    match dtype {
        KvType::F32 => wide(head),
        KvType::F16 => head.iter().map(|&x| half::f16::from_f32(x).to_f64()).collect(),
        KvType::Q8_0 => head.chunks(32).flat_map(group).collect(),
    }
}

const TYPES: [KvType; 3] = [KvType::F32, KvType::F16, KvType::Q8_0];

/// How near attention is to what the cache holds, which is known exactly. A score is a sum of up to 128 products; a card's queries
/// are halves where keys are no more, to 2^-11.
fn tolerance<B: Backend>(device: &B, dtype: KvType) -> f64 {
    if dtype != KvType::F32 && device.name().starts_with("cuda") { 5e-4 } else { 2e-6 }
}

/// Groups of 1, 2, 5, 6, 7, 8, 9 and 3 query heads; columns of whole registers, of half a group, of less
/// than a register.
const SHAPES: [Heads; 8] = [
    Heads { q: 4, kv: 4, dim: 64 },
    Heads { q: 4, kv: 2, dim: 80 },
    Heads { q: 5, kv: 1, dim: 128 },
    Heads { q: 12, kv: 2, dim: 64 },
    Heads { q: 14, kv: 2, dim: 64 },
    Heads { q: 8, kv: 1, dim: 128 },
    Heads { q: 9, kv: 1, dim: 6 },
    Heads { q: 6, kv: 2, dim: 38 },
];

#[test]
fn near_to_double_precision() {
    for (i, heads) in SHAPES.into_iter().enumerate() {
        for dtype in TYPES {
            let layer = Layer::new(heads, dtype, i % 2 == 1, &[70, 33]);
            every_device!(|cpu| {
                let mut kv = layer.kv(cpu);
                let (rotated, y) = layer.step(cpu, &mut kv, &layer.batch(&[(0, 0..70), (1, 0..33)]));
                let (first, second) = rotated.split_at(70 * heads.qkv_cols());
                let places = (0..70).map(|p| (0, first, p)).chain((0..33).map(|p| (1, second, p)));
                for (r, (s, rows, p)) in places.enumerate() {
                    let row = &rotated[r * heads.qkv_cols()..][..heads.qkv_cols()];
                    assert_near("rotated", row, &layer.rotated(s, p), 1e-6);
                    let row = &y[r * heads.q_cols()..][..heads.q_cols()];
                    assert_near("attention", row, &layer.exact(rows, p), tolerance(cpu, dtype));
                }
            });
        }
    }
}

/// Positions on both sides of the edges of blocks and of the chunks that attention works in.
const EDGES: [usize; 9] = [0, 31, 32, 255, 256, 257, 511, 512, 599];

#[test]
fn long_contexts_are_near_to_double_precision_and_split_without_a_trace() {
    for (heads, dtype) in SHAPES.into_iter().zip(TYPES.into_iter().cycle()) {
        let layer = Layer::new(heads, dtype, false, &[600]);
        let cols = heads.q_cols();
        every_device!(|cpu| {
            let mut kv = layer.kv(cpu);
            let (rotated, whole) = layer.step(cpu, &mut kv, &layer.batch(&[(0, 0..600)]));
            for p in EDGES {
                let expected = &whole[p * cols..][..cols];
                assert_near("attention", expected, &layer.exact(&rotated, p), tolerance(cpu, dtype));
                let (_, alone) = layer.step(cpu, &mut kv, &layer.batch(&[(0, p..p + 1)]));
                assert_bits("a row alone", &alone, expected);
                for rows in [2, 3, 8, 65] {
                    let first = (p + 1).saturating_sub(rows);
                    let (_, some) = layer.step(cpu, &mut kv, &layer.batch(&[(0, first..p + 1)]));
                    assert_bits("a row with those before", &some[(p - first) * cols..], expected);
                }
            }
        });
    }
}

/// Contexts of several stretches of chunks, whose edges are at multiples of 1,024.
#[test]
fn stretches_are_merged_alike_by_every_way() {
    for (heads, dtype, length) in [
        (Heads { q: 3, kv: 1, dim: 32 }, KvType::Q8_0, 2110),
        (Heads { q: 2, kv: 1, dim: 160 }, KvType::F16, 1090),
        (Heads { q: 2, kv: 2, dim: 6 }, KvType::F32, 2110),
    ] {
        let layer = Layer::new(heads, dtype, false, &[length, 1030]);
        let cols = heads.q_cols();
        every_device!(|device| {
            let mut kv = layer.kv(device);
            layer.step(device, &mut kv, &layer.batch(&[(1, 0..1020)]));
            let (_, short) = layer.step(device, &mut kv, &layer.batch(&[(1, 1020..1030)]));
            let parts = [0..700, 700..1088, 1088..length].map(|run| layer.batch(&[(0, run)]));
            let parts = parts.map(|part| layer.step(device, &mut kv, &part));
            let rotated = parts.iter().flat_map(|(rotated, _)| rotated.clone()).collect::<Vec<_>>();
            let whole = parts.iter().flat_map(|(_, y)| y.clone()).collect::<Vec<_>>();
            for p in [1023, 1024, 1279, 1280, 2047, 2048].into_iter().filter(|p| *p < length) {
                let expected = &whole[p * cols..][..cols];
                assert_near("attention", expected, &layer.exact(&rotated, p), tolerance(device, dtype));
                let (_, alone) = layer.step(device, &mut kv, &layer.batch(&[(0, p..p + 1)]));
                assert_bits("a row alone", &alone, expected);
                let (_, some) =
                    layer.step(device, &mut kv, &layer.batch(&[(1, 1023..1026), (0, p - 2..p + 1)]));
                assert_bits("a row with others", &some[5 * cols..], expected);
                assert_bits("others", &some[..3 * cols], &short[3 * cols..6 * cols]);
            }
            // Rows by tiles, of which some see one stretch and some two.
            let (_, some) = layer.step(device, &mut kv, &layer.batch(&[(0, 990..1060)]));
            assert_bits("a tile across an edge", &some, &whole[990 * cols..1060 * cols]);
        });
    }
}

#[test]
fn many_sequences_at_once_are_each_as_if_alone() {
    let (heads, rows) = (SHAPES[3], [600, 1, 257, 33, 300, 290, 256, 512, 40, 599]);
    let layer = Layer::new(heads, KvType::Q8_0, true, &rows);
    let cols = heads.q_cols();
    every_device!(|cpu| {
        let mut kv = layer.kv(cpu);
        let mut expected = Vec::new();
        for (s, &n) in rows.iter().enumerate() {
            let (_, y) = layer.step(cpu, &mut kv, &layer.batch(&[(s, 0..n)]));
            expected.extend_from_slice(&y[(n - 1) * cols..]);
        }
        let last: Vec<_> = rows.iter().enumerate().map(|(s, &n)| (s, n - 1..n)).collect();
        assert_bits("decoded together", &layer.step(cpu, &mut kv, &layer.batch(&last)).1, &expected);
        // A few rows of each, more than there are places for the results of their chunks.
        let some: Vec<_> = rows.iter().enumerate().map(|(s, &n)| (s, n - n.min(4)..n)).collect();
        let (_, y) = layer.step(cpu, &mut kv, &layer.batch(&some));
        let mut end = 0;
        for ((_, run), expected) in some.iter().zip(expected.chunks_exact(cols)) {
            end += run.len();
            assert_bits("a few rows of each", &y[(end - 1) * cols..end * cols], expected);
        }
    });
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let layer = Layer::new(SHAPES[4], KvType::F16, false, &[700]);
    let outputs = |threads| {
        let mut cpu = Cpu::with(Isa::best(), threads);
        let mut kv = layer.kv(&cpu);
        let (rotated, prefill) = layer.step(&mut cpu, &mut kv, &layer.batch(&[(0, 0..699)]));
        let (_, decode) = layer.step(&mut cpu, &mut kv, &layer.batch(&[(0, 699..700)]));
        [rotated, prefill, decode].concat()
    };
    let one = outputs(1);
    for threads in [2, 3, 8] {
        assert_bits("other threads", &outputs(threads), &one);
    }
}

#[test]
fn recorded_steps_give_the_bits_of_others() {
    let layer = Layer::new(SHAPES[0], KvType::F16, true, &[300, 40]);
    let outputs = |graphs| {
        let mut card = card(graphs);
        let mut kv = layer.kv(&card);
        let mut out = layer.step(&mut card, &mut kv, &layer.batch(&[(0, 0..250), (1, 0..30)])).1;
        // Steps of one row and of three, which becomes four, before and behind the end of a chunk.
        for p in 250..262 {
            out.extend(layer.step(&mut card, &mut kv, &layer.batch(&[(0, p..p + 1)])).1);
        }
        for p in 30..36 {
            let both = [(1, p..p + 1), (0, 262 + 2 * (p - 30)..264 + 2 * (p - 30))];
            out.extend(layer.step(&mut card, &mut kv, &layer.batch(&both)).1);
        }
        out
    };
    assert_bits("recorded", &outputs(true), &outputs(false));
}

#[test]
fn instruction_sets_that_fuse_agree_bit_for_bit() {
    for dtype in TYPES {
        let layer = Layer::new(SHAPES[4], dtype, true, &[300]);
        let outputs: Vec<_> = Isa::available()
            .into_iter()
            .filter(|isa| isa.fused())
            .map(|isa| {
                let mut cpu = Cpu::with(isa, 2);
                let mut kv = layer.kv(&cpu);
                layer.step(&mut cpu, &mut kv, &layer.batch(&[(0, 0..300)])).1
            })
            .collect();
        for pair in outputs.windows(2) {
            assert_bits("another instruction set", &pair[0], &pair[1]);
        }
    }
}

#[test]
fn together_in_chunks_or_one_by_one_is_the_same() {
    for (heads, dtype) in SHAPES.into_iter().zip(TYPES.into_iter().cycle()) {
        let layer = Layer::new(heads, dtype, true, &[75, 40]);
        let cols = heads.q_cols();
        every_device!(|cpu| {
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
    every_device!(|cpu| {
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
    every_device!(|cpu| {
        let mut kv = layer.kv(cpu);
        let (rotated, y) = layer.step(cpu, &mut kv, &layer.batch(&[(0, 0..66)]));
        for p in 0..66 {
            // Scores of some 30,000 are exact to 2e-3, which is what their exponentials are exact to.
            assert_near("attention", &y[p * 128..][..128], &layer.exact(&rotated, p), 1e-2);
        }
    });
}

#[test]
fn what_lies_behind_a_row_does_not_reach_it() {
    for dtype in TYPES {
        let heads = SHAPES[0];
        let layer = Layer::new(heads, dtype, false, &[300]);
        let mut broken = Layer::new(heads, dtype, false, &[300]);
        broken.sequences[0][290 * heads.qkv_cols()..].fill(f32::NAN);
        every_device!(|cpu| {
            let mut kv = layer.kv(cpu);
            let (_, expected) = layer.step(cpu, &mut kv, &layer.batch(&[(0, 0..290)]));
            let (_, y) = layer.step(cpu, &mut kv, &broken.batch(&[(0, 0..300)]));
            assert_bits("before", &y[..290 * heads.q_cols()], &expected);
            assert!(y[290 * heads.q_cols()..].iter().all(|y| y.is_nan()), "what is no number must show");
        });
    }
}

#[test]
fn a_block_that_went_to_the_host_and_back_is_what_it_was() {
    for (heads, dtype) in SHAPES.into_iter().zip(TYPES.into_iter().cycle()) {
        let layer = Layer::new(heads, dtype, true, &[75]);
        every_device!(|cpu| {
            let mut kv = layer.kv(cpu);
            layer.step(cpu, &mut kv, &layer.batch(&[(0, 0..74)]));
            let (_, expected) = layer.step(cpu, &mut kv, &layer.batch(&[(0, 74..75)]));
            let mut saved = Vec::new();
            // The two whole blocks.
            for &block in &layer.blocks[0][..2] {
                let mut bytes = vec![0; cpu.block_bytes(&kv)];
                cpu.read_block(&kv, block, &mut bytes).unwrap();
                saved.push((block, bytes));
            }
            let mut kv = layer.kv(cpu);
            for (block, bytes) in &saved {
                cpu.write_block(&mut kv, *block, bytes).unwrap();
                let mut again = vec![0; bytes.len()];
                cpu.read_block(&kv, *block, &mut again).unwrap();
                assert!(again == *bytes);
            }
            layer.step(cpu, &mut kv, &layer.batch(&[(0, 64..74)]));
            let (_, y) = layer.step(cpu, &mut kv, &layer.batch(&[(0, 74..75)]));
            assert_bits("after the way there and back", &y, &expected);
            // What is not there, or of another size.
            let bytes = &saved[0].1;
            assert!(cpu.write_block(&mut kv, u32::MAX, bytes).is_err());
            assert!(cpu.write_block(&mut kv, 0, &bytes[1..]).is_err());
            assert!(cpu.read_block(&kv, 0, &mut [0; 3]).is_err());
        });
    }
}
