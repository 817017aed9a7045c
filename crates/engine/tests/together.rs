//! Many requests at once, cached beginnings, guessed tokens: each answer is the one that it is alone.

mod common;

use coder_engine::{
    Completion, Device, EditFile, EditGrammar, Engine, Error, Finish, Generation, Grammar, Limit, Options,
    Request, SamplerOptions, Source,
};
use std::time::{Duration, Instant};

/// A linear congruential generator (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }
}

const SOURCE: &str = "def add(a, b):\n    return a + b\n\n\ndef subtract(a, b):\n    return a - b\n\n\n";

fn file() -> EditFile {
    EditFile { path: "sums.py".into(), content: SOURCE.into() }
}

/// Requests of every kind: greedy and sampled, free and constrained, with common beginnings and repeated text.
fn requests(engine: &Engine, count: usize) -> Vec<Request> {
    let schema = serde_json::json!({
        "type": "object", "required": ["name", "kind"], "additionalProperties": false,
        "properties": { "name": { "type": "string", "maxLength": 12 }, "kind": { "enum": ["function", "class"] } },
    });
    let request = |i: usize| {
        let text = match i % 4 {
            0 => format!("{SOURCE}def number{i}(a, b):\n    return a"),
            1 => format!("# {i}\n{}", SOURCE.repeat(1 + i % 3)),
            2 => SOURCE.repeat(2),
            _ => "{".into(),
        };
        let grammar = match i % 5 {
            1 => Some(Grammar::JsonSchema(schema.clone())),
            // Search/replace blocks, and a grammar that llguidance cannot roll back.
            2 => Some(Grammar::Edit(EditGrammar { files: vec![file()], marker: 7 })),
            4 => Some(Grammar::Lark("start: (words \"\\n\")+\nwords[max_tokens=6]: /[a-z(),: ]+/\n".into())),
            3 => Some(Grammar::Regex("(add|subtract|number[0-9]+)\\([a-z]+(, [a-z]+){0,4}\\)\n".into())),
            _ => None,
        };
        let sampler = SamplerOptions {
            temperature: [0.0, 0.7, 1.3][i % 3],
            seed: i as u64,
            repetition_penalty: if i.is_multiple_of(7) { 1.1 } else { 1.0 },
            logprobs: Some(3),
            ..SamplerOptions::default()
        };
        let request = engine.prompt(&text).expect("a prompt").sampler(sampler).grammar(grammar);
        request.limit(Limit::UpTo(if i % 5 == 2 { 150 } else { 8 + i % 50 }))
    };
    (0..count).map(request).collect()
}

/// What must not depend on anything else: tokens, bits of the log-probabilities, text and end.
fn essence(answer: &Completion) -> impl PartialEq + std::fmt::Debug + use<> {
    let token = |t: &coder_engine::Token| (t.id, t.logprob.to_bits(), t.forced, t.top.clone());
    (answer.tokens.iter().map(token).collect::<Vec<_>>(), answer.text.clone(), answer.summary.finish.clone())
}

fn plain(request: &Request) -> Request {
    Request { speculate: false, ..request.clone() }
}

fn all(engine: &Engine, requests: Vec<Request>) -> Vec<Completion> {
    let started: Vec<Generation> =
        requests.into_iter().map(|r| engine.generate(r).expect("started")).collect();
    started.into_iter().map(|generation| generation.finish().expect("an answer")).collect()
}

/// Alone means: in an engine that has seen nothing else, without guesses.
fn alone(options: &Options, requests: &[Request]) -> Vec<Completion> {
    let one = |request| {
        let engine = Engine::open(options).expect("a model");
        let answer = engine.generate(plain(request)).expect("started").finish().expect("an answer");
        assert_eq!(answer.summary.usage.drafted_tokens, 0);
        answer
    };
    requests.iter().map(one).collect()
}

fn assert_same(what: &str, got: &[Completion], expected: &[Completion]) {
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(essence(got), essence(expected), "{what}: request {i}");
    }
}

fn assert_empty(engine: &Engine) {
    let stats = engine.stats().expect("an engine");
    assert_eq!((stats.waiting, stats.running, stats.blocks_used), (0, 0, 0), "{stats:?}");
}

#[test]
fn every_answer_is_the_one_that_it_is_alone() {
    let mut options = Options::new(common::bundled());
    options.context = Some(256);
    let requests = requests(&Engine::open(&options).expect("a model"), 24);
    let expected = alone(&options, &requests);
    for (chunk, parallel, cache) in [(512, 16, 8192), (24, 5, 1024), (7, 16, 256)] {
        (options.chunk, options.parallel, options.cache) = (chunk, parallel, Some(cache));
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

/// A thousand requests with lengths, priorities, cancellations and deadlines of every kind, and a cache that is far
/// too small: all end, each with the beginning of its own answer.
#[test]
fn a_thousand_requests_with_a_cache_far_too_small() {
    let mut options = Options::new(common::bundled());
    (options.context, options.chunk, options.parallel) = (Some(256), 64, 8);
    let kinds = requests(&Engine::open(&options).expect("a model"), 20);
    let expected = alone(&options, &kinds);
    let engine = Engine::open(&options).expect("a model");
    let mut random = Random(1);
    let mut open: Vec<(usize, Generation)> = Vec::new();
    let (mut ended, mut whole, mut cut) = (0, 0, 0);
    let mut end = |kind: usize, generation: Generation| {
        ended += 1;
        let answer = generation.finish().expect("an answer");
        let all = &expected[kind];
        let usage = answer.summary.usage;
        assert!(usage.cached_tokens <= usage.prompt_tokens && usage.accepted_tokens <= usage.drafted_tokens);
        match answer.summary.finish {
            Finish::Cancelled | Finish::Deadline => {
                cut += 1;
                assert!(
                    all.text.starts_with(&answer.text),
                    "{:?} is not a beginning of {:?}",
                    answer.text,
                    all.text
                );
                assert!(answer.tokens.len() <= all.tokens.len());
            }
            _ => {
                whole += 1;
                assert_eq!(essence(&answer), essence(all), "kind {kind}");
            }
        }
    };
    for _ in 0..1000 {
        let kind = random.below(kinds.len());
        let deadline =
            (random.below(8) == 0).then(|| Instant::now() + Duration::from_millis(random.below(80) as u64));
        let request = kinds[kind].clone().priority(random.below(4) as i32 - 2).deadline(deadline);
        open.push((kind, engine.generate(request).expect("started")));
        match random.below(12) {
            0 => open[random.below(open.len())].1.cancel(),
            1 if open.len() > 1 => drop(open.swap_remove(random.below(open.len()))),
            2..9 if open.len() > 60 => {
                let (kind, generation) = open.swap_remove(random.below(open.len()));
                end(kind, generation);
            }
            _ => {}
        }
    }
    for (kind, generation) in open {
        end(kind, generation);
    }
    let stats = engine.stats().expect("an engine");
    println!("{ended} ended: {whole} whole, {cut} cut; {stats:?}");
    assert!(whole > 100 && cut > 10 && stats.preemptions > 0);
    assert_empty(&engine);
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
