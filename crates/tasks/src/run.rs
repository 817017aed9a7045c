//! The loop: task, prompt, draft, edit, verify, retry, escalate or stop.
//!
//! The order is that of S1-14: context files, prompt, model, reply, backup, write, test, result. Between
//! attempts, and whenever the run does not end complete, the files are as they were. Here is the run as a whole; `climb`
//! has the order of attempts and rungs, `draft` makes the changes of one, `apply` writes and verifies them, and `review`
//! has them looked at.

mod apply;
mod climb;
mod draft;
mod handover;
mod review;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::context::{Context, ContextRules};
use crate::edit::{Base, Change, EditFormat, Guard};
use crate::ledger::{By, Record, Reviewed, Status, TaskResult, Usage, Verdict};
use crate::policy::{FailureClass, Outcome, Policy};
use crate::project::Denied;
use crate::prompt::{Feedback, Templates};
use crate::stages::{Stage, StageOutcome, Stages};
use crate::task::Task;
use crate::verify::{Approvals, Limits, Sandbox, Verification};
use crate::workspace::{Displaced, Interrupted, Snapshot, Workspace};
use crate::writer::Writers;
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
    /// How the task is shown to a rung of which `showings` says nothing.
    pub showing: Showing,
    /// How it is shown to others, by rung.
    pub showings: BTreeMap<String, Showing>,
    /// The form of the replies.
    pub edit_format: EditFormat,
    /// Who reviews what a model made; nobody if None.
    pub review: Option<ReviewRule>,
    /// The folder for hand-overs; None for that of the workspace's state.
    pub handovers: Option<PathBuf>,
    /// Rules by which the task is not to be done, and is refused.
    pub refused_by: Option<String>,
    /// Files that are not shown because they are related to the task: it has to name them.
    pub denied: Denied,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            policy: Policy::default(),
            verify: Limits::default(),
            sandbox: Sandbox::default(),
            approvals: Approvals::default(),
            guard: Guard::default(),
            showing: Showing::default(),
            showings: BTreeMap::new(),
            edit_format: EditFormat::Auto,
            review: None,
            handovers: None,
            refused_by: None,
            denied: Denied::default(),
        }
    }
}

/// How a task is shown to a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Showing {
    /// What of its context files a prompt shows.
    pub context: ContextRules,
    /// The templates of prompts.
    pub templates: Templates,
    /// The most tokens of a reply; None leaves it to the writer.
    pub max_tokens: Option<usize>,
}

/// Who reviews.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewRule {
    /// The rung that is asked; never one whose own work it is.
    pub rung: String,
    /// The rungs whose work is reviewed; None for every one.
    pub of: Option<Vec<String>>,
}

impl Settings {
    /// How the task is shown to a rung.
    pub fn showing(&self, rung: &str) -> &Showing {
        self.showings.get(rung).unwrap_or(&self.showing)
    }
}

