//! Unified diffs, which many models write whatever they were asked for:
//!
//! ```text
//! diff --git a/src/a.py b/src/a.py      (this line and those that git puts below it may be left out)
//! --- a/src/a.py
//! +++ b/src/a.py
//! @@ -1,3 +1,3 @@ def add(a, b):
//!      # context
//! -    return a - b
//! +    return a + b
//! ```
//!
//! Here a diff becomes sections of a patch, whose hunks find their places as those of an envelope do: by their lines.
//! The numbers only say where a hunk may end.

use super::hint::{self, Hint};
use super::patch::{Action, Section, body_line};
use super::{Base, patch, target};
use crate::{Error, Result};

/// What a diff says about one file.
#[derive(Default)]
pub(super) struct Part<'a> {
    /// The names after `---` and `+++`, or git's where it moves a file; None where they are missing.
    old: Option<&'a str>,
    new: Option<&'a str>,
    /// The name on git's own line, if it is one.
    git: Option<&'a str>,
    /// Git says that the file was moved.
    moved: bool,
    /// The line on which git says what is no edit: other permissions, or a copy.
    special: Option<usize>,
    /// The lines of its hunks, as indices.
    body: Vec<usize>,
    /// The line it begins on, from 0.
    at: usize,
}

/// Whether a unified diff begins on this line.
pub(super) fn begins(lines: &[&str], at: usize) -> bool {
    let line = lines[at];
    line.starts_with("diff --git ") || is_head(lines, at) || line.starts_with("@@ -") && line.contains(" +")
}

/// Whether lines begin with a unified diff.
pub(super) fn begins_in(lines: &[&str]) -> bool {
    lines.iter().position(|line| !line.trim().is_empty()).is_some_and(|at| begins(lines, at))
}

/// Whether a line that is in no diff is a piece of one, which would be lost.
pub(super) fn is_stray(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("diff --git ") || line.starts_with("@@ -") && line.contains(" +")
}

/// Whether a line behind a diff may be one of its own that has lost its place.
pub(super) fn is_rest(line: &str) -> bool {
    // An item of a file that is removed has a sign before its own; such a line without a word ends a mail.
    let removed_item = |rest: &str| rest.starts_with("- ") && rest.trim_end() != "-";
    let item = |rest: &str| {
        rest.is_empty()
            || rest.starts_with('-') && !removed_item(rest)
            || rest.starts_with(' ') && !rest.starts_with("  ")
    };
    let removed = line.strip_prefix('-').is_some_and(|rest| !item(rest));
    line.starts_with("@@") || line.starts_with('+') || removed
}

/// The parts of the diff that begins on line `at`, and the line behind it. Where no fence ends it, a blank line does that
/// behind a hunk which is whole by its numbers.
pub(super) fn parse<'a>(lines: &[&'a str], at: usize, fenced: bool) -> (Vec<Part<'a>>, usize) {
    let mut parts: Vec<Part<'a>> = Vec::new();
    let mut left = Left::default();
    let (mut line, mut end) = (at, at);
    while line < lines.len() {
        let text = lines[line];
        if text.starts_with("diff --git ") {
            parts.push(Part { at: line, git: git_names(text), ..Part::default() });
            left = Left::default();
        } else if is_head(lines, line) && (!left.open() || follows(lines, line)) {
            let git =
                parts.last().is_some_and(|part| (part.moved || part.new.is_none()) && part.body.is_empty());
            if !git {
                parts.push(Part { at: line, ..Part::default() });
            }
            if let Some(part) = parts.last_mut() {
                (part.old, part.new) = (name(&lines[line][4..]), name(&lines[line + 1][4..]));
            }
            left = Left::default();
            line += 1;
        } else if text.starts_with("@@") {
            left = Left::of(text);
            part(&mut parts, line).body.push(line);
        } else if is_git(text) && parts.last().is_some_and(|part| part.body.is_empty()) {
            git_line(part(&mut parts, line), text, line);
        } else if text.trim_end() == "--" && left.known && !left.open() {
            // The signature of a mail.
            break;
        } else if text.starts_with([' ', '+', '-', '\\'])
            || text.is_empty() && (fenced || left.open() || !left.known)
        {
            left.take(text);
            part(&mut parts, line).body.push(line);
        } else {
            break;
        }
        line += 1;
        end = if text.trim().is_empty() { end } else { line };
    }
    for part in &mut parts {
        part.body.retain(|line| *line < end);
    }
    (parts, end)
}

fn part<'p, 'a>(parts: &'p mut Vec<Part<'a>>, at: usize) -> &'p mut Part<'a> {
    if parts.is_empty() {
        parts.push(Part { at, ..Part::default() });
    }
    let last = parts.len() - 1;
    &mut parts[last]
}

/// How many lines of a hunk are still to come by its numbers.
#[derive(Default)]
struct Left {
    old: usize,
    new: usize,
    known: bool,
}

impl Left {
    /// As "@@ -1,3 +1,4 @@" says.
    fn of(head: &str) -> Left {
        let count = |sign: char| -> Option<usize> {
            let word = head.split(' ').find(|word| word.starts_with(sign))?;
            word.split_once(',').map_or(Some(1), |(_, count)| count.parse().ok())
        };
        match (count('-'), count('+')) {
            (Some(old), Some(new)) => Left { old, new, known: true },
            _ => Left::default(),
        }
    }

    fn open(&self) -> bool {
        self.old > 0 || self.new > 0
    }

    fn take(&mut self, line: &str) {
        if !line.starts_with(['+', '\\']) {
            self.old = self.old.saturating_sub(1);
        }
        if !line.starts_with(['-', '\\']) {
            self.new = self.new.saturating_sub(1);
        }
    }
}

