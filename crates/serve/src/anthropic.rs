//! The API of Anthropic: POST /v1/messages and /v1/messages/count_tokens. The query is ignored.
//!
//! Owns the answers and their events; `request` is what clients send, `offer` the tools in it.

mod offer;
mod request;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};

use self::request::{Body, Count};
use crate::answer::{Answers, End, Event, Part, Piece, Reason, What};
use crate::ask::random;
use crate::body::Fields;
use crate::dialect::{Dialect, json_response};
use crate::elsewhere::{Name, answered, here};
use crate::models::Lease;
use crate::stream::typed as event;
use crate::{Result, Server, stream};

/// POST /v1/messages
pub(crate) async fn messages(
    State(server): State<Server>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response> {
    answered(&server, Dialect::Anthropic, &headers, &fields, |named| say(&server, &fields, named)).await
}

/// What a model here answers: `named`, or the one in the request.
async fn say(server: &Server, fields: &Fields, named: Option<String>) -> Result<Response> {
    let body: Body = fields.get()?;
    let (model, streams) = (named.unwrap_or_else(|| body.model.clone()), body.stream.unwrap_or(false));
    let ask = body.into_ask(server)?;
    let begun = Answers::begin(server, Some(&model), ask).await;
    let answers = begun.map_err(|error| error.renamed(&[("stop", "stop_sequences")]))?;
    let id = format!("msg_{:016x}{:08x}", random(), random() as u32);
    if streams { Ok(send(answers, &id)) } else { whole(answers, &id).await }
}

/// POST /v1/messages/count_tokens
pub(crate) async fn count_tokens(
    State(server): State<Server>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response> {
    let named = here(&server, Dialect::Anthropic, &headers, &fields)?;
    let body: Count = fields.get()?;
    let (model, chat) = (named.unwrap_or_else(|| body.model.clone()), body.into_chat()?);
    server
        .with_model(Some(model), move |Lease { engine, .. }| {
            Ok(json_response(&json!({ "input_tokens": chat.prompt(engine)?.len() })))
        })
        .await
}

/// The models, as GET /v1/models lists them.
pub(crate) fn models(known: &[Name]) -> Value {
    let ends = [known.first(), known.last()].map(|known| known.map(|known| known.name.as_str()));
    let data: Vec<Value> = known.iter().map(about).collect();
    json!({ "data": data, "has_more": false, "first_id": ends[0], "last_id": ends[1] })
}

/// One of the models.
pub(crate) fn about(Name { name, .. }: &Name) -> Value {
    json!({ "type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z" })
}

/// Of how many tokens the prompt and the answer are; those that were in the cache are counted apart.
fn usage(End { usage, thought_tokens, .. }: &End) -> Value {
    let input = usage.prompt_tokens - usage.cached_tokens;
    let mut counted = counts(input, usage.cached_tokens, usage.completion_tokens);
    counted["output_tokens_details"] = json!({ "thinking_tokens": thought_tokens });
    counted
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
        Reason::Calls => ("tool_use", None),
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
    let add = |blocks: &mut Vec<Block>, piece: Piece| {
        piece.parts.into_iter().for_each(|part| join(blocks, part));
    };
    let gathered = answers.gather(1, add).await?;
    let (blocks, ends): (Vec<Vec<Block>>, Vec<End>) = gathered.into_iter().unzip();
    let content: Vec<Value> = blocks.into_iter().flatten().filter_map(Block::json).collect();
    let end = ends.first();
    let counted = end.map_or(Value::Null, usage);
    Ok(json_response(&message(id, &answers.model, &content, end, counted)))
}

/// A block of a whole answer.
enum Block {
    Text(String),
    Thought(String),
    Call { id: String, name: String, arguments: String },
}

/// Appends to the last block, or begins another.
fn join(blocks: &mut Vec<Block>, part: Part) {
    match (blocks.last_mut(), part) {
        (Some(Block::Text(all)), Part::Text(more))
        | (Some(Block::Thought(all)), Part::Thought(more))
        | (Some(Block::Call { arguments: all, .. }), Part::Arguments { delta: more, .. }) => *all += &more,
        (_, Part::Text(text)) => blocks.push(Block::Text(text)),
        (_, Part::Thought(text)) => blocks.push(Block::Thought(text)),
        (_, Part::Call { id, name, .. }) => blocks.push(Block::Call { id, name, arguments: String::new() }),
        (_, Part::Arguments { .. } | Part::CallEnd { .. }) => {}
    }
}

impl Block {
    /// Nothing for a call whose arguments were cut off: a part of them is no object.
    fn json(self) -> Option<Value> {
        Some(match self {
            Self::Text(text) => json!({ "type": "text", "text": text }),
            // There is nothing to sign: whoever sends it back may have changed it.
            Self::Thought(text) => json!({ "type": "thinking", "thinking": text, "signature": "" }),
            Self::Call { id, name, arguments } => {
                let input: Value = serde_json::from_str(&arguments).ok()?;
                json!({ "type": "tool_use", "id": id, "name": name, "input": input })
            }
        })
    }
}

pub(crate) const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

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
            blocks.close() + &event("message_delta", json!({ "delta": delta, "usage": usage(&end) }))
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
        match part {
            Part::Text(text) => {
                let begun = self.enter("text", json!({ "type": "text", "text": "" }));
                begun + &self.delta(json!({ "type": "text_delta", "text": text }))
            }
            Part::Thought(text) => {
                let begun =
                    self.enter("thinking", json!({ "type": "thinking", "thinking": "", "signature": "" }));
                begun + &self.delta(json!({ "type": "thinking_delta", "thinking": text }))
            }
            Part::Call { id, name, .. } => {
                let before = self.close();
                before
                    + &self
                        .enter("tool_use", json!({ "type": "tool_use", "id": id, "name": name, "input": {} }))
            }
            Part::Arguments { delta, .. } => {
                self.delta(json!({ "type": "input_json_delta", "partial_json": delta }))
            }
            Part::CallEnd { .. } => self.close(),
        }
    }

    /// Begins a block, if one of its kind is not open.
    fn enter(&mut self, kind: &'static str, empty: Value) -> String {
        if self.open == Some(kind) {
            return String::new();
        }
        let before = self.close();
        (self.open, self.begun) = (Some(kind), self.begun + 1);
        before + &event("content_block_start", json!({ "index": self.begun - 1, "content_block": empty }))
    }

    fn delta(&self, delta: Value) -> String {
        event("content_block_delta", json!({ "index": self.begun.saturating_sub(1), "delta": delta }))
    }

    fn close(&mut self) -> String {
        let Some(kind) = self.open.take() else { return String::new() };
        // There is nothing to sign, and clients send no thought back that has no signature.
        let signed = json!({ "type": "signature_delta", "signature": "" });
        let signed = if kind == "thinking" { self.delta(signed) } else { String::new() };
        signed + &event("content_block_stop", json!({ "index": self.begun - 1 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thought_ends_with_its_signature() {
        let mut blocks = Blocks::default();
        let parts = [Part::Thought("h".into()), Part::Thought("m".into()), Part::Text("so".into())];
        let text: String =
            parts.into_iter().map(|part| blocks.add(part)).collect::<String>() + &blocks.close();
        let data =
            text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        let told: Vec<String> = data
            .map(|event| {
                event["delta"]["type"].as_str().or(event["type"].as_str()).unwrap_or_default().to_owned()
            })
            .collect();
        let thought = ["thinking_delta", "thinking_delta", "signature_delta", "content_block_stop"];
        let said = ["content_block_start", "text_delta", "content_block_stop"];
        assert_eq!(told, [&["content_block_start"], &thought[..], &said[..]].concat());
    }
}
