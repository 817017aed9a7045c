//! What the parameters of a tool look like: their order, which must be there, which JSON types each may have.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::{CallFormat, Tool, merge, xml};
use crate::grammar::schema;
use crate::grammar::schema::types::{Document, Types};

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
pub(super) const TOGETHER: [&str; 6] =
    ["anyOf", "oneOf", "allOf", "patternProperties", "minProperties", "maxProperties"];

/// The XML format follows which parameters were given in the bits of one word.
pub(super) const MOST_PARAMETERS: usize = 64;

impl Shape {
    /// The shape of calls in this format. Where the tool is not strict, what its schema says and no grammar can
    /// guarantee is left out.
    pub(super) fn of(tool: &Tool, format: CallFormat) -> crate::Result<Self> {
        let schema = match tool.strict {
            true => schema::gathered(&tool.parameters)
                .map_err(|refused| tool.wrong(&refused.path, refused.problem))?,
            false => schema::loosened(&tool.parameters),
        };
        let Value::Object(mut root) = schema else {
            return Err(tool.wrong("", "the schema of the parameters is an object"));
        };
        merge::unfold(&mut root);
        if !tool.strict {
            root.shift_remove("$ref");
            root.insert("type".to_owned(), json!("object"));
        }
        match root.get("type") {
            _ if root.contains_key("$ref") => {
                return Err(tool.wrong("/$ref", "it leads back to itself"));
            }
            None => _ = root.insert("type".to_owned(), json!("object")),
            Some(kind) if *kind == "object" => {}
            Some(kind) => {
                return Err(tool.wrong("/type", format!("parameters are an `object`, not `{kind}`")));
            }
        }
        if format == CallFormat::Xml && !tool.strict {
            root = merge::together(root);
        }
        let is_open = merge::lists_elsewhere(&root);
        // Callers mean a list of parameters; whoever takes others says so, or lists them elsewhere.
        root.entry("additionalProperties").or_insert(json!(is_open));
        declare_required(&mut root, tool)?;
        let mut shape = Self::listed(root);
        if !tool.strict {
            shape.drop_impossible(format);
        }
        Ok(shape)
    }

    /// The shape of the parameters that `root` lists.
    fn listed(root: Map<String, Value>) -> Self {
        let others = root.get("additionalProperties").filter(|others| **others != json!(false)).cloned();
        let required = names(&root, "required");
        let required: HashSet<&str> = required.iter().map(String::as_str).collect();
        let declared = root.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let document = Document::new(Value::Object(root.clone()));
        let mut parameters: Vec<Parameter> = declared
            .into_iter()
            .map(|(name, schema)| {
                let types = Types::of(&schema, &document);
                Parameter { required: required.contains(name.as_str()), schema, types, name }
            })
            .filter(|parameter| parameter.required || parameter.schema != json!(false))
            .collect();
        parameters.sort_by_key(|parameter| !parameter.required);
        Self { document, parameters, others }
    }

    /// Leaves out what may be left out and has no value, or no name that the format can write; what has no value and must
    /// be there may be anything.
    fn drop_impossible(&mut self, format: CallFormat) {
        let Self { document, parameters, .. } = self;
        let mut properties = document.root.get_mut("properties").and_then(Value::as_object_mut);
        parameters.retain_mut(|parameter| {
            let is_written = format == CallFormat::Json || is_xml_name(&parameter.name);
            if is_written && !parameter.types.is_empty() {
                return true;
            }
            if is_written && parameter.required {
                (parameter.schema, parameter.types) = (json!({}), Types::ALL);
            }
            if let Some(properties) = &mut properties {
                let schema = if parameter.required { json!({}) } else { json!(false) };
                properties.insert(parameter.name.clone(), schema);
            }
            is_written && parameter.required
        });
    }

    /// The same with only the types of each parameter.
    pub(super) fn coarse(&self) -> Self {
        let types = |schema: &Value| Types::of(schema, &self.document).schema();
        let typed =
            |parameter: &Parameter| Parameter { schema: parameter.types.schema(), ..parameter.clone() };
        Self {
            document: Document::new(schema::coarse(&self.document.root)),
            parameters: self.parameters.iter().map(typed).collect(),
            others: self.others.as_ref().map(types),
        }
    }

