//! Activations in eight bits: what the products of quantized weights read.
//!
//! Every 32 inputs of a row share one scale: their largest magnitude over 127, or over a little less where that
//! rounds better. Beside the codes stand the sums that minima and offsets of weights are multiplied with. A row's codes depend on that row alone.

use super::integers::Integers;
use super::isa::{Isa, Kernel};
use super::parallel::{Disjoint, Workers};
use super::storage::Aligned;
use super::vector::LANES;
use std::marker::PhantomData;
use std::ops::Range;

/// Inputs that share a scale.
pub(super) const RUN: usize = 32;

/// Rows of a whole tile.
pub(super) const TILE: usize = 16;

/// Inputs of a tile that are quantized in one task.
const PIECE: usize = 2048;

/// Inputs of one row that are quantized before the next row's: the tile's bytes for them stay in the first cache.
const NEAR: usize = 256;

/// Multiplications that quantizing one input is worth, to judge how much work there is.
const EFFORT: usize = 16;

/// Words of one row's record: scale, three sums times the scale, three sums.
const WORDS: usize = 7;

/// Bytes of one row's record: 32 codes and the words.
const RECORD: usize = RUN + 4 * WORDS;

/// Rows of activations in tiles, group by group: rows of one group are multiplied with the same weights. A tile
/// holds, for each 32 inputs, the `height` rows' codes `[height, 32]`, then the rows' scales, `scale · Σ`,
/// `scale · Σ` of the first 16 and of the last 16, and the same three sums as integers, their signs changed, each
/// `[height]`.
#[derive(Debug, Default)]
pub(super) struct Quantized {
    data: Aligned,
    /// The tiles, and which of them holds each row.
    tiles: Vec<Place>,
    rows: Vec<usize>,
    runs: usize,
    bytes: usize,
    /// Rows that several groups share, each a tile of its own.
    shared: Aligned,
}

/// Where a tile begins, and the rows of the groups that it holds.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: usize,
    height: usize,
    first: usize,
    count: usize,
}

impl Quantized {
    /// Forgets all rows; those to come have `cols` inputs, a multiple of 32.
    pub(super) fn clear(&mut self, cols: usize) {
        self.tiles.clear();
        self.rows.clear();
        self.runs = cols / RUN;
        self.bytes = 0;
    }

    /// Makes room for a group of `rows` rows: tiles of 16, or one tile if there are no more than `few`.
    pub(super) fn group(&mut self, rows: usize, few: usize) {
        let height = if rows <= few { rows } else { TILE };
        for first in (0..rows).step_by(height.max(1)) {
            let (at, count) = (self.bytes, height.min(rows - first));
            let tile = self.tiles.len();
            self.tiles.push(Place { at, height, first: self.rows.len(), count });
            self.rows.extend(std::iter::repeat_n(tile, count));
            self.bytes += height * self.runs * RECORD;
        }
    }

    /// Quantizes the rows: row `i` of the groups is row `from(i)` of `x`. A row that several groups have is quantized
    /// once.
    pub(super) fn fill(
        &mut self,
        isa: Isa,
        workers: &Workers,
        x: &[f32],
        from: impl Fn(usize) -> usize + Sync,
    ) {
        let cols = self.runs * RUN;
        let pieces = cols.div_ceil(PIECE);
        let rows = x.len() / cols;
        let sharing = self.rows.len() > rows;
        if sharing {
            let out = &room(&mut self.shared, rows * self.runs * RECORD);
            workers.each(rows * pieces, rows * cols * EFFORT, |i| {
                let (row, first) = (i / pieces, i % pieces * PIECE / RUN);
                let place = Place { at: row * self.runs * RECORD, height: 1, first: row, count: 1 };
                isa.run(Rows { x, cols, first, out, place, from: |row| row });
            });
        }
        let out = &room(&mut self.data, self.bytes);
        let effort = if sharing { 1 } else { EFFORT };
        workers.each(self.tiles.len() * pieces, self.rows.len() * cols * effort, |i| {
            let (place, first) = (self.tiles[i / pieces], i % pieces * PIECE / RUN);
            if sharing {
                let runs = first..self.runs.min(first + PIECE / RUN);
                copy(self.shared.bytes(), self.runs, runs, out, place, &from);
            } else {
                isa.run(Rows { x, cols, first, out, place, from: &from });
            }
        });
    }

