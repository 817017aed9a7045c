//! The review gate: what a model made is looked at by another one, which is elsewhere and better (S2-31, S2-36).
//!
//! What the reviewer says is data that fits a schema, or nothing: an answer that cannot be read is no judgement, and then
//! the work is called unreviewed. Findings go back to who wrote it like the output of a command that failed.

use std::fmt::Write;
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Failure, Progress, Run, Settings};
use crate::Result;
use crate::edit::Change;
use crate::ledger::{Finding, Record, Reviewed};
use crate::policy::FailureClass;
use crate::prompt::{Feedback, PromptMessage, Role, review_prompt};
use crate::stages::Stage;
use crate::verify::Verification;
use crate::workspace::Transaction;
use crate::writer::{Purpose, Question, Reply, Writer, Writers};

/// The most tokens of a judgement.
const MAX_TOKENS: usize = 4096;

/// The most findings that go back to the writer.
const MAX_FINDINGS: usize = 20;

/// What a reviewer says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
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
            (None, Some(rung)) => (rung == crate::ledger::LOCAL).then_some("unreviewed"),
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
        let messages = vec![PromptMessage {
            role: Role::User,
            content: review_prompt(self.task, transaction.base(), changes, verification.as_ref())?,
        }];
        let files = changes.iter().map(|change| change.path.clone()).collect();
        let question =
            Question { purpose: Purpose::Review, messages, schema: schema(), files, max_tokens: MAX_TOKENS };
        (self.observe)(&Progress::Reviewing { rung: &reviewer });
        let review = match writers(&reviewer) {
            Some(mut writer) => ask(&mut *writer, &reviewer, &question),
            None => unheard(&reviewer, "nothing stands behind the reviewer's name".to_owned()),
        };
        (self.observe)(&Progress::Reviewed(&review));
        if let Some(approved) = review.approved {
            self.stages.note(Stage::Review, approved, review.seconds);
        }
        let refused = (review.approved == Some(false)).then(|| refusal(&review.findings));
        record.review = Some(review);
        let Some(feedback) = refused else { return Ok(Ok(verification)) };
        transaction.restore()?;
        self.refused.push(changes.to_vec());
        Ok(Err(Failure { class: FailureClass::Quality, feedback, verification }))
    }
}

fn ask(writer: &mut dyn Writer, rung: &str, question: &Question) -> Reviewed {
    let began = Instant::now();
    let answered = writer.answer(question);
    let seconds = began.elapsed().as_secs_f64();
    match answered {
        Err(error) => {
            Reviewed { usage: error.usage, cost_usd: error.cost_usd, seconds, ..unheard(rung, error.message) }
        }
        Ok(Reply { text, usage, cost_usd, model, .. }) => {
            let said = Reviewed { model, usage, cost_usd, seconds, ..unheard(rung, String::new()) };
            match serde_json::from_str::<Judgement>(&text) {
                Ok(Judgement { approved, findings }) => {
                    // Who names something that must change has not approved.
                    let approved = approved && !findings.iter().any(|finding| finding.must);
                    Reviewed { approved: Some(approved), findings, ..said }
                }
                Err(error) => Reviewed { problem: format!("its answer cannot be read: {error}"), ..said },
            }
        }
    }
}

/// A review without a judgement.
fn unheard(rung: &str, problem: String) -> Reviewed {
    Reviewed { rung: rung.to_owned(), problem, ..Reviewed::default() }
}

/// What whoever wrote it is told.
fn refusal(findings: &[Finding]) -> Feedback {
    Feedback {
        reason: "a reviewer refused it".to_owned(),
        command: "(none, a review)".to_owned(),
        output: listed(findings),
    }
}

fn listed(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { file, line, problem, must } in findings.iter().take(MAX_FINDINGS) {
        let place = if *line == 0 { file.clone() } else { format!("{file}:{line}") };
        let weight = if *must { "must be corrected" } else { "worth correcting" };
        // Writing to a string does not fail.
        let _ = writeln!(text, "- {place} ({weight}): {problem}");
    }
    if findings.len() > MAX_FINDINGS {
        let _ = writeln!(text, "- (and {} more)", findings.len() - MAX_FINDINGS);
    }
    if findings.is_empty() {
        text.push_str("(it gave no reason)\n");
    }
    text
}
