//! A small model of the same vocabulary that guesses what a large one will say.
//!
//! Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", 2023; here a guess counts only if
//! the large model chooses the same token, so that the answer is the same, bit by bit, as without guesses.

use crate::kv::Cache;
use crate::load::{self, LoadProgress, Loaded, Options};
use crate::model::Runner;
use crate::sequence::Sequence;
use crate::{Error, Result, Tokenizer};
use coder_kernels::BLOCK;
use std::time::Instant;

/// A draft model and what it has read of each sequence.
pub(crate) struct DraftModel {
    runner: Box<dyn Runner>,
    cache: Cache,
    /// Rows of one step.
    chunk: usize,
    /// The sequence of its last guess, with the guessed tokens.
    sequence: Sequence,
    /// Seconds of a step of one row.
    seconds: f64,
}

impl DraftModel {
    /// Opens the draft model of `options`, if there is one, with the same context, cache type and device.
    ///
    /// # Errors
    /// Those of opening; [`Error::Request`] if its vocabulary is not `tokenizer`'s.
    pub(crate) fn open(
        options: &Options,
        tokenizer: &Tokenizer,
        context: usize,
        progress: impl FnMut(LoadProgress),
    ) -> Result<Option<Self>> {
        let Some(source) = &options.draft else { return Ok(None) };
        let mut own = Options { source: source.clone(), gpu_layers: None, draft: None, ..options.clone() };
        own.context = Some(context.min(own.source.weights()?.config().context));
        own.cache = None;
        let Loaded { runner, tokenizer: other, blocks, .. } = load::open(&own, 1, progress)?;
        let size = tokenizer.vocab_size();
        let differs = (0..size as u32).find(|&id| tokenizer.token_bytes(id) != other.token_bytes(id));
        if other.vocab_size() != size || differs.is_some() {
            let problem = match differs {
                Some(id) => {
                    format!("its token `{id}` is another one than the model's; use one of the same family")
                }
                None => format!(
                    "has `{}` tokens, the model `{size}`; use one of the same family",
                    other.vocab_size()
                ),
            };
            return Err(Error::Request { field: "draft", problem });
        }
        let cache = Cache::new(blocks);
        let sequence = Sequence::new(Vec::new());
        Ok(Some(Self { runner, cache, chunk: options.chunk, sequence, seconds: 0.0 }))
    }

    /// Seconds that one guessed token takes.
    pub(crate) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// What the draft model thinks follows; at most `most` tokens, fewer where it has no room.
    ///
    /// # Errors
    /// Those of the device.
    pub(crate) fn guess(&mut self, sequence: &Sequence, most: usize) -> Result<Vec<u32>> {
        let mut guesses = Vec::new();
        if most == 0 {
            return Ok(guesses);
        }
        self.follow(sequence.tokens());
        let known = self.sequence.tokens().len();
        while guesses.len() < most {
            let rows = self.sequence.pending().min(self.chunk);
            let end = self.sequence.computed() + rows;
            if !self.cache.reserve(&mut self.sequence, end) {
                break;
            }
            let began = Instant::now();
            let logits = self.runner.step(&self.sequence.batch(rows))?;
            let best = argmax(logits);
            // What was guessed is not worth being shared: only the text itself is marked as computed in the cache.
            match end <= known {
                true => self.cache.computed(&mut self.sequence, end),
                false => self.sequence.mark_computed(end),
            }
            if let Some(best) = best {
                guesses.push(best);
                self.sequence.push(best);
                if rows == 1 {
                    let seconds = began.elapsed().as_secs_f64();
                    self.seconds =
                        if self.seconds == 0.0 { seconds } else { 0.8 * self.seconds + 0.2 * seconds };
                }
            }
        }
        Ok(guesses)
    }

    /// Makes `tokens` the tokens of the draft model's sequence, and keeps what it has read of them.
    fn follow(&mut self, tokens: &[u32]) {
        let common = self.sequence.tokens().iter().zip(tokens).take_while(|(a, b)| a == b).count();
        // The logits of the last token are wanted, so it is computed again if need be; but not what others may read.
        let at = common.min(tokens.len() - 1);
        if at > 0 && at >= self.sequence.known * BLOCK {
            self.sequence.rewrite(at, &tokens[at..]);
        } else {
            self.cache.retire(&mut self.sequence);
            self.sequence = Sequence::new(tokens.to_vec());
            self.cache.admit(&mut self.sequence);
        }
    }
}

/// The most probable token, of equal ones the first; `None` without logits.
fn argmax(logits: &[f32]) -> Option<u32> {
    let best = |best: (usize, f32), (id, &x): (usize, &f32)| if x > best.1 { (id, x) } else { best };
    let (id, _) = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), best);
    (!logits.is_empty()).then_some(id as u32)
}
