//! One panel of 16 outputs times a few rows: the inner loops of every product.
//!
//! The integer products of a scale's inputs are summed exactly. For types whose scales are floats they are made floats
//! and added in one order for each 32 inputs: `sum += a·(s·S)`, then the minima, `sum += m·Σ`, where `a` is the scale of the
//! activations. For types whose scales are integers, all of 128 inputs is exact: `T = Σ s·S`, `M = Σ m·Σ`, then
//! `sum += a·(d·T + e·M)`. Only the order of those sums matters, and it is that of the inputs; so decode, prefill, and
//! every instruction set give the same bits.

// Registers are numbered: an iterator over them is not inlined for certain, and then they are in memory.
#![allow(clippy::needless_range_loop)]

mod fine;
mod wide;

use super::codes::Codes;
use super::integers::Integers;
use super::packed::chunk_bytes;
use super::quantized::{LINE, RUN, Record, SUM_OF_16, TILE, Tile, Unit};
use super::scales::Scales;
use super::vector::LANES;

/// Writes `body` out for each number, as a constant: what an optimiser may decide against where it matters most.
macro_rules! unroll {
    ($i:ident in [$($n:literal)*] $body:block) => { $( { const $i: usize = $n; $body } )* };
}
pub(super) use unroll;

/// Bytes ahead that streamed weights are asked for, if they are used once: what a core has under way of memory, and some
/// more.
pub(super) const AHEAD: usize = 6144;

/// `sums[r] += panel · x[first + r]` for `R` rows of a tile over the inputs of `panel`: whole chunks, as many inputs as
/// `x` has. Behind them the caller reads `next`. Weights that lie `ahead` bytes further on are asked for: of each run's,
/// one part of `PARTS`, and none if that is zero.
///
/// # Safety
/// As for [`Integers`]; `first + R` rows are within the tile.
#[inline(always)]
pub(super) unsafe fn packed<V: Integers, C: Codes, S: Scales, const R: usize, const PARTS: usize>(
    mut sums: [V; R],
    panel: &[u8],
    (x, first, next): (Tile<'_, S::Unit>, usize, Record<'_, S::Unit>),
    ahead: usize,
) -> [V; R] {
    let units = const { S::CHUNK / S::Unit::INPUTS };
    let all = x.units();
    for (c, chunk) in panel.chunks_exact(const { chunk_bytes::<C, S>() }).enumerate() {
        let (head, codes) = chunk.split_at(S::SIZE);
        // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
        unsafe {
            if PARTS > 0 {
                ask::<V, 1>(head, ahead);
            }
            let open = S::open::<V>(head);
            for (i, codes) in codes.chunks_exact(C::SIZE * S::Unit::INPUTS / RUN).enumerate() {
                let u = c * units + i;
                if V::APART
                    && R > FEWER
                    && let Some(words) = S::Unit::words::<C, S>()
                {
                    let next = if u + 1 < all { x.record(u + 1).from(first) } else { next };
                    next.ask::<V>(R, words);
                }
                let x = x.record(u).from(first);
                let scales = (open, head, i * S::Unit::INPUTS / RUN);
                sums = S::Unit::add::<V, C, S, R, PARTS>(sums, (codes, ahead), scales, x);
            }
        }
    }
    sums
}

/// The same for two panels at a time, each input taken up once for both, where all is done with integers of 32 inputs
/// ([`light`]).
///
/// # Safety
/// As for [`packed`].
#[inline(always)]
pub(super) unsafe fn packed_two<V: Integers, C: Codes, S: Scales, const R: usize, const PARTS: usize>(
    mut sums: [[V; R]; 2],
    [first, last]: [&[u8]; 2],
    (x, row, next): (Tile<'_, S::Unit>, usize, Record<'_, S::Unit>),
    ahead: usize,
) -> [[V; R]; 2] {
    assert!(const { light::<C, S>() }, "other types take one panel at a time");
    let (units, run) = const { (S::CHUNK / S::Unit::INPUTS, S::Unit::INPUTS / RUN) };
    let all = x.units();
    let chunks = |panel| <[u8]>::chunks_exact(panel, const { chunk_bytes::<C, S>() });
    for (c, (first, last)) in chunks(first).zip(chunks(last)).enumerate() {
        let [(first, a), (last, b)] = [first.split_at(S::SIZE), last.split_at(S::SIZE)];
        let heads = [first, last];
        // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
        unsafe {
            if PARTS > 0 {
                heads.iter().for_each(|head| ask::<V, 1>(head, ahead));
            }
            let open = [S::open::<V>(first), S::open::<V>(last)];
            for i in 0..units {
                let u = c * units + i;
                if let Some(words) = S::Unit::words::<C, S>() {
                    let next = if u + 1 < all { x.record(u + 1).from(row) } else { next };
                    next.ask::<V>(R, words);
                }
                let codes = [a, b].map(|codes| &codes[i * run * C::SIZE..][..run * C::SIZE]);
                let (x, scales) = (x.record(u).from(row), (open, heads, i * run));
                sums = S::Unit::add_two::<V, C, S, R, PARTS>(sums, (codes, ahead), scales, x);
            }
        }
    }
    sums
}

/// Rows up to which memory is what limits, rather than products.
const FEWER: usize = 2;

/// Asks for what lies `ahead` bytes beyond these weights, or beyond the first of `parts` parts of them.
#[inline(always)]
fn ask<V: Integers, const PARTS: usize>(weights: &[u8], ahead: usize) {
    for line in 0..weights.len().div_ceil(LINE).div_ceil(PARTS) {
        let at = weights.as_ptr().wrapping_add(ahead + LINE * line);
        // What several passes ask for is a panel away: the second cache has room for it, and waits for more lines at a time.
        if PARTS > 1 { V::prefetch_far(at) } else { V::prefetch(at) }
    }
}

