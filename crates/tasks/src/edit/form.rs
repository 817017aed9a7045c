//! Which form of reply is asked for.

use serde::{Deserialize, Serialize};

use super::Base;

/// The form of replies, as a person chooses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EditFormat {
    /// Whole files where they are new or small, search/replace blocks otherwise.
    #[default]
    Auto,
    /// Always whole files.
    Whole,
    /// Always search/replace blocks.
    Diff,
    /// Always a patch envelope.
    Patch,
}

/// The form of one reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// The whole file in one fenced block.
    #[default]
    Whole,
    /// Search/replace blocks.
    Diff {
        /// How many times the delimiters repeat their character: 7, or more where the file has such lines.
        marker: usize,
    },
    /// A patch envelope.
    Patch,
}

/// Files of at most this many lines together are written whole. On one-file tasks of up to about this size every published
/// comparison of a Qwen coder has whole files ahead of edits; beyond it a reply takes too long and loses lines.
const WHOLE_LINES: usize = 150;

/// The usual length of the delimiters.
const MARKER: usize = 7;

impl EditFormat {
    /// The form of the reply for these files. New files have nothing to be searched, so where all are new they are
    /// written whole.
    pub fn form(self, files: &[Base<'_>]) -> Form {
        let all_new = files.iter().all(|file| file.content.is_none_or(|content| content.trim().is_empty()));
        let lines: usize =
            files.iter().filter_map(|file| file.content).map(|content| content.lines().count()).sum();
        match self {
            EditFormat::Whole => Form::Whole,
            EditFormat::Patch => Form::Patch,
            EditFormat::Auto | EditFormat::Diff if all_new => Form::Whole,
            EditFormat::Auto if lines <= WHOLE_LINES => Form::Whole,
            EditFormat::Auto | EditFormat::Diff => {
                Form::Diff { marker: marker(files.iter().filter_map(|file| file.content)) }
            }
        }
    }
}

impl Form {
    /// Its name, as in [`EditFormat`].
    pub fn name(&self) -> &'static str {
        match self {
            Form::Whole => "whole",
            Form::Diff { .. } => "diff",
            Form::Patch => "patch",
        }
    }

    /// The length of the delimiters of search/replace blocks in this form.
    pub fn marker(&self) -> usize {
        match self {
            Form::Diff { marker } => *marker,
            Form::Whole | Form::Patch => MARKER,
        }
    }
}

/// The shortest delimiter, of seven characters or more, that no line of the texts begins with: a line may begin with
/// fewer or more of `<`, `=` or `>`, but with exactly so many only if it is a delimiter.
pub fn marker<'a>(texts: impl IntoIterator<Item = &'a str>) -> usize {
    let mut taken: Vec<usize> =
        texts.into_iter().flat_map(str::lines).map(run).filter(|run| *run >= MARKER).collect();
    taken.sort_unstable();
    taken.dedup();
    taken
        .iter()
        .enumerate()
        .find(|(at, run)| MARKER + at != **run)
        .map_or(MARKER + taken.len(), |(at, _)| MARKER + at)
}

/// How often the first character of a line is repeated, if it is one of a delimiter.
fn run(line: &str) -> usize {
    let line = line.strip_prefix('\u{feff}').unwrap_or(line);
    match line.chars().next() {
        Some(first @ ('<' | '=' | '>')) => line.chars().take_while(|c| *c == first).count(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(content: Option<&str>) -> [Base<'_>; 1] {
        [Base { path: "a.py", content }]
    }

    #[test]
    fn the_form_follows_the_size() {
        let (small, large) = ("x\n".repeat(150), "x\n".repeat(151));
        assert_eq!(EditFormat::Auto.form(&base(None)), Form::Whole);
        assert_eq!(EditFormat::Auto.form(&base(Some(&small))), Form::Whole);
        assert_eq!(EditFormat::Auto.form(&base(Some(&large))), Form::Diff { marker: 7 });
        assert_eq!(EditFormat::Diff.form(&base(Some(&small))), Form::Diff { marker: 7 });
        assert_eq!(EditFormat::Diff.form(&base(Some("\n"))), Form::Whole);
        assert_eq!(EditFormat::Whole.form(&base(Some(&large))), Form::Whole);
        assert_eq!(EditFormat::Patch.form(&base(Some(&small))), Form::Patch);
        let two = [base(None), base(Some("x\n"))].concat();
        assert_eq!(EditFormat::Auto.form(&two), Form::Whole);
        assert_eq!(EditFormat::Diff.form(&two), Form::Diff { marker: 7 });
    }

    #[test]
    fn delimiters_are_not_lines_of_the_file() {
        assert_eq!(marker(["a\n======\n<<<<<< x\n"]), 7);
        assert_eq!(marker(["Title\n=======\n"]), 8);
        assert_eq!(marker(["<<<<<<< HEAD\r\n", "\u{feff}========\n>>>>>>>>>> x\n"]), 9);
        assert_eq!(marker(["=========\n=======\n"]), 8);
    }
}
