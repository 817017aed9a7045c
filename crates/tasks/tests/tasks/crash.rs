//! Runs that are killed: at the next start all files are old or all are new, and the old contents are kept.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use coder_tasks::{EditFormat, Policy, Settings, Task, Workspace};

use crate::scripted::{Folder, Scripted, only, settings};

const FOLDER: &str = "CODER_TEST_CRASH_FOLDER";
const STATE: &str = "CODER_TEST_CRASH_STATE";
const ROUNDS: u64 = 200;
const FILES: [&str; 3] = ["src/a.py", "src/b.py", "c.py"];

fn content(word: &str) -> String {
    format!("{word}\n").repeat(20_000)
}

/// The process that gets killed: does the same task over and over, with a byte on standard error for
/// each step. Every second time the command approves. Without the variables it is no test.
#[test]
fn victim() {
    let Some((folder, state)) = std::env::var_os(FOLDER).zip(std::env::var_os(STATE)) else { return };
    let workspace = Workspace::open(folder.as_ref(), state.as_ref()).unwrap();
    for round in 0.. {
        let word = if round % 2 == 0 { "new" } else { "old" };
        let blocks = FILES.map(|file| format!("```python {file}\n{}```", content(word)));
        let mut writer = Scripted { replies: [Ok(blocks.join("\n\n"))].into(), ..Scripted::default() };
        let mut tell = |_: &coder_tasks::Progress<'_>| std::io::stderr().write_all(b".").unwrap();
        let policy = Policy { attempts: 1, ..Policy::default() };
        let settings = Settings { policy, edit_format: EditFormat::Whole, ..settings() };
        let spec = serde_json::json!({
            "task_id": "T-1", "description": "Set x.", "output_files": FILES, "policy": "ticket",
            "test_command": ["sh", "-c", if round % 3 == 2 { "exit 1" } else { "exit 0" }],
        });
        let task = Task::parse("t.json", &spec.to_string()).unwrap();
        let cancel = AtomicBool::new(false);
        coder_tasks::run_task(&task, &workspace, &mut only(&mut writer), &settings, &mut tell, &cancel);
    }
}

/// Covers S1-10, S1-20, S1-55.
#[test]
fn a_killed_run_of_several_files_leaves_all_old_or_all_new() {
    let (old, new) = (content("old"), content("new"));
    let folder = Folder::new(&FILES.map(|file| (file, old.as_str())));
    let (mut seen, mut taken_back) = ([0, 0], 0);
    let mut random = 12345u64;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::victim", "--nocapture"])
            .env(FOLDER, folder.path(""))
            .env(STATE, folder.state())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let steps = 1 + (random >> 33) as usize % 14;
        let mut told = vec![0; steps];
        child.stderr.as_mut().unwrap().read_exact(&mut told).unwrap();
        let moment = Instant::now() + Duration::from_micros((random >> 40) % 30_000);
        while Instant::now() < moment {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for file in FILES {
            let now = folder.read(file);
            assert!(now == old || now == new, "round {round}: `{file}` is torn: {} bytes", now.len());
        }
        let workspace = folder.workspace();
        for interrupted in workspace.recover().unwrap() {
            assert_eq!(interrupted.left, [], "round {round}");
            taken_back += 1;
        }
        let now = FILES.map(|file| folder.read(file) == new);
        assert!(now == [true; 3] || now == [false; 3], "round {round}: {now:?}");
        seen[usize::from(now[0])] += 1;
        assert_eq!(folder.tree(), ["c.py", "src", "src/a.py", "src/b.py"], "round {round}");
        if let Some(last) = workspace.history().unwrap().last() {
            assert_eq!(last.files, FILES, "round {round}");
            workspace.undo(Some(&last.number.to_string()), false).unwrap();
            assert_eq!(FILES.map(|file| folder.read(file) == new), now.map(|new| !new), "round {round}");
        }
    }
    println!(
        "{ROUNDS} kills: {} times old, {} times new, {taken_back} transactions taken back",
        seen[0], seen[1]
    );
    // If one of them never happens, the moments are badly chosen and the test shows nothing.
    assert!(seen[0] > 0 && seen[1] > 0 && taken_back > 0, "{seen:?}, {taken_back}");
}
