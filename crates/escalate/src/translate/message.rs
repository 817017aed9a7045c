//! Answers of Anthropic's Messages API (platform.claude.com/docs/en/api/messages) and their streams
//! (…/build-with-claude/streaming), made of OpenAI's chat completions (platform.openai.com/docs/api-reference/chat).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Event, count, text};
use crate::Tokens;

/// An answer in the making.
#[derive(Debug, Default)]
pub(super) struct Message {
    id: String,
    /// Blocks that have begun.
    begun: u64,
    open: Option<Block>,
    /// Why it ended.
    reason: Option<&'static str>,
    /// Calls in the order in which they began at the server.
    calls: Vec<Call>,
    /// How many of them the client has heard of; the others wait for the open one to end.
    told: usize,
    /// The newest call of each number.
    newest: BTreeMap<u64, usize>,
    usage: Option<Value>,
    started: bool,
    ended: bool,
}

/// The block that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Text,
    Thought,
    /// A call, by its place among all.
    Call(usize),
}

/// A call, as far as it was heard.
#[derive(Debug)]
struct Call {
    /// As the server has it; may be empty.
    id: String,
    name: String,
    arguments: String,
}

impl Call {
    /// Whether a piece of the same number is of another one: some servers give every call the number 0, or none. With a name
    /// a call begins, but some repeat it in each piece, with the id or without; and some say another id in each, without it.
    fn is_another(&self, id: &str, name: &str) -> bool {
        let has_ids = !id.is_empty() && !self.id.is_empty();
        !name.is_empty() && (name != self.name || if has_ids { id != self.id } else { self.is_whole() })
    }

    /// Whether its arguments have ended: after an object nothing follows.
    fn is_whole(&self) -> bool {
        self.arguments.trim_end().ends_with('}')
            && serde_json::from_str::<Map<String, Value>>(&self.arguments).is_ok()
    }
}

impl Message {
    pub(super) fn event(&mut self, from: &Value) -> Result<Vec<Event>, String> {
        let mut events = Vec::new();
        if from["usage"].is_object() {
            self.usage = Some(usage(&from["usage"]));
        }
        let choice = &from["choices"][0];
        if !choice.is_object() {
            return Ok(events);
        }
        if !std::mem::replace(&mut self.started, true) {
            self.id = text(from, "id").to_owned();
            let usage = self.usage.clone().unwrap_or_else(|| usage(&Value::Null));
            let message = message(&self.id, from, &[], [Value::Null, Value::Null], usage);
            events.push(event("message_start", json!({ "message": message })));
        }
        let delta = &choice["delta"];
        let content = words(&delta["content"]);
        for (kind, begin, grow, field, said) in [
            (Block::Thought, "thinking", "thinking_delta", "thinking", thought(delta)),
            (Block::Text, "text", "text_delta", "text", &*content),
            (Block::Text, "text", "text_delta", "text", text(delta, "refusal")),
        ] {
            if !said.is_empty() {
                let mut empty = json!({ "type": begin, field: "" });
                if kind == Block::Thought {
                    // Nobody signed it.
                    empty["signature"] = "".into();
                }
                self.tell_calls(&mut events);
                self.enter(kind, empty, &mut events);
                events.push(self.delta(json!({ "type": grow, field: said })));
            }
        }
        if !text(delta, "refusal").is_empty() {
            self.reason = Some("refusal");
        }
        for (at, call) in delta["tool_calls"].as_array().into_iter().flatten().enumerate() {
            self.call(at, call, &mut events)?;
        }
        if let (Some(reason), None) = (choice["finish_reason"].as_str(), self.reason) {
            self.reason = Some(stopped(reason));
        }
        Ok(events)
    }

