//! Tools: calls that are whole and of their types, in both dialects, whatever the model's weights are.

use serde_json::{Value, json};

use crate::support::{SERVER, random_models};

fn weather() -> Value {
    json!({
        "type": "object",
        "properties": {
            "city": { "enum": ["Oslo", "New York"] },
            "days": { "type": "integer", "minimum": 1, "maximum": 9 },
            "unit": { "enum": ["C", "F"] },
            "exact": { "type": "boolean" },
        },
        "required": ["city", "days", "unit"],
        "additionalProperties": false,
    })
}

fn openai(choice: &Value, more: Value) -> Value {
    let tool = |name: &str, schema: Value| json!({ "type": "function", "function": { "name": name, "description": "A tool.", "parameters": schema } });
    let mut body = json!({
        "model": "free", "messages": [{ "role": "user", "content": "Weather in Oslo?" }], "temperature": 1.5,
        "max_tokens": 600, "tools": [tool("weather", weather()), tool("now", json!({ "type": "object", "properties": {} }))],
        "tool_choice": choice,
    });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

fn anthropic(choice: Value, seed: usize, stream: bool) -> Value {
    json!({
        "model": "claude-x", "messages": [{ "role": "user", "content": format!("Weather in Oslo? {seed}") }], "temperature": 1.5,
        "max_tokens": 600, "tools": [{ "name": "weather", "description": "A tool.", "input_schema": weather() }], "tool_choice": choice,
        "stream": stream,
    })
}

/// The calls of a stream of OpenAI's, put together as its clients do, and why it ended.
fn streamed(events: &[(String, String)]) -> (Vec<(String, String, String)>, String) {
    let (mut calls, mut finish) = (Vec::<(String, String, String)>::new(), String::new());
    for (_, data) in events.iter().filter(|(_, data)| data != "[DONE]") {
        let chunk: Value = serde_json::from_str(data).expect("JSON");
        let choice = &chunk["choices"][0];
        finish += choice["finish_reason"].as_str().unwrap_or_default();
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().expect("an index") as usize;
            if index == calls.len() {
                assert_eq!(call["type"], "function");
                let (id, name) =
                    (call["id"].as_str().expect("an id"), call["function"]["name"].as_str().expect("a name"));
                calls.push((id.to_owned(), name.to_owned(), String::new()));
            }
            calls[index].2 += call["function"]["arguments"].as_str().expect("arguments");
        }
    }
    (calls, finish)
}

/// Covers S0-33, S3-22, S3-23, S3-33.
#[test]
fn required_calls_are_valid_streamed_and_whole() {
    let validator = jsonschema::validator_for(&weather()).expect("a schema");
    let named = json!({ "type": "function", "function": { "name": "weather" } });
    let random = random_models();
    let servers = random.iter().map(|(name, running)| (*name, running)).chain([("bundled", &*SERVER)]);
    for (server, running) in servers {
        let (mut whole_calls, mut cut) = (0, 0);
        for seed in 0..6 {
            let body = openai(&named, json!({ "seed": seed, "parallel_tool_calls": false }));
            let whole = running.post("/v1/chat/completions", &body);
            assert_eq!(whole.status, 200, "{}", whole.body);
            let choice = &whole.json()["choices"][0];
            let mut body = body;
            body["stream"] = true.into();
            let (calls, finish) = streamed(&running.post("/v1/chat/completions", &body).events());
            let call = &choice["message"]["tool_calls"][0];
            assert_eq!(finish, choice["finish_reason"].as_str().expect("a reason"), "{server}");
            assert_eq!((calls.len(), calls[0].1.as_str()), (1, "weather"), "{server}");
            assert_eq!(call["function"]["arguments"], calls[0].2.as_str(), "{server}");
            assert_eq!(choice["message"]["content"], Value::Null);
            if finish == "length" {
                cut += 1;
                continue;
            }
            assert_eq!(finish, "tool_calls");
            let arguments: Value = serde_json::from_str(&calls[0].2).expect("JSON");
            assert!(validator.is_valid(&arguments), "{server}: {arguments}");
            whole_calls += 1;
        }
        println!("{server}: {whole_calls} calls, {cut} cut by their tokens");
        assert!(whole_calls > 0, "{server}");
    }
}

