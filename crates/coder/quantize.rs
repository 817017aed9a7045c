//! `coder quantize`: a smaller file of the same model.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use coder_engine::{FileType, QuantizeOptions, QuantizeReport};

use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Progress;

/// Make a smaller file of a model: fewer bits for each weight
#[derive(Args, Debug)]
#[command(after_help = after_help())]
pub(crate) struct QuantizeArgs {
    /// GGUF file in F16, BF16 or F32 (any part of a split one), or a folder with safetensors
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// GGUF file to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// How many bits for which weights: one of the types below
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    file_type: FileType,
    /// Replace OUT if it exists
    #[arg(long)]
    force: bool,
    /// Print a JSON object: parameters, bits_per_weight, bytes_in, bytes_out, tensors by type, seconds
    #[arg(long)]
    json: bool,
}

/// What is worth saying about a type beside its bits.
fn note(file_type: FileType) -> &'static str {
    match file_type {
        FileType::F32 | FileType::F16 | FileType::BF16 => "not quantized",
        FileType::Q8_0 => "as good as the original",
        FileType::Q6_K => "very near the original",
        FileType::Q5_K_M => "near the original",
        FileType::Q4_K_M => "the usual choice",
        FileType::IQ4_XS => "small for what it keeps",
        FileType::Q3_K_M => "noticeable loss",
        FileType::Q2_K => "large loss, for large models only",
        _ => "",
    }
}

fn after_help() -> String {
    let types = FileType::ALL.map(|t| {
        let line = format!("  {:<8} {:>5.2}  {}", t.to_string(), t.bits_per_weight(), note(t));
        line.trim_end().to_string()
    });
    format!(
        "Types, and bits per weight of a dense model of 7 billion:\n{}\n\n\
         A type names a mix: matrices that answers are sensitive to get more bits, as in the published files.\n\
         Norms, biases and routers stay as they are. OUT appears once it is complete.\n\n\
         Examples:\n  \
         coder quantize qwen-f16.gguf qwen-q4_k_m.gguf --type q4_k_m\n  \
         coder quantize Qwen2.5-Coder-7B-Instruct/ qwen-q8_0.gguf --type q8_0\n  \
         coder quantize in.gguf out.gguf --type q6_k --json | jq .bits_per_weight",
        types.join("\n")
    )
}

pub(crate) fn run(args: QuantizeArgs) -> Outcome {
    let options = QuantizeOptions {
        input: args.input,
        output: args.output,
        file_type: args.file_type,
        replace: args.force,
    };
    let interrupt = Interrupt::install()?;
    let stop = Arc::new(AtomicBool::new(false));
    let pressed = stop.clone();
    let during = interrupt.during(move || pressed.store(true, Ordering::Relaxed));
    let mut progress = Progress::bytes(format!("quantizing to {}", args.file_type));
    let made = coder_engine::quantize(&options, |at| {
        progress.at(at.done_bytes, at.total_bytes);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop(progress);
    let report = match made {
        Err(coder_engine::Error::Cancelled) => return Err(Failure::interrupted()),
        made => made?,
    };
    drop(during);
    let mut out = Output::new();
    if args.json {
        return Ok(out.json(&report)?);
    }
    Ok(out.line(&summary(&report))?)
}

fn summary(report: &QuantizeReport) -> String {
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let tensors = report.tensors.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>();
    format!(
        "{}: {:.3} GB to {:.3} GB, {:.2} bits per weight, {:.1} s ({:.0} MB/s); tensors: {}",
        report.file_type,
        gigabytes(report.bytes_in),
        gigabytes(report.bytes_out),
        report.bits_per_weight,
        report.seconds,
        report.bytes_in as f64 / 1e6 / report.seconds.max(1e-9),
        tensors.join(", ")
    )
}
