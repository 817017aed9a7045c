//! One generation: prefill in chunks, then token by token. The grammar's mask is computed while the
//! forward pass runs; tokens that the grammar forces are appended without sampling.

use crate::scheduler::{Job, Scheduler};
use crate::sequence::Sequence;
use crate::{Error, Event, Finish, History, Result, Sampled, Summary, Timings, Token, Usage};
use std::time::Instant;

/// Runs `job` on `sequence` to its end; events go to the job's listener.
pub(crate) fn generate(scheduler: &mut Scheduler, sequence: &mut Sequence, job: Job) -> Result<Summary> {
    let started = Instant::now();
    let usage = Usage {
        prompt_tokens: sequence.tokens().len(),
        cached_tokens: sequence.computed(),
        ..Usage::default()
    };
    let mut answer = Answer { scheduler, sequence, job, usage, prefilled: None };
    let finish = answer.run()?;
    let prefilled = answer.prefilled.unwrap_or_else(Instant::now);
    let timings = Timings {
        queue_s: started.duration_since(answer.job.queued).as_secs_f64(),
        prefill_s: prefilled.duration_since(started).as_secs_f64(),
        decode_s: prefilled.elapsed().as_secs_f64(),
    };
    let text = answer.job.text.finish();
    Ok(Summary { text, finish, usage: answer.usage, timings })
}

struct Answer<'a> {
    scheduler: &'a mut Scheduler,
    sequence: &'a mut Sequence,
    job: Job,
    usage: Usage,
    /// When the first logits were there.
    prefilled: Option<Instant>,
}

impl Answer<'_> {
    fn run(&mut self) -> Result<Finish> {
        loop {
            if let Some(finish) = self.append_forced()? {
                return Ok(finish);
            }
            let Some(sampled) = self.sample()? else { return Ok(Finish::Cancelled) };
            if self.ends(sampled.token) {
                return Ok(Finish::Stop);
            }
            if let Some(matcher) = &mut self.job.matcher {
                matcher.accept(sampled.token)?;
            }
            if let Some(finish) = self.append(sampled, false) {
                return Ok(finish);
            }
        }
    }

    fn ends(&self, token: u32) -> bool {
        !self.job.ignore_end && self.scheduler.tokenizer.is_end(token)
    }

    /// Appends the tokens that the grammar allows as the only ones, or notices that it allows none.
    fn append_forced(&mut self) -> Result<Option<Finish>> {
        let Some(matcher) = &mut self.job.matcher else { return Ok(None) };
        if matcher.must_end() {
            return Ok(Some(Finish::Stop));
        }
        for token in matcher.forced()? {
            if self.ends(token) {
                return Ok(Some(Finish::Stop));
            }
            let forced = Sampled { token, logprob: 0.0, top: Vec::new() };
            if let Some(finish) = self.append(forced, true) {
                return Ok(Some(finish));
            }
        }
        let stopped = self.job.matcher.as_ref().is_some_and(|m| m.must_end());
        Ok(stopped.then_some(Finish::Stop))
    }

    /// Appends a token of the answer and tells the listener; gives the reason if the answer ends here.
    fn append(&mut self, sampled: Sampled, forced: bool) -> Option<Finish> {
        let Sampled { token, logprob, top } = sampled;
        self.sequence.push(token);
        self.usage.completion_tokens += 1;
        self.usage.forced_tokens += usize::from(forced);
        let tokenizer = &self.scheduler.tokenizer;
        let hidden = !self.job.show_special && tokenizer.is_special(token);
        let bytes = if hidden { &[] } else { tokenizer.token_bytes(token) };
        let text = self.job.text.push(bytes);
        let event = Event::Token(Token { id: token, text, logprob, top, forced });
        if self.job.events.send(Ok(event)).is_err() {
            return Some(Finish::Cancelled); // the generation was dropped
        }
        if let Some(stop) = self.job.text.stopped() {
            return Some(Finish::StopString(stop.to_owned()));
        }
        (self.usage.completion_tokens >= self.job.max_tokens).then_some(Finish::Length)
    }

    /// Computes every pending token and samples from the last one's logits; `None` if cancelled.
    fn sample(&mut self) -> Result<Option<Sampled>> {
        loop {
            if self.job.canceller.is_cancelled() {
                return Ok(None);
            }
            let pending = self.sequence.pending();
            let rows = pending.min(self.scheduler.chunk);
            let end = self.sequence.computed() + rows;
            if !self.scheduler.cache.reserve(self.sequence, end) {
                let requested = self.job.max_tokens;
                return Err(Error::ContextTooLong { prompt: end, requested, context: end - rows });
            }
            let batch = self.sequence.batch(rows);
            let runner = &mut self.scheduler.runner;
            if rows < pending {
                runner.step(&batch)?;
                self.sequence.mark_computed(end);
                self.tell_prefill(end);
                continue;
            }
            let (logits, mask) = match &mut self.job.matcher {
                None => (runner.step(&batch), None),
                Some(matcher) => {
                    let (logits, mask) = rayon::join(|| runner.step(&batch), || matcher.mask());
                    (logits, Some(mask?))
                }
            };
            let logits = logits?;
            self.sequence.mark_computed(end);
            self.prefilled.get_or_insert_with(Instant::now);
            let (prompt, generated) = self.sequence.tokens().split_at(self.usage.prompt_tokens);
            let history = History { prompt, generated };
            let sampled = self.job.sampler.sample(logits, mask, history)?;
            if self.usage.completion_tokens == 0 {
                self.tell_prefill(end);
            }
            return Ok(Some(sampled));
        }
    }

    fn tell_prefill(&self, computed: usize) {
        let total = self.usage.prompt_tokens;
        // A listener that is gone is noticed with the next token.
        let _ = self.job.events.send(Ok(Event::Prefill { done: computed.min(total), total }));
    }
}
