//! The scales of 16 outputs, as they stand before the codes of a chunk of inputs.

use super::integers::Integers;
use super::vector::LANES;
use crate::blocks::Split;

/// A layout of scales. All of it is for 16 outputs, whose scales stand side by side.
pub(super) trait Scales {
    /// Inputs of a chunk: a block of the file's type.
    const CHUNK: usize;
    /// Bytes of a chunk's scales.
    const SIZE: usize;
    /// Scales of 32 inputs: one or two.
    const RUNS: usize;
    /// Whether weights have minima.
    const MIN: bool;

    /// Scale and scale of the minima of the whole chunk.
    ///
    /// # Safety
    /// As for [`Integers`], here and below.
    unsafe fn open<V: Integers>(head: &[u8]) -> [V; 2];
    /// The scale of run `run` of the chunk.
    unsafe fn scale<V: Integers>(open: [V; 2], head: &[u8], run: usize) -> V;
    /// The minimum of run `run`, to be added.
    unsafe fn min<V: Integers>(open: [V; 2], head: &[u8], run: usize) -> V;

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
    const RUNS: usize = 1;
    const MIN: bool = MIN;

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

/// A signed byte for each run of `RUN` inputs, under one scale for 256.
pub(super) struct Signed<const RUN: usize>;

impl<const RUN: usize> Scales for Signed<RUN> {
    const CHUNK: usize = 256;
    const SIZE: usize = 2 * LANES + 256 / RUN * LANES;
    const RUNS: usize = 32 / RUN;
    const MIN: bool = false;

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

/// Scale and minimum, a byte each, for each 32 inputs, under two scales for 256: Q4_K and Q5_K.
pub(super) struct Minned;

impl Scales for Minned {
    const CHUNK: usize = 256;
    const SIZE: usize = 4 * LANES + 16 * LANES;
    const RUNS: usize = 1;
    const MIN: bool = true;

    #[inline(always)]
    unsafe fn open<V: Integers>(head: &[u8]) -> [V; 2] {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { [halves(head, 0), halves::<V>(head, 1).mul(V::splat(-1.0))] }
    }

    #[inline(always)]
    unsafe fn scale<V: Integers>(open: [V; 2], head: &[u8], run: usize) -> V {
        // SAFETY: as above.
        unsafe { open[0].mul(V::from_u8(sixteen(head, 4 + 2 * run))) }
    }

    #[inline(always)]
    unsafe fn min<V: Integers>(open: [V; 2], head: &[u8], run: usize) -> V {
        // SAFETY: as above.
        unsafe { open[1].mul(V::from_u8(sixteen(head, 5 + 2 * run))) }
    }

    fn pack(rows: &[Split; LANES], head: &mut [u8]) {
        pack_halves(std::array::from_fn(|r| rows[r].d), head);
        pack_halves(std::array::from_fn(|r| rows[r].m), &mut head[2 * LANES..]);
        for (run, to) in head[4 * LANES..Self::SIZE].as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for r in 0..LANES {
                (to[r], to[LANES + r]) = (rows[r].scales[run], rows[r].mins[run]);
            }
        }
    }
}

/// Scale and minimum, four bits each, for each 16 inputs, under two scales for 256: Q2_K.
pub(super) struct Nibbles;

impl Scales for Nibbles {
    const CHUNK: usize = 256;
    const SIZE: usize = 4 * LANES + 16 * LANES;
    const RUNS: usize = 2;
    const MIN: bool = true;

    #[inline(always)]
    unsafe fn open<V: Integers>(head: &[u8]) -> [V; 2] {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { Minned::open(head) }
    }

    #[inline(always)]
    unsafe fn scale<V: Integers>(open: [V; 2], head: &[u8], run: usize) -> V {
        // SAFETY: as above.
        unsafe { open[0].mul(V::from_u8(&sixteen(head, 4 + run).map(|s| s & 15))) }
    }

    #[inline(always)]
    unsafe fn min<V: Integers>(open: [V; 2], head: &[u8], run: usize) -> V {
        // SAFETY: as above.
        unsafe { open[1].mul(V::from_u8(&sixteen(head, 4 + run).map(|s| s >> 4))) }
    }

    fn pack(rows: &[Split; LANES], head: &mut [u8]) {
        pack_halves(std::array::from_fn(|r| rows[r].d), head);
        pack_halves(std::array::from_fn(|r| rows[r].m), &mut head[2 * LANES..]);
        for (run, to) in head[4 * LANES..Self::SIZE].as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            *to = std::array::from_fn(|r| rows[r].scales[run] | rows[r].mins[run] << 4);
        }
    }
}
