//! The loop: task, prompt, draft, edit, verify, retry or stop.
//!
//! The order is that of S1-14: context files, prompt, model, reply, backup, write, test, result. Between
//! attempts, and whenever the run does not end complete, the files are as they were. Here is the order
//! of attempts; `draft` makes the changes of one, and `apply` writes and verifies them.

mod apply;
mod draft;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::context::{self, Context, ContextRules, Detail};
use crate::edit::{Base, Change, EditFormat, Form, Guard};
use crate::ledger::{By, Record, Status, TaskResult, Usage, Verdict};
use crate::policy::{Decision, FailureClass, Outcome, Policy};
use crate::prompt::{ContextFile, Feedback, Prompt, Templates};
use crate::stages::{Stage, StageOutcome, Stages};
use crate::task::Task;
use crate::verify::{Approvals, Limits, Sandbox, Verification};
use crate::workspace::{Interrupted, Snapshot, Transaction, Workspace};
use crate::writer::{DraftOptions, Writer};
use crate::{Error, Result};

/// Settings of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How often to try, and how.
    pub policy: Policy,
    /// Limits of the commands of a task.
    pub verify: Limits,
    /// What its commands are kept from. By default there is none, and then no command runs.
    pub sandbox: Sandbox,
    /// Which lines for a shell were approved.
    pub approvals: Approvals,
    /// Limits of the guards on a model's draft.
    pub guard: Guard,
    /// What of its context files a prompt shows.
    pub context: ContextRules,
    /// The most tokens of a reply; None leaves it to the writer.
    pub max_tokens: Option<usize>,
    /// What the writer is called in results.
    pub tier: String,
    /// The form of the replies.
    pub edit_format: EditFormat,
    /// The templates of prompts.
    pub templates: Templates,
    /// Rules by which the task is not to be done, and is refused.
    pub refused_by: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            policy: Policy::default(),
            verify: Limits::default(),
            sandbox: Sandbox::default(),
            approvals: Approvals::default(),
            guard: Guard::default(),
            context: ContextRules::default(),
            max_tokens: None,
            tier: "local".to_owned(),
            edit_format: EditFormat::Auto,
            templates: Templates::default(),
            refused_by: None,
        }
    }
}

