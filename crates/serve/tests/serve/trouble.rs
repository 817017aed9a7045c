//! Bad, slow and vanishing clients, and the end of the server.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use coder_serve::{Access, Limits};
use serde_json::{Value, json};

use crate::support::{Reply, Running, SERVER, models, start};

const CHAT: &str = "/v1/chat/completions";

fn ask() -> Value {
    json!({ "model": "free", "messages": [{ "role": "user", "content": "Classify: crash at start" }] })
}

/// A request for an answer that takes a while: no end of the text is allowed before its tokens are used up.
fn long() -> Value {
    let digits = json!({ "type": "grammar", "syntax": "regex", "definition": "[0-9]{4000}" });
    json!({ "model": "free", "messages": [{ "role": "user", "content": "x" }], "stream": true, "temperature": 2,
            "response_format": digits })
}

#[test]
fn only_json_of_this_machine_is_taken() {
    let body = ask().to_string();
    let send = |headers: &[(&str, &str)]| SERVER.send("POST", CHAT, headers, body.as_bytes());
    assert_eq!(send(&[("content-type", "application/json; charset=utf-8")]).status, 200);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
        assert_eq!(send(&[("content-type", kind)]).status, 415, "{kind}");
    }
    assert_eq!(send(&[]).status, 415);
    let json = ("content-type", "application/json");
    let rebound = send(&[json, ("host", "evil.example")]);
    assert_eq!(rebound.status, 403);
    assert!(rebound.json()["error"]["message"].as_str().expect("text").contains("--allow-host evil.example"));
    let page = send(&[json, ("origin", "http://evil.example")]);
    assert_eq!((page.status, page.header("access-control-allow-origin")), (403, None));
    assert_eq!(SERVER.get("/nothing").status, 404);
    assert_eq!(SERVER.send("DELETE", CHAT, &[], b"").status, 405);
    assert_eq!(SERVER.get("/health").body, r#"{"status":"ok"}"#);
}

#[test]
fn with_a_key_nothing_goes_without_it() {
    let access = Access {
        key: Some("sk-1".into()),
        origins: vec!["http://localhost:3000".into()],
        ..Access::default()
    };
    let running = start(models(), access, Limits::default());
    for path in ["/v1/models", "/v1/chat/completions", "/nothing", "/v1/messages"] {
        assert_eq!(running.get(path).status, 401, "{path}");
    }
    assert_eq!(running.get("/health").status, 200);
    let get = |headers: &[(&str, &str)]| running.send("GET", "/v1/models", headers, b"");
    assert_eq!(get(&[("authorization", "Bearer sk-1"), ("host", "host.docker.internal:8080")]).status, 200);
    assert_eq!(get(&[("x-api-key", "sk-1")]).status, 200);
    assert_eq!(get(&[("x-api-key", "sk-2")]).json()["error"]["code"], "invalid_api_key");
    let error = running.get("/v1/messages").json();
    assert_eq!(error["error"]["type"], "authentication_error");
    let page = ("origin", "http://localhost:3000");
    let asked = running.send("OPTIONS", "/v1/models", &[page, ("access-control-request-method", "GET")], b"");
    assert_eq!(
        (asked.status, asked.header("access-control-allow-origin")),
        (204, Some("http://localhost:3000"))
    );
    let read = get(&[page, ("x-api-key", "sk-1")]);
    assert_eq!(
        (read.status, read.header("access-control-allow-origin")),
        (200, Some("http://localhost:3000"))
    );
    // The page may read why it was refused, and when to come again.
    for (path, key, status) in [("/v1/models", "sk-2", 401), ("/v1/models/none", "sk-1", 404)] {
        let refused = running.send("GET", path, &[page, ("x-api-key", key)], b"");
        assert_eq!(
            (refused.status, refused.header("access-control-allow-origin")),
            (status, Some("http://localhost:3000"))
        );
        assert_eq!(refused.header("access-control-expose-headers"), Some("retry-after"));
    }
    let foreign = get(&[("origin", "http://evil.example"), ("x-api-key", "sk-1")]);
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (403, None));
}

