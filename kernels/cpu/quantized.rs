//! Activations in eight bits: what the products of quantized weights read.
//!
//! Every 32 inputs of a row share one scale: their largest magnitude over 127, or over a little less where that
//! rounds better. Beside the codes stand the sums that minima and offsets of weights are multiplied with. A row's codes depend on that row alone.

// Registers are numbered: an iterator over them is not inlined for certain, and then they are in memory.
#![allow(clippy::needless_range_loop)]

use super::integers::Integers;
use super::isa::{Isa, Kernel};
use super::parallel::{Disjoint, Workers};
use super::storage::Aligned;
use super::vector::{LANES, Lanes};
use std::marker::PhantomData;
use std::ops::Range;

/// Inputs that share a scale.
pub(super) const RUN: usize = 32;

/// Rows of a whole tile of the matrix unit.
pub(super) const TILE: usize = 16;

/// Rows of a whole tile of the vector unit.
pub(super) const STRIP: usize = 8;

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

    /// Makes room for a group of `rows` rows in tiles of `height`.
    pub(super) fn group(&mut self, rows: usize, height: usize) {
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
    let size = height * RECORD;
    // SAFETY: every place is another tile, and every piece other runs: nobody else writes here. The slice ends with
    // the task.
    let to = unsafe { out.slice(at + runs.start * size, runs.len() * size) };
    for r in 0..count {
        let records = &shared[from(first + r) * all * RECORD..][..all * RECORD];
        let records = records[runs.start * RECORD..].chunks_exact(RECORD);
        for (to, record) in to.chunks_exact_mut(size).zip(records) {
            let (codes, words) = record.split_at(RUN);
            put(to, height, r, codes, words);
        }
    }
}

/// Writes row `r` of a record: 32 codes, and the words one behind the other.
#[inline(always)]
fn put(record: &mut [u8], height: usize, r: usize, codes: &[u8], words: &[u8]) {
    let (all, rest) = record.split_at_mut(height * RUN);
    all[r * RUN..][..RUN].copy_from_slice(codes);
    let rest = rest.as_chunks_mut::<4>().0;
    for (array, word) in words.as_chunks::<4>().0.iter().enumerate() {
        rest[array * height + r] = *word;
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
    pub(super) fn whole<const HEIGHT: usize>(self) -> Tile<'a> {
        assert!(self.height == HEIGHT, "tiles of many rows are whole");
        Tile { bytes: self.bytes, height: HEIGHT }
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
        let size = height * RECORD;
        // SAFETY: every place is another tile, and every piece other runs: nobody else writes here. The slice ends
        // with the task.
        let records = unsafe { self.out.slice(at + self.first * size, inputs.len() / RUN * size) };
        for near in inputs.clone().step_by(NEAR) {
            for r in 0..count {
                let x = &self.x[(self.from)(first + r) * self.cols..][..self.cols];
                let x = x[near..inputs.end.min(near + NEAR)].as_chunks::<RUN>().0;
                for (i, x) in x.chunks(TOGETHER).enumerate() {
                    let mut padded = [[0.0; RUN]; TOGETHER];
                    let four = if let [four] = x.as_chunks().0 {
                        four
                    } else {
                        padded[..x.len()].copy_from_slice(x);
                        &padded
                    };
                    let first = (near - inputs.start) / RUN + i * TOGETHER;
                    // SAFETY: this is compiled into `Isa::run`'s function for `V`.
                    let runs = unsafe { quantize::<V>(four) };
                    for (g, run) in runs.iter().enumerate().take(x.len()) {
                        run.put(&mut records[(first + g) * size..][..size], height, r);
                    }
                }
            }
        }
    }
}

/// Runs of one row that are quantized together: what is once for a run is then done in lanes.
const TOGETHER: usize = 4;

/// Codes of the largest magnitude that are tried. Each gives other roundings of the 32; the best of four has an error
/// about an eighth smaller than that of 127 alone.
const LARGEST: [f32; 4] = [127.0, 125.0, 123.0, 121.0];

/// [`LARGEST`] for each of the runs.
const TRIED: Lanes = {
    let mut tried = [0.0; LANES];
    let mut i = 0;
    while i < LANES {
        tried[i] = LARGEST[i % LARGEST.len()];
        i += 1;
    }
    tried
};

/// Adding it rounds to nearest, ties to even, and leaves the integer in the low bits.
const ROUND: f32 = 12_582_912.0;

/// What two sums of 16 codes are apart in one number: more than twice the largest of them.
const APART: f32 = 8192.0;

