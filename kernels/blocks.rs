//! The block layouts of quantized weights, as GGUF files hold them.

use crate::{Error, Result};

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
        if cols % weights == 0 { (cols / weights).checked_mul(bytes) } else { None }
    }
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
}
