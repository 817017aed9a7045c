//! Weights laid out anew: panels of 16 outputs, whose inputs follow each other as the products read them.
//!
//! A panel of a quantized type is a run of chunks, each the 16 outputs' scales and then their codes (see
//! [`scales`](super::scales) and [`codes`](super::codes)); a panel of a float type is, for each input, the 16
//! outputs' weights. Outputs that a last panel lacks are zero. The bytes are those of the file, but for Q3_K, Q4_K,
//! Q5_K and IQ4_XS, whose packed six-bit scales become bytes, and for Q3_K and Q6_K, whose scales are whole cache lines:
//! 1 to 5.5 % more.

use super::codes::{Codes, Eight, Five, Four, Quads, Six, Table, Three, Two};
use super::integers::{BYTES, Integers};
use super::isa::{Isa, Kernel};
use super::scales::{Half, Minned, Nibbles, Scales, Signed, SignedHalves};
use super::storage::positive;
use super::vector::{LANES, Lanes};
use crate::blocks::Split;
use crate::error::equal;
use crate::mapped::{Memory, Pool};
use crate::{BlockType, Error, QuantRows, Result};
use rayon::prelude::*;

/// Weights `[experts, out, in]` in panels.
#[derive(Debug)]
pub struct Mat {
    pub(super) parts: Vec<Part>,
    pub(super) experts: usize,
    pub(super) out: usize,
    pub(super) cols: usize,
}

/// A run of outputs in one encoding.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) kind: BlockType,
    /// The part's first output in the weight.
    pub(super) first: usize,
    /// Outputs of one expert.
    pub(super) rows: usize,
    /// Panels of one expert.
    pub(super) panels: usize,
    pub(super) panel_bytes: usize,
    data: Memory,
}

/// Something to do with the layouts of a quantized type, compiled for each of them.
pub(super) trait Visit {
    /// What comes of it.
    type Out;
    /// Does it.
    fn visit<C: Codes, S: Scales>(self) -> Self::Out;
}

/// Visits the layouts of `kind`; `None` for the float types, which have none.
#[inline(always)]
pub(super) fn layouts<T: Visit>(kind: BlockType, visitor: T) -> Option<T::Out> {
    Some(match kind {
        BlockType::F32 | BlockType::F16 | BlockType::BF16 => return None,
        BlockType::Q4_0 => visitor.visit::<Four<8>, Half<false>>(),
        BlockType::Q4_1 => visitor.visit::<Four<0>, Half<true>>(),
        BlockType::Q5_0 => visitor.visit::<Five<16>, Half<false>>(),
        BlockType::Q5_1 => visitor.visit::<Five<0>, Half<true>>(),
        BlockType::Q8_0 => visitor.visit::<Eight, Half<false>>(),
        BlockType::Q2_K => visitor.visit::<Two, Nibbles>(),
        BlockType::Q3_K => visitor.visit::<Three, SignedHalves>(),
        BlockType::Q4_K => visitor.visit::<Four<0>, Minned>(),
        BlockType::Q5_K => visitor.visit::<Five<0>, Minned>(),
        BlockType::Q6_K => visitor.visit::<Six, SignedHalves>(),
        BlockType::IQ4_NL => visitor.visit::<Table, Half<false>>(),
        BlockType::IQ4_XS => visitor.visit::<Table, Signed>(),
    })
}

/// Bytes of one chunk of a panel: 16 outputs × `S::CHUNK` inputs.
pub(super) const fn chunk_bytes<C: Codes, S: Scales>() -> usize {
    S::SIZE + S::CHUNK / 32 * C::SIZE
}

/// Bytes of a panel.
fn panel_bytes(kind: BlockType, cols: usize) -> Option<usize> {
    struct Bytes(usize);
    impl Visit for Bytes {
        type Out = Option<usize>;
        fn visit<C: Codes, S: Scales>(self) -> Option<usize> {
            (self.0 / S::CHUNK).checked_mul(chunk_bytes::<C, S>())
        }
    }
    layouts(kind, Bytes(cols)).unwrap_or_else(|| kind.row_bytes(cols)?.checked_mul(LANES))
}

