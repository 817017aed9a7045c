//! Causal attention over the paged cache, with several query heads to each key and value head.
//!
//! A row's context is cut into chunks of [`CHUNK`] positions. A chunk gives a maximum, a sum of
//! exponentials and a weighted sum of values; chunks are joined from position 0 up, each scaled to the
//! larger maximum (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018). Whether one
//! task goes through all chunks, as in prefill, or each chunk is a task and the results are joined
//! afterwards (Dao et al., "Flash-Decoding", 2023), the arithmetic is the same and so are the bits.
//!
//! A task serves all query heads of one key and value head, for the rows of one tile. With more queries
//! than registers take at a time it first widens a block of the cache to f32. Scratch depends on the
//! shape of the heads only; results of chunks that wait to be joined have a place for as many chunks as
//! the cache has, and rows for which there is no place are not split.

mod plan;
mod products;

use super::exp::exp;
use super::integers::Integers;
use super::isa::{Isa, Kernel};
use super::kv::{Block, Entry, Kv, Side, Store, width};
use super::lanes;
use super::parallel::{self, Disjoint, Workers};
use super::vector::{LANES, Lanes, Vector};
use crate::{BLOCK, Batch, Heads, Result};
pub(super) use plan::Plan;
use plan::Tile;
use products::{Mix, queries};
use std::ops::Range;

/// Positions whose softmax is computed at once.
const CHUNK: usize = 8 * BLOCK;

/// `y [rows, heads.q_cols()]` for queries in `qkv [rows, heads.qkv_cols()]`; every block of the batch is
/// within `kv`.
pub(super) fn causal(
    isa: Isa,
    workers: &Workers,
    y: &mut [f32],
    qkv: &[f32],
    kv: &Kv,
    batch: &Batch,
    plan: &mut Plan,
) -> Result<()> {
    plan.prepare(batch, kv.heads, kv.slots)?;
    match &kv.store {
        Store::F32(k, v) => stored(isa, workers, y, qkv, kv.heads, (k, v), batch, plan),
        Store::F16(k, v) => stored(isa, workers, y, qkv, kv.heads, (k, v), batch, plan),
        Store::Q8(k, v) => stored(isa, workers, y, qkv, kv.heads, (k, v), batch, plan),
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn stored<T: Entry>(
    isa: Isa,
    workers: &Workers,
    y: &mut [f32],
    qkv: &[f32],
    heads: Heads,
    (keys, values): (&Side<T>, &Side<T>),
    batch: &Batch,
    plan: &mut Plan,
) {
    let (y, partials) = (Disjoint::new(y), Disjoint::new(&mut plan.partials));
    let (tiles, jobs, size) = (&plan.tiles, plan.jobs, state_size(heads.dim));
    let rows = |tile: &Tile, head| {
        let positions = &batch.positions[tile.rows.clone()];
        Rows { heads, head, first: tile.rows.start, positions }
    };
    // Where the states of one chunk of a split tile are for one head, and how many floats they have.
    let place = |first: usize, chunk: usize, rows: &Rows<'_>| {
        let states = rows.positions.len() * heads.q / heads.kv;
        ((first + chunk * rows.positions.len()) * heads.q * size + rows.head * states * size, states * size)
    };
    workers.each(jobs * heads.kv, 2 * plan.seen * heads.q_cols(), |task| {
        // The last tiles of a prompt see most: they come first, so that none is waited for at the end.
        let (tile, chunks) = plan::job(tiles, jobs - 1 - task / heads.kv);
        let rows = rows(tile, task % heads.kv);
        let n = rows.queries();
        let widened = if T::WIDE { 0 } else { BLOCK * width(heads.dim) };
        let lengths = [n * CHUNK, n * size, n * size, widened, n * heads.dim];
        with_aligned(lengths, |[scores, own, total, wide, q]| {
            let part = match tile.place {
                Some(first) => {
                    let (at, len) = place(first, chunks.start, &rows);
                    // SAFETY: tiles have different places, and within a tile's places each chunk and
                    // each head has its own, which this task alone has. The slice ends with the task.
                    unsafe { partials.slice(at, len) }
                }
                None => own,
            };
            let (blocks, split) = (&batch.spans[tile.span].blocks[..], tile.place.is_some());
            isa.run(Task {
                rows,
                qkv,
                y: &y,
                keys,
                values,
                blocks,
                chunks,
                split,
                q,
                scores,
                part,
                total,
                wide,
            });
        });
    });
    let work = tiles.iter().filter(|t| t.place.is_some()).map(|t| t.chunks() * t.rows.len()).sum::<usize>();
    if work == 0 {
        return;
    }
    workers.each(tiles.len() * heads.kv, work * heads.q * size, |task| {
        let tile = &tiles[task / heads.kv];
        let Some(first) = tile.place else { return };
        let rows = rows(tile, task % heads.kv);
        with_aligned([rows.queries() * size], |[total]| {
            for chunk in 0..tile.chunks() {
                let (at, len) = place(first, chunk, &rows);
                // SAFETY: as above; the tasks that wrote the states have ended.
                let part = unsafe { partials.slice(at, len) };
                isa.run(Join { rows, chunk, total: &mut *total, part });
            }
            rows.finish(&y, total);
        });
    });
}

/// This thread's scratch in slices of at least these lengths, each at the begin of a cache line.
fn with_aligned<const N: usize>(lengths: [usize; N], f: impl FnOnce([&mut [f32]; N])) {
    let lengths = lengths.map(|n| n.next_multiple_of(LANES));
    parallel::with_floats(lengths.iter().sum::<usize>() + LANES, |scratch| {
        let start = scratch.as_ptr().align_offset(size_of::<Lanes>()).min(LANES);
        let mut rest = &mut scratch[start..];
        f(lengths.map(|n| {
            let (slice, after) = std::mem::take(&mut rest).split_at_mut(n);
            rest = after;
            slice
        }));
    });
}

/// Floats of the softmax of one query: maximum, sum, and from [`LANES`] on the weighted values.
fn state_size(dim: usize) -> usize {
    LANES + width(dim)
}

/// The queries of one key and value head in one tile, row by row.
#[derive(Clone, Copy)]
struct Rows<'a> {
    heads: Heads,
    head: usize,
    /// The rows' positions; the first row is row `first` of the batch.
    positions: &'a [u32],
    first: usize,
}

