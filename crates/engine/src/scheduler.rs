//! Which sequence gets how many rows of the next step.
//!
//! Pure logic over the block pool; it knows no device and no text. Sequences are served in the order of their
//! priority, then of their arrival: that order is total, the first of it always gets what it needs, and so every
//! sequence ends. What decodes goes before what reads its prompt. Prompts of one priority could share the rows that are
//! left evenly; they are read one after the other, in the order in which they would end then: of those that came together
//! none ends later and most end sooner, what is short does not wait for what is long, and what is long not for ever
//! (after Friedman and Henderson, "Fairness and Efficiency in Web Server Protocols", 2003).

use crate::kv::Cache;
use crate::sequence::Sequence;
use coder_kernels::BLOCK;
use std::cmp::Reverse;

/// What one step has room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// Rows.
    pub(crate) rows: usize,
    /// Sequences.
    pub(crate) sequences: usize,
}

/// A sequence with at most this many tokens to compute decodes; one with more reads its prompt.
const DECODING: usize = BLOCK;

/// A sequence and what it is for.
#[derive(Clone, Debug)]
pub(crate) struct Entry<A> {
    order: (Reverse<i32>, u64),
    /// The tokens and where their keys and values lie.
    pub(crate) sequence: Sequence,
    /// Its owner's.
    pub(crate) answer: A,
    /// Rows of it in the next step; the rest of its pending tokens has to wait.
    pub(crate) rows: usize,
    /// The first of its rows among those of the step whose logits are wanted.
    pub(crate) logits: usize,
    /// The first of its rows among those of the step.
    pub(crate) first: usize,
    /// Up to where it is computed after the step.
    pub(crate) reached: usize,
    /// Rows of its prompt that would be left to read if all that read had shared evenly; below 0 when it would have ended.
    due: i64,
}

impl<A> Entry<A> {
    /// Whether the next step computes all that is pending.
    pub(crate) fn is_completed(&self) -> bool {
        self.rows > 0 && self.rows == self.sequence.pending()
    }

    /// The number that no other sequence of the scheduler has.
    pub(crate) fn number(&self) -> u64 {
        self.order.1
    }
}

/// The sequences that wait, and those that have blocks.
#[derive(Clone, Debug)]
pub(crate) struct Scheduler<A> {
    cache: Cache,
    capacity: Capacity,
    /// In order.
    waiting: Vec<Entry<A>>,
    /// In order.
    running: Vec<Entry<A>>,
    /// Those that read their prompts in this step.
    readers: Vec<usize>,
    arrivals: u64,
    preemptions: u64,
}

impl<A> Scheduler<A> {
    pub(crate) fn new(blocks: usize, capacity: Capacity) -> Self {
        let cache = Cache::new(blocks);
        Self {
            cache,
            capacity,
            waiting: Vec::new(),
            running: Vec::new(),
            readers: Vec::new(),
            arrivals: 0,
            preemptions: 0,
        }
    }

    /// The block pool, to be looked at.
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The same, to be filled before anything is submitted.
    pub(crate) fn cache_mut(&mut self) -> &mut Cache {
        &mut self.cache
    }

    /// How often a sequence lost its blocks to another.
    pub(crate) fn preemptions(&self) -> u64 {
        self.preemptions
    }

    /// Sequences that wait for their first rows, or for their next after they lost their blocks.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The sequences that have blocks, in order.
    pub(crate) fn running(&self) -> &[Entry<A>] {
        &self.running
    }

