//! `coder check`: local or cloud, and why.

use serde_json::Value;

use crate::support::{coder, folder, json, output, stderr, stdout, text};

const LOCAL: &str = r#"{"task_id": "T-001", "description": "Write a function `clamp` that limits `x`.",
    "output_file": "src/clamp.js", "test_command": "npx vitest run"}"#;
const CLOUD: &str = r#"{"task_id": "T-002", "description": "Create complex hook", "output_file": "src/useTable.js",
    "test_command": "npx vitest run"}"#;

/// Covers S1-40, S1-50.
#[test]
fn the_exit_code_says_where_a_task_belongs_and_the_rules_say_why() {
    let folder = folder(&[("local.json", LOCAL), ("cloud.json", CLOUD)]);
    let local = output(&["check", text(folder.path().join("local.json"))]);
    assert_eq!(local.status.code(), Some(0), "{}", stdout(&local));
    assert!(stdout(&local).starts_with("T-001: local, FEAT, utility, policy atomic\n"), "{}", stdout(&local));
    let cloud = output(&["check", text(folder.path().join("cloud.json"))]);
    assert_eq!(cloud.status.code(), Some(1));
    let said = stdout(&cloud);
    assert!(said.starts_with("T-002: cloud (sonnet), FEAT, hook, policy atomic\n"), "{said}");
    assert!(said.contains("  cloud   category    S1-26, S1-35: `hook`"), "{said}");
    for rule in ["lines", "imports", "files", "stateless", "test", "task-type"] {
        assert!(said.contains(&format!(" {rule} ")), "{rule}: {said}");
    }
    let mut command = coder(&["check", text(folder.path().join("cloud.json")), "--json"]);
    let value: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert_eq!(
        (&value["task_id"], &value["route"], &value["policy"]),
        (&"T-002".into(), &"cloud".into(), &"atomic".into())
    );
    assert_eq!(value["classification"]["category"], "hook");
    let rules = value["rules"].as_array().unwrap();
    assert!(rules.iter().any(|rule| rule["verdict"] == "cloud" && rule["requirement"] == "S1-26, S1-35"));
}

/// Covers S1-27.
#[test]
fn a_folder_is_a_decomposition() {
    let folder = folder(&[("a.json", LOCAL), ("b.json", CLOUD)]);
    let shown = output(&["check", text(folder.path())]);
    assert_eq!(shown.status.code(), Some(1));
    let said = stdout(&shown);
    let lists = said.split_once("### Delegable to Local Model\n").unwrap().1;
    assert_eq!(
        lists,
        "1. T-001: `src/clamp.js` Write a function `clamp` that limits `x`. [~25 lines]\n\n\
         ### Requires Claude\n2. T-002: `src/useTable.js` Create complex hook [~60 lines]\n"
    );
}

/// Covers S2-32: what a batch says about its tasks. A run refuses such an order; here it is a rule that says so.
#[test]
fn a_ticket_that_depends_on_one_of_its_batch_is_not_local() {
    let ticket = |id: &str, depends: &str| {
        format!(
            "---\nid: {id}\ndepends_on: [{depends}]\n---\n# Task: Let the exporter write gzip\n\n## File to modify\n{id}.py\n"
        )
    };
    let (first, second) = (ticket("A-1", ""), ticket("A-2", "A-1"));
    let batches = |order: &str| {
        let folder = folder(&[("a.md", &first), ("b.md", &second), ("batches.md", order)]);
        let checked = output(&["check", text(folder.path()), "--ledger", "/nonexistent"]);
        (checked.status.code(), stdout(&checked) + &stderr(&checked))
    };
    let (code, said) = batches("## Batch 1\n- A-1\n- A-2\n");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("local   wave        S2-32: depends on no task of its wave"), "{said}");
    assert!(said.contains("cloud   wave        S2-32: depends on A-1 in its wave"), "{said}");
    for apart in ["## Batch 1\n- A-1\n## Batch 2\n- A-2\n", "## Batch 1\n- [x] A-1\n- A-2\n"] {
        let (code, said) = batches(apart);
        assert_eq!(code, Some(0), "{said}");
    }
    // Batches that name a task that is not written yet, or not all that are: what can be judged is, and such a plan does not run.
    for (order, problem) in
        [("## Batch 1\n- A-1\n- A-9\n", "no task `A-9`"), ("## Batch 1\n- A-1\n", "no place for task `A-2`")]
    {
        let (code, said) = batches(order);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("warning: ") && said.contains(problem), "{said}");
        assert!(said.contains("local   wave        S2-32: depends on no task of its wave"), "{said}");
    }
    assert!(!std::path::Path::new("/nonexistent").exists());
}

/// Covers S2-18.
#[test]
fn words_alone_are_classified() {
    let value = json(&["check", "--describe", "Add login button", "--json"]);
    assert_eq!(value["classification"]["kind"], "FEAT");
    assert_eq!(value["route"], "local");
    assert_eq!(output(&["check"]).status.code(), Some(2));
}

