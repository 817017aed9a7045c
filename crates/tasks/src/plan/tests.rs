use super::*;

fn task(id: &str, file: &str, more: &str) -> Task {
    let text = format!("---\nid: {id}\n{more}\n---\n# Task: Do {id}\n\n## File\n{file}\n");
    Task::parse(&format!("plan/{id}.md"), &text).unwrap()
}

fn ids(plan: &Plan) -> Vec<Vec<&str>> {
    plan.waves.iter().map(|wave| wave.iter().map(|task| &*plan.tasks[*task].id).collect()).collect()
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
    folder
}

#[test]
fn batches_are_found_however_their_name_is_written() {
    let order = "## Batch 1\n- b\n\n## Batch 2\n- a\n";
    let (a, b) = (file("a"), file("b"));
    let folder = folder(&[("a.md", &a), ("b.md", &b), ("Batches.MD", order)]);
    let plan = Plan::load(&[folder.path().to_owned()]).unwrap();
    assert_eq!(ids(&plan), [["b"], ["a"]]);
    std::fs::write(folder.path().join("batches.md"), order).unwrap();
    let error = Plan::load(&[folder.path().to_owned()]).unwrap_err().to_string();
    assert!(error.contains("Batches.MD` says the order too"), "{error}");
}

/// A task file that is called after its number and writes a file of its own.
fn file(name: &str) -> String {
    format!("# Task: Do {name}\n\n## File\n{name}.py\n")
}

#[test]
fn tasks_without_an_order_are_one_wave() {
    let plan = Plan::new(vec![task("a", "a.py", ""), task("b", "b.py", ""), task("c", "c.py", "")]).unwrap();
    assert_eq!(ids(&plan), [["a", "b", "c"]]);
    assert_eq!(Plan::new(vec![]).unwrap().waves.len(), 0);
}

fn check(id: &str, more: &str) -> Task {
    let text =
        format!("---\nid: {id}\noutput_files: []\n{more}\n---\n# Task: Do {id}\n\n## Verify\nRun: true\n");
    Task::parse(&format!("plan/{id}.md"), &text).unwrap()
}

/// Covers S1-32.
#[test]
fn a_check_stands_last_unless_it_says_what_it_waits_for() {
    let tasks = vec![
        check("last", ""),
        task("a", "a.py", ""),
        check("early", "depends_on: a"),
        task("b", "b.py", "depends_on: a"),
        task("c", "c.py", "depends_on: early"),
    ];
    let plan = Plan::new(tasks).unwrap();
    assert_eq!(ids(&plan), [vec!["a"], vec!["b"], vec!["early"], vec!["c"], vec!["last"]]);
    assert_eq!(plan.needs[0], [1, 3, 4]);
    // One that others wait for does not wait for these.
    let plan =
        Plan::new(vec![task("a", "a.py", "depends_on: first"), check("first", ""), task("b", "b.py", "")]);
    let plan = plan.unwrap();
    assert_eq!(ids(&plan), [["b"], ["first"], ["a"]]);
    assert_eq!(Plan::new(vec![check("one", ""), check("two", "")]).unwrap().waves.len(), 1);
    // In a batch it comes after the others of it.
    let (text, b) = ("---\noutput_files: []\n---\n# Task: A\n\n## Verify\nRun: true\n", file("b"));
    let folder = folder(&[("a.md", text), ("b.md", &b), ("batches.md", "## Batch 1\n- a\n- b\n")]);
    let plan = Plan::load(&[folder.path().to_owned()]).unwrap();
    assert_eq!(ids(&plan), [["b"], ["a"]]);
}

/// Covers S2-32.
#[test]
fn dependencies_make_waves() {
    let tasks = vec![
        task("d", "d.py", "depends_on: [b, c]"),
        task("a", "a.py", ""),
        task("b", "b.py", "depends_on: a"),
        task("c", "c.py", "depends_on: \"a, x\""),
        task("x", "x.py", "depends_on:"),
    ];
    let plan = Plan::new(tasks).unwrap();
    assert_eq!(ids(&plan), [vec!["a", "x"], vec!["b", "c"], vec!["d"]]);
    assert_eq!(plan.needs[0], [2, 3]);
    let numbered =
        Task::parse("t.md", "---\ndepends_on: [001, 2]\n---\n# Task: x\n\n## File\na.py\n").unwrap();
    assert_eq!(numbered.depends_on, ["001", "2"]);
    let one = Task::parse("t.md", "---\ndepends_on: 001\n---\n# Task: x\n\n## File\na.py\n").unwrap();
    assert_eq!(one.depends_on, ["001"]);
    let json = r#"{"task_id":"j","description":"b","output_file":"c","depends_on":["a", "b"]}"#;
    assert_eq!(Task::parse("j.json", json).unwrap().depends_on, ["a", "b"]);
}

