//! The loop: task, prompt, draft, edit, verify, retry or stop.
//!
//! The order is that of S1-14: context files, prompt, model, reply, backup, write, test, result. Between
//! attempts, and whenever the run does not end complete, the file is as it was.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::edit::{self, Base, Change, EditFormat, Form, Guard, Style};
use crate::ledger::{By, Record, Status, TaskResult, Usage, Verdict};
use crate::policy::{Decision, FailureClass, Outcome, Policy};
use crate::prompt::{ContextFile, Feedback, Prompt};
use crate::task::{Code, Place, Task};
use crate::verify::{self, Exit, Limits, Verification};
use crate::workspace::{Backup, Interrupted, MAX_FILE_BYTES, Snapshot, Workspace};
use crate::writer::{DraftOptions, Reply, Writer, WriterError};
use crate::{Error, Result};

/// Settings of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How often to try, and how.
    pub policy: Policy,
    /// Limits of the verification command.
    pub verify: Limits,
    /// Limits of the guards on a model's draft.
    pub guard: Guard,
    /// The most bytes of all context files together.
    pub context_bytes: u64,
    /// The most tokens of a reply; None leaves it to the writer.
    pub max_tokens: Option<usize>,
    /// What the writer is called in results.
    pub tier: String,
    /// The form of the replies.
    pub edit_format: EditFormat,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            policy: Policy::default(),
            verify: Limits::default(),
            guard: Guard::default(),
            context_bytes: 256 << 10,
            max_tokens: None,
            tier: "local".to_owned(),
            edit_format: EditFormat::Auto,
        }
    }
}

