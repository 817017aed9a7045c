//! `coder run PLAN/`: the worked examples, worktrees and commits, what is printed.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{coder, copy_of, folder, json, stderr, stdout, text};

/// Runs in a folder with a state folder of its own; the exit code and the JSON.
fn run(folder: &Path, state: &Path, args: &[&str]) -> (Option<i32>, Value) {
    let fixed = ["run", "--output-format", "json", "--working-dir", text(folder), "--state-dir", text(state)];
    let output = coder(&[&fixed, args].concat()).output().unwrap();
    let value = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        value.unwrap_or_else(|error| panic!("{error}: {} {}", stdout(&output), stderr(&output))),
    )
}

fn git(folder: &Path, args: &[&str]) -> String {
    let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"];
    let output = Command::new("git").args(identity).args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", stderr(&output));
    stdout(&output).trim_end().to_string()
}

/// A copy of an example as a repository with one commit.
fn repository_of(example: &str) -> TempDir {
    let folder = copy_of(example);
    git(folder.path(), &["init", "--quiet", "--initial-branch=main", "."]);
    git(folder.path(), &["add", "--all"]);
    git(folder.path(), &["commit", "--quiet", "--message", "first"]);
    folder
}

fn outcomes(all: &Value) -> Vec<(&str, &str)> {
    let results = all["results"].as_array().unwrap().iter();
    results.map(|one| (one["task_id"].as_str().unwrap(), one["outcome"].as_str().unwrap())).collect()
}

/// Covers S0-02, S0-17, S0-18, S0-20, S0-28.
#[test]
fn the_task_file_of_line_280() {
    let folder = copy_of("examples/message_queue");
    let file = folder.path().join("crates/server/src/routes/message_queue.rs");
    let before = fs::read_to_string(&file).unwrap();
    assert_eq!(before.lines().count(), 279);
    let state = tempfile::tempdir().unwrap();
    let (code, result) = run(
        folder.path(),
        state.path(),
        &["--task-file", text(folder.path().join("task.md")), "--model", "/nonexistent"],
    );
    assert_eq!(code, Some(0), "{result}");
    assert_eq!((&result["tier"], &result["usage"]["completion_tokens"]), (&"mechanical".into(), &0.into()));
    let after = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = after.lines().collect();
    assert_eq!(
        lines[279..],
        [
            "#[cfg(test)]",
            "mod tests {",
            "    use super::*;",
            "    use db::test_utils::create_test_pool;",
            "}"
        ]
    );
    assert!(after.starts_with(&before));
}

/// Covers S0-01, S0-23, S0-24, S0-29, S1-44, S2-42.
#[test]
fn the_plan_of_nine_tasks() {
    let folder = repository_of("examples/reject_if_remote");
    let state = tempfile::tempdir().unwrap();
    let (code, all) = run(folder.path(), state.path(), &[text(folder.path().join("plan")), "--jobs", "3"]);
    assert_eq!(code, Some(0), "{all}");
    assert_eq!(all["summary"]["tasks"], 9);
    assert!(all["results"].as_array().unwrap().iter().all(|one| one["verified"] == true), "{all}");
    let log = git(folder.path(), &["log", "--reverse", "--format=%s"]);
    let subjects: Vec<&str> = log.lines().skip(1).collect();
    assert_eq!(
        subjects,
        [
            "chore(app): define these constants: `STATUS_OK` = 200,…",
            "test(test_remote): test that admin routes reject remote requests",
            "feat(app): write a function `is_loopback` that checks whether `host`…",
            "refactor(app): rename the function `forbid` to `reject`",
            "feat(app): add `reject_if_remote`",
            "test(test_loopback): write tests for `is_loopback` in app/loopback.py",
            "feat(app): import the rule in the routes",
            "feat(app): reject remote requests to admin routes",
            "docs: document who may use the admin routes"
        ]
    );
    assert_eq!(git(folder.path(), &["status", "--porcelain"]), "");
    assert_eq!(git(folder.path(), &["worktree", "list"]).lines().count(), 1);
    let tests =
        Command::new("python3").args(["-B", "-m", "unittest", "-q"]).current_dir(folder.path()).output();
    assert!(tests.unwrap().status.success());
    let stats = json(&["stats", "--json", "--state-dir", text(state.path())]);
    assert_eq!((&stats["counts"]["integrated"], &stats["counts"]["regressed"]), (&9.into(), &0.into()));
    let metrics = stats["metrics"].as_array().unwrap();
    let regressions = metrics.iter().find(|metric| metric["name"] == "regressions").unwrap();
    assert_eq!((&regressions["id"], &regressions["value"]), (&"S1-44".into(), &0.0.into()));
}

