//! Which JSON Schemas can be guaranteed.

mod loose;
mod references;
pub(crate) mod types;

use std::cmp::Ordering;
use std::collections::HashSet;

use serde_json::{Map, Number, Value, json};

pub(crate) use self::loose::{coarse, loose_forms, loosened};
pub(crate) use self::references::{reached, resolve, standalone};
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

/// Keywords that assert something and are not enforced. All others demand nothing, by the
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

/// Keywords whose values are numbers of things.
const COUNTS: &[&str] = &["maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties"];

/// Deeper schemas are refused.
const MAX_DEPTH: usize = 64;

/// Longer schemas, in bytes and without what asserts nothing, are refused.
const MAX_SIZE: usize = super::MAX_SOURCE;

/// The most that the patterns of a schema may weigh, each counted once: half a second's work for the compiler.
const MOST_PATTERNS: usize = 1 << 18;

/// The most that a schema may [weigh](effort): its compiler's time grows with the cube of it, and is half a second here.
pub(crate) const MOST_EFFORT: usize = 2048;

/// Checks every keyword and returns the schema with our way of writing JSON, as llguidance reads it.
///
/// # Errors
/// [`Error::Grammar`] with the path (a JSON pointer) of a keyword that would not be enforced.
pub(crate) fn prepare(schema: &Value) -> Result<Value> {
    let schema = match schema {
        Value::Bool(true) => &json!({}),
        Value::Object(_) => schema,
        other => return Err(Error::Grammar(format!("a JSON Schema is an object, got `{}`", brief(other)))),
    };
    let mut root = checked(schema).map_err(|Refused { path, problem }| match path.as_str() {
        "" => Error::Grammar(problem.to_owned()),
        path => Error::Grammar(format!("`{path}`: {problem}")),
    })?;
    bound(&mut root);
    let options = json!({ "item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false });
    root["x-guidance"] = options;
    Ok(root)
}

/// The schema without what asserts nothing, and with its references in one way, if each of its keywords can be guaranteed
/// as far as it says itself.
pub(crate) fn checked(schema: &Value) -> Result<Value, Refused> {
    check(&without_annotations(schema))?;
    let root = gathered(schema)?;
    // Again, for what is referred to from elsewhere.
    check(&root)?;
    if depth::leads_too_deep(&root) {
        return Err(refusal("", depth::TOO_DEEP));
    }
    if effort(&root) > MOST_EFFORT {
        return Err(refusal("", "the schema has too many parts; use fewer properties and alternatives"));
    }
    Ok(root)
}

/// The schema without what asserts nothing, and with its references in one way.
pub(crate) fn gathered(schema: &Value) -> Result<Value, Refused> {
    references::gathered(schema, false, &mut simplify)
}

/// What it takes to compile a schema: its objects, and more for what is costly.
pub(crate) fn effort(schema: &Value) -> usize {
    let (mut open, mut effort) = (vec![schema], 0);
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                effort += if map.contains_key("multipleOf") { 16 } else { 1 };
                open.extend(map.values());
            }
            Value::Array(list) => open.extend(list),
            _ => {}
        }
    }
    effort
}

/// What it takes to compile `pattern`: its bytes, and more where each letter of Unicode is looked at.
fn weight(pattern: &str) -> usize {
    let classes = pattern.matches(r"\p").count() + pattern.matches(r"\P").count();
    let folded = pattern.split("(?").skip(1).any(|rest| {
        rest.bytes().take_while(|byte| byte.is_ascii_alphabetic() || *byte == b'-').any(|byte| byte == b'i')
    });
    (pattern.len() + 64 * classes) * if folded { 16 } else { 1 }
}

/// The largest number that every reader of JSON takes for the same.
const MOST: i64 = (1 << 53) - 1;

/// The largest integer of 64 bits that is also a 64-bit float.
const MOST_WHOLE: i64 = i64::MAX - 1023;

