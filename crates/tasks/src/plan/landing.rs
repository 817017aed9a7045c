//! Brings the user's checkout from one commit to the next, so that a killed run can be gone on with.
//!
//! Git's own checkout would not do: killed in the middle it leaves torn files and a locked index. Here
//! every file is replaced whole, and the index is a finished copy that is linked to the lock's name. What
//! the user has changed meanwhile is never overwritten. Each step may be done twice.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::journal::{Done, Record};
use super::repository::{Difference, Repository, refused};
use crate::edit::Change;
use crate::workspace::Workspace;
use crate::{Error, Result};

/// The way from one commit to another.
pub(super) struct Landing<'a> {
    repository: &'a Repository,
    workspace: &'a Workspace,
    from: &'a str,
    to: &'a str,
    differences: Vec<Difference>,
    /// Those whose file does not have its new content and mode yet.
    left: Vec<usize>,
}

impl<'a> Landing<'a> {
    /// Looks at the checkout. An error means that it is not as `from` or `to` has it where they differ;
    /// nothing was changed.
    pub(super) fn prepare(
        repository: &'a Repository,
        workspace: &'a Workspace,
        from: &'a str,
        to: &'a str,
    ) -> Result<Landing<'a>> {
        let found = repository.head()?;
        if found != from && found != to {
            let problem = format!("`HEAD` is `{found}` now");
            return Err(Error::Moved { problem, from: from.to_owned(), to: to.to_owned() });
        }
        let differences = repository.differences(from, to)?;
        let mut landing = Landing { repository, workspace, from, to, differences, left: Vec::new() };
        landing.left = landing.look()?;
        Ok(landing)
    }

    /// Which files do not have their new content and mode.
    fn look(&self) -> Result<Vec<usize>> {
        let mut paths = Vec::new();
        let mut present = Vec::new();
        for difference in &self.differences {
            let there = self.workspace.snapshot(self.inside(difference)?)?.before;
            if there.is_some() {
                paths.push(difference.path.clone());
            }
            present.push(there.map(|before| before.mode & 0o100 != 0));
        }
        let mut objects = self.repository.objects(&paths)?.into_iter();
        let mut left = Vec::new();
        for (at, (difference, there)) in self.differences.iter().zip(present).enumerate() {
            let found = if there.is_some() { objects.next() } else { None };
            let found = found.as_deref();
            let new = difference.new.as_ref().map(|(_, object)| object.as_str());
            if found != new && found != difference.old.as_deref() {
                return Err(self.is_changed(&difference.path));
            }
            if found != new || there.is_some_and(|program| program != difference.is_program()) {
                left.push(at);
            }
        }
        Ok(left)
    }

    /// What the user saved stays, and the plan waits until it is out of the way.
    fn is_changed(&self, path: &str) -> Error {
        let problem = format!("`{path}` was changed in the meantime");
        Error::Moved { problem, from: self.from.to_owned(), to: self.to.to_owned() }
    }

    /// The path as the workspace has it.
    fn inside<'d>(&self, difference: &'d Difference) -> Result<&'d str> {
        let path = &difference.path;
        path.strip_prefix(&self.repository.prefix).ok_or_else(|| Error::Path {
            path: path.clone(),
            problem: "a commit of the plan changes it, and it is outside of the working directory",
        })
    }

    /// Files, index, branch: in this order. The record says which plan it is, and which commits.
    pub(super) fn land(&self, record: &Record) -> Result<()> {
        let mut changes = Vec::new();
        for difference in self.left.iter().map(|at| &self.differences[*at]) {
            let content = match &difference.new {
                Some(_) => {
                    let name = format!("{}:{}", self.to, difference.path);
                    let bytes = self.repository.git.call(["cat-file", "--filters", &name]).bytes()?;
                    let text = String::from_utf8(bytes);
                    Some(text.map_err(|_| Error::NotText { path: difference.path.clone() })?)
                }
                None => None,
            };
            let change = Change { path: self.inside(difference)?.to_owned(), content, moved_from: None };
            changes.push((change, difference.is_program()));
        }
        let paths: Vec<String> = changes.iter().map(|(change, _)| change.path.clone()).collect();
        let commit = |done: &Done| Some((done.id.clone(), done.commit.clone()?));
        let commits = record.done.iter().filter_map(commit).collect();
        let mut transaction = self.workspace.begin(&record.plan, &paths)?;
        // From here on the transaction knows what is there; until here somebody may have saved something.
        self.look()?;
        transaction.brings(commits);
        transaction.write_programs(&changes).map_err(|error| match error {
            Error::Changed { path } => self.is_changed(&path),
            error => error,
        })?;
        transaction.commit()?;
        self.index()?;
        if self.repository.head()? != self.to {
            let reason = "coder: plan";
            let call = self.repository.git.call(["update-ref", "-m", reason, "HEAD", self.to, self.from]);
            call.bytes()?;
        }
        Ok(())
    }

    /// Gives the entries of the changed files to the index, and leaves the others as they are, also what the
    /// user has staged, up to the moment at which the index is replaced.
    fn index(&self) -> Result<()> {
        for _ in 0..TRIES {
            let copied = self.copy_index()?;
            if self.replace_index(&copied)? {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Makes the finished index, and says what it was made from.
    fn copy_index(&self) -> Result<Vec<u8>> {
        let folder = &self.repository.git_dir;
        let [index, copy] = ["index", COPY].map(|name| folder.join(name));
        let io = |source| Error::Io { path: index.clone(), source };
        clear(folder)?;
        let mut copied = Vec::new();
        if index.exists() {
            fs::copy(&index, &copy).map_err(io)?;
            copied = fs::read(&copy).map_err(io)?;
        }
        let mut entries = String::new();
        for difference in &self.differences {
            entries += &match &difference.new {
                Some((mode, object)) => format!("{mode} {object}\t{}\0", difference.path),
                None => format!("0 {}\t{}\0", "0".repeat(self.to.len()), difference.path),
            };
        }
        let git = &self.repository.git;
        let call = git.call(["update-index", "-z", "--index-info"]).variable("GIT_INDEX_FILE", &copy);
        call.input(entries.as_bytes()).bytes()?;
        // So that the next `git status` need not read the files; it may say no, about other files.
        git.call(["update-index", "-q", "--refresh"]).variable("GIT_INDEX_FILE", &copy).succeeds()?;
        fs::File::open(&copy).and_then(|file| file.sync_all()).map_err(io)?;
        Ok(copied)
    }

    /// Puts the finished index in its place; false if another program changed the index since it was copied.
    fn replace_index(&self, copied: &[u8]) -> Result<bool> {
        let folder = &self.repository.git_dir;
        let [index, lock, copy] = ["index", "index.lock", COPY].map(|name| folder.join(name));
        let io = |source| Error::Io { path: index.clone(), source };
        match fs::hard_link(&copy, &lock) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let _ = fs::remove_file(&copy);
                return Err(busy());
            }
            Err(error) => return Err(io(error)),
        }
        // From here on no other git changes it.
        let now = match fs::read(&index) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(io)?,
        };
        if now != copied {
            fs::remove_file(&lock).map_err(io)?;
            return Ok(false);
        }
        fs::rename(&lock, &index).map_err(io)?;
        fs::remove_file(&copy).map_err(io)?;
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        Ok(true)
    }
}

