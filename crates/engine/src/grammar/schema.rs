//! Which JSON Schemas can be guaranteed.

use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// Keywords that llguidance enforces.
const ENFORCED: &[&str] = &[
    "$ref",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "required",
    "type",
];

/// Keywords that demand nothing.
const ANNOTATIONS: &[&str] = &[
    "$anchor",
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "contentEncoding",
    "contentMediaType",
    "default",
    "definitions",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "id",
    "readOnly",
    "title",
    "writeOnly",
];

/// Deeper schemas are refused.
const MAX_DEPTH: usize = 64;

/// Checks every keyword and returns the schema with our way of writing JSON, as llguidance reads it.
///
/// # Errors
/// [`Error::Grammar`] with the path (a JSON pointer) of a keyword that would not be enforced.
pub(super) fn prepare(schema: &Value) -> Result<Value> {
    let mut root = match schema {
        Value::Bool(true) => Map::new(),
        Value::Object(map) => map.clone(),
        other => return Err(Error::Grammar(format!("a JSON Schema is an object, got `{}`", brief(other)))),
    };
    check_keywords(&root, "", 0)?;
    // This also replaces what the schema itself may say to llguidance: it must not loosen the rules.
    let options = json!({ "item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false });
    root.insert("x-guidance".to_owned(), options);
    Ok(Value::Object(root))
}

fn check(schema: &Value, path: &str, depth: usize) -> Result<()> {
    match schema {
        Value::Bool(_) => Ok(()),
        Value::Object(map) => check_keywords(map, path, depth),
        _ => fail(path, "a schema is an object or a boolean"),
    }
}

fn check_keywords(map: &Map<String, Value>, path: &str, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return fail(path, "the schema is nested too deeply");
    }
    for (key, value) in map {
        let at = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
        if !(ENFORCED.contains(&key.as_str()) || ANNOTATIONS.contains(&key.as_str()) || key.starts_with("x-"))
        {
            return fail(&at, "this keyword is not supported: it would not be enforced");
        }
        match key.as_str() {
            "properties" | "patternProperties" | "$defs" | "definitions" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    let name = name.replace('~', "~0").replace('/', "~1");
                    check(inner, &format!("{at}/{name}"), depth + 1)?;
                }
            }
            "anyOf" | "oneOf" | "allOf" | "prefixItems" | "items" if value.is_array() => {
                for (i, inner) in value.as_array().into_iter().flatten().enumerate() {
                    check(inner, &format!("{at}/{i}"), depth + 1)?;
                }
            }
            "items" | "additionalItems" | "additionalProperties" => check(value, &at, depth + 1)?,
            _ => {}
        }
    }
    Ok(())
}

fn fail(path: &str, problem: &str) -> Result<()> {
    Err(Error::Grammar(format!("`{path}`: {problem}")))
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
