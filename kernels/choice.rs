//! What a row of logits comes down to: so much of it that a sampler finds in it what it would find in all of the row.
//!
//! This module owns the definition, which every device keeps to the bit. It draws nothing and knows no options.

use crate::Result;
use crate::error::{below, equal};
use rayon::prelude::*;

/// Candidates of a row, at most.
pub const MAX_CANDIDATES: usize = 128;

/// What is wanted of one row of logits, `[vocab]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pick<'a> {
    /// Bit `id % 32` of word `id / 32` says whether token `id` may be chosen; those beyond the last word may not.
    /// `None` allows all.
    pub mask: Option<&'a [u32]>,
    /// The most candidates there shall be, up to [`MAX_CANDIDATES`]; 0 if all of the row is wanted.
    pub candidates: usize,
}

/// What a row of logits comes down to.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The largest logit, whatever is allowed.
    highest: f32,
    /// `Σ exp(x - highest)` over all of the row.
    sum: f64,
    candidates: Vec<(u32, f32)>,
    /// Sums of [`PIECE`] exponentials each.
    pieces: Vec<f64>,
}

impl Choice {
    /// With memory for rows of `vocab` logits.
    pub fn new(vocab: usize) -> Self {
        let pieces = Vec::with_capacity(vocab.div_ceil(PIECE));
        Self { candidates: Vec::with_capacity(MAX_CANDIDATES), pieces, ..Self::default() }
    }

    /// The best tokens that are allowed and not impossible, with their logits, best first: in the total order of
    /// IEEE 754, of equal ones the lowest id first.
    pub fn candidates(&self) -> &[(u32, f32)] {
        &self.candidates
    }

    /// Whether it says all that can be said without the row: not where a logit is NaN or infinite, where no token
    /// remains, nor where the best logit is zero, of which there are two that some take for one.
    pub fn is_clear(&self) -> bool {
        self.candidates.first().is_some_and(|best| best.1 != 0.0)
    }

    /// The logarithm of the sum of all logits' exponentials.
    pub fn log_sum(&self) -> f32 {
        self.highest + self.sum.ln() as f32
    }

    /// Says nothing.
    pub fn clear(&mut self) {
        self.candidates.clear();
        (self.highest, self.sum) = (0.0, 0.0);
    }

    /// What a device found: sums of its pieces in their order, and candidates as [`rank`]s.
    pub(crate) fn set(
        &mut self,
        highest: f32,
        pieces: impl Iterator<Item = f64>,
        ranks: impl Iterator<Item = u64>,
    ) {
        self.clear();
        if highest.is_finite() {
            (self.highest, self.sum) = (highest, pieces.sum());
            self.candidates.extend(ranks.take_while(|&rank| rank > 0).map(unranked));
        }
    }

    /// The definition: what `pick` wants of `logits`.
    pub fn of(&mut self, logits: &[f32], pick: &Pick<'_>) {
        let highest = highest(logits).unwrap_or(f32::INFINITY);
        self.clear();
        if pick.candidates == 0 || !highest.is_finite() {
            return;
        }
        (self.highest, self.sum) = (highest, sum_of_exponentials(logits, highest, &mut self.pieces));
        let allows = |id: usize| {
            pick.mask.is_none_or(|words| words.get(id / 32).is_some_and(|word| word >> (id % 32) & 1 == 1))
        };
        let possible = logits.iter().enumerate().filter(|&(id, &x)| x > f32::NEG_INFINITY && allows(id));
        let mut ranks: Vec<u64> = possible.map(|(id, &x)| rank(x, id as u32)).collect();
        let best_first = |a: &u64, b: &u64| b.cmp(a);
        if pick.candidates < ranks.len() {
            ranks.select_nth_unstable_by(pick.candidates, best_first);
            ranks.truncate(pick.candidates);
        }
        ranks.sort_unstable_by(best_first);
        self.candidates.extend(ranks.into_iter().map(unranked));
    }
}

/// What `picks` want of `rows`, one of them for each choice.
pub(crate) fn of_rows<'p>(
    choices: &mut [Choice],
    rows: &[f32],
    picks: &mut dyn Iterator<Item = Pick<'p>>,
) -> Result<()> {
    let vocab = rows.len().checked_div(choices.len()).unwrap_or(0).max(1);
    let mut picked = 0;
    for ((choice, row), pick) in choices.iter_mut().zip(rows.chunks_exact(vocab)).zip(picks) {
        below("candidates", pick.candidates, MAX_CANDIDATES + 1)?;
        choice.of(row, &pick);
        picked += 1;
    }
    equal("picks of rows", picked, choices.len())
}

/// A logit and its token as one number, never 0, which is larger the better they are.
fn rank(logit: f32, id: u32) -> u64 {
    let bits = logit.to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ordered) << 32 | u64::from(!id)
}