#[test]
fn a_policy_of_ones_own_holds_in_place_of_the_built_in_one() {
    let built_in = stdout(&output(&["check", "--show-policy"]));
    let folder = folder(&[
        ("task.json", LOCAL),
        ("same.yaml", &built_in),
        ("strict.yaml", &built_in.replacen("lines: 50", "lines: 5", 1)),
        ("bad.yaml", "atomic: {}"),
    ]);
    let check = |policy: &str| {
        let task = text(folder.path().join("task.json"));
        output(&["check", task, "--policy", text(folder.path().join(policy))])
    };
    assert_eq!(check("same.yaml").status.code(), Some(0));
    let strict = check("strict.yaml");
    assert_eq!(strict.status.code(), Some(1));
    assert!(
        stdout(&strict).contains("cloud   lines       S1-25: 25 lines estimated, at most 5"),
        "{}",
        stdout(&strict)
    );
    let bad = check("bad.yaml");
    assert_eq!(bad.status.code(), Some(1));
    assert!(stderr(&bad).starts_with("error: policy tables `"), "{}", stderr(&bad));
}

/// Covers S1-33.
#[test]
fn a_run_warns_and_leaves_tasks_out_only_where_asked() {
    let task = r#"{"task_id": "T-003", "description": "Find out why the nightly build fails", "output_file": "a.py"}"#;
    let folder = folder(&[("task.json", task)]);
    let args = |extra: &'static str| {
        let task = text(folder.path().join("task.json"));
        let root = text(folder.path());
        let mut all = vec!["run", task, "--working-dir", root, "--model", "/nonexistent", "--no-ledger"];
        all.extend(["--output-format", "json", extra].iter().filter(|arg| !arg.is_empty()));
        output(&all)
    };
    let outcome = |output: &std::process::Output| {
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        value["outcome"].as_str().unwrap().to_string()
    };
    let warned = args("");
    assert!(
        stderr(&warned).contains("warning: T-003: not for a local model by category (S0-37, S0-40)"),
        "{}",
        stderr(&warned)
    );
    assert_eq!(outcome(&warned), "unavailable");
    let forced = args("--force-local");
    assert!(!stderr(&forced).contains("not for a local model"), "{}", stderr(&forced));
    let refused = args("--only-eligible");
    assert_eq!((outcome(&refused).as_str(), refused.status.code()), ("refused", Some(1)));
    assert!(
        stdout(&refused).contains("the task is not for a local model by category"),
        "{}",
        stdout(&refused)
    );
}

/// What `coder run` says about a task file, `coder check` says too, and what it refuses.
#[test]
fn what_is_misspelt_is_said_before_anything_runs() {
    let task = |front: &str, rest: &str| {
        format!(
            "---\n{front}\n---\n# Task: Let the exporter write gzip\n\n## File to modify\na.txt\n\n{rest}"
        )
    };
    let odd = task("modle: local\ncomplexity: huge\nmodel: gpt5", "## Verificaton\nRun: false\n");
    let folder = folder(&[
        ("odd.md", &odd),
        ("plan/1.md", &task("id: 1", "")),
        ("plan/2.md", &task("depends_on: 1", "")),
        ("bad/3.md", &task("depends_on: 7", "")),
    ]);
    let place = |name: &str| text(folder.path().join(name));
    let checked = output(&["check", place("odd.md"), "--ledger", "/nonexistent"]);
    let run = |task: &str| {
        output(&["run", task, "--working-dir", place("plan"), "--model", "/nonexistent", "--no-ledger"])
    };
    let ran = run(place("odd.md"));
    for (said, command) in [(stderr(&checked), "check"), (stderr(&ran), "run")] {
        for words in [
            "field `modle` is not known and was not used",
            "complexity `huge` is not known, and is taken as not high; known are xs, s, small",
            "`Run:` is a command only under `## Verification`, not under `## Verificaton`",
            "field `model`: `gpt5` is not a rung; known are haiku (cheap",
        ] {
            assert!(
                said.contains(&format!("odd.md: {words}")) || said.contains(words),
                "{command}: {words}: {said}"
            );
        }
    }
    for command in ["check", "run"] {
        let refused = output(&[command, place("bad")]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains("no task `7` in this plan"), "{command}: {}", stderr(&refused));
    }
    assert_eq!(output(&["check", place("plan/2.md"), "--ledger", "/nonexistent"]).status.code(), Some(0));
    let alone = run(place("plan/2.md"));
    assert!(stderr(&alone).contains("not part of this run: `1`"), "{}", stderr(&alone));
}

/// Both find a task as seen from the folder that it works in, leave out what is ticked, and show no terminal a name that it
/// would obey.
#[test]
fn tasks_are_found_as_a_run_finds_them() {
    let folder = folder(&[
        ("work/plan/a.json", LOCAL),
        ("work/plan/b.json", CLOUD),
        ("work/plan/batches.md", "## Batch 1\n- [ ] T-001\n- [x] T-002\n"),
        ("work/plan/no\u{1b}[31mtask.md", "# Notes\n"),
    ]);
    let checked = output(&["check", "plan", "--working-dir", text(folder.path().join("work"))]);
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
    assert!(!stdout(&checked).contains("T-002"), "{}", stdout(&checked));
    let said = stderr(&checked);
    assert!(said.contains("ticked as done, and not done again: T-002"), "{said}");
    assert!(said.contains("passed over: `notask.md`") && !said.contains('\u{1b}'), "{said}");
}

/// The policy says who should do a task, and where another one begins with it, that is said as well.
#[test]
fn who_begins_is_said_where_the_policy_says_otherwise() {
    let folder = folder(&[("cloud.json", CLOUD), ("local.json", LOCAL)]);
    let check = |name: &str| output(&["check", text(folder.path().join(name))]);
    let said = stdout(&check("cloud.json"));
    assert!(
        said.ends_with(
            "  coder run begins with `local` all the same (the task's `model`, [[routes]], --egress)\n"
        ),
        "{said}"
    );
    assert!(!stdout(&check("local.json")).contains("all the same"));
}
