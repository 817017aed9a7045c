//! `coder tokenize` and `coder render`: the text side of a model, without its weights.

use std::path::PathBuf;

use clap::Args;
use coder_engine::{ChatTemplate, Message, SpecialTokens, TextModel};
use serde_json::{Value, json};

use crate::args::{self, read_json, read_text};
use crate::ask;
use crate::audit;
use crate::failure::{Failure, Outcome};
use crate::named;
use crate::output::Output;

/// Print the token ids of a text
#[derive(Args, Debug)]
#[command(after_help = TOKENIZE_EXAMPLES)]
pub(crate) struct TokenizeArgs {
    /// GGUF file (also one without tensors), folder with tokenizer.json, or a name [default: as for coder ask]
    #[arg(long, value_name = "MODEL", value_parser = args::model())]
    model: Option<String>,
    /// The text; without it, standard input. Several files give one line each
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Treat names of special tokens such as <|im_end|> as plain text
    #[arg(long)]
    plain: bool,
    /// Print bytes and tokens of files, and of the files in folders, in place of token ids; without --model, a token is
    /// taken to be 4 bytes
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with_all = ["file", "plain"])]
    audit: Vec<PathBuf>,
    /// With --audit: exit 1 if it is more than quick (2,000 tokens in 5 files), medium (8,000 in 15), thorough (32,000 in 40),
    /// or a number of tokens
    #[arg(long, value_name = "TIER|N", requires = "audit", value_parser = audit::budget)]
    budget: Option<audit::Budget>,
    /// With --audit: print JSON
    #[arg(long, requires = "audit")]
    json: bool,
}

const TOKENIZE_EXAMPLES: &str = "Examples:
  echo -n 'fn main() {}' | coder tokenize            {\"ids\":[…],\"count\":7}
  coder tokenize --model qwen2.5-coder-7b.gguf --file src/main.rs
  coder tokenize --file a.rs --file b.rs             one line per file
  coder tokenize --audit CLAUDE.md .claude --budget medium";

pub(crate) fn tokenize(args: TokenizeArgs) -> Outcome {
    if !args.audit.is_empty() {
        let model = args.model.as_deref().map(|model| open(Some(model))).transpose()?;
        return audit::run(&args.audit, model.as_ref().map(|model| &model.tokenizer), args.budget, args.json);
    }
    let texts = if args.file.is_empty() {
        vec![
            ask::input(None, None)?
                .ok_or_else(|| Failure::new("no text; provide --file or pipe standard input"))?,
        ]
    } else {
        args.file.iter().map(|path| read_text(path)).collect::<Outcome<_>>()?
    };
    let tokenizer = open(args.model.as_deref())?.tokenizer;
    let special = if args.plain { SpecialTokens::Plain } else { SpecialTokens::Parse };
    let mut out = Output::new();
    for text in texts {
        let ids = tokenizer.encode(&text, special)?;
        out.json(&json!({ "ids": ids, "count": ids.len() }))?;
    }
    Ok(())
}

/// Print a conversation as the model reads it
#[derive(Args, Debug)]
#[command(after_help = RENDER_EXAMPLES)]
pub(crate) struct RenderArgs {
    /// GGUF file (also one without tensors), folder with tokenizer_config.json, or a name [default: as for coder ask]
    #[arg(long, value_name = "MODEL", value_parser = args::model())]
    model: Option<String>,
    /// JSON: a list of messages {role, content}, or an object {messages, tools}
    messages: PathBuf,
    /// JSON: a list of tool definitions
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,
    /// Jinja file to use in place of the model's own chat template
    #[arg(long, value_name = "FILE")]
    chat_template: Option<PathBuf>,
    /// Set a variable of the template, such as enable_thinking=false; may be given several times
    #[arg(long, value_name = "NAME=JSON", value_parser = variable)]
    set: Vec<(String, Value)>,
    /// Leave out the beginning of the answer
    #[arg(long)]
    no_generation_prompt: bool,
}

const RENDER_EXAMPLES: &str = "Examples:
  echo '[{\"role\": \"user\", \"content\": \"hi\"}]' > messages.json
  coder render messages.json
  coder render --model qwen3-8b.gguf messages.json --tools tools.json
  coder render --model qwen3-8b.gguf messages.json --set enable_thinking=false
  coder render messages.json --chat-template a.jinja --no-generation-prompt";

pub(crate) fn render(args: RenderArgs) -> Outcome {
    let (messages, mut tools) = conversation(read_json(&args.messages)?)
        .map_err(|problem| Failure::new(format!("`{}`: {problem}", args.messages.display())))?;
    if let Some(path) = &args.tools {
        tools =
            Some(list(read_json(path)?).ok_or_else(|| {
                Failure::new(format!("`{}`: not a list of tool definitions", path.display()))
            })?);
    }
    let model = open(args.model.as_deref())?;
    let template = match &args.chat_template {
        Some(path) => ChatTemplate::new(&read_text(path)?, model.tokenizer.template_variables())?,
        None => model
            .template
            .ok_or_else(|| Failure::new("the model has no chat template; give one with --chat-template"))?,
    };
    let variables = args.set.into_iter().collect();
    let text = template.render(&messages, tools.as_deref(), !args.no_generation_prompt, &variables)?;
    let mut out = Output::new();
    out.text(&text)?;
    if out.is_terminal() {
        out.end_line()?;
    }
    Ok(())
}

/// A value that is no JSON is text.
fn variable(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=JSON")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_string()));
    Ok((name.to_string(), value))
}

/// Messages and tools of a list of messages or of a request to a chat API.
fn conversation(value: Value) -> Result<(Vec<Message>, Option<Vec<Value>>), String> {
    let (messages, tools) = match value {
        Value::Object(mut object) => {
            let messages = object.remove("messages").ok_or("an object without `messages`")?;
            (messages, object.remove("tools").and_then(list))
        }
        value => (value, None),
    };
    Ok((serde_json::from_value(messages).map_err(|error| error.to_string())?, tools))
}

fn list(value: Value) -> Option<Vec<Value>> {
    if let Value::Array(values) = value { Some(values) } else { None }
}

fn open(model: Option<&str>) -> Outcome<TextModel> {
    Ok(TextModel::open(&named::source(model)?.0)?)
}
