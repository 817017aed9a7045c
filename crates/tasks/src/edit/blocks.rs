//! Search/replace blocks:
//!
//! ```text
//! src/a.py                 (may be left out if there is one file)
//! <<<<<<< SEARCH
//! lines of the file
//! =======
//! lines that take their place
//! >>>>>>> REPLACE
//! ```

use super::apply::{Lines, Splice};
use super::{Base, Change, target, whole};
use crate::{Error, Result, language};

/// Fewer characters are no delimiter.
const LEAST: usize = 5;

struct Block<'a> {
    path: Option<String>,
    /// Words stand before it.
    told: bool,
    search: &'a [&'a str],
    replace: &'a [&'a str],
    /// The line of the reply it begins on, from 1.
    at: usize,
}

/// Whether a line opens a block.
pub(super) fn begins(lines: &[&str]) -> bool {
    lines.iter().any(|line| opening(line).is_some())
}

/// Whether a line outside of blocks is a piece of one that is malformed: it is indented, longer or shorter than the
/// others, or has other words. Passed over as prose, it would leave an edit half done.
pub(super) fn is_stray(line: &str) -> bool {
    let line = line.trim();
    let Some(first) = line.chars().next().filter(char::is_ascii_punctuation) else { return false };
    let rest = line.trim_start_matches(first);
    let word = rest.trim_start();
    line.len() - rest.len() >= LEAST
        && (matches!(first, '<' | '>') || word.starts_with("SEARCH") || word.starts_with("REPLACE"))
}

/// What the blocks of a reply make of the files. `marker` is the length of the delimiters that was asked for; if no
/// block opens with it, that of the first block counts.
pub(super) fn read(lines: &[&str], marker: usize, files: &[Base<'_>]) -> Result<Vec<Change>> {
    let lengths = || lines.iter().filter_map(|line| opening(line)).map(|(length, _)| length);
    let marker =
        if lengths().any(|length| length == marker) { marker } else { lengths().next().unwrap_or(marker) };
    let (blocks, fenced) = parse(lines, marker, files)?;
    let texts: Vec<Lines<'_>> =
        files.iter().map(|file| Lines::new(file.path, file.content.unwrap_or(""))).collect();
    let mut splices: Vec<Vec<Splice<'_>>> = files.iter().map(|_| Vec::new()).collect();
    let mut last = None;
    for block in &blocks {
        let file = file_of(block, last, files, &texts)?;
        last = Some(file);
        let again = !splices[file].is_empty();
        splices[file].push(splice(block, &texts[file], again)?);
    }
    if let Some((at, _)) = fenced.iter().find(|(_, file)| splices[*file].is_empty()) {
        return Err(bad(
            *at,
            "the file is in a fenced block, others are in edits; write all of them as edits",
        ));
    }
    let mut changes = Vec::new();
    for ((file, text), splices) in files.iter().zip(&texts).zip(splices) {
        if splices.is_empty() {
            continue;
        }
        let content = text.splice(splices)?;
        if file.content != Some(content.as_str()) {
            changes.push(Change { path: file.path.to_owned(), content: Some(content), moved_from: None });
        }
    }
    if changes.is_empty() { Err(Error::NothingChanged) } else { Ok(changes) }
}

/// The file of a block: the one that it names; the only one; that of the block before it, if no words between them
/// may have named another; or the only one in which its lines stand.
fn file_of(block: &Block<'_>, last: Option<usize>, files: &[Base<'_>], texts: &[Lines<'_>]) -> Result<usize> {
    if let Some(path) = &block.path {
        return target::resolve(path, files);
    }
    if let Some(file) = last.filter(|_| !block.told).or((files.len() == 1).then_some(0)) {
        return Ok(file);
    }
    let standing: Vec<usize> =
        (0..texts.len()).filter(|at| !texts[*at].places(block.search).is_empty()).collect();
    match (standing.as_slice(), last) {
        ([file], _) => Ok(*file),
        ([], Some(last)) => Ok(last),
        _ => Err(bad(
            block.at,
            "it is not clear which file the block is for; write the file's path on the line before it",
        )),
    }
}

fn splice<'a>(block: &Block<'a>, text: &Lines<'_>, again: bool) -> Result<Splice<'a>> {
    let with = block.replace.to_vec();
    if block.search.is_empty() {
        return match (text.is_empty(), again) {
            (true, false) => Ok(Splice { lines: 0..0, with, at: block.at }),
            (true, true) => Err(bad(block.at, "a new file is given twice; give it in one block")),
            (false, _) => {
                Err(bad(block.at, "SEARCH is empty, but the file is not; copy the lines to be replaced"))
            }
        };
    }
    let lines = text.only(&text.places(block.search), block.search, block.at)?;
    Ok(Splice { lines, with, at: block.at })
}

/// The blocks, and the files that stand in fences instead, each with its line from 1.
type Parsed<'a> = (Vec<Block<'a>>, Vec<(usize, usize)>);

