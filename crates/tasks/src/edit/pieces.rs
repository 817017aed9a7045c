//! The pieces of a reply: edits of three kinds, fenced blocks that hold none, and the words between them.

use std::collections::HashSet;

use super::apply::Lines;
use super::fence::{self, Block, Claim, Fit, claim, closes, fence_length};
use super::hint::{self, Hint};
use super::patch::Section;
use super::{Base, Change, blocks, patch, target, unified, words};
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
    /// Fenced blocks around edits.
    around: Vec<Block>,
}

/// How a reply is taken apart.
pub(super) struct Scan<'a, 'f> {
    pub(super) lines: &'f [&'a str],
    pub(super) files: &'f [Base<'f>],
    /// The length of the delimiters of search/replace blocks.
    pub(super) marker: usize,
    /// Whole files were asked for.
    pub(super) whole: bool,
    /// Unified diffs are edits, not content.
    pub(super) unified: bool,
}

impl<'a> Scan<'a, '_> {
    /// The pieces in their order. What is in an edit or in a block is content, whatever it looks like; so nothing is
    /// two of them.
    pub(super) fn pieces(&self) -> Result<Pieces<'a>> {
        let lines = self.lines;
        let mut pieces = Pieces { edits: Vec::new(), fences: Vec::new(), around: Vec::new() };
        let mut before: Vec<&'a str> = Vec::new();
        // The open fence around edits, its line and its length.
        let (mut at, mut around): (usize, Option<(usize, usize)>) = (0, None);
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
                (Some(_), Some((open, length))) if closes(line, length) => {
                    pieces.around.push(Block { open, close: at });
                    around = None;
                }
                (Some(length), None) => {
                    let close = fence::closing(lines, at, length).unwrap_or(lines.len());
                    let block = Block { open: at, close };
                    if !self.holds_edit(block) {
                        pieces.fences.push((block, before.clone()));
                        at = close + 1;
                        continue;
                    }
                    around = Some((at, length));
                }
                _ => {}
            }
            before.push(lines[at]);
            at += 1;
        }
        match (around, pieces.edits.last()) {
            // Nothing else says that a diff was cut off: its numbers are not believed.
            (Some((open, _)), Some(last)) if last.kind == Kind::Unified && last.lines.0 > open => {
                Err(Error::OpenBlock { line: open + 1 })
            }
            _ => Ok(pieces),
        }
    }

    /// Whether a reply begins as it was asked for, with a fence of whole files, and a file is in it: what looks like an
    /// edit further down is then the file's.
    pub(super) fn begins_file(&self, shape: &ReplyShape) -> bool {
        let Some(open) = self.inked(0) else { return false };
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
        asked && !self.begins_edit(open + 1)
    }

    /// The next line that holds something.
    fn inked(&self, from: usize) -> Option<usize> {
        (from..self.lines.len()).find(|at| !self.lines[*at].trim().is_empty())
    }

    /// Whether the next line that holds something is the first of an edit, above which its path may stand.
    fn begins_edit(&self, from: usize) -> bool {
        let first = self.inked(from);
        let named = first.filter(|at| hint::alone(self.lines[*at], self.files).is_some());
        let edit = |at: usize| {
            blocks::opening(self.lines[at], self.files).is_some()
                || patch::opens(self.lines[at])
                || self.unified && unified::begins(self.lines, at)
        };
        first.is_some_and(edit) || named.and_then(|at| self.inked(at + 1)).is_some_and(edit)
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

    /// Whether an edit stands in a fenced block. A unified diff is one only where the block begins with it. Further down,
    /// where whole files were asked for, a line that the files have already is theirs.
    fn holds_edit(&self, block: Block) -> bool {
        let opens = |line: &&&str| {
            patch::opens(line)
                || blocks::opening(line, self.files).is_some_and(|(length, _)| length == self.marker)
        };
        let content = block.content(self.lines);
        let is_file = self.whole && !self.begins_edit(block.open + 1);
        content.iter().filter(opens).any(|line| !is_file || !self.is_known(line))
            || self.unified && unified::begins_in(content)
    }

    /// Whether a file has this line.
    fn is_known(&self, line: &str) -> bool {
        let has = |content: &str| content.lines().any(|other| other.trim() == line.trim());
        self.files.iter().any(|file| file.content.is_some_and(has))
    }

    /// Whether all of these lines stand in a file as they are.
    fn is_quoted(&self, lines: &[&str]) -> bool {
        let has = |file: &Base<'_>| {
            file.content.is_some_and(|old| !Lines::new(file.path, old).places(lines).is_empty())
        };
        self.files.iter().any(has)
    }

    /// Whether a block holds nothing but lines that the file has or that a change gives it, and its path.
    fn is_shown(&self, block: Block, file: usize, changes: &[Change]) -> bool {
        let Base { path, content } = self.files[file];
        let of = |change: &&Change| change.path == path || change.moved_from.as_deref() == Some(path);
        let new = changes.iter().filter(of).filter_map(|change| change.content.as_deref());
        let known: HashSet<&str> =
            content.into_iter().chain(new).flat_map(str::lines).map(str::trim).collect();
        let mut inked = block.content(self.lines).iter().filter(|line| !line.trim().is_empty());
        inked.all(|line| known.contains(line.trim()) || hint::alone(line, self.files).is_some())
    }

    /// Whether a line in a fence beside an edit is no part of the work: a path, a comment, what
    /// announces the edit, or a line that is there.
    fn is_beside(&self, line: &str) -> bool {
        const COMMENTS: [&str; 7] = ["# ", "// ", "-- ", "<!-- ", "/* ", "; ", "% "];
        let line = line.trim();
        line.trim_matches(['.', '…']).is_empty()
            || fence::is_fence(line)
            || COMMENTS.iter().any(|mark| line.starts_with(mark))
            || hint::alone(line, self.files).is_some()
            || hint::introduces(line, self.files)
            || words::announces(line)
            || self.is_known(line)
    }
}

