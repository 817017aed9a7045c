//! What a model thinks before it answers: the text between `<think>` and `</think>` at the beginning.

use crate::answer::Part;

const BEGIN: &str = "<think>";
const END: &str = "</think>";

/// Splits the text of an answer as it comes. Tags anywhere else are text.
#[derive(Debug)]
pub(crate) struct Thinking {
    state: State,
    /// What may still become a tag.
    held: String,
}

#[derive(Debug, PartialEq)]
enum State {
    /// Nothing but white space so far.
    Beginning,
    Thought,
    /// Behind the end tag, until the first word.
    Between,
    Text,
}

impl Thinking {
    /// `begun`: the prompt ends with the tag already.
    pub(crate) fn new(begun: bool) -> Self {
        Self { state: if begun { State::Thought } else { State::Beginning }, held: String::new() }
    }

    /// All of an answer is text.
    pub(crate) fn none() -> Self {
        Self { state: State::Text, held: String::new() }
    }

    /// Whether a thought has begun and not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Thought
    }

    /// What is certain with this piece of text.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        loop {
            match self.state {
                State::Beginning => {
                    let word = self.held.trim_start();
                    if let Some(rest) = word.strip_prefix(BEGIN) {
                        self.held = rest.to_owned();
                        self.state = State::Thought;
                    } else if BEGIN.starts_with(word) {
                        return parts;
                    } else {
                        self.state = State::Text;
                    }
                }
                State::Thought => {
                    let found = self.held.find(END);
                    let end = found.unwrap_or_else(|| self.held.len() - partial(&self.held, END));
                    let rest = self.held.split_off(end);
                    let thought = std::mem::replace(&mut self.held, rest);
                    if !thought.is_empty() {
                        parts.push(Part::Thought(thought));
                    }
                    if found.is_none() {
                        return parts;
                    }
                    self.held.drain(..END.len());
                    self.state = State::Between;
                }
                State::Between => {
                    self.held.drain(..self.held.len() - self.held.trim_start().len());
                    if self.held.is_empty() {
                        return parts;
                    }
                    self.state = State::Text;
                }
                State::Text => {
                    if !self.held.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut self.held)));
                    }
                    return parts;
                }
            }
        }
    }

    /// What was held back: no more text will come.
    pub(crate) fn finish(&mut self) -> Option<Part> {
        let rest = std::mem::take(&mut self.held);
        match self.state {
            _ if rest.is_empty() => None,
            State::Thought => Some(Part::Thought(rest)),
            _ => Some(Part::Text(rest)),
        }
    }
}

/// Bytes at the end of `text` that are the beginning of `tag`.
fn partial(text: &str, tag: &str) -> usize {
    (1..tag.len()).rev().find(|&n| text.as_bytes().ends_with(&tag.as_bytes()[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(mut thinking: Thinking, text: &str, size: usize) -> (String, String) {
        let (mut thought, mut said) = (String::new(), String::new());
        let chars: Vec<char> = text.chars().collect();
        let pieces = chars.chunks(size).map(String::from_iter);
        let mut parts: Vec<Part> = pieces.flat_map(|piece| thinking.push(&piece)).collect();
        parts.extend(thinking.finish());
        for part in parts {
            match part {
                Part::Thought(text) => thought += &text,
                Part::Text(text) => said += &text,
                other => panic!("{other:?}"),
            }
        }
        (thought, said)
    }

    #[test]
    fn however_it_is_cut() {
        for size in 1..12 {
            let both = |text| split(Thinking::new(false), text, size);
            assert_eq!(both("<think>a < b</think>\n\nyes"), ("a < b".into(), "yes".into()));
            assert_eq!(both("\n<think></think>yes"), ("".into(), "yes".into()));
            assert_eq!(both("no <think>x</think>"), ("".into(), "no <think>x</think>".into()));
            assert_eq!(both("<thin"), ("".into(), "<thin".into()));
            assert_eq!(both("<think>cut </thi"), ("cut </thi".into(), "".into()));
            assert_eq!(split(Thinking::new(true), "a</think>b", size), ("a".into(), "b".into()));
            assert_eq!(split(Thinking::none(), "<think>a", size), ("".into(), "<think>a".into()));
        }
    }
}
