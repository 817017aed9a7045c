//! What the commands of tasks are kept from.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use coder_tasks::verify::{Approvals, Isolation, Launcher};
use coder_tasks::{Sandbox, Task};

use crate::failure::{Failure, Outcome};
use crate::state::state_folder;

/// How commands are confined.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Sandbox")]
pub(crate) struct SandboxArgs {
    /// Let commands do whatever you may do; by default they write in the working directory only, and have no network
    #[arg(long)]
    no_sandbox: bool,
    /// Another folder that commands may write; may be given several times
    #[arg(long, value_name = "FOLDER", conflicts_with = "no_sandbox")]
    sandbox_write: Vec<PathBuf>,
    /// Another variable that commands may see, besides those that tools need; may be given several times
    #[arg(long, value_name = "NAME", conflicts_with = "no_sandbox")]
    sandbox_env: Vec<String>,
    /// Approve the lines for a shell in these tasks, for good; each is shown
    #[arg(long)]
    approve_shell: bool,
}

impl SandboxArgs {
    /// The sandbox, in which these secrets are hidden as well; one that is not there is no error here, because a task may
    /// have no command.
    pub(crate) fn open(&self, secrets: &[PathBuf]) -> Outcome<Sandbox> {
        if self.no_sandbox {
            return Ok(Sandbox::off());
        }
        let mut sandbox = detect();
        for folder in &self.sandbox_write {
            let full = folder.canonicalize();
            let full = full.map_err(|error| Failure::new(format!("`{}`: {error}", folder.display())))?;
            sandbox.writable.push(full);
        }
        // What is not there yet is hidden where it will be.
        let full = |path: &PathBuf| std::path::absolute(path);
        sandbox.hidden = secrets.iter().map(full).collect::<Result<_, _>>()?;
        sandbox.variables = self.sandbox_env.clone();
        Ok(sandbox)
    }

    /// Approves lines for a shell that were not: all of them with `--approve-shell`, else those to which a
    /// person at the terminal says yes. The others are the tasks' to complain about.
    pub(crate) fn approve(&self, tasks: &[Task], approvals: &Approvals) -> Outcome {
        let person = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        for task in tasks {
            for command in [&task.lint, &task.command].into_iter().flatten() {
                if approvals.check(command).is_ok() {
                    continue;
                }
                // What is shown is what is approved: nothing in it may hide a part of it.
                let line: String = command.line.chars().flat_map(visible).collect();
                eprintln!("{}: for a shell: {line}", task.id);
                if self.approve_shell || (person && is_yes("run it, now and later? [y/N] ")?) {
                    approvals.approve(command)?;
                }
            }
        }
        Ok(())
    }
}

/// A character as a person sees it, or its code if it would not be seen.
fn visible(c: char) -> Vec<char> {
    if matches!(c, '\'' | '"' | '\\') { vec![c] } else { c.escape_debug().collect() }
}

fn is_yes(question: &str) -> Outcome<bool> {
    eprint!("{question}");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The lines for a shell that were approved, in the user's state folder.
pub(crate) fn approvals() -> Approvals {
    state_folder().map_or_else(Approvals::default, |folder| Approvals::open(folder.join("approved")))
}

/// Files that variables name as those with tokens of Hugging Face.
pub(crate) fn tokens() -> Vec<PathBuf> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home =
        named("HF_HOME").into_iter().flat_map(|home| ["token", "stored_tokens"].map(|name| home.join(name)));
    named("HF_TOKEN_PATH").into_iter().chain(home).collect()
}

/// The word after which this program is the launcher of a sandbox.
pub(crate) const LAUNCHER: &str = "sandbox-exec";

/// The best sandbox of this machine.
pub(crate) fn detect() -> Sandbox {
    match std::env::current_exe() {
        Ok(program) => Sandbox::detect(&Launcher { program, arguments: vec![LAUNCHER.to_string()] }),
        Err(error) => Sandbox {
            isolation: Isolation::Missing(format!("this program does not know its own file: {error}")),
            ..Sandbox::default()
        },
    }
}

/// In a few words, for people.
pub(crate) fn describe(sandbox: &Sandbox) -> String {
    match &sandbox.isolation {
        Isolation::On { means, .. } => means.to_string(),
        Isolation::Missing(problem) => format!("none, so no command of a task runs: {problem}"),
        Isolation::Off => "none wanted".to_string(),
    }
}
