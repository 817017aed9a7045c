//! Rungs in this process: which model the local one is, and further ones beside it.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{Answer, Server};
use crate::support::{folder, stderr, stdout, text};
use crate::user::{REVIEW_OFF, User, fenced, task};

/// The bundled model under another name, by which nobody knows it.
pub(crate) fn quokka() -> (TempDir, &'static str) {
    let folder = folder(&[]);
    let path = folder.path().join("quokka-1b.gguf");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/models/coder-tiny.gguf"), &path).unwrap();
    let path = text(path);
    (folder, path)
}

fn local(model: &str) -> String {
    // Nothing is asked elsewhere.
    format!("{REVIEW_OFF}\negress.forwards = [\"fake\"]\n[rungs.local]\nengine = \"{model}\"\n")
}

fn nobody() -> Server {
    Server::start(|_| Answer::Fail(500, "nobody"))
}

/// Covers S0-10, S2-05, S2-40: `coder.toml` says once which model is the local one.
#[test]
fn the_configuration_says_which_model_every_command_takes() {
    let server = nobody();
    let user = User::new(&server, &local("/nonexistent/quokka"), &[("m.json", "[]"), ("a.txt", "a")]);
    for args in [
        &["ask", "--user", "x"][..],
        &["ask", "--user", "x", "--model", "free"],
        &["complete", "--fim", "a", "b"],
        &["chat"],
        &["tokenize", "--file", "a.txt"],
        &["render", "m.json"],
        &["logits", "--tokens", "1", "--out", "l"],
        &["bench", "-p", "4", "-n", "1"],
        &["fit"],
        &["show", "local"],
        &["serve", "--port", "0"],
    ] {
        let output = user.command(args).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("coder config") && said.contains("`/nonexistent/quokka`"), "{args:?}: {said}");
    }
    let doctor = stdout(&user.command(&["doctor"]).output().unwrap());
    assert!(
        doctor.contains("local    the model of coder config: no model `/nonexistent/quokka`"),
        "{doctor}"
    );
    let other = user.command(&["tokenize", "--file", "a.txt", "--model", "coder-tiny"]).output().unwrap();
    assert!(other.status.success(), "{}", stderr(&other));
    // One that is there.
    let (_folder, path) = quokka();
    let user = User::new(&server, &local(path), &[]);
    let shown = user.command(&["show", "local", "--json"]).output().unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["name"], "quokka-1b");
    let answer = user.command(&["ask", "--user", "Classify: crash"]).output().unwrap();
    assert!(answer.status.success() && !stdout(&answer).is_empty(), "{}", stderr(&answer));
}

/// Covers S0-08, S0-10, S0-17: the command line's model, else the task's, else the configuration's; and prompts are those
/// of the model that gets them.
#[test]
fn a_task_is_done_by_the_local_model_that_was_meant() {
    let server = nobody();
    let (_folder, path) = quokka();
    let spec = |more: Value| {
        let mut task = json!({ "task_id": "T-001", "description": "Write unit tests for `clamp`", "output_file": "test_clamp.py" });
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        task.to_string()
    };
    let files = [
        ("plain.json", &*spec(json!({}))),
        ("own.json", &spec(json!({ "local_model": "coder-tiny" }))),
        ("named.json", &spec(json!({ "model": "local:coder-tiny" }))),
        ("big.json", &spec(json!({ "model": "big-local" }))),
    ];
    let more = local(path) + "[rungs.big-local]\nengine = \"coder-tiny\"\n";
    let user = User::new(&server, &more, &files);
    let drafted = |args: &[&str]| {
        let (_, result, said) = user.run(&[&["--no-retry", "--max-tokens", "200"], args].concat());
        let draft = result["history"][0]["draft"].clone();
        assert!(draft.is_object(), "{result} {said}");
        draft
    };
    let plain = drafted(&["plain.json"]);
    assert_eq!((&plain["tier"], &plain["model"]), (&"local".into(), &path.into()));
    let given = drafted(&["plain.json", "--model", "coder-tiny"]);
    assert_eq!((&given["tier"], &given["model"]), (&"local".into(), &"coder-tiny".into()));
    assert_ne!(plain["template"], given["template"]);
    for (file, tier) in [("own.json", "local"), ("named.json", "local"), ("big.json", "local-big-local")] {
        let draft = drafted(&[file]);
        assert_eq!((&draft["tier"], &draft["model"]), (&tier.into(), &"coder-tiny".into()), "{file}");
        assert_eq!(draft["template"], given["template"], "{file}");
    }
    assert_eq!(drafted(&["own.json", "--model", path])["model"], path);
}