    /// A piece of a call; the first one has its name.
    fn call(&mut self, at: usize, piece: &Value, events: &mut Vec<Event>) -> Result<(), String> {
        let number = piece["index"].as_u64().unwrap_or(at as u64);
        let function = &piece["function"];
        let (id, name, arguments) = (text(piece, "id"), text(function, "name"), text(function, "arguments"));
        let newest = self.newest.get(&number).copied();
        let place = match newest.filter(|place| !self.calls[*place].is_another(id, name)) {
            Some(place) => place,
            None if name.is_empty() => return Err(format!("call `{number}` begins without a name")),
            None => {
                let (id, name) = (id.to_owned(), name.to_owned());
                self.calls.push(Call { id, name, arguments: String::new() });
                self.newest.insert(number, self.calls.len() - 1);
                self.calls.len() - 1
            }
        };
        let is_open = self.open == Some(Block::Call(place));
        if place < self.told && !is_open && !arguments.trim().is_empty() {
            return Err(format!("call `{number}` goes on after its end"));
        }
        self.calls[place].arguments += arguments;
        if is_open && !arguments.is_empty() {
            events.push(self.arguments(arguments));
        }
        // Calls may grow in turns, blocks may not: the next one begins where the open one cannot grow any more.
        let grows = |message: &Self| matches!(message.open, Some(Block::Call(place)) if !message.calls[place].is_whole());
        while self.told < self.calls.len() && !grows(self) {
            self.tell_call(events);
        }
        Ok(())
    }

    /// Tells of the calls that wait, whatever comes: another block, or the end.
    fn tell_calls(&mut self, events: &mut Vec<Event>) {
        while self.told < self.calls.len() {
            self.tell_call(events);
        }
    }

    /// Begins the block of the next call, with what was heard of it.
    fn tell_call(&mut self, events: &mut Vec<Event>) {
        let place = self.told;
        let Some(Call { id, name, arguments }) = self.calls.get(place) else { return };
        let id = if id.is_empty() { format!("toolu_{}_{place}", self.id) } else { id.clone() };
        let block = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
        let arguments = arguments.clone();
        self.told += 1;
        self.enter(Block::Call(place), block, events);
        if !arguments.is_empty() {
            events.push(self.arguments(&arguments));
        }
    }

    fn arguments(&self, json: &str) -> Event {
        self.delta(json!({ "type": "input_json_delta", "partial_json": json }))
    }

    pub(super) fn end(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        if !self.started || std::mem::replace(&mut self.ended, true) {
            return events;
        }
        self.tell_calls(&mut events);
        self.close(&mut events);
        let reason = reason(self.reason.unwrap_or("end_turn"), !self.calls.is_empty());
        let usage = self.usage.take().unwrap_or_else(|| usage(&Value::Null));
        let delta = json!({ "stop_reason": reason, "stop_sequence": null });
        events.push(event("message_delta", json!({ "delta": delta, "usage": usage })));
        events.push(event("message_stop", json!({})));
        events
    }

    /// Begins a block, if it is not the one that grows.
    fn enter(&mut self, block: Block, empty: Value, events: &mut Vec<Event>) {
        if self.open == Some(block) {
            return;
        }
        self.close(events);
        (self.open, self.begun) = (Some(block), self.begun + 1);
        events.push(event("content_block_start", json!({ "index": self.begun - 1, "content_block": empty })));
    }

    fn close(&mut self, events: &mut Vec<Event>) {
        if self.open.take().is_some() {
            events.push(event("content_block_stop", json!({ "index": self.begun.saturating_sub(1) })));
        }
    }

    fn delta(&self, delta: Value) -> Event {
        event("content_block_delta", json!({ "index": self.begun.saturating_sub(1), "delta": delta }))
    }
}

