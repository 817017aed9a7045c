//! Calls are read out of whatever a model writes, and reading never fails.

use super::*;
use proptest::prelude::*;

const XML: CallFormat = CallFormat::Xml;
const JSON: CallFormat = CallFormat::Json;

fn xml(name: &str, parameters: &[(&str, &str)]) -> String {
    let parameters: String =
        parameters.iter().map(|(key, value)| format!("<parameter={key}>\n{value}\n</parameter>\n")).collect();
    format!("<function={name}>\n{parameters}</function>")
}

#[test]
fn both_formats_give_the_same_call() {
    let expected = json!({ "path": "src/a.rs", "limit": 3 });
    let call = xml("read", &[("path", "src/a.rs"), ("limit", "3")]);
    let answer = read(&agent(XML), &format!("I look.\n␛\n{call}\n</tool_call>"));
    assert_eq!((answer.text.as_str(), answer.only()), ("I look.", ("read", expected.clone())));
    let call = r#"{"name": "read", "arguments": {"path": "src/a.rs", "limit": 3}}"#;
    let answer = read(&agent(JSON), &format!("I look.\n␛\n{call}\n</tool_call>"));
    assert_eq!((answer.text.as_str(), answer.only()), ("I look.", ("read", expected)));
}

/// C1, C2: a call without its opening tag is a call, at the beginning and behind prose.
#[test]
fn a_missing_opening_tag_is_no_matter() {
    let call = xml("read", &[("path", "a.md")]);
    for (text, prose) in [
        (format!("{call}\n</tool_call>"), ""),
        (format!("\n\n{call}"), ""),
        (format!("I'll read it.\n\n{call}\n</tool_call>\n"), "I'll read it."),
        (
            format!("<think>\nHm: <function=read>\n</think>\n\n{call}"),
            "<think>\nHm: <function=read>\n</think>",
        ),
    ] {
        let answer = read(&agent(XML), &text);
        assert_eq!(
            (answer.text.as_str(), answer.only()),
            (prose, ("read", json!({ "path": "a.md" }))),
            "{text}"
        );
    }
    let call = r#"{"name":"read","arguments":{"path":"a.md"}}"#;
    for text in [call.to_owned(), format!("\n{call}\n</tool_call>"), format!(" {call} ")] {
        assert_eq!(read(&agent(JSON), &text).only(), ("read", json!({ "path": "a.md" })));
    }
}

/// C7: tags in prose are prose.
#[test]
fn quoted_tags_are_prose() {
    let call = xml("read", &[("path", "a.md")]);
    for text in [
        "Use <tool_call> and </tool_call> around it.".to_owned(),
        "The form is `<function=read>`.".to_owned(),
        "A `␛` opens it.".replace('␛', "<tool_call>"),
        format!("For example:\n```xml\n{call}\n```\nand so on"),
        format!("For example:\n<tool_call>\n{call}\n</tool_call>\n"),
        "<function=unknown>\n</function>".to_owned(),
        "<function=read> is how it begins".replace("read>", "reads>"),
        "{\"name\": \"Ann\", \"arguments\": {}}".to_owned(),
        "{\"name\": \"read".to_owned(),
        "<".to_owned(),
        "a\n<function=read>".to_owned(),
        "a\n<function=read> b\n".to_owned(),
    ] {
        let answer = read(&agent(XML), &text);
        assert_eq!(answer, Answer { text: text.clone(), calls: Vec::new() });
    }
    let quoted = read(&agent(XML), "A `␛` opens it.");
    assert_eq!(quoted.text, "A `<tool_call>` opens it.");
}

