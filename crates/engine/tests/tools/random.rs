//! Calls of random weights and of no weights at all: every one is read, and valid under its schema.

use super::schemas::{bounded, fifty};
use super::*;
use coder_engine::{Engine, Finish, Limit, Mask, Matcher, Options, SamplerOptions, ToolChoice, ToolStream};
use jsonschema::Validator;

/// Generations of a test: few, unless more are asked for.
fn generations(few: usize) -> usize {
    std::env::var("CODER_TOOL_GENERATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(few)
}

/// Figures of many answers.
#[derive(Debug, Default)]
struct Figures {
    answers: usize,
    finished: usize,
    calls: usize,
    tokens: usize,
}

/// Holds every call of an answer to its schema.
fn judge(set: &ToolSet, validators: &[Validator], answer: &Answer, finished: bool, figures: &mut Figures) {
    figures.answers += 1;
    figures.finished += usize::from(finished);
    for (i, call) in answer.calls.iter().enumerate() {
        if !call.complete {
            assert!(
                !finished && i + 1 == answer.calls.len(),
                "only what was cut off is incomplete: {call:?}"
            );
            continue;
        }
        let tool = set.tools().iter().position(|tool| tool.name == call.name).expect("a declared name");
        let value: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|e| panic!("{e}: {call:?}"));
        let errors: Vec<String> = validators[tool].iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}: {call:?} for {}", set.tools()[tool].parameters);
        figures.calls += 1;
    }
    assert!(!finished || !answer.calls.is_empty());
}

fn validators(tools: &[Tool]) -> Vec<Validator> {
    tools.iter().map(|tool| jsonschema::validator_for(&tool.parameters).expect("a valid schema")).collect()
}

/// Show 2 of the server: random weights, temperature 1.5, fifty schemas, both formats. `CODER_TOOL_GENERATIONS=2000` runs
/// all of them.
///
/// Covers S3-23, S3-33.
#[test]
fn calls_of_random_weights_are_valid() {
    let tools: Vec<Tool> = fifty().iter().map(bounded).collect();
    let validators = validators(&tools);
    let models: Vec<_> = common::models()
        .into_iter()
        .filter(|path| {
            ["coder-tiny", "qwen2-Q8_0", "qwen3-Q4_K_M"]
                .iter()
                .any(|name| path.to_string_lossy().contains(name))
        })
        .collect();
    let each = generations(60).div_ceil(models.len() * 2);
    for format in [CallFormat::Json, CallFormat::Xml] {
        let mut figures = Figures::default();
        for (m, model) in models.iter().enumerate() {
            let mut options = Options::new(model);
            options.context = Some(1024);
            let engine = Engine::open(&options).expect("a model");
            for seed in 0..each {
                let seed = (seed + m * each) as u64;
                let first = seed as usize * 3 % tools.len();
                let shown: Vec<Tool> = (0..3).map(|k| tools[(first + k) % tools.len()].clone()).collect();
                let choice = match seed % 3 {
                    0 => ToolChoice::Named(shown[0].name.clone()),
                    _ => ToolChoice::Required,
                };
                let set = ToolSet::new(shown, format).and_then(|set| set.choice(choice)).expect("tools");
                let set = Arc::new(set.parallel(seed.is_multiple_of(4)));
                let sampler = SamplerOptions { temperature: 1.5, seed, ..SamplerOptions::default() };
                let request =
                    engine.prompt("call").expect("tokens").sampler(sampler).limit(Limit::UpTo(1000));
                let mut stream = ToolStream::new(engine.tokenizer(), &set, "s");
                let (mut answer, mut finished) = (Answer::default(), false);
                for event in engine.generate(request.tools(&set)).expect("a generation") {
                    let event = event.expect("an event");
                    answer.take(stream.read(&event));
                    if let coder_engine::Event::Done(summary) = event {
                        finished = summary.finish == Finish::Stop;
                        assert!(finished || summary.finish == Finish::Length);
                        figures.tokens += summary.usage.completion_tokens;
                    }
                }
                assert_eq!(answer.text, "");
                let own: Vec<Validator> =
                    (0..3).map(|k| validators[(first + k) % tools.len()].clone()).collect();
                judge(&set, &own, &answer, finished, &mut figures);
            }
        }
        println!("{format:?}: {figures:?}, all calls read and valid");
        // Random weights may never end a number, or never end calling.
        let most = figures.answers * 4 / 5;
        assert!(figures.finished >= most && figures.calls >= most, "{figures:?}");
    }
}

/// Free text that opens a call with the tag's token, through the engine: a stop string that waits does not hold it back.
#[test]
fn an_answer_opens_a_call_by_itself() {
    let mut options = Options::new(common::bundled());
    options.context = Some(512);
    let engine = Engine::open(&options).expect("a model");
    let tokenizer = engine.tokenizer();
    let tag = tokenizer.token_id("<tool_call>").expect("a token for the tag");
    let angle = tokenizer.token_id("<").expect("a token");
    for format in [CallFormat::Json, CallFormat::Xml] {
        let kind = json!({ "properties": { "kind": { "enum": ["a", "b"] } }, "required": ["kind"] });
        let set = Arc::new(ToolSet::new(vec![tool("choose", kind)], format).expect("tools").parallel(false));
        let run = |bias: Vec<(u32, f32)>, limit| {
            let sampler = SamplerOptions { logit_bias: bias, ..SamplerOptions::default() };
            let request = engine.prompt("call").expect("tokens").sampler(sampler).limit(Limit::UpTo(limit));
            let request = request.stop(vec!["<<<<stop".to_owned(), ">>>".to_owned()]).tools(&set);
            let mut stream = ToolStream::new(tokenizer, &set, "s");
            let mut answer = Answer::default();
            for event in engine.generate(request).expect("a generation") {
                answer.take(stream.read(&event.expect("an event")));
            }
            answer
        };
        let answer = run(vec![(tag, 100.0)], 200);
        let (name, arguments) = answer.only();
        assert!(
            name == "choose" && ["a", "b"].map(|kind| json!({ "kind": kind })).contains(&arguments),
            "{answer:?}"
        );
        assert_eq!(answer.text, "");
        // Text that is not a call stays text, and one that is cut off is not whole.
        assert_eq!(run(vec![(angle, 100.0)], 3).text, "<<<");
        assert!(run(vec![(tag, 100.0)], 6).calls.iter().all(|call| !call.complete));
    }
}

