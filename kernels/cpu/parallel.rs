//! How work is shared among threads: workers that stay awake while a step runs, and none for small work.
//!
//! A step is hundreds of short jobs one behind the other. Waking a sleeping thread takes longer than most of them,
//! so a worker that finds nothing to do spins for a while before it sleeps. Jobs are cut into more tasks than
//! there are threads. Each thread has a run of them, so that what it asks memory for beyond the end of a task is the
//! beginning of its next one; whoever has none left takes the next of another thread's: a thread that the system
//! holds up holds up no more than one task. Which thread runs a task changes no bit of the result.

use std::cell::RefCell;
use std::hint::spin_loop;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::storage::Aligned;

/// Work below this many multiplications is done by the calling thread.
const INLINE: usize = 60_000;

/// Turns that a worker spins for the next job before it sleeps: about a tenth of a millisecond.
const SPINS: u32 = 4_000;

/// The threads of a device: the one that calls, and `threads - 1` others.
#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// One job at a time.
    turn: Mutex<()>,
}

/// A job: `run(task)` for every task below `tasks`.
struct Job {
    run: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

#[derive(Debug)]
struct Shared {
    /// Number of the job (upper 32 bits), whether it is open for workers to join ([`OPEN`]), and how many are in it.
    gate: AtomicU64,
    /// The job, while it is open or anybody is in it.
    job: AtomicPtr<Job>,
    /// For each thread, the next task of its run that nobody has taken.
    next: Box<[Next]>,
    stop: AtomicBool,
    panicked: AtomicBool,
    /// How many workers sleep, or are about to.
    sleeping: Mutex<usize>,
    /// The same, for a look without the lock.
    sleepers: AtomicUsize,
    wake: Condvar,
}

/// On cache lines of its own: each thread counts on.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Next(AtomicUsize);

const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;

impl Workers {
    /// `threads` threads in all, at least one. Fewer if the system gives no more.
    pub(super) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            next: (0..threads.max(1)).map(|_| Next::default()).collect(),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            sleeping: Mutex::new(0),
            sleepers: AtomicUsize::new(0),
            wake: Condvar::new(),
        });
        let spawn = |n: usize| {
            let shared = Arc::clone(&shared);
            let name = format!("coder-{n}");
            std::thread::Builder::new().name(name).spawn(move || shared.work(n)).ok()
        };
        let threads = (1..threads.max(1)).map_while(spawn).collect();
        Self { shared, threads, turn: Mutex::new(()) }
    }

    /// Number of threads, the calling one included.
    pub(super) fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Runs `task` for every number below `tasks`. `work` is the number of multiplications in all of them.
    pub(super) fn each(&self, tasks: usize, work: usize, task: impl Fn(usize) + Sync) {
        if tasks < 2 || work < INLINE || self.threads.is_empty() {
            (0..tasks).for_each(task);
            return;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let run: &(dyn Fn(usize) + Sync) = &task;
        // SAFETY: this only makes the lifetime longer. Workers use `run` between joining and leaving the job, and
        // `Closed` below waits until all have left, also when a task panics, before `task` goes.
        let run: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(run) };
        let mut job = Job { run, tasks };
        for (t, next) in self.shared.next.iter().enumerate() {
            next.0.store(self.shared.first(t, tasks), Ordering::Relaxed);
        }
        self.shared.job.store(&raw mut job, Ordering::Relaxed);
        let number = (self.shared.gate.load(Ordering::Relaxed) >> 32) + 1;
        self.shared.gate.store(number << 32 | OPEN, Ordering::SeqCst);
        let closed = Closed(&self.shared);
        if self.shared.sleepers.load(Ordering::SeqCst) > 0 {
            // The lock orders this after a worker's decision to sleep.
            drop(self.shared.sleeping.lock().unwrap_or_else(PoisonError::into_inner));
            self.shared.wake.notify_all();
        }
        self.shared.take(0, tasks, &task);
        drop(closed);
        assert!(!self.shared.panicked.swap(false, Ordering::Relaxed), "a task panicked on another thread");
    }

    /// Runs `row` for every row of `data [rows, cols]`, with its number. `work` as in [`each`](Self::each).
    pub(super) fn rows(
        &self,
        data: &mut [f32],
        cols: usize,
        work: usize,
        row: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let rows = data.len() / cols;
        let data = Disjoint::new(data);
        self.each(rows, work, |r| {
            // SAFETY: a task has a row of its own.
            row(r, unsafe { data.slice(r * cols, cols) });
        });
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(self.shared.sleeping.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Closes the job when dropped, and waits for those who are in it.
struct Closed<'a>(&'a Shared);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        // Matters after a panic.
        self.0.no_more();
        self.0.gate.fetch_and(!OPEN, Ordering::SeqCst);
        let mut spins = 0;
        while self.0.gate.load(Ordering::SeqCst) & INSIDE != 0 {
            spins += 1;
            if spins > SPINS { std::thread::yield_now() } else { spin_loop() }
        }
    }
}

