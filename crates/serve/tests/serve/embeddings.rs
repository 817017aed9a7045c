//! Texts as vectors, by the words of OpenAI's API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coder_serve::{Access, Keep, Limits, Models};
use serde_json::{Value, json};

use crate::support::{Running, SERVER, bundled, model, start};

fn vector(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn vectors(running: &Running, body: Value) -> Vec<Vec<f64>> {
    let reply = running.post("/v1/embeddings", &body);
    assert_eq!(reply.status, 200, "{body}: {}", reply.body);
    let reply = reply.json();
    assert_eq!(reply["object"], "list");
    let data = reply["data"].as_array().expect("a list");
    for (at, item) in data.iter().enumerate() {
        assert_eq!((&item["object"], &item["index"]), (&json!("embedding"), &json!(at)));
    }
    data.iter().map(|item| vector(&item["embedding"])).collect()
}

fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn every_form_of_input_gives_the_same_vectors() {
    let texts = ["fn add(a: i32, b: i32) -> i32 { a + b }", "žluťoučký 🐢", "<|im_end|>"];
    let whole = vectors(&SERVER, json!({ "model": "free", "input": texts }));
    assert_eq!(whole.len(), texts.len());
    for (text, expected) in texts.iter().zip(&whole) {
        assert!((length(expected) - 1.0).abs() < 1e-5);
        assert_eq!(&vectors(&SERVER, json!({ "input": text }))[0], expected);
    }
    assert!(whole[0] != whole[1] && whole[1] != whole[2]);
}

#[test]
fn bytes_and_fewer_dimensions() {
    let whole = vectors(&SERVER, json!({ "input": "x = 1" })).remove(0);
    let body = json!({ "input": "x = 1", "encoding_format": "base64" });
    let reply = SERVER.post("/v1/embeddings", &body).json();
    let bytes = STANDARD.decode(reply["data"][0]["embedding"].as_str().expect("a text")).expect("base64");
    let decoded: Vec<f64> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()).collect();
    // JSON has the shortest decimal number that is this float.
    assert!(whole.iter().zip(&decoded).all(|(a, b)| *a as f32 == *b as f32) && whole.len() == decoded.len());
    let short = vectors(&SERVER, json!({ "input": "x = 1", "dimensions": 8 })).remove(0);
    let factor = length(&whole[..8]);
    assert!(short.len() == 8 && short.iter().zip(&whole).all(|(s, w)| (s - w / factor).abs() < 1e-5));
    let tokens = SERVER.post("/tokenize", &json!({ "content": "x = 1" })).json()["tokens"].clone();
    let count = tokens.as_array().expect("a list").len();
    assert_eq!(reply["usage"], json!({ "prompt_tokens": count, "total_tokens": count }));
}

/// Many texts are read a few at a time, beside answers.
#[test]
fn many_texts() {
    let texts: Vec<String> = (0..200).map(|i| format!("def f{i}(x): return x + {i}")).collect();
    let found = vectors(&SERVER, json!({ "input": texts }));
    assert_eq!(found.len(), 200);
    assert_eq!(found[123], vectors(&SERVER, json!({ "input": texts[123] }))[0]);
}

#[test]
fn what_cannot_be_embedded_is_a_400_that_names_it() {
    let long = "word ".repeat(40_000);
    for (body, param) in [
        (json!({ "input": [] }), "input"),
        (json!({ "input": ["a", ""] }), "input[1]"),
        (json!({ "input": "" }), "input[0]"),
        (json!({ "input": [1, 2] }), "input"),
        (json!({ "input": [[1, 2], [3]] }), "input"),
        (json!({ "input": vec!["x"; 2049] }), "input"),
        (json!({ "input": { "a": 1 } }), "input"),
        (json!({ "input": "x", "dimensions": 0 }), "dimensions"),
        (json!({ "input": "x", "dimensions": 100_000 }), "dimensions"),
        (json!({ "input": "x", "encoding_format": "int8" }), "encoding_format"),
        (json!({}), "input"),
    ] {
        let reply = SERVER.post("/v1/embeddings", &body);
        let shown: String = body.to_string().chars().take(80).collect();
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (400, &json!(param)),
            "{shown}: {}",
            reply.body
        );
    }
    let tokens = SERVER.post("/v1/embeddings", &json!({ "input": [[1, 2]] }));
    assert!(tokens.body.contains("check_embedding_ctx_length=False"), "{}", tokens.body);
    let reply = SERVER.post("/v1/embeddings", &json!({ "input": long }));
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
    assert_eq!(reply.json()["error"]["param"], "input[0]");
    let unnamed = SERVER.post("/v1/embeddings", &json!({ "input": "x", "encoding_format": null })).json();
    assert_eq!(unnamed["model"], "coder-tiny");
    assert_eq!(SERVER.post("/v1/embeddings", &json!({ "input": "x", "model": "no-such" })).status, 404);
}

/// Covers S3-16: a role is a name, of the first model if it is not another's.
#[test]
fn roles_are_names() {
    let models = vec![model("large", bundled()), model("small", bundled())];
    let aliases = vec![("embed".to_owned(), "small".to_owned())];
    let models = Models::new(models, aliases, Keep::default()).expect("two models");
    let running = start(models, Access::default(), Limits::default());
    let open =
        || -> Vec<String> { running.server.models().engines().into_iter().map(|(name, _)| name).collect() };
    vectors(&running, json!({ "input": "x" }));
    assert_eq!(open(), ["small"], "without a name, the role is asked");
    let body =
        json!({ "model": "primary", "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 1 });
    assert_eq!(running.post("/v1/chat/completions", &body).json()["model"], "large");
}
