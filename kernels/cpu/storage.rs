//! What the device keeps: activations, weights, routing decisions. Keys and values are in `kv`.

use crate::error::equal;
use crate::{BlockType, Error, QuantRows, Result};
use half::f16;
use std::alloc::{Layout, alloc_zeroed};

/// Activations `[rows, cols]`, row major.
#[derive(Debug)]
pub struct Buf {
    data: Vec<f32>,
    pub(super) cols: usize,
    rows: usize,
}

impl Buf {
    pub(super) fn new(rows: usize, cols: usize) -> Result<Self> {
        positive("columns of a buffer", cols)?;
        Ok(Self { data: zeroed("activations", rows, cols)?, cols, rows: 0 })
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

/// Weights `[experts, out, in]` in their quantized bytes.
#[derive(Debug)]
pub struct Mat {
    pub(super) parts: Vec<Part>,
    pub(super) experts: usize,
    pub(super) out: usize,
    pub(super) cols: usize,
}

/// A run of output rows in one encoding.
#[derive(Debug)]
pub(super) struct Part {
    kind: BlockType,
    /// The part's first output row in the weight.
    pub(super) first: usize,
    /// Rows of one expert.
    pub(super) rows: usize,
    row_bytes: usize,
    data: Vec<u8>,
}

impl Mat {
    pub(super) fn new(parts: &[QuantRows<'_>], experts: usize) -> Result<Self> {
        let cols = parts.first().map_or(0, QuantRows::cols);
        positive("columns of a weight", cols)?;
        positive("experts", experts)?;
        let mut mat = Mat { parts: Vec::with_capacity(parts.len()), experts, out: 0, cols };
        for part in parts {
            equal("columns of a part", part.cols(), cols)?;
            equal("rows of a part beyond whole experts", part.rows() % experts, 0)?;
            positive("rows of a part", part.rows())?;
            let mut data = Vec::new();
            let bytes = part.data().len();
            data.try_reserve_exact(bytes).map_err(|_| Error::OutOfMemory { what: "weights", bytes })?;
            data.extend_from_slice(part.data());
            let rows = part.rows() / experts;
            let row_bytes = bytes / part.rows();
            mat.parts.push(Part { kind: part.kind(), first: mat.out, rows, row_bytes, data });
            mat.out += rows;
        }
        Ok(mat)
    }

    /// A weight that is no mixture has one expert.
    pub(super) fn dense(&self, what: &'static str) -> Result<()> {
        equal(what, self.experts, 1)
    }
}

impl Part {
    /// Decodes whole rows of expert `expert`, from its row `row` of this part, into `out`.
    #[inline(always)]
    pub(super) fn decode(&self, expert: usize, row: usize, out: &mut [f32], rows: usize) {
        let first = expert * self.rows + row;
        self.kind.decode(&self.data[first * self.row_bytes..(first + rows) * self.row_bytes], out);
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
