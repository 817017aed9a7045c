//! The message of a task's commit: one line after Conventional Commits 1.0.0, and the task's id (S2-42).

use crate::task::{Phase, Task};

/// The longest first line, in characters; what git's own tools show whole.
const SUBJECT: usize = 72;

/// `type(scope): title`, a blank line, and a trailer with the task's id.
///
/// The type is that of the task's phase, else it is told from the file and the title. The scope is the
/// package of the file, else its folder.
pub fn message(task: &Task) -> String {
    let kind = kind(task);
    let head = match scope(&task.file) {
        Some(scope) if kind != "docs" => format!("{kind}({scope}): "),
        _ => format!("{kind}: "),
    };
    let title = title(task);
    let room = SUBJECT.saturating_sub(head.chars().count()).max(20);
    let subject = shortened(&title, room);
    let rest = if subject == title { String::new() } else { format!("{title}\n\n") };
    format!("{head}{subject}\n\n{rest}Task: {}\n", plain(&task.id))
}

fn kind(task: &Task) -> &'static str {
    let first = title(task).split_whitespace().next().unwrap_or("").to_lowercase();
    let by_title = match first.as_str() {
        "fix" | "correct" | "repair" => Some("fix"),
        "rename" | "refactor" | "move" | "extract" | "simplify" => Some("refactor"),
        "document" | "describe" => Some("docs"),
        _ => None,
    };
    let by_file = if is_document(&task.file) {
        Some("docs")
    } else if is_test(&task.file) {
        Some("test")
    } else {
        None
    };
    match task.phase {
        Some(Phase::Refactor) => "refactor",
        Some(Phase::Red) => "test",
        Some(Phase::Green) => by_file.or(by_title.filter(|kind| *kind == "fix")).unwrap_or("feat"),
        Some(Phase::Setup) => by_file.unwrap_or("chore"),
        Some(Phase::Verify) => by_file.unwrap_or("test"),
        None => by_file.or(by_title).unwrap_or("feat"),
    }
}

fn is_document(file: &str) -> bool {
    let ending = file.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    matches!(ending.as_str(), "md" | "markdown" | "rst" | "adoc" | "txt") || file.starts_with("docs/")
}

/// By the conventions of Rust, Python, JavaScript, TypeScript and Go.
fn is_test(file: &str) -> bool {
    let (folders, name) = file.rsplit_once('/').unwrap_or(("", file));
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    folders.split('/').any(|folder| matches!(folder, "tests" | "test" | "__tests__" | "spec"))
        || stem.starts_with("test_")
        || [".test", ".spec", "_test", "_spec"].iter().any(|end| stem.ends_with(end))
}

/// The package that a file belongs to, else its folder that says something; None for a file at the root.
fn scope(file: &str) -> Option<String> {
    let folders: Vec<&str> = file.split('/').rev().skip(1).collect();
    let package =
        folders.iter().rposition(|folder| matches!(*folder, "crates" | "packages" | "apps" | "services"));
    let named = match package.and_then(|at| at.checked_sub(1)) {
        Some(inside) => Some(folders[inside]),
        None => folders.iter().copied().find(|folder| !is_layout(folder)),
    };
    let stem = || file.rsplit('/').next()?.split('.').find(|part| !part.is_empty());
    let plain: String =
        named.or_else(stem)?.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
    (!plain.is_empty()).then(|| plain.to_lowercase())
}

/// Folders whose names say nothing about what is in them.
fn is_layout(folder: &str) -> bool {
    matches!(folder, "src" | "lib" | "tests" | "test" | "__tests__" | "spec" | "main" | "." | "")
}

/// What the task is, on one line, as a commit says it: small first letter, no full stop.
fn title(task: &Task) -> String {
    let given = task.title.as_deref().unwrap_or(&task.description);
    let line = plain(given.lines().find(|line| !line.trim().is_empty()).unwrap_or(&task.id));
    let line = line.trim_end_matches(['.', ' ']);
    let mut chars = line.chars();
    let Some(first) = chars.next() else { return plain(&task.id) };
    // A word in capitals, such as a name of a constant, stays.
    match chars.next() {
        Some(second) if second.is_uppercase() => line.to_owned(),
        _ => first.to_lowercase().chain(line.chars().skip(1)).collect(),
    }
}

/// Without characters that a terminal obeys, and with single spaces.
fn plain(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first words that fit.
fn shortened(title: &str, room: usize) -> String {
    if title.chars().count() <= room {
        return title.to_owned();
    }
    let mut short = String::new();
    for word in title.split(' ') {
        if short.chars().count() + word.chars().count() + 2 > room {
            break;
        }
        short += if short.is_empty() { "" } else { " " };
        short += word;
    }
    match short.is_empty() {
        true => title.chars().take(room - 1).chain(['…']).collect(),
        false => short + "…",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(file: &str, title: &str, phase: &str) -> String {
        let text = format!("---\nid: T-7\ntdd_phase: {phase}\n---\n# Task: {title}\n\n## File\n{file}\n");
        let task = Task::parse("t.md", &text).unwrap();
        let message = message(&task);
        assert!(message.ends_with("\n\nTask: T-7\n"), "{message}");
        message.lines().next().unwrap().to_owned()
    }

    /// Covers S2-42.
    #[test]
    fn a_commit_has_type_scope_and_title() {
        let file = "crates/server/src/routes/message_queue.rs";
        assert_eq!(subject(file, "Add a queue.", "green"), "feat(server): add a queue");
        assert_eq!(subject(file, "Add a queue", ""), "feat(server): add a queue");
        assert_eq!(subject("tests/queue.rs", "Test the queue", "red"), "test(queue): test the queue");
        assert_eq!(subject("src/limits.rs", "Define limits", "setup"), "chore(limits): define limits");
        assert_eq!(subject("src/a/b.py", "Rename getFoo", ""), "refactor(a): rename getFoo");
        assert_eq!(subject("src/a/b.py", "Fix the sum", "green"), "fix(a): fix the sum");
        assert_eq!(subject("src/a/b.py", "Tidy", "refactor"), "refactor(a): tidy");
        assert_eq!(subject("README.md", "Explain it", ""), "docs: explain it");
        assert_eq!(subject("src/test_a.py", "HTTP tests", ""), "test(test_a): HTTP tests");
    }

    #[test]
    fn a_long_title_is_cut_between_words_and_kept_below() {
        let long = "Write a function that does a great many things one after the other until it is done";
        let text = format!("# Task: {long}\n\n## File\nsrc/a.py\n");
        let message = message(&Task::parse("x.md", &text).unwrap());
        let (subject, rest) = message.split_once("\n\n").unwrap();
        assert!(subject.chars().count() <= SUBJECT && subject.ends_with('…'), "{subject}");
        assert!(rest.starts_with("write a function") && rest.contains("until it is done"), "{rest}");
    }
}
