//! The two products of attention: queries with keys, weights with values, in registers.
//!
//! Both take up to [`QUERIES`] queries through one block of the cache. Each output is a sum of one order,
//! columns or positions ascending, so neither the number of queries nor the shape of the register tile
//! changes a bit. Bytes: a block is read once for all of its queries, `BLOCK · dim` entries.

use super::super::kv::{Block, Entry, PARTS};
use super::super::vector::{LANES, Vector};
use super::CHUNK;
use crate::BLOCK;
use crate::kv::GROUP;
use crate::mapped::LINE;

/// Queries that any instruction set takes at a time, at most.
pub(super) const QUERIES: usize = 8;

/// Queries that `V`'s registers take at a time: sixteen positions or columns of each, and an operand.
#[inline(always)]
pub(super) fn queries<V: Vector>() -> usize {
    match V::REGISTERS {
        32.. => QUERIES,
        8.. => 6,
        _ => 3,
    }
}

/// Calls `$f::<V, T, U>` with the `U` that `$count` is, from 1 to [`queries`].
macro_rules! by_count {
    ($count:expr, $f:ident($($arg:expr),*)) => {
        match $count {
            1 => $f::<V, T, 1>($($arg),*),
            2 => $f::<V, T, 2>($($arg),*),
            3 => $f::<V, T, 3>($($arg),*),
            4 if V::REGISTERS >= 8 => $f::<V, T, 4>($($arg),*),
            5 if V::REGISTERS >= 8 => $f::<V, T, 5>($($arg),*),
            6 if V::REGISTERS >= 8 => $f::<V, T, 6>($($arg),*),
            7 if V::REGISTERS >= 32 => $f::<V, T, 7>($($arg),*),
            8 if V::REGISTERS >= 32 => $f::<V, T, 8>($($arg),*),
            count => unreachable!("{count} queries at a time"),
        }
    };
}

/// The scores of a block's positions: `scores[u][j] = Σ_d q[d][u] · keys[d][j]`, d ascending.
/// `q [dim, count]`, `scores [count, CHUNK]` from the block's first position on.
#[inline(always)]
pub(super) fn scores<V: Vector, T: Entry>(scores: &mut [f32], q: &[f32], keys: Block<'_, T>, count: usize) {
    by_count!(count, scores_of(scores, q, keys))
}

#[inline(always)]
fn scores_of<V: Vector, T: Entry, const U: usize>(scores: &mut [f32], q: &[f32], keys: Block<'_, T>) {
    if V::REGISTERS >= 32 {
        scores_in::<V, T, U, PARTS>(scores, q, keys, 0);
    } else {
        for part in 0..PARTS {
            scores_in::<V, T, U, 1>(scores, q, keys, part);
        }
    }
}

/// `P` registers of positions, from register `part` on.
#[inline(always)]
fn scores_in<V: Vector, T: Entry, const U: usize, const P: usize>(
    scores: &mut [f32],
    q: &[f32],
    keys: Block<'_, T>,
    part: usize,
) {
    let (columns, rows) = (q.as_chunks::<U>().0, keys.entries.as_chunks::<BLOCK>().0);
    // SAFETY: this is compiled into `Isa::run`'s function for `V`, which knows the instruction set.
    unsafe {
        let mut sums = [[V::zero(); P]; U];
        for (g, (columns, rows)) in columns.chunks(GROUP).zip(rows.chunks(GROUP)).enumerate() {
            let mut scales = [V::zero(); P];
            for (p, scales) in scales.iter_mut().enumerate() {
                *scales = keys.scales(g, part + p);
            }
            for (q, row) in columns.iter().zip(rows) {
                keys.prefetch::<V>(row, part);
                let row = row.as_chunks::<LANES>().0;
                let mut k = [V::zero(); P];
                for p in 0..P {
                    k[p] = T::load(&row[part + p], scales[p]);
                }
                for u in 0..U {
                    let q = V::splat(q[u]);
                    for p in 0..P {
                        sums[u][p] = sums[u][p].add_product(q, k[p]);
                    }
                }
            }
        }
        for u in 0..U {
            let to = scores[u * CHUNK..][..BLOCK].as_chunks_mut::<LANES>().0;
            for p in 0..P {
                to[part + p] = sums[u][p].store();
            }
        }
    }
}

/// Which positions of a block, as the queries' weights see them, and where their sums go.
#[derive(Clone, Copy)]
pub(super) struct Mix<'a> {
    /// `[count, CHUNK]` from the block's first position on.
    pub(super) weights: &'a [f32],
    /// Positions of the block from the first to before the second.
    pub(super) from: usize,
    pub(super) to: usize,
    /// Columns of a value in the cache.
    pub(super) width: usize,
    /// Floats from one query's sums to the next one's.
    pub(super) stride: usize,
}

