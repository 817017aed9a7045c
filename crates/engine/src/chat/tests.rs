use std::path::Path;

use serde_json::{Map, json};

use super::*;
use crate::tokenizer::tests::shared;

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, [("bos_token".to_owned(), "<s>".to_owned())]).unwrap()
}

fn render(source: &str, extra: Json) -> Result<String> {
    let Json::Object(extra) = extra else { panic!("extra variables are an object") };
    template(source).render(&[Message::new("user", "hi")], None, true, &extra)
}

fn text(source: &str) -> String {
    render(source, json!({})).unwrap()
}

fn refused(source: &str) -> String {
    render(source, json!({})).unwrap_err().to_string()
}

#[test]
fn published_vectors() {
    let Some(data) = shared().map(|shared| shared.join("data")) else { return };
    let read = |path: &str| std::fs::read_to_string(data.join(path)).unwrap();
    let lines: Vec<Json> =
        read("vectors/chat.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 7);
    for model in ["qwen2.5", "qwen3", "qwen3-coder"] {
        let source = match model {
            "qwen3-coder" => read("qwen3-coder/chat_template.jinja"),
            _ => {
                let config: Json =
                    serde_json::from_str(&read(&format!("{model}/tokenizer_config.json"))).unwrap();
                config["chat_template"].as_str().unwrap().to_owned()
            }
        };
        let template = ChatTemplate::new(&source, []).unwrap();
        for line in &lines {
            let messages: Vec<Message> = serde_json::from_value(line["messages"].clone()).unwrap();
            let tools = line["tools"].as_array().map(Vec::as_slice);
            let rendered = template.render(&messages, tools, true, &Map::new()).unwrap();
            assert_eq!(rendered, line["rendered"][model].as_str().unwrap(), "{model}: {messages:?}");
        }
    }
}

#[test]
fn arguments_as_text_are_the_same_as_an_object() {
    let Some(data) = shared().map(|shared| shared.join("data")) else { return };
    let source = std::fs::read_to_string(data.join("qwen3-coder/chat_template.jinja")).unwrap();
    let call = |arguments: Json| -> Vec<Message> {
        serde_json::from_value(json!([
            { "role": "user", "content": "go" },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "1", "type": "function", "function": { "name": "f", "arguments": arguments } } ] },
        ]))
        .unwrap()
    };
    let template = ChatTemplate::new(&source, []).unwrap();
    let show = |messages: Vec<Message>| template.render(&messages, None, false, &Map::new()).unwrap();
    let object = show(call(json!({ "path": "x", "n": [1, 2.0, true] })));
    assert_eq!(object, show(call(json!("{\"path\": \"x\", \"n\": [1, 2.0, true]}"))));
    assert!(object.contains("<parameter=n>\n[1, 2.0, true]\n</parameter>"), "{object}");
}

/// A call that was cut by the limit of its answer comes back with the next request.
#[test]
fn arguments_that_are_no_object_are_shown() {
    let source = "{% for name, value in messages[0].tool_calls[0].function.arguments|items %}{{ name }}={{ value }};{% endfor %}";
    let shown = |arguments: Json| {
        let call = json!({ "type": "function", "function": { "name": "f", "arguments": arguments } });
        let message: Message =
            serde_json::from_value(json!({ "role": "assistant", "tool_calls": [call] })).unwrap();
        template(source).render(&[message], None, false, &Map::new()).unwrap()
    };
    for nothing in [json!(null), json!(""), json!(" "), json!("null"), json!("{}"), json!({})] {
        assert_eq!(shown(nothing.clone()), "", "{nothing}");
    }
    assert_eq!(shown(json!("{\"path\": \"src/ma")), "arguments={\"path\": \"src/ma;");
    assert_eq!(shown(json!("[1]")), "arguments=[1];");
    assert_eq!(shown(json!([1, 2])), "arguments=[1, 2];");
    assert_eq!(shown(json!("{\"x\": 1}")), "x=1;");
}

#[test]
fn the_bundled_template_renders() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/coder-tiny/chat_template.jinja");
    let source = std::fs::read_to_string(path).unwrap();
    assert_eq!(text(&source), "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
}

#[test]
fn messages_keep_their_fields() {
    let json = json!({ "role": "assistant", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }],
        "reasoning_content": "r", "tool_call_id": "7", "name": "n", "strange": { "x": 1 } });
    let message: Message = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&message).unwrap(), json);
    let source = "{{ m.content }}|{{ m.reasoning_content }}|{{ m.strange.x }}|{{ m.tool_calls is defined }}";
    let source = source.replace("m.", "messages[0].");
    let rendered = template(&source).render(&[message], None, false, &Map::new()).unwrap();
    assert_eq!(rendered, "a\nb|r|1|False");
}

#[test]
fn an_image_is_refused() {
    let message: Message = serde_json::from_value(
        json!({ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }),
    )
    .unwrap();
    let error = template("").render(&[message], None, false, &Map::new()).unwrap_err();
    assert!(error.to_string().contains("`image_url` is not supported"), "{error}");
}