/// What a run is doing, for those who watch.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress<'a> {
    /// A former run in this workspace was killed; what it did is taken back.
    Interrupted(&'a Interrupted),
    /// Nothing is known of a former run of the plan that was to be gone on with; all of it is begun.
    NothingKnown,
    /// The task's own code is put in its place.
    Mechanical,
    /// Files that the task does not name are shown, because they belong to it by their words.
    Related(&'a [String]),
    /// So many files were not looked at for these, because all together are too much.
    LeftOut(usize),
    /// Whole files are asked for in place of edits, because replies cannot be held to these, for this reason.
    WholeFiles(&'a str),
    /// A model is asked.
    Drafting {
        /// Its rung.
        rung: &'a str,
        /// Which try of it, from 1.
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
    /// A rung has failed, and the next one is asked.
    Escalated {
        /// The one that failed.
        from: &'a str,
        /// The next one.
        to: &'a str,
        /// What kind of failure.
        class: FailureClass,
        /// The gate that refused its last work.
        gate: &'a str,
    },
    /// The change is shown to a reviewer.
    Reviewing {
        /// Who.
        rung: &'a str,
    },
    /// The reviewer has answered, or could not.
    Reviewed(&'a Reviewed),
    /// An attempt has ended: this is what the ledger shall know of it.
    Attempted(&'a Record),
}

/// Does a task. `writers` opens a rung's writer when the rung is asked first. Without one only a task that carries its
/// own code can be done.
///
/// `cancel` stops the run at the next opportunity: before a step, and within a command; a writer should
/// look at the same flag. Nothing is an error of this function: the result says what happened.
pub fn run_task(
    task: &Task,
    workspace: &Workspace,
    writers: &mut Writers<'_, '_>,
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
        base: vec![],
        stages: Stages::default(),
        context: Context::default(),
        related: None,
        left: Left::default(),
    };
    let ended = run.all(writers);
    let mut error = match &ended {
        Ok(Outcome::Complete) => String::new(),
        Ok(Outcome::Cancelled) => "cancelled".to_owned(),
        Ok(_) => run.last_reason(),
        Err(error) => error.to_string(),
    };
    let mut outcome = ended.unwrap_or(Outcome::Refused);
    let handover = run.hand_over(outcome).and_then(|written| {
        let failed =
            |problem: Error| error = format!("{error}; the hand-over could not be written: {problem}");
        written.map_err(failed).ok()
    });
    let Left { files, backup, displaced, problem } = run.left;
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
        tier: last.map(|record| match record.by {
            By::Rule => "mechanical".to_owned(),
            By::Model => record.rung().unwrap_or_default().to_owned(),
        }),
        usage,
        // The sum of nothing is -0.0.
        cost_usd: run.history.iter().map(Record::total_usd).sum::<f64>() + 0.0,
        seconds: started.elapsed().as_secs_f64(),
        backup,
        note: (complete && files.is_empty() && !task.files.is_empty()).then_some("nothing had to change"),
        files,
        displaced,
        verified: complete && last.is_some_and(|record| record.verdict == Verdict::Verified),
        review: last.filter(|_| complete).and_then(|record| settings.reviewed(record)),
        handover,
        history: run.history,
    }
}

/// The files of a task, as a reply finds them.
fn bases(snapshots: &[Snapshot]) -> Vec<Base<'_>> {
    snapshots.iter().map(|file| Base { path: &file.path, content: file.text() }).collect()
}

struct Run<'a> {
    task: &'a Task,
    workspace: &'a Workspace,
    settings: &'a Settings,
    observe: &'a mut dyn FnMut(&Progress<'_>),
    cancel: &'a AtomicBool,
    history: Vec<Record>,
    /// Changes that were refused by the command or a reviewer, and why.
    refused: Vec<(Vec<Change>, String)>,
    /// The task's files before the first attempt.
    base: Vec<Snapshot>,
    /// The stages of the present attempt.
    stages: Stages,
    left: Left,
    /// The context files that the prompt shows.
    context: Context,
    /// The files that belong to the task by its words, once they were looked for.
    related: Option<Vec<String>>,
}

/// What a run leaves behind.
#[derive(Default)]
struct Left {
    /// The files that are different now.
    files: Vec<String>,
    /// Where the old content lies.
    backup: Option<String>,
    /// What others wrote meanwhile.
    displaced: Vec<Displaced>,
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
    fn all(&mut self, writers: &mut Writers<'_, '_>) -> Result<Outcome> {
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
        self.base = transaction.base().to_vec();
        let mut ended = match self.task.files.is_empty() {
            true => self.check(&mut transaction),
            false => self.attempts(&mut transaction, writers),
        };
        let kept = self.task.files.iter().find_map(|file| transaction.backup(file));
        self.left.backup = kept.map(|path| path.display().to_string());
        // What writes nothing leaves nothing to undo.
        if matches!(ended, Ok(Outcome::Complete)) && !self.task.files.is_empty() {
            match transaction.commit() {
                Ok(files) => self.left.files = files,
                Err(error) => ended = Err(error),
            }
        }
        let is_done = matches!(ended, Ok(Outcome::Complete));
        let restored = if is_done { Ok(()) } else { transaction.restore() };
        self.left.displaced = transaction.displaced().to_vec();
        self.left.problem = restored.and_then(|()| transaction.abort()).err();
        ended
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
        let mut rungs = self.history.iter().filter_map(Record::rung);
        let first = rungs.next();
        if rungs.any(|rung| Some(rung) != first) {
            // Each one's reason is in the history.
            return "All models failed".to_owned();
        }
        match self.history.last() {
            Some(Record {
                verdict: Verdict::Failed { reason, .. },
                verification: Some(_),
                stages,
                review: None,
                ..
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
