//! What a schema lists of an object's properties in its branches and behind its references, put together: the XML format
//! knows one list of parameters.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::shape::{MOST_COPIED, TOGETHER, names, values};
use crate::grammar::schema;

/// References followed one after the other.
const MOST_STEPS: usize = 64;

/// Keywords that list properties.
const LISTS: [&str; 7] =
    ["properties", "patternProperties", "additionalProperties", "$ref", "anyOf", "oneOf", "allOf"];

/// Puts what the root refers to in the reference's place; `$ref` stays where that leads back to itself.
pub(super) fn unfold(root: &mut Map<String, Value>) {
    for _ in 0..MOST_STEPS {
        let Some(reference) = root.get("$ref").and_then(Value::as_str).map(str::to_owned) else { return };
        let target = root
            .get("$defs")
            .and_then(|all| all.get(reference.rsplit('/').next()?).and_then(Value::as_object).cloned());
        root.shift_remove("$ref");
        let target = target.unwrap_or_default();
        if target.iter().all(|(key, value)| root.get(key).is_none_or(|own| own == value)) {
            root.extend(target);
        } else if let Value::Array(all) = root.entry("allOf").or_insert_with(|| json!([])) {
            // Both hold.
            all.push(json!({ "$ref": reference }));
            return;
        }
    }
}

/// Whether branches of `root` list properties, so that its own list is not the whole.
pub(super) fn lists_elsewhere(root: &Map<String, Value>) -> bool {
    let branches = |key: &str| root.get(key).and_then(Value::as_array).into_iter().flatten();
    let mut all = ["anyOf", "oneOf", "allOf"].into_iter().flat_map(branches);
    all.any(|branch| LISTS.iter().any(|key| branch.get(*key).is_some()))
}

/// `root` with one list of properties: its own, and those of its branches.
pub(super) fn together(root: Map<String, Value>) -> Map<String, Value> {
    let definitions = root.get("$defs").cloned();
    let document = json!({ "$defs": definitions });
    let mut merge = Merge { document: &document, left: MOST_COPIED };
    let List { properties, required, others } = match merge.list(&root, 0) {
        Some(list) => list,
        // Too much of it: any parameters.
        None => List { others: Some(json!(true)), ..List::default() },
    };
    let mut merged: Map<String, Value> =
        root.into_iter().filter(|(key, _)| !TOGETHER.contains(&key.as_str())).collect();
    merged.insert("properties".to_owned(), Value::Object(properties));
    merged.insert("required".to_owned(), json!(required));
    merged.insert("additionalProperties".to_owned(), others.unwrap_or(json!(false)));
    merged
}

/// What a schema says of an object's properties.
#[derive(Default)]
struct List {
    properties: Map<String, Value>,
    required: Vec<String>,
    /// The schema of others, if there may be some.
    others: Option<Value>,
}

struct Merge<'d> {
    document: &'d Value,
    /// Values that may still be copied: references can double them again and again.
    left: usize,
}

impl Merge<'_> {
    /// What `schema`, within `depth` others, lists; nothing where that is too much.
    fn list(&mut self, schema: &Map<String, Value>, depth: usize) -> Option<List> {
        let copied = ["properties", "required", "additionalProperties"];
        let copied: usize = copied.iter().filter_map(|key| schema.get(*key)).map(values).sum();
        self.left = self.left.checked_sub(1 + copied)?;
        if depth > MOST_STEPS {
            return None;
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = match schema.get("additionalProperties") {
            Some(others) if *others != json!(false) => Some(others.clone()),
            _ => schema.contains_key("patternProperties").then(|| json!(true)),
        };
        let properties = properties.cloned().unwrap_or_default();
        let mut list = List { properties, required: names(schema, "required"), others };
        let reference = schema.get("$ref").and_then(Value::as_str);
        let target = reference.and_then(|to| schema::resolve(self.document, to));
        let all = schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
        for part in all.chain(target).filter_map(Value::as_object) {
            list = list.and(self.list(part, depth + 1)?);
        }
        for key in ["anyOf", "oneOf"] {
            let branches = schema.get(key).and_then(Value::as_array).into_iter().flatten();
            let branches = branches.filter_map(|branch| match branch {
                Value::Object(branch) => Some(self.list(branch, depth + 1)),
                // One that holds always says nothing of properties, and one that never holds is none.
                branch => (*branch == json!(true)).then(|| Some(List::default())),
            });
            let branches = branches.collect::<Option<Vec<_>>>()?;
            list = list.and(List::any(branches));
        }
        list.required.sort();
        list.required.dedup();
        Some(list)
    }
}

impl List {
    /// Both hold; of two schemas of one property, the first.
    fn and(mut self, other: Self) -> Self {
        for (name, schema) in other.properties {
            self.properties.entry(name).or_insert(schema);
        }
        self.required.extend(other.required);
        Self { others: self.others.or(other.others), ..self }
    }

    /// One of them holds.
    fn any(lists: Vec<Self>) -> Self {
        let mut any = Self::default();
        let mut listed: Vec<(String, Vec<Value>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut seen: HashSet<(usize, Value)> = HashSet::new();
        let mut needed: HashMap<String, usize> = HashMap::new();
        let count = lists.len();
        for Self { properties, required, others } in lists {
            for (name, schema) in properties {
                let place = *places.entry(name.clone()).or_insert(listed.len());
                if place == listed.len() {
                    listed.push((name, Vec::new()));
                }
                if seen.insert((place, schema.clone())) {
                    listed[place].1.push(schema);
                }
            }
            required.into_iter().for_each(|name| *needed.entry(name).or_default() += 1);
            any.others = any.others.or(others);
        }
        let in_all = needed.into_iter().filter(|(_, times)| *times == count);
        any.required = in_all.map(|(name, _)| name).collect();
        any.required.sort();
        for (name, mut schemas) in listed {
            let schema = if schemas.len() == 1 { schemas.remove(0) } else { json!({ "anyOf": schemas }) };
            any.properties.insert(name, schema);
        }
        any
    }
}