#[test]
fn json_is_written_as_python_does() {
    let extra = json!({ "x": { "b": [1, 2.0, 1e30, null, true], "a": "<é&'\"\n\u{7f}>" } });
    let show = |source| render(source, extra.clone()).unwrap();
    assert_eq!(
        show("{{ x | tojson }}"),
        "{\"b\": [1, 2.0, 1e+30, null, true], \"a\": \"<é&'\\\"\\n\u{7f}>\"}"
    );
    assert_eq!(
        show("{{ x | tojson(ensure_ascii=true, sort_keys=true) }}"),
        "{\"a\": \"<\\u00e9&'\\\"\\n\\u007f>\", \"b\": [1, 2.0, 1e+30, null, true]}"
    );
    assert_eq!(show("{{ x.b[:2] | tojson(indent=2) }}"), "[\n  1,\n  2.0\n]");
    assert_eq!(show("{{ {} | tojson(indent=2) }}{{ [] | tojson(indent=2) }}"), "{}[]");
    assert_eq!(show("{{ x.b[:2] | tojson(separators=[',', ':']) }}"), "[1,2.0]");
}

#[test]
fn values_are_written_as_python_does() {
    let extra = json!({ "x": [1, 0.5, true, null, "it's", "a\"\n"], "y": { "k": "v" } });
    let show = |source| render(source, extra.clone()).unwrap();
    assert_eq!(show("{{ x }} {{ y }}"), "[1, 0.5, True, None, \"it's\", 'a\"\\n'] {'k': 'v'}");
    assert_eq!(
        show("{{ none }} {{ true }} {{ undefined_thing }} {{ 1e16 }} {{ x | string | length }}"),
        "None True  1e+16 36"
    );
}

#[test]
fn blocks_are_trimmed_as_transformers_does() {
    assert_eq!(text("a\n  {% if true %}\nb\n  {% endif %}\nc\n"), "a\nb\nc");
    assert_eq!(
        text(
            "{% for m in messages %}\n  {% generation %}\n{{ m.content }}\n  {%- endgeneration -%}\n{% endfor %}"
        ),
        "hi"
    );
    assert_eq!(
        text(
            "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"
        ),
        "02"
    );
    assert_eq!(
        text(
            "{{ bos_token }}{% set ns = namespace(n=1) %}{% for m in messages[::-1] %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}"
        ),
        "<s>2"
    );
    assert_eq!(
        text(
            "{{ ' a '.strip() }}{{ 'a-b'.split('-')[-1] }}{{ {'x': 1}.get('y', 2) }}{{ 'ab'.startswith('a') }}"
        ),
        "ab2True"
    );
}

#[test]
fn extra_variables_reach_the_template() {
    let source =
        "{% if enable_thinking is defined and enable_thinking is false %}no{% endif %}{{ tools is none }}";
    assert_eq!(render(source, json!({ "enable_thinking": false })).unwrap(), "noTrue");
    assert_eq!(text("{{ strftime_now('%Y') | length }}"), "4");
}

#[test]
fn failures_name_their_reason() {
    assert!(refused("{{ raise_exception('roles must alternate') }}").contains("roles must alternate"));
    assert!(refused("a\n{{ 1 + 'x' }}").contains("(line 2)"));
    let error = ChatTemplate::new("a\n{% if %}", []).unwrap_err();
    assert!(matches!(&error, Error::Template(message) if message.contains("(line 2)")), "{error}");
    let unclosed = ChatTemplate::new("{% generation %", []).unwrap_err();
    assert!(matches!(unclosed, Error::Template(_)));
}

#[test]
fn hostile_templates_end() {
    let endless = "{% for i in range(10000) %}{% for j in range(10000) %}x{% endfor %}{% endfor %}";
    assert!(refused(endless).contains("fuel"), "{}", refused(endless));
    let recursive = "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}";
    assert!(refused(recursive).contains("recursion"), "{}", refused(recursive));
    let deep = "{% set ns = namespace(x=1) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}";
    assert!(refused(deep).contains("nested too deeply"), "{}", refused(deep));
    assert!(refused("{{ 'x' * 1000000000000 }}").contains("chat template"));
    assert!(refused("{% include 'other' %}").contains("chat template"));
}

#[test]
fn values_nested_without_end_do_not_overflow_the_stack() {
    let nest =
        "{% for i in range(1000) %}{% for j in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}";
    assert!(refused(&format!("{{% set ns = namespace(x=1) %}}{nest}")).contains("fuel"));
    let unrolled = "{% set x = [x] %}".repeat(100_000);
    for use_of_it in
        ["", "{{ x ~ 'a' }}", "{% if x == [x] %}{% endif %}", "{{ x | string }}", "{{ [x, x] | unique }}"]
    {
        // Any outcome but a crash is right.
        let _ = render(&format!("{unrolled}{use_of_it}"), json!({}));
    }
}

#[test]
fn a_long_conversation_renders() {
    let messages: Vec<Message> =
        (0..4000).map(|i| Message::new(["user", "assistant"][i % 2], "x".repeat(200))).collect();
    let Some(data) = shared().map(|shared| shared.join("data")) else { return };
    for model in ["qwen2.5", "qwen3"] {
        let tokenizer = Tokenizer::from_dir(data.join(model)).unwrap();
        let template = ChatTemplate::of(&tokenizer).unwrap().unwrap();
        assert!(template.render(&messages, None, true, &Map::new()).unwrap().len() > 800_000);
    }
}
