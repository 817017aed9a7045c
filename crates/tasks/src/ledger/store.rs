//! The ledger's file: a SQLite database that several processes write at once.
//!
//! An attempt is a row as soon as it has ended, so a killed run loses at most the attempt in progress.
//! What the rows mean is not decided here.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};

use super::entry::{Entry, MECHANICAL, Millis};
use super::request::{self, Answered, DayLimit, Sending, Sent};
use super::{By, Record, TaskResult, Verdict, read, schema};
use crate::workspace::make_private;
use crate::{Error, Result};

/// The ledger. Threads may share it.
pub struct Ledger {
    connection: Mutex<Connection>,
    path: PathBuf,
}

/// A run of the program, as the ledger numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId(pub(super) i64);

/// A task of a run, as the ledger numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskRow(pub(super) i64);

/// What is known of a task before it is begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begin<'a> {
    /// The task's name.
    pub task_id: &'a str,
    /// Its first file.
    pub file: &'a str,
    /// Its category, if it was classified.
    pub category: Option<&'a str>,
    /// Whether the policy lets a local model have it; None if nobody decided.
    pub eligible: Option<bool>,
}

impl Ledger {
    /// Opens a ledger, or begins one where there is no file. A file that is something else is not touched.
    pub fn open(path: &Path) -> Result<Ledger> {
        make_folder(path)?;
        Ledger::with(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
    }

    /// Opens a ledger to look into it; None if there is no file.
    pub fn look(path: &Path) -> Result<Option<Ledger>> {
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { path: path.to_owned(), source }),
            Ok(_) => {}
        }
        Ledger::with(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map(Some)
    }

    /// As [`open`](Self::open), but a damaged ledger is put aside under a name of its own, which is returned, and a
    /// new one is begun. Of several processes that find the damage one does it.
    pub fn open_or_renew(path: &Path, now: Millis) -> Result<(Ledger, Option<PathBuf>)> {
        // SQLite finds a database's log by its name: whoever has the damaged file open while a new one takes its place
        // would write the new one's log into it. So nobody opens one while it is put aside.
        make_folder(path)?;
        let lock_path = with_suffix(path, ".lock");
        let io = |source| Error::Io { path: lock_path.clone(), source };
        let lock = std::fs::OpenOptions::new().create(true).append(true).open(&lock_path).map_err(io)?;
        lock.lock_shared().map_err(io)?;
        match Ledger::open(path) {
            Err(Error::LedgerDamaged { .. }) => {}
            opened => return opened.map(|ledger| (ledger, None)),
        }
        lock.unlock().map_err(io)?;
        lock.lock().map_err(io)?;
        match Ledger::open(path) {
            Err(Error::LedgerDamaged { .. }) => {}
            // Somebody else was first.
            opened => return opened.map(|ledger| (ledger, None)),
        }
        let aside = put_aside(path, now)?;
        Ledger::open(path).map(|ledger| (ledger, Some(aside)))
    }

