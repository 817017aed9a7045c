//! A small model of the same vocabulary that guesses what a large one will say.
//!
//! Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", 2023; here a guess counts only if
//! the large model chooses the same token, so that the answer is the same, bit by bit, as without guesses.

use crate::costs::Costs;
use crate::fit::Room;
use crate::grammar::Mask;
use crate::kv::Cache;
use crate::load::{self, LoadProgress, Loaded, ModelInfo, Options, TextModel};
use crate::model::{Row, Runner};
use crate::sequence::{Rows, Sequence};
use crate::{Config, Error, Result, Tokenizer};
use coder_kernels::Pick;
use std::collections::BTreeMap;
use std::time::Instant;

/// A draft model and the texts that it reads along.
pub(crate) struct DraftModel {
    runner: Box<dyn Runner>,
    /// Tokens of a text that it can read.
    context: usize,
    /// Rows of one step, and rows whose logits may be wanted.
    chunk: usize,
    logits: usize,
    /// Tokens that both vocabularies have: those below this one. Either model may have rows of logits beyond.
    vocab: usize,
    tokens: Mask,
    cache: Cache,
    /// What it has read, by the number of the answer.
    texts: BTreeMap<u64, Text>,
    rows: Rows,
    costs: Costs,
}

/// A text with the guesses behind it.
struct Text {
    sequence: Sequence,
    guesses: Vec<u32>,
    /// Guesses that are wanted in this step.
    depth: usize,
    /// Rows in the draft model's next step.
    rows: usize,
}

impl Text {
    fn is_completed(&self) -> bool {
        self.rows > 0 && self.rows == self.sequence.pending()
    }
}

/// The draft model's options, if there is to be one: the same context, cache, device and number of answers.
///
/// # Errors
/// Those of a file that cannot be read.
pub(crate) fn options(options: &Options) -> Result<Option<Options>> {
    let Some(source) = &options.draft else { return Ok(None) };
    let mut own = Options { source: source.clone(), gpu_layers: None, draft: None, ..options.clone() };
    let room = options.room(options.source.weights()?.config())?;
    let context = room.context.min(own.source.weights()?.config().context);
    own.prefix_cache = None;
    (own.context, own.cache) = (Some(context), Some(room.cache.max(context)));
    Ok(Some(own))
}

/// Checks that the models of `options` have one vocabulary, which is quick, before what may be a long load.
///
/// # Errors
/// Those of a file that cannot be read; [`Error::Request`] if they have not.
pub(crate) fn check(options: &Options) -> Result<()> {
    let Some(draft) = &options.draft else { return Ok(()) };
    let (model, draft) = (TextModel::open(&options.source)?, TextModel::open(draft)?);
    common(&model.tokenizer, &draft.tokenizer).map(drop)
}

/// The tokens that a model and its draft model have in common.
fn common(model: &Tokenizer, draft: &Tokenizer) -> Result<usize> {
    model.common(draft).map_err(|id| {
        let problem = format!("its token `{id}` is another one than the model's; use one of the same family");
        Error::Request { field: "draft", problem }
    })
}

/// What it takes memory for: logits of one row of each answer.
///
/// # Errors
/// Those of options that cannot be.
pub(crate) fn room(own: &Options, config: &Config) -> Result<Room> {
    let room = own.room(config)?;
    Ok(Room { logits: own.parallel.min(room.rows), ..room })
}

impl DraftModel {
    /// Opens the draft model of `options`, if there is one. `model` is the large one, which has its part of a card.
    ///
    /// # Errors
    /// Those of opening; [`Error::Request`] if its vocabulary is not `tokenizer`'s.
    pub(crate) fn open(
        options: &Options,
        tokenizer: &Tokenizer,
        model: &ModelInfo,
        progress: impl FnMut(LoadProgress),
    ) -> Result<Option<(Self, ModelInfo)>> {
        let Some(mut own) = self::options(options)? else { return Ok(None) };
        let taken = model.card.as_ref().map_or(0, |card| card.own_bytes);
        own.vram = own.vram.map(|bytes| bytes.saturating_sub(taken));
        let logits = room(&own, own.source.weights()?.config())?.logits;
        let Loaded { runner, tokenizer: other, blocks, info, .. } = load::open(&own, logits, progress)?;
        let vocab = common(tokenizer, &other)?;
        let draft = Self {
            runner,
            context: info.context,
            chunk: info.chunk,
            logits,
            vocab,
            tokens: Mask::new(vocab, 0..vocab as u32),
            cache: Cache::new(blocks),
            texts: BTreeMap::new(),
            rows: Rows::default(),
            costs: Costs::default(),
        };
        Ok(Some((draft, info)))
    }

