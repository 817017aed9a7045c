//! The document that describes the server is true: every path is there, and real answers fit it.

use serde_json::{Value, json};

use crate::support::SERVER;

fn document() -> Value {
    SERVER.get("/openapi.json").json()
}

/// The schema of a path's answer, with what it refers to.
fn schema(document: &Value, path: &str, method: &str, status: &str) -> Value {
    let answer =
        &document["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"];
    json!({ "allOf": [answer], "components": document["components"] })
}

#[test]
fn every_path_is_in_the_document_and_every_path_of_the_document_is_there() {
    let document = document();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let described = document["paths"].as_object().expect("paths");
    let source = include_str!("../../src/server.rs");
    let mut routes = 0;
    for route in source.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")) {
        let (path, rest) = route.split_once('"').expect("a path");
        let path = path.replace("{*", "{");
        let method = if rest.contains("post(") { "post" } else { "get" };
        // The page and its parts are for people.
        if path != "/" && !path.starts_with("/page") && !path.starts_with("/api/board") {
            assert!(described.get(&path).is_some_and(|path| path.get(method).is_some()), "{method} {path}");
        }
        routes += 1;
    }
    assert!(routes >= described.len());
    for (path, methods) in described {
        for method in methods.as_object().expect("methods").keys() {
            let path = path.replace("{name}", "coder-tiny");
            let reply =
                SERVER.send(&method.to_uppercase(), &path, &[("content-type", "application/json")], b"{}");
            assert!(![404, 405].contains(&reply.status), "{method} {path}: {}", reply.status);
        }
    }
}

/// What is taken is in the document, so that whoever checks against it refuses nothing that would be answered.
#[test]
fn requests_that_are_answered_fit_the_document() {
    let document = document();
    let picture =
        json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "aGk=" } });
    let pdf = json!({ "type": "document", "source": { "type": "base64", "media_type": "application/pdf", "data": "aGk=" } });
    let text = json!({ "type": "text", "text": "a" });
    let blocks = json!([
        text, picture, pdf, { "type": "resource" },
        { "type": "document", "title": null, "citations": { "enabled": false }, "source": { "type": "content", "content": [text] } },
        { "type": "search_result", "source": "a", "title": "b", "content": [text], "citations": null },
        { "type": "tool_reference", "tool_name": "mcp.a:b/c" },
    ]);
    let tool = json!({ "name": "mcp.a:b/c", "input_schema": { "type": "object" }, "defer_loading": true });
    let reference = json!({ "type": "tool_reference", "name": "mcp.a:b/c" });
    let messages = json!({
        "model": "claude-x", "max_tokens": 1, "tools": [tool], "messages": [
            { "role": "user", "content": [{ "type": "document", "source": { "type": "text", "media_type": "text/plain", "data": "a" } }] },
            { "role": "system", "content": [{ "type": "tool_addition", "tool": reference }, { "type": "tool_removal", "tool": { "type": "tool_definition", "definition": tool } }] },
            { "role": "assistant", "content": [{ "type": "redacted_thinking", "data": "a" }, { "type": "tool_use", "id": "c", "name": "f", "input": {} }] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "c", "content": blocks, "is_error": false }, picture, pdf] },
        ],
        "output_config": { "effort": "high", "format": { "type": "json_schema", "schema": { "type": "object" } } },
    });
    let call = json!({ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } });
    let parts = json!([{ "type": "text", "text": "a" }, { "type": "image_url", "image_url": { "url": "data:" } }, { "type": "file", "file": {} }]);
    let chat = json!({ "max_tokens": 1, "messages": [
        { "role": "assistant", "content": null, "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "c", "content": parts }, { "role": "user", "content": parts },
    ] });
    for (path, name, body) in [
        ("/v1/messages", "MessagesRequest", &messages),
        ("/v1/messages/count_tokens", "CountRequest", &messages),
        ("/v1/chat/completions", "ChatRequest", &chat),
    ] {
        let reply = SERVER.post(path, body);
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        let schema =
            json!({ "$ref": format!("#/components/schemas/{name}"), "components": document["components"] });
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let problems: Vec<String> = validator.iter_errors(body).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{path}: {problems:?}");
    }
}

/// Covers S3-06: what a client is told is what it gets.
#[test]
fn answers_fit_the_document() {
    let document = document();
    let said = json!([{ "role": "user", "content": "Classify: crash" }]);
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object", "properties": {} } } });
    let asked = [
        ("/v1/chat/completions", json!({ "messages": said, "max_tokens": 4, "logprobs": true, "n": 2 })),
        (
            "/v1/chat/completions",
            json!({ "messages": said, "tools": [tool], "tool_choice": "required", "max_tokens": 60 }),
        ),
        ("/v1/completions", json!({ "prompt": "def f(", "max_tokens": 3, "logprobs": 1 })),
        ("/v1/responses", json!({ "input": "hi", "max_output_tokens": 3 })),
        ("/v1/embeddings", json!({ "input": ["a", "b"] })),
        ("/v1/embeddings", json!({ "input": "a", "encoding_format": "base64" })),
        ("/v1/messages", json!({ "model": "claude-x", "messages": said, "max_tokens": 3 })),
        ("/v1/messages/count_tokens", json!({ "model": "claude-x", "messages": said })),
        ("/tokenize", json!({ "content": "hi", "with_pieces": true })),
        ("/detokenize", json!({ "tokens": [5, 6] })),
        ("/apply-template", json!({ "messages": said })),
    ];
    let fits = |path: &str, method: &str, status: &str, value: &Value| {
        let validator =
            jsonschema::validator_for(&schema(&document, path, method, status)).expect("a schema");
        let problems: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{method} {path}: {problems:?}\n{value}");
    };
    for (path, body) in asked {
        let reply = SERVER.post(path, &body);
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        fits(path, "post", "200", &reply.json());
        let refused =
            SERVER.post(path, &json!({ "messages": 5, "input": 5, "prompt": {}, "content": 1, "tokens": 1 }));
        assert_eq!(refused.status, 400);
        fits(path, "post", "default", &refused.json());
    }
    for path in ["/v1/models", "/health", "/api/version", "/api/tags", "/openapi.json"] {
        fits(path, "get", "200", &SERVER.get(path).json());
    }
    fits("/v1/models/{name}", "get", "200", &SERVER.get("/v1/models/free").json());
}
