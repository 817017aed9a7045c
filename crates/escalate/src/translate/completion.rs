//! Answers of OpenAI's chat completions (platform.openai.com/docs/api-reference/chat), made of Anthropic's messages
//! (platform.claude.com/docs/en/api/messages) and their streams (…/build-with-claude/streaming).

use serde_json::{Value, json};

use super::{Event, count, event, text};

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Completion {
    created: u64,
    /// Whether the client hears of tokens at the end of a stream.
    counts: bool,
    id: String,
    model: String,
    usage: Usage,
    /// Calls so far.
    calls: usize,
    /// Whether the last block is a call of which no argument was heard yet.
    bare: bool,
    /// Whether the client has heard the end.
    ended: bool,
}

/// Tokens as Anthropic counts them: what was read from the cache, and what was written to it, apart.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    input: u64,
    cache_write: u64,
    cache_read: u64,
    output: u64,
}

impl Usage {
    /// Takes in what is told; a stream tells some at its beginning and the rest at its end.
    fn add(&mut self, usage: &Value) {
        for (field, tokens) in [
            ("input_tokens", &mut self.input),
            ("cache_creation_input_tokens", &mut self.cache_write),
            ("cache_read_input_tokens", &mut self.cache_read),
            ("output_tokens", &mut self.output),
        ] {
            if usage[field].is_u64() {
                *tokens = count(usage, field);
            }
        }
    }

    fn json(self) -> Value {
        let prompt = self.input.saturating_add(self.cache_write).saturating_add(self.cache_read);
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": self.output,
            "total_tokens": prompt.saturating_add(self.output),
            "prompt_tokens_details": { "cached_tokens": self.cache_read },
        })
    }
}

impl Completion {
    pub(super) fn new(created: u64, counts: bool) -> Completion {
        let (id, model, usage) = (String::new(), String::new(), Usage::default());
        Completion { created, counts, id, model, usage, calls: 0, bare: false, ended: false }
    }

    pub(super) fn event(&mut self, from: &Value) -> Vec<Event> {
        match text(from, "type") {
            "message_start" => {
                let message = &from["message"];
                (self.id, self.model) = (text(message, "id").to_owned(), text(message, "model").to_owned());
                self.usage.add(&message["usage"]);
                vec![self.delta(json!({ "role": "assistant", "content": "" }))]
            }
            "content_block_start" => self.begin(&from["content_block"]).into_iter().collect(),
            "content_block_delta" => self.grow(&from["delta"]).into_iter().collect(),
            "content_block_stop" => self.close().into_iter().collect(),
            "message_delta" => {
                self.usage.add(&from["usage"]);
                let Some(reason) = from["delta"]["stop_reason"].as_str() else { return Vec::new() };
                let closed = self.close();
                let choice =
                    json!({ "index": 0, "delta": {}, "logprobs": null, "finish_reason": finish(reason) });
                closed.into_iter().chain([self.chunk(json!([choice]), None)]).collect()
            }
            "message_stop" => self.end(),
            _ => Vec::new(),
        }
    }

    pub(super) fn end(&mut self) -> Vec<Event> {
        if std::mem::replace(&mut self.ended, true) {
            return Vec::new();
        }
        let count = self.counts.then(|| self.chunk(json!([]), Some(self.usage.json())));
        count.into_iter().chain([Event { name: "", data: "[DONE]".to_owned() }]).collect()
    }

    pub(super) fn whole(&self, from: &Value) -> Value {
        let (mut said, mut thought, mut calls) = (String::new(), String::new(), Vec::new());
        for block in from["content"].as_array().into_iter().flatten() {
            match text(block, "type") {
                "text" => said += text(block, "text"),
                "thinking" => thought += text(block, "thinking"),
                "tool_use" => calls.push(json!({
                    "id": block["id"],
                    "type": "function",
                    "function": { "name": block["name"], "arguments": block["input"].to_string() },
                })),
                _ => {}
            }
        }
        let content = if said.is_empty() && !calls.is_empty() { Value::Null } else { said.into() };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if !thought.is_empty() {
            message["reasoning_content"] = thought.into();
        }
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        let mut usage = Usage::default();
        usage.add(&from["usage"]);
        let reason = finish(text(from, "stop_reason"));
        json!({
            "id": from["id"],
            "object": "chat.completion",
            "created": self.created,
            "model": from["model"],
            "choices": [{ "index": 0, "message": message, "logprobs": null, "finish_reason": reason }],
            "usage": usage.json(),
        })
    }

    fn begin(&mut self, block: &Value) -> Option<Event> {
        match text(block, "type") {
            "tool_use" => {
                let index = self.calls;
                self.calls += 1;
                // Arguments that are there at once come in no delta.
                let input = block["input"].as_object().filter(|input| !input.is_empty());
                self.bare = input.is_none();
                let arguments = input.map_or_else(String::new, |_| block["input"].to_string());
                let function = json!({ "name": block["name"], "arguments": arguments });
                let call =
                    json!({ "index": index, "id": block["id"], "type": "function", "function": function });
                Some(self.delta(json!({ "tool_calls": [call] })))
            }
            _ => self.grow(block),
        }
    }

    /// A piece of a block, or what one begins with: both call it the same.
    fn grow(&mut self, piece: &Value) -> Option<Event> {
        let said = |field: &str| piece[field].as_str().filter(|text| !text.is_empty());
        match text(piece, "type") {
            "text" | "text_delta" => said("text").map(|text| self.delta(json!({ "content": text }))),
            "thinking" | "thinking_delta" => {
                said("thinking").map(|text| self.delta(json!({ "reasoning_content": text })))
            }
            "input_json_delta" => {
                let json = said("partial_json")?;
                self.bare = false;
                Some(self.arguments(json))
            }
            _ => None,
        }
    }

    /// A call without arguments has an empty object of them.
    fn close(&mut self) -> Option<Event> {
        std::mem::take(&mut self.bare).then(|| self.arguments("{}"))
    }

    fn arguments(&self, json: &str) -> Event {
        let index = self.calls.saturating_sub(1);
        self.delta(json!({ "tool_calls": [{ "index": index, "function": { "arguments": json } }] }))
    }

    fn delta(&self, delta: Value) -> Event {
        let choice = json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": null });
        self.chunk(json!([choice]), None)
    }

    fn chunk(&self, choices: Value, usage: Option<Value>) -> Event {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if self.counts {
            chunk["usage"] = usage.into();
        }
        event("", &chunk)
    }
}

/// `finish_reason` of a `stop_reason` (platform.claude.com/docs/en/build-with-claude/handling-stop-reasons).
fn finish(reason: &str) -> &'static str {
    match reason {
        "tool_use" => "tool_calls",
        "max_tokens" | "model_context_window_exceeded" => "length",
        "refusal" => "content_filter",
        _ => "stop",
    }
}
