use crate::task::{Criterion, Phase, Place};
use crate::{Error, Task};

const TASK: &str = "---
name: Add test module structure
status: open
model: local
local_model: qwen2.5-coder:32b  # Specific model for local execution
complexity: XS
tdd_phase: setup
severity: 2
---

# Task: Add test module structure to message_queue.rs

Keep the style of the file.

## File to modify
crates/server/src/routes/message_queue.rs

## Code to add at line 280
```rust
#[cfg(test)]
mod tests {
    # not a heading
}
```

## Context
- `src/a.rs` the types
- src/b.rs
- the whole idea

## Constraints
- No unsafe code
- Keep it
  short

## Notes
Mind the gap.

## Verification
Run: `cargo check -p server`

## Done when
- [ ] Test module exists
- [x] cargo check passes
";

/// Covers S0-02, S0-17, S0-18.
#[test]
fn every_section_is_read() {
    let task = Task::parse("plans/005.md", TASK).unwrap();
    assert_eq!(task.id, "005");
    assert_eq!(task.title.as_deref(), Some("Add test module structure to message_queue.rs"));
    assert_eq!(task.file, "crates/server/src/routes/message_queue.rs");
    let code = task.code.unwrap();
    assert_eq!(code.text, "#[cfg(test)]\nmod tests {\n    # not a heading\n}\n");
    assert_eq!((code.language.as_str(), code.place), ("rust", Place::Line(280)));
    assert_eq!(task.context, ["src/a.rs", "src/b.rs"]);
    assert_eq!(task.constraints, ["No unsafe code", "Keep it short"]);
    assert_eq!(task.command.unwrap().argv, ["cargo", "check", "-p", "server"]);
    let done = |text: &str, done| Criterion { text: text.into(), done };
    assert_eq!(task.done_when, [done("Test module exists", false), done("cargo check passes", true)]);
    assert_eq!(task.model.as_deref(), Some("local"));
    assert_eq!(task.local_model.as_deref(), Some("qwen2.5-coder:32b"));
    assert_eq!(task.complexity.as_deref(), Some("XS"));
    assert_eq!(task.phase, Some(Phase::Setup));
    assert_eq!(task.status.as_deref(), Some("open"));
    assert_eq!(task.warnings, ["field `severity` is not known and was not used"]);
    assert_eq!(
        task.description,
        "Add test module structure to message_queue.rs\n\nKeep the style of the file.\n\n\
         Context\n- the whole idea\n\nNotes\nMind the gap."
    );
}

#[test]
fn windows_line_ends_and_no_frontmatter() {
    let text =
        "# Task: A\r\n## File to modify\r\n- `a.py`\r\n## Code to add at line 1\r\n```\r\nx = 1\r\n```\r\n";
    let task = Task::parse("a.md", text).unwrap();
    assert_eq!(task.file, "a.py");
    assert_eq!(task.code.unwrap().text, "x = 1\n");
    assert_eq!(task.command, None);
}

#[test]
fn an_id_keeps_its_zeros() {
    let text = "---\ntask_id: 005\nmodel:\n---\n# Task: A\n## File to modify\na.py\n";
    let task = Task::parse("x.md", text).unwrap();
    assert_eq!(task.id, "005");
    assert_eq!(task.model, None);
}

#[test]
fn code_has_a_place() {
    let with = |heading: &str| {
        Task::parse("x.md", &format!("# Task: A\n## File\na.py\n## {heading}\n```\nx\n```\n"))
    };
    assert_eq!(with("Code to add at line 3:").unwrap().code.unwrap().place, Place::Line(3));
    assert_eq!(with("File content").unwrap().code.unwrap().place, Place::Whole);
    assert_eq!(with("Code to add").unwrap().code.unwrap().place, Place::Unstated);
    for heading in ["Code to add at line 0", "Code to add at line x", "Code to add at line -1"] {
        assert!(with(heading).unwrap_err().to_string().contains("line 4: `"), "{heading}");
    }
}

#[test]
fn a_command_may_stand_in_a_block() {
    let text = "# Task: A\n## File\na.py\n## Verification\nRun:\n```bash\n$ python3 a.py\n```\n";
    assert_eq!(Task::parse("x.md", text).unwrap().command.unwrap().argv, ["python3", "a.py"]);
    let with = |lines: &str| Task::parse("x.md", &text.replace("$ python3 a.py", lines));
    let command = with("# run the tests\n\npython3 a.py\n# $ python3 b.py").unwrap().command.unwrap();
    assert_eq!(command.argv, ["python3", "a.py"]);
    assert!(with("python3 a.py\npython3 b.py").unwrap_err().to_string().contains("line 8: a second command"));
    assert!(with("# nothing").unwrap_err().to_string().contains("no command"));
}

