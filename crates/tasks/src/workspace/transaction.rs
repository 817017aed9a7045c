//! What a task does to its files: all of it, or nothing.

use super::{Backup, Snapshot, Workspace};
use crate::edit::Change;
use crate::{Error, Result};

/// A task's hold on the files that it names: what they were, and the way back.
#[derive(Debug)]
pub struct Transaction<'w> {
    workspace: &'w Workspace,
    task_id: String,
    /// One for each of the task's files, in the task's order.
    base: Vec<Snapshot>,
    /// One for each of them as soon as the first change is to be written.
    backups: Vec<Backup>,
    /// Whether a file may be different from its snapshot, through this transaction.
    dirty: bool,
    /// Paths that the last write changed.
    changed: Vec<String>,
}

impl Workspace {
    /// Reads the files that a task names, and writes nothing yet.
    pub fn begin(&self, task_id: &str, files: &[String]) -> Result<Transaction<'_>> {
        let base = files.iter().map(|file| self.snapshot(file)).collect::<Result<Vec<_>>>()?;
        Ok(Transaction {
            workspace: self,
            task_id: task_id.to_owned(),
            base,
            backups: Vec::new(),
            dirty: false,
            changed: Vec::new(),
        })
    }
}

impl Transaction<'_> {
    /// The task's files as they were at the beginning, in the task's order.
    pub fn base(&self) -> &[Snapshot] {
        &self.base
    }

    /// One of them.
    pub fn snapshot(&self, path: &str) -> Result<&Snapshot> {
        let found = self.base.iter().find(|snapshot| snapshot.path == path);
        found.ok_or_else(|| Error::NotNamed { path: path.to_owned() })
    }

    /// Writes all changes, relative to the state at the beginning, after the old contents are safe. If
    /// one cannot be written, none is.
    pub fn write(&mut self, changes: &[Change]) -> Result<()> {
        for (at, change) in changes.iter().enumerate() {
            self.snapshot(&change.path)?;
            if changes[..at].iter().any(|other| other.path == change.path) {
                return Err(Error::SameFile { path: change.path.clone() });
            }
        }
        self.restore()?;
        if self.backups.is_empty() {
            let backup = |snapshot: &Snapshot| self.workspace.backup(&self.task_id, snapshot.clone());
            self.backups = self.base.iter().map(backup).collect::<Result<_>>()?;
        }
        for change in changes {
            let Some(backup) = self.backups.iter().find(|backup| backup.path() == change.path) else {
                continue;
            };
            let written = match &change.content {
                Some(text) => self.workspace.write(backup, text),
                None => self.workspace.remove(backup),
            };
            // What another program wrote meanwhile is not ours to take back.
            if !matches!(written, Err(Error::Changed { .. })) {
                self.dirty = true;
                self.changed.push(change.path.clone());
            }
            if let Err(error) = written {
                self.restore()?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Brings every file that was written back to its state at the beginning.
    pub fn restore(&mut self) -> Result<()> {
        if self.dirty {
            let written = |backup: &&Backup| self.changed.iter().any(|path| path == backup.path());
            self.backups.iter().filter(written).try_for_each(|backup| self.workspace.restore(backup))?;
        }
        self.changed.clear();
        self.dirty = false;
        Ok(())
    }

    /// The files that are different now, in the order in which they were written.
    pub fn changed(&self) -> &[String] {
        &self.changed
    }

    /// Where the old content of the first file lies, if it is saved.
    pub fn backup(&self) -> Option<String> {
        self.backups.iter().find_map(Backup::content_path)
    }

    /// Ends the task with its files as they are now.
    pub fn close(self) -> Result<()> {
        self.backups.into_iter().try_for_each(|backup| self.workspace.close(backup))
    }
}
