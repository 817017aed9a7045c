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
}

/// Servers number calls anew in each chunk, or not at all; let them grow in turns; and repeat what they are called.
#[test]
fn each_call_has_its_own_arguments() {
    let piece = |index: Option<u64>, id: &str, name: &str, arguments: &str| json!([{ "index": index, "id": id, "function": { "name": name, "arguments": arguments } }]);
    let both = |one: Value, other: Value| json!([one[0], other[0]]);
    let go = |calls: &Value| json!({ "id": "c", "choices": [{ "index": 0, "delta": { "tool_calls": calls }, "finish_reason": null }] });
    let told = |pieces: &[Value]| {
        let events = heard(Dialect::Anthropic, false, &pieces.iter().map(go).collect::<Vec<_>>());
        let mut calls: Vec<(String, String, String)> = Vec::new();
        for (_, event) in events {
            let block = &event["content_block"];
            if event["type"] == "content_block_start" {
                calls.push((text(block, "id").to_owned(), text(block, "name").to_owned(), String::new()));
            }
            if event["type"] == "content_block_delta" {
                assert_eq!(event["index"], calls.len() - 1);
                calls.last_mut().unwrap().2 += text(&event["delta"], "partial_json");
            }
        }
        let calls = calls.into_iter().map(|(id, name, arguments)| format!("{id} {name}{arguments}"));
        calls.collect::<Vec<_>>().join("; ")
    };
    let (x, y) = (r#"{"x":1}"#, r#"{"y":2}"#);
    let two = format!("a f{x}; b g{y}");
    for pieces in [
        // Whole calls of the same number, or of none.
        vec![piece(Some(0), "a", "f", x), piece(Some(0), "b", "g", y)],
        vec![piece(None, "a", "f", x), piece(None, "b", "g", y)],
        vec![both(piece(None, "a", "f", x), piece(None, "b", "g", y))],
        // In turns: heads first, then arguments, in either order.
        vec![
            both(piece(Some(0), "a", "f", ""), piece(Some(1), "b", "g", "")),
            piece(Some(0), "", "", r#"{"x""#),
            piece(Some(1), "", "", r#"{"y":"#),
            piece(Some(0), "", "", ":1}"),
            piece(Some(1), "", "", "2}"),
        ],
        vec![
            both(piece(Some(0), "a", "f", ""), piece(Some(1), "b", "g", "")),
            piece(Some(1), "", "", y),
            piece(Some(0), "", "", x),
        ],
        // The name in each piece, with the id or without it; and another id in each.
        vec![
            piece(Some(0), "a", "f", r#"{"x""#),
            piece(Some(0), "a", "f", ":1}"),
            piece(Some(0), "b", "g", r#"{"y""#),
            piece(Some(0), "", "g", ":2}"),
        ],
        vec![
            piece(Some(0), "a", "f", ""),
            piece(Some(0), "c", "", x),
            piece(Some(1), "b", "g", r#"{"y""#),
            piece(Some(1), "d", "", ":2}"),
            piece(Some(0), "", "", "\n"),
        ],
    ] {
        assert_eq!(told(&pieces), two, "{pieces:?}");
    }
    // Without ids they get one each, also where a function is called twice, or the end finds one in the middle.
    let twice = [piece(Some(0), "", "f", x), piece(Some(0), "", "f", y)];
    assert_eq!(told(&twice), format!("toolu_c_0 f{x}; toolu_c_1 f{y}"));
    let cut = [piece(Some(0), "", "f", ""), piece(Some(1), "", "g", r#"{"y"#), piece(Some(0), "", "", "{")];
    assert_eq!(told(&cut), r#"toolu_c_0 f{; toolu_c_1 g{"y"#);
    // What nobody could put together is an error.
    for (pieces, words) in [
        (vec![piece(Some(3), "a", "", x)], "call `3` begins without a name"),
        (
            vec![piece(Some(0), "a", "f", x), piece(Some(1), "b", "g", ""), piece(Some(0), "", "", "}")],
            "call `0` goes on",
        ),
    ] {
        let mut translation = Translation::new(Dialect::Anthropic, 0, false);
        let told = pieces.iter().try_for_each(|piece| translation.event(&go(piece).to_string()).map(drop));
        assert!(told.unwrap_err().contains(words), "{pieces:?}");
    }
}

/// Covers S3-20: what counts as text and as read from a cache is the same for the client as for the account.
#[test]
fn parts_are_text_and_every_name_of_a_count_is_known() {
    let content = json!([{ "type": "text", "text": "Hel" }, { "type": "x", "text": "no" }, { "type": "text", "text": "lo" }]);
    let usage = json!({ "prompt_tokens": 10, "completion_tokens": 4, "prompt_cache_hit_tokens": 3, "cache_creation_input_tokens": 2 });
    let counted = json!({ "input_tokens": 5, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 3, "output_tokens": 4 });
    let whole = json!({ "choices": [{ "message": { "content": content }, "finish_reason": "stop" }], "usage": usage });
    let made = Translation::new(Dialect::Anthropic, 0, false).whole(&whole.to_string()).unwrap();
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["content"], json!([{ "type": "text", "text": "Hello" }]));
    assert_eq!(made["usage"], counted);
    let chunk =
        json!({ "choices": [{ "delta": { "content": content }, "finish_reason": "stop" }], "usage": usage });
    let told = heard(Dialect::Anthropic, false, &[chunk]);
    let find = |kind: &str| &told.iter().find(|(name, _)| name == kind).unwrap().1;
    assert_eq!(find("content_block_delta")["delta"]["text"], "Hello");
    assert_eq!(find("message_delta")["usage"], counted);
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
