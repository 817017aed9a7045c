//! A repository whose configuration, attributes, hooks and commands try to run programs.

use std::os::unix::fs::PermissionsExt;

use crate::repository::{Repository, insert, whole};

fn script(repository: &Repository, path: &str, marker: &str) -> String {
    let text =
        format!("#!/bin/sh\ntouch '{}'\nexec cat\n", repository.state().with_extension(marker).display());
    repository.write(path, &text);
    std::fs::set_permissions(repository.path(path), std::fs::Permissions::from_mode(0o755)).unwrap();
    repository.path(path).display().to_string()
}

#[test]
fn nothing_that_the_repository_names_is_run() {
    let repository = Repository::new(&[
        ("a.txt", "a\n"),
        (".gitattributes", "* filter=evil.a=b diff=evil merge=evil text=auto\n"),
    ]);
    let program = script(&repository, ".git/evil", "ran");
    for hook in [
        "post-checkout",
        "pre-commit",
        "commit-msg",
        "post-commit",
        "reference-transaction",
        "post-index-change",
        "post-rewrite",
        "update",
        "pre-auto-gc",
    ] {
        script(&repository, &format!(".git/hooks/{hook}"), "ran");
    }
    for key in [
        "core.fsmonitor",
        "core.editor",
        "core.pager",
        "core.sshCommand",
        "core.askPass",
        "diff.external",
        "diff.evil.command",
        "diff.evil.textconv",
        "merge.evil.driver",
        "filter.evil.a=b.smudge",
        "filter.evil.a=b.clean",
        "filter.evil.a=b.process",
        "gpg.program",
        "credential.helper",
    ] {
        repository.git(&["config", key, &program]);
    }
    for (key, value) in [("commit.gpgSign", "true"), ("filter.evil.a=b.required", "true"), ("gc.auto", "1")] {
        repository.git(&["config", key, value]);
    }
    let tasks =
        [insert("t", "a.txt", "new"), whole("u", "b.txt", "b", "true"), whole("v", "c.txt", "c", "true")];
    let results = repository.run(&tasks, &repository.conduct(2)).unwrap();
    assert!(results.iter().all(coder_tasks::Finished::is_complete), "{results:#?}");
    assert!(!repository.state().with_extension("ran").exists(), "a program of the repository was run");
    assert_eq!(repository.read("a.txt"), "new\na\n");
    // With the drivers in force the test is worth something: git itself runs them.
    let _ = std::process::Command::new("git")
        .args(["checkout", "--", "a.txt"])
        .current_dir(repository.root())
        .output();
    repository.write("a.txt", "changed\n");
    let _ = std::process::Command::new("git").args(["add", "a.txt"]).current_dir(repository.root()).output();
    assert!(repository.state().with_extension("ran").exists(), "the trap does not work");
}

#[test]
fn a_work_tree_elsewhere_is_refused() {
    let repository = Repository::new(&[("a.txt", "a\n")]);
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("a.txt"), "precious\n").unwrap();
    repository.git(&["config", "core.worktree", other.path().to_str().unwrap()]);
    let error = repository.run(&[insert("t", "a.txt", "new")], &repository.conduct(1)).unwrap_err();
    assert!(error.to_string().contains("core.worktree"), "{error}");
    assert_eq!(std::fs::read_to_string(other.path().join("a.txt")).unwrap(), "precious\n");
}

/// A command that exchanges the worktree's `.git`, or a file of it for a link, reaches nothing outside.
#[test]
fn a_command_cannot_lead_git_elsewhere() {
    let repository = Repository::new(&[
        (
            "swap.sh",
            "rm -rf .git; git init --quiet .; git config core.fsmonitor \"touch $PWD/../ran\"\nln -s /etc/hostname link\n",
        ),
        ("a.txt", "a\n"),
    ]);
    let tasks = [
        whole("t", "b.txt", "b", "sh swap.sh"),
        whole("u", "c.txt", "c", "sh swap.sh"),
        whole("v", "d.txt", "d", "true"),
    ];
    let results = repository.run(&tasks, &repository.conduct(3)).unwrap();
    // What the command did to git's own files is found and undone; nothing else may be the reason.
    for result in &results[..2] {
        assert!(result.is_complete() || result.result.error.contains("`.git/config`"), "{result:#?}");
    }
    assert!(results[2].is_complete(), "{:#?}", results[2]);
    assert_eq!(repository.git(&["status", "--porcelain"]), "");
    assert_eq!(repository.git(&["worktree", "list", "--porcelain"]).matches("worktree ").count(), 1);
    assert!(!repository.state().join("ran").exists());
}

#[test]
fn variables_of_git_are_not_obeyed() {
    let repository = Repository::new(&[("a.txt", "a\n")]);
    let other = Repository::new(&[("a.txt", "other\n")]);
    // Variables are set for a child that runs this test again, not for the other tests of this process.
    if std::env::var_os("CODER_TEST_GIT_DIR").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hostile::variables_of_git_are_not_obeyed"])
            .env("CODER_TEST_GIT_DIR", "1")
            .env("GIT_INDEX_FILE", other.path(".git/index"))
            .env("GIT_EXTERNAL_DIFF", "false")
            .env("GIT_CONFIG_PARAMETERS", "'core.bare'='true'")
            .status();
        assert!(status.unwrap().success());
        assert_eq!(other.git(&["status", "--porcelain"]), "");
        return;
    }
    let results = repository.run(&[insert("t", "a.txt", "new")], &repository.conduct(1)).unwrap();
    assert!(results[0].is_complete(), "{results:#?}");
}
