//! The response: items one after the other, and the events that tell of them while they grow.
//!
//! A stream and a whole response are written by the same code, so the last event of a stream holds what the response would
//! have been.

use axum::response::Response;
use coder_engine::SamplerOptions;
use serde_json::{Map, Value, json};

use super::items::kept;
use super::tools::Names;
use crate::answer::{Answers, End, Event, Part, Reason, What};
use crate::ask::random;
use crate::dialect::json_response;
use crate::openai::{Head, PING};
use crate::{Error, Result, stream};

/// A response as it grows.
pub(super) struct Growing {
    /// What it says of itself and of the request.
    about: Map<String, Value>,
    names: Names,
    /// Whether clients are to send thoughts back.
    keeps_thoughts: bool,
    /// The items that are complete.
    output: Vec<Value>,
    open: Option<Open>,
    /// Events so far.
    sequence: u64,
    end: Option<End>,
}

/// The item that grows.
struct Open {
    kind: Kind,
    id: String,
    text: String,
}

enum Kind {
    Reasoning,
    Message,
    Call { id: String, name: String },
}

/// What a response repeats of its request.
pub(super) fn echo(request: &Map<String, Value>, sampler: &SamplerOptions) -> Map<String, Value> {
    let given = |name: &str, default: Value| {
        (name.to_owned(), request.get(name).filter(|value| !value.is_null()).cloned().unwrap_or(default))
    };
    let mut echo = Map::from_iter([
        given("instructions", Value::Null),
        given("max_output_tokens", Value::Null),
        given("metadata", json!({})),
        given("parallel_tool_calls", json!(true)),
        given("reasoning", json!({ "effort": null, "summary": null })),
        given("text", json!({ "format": { "type": "text" } })),
        given("tool_choice", json!("auto")),
        given("tools", json!([])),
    ]);
    // Of single precision, as few digits as tell it apart from others.
    let number = |value: f32| value.to_string().parse::<f64>().map_or(Value::Null, Value::from);
    echo.insert("temperature".to_owned(), number(sampler.temperature));
    echo.insert("top_p".to_owned(), number(sampler.top_p));
    echo.insert("truncation".to_owned(), json!("disabled"));
    // Whatever was asked for.
    echo.insert("store".to_owned(), json!(false));
    echo.insert("previous_response_id".to_owned(), Value::Null);
    echo
}

impl Growing {
    pub(super) fn new(model: &str, echo: Map<String, Value>, names: Names, keeps_thoughts: bool) -> Self {
        let head = Head::new("resp", model);
        let mut about = Map::from_iter([
            ("id".to_owned(), json!(head.id.replacen('-', "_", 1))),
            ("object".to_owned(), json!("response")),
            ("created_at".to_owned(), json!(head.created)),
            ("model".to_owned(), json!(model)),
        ]);
        about.extend(echo);
        Self { about, names, keeps_thoughts, output: Vec::new(), open: None, sequence: 0, end: None }
    }

    /// The whole response at once.
    pub(super) async fn whole(mut self, mut answers: Answers) -> Result<Response> {
        while let Some(event) = answers.next().await {
            match event?.what {
                What::Piece(piece) => piece.parts.into_iter().for_each(|part| drop(self.add(part))),
                What::End(end) => self.end = Some(end),
            }
        }
        let status = self.status();
        self.close(status == "completed");
        Ok(json_response(&self.response(status, None)))
    }

    /// The response as it grows.
    pub(super) fn send(mut self, answers: Answers) -> Response {
        let begun = self.response("in_progress", None);
        let first = self.event("response.created", json!({ "response": begun }))
            + &self.event("response.in_progress", json!({ "response": begun }));
        stream::events(answers, first, PING, move |heard| match heard {
            Some(Ok(Event { what: What::Piece(piece), .. })) => {
                piece.parts.into_iter().map(|part| self.add(part)).collect()
            }
            Some(Ok(Event { what: What::End(end), .. })) => {
                self.end = Some(end);
                String::new()
            }
            Some(Err(error)) => self.finish("failed", Some(&error)),
            None => {
                let status = self.status();
                self.finish(status, None)
            }
        })
    }

    fn finish(&mut self, status: &str, error: Option<&Error>) -> String {
        let closed = self.close(status == "completed");
        let response = self.response(status, error);
        closed + &self.event(&format!("response.{status}"), json!({ "response": response }))
    }

