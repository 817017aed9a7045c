//! Memory straight from the system: files mapped read only, and zeroed pages.

use std::{fs::File, io, ops::Deref, ops::DerefMut, path::Path};

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

    /// Gives back the memory of whole pages within `part`, a slice of this mapping; reading them again fetches
    /// them again. What is not of this mapping is left alone.
    pub fn release(&self, part: &[u8]) {
        #[cfg(unix)]
        {
            let start = (part.as_ptr() as usize).wrapping_sub(self.0.as_ptr() as usize);
            let end = start.saturating_add(part.len());
            if start >= self.0.len() || end > self.0.len() {
                return;
            }
            let (first, last) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
            if first < last {
                // SAFETY: the mapping is of a file, private and never written to: pages that are dropped come
                // back with the same bytes. It is only advice, so that a failure changes nothing.
                let _ = unsafe {
                    self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, first, last - first)
                };
            }
        }
    }
}

/// A multiple of the page size of every processor that this runs on.
#[cfg(unix)]
const PAGE: usize = 1 << 16;

/// Zeroed pages of memory, in large pages where the system has them.
#[derive(Debug)]
pub(crate) struct Memory(memmap2::MmapMut);

impl Memory {
    /// `len` bytes, at least one; `None` if the system has not as many.
    pub(crate) fn zeroed(len: usize) -> Option<Self> {
        let map = memmap2::MmapMut::map_anon(len).ok()?;
        // Fewer page faults and address lookups; systems without large pages refuse, which is no loss.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Some(Self(map))
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
