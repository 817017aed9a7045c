//! Words of a reply that could be taken for lines of a file, where no fence says which are.

/// Whether a line announces what is below it: "Here is the new file:".
pub(super) fn announces(line: &str) -> bool {
    let line = line.trim_end();
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '`' | '*');
    let ends =
        line.strip_suffix("**").unwrap_or(line).strip_suffix(':').is_some_and(|rest| rest.ends_with(is_word));
    ends && line.starts_with(char::is_alphabetic) && line.split_whitespace().count() > 2
}

/// Whether a line ends as a sentence does.
pub(super) fn ends_sentence(line: &str) -> bool {
    let closes = |c: char| c.is_alphanumeric() || matches!(c, '`' | '"' | '\'' | ')');
    line.trim_end().strip_suffix(['.', '!', '?']).is_some_and(|rest| rest.ends_with(closes))
}

/// Whether lines are one paragraph that ends as a sentence, such as "I cannot do that.".
pub(super) fn are_paragraph(lines: &[&str]) -> bool {
    matches!(paragraphs(lines).as_slice(), [only] if is_prose(only))
}

/// Whether lines hold nothing but letters, blanks and what words have between them, such as "Done".
pub(super) fn are_bare(lines: &[&str]) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '.' | ',' | '!' | '?' | '\'' | '’');
    lines.iter().all(|line| line.chars().all(is_word))
}

/// Whether a reply announces its file on the first line, or says something about it behind it: lines that the file did
/// not have. In a file of words such a paragraph at the end may be its own.
pub(super) fn are_around(lines: &[&str], old: Option<&str>, is_code: bool) -> bool {
    let is_new = |line: &&str| !old.unwrap_or("").lines().any(|other| other.trim() == line.trim());
    let found = paragraphs(lines);
    let (Some(first), Some(last)) = (found.first(), found.last()) else { return false };
    let before = matches!(*first, [line] if announces(line) && is_new(line));
    let behind = || is_code && is_prose(last) && last.iter().all(is_new) && words(last) > 3;
    found.len() > 1 && (before || behind())
}

/// Whether a reply begins with a fence of tildes, which other files than those of words do not.
pub(super) fn is_tilde_fence(line: &str) -> bool {
    let info = line.trim_start_matches('~');
    line.len() - info.len() >= 3
        && (info.trim().is_empty() || info.trim_start().starts_with(char::is_alphabetic))
}

fn is_prose(paragraph: &[&str]) -> bool {
    let (Some(first), Some(last)) = (paragraph.first(), paragraph.last()) else { return false };
    first.starts_with(char::is_alphabetic) && ends_sentence(last)
}

/// The runs of lines that hold something.
fn paragraphs<'l, 'a>(lines: &'l [&'a str]) -> Vec<&'l [&'a str]> {
    lines.split(|line| line.trim().is_empty()).filter(|lines| !lines.is_empty()).collect()
}

fn words(lines: &[&str]) -> usize {
    lines.iter().map(|line| line.split_whitespace().count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_lines_of_files() {
        for line in ["Here is the updated Dockerfile:", "The new `Makefile`:", "Here is the file:**"] {
            assert!(announces(line), "{line}");
        }
        for line in ["all:", "def f(a, b, c):", "  run the tests:", "FROM python:3.12", "- the first one:"] {
            assert!(!announces(line), "{line}");
        }
        assert!(are_paragraph(&["I cannot", "do that.", ""]) && are_paragraph(&["Done!"]));
        for lines in [&["COPY . ."][..], &["1.2.4"], &["name"], &["# A.", "", "b."], &["x = f(1)"], &[]] {
            assert!(!are_paragraph(lines), "{lines:?}");
        }
        assert!(are_bare(&["I can't, sorry."]) && !are_bare(&["x = 1"]) && !are_bare(&["a: b"]));
    }

    #[test]
    fn words_behind_a_file_are_new_and_a_paragraph_of_their_own() {
        let around = |reply: &str, old: &str, is_code: bool| {
            are_around(&reply.lines().collect::<Vec<_>>(), Some(old), is_code)
        };
        let (file, words) = ("FROM a\nRUN b\n", "\nI changed the version.\n");
        assert!(around(&(file.to_owned() + words), file, true));
        assert!(!around(&(file.to_owned() + words), file, false), "it may be a line of the text");
        assert!(!around(&(file.to_owned() + words), words, true), "it was there before");
        assert!(!around("FROM a\n\nCOPY . .\n", file, true));
        assert!(around("Here is the file:\n\nFROM a\n", file, false));
        assert!(!around("Here is the file:\nFROM a\n", file, false), "it may be a line of the text");
    }
}