/// Covers S0-26, S0-27, S2-07, S2-14: a local model that is not here cannot be used, and no other takes its place unseen.
#[test]
fn a_local_model_that_is_not_here_is_no_other() {
    let server = Server::start(|_| Answer::Say(fenced("a quokka"), 10, 10));
    let spec = task("quokka").replace("\"task_id\"", "\"local_model\":\"qwen2.5-coder:32b\",\"task_id\"");
    let user = User::new(&server, REVIEW_OFF, &[("task.json", &spec)]);
    let (code, result, said) = user.run(&["task.json"]);
    assert_eq!((code, &result["tier"]), (Some(0), &"haiku".into()), "{result} {said}");
    let failed = &result["history"][0]["verdict"]["failed"];
    assert_eq!(failed["class"], "availability", "{result}");
    assert!(failed["reason"].as_str().unwrap().contains("`coder pull qwen2.5-coder:32b`"), "{result}");
}

/// Covers S1-02, S2-27, S3-39, S3-41: a further rung in this process is a local model in every figure.
#[test]
fn further_rungs_are_local_in_the_figures() {
    let server = nobody();
    let spec = json!({
        "task_id": "T-001", "description": "Write a function `double` that returns `x` multiplied by 2.",
        "output_file": "double.py", "model": "big-local", "test_command": ["true"],
    });
    let more = format!("{REVIEW_OFF}\n[rungs.big-local]\nengine = \"coder-tiny\"\n");
    let user = User::new(&server, &more, &[("task.json", &spec.to_string())]);
    let (code, result, said) = user.run(&["task.json"]);
    assert_eq!((code, &result["tier"]), (Some(0), &"local-big-local".into()), "{result} {said}");
    let stats = |args: &[&str]| user.command(&[&["stats", "--json"], args].concat()).output().unwrap();
    for name in ["big-local", "local-big-local"] {
        let stats: Value = serde_json::from_slice(&stats(&["--tier", name]).stdout).unwrap();
        assert_eq!(
            (&stats["tier"], &stats["counts"]["tasks"]),
            (&"local-big-local".into(), &1.into()),
            "{name}"
        );
    }
    let local: Value = serde_json::from_slice(&stats(&["--tier", "local"]).stdout).unwrap();
    assert_eq!(local["counts"]["tasks"], 0);
    let unknown = stats(&["--tier", "big"]);
    assert!(
        unknown.status.code() == Some(2) && stderr(&unknown).contains("big-local"),
        "{}",
        stderr(&unknown)
    );
    let all: Value = serde_json::from_slice(&stats(&["--watts", "500", "--kwh-usd", "0.3"]).stdout).unwrap();
    let value = |id: &str| {
        let metrics = all["metrics"].as_array().unwrap();
        metrics.iter().find(|metric| metric["id"] == id).unwrap()["value"].as_f64()
    };
    assert_eq!(
        (value("S1-02"), value("S3-42"), value("S2-32")),
        (Some(1.0), Some(1.0), Some(0.0)),
        "{all:#}"
    );
    assert!(value("S3-41").is_some() && all["cost"]["electricity_usd"].as_f64() > Some(0.0), "{all:#}");
    let expected = json!({ "totalAttempts": 1, "successCount": 1, "escalatedToCloud": 0, "failuresByType": {}, "avgQualityScore": 1.0 });
    assert_eq!(all["localModelStats"], expected);
}
