//! One panel of 16 outputs times a few rows: the inner loops of every product.
//!
//! For each run of 32 inputs the integer products of a scale's inputs are summed exactly, made floats, and added
//! in one order: `t = s₀·S₀ (+ s₁·S₁)`, `sum += a·t`, then the minima, `sum += m·Σ`, where `a` is the scale of the
//! activations. Only the order of runs matters, and it is that of the inputs; so decode, prefill, and every
//! instruction set give the same bits.

use super::codes::Codes;
use super::integers::{BYTES, Integers};
use super::quantized::{Part, Record, Tile};
use super::scales::Scales;
use super::vector::{LANES, Lanes};

/// `sums[r] += panel · x[first + r]` for `R` rows of a tile over the inputs of `panel`: whole chunks, as many runs of
/// inputs as `x` has.
///
/// # Safety
/// As for [`Integers`].
#[inline(always)]
pub(super) unsafe fn packed<V: Integers, C: Codes, S: Scales, const R: usize>(
    sums: &mut [V; R],
    panel: &[u8],
    x: Tile<'_>,
    first: usize,
) {
    let chunk = super::packed::chunk_bytes::<C, S>();
    for (c, chunk) in panel.chunks_exact(chunk).enumerate() {
        let (head, codes) = chunk.split_at(S::SIZE);
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe {
            let open = S::open::<V>(head);
            for (j, codes) in codes.chunks_exact(C::SIZE).enumerate() {
                let x = x.record(c * S::CHUNK / 32 + j);
                run::<V, C, S, R>(sums, codes, (open, head, j * S::RUNS), x, first);
            }
        }
    }
}

/// One run of 32 inputs; `scales` are those of the chunk and the number of the run's first.
#[inline(always)]
unsafe fn run<V: Integers, C: Codes, S: Scales, const R: usize>(
    sums: &mut [V; R],
    codes: &[u8],
    (open, head, at): ([V; 2], &[u8], usize),
    x: Record<'_>,
    first: usize,
) {
    // SAFETY: the caller is below `Isa::run` for `V`.
    unsafe {
        let mut terms = [V::spread(0.0); R];
        for half in 0..S::RUNS {
            let quads = 8 / S::RUNS;
            let mut products = [V::ints(0); R];
            if C::BIAS != 0 {
                for r in 0..R {
                    // Wrapping, because a tile's rows that are not used hold whatever.
                    let sum = if S::RUNS == 2 {
                        x.sum(half, first + r)
                    } else {
                        x.sum(0, first + r).wrapping_add(x.sum(1, first + r))
                    };
                    products[r] = V::ints(sum.wrapping_mul(-C::BIAS));
                }
            }
            for q in half * quads..(half + 1) * quads {
                let quad = C::quad::<V>(codes, q);
                for r in 0..R {
                    let x = x.codes(first + r).as_chunks::<4>().0[q];
                    products[r] = if C::WIDE {
                        V::dot::<true>(products[r], quad, x)
                    } else {
                        V::dot::<false>(products[r], quad, x)
                    };
                }
            }
            let scale = S::scale(open, head, at + half);
            for r in 0..R {
                let product = V::to_floats(products[r]);
                terms[r] = if half == 0 { product.times(scale) } else { product.times_plus(scale, terms[r]) };
            }
        }
        for r in 0..R {
            sums[r] = terms[r].times_plus(V::spread(x.scale(first + r)), sums[r]);
        }
        if S::MIN {
            for half in 0..S::RUNS {
                let min = S::min(open, head, at + half);
                let part = if S::RUNS == 1 { Part::All } else { [Part::First, Part::Last][half] };
                for r in 0..R {
                    sums[r] = min.times_plus(V::spread(x.scaled_sum(part, first + r)), sums[r]);
                }
            }
        }
    }
}

/// Codes that were unpacked beforehand, a byte each.
pub(super) struct Unpacked<C>(std::marker::PhantomData<C>);

impl<C: Codes> Codes for Unpacked<C> {
    const SIZE: usize = 8 * BYTES;
    const BIAS: i32 = C::BIAS;
    const WIDE: bool = C::WIDE;

