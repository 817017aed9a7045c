//! What a rung of a ladder is: a checked name, how it is reached, and the other names by which it is known. All of it is
//! data; nothing here knows a model.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::nearest::nearest;
use crate::{Effort, Error, Price, Result};

/// What the ledger calls code that a rule put in place (decision 9); no rung may have this name.
const RESERVED: &str = "mechanical";

/// The name of a rung, such as `local`, `opus` or `big-local`: 1 to 64 of `a-z0-9._:-`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RungName(String);

impl RungName {
    /// The model in this process.
    pub fn local() -> RungName {
        RungName("local".to_owned())
    }

    /// A name as it is written; blanks around it and capitals do not matter.
    pub fn new(name: &str) -> Result<RungName> {
        let lower = name.trim().to_ascii_lowercase();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        let begins = lower.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins && lower.len() <= 64 && lower.bytes().all(fits) && lower != RESERVED {
            Ok(RungName(lower))
        } else {
            Err(Error::BadRungName { name: name.chars().take(80).collect() })
        }
    }

    /// Whether it is `local`, or begins with that and a dash: in the ledger, such names mean this process.
    pub fn is_of_this_process(&self) -> bool {
        self.0.strip_prefix("local").is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RungName {
    type Error = Error;

    fn try_from(name: String) -> Result<RungName> {
        RungName::new(&name)
    }
}

impl From<RungName> for String {
    fn from(name: RungName) -> String {
        name.0
    }
}

impl fmt::Display for RungName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One rung.
#[derive(Clone, Debug, PartialEq)]
pub struct Rung {
    /// How it is reached.
    pub reach: Reach,
    /// How much its model is to think; None leaves it to the server.
    pub effort: Option<Effort>,
    /// The most tokens of one of its answers.
    pub max_tokens: u32,
    /// Tokens that prompt and answer may have together; None where nobody said.
    pub context: Option<u64>,
    /// Seconds that one answer of a model in this process may take; None for as long as it likes. Others have the deadline of
    /// their endpoint.
    pub deadline_s: Option<u64>,
    /// What it costs, if `coder.toml` says it.
    pub price: Option<Price>,
}

/// How a rung is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The model that the command runs with: `--model`, or the bundled one.
    Here,
    /// Another model in this process: a file, or the name of a model.
    Engine(String),
    /// A model behind an endpoint.
    Endpoint {
        /// The endpoint's name.
        endpoint: String,
        /// The model, as the server knows it.
        model: String,
    },
}

impl Rung {
    /// Whether its model runs in this process.
    pub fn is_local(&self) -> bool {
        !matches!(self.reach, Reach::Endpoint { .. })
    }
}

/// Every name that means a rung: its own, and its aliases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Name or alias to the rung's name.
    meant: BTreeMap<String, RungName>,
}

impl Names {
    /// The rung that a name or an alias means.
    pub fn resolve(&self, name: &str) -> Result<RungName> {
        let wanted = name.trim().to_ascii_lowercase();
        self.meant.get(&wanted).cloned().ok_or_else(|| {
            let near = nearest(&wanted, self.meant.keys().map(String::as_str));
            Error::UnknownRung { name: name.chars().take(80).collect(), near, known: self.known() }
        })
    }

    /// All rungs with their aliases, such as "local (free), haiku (cheap)".
    pub fn known(&self) -> String {
        let mut rungs: BTreeMap<&RungName, Vec<&str>> = BTreeMap::new();
        for (name, rung) in &self.meant {
            let aliases = rungs.entry(rung).or_default();
            if name != rung.as_str() {
                aliases.push(name);
            }
        }
        let shown = rungs.iter().map(|(rung, aliases)| match aliases.as_slice() {
            [] => rung.to_string(),
            aliases => format!("{rung} ({})", aliases.join(", ")),
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    /// Takes in another name of a rung; an error is the rung that has it already.
    pub(crate) fn add(&mut self, name: &RungName, rung: &RungName) -> Result<(), RungName> {
        match self.meant.get(name.as_str()) {
            Some(other) if other != rung => Err(other.clone()),
            _ => {
                self.meant.insert(name.to_string(), rung.clone());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for (written, name) in
            [("local", "local"), (" Opus ", "opus"), ("qwen3:30b", "qwen3:30b"), ("0.5b", "0.5b")]
        {
            assert_eq!(RungName::new(written).unwrap().as_str(), name);
        }
        for bad in ["", " ", "-x", "a b", "a/b", "ä", "mechanical", "a\n", &"x".repeat(65)] {
            let error = RungName::new(bad.trim_end_matches('\n')).and_then(|_| RungName::new("a\u{1}"));
            assert!(error.is_err(), "{bad:?}");
        }
    }

    /// Covers S2-40: names of tiers are aliases.
    #[test]
    fn an_alias_means_its_rung() {
        let name = |name: &str| RungName::new(name).unwrap();
        let mut names = Names::default();
        for (alias, rung) in [("local", "local"), ("free", "local"), ("opus", "opus"), ("best", "opus")] {
            names.add(&name(alias), &name(rung)).unwrap();
        }
        assert_eq!(names.resolve(" FREE"), Ok(name("local")));
        assert_eq!(names.add(&name("best"), &name("local")), Err(name("opus")));
        let error = names.resolve("opsu").unwrap_err().to_string();
        assert!(error.contains("`opus`") && error.contains("local (free), opus (best)"), "{error}");
        assert!(!names.resolve("gpt").unwrap_err().to_string().contains("did you mean"));
    }
}
