//! The tensor table: one record per tensor, and the types of ggml.

use coder_kernels::BlockType;

use super::{
    read::{Problem, Reader},
    shown,
};
use crate::{Error, Result};

/// A tensor of a GGUF file.
#[derive(Clone, Copy, Debug)]
pub struct TensorInfo<'a> {
    name: &'a str,
    shape: [usize; 4],
    dims: usize,
    type_id: u32,
    data: &'a [u8],
}

impl<'a> TensorInfo<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Its shape in ggml's order: columns, rows, experts. One to four numbers, none of them zero.
    pub fn shape(&self) -> &[usize] {
        &self.shape[..self.dims]
    }

    /// Its encoding, or an error that names the type if there is no such [`BlockType`].
    pub fn kind(&self) -> Result<BlockType> {
        block_type(self.type_id).ok_or_else(|| Error::Unsupported {
            what: "tensor type",
            got: format!("{} of tensor {}", self.type_name(), shown(self.name)),
            supported: BlockType::ALL.map(|t| format!("{t:?}")).join(", "),
        })
    }

    /// The name that ggml gives its type, or the number of a type that ggml did not have.
    pub fn type_name(&self) -> String {
        ggml_type(self.type_id).map_or_else(|| self.type_id.to_string(), |t| t.1.to_owned())
    }

    /// The encoded weights; empty if the type is unknown.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    pub(super) fn new(record: &Record<'a>, data: &'a [u8]) -> Self {
        let Record { name, shape, dims, type_id, .. } = *record;
        Self { name, shape, dims, type_id, data }
    }
}

/// A record of the tensor table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) name: &'a str,
    shape: [usize; 4],
    dims: usize,
    type_id: u32,
    /// Relative to the start of the data.
    pub(super) offset: usize,
}

impl<'a> Record<'a> {
    /// The least bytes that a record takes: length and one byte of name, one dimension, type and offset.
    pub(super) const LEAST: usize = 8 + 1 + 4 + 8 + 4 + 8;

    /// Reads the name of a record, with which errors in the rest of it are reported.
    pub(super) fn name(reader: &mut Reader<'a>) -> Result<&'a str, Problem> {
        // The format's own limit is 64 bytes; there is no harm in a few more.
        let name = reader.string(256)?;
        if name.is_empty() { Err("has no name".into()) } else { Ok(name) }
    }

    /// Reads the rest of a record.
    pub(super) fn rest(reader: &mut Reader<'a>, name: &'a str) -> Result<Self, Problem> {
        let dims = reader.u32()?;
        let dims = usize::try_from(dims)
            .ok()
            .filter(|d| (1..=4).contains(d))
            .ok_or_else(|| format!("has {dims} dimensions, must have 1 to 4"))?;
        let mut shape = [1; 4];
        for size in &mut shape[..dims] {
            let claimed = reader.u64()?;
            *size = usize::try_from(claimed)
                .ok()
                .filter(|&n| n > 0)
                .ok_or_else(|| format!("has a dimension of {claimed}"))?;
        }
        let type_id = reader.u32()?;
        let offset = reader.u64()?;
        let offset = usize::try_from(offset).map_err(|_| format!("has its data at {offset}"))?;
        Ok(Self { name, shape, dims, type_id, offset })
    }

    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Problem> {
        let name = Self::name(reader)?;
        Self::rest(reader, name)
    }

    /// Bytes of the data; none for a type whose layout is unknown.
    pub(super) fn bytes(&self) -> Result<usize, Problem> {
        let shape = &self.shape[..self.dims];
        let Some((_, name, weights, bytes)) = ggml_type(self.type_id) else { return Ok(0) };
        let [cols, rows @ ..] = self.shape;
        if cols % weights != 0 {
            return Err(format!("has rows of {cols} weights, {name} needs a multiple of {weights}"));
        }
        let row = (cols / weights).checked_mul(bytes);
        rows.iter()
            .fold(row, |total, &n| total?.checked_mul(n))
            .ok_or_else(|| format!("has a shape of {shape:?}, which is too large"))
    }
}

/// The number that ggml gives to each type there is a [`BlockType`] for.
const NUMBERS: [(u32, BlockType); BlockType::ALL.len()] = {
    use BlockType::*;
    [
        (0, F32),
        (1, F16),
        (2, Q4_0),
        (3, Q4_1),
        (6, Q5_0),
        (7, Q5_1),
        (8, Q8_0),
        (10, Q2_K),
        (11, Q3_K),
        (12, Q4_K),
        (13, Q5_K),
        (14, Q6_K),
        (20, IQ4_NL),
        (23, IQ4_XS),
        (30, BF16),
    ]
};

/// The [`BlockType`] of a ggml type number.
fn block_type(id: u32) -> Option<BlockType> {
    NUMBERS.iter().find(|n| n.0 == id).map(|n| n.1)
}

/// The ggml type number of a [`BlockType`].
pub(super) fn type_id(kind: BlockType) -> u32 {
    // The tests see to it that every type is in the table.
    NUMBERS.iter().find(|n| n.1 == kind).map_or(u32::MAX, |n| n.0)
}

/// Number, name, weights in a block, bytes of a block; of every type that ggml writes.
///
/// Unsupported types are here too, so that their place in the file is checked and messages can name them.
const TYPES: [(u32, &str, usize, usize); 34] = [
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 40),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
];

fn ggml_type(id: u32) -> Option<(u32, &'static str, usize, usize)> {
    TYPES.iter().copied().find(|t| t.0 == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_tables_agree() {
        let mut found = Vec::new();
        for (id, name, weights, bytes) in TYPES {
            let Some(kind) = block_type(id) else { continue };
            assert_eq!(format!("{kind:?}"), name);
            assert_eq!(kind.layout(), (weights, bytes), "{name}");
            assert_eq!(type_id(kind), id);
            found.push(kind);
        }
        assert_eq!(found.len(), BlockType::ALL.len());
        assert!(BlockType::ALL.iter().all(|k| found.contains(k)));
    }
}
