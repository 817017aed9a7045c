//! Weights as kernels read them: scales and codes apart, each in planes, codes in the order of the lanes that read them.
//!
//! Four lanes read 128 weights of a row, a unit, and multiply them as words of four bytes: weight `32r + 4i + b` is byte
//! `b` of word `i` of run `r`. Lane `t` has the words `t` and `t + 4` of every run, and in each plane its share of a unit is
//! in one piece. With `w(2r + k)` its word `t + 4k` of run `r`, eight in all, and words of a plane counted from the unit's
//! first:
//!
//! - of bytes, word `8t + j` is `w(j)`;
//! - of nibbles, word `4t + r` is `w(2r) | w(2r + 1) << 4`;
//! - of pairs of bits, word `2t + h` is `w(4h) | w(4h + 1) << 2 | w(4h + 2) << 4 | w(4h + 3) << 6`;
//! - of single bits, word `t` has `w(j)` in bit `j` of each byte.
//!
//! Scales are the bytes of the file, block after block. A row that ends within a unit is filled up with zeros, scales
//! and all. Parts of a weight that follow one another in one type are one part to kernels, and so one launch. What
//! scales and codes mean is `codes.cuh`'s.

use super::api::UNIT;
use crate::blocks::Split;
use crate::{BlockType, QuantRows, Result};
use rayon::prelude::*;
use std::array::from_fn;
use std::iter::zip;

/// Planes of a type, at most.
const PLANES: usize = 4;

/// What a plane holds.
#[derive(Clone, Copy, Debug)]
enum Field {
    /// Of each block the `bytes` bytes from byte `at`.
    Bytes { at: usize, bytes: usize },
    /// Of each code the `bits` bits from bit `from`.
    Codes { bits: usize, from: usize },
}

const fn bytes(at: usize, bytes: usize) -> Field {
    Field::Bytes { at, bytes }
}

const fn codes(bits: usize, from: usize) -> Field {
    Field::Codes { bits, from }
}

/// The planes of a type: scales first, then scales of runs, high bits, codes.
const fn fields(kind: BlockType) -> &'static [Field] {
    match kind {
        BlockType::F32 => &const { [bytes(0, 4)] },
        BlockType::F16 | BlockType::BF16 => &const { [bytes(0, 2)] },
        BlockType::Q4_0 | BlockType::IQ4_NL => &const { [bytes(0, 2), codes(4, 0)] },
        BlockType::Q4_1 => &const { [bytes(0, 4), codes(4, 0)] },
        BlockType::Q5_0 => &const { [bytes(0, 2), codes(1, 4), codes(4, 0)] },
        BlockType::Q5_1 => &const { [bytes(0, 4), codes(1, 4), codes(4, 0)] },
        BlockType::Q8_0 => &const { [bytes(0, 2), codes(8, 0)] },
        BlockType::Q2_K => &const { [bytes(80, 4), bytes(0, 16), codes(2, 0)] },
        BlockType::Q3_K => &const { [bytes(108, 2), bytes(96, 12), codes(1, 2), codes(2, 0)] },
        BlockType::Q4_K => &const { [bytes(0, 16), codes(4, 0)] },
        BlockType::Q5_K => &const { [bytes(0, 16), codes(1, 4), codes(4, 0)] },
        BlockType::Q6_K => &const { [bytes(208, 2), bytes(192, 16), codes(2, 4), codes(4, 0)] },
        BlockType::IQ4_XS => &const { [bytes(0, 8), codes(4, 0)] },
    }
}

/// The fewest weights of a row that are whole blocks and whole units: one number, one unit or one block.
#[derive(Clone, Copy)]
struct Group {
    weights: usize,
    blocks: usize,
    block_bytes: usize,
}

impl Group {
    const fn new(kind: BlockType) -> Self {
        let (weights, block_bytes) = kind.layout();
        let blocks = if weights > 1 && weights < UNIT { UNIT / weights } else { 1 };
        Self { weights: weights * blocks, blocks, block_bytes }
    }

