//! A question to a cloud model and what comes back, in no server's dialect.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Attempt, Spent};

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// Rules and setting.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// By whom.
    pub by: Speaker,
    /// What.
    pub text: String,
}

/// How much a model is to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
}

/// One question. There are no sampling parameters: current cloud models refuse them.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Names this request in the ledger, in logs and at the server; at most 64 of `a-z0-9-`.
    pub id: String,
    /// The model, as the server knows it.
    pub model: String,
    /// The conversation; it ends with the user.
    pub messages: Vec<Said>,
    /// The most tokens of the answer.
    pub max_tokens: u32,
    /// The JSON Schema that the answer has to fit, if it is to be JSON. Both vendors want every object with
    /// `additionalProperties: false` and all its properties required, and know neither recursion nor limits of numbers
    /// and lengths. Not every server heeds it: who asked still has to check.
    pub schema: Option<Value>,
    /// How much to think; None leaves it to the server.
    pub effort: Option<Effort>,
}

/// Tokens of one answer, as the server counted them. The four never overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Of the prompt, neither read from nor written to the server's cache.
    pub input: u64,
    /// Of the prompt, written to the server's cache.
    pub cache_write: u64,
    /// Of the prompt, read from the server's cache.
    pub cache_read: u64,
    /// Of the answer, thoughts included.
    pub output: u64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The model had said all.
    Stop,
    /// At `max_tokens`: it is incomplete.
    Length,
}

/// What a model answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The text, without thoughts.
    pub text: String,
    /// Why it ended.
    pub end: End,
    /// What it took; failed attempts are not in it.
    pub tokens: Tokens,
    /// Whether the server counted them; else they are upper bounds.
    pub counted: bool,
    /// The model that answered, as the server named it.
    pub model: String,
    /// How often it was asked: 1, or more after errors that may pass.
    pub attempts: u32,
    /// What the attempts before this answer came to; some of them may have cost something.
    pub failed: Vec<Attempt>,
    /// Seconds, waiting between attempts included.
    pub seconds: f64,
}

impl Tokens {
    /// All of them, each count by itself.
    pub fn plus(self, other: Tokens) -> Tokens {
        Tokens {
            input: self.input.saturating_add(other.input),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            output: self.output.saturating_add(other.output),
        }
    }

    /// Of the prompt, wherever they came from.
    pub fn prompt(self) -> u64 {
        self.input.saturating_add(self.cache_write).saturating_add(self.cache_read)
    }
}

impl Answer {
    /// What it cost with the attempts before it.
    pub fn spent(&self) -> Spent {
        let this = Spent { tokens: self.tokens, counted: self.counted };
        self.failed.iter().fold(this, |sum, attempt| sum.plus(attempt.spent))
    }
}