/// Covers S0-10, S1-05, S1-36, S1-37, S1-38, S1-39, S1-40.
#[test]
fn the_five_validation_cases() {
    let folder = copy_of("examples/validation");
    let state = tempfile::tempdir().unwrap();
    let (code, all) = run(folder.path(), state.path(), &["--task", text(folder.path().join("plan"))]);
    assert_eq!(code, Some(1), "{all}");
    assert_eq!(
        outcomes(&all),
        [
            ("VAL-1-util", "complete"),
            ("VAL-2-constants", "complete"),
            ("VAL-3-tests", "complete"),
            ("VAL-4a-rename", "complete"),
            ("VAL-5-hook", "blocked"),
            ("VAL-4b-imports", "complete")
        ],
        "{all}"
    );
    let hook = &all["results"][4];
    assert_eq!(hook["status"], "failed");
    assert!(
        hook["error"].as_str().unwrap().starts_with("verification `python3 -B tests/check_hook.py"),
        "{hook}"
    );
    assert!(!folder.path().join("src/hooks/useLiveHands.js").exists());
    assert!(fs::read_to_string(folder.path().join("app.py")).unwrap().contains("getBar"));
    assert!(!fs::read_to_string(folder.path().join("utils/names.py")).unwrap().contains("getFoo"));
}

const FIRST: &str = "# Task: First\n\n## File to modify\na.txt\n\n## Code\n```\na\n```\n\n## Verification\nRun: grep -q a a.txt\n";

/// Covers S1-11, S1-19.
#[test]
fn a_plan_has_results_and_a_summary_with_stable_keys() {
    let second = FIRST.replace("First", "Second").replace("a.txt", "b.txt");
    let failing = FIRST.replace("a.txt", "c.txt").replace("grep -q a c.txt", "false");
    let folder = folder(&[("plan/1.md", FIRST), ("plan/2.md", &second), ("plan/3.md", &failing)]);
    git(folder.path(), &["init", "--quiet", "."]);
    git(folder.path(), &["add", "--all"]);
    git(folder.path(), &["commit", "--quiet", "--message", "first"]);
    let state = tempfile::tempdir().unwrap();
    let args = [text(folder.path().join("plan")), "--commit", "--no-retry", "--model", "/nonexistent"];
    let (code, all) = run(folder.path(), state.path(), &args);
    assert_eq!(code, Some(1), "{all}");
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&all), ["results", "summary"]);
    for key in
        ["status", "file", "error", "outcome", "task_id", "attempts", "files", "tier", "commit", "verified"]
    {
        assert!(all["results"][0].get(key).is_some(), "`{key}` is missing: {all}");
    }
    let head = git(folder.path(), &["rev-parse", "HEAD"]);
    assert_eq!(all["results"][1]["commit"], head.as_str());
    assert_eq!(all["results"][2]["commit"], Value::Null);
    assert_ne!(all["results"][2]["error"], "");
    let (code, refused) = run(folder.path(), state.path(), &args);
    assert_eq!((code, &refused["outcome"]), (Some(1), &"refused".into()), "{refused}");
    let (_, again) = run(folder.path(), state.path(), &[&args[..], &["--resume"]].concat());
    assert_eq!(again["results"][1]["commit"], head.as_str());
    assert_eq!(again["summary"]["first_attempt"], 2);
    let undone =
        coder(&["undo", "--working-dir", text(folder.path()), "--state-dir", text(state.path())]).output();
    let undone = undone.unwrap();
    assert!(stderr(&undone).contains("its commits stay") && undone.status.success(), "{}", stderr(&undone));
}

