//! Weights as kernels read them: the fields of a file's blocks apart, each in a plane of its own.
//!
//! A block of 210 bytes (Q6_K) begins on 2 bytes, so that nothing of it could be read wide. With each field in a
//! plane, codes begin on 16 bytes at least; not one byte is added or changed. Parts of a weight that follow one another in
//! one type are one part to kernels, and so one launch.

use crate::{BlockType, QuantRows, Result};
use rayon::prelude::*;

/// Where a field lies in a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    at: usize,
    pub(super) bytes: usize,
}

/// The fields of a block, in the order of the planes.
pub(super) struct Fields {
    pub(super) block_bytes: usize,
    pub(super) fields: &'static [Field],
}

macro_rules! fields {
    ($block:expr, $($at:literal + $bytes:literal),+) => {
        Fields { block_bytes: $block, fields: &[$(Field { at: $at, bytes: $bytes }),+] }
    };
}

/// The planes of a type: scales first, then scales of runs, high bits, codes.
pub(super) fn fields(kind: BlockType) -> Fields {
    let (_, block) = kind.layout();
    match kind {
        BlockType::F32 => fields!(block, 0 + 4),
        BlockType::F16 | BlockType::BF16 => fields!(block, 0 + 2),
        BlockType::Q4_0 | BlockType::IQ4_NL => fields!(block, 0 + 2, 2 + 16),
        BlockType::Q4_1 => fields!(block, 0 + 4, 4 + 16),
        BlockType::Q5_0 => fields!(block, 0 + 2, 2 + 4, 6 + 16),
        BlockType::Q5_1 => fields!(block, 0 + 4, 4 + 4, 8 + 16),
        BlockType::Q8_0 => fields!(block, 0 + 2, 2 + 32),
        BlockType::Q2_K => fields!(block, 80 + 4, 0 + 16, 16 + 64),
        BlockType::Q3_K => fields!(block, 108 + 2, 96 + 12, 0 + 32, 32 + 64),
        BlockType::Q4_K => fields!(block, 0 + 4, 4 + 12, 16 + 128),
        BlockType::Q5_K => fields!(block, 0 + 4, 4 + 12, 16 + 32, 48 + 128),
        BlockType::Q6_K => fields!(block, 208 + 2, 192 + 16, 128 + 64, 0 + 128),
        BlockType::IQ4_XS => fields!(block, 0 + 8, 8 + 128),
    }
}

/// The parts of a weight that lie in planes together: neighbours of one type. Those of experts lie apart, as each expert has
/// some of every part.
pub(super) fn together<'a, 'b>(
    parts: &'a [QuantRows<'b>],
    experts: usize,
) -> impl Iterator<Item = &'a [QuantRows<'b>]> {
    parts.chunk_by(move |a, b| experts == 1 && a.kind() == b.kind())
}

/// Bytes of a plane that are made at once.
const PIECE: usize = 16 << 20;

/// Gives the planes of `part`, piece by piece, to `copy` with the place where each goes: plane `f` begins at
/// `places[f]`.
pub(super) fn split(
    part: &QuantRows<'_>,
    places: &[usize],
    mut copy: impl FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    let Fields { block_bytes, fields } = fields(part.kind());
    if let ([field], [at]) = (fields, places) {
        debug_assert_eq!(field.bytes, block_bytes);
        return copy(*at, part.data());
    }
    let mut plane = Vec::new();
    for (field, &at) in fields.iter().zip(places) {
        let blocks = PIECE / field.bytes;
        for (i, data) in part.data().chunks(blocks * block_bytes).enumerate() {
            plane.resize(data.len() / block_bytes * field.bytes, 0);
            plane
                .par_chunks_exact_mut(field.bytes)
                .zip(data.par_chunks_exact(block_bytes))
                .with_min_len(4096)
                .for_each(|(to, block)| to.copy_from_slice(&block[field.at..field.at + field.bytes]));
            copy(at + i * blocks * field.bytes, &plane)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cover_each_byte_of_a_block_once() {
        for kind in BlockType::ALL {
            let Fields { block_bytes, fields } = fields(kind);
            let mut covered = vec![0; block_bytes];
            fields.iter().flat_map(|f| f.at..f.at + f.bytes).for_each(|at| covered[at] += 1);
            assert!(covered.iter().all(|c| *c == 1), "{kind:?}");
        }
    }

    #[test]
    fn neighbours_of_one_type_lie_together() {
        let row = [0; 144 + 210];
        let part = |kind: BlockType| QuantRows::new(kind, 1, 256, &row[..kind.layout().1]).unwrap();
        let parts = [BlockType::Q4_K, BlockType::Q4_K, BlockType::Q6_K, BlockType::Q4_K].map(part);
        let lengths = |experts| together(&parts, experts).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!((lengths(1), lengths(2)), (vec![2, 1, 1], vec![1; 4]));
    }

    #[test]
    fn planes_hold_the_fields_block_after_block() {
        let data: Vec<u8> = (0..3 * 210).map(|i| (i % 251) as u8).collect();
        let part = QuantRows::new(BlockType::Q6_K, 3, 256, &data).unwrap();
        let mut memory = vec![0; 4096];
        split(&part, &[0, 256, 512, 1024], |at, bytes| {
            memory[at..at + bytes.len()].copy_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        for b in 0..3 {
            let block = &data[b * 210..][..210];
            assert_eq!(memory[2 * b..][..2], block[208..]);
            assert_eq!(memory[256 + 16 * b..][..16], block[192..208]);
            assert_eq!(memory[512 + 64 * b..][..64], block[128..192]);
            assert_eq!(memory[1024 + 128 * b..][..128], block[..128]);
        }
    }
}
