//! Answers as they come: from the engine's blocking iterators to one asynchronous stream of events.
//!
//! An answer has one thread of tokio's pool while it grows, which waits for the engine and for the client. When the
//! stream is dropped, as it is when the client goes away, the engine is told, and what it held is free after its step.

use std::sync::Arc;

use coder_engine::{
    Canceller, Engine, Event as Engines, Finish, Generation, Request, Summary, Timings, ToolEvent,
    ToolStream, Usage,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::spawn_blocking;

use crate::ask::{Ask, FORM, Plan, random};
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
    /// A call of a tool begins.
    Call {
        index: usize,
        id: String,
        name: String,
    },
    /// More of a call's arguments, which together are the text of a JSON object.
    Arguments {
        index: usize,
        delta: String,
    },
    /// A call ends; one that was cut off is not complete.
    CallEnd {
        complete: bool,
    },
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
    /// Tokens of the answer that were thoughts.
    pub(crate) thought_tokens: usize,
    pub(crate) timings: Timings,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It is complete.
    Stop,
    /// It is complete, and has calls.
    Calls,
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
        let names = [(FORM, ask.grammar_field), ("messages", ask.prompt.field())];
        let permit = server.admit()?;
        let lease = server.models().lease(model).await?;
        let model = lease.name().to_owned();
        let server = server.clone();
        let (sender, events) = mpsc::channel(WAITING);
        let (most, logprobs) = (ask.max_tokens, ask.sampler.logprobs.is_some());
        let begun = spawn_blocking(move || {
            let engine = lease.engine.clone();
            let Plan { requests, tools, thinks } = ask.plan(&engine, server.limits())?;
            let held = Arc::new(Held { server, lease, _permit: permit });
            let prompt_tokens = requests.first().map_or(0, |request| request.prompt.len());
            let mut cancel = Vec::new();
            for (index, generation) in generate(&engine, requests)?.into_iter().enumerate() {
                cancel.push(CancelOnDrop(generation.canceller()));
                let thinking = thinks.map_or_else(Thinking::none, Thinking::new);
                let seed = format!("{:08x}", random() as u32);
                let calls = tools.as_ref().map(|set| ToolStream::new(engine.tokenizer(), set, seed));
                let (sender, held) = (sender.clone(), held.clone());
                let pump = Pump { index, most, logprobs, calls, thinking, thought_tokens: 0, sender, held };
                spawn_blocking(move || pump.run(generation));
            }
            Ok::<_, Error>((prompt_tokens, cancel))
        });
        let begun = begun.await.map_err(|error| Error::Failed(error.to_string()))?;
        let (prompt_tokens, cancel) = begun.map_err(|error| error.renamed(&names))?;
        Ok(Self { prompt_tokens, model, events, _cancel: cancel })
    }

    /// All of every one of `count` answers: what `add` makes of its pieces, and its end.
    ///
    /// # Errors
    /// What the engine says when it fails.
    pub(crate) async fn gather<T: Default>(
        &mut self,
        count: usize,
        add: impl Fn(&mut T, Piece),
    ) -> Result<Vec<(T, End)>> {
        let mut answers: Vec<(T, Option<End>)> = (0..count).map(|_| (T::default(), None)).collect();
        while let Some(event) = self.next().await {
            let Event { index, what } = event?;
            match what {
                What::Piece(piece) => add(&mut answers[index].0, piece),
                What::End(end) => answers[index].1 = Some(end),
            }
        }
        let broken = || Error::Failed("an answer broke off".to_owned());
        answers.into_iter().map(|(answer, end)| Ok((answer, end.ok_or_else(broken)?))).collect()
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

/// The parts of an answer in a part that may have calls.
fn part(thinking: &mut Thinking, event: ToolEvent) -> Vec<Part> {
    let part = match event {
        ToolEvent::Text(text) => return thinking.push(&text),
        ToolEvent::CallBegin { index, id, name } => Part::Call { index, id, name },
        ToolEvent::Arguments { index, delta } => Part::Arguments { index, delta },
        ToolEvent::CallEnd { complete, .. } => Part::CallEnd { complete },
    };
    thinking.finish().into_iter().chain([part]).collect()
}

/// The thread of one answer.
struct Pump {
    index: usize,
    /// Tokens that the client asked for at most; of 0 nothing is told but the end.
    most: Option<usize>,
    /// Whether the client wants log-probabilities.
    logprobs: bool,
    /// If the answer may have calls.
    calls: Option<ToolStream>,
    thinking: Thinking,
    thought_tokens: usize,
    sender: mpsc::Sender<Result<Event>>,
    held: Arc<Held>,
}

impl Pump {
    fn run(mut self, generation: Generation) {
        for event in generation {
            let told = match event {
                Ok(event) => {
                    let parts = self.parts(&event);
                    let tokens = self.tokens(&event);
                    self.tell(Piece { parts, tokens }) && self.end(event)
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

    /// What became certain with an event.
    fn parts(&mut self, event: &Engines) -> Vec<Part> {
        let Self { calls, thinking, .. } = self;
        let mut parts: Vec<Part> = match (calls, event) {
            (Some(calls), event) => {
                calls.read(event).into_iter().flat_map(|call| part(thinking, call)).collect()
            }
            (None, Engines::Prefill { .. }) => Vec::new(),
            (None, Engines::Token(token)) => thinking.push(&token.text),
            (None, Engines::Done(summary)) => thinking.push(&summary.text),
        };
        match event {
            Engines::Done(_) => parts.extend(thinking.finish()),
            Engines::Token(_) if thinking.is_open() => self.thought_tokens += 1,
            _ => {}
        }
        parts
    }

    fn tokens(&self, event: &Engines) -> Vec<Logprob> {
        let Engines::Token(token) = event else { return Vec::new() };
        if !self.logprobs {
            return Vec::new();
        }
        let bytes = |id| self.held.lease.engine.tokenizer().token_bytes(id).to_vec();
        let top = token.top.iter().map(|&(id, logprob)| (bytes(id), logprob)).collect();
        vec![Logprob { bytes: bytes(token.id), logprob: token.logprob, top }]
    }

    fn end(&self, event: Engines) -> bool {
        let Engines::Done(Summary { finish, mut usage, timings, .. }) = event else { return true };
        let reason = self.reason(finish, usage);
        if self.most == Some(0) {
            usage.completion_tokens = 0;
        }
        let end = End { reason, usage, thought_tokens: self.thought_tokens, timings };
        self.record(&end);
        self.send(Ok(What::End(end)))
    }

    fn tell(&self, piece: Piece) -> bool {
        let is_empty = piece.parts.is_empty() && piece.tokens.is_empty();
        is_empty || self.most == Some(0) || self.send(Ok(What::Piece(piece)))
    }

    /// Whether somebody listens.
    fn send(&self, what: Result<What>) -> bool {
        let event = what.map(|what| Event { index: self.index, what });
        self.sender.blocking_send(event).is_ok()
    }

    fn reason(&self, finish: Finish, usage: Usage) -> Reason {
        let context = self.held.lease.engine.info().context;
        match finish {
            _ if self.most == Some(0) => Reason::Length,
            Finish::StopString(text) => Reason::StopString(text),
            Finish::Length
                if self.most.is_none_or(|most| usage.completion_tokens < most)
                    && usage.prompt_tokens + usage.completion_tokens >= context =>
            {
                Reason::Context
            }
            Finish::Length | Finish::Deadline | Finish::Cancelled => Reason::Length,
            Finish::Stop if self.calls.as_ref().is_some_and(|calls| calls.calls().1 > 0) => Reason::Calls,
            Finish::Stop => Reason::Stop,
        }
    }

    /// Counts it and logs numbers, nothing of what was said.
    fn record(&self, end: &End) {
        self.held.server.metrics().ended(self.held.lease.name(), end);
        let End { reason, usage, timings, .. } = end;
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
