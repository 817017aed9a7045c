//! What new content must not be, whatever the verification says.

use std::collections::HashSet;

use super::placeholder::{is_elision, is_placeholder};
use crate::{Error, Result, language};

/// The limits of the guards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guard {
    /// Files below this many non-blank lines may shrink freely.
    pub shrink_from: usize,
    /// The least part of the non-blank lines that a larger file must keep, from 0 to 1.
    pub keep: f64,
}

impl Default for Guard {
    /// Files of 20 lines and more keep a third of them.
    fn default() -> Self {
        Guard { shrink_from: 20, keep: 1.0 / 3.0 }
    }
}

/// Refuses content that a model writes when it goes wrong: NUL bytes, conflict markers, most of the file
/// lost, and comments that stand for code. What was in the old content already is allowed.
pub fn check(path: &str, old: Option<&str>, new: &str, guard: &Guard) -> Result<()> {
    let old = old.unwrap_or("");
    if let Some(line) = new.lines().position(|line| line.contains('\0')) {
        return Err(Error::NulByte { line: line + 1 });
    }
    // A line that was there already is no fault of the new content, however it is indented now.
    let known: HashSet<&str> = old.lines().map(str::trim).collect();
    let fresh = |line: &str| !known.contains(line.trim());
    if let Some((line, _)) = new.lines().enumerate().find(|(_, line)| is_conflict(line) && fresh(line)) {
        return Err(Error::ConflictMarker { line: line + 1 });
    }
    let (before, after) = (inked(old), inked(new));
    let markdown = language::of(path) == "markdown";
    // Dots alone in a comment, or the name of other code, stand for what is missing only where something is.
    let stands = |line: &str| is_placeholder(line) || after < before && is_elision(line, markdown);
    if let Some((line, text)) = new.lines().enumerate().find(|(_, line)| stands(line) && fresh(line)) {
        return Err(Error::Placeholder { line: line + 1, text: text.trim().chars().take(120).collect() });
    }
    if before >= guard.shrink_from && (after as f64) < before as f64 * guard.keep {
        return Err(Error::Shrunk { old: before, new: after });
    }
    Ok(())
}

fn inked(text: &str) -> usize {
    text.lines().filter(|line| !line.trim().is_empty()).count()
}

/// The markers that merges leave; the middle one alone is also a heading's underline, so it is not asked for. Those of
/// edits count wherever they stand in a line.
fn is_conflict(line: &str) -> bool {
    if ["<<<<<<< SEARCH", ">>>>>>> REPLACE"].contains(&line.trim()) {
        return true;
    }
    ["<<<<<<<", ">>>>>>>", "|||||||"].iter().any(|marker| {
        line.strip_prefix(marker).is_some_and(|rest| rest.starts_with(' ') || rest.trim().is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(old: Option<&str>, new: &str) -> Option<Error> {
        check("a.py", old, new, &Guard::default()).err()
    }

    #[test]
    fn ordinary_content_passes() {
        let code = "# the existing code uses x\nx = 1\n\nTitle\n=======\na <<<<<<< b\n# same as before\n";
        assert!(refuse(None, code).is_none());
        assert!(refuse(Some("a\nb\nc\n"), "a\n").is_none());
    }

    /// Covers S1-34, S1-55.
    #[test]
    fn what_is_not_content_is_refused() {
        assert!(matches!(refuse(None, "a\nb\0\n"), Some(Error::NulByte { line: 2 })));
        assert!(matches!(refuse(None, "a\n<<<<<<< HEAD\n"), Some(Error::ConflictMarker { line: 2 })));
        assert!(matches!(refuse(None, ">>>>>>> main\n"), Some(Error::ConflictMarker { line: 1 })));
        assert!(matches!(refuse(None, "1.\n  <<<<<<< SEARCH\n"), Some(Error::ConflictMarker { line: 2 })));
        let placeholder = refuse(None, "a\n// ... rest of the code unchanged\n");
        assert!(matches!(placeholder, Some(Error::Placeholder { line: 2, .. })), "{placeholder:?}");
    }

    #[test]
    fn what_was_there_before_is_allowed() {
        let old = "<<<<<<< HEAD\n// ... existing code ...\n# ...\nx\n";
        assert!(refuse(Some(old), old).is_none());
        assert!(refuse(Some(old), "  // ... existing code ...\n# ...\n").is_none());
    }

    #[test]
    fn dots_are_a_placeholder_where_something_is_missing() {
        assert!(refuse(Some("a\nb\nc\n"), "a\n# ...\n").is_some());
        assert!(refuse(Some("a\n"), "a\n# ...\n").is_none());
        assert!(refuse(None, "# ...\n").is_none());
        assert!(refuse(Some("a\nb\nc\n"), "a\n# Existing code\n").is_some());
        assert!(refuse(Some("a\n"), "a\n# Existing code\n").is_none());
    }

    #[test]
    fn a_shorter_file_may_say_that_something_is_as_it_was() {
        let old =
            "def f(a, b):\n    if a == b:\n        x = 1\n        y = 2\n        return None\n    return b\n";
        assert!(refuse(Some(old), &old.replace("x = 1\n        y = 2", "# No changes")).is_none());
        assert!(refuse(Some(old), &old.replace("x = 1\n        y = 2", "# (unchanged)")).is_some());
        let log = check(
            "CHANGELOG.md",
            Some("# Log\n\n* a\n* b\n* c\n"),
            "# Log\n\n* No changes\n",
            &Guard::default(),
        );
        assert!(log.is_ok());
    }

    /// Covers S1-55.
    #[test]
    fn a_file_does_not_lose_most_of_itself() {
        let old = "line\n".repeat(30);
        assert!(matches!(refuse(Some(&old), &"x\n".repeat(9)), Some(Error::Shrunk { old: 30, new: 9 })));
        assert!(refuse(Some(&old), &"x\n".repeat(10)).is_none());
    }
}
