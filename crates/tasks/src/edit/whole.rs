//! Whole files: raw, or each in a fenced block.

use std::collections::HashSet;

use super::fence::{
    Block, Claim, FENCE, Fit, begins_patch, blocks, claim, closing, fence_length, fit, info, is_blank,
    is_like, is_named, is_patch_file,
};
use super::lines::{Style, key};
use super::{Base, Change, markdown, pieces, target, unified, words};
use crate::prompt::ReplyShape;
use crate::syntax::Language;
use crate::{Error, Result, language};

/// The content of a file as a reply gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Its path in plain form.
    pub path: String,
    /// The whole content, its last line with an end.
    pub content: String,
}

/// A text as lines with their ends, and without.
struct Text<'a> {
    lines: Vec<&'a str>,
    keys: Vec<&'a str>,
}

impl<'a> Text<'a> {
    fn new(reply: &'a str) -> Text<'a> {
        let lines: Vec<&str> =
            reply.strip_prefix('\u{feff}').unwrap_or(reply).split_inclusive('\n').collect();
        let keys = lines.iter().map(|line| key(line)).collect();
        Text { lines, keys }
    }

    fn content(&self, block: Block) -> String {
        self.lines[block.open + 1..block.close].concat()
    }
}

/// Reads a reply in every reasonable form of one whole file: the raw content, or a fenced block, with words and other
/// blocks around it or not. If a path stands with the block, it must be this one.
///
/// A fence is a line that begins with at least three backticks; the line that closes it begins with as many and
/// holds nothing else. Fences that are indented are content.
pub fn parse(reply: &str, shape: &ReplyShape, path: &str) -> Result<Draft> {
    let (text, file) = (Text::new(reply), Base { path, content: None });
    let content = match one(&text, shape, &file)? {
        Some(block) => text.content(block),
        None => raw(reply),
    };
    Ok(Draft { path: path.to_owned(), content })
}

/// Reads a reply that holds one fenced block for each file that changes, with the file's path in the fence's line or
/// on a line before. `files` are the paths that it may name, in plain form. No path occurs twice.
pub fn parse_files(reply: &str, files: &[String]) -> Result<Vec<Draft>> {
    let files: Vec<Base<'_>> = files.iter().map(|path| Base { path, content: None }).collect();
    let text = Text::new(reply);
    let draft = |(file, block): (usize, Block)| Draft {
        path: files[file].path.to_owned(),
        content: text.content(block),
    };
    Ok(several(&text, &files)?.into_iter().map(draft).collect())
}

/// What whole files in a reply make of the files.
pub(super) fn read(reply: &str, shape: &ReplyShape, files: &[Base<'_>]) -> Result<Vec<Change>> {
    let text = Text::new(reply);
    let contents: Vec<(usize, String)> = if shape.files.is_empty() {
        let file = files.first().ok_or(Error::NoEdit)?;
        match one(&text, shape, file)? {
            Some(block) => vec![(0, text.content(block))],
            None => {
                raw_is_file(&text, shape, file)?;
                vec![(0, raw(reply))]
            }
        }
    } else {
        several(&text, files)?.into_iter().map(|(file, block)| (file, text.content(block))).collect()
    };
    let change = |(file, content): (usize, String)| {
        let Base { path, content: old } = files[file];
        let style = Style::of(old);
        let new = style.apply(&content);
        // How a file ends is not shown, so a reply says nothing about it.
        let same = old.is_some_and(|old| style.apply(old).trim_end() == new.trim_end());
        (!same).then(|| Change { path: path.to_owned(), content: Some(new), moved_from: None })
    };
    let changes: Vec<Change> = contents.into_iter().filter_map(change).collect();
    if changes.is_empty() { Err(Error::NothingChanged) } else { Ok(changes) }
}

/// The block in which the one file stands; None if the reply is the file itself.
fn one(text: &Text<'_>, shape: &ReplyShape, file: &Base<'_>) -> Result<Option<Block>> {
    let (lines, files) = (text.keys.as_slice(), std::slice::from_ref(file));
    if lines.iter().all(|line| is_blank(line)) {
        return Err(Error::EmptyReply);
    }
    let block = if shape.language == "markdown" {
        markdown::block_of(lines, shape, file)?
    } else {
        let found = blocks(lines, FENCE)?;
        if found.is_empty() { None } else { Some(of_one(lines, &found, file)?) }
    };
    let Some(block) = block else { return Ok(None) };
    if block.is_patch(lines) && !is_patch_file(file.path) {
        return Err(no_file(block.open));
    }
    if shape.language == "markdown"
        && let Claim::Wrong(name) = claim(&[], block, lines, files)
    {
        return Err(target::wrong(&name, files));
    }
    nothing_is_left(lines, &[block], files)?;
    if block.content(lines).iter().all(|line| is_blank(line)) {
        return Err(Error::EmptyReply);
    }
    Ok(Some(block))
}

/// The block that names the one file, or else the only one of those whose fences fit it best. The others are passed
/// over, unless one of them looks like the file too.
fn of_one(lines: &[&str], found: &[Block], file: &Base<'_>) -> Result<Block> {
    let files = std::slice::from_ref(file);
    let (given, open) = claims(lines, found, files)?;
    let given: Vec<Block> = given.into_iter().map(|(_, block)| block).collect();
    let fit = |block: &&Block| fit(lines[block.open], file.path);
    let best = open.iter().map(|block| fit(&block)).max().filter(|best| *best > Fit::Commands);
    let fitting: Vec<Block> = open.iter().filter(|block| Some(fit(block)) == best).copied().collect();
    let several = |count| Error::SeveralBlocks { count };
    let block = match (given.as_slice(), fitting.as_slice()) {
        // Below a heading further up may be more than the file, such as it was before.
        ([block], _) if is_unsure(lines, found, *block, file) => {
            let same = |other: &&Block| fit(other) == fit(&block);
            match found.iter().filter(same).count() {
                1 => *block,
                count => return Err(several(count)),
            }
        }
        ([block], _) | ([], [block]) => *block,
        ([], []) => return Err(Error::NoEdit),
        ([], fitting) => return Err(several(fitting.len())),
        (given, _) => return Err(several(given.len())),
    };
    let like = |other: &&Block| is_more(lines, block, file.path, **other);
    match found.iter().filter(like).count() {
        0 => Ok(block),
        others => Err(several(others + 1)),
    }
}

/// Whether only a line further up names a file for a block which is no new version of it: it has not half of the old
/// lines, or no other.
fn is_unsure(lines: &[&str], found: &[Block], block: Block, file: &Base<'_>) -> bool {
    let outside = |at: &usize| !found.iter().any(|other| other.holds(*at));
    let before: Vec<&str> = (0..block.open).filter(outside).map(|at| lines[at]).collect();
    let old: HashSet<&str> = file.content.unwrap_or("").lines().map(str::trim).collect();
    let content = block.content(lines);
    let adds = content.iter().any(|line| !line.trim().is_empty() && !old.contains(line.trim()));
    let is_version = adds && is_like(old.iter().copied(), content);
    let files = std::slice::from_ref(file);
    file.content.is_some() && !is_version && !is_named(&before, block, lines, files, false)
}

/// The blocks of the files, each once. A block that says nothing of its file is passed over only where it can be that of
/// none which is not there yet.
fn several(text: &Text<'_>, files: &[Base<'_>]) -> Result<Vec<(usize, Block)>> {
    let lines = text.keys.as_slice();
    let found = blocks(lines, FENCE)?;
    let (given, open) = claims(lines, &found, files)?;
    nothing_is_left(lines, &found, files)?;
    for (at, (file, block)) in given.iter().enumerate() {
        if given[..at].iter().any(|(other, _)| other == file) {
            return Err(Error::SameFile { path: files[*file].path.to_owned() });
        }
        if block.is_patch(lines) && !is_patch_file(files[*file].path) {
            return Err(no_file(block.open));
        }
    }
    let is_given = |file: usize| given.iter().any(|(other, _)| *other == file);
    for block in open {
        if block.is_patch(lines) {
            return Err(no_file(block.open));
        }
        let can_be = |file: usize| fit(lines[block.open], files[file].path) >= Fit::Perhaps;
        if given.is_empty() || (0..files.len()).any(|file| !is_given(file) && can_be(file)) {
            return Err(Error::NoPath { line: block.open + 1 });
        }
        let more = |(file, draft): &&(usize, Block)| is_more(lines, *draft, files[*file].path, block);
        if let Some((file, _)) = given.iter().find(more) {
            return Err(Error::SameFile { path: files[*file].path.to_owned() });
        }
    }
    if given.is_empty() {
        return Err(Error::EmptyReply);
    }
    let is_missing = |at: usize| {
        (0..files.len()).any(|file| !is_given(file) && fit(lines[at], files[file].path) >= Fit::Perhaps)
    };
    none_is_indented(lines, &found, is_missing)?;
    Ok(given)
}

/// Refuses an indented block, such as one of a list, that `is_file` by its fence and is in no other block.
fn none_is_indented(lines: &[&str], found: &[Block], is_file: impl Fn(usize) -> bool) -> Result<()> {
    let mut at = 0;
    while at < lines.len() {
        let outside = !found.iter().any(|block| block.holds(at));
        if let Some(length) = fence_length(lines[at].trim_start()).filter(|_| outside) {
            if is_file(at) {
                let problem = "the fenced block is indented; begin it in the first column";
                return Err(Error::BadEdit { line: at + 1, problem });
            }
            at = closing(lines, at, length).unwrap_or(at);
        }
        at += 1;
    }
    Ok(())
}

/// Whether another block may be a version of a file's content, or its end: a fence without a word may be one of the file's
/// own, unless a grammar says that the file is whole.
fn is_more(lines: &[&str], file: Block, path: &str, other: Block) -> bool {
    let behind = other.open > file.open && info(lines[other.open]).is_empty() && Language::of(path).is_none();
    other.open != file.open && (behind || is_like(file.content(lines).iter().copied(), other.content(lines)))
}

/// Blocks that are a file's, and those that do not say whose they are.
type Claimed = (Vec<(usize, Block)>, Vec<Block>);

fn claims(lines: &[&str], found: &[Block], files: &[Base<'_>]) -> Result<Claimed> {
    let (mut given, mut open) = (Vec::new(), Vec::new());
    // The lines in no block since the one that was the last to be a file's.
    let (mut before, mut from): (Vec<&str>, usize) = (Vec::new(), 0);
    for block in found {
        before.extend(&lines[from..block.open]);
        from = block.close + 1;
        match claim(&before, *block, lines, files) {
            Claim::Is(file) => {
                given.push((file, *block));
                before.clear();
            }
            Claim::Wrong(name) => return Err(target::wrong(&name, files)),
            Claim::Perhaps(_) | Claim::Open => open.push(*block),
        }
    }
    Ok((given, open))
}

/// Refuses edits beside whole files.
fn nothing_is_left(lines: &[&str], found: &[Block], files: &[Base<'_>]) -> Result<()> {
    let diffs = !files.iter().any(|file| is_patch_file(file.path));
    let outside = |at: &usize| !found.iter().any(|block| block.holds(*at));
    let is_edit = |at: &usize| {
        pieces::stray(lines[*at]).is_some()
            || diffs && (unified::begins(lines, *at) || unified::is_stray(lines[*at]))
    };
    match (0..lines.len()).filter(outside).find(is_edit) {
        Some(at) => Err(Error::BadEdit {
            line: at + 1,
            problem: "some files are whole and some are edits; write all of them whole",
        }),
        None => Ok(()),
    }
}

/// The content of a file that is a reply as it is.
fn raw(reply: &str) -> String {
    let reply = reply.strip_prefix('\u{feff}').unwrap_or(reply);
    reply.trim_end_matches(['\r', '\n', ' ', '\t']).replace("\r\n", "\n") + "\n"
}

/// Refuses a patch and words in the place of a file, as far as they can be told where no grammar says that they are no
/// such file. Almost every sentence is YAML, and a word alone is a file of most languages.
fn raw_is_file(text: &Text<'_>, shape: &ReplyShape, file: &Base<'_>) -> Result<()> {
    if begins_patch(&text.keys) && !is_patch_file(file.path) {
        return Err(no_file(0));
    }
    let (lines, old, markdown) = (text.keys.as_slice(), file.content, shape.language == "markdown");
    let grammar = Language::of(file.path);
    let is_new = |line: &str| old.is_none_or(|old| !old.lines().any(|other| other == line));
    if !markdown {
        if let Some(at) = lines.iter().position(|line| !line.trim().is_empty())
            && words::is_tilde_fence(lines[at])
            && is_new(lines[at])
        {
            let problem = "the block is in a fence of tildes; write it between lines of three backticks";
            return Err(Error::BadEdit { line: at + 1, problem });
        }
        if grammar.is_none() {
            none_is_indented(lines, &[], |at| is_new(lines[at]))?;
        }
    }
    let is_prose =
        old.is_some_and(|old| is_prose(lines, old)) && (grammar.is_none() || words::are_bare(lines));
    let was_paragraph = || old.is_some_and(|old| words::are_paragraph(&old.lines().collect::<Vec<_>>()));
    let is_sentence =
        words::are_paragraph(lines) && lines.iter().all(|line| is_new(line)) && !was_paragraph();
    let is_code = !markdown && !language::of(file.path).is_empty();
    let is_around = match grammar {
        Some(grammar) => grammar == Language::Yaml && words::are_around(lines, old, is_code),
        None if markdown => markdown::is_prefaced(lines, true, old),
        None => markdown::is_prefaced(lines, false, old) || words::are_around(lines, old, is_code),
    };
    if is_prose || is_sentence || is_around { Err(Error::NoEdit) } else { Ok(()) }
}

/// Whether a reply is words beside the matter, such as a refusal: the file has several lines, and none of them is in the
/// reply. A single line, such as a version, may well change as a whole.
fn is_prose(lines: &[&str], old: &str) -> bool {
    let mut old: Vec<&str> = old.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    old.sort_unstable();
    old.dedup();
    old.len() > 1 && !lines.iter().any(|line| old.binary_search(&line.trim()).is_ok())
}

/// What is to be said of a patch in the place of a file, which begins on this line, from 0.
fn no_file(at: usize) -> Error {
    Error::BadEdit { line: at + 1, problem: "this is a patch, not the file; write the whole file" }
}

#[cfg(test)]
mod tests;
