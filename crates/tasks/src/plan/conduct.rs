//! Doing a plan: in place, one task after the other, or in worktrees of git, several at once.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::Plan;
use super::journal::{Done, Record, digest};
use super::repository::{Repository, refused};
use super::{in_place, in_worktrees};
use crate::ledger::TaskResult;
use crate::policy::Outcome;
use crate::run::{Progress, Settings};
use crate::task::Task;
use crate::writer::Writer;
use crate::{Error, Result};

/// How to do a plan.
#[derive(Clone, Debug)]
pub struct Conduct {
    /// What the user calls the plan, as they would name it again.
    pub name: String,
    /// How many tasks may be at work at the same time; more than 1 only in worktrees.
    pub jobs: usize,
    /// Each task in a worktree of its own and with a commit of its own, in place of working in the folder.
    pub commit: bool,
    /// The folder for journals, old contents, the record of the plan and its worktrees: private, and outside
    /// of the folder that is worked in.
    pub state: PathBuf,
    /// Whether a plan in place keeps a record to go on from. One in worktrees always does.
    pub record: bool,
    /// Goes on with a former run: what is complete is not done again.
    pub resume: bool,
    /// Forgets a former run.
    pub restart: bool,
    /// Lets changes that are not committed be; they stay out of the plan, and as they are.
    pub stash: bool,
}

/// Opens the writer of a rung for a task; None if nothing stands behind the name.
pub type OpenWriter<'a> = dyn Fn(&Task, &str) -> Option<Box<dyn Writer + 'a>> + Sync + 'a;

/// Who does the work and who watches. All of it may be called from several threads.
pub struct Crew<'a> {
    /// The settings for a task.
    pub settings: &'a (dyn Fn(&Task) -> Settings + Sync),
    /// Who drafts for a task on a rung; None leaves it to the task's own code.
    pub writer: &'a OpenWriter<'a>,
    /// Is told what happens; the number is the task's place in the plan.
    pub observe: &'a (dyn Fn(usize, &Event<'_>) + Sync),
    /// Stops everything at the next opportunity.
    pub cancel: &'a AtomicBool,
}

/// What happens to a task of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// It begins.
    Begun,
    /// A step of it.
    Step(&'a Progress<'a>),
    /// It is done anew on the result of those merged before it, for this reason.
    Again(&'a str),
    /// It is over.
    Ended(&'a Finished),
}

/// A task's result within a plan. Its JSON is that of the result, `commit` and `resumed`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finished {
    /// The result.
    #[serde(flatten)]
    pub result: TaskResult,
    /// The task's commit; null in place, and if the task changed nothing.
    pub commit: Option<String>,
    /// Whether a former run did it: its usage, costs and seconds are of that run.
    pub resumed: bool,
    /// Whether the commands approve on top of what was merged before it; None where none was asked there.
    #[serde(skip)]
    pub integrated: Option<bool>,
}

/// Does a plan in a folder. The results are in the order in which the tasks were finished; tasks that a
/// cancelled run did not begin have none. A task is not begun unless all that it needs is complete; it is
/// `blocked` then, and its error says by what.
///
/// An error means that the plan could not be gone on with; what was done so far is in the record.
pub fn run_plan(plan: &Plan, folder: &Path, conduct: &Conduct, crew: &Crew<'_>) -> Result<Vec<Finished>> {
    if !conduct.commit {
        return in_place::run(plan, folder, conduct, crew);
    }
    match Repository::open(folder)? {
        Some(repository) => in_worktrees::run(plan, folder, repository, conduct, crew),
        None => Err(refused(
            "rev-parse",
            "this is no git repository; run without --commit, or `git init` and commit",
        )),
    }
}

/// Whether a folder is in a checkout of git.
pub fn is_repository(folder: &Path) -> bool {
    let folder = std::fs::canonicalize(folder);
    folder.is_ok_and(|folder| folder.ancestors().any(|folder| folder.join(".git").symlink_metadata().is_ok()))
}

impl Finished {
    pub(super) fn new(result: TaskResult, commit: Option<String>) -> Finished {
        Finished { result, commit, resumed: false, integrated: None }
    }

