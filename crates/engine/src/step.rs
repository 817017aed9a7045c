//! The thread that owns runner, cache and requests: one step after another, each with rows of many sequences.

use crate::answer::{Answer, Job};
use crate::draft::DraftModel;
use crate::engine::Stats;
use crate::model::Runner;
use crate::scheduler::{Capacity, Entry, Scheduler};
use crate::speculation::{Costs, MOST};
use crate::{Error, Tokenizer};
use coder_kernels::Batch;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

/// What the engine's users ask of its thread.
pub(crate) enum Order {
    Job(Box<Job>),
    Stats(mpsc::Sender<Stats>),
}

/// The state of the thread.
pub(crate) struct Stepper {
    runner: Box<dyn Runner>,
    scheduler: Scheduler<Answer>,
    tokenizer: Arc<Tokenizer>,
    draft: Option<DraftModel>,
    capacity: Capacity,
    /// Logits rows of one step.
    logits: usize,
    costs: Costs,
    stats: Stats,
    /// Requests that have not ended, shared with those who make them.
    open: Arc<AtomicUsize>,
}

impl Stepper {
    pub(crate) fn new(
        (runner, blocks): (Box<dyn Runner>, usize),
        (capacity, logits): (Capacity, usize),
        tokenizer: Arc<Tokenizer>,
        draft: Option<DraftModel>,
        open: Arc<AtomicUsize>,
    ) -> Self {
        let stats = Stats { blocks, ..Stats::default() };
        let scheduler = Scheduler::new(blocks, capacity);
        Self { runner, scheduler, tokenizer, draft, capacity, logits, costs: Costs::default(), stats, open }
    }

