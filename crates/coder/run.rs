//! `coder run`: from task files to verified edits.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use coder_escalate::{Config, RungName};
use coder_tasks::ledger::is_local;
use coder_tasks::plan::is_repository;
use coder_tasks::policy::Tables;
use coder_tasks::run::Showing;
use coder_tasks::{Conduct, Crew, EditFormat, Finished, Plan, Policy, Settings, Task, Writer, run_plan};

use crate::args::ModelArgs;
use crate::check::{self, EligibilityArgs};
use crate::cloud::Cloud;
use crate::config;
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::jobs::Jobs;
use crate::ledger::{LedgerArgs, Recorder};
use crate::output::Output;
use crate::prompting::PromptArgs;
use crate::related;
use crate::report::{self, Report};
use crate::rungs::{CloudArgs, Rungs};
use crate::sandbox::SandboxArgs;
use crate::screen::{Prepared, Screen};
use crate::state::StateArgs;
use crate::writer::{Local, Stop, Writers};

/// Do tasks: draft the edit, write it with a backup, let the task's command decide
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// Task files (Markdown or JSON), or folders of them
    #[arg(value_name = "TASK", required_unless_present = "task_file")]
    tasks: Vec<PathBuf>,
    /// The same as TASK
    #[arg(long, visible_alias = "task", value_name = "TASK")]
    task_file: Vec<PathBuf>,
    /// The folder that the tasks may change, and where their commands run
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    working_dir: PathBuf,
    /// text: a line per task; json: one object, or {results, summary} for several tasks or a folder
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output_format: Format,
    /// How often the model may try; from the second time it sees what went wrong
    #[arg(long, value_name = "N", default_value_t = 2)]
    attempts: u32,
    /// The same as --attempts 1
    #[arg(long, conflicts_with = "attempts")]
    no_retry: bool,
    /// Seconds that a task's command may run, up to a day
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Tokens that a reply may have, for which there must be room [default: up to 4096]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// How replies write edits: whole files, diff (search/replace blocks, which always fit), patch, or auto: whole
    /// files where they are small or new, or where no block fits into the tokens of a reply, else diff
    #[arg(long, value_name = "FORM", default_value = "auto")]
    edit_format: Form,
    /// Each task in a git worktree of its own, outside of the checkout, and with one commit of its own; the checkout
    /// takes the commits at the end. Without it, tasks run one after the other in the folder itself
    #[arg(long, visible_alias = "auto-commits")]
    commit: bool,
    /// Tasks at work at the same time; in a git repository, anything but 1 means --commit. auto: one for each core that this
    /// process may use, but no more than the key-value cache has room for prompts and replies of together 8192 tokens (of
    /// the context, where that is shorter; see --cache), and at most 16 of a local model
    #[arg(long, value_name = "N|auto", default_value = "1")]
    jobs: Jobs,
    /// With --commit: work although there are changes that are not committed. They stay out of the plan, and are there
    /// afterwards as they were
    #[arg(long)]
    stash: bool,
    /// Go on with a run of the same plan that was killed, stopped, or not complete; what is done is not done again.
    /// Where some tasks are done and others are left, a run needs this or --restart
    #[arg(long)]
    resume: bool,
    /// Forget such a run, and what it did that the checkout does not have yet
    #[arg(long, conflicts_with = "resume")]
    restart: bool,
    /// Same seed, same edits
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Write nothing into the ledger (see coder stats)
    #[arg(long, conflicts_with = "ledger")]
    no_ledger: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    eligibility: EligibilityArgs,
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    cloud: CloudArgs,
    #[command(flatten)]
    sandbox: SandboxArgs,
}

const EXAMPLES: &str = "Examples:
  coder run task.md
  coder run tasks/ --working-dir ../worktree --output-format json
  coder run task.json --model qwen2.5-coder-7b.gguf --attempts 3
  coder run plan/ --jobs 4
  coder run plan/ --jobs 4 --resume
  coder run plan/ --jobs auto
  coder run plan/ --egress ask --budget 0.50

