//! `coder pull`: get a model from a hub into the cache.

mod progress;

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use coder_engine::{FileType, Source};
use coder_hub::{
    Cache, Catalog, DEFAULT, Entry, Error, Fetched, FileSet, Hub, Listing, Options, Pins, Remote, RepoId,
    Wanted,
};
use serde_json::{Value, json};

use crate::facts::Facts;
use crate::failure::{Failure, Outcome};
use crate::here::{Here, size};
use crate::interrupt::Interrupt;
use crate::models::planned;
use crate::named;
use crate::output::Output;
use progress::Download;

/// Get a model from Hugging Face, or another hub with the same interface
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PullArgs {
    /// NAME:TAG of the catalog (coder models --all), with -QUANT behind it for another quantization; or `OWNER/REPO[:QUANT]`
    /// for any repository with GGUF files, also with hf.co/ before it
    #[arg(value_name = "NAME", required = true, value_parser = crate::names::Names, hide_possible_values = true)]
    names: Vec<String>,
    /// Print what would be fetched, how much it is, and whether it fits this machine; fetch nothing
    #[arg(long)]
    dry_run: bool,
    /// Branch, tag or commit of the repository
    #[arg(long, value_name = "REVISION", default_value = "main")]
    revision: String,
    /// Take a file whose fingerprint is another one than is known
    #[arg(long)]
    update: bool,
    /// Fetch it even if it cannot be run here, for other programs that share the cache
    #[arg(long)]
    anyway: bool,
    /// Print one JSON object for each model
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  coder pull qwen2.5-coder:7b                    Q4_K_M, 4.7 GB
  coder pull qwen2.5-coder:7b-q8_0               another quantization of it
  coder pull qwen3-coder:30b --dry-run    what it would fetch; does it fit here
  coder pull hf.co/bartowski/Qwen2.5-Coder-14B-Instruct-GGUF:Q5_K_M
  coder run task.md --model qwen2.5-coder:7b

This is the only command that fetches models, and it connects to one hub: huggingface.co, or
HF_ENDPOINT, and where that sends it for the file. Files go to the cache that Hugging Face's
programs share (HF_HOME, or ~/.cache/huggingface). A token is taken from HF_TOKEN, or from the
file `token` in HF_HOME; it is sent to the hub alone. A download that was cut, stopped with
Ctrl-C or killed goes on where it was. Every file is held against its SHA-256: the catalog's,
else the one that the hub tells, which is remembered. HTTPS_PROXY is used for hubs with https.";

pub(crate) fn run(args: PullArgs) -> Outcome {
    let cache = Cache::locate(|name| env::var_os(name)).map_err(Failure::new)?;
    let hub = Hub::new(|name| env::var_os(name), Options::default()).map_err(Failure::new)?;
    // Wrong names first: nothing is fetched if there is one.
    let catalog = Catalog::built_in();
    let wanted: Vec<_> = args
        .names
        .iter()
        .map(|name| Wanted::parse(name, catalog))
        .collect::<Result<_, _>>()
        .map_err(Failure::new)?;
    let pins = named::data_folder().map(|folder| Pins::new(folder.join("pins")));
    let interrupt = Interrupt::install()?;
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = cancel.clone();
    let _during = interrupt.during(move || flag.store(true, Ordering::Relaxed));
    let pull = Pull { args: &args, cache, hub, pins, cancel, here: Here::look() };
    let mut out = Output::new();
    for (name, wanted) in args.names.iter().zip(&wanted) {
        pull.one(name, wanted, &mut out)?;
    }
    Ok(())
}

/// What is the same for all models.
struct Pull<'a> {
    args: &'a PullArgs,
    cache: Cache,
    hub: Hub,
    pins: Option<Pins>,
    cancel: Arc<AtomicBool>,
    here: Here,
}

/// A model that was found on the hub.
struct Choice<'a> {
    name: String,
    entry: Option<&'a Entry>,
    listing: Listing,
    set: FileSet<Remote>,
    /// Of each file, whose word its fingerprint is.
    from: Vec<&'static str>,
    /// What is missing, and what is free.
    needed: u64,
    free: Option<u64>,
}

