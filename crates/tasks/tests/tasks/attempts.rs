//! The loop from task to result, with a scripted writer and real commands.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::scripted::{Folder, Scripted, only, settings, task};
use coder_tasks::ledger::Verdict;
use coder_tasks::{FailureClass, Outcome, Role, Status, Task, WriterError};

const GOOD: &str = "grep -q 'x = 2' a.py";

/// Covers S1-14, S1-16, S1-17, S1-18, S1-20.
#[test]
fn the_first_draft_passes() {
    let folder = Folder::new(&[("a.py", "x = 1\n"), ("b.py", "y = 1\n")]);
    let mut task = task("a.py", Some(GOOD));
    task.context = vec!["b.py".into()];
    let mut writer = Scripted::new(["x = 2"]);
    let result = folder.run(&task, Some(&mut writer));
    assert_eq!((result.status, result.outcome), (Status::Success, Outcome::Complete));
    assert_eq!((result.error.as_str(), result.attempts, result.verified), ("", 1, true));
    assert_eq!(result.files, ["a.py"]);
    assert_eq!(result.tier.as_deref(), Some("local"));
    assert_eq!(result.usage.prompt_tokens, 10);
    assert_eq!(folder.read("a.py"), "x = 2\n");
    assert_eq!(folder.read(&result.backup.unwrap()), "x = 1\n");
    assert_eq!(folder.tree(), ["a.py", "b.py"]);
    let (prompt, options) = &writer.asked[0];
    let text = &prompt.messages[0].content;
    assert!(
        text.contains("### b.py\n```python\ny = 1\n```") && text.contains("### a.py (current content)"),
        "{text}"
    );
    assert_eq!((options.attempt, options.temperature, options.seed), (1, 0.0, 0));
}

/// Covers S1-30: what the command said goes back, once.
#[test]
fn the_exact_output_goes_back_once() {
    let folder = Folder::new(&[("a.py", "x = 1\n")]);
    let task = task("a.py", Some("cat a.py; echo 'line two' >&2; grep -q 'x = 2' a.py || exit 7"));
    let mut writer = Scripted::new(["x = 3", "x = 2"]);
    let result = folder.run(&task, Some(&mut writer));
    assert_eq!((result.outcome, result.attempts), (Outcome::Complete, 2));
    assert_eq!(
        (result.usage.prompt_tokens, result.usage.cached_tokens, result.usage.completion_tokens),
        (20, 8, 10)
    );
    assert_eq!(folder.read("a.py"), "x = 2\n");
    let (prompt, options) = &writer.asked[1];
    assert_eq!((options.attempt, options.temperature, options.seed), (2, 0.7, 1));
    assert_eq!(prompt.messages[..1], writer.asked[0].0.messages[..]);
    assert_eq!(
        (prompt.messages[1].role, prompt.messages[1].content.as_str()),
        (Role::Assistant, "```python\nx = 3\n```")
    );
    let expected = format!(
        "The verification failed: exit status 7\n\n## Command\n{}\n\n## Output\n```\nx = 3\nline two\n```\n\n\
         Write the whole file again, corrected, in the same format.",
        task.command.as_ref().unwrap().line
    );
    assert_eq!(prompt.messages[2].content, expected);
    let Verdict::Failed { class, reason } = &result.history[0].verdict else { panic!("{result:?}") };
    assert_eq!((*class, reason.as_str()), (FailureClass::Quality, "exit status 7"));
}

/// Covers S1-10, S1-55, S1-57.
#[test]
fn two_failures_restore_the_file_and_block() {
    let folder = Folder::new(&[("a.py", "x = 1\n")]);
    std::fs::set_permissions(folder.path("a.py"), std::fs::Permissions::from_mode(0o751)).unwrap();
    let mut writer = Scripted::new(["x = 3", "x = 4"]);
    let result = folder.run(&task("a.py", Some(GOOD)), Some(&mut writer));
    assert_eq!((result.status, result.outcome, result.attempts), (Status::Failed, Outcome::Blocked, 2));
    assert!(result.error.contains("failed: exit status 1"), "{}", result.error);
    assert!(result.files.is_empty() && !result.verified);
    assert_eq!(folder.read("a.py"), "x = 1\n");
    assert_eq!(folder.path("a.py").metadata().unwrap().permissions().mode() & 0o777, 0o751);
    assert_eq!(folder.read(&result.backup.unwrap()), "x = 1\n");
}