/// How many bytes further part `part` of `parts` parts of a run's codes begins, as [`packed`] asks for them: whole lines,
/// and all of them in one part or another.
pub(super) const fn part_of_run<C: Codes>(part: usize, parts: usize) -> usize {
    let lines = C::SIZE.div_ceil(LINE);
    if parts < 2 { 0 } else { LINE * (part * (lines - lines.div_ceil(parts)) / (parts - 1)) }
}

/// How the products of one unit are made and added.
pub(super) trait Add: Unit {
    /// `codes` are those of the unit, and how far ahead others are asked for; `scales` are those of the chunk, opened, and
    /// the unit's first run of 32 in it.
    ///
    /// # Safety
    /// As for [`packed`], with `R` rows in `x`.
    unsafe fn add<V: Integers, C: Codes, S: Scales<Unit = Self>, const R: usize, const PARTS: usize>(
        sums: [V; R],
        codes: (&[u8], usize),
        scales: ([V; 2], &[u8], usize),
        x: Record<'_, Self>,
    ) -> [V; R];

    /// The same for two panels, faster where all is done with integers of 32 inputs ([`light`]).
    ///
    /// # Safety
    /// As for [`add`](Self::add).
    #[inline(always)]
    unsafe fn add_two<V: Integers, C: Codes, S: Scales<Unit = Self>, const R: usize, const PARTS: usize>(
        [first, last]: [[V; R]; 2],
        (codes, ahead): ([&[u8]; 2], usize),
        (open, heads, at): ([[V; 2]; 2], [&[u8]; 2], usize),
        x: Record<'_, Self>,
    ) -> [[V; R]; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let first = Self::add::<V, C, S, R, PARTS>(first, (codes[0], ahead), (open[0], heads[0], at), x);
            let last = Self::add::<V, C, S, R, PARTS>(last, (codes[1], ahead), (open[1], heads[1], at), x);
            [first, last]
        }
    }

    /// How many arrays of words [`add`](Self::add) reads, counted from the first, or nothing where asking for the next
    /// unit's rows meanwhile does not pay.
    fn words<C: Codes, S: Scales<Unit = Self>>() -> Option<usize>;

    /// Products of a matrix unit that [`add_products`](Self::add_products) takes.
    const PRODUCTS: usize;

    /// Inputs that one product of a matrix unit is over: 32 or 16.
    fn step<C: Codes, S: Scales<Unit = Self>>() -> usize;

    /// Adds products of successive [`step`](Self::step)s, made beforehand, for all rows of a tile: a whole unit, or a part
    /// of one, the next of which finds in `totals` what this one left there. `scales` are opened, as in
    /// [`add`](Self::add), with the first run of 32 of these products; `x` is their unit.
    ///
    /// # Safety
    /// As for [`packed`], with [`TILE`] rows in `x`.
    unsafe fn add_products<V: Integers, C: Codes, S: Scales<Unit = Self>>(
        sums: &mut [V; TILE],
        totals: &mut [V::Ints; TILE],
        products: [&Products; MOST_PRODUCTS],
        scales: ([V; 2], &[u8], usize),
        x: Record<'_, Self>,
    );
}

/// Products of 16 outputs with the rows of a tile.
pub(super) type Products = [[i32; LANES]; TILE];

/// The most that [`Add::PRODUCTS`] is.
pub(super) const MOST_PRODUCTS: usize = 4;

/// Rows that an instruction set takes at a time, at least, if it has registers for the products of two runs of 32.
const MANY: usize = 8;

/// Whether the products of all 32 inputs of a scale fit 16 bits; those of 16 inputs do.
const fn fits<C: Codes, S: Scales>() -> bool {
    assert!(C::MOST * SUM_OF_16 <= i16::MAX as i32, "products of 16 inputs must fit 16 bits");
    S::RUN == RUN && C::BIAS == 0 && C::MOST * 2 * SUM_OF_16 <= i16::MAX as i32
}

/// Whether all is done with integers of 32 inputs: codes of four bits without a sign.
pub(super) const fn light<C: Codes, S: Scales>() -> bool {
    S::Unit::INPUTS > RUN && fits::<C, S>()
}

/// Rows to multiply at a time, at most: fewer than registers allow where the products of two runs wait for each other.
pub(super) const fn rows_at_once<V: Integers, C: Codes, S: Scales>() -> usize {
    if V::ROWS >= MANY && light::<C, S>() { MANY / 2 } else { V::ROWS }
}

/// The products of quad `q` of run `run`, whose codes these are.
#[inline(always)]
unsafe fn first_quad<V: Integers, C: Codes, U: Unit, const R: usize>(
    codes: &[u8],
    x: Record<'_, U>,
    run: usize,
    q: usize,
) -> [V::Shorts; R] {
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        let quad = C::quad::<V>(codes, q);
        let mut sums = [V::shorts(V::ints(0)); R];
        for r in 0..R {
            sums[r] = V::first_dot(quad, x.quad(r, run * (RUN / 4) + q));
        }
        sums
    }
}

/// Adds the products of quad `q` of run `run`, whose codes these are.
#[inline(always)]
unsafe fn quad<V: Integers, C: Codes, U: Unit, const R: usize>(
    mut sums: [V::Shorts; R],
    codes: &[u8],
    x: Record<'_, U>,
    run: usize,
    q: usize,
) -> [V::Shorts; R] {
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        let quad = C::quad::<V>(codes, q);
        for r in 0..R {
            sums[r] = V::dot(sums[r], quad, x.quad(r, run * (RUN / 4) + q));
        }
        sums
    }
}
