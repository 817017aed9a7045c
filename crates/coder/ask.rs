//! `coder ask`: one question, one answer (S2-20 to S2-23) by a model in this process, in place of the request of S2-24.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use coder_engine::{Engine, Message, Request};

use crate::answer;
use crate::args::{GrammarArgs, ModelArgs, SamplingArgs, read_text};
use crate::bundled;
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress;
use crate::related::ShowRelatedArgs;

/// Ask one question and print the answer
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AskArgs {
    /// What the model is told to be, before the question
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// The question; before --file, before standard input
    #[arg(long, value_name = "TEXT")]
    user: Option<String>,
    /// File that holds the question
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    related: ShowRelatedArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    grammar: GrammarArgs,
    #[command(flatten)]
    shown: ShownArgs,
}

const EXAMPLES: &str = "Examples:
  coder ask --user 'What does EINTR mean?'
  git diff | coder ask --system 'Review this diff' --max-tokens 400
  coder ask --user 'Who writes the ledger?' --related .
  coder ask --file ticket.md --regex 'BUG|FEAT|TASK'
  coder ask --user 'A person' --json-schema person.json --seed 7 --temperature 1
  coder ask --user hello --json              {text, finish, usage, timings}";

/// How the answer is printed.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct ShownArgs {
    /// Print the answer when it is complete, not as it comes
    #[arg(long)]
    no_stream: bool,
    /// Print one JSON object: text, finish, usage, timings
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: AskArgs) -> Outcome {
    let user = question(args.user.as_deref(), args.file.as_deref())?
        .ok_or_else(|| Failure::exact("Error: provide --user, --file, or pipe stdin"))?;
    let mut messages = Vec::new();
    if let Some(system) = args.system.as_deref().filter(|system| !system.is_empty()) {
        messages.push(Message::new("system", system));
    }
    answer(&args.model, &args.sampling, &args.grammar, &args.shown, true, |engine| {
        messages.push(Message::new("user", args.related.before(&user, engine)?));
        Ok(engine.chat(&messages)?)
    })
}

/// Opens the model, makes the request, prints the answer. `whole_lines` ends the answer with a newline.
pub(crate) fn answer(
    model: &ModelArgs,
    sampling: &SamplingArgs,
    grammar: &GrammarArgs,
    shown: &ShownArgs,
    whole_lines: bool,
    request: impl FnOnce(&Engine) -> Outcome<Request>,
) -> Outcome {
    let grammar = grammar.grammar()?;
    let constrained = grammar.is_some();
    let (options, name) = model.options()?;
    let interrupt = Interrupt::install()?;
    let engine = progress::open(&options, &name)?;
    let generation = engine.generate(sampling.apply(request(&engine)?).grammar(grammar))?;
    if !shown.json {
        bundled::note(model.model.as_deref(), &name);
    }
    let mut out = Output::new();
    let stream = !shown.json && !shown.no_stream;
    let answer = answer::receive(generation, &interrupt, stream.then_some(&mut out))?;
    if shown.json {
        out.json(&answer.json())?;
    } else {
        if !stream {
            out.text(&answer.text)?;
        }
        if whole_lines || out.is_terminal() {
            out.end_line()?;
        }
    }
    answer.check(constrained)
}

/// The text to work on: the argument, the file if there is one, or what is piped in. Newlines at the end are
/// the file's, not the question's.
pub(crate) fn question(text: Option<&str>, file: Option<&Path>) -> Outcome<Option<String>> {
    let found = input(text, file)?.map(|text| text.trim_end_matches(['\n', '\r']).to_string());
    Ok(found.filter(|text| !text.is_empty()))
}

/// As [`question`], but every byte counts.
pub(crate) fn input(text: Option<&str>, file: Option<&Path>) -> Outcome<Option<String>> {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        return Ok(Some(text.to_string()));
    }
    if let Some(path) = file.filter(|path| path.exists()) {
        return read_text(path).map(Some);
    }
    let mut stdin = io::stdin();
    if stdin.is_terminal() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    stdin.read_to_end(&mut bytes).map_err(|error| Failure::new(format!("standard input: {error}")))?;
    // It is as S2-22 has it, and may not be what was meant.
    if let Some(path) = file.filter(|_| !bytes.is_empty()) {
        eprintln!("warning: `{}` is not there; what is piped in is taken", path.display());
    }
    let text =
        String::from_utf8(bytes).map_err(|_| Failure::new("standard input: not UTF-8; convert it first"))?;
    Ok(Some(text))
}

/// Other programs know the words and the code 1 of an unknown argument of `ask` (S2-23); says them and returns 1.
pub(crate) fn unknown_argument(args: &[OsString], error: &clap::Error) -> Option<u8> {
    if error.kind() != ErrorKind::UnknownArgument || args.get(1)? != "ask" {
        return None;
    }
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidArg) else { return None };
    // clap names `--x` where `--x=1` was given.
    let given =
        args.iter().map(|arg| arg.to_string_lossy()).skip(2).find(|arg| arg.starts_with(name.as_str()));
    Some(Failure::exact(&format!("Unknown arg: {}", given.as_deref().unwrap_or(name))).report())
}
