//! What Claude Code sends: fields and blocks of its own, and tools that it tells of later.

use serde_json::{Value, json};

use crate::support::{Reply, SERVER, own};

const MESSAGES: &str = "/v1/messages?beta=true";

fn tool(name: &str, deferred: bool) -> Value {
    let schema = json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": { "n": { "type": "integer", "minimum": 0, "maximum": 9007199254740991_u64 } }, "required": ["n"], "additionalProperties": false });
    let mut tool = json!({ "name": name, "description": "A tool.", "input_schema": schema });
    if deferred {
        tool["defer_loading"] = true.into();
    }
    tool
}

/// A request as it comes, with a number that changes every time.
fn request(number: usize, messages: &Value) -> Value {
    let cache = json!({ "type": "ephemeral" });
    let billing = format!("x-anthropic-billing-header: cc_version=2.1.332.{number}; cc_entrypoint=sdk-cli;");
    json!({
        "model": "claude-x", "max_tokens": 60, "stream": true, "temperature": 1, "messages": messages,
        "system": [{ "type": "text", "text": billing }, { "type": "text", "text": "Be brief. ".repeat(20), "cache_control": cache }],
        "tools": [tool("Read", false), tool("CronList", true), tool("Placeholder", true)],
        "metadata": { "user_id": "{\"device_id\":\"x\"}" },
        "thinking": { "type": "adaptive", "display": "omitted" },
        "context_management": { "edits": [{ "type": "clear_thinking_20251015", "keep": "all" }] },
        "output_config": { "effort": "high" },
    })
}

fn user(text: &str) -> Value {
    json!({ "role": "user", "content": [{ "type": "text", "text": text, "cache_control": { "type": "ephemeral" } }] })
}

/// A search for tools, and what it found.
fn found(content: Value) -> Value {
    json!([
        user("go"),
        { "role": "system", "content": [{ "type": "text", "text": "CronList can be had." }] },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "c1", "name": "Read", "input": { "n": 1 } }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "c1", "content": content, "cache_control": { "type": "ephemeral" } }] },
    ])
}

fn error(reply: &Reply) -> String {
    assert_eq!(reply.status, 400, "{}", reply.body);
    reply.json()["error"]["message"].as_str().expect("text").to_owned()
}

#[test]
fn a_turn_and_the_next_from_the_cache() {
    let running = own();
    let usage = |number| {
        let reply = running.post(MESSAGES, &request(number, &json!([user("Say OK")])));
        assert_eq!(reply.status, 200, "{}", reply.body);
        let events = reply.events();
        let end = events.iter().find(|(name, _)| name == "message_delta").expect("an end");
        serde_json::from_str::<Value>(&end.1).expect("JSON")["usage"].clone()
    };
    let (first, next) = (usage(1), usage(2));
    assert_eq!(first["cache_read_input_tokens"], 0, "{first}");
    assert!(next["cache_read_input_tokens"].as_u64() > Some(64), "{next}");
}

/// Covers S3-18, S3-24.
#[test]
fn a_tool_that_is_found_can_be_called_from_there_on() {
    let count = |messages: &Value| {
        let reply = SERVER.post("/v1/messages/count_tokens", &request(1, messages));
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()["input_tokens"].as_u64().expect("a number")
    };
    let reference = json!([{ "type": "tool_reference", "tool_name": "CronList" }]);
    assert!(count(&found(reference.clone())) > count(&found(json!("nothing"))) + 20);

    let call = |name: &str, messages: &Value| {
        let mut body = request(1, messages);
        body["tool_choice"] = json!({ "type": "tool", "name": name });
        body["stream"] = false.into();
        SERVER.post(MESSAGES, &body)
    };
    let reply = call("CronList", &found(reference.clone()));
    assert_eq!(
        (reply.status, &reply.json()["content"][0]["name"]),
        (200, &json!("CronList")),
        "{}",
        reply.body
    );
    // What was not found, and what was not declared.
    assert!(error(&call("CronList", &found(json!("nothing")))).contains("no tool is called `CronList`"));
    assert!(error(&call("Placeholder", &found(reference))).contains("Placeholder"));
    let unknown = json!([{ "type": "tool_reference", "tool_name": "Nobody" }]);
    assert!(error(&call("Read", &found(unknown))).contains("no tool is called `Nobody`"));
}

