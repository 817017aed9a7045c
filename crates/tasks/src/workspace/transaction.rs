//! What a task does to its files: all of it, or nothing.
//!
//! The order is what makes it safe: old contents and the journal's first line, then a line with what is
//! about to be written, each on the disk before the next step; then the new files under temporary names,
//! a last look at whether anybody changed the old ones, and the renames. Without the line that says
//! "done", the next start brings everything back.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::journal::{After, Begin, Content, Entry, Saved, pack, sha256};
use super::replace::{Staged, Stood, stage, take_away};
use super::state::{Journal, State};
use super::{MAX_FILE_BYTES, Snapshot, Workspace};
use crate::edit::Change;
use crate::{Error, Result, path};

/// A task's hold on the files that it names: what they were, and the way back. Dropping it brings them back.
#[derive(Debug)]
pub struct Transaction<'w> {
    workspace: &'w Workspace,
    task_id: String,
    /// The number of the transaction that this one undoes.
    undoes: Option<u64>,
    /// The tasks whose commits it brings, by id.
    commits: BTreeMap<String, String>,
    /// One for each of the task's files, in the task's order.
    base: Vec<Snapshot>,
    /// There as soon as the first change is to be written.
    record: Option<Record>,
    /// Files that were put in place or removed since the last restore.
    placed: BTreeSet<String>,
    /// Checksums of every content that was written.
    written: BTreeSet<String>,
    /// The files as a commit must find them, once note was taken of them; like `base`.
    noted: Option<Vec<Snapshot>>,
    displaced: Vec<Displaced>,
}

/// What another program wrote into a file while a task was at work, and where it is kept now that the file is as it
/// was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Displaced {
    /// The file.
    pub path: String,
    /// The file that holds the content, in the state folder.
    pub kept: String,
}

#[derive(Debug)]
struct Record {
    journal: Journal,
    /// The files as the journal has them, in the order of `base`.
    saved: Vec<Saved>,
    /// Whether a command is at work, or left what could not be brought back.
    sheltered: bool,
}

/// What a file shall be.
pub(super) struct Target {
    pub(super) path: String,
    /// None removes it.
    pub(super) text: Option<String>,
    /// The permission bits; None leaves a new file to the umask.
    pub(super) mode: Option<u32>,
}

impl Workspace {
    /// Reads the files that a task names, and writes nothing yet.
    pub fn begin(&self, task_id: &str, files: &[String]) -> Result<Transaction<'_>> {
        self.transaction(task_id, files, None)
    }

    pub(super) fn transaction(
        &self,
        task_id: &str,
        files: &[String],
        undoes: Option<u64>,
    ) -> Result<Transaction<'_>> {
        self.state()?;
        let base = files.iter().map(|file| self.snapshot(file)).collect::<Result<Vec<_>>>()?;
        Ok(Transaction {
            workspace: self,
            task_id: task_id.to_owned(),
            undoes,
            commits: BTreeMap::new(),
            base,
            record: None,
            placed: BTreeSet::new(),
            written: BTreeSet::new(),
            noted: None,
            displaced: Vec::new(),
        })
    }
}

