//! `coder bench`: how fast a model reads and writes, beside the bytes it has to move.

use std::cell::RefCell;

use clap::Args;
use coder_engine::probe::{self, Measurement, Plan};

use crate::args::ModelArgs;
use crate::failure::Outcome;
use crate::output::Output;
use crate::progress::{self, Progress};

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
    /// Tokens that are in the cache before the writing
    #[arg(short, long, value_name = "TOKENS", value_delimiter = ',', default_value = "0")]
    depth: Vec<usize>,
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
  coder bench --depth 128,4096 -n 64 --threads 4
  coder bench --json | jq '.[] | {test, prefill_tok_s, decode_tok_s, weight_gb_s}'

weight/tok is what one written token reads of the weights. GB/s is how fast they are read, once per
token when writing and once per chunk when reading a prompt; of memory is its share of the bandwidth that
the same threads reach, measured in the same run, or of the theoretical peak of the card that has all layers.";

pub(crate) fn run(args: BenchArgs) -> Outcome {
    let (options, name) = args.model.options()?;
    let progress = RefCell::new(Progress::bytes(format!("loading {name}")));
    let plan = Plan { prompts: args.prompt, generate: args.generate, depths: args.depth, runs: args.runs };
    let report = probe::bench(
        &options,
        &plan,
        |load| progress.borrow_mut().at(load.done_bytes, load.total_bytes),
        |measured| progress.borrow_mut().message(format!("measured {}", measured.test)),
    )?;
    drop(progress);
    progress::tell(&report.info);
    let mut out = Output::new();
    if args.json {
        return Ok(out.json(&report.measurements)?);
    }
    let (info, load) = (&report.info, report.load_seconds);
    let weights = size(info.weight_bytes);
    out.line(&format!("{} ({}), {weights} of weights, {}", info.name, info.architecture, info.device))?;
    out.line(&format!("loaded in {load:.2} s, {:.2} s/GB", load / (info.weight_bytes as f64 / 1e9)))?;
    if let Some(limits) = report.limits {
        let products = limits.int8_gmac_s.map(|products| format!(", int8 {products:.0} GMAC/s"));
        out.line(&format!(
            "limits: memory {:.1} GB/s{}\n",
            limits.memory_gb_s,
            products.unwrap_or_default()
        ))?;
    }
    out.line(&format!(
        "{:<12} {:>10} {:>14} {:>10} {:>12}",
        "test", "tok/s", "weight/tok", "GB/s", "of memory"
    ))?;
    for measurement in &report.measurements {
        out.line(&row(measurement))?;
    }
    Ok(())
}

fn row(measurement: &Measurement) -> String {
    format!(
        "{:<12} {:>10.2} {:>14} {:>10.3} {:>12}",
        measurement.test,
        measurement.prefill_tok_s.or(measurement.decode_tok_s).unwrap_or_default(),
        size(measurement.weight_bytes_per_token),
        measurement.weight_gb_s,
        measurement.memory_percent.map(|percent| format!("{percent:.0} %")).unwrap_or_default(),
    )
}

fn size(bytes: u64) -> String {
    let (unit, name) = if bytes < 100_000_000 { (1e6, "MB") } else { (1e9, "GB") };
    format!("{:.2} {name}", bytes as f64 / unit)
}