#[test]
fn bodies_have_their_size_and_their_time() {
    let limits = Limits {
        body_bytes: 1000,
        body_time: Duration::from_millis(200),
        header_time: Duration::from_millis(200),
        ..Limits::default()
    };
    let running = start(models(), Access::default(), limits);
    let json = [("content-type", "application/json")];
    let large = running.send("POST", CHAT, &json, &[b' '; 1001]);
    assert_eq!(large.status, 413, "{}", large.body);
    assert!(large.body.contains("1000 bytes") && large.body.contains("send less"), "{}", large.body);
    let head =
        format!("POST {CHAT} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n", running.address);
    // In chunks, so that the size is not told before.
    let mut stream = running.connect();
    let chunk = format!("{:x}\r\n{}\r\n", 600, " ".repeat(600));
    let text = format!("{head}connection: close\r\ntransfer-encoding: chunked\r\n\r\n{chunk}{chunk}");
    stream.write_all(text.as_bytes()).expect("sent");
    assert_eq!(Reply::read(&mut stream).status, 413);
    // A body that does not come.
    let mut stream = running.connect();
    stream
        .write_all(format!("{head}connection: close\r\ncontent-length: 100\r\n\r\n{{").as_bytes())
        .expect("sent");
    assert_eq!(Reply::read(&mut stream).status, 408);
    // Headers that do not end.
    let mut stream = running.connect();
    stream.write_all(head.as_bytes()).expect("sent");
    let began = Instant::now();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&rest));
}

/// Memory for bodies is bounded for all connections together: who has no room is told so, and has it when others are done.
#[test]
fn all_bodies_together_have_a_limit() {
    let limits = Limits { bodies_bytes: 1000, ..Limits::default() };
    let running = start(models(), Access::default(), limits);
    let send = |body: &[u8]| running.send("POST", CHAT, &[("content-type", "application/json")], body);
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n",
        running.address
    );
    let mut announced = running.connect();
    announced.write_all(head.as_bytes()).expect("sent");
    assert_eq!(send(ask().to_string().as_bytes()).status, 200);
    // It begins to come, and stays.
    let mut held = running.connect();
    held.write_all(format!("{head}{}", " ".repeat(899)).as_bytes()).expect("sent");
    let end = Instant::now() + Duration::from_secs(60);
    let refused = loop {
        let answer = send(&[b' '; 200]);
        if answer.status == 503 {
            break answer;
        }
        assert!(Instant::now() < end, "{}", answer.body);
    };
    assert!(
        refused.body.contains("1000 bytes") && refused.header("retry-after").is_some(),
        "{}",
        refused.body
    );
    drop(held);
    while send(ask().to_string().as_bytes()).status == 503 {
        assert!(Instant::now() < end, "the room of a client that is gone stays taken");
    }
    // What is too much for all is too much for one.
    assert_eq!(send(&[b' '; 1001]).status, 503);
}

/// Waits until nothing runs any more: the engine notices after its step.
fn wait_until_idle(running: &Running) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let engines = running.server.models().engines();
        let busy = engines.iter().any(|(_, engine)| {
            let stats = engine.stats().expect("the engine");
            stats.running + stats.waiting + stats.blocks_used > 0
        });
        if !busy && running.server.open_requests() == 0 {
            return;
        }
        assert!(Instant::now() < end, "a request that nobody waits for goes on");
        std::thread::yield_now();
    }
}

/// Covers S3-18.
#[test]
fn clients_that_go_away_leave_nothing_behind() {
    let running = start(models(), Access::default(), Limits::default());
    let json = [("content-type", "application/json")];
    for round in 0..12 {
        let mut body = long();
        body["stream"] = (round % 2 == 0).into();
        body["n"] = (1 + round % 3).into();
        let mut stream = running.begin("POST", CHAT, &json, body.to_string().as_bytes());
        if round % 2 == 0 {
            // The head and a first event.
            let mut some = [0; 400];
            stream.read_exact(&mut some).expect("the beginning of an answer");
        }
        drop(stream);
    }
    wait_until_idle(&running);
    let ended = running.server.models().engines()[0].1.stats().expect("the engine");
    assert_eq!(ended.blocks_used, 0);
    assert_eq!(running.post(CHAT, &ask()).status, 200);
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    let limits = Limits { write_time: Duration::from_millis(300), ..Limits::default() };
    let running = start(models(), Access::default(), limits);
    let json = [("content-type", "application/json")];
    let mut body = long();
    // Far more than the buffers of a socket: every token with many log-probabilities.
    body["logprobs"] = true.into();
    body["top_logprobs"] = 20.into();
    body["n"] = 2.into();
    let stream = running.begin("POST", CHAT, &json, body.to_string().as_bytes());
    wait_until_open(&running);
    wait_until_idle(&running);
    let stats = running.server.models().engines()[0].1.stats().expect("the engine");
    assert!(stats.completion_tokens < 2 * 4000, "{stats:?}");
    drop(stream);
}

