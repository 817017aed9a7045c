//! Weights that are unpacked into a cache, where many rows use them.

use super::codes::{Codes, Quads};
use super::integers::{BYTES, Integers};
use super::packed::chunk_bytes;
use super::panel::unroll;
use super::quantized::{RUN, Unit};
use super::scales::Scales;
use super::vector::{LANES, Lanes};

/// Codes that were unpacked beforehand, a byte each.
pub(super) struct Unpacked<C>(std::marker::PhantomData<C>);

impl<C: Codes> Codes for Unpacked<C> {
    const SIZE: usize = 8 * BYTES;
    const BIAS: i32 = C::BIAS;
    const WIDE: bool = C::WIDE;
    const MOST: i32 = C::MOST;

    #[inline(always)]
    unsafe fn quad<V: Integers>(block: &[u8], q: usize) -> V::Bytes {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { V::bytes(&block.as_chunks().0[q]) }
    }

    fn pack(quads: &Quads, block: &mut [u8]) {
        block.copy_from_slice(quads.as_flattened());
    }
}

/// Scales that were unpacked beforehand. Of types whose scales are floats: for each 32 inputs the scale of 16 outputs,
/// then the minimum if there is any. Of others: for each chunk the scale and that of the minima, then the pairs of
/// integer scales and those of minima.
pub(super) struct Opened<S>(std::marker::PhantomData<S>);

/// Numbers of 16 outputs in bytes.
const NUMBERS: usize = 4 * LANES;

impl<S: Scales> Opened<S> {
    /// Pairs of integer scales.
    const PAIRS: usize = if S::Unit::INPUTS == RUN { 0 } else { S::CHUNK / S::RUN / 2 };
    /// Scale, and scale of the minima.
    const FLOATS: usize = if S::MIN { 2 } else { 1 };
}

#[inline(always)]
unsafe fn floats<V: Integers>(head: &[u8], i: usize) -> V {
    let lanes: &[u8; NUMBERS] = &head.as_chunks().0[i];
    let mut from: Lanes = [0.0; LANES];
    for (to, from) in from.iter_mut().zip(lanes.as_chunks().0) {
        *to = f32::from_le_bytes(*from);
    }
    // SAFETY: the caller is below `Isa::run` for `V`.
    unsafe { V::load(&from) }
}

#[inline(always)]
unsafe fn ints<V: Integers>(head: &[u8], i: usize) -> V::Ints {
    let lanes: &[u8; NUMBERS] = &head.as_chunks().0[i];
    let mut from = [0; LANES];
    for (to, from) in from.iter_mut().zip(lanes.as_chunks().0) {
        *to = i32::from_le_bytes(*from);
    }
    // SAFETY: the caller is below `Isa::run` for `V`.
    unsafe { V::load_ints(&from) }
}

impl<S: Scales> Scales for Opened<S> {
    const CHUNK: usize = if S::Unit::INPUTS == RUN { RUN } else { S::CHUNK };
    const SIZE: usize = NUMBERS * Self::FLOATS * (1 + Self::PAIRS);
    const RUN: usize = S::RUN;
    const MIN: bool = S::MIN;
    type Unit = S::Unit;

    #[inline(always)]
    unsafe fn open<V: Integers>(head: &[u8]) -> [V; 2] {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { [floats(head, 0), floats(head, Self::FLOATS - 1)] }
    }

    #[inline(always)]
    unsafe fn scale<V: Integers>(open: [V; 2], _: &[u8], _: usize) -> V {
        open[0]
    }

    #[inline(always)]
    unsafe fn min<V: Integers>(open: [V; 2], _: &[u8], _: usize) -> V {
        open[1]
    }

    #[inline(always)]
    unsafe fn scales<V: Integers>(head: &[u8], pair: usize) -> V::Ints {
        // SAFETY: as above.
        unsafe { ints::<V>(head, Self::FLOATS + pair) }
    }

    #[inline(always)]
    unsafe fn mins<V: Integers>(head: &[u8], pair: usize) -> V::Ints {
        // SAFETY: as above.
        unsafe { ints::<V>(head, Self::FLOATS + Self::PAIRS + pair) }
    }

