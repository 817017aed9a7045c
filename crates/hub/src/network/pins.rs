//! What was fetched before: the fingerprint of a file is believed from the hub once, and held against it from then on.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Remote;
use crate::{Error, RepoId, Result};

/// A folder with one small file for each that was fetched.
#[derive(Clone, Debug)]
pub struct Pins {
    folder: PathBuf,
}

#[derive(Deserialize, Serialize)]
struct Pin {
    repository: String,
    file: String,
    sha256: String,
    bytes: u64,
}

impl Pins {
    /// The ones in this folder, which need not be there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The fingerprint that a file had.
    pub fn get(&self, repo: &RepoId, file: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(repo, file)).ok()?;
        let pin: Pin = serde_json::from_str(&text).ok()?;
        (pin.repository == repo.as_str() && pin.file == file).then_some(pin.sha256)
    }

    /// Remembers one, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn set(&self, repo: &RepoId, file: &str, remote: &Remote) -> Result<()> {
        let path = self.path(repo, file);
        let pin = Pin {
            repository: repo.to_string(),
            file: file.to_owned(),
            sha256: remote.sha256.clone(),
            bytes: remote.bytes,
        };
        let write = |folder: &Path| -> std::io::Result<()> {
            fs::create_dir_all(folder)?;
            let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer(&mut temporary, &pin)?;
            temporary.flush()?;
            temporary.persist(&path).map(drop).map_err(|error| error.error)
        };
        write(path.parent().unwrap_or(&self.folder))
            .map_err(|source| Error::Io { path: path.clone(), source })
    }

    /// Names are checked where they come from: they stay in their folder.
    fn path(&self, repo: &RepoId, file: &str) -> PathBuf {
        let repo = repo.as_str().replace('/', "--");
        self.folder.join(repo).join(format!("{}.json", file.replace('/', "--")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let pins = Pins::new(folder.path().join("pins"));
        let repo = RepoId::new("a/b").unwrap();
        let remote = Remote { bytes: 3, sha256: "ab".repeat(32) };
        assert_eq!(pins.get(&repo, "q/m.gguf"), None);
        pins.set(&repo, "q/m.gguf", &remote).unwrap();
        pins.set(&repo, "q/m.gguf", &remote).unwrap();
        assert_eq!(pins.get(&repo, "q/m.gguf"), Some(remote.sha256));
        assert_eq!(pins.get(&repo, "q--m.gguf"), None);
    }
}
