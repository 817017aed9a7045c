//! What the grammar of calls allows, and what it does not.

use super::*;
use coder_engine::{Grammar, Matcher, ToolChoice};

/// How far `text` follows the grammar: all of it and whether it may end there, or what of it was accepted.
pub(super) fn follow(set: &Arc<ToolSet>, text: &str) -> Result<bool, String> {
    let tokenizer = tokenizer();
    let mut matcher = Matcher::new(tokenizer, &set.grammar().expect("a grammar")).expect("it compiles");
    let mut done = Vec::new();
    for token in tokenizer.encode(text, SpecialTokens::Plain).expect("tokens") {
        let allowed = matcher.mask().expect("a mask").allows(token);
        match matcher.accept(token) {
            Ok(()) => done.push(token),
            Err(_) => {
                assert!(!allowed, "what the mask allows is accepted");
                return Err(String::from_utf8_lossy(&tokenizer.decode(&done)).into_owned());
            }
        }
    }
    Ok(matcher.is_complete())
}

pub(super) fn required(tools: Vec<Tool>, format: CallFormat) -> Arc<ToolSet> {
    let set = ToolSet::new(tools, format).and_then(|set| set.choice(ToolChoice::Required));
    Arc::new(set.expect("tools"))
}

pub(super) fn xml(name: &str, parameters: &[(&str, &str)]) -> String {
    let parameters: String =
        parameters.iter().map(|(key, value)| format!("<parameter={key}>\n{value}\n</parameter>\n")).collect();
    format!("<tool_call>\n<function={name}>\n{parameters}</function>\n</tool_call>")
}

fn agent_must_call(format: CallFormat) -> Arc<ToolSet> {
    Arc::new(ToolSet::clone(&agent(format)).choice(ToolChoice::Required).expect("tools"))
}

