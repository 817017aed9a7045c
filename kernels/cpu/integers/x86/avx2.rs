//! The integers of AVX2, alone and with AVX-VNNI, which has one instruction for four products and their sum.

use super::{largest, totals};
use crate::cpu::integers::{BYTES, Integers, MAGNITUDE, PAIRS};
use crate::cpu::vector::{Avx2, LANES, Vector};
use std::arch::asm;
use std::arch::x86_64::*;

// SAFETY of every block below: the caller knows that the processor has the instruction set (`Isa::run`), and
// loads and stores are of the size of the arrays that they get.

impl<const DOTS: bool> Integers for Avx2<DOTS> {
    type Bytes = [__m256i; 2];
    type Ints = [__m256i; 2];
    type Shorts = [__m256i; 2];
    const NARROW: bool = !DOTS;
    const APART: bool = true;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn bytes(from: &[u8; BYTES]) -> Self::Bytes {
        // SAFETY: see above.
        unsafe {
            let at = from.as_ptr().cast::<__m256i>();
            [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))]
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(b: Self::Bytes, to: &mut [u8; BYTES]) {
        // SAFETY: see above.
        unsafe {
            let at = to.as_mut_ptr().cast::<__m256i>();
            _mm256_storeu_si256(at, b[0]);
            _mm256_storeu_si256(at.add(1), b[1]);
        }
    }

    #[inline(always)]
    unsafe fn lower(b: Self::Bytes, shift: u32, mask: u8) -> Self::Bytes {
        // SAFETY: see above.
        unsafe {
            let (count, mask) = (_mm_cvtsi32_si128(shift as i32), _mm256_set1_epi8(mask as i8));
            [
                _mm256_and_si256(_mm256_srl_epi16(b[0], count), mask),
                _mm256_and_si256(_mm256_srl_epi16(b[1], count), mask),
            ]
        }
    }

    #[inline(always)]
    unsafe fn raise(b: Self::Bytes, shift: u32, mask: u8) -> Self::Bytes {
        // SAFETY: see above.
        unsafe {
            let (count, mask) = (_mm_cvtsi32_si128(shift as i32), _mm256_set1_epi8(mask as i8));
            [
                _mm256_and_si256(_mm256_sll_epi16(b[0], count), mask),
                _mm256_and_si256(_mm256_sll_epi16(b[1], count), mask),
            ]
        }
    }

