//! Sixty-four small unsigned numbers against four signed ones, on every instruction set.
//!
//! A register of 64 bytes holds, for each of 16 outputs, the codes of four consecutive inputs: the operand of
//! AVX-512's `vpdpbusd`, and what the other instruction sets are made to look like. Sums of integers are
//! exact, and what follows them is rounded in one order, so all instruction sets give the same bits.

#[cfg(target_arch = "x86_64")]
use super::vector::{Avx2, Avx512};
use super::vector::{LANES, Lanes, Vector};
use half::f16;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Bytes of a register of codes: four for each lane.
pub(super) const BYTES: usize = 4 * LANES;

/// Integer arithmetic beside the sixteen floats, and floats that are rounded once where `Vector` may round twice.
///
/// # Safety
/// As for [`Vector`]: only below [`Isa::run`](super::Isa::run), which knows the instruction set.
pub(super) trait Integers: Vector {
    /// 64 unsigned bytes.
    type Bytes: Copy;
    /// 16 signed 32-bit numbers.
    type Ints: Copy;
    /// Rows that are multiplied at a time: as many as registers allow, a power of two.
    const ROWS: usize;
    /// Whether a processor with this instruction set may have a matrix unit (see [`amx`](super::amx)).
    const TILES: bool = false;

    /// From memory.
    unsafe fn bytes(from: &[u8; BYTES]) -> Self::Bytes;
    /// To memory.
    unsafe fn store_bytes(b: Self::Bytes, to: &mut [u8; BYTES]);
    /// `(b >> shift) & mask` in every byte; `mask` has no bit that comes from a neighbouring byte.
    unsafe fn lower(b: Self::Bytes, shift: u32, mask: u8) -> Self::Bytes;
    /// `(b << shift) & mask` in every byte, likewise.
    unsafe fn raise(b: Self::Bytes, shift: u32, mask: u8) -> Self::Bytes;
    /// `a | b`.
    unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// `table[b]` in every byte; `b < 16`.
    unsafe fn lookup(table: &[u8; 16], b: Self::Bytes) -> Self::Bytes;
    /// `a - b` in every byte, wrapping.
    unsafe fn less(a: Self::Bytes, b: u8) -> Self::Bytes;

    /// The same number in every lane.
    unsafe fn ints(x: i32) -> Self::Ints;
    /// `x << shift` in every lane.
    unsafe fn ints_raised(x: i32, shift: u32) -> Self::Ints;
    /// From memory.
    unsafe fn load_ints(from: &[i32; LANES]) -> Self::Ints;
    /// `sum[lane] += Σ codes[4·lane + i] · x[i]`. Codes are below 128 unless `WIDE`.
    unsafe fn dot<const WIDE: bool>(sum: Self::Ints, codes: Self::Bytes, x: [u8; 4]) -> Self::Ints;
    /// As floats; exact below 2^24.
    unsafe fn to_floats(i: Self::Ints) -> Self;

    /// Sixteen unsigned bytes as floats.
    unsafe fn from_u8(from: &[u8; LANES]) -> Self;
    /// Sixteen signed bytes as floats.
    unsafe fn from_i8(from: &[u8; LANES]) -> Self;
    /// Sixteen little-endian half-precision floats.
    unsafe fn from_f16(from: &[u8; 2 * LANES]) -> Self;
    /// `self · b + c`, rounded once on every instruction set.
    unsafe fn times_plus(self, b: Self, c: Self) -> Self;
    /// The sum of lanes that are whole numbers, and whose sums are exact in any order.
    unsafe fn total(self) -> f32;
    /// The lowest byte of each lane's bits.
    unsafe fn lowest_bytes(self) -> [u8; LANES];
}

impl Integers for Lanes {
    type Bytes = [u8; BYTES];
    type Ints = [i32; LANES];
    const ROWS: usize = 1;

    #[inline(always)]
    unsafe fn bytes(from: &[u8; BYTES]) -> Self::Bytes {
        *from
    }

    #[inline(always)]
    unsafe fn store_bytes(b: Self::Bytes, to: &mut [u8; BYTES]) {
        *to = b;
    }

    #[inline(always)]
    unsafe fn lower(b: Self::Bytes, shift: u32, mask: u8) -> Self::Bytes {
        b.map(|x| x >> shift & mask)
    }

    #[inline(always)]
    unsafe fn raise(b: Self::Bytes, shift: u32, mask: u8) -> Self::Bytes {
        b.map(|x| x << shift & mask)
    }

    #[inline(always)]
    unsafe fn or(mut a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        for i in 0..BYTES {
            a[i] |= b[i];
        }
        a
    }

    #[inline(always)]
    unsafe fn lookup(table: &[u8; 16], b: Self::Bytes) -> Self::Bytes {
        b.map(|x| table[usize::from(x & 15)])
    }

