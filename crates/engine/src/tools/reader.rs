//! Reading calls out of an answer as it arrives.
//!
//! Whatever the text is, reading it does not fail: what cannot be a call is text. How the text was cut into pieces makes
//! no difference. Text is held back only where it may be the beginning of a call, and white space until it is known
//! whether text or a call follows it.

use std::sync::Arc;

use super::head::{Head, head, whole};
use super::json::{Balance, JsonCall, JsonStep};
use super::opening::Opening;
use super::xml::{XmlCall, XmlStep};
use super::{CLOSE, CallFormat, OPEN, ToolSet};

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolEvent {
    /// More text.
    Text(String),
    /// A call begins. Its arguments and its end follow before anything else.
    CallBegin {
        /// Its number in the answer, from 0.
        index: usize,
        /// Its name for a later answer to it.
        id: String,
        /// The function.
        name: String,
    },
    /// More of its arguments: all pieces together are the text of a JSON object.
    Arguments {
        /// Its number.
        index: usize,
        /// The next piece.
        delta: String,
    },
    /// A call ends.
    CallEnd {
        /// Its number.
        index: usize,
        /// Whether it is whole. One that was cut off by the end of the answer is not, nor are its arguments.
        complete: bool,
    },
}

/// Reads one answer.
#[derive(Debug)]
pub struct ToolReader {
    set: Arc<ToolSet>,
    /// Distinguishes the calls of this answer from those of others.
    seed: String,
    /// Whether tags are told apart from text, see [`tag`](Self::tag).
    tagged: bool,
    opening: Opening,
    mode: Mode,
    /// White space at the end of the text so far.
    space: String,
    /// What may be the beginning of a call.
    held: String,
    /// Whether nothing but white space came before it.
    fresh: bool,
    calls: usize,
    complete: usize,
    events: Vec<ToolEvent>,
}

#[derive(Debug)]
enum Mode {
    Text,
    /// Behind an opening tag.
    Tagged,
    /// In an object that has to be read whole.
    Collect {
        balance: Balance,
        tagged: bool,
    },
    Json(JsonCall),
    Xml {
        tool: usize,
        call: XmlCall,
    },
    /// Behind a call.
    After {
        closed: bool,
    },
}

impl ToolReader {
    /// A reader. `tagged` says that opening tags are given by [`tag`](Self::tag) and not as text; without it, a tag at the
    /// beginning of a line is one. `seed` becomes part of the names of calls.
    pub fn new(set: Arc<ToolSet>, tagged: bool, seed: impl Into<String>) -> Self {
        // Where the answer is either calls or JSON, what looks like a tag is one.
        let tagged = tagged && set.is_free();
        Self {
            opening: Opening::new(&set, tagged),
            set,
            seed: seed.into(),
            tagged,
            mode: Mode::Text,
            space: String::new(),
            held: String::new(),
            fresh: false,
            calls: 0,
            complete: 0,
            events: Vec::new(),
        }
    }

    /// Takes the next piece of the answer; gives what is certain now.
    pub fn push(&mut self, text: &str) -> Vec<ToolEvent> {
        text.chars().for_each(|c| self.take(c));
        std::mem::take(&mut self.events)
    }

    /// Takes an opening tag that the model wrote as a token of its own.
    pub fn tag(&mut self) -> Vec<ToolEvent> {
        match self.mode {
            Mode::Text if self.set.can_call() && self.opening.takes_tag() => {
                self.release();
                self.mode = Mode::Tagged;
            }
            Mode::After { .. } if self.held.trim().is_empty() => {
                self.held.clear();
                self.mode = Mode::Tagged;
            }
            _ => OPEN.chars().for_each(|c| self.take(c)),
        }
        std::mem::take(&mut self.events)
    }

