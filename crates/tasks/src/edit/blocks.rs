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
use super::fence::is_fence;
use super::hint::{self, Hint};
use super::pieces::{Pieces, Scan};
use super::{Base, Change, target};
use crate::{Error, Result};

/// Fewer characters are no delimiter.
const LEAST: usize = 5;

struct Block<'a> {
    path: Option<String>,
    search: &'a [&'a str],
    replace: &'a [&'a str],
    /// The line of the reply it begins on, from 1.
    at: usize,
}

/// The length of the delimiters: the one that was asked for, or if no block opens with it, that of the first block.
pub(super) fn marker(lines: &[&str], asked: usize, files: &[Base<'_>]) -> usize {
    let mut lengths = lines.iter().filter_map(|line| opening(line, files)).map(|(length, _)| length);
    let first = lengths.next().unwrap_or(asked);
    if first == asked || lengths.any(|length| length == asked) { asked } else { first }
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

/// What the blocks of a reply make of the files.
pub(super) fn read(scan: &Scan<'_, '_>, pieces: &Pieces<'_>) -> Result<Vec<Change>> {
    let files = scan.files;
    let texts: Vec<Lines<'_>> =
        files.iter().map(|file| Lines::new(file.path, file.content.unwrap_or(""))).collect();
    let mut splices: Vec<Vec<Splice<'_>>> = files.iter().map(|_| Vec::new()).collect();
    let mut last = None;
    for piece in &pieces.edits {
        let block = parse(scan, piece.lines)?;
        let file = file_of(&block, &piece.before, last, files, &texts)?;
        last = Some(file);
        let again = !splices[file].is_empty();
        splices[file].push(splice(&block, &texts[file], again)?);
    }
    let edited: Vec<bool> = splices.iter().map(|splices| !splices.is_empty()).collect();
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
    pieces.leave_no_file(scan, |file| edited[file], &changes)?;
    if changes.is_empty() { Err(Error::NothingChanged) } else { Ok(changes) }
}

/// The file of a block: the one that is named or introduced, that of the block before it if no words are between them,
/// or the only one. Otherwise its lines decide; a file that is only mentioned is the one where they are missed.
fn file_of(
    block: &Block<'_>,
    before: &[&str],
    last: Option<usize>,
    files: &[Base<'_>],
    texts: &[Lines<'_>],
) -> Result<usize> {
    let stands = |file: usize| match block.search {
        [] => texts[file].is_empty(),
        _ => !standing(block, &texts[file]).0.is_empty(),
    };
    let hint = match &block.path {
        Some(path) => match target::resolve(path, files) {
            Ok(file) => return Ok(file),
            Err(_) => Hint::Foreign { name: path.clone(), wrapped: false },
        },
        None => hint::hint(before, files),
    };
    if let Hint::Foreign { name, wrapped } = &hint {
        let longer = target::longer(name, files).filter(|file| stands(*file));
        let one = || (*wrapped && files.len() == 1 && stands(0)).then_some(0);
        return longer.or_else(one).ok_or_else(|| target::wrong(name, files));
    }
    if let Hint::Named { file, .. } | Hint::Said(file) = hint {
        return Ok(file);
    }
    let told = before.iter().any(|line| !line.trim().is_empty() && !is_fence(line));
    if let Some(file) = last.filter(|_| !told).or((files.len() == 1).then_some(0)) {
        return Ok(file);
    }
    let having: Vec<usize> = (0..files.len()).filter(|file| stands(*file)).collect();
    match (having.as_slice(), hint) {
        ([file], Hint::Either(one, other)) if ![one, other].contains(file) => None,
        ([file], _) => Some(*file),
        ([], Hint::Mentioned(file)) => Some(file),
        ([], _) => last,
        _ => None,
    }
    .ok_or_else(|| {
        bad(
            block.at,
            "it is not clear which file the block is for; write the file's path on the line before it",
        )
    })
}

fn splice<'a>(block: &Block<'a>, text: &Lines<'_>, again: bool) -> Result<Splice<'a>> {
    if block.search.is_empty() {
        return match (text.is_empty(), again) {
            (true, false) => Ok(Splice { lines: 0..0, with: block.replace.to_vec(), at: block.at }),
            (true, true) => Err(bad(block.at, "a new file is given twice; give it in one block")),
            (false, _) => {
                Err(bad(block.at, "SEARCH is empty, but the file is not; copy the lines to be replaced"))
            }
        };
    }
    let (places, search, replace) = standing(block, text);
    let lines = text.only(&places, search, block.at)?;
    Ok(Splice { lines, with: replace.to_vec(), at: block.at })
}

/// The places of a block, the lines that are searched for, and those that take their place.
type Standing<'a> = (Vec<usize>, &'a [&'a str], &'a [&'a str]);

/// Where the lines of a block stand in a file, and its halves. A blank line above both of them that the file does not
/// have is none of theirs.
fn standing<'a>(block: &Block<'a>, text: &Lines<'_>) -> Standing<'a> {
    let places = text.places(block.search);
    if let ([above, search @ ..], [also, replace @ ..]) = (block.search, block.replace)
        && places.is_empty()
        && above.trim().is_empty()
        && also.trim().is_empty()
    {
        let found = text.places(search);
        if !found.is_empty() {
            return (found, search, replace);
        }
    }
    (places, block.search, block.replace)
}

/// The line behind the block that opens on line `at`.
pub(super) fn end(lines: &[&str], at: usize, marker: usize, files: &[Base<'_>]) -> Result<usize> {
    let opens = |line: &usize| opening(lines[*line], files).is_some_and(|(length, _)| length == marker);
    let next = (at + 1..lines.len()).find(opens).unwrap_or(lines.len());
    (at + 1..next)
        .find(|line| closing(lines[*line]) == Some(marker))
        .or_else(|| (at + 1..next).find(|line| closing(lines[*line]).is_some()))
        .map(|close| close + 1)
        .ok_or_else(|| bad(at + 1, "the block has no end, `>>>>>>> REPLACE`; the reply was cut off"))
}

fn parse<'a>(scan: &Scan<'_, 'a>, (open, end): (usize, usize)) -> Result<Block<'a>> {
    let (lines, close) = (scan.lines, end - 1);
    let divide = divider(lines, open, close, scan.marker)?;
    Ok(Block {
        path: opening(lines[open], scan.files).and_then(|(_, named)| named).map(str::to_owned),
        search: &lines[open + 1..divide],
        replace: &lines[divide + 1..close],
        at: open + 1,
    })
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
pub(super) fn opening<'l>(line: &'l str, files: &[Base<'_>]) -> Option<(usize, Option<&'l str>)> {
    let rest = line.trim_start_matches('<');
    let length = line.len() - rest.len();
    let rest = rest.strip_prefix(' ').unwrap_or(rest).strip_prefix("SEARCH")?;
    let named = rest.trim_start_matches(':').trim();
    let is_name = |name: &str| hint::is_path(name) || files.iter().any(|file| file.path == name);
    let fits = length >= LEAST && (named.is_empty() || rest.starts_with([' ', ':']) && is_name(named));
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

fn bad(line: usize, problem: &'static str) -> Error {
    Error::BadEdit { line, problem }
}