impl Rows<'_> {
    #[inline(always)]
    fn group(&self) -> usize {
        self.heads.q / self.heads.kv
    }

    #[inline(always)]
    fn queries(&self) -> usize {
        self.positions.len() * self.group()
    }

    /// Positions of the chunk that query `n` sees.
    #[inline(always)]
    fn visible(&self, n: usize, chunk: usize) -> usize {
        let position = self.positions[n / self.group()] as usize;
        (position + 1).saturating_sub(chunk * CHUNK).min(CHUNK)
    }

    /// The fewest and the most positions of block `b` of the chunk that any of `count` queries from `n` on
    /// sees.
    #[inline(always)]
    fn seen(&self, n: usize, count: usize, chunk: usize, b: usize) -> (usize, usize) {
        let (mut least, mut most) = (BLOCK, 0);
        for &position in &self.positions[n / self.group()..(n + count).div_ceil(self.group())] {
            let seen = (position as usize + 1).saturating_sub(chunk * CHUNK + b * BLOCK).min(BLOCK);
            (least, most) = (least.min(seen), most.max(seen));
        }
        (least, most)
    }

    /// How many queries go through registers together, from query `n` on: whole rows if they fit, else
    /// equal parts of a row.
    #[inline(always)]
    fn together<V: Vector>(&self, n: usize) -> usize {
        let (group, most) = (self.group(), queries::<V>());
        if group <= most {
            return (most / group * group).min(self.queries() - n);
        }
        let part = group.div_ceil(group.div_ceil(most));
        part.min(group - n % group)
    }

    /// Writes the sums to y.
    fn finish(&self, y: &Disjoint<'_, f32>, states: &[f32]) {
        let (dim, group) = (self.heads.dim, self.group());
        for (n, state) in states.chunks_exact(state_size(dim)).enumerate().take(self.queries()) {
            let row = (self.first + n / group) * self.heads.q_cols();
            // SAFETY: the group's columns of the tile's rows belong to this task alone: tiles have
            // different rows, and tasks of one tile that end here have different heads. The slice ends
            // with the loop.
            let y = unsafe { y.slice(row + (self.head * group + n % group) * dim, dim) };
            for (y, x) in y.iter_mut().zip(&state[LANES..]) {
                *y = x / state[1];
            }
        }
    }
}

