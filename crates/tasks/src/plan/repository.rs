//! The repository that a plan works in: where it is, what state it is in, what a commit holds.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::git::Git;
use crate::task::Task;
use crate::{Error, Result};

/// An open repository.
#[derive(Debug)]
pub(super) struct Repository {
    pub(super) git: Git,
    /// The checkout's root.
    pub(super) root: PathBuf,
    /// The working directory below the root, "" or with a slash at its end.
    pub(super) prefix: String,
    /// This checkout's own part of the repository, with its index.
    pub(super) git_dir: PathBuf,
    /// What all worktrees share.
    pub(super) common_dir: PathBuf,
    /// Held while something is done to the list of worktrees.
    pub(super) trees: Mutex<()>,
    /// Name and address for commits where the user has set none.
    identity: bool,
}

/// A file in which two commits differ.
#[derive(Debug)]
pub(super) struct Difference {
    /// Below the root.
    pub(super) path: String,
    /// Mode and object before; None where it did not exist.
    pub(super) old: Option<String>,
    /// Mode and object after.
    pub(super) new: Option<(String, String)>,
}

impl Difference {
    /// Whether the file is a program afterwards.
    pub(super) fn is_program(&self) -> bool {
        self.new.as_ref().is_some_and(|(mode, _)| mode == PROGRAM)
    }
}

/// The mode of a file that can be run.
const PROGRAM: &str = "100755";

impl Repository {
    /// The repository around a folder; None if there is none.
    pub(super) fn open(folder: &Path) -> Result<Option<Repository>> {
        let folder =
            std::fs::canonicalize(folder).map_err(|source| Error::Io { path: folder.to_owned(), source })?;
        let Some(root) = folder.ancestors().find(|folder| folder.join(".git").symlink_metadata().is_ok())
        else {
            return Ok(None);
        };
        let git = Git::open(root)?;
        let places = git
            .call(["rev-parse", "--path-format=absolute", "--show-toplevel", "--git-dir", "--git-common-dir"])
            .text()?;
        let mut places = places.lines().map(PathBuf::from);
        let (Some(top), Some(git_dir), Some(common_dir)) = (places.next(), places.next(), places.next())
        else {
            return Err(refused("rev-parse", "it did not say where the repository is"));
        };
        // A configuration may say that the files are somewhere else, where nobody asked for changes.
        if top != root {
            let problem = "`core.worktree` names another folder than the one with `.git`; remove the setting";
            return Err(refused("rev-parse", problem));
        }
        let identity = git.call(["var", "GIT_COMMITTER_IDENT"]).succeeds()?;
        let inside = folder.strip_prefix(root).unwrap_or(Path::new(""));
        let prefix = inside.to_str().ok_or_else(|| Error::NotText { path: folder.display().to_string() })?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let root = root.to_owned();
        Ok(Some(Repository { git, root, prefix, git_dir, common_dir, trees: Mutex::new(()), identity }))
    }

    /// The commit that is checked out.
    pub(super) fn head(&self) -> Result<String> {
        self.git
            .call(["rev-parse", "--quiet", "--verify", "HEAD^{commit}"])
            .text()
            .map_err(|_| refused("rev-parse", "there is no commit yet; make a first one"))
    }

    /// The branch that is checked out; None where a commit is.
    pub(super) fn branch(&self) -> Result<Option<String>> {
        let call = self.git.call(["symbolic-ref", "--quiet", "HEAD"]);
        Ok(call.text().ok())
    }

