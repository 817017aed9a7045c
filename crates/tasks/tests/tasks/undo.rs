//! Taking back what is done, and who may work in a folder.

use std::os::unix::fs::PermissionsExt;

use crate::scripted::{Folder, Scripted, task};
use coder_tasks::{Error, Outcome};

/// Does a task that writes `content` into the file.
fn done(folder: &Folder, id: &str, file: &str, content: &str) {
    let mut task = task(file, None);
    task.id = id.to_owned();
    assert_eq!(folder.run(&task, Some(&mut Scripted::new([content]))).outcome, Outcome::Complete);
}

/// Covers S1-10, S1-55.
#[test]
fn the_last_or_any_task_is_taken_back() {
    let folder = Folder::new(&[("a.py", "a = 1\r\n"), ("b.py", "b = 1\n")]);
    std::fs::set_permissions(folder.path("a.py"), std::fs::Permissions::from_mode(0o711)).unwrap();
    done(&folder, "T-1", "a.py", "a = 2");
    done(&folder, "T-2", "b.py", "b = 2");
    done(&folder, "T-3", "new/c.py", "c = 2");
    let workspace = folder.workspace();
    let listed = workspace.history().unwrap();
    let short: Vec<_> = listed.iter().map(|done| (done.number, done.task_id.as_str(), done.undone)).collect();
    assert_eq!(short, [(1, "T-1", false), (2, "T-2", false), (3, "T-3", false)]);
    assert_eq!(workspace.undo(Some("T-1"), false).unwrap().files, ["a.py"]);
    assert_eq!((folder.read("a.py"), folder.read("b.py")), ("a = 1\r\n".into(), "b = 2\n".into()));
    assert_eq!(folder.path("a.py").metadata().unwrap().permissions().mode() & 0o777, 0o711);
    // The last one that is not undone, and so on.
    assert_eq!(workspace.undo(None, false).unwrap().task_id, "T-3");
    assert_eq!(folder.tree(), ["a.py", "b.py"]);
    assert_eq!(workspace.undo(None, false).unwrap().task_id, "T-2");
    assert_eq!(folder.read("b.py"), "b = 1\n");
    let error = workspace.undo(None, false).unwrap_err().to_string();
    assert!(error.starts_with("nothing that was done"), "{error}");
    let error = workspace.undo(Some("T-2"), false).unwrap_err().to_string();
    assert!(error.contains("undone already"), "{error}");
    // An undo is a task too: number 5 took T-3 back.
    assert_eq!(workspace.undo(Some("5"), false).unwrap().undoes, Some(3));
    assert_eq!(folder.read("new/c.py"), "c = 2\n");
    assert!(!workspace.history().unwrap()[2].undone);
}

#[test]
fn an_id_that_is_the_number_of_another_task_means_neither() {
    let folder = Folder::new(&[]);
    for id in ["3", "1", "2", "four"] {
        done(&folder, id, &format!("{id}.py"), "x = 1");
    }
    let workspace = folder.workspace();
    let error = workspace.undo(Some("3"), false).unwrap_err();
    let both = "it is the id of the task with the number `1`, and the number of task `2`";
    assert!(matches!(&error, Error::NothingToUndo { problem, .. } if problem.starts_with(both)), "{error}");
    assert_eq!(folder.tree(), ["1.py", "2.py", "3.py", "four.py"]);
    assert_eq!(workspace.undo(Some("#3"), false).unwrap().task_id, "2");
    assert_eq!(workspace.undo(Some("4"), false).unwrap().task_id, "four");
    assert_eq!(folder.tree(), ["1.py", "3.py"]);
}

/// Covers S1-55.
#[test]
fn what_was_changed_since_is_not_taken_back_unless_forced() {
    let folder = Folder::new(&[("a.py", "a = 1\n")]);
    done(&folder, "T-1", "a.py", "a = 2");
    done(&folder, "T-2", "a.py", "a = 3");
    let workspace = folder.workspace();
    let error = workspace.undo(Some("T-1"), false).unwrap_err();
    assert!(matches!(&error, Error::ChangedSince { path, .. } if path == "a.py"), "{error}");
    std::fs::write(folder.path("a.py"), "mine\n").unwrap();
    assert!(workspace.undo(None, false).is_err());
    assert_eq!(folder.read("a.py"), "mine\n");
    assert_eq!(workspace.undo(Some("T-1"), true).unwrap().task_id, "T-1");
    assert_eq!(folder.read("a.py"), "a = 1\n");
    // Nothing is lost by force either.
    let last = workspace.history().unwrap().last().unwrap().number.to_string();
    workspace.undo(Some(&last), false).unwrap();
    assert_eq!(folder.read("a.py"), "mine\n");
}

#[test]
fn one_process_at_a_time_works_in_a_folder() {
    let folder = Folder::new(&[("a.py", "a = 1\n"), ("sub/b.py", "")]);
    let first = folder.workspace();
    first.recover().unwrap();
    let second = folder.workspace();
    assert_eq!(second.read("a.py", 10).unwrap(), "a = 1\n", "reading needs no lock");
    let result = folder.run(&task("a.py", None), Some(&mut Scripted::new(["x = 2"])));
    assert_eq!(result.outcome, Outcome::Refused);
    let holder = format!("another coder (process `{}`) works on", std::process::id());
    assert!(result.error.contains(&holder), "{}", result.error);
    assert!(folder.workspace_in("sub").recover().is_ok(), "another folder has a lock of its own");
    drop(first);
    second.recover().unwrap();
}

#[test]
fn the_state_is_outside_of_the_tree() {
    let folder = Folder::new(&[("a.py", "a = 1\n")]);
    let workspace = coder_tasks::Workspace::open(&folder.path(""), &folder.path("state")).unwrap();
    assert!(matches!(workspace.recover(), Err(Error::StateInside { .. })));
    assert!(matches!(workspace.begin("T", &["a.py".to_owned()]), Err(Error::StateInside { .. })));
}

#[test]
fn a_damaged_store_restores_nothing_wrong() {
    let folder = Folder::new(&[("a.py", "a = 1\n")]);
    let result = folder.run(&task("a.py", None), Some(&mut Scripted::new(["a = 2"])));
    std::fs::write(result.backup.unwrap(), "a = 7\n").unwrap();
    let error = folder.workspace().undo(None, false).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert_eq!(folder.read("a.py"), "a = 2\n");
}

#[test]
fn what_somebody_writes_during_the_verification_is_kept() {
    let folder = Folder::new(&[("a.py", "a = 1\n")]);
    let task = task("a.py", Some("printf 'mine\\n' > a.py; exit 1"));
    let result = folder.run(&task, Some(&mut Scripted::new(["a = 2", "a = 3"])));
    assert_eq!(result.outcome, Outcome::Blocked);
    assert_eq!(folder.read("a.py"), "a = 1\n");
    let told: Vec<_> =
        result.displaced.iter().map(|one| (&*one.path, std::fs::read(&one.kept).unwrap())).collect();
    assert_eq!(told, [("a.py", b"mine\n".to_vec()), ("a.py", b"mine\n".to_vec())]);
    // Whoever did not see it then finds it in the history, where there is nothing to undo.
    let workspace = folder.workspace();
    let history = workspace.history().unwrap();
    assert_eq!((history.len(), &history[0].displaced, history[0].files.len()), (1, &result.displaced, 0));
    assert!(matches!(workspace.undo(None, false), Err(Error::NothingToUndo { .. })));
}
