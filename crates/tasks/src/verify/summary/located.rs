//! Diagnostics that begin with a place: gcc, clang, javac, tsc, msbuild, go build and vet, mypy, ruff, flake8 and many
//! others; and those of eslint and ruff, whose place stands below or above.

use super::marks::{Marks, Rank};

/// Lines below a diagnostic that may show its code.
const SNIPPET: usize = 30;

pub(super) fn mark(marks: &mut Marks<'_>) {
    let mut at = 0;
    // Whether the last diagnostic was an error: notes belong to it.
    let mut last: Option<Severity> = None;
    while at < marks.lines.len() {
        let line = marks.line(at);
        let mut next = at + 1;
        if let Some(found) = place(line).and_then(|place| severity(&place)) {
            let severity = if found == Severity::Note { last.unwrap_or(found) } else { found };
            last = Some(severity);
            next = at + 1 + snippet(marks, at, line);
            match severity {
                Severity::Note => marks.all(at..next, Rank::Aside),
                _ => marks.diagnostic(at..next, severity == Severity::Error),
            }
        } else if is_row(line).is_some() {
            next = marks.find(at + 1, |line| is_row(line).is_none());
            eslint(marks, at, next);
        } else if line.starts_with(|c: char| c.is_ascii_uppercase())
            && marks.line(at + 1).trim_start().starts_with("--> ")
        {
            // Ruff, as rustc writes.
            next = marks.find(at + 1, |line| line.is_empty());
            marks.diagnostic(at..next, true);
        } else if let Some(rank) = rank(line) {
            marks.set(at, rank);
        }
        at = next;
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Severity {
    Error,
    Warning,
    Note,
}

/// A place, and what stands behind it.
struct Place<'a> {
    path: &'a str,
    /// Whether line and column are given.
    exact: bool,
    says: &'a str,
}

/// Reads "path:3:5: …", "path:3: …", "path(3,5): …", "path:3:5 - …" and maven's "path:[3,5] …".
fn place(line: &str) -> Option<Place<'_>> {
    let line = ["[ERROR] ", "vet: "].iter().find_map(|start| line.strip_prefix(start)).unwrap_or(line);
    let at = line.bytes().enumerate().position(|(at, byte)| {
        let digit = |at: usize| line.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
        matches!(byte, b':' | b'(') && (digit(at + 1) || line[at + 1..].starts_with('[') && digit(at + 2))
    })?;
    let (path, rest) = line.split_at(at);
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, ':' | ',' | '(' | ')' | '[' | ']' | '-');
    let said = rest.trim_start_matches(is_number);
    let numbers = &rest[..rest.len() - said.len()];
    let says = said
        .strip_prefix(" - ")
        .or_else(|| said.strip_prefix(' ').filter(|_| numbers.ends_with([':', ']'])))?;
    let exact = numbers.trim_matches([':', '(', ')', '[', ']']).contains([':', ',']);
    let named = !path.is_empty() && path.len() < 400 && !path.contains(char::is_whitespace);
    named.then(|| Place { path, exact, says: says.trim_start() })
}

fn severity(place: &Place<'_>) -> Option<Severity> {
    let Place { path, exact, says } = place;
    let starts = |words: &[&str]| words.iter().any(|word| says.starts_with(word));
    if starts(&["error", "fatal error", "Error", "ERROR", "undefined reference", "multiple definition"]) {
        return Some(Severity::Error);
    }
    if starts(&["warning", "Warning"]) {
        return Some(Severity::Warning);
    }
    if starts(&["note:", "remark:", "info:", "help:"]) {
        return Some(Severity::Note);
    }
    // Flake8, ruff and pylint: a letter or a few, and a number.
    let code = says.split([' ', ':']).next().unwrap_or_default();
    let letters = code.bytes().take_while(u8::is_ascii_uppercase).count();
    let coded = (1..=5).contains(&letters)
        && (2..=5).contains(&(code.len() - letters))
        && code.bytes().skip(letters).all(|byte| byte.is_ascii_digit());
    // Programs log with a line, compilers know the column.
    let compiled = *exact && [".go", ".java", ".kt"].iter().any(|ending| path.ends_with(ending));
    (coded || compiled).then_some(Severity::Error)
}

/// How many lines below a diagnostic belong to it.
fn snippet(marks: &Marks<'_>, at: usize, line: &str) -> usize {
    let below = |is: &dyn Fn(usize, &str) -> bool| {
        let lines = marks.lines[at + 1..].iter().take(SNIPPET).enumerate();
        lines.take_while(|(number, line)| place(line).is_none() && is(*number, line)).count()
    };
    let indented = |line: &str| line.starts_with([' ', '\t']) && !line.trim().is_empty();
    if line.contains(" - error TS") {
        // A blank line, the code, and what is wrong in it.
        return below(&|number, line| number == 0 && line.is_empty() || number > 0 && !line.is_empty());
    }
    // The code is shown as it stands, which may be without an indent.
    let verbatim = if line.contains(".java:") { 2 } else { 0 };
    below(&|number, line| indented(line) || (number < verbatim && !line.is_empty()))
}

/// Whether a line is a row of eslint's table, and whether that is an error.
fn is_row(line: &str) -> Option<bool> {
    let text = line.strip_prefix("  ")?.trim_start();
    let (place, rest) = text.split_once(' ')?;
    let (row, column) = place.split_once(':')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let severity = rest.trim_start();
    let is = |word: &str| severity.strip_prefix(word).is_some_and(|rest| rest.starts_with(' '));
    (number(row) && number(column) && (is("error") || is("warning"))).then(|| is("error"))
}

/// The rows of one file below its name.
fn eslint(marks: &mut Marks<'_>, from: usize, to: usize) {
    let any = (from..to).any(|at| is_row(marks.line(at)) == Some(true));
    if let Some(file) = from.checked_sub(1) {
        marks.set(file, if any { Rank::Reason } else { Rank::Aside });
    }
    for at in from..to {
        let is_error = is_row(marks.line(at)) == Some(true);
        marks.set(at, if is_error { Rank::Reason } else { Rank::Aside });
    }
}

/// The counts of these tools.
fn rank(line: &str) -> Option<Rank> {
    let found = line
        .strip_prefix("Found ")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains(" error"));
    let generated = line.ends_with(" generated.") && line.starts_with(|c: char| c.is_ascii_digit());
    let problems = line.starts_with("✖ ") && line.contains(" problem");
    let javac = line.split_once(' ').is_some_and(|(number, word)| {
        number.bytes().all(|byte| byte.is_ascii_digit()) && matches!(word, "error" | "errors")
    });
    match line {
        _ if found || generated || problems || javac => Some(Rank::Total),
        _ if line.starts_with("Success: no issues found") || line == "All checks passed!" => {
            Some(Rank::Aside)
        }
        _ if line.starts_with("In file included from ") || line.starts_with("                 from ") => {
            Some(Rank::Aside)
        }
        _ => None,
    }
}