#[test]
fn tools_come_and_go() {
    let with = |blocks: Value, name: &str| {
        let mut body = request(1, &json!([user("go"), { "role": "system", "content": blocks }, user("on")]));
        body["tool_choice"] = json!({ "type": "tool", "name": name });
        body["stream"] = false.into();
        SERVER.post(MESSAGES, &body)
    };
    let reference = |name: &str| json!({ "type": "tool_reference", "name": name });
    let definition = json!({ "type": "tool_definition", "definition": tool("New", false) });
    let add = |tool: &Value| json!({ "type": "tool_addition", "tool": tool });
    let remove = |name: &str| json!({ "type": "tool_removal", "tool": reference(name) });
    for (blocks, name) in [
        (json!([add(&reference("CronList"))]), "CronList"),
        (json!([add(&definition)]), "New"),
        (json!([remove("Read"), add(&reference("Read"))]), "Read"),
    ] {
        let reply = with(blocks, name);
        assert_eq!(
            (reply.status, &reply.json()["content"][0]["name"]),
            (200, &json!(name)),
            "{}",
            reply.body
        );
    }
    assert!(error(&with(json!([remove("Read")]), "Read")).contains("there are no `tools`"));
    assert!(error(&with(json!([add(&reference("Nobody"))]), "Read")).contains("Nobody"));
    assert!(error(&with(json!([{ "type": "tool_addition", "tool": {} }]), "Read")).contains("messages[1]"));
}

/// A picture that a tool has read must not end the conversation; one that the user sends cannot be answered.
#[test]
fn a_picture_in_a_result() {
    let picture = json!([{ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "aGk=" } }]);
    let reply = SERVER.post(MESSAGES, &request(1, &found(picture.clone())));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let asked = json!([{ "role": "user", "content": picture }]);
    assert!(error(&SERVER.post(MESSAGES, &request(1, &asked))).contains("`image`"));
}

/// Its tool tells of a PDF in a result, and shows the file or its pages in a message behind it.
#[test]
fn a_document_beside_a_result() {
    let pdf = json!({ "type": "document", "source": { "type": "base64", "media_type": "application/pdf", "data": "aGk=" } });
    let page = json!({ "type": "image", "source": { "type": "base64", "media_type": "image/jpeg", "data": "aGk=" } });
    let mut read = found(json!("PDF file read: a.pdf")).as_array().expect("a list").clone();
    let apart = json!({ "role": "user", "content": [pdf, page] });
    read.push(apart.clone());
    let reply = SERVER.post(MESSAGES, &request(1, &json!(read)));
    assert_eq!(reply.status, 200, "{}", reply.body);
    // And in every request that follows.
    let mut next = read.clone();
    next.extend([json!({ "role": "assistant", "content": "I cannot see it." }), user("on")]);
    assert_eq!(SERVER.post(MESSAGES, &request(2, &json!(next))).status, 200);
    // In the same message as well.
    read.pop();
    read[3]["content"].as_array_mut().expect("a list").push(pdf.clone());
    assert_eq!(SERVER.post(MESSAGES, &request(1, &json!(read))).status, 200);
    // What the user sends cannot be answered.
    *next.last_mut().expect("a message") = apart;
    assert!(error(&SERVER.post(MESSAGES, &request(1, &json!(next)))).contains("`document`"));
}

fn document(source: Value) -> Value {
    json!({ "type": "document", "title": "a.txt", "source": source })
}