    fn pack(_: &[crate::blocks::Split; LANES], _: &mut [u8]) {
        unreachable!("made by `unpack`, never from a file")
    }
}

/// Bytes of `inputs` inputs of one panel, unpacked.
pub(super) const fn unpacked_bytes<S: Scales>(inputs: usize) -> usize {
    inputs / Opened::<S>::CHUNK * Opened::<S>::SIZE + inputs / RUN * 8 * BYTES
}

/// The most that [`unpacked_bytes`] is for 256 inputs: two floats, eight pairs of scales and of minima, and codes.
pub(super) const MOST_UNPACKED: usize = 2 * NUMBERS * 9 + 64 * BYTES;

/// Bytes of unpacked weights in a task of many rows, at most: they stay in a core's second cache.
pub(super) const UNPACKED: usize = 400 << 10;

/// Inputs that are unpacked at a time, at most. Sums of more are taken up from memory again.
const INPUTS: usize = 2048;

/// Inputs that are unpacked at a time, of `cols`: whole chunks of every type, and about as many each time.
pub(super) fn inputs_at_once(cols: usize) -> usize {
    cols.div_ceil(cols.div_ceil(INPUTS)).next_multiple_of(256)
}

/// Panels of a task of many rows, at most: an even number, because the matrix unit takes two at a time.
pub(super) fn panels_at_once(cols: usize) -> usize {
    UNPACKED / (inputs_at_once(cols) / 256 * MOST_UNPACKED) / 2 * 2
}

/// Unpacks whole chunks of a panel into chunks of [`Opened`] and [`Unpacked`]. With `signed`, codes have their bias
/// taken off and are two's complement.
///
/// # Safety
/// As for [`Integers`].
#[inline(always)]
pub(super) unsafe fn unpack<V: Integers, C: Codes, S: Scales>(panel: &[u8], to: &mut [u8], signed: bool) {
    let runs = const { Opened::<S>::CHUNK / RUN };
    let mut chunks = to.chunks_exact_mut(const { unpacked_bytes::<S>(Opened::<S>::CHUNK) });
    for chunk in panel.chunks_exact(const { chunk_bytes::<C, S>() }) {
        let (head, codes) = chunk.split_at(S::SIZE);
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe {
            let open = S::open::<V>(head);
            for (i, (codes, to)) in codes.chunks_exact(runs * C::SIZE).zip(&mut chunks).enumerate() {
                let (scales, quads) = to.split_at_mut(Opened::<S>::SIZE);
                open_scales::<V, S>(open, head, i, scales.as_chunks_mut().0);
                for (codes, to) in codes.chunks_exact(C::SIZE).zip(quads.chunks_exact_mut(8 * BYTES)) {
                    let quads = to.as_chunks_mut::<BYTES>().0;
                    unroll!(Q in [0 1 2 3 4 5 6 7] {
                        let quad = C::quad::<V>(codes, Q);
                        V::store_bytes(if signed { V::less(quad, C::BIAS as u8) } else { quad }, &mut quads[Q]);
                    });
                }
            }
        }
    }
}

/// The scales of part `i` of a chunk.
#[inline(always)]
unsafe fn open_scales<V: Integers, S: Scales>(open: [V; 2], head: &[u8], i: usize, to: &mut [[u8; NUMBERS]]) {
    // SAFETY: the caller is below `Isa::run` for `V`.
    unsafe {
        let float = |x: V| x.store().map(f32::to_le_bytes);
        let int = |x: V::Ints| V::store_ints(x).map(i32::to_le_bytes);
        let (floats, pairs) = to.split_at_mut(Opened::<S>::FLOATS);
        let open =
            if S::Unit::INPUTS == RUN { [S::scale(open, head, i), S::min(open, head, i)] } else { open };
        for (to, open) in floats.iter_mut().zip(open) {
            to.copy_from_slice(float(open).as_flattened());
        }
        for (p, to) in pairs.iter_mut().enumerate() {
            let pair = if p < Opened::<S>::PAIRS {
                S::scales::<V>(head, p)
            } else {
                S::mins::<V>(head, p - Opened::<S>::PAIRS)
            };
            to.copy_from_slice(int(pair).as_flattened());
        }
    }
}
