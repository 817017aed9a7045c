//! Several models.

use std::time::{Duration, Instant};

use coder_serve::{Access, Error, Keep, Limits, Models};
use serde_json::json;

use crate::support::{Running, bundled, model, start};

/// The bundled model under three names, as if they were three.
fn three(keep: Keep) -> Result<Models, Error> {
    let three = ["one", "two", "three"].map(|name| model(name, bundled())).into();
    Models::new(three, vec![("fast".into(), "two".into()), ("gpt-*".into(), "three".into())], keep)
}

fn open(running: &Running) -> Vec<String> {
    let mut names: Vec<_> = running.server.models().engines().into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

fn ask(running: &Running, name: &str) -> String {
    let body = json!({ "model": name, "messages": [{ "role": "user", "content": "Classify: crash" }], "temperature": 0 });
    let reply = running.post("/v1/chat/completions", &body);
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()["model"].as_str().expect("a name").to_owned()
}

fn bytes_of_one() -> u64 {
    let running = start(three(Keep::default()).expect("models"), Access::default(), Limits::default());
    running.get("/api/tags").json()["models"][0]["size"].as_u64().expect("bytes")
}

/// Covers S3-07, S3-16.
#[test]
fn the_oldest_is_closed_for_another() {
    let memory = Some(2 * bytes_of_one());
    let running =
        start(three(Keep { memory, alive: None }).expect("models"), Access::default(), Limits::default());
    assert!(open(&running).is_empty());
    assert_eq!(ask(&running, "one"), "one");
    assert_eq!(ask(&running, "fast"), "two");
    assert_eq!(open(&running), ["one", "two"]);
    assert_eq!(ask(&running, "one"), "one");
    assert_eq!(ask(&running, "gpt-4o"), "three");
    assert_eq!(open(&running), ["one", "three"]);
}

/// Requests for more models than there is room for, at the same time: each waits for its turn.
#[test]
fn models_take_turns() {
    let memory = Some(bytes_of_one());
    let running =
        start(three(Keep { memory, alive: None }).expect("models"), Access::default(), Limits::default());
    std::thread::scope(|scope| {
        for i in 0..9 {
            let (running, name) = (&running, ["one", "two", "three"][i % 3]);
            scope.spawn(move || assert_eq!(ask(running, name), name));
        }
    });
    assert_eq!(open(&running).len(), 1);
}

#[test]
fn idle_models_are_closed() {
    let keep = Keep { memory: None, alive: Some(Duration::from_millis(50)) };
    let running = start(three(keep).expect("models"), Access::default(), Limits::default());
    ask(&running, "one");
    let end = Instant::now() + Duration::from_secs(60);
    while !open(&running).is_empty() {
        assert!(Instant::now() < end, "the model is not closed");
        std::thread::yield_now();
    }
    assert_eq!(ask(&running, "one"), "one");
}

#[test]
fn what_cannot_be_is_said_at_the_start() {
    let error = three(Keep { memory: Some(1 << 20), alive: None }).expect_err("too little memory");
    assert!(error.to_string().contains("all together may take"), "{error}");
    let twice = vec![model("one", bundled()), model("one", bundled())];
    assert!(Models::new(twice, Vec::new(), Keep::default()).is_err());
    assert!(Models::new(Vec::new(), Vec::new(), Keep::default()).is_err());
    let nobody = vec![("free".to_owned(), "nobody".to_owned())];
    assert!(matches!(
        Models::new(vec![model("one", bundled())], nobody, Keep::default()),
        Err(Error::NoModel { .. })
    ));
    assert!(Models::new(vec![model("x", "/no/such/file.gguf".into())], Vec::new(), Keep::default()).is_err());
}
