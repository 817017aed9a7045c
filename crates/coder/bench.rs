//! `coder bench`: how fast a model reads and writes, beside the bytes it has to move.

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
    /// Print a JSON list, one object per test
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  coder bench
  coder bench --model qwen2.5-coder-7b.gguf -p 128,512 -n 32
  coder bench --json | jq '.[] | {test, prefill_tok_s, decode_tok_s, weight_gb_s}'

weight/tok is what one written token reads of the weights; GB/s is that times tokens per second,
to be compared with the memory's bandwidth.";

pub(crate) fn run(args: BenchArgs) -> Outcome {
    let (options, name) = args.model.options()?;
    let mut progress = Progress::count(format!("measuring {name}"));
    let measurements = probe::bench(&options, &args.prompt, args.generate, |at| {
        progress.at(at.done as u64, at.total as u64);
    })?;
    drop(progress);
    let mut out = Output::new();
    if args.json {
        out.json(&measurements)?;
    } else {
        out.line(&format!("{:<10} {:>10} {:>12} {:>10}", "test", "tok/s", "weight/tok", "GB/s"))?;
        for measurement in &measurements {
            out.line(&row(measurement))?;
        }
    }
    Ok(())
}

fn row(measurement: &Measurement) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{value:.2}"));
    format!(
        "{:<10} {:>10} {:>9.3} GB {:>10}",
        measurement.test,
        number(measurement.prefill_tok_s.or(measurement.decode_tok_s)),
        measurement.weight_bytes_per_token as f64 / 1e9,
        number(measurement.weight_gb_s),
    )
}
