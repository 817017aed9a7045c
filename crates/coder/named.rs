//! From the text after `--model` to a model, for every command: the bundled one, a path, a name in a models folder, or a
//! name of what `coder pull` or another program put into Hugging Face's cache. Without it, the user's configuration says
//! which model is the local one.

use std::env;
use std::path::{Path, PathBuf};

use coder_engine::Source;
use coder_escalate::{Config, Reach};
use coder_hub::{Cache, Catalog, DEFAULT, Installed, Wanted};

use crate::bundled;
use crate::config;
use crate::failure::{Failure, Outcome};

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    /// Part of the program.
    Bundled,
    /// A GGUF file or a folder.
    Path(PathBuf),
    /// A model of the cache, by its name.
    Installed(String, Box<Installed>),
}

impl Found {
    /// What it is called.
    pub(crate) fn name(&self) -> String {
        match self {
            Found::Bundled => bundled::NAME.to_string(),
            Found::Path(path) => name_of(path),
            Found::Installed(name, _) => name.clone(),
        }
    }

    /// What an engine opens.
    pub(crate) fn source(self) -> Source {
        match self {
            Found::Bundled => Source::Bytes { name: bundled::NAME, data: bundled::bytes() },
            Found::Path(path) => Source::Path(path),
            Found::Installed(_, model) => Source::Path(model.paths.into_iter().next().unwrap_or_default()),
        }
    }
}

/// Words for the default model, that of the rung `local`.
pub(crate) const WORDS: [&str; 2] = ["local", "free"];

/// The model that `--model` names, or the default one, and its name for people.
pub(crate) fn source(model: Option<&str>) -> Outcome<(Source, String)> {
    let found = resolve(model.unwrap_or(WORDS[0]))?;
    let name = found.name();
    Ok((found.source(), name))
}

/// What `name` means, if it is here.
pub(crate) fn find(name: &str) -> Option<Found> {
    resolve(name).ok()
}

/// Whether a task's `model` is the name of a local model, here or to be had.
pub(crate) fn is_known(name: &str) -> bool {
    let name = name.strip_prefix("local:").unwrap_or(name);
    find(name).is_some() || Wanted::parse(name, Catalog::built_in()).is_ok()
}

/// What `name` means; the error names the remedy.
pub(crate) fn resolve(name: &str) -> Outcome<Found> {
    if !WORDS.contains(&name) {
        return written(name);
    }
    let model = configured(name, &config::user()?)?;
    written(&model)
        .map_err(|failure| Failure::new(format!("the model of coder config: {}", failure.reason())))
}

/// The model that a word for the default one means in a configuration.
fn configured(word: &str, config: &Config) -> Outcome<String> {
    let (name, rung) = config.rung(word).map_err(Failure::new)?;
    match &rung.reach {
        // A word for itself says nothing.
        Reach::Engine(model) if !WORDS.contains(&model.as_str()) => Ok(model.clone()),
        Reach::Engine(_) | Reach::Here => Ok(bundled::NAME.to_owned()),
        Reach::Endpoint { .. } => Err(Failure::new(format!(
            "`{word}` is another name for `{name}` in coder config, which is no model here; use `local`, or name one"
        ))),
    }
}

/// What a name means that is no word for another.
fn written(name: &str) -> Outcome<Found> {
    if name == bundled::NAME {
        return Ok(Found::Bundled);
    }
    let path = Path::new(name);
    if path.exists() {
        return Ok(Found::Path(path.to_path_buf()));
    }
    let is_name = path.components().count() == 1;
    let found = folders().iter().filter(|_| is_name).find_map(|folder| in_folder(folder, name));
    match found {
        Some(path) => Ok(Found::Path(path)),
        None => installed(name, &cached(), path),
    }
}

/// Folders that are searched for names: `models/` here, then the user's own.
pub(crate) fn folders() -> Vec<PathBuf> {
    [Some(PathBuf::from("models")), data_folder().map(|data| data.join("models"))]
        .into_iter()
        .flatten()
        .collect()
}

/// `coder` in the user's data folder, which need not be there.
pub(crate) fn data_folder() -> Option<PathBuf> {
    let data = env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(env::home_dir()?.join(".local/share")));
    data.map(|data| data.join("coder"))
}

/// Hugging Face's cache; without a home folder there is none.
pub(crate) fn cache() -> Option<Cache> {
    Cache::locate(|name| env::var_os(name)).ok()
}

/// The models in it with their names: the catalog's, or the repository's. No two have the same.
pub(crate) fn cached() -> Vec<(String, Installed)> {
    let mut named: Vec<(String, Installed)> = Vec::new();
    for model in cache().iter().flat_map(Cache::models) {
        let plain = repository_name(&model);
        let entry = Catalog::built_in().of_repository(model.repo.as_str());
        let name =
            entry.zip(model.label.as_deref()).map_or(plain.clone(), |(entry, label)| entry.name_with(label));
        let taken = |name: &str| named.iter().any(|(other, _)| other == name);
        let name = [name, plain].into_iter().find(|name| !taken(name));
        let name = name.unwrap_or_else(|| format!("{}:{}", model.repo, model.files[0]));
        named.push((name, model));
    }
    named
}

