//! Files that a command must leave as they are: the tests that judge a task, unless the task is to write
//! them, and what git and this program would run. Each is hashed before and after; what has changed is brought back.
//!
//! Nothing of a command runs any more when its files are looked at, so paths are walked by name; links
//! are never followed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::FileType;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Sandbox, git};
use crate::workspace::TEMPORARY;
use crate::{Error, Result, language};

/// The state of the guarded files of a work tree.
#[derive(Debug)]
pub struct Guarded {
    root: PathBuf,
    /// Files that the task may change, and that are therefore not guarded.
    own: Vec<String>,
    /// Files that the command names.
    named: Vec<String>,
    kept: BTreeMap<PathBuf, (Role, Kept)>,
    /// The repositories that were there.
    homes: BTreeSet<PathBuf>,
    /// The folders that were there, apart from those of what is made.
    folders: BTreeSet<PathBuf>,
    /// Those of [`TRUSTED`] that were there.
    had: Vec<&'static str>,
    /// Those that the command cannot write: what changes there is somebody else's.
    read_only: Vec<PathBuf>,
}

/// What other programs believe that find them at the root of a work tree; made anew, they are removed whole.
const TRUSTED: [&str; 3] = [".git", ".coder", "coder.toml"];

/// Where this program looks for a project's templates of prompts.
const TEMPLATES: &str = ".coder/templates";

/// Why a file is guarded.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    /// It judges the task: a test, or a file that the command names.
    Judges,
    /// Programs of the user run or believe it.
    Trusted,
    /// Programs of the user run or believe it that work in this folder.
    Local(PathBuf),
    /// Git runs or believes it, in the repository with this home.
    Git(PathBuf),
}

/// What a path held.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    File { hash: [u8; 32], content: Option<Vec<u8>>, mode: u32 },
    Link(PathBuf),
}

/// Takes the path and the content of a file that goes.
type Keep<'a> = dyn FnMut(&str, &[u8]) -> Result<()> + 'a;

/// How many bytes are kept to be brought back; of more, the change is told but stays.
const MAX_KEPT: usize = 64 << 20;

impl Guarded {
    /// Takes note of the files. `own` are those that the task may change; `argv` is the command, whose
    /// words may name further files to guard; and `sandbox` is what it will run in.
    pub fn take(root: &Path, own: &[String], argv: &[String], sandbox: &Sandbox) -> Result<Guarded> {
        let named = argv.iter().filter_map(|word| crate::path::relative(word).ok()).collect();
        let mut guarded = Guarded {
            root: root.to_owned(),
            own: own.to_vec(),
            named,
            kept: BTreeMap::new(),
            homes: BTreeSet::new(),
            folders: BTreeSet::new(),
            had: TRUSTED.into_iter().filter(|name| root.join(name).symlink_metadata().is_ok()).collect(),
            read_only: sandbox.read_only(root),
        };
        let mut budget = MAX_KEPT;
        let homes = git::homes(root)?;
        let (paths, folders) = guarded.paths(&homes)?;
        for (path, role) in paths {
            if let Some(kept) = guarded.look(&path, &mut budget)? {
                guarded.kept.insert(path, (role, kept));
            }
        }
        guarded.homes.extend(homes);
        guarded.folders = folders;
        Ok(guarded)
    }

    /// The contents that can be brought back, with their paths.
    pub fn contents(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.kept.iter().filter_map(|(path, (_, kept))| match kept {
            Kept::File { content: Some(content), .. } => Some((path.to_str()?, content.as_slice())),
            _ => None,
        })
    }

    /// Brings back what has changed, and says what it was. What was made anew is removed where other
    /// programs would run it. A person may have saved it at the same time, so `keep` is given every path and content
    /// that goes.
    pub fn restore(&self, keep: &mut Keep<'_>) -> Result<Vec<String>> {
        let mut changed = BTreeSet::new();
        // What cannot be brought back keeps nothing else from it.
        let mut failed = Ok(());
        for name in TRUSTED.into_iter().filter(|name| !self.had.contains(name)).map(Path::new) {
            if self.root.join(name).symlink_metadata().is_ok() && !self.is_own(name) {
                failed = failed.and(self.keep(name, keep).and_then(|()| self.remove(name)));
                changed.insert(name.display().to_string());
            }
        }
        failed = failed.and(self.remove_new(keep, &mut changed));
        for (path, (role, kept)) in &self.kept {
            if self.look(path, &mut 0)?.is_some_and(|now| now.is_like(kept)) || self.may_change(path, role) {
                continue;
            }
            failed = failed.and(self.keep(path, keep).and_then(|()| self.bring_back(path, kept)));
            changed.insert(path.display().to_string());
        }
        if !changed.is_empty() {
            // What was brought back may lead to further places, such as a configuration to hooks.
            failed = failed.and(self.remove_new(keep, &mut changed));
        }
        failed.map(|()| changed.into_iter().collect())
    }

