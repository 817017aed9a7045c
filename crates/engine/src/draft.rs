//! A small model of the same vocabulary that guesses what a large one will say.
//!
//! Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", 2023; here a guess counts only if
//! the large model chooses the same token, so that the answer is the same, bit by bit, as without guesses.

use crate::load::{self, LoadProgress, Loaded, Options};
use crate::model::Runner;
use crate::sequence::Sequence;
use crate::{Error, Result, Tokenizer};
use coder_kernels::BLOCK;
use std::time::Instant;

/// A draft model and the text that it has read.
pub(crate) struct DraftModel {
    runner: Box<dyn Runner>,
    /// Rows of one step.
    chunk: usize,
    /// Tokens that both vocabularies have.
    vocab: usize,
    /// The text of its last guess, with the guessed tokens; every block is its own.
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
        let Loaded { runner, tokenizer: other, blocks, info, .. } = load::open(&own, 1, progress)?;
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
        let mut sequence = Sequence::new(Vec::new());
        (0..blocks as u32).for_each(|block| sequence.push_block(block));
        let chunk = options.chunk.min(info.context);
        Ok(Some(Self { runner, chunk, vocab: size, sequence, seconds: 0.0 }))
    }

    /// Seconds that one guessed token takes.
    pub(crate) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// What the draft model thinks follows `tokens`; at most `most` tokens, fewer where it has no room.
    ///
    /// # Errors
    /// Those of the device.
    pub(crate) fn guess(&mut self, tokens: &[u32], most: usize) -> Result<Vec<u32>> {
        let room = self.sequence.blocks().len() * BLOCK;
        let most = most.min(room.saturating_sub(tokens.len()));
        let common = self.sequence.tokens().iter().zip(tokens).take_while(|(a, b)| a == b).count();
        if most == 0 || tokens[common..].iter().any(|&token| token as usize >= self.vocab) {
            return Ok(Vec::new());
        }
        // The logits of the last token are wanted, so it is computed again if need be.
        let at = common.min(tokens.len() - 1);
        self.sequence.rewrite(at, &tokens[at..]);
        let mut guesses = Vec::new();
        while guesses.len() < most {
            let rows = self.sequence.pending().min(self.chunk);
            let end = self.sequence.computed() + rows;
            let began = Instant::now();
            let logits = self.runner.step(&self.sequence.batch(rows))?;
            let best = argmax(&logits[..logits.len().min(self.vocab)]);
            self.sequence.mark_computed(end);
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
}

/// The most probable token, of equal ones the first; `None` without logits.
fn argmax(logits: &[f32]) -> Option<u32> {
    let best = |best: (usize, f32), (id, &x): (usize, &f32)| if x > best.1 { (id, x) } else { best };
    let (id, _) = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), best);
    (!logits.is_empty()).then_some(id as u32)
}
