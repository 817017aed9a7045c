//! What to do next, from what has happened so far, and who may do a task at all. Pure: no clock, no files, no model.
//!
//! [`Policy`] decides over attempts; [`judge`] decides between local and cloud before the first one.

mod classify;
mod cue;
mod estimate;
mod judge;
mod listing;
mod tables;

use serde::Serialize;

pub use classify::{Classification, FoundCue, classify};
pub use cue::Cue;
pub use estimate::{Estimate, Figure, Source};
pub use judge::{Judgement, Route, Ruling, Says, Surroundings, judge, judge_text};
pub use listing::listing;
pub use tables::{
    Atomic, BUILT_IN, Category, CategoryRules, Complexity, Cues, Delegable, Kind, Tables, TaskType, Ticket,
    TypeRoute,
};

use crate::ledger::{By, Record, Verdict};
use crate::writer::DraftOptions;

/// The rules of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// How often a model may try.
    pub attempts: u32,
    /// Temperature of each attempt; the last one serves all further attempts.
    pub temperatures: Vec<f32>,
    /// Seed of the first attempt; each further one has the next number.
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
        Policy { attempts: 2, temperatures: vec![0.0, 0.7], seed: 0, redrafts: 8 }
    }
}

/// The next step of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// Ask the model.
    Draft {
        /// Which try of the model this is, from 1.
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
        match history.last().map(|last| &last.verdict) {
            Some(Verdict::Verified | Verdict::Unverified) => return stop(Outcome::Complete),
            Some(Verdict::Failed { class, .. }) => match class {
                FailureClass::Cancelled => return stop(Outcome::Cancelled),
                FailureClass::Availability => return stop(Outcome::Unavailable),
                FailureClass::Setup => return stop(Outcome::Refused),
                FailureClass::Quality => {}
            },
            None => {}
        }
        let tried = history.iter().filter(|record| record.by == By::Model).count();
        let tried = u32::try_from(tried).unwrap_or(u32::MAX);
        if tried >= self.attempts {
            return stop(Outcome::Blocked);
        }
        let known = self.temperatures.get(tried as usize).or(self.temperatures.last());
        Decision::Draft {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(by: By, verdict: Verdict) -> Record {
        Record { by, verdict, ..Record::default() }
    }

    fn failed(class: FailureClass) -> Verdict {
        Verdict::Failed { class, reason: "x".into() }
    }

    fn stop(outcome: Outcome) -> Decision {
        Decision::Stop { outcome }
    }

    #[test]
    fn names_are_those_of_the_json() {
        for outcome in
            [Outcome::Complete, Outcome::Blocked, Outcome::Unavailable, Outcome::Refused, Outcome::Cancelled]
        {
            assert_eq!(serde_json::json!(outcome), outcome.as_str());
        }
        for class in FailureClass::ALL {
            assert_eq!(serde_json::json!(class), class.as_str());
        }
    }

    #[test]
    fn two_attempts_then_blocked() {
        let policy = Policy::default();
        let wrong = record(By::Model, failed(FailureClass::Quality));
        assert_eq!(policy.next(&[]), Decision::Draft { attempt: 1, temperature: 0.0, seed: 0 });
        assert_eq!(
            policy.next(std::slice::from_ref(&wrong)),
            Decision::Draft { attempt: 2, temperature: 0.7, seed: 1 }
        );
        assert_eq!(policy.next(&[wrong.clone(), wrong]), stop(Outcome::Blocked));
    }

    #[test]
    fn a_mechanical_failure_costs_no_attempt() {
        let mechanical = record(By::Rule, failed(FailureClass::Quality));
        assert!(matches!(Policy::default().next(&[mechanical]), Decision::Draft { attempt: 1, .. }));
    }

    #[test]
    fn classes_have_outcomes_of_their_own() {
        let policy = Policy::default();
        let after = |verdict| policy.next(&[record(By::Model, verdict)]);
        assert_eq!(after(Verdict::Verified), stop(Outcome::Complete));
        assert_eq!(after(Verdict::Unverified), stop(Outcome::Complete));
        assert_eq!(after(failed(FailureClass::Availability)), stop(Outcome::Unavailable));
        assert_eq!(after(failed(FailureClass::Cancelled)), stop(Outcome::Cancelled));
        assert_eq!(after(failed(FailureClass::Setup)), stop(Outcome::Refused));
        let none = Policy { attempts: 0, ..Policy::default() };
        assert_eq!(none.next(&[]), stop(Outcome::Blocked));
    }
}
