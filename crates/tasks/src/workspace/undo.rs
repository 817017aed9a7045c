//! Taking tasks back that are done.

use std::collections::{BTreeMap, BTreeSet};

use super::journal::{Log, sha256};
use super::state::State;
use super::transaction::Target;
use super::{Displaced, Workspace};
use crate::{Error, Result};

/// A task that is done, as the history of a workspace has it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Done {
    /// Its number, from 1, in the order in which tasks began.
    pub number: u64,
    /// The task's id.
    pub task_id: String,
    /// When it began, in milliseconds since 1970.
    pub time_ms: u64,
    /// The files that it changed.
    pub files: Vec<String>,
    /// Whether it was undone since.
    pub undone: bool,
    /// The number of the task that this entry undid, if that is what it is.
    pub undoes: Option<u64>,
    /// The tasks whose commits it brought into the checkout, by id. They are git's to take back.
    pub commits: BTreeMap<String, String>,
    /// What other programs wrote into files meanwhile that were brought back.
    pub displaced: Vec<Displaced>,
}

impl Workspace {
    /// What was done in this workspace, oldest first. Tasks that changed nothing are not in it, unless something is kept
    /// that another program wrote meanwhile.
    pub fn history(&self) -> Result<Vec<Done>> {
        let state = self.state()?;
        Ok(listed(state, &state.history()?))
    }

    /// Brings the files of a task back to what they were before it: bytes, mode, and folders. `which` is
    /// the task's id or its number in the history, which `#` before it makes clear; None is the last task that is not
    /// undone yet.
    ///
    /// A file that was changed since is an error, and then nothing is undone, unless `force` is set; what
    /// stands there is kept in any case, because this is a task of its own, which can be undone in turn.
    pub fn undo(&self, which: Option<&str>, force: bool) -> Result<Done> {
        let state = self.state()?;
        let history = state.history()?;
        let known: Vec<Done> =
            listed(state, &history).into_iter().filter(|done| !done.files.is_empty()).collect();
        let nothing = |problem: &str| Error::NothingToUndo {
            task: which.unwrap_or("").to_owned(),
            problem: problem.to_owned(),
        };
        let done = find(&known, which)?.ok_or_else(|| {
            nothing(match which {
                Some(_) => "no such task was done in this workspace; see `coder undo --list`",
                None => "nothing that was done in this workspace is left to undo; see `coder undo --list`",
            })
        })?;
        if done.undone {
            return Err(nothing("it is undone already; see `coder undo --list`"));
        }
        let log = history.iter().find(|(number, _)| *number == done.number).map(|(_, log)| log);
        let log = log.ok_or_else(|| nothing("its record is gone"))?;
        self.take_back(done, log, force)?;
        Ok(done.clone())
    }

    fn take_back(&self, done: &Done, log: &Log, force: bool) -> Result<()> {
        let state = self.state()?;
        let mut transaction = self.transaction(&done.task_id, &done.files, Some(done.number))?;
        let mut targets = Vec::new();
        for after in log.commit.iter().flatten() {
            let Some(saved) = log.saved(&after.path) else { continue };
            let now = transaction.snapshot(&after.path)?.text().map(|text| sha256(text.as_bytes()));
            let before = saved.before.as_ref().map(|before| before.sha256.clone());
            if now != after.sha256 && now != before && !force {
                let (path, task_id) = (after.path.clone(), done.task_id.clone());
                return Err(Error::ChangedSince { path, task_id });
            }
            let text = saved.before.as_ref().map(|before| state.load(&before.sha256)).transpose()?;
            let mode = saved.before.as_ref().map(|before| before.mode);
            targets.push(Target { path: after.path.clone(), text, mode });
        }
        transaction.put(&targets)?;
        for saved in &log.begin.files {
            self.remove_folders(&saved.new_folders)?;
        }
        transaction.commit().map(drop)
    }
}

/// The entry that is meant. A word that is the id of one and the number of another means neither.
fn find<'d>(known: &'d [Done], which: Option<&str>) -> Result<Option<&'d Done>> {
    // Of the same task several times, the one that is not undone yet.
    let last = |is: &dyn Fn(&Done) -> bool| {
        let mut fitting = known.iter().rev().filter(|done| is(done));
        fitting.clone().find(|done| !done.undone).or_else(|| fitting.next())
    };
    let Some(which) = which else { return Ok(last(&|done| !done.undone && done.undoes.is_none())) };
    let numbered = |number: &str| known.iter().find(|done| done.number.to_string() == number);
    if let Some(number) = which.strip_prefix('#') {
        return Ok(numbered(number));
    }
    let named =
        last(&|done| done.undoes.is_none() && (done.task_id == which || done.commits.contains_key(which)));
    if let Some(Done { number, commits, .. }) = named
        && let Some(commit) = commits.get(which)
    {
        return Err(Error::Committed { task: which.to_owned(), commit: commit.clone(), number: *number });
    }
    match (named, numbered(which)) {
        (Some(named), Some(numbered)) if named.number != numbered.number => Err(Error::NothingToUndo {
            task: which.to_owned(),
            problem: format!(
                "it is the id of the task with the number `{0}`, and the number of task `{1}`; say `--number {0}` or `--number {which}`",
                named.number, numbered.task_id
            ),
        }),
        (named, numbered) => Ok(named.or(numbered)),
    }
}

/// The history as a list. An entry is undone if an entry that undoes it is there and is not undone itself.
fn listed(state: &State, history: &[(u64, Log)]) -> Vec<Done> {
    let mut undone: BTreeSet<u64> = BTreeSet::new();
    for (number, log) in history.iter().rev() {
        // From the newest on: what undoes an entry is younger than it. One that is kept only for what others wrote came to
        // nothing.
        let came_to_nothing = !log.displaced.is_empty() && log.commit.iter().flatten().next().is_none();
        let holds = !undone.contains(number) && !came_to_nothing;
        if let Some(undoes) = log.begin.undoes.filter(|_| holds) {
            undone.insert(undoes);
        }
    }
    let displaced =
        |(path, sha256): &(String, String)| Displaced { path: path.clone(), kept: state.kept(sha256) };
    let done = |(number, log): &(u64, Log)| Done {
        number: *number,
        task_id: log.begin.task_id.clone(),
        time_ms: log.begin.time_ms,
        files: log.commit.iter().flatten().map(|file| file.path.clone()).collect(),
        undone: undone.contains(number),
        undoes: log.begin.undoes,
        commits: log.begin.commits.clone(),
        displaced: log.displaced.iter().map(displaced).collect(),
    };
    let told = |done: &Done| !done.files.is_empty() || !done.displaced.is_empty();
    history.iter().map(done).filter(told).collect()
}
