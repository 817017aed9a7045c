//! Measuring a model without a conversation: its logits, its speed.

mod requests;

pub use requests::{Percentiles, RequestMeasurement, RequestPlan, RequestReport, requests, together};

use crate::device::Device;
use crate::load::{self, LoadProgress, LoadedWeights, ModelInfo, Options};
use crate::sequence::Sequence;
use crate::{Error, Result};
use coder_kernels::cpu::limits;
pub use coder_kernels::cpu::limits::ReadBandwidth;
use coder_kernels::{BLOCK, Batch, Span};
use std::time::Instant;

/// The logits of every position of a token sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    /// Positions.
    pub rows: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// `[rows, vocab]`, row major.
    pub values: Vec<f32>,
    /// What was opened.
    pub info: ModelInfo,
}

/// Runs `tokens` through the model, `chunk` rows at a time (all at once by default).
///
/// # Errors
/// Those of opening; [`Error::Request`] for tokens outside the vocabulary.
pub fn logits(options: &Options, tokens: &[u32], chunk: Option<usize>) -> Result<Logits> {
    let chunk = chunk.unwrap_or(tokens.len());
    if tokens.is_empty() || chunk == 0 {
        return Err(Error::Request {
            field: "tokens",
            problem: "give at least one, in chunks of at least one".into(),
        });
    }
    let mut options = options.clone();
    options.context = Some(options.context.unwrap_or(0).max(tokens.len()));
    options.chunk = Some(chunk);
    let mut bench = Direct::open(&options, chunk, |_| ())?;
    bench.check(tokens)?;
    let vocab = bench.info.vocab;
    let mut values = Vec::with_capacity(tokens.len() * vocab);
    let mut sequence = bench.sequence(tokens.to_vec());
    while sequence.pending() > 0 {
        let rows = chunk.min(sequence.pending());
        values.extend_from_slice(bench.step(&mut sequence, rows, true)?);
    }
    Ok(Logits { rows: tokens.len(), vocab, values, info: bench.info })
}

/// Runs one step of a row for each of `tokens`, every one of a sequence of its own with `behind` positions before it. Nobody
/// computed those: their keys and values are zero, which changes nothing of what a step moves.
///
/// # Errors
/// Those of opening; [`Error::Request`] for tokens outside the vocabulary.
pub fn step(options: &Options, tokens: &[u32], behind: usize) -> Result<()> {
    let mut options = options.clone();
    options.context = Some(behind + 1);
    options.cache = Some((behind + 1).next_multiple_of(BLOCK) * tokens.len());
    let chunk = tokens.len().max(1);
    options.chunk = Some(chunk);
    let mut direct = Direct::open(&options, chunk, |_| ())?;
    direct.check(tokens)?;
    let blocks = (behind + 1).div_ceil(BLOCK) as u32;
    let mut batch = Batch::default();
    for (row, &token) in (0..).zip(tokens) {
        let span = Span { first: row, rows: 1, blocks: (row * blocks..(row + 1) * blocks).collect() };
        let slot = span.blocks[behind / BLOCK] as usize * BLOCK + behind % BLOCK;
        batch.tokens.push(token);
        batch.positions.push(behind as u32);
        batch.slots.push(slot as u32);
        batch.logits.push(row);
        batch.spans.push(span);
    }
    direct.runner.step(&batch)?;
    Ok(())
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Lengths of prompts to read.
    pub prompts: Vec<usize>,
    /// Tokens to write; 0 for none.
    pub generate: usize,
    /// Tokens that are in the cache before the writing, one test for each.
    pub depths: Vec<usize>,
    /// Runs of each test, after one that does not count.
    pub runs: usize,
}

impl Plan {
    /// Tokens that there must be room for.
    fn context(&self) -> usize {
        let depth = self.depths.iter().copied().max().unwrap_or(0);
        self.prompts.iter().copied().max().unwrap_or(0).max(depth.max(1).saturating_add(self.generate))
    }

