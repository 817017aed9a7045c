//! Fenced blocks of a reply, and for which file one can be.

use std::collections::HashSet;

use super::hint::{self, Hint};
use super::{Base, patch, unified};
use crate::{Error, Result, language};

/// The fewest backticks of a fence.
pub(super) const FENCE: usize = 3;

/// Lines of the fences, as indices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) open: usize,
    /// One past the last line where it has no end.
    pub(super) close: usize,
}

impl Block {
    /// Whether a line is in it, or one of its fences.
    pub(super) fn holds(&self, line: usize) -> bool {
        (self.open..=self.close).contains(&line)
    }

    /// Its lines without the fences.
    pub(super) fn content<'l, 'a>(&self, lines: &'l [&'a str]) -> &'l [&'a str] {
        &lines[self.open + 1..self.close]
    }

    /// Whether the fence or the first lines say that this is a patch, which is then not a file's content.
    pub(super) fn is_patch(&self, lines: &[&str]) -> bool {
        is_patch(&info(lines[self.open])) || begins_patch(self.content(lines))
    }
}

/// The fenced blocks of a text. Fences of fewer backticks than `least` are none, and those that are indented are content.
pub(super) fn blocks(lines: &[&str], least: usize) -> Result<Vec<Block>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        if let Some(length) = fence_length(lines[at]).filter(|length| *length >= least) {
            let close = closing(lines, at, length).ok_or(Error::OpenBlock { line: at + 1 })?;
            found.push(Block { open: at, close });
            at = close;
        }
        at += 1;
    }
    Ok(found)
}

/// The line that closes the fence on line `open`: as many backticks, or more, not further in, and nothing else.
pub(super) fn closing(lines: &[&str], open: usize, length: usize) -> Option<usize> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let near = |at: &usize| indent(lines[*at]) <= indent(lines[open]);
    (open + 1..lines.len()).filter(near).find(|at| closes(lines[*at].trim_start(), length))
}

/// Whether a line closes a fence of this length.
pub(super) fn closes(line: &str, length: usize) -> bool {
    fence_length(line) >= Some(length) && is_blank(line.trim_start_matches('`'))
}

/// How many backticks a line begins with, if it is a fence. Code between backticks on one line is not.
pub(super) fn fence_length(line: &str) -> Option<usize> {
    let info = line.trim_start_matches('`');
    let length = line.len() - info.len();
    (length >= FENCE && !info.contains('`')).then_some(length)
}

/// Whether a line holds nothing, by the measure of the grammar of replies: other blanks than these are a file's.
pub(super) fn is_blank(line: &str) -> bool {
    line.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

pub(super) fn is_fence(line: &str) -> bool {
    line.starts_with("```")
}

/// The first word after a fence, in small letters: a language, or what else the block is.
pub(super) fn info(fence: &str) -> String {
    let info = fence.trim_start().trim_start_matches('`').trim();
    info.split([' ', ':']).next().unwrap_or("").to_ascii_lowercase()
}

/// Whether lines begin as those of a patch, unified or in an envelope.
pub(super) fn begins_patch(lines: &[&str]) -> bool {
    let first = lines.iter().position(|line| !line.trim().is_empty());
    first.is_some_and(|at| patch::opens(lines[at])) || unified::begins_in(lines)
}

/// Whether a file is a patch itself.
pub(super) fn is_patch_file(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, ending)| is_patch(ending))
}

/// Whether a word is what patches are called.
pub(super) fn is_patch(word: &str) -> bool {
    matches!(word, "diff" | "patch" | "udiff")
}

/// How well the word after a fence fits a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// Commands to be run, and the file is of another language.
    Commands,
    /// It is another language.
    Other,
    /// It says nothing that is known.
    Perhaps,
    /// It is the file's language, or its ending.
    Exact,
}

/// How well a fence fits a file.
pub(super) fn fit(fence: &str, path: &str) -> Fit {
    let (word, own) = (info(fence), language::of(path));
    let ending = path.rsplit_once('.').map_or(path, |(_, ending)| ending).to_ascii_lowercase();
    let known = language::named(&word);
    match word.as_str() {
        "" if own.is_empty() => Fit::Exact,
        "" => Fit::Perhaps,
        "sh" | "bash" | "shell" | "console" | "zsh" | "terminal" if !own.is_empty() && own != "bash" => {
            Fit::Commands
        }
        "text" | "plaintext" if own.is_empty() => Fit::Exact,
        "text" | "plaintext" | "output" | "log" => Fit::Other,
        _ if word == own || word == ending || !known.is_empty() && known == own => Fit::Exact,
        _ if known.is_empty() || own.is_empty() || language::are_near(known, own) => Fit::Perhaps,
        _ => Fit::Other,
    }
}