#[test]
fn anthropic_calls_are_blocks() {
    let validator = jsonschema::validator_for(&weather()).expect("a schema");
    let choice = json!({ "type": "tool", "name": "weather", "disable_parallel_tool_use": true });
    let random = random_models();
    for running in random.iter().map(|(_, running)| running).chain([&*SERVER]) {
        for seed in 0..4 {
            let whole = running.post("/v1/messages", &anthropic(choice.clone(), seed, false));
            assert_eq!(whole.status, 200, "{}", whole.body);
            let whole = whole.json();
            if whole["stop_reason"] == "tool_use" {
                let block = &whole["content"][0];
                assert_eq!((&block["type"], &block["name"]), (&json!("tool_use"), &json!("weather")));
                assert!(validator.is_valid(&block["input"]), "{block}");
            } else {
                assert_eq!(whole["stop_reason"], "max_tokens", "{whole}");
            }
            let events = running.post("/v1/messages", &anthropic(choice.clone(), seed, true)).events();
            let data: Vec<Value> =
                events.iter().map(|(_, data)| serde_json::from_str(data).expect("JSON")).collect();
            let kinds: Vec<&str> = data
                .iter()
                .filter_map(|event| event["type"].as_str())
                .filter(|kind| !["content_block_delta", "ping"].contains(kind))
                .collect();
            let order = [
                "message_start",
                "content_block_start",
                "content_block_stop",
                "message_delta",
                "message_stop",
            ];
            assert_eq!(kinds, order, "{data:?}");
            let begin = data.iter().find(|event| event["type"] == "content_block_start").expect("a block");
            let block = &begin["content_block"];
            assert_eq!(
                (&block["type"], &block["name"], &block["input"]),
                (&json!("tool_use"), &json!("weather"), &json!({}))
            );
            let text: String =
                data.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
            let end = data.iter().find(|event| event["type"] == "message_delta").expect("an end");
            if end["delta"]["stop_reason"] == "tool_use" {
                assert!(validator.is_valid(&serde_json::from_str(&text).expect("JSON")), "{text}");
            }
        }
    }
}

/// A conversation with calls and results in it is the same prompt in both dialects.
#[test]
fn results_go_back_to_the_model() {
    for (name, running) in random_models() {
        let schema = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
        let call = json!({ "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{\"a\": \"x\"}" } });
        let openai = json!({
            "model": "free", "max_tokens": 1, "messages": [
                { "role": "user", "content": "go" },
                { "role": "assistant", "content": "so", "tool_calls": [call] },
                { "role": "tool", "tool_call_id": "c1", "content": "done" },
                { "role": "user", "content": "and?" },
            ],
            "tools": [{ "type": "function", "function": { "name": "f", "parameters": schema } }], "tool_choice": "none",
        });
        let anthropic = json!({
            "model": "claude-x", "messages": [
                { "role": "user", "content": "go" },
                { "role": "assistant", "content": [{ "type": "text", "text": "so" }, { "type": "tool_use", "id": "c1", "name": "f", "input": { "a": "x" } }] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "c1", "content": [{ "type": "text", "text": "done" }] },
                    { "type": "text", "text": "and?" },
                ] },
            ],
            "tools": [{ "name": "f", "input_schema": schema }],
        });
        let prompt = running.post("/v1/chat/completions", &openai);
        assert_eq!(prompt.status, 200, "{}", prompt.body);
        let counted = running.post("/v1/messages/count_tokens", &anthropic).json();
        assert_eq!(prompt.json()["usage"]["prompt_tokens"], counted["input_tokens"], "{name}");
    }
}

#[test]
fn tools_that_cannot_be_called_are_refused() {
    let tool = |schema: &Value, strict: bool| json!([{ "type": "function", "function": { "name": "f", "parameters": schema, "strict": strict } }]);
    let nested =
        json!({ "type": "object", "properties": { "a": { "type": "object", "dependentSchemas": {} } } });
    for (more, field, word) in [
        (json!({ "tools": [{ "type": "web_search" }] }), "tools", "web_search"),
        (json!({ "tools": [{ "type": "function", "function": {} }] }), "tools", "name"),
        (json!({ "tools": tool(&nested, true) }), "tools", "/properties/a/dependentSchemas"),
        (json!({ "tools": [], "tool_choice": "required" }), "tool_choice", "no `tools`"),
        (
            json!({ "tool_choice": { "type": "function", "function": { "name": "nobody" } } }),
            "tool_choice",
            "nobody",
        ),
        (json!({ "tool_choice": "maybe" }), "tool_choice", "required"),
        (
            json!({ "response_format": { "type": "grammar", "syntax": "regex", "definition": "x" } }),
            "response_format",
            "json_schema",
        ),
    ] {
        let reply = SERVER.post("/v1/chat/completions", &openai(&json!("auto"), more.clone()));
        assert_eq!(reply.status, 400, "{more}: {}", reply.body);
        let error = &reply.json()["error"];
        assert_eq!(error["param"], field, "{more}: {error}");
        assert!(error["message"].as_str().expect("text").contains(word), "{more}: {error}");
    }
    let loose = openai(&json!("auto"), json!({ "tools": tool(&nested, false), "max_tokens": 1 }));
    assert_eq!(SERVER.post("/v1/chat/completions", &loose).status, 200);
    let unused = openai(&json!("none"), json!({ "seed": 1, "max_tokens": 20 }));
    let reply = SERVER.post("/v1/chat/completions", &unused).json();
    assert!(reply["choices"][0]["message"].get("tool_calls").is_none(), "{reply}");
}

/// The bundled model does not know tools; where it may choose, it answers.
#[test]
fn an_answer_without_a_call_is_an_answer() {
    let more = json!({ "messages": [{ "role": "user", "content": "Write a Python function `add` that returns the sum of `a` and `b`." }], "temperature": 0 });
    let reply = SERVER.post("/v1/chat/completions", &openai(&json!("auto"), more)).json();
    let choice = &reply["choices"][0];
    assert_eq!(choice["finish_reason"], "stop", "{reply}");
    assert!(choice["message"]["content"].as_str().expect("text").contains("def add"), "{reply}");
}
