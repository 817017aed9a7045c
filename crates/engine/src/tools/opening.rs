//! Where a call opens in free text.
//!
//! Shared by the grammar, which holds the model to the form of a call from there on, and the reader, so that both agree.

use std::sync::Arc;

use super::{CallFormat, OPEN, ToolSet};

/// Follows free text byte by byte.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    headers: Arc<Headers>,
    /// Whether only white space was written, in the answer or since its thoughts.
    fresh: bool,
    /// Whether the model thinks: nothing opens a call before `</think>`.
    thinking: bool,
    /// Whether the text is within a fenced block of code.
    fence: bool,
    /// Whether the last line with anything in it is an opening tag in words: what follows is quoted.
    quoted: bool,
    /// The line so far, if it is short enough to be a header.
    line: Vec<u8>,
    last: u8,
}

/// Texts at the beginning of a line that open a call.
#[derive(Debug)]
struct Headers {
    /// Where nothing else was written.
    first: Vec<String>,
    /// Anywhere, whole lines.
    later: Vec<String>,
}

/// Longer lines are no headers.
const MOST_LINE: usize = 512;

impl Opening {
    /// `tagged` says whether the vocabulary has a token for the tag; without one, a line of the tag opens a call.
    pub(super) fn new(set: &ToolSet, tagged: bool) -> Self {
        let names = || set.callable().map(|(_, tool)| &tool.name);
        let mut headers = match set.format() {
            CallFormat::Json => Headers {
                first: names().map(|name| format!("{{\"name\": \"{name}\", \"arguments\": ")).collect(),
                later: Vec::new(),
            },
            CallFormat::Xml => Headers {
                first: vec!["<function=".to_owned()],
                later: names().map(|name| format!("<function={name}>\n")).collect(),
            },
        };
        if !tagged {
            headers.later.push(format!("{OPEN}\n"));
        }
        Self {
            headers: Arc::new(headers),
            fresh: true,
            thinking: set.thinking,
            fence: false,
            quoted: false,
            line: Vec::new(),
            last: b'\n',
        }
    }

    /// Takes the next byte; whether a header is complete with it.
    pub(super) fn push(&mut self, byte: u8) -> bool {
        self.last = byte;
        if self.line.len() < MOST_LINE {
            self.line.push(byte);
        }
        if self.thinking {
            // A line may be long; only its end matters.
            if self.line.len() == MOST_LINE {
                self.line.drain(..MOST_LINE / 2);
            }
            if self.line.ends_with(b"</think>") {
                (self.thinking, self.fresh) = (false, true);
                self.line.clear();
            }
            return false;
        }
        if self.is_header() {
            return true;
        }
        if self.fresh && self.line.ends_with(b"<think>") && self.line.trim_ascii_start() == b"<think>" {
            self.thinking = true;
            self.line.clear();
        } else if byte == b'\n' {
            self.end_line();
        }
        false
    }

    /// Goes on after a header that no call followed.
    pub(super) fn decline(&mut self) {
        if self.last == b'\n' {
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        let line = self.line.trim_ascii();
        if line.starts_with(b"```") || line.starts_with(b"~~~") {
            self.fence = !self.fence;
        }
        if !line.is_empty() {
            self.fresh = false;
            self.quoted = line.ends_with(OPEN.as_bytes());
        }
        self.line.clear();
    }

    fn is_header(&self) -> bool {
        if !self.is_open() {
            return false;
        }
        let first = self.header();
        self.headers.later.iter().any(|header| header.as_bytes() == self.line)
            || self.is_fresh() && self.headers.first.iter().any(|header| header.as_bytes() == first)
    }

    /// The line without the white space before it.
    pub(super) fn header(&self) -> &[u8] {
        self.line.trim_ascii_start()
    }

    /// Whether a call without a tag may open on this line.
    pub(super) fn is_open(&self) -> bool {
        !self.thinking && !self.fence && !self.quoted
    }

    /// Whether nothing but white space was written.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Whether the line is empty so far.
    pub(super) fn is_line_start(&self) -> bool {
        self.line.is_empty()
    }

    /// Whether a tag at this place opens a call: not while the model thinks, and not right behind a quotation mark.
    pub(super) fn takes_tag(&self) -> bool {
        !self.thinking && !b"`'\"".contains(&self.last)
    }
}
