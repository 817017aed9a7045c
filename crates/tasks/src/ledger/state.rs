//! S2's state file: the figures of the local model in a JSON file that other programs own.
//!
//! Everything that is not ours keeps its place, its order and its exact text, numbers of any length among it. The
//! file is replaced as a whole, or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::counts::Counts;
use crate::{Error, Result};

/// Where the file is, relative to a project's folder.
pub const STATE_FILE: &str = ".claude/implementer-state.json";

/// The version that has these figures.
const VERSION: &str = "6.1";

/// S2-27's figures. A local attempt is a task on which the local model's work was judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalModelStats {
    /// Finished local attempts.
    pub total_attempts: u64,
    /// Those that the local model did.
    pub success_count: u64,
    /// Those that somebody else had to do.
    pub escalated_to_cloud: u64,
    /// The same by the gate that refused the last draft.
    pub failures_by_type: BTreeMap<String, u64>,
    /// Mean score of judged local tasks, 0 to 1; 0 without any.
    pub avg_quality_score: f64,
}

/// What became of the figures in a state file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exported {
    /// The ledger's figures are in the file.
    Written,
    /// The ledger has no finished local attempt: what the file said stays, and what it lacked is 0.
    Migrated,
    /// The file counts more attempts than the ledger: what it said stays.
    Kept {
        /// Attempts that the file counts.
        file: u64,
        /// Attempts that the ledger counts.
        ledger: u64,
    },
}

impl LocalModelStats {
    /// The figures of these sums.
    pub fn of(counts: &Counts) -> LocalModelStats {
        LocalModelStats {
            total_attempts: counts.local_attempts,
            success_count: counts.local_successes,
            escalated_to_cloud: counts.escalations(),
            failures_by_type: counts.escalated.clone(),
            avg_quality_score: counts.local.mean().unwrap_or(0.0),
        }
    }

    /// Writes the figures into a state file, which is begun if there is none, and brings it to version 6.1 (S2-28).
    /// Doing it again changes nothing. Figures are never lost: if the file counts more attempts than these, it keeps
    /// its own, unless `replace` says otherwise.
    pub fn export(&self, path: &Path, replace: bool) -> Result<Exported> {
        // Through a link, so that the file behind it is replaced and not the link.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let io = |source| Error::Io { path: target.clone(), source };
        let before = match fs::read_to_string(&target) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(Error::State { path: target, problem: "it is not UTF-8 text".to_owned() });
            }
            Err(error) => return Err(io(error)),
        };
        let text = before.as_deref().filter(|text| !text.trim().is_empty()).unwrap_or("{}\n");
        let (after, exported) =
            self.merged(text, replace).map_err(|problem| Error::State { path: target.clone(), problem })?;
        if before.as_deref() != Some(after.as_str()) {
            replace_file(&target, &after)?;
        }
        Ok(exported)
    }

    /// The text of a state file with these figures in it.
    fn merged(&self, text: &str, replace: bool) -> std::result::Result<(String, Exported), String> {
        let mut state = Object::parse(text)?;
        let inner = |object: &Object, key: &str| {
            let parsed = object.get(key).map_or(Ok(Object::default()), Object::parse);
            parsed.map_err(|problem| format!("`{key}`: {problem}"))
        };
        let mut stats = inner(&state, "stats")?;
        let mut ours = inner(&stats, "localModelStats")?;
        let in_file = ours.get("totalAttempts").and_then(|value| value.parse().ok()).unwrap_or(0);
        let exported = match self.total_attempts {
            ledger if in_file > ledger && !replace && ledger > 0 => Exported::Kept { file: in_file, ledger },
            0 if !replace => Exported::Migrated,
            _ => Exported::Written,
        };
        for (key, value) in Object::parse(&json(self))?.0 {
            if exported == Exported::Written || ours.get(&key).is_none() {
                ours.set(&key, value, None);
            }
        }
        let layout = Layout::of(text);
        stats.set("localModelStats", layout.write(&ours, 2), Some("reviewStats"));
        if is_older(state.get("version")) {
            state.set("version", json(&VERSION), None);
        }
        state.set("stats", layout.write(&stats, 1), None);
        let end = if text.ends_with('\n') { layout.line_end } else { "" };
        Ok((layout.write(&state, 0) + end, exported))
    }
}