impl Mat {
    /// Lays out `parts` in memory of `pool`, in parallel on rayon's pool of threads.
    pub(super) fn new(isa: Isa, pool: &Pool, parts: &[QuantRows<'_>], experts: usize) -> Result<Self> {
        let cols = parts.first().map_or(0, QuantRows::cols);
        positive("columns of a weight", cols)?;
        positive("experts", experts)?;
        let mut mat = Mat { parts: Vec::with_capacity(parts.len()), experts, out: 0, cols };
        for part in parts {
            equal("columns of a part", part.cols(), cols)?;
            equal("rows of a part beyond whole experts", part.rows() % experts, 0)?;
            positive("rows of a part", part.rows())?;
            let rows = part.rows() / experts;
            let panels = rows.div_ceil(LANES);
            let kind = part.kind();
            let bytes = panel_bytes(kind, cols).unwrap_or(usize::MAX);
            let total = bytes.saturating_mul(panels).saturating_mul(experts);
            let mut data = pool.zeroed(total).ok_or(Error::OutOfMemory { what: "weights", bytes: total })?;
            data.par_chunks_mut(bytes).enumerate().for_each(|(panel, to)| {
                let (expert, first) = (panel / panels, panel % panels * LANES);
                let count = LANES.min(rows - first);
                let row_bytes = part.data().len() / part.rows();
                let from = &part.data()[(expert * rows + first) * row_bytes..][..count * row_bytes];
                isa.run(Pack { kind, from, row_bytes, to });
            });
            mat.parts.push(Part { kind, first: mat.out, rows, panels, panel_bytes: bytes, data });
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
    /// Panels `first` and following, `count` of them, of expert `expert`.
    #[inline]
    pub(super) fn panels(&self, expert: usize, first: usize, count: usize) -> &[u8] {
        &self.data[(expert * self.panels + first) * self.panel_bytes..][..count * self.panel_bytes]
    }

    /// The weights of output `row` of expert 0, exactly as the type defines them.
    pub(super) fn decode(&self, isa: Isa, row: usize, out: &mut [f32]) {
        let panel = self.panels(0, row / LANES, 1);
        isa.run(Decode { kind: self.kind, panel, lane: row % LANES, out });
    }
}

/// Lays out up to 16 rows of a file as a panel.
struct Pack<'a> {
    kind: BlockType,
    /// The rows, one behind the other.
    from: &'a [u8],
    row_bytes: usize,
    to: &'a mut [u8],
}

impl Kernel for Pack<'_> {
    #[inline(always)]
    fn run<V: Integers>(self) {
        match self.kind.layout().0 {
            1 => self.floats(),
            _ => drop(layouts(self.kind, self)),
        }
    }
}

impl Pack<'_> {
    /// Each input's weights of the 16 outputs side by side.
    #[inline(always)]
    fn floats(self) {
        let size = self.kind.layout().1;
        for (r, row) in self.from.chunks_exact(self.row_bytes).enumerate() {
            for (to, weight) in self.to.chunks_exact_mut(LANES * size).zip(row.chunks_exact(size)) {
                to[r * size..][..size].copy_from_slice(weight);
            }
        }
    }
}

impl Visit for Pack<'_> {
    type Out = ();

    #[inline(always)]
    fn visit<C: Codes, S: Scales>(self) {
        let block_bytes = self.kind.layout().1;
        // A row that is not there has scales of zero.
        let mut blocks: [Split; LANES] = std::array::from_fn(|_| Split::new());
        let mut quads: Quads = [[0; BYTES]; 8];
        for (c, to) in self.to.chunks_exact_mut(chunk_bytes::<C, S>()).enumerate() {
            for (block, row) in blocks.iter_mut().zip(self.from.chunks_exact(self.row_bytes)) {
                self.kind.split(&row[c * block_bytes..][..block_bytes], block);
            }
            let (head, codes) = to.split_at_mut(S::SIZE);
            S::pack(&blocks, head);
            for (j, to) in codes.chunks_exact_mut(C::SIZE).enumerate() {
                for (r, block) in blocks.iter().enumerate() {
                    let run = block.codes[32 * j..32 * j + 32].as_chunks::<4>().0;
                    for (quad, codes) in quads.iter_mut().zip(run) {
                        quad[4 * r..4 * r + 4].copy_from_slice(codes);
                    }
                }
                C::pack(&quads, to);
            }
        }
    }
}

/// One output's weights out of its panel.
struct Decode<'a> {
    kind: BlockType,
    panel: &'a [u8],
    lane: usize,
    out: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    #[inline(always)]
    fn run<V: Integers>(self) {
        let size = self.kind.layout().1;
        if self.kind.layout().0 > 1 {
            layouts(self.kind, self);
            return;
        }
        let (lane, panel) = (self.lane, self.panel);
        for (out, weights) in self.out.chunks_exact_mut(1).zip(panel.chunks_exact(LANES * size)) {
            self.kind.decode(&weights[lane * size..][..size], out);
        }
    }
}

impl Visit for Decode<'_> {
    type Out = ();

    /// One lane is wanted, which no register gives faster than plain arrays.
    #[inline(always)]
    fn visit<C: Codes, S: Scales>(self) {
        let l = self.lane;
        for (panel, out) in
            self.panel.chunks_exact(chunk_bytes::<C, S>()).zip(self.out.chunks_exact_mut(S::CHUNK))
        {
            let (head, codes) = panel.split_at(S::SIZE);
            // SAFETY: plain arrays need no instruction set.
            let open = unsafe { S::open::<Lanes>(head) };
            for (q, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let run = q * 4 / S::RUN;
                // SAFETY: as above.
                let quad = unsafe { C::quad::<Lanes>(&codes[q / 8 * C::SIZE..][..C::SIZE], q % 8) };
                // SAFETY: as above.
                let (scale, min) = unsafe { (S::scale(open, head, run)[l], S::min(open, head, run)[l]) };
                for (out, code) in out.iter_mut().zip(&quad[4 * l..]) {
                    let weight = scale * (i32::from(*code) - C::BIAS) as f32;
                    *out = if S::MIN { weight + min } else { weight };
                }
            }
        }
    }
}
