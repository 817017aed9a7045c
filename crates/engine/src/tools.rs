//! Tools: functions that an answer may call, and calls that are right by construction.
//!
//! Owns what a tool is, the grammar of an answer that may call some, and how calls are read out of an answer. It runs
//! nothing, and knows no server's dialect: both make a [`ToolSet`], and read [`ToolEvent`]s.
//!
//! - Under [`ToolChoice::Auto`] an answer is free text until a call opens. From there to its end it can only be calls of
//!   declared functions, with all required parameters, each at most once, with values of their types.
//! - A call opens with the *token* `<tool_call>`; the same words spelt with ordinary tokens are prose. Where a model
//!   leaves the tag out, a call opens at `<function=` or a JSON call where the answer begins, and at a whole line
//!   `<function=NAME>` later, outside of code fences. Nothing opens while the model thinks.
//! - What was generated under the grammar has one reading, and it is the one that was meant: see [`CallFormat::Xml`].
//! - After a call comes another one or the end: the templates have no place for text there.

mod declare;
mod head;
mod json;
mod lark;
mod lighter;
mod matcher;
mod merge;
mod opening;
mod raw;
mod reader;
mod shape;
mod stream;
mod value;
mod values;
mod xml;

use std::sync::Arc;

use serde_json::Value;

pub use self::declare::Tool;
pub(crate) use self::lark::compile;
pub(crate) use self::matcher::{Followed, ToolMatcher};
pub use self::reader::{ToolEvent, ToolReader};
pub use self::stream::ToolStream;
use crate::{Error, Grammar, Result, Tokenizer};

/// The tag before a call.
pub(crate) const OPEN: &str = "<tool_call>";
/// The tag after a call.
pub(crate) const CLOSE: &str = "</tool_call>";

/// More tools than this are refused.
const MOST_TOOLS: usize = 512;

/// Whether an answer calls tools.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolChoice {
    /// As the model likes.
    #[default]
    Auto,
    /// At least one call, from the first token on.
    Required,
    /// No call: free text.
    None,
    /// A call of this function, from the first token on.
    Named(String),
}

/// How a model writes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFormat {
    /// Qwen2.5 and Qwen3: `<tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>`.
    Json,
    /// Qwen3-Coder: `<tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>\n</tool_call>`.
    ///
    /// A parameter that is a string stands there as it is, every other one as JSON. The format has no escapes, so a value
    /// ends at the first `</parameter>` that is followed, white space aside, by `<parameter=` or `</function>`; any other
    /// `</parameter>` is part of it, and so is any within a string of JSON that stands on no line of its own, for such a
    /// string holds no line break. The grammar lets nothing else end a value, so no value is read differently than it was
    /// written; a string that would have to hold such a sequence cannot be written by any model of this format.
    Xml,
}

impl CallFormat {
    /// The format that a chat template shows its model.
    pub fn of_template(source: &str) -> Self {
        if source.contains("<function=") { Self::Xml } else { Self::Json }
    }

    /// The format of a model, by its chat template for conversations with tools.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let source = tokenizer.chat_template("tool_use").or_else(|| tokenizer.chat_template("default"));
        source.map_or(Self::Json, Self::of_template)
    }
}

/// The tools of one request, and what an answer may do with them.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSet {
    tools: Vec<Tool>,
    shapes: Vec<shape::Shape>,
    format: CallFormat,
    choice: ToolChoice,
    parallel: bool,
    thinking: bool,
    answer: Option<Grammar>,
}

impl ToolSet {
    /// A set of tools that may be called, or not, as the model likes, also several in one answer.
    ///
    /// # Errors
    /// [`Error::Tool`] with the tool and the path in its schema: two of the same name, and what this format cannot
    /// express. What the grammar of a schema cannot guarantee is found by [`check`](Self::check).
    pub fn new(tools: Vec<Tool>, format: CallFormat) -> Result<Self> {
        if tools.len() > MOST_TOOLS {
            let problem = format!("there are `{}` tools; up to `{MOST_TOOLS}` are supported", tools.len());
            return Err(Error::Request { field: "tools", problem });
        }
        for (i, tool) in tools.iter().enumerate() {
            if tools[..i].iter().any(|other| other.name == tool.name) {
                return Err(tool.wrong("", "two tools have this name; leave one out"));
            }
        }
        let shapes = tools.iter().map(|tool| shape::Shape::of(tool, format)).collect::<Result<Vec<_>>>()?;
        if format == CallFormat::Xml {
            tools.iter().zip(&shapes).try_for_each(|(tool, shape)| shape.check_xml(tool))?;
        }
        Ok(Self {
            tools,
            shapes,
            format,
            choice: ToolChoice::Auto,
            parallel: true,
            thinking: false,
            answer: None,
        })
    }

