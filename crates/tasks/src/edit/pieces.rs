//! The pieces of a reply: edits of three kinds, fenced blocks that hold none, and the words between them.

use super::fence::{self, Block, Claim, claim, closes, fence_length};
use super::hint::{self, Hint};
use super::patch::Section;
use super::{Base, blocks, patch, target, unified};
use crate::prompt::ReplyShape;
use crate::{Error, Result};

/// What an edit is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A search/replace block.
    Block,
    /// A patch envelope.
    Envelope,
    /// A unified diff.
    Unified,
}

/// An edit, whatever is wrong with what it holds.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub(super) kind: Kind,
    /// Its first line, and the one behind it.
    pub(super) lines: (usize, usize),
    /// The lines since the edit before it that are in no fenced block. A fence around the edit is among them.
    pub(super) before: Vec<&'a str>,
    /// A fence is around it.
    pub(super) fenced: bool,
}

/// A reply in pieces.
pub(super) struct Pieces<'a> {
    pub(super) edits: Vec<Piece<'a>>,
    /// Fenced blocks that hold no edit, each with the lines before it that are in no other piece.
    fences: Vec<(Block, Vec<&'a str>)>,
}

/// How a reply is taken apart.
pub(super) struct Scan<'a, 'f> {
    pub(super) lines: &'f [&'a str],
    pub(super) files: &'f [Base<'f>],
    /// The length of the delimiters of search/replace blocks.
    pub(super) marker: usize,
    /// Unified diffs are edits, not content.
    pub(super) unified: bool,
}

impl<'a> Scan<'a, '_> {
    /// The pieces in their order. What is in an edit or in a block is content, whatever it looks like; so nothing is
    /// two of them.
    pub(super) fn pieces(&self) -> Result<Pieces<'a>> {
        let lines = self.lines;
        let mut pieces = Pieces { edits: Vec::new(), fences: Vec::new() };
        let mut before: Vec<&'a str> = Vec::new();
        let (mut at, mut around): (usize, Option<usize>) = (0, None);
        while at < lines.len() {
            if let Some((kind, end)) = self.edit(at, around.is_some())? {
                let before = std::mem::take(&mut before);
                pieces.edits.push(Piece { kind, lines: (at, end), before, fenced: around.is_some() });
                at = end;
                continue;
            }
            // A block in a list is indented.
            let line = lines[at].trim_start();
            match (fence_length(line), around) {
                (Some(_), Some(length)) if closes(line, length) => around = None,
                (Some(length), None) => {
                    let close = fence::closing(lines, at, length).unwrap_or(lines.len());
                    let block = Block { open: at, close };
                    if !self.holds_edit(block) {
                        pieces.fences.push((block, before.clone()));
                        at = close + 1;
                        continue;
                    }
                    around = Some(length);
                }
                _ => {}
            }
            before.push(lines[at]);
            at += 1;
        }
        Ok(pieces)
    }

    /// Whether a reply begins as it was asked for, with a fence of whole files, and a file is in it: what looks like an
    /// edit further down is then the file's.
    pub(super) fn begins_file(&self, shape: &ReplyShape) -> bool {
        let inked = |from: usize| (from..self.lines.len()).find(|at| !self.lines[*at].trim().is_empty());
        let Some(open) = inked(0) else { return false };
        let line = self.lines[open];
        let asked = match shape.files.is_empty() {
            true => line
                .strip_prefix(&format!("{}{}", shape.fence, shape.language))
                .is_some_and(|rest| rest.trim().is_empty() || rest.starts_with(' ')),
            false => {
                fence_length(line).is_some()
                    && matches!(hint::in_fence(line, self.files), Some(Hint::Named { .. }))
            }
        };
        // A path may stand above an edit in its fence.
        let first = inked(open + 1);
        let named = first.filter(|at| hint::alone(self.lines[*at], self.files).is_some());
        let edit = |at: usize| {
            blocks::opening(self.lines[at], self.files).is_some()
                || patch::opens(self.lines[at])
                || self.unified && unified::begins(self.lines, at)
        };
        asked && !first.is_some_and(edit) && !named.and_then(|at| inked(at + 1)).is_some_and(edit)
    }

    /// The edit that begins on a line, and the line behind it.
    fn edit(&self, at: usize, fenced: bool) -> Result<Option<(Kind, usize)>> {
        if blocks::opening(self.lines[at], self.files).is_some_and(|(length, _)| length == self.marker) {
            return Ok(Some((Kind::Block, blocks::end(self.lines, at, self.marker, self.files)?)));
        }
        if patch::opens(self.lines[at]) {
            return Ok(Some((Kind::Envelope, patch::end(self.lines, at)?)));
        }
        if !self.unified || !unified::begins(self.lines, at) {
            return Ok(None);
        }
        Ok(Some((Kind::Unified, unified::parse(self.lines, at, fenced).1)))
    }

    fn parts(&self, edit: &Piece<'a>) -> Vec<unified::Part<'a>> {
        unified::parse(self.lines, edit.lines.0, edit.fenced).0
    }

    /// Whether an edit stands in a fenced block. A unified diff is one only where the block begins with it.
    fn holds_edit(&self, block: Block) -> bool {
        let opens = |line: &&str| {
            patch::opens(line)
                || blocks::opening(line, self.files).is_some_and(|(length, _)| length == self.marker)
        };
        let content = block.content(self.lines);
        content.iter().any(opens) || self.unified && unified::begins_in(content)
    }
}

