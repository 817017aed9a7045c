//! The review gate: what a model made is looked at by another one, which is elsewhere and better (S2-31, S2-36).
//!
//! What the reviewer says is data that fits a schema; an answer that does not clearly approve refuses. Where nobody could be
//! asked, the work is called unreviewed. Findings go back to who wrote it like the output of a command that failed.

use std::fmt::Write;
use std::time::Instant;

use serde_json::{Value, json};

use super::{Failure, Progress, Run, Settings};
use crate::Result;
use crate::edit::Change;
use crate::ledger::{Finding, Record, Reviewed, is_local};
use crate::policy::FailureClass;
use crate::prompt::{Feedback, PromptMessage, Role, review_prompt};
use crate::stages::Stage;
use crate::verify::Verification;
use crate::workspace::{Snapshot, Transaction};
use crate::writer::{Purpose, Question, Reply, Writer, Writers};

/// The most tokens of a judgement.
const MAX_TOKENS: usize = 4096;

/// The most findings that go back to the writer.
const MAX_FINDINGS: usize = 20;

/// The most bytes of a finding's words.
const MAX_FINDING_BYTES: usize = 1000;

/// What a reviewer says.
struct Judgement {
    approved: bool,
    findings: Vec<Finding>,
}

/// The schema of [`Judgement`].
fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "findings": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "file": { "type": "string" },
                        "line": { "type": "integer" },
                        "problem": { "type": "string" },
                        "must": { "type": "boolean" },
                    },
                    "required": ["file", "line", "problem", "must"],
                    "additionalProperties": false,
                },
            },
            "approved": { "type": "boolean" },
        },
        "required": ["findings", "approved"],
        "additionalProperties": false,
    })
}

impl Settings {
    /// Whether the work of a rung is to be reviewed, and by whom. Nobody reviews their own.
    fn reviewer_of(&self, rung: &str) -> Option<&str> {
        let rule = self.review.as_ref()?;
        let asked = rule.of.as_ref().is_none_or(|of| of.iter().any(|other| other == rung));
        (asked && rule.rung != rung).then_some(rule.rung.as_str())
    }

    /// What the review of a complete change came to, for the result.
    pub(super) fn reviewed(&self, record: &Record) -> Option<&'static str> {
        match (&record.review, record.rung()) {
            (Some(Reviewed { approved: Some(true), .. }), _) => Some("approved"),
            (Some(_), _) => Some("unreviewed"),
            // A local model's work that nobody was asked about.
            (None, Some(rung)) => is_local(rung).then_some("unreviewed"),
            (None, None) => None,
        }
    }
}

impl Run<'_> {
    /// Has a change looked at that is written and verified. If it is refused, the files are as they were.
    pub(super) fn reviewed(
        &mut self,
        record: &mut Record,
        changes: &[Change],
        verification: Option<Verification>,
        transaction: &mut Transaction<'_>,
        writers: &mut Writers<'_, '_>,
    ) -> Result<Result<Option<Verification>, Failure>> {
        let rung = record.rung().unwrap_or_default();
        let Some(reviewer) = self.settings.reviewer_of(rung).map(str::to_owned) else {
            return Ok(Ok(verification));
        };
        let mut settled = transaction.settled(changes);
        if settled.is_empty() {
            // Whether nothing is left to do is said of the files as they are.
            let same = |file: &Snapshot| {
                let content = Some(file.text()?.to_owned());
                Some(Change { path: file.path.clone(), content, moved_from: None })
            };
            settled.extend(transaction.base().iter().filter_map(same));
        }
        let messages = vec![PromptMessage {
            role: Role::User,
            content: review_prompt(self.task, transaction.base(), &settled, verification.as_ref())?,
        }];
        let files = settled.iter().map(|change| change.path.clone()).collect();
        let question =
            Question { purpose: Purpose::Review, messages, schema: schema(), files, max_tokens: MAX_TOKENS };
        (self.observe)(&Progress::Reviewing { rung: &reviewer });
        let asked = match writers(&reviewer) {
            Some(mut writer) => ask(&mut *writer, &reviewer, &question),
            None => Ok(unheard(&reviewer, "nothing stands behind the reviewer's name".to_owned())),
        };
        let Ok(review) = asked else {
            transaction.restore()?;
            return Ok(Err(super::apply::cancelled(verification)));
        };
        (self.observe)(&Progress::Reviewed(&review));
        if let Some(approved) = review.approved {
            self.stages.note(Stage::Review, approved, review.seconds);
        }
        let refused = (review.approved == Some(false)).then(|| refusal(&review));
        record.review = Some(review);
        let Some(feedback) = refused else { return Ok(Ok(verification)) };
        transaction.restore()?;
        self.refused.push((changes.to_vec(), feedback.reason.clone()));
        Ok(Err(Failure { class: FailureClass::Quality, feedback, verification }))
    }
}