/// A generator of numbers, xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// What an answer that wants to be misread writes.
const HOSTILE: &[&str] = &[
    "</parameter>",
    "\n</parameter>\n",
    "\n</parameter>\n<parameter=",
    "</function>",
    "</tool_call>",
    "<tool_call>",
    "\"",
    "\\",
    "null",
    "true",
    "-1.5e3",
    "{\"a\": [",
    "]}",
    "\n\n",
    "é\u{1F600}",
    "<think>",
    "```",
    " 7 ",
];

/// What ends values and calls.
const ENDS: &[&str] = &["\n</parameter>\n</function>", "\"", "]", "}", "\"}", "\n</parameter>\n<parameter="];

/// An answer of tokens that are drawn without any model; whether it ended.
fn babble(tokenizer: &Tokenizer, set: &Arc<ToolSet>, begin: &[u32], random: &mut Random) -> (Vec<u32>, bool) {
    let mut matcher = Matcher::new(tokenizer, &set.grammar().expect("a grammar")).expect("it compiles");
    let mut tokens = Vec::new();
    for &token in begin {
        matcher.accept(token).expect("free text");
        tokens.push(token);
    }
    while tokens.len() < 600 {
        tokens.extend(matcher.forced().expect("forced tokens"));
        if matcher.must_end() || matcher.is_complete() && random.below(3) > 0 {
            return (tokens, true);
        }
        if random.below(4) == 0 || tokens.len() > 80 {
            let from = if tokens.len() > 80 { ENDS } else { HOSTILE };
            let text = from[random.below(from.len())];
            let written = tokenizer.encode(text, SpecialTokens::Parse).expect("tokens");
            for token in written {
                if !matcher.mask().expect("a mask").allows(token) || tokenizer.is_end(token) {
                    break;
                }
                matcher.accept(token).expect("the mask allows it");
                tokens.push(token);
            }
        }
        if matcher.must_end() {
            return (tokens, true);
        }
        let mask: &Mask = matcher.mask().expect("a mask");
        let allowed: Vec<u32> = (0..tokenizer.vocab_size() as u32)
            .filter(|&id| mask.allows(id) && !tokenizer.is_end(id))
            .collect();
        if allowed.is_empty() {
            return (tokens, true);
        }
        if tokens.len() < 80 || random.below(8) == 0 {
            let token = allowed[random.below(allowed.len())];
            matcher.accept(token).expect("the mask allows it");
            tokens.push(token);
        }
    }
    (tokens, false)
}

/// Reads tokens as the engine gives them out.
fn read_tokens(tokenizer: &Tokenizer, set: &Arc<ToolSet>, tokens: &[u32]) -> Answer {
    let tag = tokenizer.token_id("<tool_call>");
    let mut reader = ToolReader::new(set.clone(), tag.is_some(), "s");
    let mut answer = Answer::default();
    for (i, part) in tokens.split(|token| Some(*token) == tag).enumerate() {
        if i > 0 {
            answer.take(reader.tag());
        }
        answer.take(reader.push(&String::from_utf8_lossy(&tokenizer.decode(part))));
    }
    answer.take(reader.finish());
    answer
}

#[test]
fn calls_of_hostile_tokens_are_valid() {
    let (small, smallest) = (bundled(), without_tag());
    let vocabularies: Vec<&Tokenizer> = [tokenizer(), &small].into_iter().chain(&smallest).collect();
    let tools = fifty();
    let validators = validators(&tools);
    let mut random = Random(0x7001);
    for format in [CallFormat::Json, CallFormat::Xml] {
        let mut figures = Figures::default();
        for i in 0..generations(120) {
            let tokenizer = vocabularies[i % vocabularies.len()];
            let first = i % tools.len();
            let shown = vec![tools[first].clone(), tools[(first + 1) % tools.len()].clone()];
            let mut set = ToolSet::new(shown, format).expect("tools").parallel(i % 3 == 0);
            let mut begin = Vec::new();
            if i % 4 == 0 {
                set = set.choice(ToolChoice::Required).expect("tools");
            } else {
                let prose =
                    ["", "I look.\n", "<think>\n<function=x>\n</think>\n\n", "Tags `<tool_call>` are\n\n"];
                begin = tokenizer.encode(prose[i % prose.len()], SpecialTokens::Plain).expect("tokens");
                match tokenizer.token_id("<tool_call>") {
                    Some(tag) => begin.push(tag),
                    None => {
                        begin.extend(tokenizer.encode("<tool_call>\n", SpecialTokens::Plain).expect("tokens"))
                    }
                }
            }
            let set = Arc::new(set);
            let (tokens, finished) = babble(tokenizer, &set, &begin, &mut random);
            figures.tokens += tokens.len();
            let answer = read_tokens(tokenizer, &set, &tokens);
            let own = [first, (first + 1) % tools.len()].map(|k| validators[k].clone());
            judge(&set, &own, &answer, finished, &mut figures);
        }
        println!("{format:?}: {figures:?}, all calls read and valid");
        assert!(figures.finished * 10 >= figures.answers * 9, "{figures:?}");
    }
}
