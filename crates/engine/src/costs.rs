//! What steps take on this device, and what is worth its rows because of it.

use crate::speculation::MOST;

/// Seconds of a step by its number of rows, as this device showed them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Costs {
    /// Mean rows and seconds of the steps with up to 2^i rows.
    seen: [Option<(f64, f64)>; 13],
}

/// A row beyond the first costs this part of it, until that is known.
const ROW: f64 = 0.1;

/// What the reading of prompts is cut into pieces for: seconds that a step should take at most, and the part of the most rows
/// a second that were seen which it goes at nevertheless.
struct Pieces {
    wait: f64,
    pace: f64,
}

/// Beside answers: ten tokens a second are more than one reads.
const BESIDE: Pieces = Pieces { wait: 0.1, pace: 0.5 };

/// While nobody writes: so that whoever comes or gives up is noticed soon.
const ALONE: Pieces = Pieces { wait: 0.5, pace: 0.9 };

/// Rows that kernels compute together; prompts are read so many at a time.
const TOGETHER: usize = 16;

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

    /// How many rows that read prompts, up to `most`, a step should have beside `writing` others.
    pub(crate) fn best_reading(&self, writing: usize, most: usize) -> usize {
        let Pieces { wait, pace } = if writing > 0 { BESIDE } else { ALONE };
        let rates = self.seen.iter().flatten().map(|(rows, seconds)| rows / seconds.max(f64::MIN_POSITIVE));
        let least = pace * rates.fold(0.0, f64::max);
        let mut best = TOGETHER.min(most);
        while best < most {
            let is_fast = (writing + best) as f64 >= least * self.expected(writing + best);
            let more = (best + TOGETHER).min(most);
            if is_fast && self.expected(writing + more) > wait {
                break;
            }
            best = more;
        }
        best
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
    fn prompts_are_read_in_pieces_that_can_be_waited_for() {
        let reading = |rate: fn(f64) -> f64, writing| {
            let mut costs = Costs::default();
            for rows in [1, 16, 64, 256, 512, 2048] {
                costs.observe(rows, rate(rows as f64));
            }
            costs.best_reading(writing, 2048)
        };
        // 2 ms, and 0.02 a row: all at once.
        assert_eq!(reading(|rows| 2e-3 + 2e-5 * rows, 4), 2048);
        // 2.5 ms a row: as many as a tenth of a second allows, or half a second if nobody writes.
        assert_eq!(reading(|rows| 2.5e-3 * rows, 4), 32);
        assert_eq!(reading(|rows| 2.5e-3 * rows, 16), 16);
        assert_eq!(reading(|rows| 2.5e-3 * rows, 0), 192);
        // 20 ms a row: less than is computed together would not be read faster.
        assert_eq!(reading(|rows| 2e-2 * rows, 4), 16);
        // 0.4 s, and 1 ms a row: too long in any case, so enough that half of the rate is kept.
        assert_eq!(reading(|rows| 0.4 + 1e-3 * rows, 4), 288);
        assert_eq!(reading(|rows| 0.4 + 1e-3 * rows, 0), 1232);
        assert_eq!(Costs::default().best_reading(1, 512), 16, "nothing is known");
        assert_eq!(Costs::default().best_reading(1, 3), 3);
    }
}
