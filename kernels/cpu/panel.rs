//! One panel of 16 outputs times a few rows: the inner loops of every product.
//!
//! The integer products of a scale's inputs are summed exactly. For types whose scales are floats they are made floats
//! and added in one order for each 32 inputs: `sum += a·(s·S)`, then the minima, `sum += m·Σ`, where `a` is the scale of the
//! activations. For types whose scales are integers, all of 128 inputs is exact: `T = Σ s·S`, `M = Σ m·Σ`, then
//! `sum += a·(d·T + e·M)`. Only the order of those sums matters, and it is that of the inputs; so decode, prefill, and
//! every instruction set give the same bits.

// Registers are numbered: an iterator over them is not inlined for certain, and then they are in memory.
#![allow(clippy::needless_range_loop)]

use super::codes::Codes;
use super::integers::{BYTES, Integers};
use super::packed::chunk_bytes;
use super::quantized::{Fine, RUN, Record, SUM_OF_16, TILE, Tile, Unit, Wide};
use super::scales::Scales;
use super::vector::LANES;
use std::hint::black_box;
use std::sync::atomic::{Ordering, compiler_fence};

/// Writes `body` out for each number, as a constant: what an optimiser may decide against where it matters most.
macro_rules! unroll {
    ($i:ident in [$($n:literal)*] $body:block) => { $( { const $i: usize = $n; $body } )* };
}
pub(super) use unroll;

/// Bytes ahead that streamed weights are asked for, if they are used once: what a core has under way of memory, and some
/// more.
pub(super) const AHEAD: usize = 2048;

