//! Plans: several tasks, in which order they run, and running them.
//!
//! A plan is a folder of tasks. Their order comes from a file `batches.md` in it, or from what tasks
//! say that they depend on, or else they make one wave in the order of their files. [`Plan`] is pure;
//! [`run_plan`] does one, in place or in worktrees of git.

mod batches;
mod commit;
mod conduct;
mod git;
mod in_place;
mod in_worktrees;
mod journal;
mod landing;
mod repository;
mod trees;
mod waves;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

pub use commit::message;
pub use conduct::{Conduct, Crew, Event, Finished, OpenWriter, is_repository, run_plan};

use crate::task::Task;
use crate::{Error, Result};

/// The name of the file that divides a plan into batches.
const BATCHES: &str = "batches.md";

/// The largest file of batches in bytes.
const MAX_BATCHES_BYTES: u64 = 1 << 20;

/// Tasks and the order in which they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The tasks, in the order of their files.
    pub tasks: Vec<Task>,
    /// Which tasks, by their place in `tasks`, may run at the same time: no two of a wave write the same
    /// file, none reads what another writes, and all that they depend on is in earlier waves.
    pub waves: Vec<Vec<usize>>,
    /// For each task, the tasks without which it does not begin.
    pub needs: Vec<Vec<usize>>,
    /// Ids of tasks that the file of batches has ticked as done; they are not among `tasks`.
    pub ticked: Vec<String>,
    /// Ids that a task depends on and that lie beside it, but are not part of this: a task that is named alone runs alone.
    pub beside: Vec<String>,
}

impl Plan {
    /// Reads the tasks of files and folders; the first bad one is an error. A folder may hold
    /// `batches.md`. The batches of several folders follow one another.
    pub fn load(paths: &[PathBuf]) -> Result<Plan> {
        let mut tasks = Vec::new();
        let mut batches = Vec::new();
        for path in paths {
            let found = Task::load_all(path)?;
            if found.is_empty() {
                let problem = "no task files in it; a task is Markdown with `# Task:` or JSON with `task_id`";
                return Err(Error::BadTask {
                    file: path.display().to_string(),
                    at: "folder".to_owned(),
                    problem: problem.to_owned(),
                });
            }
            match batches_in(path)? {
                Some(file) => {
                    batches.extend(batches::parse(&file.display().to_string(), &read(&file)?, &found)?);
                }
                // Without a file of batches, what came before does not hold it up.
                None if !batches.is_empty() => batches.push(batches::Batch::of(&found)),
                None => {}
            }
            tasks.extend(found);
        }
        let beside = if missing(&tasks).next().is_some() { ids_beside(paths) } else { Vec::new() };
        Plan::arrange(tasks, &batches, &beside)
    }

    /// For each task of a folder, those of its own batch that it depends on. [`Plan::load`] refuses such an order; who only
    /// judges tasks wants to know it (S2-32). Without batches there are none: waves follow from what tasks depend on.
    pub fn in_wave(path: &Path, tasks: &[Task]) -> Result<Vec<Vec<String>>> {
        let batches = match batches_in(path)? {
            Some(file) => batches::parse(&file.display().to_string(), &read(&file)?, tasks)?,
            None => Vec::new(),
        };
        let of = |task: &Task| {
            let own = batches.iter().find(|batch| batch.ids.contains(&task.id));
            let waits = |id: &&String| {
                own.is_some_and(|own| own.ids.contains(id) && !own.ticked.contains(id)) && **id != task.id
            };
            task.depends_on.iter().filter(waits).cloned().collect()
        };
        Ok(tasks.iter().map(of).collect())
    }

    /// The order of tasks that have no batches.
    pub fn new(tasks: Vec<Task>) -> Result<Plan> {
        Plan::arrange(tasks, &[], &[])
    }

    fn arrange(tasks: Vec<Task>, batches: &[batches::Batch], beside: &[String]) -> Result<Plan> {
        let ticked: Vec<String> = batches.iter().flat_map(|batch| batch.ticked.iter().cloned()).collect();
        waves::unique(&tasks)?;
        let mut known: Vec<String> = tasks.iter().map(|task| task.id.clone()).collect();
        let mut beside: Vec<String> = missing(&tasks).filter(|id| beside.contains(id)).cloned().collect();
        beside.sort();
        beside.dedup();
        known.extend(beside.iter().cloned());
        let tasks: Vec<Task> = tasks.into_iter().filter(|task| !ticked.contains(&task.id)).collect();
        let depends = waves::dependencies(&tasks, &known)?;
        let place = |id: &String| tasks.iter().position(|task| task.id == *id);
        let batches: Vec<Vec<usize>> =
            batches.iter().map(|batch| batch.ids.iter().filter_map(place).collect()).collect();
        let (waves, needs) = match batches.is_empty() {
            true => {
                let depends = waves::checks_last(&tasks, depends);
                (waves::levels(&tasks, &depends)?, depends)
            }
            false => waves::batched(&tasks, &depends, &batches)?,
        };
        let waves = waves.into_iter().flat_map(|wave| waves::apart(&tasks, &wave)).collect();
        Ok(Plan { tasks, waves, needs, ticked, beside })
    }
}

/// What tasks depend on that is none of them.
fn missing(tasks: &[Task]) -> impl Iterator<Item = &String> {
    let known: HashSet<&String> = tasks.iter().map(|task| &task.id).collect();
    tasks.iter().flat_map(|task| &task.depends_on).filter(move |id| !known.contains(id))
}

/// The ids of the tasks that lie beside files, as far as they can be read.
fn ids_beside(paths: &[PathBuf]) -> Vec<String> {
    let folder = |file: &&PathBuf| match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let folders: BTreeSet<PathBuf> =
        paths.iter().filter(|path| !path.is_dir()).map(|file| folder(&file)).collect();
    let files = folders.iter().filter_map(|folder| Some(Task::list(folder).ok()?.tasks)).flatten();
    files.filter_map(|file| Some(Task::load(&file).ok()?.id)).collect()
}

/// The files that a task may change.
fn written(task: &Task) -> impl Iterator<Item = &String> {
    task.files.iter()
}

/// Whether a file divides a plan into batches; it is no task then, whatever it holds.
pub(crate) fn is_batches(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.eq_ignore_ascii_case(BATCHES))
}

/// The file of batches in a folder, however its name is written.
fn batches_in(folder: &Path) -> Result<Option<PathBuf>> {
    if !folder.is_dir() {
        return Ok(None);
    }
    let io = |source| Error::Io { path: folder.to_owned(), source };
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let file = entry.map_err(io)?.path();
        if is_batches(&file) && file.is_file() {
            found.push(file);
        }
    }
    found.sort();
    match found.as_slice() {
        [first, second, ..] => Err(Error::BadTask {
            file: second.display().to_string(),
            at: "file".to_owned(),
            problem: format!("`{}` says the order too; keep one of them", first.display()),
        }),
        _ => Ok(found.pop()),
    }
}

fn read(file: &Path) -> Result<String> {
    let io = |source| Error::Io { path: file.to_owned(), source };
    let bytes = std::fs::metadata(file).map_err(io)?.len();
    if bytes > MAX_BATCHES_BYTES {
        return Err(Error::TooLarge { path: file.display().to_string(), bytes, limit: MAX_BATCHES_BYTES });
    }
    String::from_utf8(std::fs::read(file).map_err(io)?)
        .map_err(|_| Error::NotText { path: file.display().to_string() })
}

#[cfg(test)]
mod tests;
