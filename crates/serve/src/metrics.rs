//! Numbers for Prometheus: what the server counts, and what the engines say when they are asked.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use coder_engine::{Stats, Timings, Usage};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::answer::{End, Reason};
use crate::{Error, Result, Server};

/// What is counted since the server began.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Asked, Counter>,
    answers: Family<Ended, Counter>,
    prompt_tokens: Family<OfModel, Counter>,
    cached_tokens: Family<OfModel, Counter>,
    completion_tokens: Family<OfModel, Counter>,
    prefill_s: Family<OfModel, Counter<f64, AtomicU64>>,
    decode_s: Family<OfModel, Counter<f64, AtomicU64>>,
    /// Requests that got an error, for the board.
    refused: Counter,
    queue_s: Family<OfModel, Histogram>,
    first_token_s: Family<OfModel, Histogram>,
    answer_s: Family<OfModel, Histogram>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Asked {
    /// A path of the server, or `other`: whoever asks does not decide how many there are.
    path: String,
    status: u16,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Ended {
    model: String,
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfModel {
    model: String,
}

/// What a model's complete answers add up to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Answered {
    /// How many, by why they ended.
    pub(crate) answers: BTreeMap<&'static str, u64>,
    pub(crate) prompt_tokens: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) completion_tokens: u64,
    pub(crate) prefill_s: f64,
    pub(crate) decode_s: f64,
}

/// From a millisecond to half an hour.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 21))
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let histogram = || Family::new_with_constructor(seconds as fn() -> Histogram);
        let mut metrics = Self {
            registry: Registry::with_prefix("coder"),
            requests: Family::default(),
            answers: Family::default(),
            prompt_tokens: Family::default(),
            cached_tokens: Family::default(),
            completion_tokens: Family::default(),
            prefill_s: Family::default(),
            decode_s: Family::default(),
            refused: Counter::default(),
            queue_s: histogram(),
            first_token_s: histogram(),
            answer_s: histogram(),
        };
        let registry = &mut metrics.registry;
        registry.register("requests", "Requests, by path and status", metrics.requests.clone());
        registry.register("answers", "Answers, by why they ended", metrics.answers.clone());
        registry.register("prompt_tokens", "Tokens of prompts", metrics.prompt_tokens.clone());
        registry.register(
            "cached_tokens",
            "Those of them that were in the cache",
            metrics.cached_tokens.clone(),
        );
        registry.register("completion_tokens", "Tokens of answers", metrics.completion_tokens.clone());
        let mut spent = |name, help, family: &Family<_, _>| {
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        };
        spent("prefill", "Time in which prompts were read", &metrics.prefill_s);
        spent("decode", "Time in which answers were written", &metrics.decode_s);
        let mut time = |name, help, family: &Family<_, _, fn() -> Histogram>| {
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        };
        time("queue", "Time until the prompt was begun", &metrics.queue_s);
        time("first_token", "Time until the first token", &metrics.first_token_s);
        time("answer", "Time until the end of the answer", &metrics.answer_s);
        metrics
    }

    /// A request was answered, or its answer begun.
    pub(crate) fn answered(&self, path: &str, status: u16) {
        self.requests.get_or_create(&Asked { path: path.to_owned(), status }).inc();
        if status >= 400 {
            self.refused.inc();
        }
    }

    /// Requests that got an error.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// What a model answered.
    pub(crate) fn of(&self, model: &str) -> Answered {
        let of = OfModel { model: model.to_owned() };
        let count = |family: &Family<OfModel, Counter>| family.get(&of).map_or(0, |counter| counter.get());
        let seconds = |family: &Family<OfModel, Counter<f64, AtomicU64>>| {
            family.get(&of).map_or(0.0, |counter| counter.get())
        };
        let ended = |&reason: &&'static str| {
            let of = Ended { model: model.to_owned(), reason };
            Some((reason, self.answers.get(&of)?.get()))
        };
        Answered {
            answers: Reason::NAMES.iter().filter_map(ended).collect(),
            prompt_tokens: count(&self.prompt_tokens),
            cached_tokens: count(&self.cached_tokens),
            completion_tokens: count(&self.completion_tokens),
            prefill_s: seconds(&self.prefill_s),
            decode_s: seconds(&self.decode_s),
        }
    }

    /// Tokens were read that nothing is to follow.
    pub(crate) fn read(&self, model: &str, tokens: usize) {
        self.prompt_tokens.get_or_create(&OfModel { model: model.to_owned() }).inc_by(tokens as u64);
    }

    /// An answer is complete.
    pub(crate) fn ended(&self, model: &str, End { reason, usage, timings, .. }: &End) {
        let Usage { prompt_tokens, cached_tokens, completion_tokens, .. } = *usage;
        let Timings { queue_s, prefill_s, decode_s } = *timings;
        let of = OfModel { model: model.to_owned() };
        self.answers.get_or_create(&Ended { model: model.to_owned(), reason: reason.name() }).inc();
        self.prompt_tokens.get_or_create(&of).inc_by(prompt_tokens as u64);
        self.cached_tokens.get_or_create(&of).inc_by(cached_tokens as u64);
        self.completion_tokens.get_or_create(&of).inc_by(completion_tokens as u64);
        self.prefill_s.get_or_create(&of).inc_by(prefill_s);
        self.decode_s.get_or_create(&of).inc_by(decode_s);
        self.queue_s.get_or_create(&of).observe(queue_s);
        self.first_token_s.get_or_create(&of).observe(queue_s + prefill_s);
        self.answer_s.get_or_create(&of).observe(queue_s + prefill_s + decode_s);
    }
}

