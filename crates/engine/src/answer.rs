//! One answer on its way: from the logits of a step to tokens, text and events.
//!
//! Owns the sampler, the grammar's state and the guesses of one request. It does not know about other requests.

use crate::embedding::Pool;
use crate::engine::Canceller;
use crate::grammar::Mask;
use crate::model::{Outcome, Row};
use crate::sequence::Sequence;
use crate::speculation::{Acceptance, Lookup};
use crate::{
    Error, Event, Finish, History, Matcher, Result, Sampled, Sampler, Summary, TextStream, Timings, Token,
    Tokenizer, Usage,
};
use coder_kernels::Pick;
use std::sync::{Arc, mpsc};
use std::time::Instant;

/// A request that has been checked: nothing about it can fail any more but the device.
pub(crate) struct Job {
    pub(crate) prompt: Vec<u32>,
    pub(crate) max_tokens: usize,
    pub(crate) sampler: Sampler,
    pub(crate) matcher: Option<Matcher>,
    pub(crate) text: TextStream,
    pub(crate) show_special: bool,
    /// Tags of calls, which are shown, each whole, whatever the vocabulary calls them.
    pub(crate) tags: Vec<u32>,
    pub(crate) ignore_end: bool,
    /// If a vector is wanted and no text.
    pub(crate) pool: Option<Pool>,
    pub(crate) speculate: bool,
    pub(crate) priority: i32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) events: mpsc::Sender<Result<Event>>,
    pub(crate) canceller: Canceller,
    pub(crate) queued: Instant,
}

/// A job that was begun.
pub(crate) struct Answer {
    job: Job,
    tokenizer: Arc<Tokenizer>,
    /// Its time in the engine, from its beginning to its end.
    span: tracing::Span,
    usage: Usage,
    /// When its first rows were computed.
    started: Option<Instant>,
    /// When the first logits were there.
    prefilled: Option<Instant>,
    lookup: Lookup,
    /// Of what the text itself suggested, by how sure it looked, and of what a draft model did.
    acceptance: [Acceptance; 3],
    /// Whose the guesses of this step are: an index into `acceptance`.
    guesser: usize,
    drafts: Drafts,
    /// One for each of the step's logits rows; none without a grammar. Those beyond `masked` are of former steps, kept
    /// for their memory.
    masks: Vec<Mask>,
    masked: usize,
    /// How it ended.
    end: Option<Result<Finish>>,
}

/// Tokens that are supposed to follow.
#[derive(Debug, Default)]
pub(crate) struct Drafts {
    /// Guesses, and behind each of them what the grammar forces then.
    pub(crate) tokens: Vec<u32>,
    /// How many of them lie before each row whose logits are wanted: 0, and the number up to each guess's end.
    pub(crate) wanted: Vec<usize>,
}

impl Drafts {
    fn clear(&mut self) {
        self.tokens.clear();
        self.wanted.clear();
        self.wanted.push(0);
    }

    /// Keeps the guesses that end within the first `tokens`.
    pub(crate) fn truncate(&mut self, tokens: usize) {
        if tokens < self.tokens.len() {
            self.wanted.retain(|&before| before <= tokens);
            self.tokens.truncate(self.wanted.last().copied().unwrap_or(0));
        }
    }
}

/// An agreement of this many tokens is a copy, of fewer perhaps chance.
const COPY: usize = 8;

/// The acceptance of a draft model's guesses.
const MODEL: usize = 2;

impl Answer {
    /// Begins `job`: gives the answer and the tokens that are known so far, the prompt and what the grammar forces.
    pub(crate) fn begin(mut job: Job, tokenizer: Arc<Tokenizer>) -> (Self, Vec<u32>) {
        let mut sequence = Sequence::new(std::mem::take(&mut job.prompt));
        let usage = Usage { prompt_tokens: sequence.tokens().len(), ..Usage::default() };
        let span =
            tracing::debug_span!("answer", prompt_tokens = usage.prompt_tokens, priority = job.priority);
        let mut answer = Self {
            job,
            tokenizer,
            span,
            usage,
            started: None,
            prefilled: None,
            lookup: Lookup::default(),
            acceptance: [Acceptance::new(0.5), Acceptance::new(0.9), Acceptance::new(0.7)],
            guesser: 0,
            drafts: Drafts::default(),
            masks: Vec::new(),
            masked: 0,
            end: None,
        };
        answer.end = answer.append_forced(&mut sequence).transpose();
        (answer, sequence.tokens().to_vec())
    }

