//! Units of 128 inputs, for types whose scales are integers.

// Registers are numbered: an iterator over them is not inlined for certain, and then they are in memory.
#![allow(clippy::needless_range_loop)]

use super::{Add, FEWER, MANY, MOST_PRODUCTS, Products, ask, first_quad, fits, quad, unroll};
use crate::cpu::codes::Codes;
use crate::cpu::integers::{BYTES, Integers};
use crate::cpu::quantized::{OFFSETS, RUN, Record, SUMS_OF_16, TILE, Unit, Wide};
use crate::cpu::scales::Scales;
use std::hint::black_box;

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
            let mut terms = [V::zero(); R];
            if S::MIN && !V::APART {
                for r in 0..R {
                    terms[r] = minimum::<V, S>((open, head, at), x, r);
                }
                if PARTS == 0 {
                    // First, so that the processor has something to do while it waits for the last products of the unit
                    // before; an optimiser would put it where it is needed.
                    terms = black_box(terms);
                }
            }
            let mut totals = [V::ints(0); R];
            if V::APART {
                for (i, codes) in codes.chunks_exact(2 * C::SIZE).take(black_box(2)).enumerate() {
                    let (first, last) = codes.split_at(C::SIZE);
                    totals = add_run::<V, C, S, R, PARTS>(totals, (first, ahead), (head, at), x, 2 * i);
                    totals = add_run::<V, C, S, R, PARTS>(totals, (last, ahead), (head, at), x, 2 * i + 1);
                }
            } else if V::ROWS >= MANY && R > FEWER && const { fits::<C, S>() } {
                // With fewer rows those of 16 inputs are paired below: that is more to multiply, but less code between one
                // read of memory and the next.
                unroll!(I in [0 1] {
                    let (first, last) = codes[2 * I * C::SIZE..][..2 * C::SIZE].split_at(C::SIZE);
                    let first = run::<V, C, R, PARTS>((first, ahead), x, 2 * I);
                    let last = run::<V, C, R, PARTS>((last, ahead), x, 2 * I + 1);
                    let scales = S::scales::<V>(head, at / 2 + I);
                    for r in 0..R {
                        totals[r] = V::dot_pairs(totals[r], pairs::<V>(first[r], last[r]), scales);
                    }
                });
            } else if R == 1 {
                unroll!(J in [0 1 2 3] {
                    let codes = &codes[J * C::SIZE..][..C::SIZE];
                    totals = add_halves::<V, C, S, R, PARTS>(totals, (codes, ahead), (head, at), x, J);
                });
            } else {
                // A number that an optimiser does not know: it would write the loop out, and gather what is asked for.
                for (j, codes) in codes.chunks_exact(C::SIZE).take(black_box(4)).enumerate() {
                    totals = add_halves::<V, C, S, R, PARTS>(totals, (codes, ahead), (head, at), x, j);
                }
            }
            for r in 0..R {
                if V::APART {
                    // Row by row, for the same reason as the products run by run.
                    terms[r] = minimum::<V, S>((open, head, at), x, r);
                }
                sums[r] = finish::<V, S>(sums[r], terms[r], totals[r], open[0], x, r);
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn add_two<V: Integers, C: Codes, S: Scales<Unit = Self>, const R: usize, const PARTS: usize>(
        mut sums: [[V; R]; 2],
        (codes, ahead): ([&[u8]; 2], usize),
        (open, heads, at): ([[V; 2]; 2], [&[u8]; 2], usize),
        x: Record<'_, Self>,
    ) -> [[V; R]; 2] {
        // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
        unsafe {
            let mut totals = [[V::ints(0); R]; 2];
            // A number that an optimiser does not know: it would write the loop out.
            for i in 0..black_box(2) {
                unroll!(J in [0 1] {
                    let codes = codes.map(|codes| &codes[(2 * i + J) * C::SIZE..][..C::SIZE]);
                    totals = add_run_of_two::<V, C, S, R, PARTS>(totals, (codes, ahead), (heads, at), x, 2 * i + J);
                });
            }
            for p in 0..2 {
                for r in 0..R {
                    let term = minimum::<V, S>((open[p], heads[p], at), x, r);
                    sums[p][r] = finish::<V, S>(sums[p][r], term, totals[p][r], open[p][0], x, r);
                }
            }
        }
        sums
    }

    fn words<C: Codes, S: Scales<Unit = Self>>() -> Option<usize> {
        Some(if C::BIAS > 0 {
            SUMS_OF_16
        } else if S::RUN == RUN {
            OFFSETS
        } else {
            Self::WORDS
        })
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
                for r in 0..TILE {
                    let term = minimum::<V, S>((open, head, at / 4 * 4), x, r);
                    sums[r] = finish::<V, S>(sums[r], term, totals[r], open[0], x, r);
                }
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
) -> [V::Shorts; R] {
    if PARTS > 0 {
        ask::<V, PARTS>(codes, ahead);
    }
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        let mut sums = [V::shorts(V::ints(0)); R];
        // Two quads of the same codes at a time, and no more: an optimiser would take up many numbers before they are used,
        // and have no registers for them.
        unroll!(Q in [0 1 2 3] {
            sums = quad::<V, C, Wide, R>(sums, codes, x, run, Q);
            sums = quad::<V, C, Wide, R>(sums, codes, x, run, Q + 4);
            for r in 0..R {
                sums[r] = V::settled(sums[r]);
            }
        });
        sums
    }
}