    /// Refuses what would make a mess: another operation under way, changes of the user's that are in the
    /// way, or any at all unless `keep` says that they may stay.
    pub(super) fn check(&self, tasks: &[Task], head: &str, keep: bool) -> Result<()> {
        for (mark, what) in [
            ("MERGE_HEAD", "a merge"),
            ("CHERRY_PICK_HEAD", "a cherry-pick"),
            ("REVERT_HEAD", "a revert"),
            ("rebase-merge", "a rebase"),
            ("rebase-apply", "a rebase"),
        ] {
            if self.git_dir.join(mark).exists() {
                return Err(refused("status", &format!("{what} is under way; finish or abort it")));
            }
        }
        let changed = self.changed()?;
        if !keep && !changed.is_empty() {
            return Err(Error::Dirty { files: changed.into_iter().take(5).collect() });
        }
        let known = self.known(tasks, head)?;
        let (here, ignored) = (self.here(tasks)?, self.ignored(tasks));
        for (task, path) in tasks.iter().flat_map(|task| super::written(task).map(move |path| (task, path))) {
            let full = format!("{}{path}", self.prefix);
            let problem = match (known.get(&full), here.get(&full)) {
                _ if changed.contains(&full) => "has changes that are not committed",
                (None, Some(_)) => "exists but is not in the last commit",
                (None, None) if ignored.contains(&full) => {
                    "is new and ignored by git, so it cannot be committed"
                }
                // What git does not see: a sparse checkout, or files that it is told to assume unchanged.
                (Some(_), None) => "is in the last commit but not in this checkout",
                (Some(object), Some(Some(found))) if object != found => {
                    "is not as the last commit has it, though git takes it for unchanged"
                }
                _ => continue,
            };
            return Err(Error::InTheWay { path: full, task: task.id.clone(), problem });
        }
        Ok(())
    }

    /// The files that tasks write and that exist, and what git would make of their content; None where one is no regular
    /// file, which is the task's to complain about.
    fn here(&self, tasks: &[Task]) -> Result<HashMap<String, Option<String>>> {
        let mut found = HashMap::new();
        let mut regular = Vec::new();
        for path in tasks.iter().flat_map(super::written) {
            let full = format!("{}{path}", self.prefix);
            let Ok(meta) = self.root.join(&full).symlink_metadata() else { continue };
            if meta.is_file() {
                regular.push(full);
            } else {
                found.insert(full, None);
            }
        }
        let objects = self.objects(&regular)?;
        found.extend(regular.into_iter().zip(objects.into_iter().map(Some)));
        Ok(found)
    }

    /// What git would make of the contents of files in the checkout, in their order.
    pub(super) fn objects(&self, paths: &[String]) -> Result<Vec<String>> {
        let listed: String = paths.iter().map(|path| format!("{path}\n")).collect();
        let objects = self.git.call(["hash-object", "--stdin-paths"]).input(listed.as_bytes()).text()?;
        Ok(objects.lines().map(str::to_owned).collect())
    }

    /// Files known to git that are not as they were committed, as far as git can tell without running filters that the
    /// repository itself names: what these would make of a file, nobody knows.
    fn changed(&self) -> Result<Vec<String>> {
        let listed = self
            .git
            .call(["status", "--porcelain=v1", "-z", "--untracked-files=no", "--no-renames"])
            .bytes()?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let entries = listed.split('\0').filter_map(|entry| Some((entry.get(..3)?, entry.get(3..)?)));
        let (unstaged, mut changed): (Vec<_>, Vec<_>) = entries.partition(|(status, _)| *status == " M ");
        if !unstaged.is_empty() {
            let paths: String = unstaged.iter().map(|(_, path)| format!("{path}\0")).collect();
            let call = self.git.call(["check-attr", "-z", "--stdin", "filter"]).input(paths.as_bytes());
            // Path, attribute, value.
            let said = String::from_utf8_lossy(&call.bytes()?).into_owned();
            let filters = said.split('\0').skip(2).step_by(3);
            let known = unstaged.into_iter().zip(filters).filter(|(_, filter)| !self.git.disarms(filter));
            changed.extend(known.map(|(entry, _)| entry));
        }
        Ok(changed.into_iter().map(|(_, path)| path.to_owned()).collect())
    }

    /// Which of the files that tasks write git is told to ignore.
    fn ignored(&self, tasks: &[Task]) -> Vec<String> {
        let paths: String =
            tasks.iter().flat_map(super::written).map(|path| format!("{}{path}\0", self.prefix)).collect();
        // It says no where there is none.
        let said = self.git.call(["check-ignore", "-z", "--stdin"]).input(paths.as_bytes()).bytes();
        let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
        said.split('\0').map(str::to_owned).collect()
    }

