//! Tasks that write no file: their command alone says how they end (S1-32).

use std::sync::atomic::AtomicBool;

use coder_tasks::ledger::{Attempt, AttemptResult, By, Counts, End, Entry, Routed, Verdict};
use coder_tasks::policy::{Route, Surroundings, Tables, judge};
use coder_tasks::verify::Limits;
use coder_tasks::{FailureClass, Outcome, Settings, Status, Task, Usage};

use crate::scripted::{Folder, Scripted, settings};

fn check(command: &str) -> Task {
    let spec = serde_json::json!({
        "task_id": "last", "description": "Everything works together", "output_files": [],
        "test_command": ["sh", "-c", command],
    });
    Task::parse("last.json", &spec.to_string()).unwrap()
}

/// Covers S1-32.
#[test]
fn its_command_approves_without_a_model() {
    let folder = Folder::new(&[("a.txt", "a\n")]);
    let mut writer = Scripted::default();
    let result = folder.run(&check("grep -q a a.txt && echo built > out.log"), Some(&mut writer));
    assert_eq!((result.outcome, result.status), (Outcome::Complete, Status::Success), "{}", result.error);
    assert!(result.verified && result.files.is_empty() && result.file.is_empty());
    assert_eq!((result.attempts, result.tier.as_deref()), (1, Some("mechanical")));
    assert_eq!((result.usage.prompt_tokens, result.usage.completion_tokens), (0, 0));
    assert_eq!((writer.asked.len(), result.history[0].by), (0, By::Rule));
    // What a command builds stays where it is, and there is nothing to undo.
    assert_eq!(folder.tree(), ["a.txt", "out.log"]);
    assert!(folder.workspace().history().unwrap().is_empty());
}

/// Covers S1-32, S1-48.
#[test]
fn its_command_refuses_and_no_model_is_asked() {
    let folder = Folder::new(&[("a.txt", "a\n"), ("tests/test_a.py", "assert True\n")]);
    let mut writer = Scripted::default();
    let passes = "i=0; while [ $i -lt 900 ]; do echo test passes_$i ... ok; i=$((i+1)); done";
    let result =
        folder.run(&check(&format!("{passes}; echo test a ... FAILED; exit 101")), Some(&mut writer));
    assert_eq!((result.outcome, result.attempts), (Outcome::Blocked, 1));
    assert!(
        result.error.starts_with("verification `sh -c") && result.error.ends_with("failed: exit status 101")
    );
    assert_eq!((writer.asked.len(), result.handover, result.verified), (0, None, false));
    let ran = result.history[0].verification.as_ref().unwrap();
    assert_eq!(ran.output, "[… 1 of 901 lines kept …]\ntest a ... FAILED\n");
    // It is for a person to read, however little fits into a model.
    let verify = Limits { output_bytes: 64, ..Limits::default() };
    let small = Settings { verify, ..settings() };
    let result = folder.run_with(&check("seq 1 500; exit 1"), None, &small, &AtomicBool::new(false));
    let ran = result.history[0].verification.as_ref().unwrap();
    assert!(ran.output.starts_with("1\n2\n") && ran.output.ends_with("\n500\n"), "{}", ran.output);
    // A test that judges it is guarded as for any task.
    let result = folder.run(&check("echo > tests/test_a.py"), Some(&mut writer));
    assert_eq!(result.outcome, Outcome::Blocked);
    assert!(result.error.contains("it changed `tests/test_a.py`"), "{}", result.error);
    assert_eq!(folder.read("tests/test_a.py"), "assert True\n");
}

/// Covers S1-32.
#[test]
fn what_says_nothing_about_the_work_does_not_block_it() {
    let folder = Folder::new(&[]);
    let mut missing = check("true");
    missing.command.as_mut().unwrap().argv = vec!["no-such-program-anywhere".into()];
    let result = folder.run(&missing, None);
    assert_eq!(result.outcome, Outcome::Refused, "{}", result.error);
    assert!(matches!(result.history[0].verdict, Verdict::Failed { class: FailureClass::Setup, .. }));
    let cancel = AtomicBool::new(true);
    assert_eq!(folder.run_with(&check("true"), None, &settings(), &cancel).outcome, Outcome::Cancelled);
    let result = folder.run(&Task::of_text("nothing at all", None), None);
    assert_eq!(result.outcome, Outcome::Refused);
    assert!(result.error.contains("neither a file nor a command"), "{}", result.error);
}

/// Covers S1-32: a lint command runs before the other one.
#[test]
fn both_formats_have_it() {
    let text = "---\noutput_files: []\ntdd_phase: verify\nmodel: opus\n---\n# Task: All of it\n\n\
                ## Verification\nLint: grep -q a a.txt\nRun: grep -q b a.txt\n";
    let task = Task::parse("last.md", text).unwrap();
    assert!(task.is_check() && task.warnings.is_empty(), "{task:?}");
    let folder = Folder::new(&[("a.txt", "a\n")]);
    let result = folder.run(&task, None);
    assert!(result.error.starts_with("verification `grep -q b a.txt` failed"), "{}", result.error);
    let judgement = judge(&task, &Surroundings::default(), Tables::built_in());
    assert_eq!((judgement.route, judgement.rules.len()), (Route::Local, 1));
    assert!(judgement.rules[0].fact.contains("no model is needed"));
    for (wrong, expected) in [
        ("# Task: A\n\n## Verification\nRun: true\n", "or `output_files: []` to the frontmatter"),
        ("---\noutput_files: []\n---\n# Task: A\n", "a task that writes no file is done by its command"),
        (
            "---\noutput_files: []\n---\n# Task: A\n\n## Verification\nRun: true\n\n## Code\n```\na\n```\n",
            "no place for code",
        ),
    ] {
        let error = Task::parse("a.md", wrong).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// Covers S1-32, S1-41: it is a task, and nobody's work.
#[test]
fn statistics_count_it_as_a_task_and_as_no_attempt() {
    let attempt = Attempt {
        tier: "mechanical".to_owned(),
        model: String::new(),
        template: String::new(),
        sampled: None,
        usage: Usage::default(),
        seconds: 0.0,
        cost_usd: 0.0,
        lines: 0,
        result: AttemptResult::Verified,
        stages: Vec::new(),
        at: 2,
    };
    let end = End { at: 2, outcome: "complete".into(), verified: true, seconds: 1.0, error: String::new() };
    let check = Entry { began: 1, end: Some(end), attempts: vec![attempt], ..Entry::default() };
    let counts = Counts::of([&check]);
    let expected = Counts {
        tasks: 1,
        finished: 1,
        complete: 1,
        verified: 1,
        offline: 1,
        first: Some(1),
        last: Some(1),
        ..Counts::default()
    };
    assert_eq!(counts, expected);
    assert_eq!(Routed::of(&check), None);
    let written = Entry { file: "a.rs".to_owned(), ..check };
    let counts = Counts::of([&written]);
    assert_eq!((counts.attempted, counts.delegated, counts.first_pass), (1, 1, 1));
}
