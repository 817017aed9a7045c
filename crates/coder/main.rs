//! The `coder` command: local code models that do real work.
//!
//! This file reads the command line, hands it to one file per command and turns the outcome into an exit code.
//! It is the only crate that knows all the others.
#![forbid(unsafe_code)]

// Before the others, whose macros these are.
#[macro_use]
mod stderr;

mod answer;
mod args;
mod ask;
mod audit;
mod bench;
#[cfg(feature = "serve")]
mod board;
mod bundled;
mod chat;
mod check;
mod cloud;
mod complete;
mod config;
mod doctor;
mod facts;
mod failure;
mod fit;
#[cfg(all(feature = "cloud", feature = "serve"))]
mod forward;
mod here;
mod interrupt;
mod jobs;
mod ledger;
mod live;
mod logits;
mod machine;
mod models;
mod named;
mod names;
mod npy;
mod output;
mod plan;
mod progress;
mod prompting;
mod published;
#[cfg(feature = "pull")]
mod pull;
mod quantize;
mod related;
mod report;
mod rm;
mod run;
mod rungs;
mod sandbox;
mod screen;
#[cfg(feature = "serve")]
mod serve;
mod show;
mod state;
mod stats;
mod table;
mod text;
mod undo;
mod writer;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use failure::Outcome;

/// Local code models that do real work: they run inside this process, with no server and no network.
#[derive(Parser)]
#[command(name = "coder", version, max_term_width = 100, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  coder run task.md              draft the edit, write it, verify it
  coder run plan/ --jobs 4       tasks in git worktrees, one commit each
  coder check task.md            is it one for a local model, and why
  coder undo                     take the last task back
  coder pull qwen2.5-coder:7b    get a model; coder models --all lists them
  coder related 'lock order'     passages of a project that belong to it
  coder ask --user 'Explain mmap in one line'
  git diff | coder ask --system 'Write a commit message'
  coder serve                    the APIs of OpenAI and Anthropic, from here
  coder doctor                   what this machine can run

Without --model, the local model of coder config answers, or the small bundled one, so every command works on a fresh machine.
Results go to standard output, everything else to standard error.
Exit code: 0 done, 1 not done, 2 bad usage.";

#[derive(Subcommand)]
enum Command {
    Run(run::RunArgs),
    Plan(plan::PlanArgs),
    Check(check::CheckArgs),
    Undo(undo::UndoArgs),
    Stats(stats::StatsArgs),
    Config(config::ConfigArgs),
    Related(related::RelatedArgs),
    Ask(ask::AskArgs),
    Complete(complete::CompleteArgs),
    Chat(chat::ChatArgs),
    #[cfg(feature = "serve")]
    Serve(serve::ServeArgs),
    Bench(bench::BenchArgs),
    Tokenize(text::TokenizeArgs),
    Render(text::RenderArgs),
    Logits(logits::LogitsArgs),
    #[cfg(feature = "pull")]
    Pull(pull::PullArgs),
    Models(models::ModelsArgs),
    Show(show::ShowArgs),
    Rm(rm::RmArgs),
    Quantize(quantize::QuantizeArgs),
    Fit(fit::FitArgs),
    Doctor(doctor::DoctorArgs),
    /// Print a shell's completion script
    #[command(
        after_help = "Examples:\n  coder completions bash > ~/.local/share/bash-completion/completions/coder\n  \
                            coder completions zsh > ~/.zfunc/_coder\n  \
                            coder completions fish > ~/.config/fish/completions/coder.fish\n\n\
                            The folder must be there (mkdir -p). zsh looks into ~/.zfunc once ~/.zshrc has\n  \
                            fpath+=~/.zfunc; autoload -U compinit; compinit"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some((_, [word, rest @ ..])) = args.split_first()
        && word == sandbox::LAUNCHER
    {
        let rest: Vec<String> = rest.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        return coder_tasks::verify::launch(&rest);
    }
    let parsed = command().try_get_matches_from(&args);
    let parsed = parsed.and_then(|mut found| Cli::from_arg_matches_mut(&mut found));
    let outcome = match parsed.map_err(|error| error.format(&mut command())) {
        Ok(cli) => dispatch(cli.command),
        Err(error) => {
            return ExitCode::from(ask::unknown_argument(&args, &error).unwrap_or_else(|| usage(&error)));
        }
    };
    ExitCode::from(outcome.map_or_else(|failure| failure.report(), |()| 0))
}