/// `sums[r] += panel · x[first + r]` for `R` rows of a tile over the inputs of `panel`: whole chunks, as many inputs as
/// `x` has. Weights that lie `ahead` bytes further on are asked for: of each run's, one part of `PARTS`, and none if that
/// is zero.
///
/// # Safety
/// As for [`Integers`]; `first + R` rows are within the tile.
#[inline(always)]
pub(super) unsafe fn packed<V: Integers, C: Codes, S: Scales, const R: usize, const PARTS: usize>(
    mut sums: [V; R],
    panel: &[u8],
    (x, first): (Tile<'_, S::Unit>, usize),
    ahead: usize,
) -> [V; R] {
    let units = const { S::CHUNK / S::Unit::INPUTS };
    for (c, chunk) in panel.chunks_exact(const { chunk_bytes::<C, S>() }).enumerate() {
        let (head, codes) = chunk.split_at(S::SIZE);
        // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
        unsafe {
            if PARTS > 0 {
                ask::<V, 1>(head, ahead);
            }
            let open = S::open::<V>(head);
            for (u, codes) in codes.chunks_exact(C::SIZE * S::Unit::INPUTS / RUN).enumerate() {
                let x = x.record(c * units + u).from(first);
                let scales = (open, head, u * S::Unit::INPUTS / RUN);
                sums = S::Unit::add::<V, C, S, R, PARTS>(sums, (codes, ahead), scales, x);
            }
        }
    }
    sums
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for what lies `ahead` bytes beyond these weights, or beyond the first of `parts` parts of them.
#[inline(always)]
fn ask<V: Integers, const PARTS: usize>(weights: &[u8], ahead: usize) {
    for line in 0..weights.len().div_ceil(LINE).div_ceil(PARTS) {
        let at = weights.as_ptr().wrapping_add(ahead + LINE * line);
        // Twice over the same weights is so little to do for what has to come from memory that the second cache, which
        // waits for more lines at a time, is what must be asked.
        if PARTS == 2 { V::prefetch_far(at) } else { V::prefetch(at) }
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
    /// `codes` are those of the unit, and how far ahead others are asked for; `scales` are those of the chunk, opened, and the unit's first run of 32 in it.
    ///
    /// # Safety
    /// As for [`packed`], with `R` rows in `x`.
    unsafe fn add<V: Integers, C: Codes, S: Scales<Unit = Self>, const R: usize, const PARTS: usize>(
        sums: [V; R],
        codes: (&[u8], usize),
        scales: ([V; 2], &[u8], usize),
        x: Record<'_, Self>,
    ) -> [V; R];

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

impl Add for Fine {
    #[inline(always)]
    unsafe fn add<V: Integers, C: Codes, S: Scales<Unit = Self>, const R: usize, const PARTS: usize>(
        mut sums: [V; R],
        (codes, ahead): (&[u8], usize),
        (open, head, at): ([V; 2], &[u8], usize),
        x: Record<'_, Self>,
    ) -> [V; R] {
        // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
        unsafe {
            if PARTS > 0 {
                ask::<V, PARTS>(codes, ahead);
            }
            let mut products = [V::ints(0); R];
            if let Some(shift) = const { C::BIAS.checked_ilog2() } {
                for r in 0..R {
                    products[r] = V::ints_raised(x.negative_sum(r), shift);
                }
            }
            unroll!(Q in [0 1 2 3 4 5 6 7] { products = quad::<V, C, Self, R>(products, codes, x, 0, Q) });
            let scale = S::scale(open, head, at);
            for r in 0..R {
                let term = V::to_floats(products[r]).mul(scale);
                sums[r] = term.times_plus(V::splat(x.scale(r)), sums[r]);
            }
            if S::MIN {
                let min = S::min(open, head, at);
                for r in 0..R {
                    sums[r] = min.times_plus(V::splat(x.scaled_sum(r)), sums[r]);
                }
            }
        }
        sums
    }

    const PRODUCTS: usize = 1;

    fn step<C: Codes, S: Scales<Unit = Self>>() -> usize {
        RUN
    }

    #[inline(always)]
    unsafe fn add_products<V: Integers, C: Codes, S: Scales<Unit = Self>>(
        sums: &mut [V; TILE],
        _: &mut [V::Ints; TILE],
        [products, ..]: [&Products; MOST_PRODUCTS],
        (open, head, at): ([V; 2], &[u8], usize),
        x: Record<'_, Self>,
    ) {
        // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
        unsafe {
            let (scale, min) = (S::scale(open, head, at), S::min(open, head, at));
            unroll!(R in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
                let term = V::to_floats(V::load_ints(&products[R])).mul(scale);
                sums[R] = term.times_plus(V::splat(x.scale(R)), sums[R]);
                if S::MIN {
                    sums[R] = min.times_plus(V::splat(x.scaled_sum(R)), sums[R]);
                }
            });
        }
    }
}

/// Rows up to which the products of 16 inputs are paired though those of 32 would fit: that is more to multiply, but less
/// code between one read of memory and the next, and memory is what limits so few rows.
const FEWER: usize = 2;

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

impl Add for Wide {
    #[inline(always)]
    unsafe fn add<V: Integers, C: Codes, S: Scales<Unit = Self>, const R: usize, const PARTS: usize>(
        mut sums: [V; R],
        (codes, ahead): (&[u8], usize),
        (open, head, at): ([V; 2], &[u8], usize),
        x: Record<'_, Self>,
    ) -> [V; R] {
        // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
        unsafe {
            let mut terms = minima::<V, S, R>((open, head, at), x);
            if S::MIN && PARTS == 0 {
                // First, so that the processor has something to do while it waits for the last products of the unit
                // before; an optimiser would put it where it is needed.
                terms = black_box(terms);
            }
            let mut totals = [V::ints(0); R];
            if V::ROWS >= MANY && R > FEWER && const { fits::<C, S>() } {
                unroll!(I in [0 1] {
                    let (first, last) = codes[2 * I * C::SIZE..][..2 * C::SIZE].split_at(C::SIZE);
                    let first = run::<V, C, R, PARTS>((first, ahead), x, 2 * I);
                    let last = run::<V, C, R, PARTS>((last, ahead), x, 2 * I + 1);
                    let scales = S::scales::<V>(head, at / 2 + I);
                    for r in 0..R {
                        totals[r] = V::dot_pairs(totals[r], V::pairs(first[r], last[r]), scales);
                    }
                });
            } else {
                // A number that an optimiser does not know: it would write the loop out, and gather what is asked for.
                for (j, codes) in codes.chunks_exact(C::SIZE).take(black_box(4)).enumerate() {
                    totals = add_halves::<V, C, S, R, PARTS>(totals, (codes, ahead), (head, at), x, j);
                }
            }
            sums = finish::<V, S, R>(sums, terms, totals, open[0], x);
        }
        sums
    }

    const PRODUCTS: usize = 4;

    fn step<C: Codes, S: Scales<Unit = Self>>() -> usize {
        if fits::<C, S>() { RUN } else { RUN / 2 }
    }

    #[inline(always)]
    unsafe fn add_products<V: Integers, C: Codes, S: Scales<Unit = Self>>(
        sums: &mut [V; TILE],
        totals: &mut [V::Ints; TILE],
        products: [&Products; MOST_PRODUCTS],
        (open, head, at): ([V; 2], &[u8], usize),
        x: Record<'_, Self>,
    ) {
        // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
        unsafe {
            let runs = if const { fits::<C, S>() } { 4 } else { 2 };
            if at % 4 == 0 {
                *totals = [V::ints(0); TILE];
            }
            unroll!(I in [0 1] {
                let scales = if runs == 4 {
                    S::scales::<V>(head, at / 2 + I)
                } else {
                    scales_of_halves::<V, S>(head, at + I)
                };
                let [first, last] = [products[2 * I], products[2 * I + 1]];
                unroll!(R in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
                    let pairs = V::pairs(V::load_ints(&first[R]), V::load_ints(&last[R]));
                    totals[R] = V::dot_pairs(totals[R], pairs, scales);
                });
            });
            if at % 4 + runs == 4 {
                let terms = minima::<V, S, TILE>((open, head, at / 4 * 4), x);
                *sums = finish::<V, S, TILE>(*sums, terms, *totals, open[0], x);
            }
        }
    }
}

/// The products of run `run` of a unit, without an offset.
#[inline(always)]
unsafe fn run<V: Integers, C: Codes, const R: usize, const PARTS: usize>(
    (codes, ahead): (&[u8], usize),
    x: Record<'_, Wide>,
    run: usize,
) -> [V::Ints; R] {
    if PARTS > 0 {
        ask::<V, PARTS>(codes, ahead);
    }
    // No load moves across it: an optimiser would take up many before they are used, and have no registers for them.
    compiler_fence(Ordering::SeqCst);
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        let mut products = [V::ints(0); R];
        unroll!(Q in [0 1 2 3 4 5 6 7] { products = quad::<V, C, Wide, R>(products, codes, x, run, Q) });
        products
    }
}

/// Adds the products of run `run` of a unit, of each half by itself, times their scales.
#[inline(always)]
unsafe fn add_halves<V: Integers, C: Codes, S: Scales, const R: usize, const PARTS: usize>(
    mut totals: [V::Ints; R],
    (codes, ahead): (&[u8], usize),
    (head, at): (&[u8], usize),
    x: Record<'_, Wide>,
    run: usize,
) -> [V::Ints; R] {
    if PARTS > 0 && R > FEWER {
        ask::<V, PARTS>(codes, ahead);
    }
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        let mut halves = [offsets::<V, C, R>(x, 2 * run), offsets::<V, C, R>(x, 2 * run + 1)];
        unroll!(Q in [0 1 2 3 4 5 6 7] {
            // With few rows memory is what limits: one line at a time.
            if PARTS > 0 && R <= FEWER && Q < C::SIZE / BYTES {
                ask::<V, 1>(&codes[Q * BYTES..][..BYTES], ahead);
            }
            halves[Q / 4] = quad::<V, C, Wide, R>(halves[Q / 4], codes, x, run, Q);
        });
        let [first, last] = halves;
        let scales = scales_of_halves::<V, S>(head, at + run);
        for r in 0..R {
            totals[r] = V::dot_pairs(totals[r], V::pairs(first[r], last[r]), scales);
        }
        totals
    }
}