    /// In the file.
    const fn bytes(self) -> usize {
        self.blocks * self.block_bytes
    }

    /// In a plane.
    const fn plane_bytes(self, field: Field) -> usize {
        match field {
            Field::Bytes { bytes, .. } => self.blocks * bytes,
            Field::Codes { bits, .. } => self.weights * bits / 8,
        }
    }
}

/// Bytes of the planes of `rows` rows of `cols` weights.
pub(super) fn plane_bytes(kind: BlockType, rows: usize, cols: usize) -> impl Iterator<Item = usize> {
    let group = Group::new(kind);
    let groups = rows.saturating_mul(cols.div_ceil(group.weights));
    fields(kind).iter().map(move |field| groups.saturating_mul(group.plane_bytes(*field)))
}

/// The parts of a weight that lie in planes together: neighbours of one type. Those of experts lie apart, as each expert has
/// some of every part.
pub(super) fn together<'a, 'b>(
    parts: &'a [QuantRows<'b>],
    experts: usize,
) -> impl Iterator<Item = &'a [QuantRows<'b>]> {
    parts.chunk_by(move |a, b| experts == 1 && a.kind() == b.kind())
}

/// Bytes of a part that are laid out before they are copied, and those that one thread takes at once.
const PIECE: usize = 16 << 20;
const TASK: usize = 64 << 10;

/// Gives the planes of `part`, piece by piece, to `copy` with the place where each goes: plane `f` goes on at
/// `places[f]`, which is then behind it.
pub(super) fn split(
    part: &QuantRows<'_>,
    places: &mut [usize],
    mut copy: impl FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    let (kind, data) = (part.kind(), part.data());
    let (fields, group) = (fields(kind), Group::new(kind));
    let mut put = |at: &mut usize, plane: &[u8]| {
        copy(*at, plane)?;
        *at += plane.len();
        Ok(())
    };
    if group.weights == 1 || data.is_empty() {
        return places.iter_mut().try_for_each(|at| put(at, data));
    }
    // Rows of whole groups are one long row, which may be cut behind each of them; others only where they end.
    let whole = part.cols().is_multiple_of(group.weights);
    let row = if whole { group.bytes() } else { data.len() / part.rows() };
    let groups = row.div_ceil(group.bytes());
    let of_row: [usize; PLANES] = from_fn(|f| fields.get(f).map_or(0, |f| groups * group.plane_bytes(*f)));
    let task = (TASK / row).max(1) * row;
    let mut planes: [Vec<u8>; PLANES] = Default::default();
    for piece in data.chunks((PIECE / task).max(1) * task) {
        zip(&mut planes, of_row).for_each(|(plane, bytes)| plane.resize(piece.len() / row * bytes, 0));
        let mut rest = planes.each_mut().map(Vec::as_mut_slice);
        let tasks = piece.chunks(task).map(|from| {
            let rows = from.len() / row;
            (from, from_fn(|f| rest[f].split_off_mut(..rows * of_row[f]).unwrap_or_default()))
        });
        tasks.collect::<Vec<_>>().into_par_iter().for_each(|(from, to)| lay_out(kind, from, row, to));
        zip(&mut *places, &planes).try_for_each(|(at, plane)| put(at, plane))?;
    }
    Ok(())
}

/// Lays out rows of `row` bytes each, compiled for every type.
fn lay_out(kind: BlockType, rows: &[u8], row: usize, to: [&mut [u8]; PLANES]) {
    macro_rules! each {
        ($($kind:ident)+) => {
            match kind { $(BlockType::$kind => lay_out_groups(BlockType::$kind, rows, row, to),)+ }
        };
    }
    each!(F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS)
}

