//! `coder config`, and where the configuration of all commands comes from: the defaults, the user's file, the project's.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use coder_escalate::config::{Setting, Source, Trust, Vocabulary};
use coder_escalate::{Config, Imported};
use coder_tasks::policy::Tables;
use coder_tasks::workspace::make_private;
use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// The name of the user's file in its folder, and of the project's.
const FILE: &str = "coder.toml";

/// A configuration is small; whatever is larger is none.
const MOST_BYTES: u64 = 1 << 20;

/// Show and check the configuration: rungs, ladders, budgets, and what may leave the machine
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  coder config show                    every value, and where it comes from
  coder config check && coder run …    no output if all is well
  coder config path                    where your own file is

A file needs to say only what differs from the defaults. This is enough to ask Claude where the local model fails, each request
being shown first; the key is in the environment:
  egress = \"ask\"

This says which model is the local one, for all commands; --model and a task's `local_model` say another:
  [rungs.local]
  engine = \"qwen2.5-coder:7b\"
  deadline_s = 120                   # what takes longer goes up the ladder

A cluster, a proxy or a larger model of your own are rungs too:
  [endpoints.cluster]
  dialect = \"openai\"
  url = \"http://10.0.0.7:8000/v1\"
  private = true

  [rungs.cluster]
  endpoint = \"cluster\"
  model = \"glm\"
  price = { input_usd = 0, output_usd = 0 }

  [rungs.big-local]
  engine = \"qwen2.5-coder-32b.gguf\"

  [ladders]
  quality = [\"local\", \"big-local\", \"cluster\", \"best\"]

`coder.toml` in the working directory belongs to the project. It may restrict (egress, budget), and choose ladders of your rungs;
it cannot name endpoints or keys, and sends nothing.";

const IMPORT_EXAMPLES: &str = "Examples:
  coder config import ~/.claude-code-router/config.json
  coder config import proxy-config.yaml --write
                                       into your own file, if there is none yet

Models of Ollama become models in this process. Fallbacks become ladders, tags and phases become routes. Keys are never copied:
of `os.environ/NAME` the name is. Where it holds an address, that is asked, also if it is Ollama's.";

#[derive(Subcommand, Debug)]
enum Command {
    /// Print every value, and where it comes from; of keys, whether they are there
    #[command(
        after_help = "Examples:\n  coder config show\n  coder config show --json --working-dir ../other"
    )]
    Show {
        #[command(flatten)]
        folder: Folder,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read the configuration; no output if all is well
    #[command(after_help = "Examples:\n  coder config check\n  coder config check --working-dir ../other")]
    Check {
        #[command(flatten)]
        folder: Folder,
    },
    /// Print another program's configuration as a coder.toml, and what cannot be taken over on standard error
    #[command(after_help = IMPORT_EXAMPLES)]
    Import {
        /// `modelRouter` of Claude Code Router (JSON), or `model_list` of LiteLLM (YAML)
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Write it into your own file, whose path is printed, in place of printing it
        #[arg(long)]
        write: bool,
        /// With --write: replace the file that is there
        #[arg(long, requires = "write")]
        replace: bool,
    },
    /// Print the path of the user's own file, which need not be there
    #[command(
        after_help = "Examples:\n  mkdir -p \"$(dirname \"$(coder config path)\")\" && $EDITOR \"$(coder config path)\""
    )]
    Path,
}

#[derive(Args, Debug)]
struct Folder {
    /// The folder whose project is meant
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    working_dir: PathBuf,
}

pub(crate) fn run(args: ConfigArgs) -> Outcome {
    match args.command {
        Command::Show { folder, json } => show(&load(&folder.working_dir, "")?, json),
        Command::Check { folder } => {
            let config = load(&folder.working_dir, "")?;
            let prices = config.prices();
            let unknown = |(name, rung)| prices.of_rung(name, rung).err();
            // Such a rung is never asked, which a person finds out late.
            config.rungs.iter().filter_map(unknown).for_each(|error| eprintln!("note: {error}"));
            Ok(())
        }
        Command::Import { file, write, replace } => import(&file, write, replace),
        Command::Path => {
            let folder = folder_or_failure()?;
            Ok(Output::new().line(&folder.join(FILE).display().to_string())?)
        }
    }
}

/// The configuration for work in a folder, with what the command line says as the last layer.
pub(crate) fn load(working_dir: &Path, arguments: &str) -> Outcome<Config> {
    let user = folder().map(|folder| folder.join(FILE));
    let project = working_dir.join(FILE);
    let same = |user: &Path| Some(user.canonicalize().ok()? == project.canonicalize().ok()?);
    // Work in the folder of the user's own file: it is no project's.
    let project = (user.as_deref().and_then(same) != Some(true)).then_some(project);
    layers(user, project, arguments)
}

/// The configuration without a project's, for commands that are about no folder.
pub(crate) fn user() -> Outcome<Config> {
    layers(folder().map(|folder| folder.join(FILE)), None, "")
}

fn layers(user: Option<PathBuf>, project: Option<PathBuf>, arguments: &str) -> Outcome<Config> {
    let files = [(user, Trust::Own), (project, Trust::Project)];
    let mut texts = Vec::new();
    for (path, trust) in files {
        if let Some(path) = path
            && let Some(text) = text(&path)?
        {
            texts.push((path.display().to_string(), text, trust));
        }
    }
    if !arguments.is_empty() {
        texts.push(("the command line".to_owned(), arguments.to_owned(), Trust::Own));
    }
    let sources: Vec<Source<'_>> =
        texts.iter().map(|(name, text, trust)| Source { name, text, trust: *trust }).collect();
    let config = Config::layered(&sources, &vocabulary());
    config.and_then(|config| config.located(|name| std::env::var(name).ok())).map_err(Failure::new)
}