/// Covers S3-18. Texts in blocks of their own are text like any other, said or found by a tool.
#[test]
fn documents_and_results_of_searches_are_text() {
    let count = |content: Value| {
        let found = found(json!([{ "type": "text", "text": "here" }]));
        let mut messages = found.as_array().expect("a list").clone();
        messages[3]["content"][0]["content"] = content.clone();
        let said = json!([{ "role": "user", "content": content }]);
        [said, messages.into()].map(|messages| {
            let reply = SERVER.post("/v1/messages/count_tokens", &request(1, &messages));
            assert_eq!(reply.status, 200, "{}", reply.body);
            reply.json()["input_tokens"].clone()
        })
    };
    let text = |text: &str| json!({ "type": "text", "text": text });
    let expected = count(json!("a.txt\none two\nWhat is it?"));
    for source in [
        json!({ "type": "text", "media_type": "text/plain", "data": "one two" }),
        json!({ "type": "content", "content": "one two" }),
        json!({ "type": "content", "content": [text("one two")] }),
    ] {
        assert_eq!(count(json!([document(source), text("What is it?")])), expected);
    }
    let search = json!({ "type": "search_result", "source": "http://a.example/", "title": "a.txt", "content": [text("one"), text("two")], "citations": { "enabled": false } });
    assert_eq!(count(json!([search])), count(json!("a.txt\nhttp://a.example/\none\ntwo")));
}

/// Whatever a tool has found, the conversation goes on.
#[test]
fn what_cannot_be_seen_in_a_result_is_told_of() {
    let resource = json!({ "type": "resource", "resource": { "uri": "file:///a" } });
    let picture = json!({ "type": "image", "source": { "type": "url", "url": "http://a.example/" } });
    let within = document(json!({ "type": "content", "content": [picture] }));
    for block in [resource, within] {
        assert_eq!(SERVER.post(MESSAGES, &request(1, &found(json!([block])))).status, 200);
        let said = json!([{ "role": "user", "content": [block] }]);
        assert!(
            error(&SERVER.post(MESSAGES, &request(1, &said))).contains("`messages[0].content`: a block of")
        );
    }
}

#[test]
fn citations_are_refused_and_not_forgotten() {
    for mut block in [
        document(json!({ "type": "text", "media_type": "text/plain", "data": "one two" })),
        json!({ "type": "search_result", "source": "a", "title": "b", "content": [] }),
    ] {
        let mut ask = |citations: Value| {
            block["citations"] = citations;
            let said =
                json!([{ "role": "user", "content": [block, { "type": "text", "text": "What is it?" }] }]);
            SERVER.post(MESSAGES, &request(1, &said))
        };
        assert!(error(&ask(json!({ "enabled": true }))).contains("`messages[0].content`: `citations`"));
        for none in [json!({ "enabled": false }), Value::Null] {
            assert_eq!(ask(none).status, 200);
        }
    }
}

#[test]
fn the_list_of_models_in_its_form() {
    let headers = [("anthropic-version", "2023-06-01")];
    let models = SERVER.send("GET", "/v1/models?limit=1000", &headers, b"").json();
    let ids: Vec<&str> =
        models["data"].as_array().expect("a list").iter().filter_map(|model| model["id"].as_str()).collect();
    assert!(ids.contains(&"free"), "{models}");
    assert_eq!((&models["has_more"], &models["first_id"]), (&json!(false), &json!(ids[0])));
    assert_eq!(
        (&models["data"][0]["type"], &models["data"][0]["display_name"]),
        (&json!("model"), &json!(ids[0]))
    );
    let one = SERVER.send("GET", "/v1/models/free", &headers, b"").json();
    assert_eq!((&one["type"], &one["id"]), (&json!("model"), &json!("free")));
    let none = SERVER.send("GET", "/v1/models/nobody", &headers, b"");
    assert_eq!((none.status, &none.json()["type"]), (404, &json!("error")), "{}", none.body);
}