#[inline(always)]
fn lay_out_groups(kind: BlockType, rows: &[u8], row: usize, mut to: [&mut [u8]; PLANES]) {
    let (fields, group) = (fields(kind), Group::new(kind));
    let mut split = Split::new();
    let mut codes = [[0; UNIT]; 2];
    let mut filled = [0; 256];
    for from in rows.chunks(row).flat_map(|row| row.chunks(group.bytes())) {
        let from = if from.len() == group.bytes() {
            from
        } else {
            // The end of each row is as long, and what is laid out of zeros is zeros.
            filled[..from.len()].copy_from_slice(from);
            &filled[..group.bytes()]
        };
        let blocks = || from.chunks_exact(group.block_bytes);
        let weights = group.weights / group.blocks;
        for (block, to) in zip(blocks(), codes.as_flattened_mut().chunks_exact_mut(weights)) {
            kind.split(block, &mut split);
            to.copy_from_slice(&split.codes[..weights]);
        }
        if kind == BlockType::Q8_0 {
            // As the file has them: signed bytes that are multiplied as they are.
            codes[0].iter_mut().for_each(|code| *code ^= 0x80);
        }
        for (field, rest) in zip(fields, &mut to) {
            let to = rest.split_off_mut(..group.plane_bytes(*field)).unwrap_or_default();
            match *field {
                Field::Bytes { at, bytes } => zip(blocks(), to.chunks_exact_mut(bytes))
                    .for_each(|(block, to)| to.copy_from_slice(&block[at..at + bytes])),
                Field::Codes { bits: 1, from } => units::<1>(&codes, from, to),
                Field::Codes { bits: 2, from } => units::<2>(&codes, from, to),
                Field::Codes { bits: 4, from } => units::<4>(&codes, from, to),
                Field::Codes { from, .. } => units::<8>(&codes, from, to),
            }
        }
    }
}

/// Lays out as many units as there is room for.
#[inline(always)]
fn units<const BITS: usize>(codes: &[[u8; UNIT]], from: usize, to: &mut [u8]) {
    let words = to.as_chunks_mut().0.as_chunks_mut().0;
    zip(codes, words.as_chunks_mut().0).for_each(|(codes, to)| unit::<BITS>(codes, from, to));
}