/// How often the index is made anew because somebody else changed it. A person's commands are slower than that.
const TRIES: usize = 8;

fn busy() -> Error {
    refused("update-index", "another git is at work here (`index.lock`); use --resume later")
}

/// The finished index before it has its name.
const COPY: &str = "coder-index";

/// Removes what a killed run left beside the index. A lock is ours if it is the same file as our copy.
pub(super) fn clear(git_dir: &Path) -> Result<()> {
    let [lock, copy] = ["index.lock", COPY].map(|name| git_dir.join(name));
    let inode = |path: &PathBuf| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let ours = inode(&copy).is_some() && inode(&copy) == inode(&lock);
    let names = [format!("{COPY}.lock"), COPY.to_owned()].map(|name| git_dir.join(name));
    for path in ours.then_some(lock).into_iter().chain(names) {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Io { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn git(root: &Path, line: &str) -> String {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]);
        let output = command.args(line.split(' ')).current_dir(root).output().unwrap();
        assert!(output.status.success(), "git {line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// A checkout of the first of two commits, and a landing that goes to the second, about to begin.
    fn landing(test: impl FnOnce(&Path, &Landing<'_>, &Record)) {
        let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = folder.path().canonicalize().unwrap();
        git(&root, "init --quiet .");
        let [from, to] = ["a\n", "b\n"].map(|text| {
            fs::write(root.join("a.txt"), text).unwrap();
            git(&root, "add a.txt");
            git(&root, "commit --quiet --message text");
            git(&root, "rev-parse HEAD")
        });
        git(&root, &format!("reset --quiet --hard {from}"));
        let record =
            serde_json::json!({ "plan": "p", "base": from, "head": to, "stage": "landing", "done": [] });
        let repository = Repository::open(&root).unwrap().unwrap();
        let workspace = Workspace::open(&root, state.path()).unwrap();
        let landing = Landing::prepare(&repository, &workspace, &from, &to).unwrap();
        test(&root, &landing, &serde_json::from_value(record).unwrap());
    }

    /// A user stages a file between the copy of the index and its replacement.
    #[test]
    fn what_is_staged_at_the_same_moment_stays_staged() {
        landing(|root, landing, record| {
            let copied = landing.copy_index().unwrap();
            fs::write(root.join("mine.txt"), "mine\n").unwrap();
            git(root, "add mine.txt");
            assert!(!landing.replace_index(&copied).unwrap());
            assert!(!root.join(".git/index.lock").exists());
            landing.land(record).unwrap();
            assert_eq!(git(root, "diff --cached --name-status"), "A\tmine.txt");
            assert_eq!(git(root, "status --porcelain"), "A  mine.txt");
            assert_eq!(git(root, "rev-parse HEAD"), landing.to);
        });
    }

    /// A user saves a file between the look at the checkout and the transaction.
    #[test]
    fn what_is_saved_while_a_landing_begins_stays() {
        landing(|root, landing, record| {
            fs::write(root.join("a.txt"), "mine\n").unwrap();
            let error = landing.land(record).unwrap_err();
            let said = error.to_string();
            assert!(
                said.starts_with("`a.txt` was changed in the meantime; the plan's commits are"),
                "{said}"
            );
            assert!(said.ends_with("or put that back as it was and use --resume"), "{said}");
            assert_eq!(fs::read_to_string(root.join("a.txt")).unwrap(), "mine\n");
            assert_eq!(git(root, "rev-parse HEAD"), landing.from);
        });
    }
}
