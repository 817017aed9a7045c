//! Memory straight from the system: files mapped read only, and zeroed pages.

use std::sync::{Arc, Mutex, PoisonError};
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
pub(crate) struct Memory {
    map: Arc<memmap2::MmapRaw>,
    /// The part of the mapping that is this one's alone.
    first: usize,
    len: usize,
}

impl Memory {
    /// `len` bytes, at least one; `None` if the system has not as many.
    pub(crate) fn zeroed(len: usize) -> Option<Self> {
        let map = memmap2::MmapMut::map_anon(len).ok()?;
        // Fewer page faults and address lookups; systems without large pages refuse, which is no loss.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Some(Self { map: Arc::new(map.into()), first: 0, len })
    }

    /// Takes the first `len` bytes off; there are as many.
    fn take(&mut self, len: usize) -> Self {
        let taken = Self { map: Arc::clone(&self.map), first: self.first, len };
        self.len -= len;
        self.first += len;
        taken
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: these bytes are within the mapping, which lives as long as this, and no other `Memory` has them.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.first), self.len) }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().add(self.first), self.len) }
    }
}

/// Memory for what comes and goes together, side by side: a large page may hold the end of one and the beginning of the
/// next, where each by itself would have small ones at both ends. It is the system's again when all of a mapping is.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// What nobody has of the last mapping.
    rest: Mutex<Option<Memory>>,
}

impl Pool {
    /// Bytes of a mapping, if nobody wants more at once. What is never written to takes no memory.
    const MAPPED: usize = 256 << 20;

    /// As [`Memory::zeroed`]; it begins with a cache line.
    pub(crate) fn zeroed(&self, len: usize) -> Option<Memory> {
        let lines = len.checked_next_multiple_of(LINE)?;
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        if rest.as_ref().is_none_or(|rest| rest.len < lines) {
            *rest = Some(Memory::zeroed(lines.max(Self::MAPPED)).or_else(|| Memory::zeroed(lines))?);
        }
        Some(Memory { len, ..rest.as_mut()?.take(lines) })
    }
}

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pool_gives_is_zero_apart_and_begins_with_a_line() {
        let pool = Pool::default();
        let lens = [1, 64, 65, 3 * LINE, Pool::MAPPED - 7, 1000];
        let mut parts: Vec<Memory> =
            lens.iter().map(|&len| pool.zeroed(len).expect("there is room")).collect();
        for (number, (part, len)) in parts.iter_mut().zip(lens).enumerate() {
            assert_eq!((part.len(), part.as_ptr().addr() % LINE), (len, 0));
            let ends = [0, len - 1];
            assert!(ends.iter().all(|&at| part[at] == 0));
            ends.iter().for_each(|&at| part[at] = number as u8 + 1);
        }
        drop(pool);
        for (number, part) in parts.iter().enumerate() {
            assert!([part[0], part[part.len() - 1]].iter().all(|&byte| byte == number as u8 + 1));
        }
    }

    #[test]
    fn what_cannot_be_had_is_none() {
        let pool = Pool::default();
        assert!(pool.zeroed(usize::MAX).is_none() && pool.zeroed(usize::MAX / 2).is_none());
        assert!(pool.zeroed(1).is_some());
    }
}