    /// Removes what other programs would run and was not there.
    fn remove_new(&self, keep: &mut Keep<'_>, changed: &mut BTreeSet<String>) -> Result<()> {
        let mut failed = Ok(());
        for (path, role) in self.paths(&git::homes(&self.root)?)?.0 {
            let may_be = match &role {
                Role::Judges => !path.to_str().is_some_and(is_test_name),
                Role::Trusted => false,
                Role::Local(_) | Role::Git(_) => self.may_change(&path, &role),
            };
            if !may_be && !self.kept.contains_key(&path) {
                failed = failed.and(self.keep(&path, keep).and_then(|()| self.remove(&path)));
                changed.insert(path.display().to_string());
            }
        }
        failed
    }

    /// Whether a file may be as it is now although it was not.
    ///
    /// What a tool of the user reads in a folder may, if the folder is new, as generators and their tests make them, or has
    /// gone: nobody works there. What git reads may if its repository went with its whole folder; and where the command
    /// made the repository, tests make such, or another run of this program has it for a worktree, it may as long as
    /// there is nothing in it that git would run.
    fn may_change(&self, path: &Path, role: &Role) -> bool {
        let gone = |path: &Path| self.root.join(path).symlink_metadata().is_err();
        let home = match role {
            Role::Judges | Role::Trusted => return false,
            Role::Local(folder) => return !self.folders.contains(folder) || gone(folder),
            Role::Git(home) => home,
        };
        let free = git::is_made(home) || !self.homes.contains(home);
        let folder = home.parent().filter(|_| home.ends_with(".git")).unwrap_or(home);
        gone(folder) || free && (gone(home) || git::is_harmless(&self.root, path))
    }

    /// The guarded paths that exist, and the folders.
    fn paths(&self, homes: &[PathBuf]) -> Result<(BTreeMap<PathBuf, Role>, BTreeSet<PathBuf>)> {
        let (mut found, mut folders) = (BTreeMap::new(), BTreeSet::from([PathBuf::new()]));
        self.walk(Path::new(""), &mut |path, kind| {
            if kind.is_dir() {
                folders.insert(path);
                return;
            }
            let Some(name) = path.to_str() else { return };
            if is_hook(name) || is_tool(name) {
                let role = Role::Local(where_read(&path).to_owned());
                found.insert(path, role);
            } else if is_test(name) || self.named.iter().any(|named| named == name) {
                found.insert(path, Role::Judges);
            }
        })?;
        let (hooks, mut trusted) = git::named(&self.root, homes);
        trusted.push("coder.toml".into());
        for folder in hooks.into_iter().chain([TEMPLATES.into()]) {
            trusted.extend(
                folder.ancestors().filter(|part| self.root.join(part).is_symlink()).map(Path::to_owned),
            );
            self.walk(&folder, &mut |path, kind| match path.parent() == Some(&folder) && is_run(&path) {
                _ if kind.is_dir() => {}
                true => trusted.push(path),
                // Hooks may need it; without a change of theirs, what is new there is nothing to them.
                false if folder != Path::new("") => drop(found.insert(path, Role::Judges)),
                false => {}
            })?;
        }
        trusted.retain(|path| self.root.join(path).symlink_metadata().is_ok());
        found.extend(trusted.into_iter().map(|path| (path, Role::Trusted)));
        found.retain(|path, _| !self.is_own(path));
        for part in homes.iter().map(|home| git::parts(&self.root, home)) {
            found.extend(part?.into_iter().map(|part| (part.path, Role::Git(part.home))));
        }
        found.retain(|path, _| !self.read_only.iter().any(|name| path.starts_with(name)));
        Ok((found, folders))
    }

    fn is_own(&self, path: &Path) -> bool {
        self.own.iter().any(|own| path == Path::new(own))
    }

    fn walk(&self, folder: &Path, visit: &mut dyn FnMut(PathBuf, FileType)) -> Result<()> {
        for (name, kind) in git::entries(&self.root.join(folder))? {
            if kind.is_dir() && git::MADE.iter().any(|made| name == *made) {
                continue;
            }
            let path = folder.join(&name);
            if kind.is_dir() {
                self.walk(&path, visit)?;
            }
            visit(path, kind);
        }
        Ok(())
    }

