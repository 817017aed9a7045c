//! The scales of 16 outputs, as they stand before the codes of a chunk of inputs.

use super::integers::{Integers, PAIRS};
use super::panel::Add;
use super::quantized::{Fine, LINE, Wide};
use super::vector::LANES;
use crate::blocks::Split;

/// A layout of scales. All of it is for 16 outputs, whose scales stand side by side.
pub(super) trait Scales {
    /// Inputs of a chunk: a block of the file's type.
    const CHUNK: usize;
    /// Bytes of a chunk's scales.
    const SIZE: usize;
    /// Inputs of one scale: 32 or 16.
    const RUN: usize;
    /// Whether weights have minima.
    const MIN: bool;
    /// How the inputs that they are multiplied with are rounded.
    type Unit: Add;

    /// Scale and scale of the minima of the whole chunk.
    ///
    /// # Safety
    /// As for [`Integers`], here and below.
    unsafe fn open<V: Integers>(head: &[u8]) -> [V; 2];
    /// The scale of run `run` of the chunk.
    unsafe fn scale<V: Integers>(open: [V; 2], head: &[u8], run: usize) -> V;
    /// The minimum of run `run`, to be added.
    unsafe fn min<V: Integers>(open: [V; 2], head: &[u8], run: usize) -> V;

    /// The integer scales of runs `2 · pair` and `2 · pair + 1`, in two halves of a number. Where the unit is
    /// [`Wide`], scales are integers times the first of [`open`](Self::open), elsewhere there are none.
    #[inline(always)]
    unsafe fn scales<V: Integers>(_head: &[u8], _pair: usize) -> V::Ints {
        // SAFETY: the caller knows the instruction set.
        unsafe { V::ints(0) }
    }
    /// The integer minima of the same runs, likewise, which are multiplied by the second of [`open`](Self::open).
    #[inline(always)]
    unsafe fn mins<V: Integers>(_head: &[u8], _pair: usize) -> V::Ints {
        // SAFETY: the caller knows the instruction set.
        unsafe { V::ints(0) }
    }

    /// Lays out the scales of 16 outputs' blocks.
    fn pack(rows: &[Split; LANES], head: &mut [u8]);
}

/// The 16 half-precision floats at place `i` of them.
#[inline(always)]
unsafe fn halves<V: Integers>(head: &[u8], i: usize) -> V {
    // SAFETY: the caller is below `Isa::run` for `V`.
    unsafe { V::from_f16(&head.as_chunks().0[i]) }
}

/// The 16 bytes at place `i` of them.
#[inline(always)]
fn sixteen(head: &[u8], i: usize) -> &[u8; LANES] {
    &head.as_chunks().0[i]
}

fn pack_halves(halves: [[u8; 2]; LANES], head: &mut [u8]) {
    head[..2 * LANES].copy_from_slice(halves.as_flattened());
}

/// One scale for 32 inputs, and a minimum if `MIN`.
pub(super) struct Half<const MIN: bool>;

impl<const MIN: bool> Scales for Half<MIN> {
    const CHUNK: usize = 32;
    const SIZE: usize = if MIN { 4 * LANES } else { 2 * LANES };
    const RUN: usize = 32;
    const MIN: bool = MIN;
    type Unit = Fine;

    #[inline(always)]
    unsafe fn open<V: Integers>(head: &[u8]) -> [V; 2] {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { [halves(head, 0), halves(head, usize::from(MIN))] }
    }

    #[inline(always)]
    unsafe fn scale<V: Integers>(open: [V; 2], _: &[u8], _: usize) -> V {
        open[0]
    }

    #[inline(always)]
    unsafe fn min<V: Integers>(open: [V; 2], _: &[u8], _: usize) -> V {
        open[1]
    }

    fn pack(rows: &[Split; LANES], head: &mut [u8]) {
        pack_halves(std::array::from_fn(|r| rows[r].d), head);
        if MIN {
            pack_halves(std::array::from_fn(|r| rows[r].m), &mut head[2 * LANES..]);
        }
    }
}