    fn with(path: &Path, flags: OpenFlags) -> Result<Ledger> {
        let failed = |error| schema::understand(path, error);
        let mut connection =
            Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
        schema::prepare(&mut connection, path)?;
        Ok(Ledger { connection: Mutex::new(connection), path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A damaged ledger that was put aside since then. What was spent since then is not known, if there is one.
    pub fn put_aside_since(&self, since: Millis) -> Option<PathBuf> {
        let name = self.path.file_name()?.to_string_lossy().into_owned();
        let is_since = |aside: &str| {
            let when = aside.strip_prefix(&name)?.strip_prefix(DAMAGED)?;
            let is_log = ["-wal", "-shm"].iter().any(|end| when.ends_with(end));
            let digits = when.split('-').next()?;
            Some(!is_log && digits.parse::<Millis>().ok()? >= since)
        };
        let entries = std::fs::read_dir(self.path.parent()?).ok()?.flatten().map(|entry| entry.path());
        let mut found: Vec<PathBuf> = entries
            .filter(|path| path.file_name().and_then(|name| is_since(&name.to_string_lossy())) == Some(true))
            .collect();
        found.sort();
        found.into_iter().next()
    }

    /// A run of the program begins: which version of it, and in which folder.
    pub fn session(&self, program: &str, folder: &Path, now: Millis) -> Result<SessionId> {
        self.write(|all| {
            all.execute(
                "INSERT INTO sessions (began_ms, program, folder) VALUES (?1, ?2, ?3)",
                params![now, program, folder.to_string_lossy()],
            )?;
            Ok(SessionId(all.last_insert_rowid()))
        })
    }

    /// The run of the program has ended.
    pub fn end_session(&self, session: SessionId, now: Millis) -> Result<()> {
        self.write(|all| {
            all.execute("UPDATE sessions SET ended_ms = ?2 WHERE id = ?1", params![session.0, now])?;
            Ok(())
        })
    }

    /// A task begins.
    pub fn begin(&self, session: SessionId, task: &Begin<'_>, now: Millis) -> Result<TaskRow> {
        self.write(|all| {
            all.execute(
                "INSERT INTO tasks (session, task_id, file, language, category, eligible, began_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    session.0,
                    task.task_id,
                    task.file,
                    crate::language::of(task.file),
                    task.category,
                    task.eligible,
                    now
                ],
            )?;
            Ok(TaskRow(all.last_insert_rowid()))
        })
    }

    /// An attempt has ended; `number` counts from 0 within the task. One that is there already stays as it is.
    pub fn attempt(&self, task: TaskRow, number: usize, record: &Record, now: Millis) -> Result<()> {
        self.write(|all| insert_attempt(all, task, number, record, now))
    }

    /// A task has ended. Attempts of its history that are not there yet are written too.
    pub fn finish(&self, task: TaskRow, result: &TaskResult, now: Millis) -> Result<()> {
        self.write(|all| {
            for (number, record) in result.history.iter().enumerate() {
                insert_attempt(all, task, number, record, now)?;
            }
            all.execute(
                "UPDATE tasks SET ended_ms = ?2, outcome = ?3, verified = ?4, seconds = ?5, error = ?6 WHERE id = ?1",
                params![
                    task.0,
                    now,
                    result.outcome.as_str(),
                    result.verified,
                    finite(result.seconds),
                    result.error
                ],
            )?;
            Ok(())
        })
    }

    /// Whether the task's command still approves after its change was merged with others.
    pub fn integrated(&self, task: TaskRow, passed: bool) -> Result<()> {
        self.write(|all| {
            all.execute("UPDATE tasks SET integrated = ?2 WHERE id = ?1", params![task.0, passed])?;
            Ok(())
        })
    }

    /// A request to a model elsewhere is about to be sent, for a task or for none. False if it does not fit into what the
    /// day may cost: then there is no row, and it must not be sent.
    pub fn sending(
        &self,
        session: SessionId,
        task: Option<TaskRow>,
        sending: &Sending<'_>,
        limit: &DayLimit,
        now: Millis,
    ) -> Result<bool> {
        self.write(|all| request::insert(all, session, task, sending, limit, now))
    }

    /// It is to be sent once more, after an attempt that may have cost something. False if that does not fit.
    pub fn sending_again(&self, sending: &Sending<'_>, limit: &DayLimit) -> Result<bool> {
        self.write(|all| request::again(all, sending, limit))
    }

    /// What came of it.
    pub fn answered(&self, id: &str, answered: &Answered<'_>, now: Millis) -> Result<()> {
        self.write(|all| request::settle(all, id, answered, now))
    }

    /// US dollars of all requests since a time, by rung; those under way with the most that they can cost.
    pub fn spent(&self, since: Millis) -> Result<Vec<(String, f64)>> {
        self.read(|all| request::spent(all, since))
    }

    /// Requests since a time that belong to no task, oldest first.
    pub fn loose(&self, since: Millis) -> Result<Vec<Sent>> {
        self.read(|all| request::loose(all, since))
    }

    /// All tasks that began at `since` or later, oldest first, as they were at one moment.
    pub fn entries(&self, since: Millis) -> Result<Vec<Entry>> {
        self.read(|all| read::entries(all, since))
    }

    /// The last tasks, oldest first: enough for a rule that looks at the last ones, however long the ledger is.
    pub fn recent(&self, tasks: u32) -> Result<Vec<Entry>> {
        self.read(|all| read::recent(all, tasks))
    }

    fn read<T>(&self, act: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
        let mut connection = self.lock();
        // One transaction, so that tasks and attempts are of the same moment.
        let done = connection.transaction().and_then(|all| act(&all));
        done.map_err(|error| schema::understand(&self.path, error))
    }

    fn write<T>(&self, act: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
        let mut connection = self.lock();
        // Immediate, so that waiting for others happens before anything is read.
        let written = connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|all| {
            let done = act(&all)?;
            all.commit().map(|()| done)
        });
        written.map_err(|error| schema::understand(&self.path, error))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connection> {
        // A panic of another thread has rolled its transaction back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What somebody works on is nobody else's business.
fn make_folder(path: &Path) -> Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    let io = |source| Error::Io { path: folder.to_owned(), source };
    make_private(folder).map_err(io)
}

fn insert_attempt(
    all: &Transaction<'_>,
    task: TaskRow,
    number: usize,
    record: &Record,
    now: Millis,
) -> rusqlite::Result<()> {
    let draft = record.draft.as_ref();
    let (verdict, class, reason) = match &record.verdict {
        Verdict::Verified => ("verified", None, None),
        Verdict::Unverified => ("unverified", None, None),
        Verdict::Failed { class, reason } => ("failed", Some(class.as_str()), Some(reason)),
    };
    let tier = match record.by {
        By::Rule => MECHANICAL,
        By::Model => draft.map_or("", |draft| &draft.tier),
    };
    let stages = stages(record);
    let gate = record.gate();
    let usage = record.usage;
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let added = all.execute(
        "INSERT INTO attempts (task, number, tier, model, template, seed, temperature, prompt_tokens,
             cached_tokens, completion_tokens, seconds, cost_usd, lines, verdict, class, gate, reason, ended_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
         ON CONFLICT (task, number) DO NOTHING",
        params![
            task.0,
            count(number as u64),
            tier,
            draft.map_or("", |draft| &draft.model),
            draft.map_or("", |draft| &draft.template),
            // SQLite's integers are signed; the bits are kept.
            draft.map(|draft| draft.seed as i64),
            draft.map(|draft| f64::from(draft.temperature)),
            count(usage.prompt_tokens),
            count(usage.cached_tokens),
            count(usage.completion_tokens),
            finite(record.seconds),
            finite(record.cost_usd),
            count(record.lines),
            verdict,
            class,
            gate,
            reason,
            now
        ],
    )?;
    if added == 0 {
        return Ok(());
    }
    let attempt = all.last_insert_rowid();
    for (position, (name, verdict, seconds)) in stages.iter().enumerate() {
        all.execute(
            "INSERT INTO stages (attempt, position, name, verdict, seconds) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![attempt, position as i64, name, verdict, finite(*seconds)],
        )?;
    }
    Ok(())
}

/// Name, verdict and seconds of the stages that a record tells of.
fn stages(record: &Record) -> Vec<(&str, &str, f64)> {
    let verdict = |passed| if passed { "passed" } else { "failed" };
    let stages = record.stages.iter();
    stages.map(|stage| (stage.stage.as_str(), verdict(stage.passed), stage.seconds)).collect()
}

/// SQLite has no numbers that are none.
pub(super) fn finite(number: f64) -> f64 {
    if number.is_finite() { number } else { 0.0 }
}

/// What a damaged ledger's name goes on with; behind it stands when it was put aside.
const DAMAGED: &str = ".damaged-";

/// Gives a damaged ledger and what belongs to it a name that nothing has. Its log may hold rows that are nowhere
/// else, so it goes along under the matching name.
fn put_aside(path: &Path, now: Millis) -> Result<PathBuf> {
    let mut names = (0..).map(|tried| match tried {
        0 => with_suffix(path, &format!("{DAMAGED}{now}")),
        _ => with_suffix(path, &format!("{DAMAGED}{now}-{tried}")),
    });
    let is_free = |name: &PathBuf| ["", "-wal", "-shm"].iter().all(|end| !with_suffix(name, end).exists());
    // There are more names than files.
    let aside = names.find(is_free).unwrap_or_default();
    for end in ["-wal", "-shm", ""] {
        let from = with_suffix(path, end);
        match std::fs::rename(&from, with_suffix(&aside, end)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            done => done.map_err(|source| Error::Io { path: from, source })?,
        }
    }
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("path", &self.path).finish_non_exhaustive()
    }
}