    /// The tile that holds row `row` of the groups, from run `first` of its inputs on.
    #[inline(always)]
    pub(super) fn tile(&self, row: usize, first: usize, runs: usize) -> Tile<'_> {
        let Place { at, height, .. } = self.tiles[self.rows[row]];
        let size = height * RECORD;
        Tile { bytes: &self.data.bytes()[at + first * size..][..runs * size], height }
    }
}

/// At least `bytes` bytes of `memory`, to be written by several threads.
fn room(memory: &mut Aligned, bytes: usize) -> Disjoint<'_, u8> {
    memory.grow(bytes);
    Disjoint::new(memory.bytes_mut())
}

/// Copies `runs` of a tile's rows, each of which is a tile of its own in `shared`.
fn copy(
    shared: &[u8],
    all: usize,
    runs: Range<usize>,
    out: &Disjoint<'_, u8>,
    place: Place,
    from: impl Fn(usize) -> usize,
) {
    let Place { at, height, first, count } = place;
    for r in 0..count {
        let records = &shared[from(first + r) * all * RECORD..][..all * RECORD];
        for (g, record) in runs.clone().zip(records[runs.start * RECORD..].chunks_exact(RECORD)) {
            let (codes, words) = record.split_at(RUN);
            // SAFETY: every place is another tile, and every piece other runs: nobody else writes here.
            unsafe { put(out, at + g * height * RECORD, height, r, codes, words) };
        }
    }
}

/// Writes row `r` of the record at `at`: 32 codes, and the words one behind the other.
///
/// # Safety
/// Nobody else may use row `r` of that record meanwhile.
#[inline(always)]
unsafe fn put(out: &Disjoint<'_, u8>, at: usize, height: usize, r: usize, codes: &[u8], words: &[u8]) {
    // SAFETY: by the caller's promise.
    unsafe { out.slice(at + r * RUN, RUN) }.copy_from_slice(codes);
    for (array, word) in words.as_chunks::<4>().0.iter().enumerate() {
        // SAFETY: by the caller's promise.
        unsafe { out.slice(at + height * RUN + 4 * (array * height + r), 4) }.copy_from_slice(word);
    }
}

/// Some runs of one tile.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    bytes: &'a [u8],
    height: usize,
}

impl<'a> Tile<'a> {
    /// Run `g` of them.
    #[inline(always)]
    pub(super) fn record(&self, g: usize) -> Record<'a> {
        let size = self.height * RECORD;
        let (codes, words) = self.bytes[g * size..][..size].split_at(self.height * RUN);
        let (codes, words) = (codes.as_ptr(), words.as_ptr());
        Record { codes, words, rows: self.height, height: self.height, tile: PhantomData }
    }

    /// The same, its height a constant, which saves the inner loops registers.
    #[inline(always)]
    pub(super) fn whole(self) -> Tile<'a> {
        assert!(self.height == TILE, "tiles of many rows are whole");
        Tile { bytes: self.bytes, height: TILE }
    }

    /// `count` of the runs, from `first` on.
    #[inline(always)]
    pub(super) fn runs(&self, first: usize, count: usize) -> Tile<'a> {
        let size = self.height * RECORD;
        Tile { bytes: &self.bytes[first * size..][..count * size], height: self.height }
    }

    /// Rows of the tile, used or not.
    #[inline(always)]
    pub(super) fn height(&self) -> usize {
        self.height
    }
}

