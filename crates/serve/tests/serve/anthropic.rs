//! The API of Anthropic.

use std::path::Path;

use coder_serve::{Access, Keep, Limits, Models};
use serde_json::{Value, json};

use crate::support::{Reply, SERVER, bundled, model, own, start, with};

const MESSAGES: &str = "/v1/messages?beta=true";

fn ask(text: &str) -> Value {
    json!({ "model": "claude-x", "max_tokens": 100, "messages": [{ "role": "user", "content": text }], "temperature": 0 })
}

/// The text with what differs every time replaced.
fn steady(reply: &Reply) -> String {
    let at = reply.body.find("msg_").expect("an id");
    reply.body.replace(&reply.body[at..at + 28], "ID")
}

#[test]
fn an_answer_byte_for_byte() {
    // Nothing is in the cache of a server of its own.
    let reply = own().post(MESSAGES, &ask("Classify: Add login form"));
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(
        steady(&reply),
        r#"{"id":"ID","type":"message","role":"assistant","model":"coder-tiny","content":[{"type":"text","text":"FEAT"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":22,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":3,"output_tokens_details":{"thinking_tokens":0}}}"#
    );
}

#[test]
fn a_stream_byte_for_byte() {
    let reply = own().post(MESSAGES, &with(ask("Classify: Add logout form"), json!({ "stream": true })));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let text = steady(&reply);
    let begin = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"ID\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"coder-tiny\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":23,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":0}}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"";
    let end = "\"}}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"input_tokens\":23,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":3,\"output_tokens_details\":{\"thinking_tokens\":0}}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    assert!(text.starts_with(begin), "{text}");
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn the_words_of_a_stream_and_why_it_ended() {
    let body =
        with(ask("Write a Python function `add`."), json!({ "stop_sequences": ["("], "stream": true }));
    let events = SERVER.post(MESSAGES, &body).events();
    let data: Vec<Value> = events.iter().map(|(_, data)| serde_json::from_str(data).expect("JSON")).collect();
    for ((name, _), data) in events.iter().zip(&data) {
        assert_eq!(name, data["type"].as_str().expect("a type"));
    }
    let text: String = data.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert!(text.ends_with("def add"), "{text}");
    let delta = data.iter().find(|event| event["type"] == "message_delta").expect("the end");
    assert_eq!(delta["delta"], json!({ "stop_reason": "stop_sequence", "stop_sequence": "(" }));
    let whole = SERVER.post(MESSAGES, &with(body, json!({ "stream": false }))).json();
    assert_eq!(whole["content"][0]["text"], text.as_str());
    assert_eq!(whole["stop_sequence"], "(");
    let cut = SERVER
        .post(MESSAGES, &with(ask("Write a Python function `add`."), json!({ "max_tokens": 2 })))
        .json();
    assert_eq!((&cut["stop_reason"], &cut["usage"]["output_tokens"]), (&json!("max_tokens"), &json!(2)));
}

/// Covers S3-36. All forms of a conversation are the same prompt.
#[test]
fn tokens_are_counted_exactly() {
    let count = |body: &Value| SERVER.post("/v1/messages/count_tokens", body).json()["input_tokens"].clone();
    let plain = json!({
        "model": "claude-x", "system": "Be brief.", "messages": [
            { "role": "user", "content": "hi" }, { "role": "assistant", "content": "hello" }, { "role": "user", "content": "Classify: x" }
        ],
    });
    let cache = json!({ "type": "ephemeral" });
    let billing = "x-anthropic-billing-header: cc_version=2.1.36; cc_entrypoint=cli; cch=1f3a;";
    let blocks = json!({
        "model": "claude-x",
        "system": [{ "type": "text", "text": billing }, { "type": "text", "text": "Be brief.", "cache_control": cache }],
        "messages": [
            { "role": "user", "content": [{ "type": "text", "text": "hi" }] },
            { "role": "assistant", "content": [{ "type": "text", "text": "hello", "citations": null }] },
            { "role": "user", "content": [{ "type": "text", "text": "Classify: x", "cache_control": cache }] },
        ],
    });
    let counted = count(&plain);
    assert_eq!(counted, count(&blocks));
    for body in [plain, blocks] {
        let answer = SERVER.post(MESSAGES, &with(body, json!({ "max_tokens": 1 }))).json();
        let usage = &answer["usage"];
        let sum: u64 =
            ["input_tokens", "cache_read_input_tokens"].iter().filter_map(|name| usage[name].as_u64()).sum();
        assert_eq!(counted, sum, "{usage}");
    }
}

#[test]
fn what_is_in_the_cache_is_told() {
    let running = own();
    let text = format!("Keep in mind: {}", "five six seven eight ".repeat(40));
    let usage =
        || running.post(MESSAGES, &with(ask(&text), json!({ "max_tokens": 2 }))).json()["usage"].clone();
    let (first, again) = (usage(), usage());
    assert_eq!(first["cache_read_input_tokens"], 0);
    let cached = again["cache_read_input_tokens"].as_u64().expect("a number");
    assert!(cached > 64, "{again}");
    assert_eq!(again["input_tokens"].as_u64().expect("a number") + cached, first["input_tokens"]);
}

