//! Sandboxes to test, and folders to test them in.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use coder_tasks::verify::{self, Exit, Launcher, Limits, Means, Sandbox, Verification};

/// Every sandbox that works here. There must be one.
pub(crate) fn sandboxes() -> &'static [(String, Sandbox)] {
    static FOUND: OnceLock<Vec<(String, Sandbox)>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let bubblewrap = ["/usr/bin/bwrap", "/usr/local/bin/bwrap"].map(PathBuf::from);
        let bubblewrap = bubblewrap.into_iter().find(|path| path.exists()).map(Means::Bubblewrap);
        let mut found = Vec::new();
        for means in bubblewrap.into_iter().chain([Means::Landlock]) {
            match Sandbox::with(&launcher(), means.clone()) {
                Ok(sandbox) => found.push((means.to_string(), sandbox)),
                Err(problem) => eprintln!("{means} does not work here: {problem}"),
            }
        }
        assert!(!found.is_empty(), "no sandbox works here; install bubblewrap, or use Linux 6.2 or later");
        found
    })
}

pub(crate) fn launcher() -> Launcher {
    Launcher { program: env!("CARGO_BIN_EXE_coder-sandbox").into(), arguments: Vec::new() }
}

/// A folder with the work tree `tree` and, beside it, `outside`, which holds a file.
pub(crate) struct Ground(tempfile::TempDir);

impl Ground {
    pub(crate) fn new() -> Ground {
        // Not among other temporary files, in whose place a command sees a folder of its own.
        let ground = Ground(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        std::fs::create_dir(ground.tree()).unwrap();
        std::fs::create_dir(ground.outside()).unwrap();
        std::fs::write(ground.outside().join("file"), "kept\n").unwrap();
        ground
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap().join("tree")
    }

    pub(crate) fn outside(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap().join("outside")
    }

    /// Nothing has come to the folder outside, and what was there is as it was.
    pub(crate) fn assert_untouched(&self, context: &str) {
        let names: Vec<_> =
            std::fs::read_dir(self.outside()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["file"], "{context}");
        assert_eq!(std::fs::read_to_string(self.outside().join("file")).unwrap(), "kept\n", "{context}");
        let beside: Vec<_> =
            std::fs::read_dir(self.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(beside.len(), 2, "{context}: {beside:?}");
    }

    pub(crate) fn run(&self, sandbox: &Sandbox, argv: &[&str], limits: &Limits) -> Verification {
        run_in(&self.tree(), sandbox, argv, limits)
    }

    /// Runs a script.
    pub(crate) fn sh(&self, sandbox: &Sandbox, script: &str, limits: &Limits) -> Verification {
        self.run(sandbox, &["sh", "-c", script], limits)
    }

    /// Lets this program do an act.
    pub(crate) fn act(&self, sandbox: &Sandbox, act: &str, limits: &Limits) -> Verification {
        let program = std::env::current_exe().unwrap();
        let act = format!("{}={act}", crate::acts::ACT);
        let program = program.to_str().unwrap();
        self.run(sandbox, &["env", &act, program, "--exact", "acts::act", "--nocapture"], limits)
    }
}

pub(crate) fn run_in(dir: &Path, sandbox: &Sandbox, argv: &[&str], limits: &Limits) -> Verification {
    let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
    verify::run(&argv, dir, sandbox, limits, &AtomicBool::new(false)).unwrap()
}

pub(crate) fn limits() -> Limits {
    Limits { time: Duration::from_secs(60), ..Limits::default() }
}

pub(crate) fn assert_exit(done: &Verification, expected: Exit, context: &str) {
    assert_eq!(done.exit, expected, "{context}: {}", done.output);
}

/// Processes whose arguments hold a word.
pub(crate) fn processes_with(word: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let pids = pids.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    })
    .collect()
}

/// Waits until no process with this argument is left.
pub(crate) fn assert_gone(word: &str, context: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !processes_with(word).is_empty() {
        assert!(Instant::now() < deadline, "{context}: {word} goes on");
        std::thread::yield_now();
    }
}

/// Seconds for `sleep` that no other test and no other run of this one sleeps.
pub(crate) fn nap(number: u32) -> String {
    format!("{}.{number:03}{:06}", 600, std::process::id())
}