#[test]
fn json_calls_of_declared_functions_only() {
    let set = agent_must_call(CallFormat::Json);
    let call = |name: &str, arguments: &str| {
        follow(
            &set,
            &format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>"),
        )
    };
    assert_eq!(call("read", r#"{"path": "a", "limit": 3}"#), Ok(true));
    assert_eq!(call("read", r#"{"path": "a", "whole": null}"#), Ok(true));
    for (name, arguments) in [
        ("open", r#"{"path": "a"}"#),
        ("read", r#"{"limit": 3}"#),
        ("read", r#"{"path": 3}"#),
        ("read", r#"{"path": "a", "limit": -3}"#),
        ("read", r#"{"path": "a", "mode": 1}"#),
        ("read", "{}"),
        ("write_file", r#"{"path": "a"}"#),
    ] {
        assert!(call(name, arguments).is_err(), "{name} {arguments}");
    }
    assert!(follow(&set, "I cannot.").is_err(), "a call is required");
}

#[test]
fn xml_parameters_come_in_any_order_each_once_and_all_that_are_required() {
    let set = agent_must_call(CallFormat::Xml);
    for parameters in [
        &[("path", "a")][..],
        &[("path", ""), ("limit", "3")],
        &[("limit", "3"), ("path", "a")],
        &[("whole", "null"), ("limit", "3"), ("path", "a")],
        &[("whole", "true"), ("path", "a"), ("limit", "3")],
    ] {
        assert_eq!(follow(&set, &xml("read", parameters)), Ok(true), "{parameters:?}");
    }
    for parameters in [
        &[][..],
        &[("limit", "3")],
        &[("limit", "3"), ("limit", "4"), ("path", "a")],
        &[("path", "a"), ("limit", "x")],
        &[("path", "a"), ("limit", "")],
        &[("path", "a"), ("mode", "x")],
        &[("path", "a"), ("whole", "None")],
    ] {
        assert!(follow(&set, &xml("read", parameters)).is_err(), "{parameters:?}");
    }
    assert_eq!(
        follow(&set, &xml("write_file", &[("content", "x"), ("lines", "[1, 2]"), ("path", "a")])),
        Ok(true)
    );
}

#[test]
fn calls_follow_each_other_only_where_they_may() {
    let one = xml("read", &[("path", "a")]);
    let two = format!("{one}\n{one}");
    let set = agent_must_call(CallFormat::Xml);
    assert_eq!(follow(&set, &two), Ok(true));
    assert!(follow(&set, &format!("{one} Done.")).is_err());
    let single = Arc::new(ToolSet::clone(&set).parallel(false));
    assert_eq!((follow(&single, &one), follow(&single, &two).is_err()), (Ok(true), true));
    let named = Arc::new(ToolSet::clone(&set).choice(ToolChoice::Named("write_file".to_owned())).unwrap());
    assert!(follow(&named, &one).is_err());
    assert_eq!(follow(&named, &xml("write_file", &[("path", "a"), ("content", "b")])), Ok(true));
}

/// A value cannot hold what ends it, and holds everything else.
#[test]
fn every_value_has_one_reading() {
    let set = agent_must_call(CallFormat::Xml);
    for content in [
        "</parameter>",
        "\n</parameter>\n",
        "</parameter>\n<parameters>",
        "<parameter=path>\n</function>\n</tool_call>",
        "{\"a\": \"\\\"\"}",
        "é\u{1F600}\r\n\t\u{7f}",
        "null",
    ] {
        let text = xml("write_file", &[("path", "p"), ("content", content)]);
        assert_eq!(follow(&set, &text), Ok(true), "{content:?}");
        let answer = read(&set, &text);
        assert_eq!(answer.only(), ("write_file", json!({ "path": "p", "content": content })));
    }
    // Both ends are ends at once.
    for content in ["x</parameter><parameter=lines>\n[]", "x\n</parameter>\n<parameter=lines>\n[]"] {
        let text = xml("write_file", &[("path", "p"), ("content", content)]);
        assert_eq!(follow(&set, &text), Ok(true), "{content:?}");
        assert_eq!(read(&set, &text).only().1, json!({ "path": "p", "content": "x", "lines": [] }));
    }
    for content in
        ["x\n</parameter>\n</function>", "x\n</parameter>\n<parameter=", "</parameter> \n </function>\n"]
    {
        let text = xml("write_file", &[("path", "p"), ("content", content)]);
        assert!(follow(&set, &text).is_err(), "{content:?}");
    }
    // Where a required parameter is missing, the function cannot end, not even in a value.
    let early = "<tool_call>\n<function=write_file>\n<parameter=content>\nx\n</parameter>\n</function>";
    assert!(follow(&set, early).is_err());
}

/// What would end a text is a part of JSON, whose strings hold no line break.
#[test]
fn a_string_of_json_may_hold_what_ends_a_text() {
    let parameters = json!({ "properties": {
        "object": { "type": "object", "properties": { "x": { "type": "string" } }, "additionalProperties": false },
        "list": { "type": "array", "items": { "type": "string" } }, "any": {} },
        "additionalProperties": { "type": "array" } });
    let set = required(vec![tool("t", parameters)], CallFormat::Xml);
    for held in ["</parameter></function>", "</parameter> <parameter=any>", "\\\"</parameter>\n</function>"] {
        for (key, value) in [
            ("object", json!({ "x": held })),
            ("list", json!([held, "x"])),
            ("any", json!([held, "x"])),
            ("any", json!({ "a": [held] })),
            ("other", json!([held])),
        ] {
            let written =
                serde_json::to_string(&value).unwrap().replace(",\"", ", \"").replace(":\"", ": \"");
            let text = xml("t", &[(key, &written.replace(":[", ": ["))]);
            assert_eq!(follow(&set, &text), Ok(true), "{text}");
            assert_eq!(read(&set, &text).only().1, json!({ key: value }), "{text}");
        }
    }
    let again = xml("t", &[("other", "[1]"), ("other", "[\"</parameter></function>\"]"), ("any", "x")]);
    assert_eq!(follow(&set, &again), Ok(true));
    assert_eq!(
        read(&set, &again).only().1,
        json!({ "other": [1], "any": "x" }),
        "what is given again is not read"
    );
}

/// Patterns as programs write them, with lengths.
#[test]
fn patterns_may_stand_beside_lengths() {
    for (pattern, good, bad) in [
        (r"\S", &["a", " two words\n", "</parameter> \u{1F600}"][..], &["", " \n "][..]),
        (".", &["a", "\nb\n"], &["", "\n"]),
        (r"^[\s\S]*$", &["a", "two\nlines</function>"], &["x</parameter></function>y"]),
        ("^.+$", &["one line"], &["", "two\nlines"]),
        (r"^\S(.*\S)?$", &["a", "a b"], &["a ", " a"]),
        ("^[a-z ._-]+$", &["some_name.rs"], &["Name"]),
        (r"^[^/\\]+$", &["name"], &["a/b"]),
        ("[0-9]", &["room 7"], &["room"]),
        (r"^[\w.+-]+@[\w-]+\.[\w.-]+$", &["a.b@c.de"], &["a@b"]),
        (r"^https?://\S+$", &["https://host/path"], &["ftp://host"]),
    ] {
        let a = json!({ "type": "string", "pattern": pattern, "minLength": 1, "maxLength": 200 });
        let either = json!({ "anyOf": [{ "type": "null" }, { "type": "integer", "minimum": 1 }, a] });
        for (a, is_long) in [(a, true), (either, false)] {
            let parameters = json!({ "properties": { "a": a, "b": {} }, "required": ["a"] });
            let tool = Tool { strict: true, ..tool("t", parameters) };
            let set = required(vec![tool], CallFormat::Xml);
            let holds = |value: &str| follow(&set, &xml("t", &[("a", value), ("b", "x")])) == Ok(true);
            good.iter().for_each(|value| assert!(holds(value), "{pattern}: {value:?}"));
            bad.iter().for_each(|value| assert!(!holds(value), "{pattern}: {value:?}"));
            let last = &good[0][good[0].len() - 1..];
            let long = |n: usize| good[0].to_owned() + &last.repeat(n - good[0].len());
            assert!(!is_long || holds(&long(200)) && !holds(&long(201)), "{pattern}");
        }
    }
}

#[test]
fn constraints_of_strings_hold_without_quotes() {
    let strings = tool(
        "s",
        json!({ "properties": {
            "short": { "type": "string", "minLength": 1, "maxLength": 3 },
            "word": { "type": "string", "pattern": "^[a-z]+$" },
            "part": { "type": "string", "pattern": "b/c" },
            "date": { "type": "string", "format": "date" },
            "kind": { "enum": ["a", "ab", "two\nlines", "é \"q\"", ""] },
            "mixed": { "enum": ["one", 1, null, "1"] },
            "either": { "anyOf": [{ "type": "string" }, { "type": "integer" }, { "type": "null" }] },
            "list": { "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] },
            "any": {},
        } }),
    );
    let set = required(vec![strings], CallFormat::Xml);
    let holds = |key: &str, value: &str| follow(&set, &xml("s", &[(key, value)])) == Ok(true);
    for (key, good, bad) in [
        ("short", &["a", "éé\u{1F600}", "\n"][..], &["", "abcd"][..]),
        ("word", &["abc"], &["", "a1", "ab "]),
        ("part", &["b/c", "ab/cd\n"], &["bc"]),
        ("date", &["2024-02-28"], &["2024-02-30", "today"]),
        ("kind", &["a", "ab", "two\nlines", "é \"q\"", ""], &["abc", "b"]),
        ("mixed", &["one", "1", "null"], &["two", "2"]),
        ("either", &["x", "12", "null", "12a", "{"], &[]),
        ("list", &["x", "[\"x\"]", "[]"], &["[1]", "[x"]),
        ("any", &["x", "[1]", "{\"a\": null}", "true", "1.5"], &["[x", "{x"]),
    ] {
        good.iter().for_each(|value| assert!(holds(key, value), "{key}: {value:?}"));
        bad.iter().for_each(|value| assert!(!holds(key, value), "{key}: {value:?}"));
    }
}

#[test]
fn parameters_that_are_not_declared_come_only_where_the_tool_says_so() {
    let properties = json!({ "a": { "type": "integer" } });
    let open = tool("o", json!({ "properties": properties, "additionalProperties": { "type": "integer" } }));
    let closed = tool("c", json!({ "properties": properties }));
    let none = tool("n", json!({}));
    let free = tool("f", json!({ "additionalProperties": true }));
    let set = required(vec![open, closed, none, free], CallFormat::Xml);
    assert_eq!(follow(&set, &xml("o", &[("b", "1"), ("a", "2"), ("c", "3")])), Ok(true));
    assert!(follow(&set, &xml("o", &[("b", "x")])).is_err());
    assert!(follow(&set, &xml("c", &[("b", "1")])).is_err());
    assert_eq!(
        (follow(&set, &xml("n", &[])), follow(&set, &xml("n", &[("a", "1")])).is_err()),
        (Ok(true), true)
    );
    assert_eq!(follow(&set, &xml("f", &[("anything", "at all")])), Ok(true));
    let set = required(
        vec![tool("n", json!({})), tool("o", json!({ "additionalProperties": true }))],
        CallFormat::Json,
    );
    let json = |name: &str, arguments: &str| {
        follow(
            &set,
            &format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>"),
        )
    };
    assert_eq!((json("n", "{}"), json("n", "{\"a\": 1}").is_err()), (Ok(true), true));
    assert_eq!(json("o", "{\"a\": 1}"), Ok(true));
}

#[test]
fn an_answer_is_calls_or_json_where_both_are_asked_for() {
    let schema = json!({ "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"],
                         "additionalProperties": false });
    for format in [CallFormat::Json, CallFormat::Xml] {
        let set = ToolSet::clone(&agent(format)).answer(Grammar::JsonSchema(schema.clone()));
        let set = Arc::new(set.unwrap());
        assert_eq!(follow(&set, "{\"name\": \"read\"}"), Ok(true));
        assert_eq!(read(&set, "{\"name\": \"read\"}").text, "{\"name\": \"read\"}");
        assert!(follow(&set, "Hello").is_err() && follow(&set, "{\"name\": 1}").is_err());
        let call = match format {
            CallFormat::Json => {
                "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n</tool_call>".to_owned()
            }
            CallFormat::Xml => xml("read", &[("path", "a")]),
        };
        assert_eq!(follow(&set, &call), Ok(true));
        assert_eq!(read(&set, &call).only(), ("read", json!({ "path": "a" })));
        let none = Arc::new(ToolSet::clone(&set).choice(ToolChoice::None).unwrap());
        assert!(follow(&none, &call).is_err());
    }
}

#[test]
fn what_has_no_choice_is_forced() {
    let set = required(
        vec![tool("read", json!({ "properties": { "path": { "type": "string" } }, "required": ["path"] }))],
        CallFormat::Xml,
    );
    let mut matcher = Matcher::new(tokenizer(), &set.grammar().unwrap()).unwrap();
    let forced = String::from_utf8(tokenizer().decode(&matcher.forced().unwrap())).unwrap();
    assert!(
        "<tool_call>\n<function=read>\n<parameter=path>\n".starts_with(&forced) && forced.len() > 40,
        "{forced:?}"
    );
    if has_tag() {
        let mut matcher = Matcher::new(tokenizer(), &set.grammar().unwrap()).unwrap();
        assert_eq!(matcher.forced().unwrap()[0], tokenizer().token_id("<tool_call>").unwrap());
    }
}
