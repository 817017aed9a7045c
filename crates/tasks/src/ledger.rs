//! What is written down about every attempt, and the result that a run hands back.

mod calendar;
mod counts;
mod entry;
mod escalation;
mod metric;
mod read;
mod request;
mod schema;
mod state;
mod stats;
mod store;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::policy::{FailureClass, Outcome};
use crate::stages::{Stage, StageOutcome};
use crate::verify::Verification;
use crate::workspace::Displaced;

pub use calendar::{date, since, timestamp, week};
pub use counts::{Counts, Quality, TierCounts, tokens};
pub use entry::{
    Attempt, AttemptResult, End, Entry, LOCAL, LocalEnd, MECHANICAL, Millis, StageEntry, is_local,
};
pub use escalation::{Admission, Escalation, Ratio, Routed};
pub use metric::{Cost, DEFINITIONS, Definition, Metric, Target, Unit, Yardstick};
pub use request::{Answered, DayLimit, Sending, Sent};
pub use state::{Exported, LocalModelStats, STATE_FILE};
pub use stats::{Group, Grouping, Stats, Trend};
pub use store::{Begin, Ledger, SessionId, TaskRow};

/// One attempt at a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Record {
    /// Who made it.
    pub by: By,
    /// What came of it.
    pub verdict: Verdict,
    /// How the model was asked; None without a model.
    pub draft: Option<Draft>,
    /// Tokens it took.
    pub usage: Usage,
    /// Seconds that the writer took.
    pub seconds: f64,
    /// US dollars that the writer cost.
    pub cost_usd: f64,
    /// The stages that the attempt came to, in their order.
    pub stages: Vec<StageOutcome>,
    /// Lines of the new content that the old one does not have; 0 if there was no content.
    pub lines: u64,
    /// Context files that its prompt showed in summary, and not whole.
    pub summarised: Vec<String>,
    /// Files that its prompt showed although the task does not name them.
    pub related: Vec<String>,
    /// The verification, if it came so far.
    pub verification: Option<Verification>,
    /// What a reviewer said, if one was asked.
    pub review: Option<Reviewed>,
}

/// A review of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Reviewed {
    /// Who was asked.
    pub rung: String,
    /// The model, as the writer names it; "" if it does not say.
    pub model: String,
    /// What came of it; None if there was no judgement, for the reason in `problem`.
    pub approved: Option<bool>,
    /// What is to be changed, or is worth knowing.
    pub findings: Vec<Finding>,
    /// Why there was no judgement; empty if there was one.
    pub problem: String,
    /// Tokens it took.
    pub usage: Usage,
    /// US dollars it cost.
    pub cost_usd: f64,
    /// Seconds it took.
    pub seconds: f64,
}

/// One thing that a reviewer found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The line in its new content; 0 for the file as a whole.
    pub line: u32,
    /// What is wrong, and what would be right.
    pub problem: String,
    /// Whether the change may not stay as it is.
    pub must: bool,
}

impl Record {
    /// The rung that made it; None if no model did.
    pub fn rung(&self) -> Option<&str> {
        (self.by == By::Model).then(|| self.draft.as_ref().map_or("", |draft| draft.tier.as_str()))
    }

    /// Whether a model made it and its work was wrong.
    pub fn is_wrong(&self) -> bool {
        self.by == By::Model && matches!(self.verdict, Verdict::Failed { class: FailureClass::Quality, .. })
    }

    /// US dollars of the draft and its review.
    pub fn total_usd(&self) -> f64 {
        self.cost_usd + self.review.as_ref().map_or(0.0, |review| review.cost_usd)
    }

    /// The gate that refused it; None if it did not fail.
    pub fn gate(&self) -> Option<&'static str> {
        let failed = self.stages.iter().find(|stage| !stage.passed);
        matches!(self.verdict, Verdict::Failed { .. })
            .then(|| failed.map_or(Stage::Parse, |outcome| outcome.stage).as_str())
    }
}

/// How a model was asked for a draft.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Draft {
    /// What the writer is called in results, such as "local".
    pub tier: String,
    /// The model, as the writer names it; "" if it does not say.
    pub model: String,
    /// The templates that made the prompt, as [`Prompt::template`](crate::Prompt::template) has them.
    pub template: String,
    /// Seed of the sampler, of the last redraft if there were any.
    pub seed: u64,
    /// Temperature of the sampler, likewise.
    pub temperature: f32,
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
        // A server may say any number.
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(other.completion_tokens);
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
    /// Where the old content lies, of the first file that had one; null if nothing was written, or no
    /// file existed before.
    pub backup: Option<String>,
    /// What other programs wrote into files while the task was at work that were brought back, and where it is kept.
    pub displaced: Vec<Displaced>,
    /// What is to be known of a success: "nothing had to change" where constraints, command and review approve of the files
    /// as they are; null otherwise.
    pub note: Option<&'static str>,
    /// Whether a command approved the change.
    pub verified: bool,
    /// What a review came to, of a change that a model made and that is complete: "approved", or "unreviewed"; null where
    /// none was asked for.
    pub review: Option<&'static str>,
    /// Where what a person needs to go on is written down; null if nobody has to.
    pub handover: Option<String>,
    /// The attempts, one by one.
    pub history: Vec<Record>,
}

impl TaskResult {
    /// The result of a task at which nobody worked; without an id and a file yet.
    pub fn nothing(outcome: Outcome, error: String) -> TaskResult {
        TaskResult {
            status: if outcome == Outcome::Complete { Status::Success } else { Status::Failed },
            file: String::new(),
            error,
            outcome,
            task_id: String::new(),
            attempts: 0,
            files: Vec::new(),
            tier: None,
            usage: Usage::default(),
            cost_usd: 0.0,
            seconds: 0.0,
            backup: None,
            displaced: Vec::new(),
            note: None,
            verified: false,
            review: None,
            handover: None,
            history: Vec::new(),
        }
    }
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

/// Lines of `new` that `old` does not have, each as often as it is there more often. A line that only
/// moved is not new.
pub fn lines_added(old: Option<&str>, new: &str) -> u64 {
    let mut spare: HashMap<&str, u64> = HashMap::new();
    for line in old.unwrap_or("").lines() {
        *spare.entry(line).or_default() += 1;
    }
    let mut added = 0;
    for line in new.lines() {
        match spare.get_mut(line) {
            Some(count) if *count > 0 => *count -= 1,
            _ => added += 1,
        }
    }
    added
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_not_moved() {
        assert_eq!(lines_added(None, "a\nb\n"), 2);
        assert_eq!(lines_added(Some("a\nb\n"), "b\na\n"), 0);
        assert_eq!(lines_added(Some("a\n"), "a\na\nc"), 2);
        assert_eq!(lines_added(Some("a\nb\n"), ""), 0);
        assert_eq!(lines_added(Some("a\r\n"), "a\n"), 0);
    }
}