/// Whether the names of a file stand on this line and the next.
fn is_head(lines: &[&str], at: usize) -> bool {
    lines[at].starts_with("--- ") && lines.get(at + 1).is_some_and(|next| next.starts_with("+++ "))
}

/// Whether a hunk follows the names, so that they are no removed and added line that look like them.
fn follows(lines: &[&str], at: usize) -> bool {
    lines.get(at + 2).is_some_and(|next| next.starts_with("@@"))
}

/// Whether git writes such lines above the names.
fn is_git(line: &str) -> bool {
    let heads =
        ["index ", "new ", "old mode ", "deleted ", "similarity ", "dissimilarity ", "rename ", "copy "];
    heads.iter().any(|head| line.starts_with(head))
}

fn git_line<'a>(part: &mut Part<'a>, line: &'a str, at: usize) {
    if let Some(name) = line.strip_prefix("rename from ") {
        (part.old, part.moved) = (Some(name.trim()), true);
    } else if let Some(name) = line.strip_prefix("rename to ") {
        (part.new, part.moved) = (Some(name.trim()), true);
    } else if line.starts_with("old mode ") || line.starts_with("copy ") {
        part.special = Some(at);
    }
}

/// The name on a line "diff --git a/x b/x".
fn git_names(line: &str) -> Option<&str> {
    let names = line.strip_prefix("diff --git ")?.trim();
    let (old, new) = names.split_at_checked(names.len() / 2)?;
    let new = new.strip_prefix(' ')?.trim();
    (old.strip_prefix("a/") == new.strip_prefix("b/")).then_some(new)
}

/// A file's name without the time that may stand behind it; None for a word in the place of one.
fn name(rest: &str) -> Option<&str> {
    let name = rest.split('\t').next().unwrap_or(rest).trim();
    let words = ["a", "b", "old", "new", "original", "modified", "updated", "before", "after", "current"];
    Some(name).filter(|name| !words.contains(name))
}

/// Adds the parts to the sections of a patch. Where one names no file, the words before the diff do, or there is only
/// one.
pub(super) fn sections<'a>(
    lines: &[&'a str],
    parts: &[Part<'a>],
    before: &[&str],
    files: &[Base<'_>],
    sections: &mut Vec<Section<'a>>,
) -> Result<()> {
    for part in parts {
        if let Some(at) = part.special {
            return Err(bad(
                at,
                "a reply cannot change permissions or copy files; write the lines that change",
            ));
        }
        let (file, moved) = part.files(before, files)?;
        let action = match (part.old, part.new) {
            (Some(NULL), _) => Action::Add,
            (_, Some(NULL)) => Action::Delete,
            _ => Action::Update,
        };
        let mut section = Section { file, action, moved, hunks: Vec::new(), at: part.at + 1 };
        for line in &part.body {
            body_line(&mut section, lines[*line], line + 1, files)?;
        }
        if section.hunks.is_empty() && moved.is_none() {
            return Err(bad(part.at, "the diff has no hunk; write the lines that change below a line `@@`"));
        }
        let is_new = files[file].content.is_none_or(str::is_empty) && section.only_adds();
        if action == Action::Update && is_new {
            section.action = Action::Add;
        }
        patch::add(sections, section);
    }
    Ok(())
}

/// The name of no file.
const NULL: &str = "/dev/null";

impl Part<'_> {
    /// Whether it says nothing of its file.
    pub(super) fn is_nameless(&self) -> bool {
        self.old.or(self.new).or(self.git).is_none()
    }

    /// Whether one of its names is that of a file of the task, or it has none.
    pub(super) fn is_of(&self, files: &[Base<'_>]) -> bool {
        let names = || self.old.into_iter().chain(self.new).chain(self.git);
        self.is_nameless() || names().any(|name| resolve(name, files).is_ok())
    }

    /// The file that it changes, and the one that takes its place.
    fn files(&self, before: &[&str], files: &[Base<'_>]) -> Result<(usize, Option<usize>)> {
        let of = |name: Option<&str>| name.filter(|name| *name != NULL).map(|name| resolve(name, files));
        match (of(self.old), of(self.new.or(self.git.filter(|_| self.old.is_none())))) {
            (Some(Err(error)), _) if self.moved => Err(error),
            (Some(Ok(old)), Some(Ok(new))) if old != new && self.moved => Ok((old, Some(new))),
            (Some(Ok(old)), Some(Ok(new))) if old != new => {
                Err(bad(self.at, "its two names are of two files; write the same after `---` and `+++`"))
            }
            (_, Some(Ok(file))) | (Some(Ok(file)), None) => Ok((file, None)),
            (_, Some(Err(error))) | (Some(Err(error)), None) => Err(error),
            (None, None) => match hint::hint(before, files) {
                Hint::Named { file, .. } | Hint::Said(file) => Ok((file, None)),
                Hint::Foreign { name, wrapped: false } => Err(target::wrong(&name, files)),
                _ if files.len() == 1 => Ok((0, None)),
                _ => Err(bad(
                    self.at,
                    "the diff names no file; write `--- ` and `+++ ` with its path above it",
                )),
            },
        }
    }
}

/// The file that a name in a diff means, behind which a remark may stand: "src/a.py (original)".
fn resolve(name: &str, files: &[Base<'_>]) -> Result<usize> {
    let bare = || target::resolve(hint::without_remark(name), files);
    target::resolve(name, files).or_else(|error| bare().map_err(|_| error))
}

fn bad(at: usize, problem: &'static str) -> Error {
    Error::BadEdit { line: at + 1, problem }
}
