//! A plan in worktrees: tasks of a wave at the same time, merged in order, one commit each.
//!
//! The user's checkout is not touched before the end. Each task works in a worktree of the commit that its
//! wave begins from, or is gone on with from; with one job that of the task before it. Its commit holds the files
//! that the task changed and nothing else, whatever its command left behind; it is made on top of those merged
//! before it, and verified again there if they are new to it. Commits have no name until the checkout takes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use super::Plan;
use super::conduct::{Board, Conduct, Crew, Event, Finished, begin_record, nothing_known, refuse_partial};
use super::journal::{Done, Journal, Record, Stage};
use super::landing::{self, Landing};
use super::repository::Repository;
use super::trees::{Tree, Trees};
use crate::ledger::{Status, TaskResult};
use crate::policy::Outcome;
use crate::run::{Progress, run_task};
use crate::verify::{self, Exit};
use crate::workspace::Workspace;
use crate::{Error, Result};

pub(super) fn run(
    plan: &Plan,
    folder: &Path,
    mut repository: Repository,
    conduct: &Conduct,
    crew: &Crew<'_>,
) -> Result<Vec<Finished>> {
    let (journal, children) = Journal::open(&conduct.state, &repository.root)?;
    repository.git.hold(children);
    let trees = Trees::open(&repository, &journal.path("trees"))?;
    landing::clear(&repository.git_dir)?;
    let workspace = Workspace::open(folder, &conduct.state)?;
    let files = journal.path("files");
    super::trees::remove_folder(&files)?;
    let site = Site {
        plan,
        conduct,
        crew,
        repository: &repository,
        workspace: &workspace,
        trees: &trees,
        files: files.clone(),
    };
    let record = site.begin(&journal)?;
    let index = journal.path("index");
    clear(&index);
    let mut work =
        Work { site: &site, journal: &journal, record, board: Board::new(plan), index, merged: vec![] };
    for wave in &plan.waves {
        if crew.cancel.load(Ordering::Relaxed) {
            break;
        }
        work.wave(wave)?;
    }
    work.land()?;
    let Work { board: Board { finished, .. }, index, .. } = work;
    // The record stays: who asks to go on with a plan that is complete must get no second one.
    clear(&index);
    super::trees::remove_folder(&files)?;
    let _ = std::fs::remove_dir(journal.path("trees"));
    Ok(finished)
}

/// Removes an index and its lock. What cannot be removed is overwritten, or said by git.
fn clear(index: &Path) {
    let _ = std::fs::remove_file(index);
    let _ = std::fs::remove_file(index.with_extension("lock"));
}

/// What all threads share.
struct Site<'a, 'c> {
    plan: &'a Plan,
    conduct: &'a Conduct,
    crew: &'a Crew<'c>,
    repository: &'a Repository,
    /// The user's checkout.
    workspace: &'a Workspace,
    trees: &'a Trees<'a>,
    /// The state folder of workspaces in worktrees, which is worth nothing after them.
    files: PathBuf,
}

/// What the merging thread alone knows.
struct Work<'a, 'c> {
    site: &'a Site<'a, 'c>,
    journal: &'a Journal,
    record: Record,
    board: Board<'a>,
    /// An index for making commits.
    index: PathBuf,
    /// Tasks of the present wave that are merged.
    merged: Vec<usize>,
}

/// A task that was worked at, and its worktree.
struct Ran<'a> {
    task: usize,
    result: TaskResult,
    tree: Tree<'a>,
    /// The commit that the worktree began from.
    base: String,
}

/// What came of merging.
enum Joined {
    /// The commit; None if the task changed nothing.
    Merged(Option<String>),
    /// Why not.
    Refused(String),
    Cancelled,
}

impl Site<'_, '_> {
    /// The record that this run goes on with, after the checkout was looked at.
    fn begin(&self, journal: &Journal) -> Result<Record> {
        let former = match journal.read() {
            Err(Error::BadJournal { .. }) if self.conduct.restart => None,
            read => read?,
        };
        let former = match former {
            Some(former) if former.stage == Stage::Landing => match self.end_landing(journal, former) {
                // Where the checkout went on without it, nothing is left to be ended.
                Err(Error::Moved { .. }) if self.conduct.restart => None,
                ended => Some(ended?),
            },
            former => former,
        };
        let (head, branch) = (self.repository.head()?, self.repository.branch()?);
        // What was killed in place left nothing that waits for the checkout.
        let waits = |former: &Record| former.stage == Stage::Running && !former.base.is_empty();
        let mut record = match former {
            Some(former) if waits(&former) && !self.conduct.restart => {
                self.go_on(former, &head, branch.as_ref())?
            }
            former => {
                let record = begin_record(self.plan, former, self.conduct)?;
                if self.conduct.resume && record.done.is_empty() {
                    nothing_known(self.crew);
                }
                Record { base: head.clone(), head: head.clone(), ..record }
            }
        };
        if record.head == record.base {
            // Nothing of the plan waits for the checkout, so it may be anywhere.
            (record.base, record.head) = (head.clone(), head);
        }
        (record.stage, record.branch) = (Stage::Running, branch);
        record.done = self.standing(record.done, &record.head)?;
        if !self.conduct.resume {
            refuse_partial(self.plan, &record.done, &self.conduct.name, true)?;
            record.done.clear();
        }
        self.repository.check(&self.plan.tasks, &record.base, self.conduct.stash)?;
        journal.write(&record)?;
        Ok(record)
    }