/// Adds the products of run `run` of a unit times their scales, sum by sum.
#[inline(always)]
unsafe fn add_run<V: Integers, C: Codes, S: Scales, const R: usize, const PARTS: usize>(
    mut totals: [V::Ints; R],
    (codes, ahead): (&[u8], usize),
    (head, at): (&[u8], usize),
    x: Record<'_, Wide>,
    run: usize,
) -> [V::Ints; R] {
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        let scales = S::scales::<V>(head, if S::RUN == RUN { (at + run) / 2 } else { at + run });
        let mut sums = offsets::<V, C, R>(x, 2 * run);
        unroll!(Q in [0 1 2 3 4 5 6 7] {
            // One line at a time: memory is what limits few rows.
            if PARTS > 0 && Q < const { (C::SIZE / BYTES).div_ceil(if PARTS > 0 { PARTS } else { 1 }) } {
                ask::<V, PARTS>(&codes[Q * BYTES..][..BYTES], ahead);
            }
            if Q == 4 && const { !fits::<C, S>() } {
                sums = offsets::<V, C, R>(x, 2 * run + 1);
            }
            sums = if C::BIAS == 0 && (Q == 0 || Q == 4 && const { !fits::<C, S>() }) {
                first_quad::<V, C, Wide, R>(codes, x, run, Q)
            } else {
                quad::<V, C, Wide, R>(sums, codes, x, run, Q)
            };
            if Q == 7 || Q == 3 && const { !fits::<C, S>() } {
                let upper = if S::RUN == RUN { run % 2 == 1 } else { Q == 7 };
                for r in 0..R {
                    totals[r] = V::scaled(totals[r], sums[r], scales, upper);
                }
            }
        });
    }
    totals
}