impl Reason {
    /// All names.
    const NAMES: [&'static str; 5] = ["stop", "calls", "stop_string", "length", "context"];

    /// For people and programs that count.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Calls => "calls",
            Self::StopString(_) => "stop_string",
            Self::Length => "length",
            Self::Context => "context",
        }
    }
}

/// GET /metrics
pub(crate) async fn metrics(State(server): State<Server>) -> Result<Response> {
    let asked = server.clone();
    // An engine answers after its step.
    let stats = spawn_blocking(move || {
        let engines = asked.models().engines().into_iter();
        engines.filter_map(|(model, engine)| Some((model, engine.stats().ok()?))).collect::<Vec<_>>()
    });
    let stats = stats.await.map_err(|error| Error::Failed(error.to_string()))?;
    let now = now(server.open_requests(), &stats);
    let mut text = String::new();
    let encoded = encode_registry(&mut text, &server.metrics().registry)
        .and_then(|()| encode_registry(&mut text, &now))
        .and_then(|()| encode_eof(&mut text));
    encoded.map_err(|error| Error::Failed(error.to_string()))?;
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// What is so at the moment.
fn now(open: usize, stats: &[(String, Stats)]) -> Registry {
    let mut registry = Registry::with_prefix("coder");
    let requests = Gauge::<i64>::default();
    requests.set(open as i64);
    registry.register("open_requests", "Requests that wait or run", requests);
    let mut gauge = |name, help, value: fn(&Stats) -> usize| {
        let family = Family::<OfModel, Gauge>::default();
        for (model, stats) in stats {
            family.get_or_create(&OfModel { model: model.clone() }).set(value(stats) as i64);
        }
        registry.register(name, help, family);
    };
    gauge("waiting", "Answers that wait", |stats| stats.waiting);
    gauge("running", "Answers that grow", |stats| stats.running);
    gauge("cache_blocks", "Blocks of the cache, of 32 tokens each", |stats| stats.blocks);
    gauge("cache_blocks_used", "Those that answers use", |stats| stats.blocks_used);
    gauge("cache_blocks_filled", "Those that hold something", |stats| stats.blocks_filled);
    let mut counter = |name, help, value: fn(&Stats) -> u64| {
        let family = Family::<OfModel, Counter<u64, AtomicU64>>::default();
        for (model, stats) in stats {
            family.get_or_create(&OfModel { model: model.clone() }).inc_by(value(stats));
        }
        registry.register(name, help, family);
    };
    counter("steps", "Forward passes since the model was opened", |stats| stats.steps);
    counter("rows", "Rows of all of them", |stats| stats.rows);
    counter("read_tokens", "Prompt tokens computed, also of answers that grow", |stats| stats.read_tokens);
    counter("written_tokens", "Answer tokens, also of answers that grow", |stats| stats.written_tokens);
    counter("drafted_tokens", "Tokens that were guessed and verified", |stats| stats.drafted_tokens);
    counter("accepted_tokens", "Those of them that were right", |stats| stats.accepted_tokens);
    counter("preemptions", "Answers that had to give their blocks to another", |stats| stats.preemptions);
    registry
}
