//! Sixteen lanes of f32 on every instruction set.
//!
//! The number is the same everywhere, so that sums have one order: an instruction set with narrower
//! registers takes several of them. The implementations for x86-64 are in `vector/x86.rs`.

#[cfg(target_arch = "x86_64")]
mod x86;

use half::f16;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

/// Number of lanes.
pub(super) const LANES: usize = 16;

/// The lanes in memory.
pub(super) type Lanes = [f32; LANES];

/// Sixteen lanes in registers.
///
/// Every method is `#[inline(always)]` and must be: it then becomes part of the function that has the
/// instruction set's features.
///
/// # Safety
/// Methods may be called only where the processor is known to have the implementor's instruction set.
/// [`Isa::run`](super::Isa::run) knows it, and only code below it names a vector.
pub(super) trait Vector: Copy {
    /// Whether a product and a sum are rounded once. All vectors that fuse give the same bits.
    const FUSED: bool;
    /// How many vectors the registers hold.
    const REGISTERS: usize;
    /// Whether [`prefetch`](Self::prefetch) does anything.
    const ASKS: bool = false;
    /// All lanes 0.
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller knows the instruction set.
        unsafe { Self::splat(0.0) }
    }
    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self;
    /// The lanes from memory.
    unsafe fn load(from: &Lanes) -> Self;
    /// Sixteen halves, each exactly.
    unsafe fn load_f16(from: &[f16; LANES]) -> Self;
    /// Sixteen whole numbers.
    unsafe fn load_i8(from: &[i8; LANES]) -> Self;
    /// Asks for a cache line that will be needed, if the processor can. Any address will do.
    #[inline(always)]
    fn prefetch<T>(_at: *const T) {}
    /// The same for a line that will be needed only later: into the second cache, which waits for more lines at a time
    /// than the first, and does not hold up what follows when it waits for as many as it can.
    #[inline(always)]
    fn prefetch_far<T>(_at: *const T) {}
    /// The lanes to memory.
    unsafe fn store(self) -> Lanes;
    /// `self + a` in every lane.
    unsafe fn add(self, a: Self) -> Self;
    /// `self - a` in every lane.
    unsafe fn sub(self, a: Self) -> Self;
    /// `self · a` in every lane.
    unsafe fn mul(self, a: Self) -> Self;
    /// `self / a` in every lane.
    unsafe fn div(self, a: Self) -> Self;
    /// `self + a · b` in every lane.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// The larger of the two in every lane; `a` where one of them is no number.
    unsafe fn max(self, a: Self) -> Self;
    /// The smaller of the two in every lane; `a` where one of them is no number.
    unsafe fn min(self, a: Self) -> Self;
    /// 0 in every lane where `x < limit`, `self` elsewhere.
    unsafe fn zero_below(self, x: Self, limit: Self) -> Self;
    /// `2^(n - 1)` in every lane that is [`ROUND`]` + n`, for whole `n` from -125 to 128.
    unsafe fn power(self) -> Self;
}

/// Numbers from half to twice this have no digits after the point: adding it rounds to a whole number,
/// which then stands in the lowest bits.
pub(super) const ROUND: f32 = 12_582_912.0;

/// `((n + ROUND).to_bits() << EXPONENT).wrapping_add(POWER)` are the bits of `2^(n - 1)`.
const EXPONENT: i32 = 23;
const POWER: i32 = 126 << EXPONENT;

/// Whether every processor of the compiler's target fuses multiplication and addition. Where not, the
/// portable arithmetic rounds twice, because a fused operation without the instruction is a slow call.
const PORTABLE_FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// `f` in every lane. A macro, because closures are not inlined for certain.
macro_rules! each_lane {
    ($l:ident => $value:expr) => {{
        let mut lanes = [0.0; LANES];
        for $l in 0..LANES {
            lanes[$l] = $value;
        }
        lanes
    }};
}

impl Vector for Lanes {
    const FUSED: bool = PORTABLE_FUSED;
    // Of four lanes: 32 on aarch64, 16 on x86-64.
    const REGISTERS: usize = if cfg!(target_arch = "aarch64") { 8 } else { 4 };

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn load(from: &Lanes) -> Self {
        *from
    }

    #[inline(always)]
    unsafe fn load_f16(from: &[f16; LANES]) -> Self {
        each_lane!(l => widen(from[l]))
    }

    #[inline(always)]
    unsafe fn load_i8(from: &[i8; LANES]) -> Self {
        each_lane!(l => f32::from(from[l]))
    }

    #[inline(always)]
    unsafe fn store(self) -> Lanes {
        self
    }

    #[inline(always)]
    unsafe fn add(self, a: Self) -> Self {
        each_lane!(l => self[l] + a[l])
    }

    #[inline(always)]
    unsafe fn sub(self, a: Self) -> Self {
        each_lane!(l => self[l] - a[l])
    }

    #[inline(always)]
    unsafe fn mul(self, a: Self) -> Self {
        each_lane!(l => self[l] * a[l])
    }

    #[inline(always)]
    unsafe fn div(self, a: Self) -> Self {
        each_lane!(l => self[l] / a[l])
    }

    #[inline(always)]
    unsafe fn add_product(mut self, a: Self, b: Self) -> Self {
        for l in 0..LANES {
            self[l] = if Self::FUSED { a[l].mul_add(b[l], self[l]) } else { a[l] * b[l] + self[l] };
        }
        self
    }

    #[inline(always)]
    unsafe fn max(self, a: Self) -> Self {
        each_lane!(l => if self[l] > a[l] { self[l] } else { a[l] })
    }

    #[inline(always)]
    unsafe fn min(self, a: Self) -> Self {
        each_lane!(l => if self[l] < a[l] { self[l] } else { a[l] })
    }

    #[inline(always)]
    unsafe fn zero_below(self, x: Self, limit: Self) -> Self {
        each_lane!(l => if x[l] < limit[l] { 0.0 } else { self[l] })
    }

    #[inline(always)]
    unsafe fn power(self) -> Self {
        each_lane!(l => {
            let n = self[l].to_bits().cast_signed() << EXPONENT;
            f32::from_bits(n.wrapping_add(POWER).cast_unsigned())
        })
    }
}

/// A half as f32, exactly, without branches so that the compiler makes vectors of it: the exponent is
/// moved by a multiplication, which also gives numbers below 2⁻¹⁴ their leading digit.
#[inline(always)]
fn widen(half: f16) -> f32 {
    const MOVE: f32 = f32::from_bits((127 + 127 - 15) << 23);
    let bits = u32::from(half.to_bits());
    let size = (bits & 0x7fff) << 13;
    let finite = (f32::from_bits(size) * MOVE).to_bits();
    // Infinity and what is no number keep their digits and take the largest exponent.
    let other = size | 0xff << 23;
    let size = if size < 0x1f << 23 { finite } else { other };
    f32::from_bits(size | (bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::{f16, widen};

    #[test]
    fn every_half_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            let (got, expected) = (widen(half), half.to_f32());
            assert!(got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(), "{bits:#x}");
        }
    }
}
