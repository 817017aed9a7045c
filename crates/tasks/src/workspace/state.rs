//! The state of a workspace: a private folder outside of it with the journals of its transactions and the
//! contents that they replaced, locked by the one process that works there.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cap_std::fs::Dir;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::fault::step;
use super::journal::{Begin, Entry, Log, line, sha256};
use super::prune::{is_gone, prune_folders};
use super::replace::{lock, remove, replace, sweep, sync};
use crate::task::Task;
use crate::{Error, Result};

/// Where programs keep what they remember, by the XDG Base Directory Specification: `coder` in
/// `$XDG_STATE_HOME`, or in `~/.local/state`.
pub fn default_state() -> Result<PathBuf> {
    let given = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = given.or_else(|| Some(std::env::home_dir()?.join(".local/state")));
    base.filter(|base| base.is_absolute()).map(|base| base.join("coder")).ok_or(Error::NoState)
}

/// How long a child of a killed process may hold its lock: until it has started its own program.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// The largest journal that is read, in bytes.
const MAX_JOURNAL_BYTES: u64 = 16 << 20;

/// The state folder of one workspace.
#[derive(Debug)]
pub(super) struct State {
    path: PathBuf,
    pub(super) objects: Dir,
    journals: Dir,
    _lock: Held,
}

/// The journal of a transaction that has not ended.
#[derive(Debug)]
pub(super) struct Journal {
    number: u64,
    file: File,
    /// Bytes of whole lines.
    length: u64,
}