    /// What a former run did.
    pub(super) fn resumed(task: &Task, done: &Done) -> Finished {
        let result = TaskResult {
            attempts: done.attempts,
            files: done.files.clone(),
            tier: done.tier.clone(),
            usage: done.usage(),
            cost_usd: done.cost_usd,
            seconds: done.seconds,
            verified: done.verified,
            review: ["approved", "unreviewed"].into_iter().find(|word| done.review.as_deref() == Some(*word)),
            ..not_done(task, Outcome::Complete, String::new())
        };
        Finished { commit: done.commit.clone(), resumed: true, ..Finished::new(result, None) }
    }

    /// Whether it is complete.
    pub fn is_complete(&self) -> bool {
        self.result.outcome == Outcome::Complete
    }
}

/// The result of a task at which nobody worked.
pub(super) fn not_done(task: &Task, outcome: Outcome, error: String) -> TaskResult {
    TaskResult { file: task.file.clone(), task_id: task.id.clone(), ..TaskResult::nothing(outcome, error) }
}

/// Whether it is this task that was done, and not another one with its id.
fn is_of(done: &Done, task: &Task) -> bool {
    done.id == task.id && done.digest == digest(task)
}

/// Refuses to begin a plan anew of which a former run, in worktrees or in place, did some tasks and not all: its record would
/// be lost, and what is done would be done, and perhaps paid, twice. Where nothing is done, or nothing is left, there is
/// nothing to go on with.
pub(super) fn refuse_partial<'d>(
    plan: &Plan,
    done: impl IntoIterator<Item = &'d Done>,
    name: &str,
    in_worktrees: bool,
) -> Result<()> {
    let done: Vec<_> = done.into_iter().collect();
    let count = plan.tasks.iter().filter(|task| done.iter().any(|done| is_of(done, task))).count();
    match (1..plan.tasks.len()).contains(&count) {
        true => Err(Error::Unfinished { plan: name.to_owned(), done: count, in_worktrees }),
        false => Ok(()),
    }
}

/// The record that a plan begins with: what a former run of it did is known in it. One of the other kind cannot be gone
/// on with.
pub(super) fn begin_record(plan: &Plan, former: Option<Record>, conduct: &Conduct) -> Result<Record> {
    let mut record = Record::begin(&conduct.name, former);
    if conduct.restart {
        record.done.clear();
    }
    let foreign = |done: &&Done| done.is_foreign(conduct.commit);
    refuse_partial(plan, record.done.iter().filter(foreign), &conduct.name, !conduct.commit)?;
    record.done.retain(|done| !done.is_foreign(conduct.commit));
    Ok(record)
}

/// Says that --resume finds nothing to go on with: what is done now may have been done before.
pub(super) fn nothing_known(crew: &Crew<'_>) {
    (crew.observe)(0, &Event::Step(&Progress::NothingKnown));
}

/// The results so far.
pub(super) struct Board<'a> {
    plan: &'a Plan,
    /// For each task, how it ended.
    complete: Vec<Option<bool>>,
    pub(super) finished: Vec<Finished>,
}

impl<'a> Board<'a> {
    pub(super) fn new(plan: &'a Plan) -> Board<'a> {
        Board { plan, complete: vec![None; plan.tasks.len()], finished: Vec::new() }
    }

    /// Enters a result and tells it.
    pub(super) fn enter(&mut self, task: usize, finished: Finished, crew: &Crew<'_>) {
        self.complete[task] = Some(finished.is_complete());
        (crew.observe)(task, &Event::Ended(&finished));
        self.finished.push(finished);
    }

    /// Enters a task that need not or cannot be begun: one that a former run did, or one whose needs are
    /// not met. Otherwise it is to be done.
    pub(super) fn settle(&mut self, task: usize, done: &[Done], crew: &Crew<'_>) -> bool {
        let spec = &self.plan.tasks[task];
        // What a check saw is not what is there now.
        let same = |done: &&Done| is_of(done, spec) && !spec.is_check();
        if let Some(done) = done.iter().rev().find(same) {
            self.enter(task, Finished::resumed(spec, done), crew);
            return true;
        }
        let open = |need: &&usize| self.complete[**need] != Some(true);
        let Some(need) = self.plan.needs[task].iter().find(open) else { return false };
        let reason = format!("task `{}`, which it needs, is not complete", self.plan.tasks[*need].id);
        self.enter(task, Finished::new(not_done(spec, Outcome::Blocked, reason), None), crew);
        true
    }

    pub(super) fn is_complete(&self, task: usize) -> bool {
        self.complete[task] == Some(true)
    }
}
