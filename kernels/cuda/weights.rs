//! Weights on a card: what the operand of a product points into.

use super::api;
use super::device::Device;
use super::planes;
use super::storage::{Layout, Memory, Place, number, positive};
use crate::error::{below, equal};
use crate::{BlockType, QuantRows, Result};
use std::sync::Arc;

/// Weights `[experts, out, in]`, their scales and codes in planes (see `planes`).
#[derive(Debug)]
pub struct Mat {
    /// What the operand points into, for as long as it does.
    _memory: Memory,
    operand: api::Matrix,
    pub(super) experts: usize,
    pub(super) out: usize,
    pub(super) cols: usize,
    /// How its products want their activations rounded to eight bits; `None` if not at all.
    pub(super) asked: Option<Asked>,
}

/// A rounding that a product asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Columns that share a scale, for the first part that reads a rounding.
    pub(super) shared: usize,
    /// Whether other parts ask for another.
    pub(super) several: bool,
}

/// Columns of a rounding that share a scale for weights of a type: see `rounding.cuh`.
fn shared_by(kind: BlockType) -> Option<usize> {
    use BlockType::*;
    match kind {
        F32 | F16 | BF16 => None,
        Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | IQ4_NL => Some(api::RUN),
        Q2_K | Q3_K | Q4_K | Q5_K | Q6_K | IQ4_XS => Some(api::UNIT),
    }
}

// SAFETY: the operand's pointers lead into `_memory`, which is only read.
unsafe impl Send for Mat {}

impl Mat {
    pub(super) fn new(
        device: &Arc<Device>,
        parts: &[QuantRows<'_>],
        experts: usize,
        place: Place,
    ) -> Result<Self> {
        positive("experts", experts)?;
        positive("parts of a weight", parts.len())?;
        below("parts of a weight", parts.len(), api::MAX_PARTS + 1)?;
        let cols = parts[0].cols();
        positive("columns of a weight", cols)?;
        let mut layout = Layout::default();
        let mut out = 0usize;
        let mut operand = api::Matrix {
            part: [api::Part { kind: 0, rows: 0, first: 0, plane: [std::ptr::null(); 4] }; api::MAX_PARTS],
            parts: 0,
            experts: number("experts", experts)?,
            out: 0,
            cols: number("columns of a weight", cols)?,
        };
        let mut places = Vec::with_capacity(parts.len());
        for (parts, part) in planes::together(parts, experts).zip(&mut operand.part) {
            let mut rows = 0;
            for part in parts {
                equal("columns of a weight's parts", part.cols(), cols)?;
                equal("rows of a part that experts share", part.rows() % experts, 0)?;
                positive("rows of a weight", part.rows())?;
                rows += part.rows() / experts;
            }
            let kind = parts[0].kind();
            // Kernels count lanes' shares of units in 32 bits.
            number("weights of a part", (rows * experts).saturating_mul(cols.div_ceil(api::UNIT) * 4))?;
            let sizes = planes::plane_bytes(kind, rows * experts, cols);
            places.push(sizes.map(|bytes| layout.place(bytes)).collect::<Vec<_>>());
            part.kind = kind as i32;
            part.rows = number("rows of a weight", rows)?;
            part.first = number("rows of a weight", out)?;
            out += rows;
            operand.parts += 1;
        }
        operand.out = number("rows of a weight", out)?;
        let mut memory = Memory::new(device, place, "weights", layout.0)?;
        for ((parts, mut places), part) in planes::together(parts, experts).zip(places).zip(&mut operand.part)
        {
            for (plane, &at) in part.plane.iter_mut().zip(&places) {
                *plane = memory.at(at).cast::<u8>().cast_const();
            }
            for part in parts {
                planes::split(part, &mut places, |at, bytes| memory.upload(at, bytes))?;
            }
        }
        let mut shared = parts.iter().filter_map(|p| shared_by(p.kind()));
        let asked =
            shared.next().map(|first| Asked { shared: first, several: shared.any(|other| other != first) });
        Ok(Self { _memory: memory, operand, experts, out, cols, asked })
    }

    pub(super) fn dense(&self, what: &'static str) -> Result<()> {
        equal(what, self.experts, 1)
    }

    pub(super) fn operand(&self) -> api::Matrix {
        self.operand
    }
}

/// Bytes of the card that a weight takes at most, from its parts' types, rows and columns: parts may lie together.
pub(super) fn mat_bytes(parts: &[(BlockType, usize, usize)]) -> u64 {
    let mut layout = Layout::default();
    for &(kind, rows, cols) in parts {
        planes::plane_bytes(kind, rows, cols).for_each(|bytes| _ = layout.place(bytes));
    }
    layout.0 as u64
}
