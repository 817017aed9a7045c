//! Who drafts an edit: implemented outside, for the engine and for each cloud client.

use serde::Serialize;
use serde_json::Value;

use crate::ledger::Usage;
use crate::policy::FailureClass;
use crate::prompt::{Prompt, PromptMessage};

/// A model that drafts edits.
pub trait Writer {
    /// Continues the prompt's conversation. The reply should have the prompt's shape; it is read in every
    /// reasonable form all the same.
    fn draft(&mut self, prompt: &Prompt, options: DraftOptions) -> Result<Reply, WriterError>;

    /// How many tokens the prompt has, exactly; None if that is not known before it is sent.
    fn tokens(&mut self, _prompt: &Prompt) -> Option<usize> {
        None
    }

    /// Why a reply cannot be held to the prompt's form within its tokens; None if it can, or is held to none.
    fn unfit(&mut self, _prompt: &Prompt, _options: DraftOptions) -> Option<String> {
        None
    }

    /// Answers a question about work, by JSON that fits the question's schema. Only models elsewhere do: a local model
    /// never reviews itself (S2-31).
    fn answer(&mut self, _question: &Question) -> Result<Reply, WriterError> {
        Err(WriterError::new(FailureClass::Availability, "it answers no questions; name a cloud rung"))
    }
}

/// Opens the writer of a rung, when the rung is asked first; None if nothing stands behind the name.
pub type Writers<'run, 'writer> = dyn FnMut(&str) -> Option<Box<dyn Writer + 'writer>> + 'run;

impl<W: Writer + ?Sized> Writer for &mut W {
    fn draft(&mut self, prompt: &Prompt, options: DraftOptions) -> Result<Reply, WriterError> {
        (**self).draft(prompt, options)
    }

    fn tokens(&mut self, prompt: &Prompt) -> Option<usize> {
        (**self).tokens(prompt)
    }

    fn unfit(&mut self, prompt: &Prompt, options: DraftOptions) -> Option<String> {
        (**self).unfit(prompt, options)
    }

    fn answer(&mut self, question: &Question) -> Result<Reply, WriterError> {
        (**self).answer(question)
    }
}

/// What is asked about work, in place of a draft.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// What for.
    pub purpose: Purpose,
    /// What is said; the last message is the user's.
    pub messages: Vec<PromptMessage>,
    /// The JSON Schema of the answer.
    pub schema: Value,
    /// The files whose content is among the messages.
    pub files: Vec<String>,
    /// The most tokens of the answer.
    pub max_tokens: usize,
}

/// What a request to a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// An edit.
    Draft,
    /// A judgement about one.
    Review,
    /// A plan of tasks.
    Plan,
}

impl Purpose {
    /// Its name in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Draft => "draft",
            Purpose::Review => "review",
            Purpose::Plan => "plan",
        }
    }
}

/// How to draft.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DraftOptions {
    /// Which try this is, from 1.
    pub attempt: u32,
    /// Seed of the sampler.
    pub seed: u64,
    /// Temperature of the sampler; 0 takes the most likely token.
    pub temperature: f32,
    /// The most tokens of the reply; None leaves it to the writer.
    pub max_tokens: Option<usize>,
}

/// What a writer says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// The text.
    pub text: String,
    /// Tokens it took.
    pub usage: Usage,
    /// Seconds it took.
    pub seconds: f64,
    /// US dollars it cost.
    pub cost_usd: f64,
    /// The model that wrote it, for the ledger; "" where it has no name.
    pub model: String,
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct WriterError {
    /// Whether it says something about the model's work.
    pub class: FailureClass,
    /// What happened, with the remedy.
    pub message: String,
    /// Tokens it took all the same; a malformed reply is not free.
    pub usage: Usage,
    /// US dollars it cost all the same.
    pub cost_usd: f64,
}

impl WriterError {
    /// An error that took no tokens.
    pub fn new(class: FailureClass, message: impl Into<String>) -> WriterError {
        WriterError { class, message: message.into(), usage: Usage::default(), cost_usd: 0.0 }
    }
}
