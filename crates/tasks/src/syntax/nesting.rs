//! Which texts the grammars can bear. Those of Python and YAML keep a stack of indentations, which their
//! parser saves in 1,024 bytes; a text that needs more would end the process.

use std::collections::HashSet;

use super::Language;

/// Whether the stack of indentations stays within its space. It is not the stack that is computed here but
/// the number of columns that could be on it, which is never smaller.
pub(super) fn is_bearable(language: Language, text: &str) -> bool {
    match language {
        // Two bytes each, beside 257 for the quotes of nested strings.
        Language::Python => indentations(text) <= 380,
        // Four bytes each, beside 10; a column is on the stack once as a list and once as a map.
        Language::Yaml => starts(text) <= 120,
        _ => true,
    }
}

/// Different indentations of lines. A line that begins with a backslash passes its own on to the next one.
fn indentations(text: &str) -> usize {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\x0c' | '\r');
    let mut found = HashSet::new();
    let mut passed_on = 0;
    for line in text.split('\n') {
        let rest = line.trim_start_matches(blank);
        found.insert(&line[..line.len() - rest.len()]);
        passed_on += usize::from(rest.starts_with('\\'));
    }
    found.len() + passed_on
}

/// Columns at which a line, or something after a marker on it, begins.
fn starts(text: &str) -> usize {
    let mut found = HashSet::new();
    for line in text.split(['\n', '\r']) {
        // The start of a line counts as one after a marker.
        let mut marked = true;
        let mut before = ' ';
        for (column, c) in line.chars().enumerate() {
            if matches!(c, ' ' | '\t') {
                marked |= matches!(before, '-' | '?' | ':');
            } else {
                if marked {
                    found.insert(column);
                }
                marked = false;
            }
            before = c;
        }
    }
    found.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_counted() {
        assert_eq!(indentations("a\n  b\n  c\n\td\n   \\\n e"), 6);
        assert_eq!(starts("a: b\nc:\n  - - d: e\n    # f\n"), 6);
        assert!(is_bearable(Language::Python, &"    if a:\n        b\n".repeat(1000)));
        assert!(!is_bearable(Language::Yaml, &"- ".repeat(1000)));
    }
}
