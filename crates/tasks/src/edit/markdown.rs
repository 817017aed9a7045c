//! The block of a reply in which a whole Markdown file stands. Such a file consists of words and blocks itself, so here
//! it counts where the words of the file that is to change are.

use std::collections::HashSet;

use super::fence::{Block, FENCE, blocks, closes, fence_length, info, is_fence, is_patch};
use super::hint::alone;
use super::{Base, words};
use crate::prompt::ReplyShape;
use crate::{Error, Result};

/// The block that is the file; None if the reply is the file itself.
///
/// The expected fence opens it; or else the first that says it is Markdown, if not more of the old words are around it
/// than in it; or else the first fence without a word that has all of them that are left; or else a fence that nothing
/// is around.
pub(super) fn block_of(lines: &[&str], shape: &ReplyShape, file: &Base<'_>) -> Result<Option<Block>> {
    let reply = Reply::new(lines, file.content.unwrap_or(""));
    let fences = &reply.fences;
    let Some(first) = fences.first().copied() else { return Ok(None) };
    let expected = format!("{}{}", shape.fence, shape.language);
    let is_expected = |line: &str| {
        line.strip_prefix(&expected).is_some_and(|rest| rest.trim().is_empty() || rest.starts_with(' '))
    };
    if let Some(open) = fences.iter().copied().find(|at| is_expected(lines[*at])) {
        return reply.block(open).map(Some);
    }
    let outer = reply.outer();
    let is_labelled = |at: &usize| {
        let info = info(lines[*at]);
        matches!(info.as_str(), "markdown" | "md" | "mdx") || is_patch(&info)
    };
    if let Some(open) = outer.iter().copied().find(is_labelled) {
        let (inside, outside) = reply.standing(open);
        let is_file = match inside.cmp(&outside) {
            std::cmp::Ordering::Equal => !reply.is_headed(open, file),
            order => order.is_gt(),
        };
        return if is_file { reply.block(open).map(Some) } else { Ok(None) };
    }
    let has_all = |at: &usize| info(lines[*at]).is_empty() && matches!(reply.standing(*at), (1.., 0));
    if let Some(open) = outer.iter().copied().find(has_all) {
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
    let (mut last, mut fenced) = (first, false);
    for line in inked {
        fenced |= is_fence(line);
        if is_first(line) {
            let announces = last.ends_with(':') && last.split_whitespace().count() > 2;
            let says = old.is_some() || !fenced && words::ends_sentence(last);
            return announces || markdown && line.starts_with("# ") && says;
        }
        if known.contains(line) {
            return false;
        }
        last = line;
    }
    false
}

/// A reply, and what is asked of each of its fences, found once: a model that repeats itself writes many.
struct Reply<'l, 'a> {
    lines: &'l [&'a str],
    /// The lines of the old file that hold something and are in none of its own blocks, where they stand here.
    old: Vec<usize>,
    /// The fences.
    fences: Vec<usize>,
    /// Whether the fences from a line on belong together; the end of the reply is the last of these lines.
    paired: Vec<bool>,
}

