//! Chooses the next token from the logits.
//!
//! Owns the options, the random numbers and the scratch arrays; it does not know what the tokens mean.
//!
//! The order of operations: mask → logit bias → penalties → temperature → top-k → top-p → min-p → draw.
//! The same seed, options, logits and history give the same token on every run and machine: the arithmetic is
//! plain IEEE 754 with a fixed order of summation, and uses no function of the platform's mathematical library.
//! Log-probabilities are the model's own: log-softmax of the logits before any of these operations, as in the
//! OpenAI API.

mod options;
mod random;

pub use options::SamplerOptions;

use self::random::Random;
use crate::{Error, Mask, Result};
use coder_kernels::choice::{self, exp};
use coder_kernels::{Choice, MAX_CANDIDATES, Pick};

/// Chooses tokens for one sequence.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplerOptions,
    random: Random,
    /// Logits after mask, bias and penalties; `[vocab]`.
    work: Vec<f32>,
    /// `exp((work - max) / temperature)`; `[vocab]`.
    weights: Vec<f32>,
    /// Ids that may still be drawn; room for `[vocab]`.
    ids: Vec<u32>,
    /// How often each token stands in the part of the history being counted; `[vocab]`, zero between uses.
    counts: Vec<u32>,
    /// The ids whose count is not zero.
    counted: Vec<u32>,
    /// Sums of [`choice::PIECE`] exponentials each; room for `[vocab]`.
    sums: Vec<f64>,
}

/// The tokens so far, for the penalties.
#[derive(Debug, Clone, Copy, Default)]
pub struct History<'a> {
    /// The prompt: only the repetition penalty looks at it.
    pub prompt: &'a [u32],
    /// The answer so far: all penalties look at it.
    pub generated: &'a [u32],
}

/// One chosen token.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// Its id.
    pub token: u32,
    /// Natural logarithm of its probability under the model.
    pub logprob: f32,
    /// The most probable tokens under the model with their log-probabilities, best first, if asked for.
    pub top: Vec<(u32, f32)>,
}

impl Sampler {
    /// A sampler for a vocabulary of `vocab` tokens. All memory of vocabulary size is allocated here.
    ///
    /// # Errors
    /// [`Error::Request`] for an option out of range.
    pub fn new(options: &SamplerOptions, vocab: usize) -> Result<Self> {
        options.validate(vocab)?;
        let (used, drawn) = (options.adjusts(), options.temperature > 0.0);
        let size = |wanted: bool| if wanted { vocab } else { 0 };
        Ok(Self {
            random: Random::new(options.seed),
            // A grammar may come with any options, and its mask is applied in `work`.
            work: vec![0.0; vocab],
            weights: vec![0.0; size(drawn)],
            ids: Vec::with_capacity(size(drawn)),
            counts: vec![0; size(used)],
            counted: Vec::new(),
            sums: Vec::with_capacity(vocab.div_ceil(choice::PIECE)),
            options: options.clone(),
        })
    }

    /// Chooses a token.
    ///
    /// `logits` is `[vocab]`; a token that `mask` does not allow is never chosen.
    ///
    /// # Errors
    /// [`Error::Logits`] when a logit is NaN or infinite (negative infinity is fine), when there are not `vocab` of
    /// them, or when no token remains.
    pub fn sample(&mut self, logits: &[f32], mask: Option<&Mask>, history: History<'_>) -> Result<Sampled> {
        let highest = check(logits, self.work.len())?;
        let token = if mask.is_none() && !self.options.adjusts() && self.options.temperature == 0.0 {
            logits.iter().position(|&x| x == highest).unwrap_or(0) as u32
        } else {
            self.adjust(logits, mask, history);
            let best = argmax(&self.work);
            if self.work[best as usize] == f32::NEG_INFINITY {
                return Err(Error::Logits("no token is both allowed and possible".to_owned()));
            }
            if self.options.temperature == 0.0 { best } else { self.draw(self.work[best as usize]) }
        };
        let log_sum = highest + choice::sum_of_exponentials(logits, highest, &mut self.sums).ln() as f32;
        Ok(Sampled {
            token,
            logprob: logits[token as usize] - log_sum,
            top: top(logits, self.options.logprobs.unwrap_or(0), log_sum),
        })
    }

