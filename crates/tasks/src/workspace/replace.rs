//! The one way in which files are written, and what cleans up after a crash of it.

use std::fs::File;
use std::io::Write;

use cap_std::fs::Dir;
use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::TEMPORARY;
use super::fault::step;

/// New content of a file, whole and on the disk under a temporary name in the file's folder.
#[derive(Debug)]
pub(super) struct Staged {
    dir: Dir,
    name: String,
    temporary: Option<String>,
    /// Locked for as long as it is open, which is how [`sweep`] knows that it is in use.
    file: File,
}

/// What stood in the place of a file that was put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stood {
    /// Nothing.
    Nothing,
    /// What [`Staged::old`] says.
    Old,
    /// The file system cannot exchange files, so what stood there is gone.
    Unknown,
}

/// Prepares the file `name` in `dir`. `mode` are the permission bits; None leaves a new file to the umask.
/// A file that exists keeps its owner and group where the system lets it.
pub(super) fn stage(dir: &Dir, name: &str, bytes: &[u8], mode: Option<u32>) -> std::io::Result<Staged> {
    let dir = dir.try_clone()?;
    let (temporary, file) = create(&dir, mode)?;
    // From here on an error removes the temporary file.
    let mut staged = Staged { dir, name: name.to_owned(), temporary: Some(temporary), file };
    step()?;
    staged.file.write_all(bytes)?;
    keep_owner(&staged.dir, name, &staged.file)?;
    if let Some(mode) = mode {
        // The umask took bits away from what the old file had.
        rustix::fs::fchmod(&staged.file, Mode::from_raw_mode(mode as _))?;
    }
    step()?;
    staged.file.sync_all()?;
    Ok(staged)
}

