//! Causal attention over the paged cache, with several query heads to each key and value head.
//!
//! Softmax is kept running over blocks of [`BLOCK`] positions from position 0 up (Milakov and
//! Gimelshein, "Online normalizer calculation for softmax", 2018): maximum, sum and weighted values are
//! carried from block to block. The order is thus the position's, and scratch does not grow with context.

use super::isa::{Isa, Kernel};
use super::lanes::{axpy, dot};
use super::parallel::{self, Disjoint, Workers};
use super::storage::{Kv, Store, Stored};
use super::integers::Integers;
use super::vector::Vector;
use crate::{BLOCK, Batch, Heads};
use std::ops::Range;

/// Rows that read a block of keys and values together.
const ROWS: usize = 8;

/// Rows of one span that are computed together.
#[derive(Debug)]
pub(super) struct Tile {
    span: usize,
    rows: Range<usize>,
    /// The last position that any of the rows sees.
    last: usize,
}

/// Cuts the spans of `batch` into tiles.
pub(super) fn tiles(tiles: &mut Vec<Tile>, batch: &Batch) {
    tiles.clear();
    for (span, s) in batch.spans.iter().enumerate() {
        let end = (s.first + s.rows) as usize;
        for first in (s.first as usize..end).step_by(ROWS) {
            let rows = first..(first + ROWS).min(end);
            let last = batch.positions[rows.clone()].iter().max().map_or(0, |&p| p as usize);
            tiles.push(Tile { span, rows, last });
        }
    }
}

/// `y [rows, heads.q_cols()]` for queries in `qkv [rows, heads.qkv_cols()]`; every block of the batch is
/// within `kv`.
pub(super) fn causal(isa: Isa, workers: &Workers, y: &mut [f32], qkv: &[f32], kv: &Kv, batch: &Batch, tiles: &[Tile]) {
    match &kv.store {
        Store::F32(k, v) => stored(isa, workers, y, qkv, kv.heads, (k, v), batch, tiles),
        Store::F16(k, v) => stored(isa, workers, y, qkv, kv.heads, (k, v), batch, tiles),
    }
}

fn stored<T: Stored>(
    isa: Isa,
    workers: &Workers,
    y: &mut [f32],
    qkv: &[f32],
    heads: Heads,
    (keys, values): (&[T], &[T]),
    batch: &Batch,
    tiles: &[Tile],
) {
    let seen: usize = tiles.iter().map(|t| (t.last + 1) * t.rows.len()).sum();
    let y = Disjoint::new(y);
    workers.each(tiles.len() * heads.kv, seen * heads.q_cols() * 2, |task| {
        let tile = &tiles[task / heads.kv];
        let states = tile.rows.len() * heads.q / heads.kv;
        parallel::with_floats(states * State::floats(heads.dim) + heads.dim, |scratch| {
            let (vector, states) = scratch.split_at_mut(heads.dim);
            isa.run(Task {
                y: &y,
                qkv,
                heads,
                head: task % heads.kv,
                keys,
                values,
                blocks: &batch.spans[tile.span].blocks,
                positions: &batch.positions[tile.rows.clone()],
                first: tile.rows.start,
                last: tile.last,
                vector,
                states,
            });
        });
    });
}

/// One tile and one key and value head.
struct Task<'a, T> {
    y: &'a Disjoint<'a, f32>,
    qkv: &'a [f32],
    heads: Heads,
    head: usize,
    keys: &'a [T],
    values: &'a [T],
    blocks: &'a [u32],
    /// The rows' positions; the first row is row `first` of the batch.
    positions: &'a [u32],
    first: usize,
    last: usize,
    /// One key or value, `[dim]`.
    vector: &'a mut [f32],
    /// A [`State`] for each row and each query head of the group, one behind the other.
    states: &'a mut [f32],
}

/// The running softmax of one row and query head.
struct State<'a> {
    max: &'a mut f32,
    sum: &'a mut f32,
    /// Scores, then weights, of the positions of a block.
    scores: &'a mut [f32],
    /// Values so far, weighted, `[dim]`.
    mix: &'a mut [f32],
}

impl<'a> State<'a> {
    fn floats(dim: usize) -> usize {
        2 + BLOCK + dim
    }

    #[inline(always)]
    fn of(floats: &'a mut [f32]) -> Self {
        let (head, mix) = floats.split_at_mut(2 + BLOCK);
        let (ends, scores) = head.split_at_mut(2);
        let (max, sum) = ends.split_at_mut(1);
        Self { max: &mut max[0], sum: &mut sum[0], scores, mix }
    }

