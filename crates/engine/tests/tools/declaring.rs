//! Declarations of both APIs, and what is wrong with some.

use super::*;
use coder_engine::{Error, Matcher, Tool, ToolChoice};

/// The tool, the path and the problem of a refusal.
fn refused(format: CallFormat, parameters: Value) -> (String, String, String) {
    let bad = Tool { strict: true, ..tool("bad", parameters.clone()) };
    let set = ToolSet::new(vec![tool("fine", json!({})), bad], format);
    let checked = set.and_then(|set| Arc::new(set).check(tokenizer()));
    match checked {
        Err(Error::Tool { tool, path, problem }) => (tool, path, problem),
        other => panic!("{parameters}: {other:?}"),
    }
}

#[test]
fn both_apis_declare_the_same_tool() {
    let schema = json!({ "type": "object", "properties": { "x": { "type": "integer" } } });
    let function = json!({ "name": "f", "description": "d", "parameters": schema, "strict": true });
    let expected = Tool::new("f", Some("d".to_owned()), Some(schema.clone())).unwrap();
    let strict = Tool { strict: true, ..expected.clone() };
    assert_eq!(Tool::from_openai(&json!({ "type": "function", "function": function })).unwrap(), strict);
    let anthropic = json!({ "name": "f", "description": "d", "input_schema": schema, "strict": true });
    assert_eq!(Tool::from_anthropic(&anthropic).unwrap(), strict);
    let function = json!({ "name": "f", "description": "d", "parameters": schema, "strict": null });
    assert_eq!(Tool::from_openai(&json!({ "type": null, "function": function })).unwrap(), expected);
    let flat = json!({ "type": "function", "name": "f", "description": "d", "parameters": schema });
    assert_eq!(Tool::from_openai(&flat).unwrap(), expected, "the form of the Responses API");
    let anthropic = json!({ "name": "f", "description": "d", "input_schema": schema, "cache_control": {} });
    assert_eq!(Tool::from_anthropic(&anthropic).unwrap(), expected);
    let set = ToolSet::new(vec![expected], CallFormat::Json).unwrap();
    assert_eq!(
        set.declarations(),
        [
            json!({ "type": "function", "function": { "name": "f", "description": "d", "parameters": schema } })
        ]
    );
    let bare = ToolSet::new(
        vec![Tool::from_openai(&json!({ "function": { "name": "g" } })).unwrap()],
        CallFormat::Xml,
    )
    .unwrap();
    assert_eq!(
        bare.declarations()[0]["function"]["parameters"],
        json!({ "type": "object", "properties": {} })
    );
}

#[test]
fn what_is_no_tool_is_refused() {
    for value in [json!({}), json!(7), json!({ "type": "web_search" }), json!({ "function": { "name": 7 } })]
    {
        assert!(matches!(Tool::from_openai(&value), Err(Error::Request { field: "tools", .. })), "{value}");
    }
    assert!(Tool::from_anthropic(&json!({ "type": "bash_20250124", "name": "bash" })).is_err());
    for name in ["", "a b", "a>b", "a\"b", "ä", &"x".repeat(129)] {
        let error = Tool::new(name, None, None).unwrap_err();
        assert!(matches!(&error, Error::Tool { .. }), "{error}");
    }
    assert!(matches!(Tool::new("f", None, Some(json!([]))), Err(Error::Tool { .. })));
    let twice = ToolSet::new(vec![tool("f", json!({})), tool("f", json!({}))], CallFormat::Json).unwrap_err();
    assert!(twice.to_string().contains("`f`") && twice.to_string().contains("two tools"), "{twice}");
    let many = (0..513).map(|i| tool(&format!("f{i}"), json!({}))).collect();
    assert!(matches!(ToolSet::new(many, CallFormat::Json), Err(Error::Request { field: "tools", .. })));
}

#[test]
fn choices_name_tools_that_are_there() {
    let set = || ToolSet::clone(&agent(CallFormat::Json));
    let named = |name: &str| set().choice(ToolChoice::Named(name.to_owned()));
    assert!(named("read").is_ok());
    let error = named("open").unwrap_err();
    assert!(
        matches!(&error, Error::Request { field: "tool_choice", .. }) && error.to_string().contains("`open`")
    );
    let none = ToolSet::new(Vec::new(), CallFormat::Json).unwrap();
    assert!(none.clone().choice(ToolChoice::Required).is_err());
    assert_eq!(Arc::new(none).grammar(), None);
    assert_eq!(Arc::new(set().choice(ToolChoice::None).unwrap()).grammar(), None);
}

