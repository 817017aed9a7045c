//! What is said in one dialect, in the other: a client's request on its way out, the answer on its way back.
//!
//! Pure: values in, values out. Nothing is dropped in silence. A field of a request has a counterpart, or is an error that
//! names it, or is noted: a hint on which no answer depends, such as a mark for a cache. Requests are read field by field
//! out of their objects, so what nobody has read is still there at the end.
//!
//! `messages` makes requests of Anthropic's Messages API and `chat` those of OpenAI's chat completions; `completion` and
//! `message` make the answers of the two.

mod chat;
mod completion;
mod message;
mod messages;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use self::completion::Completion;
use self::message::Message;
#[cfg(feature = "network")]
pub(crate) use self::message::{tokens, words};
use crate::{Dialect, Error, Result};

/// What was left out of a request, by the names of its kinds.
pub(crate) type Notes = BTreeSet<&'static str>;

/// A request of the other dialect in `to`, and what was left out.
///
/// # Errors
/// [`Error::NoCounterpart`] naming a field that cannot be said in it, [`Error::BadAsk`] for one that is none.
pub(crate) fn request(to: Dialect, body: Map<String, Value>) -> Result<(Map<String, Value>, Notes)> {
    let mut notes = Notes::new();
    let body = Part { at: String::new(), to, map: body };
    let request = match to {
        Dialect::Anthropic => messages::request(body, &mut notes)?,
        Dialect::Openai => chat::request(body, &mut notes)?,
    };
    Ok((request, notes))
}

/// An event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its kind; "" in a dialect that names none.
    pub name: &'static str,
    /// What it carries.
    pub data: String,
}

/// An answer on its way to a client that speaks the other dialect than its server.
#[derive(Debug)]
pub struct Translation {
    made: Made,
    /// Whether it comes as a stream.
    streams: bool,
}

#[derive(Debug)]
enum Made {
    Completion(Completion),
    Message(Message),
}

impl Translation {
    /// Into the dialect `to`. `created` is the time in seconds since 1970, and `counts` says whether the client asked for
    /// the count of tokens at the end of a stream; both are OpenAI's alone.
    pub fn new(to: Dialect, created: u64, counts: bool) -> Translation {
        let made = match to {
            Dialect::Openai => Made::Completion(Completion::new(created, counts)),
            Dialect::Anthropic => Made::Message(Message::default()),
        };
        Translation { made, streams: false }
    }

    /// What an event of the server's stream is for the client.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn event(&mut self, data: &str) -> Result<Vec<Event>, String> {
        // The end of a stream in OpenAI's dialect is no JSON.
        let Ok(value) = serde_json::from_str(data) else { return Ok(Vec::new()) };
        self.streams = true;
        match &mut self.made {
            Made::Completion(completion) => Ok(completion.event(&value)),
            Made::Message(message) => message.event(&value),
        }
    }

    /// What follows the server's last event; nothing where there was none.
    pub fn end(&mut self) -> Vec<Event> {
        match &mut self.made {
            _ if !self.streams => Vec::new(),
            Made::Completion(completion) => completion.end(),
            Made::Message(message) => message.end(),
        }
    }

    /// The whole answer.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn whole(&self, json: &str) -> Result<String, String> {
        let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        match &self.made {
            Made::Completion(completion) => Ok(completion.whole(&value).to_string()),
            Made::Message(_) => message::whole(&value).map(|message| message.to_string()),
        }
    }
}

/// An object of a request, of which fields are taken out one by one.
struct Part {
    /// Where it is, such as `messages[0]`; "" for the whole request.
    at: String,
    /// The dialect that it is to be said in.
    to: Dialect,
    map: Map<String, Value>,
}

impl Part {
    fn of(value: Value, at: String, to: Dialect) -> Result<Part> {
        match value {
            Value::Object(map) => Ok(Part { at, to, map }),
            _ => Err(wrong(&at, "must be an object")),
        }
    }

    /// The name of one of its fields.
    fn name(&self, field: &str) -> String {
        if self.at.is_empty() { field.to_owned() } else { format!("{}.{field}", self.at) }
    }

    /// A field that says something.
    fn take(&mut self, field: &str) -> Option<Value> {
        self.map.remove(field).filter(|value| !value.is_null())
    }

    fn text(&mut self, field: &str) -> Result<Option<String>> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(&self.name(field), "must be a text")),
        }
    }

    fn needed(&mut self, field: &str) -> Result<String> {
        let text = self.text(field)?;
        text.ok_or_else(|| wrong(&self.name(field), "is missing"))
    }

    fn flag(&mut self, field: &str) -> Result<Option<bool>> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(wrong(&self.name(field), "must be `true` or `false`")),
        }
    }

    /// An object in it.
    fn part(&mut self, field: &str) -> Result<Option<Part>> {
        let at = self.name(field);
        self.take(field).map(|value| Part::of(value, at, self.to)).transpose()
    }

    /// The objects of a list in it.
    fn parts(&mut self, field: &str) -> Result<Vec<Part>> {
        let at = self.name(field);
        match self.take(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => parts(list, &at, self.to),
            Some(_) => Err(wrong(&at, "must be a list")),
        }
    }

    /// Leaves a hint out.
    fn note(&mut self, field: &'static str, notes: &mut Notes) {
        if self.take(field).is_some() {
            notes.insert(field);
        }
    }

    /// Leaves out a field that says what holds anyway.
    fn usual(&mut self, field: &str, is_usual: impl Fn(&Value) -> bool) -> Result<()> {
        match self.take(field) {
            Some(value) if !is_usual(&value) => Err(self.none(&self.name(field), "leave it out")),
            _ => Ok(()),
        }
    }

    /// There is no way to say `field` in the other dialect.
    fn none(&self, field: &str, remedy: &str) -> Error {
        let dialect = match self.to {
            Dialect::Anthropic => "Anthropic's",
            Dialect::Openai => "OpenAI's",
        };
        Error::NoCounterpart { field: short(field), dialect, remedy: remedy.to_owned() }
    }

    /// The same for what it is as a whole: a part, a tool of this type.
    fn unknown(&self, kind: &str, remedy: &str) -> Error {
        self.none(&format!("{}` of type `{}", self.at, short(kind)), remedy)
    }

    /// There is nothing more in it that says something.
    fn end(self) -> Result<()> {
        let says = |value: &Value| match value {
            Value::Null => false,
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        };
        match self.map.iter().find(|(_, value)| says(value)) {
            Some((field, _)) => Err(self.none(&self.name(field), "leave it out")),
            None => Ok(()),
        }
    }
}

fn parts(list: Vec<Value>, at: &str, to: Dialect) -> Result<Vec<Part>> {
    list.into_iter().enumerate().map(|(i, value)| Part::of(value, format!("{at}[{i}]"), to)).collect()
}

fn wrong(field: &str, problem: &str) -> Error {
    Error::BadAsk { problem: format!("`{}` {problem}", short(field)) }
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The kind of data and the data of a `data:` address.
fn inline(url: &str) -> Option<(&str, &str)> {
    url.strip_prefix("data:")?.split_once(";base64,")
}

fn event(name: &'static str, data: &Value) -> Event {
    Event { name, data: data.to_string() }
}

/// The text of a field; "" where there is none.
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn count(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or(0)
}

#[cfg(test)]
mod tests;