impl Pull<'_> {
    fn one(&self, name: &str, wanted: &Wanted<'_>, out: &mut Output) -> Outcome {
        let choice = self.choose(name, wanted)?;
        if self.args.dry_run {
            return self.plan(&choice, out);
        }
        let files: Vec<_> = choice.set.parts.iter().map(|part| part.path.as_str()).collect();
        let total = choice.bytes();
        match choice.needed {
            0 => eprintln!("{}: {} is here", choice.name, files.join(", ")),
            needed if needed < total => {
                eprintln!(
                    "{}: {} of {} from {}, the rest is here",
                    choice.name,
                    size(needed),
                    size(total),
                    self.hub.host()
                );
            }
            needed => {
                eprintln!("{}: {}, {} from {}", choice.name, files.join(", "), size(needed), self.hub.host())
            }
        }
        let mut download = Download::new(&choice.name, total, choice.set.parts.len());
        let fetched = self
            .hub
            .fetch(&self.cache, &choice.listing, &choice.set, &self.cancel, &mut |event| download.on(event));
        drop(download);
        let fetched = fetched.map_err(|error| self.stopped(&choice, error))?;
        if let Some(pins) = &self.pins {
            for file in &fetched {
                pins.set(&choice.listing.repo, &file.file, &file.remote).map_err(Failure::new)?;
            }
        }
        self.done(&choice, &fetched, out)
    }

    /// Ctrl-C is no error, and says what is kept.
    fn stopped(&self, choice: &Choice<'_>, error: Error) -> Failure {
        if let Error::Cancelled { .. } = error {
            let (left, _) = self.hub.missing(&self.cache, &choice.listing, &choice.set);
            let (total, name) = (choice.bytes(), &choice.name);
            let kept = size(total.saturating_sub(left));
            eprintln!("stopped: {kept} of {} are kept, `coder pull {name}` goes on there", size(total));
            return Failure::interrupted();
        }
        Failure::new(error)
    }

    /// Finds the files that a name stands for, and refuses what would be of no use before anything is fetched.
    fn choose<'a>(&self, name: &str, wanted: &Wanted<'a>) -> Outcome<Choice<'a>> {
        let (entry, listing, set) = match wanted {
            Wanted::Entry { entry, quant } => {
                self.useless(name, entry.cannot_run.as_deref())?;
                let (listing, set) = self.of_entry(entry, quant.as_deref())?;
                (Some(*entry), listing, set)
            }
            Wanted::Repository { repo, quant } => {
                let listing = self.ask(repo)?;
                let entry = Catalog::built_in().of_repository(listing.repo.as_str());
                let preferred = entry.map_or(DEFAULT, |entry| entry.quantization.as_str());
                let set = listing.choose(quant.as_deref(), &[preferred, DEFAULT]).map_err(Failure::new)?;
                (entry, listing, set)
            }
        };
        self.useless(name, unreadable(&listing, &set).as_deref())?;
        let from = self.pinned(&listing, &set)?;
        let name = match (entry, &set.label) {
            (Some(entry), Some(label)) => entry.name_with(label),
            (_, label) => format!("{}:{}", listing.repo, label.as_ref().unwrap_or(&set.parts[0].path)),
        };
        let (needed, free) = self.hub.missing(&self.cache, &listing, &set);
        Ok(Choice { name, entry, listing, set, from, needed, free })
    }

    /// The first of an entry's repositories that has the quantization.
    fn of_entry(&self, entry: &Entry, quant: Option<&str>) -> Outcome<(Listing, FileSet<Remote>)> {
        let wanted = quant.unwrap_or(&entry.quantization);
        let mut first = None;
        for repo in &entry.repositories {
            let chosen = self.ask(&RepoId::new(repo).map_err(Failure::new)?).and_then(|listing| {
                let set = listing.choose(Some(wanted), &[]);
                set.map(|set| (listing, set)).map_err(Failure::new)
            });
            match chosen {
                Ok(chosen) => return Ok(chosen),
                Err(failure) if failure.is_quiet() => return Err(failure),
                Err(failure) => first = first.or(Some(failure)),
            }
        }
        Err(first.unwrap_or_else(|| Failure::new(format!("`{}` is in no repository", entry.name))))
    }

    fn ask(&self, repo: &RepoId) -> Outcome<Listing> {
        self.hub.repository(repo, &self.args.revision, &self.cancel).map_err(|error| match error {
            Error::Cancelled { .. } => Failure::interrupted(),
            error => Failure::new(error),
        })
    }

    fn useless(&self, name: &str, reason: Option<&str>) -> Outcome {
        match reason {
            Some(reason) if !self.args.anyway => Err(Failure::new(format!(
                "`{name}` cannot be run here: {reason}; --anyway fetches it for other programs"
            ))),
            _ => Ok(()),
        }
    }

    /// Holds what the hub says against what is known. Returns whose word each fingerprint is.
    fn pinned(&self, listing: &Listing, set: &FileSet<Remote>) -> Outcome<Vec<&'static str>> {
        let of = |part: &coder_hub::Part<Remote>| {
            let catalog =
                Catalog::built_in().pinned(listing.repo.as_str(), &part.path).map(|pin| pin.sha256.clone());
            let before = self.pins.as_ref().and_then(|pins| pins.get(&listing.repo, &part.path));
            let known =
                [(catalog, "catalog", "the catalog knows"), (before, "earlier pull", "was fetched before")];
            let of_hub = &part.about.sha256;
            // One of them is enough: what was taken with --update is known from then on, whatever the catalog says.
            if let Some((_, from, _)) = known.iter().find(|(sha256, ..)| sha256.as_ref() == Some(of_hub)) {
                return Ok(*from);
            }
            let other = known.into_iter().find_map(|(sha256, _, known_from)| Some((sha256?, known_from)));
            if let Some((known, known_from)) = other.filter(|_| !self.args.update) {
                let (file, found) = (part.path.clone(), of_hub.clone());
                return Err(Failure::new(Error::Changed { file, known_from, known, found }));
            }
            Ok("hub")
        };
        set.parts.iter().map(of).collect()
    }

    /// What would be fetched.
    fn plan(&self, choice: &Choice<'_>, out: &mut Output) -> Outcome {
        let Choice { name, entry, listing, set, from, needed, free } = choice;
        let label = set.label.as_deref().unwrap_or_default();
        let fit = entry.and_then(|entry| planned(entry, label, &self.here).1);
        if self.args.json {
            let mut value = choice.json();
            value["needed_bytes"] = json!(needed);
            value["free_bytes"] = json!(free);
            value["fit"] = json!(fit);
            return Ok(out.json(&value)?);
        }
        out.line(&format!("{name}: {} at {}", listing.repo, listing.commit))?;
        for (part, from) in set.parts.iter().zip(from) {
            let Remote { bytes, sha256 } = &part.about;
            out.line(&format!("  {}, {}, SHA-256 {sha256} ({from})", part.path, size(*bytes)))?;
        }
        let free = free.map_or("unknown".to_string(), size);
        out.line(&format!(
            "  to fetch: {} of {}; free: {free} in {}",
            size(*needed),
            size(choice.bytes()),
            self.cache.folder().display()
        ))?;
        let fits = fit.map_or("not known before it is here".to_string(), |fit| fit.words());
        Ok(out.line(&format!("  fits here: {fits}"))?)
    }

    /// Opens what was fetched, and says what it is.
    fn done(&self, choice: &Choice<'_>, fetched: &[Fetched], out: &mut Output) -> Outcome {
        let path = fetched[0].path.clone();
        let facts = Facts::of(&Source::Path(path.clone()), &self.here);
        if self.args.json {
            let mut value = choice.json();
            let paths = fetched.iter().map(|file| json!(file.path));
            for (file, path) in value["files"].as_array_mut().into_iter().flatten().zip(paths) {
                file["path"] = path;
            }
            let came = fetched.iter().map(|file| match file.source {
                coder_hub::Source::Hub(bytes) => bytes,
                coder_hub::Source::Cache => 0,
            });
            value["fetched_bytes"] = json!(came.sum::<u64>());
            value["fit"] = json!(facts.as_ref().ok().and_then(|facts| facts.fit));
            value["problem"] = json!(facts.as_ref().err().map(Failure::reason));
            out.json(&value)?;
        } else {
            out.line(&format!("{}  {}", choice.name, path.display()))?;
        }
        // Of several commits the name means that of `main`, where it is here.
        let meant = self
            .cache
            .of(&choice.listing.repo)
            .into_iter()
            .find(|model| model.files.iter().eq(fetched.iter().map(|file| &file.file)));
        if let Some(meant) =
            meant.filter(|meant| meant.paths[0].canonicalize().ok() != path.canonicalize().ok())
        {
            let (name, commit) = (&choice.name, meant.commit);
            eprintln!("{name}: the name means the one of {commit}; --model {} is this one", path.display());
        }
        match facts {
            Ok(facts) => {
                if let Some(fit) = facts.fit {
                    eprintln!(
                        "{}: {} in {}, fits here: {}",
                        choice.name,
                        facts.architecture,
                        size(choice.bytes()),
                        fit.words()
                    );
                }
                Ok(())
            }
            Err(_) if self.args.anyway => Ok(()),
            Err(failure) => Err(Failure::new(format!(
                "`{}` was fetched and is what was promised, but cannot be run: {}; `coder rm {}` removes it",
                choice.name,
                failure.reason(),
                choice.name
            ))),
        }
    }
}

