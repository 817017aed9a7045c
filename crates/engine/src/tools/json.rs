//! A call in the JSON format, as it arrives.

use serde::de::IgnoredAny;

/// Follows an object or array to its end.
#[derive(Debug, Clone, Default)]
pub(super) struct Balance {
    depth: usize,
    string: bool,
    escaped: bool,
}

impl Balance {
    /// Within an object whose `{` is not seen again.
    pub(super) fn within() -> Self {
        Self { depth: 1, ..Self::default() }
    }

    /// Whether the value is complete with `c`.
    pub(super) fn push(&mut self, c: char) -> bool {
        match c {
            _ if self.escaped => self.escaped = false,
            '\\' if self.string => self.escaped = true,
            '"' => self.string = !self.string,
            _ if self.string => {}
            '{' | '[' => self.depth += 1,
            '}' | ']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }

    /// Whether what comes next is no part of a string.
    pub(super) fn is_outside(&self) -> bool {
        !self.string
    }
}

/// The arguments of a call, and what follows them in its object.
#[derive(Debug)]
pub(super) struct JsonCall {
    arguments: String,
    balance: Balance,
    /// Whether the arguments are valid JSON, once they are complete.
    valid: Option<bool>,
}

/// What came of a character.
#[derive(Debug, PartialEq)]
pub(super) enum JsonStep {
    /// It belongs to the arguments.
    Argument,
    /// It belongs to the object around them.
    Nothing,
    /// The call ends with it.
    End { complete: bool },
    /// The call has ended before it.
    Ended { complete: bool },
}

impl JsonCall {
    pub(super) fn new() -> Self {
        Self { arguments: String::new(), balance: Balance::default(), valid: None }
    }

    pub(super) fn push(&mut self, c: char) -> JsonStep {
        match self.valid {
            None => {
                self.arguments.push(c);
                if self.balance.push(c) {
                    self.valid = Some(serde_json::from_str::<IgnoredAny>(&self.arguments).is_ok());
                    self.balance = Balance::within();
                }
                JsonStep::Argument
            }
            // The tag without the object's end.
            Some(complete) if c == '<' && self.balance.is_outside() => JsonStep::Ended { complete },
            Some(complete) if self.balance.push(c) => JsonStep::End { complete },
            Some(_) => JsonStep::Nothing,
        }
    }

    /// Whether the arguments are complete, at the end of the text.
    pub(super) fn is_complete(&self) -> bool {
        self.valid == Some(true)
    }
}
