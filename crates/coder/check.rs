//! `coder check`: local or cloud, and every rule that decided. No model is asked and nothing is written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use coder_escalate::Config;
use coder_tasks::ledger::{Routed, is_local};
use coder_tasks::policy::{
    BUILT_IN, Judgement, Route, Says, Surroundings, Tables, judge, judge_text, listing,
};
use coder_tasks::{Plan, Task};
use serde::Serialize;

use crate::config;
use crate::failure::{Failure, Outcome};
use crate::ledger::LedgerArgs;
use crate::named;
use crate::output::Output;
use crate::rungs::Rungs;
use crate::state::StateArgs;

/// Say whether tasks are for a local model or for the cloud, by which rules
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// Task files (Markdown or JSON), or folders of them
    #[arg(value_name = "TASK", required_unless_present_any = ["describe", "show_policy"])]
    tasks: Vec<PathBuf>,
    /// Classify these words in place of a task file
    #[arg(long, value_name = "TEXT", conflicts_with = "tasks")]
    describe: Option<String>,
    /// The file that the words are about
    #[arg(long, value_name = "FILE", requires = "describe")]
    file: Option<String>,
    /// The folder that the tasks would change, where tests of their files are looked for
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    working_dir: PathBuf,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Print the built-in policy (YAML), to be changed and given to --policy
    #[arg(long)]
    show_policy: bool,
    /// Print JSON: one object, or a list for several tasks
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  coder check task.md
  coder check plan/                   two lists: for a local model, and not
  coder check task.json --json | jq '.rules[] | select(.verdict == \"cloud\")'
  coder check --describe 'Add login button'

A JSON task is held to the policy `atomic` (one file, at most 50 lines and 2 imports, a test), a Markdown task to
`ticket` (complexity not high, no tag ARCH or SECURITY, at most 3 files, no dependency on a task of its own batch, few
escalations in the ledger); a task may name its policy, and say `tags`, `category`, `estimated_lines` and `imports`.
Numbers such as S2-32 name the requirement that a rule, or a figure of coder stats, comes from; they mean nothing else.
Exit code 0 if all tasks are local, 1 if not.";

/// One task, judged.
#[derive(Serialize)]
struct Checked<'a> {
    task_id: &'a str,
    file: &'a str,
    #[serde(flatten)]
    judgement: &'a Judgement,
    /// Who begins with it in `coder run`; None for words that are no task.
    begins: Option<String>,
}

pub(crate) fn run(args: CheckArgs) -> Outcome {
    let mut out = Output::new();
    if args.show_policy {
        return Ok(out.text(BUILT_IN)?);
    }
    let loaded = args.policy.tables()?;
    let tables = loaded.as_deref().unwrap_or(Tables::built_in());
    let paths = places(&args.tasks, &args.working_dir);
    // An order that cannot be run is said as well, once the tasks are judged; what is judged alone has none.
    let plan = Plan::load(&paths);
    let (judged, begins) = match &args.describe {
        Some(words) => {
            let file = args.file.as_deref();
            (vec![(Task::of_text(words, file), judge_text(words, file, tables))], vec![None])
        }
        None => {
            let config = config::load(&args.working_dir, "")?;
            let mut judged = args.judged(&paths, tables)?;
            if let Ok(plan) = &plan {
                ticked(plan);
                judged.retain(|(task, _)| !plan.ticked.contains(&task.id));
            }
            notes(judged.iter().map(|(task, _)| task), tables, &config);
            let rungs = Rungs::new(&config);
            let first = |(task, judgement): &(Task, Judgement)| Some(rungs.ladders(task, judgement).first);
            let begins = judged.iter().map(first).collect();
            (judged, begins)
        }
    };
    let several = judged.len() > 1 || paths.iter().any(|path| path.is_dir());
    let checked: Vec<Checked<'_>> = judged
        .iter()
        .zip(begins)
        .map(|((task, judgement), begins)| Checked { task_id: &task.id, file: &task.file, judgement, begins })
        .collect();
    match (args.json, several, checked.first()) {
        (true, false, Some(one)) => out.json(one)?,
        (true, ..) => out.json(&checked)?,
        (false, ..) => {
            for one in &checked {
                out.text(&explained(one))?;
            }
            if several {
                out.text(&format!("{}\n", listing(&judged)))?;
            }
        }
    }
    plan?;
    let local = judged.iter().all(|(_, judgement)| judgement.route == Route::Local);
    if local { Ok(()) } else { Err(Failure::quiet(1)) }
}

