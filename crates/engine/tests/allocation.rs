//! What the engine's own steps allocate once it runs: what an event carries, and the books of the cache.
#![allow(unsafe_code)]

mod common;

use coder_engine::{Engine, Event, Generation, Limit, Options, Request};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

static COUNT: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
static FREED: AtomicUsize = AtomicUsize::new(0);

/// Both tests count what the whole process does.
static ALONE: Mutex<()> = Mutex::new(());

/// The system's allocator, counting what all threads ask for.
struct Counting;

fn count(bytes: usize) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(bytes, Ordering::Relaxed);
}

// SAFETY: every call is passed on to `System` as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        FREED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: `ptr` came from `System` with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        FREED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: `ptr` came from `System` with this layout, and the caller vouches for `size`.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations and bytes for each token of `answers` answers side by side, between their 40th and their 200th.
fn per_token(engine: &Engine, answers: usize, speculate: bool) -> [f64; 2] {
    let request = |i: usize| {
        let prompt = (0..20 + i as u32).map(|t| (t * 7 + i as u32) % 300).collect();
        let request = Request::new(prompt).limit(Limit::Require(240));
        Request { ignore_end: true, speculate, ..request }
    };
    let started: Vec<Generation> =
        (0..answers).map(|i| engine.generate(request(i)).expect("started")).collect();
    let mut seen = Vec::new();
    let mut tokens = 0;
    // The first answer shows where all are: they grow by a token in every step.
    let mut started = started.into_iter();
    for event in started.next().expect("an answer") {
        if let Event::Token(_) = event.expect("an event") {
            tokens += 1;
            if tokens == 40 || tokens == 200 {
                seen.push([COUNT.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed)]);
            }
        }
    }
    started.for_each(|generation| drop(generation.finish().expect("an answer")));
    let per = |i: usize| (seen[1][i] - seen[0][i]) as f64 / (160 * answers) as f64;
    [per(0), per(1)]
}

/// One for the text of a token, and of what is needed now and then: a block of the channel for 31 events, three
/// entries of the cache's books for 32 tokens. Nothing that grows with the vocabulary, the batch or the context.
#[test]
fn a_token_costs_its_text_and_little_more() {
    let _alone = ALONE.lock();
    let mut options = Options::new(common::bundled());
    (options.context, options.cache) = (Some(512), Some(8192));
    let engine = Engine::open(&options).expect("a model");
    for answers in [1, 8] {
        // Once for memory that is kept.
        per_token(&engine, answers, false);
        for speculate in [false, true] {
            let [count, bytes] = per_token(&engine, answers, speculate);
            println!(
                "{answers} answers, guesses {speculate}: {count:.2} allocations, {bytes:.0} bytes per token"
            );
            // A guess that the answer itself suggests is kept with the places of its tokens, which grow.
            let most = if speculate { 2.0 } else { 1.5 };
            assert!(count <= most && bytes <= 1024.0, "{answers}: {count} allocations, {bytes} bytes");
        }
    }
}

/// Bytes that are allocated.
fn live() -> usize {
    BYTES.load(Ordering::Relaxed) - FREED.load(Ordering::Relaxed)
}

/// Whatever a request is: many of them leave no more than one. (What the allocator makes of it is another matter;
/// tests/memory.rs looks at that.)
#[test]
fn what_a_request_had_is_given_back() {
    let _alone = ALONE.lock();
    let mut options = Options::new(common::bundled());
    (options.context, options.chunk, options.parallel) = (Some(256), Some(64), 8);
    let engine = Engine::open(&options).expect("a model");
    let requests = common::requests::requests(&engine, 20);
    for kind in 0..5 {
        let run = |rounds: usize| {
            for _ in 0..rounds {
                for request in requests.iter().skip(kind).step_by(5) {
                    engine.generate(request.clone()).expect("started").finish().expect("an answer");
                }
            }
            engine.stats().expect("an engine");
            live()
        };
        // What is kept for good may come late, on a busy machine; what is lost is lost again and again.
        let seen = [run(2), run(6), run(6)];
        println!("kind {kind}: {} bytes, {} and {} after 24 more requests each", seen[0], seen[1], seen[2]);
        assert!(seen.windows(2).any(|w| w[1] <= w[0] + 4096), "kind {kind}: {seen:?} bytes");
    }
}
