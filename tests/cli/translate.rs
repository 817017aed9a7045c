//! `coder serve` between clients and rungs that speak different dialects: requests, answers, streams and errors in both
//! directions, and what is sent is what egress, budget and ledger see.

use serde_json::{Value, json};

use crate::forward::{ask, chat, costs, serve};
use crate::server::{Answer, Server};
use crate::user::User;

/// A user whose rung `claude` is behind a server that speaks Anthropic's dialect.
fn user(server: &Server, more: &str) -> User {
    let url = server.url.trim_end_matches("/v1");
    let rung = format!(
        "egress.policy = \"allow\"\negress.forwards = [\"fake\", \"claude\"]\nladders.availability = [\"local\", \"claude\"]\n{more}\n\
         [endpoints.claude]\ndialect = \"anthropic\"\nurl = \"{url}\"\ndeadline_s = 20\n\
         [rungs.claude]\nendpoint = \"claude\"\nmodel = \"model-claude\"\nprice = {{ input_usd = 10, cached_usd = 1, output_usd = 20 }}\n"
    );
    User::new(server, &rung, &[])
}

fn claude(content: Value, reason: &str) -> Value {
    let usage = json!({ "input_tokens": 100, "cache_read_input_tokens": 1000, "output_tokens": 10 });
    json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": "model-claude", "content": content,
            "stop_reason": reason, "stop_sequence": null, "usage": usage })
}

fn tool() -> Value {
    json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } })
}