    #[inline(always)]
    unsafe fn less(a: Self::Bytes, b: u8) -> Self::Bytes {
        a.map(|x| x.wrapping_sub(b))
    }

    #[inline(always)]
    unsafe fn ints(x: i32) -> Self::Ints {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn ints_raised(x: i32, shift: u32) -> Self::Ints {
        [x << shift; LANES]
    }

    #[inline(always)]
    unsafe fn load_ints(from: &[i32; LANES]) -> Self::Ints {
        *from
    }

    #[inline(always)]
    unsafe fn dot<const WIDE: bool>(mut sum: Self::Ints, codes: Self::Bytes, x: [u8; 4]) -> Self::Ints {
        for l in 0..LANES {
            for i in 0..4 {
                sum[l] = sum[l].wrapping_add(i32::from(codes[4 * l + i]) * i32::from(x[i] as i8));
            }
        }
        sum
    }

    #[inline(always)]
    unsafe fn to_floats(i: Self::Ints) -> Self {
        i.map(|x| x as f32)
    }

    #[inline(always)]
    unsafe fn from_u8(from: &[u8; LANES]) -> Self {
        from.map(f32::from)
    }

    #[inline(always)]
    unsafe fn from_i8(from: &[u8; LANES]) -> Self {
        from.map(|x| f32::from(x as i8))
    }

    #[inline(always)]
    unsafe fn from_f16(from: &[u8; 2 * LANES]) -> Self {
        let mut to = [0.0; LANES];
        for (to, from) in to.iter_mut().zip(from.as_chunks().0) {
            *to = f16::from_le_bytes(*from).to_f32();
        }
        to
    }

    #[inline(always)]
    unsafe fn times_plus(mut self, b: Self, c: Self) -> Self {
        for l in 0..LANES {
            self[l] = self[l].mul_add(b[l], c[l]);
        }
        self
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        self.into_iter().sum()
    }

    #[inline(always)]
    unsafe fn lowest_bytes(self) -> [u8; LANES] {
        self.map(|x| x.to_bits() as u8)
    }
}

// SAFETY of every block below: the caller knows that the processor has the instruction set (`Isa::run`), and
// loads and stores are of the size of the arrays that they get.

#[cfg(target_arch = "x86_64")]
impl Integers for Avx2 {
    type Bytes = [__m256i; 2];
    type Ints = [__m256i; 2];
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
    unsafe fn dot<const WIDE: bool>(mut sum: Self::Ints, codes: Self::Bytes, x: [u8; 4]) -> Self::Ints {
        // SAFETY: see above.
        unsafe {
            let x = _mm256_set1_epi32(i32::from_le_bytes(x));
            for h in 0..2 {
                // Pairs of products in 16 bits: 2 · 127 · 127 fits. Codes of eight bits go as two halves of four.
                if WIDE {
                    let mask = _mm256_set1_epi8(15);
                    let low = _mm256_maddubs_epi16(_mm256_and_si256(codes[h], mask), x);
                    let high = _mm256_srli_epi16::<4>(codes[h]);
                    let high = _mm256_maddubs_epi16(_mm256_and_si256(high, mask), x);
                    let low = _mm256_madd_epi16(low, _mm256_set1_epi16(1));
                    let high = _mm256_madd_epi16(high, _mm256_set1_epi16(16));
                    sum[h] = _mm256_add_epi32(sum[h], _mm256_add_epi32(low, high));
                } else {
                    let pairs = _mm256_maddubs_epi16(codes[h], x);
                    sum[h] = _mm256_add_epi32(sum[h], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
                }
            }
        }
        sum
    }

    #[inline(always)]
    unsafe fn to_floats(i: Self::Ints) -> Self {
        // SAFETY: see above.
        unsafe { Self([_mm256_cvtepi32_ps(i[0]), _mm256_cvtepi32_ps(i[1])]) }
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
    unsafe fn total(self) -> f32 {
        // SAFETY: see above.
        unsafe {
            let sum = _mm256_add_ps(self.0[0], self.0[1]);
            let sum = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
            let sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
            _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)))
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

#[cfg(target_arch = "x86_64")]
impl Integers for Avx512 {
    type Bytes = __m512i;
    type Ints = __m512i;
    const ROWS: usize = 8;
    const TILES: bool = true;

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
    unsafe fn dot<const WIDE: bool>(sum: Self::Ints, codes: Self::Bytes, x: [u8; 4]) -> Self::Ints {
        // SAFETY: see above.
        unsafe { _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(i32::from_le_bytes(x))) }
    }

    #[inline(always)]
    unsafe fn to_floats(i: Self::Ints) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_cvtepi32_ps(i)) }
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
    unsafe fn total(self) -> f32 {
        // SAFETY: see above.
        unsafe { _mm512_reduce_add_ps(self.0) }
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