impl State {
    /// Opens the state of the workspace at `workspace`, a canonical path, in the folder `root`, and locks it.
    pub(super) fn open(root: &Path, workspace: &Path) -> Result<State> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { path, source }
        };
        make_private(root).map_err(io(root))?;
        let root = std::fs::canonicalize(root).map_err(io(root))?;
        if root.starts_with(workspace) {
            return Err(Error::StateInside { path: root });
        }
        let path = root.join("workspaces").join(key(workspace));
        for folder in ["objects", "journals"] {
            make_private(&path.join(folder)).map_err(io(&path))?;
        }
        let held = hold(&path.join("lock"), workspace)?;
        let open = |name: &str| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = rustix::fs::open(path.join(name), flags, Mode::empty());
            folder.map(|fd| Dir::from_std_file(File::from(fd))).map_err(|error| io(&path)(error.into()))
        };
        let (objects, journals) = (open("objects")?, open("journals")?);
        // For people who look into the folder.
        std::fs::write(path.join("workspace"), workspace.as_os_str().as_encoded_bytes())
            .map_err(io(&path))?;
        sweep(&objects).and_then(|_| sweep(&journals)).map_err(io(&path))?;
        prune_folders(&root.join("workspaces"), is_gone);
        Ok(State { path, objects, journals, _lock: held })
    }

    /// Keeps a content; it is on the disk when this returns.
    pub(super) fn save(&self, bytes: &[u8]) -> Result<String> {
        let name = sha256(bytes);
        // Contents are written whole or not at all, so one that is there is right.
        if rustix::fs::statat(&self.objects, name.as_str(), rustix::fs::AtFlags::empty()).is_err() {
            replace(&self.objects, &name, bytes, Some(0o600)).map_err(self.wrong())?;
        }
        Ok(name)
    }

    /// A content that was kept.
    pub(super) fn load(&self, name: &str) -> Result<String> {
        let bytes = std::fs::read(self.content_path(name)).map_err(self.wrong())?;
        match (sha256(&bytes) == name, String::from_utf8(bytes)) {
            (true, Ok(text)) => Ok(text),
            _ => Err(Error::Damaged { path: self.content_path(name) }),
        }
    }

    /// Where a content is kept.
    pub(super) fn content_path(&self, name: &str) -> PathBuf {
        self.path.join("objects").join(name)
    }

    /// The same, for people.
    pub(super) fn kept(&self, name: &str) -> String {
        self.content_path(name).display().to_string()
    }

    /// Begins a journal; its first line is on the disk when this returns.
    pub(super) fn begin(&self, begin: Begin) -> Result<Journal> {
        let first = self.numbers()?.last().map_or(1, |(number, _)| number + 1);
        for number in first.. {
            step().map_err(self.wrong())?;
            let made = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(self.journal_path(number, OPEN));
            let file = match made {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                made => made.map_err(self.wrong())?,
            };
            let mut journal = Journal { number, file, length: 0 };
            self.append(&mut journal, &Entry::Begin(begin))?;
            sync(&self.journals).map_err(self.wrong())?;
            return Ok(journal);
        }
        Err(Error::Damaged { path: self.path.clone() })
    }

    /// Appends a line; it is on the disk when this returns. If it cannot be, the journal is as it was.
    pub(super) fn append(&self, journal: &mut Journal, entry: &Entry) -> Result<()> {
        let line = line(entry);
        let written = step()
            .and_then(|()| journal.file.write_all(&line))
            .and_then(|()| step())
            .and_then(|()| journal.file.sync_data());
        if let Err(error) = written {
            if step().is_ok() {
                let _ = journal.file.set_len(journal.length);
                let _ = journal.file.seek(std::io::SeekFrom::End(0));
            }
            return Err(self.wrong()(error));
        }
        journal.length += line.len() as u64;
        Ok(())
    }

    /// A journal of a former process, to be gone on with behind its whole lines.
    pub(super) fn reopen(&self, number: u64, log: &[u8]) -> Result<Journal> {
        let whole: usize = super::journal::entries(log).iter().map(|entry| line(entry).len()).sum();
        let length = whole as u64;
        let file = OpenOptions::new().read(true).write(true).open(self.journal_path(number, OPEN));
        let mut file = file.map_err(self.wrong())?;
        step().and_then(|()| file.set_len(length)).map_err(self.wrong())?;
        file.seek(std::io::SeekFrom::End(0)).map_err(self.wrong())?;
        Ok(Journal { number, file, length })
    }

    /// Keeps what a command may spoil beside a journal, in place of what was kept there before.
    pub(super) fn shelter(&self, number: u64, packed: &[u8]) -> Result<()> {
        replace(&self.journals, &sheltered(number), packed, Some(0o600)).map_err(self.wrong())
    }

    /// What is kept beside a journal, packed.
    pub(super) fn sheltered(&self, number: u64) -> Result<Vec<u8>> {
        match std::fs::read(self.path.join("journals").join(sheltered(number))) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(self.wrong()),
        }
    }

    /// Nothing can be spoiled any more.
    pub(super) fn release(&self, number: u64) {
        // What is kept for longer than need be harms nobody.
        let _ = rustix::fs::unlinkat(&self.journals, sheltered(number), rustix::fs::AtFlags::empty());
    }

    /// Ends a transaction: its journal becomes a part of the history.
    pub(super) fn keep(&self, number: u64) -> Result<()> {
        self.release(number);
        let rename = std::fs::rename(self.journal_path(number, OPEN), self.journal_path(number, DONE));
        step().and(rename).and_then(|()| sync(&self.journals)).map_err(self.wrong())
    }

    /// Ends a transaction that came to nothing.
    pub(super) fn forget(&self, number: u64) -> Result<()> {
        self.release(number);
        remove(&self.journals, &format!("{number:08}.{OPEN}")).map_err(self.wrong())
    }

    /// Removes journals of the history.
    pub(super) fn unlink_done(&self, numbers: &[u64]) -> Result<()> {
        for number in numbers {
            step()
                .and_then(|()| std::fs::remove_file(self.journal_path(*number, DONE)))
                .map_err(self.wrong())?;
        }
        sync(&self.journals).map_err(self.wrong())
    }

    /// The transactions that have not ended, and those that have, by their numbers.
    pub(super) fn numbers(&self) -> Result<Vec<(u64, bool)>> {
        let mut found = Vec::new();
        for entry in self.journals.entries().map_err(self.wrong())? {
            let name = entry.map_err(self.wrong())?.file_name();
            let Some((number, ending)) = name.to_str().and_then(|name| name.split_once('.')) else {
                continue;
            };
            if let (Ok(number), OPEN | DONE) = (number.parse(), ending) {
                found.push((number, ending == OPEN));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The bytes of a journal.
    pub(super) fn bytes(&self, number: u64, open: bool) -> Result<Vec<u8>> {
        let path = self.journal_path(number, if open { OPEN } else { DONE });
        let file = File::open(path).map_err(self.wrong())?;
        let mut bytes = Vec::new();
        file.take(MAX_JOURNAL_BYTES).read_to_end(&mut bytes).map_err(self.wrong())?;
        Ok(bytes)
    }

    /// The transactions that are done, in the order in which they began.
    pub(super) fn history(&self) -> Result<Vec<(u64, Log)>> {
        let mut found = Vec::new();
        for (number, _) in self.numbers()?.into_iter().filter(|(_, open)| !open) {
            found.extend(Log::read(&self.bytes(number, false)?).map(|log| (number, log)));
        }
        Ok(found)
    }

    fn journal_path(&self, number: u64, ending: &str) -> PathBuf {
        self.path.join("journals").join(format!("{number:08}.{ending}"))
    }

    pub(super) fn wrong(&self) -> impl Fn(std::io::Error) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::Io { path: path.clone(), source }
    }
}

impl Journal {
    /// Its number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

/// Endings of journals whose transaction has not ended, and of those whose has.
pub(super) const OPEN: &str = "open";
const DONE: &str = "done";

/// The file with what a command may spoil.
fn sheltered(number: u64) -> String {
    format!("{number:08}.sheltered")
}

/// A workspace's folder: its last name for people, and a checksum, because paths can be long.
fn key(workspace: &Path) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    let name = workspace.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().take(32).map(plain).collect();
    format!("{name}-{}", &sha256(workspace.as_os_str().as_encoded_bytes())[..16])
}

/// Makes a folder that only its owner can look into, and those above it that are not there: what is remembered of work holds
/// parts of it.
pub fn make_private(folder: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Replaces the hand-over of a task as a whole.
pub(super) fn hand_over(root: &Path, task: &Task, text: &str) -> Result<PathBuf> {
    let folder = root.join("handover");
    let io = |source| Error::Io { path: folder.clone(), source };
    make_private(&folder).map_err(io)?;
    // A task's id may be any text; its beginning is for people, and the hash tells tasks of the same name apart.
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = task.id.chars().take(60).map(plain).collect();
    let hash = sha256(format!("{}\0{}", task.source, task.id).as_bytes());
    let path = folder.join(format!("{name}-{}.md", &hash[..8]));
    let mut file = tempfile::NamedTempFile::new_in(&folder).map_err(io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(io)?;
    file.persist(&path).map_err(|error| io(error.error))?;
    Ok(path)
}

/// A lock, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held(File);

impl Drop for Held {
    /// Closing the file is not enough: a child that another thread is just starting has it open as well.
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// Takes the lock of a workspace. A process that is gone holds none, but a child that it was about to
/// start may, for a moment.
pub(crate) fn hold(path: &Path, workspace: &Path) -> Result<Held> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    let begin = Instant::now();
    loop {
        match lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::OPNOTSUPP | Errno::NOSYS)) => {
                break;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(io(error)),
        }
        let holder = std::fs::read_to_string(path).unwrap_or_default();
        let holder = holder.trim().to_owned();
        let pid = holder.parse().ok().and_then(Pid::from_raw);
        let gone = pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH));
        if !gone || begin.elapsed() > LAST_BREATH {
            return Err(Error::Busy { path: workspace.to_owned(), holder });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(io)?;
    Ok(Held(file))
}
