//! How the codes of 16 outputs × 32 inputs lie in memory, and how a register of them comes out.
//!
//! A *quad* is a register of codes: for each of 16 outputs, four consecutive inputs. Thirty-two inputs are eight
//! quads. A code of more than four bits lies in planes: four registers with two quads' low nibbles each, two
//! with four quads' pairs of bits, one with eight quads' single bits. Nothing is padded: a layout takes as many
//! bytes as the file's.

use super::integers::{BYTES, Integers};

/// Eight quads, one code to a byte.
pub(super) type Quads = [[u8; BYTES]; 8];

/// A layout of codes. A weight is its scale times `code - BIAS` (plus its minimum).
pub(super) trait Codes {
    /// Bytes of 16 outputs × 32 inputs.
    const SIZE: usize;
    /// What the code of zero is: none or a power of two.
    const BIAS: i32;
    /// Whether codes may be 128 or more.
    const WIDE: bool;
    /// The largest magnitude of a code without its bias.
    const MOST: i32;

    /// Quad `q` of a block of `SIZE` bytes.
    ///
    /// # Safety
    /// As for [`Integers`].
    unsafe fn quad<V: Integers>(block: &[u8], q: usize) -> V::Bytes;

    /// Lays out quads whose codes fit the layout.
    fn pack(quads: &Quads, block: &mut [u8]);
}

/// Register `i` of a block.
#[inline(always)]
unsafe fn at<V: Integers>(block: &[u8], i: usize) -> V::Bytes {
    // SAFETY: the caller is below `Isa::run` for `V`.
    unsafe { V::bytes(&block.as_chunks().0[i]) }
}

/// The nibble of quad `q`, in planes that begin with the block.
#[inline(always)]
unsafe fn nibble<V: Integers>(block: &[u8], q: usize) -> V::Bytes {
    // SAFETY: as above.
    unsafe { V::lower(at::<V>(block, q % 4), q as u32 / 4 * 4, 15) }
}

/// `(b >> from) << to`, of which `mask` remains.
#[inline(always)]
unsafe fn moved<V: Integers>(b: V::Bytes, from: u32, to: u32, mask: u8) -> V::Bytes {
    // SAFETY: as above.
    unsafe { if from >= to { V::lower(b, from - to, mask) } else { V::raise(b, to - from, mask) } }
}

fn pack_nibbles(quads: &Quads, block: &mut [u8]) {
    for (i, plane) in block.as_chunks_mut::<BYTES>().0.iter_mut().take(4).enumerate() {
        for l in 0..BYTES {
            plane[l] = quads[i][l] & 15 | quads[i + 4][l] << 4;
        }
    }
}

/// Bits `shift` and `shift + 1` of every code.
fn pack_pairs(quads: &Quads, shift: u32, block: &mut [u8]) {
    for (i, plane) in block.as_chunks_mut::<BYTES>().0.iter_mut().take(2).enumerate() {
        for l in 0..BYTES {
            let pair = |j: usize| (quads[i + 2 * j][l] >> shift & 3) << (2 * j);
            plane[l] = pair(0) | pair(1) | pair(2) | pair(3);
        }
    }
}

/// Bit `shift` of every code.
fn pack_bits(quads: &Quads, shift: u32, block: &mut [u8]) {
    let plane = &mut block.as_chunks_mut::<BYTES>().0[0];
    for l in 0..BYTES {
        plane[l] = (0..8).fold(0, |bits, q| bits | (quads[q][l] >> shift & 1) << q);
    }
}

/// Two bits.
pub(super) struct Two;

impl Codes for Two {
    const SIZE: usize = 2 * BYTES;
    const BIAS: i32 = 0;
    const WIDE: bool = false;
    const MOST: i32 = 3;

    #[inline(always)]
    unsafe fn quad<V: Integers>(block: &[u8], q: usize) -> V::Bytes {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { V::lower(at::<V>(block, q % 2), q as u32 / 2 * 2, 3) }
    }

    fn pack(quads: &Quads, block: &mut [u8]) {
        pack_pairs(quads, 0, block);
    }
}

/// Three bits around 4.
pub(super) struct Three;

impl Codes for Three {
    const SIZE: usize = 3 * BYTES;
    const BIAS: i32 = 4;
    const WIDE: bool = false;
    const MOST: i32 = 4;

