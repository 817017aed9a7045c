//! The API of OpenAI: models, and what its requests and answers have in common.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod embeddings;

use std::collections::BTreeMap;
use std::time::SystemTime;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use coder_engine::{Grammar, SamplerOptions};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{End, Logprob, Reason};
use crate::ask::{FORM, any_object, random};
use crate::dialect::{Dialect, json_response};
use crate::elsewhere::{Name, find, names};
use crate::{Error, Result, Server, anthropic};

/// GET /v1/models, which both dialects have.
pub(crate) async fn models(State(server): State<Server>, dialect: Dialect) -> Response {
    let known = names(&server);
    json_response(&match dialect {
        Dialect::OpenAi => json!({ "object": "list", "data": known.iter().map(about).collect::<Vec<_>>() }),
        Dialect::Anthropic => anthropic::models(&known),
    })
}

/// GET /v1/models/{name}
pub(crate) async fn model(
    State(server): State<Server>,
    dialect: Dialect,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response> {
    let Path(name) = name.map_err(|rejected| Error::request("model", rejected.body_text()))?;
    let known = find(&server, dialect, name)?;
    Ok(json_response(&match dialect {
        Dialect::OpenAi => about(&known),
        Dialect::Anthropic => anthropic::about(&known),
    }))
}

fn about(Name { name, owner }: &Name) -> Value {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": owner })
}

/// Fields about sampling that both kinds of completions have.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Sampling {
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    /// llama.cpp's name for it.
    repeat_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<BTreeMap<String, f32>>,
    seed: Option<i64>,
}

impl Sampling {
    /// What the engine is told, and the seed.
    pub(crate) fn options(&self, server: &Server) -> Result<(SamplerOptions, Option<u64>)> {
        let default = SamplerOptions::default();
        let bias = |(token, bias): (&String, &f32)| match token.parse() {
            Ok(token) => Ok((token, *bias)),
            Err(_) => Err(Error::request(
                "logit_bias",
                format!("`logit_bias`: `{token}` is not the number of a token"),
            )),
        };
        let options = SamplerOptions {
            temperature: self.temperature.unwrap_or(server.temperature()),
            // Some clients say -1 for all tokens.
            top_k: usize::try_from(self.top_k.unwrap_or(0)).unwrap_or(0),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            repetition_penalty: self
                .repetition_penalty
                .or(self.repeat_penalty)
                .unwrap_or(default.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(default.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(default.frequency_penalty),
            logit_bias: self.logit_bias.iter().flatten().map(bias).collect::<Result<_>>()?,
            ..default
        };
        Ok((options, self.seed.map(i64::cast_unsigned)))
    }
}

/// One text or several.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected text or a list of texts")]
pub(crate) enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// What is sent with a stream.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct StreamOptions {
    include_usage: Option<bool>,
}

impl StreamOptions {
    pub(crate) fn include_usage(&self) -> bool {
        self.include_usage.unwrap_or(false)
    }
}

/// The form of an answer: OpenAI's, llama.cpp's variants of it, and grammars by the words of OpenAI's custom tools.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Format {
    Text,
    JsonObject { schema: Option<Value> },
    JsonSchema { json_schema: Option<Named>, schema: Option<Value>, strict: Option<bool> },
    Grammar { syntax: Syntax, definition: String },
}

#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    schema: Option<Value>,
    strict: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Syntax {
    Lark,
    Regex,
    Gbnf,
}

impl Format {
    pub(crate) fn grammar(self) -> Result<Option<Grammar>> {
        Ok(match self {
            Self::Text => None,
            Self::JsonObject { schema: None } => Some(any_object()),
            Self::JsonObject { schema: Some(schema) } => Some(Grammar::json(schema, false)),
            Self::JsonSchema { json_schema, schema, strict } => {
                let named = json_schema.filter(|named| named.schema.is_some());
                let Named { schema, strict } = named.unwrap_or(Named { schema, strict });
                let schema = schema.ok_or_else(|| {
                    Error::request("response_format", "`response_format.json_schema.schema` is missing")
                })?;
                Some(Grammar::json(schema, strict.unwrap_or(false)))
            }
            Self::Grammar { syntax: Syntax::Lark, definition } => Some(Grammar::Lark(definition)),
            Self::Grammar { syntax: Syntax::Regex, definition } => Some(Grammar::Regex(definition)),
            Self::Grammar { syntax: Syntax::Gbnf, definition } => Some(Grammar::Gbnf(definition)),
        })
    }
}

