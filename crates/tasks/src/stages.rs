//! What a draft must pass, in this order: parse, guards, syntax, constraints, lint, test, review.
//!
//! The first failure ends an attempt, and its words go to the model. What came of each stage stands in
//! the record of the attempt.

mod constraint;

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::edit::{self, Change};
use crate::task::{Code, Place, Task};
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
    for (path, old, new) in contents(base, changes).into_iter().filter(|(_, old, new)| *old != Some(*new)) {
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

/// The stage of constraints: those of the task's rules and criteria that can be checked on the text, and the task's own
/// code where a model was to find its place.
pub(crate) fn constraints(task: &Task, base: &[Snapshot], changes: &[Change]) -> Result<()> {
    if let Some(code) = task.code.as_ref().filter(|code| is_for_a_model(code, base))
        && !contents(base, changes).iter().any(|(.., new)| holds(new, &code.text))
    {
        return Err(Error::Constraint {
            path: task.file.clone(),
            rule: "Code to add".to_owned(),
            problem: "the code of the task is not in it line by line; write it as it is given".to_owned(),
        });
    }
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

/// Whether no rule could put the code in its place. Code that a rule has placed, and that the task's command refused, may
/// need other words.
fn is_for_a_model(code: &Code, base: &[Snapshot]) -> bool {
    let old = base.first().and_then(Snapshot::text);
    match code.place {
        Place::Line(line) => edit::insert(old.unwrap_or(""), &code.text, line).is_err(),
        Place::Unstated => old.is_some(),
        Place::Whole => false,
    }
}

/// Whether a text has these lines one after the other. How far they are indented is the place's to say.
fn holds(text: &str, code: &str) -> bool {
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let (text, code) = (lines(text), lines(code));
    code.is_empty() || text.windows(code.len()).any(|window| window == code)
}

/// Path, old and new text of the files that are there afterwards: of those that change, or, where nothing does, of all of
/// the task's, which are then what it comes to.
fn contents<'a>(base: &'a [Snapshot], changes: &'a [Change]) -> Vec<(&'a str, Option<&'a str>, &'a str)> {
    let old = |path: &str| base.iter().find(|snapshot| snapshot.path == path).and_then(Snapshot::text);
    if changes.is_empty() {
        let same = base.iter().filter_map(|file| Some((file.path.as_str(), file.text()?)));
        return same.map(|(path, text)| (path, Some(text), text)).collect();
    }
    let new = changes.iter().filter_map(|change| Some((change, change.content.as_deref()?)));
    new.map(|(change, new)| (change.path.as_str(), old(&change.path), new)).collect()
}
