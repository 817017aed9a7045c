//! Files that a command must leave as they are: the tests that judge a task, unless the task is to write
//! them, and what git would run. Each is hashed before and after; what has changed is brought back.
//!
//! Nothing of a command runs any more when its files are looked at, so paths are walked by name; links
//! are never followed.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Error, Result, language};

/// The state of the guarded files of a work tree.
#[derive(Debug)]
pub struct Guarded {
    root: PathBuf,
    /// Files that the task may change, and that are therefore not guarded.
    own: Vec<String>,
    /// Files that the command names.
    named: Vec<String>,
    kept: BTreeMap<String, Kept>,
    had_git: bool,
}

/// What a path held.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    File { hash: [u8; 32], content: Option<Vec<u8>>, mode: u32 },
    Link(PathBuf),
}

/// How many bytes are kept to be brought back; of more, the change is told but stays.
const MAX_KEPT: usize = 64 << 20;

/// Folders that hold what is made or installed, not written.
const PASSED_OVER: [&str; 12] = [
    ".git",
    ".coder",
    "target",
    "node_modules",
    ".venv",
    "venv",
    "__pycache__",
    ".tox",
    ".mypy_cache",
    ".pytest_cache",
    "dist",
    "build",
];

impl Guarded {
    /// Takes note of the files. `own` are those that the task may change; `argv` is the command, whose
    /// words may name further files to guard.
    pub fn take(root: &Path, own: &[String], argv: &[String]) -> Result<Guarded> {
        let named = argv.iter().filter_map(|word| crate::path::relative(word).ok()).collect();
        let mut guarded = Guarded {
            root: root.to_owned(),
            own: own.to_vec(),
            named,
            kept: BTreeMap::new(),
            had_git: root.join(".git").symlink_metadata().is_ok(),
        };
        let mut budget = MAX_KEPT;
        for path in guarded.paths()? {
            if let Some(kept) = guarded.look(&path, &mut budget)? {
                guarded.kept.insert(path, kept);
            }
        }
        Ok(guarded)
    }

    /// Brings back what has changed, and says what it was. What was made anew is removed where other
    /// programs would run it. A person may have saved it at the same time, so `keep` is given every path and content
    /// that goes.
    pub fn restore(&self, keep: &mut dyn FnMut(&str, &[u8]) -> Result<()>) -> Result<Vec<String>> {
        let mut changed = Vec::new();
        if !self.had_git && self.root.join(".git").symlink_metadata().is_ok() {
            self.remove(".git")?;
            changed.push(".git".to_owned());
        }
        for path in self.paths()? {
            if !self.kept.contains_key(&path) && (is_test_name(&path) || is_of_git(&path)) {
                self.keep(&path, keep)?;
                self.remove(&path)?;
                changed.push(path);
            }
        }
        for (path, kept) in &self.kept {
            if self.look(path, &mut 0)?.is_some_and(|now| now.is_like(kept)) {
                continue;
            }
            self.keep(path, keep)?;
            self.bring_back(path, kept)?;
            changed.push(path.clone());
        }
        changed.sort();
        Ok(changed)
    }

    /// The guarded paths that exist.
    fn paths(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        self.walk("", &mut |path| {
            if !self.own.contains(&path) && (is_test(&path) || self.named.contains(&path)) {
                found.push(path);
            }
        })?;
        let mut git: Vec<String> = vec![".git/config".to_owned(), ".git/info/attributes".to_owned()];
        git.extend(self.names(".git/hooks")?.into_iter().map(|name| format!(".git/hooks/{name}")));
        found.extend(git.into_iter().filter(|path| self.root.join(path).symlink_metadata().is_ok()));
        Ok(found)
    }

    fn walk(&self, folder: &str, visit: &mut dyn FnMut(String)) -> Result<()> {
        for name in self.names(folder)? {
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            match self.root.join(&path).symlink_metadata() {
                Ok(meta) if meta.is_dir() && !PASSED_OVER.contains(&name.as_str()) => {
                    self.walk(&path, visit)?
                }
                Ok(meta) if !meta.is_dir() => visit(path),
                _ => {}
            }
        }
        Ok(())
    }

