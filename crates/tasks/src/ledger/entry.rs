//! What the ledger knows of a task: the rows that statistics are made of, and what they mean.

use serde::Serialize;

use super::Usage;
use super::request::Sent;
use crate::policy::FailureClass;

/// The tier of attempts that were made by rule, without a model.
pub const MECHANICAL: &str = "mechanical";

/// The tier of the model in this process. A larger one has a name that begins with it and a dash. Every other tier but
/// [`MECHANICAL`] is a cloud model's.
pub const LOCAL: &str = "local";

/// Milliseconds since 1970-01-01, UTC.
pub type Millis = i64;

/// One task of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Entry {
    /// Which run of the program: tasks of the same run have the same number.
    pub session: i64,
    /// The task's name.
    pub task_id: String,
    /// Its first file.
    pub file: String,
    /// The language of that file, "" if unknown.
    pub language: String,
    /// Its category, if it was classified.
    pub category: Option<String>,
    /// Whether the policy lets a local model have it; None if nobody decided.
    pub eligible: Option<bool>,
    /// When it began.
    pub began: Millis,
    /// How it ended; None while it runs, and for ever if it was killed.
    pub end: Option<End>,
    /// Whether the command still approved after the change was merged; None if nobody looked.
    pub integrated: Option<bool>,
    /// Its attempts in order.
    pub attempts: Vec<Attempt>,
    /// What left this machine for it.
    pub requests: Vec<Sent>,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct End {
    /// When.
    pub at: Millis,
    /// The outcome's name, such as "complete".
    pub outcome: String,
    /// Whether a command approved the change.
    pub verified: bool,
    /// Wall-clock seconds of the task.
    pub seconds: f64,
    /// Why it is not complete; empty if it is.
    pub error: String,
}

/// One attempt at a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attempt {
    /// "mechanical", "local", or the name of a cloud rung.
    pub tier: String,
    /// The model; "" without one.
    pub model: String,
    /// The prompt's templates; "" without a prompt.
    pub template: String,
    /// Seed and temperature of the sampler; None without a model.
    pub sampled: Option<(u64, f64)>,
    /// Tokens it took.
    pub usage: Usage,
    /// Seconds that the writer took.
    pub seconds: f64,
    /// US dollars that the writer cost.
    pub cost_usd: f64,
    /// Lines of the new content that the old one does not have.
    pub lines: u64,
    /// What came of it.
    pub result: AttemptResult,
    /// What its stages said, in order.
    pub stages: Vec<StageEntry>,
    /// When it ended.
    pub at: Millis,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptResult {
    /// The command approved.
    Verified,
    /// The file is written; there is no command.
    Unverified,
    /// It failed.
    Failed {
        /// What kind of failure.
        class: FailureClass,
        /// The stage that refused it, such as "test".
        gate: String,
        /// In a few words.
        reason: String,
    },
}

/// One stage of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageEntry {
    /// Such as "lint".
    pub name: String,
    /// Such as "passed".
    pub verdict: String,
    /// How long it took.
    pub seconds: f64,
}

/// What a finished local attempt came to: a task that was given to local models and on which a model's
/// work was judged. Drafts within it are not counted apart, since the retry belongs to it (decision 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalEnd {
    /// The local model did it.
    Success,
    /// It did not, and somebody else has to: this gate refused its last draft.
    Escalated {
        /// The gate's name.
        gate: String,
    },
}