/// Covers S4-27.
#[test]
fn as_many_tasks_are_at_work_as_cores_and_model_allow() {
    let folder = folder(&[("plan/1.md", FIRST)]);
    git(folder.path(), &["init", "--quiet", "."]);
    git(folder.path(), &["add", "--all"]);
    git(folder.path(), &["commit", "--quiet", "--message", "first"]);
    let state = tempfile::tempdir().unwrap();
    let mut command = coder(&["run", "plan", "--state-dir", text(state.path()), "--jobs", "auto"]);
    let output = command.current_dir(folder.path()).output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    // The bundled model has room for one context, and a task may take all of that.
    assert!(said.lines().any(|line| line == "note: --jobs auto is 1 here"), "{said}");
    // How many there are does not decide where they work.
    assert_eq!(git(folder.path(), &["log", "--format=%s"]).lines().count(), 2);
}

#[test]
fn progress_is_plain_lines_where_nobody_looks() {
    let second = FIRST.replace("# Task", "---\ndepends_on: [1]\n---\n# Task").replace("a.txt", "b.txt");
    let folder = folder(&[("plan/1.md", FIRST), ("plan/2.md", &second)]);
    let state = tempfile::tempdir().unwrap();
    let mut command = coder(&["run", "plan", "--state-dir", text(state.path()), "--jobs", "auto"]);
    let output = command.current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stderr(&output);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "note: --jobs needs a git repository; the tasks run one after the other",
            "1: begins",
            "1: complete (1 of 2)",
            "2: begins",
            "2: complete (2 of 2)"
        ]
    );
    assert!(!said.contains('\u{1b}'));
    assert!(stdout(&output).ends_with(" s\n") && stdout(&output).lines().count() == 3, "{}", stdout(&output));
}

/// Covers S0-11.
#[test]
fn a_plan_that_cannot_begin_is_refused_with_the_remedy() {
    let circle = FIRST.replace("# Task", "---\ndepends_on: 1\n---\n# Task");
    let folder = folder(&[("plan/1.md", &circle), ("ok/1.md", FIRST)]);
    let state = tempfile::tempdir().unwrap();
    let refused = |args: &[&str]| {
        let (code, result) = run(folder.path(), state.path(), args);
        assert_eq!((code, &result["outcome"]), (Some(1), &"refused".into()), "{result}");
        result["error"].as_str().unwrap().to_string()
    };
    assert!(refused(&[text(folder.path().join("plan"))]).contains("`1` → `1`"));
    // No key goes away.
    let (_, result) = run(folder.path(), state.path(), &[text(folder.path().join("plan"))]);
    for key in
        ["status", "file", "task_id", "attempts", "files", "tier", "usage", "cost_usd", "history", "commit"]
    {
        assert!(result.get(key).is_some(), "`{key}` is missing: {result}");
    }
    assert!(!result.to_string().contains("-0.0"), "{result}");
    let plan = text(folder.path().join("ok"));
    assert!(refused(&[plan, "--commit"]).contains("no git repository"));
    git(folder.path(), &["init", "--quiet", "."]);
    assert!(refused(&[plan, "--commit"]).contains("make a first one"));
    git(folder.path(), &["add", "--all"]);
    git(folder.path(), &["commit", "--quiet", "--message", "first"]);
    fs::write(folder.path().join("ok/1.md"), FIRST.replace("First", "Changed")).unwrap();
    assert!(refused(&[plan, "--auto-commits"]).contains("--stash"));
    let (code, all) = run(folder.path(), state.path(), &[plan, "--auto-commits", "--stash"]);
    assert_eq!(code, Some(0), "{all}");
    assert_eq!(git(folder.path(), &["status", "--porcelain"]), " M ok/1.md");
    for bad in [&["run", plan, "--jobs", "0"][..], &["run", plan, "--resume", "--restart"]] {
        assert_eq!(coder(bad).output().unwrap().status.code(), Some(2), "{bad:?}");
    }
}
