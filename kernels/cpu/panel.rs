//! One panel of 16 outputs times a few rows: the inner loops of every product.
//!
//! For each run of 32 inputs the integer products of a scale's inputs are summed exactly, made floats, and added
//! in one order: `t = s₀·S₀ (+ s₁·S₁)`, `sum += a·t`, then the minima, `sum += m·Σ`, where `a` is the scale of the
//! activations. Only the order of runs matters, and it is that of the inputs; so decode, prefill, and every
//! instruction set give the same bits.

// Registers are numbered: an iterator over them is not inlined for certain, and then they are in memory.
#![allow(clippy::needless_range_loop)]

use super::codes::Codes;
use super::integers::{BYTES, Integers};
use super::packed::chunk_bytes;
use super::quantized::{Part, RUN, Record, Tile};
use super::scales::Scales;
use super::vector::{LANES, Lanes};

/// Writes `body` out for each number, as a constant: what an optimiser may decide against where it matters most.
macro_rules! unroll {
    ($i:ident in [$($n:literal)*] $body:block) => { $( { const $i: usize = $n; $body } )* };
}
pub(super) use unroll;

/// Bytes ahead that streamed weights are asked for: what a core has under way of memory, and some more.
pub(super) const AHEAD: usize = 2048;

/// `sums[r] += panel · x[first + r]` for `R` rows of a tile over the inputs of `panel`: whole chunks, as many runs of
/// inputs as `x` has. With `STREAM`, weights come from memory, not from a cache.
///
/// # Safety
/// As for [`Integers`]; `first + R` rows are within the tile.
#[inline(always)]
pub(super) unsafe fn packed<V: Integers, C: Codes, S: Scales, const R: usize, const STREAM: bool>(
    mut sums: [V; R],
    panel: &[u8],
    x: Tile<'_>,
    first: usize,
) -> [V; R] {
    for (c, chunk) in panel.chunks_exact(const { chunk_bytes::<C, S>() }).enumerate() {
        let (head, codes) = chunk.split_at(S::SIZE);
        // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
        unsafe {
            if STREAM {
                for line in 0..S::SIZE.div_ceil(64) {
                    V::prefetch(head.as_ptr().wrapping_add(AHEAD + 64 * line));
                }
            }
            let open = S::open::<V>(head);
            for (j, codes) in codes.chunks_exact(C::SIZE).enumerate() {
                if STREAM {
                    for line in 0..C::SIZE / 64 {
                        V::prefetch(codes.as_ptr().wrapping_add(AHEAD + 64 * line));
                    }
                }
                let x = x.record(c * S::CHUNK / 32 + j).from(first);
                sums = run::<V, C, S, R>(sums, codes, (open, head, j * S::RUNS), x);
            }
        }
    }
    sums
}

/// One run of 32 inputs; `scales` are those of the chunk and the number of the run's first.
#[inline(always)]
unsafe fn run<V: Integers, C: Codes, S: Scales, const R: usize>(
    mut sums: [V; R],
    codes: &[u8],
    (open, head, at): ([V; 2], &[u8], usize),
    x: Record<'_>,
) -> [V; R] {
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        let mut terms;
        if S::RUNS == 1 {
            let mut products = offsets::<V, C, S, R>(x, 0);
            unroll!(Q in [0 1 2 3 4 5 6 7] { products = quad::<V, C, R>(products, codes, x, Q) });
            terms = scaled(products, S::scale(open, head, at));
        } else {
            let mut products = offsets::<V, C, S, R>(x, 0);
            unroll!(Q in [0 1 2 3] { products = quad::<V, C, R>(products, codes, x, Q) });
            terms = scaled(products, S::scale(open, head, at));
            let mut products = offsets::<V, C, S, R>(x, 1);
            unroll!(Q in [4 5 6 7] { products = quad::<V, C, R>(products, codes, x, Q) });
            let scale = S::scale(open, head, at + 1);
            for r in 0..R {
                terms[r] = V::to_floats(products[r]).times_plus(scale, terms[r]);
            }
        }
        for r in 0..R {
            sums[r] = terms[r].times_plus(V::splat(x.scale(r)), sums[r]);
        }
        if S::MIN {
            for half in 0..S::RUNS {
                let min = S::min(open, head, at + half);
                let part = if S::RUNS == 1 { Part::All } else { [Part::First, Part::Last][half] };
                for r in 0..R {
                    sums[r] = min.times_plus(V::splat(x.scaled_sum(part, r)), sums[r]);
                }
            }
        }
        sums
    }
}

/// What the products of a scale's inputs begin with: the bias of the codes taken off.
#[inline(always)]
unsafe fn offsets<V: Integers, C: Codes, S: Scales, const R: usize>(
    x: Record<'_>,
    half: usize,
) -> [V::Ints; R] {
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        let mut products = [V::ints(0); R];
        if let Some(shift) = const { C::BIAS.checked_ilog2() } {
            for r in 0..R {
                let part = if S::RUNS == 1 { Part::All } else { [Part::First, Part::Last][half] };
                products[r] = V::ints_raised(x.negative_sum(part, r), shift);
            }
        }
        products
    }
}

/// Adds the products of quad `q`.
#[inline(always)]
unsafe fn quad<V: Integers, C: Codes, const R: usize>(
    mut products: [V::Ints; R],
    codes: &[u8],
    x: Record<'_>,
    q: usize,
) -> [V::Ints; R] {
    // SAFETY: the caller is below `Isa::run` for `V`, and has checked the rows.
    unsafe {
        let quad = C::quad::<V>(codes, q);
        for r in 0..R {
            let x = x.quad(r, q);
            products[r] = if C::WIDE {
                V::dot::<true>(products[r], quad, x)
            } else {
                V::dot::<false>(products[r], quad, x)
            };
        }
        products
    }
}

#[inline(always)]
unsafe fn scaled<V: Integers, const R: usize>(products: [V::Ints; R], scale: V) -> [V; R] {
    // SAFETY: the caller is below `Isa::run` for `V`.
    unsafe {
        let mut terms = [scale; R];
        for r in 0..R {
            terms[r] = V::to_floats(products[r]).mul(scale);
        }
        terms
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

/// The most that [`unpacked_bytes`] is: two scales and two minima.
pub(super) const MOST_UNPACKED: usize = 4 * FLOATS + 8 * BYTES;

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
    UNPACKED / (inputs_at_once(cols) / RUN * MOST_UNPACKED) / 2 * 2
}

/// Unpacks whole chunks of a panel into a run of [`Unpacked`] and [`Multiplied`]. With `signed`, codes have their
/// bias taken off and are two's complement.
///
/// # Safety
/// As for [`Integers`].
#[inline(always)]
pub(super) unsafe fn unpack<V: Integers, C: Codes, S: Scales>(panel: &[u8], to: &mut [u8], signed: bool) {
    let mut runs = to.chunks_exact_mut(unpacked_bytes::<S>());
    for chunk in panel.chunks_exact(const { chunk_bytes::<C, S>() }) {
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
                let quads = quads.as_chunks_mut::<BYTES>().0;
                unroll!(Q in [0 1 2 3 4 5 6 7] {
                    let quad = C::quad::<V>(codes, Q);
                    V::store_bytes(if signed { V::less(quad, C::BIAS as u8) } else { quad }, &mut quads[Q]);
                });
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