    fn status(&self) -> &'static str {
        match self.end.as_ref().map(|end| &end.reason) {
            Some(Reason::Length | Reason::Context) => "incomplete",
            Some(Reason::Stop | Reason::Calls | Reason::StopString(_)) => "completed",
            None => "failed",
        }
    }

    fn response(&self, status: &str, error: Option<&Error>) -> Value {
        let mut response = self.about.clone();
        response.insert("status".to_owned(), json!(status));
        response.insert("output".to_owned(), json!(self.output));
        let failed = (status == "failed").then(|| {
            let message = error.map_or_else(|| "the answer broke off".to_owned(), ToString::to_string);
            json!({ "code": "server_error", "message": message })
        });
        response.insert("error".to_owned(), json!(failed));
        let cut = (status == "incomplete").then(|| json!({ "reason": "max_output_tokens" }));
        response.insert("incomplete_details".to_owned(), json!(cut));
        response.insert("usage".to_owned(), self.end.as_ref().map_or(Value::Null, usage));
        response.into()
    }

    fn event(&mut self, kind: &str, mut data: Value) -> String {
        data["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        stream::typed(kind, data)
    }

    /// An event about the item that grows, or about its only part.
    fn about_open(&mut self, id: &str, kind: &str, data: Value) -> String {
        let mut of = json!({ "item_id": id, "output_index": self.output.len() });
        if !kind.starts_with("response.function_call") {
            of["content_index"] = 0.into();
        }
        if let (Some(of), Value::Object(data)) = (of.as_object_mut(), data) {
            of.extend(data);
        }
        self.event(kind, of)
    }

    fn add(&mut self, part: Part) -> String {
        match part {
            Part::Text(text) => self.grow(Kind::Message, text),
            Part::Thought(text) => self.grow(Kind::Reasoning, text),
            Part::Call { id, name, .. } => self.close(true) + &self.begin(Kind::Call { id, name }),
            Part::Arguments { delta, .. } => self.delta(delta),
            Part::CallEnd { complete } => self.close(complete),
        }
    }

    /// More of an item of this kind, which begins if none is open.
    fn grow(&mut self, kind: Kind, text: String) -> String {
        let is_open = self.open.as_ref().is_some_and(|open| open.kind.prefix() == kind.prefix());
        let begun = if is_open { String::new() } else { self.close(true) + &self.begin(kind) };
        begun + &self.delta(text)
    }

    fn begin(&mut self, kind: Kind) -> String {
        let id = format!("{}_{:016x}{:08x}", kind.prefix(), random(), random() as u32);
        let open = Open { kind, id, text: String::new() };
        let mut item = open.item(&self.names, "in_progress");
        if item.get("content").is_some() {
            item["content"] = json!([]);
        }
        let added = json!({ "output_index": self.output.len(), "item": item });
        let mut text = self.event("response.output_item.added", added);
        if let Some(part) = open.part() {
            text += &self.about_open(&open.id, "response.content_part.added", json!({ "part": part }));
        }
        self.open = Some(open);
        text
    }

    fn delta(&mut self, delta: String) -> String {
        let Some(mut open) = self.open.take() else { return String::new() };
        open.text += &delta;
        let mut data = json!({ "delta": delta });
        if matches!(open.kind, Kind::Message) {
            data["logprobs"] = json!([]);
        }
        let text = self.about_open(&open.id, &format!("response.{}.delta", open.kind.name()), data);
        self.open = Some(open);
        text
    }

    /// Ends the item that grows; `complete` is false where the answer was cut within it.
    fn close(&mut self, complete: bool) -> String {
        let Some(open) = self.open.take() else { return String::new() };
        let mut item = open.item(&self.names, if complete { "completed" } else { "incomplete" });
        if self.keeps_thoughts && matches!(open.kind, Kind::Reasoning) {
            item["encrypted_content"] = kept(&open.text).into();
        }
        let data = match &open.kind {
            Kind::Message => json!({ "text": open.text, "logprobs": [] }),
            Kind::Reasoning => json!({ "text": open.text }),
            Kind::Call { .. } => json!({ "name": item["name"], "arguments": open.text }),
        };
        let mut text = self.about_open(&open.id, &format!("response.{}.done", open.kind.name()), data);
        if let Some(part) = open.part() {
            text += &self.about_open(&open.id, "response.content_part.done", json!({ "part": part }));
        }
        let done = json!({ "output_index": self.output.len(), "item": item });
        text += &self.event("response.output_item.done", done);
        self.output.push(item);
        text
    }
}