    #[inline(always)]
    unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        // SAFETY: see above.
        unsafe { [_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn lookup(table: &[u8; 16], b: Self::Bytes) -> Self::Bytes {
        // SAFETY: see above.
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            [_mm256_shuffle_epi8(table, b[0]), _mm256_shuffle_epi8(table, b[1])]
        }
    }

    #[inline(always)]
    unsafe fn less(a: Self::Bytes, b: u8) -> Self::Bytes {
        // SAFETY: see above.
        unsafe {
            let b = _mm256_set1_epi8(b as i8);
            [_mm256_sub_epi8(a[0], b), _mm256_sub_epi8(a[1], b)]
        }
    }

    #[inline(always)]
    unsafe fn ints(x: i32) -> Self::Ints {
        // SAFETY: see above.
        unsafe { [_mm256_set1_epi32(x); 2] }
    }

    #[inline(always)]
    unsafe fn ints_raised(x: i32, shift: u32) -> Self::Ints {
        // SAFETY: see above.
        unsafe { [_mm256_sll_epi32(_mm256_set1_epi32(x), _mm_cvtsi32_si128(shift as i32)); 2] }
    }

    #[inline(always)]
    unsafe fn load_ints(from: &[i32; LANES]) -> Self::Ints {
        // SAFETY: see above.
        unsafe {
            let at = from.as_ptr().cast::<__m256i>();
            [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))]
        }
    }

    #[inline(always)]
    unsafe fn first_dot(codes: Self::Bytes, x: &[u8; 4]) -> Self::Shorts {
        // SAFETY: see above.
        unsafe {
            let x = _mm256_set1_epi32(i32::from_le_bytes(*x));
            if DOTS { add_fours([_mm256_setzero_si256(); 2], codes, x) } else { pairs(codes, x) }
        }
    }

    #[inline(always)]
    unsafe fn dot(sum: Self::Shorts, codes: Self::Bytes, x: &[u8; 4]) -> Self::Shorts {
        // SAFETY: see above.
        unsafe {
            let x = _mm256_set1_epi32(i32::from_le_bytes(*x));
            if DOTS { add_fours(sum, codes, x) } else { add_pairs(sum, codes, x) }
        }
    }

    #[inline(always)]
    unsafe fn dot_wide(sum: Self::Ints, codes: Self::Bytes, x: &[u8; 4]) -> Self::Ints {
        // SAFETY: see above.
        unsafe {
            let x = _mm256_set1_epi32(i32::from_le_bytes(*x));
            if DOTS {
                return add_fours(sum, codes, x);
            }
            let each = |h: usize| {
                // The sign goes to the inputs, which are never -128, so that pairs fit: 2 · 128 · 127.
                let codes = _mm256_xor_si256(codes[h], _mm256_set1_epi8(i8::MIN));
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
                _mm256_add_epi32(sum[h], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
            };
            [each(0), each(1)]
        }
    }

    #[inline(always)]
    unsafe fn shorts(sum: Self::Ints) -> Self::Shorts {
        // SAFETY: see above.
        if DOTS { sum } else { unsafe { [_mm256_setzero_si256(); 2] } }
    }

    #[inline(always)]
    unsafe fn widened(sum: Self::Ints, shorts: Self::Shorts) -> Self::Ints {
        if DOTS {
            return shorts;
        }
        // SAFETY: see above.
        unsafe {
            let one = _mm256_set1_epi16(1);
            let each = |h: usize| _mm256_add_epi32(sum[h], _mm256_madd_epi16(shorts[h], one));
            [each(0), each(1)]
        }
    }

    #[inline(always)]
    unsafe fn offset_word(codes: &[u8; LANES], sum: i32) -> i32 {
        if DOTS {
            return -32 * sum;
        }
        // SAFETY: see above.
        unsafe {
            let codes = _mm_loadu_si128(codes.as_ptr().cast());
            let of_two = _mm_maddubs_epi16(_mm_set1_epi8(32), codes);
            let of_eight = _mm_add_epi16(of_two, _mm_srli_si128::<8>(of_two));
            let sums = _mm_add_epi16(of_eight, _mm_srli_si128::<4>(of_eight));
            _mm_cvtsi128_si32(_mm_sub_epi16(_mm_setzero_si128(), sums))
        }
    }

    #[inline(always)]
    unsafe fn offset(word: i32, shift: u32) -> Self::Shorts {
        // SAFETY: see above.
        unsafe {
            let (word, shift) = (_mm256_set1_epi32(word), _mm_cvtsi32_si128(shift as i32));
            [if DOTS { _mm256_sra_epi32(word, shift) } else { _mm256_sra_epi16(word, shift) }; 2]
        }
    }

    #[inline(always)]
    unsafe fn scaled(sum: Self::Ints, shorts: Self::Shorts, scales: Self::Ints, upper: bool) -> Self::Ints {
        // SAFETY: see above.
        unsafe {
            let each = |h: usize| {
                if upper {
                    _mm256_srli_epi32::<16>(scales[h])
                } else {
                    _mm256_and_si256(scales[h], _mm256_set1_epi32(0xFFFF))
                }
            };
            // A sum of 32 bits that fits 16 is, as a pair, itself and what is multiplied by nothing.
            let scales = if DOTS { [each(0), each(1)] } else { Self::twice(scales, upper) };
            add_scaled(sum, shorts, scales)
        }
    }

    #[inline(always)]
    unsafe fn to_floats(i: Self::Ints) -> Self {
        // SAFETY: see above.
        unsafe { Self([_mm256_cvtepi32_ps(i[0]), _mm256_cvtepi32_ps(i[1])]) }
    }

    #[inline(always)]
    unsafe fn pairs(first: Self::Ints, last: Self::Ints) -> Self::Ints {
        // SAFETY: see above.
        unsafe {
            let both =
                |h: usize| _mm256_blend_epi16::<0b1010_1010>(first[h], _mm256_slli_epi32::<16>(last[h]));
            [both(0), both(1)]
        }
    }

    #[inline(always)]
    unsafe fn less_raised(pairs: Self::Ints, x: i32, shift: u32) -> Self::Ints {
        // SAFETY: see above.
        unsafe {
            let x = _mm256_sll_epi16(_mm256_set1_epi32(x), _mm_cvtsi32_si128(shift as i32));
            pairs.map(|pairs| _mm256_sub_epi16(pairs, x))
        }
    }

    #[inline(always)]
    unsafe fn twice(pairs: Self::Ints, upper: bool) -> Self::Ints {
        // SAFETY: see above.
        unsafe {
            let each = |x| {
                if upper {
                    _mm256_blend_epi16::<0b1010_1010>(_mm256_srli_epi32::<16>(x), x)
                } else {
                    _mm256_blend_epi16::<0b1010_1010>(x, _mm256_slli_epi32::<16>(x))
                }
            };
            [each(pairs[0]), each(pairs[1])]
        }
    }

    #[inline(always)]
    unsafe fn pair_fields(pairs: Self::Ints, shift: u32, mask: u16) -> Self::Ints {
        // SAFETY: see above.
        unsafe {
            let (count, mask) = (_mm_cvtsi32_si128(shift as i32), _mm256_set1_epi16(mask as i16));
            [
                _mm256_and_si256(_mm256_srl_epi16(pairs[0], count), mask),
                _mm256_and_si256(_mm256_srl_epi16(pairs[1], count), mask),
            ]
        }
    }

    #[inline(always)]
    unsafe fn pairs_of_u8(from: &[u8; PAIRS]) -> Self::Ints {
        // SAFETY: see above.
        unsafe {
            let at = from.as_ptr().cast::<__m128i>();
            [_mm256_cvtepu8_epi16(_mm_loadu_si128(at)), _mm256_cvtepu8_epi16(_mm_loadu_si128(at.add(1)))]
        }
    }

    #[inline(always)]
    unsafe fn pairs_of_i8(from: &[u8; PAIRS]) -> Self::Ints {
        // SAFETY: see above.
        unsafe {
            let at = from.as_ptr().cast::<__m128i>();
            [_mm256_cvtepi8_epi16(_mm_loadu_si128(at)), _mm256_cvtepi8_epi16(_mm_loadu_si128(at.add(1)))]
        }
    }

    #[inline(always)]
    unsafe fn dot_pairs(mut sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        // SAFETY: see above.
        unsafe {
            for h in 0..2 {
                sum[h] = _mm256_add_epi32(sum[h], _mm256_madd_epi16(a[h], b[h]));
            }
        }
        sum
    }

    #[inline(always)]
    unsafe fn store_ints(i: Self::Ints) -> [i32; LANES] {
        let mut to = [0; LANES];
        // SAFETY: see above.
        unsafe {
            let at = to.as_mut_ptr().cast::<__m256i>();
            _mm256_storeu_si256(at, i[0]);
            _mm256_storeu_si256(at.add(1), i[1]);
        }
        to
    }

    #[inline(always)]
    unsafe fn from_u8(from: &[u8; LANES]) -> Self {
        // SAFETY: see above.
        unsafe {
            let x = _mm_loadu_si128(from.as_ptr().cast());
            Self::to_floats([_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(x))])
        }
    }

    #[inline(always)]
    unsafe fn from_i8(from: &[u8; LANES]) -> Self {
        // SAFETY: see above.
        unsafe {
            let x = _mm_loadu_si128(from.as_ptr().cast());
            Self::to_floats([_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(x))])
        }
    }

    #[inline(always)]
    unsafe fn from_f16(from: &[u8; 2 * LANES]) -> Self {
        // SAFETY: see above.
        unsafe {
            let at = from.as_ptr().cast::<__m128i>();
            Self([_mm256_cvtph_ps(_mm_loadu_si128(at)), _mm256_cvtph_ps(_mm_loadu_si128(at.add(1)))])
        }
    }

    #[inline(always)]
    unsafe fn times_plus(self, b: Self, c: Self) -> Self {
        // SAFETY: see above.
        unsafe { c.add_product(self, b) }
    }

    #[inline(always)]
    unsafe fn totals(of: [Self; 4]) -> [f32; 4] {
        // SAFETY: see above.
        unsafe {
            let [a, b, c, d] = of.map(|x| _mm256_add_ps(x.0[0], x.0[1]));
            totals(_mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d)))
        }
    }

    #[inline(always)]
    unsafe fn magnitudes(of: [[Self; 2]; 4]) -> [f32; 4] {
        // SAFETY: see above.
        unsafe {
            let mask = _mm256_set1_epi32(MAGNITUDE as i32);
            let mut each = [mask; 4];
            for (each, [x, y]) in each.iter_mut().zip(of) {
                let [a, b] = x.0.map(|half| _mm256_and_si256(_mm256_castps_si256(half), mask));
                let [c, d] = y.0.map(|half| _mm256_and_si256(_mm256_castps_si256(half), mask));
                *each = _mm256_max_epu32(_mm256_max_epu32(a, b), _mm256_max_epu32(c, d));
            }
            let [a, b, c, d] = each;
            let ab = _mm256_max_epu32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let cd = _mm256_max_epu32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            largest(_mm256_max_epu32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd)))
        }
    }

    #[inline(always)]
    unsafe fn lowest_bytes(self) -> [u8; LANES] {
        // SAFETY: see above.
        unsafe {
            let mask = _mm256_set1_epi32(0xFF);
            let low = _mm256_and_si256(_mm256_castps_si256(self.0[0]), mask);
            let high = _mm256_and_si256(_mm256_castps_si256(self.0[1]), mask);
            // Packing goes by halves of registers: the four quarters are put in order between.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low, high));
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            let mut to = [0; LANES];
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
            to
        }
    }
}

