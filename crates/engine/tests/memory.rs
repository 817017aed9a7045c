//! An engine that lives long: nothing is lost, and memory stays where it is.
#![cfg(target_os = "linux")] // which tells a process how much memory it has

mod common;

use coder_engine::{Engine, Finish, Generation, Limit, Options, Request};
use common::requests::{Random, alone, assert_empty, essence, requests};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Both tests look at the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// Memory of this process that is in use.
fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process knows itself");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

/// Requests with lengths, priorities, cancellations and deadlines of every kind, and a cache that is far too small: all
/// end, each with the beginning of its own answer, and memory does not grow with their number. `CODER_TEST_REQUESTS`
/// of them, or a thousand.
#[test]
fn a_thousand_requests_with_a_cache_far_too_small() {
    let _alone = ALONE.lock();
    let mut options = Options::new(common::bundled());
    (options.context, options.chunk, options.parallel) = (Some(256), Some(64), 8);
    let kinds = requests(&Engine::open(&options).expect("a model"), 20);
    let expected = alone(&options, &kinds);
    let engine = Engine::open(&options).expect("a model");
    let count = std::env::var("CODER_TEST_REQUESTS").map_or(1000, |n| n.parse().expect("a number"));
    let mut random = Random(1);
    let mut after_some = 0;
    let mut open: Vec<(usize, Generation)> = Vec::new();
    let (mut ended, mut whole, mut cut) = (0, 0, 0);
    let mut end = |kind: usize, generation: Generation| {
        ended += 1;
        let answer = generation.finish().expect("an answer");
        let all = &expected[kind];
        let usage = answer.summary.usage;
        assert!(usage.cached_tokens <= usage.prompt_tokens && usage.accepted_tokens <= usage.drafted_tokens);
        match answer.summary.finish {
            Finish::Cancelled | Finish::Deadline => {
                cut += 1;
                assert!(
                    all.text.starts_with(&answer.text),
                    "{:?} is not a beginning of {:?}",
                    answer.text,
                    all.text
                );
                assert!(answer.tokens.len() <= all.tokens.len());
            }
            _ => {
                whole += 1;
                assert_eq!(essence(&answer), essence(all), "kind {kind}");
            }
        }
    };
    for number in 0..count {
        if number == count / 5 {
            after_some = resident_kb();
        }
        let kind = random.below(kinds.len());
        let deadline =
            (random.below(8) == 0).then(|| Instant::now() + Duration::from_millis(random.below(80) as u64));
        let request = kinds[kind].clone().priority(random.below(4) as i32 - 2).deadline(deadline);
        open.push((kind, engine.generate(request).expect("started")));
        match random.below(12) {
            0 => open[random.below(open.len())].1.cancel(),
            1 if open.len() > 1 => drop(open.swap_remove(random.below(open.len()))),
            _ => {}
        }
        // What nobody reads is kept for its reader, so as many are open at the end as at the beginning.
        while open.len() > 60 {
            let (kind, generation) = open.swap_remove(random.below(open.len()));
            end(kind, generation);
        }
    }
    for (kind, generation) in open {
        end(kind, generation);
    }
    let stats = engine.stats().expect("an engine");
    println!("{ended} ended: {whole} whole, {cut} cut; {stats:?}");
    assert!(whole > 100 && cut > 10 && stats.preemptions > 0);
    assert_empty(&engine);
    let at_the_end = resident_kb();
    println!("resident after {}: {after_some} kB, after {count}: {at_the_end} kB", count / 5);
    // Between others that live, the system's allocator keeps a little: 0.2 to 1.5 MB, measured.
    assert!(at_the_end <= after_some + (3 << 10), "{after_some} kB, then {at_the_end} kB");
}

/// Very many requests of a few tokens each, most of which no other one begins like.
#[test]
fn ten_thousand_tiny_requests() {
    let _alone = ALONE.lock();
    let mut options = Options::new(common::bundled());
    (options.context, options.parallel) = (Some(128), 8);
    let engine = Engine::open(&options).expect("a model");
    let count: u32 = 10_000;
    let mut after_some = 0;
    let mut tokens = 0;
    for number in 0..count / 8 {
        if number == count / 40 {
            after_some = resident_kb();
        }
        let request = |i: u32| {
            let prompt = vec![number % 300, i, number / 300, 7];
            Request { ignore_end: true, ..Request::new(prompt).limit(Limit::Require(2)) }
        };
        let started: Vec<Generation> =
            (0..8).map(|i| engine.generate(request(i)).expect("started")).collect();
        for generation in started {
            tokens += generation.finish().expect("an answer").tokens.len();
        }
    }
    let at_the_end = resident_kb();
    println!("resident after {}: {after_some} kB, after {count}: {at_the_end} kB", count / 5);
    assert_eq!(tokens, 2 * count as usize);
    assert_empty(&engine);
    assert!(at_the_end <= after_some + 2048, "{after_some} kB, then {at_the_end} kB");
}
