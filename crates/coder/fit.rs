//! `coder fit`: what a model takes on a card, and which cards it fits.

use clap::Args;
use coder_engine::fit::{self, Bytes, Memory, Plan, Room, Tensors};
use coder_engine::{Config, FileType, KvType, Options, Weights};
use coder_hub::{Catalog, Wanted};
use coder_kernels::cuda::Library;
use serde::Serialize;

use crate::args::{self, bytes, kv_types};
use crate::failure::{Failure, Outcome};
use crate::named;
use crate::output::Output;
use crate::published::{self, Shape};

/// Show what a model takes on a card, and which cards it fits
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct FitArgs {
    /// GGUF file, safetensors folder, name of a model, or of one of the catalog such as qwen2.5-coder:32b, which need
    /// not be here [default: as for coder ask]
    #[arg(long, value_name = "MODEL", value_parser = args::model())]
    model: Option<String>,
    /// Quantization of a published model
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "q4_k_m")]
    file_type: FileType,
    /// Memory of the card, such as 24GiB; without it, cards of 24 and 32 GiB, and the one that is here
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    vram: Option<u64>,
    /// Room for prompt and answer, in tokens; without it, the model's own, at most 32768
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Entries of the key-value cache: f16, f32 or q8_0; without it, f16 and q8_0
    #[arg(long, value_name = "TYPE", value_parser = kv_types(), hide_possible_values = true)]
    kv: Option<KvType>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  coder fit --model qwen2.5-coder-32b-q4_k_m.gguf
  coder fit --model qwen2.5-coder:32b --type q4_k_m --context 32768
  coder fit --model Qwen3-Coder-30B-A3B --vram 24GiB --json

Nothing is loaded. reserve is what the driver takes and what is lost at the ends of pages;
it and graphs are estimates, the rest is exact. The embedding of a model that has an output
of its own is read a row at a time and stays in host memory. Layers that do not fit on a
card are computed by the CPU.";

/// The sizes of cards that people ask about.
const CARDS: [u64; 2] = [24 << 30, 32 << 30];

#[derive(Serialize)]
struct Report {
    model: String,
    layers: usize,
    weight_bytes: u64,
    context: usize,
    trained_context: usize,
    /// All layers on a card, for each type of cache.
    plans: Vec<Whole>,
    cards: Vec<Answer>,
}

#[derive(Serialize)]
struct Whole {
    kv: &'static str,
    #[serde(flatten)]
    bytes: Bytes,
}

/// What comes of one card with one type of cache.
#[derive(Serialize)]
struct Answer {
    name: String,
    memory_bytes: u64,
    kv: &'static str,
    /// What all layers need on it with the context that was asked for, and whether they fit.
    needed_bytes: u64,
    fits: bool,
    /// How the memory is used then: all layers, or as many as there is room for.
    #[serde(flatten)]
    bytes: Option<Bytes>,
    /// The largest context with all layers on the card; 0 if there is none.
    largest_context: usize,
}

pub(crate) fn run(args: FitArgs) -> Outcome {
    let report = match Model::find(args.model.as_deref(), args.file_type)? {
        Model::File(name, weights) => report(name, Tensors::Of(&weights), &args)?,
        Model::Published(name, config, file_type) => {
            report(format!("{name} {}", file_type.name()), Tensors::Mixed(&config, file_type), &args)?
        }
    };
    let mut out = Output::new();
    if args.json {
        return Ok(out.json(&report)?);
    }
    report.print(&mut out)
}

/// What `--model` names: something that is here, or something that is known.
enum Model {
    File(String, Weights),
    Published(String, Config, FileType),
}

/// The dimensions that a name has in the table of them or in the catalog, and the quantization that it says.
fn known(name: &str) -> Option<(&'static Shape, Option<FileType>)> {
    if let Some(shape) = published::find(name) {
        return Some((shape, None));
    }
    match Wanted::parse(name, Catalog::built_in()) {
        Ok(Wanted::Entry { entry, quant }) => {
            let shape = published::find(entry.shape.as_deref()?)?;
            Some((shape, quant.and_then(|quant| quant.parse().ok())))
        }
        _ => None,
    }
}

impl Model {
    fn find(name: Option<&str>, file_type: FileType) -> Outcome<Self> {
        let missing = match named::source(name) {
            Ok((source, name)) => return Ok(Model::File(name, source.weights()?)),
            Err(missing) => missing,
        };
        match name.and_then(known) {
            Some((shape, quantization)) => {
                let file_type = quantization.unwrap_or(file_type);
                Ok(Model::Published(shape.name.to_string(), shape.config(), file_type))
            }
            None => {
                let shapes: Vec<_> = published::SHAPES.iter().map(|shape| shape.name).collect();
                Err(Failure::new(format!("{}; published models: {}", missing.reason(), shapes.join(", "))))
            }
        }
    }
}

