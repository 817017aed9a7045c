//! The API of Anthropic: POST /v1/messages and /v1/messages/count_tokens. The query is ignored.
//!
//! Owns the answers and their events; `request` is what clients send.

mod request;

use axum::extract::State;
use axum::response::Response;
use coder_engine::Usage;
use serde_json::{Value, json};

use self::request::{Body, Count};
use crate::answer::{Answers, End, Event, Part, Reason, What};
use crate::ask::random;
use crate::body::Fields;
use crate::dialect::{Dialect, json_response};
use crate::{Result, Server, stream};

/// POST /v1/messages
pub(crate) async fn messages(State(server): State<Server>, fields: Fields) -> Result<Response> {
    let body: Body = fields.get()?;
    let (model, streams) = (body.model.clone(), body.stream.unwrap_or(false));
    let ask = body.into_ask(&server)?;
    let answers = Answers::begin(&server, Some(&model), ask).await?;
    let id = format!("msg_{:016x}{:08x}", random(), random() as u32);
    if streams { Ok(send(answers, &id)) } else { whole(answers, &id).await }
}

/// POST /v1/messages/count_tokens
pub(crate) async fn count_tokens(State(server): State<Server>, fields: Fields) -> Result<Response> {
    let body: Count = fields.get()?;
    let (model, chat) = (body.model.clone(), body.into_chat()?);
    server
        .with_model(Some(model), move |engine| {
            Ok(json_response(&json!({ "input_tokens": chat.request(engine)?.prompt.len() })))
        })
        .await
}

/// Of how many tokens the prompt and the answer are; those that were in the cache are counted apart.
fn usage(usage: &Usage) -> Value {
    counts(usage.prompt_tokens - usage.cached_tokens, usage.cached_tokens, usage.completion_tokens)
}

fn counts(input: usize, cached: usize, output: usize) -> Value {
    json!({
        "input_tokens": input,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": output,
    })
}

/// `stop_reason` and `stop_sequence`.
fn stopped(reason: &Reason) -> (&'static str, Option<&str>) {
    match reason {
        Reason::Stop => ("end_turn", None),
        Reason::StopString(text) => ("stop_sequence", Some(text)),
        Reason::Length => ("max_tokens", None),
        Reason::Context => ("model_context_window_exceeded", None),
    }
}

fn message(id: &str, model: &str, content: &[Value], end: Option<&End>, usage: Value) -> Value {
    let (reason, sequence) = end.map(|end| stopped(&end.reason)).unzip();
    json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence.flatten(),
        "usage": usage,
    })
}

/// The whole answer at once.
async fn whole(mut answers: Answers, id: &str) -> Result<Response> {
    let (mut parts, mut last) = (Vec::new(), None);
    while let Some(event) = answers.next().await {
        match event?.what {
            What::Piece(piece) => piece.parts.into_iter().for_each(|part| join(&mut parts, part)),
            What::End(end) => last = Some(end),
        }
    }
    let content: Vec<Value> = parts.into_iter().map(block).collect();
    let counted = last.as_ref().map_or(Value::Null, |end| usage(&end.usage));
    Ok(json_response(&message(id, &answers.model, &content, last.as_ref(), counted)))
}

/// Appends to the last part of its kind.
fn join(parts: &mut Vec<Part>, part: Part) {
    match (parts.last_mut(), part) {
        (Some(Part::Text(all)), Part::Text(text)) | (Some(Part::Thought(all)), Part::Thought(text)) => {
            *all += &text
        }
        (_, part) => parts.push(part),
    }
}

fn block(part: Part) -> Value {
    match part {
        Part::Text(text) => json!({ "type": "text", "text": text }),
        // There is nothing to sign: whoever sends it back may have changed it.
        Part::Thought(text) => json!({ "type": "thinking", "thinking": text, "signature": "" }),
    }
}

const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

/// The answer as it grows.
fn send(answers: Answers, id: &str) -> Response {
    let started = message(id, &answers.model, &[], None, counts(answers.prompt_tokens, 0, 0));
    let first = event("message_start", json!({ "message": started })) + PING;
    let mut blocks = Blocks::default();
    stream::events(answers, first, PING, move |heard| match heard {
        Some(Ok(Event { what: What::Piece(piece), .. })) => {
            piece.parts.into_iter().map(|part| blocks.add(part)).collect()
        }
        Some(Ok(Event { what: What::End(end), .. })) => {
            let (reason, sequence) = stopped(&end.reason);
            let delta = json!({ "stop_reason": reason, "stop_sequence": sequence });
            blocks.close() + &event("message_delta", json!({ "delta": delta, "usage": usage(&end.usage) }))
        }
        Some(Err(error)) => event("error", Dialect::Anthropic.error_body(&error)),
        None => event("message_stop", json!({})),
    })
}

/// Content blocks, one open at a time.
#[derive(Default)]
struct Blocks {
    begun: usize,
    open: Option<&'static str>,
}

impl Blocks {
    fn add(&mut self, part: Part) -> String {
        let (kind, empty, delta) = match part {
            Part::Text(text) => {
                let empty = json!({ "type": "text", "text": "" });
                ("text", empty, json!({ "type": "text_delta", "text": text }))
            }
            Part::Thought(text) => {
                let empty = json!({ "type": "thinking", "thinking": "", "signature": "" });
                ("thinking", empty, json!({ "type": "thinking_delta", "thinking": text }))
            }
        };
        let mut events = String::new();
        if self.open != Some(kind) {
            events += &self.close();
            events += &event("content_block_start", json!({ "index": self.begun, "content_block": empty }));
            (self.open, self.begun) = (Some(kind), self.begun + 1);
        }
        events + &event("content_block_delta", json!({ "index": self.begun - 1, "delta": delta }))
    }

    fn close(&mut self) -> String {
        match self.open.take() {
            Some(_) => event("content_block_stop", json!({ "index": self.begun - 1 })),
            None => String::new(),
        }
    }
}

/// One event; its type stands in front of its data.
fn event(kind: &str, data: Value) -> String {
    let mut typed = json!({ "type": kind });
    if let (Some(typed), Value::Object(data)) = (typed.as_object_mut(), data) {
        typed.extend(data);
    }
    format!("event: {kind}\ndata: {typed}\n\n")
}
