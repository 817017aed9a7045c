//! Vectors of texts: the right hidden states, the same bits in any company, and errors instead of vectors that are none.

mod common;

use coder_engine::{
    Device, Embedding, EmbeddingRequest, Engine, Error, Limit, Options, Pooling, Request, Role,
    SamplerOptions, Weights,
};
use std::time::Instant;

fn tokens(seed: u32, length: usize) -> Vec<u32> {
    (0..length as u32).map(|i| 3 + (i * (7 + seed) + seed * seed) % 240).collect()
}

fn wanted(tokens: Vec<u32>, pooling: Pooling) -> EmbeddingRequest {
    EmbeddingRequest { tokens, pooling, priority: 0, deadline: None }
}

fn embed(engine: &Engine, tokens: &[u32], pooling: Pooling) -> Embedding {
    engine.embed(wanted(tokens.to_vec(), pooling)).expect("started").wait().expect("a vector")
}

/// `output · vector`, which is proportional to the logits.
fn products(weights: &Weights, vector: &[f32]) -> Vec<f32> {
    let matrix = weights.matrix(Role::Output).expect("an output");
    let rows = matrix.rows().expect("rows");
    let mut row = vec![0.0; vector.len()];
    (0..weights.config().vocab)
        .map(|token| {
            rows.dequantize_row(token, &mut row).expect("a row");
            row.iter().zip(vector).map(|(w, x)| w * x).sum()
        })
        .collect()
}

/// The vector of the last token is the state that the logits are made of: theirs are what the output makes of it, up to
/// a factor and to the 8 bits of the activations.
#[test]
fn the_last_tokens_vector_is_what_the_next_token_comes_from() {
    let model = common::bundled();
    let (engine, weights) =
        (Engine::open(&Options::new(&model)).expect("a model"), Weights::open(&model).expect("weights"));
    for seed in 0..8 {
        let prompt = tokens(seed, 5 + 13 * seed as usize);
        let vector = embed(&engine, &prompt, Pooling::Last).vector;
        assert_eq!(vector.len(), engine.info().hidden);
        let length: f32 = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "length {length}");
        let sampler = SamplerOptions { logprobs: Some(8), ..SamplerOptions::default() };
        let request = Request { ignore_end: true, ..Request::new(prompt) };
        let answer = engine.generate(request.limit(Limit::Require(1)).sampler(sampler)).expect("started");
        let top = answer.finish().expect("an answer").tokens.remove(0).top;
        let products = products(&weights, &vector);
        let best = (0..products.len()).max_by(|&a, &b| products[a].total_cmp(&products[b])).expect("one");
        assert_eq!(best as u32, top[0].0, "seed {seed}");
        let factor = (top[0].1 - top[7].1) / (products[best] - products[top[7].0 as usize]);
        for &(token, logprob) in &top {
            let expected = factor * (products[best] - products[token as usize]);
            let got = top[0].1 - logprob;
            assert!((expected - got).abs() < 0.15 + 0.02 * got.abs(), "seed {seed}: {expected} {got}");
        }
    }
}

