//! Fifty tools of every kind.

use super::*;
use coder_engine::Tool;
use serde_json::Map;

/// Parameters of every kind: the name, the schema, and whether its strings are bounded already.
fn parameters() -> Vec<(&'static str, Value)> {
    vec![
        ("path", json!({ "type": "string" })),
        ("content", json!({ "type": "string", "description": "Text of a file" })),
        ("limit", json!({ "type": "integer", "minimum": 0, "maximum": 2000 })),
        ("ratio", json!({ "type": "number", "minimum": -1, "maximum": 1 })),
        ("flag", json!({ "type": "boolean" })),
        ("nothing", json!({ "type": "null" })),
        (
            "kind",
            json!({ "enum": ["a", "ab", "a \"quoted\" one", "<tool_call>", "two\nlines", "ünïcödé \u{1F600}", "null"] }),
        ),
        ("mixed", json!({ "enum": ["one", 1, null, true, "1 "] })),
        ("tags", json!({ "type": "array", "items": { "type": "string" } })),
        (
            "matrix",
            json!({ "type": "array", "items": { "type": "array", "items": { "type": "integer", "minimum": -9, "maximum": 9 } } }),
        ),
        (
            "nested",
            json!({ "type": "object", "properties": { "name": { "type": "string" }, "inner": { "type": "object",
            "properties": { "deep": { "type": "array", "items": { "enum": ["x", "</parameter>", "}",
            "</parameter></function>", "</parameter> <parameter=inner>"] } } }, "required": ["deep"],
            "additionalProperties": false } }, "required": ["inner"], "additionalProperties": false }),
        ),
        ("maybe", json!({ "type": ["string", "null"] })),
        (
            "either",
            json!({ "anyOf": [{ "type": "string" }, { "type": "integer", "minimum": 10, "maximum": 99 }] }),
        ),
        (
            "list_or_text",
            json!({ "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] }),
        ),
        (
            "shape",
            json!({ "oneOf": [
            { "type": "object", "properties": { "kind": { "const": "circle" }, "r": { "type": "integer", "minimum": 0, "maximum": 9 } },
              "required": ["kind", "r"], "additionalProperties": false },
            { "type": "object", "properties": { "kind": { "const": "point" } }, "required": ["kind"], "additionalProperties": false }] }),
        ),
        ("tree", json!({ "$ref": "#/$defs/node" })),
        ("name", json!({ "$ref": "#/$defs/name" })),
        ("always", json!({ "const": "this \"value\"\n</function>" })),
        ("word", json!({ "type": "string", "pattern": "^[a-z]{1,8}$" })),
        ("id", json!({ "type": "string", "format": "uuid" })),
        ("date", json!({ "type": "string", "format": "date" })),
        ("any", json!({ "type": ["string", "number", "boolean", "null"], "minimum": -99, "maximum": 99 })),
        (
            "map",
            json!({ "type": "object", "additionalProperties": { "type": "boolean" }, "maxProperties": 3 }),
        ),
        ("short", json!({ "type": "string", "minLength": 2, "maxLength": 5 })),
        (
            "pair",
            json!({ "type": "array", "prefixItems": [{ "type": "boolean" }, { "type": "string" }], "minItems": 2, "maxItems": 2 }),
        ),
        (
            "number_or_none",
            json!({ "anyOf": [{ "type": "number", "minimum": 0, "maximum": 9 }, { "type": "null" }] }),
        ),
        ("letter", json!({ "oneOf": [{ "const": "a" }, { "const": "b" }, { "const": "\\" }] })),
        ("both", json!({ "allOf": [{ "type": "string" }, { "maxLength": 4 }] })),
        ("old", json!({ "type": "string", "nullable": true })),
        ("even", json!({ "type": "integer", "multipleOf": 2, "exclusiveMinimum": 0, "maximum": 100 })),
        ("ünïcödé", json!({ "type": "string" })),
        ("key \"q\"", json!({ "type": "boolean" })),
        ("todos", json!({ "type": "array", "items": { "$ref": "#/$defs/todo" }, "minItems": 1 })),
    ]
}

/// Tool `i` of fifty: three to seven parameters, some of them required.
pub(super) fn fifty() -> Vec<Tool> {
    let all = parameters();
    let make = |i: usize| {
        let count = 3 + i % 5;
        let chosen: Vec<&(&str, Value)> = (0..count).map(|k| &all[(i * 2 + k * 7) % all.len()]).collect();
        let properties: Map<String, Value> =
            chosen.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
        let required: Vec<&str> = chosen
            .iter()
            .enumerate()
            .filter(|(k, _)| (i + k).is_multiple_of(2))
            .map(|(_, (name, _))| *name)
            .collect();
        let mut schema = json!({
            "type": "object", "properties": properties, "required": required,
            "$defs": {
                "name": { "type": "string", "maxLength": 8 },
                "node": { "type": "object", "properties": { "value": { "type": "integer", "minimum": 0, "maximum": 99 },
                          "next": { "anyOf": [{ "$ref": "#/$defs/node" }, { "type": "null" }] } },
                          "required": ["value", "next"], "additionalProperties": false },
                "todo": { "type": "object", "properties": { "content": { "type": "string" },
                          "status": { "enum": ["pending", "in_progress", "completed"] } },
                          "required": ["content", "status"], "additionalProperties": false },
            },
        });
        if i.is_multiple_of(2) {
            schema["additionalProperties"] = json!(false);
        }
        tool(&format!("tool_{i}"), schema)
    };
    (0..50).map(make).collect()
}

/// The same tool with bounds for every string and list, so that nonsense ends some time.
pub(super) fn bounded(of: &Tool) -> Tool {
    let mut schema = of.parameters.clone();
    bound(&mut schema);
    Tool { parameters: schema, ..of.clone() }
}

fn bound(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(bound),
        Value::Object(map) => {
            let is = |kind: &str| match &map.get("type") {
                Some(Value::String(name)) => name == kind,
                Some(Value::Array(names)) => names.contains(&json!(kind)),
                _ => false,
            };
            let (string, array) = (is("string"), is("array"));
            if string && !["maxLength", "pattern", "format"].iter().any(|key| map.contains_key(*key)) {
                map.insert("maxLength".to_owned(), json!(24));
            }
            if array && !map.contains_key("maxItems") {
                map.insert("maxItems".to_owned(), json!(3));
            }
            map.values_mut().for_each(bound);
        }
        _ => {}
    }
}
