//! The block of a reply in which a whole Markdown file stands. Such a file consists of words and blocks itself, so here
//! it counts where the words of the file that is to change are.

use std::collections::HashSet;

use super::Base;
use super::fence::{Block, FENCE, blocks, closes, fence_length, info, is_patch};
use super::hint::alone;
use crate::prompt::ReplyShape;
use crate::{Error, Result};

/// The block that is the file; None if the reply is the file itself.
///
/// The expected fence opens it; or else the first that says it is Markdown, if not more of the old words are around it
/// than in it; or else the first fence without a word that has all of them that are left; or else a fence that nothing
/// is around.
pub(super) fn block_of(lines: &[&str], shape: &ReplyShape, file: &Base<'_>) -> Result<Option<Block>> {
    let reply = Reply { lines, old: words(file.content.unwrap_or("")) };
    let fences: Vec<usize> = (0..lines.len()).filter(|at| fence_length(lines[*at]).is_some()).collect();
    let Some(first) = fences.first().copied() else { return Ok(None) };
    let expected = format!("{}{}", shape.fence, shape.language);
    let is_expected = |line: &str| {
        line.strip_prefix(&expected).is_some_and(|rest| rest.trim().is_empty() || rest.starts_with(' '))
    };
    if let Some(open) = fences.iter().copied().find(|at| is_expected(lines[*at])) {
        return reply.block(open).map(Some);
    }
    // A fence behind an open one is content.
    let outer = || fences.iter().copied().filter(|at| blocks(&lines[..*at], FENCE).is_ok());
    let is_labelled = |at: &usize| {
        let info = info(lines[*at]);
        matches!(info.as_str(), "markdown" | "md" | "mdx") || is_patch(&info)
    };
    if let Some(open) = outer().find(is_labelled) {
        let (inside, outside) = reply.standing(open);
        let is_file = match inside.cmp(&outside) {
            std::cmp::Ordering::Equal => !reply.is_headed(open, file),
            order => order.is_gt(),
        };
        return if is_file { reply.block(open).map(Some) } else { Ok(None) };
    }
    let has_all = |at: &usize| info(lines[*at]).is_empty() && matches!(reply.standing(*at), (1.., 0));
    if let Some(open) = outer().find(has_all) {
        return reply.block(open).map(Some);
    }
    let alone = lines[..first].iter().all(|line| line.trim().is_empty());
    let bare = info(lines[first]).is_empty();
    let long = fence_length(lines[first]) >= Some(shape.fence.len());
    if long && (alone || bare && !reply.is_headed(first, file)) {
        return reply.block(first).map(Some);
    }
    if bare && alone {
        // Without a word, a block is the file's own unless nothing is around it.
        let last = lines.iter().rposition(|line| !line.trim().is_empty());
        return Ok(reply.block(first).ok().filter(|block| Some(block.close) == last));
    }
    let heading = lines[first + 1..].iter().find(|line| !line.trim().is_empty());
    if bare && !reply.is_headed(lines.len(), file) && heading.is_some_and(|line| line.starts_with("# ")) {
        return Err(bad(
            first,
            "the block may be the file or a part of it; write `markdown` after its fence",
        ));
    }
    Ok(None)
}

/// Whether a raw reply has words before the file: a new first line that is none of a Markdown file, and below it the
/// old one.
pub(super) fn is_prefaced(lines: &[&str], markdown: bool, old: Option<&str>) -> bool {
    let mut inked = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
    let first_old = old.unwrap_or("").lines().map(str::trim).find(|line| !line.is_empty());
    let is_first = |line: &str| match first_old {
        Some(old) => line == old,
        None => markdown && line.starts_with("# "),
    };
    let Some(first) = inked.next().filter(|line| line.starts_with(char::is_alphabetic) && !is_first(line))
    else {
        return false;
    };
    let known: HashSet<&str> = old.unwrap_or("").lines().map(str::trim).collect();
    let mut last = first;
    for line in inked {
        if is_first(line) {
            let announces = last.ends_with(':') && last.split_whitespace().count() > 2;
            return announces || markdown && line.starts_with("# ") && old.is_some();
        }
        if known.contains(line) {
            return false;
        }
        last = line;
    }
    false
}

struct Reply<'l, 'a> {
    lines: &'l [&'a str],
    /// The lines of the old file that hold something and are in none of its own blocks.
    old: HashSet<&'l str>,
}

impl Reply<'_, '_> {
    /// The block that a fence opens. It ends where the fences in it belong together, and those behind it.
    fn block(&self, open: usize) -> Result<Block> {
        let length = fence_length(self.lines[open]).unwrap_or(FENCE);
        let ends = |at: &usize| {
            closes(self.lines[*at], length)
                && blocks(&self.lines[open + 1..*at], length).is_ok()
                && blocks(&self.lines[at + 1..], FENCE).is_ok()
        };
        let mut ends = (open + 1..self.lines.len()).filter(ends);
        match (ends.next(), ends.next()) {
            (Some(close), None) => Ok(Block { open, close }),
            (Some(_), Some(_)) => Err(bad(
                open,
                "the fences in the file could be the end of its block; use a longer fence around the file",
            )),
            (None, _) => Err(Error::OpenBlock { line: open + 1 }),
        }
    }

    /// How many of the old words stand in the block that a fence opens, and how many around it.
    fn standing(&self, open: usize) -> (usize, usize) {
        let last = self.lines.iter().rposition(|line| closes(line, FENCE)).unwrap_or(self.lines.len());
        let close = self.block(open).map_or(last, |block| block.close);
        let stands = |at: &usize| self.old.contains(self.lines[*at].trim());
        let (inside, outside): (Vec<usize>, Vec<usize>) =
            (0..self.lines.len()).filter(stands).partition(|at| (open..=close).contains(at));
        (inside.len(), outside.len())
    }

    /// Whether a heading stands above a line, outside of blocks. One that is a path may name the file.
    fn is_headed(&self, end: usize, file: &Base<'_>) -> bool {
        let before = &self.lines[..end];
        let blocks = blocks(before, FENCE).unwrap_or_default();
        let outside = |at: usize| !blocks.iter().any(|block| block.holds(at));
        let heads = |line: &str| line.starts_with('#') && alone(line, std::slice::from_ref(file)).is_none();
        before.iter().enumerate().any(|(at, line)| heads(line) && outside(at))
    }
}

/// The lines of a Markdown file that are words.
fn words(text: &str) -> HashSet<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let blocks = blocks(&lines, FENCE).unwrap_or_default();
    let outside = |at: usize| !blocks.iter().any(|block| block.holds(at));
    let inked = lines.iter().enumerate().filter(|(at, line)| !line.trim().is_empty() && outside(*at));
    inked.map(|(_, line)| line.trim()).collect()
}

fn bad(at: usize, problem: &'static str) -> Error {
    Error::BadEdit { line: at + 1, problem }
}
