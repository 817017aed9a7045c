//! Sixty-four small unsigned numbers against four signed ones, on every instruction set.
//!
//! A register of 64 bytes holds, for each of 16 outputs, the codes of four consecutive inputs: the operand of
//! AVX-512's `vpdpbusd`, and what the other instruction sets are made to look like. Sums of integers are
//! exact, and what follows them is rounded in one order, so all instruction sets give the same bits.

#[cfg(target_arch = "x86_64")]
mod x86;

use super::vector::{LANES, Lanes, Vector};
use half::f16;

/// Bytes of a register of codes: four for each lane.
pub(super) const BYTES: usize = 4 * LANES;

/// Bytes of a pair for each lane.
pub(super) const PAIRS: usize = 2 * LANES;

/// A float's bits without its sign.
const MAGNITUDE: u32 = 0x7FFF_FFFF;

/// Integer arithmetic beside the sixteen floats, and floats that are rounded once where `Vector` may round twice.
///
/// # Safety
/// As for [`Vector`]: only below [`Isa::run`](super::Isa::run), which knows the instruction set.
pub(super) trait Integers: Vector {
    /// 64 unsigned bytes.
    type Bytes: Copy;
    /// 16 signed 32-bit numbers.
    type Ints: Copy;
    /// Sums of products in 16 lanes, of inputs so few that they fit 16 bits, and as wide as suits the processor:
    /// where [`NARROW`](Self::NARROW), two of 16 bits in each lane, one of the first two of every four inputs and one of
    /// the others, elsewhere one of 32 bits.
    type Shorts: Copy;
    /// See [`Shorts`](Self::Shorts).
    const NARROW: bool = false;
    /// Whether products are summed run by run, because registers are too few for two at a time: these begin with an
    /// [`offset`](Self::offset).
    const APART: bool = false;
    /// Rows that are multiplied at a time: as many as registers allow, a power of two.
    const ROWS: usize;
    /// Whether registers suffice for two panels at a time (see [`packed_two`](super::panel::packed_two)).
    const TWO_PANELS: bool = false;
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
    /// `Σ codes[4·lane + i] · x[i]`. Codes are below 128.
    unsafe fn first_dot(codes: Self::Bytes, x: &[u8; 4]) -> Self::Shorts;
    /// `sum[lane] += Σ codes[4·lane + i] · x[i]`, likewise.
    unsafe fn dot(sum: Self::Shorts, codes: Self::Bytes, x: &[u8; 4]) -> Self::Shorts;
    /// `sum[lane] += Σ codes[4·lane + i] · x[i]`, and where [`NARROW`](Self::NARROW) 128 is taken off each code first.
    unsafe fn dot_wide(sum: Self::Ints, codes: Self::Bytes, x: &[u8; 4]) -> Self::Ints;
    /// The same sums; what they were made from is read by then, and what follows is read later.
    #[inline(always)]
    unsafe fn settled(sum: Self::Shorts) -> Self::Shorts {
        sum
    }
    /// What sums begin with that [`widened`](Self::widened) adds to `sum`.
    unsafe fn shorts(sum: Self::Ints) -> Self::Shorts;
    /// The sums, added to those that they began with.
    unsafe fn widened(sum: Self::Ints, shorts: Self::Shorts) -> Self::Ints;
    /// Where [`APART`](Self::APART), the word from which [`offset`](Self::offset) makes -32 times the sum of 16 codes that are two's complement.
    #[inline(always)]
    unsafe fn offset_word(_: &[u8; LANES], sum: i32) -> i32 {
        -32 * sum
    }
    /// Likewise, what the sums of 16 inputs begin with that have -32 >> `shift` times the sum of their codes added.
    #[inline(always)]
    unsafe fn offset(word: i32, shift: u32) -> Self::Shorts {
        // SAFETY: the caller knows the instruction set.
        unsafe { Self::shorts(Self::ints(word >> shift)) }
    }
    /// `sum[lane]` plus the sums times the lower half of their scale, or times the `upper` one.
    unsafe fn scaled(sum: Self::Ints, shorts: Self::Shorts, scales: Self::Ints, upper: bool) -> Self::Ints;
    /// As floats; exact below 2^24, elsewhere rounded to the nearest.
    unsafe fn to_floats(i: Self::Ints) -> Self;

