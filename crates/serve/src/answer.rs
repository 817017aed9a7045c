//! Answers as they come: from the engine's blocking iterators to one asynchronous stream of events.
//!
//! An answer has one thread of tokio's pool while it grows, which waits for the engine and for the client. When the
//! stream is dropped, as it is when the client goes away, the engine is told, and what it held is free after its step.

use std::sync::Arc;

use coder_engine::{Canceller, Engine, Event as Engines, Finish, Generation, Request, Timings, Token, Usage};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::spawn_blocking;

use crate::ask::{Ask, Prompt};
use crate::models::Lease;
use crate::thinking::Thinking;
use crate::{Error, Result, Server};

/// Events that wait for a slow client before the answer's thread does.
const WAITING: usize = 64;

/// Answers to one request, on their way.
pub(crate) struct Answers {
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: usize,
    /// The name of the model that answers.
    pub(crate) model: String,
    events: mpsc::Receiver<Result<Event>>,
    _cancel: Vec<CancelOnDrop>,
}

/// What happens to the answer with this number.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) index: usize,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Piece(Piece),
    End(End),
}

/// A piece of an answer: the tokens that were chosen, and what became certain with them.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    pub(crate) parts: Vec<Part>,
    /// If log-probabilities were asked for.
    pub(crate) tokens: Vec<Logprob>,
}

/// A part of an answer that is not empty.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    Text(String),
    /// What the model thinks before it answers.
    Thought(String),
}

/// A token's bytes and log-probability, and the most probable ones.
#[derive(Debug)]
pub(crate) struct Logprob {
    pub(crate) bytes: Vec<u8>,
    pub(crate) logprob: f32,
    pub(crate) top: Vec<(Vec<u8>, f32)>,
}

/// The end of an answer.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) reason: Reason,
    pub(crate) usage: Usage,
    pub(crate) timings: Timings,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It is complete.
    Stop,
    /// This text ended it.
    StopString(String),
    /// It has as many tokens as it may have, or took as long.
    Length,
    /// There is no room for more tokens.
    Context,
}

struct CancelOnDrop(Canceller);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What an answer's thread holds while the answer grows.
struct Held {
    server: Server,
    lease: Lease,
    _permit: OwnedSemaphorePermit,
}

impl Answers {
    /// Asks the model. Everything about the request is checked before this returns.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::NoModel`], and all that is wrong with the request.
    pub(crate) async fn begin(server: &Server, model: Option<&str>, ask: Ask) -> Result<Self> {
        ask.check()?;
        let permit = server.admit()?;
        let lease = server.models().lease(model).await?;
        let model = lease.name().to_owned();
        let server = server.clone();
        let (sender, events) = mpsc::channel(WAITING);
        let (most, is_chat) = (ask.max_tokens, matches!(ask.prompt, Prompt::Chat(_)));
        let free = is_chat && ask.grammar.is_none();
        let logprobs = ask.sampler.logprobs.is_some();
        let begun = spawn_blocking(move || {
            let engine = lease.engine.clone();
            let requests = ask.requests(&engine, server.limits())?;
            let held = Arc::new(Held { server, lease, _permit: permit });
            let prompt = requests.first().map_or(&[][..], |request| &request.prompt);
            let (prompt_tokens, thinks) = (prompt.len(), if free { thinks(&engine, prompt) } else { None });
            let generations = generate(&engine, requests)?;
            let mut cancel = Vec::new();
            for (index, generation) in generations.into_iter().enumerate() {
                cancel.push(CancelOnDrop(generation.canceller()));
                let thinking = thinks.map_or_else(Thinking::none, Thinking::new);
                let pump =
                    Pump { index, most, logprobs, thinking, sender: sender.clone(), held: held.clone() };
                spawn_blocking(move || pump.run(generation));
            }
            Ok::<_, Error>((prompt_tokens, cancel))
        });
        let (prompt_tokens, cancel) = begun.await.map_err(|error| Error::Failed(error.to_string()))??;
        Ok(Self { prompt_tokens, model, events, _cancel: cancel })
    }

    /// The next event; nothing after the last answer's end.
    pub(crate) async fn next(&mut self) -> Option<Result<Event>> {
        self.events.recv().await
    }
}

