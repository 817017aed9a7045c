//! Requests, and that nothing panics; `answers` has what comes back.

mod answers;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn to(dialect: Dialect, body: Value) -> Result<(Value, Vec<&'static str>)> {
    let Value::Object(body) = body else { panic!("an object") };
    request(dialect, body).map(|(body, notes)| (Value::Object(body), notes.into_iter().collect()))
}

const TO: [Dialect; 2] = [Dialect::Anthropic, Dialect::Openai];

fn hi() -> Value {
    json!([{ "role": "user", "content": "hi" }])
}

/// What a server of Anthropic's is asked for a client of OpenAI's.
#[test]
fn a_whole_conversation_for_anthropic() {
    let mut asked = json!({
        "model": "m", "max_tokens": 7, "max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": "END", "stream": true,
        "stream_options": { "include_usage": true }, "user": "u", "n": 1, "logprobs": false, "presence_penalty": 0,
        "parallel_tool_calls": false, "tool_choice": "required", "reasoning_effort": "low", "prompt_cache_key": "k",
        "response_format": { "type": "json_schema", "json_schema": { "name": "a", "strict": true, "schema": { "type": "object" } } },
        "tools": [
            { "type": "function", "function": { "name": "f", "description": "d", "parameters": { "type": "object" }, "strict": true } },
            { "type": "function", "function": { "name": "g" } },
        ],
        "messages": [
            { "role": "system", "content": "Be exact." },
            { "role": "developer", "content": [{ "type": "text", "text": "Be short.", "cache_control": { "type": "ephemeral" } }] },
            { "role": "user", "content": [
                { "type": "text", "text": "look" },
                { "type": "text", "text": "" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AA", "detail": "low" } },
                { "type": "image_url", "image_url": { "url": "https://x/y.png" } },
                { "type": "file", "file": { "filename": "a.pdf", "file_data": "data:application/pdf;base64,BB" } },
            ] },
            { "role": "assistant", "content": null, "refusal": null, "annotations": [], "reasoning_content": "hm", "tool_calls": [
                { "index": 0, "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{\"a\": 1}" } },
                { "id": "c2", "type": "function", "function": { "name": "g", "arguments": "" } },
            ] },
            { "role": "tool", "tool_call_id": "c1", "name": "f", "content": "one" },
            { "role": "tool", "tool_call_id": "c2", "content": "" },
            { "role": "user", "content": "go on" },
            { "role": "assistant", "content": "" },
        ],
    });
    let hints = json!({ "service_tier": "auto", "store": false, "verbosity": "low", "safety_identifier": "s",
                        "prediction": { "type": "content", "content": "x" } });
    asked.as_object_mut().unwrap().extend(hints.as_object().unwrap().clone());
    let late =
        [json!({ "role": "system", "content": "Be quick." }), json!({ "role": "developer", "content": "" })];
    asked["messages"].as_array_mut().unwrap().extend(late);
    let text = |text: &str| json!({ "type": "text", "text": text });
    let expected = json!({
        "model": "m", "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop_sequences": ["END"], "stream": true,
        "metadata": { "user_id": "u" },
        "tool_choice": { "type": "any", "disable_parallel_tool_use": true },
        "output_config": { "effort": "low", "format": { "type": "json_schema", "schema": { "type": "object" } } },
        "tools": [
            { "name": "f", "description": "d", "input_schema": { "type": "object" }, "strict": true },
            { "name": "g", "input_schema": { "type": "object", "properties": {} } },
        ],
        "system": [text("Be exact."), { "type": "text", "text": "Be short.", "cache_control": { "type": "ephemeral" } }],
        "messages": [
            { "role": "user", "content": [
                text("look"),
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AA" } },
                { "type": "image", "source": { "type": "url", "url": "https://x/y.png" } },
                { "type": "document", "source": { "type": "base64", "media_type": "application/pdf", "data": "BB" }, "title": "a.pdf" },
            ] },
            { "role": "assistant", "content": [
                { "type": "tool_use", "id": "c1", "name": "f", "input": { "a": 1 } },
                { "type": "tool_use", "id": "c2", "name": "g", "input": {} },
            ] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "c1", "content": [text("one")] },
                { "type": "tool_result", "tool_use_id": "c2" },
                text("go on"),
                text("Be quick."),
            ] },
        ],
    });
    let (made, notes) = to(Dialect::Anthropic, asked).unwrap();
    assert_eq!(made, expected, "{made:#}");
    let left_out =
        "detail prediction prompt_cache_key reasoning_content role safety_identifier store verbosity";
    assert_eq!(notes.join(" "), left_out);
}

