//! What a number of tasks add up to. Only sums: every rate is made of two of them, elsewhere.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Usage;
use super::entry::{Attempt, AttemptResult, Entry, LocalEnd, MECHANICAL, Millis, is_local};
use super::request::Sent;
use crate::policy::FailureClass;

/// Sums over tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Tasks that were begun.
    pub tasks: u64,
    /// Tasks that ended, in whatever way; the others run, or were killed.
    pub finished: u64,
    /// Tasks that ended complete.
    pub complete: u64,
    /// Complete tasks whose command approved.
    pub verified: u64,
    /// Tasks of which every attempt was wrong.
    pub blocked: u64,
    /// Tasks that were verified or blocked: somebody judged the work.
    pub judged: u64,
    /// Tasks with at least one attempt.
    pub attempted: u64,
    /// Attempted tasks whose first attempt was made here, by rule or by the local model.
    pub delegated: u64,
    /// Delegated tasks that were judged.
    pub delegated_judged: u64,
    /// Delegated tasks that were verified at their first attempt.
    pub first_pass: u64,
    /// Complete tasks in which no cloud model had a part.
    pub offline: u64,
    /// Tasks whose command was run again after their change was merged.
    pub integrated: u64,
    /// Those whose command did not approve any more.
    pub regressed: u64,
    /// Judged tasks with an attempt of a local model.
    pub local: Quality,
    /// Judged tasks with an attempt of a cloud model.
    pub cloud: Quality,
    /// Finished local attempts (S2-27): tasks on which the local model's work was judged.
    pub local_attempts: u64,
    /// Those that the local model did.
    pub local_successes: u64,
    /// The others, by the gate that refused the last draft.
    pub escalated: BTreeMap<String, u64>,
    /// What the work of each tier took.
    pub tiers: BTreeMap<String, TierCounts>,
    /// What requests to each rung took of which no attempt tells: reviews, plans, and drafts of killed runs.
    pub questions: BTreeMap<String, QuestionCounts>,
    /// What complete tasks would have taken as one request each to a cloud model.
    pub baseline: Usage,
    /// Those requests, one by one: a price may depend on the length of a prompt.
    #[serde(skip)]
    pub requests: Vec<Usage>,
    /// The same of routine tasks alone.
    pub routine_baseline: Usage,
    /// Cloud tokens of routine tasks, complete or not.
    pub routine_cloud_tokens: u64,
    /// Lines of complete tasks by the tier that wrote them.
    pub lines: BTreeMap<String, u64>,
    /// When the first task began; None without any.
    pub first: Option<Millis>,
    /// When the last task began.
    pub last: Option<Millis>,
}

/// How well the tasks of one side went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quality {
    /// Judged tasks.
    pub judged: u64,
    /// Those that this side brought to an approved end.
    pub done: u64,
    /// Sum of 1 / number of this side's attempts over those; 0 for the others.
    pub score: f64,
}

/// Requests to one rung that were no drafts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct QuestionCounts {
    /// All of them.
    pub requests: u64,
    /// Tokens.
    pub usage: Usage,
    /// US dollars.
    pub cost_usd: f64,
}

/// Attempts of one tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TierCounts {
    /// All of them.
    pub attempts: u64,
    /// Those whose change was accepted.
    pub successes: u64,
    /// Those for which the model could not be used.
    pub unavailable: u64,
    /// Those that the user stopped.
    pub cancelled: u64,
    /// Tokens.
    pub usage: Usage,
    /// Seconds of the writer.
    pub seconds: f64,
    /// Those in which there was a reply, good or bad.
    pub answered: u64,
    /// Seconds of those.
    pub answered_seconds: f64,
    /// US dollars.
    pub cost_usd: f64,
}

