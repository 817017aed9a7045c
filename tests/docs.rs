//! The pages of docs/ and the commands of examples/claude: what they show is what the program reads, and they show all of it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use coder_escalate::Config;
use coder_escalate::config::{Source, Trust, Vocabulary};
use coder_tasks::policy::{Route, Surroundings, Tables, judge};
use coder_tasks::prompt::ContextFile;
use coder_tasks::{Plan, Prompt, Task, Templates, task};
use serde_json::Value;

fn page(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The fenced blocks that have these words behind their first fence.
fn blocks(page: &str, words: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let info = line.trim_start_matches('`');
        let fence = &line[..line.len() - info.len()];
        if fence.len() < 3 {
            continue;
        }
        let text: String =
            lines.by_ref().take_while(|line| *line != fence).flat_map(|line| [line, "\n"]).collect();
        if info == words {
            found.push(text);
        }
    }
    assert!(!found.is_empty(), "no `{words}`");
    found
}

/// What stands in backticks in the first cells of the table with this heading.
fn first_cells(page: &str, heading: &str) -> Vec<String> {
    let rows = page.lines().skip_while(|line| !line.starts_with(&format!("| {heading} |"))).skip(2);
    let cells = rows.take_while(|line| line.starts_with('|')).filter_map(|line| line.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

fn load(text: &str, trust: Trust) -> Result<Config, coder_escalate::Error> {
    let tables = Tables::built_in();
    let types = tables.task_types.keys().map(|kind| kind.as_str().to_owned()).collect();
    let vocabulary = Vocabulary { types, phases: tables.phases.keys().cloned().collect() };
    Config::layered(&[Source { name: "coder.toml", text, trust }], &vocabulary)
}

#[test]
fn every_configuration_that_is_shown_is_read() {
    let page = page("docs/configuration.md");
    for (words, trust) in [("toml", Trust::Own), ("toml project", Trust::Project)] {
        for text in blocks(&page, words) {
            load(&text, trust).unwrap_or_else(|error| panic!("{error}\n{text}"));
        }
    }
    // All together are one file, but for the short form of a table that another one writes whole.
    let all = blocks(&page, "toml").concat().replace("egress = \"ask\"\n", "");
    let config = load(&all, Trust::Own).unwrap();
    assert_eq!((config.routes.len(), config.planner.as_str()), (2, "local"));
}

#[test]
fn every_key_of_the_configuration_is_shown() {
    let page = page("docs/configuration.md");
    let words: HashSet<&str> = page.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for table in [
        "",
        "[endpoints.anthropic]",
        "[rungs.haiku]",
        "[rungs.haiku.price]\ninput_usd = 1\noutput_usd = 1",
        "[rungs.haiku.price]\ninput_usd = 1\noutput_usd = 1\n[rungs.haiku.price.long]",
        "[ladders]",
        "[egress]",
        "[budget]",
        "[review]",
        "[planner]",
        "[[routes]]",
        "[[routes]]\nrung = \"opus\"\n[routes.match]",
    ] {
        let error = load(&format!("{table}\nzzz = 1\n"), Trust::Own).unwrap_err().to_string();
        let (_, known) = error.split_once("known here are ").unwrap_or_else(|| panic!("{table}: {error}"));
        for key in known.split('`').skip(1).step_by(2) {
            assert!(words.contains(key), "{table}: `{key}`");
        }
    }
    for kind in Tables::built_in().task_types.keys() {
        assert!(page.contains(&format!("`{}`", kind.as_str())), "{}", kind.as_str());
    }
}

#[test]
fn every_task_that_is_shown_is_read() {
    let page = page("docs/tasks.md");
    for (words, name) in [("markdown", "task.md"), ("json task", "task.json")] {
        for text in blocks(&page, words) {
            let task = Task::parse(name, &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert!(task.warnings.is_empty(), "{:?}", task.warnings);
        }
    }
    let fields = first_cells(&page, "field");
    assert_eq!(fields, task::FIELDS);
}

#[test]
fn the_batches_that_are_shown_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for id in ["001", "002", "003"] {
        let task = format!("# Task: One\n\n## File to modify\n{id}.txt\n");
        fs::write(folder.path().join(format!("{id}.md")), task).unwrap();
    }
    let batches = blocks(&page("docs/tasks.md"), "markdown batches").concat();
    fs::write(folder.path().join("batches.md"), batches).unwrap();
    let plan = Plan::load(&[folder.path().to_owned()]).unwrap();
    assert_eq!((plan.ticked, plan.waves), (vec!["001".to_owned()], vec![vec![0], vec![1]]));
}

#[test]
fn the_result_that_is_shown_has_the_keys_of_results() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = folder.path().join("task.md");
    fs::write(&file, "# Task: One\n\n## File to modify\nnotes.txt\n\n## Code\n```\none\n```\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_coder"));
    command
        .arg("run")
        .arg(&file)
        .arg("--working-dir")
        .arg(folder.path())
        .arg("--state-dir")
        .arg(state.path());
    let output = command.args(["--output-format", "json", "--no-ledger"]).output().unwrap();
    let keys = |text: &[u8]| {
        let value: Value = serde_json::from_slice(text).unwrap();
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    let page = page("docs/tasks.md");
    let shown = blocks(&page, "json result").concat();
    assert_eq!(keys(&output.stdout), keys(shown.as_bytes()));
}

#[test]
fn the_template_and_the_variables_that_are_shown_are_known() {
    let page = page("docs/tasks.md");
    let folder = tempfile::tempdir().unwrap();
    let variables = first_cells(&page, "variable");
    let all: String = variables.iter().map(|name| format!("{{{{ {name} }}}}\n")).collect();
    assert_eq!(variables.len(), 11);
    let task = Task::parse("t.json", &blocks(&page, "json task").concat()).unwrap();
    let shown = ContextFile { path: "src/constants/locale.js".into(), content: "x\n".into() };
    for template in [blocks(&page, "jinja").concat(), all] {
        fs::write(folder.path().join("code.md"), template).unwrap();
        let templates = Templates::load(folder.path()).unwrap();
        let prompt = Prompt::by(&templates, &task, std::slice::from_ref(&shown), &[]).unwrap();
        assert!(prompt.messages[0].content.contains("formatCurrency"));
    }
}

/// Covers S1-51, S1-52: the commands are short, and have one executor, which does what they show.
#[test]
fn the_commands_for_claude_go_through_one_executor() {
    let folder = tempfile::tempdir().unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/validation");
    for name in ["utils", "tests"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
        for entry in
            fs::read_dir(examples.join(name)).unwrap().map(Result::unwrap).filter(|e| e.path().is_file())
        {
            fs::copy(entry.path(), folder.path().join(name).join(entry.file_name())).unwrap();
        }
    }
    let specs = folder.path().join(".claude/task-specs");
    fs::create_dir_all(&specs).unwrap();
    for (name, file) in [
        ("local-code", "utils/currency.py"),
        ("local-test", "tests/test_email_address.py"),
        ("local-refactor", "utils/names.py"),
    ] {
        let command = page(&format!("examples/claude/commands/{name}.md"));
        for part in
            ["$ARGUMENTS", "coder check .claude/task-specs/ID.json", "coder run .claude/task-specs/ID.json"]
        {
            assert!(command.contains(part), "{name}: {part}");
        }
        let spec = blocks(&command, "json task").concat();
        let task = Task::parse("spec.json", &spec).unwrap();
        let judgement = judge(&task, &Surroundings::default(), Tables::built_in());
        assert_eq!((judgement.route, task.file.as_str()), (Route::Local, file), "{:?}", judgement.rules);
        assert!(task.warnings.is_empty(), "{:?}", task.warnings);
        fs::write(specs.join(format!("{}.json", task.id)), spec).unwrap();
    }
    let state = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_coder"));
    command
        .arg("run")
        .arg(&specs)
        .arg("--working-dir")
        .arg(folder.path())
        .arg("--state-dir")
        .arg(state.path());
    command.env("XDG_CONFIG_HOME", "/nonexistent");
    let output = command.args(["--output-format", "json", "--no-ledger"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