impl Choice<'_> {
    fn bytes(&self) -> u64 {
        self.set.parts.iter().map(|part| part.about.bytes).fold(0, u64::saturating_add)
    }

    fn json(&self) -> Value {
        let file = |(part, from): (&coder_hub::Part<Remote>, &&str)| json!({ "file": part.path, "bytes": part.about.bytes, "sha256": part.about.sha256, "sha256_from": from });
        json!({
            "name": self.name, "repository": self.listing.repo.as_str(), "commit": self.listing.commit,
            "license": self.listing.license, "quantization": self.set.label, "bytes": self.bytes(),
            "files": self.set.parts.iter().zip(&self.from).map(file).collect::<Vec<_>>(),
        })
    }
}

/// Why the engine could not read it, as far as names and the hub's own look into the files say.
fn unreadable(listing: &Listing, set: &FileSet<Remote>) -> Option<String> {
    use coder_engine::Architecture::{Qwen2, Qwen3, Qwen3Moe};
    let known = [Qwen2, Qwen3, Qwen3Moe].map(coder_engine::Architecture::name);
    if let Some(architecture) = listing.architecture.as_deref().filter(|name| !known.contains(name)) {
        return Some(format!("the architecture {architecture} is not implemented; {} are", known.join(", ")));
    }
    let label = set.label.as_deref()?;
    if readable(label) {
        return None;
    }
    let known = FileType::ALL.map(FileType::name).join(", ");
    Some(format!("the quantization {label} is not implemented; {known} are"))
}

/// Whether weights of a mix are of types that the engine has. Mixes with an ending of their own (`Q4_K_L`, `UD-Q4_K_XL`) have
/// the types of their neighbours; whether that is true of all tensors is seen when the file is here.
fn readable(label: &str) -> bool {
    let label = label.strip_prefix("UD-").unwrap_or(label);
    let known = label.parse::<FileType>().is_ok();
    known
        || ["Q2_K_", "Q3_K_", "Q4_K_", "Q5_K_", "Q6_K_", "Q8_K_"].iter().any(|start| label.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantizations_that_the_engine_has_no_types_for_are_told_before() {
        for label in ["Q4_K_M", "q8_0", "F16", "UD-Q4_K_XL", "Q6_K_L", "IQ4_XS"] {
            assert!(readable(label), "{label}");
        }
        for label in ["IQ2_XXS", "UD-IQ1_S", "MXFP4_MOE", "TQ1_0", "Q4_0_4_4"] {
            assert!(!readable(label), "{label}");
        }
    }
}
