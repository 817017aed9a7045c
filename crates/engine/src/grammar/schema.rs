//! Which JSON Schemas can be guaranteed.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value, json};

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
    let mut root = match schema {
        Value::Bool(true) => json!({}),
        Value::Object(_) => without_annotations(schema),
        other => return Err(Error::Grammar(format!("a JSON Schema is an object, got `{}`", brief(other)))),
    };
    if let Some(Refused { path, problem }) = refused(&root) {
        return Err(Error::Grammar(format!("`{path}`: {problem}")));
    }
    bound(&mut root);
    let options = json!({ "item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false });
    root["x-guidance"] = options;
    Ok(root)
}

/// The largest number that every reader of JSON takes for the same.
const MOST: i64 = (1 << 53) - 1;

/// Bounds numbers that have no bounds, which also leaves them no exponent: with one they can be more than readers can hold, who
/// then see infinity, nothing at all, or an error. A bound that llguidance would round becomes the next one within it.
fn bound(schema: &mut Value) {
    if let Value::Object(map) = schema {
        for (key, up) in
            [("minimum", true), ("exclusiveMinimum", true), ("maximum", false), ("exclusiveMaximum", false)]
        {
            if let Some(Value::Number(bound)) = map.get_mut(key) {
                *bound = rounded(bound, up);
            }
        }
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

/// The integer that `number` is, if it is one.
fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or(number.as_u64().map(i128::from))
}

/// The number, or the next one that is a 64-bit float.
fn rounded(number: &Number, up: bool) -> Number {
    let Some(exact) = integer(number) else { return number.clone() };
    let near = exact as f64;
    let next = match (near as i128).cmp(&exact) {
        Ordering::Less if up => near.next_up(),
        Ordering::Greater if !up => near.next_down(),
        _ => near,
    };
    // Of this size, floats are integers.
    let found = Number::from_i128(next as i128).or_else(|| Number::from_f64(next));
    found.unwrap_or_else(|| number.clone())
}

/// Whether each number in `value` is a 64-bit float, which llguidance makes of it.
fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => integer(number).is_none_or(|exact| exact as f64 as i128 == exact),
        Value::Array(list) => list.iter().all(is_exact),
        Value::Object(map) => map.values().all(is_exact),
        _ => true,
    }
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

/// The schema without keywords and formats that assert nothing, such as programs put into theirs. What asserts
/// something stays, for [`prepare`] to judge.
pub(crate) fn without_annotations(schema: &Value) -> Value {
    let mut schema = schema.clone();
    simplify(&mut schema, 0);
    schema
}

/// The same without what cannot be enforced: what is valid under the schema is valid under this one, and more may be.
pub(crate) fn loosened(schema: &Value) -> Value {
    let mut schema = without_annotations(schema);
    loosen(&mut schema, 0);
    schema
}

fn loosen(schema: &mut Value, depth: usize) {
    if let Value::Object(map) = schema {
        map.retain(|key, value| match key.as_str() {
            "const" | "enum" => is_exact(value),
            "pattern" => value.as_str().is_none_or(is_regular),
            key => !REFUSED.contains(&key),
        });
        if let Some(branches) = map.shift_remove("oneOf") {
            map.entry("anyOf").or_insert(branches);
        }
        let required = map.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        for name in required.iter().filter_map(Value::as_str) {
            if let Value::Object(properties) = map.entry("properties").or_insert_with(|| json!({})) {
                properties.entry(name).or_insert_with(|| json!({}));
            }
        }
    }
    if depth <= 2 * MAX_DEPTH {
        each_part(schema, &mut |inner| loosen(inner, depth + 1));
    }
}

/// Whether `pattern` is a regular expression in the strict sense, without conditions on what stands around it.
fn is_regular(pattern: &str) -> bool {
    let pattern = llguidance::regex_to_lark(pattern, "dw");
    llguidance::derivre::RegexBuilder::new().mk_regex_for_serach(&pattern).is_ok()
}

fn simplify(schema: &mut Value, depth: usize) {
    if let Value::Object(map) = schema {
        // What some programs write for a branch or a property that is not there.
        if depth > 0 && map.get("not").is_some_and(|not| [json!({}), json!(true)].contains(not)) {
            *schema = json!(false);
            return;
        }
        // It is no keyword where this one is, and would take its place.
        if map.contains_key("prefixItems") {
            map.shift_remove("additionalItems");
        }
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
            "const" | "enum" if !is_exact(value) => {
                return fail(&at, "an integer in it is beyond 2^53 and would be rounded; use a string");
            }
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

    #[test]
    fn bounds_that_would_be_rounded_move_inwards() {
        let most = i64::MAX;
        let schema =
            json!({ "type": "integer", "minimum": -most, "maximum": most, "exclusiveMaximum": u64::MAX });
        let prepared = prepare(&schema).unwrap();
        assert_eq!(prepared["minimum"], json!(i64::MIN + 1024));
        assert_eq!(prepared["maximum"], json!(i64::MAX - 1023));
        assert_eq!(prepared["exclusiveMaximum"], json!(u64::MAX - 2047));
        let near =
            json!({ "type": "number", "minimum": -7, "maximum": 0.25, "exclusiveMinimum": -(1i64 << 53) });
        let prepared = prepare(&near).unwrap();
        assert!(["minimum", "maximum", "exclusiveMinimum"].iter().all(|key| prepared[*key] == near[*key]));
    }

    #[test]
    fn what_asserts_nothing_is_left_out() {
        let schema = json!({ "type": "object", "$schema": "http://json-schema.org/draft-07/schema#", "properties": {
            "a": { "anyOf": [{ "not": {} }, { "type": "string", "format": "uuid4" }], "nullable": true },
            "b": { "not": {} }, "c": { "propertyNames": { "type": "string" } },
            "d": { "prefixItems": [{ "type": "null" }], "additionalItems": false, "uniqueItems": false },
        }, "definitions": { "never": { "not": true } } });
        let simple = json!({ "type": "object", "properties": {
            "a": { "anyOf": [false, { "type": "string" }] },
            "b": false, "c": {}, "d": { "prefixItems": [{ "type": "null" }] },
        }, "definitions": { "never": false } });
        assert_eq!(without_annotations(&schema), simple);
        assert!(prepare(&schema).is_ok());
    }

    #[test]
    fn what_cannot_be_enforced_is_loosened() {
        let schema = json!({ "type": "object", "required": ["a", "x"], "if": {}, "then": {}, "properties": {
            "a": { "uniqueItems": true, "items": { "oneOf": [{ "type": "integer" }, { "type": "number" }] } },
            "b": { "enum": [1, (1u64 << 53) + 1] }, "c": { "not": { "type": "null" } },
            "d": { "pattern": "^(?!x)" }, "e": { "pattern": "^x" },
        }, "additionalProperties": false });
        let loose = json!({ "type": "object", "required": ["a", "x"], "properties": {
            "a": { "items": { "anyOf": [{ "type": "integer" }, { "type": "number" }] } },
            "b": {}, "c": {}, "d": {}, "e": { "pattern": "^x" }, "x": {},
        }, "additionalProperties": false });
        assert_eq!(loosened(&schema), loose);
        assert!(prepare(&schema).is_err() && prepare(&loose).is_ok());
    }
}