/// All or none.
fn generate(engine: &Engine, requests: Vec<Request>) -> Result<Vec<Generation>> {
    Ok(requests.into_iter().map(|request| engine.generate(request)).collect::<Result<_, _>>()?)
}

/// Whether the model may think before it answers, and then whether the prompt has begun the thought.
fn thinks(engine: &Engine, prompt: &[u32]) -> Option<bool> {
    let tokenizer = engine.tokenizer();
    tokenizer.token_id("<think>")?;
    let end = tokenizer.decode(&prompt[prompt.len().saturating_sub(4)..]);
    Some(end.trim_ascii_end().ends_with(b"<think>"))
}

/// The thread of one answer.
struct Pump {
    index: usize,
    /// Tokens that the client asked for at most.
    most: Option<usize>,
    /// Whether the client wants log-probabilities.
    logprobs: bool,
    thinking: Thinking,
    sender: mpsc::Sender<Result<Event>>,
    held: Arc<Held>,
}

impl Pump {
    fn run(mut self, generation: Generation) {
        for event in generation {
            let told = match event {
                Ok(Engines::Prefill { .. }) => true,
                Ok(Engines::Token(token)) => {
                    let piece = self.piece(token);
                    self.tell(piece)
                }
                Ok(Engines::Done(summary)) => {
                    let mut parts = self.thinking.push(&summary.text);
                    parts.extend(self.thinking.finish());
                    let reason = self.reason(summary.finish, summary.usage);
                    let end = End { reason, usage: summary.usage, timings: summary.timings };
                    self.record(&end);
                    self.tell(Piece { parts, tokens: Vec::new() }) && self.send(Ok(What::End(end)))
                }
                Err(error) => {
                    tracing::error!(model = self.held.lease.name(), %error, "answer failed");
                    self.send(Err(error.into()))
                }
            };
            if !told {
                // The client has gone away; dropping the generation cancels it.
                tracing::debug!(model = self.held.lease.name(), "client gone");
                return;
            }
        }
    }

    fn piece(&mut self, token: Token) -> Piece {
        let tokens = match self.logprobs {
            false => Vec::new(),
            true => {
                let bytes = |id| self.held.lease.engine.tokenizer().token_bytes(id).to_vec();
                let top = token.top.iter().map(|&(id, logprob)| (bytes(id), logprob)).collect();
                vec![Logprob { bytes: bytes(token.id), logprob: token.logprob, top }]
            }
        };
        let parts = if token.text.is_empty() { Vec::new() } else { self.thinking.push(&token.text) };
        Piece { parts, tokens }
    }

    fn tell(&self, piece: Piece) -> bool {
        (piece.parts.is_empty() && piece.tokens.is_empty()) || self.send(Ok(What::Piece(piece)))
    }

    /// Whether somebody listens.
    fn send(&self, what: Result<What>) -> bool {
        let event = what.map(|what| Event { index: self.index, what });
        self.sender.blocking_send(event).is_ok()
    }

    fn reason(&self, finish: Finish, usage: Usage) -> Reason {
        let context = self.held.lease.engine.info().context;
        match finish {
            Finish::StopString(text) => Reason::StopString(text),
            Finish::Length
                if self.most.is_none_or(|most| usage.completion_tokens < most)
                    && usage.prompt_tokens + usage.completion_tokens >= context =>
            {
                Reason::Context
            }
            Finish::Length | Finish::Deadline => Reason::Length,
            Finish::Stop | Finish::Cancelled => Reason::Stop,
        }
    }

    /// Counts it and logs numbers, nothing of what was said.
    fn record(&self, end: &End) {
        self.held.server.metrics().ended(self.held.lease.name(), end);
        let End { reason, usage, timings } = end;
        tracing::info!(
            model = self.held.lease.name(),
            prompt_tokens = usage.prompt_tokens,
            cached_tokens = usage.cached_tokens,
            completion_tokens = usage.completion_tokens,
            queue_s = timings.queue_s,
            prefill_s = timings.prefill_s,
            decode_s = timings.decode_s,
            reason = reason.name(),
            "answered"
        );
    }
}
