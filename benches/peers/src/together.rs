//! Several sequences that grow side by side: llama.cpp's batches by hand, and this project's engine as its users see
//! it, each request from a thread of its own.

use std::time::Instant;

use anyhow::Result;
use coder_engine::probe;
use coder_engine::{Engine, Options};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use serde::Serialize;

use crate::llama::{Settings, Weights};
use crate::peer::tokens;

/// Tokens of every prompt.
const PROMPT: usize = 16;

/// Tokens per second of all sequences together, medians over the rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) sequences: usize,
    pub(crate) coder_tok_s: f64,
    pub(crate) llama_tok_s: f64,
    /// The median of the rounds' ratios.
    pub(crate) ratio: f64,
}

/// Measures `sequences` of `generate` tokens each, by turns.
pub(crate) fn measure(
    sequences: usize,
    generate: usize,
    rounds: usize,
    engine: &Engine,
    weights: &Weights,
    settings: &Settings,
) -> Result<Row> {
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (us, llama) =
            (probe::together(engine, sequences, PROMPT, generate)?, of_llama(weights, settings, sequences, generate)?);
        // The first round does not count.
        if round > 0 {
            ours.push(us);
            theirs.push(llama);
            ratios.push(us / llama);
        }
    }
    Ok(Row { sequences, coder_tok_s: median(ours), llama_tok_s: median(theirs), ratio: median(ratios) })
}

fn of_llama(weights: &Weights, settings: &Settings, sequences: usize, generate: usize) -> Result<f64> {
    let mut context = weights.context_of(&Settings { context: sequences * (PROMPT + generate), ..*settings }, sequences)?;
    let mut batch = LlamaBatch::new(sequences * PROMPT, sequences.try_into()?);
    let own = |token: u32| LlamaToken(token as i32);
    for sequence in 0..sequences {
        for (at, token) in tokens(PROMPT, weights.vocab(), sequence as u64).into_iter().enumerate() {
            batch.add(own(token), at.try_into()?, &[sequence.try_into()?], at + 1 == PROMPT)?;
        }
    }
    context.decode(&mut batch)?;
    context.synchronize();
    let text = tokens(generate * sequences, weights.vocab(), 1_000);
    let begin = Instant::now();
    for (step, tokens) in text.chunks(sequences).enumerate() {
        batch.clear();
        for (sequence, &token) in tokens.iter().enumerate() {
            batch.add(own(token), (PROMPT + step).try_into()?, &[sequence.try_into()?], true)?;
        }
        context.decode(&mut batch)?;
        context.synchronize();
    }
    Ok(text.len() as f64 / begin.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Opens the engine with room for `sequences` of `generate` tokens each.
pub(crate) fn engine(options: &Options, sequences: usize, generate: usize) -> Result<Engine> {
    let mut options = Options { context: Some(PROMPT + generate), ..options.clone() };
    options.cache = Some(sequences * (PROMPT + generate + 64));
    options.parallel = sequences;
    Ok(Engine::open(&options)?)
}