/// Bounds numbers that have no bounds, which also leaves them no exponent: with one they can be more than readers can hold, who
/// then see infinity, nothing at all, or an error. A bound that llguidance would round becomes the next one within it, and one
/// beyond what it can count with the last that it can.
fn bound(schema: &mut Value) {
    if let Value::Object(map) = schema {
        let has_type = |name: &str| match map.get("type") {
            Some(Value::Array(types)) => types.iter().any(|kind| kind == name),
            one => one.is_some_and(|kind| kind == name),
        };
        let (is_number, is_whole) = (has_type("number"), has_type("integer") && !has_type("number"));
        let most = if is_whole { MOST_WHOLE } else { MOST };
        for (key, up) in
            [("minimum", true), ("exclusiveMinimum", true), ("maximum", false), ("exclusiveMaximum", false)]
        {
            if let Some(Value::Number(bound)) = map.get_mut(key) {
                let is_beyond = bound.as_f64().is_some_and(|bound| match up {
                    true => bound < -most as f64,
                    false => bound > most as f64,
                });
                *bound = match is_beyond {
                    true => Number::from(if up { -most } else { most }),
                    false => rounded(bound, up),
                };
            }
        }
        let bounds = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum", "const"];
        if is_number && !bounds.iter().any(|bound| map.contains_key(*bound)) {
            map.insert("minimum".to_owned(), json!(-MOST));
            map.insert("maximum".to_owned(), json!(MOST));
        }
    }
    each_part(schema, &mut |_, inner| bound(inner));
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

/// The schema without keywords and formats that assert nothing, such as programs put into theirs. What asserts
/// something stays, for [`check`] to judge.
fn without_annotations(schema: &Value) -> Value {
    let mut schema = schema.clone();
    simplify(&mut schema, 0);
    schema
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
            let key = key.as_str();
            let is_place = matches!(key, "$defs" | "definitions" | "$anchor");
            (is_place || ENFORCED.contains(&key) || REFUSED.contains(&key)) && !vacuous
        });
    }
    if depth <= 2 * MAX_DEPTH {
        each_part(schema, &mut |_, inner| simplify(inner, depth + 1));
    }
}

/// Whether it could be a schema at all.
fn is_schema(value: &Value) -> bool {
    value.is_object() || value.is_boolean()
}

/// Keywords whose values are schemas by name, schemas in a list, and one schema.
const NAMED: &[&str] = &["properties", "patternProperties", "$defs", "definitions"];
const LISTED: &[&str] = &["anyOf", "oneOf", "allOf", "prefixItems", "items"];
const SINGLE: &[&str] = &["items", "additionalItems", "additionalProperties"];

/// One step of a JSON pointer.
pub(crate) fn step(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Visits the schemas directly within `schema`, each with its path.
pub(crate) fn each_part(schema: &mut Value, visit: &mut dyn FnMut(&str, &mut Value)) {
    let Value::Object(map) = schema else { return };
    for (key, value) in map.iter_mut() {
        match value {
            Value::Object(named) if NAMED.contains(&key.as_str()) => {
                named.iter_mut().for_each(|(name, inner)| visit(&(step(key) + &step(name)), inner));
            }
            Value::Array(list) if LISTED.contains(&key.as_str()) => {
                list.iter_mut()
                    .enumerate()
                    .for_each(|(i, inner)| visit(&format!("{}/{i}", step(key)), inner));
            }
            value if SINGLE.contains(&key.as_str()) => visit(&step(key), value),
            _ => {}
        }
    }
}

/// The schemas directly within `schema`, each with the keyword that it belongs to.
fn parts(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    schema.as_object().into_iter().flatten().flat_map(|(key, value)| {
        let key = key.as_str();
        let found: Vec<&Value> = match value {
            Value::Object(named) if NAMED.contains(&key) => named.values().collect(),
            Value::Array(list) if LISTED.contains(&key) => list.iter().collect(),
            value if SINGLE.contains(&key) => vec![value],
            _ => Vec::new(),
        };
        found.into_iter().map(move |inner| (key, inner))
    })
}

fn check(schema: &Value) -> Result<(), Refused> {
    let mut check = Check { seen: HashSet::new(), left: MOST_PATTERNS };
    check.schema(schema, Place::root(""), 0)
}

struct Check<'v> {
    /// Patterns that were looked at.
    seen: HashSet<&'v str>,
    /// What more of them may weigh.
    left: usize,
}

