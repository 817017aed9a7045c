//! Tasks: both file formats, read into one [`Task`].
//!
//! Owns what a task file may say and every complaint about it. Does not look at the files that the task
//! names; that is the workspace's.

mod folder;
mod json;
mod markdown;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::policy::Category;
use crate::{Error, Result, path};

pub use folder::Listing;

/// The largest task file in bytes. Source files worth a task are far smaller.
pub const MAX_TASK_BYTES: u64 = 1 << 20;

/// The most files that one task may name as those it changes. Its policy allows fewer.
pub const MAX_FILES: usize = 64;

/// The most context files that one task may name.
pub const MAX_CONTEXT_FILES: usize = 64;

/// Fields that both formats have.
pub const FIELDS: [&str; 19] = [
    "task_id",
    "status",
    "model",
    "local_model",
    "reason",
    "complexity",
    "tdd_phase",
    "depends_on",
    "policy",
    "egress",
    "tags",
    "category",
    "estimated_lines",
    "imports",
    "output_file",
    "output_files",
    "context_files",
    "constraints",
    "shell",
];

/// One change to one file or a few, and how to tell that it worked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Task {
    /// The task file, as messages name it.
    pub source: String,
    /// Which of the two formats it has.
    pub format: Format,
    /// The task's name in results and backups: `task_id`, or the file's stem.
    pub id: String,
    /// The title after "# Task:".
    pub title: Option<String>,
    /// What to do, in words.
    pub description: String,
    /// The file to write, relative to the workspace, in plain form; the first one where there are several, and "" where
    /// there is none.
    pub file: String,
    /// All files that the task may change, in plain form; `file` is the first of them. None for a task that only
    /// verifies: its command says how it ends.
    pub files: Vec<String>,
    /// Files to show to the model, relative to the workspace, in plain form.
    pub context: Vec<String>,
    /// Rules for the result, one sentence each.
    pub constraints: Vec<String>,
    /// The command that decides whether the change works.
    pub command: Option<Command>,
    /// The command that looks for faults of style before that.
    pub lint: Option<Command>,
    /// The exact code, where the task carries it.
    pub code: Option<Code>,
    /// The criteria of "Done when".
    pub done_when: Vec<Criterion>,
    /// `status` of the frontmatter, such as "open".
    pub status: Option<String>,
    /// Who shall do it: an alias such as "local" or "opus".
    pub model: Option<String>,
    /// Which local model, such as "qwen2.5-coder:32b".
    pub local_model: Option<String>,
    /// Why it is for that model, such as "integration": what whoever wrote the task decided, and a reader wants to know (S1-33).
    pub reason: Option<String>,
    /// Size or complexity as the task says it, such as "XS".
    pub complexity: Option<String>,
    /// The step of test-driven development.
    pub phase: Option<Phase>,
    /// Ids of the tasks that must be complete before this one begins.
    pub depends_on: Vec<String>,
    /// Which rule decides whether a local model may do it.
    pub policy: Eligibility,
    /// Whether anything of it may be sent to a model elsewhere; the stricter of this and the configuration holds.
    pub egress: Option<Egress>,
    /// Tags, such as "SECURITY".
    pub tags: Vec<String>,
    /// What it is about, where the task says so.
    pub category: Option<Category>,
    /// Lines of code that it is expected to write.
    pub estimated_lines: Option<usize>,
    /// Modules that this code is expected to import.
    pub imports: Option<usize>,
    /// What was read but not understood, such as unknown fields. Nothing is dropped without a word.
    pub warnings: Vec<String>,
}

/// The format of a task file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Markdown with YAML frontmatter.
    Markdown,
    /// A JSON specification.
    Json,
}

/// Exact code and its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Code {
    /// The lines, each with its line feed.
    pub text: String,
    /// The language of the fenced block, "" where it has none.
    pub language: String,
    /// Where it goes.
    pub place: Place,
}

/// Where given code goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The code becomes this line of the file and those after it, 1-based.
    Line(usize),
    /// The code is the whole file.
    Whole,
    /// The task does not say. If the file does not exist yet the code is the whole file, otherwise a
    /// model finds the place.
    Unstated,
}