    /// Whether a grammar says which tokens may come next.
    pub(crate) fn is_constrained(&self) -> bool {
        self.job.matcher.is_some()
    }

    /// Whether nothing was sampled yet.
    pub(crate) fn is_first(&self) -> bool {
        self.usage.completion_tokens == self.usage.forced_tokens
    }

    /// Tokens of the answer so far.
    pub(crate) fn written(&self) -> usize {
        self.usage.completion_tokens
    }

    pub(crate) fn priority(&self) -> i32 {
        self.job.priority
    }

    /// Whether it ended, or must end now.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        if self.end.is_none() {
            if self.job.canceller.is_cancelled() {
                self.end = Some(Ok(Finish::Cancelled));
            } else if self.job.deadline.is_some_and(|deadline| deadline <= now) {
                self.end = Some(Ok(Finish::Deadline));
            }
        }
        self.end.is_some()
    }

    /// Ends it with what the device said.
    pub(crate) fn fail(&mut self, error: Error) {
        self.end = Some(Err(error));
    }

    /// Notes that rows of it are about to be computed, with so many tokens in the cache.
    pub(crate) fn start(&mut self, cached: usize) {
        if self.started.is_none() {
            self.started = Some(Instant::now());
            self.span.in_scope(|| tracing::debug!(cached, "started"));
            self.usage.cached_tokens = cached.min(self.usage.prompt_tokens);
        }
        self.usage.passes += 1;
    }

    /// Tells the listener how it ended.
    pub(crate) fn finish(mut self) -> Usage {
        let now = Instant::now();
        let started = self.started.unwrap_or(now);
        let prefilled = self.prefilled.unwrap_or(now);
        let timings = Timings {
            queue_s: started.duration_since(self.job.queued).as_secs_f64(),
            prefill_s: prefilled.duration_since(started).as_secs_f64(),
            decode_s: now.duration_since(prefilled).as_secs_f64(),
        };
        let (text, usage) = (self.job.text.finish(), self.usage);
        let end = self.end.unwrap_or(Err(Error::Stopped));
        self.span.in_scope(|| tracing::debug!(?usage, ?timings, ?end, "ended"));
        if let Some(pool) = self.job.pool {
            pool.tell(end.and_then(read), usage);
            return usage;
        }
        let done = end.map(|finish| Event::Done(Summary { text, finish, usage, timings }));
        // Nobody listens any more when the generation was dropped: then there is nobody to tell.
        let _ = self.job.events.send(done);
        usage
    }

    /// Whether a vector is wanted, and no token.
    pub(crate) fn is_pooled(&self) -> bool {
        self.job.pool.is_some()
    }

    /// Whether hidden states of all its tokens are needed, also of those that the cache holds.
    pub(crate) fn is_apart(&self) -> bool {
        self.job.pool.as_ref().is_some_and(Pool::needs_all)
    }

    // ---- before a step

    /// Forgets the guesses of the last step.
    pub(crate) fn clear_drafts(&mut self) {
        self.drafts.clear();
    }

    pub(crate) fn drafts(&self) -> &Drafts {
        &self.drafts
    }

    pub(crate) fn drafts_mut(&mut self) -> &mut Drafts {
        &mut self.drafts
    }

    /// Guesses that could be of use at most: the last token comes from the last row's logits.
    pub(crate) fn most_drafts(&self) -> usize {
        if self.job.speculate {
            self.job.max_tokens.saturating_sub(self.usage.completion_tokens + 1)
        } else {
            0
        }
    }

    /// What may follow by the text itself, at most `most` tokens.
    pub(crate) fn look_up<'a>(&mut self, sequence: &'a Sequence, most: usize) -> &'a [u32] {
        let guess = self.lookup.guess(sequence.tokens(), most);
        self.guesser = usize::from(guess.agreed >= COPY);
        guess.tokens
    }

    /// Takes the next guesses for a draft model's.
    pub(crate) fn guessed_by_model(&mut self) {
        self.guesser = MODEL;
    }

    /// The probability that a guess of this step is right.
    pub(crate) fn probability(&self) -> f64 {
        self.acceptance[self.guesser].probability()
    }

    /// Notes that there was a guess that was not worth its rows: it may be another time.
    pub(crate) fn pass_over(&mut self) {
        self.acceptance[self.guesser].forget_a_little();
    }

    /// Supposes that `guesses` follow, as far as the grammar allows them; at most `most` rows with what is forced
    /// between them.
    ///
    /// # Errors
    /// That of a grammar that does not come back to its state.
    pub(crate) fn suppose(&mut self, guesses: &[u32], most: usize) -> Result<()> {
        let Self { job, tokenizer, drafts, .. } = self;
        let ends = |token| !job.ignore_end && tokenizer.is_end(token);
        let Some(matcher) = job.matcher.as_mut().filter(|_| !guesses.is_empty()) else {
            for &token in guesses.iter().take(most).take_while(|&&token| !ends(token)) {
                drafts.tokens.push(token);
                drafts.wanted.push(drafts.tokens.len());
            }
            return Ok(());
        };
        let mut guesses = guesses.iter().copied().peekable();
        matcher.suppose(|matcher| {
            // What goes wrong in a supposed state is no reason to end: the answer may never come there.
            while let Some(token) = guesses.next_if(|&token| !ends(token))
                && matcher.accept(token).is_ok()
                && let Ok(forced) = matcher.forced()
                && !matcher.must_end()
                && drafts.tokens.len() + 1 + forced.len() <= most
            {
                drafts.tokens.push(token);
                drafts.tokens.extend(&forced);
                drafts.wanted.push(drafts.tokens.len());
                // Where the guess says other than what is forced, the rest of it is beside the point.
                if !forced.iter().all(|&token| guesses.next_if_eq(&token).is_some()) {
                    break;
                }
            }
        })
    }

    /// Computes the grammar's masks for the step's logits rows, which takes time that the step takes as well.
    pub(crate) fn prepare_masks(&mut self) {
        if let Err(error) = self.compute_masks() {
            self.end = Some(Err(error));
        }
    }

    fn compute_masks(&mut self) -> Result<()> {
        let Self { job, masks, masked, drafts, .. } = self;
        *masked = 0;
        let Some(matcher) = &mut job.matcher else { return Ok(()) };
        let mut keep = |mask: &Mask| {
            match masks.get_mut(*masked) {
                Some(place) => place.clone_from(mask),
                None => masks.push(mask.clone()),
            }
            *masked += 1;
        };
        keep(matcher.mask()?);
        if drafts.tokens.is_empty() {
            return Ok(());
        }
        matcher.suppose(|matcher| {
            let mut at = 0;
            for &end in &drafts.wanted[1..] {
                // Without a mask, the row's logits are left alone and the token is chosen in the next step.
                let accepted = matcher.accept(drafts.tokens[at]).and_then(|()| matcher.forced());
                match accepted.and_then(|_| matcher.mask()) {
                    Ok(mask) => keep(mask),
                    Err(_) => return,
                }
                at = end;
            }
        })
    }

    /// What the sampler needs of each of the step's wanted rows.
    pub(crate) fn picks(&self) -> impl Iterator<Item = Pick<'_>> {
        (0..self.drafts.wanted.len()).map(|i| match self.masks[..self.masked].get(i) {
            // Nothing is chosen of a row whose mask could not be computed.
            None if self.is_constrained() => Pick { mask: None, candidates: 1 },
            mask => self.job.sampler.pick(mask),
        })
    }

    // ---- after a step

    /// Tells the listener how much of the prompt is in the cache.
    pub(crate) fn tell_prefill(&self, computed: usize) {
        let total = self.usage.prompt_tokens;
        // A listener that is gone is noticed with the next token.
        let _ = self.job.events.send(Ok(Event::Prefill { done: computed.min(total), total }));
    }

    /// Takes the hidden states `[rows, hidden]` of its tokens from `first` on; with the last one, it ends.
    pub(crate) fn pool(&mut self, first: usize, hidden: usize, states: &[f32]) {
        if let Some(pool) = &mut self.job.pool
            && pool.add(first, hidden, states)
            && self.end.is_none()
        {
            self.prefilled = Some(Instant::now());
            self.end = Some(Ok(Finish::Stop));
        }
    }

    /// Takes tokens from the step's wanted rows, its own from `first` on, as far as the guesses before them were right.
    /// Gives the number of guessed tokens that were.
    pub(crate) fn settle(&mut self, sequence: &mut Sequence, outcome: &Outcome<'_>, first: usize) -> usize {
        if self.prefilled.is_none() {
            self.prefilled = Some(Instant::now());
            self.span.in_scope(|| tracing::debug!("prompt read"));
        }
        let known = sequence.tokens().len();
        if self.end.is_none() {
            self.end = self.take_tokens(sequence, outcome, first).transpose();
        }
        let drafts = &self.drafts.tokens;
        let new = &sequence.tokens()[known..];
        let right = new.iter().zip(drafts).take_while(|(new, draft)| new == draft).count();
        // The last token is computed in the next step, whatever was guessed.
        let right = if self.end.is_none() { right.min(new.len().saturating_sub(1)) } else { right };
        if !drafts.is_empty() {
            self.acceptance[self.guesser].judge(drafts.len(), right);
            self.usage.drafted_tokens += drafts.len();
            self.usage.accepted_tokens += right;
        }
        right
    }

    fn take_tokens(
        &mut self,
        sequence: &mut Sequence,
        outcome: &Outcome<'_>,
        first: usize,
    ) -> Result<Option<Finish>> {
        let known = sequence.tokens().len();
        for i in 0..self.drafts.wanted.len() {
            let new = &sequence.tokens()[known..];
            if new != &self.drafts.tokens[..self.drafts.wanted[i]]
                || (self.is_constrained() && i >= self.masked)
            {
                break;
            }
            let sampled = match outcome.row(first + i) {
                Row::Choice(choice) => self.job.sampler.sample_of(choice)?,
                Row::Whole(logits) => {
                    let (prompt, generated) = sequence.tokens().split_at(self.usage.prompt_tokens);
                    let history = History { prompt, generated };
                    self.job.sampler.sample(logits, self.masks[..self.masked].get(i), history)?
                }
            };
            if self.ends(sampled.token) {
                return Ok(Some(Finish::Stop));
            }
            if let Some(matcher) = &mut self.job.matcher {
                matcher.accept(sampled.token)?;
            }
            let finish = match self.append(sequence, sampled, false) {
                None => self.append_forced(sequence)?,
                Some(Finish::Length) if self.is_whole() => Some(Finish::Stop),
                some => some,
            };
            if finish.is_some() {
                return Ok(finish);
            }
        }
        Ok(None)
    }

    fn ends(&self, token: u32) -> bool {
        !self.job.ignore_end && self.tokenizer.is_end(token)
    }

    /// Whether the grammar lets nothing follow: the answer is not cut, however few tokens it may have.
    fn is_whole(&self) -> bool {
        self.job.matcher.as_ref().is_some_and(Matcher::must_end)
    }

    /// Appends the tokens that the grammar allows as the only ones, or notices that it allows none.
    fn append_forced(&mut self, sequence: &mut Sequence) -> Result<Option<Finish>> {
        if self.is_whole() {
            return Ok(Some(Finish::Stop));
        }
        let Some(matcher) = &mut self.job.matcher else { return Ok(None) };
        let mut tokens = matcher.forced()?;
        let end = tokens.iter().position(|&token| self.ends(token));
        let is_whole = end.is_some() || self.is_whole();
        tokens.truncate(end.unwrap_or(tokens.len()));
        let last = tokens.len().saturating_sub(1);
        for (i, token) in tokens.into_iter().enumerate() {
            let forced = Sampled { token, logprob: 0.0, top: Vec::new() };
            match self.append(sequence, forced, true) {
                None => {}
                Some(Finish::Length) if is_whole && i == last => {}
                some => return Ok(some),
            }
        }
        Ok(is_whole.then_some(Finish::Stop))
    }

    /// Appends a token of the answer and tells the listener; gives the reason if the answer ends here.
    fn append(&mut self, sequence: &mut Sequence, sampled: Sampled, forced: bool) -> Option<Finish> {
        let Sampled { token, logprob, top } = sampled;
        sequence.push(token);
        self.usage.completion_tokens += 1;
        self.usage.forced_tokens += usize::from(forced);
        let tag = self.job.tags.contains(&token);
        let hidden = !tag && !self.job.show_special && self.tokenizer.is_special(token);
        let bytes = if hidden { &[] } else { self.tokenizer.token_bytes(token) };
        // A tag is no part of a character or of a stop string.
        let text = match tag {
            true => self.job.text.finish() + &String::from_utf8_lossy(bytes),
            false => self.job.text.push(bytes),
        };
        let event = Event::Token(Token { id: token, text, logprob, top, forced });
        if self.job.events.send(Ok(event)).is_err() {
            return Some(Finish::Cancelled); // the generation was dropped
        }
        if let Some(stop) = self.job.text.stopped() {
            return Some(Finish::StopString(stop.to_owned()));
        }
        (self.usage.completion_tokens >= self.job.max_tokens).then_some(Finish::Length)
    }
}

/// Whether a text whose vector is wanted was read to its end.
fn read(finish: Finish) -> Result<()> {
    match finish {
        Finish::Stop => Ok(()),
        Finish::Deadline => Err(Error::Deadline),
        _ => Err(Error::Cancelled),
    }
}
