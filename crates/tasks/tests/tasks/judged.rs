//! The stages that a draft goes through, and the files that it must leave alone.

use coder_tasks::verify::{Approvals, Exit};
use coder_tasks::{Command, Outcome, Settings, Stage, Task};
use std::sync::atomic::AtomicBool;

use crate::scripted::{Folder, Scripted, settings, task};

fn stages(record: &coder_tasks::Record) -> Vec<(Stage, bool)> {
    record.stages.iter().map(|stage| (stage.stage, stage.passed)).collect()
}

const TEXT: [(Stage, bool); 4] =
    [(Stage::Parse, true), (Stage::Guards, true), (Stage::Syntax, true), (Stage::Constraints, true)];

/// Covers S1-34, S2-35.
#[test]
fn a_draft_goes_through_every_stage_and_fails_at_the_first() {
    let folder = Folder::new(&[]);
    let mut task = task("a.py", Some("grep -q 'x = 5' a.py"));
    task.lint = Some(Command::parse("grep -v -q wrong a.py").unwrap());
    task.constraints = vec!["No dependencies".into(), "Export `x`".into(), "Be nice".into()];
    let mut writer = Scripted::new(["x = (1", "import numpy\nx = 2", "x = 'wrong'", "x = 4", "x = 5"]);
    let policy = coder_tasks::Policy { attempts: 5, ..Default::default() };
    let settings = Settings { policy, ..settings() };
    let result = folder.run_with(&task, Some(&mut writer), &settings, &AtomicBool::new(false));
    assert_eq!((result.outcome, result.attempts), (Outcome::Complete, 5), "{}", result.error);
    let all: Vec<_> = result.history.iter().map(stages).collect();
    assert_eq!(all[0], [&TEXT[..2], &[(Stage::Syntax, false)]].concat());
    assert_eq!(all[1], [&TEXT[..3], &[(Stage::Constraints, false)]].concat());
    assert_eq!(all[2], [&TEXT[..], &[(Stage::Lint, false)]].concat());
    assert_eq!(all[3], [&TEXT[..], &[(Stage::Lint, true), (Stage::Test, false)]].concat());
    assert_eq!(all[4], [&TEXT[..], &[(Stage::Lint, true), (Stage::Test, true)]].concat());
    let said = |attempt: usize| &writer.asked[attempt].0.messages.last().unwrap().content;
    assert!(said(1).contains("`a.py` has syntax errors:\nline 1, column"), "{}", said(1));
    assert!(said(2).contains("breaks the rule \"No dependencies\": it takes `numpy`"), "{}", said(2));
    assert!(said(3).contains("## Command\ngrep -v -q wrong a.py\n"), "{}", said(3));
    assert!(said(4).contains("## Command\nsh -c"), "{}", said(4));
}

/// Covers S1-34, S2-35: a file that stays as it is must be what the task asks for, too.
#[test]
fn a_change_of_nothing_keeps_the_constraints_or_fails() {
    let mut rule = task("a.py", Some("true"));
    rule.constraints = vec!["Export `y`".into()];
    let code = "# Task: T\n\n## File to modify\na.py\n\n## Code to add\n```python\ny = 2\n```\n\n\
                ## Verification\nRun: true\n";
    let code = Task::parse("t.md", code).unwrap();
    for task in [&rule, &code] {
        let folder = Folder::new(&[("a.py", "x = 1\n")]);
        let mut writer = Scripted::new(["x = 1", "x = 1\ny = 2"]);
        let result = folder.run(task, Some(&mut writer));
        assert_eq!((result.outcome, result.attempts), (Outcome::Complete, 2), "{}", result.error);
        assert_eq!(stages(&result.history[0]), [&TEXT[..3], &[(Stage::Constraints, false)]].concat());
        // What the file has already is right as it is.
        let result = folder.run(task, Some(&mut Scripted::new(["x = 1\ny = 2"])));
        assert_eq!((result.outcome, result.files.len()), (Outcome::Complete, 0), "{}", result.error);
    }
}

/// Covers S1-34.
#[test]
fn errors_that_the_file_had_are_not_the_drafts() {
    let old = "def f(:\n    pass\n\nx = 1\n";
    let folder = Folder::new(&[("a.py", old)]);
    let mut writer = Scripted::new(["def f(:\n    pass\n\nx = 2"]);
    let result = folder.run(&task("a.py", Some("grep -q 'x = 2' a.py")), Some(&mut writer));
    assert_eq!((result.outcome, result.attempts), (Outcome::Complete, 1), "{}", result.error);
}

