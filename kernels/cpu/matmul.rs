//! Products of weights with rows of activations, dense and by experts.
//!
//! Weight-stationary: a task decodes a block of output rows once into its thread's scratch and multiplies
//! it with every row of activations that wants it. How rows are tiled and how outputs are shared among
//! tasks changes no bit: each output is one scalar product in the order that `lanes` fixes.

use super::isa::{Isa, Kernel};
use super::lanes;
use super::parallel::{self, Disjoint};
use super::storage::{Mat, Part, Routes};
use super::vector::Vector;
use std::ops::Range;

/// Decoded weights that a task keeps at a time: a quarter of a megabyte, which stays in a core's cache.
const DECODED: usize = 1 << 16;

/// Output rows in a register tile.
const TILE: usize = 4;

/// What to multiply with what. Kept from step to step, so that nothing is allocated on the way.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Rows of activations and the rows that their products go to, grouped by expert.
    pairs: Vec<Pair>,
    /// Experts with any pairs.
    runs: Vec<Run>,
    /// The first pair of each expert, and one more.
    starts: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    x: usize,
    y: usize,
}

#[derive(Debug)]
struct Run {
    expert: usize,
    pairs: Range<usize>,
}

impl Work {
    /// One expert, every row.
    pub(super) fn dense(&mut self, rows: usize) {
        self.pairs.clear();
        self.pairs.extend((0..rows).map(|r| Pair { x: r, y: r }));
        self.runs.clear();
        if rows > 0 {
            self.runs.push(Run { expert: 0, pairs: 0..rows });
        }
    }

    /// Each choice is a row of the product; its input is one row for every `sharing` choices.
    pub(super) fn routed(&mut self, routes: &Routes, sharing: usize) {
        let ids = routes.ids();
        self.starts.clear();
        self.starts.resize(routes.experts + 1, 0);
        for &e in ids {
            self.starts[e as usize + 1] += 1;
        }
        self.runs.clear();
        for e in 0..routes.experts {
            let (first, count) = (self.starts[e], self.starts[e + 1]);
            self.starts[e + 1] = first + count;
            if count > 0 {
                self.runs.push(Run { expert: e, pairs: first..first + count });
            }
        }
        self.pairs.clear();
        self.pairs.resize(ids.len(), Pair::default());
        for (y, &e) in ids.iter().enumerate() {
            let place = &mut self.starts[e as usize];
            self.pairs[*place] = Pair { x: y / sharing, y };
            *place += 1;
        }
    }
}

/// `y[pair.y] = w[expert] · x[pair.x]` for every pair of `work`. `x [_, w.cols]`, `y [_, w.out]`.
pub(super) fn product(isa: Isa, y: &mut [f32], x: &[f32], w: &Mat, work: &Work) {
    let share = w.out.div_ceil(rayon::current_num_threads()).next_multiple_of(TILE);
    let block = (DECODED / w.cols).clamp(TILE, 64) / TILE * TILE;
    let block = block.min(share);
    let blocks = w.out.div_ceil(block);
    let y = Disjoint::new(y);
    let macs = work.pairs.len().saturating_mul(w.out).saturating_mul(w.cols);
    parallel::each(work.runs.len() * blocks, macs, |task| {
        let run = &work.runs[task / blocks];
        let first = task % blocks * block;
        let rows = first..(first + block).min(w.out);
        parallel::with_scratch(block * w.cols, |scratch| {
            let pairs = &work.pairs[run.pairs.clone()];
            isa.run(Task { w, expert: run.expert, rows, x, y: &y, pairs, scratch });
        });
    });
}

/// The outputs `rows` of one expert, for all of its pairs.
struct Task<'a> {
    w: &'a Mat,
    expert: usize,
    rows: Range<usize>,
    x: &'a [f32],
    y: &'a Disjoint<'a>,
    pairs: &'a [Pair],
    scratch: &'a mut [f32],
}

impl Kernel for Task<'_> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        for part in &self.w.parts {
            let first = self.rows.start.max(part.first);
            let end = self.rows.end.min(part.first + part.rows);
            if first < end {
                self.part::<V>(part, first, end - first);
            }
        }
    }
}

impl Task<'_> {
    /// The `count` outputs from `first`, all of one part.
    #[inline(always)]
    fn part<V: Vector>(&mut self, part: &Part, first: usize, count: usize) {
        let cols = self.w.cols;
        // One row of activations leaves nothing to reuse: decode no more at a time than a tile.
        let at_once = if self.pairs.len() == 1 { TILE } else { count };
        for start in (0..count).step_by(at_once) {
            let rows = at_once.min(count - start);
            let decoded = &mut self.scratch[..rows * cols];
            part.decode(self.expert, first - part.first + start, decoded, rows);
            for &pair in self.pairs {
                let x = &self.x[pair.x * cols..][..cols];
                // SAFETY: a row of y belongs to one pair, and its outputs from `first` to `first + count`
                // to this task alone: tasks have different experts, whose pairs differ, or different
                // ranges of outputs. The slice ends with this iteration.
                let y = unsafe { self.y.slice(pair.y * self.w.out + first + start, rows) };
                outputs::<V>(y, &self.scratch[..rows * cols], x, cols);
            }
        }
    }
}

/// `y = w · x` for a few decoded rows. `w [y.len(), cols]`, `x [cols]`.
#[inline(always)]
fn outputs<V: Vector>(y: &mut [f32], w: &[f32], x: &[f32], cols: usize) {
    let (tiles, rest) = y.as_chunks_mut::<TILE>();
    let whole = tiles.len() * TILE;
    for (tile, w) in tiles.iter_mut().zip(w.chunks_exact(TILE * cols)) {
        *tile = lanes::tile::<V, TILE>(w, x, cols);
    }
    for (y, w) in rest.iter_mut().zip(w[whole * cols..].chunks_exact(cols)) {
        *y = lanes::dot::<V>(w, x);
    }
}