#[test]
fn what_cannot_be_ordered_is_an_error_that_names_both() {
    let circle = vec![
        task("a", "a.py", ""),
        task("b", "b.py", "depends_on: [a, d]"),
        task("c", "c.py", "depends_on: b"),
        task("d", "d.py", "depends_on: c"),
    ];
    let error = Plan::new(circle).unwrap_err();
    assert!(error.to_string().contains("`b` → `d` → `c` → `b`"), "{error}");
    let own = Plan::new(vec![task("a", "a.py", "depends_on: a")]).unwrap_err();
    assert!(matches!(&own, Error::Cycle { tasks } if *tasks == ["a", "a"]), "{own}");
    let unknown = Plan::new(vec![task("a", "a.py", "depends_on: z")]).unwrap_err().to_string();
    assert!(unknown.contains("`z`") && unknown.contains("`a`"), "{unknown}");
    let twice =
        Plan::new(vec![task("a", "a.py", ""), Task { source: "b.md".into(), ..task("a", "b.py", "") }]);
    let twice = twice.unwrap_err().to_string();
    assert!(twice.contains("`a`") && twice.contains("`plan/a.md`") && twice.contains("`b.md`"), "{twice}");
}

#[test]
fn tasks_that_touch_one_file_are_in_different_waves() {
    let tasks = vec![
        task("a", "src/x.py", ""),
        task("b", "src/X.py", ""),
        task("reads", "z.py", "context_files: [src/x.py]"),
        task("free", "y.py", ""),
        task("c", "src/x.py", ""),
    ];
    let plan = Plan::new(tasks).unwrap();
    assert_eq!(ids(&plan), [vec!["a", "free"], vec!["b"], vec!["reads", "c"]]);
}

/// Covers S0-23.
#[test]
fn batches_are_read_in_a_persons_form() {
    let text = "# Batches\n\nSome words.\n\n## Batch 1 (parallel)\n- [ ] 001.md: the first\n  - 009 is not a task\n\
                - [ ] `002` and more\n\n### Notes\n- nothing\n\n## Wave 2\n| Task | Title |\n|---|:---|\n\
                | 003 | Three |\n| [004](004.md) | Four |\n\n## Batch 3: last\n1. Task 005, with words\n\n## Phase 4\n* 006, 007\n";
    let names = ["001", "002", "003", "004", "005", "006", "007"];
    let mut files: Vec<(String, String)> =
        names.iter().map(|name| (format!("{name}.md"), file(name))).collect();
    files.push(("batches.md".into(), text.into()));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
    let plan = Plan::load(&[folder(&files).path().to_owned()]).unwrap();
    assert_eq!(ids(&plan), [vec!["001", "002"], vec!["003", "004"], vec!["005"], vec!["006", "007"]]);
    assert_eq!(plan.needs[4], [0, 1, 2, 3]);
    assert!(plan.ticked.is_empty());
}

#[test]
fn a_ticked_task_is_done() {
    let second = file("b").replace("# Task", "---\ndepends_on: a\n---\n# Task");
    let batches = "## Batch 1\n- [x] a\n## Batch 2\n- [ ] b\n";
    let folder = folder(&[("a.md", &file("a")), ("b.md", &second), ("batches.md", batches)]);
    let plan = Plan::load(&[folder.path().to_owned()]).unwrap();
    assert_eq!((ids(&plan), plan.ticked.clone()), (vec![vec!["b"]], vec!["a".to_owned()]));
    assert_eq!(plan.needs, [Vec::<usize>::new()]);
}

/// Neither is the id wrong, nor does adding the other task help whom only this one is left of.
#[test]
fn a_task_of_a_plan_can_be_named_alone() {
    let needing = |id: &str| file("b").replace("# Task", &format!("---\ndepends_on: {id}\n---\n# Task"));
    let folder = folder(&[("a.md", &file("a")), ("b.md", &needing("a")), ("c.md", &needing("x"))]);
    let path = |name: &str| folder.path().join(name);
    let plan = Plan::load(&[path("b.md")]).unwrap();
    assert_eq!((ids(&plan), &plan.beside), (vec![vec!["b"]], &vec!["a".to_owned()]));
    let both = Plan::load(&[path("b.md"), path("a.md")]).unwrap();
    assert_eq!((ids(&both), both.beside.len()), (vec![vec!["a"], vec!["b"]], 0));
    assert!(matches!(Plan::load(&[path("c.md")]), Err(Error::UnknownTask { .. })));
}

#[test]
fn batches_that_contradict_the_tasks_are_errors() {
    let late = file("a").replace("# Task", "---\ndepends_on: b\n---\n# Task");
    for (first, batches, expected) in [
        (&file("a"), "## Batch 1\n- a\n- c\n", "line 3: no task `c`"),
        (&file("a"), "## Batch 1\n- a\n", "no place for task `b`"),
        (&file("a"), "## Batch 1\n- a\n- b\n## Batch 2\n- a\n", "the id `a`"),
        (&late, "## Batch 1\n- a\n- b\n", "`a` depends on `b`"),
        (&late, "## Batch 1\n- a\n## Batch 2\n- b\n", "`a` depends on `b`"),
    ] {
        let folder = folder(&[("a.md", first), ("b.md", &file("b")), ("batches.md", batches)]);
        let error = Plan::load(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains(expected), "{batches}: {error}");
    }
}

#[test]
fn a_folder_without_tasks_is_an_error() {
    let error = Plan::load(&[folder(&[("batches.md", "## Batch 1\n")]).path().to_owned()]).unwrap_err();
    assert!(error.to_string().contains("no task files"), "{error}");
}
