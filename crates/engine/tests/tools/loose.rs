//! Schemas of all kinds for tools that are not strict: followed as far as can be, and never a reason to refuse a request.

use super::following::{follow, required, xml};
use super::*;
use coder_engine::{Error, Grammar, Matcher, ToolChoice};

const BOTH: [CallFormat; 2] = [CallFormat::Json, CallFormat::Xml];

/// What is wrong with the only tool's schema.
fn checked(parameters: &Value, format: CallFormat, strict: bool) -> Result<(), Error> {
    let tool = Tool { strict, ..tool("t", parameters.clone()) };
    Arc::new(ToolSet::new(vec![tool], format)?).check(tokenizer())
}

/// Whether `arguments`, each a value as it stands in the XML format, are a call of a tool with these parameters.
fn takes(parameters: &Value, arguments: &[(&str, &str)]) -> bool {
    follow(&required(vec![tool("t", parameters.clone())], CallFormat::Xml), &xml("t", arguments)) == Ok(true)
}

/// The same in the JSON format.
fn takes_json(parameters: &Value, arguments: &str) -> bool {
    let set = required(vec![tool("t", parameters.clone())], CallFormat::Json);
    let call = format!("<tool_call>\n{{\"name\": \"t\", \"arguments\": {arguments}}}\n</tool_call>");
    follow(&set, &call) == Ok(true)
}

/// The parameters with only `a`.
fn a(schema: Value) -> Value {
    json!({ "type": "object", "properties": { "a": schema } })
}

/// Schemas that no grammar of ours can follow to the letter, as programs write them.
fn odd() -> Vec<Value> {
    let own = [
        json!({ "$ref": "#/definitions/A", "definitions": { "A": { "$ref": "#/definitions/A" } } }),
        json!({ "$ref": "#/nowhere" }),
        json!({ "type": ["object", "null"], "properties": null, "required": null, "additionalProperties": null }),
        json!({ "type": "array", "items": {} }),
        json!({ "properties": { "x": {}, "y": {} }, "minProperties": 2, "maxProperties": 3 }),
        json!({ "patternProperties": { "^x-": {}, "^[a-z]+$": {} } }),
        json!({ "properties": { "a>b": {}, "": {}, "c\n": {}, "d": {} }, "required": ["a>b"] }),
        json!({ "properties": (0..70).map(|i| (format!("p{i}"), json!({}))).collect::<serde_json::Map<_, _>>(),
                "required": ["p69"] }),
        json!({ "properties": { "n": { "$ref": "#/$defs/N" } }, "$defs": { "N": { "type": "object",
                "properties": { "c": { "type": "object", "$ref": "#/$defs/N" },
                                "d": { "type": "object", "allOf": [{ "$ref": "#/$defs/N" }] } } } } }),
    ];
    let one = [
        json!({ "properties": { "x": {}, "y": {} }, "minProperties": 1 }),
        json!({ "patternProperties": { "^x-": {}, "^[a-z]+$": {} } }),
        json!({ "type": "number", "multipleOf": 0 }),
        json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX }),
        json!({ "type": "number", "minimum": i64::MIN, "maximum": u64::MAX }),
        json!({ "type": "number", "minimum": -3.4028234663852886e38, "maximum": 1.7976931348623157e308 }),
        json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1.7976931348623157e308 }),
        json!({ "type": "number", "minimum": 1e300, "maximum": 1e-300 }),
        json!({ "type": "string", "pattern": "(^$)|(^https?://.*)" }),
        json!({ "type": "string", "pattern": "^a(b|$)" }),
        json!({ "type": "string", "pattern": "(" }),
        json!({ "type": "string", "enum": [] }),
        json!({ "type": "string", "const": 1 }),
        json!({ "anyOf": [] }),
        json!({ "allOf": [{ "type": "string" }, { "type": "integer" }] }),
        json!({ "type": "any" }),
        json!({ "type": null, "items": null, "enum": null, "minLength": null }),
        json!({ "type": "string", "minLength": 1.0, "maxLength": -1 }),
        json!({ "type": "string", "minLength": 5, "maxLength": 1 }),
        json!({ "items": 7, "anyOf": [null, 7], "properties": { "x": 7, "y": null }, "required": [1, "x"] }),
        json!({ "enum": ["</parameter>"] }),
        json!({ "$ref": "#" }),
        json!({ "$ref": "item.json" }),
        json!({ "type": "array", "items": { "oneOf": [{ "type": "integer" }, { "type": "number" }] } }),
        json!({ "type": "object", "required": ["b"], "properties": { "b": { "not": {} } } }),
    ];
    let optional = one.iter().map(|schema| a(schema.clone()));
    let needed =
        one.iter().map(|schema| json!({ "properties": { "a": schema, "b": {} }, "required": ["a"] }));
    own.iter().cloned().chain(optional).chain(needed).collect()
}