    fn check(&self) -> Result<()> {
        let nothing = self.prompts.is_empty() && (self.generate == 0 || self.depths.is_empty());
        if self.prompts.contains(&0) || self.runs == 0 || nothing {
            let problem =
                "prompt lengths and runs must be at least 1, and there must be something to measure".into();
            return Err(Error::Request { field: "bench", problem });
        }
        Ok(())
    }
}

/// What a device can do at most.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Limits {
    /// Bytes read from memory per second, 10⁹: on the CPU measured before each run, the median; on a card the bus's own
    /// peak.
    pub memory_gb_s: f64,
    /// Products of eight-bit numbers per second, 10⁹; `None` for a card, which does not tell.
    pub int8_gmac_s: Option<f64>,
}

/// Products of eight-bit numbers per second, 10⁹, with the threads and the instruction set of the options.
pub fn int8_gmac_s(options: &Options) -> f64 {
    let (isa, threads) = options.cpu();
    limits::int8_products(isa, threads) / 1e9
}

/// The memory that the weights are in, asked how fast it is before each run: a shared machine's changes all the time.
enum Memory {
    Host(ReadBandwidth, Vec<f64>),
    /// The bus's peak, in bytes per second.
    Card(f64),
    /// Of two devices, or too little of it to tell.
    Unknown,
}

impl Memory {
    fn of(direct: &Direct, options: &Options) -> Self {
        match (&direct.info.card, direct.memory_bytes_per_s) {
            (None, _) if matches!(options.device, Device::Cpu | Device::Auto) => {
                let bandwidth = ReadBandwidth::new(options.cpu().1);
                bandwidth.map_or(Self::Unknown, |bandwidth| Self::Host(bandwidth, Vec::new()))
            }
            (Some(_), Some(peak)) => Self::Card(peak),
            _ => Self::Unknown,
        }
    }

    /// Bytes per second at this moment.
    fn now(&mut self) -> Option<f64> {
        match self {
            Self::Host(bandwidth, seen) => {
                seen.push(bandwidth.now());
                seen.last().copied()
            }
            Self::Card(peak) => Some(*peak),
            Self::Unknown => None,
        }
    }

    fn limits(self, options: &Options) -> Option<Limits> {
        let (memory, int8_gmac_s) = match self {
            Self::Host(_, seen) => (median(seen), Some(int8_gmac_s(options))),
            Self::Card(peak) => (peak, None),
            Self::Unknown => return None,
        };
        Some(Limits { memory_gb_s: memory / 1e9, int8_gmac_s })
    }
}

/// One speed test.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Measurement {
    /// `pp512` reads a prompt of 512 tokens, `tg32` writes 32 tokens, `tg32@4096` after 4,096 others.
    pub test: String,
    /// Tokens per run.
    pub tokens: usize,
    /// Tokens in the cache before.
    pub depth: usize,
    /// Seconds per run, the median of `runs`.
    pub seconds: f64,
    /// Runs measured, after one that was not.
    pub runs: usize,
    /// Prompt tokens per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill_tok_s: Option<f64>,
    /// Written tokens per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_tok_s: Option<f64>,
    /// Weight bytes that one decoded token reads.
    pub weight_bytes_per_token: u64,
    /// Weight bytes read per second, 10⁹: once per token when writing, once per chunk when reading a prompt.
    pub weight_gb_s: f64,
    /// `weight_gb_s` of what memory delivered to a plain read just before, in percent, the median of the runs. The cache
    /// is read besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<f64>,
}

/// All that was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// The model.
    pub info: ModelInfo,
    /// The machine's limits, where they are known.
    pub limits: Option<Limits>,
    /// Seconds from opening the file to weights that are ready.
    pub load_seconds: f64,
    /// The tests, prompts first.
    pub measurements: Vec<Measurement>,
}