/// Whose content a fenced block is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// This file's.
    Is(usize),
    /// This file's, if anybody's: only a sentence mentions it, and it is new; or the words name another as well.
    Perhaps(usize),
    /// That of a file which is none of the task's.
    Wrong(String),
    /// Nothing says whose it is.
    Open,
}

/// Whose content a block is by the lines before it, which no other piece of the reply has, and by itself.
pub(super) fn claim(before: &[&str], block: Block, lines: &[&str], files: &[Base<'_>]) -> Claim {
    let (fence, content) = (lines[block.open], block.content(lines));
    match hint::in_fence(fence, files) {
        Some(Hint::Named { file, .. }) => return Claim::Is(file),
        Some(Hint::Foreign { name, .. }) => return Claim::Wrong(name),
        _ => {}
    }
    // Where only words say it, what is shown may still be something else: commands, a configuration, a use of the file.
    let fits = |file: usize, least: Fit| fit(fence, files[file].path) >= least;
    let said = |file: usize, sure: bool| match files[file].content {
        _ if !fits(file, Fit::Perhaps) => Claim::Open,
        Some(old) if !old.trim().is_empty() => {
            if is_like(old.lines(), content) {
                Claim::Is(file)
            } else {
                Claim::Open
            }
        }
        _ if sure => Claim::Is(file),
        _ => Claim::Perhaps(file),
    };
    let has_much = |file: &usize| {
        let old = files[*file].content.unwrap_or("");
        fits(*file, Fit::Perhaps) && common(old.lines(), content) >= MUCH && is_like(old.lines(), content)
    };
    let much = || only((0..files.len()).filter(has_much));
    let hint = hint::hint(before, files);
    match (hint::in_comment(content, files), hint) {
        (_, Hint::Named { file, direct: true }) if fits(file, Fit::Other) => Claim::Is(file),
        (Some(file), _) => Claim::Is(file),
        (_, Hint::Named { file, direct: false }) if fits(file, Fit::Perhaps) => Claim::Is(file),
        (_, Hint::Foreign { name, .. }) if fit(fence, &name) >= Fit::Perhaps => Claim::Wrong(name),
        (_, Hint::Said(file)) => said(file, true),
        (_, Hint::Either(named, introduced)) => {
            let may_be = |file: &usize| said(*file, true) != Claim::Open;
            let found = only([named, introduced].into_iter().filter(may_be)).or_else(much);
            found.map_or(Claim::Perhaps(named), Claim::Is)
        }
        (_, Hint::Mentioned(file)) if said(file, false) != Claim::Open => said(file, false),
        _ => much().map_or(Claim::Open, Claim::Is),
    }
}

/// Whether a path says whose content a block is: in its fence, in a comment at its beginning, on the line before it, or
/// `further_up`.
pub(super) fn is_named(
    before: &[&str],
    block: Block,
    lines: &[&str],
    files: &[Base<'_>],
    further_up: bool,
) -> bool {
    hint::in_fence(lines[block.open], files).is_some()
        || hint::in_comment(block.content(lines), files).is_some()
        || matches!(hint::hint(before, files), Hint::Named { direct, .. } if direct || further_up)
}

/// The one file of several that can be; None if there are more.
fn only(mut found: impl Iterator<Item = usize>) -> Option<usize> {
    found.next().filter(|_| found.next().is_none())
}

/// So many lines in common tell for themselves whose content a block is.
const MUCH: usize = 3;

/// Whether lines are a version of a text: they have half of its lines.
pub(super) fn is_like<'a>(text: impl Iterator<Item = &'a str> + Clone, lines: &[&str]) -> bool {
    2 * common(text.clone(), lines) >= inked(text).len()
}

/// How many lines two texts have in common.
fn common<'a>(text: impl Iterator<Item = &'a str>, lines: &[&str]) -> usize {
    inked(text).intersection(&inked(lines.iter().copied())).count()
}

/// The lines that hold something, without the blanks around them.
fn inked<'a>(lines: impl Iterator<Item = &'a str>) -> HashSet<&'a str> {
    lines.map(str::trim).filter(|line| !line.is_empty()).collect()
}
