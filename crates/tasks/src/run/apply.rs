//! Writing an attempt's changes, and finding out whether they work.

use super::{Failure, Progress, Run};
use crate::Result;
use crate::edit::Change;
use crate::ledger::{Record, Verdict};
use crate::policy::FailureClass;
use crate::prompt::Feedback;
use crate::verify::{self, Exit, Verification};
use crate::workspace::Transaction;

impl Run<'_> {
    /// Writes the changes, after a backup, and runs the command. On failure the files are as they were.
    pub(super) fn apply(
        &mut self,
        transaction: &mut Transaction<'_>,
        changes: &[Change],
    ) -> Result<Result<Option<Verification>, Failure>> {
        if self.cancelled() {
            return Ok(Err(cancelled(None)));
        }
        changes.iter().for_each(|change| (self.observe)(&Progress::Writing(&change.path)));
        transaction.write(changes)?;
        let Some(command) = &self.task.command else { return Ok(Ok(None)) };
        (self.observe)(&Progress::Verifying(&command.line));
        let run = verify::run(&command.argv, self.workspace.path(), &self.settings.verify, self.cancel);
        let verification = run?;
        (self.observe)(&Progress::Verified(&verification));
        if verification.passed() {
            return Ok(Ok(Some(verification)));
        }
        transaction.restore()?;
        if verification.exit == Exit::Cancelled {
            return Ok(Err(cancelled(Some(verification))));
        }
        let feedback = Feedback {
            reason: verification.exit.to_string(),
            command: command.line.clone(),
            output: verification.output.clone(),
        };
        self.refused.push(changes.to_vec());
        // A program that is not there says nothing about the draft, and no other draft can help.
        let class = match &verification.exit {
            Exit::NotFound(_) | Exit::NotStarted(_) => FailureClass::Setup,
            _ => FailureClass::Quality,
        };
        Ok(Err(Failure { class, feedback, verification: Some(verification) }))
    }

    pub(super) fn done(&mut self, mut record: Record, verification: Option<Verification>) {
        record.verdict = if verification.is_some() { Verdict::Verified } else { Verdict::Unverified };
        record.verification = verification;
        self.ended(record);
    }

    fn ended(&mut self, record: Record) {
        (self.observe)(&Progress::Attempted(&record));
        self.history.push(record);
    }

    pub(super) fn failed(&mut self, mut record: Record, failure: Failure) -> Feedback {
        let Failure { class, feedback, verification } = failure;
        // Where no command ran, the output says more than the reason.
        let reason = match &verification {
            None if !feedback.output.is_empty() => feedback.output.clone(),
            _ => feedback.reason.clone(),
        };
        (self.observe)(&Progress::Failed { class, reason: &reason });
        record.verdict = Verdict::Failed { class, reason };
        record.verification = verification;
        self.ended(record);
        feedback
    }
}

fn cancelled(verification: Option<Verification>) -> Failure {
    let feedback = Feedback { reason: "cancelled".to_owned(), command: String::new(), output: String::new() };
    Failure { class: FailureClass::Cancelled, feedback, verification }
}
