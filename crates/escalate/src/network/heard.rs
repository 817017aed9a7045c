//! What has been heard of an answer so far, in no dialect: enough to finish it, or to say what its loss costs.

use serde_json::Value;

use crate::{End, Fault, Outgoing, Spent, Tokens};

/// Why the model stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It had said all.
    Stop,
    /// At the limit of the answer.
    Length,
    /// At the end of its context.
    ContextFull,
    /// It, or a filter, did not want to.
    Refused(String),
    /// Something that was not asked for.
    Other(String),
}

/// An answer in the making.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Heard {
    /// The text so far, without thoughts.
    pub(super) text: String,
    /// The model, as the server names it.
    pub(super) model: String,
    /// Why it stopped; None while it may go on.
    pub(super) ended: Option<Ended>,
    /// Tokens of the prompt, `output` apart; None until the server counts them.
    pub(super) prompt: Option<Tokens>,
    /// Tokens of the answer; None until the server counts all of them.
    pub(super) output: Option<u64>,
    /// Something of the dialect was understood.
    pub(super) begun: bool,
    /// Nothing more is to come.
    pub(super) done: bool,
}

impl Heard {
    /// What it costs if nothing more comes: the server's counts where it gave them, else the most that it can be.
    ///
    /// A count of the answer holds only once it ended: some servers count along, and what goes on there after a
    /// connection broke is not known. A prompt of 0 tokens, with which LiteLLM begins its streams, is not counted yet.
    pub(super) fn spent(&self, outgoing: &Outgoing) -> Spent {
        let most = outgoing.most();
        let prompt = self.prompt.filter(|tokens| tokens.prompt() > 0);
        let output = self.output.filter(|_| self.ended.is_some());
        let tokens = Tokens {
            output: output.unwrap_or(most.output),
            ..prompt.unwrap_or(Tokens { output: 0, ..most })
        };
        Spent { tokens, counted: prompt.is_some() && output.is_some() }
    }

    /// The text and why it ended, or why it is no answer.
    pub(super) fn finish(&mut self) -> Result<(String, End), Fault> {
        match self.ended.clone() {
            Some(Ended::Stop) => Ok((std::mem::take(&mut self.text), End::Stop)),
            Some(Ended::Length) => Ok((std::mem::take(&mut self.text), End::Length)),
            Some(Ended::ContextFull) => {
                let tokens = self.prompt.map(|tokens| tokens.prompt() + self.output.unwrap_or(0));
                Err(Fault::TooLong { tokens, limit: None })
            }
            Some(Ended::Refused(message)) => Err(Fault::Refused { message }),
            Some(Ended::Other(reason)) => {
                Err(malformed(format!("it ended with `{reason}`, which was not asked for")))
            }
            None if self.begun => {
                Err(Fault::CutOff { problem: "the stream ended before the answer".to_owned() })
            }
            None => Err(malformed("it holds nothing of an answer")),
        }
    }
}

pub(super) fn malformed(problem: impl Into<String>) -> Fault {
    Fault::Malformed { problem: problem.into() }
}

/// Parses JSON. Its depth is limited by the parser, its size by who read it.
pub(super) fn json(text: &str) -> Result<Value, Fault> {
    serde_json::from_str(text).map_err(|error| malformed(format!("it is not JSON: {error}")))
}

/// What a server said, as one line that is safe to print; a longer text ends with "…".
pub(super) fn line(text: &str) -> String {
    const LONGEST: usize = 400;
    let mut line = String::new();
    for (at, word) in text.split(|c: char| c.is_whitespace() || c.is_control()).enumerate() {
        if at > 0 && !line.is_empty() && !word.is_empty() {
            line.push(' ');
        }
        for c in word.chars().filter(|c| !is_invisible(*c)) {
            line.push(c);
            if line.len() > LONGEST {
                line.push('…');
                return line;
            }
        }
    }
    line
}

/// Characters that change how a terminal shows what stands beside them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ask, Dialect, Endpoint, Said, Speaker};

    fn outgoing(dialect: Dialect) -> Outgoing {
        let ask = Ask {
            id: "a".into(),
            model: "m".into(),
            messages: vec![Said { by: Speaker::User, text: "Hi".into() }],
            max_tokens: 50,
            schema: None,
            effort: None,
        };
        Outgoing::prepare(&Endpoint::new(dialect, "https://h"), &ask).unwrap()
    }

    #[test]
    fn what_is_not_counted_is_taken_as_the_most() {
        let outgoing = outgoing(Dialect::Openai);
        let mut heard = Heard::default();
        assert_eq!(heard.spent(&outgoing), Spent { tokens: outgoing.most(), counted: false });
        heard.prompt = Some(Tokens::default());
        assert_eq!(heard.spent(&outgoing), Spent { tokens: outgoing.most(), counted: false });
        heard.prompt = Some(Tokens { input: 7, ..Tokens::default() });
        let tokens = Tokens { input: 7, output: 50, ..Tokens::default() };
        assert_eq!(heard.spent(&outgoing), Spent { tokens, counted: false });
        heard.output = Some(3);
        assert_eq!(heard.spent(&outgoing), Spent { tokens, counted: false }, "it may go on");
        heard.ended = Some(Ended::Length);
        let tokens = Tokens { input: 7, output: 3, ..Tokens::default() };
        assert_eq!(heard.spent(&outgoing), Spent { tokens, counted: true });
    }

    #[test]
    fn a_line_is_safe_to_print() {
        assert_eq!(line("a\u{1b}[31m\n\tb  c\u{202e}"), "a [31m b c");
        let long = line(&"é".repeat(1000));
        assert!(long.ends_with("é…") && long.len() < 410);
    }
}