#[test]
fn no_schema_is_a_reason_to_refuse_a_request() {
    for parameters in odd() {
        for format in BOTH {
            let checked = checked(&parameters, format, false);
            assert!(checked.is_ok(), "{format:?} {parameters}: {checked:?}");
            // Beside others that are strict, which hold.
            let strict =
                json!({ "properties": { "x": { "type": "string", "maxLength": 2 } }, "required": ["x"] });
            let strict = Tool { strict: true, ..tool("s", strict) };
            let set = required(vec![tool("t", parameters.clone()), strict], format);
            let call = |value: &str| match format {
                CallFormat::Xml => xml("s", &[("x", value)]),
                CallFormat::Json => format!(
                    "<tool_call>\n{{\"name\": \"s\", \"arguments\": {{\"x\": \"{value}\"}}}}\n</tool_call>"
                ),
            };
            assert_eq!((follow(&set, &call("ab")), follow(&set, &call("abc")).is_err()), (Ok(true), true));
        }
        let matcher = Matcher::new(tokenizer(), &Grammar::json(parameters.clone(), false));
        assert!(matcher.is_ok(), "{parameters}: {matcher:?}");
    }
}

/// What is no schema at all is no schema of another kind.
#[test]
fn an_answer_needs_a_schema() {
    for schema in [json!(7), json!(["type", "object"]), json!(false), json!(null)] {
        assert!(matches!(Matcher::new(tokenizer(), &Grammar::json(schema, false)), Err(Error::Grammar(_))));
    }
}

/// Strict ones are enforced or refused, with the place.
#[test]
fn strict_tools_are_no_looser() {
    for (parameters, path) in [
        (json!({ "$ref": "#/nowhere" }), "/$ref"),
        (json!({ "$ref": "#" }), "/$ref"),
        (a(json!({ "type": "string", "enum": [] })), "/properties/a"),
        (a(json!({ "type": "string", "minLength": null })), "/properties/a"),
        (a(json!({ "$ref": "item.json" })), "/properties/a/$ref"),
        (a(json!({ "type": "string", "pattern": "\\pL".repeat(5000) })), "/properties/a/pattern"),
        (json!({ "properties": { "x": {}, "y": {} }, "minProperties": 2 }), ""),
        (
            json!({ "properties": (0..3000).map(|i| (format!("p{i}"), json!({}))).collect::<serde_json::Map<_, _>>() }),
            "",
        ),
    ] {
        for format in BOTH {
            let shown: String = parameters.to_string().chars().take(200).collect();
            match checked(&parameters, format, true) {
                Err(Error::Tool { path: found, problem, .. }) => {
                    assert!(found.starts_with(path), "{format:?} {shown}: `{found}` {problem}");
                    assert!(!problem.contains('\n') && !problem.contains("panic"), "{problem}");
                }
                // An optional parameter without a value is left out.
                Ok(()) if format == CallFormat::Json && path == "/properties/a" => {}
                other => panic!("{format:?} {shown}: {other:?}"),
            }
        }
    }
}

