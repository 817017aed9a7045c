//! Link the engine: open a model, ask, stream the tokens, hold the answer to a JSON Schema.
//!
//! Run it with `cargo run --example embed`, or with the path of another model.
use coder_engine::{Engine, Event, Grammar, Message, Options};
use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).unwrap_or("models/coder-tiny.gguf".into());
    let engine = Engine::open(&Options::new(model))?;

    let question = Message::new("user", "Write a Python function `double` that returns `x` multiplied by 2.");
    for event in engine.generate(engine.chat(&[question])?)? {
        match event? {
            Event::Prefill { .. } => {}
            Event::Token(token) => {
                print!("{}", token.text);
                std::io::stdout().flush()?;
            }
            Event::Done(summary) => println!("{}", summary.text),
        }
    }

    let schema = serde_json::json!({ "enum": ["BUG", "FEAT", "TASK"] });
    let question = Message::new("user", "Classify this ticket: Add a login button.");
    let request = engine.chat(&[question])?.grammar(Grammar::JsonSchema(schema));
    println!("{}", engine.generate(request)?.finish()?.text);
    Ok(())
}
