//! Worktrees of git: one for each task, in a private folder outside of the checkout.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::repository::Repository;
use crate::{Error, Result};

/// The folder of the worktrees of one plan.
#[derive(Debug)]
pub(super) struct Trees<'a> {
    repository: &'a Repository,
    folder: PathBuf,
    /// How the names of this plan's worktrees begin, here and in the repository.
    mark: String,
    /// Makes the names of this process's worktrees different.
    made: AtomicUsize,
}

/// A worktree. It is removed when dropped.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    trees: &'a Trees<'a>,
    path: PathBuf,
    /// Git's own folder for it. What the worktree's `.git` says is not asked: a command of a task may have
    /// changed it.
    git_dir: PathBuf,
}

impl<'a> Trees<'a> {
    /// The worktrees in this folder; those of a former run are removed.
    pub(super) fn open(repository: &'a Repository, folder: &Path) -> Result<Trees<'a>> {
        let made = fs::create_dir_all(folder).and_then(|()| fs::canonicalize(folder));
        let folder = made.map_err(|source| Error::Io { path: folder.to_owned(), source })?;
        if folder.starts_with(&repository.root) {
            let problem = "the state folder lies in the checkout; name one outside of it";
            return Err(super::repository::refused("worktree", problem));
        }
        let key = folder.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let trees = Trees {
            repository,
            mark: format!("coder-{key}-"),
            folder: folder.clone(),
            made: AtomicUsize::new(0),
        };
        trees.clear()?;
        Ok(trees)
    }

    /// A worktree of a commit.
    pub(super) fn add(&'a self, commit: &str) -> Result<Tree<'a>> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{}-{number}", self.mark, std::process::id());
        // Before it is made: what is half made is removed as well.
        let tree = Tree { trees: self, path: self.folder.join(&name), git_dir: self.records().join(&name) };
        let call = self.repository.git.call(["worktree", "add", "--quiet", "--detach"]);
        let call = call.arg(&tree.path).arg(commit);
        let added = {
            let _one = self.repository.trees.lock().unwrap_or_else(PoisonError::into_inner);
            call.bytes()
        };
        added?;
        match tree.git_dir.is_dir() {
            true => Ok(tree),
            false => Err(super::repository::refused("worktree", "its folder is not where it should be")),
        }
    }

    /// Removes every worktree in the folder, and what git knows of them. Their names are this plan's own.
    pub(super) fn clear(&self) -> Result<()> {
        let entries =
            |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        entries(&self.folder).try_for_each(|path| remove_folder(&path))?;
        let is_ours = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&self.mark))
        };
        entries(&self.records()).filter(is_ours).try_for_each(|path| self.forget(&path))
    }

    /// Where git writes down what it knows of worktrees.
    fn records(&self) -> PathBuf {
        self.repository.common_dir.join("worktrees")
    }

    /// Removes git's folder of a worktree, and the folder of these when it is the last one, as git does it.
    /// Git itself would look into the worktree first, where a task's command may have changed `.git`.
    fn forget(&self, git_dir: &Path) -> Result<()> {
        let _one = self.repository.trees.lock().unwrap_or_else(PoisonError::into_inner);
        remove_folder(git_dir)?;
        let _ = fs::remove_dir(self.records());
        Ok(())
    }
}

impl Tree<'_> {
    /// The folder that corresponds to the plan's working directory.
    pub(super) fn folder(&self) -> PathBuf {
        self.path.join(&self.trees.repository.prefix)
    }

    /// Brings the files of a commit; what is in no commit stays, such as what was built.
    pub(super) fn reset(&self, commit: &str) -> Result<()> {
        let call = self.trees.repository.git.call(["reset", "--hard", "--quiet", commit]);
        call.variable("GIT_DIR", &self.git_dir).variable("GIT_WORK_TREE", &self.path).bytes()?;
        Ok(())
    }
}

impl Drop for Tree<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next start.
        let _ = remove_folder(&self.path).and_then(|()| self.trees.forget(&self.git_dir));
    }
}

/// Removes a folder that a command may have made unwritable. Links in it are removed, never followed.
pub(super) fn remove_folder(path: &Path) -> Result<()> {
    let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match fs::remove_dir_all(path) {
        Ok(()) => return Ok(()),
        Err(error) if gone(&error) => return Ok(()),
        Err(_) => unlock(path),
    }
    match fs::remove_dir_all(path) {
        Err(error) if !gone(&error) => Err(Error::Io { path: path.to_owned(), source: error }),
        _ => Ok(()),
    }
}

fn unlock(path: &Path) {
    let Ok(meta) = path.symlink_metadata() else { return };
    if meta.is_dir() {
        // If it fails, removal says so.
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        fs::read_dir(path).into_iter().flatten().flatten().for_each(|entry| unlock(&entry.path()));
    }
}
