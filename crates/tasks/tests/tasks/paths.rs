//! Paths that lead astray, files that are not files, and what a killed run leaves behind.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::scripted::{Folder, Scripted, task};
use coder_tasks::{Error, Outcome, Workspace};

/// Every door to a file: what is refused for one is refused for all.
fn refused(workspace: &Workspace, path: &str) {
    let read = workspace.read(path, 1 << 20).unwrap_err();
    assert!(matches!(read, Error::Path { .. }), "{path:?}: {read}");
    let snapshot = workspace.snapshot(path).unwrap_err();
    assert!(matches!(snapshot, Error::Path { .. }), "{path:?}: {snapshot}");
}

#[test]
fn nothing_outside_and_nothing_protected_can_be_named() {
    let folder = Folder::new(&[("inside/a.py", "a\n"), ("outside.py", "secret\n")]);
    let workspace = Workspace::open(&folder.path("inside")).unwrap();
    let absolute = folder.path("outside.py");
    for path in [
        "../outside.py",
        "x/../../outside.py",
        absolute.to_str().unwrap(),
        "/etc/passwd",
        "a\0.py",
        "C:\\a.py",
        ".git/config",
        ".GIT/hooks/pre-commit",
        "sub/.git",
        ".coder/backups/x",
        "",
        ".",
        "hooks/pre-commit",
    ] {
        refused(&workspace, path);
    }
    assert_eq!(workspace.read("a.py", 10).unwrap(), "a\n");
}

#[test]
fn links_are_refused_wherever_they_stand() {
    let folder = Folder::new(&[("inside/a.py", "a\n"), ("inside/real/b.py", "b\n"), ("outside/c.py", "c\n")]);
    let inside = folder.path("inside");
    symlink("../outside", inside.join("out")).unwrap();
    symlink("../outside/c.py", inside.join("c.py")).unwrap();
    symlink("../outside/new.py", inside.join("dangling.py")).unwrap();
    symlink("real", inside.join("alias")).unwrap();
    let workspace = Workspace::open(&inside).unwrap();
    for path in ["out/c.py", "out/new.py", "c.py", "dangling.py", "alias/b.py"] {
        refused(&workspace, path);
    }
    std::fs::hard_link(folder.path("outside/c.py"), inside.join("hard.py")).unwrap();
    assert!(matches!(workspace.snapshot("hard.py"), Err(Error::Path { .. })));
    assert_eq!(workspace.read("hard.py", 10).unwrap(), "c\n");
}

#[test]
fn a_link_put_in_place_after_the_snapshot_is_not_followed() {
    let folder = Folder::new(&[("inside/sub/a.py", "a\n"), ("outside/a.py", "a\n")]);
    let inside = folder.path("inside");
    let workspace = Workspace::open(&inside).unwrap();
    let backup = workspace.backup("T", workspace.snapshot("sub/a.py").unwrap()).unwrap();
    std::fs::rename(inside.join("sub"), inside.join("moved")).unwrap();
    symlink("../outside", inside.join("sub")).unwrap();
    assert!(matches!(workspace.write(&backup, "b\n"), Err(Error::Path { .. })));
    assert!(matches!(workspace.restore(&backup), Err(Error::Path { .. })));
    assert_eq!(folder.read("outside/a.py"), "a\n");
}

#[test]
fn only_regular_text_files_of_bounded_size_are_read() {
    let folder = Folder::new(&[("a.py", "0123456789"), ("folder/b.py", ""), ("nul.py", "a\0b")]);
    let workspace = folder.workspace();
    assert!(std::process::Command::new("mkfifo").arg(folder.path("pipe.py")).status().unwrap().success());
    refused(&workspace, "pipe.py");
    refused(&workspace, "folder");
    refused(&workspace, "a.py/b.py");
    assert!(matches!(workspace.read("a.py", 9), Err(Error::TooLarge { bytes: 10, limit: 9, .. })));
    assert_eq!(workspace.read("a.py", 10).unwrap(), "0123456789");
    std::fs::write(folder.path("bytes.py"), [0xff, 0xfe]).unwrap();
    for path in ["bytes.py", "nul.py"] {
        assert!(matches!(workspace.snapshot(path), Err(Error::NotText { .. })));
    }
    assert!(matches!(workspace.read("gone.py", 9), Err(Error::Io { .. })));
    assert_eq!(workspace.snapshot("gone/a.py").unwrap().before, None);
}

