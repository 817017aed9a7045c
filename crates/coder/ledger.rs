//! Where the ledger is, and what a run writes into it. A ledger that cannot be written costs a warning, never a run.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use coder_tasks::ledger::{
    Answered, Begin, DayLimit, Ledger, Millis, Record, Routed, Sending, SessionId, TaskRow,
};
use coder_tasks::policy::{Judgement, Route};
use coder_tasks::{Finished, Progress, Task};

use crate::state::StateArgs;

/// Tasks that the rule about escalations is shown: its window of local ones, with room for others between them.
const LOOKED_AT: u32 = 500;

/// Which ledger.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct LedgerArgs {
    /// The file that every attempt is written down in [default: ledger.db in the state folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
}

/// A run's side of the ledger. Threads may share it.
pub(crate) struct Recorder {
    /// Or why there is none.
    open: Result<(Ledger, SessionId), String>,
    /// The tasks at work, by id.
    rows: Mutex<HashMap<String, TaskRow>>,
    /// Whether the last thing could not be written: that was said. Requests are still tried; what can do without a ledger is
    /// not, since each may have to wait.
    failed: AtomicBool,
}

/// A task's side of it.
pub(crate) struct Recording<'a> {
    recorder: &'a Recorder,
    row: Option<TaskRow>,
    attempts: Cell<usize>,
}

impl LedgerArgs {
    /// The file; None if there is neither an argument nor a home.
    pub(crate) fn path(&self, state: &StateArgs) -> Option<PathBuf> {
        self.ledger.clone().or_else(|| Some(state.folder().ok()?.join("ledger.db")))
    }

    /// What became of the tasks so far, for a command that writes nothing; nothing where there is no ledger yet.
    pub(crate) fn routed(&self, state: &StateArgs) -> Vec<Routed> {
        let read = |path: PathBuf| Ledger::look(&path)?.map_or(Ok(Vec::new()), |ledger| routed(&ledger));
        self.path(state).map_or(Ok(Vec::new()), read).unwrap_or_else(|error| {
            eprintln!("warning: {error}; what became of earlier tasks is not known");
            Vec::new()
        })
    }
}

impl Recorder {
    /// Opens the ledger for a run in this folder. A damaged one is put aside, but not a file that the user named.
    pub(crate) fn open(args: &LedgerArgs, state: &StateArgs, folder: &Path) -> Self {
        let Some(path) = args.path(state) else {
            let problem = "there is no home folder for the ledger; name a file with --ledger";
            warn(problem);
            return Self::of(Err(problem.to_owned()));
        };
        let opened = match args.ledger {
            Some(_) => Ledger::open(&path).map(|ledger| (ledger, None)),
            None => Ledger::open_or_renew(&path, now()),
        };
        let opened = opened.and_then(|(ledger, aside)| {
            if let Some(aside) = aside {
                let (path, aside) = (path.display(), aside.display());
                eprintln!("warning: the ledger `{path}` was damaged; it is kept as `{aside}`, and a new one is begun");
            }
            let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
            let session = ledger.session(env!("CARGO_PKG_VERSION"), &folder, now())?;
            Ok((ledger, session))
        });
        Self::of(opened.inspect_err(|error| warn(error)).map_err(|error| error.to_string()))
    }

    /// Writes nothing.
    pub(crate) fn none() -> Self {
        Self::of(Err("run without --no-ledger".to_owned()))
    }

    fn of(open: Result<(Ledger, SessionId), String>) -> Self {
        Self { open, rows: Mutex::default(), failed: AtomicBool::new(false) }
    }