/// Measures all of `plan`. `progress` is told of loading, `done` of each result.
pub fn bench(
    options: &Options,
    plan: &Plan,
    progress: impl FnMut(LoadProgress),
    mut done: impl FnMut(&Measurement),
) -> Result<Report> {
    plan.check()?;
    let start = Instant::now();
    let mut bench = Bench::open(options, plan.context(), progress)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let mut memory = Memory::of(&bench.direct, options);
    let read = plan.prompts.iter().map(|&tokens| Test { tokens, depth: None }).collect::<Vec<_>>();
    let depths = plan.depths.iter().filter(|_| plan.generate > 0);
    let write = depths.map(|&depth| Test { tokens: plan.generate, depth: Some(depth) }).collect::<Vec<_>>();
    let mut results = Vec::new();
    for tests in [read, write] {
        for measurement in bench.by_turns(&tests, plan.runs, &mut memory)? {
            done(&measurement);
            results.push(measurement);
        }
    }
    let limits = memory.limits(options);
    Ok(Report { info: bench.direct.info, limits, load_seconds, measurements: results })
}

/// A prompt of `tokens` tokens to read, or as many to write after `depth` others.
#[derive(Clone, Copy)]
struct Test {
    tokens: usize,
    depth: Option<usize>,
}

/// A model that is opened to be measured, with room for one sequence.
pub struct Bench {
    direct: Direct,
    /// What lies in the cache from a call of [`decode`](Self::decode), so that it need not be read again.
    deep: Option<Sequence>,
}

impl Bench {
    /// Opens the model with room for `context` tokens, or for as many as the options say, whichever is more.
    pub fn open(options: &Options, context: usize, progress: impl FnMut(LoadProgress)) -> Result<Self> {
        let mut options = options.clone();
        options.context = Some(options.context.unwrap_or(0).max(context));
        Ok(Self { direct: Direct::open(&options, 1, progress)?, deep: None })
    }

    /// What was opened.
    pub fn info(&self) -> &ModelInfo {
        &self.direct.info
    }

    /// Fixed pseudo-random tokens.
    pub fn tokens(&self, n: usize) -> Vec<u32> {
        self.direct.tokens(n)
    }

