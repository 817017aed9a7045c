//! `coder stats` and `coder tokenize --audit`: what runs leave in the ledger, and what is made of it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{coder, folder, stderr, stdout, text};

const INSERT: &str = "---\nname: insert\nmodel: local\n---\n# Task: Add a line\n\n## File to modify\nnotes.txt\n\n\
                      ## Code to add at line 1\n```\none\n```\n\n## Verification\nRun: grep -q one notes.txt\n";

const FAIL: &str = r#"{"task_id": "T-001", "description": "Write a function `f` that returns `x` plus 1.",
    "output_file": "f.py", "context_files": [], "constraints": [], "test_command": "false"}"#;

/// A folder of tasks, and a state folder of its own.
struct Place {
    work: TempDir,
    state: TempDir,
}

impl Place {
    fn new() -> Place {
        Place::of(&[("insert.md", INSERT), ("fail.json", FAIL), ("notes.txt", "two\n")])
    }

    fn of(files: &[(&str, &str)]) -> Place {
        Place { work: folder(files), state: folder(&[]) }
    }

    fn path(&self, path: &str) -> &'static str {
        text(self.work.path().join(path))
    }

    fn state(&self, path: &str) -> &'static str {
        text(self.state.path().join(path))
    }

    fn coder(&self, args: &[&str]) -> std::process::Output {
        coder(args).env("XDG_STATE_HOME", self.state.path()).current_dir(self.work.path()).output().unwrap()
    }

    fn run(&self, args: &[&str]) -> std::process::Output {
        self.coder(&[&["run", "--output-format", "json"], args].concat())
    }

    fn stats(&self, args: &[&str]) -> Value {
        let output = self.coder(&[&["stats", "--json"], args].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn metric<'a>(stats: &'a Value, id: &str) -> &'a Value {
    stats["metrics"].as_array().unwrap().iter().find(|metric| metric["id"] == id).unwrap()
}

/// Covers S1-49, S2-27, S2-38, S2-39: what runs did is what the figures say.
#[test]
fn runs_are_in_the_figures() {
    let place = Place::new();
    assert!(place.run(&["insert.md"]).status.success());
    assert_eq!(place.run(&["fail.json"]).status.code(), Some(1));
    let stats = place.stats(&[]);
    let counts = &stats["counts"];
    assert_eq!(
        (&counts["tasks"], &counts["complete"], &counts["blocked"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(
        (&counts["tiers"]["mechanical"]["attempts"], &counts["tiers"]["local"]["attempts"]),
        (&json!(1), &json!(2))
    );
    assert!(counts["tiers"]["local"]["usage"]["prompt_tokens"].as_u64().unwrap() > 20);
    assert!(counts["tiers"]["local"]["seconds"].as_f64().unwrap() > 0.0);
    let delegation = metric(&stats, "S1-41");
    assert_eq!((&delegation["value"], &delegation["met"]), (&json!(1.0), &json!(true)));
    assert_eq!(metric(&stats, "S1-42")["value"], 0.5);
    // No cloud model had a part in it, so there is nothing to compare with.
    assert_eq!(metric(&stats, "S3-39")["value"], Value::Null);
    let local = &stats["localModelStats"];
    let expected = json!({"totalAttempts": 1, "successCount": 0, "escalatedToCloud": 1,
        "failuresByType": {"test": 1}, "avgQualityScore": 0.0});
    assert_eq!(local, &expected);

    let sessions = place.stats(&["--by", "session"]);
    assert_eq!(sessions["groups"].as_array().unwrap().len(), 2);
    let log = place.stats(&["--log"]);
    let attempts = log["tasks"][1]["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[1]["result"]["failed"]["gate"]), (2, &json!("test")));
    assert_eq!((&attempts[0]["tier"], &attempts[0]["model"]), (&json!("local"), &json!("coder-tiny")));
    assert!(stdout(&place.coder(&["stats", "--log"])).contains("  f.py "));
    let models = place.stats(&["--by", "model"]);
    assert!(models["groups"].as_array().unwrap().iter().any(|group| group["name"] == "coder-tiny"));
    assert_eq!(place.stats(&["--tier", "free"])["counts"]["tasks"], 1);
    assert_eq!(place.stats(&["--since", "1h"])["counts"]["tasks"], 2);
    assert_eq!(place.stats(&["--since", "2999-01-01"])["counts"]["tasks"], 0);
    let table = stdout(&place.coder(&["stats"]));
    for expected in [
        "2 tasks from ",
        "S1-41  delegation",
        "2 / 2",
        "no data",
        "local attempts: 1, 0 done, 1 escalated (test 1)",
    ] {
        assert!(table.contains(expected), "{expected}\n{table}");
    }
    assert!(stdout(&place.coder(&["stats", "--by", "task"])).contains("\nT-001 "));
}

/// Covers S0-35: cloud and electricity against all by the best model, at prices that the user may change.
#[test]
fn prices_are_data() {
    let place = Place::new();
    let none = place.coder(&["stats"]);
    assert!(none.status.success());
    assert!(stdout(&none).starts_with("no data: no task has been run yet"), "{}", stdout(&none));
    assert!(!Path::new(place.state("coder/ledger.db")).exists());
    assert_eq!(place.run(&["fail.json"]).status.code(), Some(1));
    let task = FAIL.replace("\"false\"", "\"true\"");
    fs::write(place.path("pass.json"), task).unwrap();
    assert!(place.run(&["pass.json"]).status.success());
    let prices = r#"{"date": "2030-01-01", "models": [{"rung": "opus", "model": "x", "input_usd": 1000000, "cached_usd": 0,
        "output_usd": 0}]}"#;
    fs::write(place.path("prices.json"), prices).unwrap();
    let stats = place.stats(&["--prices", "prices.json", "--watts", "1000", "--kwh-usd", "3.6"]);
    assert_eq!(stats["prices"], "2030-01-01");
    // At a dollar a token, the prompt of the complete task costs its tokens.
    assert_eq!(stats["cost"]["all_best_usd"], stats["counts"]["baseline"]["prompt_tokens"].as_f64().unwrap());
    let seconds = stats["counts"]["tiers"]["local"]["seconds"].as_f64().unwrap();
    let electricity = stats["cost"]["electricity_usd"].as_f64().unwrap();
    assert!((electricity - seconds * 1e-3).abs() < 1e-9, "{electricity} {seconds}");
    assert_eq!(metric(&place.stats(&[]), "S0-35")["value"], Value::Null);
    fs::write(place.path("prices.json"), "{\"models\": 3}").unwrap();
    let refused = place.coder(&["stats", "--prices", "prices.json"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).starts_with("error: `prices.json`: prices: "), "{}", stderr(&refused));
}

/// Covers S2-27, S2-28: the file, the version, the words.
#[test]
fn the_state_file_is_made_and_migrated() {
    let place = Place::new();
    let said = place.coder(&["stats", "--export"]);
    assert_eq!(stdout(&said), "State ready: .claude/implementer-state.json\n");
    let read = || -> Value {
        serde_json::from_str(&fs::read_to_string(place.path(".claude/implementer-state.json")).unwrap())
            .unwrap()
    };
    assert_eq!(read()["version"], "6.1");
    assert_eq!(read()["stats"]["localModelStats"]["totalAttempts"], 0);
    let old = r#"{"version": "6.0", "stats": {"reviewStats": {}, "other": 1}, "waves": [1]}"#;
    fs::write(place.path(".claude/implementer-state.json"), old).unwrap();
    assert_eq!(place.run(&["fail.json"]).status.code(), Some(1));
    for _ in 0..2 {
        assert!(place.coder(&["stats", "--export"]).status.success());
        let state = read();
        assert_eq!((&state["version"], &state["waves"]), (&json!("6.1"), &json!([1])));
        let keys: Vec<&String> = state["stats"].as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), 3);
        assert_eq!(state["stats"]["localModelStats"]["escalatedToCloud"], 1);
    }
    fs::write(place.path("broken.json"), "{").unwrap();
    let refused = place.coder(&["stats", "--export", "broken.json"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("move it away"), "{}", stderr(&refused));
    assert_eq!(fs::read_to_string(place.path("broken.json")).unwrap(), "{");
}

