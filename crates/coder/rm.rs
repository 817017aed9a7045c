//! `coder rm`: models that are not wanted any more.

use std::io::{self, BufRead, IsTerminal};

use clap::Args;
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::here::size;
use crate::named::{self, Found};
use crate::output::Output;

/// Remove models from the cache: exactly their files, and nothing that another model shares
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RmArgs {
    /// Models, as coder models lists them
    #[arg(value_name = "NAME", required_unless_present = "partial", value_parser = crate::names::Names, hide_possible_values = true)]
    names: Vec<String>,
    /// What is there of downloads that were not finished
    #[arg(long)]
    partial: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Print one JSON object: removed, bytes
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  coder rm qwen2.5-coder:7b
  coder rm Qwen/Qwen3-8B-GGUF:Q8_0 --yes
  coder rm --partial

Only what is in the cache is removed; a file of your own is yours to delete. On Linux a program
that has the model open keeps it until it ends: the room on the disk is free only then.";

pub(crate) fn run(args: RmArgs) -> Outcome {
    let cache = named::cache().ok_or_else(|| Failure::new(coder_hub::Error::NoHome))?;
    // All names first: nothing is removed if one of them is wrong.
    let models = args.names.iter().map(|name| removable(name)).collect::<Outcome<Vec<_>>>()?;
    let partial = if args.partial { cache.partial() } else { Vec::new() };
    let mut bytes: u64 = models.iter().map(|(_, model)| model.bytes).sum();
    bytes += partial.iter().map(|(_, bytes)| bytes).sum::<u64>();
    let mut what: Vec<String> = models.iter().map(|(name, _)| format!("`{name}`")).collect();
    what.extend((!partial.is_empty()).then(|| format!("{} downloads that are not finished", partial.len())));
    if what.is_empty() {
        eprintln!("nothing to remove");
        if args.json {
            Output::new().json(&json!({ "removed": [], "bytes": 0 }))?;
        }
        return Ok(());
    }
    if !args.yes && !confirmed(&format!("remove {} ({})?", what.join(", "), size(bytes)))? {
        return Err(Failure::new("nothing was removed"));
    }
    let (mut removed, mut freed) = (Vec::new(), 0);
    for (name, model) in &models {
        let done = cache.remove(model).map_err(Failure::new)?;
        if done.shared > 0 {
            eprintln!("note: {} of its files stay: another name in the cache stands for them", done.shared);
        }
        removed.push(name.clone());
        freed += done.bytes;
    }
    for (path, bytes) in partial {
        match cache.remove_partial(&path) {
            Err(coder_hub::Error::InUse { name }) => {
                eprintln!("note: `{}` stays: `{name}` is being fetched", path.display());
                continue;
            }
            done => done.map_err(Failure::new)?,
        }
        removed.push(path.display().to_string());
        freed += bytes;
    }
    if removed.is_empty() {
        return Err(Failure::new("nothing was removed"));
    }
    let mut out = Output::new();
    if args.json {
        return Ok(out.json(&json!({ "removed": removed, "bytes": freed }))?);
    }
    Ok(out.line(&format!("removed {}, {} are free", removed.join(", "), size(freed)))?)
}

/// A model of the cache; what is the user's own, or part of the program, is not to be removed.
fn removable(name: &str) -> Outcome<(String, coder_hub::Installed)> {
    // Who wants a model gone is not told how to get it.
    let gone = |failure: Failure| match failure.reason().contains("coder pull") {
        true => Failure::new(format!("`{name}` is not here; `coder models` lists what is")),
        false => failure,
    };
    match named::resolve(name).map_err(gone)? {
        Found::Installed(name, model) => Ok((name, *model)),
        Found::Bundled => Err(Failure::new(format!("`{name}` is part of the program"))),
        Found::Path(path) => Err(Failure::new(format!(
            "`{}` is a file of yours and not in the cache; delete it yourself",
            path.display()
        ))),
    }
}

/// Whether a person says yes.
fn confirmed(question: &str) -> Outcome<bool> {
    let input = io::stdin();
    if !input.is_terminal() {
        return Err(Failure::new(format!("{question} Nobody can answer here; say --yes")));
    }
    eprint!("{question} [y/N] ");
    let mut line = String::new();
    input.lock().read_line(&mut line)?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