/// Covers S1-34.
#[test]
fn a_command_that_edits_its_own_test_is_refused_and_the_tree_restored() {
    let test = "exec(open('a.py').read())\nassert x == 2\n";
    let folder = Folder::new(&[("a.py", "x = 1\n"), ("tests/test_a.py", test), ("check.sh", "exit 0\n")]);
    let script = "echo pass > tests/test_a.py; rm check.sh; echo x > tests/test_b.py; exit 0";
    let mut writer = Scripted::new(["x = 3", "x = 4"]);
    let mut task = task("a.py", Some(script));
    task.command.as_mut().unwrap().argv.push("check.sh".into());
    let result = folder.run(&task, Some(&mut writer));
    assert_eq!((result.outcome, result.attempts), (Outcome::Blocked, 2));
    let changed = ["check.sh", "tests/test_a.py", "tests/test_b.py"].map(str::to_owned).to_vec();
    assert_eq!(result.history[0].verification.as_ref().unwrap().exit, Exit::Meddled(changed));
    assert!(result.error.contains("it changed `check.sh`, `tests/test_a.py`"), "{}", result.error);
    assert_eq!(folder.read("tests/test_a.py"), test);
    assert_eq!(folder.read("check.sh"), "exit 0\n");
    assert_eq!(folder.read("a.py"), "x = 1\n");
    // It may have been a person who saved them at this moment.
    let kept = |path: &str| {
        let one = result.displaced.iter().find(|one| one.path == path).unwrap();
        std::fs::read_to_string(&one.kept).unwrap()
    };
    assert_eq!((kept("tests/test_a.py"), kept("tests/test_b.py")), ("pass\n".into(), "x\n".into()));
    assert_eq!(folder.tree(), ["a.py", "check.sh", "tests", "tests/test_a.py"]);
    // A test that the task is to write is the task's.
    let own = crate::scripted::task("tests/test_a.py", Some("true"));
    let result = folder.run(&own, Some(&mut Scripted::new(["x = 2"])));
    assert_eq!(result.outcome, Outcome::Complete, "{}", result.error);
}

/// Covers S0-02, S0-18.
#[test]
fn a_line_for_a_shell_runs_only_if_it_was_approved() {
    let markdown = |run: &str| {
        let text = format!(
            "# Task: Set x\n\n## File to modify\na.py\n\n## Code to add at line 1\n```python\nx = 2\n```\n\n\
             ## Verification\n{run}\n"
        );
        Task::parse("t.md", &text).unwrap()
    };
    assert!(Task::parse("t.md", "# Task: a\n## File to modify\na\n## Verification\nRun: a && b\n").is_err());
    let task = markdown("Run (shell): grep -q x a.py && test -f a.py\nLint: true");
    assert!(task.command.as_ref().unwrap().shell && !task.lint.as_ref().unwrap().shell);
    let folder = Folder::new(&[]);
    let state = tempfile::tempdir().unwrap();
    let settings = Settings { approvals: Approvals::open(state.path().to_owned()), ..settings() };
    let cancel = AtomicBool::new(false);
    let refused = folder.run_with(&task, None, &settings, &cancel);
    assert_eq!((refused.outcome, refused.attempts), (Outcome::Refused, 0));
    assert!(refused.error.contains("`--approve-shell`"), "{}", refused.error);
    assert!(folder.tree().is_empty());
    settings.approvals.approve(task.command.as_ref().unwrap()).unwrap();
    let other = markdown("Run (shell): grep -q x a.py && test -f a.py; true");
    assert_eq!(folder.run_with(&other, None, &settings, &cancel).outcome, Outcome::Refused);
    assert_eq!(folder.run_with(&task, None, &settings, &cancel).outcome, Outcome::Complete);
    let spec = r#"{"task_id":"a","description":"b","output_file":"c","test_command":"a && b","shell":true,
                  "lint_command":"ruff check"}"#;
    let task = Task::parse("t.json", spec).unwrap();
    assert!(task.command.unwrap().shell && task.lint.unwrap().shell && task.warnings.is_empty());
}

/// Covers S1-34.
#[test]
fn without_a_sandbox_no_model_is_asked() {
    let folder = Folder::new(&[("a.py", "x = 1\n")]);
    let mut writer = Scripted::default();
    let cancel = AtomicBool::new(false);
    let result =
        folder.run_with(&task("a.py", Some("true")), Some(&mut writer), &Settings::default(), &cancel);
    assert_eq!((result.outcome, result.attempts), (Outcome::Refused, 0));
    assert!(result.error.contains("`--no-sandbox`"), "{}", result.error);
    // A task without a command needs none.
    let result = folder.run_with(
        &task("a.py", None),
        Some(&mut Scripted::new(["x = 2"])),
        &Settings::default(),
        &cancel,
    );
    assert_eq!(result.outcome, Outcome::Complete);
}
