//! A body of OpenAI's chat completions (platform.openai.com/docs/api-reference/chat/create), with no more than what
//! LiteLLM, vLLM, OpenRouter, llama.cpp and `coder serve` understand as well.

use serde::Serialize;
use serde_json::Value;

use crate::{Ask, Effort, Endpoint, LimitName, Speaker};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<Effort>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: Speaker,
    content: &'a str,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct ResponseFormat<'a> {
    r#type: &'static str,
    json_schema: JsonSchema<'a>,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'static str,
    strict: bool,
    schema: &'a Value,
}

pub(super) fn body(endpoint: &Endpoint, ask: &Ask) -> serde_json::Result<Vec<u8>> {
    let name = limit_name(endpoint);
    let limit = |of| (name == of).then_some(ask.max_tokens);
    serde_json::to_vec(&Body {
        model: &ask.model,
        messages: ask.messages.iter().map(|said| Message { role: said.by, content: &said.text }).collect(),
        max_tokens: limit(LimitName::MaxTokens),
        max_completion_tokens: limit(LimitName::MaxCompletionTokens),
        stream: endpoint.stream,
        stream_options: endpoint.stream.then_some(StreamOptions { include_usage: true }),
        reasoning_effort: ask.effort,
        response_format: ask.schema.as_ref().map(|schema| ResponseFormat {
            r#type: "json_schema",
            json_schema: JsonSchema { name: "answer", strict: true, schema },
        }),
    })
}

/// As the configuration has it; else the new name at OpenAI's own hosts, the old one everywhere else.
pub(super) fn limit_name(endpoint: &Endpoint) -> LimitName {
    if let Some(name) = endpoint.limit_name {
        return name;
    }
    let url = &endpoint.url;
    let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let host = rest.split(['/', ':']).next().unwrap_or_default().to_ascii_lowercase();
    if host == "api.openai.com" || host.ends_with(".openai.azure.com") {
        LimitName::MaxCompletionTokens
    } else {
        LimitName::MaxTokens
    }
}
