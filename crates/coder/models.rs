//! `coder models`: what `--model` can name here, and what `coder pull` can get.

use clap::Args;
use coder_engine::fit::Tensors;
use coder_engine::{FileType, Source};
use coder_hub::{Catalog, Entry};
use serde::Serialize;

use crate::bundled;
use crate::facts::{Facts, bytes_of};
use crate::failure::Outcome;
use crate::here::{Fit, Here, size};
use crate::named::{self, Found};
use crate::output::Output;
use crate::published;
use crate::table::{self, Side};

/// List the models that --model can name, and whether they run here
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ModelsArgs {
    /// Those of the catalog too, which coder pull can get
    #[arg(long)]
    all: bool,
    /// Print a JSON list: name, bytes, path, quantization, context, fit, from, and more
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  coder models
  coder models --all
  coder models --json | jq -r '.[].name'
  coder models --all --json | jq -r '.[] | select(.fit.fits == \"cpu\") | .name'

Names come from the folder models/ here, from coder/models in the user's data folder, and from
the cache that coder pull shares with Hugging Face's programs; a path works as well as a name.
Whether a model fits is told for the memory that is free now and the context that it is opened
with where none is asked for.";

/// One model. Keys are there in every row; what is not known is null.
#[derive(Serialize)]
struct Listed {
    name: String,
    /// Of its files; where those of a model that is not here are not known, of its weights, if they can be told.
    bytes: Option<u64>,
    /// Nothing for the bundled model, which is part of the program, and for one that is not here.
    path: Option<String>,
    quantization: Option<String>,
    /// Tokens that it was trained for.
    context: Option<u64>,
    architecture: Option<String>,
    /// `bundled`, `folder`, `cache`, or `catalog`: not here.
    from: &'static str,
    fit: Option<Fit>,
    /// Why it cannot be run.
    problem: Option<String>,
}

pub(crate) fn run(args: ModelsArgs) -> Outcome {
    let here = Here::look();
    let mut models = local(&here);
    if args.all {
        for entry in &Catalog::built_in().models {
            if models.iter().all(|model| model.name != entry.name) {
                models.push(known(entry, &here));
            }
        }
    }
    let mut out = Output::new();
    if args.json {
        return Ok(out.json(&models)?);
    }
    for line in table::lines(&SIDES, &rows(&models)) {
        out.line(&line)?;
    }
    let partial: u64 = named::cache().iter().flat_map(|cache| cache.partial()).map(|(_, bytes)| bytes).sum();
    if partial > 0 {
        eprintln!(
            "{} of downloads that are not finished; the same `coder pull` goes on, `coder rm --partial` removes them",
            size(partial)
        );
    }
    Ok(())
}

/// Every model that is here, in the order in which names are looked for.
fn local(here: &Here) -> Vec<Listed> {
    let mut found = vec![(Found::Bundled, Some(bundled::bytes().len() as u64), "bundled")];
    for path in named::folders().iter().flat_map(|folder| named::in_models_folder(folder)) {
        let bytes = bytes_of(&path);
        found.push((Found::Path(path), Some(bytes), "folder"));
    }
    for (name, model) in named::cached() {
        let bytes = model.bytes;
        found.push((Found::Installed(name, Box::new(model)), Some(bytes), "cache"));
    }
    let mut models: Vec<Listed> = Vec::new();
    for (found, bytes, from) in found {
        let name = found.name();
        // The first one of a name is the one that `--model` finds.
        if models.iter().any(|model| model.name == name) {
            continue;
        }
        let labelled = match &found {
            Found::Installed(_, model) => model.label.clone(),
            _ => None,
        };
        let source = found.source();
        let path = match &source {
            Source::Path(path) => Some(path.display().to_string()),
            Source::Bytes { .. } => None,
        };
        let listed = Listed {
            name,
            bytes,
            path,
            quantization: labelled,
            context: None,
            architecture: None,
            from,
            fit: None,
            problem: None,
        };
        models.push(match Facts::of(&source, here) {
            Ok(facts) => Listed {
                quantization: listed.quantization.or(facts.quantization),
                context: Some(facts.context as u64),
                architecture: Some(facts.architecture),
                fit: facts.fit,
                ..listed
            },
            Err(failure) => Listed { problem: Some(failure.reason().to_string()), ..listed },
        });
    }
    models
}

/// A model of the catalog that is not here.
fn known(entry: &Entry, here: &Here) -> Listed {
    let (weights, fit) = planned(entry, &entry.quantization, here);
    Listed {
        name: entry.name.clone(),
        bytes: entry.bytes(&entry.quantization).or(weights),
        path: None,
        quantization: Some(entry.quantization.clone()),
        context: entry.context.map(u64::from),
        architecture: Some(entry.architecture.clone()),
        from: "catalog",
        fit,
        problem: entry.cannot_run.clone(),
    }
}

/// Bytes of the weights of an entry in a quantization, and whether they fit, as far as it can be told before it is here.
pub(crate) fn planned(entry: &Entry, quantization: &str, here: &Here) -> (Option<u64>, Option<Fit>) {
    let shape = entry.shape.as_deref().and_then(published::find);
    let (Some(shape), Ok(kind)) = (shape, quantization.parse::<FileType>()) else { return (None, None) };
    let config = shape.config();
    let tensors = Tensors::Mixed(&config, kind);
    // A model of known dimensions has known sizes; an error would be in the table of dimensions, which is tested.
    (tensors.bytes().ok(), here.fit(tensors).ok().flatten())
}

const SIDES: [Side; 6] = [Side::Left, Side::Right, Side::Left, Side::Right, Side::Left, Side::Left];

fn rows(models: &[Listed]) -> Vec<Vec<String>> {
    let head = ["name", "size", "quantization", "context", "fits here", "where"].map(str::to_string).to_vec();
    let row = |model: &Listed| {
        let dash = || "-".to_string();
        let about = if model.from == "catalog" { "~" } else { "" };
        vec![
            model.name.clone(),
            model.bytes.map_or_else(dash, |bytes| format!("{about}{}", size(bytes))),
            model.quantization.clone().unwrap_or_else(dash),
            model.context.map_or_else(dash, |context| context.to_string()),
            match (&model.problem, model.fit) {
                (Some(_), _) => "cannot be run".to_string(),
                (None, Some(fit)) => fit.words(),
                (None, None) => "?".to_string(),
            },
            match (&model.problem, model.from) {
                (Some(problem), _) => problem.clone(),
                (None, "bundled") => "(bundled)".to_string(),
                (None, "catalog") => format!("coder pull {}", model.name),
                (None, _) => model.path.clone().unwrap_or_default(),
            },
        ]
    };
    std::iter::once(head).chain(models.iter().map(row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coder_engine::Architecture;

    /// Every entry says what this program makes of it, and its facts agree with the dimensions.
    #[test]
    fn the_catalog_agrees_with_the_engine() {
        for entry in &Catalog::built_in().models {
            let name = &entry.name;
            let runs = [Architecture::Qwen2, Architecture::Qwen3, Architecture::Qwen3Moe];
            let runs = runs.iter().any(|known| known.name() == entry.architecture);
            assert_eq!(runs, entry.cannot_run.is_none(), "{name}");
            assert_eq!(runs, entry.shape.is_some(), "{name}");
            let Some(shape) = entry.shape.as_deref() else { continue };
            let config =
                published::find(shape).unwrap_or_else(|| panic!("{name}: no shape `{shape}`")).config();
            assert_eq!(config.architecture.name(), entry.architecture, "{name}");
            let billions = config.parameters() as f64 / 1e9;
            // Published numbers are rounded, some generously.
            assert!((billions / entry.billions - 1.0).abs() < 0.05, "{name}: {billions} {}", entry.billions);
            assert_eq!(entry.active_billions.is_some(), config.moe.is_some(), "{name}");
            assert_eq!(entry.context.map(|context| context as usize), Some(config.context), "{name}");
            assert!(entry.quantization.parse::<FileType>().is_ok(), "{name}");
            check_files(entry, &config);
        }
    }

    /// Files with a fingerprint are of known quantizations and of the size that their weights have.
    fn check_files(entry: &Entry, config: &coder_engine::Config) {
        let labels: std::collections::BTreeSet<_> = entry
            .files
            .iter()
            .map(|file| (file.repository.as_str(), coder_hub::label(&file.file).unwrap()))
            .collect();
        for (repository, label) in labels {
            let kind: FileType = label.parse().unwrap_or_else(|_| panic!("{}: {label}", entry.name));
            let of = |file: &&coder_hub::Pinned| {
                file.repository == repository && coder_hub::label(&file.file).as_ref() == Some(&label)
            };
            let Some(bytes) = entry.files.iter().filter(of).map(|file| file.bytes).sum::<Option<u64>>()
            else {
                continue;
            };
            let weights = Tensors::Mixed(config, kind).bytes().unwrap() as f64;
            // A file has a vocabulary too, and some mixes differ in a few tensors; conversions of tied models may have the
            // table of tokens a second time, as their output.
            let table = if config.tied { (config.vocab * config.hidden) as f64 } else { 0.0 };
            let range = weights * 0.98..weights * 1.03 + table;
            assert!(range.contains(&(bytes as f64)), "{}: {label}: {bytes} {weights}", entry.name);
        }
    }
}