    /// Takes the end of the answer; gives what was held back.
    pub fn finish(&mut self) -> Vec<ToolEvent> {
        match std::mem::replace(&mut self.mode, Mode::Text) {
            Mode::Text => self.release(),
            // A call that ended before its name is known: it has nothing to tell, and is no text.
            Mode::Tagged if self.tagged || !self.set.is_free() => self.held.clear(),
            Mode::Tagged | Mode::Collect { tagged: true, .. } => self.text_again(OPEN),
            Mode::Collect { tagged: false, .. } => self.text_again(""),
            Mode::Json(call) => self.end(call.is_complete()),
            Mode::Xml { .. } => self.end(false),
            Mode::After { .. } => {
                let held = std::mem::take(&mut self.held);
                // A part of a tag is no text, nor is white space behind a call.
                let part = held.trim();
                if !CLOSE.starts_with(part) && !OPEN.starts_with(part) {
                    held.chars().for_each(|c| self.text(c));
                }
            }
        }
        if !self.space.is_empty() {
            let space = std::mem::take(&mut self.space);
            self.write(&space);
        }
        std::mem::take(&mut self.events)
    }

    /// Calls so far, and how many of them are whole.
    pub fn calls(&self) -> (usize, usize) {
        (self.calls, self.complete)
    }

    fn take(&mut self, c: char) {
        match &mut self.mode {
            Mode::Text => self.take_text(c),
            Mode::Tagged => {
                self.held.push(c);
                let found = head(&self.held, &self.set);
                self.begin(found, true);
            }
            Mode::Collect { balance, tagged } => {
                self.held.push(c);
                if balance.push(c) {
                    let tagged = *tagged;
                    self.collected(tagged);
                }
            }
            Mode::Json(call) => match call.push(c) {
                JsonStep::Argument => self.arguments(c.encode_utf8(&mut [0; 4])),
                JsonStep::Nothing => {}
                JsonStep::End { complete } => self.end(complete),
                JsonStep::Ended { complete } => {
                    self.end(complete);
                    self.take(c);
                }
            },
            Mode::Xml { tool, call } => {
                let mut out = String::new();
                let step = call.push(c, &self.set.shapes[*tool], &mut out);
                self.arguments(&out);
                match step {
                    XmlStep::Inside => {}
                    XmlStep::End => self.end(true),
                    XmlStep::Closed => {
                        self.end(true);
                        self.mode = Mode::After { closed: true };
                    }
                }
            }
            Mode::After { closed } => {
                let closed = *closed;
                self.held.push(c);
                self.after(closed);
            }
        }
    }

    // ---- text

    fn take_text(&mut self, c: char) {
        let starts = self.held.is_empty() && self.may_begin(c);
        if starts {
            self.fresh = self.opening.is_fresh();
        }
        self.follow(c);
        if !starts && self.held.is_empty() {
            return self.text(c);
        }
        self.held.push(c);
        if !self.tagged && OPEN.starts_with(self.held.as_str()) {
            if self.held == OPEN {
                self.held.clear();
                self.mode = Mode::Tagged;
            }
            return;
        }
        let found = match head(&self.held, &self.set) {
            // Behind other text, only a whole line is the beginning of a call.
            Head::Xml { .. } if !self.fresh && self.held.ends_with('>') => Head::Maybe,
            Head::Xml { .. } if !self.fresh && !self.held.ends_with('\n') => Head::No,
            found => found,
        };
        self.begin(found, false);
    }

    /// Whether a call without a tag may begin with `c` here.
    fn may_begin(&self, c: char) -> bool {
        let line = self.opening.header().is_empty();
        let open = self.set.can_call() && self.opening.is_open() && line;
        let later = self.opening.is_line_start() && (self.set.format() == CallFormat::Xml || !self.tagged);
        open && match c {
            '<' => self.opening.is_fresh() || later,
            '{' => self.opening.is_fresh() && self.set.is_free(),
            _ => false,
        }
    }

