//! Guessing the next tokens, so that one step can verify several of them.
//!
//! A guess never changes an answer: what is sampled from the logits behind a guessed token counts only if that token
//! is the one that was sampled before it. This module guesses from the text itself (prompt lookup: edits and answers
//! repeat their prompt; Saxena, "Prompt Lookup Decoding", 2023), and notes how often guesses are right; how many of them are
//! worth their rows is `costs.rs`'s.

use std::collections::HashMap;

/// Guessed tokens in one step, at most.
pub(crate) const MOST: usize = 31;

/// The tokens that must agree before a continuation is guessed.
const GRAM: usize = 3;

/// Earlier places that are compared.
const PLACES: usize = 256;

/// Where every few tokens in a row stood before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookup {
    /// The last position behind these tokens.
    last: HashMap<[u32; GRAM], u32>,
    /// Of each position, the one before it behind the same tokens, plus one; 0 if there is none.
    before: Vec<u32>,
    /// The position that the last guess went on from, and the length of the text then.
    from: Option<(usize, usize)>,
}

/// What may come next.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Guess<'a> {
    /// The tokens.
    pub(crate) tokens: &'a [u32],
    /// How many tokens before them agree: the more, the more likely they are right.
    pub(crate) agreed: usize,
}

impl Lookup {
    /// What followed where `tokens` last stood like now; at most `most` tokens. `tokens` only ever grows.
    pub(crate) fn guess<'a>(&mut self, tokens: &'a [u32], most: usize) -> Guess<'a> {
        let len = tokens.len();
        if len < GRAM || most == 0 {
            return Guess::default();
        }
        self.index(tokens);
        // Where the last guess would be by now if the text went on beside it, changed or not.
        let expected = self.from.map_or(len, |(from, then)| from + (len - then));
        // Right behind a change, too few tokens agree for any other place.
        let beside = Some(expected).filter(|&at| at < len).map(|at| (agreement(tokens, at), 0, at));
        // Agreement, distance from the expected place, place.
        let mut best: Option<(usize, usize, usize)> = beside.filter(|&(agreed, ..)| agreed > 0);
        let mut place = self.before[len] as usize;
        for _ in 0..PLACES {
            let Some(at) = place.checked_sub(1) else { break };
            let agreed = agreement(tokens, at);
            let distance = at.abs_diff(expected);
            if best.is_none_or(|(most, least, _)| (agreed, least) > (most, distance)) {
                best = Some((agreed, distance, at));
            }
            place = self.before[at] as usize;
        }
        let Some((agreed, _, at)) = best else { return Guess::default() };
        self.from = Some((at, len));
        Guess { tokens: &tokens[at..(at + most).min(len)], agreed }
    }

    fn index(&mut self, tokens: &[u32]) {
        for end in self.before.len()..=tokens.len() {
            let gram = end.checked_sub(GRAM).and_then(|first| tokens[first..end].try_into().ok());
            let before = gram.and_then(|gram| self.last.insert(gram, end as u32));
            self.before.push(before.map_or(0, |before| before + 1));
        }
    }
}

/// How many tokens before `at` are those at the end, up to the length from which on a guess is as sure as it gets.
fn agreement(tokens: &[u32], at: usize) -> usize {
    let (here, there) = (tokens.iter().rev(), tokens[..at].iter().rev());
    here.zip(there).take(2 * MOST).take_while(|(a, b)| a == b).count()
}

/// How often guesses turned out right, the latest ones counting most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acceptance {
    right: f64,
    judged: f64,
    belief: f64,
}

/// What is believed before anything was judged, as if it were this many guesses.
const PRIOR: f64 = 2.0;

/// What the past counts after every step.
const DECAY: f64 = 0.7;

impl Acceptance {
    /// Nothing was judged yet; guesses are believed to be right with this probability.
    pub(crate) fn new(belief: f64) -> Self {
        Self { right: PRIOR * belief, judged: PRIOR, belief }
    }

