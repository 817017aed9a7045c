//! The folder that a task may change, and the only way to read and write in it.
//!
//! Every path is walked from the folder's own descriptor, one component at a time, and no component may
//! be a symbolic link: nothing outside can be reached, whatever changes meanwhile. (This is what
//! `openat2` with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS does, on every system.) Files are replaced
//! whole, through one function, in transactions whose journal and old contents lie outside of the tree.

mod bring_back;
mod fault;
mod journal;
mod prune;
mod recover;
mod replace;
mod state;
mod transaction;
mod undo;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

pub(crate) use journal::sha256;
pub(crate) use prune::prune_folders;
pub use recover::Interrupted;
pub(crate) use state::{Held, hold};
pub use state::{default_state, make_private};
pub use transaction::{Displaced, Transaction};
pub use undo::Done;

use state::State;

use crate::task::Task;
use crate::{Error, Result, path};

/// How the names of temporary files begin, so that strays can be told.
pub const TEMPORARY: &str = ".coder-tmp-";

/// The largest file that is edited or shown to a model, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// An open folder.
#[derive(Debug)]
pub struct Workspace {
    root: Dir,
    path: PathBuf,
    /// Where the state of all workspaces is kept.
    states: PathBuf,
    /// The state of this one, locked. There as soon as something is to be written.
    state: OnceLock<State>,
    /// What killed runs were at, until somebody asks. Its lock also keeps two threads from opening the state.
    interrupted: Mutex<Vec<Interrupted>>,
}

/// A file as it was before the task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its path in plain form.
    pub path: String,
    /// Its content, if it exists.
    pub before: Option<Before>,
}

/// The content of an existing file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// The text, byte for byte.
    pub text: String,
    /// The permission bits, the lower nine.
    pub mode: u32,
}

impl Snapshot {
    /// The text, if the file exists.
    pub fn text(&self) -> Option<&str> {
        self.before.as_ref().map(|before| before.text.as_str())
    }
}