    /// Seconds that one more guess behind each of `texts` texts takes; 0 while that is not known.
    pub(crate) fn seconds(&self, texts: usize) -> f64 {
        self.costs.seconds(texts).unwrap_or(0.0)
    }

    /// Asks for up to `depth` guesses behind `tokens`, the text of answer `number`; [`guess`](Self::guess) makes them.
    /// None are made where there is no room.
    pub(crate) fn ask(&mut self, number: u64, tokens: &[u32], depth: usize) {
        let known = self.texts.get(&number).map_or(0, |text| text.sequence.tokens().len());
        let unread = tokens.get(known.saturating_sub(1)..).unwrap_or_default();
        if unread.iter().any(|&token| token as usize >= self.vocab) || tokens.len() + depth > self.context {
            return self.forget(number);
        }
        let Self { cache, texts, .. } = self;
        let text = texts.entry(number).or_insert_with(|| {
            let mut sequence = Sequence::new(tokens.to_vec());
            cache.admit(&mut sequence);
            Text { sequence, guesses: Vec::new(), depth: 0, rows: 0 }
        });
        let sequence = &mut text.sequence;
        let common = sequence.tokens().iter().zip(tokens).take_while(|(a, b)| a == b).count();
        // The logits of the last token are wanted, so it is computed again if need be.
        let at = common.min(tokens.len() - 1);
        sequence.rewrite(at, &tokens[at..]);
        // What is certain now may be shared; a guess may not.
        let computed = sequence.computed();
        cache.computed(sequence, computed);
        text.guesses.clear();
        text.depth = depth;
        if !cache.reserve(sequence, tokens.len() + depth) {
            self.forget(number);
        }
    }

    /// The guesses behind the text of answer `number`.
    pub(crate) fn guesses(&self, number: u64) -> &[u32] {
        self.texts.get(&number).map_or(&[], |text| &text.guesses)
    }

    /// Drops the text of an answer that ended; what it began with stays while there is room.
    pub(crate) fn forget(&mut self, number: u64) {
        if let Some(Text { mut sequence, guesses, .. }) = self.texts.remove(&number) {
            let certain = sequence.tokens().len() - guesses.len();
            sequence.rewrite(certain, &[]);
            let computed = sequence.computed();
            self.cache.computed(&mut sequence, computed);
            self.cache.retire(&mut sequence);
        }
    }

    /// Makes the guesses that were asked for, those of all texts side by side.
    ///
    /// # Errors
    /// Those of the device.
    pub(crate) fn guess(&mut self) -> Result<()> {
        while self.step()? {}
        Ok(())
    }

    /// One step of it; `false` if there is nothing to do.
    fn step(&mut self) -> Result<bool> {
        let Self { runner, texts, rows, costs, vocab, tokens, .. } = self;
        let (mut left, mut logits) = (self.chunk, self.logits);
        rows.clear();
        for text in texts.values_mut() {
            let wanted = text.guesses.len() < text.depth && logits > 0;
            text.rows = if wanted { text.sequence.pending().min(left) } else { 0 };
            left -= text.rows;
            if text.rows > 0 {
                rows.append(&text.sequence, text.rows, &[]);
            }
            if text.is_completed() {
                rows.want(0);
                logits -= 1;
            }
        }
        let batch = rows.batch();
        if batch.rows() == 0 {
            return Ok(false);
        }
        let began = Instant::now();
        let best = Pick { mask: Some(tokens.words()), candidates: 1 };
        runner.start(batch)?;
        let outcome = runner.choose(&mut std::iter::repeat_n(best, batch.logits.len()))?;
        costs.observe(batch.rows(), began.elapsed().as_secs_f64());
        let mut wanted = (0..batch.logits.len()).map(|row| outcome.row(row));
        for text in texts.values_mut().filter(|text| text.rows > 0) {
            let completed = text.is_completed();
            text.sequence.mark_computed(text.sequence.computed() + text.rows);
            if !completed {
                continue;
            }
            let best = match wanted.next() {
                Some(Row::Choice(choice)) => choice.candidates().first().map(|best| best.0),
                Some(Row::Whole(logits)) => argmax(&logits[..logits.len().min(*vocab)]),
                None => None,
            };
            match best {
                Some(best) => {
                    text.guesses.push(best);
                    text.sequence.push(best);
                }
                None => text.depth = 0,
            }
        }
        Ok(true)
    }
}

/// The most probable token, of equal ones the first; `None` without logits.
fn argmax(logits: &[f32]) -> Option<u32> {
    let best = |best: (usize, f32), (id, &x): (usize, &f32)| if x > best.1 { (id, x) } else { best };
    let (id, _) = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), best);
    (!logits.is_empty()).then_some(id as u32)
}

#[cfg(test)]
mod tests;