    /// What a path holds now; of content, as much as the budget allows is kept.
    fn look(&self, path: &Path, budget: &mut usize) -> Result<Option<Kept>> {
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
    fn is_through_link(&self, path: &Path) -> bool {
        let folders = path.parent().into_iter().flat_map(Path::ancestors);
        folders
            .into_iter()
            .any(|folder| self.root.join(folder).is_symlink() && !folder.as_os_str().is_empty())
    }

    fn bring_back(&self, path: &Path, kept: &Kept) -> Result<()> {
        let full = self.root.join(path);
        let io = |source| Error::Io { path: full.clone(), source };
        self.unlock_way(path);
        let mut folder = self.root.clone();
        for name in path.parent().into_iter().flat_map(Path::components) {
            folder.push(name);
            if !folder.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                let _ = std::fs::remove_file(&folder);
                std::fs::create_dir(&folder).map_err(io)?;
            }
        }
        let mut temporary = tempfile::Builder::new();
        temporary.prefix(TEMPORARY);
        // It is whole before what stands there goes: the disk may be full.
        match kept {
            Kept::File { content: Some(content), mode, .. } => {
                let mut file = temporary.tempfile_in(&folder).map_err(io)?;
                std::io::Write::write_all(&mut file, content).map_err(io)?;
                file.as_file().set_permissions(std::fs::Permissions::from_mode(*mode)).map_err(io)?;
                file.as_file().sync_all().map_err(io)?;
                self.clear_folder(path)?;
                file.persist(&full).map(drop).map_err(|error| io(error.error))
            }
            // What could not be read cannot be brought back; that it changed is told.
            Kept::File { content: None, .. } => Ok(()),
            Kept::Link(target) if target.as_os_str().is_empty() => Ok(()),
            Kept::Link(target) => {
                let link = temporary.make_in(&folder, |path| std::os::unix::fs::symlink(target, path));
                let link = link.map_err(io)?;
                self.clear_folder(path)?;
                link.persist(&full).map_err(|error| io(error.error))
            }
        }
    }

    /// Removes a folder that stands in the place of a file.
    fn clear_folder(&self, path: &Path) -> Result<()> {
        match self.root.join(path).symlink_metadata() {
            Ok(meta) if meta.is_dir() => self.remove(path),
            _ => Ok(()),
        }
    }

    /// Lets the user work in the folders of a path, which a command may have closed.
    fn unlock_way(&self, path: &Path) {
        let mut folder = self.root.clone();
        for name in path.parent().into_iter().flat_map(Path::components) {
            folder.push(name);
            if let Ok(meta) = folder.symlink_metadata()
                && meta.is_dir()
                && meta.mode() & 0o700 != 0o700
            {
                let open = std::fs::Permissions::from_mode(meta.mode() & 0o7777 | 0o700);
                let _ = std::fs::set_permissions(&folder, open);
            }
        }
    }

    fn keep(&self, path: &Path, keep: &mut Keep<'_>) -> Result<()> {
        let mut budget = MAX_KEPT;
        match self.look(path, &mut budget)? {
            Some(Kept::File { content: Some(content), .. }) => keep(&path.to_string_lossy(), &content),
            _ => Ok(()),
        }
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let full = self.root.join(path);
        self.unlock_way(path);
        let removed = match full.symlink_metadata() {
            Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(&full).or_else(|_| {
                unlock(&full);
                std::fs::remove_dir_all(&full)
            }),
            Ok(_) => std::fs::remove_file(&full),
            Err(_) => Ok(()),
        };
        removed.map_err(|source| Error::Io { path: full, source })
    }
}

/// Lets the user work in a folder and those in it. If it fails, what is done there says so.
fn unlock(path: &Path) {
    let Ok(meta) = path.symlink_metadata() else { return };
    if meta.is_dir() {
        let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(meta.mode() & 0o7777 | 0o700));
        std::fs::read_dir(path).into_iter().flatten().flatten().for_each(|entry| unlock(&entry.path()));
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

/// Whether a file is a hook of git's or of a program that manages these.
fn is_hook(path: &str) -> bool {
    crate::path::guarded(path) == Some(crate::path::HOOK)
}

/// Whether a file is the configuration of a tool that the user runs, outside of any sandbox. An editor of one vendor
/// writes its own all the time.
pub(super) fn is_tool(path: &str) -> bool {
    crate::path::guarded(path) == Some(crate::path::TOOL) && !path.split('/').any(|part| part == ".idea")
}

/// The folder in which a program must be at work to come upon a hook or a tool's configuration: around the outermost folder
/// that holds such, or that of the file itself.
fn where_read(path: &Path) -> &Path {
    let holds = |folder: &&Path| {
        let name = folder.file_name().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
        name.is_some_and(|name| {
            matches!(name.as_str(), ".cargo" | ".hg" | ".jj" | "hooks")
                || is_hook(&format!("{name}/x"))
                || is_tool(&format!("{name}/x"))
        })
    };
    let outermost = path.ancestors().skip(1).filter(holds).last();
    outermost.unwrap_or(path).parent().unwrap_or(Path::new(""))
}

/// Whether a file is run or read because of its name, in a folder of hooks or of templates.
fn is_run(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.starts_with(TEMPLATES) || is_hook(&format!("hooks/{name}"))
}

#[cfg(test)]
mod tests;