impl Counts {
    /// Adds tasks up.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Counts {
        let mut counts = Counts::default();
        entries.into_iter().for_each(|entry| counts.add(entry));
        counts
    }

    /// Tokens of prompts and replies that went to cloud models.
    pub fn cloud_tokens(&self) -> u64 {
        let cloud = self.tiers.iter().filter(|(tier, _)| *tier != MECHANICAL && !is_local(tier));
        let drafts = cloud.map(|(_, tier)| tokens(tier.usage));
        drafts.chain(self.questions.values().map(|asked| tokens(asked.usage))).fold(0, u64::saturating_add)
    }

    /// US dollars of all attempts, reviews and plans.
    pub fn cost_usd(&self) -> f64 {
        let drafts: f64 = self.tiers.values().map(|tier| tier.cost_usd).sum();
        // The sum of nothing is -0.0.
        0.0 + drafts + self.questions.values().map(|asked| asked.cost_usd).sum::<f64>()
    }

    /// What the work of the models in this process took.
    pub fn local_tiers(&self) -> impl Iterator<Item = &TierCounts> {
        self.tiers.iter().filter(|(tier, _)| is_local(tier)).map(|(_, counts)| counts)
    }

    /// Seconds that they worked.
    pub fn local_seconds(&self) -> f64 {
        self.local_tiers().map(|tier| tier.seconds).sum()
    }

    /// Adds requests that belong to no task.
    pub fn add_loose<'a>(&mut self, requests: impl IntoIterator<Item = &'a Sent>) {
        requests.into_iter().filter(|sent| !sent.is_draft()).for_each(|sent| self.asked(sent));
    }

    fn asked(&mut self, sent: &Sent) {
        let counts = self.questions.entry(sent.rung.clone()).or_default();
        counts.requests += 1;
        counts.usage += sent.usage;
        counts.cost_usd += sent.cost_usd;
    }

    /// Escalated local attempts.
    pub fn escalations(&self) -> u64 {
        self.escalated.values().sum()
    }

    fn add(&mut self, entry: &Entry) {
        let one = u64::from;
        self.tasks += 1;
        self.finished += one(entry.end.is_some());
        self.complete += one(entry.is_complete());
        self.verified += one(entry.is_verified());
        self.blocked += one(entry.outcome() == Some("blocked"));
        self.offline += one(entry.is_complete() && entry.was_offline());
        self.first = self.first.into_iter().chain([entry.began]).min();
        self.last = self.last.into_iter().chain([entry.began]).max();
        if entry.is_check() {
            return;
        }
        self.judged += one(entry.is_judged());
        self.attempted += one(!entry.attempts.is_empty());
        self.delegated += one(entry.is_delegated());
        self.delegated_judged += one(entry.is_delegated() && entry.is_judged());
        self.first_pass += one(entry.is_delegated() && entry.is_verified() && entry.tried().count() == 1);
        self.integrated += one(entry.integrated.is_some());
        self.regressed += one(entry.integrated == Some(false));
        self.local.add(entry, |attempt| is_local(&attempt.tier));
        self.cloud.add(entry, Attempt::is_cloud);
        match entry.local_end() {
            None => {}
            Some(LocalEnd::Success) => {
                (self.local_attempts, self.local_successes) =
                    (self.local_attempts + 1, self.local_successes + 1)
            }
            Some(LocalEnd::Escalated { gate }) => {
                self.local_attempts += 1;
                *self.escalated.entry(gate).or_default() += 1;
            }
        }
        for attempt in &entry.attempts {
            self.tiers.entry(attempt.tier.clone()).or_default().add(attempt);
            if attempt.is_cloud() && entry.is_routine() {
                self.routine_cloud_tokens = self.routine_cloud_tokens.saturating_add(tokens(attempt.usage));
            }
        }
        // Of a draft whose program was killed no attempt tells either.
        for sent in entry.requests.iter().filter(|sent| !sent.is_draft() || sent.error.is_none()) {
            self.asked(sent);
            if entry.is_routine() {
                self.routine_cloud_tokens = self.routine_cloud_tokens.saturating_add(tokens(sent.usage));
            }
        }
        if entry.is_complete() {
            let request = entry.as_one_request();
            self.baseline += request;
            self.requests.push(request);
            if entry.is_routine() {
                self.routine_baseline += request;
            }
            if let Some(last) = entry.attempts.last() {
                *self.lines.entry(last.tier.clone()).or_default() += last.lines;
            }
        }
    }
}

impl Quality {
    /// The mean score; None without a judged task.
    pub fn mean(&self) -> Option<f64> {
        (self.judged > 0).then(|| self.score / self.judged as f64)
    }

    /// A task counts for a side that had a part in it: as done if that side's attempt was the one that was approved,
    /// with a score of 1 at its first attempt, 1/2 at its second, and so on.
    fn add(&mut self, entry: &Entry, is_ours: impl Fn(&Attempt) -> bool) {
        let ours = entry.attempts.iter().filter(|attempt| is_ours(attempt)).count();
        let failed_for_other_reasons = |attempt: &Attempt| {
            is_ours(attempt) && attempt.failure().is_some_and(|class| class != FailureClass::Quality)
        };
        let judged = ours - entry.attempts.iter().filter(|attempt| failed_for_other_reasons(attempt)).count();
        if judged == 0 || !entry.is_judged() {
            return;
        }
        self.judged += 1;
        let approved = entry.attempts.last().is_some_and(|last| is_ours(last) && is_verified(last));
        if approved {
            self.done += 1;
            self.score += 1.0 / judged as f64;
        }
    }
}

impl TierCounts {
    fn add(&mut self, attempt: &Attempt) {
        self.attempts += 1;
        self.successes += u64::from(attempt.is_success());
        self.unavailable += u64::from(attempt.failure() == Some(FailureClass::Availability));
        self.cancelled += u64::from(attempt.failure() == Some(FailureClass::Cancelled));
        self.usage += attempt.usage;
        self.seconds += attempt.seconds;
        let failure = attempt.failure();
        if !matches!(failure, Some(FailureClass::Availability | FailureClass::Cancelled)) {
            self.answered += 1;
            self.answered_seconds += attempt.seconds;
        }
        self.cost_usd += attempt.cost_usd;
    }
}

/// Tokens of prompts and replies together.
pub fn tokens(usage: Usage) -> u64 {
    usage.prompt_tokens.saturating_add(usage.completion_tokens)
}

fn is_verified(attempt: &Attempt) -> bool {
    attempt.result == AttemptResult::Verified
}