/// The bytes of two runs for each of 16 outputs, at place `i` of them.
#[inline(always)]
fn pairs(head: &[u8], i: usize) -> &[u8; PAIRS] {
    &head.as_chunks().0[i]
}

/// The bytes of run `run` alone.
#[inline(always)]
fn every_other(head: &[u8], i: usize, run: usize) -> [u8; LANES] {
    let pairs = pairs(head, i);
    std::array::from_fn(|r| pairs[2 * r + run])
}

fn pack_pairs(bytes: [[u8; 2]; LANES], head: &mut [u8], i: usize) {
    head.as_chunks_mut::<PAIRS>().0[i].copy_from_slice(bytes.as_flattened());
}

/// A signed byte for each 32 inputs, under one scale for 256: IQ4_XS.
pub(super) struct Signed;

impl Scales for Signed {
    const CHUNK: usize = 256;
    const SIZE: usize = 2 * LANES + 8 * LANES;
    const RUN: usize = 32;
    const MIN: bool = false;
    /// Its codes are of eight bits, whose products fit no 16.
    type Unit = Fine;

    #[inline(always)]
    unsafe fn open<V: Integers>(head: &[u8]) -> [V; 2] {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { [halves(head, 0); 2] }
    }

    #[inline(always)]
    unsafe fn scale<V: Integers>(open: [V; 2], head: &[u8], run: usize) -> V {
        // SAFETY: as above.
        unsafe { open[0].mul(V::from_i8(sixteen(head, 2 + run))) }
    }

    #[inline(always)]
    unsafe fn min<V: Integers>(open: [V; 2], _: &[u8], _: usize) -> V {
        open[1]
    }

    fn pack(rows: &[Split; LANES], head: &mut [u8]) {
        pack_halves(std::array::from_fn(|r| rows[r].d), head);
        for (run, to) in head[2 * LANES..Self::SIZE].as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            *to = std::array::from_fn(|r| rows[r].scales[run]);
        }
    }
}

/// A signed byte for each 16 inputs, under one scale for 256: Q3_K and Q6_K.
pub(super) struct SignedHalves;

impl Scales for SignedHalves {
    const CHUNK: usize = 256;
    /// Whole cache lines, so that no register of codes is loaded from two.
    const SIZE: usize = (2 * LANES + 16 * LANES).next_multiple_of(LINE);
    const RUN: usize = 16;
    const MIN: bool = false;
    type Unit = Wide;

    #[inline(always)]
    unsafe fn open<V: Integers>(head: &[u8]) -> [V; 2] {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { [halves(head, 0); 2] }
    }

    #[inline(always)]
    unsafe fn scale<V: Integers>(open: [V; 2], head: &[u8], run: usize) -> V {
        // SAFETY: as above.
        unsafe { open[0].mul(V::from_i8(&every_other(head, 1 + run / 2, run % 2))) }
    }

    #[inline(always)]
    unsafe fn min<V: Integers>(open: [V; 2], _: &[u8], _: usize) -> V {
        open[1]
    }

    #[inline(always)]
    unsafe fn scales<V: Integers>(head: &[u8], pair: usize) -> V::Ints {
        // SAFETY: as above.
        unsafe { V::pairs_of_i8(pairs(head, 1 + pair)) }
    }

    fn pack(rows: &[Split; LANES], head: &mut [u8]) {
        pack_halves(std::array::from_fn(|r| rows[r].d), head);
        for i in 0..8 {
            pack_pairs(std::array::from_fn(|r| rows[r].scales.as_chunks().0[i]), head, 1 + i);
        }
    }
}

/// Scale and minimum, a byte each, for each 32 inputs, under two scales for 256: Q4_K and Q5_K.
pub(super) struct Minned;

impl Scales for Minned {
    const CHUNK: usize = 256;
    const SIZE: usize = 4 * LANES + 16 * LANES;
    const RUN: usize = 32;
    const MIN: bool = true;
    type Unit = Wide;

