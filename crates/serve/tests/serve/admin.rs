//! For those who run the server, and for scripts that look before they begin.

use coder_serve::{Access, Limits};
use serde_json::{Value, json};

use crate::support::{SERVER, models, start};

/// Covers S0-27, S2-13, S2-14: a script looks for a name.
#[test]
fn tags_have_the_names() {
    let tags = SERVER.get("/api/tags").json();
    let names: Vec<&str> = tags["models"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|model| model["name"].as_str())
        .collect();
    assert_eq!(names, ["coder-tiny", "free", "qwen2.5-coder:32b"]);
    assert!(tags["models"][0]["size"].as_u64().expect("bytes") > 1_000_000);
    assert_eq!(SERVER.get("/api/version").json()["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn text_to_tokens_and_back() {
    let text = "fn main() { println!(\"žluťoučký 🐢\"); }<|im_end|>";
    let tokens = |fields: Value| {
        let mut body = json!({ "content": text });
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        SERVER.post("/tokenize", &body).json()["tokens"].as_array().expect("a list").clone()
    };
    let (parsed, plain) = (tokens(json!({})), tokens(json!({ "parse_special": false })));
    assert!(parsed.len() < plain.len());
    for ids in [&parsed, &plain] {
        assert_eq!(SERVER.post("/detokenize", &json!({ "tokens": ids })).json()["content"], text);
    }
    let pieces = tokens(json!({ "with_pieces": true }));
    let ids: Vec<Value> = pieces.iter().map(|piece| piece["id"].clone()).collect();
    assert_eq!(ids, parsed);
    assert_eq!(pieces.last().expect("a token")["piece"], "<|im_end|>");
    assert_eq!(SERVER.post("/detokenize", &json!({ "tokens": [99_999_999] })).status, 400);
}

#[test]
fn a_prompt_as_the_model_reads_it() {
    let prompt =
        SERVER.post("/apply-template", &json!({ "messages": [{ "role": "user", "content": "hi" }] })).json();
    assert_eq!(prompt["prompt"], "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
}

/// Every line is a comment or a sample, histograms end with `+Inf`, and what is counted is what happened.
#[test]
fn numbers_for_prometheus() {
    let running = start(models(), Access::default(), Limits::default());
    let body = json!({ "model": "free", "messages": [{ "role": "user", "content": "Classify: crash" }], "temperature": 0 });
    let usage = running.post("/v1/chat/completions", &body).json()["usage"].clone();
    assert_eq!(running.get("/a/path/that/is/not").status, 404);
    let mut reply = running.get("/metrics");
    // A request ends a little after its client has heard the last of it.
    for _ in 0..1000 {
        if reply.body.contains("coder_open_requests 0\n") {
            break;
        }
        reply = running.get("/metrics");
    }
    assert!(reply.header("content-type").expect("a type").starts_with("application/openmetrics-text"));
    let text = &reply.body;
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(name.starts_with("coder_") && value.parse::<f64>().is_ok(), "{line}");
    }
    let has = |line: &str| assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    has("coder_requests_total{path=\"/v1/chat/completions\",status=\"200\"} 1");
    has("coder_requests_total{path=\"other\",status=\"404\"} 1");
    has("coder_answers_total{model=\"coder-tiny\",reason=\"stop\"} 1");
    has(&format!("coder_prompt_tokens_total{{model=\"coder-tiny\"}} {}", usage["prompt_tokens"]));
    has(&format!("coder_completion_tokens_total{{model=\"coder-tiny\"}} {}", usage["completion_tokens"]));
    has("coder_first_token_seconds_bucket{le=\"+Inf\",model=\"coder-tiny\"} 1");
    has("coder_open_requests 0");
    has("coder_cache_blocks_used{model=\"coder-tiny\"} 0");
}
