//! The conversation: a list of items, of which several can be one message of a chat.

use coder_engine::Message;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::tools::full_name;
use crate::{Error, Result};

/// What the user says, or a whole conversation.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected text or a list of items")]
pub(super) enum Input {
    Text(String),
    Items(Vec<Value>),
}

#[derive(Debug, Deserialize)]
struct Said {
    role: Role,
    content: Content,
}

#[derive(Debug, Deserialize)]
struct Call {
    call_id: String,
    name: String,
    namespace: Option<String>,
    arguments: String,
}

#[derive(Debug, Deserialize)]
struct Output {
    call_id: Option<String>,
    name: Option<String>,
    namespace: Option<String>,
    output: Content,
}

#[derive(Debug, Deserialize)]
struct Reasoning {
    content: Option<Vec<Part>>,
    encrypted_content: Option<String>,
}

/// What `encrypted_content` begins with if it is ours. It is not encrypted: nothing in it is a secret to who asked.
const THOUGHT: &str = "thought:";

/// A thought as `encrypted_content`, which is what clients send back of it.
pub(super) fn kept(thought: &str) -> String {
    format!("{THOUGHT}{thought}")
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    Developer,
    System,
    User,
    Assistant,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected text or a list of parts, each with a `type`")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
}

/// The messages of a chat. What an assistant thought, said and called one after the other is one of them, as it was when
/// the model wrote it.
///
/// # Errors
/// [`Error::Request`] for items that a model of text cannot be shown, and where nothing is said.
pub(super) fn messages(instructions: Option<String>, input: Input) -> Result<Vec<Message>> {
    let mut chat = Chat::default();
    chat.messages.extend(instructions.map(|text| Message::new("system", text)));
    match input {
        Input::Text(text) => chat.messages.push(Message::new("user", text)),
        Input::Items(items) if items.is_empty() => {
            return Err(Error::request("input", "`input` is empty; say something"));
        }
        Input::Items(items) => {
            items
                .into_iter()
                .enumerate()
                .try_for_each(|(at, item)| chat.add(item, &format!("input[{at}]")))?;
        }
    }
    chat.close();
    Ok(chat.messages)
}

#[derive(Default)]
struct Chat {
    messages: Vec<Message>,
    /// The assistant's message that is not complete yet.
    open: Option<Message>,
    /// Whether tools have given results since the assistant did something.
    has_results: bool,
}

impl Chat {
    fn add(&mut self, item: Value, field: &str) -> Result<()> {
        // The type of a message may be left out.
        let kind = item.get("type").and_then(Value::as_str).unwrap_or("message").to_owned();
        match kind.as_str() {
            "message" => self.say(read(item, field)?, field)?,
            "function_call" => {
                let Call { call_id, name, namespace, arguments } = read(item, field)?;
                let name = full_name(namespace.as_deref(), &name);
                let call = json!({
                    "id": call_id, "type": "function", "function": { "name": name, "arguments": arguments }
                });
                self.open().tool_calls.get_or_insert_default().push(call);
            }
            "function_call_output" => {
                let Output { call_id, name, namespace, output } = read(item, field)?;
                self.close();
                self.has_results = true;
                let text = output.into_result(field)?;
                let text = match (&call_id, name) {
                    (Some(_), _) => text,
                    // Codex tells in this form what the model has not asked for.
                    (None, Some(name)) => format!("{}:\n{text}", full_name(namespace.as_deref(), &name)),
                    (None, None) => {
                        let problem = format!("`{field}`: missing field `call_id`");
                        return Err(Error::Request { field: Some(field.to_owned()), problem });
                    }
                };
                self.messages.push(Message { tool_call_id: call_id, ..Message::new("tool", text) });
            }
            "reasoning" => {
                let Reasoning { content, encrypted_content } = read(item, field)?;
                self.close();
                let texts: Vec<String> = content.into_iter().flatten().filter_map(|part| part.text).collect();
                let kept = encrypted_content.as_deref().and_then(|kept| kept.strip_prefix(THOUGHT));
                let thought = if texts.is_empty() { kept.map(str::to_owned) } else { Some(texts.join("\n")) };
                if thought.is_some() {
                    self.open().reasoning_content = thought;
                }
            }
            _ => {
                let kind: String = kind.chars().take(100).collect();
                let problem = format!(
                    "`{field}`: an item of type `{kind}` is not supported; `message`, `function_call`, \
                     `function_call_output` and `reasoning` are"
                );
                return Err(Error::Request { field: Some(field.to_owned()), problem });
            }
        }
        Ok(())
    }

    fn say(&mut self, Said { role, content }: Said, field: &str) -> Result<()> {
        let text = if self.has_results { content.into_result(field)? } else { content.into_text(field)? };
        let role = match role {
            Role::Developer | Role::System => "system",
            Role::User => "user",
            Role::Assistant => {
                let is_begun = |open: &Message| open.tool_calls.is_some() || open.content.is_some();
                if self.open.as_ref().is_some_and(is_begun) {
                    self.close();
                }
                self.open().content = Message::new("assistant", text).content;
                return Ok(());
            }
        };
        self.close();
        self.messages.push(Message::new(role, text));
        Ok(())
    }