    #[inline(always)]
    unsafe fn quad<V: Integers>(block: &[u8], q: usize) -> V::Bytes {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { V::bytes(&block.as_chunks().0[q]) }
    }

    fn pack(quads: &super::codes::Quads, block: &mut [u8]) {
        block.copy_from_slice(quads.as_flattened());
    }
}

/// Scales that were multiplied out beforehand: for each run of 32 inputs one or two scales of 16 floats, then as many
/// minima if the type has any.
pub(super) struct Multiplied<S>(std::marker::PhantomData<S>);

/// Floats of 16 outputs in bytes.
const FLOATS: usize = 4 * LANES;

#[inline(always)]
unsafe fn floats<V: Integers>(head: &[u8], i: usize) -> V {
    let lanes: &[u8; FLOATS] = &head.as_chunks().0[i];
    let mut from: Lanes = [0.0; LANES];
    for (to, from) in from.iter_mut().zip(lanes.as_chunks().0) {
        *to = f32::from_le_bytes(*from);
    }
    // SAFETY: the caller is below `Isa::run` for `V`.
    unsafe { V::load(&from) }
}

impl<S: Scales> Scales for Multiplied<S> {
    const CHUNK: usize = 32;
    const SIZE: usize = S::RUNS * FLOATS * if S::MIN { 2 } else { 1 };
    const RUNS: usize = S::RUNS;
    const MIN: bool = S::MIN;

    #[inline(always)]
    unsafe fn open<V: Integers>(_: &[u8]) -> [V; 2] {
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe { [V::zero(); 2] }
    }

    #[inline(always)]
    unsafe fn scale<V: Integers>(_: [V; 2], head: &[u8], run: usize) -> V {
        // SAFETY: as above.
        unsafe { floats(head, run) }
    }

    #[inline(always)]
    unsafe fn min<V: Integers>(_: [V; 2], head: &[u8], run: usize) -> V {
        // SAFETY: as above.
        unsafe { floats(head, S::RUNS + run) }
    }

    fn pack(_: &[crate::blocks::Split; LANES], _: &mut [u8]) {
        unreachable!("made by `unpack`, never from a file")
    }
}

/// Bytes of one run of 32 inputs, unpacked.
pub(super) const fn unpacked_bytes<S: Scales>() -> usize {
    Multiplied::<S>::SIZE + 8 * BYTES
}

/// Unpacks whole chunks of a panel into a run of [`Unpacked`] and [`Multiplied`]. With `signed`, codes have their
/// bias taken off and are two's complement.
///
/// # Safety
/// As for [`Integers`].
#[inline(always)]
pub(super) unsafe fn unpack<V: Integers, C: Codes, S: Scales>(panel: &[u8], to: &mut [u8], signed: bool) {
    let mut runs = to.chunks_exact_mut(unpacked_bytes::<S>());
    for chunk in panel.chunks_exact(super::packed::chunk_bytes::<C, S>()) {
        let (head, codes) = chunk.split_at(S::SIZE);
        // SAFETY: the caller is below `Isa::run` for `V`.
        unsafe {
            let open = S::open::<V>(head);
            for (j, (codes, to)) in codes.chunks_exact(C::SIZE).zip(&mut runs).enumerate() {
                let (scales, quads) = to.split_at_mut(Multiplied::<S>::SIZE);
                let scales = scales.as_chunks_mut::<FLOATS>().0;
                for run in 0..S::RUNS {
                    put(&mut scales[run], S::scale(open, head, j * S::RUNS + run));
                    if S::MIN {
                        put(&mut scales[S::RUNS + run], S::min(open, head, j * S::RUNS + run));
                    }
                }
                for (q, to) in quads.as_chunks_mut::<BYTES>().0.iter_mut().enumerate() {
                    let quad = C::quad::<V>(codes, q);
                    V::store_bytes(if signed { V::less(quad, C::BIAS as u8) } else { quad }, to);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn put<V: Integers>(to: &mut [u8; FLOATS], lanes: V) {
    // SAFETY: the caller is below `Isa::run` for `V`.
    let lanes = unsafe { lanes.store() };
    for (to, from) in to.as_chunks_mut().0.iter_mut().zip(lanes) {
        *to = from.to_le_bytes();
    }
}
