//! What a draft must pass, in this order: parse, guards, syntax, constraints, lint, test, review.
//!
//! The first failure ends an attempt, and its words go to the model. What came of each stage stands in
//! the record of the attempt.

mod constraint;

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::edit::Change;
use crate::task::Task;
use crate::workspace::Snapshot;
use crate::{Error, Result, syntax};

/// One step of the judgement about a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The reply has the form that was asked for.
    Parse,
    /// It loses no code, and stands for none.
    Guards,
    /// It has no syntax errors that were not there before.
    Syntax,
    /// It keeps those of the task's rules that can be checked.
    Constraints,
    /// The task's lint command approves.
    Lint,
    /// The task's verification command approves.
    Test,
    /// A reviewer approves.
    Review,
}

/// What came of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StageOutcome {
    /// Which stage.
    pub stage: Stage,
    /// Whether it approved. Stages after one that did not are not tried.
    pub passed: bool,
    /// Wall-clock seconds it took.
    pub seconds: f64,
}

impl Stage {
    /// Its name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Parse => "parse",
            Stage::Guards => "guards",
            Stage::Syntax => "syntax",
            Stage::Constraints => "constraints",
            Stage::Lint => "lint",
            Stage::Test => "test",
            Stage::Review => "review",
        }
    }
}

/// The stages of one attempt, as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Stages(Vec<StageOutcome>);

impl Stages {
    /// Goes through a stage.
    pub(crate) fn pass<T>(&mut self, stage: Stage, judge: impl FnOnce() -> Result<T>) -> Result<T> {
        let began = Instant::now();
        let judged = judge();
        self.note(stage, judged.is_ok(), began.elapsed().as_secs_f64());
        judged
    }

    /// Takes note of a stage.
    pub(crate) fn note(&mut self, stage: Stage, passed: bool, seconds: f64) {
        self.0.push(StageOutcome { stage, passed, seconds });
    }

    /// Those so far; the next attempt begins anew.
    pub(crate) fn take(&mut self) -> Vec<StageOutcome> {
        std::mem::take(&mut self.0)
    }
}

/// The stage of syntax: errors that the files before did not have.
pub(crate) fn syntax(base: &[Snapshot], changes: &[Change]) -> Result<()> {
    const SHOWN: usize = 5;
    for (path, old, new) in contents(base, changes) {
        let found = syntax::new_errors(path, old, new);
        if found.is_empty() {
            continue;
        }
        let mut lines: Vec<String> = found.iter().take(SHOWN).map(ToString::to_string).collect();
        if found.len() > SHOWN {
            lines.push(format!("[… {SHOWN} of {} errors kept …]", found.len()));
        }
        return Err(Error::Syntax { path: path.to_owned(), errors: lines.join("\n") });
    }
    Ok(())
}

/// The stage of constraints: those of the task's rules and criteria that can be checked on the text.
pub(crate) fn constraints(task: &Task, base: &[Snapshot], changes: &[Change]) -> Result<()> {
    let criteria = task.done_when.iter().filter(|criterion| !criterion.done).map(|criterion| &criterion.text);
    for rule in task.constraints.iter().chain(criteria) {
        let Some(constraint) = constraint::Constraint::read(rule) else { continue };
        constraint.check(&contents(base, changes)).map_err(|(path, problem)| Error::Constraint {
            path,
            rule: rule.clone(),
            problem,
        })?;
    }
    Ok(())
}

/// Path, old and new text of the files that are there afterwards.
fn contents<'a>(base: &'a [Snapshot], changes: &'a [Change]) -> Vec<(&'a str, Option<&'a str>, &'a str)> {
    let old = |path: &str| base.iter().find(|snapshot| snapshot.path == path).and_then(Snapshot::text);
    let new = changes.iter().filter_map(|change| Some((change, change.content.as_deref()?)));
    new.map(|(change, new)| (change.path.as_str(), old(&change.path), new)).collect()
}
