//! Going on with a plan that was stopped, and one run at a time.

use std::sync::Mutex;

use coder_tasks::{Conduct, Error, Finished, Task};

use crate::repository::{Repository, after, insert, whole};

fn plan() -> [Task; 3] {
    let second = whole("b", "b.txt", "b", "test -e go");
    [insert("a", "a.txt", "new"), second, after(whole("c", "c.txt", "c", "grep -q b b.txt"), &["b"])]
}

#[test]
fn a_plan_that_is_not_complete_is_gone_on_with() {
    let repository = Repository::new(&[("a.txt", "a\n")]);
    let first = repository.run(&plan(), &repository.conduct(2)).unwrap();
    assert_eq!(first.iter().filter(|result| result.is_complete()).count(), 1);
    assert_eq!(repository.subjects().len(), 2);
    repository.write("go", "");
    repository.git(&["add", "go"]);
    repository.git(&["commit", "--quiet", "--message", "now it may"]);
    repository.events.lock().unwrap().clear();
    let resumed = Conduct { resume: true, ..repository.conduct(2) };
    let second = repository.run(&plan(), &resumed).unwrap();
    assert!(second.iter().all(Finished::is_complete), "{second:#?}");
    assert_eq!(*repository.events.lock().unwrap(), ["a ended", "b begun", "b ended", "c begun", "c ended"]);
    let done = second.iter().find(|result| result.resumed).unwrap();
    assert_eq!((&*done.result.task_id, &done.commit), ("a", &first[0].commit));
    assert_eq!((done.result.attempts, done.result.verified), (1, true));
    assert_eq!(repository.read("a.txt"), "new\na\n");
    repository.assert_clean("refs/heads/main");
}

/// Begun anew without a word, it would do twice what is done, and forget that it was.
#[test]
fn a_plan_that_is_not_complete_is_not_begun_anew_silently() {
    for in_worktrees in [true, false] {
        let repository = Repository::new(&[("a.txt", "a\n")]);
        let conduct = Conduct { commit: in_worktrees, ..repository.conduct(1) };
        repository.run(&plan(), &conduct).unwrap();
        let error = repository.run(&plan(), &conduct).unwrap_err();
        let said = error.to_string();
        let is_said = |error: &Error| matches!(error, Error::Unfinished { done: 1, in_worktrees: said, .. } if *said == in_worktrees);
        assert!(is_said(&error), "{said}");
        for go_on in ["`plan`", "--resume", "--restart"] {
            assert!(said.contains(go_on), "{said}");
        }
        // One of the other kind cannot tell what stands of it.
        for resume in [false, true] {
            let other = Conduct { commit: !in_worktrees, resume, ..repository.conduct(1) };
            repository.git(&["commit", "--quiet", "--all", "--allow-empty", "--message", "mine"]);
            let error = repository.run(&plan(), &other).unwrap_err();
            assert!(is_said(&error), "{error}");
        }
        // Another plan in the same folder, here as there, takes nothing from it.
        for commit in [true, false] {
            let other = Conduct { name: "other".to_owned(), commit, ..repository.conduct(1) };
            let task = whole("o", &format!("o-{commit}.txt"), "o", "true");
            let results = repository.run(&[task], &other).unwrap();
            assert!(results[0].is_complete(), "{results:#?}");
        }
        assert_eq!(repository.read("a.txt"), "new\na\n");
        // The record is still there to go on from, or to be forgotten.
        let resumed = Conduct { resume: true, ..conduct.clone() };
        assert!(repository.run(&plan(), &resumed).unwrap()[0].resumed);
        let restart = Conduct { restart: true, ..conduct };
        assert!(!repository.run(&plan(), &restart).unwrap()[0].resumed);
        assert_eq!(repository.read("a.txt"), "new\na\n");
    }
}

#[test]
fn a_task_that_says_something_else_now_is_done_again() {
    let repository = Repository::new(&[("a.txt", "a\n")]);
    repository.run(&plan(), &repository.conduct(1)).unwrap();
    let mut changed = plan().to_vec();
    changed[0] = insert("a", "a.txt", "newer");
    changed.truncate(1);
    let resumed = Conduct { resume: true, ..repository.conduct(1) };
    let results = repository.run(&changed, &resumed).unwrap();
    assert!(!results[0].resumed && results[0].is_complete());
    assert_eq!(repository.read("a.txt"), "newer\nnew\na\n");
}