/// The inverse of [`rank`].
fn unranked(rank: u64) -> (u32, f32) {
    let ordered = (rank >> 32) as u32;
    let bits = if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered };
    (!(rank as u32), f32::from_bits(bits))
}

/// The largest logit; `None` where one is NaN or infinite (negative infinity is fine).
pub fn highest(logits: &[f32]) -> Option<f32> {
    // No early exit and sixteen maxima side by side, so that the loop is vectorised. NaN is not below infinity either.
    let (mut maxima, mut unusable) = ([f32::NEG_INFINITY; 16], [0u32; 16]);
    for chunk in logits.chunks(16) {
        for ((max, bad), &x) in maxima.iter_mut().zip(&mut unusable).zip(chunk) {
            *max = if x > *max { x } else { *max };
            *bad |= if x < f32::INFINITY { 0 } else { 1 };
        }
    }
    (unusable == [0; 16]).then(|| maxima.into_iter().fold(f32::NEG_INFINITY, f32::max))
}

/// Sums side by side, so that a loop is vectorised without changing the order of additions.
const LANES: usize = 16;
/// Exponentials of a sum of sums: so few to a lane that single precision is enough.
pub const PIECE: usize = 32 * LANES;
/// Pieces that are worth a thread's while.
const SHARE: usize = 32;

/// `Σ exp(x - highest)`, pieces on all threads and their `sums` in order: a card waits for it between two tokens.
pub fn sum_of_exponentials(x: &[f32], highest: f32, sums: &mut Vec<f64>) -> f64 {
    let sum_of = |piece: &[f32]| {
        let mut sums = [0.0f32; LANES];
        let chunks = piece.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (sum, &x) in sums.iter_mut().zip(chunk) {
                *sum += exp(x - highest);
            }
        }
        sums.into_iter().chain(rest.iter().map(|&x| exp(x - highest))).map(f64::from).sum::<f64>()
    };
    x.par_chunks(PIECE).with_min_len(SHARE).map(sum_of).collect_into_vec(sums);
    sums.iter().sum()
}

/// `e^x` for `x ≤ 0`, to 2 units in the last place; 0 where the result would be subnormal.
///
/// The range reduction and polynomial of the Cephes library's `expf` (S. Moshier): `x = n ln 2 + r`, then
/// `2^n (1 + r + r² p(r))`.
#[inline] // loops over rows are vectorised with it
pub fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 · 2^23 rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.max(-87.0);
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = clamped - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    // The whole number stands in the low bits of what was rounded.
    let power = f32::from_bits(rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { (p * r * r + r + 1.0) * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_accurate() {
        for i in 0..=870_000 {
            let x = -(i as f32) * 1e-4;
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours - exact).abs() <= exact * 2.4e-7, "{x}: {ours} {exact}");
        }
        assert_eq!((exp(0.0), exp(-88.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn ranks_are_the_total_order_and_back() {
        let values = [f32::MIN, -1.5, -f32::MIN_POSITIVE, -0.0, 0.0, 1e-40, 1.0, f32::MAX];
        for pair in values.windows(2) {
            assert!(0 < rank(pair[0], 0) && rank(pair[0], 0) < rank(pair[1], 7), "{pair:?}");
            assert!(rank(pair[0], 8) < rank(pair[0], 7));
        }
        for x in values {
            let (id, back) = unranked(rank(x, 151_935));
            assert_eq!((id, back.to_bits()), (151_935, x.to_bits()));
        }
    }

    #[test]
    fn what_a_row_comes_down_to() {
        let logits = [1.0, 3.0, f32::NEG_INFINITY, 3.0, 2.0];
        let mut choice = Choice::new(5);
        let mut of = |logits: &[f32], mask: Option<&[u32]>, candidates| {
            choice.of(logits, &Pick { mask, candidates });
            (choice.candidates().to_vec(), choice.is_clear())
        };
        assert_eq!(of(&logits, None, 1), (vec![(1, 3.0)], true));
        assert_eq!(of(&logits, None, 9).0, [(1, 3.0), (3, 3.0), (4, 2.0), (0, 1.0)]);
        assert_eq!(of(&logits, Some(&[0b10101]), 2).0, [(4, 2.0), (0, 1.0)]);
        for (logits, mask, candidates) in [
            (logits, None, 0),
            (logits, Some(&[0b100][..]), 1),
            (logits, Some(&[]), 1),
            ([1.0, f32::NAN, 0.0, 0.0, 0.0], None, 1),
            ([f32::NEG_INFINITY; 5], None, 1),
            ([f32::INFINITY; 5], None, 1),
            ([-1.0, -0.0, 0.0, -1.0, -1.0], None, 1),
        ] {
            assert!(!of(&logits, mask, candidates).1, "{logits:?} {mask:?} {candidates}");
        }
        choice.of(&logits, &Pick { mask: None, candidates: 1 });
        let exact = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        assert!((f64::from(choice.log_sum()) - exact).abs() < 1e-6);
    }
}
