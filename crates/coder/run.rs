//! `coder run`: from task files to verified edits.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use coder_tasks::{EditFormat, Policy, Progress, Settings, Task, TaskResult, Workspace, run_task};
use serde_json::json;

use crate::args::ModelArgs;
use crate::check::EligibilityArgs;
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::ledger::{LedgerArgs, Recorder};
use crate::output::{Output, Plain};
use crate::prompting::PromptArgs;
use crate::report::{self, Report};
use crate::undo;
use crate::writer::{LocalWriter, Stop};

/// Do tasks: draft the edit, write it with a backup, let the task's command decide
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// Task files (Markdown or JSON), or folders of them
    #[arg(value_name = "TASK", required_unless_present = "task_file")]
    tasks: Vec<PathBuf>,
    /// The same as TASK
    #[arg(long, value_name = "TASK")]
    task_file: Vec<PathBuf>,
    /// The folder that the tasks may change, and where their commands run
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    working_dir: PathBuf,
    /// text: a line per task; json: one object, or {results, summary} for several tasks
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output_format: Format,
    /// How often the model may try; from the second time it sees what went wrong
    #[arg(long, value_name = "N", default_value_t = 2)]
    attempts: u32,
    /// The same as --attempts 1
    #[arg(long, conflicts_with = "attempts")]
    no_retry: bool,
    /// Seconds that a task's command may run
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
    /// Tokens that a reply may have, for which there must be room [default: up to 4096]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// How replies write edits: whole files, diff (search/replace blocks, which always fit), patch, or auto: whole
    /// files where they are small or new, else diff
    #[arg(long, value_name = "FORM", default_value = "auto")]
    edit_format: Form,
    /// Where journals and old contents are kept [default: coder in $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// Same seed, same edits
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Write nothing into the ledger (see coder stats)
    #[arg(long, conflicts_with = "ledger")]
    no_ledger: bool,
    #[command(flatten)]
    eligibility: EligibilityArgs,
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    model: ModelArgs,
}

const EXAMPLES: &str = "Examples:
  coder run task.md
  coder run tasks/ --working-dir ../worktree --output-format json
  coder run task.json --model qwen2.5-coder-7b.gguf --attempts 3

A task file says which file to write, what it should be, and which command must succeed:

  # Task: Write a function `double` that returns `x` multiplied by 2.

  ## File to modify
  src/double.rs

  ## Verification
  Run: cargo test --offline --quiet

Old content is kept outside of the folder; coder undo brings it back. If no attempt passes, the files are as they
were before, also after a crash.
Exit code 0 if every task is complete, 1 if not, 130 after Ctrl-C.";

/// How replies write edits.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Form {
    Auto,
    Whole,
    Diff,
    Patch,
}

