//! Activations in eight bits: what the products of quantized weights read.
//!
//! The inputs of a unit share one scale: 32 inputs for weights whose scales are floats ([`Fine`]), 128 for those whose
//! scales are small integers ([`Wide`]). Beside the codes stand the sums that minima and offsets of weights are
//! multiplied with. A row's codes depend on that row alone.

mod fine;
mod wide;

use super::integers::Integers;
use super::isa::{Isa, Kernel};
use super::parallel::{Disjoint, Workers};
use super::storage::Aligned;
use super::vector::LANES;
pub(super) use crate::mapped::LINE;
pub(super) use fine::Fine;
use std::marker::PhantomData;
use std::ops::Range;
pub(super) use wide::{OFFSETS, SUM_OF_16, SUMS_OF_16, Wide};

/// Inputs whose codes of one row lie together.
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

/// Runs of one row that are quantized together: what is once for a run is then done in lanes.
const TOGETHER: usize = 4;

/// Words beside the codes of four runs, at most.
const WORDS: usize = 16;

/// Adding it rounds to nearest, ties to even, and leaves the integer in the low bits.
const ROUND: f32 = 12_582_912.0;

/// A way to round inputs: how many share a scale, and what stands beside their codes.
pub(super) trait Unit: std::fmt::Debug + Default + Copy + Send + Sync {
    /// Inputs that share a scale: one run or four.
    const INPUTS: usize;
    /// Words beside a row's codes, the first of which is the scale.
    const WORDS: usize;

    /// Those of a product's activations that are rounded so.
    fn of(all: &Activations) -> &Quantized<Self>;

    /// Rounds four runs of a row.
    ///
    /// # Safety
    /// As for [`Integers`].
    unsafe fn round<V: Integers>(x: &[[f32; RUN]; TOGETHER]) -> Rounded;
}

/// Four runs of a row: their codes, and the words of one unit behind those of the other.
pub(super) struct Rounded {
    codes: [[[u8; LANES]; 2]; TOGETHER],
    words: [[u8; 4]; WORDS],
}

/// A product's activations, rounded as its weights need them.
#[derive(Debug, Default)]
pub(super) struct Activations {
    pub(super) fine: Quantized<Fine>,
    pub(super) wide: Quantized<Wide>,
}

/// Bytes of one row's record of a unit: codes and words.
const fn record<U: Unit>() -> usize {
    U::INPUTS + 4 * U::WORDS
}

/// Rows of activations in tiles, group by group: rows of one group are multiplied with the same weights. A tile
/// holds, for each unit of inputs, the `height` rows' codes `[INPUTS / 32, height, 32]`, then its words, each `[height]`.
#[derive(Debug, Default)]
pub(super) struct Quantized<U> {
    data: Aligned,
    /// The tiles, and which of them holds each row.
    tiles: Vec<Place>,
    rows: Vec<usize>,
    units: usize,
    bytes: usize,
    /// Rows that several groups share, each a tile of its own.
    shared: Aligned,
    unit: PhantomData<U>,
}

/// Where a tile begins, and the rows of the groups that it holds.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: usize,
    height: usize,
    first: usize,
    count: usize,
}

impl<U: Unit> Quantized<U> {
    /// Forgets all rows; those to come have `cols` inputs, whole units.
    pub(super) fn clear(&mut self, cols: usize) {
        self.tiles.clear();
        self.rows.clear();
        self.units = cols / U::INPUTS;
        self.bytes = 0;
    }

    /// Makes room for a group of `rows` rows in tiles of `height`.
    pub(super) fn group(&mut self, rows: usize, height: usize) {
        for first in (0..rows).step_by(height.max(1)) {
            let (at, count) = (self.bytes, height.min(rows - first));
            let tile = self.tiles.len();
            self.tiles.push(Place { at, height, first: self.rows.len(), count });
            self.rows.extend(std::iter::repeat_n(tile, count));
            self.bytes += height * self.units * record::<U>();
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
        let unit = PhantomData::<U>;
        let cols = self.units * U::INPUTS;
        let pieces = cols.div_ceil(PIECE);
        let rows = x.len() / cols;
        let sharing = self.rows.len() > rows;
        if sharing {
            let out = &room(&mut self.shared, rows * self.units * record::<U>());
            workers.each(rows * pieces, rows * cols * EFFORT, |i| {
                let (row, first) = (i / pieces, i % pieces * PIECE);
                let place = Place { at: row * self.units * record::<U>(), height: 1, first: row, count: 1 };
                isa.run(Rows { x, cols, first, out, place, from: |row| row, unit });
            });
        }
        let out = &room(&mut self.data, self.bytes);
        let effort = if sharing { 1 } else { EFFORT };
        workers.each(self.tiles.len() * pieces, self.rows.len() * cols * effort, |i| {
            let (place, first) = (self.tiles[i / pieces], i % pieces * PIECE);
            if sharing {
                let units = first / U::INPUTS..self.units.min((first + PIECE) / U::INPUTS);
                copy::<U>(self.shared.bytes(), self.units, units, out, place, &from);
            } else {
                isa.run(Rows { x, cols, first, out, place, from: &from, unit });
            }
        });
    }

    /// The tile that holds row `row` of the groups, from input `first` on: `inputs` of them, whole units.
    #[inline(always)]
    pub(super) fn tile(&self, row: usize, first: usize, inputs: usize) -> Tile<'_, U> {
        let Place { at, height, .. } = self.tiles[self.rows[row]];
        let size = height * record::<U>();
        let bytes = &self.data.bytes()[at + first / U::INPUTS * size..][..inputs / U::INPUTS * size];
        Tile { bytes, height, unit: PhantomData }
    }
}