fn wait_until_open(running: &Running) {
    let end = Instant::now() + Duration::from_secs(60);
    while running.server.open_requests() == 0 {
        assert!(Instant::now() < end, "the request is not there");
        std::thread::yield_now();
    }
}

#[test]
fn too_many_requests_are_told_to_come_later() {
    let running = start(models(), Access::default(), Limits { open: 2, ..Limits::default() });
    let json = [("content-type", "application/json")];
    let body = long().to_string();
    let mut streams: Vec<_> = (0..2).map(|_| running.begin("POST", CHAT, &json, body.as_bytes())).collect();
    for stream in &mut streams {
        stream.read_exact(&mut [0; 400]).expect("the beginning of an answer");
    }
    let reply = running.post(CHAT, &ask());
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("1")), "{}", reply.body);
    assert_eq!(reply.json()["error"]["code"], "rate_limit_exceeded");
    let reply = running.post(
        "/v1/messages",
        &json!({ "model": "free", "max_tokens": 1, "messages": [{ "role": "user", "content": "x" }] }),
    );
    assert_eq!((reply.status, &reply.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    drop(streams);
    wait_until_idle(&running);
    assert_eq!(running.post(CHAT, &ask()).status, 200);
}

#[test]
fn answers_have_their_time_and_their_tokens() {
    let limits = Limits { answer_time: Some(Duration::from_millis(300)), ..Limits::default() };
    let running = start(models(), Access::default(), limits);
    let mut body = long();
    body["stream"] = false.into();
    let reply = running.post(CHAT, &body).json();
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
    let running = start(models(), Access::default(), Limits { answer_tokens: Some(7), ..Limits::default() });
    let reply = running.post(CHAT, &body).json();
    assert_eq!(reply["usage"]["completion_tokens"], 7);
}

/// At the end, open answers are completed and new ones refused; what takes too long is cut off.
#[test]
fn the_end_waits_for_answers() {
    let mut running = start(models(), Access::default(), Limits::default());
    let json = [("content-type", "application/json")];
    let mut body = long();
    body["max_tokens"] = 300.into();
    let mut stream = running.begin("POST", CHAT, &json, body.to_string().as_bytes());
    stream.read_exact(&mut [0; 1]).expect("the beginning of an answer");
    running.stop();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("the rest");
    assert!(rest.contains("data: [DONE]"), "{rest}");
    running.join();

    let limits = Limits { drain_time: Duration::from_millis(100), ..Limits::default() };
    let mut running = start(models(), Access::default(), limits);
    let mut stream = running.begin("POST", CHAT, &json, long().to_string().as_bytes());
    stream.read_exact(&mut [0; 1]).expect("the beginning of an answer");
    running.join();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("[DONE]"));
}

/// Many at once: every answer is the one that the request gets alone.
#[test]
fn together_as_alone() {
    let running = start(models(), Access::default(), Limits::default());
    let bodies: Vec<Value> = (0..12)
        .map(|i| {
            let text = format!("Write a Python function `f{i}` that returns `x` plus {i}.");
            json!({ "model": "free", "messages": [{ "role": "user", "content": text }], "temperature": 1.2, "seed": i, "stream": i % 3 == 0 })
        })
        .collect();
    let words = |reply: &Reply| match reply.header("content-type") {
        Some("application/json") => {
            reply.json()["choices"][0]["message"]["content"].as_str().expect("text").to_owned()
        }
        _ => reply
            .events()
            .iter()
            .filter_map(|(_, data)| serde_json::from_str::<Value>(data).ok())
            .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
            .collect(),
    };
    let together: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            bodies.iter().map(|body| scope.spawn(|| words(&running.post(CHAT, body)))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
    });
    for (body, together) in bodies.iter().zip(together) {
        assert_eq!(words(&running.post(CHAT, body)), together);
    }
}