impl From<Form> for EditFormat {
    fn from(form: Form) -> Self {
        match form {
            Form::Auto => EditFormat::Auto,
            Form::Whole => EditFormat::Whole,
            Form::Diff => EditFormat::Diff,
            Form::Patch => EditFormat::Patch,
        }
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(crate) fn run(args: RunArgs) -> Outcome {
    let begin = Instant::now();
    let paths: Vec<&PathBuf> = args.tasks.iter().chain(&args.task_file).collect();
    let (tasks, workspace) = match open(&paths, &args.working_dir, args.state_dir.as_deref()) {
        Ok(opened) => opened,
        Err(failure) => {
            if args.output_format == Format::Json {
                let error = failure.reason();
                let refused = json!({ "status": "failed", "file": "", "error": error, "outcome": "refused" });
                Output::new().json(&refused)?;
            }
            return Err(failure);
        }
    };
    let interrupt = Interrupt::install()?;
    let stop = Stop::default();
    let during = interrupt.during({
        let stop = stop.clone();
        move || stop.now()
    });
    let recorder =
        if args.no_ledger { Recorder::none() } else { Recorder::open(&args.ledger, &args.working_dir) };
    let routed = recorder.routed();
    let mut writer = LocalWriter::new(&args.model, stop.clone());
    let mut settings = settings(&args);
    let mut out = Output::new();
    let mut results = Vec::new();
    for task in &tasks {
        task.warnings.iter().for_each(|warning| eprintln!("note: {}: {warning}", task.source));
        settings.verify.output_bytes = writer.prepare(task);
        settings.templates = args.prompts.templates(writer.is_bundled(), &args.working_dir)?;
        settings.refused_by = args.eligibility.refusal(task, &args.working_dir, &routed)?;
        let recording = recorder.begin(task);
        let mut tell = observe(task);
        let mut observe = |progress: &Progress<'_>| {
            recording.see(progress);
            tell(progress);
        };
        let result = run_task(task, &workspace, Some(&mut writer), &settings, &mut observe, stop.flag());
        recording.finish(&result);
        if args.output_format == Format::Text {
            show(&mut out, &result)?;
        }
        results.push(result);
        if during.happened() {
            break;
        }
    }
    let report = Report::new(&results, writer.decoded, begin.elapsed().as_secs_f64());
    let several = tasks.len() > 1 || paths.iter().any(|path| path.is_dir());
    match (args.output_format, several) {
        (Format::Text, true) => out.line(&report.line())?,
        (Format::Text, false) => {}
        (Format::Json, true) => out.json(&report)?,
        (Format::Json, false) => out.json(&results[0])?,
    }
    if during.happened() {
        return Err(Failure::interrupted());
    }
    let complete = results.iter().all(|result| result.outcome == coder_tasks::Outcome::Complete);
    if complete { Ok(()) } else { Err(Failure::quiet(1)) }
}

fn settings(args: &RunArgs) -> Settings {
    let attempts = if args.no_retry { 1 } else { args.attempts };
    let mut settings = Settings {
        policy: Policy { attempts, seed: args.seed, ..Policy::default() },
        max_tokens: args.max_tokens,
        edit_format: args.edit_format.into(),
        ..Settings::default()
    };
    settings.verify.time = Duration::from_secs(args.timeout);
    settings
}

/// All tasks, read before the first one is begun, and the folder they work in.
fn open(paths: &[&PathBuf], working_dir: &Path, state_dir: Option<&Path>) -> Outcome<(Vec<Task>, Workspace)> {
    let mut tasks = Vec::new();
    for path in paths {
        // A task may be named as seen from the folder it works in.
        let inside = working_dir.join(path);
        let path = if !path.exists() && inside.exists() { &inside } else { path };
        let found = Task::load_all(path)?;
        if found.is_empty() {
            let problem = "no task files in it; a task is Markdown with `# Task:` or JSON with `task_id`";
            return Err(Failure::new(format!("`{}`: {problem}", path.display())));
        }
        tasks.extend(found);
    }
    Ok((tasks, undo::workspace(working_dir, state_dir)?))
}

/// Tells a person at the terminal what is going on; tells everybody what went wrong in a former run.
fn observe(task: &Task) -> impl FnMut(&Progress<'_>) {
    let person = std::io::stderr().is_terminal();
    let id = task.id.clone();
    move |progress| match progress {
        Progress::Interrupted(former) => eprintln!("{}", undo::interrupted(former)),
        Progress::Failed { reason, .. } if person => eprintln!("{id}: failed: {}", first_line(reason)),
        Progress::Drafting { attempt } if person => eprintln!("{id}: drafting, attempt {attempt}"),
        Progress::Writing(file) if person => eprintln!("{id}: writing {file}"),
        Progress::Verifying(command) if person => eprintln!("{id}: verifying with `{command}`"),
        _ => {}
    }
}

fn first_line(text: &str) -> String {
    Plain::default().filter(text.lines().next().unwrap_or_default())
}

/// One line for the result; what the command said last, if the task is not done.
fn show(out: &mut Output, result: &TaskResult) -> Outcome {
    out.text(&format!("{}\n", report::line(result)))?;
    let verification = result.history.last().and_then(|last| last.verification.as_ref());
    if let Some(failed) = verification.filter(|verification| !verification.passed()) {
        let output = Plain::default().filter(&failed.output);
        output.lines().for_each(|line| eprintln!("  {line}"));
    }
    Ok(())
}
