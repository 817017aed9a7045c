//! The hand-over: what a person needs to go on where every model has failed (S0-33), as a Markdown file.
//!
//! It lies in the private state folder, since it may quote files, and a run writes nothing into the workspace but the
//! task's files. The next run of the same task replaces it.

use std::fmt::Write;

use super::Run;
use crate::ledger::{By, Record, Verdict};
use crate::policy::Outcome;
use crate::prompt::{fence, unified};

/// The most bytes of a change that are shown.
const CHANGE_BYTES: usize = 64 << 10;

impl Run<'_> {
    /// Writes it, if a person has to go on. A hand-over that cannot be written costs a line in the result, no more.
    pub(super) fn hand_over(&self, outcome: Outcome) -> Option<Result<String, crate::Error>> {
        let asked = self.history.iter().any(|record| record.by == By::Model);
        if outcome != Outcome::Blocked || !asked {
            return None;
        }
        let folder = self.settings.handovers.as_deref();
        let written = self.workspace.hand_over(folder, self.task, &self.handover());
        Some(written.map(|path| path.display().to_string()))
    }

    fn handover(&self) -> String {
        let task = self.task;
        let mut text = format!(
            "# {}: a person is needed\n\nAll models failed; the files are as they were before.\n\n## Task\n\nFile: {}\n",
            task.id, task.source
        );
        let mut line = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        line(format!("Files to change: {}", task.files.join(", ")));
        if !task.context.is_empty() {
            line(format!("Context: {}", task.context.join(", ")));
        }
        for (name, command) in [("Lint", &task.lint), ("Verification", &task.command)] {
            if let Some(command) = command {
                line(format!("{name}: `{}`", command.line));
            }
        }
        line(format!("\n{}", task.description));
        task.constraints.iter().for_each(|constraint| line(format!("- {constraint}")));
        line(format!("\n## What to look at\n\n{}", self.advice()));
        for (number, record) in self.history.iter().enumerate() {
            line(format!("\n## Attempt {}: {}", number + 1, attempt(record)));
        }
        if let Some((changes, _)) = self.refused.iter().rfind(|(changes, _)| !changes.is_empty()) {
            let diff: String = changes.iter().map(|change| unified(&self.base, change)).collect();
            if diff.len() <= CHANGE_BYTES {
                line(format!("\n## The last change that was tried\n\n{}", quoted("diff", &diff)));
            } else {
                line(format!("\n## The last change that was tried\n\nIt has {} bytes.", diff.len()));
            }
        }
        text
    }

    /// Where the attempts point.
    fn advice(&self) -> String {
        let wrong: Vec<&Record> = self.history.iter().filter(|record| record.is_wrong()).collect();
        let gates: Vec<&str> = wrong.iter().filter_map(|record| record.gate()).collect();
        let Some(gate) = gates.last() else {
            return "No model could be asked; the reasons stand below. The task itself was not tried."
                .to_owned();
        };
        let same = gates.iter().all(|other| other == gate);
        let reason = |record: &Record| match &record.verdict {
            Verdict::Failed { reason, .. } => reason.clone(),
            _ => String::new(),
        };
        let repeated = wrong.len() > 1 && wrong.iter().all(|record| reason(record) == reason(wrong[0]));
        let mut text = match same {
            true => format!("All {} drafts were refused by `{gate}`.", wrong.len()),
            false => format!("The drafts were refused by {}; the last one by `{gate}`.", gates.join(", ")),
        };
        let hint = match *gate {
            "parse" => {
                " The models did not keep to the form of replies: the files may be too long, or the task asks for more than edits."
            }
            "guards" | "constraints" => " The rule may contradict the objective.",
            "syntax" => " The file may be in a dialect that is not known here.",
            "review" => " Read the findings: reviewer and writer may understand the objective differently.",
            _ if repeated => {
                " Each time with the same result, so the command, its surroundings or the task's wording may be at fault."
            }
            _ => {
                " Read the output of the last attempt; a smaller task, or one more context file, may be all that is missing."
            }
        };
        text.push_str(hint);
        text
    }
}

/// An attempt: its heading's rest, and what came of it.
fn attempt(record: &Record) -> String {
    let mut text = match (&record.draft, record.by) {
        (Some(draft), _) if !draft.model.is_empty() => format!("{} ({})", draft.tier, draft.model),
        (Some(draft), _) => draft.tier.clone(),
        (None, _) => "the task's own code".to_owned(),
    };
    if let Verdict::Failed { class, reason } = &record.verdict {
        // Writing to a string does not fail.
        let gate = record.gate().unwrap_or_default();
        let _ = write!(text, "\n\n{} failure at {gate}: {reason}", class.as_str());
    }
    let (sent, got) = (record.usage.prompt_tokens, record.usage.completion_tokens);
    if sent + got > 0 {
        let usd = record.total_usd();
        let _ = write!(text, "\n\n{sent} tokens in, {got} out, {:.1} s, ${usd:.4}", record.seconds);
    }
    for finding in record.review.iter().flat_map(|review| &review.findings) {
        let _ = write!(text, "\n- {}:{}: {}", finding.file, finding.line, finding.problem);
    }
    if let Some(verification) = record.verification.as_ref().filter(|ran| !ran.output.trim().is_empty()) {
        let _ = write!(text, "\n\n{}", quoted("", &verification.output));
    }
    text
}

fn quoted(language: &str, text: &str) -> String {
    let fence = fence(3, [text]);
    format!("{fence}{language}\n{}\n{fence}", text.trim_end_matches('\n'))
}