impl<'a> Pieces<'a> {
    /// Whether the edits are meant as such where whole files were asked for. One that stands in a file as it is, is the
    /// file's. A diff of other files is an example, and so is an envelope in a fence, or a diff without names in a Markdown
    /// file.
    pub(super) fn are_ours(&self, scan: &Scan<'a, '_>, markdown: bool) -> bool {
        let is_ours = |edit: &Piece<'a>| {
            let lines = &scan.lines[edit.lines.0..edit.lines.1];
            let named = match edit.kind {
                Kind::Block => true,
                Kind::Envelope => !edit.fenced || patch::is_of(lines, scan.files),
                Kind::Unified => scan
                    .parts(edit)
                    .iter()
                    .any(|part| part.is_of(scan.files) && !(markdown && part.is_nameless())),
            };
            named && !scan.is_quoted(lines)
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
                _ => {
                    for section in patch::parse(&scan.lines[begin..end], begin, scan.files)? {
                        patch::add(&mut sections, section);
                    }
                }
            }
        }
        Ok(sections)
    }

    /// Refuses a reply of which a part would be lost: edits of two kinds, lines that look like a piece of an edit but are
    /// in none, or other lines in the fence of an edit.
    pub(super) fn are_all(&self, scan: &Scan<'_, '_>) -> Result<()> {
        let first = self.edits.first().map(|edit| edit.kind);
        if let Some(other) = self.edits.iter().find(|edit| Some(edit.kind) != first) {
            return Err(bad(
                other.lines.0,
                "edits before it are written in another form; write all in the same",
            ));
        }
        let fences = |at: usize| self.fences.iter().any(|(block, _)| block.holds(at));
        let beside = |at: usize| self.around.iter().any(|block| block.open < at && at < block.close);
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
            if !in_fence && beside(at) && !scan.is_beside(line) {
                return Err(bad(
                    at,
                    "it stands in the fence of an edit but in no edit; write it as one, or words outside of the fence",
                ));
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

    /// Refuses content of a file that is in a fenced block while the others are in edits, which make these changes.
    /// `edited` are the files that are, of which such a block may quote lines; what else is in a fence, such as the use of
    /// a file, is no part of the work.
    pub(super) fn leave_no_file(
        &self,
        scan: &Scan<'_, '_>,
        edited: impl Fn(usize) -> bool,
        changes: &[Change],
    ) -> Result<()> {
        self.leave_no_patch(scan)?;
        let (lines, files) = (scan.lines, scan.files);
        for (block, before) in &self.fences {
            // Above an edit, what stands below the same heading may explain it.
            let last = self.edits.iter().all(|edit| edit.lines.1 <= block.open);
            let is_content = |file: usize| {
                fence::is_named(before, *block, lines, files, last)
                    && fence::fit(lines[block.open], files[file].path) >= Fit::Perhaps
                    && !scan.is_shown(*block, file, changes)
            };
            match claim(before, *block, lines, files) {
                Claim::Is(file) | Claim::Perhaps(file) if !edited(file) => {
                    return Err(bad(
                        block.open,
                        "the file is in a fenced block, others are in edits; write all of them as edits",
                    ));
                }
                Claim::Is(file) if is_content(file) => {
                    return Err(bad(
                        block.open,
                        "the block is a part of a file of which others are in edits; write it as an edit, too",
                    ));
                }
                Claim::Wrong(name) => return Err(target::wrong(&name, files)),
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