fn report(model: String, tensors: Tensors<'_>, args: &FitArgs) -> Outcome<Report> {
    let mut options = Options::new("");
    options.context = args.context;
    let config = tensors.config();
    let asked = options.room(config)?;
    let kinds = args.kv.map_or(vec![KvType::F16, KvType::Q8_0], |kv| vec![kv]);
    let cards = cards(args.vram);
    let mut report = Report {
        model,
        layers: config.layers,
        weight_bytes: tensors.bytes()?,
        context: asked.context,
        trained_context: config.context,
        plans: Vec::new(),
        cards: Vec::new(),
    };
    for kv in &kinds {
        let plan = Plan::new(tensors, &Room { kv: *kv, ..asked })?;
        let memory = cards.first().map_or(Memory::total(0), |card| card.1);
        report.plans.push(Whole { kv: kv_name(*kv), bytes: plan.bytes(config.layers, memory) });
    }
    for (name, memory) in &cards {
        for kv in &kinds {
            let room = Room { kv: *kv, ..asked };
            let plan = Plan::new(tensors, &room)?;
            let layers = plan.most_layers(*memory);
            report.cards.push(Answer {
                name: name.clone(),
                memory_bytes: memory.bytes(),
                kv: kv_name(*kv),
                needed_bytes: plan.bytes(config.layers, *memory).card,
                fits: layers == config.layers,
                bytes: (layers > 0).then(|| plan.bytes(layers, *memory)),
                largest_context: fit::largest_context(tensors, &room, *memory)?,
            });
        }
    }
    Ok(report)
}

/// One of the things that memory is for.
type Part = fn(&Bytes) -> u64;

/// The cards that are asked about, and the one that is here if it was not said which.
fn cards(vram: Option<u64>) -> Vec<(String, Memory)> {
    let sizes = vram.map_or(CARDS.to_vec(), |bytes| vec![bytes]);
    let mut cards: Vec<_> = sizes.iter().map(|bytes| (gib(*bytes), Memory::total(*bytes))).collect();
    // Without one, this is about the others; `coder doctor` says why there is none.
    if let (None, Some(Ok(card))) = (vram, Library::linked().map(|library| library.card(0))) {
        cards.push((
            format!("{}, {} free", card.name, gib(card.free_bytes)),
            Memory::free(card.free_bytes, None),
        ));
    }
    cards
}

impl Report {
    fn print(&self, out: &mut Output) -> Outcome {
        let Self { model, layers, context, trained_context, .. } = self;
        out.line(&format!(
            "{model}: {} in {layers} layers and the tables, {context} tokens of context (trained for \
             {trained_context})\n",
            gib(self.weight_bytes)
        ))?;
        let row = |name: &str, of: &dyn Fn(&Whole) -> String| {
            let cells: String = self.plans.iter().map(|plan| format!("{:>14}", of(plan))).collect();
            format!("{name:<16}{cells}")
        };
        out.line(&row("cache", &|plan| plan.kv.to_string()))?;
        let rows: [(&str, Part); 7] = [
            ("weights", |b| b.weights),
            ("keys, values", |b| b.cache),
            ("scratch", |b| b.scratch),
            ("graphs", |b| b.graphs),
            ("reserve", |b| b.reserve),
            ("on the card", |b| b.card),
            ("in host memory", |b| b.host_weights),
        ];
        for (name, of) in rows {
            out.line(&row(name, &|plan| gib(of(&plan.bytes))))?;
        }
        let width = self.cards.iter().map(|answer| answer.name.len()).max().unwrap_or(0).max(4);
        out.line(&format!(
            "\n{:<width$}  {:<5} {:>12}  {:<18} {:>15}",
            "card", "cache", "needed", "layers on it", "largest context"
        ))?;
        for answer in &self.cards {
            out.line(&self.line(answer, width))?;
        }
        Ok(())
    }

    fn line(&self, answer: &Answer, width: usize) -> String {
        let Answer { name, kv, needed_bytes, fits, bytes, largest_context, .. } = answer;
        let layers = match bytes {
            _ if *fits => "all: fits".to_string(),
            Some(bytes) => format!("{} of {}", bytes.layers, self.layers),
            None => "none".to_string(),
        };
        let largest = if *largest_context == 0 { "-".to_string() } else { largest_context.to_string() };
        format!("{name:<width$}  {kv:<5} {:>12}  {layers:<18} {largest:>15}", gib(*needed_bytes))
    }
}

fn kv_name(kv: KvType) -> &'static str {
    match kv {
        KvType::F32 => "f32",
        KvType::F16 => "f16",
        KvType::Q8_0 => "q8_0",
    }
}

/// Small things in their own unit: a model of a few megabytes is not 0.00 GiB.
fn gib(bytes: u64) -> String {
    let (unit, name) = if bytes < 100 << 20 { (1 << 20, "MiB") } else { (1 << 30, "GiB") };
    format!("{:.2} {name}", bytes as f64 / f64::from(unit))
}
