//! The integers of AVX-512 with VNNI.

use super::{largest, totals};
use crate::cpu::integers::{BYTES, Integers, MAGNITUDE, PAIRS, shorts_of_32_bits};
use crate::cpu::vector::{Avx512, LANES, Vector};
use std::arch::asm;
use std::arch::x86_64::*;

// SAFETY of every block below: the caller knows that the processor has the instruction set (`Isa::run`), and
// loads and stores are of the size of the arrays that they get.

/// The upper halves of all pairs.
const UPPER: __mmask32 = 0xAAAA_AAAA;

/// The same register, behind which no load is moved up, and before which what it holds is made.
#[inline]
#[target_feature(enable = "avx512f")]
fn settled(mut register: __m512i) -> __m512i {
    // SAFETY: it has no instruction.
    unsafe { asm!("/* {} */", inout(zmm_reg) register, options(nostack, preserves_flags)) };
    register
}

/// `sum` plus the products of both halves of `a` and `b`, in one instruction: an optimiser makes two of the intrinsic, so that the
/// products need not wait for the sum, which costs more than it saves.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dot_pairs(mut sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: the processor has the instruction.
    unsafe {
        asm!("vpdpwssd {}, {}, {}", inout(zmm_reg) sum, in(zmm_reg) a, in(zmm_reg) b, options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

impl Integers for Avx512 {
    type Bytes = __m512i;
    type Ints = __m512i;
    const ROWS: usize = 8;
    const TWO_PANELS: bool = true;
    const TILES: bool = true;
    shorts_of_32_bits!();

    #[inline(always)]
    unsafe fn scaled(sum: Self::Ints, shorts: Self::Shorts, scales: Self::Ints, upper: bool) -> Self::Ints {
        // A sum of 32 bits that fits 16 is, as a pair, itself and what is multiplied by nothing.
        // SAFETY: see above.
        unsafe {
            let scales = if upper {
                _mm512_srli_epi32::<16>(scales)
            } else {
                _mm512_and_si512(scales, _mm512_set1_epi32(0xFFFF))
            };
            dot_pairs(sum, shorts, scales)
        }
    }

    #[inline(always)]
    unsafe fn bytes(from: &[u8; BYTES]) -> Self::Bytes {
        // SAFETY: see above.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn store_bytes(b: Self::Bytes, to: &mut [u8; BYTES]) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), b) }
    }

    #[inline(always)]
    unsafe fn lower(b: Self::Bytes, shift: u32, mask: u8) -> Self::Bytes {
        // SAFETY: see above.
        unsafe {
            let b = if shift == 0 { b } else { _mm512_srl_epi16(b, _mm_cvtsi32_si128(shift as i32)) };
            _mm512_and_si512(b, _mm512_set1_epi8(mask as i8))
        }
    }

    #[inline(always)]
    unsafe fn raise(b: Self::Bytes, shift: u32, mask: u8) -> Self::Bytes {
        // SAFETY: see above.
        unsafe {
            let b = if shift == 0 { b } else { _mm512_sll_epi16(b, _mm_cvtsi32_si128(shift as i32)) };
            _mm512_and_si512(b, _mm512_set1_epi8(mask as i8))
        }
    }

    #[inline(always)]
    unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        // SAFETY: see above.
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    unsafe fn lookup(table: &[u8; 16], b: Self::Bytes) -> Self::Bytes {
        // SAFETY: see above.
        unsafe {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, b)
        }
    }

    #[inline(always)]
    unsafe fn less(a: Self::Bytes, b: u8) -> Self::Bytes {
        // SAFETY: see above.
        unsafe { _mm512_sub_epi8(a, _mm512_set1_epi8(b as i8)) }
    }

    #[inline(always)]
    unsafe fn ints(x: i32) -> Self::Ints {
        // SAFETY: see above.
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    unsafe fn ints_raised(x: i32, shift: u32) -> Self::Ints {
        // The shift is the vector unit's, so that the number comes there from memory and not through a register.
        // SAFETY: see above.
        unsafe { _mm512_sll_epi32(_mm512_set1_epi32(x), _mm_cvtsi32_si128(shift as i32)) }
    }

    #[inline(always)]
    unsafe fn load_ints(from: &[i32; LANES]) -> Self::Ints {
        // SAFETY: see above.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn dot_wide(sum: Self::Ints, codes: Self::Bytes, x: &[u8; 4]) -> Self::Ints {
        // SAFETY: see above.
        unsafe { _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(i32::from_le_bytes(*x))) }
    }

    #[inline(always)]
    unsafe fn settled(sum: Self::Shorts) -> Self::Shorts {
        // SAFETY: see above.
        unsafe { settled(sum) }
    }

    #[inline(always)]
    unsafe fn to_floats(i: Self::Ints) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_cvtepi32_ps(i)) }
    }

    #[inline(always)]
    unsafe fn pairs(first: Self::Ints, last: Self::Ints) -> Self::Ints {
        // SAFETY: see above.
        unsafe { _mm512_mask_blend_epi16(UPPER, first, _mm512_slli_epi32::<16>(last)) }
    }

    #[inline(always)]
    unsafe fn less_raised(pairs: Self::Ints, x: i32, shift: u32) -> Self::Ints {
        // SAFETY: see above.
        unsafe {
            let x = _mm512_sll_epi16(_mm512_set1_epi32(x), _mm_cvtsi32_si128(shift as i32));
            _mm512_sub_epi16(pairs, x)
        }
    }

    #[inline(always)]
    unsafe fn twice(pairs: Self::Ints, upper: bool) -> Self::Ints {
        // SAFETY: see above.
        unsafe {
            if upper {
                _mm512_mask_blend_epi16(UPPER, _mm512_srli_epi32::<16>(pairs), pairs)
            } else {
                _mm512_mask_blend_epi16(UPPER, pairs, _mm512_slli_epi32::<16>(pairs))
            }
        }
    }

    #[inline(always)]
    unsafe fn pair_fields(pairs: Self::Ints, shift: u32, mask: u16) -> Self::Ints {
        // SAFETY: see above.
        unsafe {
            let x = if shift == 0 { pairs } else { _mm512_srl_epi16(pairs, _mm_cvtsi32_si128(shift as i32)) };
            _mm512_and_si512(x, _mm512_set1_epi16(mask as i16))
        }
    }

    #[inline(always)]
    unsafe fn pairs_of_u8(from: &[u8; PAIRS]) -> Self::Ints {
        // SAFETY: see above.
        unsafe { _mm512_cvtepu8_epi16(_mm256_loadu_si256(from.as_ptr().cast())) }
    }

    #[inline(always)]
    unsafe fn pairs_of_i8(from: &[u8; PAIRS]) -> Self::Ints {
        // SAFETY: see above.
        unsafe { _mm512_cvtepi8_epi16(_mm256_loadu_si256(from.as_ptr().cast())) }
    }

    #[inline(always)]
    unsafe fn dot_pairs(sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        // SAFETY: see above.
        unsafe { dot_pairs(sum, a, b) }
    }

    #[inline(always)]
    unsafe fn store_ints(i: Self::Ints) -> [i32; LANES] {
        let mut to = [0; LANES];
        // SAFETY: see above.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), i) }
        to
    }

    #[inline(always)]
    unsafe fn from_u8(from: &[u8; LANES]) -> Self {
        // SAFETY: see above.
        unsafe { Self::to_floats(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    unsafe fn from_i8(from: &[u8; LANES]) -> Self {
        // SAFETY: see above.
        unsafe { Self::to_floats(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    unsafe fn from_f16(from: &[u8; 2 * LANES]) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    unsafe fn times_plus(self, b: Self, c: Self) -> Self {
        // SAFETY: see above.
        unsafe { c.add_product(self, b) }
    }

    #[inline(always)]
    unsafe fn totals([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        // SAFETY: see above.
        unsafe {
            let (a, b, c, d) = (a.0, b.0, c.0, d.0);
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let all = _mm512_add_ps(
                _mm512_shuffle_ps::<0b01_00_01_00>(ab, cd),
                _mm512_shuffle_ps::<0b11_10_11_10>(ab, cd),
            );
            totals(_mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps::<1>(all)))
        }
    }

    #[inline(always)]
    unsafe fn magnitudes(of: [[Self; 2]; 4]) -> [f32; 4] {
        // SAFETY: see above.
        unsafe {
            let mask = _mm512_set1_epi32(MAGNITUDE as i32);
            let mut each = [mask; 4];
            for (each, [x, y]) in each.iter_mut().zip(of) {
                let x = _mm512_and_si512(_mm512_castps_si512(x.0), mask);
                *each = _mm512_max_epu32(x, _mm512_and_si512(_mm512_castps_si512(y.0), mask));
            }
            let [a, b, c, d] = each;
            let ab = _mm512_max_epu32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let cd = _mm512_max_epu32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            let all = _mm512_max_epu32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
            largest(_mm256_max_epu32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all)))
        }
    }

    #[inline(always)]
    unsafe fn lowest_bytes(self) -> [u8; LANES] {
        // SAFETY: see above.
        unsafe {
            let mut to = [0; LANES];
            _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(_mm512_castps_si512(self.0)));
            to
        }
    }
}