/// One line of "Done when".
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Criterion {
    /// What must hold.
    pub text: String,
    /// Whether its box was ticked in the file.
    pub done: bool,
}

/// The steps of test-driven development that the frontmatter's `tdd_phase` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Scaffolding.
    Setup,
    /// A failing test.
    Red,
    /// The code that makes it pass.
    Green,
    /// The same behaviour, better written.
    Refactor,
    /// Checking what was done.
    Verify,
}

/// The two rules for what a local model may do; a task may name one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Eligibility {
    /// One small file with a test; the default of JSON specifications.
    Atomic,
    /// A ticket of low or medium complexity; the default of Markdown tasks.
    Ticket,
}

/// Whether something of a task may leave the machine. The stricter comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// Nothing.
    Never,
    /// What somebody has agreed to.
    Ask,
    /// What the rules let through.
    Allow,
}

impl Eligibility {
    /// How many files one task may change.
    pub fn max_files(self) -> usize {
        match self {
            Eligibility::Atomic => 1,
            Eligibility::Ticket => 3,
        }
    }
}

impl Task {
    /// Whether it writes nothing, and its command alone says how it ends (S1-32).
    pub fn is_check(&self) -> bool {
        self.files.is_empty() && self.command.is_some()
    }

    /// Reads one task file.
    pub fn load(file: &Path) -> Result<Task> {
        let io = |source| Error::Io { path: file.to_owned(), source };
        let label = file.display().to_string();
        let meta = std::fs::metadata(file).map_err(io)?;
        if !meta.is_file() {
            return Err(io(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "not a file; name a task file",
            )));
        }
        if meta.len() > MAX_TASK_BYTES {
            return Err(Error::TooLarge { path: label, bytes: meta.len(), limit: MAX_TASK_BYTES });
        }
        let bytes = std::fs::read(file).map_err(io)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::NotText { path: label.clone() })?;
        Task::parse(&label, &text)
    }

    /// Reads a task from its text. A label that ends in ".json", or a text that begins with "{", is a
    /// JSON specification, everything else Markdown.
    pub fn parse(label: &str, text: &str) -> Result<Task> {
        if text.len() as u64 > MAX_TASK_BYTES {
            let bytes = text.len() as u64;
            return Err(Error::TooLarge { path: label.to_owned(), bytes, limit: MAX_TASK_BYTES });
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.contains('\0') {
            let line = text.lines().position(|line| line.contains('\0')).unwrap_or(0) + 1;
            return Err(bad(label, format!("line {line}"), "it holds a NUL byte; write plain text"));
        }
        match is_json(label, text) {
            true => json::parse(label, text),
            false => markdown::parse(label, text),
        }
    }

    /// A task that is nothing but words, as the classifier sees one. It has no file unless one is given, and cannot
    /// be run.
    pub fn of_text(description: &str, file: Option<&str>) -> Task {
        Task {
            source: "text".to_owned(),
            format: Format::Json,
            id: "text".to_owned(),
            title: None,
            description: description.to_owned(),
            file: file.unwrap_or_default().to_owned(),
            files: file.map(str::to_owned).into_iter().collect(),
            context: Vec::new(),
            constraints: Vec::new(),
            command: None,
            lint: None,
            code: None,
            done_when: Vec::new(),
            status: None,
            model: None,
            local_model: None,
            reason: None,
            complexity: None,
            phase: None,
            depends_on: Vec::new(),
            policy: Eligibility::Atomic,
            egress: None,
            tags: Vec::new(),
            category: None,
            estimated_lines: None,
            imports: None,
            warnings: Vec::new(),
        }
    }
}

fn is_json(label: &str, text: &str) -> bool {
    let ending = Path::new(label).extension().and_then(|ending| ending.to_str()).unwrap_or("");
    match ending.to_ascii_lowercase().as_str() {
        "json" => true,
        "md" | "markdown" => false,
        _ => text.trim_start().starts_with('{'),
    }
}

fn bad(file: &str, at: impl Into<String>, problem: impl Into<String>) -> Error {
    Error::BadTask { file: file.to_owned(), at: at.into(), problem: problem.into() }
}

