//! The thread that owns runner, cache and requests: one step after another, each with rows of many sequences.

use crate::answer::{Answer, Job};
use crate::costs::Costs;
use crate::draft::DraftModel;
use crate::engine::Stats;
use crate::model::{Outcome, Runner};
use crate::prefixes::Prefixes;
use crate::scheduler::{Capacity, Entry, Scheduler};
use crate::sequence::Rows;
use crate::speculation::MOST;
use crate::{Error, Result, Tokenizer};
use coder_kernels::Batch;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

/// What the engine's users ask of its thread.
pub(crate) enum Order {
    Job(Box<Job>),
    Stats(mpsc::Sender<Stats>),
    /// Write the file of computed beginnings; how many blocks it has.
    Save(mpsc::Sender<Result<usize>>),
}

impl Entry<Answer> {
    /// Whether tokens of it are chosen after the next step.
    fn is_wanted(&self) -> bool {
        self.is_completed() && !self.answer.is_pooled()
    }
}

/// What a step has so far.
#[derive(Clone, Copy, Default)]
struct Planned {
    rows: usize,
    /// Sequences that get a token, whatever is guessed.
    sure: usize,
    /// Rows whose logits are wanted.
    wanted: usize,
}

/// The state of the thread.
pub(crate) struct Stepper {
    runner: Box<dyn Runner>,
    scheduler: Scheduler<Answer>,
    tokenizer: Arc<Tokenizer>,
    draft: Option<DraftModel>,
    prefixes: Option<Prefixes>,
    capacity: Capacity,
    /// Logits rows of one step.
    logits: usize,
    costs: Costs,
    batch: Rows,
    planned: Planned,
    /// The running sequences whose texts suggest nothing.
    unsure: Vec<usize>,
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
        Self {
            runner,
            scheduler,
            tokenizer,
            draft,
            prefixes: None,
            capacity,
            logits,
            costs: Costs::default(),
            batch: Rows::default(),
            planned: Planned::default(),
            unsure: Vec::new(),
            stats,
            open,
        }
    }

    /// Begins with what a former process left, and leaves the same to the next one. Gives what a person should know.
    ///
    /// # Errors
    /// Those of a file that cannot be used.
    pub(crate) fn keep(&mut self, mut prefixes: Prefixes) -> Result<Option<String>> {
        let notice = prefixes.load(self.scheduler.cache_mut(), &mut *self.runner)?;
        self.prefixes = Some(prefixes);
        Ok(notice)
    }

    fn save(&mut self) -> Result<usize> {
        let Self { prefixes, scheduler, runner, .. } = self;
        prefixes.as_mut().map_or(Ok(0), |prefixes| prefixes.save(scheduler.cache(), &mut **runner))
    }

    /// Serves requests until nobody can send any more and all have ended.
    pub(crate) fn run(mut self, orders: mpsc::Receiver<Order>) {
        self.serve(&orders);
        if let Err(error) = self.save() {
            tracing::warn!(%error, "computed beginnings are not kept");
        }
    }

    fn serve(&mut self, orders: &mpsc::Receiver<Order>) {
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
                self.scheduler.submit(answer.priority(), tokens, answer.is_apart(), answer);
            }
            Order::Stats(reply) => {
                let _ = reply.send(self.stats());
            }
            Order::Save(reply) => {
                let _ = reply.send(self.save());
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
        for entry in self.scheduler.withdraw(|answer| answer.is_over(now)) {
            if let Some(draft) = &mut self.draft {
                draft.forget(entry.number());
            }
            // Before the listener is told, so that it finds room for its next request.
            self.open.fetch_sub(1, Ordering::AcqRel);
            self.stats.add(&entry.answer.finish());
        }
    }

    /// Plans a step, runs it and deals out what came of it.
    fn step(&mut self) {
        let costs = &self.costs;
        self.scheduler.plan(|writing, most| costs.best_reading(writing, most));
        for entry in self.scheduler.running_mut() {
            entry.answer.clear_drafts();
            if entry.rows > 0 {
                entry.answer.start(entry.sequence.computed());
            }
        }
        self.guess();
        self.fill();
        let batch = self.batch.batch();
        let _span =
            tracing::trace_span!("step", rows = batch.rows(), sequences = batch.spans.len()).entered();
        let began = Instant::now();
        let (runner, running) = (&mut self.runner, self.scheduler.running_mut());
        let constrained = running.iter().any(|entry| entry.answer.is_constrained());
        let masks = || {
            let completed = running.par_iter_mut().filter(|entry| entry.is_completed());
            completed.for_each(|entry| entry.answer.prepare_masks());
        };
        let begun = match constrained {
            false => runner.start(batch),
            true => begin(&mut **runner, batch, masks),
        };
        let outcome = begun.and_then(|()| choose(&mut **runner, running));
        self.costs.observe(batch.rows(), began.elapsed().as_secs_f64());
        self.stats.steps += 1;
        self.stats.rows += batch.rows() as u64;
        let running = self.scheduler.running();
        let (read, written_before) = (reading(running), written(running));
        let dealt = outcome.map(|outcome| deal(&mut self.scheduler, &outcome));
        match dealt.and_then(|()| self.pool()) {
            Ok(()) => {
                self.stats.read_tokens += read;
                self.stats.written_tokens += written(self.scheduler.running()) - written_before;
                note_computed(&mut self.scheduler);
            }
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
        self.guess_from_texts();
        if !self.unsure.is_empty()
            && let Err(error) = self.guess_by_model()
        {
            // Answers do not depend on it.
            tracing::warn!(%error, "the draft model failed and is not asked any more");
            self.draft = None;
        }
    }

    /// Supposes what the texts themselves suggest, and notes whom a draft model may help.
    fn guess_from_texts(&mut self) {
        let Self { scheduler, costs, draft, unsure, .. } = self;
        let entries = scheduler.running();
        let mut rows: usize = entries.iter().map(|entry| entry.rows).sum();
        let sure = entries.iter().filter(|entry| entry.is_completed()).count();
        let mut wanted = sure;
        unsure.clear();
        for at in 0..scheduler.running().len() {
            let entry = &mut scheduler.running_mut()[at];
            if !entry.is_completed() {
                continue;
            }
            let (sequence, answer) = (&entry.sequence, &mut entry.answer);
            let room = (self.capacity.rows - rows).min(self.logits - wanted);
            let most = answer.most_drafts().min(room).min(MOST);
            let guesses = answer.look_up(sequence, most);
            let depth = costs.best_depth((rows, sure), guesses.len(), answer.probability(), 0.0);
            if depth == 0 && !guesses.is_empty() {
                answer.pass_over();
            }
            if let Err(error) = answer.suppose(&guesses[..depth], most) {
                answer.clear_drafts();
                answer.fail(error);
            } else if depth == 0 && most > 0 && draft.is_some() {
                answer.guessed_by_model();
                unsure.push(at);
            }
            place(scheduler, at, &mut rows, &mut wanted);
        }
        self.planned = Planned { rows, sure, wanted };
    }

    /// Supposes what the draft model thinks, behind as many answers as are worth it: those where it was right most
    /// often.
    fn guess_by_model(&mut self) -> Result<()> {
        let Self { scheduler, costs, draft, unsure, .. } = self;
        let (Some(model), Planned { mut rows, sure, mut wanted }) = (draft, self.planned) else {
            return Ok(());
        };
        let probability = |&at: &usize| scheduler.running()[at].answer.probability();
        unsure.sort_by(|a, b| probability(b).total_cmp(&probability(a)));
        let room = (self.capacity.rows - rows).min(self.logits - wanted);
        let (answers, depth) =
            costs.best_common_depth((rows, sure), room, unsure.iter().map(probability), |answers| {
                model.seconds(answers)
            });
        let (chosen, others) = unsure.split_at(answers);
        for &at in others {
            scheduler.running_mut()[at].answer.pass_over();
        }
        for &at in chosen {
            let entry = &scheduler.running()[at];
            model.ask(entry.number(), entry.sequence.tokens(), depth.min(entry.answer.most_drafts()));
        }
        if !chosen.is_empty() {
            model.guess()?;
        }
        for &at in chosen {
            let entry = &mut scheduler.running_mut()[at];
            // What a grammar forces between the guesses takes rows as well.
            let room = (self.capacity.rows - rows).min(self.logits - wanted);
            let most = entry.answer.most_drafts().min(room).min(MOST);
            if let Err(error) = entry.answer.suppose(model.guesses(entry.number()), most) {
                entry.answer.clear_drafts();
                entry.answer.fail(error);
            }
            place(scheduler, at, &mut rows, &mut wanted);
        }
        Ok(())
    }

    /// Deals out the hidden states of a step to the texts whose vectors are wanted.
    fn pool(&mut self) -> Result<()> {
        let Self { scheduler, runner, batch, .. } = self;
        if !scheduler.running().iter().any(|entry| entry.rows > 0 && entry.answer.is_pooled()) {
            return Ok(());
        }
        let states = runner.hidden()?;
        let cols = states.len() / batch.batch().rows();
        for entry in scheduler.running_mut().iter_mut().filter(|entry| entry.answer.is_pooled()) {
            let states = &states[entry.first * cols..][..entry.rows * cols];
            entry.answer.pool(entry.sequence.computed(), cols, states);
        }
        Ok(())
    }

    /// Fills the batch.
    fn fill(&mut self) {
        let Self { scheduler, batch, .. } = self;
        batch.clear();
        for entry in scheduler.running_mut().iter_mut().filter(|entry| entry.rows > 0) {
            let drafts = entry.answer.drafts();
            entry.first = batch.batch().rows();
            batch.append(&entry.sequence, entry.rows, &drafts.tokens);
            entry.logits = batch.batch().logits.len();
            if entry.is_wanted() {
                drafts.wanted.iter().for_each(|&before| batch.want(before));
            }
        }
    }
}