/// At least `bytes` bytes of `memory`, to be written by several threads.
fn room(memory: &mut Aligned, bytes: usize) -> Disjoint<'_, u8> {
    memory.grow(bytes);
    Disjoint::new(memory.bytes_mut())
}

/// Copies some of the `all` units of a tile's rows, each of which is a tile of its own in `shared`.
fn copy<U: Unit>(
    shared: &[u8],
    all: usize,
    units: Range<usize>,
    out: &Disjoint<'_, u8>,
    place: Place,
    from: impl Fn(usize) -> usize,
) {
    let Place { at, height, first, count } = place;
    let (record, size) = (record::<U>(), height * record::<U>());
    // SAFETY: every place is another tile, and every piece other units: nobody else writes here. The slice ends with
    // the task.
    let to = unsafe { out.slice(at + units.start * size, units.len() * size) };
    for r in 0..count {
        let records = &shared[from(first + r) * all * record..][..all * record];
        let records = records[units.start * record..].chunks_exact(record);
        for (to, record) in to.chunks_exact_mut(size).zip(records) {
            let (codes, words) = record.split_at(U::INPUTS);
            put(to, height, r, codes.as_chunks().0, words.as_chunks().0);
        }
    }
}

/// Writes row `r` of a unit of `height` rows: its codes, run by run, and the words one behind the other.
#[inline(always)]
fn put(unit: &mut [u8], height: usize, r: usize, codes: &[[u8; RUN]], words: &[[u8; 4]]) {
    let (all, rest) = unit.split_at_mut(height * codes.as_flattened().len());
    let all = all.as_chunks_mut::<RUN>().0;
    for (run, codes) in codes.iter().enumerate() {
        all[run * height + r] = *codes;
    }
    let rest = rest.as_chunks_mut::<4>().0;
    for (array, word) in words.iter().enumerate() {
        rest[array * height + r] = *word;
    }
}

/// Some units of one tile.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a, U> {
    bytes: &'a [u8],
    height: usize,
    unit: PhantomData<U>,
}

impl<'a, U: Unit> Tile<'a, U> {
    /// How many units.
    #[inline(always)]
    pub(super) fn units(&self) -> usize {
        self.bytes.len() / (self.height * record::<U>())
    }

    /// Unit `u` of them.
    #[inline(always)]
    pub(super) fn record(&self, u: usize) -> Record<'a, U> {
        let size = self.height * record::<U>();
        let (codes, words) = self.bytes[u * size..][..size].split_at(self.height * U::INPUTS);
        let (codes, words) = (codes.as_ptr(), words.as_ptr());
        Record { codes, words, rows: self.height, height: self.height, tile: PhantomData, unit: PhantomData }
    }

    /// The same, its height a constant, which saves the inner loops registers.
    #[inline(always)]
    pub(super) fn whole<const HEIGHT: usize>(self) -> Tile<'a, U> {
        assert!(self.height == HEIGHT, "tiles of many rows are whole");
        Tile { height: HEIGHT, ..self }
    }

    /// Rows of the tile, used or not.
    #[inline(always)]
    pub(super) fn height(&self) -> usize {
        self.height
    }
}

/// Rows of one tile for one unit of inputs, from some row on.
#[derive(Clone, Copy)]
pub(super) struct Record<'a, U> {
    /// The first row's codes, and its scale.
    codes: *const u8,
    words: *const u8,
    /// Rows that are left.
    rows: usize,
    height: usize,
    tile: PhantomData<&'a [u8]>,
    unit: PhantomData<U>,
}

