//! The thread that owns runner, cache and queue: which request comes next.
//!
//! Requests run in the order in which they came, one at a time; `step` runs one.

use crate::engine::Canceller;
use crate::kv::Cache;
use crate::model::Runner;
use crate::step;
use crate::{Event, Matcher, Result, Sampler, TextStream, Tokenizer};
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
    pub(crate) ignore_end: bool,
    pub(crate) events: mpsc::Sender<Result<Event>>,
    pub(crate) canceller: Canceller,
    pub(crate) queued: Instant,
}

pub(crate) struct Scheduler {
    pub(crate) runner: Box<dyn Runner>,
    pub(crate) cache: Cache,
    /// Rows of one prefill step.
    pub(crate) chunk: usize,
    pub(crate) tokenizer: Arc<Tokenizer>,
}

impl Scheduler {
    pub(crate) fn new(
        runner: Box<dyn Runner>,
        blocks: usize,
        chunk: usize,
        tokenizer: Arc<Tokenizer>,
    ) -> Self {
        Self { runner, cache: Cache::new(blocks), chunk, tokenizer }
    }

    /// Serves the queue until nobody can send to it any more.
    pub(crate) fn run(mut self, queue: mpsc::Receiver<Job>) {
        for job in queue {
            let mut sequence = self.cache.admit(job.prompt.clone());
            let events = job.events.clone();
            let end = step::generate(&mut self, &mut sequence, job);
            self.cache.retire(sequence);
            // Nobody listens any more when the generation was dropped: then there is nobody to tell.
            let _ = events.send(end.map(Event::Done));
        }
    }
}
