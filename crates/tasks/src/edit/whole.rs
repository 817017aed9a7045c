//! The whole content of a file: raw, or in a fenced block.

use std::collections::HashSet;

use super::lines::Style;
use super::{Base, Change, target};
use crate::prompt::ReplyShape;
use crate::syntax::Language;
use crate::{Error, Result, path};

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
/// A fence is a line that begins with at least three backticks, and with at least as many as the
/// expected fence if the reply opens with that one; the line that closes it begins with as many and
/// holds nothing else. Fences that are indented are content.
pub fn parse(reply: &str, shape: &ReplyShape) -> Result<Draft> {
    let reply = reply.strip_prefix('\u{feff}').unwrap_or(reply);
    let lines: Vec<&str> = reply.split_inclusive('\n').collect();
    let first = lines.iter().position(|line| !is_blank(line)).ok_or(Error::EmptyReply)?;
    // Prose is what Markdown consists of, so without the expected fence such a file is raw.
    let raw_markdown = shape.language == "markdown" && fence_length(lines[first]) < Some(shape.fence.len());
    let blocks = if raw_markdown { Vec::new() } else { blocks(&lines)? };
    match blocks.as_slice() {
        [] => Ok(Draft {
            path: None,
            content: unix_ends(reply.trim_end_matches(['\r', '\n', ' ', '\t'])) + "\n",
        }),
        [block] => {
            let draft = block.draft(&lines);
            if draft.content.lines().all(is_blank) {
                return Err(Error::EmptyReply);
            }
            Ok(draft)
        }
        several => Err(Error::SeveralBlocks { count: several.len() }),
    }
}

/// What whole files in a reply make of the files.
pub(super) fn read(reply: &str, shape: &ReplyShape, files: &[Base<'_>]) -> Result<Vec<Change>> {
    let drafts = match shape.files.as_slice() {
        [] => {
            no_patch(reply, shape, files)?;
            vec![parse(reply, shape)?]
        }
        named => super::parse_files(reply, named)?,
    };
    let change = |draft: Draft| {
        let file = draft.path.as_deref().map_or(Ok(0), |path| target::resolve(path, files))?;
        let Base { path, content } = files.get(file).copied().ok_or(Error::NoEdit)?;
        if content.is_some_and(|old| is_prose(reply, path, old)) {
            return Err(Error::NoEdit);
        }
        Ok(Change {
            path: path.to_owned(),
            content: Some(Style::of(content).apply(&draft.content)),
            moved_from: None,
        })
    };
    drafts.into_iter().map(change).collect()
}

/// Whether a reply is words beside the matter, such as a refusal, as far as that can be told of raw text: the file has
/// several lines, none of them is in the reply, and there is no grammar to say that it is no such file. A single line, such
/// as a version, may well change as a whole.
fn is_prose(reply: &str, path: &str, old: &str) -> bool {
    let fenced = reply.lines().any(|line| fence_length(line).is_some());
    let old = inked(old);
    !fenced && Language::of(path).is_none() && old.len() > 1 && old.is_disjoint(&inked(reply))
}

/// The lines of a text that hold something, without the blanks around it.
fn inked(text: &str) -> HashSet<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// Refuses a patch in the place of the one file, unless that is one. The blocks of a Markdown file are its own.
fn no_patch(reply: &str, shape: &ReplyShape, files: &[Base<'_>]) -> Result<()> {
    if shape.language == "markdown" || files.iter().any(|file| is_patch_file(file.path)) {
        return Ok(());
    }
    let lines: Vec<&str> = reply.split_inclusive('\n').collect();
    match blocks(&lines)?.as_slice() {
        [block] if block.is_patch(&lines) => Err(block.is_no_file()),
        _ => Ok(()),
    }
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
    /// Whether the fence says that this is a patch, which is then not a file's content.
    pub(super) fn is_patch(&self, lines: &[&str]) -> bool {
        let info = lines[self.open].trim_start_matches('`').trim();
        is_patch(&info.split([' ', ':']).next().unwrap_or("").to_ascii_lowercase())
    }

    /// What is to be said of a patch in the place of a file.
    pub(super) fn is_no_file(&self) -> Error {
        Error::BadEdit {
            line: self.open + 1,
            problem: "the block is a patch, not the file; write the whole file",
        }
    }

    pub(super) fn draft(&self, lines: &[&str]) -> Draft {
        let before = self.open.checked_sub(1).map(|at| lines[at]);
        let path = path_in_fence(lines[self.open]).or_else(|| before.and_then(path_in_line));
        Draft { path, content: lines[self.open + 1..self.close].concat() }
    }
}

pub(super) fn blocks(lines: &[&str]) -> Result<Vec<Block>> {
    let mut found = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    for (at, line) in lines.iter().enumerate() {
        let Some(length) = fence_length(line) else { continue };
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
    (length >= 3 && !info.contains('`')).then_some(length)
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
