//! Calls of earlier turns through the published templates: what is rendered is what is read.

use super::*;
use coder_engine::{ChatTemplate, Message};
use serde_json::Map;

/// The published template of a model.
fn template(model: &str) -> Option<String> {
    let folder = common::shared(model)?;
    let jinja = folder.join("chat_template.jinja");
    if jinja.exists() {
        return Some(std::fs::read_to_string(jinja).expect("a readable file"));
    }
    let config = std::fs::read_to_string(folder.join("tokenizer_config.json")).expect("a readable file");
    let config: Value = serde_json::from_str(&config).expect("JSON");
    config["chat_template"].as_str().map(str::to_owned)
}

#[test]
fn the_format_is_the_templates() {
    for (model, format) in
        [("qwen2.5", CallFormat::Json), ("qwen3", CallFormat::Json), ("qwen3-coder", CallFormat::Xml)]
    {
        let Some(source) = template(model) else { return };
        assert_eq!(CallFormat::of_template(&source), format, "{model}");
    }
    if has_tag() {
        assert_eq!(CallFormat::of(tokenizer()), CallFormat::Json);
    }
}

/// C8: arguments as an object and as text, results, several calls.
#[test]
fn rendered_calls_read_back() {
    let arguments = json!({ "path": "a b.rs", "content": "fn f() {\n    \"é\\n\" // </parameter>\n}\n", "lines": [1, 2] });
    for model in ["qwen2.5", "qwen3", "qwen3-coder"] {
        let Some(source) = template(model) else { return };
        let set = agent(CallFormat::of_template(&source));
        let rendered = ChatTemplate::new(&source, []).unwrap();
        let render = |arguments: Value| {
            let call = |id: &str, name: &str, arguments: Value| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
            let messages = json!([
                { "role": "user", "content": "go" },
                { "role": "assistant", "content": "I do.", "tool_calls": [
                    call("1", "write_file", arguments), call("2", "read", json!("{\"path\": \"c\"}"))] },
                { "role": "tool", "tool_call_id": "1", "content": "written" },
                { "role": "tool", "tool_call_id": "2", "content": "text" },
            ]);
            let messages: Vec<Message> = serde_json::from_value(messages).unwrap();
            rendered.render(&messages, Some(&set.declarations()), true, &Map::new()).unwrap()
        };
        let text = render(arguments.clone());
        assert_eq!(text, render(json!(arguments.to_string())), "{model}: as text it is the same");
        assert!(text.contains("written") && text.contains("<tool_response>"), "{text}");
        let (_, answer) = text.split_once("<|im_start|>assistant\n").unwrap();
        let (answer, _) = answer.split_once("<|im_end|>").unwrap();
        let answer = read(&set, &answer.replace("<tool_call>", "␛"));
        assert_eq!((answer.text.as_str(), answer.calls.len()), ("I do.", 2), "{model}: {text}");
        let values: Vec<Value> =
            answer.calls.iter().map(|call| serde_json::from_str(&call.arguments).unwrap()).collect();
        assert_eq!(values, [arguments.clone(), json!({ "path": "c" })], "{model}");
    }
}
