//! What the device keeps: activations, routing decisions, scratch. Weights are in `packed`, keys and values in `kv`.

use crate::error::equal;
use crate::mapped::Memory;
use crate::{Error, Result};
use half::f16;
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Activations `[rows, cols]`, row major.
#[derive(Debug)]
pub struct Buf {
    data: Pages<f32>,
    pub(super) cols: usize,
    rows: usize,
}

impl Buf {
    pub(super) fn new(rows: usize, cols: usize) -> Result<Self> {
        positive("columns of a buffer", cols)?;
        Ok(Self { data: Pages::zeroed("activations", rows, cols)?, cols, rows: 0 })
    }

    pub(super) fn vector(data: &[f32]) -> Result<Self> {
        let mut buf = Self::new(1, data.len())?;
        buf.data.copy_from_slice(data);
        buf.rows = 1;
        Ok(buf)
    }

    /// Number of rows in use.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The rows in use.
    pub(super) fn data(&self) -> &[f32] {
        &self.data[..self.rows * self.cols]
    }

    /// The rows in use.
    pub(super) fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.rows * self.cols]
    }

    /// One row in use.
    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.data()[row * self.cols..][..self.cols]
    }

    /// Puts `rows` rows of `cols` columns in use, for an operation to write.
    pub(super) fn begin(&mut self, what: &'static str, rows: usize, cols: usize) -> Result<&mut [f32]> {
        equal(what, self.cols, cols)?;
        let room = self.data.len() / self.cols;
        if rows > room {
            return Err(Error::Shape {
                what,
                expected: format!("room for {rows} rows"),
                got: room.to_string(),
            });
        }
        self.rows = rows;
        Ok(self.data_mut())
    }
}

/// The experts chosen for each row and their weights, `[rows, top_k]` each.
#[derive(Debug)]
pub struct Routes {
    pub(super) top_k: usize,
    /// Experts that were chosen from; each id is below it.
    pub(super) experts: usize,
    pub(super) rows: usize,
    pub(super) max_rows: usize,
    pub(super) ids: Vec<u32>,
    pub(super) weights: Vec<f32>,
}

impl Routes {
    pub(super) fn new(rows: usize, top_k: usize) -> Result<Self> {
        positive("experts of a row", top_k)?;
        let (ids, weights) = (zeroed("routes", rows, top_k)?, zeroed("routes", rows, top_k)?);
        Ok(Self { top_k, experts: 0, rows: 0, max_rows: rows, ids, weights })
    }

    /// The experts of the rows in use.
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids[..self.rows * self.top_k]
    }
}

pub(super) fn positive(what: &'static str, got: usize) -> Result<()> {
    if got > 0 {
        return Ok(());
    }
    Err(Error::Shape { what, expected: "at least 1".to_owned(), got: "0".to_owned() })
}

/// A type whose value of all zero bits is its zero.
///
/// # Safety
/// All zero bits must be a value of the type, which must need no drop.
pub(super) unsafe trait Zero {}
// SAFETY: zero bits are 0.
unsafe impl Zero for u32 {}
// SAFETY: zero bits are 0.0.
unsafe impl Zero for f32 {}
// SAFETY: zero bits are 0.0.
unsafe impl Zero for f16 {}

/// `rows · cols` zeros, fresh from the system: pages that nobody writes to take no memory. What cannot
/// be had is an error, unlike with `vec!`.
pub(super) fn zeroed<T: Zero>(what: &'static str, rows: usize, cols: usize) -> Result<Vec<T>> {
    let len = rows.saturating_mul(cols);
    let bytes = len.saturating_mul(size_of::<T>());
    let none = Error::OutOfMemory { what, bytes };
    let Ok(layout) = Layout::array::<T>(len) else { return Err(none) };
    if layout.size() == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the size is not zero, by the check above.
    let data = unsafe { alloc_zeroed(layout) };
    if data.is_null() {
        return Err(none);
    }
    // SAFETY: `data` comes from the global allocator with the layout of `len` values of `T`, and zeroed
    // memory holds `len` such values by the promise of `Zero`.
    Ok(unsafe { Vec::from_raw_parts(data.cast(), len, len) })
}

/// Zeros in pages of their own, large ones where the system has them: fewer address lookups where much is read. Pages
/// that nobody writes to take no memory.
#[derive(Debug)]
pub(super) struct Pages<T> {
    memory: Option<Memory>,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Zero> Pages<T> {
    /// `rows · cols` zeros. What cannot be had is an error.
    pub(super) fn zeroed(what: &'static str, rows: usize, cols: usize) -> Result<Self> {
        let len = rows.saturating_mul(cols);
        let bytes = len.saturating_mul(size_of::<T>());
        let memory = match bytes {
            0 => None,
            _ => Some(Memory::zeroed(bytes).ok_or(Error::OutOfMemory { what, bytes })?),
        };
        Ok(Self { memory, len, of: PhantomData })
    }
}

impl<T: Zero> Deref for Pages<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        let Some(memory) = &self.memory else { return &[] };
        // SAFETY: the memory begins with a page and is that of `len` values, which zeros are by the promise of `Zero`
        // and which nobody but `deref_mut` writes.
        unsafe { std::slice::from_raw_parts(memory.as_ptr().cast(), self.len) }
    }
}

impl<T: Zero> DerefMut for Pages<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        let Some(memory) = &mut self.memory else { return &mut [] };
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast(), self.len) }
    }
}

/// Bytes that begin on a cache line.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    memory: Option<Memory>,
}

impl Aligned {
    /// Room for `len` bytes at least, with whatever values.
    pub(super) fn grow(&mut self, len: usize) {
        if self.bytes().len() >= len {
            return;
        }
        self.memory = Memory::zeroed(len);
        if let (None, Ok(layout)) = (&self.memory, Layout::array::<u8>(len)) {
            handle_alloc_error(layout);
        }
    }

    /// All of them.
    #[inline(always)]
    pub(super) fn bytes(&self) -> &[u8] {
        self.memory.as_deref().unwrap_or_default()
    }

    /// All of them.
    #[inline(always)]
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.as_deref_mut().unwrap_or_default()
    }
}