    /// Serves requests until nobody can send any more and all have ended.
    pub(crate) fn run(mut self, orders: mpsc::Receiver<Order>) {
        loop {
            if self.scheduler.is_idle() {
                match orders.recv() {
                    Ok(order) => self.take(order),
                    Err(mpsc::RecvError) => return,
                }
            }
            while let Ok(order) = orders.try_recv() {
                self.take(order);
            }
            self.end_what_is_over();
            if !self.scheduler.is_idle() {
                self.step();
                self.end_what_is_over();
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Job(job) => {
                let (answer, tokens) = Answer::begin(*job, self.tokenizer.clone());
                self.scheduler.submit(answer.priority(), tokens, answer);
            }
            Order::Stats(reply) => {
                let _ = reply.send(self.stats());
            }
        }
    }

    fn stats(&self) -> Stats {
        let cache = self.scheduler.cache();
        Stats {
            waiting: self.scheduler.waiting(),
            running: self.scheduler.running().len(),
            preemptions: self.scheduler.preemptions(),
            blocks_used: cache.used(),
            blocks_filled: cache.filled(),
            ..self.stats
        }
    }

    fn end_what_is_over(&mut self) {
        let now = Instant::now();
        for Entry { answer, .. } in self.scheduler.withdraw(|answer| answer.is_over(now)) {
            // Before the listener is told, so that it finds room for its next request.
            self.open.fetch_sub(1, Ordering::AcqRel);
            self.stats.add(&answer.finish());
        }
    }

    /// Plans a step, runs it and deals out what came of it.
    fn step(&mut self) {
        self.scheduler.plan();
        for entry in self.scheduler.running_mut() {
            entry.answer.clear_drafts();
            if entry.rows > 0 {
                entry.answer.start(entry.sequence.computed());
            }
        }
        self.guess();
        let batch = self.batch();
        let _span =
            tracing::trace_span!("step", rows = batch.rows(), sequences = batch.spans.len()).entered();
        let began = Instant::now();
        let (runner, running) = (&mut self.runner, self.scheduler.running_mut());
        let constrained = running.iter().any(|entry| entry.answer.is_constrained());
        let masks = || {
            let completed = running.par_iter_mut().filter(|entry| entry.is_completed());
            completed.for_each(|entry| entry.answer.prepare_masks());
        };
        let logits = match constrained {
            false => runner.step(&batch),
            true => rayon::join(|| runner.step(&batch), masks).0,
        };
        self.costs.observe(batch.rows(), began.elapsed().as_secs_f64());
        self.stats.steps += 1;
        self.stats.rows += batch.rows() as u64;
        match logits {
            Ok(logits) => deal(&mut self.scheduler, logits, batch.logits.len()),
            Err(error) => {
                let reason = error.to_string();
                for entry in self.scheduler.running_mut() {
                    entry.answer.fail(Error::Failed { reason: reason.clone() });
                }
            }
        }
    }

    /// Supposes tokens behind those that are pending, as many as are worth their rows on this device.
    fn guess(&mut self) {
        let Self { scheduler, costs, capacity, logits, draft, .. } = self;
        let entries = scheduler.running();
        let mut rows: usize = entries.iter().map(|entry| entry.rows).sum();
        let sure = entries.iter().filter(|entry| entry.is_completed()).count();
        let (mut wanted, alone) = (sure, entries.len() == 1);
        for at in 0..scheduler.running().len() {
            let entry = &mut scheduler.running_mut()[at];
            if !entry.is_completed() {
                continue;
            }
            let (sequence, answer) = (&entry.sequence, &mut entry.answer);
            let most = answer.most_drafts().min(capacity.rows - rows).min(*logits - wanted).min(MOST);
            let mut guesses = answer.look_up(sequence, most);
            let depth = costs.best_depth((rows, sure), guesses.len(), answer.probability(), 0.0);
            if depth == 0 && !guesses.is_empty() {
                answer.pass_over();
            }
            guesses.truncate(depth);
            // A draft model reads one text: for several at once their own rows are worth more.
            if let Some(model) = draft.as_mut().filter(|_| depth == 0 && most > 0 && alone) {
                answer.guessed_by_model();
                let depth = costs.best_depth((rows, sure), most, answer.probability(), model.seconds());
                if depth == 0 {
                    answer.pass_over();
                }
                match model.guess(sequence.tokens(), depth) {
                    Ok(by_model) => guesses = by_model,
                    Err(error) => {
                        // Answers do not depend on it.
                        tracing::warn!(%error, "the draft model failed and is not asked any more");
                        *draft = None;
                    }
                }
            }
            if let Err(error) = answer.suppose(&guesses, most) {
                answer.clear_drafts();
                answer.fail(error);
            }
            let drafts = answer.drafts().tokens.len();
            let placed = scheduler.place_drafts(at, drafts);
            let drafts = scheduler.running_mut()[at].answer.drafts_mut();
            drafts.truncate(placed);
            rows += drafts.tokens.len();
            wanted += drafts.wanted.len() - 1;
        }
    }

    fn batch(&self) -> Batch {
        let mut batch = Batch::default();
        for entry in self.scheduler.running().iter().filter(|entry| entry.rows > 0) {
            let first = (batch.rows() + entry.rows - 1) as u32;
            let completed = entry.is_completed();
            let drafts = entry.answer.drafts();
            entry.sequence.append_to(&mut batch, entry.rows, &drafts.tokens);
            if completed {
                batch.logits.extend(drafts.wanted.iter().map(|&before| first + before as u32));
            }
        }
        batch
    }
}

/// Deals out the logits of a step, `[rows, vocab]`, to the sequences that it completed.
fn deal(scheduler: &mut Scheduler<Answer>, logits: &[f32], rows: usize) {
    let vocab = logits.len().checked_div(rows).unwrap_or(0);
    let mut rest = logits;
    let mut work = Vec::new();
    for entry in scheduler.running_mut().iter_mut().filter(|entry| entry.rows > 0) {
        let wanted = if entry.is_completed() { entry.answer.drafts().wanted.len() } else { 0 };
        let (own, others) = rest.split_at(wanted * vocab);
        rest = others;
        work.push((entry, own));
    }
    let settle = |(entry, logits): (&mut Entry<Answer>, &[f32])| {
        let planned = entry.sequence.computed() + entry.rows;
        if entry.answer.is_first() {
            entry.answer.tell_prefill(planned);
        }
        match logits {
            [] => planned,
            logits => planned + entry.answer.settle(&mut entry.sequence, logits),
        }
    };
    let computed: Vec<usize> = work.into_par_iter().map(settle).collect();
    let with_rows = (0..scheduler.running().len()).filter(|&at| scheduler.running()[at].rows > 0);
    for (at, computed) in with_rows.collect::<Vec<_>>().into_iter().zip(computed) {
        scheduler.computed(at, computed);
    }
}
