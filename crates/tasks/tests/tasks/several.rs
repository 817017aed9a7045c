//! Tasks that change several files: all of them, or none.

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicBool;

use crate::scripted::{Folder, Scripted, only, settings};
use coder_tasks::{Outcome, Progress, Task, run_task};

/// A ticket of these files, whose command is a script for `sh`.
fn ticket(files: &[&str], script: &str) -> Task {
    let spec = serde_json::json!({
        "task_id": "T-2", "description": "Rename getFoo to getBar.", "output_files": files,
        "policy": "ticket", "test_command": ["sh", "-c", script],
    });
    Task::parse("t.json", &spec.to_string()).unwrap()
}

fn writer(replies: &[&str]) -> Scripted {
    let replies: VecDeque<_> = replies.iter().map(|reply| Ok((*reply).to_owned())).collect();
    Scripted { replies, ..Scripted::default() }
}

const BOTH: &str =
    "```python lib.py\ndef getBar(): return 1\n```\n\n```python use.py\nfrom lib import getBar\n```";
const RENAMED: &str = "grep -q getBar lib.py && grep -q getBar use.py";

fn folder() -> Folder {
    Folder::new(&[
        ("lib.py", "def getFoo(): return 1\n"),
        ("use.py", "from lib import getFoo\r\n"),
        ("other.py", "x = 1\n"),
    ])
}