    #[inline(always)]
    unsafe fn open<V: Integers>(head: &[u8]) -> [V; 2] {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { [halves(head, 0), halves::<V>(head, 1).mul(V::splat(-1.0))] }
    }

    #[inline(always)]
    unsafe fn scale<V: Integers>(open: [V; 2], head: &[u8], run: usize) -> V {
        // SAFETY: as above.
        unsafe { open[0].mul(V::from_u8(&every_other(head, 2 + run / 2 * 2, run % 2))) }
    }

    #[inline(always)]
    unsafe fn min<V: Integers>(open: [V; 2], head: &[u8], run: usize) -> V {
        // SAFETY: as above.
        unsafe { open[1].mul(V::from_u8(&every_other(head, 3 + run / 2 * 2, run % 2))) }
    }

    #[inline(always)]
    unsafe fn scales<V: Integers>(head: &[u8], pair: usize) -> V::Ints {
        // SAFETY: as above.
        unsafe { V::pairs_of_u8(pairs(head, 2 + 2 * pair)) }
    }

    #[inline(always)]
    unsafe fn mins<V: Integers>(head: &[u8], pair: usize) -> V::Ints {
        // SAFETY: as above.
        unsafe { V::pairs_of_u8(pairs(head, 3 + 2 * pair)) }
    }

    fn pack(rows: &[Split; LANES], head: &mut [u8]) {
        pack_halves(std::array::from_fn(|r| rows[r].d), head);
        pack_halves(std::array::from_fn(|r| rows[r].m), &mut head[2 * LANES..]);
        for i in 0..4 {
            pack_pairs(std::array::from_fn(|r| rows[r].scales.as_chunks().0[i]), head, 2 + 2 * i);
            pack_pairs(std::array::from_fn(|r| rows[r].mins.as_chunks().0[i]), head, 3 + 2 * i);
        }
    }
}

/// Scale and minimum, four bits each, for each 16 inputs, under two scales for 256: Q2_K.
pub(super) struct Nibbles;

impl Scales for Nibbles {
    const CHUNK: usize = 256;
    const SIZE: usize = 4 * LANES + 16 * LANES;
    const RUN: usize = 16;
    const MIN: bool = true;
    type Unit = Wide;

    #[inline(always)]
    unsafe fn open<V: Integers>(head: &[u8]) -> [V; 2] {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { Minned::open(head) }
    }

    #[inline(always)]
    unsafe fn scale<V: Integers>(open: [V; 2], head: &[u8], run: usize) -> V {
        // SAFETY: as above.
        unsafe { open[0].mul(V::from_u8(&every_other(head, 2 + run / 2, run % 2).map(|s| s & 15))) }
    }

    #[inline(always)]
    unsafe fn min<V: Integers>(open: [V; 2], head: &[u8], run: usize) -> V {
        // SAFETY: as above.
        unsafe { open[1].mul(V::from_u8(&every_other(head, 2 + run / 2, run % 2).map(|s| s >> 4))) }
    }

    #[inline(always)]
    unsafe fn scales<V: Integers>(head: &[u8], pair: usize) -> V::Ints {
        // SAFETY: as above.
        unsafe { V::pair_fields(V::pairs_of_u8(pairs(head, 2 + pair)), 0, 15) }
    }

    #[inline(always)]
    unsafe fn mins<V: Integers>(head: &[u8], pair: usize) -> V::Ints {
        // SAFETY: as above.
        unsafe { V::pair_fields(V::pairs_of_u8(pairs(head, 2 + pair)), 4, 15) }
    }

    fn pack(rows: &[Split; LANES], head: &mut [u8]) {
        pack_halves(std::array::from_fn(|r| rows[r].d), head);
        pack_halves(std::array::from_fn(|r| rows[r].m), &mut head[2 * LANES..]);
        for i in 0..8 {
            let both = |r: usize, run: usize| rows[r].scales[run] | rows[r].mins[run] << 4;
            pack_pairs(std::array::from_fn(|r| [both(r, 2 * i), both(r, 2 * i + 1)]), head, 2 + i);
        }
    }
}
