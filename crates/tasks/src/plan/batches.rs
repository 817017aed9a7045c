//! The file `batches.md`: which tasks of a folder run together.
//!
//! Its form is that of a person's notes. A heading that begins with "Batch", "Wave", "Phase", "Step" or
//! "Group" opens a batch; its tasks are bullets, with or without a box, numbered lines, or rows of a
//! table, that begin with the task's id, its file name, or a link to it:
//!
//! ```text
//! ## Batch 1 (parallel)
//! - [ ] 001.md: constants
//! - [ ] `002`
//! ## Batch 2
//! | Task | Title |
//! |------|-------|
//! | 003  | tests |
//! ```
//!
//! A ticked box means that the task is done already. Everything below other headings, and every line that
//! is no bullet and no row, is prose.

use std::path::Path;

use crate::task::Task;
use crate::{Error, Result};

/// Tasks that run together, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) ids: Vec<String>,
    /// Those of them whose box is ticked.
    pub(super) ticked: Vec<String>,
}

impl Batch {
    /// All of these tasks.
    pub(super) fn of(tasks: &[Task]) -> Batch {
        Batch { ids: tasks.iter().map(|task| task.id.clone()).collect(), ticked: Vec::new() }
    }
}

/// Reads the batches of a folder's tasks. Every task must be in exactly one.
pub(super) fn parse(file: &str, text: &str, tasks: &[Task]) -> Result<Vec<Batch>> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut open = false;
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    for (line, number) in lines.iter().copied().zip(1..) {
        if let Some(heading) = heading(line) {
            open = opens(heading);
            if open {
                batches.push(Batch::default());
            }
            continue;
        }
        let Some(batch) = batches.last_mut().filter(|_| open) else { continue };
        // The row above a table's rule is its header, whatever it says.
        let header = is_row(line) && lines.get(number).is_some_and(|next| is_rule(next));
        if header || is_rule(line) {
            continue;
        }
        let Some((item, ticked)) = item(line) else { continue };
        for id in named(item, tasks).ok_or_else(|| Error::UnknownTask {
            id: first_word(item).to_owned(),
            place: format!("`{file}`, line {number}"),
        })? {
            if ticked {
                batch.ticked.push(id.clone());
            }
            batch.ids.push(id);
        }
    }
    complete(file, &batches, tasks)?;
    Ok(batches)
}

fn complete(file: &str, batches: &[Batch], tasks: &[Task]) -> Result<()> {
    for task in tasks {
        match batches.iter().flat_map(|batch| &batch.ids).filter(|id| **id == task.id).count() {
            1 => {}
            0 => {
                return Err(Error::Unplanned {
                    batches: file.to_owned(),
                    task: task.id.clone(),
                    source_file: task.source.clone(),
                });
            }
            _ => {
                return Err(Error::DuplicateTask {
                    id: task.id.clone(),
                    first: file.to_owned(),
                    second: file.to_owned(),
                });
            }
        }
    }
    Ok(())
}

fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let marks = line.len() - text.len();
    ((1..=6).contains(&marks) && text.starts_with(' ')).then(|| text.trim())
}

/// Whether a heading is that of a batch: "Batch 2", "Wave A (parallel)", but not "Batches" or "Batch sizes
/// explained" … the word alone, or followed by a number or letter.
fn opens(heading: &str) -> bool {
    let mut words = heading.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let first = words.next().unwrap_or("").to_lowercase();
    let named = ["batch", "wave", "phase", "step", "group"].contains(&first.as_str());
    let number = words.next().is_none_or(|word| {
        word.chars().all(|c| c.is_ascii_digit())
            || word.chars().count() == 1
            || word.eq_ignore_ascii_case("one")
    });
    named && number
}

fn is_row(line: &str) -> bool {
    line.trim_start().starts_with('|')
}

/// A table's line of dashes.
fn is_rule(line: &str) -> bool {
    is_row(line) && line.contains('-') && line.chars().all(|c| matches!(c, '|' | '-' | ':' | ' '))
}

/// The text of a bullet, a numbered line or a row, and whether its box is ticked. Indented bullets explain
/// the one above them.
fn item(line: &str) -> Option<(&str, bool)> {
    if let Some(row) = line.trim_start().strip_prefix('|') {
        let cell = row
            .split('|')
            .map(str::trim)
            .find(|cell| !cell.is_empty() && tick(cell).is_none_or(|(rest, _)| !rest.is_empty()))?;
        let ticked = row.split('|').any(|cell| tick(cell.trim()).is_some_and(|(_, ticked)| ticked));
        return Some((tick(cell).map_or(cell, |(rest, _)| rest), ticked));
    }
    if line.starts_with("  ") || line.starts_with('\t') {
        return None;
    }
    let line = line.trim_start();
    let digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let bullet = ["- ", "* ", "+ "].iter().find_map(|mark| line.strip_prefix(mark));
    let numbered = || {
        let rest = digits.strip_prefix(". ").or_else(|| digits.strip_prefix(") "))?;
        (digits.len() < line.len()).then_some(rest)
    };
    let text = bullet.or_else(numbered)?.trim();
    Some(tick(text).unwrap_or((text, false)))
}

/// What stands after a box, and whether it is ticked.
fn tick(text: &str) -> Option<(&str, bool)> {
    let rest = |mark: &str| text.strip_prefix(mark).map(str::trim);
    if let Some(rest) = rest("[ ]") {
        return Some((rest, false));
    }
    rest("[x]").or_else(|| rest("[X]")).map(|rest| (rest, true))
}

/// The tasks that an item names: one, with words after it, or several with commas.
fn named(item: &str, tasks: &[Task]) -> Option<Vec<String>> {
    let one = |part: &str| find(part, tasks).filter(|_| !part.contains(' '));
    let all: Option<Vec<String>> = item.split(',').map(|part| one(part.trim())).collect();
    all.or_else(|| find(first_word(item), tasks).map(|id| vec![id]))
}

/// The name at the start of an item, without the marks around it.
fn first_word(item: &str) -> &str {
    let item = item.trim_start_matches(['*', '_']);
    let word = match (item.strip_prefix('`'), item.strip_prefix('[')) {
        (Some(rest), _) => rest.split('`').next(),
        (_, Some(rest)) => rest.split(']').next(),
        _ => {
            let rest = item.strip_prefix("Task ").or_else(|| item.strip_prefix("task ")).unwrap_or(item);
            rest.split_whitespace().next()
        }
    };
    word.unwrap_or("").trim_matches(|c: char| matches!(c, '`' | '*' | '_' | ':' | ',' | '(' | ')'))
}

/// The task of an id or of a file name, with or without its ending.
fn find(name: &str, tasks: &[Task]) -> Option<String> {
    let name = first_word(name);
    let file = Path::new(name).file_name()?.to_str()?;
    let is = |task: &&Task| {
        let source = Path::new(&task.source);
        task.id == name
            || source.file_name().is_some_and(|known| known == file)
            || source.file_stem().is_some_and(|known| known == file)
    };
    // An id says more than a file name.
    let by_id = tasks.iter().find(|task| task.id == name);
    by_id.or_else(|| tasks.iter().find(is)).map(|task| task.id.clone())
}
