//! The sandbox of commands, as the program sets it up: with this program as its own launcher.

use std::path::Path;

use tempfile::TempDir;

use crate::support::{coder, folder, json, stderr, stdout, text};

/// A task that a rule can do, verified by this command.
fn task(run: &str) -> TempDir {
    let task = format!(
        "# Task: Set x\n\n## File to modify\na.py\n\n## Code to add at line 1\n```python\nx = 2\n```\n\n\
         ## Verification\n{run}\n"
    );
    folder(&[("task.md", &task)])
}

fn run(task: &TempDir, state: &Path, args: &[&str]) -> (bool, String) {
    let args = [&["run", "task.md", "--no-ledger", "--attempts", "0"], args].concat();
    let output = coder(&args).current_dir(task).env("XDG_STATE_HOME", state).output().unwrap();
    (output.status.success(), stdout(&output) + &stderr(&output))
}

/// Covers S1-34.
#[test]
fn doctor_says_which_sandbox_is_there() {
    let found = json(&["doctor", "--json"]);
    assert_eq!(found["sandbox"]["works"], true, "{}", found["sandbox"]);
    let means = found["sandbox"]["means"].as_str().unwrap();
    assert!(means.contains("bwrap") || means.contains("Landlock"), "{means}");
    let lines = stdout(&coder(&["doctor"]).output().unwrap());
    assert!(lines.contains(&format!("sandbox  {means}\n")), "{lines}");
}

/// Covers S1-34.
#[test]
fn a_command_writes_in_the_working_directory_only() {
    // Not among other temporary files, in whose place a command sees a folder of its own.
    let outside = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let target = outside.path().join("written");
    let hostile = task(&format!("Run: touch {}", target.display()));
    let (done, said) = run(&hostile, outside.path(), &[]);
    assert!(!done && said.contains("blocked"), "{said}");
    assert!(!target.exists() && !hostile.path().join("a.py").exists());
    let (done, said) = run(&hostile, outside.path(), &["--sandbox-write", text(outside.path())]);
    assert!(done && target.exists(), "{said}");
    std::fs::remove_file(&target).unwrap();
    let (done, said) = run(&hostile, outside.path(), &["--no-sandbox"]);
    assert!(done && target.exists(), "{said}");
    let (done, said) = run(&task("Run: touch here"), outside.path(), &[]);
    assert!(done, "{said}");
}

/// What the program knows to be a secret from its configuration and its environment, no command can read.
#[test]
fn secrets_of_the_program_are_hidden() {
    // Not among other temporary files, in whose place a command sees a folder of its own.
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let key = place.path().join("keys/anthropic");
    for file in ["keys/anthropic", "hf/token", "state/ledger", "config/coder/other.toml", "plain"] {
        let file = place.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "hunter2\n").unwrap();
    }
    let config = format!("[endpoints.anthropic]\nkey_file = {:?}\n", key.display().to_string());
    std::fs::write(place.path().join("config/coder/coder.toml"), config).unwrap();
    let reads = |file: &str, more: &[&str]| {
        let task = task(&format!("Run: grep -q hunter2 {}", place.path().join(file).display()));
        let state = place.path().join("state");
        let args = ["run", "task.md", "--no-ledger", "--attempts", "0", "--state-dir", text(&state)];
        let mut command = coder(&[&args, more].concat());
        command.current_dir(&task).env("XDG_CONFIG_HOME", place.path().join("config"));
        let output = command.env("HF_HOME", place.path().join("hf")).output().unwrap();
        (output.status.success(), stdout(&output) + &stderr(&output))
    };
    let (done, said) = reads("plain", &[]);
    assert!(done, "{said}");
    for file in ["keys/anthropic", "hf/token", "state/ledger", "config/coder/other.toml"] {
        let (done, said) = reads(file, &[]);
        assert!(!done && said.contains("blocked"), "{file}: {said}");
    }
    let (done, said) = reads("keys/anthropic", &["--no-sandbox"]);
    assert!(done, "{said}");
}

#[test]
fn a_time_limit_that_is_none_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let task = task("Run: true");
    for seconds in ["0", "86401", "18446744073709551615"] {
        let args = ["run", "task.md", "--timeout", seconds];
        let output = coder(&args).current_dir(&task).env("XDG_STATE_HOME", state.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{seconds}: {}", stderr(&output));
    }
    let (done, said) = run(&task, state.path(), &["--timeout", "86400"]);
    assert!(done, "{said}");
}

/// Covers S0-02.
#[test]
fn a_line_for_a_shell_is_approved_once() {
    let state = tempfile::tempdir().unwrap();
    let task = task("Run (shell): test -f a.py && echo \"it's there\"");
    let (done, said) = run(&task, state.path(), &[]);
    assert!(!done && said.contains("`--approve-shell`"), "{said}");
    assert!(!task.path().join("a.py").exists());
    let (done, said) = run(&task, state.path(), &["--approve-shell"]);
    assert!(done && said.contains("test -f a.py && echo \"it's there\""), "{said}");
    std::fs::remove_file(task.path().join("a.py")).unwrap();
    let (done, said) = run(&task, state.path(), &[]);
    assert!(done, "{said}");
}