impl<'v> Check<'v> {
    fn schema(&mut self, schema: &'v Value, place: Place, depth: usize) -> Result<(), Refused> {
        match schema {
            Value::Bool(_) => Ok(()),
            Value::Object(map) => self.keywords(map, place, depth),
            _ => fail(place, "a schema is an object or a boolean"),
        }
    }

    fn keywords(&mut self, map: &'v Map<String, Value>, place: Place, depth: usize) -> Result<(), Refused> {
        if depth > MAX_DEPTH {
            return fail(place, "the schema is nested too deeply");
        }
        for (key, value) in map {
            let key_step = step(key);
            let at = place.then(&key_step);
            let is_known = |keys: &[&str]| keys.contains(&key.as_str());
            if !(is_known(ENFORCED) || is_known(&["$defs", "definitions", "$anchor"])) {
                return fail(at, "this keyword is not supported: it would not be enforced");
            }
            match (key.as_str(), value) {
                ("const" | "enum", value) if !is_exact(value) => {
                    return fail(at, "an integer in it is beyond 2^53 and would be rounded; use a string");
                }
                ("pattern", Value::String(pattern)) => self.pattern(pattern, at)?,
                (key, Value::Object(named)) if NAMED.contains(&key) => {
                    for (name, inner) in named {
                        if key == "patternProperties" {
                            self.pattern(name, at)?;
                        }
                        self.schema(inner, at.then(&step(name)), depth + 1)?;
                    }
                }
                (key, Value::Array(list)) if LISTED.contains(&key) => {
                    for (i, inner) in list.iter().enumerate() {
                        self.schema(inner, at.then(&format!("/{i}")), depth + 1)?;
                    }
                }
                (key, value) if SINGLE.contains(&key) => self.schema(value, at, depth + 1)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn pattern(&mut self, pattern: &'v str, place: Place) -> Result<(), Refused> {
        if self.seen.insert(pattern) {
            let left = self.left.checked_sub(weight(pattern));
            self.left =
                left.ok_or_else(|| refusal(&place.path(), "the patterns are too long; use shorter ones"))?;
        }
        Ok(())
    }
}

fn refusal(path: &str, problem: &'static str) -> Refused {
    Refused { path: path.to_owned(), problem }
}

fn fail(place: Place, problem: &'static str) -> Result<(), Refused> {
    Err(refusal(&place.path(), problem))
}

/// Where a part of a schema lies. The whole path is put together for a refusal alone: a name may be long, and much within it.
#[derive(Clone, Copy)]
struct Place<'p> {
    within: Option<&'p Place<'p>>,
    /// The last steps of the path.
    step: &'p str,
}

impl<'p> Place<'p> {
    fn root(path: &'p str) -> Self {
        Self { within: None, step: path }
    }

    fn then(&'p self, step: &'p str) -> Self {
        Self { within: Some(self), step }
    }

    fn path(&self) -> String {
        self.within.map_or_else(String::new, Place::path) + self.step
    }
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
        assert_eq!(prepared["exclusiveMaximum"], json!(i64::MAX - 1023));
        let least = prepare(&json!({ "type": "integer", "minimum": i64::MIN })).unwrap();
        assert_eq!(least["minimum"], json!(i64::MIN + 1024), "the least itself has no opposite");
        let wide = json!({ "type": "number", "minimum": -3.4028234663852886e38, "maximum": u64::MAX });
        let prepared = prepare(&wide).unwrap();
        assert_eq!((&prepared["minimum"], &prepared["maximum"]), (&json!(-MOST), &json!(MOST)));
        let near =
            json!({ "type": "number", "minimum": -7, "maximum": 0.25, "exclusiveMinimum": -(1i64 << 52) });
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
            "n": { "type": null, "minLength": null, "required": null, "enum": null, "multipleOf": 0 },
        }, "additionalProperties": false });
        let loose = json!({ "type": "object", "required": ["a", "x"], "properties": {
            "a": { "items": { "anyOf": [{ "type": "integer" }, { "type": "number" }] } },
            "b": {}, "c": {}, "d": {}, "e": { "pattern": "^x" }, "x": {}, "n": {},
        }, "additionalProperties": false });
        assert_eq!(loosened(&schema), loose);
        assert!(prepare(&schema).is_err() && prepare(&loose).is_ok());
    }
}
