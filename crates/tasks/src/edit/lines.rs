//! Lines: how a file ends its own, and code put between them.

use crate::{Error, Result};

/// How a file writes its lines, so that an edit keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Lines end with CR LF.
    pub crlf: bool,
    /// The last line has an end.
    pub final_newline: bool,
    /// The file begins with a byte order mark.
    pub mark: bool,
}

impl Style {
    /// The style of a file; a new or empty one has LF and a final newline. A file that mixes line ends
    /// has the style of most of its lines.
    pub fn of(old: Option<&str>) -> Style {
        let Some(old) = old.filter(|old| !old.is_empty()) else {
            return Style { crlf: false, final_newline: true, mark: false };
        };
        let ends = old.matches('\n').count();
        let crlf = old.matches("\r\n").count();
        Style {
            crlf: crlf * 2 > ends,
            final_newline: old.ends_with('\n') || ends == 0 && old.trim().is_empty(),
            mark: old.starts_with('\u{feff}'),
        }
    }

    /// The same text in this style.
    pub fn apply(self, text: &str) -> String {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
        let mut text = match (self.final_newline, text.ends_with('\n')) {
            (true, false) => text + "\n",
            (false, true) => text.trim_end_matches('\n').to_owned(),
            _ => text,
        };
        if self.crlf {
            text = text.replace('\n', "\r\n");
        }
        if self.mark { format!("\u{feff}{text}") } else { text }
    }
}

/// A line without its end. Carriage returns before it belong to it, so that a line is the same whatever its ends.
pub(super) fn key(line: &str) -> &str {
    line.strip_suffix('\n').unwrap_or(line).trim_end_matches('\r')
}

/// Puts code into a file such that its first line becomes line `line`, 1-based. One past the last line
/// appends. The lines around it keep their bytes, and the code takes the file's line ends.
pub fn insert(old: &str, code: &str, line: usize) -> Result<String> {
    let style = Style::of(Some(old));
    let (mark, body) = old.split_at(if style.mark { '\u{feff}'.len_utf8() } else { 0 });
    let lines: Vec<&str> = body.split_inclusive('\n').collect();
    if line == 0 || line > lines.len() + 1 {
        return Err(Error::NoSuchLine { line, lines: lines.len() });
    }
    let end = if style.crlf { "\r\n" } else { "\n" };
    let code = Style { final_newline: true, mark: false, ..style }.apply(code);
    let (before, after) = lines.split_at(line - 1);
    let mut made = format!("{mark}{}", before.concat());
    let open = before.last().is_some_and(|last| !last.ends_with('\n'));
    if open {
        // The old last line had no end; now the code is last and has none instead.
        made.push_str(end);
        made.push_str(code.strip_suffix(end).unwrap_or(&code));
    } else {
        made.push_str(&code);
    }
    made.push_str(&after.concat());
    Ok(made)
}

/// Whether the code stands at that line already, whatever the line ends.
pub fn stands(text: &str, code: &str, line: usize) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = text.lines().skip(line.saturating_sub(1));
    line > 0 && code.lines().all(|wanted| found.next() == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_becomes_the_named_line() {
        assert_eq!(insert("a\nb\n", "x\ny\n", 1).unwrap(), "x\ny\na\nb\n");
        assert_eq!(insert("a\nb\n", "x\n", 2).unwrap(), "a\nx\nb\n");
        assert_eq!(insert("a\nb\n", "x", 3).unwrap(), "a\nb\nx\n");
        assert_eq!(insert("", "x\n", 1).unwrap(), "x\n");
    }

    #[test]
    fn code_that_was_inserted_stands_there() {
        for old in ["a\nb\n", "a\r\nb\r\n", "\u{feff}a\nb"] {
            for line in 1..=3 {
                assert!(!stands(old, "x\n\ny\n", line));
                assert!(stands(&insert(old, "x\n\ny\n", line).unwrap(), "x\n\ny\n", line));
            }
        }
        assert!(!stands("a\n", "a\n", 0));
    }

    #[test]
    fn a_line_beyond_the_end_is_an_error_with_both_numbers() {
        let error = insert("a\nb\n", "x\n", 4).unwrap_err().to_string();
        assert!(error.contains("`4`") && error.contains("`2`") && error.contains("`3`"), "{error}");
        assert!(insert("a\n", "x\n", 0).is_err());
        assert!(insert("", "x\n", 2).is_err());
    }

    #[test]
    fn line_ends_are_the_files() {
        assert_eq!(insert("a\r\nb\r\n", "x\ny\n", 2).unwrap(), "a\r\nx\r\ny\r\nb\r\n");
        assert_eq!(insert("a\nb", "x\n", 3).unwrap(), "a\nb\nx");
        assert_eq!(insert("a\nb", "x\n", 1).unwrap(), "x\na\nb");
        assert_eq!(insert("a\r\nb", "x\n", 3).unwrap(), "a\r\nb\r\nx");
        assert_eq!(insert("\u{feff}a\n", "x\n", 1).unwrap(), "\u{feff}x\na\n");
    }

    #[test]
    fn a_whole_file_takes_the_old_style() {
        assert_eq!(Style::of(Some("a\r\nb\r\n")).apply("x\ny\n"), "x\r\ny\r\n");
        assert_eq!(Style::of(Some("a\r\nb")).apply("x\ny\n"), "x\r\ny");
        assert_eq!(Style::of(Some("a\nb\n")).apply("x\r\ny"), "x\ny\n");
        assert_eq!(Style::of(Some("\u{feff}a\n")).apply("x\n"), "\u{feff}x\n");
        assert_eq!(Style::of(None).apply("x"), "x\n");
        assert_eq!(Style::of(Some("")).apply("x\n"), "x\n");
    }
}