/// Whether a tier is a model in this process.
pub fn is_local(tier: &str) -> bool {
    tier.strip_prefix(LOCAL).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

impl Attempt {
    /// Whether it was made here: by rule or by a local model.
    pub fn is_here(&self) -> bool {
        self.tier == MECHANICAL || is_local(&self.tier)
    }

    /// Whether a model made it that is not in this process.
    pub fn is_cloud(&self) -> bool {
        !self.is_here()
    }

    /// Whether its change was accepted, by a command or for want of one.
    pub fn is_success(&self) -> bool {
        matches!(self.result, AttemptResult::Verified | AttemptResult::Unverified)
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<FailureClass> {
        match self.result {
            AttemptResult::Failed { class, .. } => Some(class),
            _ => None,
        }
    }
}

impl Entry {
    /// Whether the task was to write nothing: its command alone decided, and it says nothing about anybody's work.
    pub fn is_check(&self) -> bool {
        self.file.is_empty()
    }

    /// The outcome's name; None while there is none.
    pub fn outcome(&self) -> Option<&str> {
        self.end.as_ref().map(|end| end.outcome.as_str())
    }

    /// Whether it ended complete.
    pub fn is_complete(&self) -> bool {
        self.outcome() == Some("complete")
    }

    /// Whether it ended complete and a command approved.
    pub fn is_verified(&self) -> bool {
        self.is_complete() && self.end.as_ref().is_some_and(|end| end.verified)
    }

    /// Whether somebody judged the work: a command approved, or it was wrong to the end.
    pub fn is_judged(&self) -> bool {
        let mut failures = self.attempts.iter().filter_map(Attempt::failure);
        self.is_verified()
            || (self.outcome() == Some("blocked") && failures.any(|class| class == FailureClass::Quality))
    }

    /// Attempts for which who was asked could be used; the others say nothing about anybody's work (decision 1).
    pub fn tried(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| attempt.failure() != Some(FailureClass::Availability))
    }

    /// Whether it was begun here, by rule or by the local model. Whoever could not be used did not begin it, unless
    /// nobody could.
    pub fn is_delegated(&self) -> bool {
        self.tried().next().or(self.attempts.first()).is_some_and(Attempt::is_here)
    }

    /// Whether a cloud model had a part in it.
    pub fn used_cloud(&self) -> bool {
        self.tried().any(Attempt::is_cloud)
    }

    /// Whether nothing of it left this machine.
    pub fn was_offline(&self) -> bool {
        let left = |sent: &Sent| sent.error.is_none() || sent.usage != Usage::default();
        !self.used_cloud() && !self.requests.iter().any(left)
    }

    /// Whether it is routine work (S4-17): what the policy lets a local model have, and where nobody decided,
    /// what was begun here.
    pub fn is_routine(&self) -> bool {
        self.eligible.unwrap_or_else(|| self.is_delegated())
    }

    /// What the local models' part came to; None if they had none, or if nothing was judged. Failures that say
    /// nothing about a model's work do not count (decision 1). A larger model in this process is still local: what it
    /// did is no escalation to the cloud.
    pub fn local_end(&self) -> Option<LocalEnd> {
        let mut local = self.attempts.iter().filter(|attempt| is_local(&attempt.tier));
        if local.clone().any(Attempt::is_success) {
            return Some(LocalEnd::Success);
        }
        let wrong = local.rfind(|attempt| attempt.failure() == Some(FailureClass::Quality))?;
        // Somebody else came after it.
        let mut later = self.attempts.iter().rev().take_while(|attempt| !std::ptr::eq(*attempt, wrong));
        let moved_on = self.outcome() == Some("blocked") || later.any(Attempt::is_cloud);
        let AttemptResult::Failed { gate, .. } = &wrong.result else { return None };
        moved_on.then(|| LocalEnd::Escalated { gate: gate.clone() })
    }

    /// What the task would have taken as one request to a cloud model: the tokens of its first prompt and of its
    /// last reply, nothing cached. All zero without a model.
    pub fn as_one_request(&self) -> Usage {
        let mut asked = self.attempts.iter().filter(|attempt| attempt.tier != MECHANICAL);
        let first = asked.clone().next().map_or(0, |attempt| attempt.usage.prompt_tokens);
        let last = asked.next_back().map_or(0, |attempt| attempt.usage.completion_tokens);
        Usage { prompt_tokens: first, cached_tokens: 0, completion_tokens: last }
    }
}
