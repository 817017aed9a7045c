//! Weights on a card: what the operand of a product points into.

use super::api;
use super::device::Device;
use super::planes;
use super::storage::{Layout, Memory, Place, number, positive};
use crate::error::{below, equal};
use crate::{BlockType, QuantRows, Result};
use std::sync::Arc;

/// Weights `[experts, out, in]`, the fields of their blocks in planes (see `planes`).
#[derive(Debug)]
pub struct Mat {
    /// What the operand points into, for as long as it does.
    _memory: Memory,
    operand: api::Matrix,
    pub(super) experts: usize,
    pub(super) out: usize,
    pub(super) cols: usize,
    /// Whether any part multiplies activations that are rounded to eight bits.
    pub(super) quantized: bool,
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
            let (mut rows, mut bytes) = (0, 0);
            for part in parts {
                equal("columns of a weight's parts", part.cols(), cols)?;
                equal("rows of a part that experts share", part.rows() % experts, 0)?;
                positive("rows of a weight", part.rows())?;
                rows += part.rows() / experts;
                bytes += part.data().len();
            }
            let fields = planes::fields(parts[0].kind());
            let blocks = bytes / fields.block_bytes;
            places.push(fields.fields.iter().map(|f| layout.place(blocks * f.bytes)).collect::<Vec<_>>());
            part.kind = parts[0].kind() as i32;
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
                planes::split(part, &places, |at, bytes| memory.upload(at, bytes))?;
                let fields = planes::fields(part.kind());
                let blocks = part.data().len() / fields.block_bytes;
                places.iter_mut().zip(fields.fields).for_each(|(at, f)| *at += blocks * f.bytes);
            }
        }
        let float = |p: &QuantRows<'_>| matches!(p.kind(), BlockType::F32 | BlockType::F16 | BlockType::BF16);
        Ok(Self { _memory: memory, operand, experts, out, cols, quantized: !parts.iter().all(float) })
    }

    pub(super) fn dense(&self, what: &'static str) -> Result<()> {
        equal(what, self.experts, 1)
    }

    pub(super) fn operand(&self) -> api::Matrix {
        self.operand
    }
}

/// Bytes of the card that a weight takes at most, from its parts' types and bytes in the file: parts may lie together.
pub(super) fn mat_bytes(parts: &[(BlockType, u64)]) -> u64 {
    let mut layout = Layout::default();
    for &(kind, bytes) in parts {
        let fields = planes::fields(kind);
        let blocks = bytes as usize / fields.block_bytes;
        fields.fields.iter().for_each(|f| _ = layout.place(blocks * f.bytes));
    }
    layout.0 as u64
}
