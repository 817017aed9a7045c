//! `coder run`, killed: the target is whole at every moment, the next start finishes what was begun or takes it
//! back, and Ctrl-C takes everything back. Then `coder undo`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{STATE, coder, folder, json, stderr, stdout, text};

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

/// Every file of a folder.
fn files(folder: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

/// Covers S1-10, S1-20, S1-55.
#[test]
fn killed_at_any_moment_the_file_is_old_or_new() {
    let old = old_content();
    let new = format!("new\n{old}");
    let folder = folder(&[("task.md", &task("sleep 0.01")), ("notes.txt", &old)]);
    let root = text(folder.path());
    let notes = folder.path().join("notes.txt");
    let begin = Instant::now();
    assert!(start(folder.path()).wait().unwrap().success());
    let whole = begin.elapsed();
    assert_eq!(fs::read_to_string(&notes).unwrap(), new);
    // A linear congruential generator (Knuth's MMIX constants) gives the moments: every other one counts from the
    // start, the rest from the change of the file. How long the latter are is steered, because machines differ and
    // change: longer after an edit that was taken back, shorter after one that had been kept.
    let (mut state, mut span) = (1u64, whole / 2);
    let (mut seen, mut taken_back) = ([0, 0], 0);
    for round in 0..200 {
        fs::write(&notes, &old).unwrap();
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let part = (state >> 11) as f64 / (1u64 << 53) as f64;
        let mut child = start(folder.path());
        let changed = || fs::metadata(&notes).is_ok_and(|file| file.len() == new.len() as u64);
        let late = round % 2 == 1;
        if late {
            while !changed() && child.try_wait().unwrap().is_none() {
                std::thread::yield_now();
            }
        }
        spin(if late { span } else { whole }.mul_f64(part));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = fs::read_to_string(&notes).unwrap();
        assert!(found == old || found == new, "the file is torn: {} bytes", found.len());
        // The next start, whatever it is for.
        let next = coder(&["undo", "--list", "--json", "--working-dir", root]).output().unwrap();
        assert!(next.status.success(), "round {round}: {}", stderr(&next));
        taken_back +=
            usize::from(stderr(&next).contains("did not come to its end; as before it: `notes.txt`"));
        assert_eq!(files(folder.path()), ["notes.txt", "task.md"], "round {round}");
        let found = fs::read_to_string(&notes).unwrap();
        let kept = found == new;
        seen[usize::from(kept)] += 1;
        if late {
            span = span.mul_f64(if kept { 0.85 } else { 1.15 });
        }
        if kept {
            assert_eq!(json(&["undo", "--json", "--working-dir", root])["files"][0], "notes.txt");
        }
        assert_eq!(fs::read_to_string(&notes).unwrap(), old, "round {round}");
    }
    println!("200 kills: {} times old, {taken_back} of them taken back, {} times new", seen[0], seen[1]);
    // If one of them never happens, the moments are badly chosen and the test shows nothing.
    assert!(seen[0] > 10 && seen[1] > 10 && taken_back > 10, "{seen:?}, {taken_back}");
}

/// Covers S1-10, S1-55.
#[test]
fn undo_takes_a_task_back() {
    let folder = folder(&[("task.md", &task("true")), ("notes.txt", "old\n")]);
    let (root, notes) = (text(folder.path()), folder.path().join("notes.txt"));
    assert!(start(folder.path()).wait().unwrap().success());
    let undo = |args: &[&str]| coder(&[&["undo", "--working-dir", root], args].concat()).output().unwrap();
    assert_eq!(stdout(&undo(&["--list"])), "   1  task: notes.txt\n");
    fs::write(&notes, "mine\n").unwrap();
    let refused = undo(&[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("`notes.txt` was changed after task `task`"), "{}", stderr(&refused));
    assert_eq!(stdout(&undo(&["task", "--force"])), "task: undone, notes.txt\n");
    assert_eq!(fs::read_to_string(&notes).unwrap(), "old\n");
    assert_eq!(
        stdout(&undo(&["--list"])),
        "   1  task: notes.txt, undone\n   2  task: notes.txt, took 1 back\n"
    );
    let nothing = undo(&[]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(stderr(&nothing).contains("error: nothing that was done"), "{}", stderr(&nothing));
    // In a state folder of one's own there is another history.
    let own = tempfile::tempdir().unwrap();
    assert_eq!(stdout(&undo(&["--list", "--state-dir", text(own.path())])), "");
}

#[test]
fn two_programs_do_not_work_in_one_folder_at_a_time() {
    let folder = folder(&[("task.md", &task("cat started")), ("notes.txt", "old\n")]);
    assert!(Command::new("mkfifo").arg(folder.path().join("started")).status().unwrap().success());
    let mut first = start(folder.path());
    // Opens as soon as the verification reads.
    let pipe = fs::OpenOptions::new().write(true).open(folder.path().join("started")).unwrap();
    let second = coder(&["run", "task.md", "--working-dir", text(folder.path())]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let holder = format!("another coder (process `{}`) works on", first.id());
    assert!(stdout(&second).contains(&holder), "{} {}", stdout(&second), stderr(&second));
    drop(pipe);
    assert!(first.wait().unwrap().success());
    assert_eq!(fs::read_to_string(folder.path().join("notes.txt")).unwrap(), "new\nold\n");
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

/// As under `nohup`: a terminal that is closed ends no run that was started to outlive it.
#[test]
fn a_hangup_that_is_ignored_stays_so() {
    let folder = folder(&[("task.md", &task("cat started")), ("notes.txt", "old\n")]);
    assert!(Command::new("mkfifo").arg(folder.path().join("started")).status().unwrap().success());
    let ignoring = "trap '' HUP; exec \"$0\" run task.md --output-format json";
    let mut child = Command::new("sh")
        .args(["-c", ignoring, env!("CARGO_BIN_EXE_coder")])
        .env("XDG_STATE_HOME", STATE)
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pipe = fs::OpenOptions::new().write(true).open(folder.path().join("started")).unwrap();
    assert!(Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap().success());
    drop(pipe);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(fs::read_to_string(folder.path().join("notes.txt")).unwrap(), "new\nold\n");
}
