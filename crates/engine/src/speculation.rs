//! Guessing the next tokens, so that one step can verify several of them.
//!
//! A guess never changes an answer: what is sampled from the logits behind a guessed token counts only if that token
//! is the one that was sampled before it. This module guesses from the text itself (prompt lookup: edits and answers
//! repeat their prompt; Saxena, "Prompt Lookup Decoding", 2023), and decides how many guesses are worth their rows.

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

/// Seconds of a step by its number of rows, as this device showed them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Costs {
    /// Mean rows and seconds of the steps with up to 2^i rows.
    seen: [Option<(f64, f64)>; 8],
}

/// A row beyond the first costs this part of it, until that is known.
const ROW: f64 = 0.1;

impl Costs {
    /// Notes what a step took.
    pub(crate) fn observe(&mut self, rows: usize, seconds: f64) {
        let bucket = rows.next_power_of_two().trailing_zeros() as usize;
        let Some(seen) = self.seen.get_mut(bucket) else { return };
        let (mean_rows, mean) = seen.unwrap_or((rows as f64, seconds));
        // One slow step, such as one that another program disturbed, should not decide for long.
        let seconds = seconds.min(2.0 * mean);
        *seen = Some((0.8 * mean_rows + 0.2 * rows as f64, 0.8 * mean + 0.2 * seconds));
    }

    /// What a step of so many rows is expected to take, in any unit: only ratios have a meaning while nothing is known.
    fn expected(&self, rows: usize) -> f64 {
        let rows = rows as f64;
        let mut below = None;
        for &(at, seconds) in self.seen.iter().flatten() {
            match below {
                _ if at <= rows => below = Some((at, seconds)),
                None => return seconds * (1.0 + ROW * (rows - 1.0)) / (1.0 + ROW * (at - 1.0)),
                Some((low, cheap)) => return cheap + (seconds - cheap).max(0.0) * (rows - low) / (at - low),
            }
        }
        match below {
            None => 1.0 + ROW * (rows - 1.0),
            Some((low, cheap)) => cheap * (1.0 + ROW * (rows - 1.0)) / (1.0 + ROW * (low - 1.0)),
        }
    }

    /// The seconds that a step of so many rows is expected to take; `None` while nothing is known.
    pub(crate) fn seconds(&self, rows: usize) -> Option<f64> {
        self.seen.iter().any(Option::is_some).then(|| self.expected(rows))
    }

    /// How many guesses, up to `most`, give most tokens per second beside `rows` others, of which `sure` give a token
    /// each. A guess is right with `probability` if those before it are, and costs `each` seconds to be made.
    pub(crate) fn best_depth(
        &self,
        (rows, sure): (usize, usize),
        most: usize,
        probability: f64,
        each: f64,
    ) -> usize {
        let (mut tokens, mut chance) = (sure as f64, 1.0);
        let (mut best, mut best_rate) = (0, sure as f64 / self.expected(rows));
        for depth in 1..=most.min(MOST) {
            chance *= probability;
            tokens += chance;
            let rate = tokens / (self.expected(rows + depth) + each * depth as f64);
            if rate > best_rate {
                (best, best_rate) = (depth, rate);
            }
        }
        best
    }

    /// How many answers are to have how many guesses each, so that most tokens per second come of it, beside `rows`
    /// others, of which `sure` give a token each; (0, 0) for none. Answer `i` has guesses that are right with
    /// `probabilities[i]`, the best first; all together may have `room` rows; a guess for each of `n` answers costs
    /// `each(n)` seconds to be made.
    pub(crate) fn best_common_depth(
        &self,
        (rows, sure): (usize, usize),
        room: usize,
        probabilities: impl Iterator<Item = f64>,
        each: impl Fn(usize) -> f64,
    ) -> (usize, usize) {
        let (mut best, mut best_rate) = ((0, 0), sure as f64 / self.expected(rows));
        // What guesses up to each depth are expected to give, of the answers so far.
        let mut gains = [0.0; MOST];
        for (answers, probability) in (1..).zip(probabilities) {
            let (mut chance, mut sum) = (1.0, 0.0);
            for gain in &mut gains {
                chance *= probability;
                sum += chance;
                *gain += sum;
            }
            let making = each(answers);
            for depth in 1..=MOST.min(room / answers) {
                let seconds = self.expected(rows + answers * depth) + making * depth as f64;
                let rate = (sure as f64 + gains[depth - 1]) / seconds;
                if rate > best_rate {
                    (best, best_rate) = ((answers, depth), rate);
                }
            }
        }
        best
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
    fn more_is_guessed_where_it_pays() {
        let mut costs = Costs::default();
        let depth = |costs: &Costs, probability| costs.best_depth((1, 1), MOST, probability, 0.0);
        assert!(depth(&costs, 0.99) >= 8);
        assert!(depth(&costs, 0.05) <= 1);
        // Rows that cost as much as a step of their own are worth nothing, free ones are always worth it.
        for rows in [1, 2, 4, 8, 16, 32] {
            costs.observe(rows, rows as f64);
        }
        assert_eq!(depth(&costs, 0.99), 0);
        let mut costs = Costs::default();
        for rows in [1, 2, 4, 8, 16, 32] {
            costs.observe(rows, 1.0);
        }
        assert_eq!(depth(&costs, 0.5), MOST);
        assert_eq!(costs.best_depth((1, 1), MOST, 0.5, 10.0), 0, "a guess that is dear to make");
    }

    #[test]
    fn several_answers_share_what_guesses_are_worth() {
        let depth = |costs: &Costs, probabilities: &[f64], each: f64| {
            let n = probabilities.len();
            costs.best_common_depth((n, n), 60, probabilities.iter().copied(), |n| each * n as f64)
        };
        let mut costs = Costs::default();
        for rows in [1, 2, 4, 8, 16, 32, 64] {
            costs.observe(rows, 1.0);
        }
        // Free rows: all guess, as deep as there is room. Dear guesses: none does.
        assert_eq!(depth(&costs, &[0.9; 4], 0.0), (4, 15));
        assert_eq!(depth(&costs, &[0.9; 4], 10.0), (0, 0));
        // The hopeless take the place of others.
        assert_eq!(depth(&costs, &[0.9, 0.9, 0.05], 0.05).0, 2);
        // One alone is what it is by the other way.
        for each in [0.0, 0.1, 0.3] {
            let alone = costs.best_depth((1, 1), MOST, 0.8, each);
            assert_eq!(depth(&costs, &[0.8], each), (usize::from(alone > 0), alone));
        }
        let mut costs = Costs::default();
        for rows in [1, 2, 4, 8, 16, 32, 64] {
            costs.observe(rows, rows as f64);
        }
        assert_eq!(depth(&costs, &[0.9; 4], 0.0), (0, 0), "rows that cost as much as a step");
        assert_eq!(costs.best_common_depth((0, 0), 64, [].into_iter(), |_| 0.0), (0, 0));
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
