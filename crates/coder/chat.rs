//! `coder chat`: a conversation in the terminal. Earlier turns stay in the engine's cache.

use std::path::PathBuf;

use clap::Args;
use coder_engine::{Engine, Message};
use coder_tasks::workspace::make_private;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::answer;
use crate::args::{ModelArgs, SamplingArgs};
use crate::bundled;
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress;
use crate::state::state_folder;

/// Talk with a model in the terminal
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ChatArgs {
    /// What the model is told to be
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

const EXAMPLES: &str = "Examples:
  coder chat
  coder chat --model qwen2.5-coder-7b.gguf --system 'You answer in one sentence'

Ctrl-C stops the answer, Ctrl-D ends the conversation, arrow keys edit and recall lines.
A line that ends with \\ goes on in the next one. In the conversation, /help lists the commands.";

const HELP: &str = "/help           this list
/clear          forget the conversation
/system TEXT    tell the model what to be, from now on; without TEXT, nothing
/exit           end (or Ctrl-D)";

pub(crate) fn run(args: ChatArgs) -> Outcome {
    let (options, name) = args.model.options()?;
    let interrupt = Interrupt::install()?;
    let engine = progress::open(&options, &name)?;
    bundled::note(args.model.model.as_deref(), &name);
    eprintln!("{name}; /help for commands, Ctrl-D to end");
    let mut lines = Lines::open()?;
    let mut talk = Talk { engine, sampling: args.sampling, system: args.system, turns: Vec::new() };
    while let Some(line) = lines.next()? {
        match Input::parse(&line) {
            Input::Nothing => {}
            Input::Exit => break,
            Input::Help => eprintln!("{HELP}"),
            Input::Clear => talk.turns.clear(),
            Input::System(text) => talk.system = text.map(str::to_string),
            Input::Unknown(command) => eprintln!("error: no command `{command}`; /help lists them"),
            Input::Text(text) => talk.turn(text, &interrupt)?,
        }
    }
    Ok(())
}

/// What a line asks for.
#[derive(Debug, PartialEq)]
enum Input<'a> {
    Nothing,
    Exit,
    Help,
    Clear,
    System(Option<&'a str>),
    Unknown(&'a str),
    Text(&'a str),
}

impl<'a> Input<'a> {
    fn parse(line: &'a str) -> Self {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "" => Self::Nothing,
            "/exit" | "/quit" => Self::Exit,
            "/help" => Self::Help,
            "/clear" => Self::Clear,
            "/system" => Self::System(Some(rest.trim()).filter(|rest| !rest.is_empty())),
            // A path or a comment may begin a question: `/etc/hosts is …`, `// what is …`.
            _ if word.starts_with('/')
                && word[1..].chars().all(|c| c.is_ascii_lowercase())
                && word.len() > 1 =>
            {
                Self::Unknown(word)
            }
            _ => Self::Text(line),
        }
    }
}

struct Talk {
    engine: Engine,
    sampling: SamplingArgs,
    system: Option<String>,
    turns: Vec<Message>,
}

impl Talk {
    /// One question and its answer. An error of the engine leaves the conversation as it was.
    fn turn(&mut self, text: &str, interrupt: &Interrupt) -> Outcome {
        let mut messages: Vec<_> = self.system.iter().map(|text| Message::new("system", text)).collect();
        messages.extend(self.turns.iter().cloned());
        messages.push(Message::new("user", text));
        let request = self.engine.chat(&messages).map(|request| self.sampling.apply(request));
        let generation = match request.and_then(|request| self.engine.generate(request)) {
            Ok(generation) => generation,
            Err(error) => {
                eprintln!("error: {error} (/clear forgets the conversation)");
                return Ok(());
            }
        };
        let mut out = Output::new();
        let answer = answer::receive(generation, interrupt, Some(&mut out))?;
        out.end_line()?;
        if answer.interrupted {
            eprintln!("(stopped)");
        } else {
            answer.check(false)?;
        }
        // What was said stays said, also if it was stopped: the user may refer to it.
        self.turns.push(Message::new("user", text));
        self.turns.push(Message::new("assistant", answer.text));
        Ok(())
    }
}

/// Lines of the user, edited and remembered.
struct Lines {
    editor: DefaultEditor,
    history: Option<PathBuf>,
}

impl Lines {
    fn open() -> Outcome<Self> {
        let mut editor = DefaultEditor::new().map_err(Failure::new)?;
        let history = history_file();
        if let Some(path) = &history {
            // The first conversation has no history yet.
            let _ = editor.load_history(path);
        }
        Ok(Self { editor, history })
    }

    /// The next line, or nothing at the end. A backslash at the end of a line joins it with the next one.
    fn next(&mut self) -> Outcome<Option<String>> {
        let mut text = String::new();
        loop {
            match self.editor.readline(if text.is_empty() { "> " } else { ". " }) {
                Ok(line) => {
                    if let Some(part) = line.strip_suffix('\\') {
                        text.push_str(part);
                        text.push('\n');
                        continue;
                    }
                    text.push_str(&line);
                    self.remember(&text);
                    return Ok(Some(text));
                }
                Err(ReadlineError::Interrupted) => {
                    text.clear();
                    eprintln!("(Ctrl-D ends the conversation)");
                }
                Err(ReadlineError::Eof) if text.is_empty() => return Ok(None),
                Err(ReadlineError::Eof) => return Ok(Some(text)),
                Err(ReadlineError::Io(error)) => return Err(error.into()),
                Err(error) => return Err(Failure::new(error)),
            }
        }
    }

    fn remember(&mut self, line: &str) {
        let added = self.editor.add_history_entry(line).unwrap_or(false);
        if let Some(path) = self.history.as_ref().filter(|_| added) {
            // A conversation goes on without its history.
            let _ = self.editor.append_history(path);
        }
    }
}

/// `coder/history` in the user's state folder, which is made if need be.
fn history_file() -> Option<PathBuf> {
    let folder = state_folder()?;
    make_private(&folder).ok()?;
    Some(folder.join("history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_or_text() {
        assert_eq!(Input::parse("  "), Input::Nothing);
        assert_eq!(Input::parse("/exit"), Input::Exit);
        assert_eq!(Input::parse("/system be brief "), Input::System(Some("be brief")));
        assert_eq!(Input::parse("/system"), Input::System(None));
        assert_eq!(Input::parse("/frobnicate now"), Input::Unknown("/frobnicate"));
        assert_eq!(Input::parse("/etc/hosts is empty, why?"), Input::Text("/etc/hosts is empty, why?"));
        assert_eq!(Input::parse("// what is this?"), Input::Text("// what is this?"));
        assert_eq!(Input::parse(" hi "), Input::Text("hi"));
    }
}