    /// Of `guessed` tokens in a row the first `right` were right.
    pub(crate) fn judge(&mut self, guessed: usize, right: usize) {
        let judged = right + usize::from(right < guessed);
        self.right = DECAY * self.right + right as f64;
        self.judged = DECAY * self.judged + judged as f64;
    }

    /// Comes a little nearer to what was believed at first, so that what was given up is tried again.
    pub(crate) fn forget_a_little(&mut self) {
        const PART: f64 = 0.05;
        self.right += PART * (PRIOR * self.belief - self.right);
        self.judged += PART * (PRIOR - self.judged);
    }

    /// The probability that a guess is right if those before it are.
    pub(crate) fn probability(self) -> f64 {
        (self.right / self.judged.max(f64::MIN_POSITIVE)).clamp(0.05, 0.99)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(tokens: &[u32], most: usize) -> Guess<'_> {
        Lookup::default().guess(tokens, most)
    }

    #[test]
    fn what_followed_before_may_follow_again() {
        assert_eq!(guess(&[1, 2, 3, 4, 5, 1, 2, 3], 2), Guess { tokens: &[4, 5], agreed: 3 });
        assert_eq!(guess(&[1, 2, 3, 4, 5, 1, 2, 9], 2), Guess::default());
        assert_eq!(guess(&[1, 2], 2), Guess::default());
        assert_eq!(guess(&[], 2), Guess::default());
        assert_eq!(guess(&[1, 2, 3, 4, 1, 2, 3], 0), Guess::default());
        // The longest agreement counts, not the latest place; of equals, the latest.
        assert_eq!(guess(&[8, 1, 2, 3, 4, 9, 1, 2, 3, 5, 8, 1, 2, 3], 1).tokens, [4]);
        assert_eq!(guess(&[8, 1, 2, 3, 4, 9, 1, 2, 3, 5, 7, 1, 2, 3], 1).tokens, [5]);
        // A text that repeats itself overlaps what it is guessed from.
        assert_eq!(guess(&[1, 1, 1, 1], 9).tokens, [1]);
    }

    #[test]
    fn a_copy_is_followed_past_a_change() {
        // Lines that look alike, each with its number in the middle.
        let line = |number| [10, 11, 12, number, 13, 14, 15];
        let file: Vec<u32> = (100..140).flat_map(line).collect();
        let mut text = file.clone();
        text.push(0);
        let mut lookup = Lookup::default();
        let (mut steps, mut wrong) = (0, 0);
        let answer: Vec<u32> = (100..140).flat_map(|n| line(if n == 120 { 999 } else { n })).collect();
        let mut written = 0;
        while written < answer.len() {
            let guess = lookup.guess(&text, 16);
            let right = guess.tokens.iter().zip(&answer[written..]).take_while(|(a, b)| a == b).count();
            let guessed = guess.tokens.len();
            let new = (right + 1).min(answer.len() - written);
            text.extend(&answer[written..written + new]);
            written += new;
            steps += 1;
            wrong += usize::from(right < guessed);
        }
        assert!(steps <= 26, "{steps} steps for {} tokens", answer.len());
        assert!(wrong <= 3, "{wrong} wrong guesses");
    }

    #[test]
    fn acceptance_follows_what_happens() {
        let mut acceptance = Acceptance::new(0.5);
        assert!((acceptance.probability() - 0.5).abs() < 1e-9);
        (0..5).for_each(|_| acceptance.judge(8, 8));
        assert!(acceptance.probability() > 0.9);
        (0..10).for_each(|_| acceptance.judge(8, 0));
        assert!(acceptance.probability() < 0.3);
        (0..1000).for_each(|_| acceptance.judge(0, 0));
        assert!(acceptance.probability().is_finite());
        (0..100).for_each(|_| acceptance.judge(8, 0));
        assert!(acceptance.probability() < 0.1);
        (0..100).for_each(|_| acceptance.forget_a_little());
        assert!(acceptance.probability() > 0.4);
    }
}
