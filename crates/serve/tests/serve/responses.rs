//! POST /v1/responses.

use serde_json::{Value, json};

use crate::support::{Reply, Running, SERVER, own, random_models, with};

const RESPONSES: &str = "/v1/responses";
const TASK: &str = "Write a Python function `add` that returns the sum of `a` and `b`.";

fn ask(input: impl Into<Value>, fields: Value) -> Value {
    with(json!({ "model": "free", "input": input.into(), "temperature": 0 }), fields)
}

fn respond(running: &Running, body: &Value) -> Value {
    let reply = running.post(RESPONSES, body);
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()
}

/// The events of a stream, each with its type and number.
fn events(running: &Running, mut body: Value) -> Vec<Value> {
    body["stream"] = true.into();
    let events = running.post(RESPONSES, &body).events();
    let read = |(number, (name, data)): (usize, &(String, String))| {
        let data: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(
            (data["type"].as_str(), data["sequence_number"].as_u64()),
            (Some(name.as_str()), Some(number as u64))
        );
        data
    };
    events.iter().enumerate().map(read).collect()
}

/// The last event's response, after all that clients rely on was checked.
fn streamed(running: &Running, body: &Value) -> Value {
    let events = events(running, body.clone());
    let kind = |event: &Value| event["type"].as_str().expect("a type").to_owned();
    assert_eq!(
        (kind(&events[0]), kind(&events[1])),
        ("response.created".into(), "response.in_progress".into())
    );
    assert_eq!(events[0]["response"]["output"], json!([]));
    let last = events.last().expect("an end");
    assert_eq!(kind(last), format!("response.{}", last["response"]["status"].as_str().expect("a status")));
    let output = last["response"]["output"].as_array().expect("a list");
    for (at, item) in output.iter().enumerate() {
        let of: Vec<&Value> = events.iter().filter(|event| event["output_index"] == at).collect();
        let added = &of[0];
        assert_eq!(
            (kind(added), &added["item"]["id"], &added["item"]["status"]),
            ("response.output_item.added".into(), &item["id"], &json!("in_progress"))
        );
        let done = of.last().expect("an end");
        assert_eq!((kind(done), &done["item"]), ("response.output_item.done".into(), item));
        for event in &of[1..of.len() - 1] {
            assert_eq!(event["item_id"], item["id"], "{event}");
        }
        let deltas: String = of.iter().filter_map(|event| event["delta"].as_str()).collect();
        let (text, name, field) = match item["type"].as_str() {
            Some("function_call") => (&item["arguments"], "function_call_arguments", "arguments"),
            Some("reasoning") => (&item["content"][0]["text"], "reasoning_text", "text"),
            _ => (&item["content"][0]["text"], "output_text", "text"),
        };
        assert_eq!(text, deltas.as_str());
        let told = of
            .iter()
            .find(|event| kind(event) == format!("response.{name}.done"))
            .expect("the end of its text");
        assert_eq!(&told[field], text);
    }
    last["response"].clone()
}

/// The same without what differs every time.
fn steady(mut response: Value) -> Value {
    response["id"] = Value::Null;
    response["created_at"] = Value::Null;
    response["usage"]["input_tokens_details"] = Value::Null;
    for item in response["output"].as_array_mut().expect("a list") {
        item["id"] = Value::Null;
        item.as_object_mut().expect("an object").remove("call_id");
    }
    response
}

/// Covers S3-15.
#[test]
fn a_text_whole_and_streamed() {
    let body =
        ask(TASK, json!({ "instructions": "Answer with code.", "metadata": { "a": "b" }, "store": true }));
    let whole = respond(&SERVER, &body);
    assert_eq!(
        (&whole["object"], &whole["status"], &whole["error"]),
        (&json!("response"), &json!("completed"), &Value::Null)
    );
    assert_eq!(
        (&whole["store"], &whole["metadata"]["a"], &whole["instructions"]),
        (&json!(false), &json!("b"), &body["instructions"])
    );
    assert!(whole["id"].as_str().expect("an id").starts_with("resp_"), "{whole}");
    let item = &whole["output"][0];
    assert_eq!(
        (&item["type"], &item["role"], &item["status"]),
        (&json!("message"), &json!("assistant"), &json!("completed"))
    );
    assert!(item["content"][0]["text"].as_str().expect("text").contains("def add"), "{item}");
    let usage = &whole["usage"];
    let number = |name: &str| usage[name].as_u64().expect("a number");
    assert_eq!(number("total_tokens"), number("input_tokens") + number("output_tokens"));
    assert_eq!(steady(streamed(&SERVER, &body)), steady(whole));
}

