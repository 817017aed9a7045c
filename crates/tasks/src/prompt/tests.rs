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