    /// The same with only the types of parameter `k`.
    pub(super) fn typed(mut self, k: usize) -> Self {
        let Parameter { name, schema, types, .. } = &mut self.parameters[k];
        *schema = types.schema();
        if let Some(Value::Object(properties)) = self.document.root.get_mut("properties") {
            properties.insert(name.clone(), schema.clone());
        }
        self
    }

    /// The same with no other parameter than `k`, which is required.
    pub(super) fn only(&self, k: usize) -> Self {
        let parameter = Parameter { required: true, ..self.parameters[k].clone() };
        let mut document = self.document.clone();
        if let Value::Object(root) = &mut document.root {
            root.retain(|key, _| key == "$defs");
            root.insert("type".to_owned(), json!("object"));
            root.insert("properties".to_owned(), json!({ (parameter.name.as_str()): parameter.schema }));
            root.insert("required".to_owned(), json!([parameter.name]));
            root.insert("additionalProperties".to_owned(), json!(false));
        }
        Self { document, parameters: vec![parameter], others: None }
    }

    /// Calls with any parameters at all.
    pub(super) fn any() -> Self {
        let document = Document::new(json!({ "type": "object", "additionalProperties": true }));
        Self { document, parameters: Vec::new(), others: Some(json!(true)) }
    }

    /// Whether calls can be written in the XML format.
    pub(super) fn check_xml(&self, tool: &Tool) -> crate::Result<()> {
        if !tool.strict {
            return Ok(());
        }
        if self.parameters.len() > MOST_PARAMETERS {
            let count = self.parameters.len();
            let problem = format!("it has `{count}` parameters; up to `{MOST_PARAMETERS}` are supported");
            return Err(tool.wrong("/properties", problem));
        }
        if let Some(key) = TOGETHER.iter().find(|key| self.document.root.get(**key).is_some()) {
            let problem = "the model's call format has no way to guarantee this for all parameters together";
            return Err(tool.wrong(&format!("/{key}"), problem));
        }
        if let Some(Parameter { name, .. }) = self.parameters.iter().find(|each| !is_xml_name(&each.name)) {
            let problem = "the model's call format cannot express this name of a parameter";
            return Err(tool.wrong(&pointer(&["properties", name]), problem));
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

/// Whether the XML format can write this name of a parameter, and read it again.
fn is_xml_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= xml::MOST_NAME
        && name.trim() == name
        && !name.chars().any(|c| c == '>' || c.is_control())
}

/// The texts in the list `key`.
pub(super) fn names(map: &Map<String, Value>, key: &str) -> Vec<String> {
    let list = map.get(key).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Adds to the properties what is required and not among them, with the schema of what is not.
fn declare_required(root: &mut Map<String, Value>, tool: &Tool) -> crate::Result<()> {
    let others = match root.get("additionalProperties") {
        Some(Value::Bool(false)) | None => None,
        // Which names those are is not said here.
        Some(_) if root.contains_key("patternProperties") => return Ok(()),
        Some(others) => Some(others.clone()),
    };
    let required = names(root, "required");
    let Value::Object(properties) = root.entry("properties").or_insert_with(|| json!({})) else {
        return Ok(());
    };
    for (i, name) in required.into_iter().enumerate() {
        if properties.contains_key(&name) {
            continue;
        }
        let schema = match &others {
            Some(others) => others.clone(),
            None if !tool.strict => json!({}),
            None => {
                let problem = format!("`{name}` is required but not among the properties");
                return Err(tool.wrong(&format!("/required/{i}"), problem));
            }
        };
        properties.insert(name, schema);
    }
    Ok(())
}

/// References and unions nested deeper are not looked into.
const MAX_DEPTH: usize = 32;

/// The most values that [`without`] may copy, [`merge`] too, and alternatives with their texts that
/// [`raw::rules`](super::raw::rules) may: references can double them again and again.
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
    if types.is_empty() || depth > MAX_DEPTH {
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
        return Ok(Some(json!({ "type": types.names() })));
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
        map.insert("type".to_owned(), json!(types.names()));
    }
    Ok(Some(Value::Object(map)))
}

/// The number of values in `value`, itself included.
pub(super) fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(values).sum(),
        Value::Object(map) => map.values().map(values).sum(),
        _ => 0,
    }
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
