//! What a model file says of itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coder_engine::fit::Tensors;
use coder_engine::{CallFormat, FileType, Source, TextModel, Weights};
use coder_tasks::Plain;
use serde::Serialize;

use crate::failure::Outcome;
use crate::here::{Fit, Here};

/// The facts of a model that is here.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Facts {
    /// The name that it gives itself.
    pub(crate) title: Option<String>,
    pub(crate) architecture: String,
    /// Number of weights.
    pub(crate) parameters: u64,
    /// Of a mixture of experts, how many there are, and how many a token uses.
    pub(crate) experts: Option<(usize, usize)>,
    pub(crate) layers: usize,
    pub(crate) vocabulary: usize,
    /// Tokens that it was trained for.
    pub(crate) context: usize,
    /// The published mix, if the file says which.
    pub(crate) quantization: Option<String>,
    /// Bytes of weights in each type, the most first.
    pub(crate) mix: Vec<(String, u64)>,
    pub(crate) license: Option<String>,
    /// Whether it has a chat template.
    pub(crate) template: bool,
    /// Whether it can fill gaps.
    pub(crate) fills: bool,
    /// How it writes calls, by its template: json or xml.
    pub(crate) calls: Option<&'static str>,
    pub(crate) fit: Option<Fit>,
}

impl Facts {
    /// Reads them; nothing is loaded.
    pub(crate) fn of(source: &Source, here: &Here) -> Outcome<Self> {
        let weights = source.weights()?;
        let config = weights.config();
        let text = TextModel::open(source)?;
        let metadata = |key: &str| Some(clean(weights.gguf()?.metadata().str(key).ok()??));
        let calls = text.template.as_ref().map(|_| match CallFormat::of(&text.tokenizer) {
            CallFormat::Json => "json",
            CallFormat::Xml => "xml",
        });
        Ok(Self {
            title: config.name.as_deref().map(clean),
            architecture: config.architecture.name().to_string(),
            parameters: config.parameters(),
            experts: config.moe.map(|moe| (moe.experts, moe.top_k)),
            layers: config.layers,
            vocabulary: config.vocab,
            context: config.context,
            quantization: quantization(&weights),
            mix: mix(&weights),
            license: metadata("general.license"),
            template: text.template.is_some(),
            fills: text.tokenizer.fim().is_some(),
            calls,
            fit: here.fit(Tensors::Of(&weights))?,
        })
    }

    /// In one line, for lists.
    pub(crate) fn mix_line(&self) -> String {
        let all: u64 = self.mix.iter().map(|(_, bytes)| bytes).sum();
        let share = |bytes: u64| 100.0 * bytes as f64 / all.max(1) as f64;
        let of = |(kind, bytes): &(String, u64)| format!("{kind} {:.1} %", share(*bytes));
        self.mix.iter().map(of).collect::<Vec<_>>().join(", ")
    }
}

/// The mix that a GGUF file says it is.
fn quantization(weights: &Weights) -> Option<String> {
    let number = weights.gguf()?.metadata().u32("general.file_type").ok()??;
    FileType::ALL.into_iter().find(|kind| kind.number() == number).map(FileType::name)
}

fn mix(weights: &Weights) -> Vec<(String, u64)> {
    let mut mix = BTreeMap::new();
    for tensor in weights.gguf().into_iter().flat_map(|gguf| gguf.tensors()) {
        *mix.entry(tensor.type_name()).or_insert(0) += tensor.data().len() as u64;
    }
    let mut mix: Vec<(String, u64)> = mix.into_iter().collect();
    mix.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    mix
}

/// A file's words, fit for a terminal and a line.
fn clean(text: &str) -> String {
    let text: String = text.chars().take(200).collect();
    Plain::default().filter(&text).replace(['\n', '\t'], " ")
}

/// Bytes of a model: of all files of a folder, of all parts of a split file.
pub(crate) fn bytes_of(path: &Path) -> u64 {
    let name = crate::named::name_of(path);
    // The parent of a bare name is empty, and means the working folder.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = if path.is_dir() { path } else { parent };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(|file| file.is_file());
    let is_part =
        |file: &PathBuf| file.extension() == path.extension() && crate::named::name_of(file) == name;
    let parts = files.filter(|file| path.is_dir() || is_part(file));
    parts.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_has_the_size_of_its_file() {
        let expected = std::fs::metadata("Cargo.toml").unwrap().len();
        assert_eq!(bytes_of(Path::new("Cargo.toml")), expected);
        assert_eq!(bytes_of(Path::new("./Cargo.toml")), expected);
    }
}