/// Rows are checked by those who cut the work, once for all inputs, and not again for every four of them.
impl<'a, U: Unit> Record<'a, U> {
    /// The same without the first `rows` rows.
    ///
    /// # Safety
    /// There are as many.
    #[inline(always)]
    pub(super) unsafe fn from(self, rows: usize) -> Self {
        debug_assert!(rows <= self.rows);
        // SAFETY: the codes of a run are `height` rows of 32 bytes, the words arrays of `height` words, and rows are
        // left.
        unsafe {
            let (codes, words) = (self.codes.add(rows * RUN), self.words.add(4 * rows));
            Self { codes, words, rows: self.rows - rows, ..self }
        }
    }

    /// Four codes of row `r`, from input `4 · quad` of the unit on; two's complement.
    ///
    /// # Safety
    /// `r` is below the rows that are left, here and below, and `quad` below a quarter of the unit's inputs.
    #[inline(always)]
    pub(super) unsafe fn quad(&self, r: usize, quad: usize) -> &'a [u8; 4] {
        debug_assert!(r < self.rows && quad < U::INPUTS / 4);
        let (run, quad) = (quad / (RUN / 4), quad % (RUN / 4));
        // SAFETY: the codes of a run are rows of 32 bytes, and run, r and quad are within them; they are borrowed for 'a.
        unsafe { &*self.codes.add((run * self.height + r) * RUN + 4 * quad).cast::<[u8; 4]>() }
    }

    /// Word `array` of row `r`.
    ///
    /// # Safety
    /// See [`quad`](Self::quad); there is such a word.
    #[inline(always)]
    unsafe fn word(&self, array: usize, r: usize) -> [u8; 4] {
        debug_assert!(r < self.rows && array < U::WORDS);
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

    /// Asks for the codes of `rows` rows and the first `words` arrays of words; of a tile that is lower than a strip, for
    /// some of what follows too. They come from the second cache, and a processor that has taken up a few dozen products
    /// takes up no load behind them until these have their inputs.
    #[inline(always)]
    pub(super) fn ask<V: Integers>(&self, rows: usize, words: usize) {
        for run in 0..U::INPUTS / RUN {
            for line in 0..(rows * RUN).div_ceil(LINE) {
                V::prefetch(self.codes(run).wrapping_add(LINE * line));
            }
        }
        for line in 0..(words * 4 * STRIP).div_ceil(LINE) {
            V::prefetch(self.words.wrapping_add(LINE * line));
        }
    }

    /// Where the codes of run `run` begin: rows of 32.
    #[inline(always)]
    pub(super) fn codes(&self, run: usize) -> *const u8 {
        self.codes.wrapping_add(run * self.height * RUN)
    }
}

/// A piece of a tile's rows to its place.
struct Rows<'a, F, U> {
    x: &'a [f32],
    cols: usize,
    /// The input that the piece begins with.
    first: usize,
    out: &'a Disjoint<'a, u8>,
    place: Place,
    /// Which row of `x` a row of the groups is.
    from: F,
    unit: PhantomData<U>,
}

impl<F: Fn(usize) -> usize, U: Unit> Kernel for Rows<'_, F, U> {
    const DOTS: bool = true;

    #[inline(always)]
    fn run<V: Integers>(self) {
        let Place { at, height, first, count } = self.place;
        let inputs = self.first..self.cols.min(self.first + PIECE);
        let size = height * record::<U>();
        // SAFETY: every place is another tile, and every piece other units: nobody else writes here. The slice ends
        // with the task.
        let units =
            unsafe { self.out.slice(at + inputs.start / U::INPUTS * size, inputs.len() / U::INPUTS * size) };
        for near in inputs.clone().step_by(NEAR) {
            for r in 0..count {
                let x = &self.x[(self.from)(first + r) * self.cols..][..self.cols];
                let x = x[near..inputs.end.min(near + NEAR)].as_chunks::<RUN>().0;
                for (i, x) in x.chunks(TOGETHER).enumerate() {
                    let mut padded;
                    let four = if let [four] = x.as_chunks().0 {
                        four
                    } else {
                        padded = [[0.0; RUN]; TOGETHER];
                        padded[..x.len()].copy_from_slice(x);
                        &padded
                    };
                    // SAFETY: this is compiled into `Isa::run`'s function for `V`.
                    let rounded = unsafe { U::round::<V>(four) };
                    let runs = U::INPUTS / RUN;
                    let codes = rounded.codes.as_flattened().as_flattened().as_chunks::<RUN>().0;
                    let units = &mut units[((near - inputs.start) / RUN + i * TOGETHER) / runs * size..];
                    for (u, unit) in units.chunks_exact_mut(size).take(x.len() / runs).enumerate() {
                        let words = &rounded.words[u * U::WORDS..][..U::WORDS];
                        put(unit, height, r, &codes[u * runs..][..runs], words);
                    }
                }
            }
        }
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