/// The whole answer, or what is wrong with it.
pub(super) fn whole(from: &Value) -> Result<Value, String> {
    let choice = &from["choices"][0];
    let said = &choice["message"];
    let mut content = Vec::new();
    if !thought(said).is_empty() {
        content.push(json!({ "type": "thinking", "thinking": thought(said), "signature": "" }));
    }
    let spoken = [words(&said["content"]), text(said, "refusal").into()];
    for words in spoken.iter().filter(|words| !words.is_empty()) {
        content.push(json!({ "type": "text", "text": words }));
    }
    let calls = said["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (number, call) in calls.iter().enumerate() {
        let function = &call["function"];
        let arguments = match text(function, "arguments").trim() {
            "" => "{}",
            arguments => arguments,
        };
        let input: Value = serde_json::from_str(arguments).unwrap_or_default();
        // A call that was cut at the limit is none.
        if !input.is_object() && choice["finish_reason"] == "length" {
            continue;
        }
        if !input.is_object() {
            return Err(format!("the arguments of call `{number}` are no JSON object"));
        }
        let id = match text(call, "id") {
            "" => format!("toolu_{}_{number}", text(from, "id")),
            id => id.to_owned(),
        };
        content.push(json!({ "type": "tool_use", "id": id, "name": function["name"], "input": input }));
    }
    let ended = match text(said, "refusal") {
        "" => stopped(text(choice, "finish_reason")),
        _ => "refusal",
    };
    let reason = reason(ended, !calls.is_empty());
    Ok(message(text(from, "id"), from, &content, [reason.into(), Value::Null], usage(&from["usage"])))
}

fn message(id: &str, from: &Value, content: &[Value], [reason, sequence]: [Value; 2], usage: Value) -> Value {
    json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": from["model"],
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": usage,
    })
}

/// An event, whose name is its type.
fn event(kind: &'static str, mut data: Value) -> Event {
    data["type"] = kind.into();
    super::event(kind, &data)
}

/// By either of the names that servers have for it.
fn thought(said: &Value) -> &str {
    match text(said, "reasoning_content") {
        "" => text(said, "reasoning"),
        thought => thought,
    }
}

/// `stop_reason` of a `finish_reason`.
fn stopped(reason: &str) -> &'static str {
    match reason {
        "length" => "max_tokens",
        "tool_calls" | "function_call" => "tool_use",
        "content_filter" => "refusal",
        _ => "end_turn",
    }
}

/// Some servers end with `stop` where there are calls.
fn reason(reason: &'static str, calls: bool) -> &'static str {
    if calls && reason == "end_turn" { "tool_use" } else { reason }
}

fn usage(from: &Value) -> Value {
    let Tokens { input, cache_write, cache_read, output } = tokens(from);
    json!({
        "input_tokens": input,
        "cache_creation_input_tokens": cache_write,
        "cache_read_input_tokens": cache_read,
        "output_tokens": output,
    })
}

/// A text, or parts of which those of type `text` count.
pub(crate) fn words(content: &Value) -> Cow<'_, str> {
    match content {
        Value::String(text) => text.into(),
        Value::Array(parts) => {
            let texts = parts.iter().filter(|part| part["type"] == "text");
            texts.map(|part| text(part, "text")).collect::<String>().into()
        }
        _ => "".into(),
    }
}

/// What a server counted. `prompt_tokens` has those of the cache too. What was written to it is told by LiteLLM and
/// OpenRouter only, for vendors that charge it; DeepSeek has a name of its own for what was read.
pub(crate) fn tokens(usage: &Value) -> Tokens {
    let all = count(usage, "prompt_tokens");
    let details = &usage["prompt_tokens_details"];
    let first = |counts: [&Value; 3]| counts.into_iter().find_map(Value::as_u64).unwrap_or(0);
    let cache_read = first([
        &details["cached_tokens"],
        &usage["cache_read_input_tokens"],
        &usage["prompt_cache_hit_tokens"],
    ]);
    let cache_write = first([
        &details["cache_write_tokens"],
        &details["cache_creation_tokens"],
        &usage["cache_creation_input_tokens"],
    ]);
    let cache_read = cache_read.min(all);
    let cache_write = cache_write.min(all - cache_read);
    let output = count(usage, "completion_tokens");
    Tokens { input: all - cache_read - cache_write, cache_write, cache_read, output }
}