/// Of each code of a unit the `BITS` bits from bit `from`, for each of four lanes `BITS` words. Not inlined, because only
/// alone do the loops become vectors: then this is 2 to 5 times as fast.
#[inline(never)]
fn unit<const BITS: usize>(codes: &[u8; UNIT], from: usize, to: &mut [[[u8; 4]; BITS]; 4]) {
    let mask = u32::MAX / 255 * ((1 << BITS) - 1);
    // The four lanes' words, side by side in the unit.
    let words = codes.as_chunks().0.as_chunks::<4>().0;
    let mut folded = [[0; 4]; BITS];
    for (folded, words) in zip(&mut folded, words.chunks_exact(8 / BITS)) {
        for (i, words) in words.iter().enumerate() {
            zip(folded.iter_mut(), words)
                .for_each(|(to, word)| *to |= (u32::from_ne_bytes(*word) >> from & mask) << (BITS * i));
        }
    }
    for (t, to) in to.iter_mut().enumerate() {
        *to = from_fn(|h| folded[h][t].to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without a pattern.
    fn noise(bytes: usize) -> Vec<u8> {
        let next = |x: &u64| Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        std::iter::successors(Some(1), next).map(|x: u64| (x >> 56) as u8).take(bytes).collect()
    }

    /// The planes of `parts`, one part behind the other, each of them exactly filled.
    fn planes(parts: &[QuantRows<'_>]) -> Vec<Vec<u8>> {
        const UNTOUCHED: u16 = 256;
        let rows = parts.iter().map(QuantRows::rows).sum();
        let sizes: Vec<_> = plane_bytes(parts[0].kind(), rows, parts[0].cols()).collect();
        let mut end = 0;
        let start = |bytes: &usize| {
            end += bytes + 1;
            end - bytes - 1
        };
        let starts: Vec<_> = sizes.iter().map(start).collect();
        let (mut places, mut memory) = (starts.clone(), vec![UNTOUCHED; end]);
        for part in parts {
            split(part, &mut places, |at, bytes| {
                zip(&mut memory[at..], bytes).for_each(|(to, from)| *to = u16::from(*from));
                Ok(())
            })
            .unwrap();
        }
        zip(zip(starts, sizes), places)
            .map(|((start, bytes), place)| {
                assert_eq!((place, memory[start + bytes]), (start + bytes, UNTOUCHED));
                memory[start..place].iter().map(|byte| u8::try_from(*byte).unwrap()).collect()
            })
            .collect()
    }

    /// Run, lane, which of the lane's two words of the run, and byte of weight `c` of a unit.
    fn lane(c: usize) -> [usize; 4] {
        let (r, i, b) = (c / 32, c % 32 / 4, c % 4);
        [r, i % 4, i / 4, b]
    }

    fn nibble(plane: &[u8], u: usize, c: usize) -> u8 {
        let [r, t, k, b] = lane(c);
        plane[64 * u + 16 * t + 4 * r + b] >> (4 * k) & 15
    }

    fn byte(plane: &[u8], u: usize, c: usize) -> u8 {
        let [r, t, k, b] = lane(c);
        plane[128 * u + 32 * t + 4 * (2 * r + k) + b]
    }

    fn pair(plane: &[u8], u: usize, c: usize) -> u8 {
        let [r, t, k, b] = lane(c);
        plane[32 * u + 8 * t + 4 * (r / 2) + b] >> (4 * (r % 2) + 2 * k) & 3
    }

    fn bit(plane: &[u8], u: usize, c: usize) -> u8 {
        let [r, t, k, b] = lane(c);
        plane[16 * u + 4 * t + b] >> (2 * r + k) & 1
    }

    /// Code `c` of unit `u`.
    fn code(kind: BlockType, p: &[Vec<u8>], u: usize, c: usize) -> u8 {
        use BlockType::*;
        match kind {
            Q4_0 | Q4_1 | Q4_K | IQ4_NL | IQ4_XS => nibble(&p[1], u, c),
            Q5_0 | Q5_1 | Q5_K => bit(&p[1], u, c) << 4 | nibble(&p[2], u, c),
            Q8_0 => byte(&p[1], u, c),
            Q2_K => pair(&p[2], u, c),
            Q3_K => bit(&p[2], u, c) << 2 | pair(&p[3], u, c),
            Q6_K => pair(&p[2], u, c) << 4 | nibble(&p[3], u, c),
            F32 | F16 | BF16 => unreachable!("no codes"),
        }
    }

    /// Where the bytes of each plane of scales lie in a block and how many, and the bytes of 256 weights in each plane.
    fn layout(kind: BlockType) -> (&'static [(usize, usize)], &'static [usize]) {
        use BlockType::*;
        match kind {
            Q4_0 | IQ4_NL => (&[(0, 2)], &[16, 128]),
            Q4_1 => (&[(0, 4)], &[32, 128]),
            Q5_0 => (&[(0, 2)], &[16, 32, 128]),
            Q5_1 => (&[(0, 4)], &[32, 32, 128]),
            Q8_0 => (&[(0, 2)], &[16, 256]),
            Q2_K => (&[(80, 4), (0, 16)], &[4, 16, 64]),
            Q3_K => (&[(108, 2), (96, 12)], &[2, 12, 32, 64]),
            Q4_K => (&[(0, 16)], &[16, 128]),
            Q5_K => (&[(0, 16)], &[16, 32, 128]),
            Q6_K => (&[(208, 2), (192, 16)], &[2, 16, 64, 128]),
            IQ4_XS => (&[(0, 8)], &[8, 128]),
            F32 => (&[(0, 4)], &[1024]),
            F16 | BF16 => (&[(0, 2)], &[512]),
        }
    }

    /// Holds the planes of `rows` rows against the file's blocks, weight by weight.
    fn check(kind: BlockType, rows: usize, cols: usize) {
        let (weights, block_bytes) = kind.layout();
        let data = noise(kind.row_bytes(cols).unwrap() * rows);
        let planes = planes(&[QuantRows::new(kind, rows, cols, &data).unwrap()]);
        let (scales, of_256) = layout(kind);
        let units = rows * cols.div_ceil(UNIT);
        let sizes: Vec<_> = planes.iter().map(Vec::len).collect();
        assert_eq!(sizes, of_256.iter().map(|bytes| bytes * units / 2).collect::<Vec<_>>());
        let (blocks, filled) = (cols / weights, cols.next_multiple_of(weights.max(UNIT)));
        let zeros = vec![0; block_bytes];
        let mut split = Split::new();
        for (row, at) in (0..rows).flat_map(|row| (0..filled / weights).map(move |at| (row, at))) {
            let start = (row * blocks + at) * block_bytes;
            let block = if at < blocks { &data[start..start + block_bytes] } else { &zeros };
            for ((start, bytes), plane) in zip(scales, &planes) {
                let place = (row * filled / weights + at) * bytes;
                assert_eq!(
                    plane[place..][..*bytes],
                    block[*start..][..*bytes],
                    "{kind:?} {cols}: {row}, {at}"
                );
            }
            kind.split(block, &mut split);
            for (i, expected) in split.codes[..weights].iter().enumerate() {
                let c = row * filled + at * weights + i;
                let signed = if kind == BlockType::Q8_0 { 0x80 } else { 0 };
                let got = code(kind, &planes, c / UNIT, c % UNIT);
                assert_eq!(got, expected ^ signed, "{kind:?} {cols}: {row}, {at}, {i}");
                assert!(at < blocks || got == 0);
            }
        }
    }

    #[test]
    fn each_weight_is_where_its_lane_reads_it() {
        for kind in BlockType::ALL {
            let (weights, _) = kind.layout();
            if weights == 1 {
                let data = noise(kind.row_bytes(96).unwrap() * 3);
                assert_eq!(planes(&[QuantRows::new(kind, 3, 96, &data).unwrap()]), [data]);
                continue;
            }
            let cols = [32, 96, 160, 256, 768, 896].into_iter().filter(|cols| cols % weights == 0);
            cols.for_each(|cols| check(kind, 3, cols));
        }
    }

    #[test]
    fn blocks_ask_for_what_planes_hold() {
        let (_, source) = include_str!("codes.cuh").split_once("unit_bytes(int type)").unwrap();
        for kind in BlockType::ALL.into_iter().filter(|kind| kind.layout().0 > 1) {
            let (_, case) = source.split_once(&format!("case {kind:?}:")).unwrap();
            let (said, _) = case.split_once("return").unwrap().1.split_once(';').unwrap();
            let said = said.split('|').map(|plane| plane.split("<<").next().unwrap().trim().parse().unwrap());
            let group = Group::new(kind);
            let planes = fields(kind).iter().map(|&field| group.plane_bytes(field) * UNIT / group.weights);
            assert_eq!(said.collect::<Vec<usize>>(), planes.collect::<Vec<_>>(), "{kind:?}");
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
    fn pieces_and_parts_lie_one_behind_the_other() {
        for (kind, cols) in [(BlockType::Q5_0, 96), (BlockType::Q8_0, 896), (BlockType::Q6_K, 256)] {
            let row = kind.row_bytes(cols).unwrap();
            let rows = PIECE / row + 1001;
            let data = noise(rows * row);
            let part = |data| QuantRows::new(kind, <[u8]>::len(data) / row, cols, data).unwrap();
            let small: Vec<_> = data.chunks(1777 * row).map(part).collect();
            assert!(planes(&[part(&data)]) == planes(&small), "{kind:?}");
        }
    }
}