impl Staged {
    /// Puts the file in its place, such that at every moment it is the old or the new one, whole, even
    /// after a power cut. What stood there, if anything did, is in [`old`](Staged::old) until this is
    /// dropped; a symbolic link in that place is exchanged, not followed.
    pub(super) fn place(&mut self) -> std::io::Result<Stood> {
        let Some(temporary) = &self.temporary else { return Ok(Stood::Unknown) };
        let (dir, name) = (&self.dir, self.name.as_str());
        let stood = loop {
            step()?;
            match rename(dir, temporary, name, How::Exchange) {
                Ok(true) => break Stood::Old,
                Ok(false) => break Stood::Unknown,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            step()?;
            match rename(dir, temporary, name, How::New) {
                Ok(_) => break Stood::Nothing,
                // Somebody made one in this moment; it is exchanged like any other.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        };
        if stood != Stood::Old {
            self.temporary = None;
        }
        sync(&self.dir)?;
        Ok(stood)
    }

    /// Takes back what [`place`](Staged::place) did.
    pub(super) fn put_back(&mut self) -> std::io::Result<()> {
        let (dir, name) = (&self.dir, self.name.as_str());
        match &self.temporary {
            Some(temporary) => {
                step()?;
                match rename(dir, temporary, name, How::Exchange) {
                    // There was no new file, or it is gone.
                    Err(Errno::NOENT) => {
                        step()?;
                        rename(dir, temporary, name, How::New)?;
                        self.temporary = None;
                    }
                    done => drop(done?),
                }
                sync(dir)
            }
            None => remove(dir, name),
        }
    }

    /// What stood in the place, under the temporary name that it has now.
    pub(super) fn old(&self) -> Option<(&Dir, &str)> {
        self.temporary.as_deref().map(|temporary| (&self.dir, temporary))
    }

    /// Removes what stood in the place.
    pub(super) fn finish(mut self) -> std::io::Result<()> {
        match self.temporary.take() {
            Some(temporary) => remove(&self.dir, &temporary),
            None => Ok(()),
        }
    }
}

impl Drop for Staged {
    /// What is left under the temporary name goes; if that fails, a later run sweeps it.
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = step().map(|()| rustix::fs::unlinkat(&self.dir, temporary.as_str(), AtFlags::empty()));
        }
    }
}

/// Moves the file `name` away, so that it can be looked at before it is gone; None if there is none.
pub(super) fn take_away(dir: &Dir, name: &str) -> std::io::Result<Option<Staged>> {
    let dir = dir.try_clone()?;
    let (temporary, file) = create(&dir, Some(0o600))?;
    let staged = Staged { dir, name: name.to_owned(), temporary: Some(temporary), file };
    let Some((dir, temporary)) = staged.old() else { return Ok(None) };
    step()?;
    match rustix::fs::renameat(dir, name, dir, temporary) {
        Ok(()) => {
            sync(dir)?;
            Ok(Some(staged))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How a file gets a name that may be taken.
enum How {
    /// The two change names; it is an error if the name is free.
    Exchange,
    /// It is an error if the name is taken.
    New,
}

/// Renames within a folder; whether in that way. A system or file system that cannot gets the plain one,
/// after which nothing stands under the old name.
fn rename(dir: &Dir, from: &str, to: &str, how: How) -> rustix::io::Result<bool> {
    #[cfg(target_os = "linux")]
    {
        let flags = match how {
            How::Exchange => rustix::fs::RenameFlags::EXCHANGE,
            How::New => rustix::fs::RenameFlags::NOREPLACE,
        };
        match rustix::fs::renameat_with(dir, from, dir, to, flags) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            done => return done.map(|()| true),
        }
    }
    let _ = how;
    rustix::fs::renameat(dir, from, dir, to).map(|()| false)
}

/// Replaces or creates the file `name` in `dir` in one go.
pub(super) fn replace(dir: &Dir, name: &str, bytes: &[u8], mode: Option<u32>) -> std::io::Result<()> {
    let mut staged = stage(dir, name, bytes, mode)?;
    staged.place()?;
    staged.finish()
}

/// Removes a file; one that is not there counts as removed.
pub(super) fn remove(dir: &Dir, name: &str) -> std::io::Result<()> {
    step()?;
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => sync(dir),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes an empty folder; whether it is gone.
pub(super) fn remove_folder(dir: &Dir, name: &str) -> std::io::Result<bool> {
    step()?;
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) => sync(dir).map(|()| true),
        Err(error) => Ok(error == Errno::NOENT),
    }
}

/// Makes a folder, unless somebody else did in the meantime.
pub(super) fn make_folder(dir: &Dir, name: &str, mode: u32) -> std::io::Result<()> {
    step()?;
    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode as _)) {
        Ok(()) => sync(dir),
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes what was created, renamed or removed in a folder durable.
pub(super) fn sync(dir: &Dir) -> std::io::Result<()> {
    step()?;
    match rustix::fs::fsync(dir) {
        // Some file systems cannot synchronise folders; then there is nothing to be done.
        Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A new temporary file, locked.
fn create(dir: &Dir, mode: Option<u32>) -> std::io::Result<(String, File)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // A file with permissions of its own is private until it has them.
    let mode = Mode::from_raw_mode(if mode.is_some() { 0o600 } else { 0o666 });
    for number in 0..10_000 {
        let name = format!("{TEMPORARY}{}-{number}", std::process::id());
        step()?;
        let file = match rustix::fs::openat(dir, name.as_str(), flags, mode) {
            Ok(fd) => File::from(fd),
            Err(Errno::EXIST) => continue,
            Err(error) => return Err(error.into()),
        };
        lock(&file, FlockOperation::LockExclusive)?;
        // Between creation and lock another process may have swept it.
        if rustix::fs::fstat(&file)?.st_nlink == 1 {
            return Ok((name, file));
        }
    }
    Err(std::io::Error::new(
        std::io::ErrorKind::AlreadyExists,
        "too many temporary files; remove `.coder-tmp-*`",
    ))
}

/// Gives a new file the owner and group of the one that it replaces.
fn keep_owner(dir: &Dir, name: &str, file: &File) -> std::io::Result<()> {
    let Ok(old) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
    let new = rustix::fs::fstat(file)?;
    let owner = (old.st_uid != new.st_uid).then(|| Uid::from_raw(old.st_uid));
    let group = (old.st_gid != new.st_gid).then(|| Gid::from_raw(old.st_gid));
    if owner.is_some() || group.is_some() {
        // Only the superuser may give files away; then the file is the writer's, as with every editor.
        let _ = rustix::fs::fchown(file, owner, group);
    }
    Ok(())
}

/// Locks an open file. A file system without locks counts as locked: its strays then stay.
pub(super) fn lock(file: &File, how: FlockOperation) -> std::io::Result<()> {
    match rustix::fs::flock(file, how) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) if how == FlockOperation::LockExclusive => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a file if nobody holds its lock.
fn abandoned(dir: &Dir, name: &str) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty()).ok()?);
    lock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

/// Removes the temporary files that a killed process left in a folder; how many.
pub(super) fn sweep(dir: &Dir) -> std::io::Result<usize> {
    let mut removed = 0;
    for entry in dir.entries()? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(TEMPORARY)) else { continue };
        if let Some(_held) = abandoned(dir, name) {
            step()?;
            removed += usize::from(rustix::fs::unlinkat(dir, name, AtFlags::empty()).is_ok());
        }
    }
    Ok(removed)
}