    /// What it needs of a row of logits to choose as [`sample`](Self::sample) does; all of it where more is asked for
    /// than the best tokens say.
    pub(crate) fn pick<'m>(&self, mask: Option<&'m Mask>) -> Pick<'m> {
        let options = &self.options;
        let candidates = match (options.temperature > 0.0, options.top_k) {
            _ if options.adjusts() || options.logprobs.is_some_and(|n| n > 0) => 0,
            (false, _) => 1,
            // One more shows whether top-k leaves any out.
            (true, k) if (1..MAX_CANDIDATES).contains(&k) => k + 1,
            _ => 0,
        };
        Pick { mask: mask.map(Mask::words), candidates }
    }

    /// As [`sample`](Self::sample), of what [`pick`](Self::pick) wanted of the logits.
    ///
    /// # Errors
    /// [`Error::Logits`] if there is no candidate.
    pub(crate) fn sample_of(&mut self, choice: &Choice) -> Result<Sampled> {
        let candidates = choice.candidates();
        let Some(best) = candidates.first() else {
            return Err(Error::Logits("no token is both allowed and possible".to_owned()));
        };
        let token = if self.options.temperature == 0.0 { best.0 } else { self.draw_of(candidates) };
        let logit = candidates.iter().find(|candidate| candidate.0 == token).map_or(best.1, |found| found.1);
        Ok(Sampled { token, logprob: logit - choice.log_sum(), top: Vec::new() })
    }

    /// Mask, bias and penalties, from `logits` into `work`.
    fn adjust(&mut self, logits: &[f32], mask: Option<&Mask>, history: History<'_>) {
        self.work.copy_from_slice(logits);
        if let Some(mask) = mask {
            forbid(&mut self.work, mask);
        }
        for &(id, bias) in &self.options.logit_bias {
            self.work[id as usize] += bias;
        }
        let window = self.options.penalty_window.unwrap_or(usize::MAX);
        let generated = last(history.generated, window);
        let rate = self.options.repetition_penalty;
        if rate != 1.0 {
            self.count(last(history.prompt, window - generated.len()));
            self.count(generated);
            self.penalize(|x, _| if x > 0.0 { x / rate } else { x * rate });
        }
        let (presence, frequency) = (self.options.presence_penalty, self.options.frequency_penalty);
        if presence != 0.0 || frequency != 0.0 {
            self.count(generated);
            self.penalize(|x, count| x - count as f32 * frequency - presence);
        }
    }

    fn count(&mut self, tokens: &[u32]) {
        for &id in tokens {
            // An image's placeholder or another id outside of the vocabulary has no logit to change.
            if let Some(count) = self.counts.get_mut(id as usize) {
                if *count == 0 {
                    self.counted.push(id);
                }
                *count += 1;
            }
        }
    }

    /// Changes the logit of every counted token and forgets the counts.
    fn penalize(&mut self, change: impl Fn(f32, u32) -> f32) {
        for id in self.counted.drain(..) {
            let x = &mut self.work[id as usize];
            *x = change(*x, std::mem::take(&mut self.counts[id as usize]));
        }
    }

    /// Temperature, top-k and what follows. `highest` is the largest value in `work`, and finite.
    fn draw(&mut self, highest: f32) -> u32 {
        let Self { options, work, weights, ids, .. } = self;
        for (weight, &x) in weights.iter_mut().zip(work.iter()) {
            *weight = exp((x - highest) / options.temperature);
        }
        ids.clear();
        ids.extend((0..work.len() as u32).filter(|&id| weights[id as usize] > 0.0));
        if options.top_k > 0 && options.top_k < ids.len() {
            best_first(ids, options.top_k, work);
            ids.truncate(options.top_k);
        }
        self.draw_of_ids()
    }

    /// The same with the best tokens, and their logits, one more than top-k leaves if there are as many.
    fn draw_of(&mut self, candidates: &[(u32, f32)]) -> u32 {
        let Self { options, work, weights, ids, .. } = self;
        let highest = candidates[0].1;
        ids.clear();
        for &(id, x) in candidates {
            work[id as usize] = x;
            weights[id as usize] = exp((x - highest) / options.temperature);
            if weights[id as usize] > 0.0 {
                ids.push(id);
            }
        }
        if options.top_k < ids.len() {
            ids.truncate(options.top_k);
        } else {
            ids.sort_unstable();
        }
        self.draw_of_ids()
    }

    /// Top-p, min-p and the draw of what top-k left.
    fn draw_of_ids(&mut self) -> u32 {
        let Self { options, random, work, weights, ids, .. } = self;
        if options.top_p < 1.0 {
            nucleus(ids, options.top_p, work, weights);
        }
        // The most probable token weighs 1 and is never filtered out.
        ids.retain(|&id| weights[id as usize] >= options.min_p);

        let weight = |id: &u32| f64::from(weights[*id as usize]);
        let total: f64 = ids.iter().map(weight).sum();
        let point = random.unit() * total;
        let mut sum = 0.0;
        let drawn = ids.iter().find(|id| {
            sum += weight(id);
            sum > point
        });
        // `point` is below `total`, and rounding is the same in both sums, so the last token is only a formality.
        *drawn.or(ids.last()).unwrap_or(&0)
    }
}