/// A path of the task in plain form; the error names the place in the task file.
fn checked_path(file: &str, at: &str, given: &str) -> Result<String> {
    path::relative(given).map_err(|error| bad(file, at, error.to_string()))
}

fn checked_command(file: &str, at: &str, line: &str, shell: bool) -> Result<Command> {
    if shell { Command::shell(line) } else { Command::parse(line) }
        .map_err(|error| bad(file, at, error.to_string()))
}

/// A value out of a fixed set, such as a phase; the error lists the set.
fn one_of<T: serde::de::DeserializeOwned>(file: &str, field: &str, value: &str, allowed: &str) -> Result<T> {
    serde_json::from_value(serde_json::Value::String(value.to_ascii_lowercase())).map_err(|_| {
        bad(file, format!("field `{field}`"), format!("`{value}` is not known; use one of {allowed}"))
    })
}

const PHASES: &str = "setup, red, green, refactor, verify";
const POLICIES: &str = "atomic, ticket";
const EGRESS: &str = "never, ask, allow";

/// A category by its name; the error lists all of them.
fn checked_category(file: &str, given: Option<String>) -> Result<Option<Category>> {
    let Some(name) = given else { return Ok(None) };
    let all = Category::all().iter().map(|category| category.as_str()).collect::<Vec<_>>().join(", ");
    one_of(file, "category", &name.trim().replace([' ', '-'], "_"), &all).map(Some)
}

/// The task's name where the file does not give one.
fn stem(label: &str) -> String {
    Path::new(label).file_stem().map_or_else(|| "task".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

fn checked_id(file: &str, id: &str) -> Result<String> {
    let id = id.trim();
    if id.is_empty() || id.len() > 200 || id.chars().any(char::is_control) {
        return Err(bad(
            file,
            "field `task_id`",
            "it must have 1 to 200 bytes on one line; give it a short name",
        ));
    }
    Ok(id.to_owned())
}

/// Ids out of lists with commas, each once.
fn names<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in lines.into_iter().flat_map(|line| line.split(',')).map(str::trim) {
        if !name.is_empty() && !found.iter().any(|known| known == name) {
            found.push(name.to_owned());
        }
    }
    found
}

/// Why a task that writes no file cannot be one; None if it can.
fn no_check(command: Option<&Command>, code: Option<&Code>) -> Option<&'static str> {
    match (command, code) {
        (None, _) => Some("a task that writes no file is done by its command; give it one, or name a file"),
        (_, Some(_)) => Some("a task that writes no file has no place for code; name a file"),
        _ => None,
    }
}

/// The files that a task may change: in plain form, each once.
fn checked_files<'a>(file: &str, given: impl IntoIterator<Item = (String, &'a str)>) -> Result<Vec<String>> {
    let mut files: Vec<String> = Vec::new();
    for (at, path) in given {
        let path = checked_path(file, &at, path)?;
        if files.len() == MAX_FILES {
            return Err(bad(file, at, format!("more than `{MAX_FILES}` files to change; split the task")));
        }
        if !files.contains(&path) {
            files.push(path);
        }
    }
    Ok(files)
}

/// A word about a status that says that there is nothing to do: what a plan does is for its batches to say.
fn finished_status(status: Option<&str>) -> Option<String> {
    let done = ["done", "complete", "completed", "closed", "finished", "cancelled"];
    let status =
        status.map(str::trim).filter(|status| done.iter().any(|word| status.eq_ignore_ascii_case(word)))?;
    Some(format!(
        "its status is `{status}`, and it runs all the same; tick it in `batches.md`, or leave it out"
    ))
}

/// A word about each file that other programs run or trust, though the task may change it.
fn guarded_files(files: &[String]) -> impl Iterator<Item = String> {
    files.iter().filter_map(|file| Some(format!("`{file}` is {}; check the change", path::guarded(file)?)))
}

fn checked_count(file: &str, at: &str, count: usize) -> Result<()> {
    if count > MAX_CONTEXT_FILES {
        return Err(bad(
            file,
            at,
            format!("`{count}` context files, at most `{MAX_CONTEXT_FILES}` are read; name fewer"),
        ));
    }
    Ok(())
}
