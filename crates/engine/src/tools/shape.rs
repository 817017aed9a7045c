//! What the parameters of a tool look like: their order, which must be there, which JSON types each may have.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{CallFormat, Tool};
use crate::grammar::schema;

/// The JSON types that a value may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Types(u8);

impl Types {
    pub(super) const STRING: Self = Self(1);
    pub(super) const INTEGER: Self = Self(2);
    /// Numbers that may be no integers.
    pub(super) const FRACTION: Self = Self(4);
    pub(super) const NUMBER: Self = Self(6);
    pub(super) const BOOLEAN: Self = Self(8);
    pub(super) const NULL: Self = Self(16);
    pub(super) const OBJECT: Self = Self(32);
    pub(super) const ARRAY: Self = Self(64);
    /// Those of one word.
    pub(super) const SCALAR: Self = Self(2 | 4 | 8 | 16);
    const ALL: Self = Self(127);
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
    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn named(name: &str) -> Self {
        Self::NAMES.iter().find(|(n, _)| *n == name).map_or(Self(0), |(_, types)| *types)
    }

    /// The type of `value`.
    pub(super) fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(number) if number.is_f64() => Self::FRACTION,
            Value::Number(_) => Self::INTEGER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    /// The types that `schema` allows. One without `type` that speaks of properties means an object, and so on.
    pub(super) fn of(schema: &Value, document: &Document) -> Self {
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
pub(super) struct Document {
    pub(super) root: Value,
    /// The types of what each reference stands for.
    types: BTreeMap<String, Types>,
}

impl Document {
    /// Looks through what each reference stands for once.
    pub(super) fn new(root: Value) -> Self {
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
    pub(super) fn resolve(&self, reference: &Value) -> Option<&Value> {
        resolve(reference.as_str()?, &self.root)
    }
}

fn resolve<'v>(reference: &str, root: &'v Value) -> Option<&'v Value> {
    root.pointer(reference.strip_prefix('#')?)
}

/// Notes the types of what `reference` stands for. What leads back to itself, or too deep, may be anything.
fn learn(reference: &str, root: &Value, types: &mut BTreeMap<String, Types>, depth: usize) -> Types {
    let known = types.get(reference).copied();
    let Some(target) = resolve(reference, root).filter(|_| known.is_none() && depth <= MAX_DEPTH) else {
        return known.unwrap_or(Types::ALL);
    };
    types.insert(reference.to_owned(), Types::ALL);
    let found = Types::within(target, depth, &mut |inner, depth| learn(inner, root, types, depth));
    types.insert(reference.to_owned(), found);
    found
}

/// The parameters of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    /// The schema of all of them, without what asserts nothing.
    pub(super) document: Document,
    /// Those that must be there first, otherwise in the declared order.
    pub(super) parameters: Vec<Parameter>,
    /// The schema of others, where the tool says explicitly that there may be others.
    pub(super) others: Option<Value>,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) schema: Value,
    pub(super) required: bool,
    pub(super) types: Types,
}

/// Keywords that say something of all parameters together, which the XML format cannot follow.
const TOGETHER: [&str; 6] =
    ["anyOf", "oneOf", "allOf", "patternProperties", "minProperties", "maxProperties"];

/// The XML format follows which parameters were given in the bits of one word.
const MOST_PARAMETERS: usize = 64;

impl Shape {
    /// The shape of calls in this format. Where the tool is not strict, what its schema says and no grammar can
    /// guarantee is left out.
    pub(super) fn of(tool: &Tool, format: CallFormat) -> crate::Result<Self> {
        let mut schema = tool.parameters.clone();
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|to| resolve(to, &schema)).cloned();
        if let Some(target) = target
            && let (Value::Object(root), Value::Object(target)) = (&mut schema, target)
        {
            root.remove("$ref");
            target.into_iter().for_each(|(key, value)| {
                root.entry(key).or_insert(value);
            });
        }
        schema = if tool.strict { schema::without_annotations(&schema) } else { schema::loosened(&schema) };
        let Value::Object(root) = &mut schema else {
            return Err(tool.wrong("", "the schema of the parameters is an object"));
        };
        match root.get("type") {
            None => _ = root.insert("type".to_owned(), json!("object")),
            Some(kind) if *kind == "object" => {}
            Some(kind) => {
                return Err(tool.wrong("/type", format!("parameters are an `object`, not `{kind}`")));
            }
        }
        let mut is_open = ["anyOf", "oneOf", "allOf"].iter().any(|key| root.contains_key(*key));
        if format == CallFormat::Xml && !tool.strict {
            is_open |= root.contains_key("patternProperties");
            root.retain(|key, _| !TOGETHER.contains(&key.as_str()));
        }
        // Callers mean a list of parameters; whoever takes others says so, or lists them elsewhere.
        root.entry("additionalProperties").or_insert(json!(is_open));
        let others = root.get("additionalProperties").filter(|others| **others != json!(false)).cloned();
        let list = |key: &str| root.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let required: Vec<String> =
            list("required").iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let declared = root.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(i) = required.iter().position(|name| !declared.contains_key(name) && !is_open) {
            let problem = format!("`{}` is required but not among the properties", required[i]);
            return Err(tool.wrong(&format!("/required/{i}"), problem));
        }
        let document = Document::new(schema);
        let mut parameters: Vec<Parameter> = declared
            .into_iter()
            .filter(|(name, inner)| *inner != json!(false) || required.contains(name))
            .map(|(name, inner)| {
                let types = Types::of(&inner, &document);
                Parameter { required: required.contains(&name), schema: inner, types, name }
            })
            .collect();
        parameters.sort_by_key(|parameter| !parameter.required);
        Ok(Self { document, parameters, others })
    }

    /// Whether calls can be written in the XML format.
    pub(super) fn check_xml(&self, tool: &Tool) -> crate::Result<()> {
        if self.parameters.len() > MOST_PARAMETERS {
            let count = self.parameters.len();
            let problem = format!("it has `{count}` parameters; up to `{MOST_PARAMETERS}` are supported");
            return Err(tool.wrong("/properties", problem));
        }
        if let Some(key) = TOGETHER.iter().find(|key| self.document.root.get(**key).is_some()) {
            let problem = "the model's call format has no way to guarantee this for all parameters together";
            return Err(tool.wrong(&format!("/{key}"), problem));
        }
        for Parameter { name, .. } in &self.parameters {
            if name.is_empty() || name.chars().any(|c| c == '>' || c.is_control()) {
                let problem = "the model's call format cannot express this name of a parameter";
                return Err(tool.wrong(&pointer(&["properties", name]), problem));
            }
        }
        Ok(())
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// The types of the parameter `name`, declared or not.
    pub(super) fn types(&self, name: &str) -> Types {
        match (self.parameter(name), &self.others) {
            (Some(parameter), _) => parameter.types,
            (None, Some(others)) => Types::of(others, &self.document),
            (None, None) => Types::ALL,
        }
    }
}

