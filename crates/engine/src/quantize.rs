//! From unquantized weights to a GGUF file with the published mix of types.
//!
//! What is where: `source` lists what there is, `mix` decides which type a tensor gets, `blocks` encodes, `stream`
//! takes a tensor through the encoder in pieces and on all cores, `output` makes sure that the file is there
//! whole or not at all. This file puts header and data together. Memory stays at a few megabytes beside the
//! mapped input; the experts of one matrix are copied together where a checkpoint has them apart.

mod blocks;
mod folder;
mod mix;
mod output;
mod source;
mod stream;

use std::{collections::BTreeMap, io, ops::ControlFlow, path::PathBuf, time::Instant};

pub use mix::FileType;
pub(crate) use mix::Mix;

use crate::{
    Error, Result, Weights,
    gguf::{Header, Writer},
};
use output::Output;
use source::Planned;

/// The version of ggml's block layouts, for `general.quantization_version`.
const LAYOUTS: u32 = 2;

/// What to quantize, and how.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// A GGUF file in F16, BF16 or F32 (any part of a split one will do), or a folder with `config.json`,
    /// safetensors and `tokenizer.json`.
    pub input: PathBuf,
    /// The GGUF file to be.
    pub output: PathBuf,
    /// The mix.
    pub file_type: FileType,
    /// Whether `output` may be there already and is replaced.
    pub replace: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantizeProgress {
    /// Bytes of the input's weights that are done.
    pub done_bytes: u64,
    /// Bytes of the input's weights.
    pub total_bytes: u64,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct QuantizeReport {
    /// The mix, in small letters.
    pub file_type: String,
    /// Number of weights.
    pub parameters: u64,
    /// Bits of a weight in the new file, on average.
    pub bits_per_weight: f64,
    /// Bytes of the input's weights.
    pub bytes_in: u64,
    /// Bytes of the new file.
    pub bytes_out: u64,
    /// Tensors of each type.
    pub tensors: BTreeMap<String, usize>,
    /// Seconds from opening to the file's last byte on the disk.
    pub seconds: f64,
}

/// Quantizes a model. `progress` is called every few megabytes and ends everything with
/// [`ControlFlow::Break`]. The file appears under its name once it is complete and on the disk.
///
/// # Errors
///
/// [`Error::Exists`], [`Error::DiskFull`] and [`Error::AlreadyQuantized`] before anything is written;
/// [`Error::NotFinite`] and [`Error::BeyondHalf`] naming the tensor; [`Error::Cancelled`]; those of opening the
/// input and of writing. None leaves a file behind.
pub fn quantize(
    options: &QuantizeOptions,
    mut progress: impl FnMut(QuantizeProgress) -> ControlFlow<()>,
) -> Result<QuantizeReport> {
    let since = Instant::now();
    let weights = Weights::open(&options.input)?;
    let plan = source::plan(&weights, &Mix::new(options.file_type, weights.config()))?;
    let header = header(&weights, options.file_type, &plan)?;
    let output = Output::create(options, &weights.files(), header.file_bytes())?;

    let total_bytes = plan.iter().map(Planned::bytes).sum();
    let mut done_bytes = 0;
    let failed = |source: io::Error| Error::Io { path: options.output.clone(), source };
    let mut writer = Writer::new(output, &header).map_err(failed)?;
    for tensor in &plan {
        let data = source::data(&weights, tensor)?;
        stream::encode(tensor, &data, |read, encoded| {
            writer.write(encoded).map_err(failed)?;
            done_bytes += read as u64;
            match progress(QuantizeProgress { done_bytes, total_bytes }) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Error::Cancelled),
            }
        })?;
    }
    writer.finish().map_err(failed)?.keep()?;
    Ok(report(options.file_type, &plan, header.file_bytes(), since))
}

/// The input's keys, those that say how it is quantized, and the tensor table.
fn header(weights: &Weights, file_type: FileType, plan: &[Planned]) -> Result<Header> {
    let mut header = source::keys(weights)?;
    header.u32("general.quantization_version", LAYOUTS);
    header.u32("general.file_type", file_type.number());
    plan.iter().for_each(|t| header.tensor(&t.name, t.to, &t.shape));
    Ok(header)
}

fn report(file_type: FileType, plan: &[Planned], bytes_out: u64, since: Instant) -> QuantizeReport {
    let mut tensors = BTreeMap::new();
    for tensor in plan {
        *tensors.entry(format!("{:?}", tensor.to)).or_default() += 1;
    }
    let parameters: u64 = plan.iter().map(Planned::weights).sum();
    let bytes: u64 = plan.iter().map(Planned::encoded_bytes).sum();
    QuantizeReport {
        file_type: file_type.to_string(),
        parameters,
        bits_per_weight: bytes as f64 * 8.0 / parameters.max(1) as f64,
        bytes_in: plan.iter().map(Planned::bytes).sum(),
        bytes_out,
        tensors,
        seconds: since.elapsed().as_secs_f64(),
    }
}