#[test]
fn one_run_at_a_time() {
    let repository = Repository::new(&[("a.txt", "a\n")]);
    let inner = Mutex::new(None);
    let tasks = [insert("t", "a.txt", "new")];
    let meddle = |words: &str| {
        if words == "t begun" {
            let mine = repository.conduct(1);
            let again = repository.run_in(&repository.root(), &tasks, &mine, &|_| {});
            *inner.lock().unwrap() = Some(again.unwrap_err());
        }
    };
    repository.run_in(&repository.root(), &tasks, &repository.conduct(1), &meddle).unwrap();
    let error = inner.into_inner().unwrap().unwrap();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    repository.assert_clean("refs/heads/main");
}

#[test]
fn a_plan_in_place_is_gone_on_with_too() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::new(&[]);
    let in_place = Conduct { commit: false, resume: true, ..repository.conduct(1) };
    std::fs::write(folder.path().join("a.txt"), "a\n").unwrap();
    let first = repository.run_in(folder.path(), &plan(), &in_place, &|_| {}).unwrap();
    assert_eq!(first.iter().filter(|result| result.is_complete()).count(), 1);
    std::fs::write(folder.path().join("go"), "").unwrap();
    let second = repository.run_in(folder.path(), &plan(), &in_place, &|_| {}).unwrap();
    assert!(second.iter().all(Finished::is_complete), "{second:#?}");
    assert_eq!(std::fs::read_to_string(folder.path().join("a.txt")).unwrap(), "new\na\n");
    repository.assert_no_strays_in_the_state();
}

/// A run in place may be killed between a task's last effect and the record of it, or before its first one.
#[test]
fn a_task_at_work_when_the_run_was_killed_is_done_once() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::new(&[]);
    let in_place = Conduct { commit: false, resume: true, ..repository.conduct(1) };
    std::fs::write(folder.path().join("a.txt"), "a\n").unwrap();
    repository.run_in(folder.path(), &plan(), &in_place, &|_| {}).unwrap();
    let kill = |id: &str, after: u64| {
        killed(&repository, |record| {
            record["stage"] = "running".into();
            record["begun"] = serde_json::json!({ "id": id, "after": after });
            if id == "a" {
                record["done"] = serde_json::json!([]);
            }
        });
        repository.run_in(folder.path(), &plan(), &in_place, &|_| {}).unwrap()
    };
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let results = kill("a", 0);
    assert!(results[0].resumed && results[0].is_complete(), "{results:#?}");
    assert_eq!(
        (read("a.txt").as_str(), results[0].result.files.as_slice()),
        ("new\na\n", &["a.txt".to_owned()][..])
    );
    // What somebody else writes into the task's file does not make it done.
    std::fs::write(folder.path().join("b.txt"), "mine\n").unwrap();
    let results = kill("b", 1);
    assert!(!results[1].resumed && !results[1].is_complete(), "{results:#?}");
    assert_eq!(read("b.txt"), "mine\n");
}

#[test]
fn what_was_undone_since_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::new(&[]);
    let in_place = Conduct { commit: false, resume: true, ..repository.conduct(1) };
    let tasks = [whole("a", "a.txt", "a", "true"), whole("b", "b.txt", "b", "true")];
    let resumed = || {
        let results = repository.run_in(folder.path(), &tasks, &in_place, &|_| {}).unwrap();
        assert!(results.iter().all(Finished::is_complete), "{results:#?}");
        assert!(folder.path().join("a.txt").exists() && folder.path().join("b.txt").exists());
        results.iter().map(|result| result.resumed).collect::<Vec<_>>()
    };
    let undo = |which| {
        let workspace = coder_tasks::Workspace::open(folder.path(), &repository.state()).unwrap();
        workspace.undo(which, false).unwrap();
    };
    assert_eq!(resumed(), [false, false]);
    undo(None);
    assert_eq!(resumed(), [true, false]);
    undo(Some("a"));
    undo(Some("b"));
    assert_eq!(resumed(), [false, false]);
}

#[test]
fn a_commit_that_the_branch_has_no_more_is_made_again() {
    let repository = Repository::new(&[("a.txt", "a\n")]);
    let tasks = [insert("a", "a.txt", "new"), whole("b", "b.txt", "b", "true")];
    repository.run(&tasks, &repository.conduct(1)).unwrap();
    let resume = Conduct { resume: true, ..repository.conduct(1) };
    // The same work in other commits is the same work.
    repository.git(&["commit", "--quiet", "--amend", "--message", "in other words"]);
    let results = repository.run(&tasks, &resume).unwrap();
    assert!(results.iter().all(|result| result.resumed && result.is_complete()), "{results:#?}");
    for (back, resumed) in [("HEAD~1", [true, false]), ("HEAD~2", [false, false])] {
        repository.git(&["reset", "--quiet", "--hard", back]);
        let results = repository.run(&tasks, &resume).unwrap();
        assert!(results.iter().all(Finished::is_complete), "{results:#?}");
        assert_eq!(results.iter().map(|result| result.resumed).collect::<Vec<_>>(), resumed);
        assert_eq!((repository.read("a.txt"), repository.read("b.txt")), ("new\na\n".into(), "b\n".into()));
    }
    assert_eq!(repository.git(&["status", "--porcelain"]), "");
}

