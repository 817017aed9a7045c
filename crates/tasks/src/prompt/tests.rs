use super::*;

fn task(file: &str) -> Task {
    let spec = serde_json::json!({
        "task_id": "T-001", "description": "Add <b> & \"c\".", "output_file": file,
        "constraints": ["One", "Two"],
    });
    Task::parse("t.json", &spec.to_string()).unwrap()
}

fn file(path: &str, content: &str) -> ContextFile {
    ContextFile { path: path.into(), content: content.into() }
}

/// Covers S0-19: one message with what the task says.
#[test]
fn a_prompt_is_the_template_filled_in() {
    let prompt =
        Prompt::new(&task("src/a.py"), &[file("src/b.js", "let x;\n\n")], &[file("src/a.py", "x = 1\n")])
            .unwrap();
    assert_eq!(prompt.messages.len(), 1);
    assert_eq!(prompt.messages[0].role, Role::User);
    assert_eq!(
        prompt.messages[0].content,
        "# Task: T-001\n\n## Objective\nAdd <b> & \"c\".\n\n## Output File\nsrc/a.py\n\n\
         ## Context\nThe following files are relevant to this task:\n\n\
         ### src/b.js\n```javascript\nlet x;\n```\n\n\
         ### src/a.py (current content)\n```python\nx = 1\n```\n\n\
         ## Constraints\n- One\n- Two\n\n\
         ## Output Format\nRespond with ONLY the content of the file, in one fenced block. No explanations.\n\n\
         ## Example Output Structure\n```python\n# src/a.py\n```"
    );
}

#[test]
fn empty_lists_leave_no_headings() {
    let mut task = task("src/a.rs");
    task.constraints.clear();
    let text = Prompt::new(&task, &[], &[]).unwrap().messages[0].content.clone();
    assert!(!text.contains("## Context") && !text.contains("## Constraints"));
    assert!(text.contains("src/a.rs\n\n## Output Format"), "{text}");
    assert!(text.ends_with("```rust\n// src/a.rs\n```"), "{text}");
}

#[test]
fn everything_that_a_markdown_task_says_is_shown() {
    let text = "# Task: A\n## File\na.py\n## Code to add at line 3\n```python\nx\n```\n## Done when\n- [ ] it works\n";
    let task = Task::parse("x.md", text).unwrap();
    let shown = Prompt::new(&task, &[], &[]).unwrap().messages[0].content.clone();
    assert!(
        shown.contains("A\n\nCode to add at line 3:\n```python\nx\n```\n\nDone when:\n- it works\n"),
        "{shown}"
    );
}

#[test]
fn fences_are_longer_than_what_they_hold() {
    let prompt =
        Prompt::new(&task("a.py"), &[file("b.md", "```\nx\n```\n")], &[file("a.py", "'''\n````\n'''")])
            .unwrap();
    assert!(prompt.messages[0].content.contains("### b.md\n````markdown\n```\nx\n```\n````\n"));
    assert_eq!(prompt.reply, ReplyShape { files: vec![], fence: "`````".into(), language: "python".into() });
    assert_eq!(Prompt::new(&task("a.md"), &[], &[]).unwrap().reply.fence, "````");
    let mut both = task("a.py");
    both.files.push("a.md".into());
    assert_eq!(Prompt::new(&both, &[], &[]).unwrap().reply.fence, "````");
}

/// Covers S1-23, S1-39.
#[test]
fn several_files_are_shown_and_asked_for_by_name() {
    let mut task = task("a.py");
    task.files.push("src/b.js".into());
    let prompt = Prompt::new(&task, &[], &[file("a.py", "x\n"), file("src/b.js", "y\n")]).unwrap();
    assert_eq!(
        prompt.messages[0].content,
        "# Task: T-001\n\n## Objective\nAdd <b> & \"c\".\n\n## Output Files\n- a.py\n- src/b.js\n\n\
         ## Context\nThe following files are relevant to this task:\n\n\
         ### a.py (current content)\n```python\nx\n```\n\n\
         ### src/b.js (current content)\n```javascript\ny\n```\n\n\
         ## Constraints\n- One\n- Two\n\n\
         ## Output Format\nRespond with ONLY the files that change, each whole in a fenced block of its own \
         whose first line names it. No explanations.\n\n\
         ## Example Output Structure\n```python a.py\n# a.py\n```"
    );
    assert_eq!(prompt.reply.files, ["a.py", "src/b.js"]);
    assert_eq!(prompt.reply.wrap("x\n"), "```python a.py\nx\n```");
}

