//! Measuring a model without a conversation: its logits, its speed.

use crate::load::{self, LoadProgress, LoadedWeights, ModelInfo, Options};
use crate::sequence::Sequence;
use crate::{Error, Result};
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
    options.chunk = chunk;
    let mut bench = Direct::open(&options, chunk, |_| ())?;
    bench.check(tokens)?;
    let vocab = bench.info.vocab;
    let mut values = Vec::with_capacity(tokens.len() * vocab);
    let mut sequence = bench.sequence(tokens.to_vec());
    while sequence.pending() > 0 {
        let rows = chunk.min(sequence.pending());
        values.extend_from_slice(bench.step(&mut sequence, rows, true)?);
    }
    Ok(Logits { rows: tokens.len(), vocab, values })
}

/// One speed test.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Measurement {
    /// `pp512` reads a prompt of 512 tokens, `tg32` writes 32 tokens.
    pub test: String,
    /// Tokens per run.
    pub tokens: usize,
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
}

/// Measures reading prompts of the given lengths and writing `generate` tokens, `runs` times each.
/// `progress` is told of loading, `done` of each result.
pub fn bench(
    options: &Options,
    prompts: &[usize],
    generate: usize,
    runs: usize,
    progress: impl FnMut(LoadProgress),
    mut done: impl FnMut(&Measurement),
) -> Result<(ModelInfo, Vec<Measurement>)> {
    if prompts.contains(&0) || runs == 0 || (prompts.is_empty() && generate == 0) {
        let problem =
            "prompt lengths and runs must be at least 1, and there must be something to measure".into();
        return Err(Error::Request { field: "bench", problem });
    }
    let mut options = options.clone();
    let longest = prompts.iter().copied().max().unwrap_or(0).max(generate + 1);
    options.context = Some(options.context.unwrap_or(0).max(longest));
    let mut direct = Direct::open(&options, 1, progress)?;
    let mut results = Vec::new();
    for &tokens in prompts {
        let seconds = median(runs, || direct.prefill(tokens, options.chunk))?;
        let passes = tokens.div_ceil(options.chunk);
        results.push(direct.measurement(format!("pp{tokens}"), tokens, passes, seconds, runs, true));
        done(&results[results.len() - 1]);
    }
    if generate > 0 {
        let seconds = median(runs, || direct.decode(generate))?;
        results.push(direct.measurement(format!("tg{generate}"), generate, generate, seconds, runs, false));
        done(&results[results.len() - 1]);
    }
    Ok((direct.info, results))
}

/// The median of `runs` runs, after one that does not count.
fn median(runs: usize, mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
    run()?;
    let mut seconds = (0..runs).map(|_| run()).collect::<Result<Vec<_>>>()?;
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

/// A runner driven by hand: one sequence that owns every block.
struct Direct {
    runner: Box<dyn crate::model::Runner>,
    info: ModelInfo,
    blocks: usize,
}

impl Direct {
    fn open(options: &Options, logits: usize, progress: impl FnMut(LoadProgress)) -> Result<Self> {
        let weights = load::open_weights(&options.source)?;
        let LoadedWeights { runner, info, blocks } = load::load_weights(options, &weights, logits, progress)?;
        Ok(Self { runner, info, blocks })
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

    fn prefill(&mut self, tokens: usize, chunk: usize) -> Result<f64> {
        let mut sequence = self.sequence(self.tokens(tokens));
        let start = Instant::now();
        while sequence.pending() > 0 {
            let rows = chunk.min(sequence.pending());
            self.step(&mut sequence, rows, false)?;
        }
        Ok(start.elapsed().as_secs_f64())
    }

    fn decode(&mut self, tokens: usize) -> Result<f64> {
        let text = self.tokens(tokens + 1);
        let mut sequence = self.sequence(text[..1].to_vec());
        self.step(&mut sequence, 1, false)?;
        let start = Instant::now();
        for &token in &text[1..] {
            sequence.push(token);
            self.step(&mut sequence, 1, false)?;
        }
        Ok(start.elapsed().as_secs_f64())
    }

    fn measurement(
        &self,
        test: String,
        tokens: usize,
        passes: usize,
        seconds: f64,
        runs: usize,
        prefill: bool,
    ) -> Measurement {
        let rate = Some(tokens as f64 / seconds);
        let weight_bytes_per_token = self.info.weight_bytes_per_token;
        Measurement {
            test,
            tokens,
            seconds,
            runs,
            prefill_tok_s: rate.filter(|_| prefill),
            decode_tok_s: rate.filter(|_| !prefill),
            weight_bytes_per_token,
            weight_gb_s: weight_bytes_per_token as f64 * passes as f64 / seconds / 1e9,
        }
    }
}
