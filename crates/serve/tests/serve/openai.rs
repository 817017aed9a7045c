//! The API of OpenAI.

use serde_json::{Value, json};

use crate::support::{Reply, SERVER, own, with};

const CHAT: &str = "/v1/chat/completions";

fn ask(text: &str) -> Value {
    json!({ "model": "coder-tiny", "messages": [{ "role": "user", "content": text }], "temperature": 0 })
}

/// The text with what differs every time replaced.
fn steady(reply: &Reply) -> String {
    let first: Value = match reply.body.strip_prefix("data: ") {
        Some(data) => serde_json::from_str(data.lines().next().expect("a line")).expect("JSON"),
        None => reply.json(),
    };
    let id = first["id"].as_str().expect("an id");
    assert!(id.len() > 30, "{id}");
    reply.body.replace(id, "ID").replace(&first["created"].to_string(), "NOW")
}

/// Covers S0-16, S2-16, S3-15.
#[test]
fn an_answer_byte_for_byte() {
    // Nothing is in the cache of a server of its own.
    let reply = own()
        .post(CHAT, &with(ask("Classify: Add login button"), json!({ "model": "free", "max_tokens": 5 })));
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(
        steady(&reply),
        r#"{"id":"ID","object":"chat.completion","created":NOW,"model":"coder-tiny","choices":[{"index":0,"message":{"role":"assistant","content":"FEAT","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":24,"completion_tokens":3,"total_tokens":27,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#
    );
}

#[test]
fn a_stream_byte_for_byte() {
    let fields = json!({ "stream": true, "stream_options": { "include_usage": true }, "seed": 1 });
    let reply = SERVER.post(CHAT, &with(ask("Classify this: Add a logout button"), fields));
    let text = steady(&reply);
    let head =
        r#"data: {"id":"ID","object":"chat.completion.chunk","created":NOW,"model":"coder-tiny","choices":["#;
    let lines: Vec<&str> = text.split_terminator("\n\n").collect();
    let begin = format!(
        r#"{head}{{"index":0,"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}],"usage":null}}"#
    );
    let end =
        format!(r#"{head}{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"stop"}}],"usage":null}}"#);
    assert_eq!(lines[0], begin);
    assert_eq!(lines[lines.len() - 3], end);
    assert!(lines[lines.len() - 2].starts_with(&format!(r#"{head}],"usage":{{"prompt_tokens":"#)), "{text}");
    assert_eq!(lines[lines.len() - 1], "data: [DONE]");
}

/// The same words, streamed or not.
#[test]
fn a_stream_says_what_the_whole_says() {
    let body = with(
        ask("Write a Python function `add` that returns the sum of `a` and `b`."),
        json!({ "seed": 3, "temperature": 1.0 }),
    );
    let whole = SERVER.post(CHAT, &body).json();
    let stream = SERVER.post(CHAT, &with(body, json!({ "stream": true })));
    let events = stream.events();
    let (last, chunks) = events.split_last().expect("events");
    assert_eq!(last.1, "[DONE]");
    let chunks: Vec<Value> =
        chunks.iter().map(|(_, data)| serde_json::from_str(data).expect("JSON")).collect();
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    assert!(text.contains("def add"), "{text}");
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
    let ends: Vec<&Value> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["finish_reason"])
        .filter(|end| !end.is_null())
        .collect();
    assert_eq!(ends, ["stop"]);
}

#[test]
fn several_answers_with_their_log_probabilities() {
    let fields = json!({ "n": 3, "temperature": 1.5, "seed": 7, "logprobs": true, "top_logprobs": 2, "max_tokens": 12 });
    let body = with(ask("Write a Rust function `twice`."), fields);
    let whole = SERVER.post(CHAT, &body).json();
    let choices = whole["choices"].as_array().expect("choices");
    assert_eq!(choices.len(), 3);
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], index);
        let tokens = choice["logprobs"]["content"].as_array().expect("tokens");
        let bytes: Vec<u8> = tokens
            .iter()
            .flat_map(|token| token["bytes"].as_array().expect("bytes"))
            .map(|byte| byte.as_u64().expect("a byte") as u8)
            .collect();
        assert_eq!(String::from_utf8_lossy(&bytes), choice["message"]["content"].as_str().expect("text"));
        for token in tokens {
            assert!(token["logprob"].as_f64().expect("a number") <= 0.0);
            assert_eq!(token["top_logprobs"].as_array().expect("a list").len(), 2);
        }
    }
    let tokens: usize =
        choices.iter().map(|choice| choice["logprobs"]["content"].as_array().map_or(0, Vec::len)).sum();
    assert_eq!(whole["usage"]["completion_tokens"], tokens);
    let stream = SERVER.post(CHAT, &with(body, json!({ "stream": true })));
    let mut texts = vec![String::new(); 3];
    let mut counts = [0; 3];
    for (_, data) in stream.events().iter().filter(|(_, data)| data != "[DONE]") {
        let chunk: Value = serde_json::from_str(data).expect("JSON");
        let choice = &chunk["choices"][0];
        let index = choice["index"].as_u64().expect("an index") as usize;
        texts[index] += choice["delta"]["content"].as_str().unwrap_or_default();
        counts[index] += choice["logprobs"]["content"].as_array().map_or(0, Vec::len);
    }
    for index in 0..3 {
        assert_eq!(texts[index], choices[index]["message"]["content"]);
        assert_eq!(counts[index], choices[index]["logprobs"]["content"].as_array().map_or(0, Vec::len));
    }
}

