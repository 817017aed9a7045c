//! What to do next, from what has happened so far, and who may do a task at all. Pure: no clock, no files, no model.
//!
//! [`Policy`] decides over attempts; [`judge`] decides between local and cloud before the first one.

mod classify;
mod cue;
mod estimate;
mod judge;
mod ladder;
mod listing;
mod tables;

use serde::Serialize;

pub use classify::{Classification, FoundCue, classify};
pub use cue::Cue;
pub use estimate::{Estimate, Figure, Source};
pub use judge::{Judgement, Route, Ruling, Says, Surroundings, judge, judge_text};
pub use ladder::Ladders;
pub use listing::listing;
pub use tables::{
    Atomic, BUILT_IN, Category, CategoryRules, Complexity, Cues, Delegable, Kind, Tables, TaskType, Ticket,
    TypeRoute,
};

use crate::ledger::{Record, Verdict};
use crate::writer::DraftOptions;

/// The rules of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Who is asked, and who after that.
    pub ladders: Ladders,
    /// How often each rung may try (decision 2).
    pub attempts: u32,
    /// Temperature of each attempt; the last one serves all further attempts.
    pub temperatures: Vec<f32>,
    /// Seed of a rung's first attempt; each further one has the next number.
    pub seed: u64,
    /// How often an attempt may be drafted anew because its draft is one that failed before.
    pub redrafts: u32,
}

/// What a redraft adds to the temperature, up to [`HOTTEST`].
const HOTTER: f32 = 0.1;

/// Beyond this temperature models write noise.
const HOTTEST: f32 = 1.5;

impl Default for Policy {
    /// Two attempts: the most likely text, then, since that was wrong, a different one.
    fn default() -> Self {
        Policy {
            ladders: Ladders::default(),
            attempts: 2,
            temperatures: vec![0.0, 0.7],
            seed: 0,
            redrafts: 8,
        }
    }
}

/// The next step of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Ask a rung.
    Draft {
        /// Which.
        rung: String,
        /// Which try of it this is, from 1.
        attempt: u32,
        /// Its temperature.
        temperature: f32,
        /// Its seed.
        seed: u64,
    },
    /// The run is over.
    Stop {
        /// How it ended.
        outcome: Outcome,
    },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The change is made, and verified if there was a command for it.
    Complete,
    /// Every attempt was wrong; the files are as they were. A person is needed.
    Blocked,
    /// No model could be asked: it says nothing about the task.
    Unavailable,
    /// The task, its files or the verification's program are not as they must be; correct them.
    Refused,
    /// The user stopped it; the files are as they were.
    Cancelled,
}

/// Why a step failed: whether it says something about the model's work. The two have ladders of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureClass {
    /// The model could not be used: no device, out of memory, time out, context too long.
    Availability,
    /// The model's work was wrong: not readable, guards, verification.
    Quality,
    /// The surroundings are not ready: the verification's program is missing. No model can help.
    Setup,
    /// The user stopped it.
    Cancelled,
}

impl Outcome {
    /// Its name, in results and in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Complete => "complete",
            Outcome::Blocked => "blocked",
            Outcome::Unavailable => "unavailable",
            Outcome::Refused => "refused",
            Outcome::Cancelled => "cancelled",
        }
    }
}

impl FailureClass {
    /// All of them.
    pub const ALL: [FailureClass; 4] =
        [FailureClass::Availability, FailureClass::Quality, FailureClass::Setup, FailureClass::Cancelled];

    /// Its name, in results and in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureClass::Availability => "availability",
            FailureClass::Quality => "quality",
            FailureClass::Setup => "setup",
            FailureClass::Cancelled => "cancelled",
        }
    }
}

impl Policy {
    /// The next step after these attempts.
    pub fn next(&self, history: &[Record]) -> Decision {
        let stop = |outcome| Decision::Stop { outcome };
        let last = history.last();
        let failed = match last.map(|last| &last.verdict) {
            Some(Verdict::Verified | Verdict::Unverified) => return stop(Outcome::Complete),
            Some(Verdict::Failed { class: FailureClass::Cancelled, .. }) => return stop(Outcome::Cancelled),
            Some(Verdict::Failed { class: FailureClass::Setup, .. }) => return stop(Outcome::Refused),
            Some(Verdict::Failed { class, .. }) => Some(*class),
            None => None,
        };
        if self.attempts == 0 {
            return stop(Outcome::Blocked);
        }
        let Some(rung) = last.and_then(Record::rung) else { return self.draft(&self.ladders.first, 0) };
        let tried = history.iter().filter(|record| record.rung() == Some(rung)).count();
        let tried = u32::try_from(tried).unwrap_or(u32::MAX);
        // A model that does not want to answer would be asked the same again.
        let replied = last.is_some_and(|last| !last.stages.is_empty());
        if failed == Some(FailureClass::Quality) && replied && tried < self.attempts {
            return self.draft(rung, tried);
        }
        match self.ladders.next(history) {
            Some(next) => self.draft(next, 0),
            None => stop(exhausted(history)),
        }
    }

    fn draft(&self, rung: &str, tried: u32) -> Decision {
        let known = self.temperatures.get(tried as usize).or(self.temperatures.last());
        Decision::Draft {
            rung: rung.to_owned(),
            attempt: tried + 1,
            temperature: known.copied().unwrap_or(0.0),
            seed: self.seed.wrapping_add(u64::from(tried)),
        }
    }

    /// How to draft after a draft that is one of those that failed before: with a seed that no attempt has.
    pub fn redraft(&self, options: DraftOptions) -> DraftOptions {
        DraftOptions {
            seed: options.seed.wrapping_add(u64::from(self.attempts)),
            temperature: (options.temperature + HOTTER).min(HOTTEST),
            ..options
        }
    }
}

/// How a run ended whose ladder has no rung left. With several rungs a person is needed, whatever the reason
/// (S0-32); one that could not be asked says nothing about the task.
fn exhausted(history: &[Record]) -> Outcome {
    let mut rungs = history.iter().filter_map(Record::rung);
    let first = rungs.next();
    match history.iter().any(Record::is_wrong) || rungs.any(|rung| Some(rung) != first) {
        true => Outcome::Blocked,
        false => Outcome::Unavailable,
    }
}

#[cfg(test)]
mod tests;