    /// Those of the tasks done whose work is in a commit: a user may have gone back behind it.
    fn standing(&self, done: Vec<Done>, head: &str) -> Result<Vec<Done>> {
        let mut standing = Vec::new();
        for done in done {
            let holds = |commit: &String| self.repository.holds(head, commit, &done.files);
            if done.commit.as_ref().map_or(Ok(true), holds)? {
                standing.push(done);
            }
        }
        Ok(standing)
    }

    /// A former run was killed while it brought the checkout to its last commit.
    fn end_landing(&self, journal: &Journal, former: Record) -> Result<Record> {
        // First back to whole files: the landing's own transaction may have been cut off.
        for interrupted in self.workspace.recover()? {
            (self.crew.observe)(0, &Event::Step(&Progress::Interrupted(&interrupted)));
        }
        Landing::prepare(self.repository, self.workspace, &former.base, &former.head)?.land(&former)?;
        let record = Record { base: former.head.clone(), stage: Stage::Ended, ..former };
        journal.write(&record)?;
        Ok(record)
    }

    /// A former run was killed while tasks were at work.
    fn go_on(&self, former: Record, head: &str, branch: Option<&String>) -> Result<Record> {
        if !self.conduct.resume || former.plan != self.conduct.name {
            let Record { plan, done, .. } = former;
            return Err(Error::Unfinished { plan, done: done.len(), in_worktrees: true });
        }
        let moved = |problem: String| {
            Err(Error::Moved { problem, from: former.base.clone(), to: former.head.clone() })
        };
        if former.head != former.base && former.base != head {
            return moved(format!("`HEAD` is `{head}` now"));
        }
        if former.head != former.base && former.branch.as_ref() != branch {
            return moved(format!("the branch is `{}` now", branch.map_or("none", String::as_str)));
        }
        Ok(former)
    }

    /// Works at a task in a new worktree.
    fn work(&self, task: usize, base: &str) -> Result<Ran<'_>> {
        (self.crew.observe)(task, &Event::Begun);
        let tree = self.trees.add(base)?;
        let result = self.attempt(task, &tree)?;
        Ok(Ran { task, result, tree, base: base.to_owned() })
    }

    fn attempt(&self, task: usize, tree: &Tree<'_>) -> Result<TaskResult> {
        let spec = &self.plan.tasks[task];
        let workspace = Workspace::open(&tree.folder(), &self.files)?;
        let settings = (self.crew.settings)(spec);
        let result = run_task(
            spec,
            &workspace,
            &mut |rung| (self.crew.writer)(spec, rung),
            &settings,
            &mut |step| (self.crew.observe)(task, &Event::Step(step)),
            self.crew.cancel,
        );
        // The old content is in the repository; the worktree's copy goes with it. Nobody but the task's commands writes
        // there.
        Ok(TaskResult { backup: None, displaced: Vec::new(), ..result })
    }

    /// Runs the commands of tasks in a worktree; why one of them does not approve.
    fn verify(&self, tasks: &[usize], tree: &Tree<'_>) -> Result<Option<Joined>> {
        let mut seen: Vec<&[String]> = Vec::new();
        for task in tasks.iter().map(|task| &self.plan.tasks[*task]) {
            let Some(command) = task.command.as_ref().filter(|command| !seen.contains(&&*command.argv))
            else {
                continue;
            };
            seen.push(&command.argv);
            let settings = (self.crew.settings)(task);
            settings.approvals.check(command)?;
            let (sandbox, limits) = (&settings.sandbox, &settings.verify);
            let ran = verify::run(&command.argv, &tree.folder(), sandbox, limits, self.crew.cancel)?;
            if ran.exit == Exit::Cancelled {
                return Ok(Some(Joined::Cancelled));
            }
            if !ran.passed() {
                let (line, id) = (&command.line, &task.id);
                let reason = format!("after the merge, `{line}` of task `{id}` fails: {}", ran.exit);
                return Ok(Some(Joined::Refused(reason)));
            }
        }
        Ok(None)
    }
}

impl Work<'_, '_> {
    /// Does the tasks of a wave that are to be done.
    fn wave(&mut self, wave: &[usize]) -> Result<()> {
        let (site, done) = (self.site, self.record.done.clone());
        let mut open = Vec::new();
        self.merged.clear();
        for task in wave {
            if !self.board.settle(*task, &done, site.crew) {
                open.push(*task);
            } else if self.board.is_complete(*task) {
                self.merged.push(*task);
            }
        }
        if site.conduct.jobs <= 1 {
            for task in open {
                if site.crew.cancel.load(Ordering::Relaxed) {
                    break;
                }
                let head = self.record.head.clone();
                self.merge(site.work(task, &head)?)?;
            }
            return Ok(());
        }
        // One that is gone on with begins with what a former run merged of it.
        let base = self.record.head.clone();
        self.together(&open, &base)
    }

