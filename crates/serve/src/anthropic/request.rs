//! What clients of the API of Anthropic send.

use coder_engine::{Grammar, Message, SamplerOptions, ToolChoice};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::offer::{Named, Offer};
use crate::ask::{Ask, Chat, Prompt};
use crate::openai::refuse;
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
    container: Option<Value>,
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
    mcp_servers: Option<Vec<Value>>,
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

#[derive(Debug)]
enum Content {
    Text(String),
    Blocks(Vec<Block>),
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self::Text(text)),
            Value::Array(blocks) => {
                let of = |(at, block)| {
                    Block::of(block).map_err(|error| D::Error::custom(format!("block {at}: {error}")))
                };
                Ok(Self::Blocks(blocks.into_iter().enumerate().map(of).collect::<Result<_, _>>()?))
            }
            _ => Err(D::Error::custom("expected text or a list of blocks")),
        }
    }
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
    ToolReference {
        tool_name: String,
    },
    ToolAddition {
        tool: Named,
    },
    ToolRemoval {
        tool: Named,
    },
    Document {
        source: Source,
        title: Option<String>,
        context: Option<String>,
        citations: Option<Citations>,
    },
    SearchResult {
        source: String,
        title: String,
        content: Content,
        citations: Option<Citations>,
    },
    /// One of another type, by its name.
    #[serde(skip)]
    Other(String),
    #[serde(other)]
    Unknown,
}

/// Where a document is.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source {
    Text {
        data: String,
    },
    Content {
        content: Content,
    },
    #[serde(other)]
    Unknown,
}

/// Whether answers are to say where in a text they have something from.
#[derive(Debug, Deserialize)]
struct Citations {
    enabled: Option<bool>,
}

/// Whether the model thinks first. For how long is its own affair.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Thinking {
    Enabled {},
    Adaptive {},
    Disabled {},
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
        no_servers(self.mcp_servers)?;
        refuse("container", self.container.as_ref(), "; nothing is run here")?;
        let offer = Offer::new(self.tools.as_deref().unwrap_or_default())?;
        let chat = chat(self.messages, self.system, self.thinking.as_ref(), offer, self.tool_choice)?;
        let default = SamplerOptions::default();
        let sampler = SamplerOptions {
            temperature: self.temperature.unwrap_or(server.temperature()),
            top_p: self.top_p.unwrap_or(default.top_p),
            top_k: self.top_k.unwrap_or(default.top_k),
            ..default
        };
        let (format, grammar_field) = match self.output_config.and_then(|config| config.format) {
            None => (self.output_format, "output_format"),
            format => (format, "output_config.format"),
        };
        Ok(Ask {
            max_tokens: Some(self.max_tokens),
            sampler,
            stop: self.stop_sequences.unwrap_or_default(),
            grammar: format.map(|Format::JsonSchema { schema }| Grammar::JsonSchema(schema)),
            grammar_field,
            ..Ask::new(Prompt::Chat(chat))
        })
    }
}

impl Count {
    pub(super) fn into_chat(self) -> Result<Chat> {
        no_servers(self.mcp_servers)?;
        let offer = Offer::new(self.tools.as_deref().unwrap_or_default())?;
        chat(self.messages, self.system, self.thinking.as_ref(), offer, self.tool_choice)
    }
}

/// Tools that only somebody else could name.
fn no_servers(servers: Option<Vec<Value>>) -> Result<()> {
    let servers = servers.filter(|servers| !servers.is_empty()).map(Value::from);
    refuse("mcp_servers", servers.as_ref(), "; no connection is opened")
}

impl Choose {
    /// The choice, and whether there may be several calls.
    fn parts(choice: Option<Self>) -> (ToolChoice, bool) {
        let (choice, alone) = match choice {
            None => (ToolChoice::Auto, None),
            Some(Self::None {}) => (ToolChoice::None, None),
            Some(Self::Auto { disable_parallel_tool_use: alone }) => (ToolChoice::Auto, alone),
            Some(Self::Any { disable_parallel_tool_use: alone }) => (ToolChoice::Required, alone),
            Some(Self::Tool { name, disable_parallel_tool_use: alone }) => (ToolChoice::Named(name), alone),
        };
        (choice, alone != Some(true))
    }
}

fn chat(
    messages: Vec<Said>,
    system: Option<Content>,
    thinking: Option<&Thinking>,
    mut offer: Offer,
    choice: Option<Choose>,
) -> Result<Chat> {
    if messages.is_empty() {
        return Err(Error::request("messages", "`messages` is empty; say something"));
    }
    let mut chat = Chat::default();
    let system = system.map(|system| system.texts("system", false, &mut offer)).transpose()?;
    let system = system.unwrap_or_default();
    let system: Vec<String> = system.into_iter().filter(|text| !text.starts_with(BILLING)).collect();
    if !system.is_empty() {
        chat.messages.push(Message::new("system", system.join("\n\n")));
    }
    let last = messages.len() - 1;
    // Since the last answer.
    let mut has_results = false;
    for (at, said) in messages.into_iter().enumerate() {
        let field = format!("messages[{at}].content");
        match said.role {
            // The answer goes on from what it is said to begin with.
            Role::Assistant if at == last => {
                chat.begun = said.content.texts(&field, false, &mut offer)?.concat();
            }
            Role::Assistant => {
                chat.messages.push(assistant(said.content, &field, &mut offer)?);
                has_results = false;
            }
            Role::System => {
                let text = said.content.texts(&field, false, &mut offer)?.join("\n\n");
                chat.messages.push(Message::new("system", text));
            }
            Role::User => {
                has_results |= said.content.has_results();
                user(said.content, &field, has_results, &mut offer, &mut chat.messages)?;
            }
        }
    }
    // In this API nobody thinks unasked.
    let thinks = matches!(thinking, Some(Thinking::Enabled {} | Thinking::Adaptive {}));
    chat.set("enable_thinking".to_owned(), Value::Bool(thinks))?;
    let (choice, parallel) = Choose::parts(choice);
    chat.tools = offer.into_tools(choice, parallel)?;
    Ok(chat)
}