/// The command line. Its help is as wide as the terminal.
fn command() -> clap::Command {
    fn flowing(mut command: clap::Command) -> clap::Command {
        if let Some(help) = command.get_after_help().map(|help| paragraphs(&help.to_string())) {
            command = command.after_help(help);
        }
        if let Some(help) = command.get_after_long_help().map(|help| paragraphs(&help.to_string())) {
            command = command.after_long_help(help);
        }
        command.mut_subcommands(flowing)
    }
    flowing(Cli::command())
}

/// Prose that has lines because its source has: they become one, which clap breaks where the terminal ends. Examples and
/// lists are indented, or have short lines, and stay as they are.
fn paragraphs(text: &str) -> String {
    /// Bytes of a line that was broken for its length.
    const LONG: usize = 80;
    let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
    let lines: Vec<&str> = text.lines().collect();
    let ends = lines.windows(2).map(|pair| match pair {
        [line, next] if line.len() >= LONG && is_prose(line) && is_prose(next) => " ",
        _ => "\n",
    });
    lines.iter().zip(ends.chain([""])).flat_map(|(line, end)| [*line, end]).collect()
}

fn dispatch(command: Command) -> Outcome {
    match command {
        Command::Run(args) => run::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Check(args) => check::run(args),
        Command::Undo(args) => undo::run(args),
        Command::Stats(args) => stats::run(args),
        Command::Config(args) => config::run(args),
        Command::Related(args) => related::run(args),
        Command::Ask(args) => ask::run(args),
        Command::Complete(args) => complete::run(args),
        Command::Chat(args) => chat::run(args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Tokenize(args) => text::tokenize(args),
        Command::Render(args) => text::render(args),
        Command::Logits(args) => logits::run(args),
        #[cfg(feature = "pull")]
        Command::Pull(args) => pull::run(args),
        Command::Models(args) => models::run(args),
        Command::Show(args) => show::run(args),
        Command::Rm(args) => rm::run(args),
        Command::Quantize(args) => quantize::run(args),
        Command::Fit(args) => fit::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions { shell } => completions(shell),
    }
}

/// Help and version go to standard output with code 0; everything else is bad usage.
fn usage(error: &clap::Error) -> u8 {
    // A reader that has gone away is no reason to complain.
    let _ = error.print();
    if error.use_stderr() { 2 } else { 0 }
}

/// Into memory first: clap panics when it writes to a closed pipe.
fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "coder", &mut script);
    Ok(output::Output::new().bytes(&script)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn prose_flows_and_examples_stay() {
        let long = format!("It is {} and", "so ".repeat(30));
        let example = format!("  coder {long}");
        assert_eq!(
            paragraphs(&format!("{long}\ngoes on.\nShort.\n\n{long}")),
            format!("{long} goes on.\nShort.\n\n{long}")
        );
        for text in [format!("{example}\n{example}\nprose"), format!("{long}\n{example}"), String::new()] {
            assert_eq!(paragraphs(&text), text);
        }
    }

    /// clap's headings go on until the next one: what stands after them in a command must have its own.
    #[test]
    fn arguments_stand_under_their_own_headings() {
        let of_the_model = ["device", "gpu_layers", "kv", "draft", "prefix_cache_size"];
        let others = ["system", "user", "prompt", "tokens", "json", "fim", "tasks", "jobs", "egress", "port"];
        let command = Cli::command();
        for command in command.get_subcommands() {
            let name = command.get_name();
            let opens = command.get_arguments().any(|argument| argument.get_id() == "prefix_cache");
            for argument in command.get_arguments().filter(|_| opens) {
                let (id, heading) = (argument.get_id().as_str(), argument.get_help_heading());
                let is_models = of_the_model.contains(&id) || (id == "model" && name != "serve");
                assert!(!is_models || heading == Some("Model"), "`{id}` of `{name}`: {heading:?}");
                assert!(!others.contains(&id) || heading != Some("Model"), "`{id}` of `{name}`: {heading:?}");
            }
        }
    }

    /// clap breaks lines where the terminal ends, and half an example at the left edge looks like a command of its own.
    #[test]
    fn examples_fit_a_narrow_terminal() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().filter(|line| line.starts_with(' ')) {
                assert!(line.chars().count() <= 80, "`{}`: {line}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn every_command_shows_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("coder "), "`{}` has no examples", command.get_name());
        }
    }
}