    /// The same, to be worked on.
    pub(crate) fn running_mut(&mut self) -> &mut [Entry<A>] {
        &mut self.running
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Lets a sequence wait for its turn. Its tokens and those that it will have must fit into the cache. One that is
    /// `apart` is computed from its first token on, whatever the cache holds.
    pub(crate) fn submit(&mut self, priority: i32, tokens: Vec<u32>, apart: bool, answer: A) {
        self.arrivals += 1;
        let order = (Reverse(priority), self.arrivals);
        let sequence = if apart { Sequence::apart(tokens, self.arrivals) } else { Sequence::new(tokens) };
        self.wait(Entry { order, sequence, answer, rows: 0, logits: 0, first: 0, reached: 0, due: 0 });
    }

    fn wait(&mut self, entry: Entry<A>) {
        let at = self.waiting.partition_point(|other| other.order < entry.order);
        self.waiting.insert(at, entry);
    }

    /// Removes the sequences for which `is_over` says so, and gives them back; their blocks are kept for others.
    pub(crate) fn withdraw(&mut self, mut is_over: impl FnMut(&mut A) -> bool) -> Vec<Entry<A>> {
        let mut over: Vec<Entry<A>> =
            self.waiting.extract_if(.., |entry| is_over(&mut entry.answer)).collect();
        let mut running: Vec<Entry<A>> =
            self.running.extract_if(.., |entry| is_over(&mut entry.answer)).collect();
        for entry in &mut running {
            self.cache.end(&mut entry.sequence);
        }
        over.extend(running);
        over
    }

    /// Decides the next step: sets `rows` of every running sequence, and gives it the blocks for them. If anything
    /// waits or runs, at least one row is computed. Those that read have as many rows as `reading` says of the rows of
    /// those that write and of what there is room for.
    pub(crate) fn plan(&mut self, reading: impl FnOnce(usize, usize) -> usize) {
        self.admit();
        self.share_rows(reading);
        let mut at = 0;
        while at < self.running.len() {
            let entry = &mut self.running[at];
            let positions = entry.sequence.computed() + entry.rows;
            if self.cache.reserve(&mut entry.sequence, positions) {
                at += 1;
            } else {
                // The last in the order makes room, if need be this one itself.
                self.preempt_last();
            }
        }
    }

    /// Gives running sequence `at` blocks for `drafts` rows behind its planned ones, as far as there are any to be
    /// had without taking one from another sequence; how many rows have a place.
    pub(crate) fn place_drafts(&mut self, at: usize, drafts: usize) -> usize {
        let Entry { sequence, rows, .. } = &mut self.running[at];
        let planned = sequence.computed() + *rows;
        self.cache.reserve(sequence, planned + drafts);
        (sequence.blocks().len() * BLOCK - planned).min(drafts)
    }

    /// Notes that running sequence `at` is computed up to `computed`.
    pub(crate) fn computed(&mut self, at: usize, computed: usize) {
        self.cache.computed(&mut self.running[at].sequence, computed);
    }

    /// Lets sequences that wait have blocks, in order.
    fn admit(&mut self) {
        let mut at = 0;
        let full = self.running.len() >= self.capacity.sequences;
        let first = self.waiting.first().map(|entry| entry.order.0);
        if full && self.running.last().zip(first).is_some_and(|(last, first)| last.order.0 <= first) {
            return;
        }
        while at < self.waiting.len() {
            if self.cache.is_coming(&mut self.waiting[at].sequence) {
                // What another one computes just now need not be computed twice; who comes after may go first.
                at += 1;
                continue;
            }
            match self.victims(at) {
                None => return,
                Some(0) => {
                    let mut entry = self.waiting.remove(at);
                    self.cache.admit(&mut entry.sequence);
                    entry.due = entry.sequence.pending() as i64;
                    let at = self.running.partition_point(|other| other.order < entry.order);
                    self.running.insert(at, entry);
                }
                Some(victims) => {
                    (0..victims).for_each(|_| self.preempt_last());
                    at = 0;
                }
            }
        }
    }

    /// How many of those that run, from the last on, must lose their blocks so that waiting sequence `at` has room.
    /// `None` if even all of a lower priority are not enough: then none of them has to. Nor has one that those before in
    /// the order wait for, who would come first then.
    fn victims(&mut self, at: usize) -> Option<usize> {
        let Self { cache, capacity, waiting, running, .. } = self;
        let (before, rest) = waiting.split_at_mut(at);
        let Entry { order, sequence, .. } = &mut rest[0];
        // What those that run have yet to take, with one block more to grow, is not to be had.
        let room = |sequence: &Sequence| (sequence.tokens().len() + BLOCK).div_ceil(BLOCK);
        let promised = |entry: &Entry<A>| room(&entry.sequence).saturating_sub(entry.sequence.blocks().len());
        let mut wanted = cache.wanted(sequence) + running.iter().map(promised).sum::<usize>();
        let mut available = cache.available();
        let mut given_up = None;
        for victims in 0..=running.len() {
            let left = running.len() - victims;
            if left == 0 || (left < capacity.sequences && wanted <= available) {
                return Some(victims);
            }
            let victim = running.get(left - 1).filter(|victim| victim.order.0 > order.0)?;
            if before.iter_mut().any(|entry| cache.waits_for(&mut entry.sequence, &victim.sequence)) {
                return None;
            }
            wanted -= promised(victim);
            available += given_up.get_or_insert_with(|| cache.giving_up(sequence)).take(&victim.sequence);
        }
        None
    }

    /// The last in the order loses its blocks and waits again; what it had computed stays as long as there is room.
    fn preempt_last(&mut self) {
        let Some(mut entry) = self.running.pop() else { return };
        self.cache.retire(&mut entry.sequence);
        entry.rows = 0;
        self.preemptions += 1;
        self.wait(entry);
    }

    fn share_rows(&mut self, reading: impl FnOnce(usize, usize) -> usize) {
        let Self { running, readers, capacity, .. } = self;
        readers.clear();
        readers.extend((0..running.len()).filter(|&at| running[at].sequence.pending() > DECODING));
        // The first in the order has a row at least, whatever else decodes.
        let kept = usize::from(readers.first() == Some(&0));
        let mut left = capacity.rows - kept;
        for entry in running.iter_mut() {
            let pending = entry.sequence.pending();
            entry.rows = if pending <= DECODING { pending.min(left) } else { 0 };
            left -= entry.rows;
        }
        if readers.is_empty() {
            return;
        }
        let writing = capacity.rows - kept - left;
        left += kept;
        if left > kept {
            left = reading(writing, left).clamp(1, left);
        }
        let share = left.div_ceil(readers.len()) as i64;
        for &at in &*readers {
            running[at].due -= share;
        }
        running[readers[0]].rows = kept;
        left -= kept;
        readers.sort_unstable_by_key(|&at| (running[at].order.0, running[at].due, at));
        for &at in &*readers {
            let entry = &mut running[at];
            let more = (entry.sequence.pending() - entry.rows).min(left);
            entry.rows += more;
            left -= more;
        }
    }
}

#[cfg(test)]
mod tests;