/// C6: text before a call, and whatever else is around calls, loses nothing.
#[test]
fn several_calls_and_text_around_them() {
    let (a, b) = (xml("read", &[("path", "a")]), xml("read", &[("path", "b")]));
    for text in [
        format!("Two: ␛\n{a}\n</tool_call>\n␛\n{b}\n</tool_call>"),
        format!("Two: ␛\n{a}\n</tool_call><tool_call>{b}</tool_call>"),
        format!("Two: ␛{a}␛{b}"),
        format!("Two: ␛\n{a}\n{b}\n</tool_call>"),
    ] {
        let answer = read(&agent(XML), &text);
        assert_eq!(answer.text, "Two:");
        let arguments: Vec<&str> = answer.calls.iter().map(|call| call.arguments.as_str()).collect();
        assert_eq!(arguments, [r#"{"path": "a"}"#, r#"{"path": "b"}"#], "{text}");
    }
    let answer = read(&agent(XML), &format!("␛\n{a}\n</tool_call>\nDone, I think."));
    assert_eq!((answer.text.as_str(), answer.calls.len()), ("Done, I think.", 1));
}

/// C8: values have the types of the schema, whatever they look like.
#[test]
fn types_are_the_schemas() {
    let types = tool(
        "t",
        json!({ "properties": {
            "s": { "type": "string" }, "i": { "type": "integer" }, "b": { "type": "boolean" },
            "n": { "type": ["string", "null"] }, "o": { "type": "object" }, "a": { "type": "array" },
            "u": { "anyOf": [{ "type": "string" }, { "type": "number" }] }, "x": {},
        } }),
    );
    let set = Arc::new(ToolSet::new(vec![types], XML).unwrap());
    let value = |key: &str, text: &str| {
        let answer = read(&set, &format!("␛\n{}\n</tool_call>", xml("t", &[(key, text)])));
        answer.only().1[key].clone()
    };
    for text in [
        "null",
        "12",
        "true",
        "{\"a\": 1}",
        "[1]",
        "\"quoted\"",
        "a\\nb",
        "",
        " x ",
        "é\u{1F600}\t\"",
        "None",
    ] {
        assert_eq!(value("s", text), json!(text), "a string stays a string");
    }
    assert_eq!(value("i", "12"), json!(12));
    assert_eq!(value("i", " -3\n"), json!(-3));
    assert_eq!(value("i", "twelve"), json!("twelve"), "for the caller to judge");
    assert_eq!((value("b", "true"), value("b", "False")), (json!(true), json!(false)));
    assert_eq!(
        (value("n", "null"), value("n", "None"), value("n", "5")),
        (json!(null), json!("None"), json!("5"))
    );
    assert_eq!(value("o", "{\"a\": [1, \"x\"]}"), json!({ "a": [1, "x"] }));
    assert_eq!(value("o", r#""{\"a\": 1}""#), json!({ "a": 1 }), "an object that was quoted once more (C3)");
    assert_eq!(value("a", "[1, {\"b\": null}]"), json!([1, { "b": null }]));
    assert_eq!(
        (value("u", "5.5"), value("u", "5.5.1"), value("u", "true")),
        (json!(5.5), json!("5.5.1"), json!("true"))
    );
    assert_eq!(
        (value("x", "true"), value("x", "[x"), value("x", "[1]")),
        (json!(true), json!("[x"), json!([1]))
    );
}

/// `</parameter>` within a value.
#[test]
fn a_value_ends_where_the_next_tag_says_so() {
    let value = |text: &str| {
        let call = xml("write_file", &[("path", "a"), ("content", text)]);
        read(&agent(XML), &format!("␛\n{call}\n</tool_call>")).only().1["content"].clone()
    };
    for text in [
        "</parameter>",
        "a </parameter> b",
        "\n</parameter>\n",
        "x\n</parameter>\n</parameters>\n<parameter>",
        "</tool_call>\n<tool_call>",
        "<parameter=content>\n</function>",
        "</function>\n</parameter>\n</tool_call>",
        "\n\n",
        "fn main() {\n    println!(\"<\");\n}\n",
    ] {
        assert_eq!(value(text), json!(text));
    }
    let tight = "␛<function=write_file><parameter=path>a</parameter><parameter=content>b</parameter></function></tool_call>";
    assert_eq!(read(&agent(XML), tight).only().1, json!({ "path": "a", "content": "b" }));
    let empty = "␛\n<function=write_file>\n<parameter=path>\n</parameter>\n<parameter=content>\n\n</parameter>\n</function>";
    assert_eq!(read(&agent(XML), empty).only().1, json!({ "path": "", "content": "" }));
}

/// C3, C5: forms that models write when they are left alone.
#[test]
fn other_forms_are_read_too() {
    let expected = json!({ "path": "a" });
    for text in [
        r#"␛{"arguments": {"path": "a"}, "name": "read"}</tool_call>"#,
        r#"␛{"name": "read", "arguments": "{\"path\": \"a\"}"}"#,
        r#"␛{"name": "read", "parameters": {"path": "a"}}"#,
        r#"␛{"type": "function", "function": {"name": "read", "arguments": {"path": "a"}}}"#,
        r#"␛{"name": "read", "arguments": {"path": "a"}</tool_call>"#,
        r#"␛{"name": "read", "arguments": {"path": "a"}, "id": "7"}"#,
        "␛\n<function=read>\n<parameter=path>\na\n</parameter>\n<parameter=path>\nb\n</parameter>\n</function>",
        "␛\n<function=read>\nfirst\n<parameter=path>\na\n</parameter>\n</function>",
    ] {
        for format in [JSON, XML] {
            assert_eq!(read(&agent(format), text).only(), ("read", expected.clone()), "{text}");
        }
    }
    assert_eq!(read(&agent(JSON), "␛{\"name\": \"read\"}").only().1, json!({}));
    assert_eq!(read(&agent(XML), "␛\n<function=read>\n</function>\n</tool_call>").only().1, json!({}));
}

#[test]
fn what_is_cut_off_is_never_whole() {
    let call = xml("write_file", &[("path", "a"), ("content", "one\ntwo")]);
    let whole = format!("␛\n{call}");
    let at = whole.find("<function=write_file>").unwrap() + "<function=write_file>".len();
    for end in whole.char_indices().map(|(i, _)| i).skip(1) {
        let answer = read(&agent(XML), &whole[..end]);
        assert_eq!(answer.calls.len(), usize::from(end >= at), "{:?}", &whole[..end]);
        assert!(answer.calls.iter().all(|call| !call.complete));
    }
    let json = r#"␛{"name": "read", "arguments": {"path": "a"}"#;
    for end in json.char_indices().map(|(i, _)| i).skip(1) {
        assert!(read(&agent(JSON), &json[..end]).calls.iter().all(|call| !call.complete));
    }
    assert!(read(&agent(JSON), json).calls[0].complete, "nothing of it is missing");
    let broken = read(&agent(JSON), r#"␛{"name": "read", "arguments": {"path": a}}"#);
    assert!(!broken.calls[0].complete);
}

#[test]
fn without_tokens_for_tags_a_line_is_one() {
    let set = agent(JSON);
    let text = "Well:\n<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n</tool_call>";
    let mut reader = ToolReader::new(set.clone(), false, "s");
    let mut answer = Answer::default();
    answer.take(reader.push(text));
    answer.take(reader.finish());
    assert_eq!((answer.text.as_str(), answer.only().0), ("Well:", "read"));
    let mut reader = ToolReader::new(set, false, "s");
    let mut answer = Answer::default();
    answer.take(reader.push("Write <tool_call> first.\n```\n<tool_call>\n```"));
    answer.take(reader.finish());
    assert_eq!(answer.text, "Write <tool_call> first.\n```\n<tool_call>\n```");
}

#[test]
fn hostile_text_takes_linear_time() {
    let many = 200_000;
    for text in [
        " ".repeat(many),
        "<".repeat(many),
        "\n<function=".repeat(many / 10),
        "{\"name\": ".to_owned() + &" ".repeat(many),
        "␛{\"arguments\": {".to_owned() + &"[".repeat(many),
        "␛<function=read><parameter=path>".to_owned() + &"</parameter>\n".repeat(many / 10),
        "␛<function=read><parameter=path>".to_owned() + "</parameter>" + &" ".repeat(many),
        "␛<function=read><parameter=".to_owned() + &"x".repeat(many),
    ] {
        let pieces = read_in_pieces(&agent(XML), &text, || 7);
        assert!(pieces.calls.iter().all(|call| !call.complete));
    }
}

/// Pieces of which hostile answers are made.
const PIECES: &[&str] = &[
    "␛",
    "\n",
    " ",
    "<tool_call>",
    "</tool_call>",
    "<function=read>",
    "<function=",
    "write_file",
    ">",
    "</function>",
    "<parameter=path>",
    "<parameter=",
    "</parameter>",
    "{\"name\": \"read\", \"arguments\": {",
    "}",
    "{",
    "\"",
    "\\",
    "\"path\": \"",
    "null",
    "12",
    "```",
    "<think>",
    "</think>",
    "é",
    "\u{1F600}",
    "text",
    "limit",
    "[",
    "]",
    ",",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn how_an_answer_is_cut_makes_no_difference(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40),
        cuts in prop::collection::vec(1usize..9, 1..20),
        json in any::<bool>(),
    ) {
        let text = pieces.concat();
        let set = agent(if json { JSON } else { XML });
        let whole = read_in_pieces(&set, &text, || usize::MAX);
        let mut cuts = cuts.iter().cycle();
        prop_assert_eq!(&whole, &read_in_pieces(&set, &text, || *cuts.next().unwrap_or(&1)));
        for call in whole.calls.iter().filter(|call| call.complete) {
            prop_assert!(serde_json::from_str::<serde_json::Map<String, Value>>(&call.arguments).is_ok(), "{:?}", call);
        }
    }
}