/// `OWNER/REPO:QUANT`, or the file where its name says no quantization.
fn repository_name(model: &Installed) -> String {
    format!("{}:{}", model.repo, model.label.as_ref().unwrap_or(&model.files[0]))
}

/// The model of the cache that a name means.
fn installed(name: &str, cached: &[(String, Installed)], path: &Path) -> Outcome<Found> {
    let found = |(name, model): &(String, Installed)| Found::Installed(name.clone(), Box::new(model.clone()));
    if let Some(exact) = cached.iter().find(|(other, _)| other == name) {
        return Ok(found(exact));
    }
    let catalog = Catalog::built_in();
    let is_path = path.components().count() > 1;
    if !name.contains(':') && path.extension().is_some_and(|ending| ending == "gguf") {
        return Err(missing(name, &[]));
    }
    let wanted = match Wanted::parse(name, catalog) {
        Ok(wanted) => wanted,
        Err(coder_hub::Error::Unknown { near, .. }) => return Err(missing(name, &near)),
        // A path that is not there is no name with a fault in it.
        Err(coder_hub::Error::BadName { .. }) if is_path => return Err(missing(name, &[])),
        Err(error) => return Err(Failure::new(error)),
    };
    let (repos, quant, preferred): (Vec<&str>, _, _) = match &wanted {
        Wanted::Entry { entry, quant } => {
            (entry.repositories.iter().map(String::as_str).collect(), quant, entry.quantization.as_str())
        }
        Wanted::Repository { repo, quant } => (vec![repo.as_str()], quant, DEFAULT),
    };
    // In the order of the repositories.
    let here: Vec<_> = repos
        .iter()
        .flat_map(|repo| {
            cached.iter().filter(move |(_, model)| model.repo.as_str().eq_ignore_ascii_case(repo))
        })
        .collect();
    let with = |wanted: &str| {
        here.iter().find(|(_, model)| model.label.as_deref() == Some(wanted) || model.files[0] == wanted)
    };
    match (quant, &here[..]) {
        (Some(quant), _) => with(quant).map(|model| found(model)).ok_or_else(|| absent(name, &wanted, &here)),
        (None, [only]) => Ok(found(only)),
        (None, []) => Err(absent(name, &wanted, &here)),
        (None, several) => with(preferred).map(|model| found(model)).ok_or_else(|| {
            let choices = several.iter().map(|(name, _)| name.clone()).collect();
            Failure::new(coder_hub::Error::Ambiguous { name: name.to_string(), choices })
        }),
    }
}

/// A model that is known and not here.
fn absent(name: &str, wanted: &Wanted<'_>, here: &[&(String, Installed)]) -> Failure {
    if let Wanted::Entry { entry, .. } = wanted
        && let Some(reason) = &entry.cannot_run
    {
        return Failure::new(format!(
            "model `{name}` cannot be run here: {reason}; `coder models --all` lists what can"
        ));
    }
    let others = match here {
        [] => String::new(),
        here => format!(", or use {}", list(here.iter().map(|(name, _)| name.as_str()))),
    };
    Failure::new(format!("model `{name}` is not here; get it with `coder pull {name}`{others}"))
}

/// `name`, `name.gguf`, or the first part of a split `name`.
fn in_folder(folder: &Path, name: &str) -> Option<PathBuf> {
    let exact = folder.join(name);
    if is_model(&exact) {
        return Some(exact);
    }
    in_models_folder(folder).into_iter().find(|path| name_of(path) == name)
}

/// The models in a folder, sorted by path: GGUF files (of split ones the first) and folders with a `config.json`.
pub(crate) fn in_models_folder(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).filter(|path| is_model(path)).collect();
    paths.sort();
    paths
}

fn is_model(path: &Path) -> bool {
    if path.is_dir() {
        return path.join("config.json").is_file();
    }
    let gguf = path.extension().is_some_and(|extension| extension == "gguf");
    let part = split_name(path).map(|(_, part)| part);
    gguf && path.is_file() && part.is_none_or(|part| part == "00001")
}

