//! Models that are here: the folder that Hugging Face's own programs share (`models--OWNER--REPO/{blobs,snapshots,refs}`).
//!
//! This module reads the folder and removes from it; what is fetched is put there by `network`. Links in it are followed
//! only to files in the same repository's `blobs`, or to files in the snapshot itself, as systems without links have them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::quant::{Part, sets};
use crate::{Error, RepoId, Result};

/// The beginning of a repository's folder.
const PREFIX: &str = "models--";

/// How deep files are looked for in a snapshot: repositories have a folder for each quantization at most.
const DEPTH: usize = 3;

/// The folder of models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    folder: PathBuf,
}

/// A model that is here, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Where it came from.
    pub repo: RepoId,
    /// The commit of the repository that it was in.
    pub commit: String,
    /// The quantization that its name says.
    pub label: Option<String>,
    /// Paths within the repository, in order.
    pub files: Vec<String>,
    /// Where they are: the first is what an engine opens.
    pub paths: Vec<PathBuf>,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names in snapshots.
    pub links: usize,
    /// Files with contents.
    pub blobs: usize,
    /// Bytes that became free.
    pub bytes: u64,
    /// Files that stay, because another snapshot has them too.
    pub shared: usize,
}

impl Cache {
    /// The folder that HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME or XDG_CACHE_HOME names, else
    /// `~/.cache/huggingface/hub`, as Hugging Face's own programs find it. It need not be there.
    ///
    /// # Errors
    /// [`Error::NoHome`] where none of it can be told.
    pub fn locate(env: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let var = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = var("HF_HUB_CACHE")
            .or_else(|| var("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(var("HF_HOME")?.join("hub")))
            .or_else(|| Some(var("XDG_CACHE_HOME")?.join("huggingface/hub")))
            .or_else(|| Some(var("HOME")?.join(".cache/huggingface/hub")));
        folder.map(Self::new).ok_or(Error::NoHome)
    }

    /// This folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        // Links are followed by their words, for which a path must be whole.
        Self { folder: std::path::absolute(&folder).unwrap_or(folder) }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All models that are whole, sorted by repository and file; of several commits with the same file the newest.
    pub fn models(&self) -> Vec<Installed> {
        let mut repos: Vec<(RepoId, PathBuf)> = entries(&self.folder)
            .filter_map(|path| Some((repo_of(path.file_name()?.to_str()?)?, path)))
            .collect();
        repos.sort();
        repos.into_iter().flat_map(|(repo, folder)| in_repository(&repo, &folder)).collect()
    }

    /// The models of one repository.
    pub fn of(&self, repo: &RepoId) -> Vec<Installed> {
        // Names of repositories are the same in any case.
        self.models()
            .into_iter()
            .filter(|model| model.repo.as_str().eq_ignore_ascii_case(repo.as_str()))
            .collect()
    }

    /// Bytes of files that were begun and not finished, and where they are.
    pub fn partial(&self) -> Vec<(PathBuf, u64)> {
        let blobs = entries(&self.folder).map(|folder| folder.join("blobs"));
        let files = blobs.flat_map(|folder| entries(&folder).collect::<Vec<_>>());
        let partial = files.filter(|path| path.extension().is_some_and(|ending| ending == "incomplete"));
        partial.filter_map(|path| Some((path.clone(), path.symlink_metadata().ok()?.len()))).collect()
    }

    /// Removes exactly the files of a model: its names in all snapshots of the repository that have the same contents
    /// under the same name, and the contents unless another name stands for them. Folders that become empty go too.
    ///
    /// # Errors
    /// [`Error::InUse`] while it is being fetched, [`Error::Io`].
    pub fn remove(&self, model: &Installed) -> Result<Removed> {
        let folder = self.repository(&model.repo);
        let mut removed = Removed::default();
        for (file, path) in model.files.iter().zip(&model.paths) {
            let Some(blob) = contents(&folder, path) else { continue };
            let name = blob.file_name().unwrap_or_default().to_string_lossy();
            let _held = self.hold(&folder, &name, &model.repo)?;
            let bytes = blob.symlink_metadata().map_or(0, |data| data.len());
            for snapshot in entries(&folder.join("snapshots")) {
                let link = snapshot.join(file);
                if contents(&folder, &link).as_ref() == Some(&blob) {
                    fs::remove_file(&link).map_err(|source| Error::Io { path: link.clone(), source })?;
                    removed.links += 1;
                    prune(&link, &folder.join("snapshots"));
                }
            }
            if names_of(&folder, &blob) > 0 {
                removed.shared += 1;
                continue;
            }
            match fs::remove_file(&blob) {
                Ok(()) => {}
                // Where there are no links, the name was the file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Io { path: blob, source }),
            }
            removed.blobs += 1;
            removed.bytes += bytes;
        }
        self.forget_empty(&folder);
        Ok(removed)
    }

    /// Removes a file that was begun and not finished, one of [`partial`](Self::partial).
    ///
    /// # Errors
    /// [`Error::InUse`] while it is being fetched, [`Error::Io`].
    pub fn remove_partial(&self, path: &Path) -> Result<()> {
        let folder = path.ancestors().nth(2).unwrap_or(path);
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let blob = path.file_stem().unwrap_or_default().to_string_lossy();
        // A folder that no repository has is nobody's to fetch into.
        let _held = match repo_of(&name) {
            Some(repo) => self.hold(folder, &blob, &repo)?,
            None => None,
        };
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|source| Error::Io { path: path.to_owned(), source }),
        }
    }