/// Adds a block's values: `mix[u] += Σ_j weights[u][j] · values[j]`, j ascending. `mix [count, stride]`.
#[inline(always)]
pub(super) fn mix<V: Vector, T: Entry>(mix: &mut [f32], values: Block<'_, T>, task: Mix<'_>, count: usize) {
    by_count!(count, mix_of(mix, values, task))
}

#[inline(always)]
fn mix_of<V: Vector, T: Entry, const U: usize>(mix: &mut [f32], values: Block<'_, T>, task: Mix<'_>) {
    let registers = task.width / LANES;
    let mut column = 0;
    // As many columns as the sums of all queries leave room for.
    if V::REGISTERS >= 32 && U <= 6 {
        while column + 4 <= registers {
            mix_in::<V, T, U, 4>(mix, values, task, column);
            column += 4;
        }
    } else if V::REGISTERS >= 32 {
        while column + 2 <= registers {
            mix_in::<V, T, U, 2>(mix, values, task, column);
            column += 2;
        }
    }
    while column < registers {
        mix_in::<V, T, U, 1>(mix, values, task, column);
        column += 1;
    }
}

/// `C` registers of columns, from register `column` on.
#[inline(always)]
fn mix_in<V: Vector, T: Entry, const U: usize, const C: usize>(
    mix: &mut [f32],
    values: Block<'_, T>,
    task: Mix<'_>,
    column: usize,
) {
    let mut weights = [&[0.0; BLOCK]; U];
    for (u, w) in weights.iter_mut().enumerate() {
        *w = &task.weights[u * CHUNK..].as_chunks().0[0];
    }
    let mut scales = [[0.0; BLOCK]; C];
    if T::SCALED {
        for (c, scales) in scales.iter_mut().enumerate() {
            positions_scales::<V, T>(scales, values, (column + c) * LANES / GROUP);
        }
    }
    // SAFETY: this is compiled into `Isa::run`'s function for `V`, which knows the instruction set.
    unsafe {
        let mut sums = [[V::zero(); C]; U];
        for u in 0..U {
            let from = &mix[u * task.stride + column * LANES..].as_chunks().0[..C];
            for c in 0..C {
                sums[u][c] = V::load(&from[c]);
            }
        }
        // Plain loops with indices: the sums stay in registers only if every inner loop is unrolled.
        for j in task.from..task.to.min(BLOCK) {
            let row = &values.entries[j * task.width + column * LANES..].as_chunks().0[..C];
            let mut v = [V::zero(); C];
            for c in 0..C {
                if (c * size_of::<[T; LANES]>()).is_multiple_of(LINE) {
                    values.prefetch::<V>(&row[c], 0);
                }
                v[c] = T::load(&row[c], V::splat(scales[c][j]));
            }
            for u in 0..U {
                let w = V::splat(weights[u][j]);
                for c in 0..C {
                    sums[u][c] = sums[u][c].add_product(w, v[c]);
                }
            }
        }
        for u in 0..U {
            let to = &mut mix[u * task.stride + column * LANES..].as_chunks_mut().0[..C];
            for c in 0..C {
                to[c] = sums[u][c].store();
            }
        }
    }
}

/// The scales of a block's positions for the columns of group `group`, as f32.
#[inline(always)]
fn positions_scales<V: Vector, T: Entry>(to: &mut [f32; BLOCK], block: Block<'_, T>, group: usize) {
    for (part, to) in to.as_chunks_mut().0.iter_mut().enumerate() {
        // SAFETY: this is compiled into `Isa::run`'s function for `V`, which knows the instruction set.
        *to = unsafe { block.scales::<V>(group, part).store() };
    }
}

/// Widens keys `[dim][BLOCK]`.
#[inline(always)]
pub(super) fn widen_keys<V: Vector, T: Entry>(to: &mut [f32], keys: Block<'_, T>) {
    let (to, from) = (to.as_chunks_mut::<LANES>().0, keys.entries.as_chunks::<LANES>().0);
    for (i, (to, from)) in to.iter_mut().zip(from).enumerate() {
        // SAFETY: this is compiled into `Isa::run`'s function for `V`, which knows the instruction set.
        *to = unsafe { T::load(from, keys.scales::<V>(i / PARTS / GROUP, i % PARTS)).store() };
    }
}

/// Widens values `[BLOCK][width]`.
#[inline(always)]
pub(super) fn widen_values<V: Vector, T: Entry>(to: &mut [f32], values: Block<'_, T>, width: usize) {
    for column in 0..width / LANES {
        let mut scales = [0.0; BLOCK];
        if T::SCALED {
            positions_scales::<V, T>(&mut scales, values, column * LANES / GROUP);
        }
        let from = values.entries.chunks_exact(width).zip(&scales);
        for (to, (from, &scale)) in to.chunks_exact_mut(width).zip(from) {
            let (to, from) = (&mut to.as_chunks_mut().0[column], &from.as_chunks().0[column]);
            // SAFETY: as above.
            *to = unsafe { T::load::<V>(from, V::splat(scale)).store() };
        }
    }
}
