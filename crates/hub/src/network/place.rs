//! Putting a verified file where the cache has it: content, name and branch.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::{CacheRepo, Repo, RepoType};

use super::Listing;
use super::listing::is_plain;
use crate::{Cache, Error, Result};

/// A repository's part of the cache, by the library's account of the layout.
pub(super) struct Place {
    repo: CacheRepo,
    folder: PathBuf,
    commit: String,
    /// Whether a branch or a tag was asked for, and its name can be that of a file.
    is_named: bool,
}

impl Place {
    pub(super) fn of(cache: &Cache, listing: &Listing) -> Self {
        let revision = listing.revision.clone();
        let is_named = revision != listing.commit && is_plain(&revision);
        let repo = Repo::with_revision(listing.repo.to_string(), RepoType::Model, revision);
        let folder = cache.folder().join(repo.folder_name());
        let repo = hf_hub::Cache::new(cache.folder().to_owned()).repo(repo);
        Self { repo, folder, commit: listing.commit.clone(), is_named }
    }

    /// The repository's folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a content is.
    pub(super) fn blob(&self, sha256: &str) -> PathBuf {
        self.folder.join("blobs").join(sha256)
    }

    /// Where it is while it is not whole. Others of the cache's users look for it there too.
    pub(super) fn partial(&self, sha256: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{sha256}.incomplete"))
    }

    /// Gives a whole partial file its name as content.
    pub(super) fn keep(&self, sha256: &str) -> Result<()> {
        let (partial, blob) = (self.partial(sha256), self.blob(sha256));
        fs::rename(&partial, &blob).map_err(|source| Error::Io { path: blob.clone(), source })?;
        // The name itself; some systems cannot do that to a folder, and the content is safe already.
        let _ = blob.parent().map(|folder| File::open(folder).and_then(|folder| folder.sync_all()));
        Ok(())
    }

    /// Gives a content its name in the commit, and the commit the name of the branch that was asked for; other branches stay
    /// where they are. Returns the path to open.
    pub(super) fn name(&self, file: &str, sha256: &str) -> Result<PathBuf> {
        let link = self.repo.pointer_path(&self.commit).join(file);
        let failed = |source| Error::Io { path: link.clone(), source };
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let up = "../".repeat(2 + file.matches('/').count());
        point(&link, &format!("{up}blobs/{sha256}"), &self.blob(sha256)).map_err(failed)?;
        if self.is_named {
            self.repo.create_ref(&self.commit).map_err(failed)?;
        }
        Ok(link)
    }
}

/// A link that is replaced at once, whoever makes it at the same time.
#[cfg(unix)]
fn point(link: &Path, to: &str, _blob: &Path) -> io::Result<()> {
    if fs::read_link(link).is_ok_and(|there| there == Path::new(to)) {
        return Ok(());
    }
    let folder = link.parent().unwrap_or(Path::new("."));
    let made = tempfile::Builder::new()
        .prefix(".link")
        .make_in(folder, |path| std::os::unix::fs::symlink(to, path))?;
    let made = made.into_temp_path().keep().map_err(|error| error.error)?;
    fs::rename(&made, link)
}

/// Without links, a second name for the content, or a copy.
#[cfg(not(unix))]
fn point(link: &Path, _to: &str, blob: &Path) -> io::Result<()> {
    if link.exists() {
        fs::remove_file(link)?;
    }
    fs::hard_link(blob, link).or_else(|_| fs::copy(blob, link).map(drop))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::RepoId;

    #[test]
    fn a_revision_names_its_own_branch_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, commit) = (Cache::new(folder.path()), "0".repeat(40));
        let refs = folder.path().join("models--a--b/refs");
        for (revision, there) in
            [(commit.as_str(), None), ("../x", None), ("v1", Some("v1")), ("r/2", Some("r/2"))]
        {
            let (repo, revision) = (RepoId::new("a/b").unwrap(), revision.to_owned());
            let listing = Listing {
                repo,
                revision,
                commit: commit.clone(),
                architecture: None,
                license: None,
                files: vec![],
            };
            Place::of(&cache, &listing).name("m.gguf", &"1".repeat(64)).unwrap();
            assert!(!refs.join("main").exists() && refs.exists() == there.is_some());
            if let Some(there) = there {
                assert_eq!(fs::read_to_string(refs.join(there)).unwrap(), commit);
            }
        }
    }
}