/// The scales of both halves of run `run` of a chunk.
///
/// # Safety
/// As for [`Integers`].
#[inline(always)]
unsafe fn scales_of_halves<V: Integers, S: Scales>(head: &[u8], run: usize) -> V::Ints {
    // SAFETY: the caller is below `Isa::run` for `V`.
    unsafe {
        if S::RUN == RUN {
            V::twice(S::scales::<V>(head, run / 2), run % 2 == 1)
        } else {
            S::scales::<V>(head, run)
        }
    }
}

/// What the products of 16 inputs begin with: the bias of the codes taken off.
#[inline(always)]
unsafe fn offsets<V: Integers, C: Codes, const R: usize>(x: Record<'_, Wide>, half: usize) -> [V::Ints; R] {
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        let mut products = [V::ints(0); R];
        if let Some(bits) = const { C::BIAS.checked_ilog2() } {
            for r in 0..R {
                products[r] = V::ints_lowered(x.offset(half, r), 5 - bits);
            }
        }
        products
    }
}

/// The minima of a unit times the sums of its codes.
///
/// # Safety
/// As for [`Add::add`].
#[inline(always)]
unsafe fn minima<V: Integers, S: Scales<Unit = Wide>, const R: usize>(
    (open, head, at): ([V; 2], &[u8], usize),
    x: Record<'_, Wide>,
) -> [V; R] {
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        let mut terms = [V::zero(); R];
        if S::MIN {
            let mut mins = [V::ints(0); R];
            if S::RUN == RUN {
                unroll!(I in [0 1] {
                    let min = S::mins::<V>(head, at / 2 + I);
                    for r in 0..R {
                        mins[r] = V::dot_pairs(mins[r], min, V::ints(x.sums_of_32(I, r)));
                    }
                });
            } else {
                unroll!(J in [0 1 2 3] {
                    let min = S::mins::<V>(head, at + J);
                    for r in 0..R {
                        mins[r] = V::dot_pairs(mins[r], min, V::ints(x.sums_of_16(J, r)));
                    }
                });
            }
            for r in 0..R {
                terms[r] = V::to_floats(mins[r]).mul(open[1]);
            }
        }
        terms
    }
}