#[test]
fn the_ledger_lies_in_the_state_folder() {
    let place = Place::new();
    let own = place.state("own");
    assert!(place.run(&["insert.md", "--state-dir", own]).status.success());
    assert!(Path::new(place.state("own/ledger.db")).exists());
    assert!(!Path::new(place.state("coder/ledger.db")).exists());
    assert_eq!(place.stats(&["--state-dir", own])["counts"]["tasks"], 1);
    assert_eq!(place.stats(&[])["counts"]["tasks"], 0);
    // A file that is named is taken wherever the folder is.
    assert!(place.run(&["insert.md", "--state-dir", own, "--ledger", "named.db"]).status.success());
    assert_eq!(place.stats(&["--ledger", "named.db"])["counts"]["tasks"], 1);
    assert_eq!(place.stats(&["--state-dir", own])["counts"]["tasks"], 1);
    let refused = place.run(&["insert.md", "--state-dir", "inside"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stdout(&refused).contains("is inside the working directory"), "{}", stdout(&refused));
    assert!(!Path::new(place.path("inside")).exists());
}

#[test]
fn a_policy_of_ones_own_says_the_category_in_the_ledger() {
    let place = Place::new();
    let built_in = stdout(&coder(&["check", "--show-policy"]).output().unwrap());
    let own = built_in.replacen("\"reducer*\": 8", "\"reducer*\": 8\n      \"line\": 50", 1);
    fs::write(place.path("own.yaml"), own).unwrap();
    assert!(place.run(&["insert.md", "--policy", "own.yaml"]).status.success());
    assert!(place.run(&["insert.md"]).status.success());
    let groups = place.stats(&["--by", "category"])["groups"].clone();
    let names: Vec<_> = groups.as_array().unwrap().iter().map(|group| group["name"].clone()).collect();
    assert!(names.contains(&json!("reducer")) && names.len() == 2, "{names:?}");
    fs::write(place.path("own.yaml"), "atomic: {}").unwrap();
    let refused = place.run(&["insert.md", "--policy", "own.yaml"]);
    assert_eq!(refused.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert!(said["error"].as_str().unwrap().starts_with("policy tables `own.yaml`: "), "{said}");
    assert_eq!(coder(&["stats", "--by", "weather"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn a_ledger_that_cannot_be_costs_a_warning() {
    let place = Place::new();
    let blocked = place.run(&["insert.md", "--ledger", "/dev/null/ledger.db"]);
    assert!(blocked.status.success());
    assert_eq!(stderr(&blocked).matches("warning: ").count(), 1, "{}", stderr(&blocked));

    // A file that the user names is never put aside.
    fs::write(
        place.path("named.db"),
        "not a database at all, and long enough for a header of one hundred bytes; ".repeat(4),
    )
    .unwrap();
    let named = place.run(&["insert.md", "--ledger", "named.db"]);
    assert!(named.status.success() && stderr(&named).contains("is damaged"), "{}", stderr(&named));
    assert!(fs::read_to_string(place.path("named.db")).unwrap().starts_with("not a database"));
    let refused = place.coder(&["stats", "--ledger", "named.db"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("move it away"), "{}", stderr(&refused));

    // The program's own is kept under another name.
    fs::create_dir_all(place.state("coder")).unwrap();
    fs::copy(place.path("named.db"), place.state("coder/ledger.db")).unwrap();
    let renewed = place.run(&["insert.md"]);
    assert!(renewed.status.success() && stderr(&renewed).contains("it is kept as"), "{}", stderr(&renewed));
    let kept = fs::read_dir(place.state("coder")).unwrap().flatten();
    let kept: Vec<_> =
        kept.filter(|entry| entry.file_name().to_string_lossy().contains(".damaged-")).collect();
    let [kept] = &kept[..] else { panic!("one file is put aside: {kept:?}") };
    assert!(fs::read_to_string(kept.path()).unwrap().starts_with("not a database"));
    assert_eq!(place.stats(&[])["counts"]["tasks"], 1);

    assert!(place.run(&["insert.md", "--no-ledger"]).status.success());
    assert_eq!(place.stats(&[])["counts"]["tasks"], 1);
}

/// Covers S1-49: the help defines what is measured.
#[test]
fn the_help_defines_every_figure() {
    let help = stdout(&coder(&["stats", "--help"]).output().unwrap());
    for id in [
        "S0-35", "S1-02", "S1-41", "S1-42", "S1-43", "S1-44", "S3-39", "S3-40", "S3-41", "S3-42", "S3-43",
        "S3-44", "S4-17",
    ] {
        assert!(help.contains(id), "{id}");
    }
    assert!(help.contains("(< 30 s)") && help.contains("(≥ 70 %)"), "{help}");
}

/// Covers S1-46, S1-47: bytes and tokens of context files, estimated or counted, and a budget.
#[test]
fn context_is_audited() {
    let place = Place::of(&[
        (".claude/WORKFLOW.md", &"word ".repeat(800)),
        (".claude/context/a.md", "# A\n"),
        (".claude/.git/config", "not counted"),
    ]);
    let bin = place.path(".claude/logo.png");
    fs::write(bin, [0xff, 0xfe, 0x00]).unwrap();
    let audit = |args: &[&str]| -> Value {
        let output = place.coder(&[&["tokenize", "--audit", ".claude", "--json"], args].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)))
    };
    let estimated = audit(&[]);
    assert_eq!(
        (&estimated["bytes"], &estimated["tokens"], &estimated["exact"]),
        (&json!(4004), &json!(1001), &json!(false))
    );
    assert_eq!(estimated["files"][0]["path"], ".claude/WORKFLOW.md");
    assert_eq!(
        (&estimated["files"][0]["largest"], &estimated["files"][1]["largest"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(estimated["skipped"], json!([".claude/logo.png"]));
    let exact = audit(&["--model", "coder-tiny"]);
    let counted = place.coder(&["tokenize", "--plain", "--file", ".claude/WORKFLOW.md"]);
    let counted: Value = serde_json::from_slice(&counted.stdout).unwrap();
    assert_eq!((&exact["exact"], &exact["files"][0]["tokens"]), (&json!(true), &counted["count"]));
    let kept = place.coder(&["tokenize", "--audit", ".claude", "--budget", "quick"]);
    assert!(kept.status.success() && stdout(&kept).contains("WORKFLOW.md"), "{}", stdout(&kept));
    let exceeded = place.coder(&["tokenize", "--audit", ".claude", "--budget", "1000"]);
    assert_eq!(exceeded.status.code(), Some(1));
    assert!(stdout(&exceeded).contains("exceeded"), "{}", stdout(&exceeded));
    assert_eq!(place.coder(&["tokenize", "--audit", ".claude", "--budget", "0"]).status.code(), Some(2));
}

#[test]
fn values_that_make_no_sense_are_bad_usage() {
    let place = Place::new();
    for arguments in [["stats", "--since", "foo"], ["stats", "--watts=-1", "--json"]] {
        assert_eq!(place.coder(&arguments).status.code(), Some(2), "{arguments:?}");
    }
}
