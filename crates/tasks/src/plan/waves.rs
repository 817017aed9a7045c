//! Which tasks may run at the same time. Pure functions of the tasks.

use std::collections::HashMap;

use crate::task::Task;
use crate::{Error, Result};

/// Refuses two tasks of one id.
pub(super) fn unique(tasks: &[Task]) -> Result<()> {
    let mut seen: HashMap<&str, &Task> = HashMap::new();
    for task in tasks {
        if let Some(first) = seen.insert(&task.id, task) {
            return Err(Error::DuplicateTask {
                id: task.id.clone(),
                first: first.source.clone(),
                second: task.source.clone(),
            });
        }
    }
    Ok(())
}

/// For each task, the places of those that it depends on. What is `known` but no longer among the tasks
/// is done.
pub(super) fn dependencies(tasks: &[Task], known: &[String]) -> Result<Vec<Vec<usize>>> {
    let places: HashMap<&str, usize> = tasks.iter().enumerate().map(|(at, task)| (&*task.id, at)).collect();
    let mut all = Vec::new();
    for task in tasks {
        let mut found = Vec::new();
        for id in &task.depends_on {
            match places.get(id.as_str()) {
                Some(place) => found.push(*place),
                None if known.contains(id) => {}
                None => {
                    let place = format!("task `{}` (`{}`)", task.id, task.source);
                    return Err(Error::UnknownTask { id: id.clone(), place });
                }
            }
        }
        all.push(found);
    }
    Ok(all)
}

/// Dependencies with those that are not said: a task that writes no file and names none waits for all that write one, but
/// for those that wait for it (S1-32).
pub(super) fn checks_last(tasks: &[Task], mut depends: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let all = 0..tasks.len();
    for check in all.clone().filter(|at| tasks[*at].is_check() && tasks[*at].depends_on.is_empty()) {
        let mut waits = vec![false; tasks.len()];
        let mut next = vec![check];
        while let Some(on) = next.pop() {
            waits[on] = true;
            next.extend(all.clone().filter(|task| !waits[*task] && depends[*task].contains(&on)));
        }
        depends[check] = all.clone().filter(|task| !tasks[*task].is_check() && !waits[*task]).collect();
    }
    depends
}

/// Waves by dependencies: each task stands in the first wave after all that it depends on (the levels of
/// Kahn's topological order), and within a wave the order of the tasks is kept.
pub(super) fn levels(tasks: &[Task], depends: &[Vec<usize>]) -> Result<Vec<Vec<usize>>> {
    let mut level: Vec<Option<usize>> = vec![None; tasks.len()];
    let mut waves = Vec::new();
    let mut left = tasks.len();
    while left > 0 {
        let ready: Vec<usize> = (0..tasks.len())
            .filter(|task| level[*task].is_none() && depends[*task].iter().all(|on| level[*on].is_some()))
            .collect();
        if ready.is_empty() {
            return Err(Error::Cycle { tasks: cycle(tasks, depends, &level) });
        }
        left -= ready.len();
        ready.iter().for_each(|task| level[*task] = Some(waves.len()));
        waves.push(ready);
    }
    Ok(waves)
}

/// A circle among the tasks that have no level: from any of them, a dependency without a level leads on.
fn cycle(tasks: &[Task], depends: &[Vec<usize>], level: &[Option<usize>]) -> Vec<String> {
    let stuck = |task: &usize| level[*task].is_none();
    let mut path: Vec<usize> = (0..tasks.len()).filter(stuck).take(1).collect();
    while let Some(next) = path.last().and_then(|last| depends[*last].iter().copied().find(stuck)) {
        let seen = path.iter().position(|task| *task == next);
        path.push(next);
        if let Some(begin) = seen {
            path.drain(..begin);
            break;
        }
    }
    path.iter().map(|task| tasks[*task].id.clone()).collect()
}

/// Waves and needs.
type Order = (Vec<Vec<usize>>, Vec<Vec<usize>>);

/// Waves by batches, and what each task needs: all of the batches before its own. Within a batch no task
/// may depend on another (S2-32).
pub(super) fn batched(tasks: &[Task], depends: &[Vec<usize>], batches: &[Vec<usize>]) -> Result<Order> {
    let batch_of = |task: usize| batches.iter().position(|batch| batch.contains(&task));
    let mut needs = vec![Vec::new(); tasks.len()];
    for (task, on) in depends.iter().enumerate().flat_map(|(task, on)| on.iter().map(move |on| (task, *on))) {
        if batch_of(on) >= batch_of(task) {
            return Err(Error::LateDependency { task: tasks[task].id.clone(), on: tasks[on].id.clone() });
        }
    }
    let mut before: Vec<usize> = Vec::new();
    for batch in batches {
        batch.iter().for_each(|task| needs[*task] = before.clone());
        before.extend(batch);
    }
    let waves = batches.iter().filter(|batch| !batch.is_empty()).cloned().collect();
    Ok((waves, needs))
}

/// Splits a wave so that no two tasks of a part write the same file and none reads what an earlier task of
/// its part writes. The order of such tasks is that of the wave; those that write nothing come after all that do.
pub(super) fn apart(tasks: &[Task], wave: &[usize]) -> Vec<Vec<usize>> {
    let mut wave = wave.to_vec();
    wave.sort_by_key(|task| tasks[*task].is_check());
    let touched: Vec<Touched> = wave.iter().map(|task| Touched::of(&tasks[*task])).collect();
    let mut parts: Vec<Vec<usize>> = Vec::new();
    let mut part_of: Vec<usize> = Vec::new();
    for (at, task) in wave.iter().enumerate() {
        let earliest = (0..at).map(|earlier| match touched[at].after(&touched[earlier]) {
            Relation::Apart => part_of[earlier] + 1,
            Relation::NotBefore => part_of[earlier],
            Relation::Free => 0,
        });
        let part = earliest.max().unwrap_or(0);
        part_of.push(part);
        if parts.len() <= part {
            parts.resize(part + 1, Vec::new());
        }
        parts[part].push(*task);
    }
    parts
}

/// The files of a task, in lower case: on some file systems `A` and `a` are one file.
struct Touched {
    writes: Vec<String>,
    reads: Vec<String>,
    /// Whether it is about everything that is there.
    is_check: bool,
}

/// What two tasks' files say about their order.
enum Relation {
    /// The later one must see what the earlier one wrote.
    Apart,
    /// The later one writes what the earlier one reads.
    NotBefore,
    Free,
}

impl Touched {
    fn of(task: &Task) -> Touched {
        let lower = |path: &String| path.to_lowercase();
        Touched {
            writes: super::written(task).map(|path| path.to_lowercase()).collect(),
            reads: task.context.iter().map(lower).collect(),
            is_check: task.is_check(),
        }
    }

    fn after(&self, earlier: &Touched) -> Relation {
        let any = |left: &[String], right: &[String]| left.iter().any(|path| right.contains(path));
        let sees = self.is_check && !earlier.is_check;
        if sees || any(&self.writes, &earlier.writes) || any(&self.reads, &earlier.writes) {
            Relation::Apart
        } else if any(&self.writes, &earlier.reads) {
            Relation::NotBefore
        } else {
            Relation::Free
        }
    }
}