/// Leaves the job when dropped.
struct Inside<'a>(&'a Shared);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked.store(true, Ordering::Relaxed);
            self.0.no_more();
        }
        self.0.gate.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    /// The first task of thread `thread`'s run, and the end of the run of the thread before it.
    fn first(&self, thread: usize, tasks: usize) -> usize {
        let (threads, rest) = (self.next.len(), tasks % self.next.len());
        tasks / threads * thread + rest.min(thread)
    }

    /// Nobody takes another task.
    fn no_more(&self) {
        self.next.iter().for_each(|next| next.0.store(usize::MAX / 2, Ordering::Relaxed));
    }

    /// Takes tasks until there are none, as thread `thread`: its own first, then those of the threads behind it.
    fn take(&self, thread: usize, tasks: usize, run: &(dyn Fn(usize) + Sync)) {
        let threads = self.next.len();
        for t in (thread..threads).chain(0..thread) {
            let end = self.first(t + 1, tasks);
            loop {
                let task = self.next[t].0.fetch_add(1, Ordering::Relaxed);
                if task >= end {
                    break;
                }
                run(task);
            }
        }
    }

    /// The life of worker `thread`.
    fn work(&self, thread: usize) {
        let mut last = 0;
        while let Some(gate) = self.wait(last) {
            if self.gate.compare_exchange(gate, gate + 1, Ordering::SeqCst, Ordering::SeqCst).is_err() {
                continue; // Somebody else joined, or the job was closed: look again.
            }
            last = gate >> 32;
            let inside = Inside(self);
            // SAFETY: the job was open when this worker was counted in, so whoever opened it waits in `Closed` until
            // `inside` is dropped, and keeps job and closure until then.
            let (tasks, run) = unsafe {
                let job = &*self.job.load(Ordering::SeqCst);
                (job.tasks, &*job.run)
            };
            // A panic has been told by its hook; `Inside` hands it on to the caller.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let inside = inside;
                self.take(thread, tasks, run);
                drop(inside);
            }));
        }
    }

    /// The gate of an open job that is not job `last`, or none when it is time to stop.
    fn wait(&self, last: u64) -> Option<u64> {
        let fresh = |gate: u64| gate & OPEN != 0 && gate >> 32 != last;
        for _ in 0..SPINS {
            let gate = self.gate.load(Ordering::SeqCst);
            if fresh(gate) {
                return Some(gate);
            }
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            spin_loop();
        }
        let mut sleeping = self.sleeping.lock().unwrap_or_else(PoisonError::into_inner);
        *sleeping += 1;
        self.sleepers.store(*sleeping, Ordering::SeqCst);
        let gate = loop {
            let gate = self.gate.load(Ordering::SeqCst);
            if fresh(gate) {
                break Some(gate);
            }
            if self.stop.load(Ordering::SeqCst) {
                break None;
            }
            sleeping = self.wake.wait(sleeping).unwrap_or_else(PoisonError::into_inner);
        };
        *sleeping -= 1;
        self.sleepers.store(*sleeping, Ordering::SeqCst);
        gate
    }
}

thread_local! {
    static SCRATCH: RefCell<Aligned> = RefCell::new(Aligned::default());
}

/// Gives `f` this thread's scratch: `len` bytes with whatever values, on a cache line. It grows to the largest
/// `len` that was ever asked for and stays. `f` must not ask again, nor wait for other tasks, which might.
pub(super) fn with_scratch(len: usize, f: impl FnOnce(&mut [u8])) {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.grow(len);
        f(&mut scratch.bytes_mut()[..len]);
    });
}

/// As [`with_scratch`], for `len` floats.
pub(super) fn with_floats(len: usize, f: impl FnOnce(&mut [f32])) {
    with_scratch(len * 4, |bytes| f(floats_mut(bytes)));
}

/// Scratch as floats, with whatever values.
#[inline(always)]
pub(super) fn floats_mut(scratch: &mut [u8]) -> &mut [f32] {
    // SAFETY: any bits are a float, and `align_to_mut` sees to places and lengths.
    let (before, floats, _) = unsafe { scratch.align_to_mut() };
    assert!(before.is_empty(), "scratch begins on a cache line");
    floats
}

/// A buffer into which several tasks write, each to places of its own.
pub(super) struct Disjoint<'a, T> {
    data: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: `slice` is the only access, and whoever calls it promises that no two tasks' places overlap.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// Shares `data` until the borrow ends.
    pub(super) fn new(data: &'a mut [T]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), borrow: PhantomData }
    }

    /// `len` elements from `start`.
    ///
    /// # Safety
    /// While the result lives, no other slice that this function returned may overlap it.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "a place outside of the buffer");
        // SAFETY: in bounds by the assertion; unique by the caller's promise and by the exclusive borrow
        // that `new` took.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), len) }
    }
}