#[test]
fn what_is_in_the_cache_is_told() {
    let running = own();
    let body = ask(
        format!("Keep in mind: {}", "five six seven eight ".repeat(40)),
        json!({ "max_output_tokens": 2 }),
    );
    let cached = || {
        respond(&running, &body)["usage"]["input_tokens_details"]["cached_tokens"].as_u64().expect("a number")
    };
    assert_eq!(cached(), 0);
    assert!(cached() > 64);
}

#[test]
fn an_answer_that_is_cut_is_incomplete() {
    let body = ask(TASK, json!({ "max_output_tokens": 3 }));
    for response in [respond(&SERVER, &body), streamed(&SERVER, &body)] {
        assert_eq!(
            (&response["status"], &response["incomplete_details"]["reason"]),
            (&json!("incomplete"), &json!("max_output_tokens"))
        );
        assert_eq!(
            (&response["output"][0]["status"], &response["usage"]["output_tokens"]),
            (&json!("incomplete"), &json!(3))
        );
    }
}

#[test]
fn a_form_is_kept() {
    let schema = json!({ "type": "object", "properties": { "kind": { "enum": ["BUG", "FEAT"] } }, "required": ["kind"], "additionalProperties": false });
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    for seed in 0..4 {
        let format = json!({ "type": "json_schema", "name": "kind", "strict": true, "schema": schema });
        let body =
            ask("Classify: crash", json!({ "text": { "format": format }, "temperature": 1.5, "seed": seed }));
        let response = respond(&SERVER, &body);
        let value = serde_json::from_str(response["output"][0]["content"][0]["text"].as_str().expect("text"))
            .expect("JSON");
        assert!(validator.is_valid(&value), "{value}");
        assert_eq!(response["text"]["format"]["name"], "kind");
    }
}

fn function(name: &str) -> Value {
    let schema = json!({ "type": "object", "properties": { "city": { "enum": ["Oslo", "Rome"] }, "days": { "type": "integer", "minimum": 1, "maximum": 9 } }, "required": ["city", "days"], "additionalProperties": false });
    json!({ "type": "function", "name": name, "description": "A tool.", "strict": true, "parameters": schema })
}

/// Covers S3-22, S3-23.
#[test]
fn calls_of_functions_and_of_those_in_namespaces() {
    let validator = jsonschema::validator_for(&function("f")["parameters"]).expect("a schema");
    let space = json!({ "type": "namespace", "name": "far", "description": "Far away.", "tools": [function("weather")] });
    let random = random_models();
    for (server, running) in
        random.iter().map(|(name, running)| (*name, running)).chain([("bundled", &*SERVER)])
    {
        let mut whole_calls = 0;
        for (seed, namespace) in [(0, None), (1, Some("far")), (2, None), (3, Some("far"))] {
            let fields = json!({
                "tools": [function("weather"), space], "tool_choice": { "type": "function", "name": "weather", "namespace": namespace },
                "parallel_tool_calls": false, "max_output_tokens": 600, "temperature": 1.5, "seed": seed,
            });
            let body = ask("Weather in Oslo?", fields);
            let response = respond(running, &body);
            assert_eq!(steady(streamed(running, &body)), steady(response.clone()), "{server}");
            let call = &response["output"][0];
            assert_eq!(
                (&call["type"], &call["name"]),
                (&json!("function_call"), &json!("weather")),
                "{server}: {response}"
            );
            assert_eq!(call["namespace"].as_str(), namespace, "{server}");
            if response["status"] == "incomplete" {
                assert_eq!(call["status"], "incomplete");
                continue;
            }
            let arguments = serde_json::from_str(call["arguments"].as_str().expect("text")).expect("JSON");
            assert!(validator.is_valid(&arguments), "{server}: {arguments}");
            whole_calls += 1;
        }
        assert!(whole_calls > 0, "{server}");
    }
}

/// What no grammar can guarantee is refused where a function is strict, in a namespace as well.
#[test]
fn a_strict_function_is_strict_in_a_namespace() {
    let ask_with = |strict: bool| {
        let items = json!({ "type": "array", "items": { "type": "string" }, "uniqueItems": true });
        let schema = json!({ "type": "object", "properties": { "a": items } });
        let tool = json!({ "type": "function", "name": "f", "strict": strict, "parameters": schema });
        let space = json!({ "type": "namespace", "name": "n", "tools": [tool] });
        SERVER.post(RESPONSES, &ask("hi", json!({ "tools": [space], "max_output_tokens": 1 })))
    };
    let refused = ask_with(true);
    assert!(refused.status == 400 && refused.body.contains("uniqueItems"), "{}", refused.body);
    assert_eq!(ask_with(false).status, 200);
}

