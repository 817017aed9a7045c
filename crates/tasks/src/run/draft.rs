//! What an attempt wants to change: by the task's own code, or as a model replies.

use std::time::Instant;

use super::climb::{Asked, Fault, Work};
use super::{Failure, Progress, Run};
use crate::context::Context;
use crate::edit::{self, Change, Form, Guard, Style};
use crate::ledger::{self, By, Draft, Record};
use crate::policy::FailureClass;
use crate::prompt::{Feedback, Prompt};
use crate::stages::{self, Stage};
use crate::task::{Code, Place};
use crate::verify::Verification;
use crate::workspace::{Snapshot, Transaction};
use crate::writer::{DraftOptions, Reply, Writer, WriterError, Writers};
use crate::{Error, Result};

impl Run<'_> {
    /// Whether a rule alone can put the code in its place. Where a task changes several files, the
    /// others need a model.
    pub(super) fn is_mechanical(&self, code: &Code, transaction: &Transaction<'_>) -> bool {
        let [file] = transaction.base() else { return false };
        match code.place {
            Place::Line(_) | Place::Whole => true,
            Place::Unstated => file.before.is_none(),
        }
    }

    /// Puts the task's own code in its place. If that fails: the content and the reason.
    pub(super) fn mechanical(
        &mut self,
        code: &Code,
        transaction: &mut Transaction<'_>,
    ) -> Result<Option<Fault>> {
        (self.observe)(&Progress::Mechanical);
        let snapshot = transaction.snapshot(&self.task.file)?.clone();
        let record = Record { by: By::Rule, ..Record::default() };
        let change = |content: &str| Change {
            path: snapshot.path.clone(),
            content: Some(content.to_owned()),
            moved_from: None,
        };
        if let (Place::Line(line), Some(text), Some(_)) = (code.place, snapshot.text(), &self.task.command)
            && edit::stands(text, &code.text, line)
            && let Ok(verification) = self.apply(transaction, &[change(text)])?
        {
            // A second run of the same task: the command says that nothing is left to do.
            self.done(record, verification);
            return Ok(None);
        }
        let made = match code.place {
            Place::Line(line) => edit::insert(snapshot.text().unwrap_or(""), &code.text, line),
            Place::Whole | Place::Unstated => Ok(Style::of(snapshot.text()).apply(&code.text)),
        };
        let content = match made {
            Ok(content) => content,
            Err(error) => {
                let feedback =
                    Feedback { reason: error.to_string(), command: String::new(), output: String::new() };
                self.failed(record, Failure { class: FailureClass::Quality, feedback, verification: None });
                return Ok(None);
            }
        };
        let changes = [change(&content)];
        let record = Record { lines: lines_added(transaction.base(), &changes), ..record };
        let feedback = match self.apply(transaction, &changes)? {
            Ok(verification) => {
                self.done(record, verification);
                None
            }
            Err(failure) => Some(self.failed(record, failure)),
        };
        Ok(feedback.map(|feedback| Fault { work: Work::Content(content), feedback }))
    }

    /// One try of the rung that is asked. If it fails and there was a reply: that, and the reason.
    pub(super) fn attempt(
        &mut self,
        asked: &mut Asked<'_>,
        mut options: DraftOptions,
        transaction: &mut Transaction<'_>,
        writers: &mut Writers<'_, '_>,
    ) -> Result<Option<Fault>> {
        let Asked { rung, writer, prompt } = asked;
        (self.observe)(&Progress::Drafting { rung, attempt: options.attempt });
        let began = Instant::now();
        let drafted = self.draft(&mut **writer, &mut options, prompt, transaction.base());
        let draft = Draft {
            tier: rung.clone(),
            model: drafted.as_ref().map_or(String::new(), |(reply, _)| reply.model.clone()),
            template: prompt.template.clone(),
            seed: options.seed,
            temperature: options.temperature,
        };
        let Context { summarised, related, .. } = self.context.clone();
        let record = Record { by: By::Model, draft: Some(draft), summarised, related, ..Record::default() };
        let (Reply { text, usage, seconds, cost_usd, .. }, changes) = match drafted {
            Ok(drafted) => drafted,
            Err(WriterError { class, message, usage, cost_usd }) => {
                let seconds = began.elapsed().as_secs_f64();
                let feedback = Feedback { reason: message, command: String::new(), output: String::new() };
                let record = Record { usage, cost_usd, seconds, ..record };
                self.failed(record, Failure { class, feedback, verification: None });
                return Ok(None);
            }
        };
        (self.observe)(&Progress::Drafted { usage, seconds });
        let lines = changes.as_ref().map_or(0, |changes| lines_added(transaction.base(), changes));
        let mut record = Record { usage, seconds, cost_usd, lines, ..record };
        let applied = match changes {
            Ok(changes) => self.apply_reviewed(&mut record, &changes, transaction, writers),
            Err(error) => Ok(Err(Failure {
                class: FailureClass::Quality,
                feedback: Feedback {
                    reason: "the reply was not written".to_owned(),
                    command: "(none, the reply itself was refused)".to_owned(),
                    output: error.to_string(),
                },
                verification: None,
            })),
        };
        let applied = applied.inspect_err(|error| {
            // The draft took tokens and money, whatever became of it.
            let feedback =
                Feedback { reason: error.to_string(), command: String::new(), output: String::new() };
            let failure = Failure { class: FailureClass::Setup, feedback, verification: None };
            self.failed(record.clone(), failure);
        })?;
        Ok(match applied {
            Ok(verification) => {
                self.done(record, verification);
                None
            }
            Err(failure) => {
                let feedback = self.failed(record, failure);
                Some(Fault { work: Work::Reply(text), feedback })
            }
        })
    }

    /// Writes the changes, runs the commands and has the result looked at.
    fn apply_reviewed(
        &mut self,
        record: &mut Record,
        changes: &[Change],
        transaction: &mut Transaction<'_>,
        writers: &mut Writers<'_, '_>,
    ) -> Result<Result<Option<Verification>, Failure>> {
        match self.apply(transaction, changes)? {
            Ok(verification) => self.reviewed(record, changes, verification, transaction, writers),
            refused => Ok(refused),
        }
    }

    /// A reply and what it comes to. The same files would fail the same way, so a draft that has failed
    /// already is asked for again, each time with another seed and a little hotter.
    fn draft(
        &mut self,
        writer: &mut dyn Writer,
        options: &mut DraftOptions,
        prompt: &Prompt,
        base: &[Snapshot],
    ) -> Result<(Reply, Result<Vec<Change>>), WriterError> {
        let mut all = Reply::default();
        let mut redraft = 0;
        loop {
            let reply = writer.draft(prompt, *options).map_err(|mut error| {
                error.usage += all.usage;
                error.cost_usd += all.cost_usd;
                error
            })?;
            all.text = reply.text;
            all.usage += reply.usage;
            all.seconds += reply.seconds;
            all.cost_usd += reply.cost_usd;
            all.model = reply.model;
            let changes = self.read_draft(&all.text, prompt, base);
            let refused = changes.as_ref().ok().and_then(|changes| self.refusal_of(changes));
            let Some(reason) = refused else { return Ok((all, changes)) };
            // What costs money is not asked for again for the sake of another seed.
            if redraft == self.settings.policy.redrafts || all.cost_usd > 0.0 || self.cancelled() {
                return Ok((all, Err(Error::SameDraft(reason))));
            }
            redraft += 1;
            *options = self.settings.policy.redraft(*options);
        }
    }

    /// Why these changes have failed already, if they have.
    fn refusal_of(&self, changes: &[Change]) -> Option<String> {
        let mut refused = self.refused.iter();
        refused.find(|(other, _)| other == changes).map(|(_, reason)| reason.clone())
    }

    /// The changes that a reply asks for, in the style of the files that it changes, if they pass what can
    /// be found out before anything is written.
    fn read_draft(&mut self, text: &str, prompt: &Prompt, base: &[Snapshot]) -> Result<Vec<Change>> {
        // An edit names every line that it takes away; only a whole file can lose some unsaid.
        let shrink_from = match prompt.form {
            Form::Whole => self.settings.guard.shrink_from,
            Form::Diff { .. } | Form::Patch => usize::MAX,
        };
        let guard = Guard { shrink_from, ..self.settings.guard };
        // A draft that is made anew is judged anew.
        self.stages.take();
        let changes = self.stages.pass(Stage::Parse, || {
            match edit::read(text, &prompt.form, &prompt.reply, &super::bases(base)) {
                // Whether nothing is left to do, the command can tell.
                Err(Error::NothingChanged) if self.task.command.is_some() => Ok(Vec::new()),
                read => read,
            }
        })?;
        let check = |Change { path, content, .. }: &Change| {
            let old = base.iter().find(|snapshot| snapshot.path == *path).and_then(Snapshot::text);
            // A file that is deleted in so many words has lost nothing by accident.
            content.as_deref().map_or(Ok(()), |content| edit::check(path, old, content, &guard))
        };
        self.stages.pass(Stage::Guards, || changes.iter().try_for_each(check))?;
        self.judge_text(base, &changes)?;
        Ok(changes)
    }

    /// The stages that look at the text alone.
    fn judge_text(&mut self, base: &[Snapshot], changes: &[Change]) -> Result<()> {
        self.stages.pass(Stage::Syntax, || stages::syntax(base, changes))?;
        self.stages.pass(Stage::Constraints, || stages::constraints(self.task, base, changes))
    }
}

/// Lines of the new contents that the old ones do not have.
fn lines_added(base: &[Snapshot], changes: &[Change]) -> u64 {
    let added = |change: &Change| {
        let old = base.iter().find(|snapshot| snapshot.path == change.path).and_then(Snapshot::text);
        ledger::lines_added(old, change.content.as_deref().unwrap_or(""))
    };
    changes.iter().map(added).sum()
}
