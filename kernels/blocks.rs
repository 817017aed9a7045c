//! The block layouts of quantized weights, as GGUF files hold them, and their meaning as f32.
//!
//! Source: the GGUF specification and the definition of its tensor types in ggml. A weight is exactly
//! the product (and sum) that the format defines, every step rounded to f32; nothing here chooses a
//! layout for speed, which is a device's own business.

mod iq4;
mod k;
mod legacy;
mod split;

pub(crate) use iq4::VALUES as IQ4_VALUES;
pub(crate) use split::Split;

use crate::{Error, Result};

/// Decodes block after block with a function from the bytes of one block to its weights. A macro, because
/// a function that is passed as a value is not inlined for certain.
macro_rules! each_block {
    ($data:ident, $out:ident, $decode:path) => {
        for (block, out) in $data.as_chunks().0.iter().zip($out.as_chunks_mut().0) {
            $decode(block, out);
        }
    };
}

/// How a run of weights is encoded. The names are those of GGUF.
#[allow(missing_docs, non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
}

impl BlockType {
    /// Every type, for tests and tables.
    pub const ALL: [BlockType; 15] = {
        use BlockType::*;
        [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS]
    };

    /// Weights in one block and the bytes that hold them.
    pub const fn layout(self) -> (usize, usize) {
        match self {
            BlockType::F32 => (1, 4),
            BlockType::F16 | BlockType::BF16 => (1, 2),
            BlockType::Q4_0 | BlockType::IQ4_NL => (32, 18),
            BlockType::Q4_1 => (32, 20),
            BlockType::Q5_0 => (32, 22),
            BlockType::Q5_1 => (32, 24),
            BlockType::Q8_0 => (32, 34),
            BlockType::Q2_K => (256, 84),
            BlockType::Q3_K => (256, 110),
            BlockType::Q4_K => (256, 144),
            BlockType::Q5_K => (256, 176),
            BlockType::Q6_K => (256, 210),
            BlockType::IQ4_XS => (256, 136),
        }
    }

    /// Bytes of a row of `cols` weights, if `cols` is a whole number of blocks.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        let (weights, bytes) = self.layout();
        if cols.is_multiple_of(weights) { (cols / weights).checked_mul(bytes) } else { None }
    }

    /// The weights of whole blocks. `data` is as many blocks as `out` has room for; other lengths are
    /// [`Error::Shape`].
    pub fn dequantize(self, data: &[u8], out: &mut [f32]) -> Result<()> {
        if self.row_bytes(out.len()) != Some(data.len()) {
            return Err(Error::Shape {
                what: "weight data",
                expected: format!("{} weights of {self:?}", out.len()),
                got: format!("{} bytes", data.len()),
            });
        }
        self.decode(data, out);
        Ok(())
    }

    /// As [`dequantize`](Self::dequantize), for lengths that are known to fit; what does not fit is left
    /// as it was. Inlined, so that it is compiled for the instruction set of the caller.
    #[inline(always)]
    pub(crate) fn decode(self, data: &[u8], out: &mut [f32]) {
        match self {
            BlockType::F32 => each_block!(data, out, legacy::f32),
            BlockType::F16 => legacy::f16(data, out),
            BlockType::BF16 => each_block!(data, out, legacy::bf16),
            BlockType::Q4_0 => each_block!(data, out, legacy::q4_0),
            BlockType::Q4_1 => each_block!(data, out, legacy::q4_1),
            BlockType::Q5_0 => each_block!(data, out, legacy::q5_0),
            BlockType::Q5_1 => each_block!(data, out, legacy::q5_1),
            BlockType::Q8_0 => each_block!(data, out, legacy::q8_0),
            BlockType::Q2_K => each_block!(data, out, k::q2_k),
            BlockType::Q3_K => each_block!(data, out, k::q3_k),
            BlockType::Q4_K => each_block!(data, out, k::q4_k),
            BlockType::Q5_K => each_block!(data, out, k::q5_k),
            BlockType::Q6_K => each_block!(data, out, k::q6_k),
            BlockType::IQ4_NL => each_block!(data, out, iq4::iq4_nl),
            BlockType::IQ4_XS => each_block!(data, out, iq4::iq4_xs),
        }
    }
}

/// The half-precision float at byte `at` of a block.
#[inline(always)]
fn half_at(block: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Rows of weights in one encoding, borrowed from a file.
#[derive(Clone, Copy, Debug)]
pub struct QuantRows<'a> {
    kind: BlockType,
    rows: usize,
    cols: usize,
    data: &'a [u8],
}

impl<'a> QuantRows<'a> {
    /// Checks that `data` is exactly `rows` rows of `cols` weights.
    pub fn new(kind: BlockType, rows: usize, cols: usize, data: &'a [u8]) -> Result<Self> {
        let bytes = kind.row_bytes(cols).and_then(|b| b.checked_mul(rows));
        if bytes == Some(data.len()) {
            return Ok(Self { kind, rows, cols, data });
        }
        Err(Error::Shape {
            what: "weight data",
            expected: format!("{rows} rows of {cols} {kind:?}"),
            got: format!("{} bytes", data.len()),
        })
    }

    /// Encoding.
    pub fn kind(&self) -> BlockType {
        self.kind
    }

    /// Number of rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Weights in a row (inputs).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The bytes, `rows · row_bytes(cols)` of them.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// The weights of row `row`. A row that does not exist, or an `out` that is not `cols` long, is
    /// [`Error::Shape`].
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        if row >= self.rows || out.len() != self.cols {
            return Err(Error::Shape {
                what: "row of weights",
                expected: format!("a row below {} and {} weights", self.rows, self.cols),
                got: format!("row {row} and {} weights", out.len()),
            });
        }
        // `rows` is not 0 here, and `new` saw to it that `data` is `rows` equal rows.
        let bytes = self.data.len() / self.rows;
        self.kind.decode(&self.data[row * bytes..(row + 1) * bytes], out);
        Ok(())
    }
}
