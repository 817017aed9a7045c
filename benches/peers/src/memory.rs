//! How fast this machine's memory can be read, by as many threads as the engines use.

use std::fs;
use std::hint::black_box;
use std::thread;
use std::time::Instant;

/// Passes over the buffer each time; the best counts, because whatever disturbs a pass only slows it.
const PASSES: usize = 5;

/// A buffer that no cache holds, to be read over and over.
pub(crate) struct Memory {
    words: Vec<u64>,
    threads: usize,
    best_bytes_s: f64,
}

impl Memory {
    /// Four times the largest cache, at least 1 GiB, at most a quarter of the memory that is free.
    pub(crate) fn new(threads: usize) -> Self {
        let free = coder_engine::available_memory().unwrap_or(4 << 30) as usize;
        let bytes = (4 * largest_cache().unwrap_or(0)).max(1 << 30).min(free / 4);
        // Not zero, so that the pages are real and different; filled by one thread, before any timing.
        let words = (0..bytes as u64 / 8).collect();
        Self { words, threads, best_bytes_s: 0.0 }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.words.len() * 8
    }

    /// Reads everything several times; gives the best pass of this call and all before it, in bytes per second.
    pub(crate) fn measure(&mut self) -> f64 {
        for _ in 0..PASSES {
            let start = Instant::now();
            thread::scope(|scope| {
                for share in self.words.chunks(self.words.len().div_ceil(self.threads)) {
                    scope.spawn(move || black_box(sum(share)));
                }
            });
            let seconds = start.elapsed().as_secs_f64();
            self.best_bytes_s = self.best_bytes_s.max(self.bytes() as f64 / seconds);
        }
        self.best_bytes_s
    }
}

/// Eight sums side by side: a cache line at a time, and nothing waits for the addition before.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; 8];
    for line in words.chunks_exact(8) {
        for (sum, word) in sums.iter_mut().zip(line) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}

/// Bytes of the largest cache of the first processor, where the system tells (Linux).
fn largest_cache() -> Option<usize> {
    let caches = fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?;
    let size = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path().join("size")).ok()?;
        Some(text.trim().strip_suffix('K')?.parse::<usize>().ok()? * 1024)
    };
    caches.filter_map(|entry| size(entry.ok()?)).max()
}