/// What a model in a folder is called: the file without its ending and without the number of its part.
pub(crate) fn name_of(path: &Path) -> String {
    match split_name(path) {
        Some((name, _)) => name,
        None if path.is_dir() => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        None => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

/// Name and part of `name-00001-of-00003.gguf`.
fn split_name(path: &Path) -> Option<(String, String)> {
    let stem = path.file_stem()?.to_str()?;
    let (rest, total) = stem.rsplit_once("-of-")?;
    let (name, part) = rest.rsplit_once('-')?;
    let number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    (number(part) && number(total)).then(|| (name.to_string(), part.to_string()))
}

fn missing(name: &str, near: &[String]) -> Failure {
    let mut names = vec![bundled::NAME.to_string()];
    names.extend(folders().iter().flat_map(|folder| in_models_folder(folder)).map(|path| name_of(&path)));
    names.extend(cached().into_iter().map(|(name, _)| name));
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let is_file = name.ends_with(".gguf") || Path::new(name).components().count() > 1;
    let what = if is_file { ", and no such file" } else { "" };
    let near = match near {
        [] => "`coder models --all` lists those that `coder pull` can get".to_string(),
        near => {
            format!("or was {} meant, which `coder pull` can get?", list(near.iter().map(String::as_str)))
        }
    };
    Failure::new(format!(
        "no model `{name}`{what}: give the path of a GGUF file, or one of the names {} (`coder models` lists them); {near}",
        list(names.iter().map(String::as_str))
    ))
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Covers S0-10, S2-40: the user's configuration says once which model is the local one.
    #[test]
    fn the_default_model_is_that_of_the_rung_local() {
        let config = |text: &str| {
            let source = coder_escalate::config::Source {
                name: "coder.toml",
                text,
                trust: coder_escalate::config::Trust::Own,
            };
            Config::layered(&[source], &Default::default()).unwrap()
        };
        let model = |word: &str, text: &str| configured(word, &config(text));
        for word in WORDS {
            assert_eq!(model(word, "").unwrap(), "coder-tiny");
            assert_eq!(model(word, "rungs.local.engine = \"qwen.gguf\"").unwrap(), "qwen.gguf");
            assert_eq!(model(word, "rungs.local.engine = \"free\"").unwrap(), "coder-tiny");
        }
        let other = "[rungs.big]\nengine = \"big.gguf\"\naliases = [\"free\"]\n";
        assert_eq!(
            (model("free", other).unwrap(), model("local", other).unwrap()),
            ("big.gguf".into(), "coder-tiny".into())
        );
        let cloud = "rungs.haiku.aliases = [\"free\"]";
        assert!(model("free", cloud).unwrap_err().reason().contains("`haiku`"));
        assert_eq!((find("coder-tiny"), find("no-such-model")), (Some(Found::Bundled), None));
    }

    #[test]
    fn a_folder_lists_whole_models() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.gguf", "a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "notes.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("c")).unwrap();
        fs::write(folder.path().join("c/config.json"), "{}").unwrap();
        let names: Vec<_> = in_models_folder(folder.path()).iter().map(|path| name_of(path)).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(in_folder(folder.path(), "a").unwrap().ends_with("a-00001-of-00002.gguf"));
        assert!(in_folder(folder.path(), "b").unwrap().ends_with("b.gguf"));
        assert_eq!(in_folder(folder.path(), "d"), None);
    }

    fn model(repo: &str, label: &str) -> (String, Installed) {
        let file = format!("m-{label}.gguf");
        let (repo, name) = (coder_hub::RepoId::new(repo).unwrap(), format!("{repo}:{label}"));
        let label = Some(label.to_string());
        let paths = vec![PathBuf::from(&file)];
        (name, Installed { repo, commit: "0".repeat(40), label, files: vec![file], paths, bytes: 1 })
    }

    /// Covers S0-12: names are resolved as they are written, and an error says how to get what is not here.
    #[test]
    fn a_name_is_one_model_of_the_cache_or_says_why_not() {
        let repo = "Qwen/Qwen2.5-Coder-7B-Instruct-GGUF";
        let cached = [
            model(repo, "Q4_K_M"),
            model(repo, "Q8_0"),
            model("a/b", "Q6_K"),
            model("a/c", "Q5_0"),
            model("a/c", "Q6_K"),
        ];
        let find = |name: &str| installed(name, &cached, Path::new(name));
        let label = |name: &str| match find(name) {
            Ok(Found::Installed(_, model)) => model.label.unwrap(),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(label("qwen2.5-coder:7b"), "Q4_K_M");
        assert_eq!(label("qwen2.5-coder:7b-q8_0"), "Q8_0");
        assert_eq!(label("hf.co/A/B"), "Q6_K");
        assert_eq!(label("a/c:q5_0"), "Q5_0");
        let reason = |name: &str| find(name).unwrap_err().reason().to_string();
        assert!(reason("qwen2.5-coder:32b").contains("`coder pull qwen2.5-coder:32b`"));
        assert!(
            reason("qwen2.5-coder:7b-q6_k").contains("or use `Qwen/Qwen2.5-Coder-7B-Instruct-GGUF:Q4_K_M`")
        );
        assert!(reason("a/c").contains("`a/c:Q5_0`, `a/c:Q6_K`"));
        assert!(reason("deepseek-coder-v2:16b").contains("deepseek2"));
        assert!(reason("qwen2.5-codr:7b").contains("`qwen2.5-coder:7b`"));
        assert!(reason("./not/there").contains("no model") && reason("not/there.gguf").contains("no model"));
        // A path was given; what is like it is no help.
        let reason = reason("qwen.gguf");
        assert!(reason.starts_with("no model `qwen.gguf`, and no such file: "), "{reason}");
        assert!(!reason.contains("meant") && reason.matches("`coder-tiny`").count() == 1, "{reason}");
    }
}