/// Results of tools are messages of their own, before what the user says with them. What clients show beside a result, such
/// as the pages of a file that a tool has read, is as good as in it.
fn user(
    content: Content,
    field: &str,
    beside_result: bool,
    offer: &mut Offer,
    messages: &mut Vec<Message>,
) -> Result<()> {
    let mut said = Vec::new();
    for block in content.into_blocks() {
        match block {
            Block::ToolResult { tool_use_id, content, is_error } => {
                let texts = content.map(|content| content.texts(field, true, offer)).transpose()?;
                let text = texts.unwrap_or_default().join("\n");
                let text = if is_error == Some(true) { format!("error: {text}") } else { text };
                messages.push(Message { tool_call_id: Some(tool_use_id), ..Message::new("tool", text) });
            }
            block => said.push(block.into_text(field, beside_result, offer)?),
        }
    }
    if !said.is_empty() {
        messages.push(Message::new("user", said.join("\n")));
    }
    Ok(())
}

fn assistant(content: Content, field: &str, offer: &mut Offer) -> Result<Message> {
    let (mut said, mut thoughts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for block in content.into_blocks() {
        match block {
            Block::Thinking { thinking } => thoughts.push(thinking),
            Block::RedactedThinking {} => {}
            Block::ToolUse { id, name, input } => calls.push(json!({
                "id": id, "type": "function", "function": { "name": name, "arguments": input }
            })),
            block => said.push(block.into_text(field, false, offer)?),
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

    fn has_results(&self) -> bool {
        match self {
            Self::Text(_) => false,
            Self::Blocks(blocks) => blocks.iter().any(|block| matches!(block, Block::ToolResult { .. })),
        }
    }

    /// The texts, if nothing else is among them; in a tool's result or beside one, also what is told of the rest.
    fn texts(self, field: &str, beside_result: bool, offer: &mut Offer) -> Result<Vec<String>> {
        self.into_blocks().into_iter().map(|block| block.into_text(field, beside_result, offer)).collect()
    }
}

impl Block {
    /// The block that `value` is. One of a type that is known has all its fields.
    fn of(value: Value) -> serde_json::Result<Self> {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(match serde_json::from_value(value)? {
            Self::Unknown => Self::Other(kind),
            known => known,
        })
    }

    /// The text of a block. A picture in a tool's result, or beside one, is no fault of who asks, and a refusal would end the
    /// conversation for good; so the model is told that there is one.
    fn into_text(self, field: &str, beside_result: bool, offer: &mut Offer) -> Result<String> {
        let (kind, is_shown) = match self {
            Self::Text { text } => return Ok(text),
            Self::ToolReference { tool_name } => return offer.refer(&tool_name, field),
            Self::ToolAddition { tool } => return offer.add(tool, field),
            Self::ToolRemoval { tool } => return offer.remove(tool),
            Self::SearchResult { source, title, content, citations } => {
                Citations::refuse(citations, field)?;
                let texts = content.texts(field, beside_result, offer)?;
                return Ok([vec![title, source], texts].concat().join("\n"));
            }
            Self::Document { source, title, context, citations } => {
                Citations::refuse(citations, field)?;
                let content = match source {
                    Source::Text { data } => Some(Content::Text(data)),
                    Source::Content { content } => Some(content),
                    Source::Unknown => None,
                };
                if let Some(content) = content {
                    let texts = content.texts(field, beside_result, offer)?;
                    return Ok(title.into_iter().chain(context).chain(texts).collect::<Vec<_>>().join("\n"));
                }
                ("document".to_owned(), true)
            }
            Self::Other(kind) => (kind.chars().take(100).collect(), true),
            Self::Thinking { .. } => ("thinking".to_owned(), false),
            Self::RedactedThinking {} => ("redacted_thinking".to_owned(), false),
            Self::ToolUse { .. } => ("tool_use".to_owned(), false),
            Self::ToolResult { .. } => ("tool_result".to_owned(), false),
            Self::Unknown => ("unknown".to_owned(), false),
        };
        if beside_result && is_shown {
            return Ok(format!("[{kind}: this model cannot see it]"));
        }
        let problem = format!("`{field}`: a block of type `{kind}` is not supported here; `text` is");
        Err(Error::Request { field: Some(field.to_owned()), problem })
    }
}

impl Citations {
    /// Nobody here knows which words an answer has from where.
    fn refuse(asked: Option<Self>, field: &str) -> Result<()> {
        if asked.is_some_and(|asked| asked.enabled == Some(true)) {
            let problem = format!("`{field}`: `citations` are not supported; send them with `enabled` false");
            return Err(Error::Request { field: Some(field.to_owned()), problem });
        }
        Ok(())
    }
}
