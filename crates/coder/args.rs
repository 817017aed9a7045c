//! Arguments that several commands share, and what they mean to the engine.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use coder_engine::{Device, Grammar, Isa, KvType, Limit, MOST_THREADS, Options, Request, SamplerOptions};
use coder_tasks::ledger::LOCAL;
use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::named;

/// Which model, and where it runs. A heading holds for all that comes after it: what has none stands before this.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// GGUF file, safetensors folder, or the name of a model [default: rungs.local.engine of coder config, else the bundled
    /// coder-tiny]
    #[arg(long, value_name = "MODEL", value_parser = model())]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
}

/// Where a model runs, and with how much room.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub(crate) struct OpenArgs {
    /// What computes: cuda (an NVIDIA card), cpu, reference (slow, independent arithmetic, to compare with), or auto:
    /// the card if one is there and this program was built for it, else cpu
    #[arg(long, default_value = "auto", value_parser = devices(), hide_possible_values = true)]
    pub(crate) device: Device,
    /// Layers on the card: the last N, with the output; the others are computed by the CPU [default: all that fit]
    #[arg(long, value_name = "N")]
    pub(crate) gpu_layers: Option<usize>,
    /// Use the card as if it had only this much memory, such as 24GiB (see coder fit) [default: what is free]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) vram: Option<u64>,
    /// Launch every operation on the card anew, in place of replaying recorded steps: slower, to compare with
    #[arg(long)]
    pub(crate) no_graph: bool,
    /// Room for prompt and answer, in tokens; without it, the model's own, at most 32768
    #[arg(long, value_name = "TOKENS")]
    pub(crate) context: Option<usize>,
    /// Room of the key-value cache in tokens, of all answers that grow at the same time and of what they leave for the next
    /// ones [default: one context]
    #[arg(long, value_name = "TOKENS")]
    pub(crate) cache: Option<usize>,
    /// Entries of the key-value cache: f16, f32 (twice the memory), or q8_0 (half of it, rounded to 8 bits)
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = kv_types(), hide_possible_values = true)]
    pub(crate) kv: KvType,
    /// Threads that compute [default: the cores that this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MOST_THREADS as i64))]
    pub(crate) threads: Option<u16>,
    /// Instruction set, for comparisons: portable, avx2, avxvnni, avx512, avx512pairs, amx, as far as this machine has it [default: the best]
    #[arg(long, value_name = "NAME")]
    pub(crate) isa: Option<Isa>,
    /// Jinja file to use in place of the model's own chat template
    #[arg(long, value_name = "FILE")]
    pub(crate) chat_template: Option<PathBuf>,
    /// A small model of the same family that guesses tokens for the large one to verify: the same answers, sooner where
    /// it guesses well
    #[arg(long, value_name = "MODEL", value_parser = model())]
    pub(crate) draft: Option<String>,
    /// Keep what was computed of prompts in this file: the next command with the same model, device and --kv begins with
    /// it. The file has parts of prompts in it, for its owner alone
    #[arg(long, value_name = "FILE")]
    pub(crate) prefix_cache: Option<PathBuf>,
    /// Largest size of that file, such as 4GiB; what was used last stays
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = bytes, requires = "prefix_cache")]
    pub(crate) prefix_cache_size: u64,
}

impl ModelArgs {
    /// `--model` as a layer of the configuration, where it says which model `local` is.
    pub(crate) fn layer(&self) -> String {
        // A string of JSON is one of TOML.
        let layer = |model: &str| format!("rungs.{LOCAL}.engine = {}\n", Value::from(model));
        self.model.as_deref().map_or_else(String::new, layer)
    }

    /// What the engine needs to know, and the model's name for people.
    pub(crate) fn options(&self) -> Outcome<(Options, String)> {
        self.open.options(self.model.as_deref())
    }
}

impl OpenArgs {
    /// The same for this model, or the default one.
    pub(crate) fn options(&self, model: Option<&str>) -> Outcome<(Options, String)> {
        let (source, name) = named::source(model)?;
        let mut options = Options::from_source(source);
        options.device = self.device;
        options.gpu_layers = self.gpu_layers;
        options.vram = self.vram;
        options.graphs = !self.no_graph;
        options.context = self.context;
        options.cache = self.cache;
        options.kv = self.kv;
        options.threads = self.threads.map(usize::from);
        options.isa = self.isa;
        options.chat_template = self.chat_template.clone();
        options.prefix_cache = self
            .prefix_cache
            .clone()
            .map(|path| coder_engine::PrefixCache { path, bytes: self.prefix_cache_size });
        options.draft =
            self.draft.as_deref().map(|name| named::source(Some(name))).transpose()?.map(|found| found.0);
        Ok((options, name))
    }
}

/// What `--model` and `--draft` say: text, since configurations, results and answers of the server have it, too.
pub(crate) fn model() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().try_map(|name| {
        name.into_string().map_err(|_| "is not UTF-8; make a link to it that is, with `ln -s`, and name that")
    })
}

