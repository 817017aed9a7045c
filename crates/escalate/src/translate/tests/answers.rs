//! Answers, whole and streamed.

use serde_json::json;

use super::super::*;

fn heard(dialect: Dialect, counts: bool, events: &[Value]) -> Vec<(String, Value)> {
    let mut translation = Translation::new(dialect, 5, counts);
    let mut all = Vec::new();
    for event in events {
        all.extend(translation.event(&event.to_string()).unwrap());
    }
    all.extend(translation.end());
    assert!(translation.end().is_empty());
    let read = |event: Event| {
        (event.name.to_owned(), serde_json::from_str(&event.data).unwrap_or(json!(event.data)))
    };
    all.into_iter().map(read).collect()
}

/// A stream of Anthropic's, and the one of OpenAI's that it is: thoughts, text, calls with and without arguments, tokens.
#[test]
fn a_stream_for_a_client_of_openai() {
    let delta =
        |index: u64, delta: Value| json!({ "type": "content_block_delta", "index": index, "delta": delta });
    let begin = |index: u64, block: Value| json!({ "type": "content_block_start", "index": index, "content_block": block });
    let stop = |index: u64| json!({ "type": "content_block_stop", "index": index });
    let usage = json!({ "input_tokens": 10, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 3, "output_tokens": 1 });
    let events = [
        json!({ "type": "message_start", "message": { "id": "msg_1", "model": "claude", "content": [], "usage": usage } }),
        json!({ "type": "ping" }),
        begin(0, json!({ "type": "thinking", "thinking": "", "signature": "" })),
        delta(0, json!({ "type": "thinking_delta", "thinking": "hm" })),
        delta(0, json!({ "type": "signature_delta", "signature": "s" })),
        stop(0),
        begin(1, json!({ "type": "text", "text": "" })),
        delta(1, json!({ "type": "text_delta", "text": "I call" })),
        stop(1),
        begin(2, json!({ "type": "tool_use", "id": "t1", "name": "f", "input": {} })),
        delta(2, json!({ "type": "input_json_delta", "partial_json": "" })),
        delta(2, json!({ "type": "input_json_delta", "partial_json": "{\"a\":" })),
        delta(2, json!({ "type": "input_json_delta", "partial_json": " 1}" })),
        stop(2),
        begin(3, json!({ "type": "tool_use", "id": "t2", "name": "g", "input": {} })),
        stop(3),
        begin(4, json!({ "type": "tool_use", "id": "t3", "name": "h", "input": { "b": 2 } })),
        stop(4),
        json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use", "stop_sequence": null }, "usage": { "output_tokens": 20 } }),
        json!({ "type": "message_stop" }),
    ];
    let call = |index: u64, id: &str, name: &str, arguments: &str| {
        let function = json!({ "name": name, "arguments": arguments });
        json!({ "tool_calls": [{ "index": index, "id": id, "type": "function", "function": function }] })
    };
    let more = |index: u64, arguments: &str| json!({ "tool_calls": [{ "index": index, "function": { "arguments": arguments } }] });
    let deltas = [
        json!({ "role": "assistant", "content": "" }),
        json!({ "reasoning_content": "hm" }),
        json!({ "content": "I call" }),
        call(0, "t1", "f", ""),
        more(0, "{\"a\":"),
        more(0, " 1}"),
        call(1, "t2", "g", ""),
        more(1, "{}"),
        call(2, "t3", "h", r#"{"b":2}"#),
        json!({}),
    ];
    for counts in [true, false] {
        let mut told = heard(Dialect::Openai, counts, &events);
        assert!(told.iter().all(|(name, _)| name.is_empty()));
        assert_eq!(told.pop().unwrap().1, json!("[DONE]"));
        if counts {
            let last = told.pop().unwrap().1;
            assert_eq!(
                (&last["choices"], &last["model"], &last["id"]),
                (&json!([]), &json!("claude"), &json!("msg_1"))
            );
            let expected = json!({ "prompt_tokens": 15, "completion_tokens": 20, "total_tokens": 35, "prompt_tokens_details": { "cached_tokens": 3 } });
            assert_eq!(last["usage"], expected);
        }
        let choices: Vec<&Value> = told.iter().map(|(_, chunk)| &chunk["choices"][0]).collect();
        assert_eq!(choices.iter().map(|choice| choice["delta"].clone()).collect::<Vec<_>>(), deltas);
        assert_eq!(choices.last().unwrap()["finish_reason"], "tool_calls");
        let head =
            json!({ "id": "msg_1", "object": "chat.completion.chunk", "created": 5, "model": "claude" });
        for (_, chunk) in &told {
            assert!(head.as_object().unwrap().iter().all(|(field, value)| chunk[field] == *value), "{chunk}");
            assert_eq!(chunk.get("usage"), counts.then_some(&Value::Null));
        }
    }
}

/// A stream of OpenAI's, and the one of Anthropic's that it is.
#[test]
fn a_stream_for_a_client_of_anthropic() {
    let chunk = |delta: Value, finish: Value| json!({ "id": "c1", "model": "gpt", "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] });
    let go = |delta: Value| chunk(delta, Value::Null);
    let function = |name: &str, arguments: &str| json!({ "name": name, "arguments": arguments });
    let events = [
        go(json!({ "role": "assistant", "content": "" })),
        go(json!({ "reasoning_content": "hm" })),
        go(json!({ "content": "I " })),
        go(json!({ "content": "call" })),
        go(
            json!({ "tool_calls": [{ "index": 0, "id": "t1", "type": "function", "function": function("f", "") }] }),
        ),
        go(json!({ "tool_calls": [{ "index": 0, "function": { "arguments": "{\"a\":" } }] })),
        go(json!({ "tool_calls": [{ "index": 0, "function": { "arguments": " 1}" } }] })),
        // All at once, and without an id.
        go(json!({ "tool_calls": [{ "index": 1, "function": function("g", "{}") }] })),
        chunk(json!({}), json!("stop")),
        json!({ "id": "c1", "model": "gpt", "choices": [], "usage": { "prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": { "cached_tokens": 3 } } }),
    ];
    let told = heard(Dialect::Anthropic, false, &events);
    let begin =
        |index: u64, block: Value| ("content_block_start", json!({ "index": index, "content_block": block }));
    let delta = |index: u64, delta: Value| ("content_block_delta", json!({ "index": index, "delta": delta }));
    let stop = |index: u64| ("content_block_stop", json!({ "index": index }));
    let usage = |input: u64, cached: u64, output: u64| json!({ "input_tokens": input, "cache_creation_input_tokens": 0, "cache_read_input_tokens": cached, "output_tokens": output });
    let message = json!({
        "id": "c1", "type": "message", "role": "assistant", "model": "gpt", "content": [], "stop_reason": null,
        "stop_sequence": null, "usage": usage(0, 0, 0),
    });
    let expected = [
        ("message_start", json!({ "message": message })),
        begin(0, json!({ "type": "thinking", "thinking": "", "signature": "" })),
        delta(0, json!({ "type": "thinking_delta", "thinking": "hm" })),
        stop(0),
        begin(1, json!({ "type": "text", "text": "" })),
        delta(1, json!({ "type": "text_delta", "text": "I " })),
        delta(1, json!({ "type": "text_delta", "text": "call" })),
        stop(1),
        begin(2, json!({ "type": "tool_use", "id": "t1", "name": "f", "input": {} })),
        delta(2, json!({ "type": "input_json_delta", "partial_json": "{\"a\":" })),
        delta(2, json!({ "type": "input_json_delta", "partial_json": " 1}" })),
        stop(2),
        begin(3, json!({ "type": "tool_use", "id": "toolu_c1_1", "name": "g", "input": {} })),
        delta(3, json!({ "type": "input_json_delta", "partial_json": "{}" })),
        stop(3),
        (
            "message_delta",
            json!({ "delta": { "stop_reason": "tool_use", "stop_sequence": null }, "usage": usage(7, 3, 4) }),
        ),
        ("message_stop", json!({})),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for ((name, data), (kind, mut wanted)) in told.into_iter().zip(expected) {
        wanted["type"] = kind.into();
        assert_eq!((name.as_str(), &data), (kind, &wanted));
    }
    // Pieces of calls that alternate would be pieces of the wrong call.
    let mut translation = Translation::new(Dialect::Anthropic, 0, false);
    let events = [&events[4], &events[7], &events[5]].map(Value::to_string);
    let told: Vec<bool> = events.iter().map(|event| translation.event(event).is_ok()).collect();
    assert_eq!(told, [true, true, false]);
}

#[test]
fn whole_answers() {
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use", "stop_sequence": null,
        "content": [
            { "type": "thinking", "thinking": "hm", "signature": "" },
            { "type": "text", "text": "I call" },
            { "type": "tool_use", "id": "t1", "name": "f", "input": { "a": 1 } },
        ],
        "usage": { "input_tokens": 7, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 3, "output_tokens": 4 },
    });
    let call =
        json!({ "id": "t1", "type": "function", "function": { "name": "f", "arguments": r#"{"a":1}"# } });
    let completion = json!({
        "id": "msg_1", "object": "chat.completion", "created": 5, "model": "claude",
        "choices": [{ "index": 0, "logprobs": null, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "I call", "refusal": null, "reasoning_content": "hm", "tool_calls": [call] } }],
        "usage": { "prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "prompt_tokens_details": { "cached_tokens": 3 } },
    });
    let whole = |dialect: Dialect, json: &Value| {
        let mut translation = Translation::new(dialect, 5, true);
        let made =
            translation.whole(&json.to_string()).map(|text| serde_json::from_str::<Value>(&text).unwrap());
        assert!(translation.end().is_empty());
        made
    };
    assert_eq!(whole(Dialect::Openai, &message).unwrap(), completion);
    assert_eq!(whole(Dialect::Anthropic, &completion).unwrap(), message);
    // Arguments that are cut are no call at the limit, and else an error.
    let mut cut = completion;
    cut["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] = json!("{\"a\"");
    assert!(whole(Dialect::Anthropic, &cut).unwrap_err().contains("call `0`"));
    cut["choices"][0]["finish_reason"] = json!("length");
    let made = whole(Dialect::Anthropic, &cut).unwrap();
    assert_eq!((&made["stop_reason"], made["content"].as_array().unwrap().len()), (&json!("max_tokens"), 2));
}

#[test]
fn every_reason_to_end() {
    for (stop, finish) in [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
    ] {
        let message = json!({ "content": [{ "type": "text", "text": "a" }], "stop_reason": stop });
        let made = Translation::new(Dialect::Openai, 0, false).whole(&message.to_string()).unwrap();
        assert!(made.contains(&format!(r#""finish_reason":"{finish}""#)), "{made}");
        let completion = json!({ "choices": [{ "message": { "content": "a" }, "finish_reason": finish }] });
        let made = Translation::new(Dialect::Anthropic, 0, false).whole(&completion.to_string()).unwrap();
        assert!(made.contains(&format!(r#""stop_reason":"{stop}""#)), "{made}");
    }
    for (stop, finish) in [("stop_sequence", "stop"), ("model_context_window_exceeded", "length")] {
        let message = json!({ "content": [], "stop_reason": stop });
        let made = Translation::new(Dialect::Openai, 0, false).whole(&message.to_string()).unwrap();
        assert!(made.contains(&format!(r#""finish_reason":"{finish}""#)), "{made}");
    }
    let refused =
        json!({ "choices": [{ "message": { "content": null, "refusal": "no" }, "finish_reason": "stop" }] });
    let made = Translation::new(Dialect::Anthropic, 0, false).whole(&refused.to_string()).unwrap();
    assert!(made.contains(r#""stop_reason":"refusal""#) && made.contains(r#""text":"no""#), "{made}");
}
