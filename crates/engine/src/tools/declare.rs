//! A tool as a request declares it, in either API's form.

use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// A function that an answer may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name: letters, digits, and `_`, `-`, `.`, `:`, `/`.
    pub name: String,
    /// What the model is told about it.
    pub description: Option<String>,
    /// The JSON Schema of its parameters, an object's.
    pub parameters: Value,
    /// Whether a schema that no grammar can guarantee is an error. Otherwise calls follow it as far as one can: of two
    /// branches of `oneOf`, both may be true, and keywords such as `uniqueItems`, `not` and `if` are the caller's to check.
    /// Where what is left does not compile either, or is too much, the types of the parameters hold.
    pub strict: bool,
}

/// Longer names are refused.
const MOST_NAME: usize = 128;

impl Tool {
    /// A tool that is not strict. Without `parameters` it has none.
    ///
    /// # Errors
    /// [`Error::Tool`] for a name that is not one, and for a schema that is no object's.
    pub fn new(
        name: impl Into<String>,
        description: Option<String>,
        parameters: Option<Value>,
    ) -> Result<Self> {
        let parameters = parameters.filter(|value| !value.is_null()).unwrap_or_else(|| json!({}));
        let tool = Self { name: name.into(), description, parameters, strict: false };
        let is_letter = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
        if tool.name.is_empty() || tool.name.len() > MOST_NAME || !tool.name.chars().all(is_letter) {
            let problem = "a name has from 1 to 128 letters, digits, `_`, `-`, `.`, `:` or `/`";
            return Err(tool.wrong("", problem));
        }
        if !tool.parameters.is_object() {
            return Err(tool.wrong("", "the schema of the parameters is an object"));
        }
        Ok(tool)
    }

    /// The tool of an OpenAI request: `{"type": "function", "function": {"name", "description", "parameters", "strict"}}`, or
    /// the same without the inner object.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::Request`] when it has another form.
    pub fn from_openai(value: &Value) -> Result<Self> {
        if let Some(kind) = value.get("type").filter(|kind| !kind.is_null() && *kind != "function") {
            return Err(malformed(format!("a tool of type `{kind}` is not supported; only `function` is")));
        }
        let function = value.get("function").unwrap_or(value);
        Self::from_parts(function, "parameters")
    }

    /// The tool of an Anthropic request: `{"name", "description", "input_schema", "strict"}`.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::Request`] when it has another form.
    pub fn from_anthropic(value: &Value) -> Result<Self> {
        if let Some(kind) = value.get("type").filter(|kind| !kind.is_null() && *kind != "custom") {
            return Err(malformed(format!("a tool of type `{kind}` is not supported; only `custom` is")));
        }
        Self::from_parts(value, "input_schema")
    }

    fn from_parts(value: &Value, schema: &str) -> Result<Self> {
        let name = value.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| malformed("a tool has no `name`".to_owned()))?;
        let description = value.get("description").and_then(Value::as_str).map(str::to_owned);
        let strict = value.get("strict").and_then(Value::as_bool).unwrap_or(false);
        Ok(Self { strict, ..Self::new(name, description, value.get(schema).cloned())? })
    }

    /// The tool in the OpenAI form, as chat templates want it.
    pub fn declaration(&self) -> Value {
        let mut function = Map::new();
        function.insert("name".to_owned(), json!(self.name));
        if let Some(description) = &self.description {
            function.insert("description".to_owned(), json!(description));
        }
        let mut parameters = self.parameters.clone();
        if let Value::Object(schema) = &mut parameters
            && schema.is_empty()
        {
            *schema =
                Map::from_iter([("type".to_owned(), json!("object")), ("properties".to_owned(), json!({}))]);
        }
        function.insert("parameters".to_owned(), parameters);
        json!({ "type": "function", "function": function })
    }

    pub(super) fn wrong(&self, path: &str, problem: impl Into<String>) -> Error {
        // A hostile name is not worth a long message.
        let tool = self.name.chars().take(MOST_NAME).collect();
        Error::Tool { tool, path: path.to_owned(), problem: problem.into() }
    }
}

fn malformed(problem: String) -> Error {
    Error::Request { field: "tools", problem }
}