    /// Which of the files that tasks write are in a commit, and with which object.
    fn known(&self, tasks: &[Task], commit: &str) -> Result<HashMap<String, String>> {
        let mut call = self.git.call(["ls-tree", "-z", "-r", "--full-tree", commit, "--"]);
        for path in tasks.iter().flat_map(super::written) {
            call = call.arg(format!("{}{path}", self.prefix));
        }
        let listed = String::from_utf8_lossy(&call.bytes()?).into_owned();
        let entry = |entry: &str| {
            let (about, path) = entry.split_once('\t')?;
            Some((path.to_owned(), about.rsplit_once(' ')?.1.to_owned()))
        };
        Ok(listed.split('\0').filter_map(entry).collect())
    }

    /// Where two commits differ.
    pub(super) fn differences(&self, from: &str, to: &str) -> Result<Vec<Difference>> {
        let listed = self.git.call(["diff-tree", "-r", "-z", "--raw", "--no-renames", from, to]).bytes()?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let mut fields = listed.split('\0');
        let mut found = Vec::new();
        while let (Some(entry), Some(path)) = (fields.next(), fields.next()) {
            let [old_mode, new_mode, old, new, ..] = *entry.split(' ').collect::<Vec<_>>() else { break };
            let is = |mode: &str| mode.trim_start_matches(':') != "000000";
            found.push(Difference {
                path: path.to_owned(),
                old: is(old_mode).then(|| old.to_owned()),
                new: is(new_mode).then(|| (new_mode.to_owned(), new.to_owned())),
            });
        }
        Ok(found)
    }

    /// Whether a commit has what another one did to these files, below the working directory: that is among its
    /// ancestors, or was brought over in some other way, such as a rebase.
    pub(super) fn holds(&self, head: &str, commit: &str, files: &[String]) -> Result<bool> {
        if self.git.call(["merge-base", "--is-ancestor", commit, head]).succeeds()? {
            return Ok(true);
        }
        let mut call = self.git.call(["diff-tree", "-r", "--quiet", commit, head, "--"]);
        for path in files {
            call = call.arg(format!("{}{path}", self.prefix));
        }
        // It says no as well where the commit is gone.
        call.succeeds()
    }

    /// A new commit on `parent` in which these files, below the root, have this content; None removes one.
    /// `index` is a file of the caller's own. None if nothing is different.
    pub(super) fn commit(
        &self,
        parent: &str,
        files: &[(String, Option<(bool, String)>)],
        message: &str,
        index: &Path,
    ) -> Result<Option<String>> {
        let mut entries = String::new();
        for (path, content) in files {
            match content {
                Some((executable, text)) => {
                    let call = self.git.call(["hash-object", "-w", "--stdin", "--path"]).arg(path);
                    let object = call.input(text.as_bytes()).text()?;
                    let mode = if *executable { PROGRAM } else { "100644" };
                    entries += &format!("{mode} {object}\t{path}\0");
                }
                None => entries += &format!("0 {}\t{path}\0", "0".repeat(parent.len())),
            }
        }
        let with = |call: super::git::Call<'_>| call.variable("GIT_INDEX_FILE", index).bytes();
        with(self.git.call(["read-tree", parent]))?;
        with(self.git.call(["update-index", "-z", "--index-info"]).input(entries.as_bytes()))?;
        let tree = self.git.call(["write-tree"]).variable("GIT_INDEX_FILE", index).text()?;
        if tree == self.git.call(["rev-parse", &format!("{parent}^{{tree}}")]).text()? {
            return Ok(None);
        }
        let mut call = self.git.call(["commit-tree", &tree, "-p", parent]).input(message.as_bytes());
        if !self.identity {
            for name in ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"] {
                call = call.variable(name, "coder");
            }
            for address in ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"] {
                call = call.variable(address, "coder@localhost");
            }
        }
        call.text().map(Some)
    }
}

pub(super) fn refused(command: &str, problem: &str) -> Error {
    Error::Git { command: command.to_owned(), problem: problem.to_owned() }
}