/// A field that is known, and not to be had: saying nothing would be a lie.
pub(crate) fn refuse(field: &'static str, value: Option<&Value>, remedy: &str) -> Result<()> {
    match value {
        None | Some(Value::Null) => Ok(()),
        Some(_) => Err(Error::request(field, format!("`{field}` is not supported{remedy}"))),
    }
}

/// The tokens that an answer may have, which in this API are some.
pub(crate) fn some_tokens(field: &'static str, most: Option<usize>) -> Result<Option<usize>> {
    match most {
        Some(0) => Err(Error::request(field, format!("`{field}`: ask for at least one token"))),
        most => Ok(most),
    }
}

/// What an answer has to look like, and the field that says so: OpenAI's, or one of the two of llama.cpp's server.
pub(crate) fn form(
    format: Option<Format>,
    json_schema: Option<Value>,
    grammar: Option<String>,
) -> Result<(Option<Grammar>, &'static str)> {
    let format = format.map(Format::grammar).transpose()?.flatten();
    let schema = json_schema.filter(|schema| !schema.is_null()).map(|schema| Grammar::json(schema, false));
    let grammar = grammar.filter(|text| !text.is_empty()).map(Grammar::Gbnf);
    match (format, schema, grammar) {
        (None, None, Some(grammar)) => Ok((Some(grammar), "grammar")),
        (None, Some(schema), None) => Ok((Some(schema), "json_schema")),
        (format, None, None) => Ok((format, FORM)),
        _ => {
            let problem =
                "`grammar`, `json_schema` and `response_format` exclude each other; send one of them";
            Err(Error::request("grammar", problem))
        }
    }
}

/// What all answers of a request begin with.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
}

impl Head {
    pub(crate) fn new(prefix: &str, model: &str) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let created = now.map_or(0, |time| time.as_secs());
        Self { id: format!("{prefix}-{:016x}{:016x}", random(), random()), created, model: model.to_owned() }
    }
}

pub(crate) fn finish_reason(reason: &Reason) -> &'static str {
    match reason {
        Reason::Stop | Reason::StopString(_) => "stop",
        Reason::Calls => "tool_calls",
        Reason::Length | Reason::Context => "length",
    }
}

/// Counts of several answers to one prompt.
pub(crate) fn usage(answers: &[End]) -> Value {
    // Of the first one, the others share its prompt.
    let prompt = answers.first().map_or(0, |end| end.usage.prompt_tokens);
    let cached = answers.first().map_or(0, |end| end.usage.cached_tokens);
    let completion: usize = answers.iter().map(|end| end.usage.completion_tokens).sum();
    let thoughts: usize = answers.iter().map(|end| end.thought_tokens).sum();
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": { "cached_tokens": cached },
        "completion_tokens_details": { "reasoning_tokens": thoughts },
    })
}

/// A token, its bytes and its log-probability.
fn logprob(bytes: &[u8], logprob: f32) -> Value {
    json!({ "token": String::from_utf8_lossy(bytes), "bytes": bytes, "logprob": logprob })
}

pub(crate) fn logprobs(tokens: &[Logprob]) -> Value {
    let content = tokens.iter().map(|token| {
        let mut value = logprob(&token.bytes, token.logprob);
        value["top_logprobs"] = token.top.iter().map(|(bytes, p)| logprob(bytes, *p)).collect();
        value
    });
    json!({ "content": content.collect::<Vec<_>>(), "refusal": null })
}

/// One event of a stream.
pub(crate) fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// What is sent when nothing else is to say: a comment.
pub(crate) const PING: &str = ": ping\n\n";

/// The last event.
pub(crate) const DONE: &str = "data: [DONE]\n\n";