/// Pairs of products in 16 bits, where 2 · 127 · 127 fits. In assembly that nothing moves across, because an optimiser
/// would take up more operands than there are registers, and sum products before it adds them.
#[inline]
#[target_feature(enable = "avx2")]
fn pairs(codes: [__m256i; 2], x: __m256i) -> [__m256i; 2] {
    let (mut first, mut last);
    // SAFETY: these instructions change only registers, and are there by the function's features.
    unsafe {
        asm!(
            "vpmaddubsw {first}, {low}, {x}",
            "vpmaddubsw {last}, {high}, {x}",
            x = in(ymm_reg) x,
            first = out(ymm_reg) first,
            last = lateout(ymm_reg) last,
            low = in(ymm_reg) codes[0],
            high = in(ymm_reg) codes[1],
            options(nostack, preserves_flags),
        );
    }
    [first, last]
}

/// The same, added to sums.
#[inline]
#[target_feature(enable = "avx2")]
fn add_pairs([mut first, mut last]: [__m256i; 2], codes: [__m256i; 2], x: __m256i) -> [__m256i; 2] {
    // SAFETY: these instructions change only registers, and are there by the function's features.
    unsafe {
        asm!(
            "vpmaddubsw {pairs}, {low}, {x}",
            "vpmaddubsw {x}, {high}, {x}",
            "vpaddw {first}, {first}, {pairs}",
            "vpaddw {last}, {last}, {x}",
            x = inout(ymm_reg) x => _,
            pairs = out(ymm_reg) _,
            first = inout(ymm_reg) first,
            last = inout(ymm_reg) last,
            low = in(ymm_reg) codes[0],
            high = in(ymm_reg) codes[1],
            options(nostack, preserves_flags),
        );
    }
    [first, last]
}

