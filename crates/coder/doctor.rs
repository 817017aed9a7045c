//! `coder doctor`: what this machine is, and which models it can run.

use clap::Args;
use coder_engine::HostMemory;
use coder_escalate::{Config, Reach};
use coder_hub::{Catalog, Entry, Use};
use coder_tasks::verify::Isolation;
use serde_json::json;

use crate::bundled;
use crate::config;
use crate::failure::Outcome;
use crate::here::{Fits, Here};
use crate::machine::{Cuda, Processor};
use crate::models::planned;
use crate::named;
use crate::output::Output;
use crate::published::{self, Fit, QUANTIZATIONS};
use crate::sandbox;

/// Show what this machine can run
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  coder doctor
  coder doctor --json | jq -r '.models[] | select(.context > 0) | .model'";

pub(crate) fn run(args: DoctorArgs) -> Outcome {
    let processor = Processor::detect();
    let memory = HostMemory::detect();
    // Where the system does not tell, nothing can be promised.
    let fits = memory.map_or(Ok(Vec::new()), |memory| published::all(memory.available_bytes))?;
    let cuda = Cuda::detect();
    let devices: &[_] = if cuda.works() { &["cpu", "cuda", "reference"] } else { &["cpu", "reference"] };
    let sandbox = sandbox::detect();
    let installed: Vec<String> = named::cached().into_iter().map(|(name, _)| name).collect();
    let advice = advice(&Here::look()).map(|entry| entry.name.as_str());
    let mut out = Output::new();
    if args.json {
        let models: Vec<_> = fits.iter().collect();
        return Ok(out.json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "system": { "os": std::env::consts::OS, "architecture": std::env::consts::ARCH },
            "cpu": processor,
            "memory": memory,
            "devices": devices,
            "cuda": cuda,
            "sandbox": {
                "works": matches!(sandbox.isolation, Isolation::On { .. }),
                "means": sandbox::describe(&sandbox),
            },
            "bundled": { "model": bundled::NAME, "bytes": bundled::bytes().len() },
            "models": models,
            "installed": installed,
            "advice": advice,
        }))?);
    }
    out.line(&format!(
        "coder {} on {} {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    ))?;
    let name = processor.name.as_deref().unwrap_or("unknown");
    out.line(&format!("cpu      {name}, {} threads", processor.threads))?;
    out.line(&format!("vectors  {}", processor.features.join(" ")))?;
    out.line(&memory.map_or("memory   unknown".to_string(), |memory| {
        format!("memory   {} GiB, {} GiB available", gib(memory.total_bytes), gib(memory.available_bytes))
    }))?;
    out.line(&format!("devices  {}", devices.join(", ")))?;
    for line in cuda.lines() {
        out.line(&format!("cuda     {line}"))?;
    }
    out.line(&format!("sandbox  {}", sandbox::describe(&sandbox)))?;
    let megabytes = bundled::bytes().len() as f64 / 1e6;
    out.line(&format!("bundled  {}, {megabytes:.1} MB, always fits", bundled::NAME))?;
    out.line(&format!("models   {}", here(&installed, advice)))?;
    if let Some(local) = local(config::user()) {
        out.line(&format!("local    {local}"))?;
    }
    table(&mut out, &fits)
}

/// The best model for code that runs here: the largest that fits, those that fit a card first.
fn advice(here: &Here) -> Option<&'static Entry> {
    let rank = |fits: Fits| match fits {
        Fits::Card => Some(2),
        Fits::Partly | Fits::Cpu => Some(1),
        Fits::No => None,
    };
    let fitting =
        Catalog::built_in().models.iter().filter(|entry| entry.purpose == Use::Code).filter_map(|entry| {
            let (bytes, fit) = planned(entry, &entry.quantization, here);
            Some(((rank(fit?.fits)?, bytes?), entry))
        });
    fitting.max_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
}

/// The local model of the configuration, where there is one: a name of which nothing is here is why every command fails.
fn local(config: Outcome<Config>) -> Option<String> {
    let config = match config {
        Ok(config) => config,
        Err(failure) => return Some(format!("unknown: {}", failure.reason())),
    };
    let (_, rung) = config.rung(named::WORDS[0]).ok()?;
    let Reach::Engine(model) = &rung.reach else { return None };
    Some(match named::resolve(named::WORDS[0]) {
        Ok(_) => format!("{model}, by coder.toml"),
        Err(failure) => failure.reason().to_string(),
    })
}

/// Models that were fetched, or how to get one.
fn here(installed: &[String], advice: Option<&str>) -> String {
    match (installed, advice) {
        ([], Some(name)) => format!("none but the bundled one; get one with coder pull {name}"),
        ([], None) => {
            "none but the bundled one; coder models --all lists what coder pull can get".to_string()
        }
        (names, _) => names.join(", "),
    }
}

/// One line per model: for every quantization the size of the weights and the context that fits beside them.
fn table(out: &mut Output, fits: &[Fit]) -> Outcome {
    if fits.is_empty() {
        return Ok(());
    }
    out.line("\nWeights, and the context that fits beside them (- does not fit):\n")?;
    let heading: String = QUANTIZATIONS.map(|quantization| format!("{:>17}", quantization.name())).concat();
    out.line(&format!("{:<20}{heading}", "model"))?;
    for row in fits.chunks(QUANTIZATIONS.len()) {
        let cells: String = row.iter().map(|fit| format!("{:>17}", cell(fit))).collect();
        out.line(&format!("{:<20}{cells}", row[0].model))?;
    }
    Ok(())
}

fn cell(fit: &Fit) -> String {
    let context = if fit.context == 0 { "-".to_string() } else { format!("{}K", fit.context / 1024) };
    format!("{:.1} GB {context:>5}", fit.weight_bytes as f64 / 1e9)
}

fn gib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 30))
}