impl<'a> Pieces<'a> {
    /// Whether the edits are meant as such where whole files were asked for. A diff of other files is an example, and so
    /// is one without names in a Markdown file.
    pub(super) fn are_ours(&self, scan: &Scan<'a, '_>, markdown: bool) -> bool {
        let is_ours = |edit: &Piece<'a>| {
            edit.kind != Kind::Unified
                || scan
                    .parts(edit)
                    .iter()
                    .any(|part| part.is_of(scan.files) && !(markdown && part.is_nameless()))
        };
        self.edits.iter().any(is_ours)
    }

    /// The sections of the patches.
    pub(super) fn sections(&self, scan: &Scan<'a, '_>) -> Result<Vec<Section<'a>>> {
        let mut sections = Vec::new();
        for edit in &self.edits {
            let (begin, end) = edit.lines;
            match edit.kind {
                Kind::Unified => {
                    unified::sections(
                        scan.lines,
                        &scan.parts(edit),
                        &edit.before,
                        scan.files,
                        &mut sections,
                    )?;
                }
                _ => sections.extend(patch::parse(&scan.lines[begin..end], begin, scan.files)?),
            }
        }
        Ok(sections)
    }

    /// Refuses a reply of which a part would be lost: edits of two kinds, or lines that look like a piece of an edit but
    /// are in none.
    pub(super) fn are_all(&self, scan: &Scan<'_, '_>) -> Result<()> {
        let first = self.edits.first().map(|edit| edit.kind);
        if let Some(other) = self.edits.iter().find(|edit| Some(edit.kind) != first) {
            return Err(bad(
                other.lines.0,
                "edits before it are written in another form; write all in the same",
            ));
        }
        let fences = |at: usize| self.fences.iter().any(|(block, _)| block.holds(at));
        let (mut in_diff, mut in_fence) = (false, false);
        for (at, line) in scan.lines.iter().enumerate() {
            if let Some(edit) = self.edits.iter().find(|edit| (edit.lines.0..edit.lines.1).contains(&at)) {
                in_diff = edit.kind == Kind::Unified;
                in_fence = in_diff && edit.fenced;
                continue;
            }
            if let Some(problem) = stray(line) {
                return Err(bad(at, problem));
            }
            if fences(at) || !scan.unified {
                continue;
            }
            // Behind a diff in a fence is nothing but its end.
            let ends = !in_fence || line.trim().is_empty() || fence::is_fence(line);
            in_fence &= line.trim().is_empty();
            if unified::is_stray(line) || in_diff && unified::is_rest(line) || !ends {
                return Err(bad(
                    at,
                    "a line of a patch begins with ` `, `-` or `+` and is below `@@`; this one is not",
                ));
            }
        }
        Ok(())
    }

    /// Refuses content of a file that is in a fenced block while the others are in edits. `edited` are the files that
    /// are; what else is in a fence, such as the use of a file, is no part of the work.
    pub(super) fn leave_no_file(&self, scan: &Scan<'_, '_>, edited: impl Fn(usize) -> bool) -> Result<()> {
        self.leave_no_patch(scan)?;
        for (block, before) in &self.fences {
            match claim(before, *block, scan.lines, scan.files) {
                Claim::Is(file) | Claim::Perhaps(file) if !edited(file) => {
                    return Err(bad(
                        block.open,
                        "the file is in a fenced block, others are in edits; write all of them as edits",
                    ));
                }
                Claim::Wrong(name) => return Err(target::wrong(&name, scan.files)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Refuses a block that is called a patch and is none.
    pub(super) fn leave_no_patch(&self, scan: &Scan<'_, '_>) -> Result<()> {
        match self.fences.iter().find(|(block, _)| scan.unified && block.is_patch(scan.lines)) {
            Some((block, _)) => Err(bad(
                block.open,
                "this patch cannot be read; begin it in the first column, with `@@` above each hunk, or write the edit as it was asked for",
            )),
            None => Ok(()),
        }
    }

    /// Whether there is a fenced block that holds no edit.
    pub(super) fn has_fences(&self) -> bool {
        !self.fences.is_empty()
    }
}

/// What is wrong with a line that looks like a piece of an edit, but is in none.
pub(super) fn stray(line: &str) -> Option<&'static str> {
    if blocks::is_stray(line) {
        Some("a delimiter that belongs to no block; write it as in the example, from the first column on")
    } else if patch::is_stray(line) {
        Some("it stands in no patch; write it between `*** Begin Patch` and `*** End Patch`")
    } else {
        None
    }
}

fn bad(at: usize, problem: &'static str) -> Error {
    Error::BadEdit { line: at + 1, problem }
}
