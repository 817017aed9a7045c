//! Comments that stand for code which a model did not write, such as "// ... rest of the code unchanged".

/// Whether a line says that code was left out here, in a comment of any usual language or without one.
pub(super) fn is_placeholder(line: &str) -> bool {
    let line = line.trim().to_lowercase();
    let Some(words) = comment(&line) else { return is_trailing(&line) };
    let words = words.trim_matches(|c: char| c.is_whitespace() || "*-#/;%!'\"<>[](){}|".contains(c));
    let dots = |text: &str| text.starts_with("..") || text.starts_with('…');
    let bare = words.trim_matches(|c: char| c.is_whitespace() || ".…".contains(c));
    if CERTAIN.iter().any(|phrase| bare.contains(phrase)) || is_strong(bare) && says(words) {
        return true;
    }
    dots(words) && (is_strong(bare) || WEAK.iter().any(|start| bare.starts_with(start)))
}

/// Whether a line is a comment that holds nothing but dots, the name of other code, "existing code", or with dots or in
/// brackets that it is as it was, "(unchanged)". Alone it may be meant, as in documentation; and in Markdown a line that
/// begins with `#` or `*` is a heading or an item.
pub(super) fn is_elision(line: &str, markdown: bool) -> bool {
    let line = line.trim().to_lowercase();
    let Some(words) = comment(&line).filter(|_| !line.starts_with(['.', '…', '[', '('])) else {
        return false;
    };
    let words = words.trim_matches(|c: char| c.is_whitespace() || "*/->%;{}#".contains(c));
    let bare = words.trim_matches(|c: char| c.is_whitespace() || "()[].…".contains(c));
    let says = words.starts_with(['(', '[']) || words.contains("..") || words.contains('…');
    let text = markdown && line.starts_with(['#', '*']);
    matches!(words, "..." | "…" | "....") || says && is_as_before(bare) || !text && is_name(bare)
}

/// Whether the words say that something is as it was, which ordinary comments may say of what they stand at.
fn is_as_before(words: &str) -> bool {
    matches!(words, "unchanged" | "omitted" | "snip" | "no changes" | "same as before")
}

/// Whether the words are nothing but the name of a piece of code.
fn is_name(words: &str) -> bool {
    let words: Vec<&str> = words.split_whitespace().filter(|word| !ARTICLES.contains(word)).collect();
    match words.as_slice() {
        [other, piece] => *other != "other" && OTHERS.contains(other) && PIECES.contains(piece),
        ["rest" | "remainder", "of", piece] => PIECES.contains(piece),
        _ => false,
    }
}

/// The text of a line that is a comment, or that begins like prose which takes the place of code.
fn comment(line: &str) -> Option<&str> {
    MARKS.iter().find_map(|mark| line.strip_prefix(mark))
}

/// Code, and behind it a comment that says that more was there.
fn is_trailing(line: &str) -> bool {
    let behind = |mark: &str| line.find(mark).map(|at| &line[at + mark.len()..]);
    let marks = ["//", "/*", "#", "--", "<!--"];
    let words = marks.into_iter().filter_map(behind).min_by_key(|words| words.len());
    words.is_some_and(|words| (words.contains("...") || words.contains('…')) && is_strong(words))
}

/// Whether the words name a piece of code that is not the one at hand: "rest of the file", "existing tests".
fn is_strong(words: &str) -> bool {
    let words: Vec<&str> = words
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty() && !ARTICLES.contains(word))
        .collect();
    words.windows(2).any(|pair| OTHERS.contains(&pair[0]) && PIECES.contains(&pair[1]))
        || words.windows(3).any(|three| {
            matches!(three[0], "rest" | "remainder") && three[1] == "of" && PIECES.contains(&three[2])
        })
        || words
            .windows(2)
            .any(|pair| PIECES.contains(&pair[0]) && matches!(pair[1], "unchanged" | "omitted"))
}

/// Whether the words say what became of that piece.
fn says(words: &str) -> bool {
    let known = ["unchanged", "same", "here", "goes", "remain", "omitted", "as before", "as is", "...", "…"];
    known.iter().any(|word| words.contains(word))
}

