//! The same row gives the same bits, however the prompt reached the model.

mod common;

use coder_engine::{Completion, Device, Engine, KvType, Limit, Options, Request, SamplerOptions, probe};

#[test]
fn in_one_batch_token_by_token_and_in_chunks_of_seven() {
    let tokens = common::tokens();
    for model in common::models() {
        for kv in [KvType::F16, KvType::F32, KvType::Q8_0] {
            let mut options = Options::new(&model);
            options.kv = kv;
            let whole = probe::logits(&options, &tokens, None).expect("logits");
            for chunk in [1, 7, 32] {
                let parts = probe::logits(&options, &tokens, Some(chunk)).expect("logits");
                let same = whole.values.iter().zip(&parts.values).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{} {kv:?}: chunks of {chunk} give other bits", model.display());
            }
        }
    }
}

/// Chunks of 1 and 7 rows are recorded and replayed where `graphs` is set, those of all rows never are.
#[test]
fn on_a_card_in_one_batch_token_by_token_recorded_or_not() {
    let tokens = common::tokens();
    for (model, kv) in common::few_models().iter().zip([KvType::F16, KvType::Q8_0, KvType::F32, KvType::F16])
    {
        let mut options = Options::new(model);
        (options.device, options.library, options.kv) = (Device::Cuda, Some(common::library()), kv);
        let whole = probe::logits(&options, &tokens, None).expect("logits");
        for (chunk, graphs) in [(1, true), (7, true), (7, false)] {
            options.graphs = graphs;
            let parts = probe::logits(&options, &tokens, Some(chunk)).expect("logits");
            let same = whole.values.iter().zip(&parts.values).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{} {kv:?}: chunks of {chunk} give other bits", model.display());
        }
    }
}

fn ask(engine: &Engine, prompt: &[u32]) -> Completion {
    let sampler = SamplerOptions { logprobs: Some(20), ..SamplerOptions::default() };
    let request = Request::new(prompt.to_vec()).limit(Limit::Require(4)).sampler(sampler);
    let request = Request { ignore_end: true, ..request };
    engine.generate(request).expect("a generation").finish().expect("a completion")
}

/// A token and the bits of its log-probability.
type Bits = (u32, u32);

/// Every token, and with it the tokens that were reported as the most probable ones.
fn bits(c: &Completion) -> Vec<(Bits, Vec<Bits>)> {
    let top = |t: &[(u32, f32)]| t.iter().map(|&(id, p)| (id, p.to_bits())).collect();
    c.tokens.iter().map(|t| ((t.id, t.logprob.to_bits()), top(&t.top))).collect()
}

#[test]
fn with_a_cached_prefix_of_any_length() {
    let tokens: Vec<u32> = common::tokens().iter().cycle().take(140).copied().collect();
    for model in common::models() {
        let mut options = Options::new(&model);
        options.context = Some(256);
        let fresh = Engine::open(&options).expect("a model");
        let expected = ask(&fresh, &tokens);
        assert_eq!(expected.summary.usage.cached_tokens, 0);
        let engine = Engine::open(&options).expect("a model");
        for prefix in [1, 31, 32, 33, 64, 100, 139] {
            ask(&engine, &tokens[..prefix]);
            let got = ask(&engine, &tokens);
            assert!(got.summary.usage.cached_tokens >= prefix / 32 * 32, "prefix of {prefix}");
            assert_eq!(bits(&got), bits(&expected), "{}: prefix of {prefix}", model.display());
        }
        // A branch off the middle, and the whole prompt again.
        let mut branch = tokens[..70].to_vec();
        branch.extend([5, 6, 7]);
        ask(&engine, &branch);
        assert_eq!(bits(&ask(&engine, &tokens)), bits(&expected));
    }
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let engine = Engine::open(&Options::new(common::bundled())).expect("a model");
    let sampled = |seed| {
        let sampler = SamplerOptions { temperature: 1.2, seed, ..SamplerOptions::default() };
        let request = engine.prompt("def ").expect("tokens").sampler(sampler).limit(Limit::UpTo(40));
        engine.generate(request).expect("a generation").finish().expect("a completion").text
    };
    assert_eq!(sampled(7), sampled(7));
    assert!((0..8).any(|seed| sampled(seed) != sampled(7)));
}
