//! What a plan does in a repository that means well.

use coder_tasks::{Conduct, Error, Outcome, Task};

use crate::repository::{Repository, after, insert, whole};

/// Covers S0-24, S0-29, S2-42.
#[test]
fn each_task_has_a_worktree_and_a_commit() {
    let repository = Repository::new(&[("src/a.txt", "a\n"), ("README.md", "words\n")]);
    let inside = format!("test ! -e {}", repository.root().join("here").display());
    let tasks = [
        insert("one", "src/a.txt", "first"),
        whole("two", "src/b.txt", "b", &inside),
        whole("three", "README.md", "other", "grep -q other README.md"),
        insert("four", "src/a.txt", "again"),
    ];
    for jobs in [1, 3] {
        let repository = Repository::new(&[("src/a.txt", "a\n"), ("README.md", "words\n")]);
        let results = repository.run(&tasks, &repository.conduct(jobs)).unwrap();
        assert_eq!(results.len(), 4, "{results:?}");
        assert!(results.iter().all(|result| result.integrated == Some(true)), "{results:#?}");
        assert!(results.iter().all(|result| result.is_complete() && result.result.verified), "{results:#?}");
        assert_eq!(
            repository.subjects(),
            ["docs: insert four", "docs: write three", "docs: write two", "docs: insert one", "first"]
        );
        assert_eq!(repository.read("src/a.txt"), "again\nfirst\na\n");
        assert_eq!(repository.read("src/b.txt"), "b\n");
        let commit = results[1].commit.clone().unwrap();
        assert_eq!(
            repository.git(&["show", "--format=%an%n%b", "--name-only", &commit]),
            "Ada\nTask: two\n\n\nsrc/b.txt"
        );
        repository.assert_clean("refs/heads/main");
    }
}

#[test]
fn a_commit_holds_what_the_task_changed_and_nothing_else() {
    let repository = Repository::new(&[
        ("a.txt", "a\n"),
        ("run.sh", "touch junk; mkdir -p d; chmod 500 d; echo x >> a.txt\n"),
    ]);
    let task = whole("b", "b.txt", "b", "sh run.sh");
    let results = repository.run(&[task], &repository.conduct(1)).unwrap();
    assert!(results[0].is_complete(), "{results:#?}");
    assert_eq!(repository.git(&["show", "--format=", "--name-only"]), "b.txt");
    assert_eq!(repository.read("a.txt"), "a\n");
    assert!(!repository.path("junk").exists());
    repository.assert_clean("refs/heads/main");
}

#[test]
fn tasks_of_a_wave_do_not_see_each_other_and_later_waves_see_all() {
    let repository = Repository::new(&[]);
    let log = repository.state().with_extension("log");
    let list = |id: &str| format!("sh -c 'echo {id} *.txt >> {}'", log.display());
    let tasks = [
        whole("a", "a.txt", "a", &list("a")),
        whole("b", "b.txt", "b", &list("b")),
        after(whole("c", "c.txt", "c", "grep -q a a.txt"), &["a", "b"]),
    ];
    let results = repository.run(&tasks, &repository.conduct(2)).unwrap();
    assert!(results.iter().all(coder_tasks::Finished::is_complete), "{results:#?}");
    let seen = std::fs::read_to_string(log).unwrap();
    let seen: Vec<&str> = seen.lines().collect();
    // Each alone, then both commands on the merge.
    assert!(seen[..2].contains(&"a a.txt") && seen[..2].contains(&"b b.txt"), "{seen:?}");
    assert_eq!(seen[2..], ["a a.txt b.txt", "b a.txt b.txt"]);
}

