//! Standard output: results, and nothing else.
//!
//! Text that a model wrote may hold control sequences; on a terminal they are taken out, in a pipe it stays as it is.

use std::io::{self, IsTerminal, Write};

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

/// Takes control sequences out of text that comes in pieces: escape sequences whole, other control
/// characters one by one, except newline and tab. ECMA-48 calls the parts by these names.
#[derive(Default)]
pub(crate) struct Plain {
    state: State,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and intermediate bytes such as `(`.
    Intermediate,
    /// In a control sequence, until its final byte.
    Sequence,
    /// In a string such as a window title, until BEL or ESC `\`.
    String,
}

impl Plain {
    /// The harmless part of `text`.
    pub(crate) fn filter(&mut self, text: &str) -> String {
        text.chars().filter(|&c| self.shows(c)).collect()
    }

    fn shows(&mut self, c: char) -> bool {
        use State::*;
        let (state, shows) = match (self.state, c) {
            (_, '\u{1b}') => (Escape, false),
            (Escape, '[') => (Sequence, false),
            (Escape, ']' | 'P' | 'X' | '^' | '_') => (String, false),
            (Escape | Intermediate, ' '..='/') => (Intermediate, false),
            (Escape | Intermediate, '0'..='~') => (Text, false),
            (Sequence, ' '..='?') => (Sequence, false),
            (Sequence, '@'..='~') => (Text, false),
            (String, '\u{7}' | '\u{9c}') => (Text, false),
            // A string without an end must not swallow the rest of the answer.
            (String, '\n') => (Text, true),
            (String, _) => (String, false),
            (_, '\u{9b}') => (Sequence, false),
            (_, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => (String, false),
            (_, '\n' | '\t') => (Text, true),
            (_, c) => (Text, !c.is_control()),
        };
        self.state = state;
        shows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(pieces: &[&str]) -> String {
        let mut plain = Plain::default();
        pieces.iter().map(|piece| plain.filter(piece)).collect()
    }

    #[test]
    fn control_sequences_disappear() {
        assert_eq!(filter(&["a\u{1b}[31mred\u{1b}[0m b\tc\n"]), "ared b\tc\n");
        assert_eq!(filter(&["\u{1b}]0;title\u{7}x\u{1b}]8;;http://a\u{1b}\\y"]), "xy");
        assert_eq!(filter(&["\u{1b}(0q\u{1b}7z\r\u{8}\u{7f}\u{0}"]), "qz");
        assert_eq!(filter(&["\u{9b}2Jhi\u{9d}0;t\u{9c}!"]), "hi!");
        assert_eq!(filter(&["żółw 日本 🐢"]), "żółw 日本 🐢");
    }

    #[test]
    fn a_sequence_may_be_cut_anywhere() {
        let text = "a\u{1b}[1;31mb\u{1b}]2;t\u{1b}\\c";
        let pieces: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(filter(&pieces.iter().map(String::as_str).collect::<Vec<_>>()), "abc");
    }

    #[test]
    fn an_unfinished_string_ends_with_its_line() {
        assert_eq!(filter(&["\u{1b}]0;title\nnext"]), "\nnext");
    }
}
