use super::*;

fn proposal(id: &str, file: &str) -> Value {
    json!({
        "task_id": id, "description": "Create a pure function `double` that returns twice its argument",
        "output_files": [file], "context_files": [], "constraints": ["no imports"],
        "test_command": "cargo test --offline", "depends_on": [], "estimated_lines": 10, "imports": 0,
        "model": "local", "reason": "",
    })
}

fn with(mut proposal: Value, fields: Value) -> Value {
    for (key, value) in fields.as_object().unwrap() {
        proposal[key] = value.clone();
    }
    proposal
}

fn plan(tasks: Vec<Value>) -> Result<Planned, Vec<String>> {
    read(&json!({ "notes": "n", "tasks": tasks }).to_string(), Tables::built_in())
}

/// Covers S0-22, S1-27, S1-29, S1-33: both lists, task files and batches, checked against the policy; a reason is kept.
#[test]
fn a_plan_is_task_files_and_batches() {
    let second = with(proposal("T-002", "src/b.rs"), json!({ "depends_on": ["T-001"] }));
    let third = with(
        proposal("T-003", "src/app.rs"),
        json!({
            "model": "cloud", "reason": "it is integration", "output_files": ["src/app.rs", "src/lib.rs"],
            "description": "Integrate `double` into the application",
            "depends_on": ["T-002"],
        }),
    );
    let planned = plan(vec![proposal("T-001", "src/a.rs"), second, third]).unwrap();
    let names: Vec<&str> = planned.files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["T-001.json", "T-002.json", "T-003.json", "batches.md"]);
    let (_, batches) = &planned.files[3];
    for part in [
        "## Batch 1\n- [ ] T-001.json: Create",
        "## Batch 3\n- [ ] T-003.json",
        "Delegable to Local Model\n1. T-001",
        "Requires Claude\n3. T-003: `src/app.rs` Integrate `double` into the application [multi-file]: it is integration",
    ] {
        assert!(batches.contains(part), "{part}: {batches}");
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("plans/new");
    assert_eq!(planned.write(&out).unwrap().len(), 4);
    let loaded = Plan::load(std::slice::from_ref(&out)).unwrap();
    assert_eq!((loaded.tasks.len(), loaded.waves.len()), (3, 3));
    let says = |at: usize| (loaded.tasks[at].model.as_deref(), loaded.tasks[at].reason.as_deref());
    assert_eq!((says(0), says(2)), ((Some("local"), None), (Some("sonnet"), Some("it is integration"))));
    assert!(loaded.tasks.iter().all(|task| task.warnings.is_empty()));
    // What is there is never overwritten, and nothing else is left behind.
    assert!(planned.write(&out).unwrap_err().to_string().contains("there already"));
    assert_eq!(std::fs::read_dir(folder.path().join("plans")).unwrap().count(), 1);
}

/// Covers S1-32: the last task may only verify; nobody is asked for it, whatever the planner says.
#[test]
fn the_last_task_may_write_no_file() {
    let last = with(
        proposal("T-002", ""),
        json!({ "output_files": [], "model": "cloud", "description": "Verify all of it", "estimated_lines": 900 }),
    );
    let planned = plan(vec![proposal("T-001", "src/a.rs"), last]).unwrap();
    let (_, text) = &planned.files[1];
    let task = Task::parse("T-002.json", text).unwrap();
    assert!(task.is_check() && task.model.is_none() && task.warnings.is_empty(), "{text}");
    let (_, batches) = &planned.files[2];
    assert!(batches.contains("## Batch 2\n- [ ] T-002.json: Verify all of it\n"), "{batches}");
    assert!(batches.contains("2. T-002: Verify all of it [verification]"), "{batches}");
}

/// Covers S1-25, S1-26, S1-56: who is to do what is the policy's decision, and every problem is named.
#[test]
fn what_breaks_the_policy_is_no_plan() {
    let cases = [
        (json!({ "estimated_lines": 90 }), "T-001: not for a local model by `lines`"),
        (json!({ "imports": 5 }), "`imports`"),
        (json!({ "description": "Create custom hook useTheme" }), "`category`"),
        (json!({ "test_command": "" }), "`test`"),
        (json!({ "test_command": "cargo test && rm -rf x" }), "shell"),
        (json!({ "output_files": ["../x"] }), "../x"),
        (json!({ "output_files": ["a", "b"] }), "2 files"),
        (
            json!({ "output_files": [], "test_command": "" }),
            "a task that writes no file is done by its command",
        ),
        (json!({ "context_files": ["a", "b", "c"] }), "3 context files"),
        (json!({ "depends_on": ["T-009"] }), "T-009"),
        (json!({ "task_id": "../T" }), "id"),
        (json!({ "model": "cloud" }), "`reason`"),
        (json!({ "description": "" }), "description"),
    ];
    for (fields, word) in cases {
        let problems =
            plan(vec![with(proposal("T-001", "src/a.rs"), fields.clone())]).unwrap_err().join("\n");
        assert!(problems.contains(word), "{fields}: {problems}");
    }
    let twice = plan(vec![proposal("T-001", "a.rs"), proposal("T-001", "b.rs")]).unwrap_err().join("\n");
    assert!(twice.contains("T-001"), "{twice}");
    let one = with(proposal("T-001", "a.rs"), json!({ "depends_on": ["T-002"] }));
    let two = with(proposal("T-002", "b.rs"), json!({ "depends_on": ["T-001"], "imports": 9 }));
    let problems = plan(vec![one, two]).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    for text in ["", "{}", r#"{"notes":"","tasks":[]}"#, r#"{"notes":"","tasks":[{}]}"#] {
        assert!(read(text, Tables::built_in()).is_err(), "{text}");
    }
}

#[test]
fn problems_go_back_with_the_answer() {
    let files = [ContextFile { path: "src/a.rs".into(), content: "fn a() {}\n".into() }];
    let listing = ["src/a.rs".to_owned()];
    let request = Request { words: "Add doubling", files: &files, listing: &listing };
    let first = question(&request, Tables::built_in()).unwrap();
    let said = &first.messages[0].content;
    for part in ["Add doubling", "fn a() {}", "at most 50 lines", "reducer", "at most 2 context files"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(first.files, ["src/a.rs"]);
    let second = again(&first, "{}", &["T-001: too long".to_owned()]);
    assert_eq!(second.messages.len(), 3);
    assert!(second.messages[2].content.contains("- T-001: too long"));
    assert!(jsonschema_like(&first.schema));
}

/// Structured output of cloud models wants every field required and no others.
fn jsonschema_like(schema: &Value) -> bool {
    let items = &schema["properties"]["tasks"]["items"];
    let fields = items["properties"].as_object().unwrap().len();
    items["required"].as_array().unwrap().len() == fields && items["additionalProperties"] == json!(false)
}
