//! `coder show`: what is known of a model, here or in the catalog.

use clap::Args;
use coder_engine::Source;
use coder_hub::{Catalog, Entry, Wanted};
use serde_json::{Value, json};

use crate::bundled;
use crate::facts::{Facts, bytes_of};
use crate::failure::Outcome;
use crate::here::{Here, size};
use crate::models::planned;
use crate::named::{self, Found};
use crate::output::Output;
use crate::published::QUANTIZATIONS;

/// Show what is known of a model: dimensions, quantization, license, fingerprint, and whether it runs here
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ShowArgs {
    /// The model: a name, a path, or `OWNER/REPO[:QUANT]`; it need not be here if it is in the catalog
    #[arg(value_name = "NAME", value_parser = crate::names::Names, hide_possible_values = true)]
    name: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  coder show qwen2.5-coder:32b
  coder show qwen3-coder:30b --json | jq '.sizes'
  coder show models/coder-tiny.gguf

sha256 is that of the catalog, or the one that the hub told when the file was fetched first,
against which later ones are held; the line says which of both. Sizes of a model that is not
here are those of its files, or of its weights where those of files are not known.";

/// A label and what stands behind it, in order.
type Lines = Vec<(&'static str, String)>;

pub(crate) fn run(args: ShowArgs) -> Outcome {
    let here = Here::look();
    let (value, lines) = match named::resolve(&args.name) {
        Ok(found) => local(found, &here)?,
        Err(failure) => match Wanted::parse(&args.name, Catalog::built_in()) {
            Ok(Wanted::Entry { entry, quant }) => known(entry, quant.as_deref(), &here),
            _ => return Err(failure),
        },
    };
    let mut out = Output::new();
    if args.json {
        return Ok(out.json(&value)?);
    }
    for (label, text) in lines {
        out.line(&format!("{label:<13} {text}"))?;
    }
    Ok(())
}

/// A model that is here.
fn local(found: Found, here: &Here) -> Outcome<(Value, Lines)> {
    let name = found.name();
    let installed = match &found {
        Found::Installed(_, model) => Some(model.as_ref().clone()),
        _ => None,
    };
    let entry = installed.as_ref().and_then(|model| Catalog::built_in().of_repository(model.repo.as_str()));
    let source = found.source();
    let facts = Facts::of(&source, here)?;
    let (bytes, path) = match &source {
        Source::Path(path) => (
            installed.as_ref().map_or_else(|| bytes_of(path), |model| model.bytes),
            Some(path.display().to_string()),
        ),
        Source::Bytes { .. } => (bundled::bytes().len() as u64, None),
    };
    let files = installed.as_ref().map(fingerprints).unwrap_or_default();
    let mut lines: Lines = vec![("name", name.clone())];
    lines.extend(facts.title.clone().map(|title| ("title", title)));
    lines.extend(entry.map(|entry| ("about", entry.about.clone())));
    lines.push(("architecture", architecture(&facts)));
    lines.push(("parameters", billions(facts.parameters)));
    lines.push(("size", size(bytes)));
    lines.push((
        "quantization",
        format!("{} ({})", facts.quantization.as_deref().unwrap_or("?"), facts.mix_line()),
    ));
    lines.push(("context", format!("{} tokens", facts.context)));
    lines.push(("template", template(&facts)));
    let license = facts.license.clone().or_else(|| entry.map(|entry| entry.license.clone()));
    lines.extend(license.clone().map(|license| ("license", license)));
    lines.extend(facts.fit.map(|fit| ("fits here", format!("{}, with {} tokens", fit.words(), fit.context))));
    if let Some(model) = &installed {
        lines.push(("from", format!("{} at {}", model.repo, model.commit)));
    }
    lines.push(("path", path.clone().unwrap_or_else(|| "(bundled)".to_string())));
    for (file, sha256, from) in &files {
        lines.push(("sha256", format!("{sha256} ({from}) {file}")));
    }
    let repository = installed.as_ref().map(|model| model.repo.as_str());
    let files: Vec<_> = files
        .iter()
        .map(|(file, sha, from)| json!({ "file": file, "sha256": sha, "sha256_from": from }))
        .collect();
    let value = json!({
        "name": name, "here": true, "bytes": bytes, "path": path, "repository": repository,
        "commit": installed.as_ref().map(|model| model.commit.as_str()),
        "license": license, "files": files, "facts": facts, "entry": entry,
    });
    Ok((value, lines))
}

/// File, SHA-256 and whose word it is. The cache names contents by it.
fn fingerprints(model: &coder_hub::Installed) -> Vec<(String, String, &'static str)> {
    let of = |(file, path): (&String, &std::path::PathBuf)| {
        let target = std::fs::read_link(path).ok()?;
        let sha256 = target.file_name()?.to_str().filter(|name| name.len() == 64)?.to_string();
        let known =
            Catalog::built_in().pinned(model.repo.as_str(), file).is_some_and(|pin| pin.sha256 == sha256);
        Some((file.clone(), sha256, if known { "catalog" } else { "hub" }))
    };
    model.files.iter().zip(&model.paths).filter_map(of).collect()
}

/// A model of the catalog that is not here.
fn known(entry: &Entry, quant: Option<&str>, here: &Here) -> (Value, Lines) {
    let quant = quant.unwrap_or(&entry.quantization);
    let (weights, fit) = planned(entry, quant, here);
    let (bytes, name) = (entry.bytes(quant).or(weights), entry.name_with(quant));
    let mut lines: Lines =
        vec![("name", name.clone()), ("title", entry.published.clone()), ("about", entry.about.clone())];
    let active =
        entry.active_billions.map_or(String::new(), |active| format!(", {active} of them at a time"));
    lines.push(("architecture", entry.architecture.clone()));
    lines.push(("parameters", format!("{} billion{active}", entry.billions)));
    lines.extend(entry.context.map(|context| ("context", format!("{context} tokens"))));
    lines.push(("license", entry.license.clone()));
    lines.push(("calls", format!("{:?}", entry.calls).to_lowercase()));
    let mut kinds = vec![quant.to_string()];
    kinds.extend(QUANTIZATIONS.map(|kind| kind.name()).into_iter().filter(|kind| kind != quant));
    let bytes_of = |kind: String| {
        let bytes = entry.bytes(&kind).or_else(|| planned(entry, &kind, here).0)?;
        Some((kind, bytes))
    };
    let sizes: Vec<(String, u64)> = kinds.into_iter().filter_map(bytes_of).collect();
    if !sizes.is_empty() {
        let sizes = sizes.iter().map(|(kind, bytes)| format!("{kind} {}", size(*bytes)));
        lines.push(("sizes", sizes.collect::<Vec<_>>().join(", ")));
    }
    lines.extend(fit.map(|fit| ("fits here", format!("{}, with {} tokens", fit.words(), fit.context))));
    lines.push(("from", entry.repositories.join(", ")));
    for file in &entry.files {
        lines.push(("sha256", format!("{} (catalog) {}", file.sha256, file.file)));
    }
    lines.push((
        "here",
        match &entry.cannot_run {
            Some(reason) => format!("no, and it cannot be run: {reason}"),
            None => format!("no; coder pull {name}"),
        },
    ));
    let sizes: serde_json::Map<String, Value> =
        sizes.into_iter().map(|(kind, bytes)| (kind, json!(bytes))).collect();
    let value = json!({
        "name": name, "here": false, "bytes": bytes, "path": null, "sizes": sizes, "fit": fit, "entry": entry,
    });
    (value, lines)
}

fn architecture(facts: &Facts) -> String {
    let experts = facts.experts.map_or(String::new(), |(all, used)| format!(", {used} of {all} experts"));
    format!(
        "{}, {} layers{experts}, {} tokens of vocabulary",
        facts.architecture, facts.layers, facts.vocabulary
    )
}

fn template(facts: &Facts) -> String {
    let mut words = vec![match (facts.template, facts.calls) {
        (true, Some(calls)) => format!("its own, calls of tools as {calls}"),
        (true, None) => "its own".to_string(),
        (false, _) => "none".to_string(),
    }];
    words.extend(facts.fills.then(|| "fills gaps".to_string()));
    words.join("; ")
}

fn billions(parameters: u64) -> String {
    match parameters {
        0..1_000_000_000 => format!("{:.1} million", parameters as f64 / 1e6),
        _ => format!("{:.2} billion", parameters as f64 / 1e9),
    }
}
