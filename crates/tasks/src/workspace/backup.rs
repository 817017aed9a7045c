//! Backups: `.coder/backups/` in the workspace holds old contents under their SHA-256, and one record
//! for each run, which says what the contents were and which files did not exist.
//!
//! A record whose name ends in ".open.json" belongs to a run that has not ended; the run holds a lock on
//! it, so a later run can tell one that was killed.

use std::fs::File;
use std::io::Read;

use cap_std::fs::Dir;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::replace::{abandoned, lock, replace, sweep, sync};
use super::{Snapshot, Workspace};
use crate::{Error, Result, path};

const HOME: &str = ".coder";
const STORE: &str = "backups";
const OPEN: &str = ".open.json";

/// The saved state of one file: the permission to write it, and the way back.
#[derive(Debug)]
pub struct Backup {
    snapshot: Snapshot,
    /// Folders that the write will create, outermost first.
    new_folders: Vec<String>,
    /// Name of the content in the store; None for a file that did not exist.
    content: Option<String>,
    /// Name of the record without its ending.
    record: String,
    /// Held until the run ends.
    _lock: File,
}

/// What a record says.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    task_id: String,
    path: String,
    existed: bool,
    sha256: Option<String>,
    mode: Option<u32>,
    new_folders: Vec<String>,
}

/// A run that was killed between its backup and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// The task's id.
    pub task_id: String,
    /// The file it was about to write or had written.
    pub path: String,
    /// The old content, relative to the workspace; None if the file did not exist.
    pub backup: Option<String>,
}

impl Backup {
    /// The file.
    pub fn path(&self) -> &str {
        &self.snapshot.path
    }

    /// Where the old content lies, relative to the workspace; None for a file that did not exist.
    pub fn content_path(&self) -> Option<String> {
        self.content.as_ref().map(|name| format!("{HOME}/{STORE}/{name}"))
    }

    /// Where the record lies as soon as the run has ended, relative to the workspace.
    pub fn record_path(&self) -> String {
        format!("{HOME}/{STORE}/{}.json", self.record)
    }
}

impl Workspace {
    /// Saves a file's state. Content and record are on the disk when this returns.
    pub fn backup(&self, task_id: &str, snapshot: Snapshot) -> Result<Backup> {
        let store = self.store()?;
        let wrong = self.io(&format!("{HOME}/{STORE}"));
        let content = match &snapshot.before {
            Some(before) => {
                let name = sha256(before.text.as_bytes());
                // Contents are written whole or not at all, so one that is there is right.
                if !exists(&store, &name) {
                    replace(&store, &name, before.text.as_bytes(), Some(0o600), || Ok(())).map_err(&wrong)?;
                }
                Some(name)
            }
            None => None,
        };
        let record = Record {
            task_id: task_id.to_owned(),
            path: snapshot.path.clone(),
            existed: snapshot.before.is_some(),
            sha256: content.clone(),
            mode: snapshot.before.as_ref().map(|before| before.mode),
            new_folders: self.new_folders(&snapshot.path)?,
        };
        let text = serde_json::to_vec_pretty(&record).map_err(|error| wrong(error.into()))?;
        let stem = format!("{}-{}", plain_name(task_id), unix_ms());
        let (record_name, lock) = create_record(&store, &stem, &text).map_err(&wrong)?;
        Ok(Backup { snapshot, new_folders: record.new_folders, content, record: record_name, _lock: lock })
    }

    /// Writes the file of a backup. If somebody else changed it since the snapshot, it is left alone and
    /// the error says so.
    pub fn write(&self, backup: &Backup, text: &str) -> Result<()> {
        let (folder, name) = path::split(&backup.snapshot.path);
        let dir = self.create_folders(folder, &backup.snapshot.path)?;
        let mode = backup.snapshot.before.as_ref().map(|before| before.mode);
        self.put(&dir, name, text, mode, backup, || {
            let now = self.snapshot(&backup.snapshot.path)?;
            match now.text() == backup.snapshot.text() {
                true => Ok(()),
                false => Err(Error::Changed { path: backup.snapshot.path.clone() }),
            }
        })
    }

