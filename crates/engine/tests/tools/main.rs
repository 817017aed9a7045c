//! Tools: declarations, the grammar of calls, reading calls, and both together under random weights.

#[path = "../common/mod.rs"]
mod common;
mod declaring;
mod following;
mod loose;
mod opening;
mod random;
mod reading;
mod rendering;
mod schemas;
mod speed;

use std::sync::{Arc, OnceLock};

use coder_engine::{
    CallFormat, Source, SpecialTokens, TextModel, Tokenizer, Tool, ToolEvent, ToolReader, ToolSet,
};
use serde_json::{Value, json};

/// The published Qwen2.5 vocabulary where the test data is there, else the bundled model's.
fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| match common::shared("qwen2.5") {
        Some(folder) => Tokenizer::from_dir(folder).expect("a tokenizer"),
        None => bundled(),
    })
}

/// The bundled model's vocabulary, a small one.
fn bundled() -> Tokenizer {
    TextModel::open(&Source::Path(common::bundled())).expect("the bundled model").tokenizer
}

/// A vocabulary that has no token for the tag.
fn without_tag() -> Option<Tokenizer> {
    let path = common::shared("vectors/models/tiny-qwen2-Q8_0.gguf")?;
    let tokenizer = TextModel::open(&Source::Path(path)).expect("a model").tokenizer;
    assert_eq!(tokenizer.token_id("<tool_call>"), None);
    Some(tokenizer)
}

fn tool(name: &str, parameters: Value) -> Tool {
    Tool::new(name, None, Some(parameters)).expect("a tool")
}

/// Two tools as an agent has them.
fn agent(format: CallFormat) -> Arc<ToolSet> {
    let read = tool(
        "read",
        json!({ "type": "object", "required": ["path"],
                "properties": { "path": { "type": "string" }, "limit": { "type": "integer", "minimum": 0, "maximum": 999 },
                                "whole": { "type": ["boolean", "null"] } } }),
    );
    let write = tool(
        "write_file",
        json!({ "type": "object", "required": ["path", "content"],
                "properties": { "path": { "type": "string" }, "content": { "type": "string" },
                                "lines": { "type": "array", "items": { "type": "integer" } } } }),
    );
    Arc::new(ToolSet::new(vec![read, write], format).expect("tools"))
}

/// A call as it was read.
#[derive(Debug, Clone, PartialEq)]
struct Call {
    name: String,
    arguments: String,
    complete: bool,
}

/// What was read out of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
struct Answer {
    text: String,
    calls: Vec<Call>,
}

impl Answer {
    /// Takes events, each in an order in which it may come.
    fn take(&mut self, events: Vec<ToolEvent>) {
        for event in events {
            match event {
                ToolEvent::Text(text) => {
                    assert!(!text.is_empty());
                    self.text.push_str(&text);
                }
                ToolEvent::CallBegin { index, id, name } => {
                    assert_eq!((index, id), (self.calls.len(), format!("call_s_{index}")));
                    self.calls.push(Call { name, arguments: String::new(), complete: false });
                }
                ToolEvent::Arguments { index, delta } => {
                    assert!(index + 1 == self.calls.len() && !delta.is_empty());
                    self.calls[index].arguments.push_str(&delta);
                }
                ToolEvent::CallEnd { index, complete } => {
                    assert_eq!(index + 1, self.calls.len());
                    self.calls[index].complete = complete;
                }
            }
        }
    }

    /// The only call, whole, with arguments that are JSON.
    fn only(&self) -> (&str, Value) {
        assert_eq!(self.calls.len(), 1, "{self:?}");
        let call = &self.calls[0];
        assert!(call.complete, "{self:?}");
        (&call.name, serde_json::from_str(&call.arguments).expect("arguments are JSON"))
    }
}

/// Reads `text`, in which `␛` stands for an opening tag as a token, cut after each of `cuts` characters.
fn read_in_pieces(set: &Arc<ToolSet>, text: &str, mut cut: impl FnMut() -> usize) -> Answer {
    let mut reader = ToolReader::new(set.clone(), true, "s");
    let mut answer = Answer::default();
    for (i, part) in text.split('␛').enumerate() {
        if i > 0 {
            answer.take(reader.tag());
        }
        let chars: Vec<char> = part.chars().collect();
        let mut rest = chars.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cut().clamp(1, rest.len()));
            answer.take(reader.push(&piece.iter().collect::<String>()));
            rest = after;
        }
    }
    answer.take(reader.finish());
    assert_eq!(
        reader.calls(),
        (answer.calls.len(), answer.calls.iter().filter(|call| call.complete).count())
    );
    answer
}

fn read(set: &Arc<ToolSet>, text: &str) -> Answer {
    let whole = read_in_pieces(set, text, || usize::MAX);
    assert_eq!(whole, read_in_pieces(set, text, || 1), "{text:?}");
    whole
}

/// The tokens of `text`, in which `␛` stands for an opening tag as a token and other tags are spelt out.
fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut tokens = Vec::new();
    for (i, part) in text.split('␛').enumerate() {
        if i > 0 {
            tokens.push(tokenizer.token_id("<tool_call>").expect("a token for the tag"));
        }
        tokens.extend(tokenizer.encode(part, SpecialTokens::Plain).expect("tokens"));
    }
    tokens
}

/// Whether the vocabulary has the tag, so that tests of it cover it.
fn has_tag() -> bool {
    tokenizer().token_id("<tool_call>").is_some()
}
