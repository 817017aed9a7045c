//! What a user writes for a model: a name of the catalog with tag and quantization, or a repository of a hub.

use std::fmt;

use crate::{Catalog, Entry, Error, Result, quant};

/// A repository on a hub: `OWNER/REPO`, checked, so that it can be a part of a URL and of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoId(String);

impl RepoId {
    /// Checks a name.
    ///
    /// # Errors
    /// [`Error::BadName`] for anything that hubs do not allow.
    pub fn new(id: &str) -> Result<Self> {
        let bad = |problem| Error::BadName { name: shown(id), problem };
        let Some((owner, repo)) = id.split_once('/') else { return Err(bad("write OWNER/REPO")) };
        let plain = |part: &str| {
            let chars = part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
            let ends = |c: char| c == '.' || c == '-';
            (1..=96).contains(&part.len())
                && chars
                && !part.starts_with(ends)
                && !part.ends_with(ends)
                && !part.contains("--")
                && !part.contains("..")
        };
        if plain(owner) && plain(repo) {
            Ok(Self(id.to_owned()))
        } else {
            Err(bad("owner and repository have letters, digits, single `.`, `-` and `_`"))
        }
    }

    /// `OWNER/REPO`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is meant by a name.
#[derive(Clone, Debug)]
pub enum Wanted<'a> {
    /// A model of the catalog.
    Entry {
        /// Which.
        entry: &'a Entry,
        /// In capitals; the entry's own choice if none.
        quant: Option<String>,
    },
    /// Any repository.
    Repository {
        /// Which.
        repo: RepoId,
        /// In capitals, or a file's name with its ending.
        quant: Option<String>,
    },
}

impl<'a> Wanted<'a> {
    /// Reads `NAME[:TAG][:QUANT]` as Ollama has it (also `NAME:TAG-QUANT` and the published name, such as
    /// `Qwen2.5-Coder-7B-Instruct`), or `[hf.co/]OWNER/REPO[:QUANT]`. Case does not matter in names of the catalog and in
    /// quantizations.
    ///
    /// # Errors
    /// [`Error::Unknown`] with names that are near, [`Error::Ambiguous`], [`Error::BadName`].
    pub fn parse(name: &str, catalog: &'a Catalog) -> Result<Self> {
        let text = name.trim();
        if text.is_empty() || text.len() > 300 || text.chars().any(char::is_control) {
            return Err(Error::BadName { name: shown(name), problem: "write NAME:TAG or OWNER/REPO" });
        }
        if text.contains('/') {
            return repository(text);
        }
        let key = key(text);
        if let Some(entry) = catalog.get(&key) {
            return Ok(Wanted::Entry { entry, quant: None });
        }
        // A quantization has no `-` but the one after `UD`, so it is the last word, or the last two.
        for (at, _) in key.rmatch_indices('-').take(2) {
            let (rest, quant) = (&key[..at], key[at + 1..].to_ascii_uppercase());
            let known = quant::is_label(quant.strip_prefix("UD-").unwrap_or(&quant));
            if let Some(entry) = catalog.get(rest).filter(|_| known) {
                let quant = quant::label(&quant).unwrap_or(quant);
                return Ok(Wanted::Entry { entry, quant: Some(quant) });
            }
        }
        let begun = catalog.beginning_with(&key);
        if begun.is_empty() {
            return Err(Error::Unknown { name: shown(text), near: catalog.near(&key) });
        }
        Err(Error::Ambiguous { name: shown(text), choices: begun })
    }
}

fn repository<'a>(text: &str) -> Result<Wanted<'a>> {
    let mut rest = text.strip_prefix("https://").unwrap_or(text);
    for host in ["hf.co/", "huggingface.co/"] {
        rest = rest.strip_prefix(host).unwrap_or(rest);
    }
    let (id, quant) = match rest.split_once(':') {
        Some((id, quant)) => (id, Some(quant)),
        None => (rest, None),
    };
    let quant = match quant.filter(|quant| !quant.eq_ignore_ascii_case("latest")) {
        Some("") => return Err(Error::BadName { name: shown(text), problem: "no quantization after `:`" }),
        Some(file) if file.ends_with(".gguf") => Some(file.to_owned()),
        Some(quant) => {
            let upper = quant.to_ascii_uppercase();
            Some(quant::label(&upper).unwrap_or(upper))
        }
        None => None,
    };
    Ok(Wanted::Repository { repo: RepoId::new(id.trim_end_matches('/'))?, quant })
}