    /// Removes the file of a backup, unless somebody else changed it since the snapshot.
    pub fn remove(&self, backup: &Backup) -> Result<()> {
        let path = &backup.snapshot.path;
        if self.snapshot(path)?.text() != backup.snapshot.text() {
            return Err(Error::Changed { path: path.clone() });
        }
        let (folder, name) = path::split(path);
        let Some(dir) = self.folder(folder, path)? else { return Ok(()) };
        match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => sync(&dir).map_err(self.io(path)),
            Err(error) => Err(self.io(path)(error.into())),
        }
    }

    /// Brings the saved state back: bytes and mode, or no file and none of the folders made for it.
    pub fn restore(&self, backup: &Backup) -> Result<()> {
        let path = &backup.snapshot.path;
        let (folder, name) = path::split(path);
        if let Some(before) = &backup.snapshot.before {
            let dir = self.create_folders(folder, path)?;
            return self.put(&dir, name, &before.text, Some(before.mode), backup, || Ok(()));
        }
        let Some(dir) = self.folder(folder, path)? else { return Ok(()) };
        match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => sync(&dir).map_err(self.io(path))?,
            Err(error) => return Err(self.io(path)(error.into())),
        }
        for created in backup.new_folders.iter().rev() {
            let (parent, name) = path::split(created);
            let Some(dir) = self.folder(parent, path)? else { continue };
            // A folder in which something else appeared stays.
            if rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR).is_ok() {
                sync(&dir).map_err(self.io(path))?;
            }
        }
        Ok(())
    }

    /// Ends a run: its record becomes a part of the history.
    pub fn close(&self, backup: Backup) -> Result<()> {
        let store = self.store()?;
        let wrong = self.io(&backup.record_path());
        let (open, closed) = (format!("{}{OPEN}", backup.record), format!("{}.json", backup.record));
        match rustix::fs::renameat(&store, open, &store, closed) {
            Ok(()) => sync(&store).map_err(wrong),
            // Another run took this one for dead in the moment before it held its lock.
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(wrong(error.into())),
        }
    }

    /// Cleans up after runs that were killed: removes their temporary files, closes their records, and
    /// tells what they were at. Files are left as they are, old or new.
    pub fn recover(&self, path: &str) -> Result<Vec<Interrupted>> {
        let mut folders = vec![path::split(&path::relative(path)?).0.to_owned()];
        let mut found = Vec::new();
        if let Some(store) = self.folder(&format!("{HOME}/{STORE}"), HOME)? {
            let wrong = self.io(&format!("{HOME}/{STORE}"));
            sweep(&store).map_err(&wrong)?;
            for entry in store.entries().map_err(&wrong)? {
                let name = entry.map_err(&wrong)?.file_name();
                let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(OPEN)) else { continue };
                let Some((record, _held)) = read_abandoned(&store, &format!("{stem}{OPEN}")) else {
                    continue;
                };
                let closed = format!("{stem}.json");
                rustix::fs::renameat(&store, format!("{stem}{OPEN}"), &store, closed)
                    .map_err(|error| wrong(error.into()))?;
                if let Some(record) = record {
                    let backup = record.sha256.map(|name| format!("{HOME}/{STORE}/{name}"));
                    folders.extend(path::relative(&record.path).map(|path| path::split(&path).0.to_owned()));
                    found.push(Interrupted { task_id: record.task_id, path: record.path, backup });
                }
            }
        }
        folders.sort();
        folders.dedup();
        for folder in folders {
            // A folder that is gone, or is no folder any more, has no strays.
            if let Ok(Some(dir)) = self.folder(&folder, &folder) {
                sweep(&dir).map_err(self.io(&folder))?;
            }
        }
        Ok(found)
    }

    fn put(
        &self,
        dir: &Dir,
        name: &str,
        text: &str,
        mode: Option<u32>,
        backup: &Backup,
        check: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let wrong = self.io(&backup.snapshot.path);
        let mut refused = None;
        let done: std::io::Result<()> = replace(dir, name, text.as_bytes(), mode, || {
            check().map_err(|error| {
                refused = Some(error);
                std::io::ErrorKind::Other.into()
            })
        });
        match (done, refused) {
            (_, Some(error)) => Err(error),
            (done, None) => done.map_err(wrong),
        }
    }

    /// The folder of backups, made where it is missing; git is told to pass over it.
    fn store(&self) -> Result<Dir> {
        let root = self.reopen()?;
        let home = self.make(&root, HOME, 0o700, HOME)?;
        if !exists(&home, ".gitignore") {
            replace(&home, ".gitignore", b"*\n", None, || Ok(())).map_err(self.io(HOME))?;
        }
        self.make(&home, STORE, 0o700, HOME)
    }

    fn create_folders(&self, folder: &str, path: &str) -> Result<Dir> {
        let mut dir = self.reopen()?;
        for name in folder.split('/').filter(|name| !name.is_empty()) {
            dir = self.make(&dir, name, 0o777, path)?;
        }
        Ok(dir)
    }

    /// Opens a folder, making it first where it is missing.
    fn make(&self, dir: &Dir, name: &str, mode: u32, path: &str) -> Result<Dir> {
        if let Some(found) = self.step(dir, name, path)? {
            return Ok(found);
        }
        let wrong = self.io(path);
        match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode as _)) {
            Ok(()) => sync(dir).map_err(&wrong)?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(wrong(error.into())),
        }
        self.step(dir, name, path)?.ok_or_else(|| wrong(std::io::ErrorKind::NotFound.into()))
    }

    /// Which folders on the way to a file do not exist, outermost first.
    fn new_folders(&self, path: &str) -> Result<Vec<String>> {
        let folder = path::split(path).0;
        let ends = folder.match_indices('/').map(|(at, _)| at).chain([folder.len()]);
        let mut missing = Vec::new();
        for end in ends.filter(|end| *end > 0) {
            if self.folder(&folder[..end], path)?.is_none() {
                missing.push(folder[..end].to_owned());
            }
        }
        Ok(missing)
    }
}