/// C10: a schema that cannot be guaranteed is an error before anything is generated, with its place.
///
/// Covers S3-33.
#[test]
fn what_cannot_be_guaranteed_names_its_place() {
    for format in [CallFormat::Json, CallFormat::Xml] {
        for (parameters, path) in [
            (json!({ "type": "array" }), "/type"),
            (json!({ "required": ["x"] }), "/required/0"),
            (
                json!({ "properties": { "a/b": { "items": { "not": { "type": "null" } } } } }),
                "/properties/a~1b/items/not",
            ),
            (json!({ "properties": { "a": { "enum": [1, u64::MAX] } } }), "/properties/a/enum"),
            (json!({ "properties": { "a": { "uniqueItems": true } } }), "/properties/a/uniqueItems"),
            (json!({ "properties": { "x": {}, "a": { "type": "strange" } } }), "/properties/a"),
            (json!({ "properties": { "x": {}, "a": { "$ref": "#/$defs/none" } } }), "/properties/a"),
            (
                json!({ "properties": { "x": {}, "a": { "type": "array", "items": { "type": "string", "pattern": "(" } } } }),
                "/properties/a/items",
            ),
            (
                json!({ "properties": { "a": { "type": "object", "properties": { "b": {},
                        "c": { "oneOf": [{ "type": "integer" }, { "type": "number" }] } } } } }),
                "/properties/a/properties/c",
            ),
        ] {
            let found = refused(format, parameters.clone());
            assert!(found.0 == "bad" && found.1.starts_with(path), "{format:?} {parameters}: {found:?}");
            assert!(!found.2.is_empty() && !found.2.contains("backtrace"), "{}", found.2);
        }
    }
    for (parameters, path) in [
        (json!({ "anyOf": [{}] }), "/anyOf"),
        (json!({ "properties": { "a>b": {} } }), "/properties/a>b"),
        (json!({ "properties": { "a": { "enum": ["x</parameter>y"] } } }), "/properties/a"),
        (
            json!({ "properties": { "a": { "type": "string", "pattern": "^a</parameter>[ \\n]?</function>b$" } } }),
            "/properties/a",
        ),
        (
            json!({ "properties": { "a": { "type": "string", "minLength": 3, "maxLength": 2 } } }),
            "/properties/a/maxLength",
        ),
        (json!({ "properties": { "a": { "type": "string", "pattern": "(" } } }), "/properties/a"),
        (
            json!({ "properties": (0..65).map(|i| (format!("p{i}"), json!({}))).collect::<serde_json::Map<_, _>>() }),
            "/properties",
        ),
    ] {
        let found = refused(CallFormat::Xml, parameters.clone());
        assert_eq!((found.0.as_str(), found.1.as_str()), ("bad", path), "{parameters}: {}", found.2);
    }
}

/// What a tool asks beyond a grammar's power is no reason to refuse each request that it comes with.
#[test]
fn tools_that_are_not_strict_are_followed_as_far_as_can_be() {
    for parameters in [
        json!({ "required": ["x"] }),
        json!({ "properties": { "a": { "anyOf": [{ "not": {} }, { "type": "string" }] }, "b": { "not": {} } } }),
        json!({ "properties": { "a": { "type": "array", "items": { "type": "string" }, "uniqueItems": true } } }),
        json!({ "properties": { "a": { "not": { "type": "null" } } }, "if": { "required": ["a"] }, "then": {} }),
        json!({ "properties": { "a": { "type": "object", "properties": { "b": {},
                "c": { "oneOf": [{ "type": "integer" }, { "type": "number" }] } }, "required": ["b", "d"],
                "additionalProperties": false } } }),
        json!({ "properties": { "a": { "enum": [1, u64::MAX] }, "b": { "type": "string", "pattern": "^(?!/)" } } }),
        json!({ "properties": { "a": {} }, "anyOf": [{ "required": ["a"] }, { "required": ["b"] }] }),
        json!({ "oneOf": [{ "properties": { "a": { "type": "string" } }, "required": ["a"] }, { "properties": { "b": {} } }] }),
        json!({ "patternProperties": { "^x": { "type": "integer" } }, "minProperties": 1 }),
    ] {
        for format in [CallFormat::Json, CallFormat::Xml] {
            let set = ToolSet::new(vec![tool("t", parameters.clone())], format);
            let checked = set.and_then(|set| Arc::new(set).check(tokenizer()));
            assert!(checked.is_ok(), "{format:?} {parameters}: {checked:?}");
        }
    }
    let optional = json!({ "properties": { "a": { "anyOf": [{ "not": {} }, { "type": "integer" }] } } });
    let set = Arc::new(ToolSet::new(vec![tool("t", optional)], CallFormat::Xml).unwrap());
    let call = "␛\n<function=t>\n<parameter=a>\n7\n</parameter>\n</function>\n</tool_call>";
    assert_eq!(read(&set, call).only(), ("t", json!({ "a": 7 })));
}