    /// The names in a folder; a name that is no text cannot be that of a file that a task knows.
    fn names(&self, folder: &str) -> Result<Vec<String>> {
        let path = self.root.join(folder);
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => {}
            _ => return Ok(Vec::new()),
        }
        let entries = match std::fs::read_dir(&path) {
            // What may not even be listed, such as a database's folder, a command of the same user cannot change.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(Vec::new()),
            entries => entries.map_err(|source| Error::Io { path, source })?,
        };
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// What a path holds now; of content, as much as the budget allows is kept.
    fn look(&self, path: &str, budget: &mut usize) -> Result<Option<Kept>> {
        let full = self.root.join(path);
        let io = |source| Error::Io { path: full.clone(), source };
        let Ok(meta) = full.symlink_metadata() else { return Ok(None) };
        if meta.is_symlink() {
            return Ok(Some(Kept::Link(std::fs::read_link(&full).map_err(io)?)));
        }
        // A pipe or a device in the place of a file is a change, and must not be opened; nor can an unreadable file be.
        if !meta.is_file() || self.is_through_link(path) {
            return Ok(Some(Kept::Link(PathBuf::new())));
        }
        let mut file = match std::fs::File::open(&full) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Ok(Some(Kept::Link(PathBuf::new())));
            }
            opened => opened.map_err(io)?,
        };
        let mode = meta.mode() & 0o7777;
        let size = usize::try_from(meta.len()).unwrap_or(usize::MAX);
        if size > *budget {
            let mut hasher = Sha256::new();
            let mut piece = vec![0; 1 << 16];
            loop {
                match std::io::Read::read(&mut file, &mut piece).map_err(io)? {
                    0 => break,
                    count => hasher.update(&piece[..count]),
                }
            }
            return Ok(Some(Kept::File { hash: hasher.finalize().into(), content: None, mode }));
        }
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut content).map_err(io)?;
        *budget = budget.saturating_sub(content.len());
        Ok(Some(Kept::File { hash: Sha256::digest(&content).into(), content: Some(content), mode }))
    }

    /// Whether a folder of a path is a link by now.
    fn is_through_link(&self, path: &str) -> bool {
        let folders = Path::new(path).parent().into_iter().flat_map(Path::ancestors);
        folders
            .into_iter()
            .any(|folder| self.root.join(folder).is_symlink() && !folder.as_os_str().is_empty())
    }

    fn bring_back(&self, path: &str, kept: &Kept) -> Result<()> {
        let full = self.root.join(path);
        let io = |source| Error::Io { path: full.clone(), source };
        let mut folder = self.root.clone();
        for name in Path::new(path).parent().into_iter().flat_map(Path::components) {
            folder.push(name);
            if !folder.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                let _ = std::fs::remove_file(&folder);
                std::fs::create_dir(&folder).map_err(io)?;
            }
        }
        match kept {
            Kept::File { content: Some(content), mode, .. } => {
                self.remove(path)?;
                std::fs::write(&full, content).map_err(io)?;
                std::fs::set_permissions(&full, std::fs::Permissions::from_mode(*mode)).map_err(io)
            }
            // What could not be read cannot be brought back; that it changed is told.
            Kept::File { content: None, .. } => Ok(()),
            Kept::Link(target) if target.as_os_str().is_empty() => Ok(()),
            Kept::Link(target) => {
                self.remove(path)?;
                std::os::unix::fs::symlink(target, &full).map_err(io)
            }
        }
    }

    fn keep(&self, path: &str, keep: &mut dyn FnMut(&str, &[u8]) -> Result<()>) -> Result<()> {
        let mut budget = MAX_KEPT;
        match self.look(path, &mut budget)? {
            Some(Kept::File { content: Some(content), .. }) => keep(path, &content),
            _ => Ok(()),
        }
    }

    fn remove(&self, path: &str) -> Result<()> {
        let full = self.root.join(path);
        let removed = match full.symlink_metadata() {
            Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(&full),
            Ok(_) => std::fs::remove_file(&full),
            Err(_) => Ok(()),
        };
        removed.map_err(|source| Error::Io { path: full, source })
    }
}

impl Kept {
    fn is_like(&self, other: &Kept) -> bool {
        match (self, other) {
            (Kept::File { hash, .. }, Kept::File { hash: other, .. }) => hash == other,
            (one, other) => one == other,
        }
    }
}

/// Whether a file is a test, or decides what tests do: by its name, or by its folder if it is source.
fn is_test(path: &str) -> bool {
    let (folder, _) = crate::path::split(path);
    let among_tests =
        folder.split('/').any(|part| matches!(part, "tests" | "test" | "__tests__" | "spec" | "testdata"));
    is_test_name(path) || (among_tests && !language::of(path).is_empty())
}

