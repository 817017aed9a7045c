//! Files mapped into memory, read only.

use std::{fs::File, io, ops::Deref, path::Path};

/// A file's bytes, mapped and not copied.
#[derive(Debug)]
pub struct Mapped(memmap2::Mmap);

impl Mapped {
    /// Maps the file at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        // SAFETY: the mapping is private and read only, and `Mapped` hands out shared slices alone. That
        // nobody truncates or rewrites the file while it is mapped is the one condition that no check
        // can establish; every engine that maps its weights shares it, and the README states it.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self(map))
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
