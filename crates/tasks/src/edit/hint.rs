//! What the words around a piece of a reply say about its file.

use super::fence::is_fence;
use super::{Base, target};
use crate::language;

/// Which file is meant, the surest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// A fence or a line that holds nothing else has its path.
    Named {
        /// Which of the task's files.
        file: usize,
        /// It is the fence itself, or the last line before the piece.
        direct: bool,
    },
    /// The same for a path that is none of the task's.
    Foreign {
        /// The path as it stands there.
        name: String,
        /// It may be the end of a sentence that goes over several lines.
        wrapped: bool,
    },
    /// The last line introduces it, such as "And in `src/a.py`:", or a heading mentions it alone.
    Said(usize),
    /// A line further up names the first, as `Named` does, but the last line introduces the second.
    Either(usize, usize),
    /// It is the only file on the nearest line that mentions any.
    Mentioned(usize),
    /// Nothing is said.
    Nothing,
}

/// What the lines before a piece say; a fence around it is the last of them.
pub(super) fn hint(before: &[&str], files: &[Base<'_>]) -> Hint {
    let inked = |line: &str| !line.trim().is_empty() && !is_fence(line);
    let (mut said, mut nearest, mut direct) = (None, None, true);
    for at in (0..before.len()).rev() {
        let line = before[at];
        if let Some(named) = in_fence(line, files).filter(|_| is_fence(line)) {
            return named;
        }
        if !inked(line) {
            continue;
        }
        // A path further up in a list is one of several that are spoken of.
        let listed = !direct && is_item(line);
        let wrapped = at > 0 && inked(before[at - 1]);
        match alone(line, files) {
            Some(Ok(file)) if !listed => {
                let other = said.filter(|other| *other != file);
                return other.map_or(Hint::Named { file, direct }, |other| Hint::Either(file, other));
            }
            Some(Err(name)) if !listed => return Hint::Foreign { name, wrapped },
            _ => {}
        }
        let found = mentioned(line, files);
        let only = if let [file] = found.as_slice() { Some(*file) } else { None };
        if direct && introduces(line, files) {
            said = only;
        }
        if nearest.is_none() && !found.is_empty() {
            nearest = Some(only);
        }
        if line.starts_with('#') && !found.is_empty() {
            said = said.or(only);
            break;
        }
        direct = false;
    }
    let mentioned = || nearest.flatten().map(Hint::Mentioned);
    said.map(Hint::Said).or_else(mentioned).unwrap_or(Hint::Nothing)
}

/// The path in an opening fence: behind the language, or in its place.
pub(super) fn in_fence(line: &str, files: &[Base<'_>]) -> Option<Hint> {
    let info = line.trim_start().trim_start_matches('`').trim();
    let exact = |name: &str| files.iter().position(|file| file.path == name);
    let behind = || info.split_once([' ', ':']).and_then(|(_, rest)| exact(rest.trim()));
    let named = |file| Hint::Named { file, direct: true };
    if let Some(file) = exact(info).or_else(behind) {
        return Some(named(file));
    }
    let words = info.split([' ', ':', '=']).map(|word| word.trim_matches(['"', '\'', '{', '}', '(', ')']));
    let path = words.filter(|word| is_path(word) || exact(word).is_some()).map(str::to_owned).next()?;
    let foreign = |_| Hint::Foreign { name: path.clone(), wrapped: false };
    Some(target::resolve(&path, files).map_or_else(foreign, named))
}

/// The file that the first line of a content names in a comment, as the prompt's example does.
pub(super) fn in_comment(content: &[&str], files: &[Base<'_>]) -> Option<usize> {
    let line = content.iter().map(|line| line.trim()).find(|line| !line.is_empty())?;
    let marks = ["#", "//", "--", "<!--", "/*", ";", "%"];
    alone(line, files).filter(|_| marks.iter().any(|mark| line.starts_with(mark)))?.ok()
}

/// The path on a line that holds nothing else but marks, a word such as "File:" and a remark in brackets: one of the
/// files, or a name that is none's.
pub(super) fn alone(line: &str, files: &[Base<'_>]) -> Option<Result<usize, String>> {
    let exact = |name: &str| files.iter().position(|file| file.path == name);
    if let Some(file) = exact(line.trim()) {
        return Some(Ok(file));
    }
    let marks = [' ', '*', '`', ':'];
    let line = line.trim_start_matches(['#', '*', '-', '>', '<', '!', ' ', '\t']);
    let line = ["// ", "/* "].iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line);
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = rest.strip_prefix(['.', ')']).filter(|_| rest.len() < line.len());
    let line = numbered.unwrap_or(line).trim().trim_start_matches(marks);
    let words = ["File:", "file:", "Path:", "path:", "Filename:"];
    let line = words.iter().find_map(|word| line.strip_prefix(word)).unwrap_or(line);
    let line = line.trim_end_matches(['-', '>', '/', ' ']).trim_matches(marks);
    let name = without_remark(line).trim_matches(marks);
    match target::resolve(name, files) {
        Ok(file) if exact(name).is_some() || !name.contains(char::is_whitespace) => Some(Ok(file)),
        _ => (is_path(name) && !PRODUCTS.contains(&name)).then(|| Err(name.to_owned())),
    }
}

/// What headings name that looks like a file and is none.
const PRODUCTS: [&str; 10] = [
    "Node.js",
    "Next.js",
    "Vue.js",
    "React.js",
    "Nuxt.js",
    "Three.js",
    "Express.js",
    "D3.js",
    "Chart.js",
    "Discord.js",
];

/// Whether a word is a path beyond doubt, whoever's it is: it has an ending of letters and digits, and no blanks.
pub(super) fn is_path(word: &str) -> bool {
    let Some((stem, ending)) = word.rsplit_once('.') else { return false };
    let plain = (1..=10).contains(&ending.len()) && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let known = !language::of(word).is_empty() || word.contains('/');
    plain && known && !stem.is_empty() && !word.contains(char::is_whitespace)
}

/// Whether a line is one of a list.
fn is_item(line: &str) -> bool {
    let line = line.trim_start();
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    ["- ", "* ", "+ "].iter().any(|mark| line.starts_with(mark))
        || rest.len() < line.len() && rest.starts_with(['.', ')'])
}

/// Whether a line ends with a file that it names for what follows: "And in `src/a.py`:", but no statement about it.
pub(super) fn introduces(line: &str, files: &[Base<'_>]) -> bool {
    let line = without_remark(line.trim_end().trim_end_matches([':', '*'])).trim_end();
    !line.ends_with(['.', '!', '?', ',', ';'])
        && words(line).filter(|word| !word.is_empty()).last().is_some_and(|word| named(word, files).is_some())
}

/// A line without the brackets at its end: "`src/a.py` (new)".
pub(super) fn without_remark(line: &str) -> &str {
    let remark = line.rfind(" (").filter(|_| line.ends_with(')'));
    &line[..remark.unwrap_or(line.len())]
}

/// The files that a sentence names, each once.
fn mentioned(line: &str, files: &[Base<'_>]) -> Vec<usize> {
    let mut found: Vec<usize> = words(line).filter_map(|word| named(word, files)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| c.is_whitespace() || matches!(c, '`' | '"' | '\'' | '*' | ',' | ';')).map(|word| {
        word.trim_start_matches(['(', '[', '<']).trim_end_matches([')', ']', '>', ':', '.', '!', '?'])
    })
}

/// The file that a word of a sentence is the path of.
fn named(word: &str, files: &[Base<'_>]) -> Option<usize> {
    let exact = files.iter().position(|file| file.path == word);
    exact.or_else(|| target::resolve(word, files).ok().filter(|_| is_path(word)))
}