    fn follow(&mut self, c: char) {
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            if self.opening.push(byte) {
                self.opening.decline();
            }
        }
    }

    /// Gives `c` out as text; white space when more text follows it.
    fn text(&mut self, c: char) {
        if c.is_whitespace() {
            return self.space.push(c);
        }
        let mut space = std::mem::take(&mut self.space);
        space.push(c);
        self.write(&space);
    }

    fn write(&mut self, more: &str) {
        match self.events.last_mut() {
            Some(ToolEvent::Text(text)) => text.push_str(more),
            _ => self.events.push(ToolEvent::Text(more.to_owned())),
        }
    }

    /// Gives out as text what was held back.
    fn release(&mut self) {
        std::mem::take(&mut self.held).chars().for_each(|c| self.text(c));
    }

    /// The same for what was not followed as text so far, behind `before`.
    fn text_again(&mut self, before: &str) {
        self.mode = Mode::Text;
        let held = std::mem::take(&mut self.held);
        for c in before.chars().chain(held.chars()) {
            self.follow(c);
            self.text(c);
        }
    }

    // ---- calls

    /// Deals with what the held text is the beginning of, behind a tag or not.
    fn begin(&mut self, found: Head, tagged: bool) {
        match found {
            Head::Maybe => {}
            Head::No if tagged => self.text_again(OPEN),
            Head::No => {
                // The last character may be the first of a call itself.
                let last = self.held.pop();
                self.release();
                let Some(last) = last else { return };
                if last == '<' && self.opening.header() == b"<" && self.may_begin_again() {
                    self.fresh = false;
                    self.held.push(last);
                } else {
                    self.text(last);
                }
            }
            Head::Xml { tool } => {
                self.held.clear();
                self.call(tool);
                self.mode = Mode::Xml { tool, call: XmlCall::new() };
            }
            Head::Json { tool, at } => {
                let held = std::mem::take(&mut self.held);
                self.call(tool);
                self.mode = Mode::Json(JsonCall::new());
                held[at..].chars().for_each(|c| self.take(c));
            }
            Head::Collect => {
                let mut balance = Balance::default();
                let done = self.held.chars().any(|c| balance.push(c));
                self.mode = Mode::Collect { balance, tagged };
                if done {
                    self.collected(tagged);
                }
            }
        }
    }

    fn may_begin_again(&self) -> bool {
        self.opening.is_open() && self.set.format() == CallFormat::Xml
    }

    fn collected(&mut self, tagged: bool) {
        match whole(&self.held, &self.set) {
            Some((tool, arguments)) => {
                self.held.clear();
                self.call(tool);
                self.arguments(&arguments);
                self.end(true);
            }
            None => self.text_again(if tagged { OPEN } else { "" }),
        }
    }

    fn call(&mut self, tool: usize) {
        // White space before a call is the template's.
        self.space.clear();
        let index = self.calls;
        self.calls += 1;
        let id = format!("call_{}_{index}", self.seed);
        let name = self.set.tools[tool].name.clone();
        self.events.push(ToolEvent::CallBegin { index, id, name });
    }

    fn arguments(&mut self, more: &str) {
        if more.is_empty() {
            return;
        }
        match self.events.last_mut() {
            Some(ToolEvent::Arguments { delta, .. }) => delta.push_str(more),
            _ => self.events.push(ToolEvent::Arguments { index: self.calls - 1, delta: more.to_owned() }),
        }
    }

    fn end(&mut self, complete: bool) {
        self.complete += usize::from(complete);
        self.events.push(ToolEvent::CallEnd { index: self.calls - 1, complete });
        self.held.clear();
        self.mode = Mode::After { closed: false };
    }

    /// Deals with the held text behind a call: its closing tag, another call, or text.
    fn after(&mut self, closed: bool) {
        let held = self.held.as_str();
        if held.trim_start().is_empty() {
            return self.held.clear();
        }
        if held == OPEN || (held == CLOSE && !closed) {
            self.mode = if held == OPEN { Mode::Tagged } else { Mode::After { closed: true } };
            return self.held.clear();
        }
        if OPEN.starts_with(held) || (CLOSE.starts_with(held) && !closed) {
            return;
        }
        match head(held, &self.set) {
            Head::No => {
                // The template has no place for text here, but a model may write it.
                self.mode = Mode::Text;
                self.space.clear();
                std::mem::take(&mut self.held).chars().for_each(|c| {
                    self.follow(c);
                    self.text(c);
                });
            }
            found => self.begin(found, false),
        }
    }
}