fn is_test_name(path: &str) -> bool {
    let (_, name) = crate::path::split(path);
    let stem = name.split('.').next().unwrap_or(name);
    let marked = name.contains(".test.") || name.contains(".spec.");
    let source = !language::of(path).is_empty();
    matches!(name, "conftest.py" | "pytest.ini" | "tox.ini" | "tests.rs")
        || (source
            && (marked || stem.starts_with("test_") || stem.ends_with("_test") || stem.ends_with("_spec")))
        || ["jest.config.", "vitest.config.", "playwright.config."]
            .iter()
            .any(|start| name.starts_with(start))
}

fn is_of_git(path: &str) -> bool {
    path.starts_with(".git/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers S1-34.
    #[test]
    fn tests_are_known_by_name_and_folder() {
        for path in ["tests/a.rs", "test_a.py", "a/b_test.go", "a.test.ts", "x/__tests__/a.js", "conftest.py"]
        {
            assert!(is_test(path), "{path}");
        }
        for path in ["src/a.rs", "tests/data.bin", "testing.md", "src/latest.py", "contest.py"] {
            assert!(!is_test(path), "{path}");
        }
    }

    /// Covers S1-34.
    #[test]
    fn what_changed_is_brought_back() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let outside = tempfile::tempdir().unwrap();
        for folder in ["tests", "src", ".git/hooks"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        for path in ["tests/a.py", "tests/b.py", "tests/own.py", "src/a.py", "check.sh", ".git/config"] {
            std::fs::write(root.join(path), "old").unwrap();
        }
        let argv = ["sh".to_owned(), "check.sh".to_owned()];
        let take = || Guarded::take(root, &["tests/own.py".to_owned()], &argv).unwrap();
        assert_eq!(take().restore(&mut |_, _| Ok(())).unwrap(), Vec::<String>::new());
        let guarded = take();
        for path in ["tests/own.py", "src/a.py", "check.sh", ".git/config", ".git/hooks/x", "conftest.py"] {
            std::fs::write(root.join(path), "new").unwrap();
        }
        // The folder of the tests is now somewhere else.
        std::fs::rename(root.join("tests"), root.join("old")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("tests")).unwrap();
        let mut kept = Vec::new();
        let mut keep = |path: &str, content: &[u8]| {
            assert_eq!(content, b"new");
            kept.push(path.to_owned());
            Ok(())
        };
        let changed = guarded.restore(&mut keep).unwrap();
        kept.sort();
        assert_eq!(kept, [".git/config", ".git/hooks/x", "check.sh", "conftest.py"]);
        assert_eq!(
            changed,
            [".git/config", ".git/hooks/x", "check.sh", "conftest.py", "tests/a.py", "tests/b.py"]
        );
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        for path in ["tests/a.py", "tests/b.py", "check.sh", ".git/config"] {
            assert_eq!(std::fs::read_to_string(root.join(path)).unwrap(), "old", "{path}");
        }
        assert_eq!(std::fs::read_to_string(root.join("src/a.py")).unwrap(), "new");
        assert!(!root.join("conftest.py").exists() && !root.join(".git/hooks/x").exists());
        assert_eq!(guarded.restore(&mut |_, _| Ok(())).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_may_not_be_read_is_no_reason_not_to_work() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("data/tests")).unwrap();
        std::fs::write(path("test_a.py"), "x").unwrap();
        let allow = |mode| {
            for name in ["data", "test_a.py"] {
                std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
            }
        };
        allow(0);
        let guarded = Guarded::take(dir.path(), &[], &[]);
        let changed = guarded.and_then(|guarded| guarded.restore(&mut |_, _| Ok(())));
        allow(0o700);
        assert_eq!(changed.unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_repository_that_was_not_there_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let guarded = Guarded::take(dir.path(), &[], &[]).unwrap();
        std::fs::create_dir_all(dir.path().join(".git/hooks")).unwrap();
        std::fs::write(dir.path().join(".git/hooks/pre-commit"), "x").unwrap();
        assert_eq!(guarded.restore(&mut |_, _| Ok(())).unwrap(), [".git"]);
        assert!(!dir.path().join(".git").exists());
    }
}
