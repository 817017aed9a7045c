//! Fifty schemas, random weights, both dialects, both formats of calls: every call that is complete is read and valid.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use coder_engine::Tool;
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::support::{Running, random_models};

/// A tool of these parameters, as the list of them wants it.
fn tool(name: &str, parameters: Value) -> Tool {
    Tool::new(name, None, Some(parameters)).expect("a tool")
}

#[path = "../../../engine/tests/tools/schemas.rs"]
mod schemas;

/// Requests that are open at a time.
const TOGETHER: usize = 8;

/// Figures of many answers.
#[derive(Debug, Default)]
struct Figures {
    answers: usize,
    finished: usize,
    calls: usize,
}

/// What an answer had: name, arguments and whether it ended by itself.
struct Heard {
    calls: Vec<(String, String)>,
    finished: bool,
}

fn openai(running: &Running, seed: usize, tools: &[Tool], named: bool) -> Heard {
    let tool = |tool: &Tool| json!({ "type": "function", "function": { "name": tool.name, "parameters": tool.parameters } });
    let choice = json!({ "type": "function", "function": { "name": tools[0].name } });
    let body = json!({
        "messages": [{ "role": "user", "content": "call" }], "temperature": 1.5, "seed": seed, "max_tokens": 1000,
        "tools": tools.iter().map(tool).collect::<Vec<_>>(), "parallel_tool_calls": seed.is_multiple_of(4),
        "tool_choice": if named { choice } else { json!("required") },
    });
    let reply = running.post("/v1/chat/completions", &body);
    assert_eq!(reply.status, 200, "{}", reply.body);
    let choice = reply.json()["choices"][0].clone();
    let calls = choice["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let call = |call: &Value| (text(&call["function"]["name"]), text(&call["function"]["arguments"]));
    Heard { calls: calls.iter().map(call).collect(), finished: choice["finish_reason"] == "tool_calls" }
}

fn anthropic(running: &Running, seed: usize, tools: &[Tool], named: bool) -> Heard {
    let tool = |tool: &Tool| json!({ "name": tool.name, "input_schema": tool.parameters });
    let mut choice = match named {
        true => json!({ "type": "tool", "name": tools[0].name }),
        false => json!({ "type": "any" }),
    };
    choice["disable_parallel_tool_use"] = (!seed.is_multiple_of(4)).into();
    let body = json!({
        "model": "claude-x", "messages": [{ "role": "user", "content": format!("call {seed}") }], "temperature": 1.5,
        "max_tokens": 1000, "tools": tools.iter().map(tool).collect::<Vec<_>>(), "tool_choice": choice,
    });
    let reply = running.post("/v1/messages", &body);
    assert_eq!(reply.status, 200, "{}", reply.body);
    let message = reply.json();
    let blocks = message["content"].as_array().expect("a list").iter();
    let call =
        |block: &Value| (block["name"].as_str().expect("a name").to_owned(), block["input"].to_string());
    let calls = blocks.filter(|block| block["type"] == "tool_use").map(call).collect();
    Heard { calls, finished: message["stop_reason"] == "tool_use" }
}

/// Holds every complete call of an answer to its schema; of one that was cut off, the last call is not.
fn judge(
    Heard { mut calls, finished }: Heard,
    tools: &[Tool],
    validators: &[Validator],
    figures: &Mutex<Figures>,
) {
    if !finished {
        calls.pop();
    }
    for (name, arguments) in &calls {
        let tool = tools.iter().position(|tool| tool.name == *name).expect("a declared name");
        let value: Value = serde_json::from_str(arguments).unwrap_or_else(|e| panic!("{e}: {arguments}"));
        let errors: Vec<String> = validators[tool].iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}: {arguments} for {}", tools[tool].parameters);
    }
    assert!(!finished || !calls.is_empty());
    let mut figures = figures.lock().expect("whole figures");
    figures.answers += 1;
    figures.finished += usize::from(finished);
    figures.calls += calls.len();
}

/// `CODER_TOOL_GENERATIONS=2000` asks for as many answers; in the ordinary suite there are a few.
///
/// Covers S3-22, S3-23, S3-24, S3-33.
#[test]
fn calls_of_random_weights_are_valid_in_both_dialects() {
    let tools: Vec<Tool> = schemas::fifty().iter().map(schemas::bounded).collect();
    let validators: Vec<Validator> =
        tools.iter().map(|tool| jsonschema::validator_for(&tool.parameters).expect("a schema")).collect();
    let all = std::env::var("CODER_TOOL_GENERATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(48usize);
    let servers = random_models();
    for (format, running) in &servers {
        for (dialect, ask) in [("OpenAI", openai as fn(&_, _, &_, _) -> _), ("Anthropic", anthropic)] {
            let (figures, next) = (Mutex::new(Figures::default()), AtomicUsize::new(0));
            let work = || {
                while let seed = next.fetch_add(1, Ordering::Relaxed)
                    && seed < all.div_ceil(4)
                {
                    // More would not fit into the context of a model with a token for each byte.
                    let (count, at) = (1 + seed % 2, |k: usize| (seed * 3 + k) % tools.len());
                    let shown: Vec<Tool> = (0..count).map(|k| tools[at(k)].clone()).collect();
                    let own: Vec<Validator> = (0..count).map(|k| validators[at(k)].clone()).collect();
                    judge(ask(running, seed, &shown, seed.is_multiple_of(3)), &shown, &own, &figures);
                }
            };
            std::thread::scope(|scope| (0..TOGETHER).for_each(|_| drop(scope.spawn(work))));
            let figures = figures.into_inner().expect("whole figures");
            println!("{dialect}, {format}: {figures:?}, all calls read and valid");
            // Random weights may never end a number, or never end calling.
            assert!(figures.finished >= figures.answers * 4 / 5, "{figures:?}");
        }
    }
}