/// Sums of 16 bits times scales, in pairs, added to sums of 32 bits. In assembly too: an optimiser would keep the sums of
/// one run until those of the next are made, and has no registers for both.
#[inline]
#[target_feature(enable = "avx2")]
fn add_scaled([mut first, mut last]: [__m256i; 2], sums: [__m256i; 2], scales: [__m256i; 2]) -> [__m256i; 2] {
    // SAFETY: these instructions change only registers, and are there by the function's features.
    unsafe {
        asm!(
            "vpmaddwd {low}, {low}, {a}",
            "vpmaddwd {high}, {high}, {b}",
            "vpaddd {first}, {first}, {low}",
            "vpaddd {last}, {last}, {high}",
            first = inout(ymm_reg) first,
            last = inout(ymm_reg) last,
            low = inout(ymm_reg) sums[0] => _,
            high = inout(ymm_reg) sums[1] => _,
            a = in(ymm_reg) scales[0],
            b = in(ymm_reg) scales[1],
            options(nostack, preserves_flags),
        );
    }
    [first, last]
}

/// Four products and what is added to them, in 32 bits, in assembly for the same reason; the encoding is that of AVX-VNNI,
/// not of AVX-512.
#[inline]
#[target_feature(enable = "avx2")]
fn add_fours([mut first, mut last]: [__m256i; 2], codes: [__m256i; 2], x: __m256i) -> [__m256i; 2] {
    // SAFETY: these instructions change only registers, and are there as the caller has made sure (`DOTS`).
    unsafe {
        asm!(
            "{{vex}} vpdpbusd {first}, {low}, {x}",
            "{{vex}} vpdpbusd {last}, {high}, {x}",
            x = in(ymm_reg) x,
            first = inout(ymm_reg) first,
            last = inout(ymm_reg) last,
            low = in(ymm_reg) codes[0],
            high = in(ymm_reg) codes[1],
            options(nostack, preserves_flags),
        );
    }
    [first, last]
}
