//! Requests of every kind, and what their answers are when each is alone.

use coder_engine::{
    Completion, EditFile, EditGrammar, Engine, Grammar, Limit, Options, Request, SamplerOptions,
};

/// A linear congruential generator (Knuth's MMIX constants).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }
}

const SOURCE: &str = "def add(a, b):\n    return a + b\n\n\ndef subtract(a, b):\n    return a - b\n\n\n";

fn file() -> EditFile {
    EditFile { path: "sums.py".into(), content: SOURCE.into() }
}

/// Requests of every kind: greedy and sampled, free and constrained, with common beginnings and repeated text.
pub(crate) fn requests(engine: &Engine, count: usize) -> Vec<Request> {
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
pub(crate) fn essence(answer: &Completion) -> impl PartialEq + std::fmt::Debug + use<> {
    let token = |t: &coder_engine::Token| (t.id, t.logprob.to_bits(), t.forced, t.top.clone());
    (answer.tokens.iter().map(token).collect::<Vec<_>>(), answer.text.clone(), answer.summary.finish.clone())
}

pub(crate) fn plain(request: &Request) -> Request {
    Request { speculate: false, ..request.clone() }
}

/// Alone means: in an engine that has seen nothing else, without guesses.
pub(crate) fn alone(options: &Options, requests: &[Request]) -> Vec<Completion> {
    let one = |request| {
        let engine = Engine::open(options).expect("a model");
        let answer = engine.generate(plain(request)).expect("started").finish().expect("an answer");
        assert_eq!(answer.summary.usage.drafted_tokens, 0);
        answer
    };
    requests.iter().map(one).collect()
}

pub(crate) fn assert_empty(engine: &Engine) {
    let stats = engine.stats().expect("an engine");
    assert_eq!((stats.waiting, stats.running, stats.blocks_used), (0, 0, 0), "{stats:?}");
}