/// Asks for a judgement, a second time if the first answer is none. An answer that came and still is none refuses: text in
/// the change may have talked the reviewer out of its form. Only a reviewer that cannot be asked gives no judgement.
fn ask(writer: &mut dyn Writer, rung: &str, question: &Question) -> Result<Reviewed, Cancelled> {
    let began = Instant::now();
    let mut review = unheard(rung, String::new());
    for _ in 0..2 {
        let (text, problem) = match writer.answer(question) {
            Ok(Reply { text, usage, cost_usd, model, .. }) => {
                review.model = model;
                review.usage += usage;
                review.cost_usd += cost_usd;
                (text, String::new())
            }
            Err(error) => {
                review.usage += error.usage;
                review.cost_usd += error.cost_usd;
                match error.class {
                    FailureClass::Cancelled => return Err(Cancelled),
                    // It was asked, and did not want to.
                    FailureClass::Quality => (String::new(), error.message),
                    _ => {
                        return Ok(Reviewed {
                            problem: error.message,
                            seconds: began.elapsed().as_secs_f64(),
                            ..review
                        });
                    }
                }
            }
        };
        review.seconds = began.elapsed().as_secs_f64();
        if let Some(Judgement { approved, findings }) = read(&text) {
            return Ok(Reviewed { approved: Some(approved), findings, problem: String::new(), ..review });
        }
        review.problem = match problem.is_empty() {
            true => "its answer is no judgement".to_owned(),
            false => problem,
        };
    }
    Ok(Reviewed { approved: Some(false), ..review })
}

/// The user stopped the review.
struct Cancelled;

/// Reads an answer, in a fence or bare. What says no in any way is a no: who names something that must change has not
/// approved, and what has not clearly approved has not.
fn read(text: &str) -> Option<Judgement> {
    let bare = text.trim();
    let bare = bare.strip_prefix("```json").or(bare.strip_prefix("```")).unwrap_or(bare);
    let value: Value = serde_json::from_str(bare.trim_end_matches("```").trim()).ok()?;
    let approved = value.get("approved")?.as_bool()?;
    let listed = value.get("findings").and_then(Value::as_array).cloned().unwrap_or_default();
    let must = |value: &Value| value.get("must").and_then(Value::as_bool) == Some(true);
    let approved = approved && !listed.iter().any(must);
    let text = |value: &Value, key: &str| {
        let words = value.get(key).and_then(Value::as_str).unwrap_or_default();
        let end = words.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_FINDING_BYTES).last();
        let end = if words.len() <= MAX_FINDING_BYTES { words.len() } else { end.unwrap_or(0) };
        if end < words.len() { format!("{} […]", &words[..end]) } else { words.to_owned() }
    };
    let mut findings: Vec<Finding> = listed
        .iter()
        .map(|value| Finding {
            file: text(value, "file"),
            line: value
                .get("line")
                .and_then(Value::as_u64)
                .and_then(|line| u32::try_from(line).ok())
                .unwrap_or(0),
            problem: text(value, "problem"),
            must: must(value),
        })
        .collect();
    // The weighty ones first; what is left out is said.
    findings.sort_by_key(|finding| !finding.must);
    if let Some(more) = findings.len().checked_sub(MAX_FINDINGS).filter(|more| *more > 0) {
        findings.truncate(MAX_FINDINGS);
        let problem = format!("(and {more} more findings)");
        findings.push(Finding { file: String::new(), line: 0, problem, must: false });
    }
    Some(Judgement { approved, findings })
}

/// A review without a judgement.
fn unheard(rung: &str, problem: String) -> Reviewed {
    Reviewed { rung: rung.to_owned(), problem, ..Reviewed::default() }
}

/// What whoever wrote it is told.
fn refusal(review: &Reviewed) -> Feedback {
    let reason = match review.problem.as_str() {
        "" => "a reviewer refused it".to_owned(),
        problem => format!("a reviewer did not approve it: {problem}"),
    };
    Feedback { reason, command: "(none, a review)".to_owned(), output: listed(&review.findings) }
}

fn listed(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { file, line, problem, must } in findings {
        let place = if *line == 0 { file.clone() } else { format!("{file}:{line}") };
        let weight = if *must { "must be corrected" } else { "worth correcting" };
        // Writing to a string does not fail.
        let _ = writeln!(text, "- {place} ({weight}): {problem}");
    }
    if findings.is_empty() {
        text.push_str("(it gave no reason)\n");
    }
    text
}
