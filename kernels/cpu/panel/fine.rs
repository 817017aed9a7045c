//! Units of 32 inputs, for types whose scales are floats.

// Registers are numbered: an iterator over them is not inlined for certain, and then they are in memory.
#![allow(clippy::needless_range_loop)]

use super::{Add, MOST_PRODUCTS, Products, ask, quad, unroll};
use crate::cpu::codes::Codes;
use crate::cpu::integers::Integers;
use crate::cpu::quantized::{Fine, RUN, Record, TILE};
use crate::cpu::scales::Scales;

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
            if let Some(shift) = const { if C::WIDE && V::NARROW { None } else { C::BIAS.checked_ilog2() } } {
                for r in 0..R {
                    products[r] = V::ints_raised(x.negative_sum(r), shift);
                }
            }
            if C::WIDE {
                unroll!(Q in [0 1 2 3 4 5 6 7] { products = wide_quad::<V, C, R>(products, codes, x, Q) });
            } else {
                let mut sums = products.map(|sum| V::shorts(sum));
                unroll!(Q in [0 1 2 3 4 5 6 7] {
                    sums = quad::<V, C, Self, R>(sums, codes, x, 0, Q);
                    if Q == 7 || Q == 3 && const { !fits_unbounded::<C>() } {
                        for r in 0..R {
                            products[r] = V::widened(products[r], sums[r]);
                            sums[r] = V::shorts(products[r]);
                        }
                    }
                });
            }
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

    // So few inputs take no longer than asking for the next.
    fn words<C: Codes, S: Scales<Unit = Self>>() -> Option<usize> {
        None
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

/// Whether the sums of 16 products of these codes fit 16 bits, whatever they are multiplied with; those of 8 do.
const fn fits_unbounded<C: Codes>() -> bool {
    let largest = if C::BIAS > 0 { 2 * C::BIAS - 1 } else { C::MOST };
    assert!(C::WIDE || 8 * 127 * largest <= i16::MAX as i32, "products of 8 inputs must fit 16 bits");
    16 * 127 * largest <= i16::MAX as i32
}

/// Adds the products of quad `q` of a unit, whose codes these are and may be 128 or more.
#[inline(always)]
unsafe fn wide_quad<V: Integers, C: Codes, const R: usize>(
    mut products: [V::Ints; R],
    codes: &[u8],
    x: Record<'_, Fine>,
    q: usize,
) -> [V::Ints; R] {
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        let quad = C::quad::<V>(codes, q);
        for r in 0..R {
            products[r] = V::dot_wide(products[r], quad, x.quad(r, q));
        }
        products
    }
}