/// A size such as `24GiB`, `800 MB` or `1073741824` (bytes).
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 8] = [
        ("", 1),
        ("b", 1),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
    ];
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let unit = unit.to_ascii_lowercase();
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("no unit `{unit}`; use B, KB, MB, GB (1000) or KiB, MiB, GiB (1024)"));
    };
    let number: f64 =
        number.trim().parse().map_err(|_| "write a number and a unit, such as 24GiB".to_string())?;
    // Whoever has 24 GiB writes `24` once.
    if unit.is_empty() && number < f64::from(1 << 20) {
        return Err(format!("write a unit, such as {text}GiB"));
    }
    let bytes = number * *factor as f64;
    // Up to 2^53, floats hold every whole number.
    if bytes.is_finite() && (1.0..9e15).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err("must be at least one byte, and less than a card will ever have".to_string())
    }
}

/// A number of things of which there must be one.
pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_string()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

/// Devices, such that a shell can complete them.
fn devices() -> impl TypedValueParser<Value = Device> {
    PossibleValuesParser::new(["auto", "cuda", "cpu", "reference"]).try_map(|name| name.parse::<Device>())
}

/// The same for types of key-value caches.
pub(crate) fn kv_types() -> impl TypedValueParser<Value = KvType> {
    PossibleValuesParser::new(["f16", "f32", "q8_0"]).try_map(|name| kv_type(&name))
}

fn kv_type(text: &str) -> Result<KvType, String> {
    match text {
        "f16" => Ok(KvType::F16),
        "f32" => Ok(KvType::F32),
        "q8_0" => Ok(KvType::Q8_0),
        _ => Err("use f16, f32 or q8_0".to_string()),
    }
}

/// How the next token is chosen, and where the answer ends.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// 0 takes the most probable token; 1 samples as the model says
    #[arg(long, default_value_t = 0.2, allow_negative_numbers = true)]
    pub(crate) temperature: f32,
    /// Sample only from the K most probable tokens
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Sample only from the most probable tokens that together have probability P
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Leave out tokens less probable than P times the most probable one
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Divide the score of tokens that occurred by this; 1 does nothing
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f32>,
    /// Take this from the score of tokens that occurred
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// Take this from the score of a token for every time it occurred
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// Same seed, same text
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Tokens that the answer may have, for which there must be room [default: up to 4096, as the context allows]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_tokens: Option<usize>,
}

impl SamplingArgs {
    /// Fills in the request's sampler, stop strings and limit.
    pub(crate) fn apply(&self, request: Request) -> Request {
        let mut sampler =
            SamplerOptions { temperature: self.temperature, seed: self.seed, ..Default::default() };
        set(&mut sampler.top_k, self.top_k);
        set(&mut sampler.top_p, self.top_p);
        set(&mut sampler.min_p, self.min_p);
        set(&mut sampler.repetition_penalty, self.repetition_penalty);
        set(&mut sampler.presence_penalty, self.presence_penalty);
        set(&mut sampler.frequency_penalty, self.frequency_penalty);
        let limit = self.max_tokens.map_or(Limit::UpTo(4096), Limit::Require);
        request.sampler(sampler).stop(self.stop.clone()).limit(limit)
    }
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *field = value;
    }
}

/// What the answer must look like.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Grammar")]
#[group(multiple = false)]
pub(crate) struct GrammarArgs {
    /// The answer is JSON that fits the JSON Schema in this file
    #[arg(long, value_name = "FILE")]
    json_schema: Option<PathBuf>,
    /// The answer matches this regular expression as a whole
    #[arg(long, value_name = "REGEX")]
    regex: Option<String>,
    /// The answer follows the grammar in this file: Lark, or llama.cpp's form if its name ends with .gbnf
    #[arg(long, value_name = "FILE")]
    grammar: Option<PathBuf>,
}

impl GrammarArgs {
    /// The grammar, if one was asked for.
    pub(crate) fn grammar(&self) -> Outcome<Option<Grammar>> {
        if let Some(path) = &self.json_schema {
            return Ok(Some(Grammar::JsonSchema(read_json(path)?)));
        }
        if let Some(path) = &self.grammar {
            let text = read_text(path)?;
            let is_gbnf = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gbnf"));
            return Ok(Some(if is_gbnf { Grammar::Gbnf(text) } else { Grammar::Lark(text) }));
        }
        Ok(self.regex.clone().map(Grammar::Regex))
    }
}

/// A file's text; the error names the file.
pub(crate) fn read_text(path: &Path) -> Outcome<String> {
    let bytes = fs::read(path).map_err(|error| Failure::new(format!("`{}`: {error}", path.display())))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(format!("`{}`: not UTF-8 at byte {at}; convert the file first", path.display()))
    })
}

/// A file's JSON; the error names the file and the place.
pub(crate) fn read_json(path: &Path) -> Outcome<Value> {
    serde_json::from_str(&read_text(path)?)
        .map_err(|error| Failure::new(format!("`{}`: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("24GiB"), Ok(24 << 30));
        assert_eq!(bytes("24 gib"), Ok(24 << 30));
        assert_eq!(bytes("1.5MiB"), Ok(3 << 19));
        assert_eq!(bytes("24GB"), Ok(24_000_000_000));
        assert_eq!(bytes(" 8 kb "), Ok(8_000));
        assert_eq!(bytes("1073741824"), Ok(1 << 30));
        for (text, word) in [
            ("24G", "GiB"),
            ("24", "24GiB"),
            ("", "number"),
            ("GiB", "number"),
            ("-1GiB", "at least"),
            ("0B", "at least"),
        ] {
            let error = bytes(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
        assert!(bytes("1e300").is_err() && bytes("NaN").is_err() && bytes("inf").is_err());
    }
}