    /// Seconds to read `prompt`.
    pub fn prefill(&mut self, prompt: &[u32]) -> Result<f64> {
        self.direct.check(prompt)?;
        self.deep = None;
        let mut sequence = self.direct.sequence(prompt.to_vec());
        let start = Instant::now();
        self.direct.read(&mut sequence)?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Seconds to put `text` behind `context`, token by token. The context, at least one token, is read before and not
    /// counted; nor is it read again if it is what the last one read began with, and `text` what came then, if anything.
    pub fn decode(&mut self, context: &[u32], text: &[u32]) -> Result<f64> {
        self.direct.check(context)?;
        self.direct.check(text)?;
        let mut sequence = match self.deep.take() {
            Some(deep) if again(deep.tokens(), context, text) => deep,
            _ => {
                let mut sequence = self.direct.sequence(context.to_vec());
                self.direct.read(&mut sequence)?;
                sequence
            }
        };
        self.deep = Some(sequence.clone());
        sequence.rewrite(context.len(), &[]);
        let start = Instant::now();
        for &token in text {
            sequence.push(token);
            self.direct.step(&mut sequence, 1, false)?;
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// Runs every test of `tests` once, then again, `runs` times after once that does not count: what else the machine does
    /// hits them alike.
    fn by_turns(&mut self, tests: &[Test], runs: usize, memory: &mut Memory) -> Result<Vec<Measurement>> {
        let mut seconds = vec![Vec::with_capacity(runs); tests.len()];
        for run in 0..=runs {
            for (test, seconds) in tests.iter().zip(&mut seconds) {
                let bandwidth = memory.now();
                let took = self.run(*test)?;
                if run > 0 {
                    seconds.push((took, bandwidth));
                }
            }
        }
        Ok(tests.iter().zip(&seconds).map(|(test, seconds)| self.measurement(*test, seconds)).collect())
    }

    /// Seconds.
    fn run(&mut self, test: Test) -> Result<f64> {
        let depth = test.depth.map_or(0, |depth| depth.max(1));
        let tokens = self.tokens(depth + test.tokens);
        match test.depth {
            None => self.prefill(&tokens),
            Some(_) => self.decode(&tokens[..depth], &tokens[depth..]),
        }
    }

    fn measurement(&self, Test { tokens, depth }: Test, runs: &[(f64, Option<f64>)]) -> Measurement {
        let seconds = median(runs.iter().map(|run| run.0).collect());
        let rate = tokens as f64 / seconds;
        let weight_bytes_per_token = self.direct.info.weight_bytes_per_token;
        let passes = if depth.is_some() { tokens } else { tokens.div_ceil(self.direct.info.chunk) };
        let bytes_s = |seconds: f64| weight_bytes_per_token as f64 * passes as f64 / seconds;
        let share = |&(seconds, memory): &(f64, Option<f64>)| Some(100.0 * bytes_s(seconds) / memory?);
        Measurement {
            test: match depth {
                None => format!("pp{tokens}"),
                Some(0) => format!("tg{tokens}"),
                Some(depth) => format!("tg{tokens}@{depth}"),
            },
            tokens,
            depth: depth.unwrap_or(0),
            seconds,
            runs: runs.len(),
            prefill_tok_s: depth.is_none().then_some(rate),
            decode_tok_s: depth.is_some().then_some(rate),
            weight_bytes_per_token,
            weight_gb_s: bytes_s(seconds) / 1e9,
            memory_percent: runs.iter().map(share).collect::<Option<Vec<_>>>().map(median),
        }
    }
}

/// Whether the cache of a sequence of `tokens` has `context` in it and will have the same again if `text` follows.
fn again(tokens: &[u32], context: &[u32], text: &[u32]) -> bool {
    let rest = tokens.strip_prefix(context);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(text))
}

/// Of at least one value; the upper one of two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A runner driven by hand: one sequence that owns every block.
struct Direct {
    runner: Box<dyn crate::model::Runner>,
    info: ModelInfo,
    blocks: usize,
    memory_bytes_per_s: Option<f64>,
}

impl Direct {
    fn open(options: &Options, logits: usize, progress: impl FnMut(LoadProgress)) -> Result<Self> {
        let weights = options.source.weights()?;
        let LoadedWeights { runner, info, blocks, memory_bytes_per_s, .. } =
            load::load_weights(options, &weights, logits, progress)?;
        Ok(Self { runner, info, blocks, memory_bytes_per_s })
    }

    fn check(&self, tokens: &[u32]) -> Result<()> {
        match tokens.iter().find(|&&t| t as usize >= self.info.vocab) {
            None => Ok(()),
            Some(t) => {
                let problem = format!("`{t}` is not in the vocabulary of `{}`", self.info.vocab);
                Err(Error::Request { field: "tokens", problem })
            }
        }
    }

    fn sequence(&self, tokens: Vec<u32>) -> Sequence {
        let mut sequence = Sequence::new(tokens);
        (0..self.blocks as u32).for_each(|b| sequence.push_block(b));
        sequence
    }

    fn step(&mut self, sequence: &mut Sequence, rows: usize, all_logits: bool) -> Result<&[f32]> {
        let mut batch = sequence.batch(rows);
        if all_logits {
            batch.logits = (0..rows as u32).collect();
        }
        let end = sequence.computed() + rows;
        let logits = self.runner.step(&batch)?;
        sequence.mark_computed(end);
        Ok(logits)
    }

    /// Fixed pseudo-random tokens: a linear congruential generator (Knuth's MMIX constants).
    fn tokens(&self, n: usize) -> Vec<u32> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % self.info.vocab as u64) as u32
        };
        (0..n).map(|_| next()).collect()
    }

    /// Runs what is pending, a chunk at a time.
    fn read(&mut self, sequence: &mut Sequence) -> Result<()> {
        while sequence.pending() > 0 {
            let rows = self.info.chunk.min(sequence.pending());
            self.step(sequence, rows, false)?;
        }
        Ok(())
    }
}