/// Covers S0-18, S1-39.
#[test]
fn several_files_are_a_list() {
    let files = |text: &str| Task::parse("x.md", &format!("# Task: A\n{text}")).map(|task| task.files);
    assert_eq!(
        files("## Files to modify\n- `a.py` the caller\n- ./b.py\n\na.py\n").unwrap(),
        ["a.py", "b.py"]
    );
    assert_eq!(files("## Files to create\nb.py\n## File to modify\na.py\n").unwrap(), ["a.py", "b.py"]);
    assert_eq!(files("## File to modify\n`a b.py`\n").unwrap(), ["a b.py"]);
    let front = "---\noutput_files: [a.py, b.py]\n---\n# Task: A\n";
    let task = Task::parse("x.md", front).unwrap();
    assert_eq!((task.file.as_str(), task.files.len()), ("a.py", 2));
    let error = files("## Files to modify\n- a.py the caller\n").unwrap_err().to_string();
    assert!(error.contains("line 3: words beside the path"), "{error}");
    let error = files("## Files to modify\n- a.py\n- /etc/passwd\n").unwrap_err().to_string();
    assert!(error.contains("line 4: path `/etc/passwd`"), "{error}");
}

#[test]
fn a_status_that_is_not_heeded_is_told() {
    let warnings = |status: &str| {
        let text = format!("---\nstatus: {status}\n---\n# Task: A\n\n## File\na.py\n");
        Task::parse("a.md", &text).unwrap().warnings
    };
    assert!(warnings("open").is_empty());
    assert!(warnings("Done")[0].starts_with("its status is `Done`"), "{:?}", warnings("Done"));
}

/// The command that decides may be lost by one letter, and then a task without one is complete unseen.
#[test]
fn a_command_under_another_heading_is_told() {
    let warnings = |text: &str| {
        let task = Task::parse("x.md", &format!("# Task: A\n## File\na.py\n{text}")).unwrap();
        assert_eq!(task.command.is_some(), text.contains("## Verification\n"), "{text}");
        task.warnings
    };
    assert_eq!(
        warnings("## Verificaton\nRun: pytest\n- **Lint (shell)**: a | b\n- Lint (shell): a | b\n"),
        [
            "line 5: `Run:` is a command only under `## Verification`, not under `## Verificaton`",
            "line 7: `Lint:` is a command only under `## Verification`, not under `## Verificaton`"
        ]
    );
    assert!(warnings("## Tests\n```\nRun: pytest\n```\nRunning: no\n").is_empty());
    assert!(warnings("## Verification\nRun: pytest\nLint: ruff\n").is_empty());
}

#[test]
fn tags_are_a_list_or_a_line() {
    let tags = |line: &str| {
        Task::parse("x.md", &format!("---\n{line}\n---\n# Task: A\n## File\na.py\n")).map(|task| task.tags)
    };
    for line in ["tags: [ARCH, UI]", "tags: ARCH, UI", "tags:\n- ARCH\n- UI"] {
        assert_eq!(tags(line).unwrap(), ["ARCH", "UI"], "{line}");
    }
    assert!(tags("tags:").unwrap().is_empty() && tags("id: 1").unwrap().is_empty());
    let error = tags("id: 1\ncontext_files: a.py").unwrap_err().to_string();
    assert!(error.starts_with("`x.md`: line 3: frontmatter: field `context_files`: "), "{error}");
    assert!(error.ends_with("write `context_files: [one, two]`"), "{error}");
}

#[test]
fn complaints_name_file_line_and_remedy() {
    let cases = [
        ("---\nname: a\n", "`x.md`: line 1: the frontmatter has no end"),
        ("---\nname: [a\n---\n", "frontmatter:"),
        (
            "---\ntdd_phase: blue\n---\n# Task: A\n## File\na\n",
            "field `tdd_phase`: `blue` is not known; use one of setup",
        ),
        ("# Task: A\n", "section `File to modify`: it is missing"),
        ("# Task: A\n## File to modify\n\n", "line 2: no path"),
        ("# Task: A\n## File to modify\na.py\nb.py\n", "line 4: a second path"),
        ("# Task: A\n## File to modify\n../a.py\n", "line 3: path `../a.py`"),
        ("## File to modify\na.py\n", "nothing says what to do"),
        ("# Task: A\n## File\na\n## Verification\nlook\n", "line 4: no command; write `Run: <command>`"),
        (
            "# Task: A\n## File\na\n## Verification\nRun: a | b\n",
            "line 5: command `a | b`: `|` needs a shell",
        ),
        ("# Task: A\n## File\na\n## Verification\nRun: a\nRun: b\n", "line 6: a second command after line 5"),
        ("# Task: A\n## File\na\n## Code to add at line 1\n```\nx\n", "line 5: the fenced block has no end"),
        ("# Task: A\n## File\na\n## Code to add at line 1\nx\n", "line 4: no code"),
        ("# Task: A\n## File\na\n## Code\n```\nx\n```\n## Code\n", "line 8: `## Code` repeats line 4"),
        ("# Task: A\n## File\na\n## Code\n```\nx\n```\n```\ny\n```\n", "line 4: several fenced blocks"),
        ("# Task: A\0\n", "line 1: it holds a NUL byte"),
    ];
    for (text, expected) in cases {
        let error = Task::parse("x.md", text).unwrap_err();
        assert!(matches!(error, Error::BadTask { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
}
