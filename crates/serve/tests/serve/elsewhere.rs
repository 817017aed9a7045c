//! Requests that somebody else answers: parts as they come, errors in the client's words, an end when the client goes away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use coder_serve::{Access, Asked, Choice, Client, Dialect, Elsewhere, Error, Limits, Server};
use serde_json::{Value, json};

use crate::support::{Running, models, serve_as, with};

/// Answers for models whose names say how.
#[derive(Debug, Default)]
struct Scripted {
    asked: Mutex<Vec<Asked>>,
    gone: AtomicBool,
}

impl Elsewhere for Scripted {
    fn names(&self, dialect: Dialect) -> Vec<String> {
        let own = if dialect == Dialect::Anthropic { "stream" } else { "whole" };
        ["coder-tiny", own].map(str::to_owned).into()
    }

    fn choose(&self, asked: &Asked) -> coder_serve::Result<Choice> {
        self.asked.lock().expect("whole").push(asked.clone());
        Ok(match asked.model.as_deref() {
            Some("another") => Choice::Here(Some("coder-tiny".to_owned())),
            Some("also-whole") => Choice::There("whole".to_owned()),
            Some(name) if !asked.known => Choice::There(name.to_owned()),
            _ => Choice::Here(asked.tags.first().map(|_| "coder-tiny".to_owned())),
        })
    }

    fn answer(&self, name: &str, _: Asked, client: &Client) {
        let failed = |status| Error::Elsewhere { status, problem: "it is ill".to_owned() };
        match name {
            "whole" => client.whole(r#"{"said": "all"}"#),
            "stream" => ["a", "b\nc"].iter().for_each(|data| client.event("piece", data)),
            "breaks" => {
                client.event("", "a");
                client.failed(failed(502));
            }
            "busy" => client.failed(failed(429)),
            "silent" => {}
            _ => {
                while !client.gone().load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                self.gone.store(true, Ordering::Relaxed);
            }
        }
    }
}

fn running() -> (Running, Arc<Scripted>) {
    let scripted = Arc::new(Scripted::default());
    let server = Server::new(models(), Access::default(), Limits::default());
    (serve_as(server.with_elsewhere(scripted.clone())), scripted)
}

fn body(model: &str) -> Value {
    json!({ "model": model, "max_tokens": 2, "messages": [{ "role": "user", "content": "hi" }] })
}

#[test]
fn what_comes_is_passed_on() {
    let (running, scripted) = running();
    let whole = running.post("/v1/messages", &body("whole"));
    assert_eq!((whole.status, whole.body.as_str()), (200, r#"{"said": "all"}"#));
    let stream = running.post("/v1/messages", &body("stream"));
    assert_eq!(stream.body, "event: piece\ndata: a\n\nevent: piece\ndata: b\ndata: c\n\n");
    assert_eq!(running.post("/v1/chat/completions", &body("coder-tiny")).json()["model"], "coder-tiny");
    let tagged = [
        ("content-type", "application/json"),
        ("x-litellm-tags", "a, b"),
        ("x-task-phase", "red"),
        ("anthropic-beta", "x-1"),
    ];
    let reply = running.send("POST", "/v1/messages", &tagged, body("claude-x").to_string().as_bytes());
    assert_eq!(reply.json()["model"], "coder-tiny");
    let asked = scripted.asked.lock().expect("whole");
    let last = asked.last().expect("one");
    assert_eq!(
        (last.dialect, last.known, &last.tags),
        (Dialect::Anthropic, true, &vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!((last.phase.as_deref(), last.beta.as_deref()), (Some("red"), Some("x-1")));
}

#[test]
fn errors_are_in_the_clients_words() {
    let (running, _) = running();
    let busy = running.post("/v1/chat/completions", &body("busy"));
    assert_eq!((busy.status, &busy.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    let busy = running.post("/v1/messages", &body("busy"));
    assert_eq!((busy.status, &busy.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    assert_eq!(running.post("/v1/messages", &body("silent")).status, 500);
    let breaks = running.post("/v1/messages", &body("breaks"));
    assert!(
        breaks.status == 200 && breaks.body.starts_with("data: a\n\nevent: error\ndata: {"),
        "{}",
        breaks.body
    );
    let breaks = running.post("/v1/chat/completions", &body("breaks"));
    assert!(breaks.body.contains("it is ill") && !breaks.body.contains("event:"), "{}", breaks.body);
}

#[test]
fn names_elsewhere_are_told() {
    let (running, _) = running();
    let ids = |headers: &[(&str, &str)]| -> Vec<String> {
        let list = running.send("GET", "/v1/models", headers, b"").json();
        let data = list["data"].as_array().expect("a list").iter();
        data.map(|model| model["id"].as_str().expect("a name").to_owned()).collect()
    };
    let own = ["coder-tiny", "free", "qwen2.5-coder:32b"];
    assert_eq!(ids(&[]), [&own[..], &["whole"]].concat());
    assert_eq!(ids(&[("anthropic-version", "2023-06-01")]), [&own[..], &["stream"]].concat());
    let owner = |name: &str| running.get(&format!("/v1/models/{name}")).json()["owned_by"].clone();
    assert_eq!(
        (owner("whole"), owner("another"), owner("free")),
        ("elsewhere".into(), "local".into(), "local".into())
    );
}

/// A name is there if somebody who can be asked answers to it.
#[test]
fn a_name_that_nobody_can_ask_is_not_there() {
    let (running, _) = running();
    let get = |name: &str| running.get(&format!("/v1/models/{name}"));
    assert_eq!(get("also-whole").json()["owned_by"], "elsewhere");
    let nobody = get("nobody");
    assert_eq!((nobody.status, &nobody.json()["error"]["code"]), (404, &json!("model_not_found")));
    assert!(nobody.body.contains("whole"), "{}", nobody.body);
}

/// On the other paths nothing is passed on, and nobody else answers in silence.
#[test]
fn other_paths_say_who_would_answer() {
    let (running, _) = running();
    for (path, fields) in [
        ("/v1/completions", json!({ "prompt": "def f(", "max_tokens": 1 })),
        ("/v1/responses", json!({ "input": "hi", "max_output_tokens": 1 })),
        ("/v1/messages/count_tokens", json!({ "messages": [{ "role": "user", "content": "hi" }] })),
        ("/v1/embeddings", json!({ "input": "hi" })),
        ("/tokenize", json!({ "content": "hi" })),
        ("/detokenize", json!({ "tokens": [5] })),
        ("/apply-template", json!({ "messages": [{ "role": "user", "content": "hi" }] })),
    ] {
        let ask = |model: &str| running.post(path, &with(fields.clone(), json!({ "model": model })));
        let message = ask("whole").json()["error"]["message"].clone();
        assert_eq!(ask("whole").status, 400, "{path}");
        assert!(
            message.as_str().is_some_and(|text| text.contains("`/v1/chat/completions`")),
            "{path}: {message}"
        );
        assert_eq!(ask("another").status, 200, "{path}");
    }
}

#[test]
fn a_client_that_goes_away_is_noticed() {
    let (running, scripted) = running();
    let head = [("content-type", "application/json")];
    let client = running.begin("POST", "/v1/messages", &head, body("waits").to_string().as_bytes());
    while scripted.asked.lock().expect("whole").is_empty() {
        std::thread::yield_now();
    }
    drop(client);
    while !scripted.gone.load(Ordering::Relaxed) || running.server.open_requests() > 0 {
        std::thread::yield_now();
    }
}
