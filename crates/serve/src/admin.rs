//! For those who run the server, and for programs that look whether it is there: health, names of models as Ollama lists
//! them, tokens and prompts as llama.cpp's server tells them.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use coder_engine::{Message, SpecialTokens};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body::Fields;
use crate::dialect::{Dialect, json_response};
use crate::elsewhere::here;
use crate::models::Lease;
use crate::{Error, Result, Server};

/// GET /health
pub(crate) async fn health() -> Response {
    json_response(&json!({ "status": "ok" }))
}

/// GET /openapi.json: what can be asked here, for programs that read such a document.
pub(crate) async fn openapi() -> Response {
    let document = include_str!("openapi.json").replace("VERSION", env!("CARGO_PKG_VERSION"));
    let mut response = Response::new(Body::from(document));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// GET /api/version
pub(crate) async fn version() -> Response {
    json_response(&json!({ "version": env!("CARGO_PKG_VERSION") }))
}

/// GET /api/tags: what scripts read before they begin.
pub(crate) async fn tags(State(server): State<Server>) -> Response {
    let models = server.models().list().into_iter().map(|listed| {
        json!({
            "name": listed.name,
            "model": listed.name,
            "size": listed.bytes,
            "details": { "parent_model": listed.model, "format": "gguf" },
        })
    });
    json_response(&json!({ "models": models.collect::<Vec<_>>() }))
}

#[derive(Debug, Deserialize)]
struct Text {
    model: Option<String>,
    content: String,
    #[serde(default)]
    add_special: bool,
    /// Whether names of special tokens become them.
    #[serde(default = "yes")]
    parse_special: bool,
    #[serde(default)]
    with_pieces: bool,
}

fn yes() -> bool {
    true
}

/// POST /tokenize
pub(crate) async fn tokenize(
    State(server): State<Server>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response> {
    let named = here(&server, Dialect::OpenAi, &headers, &fields)?;
    let text: Text = fields.get()?;
    let model = named.or_else(|| text.model.clone());
    server
        .with_model(model, move |Lease { engine, .. }| {
            let tokenizer = engine.tokenizer();
            let special = if text.parse_special { SpecialTokens::Parse } else { SpecialTokens::Plain };
            let begin = tokenizer.bos().filter(|_| text.add_special && tokenizer.add_bos());
            let tokens = begin.into_iter().chain(tokenizer.encode(&text.content, special)?);
            let shown = tokens.map(|id| match text.with_pieces {
                false => json!(id),
                true => json!({ "id": id, "piece": piece(tokenizer.token_bytes(id)) }),
            });
            Ok(json_response(&json!({ "tokens": shown.collect::<Vec<_>>() })))
        })
        .await
}

/// A token's text, or its bytes if they are none.
fn piece(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| json!(bytes), |text| json!(text))
}

#[derive(Debug, Deserialize)]
struct Tokens {
    model: Option<String>,
    tokens: Vec<u32>,
}

/// POST /detokenize
pub(crate) async fn detokenize(
    State(server): State<Server>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response> {
    let named = here(&server, Dialect::OpenAi, &headers, &fields)?;
    let Tokens { model, tokens } = fields.get()?;
    server
        .with_model(named.or(model), move |Lease { engine, .. }| {
            let tokenizer = engine.tokenizer();
            if let Some(id) = tokens.iter().find(|&&id| id as usize >= tokenizer.vocab_size()) {
                let problem = format!("`tokens`: `{id}` is not one of `{}`", tokenizer.vocab_size());
                return Err(Error::request("tokens", problem));
            }
            Ok(json_response(&json!({ "content": String::from_utf8_lossy(&tokenizer.decode(&tokens)) })))
        })
        .await
}

#[derive(Debug, Deserialize)]
struct Conversation {
    model: Option<String>,
    messages: Vec<Message>,
    tools: Option<Vec<Value>>,
    #[serde(default)]
    chat_template_kwargs: serde_json::Map<String, Value>,
}

/// POST /apply-template: the prompt as the model reads it.
pub(crate) async fn apply_template(
    State(server): State<Server>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response> {
    let named = here(&server, Dialect::OpenAi, &headers, &fields)?;
    let said: Conversation = fields.get()?;
    let model = named.or_else(|| said.model.clone());
    server
        .with_model(model, move |Lease { engine, .. }| {
            let template =
                engine.template().ok_or_else(|| Error::request(None, "the model has no chat template"))?;
            let prompt =
                template.render(&said.messages, said.tools.as_deref(), true, &said.chat_template_kwargs)?;
            Ok(json_response(&json!({ "prompt": prompt })))
        })
        .await
}