/// What a run is doing, for those who watch.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress<'a> {
    /// A former run in this workspace was killed; what it did is taken back.
    Interrupted(&'a Interrupted),
    /// The task's own code is put in its place.
    Mechanical,
    /// Whole files are asked for in place of edits, because replies cannot be held to these, for this reason.
    WholeFiles(&'a str),
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
    /// A file is about to be written.
    Writing(&'a str),
    /// The command is about to run.
    Verifying(&'a str),
    /// The command has ended.
    Verified(&'a Verification),
    /// The attempt failed; the files are as they were.
    Failed {
        /// What kind of failure.
        class: FailureClass,
        /// In a few words.
        reason: &'a str,
    },
    /// An attempt has ended: this is what the ledger shall know of it.
    Attempted(&'a Record),
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
        refused: vec![],
        stages: Stages::default(),
        summarised: vec![],
        left: Left::default(),
    };
    let ended = run.all(writer);
    let mut error = match &ended {
        Ok(Outcome::Complete) => String::new(),
        Ok(Outcome::Cancelled) => "cancelled".to_owned(),
        Ok(_) => run.last_reason(),
        Err(error) => error.to_string(),
    };
    let mut outcome = ended.unwrap_or(Outcome::Refused);
    let Left { files, backup, problem } = run.left;
    if let Some(problem) = problem {
        outcome = Outcome::Refused;
        error = format!("{error}; {problem}");
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
        files,
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

/// The files of a task, as a reply finds them.
fn bases(snapshots: &[Snapshot]) -> Vec<Base<'_>> {
    snapshots.iter().map(|file| Base { path: &file.path, content: file.text() }).collect()
}

/// Holds a prompt to its template's budget, as far as the writer can count its tokens.
fn within_budget(prompt: &Prompt, writer: &mut dyn Writer) -> Result<()> {
    let Some(budget) = prompt.budget else { return Ok(()) };
    match writer.tokens(prompt) {
        Some(tokens) if tokens > budget => {
            Err(Error::OverBudget { tokens, budget, template: prompt.kind.as_str() })
        }
        _ => Ok(()),
    }
}

struct Run<'a> {
    task: &'a Task,
    workspace: &'a Workspace,
    settings: &'a Settings,
    observe: &'a mut dyn FnMut(&Progress<'_>),
    cancel: &'a AtomicBool,
    history: Vec<Record>,
    /// Changes that the command has refused.
    refused: Vec<Vec<Change>>,
    /// The stages of the present attempt.
    stages: Stages,
    left: Left,
    /// Context files that the prompt shows by their symbols.
    summarised: Vec<String>,
}

/// What a run leaves behind.
#[derive(Default)]
struct Left {
    /// The files that are different now.
    files: Vec<String>,
    /// Where the old content lies.
    backup: Option<String>,
    /// Why the files may not be as they were, though the run is not complete.
    problem: Option<Error>,
}

/// An attempt that did not work, and what to tell the model about it.
struct Failure {
    class: FailureClass,
    feedback: Feedback,
    verification: Option<Verification>,
}

impl Run<'_> {
    /// The whole run. An error means that the task or its files cannot be worked on.
    fn all(&mut self, writer: Option<&mut dyn Writer>) -> Result<Outcome> {
        if let Some(rules) = &self.settings.refused_by {
            return Err(Error::NotEligible { rules: rules.clone() });
        }
        let (files, limit) = (self.task.files.len(), self.task.policy.max_files());
        if files > limit {
            return Err(Error::TooManyFiles { files, limit });
        }
        for interrupted in self.workspace.recover()? {
            (self.observe)(&Progress::Interrupted(&interrupted));
        }
        self.commands_may_run()?;
        let mut transaction = self.workspace.begin(&self.task.id, &self.task.files)?;
        let ended = self.attempts(&mut transaction, writer);
        let kept = self.task.files.iter().find_map(|file| transaction.backup(file));
        self.left.backup = kept.map(|path| path.display().to_string());
        if matches!(ended, Ok(Outcome::Complete)) {
            self.left.files = transaction.commit()?;
        } else {
            self.left.problem = transaction.abort().err();
        }
        ended
    }

    /// Attempts until one works or no more are allowed.
    fn attempts(
        &mut self,
        transaction: &mut Transaction<'_>,
        mut writer: Option<&mut dyn Writer>,
    ) -> Result<Outcome> {
        let mut context = context::gather(self.task, self.workspace, &self.settings.context, Detail::Full)?;
        let mut feedback = None;
        if let Some(code) = self.task.code.as_ref().filter(|code| self.is_mechanical(code, transaction)) {
            feedback = self.mechanical(code, transaction)?;
        }
        let mut prompt = None;
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
                empty => {
                    let context = std::mem::take(&mut context);
                    empty.insert(self.opening(context, writer, options, transaction, feedback.take())?)
                }
            };
            if let Some(next) = self.attempt(writer, options, asked, transaction)? {
                prompt = Some(next);
            }
        }
    }

    /// The prompt for the first try, in a form to which the writer can hold its replies. Who asks for a form gets no
    /// other.
    fn opening(
        &mut self,
        context: Context,
        writer: &mut dyn Writer,
        options: DraftOptions,
        transaction: &Transaction<'_>,
        mechanical: Option<(String, Feedback)>,
    ) -> Result<Prompt> {
        if mechanical.is_some() {
            // The code in its place is what a model would have replied, as a whole file.
            return self.budgeted(context, writer, transaction, mechanical, Form::Whole);
        }
        let form = self.settings.edit_format.form(&bases(transaction.base()));
        let prompt = self.budgeted(context.clone(), writer, transaction, None, form)?;
        if self.settings.edit_format != EditFormat::Auto || form == Form::Whole {
            return Ok(prompt);
        }
        let Some(reason) = writer.unfit(&prompt, options) else { return Ok(prompt) };
        (self.observe)(&Progress::WholeFiles(&reason));
        self.budgeted(context, writer, transaction, None, Form::Whole)
    }

    /// A first prompt in this form. If the task's own code failed already, the model is told how.
    fn first_prompt(
        &self,
        context: &[ContextFile],
        transaction: &Transaction<'_>,
        mechanical: Option<(String, Feedback)>,
        form: Form,
    ) -> Result<Prompt> {
        let current = |snapshot: &Snapshot| {
            let content = snapshot.text()?.to_owned();
            Some(ContextFile { path: snapshot.path.clone(), content })
        };
        let current: Vec<_> = transaction.base().iter().filter_map(current).collect();
        let prompt = Prompt::in_form(&self.settings.templates, self.task, context, &current, form)?;
        match mechanical {
            Some((content, feedback)) => prompt.retry(&prompt.reply.wrap(&content), &feedback),
            None => Ok(prompt),
        }
    }

    /// The same within its budget. Where it has more tokens than its template allows, all context files are shown by their
    /// symbols; if that is not enough, the task is refused.
    fn budgeted(
        &mut self,
        context: Context,
        writer: &mut dyn Writer,
        transaction: &Transaction<'_>,
        mechanical: Option<(String, Feedback)>,
        form: Form,
    ) -> Result<Prompt> {
        self.summarised = context.summarised;
        let prompt = self.first_prompt(&context.files, transaction, mechanical.clone(), form)?;
        if within_budget(&prompt, writer).is_ok() {
            return Ok(prompt);
        }
        let shorter = context::gather(self.task, self.workspace, &self.settings.context, Detail::Symbols)?;
        self.summarised = shorter.summarised;
        let prompt = self.first_prompt(&shorter.files, transaction, mechanical, form)?;
        within_budget(&prompt, writer)?;
        Ok(prompt)
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
            Some(Record {
                verdict: Verdict::Failed { reason, .. }, verification: Some(_), stages, ..
            }) => {
                let (what, command) = match stages.last() {
                    Some(StageOutcome { stage: Stage::Lint, .. }) => ("lint", &self.task.lint),
                    _ => ("verification", &self.task.command),
                };
                let line = command.as_ref().map_or("", |command| &command.line);
                format!("{what} `{line}` failed: {reason}")
            }
            Some(Record { verdict: Verdict::Failed { reason, .. }, .. }) => reason.clone(),
            None if self.settings.policy.attempts == 0 => {
                "no attempt is allowed, and the task does not carry its own code; allow one".to_owned()
            }
            _ => "no model was given, and the task does not carry its own code; name a model".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::{Reply, WriterError};

    struct Counting(Option<usize>);

    impl Writer for Counting {
        fn draft(&mut self, _: &Prompt, _: DraftOptions) -> Result<Reply, WriterError> {
            Ok(Reply::default())
        }

        fn tokens(&mut self, _: &Prompt) -> Option<usize> {
            self.0
        }
    }

    #[test]
    fn a_prompt_keeps_to_its_templates_budget() {
        let task = Task::of_text("Create tests for validateEmail", Some("a.test.js"));
        let budgeted = Prompt::by(&Templates::by_category(), &task, &[], &[]).unwrap();
        let budget = budgeted.budget.unwrap();
        assert!(within_budget(&budgeted, &mut Counting(Some(budget))).is_ok());
        assert!(within_budget(&budgeted, &mut Counting(None)).is_ok());
        let error = within_budget(&budgeted, &mut Counting(Some(budget + 1))).unwrap_err().to_string();
        let expected =
            format!("the prompt has `{}` tokens, the budget of template `test` is `{budget}`", budget + 1);
        assert!(error.starts_with(&expected), "{error}");
        let code = Prompt::new(&task, &[], &[]).unwrap();
        assert!(within_budget(&code, &mut Counting(Some(1 << 20))).is_ok());
    }
}