    /// The same with another choice.
    ///
    /// # Errors
    /// [`Error::Request`] when it names a tool that is not there, or requires a call of none.
    pub fn choice(mut self, choice: ToolChoice) -> Result<Self> {
        let missing = match &choice {
            ToolChoice::Named(name) => (!self.tools.iter().any(|tool| tool.name == *name))
                .then(|| format!("no tool is called `{name}`")),
            ToolChoice::Required => {
                self.tools.is_empty().then(|| "a call is required, but there are no tools".to_owned())
            }
            ToolChoice::Auto | ToolChoice::None => None,
        };
        if let Some(problem) = missing {
            return Err(Error::Request { field: "tool_choice", problem });
        }
        self.choice = choice;
        Ok(self)
    }

    /// The same, with several calls in one answer or at most one.
    pub fn parallel(mut self, parallel: bool) -> Self {
        self.parallel = parallel;
        self
    }

    /// The same for an answer whose prompt ends within `<think>`: nothing opens a call before `</think>`.
    pub fn thinking(mut self, thinking: bool) -> Self {
        self.thinking = thinking;
        self
    }

    /// The same, where an answer that calls nothing is what this grammar says, from its first token to its last.
    ///
    /// # Errors
    /// [`Error::Request`] for a grammar that is no JSON Schema's.
    pub fn answer(mut self, form: impl Into<Option<Grammar>>) -> Result<Self> {
        self.answer = form.into();
        match &self.answer {
            None | Some(Grammar::JsonSchema(_) | Grammar::LooseSchema(_)) => Ok(self),
            Some(_) => {
                let problem = "with `tools`, only `json_schema` and `json_object` are supported".to_owned();
                Err(Error::Request { field: "response_format", problem })
            }
        }
    }

    /// Compiles the grammar, to know that it does.
    ///
    /// # Errors
    /// [`Error::Tool`] with the tool and the path of what cannot be guaranteed, [`Error::Grammar`] for the schema of
    /// the answer.
    pub fn check(self: &Arc<Self>, tokenizer: &Tokenizer) -> Result<()> {
        match self.grammar() {
            Some(grammar) => crate::Matcher::new(tokenizer, &grammar).map(drop),
            None => Ok(()),
        }
    }

    /// The grammar of an answer; none where it is free.
    pub fn grammar(self: &Arc<Self>) -> Option<Grammar> {
        match &self.answer {
            _ if self.can_call() => Some(Grammar::Tools(self.clone())),
            form => form.clone(),
        }
    }

    /// The tools as a chat template wants them: function declarations in the OpenAI form.
    pub fn declarations(&self) -> Vec<Value> {
        self.tools.iter().map(Tool::declaration).collect()
    }

    /// The tools.
    pub fn tools(&self) -> &[Tool] {
        &self.tools
    }

    /// How calls are written.
    pub fn format(&self) -> CallFormat {
        self.format
    }

    /// Whether an answer can have calls.
    pub fn can_call(&self) -> bool {
        !self.tools.is_empty() && self.choice != ToolChoice::None
    }

    /// Whether an answer begins as free text, in which a call may open.
    fn is_free(&self) -> bool {
        self.choice == ToolChoice::Auto && self.answer.is_none()
    }

    /// The tools that may be called, each with its place.
    fn callable(&self) -> impl Iterator<Item = (usize, &Tool)> {
        let named = match &self.choice {
            ToolChoice::Named(name) => Some(name.as_str()),
            _ => None,
        };
        self.tools.iter().enumerate().filter(move |(_, tool)| named.is_none_or(|name| tool.name == name))
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.callable().find(|(_, tool)| tool.name == name).map(|(i, _)| i)
    }
}

/// The tokens of the tags, as far as the vocabulary has them.
pub(crate) fn tags(tokenizer: &Tokenizer) -> Vec<u32> {
    [OPEN, CLOSE].iter().filter_map(|tag| tokenizer.token_id(tag)).collect()
}