    /// Works at tasks in several threads, and merges here, in order.
    fn together(&mut self, open: &[usize], base: &str) -> Result<()> {
        let site = self.site;
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            for _ in 0..site.conduct.jobs.min(open.len()) {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    while !site.crew.cancel.load(Ordering::Relaxed) {
                        let place = next.fetch_add(1, Ordering::Relaxed);
                        let Some(task) = open.get(place) else { break };
                        // The receiver is gone if merging failed; then nobody needs another task.
                        if sender.send((place, site.work(*task, base))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let (mut early, mut turn) = (BTreeMap::new(), 0);
            for (place, ran) in receiver {
                early.insert(place, ran);
                while let Some(ran) = early.remove(&turn) {
                    turn += 1;
                    self.merge(ran?)?;
                }
            }
            Ok(())
        })
    }

    /// Puts a task's work on top of what is merged. If it does not fit there, the task is done once more,
    /// on that.
    fn merge(&mut self, mut ran: Ran<'_>) -> Result<()> {
        let task = ran.task;
        let (mut commit, mut integrated) = (None, None);
        let mut again = false;
        while ran.result.outcome == Outcome::Complete {
            match self.join(&ran)? {
                Joined::Merged(made) => {
                    self.merged.push(task);
                    self.record.done.push(Done::new(&self.site.plan.tasks[task], &ran.result, made.clone()));
                    if let Some(made) = &made {
                        self.record.head = made.clone();
                    }
                    self.journal.write(&self.record)?;
                    // Its command ran on exactly what the commit holds: before the merge if nothing was merged
                    // since, else after it.
                    integrated = made.as_ref().filter(|_| ran.result.verified).map(|_| true);
                    commit = made;
                    break;
                }
                Joined::Refused(reason) if !again => {
                    (again, integrated) = (true, Some(false));
                    (self.site.crew.observe)(task, &Event::Again(&reason));
                    ran.base = self.record.head.clone();
                    ran.tree.reset(&ran.base)?;
                    let before = std::mem::replace(&mut ran.result, self.site.attempt(task, &ran.tree)?);
                    add(&mut ran.result, before);
                }
                Joined::Refused(reason) => undone(&mut ran.result, Outcome::Blocked, reason),
                Joined::Cancelled => undone(&mut ran.result, Outcome::Cancelled, "cancelled".to_owned()),
            }
        }
        let Ran { result, tree, .. } = ran;
        drop(tree);
        let finished = Finished { integrated, ..Finished::new(result, commit) };
        self.board.enter(task, finished, self.site.crew);
        Ok(())
    }

    /// Makes the commit, and verifies it where it is more than what was verified.
    fn join(&self, ran: &Ran<'_>) -> Result<Joined> {
        let site = self.site;
        let spec = &site.plan.tasks[ran.task];
        let repository = site.repository;
        let workspace = Workspace::open(&ran.tree.folder(), &site.files)?;
        let mut files = Vec::new();
        for path in &ran.result.files {
            let mut others = self.record.done.iter().rev().take(self.merged.len());
            let is_new = ran.base != self.record.head;
            if let Some(other) = others.find(|done| is_new && done.files.contains(path)) {
                return Ok(Joined::Refused(format!("task `{}` changed `{path}` at the same time", other.id)));
            }
            let before = workspace.snapshot(path)?.before;
            let content = before.map(|before| (before.mode & 0o100 != 0, before.text));
            files.push((format!("{}{path}", repository.prefix), content));
        }
        let message = super::message(spec);
        let Some(commit) = repository.commit(&self.record.head, &files, &message, &self.index)? else {
            return Ok(Joined::Merged(None));
        };
        if site.conduct.jobs > 1 && !self.merged.is_empty() {
            ran.tree.reset(&commit)?;
            let mut tasks = self.merged.clone();
            tasks.push(ran.task);
            if let Some(refused) = site.verify(&tasks, &ran.tree)? {
                return Ok(refused);
            }
        }
        Ok(Joined::Merged(Some(commit)))
    }

    /// Brings the checkout to the last commit.
    fn land(&mut self) -> Result<()> {
        if self.record.head != self.record.base {
            let (from, to) = (self.record.base.clone(), self.record.head.clone());
            let landing = Landing::prepare(self.site.repository, self.site.workspace, &from, &to)?;
            self.record.stage = Stage::Landing;
            self.journal.write(&self.record)?;
            landing.land(&self.record)?;
            self.record.base = to;
        }
        self.record.stage = Stage::Ended;
        self.journal.write(&self.record)
    }
}

/// What both tries of a task took.
fn add(result: &mut TaskResult, before: TaskResult) {
    result.usage += before.usage;
    result.cost_usd += before.cost_usd;
    result.seconds += before.seconds;
    result.attempts += before.attempts;
    result.history.splice(0..0, before.history);
}

fn undone(result: &mut TaskResult, outcome: Outcome, error: String) {
    result.status = Status::Failed;
    result.outcome = outcome;
    result.error = error;
    result.files.clear();
    result.note = None;
    result.verified = false;
}
