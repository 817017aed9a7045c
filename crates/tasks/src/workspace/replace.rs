//! The one function through which files are written, and what cleans up after a crash of it.

use std::fs::File;
use std::io::Write;

use cap_std::fs::Dir;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::TEMPORARY;

/// Replaces or creates the file `name` in `dir`, such that at every moment it is the old or the new one,
/// whole, even after a power cut: temporary file in the same folder, fsync, rename, fsync of the folder.
///
/// `mode` are the permission bits; None leaves a new file to the umask. `before_rename` has the last
/// word: its error leaves the file as it is.
pub(super) fn replace<E: From<std::io::Error>>(
    dir: &Dir,
    name: &str,
    bytes: &[u8],
    mode: Option<u32>,
    before_rename: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    let (temporary, mut file) = create(dir, mode).map_err(E::from)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| match mode {
            // The umask took bits away from what the old file had.
            Some(mode) => rustix::fs::fchmod(&file, Mode::from_raw_mode(mode as _)).map_err(Into::into),
            None => Ok(()),
        })
        .and_then(|()| file.sync_all())
        .map_err(E::from)
        .and_then(|()| before_rename())
        .and_then(|()| {
            rustix::fs::renameat(dir, &temporary, dir, name).map_err(|error| E::from(error.into()))
        });
    if let Err(error) = written {
        // The first error is the one to tell; a file that stays behind is swept by a later run.
        let _ = rustix::fs::unlinkat(dir, &temporary, AtFlags::empty());
        return Err(error);
    }
    sync(dir).map_err(E::from)
}

/// Makes what was created, renamed or removed in a folder durable.
pub(super) fn sync(dir: &Dir) -> std::io::Result<()> {
    match rustix::fs::fsync(dir) {
        // Some file systems cannot synchronise folders; then there is nothing to be done.
        Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A new temporary file, locked for as long as it is open, which is how [`sweep`] knows that it is in use.
fn create(dir: &Dir, mode: Option<u32>) -> std::io::Result<(String, File)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // A file with permissions of its own is private until it has them.
    let mode = Mode::from_raw_mode(if mode.is_some() { 0o600 } else { 0o666 });
    for number in 0..10_000 {
        let name = format!("{TEMPORARY}{}-{number}", std::process::id());
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

/// Locks an open file. A file system without locks counts as locked: its strays then stay.
pub(super) fn lock(file: &File, how: FlockOperation) -> std::io::Result<()> {
    match rustix::fs::flock(file, how) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) if how == FlockOperation::LockExclusive => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a file if nobody holds its lock.
pub(super) fn abandoned(dir: &Dir, name: &str) -> Option<File> {
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
            removed += usize::from(rustix::fs::unlinkat(dir, name, AtFlags::empty()).is_ok());
        }
    }
    Ok(removed)
}