/// A quantized run.
struct Quantum {
    codes: [[u8; LANES]; 2],
    scale: f32,
    /// Of the first 16 codes and of the last 16.
    sums: [i32; 2],
}

impl Quantum {
    /// Writes it as row `r` of a record of `height` rows.
    #[inline(always)]
    fn put(&self, record: &mut [u8], height: usize, r: usize) {
        let (scale, [first, last]) = (self.scale, self.sums);
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
        put(record, height, r, self.codes.as_flattened(), words.as_flattened());
    }
}

/// Quantizes four runs of 32 inputs.
///
/// # Safety
/// As for [`Integers`].
#[inline(always)]
unsafe fn quantize<V: Integers>(x: &[[f32; RUN]; TOGETHER]) -> [Quantum; TOGETHER] {
    // SAFETY: the caller knows the instruction set.
    unsafe {
        let round = V::splat(ROUND);
        let choices = choose::<V>(x);
        let mut sums = [V::zero(); TOGETHER];
        let mut codes = [[[0; LANES]; 2]; TOGETHER];
        for i in 0..TOGETHER {
            let inverse = V::splat(choices[i].0);
            let [first, last] = halves::<V>(&x[i]);
            let (first, last) = (first.mul(inverse).add(round), last.mul(inverse).add(round));
            codes[i] = [first.lowest_bytes(), last.lowest_bytes()];
            sums[i] = last.sub(round).times_plus(V::splat(APART), first.sub(round));
        }
        let sums = V::totals(sums);
        std::array::from_fn(|i| {
            // What is not a number has codes of zero.
            let both = sums[i] as i32;
            let last = (both + APART as i32 / 2).div_euclid(APART as i32);
            Quantum { codes: codes[i], scale: choices[i].1, sums: [both - last * APART as i32, last] }
        })
    }
}

/// Inverse and scale for each of four runs: those of [`LARGEST`] with the least error.
///
/// # Safety
/// As for [`Integers`].
#[inline(always)]
unsafe fn choose<V: Integers>(x: &[[f32; RUN]; TOGETHER]) -> [(f32, f32); TOGETHER] {
    let (mut largest, mut errors) = ([0.0; LANES], [0.0; LANES]);
    // SAFETY: the caller knows the instruction set.
    unsafe {
        let mut inputs = [[V::zero(); 2]; TOGETHER];
        for i in 0..TOGETHER {
            inputs[i] = halves(&x[i]);
        }
        for (largest, magnitude) in largest.as_chunks_mut().0.iter_mut().zip(V::magnitudes(inputs)) {
            *largest = [magnitude; LARGEST.len()];
        }
        let round = V::splat(ROUND);
        let scales = V::load(&largest).div(V::load(&TRIED));
        let inverses = V::splat(1.0).div(scales).zero_below(scales, V::splat(f32::from_bits(1))).store();
        for i in 0..TOGETHER {
            let x = halves::<V>(&x[i]);
            let mut sums = [V::zero(); LARGEST.len()];
            for tried in 0..LARGEST.len() {
                let inverse = V::splat(inverses[i * LARGEST.len() + tried]);
                for h in 0..2 {
                    let exact = x[h].mul(inverse);
                    let error = exact.sub(exact.add(round).sub(round));
                    // In 1024ths: whole numbers, whose squares have one sum in any order, below 2^24.
                    let parts = error.times_plus(V::splat(1024.0), round).sub(round);
                    sums[tried] = parts.times_plus(parts, sums[tried]);
                }
            }
            errors[i * LARGEST.len()..][..LARGEST.len()].copy_from_slice(&V::totals(sums));
        }
        let errors = V::load(&errors).mul(scales).mul(scales).store();
        let scales = scales.store();
        let mut best = [(0.0, 0.0); TOGETHER];
        for i in 0..TOGETHER {
            // Errors compare as their bits do, and of equal ones the first counts. No branch: none could be foreseen.
            let mut least = u64::MAX;
            for tried in i * LARGEST.len()..(i + 1) * LARGEST.len() {
                least = least.min(u64::from(errors[tried].to_bits()) << 32 | tried as u64);
            }
            let tried = least as usize % LANES;
            best[i] = (inverses[tried], scales[tried]);
        }
        best
    }
}

/// Both halves of a run.
///
/// # Safety
/// As for [`Integers`].
#[inline(always)]
unsafe fn halves<V: Integers>(x: &[f32; RUN]) -> [V; 2] {
    let halves = x.as_chunks::<LANES>().0;
    // SAFETY: the caller knows the instruction set.
    unsafe { [V::load(&halves[0]), V::load(&halves[1])] }
}
