//! A request becomes a plan: what the planner is asked, and what its answer must be before a file of it is written
//! (S1-04, S1-27 to S1-29, S2-33).
//!
//! The answer is data that fits a schema. It becomes task files only if every task parses, the plan has an order, and the
//! policy agrees with who is to do what; otherwise all problems go back to the planner at once.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use minijinja::context;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::plan::Plan;
use crate::policy::{Delegable, Judgement, Route, Says, Surroundings, Tables, judge, listing};
use crate::prompt::{ContextFile, PromptMessage, Role, fence, render_plan, shown};
use crate::task::Task;
use crate::writer::{Purpose, Question};
use crate::{Error, Result};

/// The most tokens of a plan.
const MAX_TOKENS: usize = 16_384;

/// The most tasks of a plan.
const MAX_TASKS: usize = 200;

/// The most context files that a task for a local model may name (S1-56).
const CONTEXT_FILES: usize = 2;

/// What is to be planned.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// In the user's words.
    pub words: &'a str,
    /// Files that are shown whole.
    pub files: &'a [ContextFile],
    /// Names of files of the project.
    pub listing: &'a [String],
}

/// A plan that holds: nothing of it is written yet.
#[derive(Clone, Debug)]
pub struct Planned {
    /// File names and contents, `batches.md` the last.
    pub files: Vec<(String, String)>,
    /// The tasks with what the policy says about each.
    pub judged: Vec<(Task, Judgement)>,
    /// What the planner has to say beside the tasks.
    pub notes: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    notes: String,
    tasks: Vec<Proposal>,
}

/// One task as the planner proposes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Proposal {
    task_id: String,
    description: String,
    output_files: Vec<String>,
    context_files: Vec<String>,
    constraints: Vec<String>,
    test_command: String,
    depends_on: Vec<String>,
    estimated_lines: u32,
    imports: u32,
    model: Who,
    reason: String,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Who {
    Local,
    Cloud,
}

/// What a planner is asked.
pub fn question(request: &Request<'_>, tables: &Tables) -> Result<Question> {
    let names = request.listing.join("\n");
    let files = request.files.iter().map(|file| shown(&file.path, &file.path, &file.content));
    let rules = tables.categories.iter().filter(|rules| rules.atomic == Delegable::Cloud);
    let cloud: Vec<&str> = rules.map(|rules| rules.name.as_str()).collect();
    let content = render_plan(context! {
        request => request.words,
        listing => (!names.is_empty()).then(|| context! { text => &names, fence => fence(3, [names.as_str()]) }),
        files => files.collect::<Vec<_>>(),
        lines => tables.atomic.lines,
        imports => tables.atomic.imports,
        context_files => CONTEXT_FILES,
        cloud => cloud.join(", "),
    })?;
    Ok(Question {
        purpose: Purpose::Plan,
        messages: vec![PromptMessage { role: Role::User, content }],
        schema: schema(),
        files: request.files.iter().map(|file| file.path.clone()).collect(),
        max_tokens: MAX_TOKENS,
    })
}

/// The question again, after an answer with these problems.
pub fn again(question: &Question, answer: &str, problems: &[String]) -> Question {
    let mut content = "The plan cannot be used as it is:\n".to_owned();
    problems.iter().for_each(|problem| {
        // Writing to a string does not fail.
        let _ = writeln!(content, "- {problem}");
    });
    content.push_str("\nWrite the whole plan again, corrected.");
    let mut messages = question.messages.clone();
    messages.push(PromptMessage::assistant(answer));
    messages.push(PromptMessage { role: Role::User, content });
    Question { messages, ..question.clone() }
}

/// Reads an answer. If it cannot be used: every problem.
pub fn read(answer: &str, tables: &Tables) -> Result<Planned, Vec<String>> {
    let read = serde_json::from_str::<Answer>(answer);
    let Answer { notes, tasks: proposed } =
        read.map_err(|error| vec![format!("it cannot be read: {error}")])?;
    let mut problems = Vec::new();
    if proposed.is_empty() || proposed.len() > MAX_TASKS {
        problems.push(format!("it has {} tasks; 1 to {MAX_TASKS} are allowed", proposed.len()));
        return Err(problems);
    }
    let mut files = Vec::new();
    let mut judged = Vec::new();
    for proposal in &proposed {
        match proposal.task(tables) {
            Ok((file, content, task, judgement)) => {
                proposal.check(&task, &judgement, &mut problems);
                files.push((file, content));
                judged.push((task, judgement));
            }
            Err(problem) => problems.push(problem),
        }
    }
    let tasks: Vec<Task> = judged.iter().map(|(task, _)| task.clone()).collect();
    match Plan::new(tasks) {
        Ok(plan) if problems.is_empty() => {
            files.push(("batches.md".to_owned(), batches(&plan, &judged)));
            Ok(Planned { files, judged, notes })
        }
        Ok(_) => Err(problems),
        Err(error) => {
            problems.push(error.to_string());
            Err(problems)
        }
    }
}

