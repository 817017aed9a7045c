//! A call in the XML format, as it arrives.

use serde_json::Value;

use super::CLOSE;
use super::json::Balance;
use super::shape::Shape;
use super::value::convert;
use crate::grammar::schema::types::Types;

const PARAMETER: &str = "<parameter=";
const END_PARAMETER: &str = "</parameter>";
const END_FUNCTION: &str = "</function>";

/// White space between the end of a value and the next tag; the grammar knows the same bound.
const MOST_SPACE: usize = 16;

/// Longer names of parameters are none.
pub(super) const MOST_NAME: usize = 256;

/// The parameters of a call.
#[derive(Debug)]
pub(super) struct XmlCall {
    state: State,
    /// What may be, or not be, the beginning of a tag.
    held: String,
    given: Vec<String>,
    /// The value so far, where its type is not certain before its end.
    value: String,
    json: Json,
}

/// Whether a value is JSON: no tag in a string of it ends it, but for one on a line of its own, for such a string holds no
/// line break.
#[derive(Debug, Clone)]
enum Json {
    /// Nothing but white space of it was seen; what its types are.
    Maybe(Types),
    Yes(Balance),
    No,
}

impl Json {
    fn push(&mut self, c: char) {
        match self {
            Self::Maybe(types) => {
                let kind = match c {
                    '{' => Types::OBJECT,
                    '[' => Types::ARRAY,
                    ' ' | '\t' | '\r' | '\n' => return,
                    _ => return *self = Self::No,
                };
                *self = if types.has(kind) { Self::Yes(Balance::default()) } else { Self::No };
                self.push(c);
            }
            Self::Yes(balance) => _ = balance.push(c),
            Self::No => {}
        }
    }

    /// Whether what comes next is a part of a string.
    fn is_within_string(&self) -> bool {
        matches!(self, Self::Yes(balance) if !balance.is_outside())
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Between parameters.
    Between,
    /// In the name of one.
    Name,
    /// In a value, nothing of it seen.
    Begin(Kind),
    /// In a value.
    Value(Kind),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// A string, given out as it comes.
    Text,
    /// To be converted at its end.
    Other(Types),
    /// Of a parameter that was given before: not read.
    Again,
}

/// Whether the call goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum XmlStep {
    /// It does.
    Inside,
    /// It has ended with `</function>`.
    End,
    /// It has ended with the closing tag.
    Closed,
}

impl XmlCall {
    pub(super) fn new() -> Self {
        Self {
            state: State::Between,
            held: String::new(),
            given: Vec::new(),
            value: String::new(),
            json: Json::No,
        }
    }

    /// Takes the next character; arguments that are certain now are added to `out`, as JSON.
    pub(super) fn push(&mut self, c: char, shape: &Shape, out: &mut String) -> XmlStep {
        self.held.push(c);
        match self.state {
            State::Between => self.between(out),
            State::Name => {
                self.name(shape, out);
                XmlStep::Inside
            }
            State::Begin(kind) => {
                self.state = State::Value(kind);
                if c == '\n' {
                    self.held.clear();
                }
                self.value(kind, out)
            }
            State::Value(kind) => self.value(kind, out),
        }
    }

    fn between(&mut self, out: &mut String) -> XmlStep {
        let held = self.held.trim_start();
        if held.is_empty() {
            self.held.clear();
            return XmlStep::Inside;
        }
        let step = match held {
            PARAMETER => {
                self.state = State::Name;
                XmlStep::Inside
            }
            END_FUNCTION => self.end(out),
            CLOSE => {
                self.end(out);
                XmlStep::Closed
            }
            _ if [PARAMETER, END_FUNCTION, CLOSE].iter().any(|tag| tag.starts_with(held)) => {
                return XmlStep::Inside;
            }
            // What is no tag here is nothing.
            _ => XmlStep::Inside,
        };
        let again = step == XmlStep::Inside && self.state == State::Between && held.ends_with('<');
        self.held.clear();
        if again {
            self.held.push('<');
        }
        step
    }

    fn end(&self, out: &mut String) -> XmlStep {
        out.push_str(if self.given.is_empty() { "{}" } else { "}" });
        XmlStep::End
    }

    fn name(&mut self, shape: &Shape, out: &mut String) {
        let Some(name) = self.held.strip_suffix('>') else {
            if self.held.len() > MOST_NAME {
                self.held.clear();
                self.state = State::Between;
            }
            return;
        };
        let name = name.trim().to_owned();
        let types = shape.types(&name);
        let kind = match types {
            _ if self.given.contains(&name) => Kind::Again,
            Types::STRING => Kind::Text,
            types => Kind::Other(types),
        };
        if kind != Kind::Again {
            out.push_str(if self.given.is_empty() { "{" } else { ", " });
            out.push_str(&Value::from(name.as_str()).to_string());
            out.push_str(": ");
            self.given.push(name);
        }
        if kind == Kind::Text {
            out.push('"');
        }
        self.held.clear();
        self.json = Json::Maybe(types);
        self.state = State::Begin(kind);
    }

    fn value(&mut self, kind: Kind, out: &mut String) -> XmlStep {
        loop {
            let is_end = !self.json.is_within_string() || self.held.starts_with('\n');
            let last = match ending(&self.held) {
                Ending::Maybe => return XmlStep::Inside,
                Ending::Next if is_end => false,
                Ending::Last if is_end => true,
                Ending::No | Ending::Next | Ending::Last => {
                    let c = self.held.remove(0);
                    self.json.push(c);
                    match kind {
                        Kind::Text => escape(c, out),
                        Kind::Other(_) => self.value.push(c),
                        Kind::Again => {}
                    }
                    continue;
                }
            };
            self.held.clear();
            match kind {
                Kind::Text => out.push('"'),
                Kind::Other(types) => out.push_str(&convert(&std::mem::take(&mut self.value), types)),
                Kind::Again => {}
            }
            self.state = if last { State::Between } else { State::Name };
            return if last { self.end(out) } else { XmlStep::Inside };
        }
    }
}

/// What the held end of a value is.
enum Ending {
    No,
    Maybe,
    /// The end of the value and the beginning of another parameter.
    Next,
    /// The end of the value and of the call.
    Last,
}

fn ending(held: &str) -> Ending {
    let tag = held.strip_prefix('\n').unwrap_or(held);
    let Some(rest) = tag.strip_prefix(END_PARAMETER) else {
        return if END_PARAMETER.starts_with(tag) { Ending::Maybe } else { Ending::No };
    };
    let next = rest.trim_start_matches([' ', '\t', '\r', '\n']);
    match next {
        PARAMETER => Ending::Next,
        END_FUNCTION => Ending::Last,
        _ if rest.len() - next.len() > MOST_SPACE => Ending::No,
        _ if PARAMETER.starts_with(next) || END_FUNCTION.starts_with(next) => Ending::Maybe,
        _ => Ending::No,
    }
}

/// One character within a JSON string.
fn escape(c: char, out: &mut String) {
    let quoted = Value::from(c.to_string()).to_string();
    out.push_str(&quoted[1..quoted.len() - 1]);
}