/// What a server of OpenAI's is asked for a client of Anthropic's.
#[test]
fn a_whole_conversation_for_openai() {
    let asked = json!({
        "model": "m", "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "stop_sequences": ["END"], "stream": true,
        "metadata": { "user_id": "u" }, "thinking": { "type": "adaptive" }, "cache_control": { "type": "ephemeral" },
        "tool_choice": { "type": "tool", "name": "f", "disable_parallel_tool_use": true },
        "context_management": { "edits": [{ "type": "clear_tool_uses_20250919" }] },
        "output_config": { "effort": "high", "format": { "type": "json_schema", "schema": { "type": "object" } } },
        "service_tier": "auto",
        "tools": [
            { "name": "f", "description": "d", "input_schema": { "type": "object" }, "strict": true, "cache_control": { "type": "ephemeral" } },
            { "type": "custom", "name": "g", "defer_loading": false, "input_examples": [{ "a": 1 }] },
        ],
        "system": [
            { "type": "text", "text": "x-anthropic-billing-header: cch=1;" },
            { "type": "text", "text": "Be exact.", "cache_control": { "type": "ephemeral" } },
            { "type": "text", "text": "Be short." },
        ],
        "messages": [
            { "role": "user", "content": [
                { "type": "text", "text": "look" },
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AA" } },
                { "type": "document", "source": { "type": "base64", "media_type": "application/pdf", "data": "BB" }, "title": "a.pdf", "citations": { "enabled": false } },
                { "type": "document", "source": { "type": "text", "media_type": "text/plain", "data": "words" }, "title": "t", "context": "c" },
            ] },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "hm", "signature": "s" },
                { "type": "redacted_thinking", "data": "x" },
                { "type": "text", "text": "I call." },
                { "type": "tool_use", "id": "c1", "name": "f", "input": { "a": 1 } },
                { "type": "tool_use", "id": "c2", "name": "g", "input": {} },
            ] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "c1", "content": [
                    { "type": "text", "text": "one" },
                    { "type": "image", "source": { "type": "url", "url": "https://x/y.png" } },
                ] },
                { "type": "tool_result", "tool_use_id": "c2", "content": "no", "is_error": true },
                { "type": "text", "text": "go on" },
            ] },
            { "role": "system", "content": "Now hurry." },
            { "role": "assistant", "content": [{ "type": "thinking", "thinking": "", "signature": "s" }] },
        ],
    });
    let call = |id: &str, name: &str, arguments: &str| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
    let expected = json!({
        "model": "m", "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "stop": ["END"], "stream": true, "user": "u",
        "tool_choice": { "type": "function", "function": { "name": "f" } }, "parallel_tool_calls": false,
        "reasoning_effort": "high",
        "response_format": { "type": "json_schema", "json_schema": { "name": "answer", "strict": true, "schema": { "type": "object" } } },
        "tools": [
            { "type": "function", "function": { "name": "f", "description": "d", "parameters": { "type": "object" }, "strict": true } },
            { "type": "function", "function": { "name": "g", "parameters": { "type": "object", "properties": {} } } },
        ],
        "messages": [
            { "role": "system", "content": "Be exact.\n\nBe short." },
            { "role": "user", "content": [
                { "type": "text", "text": "look" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AA" } },
                { "type": "file", "file": { "filename": "a.pdf", "file_data": "data:application/pdf;base64,BB" } },
                { "type": "text", "text": "t\n\nc\n\nwords" },
            ] },
            { "role": "assistant", "content": "I call.", "tool_calls": [call("c1", "f", r#"{"a":1}"#), call("c2", "g", "{}")] },
            { "role": "tool", "tool_call_id": "c1", "content": "one\n\nIts pictures follow." },
            { "role": "tool", "tool_call_id": "c2", "content": "The tool failed.\n\nno" },
            { "role": "user", "content": [
                { "type": "image_url", "image_url": { "url": "https://x/y.png" } },
                { "type": "text", "text": "go on" },
            ] },
            { "role": "system", "content": "Now hurry." },
        ],
    });
    let (made, notes) = to(Dialect::Openai, asked).unwrap();
    assert_eq!(made, expected, "{made:#}");
    assert_eq!(notes, ["cache_control", "context_management", "input_examples", "thinking"]);
}

#[test]
fn tools_are_chosen() {
    let tools = [
        json!([{ "type": "function", "function": { "name": "f" } }]),
        json!([{ "name": "f", "input_schema": { "type": "object" } }]),
    ];
    let named = json!({ "type": "function", "function": { "name": "f" } });
    for (openai, anthropic, both) in [
        (json!("auto"), Value::Null, false),
        (json!("none"), json!({ "type": "none" }), true),
        (json!("required"), json!({ "type": "any" }), true),
        (named, json!({ "type": "tool", "name": "f" }), true),
    ] {
        let asked = json!({ "messages": hi(), "tools": tools[0], "tool_choice": openai });
        assert_eq!(to(Dialect::Anthropic, asked).unwrap().0["tool_choice"], anthropic);
        if both {
            let asked = json!({ "messages": hi(), "tools": tools[1], "tool_choice": anthropic });
            assert_eq!(to(Dialect::Openai, asked).unwrap().0["tool_choice"], openai);
        }
    }
    // Without tools there is nothing to choose, which servers refuse to hear.
    for (dialect, choice) in
        [(Dialect::Anthropic, json!("none")), (Dialect::Openai, json!({ "type": "none" }))]
    {
        let made = to(dialect, json!({ "messages": hi(), "tool_choice": choice })).unwrap().0;
        assert_eq!(made.get("tool_choice"), None);
    }
}

/// What has no counterpart is refused by name, with what to do; what is wrong is, too.
#[test]
fn what_cannot_be_said_is_named() {
    let with = |field: &str, value: Value| json!({ "messages": hi(), field: value });
    let said = |message: Value| json!({ "messages": [{ "role": "user", "content": "hi" }, message] });
    let part = |part: Value| json!({ "messages": [{ "role": "user", "content": [part] }] });
    let call = |kind: &str, arguments: &str| {
        let call = json!({ "id": "c", "type": kind, "function": { "name": "f", "arguments": arguments } });
        said(json!({ "role": "assistant", "tool_calls": [call] }))
    };
    for (body, words) in [
        (with("n", json!(2)), "`n`"),
        (with("logprobs", json!(true)), "`logprobs`"),
        (with("top_logprobs", json!(3)), "`top_logprobs`"),
        (with("seed", json!(1)), "`seed`"),
        (with("logit_bias", json!({ "1": 2 })), "`logit_bias`"),
        (with("frequency_penalty", json!(0.5)), "`frequency_penalty`"),
        (with("temperature", json!(1.5)), "`temperature` above `1`"),
        (with("service_tier", json!("priority")), "`service_tier`"),
        (with("reasoning_effort", json!("minimal")), "`minimal`"),
        (with("response_format", json!({ "type": "json_object" })), "`json_object`"),
        (
            with("response_format", json!({ "type": "json_schema" })),
            "`response_format.json_schema.schema` is missing",
        ),
        (
            with("tools", json!([{ "type": "custom", "custom": { "name": "f" } }])),
            "`tools[0]` of type `custom`",
        ),
        (with("tools", json!([7])), "`tools[0]` must be an object"),
        (with("tool_choice", json!("required")), "`tool_choice`"),
        (with("tool_choice", json!({ "type": "allowed_tools" })), "`allowed_tools`"),
        (said(json!({ "role": "user", "name": "ann", "content": "x" })), "`messages[1].name`"),
        (said(json!({ "role": "user", "content": "" })), "`messages[1].content` is empty"),
        (said(json!({ "role": "narrator", "content": "x" })), "`messages[1].role`"),
        (said(json!({ "role": "tool", "content": "x" })), "`messages[1].tool_call_id` is missing"),
        (said(json!({ "role": "assistant", "content": "x", "audio": { "id": "a" } })), "`messages[1].audio`"),
        (call("custom", "{}"), "`messages[1].tool_calls[0]` of type `custom`"),
        (call("function", "[1]"), "`messages[1].tool_calls[0].function.arguments`"),
        (call("function", "{\"a\""), "`messages[1].tool_calls[0].function.arguments`"),
        (
            part(json!({ "type": "input_audio", "input_audio": {} })),
            "`messages[0].content[0]` of type `input_audio`",
        ),
        (
            part(json!({ "type": "image_url", "image_url": { "url": "file:///x" } })),
            "`messages[0].content[0].image_url`",
        ),
        (part(json!({ "type": "file", "file": { "file_id": "f" } })), "file_id"),
    ] {
        let error = to(Dialect::Anthropic, body.clone()).unwrap_err().to_string();
        assert!(error.contains(words), "{body}: {error}");
    }
    let block = |block: Value| json!({ "messages": [{ "role": "user", "content": [block] }] });
    let document = |more: (&str, Value)| {
        let mut made = json!({ "type": "document", "source": { "type": "base64", "media_type": "application/pdf", "data": "A" } });
        made[more.0] = more.1;
        block(made)
    };
    for (body, words) in [
        (with("top_k", json!(4)), "`top_k`"),
        (with("mcp_servers", json!([{}])), "`mcp_servers`"),
        (with("service_tier", json!("priority")), "`service_tier`"),
        (with("output_config", json!({ "effort": "max" })), "`output_config.effort` of `max`"),
        (with("output_format", json!({ "type": "other" })), "`output_format` of type `other`"),
        (
            with("context_management", json!({ "edits": [{ "type": "compact_20260112" }] })),
            "`compact_20260112`",
        ),
        (
            with("tools", json!([{ "type": "web_search_20250305", "name": "s" }])),
            "`tools[0]` of type `web_search_20250305`",
        ),
        (with("tools", json!([{ "type": "bash_20250124", "name": "bash" }])), "`bash_20250124`"),
        (
            with("tools", json!([{ "name": "f", "input_schema": {}, "defer_loading": true }])),
            "`tools[0].defer_loading`",
        ),
        (with("tool_choice", json!({ "type": "any" })), "`tool_choice`"),
        (document(("citations", json!({ "enabled": true }))), "`messages[0].content[0].citations`"),
        (document(("context", json!("c"))), "`messages[0].content[0].context`"),
        (block(json!({ "type": "search_result" })), "`messages[0].content[0]` of type `search_result`"),
        (block(json!({ "type": "server_tool_use", "id": "s" })), "`server_tool_use`"),
        (
            block(json!({ "type": "image", "source": { "type": "file", "file_id": "f" } })),
            "`messages[0].content[0].source` of type `file`",
        ),
        (
            block(json!({ "type": "tool_use", "id": "c", "name": "f", "input": {} })),
            "`messages[0].content` has calls",
        ),
        (
            said(json!({ "role": "assistant", "content": [{ "type": "tool_result", "tool_use_id": "c" }] })),
            "has results",
        ),
        (said(json!({ "role": "user", "content": 7 })), "`messages[1].content`"),
    ] {
        let error = to(Dialect::Openai, body.clone()).unwrap_err().to_string();
        assert!(error.contains(words), "{body}: {error}");
    }
}

/// Any JSON, with the names that mean something in both dialects.
fn anything() -> impl Strategy<Value = Value> {
    let name = proptest::sample::select(vec![
        "type",
        "role",
        "content",
        "text",
        "messages",
        "tools",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "input",
        "delta",
        "choices",
        "usage",
        "index",
        "id",
        "source",
        "image_url",
        "url",
        "content_block",
        "message",
        "system",
        "tool_choice",
    ]);
    let word = proptest::sample::select(vec![
        "text",
        "user",
        "assistant",
        "system",
        "tool",
        "tool_use",
        "tool_result",
        "function",
        "image",
        "document",
        "base64",
        "message_start",
        "content_block_start",
        "content_block_delta",
        "message_delta",
        "text_delta",
        "input_json_delta",
        "{}",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        word.prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let pairs = proptest::collection::vec((name.clone(), inner.clone()), 0..5);
        let object = pairs.prop_map(|pairs| {
            Value::Object(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
        });
        prop_oneof![proptest::collection::vec(inner, 0..4).prop_map(Value::Array), object]
    })
}

proptest! {
    #[test]
    fn nothing_that_is_said_panics(said in anything(), events in proptest::collection::vec(anything(), 0..6)) {
        for dialect in TO {
            if let Value::Object(body) = &said {
                let _ = request(dialect, body.clone());
                let messages = json!({ "messages": [said] });
                let _ = to(dialect, messages);
            }
            let mut translation = Translation::new(dialect, 0, true);
            for event in &events {
                let _ = translation.event(&event.to_string());
            }
            let _ = (translation.end(), translation.whole(&said.to_string()));
        }
    }
}
