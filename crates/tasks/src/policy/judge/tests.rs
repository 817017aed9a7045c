use super::*;
use crate::policy::TaskType;

fn spec(fields: &str) -> Task {
    let text = format!(
        r#"{{"task_id":"T-1","description":"Write a function `clamp` that limits `x`.","output_file":"src/clamp.js",
            "test_command":"npx vitest run","category":"utility",{fields}"policy":"atomic"}}"#
    );
    Task::parse("t.json", &text).unwrap()
}

fn ticket(front: &str, title: &str) -> Task {
    let text = format!("---\n{front}\n---\n# Task: {title}\n\n## File to modify\nsrc/a.rs\n");
    Task::parse("t.md", &text).unwrap()
}

fn judged(task: &Task) -> Judgement {
    judge(task, &Surroundings::default(), Tables::built_in())
}

/// Where it goes, and the rules against a local model.
fn verdict(task: &Task) -> (Route, Vec<&'static str>) {
    let judgement = judged(task);
    (judgement.route, judgement.against().map(|ruling| ruling.rule).collect())
}

const LOCAL_TASK: (Route, Vec<&str>) = (Route::Local, Vec::new());

/// Covers S1-25, S1-54.
#[test]
fn an_atomic_task_keeps_every_limit() {
    assert_eq!(verdict(&spec("")), LOCAL_TASK);
    assert_eq!(verdict(&spec(r#""estimated_lines":50,"imports":2,"#)), LOCAL_TASK);
    assert_eq!(verdict(&spec(r#""estimated_lines":51,"#)), (Route::Cloud, vec!["lines"]));
    assert_eq!(verdict(&spec(r#""imports":3,"#)), (Route::Cloud, vec!["imports"]));
    assert_eq!(verdict(&spec(r#""context_files":["a.js","b.js","c.js"],"#)), (Route::Cloud, vec!["imports"]));
    let mut untested = spec("");
    untested.command = None;
    assert_eq!(verdict(&untested), (Route::Cloud, vec!["test"]));
    let around = Surroundings { existing_test: Some("src/clamp.test.js".into()), ..Surroundings::default() };
    assert_eq!(judge(&untested, &around, Tables::built_in()).route, Route::Local);
    untested.category = Some(Category::Tests);
    assert_eq!(verdict(&untested), LOCAL_TASK);
    untested.category = Some(Category::Documentation);
    assert_eq!(verdict(&untested), LOCAL_TASK);
}

/// Covers S1-25.
#[test]
fn statelessness_is_a_preference() {
    let mut task = spec("");
    task.description = "Write a class that keeps a cache in localStorage".into();
    let judgement = judged(&task);
    assert_eq!(judgement.route, Route::Local);
    let note = judgement.rules.iter().find(|ruling| ruling.rule == "stateless").unwrap();
    assert_eq!(note.verdict, Says::Note);
    assert!(note.fact.contains("localstorage"), "{}", note.fact);
}

/// Covers S1-26, S1-35, S1-40.
#[test]
fn categories_that_are_not_delegable_go_to_the_cloud() {
    for (description, category) in [
        ("Create complex hook", Category::Hook),
        ("Add a case to the game reducer for FOLD", Category::Reducer),
        ("Integrate ThemeProvider into App", Category::Integration),
        ("Replace moment with date-fns everywhere", Category::MultiFile),
        ("Fix off-by-one in paginate", Category::Bugfix),
    ] {
        let judgement = judge_text(description, None, Tables::built_in());
        assert_eq!(
            (judgement.route, judgement.classification.category),
            (Route::Cloud, category),
            "{description}"
        );
        let ruling = judgement.against().next().unwrap();
        assert!(ruling.requirement.contains("S1-35"), "{ruling:?}");
        assert_ne!(judgement.model, "local");
    }
}

/// Covers S1-26.
#[test]
fn a_component_is_local_up_to_its_own_limits() {
    let with = |words: &str| judge_text(words, Some("src/Badge.jsx"), Tables::built_in());
    assert_eq!(with("Badge component, ~99 lines").route, Route::Local);
    assert_eq!(with("Badge component, ~100 lines").route, Route::Cloud);
    let hooks = with("Badge component with useState");
    assert_eq!(hooks.against().map(|ruling| ruling.rule).collect::<Vec<_>>(), ["category"]);
}

/// Covers S1-33.
#[test]
fn a_task_is_local_unless_a_rule_says_otherwise() {
    assert_eq!(judge_text("The frobnicator shall frobnicate.", None, Tables::built_in()).route, Route::Local);
    let large = judge_text("Write a compiler from scratch", None, Tables::built_in());
    assert_eq!(large.against().map(|ruling| ruling.rule).collect::<Vec<_>>(), ["size"]);
}

/// Covers S2-29, S2-32.
#[test]
fn a_ticket_keeps_every_limit() {
    let title = "Let the exporter write gzip";
    assert_eq!(verdict(&ticket("complexity: XS", title)), LOCAL_TASK);
    assert_eq!(verdict(&ticket("complexity: medium", title)), LOCAL_TASK);
    for high in ["high", "XL", "L"] {
        assert_eq!(
            verdict(&ticket(&format!("complexity: {high}"), title)),
            (Route::Cloud, vec!["complexity"])
        );
    }
    for tag in ["ARCH", "SECURITY", "security"] {
        assert_eq!(verdict(&ticket(&format!("tags: [UI, {tag}]"), title)), (Route::Cloud, vec!["tags"]));
    }
    assert_eq!(verdict(&ticket("tags: [UI]", title)), LOCAL_TASK);
    let around = Surroundings { in_wave: vec!["T-2".into()], ..Surroundings::default() };
    let judgement = judge(&ticket("complexity: S", title), &around, Tables::built_in());
    assert_eq!(judgement.against().map(|ruling| ruling.rule).collect::<Vec<_>>(), ["wave"]);
}

/// Covers S2-32: decision 4, the window, 0 of 0, and one task in ten while the share is too high.
#[test]
fn escalations_lock_tickets_out_for_a_while() {
    use Routed::{Elsewhere, LocalEscalated, LocalSuccess};
    let task = ticket("complexity: S", "Let the exporter write gzip");
    let after = |routed: Vec<Routed>| {
        judge(&task, &Surroundings { routed, ..Surroundings::default() }, Tables::built_in()).route
    };
    let history = |good: usize, bad: usize, elsewhere: usize| {
        let mut all = vec![LocalSuccess; good];
        all.extend(vec![LocalEscalated; bad]);
        all.extend(vec![Elsewhere; elsewhere]);
        all
    };
    assert_eq!(after(vec![]), Route::Local);
    assert_eq!(after(history(71, 29, 0)), Route::Cloud, "29 of the last 50");
    assert_eq!(after(history(36, 14, 0)), Route::Local, "28 %");
    assert_eq!(after(history(7, 3, 0)), Route::Cloud, "30 %");
    assert_eq!(after(history(7, 3, 8)), Route::Cloud);
    assert_eq!(after(history(7, 3, 9)), Route::Local);
    // An atomic task does not ask.
    let around = Surroundings { routed: history(0, 10, 0), ..Surroundings::default() };
    assert_eq!(judge(&spec(""), &around, Tables::built_in()).route, Route::Local);
}

/// Covers S0-26, S0-36, S0-37.
#[test]
fn what_the_task_says_about_who_and_when_decides() {
    let title = "Let the exporter write gzip";
    assert_eq!(verdict(&ticket("model: local", title)), LOCAL_TASK);
    for model in ["haiku", "sonnet", "opus"] {
        let task = ticket(&format!("model: {model}"), title);
        assert_eq!(verdict(&task), (Route::Cloud, vec!["model"]));
        assert_eq!(judged(&task).model, model);
    }
    for phase in ["setup", "red", "green", "refactor"] {
        assert_eq!(verdict(&ticket(&format!("tdd_phase: {phase}"), title)), LOCAL_TASK);
    }
    assert_eq!(verdict(&ticket("tdd_phase: verify", title)), (Route::Cloud, vec!["phase"]));
    for title in ["Propose an architecture for billing", "Review pull request 214", "Find out why CI fails"] {
        assert_eq!(verdict(&ticket("complexity: S", title)).0, Route::Cloud, "{title}");
    }
}

/// Covers S0-40.
#[test]
fn a_cloud_task_goes_to_the_next_model_of_its_type() {
    let model = |task: &Task| judged(task).model;
    let of = |category: &str| {
        let mut task = spec(r#""estimated_lines":500,"#);
        task.category = Category::all().iter().copied().find(|known| known.as_str() == category);
        task
    };
    assert_eq!(model(&of("utility")), "sonnet");
    assert_eq!(model(&of("format")), "haiku");
    assert_eq!(model(&of("review")), "opus");
    assert_eq!(model(&of("debug")), "opus");
    let tests = judge_text("Add a test module to ledger.rs", None, Tables::built_in());
    assert_eq!(tests.classification.task_type, TaskType::AddTestModule);
    let case = judge_text("Add a test case to parse_duration for negative values", None, Tables::built_in());
    assert_eq!(case.classification.task_type, TaskType::WriteTestCase);
}

#[test]
fn the_word_of_the_author_is_more_than_a_guess_but_not_more_than_a_limit() {
    let assigned = ticket("model: local", "Review pull request 214");
    let judgement = judged(&assigned);
    assert_eq!(judgement.route, Route::Local);
    let overruled = judgement.rules.iter().filter(|ruling| ruling.verdict == Says::Overruled);
    assert_eq!(overruled.map(|ruling| ruling.rule).collect::<Vec<_>>(), ["category", "task-type"]);
    assert_eq!(verdict(&ticket("model: local\ncategory: review", "x")).0, Route::Cloud);
    assert_eq!(verdict(&ticket("model: local\ntags: [SECURITY]", "x")), (Route::Cloud, vec!["tags"]));
}

/// Covers S0-18: decision 9.
#[test]
fn a_task_with_its_own_code_needs_no_model() {
    let text = "---\nmodel: opus\n---\n# Task: Fix the crash\n## File\na.rs\n## Code to add at line 3\n```rust\nx();\n```\n";
    let judgement = judged(&Task::parse("t.md", text).unwrap());
    assert_eq!(judgement.route, Route::Local);
    assert_eq!(judgement.rules[0].rule, "given-code");
    assert!(judgement.rules.iter().any(|ruling| ruling.verdict == Says::Cloud));
    assert_eq!(judgement.against().count(), 0);
    assert_eq!(
        (judgement.estimate.lines.value, judgement.estimate.lines.source.said()),
        (1, "counted in its code")
    );
}

#[test]
fn every_rule_names_its_requirement_and_its_fact() {
    for task in [spec(""), ticket("complexity: S\ntdd_phase: green\nmodel: local", "Rename a to b")] {
        let judgement = judged(&task);
        assert!(judgement.rules.len() >= 7);
        for ruling in &judgement.rules {
            assert!(ruling.requirement.starts_with('S') && !ruling.fact.is_empty(), "{ruling:?}");
        }
    }
}
