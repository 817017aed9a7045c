//! The routes of the message queue.
//!
//! A message is pushed, waits for its turn, is taken by one worker, and is then either finished or given
//! back. What a worker does not finish in time is given to another one; what fails too often is put aside
//! for a person to look at.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use db::Pool;

/// The most bytes of one message.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The most messages that wait at the same time.
pub const MAX_WAITING: usize = 10_000;

/// How often a message may fail before it is put aside.
pub const MAX_FAILURES: u32 = 3;

/// How many ticks a worker has for a message.
pub const LEASE_TICKS: u64 = 30;

/// The number of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m-{}", self.0)
    }
}

/// The name of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker(pub String);

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The message is empty.
    Empty,
    /// The message is larger than [`MAX_MESSAGE_BYTES`].
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// [`MAX_WAITING`] messages wait already.
    Full,
    /// There is no such message, or it is not in that worker's hands.
    Unknown(MessageId),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Empty => write!(f, "the message is empty"),
            Refusal::TooLarge { bytes } => {
                write!(f, "the message has {bytes} bytes, the limit is {MAX_MESSAGE_BYTES}")
            }
            Refusal::Full => write!(f, "{MAX_WAITING} messages wait already"),
            Refusal::Unknown(id) => write!(f, "{id} is not in this worker's hands"),
        }
    }
}

impl std::error::Error for Refusal {}

/// The status code that stands for a refusal.
pub fn status(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::Empty => 400,
        Refusal::TooLarge { .. } => 413,
        Refusal::Full => 503,
        Refusal::Unknown(_) => 404,
    }
}

/// A message in a worker's hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its number.
    pub id: MessageId,
    /// Its text.
    pub text: String,
    /// How often it failed before.
    pub failures: u32,
}

/// What is known of a message beside its text.
#[derive(Clone, Debug)]
struct Entry {
    failures: u32,
    lease: Option<Lease>,
}

/// Who has a message, and until when.
#[derive(Clone, Debug)]
struct Lease {
    worker: Worker,
    until: u64,
}

/// Counts of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that wait.
    pub waiting: usize,
    /// Messages in the hands of workers.
    pub taken: usize,
    /// Messages that were put aside.
    pub aside: usize,
}

/// The queue. Time is counted in ticks, which the caller gives.
pub struct MessageQueue {
    pool: Pool,
    entries: BTreeMap<MessageId, Entry>,
    waiting: VecDeque<MessageId>,
    aside: Vec<MessageId>,
    now: u64,
}

impl MessageQueue {
    /// An empty queue that keeps its messages in this pool.
    pub fn new(pool: Pool) -> MessageQueue {
        MessageQueue {
            pool,
            entries: BTreeMap::new(),
            waiting: VecDeque::new(),
            aside: Vec::new(),
            now: 0,
        }
    }

    /// POST /messages: adds a message at the end.
    pub fn push(&mut self, text: &str) -> Result<MessageId, Refusal> {
        if text.trim().is_empty() {
            return Err(Refusal::Empty);
        }
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(Refusal::TooLarge { bytes: text.len() });
        }
        if self.waiting.len() >= MAX_WAITING {
            return Err(Refusal::Full);
        }
        let id = MessageId(self.pool.insert(text));
        self.entries.insert(id, Entry { failures: 0, lease: None });
        self.waiting.push_back(id);
        Ok(id)
    }

    /// POST /messages/take: gives the first message to a worker, if one waits.
    pub fn take(&mut self, worker: &Worker) -> Option<Delivery> {
        let id = self.waiting.pop_front()?;
        let entry = self.entries.get_mut(&id)?;
        let until = self.now + LEASE_TICKS;
        entry.lease = Some(Lease { worker: worker.clone(), until });
        let failures = entry.failures;
        let text = self.pool.get(id.0)?;
        Some(Delivery { id, text, failures })
    }

    /// DELETE /messages/{id}: the worker has finished it.
    pub fn finish(&mut self, worker: &Worker, id: MessageId) -> Result<(), Refusal> {
        self.held_by(worker, id)?;
        self.entries.remove(&id);
        self.pool.remove(id.0);
        Ok(())
    }

    /// POST /messages/{id}/fail: the worker could not do it. Whether it was put aside.
    pub fn fail(&mut self, worker: &Worker, id: MessageId) -> Result<bool, Refusal> {
        self.held_by(worker, id)?;
        Ok(self.give_back(id))
    }

    /// GET /messages/{id}: the text of a message, whoever has it.
    pub fn show(&self, id: MessageId) -> Result<String, Refusal> {
        self.pool.get(id.0).ok_or(Refusal::Unknown(id))
    }

    /// GET /counts.
    pub fn counts(&self) -> Counts {
        let taken = self.entries.values().filter(|entry| entry.lease.is_some()).count();
        Counts { waiting: self.waiting.len(), taken, aside: self.aside.len() }
    }

    /// GET /aside: what a person should look at, the oldest first.
    pub fn aside(&self) -> &[MessageId] {
        &self.aside
    }

    /// POST /aside/{id}/again: lets a message that was put aside begin anew.
    pub fn again(&mut self, id: MessageId) -> Result<(), Refusal> {
        let place = self.aside.iter().position(|other| *other == id);
        let place = place.ok_or(Refusal::Unknown(id))?;
        self.aside.remove(place);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.failures = 0;
        }
        self.waiting.push_back(id);
        Ok(())
    }

    /// Time goes on; messages whose lease is over fail. How many.
    pub fn tick(&mut self, ticks: u64) -> usize {
        self.now += ticks;
        let now = self.now;
        let over = |entry: &Entry| {
            entry.lease.as_ref().is_some_and(|lease| lease.until <= now)
        };
        let late: Vec<MessageId> = self
            .entries
            .iter()
            .filter(|(_, entry)| over(entry))
            .map(|(id, _)| *id)
            .collect();
        for id in &late {
            self.give_back(*id);
        }
        late.len()
    }

    /// Removes everything that waits. How many messages.
    pub fn purge(&mut self) -> usize {
        let waiting = std::mem::take(&mut self.waiting);
        for id in &waiting {
            self.entries.remove(id);
            self.pool.remove(id.0);
        }
        waiting.len()
    }

    fn held_by(&self, worker: &Worker, id: MessageId) -> Result<(), Refusal> {
        let lease = self.entries.get(&id).and_then(|entry| entry.lease.as_ref());
        match lease {
            Some(lease) if lease.worker == *worker => Ok(()),
            _ => Err(Refusal::Unknown(id)),
        }
    }

    /// Counts a failure; the message waits again, or is put aside.
    fn give_back(&mut self, id: MessageId) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else {
            return false;
        };
        entry.lease = None;
        entry.failures += 1;
        let aside = entry.failures >= MAX_FAILURES;
        match aside {
            true => self.aside.push(id),
            false => self.waiting.push_back(id),
        }
        aside
    }
}

/// The worker that a request names.
///
/// Names are compared as they are: no letter case, no spaces are changed.
pub fn worker(name: &str) -> Option<Worker> {
    let name = name.trim();
    (!name.is_empty()).then(|| Worker(name.to_owned()))
}

/// The message that a path names, such as `/messages/17` or `/messages/17/fail`.
///
/// Anything else names none: other paths, signs, spaces, and numbers
/// that are too large.
pub fn message_id(path: &str) -> Option<MessageId> {
    let number = path.strip_prefix("/messages/")?.split('/').next()?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = number.parse();
    number.ok().map(MessageId)
}

