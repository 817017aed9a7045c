//! A hundred and twenty-eight inputs share a scale, so that all that weights with integer scales do with them is done
//! with integers: their largest magnitude over 127.49, or more where the codes would be too large together.

// Registers are numbered: an iterator over them is not inlined for certain, and then they are in memory.
#![allow(clippy::needless_range_loop)]

use super::{Activations, Quantized, ROUND, RUN, Record, Rounded, TOGETHER, Unit, WORDS, halves};
use crate::cpu::integers::Integers;
use crate::cpu::vector::LANES;

/// For weights whose scales are integers of at most eight bits, under a float for each 256. Beside the codes stand, in
/// this order, those that most types read first: the scale; for each 64 the sums of the first 32 and of the last 32, in
/// two halves of a word; where products begin with it, -32 times the sum of each 16 codes, as [`Integers::offset`] takes
/// it; for each 32 the sums of the first 16 and of the last 16; and a word that nobody reads, so that whole tiles are
/// whole cache lines.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cpu) struct Wide;

/// Where the arrays of words begin.
const SUMS_OF_32: usize = 1;
pub(in crate::cpu) const OFFSETS: usize = SUMS_OF_32 + TOGETHER / 2;
pub(in crate::cpu) const SUMS_OF_16: usize = OFFSETS + 2 * TOGETHER;

/// The magnitudes of 16 codes sum to this at most: times weights' codes of up to five bits without a sign, or of six
/// with one, the products of 16 inputs then fit 16 bits. Only inputs of nearly the same magnitude come near: of 16
/// that are normally distributed, among 128, hardly ever any.
pub(in crate::cpu) const SUM_OF_16: i32 = 1023;

/// What the largest magnitude is scaled to: as much as rounds to 127, the largest code.
const LARGEST: f32 = 127.49;

/// What two sums of 16 codes are apart in one number: more than twice the largest of them.
const APART: i32 = 8192;

impl Unit for Wide {
    const INPUTS: usize = TOGETHER * RUN;
    const WORDS: usize = SUMS_OF_16 + TOGETHER + 1;

    fn of(all: &Activations) -> &Quantized<Self> {
        &all.wide
    }

    #[inline(always)]
    unsafe fn round<V: Integers>(x: &[[f32; RUN]; TOGETHER]) -> Rounded {
        // SAFETY: the caller knows the instruction set.
        unsafe {
            let mut inputs = [[V::zero(); 2]; TOGETHER];
            for i in 0..TOGETHER {
                inputs[i] = halves(&x[i]);
            }
            // Magnitudes compare as their bits do: what is not a number is the largest.
            let most = V::magnitudes(inputs).into_iter().fold(0, |most, x| x.to_bits().max(most));
            let mut scale = f32::from_bits(most) / LARGEST;
            let mut codes = Codes::new(inputs, scale);
            let most = codes.magnitudes.into_iter().fold(0, i32::max);
            if most > SUM_OF_16 {
                // Rounding added at most half for each code, and may again.
                let rounding = LANES as i32 / 2;
                scale *= (most + rounding) as f32 / (SUM_OF_16 - rounding) as f32;
                codes = Codes::new(inputs, scale);
            }
            Rounded { codes: codes.codes, words: words::<V>(scale, &codes) }
        }
    }
}

/// The codes of four runs.
struct Codes {
    codes: [[[u8; LANES]; 2]; TOGETHER],
    /// The sums of each 16, and the sums of their magnitudes.
    sums: [i32; 2 * TOGETHER],
    magnitudes: [i32; 2 * TOGETHER],
}

impl Codes {
    /// # Safety
    /// As for [`Integers`].
    #[inline(always)]
    unsafe fn new<V: Integers>(inputs: [[V; 2]; TOGETHER], scale: f32) -> Self {
        // Scales whose inverse is no number are of inputs that are next to nothing.
        let inverse = if scale < f32::MIN_POSITIVE { 0.0 } else { 1.0 / scale };
        // SAFETY: the caller knows the instruction set.
        unsafe {
            let (round, inverse, apart) = (V::splat(ROUND), V::splat(inverse), V::splat(APART as f32));
            let (mut sums, mut magnitudes) = ([V::zero(); TOGETHER], [V::zero(); TOGETHER]);
            let mut codes = [[[0; LANES]; 2]; TOGETHER];
            for i in 0..TOGETHER {
                let [first, last] = inputs[i];
                let (first, last) = (first.mul(inverse).add(round), last.mul(inverse).add(round));
                codes[i] = [first.lowest_bytes(), last.lowest_bytes()];
                let (first, last) = (first.sub(round), last.sub(round));
                sums[i] = last.times_plus(apart, first);
                let (first, last) = (first.max(V::zero().sub(first)), last.max(V::zero().sub(last)));
                magnitudes[i] = last.times_plus(apart, first);
            }
            Self { codes, sums: apart_again(V::totals(sums)), magnitudes: apart_again(V::totals(magnitudes)) }
        }
    }
}

