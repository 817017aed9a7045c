//! A plan in place: its tasks one after the other, each seeing what those before it did.

use std::path::Path;
use std::sync::atomic::Ordering;

use super::Plan;
use super::conduct::{
    Board, Conduct, Crew, Event, Finished, begin_record, not_done, nothing_known, refuse_partial,
};
use super::journal::{Begun, Done, Journal, Record, Stage};
use crate::policy::Outcome;
use crate::run::{Progress, run_task};
use crate::task::Task;
use crate::workspace::{self, Workspace};
use crate::{Error, Result};

pub(super) fn run(plan: &Plan, folder: &Path, conduct: &Conduct, crew: &Crew<'_>) -> Result<Vec<Finished>> {
    let workspace = Workspace::open(folder, &conduct.state)?;
    let mut book = Book::open(plan, &workspace, conduct, crew)?;
    let mut board = Board::new(plan);
    for task in plan.waves.iter().flatten().copied() {
        if crew.cancel.load(Ordering::Relaxed) {
            break;
        }
        if board.settle(task, &book.record.done, crew) {
            continue;
        }
        let spec = &plan.tasks[task];
        (crew.observe)(task, &Event::Begun);
        book.begin(spec, &workspace)?;
        let settings = (crew.settings)(spec);
        let result = run_task(
            spec,
            &workspace,
            &mut |rung| (crew.writer)(spec, rung),
            &settings,
            &mut |step| (crew.observe)(task, &Event::Step(step)),
            crew.cancel,
        );
        let finished = Finished::new(result, None);
        book.end(spec, &finished, &workspace)?;
        board.enter(task, finished, crew);
    }
    book.close()?;
    Ok(board.finished)
}

/// The record of the run, if one is kept.
struct Book {
    journal: Option<Journal>,
    record: Record,
}

impl Book {
    fn open(plan: &Plan, workspace: &Workspace, conduct: &Conduct, crew: &Crew<'_>) -> Result<Book> {
        if !conduct.record {
            return Ok(Book { journal: None, record: Record::begin(&conduct.name, None) });
        }
        let (journal, _) = Journal::open(&conduct.state, workspace.path())?;
        let former = match journal.read() {
            Err(Error::BadJournal { .. }) if conduct.restart => None,
            read => read?,
        };
        // Commits of a run in worktrees that the checkout does not have: nothing else knows of them.
        let waiting = |former: &&Record| former.head != former.base;
        if let Some(Record { plan, done, .. }) = former.as_ref().filter(waiting) {
            return Err(Error::Unfinished { plan: plan.clone(), done: done.len(), in_worktrees: true });
        }
        let same = former.as_ref().filter(|former| former.plan == conduct.name && !conduct.restart);
        let begun = same.and_then(|former| former.begun.clone());
        let mut record = begin_record(plan, former, conduct)?;
        if begun.is_some() || !record.done.is_empty() {
            record.done = gone_on_with(plan, record.done, begun, workspace, crew)?;
        } else if conduct.resume {
            nothing_known(crew);
        }
        if !conduct.resume {
            refuse_partial(plan, &record.done, &conduct.name, false)?;
            record.done.clear();
        }
        journal.write(&record)?;
        Ok(Book { journal: Some(journal), record })
    }

    fn begin(&mut self, task: &Task, workspace: &Workspace) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let after = workspace.history()?.last().map_or(0, |done| done.number);
        self.record.begun = Some(Begun { id: task.id.clone(), after });
        journal.write(&self.record)
    }

    fn end(&mut self, task: &Task, finished: &Finished, workspace: &Workspace) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let begun = self.record.begun.take();
        if finished.is_complete() {
            let entry = begun.map_or(Ok(None), |begun| entry(&begun, workspace))?;
            let number = entry.map(|entry| entry.number);
            self.record.done.push(Done { number, ..Done::new(task, &finished.result, None) });
        }
        journal.write(&self.record)
    }

    /// The record stays: who asks to go on with a plan that is complete must get no second one.
    fn close(mut self) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        self.record.stage = Stage::Ended;
        journal.write(&self.record)
    }
}

/// What a former run in place did, once what a killed task left half done is taken back.
fn gone_on_with(
    plan: &Plan,
    mut done: Vec<Done>,
    begun: Option<Begun>,
    workspace: &Workspace,
    crew: &Crew<'_>,
) -> Result<Vec<Done>> {
    let interrupted = workspace.recover()?;
    for interrupted in &interrupted {
        (crew.observe)(0, &Event::Step(&Progress::Interrupted(interrupted)));
    }
    let history = workspace.history()?;
    done.retain(|done| stands(done, &history));
    let cut_off = |id: &String| interrupted.iter().any(|interrupted| interrupted.task_id == *id);
    let begun = begun.filter(|begun| !cut_off(&begun.id)).and_then(|begun| {
        let spec = plan.tasks.iter().find(|task| task.id == begun.id)?;
        Some((spec, begun))
    });
    if let Some((spec, begun)) = begun
        && let Some(workspace::Done { number, files, .. }) = entry(&begun, workspace)?
    {
        // The task was complete; only the entry was missing.
        let mut result = not_done(spec, Outcome::Complete, String::new());
        (result.attempts, result.verified, result.files) = (1, spec.command.is_some(), files);
        done.push(Done { number: Some(number), ..Done::new(spec, &result, None) });
    }
    Ok(done)
}

/// What the history has of a task that was begun: its entry, if it is done and changed something.
fn entry(begun: &Begun, workspace: &Workspace) -> Result<Option<workspace::Done>> {
    let is = |done: &workspace::Done| {
        let mine = done.number > begun.after && done.task_id == begun.id;
        mine && done.undoes.is_none() && !done.undone && !done.files.is_empty()
    };
    Ok(workspace.history()?.into_iter().rev().find(is))
}

/// Whether what a task did was not undone since. The history forgets its first entries, which nobody can undo then.
fn stands(done: &Done, history: &[workspace::Done]) -> bool {
    let Some(number) = done.number else { return true };
    match history.iter().find(|entry| entry.number == number) {
        Some(entry) => !entry.undone,
        None => history.first().is_some_and(|first| number < first.number),
    }
}