#[test]
fn a_store_that_is_a_link_is_refused() {
    let folder = Folder::new(&[("inside/a.py", "a\n"), ("outside/x", "")]);
    symlink("../outside", folder.path("inside/.coder")).unwrap();
    let workspace = Workspace::open(&folder.path("inside")).unwrap();
    let snapshot = workspace.snapshot("a.py").unwrap();
    assert!(matches!(workspace.backup("T", snapshot), Err(Error::Path { .. })));
    assert_eq!(std::fs::read_dir(folder.path("outside")).unwrap().count(), 1);
}

#[test]
fn a_hostile_task_writes_nothing() {
    let folder = Folder::new(&[("inside/x", ""), ("outside/y", "")]);
    symlink("../outside", folder.path("inside/out")).unwrap();
    let workspace = Workspace::open(&folder.path("inside")).unwrap();
    let cancel = std::sync::atomic::AtomicBool::new(false);
    let mut writer = Scripted::new(["x = 1"]);
    let settings = crate::scripted::settings();
    let result = coder_tasks::run_task(
        &task("out/a.py", None),
        &workspace,
        Some(&mut writer),
        &settings,
        &mut |_| {},
        &cancel,
    );
    assert_eq!(result.outcome, Outcome::Refused);
    assert!(result.error.contains("symbolic link"), "{}", result.error);
    assert!(writer.asked.is_empty());
    assert_eq!(folder.tree(), ["inside", "inside/out", "inside/x", "outside", "outside/y"]);
}

#[test]
fn a_backup_is_there_before_the_file_changes() {
    let folder = Folder::new(&[("a.py", "old\n")]);
    std::fs::set_permissions(folder.path("a.py"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let workspace = folder.workspace();
    let backup = workspace.backup("T/../x y", workspace.snapshot("a.py").unwrap()).unwrap();
    let content = backup.content_path().unwrap();
    assert_eq!(folder.read(&content), "old\n");
    assert!(content.rsplit_once('/').unwrap().1.len() == 64);
    assert_eq!(folder.path(&content).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    workspace.write(&backup, "new\n").unwrap();
    assert_eq!(folder.read("a.py"), "new\n");
    workspace.restore(&backup).unwrap();
    assert_eq!(folder.read("a.py"), "old\n");
    assert_eq!(folder.path("a.py").metadata().unwrap().permissions().mode() & 0o777, 0o640);
    let record = backup.record_path();
    workspace.close(backup).unwrap();
    assert!(folder.read(&record).contains("\"mode\": 416"), "{}", folder.read(&record));
}

#[test]
fn strays_of_a_killed_run_are_swept_and_told() {
    let folder = Folder::new(&[("src/a.py", "old\n"), ("b.py", "x = 1\n")]);
    let workspace = folder.workspace();
    let backup = workspace.backup("T-9", workspace.snapshot("src/a.py").unwrap()).unwrap();
    std::fs::write(folder.path("src/.coder-tmp-1-0"), "half").unwrap();
    std::fs::write(folder.path(".coder-tmp-1-0"), "half").unwrap();
    assert_eq!(workspace.recover("b.py").unwrap(), [], "a run that holds its record is alive");
    let content = backup.content_path();
    // Letting go of the lock without closing the record is what being killed looks like.
    drop(backup);
    let found = workspace.recover("b.py").unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].task_id.as_str(), found[0].path.as_str()), ("T-9", "src/a.py"));
    assert_eq!(found[0].backup, content);
    assert_eq!(folder.tree(), ["b.py", "src", "src/a.py"]);
    assert_eq!(workspace.recover("b.py").unwrap(), []);
}
