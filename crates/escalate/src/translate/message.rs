//! Answers of Anthropic's Messages API (platform.claude.com/docs/en/api/messages) and their streams
//! (…/build-with-claude/streaming), made of OpenAI's chat completions (platform.openai.com/docs/api-reference/chat).

use serde_json::{Value, json};

use super::{Event, count, text};

/// An answer in the making.
#[derive(Debug, Default)]
pub(super) struct Message {
    id: String,
    /// Blocks that have begun.
    begun: u64,
    open: Option<Block>,
    /// Why it ended.
    reason: Option<&'static str>,
    /// Whether it has calls.
    calls: bool,
    usage: Option<Value>,
    started: bool,
    ended: bool,
}

/// The block that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Text,
    Thought,
    /// A call, by its number at the server.
    Call(u64),
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
        for (kind, begin, grow, field, said) in [
            (Block::Thought, "thinking", "thinking_delta", "thinking", thought(delta)),
            (Block::Text, "text", "text_delta", "text", text(delta, "content")),
            (Block::Text, "text", "text_delta", "text", text(delta, "refusal")),
        ] {
            if !said.is_empty() {
                let mut empty = json!({ "type": begin, field: "" });
                if kind == Block::Thought {
                    // Nobody signed it.
                    empty["signature"] = "".into();
                }
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
    fn call(&mut self, at: usize, call: &Value, events: &mut Vec<Event>) -> Result<(), String> {
        let number = call["index"].as_u64().unwrap_or(at as u64);
        let function = &call["function"];
        if self.open != Some(Block::Call(number)) {
            let name = text(function, "name");
            if name.is_empty() {
                return Err(format!(
                    "a piece of call `{number}` comes after another one has begun, or has no name"
                ));
            }
            let id = match text(call, "id") {
                "" => format!("toolu_{}_{number}", self.id),
                id => id.to_owned(),
            };
            self.calls = true;
            self.enter(
                Block::Call(number),
                json!({ "type": "tool_use", "id": id, "name": name, "input": {} }),
                events,
            );
        }
        let arguments = text(function, "arguments");
        if !arguments.is_empty() {
            events.push(self.delta(json!({ "type": "input_json_delta", "partial_json": arguments })));
        }
        Ok(())
    }

    pub(super) fn end(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        if !self.started || std::mem::replace(&mut self.ended, true) {
            return events;
        }
        self.close(&mut events);
        let reason = reason(self.reason.unwrap_or("end_turn"), self.calls);
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
    for words in
        ["content", "refusal"].map(|field| text(said, field)).into_iter().filter(|words| !words.is_empty())
    {
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

/// `prompt_tokens` has those of the cache too.
fn usage(from: &Value) -> Value {
    let (prompt, cached) =
        (count(from, "prompt_tokens"), count(&from["prompt_tokens_details"], "cached_tokens"));
    json!({
        "input_tokens": prompt.saturating_sub(cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached.min(prompt),
        "output_tokens": count(from, "completion_tokens"),
    })
}