/// What is compared of names: they are the same in any case, with `-` for `:`, and with `latest` behind them.
pub fn key(name: &str) -> String {
    let key = name.to_ascii_lowercase().replace(':', "-");
    key.strip_suffix("-latest").unwrap_or(&key).to_owned()
}

/// A stranger's word, short enough and clean enough for a message on a terminal.
pub(crate) fn shown(name: &str) -> String {
    let mut out: String = name.chars().take(120).flat_map(char::escape_debug).collect();
    if name.chars().nth(120).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> (String, Option<String>) {
        match Wanted::parse(name, Catalog::built_in()).unwrap() {
            Wanted::Entry { entry, quant } => (entry.name.clone(), quant),
            Wanted::Repository { repo, quant } => (repo.to_string(), quant),
        }
    }

    #[test]
    fn names_are_read_in_every_form() {
        let of = |name: &str, quant: Option<&str>| (name.to_owned(), quant.map(str::to_owned));
        for (name, model, quant) in [
            ("qwen2.5-coder:32b", "qwen2.5-coder:32b", None),
            ("Qwen2.5-Coder:32B", "qwen2.5-coder:32b", None),
            ("qwen2.5-coder-32b", "qwen2.5-coder:32b", None),
            ("Qwen2.5-Coder-32B-Instruct", "qwen2.5-coder:32b", None),
            ("qwen2.5-coder:7b-q8_0", "qwen2.5-coder:7b", Some("Q8_0")),
            ("qwen2.5-coder:7b:Q8_0", "qwen2.5-coder:7b", Some("Q8_0")),
            ("qwen2.5-coder:7b-instruct-q5_K_M", "qwen2.5-coder:7b", Some("Q5_K_M")),
            ("qwen2.5-coder:7b-fp16", "qwen2.5-coder:7b", Some("F16")),
            ("qwen2.5-coder", "qwen2.5-coder:7b", None),
            ("qwen2.5-coder:latest", "qwen2.5-coder:7b", None),
            ("qwen3-coder:30b", "qwen3-coder:30b", None),
            ("qwen3-coder:30b-a3b-q4_K_M", "qwen3-coder:30b", Some("Q4_K_M")),
            ("qwen3-coder:30b-UD-Q4_K_XL", "qwen3-coder:30b", Some("UD-Q4_K_XL")),
            ("hf.co/Qwen/Qwen3-8B-GGUF:q4_k_m", "Qwen/Qwen3-8B-GGUF", Some("Q4_K_M")),
            ("https://huggingface.co/a/b", "a/b", None),
            ("a/b:latest", "a/b", None),
            ("a/b:model.gguf", "a/b", Some("model.gguf")),
        ] {
            assert_eq!(parse(name), of(model, quant), "{name}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused_in_words() {
        let error = |name| Wanted::parse(name, Catalog::built_in()).unwrap_err().to_string();
        assert!(error("qwen2.5-codr:32b").contains("`qwen2.5-coder:32b`"), "{}", error("qwen2.5-codr:32b"));
        assert!(error("wombat").contains("coder models --all"));
        for name in
            ["", "a/../b", "../x", "a/b/c", "a/b:", "-a/b", "a/.b", "a\n/b", "a--b/c", "a/b\\c", "a/b?x"]
        {
            assert!(matches!(Wanted::parse(name, Catalog::built_in()), Err(Error::BadName { .. })), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_name_is_too_strange(name in ".{0,400}") {
            let _ = Wanted::parse(&name, Catalog::built_in());
            if let Ok(repo) = RepoId::new(&name) {
                proptest::prop_assert!(!repo.as_str().contains("..") && repo.as_str().matches('/').count() == 1);
            }
        }
    }
}
