//! The vectors of x86-64.

use super::{EXPONENT, LANES, Lanes, POWER, Vector};
use half::f16;
use std::arch::x86_64::{
    __m256, __m512, _CMP_LT_OQ, _CMP_NLT_UQ, _MM_HINT_T0, _MM_HINT_T1, _mm_loadl_epi64, _mm_loadu_si128,
    _mm_prefetch, _mm256_add_epi32, _mm256_add_ps, _mm256_andnot_ps, _mm256_castps_si256,
    _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtph_ps,
    _mm256_div_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_max_ps, _mm256_min_ps,
    _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_sub_ps,
    _mm512_add_epi32, _mm512_add_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask,
    _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_div_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_maskz_mov_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
};

/// Two registers of AVX2, with FMA and F16C; with AVX-VNNI too if `DOTS`.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Avx2<const DOTS: bool>(pub(in crate::cpu) [__m256; 2]);

impl<const DOTS: bool> Vector for Avx2<DOTS> {
    const FUSED: bool = true;
    const REGISTERS: usize = 8;
    const ASKS: bool = true;

    #[inline(always)]
    fn prefetch<T>(at: *const T) {
        prefetch(at);
    }

    #[inline(always)]
    fn prefetch_far<T>(at: *const T) {
        prefetch_far(at);
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller knows that the processor has AVX2.
        unsafe { Self([_mm256_set1_ps(x); 2]) }
    }

    #[inline(always)]
    unsafe fn load(from: &Lanes) -> Self {
        // SAFETY: both halves of eight are within the array; the caller knows that there is AVX2.
        unsafe { Self([_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))]) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: &[f16; LANES]) -> Self {
        // SAFETY: both halves of eight are within the array; the caller knows that there are AVX2 and F16C.
        unsafe {
            Self([
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(8).cast())),
            ])
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: &[i8; LANES]) -> Self {
        // SAFETY: both halves of eight are within the array; the caller knows that there is AVX2.
        unsafe {
            Self([
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().cast()))),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().add(8).cast()))),
            ])
        }
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
    unsafe fn add(self, a: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX2.
        unsafe { Self([_mm256_add_ps(self.0[0], a.0[0]), _mm256_add_ps(self.0[1], a.0[1])]) }
    }

    #[inline(always)]
    unsafe fn sub(self, a: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX2.
        unsafe { Self([_mm256_sub_ps(self.0[0], a.0[0]), _mm256_sub_ps(self.0[1], a.0[1])]) }
    }

    #[inline(always)]
    unsafe fn mul(self, a: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX2.
        unsafe { Self([_mm256_mul_ps(self.0[0], a.0[0]), _mm256_mul_ps(self.0[1], a.0[1])]) }
    }

    #[inline(always)]
    unsafe fn div(self, a: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX2.
        unsafe { Self([_mm256_div_ps(self.0[0], a.0[0]), _mm256_div_ps(self.0[1], a.0[1])]) }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX2 and FMA.
        unsafe {
            Self([_mm256_fmadd_ps(a.0[0], b.0[0], self.0[0]), _mm256_fmadd_ps(a.0[1], b.0[1], self.0[1])])
        }
    }

    #[inline(always)]
    unsafe fn max(self, a: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX2.
        unsafe { Self([_mm256_max_ps(self.0[0], a.0[0]), _mm256_max_ps(self.0[1], a.0[1])]) }
    }

    #[inline(always)]
    unsafe fn min(self, a: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX2.
        unsafe { Self([_mm256_min_ps(self.0[0], a.0[0]), _mm256_min_ps(self.0[1], a.0[1])]) }
    }

    #[inline(always)]
    unsafe fn zero_below(self, x: Self, limit: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX2.
        unsafe {
            Self([
                _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x.0[0], limit.0[0]), self.0[0]),
                _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x.0[1], limit.0[1]), self.0[1]),
            ])
        }
    }

    #[inline(always)]
    unsafe fn power(self) -> Self {
        // SAFETY: the caller knows that the processor has AVX2.
        unsafe {
            let power = _mm256_set1_epi32(POWER);
            Self([
                _mm256_castsi256_ps(_mm256_add_epi32(
                    _mm256_slli_epi32::<EXPONENT>(_mm256_castps_si256(self.0[0])),
                    power,
                )),
                _mm256_castsi256_ps(_mm256_add_epi32(
                    _mm256_slli_epi32::<EXPONENT>(_mm256_castps_si256(self.0[1])),
                    power,
                )),
            ])
        }
    }
}

/// One register of AVX-512.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Avx512(pub(in crate::cpu) __m512);

impl Vector for Avx512 {
    const FUSED: bool = true;
    const REGISTERS: usize = 32;
    const ASKS: bool = true;

    #[inline(always)]
    fn prefetch<T>(at: *const T) {
        prefetch(at);
    }

    #[inline(always)]
    fn prefetch_far<T>(at: *const T) {
        prefetch_far(at);
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller knows that the processor has AVX-512.
        unsafe { Self(_mm512_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn load(from: &Lanes) -> Self {
        // SAFETY: sixteen values are the array; the caller knows that there is AVX-512.
        unsafe { Self(_mm512_loadu_ps(from.as_ptr())) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: &[f16; LANES]) -> Self {
        // SAFETY: sixteen values are the array; the caller knows that there is AVX-512.
        unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    unsafe fn load_i8(from: &[i8; LANES]) -> Self {
        // SAFETY: sixteen values are the array; the caller knows that there is AVX-512.
        unsafe { Self(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast())))) }
    }

    #[inline(always)]
    unsafe fn store(self) -> Lanes {
        let mut to = [0.0; LANES];
        // SAFETY: sixteen values are the array; the caller knows that there is AVX-512.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) };
        to
    }

    #[inline(always)]
    unsafe fn add(self, a: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX-512.
        unsafe { Self(_mm512_add_ps(self.0, a.0)) }
    }

    #[inline(always)]
    unsafe fn sub(self, a: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX-512.
        unsafe { Self(_mm512_sub_ps(self.0, a.0)) }
    }

    #[inline(always)]
    unsafe fn mul(self, a: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX-512.
        unsafe { Self(_mm512_mul_ps(self.0, a.0)) }
    }

    #[inline(always)]
    unsafe fn div(self, a: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX-512.
        unsafe { Self(_mm512_div_ps(self.0, a.0)) }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX-512.
        unsafe { Self(_mm512_fmadd_ps(a.0, b.0, self.0)) }
    }

    #[inline(always)]
    unsafe fn max(self, a: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX-512.
        unsafe { Self(_mm512_max_ps(self.0, a.0)) }
    }

    #[inline(always)]
    unsafe fn min(self, a: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX-512.
        unsafe { Self(_mm512_min_ps(self.0, a.0)) }
    }

    #[inline(always)]
    unsafe fn zero_below(self, x: Self, limit: Self) -> Self {
        // SAFETY: the caller knows that the processor has AVX-512.
        unsafe { Self(_mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x.0, limit.0), self.0)) }
    }

    #[inline(always)]
    unsafe fn power(self) -> Self {
        // SAFETY: the caller knows that the processor has AVX-512.
        unsafe {
            let n = _mm512_slli_epi32::<{ EXPONENT as u32 }>(_mm512_castps_si512(self.0));
            Self(_mm512_castsi512_ps(_mm512_add_epi32(n, _mm512_set1_epi32(POWER))))
        }
    }
}

#[inline(always)]
fn prefetch<T>(at: *const T) {
    // SAFETY: every x86-64 has SSE; an address that is none has no effect.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

#[inline(always)]
fn prefetch_far<T>(at: *const T) {
    // SAFETY: as above.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
}
