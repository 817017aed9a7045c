//! Activations in eight bits: what the products of quantized weights read.
//!
//! Every 32 inputs of a row share one scale: their largest magnitude over 127, or over a little less where that
//! rounds better. Beside the codes stand the sums that minima and offsets of weights are multiplied with. A row's codes depend on that row alone.

use super::integers::Integers;
use super::isa::{Isa, Kernel};
use super::parallel::{Disjoint, Workers};
use super::storage::Aligned;

/// Inputs that share a scale.
pub(super) const RUN: usize = 32;

/// Rows of a whole tile.
pub(super) const TILE: usize = 16;

/// Rows up to which they are multiplied with the packed weights, and make one tile of their own height.
pub(super) const FEW: usize = 8;

/// Inputs of a row that are quantized in one task.
const PIECE: usize = 2048;

/// Multiplications that quantizing one input is worth, to judge how much work there is.
const EFFORT: usize = 16;

/// Bytes of one row's record: 32 codes, scale, three sums times the scale, two sums.
const RECORD: usize = RUN + 6 * 4;

/// Rows of activations in tiles, group by group: rows of one group are multiplied with the same weights. A tile
/// holds, for each 32 inputs, the `height` rows' codes `[height, 32]`, then the rows' scales, `scale · Σ`,
/// `scale · Σ` of the first 16 and of the last 16, and the latter two sums as integers, each `[height]`.
#[derive(Debug, Default)]
pub(super) struct Quantized {
    data: Aligned,
    /// Where each row goes: the first byte of its tile, the tile's height and the row in it.
    places: Vec<Place>,
    runs: usize,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    at: usize,
    height: usize,
    row: usize,
}

impl Quantized {
    /// Forgets all rows; those to come have `cols` inputs, a multiple of 32.
    pub(super) fn clear(&mut self, cols: usize) {
        self.places.clear();
        self.runs = cols / RUN;
        self.bytes = 0;
    }

    /// Makes room for a group of `rows` rows: tiles of 16, or one tile if there are few.
    pub(super) fn group(&mut self, rows: usize) {
        let height = if rows <= FEW { rows } else { TILE };
        for r in 0..rows {
            let at = self.bytes + r / height * height * self.runs * RECORD;
            self.places.push(Place { at, height, row: r % height });
        }
        self.bytes += rows.next_multiple_of(height.max(1)) * self.runs * RECORD;
    }

    /// Quantizes the rows: row `i` of the groups is row `from(i)` of `x`.
    pub(super) fn fill(
        &mut self,
        isa: Isa,
        workers: &Workers,
        x: &[f32],
        from: impl Fn(usize) -> usize + Sync,
    ) {
        if self.data.bytes().len() < self.bytes {
            self.data.resize(self.bytes);
        }
        let cols = self.runs * RUN;
        let out = &Disjoint::new(self.data.bytes_mut());
        let places = &self.places;
        let pieces = cols.div_ceil(PIECE);
        workers.each(places.len() * pieces, places.len() * cols * EFFORT, |i| {
            let (row, first) = (i / pieces, i % pieces * PIECE);
            let x = &x[from(row) * cols..][..cols][first..cols.min(first + PIECE)];
            isa.run(Row { x, first: first / RUN, out, place: places[row] });
        });
    }

    /// The tile that holds row `row` of the groups, from run `first` of its inputs on.
    #[inline(always)]
    pub(super) fn tile(&self, row: usize, first: usize, runs: usize) -> Tile<'_> {
        let Place { at, height, .. } = self.places[row];
        let size = height * RECORD;
        Tile { bytes: &self.data.bytes()[at + first * size..][..runs * size], height }
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
        Record { bytes: &self.bytes[g * size..][..size], height: self.height }
    }

    /// Rows of the tile, used or not.
    #[inline(always)]
    pub(super) fn height(&self) -> usize {
        self.height
    }
}

/// The rows of one tile for one run of inputs: `height · RECORD` bytes.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    bytes: &'a [u8],
    height: usize,
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
impl<'a> Record<'a> {
    /// Four codes of row `r`, from input `4 · quad` on; two's complement.
    ///
    /// # Safety
    /// `r` is below the tile's height, here and below, and `quad` below 8.
    #[inline(always)]
    pub(super) unsafe fn quad(&self, r: usize, quad: usize) -> [u8; 4] {
        debug_assert!(r < self.height && quad < RUN / 4);
        // SAFETY: the codes are `height` rows of 32 bytes, and r and quad are within them.
        unsafe { self.bytes.as_ptr().add(r * RUN + 4 * quad).cast::<[u8; 4]>().read() }
    }