    /// Two numbers of 16 bits in every lane: of `first` in the lower half, of `last` in the upper.
    unsafe fn pairs(first: Self::Ints, last: Self::Ints) -> Self::Ints;
    /// Both halves less those of `x << shift`, wrapping.
    unsafe fn less_raised(pairs: Self::Ints, x: i32, shift: u32) -> Self::Ints;
    /// The lower half of every pair twice, or the `upper` one.
    unsafe fn twice(pairs: Self::Ints, upper: bool) -> Self::Ints;
    /// `(x >> shift) & mask` in both halves; `mask` has no bit that comes from the other half.
    unsafe fn pair_fields(pairs: Self::Ints, shift: u32, mask: u16) -> Self::Ints;
    /// Pairs of unsigned bytes.
    unsafe fn pairs_of_u8(from: &[u8; PAIRS]) -> Self::Ints;
    /// Pairs of signed bytes.
    unsafe fn pairs_of_i8(from: &[u8; PAIRS]) -> Self::Ints;
    /// `sum[lane]` plus the products of both halves of `a` and `b`.
    unsafe fn dot_pairs(sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// To memory.
    unsafe fn store_ints(i: Self::Ints) -> [i32; LANES];

    /// Sixteen unsigned bytes as floats.
    unsafe fn from_u8(from: &[u8; LANES]) -> Self;
    /// Sixteen signed bytes as floats.
    unsafe fn from_i8(from: &[u8; LANES]) -> Self;
    /// Sixteen little-endian half-precision floats.
    unsafe fn from_f16(from: &[u8; 2 * LANES]) -> Self;
    /// `self · b + c`, rounded once on every instruction set.
    unsafe fn times_plus(self, b: Self, c: Self) -> Self;
    /// The sums of each one's lanes, which are whole numbers, and whose sums are exact in any order.
    unsafe fn totals(of: [Self; 4]) -> [f32; 4];
    /// The largest magnitude in each pair. Magnitudes compare as their bits do: what is not a number is the largest.
    unsafe fn magnitudes(of: [[Self; 2]; 4]) -> [f32; 4];
    /// The lowest byte of each lane's bits.
    unsafe fn lowest_bytes(self) -> [u8; LANES];
}

/// Sums of products as numbers of 32 bits.
macro_rules! shorts_of_32_bits {
    () => {
        type Shorts = Self::Ints;

        #[inline(always)]
        unsafe fn first_dot(codes: Self::Bytes, x: &[u8; 4]) -> Self::Shorts {
            // SAFETY: the caller knows the instruction set, here and below.
            unsafe { Self::dot_wide(Self::ints(0), codes, x) }
        }

        #[inline(always)]
        unsafe fn dot(sum: Self::Shorts, codes: Self::Bytes, x: &[u8; 4]) -> Self::Shorts {
            // SAFETY: see above.
            unsafe { Self::dot_wide(sum, codes, x) }
        }

        #[inline(always)]
        unsafe fn shorts(sum: Self::Ints) -> Self::Shorts {
            sum
        }

        #[inline(always)]
        unsafe fn widened(_: Self::Ints, shorts: Self::Shorts) -> Self::Ints {
            shorts
        }
    };
}
pub(super) use shorts_of_32_bits;

impl Integers for Lanes {
    type Bytes = [u8; BYTES];
    type Ints = [i32; LANES];
    const ROWS: usize = 1;
    shorts_of_32_bits!();

    #[inline(always)]
    unsafe fn scaled(sum: Self::Ints, shorts: Self::Shorts, scales: Self::Ints, upper: bool) -> Self::Ints {
        // SAFETY: plain arrays need no instruction set.
        unsafe {
            let none = Self::ints(0);
            let [first, last] = if upper { [none, shorts] } else { [shorts, none] };
            Self::dot_pairs(sum, Self::pairs(first, last), scales)
        }
    }

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
    unsafe fn dot_wide(mut sum: Self::Ints, codes: Self::Bytes, x: &[u8; 4]) -> Self::Ints {
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
    unsafe fn pairs(mut first: Self::Ints, last: Self::Ints) -> Self::Ints {
        for l in 0..LANES {
            first[l] = first[l] & 0xFFFF | last[l] << 16;
        }
        first
    }

    #[inline(always)]
    unsafe fn less_raised(pairs: Self::Ints, x: i32, shift: u32) -> Self::Ints {
        pairs.map(|pair| {
            let half = |at: u32| (pair >> at).wrapping_sub((x >> at) << shift) & 0xFFFF;
            half(0) | half(16) << 16
        })
    }

    #[inline(always)]
    unsafe fn twice(pairs: Self::Ints, upper: bool) -> Self::Ints {
        pairs.map(|x| if upper { x >> 16 & 0xFFFF | x & !0xFFFF } else { x & 0xFFFF | x << 16 })
    }

    #[inline(always)]
    unsafe fn pair_fields(pairs: Self::Ints, shift: u32, mask: u16) -> Self::Ints {
        pairs.map(|x| x >> shift & (i32::from(mask) << 16 | i32::from(mask)))
    }

    #[inline(always)]
    unsafe fn pairs_of_u8(from: &[u8; PAIRS]) -> Self::Ints {
        std::array::from_fn(|l| i32::from(from[2 * l]) | i32::from(from[2 * l + 1]) << 16)
    }

    #[inline(always)]
    unsafe fn pairs_of_i8(from: &[u8; PAIRS]) -> Self::Ints {
        std::array::from_fn(|l| {
            i32::from(from[2 * l] as i8) & 0xFFFF | i32::from(from[2 * l + 1] as i8) << 16
        })
    }

    #[inline(always)]
    unsafe fn dot_pairs(mut sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        for l in 0..LANES {
            let lower = i32::from(a[l] as i16) * i32::from(b[l] as i16);
            sum[l] = sum[l].wrapping_add(lower).wrapping_add((a[l] >> 16) * (b[l] >> 16));
        }
        sum
    }

    #[inline(always)]
    unsafe fn store_ints(i: Self::Ints) -> [i32; LANES] {
        i
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
    unsafe fn totals(of: [Self; 4]) -> [f32; 4] {
        of.map(|lanes| lanes.into_iter().sum())
    }

    #[inline(always)]
    unsafe fn magnitudes(of: [[Self; 2]; 4]) -> [f32; 4] {
        of.map(|pair| {
            let bits = pair.as_flattened().iter().map(|x| x.to_bits() & MAGNITUDE);
            f32::from_bits(bits.fold(0, u32::max))
        })
    }

    #[inline(always)]
    unsafe fn lowest_bytes(self) -> [u8; LANES] {
        self.map(|x| x.to_bits() as u8)
    }
}