A task file says which file to write, what it should be, and which command must succeed:

  # Task: Write a function `double` that returns `x` multiplied by 2.

  ## File to modify
  src/double.rs

  ## Verification
  Run: cargo test --offline --quiet

A task with `output_files: []` writes nothing: its command verifies what the others did, without a model.

The command runs in a sandbox: it can write in the working directory only, and has no network. A line that
needs a shell is written `Run (shell): a && b`, and runs once you have approved it with --approve-shell.

A folder of tasks is a plan. Its order comes from `batches.md` in it, or from `depends_on` in the tasks; else they are
one wave. Tasks of a wave may run at the same time, unless they touch the same file.

Who begins with a task: the model that its `model` names (local, haiku, sonnet, opus, or a rung of coder config), else that of the
first [[routes]] that fits, else the local model, unless the policy says that the task is not for one. --model says which model the
local one is, and nothing more; --force-local gives every task to it.

What the local model cannot do, or may not, goes up a ladder of models elsewhere, if the configuration or --egress lets anything
leave (see coder config). Where all fail, a hand-over says what a person needs to go on.

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
pub(crate) enum Format {
    Text,
    Json,
}

pub(crate) fn run(args: RunArgs) -> Outcome {
    let begin = Instant::now();
    let prepared = args.plan().and_then(|plan| Ok((args.conduct(&plan)?, plan)));
    let (mut conduct, plan) = prepared.or_else(|failure| args.refuse(failure))?;
    let interrupt = Interrupt::install().or_else(|failure| args.refuse(failure))?;
    let stop = Stop::default();
    let during = interrupt.during({
        let stop = stop.clone();
        move || stop.now()
    });
    let writers = Writers::new(&args.model.open, stop.clone());
    let recorder = match args.no_ledger {
        true => Recorder::none(),
        false => Recorder::open(&args.ledger, &args.state, &args.working_dir),
    };
    let config = config::load(&args.working_dir, &(args.cloud.layer() + &args.model.layer()));
    let config = config.or_else(|failure| args.refuse(failure))?;
    let cloud = Cloud::new(&config, &recorder, stop.clone()).or_else(|failure| args.refuse(failure))?;
    let rungs = args.rungs(&config);
    let prepared = args.prepare(&plan, &writers, rungs, &recorder).or_else(|failure| args.refuse(failure))?;
    if conduct.commit {
        conduct.jobs = args.count_jobs(&plan, &writers, rungs, &prepared);
    }
    let several = args.is_several(&plan);
    let screen = Screen::new(&prepared, several, args.output_format, &recorder);
    cloud.beside(&screen.live);
    writers.beside(&screen.live);
    let crew = Crew {
        settings: &|task| prepared[task.id.as_str()].settings.clone(),
        writer: &|task, tier| writer(&writers, &cloud, rungs, task, tier),
        observe: &|task, event| screen.observe(plan.tasks.get(task), event),
        cancel: stop.flag(),
    };
    let ended = run_plan(&plan, &args.working_dir, &conduct, &crew).map_err(Failure::from);
    let (finished, told) = screen.close();
    let decoded = std::mem::take(&mut writers.lock().decoded);
    let tasks = plan.tasks.len();
    let seconds = begin.elapsed().as_secs_f64();
    let results = match ended {
        Ok(results) => results,
        Err(failure) if finished.is_empty() => return args.refuse(failure),
        Err(failure) => {
            let report = Report::new(&finished, tasks, &decoded, seconds);
            args.print(&report.cut_short(failure.reason()), several)?;
            return Err(failure);
        }
    };
    let told = told.and_then(|()| args.print(&Report::new(&results, tasks, &decoded, seconds), several));
    let complete = results.len() == tasks && results.iter().all(|result| result.is_complete());
    if !complete && several && results.iter().any(Finished::is_complete) {
        let how = if args.restart { "--resume in place of --restart" } else { "--resume" };
        eprintln!("note: go on with the same command and {how}; what is done is not done again");
    }
    // Ctrl-C may also have answered the question whether something may be sent.
    if during.happened() || stop.flag().load(Ordering::SeqCst) {
        return Err(Failure::interrupted());
    }
    match told {
        Err(failure) if !failure.is_quiet() => Err(failure),
        // Whether the tasks are done does not depend on who listens.
        _ if complete => Ok(()),
        _ => Err(Failure::quiet(1)),
    }
}