    #[inline(always)]
    unsafe fn word(&self, array: usize, r: usize) -> [u8; 4] {
        debug_assert!(r < self.height && array < 6);
        // SAFETY: behind the codes are six arrays of `height` words, and r is within each of them.
        unsafe { self.bytes.as_ptr().add((RUN + 4 * array) * self.height + 4 * r).cast::<[u8; 4]>().read() }
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

    /// The sum of the codes of half `half` of row `r`.
    ///
    /// # Safety
    /// See [`quad`](Self::quad).
    #[inline(always)]
    pub(super) unsafe fn sum(&self, half: usize, r: usize) -> i32 {
        // SAFETY: the caller's promise.
        i32::from_le_bytes(unsafe { self.word(4 + half, r) })
    }

    /// Where the codes begin: `height` rows of 32.
    #[inline(always)]
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }
}

/// A piece of one row to its place.
struct Row<'a> {
    x: &'a [f32],
    /// The run of inputs that it begins with.
    first: usize,
    out: &'a Disjoint<'a, u8>,
    place: Place,
}

impl Kernel for Row<'_> {
    #[inline(always)]
    fn run<V: Integers>(self) {
        let Place { at, height, row } = self.place;
        for (g, x) in self.x.as_chunks::<RUN>().0.iter().enumerate() {
            let at = at + (self.first + g) * height * RECORD;
            // SAFETY: every place is another row of another record, and every piece other runs: nobody else writes here.
            unsafe { quantize(self.out, at, height, row, x) };
        }
    }
}

/// Codes of the largest magnitude that are tried. Each gives other roundings of the 32; the best of four has an error
/// about an eighth smaller than that of 127 alone.
const LARGEST: [f32; 4] = [127.0, 125.0, 123.0, 121.0];

/// Adding it rounds to nearest, ties to even, and leaves the integer in the low bits.
const ROUND: f32 = 12_582_912.0;

/// Codes of 32 inputs, and their scale.
#[inline(always)]
fn codes(x: &[f32; RUN]) -> ([i32; RUN], f32) {
    // Magnitudes compare as their bits do; what is not a number is the largest and stays visible.
    let mut largest = 0;
    for x in x {
        largest = largest.max(x.to_bits() & 0x7FFF_FFFF);
    }
    let largest = f32::from_bits(largest);
    let (mut best, mut best_scale, mut least) = ([0; RUN], largest / LARGEST[0], f32::INFINITY);
    for most in LARGEST {
        let scale = largest / most;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let (mut codes, mut errors) = ([0i32; RUN], [0i32; RUN]);
        for i in 0..RUN {
            let (exact, rounded) = (x[i] * inverse, x[i] * inverse + ROUND);
            codes[i] = i32::from(rounded.to_bits() as i8);
            // In 1024ths: integers, whose sum has one value in any order.
            errors[i] = (((exact - (rounded - ROUND)) * 1024.0 + ROUND).to_bits() & 0x7FF) as i32;
            errors[i] -= (errors[i] & 0x400) << 1;
        }
        let mut sum = 0;
        for error in errors {
            sum += error * error;
        }
        let error = sum as f32 * scale * scale;
        if error < least {
            (best, best_scale, least) = (codes, scale, error);
        }
    }
    (best, best_scale)
}

/// Quantizes 32 inputs into row `r` of the record at `at`.
///
/// # Safety
/// Nobody else may use row `r` of that record meanwhile.
#[inline(always)]
unsafe fn quantize(out: &Disjoint<'_, u8>, at: usize, height: usize, r: usize, x: &[f32; RUN]) {
    let (wide, scale) = codes(x);
    let mut narrow = [0u8; RUN];
    let (mut first, mut last) = (0, 0);
    for i in 0..RUN {
        narrow[i] = wide[i] as u8;
    }
    for i in 0..RUN / 2 {
        first += wide[i];
        last += wide[i + RUN / 2];
    }
    // SAFETY: by the caller's promise.
    unsafe { out.slice(at + r * RUN, RUN) }.copy_from_slice(&narrow);
    let scaled = |sum: i32| (scale * sum as f32).to_le_bytes();
    let words = [
        scale.to_le_bytes(),
        scaled(first + last),
        scaled(first),
        scaled(last),
        first.to_le_bytes(),
        last.to_le_bytes(),
    ];
    for (array, word) in words.iter().enumerate() {
        // SAFETY: by the caller's promise.
        unsafe { out.slice(at + height * RUN + 4 * (array * height + r), 4) }.copy_from_slice(word);
    }
}
