//! What came of tasks, for people and for programs.

use coder_tasks::ledger::{MECHANICAL, Verdict, is_local};
use coder_tasks::{Finished, Outcome, Status, TaskResult};
use serde::Serialize;

use crate::writer::Decoded;

/// All results of one command. Rates are of finished tasks.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    results: &'a [Finished],
    summary: Summary,
}

/// Counts over all tasks; the first four after `tasks` add up to it.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Summary {
    tasks: usize,
    /// Verified by a command at the first attempt, or without a model.
    first_attempt: usize,
    /// Verified after a failure was shown to the model.
    after_retry: usize,
    /// Done, but the task has no command to verify it.
    unverified: usize,
    /// Not done: every attempt was wrong.
    blocked: usize,
    /// Not done for another reason: no model, files that may not be changed, Ctrl-C.
    other: usize,
    completion_tokens: u64,
    decode_tok_s: Option<f64>,
    seconds: f64,
}

impl<'a> Report<'a> {
    /// Counts.
    pub(crate) fn new(results: &'a [Finished], decoded: &Decoded, seconds: f64) -> Self {
        let mut summary =
            Summary { tasks: results.len(), decode_tok_s: decoded.tok_s(), seconds, ..Summary::default() };
        for result in results.iter().map(|finished| &finished.result) {
            let count = match result.outcome {
                Outcome::Complete if !result.verified => &mut summary.unverified,
                Outcome::Complete if result.attempts <= 1 => &mut summary.first_attempt,
                Outcome::Complete => &mut summary.after_retry,
                Outcome::Blocked => &mut summary.blocked,
                _ => &mut summary.other,
            };
            *count += 1;
            summary.completion_tokens += result.usage.completion_tokens;
        }
        Self { results, summary }
    }

    /// The counts in one line.
    pub(crate) fn line(&self) -> String {
        let Summary { tasks, first_attempt, after_retry, unverified, blocked, other, .. } = self.summary;
        let mut line = format!("{tasks} tasks: {first_attempt} verified at the first attempt");
        for (count, what) in [
            (after_retry, "verified after a retry"),
            (unverified, "written without a verification"),
            (blocked, "blocked"),
            (other, "not done"),
        ] {
            if count > 0 || what == "blocked" {
                line += &format!(", {count} {what}");
            }
        }
        let rate = self.summary.decode_tok_s.map_or(String::new(), |rate| format!("{rate:.1} tok/s, "));
        format!("{line}; {rate}{:.1} s", self.summary.seconds)
    }
}

/// One task in one line.
pub(crate) fn line(result: &TaskResult) -> String {
    let outcome = result.outcome.as_str();
    let mut line = format!("{}: {outcome}", result.task_id);
    if !result.file.is_empty() {
        line += &format!(", {}", result.file);
    }
    let how = match (result.outcome, result.tier.as_deref(), result.attempts) {
        (Outcome::Complete, _, _) if result.file.is_empty() => "verified".to_string(),
        (Outcome::Complete, Some("mechanical"), _) => "applied as given".to_string(),
        (Outcome::Complete, _, 1) => "first attempt".to_string(),
        (Outcome::Complete, _, attempts) => format!("attempt {attempts}"),
        _ => reason(result),
    };
    if how != outcome {
        line += &format!(", {how}");
    }
    if result.outcome == Outcome::Complete && !result.verified {
        line += ", not verified (the task has no command)";
    }
    if let Some(note) = result.note {
        line += &format!(", {note}");
    }
    if let Some(tier) =
        result.tier.as_deref().filter(|tier| result.status == Status::Success && !is_here(tier))
    {
        line += &format!(", by {tier}");
    }
    if result.review == Some("approved") {
        line += ", reviewed";
    }
    if result.cost_usd > 0.0 {
        line += &format!(", ${:.4}", result.cost_usd);
    }
    if result.usage.completion_tokens > 0 {
        line += &format!(", {} tokens", result.usage.completion_tokens);
    }
    format!("{line}, {:.1} s", result.seconds)
}

/// Whether a tier costs nothing but electricity.
fn is_here(tier: &str) -> bool {
    tier == MECHANICAL || is_local(tier)
}

/// Why a task is not done, in a line; where several rungs failed, with each one's last reason and the place of the
/// hand-over.
fn reason(result: &TaskResult) -> String {
    let first = |text: &str| text.lines().next().unwrap_or_default().to_string();
    let mut rungs: Vec<(&str, String)> = Vec::new();
    for record in &result.history {
        let (Some(rung), Verdict::Failed { reason, .. }) = (record.rung(), &record.verdict) else { continue };
        rungs.retain(|(other, _)| *other != rung);
        rungs.push((rung, first(reason)));
    }
    let mut text = first(&result.error);
    if rungs.len() > 1 && result.outcome != Outcome::Cancelled {
        let each: Vec<_> = rungs.iter().map(|(rung, reason)| format!("{rung}: {reason}")).collect();
        text += &format!(" ({})", each.join("; "));
    }
    if let Some(path) = &result.handover {
        text += &format!("; all that is known stands in {path}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use coder_tasks::Usage;

    fn result(outcome: Outcome, attempts: usize, verified: bool) -> Finished {
        let result = TaskResult {
            status: if outcome == Outcome::Complete { Status::Success } else { Status::Failed },
            file: "f.py".into(),
            error: String::new(),
            outcome,
            task_id: "T-001".into(),
            attempts,
            files: Vec::new(),
            tier: Some("local".into()),
            usage: Usage { completion_tokens: 10, ..Usage::default() },
            cost_usd: 0.0,
            seconds: 1.0,
            backup: None,
            displaced: Vec::new(),
            note: None,
            verified,
            review: None,
            handover: None,
            history: Vec::new(),
        };
        Finished { result, commit: None, resumed: false, integrated: None }
    }

    #[test]
    fn every_result_is_counted_once() {
        let results = [
            result(Outcome::Complete, 1, true),
            result(Outcome::Complete, 2, true),
            result(Outcome::Complete, 1, false),
            result(Outcome::Blocked, 2, false),
            result(Outcome::Refused, 0, false),
        ];
        let report = Report::new(&results, &Decoded::default(), 5.0);
        let Summary { tasks, first_attempt, after_retry, unverified, blocked, other, .. } = report.summary;
        assert_eq!([tasks, first_attempt, after_retry, unverified, blocked, other], [5, 1, 1, 1, 1, 1]);
        assert_eq!(report.summary.completion_tokens, 50);
        assert_eq!(
            report.line(),
            "5 tasks: 1 verified at the first attempt, 1 verified after a retry, 1 written without a verification, \
             1 blocked, 1 not done; 5.0 s"
        );
        assert_eq!(line(&results[1].result), "T-001: complete, f.py, attempt 2, 10 tokens, 1.0 s");
    }
}
