//! What clients of the API of Anthropic send.

use coder_engine::{Grammar, Message, SamplerOptions, Tool, ToolChoice};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ask::{Ask, Chat, Prompt};
use crate::tools::Tools;
use crate::{Error, Result, Server};

/// A line that Claude Code puts before the prompt. It changes with every request, so with it nothing of a conversation would
/// ever be in the cache; and it says nothing to a model.
const BILLING: &str = "x-anthropic-billing-header:";

#[derive(Debug, Deserialize)]
pub(super) struct Body {
    pub(super) model: String,
    max_tokens: usize,
    messages: Vec<Said>,
    system: Option<Content>,
    stop_sequences: Option<Vec<String>>,
    pub(super) stream: Option<bool>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<usize>,
    thinking: Option<Thinking>,
    output_config: Option<OutputConfig>,
    output_format: Option<Format>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Choose>,
    mcp_servers: Option<Vec<Value>>,
}

/// Of a request whose tokens are to be counted.
#[derive(Debug, Deserialize)]
pub(super) struct Count {
    pub(super) model: String,
    messages: Vec<Said>,
    system: Option<Content>,
    thinking: Option<Thinking>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Choose>,
}

/// Whether tools are called, and which.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Choose {
    Auto { disable_parallel_tool_use: Option<bool> },
    Any { disable_parallel_tool_use: Option<bool> },
    Tool { name: String, disable_parallel_tool_use: Option<bool> },
    None {},
}

#[derive(Debug, Deserialize)]
struct Said {
    role: Role,
    content: Content,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Role {
    User,
    Assistant,
    System,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected text or a list of blocks, each with a `type` that is known")]
enum Content {
    Text(String),
    Blocks(Vec<Block>),
}

/// A block of content. What it says about caching is for a cache that has to be asked.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        text: String,
    },
    Thinking {
        thinking: String,
    },
    RedactedThinking {},
    ToolUse {
        id: String,
        name: String,
        input: Value,
    },
    ToolResult {
        tool_use_id: String,
        content: Option<Content>,
        is_error: Option<bool>,
    },
    #[serde(untagged)]
    Other(Other),
}