/// Verified again after the merge: alone both tasks pass, together they do not.
#[test]
fn what_fails_together_is_done_again_and_then_blocked() {
    let repository = Repository::new(&[("sum.sh", "test $(cat *.txt | wc -l) -le 1\n")]);
    let tasks = [whole("a", "a.txt", "a", "sh sum.sh"), whole("b", "b.txt", "b", "sh sum.sh")];
    let results = repository.run(&tasks, &repository.conduct(2)).unwrap();
    assert_eq!(results[0].result.outcome, Outcome::Complete);
    assert_eq!(results[1].result.outcome, Outcome::Blocked, "{results:#?}");
    assert_eq!((results[1].commit.clone(), results[1].result.files.len()), (None, 0));
    assert_eq!((results[0].integrated, results[1].integrated), (Some(true), Some(false)));
    assert!(!results[1].result.error.is_empty());
    let events = repository.events.lock().unwrap();
    assert!(
        events.iter().any(|event| event.starts_with("b again: after the merge, `sh sum.sh`")),
        "{events:?}"
    );
    assert_eq!(repository.subjects().len(), 2);
    assert!(!repository.path("b.txt").exists());
}

/// Covers S0-32, S0-33.
#[test]
fn a_task_whose_needs_are_not_met_is_blocked_with_the_reason() {
    let repository = Repository::new(&[]);
    let tasks = [
        whole("a", "a.txt", "a", "false"),
        after(whole("b", "b.txt", "b", "true"), &["a"]),
        after(whole("c", "c.txt", "c", "true"), &["b"]),
        whole("d", "d.txt", "d", "true"),
    ];
    let results = repository.run(&tasks, &repository.conduct(1)).unwrap();
    let outcome =
        |id: &str| results.iter().find(|result| result.result.task_id == id).unwrap().result.clone();
    assert_eq!(outcome("a").outcome, Outcome::Blocked);
    assert_eq!((outcome("b").outcome, outcome("b").attempts), (Outcome::Blocked, 0));
    assert!(outcome("b").error.contains("`a`"), "{}", outcome("b").error);
    assert!(outcome("c").error.contains("`b`"), "{}", outcome("c").error);
    assert_eq!(outcome("d").outcome, Outcome::Complete);
    assert_eq!(repository.subjects(), ["docs: write d", "first"]);
    // The record of what is done stays for `--resume`.
    assert!(repository.state().join("plans").exists());
}

#[test]
fn a_dirty_checkout_is_refused_or_left_as_it_is() {
    let repository = Repository::new(&[("a.txt", "a\n"), ("staged.txt", "s\n"), ("gone.txt", "g\n")]);
    let before = repository.git(&["rev-parse", "HEAD"]);
    repository.write("a.txt", "mine\n");
    let tasks = [whole("b", "b.txt", "b", "grep -qx a a.txt"), insert("s", "other.txt", "s")];
    let error = repository.run(&tasks, &repository.conduct(1)).unwrap_err();
    assert!(matches!(&error, Error::Dirty { files } if *files == ["a.txt"]), "{error}");
    assert!(error.to_string().contains("--stash"), "{error}");
    assert_eq!(repository.git(&["rev-parse", "HEAD"]), before);

    repository.write("staged.txt", "staged\n");
    repository.git(&["add", "staged.txt"]);
    repository.write("staged.txt", "and changed again\n");
    repository.git(&["rm", "--quiet", "gone.txt"]);
    repository.write("untracked.txt", "u\n");
    let status = repository.git(&["status", "--porcelain"]);
    let stashed = coder_tasks::Conduct { stash: true, ..repository.conduct(2) };
    let results = repository.run(&tasks, &stashed).unwrap();
    assert!(results.iter().all(coder_tasks::Finished::is_complete), "{results:#?}");
    assert_eq!(repository.git(&["status", "--porcelain"]), status);
    assert_eq!(repository.read("a.txt"), "mine\n");
    assert_eq!(repository.read("staged.txt"), "and changed again\n");
    assert_eq!(repository.git(&["show", ":staged.txt"]), "staged");
    assert_eq!(repository.git(&["show", "HEAD:a.txt"]), "a");
    assert_eq!(repository.read("b.txt"), "b\n");
}

#[test]
fn changes_in_the_way_are_never_overwritten() {
    for (name, committed) in [("a.txt", true), ("new.txt", false)] {
        let repository = Repository::new(&[("a.txt", "a\n")]);
        repository.write(name, "mine\n");
        let stashed = coder_tasks::Conduct { stash: true, ..repository.conduct(1) };
        let error = repository.run(&[whole("t", name, "theirs", "true")], &stashed).unwrap_err();
        assert!(
            matches!(&error, Error::InTheWay { path, task, .. } if path == name && task == "t"),
            "{error}"
        );
        assert_eq!(repository.read(name), "mine\n", "{committed}");
        assert_eq!(repository.subjects(), ["first"]);
    }
}

