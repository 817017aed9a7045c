//! Many requests at once, cached beginnings, guessed tokens: each answer is the one that it is alone.

mod common;

use coder_engine::{
    Completion, Device, Engine, Error, Finish, Generation, Grammar, Limit, Options, Request, SamplerOptions,
    Source,
};
use common::requests::{alone, assert_empty, essence, plain, requests};
use std::time::Instant;

fn all(engine: &Engine, requests: Vec<Request>) -> Vec<Completion> {
    let started: Vec<Generation> =
        requests.into_iter().map(|r| engine.generate(r).expect("started")).collect();
    started.into_iter().map(|generation| generation.finish().expect("an answer")).collect()
}

fn assert_same(what: &str, got: &[Completion], expected: &[Completion]) {
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(essence(got), essence(expected), "{what}: request {i}");
    }
}

#[test]
fn every_answer_is_the_one_that_it_is_alone() {
    let mut options = Options::new(common::bundled());
    options.context = Some(256);
    let requests = requests(&Engine::open(&options).expect("a model"), 24);
    let expected = alone(&options, &requests);
    for (chunk, parallel, cache) in [(512, 16, 8192), (24, 5, 1024), (7, 16, 256)] {
        (options.chunk, options.parallel, options.cache) = (Some(chunk), parallel, Some(cache));
        let engine = Engine::open(&options).expect("a model");
        let what = format!("chunk {chunk}, parallel {parallel}, cache {cache}");
        // Who comes later is more important, and takes the place of others.
        let urgent = requests.iter().enumerate().map(|(i, request)| request.clone().priority(i as i32));
        assert_same(&what, &all(&engine, urgent.collect()), &expected);
        // Once more, with beginnings that are in the cache, and without guesses.
        assert_same(&what, &all(&engine, requests.iter().map(plain).collect()), &expected);
        assert_empty(&engine);
        let stats = engine.stats().expect("an engine");
        println!("{what}: {stats:?}");
        assert!(stats.cached_tokens > 0 && stats.accepted_tokens > 0);
    }
}

#[test]
fn on_a_card_too_every_answer_is_the_one_that_it_is_alone() {
    let models = common::few_models();
    for model in &models {
        let mut options = Options::new(model);
        (options.device, options.library) = (Device::Cuda, Some(common::library()));
        options.context = Some(128);
        let prompt = |i: u32| (0..20 + i).map(|t| (t * (7 + i / 2) + 3) % 250).collect::<Vec<u32>>();
        let request = |i: u32| Request::new(prompt(i)).limit(Limit::UpTo(6));
        let requests: Vec<Request> = (0..4).map(request).map(|r| Request { ignore_end: true, ..r }).collect();
        let expected = alone(&options, &requests);
        options.cache = Some(512);
        let engine = Engine::open(&options).expect("a model");
        assert_same(&model.display().to_string(), &all(&engine, requests), &expected);
        assert_empty(&engine);
    }
}

/// Who asks for log-probabilities has whole rows copied to the host, the others what a card finds in them.
#[test]
fn a_card_chooses_as_the_host_does() {
    let mut options = Options::new(common::bundled());
    (options.device, options.library) = (Device::Cuda, Some(common::library()));
    (options.context, options.cache) = (Some(128), Some(768));
    let engine = Engine::open(&options).expect("a model");
    let request = |i: usize, logprobs: Option<usize>| {
        let sampler = SamplerOptions {
            temperature: [0.0, 0.9, 1.5][i % 3],
            top_k: [0, 40, 5][i % 3],
            top_p: if i.is_multiple_of(2) { 1.0 } else { 0.9 },
            seed: i as u64,
            logprobs,
            ..SamplerOptions::default()
        };
        let grammar = (i >= 3).then(|| Grammar::Regex("[a-z]+\\([a-z]+(, [a-z]+){0,4}\\)\n".into()));
        let request = engine.prompt("def add(a, b):\n    return a + b\n\ndef add(a").expect("a prompt");
        let request = request.sampler(sampler).grammar(grammar).limit(Limit::UpTo(10));
        Request { speculate: i.is_multiple_of(2), ..request }
    };
    let of = |logprobs| all(&engine, (0..6).map(|i| request(i, logprobs)).collect());
    let essence = |answer: &Completion| {
        let token = |t: &coder_engine::Token| (t.id, t.logprob.to_bits(), t.forced);
        (answer.tokens.iter().map(token).collect::<Vec<_>>(), answer.summary.finish.clone())
    };
    for (i, (chosen, whole)) in of(None).iter().zip(&of(Some(1))).enumerate() {
        assert!(chosen.tokens.iter().all(|token| token.top.is_empty()));
        assert!(whole.tokens.iter().all(|token| token.forced || token.top.len() == 1));
        assert_eq!(essence(chosen), essence(whole), "request {i}");
    }
    assert_empty(&engine);
}

/// The bundled model guesses for itself: every guess is right, and nothing changes.
#[test]
fn a_draft_model_changes_nothing_but_the_number_of_steps() {
    let mut options = Options::new(common::bundled());
    options.context = Some(256);
    let requests = requests(&Engine::open(&options).expect("a model"), 12);
    let expected = alone(&options, &requests);
    options.draft = Some(Source::Path(common::bundled()));
    let engine = Engine::open(&options).expect("a model");
    for (i, request) in requests.iter().enumerate() {
        let answer = engine.generate(request.clone()).expect("started").finish().expect("an answer");
        assert_eq!(essence(&answer), essence(&expected[i]), "request {i}");
    }
    assert_same("together", &all(&engine, requests), &expected);
    let stats = engine.stats().expect("an engine");
    println!("{stats:?}");
    assert!(stats.accepted_tokens > 0);
    assert_empty(&engine);
}

#[test]
fn a_draft_model_of_another_vocabulary_is_refused() {
    let Some(other) = common::shared("vectors/models/tiny-qwen2-Q8_0.gguf") else { return };
    let mut options = Options::new(common::bundled());
    options.draft = Some(Source::Path(other));
    match Engine::open(&options) {
        Err(Error::Request { field: "draft", .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let options = Options::new(common::bundled());
    let with = |change: fn(&mut Options)| {
        let mut options = options.clone();
        change(&mut options);
        Engine::open(&options).map(drop)
    };
    for (field, change) in [
        ("parallel", (|o| o.parallel = 0) as fn(&mut Options)),
        ("queue", |o| o.queue = 0),
        ("cache", |o| (o.context, o.cache) = (Some(256), Some(128))),
    ] {
        assert!(matches!(with(change), Err(Error::Request { field: f, .. }) if f == field), "{field}");
    }
    let engine = Engine::open(&Options { queue: 1, ..options }).expect("a model");
    let long =
        engine.generate(engine.prompt("def ").expect("a prompt").limit(Limit::UpTo(900))).expect("started");
    let second = engine.generate(engine.prompt("def ").expect("a prompt"));
    assert!(matches!(second, Err(Error::Busy { open: 1 })), "{second:?}");
    long.cancel();
    assert_eq!(long.finish().expect("an answer").summary.finish, Finish::Cancelled);
    let late = engine.prompt("def ").expect("a prompt").deadline(Instant::now());
    let answer = engine.generate(late).expect("started").finish().expect("an answer");
    assert_eq!((answer.summary.finish, answer.tokens.len()), (Finish::Deadline, 0));
}
