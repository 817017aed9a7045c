//! Known models and their facts: data of models/catalog.json, which is part of the program.
//!
//! A fact that is not known is not there. Fingerprints and sizes of files are those that were published; of other files,
//! the hub tells them when they are fetched.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::name::key;

/// All known models.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// When the facts were looked up.
    pub dated: String,
    /// In the order of families and sizes.
    pub models: Vec<Entry>,
}

/// A known model.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// `family:size`, as Ollama names it.
    pub name: String,
    /// Other names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The name that its makers gave it.
    pub published: String,
    /// What it is for.
    #[serde(rename = "for")]
    pub purpose: Use,
    /// A sentence about it.
    pub about: String,
    /// As GGUF files name it.
    pub architecture: String,
    /// Weights in billions, as published.
    pub billions: f64,
    /// Of a mixture of experts, those that a token uses.
    #[serde(default)]
    pub active_billions: Option<f64>,
    /// Tokens that it was trained for.
    #[serde(default)]
    pub context: Option<u32>,
    /// Its license.
    pub license: String,
    /// How it writes calls of functions.
    pub calls: Calls,
    /// The name of its dimensions in this program.
    #[serde(default)]
    pub shape: Option<String>,
    /// Why this program cannot run it.
    #[serde(default)]
    pub cannot_run: Option<String>,
    /// The quantization that is taken where none is asked for.
    #[serde(default = "default_quantization")]
    pub quantization: String,
    /// Repositories that have it, the first one first.
    pub repositories: Vec<String>,
    /// Files whose fingerprints are known.
    #[serde(default)]
    pub files: Vec<Pinned>,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// Code, by instruction.
    Code,
    /// Anything, by instruction.
    Chat,
    /// Going on with code, and filling gaps in it.
    Fill,
    /// Texts as vectors.
    Embed,
}

/// How a model writes calls of functions.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Calls {
    /// JSON between `<tool_call>` tags.
    Json,
    /// `<function=…>` and `<parameter=…>`.
    Xml,
    /// In a form that this program does not read.
    Other,
    /// It has not learnt to.
    None,
}

/// A file whose fingerprint is known.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// Where.
    pub repository: String,
    /// Path in the repository.
    pub file: String,
    /// Its size, if it was published.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// In hexadecimal.
    pub sha256: String,
}

fn default_quantization() -> String {
    crate::DEFAULT.to_owned()
}

/// Names that are told of an unknown one at most.
const NEAR: usize = 3;

impl Catalog {
    /// The one that is part of the program.
    pub fn built_in() -> &'static Catalog {
        static CATALOG: OnceLock<Catalog> = OnceLock::new();
        CATALOG.get_or_init(|| {
            let text = include_str!("../../../models/catalog.json");
            let parsed = serde_json::from_str(text);
            assert!(parsed.is_ok(), "models/catalog.json: {:?}", parsed.err());
            parsed.unwrap_or(Catalog { dated: String::new(), models: Vec::new() })
        })
    }

    /// The model that a name stands for, in any case and with `-` for `:`.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        let wanted = key(name);
        self.models.iter().find(|entry| entry.names().any(|name| key(name) == wanted))
    }

    /// The model that a repository has, if it is one of the catalog.
    pub fn of_repository(&self, repository: &str) -> Option<&Entry> {
        let has =
            |entry: &&Entry| entry.repositories.iter().any(|repo| repo.eq_ignore_ascii_case(repository));
        self.models.iter().find(has)
    }

    /// The fingerprint of a file, if it is known.
    pub fn pinned(&self, repository: &str, file: &str) -> Option<&Pinned> {
        let files = self.models.iter().flat_map(|entry| &entry.files);
        files.into_iter().find(|pinned| pinned.repository == repository && pinned.file == file)
    }

    /// Names of models whose names begin with whole words that the key begins with.
    pub(crate) fn beginning_with(&self, wanted: &str) -> Vec<String> {
        let begins = |name: &str| key(name).strip_prefix(wanted).is_some_and(|rest| rest.starts_with('-'));
        let found = self.models.iter().filter(|entry| entry.names().any(begins));
        found.map(|entry| entry.name.clone()).collect()
    }

    /// The names that are most like a key, the best first.
    pub(crate) fn near(&self, wanted: &str) -> Vec<String> {
        let wanted: String = wanted.chars().take(80).collect();
        let like = |name: &str| strsim::normalized_damerau_levenshtein(&wanted, &key(name));
        let best = |entry: &Entry| entry.names().map(like).fold(0.0, f64::max);
        let mut near: Vec<_> = self.models.iter().map(|entry| (best(entry), &entry.name)).collect();
        near.retain(|(like, _)| *like >= 0.5);
        near.sort_by(|one, other| other.0.total_cmp(&one.0));
        near.into_iter().take(NEAR).map(|(_, name)| name.clone()).collect()
    }
}

impl Entry {
    /// Every name of it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let others = self.aliases.iter().map(String::as_str);
        std::iter::once(self.name.as_str()).chain(std::iter::once(self.published.as_str())).chain(others)
    }

    /// Bytes of the files of a quantization, if they were published.
    pub fn bytes(&self, label: &str) -> Option<u64> {
        let of = |repository: &String| -> Option<u64> {
            let files = self.files.iter().filter(|file| file.repository == *repository);
            let mut files =
                files.filter(|file| crate::label(&file.file).as_deref() == Some(label)).peekable();
            files.peek()?;
            files.map(|file| file.bytes).sum()
        };
        self.repositories.iter().find_map(of)
    }

    /// What a quantization of it is called: the name alone for the one that is taken where none is asked for.
    pub fn name_with(&self, label: &str) -> String {
        if label == self.quantization {
            self.name.clone()
        } else {
            format!("{}-{}", self.name, label.to_lowercase())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{RepoId, Wanted, label};

    #[test]
    fn every_name_stands_for_one_model() {
        let catalog = Catalog::built_in();
        let mut seen = HashMap::new();
        for entry in &catalog.models {
            for name in entry.names() {
                if let Some(other) = seen.insert(key(name), &entry.name) {
                    assert_eq!(other, &entry.name, "`{name}` is a name of both");
                }
                let Ok(Wanted::Entry { entry: found, quant: None }) = Wanted::parse(name, catalog) else {
                    panic!("`{name}` does not resolve")
                };
                assert_eq!(found.name, entry.name);
            }
        }
        assert!(catalog.models.len() >= 30, "{}", catalog.models.len());
    }

    #[test]
    fn every_entry_has_its_facts() {
        for entry in &Catalog::built_in().models {
            let name = &entry.name;
            assert!(
                entry.name.contains(':') && !entry.about.is_empty() && !entry.license.is_empty(),
                "{name}"
            );
            assert!(!entry.repositories.is_empty(), "{name}");
            entry.repositories.iter().for_each(|repo| drop(RepoId::new(repo).unwrap()));
            assert!(
                entry.billions > 0.1 && entry.active_billions.is_none_or(|b| b < entry.billions),
                "{name}"
            );
            assert!(label(&format!("x-{}.gguf", entry.quantization)).is_some(), "{name}");
            for file in &entry.files {
                assert!(entry.repositories.contains(&file.repository), "{name}: {}", file.file);
                let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
                assert!(file.sha256.len() == 64 && file.sha256.chars().all(hex), "{name}: {}", file.file);
                assert!(label(&file.file).is_some() && file.bytes != Some(0), "{name}: {}", file.file);
            }
        }
    }
}