#[test]
fn references_are_followed_however_they_are_written() {
    let definition =
        json!({ "type": "object", "properties": { "p": { "type": "string" } }, "required": ["p"] });
    for parameters in [
        json!({ "$ref": "#/definitions/A", "definitions": { "A": { "$ref": "#/definitions/B" }, "B": definition } }),
        json!({ "$ref": "#/definitions/Args%3Cx%3E", "definitions": { "Args<x>": definition } }),
        json!({ "$ref": "#/components/schemas/a~1b", "components": { "schemas": { "a/b": definition } } }),
        json!({ "$ref": "#args", "$defs": { "A": { "$anchor": "args", "type": "object",
                "properties": { "p": { "$ref": "#/$defs/S" } }, "required": ["p"] }, "S": { "type": "string" } } }),
    ] {
        for strict in [false, true] {
            for format in BOTH {
                let checked = checked(&parameters, format, strict);
                assert!(checked.is_ok(), "{strict} {format:?} {parameters}: {checked:?}");
            }
        }
        assert!(takes(&parameters, &[("p", "12")]), "{parameters}");
        assert!(!takes(&parameters, &[]) && !takes(&parameters, &[("q", "x")]), "{parameters}");
        assert!(takes_json(&parameters, "{\"p\": \"12\"}"), "{parameters}");
        assert!(!takes_json(&parameters, "{}") && !takes_json(&parameters, "{\"p\": 12}"), "{parameters}");
    }
    let inner = json!({ "properties": { "a": { "$ref": "#/definitions/Record%3Cx%3E" }, "b": { "$ref": "#/properties/c" },
                        "c": { "type": "integer" } }, "definitions": { "Record<x>": { "enum": ["r"] } } });
    assert!(takes(&inner, &[("a", "r"), ("b", "7")]) && !takes(&inner, &[("a", "s")]));
    assert!(!takes(&inner, &[("b", "x")]));
}

/// Both hold where something stands beside a root's reference.
#[test]
fn what_stands_beside_a_reference_holds_as_well() {
    let parameters = json!({ "$ref": "#/$defs/A", "required": ["x"], "properties": { "x": { "type": "string" } },
        "$defs": { "A": { "type": "object", "properties": { "y": { "type": "string" } }, "required": ["y"] } } });
    assert!(takes(&parameters, &[("x", "1"), ("y", "2")]) && !takes(&parameters, &[("x", "1")]));
    assert!(takes_json(&parameters, "{\"x\": \"1\", \"y\": \"2\"}"));
    assert!(!takes_json(&parameters, "{\"x\": \"1\"}") && !takes_json(&parameters, "{\"y\": \"1\"}"));
}

#[test]
fn branches_list_parameters_with_their_types() {
    let either = json!({ "oneOf": [
        { "properties": { "id": { "type": "string" }, "kind": { "const": "a" } }, "required": ["id", "kind"] },
        { "$ref": "#/$defs/B" } ],
        "$defs": { "B": { "properties": { "name": { "type": "string" }, "kind": { "const": "b" } }, "required": ["name", "kind"] } } });
    assert!(
        takes(&either, &[("kind", "a"), ("id", "123")]) && takes(&either, &[("kind", "b"), ("name", "null")])
    );
    assert!(!takes(&either, &[("id", "x")]), "each branch requires the kind");
    assert!(!takes(&either, &[("kind", "c")]) && !takes(&either, &[("kind", "a"), ("invented", "x")]));
    let set = required(vec![tool("t", either)], CallFormat::Xml);
    let text = xml("t", &[("kind", "a"), ("id", "123")]);
    assert_eq!(read(&set, &text).only().1, json!({ "kind": "a", "id": "123" }));
    let both = json!({ "allOf": [{ "$ref": "#/$defs/Base" }, { "properties": { "b": { "type": "integer" } }, "required": ["b"] }],
        "$defs": { "Base": { "properties": { "a": { "type": "string" } }, "required": ["a"] } } });
    assert!(takes(&both, &[("a", "x"), ("b", "1")]) && !takes(&both, &[("a", "x")]));
    // A list is whole where branches only say which of it is needed.
    let needed = json!({ "properties": { "a": { "type": "string" }, "b": {} }, "anyOf": [{ "required": ["a"] }, { "required": ["b"] }] });
    assert!(takes(&needed, &[("a", "x")]) && !takes(&needed, &[("a", "x"), ("c", "x")]));
    assert!(takes_json(&needed, "{\"a\": \"x\"}") && !takes_json(&needed, "{\"a\": \"x\", \"c\": 1}"));
    assert!(!takes_json(&needed, "{}"));
}