    /// A task begins, about which this was judged.
    pub(crate) fn begin(&self, task: &Task, judgement: &Judgement) -> Recording<'_> {
        let begin = Begin {
            task_id: &task.id,
            file: &task.file,
            category: Some(judgement.classification.category.as_str()),
            eligible: Some(judgement.route == Route::Local),
        };
        let row = self.attempt(|ledger, session| ledger.begin(session, &begin, now()));
        if let Some(row) = row {
            self.rows().insert(task.id.clone(), row);
        }
        Recording { recorder: self, row, attempts: Cell::new(0) }
    }

    /// What became of the tasks so far, for the rule about escalations.
    pub(crate) fn routed(&self) -> Vec<Routed> {
        self.attempt(|ledger, _| routed(ledger)).unwrap_or_default()
    }

    /// A request is about to leave, for a task or for none. The error says why it must not: nothing leaves, and no money is
    /// spent, of which there is no row.
    pub(crate) fn sending(
        &self,
        task: Option<&str>,
        sending: &Sending<'_>,
        limit: &DayLimit,
    ) -> Result<(), String> {
        let refused =
            |reason: &dyn Display| format!("it cannot be written into a ledger, so it is not sent: {reason}");
        let (ledger, session) = self.open.as_ref().map_err(|reason| refused(reason))?;
        // A limit that forgets what was spent is none.
        if sending.most_usd > 0.0
            && let Some(aside) = ledger.put_aside_since(limit.since)
        {
            return Err(format!(
                "the ledger was damaged today, so what the day has cost already is not known; nothing that costs is sent until \
                 tomorrow, or until you move `{}` away",
                aside.display()
            ));
        }
        let row = task.and_then(|task| self.rows().get(task).copied());
        let written = self.heard(ledger.sending(*session, row, sending, limit, now()));
        if written.map_err(|error| refused(&error))? {
            return Ok(());
        }
        Err(format!(
            "it can cost up to ${:.4}, and the day's limit has no room for that; raise `budget.day_usd` or `budget.rungs` in \
             coder.toml",
            sending.most_usd
        ))
    }

    /// Whether it may be sent once more, as far as the day's limit is concerned.
    pub(crate) fn sending_again(&self, sending: &Sending<'_>, limit: &DayLimit) -> bool {
        let open = self.open.as_ref();
        open.is_ok_and(|(ledger, _)| self.heard(ledger.sending_again(sending, limit)).unwrap_or(false))
    }

    /// What came of it.
    pub(crate) fn answered(&self, id: &str, answered: &Answered<'_>) {
        self.attempt(|ledger, _| ledger.answered(id, answered, now()));
    }

    /// US dollars of all requests since a time, by rung.
    pub(crate) fn spent(&self, since: Millis) -> Vec<(String, f64)> {
        self.attempt(|ledger, _| ledger.spent(since)).unwrap_or_default()
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<String, TaskRow>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the ledger that a run can do without. After a failure nothing is tried until a request was
    /// written down.
    fn attempt<T>(&self, act: impl FnOnce(&Ledger, SessionId) -> coder_tasks::Result<T>) -> Option<T> {
        let (ledger, session) = self.open.as_ref().ok().filter(|_| !self.failed.load(Ordering::Relaxed))?;
        self.heard(act(ledger, *session)).ok()
    }

    /// What came of it; of failures in a row the first one is said.
    fn heard<T>(&self, done: coder_tasks::Result<T>) -> coder_tasks::Result<T> {
        let before = self.failed.swap(done.is_err(), Ordering::Relaxed);
        done.inspect_err(|error| {
            if !before {
                warn(error);
            }
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.attempt(|ledger, session| ledger.end_session(session, now()));
    }
}

impl Recording<'_> {
    /// Writes down what the ledger shall know of a step.
    pub(crate) fn see(&self, progress: &Progress<'_>) {
        if let Progress::Attempted(record) = progress {
            self.attempted(record);
        }
    }

    fn attempted(&self, record: &Record) {
        let number = self.attempts.replace(self.attempts.get() + 1);
        if let Some(row) = self.row {
            self.recorder.attempt(|ledger, _| ledger.attempt(row, number, record, now()));
        }
    }

    /// The task has ended, and is merged or not.
    pub(crate) fn finish(self, finished: &Finished) {
        let Some(row) = self.row else { return };
        if let Some(passed) = finished.integrated {
            self.recorder.attempt(|ledger, _| ledger.integrated(row, passed));
        }
        self.recorder.attempt(|ledger, _| ledger.finish(row, &finished.result, now()));
    }
}

fn routed(ledger: &Ledger) -> coder_tasks::Result<Vec<Routed>> {
    Ok(ledger.recent(LOOKED_AT)?.iter().filter_map(Routed::of).collect())
}

fn warn(problem: impl Display) {
    eprintln!("warning: {problem}; the run goes on without a ledger");
}

/// Milliseconds since 1970, UTC.
pub(crate) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_tried_again_after_one_that_could_not_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let args = LedgerArgs { ledger: Some(folder.path().join("ledger.db")) };
        let recorder = Recorder::open(&args, &StateArgs::default(), folder.path());
        let limit = DayLimit { since: 0, usd: 1.0, rung_usd: None };
        let files = [];
        let sending = |id| Sending {
            id,
            purpose: "serve",
            rung: "opus",
            model: "m",
            host: "h",
            files: &files,
            bytes: 1,
            sha256: "",
            most_usd: 0.25,
        };
        let send = |id| recorder.sending(None, &sending(id), &limit);
        send("one").unwrap();
        // A name that is taken is something that SQLite does not write.
        let reason = send("one").unwrap_err();
        assert!(
            reason.contains("not sent") && reason.contains("ledger.db") && reason.contains("UNIQUE"),
            "{reason}"
        );
        send("two").unwrap();
        recorder.answered("two", &Answered::default());
        assert_eq!(recorder.spent(0), [("opus".to_owned(), 0.25)]);
        let reason = Recorder::none().sending(None, &sending("three"), &limit).unwrap_err();
        assert!(reason.contains("without --no-ledger"), "{reason}");
    }
}
