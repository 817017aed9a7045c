//! The repositories in a work tree, and what in them git runs or believes: configuration, hooks, attributes, and
//! the files that say where the rest of a repository is. Objects, index and references are data, which
//! ordinary commands of git rewrite.
//!
//! Every folder is looked into, also those that are ignored or installed: git enters a repository wherever
//! its index says that there is one. Links are never followed.

mod config;

use std::ffi::{OsStr, OsString};
use std::fs::FileType;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use crate::{Error, Result};

/// A file, folder or link in a repository. Paths are relative to the work tree.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    /// The repository's own folder, or the file `.git` that stands for it; of a linked worktree, the record of it.
    pub(super) home: PathBuf,
}

/// Folders that hold what is made or installed, not written.
pub(super) const MADE: [&str; 12] = [
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

/// A configuration is small; whatever is larger is none that git made.
const MOST_BYTES: u64 = 1 << 20;

/// The homes of all repositories in a work tree, its own among them.
pub(super) fn homes(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries = entries(&root.join(&folder))?;
        let has = |wanted: &str| entries.iter().any(|(name, _)| name == wanted);
        // So git knows a repository that has no `.git`: one without a work tree, or one that a `.git` leads to.
        if has("HEAD") && (has("commondir") || has("objects") && has("refs")) {
            found.push(folder.clone());
        }
        for (name, kind) in &entries {
            let path = folder.join(name);
            if name.eq_ignore_ascii_case(".git") {
                found.push(path);
            } else if kind.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(found)
}

/// Whether a path lies in a folder of what is made.
pub(super) fn is_made(path: &Path) -> bool {
    let folders = path.parent().into_iter().flat_map(Path::components);
    folders.into_iter().any(|part| MADE.iter().any(|made| part.as_os_str() == *made))
}

/// What git runs or believes in a repository, and in those of its submodules and linked worktrees.
pub(super) fn parts(root: &Path, home: &Path) -> Result<Vec<Part>> {
    let mut found = Vec::new();
    match root.join(home).symlink_metadata() {
        Ok(meta) if meta.is_dir() => inside(root, home, home, &mut found)?,
        Ok(_) => found.push(Part { path: home.to_owned(), home: home.to_owned() }),
        Err(_) => {}
    }
    Ok(found)
}

fn inside(root: &Path, folder: &Path, home: &Path, found: &mut Vec<Part>) -> Result<()> {
    for (name, kind) in entries(&root.join(folder))? {
        let path = folder.join(&name);
        match name.to_str() {
            Some("hooks" | "info") => files(root, &path, kind, &mut |path| {
                // This one is for those who fetch by files, and made with every packing.
                if !path.ends_with("info/refs") {
                    found.push(Part { path, home: home.to_owned() });
                }
            })?,
            Some("modules") if kind.is_dir() => modules(root, &path, home, found)?,
            Some("worktrees") if kind.is_dir() => {
                for (name, _) in entries(&root.join(&path))? {
                    found.extend(parts(root, &path.join(name))?);
                }
            }
            Some("config" | "config.worktree" | "commondir" | "modules" | "worktrees") => {
                found.push(Part { path, home: home.to_owned() });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Submodules; the name of one may hold slashes.
fn modules(root: &Path, folder: &Path, home: &Path, found: &mut Vec<Part>) -> Result<()> {
    for (name, kind) in entries(&root.join(folder))? {
        let path = folder.join(name);
        if !kind.is_dir() {
            found.push(Part { path, home: home.to_owned() });
        } else if root.join(&path).join("HEAD").symlink_metadata().is_ok() {
            inside(root, &path, home, found)?;
        } else {
            modules(root, &path, home, found)?;
        }
    }
    Ok(())
}

/// All that is no folder in a folder and those in it, or the path itself if it is none.
pub(super) fn files(root: &Path, path: &Path, kind: FileType, visit: &mut dyn FnMut(PathBuf)) -> Result<()> {
    if !kind.is_dir() {
        visit(path.to_owned());
        return Ok(());
    }
    entries(&root.join(path))?
        .into_iter()
        .try_for_each(|(name, kind)| files(root, &path.join(name), kind, visit))
}

/// Whether a part names no program and leads nowhere, as git makes them: tests and builds make repositories too.
pub(super) fn is_harmless(root: &Path, part: &Path) -> bool {
    let full = root.join(part);
    let is = |path: Option<&Path>, name: &str| path.and_then(Path::file_name) == Some(OsStr::new(name));
    let Some(text) = text(&full) else { return false };
    match part.file_name().and_then(OsStr::to_str) {
        Some("config" | "config.worktree") => config::is_harmless(&text),
        Some("commondir") => {
            let records = part.parent().and_then(Path::parent);
            text.trim_end() == "../.." && is(records, "worktrees")
        }
        // A linked worktree of this very repository; the record that it leads to is a part as well.
        Some(".git") => text.strip_prefix("gitdir:").is_some_and(|place| {
            let place = full.with_file_name(place.trim()).canonicalize();
            let records = root.join(".git/worktrees").canonicalize();
            place.is_ok_and(|place| records.is_ok_and(|records| place.parent() == Some(&records)))
        }),
        Some(name) => is(part.parent(), "info") || is(part.parent(), "hooks") && name.ends_with(".sample"),
        None => false,
    }
}

/// The folders in a work tree in which the repository around it, or a home in it, says that hooks are, and the
/// further files that a configuration includes.
pub(super) fn named(root: &Path, homes: &[PathBuf]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut hooks, mut included) = (Vec::new(), Vec::new());
    let around = root.ancestors().find(|folder| folder.join(".git").symlink_metadata().is_ok());
    let below = homes.iter().filter(|home| home.ends_with(".git") && !is_made(home));
    let trees = around
        .map(Path::to_owned)
        .into_iter()
        .chain(below.map(|home| root.join(home)).filter_map(|home| home.parent().map(Path::to_owned)));
    let inside = |from: &Path, value: &str| {
        let at_home = value.strip_prefix("~/").and_then(|rest| Some(std::env::home_dir()?.join(rest)));
        let path = at_home.unwrap_or_else(|| from.join(value));
        Some(plain(&path).strip_prefix(root).ok()?.to_owned())
    };
    for tree in trees {
        for file in of_user().into_iter().chain(of_repository(&tree)) {
            for (key, value) in text(&file).map(|text| config::settings(&text).0).unwrap_or_default() {
                match key.as_str() {
                    "core.hookspath" => hooks.extend(inside(&tree, &value)),
                    "include.path" | "includeif.path" => {
                        included.extend(inside(file.parent().unwrap_or(&tree), &value))
                    }
                    _ => {}
                }
            }
        }
    }
    (hooks, included)
}

/// The user's own configurations.
fn of_user() -> Vec<PathBuf> {
    let home = std::env::home_dir();
    let folder = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let folder = folder.or_else(|| Some(home.as_ref()?.join(".config")));
    let files = [home.map(|home| home.join(".gitconfig")), folder.map(|folder| folder.join("git/config"))];
    files.into_iter().flatten().collect()
}

/// Where the configuration of the repository with this work tree is.
fn of_repository(tree: &Path) -> Vec<PathBuf> {
    let mut home = tree.join(".git");
    if let Some(place) = text(&home).as_deref().and_then(|text| text.strip_prefix("gitdir:")) {
        home = tree.join(place.trim());
    }
    let common = text(&home.join("commondir")).map_or(home.clone(), |place| home.join(place.trim()));
    vec![common.join("config"), home.join("config.worktree")]
}

/// A path without "." and "..".
fn plain(path: &Path) -> PathBuf {
    let mut made = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(made.pop()),
            Component::CurDir => {}
            part => made.push(part),
        }
    }
    made
}

/// The text of a file that is one, and small.
fn text(path: &Path) -> Option<String> {
    path.symlink_metadata().ok().filter(|meta| meta.is_file() && meta.len() <= MOST_BYTES)?;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

/// What is in a folder; nothing if it is none.
pub(super) fn entries(path: &Path) -> Result<Vec<(OsString, FileType)>> {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => {}
        _ => return Ok(Vec::new()),
    }
    let entries = match std::fs::read_dir(path) {
        // What may not even be listed, such as a database's folder, a command of the same user cannot change.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(Vec::new()),
        entries => entries.map_err(|source| Error::Io { path: path.to_owned(), source })?,
    };
    Ok(entries.flatten().filter_map(|entry| Some((entry.file_name(), entry.file_type().ok()?))).collect())
}