/// Of a branch that always holds, nothing is required.
#[test]
fn a_branch_may_be_true() {
    for branch in [json!(true), json!({}), json!(7)] {
        let parameters = json!({ "properties": { "a": { "type": "string" }, "b": {} }, "anyOf": [branch, { "required": ["a"] }] });
        assert!(takes(&parameters, &[("b", "x")]) && takes(&parameters, &[("a", "x")]), "{parameters}");
        assert!(takes_json(&parameters, "{\"b\": 1}"), "{parameters}");
    }
    let never = json!({ "properties": { "a": {} }, "anyOf": [false, { "required": ["a"] }] });
    assert!(!takes(&never, &[]));
}

/// Numbers without a fraction are integers, and bounds hold as far as 64 bits go.
#[test]
fn integers_are_integers_however_they_are_declared() {
    for (schema, good, bad) in [
        (json!({ "type": "integer", "enum": [2.0, 3] }), "2", "4"),
        (json!({ "enum": ["x", 2.0] }), "2", "y"),
        (
            json!({ "type": ["integer"], "minimum": 9007199254740993i64, "maximum": 9007199254740999i64 }),
            "9007199254740996",
            "7",
        ),
        (
            json!({ "type": ["integer", "null"], "minimum": 9007199254740993i64, "maximum": 9007199254740999i64 }),
            "9007199254740996",
            "7",
        ),
        (json!({ "type": ["integer", "null"], "minimum": 0, "maximum": i64::MAX }), "9007199254740996", "-1"),
    ] {
        for strict in [false, true] {
            let tool = Tool { strict, ..tool("t", a(schema.clone())) };
            let set = required(vec![tool.clone()], CallFormat::Xml);
            let xml = |value: &str| follow(&set, &xml("t", &[("a", value)])) == Ok(true);
            assert!(xml(good) && !xml(bad), "{strict} {schema}");
            let read = read(&set, &self::xml("t", &[("a", good)]));
            assert!(read.only().1["a"].is_number(), "{schema}");
            let set = required(vec![tool], CallFormat::Json);
            let call = |value: &str| {
                format!("<tool_call>\n{{\"name\": \"t\", \"arguments\": {{\"a\": {value}}}}}\n</tool_call>")
            };
            assert_eq!(
                (follow(&set, &call(good)), follow(&set, &call(bad)).is_err()),
                (Ok(true), true),
                "{strict} {schema}"
            );
        }
    }
}