    /// The folder of a repository.
    pub fn repository(&self, repo: &RepoId) -> PathBuf {
        self.folder.join(format!("{PREFIX}{}", repo.as_str().replace('/', "--")))
    }

    /// The file whose lock those hold who write this content.
    pub(crate) fn lock_of(&self, repository: &Path, blob: &str) -> PathBuf {
        let name = repository.file_name().unwrap_or_default();
        self.folder.join(".locks").join(name).join(format!("{blob}.lock"))
    }

    /// Nobody fetches the content while the result lives. Without the right to write locks there is nobody who could.
    fn hold(&self, repository: &Path, blob: &str, repo: &RepoId) -> Result<Option<File>> {
        let Ok(lock) = File::open(self.lock_of(repository, blob)) else { return Ok(None) };
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(fs::TryLockError::WouldBlock) => Err(Error::InUse { name: repo.to_string() }),
            Err(fs::TryLockError::Error(_)) => Ok(None),
        }
    }

    /// A repository without any contents is a folder of names that stand for nothing.
    fn forget_empty(&self, folder: &Path) {
        if entries(&folder.join("blobs")).next().is_none()
            && entries(&folder.join("snapshots")).next().is_none()
        {
            for part in ["blobs", "snapshots"] {
                // Not being there is as good.
                let _ = fs::remove_dir(folder.join(part));
            }
            let _ = fs::remove_dir_all(folder.join("refs"));
            let _ = fs::remove_dir_all(folder.join(".no_exist"));
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Models in a repository's folder, of its snapshots the newest first.
fn in_repository(repo: &RepoId, folder: &Path) -> Vec<Installed> {
    let mut snapshots: Vec<PathBuf> = entries(&folder.join("snapshots")).collect();
    let main = fs::read_to_string(folder.join("refs/main")).unwrap_or_default();
    let age = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).ok();
    snapshots.sort_by_key(|path| {
        let is_main = path.file_name().is_some_and(|name| name.to_string_lossy() == main.trim());
        (!is_main, std::cmp::Reverse(age(path)))
    });
    let mut models: Vec<Installed> = Vec::new();
    for snapshot in snapshots {
        let commit = snapshot.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut files = Vec::new();
        collect(&snapshot, &snapshot, DEPTH, &mut files);
        let parts = files.into_iter().filter_map(|(name, path)| {
            let bytes = contents(folder, &path)?.metadata().ok()?.len();
            Some(Part { path: name, about: (path, bytes) })
        });
        for set in sets(parts).into_iter().filter(|set| set.is_whole()) {
            let files: Vec<String> = set.parts.iter().map(|part| part.path.clone()).collect();
            if models.iter().all(|model| model.files != files) {
                let bytes = set.parts.iter().map(|part| part.about.1).sum();
                let paths = set.parts.into_iter().map(|part| part.about.0).collect();
                models.push(Installed {
                    repo: repo.clone(),
                    commit: commit.clone(),
                    label: set.label,
                    files,
                    paths,
                    bytes,
                });
            }
        }
    }
    models.sort_by(|one, other| one.files.cmp(&other.files));
    models
}

/// Files below a folder with their names from `root` on.
fn collect(root: &Path, folder: &Path, depth: usize, files: &mut Vec<(String, PathBuf)>) {
    for path in entries(folder) {
        // A link to a folder would lead anywhere.
        match path.symlink_metadata() {
            Ok(data) if data.is_dir() && depth > 0 => collect(root, &path, depth - 1, files),
            Ok(data) if data.is_dir() => {}
            Ok(_) => {
                let name = path.strip_prefix(root).ok().and_then(|name| name.to_str());
                files.extend(name.map(|name| (name.replace('\\', "/"), path.clone())));
            }
            Err(_) => {}
        }
    }
}

/// The file that a name in a snapshot stands for, if it is there and belongs to the repository.
fn contents(repository: &Path, name: &Path) -> Option<PathBuf> {
    let data = name.symlink_metadata().ok()?;
    if data.is_file() {
        return Some(name.to_owned());
    }
    let target = fs::read_link(name).ok().filter(|_| data.is_symlink())?;
    let blob = lexical(&name.parent()?.join(target))?;
    let blobs = lexical(&repository.join("blobs"))?;
    (blob.parent() == Some(&blobs) && blob.symlink_metadata().ok()?.is_file()).then_some(blob)
}

/// A path without `.` and `..`, by its words alone.
fn lexical(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                if !out.pop() {
                    return None;
                }
            }
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    Some(out)
}

