//! `coder tokenize` and `coder render`, against what transformers gives.

use serde_json::{Value, json};

use crate::support::{coder, folder, output, shared, stderr, stdout, text};

fn lines(path: &str) -> Option<Vec<Value>> {
    let lines = std::fs::read_to_string(shared(path)?).unwrap();
    Some(lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn the_bundled_model_tokenizes() {
    let output = coder(&["tokenize"]).write_stdin("def f(a):\n    return a\n<|im_end|>").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let tokens: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(tokens["count"].as_u64().unwrap() as usize, tokens["ids"].as_array().unwrap().len());
    assert!(tokens["count"].as_u64().unwrap() > 3);
    let plain = coder(&["tokenize", "--plain"]).write_stdin("<|im_end|>").output().unwrap();
    let plain: Value = serde_json::from_slice(&plain.stdout).unwrap();
    assert!(plain["count"].as_u64().unwrap() > 1);
}

/// The model's name is in configurations and results, which are text.
#[test]
fn a_model_whose_name_is_no_text_has_a_remedy() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"a\xff.gguf");
    for command in ["tokenize", "ask", "fit", "serve", "run"] {
        let output = coder(&[command, "--model"]).arg(odd).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("--model") && said.contains("`ln -s`"), "{said}");
    }
}

#[test]
fn every_vector_of_the_tokenizers() {
    let Some(vectors) = lines("vectors/tokenizer.jsonl") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (number, vector) in vectors.iter().enumerate() {
        let path = folder.path().join(format!("{number}.txt"));
        std::fs::write(&path, vector["text"].as_str().unwrap()).unwrap();
        files.extend(["--file", text(path)]);
    }
    for (model, key) in [("qwen2.5", "qwen2.5"), ("qwen3", "qwen3"), ("qwen2.5/vocab.gguf", "qwen2.5")] {
        let model = shared(model).unwrap();
        let args = [&["tokenize", "--model", text(&model)][..], &files].concat();
        let output = output(&args);
        assert!(output.status.success(), "{}", stderr(&output));
        let found: Vec<Value> =
            stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(found.len(), vectors.len());
        for (found, vector) in found.iter().zip(&vectors) {
            assert_eq!(found["ids"], vector[key], "{} {}", model.display(), vector["text"]);
            assert_eq!(found["count"], json!(vector[key].as_array().unwrap().len()));
        }
    }
}

#[test]
fn every_vector_of_the_chat_templates() {
    let Some(vectors) = lines("vectors/chat.jsonl") else { return };
    let coder_template = text(shared("qwen3-coder/chat_template.jinja").unwrap());
    for vector in &vectors {
        let messages = vector["messages"].to_string();
        let folder = folder(&[("messages.json", &messages), ("tools.json", &vector["tools"].to_string())]);
        let messages = text(folder.path().join("messages.json"));
        for (model, key, template) in [
            ("qwen2.5", "qwen2.5", None),
            ("qwen3", "qwen3", None),
            ("qwen3", "qwen3-coder", Some(coder_template)),
        ] {
            let Some(expected) = vector["rendered"][key].as_str() else { continue };
            let model = text(shared(model).unwrap());
            let mut args = vec!["render", "--model", model, messages];
            args.extend(template.iter().flat_map(|template| ["--chat-template", *template]));
            let tools = text(folder.path().join("tools.json"));
            if !vector["tools"].is_null() {
                args.extend(["--tools", tools]);
            }
            let output = output(&args);
            assert!(output.status.success(), "{model}: {}", stderr(&output));
            assert_eq!(stdout(&output), expected, "{key}");
        }
    }
}

#[test]
fn the_bundled_model_renders() {
    let folder = folder(&[("messages.json", r#"[{"role": "user", "content": "hi"}]"#)]);
    let messages = text(folder.path().join("messages.json"));
    let rendered = stdout(&output(&["render", messages]));
    assert_eq!(rendered, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
    let rendered = stdout(&output(&["render", messages, "--no-generation-prompt"]));
    assert_eq!(rendered, "<|im_start|>user\nhi<|im_end|>\n");
}

#[test]
fn broken_messages_are_named() {
    let folder = folder(&[("messages.json", "[{]")]);
    let output = output(&["render", text(folder.path().join("messages.json"))]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.starts_with("error: ") && said.contains("messages.json"), "{said}");
}
