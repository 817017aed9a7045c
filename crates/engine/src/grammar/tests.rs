use std::sync::OnceLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::tokenizer::SpecialTokens;
use crate::tokenizer::tests::{shared, toy};

/// The published Qwen2.5 tokenizer where the test data is there, else a toy one.
fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| match shared() {
        Some(shared) => Tokenizer::from_dir(shared.join("data/qwen2.5")).unwrap(),
        None => toy(),
    })
}

pub(super) fn toy_tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(toy)
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 8 },
            "age": { "type": "integer", "minimum": 0, "maximum": 150 },
            "tags": { "type": "array", "items": { "enum": ["a", "b"] }, "maxItems": 3 },
        },
        "required": ["name", "age"],
        "additionalProperties": false,
    })
}

fn schema(value: Value) -> Grammar {
    Grammar::JsonSchema(value)
}

fn regex(text: &str) -> Grammar {
    Grammar::Regex(text.to_owned())
}

fn lark(text: &str) -> Grammar {
    Grammar::Lark(text.to_owned())
}

fn reason(grammar: &Grammar) -> String {
    match Matcher::new(tokenizer(), grammar) {
        Err(Error::Grammar(reason)) => reason,
        other => panic!("{grammar:?} compiled: {other:?}"),
    }
}

/// Whether the whole of `text` is an answer, in the tokenizer's own cutting and byte by byte.
fn matches(grammar: &Grammar, text: &str) -> bool {
    let tokens = tokenizer().encode(text, SpecialTokens::Plain).unwrap();
    let whole = follow(tokenizer(), grammar, &tokens);
    let bytes: Vec<u32> = text.bytes().map(u32::from).collect();
    assert_eq!(follow(toy_tokenizer(), grammar, &bytes), whole, "{text}");
    whole
}

pub(super) fn follow(tokenizer: &Tokenizer, grammar: &Grammar, tokens: &[u32]) -> bool {
    let mut matcher = Matcher::new(tokenizer, grammar).unwrap();
    for &token in tokens {
        let allowed = matcher.mask().unwrap().allows(token);
        let accepted = matcher.accept(token);
        assert!(accepted.is_ok() || !allowed, "what the mask allows is accepted");
        if accepted.is_err() {
            return false;
        }
    }
    matcher.is_complete()
}

#[test]
fn matchers_move_between_threads() {
    fn send<T: Send>() {}
    send::<Matcher>();
    send::<Grammar>();
    fn sync<T: Sync>() {}
    sync::<Tokenizer>();
}