#[test]
fn a_retry_goes_on_with_the_conversation() {
    let first = Prompt::new(&task("a.py"), &[], &[]).unwrap();
    let feedback =
        Feedback { reason: "exit status 1".into(), command: "python3 a.py".into(), output: "no\n".into() };
    let second = first.retry("```python\nx\n```", &feedback).unwrap();
    assert_eq!(second.messages[..1], first.messages[..]);
    assert_eq!(second.messages[1].role, Role::Assistant);
    assert_eq!(
        second.messages[2].content,
        "The verification failed: exit status 1\n\n## Command\npython3 a.py\n\n## Output\n```\nno\n```\n\n\
         Write the whole file again, corrected, in the same format."
    );
}

/// A task of some kind, with what its category's template says to the model.
fn sample(words: &str, file: &str) -> Task {
    let spec = serde_json::json!({ "task_id": "T-001", "description": words, "output_file": file });
    Task::parse("t.json", &spec.to_string()).unwrap()
}

/// Covers S1-21, S1-22, S1-23, S1-24.
#[test]
fn each_template_is_tried_with_a_sample_task() {
    let templates = Templates::by_category();
    let current = [file("src/a.py", "x = 1\n")];
    for (words, path, exists, kind, said) in [
        ("Create formatCurrency util", "src/format.js", false, TemplateKind::Code, ""),
        (
            "Create tests for validateEmail",
            "src/email.test.js",
            false,
            TemplateKind::Test,
            "Write tests for the code",
        ),
        (
            "Rename getFoo to getBar in utils",
            "src/a.py",
            true,
            TemplateKind::Refactor,
            "The behaviour stays exactly",
        ),
        (
            "Write docstrings for all public methods",
            "src/a.py",
            true,
            TemplateKind::Documentation,
            "Say only what",
        ),
        (
            "Add a --json flag to the list command",
            "src/a.py",
            true,
            TemplateKind::Edit,
            "keep every other line",
        ),
    ] {
        let current = if exists { &current[..] } else { &[] };
        let context = [file("src/b.py", "y = 2\n")];
        let prompt = Prompt::by(&templates, &sample(words, path), &context, current).unwrap();
        let text = &prompt.messages[0].content;
        assert_eq!(prompt.kind, kind, "{words}");
        assert_eq!(prompt.budget.is_some(), kind != TemplateKind::Code);
        // The shape of S1-23 is the same in all.
        let mut from = 0;
        for heading in [
            "# Task: T-001\n",
            "## Objective\n",
            "## Output File\n",
            "## Context\n",
            "## Output Format\n",
            "Respond with ONLY the content of the file",
            "## Example Output Structure\n```",
        ] {
            from += text[from..].find(heading).unwrap_or_else(|| panic!("{heading} in {text}"));
        }
        assert!(text.contains(said), "{text}");
        assert_eq!(text.contains("## Guidance"), kind != TemplateKind::Code);
        assert!(!text.contains("budget") && !text.contains("\n\n\n"), "{text}");
    }
}

#[test]
fn the_template_for_code_is_what_a_bundled_model_knows() {
    let task = sample("Create tests for validateEmail", "src/email.test.js");
    let fixed = Prompt::new(&task, &[], &[]).unwrap();
    let same = Prompt::by(&Templates::default(), &task, &[], &[]).unwrap();
    assert_eq!(fixed, same);
    assert_eq!((fixed.kind, fixed.budget), (TemplateKind::Code, None));
    let other = Prompt::by(&Templates::by_category(), &task, &[], &[]).unwrap();
    assert_ne!(fixed.template, other.template);
    assert_eq!(fixed.template.len(), 12);
}