/// By which tables tasks are judged.
#[derive(Args, Clone, Debug)]
pub(crate) struct PolicyArgs {
    /// Thresholds, categories and cues in place of the built-in ones: YAML, as coder check --show-policy prints it
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

impl PolicyArgs {
    /// The user's tables; None for the built-in ones.
    pub(crate) fn tables(&self) -> Outcome<Option<Arc<Tables>>> {
        Ok(self.policy.as_deref().map(Tables::load).transpose()?.map(Arc::new))
    }
}

impl CheckArgs {
    fn judged(&self, paths: &[PathBuf], tables: &Tables) -> Outcome<Vec<(Task, Judgement)>> {
        passed_over(paths)?;
        let routed = self.ledger.routed(&self.state);
        let mut judged = Vec::new();
        for path in paths {
            let tasks = Task::load_all(path)?;
            // Batches may be written before all of their tasks are.
            let in_wave = Plan::in_wave(path, &tasks).unwrap_or_else(|error| {
                eprintln!("warning: {error}; until then no task is judged by its batch");
                vec![Vec::new(); tasks.len()]
            });
            for (task, in_wave) in tasks.into_iter().zip(in_wave) {
                let seen = surroundings(&task, &self.working_dir);
                let around = Surroundings { in_wave, routed: routed.clone(), ..seen };
                let judgement = judge(&task, &around, tables);
                judged.push((task, judgement));
            }
        }
        match (judged.is_empty(), paths.first()) {
            (true, Some(path)) => Err(Failure::new(format!("`{}`: no task files in it", path.display()))),
            _ => Ok(judged),
        }
    }
}

/// Where tasks are: one may be named as seen from the folder that it works in.
pub(crate) fn places<'p>(paths: impl IntoIterator<Item = &'p PathBuf>, working_dir: &Path) -> Vec<PathBuf> {
    let place = |path: &PathBuf| {
        let inside = working_dir.join(path);
        if !path.exists() && inside.exists() { inside } else { path.clone() }
    };
    paths.into_iter().map(place).collect()
}

/// Says which tasks of a plan are none any more.
pub(crate) fn ticked(plan: &Plan) {
    if !plan.ticked.is_empty() {
        eprintln!("note: ticked as done, and not done again: {}", plan.ticked.join(", "));
    }
}

/// Says what task files have that is not understood, or not as it may be meant.
pub(crate) fn notes<'t>(tasks: impl IntoIterator<Item = &'t Task>, tables: &Tables, config: &Config) {
    for task in tasks {
        let note = |words: &str| eprintln!("note: {}: {words}", task.source);
        task.warnings.iter().for_each(|warning| note(warning));
        if let Some(word) = task.complexity.as_deref().filter(|word| tables.complexity(word).is_none()) {
            let known = tables.complexities().collect::<Vec<_>>().join(", ");
            note(&format!(
                "complexity `{}` is not known, and is taken as not high; known are {known}",
                word.escape_debug()
            ));
        }
        if let Some(name) = task.model.as_deref().filter(|name| !named::is_known(name))
            && let Err(problem) = config.rung(name)
        {
            note(&format!("field `model`: {problem}; nor is it the name of a local model"));
        }
    }
}

/// Says what in folders of tasks is none, lest it be taken for one.
pub(crate) fn passed_over(paths: &[PathBuf]) -> Outcome {
    for path in paths {
        let name = |file: &PathBuf| format!("`{}`", file.file_name().unwrap_or_default().display());
        let names: Vec<_> = Task::list(path)?.passed_over.iter().map(name).collect();
        if !names.is_empty() {
            let names = names.join(", ");
            eprintln!(
                "note: {}: not tasks, and passed over: {names}; a task names a file to modify",
                path.display()
            );
        }
    }
    Ok(())
}

/// What `coder run` does about tasks that are not for a local model.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Eligibility (see coder check)")]
pub(crate) struct EligibilityArgs {
    /// Leave out tasks that are not for a local model: they end as refused [default: a warning]
    #[arg(long)]
    only_eligible: bool,
    /// Give every task to the local model, without a warning: also one that is not for it, that names another, or that
    /// [[routes]] send elsewhere
    #[arg(long, conflicts_with = "only_eligible")]
    force_local: bool,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
}