/// Names in snapshots of a repository that stand for a content.
fn names_of(repository: &Path, blob: &Path) -> usize {
    let mut files = Vec::new();
    let snapshots = repository.join("snapshots");
    collect(&snapshots, &snapshots, DEPTH + 1, &mut files);
    let distinct: BTreeSet<_> = files.into_iter().map(|(_, path)| path).collect();
    distinct.into_iter().filter(|path| contents(repository, path).as_deref() == Some(blob)).count()
}

/// Removes the empty folders above a file, up to `top`.
fn prune(file: &Path, top: &Path) {
    for folder in file.ancestors().skip(1).take_while(|folder| *folder != top && folder.starts_with(top)) {
        if fs::remove_dir(folder).is_err() {
            return;
        }
    }
}

/// `models--OWNER--REPO`.
fn repo_of(folder: &str) -> Option<RepoId> {
    RepoId::new(&folder.strip_prefix(PREFIX)?.replacen("--", "/", 1)).ok()
}

/// What is in a folder; nothing if it is not there.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let read: io::Result<fs::ReadDir> = fs::read_dir(folder);
    read.into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222";

    /// A repository with these names, each a link to a content.
    fn repository(files: &[(&str, &str, &str)]) -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("models--a--b");
        fs::create_dir_all(root.join("blobs")).unwrap();
        for (commit, name, blob) in files {
            let link = root.join("snapshots").join(commit).join(name);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            fs::write(root.join("blobs").join(blob), blob).unwrap();
            let up = "../".repeat(2 + name.matches('/').count());
            symlink(format!("{up}blobs/{blob}"), link).unwrap();
        }
        fs::create_dir_all(root.join("refs")).unwrap();
        fs::write(root.join("refs/main"), TWO).unwrap();
        let cache = Cache::new(folder.path());
        (folder, cache)
    }

    #[test]
    fn models_are_found_whole() {
        let (_folder, cache) = repository(&[
            (ONE, "m-Q8_0.gguf", "aa"),
            (TWO, "m-Q8_0.gguf", "bb"),
            (TWO, "Q4_0/m-Q4_0-00001-of-00002.gguf", "cc"),
            (TWO, "Q4_0/m-Q4_0-00002-of-00002.gguf", "dd"),
            (TWO, "n-Q4_0-00001-of-00002.gguf", "ee"),
        ]);
        let models = cache.models();
        let of: Vec<_> =
            models.iter().map(|m| (m.label.as_deref().unwrap(), m.files.len(), m.bytes)).collect();
        assert_eq!(of, [("Q4_0", 2, 4), ("Q8_0", 1, 2)]);
        assert_eq!(models[1].commit, TWO);
        assert_eq!(fs::read_to_string(&models[1].paths[0]).unwrap(), "bb");
    }

    #[test]
    fn exactly_a_models_files_are_removed() {
        let (folder, cache) = repository(&[
            (ONE, "m-Q8_0.gguf", "aa"),
            (TWO, "m-Q8_0.gguf", "aa"),
            (TWO, "m-Q4_0.gguf", "bb"),
            (TWO, "copy/n-Q8_0.gguf", "bb"),
        ]);
        let find = |file: &str| cache.models().into_iter().find(|m| m.files == [file.to_owned()]).unwrap();
        let removed = cache.remove(&find("m-Q8_0.gguf")).unwrap();
        assert_eq!(removed, Removed { links: 2, blobs: 1, bytes: 2, shared: 0 });
        let removed = cache.remove(&find("m-Q4_0.gguf")).unwrap();
        assert_eq!(removed, Removed { links: 1, blobs: 0, bytes: 0, shared: 1 });
        assert_eq!(cache.models().len(), 1);
        cache.remove(&find("copy/n-Q8_0.gguf")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_download_in_progress_is_not_removed() {
        let (folder, cache) = repository(&[(TWO, "m-Q8_0.gguf", "aa")]);
        let blobs = folder.path().join("models--a--b/blobs");
        let [busy, idle] = ["bb", "cc"].map(|name| blobs.join(format!("{name}.incomplete")));
        let locks = folder.path().join(".locks/models--a--b");
        fs::create_dir_all(&locks).unwrap();
        for (path, name) in [(&busy, "bb"), (&idle, "cc")] {
            fs::write(path, "half").unwrap();
            fs::write(locks.join(format!("{name}.lock")), "").unwrap();
        }
        let lock = File::open(locks.join("bb.lock")).unwrap();
        lock.lock().unwrap();
        assert!(matches!(cache.remove_partial(&busy), Err(Error::InUse { name }) if name == "a/b"));
        cache.remove_partial(&idle).unwrap();
        assert!(busy.exists() && !idle.exists());
        lock.unlock().unwrap();
        cache.remove_partial(&busy).unwrap();
        assert_eq!(cache.partial(), []);
    }

    #[test]
    fn links_to_elsewhere_are_no_models() {
        let (folder, cache) = repository(&[(TWO, "m-Q8_0.gguf", "aa")]);
        let outside = folder.path().join("secret-Q8_0.gguf");
        fs::write(&outside, "x").unwrap();
        let snapshot = folder.path().join("models--a--b/snapshots").join(TWO);
        symlink(&outside, snapshot.join("n-Q8_0.gguf")).unwrap();
        symlink("../../blobs/../../secret-Q8_0.gguf", snapshot.join("o-Q8_0.gguf")).unwrap();
        symlink(folder.path(), snapshot.join("all")).unwrap();
        symlink("../../blobs/none", snapshot.join("p-Q8_0.gguf")).unwrap();
        assert_eq!(cache.models().len(), 1);
    }

    #[test]
    fn the_folder_is_where_others_have_it() {
        let locate = |vars: &[(&str, &str)]| {
            Cache::locate(|name| vars.iter().find(|var| var.0 == name).map(|var| var.1.into()))
                .unwrap()
                .folder
        };
        assert_eq!(locate(&[("HOME", "/h")]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(locate(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(locate(&[("HF_HOME", "/f"), ("XDG_CACHE_HOME", "/x")]), Path::new("/f/hub"));
        assert_eq!(locate(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/f")]), Path::new("/c"));
        assert!(matches!(Cache::locate(|_| None), Err(Error::NoHome)));
    }
}
