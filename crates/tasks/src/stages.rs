//! What a draft must pass, in this order: parse, guards, syntax, constraints, lint, test.
//!
//! The first failure ends an attempt, and its words go to the model. What came of each stage stands in
//! the record of the attempt.

use serde::{Deserialize, Serialize};

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