/// A JSON object whose values are the text that they were.
#[derive(Default)]
struct Object(Vec<(String, String)>);

impl Object {
    fn get(&self, key: &str) -> Option<&str> {
        // Of a key that is there twice, readers take the last.
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Sets a key where it is, else after `after`, else at the end.
    fn set(&mut self, key: &str, value: String, after: Option<&str>) {
        if let Some((_, old)) = self.0.iter_mut().rev().find(|(name, _)| name == key) {
            *old = value;
            return;
        }
        let place = after.and_then(|after| self.0.iter().rposition(|(name, _)| name == after));
        self.0.insert(place.map_or(self.0.len(), |at| at + 1), (key.to_owned(), value));
    }
}

impl Object {
    /// Cuts an object's text into keys and the text of their values; the error says what is wrong and where.
    fn parse(text: &str) -> std::result::Result<Object, String> {
        // The whole first, so that what follows only has to find the borders.
        let IgnoredAny = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut rest = text.trim_start().strip_prefix('{').ok_or("it is not a JSON object")?.trim_start();
        let mut object = Object::default();
        while !rest.starts_with('}') {
            let (key, after) = next::<String>(rest)?;
            let value = after.trim_start().strip_prefix(':').ok_or("a key without a value")?.trim_start();
            let (IgnoredAny, after) = next(value)?;
            let end = value.len() - after.len();
            object.0.push((key, value[..end].to_owned()));
            rest = after.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        Ok(object)
    }
}

/// The JSON value that a text begins with, and what follows it.
fn next<T: DeserializeOwned>(text: &str) -> std::result::Result<(T, &str), String> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<T>();
    let value = values.next().ok_or("no value")?.map_err(|error| error.to_string())?;
    Ok((value, &text[values.byte_offset()..]))
}

/// How a file sets its JSON: on one line, or with this indentation.
struct Layout<'a> {
    indent: Option<&'a str>,
    line_end: &'static str,
}

impl<'a> Layout<'a> {
    fn of(text: &'a str) -> Layout<'a> {
        let line = text.trim().lines().nth(1);
        let indent = line.map(|line| &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]);
        // An empty object has no layout of its own.
        let indent = if text.trim() == "{}" { Some("  ") } else { indent };
        Layout { indent, line_end: if text.contains("\r\n") { "\r\n" } else { "\n" } }
    }

    /// The object's text, where it stands `depth` objects deep.
    fn write(&self, object: &Object, depth: usize) -> String {
        let entry = |(key, value): &(String, String)| match self.indent {
            Some(indent) => {
                format!("{}{}{}: {}", self.line_end, indent.repeat(depth + 1), json(key), value)
            }
            None => format!("{}: {}", json(key), value),
        };
        let entries: Vec<String> = object.0.iter().map(entry).collect();
        match self.indent {
            Some(indent) if !entries.is_empty() => {
                format!("{{{}{}{}}}", entries.join(","), self.line_end, indent.repeat(depth))
            }
            _ => format!("{{{}}}", entries.join(", ")),
        }
    }
}

/// Of a version the first two numbers count; one that is no such thing is from before there were any. A later one
/// stays.
fn is_older(version: Option<&str>) -> bool {
    let numbers = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.trim_matches('"').split('.').map(str::parse);
        Some((parts.next()?.ok()?, parts.next().unwrap_or(Ok(0)).ok()?))
    };
    version.and_then(numbers) < numbers(VERSION)
}

fn json(value: &impl Serialize) -> String {
    // Names and numbers only: this cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// Writes beside the file, syncs, and renames: the file is the old or the new one at every moment.
fn replace_file(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = temporary_name(path);
    let io = |source| Error::Io { path: path.to_owned(), source };
    fs::create_dir_all(folder).map_err(io)?;
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o666).open(&temporary).map_err(io)?;
    let mut write = || {
        if let Ok(old) = fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| {
        // It is ours, and of no use to anybody.
        let _ = fs::remove_file(&temporary);
        io(error)
    })
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests;