/// Starts a step and does something else in the meantime. A card still computes when it is started, and nobody waits
/// for it before both are done; a processor computes on one thread what another does beside.
fn begin(runner: &mut dyn Runner, batch: &Batch, meanwhile: impl FnOnce() + Send) -> Result<()> {
    rayon::join(|| runner.start(batch), meanwhile).0
}

/// Waits for what the samplers need of the wanted rows.
fn choose<'r>(runner: &'r mut dyn Runner, running: &[Entry<Answer>]) -> Result<Outcome<'r>> {
    let wanted = running.iter().filter(|entry| entry.is_wanted());
    runner.choose(&mut wanted.flat_map(|entry| entry.answer.picks()))
}

/// Gives the guesses behind running sequence `at` their places, as far as there are any.
fn place(scheduler: &mut Scheduler<Answer>, at: usize, rows: &mut usize, wanted: &mut usize) {
    let drafts = scheduler.running()[at].answer.drafts().tokens.len();
    let placed = scheduler.place_drafts(at, drafts);
    let drafts = scheduler.running_mut()[at].answer.drafts_mut();
    drafts.truncate(placed);
    *rows += drafts.tokens.len();
    *wanted += drafts.wanted.len() - 1;
}

/// Prompt tokens of a step.
fn reading(running: &[Entry<Answer>]) -> u64 {
    running.iter().filter(|entry| entry.answer.is_first()).map(|entry| entry.rows as u64).sum()
}

/// Tokens of the answers that grow.
fn written(running: &[Entry<Answer>]) -> u64 {
    running.iter().map(|entry| entry.answer.written() as u64).sum()
}

/// Deals out the wanted rows of a step to the sequences that it completed.
fn deal(scheduler: &mut Scheduler<Answer>, outcome: &Outcome<'_>) {
    let settle = |entry: &mut Entry<Answer>| {
        entry.reached = entry.sequence.computed() + entry.rows;
        if entry.answer.is_first() {
            entry.answer.tell_prefill(entry.reached);
        }
        if entry.is_wanted() {
            entry.reached += entry.answer.settle(&mut entry.sequence, outcome, entry.logits);
        }
    };
    scheduler.running_mut().par_iter_mut().filter(|entry| entry.rows > 0).for_each(settle);
}

/// Notes what a step computed.
fn note_computed(scheduler: &mut Scheduler<Answer>) {
    for at in 0..scheduler.running().len() {
        let entry = &scheduler.running()[at];
        if entry.rows > 0 {
            scheduler.computed(at, entry.reached);
        }
    }
}

#[cfg(test)]
mod tests;
