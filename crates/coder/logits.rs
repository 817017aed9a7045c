//! `coder logits`: the raw output of a forward pass, to compare with other programs.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use clap::Args;
use coder_engine::probe;

use crate::args::ModelArgs;
use crate::failure::{Failure, Outcome};
use crate::npy;
use crate::progress;

/// Write the logits of a token sequence as a NumPy file
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LogitsArgs {
    /// Token ids, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',', required = true, value_parser = id)]
    tokens: Vec<u32>,
    /// The file to write: f32 [tokens, vocabulary]
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Tokens computed in one step; without it, all
    #[arg(long, value_name = "N")]
    chunk: Option<usize>,
    #[command(flatten)]
    model: ModelArgs,
}

const EXAMPLES: &str = "Examples:
  coder logits --tokens 1,2,3 --out logits.npy
  coder logits --tokens \"$(cat tokens.txt)\" --out a.npy --device reference
  coder logits --model tiny.gguf --tokens 1,2,3,4,5 --chunk 3 --out chunks.npy";

fn id(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| "not a token id".to_string())
}

pub(crate) fn run(args: LogitsArgs) -> Outcome {
    let (options, _) = args.model.options()?;
    let logits = probe::logits(&options, &args.tokens, args.chunk)?;
    progress::tell(&logits.info);
    let write = || {
        let mut file = BufWriter::new(File::create(&args.out)?);
        npy::write(&mut file, logits.rows, logits.vocab, &logits.values)?;
        let file = file.into_inner().map_err(|error| error.into_error())?;
        // Nothing of a pipe or a device can be kept.
        if file.metadata()?.is_file() { file.sync_all() } else { Ok(()) }
    };
    write().map_err(|error| Failure::new(format!("`{}`: {error}", args.out.display())))
}