/// The two sums in each number, one behind the other. What is not a number has codes of zero.
#[inline(always)]
fn apart_again(both: [f32; TOGETHER]) -> [i32; 2 * TOGETHER] {
    // In two steps, each for all four.
    let both = both.map(|x| {
        // SAFETY: so small a number is one of 32 bits.
        if x.abs() < (1 << 30) as f32 { unsafe { x.to_int_unchecked::<i32>() } } else { 0 }
    });
    let last = both.map(|x| (x + APART / 2) >> APART.ilog2());
    let mut sums = [0; 2 * TOGETHER];
    for i in 0..TOGETHER {
        sums[2 * i] = both[i] - last[i] * APART;
        sums[2 * i + 1] = last[i];
    }
    sums
}

/// # Safety
/// As for [`Integers`].
#[inline(always)]
unsafe fn words<V: Integers>(scale: f32, Codes { codes, sums, .. }: &Codes) -> [[u8; 4]; WORDS] {
    let pair = |[first, last]: [i32; 2]| (first & 0xFFFF | last << 16).to_le_bytes();
    let mut words = [[0; 4]; WORDS];
    words[0] = scale.to_le_bytes();
    if V::APART {
        for i in 0..2 * TOGETHER {
            // SAFETY: the caller knows the instruction set.
            words[OFFSETS + i] = unsafe { V::offset_word(&codes[i / 2][i % 2], sums[i]) }.to_le_bytes();
        }
    }
    let pairs = sums.as_chunks().0;
    for i in 0..TOGETHER {
        words[SUMS_OF_16 + i] = pair(pairs[i]);
    }
    for (i, [a, b]) in pairs.as_chunks().0.iter().enumerate() {
        words[SUMS_OF_32 + i] = pair([a[0] + a[1], b[0] + b[1]]);
    }
    words
}

impl Record<'_, Wide> {
    /// The word of [`Integers::offset`] for codes `16 · half` and following of row `r`.
    ///
    /// # Safety
    /// See [`quad`](Self::quad); there is such a half, here and below.
    #[inline(always)]
    pub(in crate::cpu) unsafe fn offset(&self, half: usize, r: usize) -> i32 {
        // SAFETY: the caller's promise.
        i32::from_le_bytes(unsafe { self.word(OFFSETS + half, r) })
    }

    /// The sums of the two 16 codes of run `run` of row `r`, in two halves of a number.
    ///
    /// # Safety
    /// See [`offset`](Self::offset).
    #[inline(always)]
    pub(in crate::cpu) unsafe fn sums_of_16(&self, run: usize, r: usize) -> i32 {
        // SAFETY: the caller's promise.
        i32::from_le_bytes(unsafe { self.word(SUMS_OF_16 + run, r) })
    }

    /// The sums of runs `2 · pair` and `2 · pair + 1` of row `r`, likewise.
    ///
    /// # Safety
    /// See [`offset`](Self::offset).
    #[inline(always)]
    pub(in crate::cpu) unsafe fn sums_of_32(&self, pair: usize, r: usize) -> i32 {
        // SAFETY: the caller's promise.
        i32::from_le_bytes(unsafe { self.word(SUMS_OF_32 + pair, r) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::vector::Lanes;

    #[test]
    fn sums_of_codes_are_bounded_and_true() {
        let mut bits = 1u32;
        for most in [0.0, 1e-38, 1e-3, 1.0, 3e38] {
            for flat in [0.0, 0.3, 0.9, 1.0] {
                let x: [[f32; RUN]; TOGETHER] = std::array::from_fn(|_| {
                    std::array::from_fn(|_| {
                        bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        let magnitude = flat + (1.0 - flat) * (bits >> 9) as f32 / (1 << 23) as f32;
                        if bits & 256 == 0 { most * magnitude } else { -most * magnitude }
                    })
                });
                // SAFETY: plain arrays need no instruction set.
                let rounded = unsafe { Wide::round::<Lanes>(&x) };
                let scale = f32::from_le_bytes(rounded.words[0]);
                for (i, (codes, x)) in
                    rounded.codes.as_flattened().iter().zip(x.as_flattened().as_chunks::<16>().0).enumerate()
                {
                    let codes = codes.map(|code| i32::from(code as i8));
                    assert!(codes.iter().map(|code| code.abs()).sum::<i32>() <= SUM_OF_16);
                    let sum: i32 = codes.iter().sum();
                    let [first, last] = *rounded.words[SUMS_OF_16 + i / 2].as_chunks::<2>().0 else {
                        unreachable!("a word is two halves")
                    };
                    assert_eq!(i32::from(i16::from_le_bytes(if i % 2 == 0 { first } else { last })), sum);
                    for (code, x) in codes.iter().zip(x) {
                        let error = f64::from(*code) * f64::from(scale) - f64::from(*x);
                        assert!(error.abs() <= 0.501 * f64::from(scale).max(2e-38), "{code} {scale} {x}");
                    }
                }
            }
        }
    }
}
