//! Task files and edits from anywhere: an error perhaps, a panic never.

use coder_tasks::edit::{self, Guard, Style};
use coder_tasks::task::{MAX_TASK_BYTES, Place};
use coder_tasks::{Command, Error, Prompt, Task};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Pieces of task files, whole and broken.
fn piece() -> impl Strategy<Value = String> {
    let pieces = [
        "---\n",
        "name: a\n",
        "task_id: 007\n",
        "tdd_phase: red\n",
        "context_files: [a, b]\n",
        "constraints:\n- x\n",
        "a: &a [*a, *a]\n",
        "x: !!binary |\n",
        "# Task: T\n",
        "# ",
        "# T\n",
        "## File to modify\n",
        "src/a.py\n",
        "`a.py`\n",
        "../a\n",
        "## Code to add at line 3\n",
        "## Code to add at line 99999999999999999999\n",
        "```rust\n",
        "```\n",
        "````\n",
        "~~~\n",
        "fn a() {}\n",
        "## Verification\n",
        "Run: cargo check\n",
        "Run: `",
        "run: \"\n",
        "Run:\n",
        "## Done when\n",
        "- [ ] x\n",
        "- [",
        "- [x]\n",
        "## Context\n",
        "- `b.py` y\n",
        "- \n",
        "## Constraints\n",
        "{\"task_id\":",
        "\"output_file\"",
        "\r\n",
        "\t",
        "é",
        "\u{feff}",
        "\0",
        "##",
        "## \n",
        " ",
        "\n",
    ];
    prop_oneof![prop::sample::select(pieces.to_vec()).prop_map(str::to_owned), "\\PC{0,6}"]
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(11),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_text_is_a_task_or_an_error(pieces in prop::collection::vec(piece(), 0..24), label in prop::sample::select(vec!["a.md", "a.json", "a", ""])) {
        if let Ok(task) = Task::parse(label, &pieces.concat()) {
            prop_assert!(coder_tasks::path::relative(&task.file).is_ok());
            prop_assert!(!task.id.is_empty());
            prop_assert!(Prompt::new(&task, &[], &[]).is_ok());
        }
    }

    #[test]
    fn any_json_is_a_task_or_an_error(
        id in json(), description in json(), file in json(), context in json(), constraints in json(), command in json(),
    ) {
        let text = format!("{{\"task_id\":{id},\"description\":{description},\"output_file\":{file},\"context_files\":{context},\"constraints\":{constraints},\"test_command\":{command}}}");
        if let Err(error) = Task::parse("a.json", &text) {
            let names_the_place = matches!(error, Error::BadTask { .. });
            prop_assert!(names_the_place);
        }
    }

    #[test]
    fn any_line_is_a_command_or_an_error(line in "(\\PC|['\"\\\\$`;|&<>(){}=# \n\t\0]){0,20}") {
        if let Ok(command) = Command::parse(&line) {
            prop_assert!(!command.argv[0].is_empty());
            prop_assert!(command.argv.iter().all(|word| !word.contains('\0')));
        }
    }

    #[test]
    fn inserted_code_is_there_and_nothing_else_changes(old in "(\\PC|\n|\r\n|\u{feff}){0,12}", code in "[a-z\n]{1,8}", line in 0usize..8) {
        let count = old.split_inclusive('\n').count();
        match edit::insert(&old, &code, line) {
            Ok(new) => {
                let lines = code.strip_suffix('\n').unwrap_or(&code).split('\n').count();
                prop_assert!(line >= 1 && line <= count + 1);
                prop_assert!(new.split_inclusive('\n').count() >= count.max(1));
                let flat = |text: &str| text.replace(['\r', '\u{feff}'], "");
                let mut kept: Vec<&str> = new.split('\n').collect();
                kept.drain(line - 1..line - 1 + lines);
                // Only the end of the last line may differ, where code was put behind it.
                let (kept, old) = (flat(&kept.join("\n")), flat(&old));
                prop_assert_eq!(kept.trim_end_matches('\n'), old.trim_end_matches('\n'));
            }
            Err(Error::NoSuchLine { .. }) => prop_assert!(line == 0 || line > count + 1 || count <= 1),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn a_style_is_kept(old in "(\\PC|\n|\r\n){0,12}", new in "([a-z]|\n|\r\n){1,12}") {
        let style = Style::of(Some(&old));
        let made = style.apply(&new);
        prop_assert_eq!(style.apply(&made), made.clone());
        if old.contains('\n') && !old.replace("\r\n", "").contains('\n') && made.contains('\n') {
            prop_assert!(!made.replace("\r\n", "").contains('\n'));
        }
        let _ = edit::check("a.py", Some(&old), &made, &Guard::default());
    }
}

fn json() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,8}".prop_map(|text| serde_json::Value::String(text).to_string()),
        prop::sample::select(vec![
            "null",
            "1",
            "[]",
            "[\"a.py\"]",
            "[1]",
            "{}",
            "\"a\\u0000\"",
            "[[[]]]",
            "true",
            "\"\""
        ])
        .prop_map(str::to_owned),
    ]
}

