//! What is written down about every attempt, and the result that a run hands back.

use serde::Serialize;

use crate::policy::{FailureClass, Outcome};
use crate::stages::StageOutcome;
use crate::verify::Verification;

/// One attempt at a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Record {
    /// Who made it.
    pub by: By,
    /// What came of it.
    pub verdict: Verdict,
    /// Tokens it took.
    pub usage: Usage,
    /// Seconds that the writer took.
    pub seconds: f64,
    /// US dollars that the writer cost.
    pub cost_usd: f64,
    /// The stages that the attempt came to, in their order.
    pub stages: Vec<StageOutcome>,
    /// The verification, if it came so far.
    pub verification: Option<Verification>,
}

/// Who made an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The task's own code, put in its place without a model.
    #[default]
    Rule,
    /// A model.
    Model,
}

/// What came of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The file is written and the command approves.
    Verified,
    /// The file is written and the task has no command.
    #[default]
    Unverified,
    /// The file is as it was.
    Failed {
        /// What kind of failure.
        class: FailureClass,
        /// In a few words.
        reason: String,
    },
}

/// Tokens of one or more requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens of the prompts, cached ones among them.
    pub prompt_tokens: u64,
    /// Tokens of the prompts that did not need to be computed again.
    pub cached_tokens: u64,
    /// Tokens of the replies.
    pub completion_tokens: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
        self.completion_tokens += other.completion_tokens;
    }
}

/// The result of a run. Its JSON has these keys in this order; the first three are the contract, the
/// others stand beside them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskResult {
    /// Success or failure, nothing else.
    pub status: Status,
    /// The task's file, as the task names it.
    pub file: String,
    /// Why it failed; empty on success.
    pub error: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The task's id.
    pub task_id: String,
    /// How many attempts were made, by rule or by model.
    pub attempts: usize,
    /// The files that are different now.
    pub files: Vec<String>,
    /// Who made the last attempt: "mechanical", or the tier of the model, such as "local".
    pub tier: Option<String>,
    /// Tokens of all attempts.
    pub usage: Usage,
    /// US dollars of all attempts.
    pub cost_usd: f64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Where the old content lies, relative to the workspace; null if nothing was written, or the file
    /// did not exist before.
    pub backup: Option<String>,
    /// Whether a command approved the change.
    pub verified: bool,
    /// The attempts, one by one.
    pub history: Vec<Record>,
}

/// Whether a run did what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The outcome is complete.
    Success,
    /// It is anything else.
    Failed,
}