impl<'l, 'a> Reply<'l, 'a> {
    fn new(lines: &'l [&'a str], old: &str) -> Reply<'l, 'a> {
        let old = words_of(old);
        let old = (0..lines.len()).filter(|at| old.contains(lines[*at].trim())).collect();
        let fences = (0..lines.len()).filter(|at| fence_length(lines[*at]).is_some()).collect();
        Reply { lines, old, fences, paired: paired(lines) }
    }

    /// The fences that open a block. One behind an open one is content.
    fn outer(&self) -> Vec<usize> {
        let mut open: Option<usize> = None;
        let mut outer = Vec::new();
        for at in self.fences.iter().copied() {
            match open {
                Some(length) if closes(self.lines[at], length) => open = None,
                Some(_) => {}
                None => {
                    open = fence_length(self.lines[at]);
                    outer.push(at);
                }
            }
        }
        outer
    }

    /// The block that a fence opens. It ends where the fences in it belong together, and those behind it.
    fn block(&self, open: usize) -> Result<Block> {
        let length = fence_length(self.lines[open]).unwrap_or(FENCE);
        let (mut inner, mut end): (Option<usize>, Option<usize>) = (None, None);
        let behind = self.fences.partition_point(|at| *at <= open);
        for at in self.fences[behind..].iter().copied() {
            let line = self.lines[at];
            if inner.is_none() && closes(line, length) && self.paired[at + 1] && end.replace(at).is_some() {
                return Err(bad(
                    open,
                    "the fences in the file could be the end of its block; use a longer fence around the file",
                ));
            }
            inner = match inner {
                Some(length) if closes(line, length) => None,
                Some(length) => Some(length),
                None => fence_length(line).filter(|inner| *inner >= length),
            };
        }
        end.map(|close| Block { open, close }).ok_or(Error::OpenBlock { line: open + 1 })
    }

    /// How many of the old words stand in the block that a fence opens, and how many around it.
    fn standing(&self, open: usize) -> (usize, usize) {
        let last = self.fences.iter().copied().rfind(|at| closes(self.lines[*at], FENCE));
        let close = self.block(open).map_or(last.unwrap_or(self.lines.len()), |block| block.close);
        let inside = self.old.iter().filter(|at| (open..=close).contains(*at)).count();
        (inside, self.old.len() - inside)
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

/// Whether the fences from each line on belong together, as `blocks` asks of them.
fn paired(lines: &[&str]) -> Vec<bool> {
    let mut paired = vec![true; lines.len() + 1];
    // The fences behind a line that can close, the nearest last, and their lengths. Those that a nearer one closes before
    // are gone.
    let mut closing: Vec<(usize, usize)> = Vec::new();
    for at in (0..lines.len()).rev() {
        let Some(length) = fence_length(lines[at]) else {
            paired[at] = paired[at + 1];
            continue;
        };
        let close = closing.iter().rev().find(|(_, other)| *other >= length);
        paired[at] = close.is_some_and(|(close, _)| paired[close + 1]);
        if closes(lines[at], FENCE) {
            while closing.last().is_some_and(|(_, other)| *other <= length) {
                closing.pop();
            }
            closing.push((at, length));
        }
    }
    paired
}

/// The lines of a Markdown file that are words.
fn words_of(text: &str) -> HashSet<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let blocks = blocks(&lines, FENCE).unwrap_or_default();
    let outside = |at: usize| !blocks.iter().any(|block| block.holds(at));
    let inked = lines.iter().enumerate().filter(|(at, line)| !line.trim().is_empty() && outside(*at));
    inked.map(|(_, line)| line.trim()).collect()
}

fn bad(at: usize, problem: &'static str) -> Error {
    Error::BadEdit { line: at + 1, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In one pass as by the definition, which looks at the text before and behind every fence anew.
    #[test]
    fn fences_belong_together_as_in_texts_of_their_own() {
        let kinds = ["x", "```", "```a", "````", "````a"];
        for number in 0..kinds.len().pow(6) {
            let lines: Vec<&str> =
                (0..6).map(|place| kinds[number / kinds.len().pow(place) % kinds.len()]).collect();
            let reply = Reply::new(&lines, "");
            let is_paired = |at: usize| blocks(&lines[at..], FENCE).is_ok();
            assert_eq!(reply.paired, (0..=lines.len()).map(is_paired).collect::<Vec<_>>(), "{lines:?}");
            let is_outer = |at: &usize| blocks(&lines[..*at], FENCE).is_ok();
            let outer: Vec<usize> = reply.fences.iter().copied().filter(is_outer).collect();
            assert_eq!(reply.outer(), outer, "{lines:?}");
            for open in reply.fences.iter().copied() {
                let length = fence_length(lines[open]).unwrap();
                let ends = |at: &usize| {
                    closes(lines[*at], length)
                        && blocks(&lines[open + 1..*at], length).is_ok()
                        && blocks(&lines[at + 1..], FENCE).is_ok()
                };
                let ends: Vec<usize> = (open + 1..lines.len()).filter(ends).collect();
                match (reply.block(open), ends.as_slice()) {
                    (Ok(block), [close]) => assert_eq!(block.close, *close, "{lines:?}"),
                    (Err(Error::OpenBlock { .. }), []) | (Err(Error::BadEdit { .. }), [_, _, ..]) => {}
                    (got, _) => panic!("{got:?}, {ends:?}: {lines:?}"),
                }
            }
        }
    }
}