/// How comments begin, longer marks first. Brackets and dots are for replies that do not bother.
const MARKS: [&str; 24] = [
    "{/*", "<!--", "<%--", "///", "//!", "//", "/*", "(*", "{-", "--", "\"\"\"", "'''", "##", "#", ";", "%",
    "rem ", "'", "!", "*", "...", "…", "[", "(",
];

const ARTICLES: [&str; 6] = ["the", "your", "this", "a", "our", "all"];

const OTHERS: [&str; 7] = ["existing", "remaining", "previous", "original", "other", "unchanged", "rest"];

const PIECES: [&str; 26] = [
    "code",
    "file",
    "function",
    "functions",
    "method",
    "methods",
    "class",
    "classes",
    "implementation",
    "implementations",
    "module",
    "component",
    "components",
    "script",
    "test",
    "tests",
    "imports",
    "content",
    "contents",
    "logic",
    "body",
    "fields",
    "cases",
    "lines",
    "document",
    "definitions",
];

/// Beginnings that say it after dots: "... existing imports".
const WEAK: [&str; 14] = [
    "rest of",
    "rest",
    "the rest",
    "remaining",
    "existing",
    "unchanged",
    "previous",
    "same as",
    "as before",
    "other ",
    "more ",
    "omitted",
    "snip",
    "truncated",
];

/// What nobody writes into code that is whole.
const CERTAIN: [&str; 8] = [
    "your code here",
    "your implementation here",
    "your code goes here",
    "implementation goes here",
    "code goes here",
    "omitted for brevity",
    "code omitted",
    "unchanged code omitted",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers S1-34, S1-55.
    #[test]
    fn comments_of_every_language_that_stand_for_code_are_found() {
        for line in [
            "// ... rest of the code unchanged",
            "    # ... existing code ...",
            "/* rest of the file remains the same */",
            "<!-- existing code here -->",
            "... rest of the code ...",
            "-- ... remaining functions ...",
            "{/* ... existing components ... */}",
            "(* rest of the implementation unchanged *)",
            "{- ... rest of module ... -}",
            ";; ... existing definitions ...",
            "% remaining code unchanged",
            "\"\"\" ... rest of the class ... \"\"\"",
            "' ... existing code ...",
            "rem rest of the script unchanged",
            "! remaining code goes here",
            " * ... other methods remain the same ...",
            "[rest of file unchanged]",
            "(existing code unchanged)",
            "# … existing imports …",
            "//...existing code...",
            "# ...",
            "// Rest of your code here",
            "# existing code unchanged",
            "// ... (previous code) ...",
            "# your code here",
            "// implementation goes here",
            "// methods omitted for brevity",
            "return x; // ... rest of the function ...",
            "    pass  # ... existing code ...",
            "// existing code",
            "    # Rest of the file",
            "/* (unchanged) */",
            "<!-- same as before ... -->",
            "// [omitted]",
            "# the remaining functions",
        ] {
            assert!(is_placeholder(line) || is_elision(line, false), "{line}");
        }
    }

    #[test]
    fn ordinary_comments_and_code_are_not() {
        for line in [
            "# the existing code uses x",
            "# Other methods",
            "// the rest of the arguments are paths",
            "// remaining items are handled below",
            "# Falls back to the existing configuration...",
            "...",
            "    ...",
            "    return [...rest];",
            "const {a, ...rest} = b;",
            "f(...args) // spreads",
            "def rest(self): ...",
            "/// Returns the rest of the line.",
            "// Keeps the other fields of the record.",
            "-- every row, also those of other tables",
            "println!(\"loading...\");",
            "# Tests for the existing function",
            "// unchanged if the file is whole",
            "* the previous method of the trait",
            "(existing, new) = split(x)",
            "[other_cases]",
            "#include <existing.h>",
            "# No changes",
            "// unchanged",
            "    # Unchanged.",
            "<!-- same as before -->",
        ] {
            assert!(!is_placeholder(line) && !is_elision(line, false), "{line}");
        }
        for line in ["## Existing tests", "* existing code"] {
            assert!(!is_elision(line, true) && is_elision(line, false), "{line}");
        }
    }
}
