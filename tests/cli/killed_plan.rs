//! A plan of nine tasks, killed at random moments and gone on with: the same tree, nothing lost, nothing left over.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How often a run is killed, unless the variable says another number. The more, the longer.
const KILLS: usize = 45;
const COUNT: &str = "CODER_TEST_KILLS";

/// What the tasks write.
const WRITTEN: [&str; 6] =
    ["long.txt", "src/two.txt", "src/deep/four.txt", "other.txt", "seven.txt", "src/deep/nine.txt"];

/// Nine tasks in three batches: new files, insertions, two tasks on one file, one that runs into the other's file.
fn files() -> Vec<(String, String)> {
    let task = |id: &str, file: &str, place: &str, code: &str| {
        let text = format!(
            "---\nid: {id}\n---\n# Task: Do {id}\n\n## File to modify\n{file}\n\n## {place}\n```\n{code}\n```\n\n\
             ## Verification\nRun: grep -q {code} {file}\n"
        );
        (format!("plan/{id}.md"), text)
    };
    let long: String = (0..20_000).map(|line| format!("line {line}\n")).collect();
    vec![
        task("001", "long.txt", "Code to add at line 700", "first"),
        task("002", "src/two.txt", "Code", "second"),
        task("003", "long.txt", "Code to add at line 1", "third"),
        task("004", "src/deep/four.txt", "Code", "fourth"),
        task("005", "src/two.txt", "Code to add at line 2", "fifth"),
        task("006", "other.txt", "Code to add at line 1", "sixth"),
        task("007", "seven.txt", "Code", "seventh"),
        task("008", "long.txt", "Code to add at line 20000", "eighth"),
        task("009", "src/deep/nine.txt", "Code", "ninth"),
        (
            "plan/batches.md".into(),
            "## Batch 1\n- 001\n- 002\n- 003\n- 004\n## Batch 2\n- 005\n- 006\n## Batch 3\n- 007, 008, 009\n"
                .into(),
        ),
        ("long.txt".into(), long),
        ("other.txt".into(), "other\n".into()),
    ]
}

/// A folder to run in, and beside it the state.
struct Place {
    folder: TempDir,
    commit: bool,
}

impl Place {
    fn new(commit: bool) -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap(), commit };
        for (path, text) in files() {
            let path = place.work().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        if commit {
            place.git(&["init", "--quiet", "--initial-branch=main", "."]);
            place.git(&["config", "user.name", "Ada"]);
            place.git(&["config", "user.email", "ada@example.org"]);
            place.git(&["add", "--all"]);
            place.git(&["commit", "--quiet", "--message", "first"]);
        }
        place
    }

    fn work(&self) -> std::path::PathBuf {
        self.folder.path().join("work")
    }

    fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git").args(args).current_dir(self.work()).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_string()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coder"));
        command.args(["run", "plan", "--resume", "--model", "/nonexistent", "--state-dir"]).arg(self.state());
        if self.commit {
            command.args(["--jobs", "2"]);
        }
        command.current_dir(self.work()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs for at most this long after the start, or after the first change of a file, then `kill -9`. Whether it
    /// was killed.
    fn run_for(&self, time: Duration, from_change: bool) -> bool {
        let before = self.lengths();
        let mut child = self.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while from_change && self.lengths() == before && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        let begin = Instant::now();
        while begin.elapsed() < time {
            std::thread::yield_now();
        }
        let running = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        running
    }

    /// The length of each file that a task writes, where it is there.
    fn lengths(&self) -> Vec<Option<u64>> {
        let length = |path: &str| fs::metadata(self.work().join(path)).ok().map(|file| file.len());
        WRITTEN.iter().map(|path| length(path)).collect()
    }

    /// Runs to the end; how long it took.
    fn finish(&self) -> Duration {
        let begin = Instant::now();
        let output = self.command().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
        begin.elapsed()
    }

    /// What a plan comes to: every file with its content, and the tree of the commit.
    fn result(&self) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        list(&self.work(), &self.work(), &mut found);
        found.sort();
        found
    }

    /// A file of the user's checkout is never torn: each has one of the contents that it has in a whole run.
    fn assert_whole(&self, old: &[(String, Vec<u8>)], new: &[(String, Vec<u8>)]) {
        for (path, content) in self.result() {
            let is = |files: &[(String, Vec<u8>)]| {
                files.iter().any(|file| *file == (path.clone(), content.clone()))
            };
            // In place, a file that two tasks write also has the content between them.
            let between = !self.commit
                && content.len() > old.iter().find(|file| file.0 == path).map_or(0, |file| file.1.len());
            assert!(is(old) || is(new) || between || path.contains(".coder"), "`{path}` is torn");
        }
    }

    fn assert_nothing_left_over(&self) {
        for plan in fs::read_dir(self.state().join("plans")).unwrap() {
            let names = fs::read_dir(plan.unwrap().path()).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = names.collect();
            names.sort();
            assert_eq!(names, ["children", "lock", "record.json"]);
        }
        if !self.commit {
            return;
        }
        assert_eq!(self.git(&["status", "--porcelain"]), "");
        assert_eq!(self.git(&["log", "--format=%s"]).lines().count(), 10);
        assert_eq!(self.git(&["for-each-ref", "--format=%(refname)"]), "refs/heads/main");
        assert_eq!(self.git(&["stash", "list"]), "");
        let git = self.work().join(".git");
        for name in ["worktrees", "index.lock", "HEAD.lock", "coder-index", "coder-index.lock"] {
            assert!(!git.join(name).exists(), "`.git/{name}` stayed");
        }
    }
}