/// Without a token for an answer, a prompt is computed for those that begin like it.
#[test]
fn a_cache_is_warmed() {
    let running = own();
    let ask = |max_tokens: usize, stream: bool| {
        let text = format!("Keep in mind: {}", "nine ten eleven twelve ".repeat(40));
        let tools = json!([{ "name": "f", "input_schema": { "type": "object" } }]);
        let fields = json!({ "max_tokens": max_tokens, "stream": stream, "tools": tools });
        running.post(MESSAGES, &with(ask(&text), fields))
    };
    let warmed = ask(0, false).json();
    assert_eq!(
        (&warmed["content"], &warmed["stop_reason"], &warmed["usage"]["output_tokens"]),
        (&json!([]), &json!("max_tokens"), &json!(0)),
        "{warmed}"
    );
    let names: Vec<String> = ask(0, true).events().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["message_start", "ping", "message_delta", "message_stop"]);
    let answer = ask(1, false).json();
    assert!(answer["usage"]["cache_read_input_tokens"].as_u64() > Some(64), "{answer}");
}

/// The answer goes on from what it is said to begin with.
#[test]
fn an_answer_that_was_begun() {
    let whole = SERVER.post(MESSAGES, &ask("Write a Python function `add`.")).json();
    let whole = whole["content"][0]["text"].as_str().expect("text");
    let (begun, rest) = whole.split_at(whole.find('(').expect("a parenthesis"));
    let mut body = ask("Write a Python function `add`.");
    body["messages"].as_array_mut().expect("a list").push(json!({ "role": "assistant", "content": begun }));
    assert_eq!(SERVER.post(MESSAGES, &body).json()["content"][0]["text"], rest);
}

/// A model that may think does so where it is asked to.
#[test]
fn thoughts_are_asked_for() {
    let template = Path::new(env!("CARGO_TARGET_TMPDIR")).join("thinks.jinja");
    let text = "{{ messages[0].content }}{% if enable_thinking is not false %} one two three four{% endif %}";
    std::fs::write(&template, text).expect("written");
    let mut model = model("thinks", bundled());
    model.options.chat_template = Some(template);
    let models = Models::new(vec![model], Vec::new(), Keep::default()).expect("a model");
    let running = start(models, Access::default(), Limits::default());
    let count = |fields: Value| {
        let said = json!([{ "role": "user", "content": "hi" }]);
        let body = with(json!({ "model": "thinks", "messages": said }), fields);
        let reply = running.post("/v1/messages/count_tokens", &body);
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()["input_tokens"].as_u64().expect("a number")
    };
    let unasked = count(json!({}));
    let asked = count(json!({ "thinking": { "type": "enabled", "budget_tokens": 1024 } }));
    assert!(asked > unasked);
    assert_eq!(count(json!({ "thinking": { "type": "adaptive" } })), asked);
    for off in [json!({ "type": "disabled" }), Value::Null] {
        assert_eq!(count(json!({ "thinking": off })), unasked);
    }
}

#[test]
fn errors_are_anthropics() {
    let long = SERVER.post(MESSAGES, &ask(&"word ".repeat(20_000)));
    assert_eq!(long.status, 400);
    let message = long.json()["error"]["message"].as_str().expect("text").to_owned();
    let rest = message.strip_prefix("prompt is too long: ").and_then(|rest| rest.strip_suffix(" maximum"));
    let (prompt, context) = rest.and_then(|rest| rest.split_once(" tokens > ")).expect("both numbers");
    assert!(prompt.parse::<usize>().expect("a number") > context.parse().expect("a number"), "{message}");
    let bad = [
        json!({ "max_tokens": null }),
        json!({ "max_tokens": "many" }),
        json!({ "messages": [] }),
        json!({ "messages": [{ "role": "user", "content": [{ "type": "image", "source": { "type": "url", "url": "http://169.254.169.254/" } }] }] }),
        json!({ "messages": [{ "role": "user", "content": [{ "text": "x" }] }] }),
        json!({ "top_p": 7 }),
        json!({ "mcp_servers": [{ "url": "http://localhost" }] }),
    ];
    for fields in bad {
        let reply = SERVER.post(MESSAGES, &with(ask("x"), fields.clone()));
        assert_eq!((reply.status, &reply.json()["type"]), (400, &json!("error")), "{fields}: {}", reply.body);
        assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    }
    // What is wrong is told, under the names of this API.
    for (fields, said) in [
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "text" }] }] }),
            "`messages[0].content`: block 0: missing field `text`",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "audio" }] }] }),
            "a block of type `audio` is not supported here; `text` is",
        ),
        (json!({ "stop_sequences": vec!["x"; 65] }), "`stop_sequences`: up to"),
        (json!({ "thinking": { "type": "deep" } }), "`thinking.type`: unknown variant `deep`"),
        (json!({ "container": { "skills": [] } }), "`container` is not supported; nothing is run here"),
        (
            json!({ "output_config": { "format": { "type": "json_schema", "schema": { "type": "none" } } } }),
            "`output_config.format`: ",
        ),
    ] {
        let reply = SERVER.post(MESSAGES, &with(ask("x"), fields));
        assert!(reply.status == 400 && reply.body.contains(said), "{}", reply.body);
    }
    let body = with(ask("x"), json!({ "mcp_servers": [{ "url": "http://localhost" }] }));
    assert_eq!(SERVER.post("/v1/messages/count_tokens", &body).status, 400);
    let reply = SERVER.post(MESSAGES, &with(ask("x"), json!({ "model": "gpt-4" })));
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (
            404,
            r#"{"type":"error","error":{"type":"not_found_error","message":"no model `gpt-4`; there are coder-tiny, free, qwen2.5-coder:32b"}}"#
        )
    );
    assert_eq!(SERVER.get("/v1/messages").status, 405);
    assert_eq!(SERVER.get("/v1/messages").json()["type"], "error");
    assert_eq!(SERVER.post("/v1/messages/batches", &json!({})).json()["error"]["type"], "not_found_error");
}