/// Rows of one tile for one run of inputs, from some row on.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    /// The first row's codes, and its scale.
    codes: *const u8,
    words: *const u8,
    /// Rows that are left.
    rows: usize,
    height: usize,
    tile: PhantomData<&'a [u8]>,
}

/// Inputs that a sum is over.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// All 32.
    All,
    /// The first 16.
    First,
    /// The last 16.
    Last,
}

/// Rows are checked by those who cut the work, once for all inputs, and not again for every four of them.
impl Record<'_> {
    /// The same without the first `rows` rows.
    ///
    /// # Safety
    /// There are as many.
    #[inline(always)]
    pub(super) unsafe fn from(self, rows: usize) -> Self {
        debug_assert!(rows <= self.rows);
        // SAFETY: the codes are `height` rows of 32 bytes, the words arrays of `height` words, and rows are left.
        unsafe {
            let (codes, words) = (self.codes.add(rows * RUN), self.words.add(4 * rows));
            Self { codes, words, rows: self.rows - rows, ..self }
        }
    }

    /// Four codes of row `r`, from input `4 · quad` on; two's complement.
    ///
    /// # Safety
    /// `r` is below the rows that are left, here and below, and `quad` below 8.
    #[inline(always)]
    pub(super) unsafe fn quad(&self, r: usize, quad: usize) -> [u8; 4] {
        debug_assert!(r < self.rows && quad < RUN / 4);
        // SAFETY: the codes are rows of 32 bytes, and r and quad are within them.
        unsafe { self.codes.add(r * RUN + 4 * quad).cast::<[u8; 4]>().read() }
    }

    #[inline(always)]
    unsafe fn word(&self, array: usize, r: usize) -> [u8; 4] {
        debug_assert!(r < self.rows && array < WORDS);
        // SAFETY: there are so many arrays of `height` words, and r is within each of them.
        unsafe { self.words.add(4 * (array * self.height + r)).cast::<[u8; 4]>().read() }
    }

    /// The scale of row `r`.
    ///
    /// # Safety
    /// See [`quad`](Self::quad).
    #[inline(always)]
    pub(super) unsafe fn scale(&self, r: usize) -> f32 {
        // SAFETY: the caller's promise.
        f32::from_le_bytes(unsafe { self.word(0, r) })
    }

    /// The scale times the sum of the codes of `part` of row `r`.
    ///
    /// # Safety
    /// See [`quad`](Self::quad).
    #[inline(always)]
    pub(super) unsafe fn scaled_sum(&self, part: Part, r: usize) -> f32 {
        // SAFETY: the caller's promise.
        f32::from_le_bytes(unsafe { self.word(1 + part as usize, r) })
    }

    /// The sum of the codes of `part` of row `r`, its sign changed.
    ///
    /// # Safety
    /// See [`quad`](Self::quad).
    #[inline(always)]
    pub(super) unsafe fn negative_sum(&self, part: Part, r: usize) -> i32 {
        // SAFETY: the caller's promise.
        i32::from_le_bytes(unsafe { self.word(4 + part as usize, r) })
    }

    /// Where the codes begin: rows of 32.
    #[inline(always)]
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.codes
    }
}

/// A piece of a tile's rows to its place.
struct Rows<'a, F> {
    x: &'a [f32],
    cols: usize,
    /// The run of inputs that the piece begins with.
    first: usize,
    out: &'a Disjoint<'a, u8>,
    place: Place,
    /// Which row of `x` a row of the groups is.
    from: F,
}

impl<F: Fn(usize) -> usize> Kernel for Rows<'_, F> {
    #[inline(always)]
    fn run<V: Integers>(self) {
        let Place { at, height, first, count } = self.place;
        let inputs = self.first * RUN..self.cols.min(self.first * RUN + PIECE);
        for near in inputs.clone().step_by(NEAR) {
            for r in 0..count {
                let x = &self.x[(self.from)(first + r) * self.cols..][..self.cols];
                let x = &x[near..inputs.end.min(near + NEAR)];
                for (g, x) in x.as_chunks::<RUN>().0.iter().enumerate() {
                    let at = at + (near / RUN + g) * height * RECORD;
                    // SAFETY: every place is another tile, and every piece other runs: nobody else writes here.
                    unsafe { quantize::<V>(self.out, at, height, r, x) };
                }
            }
        }
    }
}

