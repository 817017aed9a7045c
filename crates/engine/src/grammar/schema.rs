//! Which JSON Schemas can be guaranteed.

use serde_json::{Map, Value, json};

use super::depth;
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

/// Keywords that assert something and are not enforced. All others that are not known are annotations by the
/// specification (JSON Schema core, 6.5).
const REFUSED: &[&str] = &[
    "$dynamicRef",
    "$recursiveRef",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "minContains",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
];

/// Formats that llguidance enforces.
const FORMATS: &[&str] =
    &["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"];

/// Deeper schemas are refused.
const MAX_DEPTH: usize = 64;

/// Checks every keyword and returns the schema with our way of writing JSON, as llguidance reads it.
///
/// # Errors
/// [`Error::Grammar`] with the path (a JSON pointer) of a keyword that would not be enforced.
pub(crate) fn prepare(schema: &Value) -> Result<Value> {
    let root = match schema {
        Value::Bool(true) => Map::new(),
        Value::Object(map) => map.clone(),
        other => return Err(Error::Grammar(format!("a JSON Schema is an object, got `{}`", brief(other)))),
    };
    if let Some(Refused { path, problem }) = refused(schema) {
        return Err(Error::Grammar(format!("`{path}`: {problem}")));
    }
    // This also replaces what the schema itself may say to llguidance: it must not loosen the rules.
    let mut root = Value::Object(root);
    bound(&mut root);
    let options = json!({ "item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false });
    root["x-guidance"] = options;
    Ok(root)
}

/// The largest number that every reader of JSON takes for the same.
const MOST: i64 = (1 << 53) - 1;

/// Bounds numbers that have no bounds, which also leaves them no exponent: with one they can be more than readers can hold, who
/// then see infinity, nothing at all, or an error.
fn bound(schema: &mut Value) {
    if let Value::Object(map) = schema {
        let is_number = map.get("type").is_some_and(|types| match types {
            Value::Array(types) => types.contains(&json!("number")),
            one => one == "number",
        });
        let bounds = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum", "const"];
        if is_number && !bounds.iter().any(|bound| map.contains_key(*bound)) {
            map.insert("minimum".to_owned(), json!(-MOST));
            map.insert("maximum".to_owned(), json!(MOST));
        }
    }
    each_part(schema, &mut bound);
}

/// A keyword that would not be enforced, or what is no schema.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Where it is: a JSON pointer.
    pub(crate) path: String,
    pub(crate) problem: &'static str,
}

/// The first thing in `schema` that cannot be guaranteed as far as its keywords say.
pub(crate) fn refused(schema: &Value) -> Option<Refused> {
    check(schema, "", 0)
        .and_then(|()| if depth::leads_too_deep(schema) { fail("", depth::TOO_DEEP) } else { Ok(()) })
        .err()
}

/// The schema without keywords and formats that assert nothing, such as programs put into those of tools. What asserts
/// something stays, for [`prepare`] to judge.
pub(crate) fn without_annotations(schema: &Value) -> Value {
    let mut schema = schema.clone();
    simplify(&mut schema, 0);
    schema
}

fn simplify(schema: &mut Value, depth: usize) {
    if let Value::Object(map) = schema {
        map.retain(|key, value| {
            let vacuous = match key.as_str() {
                "format" => value.as_str().is_some_and(|format| !FORMATS.contains(&format)),
                "uniqueItems" => *value == json!(false),
                // Names of properties are strings.
                "propertyNames" => [json!({}), json!(true), json!({ "type": "string" })].contains(value),
                _ => false,
            };
            let known = [ENFORCED, ANNOTATIONS, REFUSED].iter().any(|keys| keys.contains(&key.as_str()));
            known && !vacuous && !matches!(key.as_str(), "$schema" | "$id" | "id" | "discriminator")
        });
    }
    if depth <= 2 * MAX_DEPTH {
        each_part(schema, &mut |inner| simplify(inner, depth + 1));
    }
}

/// Visits the schemas directly within `schema`.
pub(crate) fn each_part(schema: &mut Value, visit: &mut dyn FnMut(&mut Value)) {
    let Value::Object(map) = schema else { return };
    for (key, value) in map.iter_mut() {
        match (key.as_str(), value) {
            ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(named)) => {
                named.values_mut().for_each(&mut *visit);
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(list)) => {
                list.iter_mut().for_each(&mut *visit);
            }
            ("items" | "additionalItems" | "additionalProperties", value @ Value::Object(_)) => visit(value),
            _ => {}
        }
    }
}

fn check(schema: &Value, path: &str, depth: usize) -> Result<(), Refused> {
    match schema {
        Value::Bool(_) => Ok(()),
        Value::Object(map) => check_keywords(map, path, depth),
        _ => fail(path, "a schema is an object or a boolean"),
    }
}

fn check_keywords(map: &Map<String, Value>, path: &str, depth: usize) -> Result<(), Refused> {
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

fn fail(path: &str, problem: &'static str) -> Result<(), Refused> {
    Err(Refused { path: path.to_owned(), problem })
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_bounds_get_some() {
        let schema = json!({ "type": "object", "properties": {
            "a": { "type": "number" }, "b": { "type": ["null", "number"] }, "c": { "type": "number", "minimum": 1 },
            "d": { "type": "integer" }, "e": { "type": "array", "items": { "type": "number" } },
        } });
        let prepared = prepare(&schema).unwrap();
        let most = |path: &str| prepared.pointer(path).unwrap().get("maximum").cloned();
        for bounded in ["/properties/a", "/properties/b", "/properties/e/items"] {
            assert_eq!(most(bounded), Some(json!(MOST)), "{bounded}");
        }
        assert_eq!((most("/properties/c"), most("/properties/d")), (None, None));
    }
}
