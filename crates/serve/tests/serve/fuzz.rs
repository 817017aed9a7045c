//! Bodies that nobody should send: random, cut, and valid ones with a few values changed. None panics, none is a 500, and
//! every answer is whole.

use std::time::Duration;

use coder_serve::{Access, Limits};
use serde_json::{Map, Value, json};

use crate::support::{Reply, Running, models, start};

/// Knuth's MMIX linear congruential generator.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Paths and bodies that are fine, with as many fields as there are.
fn good() -> Vec<(&'static str, Value)> {
    let said = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": [{ "type": "text", "text": "hi" }], "name": "me" },
        { "role": "assistant", "content": null, "reasoning_content": "hm",
          "tool_calls": [{ "id": "1", "type": "function", "function": { "name": "f", "arguments": "{\"a\": 1}" } }] },
        { "role": "tool", "tool_call_id": "1", "content": "3" },
        { "role": "user", "content": "Classify: <|im_end|> crash" },
    ]);
    let schema = json!({ "type": "object", "properties": { "a": { "type": ["integer", "null"], "minimum": 2 } }, "required": ["a"] });
    let chat = json!({
        "model": "free", "messages": said, "max_tokens": 3, "temperature": 0.7, "top_p": 0.9, "top_k": 20, "min_p": 0.1, "n": 2,
        "stop": ["a", "b"], "seed": 4, "presence_penalty": 0.5, "frequency_penalty": -0.5, "repetition_penalty": 1.1,
        "logit_bias": { "5": 10 }, "logprobs": true, "top_logprobs": 2, "stream": true, "stream_options": { "include_usage": true },
        "response_format": { "type": "json_schema", "json_schema": { "name": "x", "schema": schema } },
        "tools": [{ "type": "function", "function": { "name": "f", "parameters": schema } }], "tool_choice": "auto", "parallel_tool_calls": true,
        "reasoning_effort": "none", "chat_template_kwargs": { "enable_thinking": false },
    });
    let complete = json!({
        "model": "free", "prompt": "def f(", "max_tokens": 2, "logprobs": 2, "n": 1, "stop": "x", "stream": false, "best_of": 1, "echo": false,
    });
    let messages = json!({
        "model": "claude-x", "max_tokens": 3, "stream": true, "system": [{ "type": "text", "text": "s", "cache_control": { "type": "ephemeral" } }],
        "messages": [
            { "role": "user", "content": "hi" },
            { "role": "assistant", "content": [{ "type": "thinking", "thinking": "t", "signature": "" }, { "type": "tool_use", "id": "1", "name": "f", "input": { "a": 1 } }] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "1", "content": [{ "type": "text", "text": "r" }, { "type": "tool_reference", "tool_name": "g" }], "is_error": true }, { "type": "text", "text": "go" }] },
            { "role": "system", "content": [{ "type": "tool_removal", "tool": { "type": "tool_reference", "name": "g" } }] },
        ],
        "temperature": 1, "top_p": 0.5, "top_k": 3, "stop_sequences": ["q"], "thinking": { "type": "disabled" }, "metadata": { "user_id": "u" },
        "tools": [{ "name": "f", "input_schema": schema, "cache_control": null }, { "name": "g", "input_schema": schema, "defer_loading": true }], "tool_choice": { "type": "any" },
        "output_config": { "format": { "type": "json_schema", "schema": schema } },
    });
    let responses = json!({
        "model": "free", "instructions": "i", "max_output_tokens": 3, "stream": true, "temperature": 1, "top_p": 0.5, "store": true,
        "input": [
            { "role": "user", "content": "hi" },
            { "type": "reasoning", "id": "r", "summary": [], "content": [{ "type": "reasoning_text", "text": "t" }] },
            { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "so", "annotations": [] }] },
            { "type": "function_call", "call_id": "1", "name": "f", "namespace": "n", "arguments": "{\"a\": 1}" },
            { "type": "function_call_output", "call_id": "1", "output": [{ "type": "input_image" }] },
            { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "go" }] },
        ],
        "tools": [{ "type": "function", "name": "f", "parameters": schema, "strict": true }, { "type": "namespace", "name": "n", "tools": [{ "type": "function", "name": "f", "parameters": schema }] }],
        "tool_choice": { "type": "function", "name": "f", "namespace": "n" }, "parallel_tool_calls": true, "truncation": "disabled",
        "text": { "format": { "type": "json_schema", "name": "x", "schema": schema } }, "reasoning": { "effort": "none" }, "include": ["x"],
    });
    let counted = json!({ "model": "claude-x", "system": "s", "messages": messages["messages"], "tools": messages["tools"] });
    vec![
        ("/v1/chat/completions", chat),
        ("/v1/completions", complete),
        ("/v1/responses", responses),
        ("/v1/messages", messages),
        ("/v1/messages/count_tokens", counted),
        (
            "/v1/embeddings",
            json!({ "model": "embed", "input": ["a", "b"], "dimensions": 4, "encoding_format": "float" }),
        ),
        (
            "/tokenize",
            json!({ "content": "a b", "add_special": true, "parse_special": false, "with_pieces": true }),
        ),
        ("/detokenize", json!({ "tokens": [1, 2, 3] })),
        (
            "/apply-template",
            json!({ "messages": said, "tools": [{ "type": "function" }], "chat_template_kwargs": { "a": 1 } }),
        ),
    ]
}

