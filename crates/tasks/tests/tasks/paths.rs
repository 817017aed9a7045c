//! Paths that lead astray, and files that are not files: nothing outside is touched, and each ends with
//! an error of its own.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::scripted::{Folder, Scripted, only, task};
use coder_tasks::edit::{Base, Change};
use coder_tasks::{Error, Form, Outcome, ReplyShape, Workspace};

fn to(path: &str, content: &str) -> Change {
    Change { path: path.to_owned(), content: Some(content.to_owned()), moved_from: None }
}

fn names(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

/// Every door to a file: what is refused for one is refused for all, for the same reason.
fn refused(workspace: &Workspace, path: &str, reason: &str) {
    let errors = [
        workspace.read(path, 1 << 20).map(drop),
        workspace.snapshot(path).map(drop),
        workspace.begin("T", &names(&[path])).map(drop),
    ];
    for error in errors {
        let error = error.expect_err(path);
        assert!(
            matches!(error, Error::Path { .. }) && error.to_string().contains(reason),
            "{path:?}: {error}"
        );
    }
}

#[test]
fn a_file_that_is_moved_keeps_its_permissions() {
    let folder = Folder::new(&[("run.sh", "#!/bin/sh\n")]);
    std::fs::set_permissions(folder.path("run.sh"), std::fs::Permissions::from_mode(0o751)).unwrap();
    let patch = "*** Begin Patch\n*** Update File: run.sh\n*** Move to: bin/run.sh\n*** End Patch\n";
    let files = ["run.sh", "bin/run.sh"];
    let base = [("run.sh", Some("#!/bin/sh\n")), ("bin/run.sh", None)];
    let base = base.map(|(path, content)| Base { path, content });
    let shape =
        ReplyShape { files: files.map(str::to_owned).to_vec(), fence: "```".into(), language: "".into() };
    let changes = coder_tasks::edit::read(patch, &Form::Patch, &shape, &base).unwrap();
    let workspace = folder.workspace();
    let mut transaction = workspace.begin("T", &files.map(str::to_owned)).unwrap();
    transaction.write(&changes).unwrap();
    transaction.commit().unwrap();
    assert_eq!(folder.path("bin/run.sh").metadata().unwrap().permissions().mode() & 0o777, 0o751);
    assert_eq!(folder.tree(), ["bin", "bin/run.sh"]);
}

#[test]
fn nothing_outside_and_nothing_protected_can_be_named() {
    let folder = Folder::new(&[("inside/a.py", "a\n"), ("outside.py", "secret\n")]);
    let workspace = folder.workspace_in("inside");
    let absolute = folder.path("outside.py");
    for (path, reason) in [
        ("../outside.py", "holds `..`"),
        ("x/../../outside.py", "holds `..`"),
        (absolute.to_str().unwrap(), "it is absolute"),
        ("/etc/passwd", "it is absolute"),
        ("~/x", "it is absolute"),
        ("a\0.py", "a NUL byte"),
        ("a\n.py", "a control character"),
        ("C:\\a.py", "a Windows path"),
        (".git/config", "a protected place"),
        (".GIT/hooks/pre-commit", "a protected place"),
        (".Git", "a protected place"),
        ("sub/.git", "a protected place"),
        ("git~1/config", "a protected place"),
        (".git./config", "a protected place"),
        (".coder/backups/x", "a protected place"),
        ("", "it is empty"),
        (".", "it is a folder"),
        ("a./b.py", "ends with a dot"),
        ("b.py ", "ends with a dot or a blank"),
        ("CON.py", "a device on Windows"),
        (&"x".repeat(256), "more than 255 bytes"),
        (&"long/".repeat(1000), "more than 4095 bytes"),
    ] {
        refused(&workspace, path, reason);
    }
    assert_eq!(workspace.read("a.py", 10).unwrap(), "a\n");
    assert_eq!(folder.tree(), ["inside", "inside/a.py", "outside.py"]);
}

#[test]
fn links_are_refused_wherever_they_stand() {
    let folder = Folder::new(&[("inside/a.py", "a\n"), ("inside/real/b.py", "b\n"), ("outside/c.py", "c\n")]);
    let inside = folder.path("inside");
    symlink("../outside", inside.join("out")).unwrap();
    symlink("../outside/c.py", inside.join("c.py")).unwrap();
    symlink("../outside/new.py", inside.join("dangling.py")).unwrap();
    symlink("real", inside.join("alias")).unwrap();
    symlink(".", inside.join("loop")).unwrap();
    let workspace = folder.workspace_in("inside");
    for path in ["out/c.py", "out/new.py", "alias/b.py", "loop/a.py"] {
        refused(&workspace, path, "a folder in it is a symbolic link");
    }
    for path in ["c.py", "dangling.py"] {
        refused(&workspace, path, "it is a symbolic link");
    }
    assert_eq!(folder.read("outside/c.py"), "c\n");
    std::fs::hard_link(folder.path("outside/c.py"), inside.join("hard.py")).unwrap();
    let error = workspace.begin("T", &names(&["hard.py"])).unwrap_err().to_string();
    assert!(error.contains("several hard links"), "{error}");
    assert_eq!(workspace.read("hard.py", 10).unwrap(), "c\n");
}

/// The way to a file, or the file itself, becomes a link between the look at it and the write.
#[test]
fn a_link_put_in_place_after_the_look_is_not_followed() {
    let folder = Folder::new(&[("inside/sub/a.py", "a\n"), ("inside/b.py", "b\n"), ("outside/a.py", "a\n")]);
    let inside = folder.path("inside");
    let workspace = folder.workspace_in("inside");
    let mut transaction = workspace.begin("T", &names(&["sub/a.py", "b.py"])).unwrap();
    std::fs::rename(inside.join("sub"), inside.join("moved")).unwrap();
    symlink("../outside", inside.join("sub")).unwrap();
    let error = transaction.write(&[to("sub/a.py", "x\n"), to("b.py", "x\n")]).unwrap_err();
    assert!(error.to_string().contains("a folder in it is a symbolic link"), "{error}");
    assert_eq!((folder.read("outside/a.py"), folder.read("inside/b.py")), ("a\n".into(), "b\n".into()));
    drop(transaction);
    // The same with the file itself, and with a hard link in its place.
    let mut transaction = workspace.begin("T", &names(&["b.py"])).unwrap();
    std::fs::remove_file(inside.join("b.py")).unwrap();
    symlink("../outside/a.py", inside.join("b.py")).unwrap();
    let error = transaction.write(&[to("b.py", "x\n")]).unwrap_err();
    assert!(error.to_string().contains("it is a symbolic link"), "{error}");
    std::fs::remove_file(inside.join("b.py")).unwrap();
    std::fs::hard_link(folder.path("outside/a.py"), inside.join("b.py")).unwrap();
    let error = transaction.write(&[to("b.py", "x\n")]).unwrap_err();
    assert!(error.to_string().contains("several hard links"), "{error}");
    drop(transaction);
    assert_eq!(folder.read("outside/a.py"), "a\n");
    assert_eq!(std::fs::read_dir(folder.path("outside")).unwrap().count(), 1);
}

/// A link that the command under test puts where a file was: the way back replaces it and follows nothing.
#[test]
fn a_link_put_in_place_after_the_write_is_not_followed_on_the_way_back() {
    let folder =
        Folder::new(&[("inside/a.py", "a\n"), ("inside/sub/b.py", "b\n"), ("outside/a.py", "mine\n")]);
    let inside = folder.path("inside");
    let workspace = folder.workspace_in("inside");
    let mut transaction = workspace.begin("T", &names(&["a.py", "sub/b.py"])).unwrap();
    transaction.write(&[to("a.py", "x\n"), to("sub/b.py", "x\n")]).unwrap();
    std::fs::remove_file(inside.join("a.py")).unwrap();
    symlink("../outside/a.py", inside.join("a.py")).unwrap();
    transaction.restore().unwrap();
    assert_eq!((folder.read("inside/a.py"), folder.read("outside/a.py")), ("a\n".into(), "mine\n".into()));
    assert!(!inside.join("a.py").is_symlink());
    transaction.write(&[to("sub/b.py", "x\n")]).unwrap();
    std::fs::rename(inside.join("sub"), inside.join("moved")).unwrap();
    symlink("../outside", inside.join("sub")).unwrap();
    assert!(matches!(transaction.restore(), Err(Error::Path { .. })));
    assert_eq!(std::fs::read_dir(folder.path("outside")).unwrap().count(), 1);
}

#[test]
fn only_regular_text_files_of_bounded_size_are_read() {
    let folder = Folder::new(&[("a.py", "0123456789"), ("folder/b.py", ""), ("zero.py", "a\0b")]);
    let workspace = folder.workspace();
    assert!(std::process::Command::new("mkfifo").arg(folder.path("pipe.py")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(folder.path("socket.py")).unwrap();
    refused(&workspace, "pipe.py", "a pipe, a socket or a device");
    refused(&workspace, "socket.py", "a pipe, a socket or a device");
    refused(&workspace, "folder", "it is a folder");
    refused(&workspace, "a.py/b.py", "not a folder");
    assert!(matches!(workspace.read("a.py", 9), Err(Error::TooLarge { bytes: 10, limit: 9, .. })));
    assert_eq!(workspace.read("a.py", 10).unwrap(), "0123456789");
    std::fs::write(folder.path("bytes.py"), [0xff, 0xfe]).unwrap();
    std::fs::write(folder.path("cut.py"), [b'a', 0xc3]).unwrap();
    for path in ["bytes.py", "cut.py", "zero.py"] {
        assert!(matches!(workspace.snapshot(path), Err(Error::NotText { .. })));
    }
    assert!(matches!(workspace.read("gone.py", 9), Err(Error::Io { .. })));
    assert_eq!(workspace.snapshot("gone/a.py").unwrap().before, None);
}

#[test]
fn a_device_is_refused() {
    let workspace = Workspace::open("/dev".as_ref(), Folder::new(&[]).state()).unwrap();
    let error = workspace.snapshot("null").unwrap_err().to_string();
    assert!(error.contains("a pipe, a socket or a device"), "{error}");
}

/// The size alone decides: nothing of it is read.
#[test]
fn a_file_of_4_gb_is_refused_at_once() {
    let folder = Folder::new(&[]);
    std::fs::File::create(folder.path("large.py")).unwrap().set_len(4 << 30).unwrap();
    let result = folder.run(&task("large.py", None), Some(&mut Scripted::new(["x = 1"])));
    assert_eq!((result.outcome, result.attempts), (Outcome::Refused, 0));
    assert!(result.error.contains("`4294967296` bytes"), "{}", result.error);
    assert_eq!(folder.path("large.py").metadata().unwrap().len(), 4 << 30);
}

/// `.git` as a folder, as a file, under another name, and as the workspace itself.
#[test]
fn a_git_folder_is_not_written_under_any_name() {
    let folder = Folder::new(&[("a.py", ""), (".git", "gitdir: real\n"), ("b/.git/config", "")]);
    for repository in ["real", "bare.git", "sub/other"] {
        for part in ["objects/pack/x", "refs/heads/x", "HEAD", "config"] {
            let path = folder.path(repository).join(part);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x\n").unwrap();
        }
    }
    let workspace = folder.workspace();
    for path in [".git", "b/.git/config", "b/.GIT/config"] {
        refused(&workspace, path, "a protected place");
    }
    for path in ["real/config", "bare.git/hooks/post-receive", "sub/other/refs/heads/x"] {
        refused(&workspace, path, "inside a git folder");
    }
    for root in ["real", "b/.git"] {
        let error = Workspace::open(&folder.path(root), folder.state()).unwrap_err().to_string();
        assert!(error.contains("inside a git folder"), "{error}");
    }
}

/// Covers S1-39.
#[test]
fn only_named_files_are_changed_and_the_error_says_what_the_others_are() {
    let folder = Folder::new(&[("a.py", "a\n"), ("build.rs", "b\n")]);
    let workspace = folder.workspace();
    let mut transaction = workspace.begin("T", &names(&["a.py"])).unwrap();
    for (path, what) in [
        ("b.py", "not one of the task's files"),
        ("build.rs", "is a build script"),
        (".github/workflows/ci.yml", "is a file of continuous integration"),
        (".env", "may hold secrets"),
    ] {
        let error = transaction.write(&[to("a.py", "x\n"), to(path, "x\n")]).unwrap_err();
        assert!(matches!(error, Error::NotNamed { .. } | Error::Guarded { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
    assert!(matches!(
        transaction.write(&[to("a.py", "x\n"), to("a.py", "y\n")]),
        Err(Error::SameFile { path }) if path == "a.py"
    ));
    drop(transaction);
    assert_eq!((folder.read("a.py"), folder.tree()), ("a\n".to_owned(), names(&["a.py", "build.rs"])));
    drop(workspace);
    // A task that names it changes it, and says so.
    let task = task("build.rs", Some("grep -q 'x = 2' build.rs"));
    assert_eq!(task.warnings, ["`build.rs` is a build script, which builds run; check the change"]);
    assert_eq!(folder.run(&task, Some(&mut Scripted::new(["x = 2"]))).outcome, Outcome::Complete);
}

/// Covers S1-55.
#[test]
fn a_hostile_task_writes_nothing() {
    let folder = Folder::new(&[("inside/x", ""), ("outside/y", "")]);
    symlink("../outside", folder.path("inside/out")).unwrap();
    let workspace = folder.workspace_in("inside");
    let cancel = std::sync::atomic::AtomicBool::new(false);
    let mut writer = Scripted::new(["x = 1"]);
    let settings = crate::scripted::settings();
    let result = coder_tasks::run_task(
        &task("out/a.py", None),
        &workspace,
        &mut only(&mut writer),
        &settings,
        &mut |_| {},
        &cancel,
    );
    assert_eq!(result.outcome, Outcome::Refused);
    assert!(result.error.contains("symbolic link"), "{}", result.error);
    assert!(writer.asked.is_empty());
    assert_eq!(folder.tree(), ["inside", "inside/out", "inside/x", "outside", "outside/y"]);
}

/// Covers S1-10, S1-20.
#[test]
fn the_old_content_is_kept_before_the_file_changes() {
    let folder = Folder::new(&[("a.py", "old\n")]);
    std::fs::set_permissions(folder.path("a.py"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let workspace = folder.workspace();
    let mut transaction = workspace.begin("T/../x y", &names(&["a.py", "b.py"])).unwrap();
    assert_eq!(transaction.backup("a.py"), None);
    transaction.write(&[to("a.py", "new\n"), to("b.py", "b\n")]).unwrap();
    let kept = transaction.backup("a.py").unwrap();
    assert_eq!(transaction.backup("b.py"), None, "it did not exist");
    assert!(kept.starts_with(folder.state().canonicalize().unwrap()));
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "old\n");
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!((folder.read("a.py"), folder.tree()), ("new\n".to_owned(), names(&["a.py", "b.py"])));
    transaction.restore().unwrap();
    assert_eq!((folder.read("a.py"), folder.tree()), ("old\n".to_owned(), names(&["a.py"])));
    assert_eq!(folder.path("a.py").metadata().unwrap().permissions().mode() & 0o777, 0o640);
    transaction.write(&[to("b.py", "b\n")]).unwrap();
    assert_eq!(transaction.commit().unwrap(), ["b.py"]);
    assert_eq!(workspace.history().unwrap()[0].files, ["b.py"]);
}
