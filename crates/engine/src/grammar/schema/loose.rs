//! A schema as far as a grammar can guarantee it.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::references::{endless, gathered};
use super::types::{self, Types};
use super::{
    COUNTS, MAX_DEPTH, MOST_EFFORT, MOST_PATTERNS, REFUSED, each_part, effort, is_exact, is_schema, prepare,
    simplify, weight,
};
use crate::Result;

/// The schema without what cannot be enforced, and what is no schema: what is valid under it is valid under this one, and
/// more may be. Of one that is too large, nothing is left.
pub(crate) fn loosened(schema: &Value) -> Value {
    let mut loosen = Loosen::default();
    let mut tidy = |schema: &mut Value, depth: usize| {
        simplify(schema, depth);
        loosen.loosen(schema, depth);
    };
    let Ok(mut root) = gathered(schema, true, &mut tidy) else {
        return json!({ "additionalProperties": true });
    };
    let endless = endless(&root);
    if !endless.is_empty() {
        unbind(&mut root, &endless);
    }
    root
}

/// The schema as far as it can be guaranteed, and what is left of that where it does not compile; both for llguidance.
pub(crate) fn loose_forms(schema: &Value) -> Result<[Value; 2]> {
    if !schema.is_object() {
        let only = prepare(schema)?;
        return Ok([only.clone(), only]);
    }
    let loose = loosened(schema);
    let coarse = prepare(&coarse(&loose))?;
    Ok([prepare(&loose).unwrap_or_else(|_| coarse.clone()), coarse])
}

/// What is left of a [`loosened`] schema where even that does not compile: the types of its properties.
pub(crate) fn coarse(schema: &Value) -> Value {
    let document = types::Document::new(schema.clone());
    let typed = |schema: &Value| Types::of(schema, &document).schema();
    let Value::Object(properties) = schema.get("properties").unwrap_or(&Value::Null) else {
        return typed(schema);
    };
    let properties: Map<String, Value> = properties
        .iter()
        .map(|(name, inner)| (name.clone(), if *inner == json!(false) { json!(false) } else { typed(inner) }))
        .collect();
    let mut coarse = Types::of(schema, &document).schema();
    coarse["properties"] = Value::Object(properties);
    if let Some(required) = schema.get("required") {
        coarse["required"] = required.clone();
    }
    if let Some(others) = schema.get("additionalProperties") {
        coarse["additionalProperties"] = json!(*others != json!(false));
    }
    if effort(&coarse) > MOST_EFFORT { Types::of(schema, &document).schema() } else { coarse }
}

#[derive(Default)]
struct Loosen {
    /// Patterns that were looked at, and whether they are kept.
    patterns: HashMap<String, bool>,
    /// What those weigh.
    weight: usize,
}

impl Loosen {
    fn loosen(&mut self, schema: &mut Value, depth: usize) {
        let Value::Object(map) = schema else {
            if !schema.is_boolean() {
                *schema = json!(true);
            }
            return;
        };
        if depth > MAX_DEPTH {
            *schema = json!(true);
            return;
        }
        map.retain(|key, value| self.keeps(key, value));
        if let Some(branches) = map.shift_remove("oneOf") {
            map.entry("anyOf").or_insert(branches);
        }
        self.loosen_object(map);
        each_part(schema, &mut |_, inner| self.loosen(inner, depth + 1));
    }

    /// Whether a keyword can be enforced; its value is put right where that is plain.
    fn keeps(&mut self, key: &str, value: &mut Value) -> bool {
        match key {
            "type" => {
                let is_type = |name: &Value| name.as_str().is_some_and(Types::is_name);
                match value {
                    Value::Array(names) => {
                        names.retain(is_type);
                        !names.is_empty()
                    }
                    one => is_type(one),
                }
            }
            "const" => is_exact(value),
            "enum" => value.is_array() && is_exact(value),
            "pattern" => value.as_str().is_some_and(|pattern| self.is_regular(pattern)),
            "format" | "$ref" => value.is_string(),
            "minimum" | "maximum" => value.is_number(),
            "exclusiveMinimum" | "exclusiveMaximum" => value.is_number() || value.is_boolean(),
            "multipleOf" => value.as_f64().is_some_and(|step| step != 0.0),
            "required" => match value {
                Value::Array(names) => {
                    names.retain(Value::is_string);
                    true
                }
                _ => false,
            },
            "properties" | "patternProperties" => value.is_object(),
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => value.is_array(),
            "items" => value.is_array() || is_schema(value),
            "additionalItems" | "additionalProperties" => is_schema(value),
            key if COUNTS.contains(&key) => match value.as_f64() {
                Some(count) if count >= 0.0 && count.fract() == 0.0 && count < 4e9 => {
                    *value = json!(count as u64);
                    true
                }
                _ => false,
            },
            key => !REFUSED.contains(&key),
        }
    }

    /// What is said of all properties together.
    fn loosen_object(&mut self, map: &mut Map<String, Value>) {
        let patterns = map.get("patternProperties").and_then(Value::as_object);
        // Of several, the same name could belong to two.
        let is_kept = patterns.is_none_or(|all| all.len() < 2 && all.keys().all(|one| self.is_regular(one)));
        if !is_kept {
            map.shift_remove("patternProperties");
            map.insert("additionalProperties".to_owned(), json!(true));
        }
        let lists = |key: &str| map.get(key).and_then(Value::as_object).is_some_and(|all| !all.is_empty());
        if lists("properties") || lists("patternProperties") {
            map.shift_remove("minProperties");
            map.shift_remove("maxProperties");
        }
        if map.get("additionalProperties") == Some(&json!(false)) {
            let required = map.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            for name in required.iter().filter_map(Value::as_str) {
                if let Value::Object(properties) = map.entry("properties").or_insert_with(|| json!({})) {
                    properties.entry(name).or_insert_with(|| json!({}));
                }
            }
        }
    }

    /// Whether `pattern` is a regular expression in the strict sense, without conditions on what stands around it, and
    /// not so large that it would take long to compile.
    fn is_regular(&mut self, pattern: &str) -> bool {
        if let Some(known) = self.patterns.get(pattern) {
            return *known;
        }
        let weight = weight(pattern);
        let fits = self.weight + weight <= MOST_PATTERNS;
        let is_regular = fits && {
            self.weight += weight;
            let pattern = llguidance::regex_to_lark(pattern, "dw");
            llguidance::derivre::RegexBuilder::new().mk_regex_for_serach(&pattern).is_ok()
        };
        self.patterns.insert(pattern.to_owned(), is_regular);
        is_regular
    }
}

/// Takes away what stands beside a reference to what leads back to itself: llguidance would have to merge it with what is
/// not known yet.
fn unbind(schema: &mut Value, endless: &[String]) {
    let is_endless = |part: &Value| {
        part.get("$ref").and_then(Value::as_str).is_some_and(|to| endless.iter().any(|name| name == to))
    };
    let only = match schema.get("allOf") {
        Some(Value::Array(all)) if all.len() == 1 && is_endless(&all[0]) => Some(all[0]["$ref"].clone()),
        _ => schema.get("$ref").filter(|_| is_endless(schema)).cloned(),
    };
    if let (Some(reference), Value::Object(map)) = (only, &mut *schema) {
        map.retain(|key, _| key == "$defs");
        map.insert("$ref".to_owned(), reference);
    }
    if let Some(Value::Array(all)) = schema.get_mut("allOf") {
        all.retain(|part| !is_endless(part));
    }
    each_part(schema, &mut |_, inner| unbind(inner, endless));
}