/// Each would take minutes, and gigabytes, if what is copied were not counted, or each part held its whole path.
#[test]
fn small_schemas_of_much_work_take_little() {
    let doubled = |key: &str, levels: usize, last: Value| -> serde_json::Map<String, Value> {
        let next = |i: usize| json!({ "$ref": format!("#/$defs/m{i}") });
        let level = |i: usize| (format!("m{i}"), json!({ key: [next(i + 1), next(i + 1)] }));
        (0..levels).map(level).chain([(format!("m{levels}"), last)]).collect()
    };
    let texts: Vec<String> = (0..2000).map(|i| format!("a{i}")).collect();
    let first = json!({ "$ref": "#/$defs/m0" });
    let listed = json!({ "properties": { "a": { "allOf": [first, { "enum": texts }] } },
                         "$defs": doubled("anyOf", 15, json!({ "type": "string" })) });
    let copied = [
        json!({ "properties": { "p": { "enum": (0..50_000).collect::<Vec<_>>() } } }),
        json!({ "required": texts }),
    ];
    let merged = copied.map(|last| json!({ "allOf": [first], "$defs": doubled("allOf", 15, last) }));
    let each = |i: usize| json!({ "properties": { "p": { "const": i } }, "required": [format!("p{i}")] });
    let each: Vec<Value> = (0..30_000).map(each).collect();
    let within: serde_json::Map<_, _> = (0..30_000).map(|i| (format!("p{i}"), json!({}))).collect();
    let named = json!({ "properties": { "x".repeat(1 << 20): { "properties": &within } } });
    let shared = |last: Value, count: usize| {
        let properties = (0..count).map(|i| (format!("p{i}"), json!({ "$ref": "#/$defs/m0" })));
        json!({ "properties": properties.collect::<serde_json::Map<_, _>>(), "$defs": { "m0": last } })
    };
    let many: Vec<String> = (0..30_000).map(|i| format!("a{i}")).collect();
    let of_texts = shared(json!({ "enum": many }), 2000);
    let of_parts = shared(json!({ "properties": within }), 20_000);
    let refused = checked(&listed, CallFormat::Xml, true);
    assert!(
        matches!(&refused, Err(Error::Tool { problem, .. }) if problem.contains("alternatives")),
        "{refused:?}"
    );
    assert!(checked(&named, CallFormat::Json, true).is_err());
    let [one, two] = merged;
    for parameters in
        [listed, one, two, json!({ "anyOf": each }), json!({ "allOf": each }), named, of_texts, of_parts]
    {
        let checked = checked(&parameters, CallFormat::Xml, false);
        assert!(checked.is_ok(), "{checked:?}");
    }
}

/// What is required and not declared is as all that is not.
#[test]
fn what_is_required_and_not_declared_is_as_others_are() {
    let parameters = json!({ "required": ["a"], "additionalProperties": { "type": "integer" } });
    assert!(
        takes(&parameters, &[("a", "1")]) && !takes(&parameters, &[("a", "x")]) && !takes(&parameters, &[])
    );
    assert!(takes_json(&parameters, "{\"a\": 1}") && !takes_json(&parameters, "{\"a\": \"x\"}"));
    let nested =
        a(json!({ "type": "object", "required": ["x"], "additionalProperties": { "type": "integer" } }));
    assert!(takes_json(&nested, "{\"a\": {\"x\": 1}}") && !takes_json(&nested, "{\"a\": {\"x\": \"1\"}}"));
}

/// A mask does not refuse a value, it bends it.
#[test]
fn formats_are_as_wide_in_both_formats() {
    for (format, values) in [
        (
            "uri",
            &[
                "file:///home/u/a.rs",
                "https://user@host/x",
                "http://[::1]:8080/",
                "urn:isbn:1",
                "mailto:a@b.c",
            ][..],
        ),
        ("date", &["2024-02-29"]),
        ("date-time", &["2024-02-29T10:00:00.123456789Z"]),
        ("duration", &["PT1H30M", "P1Y6M", "P2W"]),
        ("ipv6", &["2001:db8::8a2e:370:7334", "::", "::1"]),
        ("email", &["o'brien@x.com"]),
        ("uuid", &["00000000-0000-0000-0000-000000000000"]),
        ("time", &["10:00:00Z"]),
        ("ipv4", &["1.2.3.4"]),
        ("hostname", &["my-host.local"]),
    ] {
        let parameters = a(json!({ "type": "string", "format": format }));
        for value in values {
            assert!(takes(&parameters, &[("a", value)]), "{format}: {value}");
            assert!(takes_json(&parameters, &format!("{{\"a\": \"{value}\"}}")), "{format}: {value}");
        }
        assert!(!takes(&parameters, &[("a", "two words")]), "{format}");
    }
}

