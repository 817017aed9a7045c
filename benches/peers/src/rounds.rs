//! The measurement: every engine once per round, one after the other, so that whatever else the machine
//! does hits them all alike, and a ratio within a round means something even when its two figures do not.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::ours::Memory;
use crate::peer::{Peer, tokens};

/// Threads that spin before they sleep (OpenMP's do) have stopped by then.
const SETTLE: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_millis(500);

/// One thing to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Test {
    /// Reading this many tokens into an empty cache.
    Prefill(usize),
    /// Writing `tokens` tokens after `depth` others.
    Decode { depth: usize, tokens: usize },
}

/// A median and the range it comes from.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// One engine in one test.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// `pp512` or `tg32@128`.
    pub(crate) test: String,
    pub(crate) engine: &'static str,
    pub(crate) tok_s: Figure,
    /// Processors that the process had, on the median: fewer than threads when others want them too.
    pub(crate) cores: f64,
    /// Weight bytes per second, if it writes.
    pub(crate) weight_bytes_s: Option<f64>,
    /// Their part of what memory delivered to a plain read at the beginning of the same round.
    pub(crate) memory_share: Option<Figure>,
    /// The first engine's speed over this one's, round by round.
    pub(crate) first_over_this: Option<Figure>,
}

impl Test {
    pub(crate) fn name(self) -> String {
        match self {
            Test::Prefill(n) => format!("pp{n}"),
            Test::Decode { depth, tokens } => format!("tg{tokens}@{depth}"),
        }
    }

    fn tokens(self) -> usize {
        match self {
            Test::Prefill(n) => n,
            Test::Decode { tokens, .. } => tokens,
        }
    }

    /// Tokens that the context must have room for: one more than are computed, for an engine that samples.
    pub(crate) fn context(self) -> usize {
        match self {
            Test::Prefill(n) => n + 1,
            Test::Decode { depth, tokens } => depth + tokens + 1,
        }
    }

    /// Runs it once: seconds. Prefill never reads the same prompt twice, writing keeps its context.
    fn run(self, peer: &mut dyn Peer, vocab: usize, seed: u64) -> Result<f64> {
        match self {
            Test::Prefill(n) => peer.prefill(&tokens(n, vocab, seed)),
            Test::Decode { depth, tokens: n } => {
                peer.decode(&tokens(depth, vocab, 0), &tokens(n, vocab, seed))
            }
        }
        .with_context(|| format!("{} in {}", peer.name(), self.name()))
    }
}

/// Runs `test` in `rounds` rounds after one that does not count; `seeds` goes on counting from test to test.
/// `weight_bytes` is what one token reads of the weights.
pub(crate) fn measure(
    test: Test,
    peers: &mut [&mut dyn Peer],
    rounds: usize,
    vocab: usize,
    weight_bytes: u64,
    seeds: &mut u64,
    memory: &mut Memory,
) -> Result<Vec<Row>> {
    let mut bandwidths = Vec::new();
    let mut speeds = vec![Vec::new(); peers.len()];
    let mut cores = vec![Vec::new(); peers.len()];
    for round in 0..=rounds {
        *seeds += 1;
        sleep(SETTLE);
        let bandwidth = memory.now();
        if round > 0 {
            bandwidths.push(bandwidth);
        }
        for (i, peer) in peers.iter_mut().enumerate() {
            sleep(SETTLE);
            let (wall, cpu) = (Instant::now(), cpu_s());
            let seconds = test.run(*peer, vocab, *seeds)?;
            if round > 0 {
                cores[i].push((cpu_s() - cpu) / wall.elapsed().as_secs_f64());
                speeds[i].push(test.tokens() as f64 / seconds);
            }
        }
    }
    let row = |(i, peer): (usize, &&mut dyn Peer)| {
        let tok_s = Figure::of(&speeds[i]);
        let ratios: Vec<f64> = speeds[0].iter().zip(&speeds[i]).map(|(first, this)| first / this).collect();
        let share = |(tok_s, memory): (&f64, &f64)| tok_s * weight_bytes as f64 / memory;
        let shares: Vec<f64> = speeds[i].iter().zip(&bandwidths).map(share).collect();
        let writes = matches!(test, Test::Decode { .. });
        Row {
            test: test.name(),
            engine: peer.name(),
            tok_s,
            cores: Figure::of(&cores[i]).median,
            weight_bytes_s: writes.then_some(tok_s.median * weight_bytes as f64),
            memory_share: writes.then(|| Figure::of(&shares)),
            first_over_this: (i > 0).then(|| Figure::of(&ratios)),
        }
    };
    Ok(peers.iter().enumerate().map(row).collect())
}

/// Processors that `peer` keeps busy while nobody asks it for anything, after a step.
pub(crate) fn idle_cores(peer: &mut dyn Peer) -> Result<f64> {
    peer.decode(&[0], &[0, 0])?;
    sleep(SETTLE);
    let (wall, cpu) = (Instant::now(), cpu_s());
    sleep(IDLE);
    Ok((cpu_s() - cpu) / wall.elapsed().as_secs_f64())
}

impl Figure {
    /// Of at least one value; the upper one of two in the middle.
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self { median: sorted[sorted.len() / 2], min: sorted[0], max: sorted[sorted.len() - 1] }
    }
}

/// Processor time of all threads of this process, in seconds.
fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
