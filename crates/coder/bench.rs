//! `coder bench`: how fast a model reads and writes, beside the bytes it has to move.

use std::cell::RefCell;

use clap::Args;
use coder_engine::probe::{self, Measurement};

use crate::args::ModelArgs;
use crate::failure::Outcome;
use crate::output::Output;
use crate::progress::Progress;

/// Measure reading (pp) and writing (tg) in tokens per second
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Prompt lengths to read
    #[arg(short, long, value_name = "TOKENS", value_delimiter = ',', default_value = "128,512")]
    prompt: Vec<usize>,
    /// Tokens to write; 0 for none
    #[arg(short = 'n', long, value_name = "TOKENS", default_value_t = 32)]
    generate: usize,
    /// Runs of each test, after one that does not count; the median is shown
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    /// Print a JSON list, one object per test
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  coder bench
  coder bench --model qwen2.5-coder-7b.gguf -p 128,512 -n 32
  coder bench --json | jq '.[] | {test, prefill_tok_s, decode_tok_s, weight_gb_s}'

weight/tok is what one written token reads of the weights. GB/s is how fast they are read, once per
token when writing and once per chunk when reading a prompt: compare it with the memory's bandwidth.";

pub(crate) fn run(args: BenchArgs) -> Outcome {
    let (options, name) = args.model.options()?;
    let progress = RefCell::new(Progress::bytes(format!("loading {name}")));
    let (info, measurements) = probe::bench(
        &options,
        &args.prompt,
        args.generate,
        args.runs,
        |load| progress.borrow_mut().at(load.done_bytes, load.total_bytes),
        |measured| progress.borrow_mut().message(format!("measured {}", measured.test)),
    )?;
    drop(progress);
    let mut out = Output::new();
    if args.json {
        return Ok(out.json(&measurements)?);
    }
    let gigabytes = info.weight_bytes as f64 / 1e9;
    out.line(&format!("{} ({}), {gigabytes:.3} GB of weights, {}\n", info.name, info.architecture, info.device))?;
    out.line(&format!("{:<10} {:>10} {:>14} {:>10}", "test", "tok/s", "weight/tok", "GB/s"))?;
    for measurement in &measurements {
        out.line(&row(measurement))?;
    }
    Ok(())
}

fn row(measurement: &Measurement) -> String {
    format!(
        "{:<10} {:>10.2} {:>11.4} GB {:>10.3}",
        measurement.test,
        measurement.prefill_tok_s.or(measurement.decode_tok_s).unwrap_or_default(),
        measurement.weight_bytes_per_token as f64 / 1e9,
        measurement.weight_gb_s,
    )
}