/// The last `n` of `tokens`.
fn last(tokens: &[u32], n: usize) -> &[u32] {
    &tokens[tokens.len().saturating_sub(n)..]
}

/// The largest logit, if all of them can be used.
fn check(logits: &[f32], vocab: usize) -> Result<f32> {
    if logits.len() != vocab {
        return Err(Error::Logits(format!("expected `{vocab}` of them, got `{}`", logits.len())));
    }
    let Some(highest) = choice::highest(logits) else {
        let id = logits.iter().position(|x| x.is_nan() || *x == f32::INFINITY).unwrap_or(0);
        return Err(Error::Logits(format!("that of token `{id}` is `{}`", logits[id])));
    };
    if highest == f32::NEG_INFINITY {
        return Err(Error::Logits("every token is impossible".to_owned()));
    }
    Ok(highest)
}

/// The lowest id of the largest value. None is NaN; that they might be infinite is no matter.
fn argmax(x: &[f32]) -> u32 {
    // Sixteen maxima side by side, so that the loop is vectorised.
    let mut maxima = [f32::NEG_INFINITY; 16];
    for chunk in x.chunks(16) {
        for (max, &x) in maxima.iter_mut().zip(chunk) {
            *max = if x > *max { x } else { *max };
        }
    }
    let highest = maxima.into_iter().fold(f32::NEG_INFINITY, f32::max);
    x.iter().position(|&x| x == highest).unwrap_or(0) as u32
}

/// Makes impossible what `mask` does not allow, and what lies beyond its end.
fn forbid(work: &mut [f32], mask: &Mask) {
    for (i, chunk) in work.chunks_mut(32).enumerate() {
        match mask.words().get(i).copied().unwrap_or(0) {
            u32::MAX => {}
            0 => chunk.fill(f32::NEG_INFINITY),
            word => {
                for (bit, x) in chunk.iter_mut().enumerate() {
                    if word >> bit & 1 == 0 {
                        *x = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }
}

/// Moves the `n` ids with the largest logits to the front, sorted; of equal ones the lowest ids.
fn best_first(ids: &mut [u32], n: usize, logits: &[f32]) {
    let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if n < ids.len() {
        ids.select_nth_unstable_by(n, order);
    }
    let n = n.min(ids.len());
    ids[..n].sort_unstable_by(order);
}

/// Keeps the smallest set of most probable ids whose weights make up `top_p` of the total; at least one.
/// Sorts no more of them than it needs.
fn nucleus(ids: &mut Vec<u32>, top_p: f32, logits: &[f32], weights: &[f32]) {
    let weight = |id: &u32| f64::from(weights[*id as usize]);
    let wanted = f64::from(top_p) * ids.iter().map(weight).sum::<f64>();
    let mut n = 64;
    loop {
        best_first(ids, n, logits);
        let mut sum = 0.0;
        let reached = ids.iter().take(n).position(|id| {
            sum += weight(id);
            sum >= wanted
        });
        if let Some(last) = reached {
            return ids.truncate(last + 1);
        }
        if n >= ids.len() {
            return;
        }
        n *= 8;
    }
}

/// The `n` largest logits as log-probabilities, best first, of equal ones the lowest ids first.
fn top(logits: &[f32], n: usize, log_sum: f32) -> Vec<(u32, f32)> {
    if n == 0 {
        return Vec::new();
    }
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(n + 1);
    for (id, &x) in logits.iter().enumerate() {
        if best.len() == n && best.last().is_none_or(|worst| x <= worst.1) {
            continue;
        }
        let at = best.partition_point(|other| other.1 >= x);
        best.insert(at, (id as u32, x));
        best.truncate(n);
    }
    best.iter().map(|&(id, x)| (id, x - log_sum)).collect()
}

#[cfg(test)]
mod tests;
