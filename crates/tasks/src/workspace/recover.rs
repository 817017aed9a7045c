//! After a crash: what a transaction did that never ended is taken back.

use super::journal::{After, Entry, Log, Saved, sha256, unpack};
use super::replace::sweep;
use super::state::State;
use super::{Snapshot, Workspace};
use crate::{Result, path};

/// A run that was killed, and what became of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// The task's id.
    pub task_id: String,
    /// The files that it had changed, or was about to; they are as they were before it.
    pub files: Vec<String>,
    /// Files that somebody changed after the crash, or a command before it, so that they were left as they are; and where
    /// the content before the task, or before the command, is kept, if there was one.
    pub left: Vec<(String, Option<std::path::PathBuf>)>,
}

impl Workspace {
    /// Takes back what killed runs did in this workspace, and tells about them, each time only once.
    ///
    /// This needs the workspace's lock, which is held from here on; if another process holds it, the
    /// error is [`Error::Busy`](crate::Error::Busy).
    pub fn recover(&self) -> Result<Vec<Interrupted>> {
        self.state()?;
        let mut told = self.interrupted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(std::mem::take(&mut told))
    }

    /// Goes through the journals that never ended.
    pub(super) fn replay(&self, state: &State) -> Result<Vec<Interrupted>> {
        let mut found = Vec::new();
        for (number, _) in state.numbers()?.into_iter().filter(|(_, open)| *open) {
            let bytes = state.bytes(number, true)?;
            match Log::read(&bytes) {
                // Nothing is written before the first line is whole.
                None => state.forget(number)?,
                Some(Log { commit: Some(_), .. }) => state.keep(number)?,
                Some(log) => found.extend(self.roll_back(state, number, &bytes, &log)?),
            }
        }
        Ok(found)
    }

    fn roll_back(&self, state: &State, number: u64, bytes: &[u8], log: &Log) -> Result<Option<Interrupted>> {
        let mut files = Vec::new();
        let mut left: Vec<(Snapshot, &Saved)> = Vec::new();
        for saved in &log.begin.files {
            let (path, is_written) = (&saved.path, log.written.contains_key(&saved.path));
            match self.snapshot(path) {
                Ok(now) if !is_written && is_before(&now, saved) => continue,
                // What stands there is the old content, or what the task wrote.
                Ok(now) if is_written && is_ours(&now, saved, log) => {
                    let written = |sha256: &str| log.wrote(path, sha256) || saved.is(sha256);
                    self.bring_back(state, saved, written)?;
                    files.push(path.clone());
                }
                Ok(now) => left.push((now, saved)),
                // What cannot be looked at is not what the task wrote.
                Err(_) => left.push((Snapshot { path: path.clone(), before: None }, saved)),
            }
            // A folder that is gone, or is no folder any more, has no strays.
            if let Ok(Some(dir)) = self.folder(path::split(path).0, path) {
                sweep(&dir).map_err(self.io(path))?;
            }
            self.remove_folders(&saved.new_folders)?;
        }
        let spoiled = self.spoiled(state, number)?;
        let rest = Rest::of(&left, &spoiled, log);
        if rest.files.is_empty() && rest.displaced.is_empty() && log.displaced.is_empty() {
            state.forget(number)?;
        } else {
            rest.keep(state, number, bytes)?;
        }
        let kept = |(now, saved): (Snapshot, &Saved)| {
            (now.path, saved.before.as_ref().map(|before| state.content_path(&before.sha256)))
        };
        let spoiled = spoiled.into_iter().map(|(path, sha256)| (path, Some(state.content_path(&sha256))));
        let left: Vec<_> = left.into_iter().map(kept).chain(spoiled).collect();
        let is_told = !files.is_empty() || !left.is_empty();
        Ok(is_told.then(|| Interrupted { task_id: log.begin.task_id.clone(), files, left }))
    }

    /// The files that are not as they were before a command that was cut off, and the names of what they held. Whether it
    /// was the command or somebody after it, nobody knows, so they are left as they are.
    fn spoiled(&self, state: &State, number: u64) -> Result<Vec<(String, String)>> {
        let packed = state.sheltered(number)?;
        let is_same = |path: &str, content: &[u8]| {
            let path = self.path.join(path);
            let is_file =
                path.symlink_metadata().is_ok_and(|now| now.is_file() && now.len() == content.len() as u64);
            is_file && std::fs::read(path).is_ok_and(|now| now == content)
        };
        let spoiled = unpack(&packed).into_iter().filter(|(path, content)| !is_same(path, content));
        spoiled.map(|(path, content)| Ok((path, state.save(content)?))).collect()
    }
}

/// What the history remembers of a run that was killed.
struct Rest {
    /// Files that the run wrote and that are others now: they can be undone on request.
    files: Vec<After>,
    /// Names of contents by their files: what other programs wrote, or had written before it was spoiled. Among them are
    /// the task's files that the run never wrote. Whoever changed one since need not have been its command, so that no
    /// undo takes the change back.
    displaced: Vec<(String, String)>,
}

impl Rest {
    fn of(left: &[(Snapshot, &Saved)], spoiled: &[(String, String)], log: &Log) -> Rest {
        let mut rest = Rest { files: Vec::new(), displaced: spoiled.to_vec() };
        for (now, saved) in left {
            match (&saved.before, log.written.contains_key(&saved.path)) {
                (_, true) => rest.files.push(After { path: now.path.clone(), sha256: content(now) }),
                (Some(before), false) => rest.displaced.push((now.path.clone(), before.sha256.clone())),
                (None, false) => {}
            }
        }
        rest
    }

    /// Makes it a part of the history.
    fn keep(self, state: &State, number: u64, bytes: &[u8]) -> Result<()> {
        let mut journal = state.reopen(number, bytes)?;
        for (path, sha256) in self.displaced {
            state.append(&mut journal, &Entry::Displaced { path, sha256 })?;
        }
        state.append(&mut journal, &Entry::Commit { files: self.files })?;
        state.keep(number)
    }
}

fn is_ours(now: &Snapshot, saved: &Saved, log: &Log) -> bool {
    let written = log.written.get(&saved.path);
    is_before(now, saved) || written.is_some_and(|written| written.contains(&content(now)))
}

fn is_before(now: &Snapshot, saved: &Saved) -> bool {
    content(now).as_deref() == saved.before.as_ref().map(|before| before.sha256.as_str())
}

fn content(now: &Snapshot) -> Option<String> {
    now.text().map(|text| sha256(text.as_bytes()))
}
