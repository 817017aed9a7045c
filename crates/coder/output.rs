//! Standard output: results, and nothing else.
//!
//! Text that a model wrote may hold control sequences; on a terminal they are taken out, in a pipe it stays as it is.

use std::io::{self, IsTerminal, Write};

use coder_tasks::Plain;
use serde::Serialize;

/// Standard output.
pub(crate) struct Output {
    out: io::Stdout,
    terminal: bool,
    plain: Plain,
    ends_line: bool,
}

impl Output {
    /// The process's standard output.
    pub(crate) fn new() -> Self {
        let out = io::stdout();
        let terminal = out.is_terminal();
        Self { out, terminal, plain: Plain::default(), ends_line: true }
    }

    /// Whether a person reads this.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes untrusted text at once.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.ends_line = text.ends_with('\n');
        if self.terminal {
            let shown = self.plain.filter(text);
            self.bytes(shown.as_bytes())
        } else {
            self.bytes(text.as_bytes())
        }
    }

    /// Ends the line that the text so far has begun.
    pub(crate) fn end_line(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.ends_line, true) {
            self.bytes(b"\n")?;
        }
        Ok(())
    }

    /// Writes a line of our own.
    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        self.bytes(format!("{line}\n").as_bytes())
    }

    /// Writes one value as JSON on one line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.line(&serde_json::to_string(value)?)
    }

    /// Writes bytes as they are, at once.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut out = self.out.lock();
        out.write_all(bytes)?;
        out.flush()
    }
}