/// Covers S1-21.
#[test]
fn files_stand_in_for_built_in_templates() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("test.md", "{# budget: 123 #}\nTests for {{ output_file }}: {{ description }}\n");
    write("code.md", "{% extends \"prompt.md\" %}{% block guidance %}Be short.\n\n{% endblock %}");
    let templates = Templates::load(folder.path()).unwrap();
    let prompt = |words: &str, path: &str| Prompt::by(&templates, &sample(words, path), &[], &[]).unwrap();
    let tests = prompt("Create tests for f", "f.test.js");
    assert_eq!(tests.messages[0].content, "Tests for f.test.js: Create tests for f");
    assert_eq!(tests.budget, Some(123));
    assert!(
        prompt("Create formatCurrency util", "a.js").messages[0]
            .content
            .contains("a.js\n\nBe short.\n\n## Output Format")
    );
    assert_eq!(templates.digest(TemplateKind::Edit), Templates::by_category().digest(TemplateKind::Edit));
    assert_ne!(templates.digest(TemplateKind::Code), Templates::by_category().digest(TemplateKind::Code));
    // Other names of the same files, where these are not there.
    write("prompt-doc.md", "Words for {{ output_file }}");
    write("prompt-test.md", "not this one");
    let templates = Templates::load(folder.path()).unwrap();
    let prompt = |words: &str, path: &str| Prompt::by(&templates, &sample(words, path), &[], &[]).unwrap();
    assert_eq!(
        prompt("Document the API in README.md", "README.md").messages[0].content,
        "Words for README.md"
    );
    assert!(prompt("Create tests for f", "f.test.js").messages[0].content.starts_with("Tests for"));
    for bad in ["{% if %}", "{# budget: many #}", "{# budget: 0 #}"] {
        write("edit.md", bad);
        let error = Templates::load(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("prompt template: `") && error.contains("edit.md"), "{error}");
    }
    write("edit.md", "{{ no_such_value }}");
    let templates = Templates::load(folder.path()).unwrap();
    let current = [file("a.js", "x\n")];
    let task = sample("Add a --json flag", "a.js");
    assert!(Prompt::by(&templates, &task, &[], &current).is_err());
}

#[test]
fn hostile_templates_end() {
    let folder = tempfile::tempdir().unwrap();
    let task = sample("Add a --json flag", "a.js");
    let round = "{% for i in range(100000) %}";
    let loops = format!("{round}{round}x{{% endfor %}}{{% endfor %}}");
    let wide = format!("{round}{}{{% endfor %}}", "x".repeat(60_000));
    for text in [
        loops.clone(),
        wide.clone(),
        format!("{{% set x %}}{wide}{{% endset %}}"),
        format!("{{% set n = namespace(x='x') %}}{round}{{% set n.x = n.x ~ n.x %}}{{% endfor %}}"),
        format!("{{% extends \"prompt.md\" %}}{{% block guidance %}}{loops}{{% endblock %}}"),
    ] {
        std::fs::write(folder.path().join("code.md"), text).unwrap();
        let templates = Templates::load(folder.path()).unwrap();
        let error = Prompt::by(&templates, &task, &[], &[]).unwrap_err().to_string();
        assert!(error.starts_with("prompt template: ") && error.contains("fuel"), "{error}");
    }
}

#[test]
fn tables_of_ones_own_choose_the_template() {
    use crate::policy::{BUILT_IN, Tables};
    let task = Task::of_text("Polish the knobs", Some("a.py"));
    let at = BUILT_IN.find("  - name: tests\n").unwrap();
    let own = BUILT_IN[at..].replacen("    cues:\n", "    cues:\n      \"knob*\": 50\n", 1);
    let own = format!("{}{own}", &BUILT_IN[..at]);
    let tables = std::sync::Arc::new(Tables::parse("own.yaml", &own).unwrap());
    let templates = Templates::by_category();
    assert_eq!(templates.choose(&task, false), TemplateKind::Code);
    assert_eq!(templates.classified_by(tables).choose(&task, false), TemplateKind::Test);
}