#[test]
fn where_an_answer_ends() {
    let end = |fields| {
        let reply = SERVER.post(CHAT, &with(ask("Write a Python function `add`."), fields)).json();
        let choice = &reply["choices"][0];
        let content = choice["message"]["content"].as_str().expect("text").to_owned();
        (content, choice["finish_reason"].as_str().expect("a reason").to_owned())
    };
    let (whole, reason) = end(json!({}));
    assert_eq!(reason, "stop");
    let (text, reason) = end(json!({ "stop": "(" }));
    assert_eq!((text.as_str(), reason.as_str()), (whole.split('(').next().expect("text"), "stop"));
    let (text, reason) = end(json!({ "max_tokens": 2 }));
    assert!(whole.starts_with(&text) && text.len() < whole.len());
    assert_eq!(reason, "length");
    assert_eq!(end(json!({ "max_completion_tokens": 2, "stop": null })).0, text);
    // As good as forbidden: the first token of the answer.
    let first = SERVER.post(
        "/v1/chat/completions",
        &with(ask("Write a Python function `add`."), json!({ "logprobs": true })),
    );
    let token =
        first.json()["choices"][0]["logprobs"]["content"][0]["token"].as_str().expect("a token").to_owned();
    assert!(whole.starts_with(&token));
}

/// Covers S2-17, S0-13, S0-27.
#[test]
fn models_have_all_their_names() {
    let list = SERVER.get("/v1/models");
    assert_eq!(
        list.body,
        r#"{"object":"list","data":[{"id":"coder-tiny","object":"model","created":0,"owned_by":"local"},{"id":"free","object":"model","created":0,"owned_by":"local"},{"id":"qwen2.5-coder:32b","object":"model","created":0,"owned_by":"local"}]}"#
    );
    assert_eq!(SERVER.get("/v1/models/qwen2.5-coder:32b").json()["id"], "qwen2.5-coder:32b");
    assert_eq!(SERVER.get("/v1/models/a/b").status, 404);
    // A name that is answered is known, also one of many and that of a role.
    assert_eq!(SERVER.get("/v1/models/claude-x").json()["id"], "claude-x");
    assert_eq!(SERVER.get("/v1/models/primary").json()["id"], "primary");
    let no_text = SERVER.get("/v1/models/%FF");
    assert_eq!((no_text.status, &no_text.json()["error"]["param"]), (400, &json!("model")));
    for name in ["free", "qwen2.5-coder:32b", "claude-opus-5-5"] {
        let reply = SERVER.post(CHAT, &with(ask("Classify: crash"), json!({ "model": name })));
        assert_eq!(reply.json()["model"], "coder-tiny");
    }
    let reply = SERVER.post(CHAT, &with(ask("x"), json!({ "model": "gpt-4o" })));
    assert_eq!(reply.status, 404);
    assert_eq!(
        reply.body,
        r#"{"error":{"message":"no model `gpt-4o`; there are coder-tiny, free, qwen2.5-coder:32b","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#
    );
}

