//! The same GGUF file through this project's engine, llama.cpp and candle: one process, by turns, ratios.

mod agreement;
mod candle;
mod llama;
mod ours;
mod peer;
mod report;
mod rounds;
mod together;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser;

use agreement::Agreement;
use candle::Candle;
use llama::FlashAttention;
use ours::{Memory, Ours};
use peer::Peer;
use report::Report;
use rounds::Test;

/// Tokens after which the engines' predictions are compared.
const AGREEMENT_TOKENS: usize = 64;

/// Measure coder beside llama.cpp (and candle) on one GGUF file
#[derive(Parser, Debug)]
#[command(about)]
struct Args {
    /// A GGUF file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Prompt lengths to read into an empty cache; none for nothing
    #[arg(short, long, value_name = "TOKENS", value_delimiter = ',', default_value = "512")]
    prompt: Vec<usize>,
    /// Tokens to write after each depth; 0 for none
    #[arg(short = 'n', long, value_name = "TOKENS", default_value_t = 32)]
    generate: usize,
    /// How many tokens the cache holds when writing begins
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', default_value = "128,4096")]
    depth: Vec<usize>,
    /// So many sequences that each write --generate tokens side by side
    #[arg(long, value_name = "N", value_delimiter = ',')]
    parallel: Vec<usize>,
    /// Rounds that count, after one that does not
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Threads of every engine; by default one for each processor
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Instruction set of coder: best, amx, avx512pairs, avx512, avxvnni, avx2, portable
    #[arg(long, value_name = "NAME", default_value = "best")]
    isa: String,
    /// When llama.cpp uses its flash attention
    #[arg(long, value_enum, default_value = "auto")]
    flash_attention: FlashAttention,
    /// Measure candle too
    #[arg(long)]
    candle: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Let llama.cpp write its log to standard error
    #[arg(long)]
    verbose: bool,
}

impl Args {
    fn tests(&self) -> Vec<Test> {
        let prefill = self.prompt.iter().filter(|&&n| n > 0).map(|&n| Test::Prefill(n));
        let depths = self.depth.iter().filter(|_| self.generate > 0);
        let decode = depths.map(|&depth| Test::Decode { depth: depth.max(1), tokens: self.generate });
        prefill.chain(decode).collect()
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let report = run(&args)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

fn run(args: &Args) -> Result<Report> {
    let tests = args.tests();
    ensure!(
        (!tests.is_empty() || !args.parallel.is_empty()) && args.rounds > 0,
        "nothing to measure; give lengths and rounds above 0"
    );
    let threads = match args.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism()?.get(),
    };
    // The pool of candle, and of this project's engine where it uses rayon's.
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let longest = tests.iter().map(|test| test.context()).max().unwrap_or(0);
    let context = longest.max(AGREEMENT_TOKENS + 1);
    let llama_system_info = llama::system_info()?;

    let options = ours::options(&args.model, context, &args.isa, threads)?;
    say("opening the model in every engine");
    let weights = llama::Weights::open(&args.model, args.verbose)?;
    let flash_attention = args.flash_attention;
    let settings = llama::Settings { context, threads, flash_attention };
    let mut llama = weights.context(&settings)?;
    let mut candle = if args.candle { Some(Candle::open(&args.model)?) } else { None };

    let probe = peer::tokens(AGREEMENT_TOKENS, weights.vocab(), 0);
    let ours = ours::logits(&options, &probe)?;
    let mut agreement = BTreeMap::new();
    agreement.insert("llama.cpp", Agreement::of(&ours, &llama.logits(&probe)?)?);
    if let Some(candle) = &mut candle {
        agreement.insert("candle", Agreement::of(&ours, &candle.logits(&probe)?)?);
    }

    let mut ours = Ours::open(&options)?;
    let model = ours.info().clone();
    let mut peers: Vec<&mut dyn Peer> = vec![&mut ours, &mut llama];
    peers.extend(candle.as_mut().map(|candle| candle as &mut dyn Peer));
    let mut idle_cores = BTreeMap::new();
    for peer in &mut peers {
        idle_cores.insert(peer.name(), rounds::idle_cores(*peer)?);
    }
    let mut memory = Memory::new(threads)?;
    let (mut results, mut seeds) = (Vec::new(), 0);
    for test in tests {
        say(&format!("measuring {}", test.name()));
        let bytes = model.weight_bytes_per_token;
        results.extend(rounds::measure(
            test,
            &mut peers,
            args.rounds,
            model.vocab,
            bytes,
            &mut seeds,
            &mut memory,
        )?);
    }
    let mut together = Vec::new();
    if let Some(&most) = args.parallel.iter().max() {
        let engine = together::engine(&options, most, args.generate)?;
        for &sequences in &args.parallel {
            say(&format!("measuring {sequences} sequences"));
            let rounds = args.rounds;
            together.push(together::measure(sequences, args.generate, rounds, &engine, &weights, &settings)?);
        }
    }
    Ok(Report {
        together,
        threads,
        rounds: args.rounds,
        llama_system_info,
        agreement,
        idle_cores,
        limits: memory.limits(&options),
        model,
        results,
    })
}

fn say(what: &str) {
    eprintln!("{what} …");
}
