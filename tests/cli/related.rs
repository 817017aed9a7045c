//! Passages that belong to a text: `coder related`, and what `ask`, `run` and `plan` show of them.

use serde_json::{Value, json};

use crate::server::{Answer, Server};
use crate::support::{coder, folder, json as run_json, output, stderr, stdout, text};
use crate::user::{REVIEW_OFF, User, fenced, said, task};

/// A project in which one file belongs to each question.
const FILES: [(&str, &str); 5] = [
    (
        "src/budget.rs",
        "/// The most money.\npub fn check_budget(spent: f64) -> bool {\n    spent < LIMIT_OF_MONEY\n}\n",
    ),
    ("src/tide.rs", "/// A text about the sea.\npub fn tide() -> &'static str {\n    \"high water\"\n}\n"),
    ("src/other.rs", "pub fn other() {}\n"),
    ("secret.pem", "check budget sea\n"),
    (".hidden.rs", "// check budget sea\n"),
];

/// Covers S3-28.
#[test]
fn passages_are_found_by_their_words() {
    let project = folder(&FILES);
    let dir = ["--working-dir", text(project.path())];
    let args = |more: &[&'static str]| [&["related"], more, &dir].concat();
    let found = output(&args(&["Where is the budget checked? Is there a tide?"]));
    let (first, second) = ("src/budget.rs:1-4", "src/tide.rs:1-4");
    assert_eq!((found.status.code(), stdout(&found)), (Some(0), format!("{first}\n{second}\n")));
    let found = run_json(&args(&["checking budgets", "--json"]));
    let passage = &found["passages"][0];
    assert_eq!(
        (&passage["from"], &passage["to"], &passage["text"]),
        (&1.into(), &4.into(), &FILES[0].1.into())
    );
    // What is piped in is looked for, and what is shown is as a model sees it.
    let shown = coder(&args(&["--show", "--most", "1"])).write_stdin("error in tide()\n").output().unwrap();
    assert_eq!(stdout(&shown), format!("### src/tide.rs, lines 1 to 4\n```rust\n{}```\n", FILES[1].1));
    let none = output(&args(&["unheard"]));
    assert_eq!((none.status.code(), stdout(&none).as_str()), (Some(1), ""));
    assert!(stderr(&none).contains("no passage shares a word"), "{}", stderr(&none));
    let missing = output(&["related", "x", "--working-dir", "/nonexistent"]);
    assert_eq!(missing.status.code(), Some(1));
}

/// Covers S3-28, S3-34: passages instead of files, within their tokens.
#[test]
fn a_question_is_shown_with_what_belongs_to_it() {
    let project = folder(&FILES);
    let ask = |more: &[&str]| {
        let fixed = ["ask", "--user", "Where is the budget checked?", "--max-tokens", "1", "--json"];
        let output = output(&[&fixed, more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        (answer["usage"]["prompt_tokens"].as_u64().unwrap(), stderr(&output))
    };
    let (alone, _) = ask(&[]);
    let (with, note) = ask(&["--related", text(project.path())]);
    assert!(
        with > alone + 20 && note.contains("shown with the question: src/budget.rs:1-4"),
        "{with} {alone} {note}"
    );
    // What is too long alone does not stand in the way of what fits.
    let long = format!("{{\"budget\": \"{}\"}}\n", "Where is the budget checked? ".repeat(100));
    std::fs::write(project.path().join("budget_checked.json"), long).unwrap();
    let found = output(&["related", "Where is the budget checked?", "--working-dir", text(project.path())]);
    assert!(stdout(&found).starts_with("budget_checked.json:1-1\n"), "{}", stdout(&found));
    let (_, note) = ask(&["--related", text(project.path()), "--related-tokens", "300"]);
    assert!(note.contains("shown with the question: src/budget.rs:1-4"), "{note}");
    let (without, note) = ask(&["--related", text(project.path()), "--related-tokens", "3"]);
    assert!(without == alone && note.contains("no passage"), "{without} {alone} {note}");
}

/// Covers S1-56, S3-28: what a task does not name is shown to the model in this process, and to nobody else. What that model
/// wrote may quote it.
#[test]
fn what_a_task_does_not_name_is_shown_to_the_local_model_alone() {
    let server = Server::start(|_| Answer::Say(fenced("a quokka"), 1000, 100));
    let mut files = FILES.to_vec();
    let task = task("quokka");
    files.push(("task.json", &task));
    let user = User::new(&server, REVIEW_OFF, &files);
    let (code, result, notes) = user.run(&["task.json", "--related", "1"]);
    assert_eq!(code, Some(0), "{result}");
    assert!(notes.contains("note: T-001: shown too: src/tide.rs"), "{notes}");
    let history = result["history"].as_array().unwrap();
    let (first, last) = (&history[0], history.last().unwrap());
    assert_eq!((&first["draft"]["tier"], &first["related"]), (&"local".into(), &json!(["src/tide.rs"])));
    assert_eq!(&last["related"], &json!([]));
    let asked = server.asked();
    let shown = |body: &Value| body["messages"][0]["content"].as_str().unwrap().to_owned();
    assert!(!asked.is_empty() && asked.iter().all(|body| !shown(body).contains("tide")), "{asked:?}");
    // What may not be sent is not shown to a model whose draft may quote it.
    let denied = format!("{REVIEW_OFF}\negress.deny = [\"tide.rs\"]");
    let (_, result, notes) = User::new(&server, &denied, &files).run(&["task.json", "--related", "1"]);
    assert!(!notes.contains("tide.rs") && result["history"][0]["related"] == json!([]), "{notes}");
}

/// Covers S3-28: a planner is shown what belongs to the request, without what may not be sent.
#[test]
fn a_planner_is_shown_summaries_of_what_belongs_to_the_request() {
    let plan = json!({ "notes": "", "tasks": [{
        "task_id": "T-001", "description": "Write a function `slugify` that converts `title` to lower case",
        "output_files": ["src/slugify.rs"], "context_files": [], "constraints": [], "test_command": "cargo test",
        "depends_on": [], "estimated_lines": 9, "imports": 0, "model": "local", "reason": "",
    }] });
    let server = Server::start(move |_| Answer::Say(plan.to_string(), 100, 100));
    let seed = "-- check the budget before the sea\n".repeat(300);
    let files = [&FILES[..], &[("seed.sql", seed.as_str())]].concat();
    let user = User::new(&server, "egress.deny = [\"tide.rs\"]", &files);
    let args = ["plan", "Check the budget before the sea", "--related", "2", "--dry-run"];
    let output = user.command(&args).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("note: shown in summary: src/budget.rs\n"), "{}", stderr(&output));
    let asked = said(&server.asked()[0]);
    assert!(asked.contains("pub fn check_budget(spent: f64) -> bool { … }"), "{asked}");
    assert!(!asked.contains("LIMIT_OF_MONEY") && !asked.contains("A text about the sea"), "{asked}");
    // A file of which there is no summary is none of itself, though it is found.
    let found = stdout(&user.command(&["related", "check the budget before the sea"]).output().unwrap());
    assert!(found.contains("seed.sql:") && !found.contains("tide.rs"), "{found}");
}