impl EligibilityArgs {
    /// Whether tasks that are not for a local model go to it all the same.
    pub(crate) fn is_forced_local(&self) -> bool {
        self.force_local
    }

    /// Why a task is not to be done that was judged; None if it is. What is to be said is said. One that goes to a model
    /// elsewhere is refused only if --only-eligible says so.
    pub(crate) fn refusal(&self, task: &Task, judgement: &Judgement, goes_local: bool) -> Option<String> {
        if judgement.route == Route::Local || self.force_local || !(goes_local || self.only_eligible) {
            return None;
        }
        let against = judgement.against().map(|ruling| format!("{} ({})", ruling.rule, ruling.requirement));
        let rules = against.collect::<Vec<_>>().join(", ");
        if !self.only_eligible {
            eprintln!("warning: {}: not for a local model by {rules}; `coder check` says more", task.id);
            return None;
        }
        Some(rules)
    }
}

/// Judges a task that is about to run in a folder, after what became of the tasks before it. A plan runs in an order in which
/// none depends on another of its wave.
pub(crate) fn judged(task: &Task, folder: &Path, routed: &[Routed], tables: &Tables) -> Judgement {
    let around = Surroundings { routed: routed.to_vec(), ..surroundings(task, folder) };
    judge(task, &around, tables)
}

/// What the policies ask beside the task, as far as it can be seen in the folder that the task would change.
fn surroundings(task: &Task, folder: &Path) -> Surroundings {
    let test =
        tests_of(&task.file).into_iter().find(|test| *test != task.file && folder.join(test).is_file());
    Surroundings { existing_test: test, ..Surroundings::default() }
}

/// Where a file's test lies by the customs of the languages.
fn tests_of(file: &str) -> Vec<String> {
    let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    let beside = |name: String| if folder.is_empty() { name } else { format!("{folder}/{name}") };
    vec![
        beside(format!("{stem}.test.{ending}")),
        beside(format!("{stem}.spec.{ending}")),
        beside(format!("{stem}_test.{ending}")),
        beside(format!("test_{stem}.{ending}")),
        beside(format!("__tests__/{stem}.test.{ending}")),
        beside(format!("tests/test_{stem}.{ending}")),
        format!("tests/{stem}.{ending}"),
        format!("tests/test_{stem}.{ending}"),
        format!("tests/{stem}_test.{ending}"),
        format!("test/{stem}.test.{ending}"),
        format!("spec/{stem}_spec.{ending}"),
    ]
}

/// A task in a line, and its rules in one each.
fn explained(one: &Checked<'_>) -> String {
    let Judgement { route, model, policy, classification, rules, .. } = one.judgement;
    let place = match route {
        Route::Local => "local".to_string(),
        Route::Cloud => format!("cloud ({model})"),
    };
    let policy = format!("{policy:?}").to_lowercase();
    let (category, kind) = (classification.category.as_str(), classification.kind.as_str());
    let mut text = format!("{}: {place}, {kind}, {category}, policy {policy}\n", one.task_id);
    for ruling in rules {
        let verdict = match ruling.verdict {
            Says::Local => "local",
            Says::Cloud => "cloud",
            Says::Note => "note",
            Says::Overruled => "(cloud)",
        };
        text += &format!("  {verdict:<8}{:<12}{}: {}\n", ruling.rule, ruling.requirement, ruling.fact);
    }
    // The policy says who should do it; the task, routes and what may leave say who does.
    if let Some(begins) = one.begins.as_ref().filter(|begins| is_local(begins) != (*route == Route::Local)) {
        text += &format!(
            "  coder run begins with `{begins}` all the same (the task's `model`, [[routes]], --egress)\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_where_languages_put_them() {
        let folder = tempfile::tempdir().unwrap();
        let task = |file: &str| Task::of_text("x", Some(file));
        let found = |file: &str| surroundings(&task(file), folder.path()).existing_test;
        for (file, test) in [
            ("src/a.js", "src/a.test.js"),
            ("src/b.ts", "src/__tests__/b.test.ts"),
            ("c.py", "tests/test_c.py"),
            ("src/d.rs", "tests/d.rs"),
            ("pkg/e.go", "pkg/e_test.go"),
        ] {
            assert_eq!(found(file), None);
            let path = folder.path().join(test);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
            assert_eq!(found(file).as_deref(), Some(test));
        }
    }
}
