//! Writing an attempt's changes, and finding out whether they work.

use super::{Failure, Progress, Run, Settings};
use crate::command::Command;
use crate::edit::Change;
use crate::ledger::{By, Record, Verdict};
use crate::policy::{FailureClass, Outcome};
use crate::prompt::Feedback;
use crate::stages::Stage;
use crate::verify::{self, Exit, Guarded, Isolation, Limits, Verification};
use crate::workspace::Transaction;
use crate::{Error, Result};

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
        transaction.note()?;
        let mut verification = None;
        for (stage, command) in [(Stage::Lint, &self.task.lint), (Stage::Test, &self.task.command)] {
            let Some(command) = command else { continue };
            let untouched = transaction.untouched();
            let ran = self.judge_settled(stage, command, transaction);
            transaction.claim(untouched);
            let ran = ran?;
            if !ran.passed() {
                transaction.restore()?;
                return Ok(Err(self.disapproved(command, ran, changes)));
            }
            // A linter alone proves nothing.
            verification = Some(ran).filter(|_| stage == Stage::Test);
        }
        Ok(Ok(verification))
    }

    /// Does a task that writes nothing: its commands say how it ends, and no model could change that (S1-32).
    pub(super) fn check(&mut self, transaction: &mut Transaction<'_>) -> Result<Outcome> {
        if self.task.command.is_none() {
            return Err(Error::BadTask {
                file: self.task.source.clone(),
                at: "its files".to_owned(),
                problem: "it names neither a file nor a command; name one".to_owned(),
            });
        }
        let record = Record { by: By::Rule, ..Record::default() };
        match self.apply(transaction, &[])? {
            Ok(verification) => {
                self.done(record, verification);
                Ok(Outcome::Complete)
            }
            Err(failure) => {
                let outcome = match failure.class {
                    FailureClass::Quality => Outcome::Blocked,
                    FailureClass::Setup => Outcome::Refused,
                    FailureClass::Cancelled => Outcome::Cancelled,
                    FailureClass::Availability => Outcome::Unavailable,
                };
                self.failed(record, failure);
                Ok(outcome)
            }
        }
    }

    /// Whether the task's commands may run at all, found out before a model is asked.
    pub(super) fn commands_may_run(&self) -> Result<()> {
        for command in [&self.task.lint, &self.task.command].into_iter().flatten() {
            self.settings.approvals.check(command)?;
            if let Isolation::Missing(problem) = &self.settings.sandbox.isolation {
                return Err(Error::NoSandbox { problem: problem.clone() });
            }
        }
        Ok(())
    }

    /// Runs a command, and a test that approves once more if the task's files are others after it, as a formatter leaves
    /// them: what it approved of is what stays.
    fn judge_settled(
        &mut self,
        stage: Stage,
        command: &Command,
        transaction: &mut Transaction<'_>,
    ) -> Result<Verification> {
        let (ran, changed) = self.judge(stage, command, transaction)?;
        if stage != Stage::Test || changed.is_empty() || !ran.passed() {
            return Ok(ran);
        }
        let (mut ran, changed) = self.judge(stage, command, transaction)?;
        if let Some(path) = changed.into_iter().next().filter(|_| ran.passed()) {
            ran.exit = Exit::Unsettled(path);
        }
        Ok(ran)
    }

    /// Runs a command, and undoes what it did to files that judge the task. With it, where it passes, those of the task's
    /// files that are others now. One that is as before the task again has lost its edit: to the command, or to an editor
    /// that saved what it had read before. Either way it is not what the command approved of.
    fn judge(
        &mut self,
        stage: Stage,
        command: &Command,
        transaction: &mut Transaction<'_>,
    ) -> Result<(Verification, Vec<String>)> {
        (self.observe)(&Progress::Verifying(&command.line));
        let Settings { sandbox, verify: limits, .. } = self.settings;
        let mut limits = *limits;
        if self.task.files.is_empty() {
            // No model reads what a check says.
            limits.output_bytes = limits.output_bytes.max(Limits::default().output_bytes);
        }
        let root = self.workspace.path();
        let sandbox = &sandbox.keeping(root, &self.task.files);
        let guarded = Guarded::take(root, &self.task.files, &command.argv, sandbox)?;
        transaction.shelter(guarded.contents())?;
        let ran = verify::run(&command.argv, root, sandbox, &limits, self.cancel);
        let meddled = guarded.restore(&mut |path, content| transaction.set_aside(path, content))?;
        transaction.release()?;
        let mut verification = ran?;
        if !meddled.is_empty() {
            verification.exit = Exit::Meddled(meddled);
        }
        let changed = if verification.passed() { transaction.note()? } else { Vec::new() };
        if let Some(path) = changed.iter().find(|path| transaction.is_as_before(path)) {
            verification.exit = Exit::TookBack(path.clone());
        }
        self.stages.note(stage, verification.passed(), verification.seconds);
        (self.observe)(&Progress::Verified(&verification));
        Ok((verification, changed))
    }

    fn disapproved(&mut self, command: &Command, verification: Verification, changes: &[Change]) -> Failure {
        if verification.exit == Exit::Cancelled {
            return cancelled(Some(verification));
        }
        let exit = &verification.exit;
        let reason = match changes.is_empty() && !self.task.files.is_empty() {
            true => format!("the reply changes nothing; {exit}"),
            false => exit.to_string(),
        };
        let feedback =
            Feedback { reason, command: command.line.clone(), output: verification.output.clone() };
        // Where another program took the edit back, the same draft may well pass.
        if !matches!(verification.exit, Exit::TookBack(_)) {
            self.refused.push((changes.to_vec(), feedback.reason.clone()));
        }
        // What is the command's own fault says nothing about the draft, and no other draft can help.
        let class = match &verification.exit {
            Exit::NotFound(_) | Exit::NotStarted(_) | Exit::Unsettled(_) => FailureClass::Setup,
            _ => FailureClass::Quality,
        };
        Failure { class, feedback, verification: Some(verification) }
    }

    pub(super) fn done(&mut self, mut record: Record, verification: Option<Verification>) {
        record.verdict = if verification.is_some() { Verdict::Verified } else { Verdict::Unverified };
        record.verification = verification;
        self.ended(record);
    }

    fn ended(&mut self, mut record: Record) {
        record.stages = self.stages.take();
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

pub(super) fn cancelled(verification: Option<Verification>) -> Failure {
    let feedback = Feedback { reason: "cancelled".to_owned(), command: String::new(), output: String::new() };
    Failure { class: FailureClass::Cancelled, feedback, verification }
}