    /// Turns the scores of the first `n` positions of a block into weights, and scales what was summed
    /// so far if they raise the maximum.
    #[inline(always)]
    fn weigh(&mut self, n: usize) {
        let scores = &mut self.scores[..n];
        let max = scores.iter().fold(*self.max, |a, &b| a.max(b));
        if max > *self.max {
            let scale = (*self.max - max).exp();
            *self.max = max;
            *self.sum *= scale;
            self.mix.iter_mut().for_each(|x| *x *= scale);
        }
        let mut sum = 0.0;
        for s in scores {
            *s = (*s - max).exp();
            sum += *s;
        }
        *self.sum += sum;
    }
}

impl<T: Stored> Kernel for Task<'_, T> {
    #[inline(always)]
    fn run<V: Integers>(mut self) {
        for state in self.states.chunks_exact_mut(State::floats(self.heads.dim)) {
            let state = State::of(state);
            *state.max = f32::NEG_INFINITY;
            *state.sum = 0.0;
            state.mix.fill(0.0);
        }
        for (b, &block) in self.blocks.iter().enumerate().take(self.last / BLOCK + 1) {
            let base = b * BLOCK;
            let slot = block as usize * BLOCK;
            let count = BLOCK.min(self.last + 1 - base);
            for j in 0..count {
                self.score::<V>(slot + j, base, j);
            }
            self.weigh(base);
            for j in 0..count {
                self.mix::<V>(slot + j, base, j);
            }
        }
        self.finish();
    }
}

impl<T: Stored> Task<'_, T> {
    /// Positions that row `r` sees of the block that begins at position `base`.
    #[inline(always)]
    fn visible(&self, r: usize, base: usize) -> usize {
        (self.positions[r] as usize + 1).saturating_sub(base).min(BLOCK)
    }

    /// Where the head's key or value of `slot` lies.
    #[inline(always)]
    fn place(&self, slot: usize) -> Range<usize> {
        let first = (slot * self.heads.kv + self.head) * self.heads.dim;
        first..first + self.heads.dim
    }

    /// The scores of position `base + j`, whose key is in `slot`.
    #[inline(always)]
    fn score<V: Vector>(&mut self, slot: usize, base: usize, j: usize) {
        let (dim, group) = (self.heads.dim, self.heads.q / self.heads.kv);
        let scale = 1.0 / (dim as f32).sqrt();
        T::load(&self.keys[self.place(slot)], self.vector);
        for r in 0..self.positions.len() {
            if j >= self.visible(r, base) {
                continue;
            }
            let q = (self.first + r) * self.heads.qkv_cols() + self.head * group * dim;
            let q = self.qkv[q..q + group * dim].chunks_exact(dim);
            let states = self.states.chunks_exact_mut(State::floats(dim)).skip(r * group);
            for (q, state) in q.zip(states) {
                State::of(state).scores[j] = dot::<V>(q, self.vector) * scale;
            }
        }
    }

    /// Turns the block's scores into weights.
    #[inline(always)]
    fn weigh(&mut self, base: usize) {
        let group = self.heads.q / self.heads.kv;
        let size = State::floats(self.heads.dim);
        for r in 0..self.positions.len() {
            let n = self.visible(r, base);
            if n > 0 {
                let states = self.states.chunks_exact_mut(size).skip(r * group).take(group);
                states.for_each(|state| State::of(state).weigh(n));
            }
        }
    }

    /// Adds the value of position `base + j`, which is in `slot`.
    #[inline(always)]
    fn mix<V: Vector>(&mut self, slot: usize, base: usize, j: usize) {
        let (dim, group) = (self.heads.dim, self.heads.q / self.heads.kv);
        T::load(&self.values[self.place(slot)], self.vector);
        for r in 0..self.positions.len() {
            if j >= self.visible(r, base) {
                continue;
            }
            for state in self.states.chunks_exact_mut(State::floats(dim)).skip(r * group).take(group) {
                let state = State::of(state);
                axpy::<V>(state.mix, state.scores[j], self.vector);
            }
        }
    }

    /// Writes the sums to y.
    #[inline(always)]
    fn finish(self) {
        let (dim, group) = (self.heads.dim, self.heads.q / self.heads.kv);
        for (r, states) in self.states.chunks_exact_mut(group * State::floats(dim)).enumerate() {
            let at = (self.first + r) * self.heads.q_cols() + self.head * group * dim;
            // SAFETY: the group's columns of the tile's rows belong to this task alone: tiles have
            // different rows, and tasks of one tile have different heads. The slice ends with the loop.
            let y = unsafe { self.y.slice(at, group * dim) };
            for (y, state) in y.chunks_exact_mut(dim).zip(states.chunks_exact_mut(State::floats(dim))) {
                let state = State::of(state);
                for (y, x) in y.iter_mut().zip(&*state.mix) {
                    *y = x / *state.sum;
                }
            }
        }
    }
}
