//! Rungs in this process: which model the local one is, and further ones beside it.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{Answer, Server};
use crate::support::{folder, stderr, stdout, text};
use crate::user::{REVIEW_OFF, User, fenced, task};

/// The bundled model under another name, by which nobody knows it.
fn quokka() -> (TempDir, &'static str) {
    let folder = folder(&[]);
    let path = folder.path().join("quokka.gguf");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/models/coder-tiny.gguf"), &path).unwrap();
    let path = text(path);
    (folder, path)
}

fn local(model: &str) -> String {
    format!("{REVIEW_OFF}\nrungs.local.engine = \"{model}\"\n")
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
        &["complete", "x"],
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
    let other = user.command(&["tokenize", "--file", "a.txt", "--model", "coder-tiny"]).output().unwrap();
    assert!(other.status.success(), "{}", stderr(&other));
    // One that is there.
    let (_folder, path) = quokka();
    let user = User::new(&server, &local(path), &[]);
    let shown = user.command(&["show", "local", "--json"]).output().unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["name"], "quokka");
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
    let more = local(path) + "rungs.big-local.engine = \"coder-tiny\"\n";
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
