//! Configurations of other programs as `coder.toml`: the `modelRouter` of Claude Code Router (S0-08, S0-09) and the
//! `model_list` of LiteLLM (S2-05 to S2-10).
//!
//! What cannot be taken over is said, and keys never are: the variable that holds one is. So is one that holds an address.

mod litellm;
mod router;

use std::fmt::Display;

use serde_json::Value;
use toml::Table;

use crate::egress::Address;
use crate::{Dialect, Endpoint, Error, Names, Result, RungName};

/// What LiteLLM writes before the name of a variable.
const VARIABLE: &str = "os.environ/";

/// A configuration, and what of the other one is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The text of a `coder.toml`.
    pub toml: String,
    /// What was left out, and what became something else.
    pub notes: Vec<String>,
}

/// Reads a configuration of another program, JSON or YAML. Rungs that it speaks of without defining them have these names.
pub fn import(file: &str, text: &str, names: &Names) -> Result<Imported> {
    let bad = |problem: String| Error::BadConfig { at: file.to_owned(), problem };
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        // JSON's own errors are better for what is meant to be JSON.
        Err(error) if text.trim_start().starts_with('{') => return Err(bad(error.to_string())),
        Err(_) => serde_saphyr::from_str(text).map_err(|error| bad(first_line(&error)))?,
    };
    let mut draft = Draft { names, table: Table::new(), notes: Vec::new() };
    if value.get("modelRouter").is_some() || value.get("localModels").is_some() {
        router::read(&value, &mut draft);
    } else if value.get("model_list").is_some() || value.is_array() {
        litellm::read(&value, &mut draft);
    } else {
        return Err(bad(
            "has neither `modelRouter` (Claude Code Router) nor `model_list` (LiteLLM); nothing else can be imported".to_owned(),
        ));
    }
    let toml = toml::to_string(&draft.table).map_err(|error| bad(error.to_string()))?;
    Ok(Imported { toml, notes: draft.notes })
}

fn first_line(error: &impl Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// A `coder.toml` that grows.
struct Draft<'a> {
    /// Names that hold without it.
    names: &'a Names,
    table: Table,
    notes: Vec<String>,
}

impl Draft<'_> {
    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Sets a value. Tables on the way are made.
    fn set(&mut self, steps: &[&str], value: impl Into<toml::Value>) {
        let Some((last, way)) = steps.split_last() else { return };
        let mut table = &mut self.table;
        for step in way {
            let inner = table.entry(*step).or_insert_with(|| toml::Value::Table(Table::new()));
            let toml::Value::Table(inner) = inner else { return };
            table = inner;
        }
        table.insert((*last).to_owned(), value.into());
    }

    fn has_rung(&self, name: &str) -> bool {
        self.table.get("rungs").and_then(|rungs| rungs.get(name)).is_some()
    }

    /// The name by which a rung can be spoken of, if it is defined here or known without.
    fn known(&self, name: &str) -> Option<String> {
        let name = name.trim().to_ascii_lowercase();
        if self.has_rung(&name) {
            return Some(name);
        }
        self.names.resolve(&name).ok().map(String::from)
    }

    /// A rung for a model in this process, and its name: `local` if nobody has that yet. The same model has one rung.
    fn engine(&mut self, model: &str, wanted: &str) -> Option<String> {
        let engine = |rungs: &Table, name: &str| {
            rungs.get(name).and_then(|rung| rung.get("engine")).and_then(toml::Value::as_str) == Some(model)
        };
        if let Some(toml::Value::Table(rungs)) = self.table.get("rungs")
            && let Some(name) = rungs.keys().find(|name| engine(rungs, name))
        {
            return Some(name.clone());
        }
        let is_local = self.names.resolve(wanted).is_ok_and(|rung| rung == RungName::local());
        let name = match is_local && !self.has_rung("local") {
            true => "local".to_owned(),
            false => self.rung_name(wanted)?,
        };
        self.set(&["rungs", &name, "engine"], model);
        Some(name)
    }

    /// A name as a rung can have it.
    fn rung_name(&mut self, wanted: &str) -> Option<String> {
        let fits = |c: char| if c.is_ascii_alphanumeric() || "._:-".contains(c) { c } else { '-' };
        let name: String = wanted.trim().chars().map(fits).collect();
        match RungName::new(&name) {
            Ok(name) => Some(name.to_string()),
            Err(error) => {
                self.note(format!("left out: {error}"));
                None
            }
        }
    }

    /// An endpoint that is spoken to in the OpenAI dialect or Anthropic's, and its name. A key is named if a variable holds
    /// it, and never copied.
    fn endpoint(&mut self, name: &str, dialect: Dialect, url: &str, key: Option<&Value>) -> Option<String> {
        if let Some(variable) = url.strip_prefix(VARIABLE) {
            return self.elsewhere(name, dialect, variable, key);
        }
        let name = self.rung_name(name)?;
        let mut endpoint = Endpoint::new(dialect, url);
        endpoint.private = url.starts_with("http://");
        if let Err(problem) = Address::of(&endpoint) {
            self.note(format!("left out: the endpoint `{name}`: its address {problem}"));
            return None;
        }
        let local = Address::of(&endpoint).is_ok_and(|address| address.loopback);
        self.set(&["endpoints", &name, "url"], url);
        if endpoint.private && !local {
            self.set(&["endpoints", &name, "private"], true);
        }
        self.speak(&name, dialect, key);
        Some(name)
    }

    /// The same at the address that a variable holds when the configuration is read: it is named and not looked at.
    fn elsewhere(
        &mut self,
        name: &str,
        dialect: Dialect,
        variable: &str,
        key: Option<&Value>,
    ) -> Option<String> {
        let name = self.rung_name(name)?;
        self.set(&["endpoints", &name, "url_env"], variable);
        self.speak(&name, dialect, key);
        Some(name)
    }

    /// How an endpoint is spoken to.
    fn speak(&mut self, name: &str, dialect: Dialect, key: Option<&Value>) {
        let dialect = if dialect == Dialect::Openai { "openai" } else { "anthropic" };
        self.set(&["endpoints", name, "dialect"], dialect);
        match key.and_then(Value::as_str).map(|key| key.strip_prefix(VARIABLE)) {
            Some(Some(variable)) => self.set(&["endpoints", name, "key_env"], variable),
            Some(None) => self.note(format!(
                "the key of endpoint `{name}` was not copied; put it into a variable and name that: \
                 `endpoints.{name}.key_env`"
            )),
            None => {}
        }
    }
}

/// Whether an address is this machine, seen from itself or from a container on it.
fn is_here(url: &str) -> bool {
    let mut endpoint = Endpoint::new(Dialect::Openai, url.replace("host.docker.internal", "localhost"));
    endpoint.private = true;
    Address::of(&endpoint).is_ok_and(|address| address.loopback)
}

/// The rung whose family of models a vendor's name is of, such as `opus`, among those that hold without this file.
fn family(model: &str, names: &Names) -> Option<String> {
    let lower = model.to_ascii_lowercase();
    let parts = lower
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| part.chars().all(char::is_alphabetic));
    // A word such as `free` in a model's name is no tier.
    let mut rungs = parts.filter_map(|part| names.resolve(part).ok().filter(|rung| rung.as_str() == part));
    rungs.find(|rung| *rung != RungName::local()).map(String::from)
}

#[cfg(test)]
mod tests;