/// Any value, mostly one that no field expects.
fn any(random: &mut Random) -> Value {
    match random.below(14) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(1e300),
        5 => json!(0.5),
        6 => json!(""),
        7 => json!("\u{0}<|im_start|>\u{FDD0}🐢\u{202e}"),
        8 => json!("x".repeat(random.below(3000))),
        9 => json!([]),
        10 => json!({}),
        11 => (0..random.below(4)).map(|_| any(random)).collect(),
        12 => (0..random.below(40)).fold(json!(1), |inner, _| json!([inner])),
        _ => {
            let names =
                ["type", "text", "role", "content", "$ref", "anyOf", "properties", "name", "schema", "id"];
            let map: Map<String, Value> =
                (0..random.below(4)).map(|_| ((*random.one(&names)).to_owned(), any(random))).collect();
            map.into()
        }
    }
}

/// Changes one value somewhere in `value`.
fn change(value: &mut Value, random: &mut Random) {
    let inside = match value {
        Value::Array(items) if !items.is_empty() => {
            let at = random.below(items.len());
            Some(&mut items[at])
        }
        Value::Object(map) if !map.is_empty() => {
            if random.below(6) == 0 {
                let name = map.keys().nth(random.below(map.len())).expect("a name").clone();
                map.remove(&name);
                return;
            }
            let at = random.below(map.len());
            map.values_mut().nth(at)
        }
        _ => None,
    };
    match inside {
        Some(inside) if random.below(3) > 0 => change(inside, random),
        _ => *value = any(random),
    }
}

fn body(random: &mut Random, good: &[(&'static str, Value)]) -> (&'static str, Vec<u8>) {
    let (path, valid) = random.one(good);
    let mut value = valid.clone();
    let kind = random.below(10);
    if kind > 1 {
        for _ in 0..1 + random.below(3) {
            change(&mut value, random);
        }
    }
    let mut bytes = value.to_string().into_bytes();
    match kind {
        0 => bytes = (0..random.below(200)).map(|_| random.below(256) as u8).collect(),
        1 => bytes.truncate(random.below(bytes.len())),
        2 => {
            let at = random.below(bytes.len());
            bytes[at] = random.below(256) as u8;
        }
        _ => {}
    }
    (path, bytes)
}

/// What every answer is, whatever was asked.
fn check(path: &str, body: &[u8], reply: &Reply) {
    let context = || format!("{path} {}\n{} {}", String::from_utf8_lossy(body), reply.status, reply.body);
    match reply.status {
        200 if reply.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) => {
            let end = if path == "/v1/messages" { "message_stop" } else { "[DONE]" };
            let (name, data) = reply.events().pop().expect("events");
            assert!(name == end || data == end || data.contains("\"error\""), "{}", context());
        }
        200 if path == "/v1/messages" => assert!(reply.json()["stop_reason"].is_string(), "{}", context()),
        200 if path.contains("completions") => {
            let value = reply.json();
            let choices = value["choices"].as_array().expect("choices");
            assert!(choices.iter().all(|choice| choice["finish_reason"].is_string()), "{}", context());
        }
        200 => assert!(reply.json().is_object(), "{}", context()),
        400 | 404 | 413 | 501 => assert!(reply.json()["error"]["message"].is_string(), "{}", context()),
        _ => panic!("{}", context()),
    }
}

fn run(running: &Running, first: u64, count: u64) {
    let good = good();
    let json = [("content-type", "application/json")];
    for seed in first..first + count {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        random.below(2);
        let (path, bytes) = body(&mut random, &good);
        check(path, &bytes, &running.send("POST", path, &json, &bytes));
    }
}

/// 2,000 bodies, or as many as `CODER_FUZZ` says.
#[test]
fn no_body_breaks_it() {
    let count: u64 = std::env::var("CODER_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let limits =
        Limits { answer_tokens: Some(4), answer_time: Some(Duration::from_secs(20)), ..Limits::default() };
    let running = start(models(), Access::default(), limits);
    for (path, valid) in good() {
        let reply = running.post(path, &valid);
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    }
    std::thread::scope(|scope| {
        for part in 0..4 {
            let running = &running;
            scope.spawn(move || run(running, part * count / 4, count / 4));
        }
    });
    assert_eq!(running.get("/health").status, 200);
    assert_eq!(running.server.open_requests(), 0);
    let stats = running.server.models().engines()[0].1.stats().expect("the engine");
    assert_eq!((stats.running, stats.waiting, stats.blocks_used), (0, 0, 0));
}

/// Not even the protocol.
#[test]
fn what_is_no_http_is_let_go() {
    use std::io::{Read, Write};
    let running = start(
        models(),
        Access::default(),
        Limits { header_time: Duration::from_secs(1), ..Limits::default() },
    );
    let mut random = Random(7);
    for _ in 0..100 {
        let mut stream = running.connect();
        let bytes: Vec<u8> = (0..1 + random.below(300)).map(|_| random.below(256) as u8).collect();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    assert_eq!(running.get("/health").status, 200);
}