    fn open(&mut self) -> &mut Message {
        self.has_results = false;
        self.open.get_or_insert_with(|| Message { content: None, ..Message::new("assistant", "") })
    }

    fn close(&mut self) {
        self.messages.extend(self.open.take());
    }
}

impl Content {
    fn into_text(self, field: &str) -> Result<String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Parts(parts) => {
                let texts = parts.into_iter().map(|part| part.into_text(field));
                Ok(texts.collect::<Result<Vec<_>>>()?.join("\n"))
            }
        }
    }

    /// The text of a result, or of what is shown behind it. A picture in it is no fault of who asks, and a refusal would end
    /// the conversation for good; so the model is told that there is one.
    fn into_result(self, field: &str) -> Result<String> {
        match self {
            Self::Parts(mut parts) => {
                for part in &mut parts {
                    if ["input_image", "input_file"].contains(&part.kind.as_str()) {
                        let text = format!("[{}: this model cannot see it]", part.kind);
                        *part = Part { kind: "input_text".to_owned(), text: Some(text), refusal: None };
                    }
                }
                Self::Parts(parts).into_text(field)
            }
            text => text.into_text(field),
        }
    }
}

impl Part {
    fn into_text(self, field: &str) -> Result<String> {
        match self.kind.as_str() {
            "input_text" | "output_text" | "text" | "refusal" => {
                Ok(self.text.or(self.refusal).unwrap_or_default())
            }
            kind => {
                let field = format!("{field}.content");
                let kind: String = kind.chars().take(100).collect();
                let problem = format!("`{field}`: a part of type `{kind}` is not supported; only text is");
                Err(Error::Request { field: Some(field), problem })
            }
        }
    }
}

/// An item of its type.
fn read<T: DeserializeOwned>(item: Value, field: &str) -> Result<T> {
    serde_json::from_value(item).map_err(|error| {
        let problem = format!("`{field}`: {error}");
        Error::Request { field: Some(field.to_owned()), problem }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(items: Value) -> Vec<Message> {
        messages(Some("Be brief.".to_owned()), serde_json::from_value(items).unwrap()).unwrap()
    }

    #[test]
    fn a_picture_behind_a_result_is_told_of() {
        let picture = json!({ "role": "user", "content": [{ "type": "input_image", "image_url": "data:" }] });
        let result = json!({ "type": "function_call_output", "call_id": "a", "output": "attached" });
        let said = read(json!([result, picture]));
        assert_eq!(said[2].text().unwrap(), "[input_image: this model cannot see it]");
        let answer = json!({ "role": "assistant", "content": "so" });
        let items = serde_json::from_value(json!([result, answer, picture])).unwrap();
        assert!(messages(None, items).is_err());
    }

    #[test]
    fn what_an_assistant_does_in_a_row_is_one_message() {
        let call = |id: &str| json!({ "type": "function_call", "call_id": id, "name": "f", "namespace": "n", "arguments": "{}" });
        let result = |id: &str| json!({ "type": "function_call_output", "call_id": id, "output": [{ "type": "input_text", "text": id }] });
        let read = read(json!([
            { "role": "user", "content": "go" },
            { "type": "reasoning", "id": "rs", "summary": [], "content": [{ "type": "reasoning_text", "text": "hm" }] },
            { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "so" }] },
            call("a"), call("b"), result("a"), result("b"),
            { "type": "reasoning", "summary": [], "encrypted_content": "of another server" },
            call("c"), result("c"),
            { "type": "reasoning", "summary": [], "encrypted_content": kept("so") },
            { "role": "assistant", "content": "one" }, { "role": "assistant", "content": "two" },
            { "type": "function_call_output", "name": "goal", "namespace": "agent", "output": "win" },
        ]));
        let roles: Vec<&str> = read.iter().map(|message| message.role.as_str()).collect();
        assert_eq!(
            roles,
            [
                "system",
                "user",
                "assistant",
                "tool",
                "tool",
                "assistant",
                "tool",
                "assistant",
                "assistant",
                "tool"
            ]
        );
        let text = |at: usize| read[at].text().unwrap();
        assert_eq!((read[2].reasoning_content.as_deref(), text(2).as_str()), (Some("hm"), "so"));
        let calls = read[2].tool_calls.as_ref().unwrap();
        assert_eq!((calls.len(), &calls[0]["function"]["name"]), (2, &json!("n.f")));
        assert_eq!((read[4].tool_call_id.as_deref(), text(4).as_str()), (Some("b"), "b"));
        assert_eq!(
            (read[5].reasoning_content.as_deref(), read[7].reasoning_content.as_deref()),
            (None, Some("so"))
        );
        assert_eq!((text(7).as_str(), text(8).as_str()), ("one", "two"));
        assert_eq!((read[9].tool_call_id.as_deref(), text(9).as_str()), (None, "agent.goal:\nwin"));
    }
}
