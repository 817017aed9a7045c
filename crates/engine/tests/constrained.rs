//! Under a grammar, whatever a model wants to say, what comes out has the form that was asked for.

mod common;

use coder_engine::{Engine, Error, Finish, Grammar, Limit, Options, SamplerOptions};
use serde_json::{Value, json};

/// Schemas of different kinds: nested, arrays, unions, references, enums, numbers with bounds, patterns.
fn schemas() -> Vec<Value> {
    vec![
        json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 12},
               "age": {"type": "integer", "minimum": 0, "maximum": 150}}, "required": ["name", "age"],
               "additionalProperties": false}),
        json!({"type": "array", "items": {"type": "integer", "minimum": -9, "maximum": 9}, "minItems": 1, "maxItems": 6}),
        json!({"enum": ["BUG", "FEAT", "TASK", "a \"quoted\" one", "ünïcödé", null, 7]}),
        json!({"type": "object", "properties": {"kind": {"const": "edit"},
               "lines": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{1,8}$"}, "maxItems": 4}},
               "required": ["kind", "lines"], "additionalProperties": false}),
        json!({"anyOf": [{"type": "boolean"}, {"type": "object", "properties": {"why": {"type": "string", "maxLength": 9}},
               "required": ["why"], "additionalProperties": false}]}),
        json!({"$defs": {"node": {"type": "object", "properties": {"v": {"type": "integer", "minimum": 0, "maximum": 99},
               "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "required": ["v", "next"],
               "additionalProperties": false}}, "$ref": "#/$defs/node"}),
        json!({"type": "object", "properties": {"date": {"type": "string", "format": "date"},
               "ratio": {"type": "number", "minimum": 0, "maximum": 1}}, "required": ["date"],
               "additionalProperties": false}),
    ]
}

#[test]
fn five_hundred_random_generations_validate() {
    let models: Vec<_> = common::models()
        .into_iter()
        .filter(|p| {
            let name = p.to_string_lossy();
            ["coder-tiny", "qwen2-Q8_0", "qwen3-Q4_K_M", "qwen3moe-Q8_0"].iter().any(|n| name.contains(n))
        })
        .collect();
    let schemas = schemas();
    let (mut finished, mut total) = (0, 0);
    for model in &models {
        let mut options = Options::new(model);
        options.context = Some(512);
        let engine = Engine::open(&options).expect("a model");
        for seed in 0..(500 / models.len() as u64 + 1) {
            let schema = &schemas[seed as usize % schemas.len()];
            let sampler = SamplerOptions { temperature: 1.5, seed, ..SamplerOptions::default() };
            let request = engine
                .prompt("{")
                .expect("tokens")
                .sampler(sampler)
                .limit(Limit::UpTo(160))
                .grammar(Grammar::JsonSchema(schema.clone()));
            let answer = engine.generate(request).expect("a generation").finish().expect("a completion");
            total += 1;
            if answer.summary.finish != Finish::Stop {
                assert_eq!(answer.summary.finish, Finish::Length);
                continue;
            }
            finished += 1;
            let value: Value = serde_json::from_str(&answer.text)
                .unwrap_or_else(|e| panic!("{}: {e}: {:?} for {schema}", model.display(), answer.text));
            let validator = jsonschema::validator_for(schema).expect("a valid schema");
            assert!(validator.is_valid(&value), "{}: {value} for {schema}", model.display());
        }
    }
    println!("{finished} of {total} finished within 160 tokens, all valid");
    assert!(total >= 500 && finished * 2 > total, "{finished} of {total} finished");
}

#[test]
fn a_regex_and_a_lark_grammar_hold() {
    let engine = Engine::open(&Options::new(common::bundled())).expect("a model");
    for seed in 0..20 {
        let sampler = SamplerOptions { temperature: 1.5, seed, ..SamplerOptions::default() };
        let ask = |grammar| {
            let request = engine.prompt("x").expect("tokens").sampler(sampler.clone()).limit(Limit::UpTo(64));
            engine.generate(request.grammar(grammar)).expect("a generation").finish().expect("a completion")
        };
        let date = ask(Grammar::Regex("[0-9]{4}-[0-9]{2}-[0-9]{2}".into())).text;
        assert!(date.len() == 10 && date.as_bytes()[4] == b'-' && date.as_bytes()[7] == b'-', "{date:?}");
        let verdict = ask(Grammar::Lark("start: \"verdict: \" (\"pass\" | \"fail\")".into()));
        assert!(["verdict: pass", "verdict: fail"].contains(&verdict.text.as_str()), "{:?}", verdict.text);
        assert!(verdict.summary.usage.forced_tokens > 0);
    }
}

#[test]
fn an_answer_that_is_whole_with_its_last_token_is_not_cut() {
    let engine = Engine::open(&Options::new(common::bundled())).expect("a model");
    let ask = |regex: &str, most| {
        let request = engine.prompt("x").expect("tokens").limit(Limit::UpTo(most));
        let request = request.grammar(Grammar::Regex(regex.into()));
        let answer = engine.generate(request).expect("a generation").finish().expect("a completion");
        (answer.text, answer.summary.usage.completion_tokens, answer.summary.finish)
    };
    // The last token is chosen, or the only one there is.
    for regex in ["[0-9]{3}", "BUG|FEAT|TASK", "[0-9]abc", "abc"] {
        let (text, tokens, finish) = ask(regex, 64);
        assert_eq!(finish, Finish::Stop, "{regex}");
        assert_eq!(ask(regex, tokens), (text, tokens, Finish::Stop), "{regex}");
        if tokens > 1 {
            assert_eq!(ask(regex, tokens - 1).2, Finish::Length, "{regex}");
        }
    }
    assert_eq!(ask("[0-9]{3,}", 3).2, Finish::Length);
}

#[test]
fn a_grammar_that_does_not_compile_is_an_error_before_the_first_token() {
    let engine = Engine::open(&Options::new(common::bundled())).expect("a model");
    for grammar in [
        Grammar::JsonSchema(json!({"type": "nonsense"})),
        Grammar::Regex("(".into()),
        Grammar::Lark("start: missing_rule".into()),
    ] {
        let request = engine.prompt("x").expect("tokens").grammar(grammar.clone());
        assert!(matches!(engine.generate(request), Err(Error::Grammar(_))), "{grammar:?}");
    }
}

#[test]
fn too_long_names_both_numbers() {
    let mut options = Options::new(common::bundled());
    options.context = Some(64);
    let engine = Engine::open(&options).expect("a model");
    let request = engine.prompt("a b c d").expect("tokens");
    let prompt = request.prompt.len();
    let error = engine.generate(request.limit(Limit::Require(64))).expect_err("too long");
    assert!(
        matches!(error, Error::ContextTooLong { prompt: p, requested: 64, context: 64 } if p == prompt),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains(&format!("`{prompt}`")) && text.contains("`64`"), "{text}");
}