/// Covers S3-20, S3-21: a client of OpenAI's asks a rung that speaks Anthropic's dialect, with tools, and pays what was sent.
#[test]
fn a_client_of_openai_asks_anthropic() {
    let server = Server::start(|body| match body["messages"].as_array().unwrap().len() {
        1 => Answer::Json(claude(
            json!([{ "type": "tool_use", "id": "t", "name": "f", "input": { "a": 1 } }]),
            "tool_use",
        )),
        _ => Answer::Json(claude(json!([{ "type": "text", "text": "done" }]), "end_turn")),
    });
    let user = user(&server, "");
    let serving = serve(&user, &["--context", "200"]);
    let said = json!({ "role": "user", "content": "go" });
    let (status, answer) =
        chat(&serving, json!({ "model": "claude", "tools": [tool()], "messages": [said] }));
    assert_eq!(status, 200, "{answer}");
    let message = answer["choices"][0]["message"].clone();
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("model-claude")));
    assert_eq!(message["tool_calls"][0]["function"], json!({ "name": "f", "arguments": "{\"a\":1}" }));
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(
        (&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]),
        (&json!(1100), &json!(10))
    );
    // Its own answer comes back.
    let result = json!({ "role": "tool", "tool_call_id": "t", "content": "2" });
    let (status, answer) =
        chat(&serving, json!({ "model": "claude", "tools": [tool()], "messages": [said, message, result] }));
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!("done")), "{answer}");
    let asked = server.asked();
    assert_eq!((&asked[0]["model"], &asked[0]["max_tokens"]), (&json!("model-claude"), &json!(5)));
    assert_eq!(asked[1]["messages"][2]["content"][0]["type"], "tool_result", "{:#}", asked[1]);
    let stats = costs(&user);
    let paid = stats["counts"]["questions"]["claude"]["cost_usd"].as_f64().unwrap();
    assert!((paid - 2.0 * (100.0 * 10.0 + 1000.0 + 10.0 * 20.0) / 1e6).abs() < 1e-9, "{stats:#}");
    // Covers S2-07: the ladder goes there too, from the local model.
    let long = json!([{ "role": "user", "content": "word ".repeat(400) }]);
    let (status, answer) = chat(&serving, json!({ "model": "free", "messages": long }));
    assert_eq!((status, &answer["model"]), (200, &json!("model-claude")), "{answer}");
    let list = serving.ask("GET /v1/models", "");
    assert!(list.contains(r#""id":"claude""#), "{list}");
}

#[test]
fn a_stream_of_anthropic_is_one_of_openai() {
    let usage = json!({ "input_tokens": 7, "output_tokens": 1 });
    let events = [
        json!({ "type": "message_start", "message": { "id": "msg_1", "model": "model-claude", "usage": usage } }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "sesame" } }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 2 } }),
        json!({ "type": "message_stop" }),
    ];
    let server = Server::start(move |body| {
        let mut events = events.each_ref().map(Value::to_string).to_vec();
        if body["messages"][0]["content"][0]["text"] == "break" {
            let error =
                json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } });
            events.splice(3.., [error.to_string()]);
        }
        Answer::Stream(events)
    });
    let user = user(&server, "");
    let serving = serve(&user, &[]);
    for counts in [false, true] {
        let options = json!({ "include_usage": counts });
        let body = json!({ "model": "claude", "stream": true, "stream_options": options, "messages": [{ "role": "user", "content": "go" }] });
        let (status, text) = ask(&serving, "/v1/chat/completions", &body);
        assert_eq!(status, 200, "{text}");
        assert!(
            text.contains(r#""content":"sesame""#) && text.contains(r#""finish_reason":"stop""#),
            "{text}"
        );
        assert!(text.contains("data: [DONE]") && !text.contains("event:"), "{text}");
        assert_eq!(text.contains(r#""prompt_tokens":7"#), counts, "{text}");
        assert_eq!(
            (&server.asked().last().unwrap()["stream"], server.asked().last().unwrap().get("stream_options")),
            (&json!(true), None)
        );
    }
    // What breaks in the middle is an error in the client's words, and nobody else goes on.
    let body =
        json!({ "model": "claude", "stream": true, "messages": [{ "role": "user", "content": "break" }] });
    let (_, text) = ask(&serving, "/v1/chat/completions", &body);
    assert!(
        text.contains("sesame") && text.contains(r#"{"error":{"#) && text.contains("Overloaded"),
        "{text}"
    );
    assert!(!text.contains("[DONE]") && !text.contains("event:"), "{text}");
}

/// Covers S3-20, S3-21: a client of Anthropic's asks a rung that speaks OpenAI's dialect.
#[test]
fn a_client_of_anthropic_asks_openai() {
    let chunk = |delta: Value, finish: Value| {
        json!({ "id": "c", "model": "m", "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] }).to_string()
    };
    let server = Server::start(move |body| {
        if body["stream"] != true {
            return Answer::Say("from elsewhere".to_owned(), 100, 10);
        }
        let function = json!({ "name": "f", "arguments": "{}" });
        let call =
            json!({ "tool_calls": [{ "index": 0, "id": "t", "type": "function", "function": function }] });
        let count =
            json!({ "choices": [], "usage": { "prompt_tokens": 7, "completion_tokens": 2 } }).to_string();
        Answer::Stream(vec![
            chunk(call, Value::Null),
            chunk(json!({}), json!("tool_calls")),
            count,
            "[DONE]".to_owned(),
        ])
    });
    let user = user(&server, "");
    let serving = serve(&user, &[]);
    let said = json!([{ "role": "user", "content": [{ "type": "text", "text": "go" }] }]);
    let tools = json!([{ "name": "f", "input_schema": { "type": "object" } }]);
    let body = json!({ "model": "sonnet", "max_tokens": 5, "system": "Be exact.", "messages": said, "tools": tools });
    let (status, text) = ask(&serving, "/v1/messages", &body);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, &answer["type"], &answer["model"]),
        (200, &json!("message"), &json!("model-sonnet")),
        "{text}"
    );
    assert_eq!(
        (&answer["content"][0]["text"], &answer["stop_reason"]),
        (&json!("from elsewhere"), &json!("end_turn"))
    );
    assert_eq!(answer["usage"]["input_tokens"], 100);
    let asked = server.asked().pop().unwrap();
    assert_eq!(
        asked["messages"],
        json!([{ "role": "system", "content": "Be exact." }, { "role": "user", "content": "go" }])
    );
    assert_eq!((&asked["model"], &asked["max_tokens"]), (&json!("model-sonnet"), &json!(5)));

    let mut body = body;
    body["stream"] = true.into();
    let (status, text) = ask(&serving, "/v1/messages", &body);
    assert_eq!(status, 200, "{text}");
    let kinds: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let expected = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(kinds, expected, "{text}");
    assert!(text.contains(r#""stop_reason":"tool_use""#) && text.contains(r#""input_tokens":7"#), "{text}");
}

/// What cannot be said in the client's dialect ends there and here, and the client hears why at once.
#[test]
fn a_stream_that_cannot_be_said_is_ended() {
    let server = Server::start(|_| {
        let call = json!({ "index": 0, "id": "t", "function": { "arguments": "{}" } });
        let choice = json!({ "index": 0, "delta": { "tool_calls": [call] }, "finish_reason": null });
        let begun = json!({ "index": 0, "delta": { "content": "I call" }, "finish_reason": null });
        Answer::Open(
            [begun, choice].map(|choice| json!({ "id": "c", "choices": [choice] }).to_string()).to_vec(),
        )
    });
    let user = user(&server, "");
    let serving = serve(&user, &[]);
    let messages = json!([{ "role": "user", "content": "go" }]);
    let body = json!({ "model": "sonnet", "max_tokens": 5, "stream": true, "messages": messages });
    let (status, text) = ask(&serving, "/v1/messages", &body);
    assert!(status == 200 && text.contains("I call") && !text.contains("message_stop"), "{text}");
    // Its endpoint would have been silent for a second.
    assert!(text.contains("event: error") && text.contains("call `0` begins without a name"), "{text}");
}

/// Covers S0-34: what is refused is refused in the client's words, before anything is sent; secrets are looked for in what is
/// sent, and what a server says comes in the client's form.
#[test]
fn what_is_refused_is_said_in_the_clients_words() {
    let server = Server::start(|_| Answer::Fail(400, "max_tokens: too many"));
    let user = user(&server, "");
    let serving = serve(&user, &["--budget", "0.001"]);
    for (more, status, words) in [
        (json!({ "n": 2 }), 400, "`n` has no counterpart in Anthropic's dialect"),
        (json!({ "response_format": { "type": "json_object" } }), 400, "send a `json_schema`"),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "https://x" } }] }] }),
            400,
            "send its bytes",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": format!("AKIA{}", "IOSFODNN7QWERTYU") }] }),
            403,
            "secret",
        ),
    ] {
        let mut body = json!({ "model": "claude" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (found, answer) = chat(&serving, body);
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(found == status && message.contains(words), "{more}: {answer}");
    }
    assert!(server.asked().is_empty());
    let alone = serve(&user, &[]);
    let (status, answer) = chat(&alone, json!({ "model": "claude" }));
    assert!(status == 400 && answer["error"]["message"].as_str().unwrap().contains("too many"), "{answer}");
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let (status, text) =
        ask(&alone, "/v1/messages", &json!({ "model": "sonnet", "max_tokens": 5, "messages": messages }));
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, &error["type"], &error["error"]["type"]),
        (400, &json!("error"), &json!("invalid_request_error"))
    );
    let body = json!({ "model": "sonnet", "max_tokens": 5, "messages": messages, "top_k": 3 });
    let (status, text) = ask(&alone, "/v1/messages", &body);
    assert!(status == 400 && text.contains("`top_k` has no counterpart in OpenAI's dialect"), "{text}");
}