fn list(root: &Path, folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with(".git") || path.ends_with(".coder") {
            continue;
        }
        match path.is_dir() {
            true => list(root, &path, found),
            false => {
                found.push((path.strip_prefix(root).unwrap().display().to_string(), fs::read(&path).unwrap()))
            }
        }
    }
}

/// A linear congruential generator (Knuth's MMIX constants).
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 11) as f64 / (1u64 << 53) as f64
}

fn killed_and_gone_on_with(commit: bool, kills: usize, seed: u64) {
    let place = Place::new(commit);
    let old = place.result();
    let whole = place.finish();
    let new = place.result();
    assert_ne!(old, new);
    place.assert_nothing_left_over();
    let (mut state, mut done, mut landed) = (seed, 0, [0, 0]);
    // Half of the moments count from the start, half from the first change of a file: in worktrees the checkout
    // changes only at the end. How long each are is steered, because machines differ and change: longer after a kill,
    // shorter after one that came too late.
    let mut spans = [whole, whole / 10];
    while done < kills {
        let place = Place::new(commit);
        // The second time or later is a kill of what goes on after a kill.
        loop {
            let from_change = random(&mut state) < 0.5;
            let span = &mut spans[usize::from(from_change)];
            let killed = place.run_for(span.mul_f64(random(&mut state)), from_change);
            *span = span.mul_f64(if killed { 1.05 } else { 0.75 });
            if !killed {
                break;
            }
            done += 1;
            place.assert_whole(&old, &new);
            landed[usize::from(place.result() != old)] += 1;
            if done == kills || random(&mut state) < 0.5 {
                break;
            }
        }
        place.finish();
        assert!(place.result() == new, "another tree after {done} kills");
        place.assert_nothing_left_over();
    }
    println!("{done} kills, commit {commit}: files as before {}, changed {}", landed[0], landed[1]);
    // If one of them never happens, the moments are badly chosen and the test shows nothing. In place, the first file
    // changes soon after the start.
    assert!(landed[1] > 0 && (landed[0] > 0 || !commit), "{landed:?}");
}

fn kills() -> usize {
    std::env::var(COUNT).ok().and_then(|count| count.parse().ok()).unwrap_or(KILLS)
}

#[test]
fn in_worktrees_every_kill_can_be_gone_on_from() {
    killed_and_gone_on_with(true, kills() * 2 / 3, 1);
}

#[test]
fn in_place_every_kill_can_be_gone_on_from() {
    killed_and_gone_on_with(false, kills() - kills() * 2 / 3, 2);
}
