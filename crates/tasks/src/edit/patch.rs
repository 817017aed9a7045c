//! A patch envelope:
//!
//! ```text
//! *** Begin Patch
//! *** Update File: src/a.py
//! @@ def add(a, b):
//!      # context
//! -    return a - b
//! +    return a + b
//! *** Add File: src/b.py
//! +x = 1
//! *** Delete File: src/c.py
//! *** End Patch
//! ```
//!
//! A hunk's place is where its context and removed lines stand; the text after `@@` is a line above it, which chooses
//! among several places and rules out those above it. Line numbers there are ignored: models cannot count.

use super::apply::{Lines, Splice};
use super::{Base, Change, target};
use crate::{Error, Result};

const BEGIN: &str = "*** Begin Patch";
const END: &str = "*** End Patch";
const END_OF_FILE: &str = "*** End of File";

/// A Lark grammar for llguidance of patches that have this form. That their hunks fit the files it cannot promise:
/// search/replace blocks can.
pub fn lark(files: &[Base<'_>]) -> String {
    const ANY: &str = r"[^\x00-\x08\x0A-\x1F\x7F-\u{9F}]";
    let quoted = |text: String| serde_json::Value::String(text).to_string();
    let lines = |head: &str, new: bool| -> String {
        let wanted = files.iter().filter(|file| file.content.is_none_or(str::is_empty) == new);
        let each: Vec<String> = wanted.map(|file| quoted(format!("{head} {}\n", file.path))).collect();
        each.join(" | ")
    };
    let (updated, added) = (lines("*** Update File:", false), lines("*** Add File:", true));
    let mut sections = Vec::new();
    let mut rules = String::new();
    for (name, heads, body) in [("UPDATED", updated, "hunk+"), ("ADDED", added, "PLUS+")] {
        if !heads.is_empty() {
            sections.push(format!("{name} {body}"));
            rules += &format!("{name}: {heads}\n");
        }
    }
    format!(
        "start: \"*** Begin Patch\\n\" section+ \"*** End Patch\"\n\
         section: {}\n\
         {rules}\
         hunk: HEAD LINE+\n\
         HEAD: /@@( {ANY}*)?\\n/\n\
         LINE: /[ +\\-]{ANY}*\\n/\n\
         PLUS: /\\+{ANY}*\\n/\n",
        sections.join(" | ")
    )
}

/// What becomes of one file.
pub(super) struct Section<'a> {
    pub(super) file: usize,
    pub(super) action: Action,
    /// `*** Move to:`, the file that takes the place of this one.
    pub(super) moved: Option<usize>,
    pub(super) hunks: Vec<Hunk<'a>>,
    /// The line of the reply it begins on, from 1.
    pub(super) at: usize,
}

