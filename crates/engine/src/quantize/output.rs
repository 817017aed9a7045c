//! The new file: under its name once it is complete and on the disk, and not at all before.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::QuantizeOptions;
use crate::{Error, Result};

/// A file that is being written beside where it will be. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Output {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
    replace: bool,
}

impl Output {
    /// Begins the file of `options`, which will have `bytes` bytes and is read from `inputs`.
    pub(super) fn create(options: &QuantizeOptions, inputs: &[PathBuf], bytes: u64) -> Result<Self> {
        let path = &options.output;
        check_name(options, inputs)?;
        let folder = folder_of(path);
        check_room(path, folder, bytes)?;
        let mut builder = tempfile::Builder::new();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{name}.");
        builder.prefix(&prefix).suffix(".partial");
        // The rights of any other new file; temporary ones are their owner's alone.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder).map_err(|source| failed(path, source))?;
        Ok(Self { file: BufWriter::new(file), path: path.clone(), replace: options.replace })
    }

    /// Gives the file its name, once all of it is on the disk.
    pub(super) fn keep(self) -> Result<()> {
        let Self { file, path, replace } = self;
        let kept = file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| {
            file.as_file().sync_all()?;
            let named = if replace { file.persist(&path) } else { file.persist_noclobber(&path) };
            named.map(drop).map_err(|error| error.error)
        });
        match kept {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Error::Exists { path }),
            Err(error) => return Err(failed(&path, error)),
            Ok(()) => {}
        }
        // The name itself; some systems cannot do that to a folder, and the data is safe already.
        let _ = File::open(folder_of(&path)).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Refuses a name that is taken, and those of the inputs in any case.
fn check_name(options: &QuantizeOptions, inputs: &[PathBuf]) -> Result<()> {
    let path = &options.output;
    if inputs.iter().any(|input| is_same(path, input)) || path.is_dir() {
        let problem = format!("`{}` is part of the input or a folder; name a new file", path.display());
        return Err(Error::Request { field: "output", problem });
    }
    if path.file_name().is_none() {
        return Err(Error::Request { field: "output", problem: "is not the name of a file".into() });
    }
    if !options.replace && path.symlink_metadata().is_ok() {
        return Err(Error::Exists { path: path.clone() });
    }
    Ok(())
}

/// Whether both are there and the same file, whatever it is called.
fn is_same(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    let identity = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
    };
    #[cfg(not(unix))]
    let identity = |path: &Path| fs::canonicalize(path).ok();
    identity(a).is_some_and(|a| identity(b) == Some(a))
}

/// Refuses a file that the disk has no room for, where the system tells.
fn check_room(path: &Path, folder: &Path, bytes: u64) -> Result<()> {
    #[cfg(unix)]
    if let Ok(disk) = rustix::fs::statvfs(folder) {
        let available = disk.f_bavail.saturating_mul(disk.f_frsize);
        if bytes > available {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            let (needed_gib, available_gib) = (gib(bytes), gib(available));
            return Err(Error::DiskFull { path: path.to_owned(), needed_gib, available_gib });
        }
    }
    #[cfg(not(unix))]
    let _ = (path, folder, bytes);
    Ok(())
}

/// The folder that `path` names a file in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.to_owned(), source }
}
