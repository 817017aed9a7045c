//! What a plan has done so far, in a private folder, such that a killed run can be gone on with.
//!
//! The record is replaced whole (temporary file, fsync, rename). One process at a time works on a
//! checkout; it waits for the children of one that was killed.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::ledger::{TaskResult, Usage};
use crate::task::Task;
use crate::workspace::{Held, sha256};
use crate::{Error, Result, workspace};

/// The folder of one checkout's plan, locked.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    _lock: Held,
}

/// How far a plan is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The plan as the user named it.
    pub(super) plan: String,
    /// The commit that was checked out when it began; empty where there is no repository.
    pub(super) base: String,
    /// The branch.
    pub(super) branch: Option<String>,
    /// The commit with everything done so far.
    pub(super) head: String,
    pub(super) stage: Stage,
    /// The tasks that are complete, in the order in which they were merged.
    pub(super) done: Vec<Done>,
    /// The task at work in place.
    pub(super) begun: Option<Begun>,
    /// What other plans did in this folder, by their names, the last one last: each may be gone on with after this one.
    #[serde(default)]
    pub(super) others: Vec<(String, Vec<Done>)>,
}

/// The most other plans that a record knows of.
const OTHERS: usize = 20;

impl Record {
    /// The record of a plan that begins, with what a former run of it did. The one that was there before stays known in it.
    pub(super) fn begin(plan: &str, former: Option<Record>) -> Record {
        let mut known = former.map_or_else(Vec::new, |former| {
            let mut known = former.others;
            known.retain(|(name, _)| *name != former.plan);
            known.push((former.plan, former.done));
            known
        });
        let own = known.iter().position(|(name, _)| name == plan);
        let done = own.map_or_else(Vec::new, |own| known.remove(own).1);
        known.drain(..known.len().saturating_sub(OTHERS));
        Record {
            plan: plan.to_owned(),
            base: String::new(),
            branch: None,
            head: String::new(),
            stage: Stage::Running,
            done,
            begun: None,
            others: known,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stage {
    /// Tasks are at work, outside of the checkout.
    Running,
    /// The checkout is brought from `base` to `head`.
    Landing,
    /// The run ended in good order.
    Ended,
}

/// A complete task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) id: String,
    /// Of the task as it was then: a task that says something else now is another one.
    pub(super) digest: String,
    pub(super) commit: Option<String>,
    /// In place: the number of its entry in the workspace's history, if it changed something.
    #[serde(default)]
    pub(super) number: Option<u64>,
    pub(super) files: Vec<String>,
    pub(super) attempts: usize,
    pub(super) tier: Option<String>,
    pub(super) verified: bool,
    /// What its review came to, as the result has it.
    #[serde(default)]
    pub(super) review: Option<String>,
    pub(super) prompt_tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) completion_tokens: u64,
    pub(super) cost_usd: f64,
    pub(super) seconds: f64,
}

/// A task that is changing files in place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Begun {
    pub(super) id: String,
    /// The last number in the workspace's history: what the task did has a greater one.
    #[serde(default)]
    pub(super) after: u64,
}

impl Journal {
    /// Opens and locks the journal of a checkout. Returns once the children of a killed run are gone, with
    /// the file that holds the own ones.
    pub(super) fn open(state: &Path, root: &Path) -> Result<(Journal, File)> {
        let key = sha256(root.as_os_str().as_encoded_bytes());
        let folder = state.join("plans").join(&key[..16]);
        let io = |source| Error::Io { path: folder.clone(), source };
        workspace::make_private(&folder).map_err(io)?;
        let lock = workspace::hold(&folder.join("lock"), root)?;
        // Who goes on with a plan that is complete does so soon.
        workspace::prune_folders(&state.join("plans"), has_ended);
        let children = open_locked(&folder.join("children")).map_err(io)?;
        Ok((Journal { folder, _lock: lock }, children))
    }

    /// A place in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The record of a former run.
    pub(super) fn read(&self) -> Result<Option<Record>> {
        let path = self.path(RECORD);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| Error::BadJournal { path, problem: error.to_string() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    /// Replaces the record; it is on the disk when this returns.
    pub(super) fn write(&self, record: &Record) -> Result<()> {
        let (path, temporary) = (self.path(RECORD), self.path("record.tmp"));
        let io = |source| Error::Io { path: path.clone(), source };
        let text = serde_json::to_vec_pretty(record).map_err(|error| io(error.into()))?;
        let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary);
        written.and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all())).map_err(io)?;
        fs::rename(&temporary, &path).map_err(io)?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(io)
    }
}

const RECORD: &str = "record.json";

/// Whether the plan of a folder ended in good order.
fn has_ended(folder: &Path) -> bool {
    let record = fs::read(folder.join(RECORD)).ok();
    let record = record.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    record.is_some_and(|record| record.stage == Stage::Ended)
}

/// Opens and locks a file, as soon as nobody else holds it.
fn open_locked(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
        // A file system without locks cannot keep two runs apart; it is the user's to do.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(file),
        Err(error) => Err(error.into()),
    }
}

impl Done {
    pub(super) fn new(task: &Task, result: &TaskResult, commit: Option<String>) -> Done {
        Done {
            id: task.id.clone(),
            digest: digest(task),
            commit,
            number: None,
            files: result.files.clone(),
            attempts: result.attempts,
            tier: result.tier.clone(),
            verified: result.verified,
            review: result.review.map(str::to_owned),
            prompt_tokens: result.usage.prompt_tokens,
            cached_tokens: result.usage.cached_tokens,
            completion_tokens: result.usage.completion_tokens,
            cost_usd: result.cost_usd,
            seconds: result.seconds,
        }
    }

    /// Whether a run of the other kind did it: in place, or in worktrees. Only one of the same kind can tell whether it
    /// still stands.
    pub(super) fn is_foreign(&self, in_worktrees: bool) -> bool {
        if in_worktrees { self.number.is_some() } else { self.commit.is_some() }
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            completion_tokens: self.completion_tokens,
        }
    }
}

/// A hash of all that a task says, but not of where its file lies.
pub(super) fn digest(task: &Task) -> String {
    let task = Task { source: String::new(), ..task.clone() };
    // A task is plain data, which is always JSON.
    sha256(&serde_json::to_vec(&task).unwrap_or_default())
}
