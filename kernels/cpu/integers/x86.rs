//! The integers of x86-64.

mod avx2;
mod avx512;

use std::arch::x86_64::*;

/// The sums of both halves' lanes of the same number.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn totals(halves: __m256) -> [f32; 4] {
    let mut to = [0.0; 4];
    // SAFETY: see above.
    unsafe {
        let sum = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
        _mm_storeu_ps(to.as_mut_ptr(), sum);
    }
    to
}

/// The largest of both halves' lanes of the same number, compared as bits.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn largest(halves: __m256i) -> [f32; 4] {
    let mut to = [0.0; 4];
    // SAFETY: see above.
    unsafe {
        let most = _mm_max_epu32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
        _mm_storeu_ps(to.as_mut_ptr(), _mm_castsi128_ps(most));
    }
    to
}
