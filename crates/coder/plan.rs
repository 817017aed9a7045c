//! `coder plan`: a request becomes task files, made by the planner rung and held to the policy.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::Args;
use coder_escalate::{Config, RungName};
use coder_tasks::planner::{self, Planned, Request};
use coder_tasks::policy::{Judgement, Route, Tables, listing};
use coder_tasks::prompt::ContextFile;
use coder_tasks::workspace::MAX_FILE_BYTES;
use coder_tasks::{Plain, Project, Question, Workspace, Writer, context, project};
use serde_json::json;

use crate::args::ModelArgs;
use crate::check::PolicyArgs;
use crate::cloud::Cloud;
use crate::config;
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::ledger::{LedgerArgs, Recorder};
use crate::output::Output;
use crate::related;
use crate::rungs::{CloudArgs, Rungs};
use crate::state::StateArgs;
use crate::writer::{Stop, Writers};

/// Names of files that a planner is shown.
const LISTED: usize = 1000;

/// Answers that may break the policy before the planner is given up.
const ATTEMPTS: usize = 2;

/// Divide a request into task files and batches, by a planner; nothing is written before the plan holds
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
    #[arg(long = "show", value_name = "FILE")]
    shown: Vec<String>,
    /// Files to show in summary, without functions' bodies: as many as belong best to the request by its words (see coder
    /// related). Those of [egress] deny, and long ones that have no summary, are not among them
    #[arg(long, value_name = "N", default_value_t = 0)]
    related: usize,
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
    state: StateArgs,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    cloud: CloudArgs,
}

const EXAMPLES: &str = "Examples:
  coder plan 'Reject requests that are not from this machine' --egress ask
  coder plan 'Add a dark theme' --show src/App.jsx --out plans/theme
  coder plan 'Count refused requests' --related 8 --egress ask
  coder plan 'Add a dark theme' --rung local --model qwen2.5-coder-32b.gguf
  coder run plans/theme --jobs 4

The planner is shown the request, the names of the project's files, and the files of --show and --related. Its plan is written only if every
task can be read, the order has no circle, and the policy agrees with who does what (see coder check); if not, the planner
gets all problems back, once. The bundled model is too small to plan. After a local planner the next rungs are asked, if anything may leave.";

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
    let mut files = args.shown.iter().map(read).collect::<Outcome<Vec<_>>>()?;
    let config = args.config()?;
    files.extend(args.related(&files, &workspace, &config)?);
    let names = names(workspace.path());
    let request = Request { words: &args.request, files: &files, listing: &names };
    let planned = args.ask(&planner::question(&request, tables)?, tables, &config)?;
    args.show(&planned)
}

impl PlanArgs {
    fn config(&self) -> Outcome<Config> {
        config::load(&self.working_dir, &(self.cloud.layer() + &self.model.layer()))
    }

    /// Summaries of the files that belong to the request and may be shown to anybody.
    fn related(
        &self,
        shown: &[ContextFile],
        workspace: &Workspace,
        config: &Config,
    ) -> Outcome<Vec<ContextFile>> {
        if self.related == 0 {
            return Ok(Vec::new());
        }
        let project = Project::read(workspace, &related::denied(config)?);
        related::note(&project);
        let found = project.found(&self.request).into_iter();
        let found = found.filter(|path| !shown.iter().any(|file| file.path == *path));
        let files = found.filter_map(|path| project.files.iter().find(|file| file.path == path));
        let files = context::summarised(files, self.related);
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        eprintln!(
            "note: shown in summary: {}",
            if paths.is_empty() { "nothing".into() } else { paths.join(", ") }
        );
        Ok(files)
    }

    /// The planner's answer, once it holds.
    fn ask(&self, question: &Question, tables: &Tables, config: &Config) -> Outcome<Planned> {
        let interrupt = Interrupt::install()?;
        let stop = Stop::default();
        let during = interrupt.during({
            let stop = stop.clone();
            move || stop.now()
        });
        let recorder = Recorder::open(&self.ledger, &self.state, &self.working_dir);
        let stopped = stop.clone();
        let cloud = Cloud::new(config, &recorder, stop.clone())?;
        let writers = Writers::new(&self.model.open, stop);
        let rungs = Rungs::new(config);
        let mut failed = None;
        for rung in self.planners(rungs)? {
            if let Some(reason) = &failed {
                eprintln!("{reason}, trying next...");
            }
            let mut writer: Box<dyn Writer + '_> = match rungs.model(&rung, None) {
                Some(local) => Box::new(writers.with(local)),
                None => Box::new(cloud.writer(rung.clone(), None)),
            };
            match plan(&rung, &mut *writer, question, tables) {
                Ok(planned) => return Ok(planned),
                Err(_) if during.happened() || stopped.flag().load(Ordering::SeqCst) => {
                    return Err(Failure::interrupted());
                }
                Err(reason) => failed = Some(format!("{rung}: {reason}")),
            }
        }
        Err(Failure::new(failed.unwrap_or_else(|| "nobody plans; name a rung".to_owned())))
    }

    /// Who plans: the rung that is named, else the configuration's. After one in this process, which may have nothing to
    /// say, the next ones that may be asked (S2-33).
    fn planners(&self, rungs: Rungs<'_>) -> Outcome<Vec<RungName>> {
        let config = rungs.config;
        let first = match &self.rung {
            Some(name) => config.rung(name).map_err(Failure::new)?.0,
            None => config.planner.clone(),
        };
        let is_local = config.rungs.get(&first).is_some_and(coder_escalate::Rung::is_local);
        let others = config.ladders.availability.iter().filter(|rung| is_local && rungs.may_ask(rung));
        let others: Vec<RungName> = others.filter(|rung| **rung != first).cloned().collect();
        Ok([vec![first], others].concat())
    }

    fn show(&self, planned: &Planned) -> Outcome {
        let written = if self.dry_run { Vec::new() } else { planned.write(&self.out)? };
        let mut out = Output::new();
        if self.json {
            let tasks = planned.judged.iter().map(|(task, judgement)| {
                let Judgement { route, model, .. } = judgement;
                json!({ "task_id": task.id, "file": task.file, "route": route, "model": model, "reason": task.reason })
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
            out.text(&format!("\n{}\n", Plain::default().filter(planned.notes.trim())))?;
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

/// A rung's plan, once it holds; else why there is none.
fn plan(
    rung: &RungName,
    writer: &mut dyn Writer,
    question: &Question,
    tables: &Tables,
) -> Result<Planned, String> {
    let mut question = question.clone();
    let mut problems: Vec<String> = Vec::new();
    for attempt in 0..ATTEMPTS {
        eprintln!("{rung} plans{}", if attempt > 0 { " again" } else { "" });
        let reply = writer.answer(&question).map_err(|error| match problems.as_slice() {
            [] => error.to_string(),
            // The second question is longer by the first answer, and may not fit any more; what was wrong is the reason.
            problems => format!("no plan was made: {}; it was not asked again: {error}", problems.join("; ")),
        })?;
        match planner::read(&reply.text, tables) {
            Ok(planned) => return Ok(planned),
            Err(found) => problems = found,
        }
        question = planner::again(&question, &reply.text, &problems);
    }
    Err(format!("no plan was made: {}", problems.join("; ")))
}

/// Names of the project's files; if there are more than fit, a last line says so.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = project::names(folder).take(LISTED + 1).collect();
    if names.len() > LISTED {
        names[LISTED] = format!("(and more; these are the first {LISTED})");
    }
    names
}
