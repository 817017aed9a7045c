//! `coder plan`: a request becomes task files, made by the planner rung and held to the policy.

use std::path::{Path, PathBuf};

use clap::Args;
use coder_tasks::planner::{self, Planned, Request};
use coder_tasks::policy::{Route, Tables, listing};
use coder_tasks::prompt::ContextFile;
use coder_tasks::workspace::MAX_FILE_BYTES;
use coder_tasks::{Workspace, Writer};
use ignore::WalkBuilder;
use serde_json::json;

use crate::check::PolicyArgs;
use crate::cloud::Cloud;
use crate::config;
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::ledger::{LedgerArgs, Recorder};
use crate::output::Output;
use crate::rungs::CloudArgs;
use crate::state::StateArgs;
use crate::writer::Stop;

/// Names of files that a planner is shown.
const LISTED: usize = 1000;

/// Answers that may break the policy before the planner is given up.
const ATTEMPTS: usize = 2;

/// Divide a request into task files and batches, with a planner elsewhere; nothing is written before it holds
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PlanArgs {
    /// What is to be done, in your words
    #[arg(value_name = "REQUEST")]
    request: String,
    /// The new folder for the plan
    #[arg(long, value_name = "FOLDER", default_value = "tasks")]
    out: PathBuf,
    /// Files to show to the planner, relative to the working folder; may be given several times
    #[arg(long, value_name = "FILE")]
    context: Vec<String>,
    /// The folder that the plan is about
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    working_dir: PathBuf,
    /// Who plans [default: the configuration's planner]
    #[arg(long, value_name = "RUNG")]
    rung: Option<String>,
    /// Show the plan and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON: the files, and who does which task
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    cloud: CloudArgs,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    ledger: LedgerArgs,
}

const EXAMPLES: &str = "Examples:
  coder plan 'Reject requests that are not from this machine' --egress ask
  coder plan 'Add a dark theme' --context src/App.jsx --out plans/theme
  coder run plans/theme --jobs 4

The planner is shown the request, the names of the project's files, and the files of --context. Its plan is written only if every
task can be read, the order has no circle, and the policy agrees with who does what (see coder check); if not, the planner
gets all problems back, once.";

pub(crate) fn run(args: PlanArgs) -> Outcome {
    let own = args.policy.tables()?;
    let tables = own.as_deref().unwrap_or(Tables::built_in());
    if !args.dry_run && std::fs::symlink_metadata(&args.out).is_ok() {
        let out = args.out.display();
        return Err(Failure::new(format!("`{out}` is there already; name a new folder with --out")));
    }
    let workspace = Workspace::open(&args.working_dir, &args.state.folder()?)?;
    let read = |path: &String| {
        let content = workspace.read(path, MAX_FILE_BYTES)?;
        Ok(ContextFile { path: path.clone(), content })
    };
    let files = args.context.iter().map(read).collect::<Outcome<Vec<_>>>()?;
    let names = names(workspace.path());
    let request = Request { words: &args.request, files: &files, listing: &names };
    let planned = args.ask(&planner::question(&request, tables)?, tables)?;
    args.show(&planned)
}

impl PlanArgs {
    /// The planner's answer, once it holds.
    fn ask(&self, question: &coder_tasks::Question, tables: &Tables) -> Outcome<Planned> {
        let interrupt = Interrupt::install()?;
        let stop = Stop::default();
        let during = interrupt.during({
            let stop = stop.clone();
            move || stop.now()
        });
        let config = config::load(&self.working_dir, &self.cloud.layer())?;
        let recorder = Recorder::open(&self.ledger, &self.state, &self.working_dir);
        let cloud = Cloud::new(&config, &recorder, stop)?;
        let rung = match &self.rung {
            Some(name) => config.rung(name).map_err(Failure::new)?.0,
            None => config.planner.clone(),
        };
        if config.rungs.get(&rung).is_some_and(coder_escalate::Rung::is_local) {
            return Err(Failure::new(format!(
                "`{rung}` runs in this process and does not plan; name a rung elsewhere"
            )));
        }
        let mut writer = cloud.writer(rung.clone(), None);
        let mut question = question.clone();
        for attempt in 1.. {
            eprintln!("{rung} plans{}", if attempt > 1 { " again" } else { "" });
            let reply = match writer.answer(&question) {
                Ok(reply) => reply,
                Err(_) if during.happened() => return Err(Failure::interrupted()),
                Err(error) => return Err(Failure::new(format!("{rung}: {error}"))),
            };
            match planner::read(&reply.text, tables) {
                Ok(planned) => return Ok(planned),
                Err(problems) if attempt == ATTEMPTS => {
                    return Err(Failure::new(format!("no plan was made: {}", problems.join("; "))));
                }
                Err(problems) => question = planner::again(&question, &reply.text, &problems),
            }
        }
        Err(Failure::new("no plan was made"))
    }

    fn show(&self, planned: &Planned) -> Outcome {
        let written = if self.dry_run { Vec::new() } else { planned.write(&self.out)? };
        let mut out = Output::new();
        if self.json {
            let tasks = planned.judged.iter().map(|(task, judgement)| {
                json!({ "task_id": task.id, "file": task.file, "route": judgement.route, "model": judgement.model })
            });
            let files: Vec<_> = planned
                .files
                .iter()
                .map(|(name, content)| json!({ "name": name, "content": content }))
                .collect();
            return Ok(out.json(&json!({
                "written": written, "tasks": tasks.collect::<Vec<_>>(), "files": files, "notes": planned.notes,
            }))?);
        }
        out.text(&format!("{}\n", listing(&planned.judged)))?;
        if !planned.notes.trim().is_empty() {
            out.text(&format!("\n{}\n", crate::output::Plain::default().filter(planned.notes.trim())))?;
        }
        let local = planned.judged.iter().filter(|(_, judgement)| judgement.route == Route::Local).count();
        let all = planned.judged.len();
        match self.dry_run {
            true => eprintln!("{local} of {all} tasks are for the local model; nothing was written"),
            false => eprintln!(
                "{local} of {all} tasks are for the local model; written to {0}: read it, then coder run {0}",
                self.out.display()
            ),
        }
        Ok(())
    }
}

/// Names of the project's files, without those that git ignores and hidden ones; if there are more than fit, a last line
/// says so.
fn names(folder: &Path) -> Vec<String> {
    let walk = WalkBuilder::new(folder).require_git(false).sort_by_file_path(Path::cmp).build();
    let files = walk.flatten().filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()));
    let name = |entry: ignore::DirEntry| {
        let name = entry.path().strip_prefix(folder).ok()?.to_str()?.to_owned();
        (!name.chars().any(char::is_control)).then_some(name)
    };
    let mut names: Vec<String> = files.filter_map(name).take(LISTED + 1).collect();
    if names.len() > LISTED {
        names[LISTED] = format!("(and more; these are the first {LISTED})");
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listing_leaves_out_what_git_ignores() {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in
            [("src/a.rs", ""), ("b.md", ""), (".env", "K=1"), (".gitignore", "out\n"), ("out/x", "")]
        {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        assert_eq!(names(folder.path()), ["b.md", "src/a.rs"]);
    }
}