#[test]
fn an_answer_keeps_its_form() {
    let schema = json!({
        "type": "object", "properties": { "kind": { "enum": ["BUG", "FEAT"] }, "urgent": { "type": "boolean" } },
        "required": ["kind", "urgent"], "additionalProperties": false,
    });
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let forms = [
        json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "k", "strict": true, "schema": schema } } }),
        json!({ "response_format": { "type": "json_schema", "schema": schema } }),
        json!({ "response_format": { "type": "json_object", "schema": schema } }),
        json!({ "json_schema": schema }),
    ];
    let content = |fields| {
        let reply = SERVER.post(CHAT, &with(ask("Classify: Add login"), fields));
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()["choices"][0]["message"]["content"].as_str().expect("text").to_owned()
    };
    for fields in forms {
        let value: Value =
            serde_json::from_str(&content(with(fields, json!({ "temperature": 1.5 })))).expect("JSON");
        assert!(validator.is_valid(&value), "{value}");
    }
    let loose = json!({ "type": "array", "items": { "type": "null" }, "maxItems": 1, "uniqueItems": true });
    let loose = json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "k", "schema": loose } } });
    assert!(["[]", "[null]"].contains(&content(loose).as_str()));
    let any = json!({ "response_format": { "type": "json_object" }, "max_tokens": 400, "temperature": 1.5, "seed": 1 });
    assert!(content(any).starts_with('{'));
    let word =
        json!({ "response_format": { "type": "grammar", "syntax": "regex", "definition": "BUG|TASK" } });
    assert!(["BUG", "TASK"].contains(&content(word).as_str()));
    let word = json!({ "response_format": { "type": "grammar", "syntax": "lark", "definition": "start: \"yes\" | \"no\"" } });
    assert!(["yes", "no"].contains(&content(word).as_str()));
    let word =
        json!({ "grammar": "root ::= kind # one of them\nkind ::= \"FEAT\" | [A-C]{3}", "temperature": 1.5 });
    let word = content(word);
    assert!(
        word == "FEAT" || (word.len() == 3 && word.bytes().all(|b| (b'A'..=b'C').contains(&b))),
        "{word}"
    );
}

/// What the server cannot do it says, and names the field.
#[test]
fn bad_requests_name_the_field() {
    let cases = [
        (json!({ "temperature": "hot" }), "temperature"),
        (json!({ "temperature": -1 }), "temperature"),
        (json!({ "top_p": 2 }), "top_p"),
        (json!({ "presence_penalty": 3 }), "presence_penalty"),
        (json!({ "logit_bias": { "x": 1 } }), "logit_bias"),
        (json!({ "logit_bias": { "99999999": 1 } }), "logit_bias"),
        (json!({ "max_tokens": 0 }), "max_tokens"),
        (json!({ "max_tokens": -1 }), "max_tokens"),
        (json!({ "n": 0 }), "n"),
        (json!({ "n": 17 }), "n"),
        (json!({ "stop": [""] }), "stop"),
        (json!({ "stop": 1 }), "stop"),
        (json!({ "top_logprobs": 3 }), "top_logprobs"),
        (json!({ "messages": [] }), "messages"),
        (json!({ "messages": [{ "role": "wizard", "content": "x" }] }), "messages[0].role"),
        (json!({ "messages": [{ "role": "user", "content": 5 }] }), "messages[0].content"),
        (json!({ "messages": [{ "content": "x" }] }), "messages[0].role"),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "file:///etc/passwd" } }] }] }),
            "messages[0].content[0]",
        ),
        (json!({ "messages": [{ "role": "assistant", "audio": { "id": "a" } }] }), "messages[0].audio"),
        (
            json!({ "messages": [{ "role": "assistant", "function_call": { "name": "f", "arguments": "{}" } }] }),
            "messages[0].function_call",
        ),
        (
            json!({ "messages": [{ "role": "assistant", "tool_calls": [{ "id": "c", "type": "custom", "custom": { "name": "f", "input": "" } }] }] }),
            "messages[0].tool_calls[0]",
        ),
        (json!({ "response_format": { "type": "xml" } }), "response_format.type"),
        (json!({ "response_format": { "type": "json_schema" } }), "response_format"),
        (json!({ "json_schema": ["type", "object"] }), "json_schema"),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "k", "strict": true, "schema": { "uniqueItems": true } } } }),
            "response_format",
        ),
        (json!({ "grammar": "root ::= nobody" }), "grammar"),
        (json!({ "grammar": "root ::= \"x\"", "json_schema": {} }), "grammar"),
        (json!({ "grammar": 5 }), "grammar"),
        (json!({ "functions": [] }), "functions"),
        (json!({ "audio": {} }), "audio"),
        (json!({ "moderation": {} }), "moderation"),
        (json!({ "modalities": ["audio"] }), "modalities"),
        (json!({ "chat_template_kwargs": { "messages": [] } }), "chat_template_kwargs"),
    ];
    for (fields, param) in cases {
        let reply = SERVER.post(CHAT, &with(ask("x"), fields.clone()));
        assert_eq!(reply.status, 400, "{fields}: {}", reply.body);
        let error = &reply.json()["error"];
        assert_eq!(error["param"], param, "{fields}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(
            error["message"]
                .as_str()
                .expect("text")
                .contains(param.split(['[', '.']).next().expect("a name")),
            "{error}"
        );
    }
    let missing = SERVER.post(CHAT, &json!({ "model": "free" }));
    assert_eq!(missing.json()["error"]["message"], "`messages`: is missing");
    let known = json!({ "user": "u", "metadata": {}, "store": true, "service_tier": "auto", "made_up": [1], "stop": null, "seed": null,
        "stream_options": { "include_usage": null } });
    assert_eq!(SERVER.post(CHAT, &with(ask("Classify: x"), known)).status, 200);
}

