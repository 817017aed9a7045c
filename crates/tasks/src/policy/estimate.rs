//! How large a task is: lines, imports and files, each with where the number comes from.

use serde::Serialize;

use super::classify::Classification;
use super::cue::Words;
use super::tables::{Category, Tables};
use crate::task::Task;

/// The size of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// Lines of code that it writes.
    pub lines: Figure,
    /// Modules that this code depends on.
    pub imports: Figure,
    /// Files that it writes.
    pub files: usize,
}

/// A number and its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// The number.
    pub value: usize,
    /// Where it comes from.
    pub source: Source,
}

/// Where a number comes from, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// From the code that the task carries.
    Counted,
    /// From a field or the words of the task.
    Stated,
    /// From what is usual for its category, and from its context files.
    Estimated,
}

impl Source {
    /// As a sentence says it.
    pub fn said(self) -> &'static str {
        match self {
            Source::Counted => "counted in its code",
            Source::Stated => "as the task says",
            Source::Estimated => "estimated",
        }
    }
}

pub(super) fn estimate(task: &Task, classification: &Classification, tables: &Tables) -> Estimate {
    let code = task.code.as_ref().map(|code| code.text.as_str());
    let lines = match (task.estimated_lines, code, classification.stated_lines) {
        (Some(stated), ..) => Figure { value: stated, source: Source::Stated },
        (None, Some(code), _) => Figure { value: code.lines().count(), source: Source::Counted },
        (None, None, Some(stated)) => Figure { value: stated, source: Source::Stated },
        (None, None, None) => {
            let usual = tables.category(classification.category).lines;
            Figure { value: usual, source: Source::Estimated }
        }
    };
    let imports = match (task.imports, code) {
        (Some(stated), _) => Figure { value: stated, source: Source::Stated },
        (None, Some(code)) => Figure { value: count_imports(code), source: Source::Counted },
        (None, None) if has_no_imports(task) => Figure { value: 0, source: Source::Stated },
        // What the model is shown is what its code can depend on.
        (None, None) => {
            let shown = task.context.iter().filter(|path| !task.files.contains(path)).count();
            Figure { value: shown, source: Source::Estimated }
        }
    };
    // A task that is across files by its words does not stay in the one that it names.
    let files = match (task.files.len(), classification.category) {
        (0 | 1, Category::MultiFile) => 2,
        (named, _) => named.max(1),
    };
    Estimate { lines, imports, files }
}

/// Lines that bring something in, in the languages whose imports are lines of their own.
fn count_imports(code: &str) -> usize {
    let starts = ["import ", "from ", "use ", "#include", "require ", "using "];
    let is = |line: &&str| {
        let line = line.trim_start();
        starts.iter().any(|start| line.starts_with(start)) || line.contains("= require(")
    };
    code.lines().filter(is).count()
}

/// Whether the task itself forbids dependencies: "No dependencies", "without imports".
fn has_no_imports(task: &Task) -> bool {
    const WHAT: [&str; 6] = ["dependencies", "dependency", "imports", "import", "packages", "libraries"];
    task.constraints.iter().chain([&task.description]).any(|text| {
        let words = Words::of(text);
        let words: Vec<&str> = words.texts().collect();
        words.windows(3).any(|three| {
            matches!(three[0], "no" | "without" | "zero")
                && (WHAT.contains(&three[1]) || WHAT.contains(&three[2]))
        }) || words
            .windows(2)
            .any(|two| matches!(two[0], "no" | "without" | "zero") && WHAT.contains(&two[1]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_counted_and_forbidden() {
        assert_eq!(count_imports("import a\nfrom b import c\nx = 1\nconst d = require('d');\n"), 3);
        assert_eq!(count_imports("use std::fs;\n// use it\nfn user() {}\n"), 1);
        let mut task = Task::of_text("Write a function", None);
        assert!(!has_no_imports(&task));
        task.constraints = vec!["No external dependencies".into()];
        assert!(has_no_imports(&task));
        task.constraints = vec!["no imports".into()];
        assert!(has_no_imports(&task));
    }
}
