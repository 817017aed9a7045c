//! The whole content of a file: raw, or in a fenced block.

use std::collections::HashSet;

use super::lines::Style;
use super::{Base, Change, target};
use crate::prompt::ReplyShape;
use crate::syntax::Language;
use crate::{Error, Result, path};

/// The fewest backticks of a fence.
pub(super) const FENCE: usize = 3;

/// The content of a file as a reply gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The path that stands with the fenced block, if one does.
    pub path: Option<String>,
    /// The whole content, its last line with an end.
    pub content: String,
}

impl Draft {
    /// Whether the draft is for this file; a draft without a path is.
    pub fn is_for(&self, file: &str) -> Result<()> {
        match &self.path {
            Some(got) if path::relative(got).ok().as_deref() != Some(file) => {
                Err(Error::WrongFile { got: got.clone(), expected: file.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

/// Reads a reply in every reasonable form of a whole file: the raw content, or one fenced block, with
/// words around it or not, whose path may stand in the fence's line or on the line before.
///
/// A fence is a line that begins with at least three backticks; the line that closes it begins with as many and
/// holds nothing else. Fences that are indented are content.
pub fn parse(reply: &str, shape: &ReplyShape) -> Result<Draft> {
    let reply = reply.strip_prefix('\u{feff}').unwrap_or(reply);
    let lines: Vec<&str> = reply.split_inclusive('\n').collect();
    let Some(block) = block_of(&lines, shape)? else {
        let content = unix_ends(reply.trim_end_matches(['\r', '\n', ' ', '\t'])) + "\n";
        return Ok(Draft { path: None, content });
    };
    let draft = block.draft(&lines);
    if draft.content.lines().all(is_blank) {
        return Err(Error::EmptyReply);
    }
    Ok(draft)
}

/// The fenced block in which the file stands; None if the reply is the file itself.
fn block_of(lines: &[&str], shape: &ReplyShape) -> Result<Option<Block>> {
    if lines.iter().all(|line| is_blank(line)) {
        return Err(Error::EmptyReply);
    }
    if shape.language == "markdown" {
        return markdown_block(lines, shape);
    }
    let mut found = blocks(lines, FENCE)?;
    match found.len() {
        0 | 1 => Ok(found.pop()),
        count => Err(Error::SeveralBlocks { count }),
    }
}

/// The same for a Markdown file, which consists of prose and blocks itself: it stands in a block if the expected fence
/// opens one, or if the first fence says that it does; otherwise the reply is the file.
fn markdown_block(lines: &[&str], shape: &ReplyShape) -> Result<Option<Block>> {
    let expected = format!("{}{}", shape.fence, shape.language);
    let is_expected = |line: &&str| {
        line.strip_prefix(&expected).is_some_and(|rest| is_blank(rest) || rest.starts_with(' '))
    };
    let expected = lines.iter().position(is_expected);
    let first = lines.iter().position(|line| fence_length(line).is_some());
    let Some((open, length)) = expected.or(first).and_then(|at| Some((at, fence_length(lines[at])?))) else {
        return Ok(None);
    };
    let mut before = lines[..open].iter().filter(|line| !is_blank(line));
    let alone = before.clone().next().is_none();
    // Words before the block may name its file; a heading of another kind is the file's.
    let in_file = before.any(|line| line.starts_with('#') && path_in_line(line).is_none());
    let info = info(lines[open]);
    let labelled = matches!(info.as_str(), "markdown" | "md" | "mdx") || is_patch(&info);
    let long = length >= shape.fence.len() && (alone || info.is_empty());
    // Without a word, a block is the file's own unless nothing is around it.
    let bare = alone && info.is_empty() && !long;
    if expected.is_none() && (in_file || !(labelled || long || bare)) {
        return Ok(None);
    }
    let closes = |line: &str| fence_length(line) >= Some(length) && is_blank(line.trim_start_matches('`'));
    let close = (open + 1..lines.len()).rev().find(|at| closes(lines[*at]));
    let close = close.ok_or(Error::OpenBlock { line: open + 1 })?;
    let last = lines.iter().rposition(|line| !is_blank(line));
    // The fences between are the file's own if they belong together; or else the block ends before them.
    let count = blocks(&lines[open..], length).map_or(1, |found| found.len());
    match (blocks(&lines[open + 1..close], length).is_ok(), count) {
        _ if bare && last != Some(close) => Ok(None),
        (true, 1) => Ok(Some(Block { open, close })),
        (true, _) => Err(Error::BadEdit {
            line: open + 1,
            problem: "the fences in the file could be the end of its block; use a longer fence around the file",
        }),
        (false, 1) => Err(Error::OpenBlock { line: open + 1 }),
        (false, _) if bare => Ok(None),
        (false, count) => Err(Error::SeveralBlocks { count }),
    }
}

/// What whole files in a reply make of the files.
pub(super) fn read(reply: &str, shape: &ReplyShape, files: &[Base<'_>]) -> Result<Vec<Change>> {
    let drafts = match shape.files.as_slice() {
        [] => vec![parse(reply, shape)?],
        named => super::parse_files(reply, named)?,
    };
    let raw = shape.files.is_empty() && is_raw(reply, shape, files)?;
    let change = |draft: Draft| {
        let file = draft.path.as_deref().map_or(Ok(0), |path| target::resolve(path, files))?;
        let Base { path, content } = files.get(file).copied().ok_or(Error::NoEdit)?;
        if content.is_some_and(|old| raw && is_prose(reply, path, old)) {
            return Err(Error::NoEdit);
        }
        let style = Style::of(content);
        let new = style.apply(&draft.content);
        // How a file ends is not shown, so a reply says nothing about it.
        let same = content.is_some_and(|old| style.apply(old).trim_end() == new.trim_end());
        Ok(Some(Change { path: path.to_owned(), content: Some(new), moved_from: None }).filter(|_| !same))
    };
    let changes = drafts.into_iter().filter_map(|draft| change(draft).transpose());
    let changes: Vec<Change> = changes.collect::<Result<_>>()?;
    if changes.is_empty() { Err(Error::NothingChanged) } else { Ok(changes) }
}

/// Whether a raw reply is words beside the matter, such as a refusal, as far as that can be told: the file has
/// several lines, none of them is in the reply, and there is no grammar to say that it is no such file. A single line, such
/// as a version, may well change as a whole.
fn is_prose(reply: &str, path: &str, old: &str) -> bool {
    let old = inked(old);
    Language::of(path).is_none() && old.len() > 1 && old.is_disjoint(&inked(reply))
}

/// The lines of a text that hold something, without the blanks around it.
fn inked(text: &str) -> HashSet<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// Whether the reply is the one file itself, without a fence. A patch in its place is refused, unless the file is one.
fn is_raw(reply: &str, shape: &ReplyShape, files: &[Base<'_>]) -> Result<bool> {
    let lines: Vec<&str> = reply.split_inclusive('\n').collect();
    let block = block_of(&lines, shape)?;
    match &block {
        _ if files.iter().any(|file| is_patch_file(file.path)) => {}
        Some(block) if block.is_patch(&lines) => return Err(block.is_no_file()),
        None if begins_patch(&lines) => return Err(no_file(0)),
        _ => {}
    }
    Ok(block.is_none())
}

/// Whether lines begin as those of a unified diff.
fn begins_patch(lines: &[&str]) -> bool {
    let mut inked = lines.iter().filter(|line| !is_blank(line));
    let (first, second) = (inked.next().unwrap_or(&""), inked.next().unwrap_or(&""));
    first.starts_with("diff --git ")
        || first.starts_with("--- ") && second.starts_with("+++ ")
        || first.starts_with("@@ -") && first.contains(" +")
}

/// What is to be said of a patch in the place of a file, which begins on this line, from 0.
fn no_file(at: usize) -> Error {
    Error::BadEdit { line: at + 1, problem: "this is a patch, not the file; write the whole file" }
}

/// Whether a file is a patch itself.
pub(super) fn is_patch_file(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, ending)| is_patch(ending))
}

/// Whether a word is what patches are called.
fn is_patch(word: &str) -> bool {
    matches!(word, "diff" | "patch")
}

/// Lines of the fences, as indices.
pub(super) struct Block {
    pub(super) open: usize,
    close: usize,
}

impl Block {
    /// Whether a line is in it, or one of its fences.
    pub(super) fn holds(&self, line: usize) -> bool {
        (self.open..=self.close).contains(&line)
    }

    /// Whether the fence or the first lines say that this is a patch, which is then not a file's content.
    pub(super) fn is_patch(&self, lines: &[&str]) -> bool {
        is_patch(&info(lines[self.open])) || begins_patch(&lines[self.open + 1..self.close])
    }

    /// What is to be said of a patch in the place of a file.
    pub(super) fn is_no_file(&self) -> Error {
        no_file(self.open)
    }

    pub(super) fn draft(&self, lines: &[&str]) -> Draft {
        let before = self.open.checked_sub(1).map(|at| lines[at]);
        let path = path_in_fence(lines[self.open]).or_else(|| before.and_then(path_in_line));
        Draft { path, content: lines[self.open + 1..self.close].concat() }
    }
}

/// The fenced blocks of a text. Fences of fewer backticks than `least` are none.
pub(super) fn blocks(lines: &[&str], least: usize) -> Result<Vec<Block>> {
    let mut found = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    for (at, line) in lines.iter().enumerate() {
        let Some(length) = fence_length(line).filter(|length| *length >= least) else { continue };
        match open {
            None => open = Some((at, length)),
            Some((start, needed)) if length >= needed && is_blank(line.trim_start_matches('`')) => {
                found.push(Block { open: start, close: at });
                open = None;
            }
            Some(_) => {}
        }
    }
    match open {
        Some((start, _)) => Err(Error::OpenBlock { line: start + 1 }),
        None => Ok(found),
    }
}

/// How many backticks a line begins with, if it is a fence. Code between backticks on one line is not.
fn fence_length(line: &str) -> Option<usize> {
    let info = line.trim_start_matches('`');
    let length = line.len() - info.len();
    (length >= FENCE && !info.contains('`')).then_some(length)
}

/// The first word after a fence, in small letters: a language, or what else the block is.
pub(super) fn info(fence: &str) -> String {
    let info = fence.trim_start_matches('`').trim();
    info.split([' ', ':']).next().unwrap_or("").to_ascii_lowercase()
}

pub(super) fn path_in_fence(line: &str) -> Option<String> {
    let info = line.trim_start_matches('`').trim();
    info.split([' ', ':', '='])
        .map(|word| word.trim_matches(['"', '\'', '{', '}', '(', ')']))
        .find_map(path_like)
}

/// The path on a line that holds nothing else, apart from marks and a word such as "File:".
pub(super) fn path_in_line(line: &str) -> Option<String> {
    let line = line.trim().trim_start_matches(['#', '*', '-', ' ']);
    let line =
        ["File:", "file:", "Path:", "path:"].iter().find_map(|word| line.strip_prefix(word)).unwrap_or(line);
    path_like(line.trim_matches(['*', '`', ':', ' ']))
}

/// A word that is a path beyond doubt: it has an ending of letters and digits, and no blanks.
pub(super) fn path_like(word: &str) -> Option<String> {
    let (stem, ending) = word.rsplit_once('.')?;
    let plain =
        ending.len() <= 10 && !ending.is_empty() && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let known = !crate::language::of(word).is_empty() || word.contains('/');
    (plain && known && !stem.is_empty() && !word.contains(char::is_whitespace)).then(|| word.to_owned())
}

fn is_blank(line: &str) -> bool {
    line.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

fn unix_ends(text: &str) -> String {
    text.replace("\r\n", "\n")
}

#[cfg(test)]
mod tests;
