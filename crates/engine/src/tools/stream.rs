//! From the engine's events of one answer to text and calls.

use std::sync::Arc;

use super::{OPEN, ToolEvent, ToolReader, ToolSet};
use crate::{Event, Tokenizer};

/// Reads the calls out of the [`Event`]s of one generation.
///
/// ```no_run
/// # fn main() -> coder_engine::Result<()> {
/// # use coder_engine::*;
/// # let engine = Engine::open(&Options::new("model.gguf"))?;
/// # let set = std::sync::Arc::new(ToolSet::new(Vec::new(), CallFormat::Json)?);
/// let request = engine.chat_tools(&[Message::new("user", "Read a.rs.")], &set)?;
/// let mut calls = ToolStream::new(engine.tokenizer(), &set, "0");
/// for event in engine.generate(request)? {
///     for part in calls.read(&event?) { /* text and calls */ }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ToolStream {
    reader: ToolReader,
    tag: Option<u32>,
}

impl ToolStream {
    /// A stream for the answer to a request with `set`. `seed` becomes part of the names of calls.
    pub fn new(tokenizer: &Tokenizer, set: &Arc<ToolSet>, seed: impl Into<String>) -> Self {
        let tag = tokenizer.token_id(OPEN);
        Self { reader: ToolReader::new(set.clone(), tag.is_some(), seed), tag }
    }

    /// What the next event adds.
    pub fn read(&mut self, event: &Event) -> Vec<ToolEvent> {
        match event {
            Event::Prefill { .. } => Vec::new(),
            // The engine gives out a tag whole, behind everything that waited.
            Event::Token(token) => match token.text.strip_suffix(OPEN).filter(|_| Some(token.id) == self.tag)
            {
                Some(before) => {
                    let mut events = self.reader.push(before);
                    events.append(&mut self.reader.tag());
                    events
                }
                None => self.reader.push(&token.text),
            },
            Event::Done(summary) => {
                let mut events = self.reader.push(&summary.text);
                events.append(&mut self.reader.finish());
                events
            }
        }
    }

    /// Calls so far, and how many of them are whole.
    pub fn calls(&self) -> (usize, usize) {
        self.reader.calls()
    }
}
