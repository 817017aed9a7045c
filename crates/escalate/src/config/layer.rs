//! A text as a table with the line of every key, and tables laid over each other.

use std::collections::BTreeMap;
use std::fmt;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::BUNDLED;
use crate::nearest::nearest;
use crate::{Error, Result};

/// The steps to a key; entries of arrays have their number.
pub(super) type Steps = Vec<String>;

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: String,
    /// The line in it, from 1; 0 for what is no file.
    pub line: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The key, such as `rungs.opus.model`, quoted where TOML needs it.
    pub key: String,
    /// The value, as TOML writes it.
    pub value: String,
    /// Where it stands.
    pub origin: Origin,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file),
            line => write!(f, "{}, line {line}", self.file),
        }
    }
}

/// One text.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    pub(super) table: Table,
    pub(super) origins: BTreeMap<Steps, Origin>,
}

/// Several texts, laid over each other.
pub(super) type Merged = Layer;

impl Layer {
    /// Reads a text; an error has its line, and never the text itself.
    pub(super) fn read(file: &str, text: &str) -> Result<Layer> {
        let line = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        let bad = |error: toml::de::Error| Error::BadConfig {
            at: Origin { file: file.to_owned(), line: line(error.span().map_or(0, |span| span.start)) }
                .to_string(),
            problem: error.message().to_owned(),
        };
        let spanned = DeTable::parse(text).map_err(bad)?;
        let mut table: Table = toml::from_str(text).map_err(bad)?;
        let mut lines = Lines { file, text, at: 0, line: 1, found: Vec::new() };
        lines.table(&mut Vec::new(), spanned.get_ref());
        let mut origins = lines.origins();
        // `egress = "ask"` is enough.
        if let Some(egress) = table.get_mut("egress")
            && egress.is_str()
        {
            let policy = egress.clone();
            let place = origins.get(&["egress".to_owned()][..]).cloned();
            origins.extend(place.map(|place| (vec!["egress".to_owned(), "policy".to_owned()], place)));
            *egress = Value::Table(Table::from_iter([("policy".to_owned(), policy)]));
        }
        Ok(Layer { table, origins })
    }

    /// Lays another text over this one.
    pub(super) fn lay(&mut self, mut over: Layer) {
        self.forget_what_belonged(&over);
        self.forget_bundled_types(&over);
        self.unite_aliases(&mut over);
        lay(&mut self.table, over.table);
        // What stands inside a value that is replaced has gone; what is left of it is never looked up.
        self.origins.extend(over.origins);
    }

    /// Puts a value that stands in no text into a table of a table.
    pub(super) fn put(&mut self, [kind, name, key]: [&str; 3], value: Value, origin: Origin) {
        let entry = self.table.get_mut(kind).and_then(|all| all.get_mut(name));
        if let Some(entry) = entry.and_then(Value::as_table_mut) {
            entry.insert(key.to_owned(), value);
            self.origins.insert([kind, name, key].map(str::to_owned).to_vec(), origin);
        }
    }

    /// A key belongs to an address and is in one place, a price to a model, and a rung has one way to be reached: who
    /// changes the one does not inherit the other.
    fn forget_what_belonged(&mut self, over: &Layer) {
        for (kind, changes, belonged) in [
            ("endpoints", "url", &["url_env", "key_env", "key_file", "private"][..]),
            ("endpoints", "url_env", &["url", "key_env", "key_file", "private"]),
            ("endpoints", "key_file", &["key_env"][..]),
            ("endpoints", "key_env", &["key_file"][..]),
            ("rungs", "model", &["price", "context", "engine", "deadline_s"][..]),
            ("rungs", "endpoint", &["price", "context", "engine", "deadline_s"][..]),
            ("rungs", "engine", &["price", "context", "endpoint", "model"][..]),
        ] {
            let Some(entries) = over.table.get(kind).and_then(Value::as_table) else { continue };
            for (name, entry) in entries {
                let changed = entry.get(changes).is_some();
                let old =
                    self.table.get_mut(kind).and_then(|all| all.get_mut(name)).and_then(Value::as_table_mut);
                if let (true, Some(old)) = (changed, old)
                    && old.get(changes) != entry.get(changes)
                {
                    belonged.iter().for_each(|key| drop(old.remove(*key)));
                }
            }
        }
    }

    /// Whoever writes a ladder means it for every type of task of which nobody but the defaults says something else.
    fn forget_bundled_types(&mut self, over: &Layer) {
        let ladders = over.table.get("ladders").and_then(Value::as_table);
        let is_written = |name: &str| ladders.is_some_and(|ladders| ladders.contains_key(name));
        let types = self.table.get_mut("ladders").and_then(|all| all.get_mut("types"));
        let Some(types) = types.and_then(Value::as_table_mut) else { return };
        if is_written("availability") || is_written("quality") {
            let steps = |kind: &str| ["ladders", "types", kind].map(str::to_owned);
            types.retain(|kind, _| self.origins.get(&steps(kind)[..]).is_none_or(|at| at.file != BUNDLED));
        }
    }

