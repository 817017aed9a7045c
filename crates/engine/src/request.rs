//! What a caller asks for, and what comes back.

use crate::{Grammar, SamplerOptions, ToolSet};
use std::sync::Arc;
use std::time::Instant;

/// How many tokens an answer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Room for exactly this many must be there, else [`Error::ContextTooLong`](crate::Error::ContextTooLong).
    Require(usize),
    /// At most this many; fewer if the context ends earlier, but there must be room for one.
    UpTo(usize),
}

/// One generation: a prompt in tokens and how to go on from it.
///
/// [`Engine::chat`](crate::Engine::chat) and [`Engine::prompt`](crate::Engine::prompt) make one from text.
#[derive(Clone, Debug)]
pub struct Request {
    /// Token ids, at least one.
    pub prompt: Vec<u32>,
    /// Length of the answer in tokens.
    pub limit: Limit,
    /// How the next token is chosen.
    pub sampler: SamplerOptions,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// What the answer must look like, if not free.
    pub grammar: Option<Grammar>,
    /// Whether special tokens such as `<tool_call>` appear in the answer's text.
    pub show_special: bool,
    /// Whether the answer goes on past the model's end-of-text token (benchmarks).
    pub ignore_end: bool,
    /// Whether several tokens may be verified in one step where the text or a draft model suggests them. The answer
    /// is the same, bit by bit; only its speed is not.
    pub speculate: bool,
    /// Requests of a higher number go first; of equal ones, the one that came first.
    pub priority: i32,
    /// When the answer ends at the latest, with [`Finish::Deadline`].
    pub deadline: Option<Instant>,
}

impl Request {
    /// A greedy, unconstrained request of up to 4,096 tokens.
    pub fn new(prompt: Vec<u32>) -> Self {
        Self {
            prompt,
            limit: Limit::UpTo(4096),
            sampler: SamplerOptions::default(),
            stop: Vec::new(),
            grammar: None,
            show_special: false,
            ignore_end: false,
            speculate: true,
            priority: 0,
            deadline: None,
        }
    }

    /// The same with another token limit.
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limit = limit;
        self
    }

    /// The same with another sampler.
    pub fn sampler(mut self, sampler: SamplerOptions) -> Self {
        self.sampler = sampler;
        self
    }

    /// The same with stop strings.
    pub fn stop(mut self, stop: Vec<String>) -> Self {
        self.stop = stop;
        self
    }

    /// The same with another priority.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// The same with a deadline.
    pub fn deadline(mut self, deadline: impl Into<Option<Instant>>) -> Self {
        self.deadline = deadline.into();
        self
    }

    /// The same with a grammar.
    pub fn grammar(mut self, grammar: impl Into<Option<Grammar>>) -> Self {
        self.grammar = grammar.into();
        self
    }

    /// The same with the grammar of an answer that may call these tools.
    pub fn tools(self, set: &Arc<ToolSet>) -> Self {
        self.grammar(set.grammar())
    }
}

/// What happens during a generation, in order: what the grammar forces at the beginning as `Token`s, any number of
/// `Prefill`, any number of `Token`, one `Done`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The prompt is being read.
    Prefill {
        /// Prompt tokens in the cache so far.
        done: usize,
        /// Prompt tokens in all.
        total: usize,
    },
    /// One token of the answer.
    Token(Token),
    /// The end.
    Done(Summary),
}

/// One token of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// The text that became certain with it: never part of a character, never part of a stop string;
    /// empty while either is undecided.
    pub text: String,
    /// Natural logarithm of its probability under the model; 0 for a token that the grammar forced.
    pub logprob: f32,
    /// The most probable tokens with their log-probabilities, if the request wanted any.
    pub top: Vec<(u32, f32)>,
    /// Whether the grammar left no choice, so that nothing was sampled.
    pub forced: bool,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its text, or the grammar was complete and allowed nothing more.
    Stop,
    /// This stop string appeared.
    StopString(String),
    /// The token limit was reached: the answer is incomplete.
    Length,
    /// The caller cancelled.
    Cancelled,
    /// The request's deadline passed: the answer is incomplete.
    Deadline,
}

/// The end of a generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Why it ended.
    pub finish: Finish,
    /// The rest of the text: what had been held back, if it turned out not to be a stop string.
    pub text: String,
    /// Token counts.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
}

/// Token counts of one generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of them were in the cache already.
    pub cached_tokens: usize,
    /// Tokens of the answer, the end-of-text token not counted.
    pub completion_tokens: usize,
    /// How many of them the grammar forced.
    pub forced_tokens: usize,
    /// Tokens that were guessed and verified, right or wrong.
    pub drafted_tokens: usize,
    /// How many of them were right.
    pub accepted_tokens: usize,
    /// Forward passes with rows of this request.
    pub passes: usize,
}

/// Seconds of one generation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Waiting for the engine.
    pub queue_s: f64,
    /// Reading the prompt.
    pub prefill_s: f64,
    /// Writing the answer.
    pub decode_s: f64,
}

impl Timings {
    /// Prompt tokens computed per second, if any were.
    pub fn prefill_tok_s(&self, usage: &Usage) -> Option<f64> {
        rate(usage.prompt_tokens - usage.cached_tokens, self.prefill_s)
    }

    /// Answer tokens per second, if any were written.
    pub fn decode_tok_s(&self, usage: &Usage) -> Option<f64> {
        rate(usage.completion_tokens, self.decode_s)
    }
}

fn rate(tokens: usize, seconds: f64) -> Option<f64> {
    (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds)
}