/// What a run is doing, for those who watch.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress<'a> {
    /// A former run of this workspace was killed; its temporary files are removed.
    Interrupted(&'a Interrupted),
    /// The task's own code is put in its place.
    Mechanical,
    /// A model is asked; which try, from 1.
    Drafting {
        /// The try.
        attempt: u32,
    },
    /// The model replied.
    Drafted {
        /// Its tokens.
        usage: Usage,
        /// Its time.
        seconds: f64,
    },
    /// The file is about to be written.
    Writing(&'a str),
    /// The command is about to run.
    Verifying(&'a str),
    /// The command has ended.
    Verified(&'a Verification),
    /// The attempt failed; the file is as it was.
    Failed {
        /// What kind of failure.
        class: FailureClass,
        /// In a few words.
        reason: &'a str,
    },
}

/// Does a task. Without a writer only a task that carries its own code can be done.
///
/// `cancel` stops the run at the next opportunity: before a step, and within a command; a writer should
/// look at the same flag. Nothing is an error of this function: the result says what happened.
pub fn run_task(
    task: &Task,
    workspace: &Workspace,
    writer: Option<&mut dyn Writer>,
    settings: &Settings,
    observe: &mut dyn FnMut(&Progress<'_>),
    cancel: &AtomicBool,
) -> TaskResult {
    let started = Instant::now();
    let mut run = Run {
        task,
        workspace,
        settings,
        observe,
        cancel,
        history: vec![],
        backup: None,
        dirty: false,
        refused: vec![],
    };
    let ended = run.all(writer);
    let mut error = match &ended {
        Ok(Outcome::Complete) => String::new(),
        Ok(Outcome::Cancelled) => "cancelled".to_owned(),
        Ok(_) => run.last_reason(),
        Err(error) => error.to_string(),
    };
    let mut outcome = ended.unwrap_or(Outcome::Refused);
    let backup = run.backup.as_ref().and_then(Backup::content_path);
    if let Err(problem) = run.end(outcome) {
        // A complete task stays complete if only its record could not be closed.
        if outcome != Outcome::Complete {
            outcome = Outcome::Refused;
            error = format!("{error}; {problem}");
        }
    }
    let complete = outcome == Outcome::Complete;
    let mut usage = Usage::default();
    run.history.iter().for_each(|record| usage += record.usage);
    let last = run.history.last();
    TaskResult {
        status: if complete { Status::Success } else { Status::Failed },
        file: task.file.clone(),
        error,
        outcome,
        task_id: task.id.clone(),
        attempts: run.history.len(),
        files: if complete { vec![task.file.clone()] } else { Vec::new() },
        tier: last.map(|record| match record.by {
            By::Rule => "mechanical".to_owned(),
            By::Model => settings.tier.clone(),
        }),
        usage,
        cost_usd: run.history.iter().map(|record| record.cost_usd).sum(),
        seconds: started.elapsed().as_secs_f64(),
        backup,
        verified: complete && last.is_some_and(|record| record.verdict == Verdict::Verified),
        history: run.history,
    }
}

struct Run<'a> {
    task: &'a Task,
    workspace: &'a Workspace,
    settings: &'a Settings,
    observe: &'a mut dyn FnMut(&Progress<'_>),
    cancel: &'a AtomicBool,
    history: Vec<Record>,
    backup: Option<Backup>,
    /// Whether the file may be different from what the backup says.
    dirty: bool,
    /// Contents that the command has refused.
    refused: Vec<String>,
}

/// An attempt that did not work, and what to tell the model about it.
struct Failure {
    class: FailureClass,
    feedback: Feedback,
    verification: Option<Verification>,
}

impl Run<'_> {
    /// The whole loop. An error means that the task or its files cannot be worked on.
    fn all(&mut self, writer: Option<&mut dyn Writer>) -> Result<Outcome> {
        for interrupted in self.workspace.recover(&self.task.file)? {
            (self.observe)(&Progress::Interrupted(&interrupted));
        }
        let snapshot = self.workspace.snapshot(&self.task.file)?;
        let context = self.context()?;
        let mut feedback = None;
        if let Some(code) = &self.task.code
            && is_mechanical(code, &snapshot)
        {
            feedback = self.mechanical(code, &snapshot)?;
        }
        let mut prompt = None;
        let mut writer = writer;
        loop {
            if self.cancelled() && !self.is_done() {
                return Ok(Outcome::Cancelled);
            }
            let decision = self.settings.policy.next(&self.history);
            let options = match decision {
                Decision::Stop { outcome } => return Ok(outcome),
                Decision::Draft { attempt, temperature, seed } => {
                    DraftOptions { attempt, seed, temperature, max_tokens: self.settings.max_tokens }
                }
            };
            let Some(writer) = writer.as_deref_mut() else {
                // What the task's own code came to is the task's outcome; otherwise nothing was tried.
                return Ok(if self.history.is_empty() { Outcome::Unavailable } else { Outcome::Blocked });
            };
            let asked: &Prompt = match &mut prompt {
                Some(prompt) => prompt,
                empty => empty.insert(self.first_prompt(&context, &snapshot, feedback.take())?),
            };
            if let Some(next) = self.attempt(writer, options, asked, &snapshot)? {
                prompt = Some(next);
            }
        }
    }

    /// The prompt for the first try. If the task's own code failed already, the model is told how.
    fn first_prompt(
        &self,
        context: &[ContextFile],
        snapshot: &Snapshot,
        mechanical: Option<(String, Feedback)>,
    ) -> Result<Prompt> {
        let prompt = |form| Prompt::with_form(self.task, context, snapshot.text(), form);
        match mechanical {
            // The code in its place is what a model would have replied, as a whole file.
            Some((content, feedback)) => {
                let prompt = prompt(Form::Whole)?;
                prompt.retry(&prompt.reply.wrap(&content), &feedback)
            }
            None => prompt(self.settings.edit_format.form(&[self.base(snapshot)])),
        }
    }

    fn context(&self) -> Result<Vec<ContextFile>> {
        let limit = self.settings.context_bytes;
        let mut files = Vec::new();
        let mut bytes = 0;
        for path in self.task.context.iter().filter(|path| **path != self.task.file) {
            let content = self.workspace.read(path, limit.min(MAX_FILE_BYTES))?;
            bytes += content.len() as u64;
            if bytes > limit {
                return Err(Error::TooLarge { path: "context files".to_owned(), bytes, limit });
            }
            files.push(ContextFile { path: path.clone(), content });
        }
        Ok(files)
    }

    /// Puts the task's own code in its place. If that fails: the content and the reason.
    fn mechanical(&mut self, code: &Code, snapshot: &Snapshot) -> Result<Option<(String, Feedback)>> {
        (self.observe)(&Progress::Mechanical);
        if let (Place::Line(line), Some(text), Some(_)) = (code.place, snapshot.text(), &self.task.command)
            && edit::stands(text, &code.text, line)
            && let Ok(verification) = self.apply(snapshot, text)?
        {
            // A second run of the same task: the command says that nothing is left to do.
            self.done(Record { by: By::Rule, ..Record::default() }, verification);
            return Ok(None);
        }
        let made = match code.place {
            Place::Line(line) => edit::insert(snapshot.text().unwrap_or(""), &code.text, line),
            Place::Whole | Place::Unstated => Ok(Style::of(snapshot.text()).apply(&code.text)),
        };
        let record = Record { by: By::Rule, ..Record::default() };
        let content = match made {
            Ok(content) => content,
            Err(error) => {
                let feedback =
                    Feedback { reason: error.to_string(), command: String::new(), output: String::new() };
                self.failed(record, Failure { class: FailureClass::Quality, feedback, verification: None });
                return Ok(None);
            }
        };
        let feedback = match self.apply(snapshot, &content)? {
            Ok(verification) => {
                self.done(record, verification);
                None
            }
            Err(failure) => Some(self.failed(record, failure)),
        };
        Ok(feedback.map(|feedback| (content, feedback)))
    }

    /// One try of the model. If it fails and there was a reply, the conversation for the next try.
    fn attempt(
        &mut self,
        writer: &mut dyn Writer,
        options: DraftOptions,
        prompt: &Prompt,
        snapshot: &Snapshot,
    ) -> Result<Option<Prompt>> {
        (self.observe)(&Progress::Drafting { attempt: options.attempt });
        let (Reply { text, usage, seconds, cost_usd }, content) =
            match self.draft(writer, options, prompt, snapshot) {
                Ok(drafted) => drafted,
                Err(error) => {
                    let record = Record { by: By::Model, usage: error.usage, ..Record::default() };
                    let feedback =
                        Feedback { reason: error.message, command: String::new(), output: String::new() };
                    self.failed(record, Failure { class: error.class, feedback, verification: None });
                    return Ok(None);
                }
            };
        (self.observe)(&Progress::Drafted { usage, seconds });
        let record = Record { by: By::Model, usage, seconds, cost_usd, ..Record::default() };
        let applied = match content {
            Ok(content) => self.apply(snapshot, &content)?,
            Err(error) => Err(Failure {
                class: FailureClass::Quality,
                feedback: Feedback {
                    reason: "the reply was not written".to_owned(),
                    command: "(none, the reply itself was refused)".to_owned(),
                    output: error.to_string(),
                },
                verification: None,
            }),
        };
        match applied {
            Ok(verification) => {
                self.done(record, verification);
                Ok(None)
            }
            Err(failure) => {
                let feedback = self.failed(record, failure);
                prompt.retry(&text, &feedback).map(Some)
            }
        }
    }

    /// A reply and what it comes to. The same file would fail the same way, so a draft that has failed
    /// already is asked for again, each time with another seed and a little hotter.
    fn draft(
        &mut self,
        writer: &mut dyn Writer,
        mut options: DraftOptions,
        prompt: &Prompt,
        snapshot: &Snapshot,
    ) -> Result<(Reply, Result<String>), WriterError> {
        let mut all = Reply::default();
        for redraft in 0.. {
            let reply = writer.draft(prompt, options).map_err(|mut error| {
                error.usage += all.usage;
                error
            })?;
            all.text = reply.text;
            all.usage += reply.usage;
            all.seconds += reply.seconds;
            all.cost_usd += reply.cost_usd;
            let content = self.read_draft(&all.text, prompt, snapshot);
            if !content.as_ref().is_ok_and(|content| self.refused.contains(content)) {
                return Ok((all, content));
            }
            if redraft == self.settings.policy.redrafts || self.cancelled() {
                break;
            }
            options = self.settings.policy.redraft(options);
        }
        Ok((all, Err(Error::SameDraft)))
    }

    fn read_draft(&self, text: &str, prompt: &Prompt, snapshot: &Snapshot) -> Result<String> {
        let changes = edit::read(text, &prompt.form, &prompt.reply, &[self.base(snapshot)])?;
        let [Change { content: Some(content), .. }] = changes.as_slice() else {
            return Err(Error::NoEdit);
        };
        edit::check(snapshot.text(), content, &self.settings.guard)?;
        Ok(content.clone())
    }

    /// The file that a reply may change.
    fn base<'s>(&'s self, snapshot: &'s Snapshot) -> Base<'s> {
        Base { path: &self.task.file, content: snapshot.text() }
    }

    /// Writes the content, after a backup, and runs the command. On failure the file is as it was.
    fn apply(&mut self, snapshot: &Snapshot, content: &str) -> Result<Result<Option<Verification>, Failure>> {
        let cancelled = |verification| Failure {
            class: FailureClass::Cancelled,
            feedback: Feedback {
                reason: "cancelled".to_owned(),
                command: String::new(),
                output: String::new(),
            },
            verification,
        };
        if self.cancelled() {
            return Ok(Err(cancelled(None)));
        }
        let backup = match self.backup.take() {
            Some(backup) => backup,
            None => self.workspace.backup(&self.task.id, snapshot.clone())?,
        };
        let backup = &*self.backup.insert(backup);
        (self.observe)(&Progress::Writing(&self.task.file));
        let written = self.workspace.write(backup, content);
        // What another program wrote meanwhile is not ours to take back.
        self.dirty = !matches!(written, Err(Error::Changed { .. }));
        written?;
        let Some(command) = &self.task.command else { return Ok(Ok(None)) };
        (self.observe)(&Progress::Verifying(&command.line));
        let run = verify::run(&command.argv, self.workspace.path(), &self.settings.verify, self.cancel);
        let verification = run?;
        (self.observe)(&Progress::Verified(&verification));
        if verification.passed() {
            return Ok(Ok(Some(verification)));
        }
        self.workspace.restore(backup)?;
        self.dirty = false;
        if verification.exit == Exit::Cancelled {
            return Ok(Err(cancelled(Some(verification))));
        }
        let feedback = Feedback {
            reason: verification.exit.to_string(),
            command: command.line.clone(),
            output: verification.output.clone(),
        };
        self.refused.push(content.to_owned());
        // A program that is not there says nothing about the draft, and no other draft can help.
        let class = match &verification.exit {
            Exit::NotFound(_) | Exit::NotStarted(_) => FailureClass::Setup,
            _ => FailureClass::Quality,
        };
        Ok(Err(Failure { class, feedback, verification: Some(verification) }))
    }

    fn done(&mut self, mut record: Record, verification: Option<Verification>) {
        record.verdict = if verification.is_some() { Verdict::Verified } else { Verdict::Unverified };
        record.verification = verification;
        self.history.push(record);
    }

    fn failed(&mut self, mut record: Record, failure: Failure) -> Feedback {
        let Failure { class, feedback, verification } = failure;
        // Where no command ran, the output says more than the reason.
        let reason = match &verification {
            None if !feedback.output.is_empty() => feedback.output.clone(),
            _ => feedback.reason.clone(),
        };
        (self.observe)(&Progress::Failed { class, reason: &reason });
        record.verdict = Verdict::Failed { class, reason };
        record.verification = verification;
        self.history.push(record);
        feedback
    }

    fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    fn is_done(&self) -> bool {
        self.history
            .last()
            .is_some_and(|last| matches!(last.verdict, Verdict::Verified | Verdict::Unverified))
    }

    /// Why the run did not end complete.
    fn last_reason(&self) -> String {
        match self.history.last() {
            Some(Record { verdict: Verdict::Failed { reason, .. }, verification, .. }) => {
                match (verification, &self.task.command) {
                    (Some(_), Some(command)) => format!("verification `{}` failed: {reason}", command.line),
                    _ => reason.clone(),
                }
            }
            _ => "no model was given, and the task does not carry its own code; name a model".to_owned(),
        }
    }

    /// Makes sure that a run which is not complete leaves the file as it was, and closes the record.
    fn end(&mut self, outcome: Outcome) -> Result<()> {
        let Some(backup) = self.backup.take() else { return Ok(()) };
        if outcome != Outcome::Complete && self.dirty {
            self.workspace.restore(&backup)?;
        }
        self.workspace.close(backup)
    }
}

/// Whether a rule alone can put the code in its place.
fn is_mechanical(code: &Code, snapshot: &Snapshot) -> bool {
    match code.place {
        Place::Line(_) | Place::Whole => true,
        Place::Unstated => snapshot.before.is_none(),
    }
}