/// What git does not report as changed could not be landed on after all tasks were done.
#[test]
fn a_checkout_that_git_is_told_not_to_look_at_is_in_the_way() {
    let sparse: &[&[&str]] = &[&["sparse-checkout", "set", "--no-cone", "/*", "!/a.txt"]];
    let assumed: &[&[&str]] = &[&["update-index", "--assume-unchanged", "a.txt"]];
    for (commands, problem) in [(sparse, "not in this checkout"), (assumed, "takes it for unchanged")] {
        let repository = Repository::new(&[("a.txt", "a\n"), ("b.txt", "b\n")]);
        commands.iter().for_each(|args| drop(repository.git(args)));
        if repository.path("a.txt").exists() {
            repository.write("a.txt", "mine\n");
        }
        assert_eq!(repository.git(&["status", "--porcelain"]), "");
        let error =
            repository.run(&[whole("t", "a.txt", "new", "true")], &repository.conduct(1)).unwrap_err();
        assert!(matches!(&error, Error::InTheWay { path, .. } if path == "a.txt"), "{error}");
        assert!(error.to_string().contains(problem), "{error}");
        let other = repository.run(&[insert("u", "b.txt", "new")], &repository.conduct(1)).unwrap();
        assert!(other[0].is_complete(), "{other:#?}");
    }
}

#[test]
fn what_git_ignores_is_not_committed() {
    let repository = Repository::new(&[(".gitignore", "/gen/\n")]);
    let error = repository.run(&[whole("t", "gen/a.txt", "a", "true")], &repository.conduct(1)).unwrap_err();
    assert!(matches!(&error, Error::InTheWay { path, .. } if path == "gen/a.txt"), "{error}");
    assert!(error.to_string().contains("ignored by git"), "{error}");
    // A file that is committed all the same is as any other.
    repository.write("gen/a.txt", "a\n");
    repository.git(&["add", "--force", "gen/a.txt"]);
    repository.git(&["commit", "--quiet", "--message", "all the same"]);
    let results = repository.run(&[insert("t", "gen/a.txt", "new")], &repository.conduct(1)).unwrap();
    assert!(results[0].is_complete(), "{results:#?}");
}

