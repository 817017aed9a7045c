//! What of a long output is worth reading: what failed, why, and the count at the end (S1-48).
//!
//! Each tool has a function that marks the lines it knows by their form alone, since a command such as `make test` does
//! not tell which tools it calls. A line that no tool knows may say anything: it is left out only after what is known
//! to be noise and warnings, and where no line is known, the beginning and the end are kept. All functions look at each
//! line a bounded number of times, and none has a regular expression, because the output is hostile.

mod build;
mod go;
mod javascript;
mod located;
mod marks;
mod python;
mod rust;

use marks::Marks;

/// The tools; another one is one more function.
const TOOLS: [fn(&mut Marks<'_>); 9] = [
    rust::tests,
    rust::diagnostics,
    python::pytest,
    python::unittest,
    javascript::mark,
    go::mark,
    located::mark,
    build::java_and_dotnet,
    build::make_and_ruby,
];

/// The line that stands for lines left out, also before they came here.
const GAP: &str = "[…]";

/// The longest line that a summary shows whole, in bytes.
const LINE: usize = 1000;

/// The least budget for which lines are chosen.
const LEAST: usize = 512;

/// At most `budget` bytes of these lines, which are some of `total`, and how many of them that is. None if no tool
/// knows any of the lines.
pub(super) fn summary(text: &str, total: usize, budget: usize) -> Option<(String, usize)> {
    if budget < LEAST {
        return None;
    }
    let most = LINE.min(budget / 2);
    let clipped: Vec<String> = text.lines().map(|line| shown(line, most)).collect();
    let lines: Vec<&str> = clipped.iter().map(String::as_str).collect();
    let mut marks = Marks::new(&lines);
    TOOLS.iter().for_each(|tool| tool(&mut marks));
    marks.any().then(|| marks.render(total, budget))
}

/// A line that is not longer than is bearable.
fn shown(line: &str, most: usize) -> String {
    let line = line.trim_end();
    if line.len() <= most {
        return line.to_owned();
    }
    format!("{} […] {}", beginning(line, most * 3 / 4), end(line, most / 5))
}

/// At most so many bytes from the beginning of a text.
pub(super) fn beginning(text: &str, bytes: usize) -> &str {
    let at = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..at.unwrap_or(0)]
}

/// At most so many bytes from the end of a text.
pub(super) fn end(text: &str, bytes: usize) -> &str {
    let at = (text.len().saturating_sub(bytes)..text.len()).find(|at| text.is_char_boundary(*at));
    &text[at.unwrap_or(text.len())..]
}

#[cfg(test)]
mod tests;
