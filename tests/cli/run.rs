//! `coder run`: from a task file to a verified edit.

use std::fs;

use serde_json::Value;

use crate::support::{STATE, coder, copy_of, folder, stderr, stdout, text};

const INSERT: &str = "---\nname: insert\nmodel: local\n---\n# Task: Add a line\n\n## File to modify\nnotes.txt\n\n\
                      ## Code to add at line 2\n```\ntwo\n```\n\n## Verification\nRun: grep -q two notes.txt\n";

/// Runs and parses the result; nothing but the result may be on standard output.
fn run(args: &[&str]) -> (Option<i32>, Value) {
    let output = coder(&[&["run", "--output-format", "json"], args].concat()).output().unwrap();
    let value = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        value.unwrap_or_else(|error| panic!("{error}: {} {}", stdout(&output), stderr(&output))),
    )
}

#[test]
fn given_code_is_applied_without_a_model() {
    let folder = folder(&[("task.md", INSERT), ("notes.txt", "one\nthree\n")]);
    let (code, result) = run(&[
        text(folder.path().join("task.md")),
        "--working-dir",
        text(folder.path()),
        "--model",
        "/nonexistent",
    ]);
    assert_eq!(code, Some(0), "{result}");
    assert_eq!(fs::read_to_string(folder.path().join("notes.txt")).unwrap(), "one\ntwo\nthree\n");
    assert_eq!(result["status"], "success");
    assert_eq!(result["outcome"], "complete");
    assert_eq!(result["file"], "notes.txt");
    assert_eq!(result["error"], "");
    for key in ["task_id", "attempts", "files", "tier", "usage", "cost_usd", "seconds", "backup"] {
        assert!(result.get(key).is_some(), "`{key}` is missing: {result}");
    }
    let backup = folder.path().join(result["backup"].as_str().unwrap());
    assert_eq!(fs::read_to_string(backup).unwrap(), "one\nthree\n");
}

/// Covers S1-32: a task that writes no file is its command, and no model is opened.
#[test]
fn a_check_needs_no_model() {
    let task = "---\nid: last\noutput_files: []\n---\n# Task: All of it\n\n## Verification\nRun: grep -q one notes.txt\n";
    let folder = folder(&[("last.md", task), ("notes.txt", "one\n")]);
    let file = text(folder.path().join("last.md"));
    let args = [file, "--working-dir", text(folder.path()), "--model", "/nonexistent"];
    let (code, result) = run(&args);
    assert_eq!(
        (code, &result["outcome"], &result["file"]),
        (Some(0), &"complete".into(), &"".into()),
        "{result}"
    );
    assert_eq!((&result["verified"], &result["tier"]), (&true.into(), &"mechanical".into()));
    let output = coder(&[&["run"], &args[..]].concat()).output().unwrap();
    assert!(stdout(&output).starts_with("last: complete, verified, "), "{}", stdout(&output));
    let output = coder(&["check", file]).output().unwrap();
    let said = stdout(&output);
    assert!(output.status.success() && said.starts_with("last: local, "), "{said}");
    assert!(said.contains("its command decides, and no model is needed"), "{said}");
    fs::write(folder.path().join("notes.txt"), "two\n").unwrap();
    let (code, result) = run(&args);
    assert_eq!((code, &result["outcome"]), (Some(1), &"blocked".into()), "{result}");
}

#[test]
fn what_does_not_verify_is_taken_back() {
    let task = r#"{"task_id": "T-001", "description": "Write a function `f` that returns `x` plus 1.",
        "output_file": "f.py", "context_files": [], "constraints": [], "test_command": "false"}"#;
    let folder = folder(&[("task.json", task), ("f.py", "# the old file\n")]);
    let (code, result) =
        run(&["--task-file", text(folder.path().join("task.json")), "--working-dir", text(folder.path())]);
    assert_eq!(code, Some(1));
    assert_eq!(result["status"], "failed");
    assert_eq!(result["outcome"], "blocked");
    assert_ne!(result["error"], "");
    assert_eq!(fs::read_to_string(folder.path().join("f.py")).unwrap(), "# the old file\n");
}