/// A file's text, if there is a file.
fn text(path: &Path) -> Outcome<Option<String>> {
    let failed = |problem: &dyn std::fmt::Display| Failure::new(format!("`{}`: {problem}", path.display()));
    // A pipe would wait for somebody to write, a device may never end.
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
        Ok(data) if !data.is_file() => return Err(failed(&"is no file")),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| failed(&error))?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(failed(&format!("has more than {MOST_BYTES} bytes, so it is no configuration")));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| failed(&"is not UTF-8; convert the file first"))
}

/// What tasks call their types and phases.
fn vocabulary() -> Vocabulary {
    let tables = Tables::built_in();
    let types = tables.task_types.keys().map(|kind| kind.as_str().to_string()).collect();
    Vocabulary { types, phases: tables.phases.keys().cloned().collect() }
}

/// The user's folder of configurations, which need not be there.
pub(crate) fn folder() -> Option<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(std::env::home_dir()?.join(".config")))?;
    Some(config.join("coder"))
}

fn folder_or_failure() -> Outcome<PathBuf> {
    folder().ok_or_else(|| Failure::new("there is no home folder; set XDG_CONFIG_HOME"))
}

/// One value in JSON.
#[derive(Serialize)]
struct Shown<'a> {
    key: &'a str,
    /// As TOML writes it.
    value: &'a str,
    file: &'a str,
    line: usize,
    /// Of keys and addresses in variables: whether they are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<bool>,
}

fn import(file: &Path, write: bool, replace: bool) -> Outcome {
    let target = if write { Some(folder_or_failure()?.join(FILE)) } else { None };
    // Before anything is said about a file that has no place to go.
    if let Some(target) = target.as_deref().filter(|target| !replace && target.symlink_metadata().is_ok()) {
        return Err(is_there(target));
    }
    let name = file.display().to_string();
    let text = text(file)?.ok_or_else(|| Failure::new(format!("`{name}`: there is no such file")))?;
    // What is to be replaced need not be readable.
    let config = user().or_else(|failure| if replace { Ok(Config::bundled()) } else { Err(failure) })?;
    let Imported { toml, notes } =
        coder_escalate::import(&name, &text, config.names()).map_err(Failure::new)?;
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    // It was made here, but of what somebody else wrote.
    let source = Source { name: "the result", text: &toml, trust: Trust::Own };
    let checked = Config::layered(&[source], &vocabulary());
    let Some(target) = target else {
        if let Err(error) = checked {
            eprintln!("warning: it has to be corrected before it can be used: {error}");
        }
        return Ok(Output::new().text(&toml)?);
    };
    // A file that has to be corrected would be in the way of every other command.
    checked.map_err(|error| {
        Failure::new(format!("nothing was written: print it without --write, and correct it: {error}"))
    })?;
    put(&target, &toml, replace)?;
    Ok(Output::new().line(&target.display().to_string())?)
}

/// Writes the user's own file, whole or not at all.
fn put(target: &Path, toml: &str, replace: bool) -> Outcome {
    let failed = |error: std::io::Error| Failure::new(format!("`{}`: {error}", target.display()));
    // Where it is a link, what it leads to is the file.
    let target = target.canonicalize().unwrap_or_else(|_| target.to_owned());
    let folder = target.parent().unwrap_or(Path::new("."));
    make_private(folder).map_err(failed)?;
    let mut made = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    made.write_all(toml.as_bytes()).and_then(|()| made.as_file().sync_all()).map_err(failed)?;
    let kept = if replace { made.persist(&target) } else { made.persist_noclobber(&target) };
    match kept {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Err(is_there(&target)),
        Err(error) => Err(failed(error.error)),
    }
}

fn is_there(target: &Path) -> Failure {
    let target = target.display();
    Failure::new(format!(
        "`{target}` is there; --replace writes over it, without --write the result is printed"
    ))
}

fn show(config: &Config, json: bool) -> Outcome {
    let settings = config.settings();
    let mut out = Output::new();
    if json {
        let shown = settings.iter().map(|setting| {
            let Setting { key, value, origin } = setting;
            Shown { key, value, file: &origin.file, line: origin.line, set: is_set(config, setting) }
        });
        return Ok(out.json(&shown.collect::<Vec<_>>())?);
    }
    let lines: Vec<String> =
        settings.iter().map(|Setting { key, value, .. }| format!("{key} = {value}")).collect();
    let width = lines.iter().map(|line| line.chars().count()).filter(|width| *width <= 60).max().unwrap_or(0);
    for (line, setting) in lines.iter().zip(&settings) {
        let set = match is_set(config, setting) {
            Some(true) => ", set",
            Some(false) => ", not set",
            None => "",
        };
        out.text(&format!("{line:<width$}  # {}{set}\n", setting.origin))?;
    }
    Ok(())
}

/// Of a setting that says where a key or an address is: whether one is there. Its value is never looked at.
fn is_set(config: &Config, setting: &Setting) -> Option<bool> {
    let of = |name: &str| {
        config.endpoints.iter().find(|(endpoint, _)| setting.key == format!("endpoints.{endpoint}.{name}"))
    };
    let is_filled = |variable: &String| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    if let Some((_, endpoint)) = of("key_env") {
        return endpoint.key_env.as_ref().map(is_filled);
    }
    if let Some((_, endpoint)) = of("url_env") {
        return endpoint.url_env.as_ref().map(is_filled);
    }
    let (_, endpoint) = of("key_file")?;
    Some(endpoint.key_file.as_ref()?.is_file())
}
