//! What the bundled model is held to: 200 tasks of its generator, from a seed not used in training.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// No task of this seed was trained on, and none was looked at while the model was made.
const SEED: &str = "31337";

const TASKS: u64 = 200;

fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}

#[test]
fn two_hundred_unseen_tasks() {
    if !runs("python3") {
        eprintln!("no python3: the generator of tasks cannot run, so this test covers nothing here");
        return;
    }
    let mut languages = vec!["python", "rust"];
    if runs("node") {
        languages.push("javascript");
    } else {
        eprintln!("no node: only Python and Rust are covered");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let generated = Command::new("python3")
        .arg("-B")
        .arg(root.join("models/coder-tiny/generate.py"))
        .args(["--seed", SEED, "--count", &TASKS.to_string(), "--languages", &languages.join(",")])
        .arg("--out")
        .arg(folder.path())
        .status()
        .expect("the generator starts");
    assert!(generated.success());

    let output = Command::new(env!("CARGO_BIN_EXE_coder"))
        .arg("run")
        .arg(folder.path().join("tasks"))
        .arg("--working-dir")
        .arg(folder.path())
        .args(["--output-format", "json", "--no-ledger"])
        // A target folder of the tests' own, whatever the one of this build is.
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("coder starts");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let summary = &report["summary"];
    println!("{summary}");
    for result in report["results"].as_array().expect("results") {
        if result["attempts"] != 1 || result["status"] != "success" {
            println!("{} {} {}: {}", result["task_id"], result["file"], result["outcome"], result["error"]);
        }
    }
    let count = |key: &str| summary[key].as_u64().expect("a count");
    assert_eq!(count("tasks"), TASKS);
    let first = count("first_attempt");
    assert!(first * 100 >= 90 * TASKS, "{first} of {TASKS} at the first attempt");
    let after = first + count("after_retry");
    assert!(after * 100 >= 95 * TASKS, "{after} of {TASKS} after the retry");
}