fn parse<'a>(lines: &'a [&'a str], marker: usize, files: &[Base<'_>]) -> Result<Parsed<'a>> {
    let opens = |at: usize| opening(lines[at]).filter(|(length, _)| *length == marker);
    let (mut blocks, mut fenced) = (Vec::new(), Vec::new());
    let (mut at, mut prose, mut in_fence) = (0, 0, false);
    while at < lines.len() {
        let Some((_, named)) = opens(at) else {
            if is_stray(lines[at]) {
                return Err(bad(
                    at + 1,
                    "a delimiter that belongs to no block; write it as in the example, from the first column on",
                ));
            }
            if is_fence(lines[at]) {
                in_fence = !in_fence;
                let file = in_fence.then(|| fenced_file(&lines[prose..], at - prose, files)).flatten();
                fenced.extend(file.map(|file| (at + 1, file)));
            }
            at += 1;
            continue;
        };
        let next = (at + 1..lines.len()).find(|next| opens(*next).is_some()).unwrap_or(lines.len());
        let close = (at + 1..next)
            .find(|line| closing(lines[*line]) == Some(marker))
            .or_else(|| (at + 1..next).find(|line| closing(lines[*line]).is_some()))
            .ok_or_else(|| bad(at + 1, "the block has no end, `>>>>>>> REPLACE`; the reply was cut off"))?;
        let divide = divider(lines, at, close, marker)?;
        let before = &lines[prose..at];
        let path = named.map(str::to_owned).or_else(|| path_before(before, files));
        blocks.push(Block {
            path,
            told: words(before).next().is_some(),
            search: &lines[at + 1..divide],
            replace: &lines[divide + 1..close],
            at: at + 1,
        });
        at = close + 1;
        prose = at;
    }
    Ok((blocks, fenced))
}

/// The file whose content, or a part of it, begins after the fence on line `at`. Commands are none.
fn fenced_file(prose: &[&str], at: usize, files: &[Base<'_>]) -> Option<usize> {
    let next = prose[at + 1..].iter().find(|line| !line.trim().is_empty())?;
    let commands = matches!(whole::info(prose[at]).as_str(), "sh" | "bash" | "shell" | "console");
    let path = path_before(&prose[..=at], files)?;
    let holds = opening(next).is_none() && (!commands || language::of(&path) == "bash");
    target::resolve(&path, files).ok().filter(|_| holds)
}

/// The line between the two halves of the block from `open` to `close`. Two of them could be read in two ways.
fn divider(lines: &[&str], open: usize, close: usize, marker: usize) -> Result<usize> {
    let found = |exact: bool| -> Vec<usize> {
        (open + 1..close)
            .filter(|line| dividing(lines[*line]).is_some_and(|length| length == marker || !exact))
            .collect()
    };
    let exact = found(true);
    match if exact.is_empty() { found(false) } else { exact }.as_slice() {
        [line] => Ok(*line),
        [] => Err(bad(open + 1, "the block has no line `=======` between its halves; write it")),
        _ => Err(bad(open + 1, "the block has several lines `=======`; use longer delimiters for it")),
    }
}

/// The length of an opening delimiter, and the path that may stand on it.
fn opening(line: &str) -> Option<(usize, Option<&str>)> {
    let rest = line.trim_start_matches('<');
    let length = line.len() - rest.len();
    let rest = rest.strip_prefix(' ').unwrap_or(rest).strip_prefix("SEARCH")?;
    let named = rest.trim_start_matches(':').trim();
    let fits = length >= LEAST
        && (named.is_empty() || rest.starts_with([' ', ':']) && whole::path_like(named).is_some());
    fits.then_some((length, Some(named).filter(|named| !named.is_empty())))
}

fn dividing(line: &str) -> Option<usize> {
    let length = line.len() - line.trim_start_matches('=').len();
    (length >= LEAST && line[length..].trim().is_empty()).then_some(length)
}

fn closing(line: &str) -> Option<usize> {
    let rest = line.trim_start_matches('>');
    let length = line.len() - rest.len();
    (length >= LEAST && rest.trim() == "REPLACE").then_some(length)
}

/// The path in a fence around a block, or alone on the last line of the words before it, or else the only one of the
/// files that is mentioned on the nearest of their lines that mentions any.
fn path_before(prose: &[&str], files: &[Base<'_>]) -> Option<String> {
    let mut fences =
        prose.iter().rev().filter(|line| !line.trim().is_empty()).take_while(|line| is_fence(line));
    if let Some(path) = fences.find_map(|line| whole::path_in_fence(line)) {
        return Some(path);
    }
    let last = words(prose).next()?;
    let known = files.iter().find(|file| file.path == last.trim()).map(|file| file.path.to_owned());
    known.or_else(|| whole::path_in_line(last)).or_else(|| {
        let nearest = words(prose).map(|line| mentioned(line, files)).find(|found| !found.is_empty())?;
        match nearest.as_slice() {
            [file] => Some(files[*file].path.to_owned()),
            _ => None,
        }
    })
}

/// The lines of a text that are neither blank nor fences, the last one first.
fn words<'a>(prose: &[&'a str]) -> impl Iterator<Item = &'a str> {
    prose.iter().rev().copied().filter(|line| !line.trim().is_empty() && !is_fence(line))
}

fn is_fence(line: &str) -> bool {
    line.starts_with("```")
}

/// The files that a sentence names, each once.
fn mentioned(line: &str, files: &[Base<'_>]) -> Vec<usize> {
    let words = line.split(|c: char| c.is_whitespace() || matches!(c, '`' | '"' | '\'' | '*' | ',' | ';'));
    let named = |word: &str| {
        let word =
            word.trim_start_matches(['(', '[', '<']).trim_end_matches([')', ']', '>', ':', '.', '!', '?']);
        let same = files.iter().position(|file| file.path == word);
        same.or_else(|| target::resolve(&whole::path_like(word)?, files).ok())
    };
    let mut found: Vec<usize> = words.filter_map(named).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn bad(line: usize, problem: &'static str) -> Error {
    Error::BadEdit { line, problem }
}