impl Section<'_> {
    /// Whether it changes this file.
    pub(super) fn is_of(&self, file: usize) -> bool {
        self.file == file || self.moved == Some(file)
    }

    /// Whether its lines take the place of none.
    pub(super) fn only_adds(&self) -> bool {
        self.hunks.iter().flat_map(|hunk| &hunk.lines).all(|(sign, _)| *sign == b'+')
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Action {
    Update,
    Add,
    Delete,
}

#[derive(Default)]
pub(super) struct Hunk<'a> {
    /// Lines of the file above the hunk, each further down than the one before, such as a class and its method.
    headers: Vec<&'a str>,
    /// Each with its sign: ' ', '-' or '+'.
    lines: Vec<(u8, &'a str)>,
    /// The last of them stands behind line numbers. Then it is the function around the hunk, which may begin further up.
    numbered: bool,
    /// The hunk reaches to the end of the file.
    at_end: bool,
    at: usize,
}

/// Whether a line opens an envelope.
pub(super) fn opens(line: &str) -> bool {
    line.trim_end() == BEGIN
}

/// Whether a line that is in no envelope is a piece of one, which would be lost.
pub(super) fn is_stray(line: &str) -> bool {
    line.trim() == BEGIN || file_line(line.trim_start()).is_some()
}

/// Whether an envelope is one of files of the task, or names none.
pub(super) fn is_of(lines: &[&str], files: &[Base<'_>]) -> bool {
    let mut names = lines.iter().filter_map(|line| file_line(line)).peekable();
    names.peek().is_none() || names.any(|(_, name)| target::resolve(name, files).is_ok())
}

/// Adds a section to others. Some models name a file before each of its hunks, so one more of the same goes on with it.
pub(super) fn add<'a>(sections: &mut Vec<Section<'a>>, mut section: Section<'a>) {
    let goes_on = section.action == Action::Update && section.moved.is_none();
    let same = |other: &&mut Section<'a>| other.file == section.file && other.action == Action::Update;
    match sections.iter_mut().find(same).filter(|_| goes_on) {
        Some(other) => other.hunks.append(&mut section.hunks),
        None => sections.push(section),
    }
}

/// The line behind the envelope that begins on line `at`.
pub(super) fn end(lines: &[&str], at: usize) -> Result<usize> {
    let close = (at + 1..lines.len()).find(|line| lines[*line].trim_end() == END);
    close
        .map(|close| close + 1)
        .ok_or_else(|| bad(at + 1, "the patch has no `*** End Patch`; the reply was cut off"))
}

/// What the sections of a patch make of the files.
pub(super) fn apply(sections: &[Section<'_>], files: &[Base<'_>]) -> Result<Vec<Change>> {
    let mut contents: Vec<Option<Option<String>>> = vec![None; files.len()];
    let mut origins: Vec<Option<&str>> = vec![None; files.len()];
    for section in sections {
        let base = files[section.file].content;
        if contents[section.file].is_some() || section.moved.is_some_and(|to| contents[to].is_some()) {
            return Err(bad(section.at, "a file has two sections; make them one"));
        }
        let content = match (section.action, base) {
            (Action::Add, None | Some("")) => Some(added(section)?),
            (Action::Add, Some(_)) => return Err(bad(section.at, "the file exists already; update it")),
            (_, None) => {
                return Err(bad(section.at, "the file does not exist; add it, with every line after `+`"));
            }
            (Action::Delete, Some(text)) if !section.hunks.is_empty() => {
                if !updated(section, files[section.file].path, text)?.trim().is_empty() {
                    return Err(bad(
                        section.at,
                        "the file is deleted, but not with all of its lines; remove them",
                    ));
                }
                None
            }
            (Action::Delete, Some(_)) => None,
            (Action::Update, Some(text)) => Some(updated(section, files[section.file].path, text)?),
        };
        match section.moved {
            Some(to) if files[to].content.is_some() => {
                return Err(bad(section.at, "the file to move to exists already; choose another name"));
            }
            Some(to) => {
                contents[section.file] = Some(None);
                contents[to] = Some(content);
                origins[to] = Some(files[section.file].path);
            }
            None => contents[section.file] = Some(content),
        }
    }
    let changes: Vec<Change> = files
        .iter()
        .zip(contents.into_iter().zip(origins))
        .filter_map(|(file, (content, origin))| Some((file, content?, origin)))
        .filter(|(file, content, _)| file.content != content.as_deref())
        .map(|(file, content, origin)| Change {
            path: file.path.to_owned(),
            content,
            moved_from: origin.map(str::to_owned),
        })
        .collect();
    if changes.is_empty() { Err(Error::NothingChanged) } else { Ok(changes) }
}

/// The sections of the envelope whose lines these are, the first of which is line `at` of the reply, from 0.
pub(super) fn parse<'a>(lines: &[&'a str], at: usize, files: &[Base<'_>]) -> Result<Vec<Section<'a>>> {
    let mut sections: Vec<Section<'a>> = Vec::new();
    let inside = lines.iter().enumerate().skip(1).take(lines.len().saturating_sub(2));
    for (line, text) in inside {
        let at = at + line + 1;
        if let Some((action, name)) = file_line(text) {
            let file = target::resolve(name, files)?;
            sections.push(Section { file, action, moved: None, hunks: Vec::new(), at });
            continue;
        }
        match sections.last_mut() {
            Some(section) => body_line(section, text, at, files)?,
            None if text.trim().is_empty() => {}
            None => {
                return Err(bad(
                    at,
                    "the patch begins with no `*** Update File:`, `*** Add File:` or `*** Delete File:`",
                ));
            }
        }
    }
    Ok(sections)
}

/// Adds a line below the name of a file to its section. `at` is the line of the reply, from 1.
pub(super) fn body_line<'a>(
    section: &mut Section<'a>,
    line: &'a str,
    at: usize,
    files: &[Base<'_>],
) -> Result<()> {
    if let Some(name) = line.strip_prefix("*** Move to:") {
        section.moved = Some(target::resolve(name, files)?);
        return Ok(());
    }
    if let Some(header) = line.strip_prefix("@@") {
        // "@@ -1,2 +1,3 @@ fn main" has the header after the second pair.
        let (above, header) = header.rsplit_once("@@").unwrap_or(("", header));
        let (numbered, header) = (above.trim_start().starts_with('-'), header.trim());
        let numbers = header.starts_with('-') && header.contains(" +");
        let header = Some(header).filter(|header| !numbers && !header.is_empty());
        let open = |hunk: &&mut Hunk<'_>| !hunk.headers.is_empty() && hunk.lines.is_empty() && !hunk.at_end;
        match section.hunks.last_mut().filter(open) {
            Some(hunk) => {
                hunk.headers.extend(header);
                hunk.numbered |= numbered;
            }
            None => {
                let headers = header.into_iter().collect();
                section.hunks.push(Hunk { headers, numbered, at, ..Hunk::default() });
            }
        }
        return Ok(());
    }
    if section.hunks.is_empty() {
        if line.trim().is_empty() {
            return Ok(());
        }
        section.hunks.push(Hunk { at, ..Hunk::default() });
    }
    let Some(hunk) = section.hunks.last_mut() else { return Ok(()) };
    if line.trim_end() == END_OF_FILE {
        hunk.at_end = true;
        return Ok(());
    }
    match line.as_bytes().first() {
        Some(sign @ (b' ' | b'-' | b'+')) => hunk.lines.push((*sign, &line[1..])),
        // An empty line of context often loses its blank.
        None => hunk.lines.push((b' ', "")),
        // "\ No newline at end of file" says what the file itself says better.
        Some(b'\\') => {}
        Some(_) => return Err(bad(at, "a line of a patch begins with ` `, `-` or `+`; this one does not")),
    }
    Ok(())
}

fn file_line(line: &str) -> Option<(Action, &str)> {
    [
        ("*** Update File:", Action::Update),
        ("*** Add File:", Action::Add),
        ("*** Delete File:", Action::Delete),
    ]
    .into_iter()
    .find_map(|(head, action)| Some((action, line.strip_prefix(head)?)))
}

/// The content of a new file.
fn added(section: &Section<'_>) -> Result<String> {
    let mut content = String::new();
    let mut lines: Vec<_> = section.hunks.iter().flat_map(|hunk| &hunk.lines).collect();
    // Blank lines between two sections are the envelope's.
    while lines.last().is_some_and(|line| **line == (b' ', "")) {
        lines.pop();
    }
    for (sign, line) in lines {
        if !(*sign == b'+' || *sign == b' ' && line.is_empty()) {
            return Err(bad(section.at, "every line of a new file begins with `+`"));
        }
        content.push_str(line);
        content.push('\n');
    }
    if content.trim().is_empty() {
        Err(bad(section.at, "the new file is empty; write its lines"))
    } else {
        Ok(content)
    }
}

fn updated(section: &Section<'_>, path: &str, text: &str) -> Result<String> {
    let lines = Lines::new(path, text);
    let mut splices = Vec::new();
    for hunk in &section.hunks {
        let mut hunk_lines = hunk.lines.as_slice();
        let changes = |lines: &[(u8, &str)]| lines.iter().any(|(sign, _)| *sign != b' ');
        if !changes(hunk_lines) {
            continue;
        }
        let mut place = place(hunk, hunk_lines, &lines);
        // A blank line after a hunk may be the envelope's instead of the file's.
        while place.is_err() && hunk_lines.last() == Some(&(b' ', "")) {
            hunk_lines = &hunk_lines[..hunk_lines.len() - 1];
            place = self::place(hunk, hunk_lines, &lines);
        }
        splices.extend(groups(hunk_lines, place?, hunk.at));
    }
    if splices.is_empty() && section.moved.is_none() {
        return Err(Error::NothingChanged);
    }
    lines.splice(splices)
}

/// Where a hunk's first line stands, from 0.
fn place(hunk: &Hunk<'_>, hunk_lines: &[(u8, &str)], lines: &Lines<'_>) -> Result<usize> {
    let old: Vec<&str> = hunk_lines.iter().filter(|(sign, _)| *sign != b'+').map(|(_, line)| *line).collect();
    let headers = headers(hunk, lines);
    if old.is_empty() {
        return match (headers.as_slice(), hunk.at_end || lines.is_empty()) {
            ([], true) => Ok(lines.len()),
            (places @ [_, ..], false) if !hunk.numbered => {
                lines.only(places, &hunk.headers[..1], hunk.at).map(|header| header.end)
            }
            _ => {
                Err(bad(hunk.at, "the hunk has no context, so its place is unknown; add the lines around it"))
            }
        };
    }
    let mut places = lines.places(&old);
    if hunk.at_end && places.len() > 1 {
        places.retain(|place| place + old.len() == lines.len());
    }
    // A header is a line above the hunk, or one of its own.
    if let (Some(first), false) = (headers.first(), places.is_empty()) {
        places.retain(|place| place + old.len() > *first);
        if places.is_empty() {
            return Err(bad(
                hunk.at,
                "its lines stand only above the line after `@@`; name a line above them",
            ));
        }
    }
    if let ([header], true) = (headers.as_slice(), places.len() > 1) {
        places.retain(|place| place >= header);
    }
    lines.only(&places, &old, hunk.at).map(|range| range.start)
}

/// The lines of the file that the texts after `@@` can mean, as whole lines or as their beginnings; none where they
/// stand nowhere, for the context alone may decide.
fn headers(hunk: &Hunk<'_>, lines: &Lines<'_>) -> Vec<usize> {
    let mut found: Vec<usize> = Vec::new();
    for header in &hunk.headers {
        let from = found.first().map_or(0, |above| above + 1);
        let standing = |same: &dyn Fn(&str) -> bool| -> Vec<usize> {
            (from..lines.len()).filter(|at| same(lines.keys()[*at].trim())).collect()
        };
        let in_word = |rest: &str| rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let mut here = standing(&|line| line == *header);
        if here.is_empty() {
            here = standing(&|line| line.strip_prefix(header).is_some_and(|rest| !in_word(rest)));
        }
        if found.len() == 1 {
            here.truncate(1);
        }
        if !here.is_empty() {
            found = here;
        }
    }
    found
}

/// The runs of removed and added lines of a hunk that stands at `place`; its context is not touched.
fn groups<'a>(hunk: &[(u8, &'a str)], place: usize, at: usize) -> Vec<Splice<'a>> {
    let mut splices: Vec<Splice<'a>> = Vec::new();
    let mut line = place;
    let mut open = false;
    for (sign, text) in hunk {
        if *sign == b' ' {
            line += 1;
            open = false;
            continue;
        }
        if !open {
            splices.push(Splice { lines: line..line, with: Vec::new(), at });
            open = true;
        }
        let Some(splice) = splices.last_mut() else { continue };
        match sign {
            b'-' => {
                line += 1;
                splice.lines.end = line;
            }
            _ => splice.with.push(text),
        }
    }
    splices
}

fn bad(line: usize, problem: &'static str) -> Error {
    Error::BadEdit { line, problem }
}
