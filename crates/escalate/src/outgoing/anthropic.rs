//! A body of Anthropic's Messages API (platform.claude.com/docs/en/api/messages), with marks for its prompt cache
//! (platform.claude.com/docs/en/build-with-claude/prompt-caching).
//!
//! `output_config` has the effort and the schema (…/build-with-claude/effort, …/build-with-claude/structured-outputs).
//! There are no sampling parameters, no prefilled answer and no forced tools: current models refuse them.

use serde::Serialize;
use serde_json::Value;

use crate::{Ask, Effort, Endpoint, Said, Speaker};

/// A first message of so many bytes is worth a mark: below about 1,024 tokens nothing is cached anyway.
const LONG_BYTES: usize = 4096;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    stream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: Speaker,
    content: [Block<'a>; 1],
}

#[derive(Serialize)]
struct Block<'a> {
    r#type: &'static str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

#[derive(Serialize)]
struct CacheControl {
    r#type: &'static str,
}

#[derive(Serialize)]
struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<Effort>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format<'a>>,
}

#[derive(Serialize)]
struct Format<'a> {
    r#type: &'static str,
    schema: &'a Value,
}

/// Two marks at most, of the four that are allowed: the end of what the system says, and the first message if it is
/// long. A second attempt at a task repeats both.
pub(super) fn body(
    endpoint: &Endpoint,
    ask: &Ask,
    system: &[Said],
    talk: &[Said],
) -> serde_json::Result<Vec<u8>> {
    let last = system.len().saturating_sub(1);
    let format = ask.schema.as_ref().map(|schema| Format { r#type: "json_schema", schema });
    let has_config = ask.effort.is_some() || format.is_some();
    serde_json::to_vec(&Body {
        model: &ask.model,
        max_tokens: ask.max_tokens,
        stream: endpoint.stream,
        system: system.iter().enumerate().map(|(at, said)| block(&said.text, at == last)).collect(),
        messages: talk
            .iter()
            .enumerate()
            .map(|(at, said)| {
                let marked = at == 0 && said.text.len() >= LONG_BYTES;
                Message { role: said.by, content: [block(&said.text, marked)] }
            })
            .collect(),
        output_config: has_config.then_some(OutputConfig { effort: ask.effort, format }),
    })
}

fn block(text: &str, marked: bool) -> Block<'_> {
    Block { r#type: "text", text, cache_control: marked.then_some(CacheControl { r#type: "ephemeral" }) }
}
