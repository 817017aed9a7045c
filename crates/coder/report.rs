//! What came of tasks, for people and for programs.

use coder_tasks::ledger::{MECHANICAL, Record, Verdict, is_local};
use coder_tasks::{FailureClass, Finished, Outcome, Status, TaskResult};
use serde::Serialize;

use crate::writer::Decoded;

/// All results of one command. Rates are of finished tasks.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    results: &'a [Finished],
    summary: Summary,
    /// Why the plan could not be gone on with.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
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
    /// Not done for another reason: no model, files that may not be changed, Ctrl-C, not begun.
    other: usize,
    completion_tokens: u64,
    decode_tok_s: Option<f64>,
    seconds: f64,
}

impl<'a> Report<'a> {
    /// Counts. What was not begun has no result.
    pub(crate) fn new(results: &'a [Finished], tasks: usize, decoded: &Decoded, seconds: f64) -> Self {
        let other = tasks.saturating_sub(results.len());
        let mut summary =
            Summary { tasks, other, decode_tok_s: decoded.tok_s(), seconds, ..Summary::default() };
        for Finished { result, resumed, .. } in results {
            let count = match result.outcome {
                Outcome::Complete if !result.verified => &mut summary.unverified,
                Outcome::Complete if attempts(result) <= 1 => &mut summary.first_attempt,
                Outcome::Complete => &mut summary.after_retry,
                Outcome::Blocked => &mut summary.blocked,
                _ => &mut summary.other,
            };
            *count += 1;
            if !resumed {
                summary.completion_tokens += result.usage.completion_tokens;
            }
        }
        Self { results, summary, error: None }
    }

    /// The same where the plan could not be gone on with.
    pub(crate) fn cut_short(self, reason: &'a str) -> Self {
        Self { error: Some(reason), ..self }
    }

    /// The result of a task that is alone. Where it could not be brought to its end it is not done, whatever was made of it.
    pub(crate) fn one(&self) -> Option<Finished> {
        let mut one = self.results.first()?.clone();
        if let Some(reason) = self.error {
            let result = TaskResult::nothing(Outcome::Refused, reason.to_owned());
            (one.result.status, one.result.outcome, one.result.error) =
                (result.status, result.outcome, result.error);
        }
        Some(one)
    }

    /// The counts in one line.
    pub(crate) fn line(&self) -> String {
        if self.summary.tasks == 0 {
            return "0 tasks: nothing is left to do".to_owned();
        }
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

/// What a program reads where no task could be begun: a result with all its keys, of no task.
pub(crate) fn refused(reason: &str) -> Finished {
    let result = TaskResult::nothing(Outcome::Refused, reason.to_owned());
    Finished { result, commit: None, resumed: false, integrated: None }
}

/// One task in one line.
pub(crate) fn line(finished: &Finished) -> String {
    let result = &finished.result;
    let outcome = result.outcome.as_str();
    let mut line = format!("{}: {outcome}", result.task_id);
    if !result.file.is_empty() {
        line += &format!(", {}", result.file);
    }
    let how = match (result.outcome, result.tier.as_deref(), attempts(result)) {
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
    if finished.resumed {
        line += ", in a former run";
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
        text += &format!("; see {path}");
    }
    text
}

/// The first line of a reason, and the next one where it only says what comes.
pub(crate) fn first(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    match lines.next() {
        Some(next) if first.ends_with(':') => format!("{first} {}", next.trim()),
        _ => first.to_string(),
    }
}

/// How many attempts were made: a rung that could not be asked has made none.
fn attempts(result: &TaskResult) -> usize {
    let unasked = |record: &&Record| {
        matches!(record.verdict, Verdict::Failed { class: FailureClass::Availability, .. })
    };
    result.attempts.saturating_sub(result.history.iter().filter(unasked).count())
}

#[cfg(test)]
mod tests {
    use coder_tasks::Usage;

    use super::*;

    fn result(outcome: Outcome, attempts: usize, verified: bool) -> Finished {
        let result = TaskResult {
            file: "f.py".into(),
            task_id: "T-001".into(),
            attempts,
            tier: Some("local".into()),
            usage: Usage { completion_tokens: 10, ..Usage::default() },
            seconds: 1.0,
            verified,
            ..TaskResult::nothing(outcome, String::new())
        };
        Finished { result, ..refused("") }
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
        let report = Report::new(&results, 6, &Decoded::default(), 5.0);
        let Summary { tasks, first_attempt, after_retry, unverified, blocked, other, .. } = report.summary;
        assert_eq!([tasks, first_attempt, after_retry, unverified, blocked, other], [6, 1, 1, 1, 1, 2]);
        assert_eq!(report.summary.completion_tokens, 50);
        assert_eq!(
            report.line(),
            "6 tasks: 1 verified at the first attempt, 1 verified after a retry, 1 written without a verification, \
             1 blocked, 2 not done; 5.0 s"
        );
        assert_eq!(line(&results[1]), "T-001: complete, f.py, attempt 2, 10 tokens, 1.0 s");
    }

    /// What was done before a plan could not be gone on with is not lost to a program.
    #[test]
    fn what_was_done_stands_beside_why_it_is_not_all() {
        let mut results = [result(Outcome::Complete, 1, true), result(Outcome::Complete, 1, true)];
        results[0].resumed = true;
        assert_eq!(
            line(&results[0]),
            "T-001: complete, f.py, first attempt, in a former run, 10 tokens, 1.0 s"
        );
        let report =
            Report::new(&results, 3, &Decoded::default(), 5.0).cut_short("`HEAD` is another one now");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["results"][0]["resumed"], true);
        assert_eq!(
            (&json["summary"]["other"], &json["summary"]["completion_tokens"]),
            (&1.into(), &10.into())
        );
        assert_eq!(json["error"], "`HEAD` is another one now");
        let one = report.one().unwrap().result;
        assert_eq!((one.outcome, one.status), (Outcome::Refused, coder_tasks::Status::Failed));
        assert_eq!((one.error.as_str(), one.attempts), ("`HEAD` is another one now", 1));
    }

    #[test]
    fn a_reason_does_not_end_where_it_begins() {
        let mut failed = result(Outcome::Blocked, 2, false);
        failed.result.error =
            "`a.rs` has syntax errors:\nline 3, column 16: missing `;`\nline 4: more".into();
        failed.result.handover = Some("/h.md".into());
        assert!(
            line(&failed).contains("syntax errors: line 3, column 16: missing `;`; see /h.md, 10 tokens"),
            "{}",
            line(&failed)
        );
        assert_eq!(first("one\ntwo"), "one");
        assert_eq!(first("one:"), "one:");
    }

    /// Two rungs without a key made no attempt, so what the third one did at once is its first.
    #[test]
    fn rungs_that_could_not_be_asked_made_no_attempt() {
        let class = |class| Record {
            verdict: Verdict::Failed { class, reason: "no key".into() },
            ..Record::default()
        };
        let mut done = result(Outcome::Complete, 3, true);
        done.result.history = vec![
            class(FailureClass::Availability),
            class(FailureClass::Availability),
            Record { verdict: Verdict::Verified, ..Record::default() },
        ];
        assert!(line(&done).contains(", first attempt,"), "{}", line(&done));
        assert_eq!(Report::new(&[done.clone()], 1, &Decoded::default(), 1.0).summary.first_attempt, 1);
        done.result.history[1] = class(FailureClass::Quality);
        assert!(line(&done).contains(", attempt 2,"), "{}", line(&done));
    }
}