#[derive(Debug, Deserialize)]
struct Other {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
struct Thinking {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
struct OutputConfig {
    format: Option<Format>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format {
    JsonSchema { schema: Value },
}

impl Body {
    pub(super) fn into_ask(self, server: &Server) -> Result<Ask> {
        if self.mcp_servers.is_some_and(|servers| !servers.is_empty()) {
            return Err(Error::request(
                "mcp_servers",
                "`mcp_servers` is not supported; no connection is opened",
            ));
        }
        let tools = tools(self.tools.as_deref(), self.tool_choice)?;
        let chat = chat(self.messages, self.system, self.thinking.as_ref(), tools)?;
        let default = SamplerOptions::default();
        let sampler = SamplerOptions {
            temperature: self.temperature.unwrap_or(server.temperature()),
            top_p: self.top_p.unwrap_or(default.top_p),
            top_k: self.top_k.unwrap_or(default.top_k),
            ..default
        };
        let format = self.output_config.and_then(|config| config.format).or(self.output_format);
        Ok(Ask {
            max_tokens: Some(self.max_tokens),
            sampler,
            stop: self.stop_sequences.unwrap_or_default(),
            grammar: format.map(|Format::JsonSchema { schema }| Grammar::JsonSchema(schema)),
            ..Ask::new(Prompt::Chat(chat))
        })
    }
}

impl Count {
    pub(super) fn into_chat(self) -> Result<Chat> {
        let tools = tools(self.tools.as_deref(), self.tool_choice)?;
        chat(self.messages, self.system, self.thinking.as_ref(), tools)
    }
}

fn tools(declared: Option<&[Value]>, choice: Option<Choose>) -> Result<Tools> {
    let declared = declared.unwrap_or_default().iter().map(Tool::from_anthropic).collect::<Result<_, _>>()?;
    let (choice, alone) = match choice {
        None => (ToolChoice::Auto, None),
        Some(Choose::None {}) => (ToolChoice::None, None),
        Some(Choose::Auto { disable_parallel_tool_use: alone }) => (ToolChoice::Auto, alone),
        Some(Choose::Any { disable_parallel_tool_use: alone }) => (ToolChoice::Required, alone),
        Some(Choose::Tool { name, disable_parallel_tool_use: alone }) => (ToolChoice::Named(name), alone),
    };
    Tools::new(declared, choice, alone != Some(true))
}

fn chat(
    messages: Vec<Said>,
    system: Option<Content>,
    thinking: Option<&Thinking>,
    tools: Tools,
) -> Result<Chat> {
    if messages.is_empty() {
        return Err(Error::request("messages", "`messages` is empty; say something"));
    }
    let mut chat = Chat { tools, ..Chat::default() };
    let system = system.map(|system| system.texts("system")).transpose()?.unwrap_or_default();
    let system: Vec<String> = system.into_iter().filter(|text| !text.starts_with(BILLING)).collect();
    if !system.is_empty() {
        chat.messages.push(Message::new("system", system.join("\n\n")));
    }
    let last = messages.len() - 1;
    for (at, said) in messages.into_iter().enumerate() {
        let field = format!("messages[{at}].content");
        match said.role {
            // The answer goes on from what it is said to begin with.
            Role::Assistant if at == last => chat.begun = said.content.texts(&field)?.concat(),
            Role::Assistant => chat.messages.push(assistant(said.content, &field)?),
            Role::System => {
                chat.messages.push(Message::new("system", said.content.texts(&field)?.join("\n\n")))
            }
            Role::User => user(said.content, &field, &mut chat.messages)?,
        }
    }
    if thinking.is_some_and(|thinking| thinking.kind == "disabled") {
        chat.set("enable_thinking".to_owned(), Value::Bool(false))?;
    }
    Ok(chat)
}

/// Results of tools are messages of their own, before what the user says with them.
fn user(content: Content, field: &str, messages: &mut Vec<Message>) -> Result<()> {
    let mut said = Vec::new();
    for block in content.into_blocks() {
        match block {
            Block::ToolResult { tool_use_id, content, is_error } => {
                let text =
                    content.map(|content| content.texts(field)).transpose()?.unwrap_or_default().join("\n");
                let text = if is_error == Some(true) { format!("error: {text}") } else { text };
                messages.push(Message { tool_call_id: Some(tool_use_id), ..Message::new("tool", text) });
            }
            block => said.push(block.into_text(field)?),
        }
    }
    if !said.is_empty() {
        messages.push(Message::new("user", said.join("\n")));
    }
    Ok(())
}

fn assistant(content: Content, field: &str) -> Result<Message> {
    let (mut said, mut thoughts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for block in content.into_blocks() {
        match block {
            Block::Thinking { thinking } => thoughts.push(thinking),
            Block::RedactedThinking {} => {}
            Block::ToolUse { id, name, input } => calls.push(json!({
                "id": id, "type": "function", "function": { "name": name, "arguments": input }
            })),
            block => said.push(block.into_text(field)?),
        }
    }
    Ok(Message {
        reasoning_content: (!thoughts.is_empty()).then(|| thoughts.join("\n")),
        tool_calls: (!calls.is_empty()).then_some(calls),
        ..Message::new("assistant", said.join("\n"))
    })
}

impl Content {
    fn into_blocks(self) -> Vec<Block> {
        match self {
            Self::Text(text) => vec![Block::Text { text }],
            Self::Blocks(blocks) => blocks,
        }
    }

    /// The texts, if nothing else is among them.
    fn texts(self, field: &str) -> Result<Vec<String>> {
        self.into_blocks().into_iter().map(|block| block.into_text(field)).collect()
    }
}

impl Block {
    fn into_text(self, field: &str) -> Result<String> {
        let kind = match self {
            Self::Text { text } => return Ok(text),
            Self::Thinking { .. } => "thinking",
            Self::RedactedThinking {} => "redacted_thinking",
            Self::ToolUse { .. } => "tool_use",
            Self::ToolResult { .. } => "tool_result",
            Self::Other(Other { ref kind }) => kind,
        };
        let kind: String = kind.chars().take(100).collect();
        let problem = format!("`{field}`: a block of type `{kind}` is not supported here; `text` is");
        Err(Error::Request { field: Some(field.to_owned()), problem })
    }
}
