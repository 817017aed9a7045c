//! `coder models`: what `--model` can name here.

use std::fs;
use std::path::Path;

use clap::Args;
use serde::Serialize;

use crate::bundled;
use crate::failure::Outcome;
use crate::output::Output;

/// List the models that --model can name
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ModelsArgs {
    /// Print a JSON list: name, bytes, path
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  coder models
  coder models --json | jq -r '.[].name'

Names come from the folder models/ here and from coder/models in the user's data folder;
a path works as well as a name.";

#[derive(Serialize)]
struct Listed {
    name: String,
    bytes: u64,
    /// Nothing for the bundled model, which is part of the program.
    path: Option<String>,
}

pub(crate) fn run(args: ModelsArgs) -> Outcome {
    let bundled = Listed { name: bundled::NAME.to_string(), bytes: bundled::bytes().len() as u64, path: None };
    let mut models = vec![bundled];
    for path in bundled::folders().iter().flat_map(|folder| bundled::list(folder)) {
        let name = bundled::name_of(&path);
        // The first one of a name is the one that `--model` finds.
        if models.iter().all(|model| model.name != name) {
            models.push(Listed { name, bytes: size(&path), path: Some(path.display().to_string()) });
        }
    }
    let mut out = Output::new();
    if args.json {
        out.json(&models)?;
    } else {
        let width = models.iter().map(|model| model.name.len()).max().unwrap_or(0);
        for Listed { name, bytes, path } in &models {
            let megabytes = *bytes as f64 / 1e6;
            out.line(&format!("{name:<width$} {megabytes:>9.1} MB  {}", path.as_deref().unwrap_or("(bundled)")))?;
        }
    }
    Ok(())
}

/// Bytes of a model: of all files of a folder, of all parts of a split file.
fn size(path: &Path) -> u64 {
    let name = bundled::name_of(path);
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(|file| file.is_file());
    let parts = files.filter(|file| path.is_dir() || bundled::name_of(file) == name);
    parts.filter_map(|file| fs::metadata(file).ok()).map(|data| data.len()).sum()
}