#[test]
fn deep_and_large_files_are_errors() {
    let deep = format!("{{\"task_id\":{}", "[".repeat(100_000));
    assert!(matches!(Task::parse("a.json", &deep), Err(Error::BadTask { .. })));
    let yaml = format!("---\na: {}\n---\n# Task: A\n", "[".repeat(20_000));
    assert!(matches!(Task::parse("a.md", &yaml), Err(Error::BadTask { .. })));
    let bomb: String = (1..30).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1)).collect();
    let bomb = format!("---\na0: &a0 [x]\n{bomb}---\n# Task: A\n");
    assert!(matches!(Task::parse("a.md", &bomb), Err(Error::BadTask { .. })));
    let large = "x".repeat(MAX_TASK_BYTES as usize + 1);
    assert!(matches!(Task::parse("a.md", &large), Err(Error::TooLarge { .. })));
}

/// Every form that can be run when it is named is found in a folder too.
#[test]
fn a_task_in_a_folder_is_not_passed_over() {
    let task = |body: &str| format!("{body}\n\n## Verification\nRun: true\n");
    let large = format!("# Task: A\n\n## File\na.py\n{}", "x".repeat(MAX_TASK_BYTES as usize));
    let fenced = "# How to write tasks\n\n```\n# Task: A\n\n## File to modify\na.py\n```\n";
    let folder = crate::scripted::Folder::new(&[
        ("a.md", &task("# Write c\n\n## Files to modify\n- c.py\n- d.py")),
        ("b.md", &task("---\noutput_file: c.py\n---\n# Write c")),
        ("c.md", &task("\u{feff}# Task: Write c\n\n## Output file:\nc.py")),
        ("d.md", &task("# Write c\n\n##  FILE to  Create:\nc.py")),
        ("e.json", "{\"output_files\": [\"c.py\"], \"task_id\": \"e\", \"description\": \"c\"}"),
        ("notes.md", "---\ntags: [a]\nmodel: opus\n---\n# Notes\n\n## Context\nnone\n"),
        ("format.md", fenced),
        ("Readme.MD", "# What this is\n"),
    ]);
    let found = Task::list(&folder.path("")).unwrap();
    assert_eq!(found.tasks, ["a.md", "b.md", "c.md", "d.md", "e.json"].map(|name| folder.path(name)));
    assert_eq!(found.passed_over, ["format.md", "notes.md"].map(|name| folder.path(name)));
    assert_eq!(Task::load_all(&folder.path("")).unwrap().len(), 5);
    let broken = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path(name), bytes).unwrap();
        let error = Task::load_all(&folder.path("")).unwrap_err();
        std::fs::remove_file(folder.path(name)).unwrap();
        error
    };
    assert!(matches!(broken("large.md", large.as_bytes()), Error::TooLarge { .. }));
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    assert!(matches!(
        broken("wide.md", &wide("\u{feff}# Task: A\n\n## File\na.py\n")),
        Error::NotText { .. }
    ));
}

#[test]
fn a_folder_gives_its_tasks_in_order() {
    let folder = crate::scripted::Folder::new(&[
        ("b.json", r#"{"task_id":"b","description":"b","output_file":"b.py"}"#),
        ("a.md", "# Task: A\n## File to modify\na.py\n## Code to add at line 1\n```\nx\n```\n"),
        ("README.md", "# What this is\n"),
        ("package.json", "{}"),
        ("notes.txt", "# Task: no\n"),
        ("sub/c.json", r#"{"task_id":"c","description":"c","output_file":"c.py"}"#),
    ]);
    let passed_over = Task::list(&folder.path("")).unwrap().passed_over;
    assert_eq!(passed_over, [folder.path("package.json")]);
    let tasks = Task::load_all(&folder.path("")).unwrap();
    assert_eq!(tasks.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(tasks[0].code.as_ref().unwrap().place, Place::Line(1));
    assert_eq!(Task::load_all(&folder.path("sub/c.json")).unwrap().len(), 1);
    std::fs::write(folder.path("broken.json"), "{\"task_id\":").unwrap();
    assert!(Task::load_all(&folder.path("")).unwrap_err().to_string().contains("broken.json"));
    assert!(matches!(Task::load(&folder.path("gone.json")), Err(Error::Io { .. })));
    assert!(matches!(Task::load(&folder.path("sub")), Err(Error::Io { .. })));
}