/// Covers S1-18, S1-39.
#[test]
fn all_files_of_a_reply_are_written_in_their_own_style() {
    let folder = folder();
    std::fs::set_permissions(folder.path("use.py"), std::fs::Permissions::from_mode(0o750)).unwrap();
    let mut writer = writer(&[BOTH]);
    let result = folder.run(&ticket(&["lib.py", "use.py", "new.py"], RENAMED), Some(&mut writer));
    assert_eq!((result.outcome, result.error.as_str()), (Outcome::Complete, ""));
    assert_eq!((result.file.as_str(), result.files), ("lib.py", vec!["lib.py".into(), "use.py".into()]));
    assert_eq!(folder.read("lib.py"), "def getBar(): return 1\n");
    assert_eq!(folder.read("use.py"), "from lib import getBar\r\n");
    assert_eq!(folder.path("use.py").metadata().unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(folder.tree(), ["lib.py", "other.py", "use.py"]);
    let asked = &writer.asked[0].0.messages[0].content;
    assert!(asked.contains("### use.py (current content)\n```python\nfrom lib import getFoo"), "{asked}");
}

/// Covers S1-39, S1-55.
#[test]
fn what_the_command_did_to_the_other_files_of_the_task_is_taken_back_too() {
    let folder = folder();
    let first = BOTH.split("\n\n").next().unwrap();
    let mut writer = writer(&[first, BOTH]);
    // A linter that rewrites, and a draft that left one of the files to it.
    let lint = "for f in use.py new.py; do grep -qs seen $f || echo '# seen' >> $f; done";
    let command = format!("{lint}; {RENAMED}");
    let result = folder.run(&ticket(&["lib.py", "use.py", "new.py"], &command), Some(&mut writer));
    assert_eq!((result.outcome, result.attempts), (Outcome::Complete, 2), "{}", result.error);
    assert_eq!(folder.read("use.py"), "from lib import getBar\r\n# seen\n");
    assert_eq!(folder.read("new.py"), "# seen\n");
    folder.workspace().undo(None, false).unwrap();
    assert_eq!(folder.read("use.py"), "from lib import getFoo\r\n");
    assert_eq!(folder.tree(), ["lib.py", "other.py", "use.py"]);
}

/// Covers S1-39, S1-55.
#[test]
fn a_failed_attempt_leaves_no_file_changed() {
    let folder = folder();
    let both = BOTH.replace("use.py", "new/use.py");
    let mut writer = writer(&[both.as_str(), BOTH]);
    let task = ticket(&["lib.py", "use.py", "new/use.py"], RENAMED);
    let result = folder.run(&task, Some(&mut writer));
    assert_eq!((result.outcome, result.attempts), (Outcome::Complete, 2));
    assert_eq!(folder.tree(), ["lib.py", "other.py", "use.py"], "the first attempt's folder is gone");
    let retry = &writer.asked[1].0.messages[2].content;
    assert!(retry.ends_with("Write every file that changes again, whole and corrected, in the same format."));
    let before = folder.read("use.py");
    let mut writer = self::writer(&[&both, &both.replace("return 1", "return 2")]);
    let result = folder.run(&ticket(&["lib.py", "new/use.py"], "false"), Some(&mut writer));
    assert_eq!((result.outcome, result.files.len()), (Outcome::Blocked, 0));
    assert_eq!((folder.read("lib.py"), folder.read("use.py")), ("def getBar(): return 1\n".into(), before));
    assert_eq!(folder.tree(), ["lib.py", "other.py", "use.py"]);
}

/// Covers S1-39.
#[test]
fn a_file_that_the_task_does_not_name_is_never_written() {
    let folder = folder();
    let third = format!("{BOTH}\n\n```python other.py\nx = 2\n```");
    let mut writer = writer(&[&third, BOTH]);
    let result = folder.run(&ticket(&["lib.py", "use.py"], RENAMED), Some(&mut writer));
    assert_eq!((result.outcome, result.attempts), (Outcome::Complete, 2));
    assert_eq!(folder.read("other.py"), "x = 1\n");
    let retry = &writer.asked[1].0.messages[2].content;
    assert!(retry.contains("the reply is for `other.py`"), "{retry}");
}

/// Covers S1-25.
#[test]
fn the_policy_limits_how_many_files_a_task_changes() {
    let folder = folder();
    let four = ticket(&["a.py", "b.py", "c.py", "d.py"], "true");
    let mut atomic = ticket(&["lib.py", "use.py"], "true");
    atomic.policy = coder_tasks::task::Eligibility::Atomic;
    for (task, numbers) in
        [(four, "`4` files, the policy allows `3`"), (atomic, "`2` files, the policy allows `1`")]
    {
        let result = folder.run(&task, Some(&mut writer(&[])));
        assert_eq!(result.outcome, Outcome::Refused);
        assert!(result.error.contains(numbers), "{}", result.error);
    }
}

#[test]
fn what_changed_under_one_file_stops_all() {
    let folder = folder();
    let mut writer = writer(&[BOTH]);
    let path = folder.path("use.py");
    writer.on_draft = Some(Box::new(move || std::fs::write(&path, "mine\n").unwrap()));
    let result = folder.run(&ticket(&["lib.py", "use.py"], RENAMED), Some(&mut writer));
    assert_eq!(result.outcome, Outcome::Refused);
    assert!(result.error.contains("`use.py` was changed by another program"), "{}", result.error);
    assert_eq!(folder.read("lib.py"), "def getFoo(): return 1\n");
    assert_eq!(folder.read("use.py"), "mine\n");
}

#[test]
fn what_another_program_writes_after_the_verification_is_left_alone() {
    let folder = folder();
    let (mut writer, workspace) = (writer(&[BOTH]), folder.workspace());
    let mut tell = |progress: &Progress<'_>| {
        if let Progress::Attempted(_) = progress {
            std::fs::write(folder.path("lib.py"), "mine\n").unwrap();
        }
    };
    let (task, cancel) = (ticket(&["lib.py", "use.py"], RENAMED), AtomicBool::new(false));
    let result = run_task(&task, &workspace, &mut only(&mut writer), &settings(), &mut tell, &cancel);
    assert_eq!((result.outcome, result.verified, result.displaced.len()), (Outcome::Refused, false, 0));
    assert!(result.error.contains("`lib.py` was changed by another program"), "{}", result.error);
    assert_eq!(
        (folder.read("lib.py"), folder.read("use.py")),
        ("mine\n".into(), "from lib import getFoo\r\n".into())
    );
    assert!(workspace.history().unwrap().is_empty());
}
