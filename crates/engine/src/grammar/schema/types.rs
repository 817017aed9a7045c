//! Which JSON types the values of a schema have.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The JSON types that a value may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Types(u8);

impl Types {
    pub(crate) const STRING: Self = Self(1);
    pub(crate) const INTEGER: Self = Self(2);
    /// Numbers that may be no integers.
    pub(crate) const FRACTION: Self = Self(4);
    pub(crate) const NUMBER: Self = Self(6);
    pub(crate) const BOOLEAN: Self = Self(8);
    pub(crate) const NULL: Self = Self(16);
    pub(crate) const OBJECT: Self = Self(32);
    pub(crate) const ARRAY: Self = Self(64);
    /// Those of one word.
    pub(crate) const SCALAR: Self = Self(2 | 4 | 8 | 16);
    pub(crate) const ALL: Self = Self(127);
    const NAMES: [(&str, Self); 7] = [
        ("string", Self::STRING),
        ("number", Self::NUMBER),
        ("integer", Self::INTEGER),
        ("boolean", Self::BOOLEAN),
        ("null", Self::NULL),
        ("object", Self::OBJECT),
        ("array", Self::ARRAY),
    ];

    /// Whether any of `other` is among them.
    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether a schema may say `type` with this name.
    pub(crate) fn is_name(name: &str) -> bool {
        Self::NAMES.iter().any(|(known, _)| *known == name)
    }

    /// Whether no value has one of them.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of them.
    pub(crate) fn names(self) -> Vec<&'static str> {
        let whole =
            |each: Self| self.and(each) == each && !(each == Self::INTEGER && self.has(Self::FRACTION));
        Self::NAMES.iter().filter(|(_, each)| whole(*each)).map(|(name, _)| *name).collect()
    }

    /// The schema of all values of them, and of any value if there are none.
    pub(crate) fn schema(self) -> Value {
        let types = if self.has(Self::FRACTION) { self.or(Self::NUMBER) } else { self };
        match types {
            Self::ALL | Self(0) => json!({}),
            types => json!({ "type": types.names() }),
        }
    }

    fn named(name: &str) -> Self {
        Self::NAMES.iter().find(|(n, _)| *n == name).map_or(Self(0), |(_, types)| *types)
    }

    /// The type of `value`.
    pub(crate) fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            // A number without a fraction is an integer, however it is written.
            Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() != 0.0) => {
                Self::FRACTION
            }
            Value::Number(_) => Self::INTEGER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    /// The types that `schema` allows. One without `type` that speaks of properties means an object, and so on.
    pub(crate) fn of(schema: &Value, document: &Document) -> Self {
        let mut known = |reference: &str, _| document.types.get(reference).copied().unwrap_or(Self::ALL);
        Self::within(schema, 0, &mut known)
    }

    /// The same within `depth` others, where `follow` knows the types of what a reference stands for.
    fn within(schema: &Value, depth: usize, follow: &mut dyn FnMut(&str, usize) -> Self) -> Self {
        let map = match schema {
            Value::Object(map) if depth <= MAX_DEPTH => map,
            Value::Bool(false) => return Self(0),
            _ => return Self::ALL,
        };
        let mut types = match map.get("type") {
            Some(Value::String(name)) => Self::named(name),
            Some(Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).map(Self::named).fold(Self(0), Self::or)
            }
            _ => Self::meant(map),
        };
        for (key, value) in map {
            let list = value.as_array().into_iter().flatten();
            types = types.and(match key.as_str() {
                "const" => Self::of_value(value),
                "enum" => list.map(Self::of_value).fold(Self(0), Self::or),
                "anyOf" | "oneOf" => {
                    list.map(|inner| Self::within(inner, depth + 1, follow)).fold(Self(0), Self::or)
                }
                "allOf" => {
                    list.map(|inner| Self::within(inner, depth + 1, follow)).fold(Self::ALL, Self::and)
                }
                "$ref" => value.as_str().map_or(Self::ALL, |to| follow(to, depth + 1)),
                _ => Self::ALL,
            });
        }
        types
    }

    /// What a schema without `type` speaks of.
    fn meant(map: &Map<String, Value>) -> Self {
        let has = |keys: &[&str]| keys.iter().any(|key| map.contains_key(*key));
        if has(&["properties", "required", "additionalProperties", "patternProperties"]) {
            Self::OBJECT
        } else if has(&["items", "prefixItems", "minItems", "maxItems"]) {
            Self::ARRAY
        } else {
            Self::ALL
        }
    }
}

/// Deeper nesting of references and unions is not looked into.
const MAX_DEPTH: usize = 32;

/// A schema with what its references stand for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub(crate) root: Value,
    /// The types of what each reference stands for.
    types: BTreeMap<String, Types>,
}

impl Document {
    /// A document whose references were gathered. Looks through what each of them stands for once.
    pub(crate) fn new(root: Value) -> Self {
        let mut types = BTreeMap::new();
        let mut parts = vec![&root];
        while let Some(part) = parts.pop() {
            match part {
                Value::Array(list) => parts.extend(list),
                Value::Object(map) => parts.extend(map.values()),
                _ => {}
            }
            if let Some(Value::String(reference)) = part.get("$ref") {
                learn(reference, &root, &mut types, 0);
            }
        }
        Self { root, types }
    }

    /// The schema that a `$ref` stands for.
    pub(crate) fn resolve(&self, reference: &Value) -> Option<&Value> {
        super::resolve(&self.root, reference.as_str()?)
    }
}

/// Notes the types of what `reference` stands for. What leads back to itself, or too deep, may be anything.
fn learn(reference: &str, root: &Value, types: &mut BTreeMap<String, Types>, depth: usize) -> Types {
    let known = types.get(reference).copied();
    let Some(target) = super::resolve(root, reference).filter(|_| known.is_none() && depth <= MAX_DEPTH)
    else {
        return known.unwrap_or(Types::ALL);
    };
    types.insert(reference.to_owned(), Types::ALL);
    let found = Types::within(target, depth, &mut |inner, depth| learn(inner, root, types, depth));
    types.insert(reference.to_owned(), found);
    found
}