/// One tile, one key and value head, and some chunks: all, whose results are joined in `total` and written
/// to `y`, or one of a split tile, whose result stays in `part`.
struct Task<'a, T> {
    rows: Rows<'a>,
    qkv: &'a [f32],
    y: &'a Disjoint<'a, f32>,
    keys: &'a Side<T>,
    values: &'a Side<T>,
    blocks: &'a [u32],
    chunks: Range<usize>,
    split: bool,
    /// Scaled queries, for those that go together `[dim, count]`.
    q: &'a mut [f32],
    /// Scores, then weights, `[queries, CHUNK]`.
    scores: &'a mut [f32],
    /// States of the chunk, `[queries, state_size]`.
    part: &'a mut [f32],
    /// States of the chunks before, `[queries, state_size]`.
    total: &'a mut [f32],
    /// A block of keys or values in f32, `[BLOCK, width]`.
    wide: &'a mut [f32],
}

impl<T: Entry> Kernel for Task<'_, T> {
    #[inline(always)]
    fn run<V: Integers>(mut self) {
        self.pack::<V>();
        for chunk in self.chunks.clone() {
            self.chunk::<V>(chunk);
            if !self.split {
                Join { rows: self.rows, chunk, total: &mut *self.total, part: &*self.part }.run::<V>();
            }
        }
        if !self.split {
            self.rows.finish(self.y, self.total);
        }
    }
}

impl<T: Entry> Task<'_, T> {
    /// Gathers the queries, scaled, in the order in which [`products::scores`] wants them.
    #[inline(always)]
    fn pack<V: Vector>(&mut self) {
        let (rows, Heads { dim, .. }) = (self.rows, self.rows.heads);
        let scale = 1.0 / (dim as f32).sqrt();
        let mut n = 0;
        while n < rows.queries() {
            let count = rows.together::<V>(n);
            let to = &mut self.q[n * dim..][..count * dim];
            for u in 0..count {
                let (row, head) = ((n + u) / rows.group(), (n + u) % rows.group());
                let at = (rows.first + row) * rows.heads.qkv_cols() + (rows.head * rows.group() + head) * dim;
                for (to, q) in to[u..].iter_mut().step_by(count).zip(&self.qkv[at..][..dim]) {
                    *to = q * scale;
                }
            }
            n += count;
        }
    }

    /// The states of one chunk.
    #[inline(always)]
    fn chunk<V: Vector>(&mut self, chunk: usize) {
        let (rows, size) = (self.rows, state_size(self.rows.heads.dim));
        let widen = !T::WIDE && rows.queries() > queries::<V>();
        let seen =
            (0..rows.positions.len()).map(|r| rows.visible(r * rows.group(), chunk)).max().unwrap_or(0);
        // Chunks of split tiles are taken from the last to the first, those of others in their order.
        let further = if self.split { chunk.wrapping_sub(1) } else { chunk + 1 };
        let further = self.blocks.get(further.wrapping_mul(CHUNK / BLOCK)).copied();
        let blocks = &self.blocks[chunk * (CHUNK / BLOCK)..][..seen.div_ceil(BLOCK)];
        for (b, &block) in blocks.iter().enumerate() {
            let next = match blocks.get(b + 1) {
                Some(&next) => Some(self.keys.block(next, rows.head, rows.heads)),
                None => blocks.first().map(|&first| self.values.block(first, rows.head, rows.heads)),
            };
            let keys = self.keys.block(block, rows.head, rows.heads).before(next);
            if widen {
                products::widen_keys::<V, T>(self.wide, keys);
                score::<V, f32>(self.scores, self.q, rows, chunk, b, Block::wide(self.wide));
            } else {
                score::<V, T>(self.scores, self.q, rows, chunk, b, keys);
            }
        }
        for n in 0..rows.queries() {
            let state = &mut self.part[n * size..][..size];
            let visible = rows.visible(n, chunk);
            state.fill(0.0);
            (state[0], state[1]) = weigh::<V>(&mut self.scores[n * CHUNK..][..CHUNK], visible);
        }
        for (b, &block) in blocks.iter().enumerate() {
            let next = match blocks.get(b + 1) {
                Some(&next) => Some(self.values.block(next, rows.head, rows.heads)),
                None => further.map(|further| self.keys.block(further, rows.head, rows.heads)),
            };
            let values = self.values.block(block, rows.head, rows.heads).before(next);
            if widen {
                products::widen_values::<V, T>(self.wide, values, width(rows.heads.dim));
                mix::<V, f32>(self.part, self.scores, rows, chunk, b, Block::wide(self.wide));
            } else {
                mix::<V, T>(self.part, self.scores, rows, chunk, b, values);
            }
        }
    }
}