#[test]
fn a_text_that_begins_as_a_number_is_a_text() {
    let parameters =
        a(json!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 30 }, { "type": "string" }] }));
    for value in ["7d", "-", "1.5", "x", "7", "30", "007", "", "12\nlines"] {
        assert!(takes(&parameters, &[("a", value)]), "{value:?}");
    }
    for value in ["0", "31", "-3", " 31\n"] {
        assert!(
            !takes(&parameters, &[("a", value)]),
            "{value:?} would be read as a number that is not allowed"
        );
    }
    let set = required(vec![tool("t", parameters)], CallFormat::Xml);
    for (value, meant) in [("7d", json!("7d")), ("7", json!(7)), ("1.5", json!("1.5"))] {
        assert_eq!(read(&set, &xml("t", &[("a", value)])).only().1["a"], meant);
    }
    let loose = a(json!({ "anyOf": [{ "const": true }, { "type": "string" }] }));
    assert!(takes(&loose, &[("a", "to be")]) && takes(&loose, &[("a", "true")]));
}

#[test]
fn alternatives_within_all_of_are_taken_apart() {
    let parameters = json!({ "properties": { "a": { "allOf": [{ "$ref": "#/$defs/C" }], "default": "r" } },
        "$defs": { "C": { "anyOf": [{ "enum": ["r", "g"] }, { "type": "string", "format": "uuid" }] } } });
    assert!(takes(&parameters, &[("a", "g")]) && !takes(&parameters, &[("a", "b")]));
    assert!(checked(&parameters, CallFormat::Xml, true).is_ok());
}

#[test]
fn anchors_in_groups_are_understood() {
    let parameters = a(json!({ "type": "string", "pattern": "(^$)|(?:^https?://.*)" }));
    assert!(checked(&parameters, CallFormat::Xml, true).is_ok());
    assert!(takes(&parameters, &[("a", "")]) && takes(&parameters, &[("a", "http://x")]));
    assert!(!takes(&parameters, &[("a", "x http://x")]));
    let folded = a(json!({ "type": "string", "pattern": "(?i)^abc$" }));
    assert!(takes(&folded, &[("a", "aBC")]) && !takes(&folded, &[("a", "aBCd")]));
}

/// A parameter that cannot be followed holds to its types, and all others to their schemas.
#[test]
fn what_cannot_be_followed_holds_to_its_types() {
    let parameters = json!({ "required": ["a", "b"], "properties": {
        "a": { "type": "string", "pattern": "^a(b|$)" }, "b": { "type": "integer", "maximum": 5 } } });
    assert!(takes(&parameters, &[("a", "anything"), ("b", "5")]));
    assert!(!takes(&parameters, &[("a", "x"), ("b", "6")]) && !takes(&parameters, &[("a", "x")]));
    let tags = a(json!({ "type": "string", "pattern": "^a</parameter></function>b$" }));
    assert!(takes(&tags, &[("a", "anything")]));
    let tags = a(json!({ "type": "string", "pattern": "^a(</parameter></function>|</parameter>)b$" }));
    assert!(takes(&tags, &[("a", "a</parameter>b")]) && !takes(&tags, &[("a", "anything")]));
    let many = json!({ "required": ["p69"], "properties":
        (0..70).map(|i| (format!("p{i}"), json!({ "type": "integer" }))).collect::<serde_json::Map<_, _>>() });
    assert!(takes(&many, &[("p69", "1"), ("p3", "2"), ("p68", "3")]));
    assert!(!takes(&many, &[("p3", "2")]) && !takes(&many, &[("p69", "1"), ("p3", "x")]));
    let names = json!({ "required": ["a>b", "c"], "properties": { "a>b": {}, "c": { "type": "integer" } } });
    assert!(takes(&names, &[("c", "1")]) && !takes(&names, &[]));
    let empty = json!({ "properties": { "a": { "type": "string", "enum": [] }, "b": { "enum": [] }, "c": {} }, "required": ["b"] });
    assert!(takes(&empty, &[("b", "x")]) && !takes(&empty, &[("a", "x"), ("b", "x")]));
}