/// The filter is not run, and without it the content is not that of the commit.
#[test]
fn files_with_a_filter_of_the_repository_do_not_count_as_changed() {
    let repository = Repository::new(&[("a.txt", "a\n")]);
    repository.git(&["config", "filter.upper.clean", "tr a-z A-Z"]);
    repository.write(".gitattributes", "*.low filter=upper\n");
    repository.write("b.low", "b\n");
    repository.git(&["add", "--all"]);
    repository.git(&["commit", "--quiet", "--message", "filtered"]);
    assert_eq!(repository.git(&["show", "HEAD:b.low"]), "B");
    // Touched, so that git looks at the content again.
    let file = std::fs::File::options().write(true).open(repository.path("b.low")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
    let results = repository.run(&[insert("t", "a.txt", "new")], &repository.conduct(1)).unwrap();
    assert!(results[0].is_complete(), "{results:#?}");
    assert_eq!(
        (repository.read("b.low").as_str(), repository.git(&["status", "--porcelain"])),
        ("b\n", String::new())
    );
    repository.write("a.txt", "mine\n");
    let error = repository.run(&[insert("u", "a.txt", "newer")], &repository.conduct(1)).unwrap_err();
    assert!(matches!(&error, Error::Dirty { files } if *files == ["a.txt"]), "{error}");
}

#[test]
fn what_the_user_changes_meanwhile_is_kept_and_the_plan_can_land_later() {
    let repository = Repository::new(&[("a.txt", "a\n")]);
    let tasks = [insert("t", "a.txt", "new")];
    let meddle = |words: &str| {
        if words == "t ended" {
            repository.write("a.txt", "mine\n");
        }
    };
    let error = repository.run_in(&repository.root(), &tasks, &repository.conduct(1), &meddle).unwrap_err();
    assert!(matches!(&error, Error::Moved { problem, .. } if problem.starts_with("`a.txt`")), "{error}");
    assert_eq!(repository.read("a.txt"), "mine\n");
    assert_eq!(repository.subjects(), ["first"]);
    repository.write("a.txt", "a\n");
    // A run in place does not forget the commits that wait, whatever it is asked.
    for (resume, restart) in [(false, false), (true, false), (false, true)] {
        let in_place = coder_tasks::Conduct { commit: false, resume, restart, ..repository.conduct(1) };
        let error = repository.run(&[whole("u", "u.txt", "u", "true")], &in_place).unwrap_err();
        let Error::Unfinished { plan, done: 1, in_worktrees: true } = &error else { panic!("{error}") };
        assert_eq!(plan, "plan");
    }
    let resumed = coder_tasks::Conduct { resume: true, ..repository.conduct(1) };
    let results = repository.run(&tasks, &resumed).unwrap();
    assert!(results[0].resumed && results[0].is_complete());
    assert_eq!(repository.read("a.txt"), "new\na\n");
    repository.assert_clean("refs/heads/main");
}

/// Files without their commits would be half an undo.
#[test]
fn a_task_that_is_a_commit_is_gits_to_take_back() {
    let repository = Repository::new(&[("a.txt", "a\n")]);
    let tasks = [insert("1", "a.txt", "new"), whole("2", "b.txt", "b", "true")];
    let results = repository.run(&tasks, &repository.conduct(1)).unwrap();
    let workspace = coder_tasks::Workspace::open(&repository.root(), &repository.state()).unwrap();
    for (id, result) in [("1", &results[0]), ("2", &results[1])] {
        let error = workspace.undo(Some(id), false).unwrap_err();
        let is = matches!(&error, Error::Committed { commit, .. } if Some(commit) == result.commit.as_ref());
        assert!(is, "{error}");
    }
    assert_eq!(repository.git(&["status", "--porcelain"]), "");
    // The plan as a whole has its own name.
    assert_eq!(workspace.undo(Some("#1"), false).unwrap().task_id, "plan");
    assert_eq!(repository.git(&["status", "--porcelain"]), " M a.txt\n D b.txt");
}

#[test]
fn a_folder_in_the_repository_may_be_the_working_directory() {
    let repository = Repository::new(&[("pkg/a.txt", "a\n"), ("top.txt", "t\n")]);
    let tasks = [insert("t", "a.txt", "new"), whole("u", "b/c.txt", "c", "grep -q t ../top.txt")];
    let results =
        repository.run_in(&repository.path("pkg"), &tasks, &repository.conduct(2), &|_| {}).unwrap();
    assert!(results.iter().all(coder_tasks::Finished::is_complete), "{results:#?}");
    assert_eq!(repository.read("pkg/a.txt"), "new\na\n");
    assert_eq!(repository.read("pkg/b/c.txt"), "c\n");
    repository.assert_clean("refs/heads/main");
}

#[test]
fn line_ends_and_modes_are_as_the_repository_wants_them() {
    let repository =
        Repository::new(&[(".gitattributes", "*.txt text eol=crlf\n"), ("run.sh", "#!/bin/sh\n")]);
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(repository.path("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    repository.write("a.txt", "a\r\n");
    repository.git(&["add", "--all"]);
    repository.git(&["commit", "--quiet", "--message", "second"]);
    let tasks = [insert("t", "a.txt", "new"), whole("r", "run.sh", "#!/bin/sh\nexit 0", "sh run.sh")];
    let results = repository.run(&tasks, &repository.conduct(2)).unwrap();
    assert!(results.iter().all(coder_tasks::Finished::is_complete), "{results:#?}");
    assert_eq!(repository.read("a.txt"), "new\r\na\r\n");
    assert_eq!(repository.git(&["cat-file", "blob", "HEAD:a.txt"]), "new\na");
    assert!(repository.git(&["ls-tree", "HEAD", "run.sh"]).starts_with("100755"));
    assert_eq!(std::fs::metadata(repository.path("run.sh")).unwrap().permissions().mode() & 0o777, 0o755);
    repository.assert_clean("refs/heads/main");
}

#[test]
fn what_a_task_made_a_program_is_one_in_the_checkout_too() {
    use std::os::unix::fs::PermissionsExt;
    let script = "#!/bin/sh\nexit 0";
    let repository = Repository::new(&[("old.sh", "#!/bin/sh\nexit 0\n")]);
    let tasks = [
        whole("new", "new.sh", script, "sh -c 'chmod +x new.sh && ./new.sh'"),
        whole("old", "old.sh", "#!/bin/sh\nexit 0 # now", "sh -c 'chmod +x old.sh && ./old.sh'"),
    ];
    let results = repository.run(&tasks, &repository.conduct(2)).unwrap();
    assert!(results.iter().all(coder_tasks::Finished::is_complete), "{results:#?}");
    for name in ["new.sh", "old.sh"] {
        assert!(repository.git(&["ls-tree", "HEAD", name]).starts_with("100755"), "{name}");
        assert_ne!(
            std::fs::metadata(repository.path(name)).unwrap().permissions().mode() & 0o100,
            0,
            "{name}"
        );
    }
    repository.assert_clean("refs/heads/main");
}

#[test]
fn places_where_a_plan_cannot_be_committed_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::new(&[]);
    let tasks = [whole("t", "a.txt", "a", "true")];
    let error = repository.run_in(folder.path(), &tasks, &repository.conduct(1), &|_| {}).unwrap_err();
    assert!(error.to_string().contains("no git repository"), "{error}");
    let inside = coder_tasks::Conduct { state: repository.path("state"), ..repository.conduct(1) };
    let error = repository.run(&tasks, &inside).unwrap_err();
    assert!(error.to_string().contains("lies in the checkout"), "{error}");
    std::fs::remove_dir_all(repository.path("state")).unwrap();
    std::fs::write(repository.path(".git/MERGE_HEAD"), "").unwrap();
    let error = repository.run(&tasks, &repository.conduct(1)).unwrap_err();
    assert!(error.to_string().contains("a merge is under way"), "{error}");
}

/// Covers S1-32: it sees all that was merged, makes no commit, and is never taken for done.
#[test]
fn a_task_that_writes_nothing_verifies_what_was_merged() {
    let repository = Repository::new(&[]);
    let check = |command: &str| {
        let spec = serde_json::json!({
            "task_id": "last", "description": "All of it", "output_files": [], "test_command": command,
        });
        Task::parse("last.json", &spec.to_string()).unwrap()
    };
    let (a, b) = (whole("a", "a.txt", "a", "true"), whole("b", "b.txt", "b", "true"));
    let tasks = [check("grep -q . a.txt b.txt"), a.clone(), b.clone()];
    let results = repository.run(&tasks, &repository.conduct(2)).unwrap();
    let ended: Vec<&str> = results.iter().map(|finished| finished.result.task_id.as_str()).collect();
    assert_eq!(ended, ["a", "b", "last"]);
    assert!(results.iter().all(coder_tasks::Finished::is_complete), "{results:#?}");
    assert_eq!((results[2].commit.clone(), results[2].integrated), (None, None));
    assert_eq!(repository.subjects().len(), 3);
    repository.assert_clean("refs/heads/main");
    // The same plan once more: what is done is done, what is there is looked at again.
    let again = Conduct { resume: true, ..repository.conduct(2) };
    let results = repository.run(&tasks, &again).unwrap();
    assert_eq!(results.iter().map(|finished| finished.resumed).collect::<Vec<_>>(), [true, true, false]);
    // One that fails takes nothing back that others did.
    let tasks = [check("grep -q missing a.txt"), a, b, whole("c", "c.txt", "c", "true")];
    let results = repository.run(&tasks, &again).unwrap();
    assert_eq!(results[3].result.outcome, Outcome::Blocked, "{results:#?}");
    assert_eq!(repository.subjects().len(), 4);
    assert_eq!(repository.read("c.txt"), "c\n");
}