impl Workspace {
    /// Opens an existing folder. `states` is the folder outside of it for journals and old contents, such
    /// as [`default_state`] names one; it is made, and this workspace's part of it locked, as soon as
    /// something is to be written. Until then, a workspace can be open many times.
    pub fn open(path: &Path, states: &Path) -> Result<Workspace> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let full = std::fs::canonicalize(path).map_err(io)?;
        let root = Dir::open_ambient_dir(&full, ambient_authority()).map_err(io)?;
        if is_git_folder(&root) || full.iter().any(|part| part.eq_ignore_ascii_case(".git")) {
            return Err(Error::Path { path: full.display().to_string(), problem: GIT_FOLDER });
        }
        Ok(Workspace {
            root,
            path: full,
            states: states.to_owned(),
            state: OnceLock::new(),
            interrupted: Mutex::new(Vec::new()),
        })
    }

    /// The folder's absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a text file of at most `limit` bytes.
    pub fn read(&self, path: &str, limit: u64) -> Result<String> {
        let path = path::relative(path)?;
        let missing = || self.io(&path)(std::io::ErrorKind::NotFound.into());
        let (folder, name) = path::split(&path);
        let dir = self.folder(folder, &path)?.ok_or_else(missing)?;
        let (before, _) = self.read_in(&dir, name, &path, limit)?.ok_or_else(missing)?;
        Ok(before.text)
    }

    /// The present state of a file that is to be written: absent, or a regular text file with one name.
    pub fn snapshot(&self, path: &str) -> Result<Snapshot> {
        let path = path::relative(path)?;
        let (folder, name) = path::split(&path);
        let Some(dir) = self.folder(folder, &path)? else { return Ok(Snapshot { path, before: None }) };
        let before = match self.read_in(&dir, name, &path, MAX_FILE_BYTES)? {
            Some((_, links)) if links > 1 => {
                let problem =
                    "it has several hard links, so writing it would change another file; copy it first";
                return Err(Error::Path { path, problem });
            }
            found => found.map(|(before, _)| before),
        };
        Ok(Snapshot { path, before })
    }

    /// Writes down what a person needs to go on with a task, in place of what was written about it before.
    pub(crate) fn hand_over(&self, folder: Option<&Path>, task: &Task, text: &str) -> Result<PathBuf> {
        state::hand_over(folder.unwrap_or(&self.states), task, text)
    }

    /// The state of this workspace. The first call takes the lock, and takes back what killed runs did.
    fn state(&self) -> Result<&State> {
        if let Some(state) = self.state.get() {
            return Ok(state);
        }
        let mut interrupted = self.interrupted.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state.get().is_none() {
            let state = State::open(&self.states, &self.path)?;
            *interrupted = self.replay(&state)?;
            // A store that is larger than it need be is no reason not to work.
            let _ = state.prune();
            // Nobody else can have set it: the lock is held.
            let _ = self.state.set(state);
        }
        self.state.get().ok_or(Error::NoState)
    }

    /// Opens a folder by its plain path, "" for the root; None if it does not exist.
    fn folder(&self, folder: &str, path: &str) -> Result<Option<Dir>> {
        let mut dir = self.reopen()?;
        for name in folder.split('/').filter(|name| !name.is_empty()) {
            match self.step(&dir, name, path)? {
                Some(next) => dir = next,
                None => return Ok(None),
            }
        }
        Ok(Some(dir))
    }

    /// The root with a descriptor of its own, one that can be synchronised.
    fn reopen(&self) -> Result<Dir> {
        open_dir(&self.root, ".").map_err(|error| self.io("")(error.into()))
    }

    /// Opens the folder `name` in `dir`; None if it does not exist.
    fn step(&self, dir: &Dir, name: &str, path: &str) -> Result<Option<Dir>> {
        match open_dir(dir, name) {
            Ok(next) if is_git_folder(&next) => {
                Err(Error::Path { path: path.to_owned(), problem: GIT_FOLDER })
            }
            Ok(next) => Ok(Some(next)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(Error::Path {
                path: path.to_owned(),
                problem: "a folder in it is a symbolic link or not a folder; name the file by its real path",
            }),
            Err(error) => Err(self.io(path)(error.into())),
        }
    }

    /// The text of a regular file and how many names it has; None if it does not exist.
    fn read_in(&self, dir: &Dir, name: &str, path: &str, limit: u64) -> Result<Option<(Before, u64)>> {
        let Some((bytes, stat)) = self.bytes_in(dir, name, path, limit)? else { return Ok(None) };
        let text = String::from_utf8(bytes).map_err(|_| Error::NotText { path: path.to_owned() })?;
        if text.contains('\0') {
            return Err(Error::NotText { path: path.to_owned() });
        }
        // The kernels' types differ between systems.
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
        Ok(Some((Before { text, mode: stat.st_mode as u32 & 0o777 }, stat.st_nlink as u64)))
    }

    /// The bytes of a regular file; None if it does not exist. Nothing else is ever opened.
    fn bytes_in(&self, dir: &Dir, name: &str, path: &str, limit: u64) -> Result<Option<(Vec<u8>, Stat)>> {
        let errno = |error: Errno| self.io(path)(error.into());
        // Looking first keeps devices and pipes from being opened at all.
        match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => regular(&stat, path)?,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(errno(error)),
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(errno)?);
        let stat = rustix::fs::fstat(&file).map_err(errno)?;
        regular(&stat, path)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut bytes = Vec::new();
        if size <= limit {
            file.by_ref().take(limit + 1).read_to_end(&mut bytes).map_err(self.io(path))?;
        }
        // It may have grown while it was read.
        let size = size.max(bytes.len() as u64);
        match size > limit {
            true => Err(Error::TooLarge { path: path.to_owned(), bytes: size, limit }),
            false => Ok(Some((bytes, stat))),
        }
    }

    fn create_folders(&self, folder: &str, path: &str) -> Result<Dir> {
        let mut dir = self.reopen()?;
        for name in folder.split('/').filter(|name| !name.is_empty()) {
            dir = self.make(&dir, name, path)?;
        }
        Ok(dir)
    }

    /// Opens a folder, making it first where it is missing.
    fn make(&self, dir: &Dir, name: &str, path: &str) -> Result<Dir> {
        if let Some(found) = self.step(dir, name, path)? {
            return Ok(found);
        }
        replace::make_folder(dir, name, 0o777).map_err(self.io(path))?;
        self.step(dir, name, path)?.ok_or_else(|| self.io(path)(std::io::ErrorKind::NotFound.into()))
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

    fn io(&self, path: &str) -> impl Fn(std::io::Error) -> Error + use<> {
        let path = self.path.join(path);
        move |source| Error::Io { path: path.clone(), source }
    }
}

fn open_dir(dir: &Dir, name: &str) -> rustix::io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).map(|fd| Dir::from_std_file(File::from(fd)))
}

const A_FOLDER: &str = "it is a folder; name a file";

const GIT_FOLDER: &str = "it is inside a git folder, which git alone writes; name a file of the checkout";

/// Whether a folder is what `.git` usually is, under whatever name: the test that git itself makes.
fn is_git_folder(dir: &Dir) -> bool {
    let kind = |name: &str| {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(FileType::from_raw_mode(stat.st_mode))
    };
    kind("HEAD").is_some()
        && kind("refs") == Some(FileType::Directory)
        && (kind("objects") == Some(FileType::Directory) || kind("commondir").is_some())
}

fn regular(stat: &Stat, path: &str) -> Result<()> {
    let problem = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Symlink => "it is a symbolic link; name the file by its real path",
        FileType::Directory => A_FOLDER,
        _ => "it is a pipe, a socket or a device; name a regular file",
    };
    Err(Error::Path { path: path.to_owned(), problem })
}

#[cfg(test)]
mod tests;