/// Without `strict`, what would keep the compiler busy is left out before it sees it.
#[test]
fn large_schemas_are_made_smaller() {
    let long = a(json!({ "type": "string", "pattern": "\\pL".repeat(200_000) }));
    let many: serde_json::Map<_, _> =
        (0..5000).map(|i| (format!("p{i}"), json!({ "type": "array", "items": { "enum": [i] } }))).collect();
    let many = json!({ "properties": many, "required": ["p3"] });
    let lists = a(json!({ "enum": (0..100_000).collect::<Vec<_>>() }));
    let nested = json!({ "properties": { "a": { "$ref": "#/$defs/d0" } }, "$defs": (0..300).map(|i| {
        let inner: serde_json::Map<_, _> = (0..20).map(|k| (format!("k{k}"), json!({ "$ref": format!("#/$defs/d{}", (i * 7 + k) % 300) }))).collect();
        (format!("d{i}"), json!({ "type": "object", "properties": inner }))
    }).collect::<serde_json::Map<_, _>>() });
    for parameters in [long, many, lists, nested] {
        for format in BOTH {
            let checked = checked(&parameters, format, false);
            assert!(checked.is_ok(), "{format:?}: {checked:?}");
        }
        assert!(Matcher::new(tokenizer(), &Grammar::json(parameters, false)).is_ok());
    }
}

/// Tools that share definitions, all of them with many words, as servers of tools declare theirs.
#[test]
fn words_and_shared_definitions_weigh_little() {
    let words = "What this property means, in a sentence or two of documentation. ".repeat(4);
    let property = json!({ "type": "string", "description": words, "default": "x", "examples": [words] });
    let object = |_: usize| {
        let all = (0..8).map(|i| (format!("p{i}"), property.clone())).collect::<serde_json::Map<_, _>>();
        json!({ "type": "object", "title": words, "properties": all })
    };
    let mut definitions: serde_json::Map<_, _> = (0..12).map(|i| (format!("D{i}"), object(i))).collect();
    let refer = |i: usize| json!({ "$ref": format!("#/$defs/D{i}") });
    definitions.insert("Parent".to_owned(), json!({ "anyOf": (0..12).map(refer).collect::<Vec<_>>() }));
    let parameters = json!({ "type": "object", "required": ["parent"], "$defs": definitions, "properties": {
        "parent": { "$ref": "#/$defs/Parent" }, "properties": { "type": "array", "items": refer(1) },
        "children": { "type": "array", "items": refer(2) }, "icon": refer(3), "cover": refer(4), "id": { "type": "string" } } });
    let tools: Vec<Tool> = (0..19).map(|i| tool(&format!("t{i}"), parameters.clone())).collect();
    for format in BOTH {
        let set = ToolSet::new(tools.clone(), format).unwrap().choice(ToolChoice::Required).unwrap();
        let set = Arc::new(set);
        set.check(tokenizer()).unwrap();
        let call = |parent: &str| match format {
            CallFormat::Xml => xml("t7", &[("parent", parent)]),
            CallFormat::Json => format!(
                "<tool_call>\n{{\"name\": \"t7\", \"arguments\": {{\"parent\": {parent}}}}}\n</tool_call>"
            ),
        };
        assert_eq!(follow(&set, &call("{\"p1\": \"x\"}")), Ok(true));
        assert!(follow(&set, &call("{\"p1\": 1}")).is_err(), "{format:?}: its schema still holds");
    }
}