/// A picture that a tool has made must not end the conversation; one that the user sends cannot be answered.
#[test]
fn a_picture_beside_a_result() {
    let picture = json!([{ "type": "image_url", "image_url": { "url": "data:image/png;base64,aGk=" } }]);
    let call = json!({ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } });
    let mut said = json!([
        { "role": "user", "content": "go" },
        { "role": "assistant", "content": null, "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "c", "content": picture },
        { "role": "user", "content": picture },
    ]);
    let status = |said: &Value| {
        SERVER.post(CHAT, &with(ask("x"), json!({ "messages": said, "max_tokens": 1 }))).status
    };
    assert_eq!(status(&said), 200);
    said[2] = json!({ "role": "assistant", "content": "done" });
    assert_eq!(status(&said), 400);
}

#[test]
fn a_field_with_two_names_may_have_both() {
    for (content, reasoning) in
        [(json!("hm"), Value::Null), (Value::Null, json!("hm")), (json!("hm"), json!("hm"))]
    {
        let answer = json!({ "role": "assistant", "content": "so", "reasoning_content": content, "reasoning": reasoning });
        let said = json!([{ "role": "user", "content": "x" }, answer, { "role": "user", "content": "y" }]);
        let fields =
            json!({ "messages": said, "max_tokens": 1, "repeat_penalty": 1.1, "repetition_penalty": null });
        let reply = SERVER.post(CHAT, &with(ask("x"), fields));
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    let low = SERVER.post(CHAT, &with(ask("x"), json!({ "repeat_penalty": -1 })));
    assert_eq!((low.status, &low.json()["error"]["param"]), (400, &json!("repetition_penalty")));
}

/// Covers S3-17. Nothing is cut off a prompt.
#[test]
fn a_prompt_that_is_too_long_is_refused_with_both_numbers() {
    let reply = SERVER.post(CHAT, &ask(&"word ".repeat(20_000)));
    assert_eq!(reply.status, 400, "{}", reply.body);
    let error = &reply.json()["error"];
    assert_eq!(
        (&error["code"], &error["type"]),
        (&json!("context_length_exceeded"), &json!("invalid_request_error"))
    );
    let message = error["message"].as_str().expect("text");
    let numbers: Vec<usize> =
        message.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    assert!(numbers.len() == 2 && numbers[1] > 20_000 && numbers[0] < numbers[1], "{message}");
    assert_eq!(error["param"], "messages");
    let raw = SERVER.post("/v1/completions", &json!({ "prompt": "word ".repeat(20_000) })).json();
    assert_eq!(raw["error"]["param"], "prompt");
    assert!(raw["error"]["message"].as_str().expect("text").contains("shorten `prompt`"), "{raw}");
}

#[test]
fn the_beginning_of_a_conversation_is_computed_once() {
    let text = format!("Remember: {}", "one two three four ".repeat(40));
    let first = SERVER.post(CHAT, &with(ask(&text), json!({ "max_tokens": 3 }))).json();
    let again = SERVER.post(CHAT, &with(ask(&text), json!({ "max_tokens": 3 }))).json();
    assert_eq!(first["choices"][0]["message"], again["choices"][0]["message"]);
    let cached = again["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().expect("a number");
    let prompt = again["usage"]["prompt_tokens"].as_u64().expect("a number");
    assert!(cached > 64 && cached < prompt, "{cached} of {prompt}");
}

#[test]
fn raw_text_byte_for_byte() {
    let body = json!({ "model": "free", "prompt": "<|im_start|>", "max_tokens": 2, "temperature": 0 });
    let reply = own().post("/v1/completions", &body);
    let text = steady(&reply);
    assert!(
        text.starts_with(
            r#"{"id":"ID","object":"text_completion","created":NOW,"model":"coder-tiny","choices":[{"text":""#
        ),
        "{text}"
    );
    assert!(text.ends_with(r#","index":0,"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#), "{text}");
}

/// An editor sends the template of its model with the code in it.
#[test]
fn markers_in_raw_text_are_tokens() {
    let complete = |fields: Value| {
        let body = with(json!({ "max_tokens": 8, "temperature": 0 }), fields);
        let reply = SERVER.post("/v1/completions", &body).json();
        let tokens = reply["usage"]["prompt_tokens"].as_u64().expect("a number");
        (reply["choices"][0]["text"].clone(), tokens)
    };
    let template = "<|fim_prefix|>def f(<|fim_suffix|>\n<|fim_middle|>";
    let between = complete(json!({ "prompt": "def f(", "suffix": "\n" }));
    assert_eq!(complete(json!({ "prompt": template })), between);
    // The texts that are put between them are text.
    let (_, tokens) = complete(json!({ "prompt": "def f(<|fim_suffix|>", "suffix": "\n" }));
    assert!(tokens > between.1 + 1, "{tokens}");
}

#[test]
fn raw_text_streamed_and_whole() {
    let body = json!({ "prompt": ["def add("], "max_tokens": 12, "temperature": 1, "seed": 5, "n": 2, "logprobs": 3 });
    let whole = SERVER.post("/v1/completions", &body).json();
    let stream = SERVER.post(
        "/v1/completions",
        &with(body, json!({ "stream": true, "stream_options": { "include_usage": true } })),
    );
    let events = stream.events();
    assert_eq!(events.last().expect("events").1, "[DONE]");
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|(_, data)| serde_json::from_str(data).expect("JSON"))
        .collect();
    assert_eq!(
        chunks.last().expect("usage")["usage"]["completion_tokens"],
        whole["usage"]["completion_tokens"]
    );
    for index in 0..2 {
        let mine =
            || chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|choice| choice["index"] == index);
        let text: String = mine().filter_map(|choice| choice["text"].as_str()).collect();
        let choice = &whole["choices"][index];
        assert_eq!(choice["text"], text.as_str());
        for field in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            let parts = mine().filter_map(|choice| choice["logprobs"][field].as_array()).flatten();
            assert_eq!(&parts.cloned().collect::<Value>(), &choice["logprobs"][field], "{field}");
        }
        assert_eq!(
            choice["logprobs"]["tokens"].as_array().expect("tokens").len(),
            choice["logprobs"]["text_offset"].as_array().expect("offsets").len()
        );
    }
}

#[test]
fn raw_prompts_of_all_kinds() {
    let complete = |fields: Value| {
        let body = with(json!({ "model": "free", "max_tokens": 4, "temperature": 0 }), fields);
        SERVER.post("/v1/completions", &body)
    };
    let text = |reply: &Reply| reply.json()["choices"][0]["text"].as_str().expect("text").to_owned();
    let plain = text(&complete(json!({ "prompt": "def add(" })));
    let tokens =
        SERVER.post("/tokenize", &json!({ "content": "def add(", "parse_special": false })).json()["tokens"]
            .clone();
    for prompt in [json!(["def add("]), tokens.clone(), json!([tokens])] {
        assert_eq!(text(&complete(json!({ "prompt": prompt }))), plain);
    }
    for (fields, param) in [
        (json!({ "prompt": ["a", "b"] }), "prompt"),
        (json!({ "prompt": [] }), "prompt"),
        (json!({ "prompt": [4_000_000_000u64] }), "prompt"),
        (json!({ "prompt": [-1] }), "prompt"),
        (json!({ "prompt": 7 }), "prompt"),
        (json!({}), "prompt"),
        (json!({ "prompt": "x", "echo": true }), "echo"),
        (json!({ "prompt": "x", "best_of": 3 }), "best_of"),
        (json!({ "prompt": "x", "logprobs": 9 }), "logprobs"),
        (json!({ "prompt": [1], "suffix": "x" }), "suffix"),
    ] {
        let reply = complete(fields.clone());
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (400, &json!(param)),
            "{fields}: {}",
            reply.body
        );
    }
}
