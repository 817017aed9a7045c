//! Sixteen lanes of f32 on every instruction set.
//!
//! The number is the same everywhere, so that sums have one order: an instruction set with narrower
//! registers takes several of them.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

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
    /// All lanes 0.
    unsafe fn zero() -> Self;
    /// The lanes from memory.
    unsafe fn load(from: &Lanes) -> Self;
    /// The lanes to memory.
    unsafe fn store(self) -> Lanes;
    /// `self + a · b` in every lane.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
}

/// Whether every processor of the compiler's target fuses multiplication and addition. Where not, the
/// portable arithmetic rounds twice, because a fused operation without the instruction is a slow call.
const PORTABLE_FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

impl Vector for Lanes {
    const FUSED: bool = PORTABLE_FUSED;

    #[inline(always)]
    unsafe fn zero() -> Self {
        [0.0; LANES]
    }

    #[inline(always)]
    unsafe fn load(from: &Lanes) -> Self {
        *from
    }

    #[inline(always)]
    unsafe fn store(self) -> Lanes {
        self
    }

    #[inline(always)]
    unsafe fn add_product(mut self, a: Self, b: Self) -> Self {
        for l in 0..LANES {
            self[l] = if Self::FUSED { a[l].mul_add(b[l], self[l]) } else { a[l] * b[l] + self[l] };
        }
        self
    }
}

/// Two registers of AVX2, with FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx2(pub(super) [__m256; 2]);

#[cfg(target_arch = "x86_64")]
impl Vector for Avx2 {
    const FUSED: bool = true;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller knows that the processor has AVX2.
        unsafe { Self([_mm256_setzero_ps(); 2]) }
    }

    #[inline(always)]
    unsafe fn load(from: &Lanes) -> Self {
        // SAFETY: both halves of eight are within the array; the caller knows that there is AVX2.
        unsafe { Self([_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))]) }
    }

    #[inline(always)]
    unsafe fn store(self) -> Lanes {
        let mut to = [0.0; LANES];
        // SAFETY: both halves of eight are within the array; the caller knows that there is AVX2.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), self.0[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), self.0[1]);
        }
        to
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX2 and FMA.
        unsafe {
            Self([_mm256_fmadd_ps(a.0[0], b.0[0], self.0[0]), _mm256_fmadd_ps(a.0[1], b.0[1], self.0[1])])
        }
    }
}

/// One register of AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx512(pub(super) __m512);

#[cfg(target_arch = "x86_64")]
impl Vector for Avx512 {
    const FUSED: bool = true;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller knows that the processor has AVX-512.
        unsafe { Self(_mm512_setzero_ps()) }
    }

    #[inline(always)]
    unsafe fn load(from: &Lanes) -> Self {
        // SAFETY: sixteen floats are the array; the caller knows that there is AVX-512.
        unsafe { Self(_mm512_loadu_ps(from.as_ptr())) }
    }

    #[inline(always)]
    unsafe fn store(self) -> Lanes {
        let mut to = [0.0; LANES];
        // SAFETY: sixteen floats are the array; the caller knows that there is AVX-512.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) };
        to
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX-512.
        unsafe { Self(_mm512_fmadd_ps(a.0, b.0, self.0)) }
    }
}