    #[inline(always)]
    unsafe fn quad<V: Integers>(block: &[u8], q: usize) -> V::Bytes {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { V::or(Two::quad::<V>(block, q), moved::<V>(at::<V>(block, 2), q as u32, 2, 4)) }
    }

    fn pack(quads: &Quads, block: &mut [u8]) {
        let (pairs, bits) = block.split_at_mut(2 * BYTES);
        pack_pairs(quads, 0, pairs);
        pack_bits(quads, 2, bits);
    }
}

/// Four bits around `BIAS`.
pub(super) struct Four<const BIAS: i32>;

impl<const BIAS: i32> Codes for Four<BIAS> {
    const SIZE: usize = 4 * BYTES;
    const BIAS: i32 = BIAS;
    const WIDE: bool = false;
    const MOST: i32 = if BIAS > 0 { BIAS } else { 15 };

    #[inline(always)]
    unsafe fn quad<V: Integers>(block: &[u8], q: usize) -> V::Bytes {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { nibble::<V>(block, q) }
    }

    fn pack(quads: &Quads, block: &mut [u8]) {
        pack_nibbles(quads, block);
    }
}

/// Four bits that stand for the values of IQ4's table.
pub(super) struct Table;

/// The table's values, 128 added.
const TABLE: [u8; 16] = {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = (crate::blocks::IQ4_VALUES[i] as i16 + 128) as u8;
        i += 1;
    }
    table
};

impl Codes for Table {
    const SIZE: usize = 4 * BYTES;
    const BIAS: i32 = 128;
    const WIDE: bool = true;
    const MOST: i32 = 128;

    #[inline(always)]
    unsafe fn quad<V: Integers>(block: &[u8], q: usize) -> V::Bytes {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { V::lookup(&TABLE, nibble::<V>(block, q)) }
    }

    /// The quads hold indices into the table.
    fn pack(quads: &Quads, block: &mut [u8]) {
        pack_nibbles(quads, block);
    }
}

/// Five bits around `BIAS`.
pub(super) struct Five<const BIAS: i32>;

impl<const BIAS: i32> Codes for Five<BIAS> {
    const SIZE: usize = 5 * BYTES;
    const BIAS: i32 = BIAS;
    const WIDE: bool = false;
    const MOST: i32 = if BIAS > 0 { BIAS } else { 31 };

    #[inline(always)]
    unsafe fn quad<V: Integers>(block: &[u8], q: usize) -> V::Bytes {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { V::or(nibble::<V>(block, q), moved::<V>(at::<V>(block, 4), q as u32, 4, 16)) }
    }

    fn pack(quads: &Quads, block: &mut [u8]) {
        let (nibbles, bits) = block.split_at_mut(4 * BYTES);
        pack_nibbles(quads, nibbles);
        pack_bits(quads, 4, bits);
    }
}

/// Six bits around 32.
pub(super) struct Six;

impl Codes for Six {
    const SIZE: usize = 6 * BYTES;
    const BIAS: i32 = 32;
    const WIDE: bool = false;
    const MOST: i32 = 32;

    #[inline(always)]
    unsafe fn quad<V: Integers>(block: &[u8], q: usize) -> V::Bytes {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe {
            let pairs = at::<V>(block, 4 + q % 2);
            V::or(nibble::<V>(block, q), moved::<V>(pairs, q as u32 / 2 * 2, 4, 0x30))
        }
    }

    fn pack(quads: &Quads, block: &mut [u8]) {
        let (nibbles, pairs) = block.split_at_mut(4 * BYTES);
        pack_nibbles(quads, nibbles);
        pack_pairs(quads, 4, pairs);
    }
}

/// Eight bits around 128.
pub(super) struct Eight;

impl Codes for Eight {
    const SIZE: usize = 8 * BYTES;
    const BIAS: i32 = 128;
    const WIDE: bool = true;
    const MOST: i32 = 128;

    #[inline(always)]
    unsafe fn quad<V: Integers>(block: &[u8], q: usize) -> V::Bytes {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { at::<V>(block, q) }
    }

    fn pack(quads: &Quads, block: &mut [u8]) {
        block[..Self::SIZE].copy_from_slice(quads.as_flattened());
    }
}
