//! Messages in the form of the OpenAI API.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// One message of a conversation. Fields that are not named here are kept and shown to the template.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What was said. A template sees absent content as empty text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// What the assistant thought before it spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Calls of functions by the assistant: `{"id", "type": "function", "function": {"name", "arguments"}}`.
    /// A template sees arguments that are the text of a JSON object as that object, none as an empty one, and any others
    /// as one that holds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<Value>>,
    /// The call that a `tool` message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The name of the speaker or of the function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The content of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Text.
    Text(String),
    /// Parts, each `{"type": "text", "text": …}`; a template sees them as one text, a line break between two parts.
    Parts(Vec<Value>),
}

impl Message {
    /// A message with this role and text.
    pub fn new(role: impl Into<String>, text: impl Into<String>) -> Self {
        Self { role: role.into(), content: Some(Content::Text(text.into())), ..Self::default() }
    }

    /// The content as one text; empty if there is none.
    ///
    /// # Errors
    /// [`Error::Request`] for a part that is not text.
    pub fn text(&self) -> Result<String> {
        match &self.content {
            None => Ok(String::new()),
            Some(Content::Text(text)) => Ok(text.clone()),
            Some(Content::Parts(parts)) => {
                Ok(parts.iter().map(part_text).collect::<Result<Vec<_>>>()?.join("\n"))
            }
        }
    }

    /// The same with arguments as a template sees them.
    pub(crate) fn with_open_arguments(&self) -> Self {
        let calls = self.tool_calls.as_ref().map(|calls| calls.iter().map(open_arguments).collect());
        Self { tool_calls: calls, ..self.clone() }
    }

    /// What a template sees.
    pub(super) fn for_template(&self) -> Result<Map<String, Value>> {
        let text = |text: &String| Value::String(text.clone());
        let mut map = Map::new();
        map.insert("role".to_owned(), text(&self.role));
        map.insert("content".to_owned(), Value::String(self.text()?));
        let optional = [
            ("reasoning_content", self.reasoning_content.as_ref().map(text)),
            ("tool_calls", self.tool_calls.as_ref().map(|calls| calls.iter().map(open_arguments).collect())),
            ("tool_call_id", self.tool_call_id.as_ref().map(text)),
            ("name", self.name.as_ref().map(text)),
        ];
        map.extend(optional.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        map.extend(self.other.iter().map(|(key, value)| (key.clone(), value.clone())));
        Ok(map)
    }
}

fn part_text(part: &Value) -> Result<&str> {
    let is_text = part["type"].as_str().is_none_or(|kind| kind == "text");
    part["text"].as_str().filter(|_| is_text).ok_or_else(|| {
        let kind = part["type"].as_str().unwrap_or("unknown");
        let problem = format!("a content part of type `{kind}` is not supported; only `text` is");
        Error::Request { field: "messages", problem }
    })
}

/// The call with its arguments as an object. Those of an answer that was cut are no JSON, and are shown nevertheless: the
/// conversation goes on.
fn open_arguments(call: &Value) -> Value {
    let mut call = call.clone();
    let function = if call["function"].is_object() { &mut call["function"] } else { &mut call };
    let Some(arguments) = function.get_mut("arguments").filter(|arguments| !arguments.is_object()) else {
        return call;
    };
    let read = match &*arguments {
        Value::String(text) if text.trim().is_empty() => Some(Value::Null),
        Value::String(text) => serde_json::from_str(text).ok(),
        Value::Null => Some(Value::Null),
        _ => None,
    };
    *arguments = match read {
        Some(Value::Null) => Value::Object(Map::new()),
        Some(read @ Value::Object(_)) => read,
        _ => Value::Object(Map::from_iter([("arguments".to_owned(), arguments.take())])),
    };
    call
}