/// A plan may be killed after its last step; who then goes on with it must not do it twice.
#[test]
fn a_complete_plan_is_not_done_twice() {
    let repository = Repository::new(&[("a.txt", "a\n")]);
    let tasks = [insert("x", "a.txt", "new"), insert("y", "a.txt", "newer")];
    let in_place = Conduct { commit: false, ..repository.conduct(1) };
    for conduct in [repository.conduct(2), in_place] {
        let repository = Repository::new(&[("a.txt", "a\n")]);
        let conduct = Conduct { state: repository.state(), ..conduct };
        repository.run(&tasks, &conduct).unwrap();
        let resumed = Conduct { resume: true, ..conduct };
        let results = repository.run(&tasks, &resumed).unwrap();
        assert!(results.iter().all(|result| result.resumed && result.is_complete()), "{results:#?}");
        assert_eq!(repository.read("a.txt"), "newer\nnew\na\n");
    }
}

/// Edits the record of the only plan, as a run leaves it that is killed.
fn killed(repository: &Repository, edit: impl FnOnce(&mut serde_json::Value)) {
    let plans = std::fs::read_dir(repository.state().join("plans")).unwrap();
    let record = plans.map(|plan| plan.unwrap().path().join("record.json")).next().unwrap();
    let mut read = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    edit(&mut read);
    std::fs::write(&record, read.to_string()).unwrap();
}

/// Waves are others once tasks are ticked or taken out of a plan.
#[test]
fn a_wave_begins_with_all_that_is_merged() {
    let repository = Repository::new(&[("a.txt", "a\n")]);
    let first = repository.git(&["rev-parse", "HEAD"]);
    let reading = |task: Task| Task { context: vec!["a.txt".into()], ..task };
    let b = reading(whole("b", "b.txt", "b", "true"));
    let tasks = [insert("a", "a.txt", "new"), b.clone(), reading(whole("c", "c.txt", "c", "false"))];
    let results = repository.run(&tasks, &repository.conduct(2)).unwrap();
    assert_eq!(results.iter().filter(|result| result.is_complete()).count(), 2, "{results:#?}");
    // It was killed while the last task was at work.
    let a = repository.git(&["rev-parse", "HEAD~1"]);
    repository.git(&["reset", "--quiet", "--hard", &first]);
    killed(&repository, |record| {
        record["stage"] = "running".into();
        record["base"] = first.as_str().into();
        record["wave"] = serde_json::json!([1, a]);
    });
    let resumed = Conduct { resume: true, ..repository.conduct(2) };
    let results = repository.run(&[b, insert("d", "b.txt", "d")], &resumed).unwrap();
    assert!(results.iter().all(Finished::is_complete), "{results:#?}");
    assert_eq!((repository.read("a.txt"), repository.read("b.txt")), ("new\na\n".into(), "d\nb\n".into()));
    assert_eq!(repository.git(&["status", "--porcelain"]), "");
}

#[test]
fn a_landing_that_was_cut_off_can_be_forgotten() {
    let repository = Repository::new(&[("a.txt", "a\n")]);
    let tasks = [insert("a", "a.txt", "new")];
    repository.run(&tasks, &repository.conduct(1)).unwrap();
    killed(&repository, |record| {
        record["stage"] = "landing".into();
        record["base"] = repository.git(&["rev-parse", "HEAD~1"]).into();
    });
    // The user goes another way before the landing is ended.
    repository.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    repository.write("b.txt", "b\n");
    repository.git(&["add", "b.txt"]);
    repository.git(&["commit", "--quiet", "--message", "mine"]);
    let error = repository.run(&tasks, &repository.conduct(1)).unwrap_err();
    assert!(matches!(error, Error::Moved { .. }), "{error}");
    let restart = Conduct { restart: true, ..repository.conduct(1) };
    let results = repository.run(&tasks, &restart).unwrap();
    assert!(!results[0].resumed && results[0].is_complete(), "{results:#?}");
    assert_eq!((repository.read("a.txt"), repository.read("b.txt")), ("new\na\n".into(), "b\n".into()));
    assert_eq!(repository.git(&["status", "--porcelain"]), "");
}