impl Proposal {
    /// The task file, and what the policy says about it where the planner's word does not count.
    fn task(&self, tables: &Tables) -> Result<(String, String, Task, Judgement), String> {
        let name = format!("{}.json", self.task_id);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.task_id.is_empty() || self.task_id.len() > 40 || !self.task_id.chars().all(is_plain) {
            return Err(format!("task `{}`: its id must be such as T-001", self.task_id.escape_debug()));
        }
        let mut spec = Map::new();
        let mut set = |key: &str, value: Value| {
            let empty = value.as_array().is_some_and(Vec::is_empty) || value == json!("");
            if !empty {
                spec.insert(key.to_owned(), value);
            }
        };
        set("task_id", json!(self.task_id));
        set("description", json!(self.description));
        match self.output_files.as_slice() {
            [one] => set("output_file", json!(one)),
            several => set("output_files", json!(several)),
        }
        set("context_files", json!(self.context_files));
        set("constraints", json!(self.constraints));
        set("test_command", json!(self.test_command));
        set("depends_on", json!(self.depends_on));
        set("estimated_lines", json!(self.estimated_lines));
        set("imports", json!(self.imports));
        if self.model == Who::Cloud && self.output_files.len() > 1 {
            // More than one file is for the policy `ticket` alone.
            set("policy", json!("ticket"));
        }
        if self.output_files.is_empty() {
            // An empty list says that the task only verifies; nobody writes anything for it.
            spec.insert("output_files".to_owned(), json!([]));
            ["estimated_lines", "imports"].iter().for_each(|field| drop(spec.remove(*field)));
        }
        let parse = |spec: &Map<String, Value>| {
            let content = serde_json::to_string_pretty(spec).unwrap_or_default() + "\n";
            let task = Task::parse(&name, &content).map_err(|error| error.to_string())?;
            Ok::<_, String>((content, task))
        };
        let (content, free) = parse(&spec)?;
        let judgement = judge(&free, &Surroundings::default(), tables);
        if free.is_check() {
            return Ok((name, content, free, judgement));
        }
        let alias = match self.model {
            Who::Local => "local",
            Who::Cloud if judgement.route == Route::Cloud => &judgement.model,
            Who::Cloud => "sonnet",
        };
        spec.insert("model".to_owned(), json!(alias));
        if self.model == Who::Local {
            // The policy has agreed without the planner's word, which overrules guesses (S0-22).
            let (content, task) = parse(&spec)?;
            return Ok((name, content, task, judgement));
        }
        if !self.reason.trim().is_empty() {
            spec.insert("reason".to_owned(), json!(self.reason));
        }
        let (content, task) = parse(&spec)?;
        let judgement = judge(&task, &Surroundings::default(), tables);
        Ok((name, content, task, judgement))
    }

    /// What the policy has against it.
    fn check(&self, task: &Task, judgement: &Judgement, problems: &mut Vec<String>) {
        let id = &self.task_id;
        let (files, limit) = (task.files.len(), task.policy.max_files());
        if files > limit {
            problems.push(format!("{id}: it writes {files} files, a task may write {limit}; divide it"));
        }
        if task.is_check() {
            return;
        }
        if self.model == Who::Cloud {
            if self.reason.trim().is_empty() {
                problems.push(format!("{id}: it is for the cloud, and `reason` does not say why"));
            }
            return;
        }
        if self.context_files.len() > CONTEXT_FILES {
            let named = self.context_files.len();
            problems.push(format!(
                "{id}: it names {named} context files, a local model is shown {CONTEXT_FILES}"
            ));
        }
        for ruling in judgement.against().filter(|ruling| ruling.verdict == Says::Cloud) {
            problems.push(format!("{id}: not for a local model by `{}`: {}", ruling.rule, ruling.fact));
        }
    }
}

/// The file that divides the tasks into batches, with both lists of S1-27 below it.
fn batches(plan: &Plan, judged: &[(Task, Judgement)]) -> String {
    let mut text =
        "# Batches\n\nTasks of a batch may run at the same time; each batch needs the ones before it.\n"
            .to_owned();
    for (number, wave) in plan.waves.iter().enumerate() {
        let _ = writeln!(text, "\n## Batch {}", number + 1);
        for task in wave.iter().filter_map(|at| plan.tasks.get(*at)) {
            let line = task.description.lines().next().unwrap_or_default();
            let _ = writeln!(text, "- [ ] {}.json: {}", task.id, line.trim());
        }
    }
    let _ = write!(text, "\n# Who does what\n\n{}\n", listing(judged));
    text
}

impl Planned {
    /// Writes the plan into a new folder: all of it, or nothing.
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let io = |source| Error::Io { path: folder.to_owned(), source };
        if std::fs::symlink_metadata(folder).is_ok() {
            return Err(io(std::io::Error::new(
                std::io::ErrorKind::AlreadyExists,
                "it is there already; name a new folder",
            )));
        }
        let parent =
            folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(io)?;
        let draft = tempfile::Builder::new().prefix(".plan-").tempdir_in(parent).map_err(io)?;
        for (name, content) in &self.files {
            let mut file = std::fs::File::create_new(draft.path().join(name)).map_err(io)?;
            file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        }
        // A folder is made for its owner alone; this one is for whoever may see the project.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(draft.path(), mode).map_err(io)?;
        }
        std::fs::rename(draft.path(), folder).map_err(io)?;
        // What was moved away is not to be removed.
        let _ = draft.keep();
        Ok(self.files.iter().map(|(name, _)| folder.join(name)).collect())
    }
}

fn schema() -> Value {
    let text = json!({ "type": "string" });
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    let number = json!({ "type": "integer" });
    let fields = json!({
        "task_id": text, "description": text, "output_files": texts, "context_files": texts, "constraints": texts,
        "test_command": text, "depends_on": texts, "estimated_lines": number, "imports": number,
        "model": { "type": "string", "enum": ["local", "cloud"] }, "reason": text,
    });
    let names: Vec<&String> = fields.as_object().map(|fields| fields.keys().collect()).unwrap_or_default();
    json!({
        "type": "object",
        "properties": {
            "notes": text,
            "tasks": {
                "type": "array",
                "items": {
                    "type": "object", "properties": fields, "required": names, "additionalProperties": false,
                },
            },
        },
        "required": ["notes", "tasks"],
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests;