/// Adds a unit's terms to the sums: `totals`, which are the products times their integer scales, and `terms`, what
/// [`minima`] gave.
///
/// # Safety
/// As for [`Add::add`].
#[inline(always)]
unsafe fn finish<V: Integers, S: Scales<Unit = Wide>, const R: usize>(
    mut sums: [V; R],
    terms: [V; R],
    totals: [V::Ints; R],
    scale: V,
    x: Record<'_, Wide>,
) -> [V; R] {
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        for r in 0..R {
            let total = V::to_floats(totals[r]);
            let term = if S::MIN { total.times_plus(scale, terms[r]) } else { total.mul(scale) };
            sums[r] = term.times_plus(V::splat(x.scale(r)), sums[r]);
        }
        sums
    }
}

/// Adds the products of quad `q` of run `run`, whose codes these are.
#[inline(always)]
unsafe fn quad<V: Integers, C: Codes, U: Unit, const R: usize>(
    mut products: [V::Ints; R],
    codes: &[u8],
    x: Record<'_, U>,
    run: usize,
    q: usize,
) -> [V::Ints; R] {
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        let quad = C::quad::<V>(codes, q);
        for r in 0..R {
            let x = x.quad(r, run * (RUN / 4) + q);
            products[r] = if C::WIDE {
                V::dot::<true>(products[r], quad, x)
            } else {
                V::dot::<false>(products[r], quad, x)
            };
        }
        products
    }
}