#[test]
fn schemas() {
    let person = schema(person());
    assert!(matches(&person, r#"{"name": "Ann", "age": 42}"#));
    assert!(matches(&person, r#"{"name": "日本", "age": 0, "tags": ["a", "b"]}"#));
    assert!(!matches(&person, r#"{"name": "nine char", "age": 0}"#));
    assert!(!matches(&person, r#"{"name": "Ann", "age": 151}"#));
    assert!(!matches(&person, r#"{"name": "Ann"}"#));
    assert!(!matches(&person, r#"{"name": "Ann", "age": 1, "x": 2}"#));
    assert!(!matches(&person, r#"{"name": "Ann", "age": 42"#), "not finished");
    assert!(!matches(&person, r#"{"name":"Ann","age":42}"#), "white space is fixed");
    assert!(!matches(&person, "{ \"name\": \"Ann\", \"age\": 42}"));
    assert!(!matches(&person, "{\"name\": \"Ann\", \"age\": 42}\n"));
    assert!(!matches(&person, "Sure: {\"name\": \"Ann\", \"age\": 42}"));
    assert!(matches(&schema(json!(true)), r#"{"x": [1, null, {}]}"#));
    let number = schema(json!({ "type": "number" }));
    assert!(matches(&number, "-9007199254740991") && matches(&number, "0.25") && matches(&number, "-3.5"));
    assert!(!matches(&number, "1e999") && !matches(&number, "9007199254740993"));
    assert!(matches(&schema(json!({ "const": { "a": [1, 2] } })), r#"{"a": [1, 2]}"#));
    let definitions = json!({
        "$defs": { "tree": { "type": "object", "properties": { "left": { "$ref": "#/$defs/tree" } },
                             "additionalProperties": false } },
        "$ref": "#/$defs/tree",
    });
    assert!(matches(&schema(definitions), r#"{"left": {"left": {}}}"#));
}

#[test]
fn what_other_programs_write_into_schemas_is_understood() {
    let optional = schema(
        json!({ "anyOf": [{ "not": {} }, { "type": "string", "format": "uuid4" }], "nullable": true }),
    );
    assert!(matches(&optional, r#""x""#) && !matches(&optional, "null"));
    let pair =
        schema(json!({ "type": "array", "prefixItems": [{ "type": "boolean" }], "additionalItems": false }));
    assert!(matches(&pair, "[true]") && !matches(&pair, "[1]"));
    let large = schema(json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX }));
    assert!(matches(&large, "9223372036854774784") && !matches(&large, "9223372036854775808"));
    assert!(matches(&schema(json!({ "const": 1i64 << 60 })), "1152921504606846976"));
}

#[test]
fn regular_expressions() {
    let date = regex(r"\d{4}-\d\d-\d\d");
    assert!(matches(&date, "2024-02-29"));
    assert!(!matches(&date, "2024-02-291") && !matches(&date, " 2024-02-29") && !matches(&date, "2024-02-2"));
    let path = regex(r"/(a|b)*/[^/]+");
    assert!(matches(&path, "/ab/x y") && !matches(&path, "/ac/x"));
    assert!(matches(&regex("(é|日本)+"), "é日本é"));
}

#[test]
fn lark_grammars() {
    let sum = lark("start: product (\"+\" product)*\nproduct: NUMBER (\"*\" NUMBER)*\nNUMBER: /[0-9]+/\n");
    assert!(matches(&sum, "1+23*4") && matches(&sum, "7"));
    assert!(!matches(&sum, "1+") && !matches(&sum, "1++2") && !matches(&sum, "x"));
    let nested = lark("start: \"(\" start \")\" | \"x\"");
    assert!(matches(&nested, "(((x)))") && !matches(&nested, "((x)"));
}

#[test]
fn what_does_not_compile_is_an_error_with_its_reason() {
    for (schema_value, expected) in [
        (
            json!({ "properties": { "a/b": { "items": { "not": { "const": 1 } } } } }),
            "`/properties/a~1b/items/not`",
        ),
        (json!({ "uniqueItems": true }), "`/uniqueItems`"),
        (json!({ "anyOf": [{}, { "minContains": 2 }] }), "`/anyOf/1/minContains`"),
        (json!({ "anyOf": [{ "const": 9_007_199_254_740_993_i64 }] }), "`/anyOf/0/const`"),
        (json!({ "enum": [1, [u64::MAX]] }), "`/enum`"),
        (json!({ "$defs": { "x": { "if": {} } } }), "`/$defs/x/if`"),
        (json!({ "type": "strange" }), "strange"),
        (json!({ "properties": { "a": 1 } }), "`/properties/a`"),
        (json!(false), "false"),
        (json!([]), "[]"),
        (json!({ "oneOf": [{ "type": "integer" }, { "type": "number" }] }), "oneOf"),
        (json!({ "type": "integer", "minimum": 5, "maximum": 1 }), ""),
        (json!({ "$ref": "https://example.com/schema.json" }), ""),
        (json!({ "x-guidance": { "lenient": true }, "not": {} }), "`/not`"),
    ] {
        let reason = reason(&schema(schema_value.clone()));
        assert!(!reason.is_empty() && reason.contains(expected), "{schema_value}: {reason}");
        assert!(!reason.contains("backtrace") && !reason.contains('<'), "{reason}");
    }
    for text in ["(", "a{2", "[z-a]", "(?=a)b", r"(a)\1"] {
        assert!(!reason(&regex(text)).is_empty(), "{text}");
    }
    for text in ["", "begin: \"x\"", "start: missing", "start: \"x", "start: start"] {
        assert!(!reason(&lark(text)).is_empty(), "{text}");
    }
    assert!(!reason(&regex("[a&&b]")).is_empty(), "matches nothing");
    for endless in [Grammar::Gbnf("root ::= root".into()), schema(json!({ "$ref": "#" }))] {
        assert!(reason(&endless).contains("matches no text"), "{}", reason(&endless));
    }
}

#[test]
fn a_schema_cannot_loosen_its_own_rules() {
    let loose = json!({ "x-guidance": { "whitespace_flexible": true, "lenient": true }, "type": "array",
                        "items": { "type": "integer" } });
    assert!(matches(&schema(loose.clone()), "[1, 2]"));
    assert!(!matches(&schema(loose), "[1,  2]"));
}

#[test]
fn branches_that_cannot_overlap_are_fine() {
    let tagged = json!({ "oneOf": [
        { "type": "object", "properties": { "kind": { "const": "a" } }, "required": ["kind"], "additionalProperties": false },
        { "type": "object", "properties": { "kind": { "const": "b" } }, "required": ["kind"], "additionalProperties": false },
    ] });
    assert!(
        matches(&schema(tagged.clone()), r#"{"kind": "b"}"#) && !matches(&schema(tagged), r#"{"kind": "c"}"#)
    );
}

#[test]
fn hostile_grammars_are_refused_in_time() {
    let mut deep = json!({});
    for _ in 0..100 {
        deep = json!({ "items": deep });
    }
    assert!(reason(&schema(deep)).contains("nested too deeply"));
    let chain = |rule: &dyn Fn(usize) -> String| (0..20_000).map(rule).collect::<String>();
    let rules = format!("root ::= r0\n{}r20000 ::= \"x\"", chain(&|i| format!("r{i} ::= r{}\n", i + 1)));
    assert!(reason(&Grammar::Gbnf(rules)).contains("levels deep"));
    let rules = format!("start: T0\n{}T20000: \"x\"", chain(&|i| format!("T{i}: T{}\n", i + 1)));
    assert!(reason(&lark(&rules)).contains("levels deep"));
    let references = |to: &dyn Fn(usize) -> serde_json::Value| {
        let definitions: serde_json::Map<_, _> = (0..10_000).map(|i| (format!("a{i}"), to(i + 1))).collect();
        json!({ "$ref": "#/$defs/a0", "$defs": definitions })
    };
    let nowhere = references(&|i| json!({ "$ref": format!("#/$defs/a{i}") }));
    assert!(reason(&schema(nowhere)).contains("leads to no schema"));
    let references = references(&|i| json!({ "items": { "$ref": format!("#/$defs/a{}", i % 10_000) } }));
    assert!(reason(&schema(references.clone())).contains("too deep"));
    assert!(reason(&lark(&format!("start: %json {references}"))).contains("too deep"));
    let nested = "(".repeat(50_000) + "a" + &")".repeat(50_000);
    assert!(!reason(&regex(&nested)).is_empty());
    let wide = format!("start: {}", "(\"a\" | \"b\") ".repeat(50_000));
    assert!(reason(&lark(&wide)).contains("bytes; up to"));
    let branching = (0..18).map(|i| format!("r{i}: r{j} r{j} | r{j}\n", j = i + 1)).collect::<String>();
    let ambiguous = lark(&format!("start: r0\n{branching}r18: \"x\"?\n"));
    // Compiles, and no step takes more than its share.
    let walked = Matcher::new(tokenizer(), &ambiguous)
        .map(|mut matcher| (0..20).try_for_each(|_| matcher.accept(tokenizer().token_id("x").unwrap())));
    assert!(matches!(walked, Ok(Ok(()) | Err(Error::Grammar(_))) | Err(Error::Grammar(_))), "{walked:?}");
    // A thousand million letters, all of them forced.
    let refused =
        Matcher::new(tokenizer(), &regex("((a{1000}){1000}){1000}")).and_then(|mut matcher| matcher.forced());
    assert!(matches!(refused, Err(Error::Grammar(_))));
}

/// As deep as they may be, on a thread with little stack.
#[test]
fn deep_grammars_compile() {
    let small = std::thread::Builder::new().stack_size(256 << 10).spawn(|| {
        let rules = |levels: usize, rule: &dyn Fn(usize) -> String| (0..levels).map(rule).collect::<String>();
        let deep = [
            lark(&format!("start: r0\n{}r4000: \"x\"", rules(4000, &|i| format!("r{i}: r{} | \"y\"\n", i + 1)))),
            lark(&format!("start: T0\n{}T4000: \"x\"", rules(4000, &|i| format!("T{i}: T{}\n", i + 1)))),
            lark(&format!(
                "start: r0\n{}r140: \"x\"",
                rules(140, &|i| format!("r{i}: {}r{} \"y\"{}\n", "(".repeat(27), i + 1, ")?".repeat(27)))
            )),
            schema(json!({ "$ref": "#/$defs/a0", "$defs": (0..1000)
                .map(|i| (format!("a{i}"), json!({ "items": { "$ref": format!("#/$defs/a{}", (i + 1) % 1000) } })))
                .collect::<serde_json::Map<_, _>>() })),
            schema(json!({ "$ref": "#/$defs/a0", "$defs": (0..120)
                .map(|i| {
                    let inner = json!({ "$ref": format!("#/$defs/a{}", (i + 1) % 120) });
                    (format!("a{i}"), (0..14).fold(inner, |inner, _| json!({ "anyOf": [{ "items": inner }, { "type": "null" }] })))
                })
                .collect::<serde_json::Map<_, _>>() })),
        ];
        for grammar in &deep {
            let matcher = Matcher::new(tokenizer(), grammar);
            assert!(matches!(matcher, Ok(_) | Err(Error::Grammar(_))), "{matcher:?}");
        }
    });
    small.expect("a thread").join().expect("it ends");
}

#[test]
fn the_end_is_allowed_only_where_the_answer_may_end() {
    let tokenizer = tokenizer();
    let end = tokenizer.end_ids()[0];
    let mut matcher = Matcher::new(tokenizer, &regex("a+b?")).unwrap();
    let tokens = |text| tokenizer.encode(text, SpecialTokens::Plain).unwrap();
    assert!(!matcher.mask().unwrap().allows(end) && !matcher.is_complete());
    assert!(matcher.accept(end).is_err());
    matcher.accept(tokens("a")[0]).unwrap();
    assert!(matcher.mask().unwrap().allows(end) && matcher.is_complete() && !matcher.must_end());
    assert!(tokenizer.end_ids().iter().all(|&id| matcher.mask().unwrap().allows(id)));
    matcher.accept(tokens("b")[0]).unwrap();
    assert!(matcher.must_end() && matcher.is_complete());
    let mask = matcher.mask().unwrap();
    let allowed: Vec<u32> = (0..tokenizer.vocab_size() as u32 + 64).filter(|&id| mask.allows(id)).collect();
    let mut ends = tokenizer.end_ids().to_vec();
    ends.sort_unstable();
    assert_eq!(allowed, ends);
    assert!(matcher.forced().unwrap().is_empty());
    assert!(matcher.accept(tokens("a")[0]).is_err() && matcher.accept(u32::MAX).is_err());
    matcher.accept(end).unwrap();
    matcher.rollback(2).unwrap();
    assert!(!matcher.must_end() && matcher.is_complete());
    matcher.accept(end).unwrap();
    assert!(matcher.must_end());
    matcher.rollback(1).unwrap();
    matcher.accept(tokens("b")[0]).unwrap();
    assert!(matcher.rollback(3).is_err());
}

#[test]
fn text_without_a_choice_is_forced() {
    let tokenizer = tokenizer();
    let mut matcher = Matcher::new(tokenizer, &schema(person())).unwrap();
    let forced = matcher.forced().unwrap();
    let text = tokenizer.decode(&forced);
    // The last characters may wait, because another token may begin with them.
    assert!(br#"{"name": ""#.starts_with(&text) && text.len() >= 8, "{:?}", String::from_utf8_lossy(&text));
    let sure = &tokenizer.encode(r#"{"name": "Ann"#, SpecialTokens::Plain).unwrap();
    assert!(sure.starts_with(&forced), "the tokens are those of the text: {forced:?} {sure:?}");
    for &token in &sure[forced.len()..] {
        matcher.accept(token).unwrap();
    }
    matcher.rollback(sure.len()).unwrap();
    assert_eq!(matcher.forced().unwrap(), forced);

    let mut all = Matcher::new(tokenizer, &regex("nothing else than this e\u{301}")).unwrap();
    let forced = all.forced().unwrap();
    assert_eq!(tokenizer.decode(&forced), "nothing else than this e\u{301}".as_bytes());
    assert!(all.must_end() && all.is_complete());
}

#[test]
fn special_tokens_are_never_text() {
    let tokenizer = tokenizer();
    for grammar in [regex("(?s:.*)"), schema(json!({ "type": "string" }))] {
        let mut matcher = Matcher::new(tokenizer, &grammar).unwrap();
        if let Grammar::JsonSchema(_) = grammar {
            matcher.accept(tokenizer.token_id("\"").unwrap()).unwrap();
        }
        let mask = matcher.mask().unwrap();
        let mut special = tokenizer.special_ids().filter(|&id| !tokenizer.is_end(id));
        assert_eq!(special.find(|&id| mask.allows(id)), None);
        assert!(mask.allows(tokenizer.token_id("a").unwrap()));
    }
}

/// A model without sense: any allowed token, all equally probable, the end as soon as it is allowed.
fn babble(
    tokenizer: &Tokenizer,
    grammar: &Grammar,
    mut choose: impl FnMut(usize) -> usize,
) -> Option<String> {
    let mut matcher = Matcher::new(tokenizer, grammar).unwrap();
    let mut answer = Vec::new();
    for _ in 0..400 {
        answer.extend(matcher.forced().unwrap());
        if matcher.is_complete() {
            return Some(String::from_utf8(tokenizer.decode(&answer)).unwrap());
        }
        let mask = matcher.mask().unwrap();
        let allowed: Vec<u32> = (0..tokenizer.vocab_size() as u32).filter(|&id| mask.allows(id)).collect();
        let token = allowed[choose(allowed.len())];
        matcher.accept(token).unwrap();
        answer.push(token);
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn nonsense_is_valid_too(choices in prop::collection::vec(any::<prop::sample::Index>(), 400)) {
        let person = person();
        let validator = jsonschema::validator_for(&person).unwrap();
        for tokenizer in [tokenizer(), toy_tokenizer()] {
            let mut choices = choices.iter();
            let answer = babble(tokenizer, &schema(person.clone()), |n| choices.next().unwrap().index(n));
            if let Some(answer) = answer {
                let value: Value = serde_json::from_str(&answer).unwrap();
                prop_assert!(validator.is_valid(&value), "{answer}");
            }
        }
    }

    #[test]
    fn rollback_is_as_if_nothing_had_been(
        choices in prop::collection::vec((any::<prop::sample::Index>(), 0usize..4), 1..25),
    ) {
        let tokenizer = toy_tokenizer();
        let grammar = schema(person());
        let mut matcher = Matcher::new(tokenizer, &grammar).unwrap();
        let mut accepted: Vec<u32> = Vec::new();
        for (choice, back) in choices {
            let mask = matcher.mask().unwrap().clone();
            let allowed: Vec<u32> = (0..tokenizer.vocab_size() as u32).filter(|&id| mask.allows(id)).collect();
            let token = *choice.get(&allowed);
            matcher.accept(token).unwrap();
            accepted.push(token);
            if !tokenizer.is_end(token) {
                accepted.extend(matcher.forced().unwrap());
            }
            let back = back.min(accepted.len());
            matcher.rollback(back).unwrap();
            accepted.truncate(accepted.len() - back);
            let mut fresh = Matcher::new(tokenizer, &grammar).unwrap();
            for &token in &accepted {
                fresh.accept(token).unwrap();
            }
            prop_assert_eq!(matcher.must_end(), fresh.must_end());
            prop_assert_eq!(matcher.is_complete(), fresh.is_complete());
            prop_assert_eq!(matcher.mask().unwrap(), fresh.mask().unwrap());
            if accepted.last().is_some_and(|&id| tokenizer.is_end(id)) {
                break;
            }
        }
    }
}

/// What a step with guesses pays for a state to try them on: both of its copies together take less than a thousandth
/// of a step of 50 ms.
#[test]
fn a_state_to_try_guesses_on_costs_microseconds() {
    let text = "{\"name\": \"".to_owned() + &"abcd".repeat(2);
    let free = "start: (/[^\\n]*/ \"\\n\")*\n";
    for (what, grammar, text) in [
        ("a schema", schema(person()), text),
        ("free lines", lark(free), "    let x = parse(&text, limit)?;\n".repeat(120)),
    ] {
        let mut matcher = Matcher::new(tokenizer(), &grammar).unwrap();
        for token in tokenizer().encode(&text, SpecialTokens::Plain).unwrap() {
            matcher.accept(token).unwrap();
        }
        matcher.mask().unwrap();
        let mut micros: Vec<f64> = (0..200)
            .map(|_| {
                let began = std::time::Instant::now();
                matcher.suppose(|copy| assert!(!copy.must_end())).unwrap();
                began.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        micros.sort_by(f64::total_cmp);
        println!("{what}, {} bytes: p50 {:.1} µs, p95 {:.1} µs", text.len(), micros[100], micros[190]);
        assert!(
            micros[100] < if cfg!(debug_assertions) { 1000.0 } else { 100.0 },
            "{what}: {} µs",
            micros[100]
        );
    }
}
