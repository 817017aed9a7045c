//! `coder bench`: how fast a model reads and writes, beside the bytes it has to move.

use std::cell::RefCell;

use clap::Args;
use coder_engine::probe::{self, Measurement, Percentiles, Plan, RequestMeasurement, RequestPlan};
use coder_engine::{LoadProgress, ModelInfo};

use serde::Serialize;

use crate::args::{ModelArgs, at_least_one};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::progress::{self, Progress};

/// Measure reading (pp) and writing (tg) in tokens per second, and requests side by side
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// Prompt lengths to read [default: 128,512]; with --parallel, the length of each prompt [default: 128]
    #[arg(short, long, value_name = "TOKENS", value_delimiter = ',')]
    prompt: Vec<usize>,
    /// Tokens to write; 0 for none
    #[arg(short = 'n', long, value_name = "TOKENS", default_value_t = 32)]
    generate: usize,
    /// Tokens that are in the cache before the writing
    #[arg(short, long, value_name = "TOKENS", value_delimiter = ',', default_value = "0")]
    depth: Vec<usize>,
    /// Runs of each test, after one that does not count; the median is shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    runs: usize,
    /// So many requests at the same time, each with its own prompt; once, not the median of several runs
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = at_least_one, conflicts_with_all = ["depth", "runs"])]
    parallel: Vec<usize>,
    /// Two requests, one after the other, that begin with the same N tokens
    #[arg(long, value_name = "N", conflicts_with_all = ["depth", "runs"])]
    shared_prefix: Option<usize>,
    /// Rewrite a file of 200 lines of which 5 change, without and with guessing tokens from the prompt. A script chooses
    /// the tokens, the model computes as always
    #[arg(long, conflicts_with_all = ["depth", "runs"])]
    edit: bool,
    /// Print a JSON list, one object per test
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

impl BenchArgs {
    /// Whether requests are measured, and not the model alone.
    fn with_requests(&self) -> bool {
        !self.parallel.is_empty() || self.shared_prefix.is_some() || self.edit
    }

    /// The prompt lengths, or `default`.
    fn prompts(&self, default: &[usize]) -> Vec<usize> {
        if self.prompt.is_empty() { default.to_vec() } else { self.prompt.clone() }
    }
}

const EXAMPLES: &str = "Examples:
  coder bench
  coder bench --model qwen2.5-coder-7b.gguf -p 128,512 -n 32
  coder bench --depth 128,4096 -n 64 --threads 4
  coder bench --parallel 1,4,16 --shared-prefix 2000 --edit
  coder bench --json | jq '.[] | {test, prefill_tok_s, decode_tok_s}'

weight/tok is what one written token reads of the weights. GB/s is how fast they are read, once per
token when writing and once per chunk when reading a prompt; of memory is its share of what the same
threads reach in a plain read just before, or of the theoretical peak of the card that has all layers. Tests take turns.

With requests, tok/s is what all answers together grow by per second, once all of them grow (those of --parallel are
made twice, and their prompts are cached then); first and between are the waits for the first token and between two tokens in milliseconds (50th, 95th, 99th
percentile); tok/pass are answer tokens per forward pass, and guessed the part of the guessed tokens that were right.
times compares with one request alone (tok/s), with the first request (first token) or with no guesses (tok/s).";

pub(crate) fn run(args: BenchArgs) -> Outcome {
    if args.with_requests() {
        return requests(args);
    }
    let (options, name) = args.model.options()?;
    let bar = Bar::new(&name);
    let prompts = args.prompts(&[128, 512]);
    let plan = Plan { prompts, generate: args.generate, depths: args.depth, runs: args.runs };
    let report = probe::bench(&options, &plan, |load| bar.load(load), |m| bar.measured(&m.test))?;
    let Some(mut out) = bar.begin(&report.info, &report.measurements, args.json)? else { return Ok(()) };
    let load = report.load_seconds;
    out.line(&format!("loaded in {load:.2} s, {:.2} s/GB", load / (report.info.weight_bytes as f64 / 1e9)))?;
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

/// Measures what users of the engine see.
fn requests(args: BenchArgs) -> Outcome {
    let (options, name) = args.model.options()?;
    let bar = Bar::new(&name);
    let prompts = args.prompts(&[128]);
    if prompts.len() > 1 {
        return Err(Failure::new("with requests there is one prompt length; give one to --prompt"));
    }
    let plan = RequestPlan {
        parallel: args.parallel,
        prompt: prompts[0],
        generate: args.generate,
        shared_prefix: args.shared_prefix,
        edit: args.edit,
    };
    let report = probe::requests(&options, &plan, |load| bar.load(load), |m| bar.measured(&m.test))?;
    let Some(mut out) = bar.begin(&report.info, &report.measurements, args.json)? else { return Ok(()) };
    out.line(&format!(
        "\n{:<20} {:>8} {:>8} {:>20} {:>20} {:>9} {:>8} {:>7}",
        "test", "cached", "tok/s", "first ms", "between ms", "tok/pass", "guessed", "times"
    ))?;
    for measurement in &report.measurements {
        out.line(&request_row(measurement))?;
    }
    Ok(())
}

/// What a person sees while the model loads and is measured.
struct Bar(RefCell<Progress>);

impl Bar {
    fn new(name: &str) -> Self {
        Self(RefCell::new(Progress::bytes(format!("loading {name}"))))
    }

    fn load(&self, load: LoadProgress) {
        self.0.borrow_mut().at(load.done_bytes, load.total_bytes);
    }

    fn measured(&self, test: &str) {
        self.0.borrow_mut().message(format!("measured {test}"));
    }

    /// Ends it and begins the results: all of them as JSON, or the table's headline, whose rows are to follow.
    fn begin<T: Serialize>(self, info: &ModelInfo, measured: &[T], json: bool) -> Outcome<Option<Output>> {
        drop(self);
        progress::tell(info);
        let mut out = Output::new();
        if json {
            out.json(&measured)?;
            return Ok(None);
        }
        let weights = size(info.weight_bytes);
        out.line(&format!("{} ({}), {weights} of weights, {}", info.name, info.architecture, info.device))?;
        Ok(Some(out))
    }
}

fn request_row(m: &RequestMeasurement) -> String {
    let three = |p: &Percentiles| format!("{:.0} {:.0} {:.0}", p.p50, p.p95, p.p99);
    let guessed = 100.0 * m.accepted_tokens as f64 / m.drafted_tokens as f64;
    format!(
        "{:<20} {:>8} {:>8} {:>20} {:>20} {:>9.2} {:>8} {:>7}",
        m.test,
        m.cached_tokens,
        m.decode_tok_s.map(|rate| format!("{rate:.1}")).unwrap_or_default(),
        three(&m.first_token_ms),
        m.between_tokens_ms.as_ref().map(three).unwrap_or_default(),
        m.tokens_per_pass,
        if m.drafted_tokens > 0 { format!("{guessed:.0} %") } else { String::new() },
        m.speedup.map(|times| format!("{times:.2}")).unwrap_or_default(),
    )
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