#[test]
fn a_vector_has_the_same_bits_in_any_company() {
    let mut options = Options::new(common::bundled());
    options.context = Some(256);
    let common = tokens(1, 70);
    let texts: Vec<Vec<u32>> =
        (0..12).map(|seed| [common.clone(), tokens(seed, 1 + 9 * seed as usize)].concat()).collect();
    let wants: Vec<EmbeddingRequest> = texts
        .iter()
        .flat_map(|text| [Pooling::Last, Pooling::Mean].map(|pooling| wanted(text.clone(), pooling)))
        .collect();
    let alone: Vec<Embedding> = wants
        .iter()
        .map(|want| {
            let engine = Engine::open(&options).expect("a model");
            embed(&engine, &want.tokens, want.pooling)
        })
        .collect();
    for (chunk, parallel, cache) in [(512, 16, 8192), (7, 5, 1024), (24, 16, 256)] {
        (options.chunk, options.parallel, options.cache) = (Some(chunk), parallel, Some(cache));
        let engine = Engine::open(&options).expect("a model");
        for round in 0..2 {
            let beside: Vec<_> = (0..3)
                .map(|seed| {
                    engine.generate(Request::new(tokens(seed, 40)).limit(Limit::UpTo(20))).expect("one")
                })
                .collect();
            // Who comes later is more important, and takes the place of others.
            let started: Vec<_> = (0..)
                .zip(&wants)
                .map(|(i, want)| {
                    engine.embed(EmbeddingRequest { priority: i, ..want.clone() }).expect("started")
                })
                .collect();
            for (i, (started, alone)) in started.into_iter().zip(&alone).enumerate() {
                let got = started.wait().expect("a vector");
                assert_eq!(got.vector, alone.vector, "chunk {chunk}, cache {cache}, round {round}, text {i}");
                assert_eq!(
                    (got.usage.prompt_tokens, got.usage.completion_tokens),
                    (wants[i].tokens.len(), 0)
                );
                if wants[i].pooling == Pooling::Mean {
                    assert_eq!(got.usage.cached_tokens, 0, "the mean needs every token");
                }
            }
            drop(beside);
        }
        let stats = engine.stats().expect("an engine");
        assert!(stats.cached_tokens > 0, "the last token's vector may use what is known");
    }
}

#[test]
fn the_mean_of_one_token_is_that_token() {
    let engine = Engine::open(&Options::new(common::bundled())).expect("a model");
    assert_eq!(embed(&engine, &[7], Pooling::Mean).vector, embed(&engine, &[7], Pooling::Last).vector);
    let text = engine.embedding("def add(a, b):").expect("tokens");
    assert_eq!(text.pooling, Pooling::Mean, "the bundled model is not made for vectors");
    assert_ne!(
        embed(&engine, &text.tokens, Pooling::Mean).vector,
        embed(&engine, &text.tokens, Pooling::Last).vector
    );
}

#[test]
fn what_cannot_be_embedded_is_an_error() {
    let mut options = Options::new(common::bundled());
    options.context = Some(64);
    let engine = Engine::open(&options).expect("a model");
    let refused = |tokens: Vec<u32>| engine.embed(wanted(tokens, Pooling::Last)).expect_err("an error");
    assert!(matches!(refused(vec![]), Error::Request { field: "prompt", .. }));
    assert!(matches!(refused(vec![u32::MAX]), Error::Request { field: "prompt", .. }));
    let long = refused(vec![5; 65]);
    assert!(matches!(long, Error::ContextTooLong { prompt: 65, requested: 0, context: 64 }), "{long}");
    assert_eq!(embed(&engine, &[5; 64], Pooling::Last).usage.prompt_tokens, 64);
    let late = EmbeddingRequest { deadline: Some(Instant::now()), ..wanted(vec![5; 60], Pooling::Mean) };
    let late = engine.embed(late).expect("started").wait();
    assert!(matches!(late, Err(Error::Deadline)), "{late:?}");
    let started = engine.embed(wanted(vec![6; 60], Pooling::Mean)).expect("started");
    started.canceller().cancel();
    // It may have been read before.
    assert!(matches!(started.wait(), Ok(_) | Err(Error::Cancelled)));
}

/// The hidden states are read from whatever computed them.
#[test]
fn a_card_gives_nearly_the_same_vectors() {
    for model in common::few_models() {
        let mut options = Options::new(&model);
        options.context = Some(128);
        let cpu = Engine::open(&options).expect("a model");
        (options.device, options.library) = (Device::Cuda, Some(common::library()));
        let card = Engine::open(&options).expect("a model");
        for pooling in [Pooling::Last, Pooling::Mean] {
            let [a, b] = [&cpu, &card].map(|engine| embed(engine, &tokens(3, 21), pooling).vector);
            let cosine: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            // Both multiply 8-bit activations, each rounded in its own way. Where a router nearly has a tie, one of the
            // tokens may then go to another expert.
            let experts = model.to_string_lossy().contains("moe");
            let least = if experts { 0.95 } else { 0.999 };
            assert!(cosine > least, "{}, {pooling:?}: {cosine}", model.display());
        }
    }
}