impl Transaction<'_> {
    /// Says that it brings the commits of these tasks into the checkout, before the first change is written.
    pub(crate) fn brings(&mut self, commits: BTreeMap<String, String>) {
        self.commits = commits;
    }

    /// The task's files as they were at the beginning, in the task's order.
    pub fn base(&self) -> &[Snapshot] {
        &self.base
    }

    /// One of them.
    pub fn snapshot(&self, path: &str) -> Result<&Snapshot> {
        let found = self.base.iter().find(|snapshot| snapshot.path == path);
        found.ok_or_else(|| match path::guarded(path) {
            Some(what) => Error::Guarded { path: path.to_owned(), what },
            None => Error::NotNamed { path: path.to_owned() },
        })
    }

    /// Writes all changes, relative to the state at the beginning, after the old contents are safe. If
    /// one cannot be written, none is; what another program changed meanwhile is left alone.
    pub fn write(&mut self, changes: &[Change]) -> Result<()> {
        let target = |change: &Change| {
            let mut before = self.snapshot(&change.path)?.before.as_ref();
            if let (None, Some(from)) = (before, &change.moved_from) {
                before = self.snapshot(from)?.before.as_ref();
            }
            let (path, text) = (change.path.clone(), change.content.clone());
            Ok(Target { path, text, mode: before.map(|before| before.mode) })
        };
        let targets = changes.iter().map(target).collect::<Result<Vec<_>>>()?;
        self.put(&targets)
    }

    /// The same for files of which each shall be a program or not.
    pub(crate) fn write_programs(&mut self, changes: &[(Change, bool)]) -> Result<()> {
        let target = |(change, program): &(Change, bool)| {
            let before = self.snapshot(&change.path)?.before.as_ref().map(|before| before.mode);
            // Who may read it may run it. A new file that is no program is left to the umask.
            let mode = match (before, *program) {
                (before, true) => before.or(Some(0o644)).map(|mode| mode | (mode & 0o444) >> 2),
                (before, false) => before.map(|mode| mode & !0o111),
            };
            Ok(Target { path: change.path.clone(), text: change.content.clone(), mode })
        };
        let targets = changes.iter().map(target).collect::<Result<Vec<_>>>()?;
        self.put(&targets)
    }

    pub(super) fn put(&mut self, targets: &[Target]) -> Result<()> {
        for (at, target) in targets.iter().enumerate() {
            self.snapshot(&target.path)?;
            if targets[..at].iter().any(|other| other.path == target.path) {
                return Err(Error::SameFile { path: target.path.clone() });
            }
        }
        self.restore()?;
        let written = self.announce(targets).and_then(|()| self.place(targets));
        if written.is_err() {
            // The first error is the one to tell; if this fails as well, the next start brings it back.
            let _ = self.restore();
        }
        written
    }

    /// Writes down what is about to be written.
    fn announce(&mut self, targets: &[Target]) -> Result<()> {
        let state = self.workspace.state()?;
        if self.record.is_none() {
            self.record = Some(self.open(state)?);
        }
        let after = |target: &Target| After {
            path: target.path.clone(),
            sha256: target.text.as_ref().map(|text| sha256(text.as_bytes())),
        };
        let files: Vec<_> = targets.iter().map(after).collect();
        self.written.extend(files.iter().filter_map(|file| file.sha256.clone()));
        match &mut self.record {
            Some(record) => state.append(&mut record.journal, &Entry::Write { files }),
            None => Ok(()),
        }
    }

    /// Keeps the old contents and begins the journal.
    fn open(&self, state: &State) -> Result<Record> {
        let save = |snapshot: &Snapshot| {
            let before = match &snapshot.before {
                Some(before) => {
                    Some(Content { sha256: state.save(before.text.as_bytes())?, mode: before.mode })
                }
                None => None,
            };
            let new_folders = self.workspace.new_folders(&snapshot.path)?;
            Ok(Saved { path: snapshot.path.clone(), before, new_folders })
        };
        let saved = self.base.iter().map(save).collect::<Result<Vec<_>>>()?;
        let begin = Begin {
            task_id: self.task_id.clone(),
            time_ms: unix_ms(),
            undoes: self.undoes,
            commits: self.commits.clone(),
            files: saved.clone(),
        };
        Ok(Record { journal: state.begin(begin)?, saved, sheltered: false })
    }

    fn place(&mut self, targets: &[Target]) -> Result<()> {
        let mut staged: Vec<(&Target, Option<Staged>)> = Vec::new();
        for target in targets {
            let (folder, name) = path::split(&target.path);
            let file = match &target.text {
                Some(text) => {
                    let dir = self.workspace.create_folders(folder, &target.path)?;
                    let made = stage(&dir, name, text.as_bytes(), target.mode);
                    Some(made.map_err(self.workspace.io(&target.path))?)
                }
                None => None,
            };
            staged.push((target, file));
        }
        for target in targets {
            let now = self.workspace.snapshot(&target.path)?;
            if now.text() != self.snapshot(&target.path)?.text() {
                return Err(Error::Changed { path: target.path.clone() });
            }
        }
        staged.into_iter().try_for_each(|(target, file)| self.place_one(target, file))
    }

    /// Puts one file in its place, or removes it, and looks at what really was replaced: what another
    /// program wrote a moment ago comes back.
    fn place_one(&mut self, target: &Target, file: Option<Staged>) -> Result<()> {
        let io = self.workspace.io(&target.path);
        let base = self.snapshot(&target.path)?.text().map(str::to_owned);
        self.placed.insert(target.path.clone());
        let (mut moved, stood) = match file {
            Some(mut file) => {
                let stood = file.place().map_err(&io)?;
                (file, stood)
            }
            None => {
                let (folder, name) = path::split(&target.path);
                let Some(dir) = self.workspace.folder(folder, &target.path)? else { return Ok(()) };
                let Some(moved) = take_away(&dir, name).map_err(&io)? else { return Ok(()) };
                (moved, Stood::Old)
            }
        };
        let old =
            moved.old().map(|(dir, name)| self.workspace.read_in(dir, name, &target.path, MAX_FILE_BYTES));
        let same = match (stood, old) {
            (Stood::Unknown, _) => true,
            (_, Some(Ok(Some((before, 1))))) => Some(before.text) == base,
            (Stood::Nothing, None) => base.is_none(),
            _ => false,
        };
        if !same {
            moved.put_back().map_err(&io)?;
            self.placed.remove(&target.path);
            return Err(Error::Changed { path: target.path.clone() });
        }
        moved.finish().map_err(&io)
    }

    /// The task's files that were not written, and are as they were at the beginning.
    pub fn untouched(&self) -> Vec<String> {
        let same = |before: &&Snapshot| {
            let now = self.workspace.snapshot(&before.path);
            !self.placed.contains(&before.path) && now.is_ok_and(|now| now.text() == before.text())
        };
        self.base.iter().filter(same).map(|before| before.path.clone()).collect()
    }

    /// After a command of the task: those of its `untouched` files that are different now were changed by the command,
    /// and are brought back with those that were written.
    pub fn claim(&mut self, untouched: Vec<String>) {
        let still = self.untouched();
        self.placed.extend(untouched.into_iter().filter(|path| !still.contains(path)));
    }

    /// Takes note of the task's files as they are: a [`commit`](Transaction::commit) accepts no others. Those that are not
    /// as they were when note was taken before.
    pub fn note(&mut self) -> Result<Vec<String>> {
        let now = self.base.iter().map(|file| self.workspace.snapshot(&file.path));
        let now = now.collect::<Result<Vec<_>>>()?;
        let before = self.noted.as_ref().unwrap_or(&now);
        let changed = before.iter().zip(&now).filter(|(before, now)| before.text() != now.text());
        let changed = changed.map(|(_, now)| now.path.clone()).collect();
        self.noted = Some(now);
        Ok(changed)
    }

    /// Whether a file was as at the beginning when note was taken of it.
    pub fn is_as_before(&self, path: &str) -> bool {
        let mut files = self.base.iter().zip(self.noted.iter().flatten());
        files.any(|(before, now)| now.path == path && before.text() == now.text())
    }

    /// Changes as they came out: with what a command made of the files, and of other files of the task.
    pub fn settled(&self, changes: &[Change]) -> Vec<Change> {
        let mut settled = changes.to_vec();
        for (before, now) in self.base.iter().zip(self.noted.iter().flatten()) {
            let content = now.text().map(str::to_owned);
            match settled.iter_mut().find(|change| change.path == now.path) {
                Some(change) => change.content = content,
                None if before.text() == now.text() => {}
                None => settled.push(Change { path: now.path.clone(), content, moved_from: None }),
            }
        }
        settled
    }

    /// Brings every file back to its state at the beginning: bytes and mode, or no file and none of the
    /// folders made for it. What somebody else wrote into it meanwhile is kept in the store, and is among
    /// [`displaced`](Transaction::displaced).
    pub fn restore(&mut self) -> Result<()> {
        self.noted = None;
        let Some(record) = &mut self.record else { return Ok(()) };
        let state = self.workspace.state()?;
        let mut first = Ok(());
        for saved in &record.saved {
            let mut one = || -> Result<()> {
                if self.placed.contains(&saved.path) {
                    let ours = |sha256: &str| self.written.contains(sha256) || saved.is(sha256);
                    for sha256 in self.workspace.bring_back(state, saved, ours)? {
                        let (path, kept) = (saved.path.clone(), state.kept(&sha256));
                        self.displaced.push(Displaced { path: path.clone(), kept });
                        state.append(&mut record.journal, &Entry::Displaced { path, sha256 })?;
                    }
                    self.placed.remove(&saved.path);
                }
                self.workspace.remove_folders(&saved.new_folders)
            };
            // One file that cannot be brought back is no reason to leave the others.
            first = first.and(one());
        }
        first
    }

    /// Keeps what another program may have written into a file that is not the task's, and that is about to be brought
    /// back.
    pub fn set_aside(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let state = self.workspace.state()?;
        let (path, sha256) = (path.to_owned(), state.save(content)?);
        self.displaced.push(Displaced { path: path.clone(), kept: state.kept(&sha256) });
        match &mut self.record {
            Some(record) => state.append(&mut record.journal, &Entry::Displaced { path, sha256 }),
            None => Ok(()),
        }
    }

    /// Keeps contents of files that are not the task's and that a command may spoil, until [`release`](Self::release). If
    /// that never comes, the next start says where they are.
    pub fn shelter<'f>(&mut self, files: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> Result<()> {
        let Some(record) = &mut self.record else { return Ok(()) };
        self.workspace.state()?.shelter(record.journal.number(), &pack(files))?;
        record.sheltered = true;
        Ok(())
    }

    /// These files are as they were.
    pub fn release(&mut self) -> Result<()> {
        if let Some(record) = &mut self.record {
            self.workspace.state()?.release(record.journal.number());
            record.sheltered = false;
        }
        Ok(())
    }

    /// What others wrote into files that were brought back since the beginning.
    pub fn displaced(&self) -> &[Displaced] {
        &self.displaced
    }

    /// Ends the task with its files as they are now, also where its command changed them; those that are
    /// different from the beginning, in the task's order. If they are not as note was taken of them, or this fails in
    /// another way, the task has not ended, and its files can be brought back.
    pub fn commit(&mut self) -> Result<Vec<String>> {
        let Some(record) = &mut self.record else { return Ok(Vec::new()) };
        let state = self.workspace.state()?;
        let mut files = Vec::new();
        for (at, before) in self.base.iter().enumerate() {
            let now = self.workspace.snapshot(&before.path)?;
            if self.noted.as_ref().is_some_and(|noted| noted[at].text() != now.text()) {
                // No command is at work: it is another program's, and left as it is.
                self.placed.remove(&now.path);
                return Err(Error::Changed { path: now.path });
            }
            if now.text() != before.text() {
                if let Some(text) = now.text() {
                    state.save(text.as_bytes())?;
                }
                let sha256 = now.text().map(|text| sha256(text.as_bytes()));
                files.push(After { path: now.path, sha256 });
            }
        }
        let changed = files.iter().map(|file| file.path.clone()).collect();
        let number = record.journal.number();
        let says = self.undoes.is_some() || !self.commits.is_empty() || !self.displaced.is_empty();
        if files.is_empty() && !says {
            // There is nothing to undo, and the history has room for a limited number of tasks.
            self.record = None;
            let _ = state.forget(number);
            return Ok(changed);
        }
        state.append(&mut record.journal, &Entry::Commit { files })?;
        // Done is done; a journal that keeps its name is given the right one by the next start.
        self.record = None;
        let _ = state.keep(number);
        Ok(changed)
    }

    /// Ends the task with its files as they were.
    pub fn abort(mut self) -> Result<()> {
        self.take_back()
    }

    fn take_back(&mut self) -> Result<()> {
        self.restore()?;
        if self.record.as_ref().is_some_and(|record| record.sheltered) {
            // The journal stays open, so that the next start says where that is which could not be brought back.
            return Ok(());
        }
        let Some(mut record) = self.record.take() else { return Ok(()) };
        let (state, number) = (self.workspace.state()?, record.journal.number());
        if self.displaced.is_empty() {
            return state.forget(number);
        }
        // A task that changed nothing: its journal says where that lies which others wrote.
        state.append(&mut record.journal, &Entry::Commit { files: Vec::new() })?;
        state.keep(number)
    }

    /// Where the old content of a file is kept; None if it did not exist, or nothing was to be written.
    pub fn backup(&self, path: &str) -> Option<std::path::PathBuf> {
        let saved = self.record.as_ref()?.saved.iter().find(|saved| saved.path == path)?;
        let state = self.workspace.state().ok()?;
        saved.before.as_ref().map(|before| state.content_path(&before.sha256))
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // If this fails, the journal is still there, and the next start does it.
        let _ = self.take_back();
    }
}

fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