    /// A rung keeps the aliases that it has: ladders may speak of them.
    fn unite_aliases(&self, over: &mut Layer) {
        let Some(rungs) = over.table.get_mut("rungs").and_then(Value::as_table_mut) else { return };
        for (name, rung) in rungs.iter_mut() {
            let old =
                self.table.get("rungs").and_then(|all| all.get(name)).and_then(|rung| rung.get("aliases"));
            if let (Some(Value::Array(old)), Some(Value::Array(new))) = (old, rung.get_mut("aliases")) {
                new.extend(old.iter().filter(|alias| !new.contains(alias)).cloned().collect::<Vec<_>>());
            }
        }
    }

    /// Where a key stands, or what it is in.
    pub(super) fn origin(&self, steps: &[String]) -> Option<&Origin> {
        (0..=steps.len()).rev().find_map(|length| self.origins.get(&steps[..length]))
    }

    /// An error about a key.
    pub(super) fn bad(&self, steps: &[String], problem: impl fmt::Display) -> Error {
        let at = self.origin(steps).map_or("coder.toml".to_owned(), ToString::to_string);
        Error::BadConfig { at, problem: format!("`{}` {problem}", key(steps)) }
    }

    /// What serde said about the whole table.
    pub(super) fn wrong(&self, error: serde_path_to_error::Error<toml::de::Error>) -> Error {
        let mut steps: Steps = error.path().iter().map(ToString::to_string).collect();
        let message = error.inner().message();
        let mut words = message.split('`').skip(1).step_by(2);
        if message.starts_with("unknown field")
            && let Some(unknown) = words.next()
        {
            let known: Vec<&str> = words.collect();
            let near = nearest(unknown, known.iter().copied());
            let near = crate::error::did_you_mean(&near);
            if steps.last().is_none_or(|last| last != unknown) {
                steps.push(unknown.to_owned());
            }
            return self.bad(&steps, format!("is not known{near}; known here are `{}`", known.join("`, `")));
        }
        self.bad(&steps, format!("does not fit: {}", without_value(message)))
    }

    /// Every value, by key.
    pub(super) fn settings(&self) -> Vec<Setting> {
        let mut found = Vec::new();
        self.leaves(&mut Vec::new(), &self.table, &mut found);
        found
    }

    fn leaves(&self, steps: &mut Steps, table: &Table, found: &mut Vec<Setting>) {
        for (name, value) in table {
            steps.push(name.clone());
            match value {
                Value::Table(inner) if !inner.is_empty() => self.leaves(steps, inner, found),
                value => {
                    let origin = self.origin(steps).cloned();
                    let origin = origin.unwrap_or(Origin { file: "coder.toml".to_owned(), line: 1 });
                    found.push(Setting { key: key(steps), value: value.to_string(), origin });
                }
            }
            steps.pop();
        }
    }
}

fn lay(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => lay(base, over),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

/// What a value was is nobody's business: it may be a key in the wrong place.
fn without_value(message: &str) -> String {
    match (message.find('"'), message.rfind("\", expected")) {
        (Some(from), Some(to)) if from < to => format!("{}…{}", &message[..from], &message[to + 1..]),
        _ => message.to_owned(),
    }
}

/// A key as TOML writes it, with the number of an entry of an array in brackets.
pub(super) fn key(steps: &[String]) -> String {
    let is_bare = |step: &str| {
        !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    let mut key = String::new();
    for step in steps {
        let entry = step.strip_prefix('[').and_then(|step| step.strip_suffix(']'));
        if entry.is_some_and(|entry| entry.bytes().all(|byte| byte.is_ascii_digit())) {
            key += step;
            continue;
        }
        if !key.is_empty() {
            key.push('.');
        }
        key += &if is_bare(step) { step.clone() } else { Value::String(step.clone()).to_string() };
    }
    key
}

/// Finds the lines of all keys.
struct Lines<'a> {
    file: &'a str,
    text: &'a str,
    at: usize,
    line: usize,
    found: Vec<(Steps, usize)>,
}

impl Lines<'_> {
    fn table(&mut self, steps: &mut Steps, table: &DeTable<'_>) {
        for (name, value) in table {
            steps.push(name.get_ref().to_string());
            self.found.push((steps.clone(), name.span().start));
            self.value(steps, value.get_ref());
            steps.pop();
        }
    }

    fn value(&mut self, steps: &mut Steps, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => self.table(steps, table),
            DeValue::Array(values) => {
                for (at, value) in values.iter().enumerate() {
                    steps.push(format!("[{at}]"));
                    self.found.push((steps.clone(), value.span().start));
                    self.value(steps, value.get_ref());
                    steps.pop();
                }
            }
            _ => {}
        }
    }

    /// One walk over the text, in the order of places.
    fn origins(mut self) -> BTreeMap<Steps, Origin> {
        let mut found = std::mem::take(&mut self.found);
        found.sort_by_key(|(_, at)| *at);
        let place = |(steps, at): (Steps, usize)| {
            let newlines = self.text.as_bytes()[self.at.min(at)..at.min(self.text.len())].iter();
            self.line += newlines.filter(|byte| **byte == b'\n').count();
            self.at = at;
            (steps, Origin { file: self.file.to_owned(), line: self.line })
        };
        found.into_iter().map(place).collect()
    }
}
