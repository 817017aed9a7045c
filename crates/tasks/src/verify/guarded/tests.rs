use super::*;

/// Covers S1-34.
#[test]
fn tests_are_known_by_name_and_folder() {
    for path in ["tests/a.rs", "test_a.py", "a/b_test.go", "a.test.ts", "x/__tests__/a.js", "conftest.py"] {
        assert!(is_test(path), "{path}");
    }
    for path in ["src/a.rs", "tests/data.bin", "testing.md", "src/latest.py", "contest.py"] {
        assert!(!is_test(path), "{path}");
    }
}

/// Covers S1-34.
#[test]
fn what_changed_is_brought_back() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let outside = tempfile::tempdir().unwrap();
    for folder in ["tests", "src", ".git/hooks"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    for path in ["tests/a.py", "tests/b.py", "tests/own.py", "src/a.py", "check.sh", ".git/config"] {
        std::fs::write(root.join(path), "old").unwrap();
    }
    let argv = ["sh".to_owned(), "check.sh".to_owned()];
    let take = || Guarded::take(root, &["tests/own.py".to_owned()], &argv, &Sandbox::off()).unwrap();
    assert_eq!(take().restore(&mut |_, _| Ok(())).unwrap(), Vec::<String>::new());
    let guarded = take();
    for path in ["tests/own.py", "src/a.py", "check.sh", ".git/config", ".git/hooks/x", "conftest.py"] {
        std::fs::write(root.join(path), "new").unwrap();
    }
    // The folder of the tests is now somewhere else.
    std::fs::rename(root.join("tests"), root.join("old")).unwrap();
    std::os::unix::fs::symlink(outside.path(), root.join("tests")).unwrap();
    let mut kept = Vec::new();
    let mut keep = |path: &str, content: &[u8]| {
        assert_eq!(content, b"new");
        kept.push(path.to_owned());
        Ok(())
    };
    let changed = guarded.restore(&mut keep).unwrap();
    kept.sort();
    assert_eq!(kept, [".git/config", ".git/hooks/x", "check.sh", "conftest.py"]);
    assert_eq!(
        changed,
        [".git/config", ".git/hooks/x", "check.sh", "conftest.py", "tests/a.py", "tests/b.py"]
    );
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    for path in ["tests/a.py", "tests/b.py", "check.sh", ".git/config"] {
        assert_eq!(std::fs::read_to_string(root.join(path)).unwrap(), "old", "{path}");
    }
    assert_eq!(std::fs::read_to_string(root.join("src/a.py")).unwrap(), "new");
    assert!(!root.join("conftest.py").exists() && !root.join(".git/hooks/x").exists());
    assert_eq!(guarded.restore(&mut |_, _| Ok(())).unwrap(), Vec::<String>::new());
}

#[test]
fn what_was_closed_is_brought_back_with_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for folder in ["a/tests", "sub/.git/hooks"] {
        std::fs::create_dir_all(path(folder)).unwrap();
    }
    let files = ["a/tests/a.py", "sub/.git/config"];
    files.iter().for_each(|file| std::fs::write(path(file), "old").unwrap());
    let guarded = Guarded::take(dir.path(), &[], &[], &Sandbox::off()).unwrap();
    std::fs::remove_file(path(files[0])).unwrap();
    std::fs::write(path(files[1]), "new").unwrap();
    std::fs::create_dir_all(path(".coder/x")).unwrap();
    for folder in ["a/tests", "sub/.git", ".coder/x", ".coder"] {
        std::fs::set_permissions(path(folder), std::fs::Permissions::from_mode(0o500)).unwrap();
    }
    // A content that cannot be kept is an error, and does not keep the others from being brought back.
    let mut keep = |_: &str, _: &[u8]| Err(Error::NotText { path: String::new() });
    assert!(guarded.restore(&mut keep).is_err());
    assert_eq!(std::fs::read_to_string(path(files[0])).unwrap(), "old");
    assert_eq!(guarded.restore(&mut |_, _| Ok(())).unwrap(), ["sub/.git/config"]);
    files.iter().for_each(|file| assert_eq!(std::fs::read_to_string(path(file)).unwrap(), "old"));
    assert!(!path(".coder").exists());
}

#[test]
fn what_may_not_be_read_is_no_reason_not_to_work() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(path("data/tests")).unwrap();
    std::fs::write(path("test_a.py"), "x").unwrap();
    let allow = |mode| {
        for name in ["data", "test_a.py"] {
            std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    allow(0);
    let guarded = Guarded::take(dir.path(), &[], &[], &Sandbox::off());
    let changed = guarded.and_then(|guarded| guarded.restore(&mut |_, _| Ok(())));
    allow(0o700);
    assert_eq!(changed.unwrap(), Vec::<String>::new());
}

#[test]
fn a_repository_that_was_not_there_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let guarded = Guarded::take(dir.path(), &[], &[], &Sandbox::off()).unwrap();
    std::fs::create_dir_all(dir.path().join(".git/hooks")).unwrap();
    std::fs::write(dir.path().join(".git/hooks/pre-commit"), "x").unwrap();
    assert_eq!(guarded.restore(&mut |_, _| Ok(())).unwrap(), [".git"]);
    assert!(!dir.path().join(".git").exists());
}
