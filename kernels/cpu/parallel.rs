//! How work is shared among threads: rayon's global pool, and none for small work.

use rayon::prelude::*;
use std::{cell::RefCell, marker::PhantomData};

/// Work below this many multiplications is done by the calling thread: waking others takes longer.
const INLINE: usize = 100_000;

/// Runs `task` for every number below `tasks`. `work` is the number of multiplications in all of them.
pub(super) fn each(tasks: usize, work: usize, task: impl Fn(usize) + Sync + Send) {
    if tasks < 2 || work < INLINE {
        (0..tasks).for_each(task);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
}

/// Runs `row` for every row of `data [rows, cols]`, with its number. `work` as in [`each`].
pub(super) fn rows(
    data: &mut [f32],
    cols: usize,
    work: usize,
    row: impl Fn(usize, &mut [f32]) + Sync + Send,
) {
    if work < INLINE {
        data.chunks_mut(cols).enumerate().for_each(|(r, x)| row(r, x));
    } else {
        data.par_chunks_mut(cols).enumerate().for_each(|(r, x)| row(r, x));
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Gives `f` this thread's scratch: `len` floats with whatever values. It grows to the largest `len` that
/// was ever asked for and stays. `f` must not ask again, nor wait for other tasks, which might.
pub(super) fn with_scratch(len: usize, f: impl FnOnce(&mut [f32])) {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len {
            scratch.resize(len, 0.0);
        }
        f(&mut scratch[..len]);
    });
}

/// A buffer into which several tasks write, each to places of its own.
pub(super) struct Disjoint<'a> {
    data: *mut f32,
    len: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: `slice` is the only access, and whoever calls it promises that no two tasks' places overlap.
unsafe impl Sync for Disjoint<'_> {}

impl<'a> Disjoint<'a> {
    /// Shares `data` until the borrow ends.
    pub(super) fn new(data: &'a mut [f32]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), borrow: PhantomData }
    }

    /// `len` elements from `start`.
    ///
    /// # Safety
    /// While the result lives, no other slice that this function returned may overlap it.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn slice(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start <= self.len && len <= self.len - start, "a place outside of the buffer");
        // SAFETY: in bounds by the assertion; unique by the caller's promise and by the exclusive borrow
        // that `new` took.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), len) }
    }
}