/// Who stands behind a tier.
fn writer<'w>(
    writers: &'w Writers<'_>,
    cloud: &'w Cloud<'_>,
    rungs: Rungs<'_>,
    task: &Task,
    tier: &str,
) -> Option<Box<dyn Writer + 'w>> {
    let name = rungs.of_tier(tier)?;
    Some(match rungs.model(&name, Some(task)) {
        Some(local) => Box::new(writers.with(local)),
        None => Box::new(cloud.writer(name, Some(task.clone()))),
    })
}

impl RunArgs {
    fn rungs<'a>(&self, config: &'a Config) -> Rungs<'a> {
        Rungs {
            config,
            model_given: self.model.model.is_some(),
            force_local: self.eligibility.is_forced_local(),
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        check::places(self.tasks.iter().chain(&self.task_file), &self.working_dir)
    }

    /// All tasks, read before the first one is begun.
    fn plan(&self) -> Outcome<Plan> {
        let paths = self.paths();
        let plan = Plan::load(&paths)?;
        check::passed_over(&paths)?;
        check::ticked(&plan);
        if !plan.beside.is_empty() {
            let beside = plan.beside.join("`, `");
            eprintln!("note: taken as done, because it is depended on and not part of this run: `{beside}`");
        }
        Ok(plan)
    }

    /// Whether this is a plan, and not one task.
    fn is_several(&self, plan: &Plan) -> bool {
        plan.tasks.len() != 1 || self.paths().iter().any(|path| path.is_dir())
    }

    fn conduct(&self, plan: &Plan) -> Outcome<Conduct> {
        let repository = is_repository(&self.working_dir);
        if self.jobs.are_several() && !repository {
            eprintln!("note: --jobs needs a git repository; the tasks run one after the other");
        }
        let commit = self.commit || (self.jobs.are_several() && repository);
        let state = self.state.beside(&self.working_dir)?;
        let full = |path: PathBuf| path.canonicalize().unwrap_or(path).display().to_string();
        let name = self.paths().into_iter().map(full).collect::<Vec<_>>().join(" ");
        Ok(Conduct {
            name,
            jobs: 1,
            commit,
            state,
            record: self.is_several(plan),
            resume: self.resume,
            restart: self.restart,
            stash: self.stash,
        })
    }

    /// How many tasks are at work at the same time, each in a worktree.
    fn count_jobs(
        &self,
        plan: &Plan,
        writers: &Writers<'_>,
        rungs: Rungs<'_>,
        prepared: &HashMap<&str, Prepared>,
    ) -> usize {
        let ladders = |task: &Task| &prepared[task.id.as_str()].settings.policy.ladders;
        let models = plan.tasks.iter().flat_map(|task| rungs.models(ladders(task), task));
        let count = self.jobs.count(coder_kernels::cpu::cores(), writers.lock().rooms(models));
        if self.jobs == Jobs::Auto {
            eprintln!("note: --jobs auto is {count} here");
        }
        count
    }

    /// What each task begins with, by its id.
    fn prepare<'p>(
        &self,
        plan: &'p Plan,
        writers: &Writers<'_>,
        rungs: Rungs<'_>,
        recorder: &Recorder,
    ) -> Outcome<HashMap<&'p str, Prepared>> {
        let attempts = if self.no_retry { 1 } else { self.attempts };
        let mut settings = Settings {
            policy: Policy { attempts, seed: self.seed, ..Policy::default() },
            sandbox: self.sandbox.open(&self.secrets(rungs.config)?)?,
            approvals: crate::sandbox::approvals(),
            edit_format: self.edit_format.into(),
            ..Settings::default()
        };
        self.sandbox.approve(&plan.tasks, &settings.approvals)?;
        settings.verify.time = Duration::from_secs(self.timeout);
        let own = self.eligibility.policy.tables()?;
        let tables = own.as_deref().unwrap_or(Tables::built_in());
        check::notes(&plan.tasks, tables, rungs.config);
        let routed = recorder.routed();
        settings.review = rungs.review();
        settings.denied = related::denied(rungs.config)?;
        settings.handovers = Some(self.state.beside(&self.working_dir)?);
        let showing =
            |name: &RungName, task| self.showing(name, rungs.model(name, task).as_ref(), own.as_ref());
        let is_rung = |name: &str| rungs.config.rungs.keys().any(|rung| rung.as_str() == name);
        for folder in self.prompts.of_no_rung(&self.working_dir, is_rung)? {
            eprintln!("warning: `{}` has the name of no rung, and was not used", folder.display());
        }
        let others = rungs.others().map(|(name, tier)| Ok((tier, showing(name, None)?)));
        settings.showings = others.collect::<Outcome<_>>()?;
        let writer = writers.lock();
        let mut of = |task: &'p Task| {
            settings.showing = showing(&RungName::local(), Some(task))?;
            let judgement = check::judged(task, &self.working_dir, &routed, tables);
            settings.policy.ladders = rungs.ladders(task, &judgement);
            settings.verify.output_bytes = writer.output_bytes(rungs.models(&settings.policy.ladders, task));
            let is_local = is_local(&settings.policy.ladders.first);
            settings.refused_by = self.eligibility.refusal(task, &judgement, is_local);
            Ok((task.id.as_str(), Prepared { settings: settings.clone(), judgement }))
        };
        plan.tasks.iter().map(&mut of).collect()
    }

    /// Where this program itself keeps what no command may see.
    fn secrets(&self, config: &Config) -> Outcome<Vec<PathBuf>> {
        let keys = config.endpoints.values().filter_map(|endpoint| endpoint.key_file.clone());
        let folders = [Some(self.state.folder()?), config::folder(), crate::state::state_folder()];
        Ok(keys.chain(folders.into_iter().flatten()).chain(crate::sandbox::tokens()).collect())
    }

    /// How tasks are shown to a model, which is one in this process or elsewhere.
    fn showing(
        &self,
        name: &RungName,
        here: Option<&Local>,
        tables: Option<&Arc<Tables>>,
    ) -> Outcome<Showing> {
        let is_bundled = here.is_some_and(Local::is_bundled);
        let mut templates = self.prompts.templates(name, is_bundled, &self.working_dir)?;
        if let Some(tables) = tables {
            templates = templates.classified_by(tables.clone());
        }
        Ok(Showing { context: self.prompts.context(here.is_some()), templates, max_tokens: self.max_tokens })
    }

    /// What is said when all is over.
    fn print(&self, report: &Report<'_>, several: bool) -> Outcome {
        let mut out = Output::new();
        match (self.output_format, several) {
            (Format::Text, true) => out.line(&report.line())?,
            (Format::Text, false) => {}
            (Format::Json, true) => out.json(report)?,
            (Format::Json, false) => match report.one() {
                Some(result) => out.json(&result)?,
                None => out.json(report)?,
            },
        }
        Ok(())
    }

    /// A program that reads results is told as well why there are none.
    fn refuse<T>(&self, failure: Failure) -> Outcome<T> {
        if self.output_format == Format::Json {
            Output::new().json(&report::refused(failure.reason()))?;
        }
        Err(failure)
    }
}
