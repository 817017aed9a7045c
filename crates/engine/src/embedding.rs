//! Texts as vectors: what a request for one asks, and how the hidden states of its tokens become it.
//!
//! The vector is the model's last hidden state behind the final norm, of the last token or the mean over all
//! (Reimers and Gurevych 2019, "Sentence-BERT"; Qwen3-Embedding reads the end-of-text token), of length 1.

use crate::engine::Canceller;
use crate::{Error, Result, Usage};
use std::sync::mpsc;
use std::time::Instant;

/// How the hidden states of a text's tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// That of the last token.
    Last,
}

impl Pooling {
    /// All, with their numbers under `ARCHITECTURE.pooling_type` in GGUF files.
    pub(crate) const NUMBERS: [(Self, u32); 2] = [(Self::Mean, 1), (Self::Last, 3)];
}

/// One text whose vector is wanted. [`Engine::embedding`](crate::Engine::embedding) makes one.
#[derive(Clone, Debug)]
pub struct EmbeddingRequest {
    /// Token ids, at least one.
    pub tokens: Vec<u32>,
    /// How its hidden states become one vector.
    pub pooling: Pooling,
    /// Requests of a higher number go first; of equal ones, the one that came first.
    pub priority: i32,
    /// When it is given up, with [`Error::Deadline`].
    pub deadline: Option<Instant>,
}

/// A text's vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// `[hidden]`, of length 1.
    pub vector: Vec<f32>,
    /// Token counts.
    pub usage: Usage,
}

/// A vector that is being computed. Dropping it cancels.
#[derive(Debug)]
pub struct Embedder {
    pub(crate) reply: mpsc::Receiver<Result<Embedding>>,
    pub(crate) canceller: Canceller,
}

impl Embedder {
    /// A handle that cancels from another thread.
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Waits for it.
    ///
    /// # Errors
    /// [`Error::Deadline`], [`Error::Cancelled`], [`Error::Failed`], [`Error::Stopped`].
    pub fn wait(self) -> Result<Embedding> {
        self.reply.recv().unwrap_or(Err(Error::Stopped))
    }
}

impl Drop for Embedder {
    fn drop(&mut self) {
        self.canceller.cancel();
    }
}

/// The state of one text: what is summed up of its hidden states.
pub(crate) struct Pool {
    pooling: Pooling,
    /// Tokens of the text.
    tokens: usize,
    /// Tokens whose hidden states were seen, from the first on.
    seen: usize,
    sum: Vec<f64>, // [hidden]
    reply: mpsc::Sender<Result<Embedding>>,
}

impl Pool {
    pub(crate) fn new(pooling: Pooling, tokens: usize, reply: mpsc::Sender<Result<Embedding>>) -> Self {
        Self { pooling, tokens, seen: 0, sum: Vec::new(), reply }
    }

    /// Whether it needs the hidden states of all tokens.
    pub(crate) fn needs_all(&self) -> bool {
        self.pooling == Pooling::Mean
    }

    /// Takes the hidden states `[rows, hidden]` of the tokens from `first` on; those that were seen before, as after a
    /// preemption, count once. Whether all were seen.
    pub(crate) fn add(&mut self, first: usize, hidden: usize, states: &[f32]) -> bool {
        self.sum.resize(hidden, 0.0);
        for (position, state) in (first..).zip(states.chunks_exact(hidden)) {
            let counts = match self.pooling {
                Pooling::Mean => position >= self.seen,
                Pooling::Last => position + 1 == self.tokens,
            };
            if counts {
                self.sum.iter_mut().zip(state).for_each(|(sum, &x)| *sum += f64::from(x));
            }
            self.seen = self.seen.max(position + 1);
        }
        self.seen >= self.tokens
    }

    /// Tells who asked. A sum is a mean but for its length, and that is made 1.
    pub(crate) fn tell(self, end: Result<()>, usage: Usage) {
        let length = self.sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        let vector = self.sum.iter().map(|x| (x * scale) as f32).collect();
        // Nobody listens any more when it was dropped.
        let _ = self.reply.send(end.map(|()| Embedding { vector, usage }));
    }
}