/// Covers S1-09, S1-55.
#[test]
fn a_new_file_and_its_folders_go_on_failure_and_stay_on_success() {
    let folder = Folder::new(&[("src/keep.py", "")]);
    let test = task("src/new/deep/a.py", Some("grep -q 'x = 2' src/new/deep/a.py"));
    let result = folder.run(&test, Some(&mut Scripted::new(["x = 3", "x = 4"])));
    assert_eq!(result.outcome, Outcome::Blocked);
    assert_eq!(folder.tree(), ["src", "src/keep.py"]);
    assert_eq!(result.backup, None);
    let result = folder.run(&test, Some(&mut Scripted::new(["x = 3", "x = 2"])));
    assert_eq!(result.outcome, Outcome::Complete);
    assert_eq!(folder.read("src/new/deep/a.py"), "x = 2\n");
    let history = folder.workspace().history().unwrap();
    assert_eq!(history.len(), 1, "a task that came to nothing is not in the history");
    assert_eq!(history[0].files, ["src/new/deep/a.py"]);
    folder.workspace().undo(None, false).unwrap();
    assert_eq!(folder.tree(), ["src", "src/keep.py"]);
}

/// Covers S1-09.
#[test]
fn mode_line_ends_and_final_newline_are_kept() {
    let folder = Folder::new(&[("a.py", "x = 1\r\ny = 1")]);
    std::fs::set_permissions(folder.path("a.py"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let result = folder.run(&task("a.py", Some(GOOD)), Some(&mut Scripted::new(["x = 2\ny = 1"])));
    assert_eq!(result.outcome, Outcome::Complete);
    assert_eq!(folder.read("a.py"), "x = 2\r\ny = 1");
    assert_eq!(folder.path("a.py").metadata().unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn a_task_without_a_command_is_complete_but_not_verified() {
    let folder = Folder::new(&[]);
    let result = folder.run(&task("a.py", None), Some(&mut Scripted::new(["x = 2"])));
    assert_eq!((result.outcome, result.verified), (Outcome::Complete, false));
    assert_eq!(folder.read("a.py"), "x = 2\n");
}

fn markdown(section: &str, command: &str) -> Task {
    let text = format!("# Task: A\n## File to modify\na.py\n{section}\n## Verification\nRun: {command}\n");
    Task::parse("a.md", &text).unwrap()
}

#[test]
fn a_draft_that_failed_is_asked_for_again_and_not_verified_again() {
    let folder = Folder::new(&[]);
    let mut writer = Scripted::new(["x = 1", "x = 1", "x = 1", "x = 2"]);
    let result = folder.run(&task("a.py", Some(GOOD)), Some(&mut writer));
    assert_eq!((result.outcome, result.attempts), (Outcome::Complete, 2));
    assert_eq!(result.usage.completion_tokens, 20);
    let options: Vec<_> = writer.asked.iter().map(|(_, options)| (options.attempt, options.seed)).collect();
    assert_eq!(options, [(1, 0), (2, 1), (2, 3), (2, 5)]);
    assert!(writer.asked[3].1.temperature > writer.asked[1].1.temperature);
    // A model that knows nothing else.
    let mut writer = Scripted::new(["x = 1"; 10]);
    let result = folder.run(&task("b.py", Some("false")), Some(&mut writer));
    assert_eq!((result.outcome, result.attempts), (Outcome::Blocked, 2));
    assert!(result.error.contains("failed before"), "{}", result.error);
}

/// Covers S0-20.
#[test]
fn given_code_needs_no_model() {
    let folder = Folder::new(&[("a.py", "a = 1\nb = 1\n")]);
    let task = markdown("## Code to add at line 2\n```python\nx = 2\n```", "grep -q 'x = 2' a.py");
    let result = folder.run(&task, None);
    assert_eq!((result.outcome, result.attempts, result.verified), (Outcome::Complete, 1, true));
    assert_eq!(result.tier.as_deref(), Some("mechanical"));
    assert_eq!(result.usage, coder_tasks::Usage::default());
    assert_eq!(folder.read("a.py"), "a = 1\nx = 2\nb = 1\n");
    let whole = markdown("## File content\n```python\nx = 2\n```", "grep -q 'x = 2' a.py");
    assert_eq!(folder.run(&whole, None).outcome, Outcome::Complete);
    assert_eq!(folder.read("a.py"), "x = 2\n");
}

#[test]
fn given_code_is_not_put_in_twice_if_the_command_says_that_it_is_there() {
    let folder = Folder::new(&[("a.py", "a = 1\nb = 1\n")]);
    let section = "## Code to add at line 2\n```python\nx = 2\n```";
    for _ in 0..2 {
        let result = folder.run(&markdown(section, "grep -q 'x = 2' a.py"), None);
        assert_eq!((result.outcome, result.attempts, result.verified), (Outcome::Complete, 1, true));
        assert_eq!(folder.read("a.py"), "a = 1\nx = 2\nb = 1\n");
    }
    // The same line once more is what this task is about, and only its command can tell.
    let twice = markdown(section, "awk '/x = 2/ { n++ } END { exit n != 2 }' a.py");
    assert_eq!(folder.run(&twice, None).outcome, Outcome::Complete);
    assert_eq!(folder.read("a.py"), "a = 1\nx = 2\nx = 2\nb = 1\n");
}

#[test]
fn a_model_sees_given_code_only_after_it_failed() {
    let folder = Folder::new(&[("a.py", "a = 1\n")]);
    let task = markdown("## Code to add at line 1\n```python\nx = 3\n```", "grep 'x = 2' a.py");
    let mut writer = Scripted::new(["x = 2\na = 1"]);
    let result = folder.run(&task, Some(&mut writer));
    assert_eq!((result.outcome, result.attempts), (Outcome::Complete, 2));
    assert_eq!(result.tier.as_deref(), Some("local"));
    let (prompt, options) = &writer.asked[0];
    assert_eq!((options.attempt, options.temperature), (1, 0.0));
    assert!(prompt.messages[0].content.contains("Code to add at line 1:\n```python\nx = 3\n```"));
    assert_eq!(prompt.messages[1].content, "```python\nx = 3\na = 1\n```");
    assert!(prompt.messages[2].content.contains("exit status 1"));
    assert_eq!(folder.read("a.py"), "x = 2\na = 1\n");
    let result = folder.run(&markdown("## Code to add at line 9\n```\nx\n```", "true"), None);
    assert_eq!(result.outcome, Outcome::Blocked);
    assert!(result.error.contains("`9`"), "{}", result.error);
}

/// The task carries its code; a model that is to find the place for it does not write another.
#[test]
fn code_that_a_model_places_stays_as_it_is_given() {
    let section = "## Code to add at line 9\n```python\ndef f():\n    return 1\n```";
    for section in [section, &section.replace(" at line 9", "")] {
        let folder = Folder::new(&[("a.py", "x = 1\n")]);
        let mut writer = Scripted::new(["x = 1\ny = 2", "x = 1\n\nif x:\n    def f():\n\n        return 1"]);
        let result = folder.run(&markdown(section, "true"), Some(&mut writer));
        assert_eq!(result.outcome, Outcome::Complete, "{result:#?}");
        let retry = &writer.asked[1].0.messages[2].content;
        assert!(retry.contains("the code of the task is not in it"), "{retry}");
        assert_eq!(folder.read("a.py"), "x = 1\n\nif x:\n    def f():\n\n        return 1\n");
    }
}

#[test]
fn a_bad_reply_is_an_attempt_and_is_never_written() {
    let folder = Folder::new(&[("a.py", "x = 1\n")]);
    let mut writer = Scripted::new(["x = 2\n<<<<<<< HEAD", "x = 2"]);
    let result = folder.run(&task("a.py", Some(GOOD)), Some(&mut writer));
    assert_eq!((result.outcome, result.attempts), (Outcome::Complete, 2));
    let retry = &writer.asked[1].0.messages[2].content;
    assert!(retry.contains("line `2` of the new content is a conflict marker"), "{retry}");
    let replies = [Ok("```python b.py\nx = 2\n```".to_owned()), Ok(String::new())].into();
    let mut wrong = Scripted { replies, ..Scripted::default() };
    let result = folder.run(&task("a.py", Some(GOOD)), Some(&mut wrong));
    assert_eq!(result.outcome, Outcome::Blocked);
    assert!(result.error.contains("reply is empty"), "{}", result.error);
    assert_eq!(folder.tree(), ["a.py"]);
}

#[test]
fn failures_that_are_not_the_models_stop_at_once() {
    let folder = Folder::new(&[("a.py", "x = 1\n")]);
    let replies = [Err(WriterError::new(FailureClass::Availability, "no device"))].into();
    let mut writer = Scripted { replies, ..Scripted::default() };
    let result = folder.run(&task("a.py", Some(GOOD)), Some(&mut writer));
    assert_eq!((result.outcome, result.error.as_str()), (Outcome::Unavailable, "no device"));
    let mut missing = task("a.py", None);
    missing.command = Some(coder_tasks::Command::parse("no-such-program a.py").unwrap());
    let result = folder.run(&missing, Some(&mut Scripted::new(["x = 2"])));
    assert_eq!((result.outcome, result.attempts), (Outcome::Refused, 1));
    assert!(result.error.contains("`no-such-program` was not found"), "{}", result.error);
    assert_eq!(folder.read("a.py"), "x = 1\n");
    let result = folder.run(&task("a.py", Some(GOOD)), None);
    assert_eq!(result.outcome, Outcome::Unavailable);
    assert!(result.error.contains("name a model"), "{}", result.error);
}

#[test]
fn a_missing_context_file_is_refused_before_a_model_is_asked() {
    let folder = Folder::new(&[]);
    let mut task = task("a.py", None);
    task.context = vec!["gone.py".into()];
    let result = folder.run(&task, Some(&mut Scripted::default()));
    assert_eq!((result.outcome, result.attempts), (Outcome::Refused, 0));
    assert!(result.error.contains("gone.py"), "{}", result.error);
    assert!(folder.tree().is_empty());
}

#[test]
fn secrets_are_not_shown_to_a_model() {
    let folder = Folder::new(&[("a.py", ""), (".env", "TOKEN=1\n"), ("keys/id_rsa", "x\n")]);
    for secret in [".env", "keys/id_rsa"] {
        let mut task = task("a.py", None);
        task.context = vec![secret.into()];
        let result = folder.run(&task, Some(&mut Scripted::default()));
        assert_eq!((result.outcome, result.attempts), (Outcome::Refused, 0));
        assert!(result.error.contains("may hold secrets"), "{}", result.error);
    }
}

/// Covers S1-55.
#[test]
fn what_another_program_wrote_meanwhile_is_left_alone() {
    let folder = Folder::new(&[("a.py", "x = 1\n")]);
    let mut writer = Scripted::new(["x = 2"]);
    let path = folder.path("a.py");
    writer.on_draft = Some(Box::new(move || std::fs::write(&path, "mine\n").unwrap()));
    let result = folder.run(&task("a.py", Some(GOOD)), Some(&mut writer));
    assert_eq!(result.outcome, Outcome::Refused);
    assert!(result.error.contains("changed by another program"), "{}", result.error);
    assert_eq!(folder.read("a.py"), "mine\n");
    assert_eq!(folder.tree(), ["a.py"]);
}

/// A command that leaves the file otherwise than it found it is asked again about what it left.
#[test]
fn what_stays_is_what_was_verified() {
    let folder = Folder::new(&[("a.py", "x = 1\n")]);
    let formatter = "echo ran >> log; grep -q 'x = [12]' a.py && printf 'x = 2 # formatted\\n' > a.py";
    let result = folder.run(&task("a.py", Some(formatter)), Some(&mut Scripted::new(["x = 2"])));
    assert_eq!((result.outcome, result.verified), (Outcome::Complete, true));
    assert_eq!(
        (folder.read("a.py"), folder.read("log")),
        ("x = 2 # formatted\n".into(), "ran\nran\n".into())
    );
    let before = folder.read("a.py");
    // No draft can help a command that never settles.
    let mut writer = Scripted::new(["x = 3"]);
    let result = folder.run(&task("a.py", Some("echo '# again' >> a.py")), Some(&mut writer));
    assert_eq!((result.outcome, result.attempts, result.verified), (Outcome::Refused, 1, false));
    assert!(result.error.contains("it changes `a.py` each time it runs; make it settle"), "{}", result.error);
    assert_eq!(folder.read("a.py"), before);
}

/// An editor saves what it had read before, or the command itself takes the edit back: neither is an edit that was
/// approved of.
#[test]
fn an_edit_that_is_gone_after_a_command_was_not_approved() {
    let folder = Folder::new(&[("a.py", "x = 1\n")]);
    let save = "test -e once || printf 'x = 1\\n' > a.py; touch once";
    for (lint, test) in [(save, "true"), ("true", save)] {
        std::fs::write(folder.path("a.py"), "x = 1\n").unwrap();
        let _ = std::fs::remove_file(folder.path("once"));
        let mut task = task("a.py", Some(test));
        task.lint = Some(coder_tasks::Command {
            argv: ["sh", "-c", lint].map(str::to_owned).into(),
            ..task.command.clone().unwrap()
        });
        let mut writer = Scripted::new(["x = 2", "x = 2"]);
        let result = folder.run(&task, Some(&mut writer));
        assert_eq!((result.outcome, result.attempts), (Outcome::Complete, 2), "{}", result.error);
        assert_eq!((result.files, folder.read("a.py")), (vec!["a.py".to_owned()], "x = 2\n".into()));
        let retry = &writer.asked[1].0.messages[2].content;
        assert!(retry.contains("after it `a.py` is as it was before the edit"), "{retry}");
    }
    let result = folder
        .run(&task("a.py", Some("printf 'x = 2\\n' > a.py")), Some(&mut Scripted::new(["x = 3", "x = 4"])));
    assert_eq!((result.outcome, result.attempts), (Outcome::Blocked, 2));
    assert_eq!(folder.read("a.py"), "x = 2\n");
}

/// A second run of the same task: the model repeats the file, and the command tells whether that is right.
#[test]
fn a_task_that_is_done_already_is_complete_if_its_command_says_so() {
    let folder = Folder::new(&[("a.py", "x = 2\n")]);
    let result = folder.run(&task("a.py", Some(GOOD)), Some(&mut Scripted::new(["x = 2"])));
    assert_eq!((result.status, result.outcome), (Status::Success, Outcome::Complete));
    assert_eq!((result.attempts, result.verified, result.files.len()), (1, true, 0));
    assert_eq!(result.note, Some("nothing had to change"));
    assert_eq!(folder.read("a.py"), "x = 2\n");
    assert!(folder.workspace().history().unwrap().is_empty());
    // What the command refuses is refused, in the words of both.
    let other = task("a.py", Some("echo still; grep -q 'x = 3' a.py"));
    let mut writer = Scripted::new(["x = 2", "x = 3"]);
    let result = folder.run(&other, Some(&mut writer));
    assert_eq!((result.outcome, result.attempts, result.note), (Outcome::Complete, 2, None));
    let retry = &writer.asked[1].0.messages[2].content;
    assert!(retry.contains("the reply changes nothing; exit status 1"), "{retry}");
    assert!(retry.contains("## Output\n```\nstill\n```"), "{retry}");
    // The same again is what failed before, and without a command nobody can tell.
    let mut writer = Scripted::new(["x = 3"; 10]);
    let result = folder.run(&task("a.py", Some(GOOD)), Some(&mut writer));
    assert_eq!(result.outcome, Outcome::Blocked);
    assert!(
        result.error.contains("failed before (the reply changes nothing; exit status 1)"),
        "{}",
        result.error
    );
    let result = folder.run(&task("a.py", None), Some(&mut Scripted::new(["x = 3", "x = 3"])));
    assert_eq!((result.outcome, result.attempts), (Outcome::Blocked, 2));
    assert!(result.error.contains("changes nothing"), "{}", result.error);
}

#[test]
fn a_cancelled_run_restores() {
    let folder = Folder::new(&[("a.py", "x = 1\n")]);
    let cancel = Arc::new(AtomicBool::new(false));
    let mut writer = Scripted::new(["x = 2"]);
    let flag = cancel.clone();
    writer.on_draft = Some(Box::new(move || flag.store(true, Ordering::Relaxed)));
    let result = folder.run_with(&task("a.py", Some(GOOD)), Some(&mut writer), &settings(), &cancel);
    assert_eq!((result.outcome, result.error.as_str()), (Outcome::Cancelled, "cancelled"));
    assert_eq!((result.status, result.backup), (Status::Failed, None));
    assert_eq!(folder.read("a.py"), "x = 1\n");
}

#[test]
fn a_run_cancelled_while_verifying_restores() {
    let folder = Folder::new(&[("a.py", "x = 1\n")]);
    let cancel = AtomicBool::new(false);
    let pipe = folder.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let test = task("a.py", Some("echo > pipe; exec sleep 60"));
    let mut writer = Scripted::new(["x = 2"]);
    let result = std::thread::scope(|scope| {
        // The pipe opens when the command runs, so the file is written by then.
        scope.spawn(|| {
            let _ = std::fs::read(&pipe);
            assert_eq!(folder.read("a.py"), "x = 2\n");
            cancel.store(true, Ordering::Relaxed);
        });
        let workspace = folder.workspace();
        coder_tasks::run_task(&test, &workspace, &mut only(&mut writer), &settings(), &mut |_| {}, &cancel)
    });
    assert_eq!(result.outcome, Outcome::Cancelled);
    assert_eq!(folder.read("a.py"), "x = 1\n");
}

/// Covers S1-11, S1-12, S1-19.
#[test]
fn the_result_has_its_keys_in_order() {
    let folder = Folder::new(&[("a.py", "x = 1\n")]);
    let result = folder.run(&task("a.py", Some(GOOD)), Some(&mut Scripted::new(["x = 2"])));
    let text = serde_json::to_string(&result).unwrap();
    let keys = [
        "status", "file", "error", "outcome", "task_id", "attempts", "files", "tier", "usage", "cost_usd",
        "seconds", "backup", "verified", "history",
    ];
    let places: Vec<usize> = keys.iter().map(|key| text.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
    assert!(text.starts_with(
        r#"{"status":"success","file":"a.py","error":"","outcome":"complete","task_id":"T-1","attempts":1,"#
    ));
}