/// Parameters that branches list are parameters.
#[test]
fn branches_of_a_schema_may_list_the_parameters() {
    let parameters = json!({ "anyOf": [
        { "properties": { "path": { "type": "string" } }, "required": ["path"], "additionalProperties": false },
        { "properties": { "url": { "type": "string" } }, "required": ["url"], "additionalProperties": false },
    ] });
    for strict in [false, true] {
        let tool = Tool { strict, ..tool("t", parameters.clone()) };
        let set = ToolSet::new(vec![tool], CallFormat::Json).unwrap().choice(ToolChoice::Required).unwrap();
        let grammar = Arc::new(set).grammar().unwrap();
        let mut matcher = Matcher::new(tokenizer(), &grammar).unwrap();
        let open = if has_tag() { "␛" } else { "<tool_call>" };
        let call = format!("{open}\n{{\"name\": \"t\", \"arguments\": {{\"url\": \"x\"}}}}\n");
        for token in tokens(tokenizer(), &call) {
            matcher.accept(token).unwrap();
        }
    }
}

/// Each reference leads to eight more, none of them further.
#[test]
fn schemas_that_multiply_are_refused_in_time() {
    let check = |parameters: Value, strict: bool| {
        let tool = Tool { strict, ..tool("t", parameters) };
        Arc::new(ToolSet::new(vec![tool], CallFormat::Xml).unwrap()).check(tokenizer())
    };
    let branch = json!({ "$ref": "#/$defs/a" });
    for more in [json!({ "type": "string" }), json!({ "type": "integer" }), json!({})] {
        let mut branches = vec![branch.clone(); 8];
        branches.push(more);
        let parameters = json!({ "properties": { "x": branch }, "$defs": { "a": { "anyOf": branches } } });
        let checked = check(parameters, true);
        assert!(
            matches!(&checked, Err(Error::Tool { path, .. }) if path.starts_with("/properties/x")),
            "{checked:?}"
        );
    }
    let levels: serde_json::Map<_, _> = (0..12)
        .map(|i| {
            let next = json!({ "$ref": format!("#/$defs/a{}", i + 1) });
            (format!("a{i}"), json!({ "anyOf": vec![next; 8] }))
        })
        .chain([("a12".to_owned(), json!({ "type": "string" }))])
        .collect();
    let parameters = json!({ "properties": { "x": { "$ref": "#/$defs/a0" } }, "$defs": levels });
    let checked = check(parameters.clone(), true);
    assert!(
        matches!(&checked, Err(Error::Tool { problem, .. }) if problem.contains("alternatives")),
        "{checked:?}"
    );
    assert!(check(parameters, false).is_ok(), "the parameter's type is left");
}

#[test]
fn schemas_of_real_programs_compile() {
    let parameters = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "id": { "type": "integer", "format": "int64" },
            "when": { "type": "string", "format": "date-time", "nullable": true },
            "url": { "type": "string", "format": "uri-reference", "markdownDescription": "where" },
            "headers": { "type": "object", "propertyNames": { "type": "string" }, "additionalProperties": {} },
            "items": { "type": "array", "items": { "type": "object" }, "uniqueItems": false, "minItems": 1 },
        },
        "required": ["id"],
        "additionalProperties": false,
    });
    for format in [CallFormat::Json, CallFormat::Xml] {
        let set = ToolSet::new(vec![tool("t", parameters.clone())], format).unwrap();
        Arc::new(set).check(tokenizer()).unwrap();
    }
}
