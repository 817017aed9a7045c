//! `coder run`, killed: the target is whole at every moment, and Ctrl-C takes everything back.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{STATE, folder};

/// Large enough that writing it takes time.
fn old_content() -> String {
    (0..20_000).map(|line| format!("line {line} of the old content\n")).collect()
}

fn start(folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_coder"))
        .args(["run", "task.md", "--output-format", "json"])
        .env("XDG_STATE_HOME", STATE)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn task(verification: &str) -> String {
    format!(
        "# Task: Add a line\n\n## File to modify\nnotes.txt\n\n## Code to add at line 1\n```\nnew\n```\n\n\
         ## Verification\nRun: {verification}\n"
    )
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn killed_at_any_moment_the_file_is_old_or_new() {
    let old = old_content();
    let new = format!("new\n{old}");
    let folder = folder(&[("task.md", &task("sleep 0.01")), ("notes.txt", &old)]);
    let notes = folder.path().join("notes.txt");
    let begin = Instant::now();
    assert!(start(folder.path()).wait().unwrap().success());
    let whole = begin.elapsed();
    assert_eq!(fs::read_to_string(&notes).unwrap(), new);
    // A linear congruential generator (Knuth's MMIX constants) gives the moments.
    let mut state = 1u64;
    let mut seen = [0, 0];
    for _ in 0..200 {
        fs::write(&notes, &old).unwrap();
        let _ = fs::remove_dir_all(folder.path().join(".coder"));
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait = whole.mul_f64((state >> 11) as f64 / (1u64 << 53) as f64);
        let mut child = start(folder.path());
        spin(wait);
        child.kill().unwrap();
        child.wait().unwrap();
        let found = fs::read_to_string(&notes).unwrap();
        assert!(found == old || found == new, "the file is torn: {} bytes", found.len());
        seen[usize::from(found == new)] += 1;
        if found == new {
            let backups = files(&folder.path().join(".coder"));
            let is_backup =
                |path: &std::path::PathBuf| fs::read(path).is_ok_and(|bytes| bytes == old.as_bytes());
            assert!(backups.iter().any(is_backup), "no backup of the old content in {backups:?}");
        }
    }
    // If one of them never happens, the moments are badly chosen and the test shows nothing.
    assert!(seen[0] > 10 && seen[1] > 10, "{seen:?}");
}

/// Waits without sleeping: a scheduler's nap is longer than most of the moments.
fn spin(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::thread::yield_now();
    }
}

#[test]
fn ctrl_c_takes_the_edit_back() {
    let folder = folder(&[("task.md", &task("cat started")), ("notes.txt", "old\n")]);
    let notes = folder.path().join("notes.txt");
    assert!(Command::new("mkfifo").arg(folder.path().join("started")).status().unwrap().success());
    let mut child = start(folder.path());
    // Opens as soon as the verification reads, which is after the edit; it reads until this end is closed.
    let mut pipe = fs::OpenOptions::new().write(true).open(folder.path().join("started")).unwrap();
    assert_eq!(fs::read_to_string(&notes).unwrap(), "new\nold\n");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(fs::read_to_string(&notes).unwrap(), "old\n");
    // The reader is gone: verification does not outlive the program.
    assert!(pipe.write_all(b"x").is_err());
}
