//! Who drafts an edit: implemented outside, for the engine and for each cloud client.

use crate::ledger::Usage;
use crate::policy::FailureClass;
use crate::prompt::Prompt;

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
}

impl WriterError {
    /// An error that took no tokens.
    pub fn new(class: FailureClass, message: impl Into<String>) -> WriterError {
        WriterError { class, message: message.into(), usage: Usage::default() }
    }
}