#[test]
fn the_exit_code_does_not_depend_on_who_reads_the_results() {
    let failing = INSERT.replace("grep -q two notes.txt", "false");
    let folder = folder(&[("good.md", INSERT), ("bad.md", &failing), ("notes.txt", "one\n")]);
    for (task, code) in [("bad.md", 1), ("good.md", 0)] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_coder"));
        command.args(["run", task, "--attempts", "0", "--no-ledger"]).env("XDG_STATE_HOME", STATE);
        command.current_dir(folder.path()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{task}");
    }
}

#[test]
fn several_tasks_have_a_summary() {
    let second = INSERT.replace("two", "new").replace("line 2", "line 1");
    let folder = folder(&[("tasks/1.md", INSERT), ("tasks/2.md", &second), ("notes.txt", "one\nthree\n")]);
    let (tasks, root) = (text(folder.path().join("tasks")), text(folder.path()));
    let (code, all) = run(&[tasks, "--working-dir", root]);
    assert_eq!(code, Some(0), "{all}");
    assert_eq!(all["results"].as_array().unwrap().len(), 2);
    assert_eq!(all["summary"]["tasks"], 2);
    assert_eq!(all["summary"]["first_attempt"], 2);
    assert_eq!(all["summary"]["blocked"], 0);
    assert_eq!(fs::read_to_string(folder.path().join("notes.txt")).unwrap(), "new\none\ntwo\nthree\n");
    let output = coder(&["run", tasks, "--working-dir", root]).output().unwrap();
    assert!(stdout(&output).lines().count() >= 3, "{}", stdout(&output));
}

/// No part of the file stands in it once but nearly all of it, which is more than a reply may have.
///
/// Covers S0-11.
#[test]
fn where_no_edit_fits_into_the_tokens_whole_files_are_asked_for_and_a_note_says_so() {
    let task = r#"{"task_id": "T-001", "description": "Write y.", "output_file": "notes.txt"}"#;
    let folder = folder(&[("task.json", task), ("notes.txt", &"x\n".repeat(160))]);
    let run = |form: &str| {
        let mut command =
            coder(&["run", "task.json", "--max-tokens", "64", "--no-retry", "--edit-format", form]);
        command.current_dir(folder.path()).output().unwrap()
    };
    let said = stderr(&run("auto"));
    let note = "note: T-001: whole files in place of edits: an edit may need";
    assert!(said.contains(note), "{said}");
    let asked = run("diff");
    assert!(!stderr(&asked).contains("whole files"), "{}", stderr(&asked));
    assert!(stdout(&asked).contains("unavailable"), "{}", stdout(&asked));
}

#[test]
fn a_bad_task_file_is_an_error_with_a_remedy() {
    let folder = folder(&[("task.md", "nothing\n"), ("empty/readme.txt", "")]);
    for path in ["task.md", "missing.md", "empty"] {
        let output = coder(&["run", text(folder.path().join(path))]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{path}");
        assert!(stderr(&output).starts_with("error: "), "{path}: {}", stderr(&output));
    }
    assert_eq!(coder(&["run"]).output().unwrap().status.code(), Some(2));
}

/// Covers S1-03: a file is made from a reply of fixed form, and a command decides.
#[test]
fn the_readmes_example_is_written_by_the_bundled_model() {
    let folder = copy_of("examples/slugify");
    let _ = fs::remove_file(folder.path().join("src/slugify.rs"));
    let (code, result) = run(&[text(folder.path().join("task.md")), "--working-dir", text(folder.path())]);
    assert_eq!(code, Some(0), "{result}");
    assert!(fs::read_to_string(folder.path().join("src/slugify.rs")).unwrap().contains("pub fn slugify"));
    assert!(result["usage"]["completion_tokens"].as_u64().unwrap() > 0, "{result}");
}

#[test]
fn the_example_tasks_are_done() {
    let folder = copy_of("examples/tasks");
    for made in ["limits.rs", "numbers.rs"] {
        let _ = fs::remove_file(folder.path().join("src").join(made));
    }
    let (code, all) = run(&[text(folder.path()), "--working-dir", text(folder.path())]);
    assert_eq!(code, Some(0), "{all}");
    assert_eq!(all["summary"]["tasks"], 3);
}