/// The same for two panels, each input taken up once for both, of types whose products of 32 inputs fit 16 bits.
#[inline(always)]
unsafe fn add_run_of_two<V: Integers, C: Codes, S: Scales, const R: usize, const PARTS: usize>(
    mut totals: [[V::Ints; R]; 2],
    (codes, ahead): ([&[u8]; 2], usize),
    (heads, at): ([&[u8]; 2], usize),
    x: Record<'_, Wide>,
    run: usize,
) -> [[V::Ints; R]; 2] {
    debug_assert!(fits::<C, S>());
    if PARTS > 0 {
        codes.iter().for_each(|codes| ask::<V, PARTS>(codes, ahead));
    }
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        let mut sums = [[V::shorts(V::ints(0)); R]; 2];
        unroll!(Q in [0 1 2 3 4 5 6 7] {
            let quads = [C::quad::<V>(codes[0], Q), C::quad::<V>(codes[1], Q)];
            for r in 0..R {
                let x = x.quad(r, run * (RUN / 4) + Q);
                sums[0][r] = V::dot(sums[0][r], quads[0], x);
                sums[1][r] = V::dot(sums[1][r], quads[1], x);
            }
            for r in 0..R {
                sums[0][r] = V::settled(sums[0][r]);
                sums[1][r] = V::settled(sums[1][r]);
            }
        });
        for p in 0..2 {
            let scales = S::scales::<V>(heads[p], (at + run) / 2);
            for r in 0..R {
                totals[p][r] = V::scaled(totals[p][r], sums[p][r], scales, run % 2 == 1);
            }
        }
    }
    totals
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
        let mut halves = [[V::shorts(V::ints(0)); R]; 2];
        unroll!(Q in [0 1 2 3 4 5 6 7] {
            // With few rows memory is what limits: one line at a time.
            if PARTS > 0 && R <= FEWER && Q < C::SIZE / BYTES {
                ask::<V, 1>(&codes[Q * BYTES..][..BYTES], ahead);
            }
            halves[Q / 4] = quad::<V, C, Wide, R>(halves[Q / 4], codes, x, run, Q);
            if R == 1 {
                // Asked for and used by turns, with nothing else between one read of memory and the next.
                halves[Q / 4][0] = V::settled(halves[Q / 4][0]);
            }
        });
        let [first, last] = halves;
        let scales = scales_of_halves::<V, S>(head, at + run);
        for r in 0..R {
            let mut pairs = pairs::<V>(first[r], last[r]);
            if let Some(bits) = const { C::BIAS.checked_ilog2() } {
                // Sums that have the bias may be too large for a half; without it they fit, whatever was lost above.
                pairs = V::less_raised(pairs, x.sums_of_16(run, r), bits);
            }
            totals[r] = V::dot_pairs(totals[r], pairs, scales);
        }
        totals
    }
}

/// Sums that began with nothing, in pairs.
///
/// # Safety
/// As for [`Integers`].
#[inline(always)]
unsafe fn pairs<V: Integers>(first: V::Shorts, last: V::Shorts) -> V::Ints {
    // SAFETY: the caller is below `Isa::run` for `V`.
    unsafe { V::pairs(V::widened(V::ints(0), first), V::widened(V::ints(0), last)) }
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
unsafe fn offsets<V: Integers, C: Codes, const R: usize>(x: Record<'_, Wide>, half: usize) -> [V::Shorts; R] {
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        let mut sums = [V::shorts(V::ints(0)); R];
        if let Some(bits) = const { C::BIAS.checked_ilog2() } {
            for r in 0..R {
                sums[r] = V::offset(x.offset(half, r), 5 - bits);
            }
        }
        sums
    }
}

/// The minima of a unit times the sums of row `r`'s codes.
///
/// # Safety
/// As for [`Add::add`].
#[inline(always)]
unsafe fn minimum<V: Integers, S: Scales<Unit = Wide>>(
    (open, head, at): ([V; 2], &[u8], usize),
    x: Record<'_, Wide>,
    r: usize,
) -> V {
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        if !S::MIN {
            return V::zero();
        }
        let mut mins = V::ints(0);
        if S::RUN == RUN {
            unroll!(I in [0 1] {
                mins = V::dot_pairs(mins, S::mins::<V>(head, at / 2 + I), V::ints(x.sums_of_32(I, r)));
            });
        } else {
            unroll!(J in [0 1 2 3] {
                mins = V::dot_pairs(mins, S::mins::<V>(head, at + J), V::ints(x.sums_of_16(J, r)));
            });
        }
        V::to_floats(mins).mul(open[1])
    }
}

/// Adds a unit's terms to the sum of row `r`: `total`, which is the products times their integer scales, and `term`, what
/// [`minimum`] gave.
///
/// # Safety
/// As for [`Add::add`].
#[inline(always)]
unsafe fn finish<V: Integers, S: Scales<Unit = Wide>>(
    sum: V,
    term: V,
    total: V::Ints,
    scale: V,
    x: Record<'_, Wide>,
    r: usize,
) -> V {
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        let total = V::to_floats(total);
        let term = if S::MIN { total.times_plus(scale, term) } else { total.mul(scale) };
        term.times_plus(V::splat(x.scale(r)), sum)
    }
}
