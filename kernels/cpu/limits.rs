//! What the machine can do at most, measured: the yardstick of every figure.

use super::integers::{BYTES, Integers};
use super::isa::{Isa, Kernel};
use super::panel::AHEAD;
use super::parallel::Workers;
use super::vector::LANES;
use crate::mapped::Memory;
use crate::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Memory that is read: far more than caches hold, wherever caches are a share of a large machine's.
const READ: usize = 1 << 30;

/// Runs, of which the best counts: everything else on the machine only ever slows one down.
const RUNS: usize = 5;

/// How fast memory is read. On a shared machine that changes from one moment to the next: what is compared with it
/// must be measured by turns with it.
#[derive(Debug)]
pub struct ReadBandwidth {
    memory: Memory,
    isa: Isa,
    workers: Workers,
}

impl ReadBandwidth {
    /// Takes a gigabyte of memory, to be read by `threads` threads.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where the system has not as much.
    pub fn new(threads: usize) -> Result<Self> {
        let mut memory =
            Memory::zeroed(READ).ok_or(Error::OutOfMemory { what: "memory to read", bytes: READ })?;
        // Pages that nobody wrote to are all one page.
        memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        Ok(Self { memory, isa: Isa::best(), workers: Workers::new(threads) })
    }

    /// Bytes per second that the threads read together, each its own part once from end to end.
    pub fn now(&self) -> f64 {
        let part = READ / self.workers.threads();
        let sum = AtomicU64::new(0);
        let start = Instant::now();
        self.workers.each(self.workers.threads(), usize::MAX, |t| {
            self.isa.run(Sum { bytes: &self.memory[t * part..][..part], sum: &sum });
        });
        (self.workers.threads() * part) as f64 / start.elapsed().as_secs_f64()
    }

    /// The best of several passes.
    pub fn best(&self) -> f64 {
        (0..RUNS).map(|_| self.now()).fold(0.0, f64::max)
    }
}

/// Products of eight-bit numbers, summed in 32 bits, per second that `threads` threads make with `isa` from
/// registers alone.
pub fn int8_products(isa: Isa, threads: usize) -> f64 {
    const ROUNDS: usize = 1 << 20;
    let workers = Workers::new(threads);
    let sum = AtomicU64::new(0);
    let rate = |_| {
        let start = Instant::now();
        workers.each(workers.threads(), usize::MAX, |_| {
            if isa.tiles() {
                super::amx::spin(ROUNDS);
            } else {
                isa.run(Products { rounds: ROUNDS, sum: &sum });
            }
        });
        let each = if isa.tiles() { super::amx::SPIN_PRODUCTS } else { CHAINS * BYTES };
        (workers.threads() * ROUNDS * each) as f64 / start.elapsed().as_secs_f64()
    };
    (0..RUNS).map(rate).fold(0.0, f64::max)
}

struct Sum<'a> {
    bytes: &'a [u8],
    sum: &'a AtomicU64,
}

impl Kernel for Sum<'_> {
    #[inline(always)]
    fn run<V: Integers>(self) {
        let mut all = [0; BYTES];
        // SAFETY: this is compiled into `Isa::run`'s function for `V`.
        unsafe {
            let mut sums = [V::bytes(&all); 4];
            for lines in self.bytes.as_chunks::<BYTES>().0.as_chunks::<4>().0 {
                for (sum, line) in sums.iter_mut().zip(lines) {
                    V::prefetch(line.as_ptr().wrapping_add(AHEAD));
                    *sum = V::or(*sum, V::bytes(line));
                }
            }
            V::store_bytes(V::or(V::or(sums[0], sums[1]), V::or(sums[2], sums[3])), &mut all);
        }
        // So that nothing is optimised away.
        self.sum.fetch_add(all.into_iter().map(u64::from).sum(), Ordering::Relaxed);
    }
}

/// Sums that do not wait for each other, to each of which every round adds a register's products.
const CHAINS: usize = 12;

/// Products that are added to a sum in one round of the loop.
const ADDED: usize = 4;

struct Products<'a> {
    rounds: usize,
    sum: &'a AtomicU64,
}

impl Kernel for Products<'_> {
    const DOTS: bool = true;

    #[inline(always)]
    fn run<V: Integers>(self) {
        // As many sums as registers hold beside the codes.
        if V::REGISTERS >= 32 {
            self.chains::<V, { CHAINS / 2 }>()
        } else {
            self.chains::<V, { CHAINS / 6 }>()
        }
    }
}

impl Products<'_> {
    #[inline(always)]
    fn chains<V: Integers, const PAIRS: usize>(self) {
        // SAFETY: this is compiled into `Isa::run`'s function for `V`.
        unsafe {
            let codes = std::hint::black_box([[1; BYTES]; 2]).map(|codes| V::bytes(&codes));
            let mut sums = [[V::shorts(V::ints(0)); 2]; PAIRS];
            let mut x = [[[0, 1, 2, 3]; PAIRS]; ADDED];
            for _ in 0..self.rounds * (CHAINS / 2 / PAIRS) / ADDED {
                // Other inputs each time, as far as an optimiser knows: no product is another's too.
                std::hint::black_box(&mut x);
                for x in &x {
                    for (sums, x) in sums.iter_mut().zip(x) {
                        // Each input for two products: some processors take up fewer than they multiply.
                        let [first, last] = [V::dot(sums[0], codes[0], x), V::dot(sums[1], codes[1], x)];
                        *sums = [V::settled(first), V::settled(last)];
                    }
                }
            }
            let mut all = [0.0; LANES];
            for sum in sums.into_iter().flatten() {
                let sum = V::to_floats(V::widened(V::ints(0), sum));
                for (all, lane) in all.iter_mut().zip(sum.store()) {
                    *all += lane;
                }
            }
            self.sum.fetch_add(all.iter().sum::<f32>() as u64, Ordering::Relaxed);
        }
    }
}
