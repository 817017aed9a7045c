//! Runs that are killed: the file is old or new, whole, and its backup is there.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use coder_tasks::{Settings, Workspace};

use crate::scripted::{Folder, Scripted, settings, task};

const FOLDER: &str = "CODER_TEST_CRASH_FOLDER";
const ROUNDS: u64 = 40;

fn content(word: &str) -> String {
    format!("{word}\n").repeat(40_000)
}

/// The process that gets killed: does the same task over and over, with a byte on standard error for
/// each step. Without the variable it is no test.
#[test]
fn victim() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let workspace = Workspace::open(folder.as_ref()).unwrap();
    let new = content("new");
    loop {
        let mut writer = Scripted::new([new.as_str()]);
        let mut tell = |_: &coder_tasks::Progress<'_>| std::io::stderr().write_all(b".").unwrap();
        let settings =
            Settings { policy: coder_tasks::Policy { attempts: 1, ..Default::default() }, ..settings() };
        let task = task("src/a.py", Some("exit 1"));
        coder_tasks::run_task(
            &task,
            &workspace,
            Some(&mut writer),
            &settings,
            &mut tell,
            &AtomicBool::new(false),
        );
    }
}

#[test]
fn a_killed_run_leaves_old_or_new_and_the_backup() {
    let (old, new) = (content("old"), content("new") + "\n");
    let folder = Folder::new(&[("src/a.py", &old)]);
    let mut seen_new = 0;
    let mut random = 12345u64;
    for round in 0..ROUNDS {
        std::fs::write(folder.path("src/a.py"), &old).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::victim", "--nocapture"])
            .env(FOLDER, folder.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let steps = 1 + (random >> 33) as usize % 9;
        let mut told = vec![0; steps];
        child.stderr.as_mut().unwrap().read_exact(&mut told).unwrap();
        let moment = Instant::now() + Duration::from_micros((random >> 40) % 3000);
        while Instant::now() < moment {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let now = folder.read("src/a.py");
        assert!(now == old || now == new, "round {round}: {} bytes", now.len());
        if now == new {
            seen_new += 1;
            let backups = std::fs::read_dir(folder.path(".coder/backups")).unwrap();
            let kept = backups
                .filter(|entry| std::fs::read(entry.as_ref().unwrap().path()).unwrap() == old.as_bytes());
            assert_eq!(kept.count(), 1, "round {round}");
        }
        // A command that was just being started holds the lock of the killed run until it is.
        let deadline = Instant::now() + Duration::from_secs(10);
        folder.workspace().recover("src/a.py").unwrap();
        while !is_swept(&folder) && Instant::now() < deadline {
            folder.workspace().recover("src/a.py").unwrap();
        }
        assert!(is_swept(&folder), "round {round}");
        assert_eq!(folder.tree(), ["src", "src/a.py"], "round {round}");
    }
    assert!(seen_new > 0 && seen_new < ROUNDS, "{seen_new} of {ROUNDS} were killed with the new content");
}

/// Whether no temporary file and no open record is in the store.
fn is_swept(folder: &Folder) -> bool {
    let mut entries = std::fs::read_dir(folder.path(".coder/backups")).into_iter().flatten();
    entries.all(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        !name.starts_with(".coder-tmp-") && !name.contains(".open.")
    })
}