/// The scores of block `b` of a chunk for all queries that see any of it. What they do not see is computed
/// too, from whatever is there, and ignored.
#[inline(always)]
fn score<V: Vector, T: Entry>(
    scores: &mut [f32],
    q: &[f32],
    rows: Rows<'_>,
    chunk: usize,
    b: usize,
    keys: Block<'_, T>,
) {
    let dim = rows.heads.dim;
    let mut n = 0;
    while n < rows.queries() {
        let count = rows.together::<V>(n);
        if rows.seen(n, count, chunk, b).1 > 0 {
            let scores = &mut scores[n * CHUNK + b * BLOCK..];
            products::scores::<V, T>(scores, &q[n * dim..][..count * dim], keys, count);
        }
        n += count;
    }
}

/// Turns the scores of the first `visible` positions of a chunk into weights: maximum and sum. The weights
/// beyond are 0 up to a whole register.
#[inline(always)]
fn weigh<V: Vector>(scores: &mut [f32], visible: usize) -> (f32, f32) {
    let scores = scores.as_chunks_mut::<LANES>().0;
    let scores = &mut scores[..visible.div_ceil(LANES)];
    if let Some(last) = scores.last_mut()
        && !visible.is_multiple_of(LANES)
    {
        last[visible % LANES..].fill(f32::NEG_INFINITY);
    }
    // SAFETY: this is compiled into `Isa::run`'s function for `V`, which knows the instruction set.
    unsafe {
        let mut largest = V::splat(f32::NEG_INFINITY);
        for s in &*scores {
            largest = V::load(s).max(largest);
        }
        let largest = lanes::largest(largest.store());
        let mut sum = V::zero();
        for s in scores {
            let weights = exp(V::load(s).sub(V::splat(largest)));
            sum = sum.add(weights);
            *s = weights.store();
        }
        (largest, lanes::sum(sum.store()))
    }
}

/// Adds the values of block `b` of a chunk, for each query those that it sees and no others: what is
/// beyond may be no number, which a weight of 0 would not hide.
#[inline(always)]
fn mix<V: Vector, T: Entry>(
    states: &mut [f32],
    weights: &[f32],
    rows: Rows<'_>,
    chunk: usize,
    b: usize,
    values: Block<'_, T>,
) {
    let (width, stride) = (width(rows.heads.dim), state_size(rows.heads.dim));
    let mut n = 0;
    while n < rows.queries() {
        let count = rows.together::<V>(n);
        let (all, most) = rows.seen(n, count, chunk, b);
        let weights = |n: usize| &weights[n * CHUNK + b * BLOCK..];
        let task = Mix { weights: weights(n), from: 0, to: all, width, stride };
        if all > 0 {
            products::mix::<V, T>(&mut states[n * stride + LANES..], values, task, count);
        }
        let end = if most > all { n + count } else { n };
        for n in n..end {
            let (seen, _) = rows.seen(n, 1, chunk, b);
            if seen > all {
                let task = Mix { weights: weights(n), from: all, to: seen, ..task };
                products::mix::<V, T>(&mut states[n * stride + LANES..], values, task, 1);
            }
        }
        n += count;
    }
}

/// Joins the states of chunk `chunk` to those of the chunks before it.
struct Join<'a> {
    rows: Rows<'a>,
    chunk: usize,
    total: &'a mut [f32],
    part: &'a [f32],
}

impl Kernel for Join<'_> {
    #[inline(always)]
    fn run<V: Integers>(self) {
        let size = state_size(self.rows.heads.dim);
        let states = self.total.chunks_exact_mut(size).zip(self.part.chunks_exact(size));
        for (n, (total, part)) in states.enumerate().take(self.rows.queries()) {
            if self.chunk == 0 {
                total.fill(0.0);
                total[0] = f32::NEG_INFINITY;
            }
            if self.rows.visible(n, self.chunk) > 0 {
                join::<V>(total, part);
            }
        }
    }
}

/// `total` and `part`, each scaled to the larger maximum.
#[inline(always)]
fn join<V: Vector>(total: &mut [f32], part: &[f32]) {
    let largest = if part[0] < total[0] { total[0] } else { part[0] };
    let mut scales = [0.0; LANES];
    (scales[0], scales[1]) = (total[0] - largest, part[0] - largest);
    // SAFETY: this is compiled into `Isa::run`'s function for `V`, which knows the instruction set.
    unsafe {
        let [a, b, ..] = exp(V::load(&scales)).store();
        (total[0], total[1]) = (largest, total[1] * a + part[1] * b);
        let (a, b) = (V::splat(a), V::splat(b));
        let mixes = total.as_chunks_mut().0.iter_mut().zip(part.as_chunks().0);
        for (total, part) in mixes.skip(1) {
            *total = V::load(total).mul(a).add_product(V::load(part), b).store();
        }
    }
}