impl Kind {
    /// What ids of its items begin with.
    fn prefix(&self) -> &'static str {
        match self {
            Self::Reasoning => "rs",
            Self::Message => "msg",
            Self::Call { .. } => "fc",
        }
    }

    /// What grows, in the names of events.
    fn name(&self) -> &'static str {
        match self {
            Self::Reasoning => "reasoning_text",
            Self::Message => "output_text",
            Self::Call { .. } => "function_call_arguments",
        }
    }
}

impl Open {
    fn item(&self, names: &Names, status: &str) -> Value {
        let Self { kind, id, text } = self;
        let content: Vec<Value> = self.part().into_iter().collect();
        match kind {
            Kind::Reasoning => {
                json!({ "id": id, "type": "reasoning", "summary": [], "content": content, "status": status })
            }
            Kind::Message => json!({
                "id": id, "type": "message", "role": "assistant", "content": content, "status": status
            }),
            Kind::Call { id: call_id, name } => {
                let mut item = json!({
                    "id": id, "type": "function_call", "call_id": call_id, "name": name, "arguments": text,
                    "status": status
                });
                if let Some((namespace, name)) = names.get(name) {
                    item["namespace"] = json!(namespace);
                    item["name"] = json!(name);
                }
                item
            }
        }
    }

    /// The part of the item's content; none in a call.
    fn part(&self) -> Option<Value> {
        match &self.kind {
            Kind::Reasoning => Some(json!({ "type": "reasoning_text", "text": self.text })),
            Kind::Message => {
                Some(json!({ "type": "output_text", "text": self.text, "annotations": [], "logprobs": [] }))
            }
            Kind::Call { .. } => None,
        }
    }
}

fn usage(end: &End) -> Value {
    let End { usage, thought_tokens, .. } = end;
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": { "cached_tokens": usage.cached_tokens },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": { "reasoning_tokens": thought_tokens },
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(events: &str) -> Vec<&str> {
        events.lines().filter_map(|line| line.strip_prefix("event: response.")).collect()
    }

    #[test]
    fn thoughts_texts_and_calls_are_items() {
        let names = Names::from([("n.f".to_owned(), ("n".to_owned(), "f".to_owned()))]);
        let mut growing = Growing::new("m", Map::new(), names, true);
        let text = growing.add(Part::Thought("h".into())) + &growing.add(Part::Thought("m".into()));
        let begin = ["output_item.added", "content_part.added"];
        assert_eq!(kinds(&text), [&begin[..], &["reasoning_text.delta"; 2]].concat());
        let text = growing.add(Part::Text("so".into()));
        let end = ["content_part.done", "output_item.done"];
        let order = [&["reasoning_text.done"], &end[..], &begin[..], &["output_text.delta"]].concat();
        assert_eq!(kinds(&text), order);
        let text = growing.add(Part::Call { index: 0, id: "c".into(), name: "n.f".into() })
            + &growing.add(Part::Arguments { index: 0, delta: "{}".into() })
            + &growing.add(Part::CallEnd { complete: true });
        let call = ["function_call_arguments.delta", "function_call_arguments.done", "output_item.done"];
        assert_eq!(kinds(&text), [&["output_text.done"], &end[..], &begin[..1], &call[..]].concat());
        let text = growing.finish("failed", Some(&Error::Ending));
        assert_eq!(kinds(&text), ["failed"]);
        let response = growing.response("failed", Some(&Error::Ending));
        assert_eq!(response["error"]["code"], "server_error");
        let output = &response["output"];
        assert_eq!(output[0]["content"][0], json!({ "type": "reasoning_text", "text": "hm" }));
        assert_eq!(output[0]["encrypted_content"], "thought:hm");
        assert_eq!(output[1]["content"][0]["text"], "so");
        assert_eq!((&output[2]["namespace"], &output[2]["name"]), (&json!("n"), &json!("f")));
    }
}
