//! `coder.toml`: endpoints, rungs, ladders, budgets and what may leave the machine, read strictly and in layers.
//!
//! Owns how files are laid over each other, what each may say, and the names in them. It reads no file and no variable
//! of the environment: who calls has the texts, and says which of them is a project's. A project's file is content of a
//! repository that nobody has vouched for, so it may restrict and choose, and never send anything to anybody.

mod layer;
mod project;
mod written;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::budget::Limits;
use crate::egress::{Address, Rules};
use crate::{Endpoint, Ladders, Names, Prices, Result, Rung, RungName};

pub use layer::{Origin, Setting};

/// The defaults, as they are written.
pub const DEFAULTS: &str = include_str!("../default.toml");

/// What the defaults are called where a value comes from.
const BUNDLED: &str = "the defaults";

/// One text to read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its name in errors, such as the file's path.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
    /// Whose it is.
    pub trust: Trust,
}

/// Whose a configuration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The user's, who may say anything.
    Own,
    /// A repository's, which may only restrict, and choose among what the user has.
    Project,
}

/// Names that other parts of the program know.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// Types of tasks.
    pub types: Vec<String>,
    /// Phases of test-driven development.
    pub phases: Vec<String>,
}

/// All layers as one. What it names is there: every rung of a ladder, every endpoint of a rung.
#[derive(Clone, Debug)]
pub struct Config {
    /// Servers by name.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Rungs by name.
    pub rungs: BTreeMap<RungName, Rung>,
    /// Their orders.
    pub ladders: Ladders,
    /// What may be spent.
    pub budget: Limits,
    /// What may leave the machine.
    pub egress: Rules,
    /// Who reviews what a local model wrote.
    pub review: Review,
    /// The rung that makes tasks of a request.
    pub planner: RungName,
    /// Who does a task where a rule fits it; the first one counts.
    pub routes: Vec<Route>,
    names: Names,
    merged: layer::Merged,
}

/// Reviews by another model. A local model never reviews itself (S2-31).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// Who reviews.
    pub rung: RungName,
    /// What is reviewed.
    pub when: When,
}

/// What is reviewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Nothing.
    Never,
    /// What a model in this process wrote.
    Local,
    /// Everything.
    Always,
}

/// A rule that sends tasks to a rung (S0-08): all that it names must fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The task's phase, such as `red`.
    pub phase: Option<String>,
    /// One of the task's tags.
    pub tag: Option<String>,
    /// The task's type.
    pub task_type: Option<String>,
    /// Where it goes.
    pub rung: RungName,
}

/// What rules look at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Routed<'a> {
    /// The task's phase.
    pub phase: Option<&'a str>,
    /// Its tags.
    pub tags: &'a [String],
    /// Its type.
    pub task_type: Option<&'a str>,
}

impl Config {
    /// The defaults alone: nothing is sent to anybody.
    pub fn bundled() -> Config {
        Config::layered(&[], &Vocabulary::default()).expect("a test reads the defaults")
    }

    /// The defaults, and over them these texts, the later over the earlier. What a project restricts stays restricted,
    /// whatever comes after it.
    pub fn layered(sources: &[Source<'_>], vocabulary: &Vocabulary) -> Result<Config> {
        let mut merged = layer::Merged::default();
        merged.lay(layer::Layer::read(BUNDLED, DEFAULTS)?);
        let mut restrictions = Vec::new();
        for source in sources {
            let read = layer::Layer::read(source.name, source.text)?;
            match source.trust {
                Trust::Own => merged.lay(read),
                Trust::Project => {
                    let (chosen, restriction) = project::split(read)?;
                    merged.lay(chosen);
                    restrictions.push(restriction);
                }
            }
        }
        for restriction in restrictions {
            project::restrict(&mut merged, restriction)?;
        }
        written::check(merged, vocabulary)
    }

    /// The same with the addresses that variables hold, where an endpoint names one; one that is not set changes nothing.
    pub fn located(mut self, env: impl Fn(&str) -> Option<String>) -> Result<Config> {
        for (name, endpoint) in &mut self.endpoints {
            let Some(variable) = endpoint.url_env.clone() else { continue };
            let Some(value) = env(&variable).filter(|value| !value.trim().is_empty()) else { continue };
            endpoint.take_address(value.trim());
            Address::of(endpoint).map_err(|problem| {
                let at = ["endpoints", name, "url_env"].map(str::to_owned);
                self.merged.bad(&at, format!("names `{variable}`, whose value {problem}"))
            })?;
            let origin = Origin { file: format!("the variable `{variable}`"), line: 0 };
            self.merged.put(["endpoints", name, "url"], endpoint.url.clone().into(), origin);
        }
        Ok(self)
    }

    /// Every name that means a rung.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The rung that a name or an alias means.
    pub fn rung(&self, name: &str) -> Result<(RungName, &Rung)> {
        let name = self.names.resolve(name)?;
        // Names come from rungs.
        Ok((name.clone(), &self.rungs[&name]))
    }

    /// The rung that the first fitting rule sends a task to.
    pub fn route(&self, task: &Routed<'_>) -> Option<&RungName> {
        let fits = |wanted: &Option<String>, has: Option<&str>| {
            wanted.as_ref().is_none_or(|wanted| has.is_some_and(|has| has.eq_ignore_ascii_case(wanted)))
        };
        let tagged = |wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| task.tags.iter().any(|tag| tag.eq_ignore_ascii_case(wanted)))
        };
        let rule = self.routes.iter().find(|rule| {
            fits(&rule.phase, task.phase) && fits(&rule.task_type, task.task_type) && tagged(&rule.tag)
        });
        rule.map(|rule| &rule.rung)
    }

    /// The program's prices, with those of `coder.toml` in their place.
    pub fn prices(&self) -> Prices {
        let mut prices = Prices::bundled();
        for rung in self.rungs.values() {
            let Some(mut price) = rung.price.clone() else { continue };
            let marked = matches!(&rung.reach, crate::Reach::Endpoint { endpoint, .. }
                if self.endpoints.get(endpoint).is_some_and(|found| found.dialect == crate::Dialect::Anthropic));
            if marked {
                // Its requests mark what the server's cache is to keep.
                prices.writing_as_known(&mut price);
            }
            prices.set(price);
        }
        prices
    }

    /// Every value with the place that it comes from, by key.
    pub fn settings(&self) -> Vec<Setting> {
        self.merged.settings()
    }
}

#[cfg(test)]
mod tests;