/// A new record file, locked and on the disk, and its name without the ending.
fn create_record(store: &Dir, stem: &str, text: &[u8]) -> std::io::Result<(String, File)> {
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for number in 0..10_000 {
        let name = format!("{stem}-{number}");
        let open = format!("{name}{OPEN}");
        // The lock is on a file of its own until the record is whole, so nobody reads half of one.
        match rustix::fs::openat(store, open.as_str(), flags, Mode::from_raw_mode(0o600)) {
            Ok(fd) => drop(fd),
            Err(Errno::EXIST) => continue,
            Err(error) => return Err(error.into()),
        }
        replace(store, &open, text, Some(0o600), || Ok::<(), std::io::Error>(()))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(store, open.as_str(), flags, Mode::empty())?);
        lock(&file, FlockOperation::LockExclusive)?;
        return Ok((name, file));
    }
    Err(std::io::Error::new(
        std::io::ErrorKind::AlreadyExists,
        "too many records of one task; remove old backups",
    ))
}

/// A record whose run is gone, and the lock on it; the record is None if it cannot be read.
fn read_abandoned(store: &Dir, name: &str) -> Option<(Option<Record>, File)> {
    let mut file = abandoned(store, name)?;
    let mut text = String::new();
    file.by_ref().take(1 << 20).read_to_string(&mut text).ok()?;
    Some((serde_json::from_str(&text).ok(), file))
}

fn exists(dir: &Dir, name: &str) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An id as a part of a file name.
fn plain_name(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    let name: String = id.chars().take(64).map(plain).collect();
    if name.is_empty() { "task".to_owned() } else { name }
}

fn unix_ms() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis())
}