/// A conversation is the same prompt in this dialect and the other one.
#[test]
fn a_conversation_is_the_same_prompt_as_in_chat() {
    let call = json!({ "id": "c1", "type": "function", "function": { "name": "weather", "arguments": "{\"city\": \"Oslo\"}" } });
    let chat = json!({
        "model": "free", "max_tokens": 1, "tool_choice": "none", "messages": [
            { "role": "system", "content": "Be brief." }, { "role": "user", "content": "go" },
            { "role": "assistant", "content": "so", "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "c1", "content": "done" }, { "role": "user", "content": "and?" },
        ],
        "tools": [{ "type": "function", "function": function("weather") }],
    });
    let input = json!([
        { "type": "message", "id": "msg_1", "role": "developer", "content": [{ "type": "input_text", "text": "Be brief." }] },
        { "role": "user", "content": "go" },
        { "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x" },
        { "type": "message", "role": "assistant", "status": "completed", "content": [{ "type": "output_text", "text": "so", "annotations": [] }] },
        { "type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": "{\"city\": \"Oslo\"}", "status": "completed" },
        { "type": "function_call_output", "call_id": "c1", "output": [{ "type": "input_text", "text": "done" }] },
        { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "and?" }] },
    ]);
    let body =
        ask(input, json!({ "max_output_tokens": 1, "tools": [function("weather")], "tool_choice": "none" }));
    let random = random_models();
    for running in random.iter().map(|(_, running)| running).chain([&*SERVER]) {
        let chat = running.post("/v1/chat/completions", &chat).json();
        assert_eq!(
            respond(running, &body)["usage"]["input_tokens"],
            chat["usage"]["prompt_tokens"],
            "{chat}"
        );
    }
}

fn refused(reply: &Reply) -> (Value, String) {
    assert_eq!(reply.status, 400, "{}", reply.body);
    let error = &reply.json()["error"];
    (error["param"].clone(), error["message"].as_str().expect("text").to_owned())
}

#[test]
fn what_cannot_be_had_is_refused_by_name() {
    let image = json!([{ "role": "user", "content": [{ "type": "input_image", "image_url": "http://169.254.169.254/" }] }]);
    for (fields, field, word) in [
        (json!({ "previous_response_id": "resp_1" }), "previous_response_id", "nothing is stored"),
        (json!({ "conversation": "conv_1" }), "conversation", "nothing is stored"),
        (json!({ "background": true }), "background", "stream"),
        (json!({ "moderation": {} }), "moderation", "not supported"),
        (json!({ "truncation": "auto" }), "truncation", "disabled"),
        (json!({ "top_logprobs": 2 }), "top_logprobs", "/v1/chat/completions"),
        (json!({ "max_output_tokens": 0 }), "max_output_tokens", "at least one"),
        (json!({ "tools": [{ "type": "web_search" }] }), "tools", "`web_search`"),
        (json!({ "tools": [{ "type": "custom", "name": "apply_patch" }] }), "tools", "`custom`"),
        (json!({ "tools": [{ "type": "namespace", "name": "n" }] }), "tools", "namespace"),
        (
            json!({ "tools": [function("f")], "tool_choice": { "type": "function", "name": "g" } }),
            "tool_choice",
            "`g`",
        ),
        (
            json!({ "text": { "format": { "type": "json_schema", "name": "x" } } }),
            "text.format",
            "`text.format",
        ),
        (
            json!({ "text": { "format": { "type": "json_schema", "strict": true, "schema": { "type": "nothing" } } } }),
            "text.format",
            "`text.format`",
        ),
        (json!({ "input": [] }), "input", "empty"),
        (json!({ "input": [{ "type": "item_reference", "id": "x" }] }), "input[0]", "`item_reference`"),
        (json!({ "input": [{ "type": "function_call", "name": "f" }] }), "input[0]", "call_id"),
        (json!({ "input": [{ "type": "function_call_output", "output": "x" }] }), "input[0]", "call_id"),
        (json!({ "input": [{ "role": "nobody", "content": "x" }] }), "input[0]", "nobody"),
        (json!({ "input": image }), "input[0].content", "`input_image`"),
        (json!({ "input": null }), "input", "text"),
    ] {
        let (param, message) = refused(&SERVER.post(RESPONSES, &ask("x", fields.clone())));
        assert_eq!(param, field, "{fields}: {message}");
        assert!(message.contains(word), "{fields}: {message}");
    }
    for accepted in [
        json!({ "background": false, "previous_response_id": null, "truncation": "disabled", "include": ["reasoning.encrypted_content"] }),
        json!({ "reasoning": { "effort": "none", "summary": "auto" }, "prompt_cache_key": "x", "client_metadata": {} }),
    ] {
        respond(&SERVER, &ask("Say OK", accepted));
    }
    let long = SERVER.post(RESPONSES, &ask("word ".repeat(20_000), json!({})));
    assert_eq!((long.status, &long.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
    assert_eq!(long.json()["error"]["param"], "input");
}