/// Codes of the largest magnitude that are tried. Each gives other roundings of the 32; the best of four has an error
/// about an eighth smaller than that of 127 alone.
const LARGEST: [f32; 4] = [127.0, 125.0, 123.0, 121.0];

/// Adding it rounds to nearest, ties to even, and leaves the integer in the low bits.
const ROUND: f32 = 12_582_912.0;

/// Codes of 32 inputs as floats, [`ROUND`] added, and their scale.
///
/// # Safety
/// As for [`Integers`].
#[inline(always)]
unsafe fn codes<V: Integers>(x: &[f32; RUN]) -> ([V; 2], f32) {
    // Magnitudes compare as their bits do; what is not a number is the largest and stays visible.
    let mut largest = 0;
    for x in x {
        largest = largest.max(x.to_bits() & 0x7FFF_FFFF);
    }
    let largest = f32::from_bits(largest);
    let (mut scales, mut inverses) = ([0.0; LARGEST.len()], [0.0; LARGEST.len()]);
    for i in 0..LARGEST.len() {
        scales[i] = largest / LARGEST[i];
        inverses[i] = if scales[i] > 0.0 { 1.0 / scales[i] } else { 0.0 };
    }
    // SAFETY: the caller knows the instruction set.
    unsafe {
        let halves = x.as_chunks::<LANES>().0;
        let x = [V::load(&halves[0]), V::load(&halves[1])];
        let round = V::splat(ROUND);
        let (mut best, mut least) = ((0.0, scales[0]), f32::INFINITY);
        for (scale, inverse) in scales.into_iter().zip(inverses) {
            let mut errors = V::zero();
            for x in x {
                let exact = x.mul(V::splat(inverse));
                let error = exact.sub(exact.add(round).sub(round));
                // In 1024ths: whole numbers, whose squares have one sum in any order, below 2^24.
                let parts = error.times_plus(V::splat(1024.0), round).sub(round);
                errors = parts.times_plus(parts, errors);
            }
            let error = errors.total() * scale * scale;
            if error < least {
                (best, least) = ((inverse, scale), error);
            }
        }
        let inverse = V::splat(best.0);
        ([x[0].mul(inverse).add(round), x[1].mul(inverse).add(round)], best.1)
    }
}

/// Quantizes 32 inputs into row `r` of the record at `at`.
///
/// # Safety
/// As for [`Integers`], and nobody else may use row `r` of that record meanwhile.
#[inline(always)]
unsafe fn quantize<V: Integers>(out: &Disjoint<'_, u8>, at: usize, height: usize, r: usize, x: &[f32; RUN]) {
    // SAFETY: the caller knows the instruction set.
    let (halves, scale, sums) = unsafe {
        let ([first, last], scale) = codes::<V>(x);
        let round = V::splat(ROUND);
        let sums = [first.sub(round).total(), last.sub(round).total()];
        ([first.lowest_bytes(), last.lowest_bytes()], scale, sums)
    };
    // What is not a number has codes of zero.
    let [first, last] = sums.map(|sum| sum as i32);
    let scaled = |sum: i32| (scale * sum as f32).to_le_bytes();
    let words: [_; WORDS] = [
        scale.to_le_bytes(),
        scaled(first + last),
        scaled(first),
        scaled(last),
        (-first - last).to_le_bytes(),
        (-first).to_le_bytes(),
        (-last).to_le_bytes(),
    ];
    // SAFETY: by the caller's promise.
    unsafe { put(out, at, height, r, halves.as_flattened(), words.as_flattened()) };
}