/// A JSON pointer.
pub(super) fn pointer(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1"))).collect()
}

/// A schema of a part of `root` as a document of its own.
pub(super) fn standalone(part: &Value, root: &Value) -> Value {
    let mut part = part.clone();
    if !redirect(&mut part, 0) {
        return part;
    }
    let mut root = root.clone();
    redirect(&mut root, 0);
    if let Value::Object(map) = &mut part {
        map.insert("$defs".to_owned(), json!({ "tool": root }));
        map.remove("definitions");
    }
    part
}

/// Makes references to a document point to where it is in another one; whether there were any.
fn redirect(schema: &mut Value, depth: usize) -> bool {
    let mut found = false;
    if let Some(Value::String(to)) = schema.get_mut("$ref")
        && let Some(rest) = to.strip_prefix('#')
    {
        *to = format!("#/$defs/tool{rest}");
        found = true;
    }
    if depth < 2 * MAX_DEPTH {
        schema::each_part(schema, &mut |inner| found |= redirect(inner, depth + 1));
    }
    found
}

/// The most values that [`without`] may copy, and alternatives with their texts that [`raw::rules`](super::raw::rules)
/// may: references can double both again and again.
pub(super) const MOST_COPIED: usize = 1 << 18;

/// What is wrong with a schema that exceeds [`MOST_COPIED`].
pub(super) const TOO_MANY: &str = "it has too many alternatives; use fewer of them";

/// What is left of a schema when its value has none of the types `removed`, if anything is.
///
/// # Errors
/// What is wrong with a schema of too many alternatives.
pub(super) fn without(
    schema: &Value,
    document: &Document,
    removed: Types,
) -> Result<Option<Value>, &'static str> {
    let mut left = MOST_COPIED;
    without_within(schema, document, removed, 0, &mut left)
}

fn without_within(
    schema: &Value,
    document: &Document,
    removed: Types,
    depth: usize,
    left: &mut usize,
) -> Result<Option<Value>, &'static str> {
    let all = Types::of(schema, document);
    let types = all.without(removed);
    if types == Types(0) || depth > MAX_DEPTH {
        return Ok(None);
    }
    if let Some(target) = schema.get("$ref").and_then(|reference| document.resolve(reference))
        && all.has(removed)
    {
        // What stands beside a reference is mostly words.
        return without_within(target, document, removed, depth + 1, left);
    }
    *left = left.checked_sub(values(schema)).ok_or(TOO_MANY)?;
    if !all.has(removed) {
        return Ok(Some(schema.clone()));
    }
    let Value::Object(mut map) = schema.clone() else {
        return Ok(Some(json!({ "type": names(types) })));
    };
    for key in ["anyOf", "oneOf"] {
        if let Some(Value::Array(branches)) = map.get_mut(key) {
            let kept = std::mem::take(branches).into_iter();
            let kept = kept.map(|branch| without_within(&branch, document, removed, depth + 1, left));
            *branches = kept.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        }
    }
    if let Some(Value::Array(values)) = map.get_mut("enum") {
        values.retain(|value| !removed.has(Types::of_value(value)));
    }
    if map.contains_key("type")
        || !["anyOf", "oneOf", "enum", "const"].iter().any(|key| map.contains_key(*key))
    {
        map.insert("type".to_owned(), json!(names(types)));
    }
    Ok(Some(Value::Object(map)))
}

/// The number of values in `value`, itself included.
fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(values).sum(),
        Value::Object(map) => map.values().map(values).sum(),
        _ => 0,
    }
}

fn names(types: Types) -> Vec<&'static str> {
    let whole =
        |each: Types| types.and(each) == each && !(each == Types::INTEGER && types.has(Types::FRACTION));
    Types::NAMES.iter().filter(|(_, each)| whole(*each)).map(|(name, _)| *name).collect()
}

/// Whether `schema` uses one of `keywords` anywhere.
pub(super) fn uses(schema: &Value, keywords: &[&str]) -> bool {
    match schema {
        Value::Object(map) => {
            map.iter().any(|(key, value)| keywords.contains(&key.as_str()) || uses(value, keywords))
        }
        Value::Array(list) => list.iter().any(|value| uses(value, keywords)),
        _ => false,
    }
}
