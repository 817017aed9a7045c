//! `coder undo`: what a task changed is as it was before.

use std::path::PathBuf;

use clap::Args;
use coder_tasks::Workspace;
use coder_tasks::workspace::{Displaced, Done, Interrupted};

use crate::failure::Outcome;
use crate::output::Output;
use crate::state::StateArgs;

/// Take back what a task changed: the last one, or any
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UndoArgs {
    /// The task's id, or its number in the list [default: the last task that is not undone]
    #[arg(value_name = "TASK")]
    task: Option<String>,
    /// The entry with this number in the list, also where a task has it as its id
    #[arg(long, value_name = "N", conflicts_with_all = ["task", "list"])]
    number: Option<u64>,
    /// Show what was done, and take nothing back
    #[arg(long, conflicts_with = "task")]
    list: bool,
    /// Take it back even where a file was changed since; what stands there is kept, and undo brings it back
    #[arg(long, conflicts_with = "list")]
    force: bool,
    /// The folder that the task changed
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    working_dir: PathBuf,
    #[command(flatten)]
    state: StateArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  coder undo                    the last task in this folder
  coder undo --list             what was done here
  coder undo T-001              one task, by its id
  coder undo --number 12        this entry; an undo is one too, so it can redo

All files of a task are taken back, or none. A file that was changed since is an error, unless --force is given.
The tasks of a plan with --commit are one entry, with the plan's name; one of them is taken back with git revert.
The last 200 tasks of a folder can be taken back, undos among them.";

pub(crate) fn run(args: UndoArgs) -> Outcome {
    let workspace = Workspace::open(&args.working_dir, &args.state.folder()?)?;
    for former in workspace.recover()? {
        eprintln!("{}", interrupted(&former));
    }
    let mut out = Output::new();
    if !args.list {
        let which = args.number.map(|number| format!("#{number}")).or(args.task);
        let done = workspace.undo(which.as_deref(), args.force)?;
        if !done.commits.is_empty() {
            eprintln!(
                "note: its commits stay, and this is a change after them: commit it, or undo this and use `git revert`"
            );
        }
        return match args.json {
            true => Ok(out.json(&done)?),
            false => Ok(out.line(&format!("{}: undone, {}", done.task_id, done.files.join(", ")))?),
        };
    }
    let history = workspace.history()?;
    if args.json {
        return Ok(out.json(&history)?);
    }
    for done in &history {
        out.line(&line(done))?;
        done.displaced.iter().try_for_each(|one| out.line(&format!("      {}", displaced(one))))?;
    }
    Ok(())
}

/// What became of a run that was killed, or that could not take back what it did.
pub(crate) fn interrupted(former: &Interrupted) -> String {
    let mut said = format!("note: a former run of `{}` did not come to its end", former.task_id);
    if !former.files.is_empty() {
        said += &format!("; as before it: `{}`", former.files.join("`, `"));
    }
    for (path, kept) in &former.left {
        let kept = kept.as_ref().map_or("there was none before it".to_string(), |kept| {
            format!("the content before it is in `{}`", kept.display())
        });
        said += &format!("; `{path}` was changed since and left as it is, {kept}");
    }
    said
}

/// Where that is which another program wrote during a task.
pub(crate) fn displaced(displaced: &Displaced) -> String {
    let Displaced { path, kept } = displaced;
    format!("`{path}` was written while the task was at work; what stood there before is in `{kept}`")
}

fn line(done: &Done) -> String {
    if done.files.is_empty() {
        return format!("{:>4}  {}: changed nothing", done.number, done.task_id);
    }
    let state = match (done.undone, done.undoes) {
        (true, _) => ", undone".to_string(),
        (false, Some(number)) => format!(", took {number} back"),
        (false, None) => String::new(),
    };
    format!("{:>4}  {}: {}{state}", done.number, done.task_id, done.files.join(", "))
}
