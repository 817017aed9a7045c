//! Ordinary commands, which must work as they do without a sandbox.

use std::path::Path;

use coder_tasks::verify::{self, Exit, Limits, Sandbox};
use coder_tasks::{Error, Verification};

use crate::support::{Ground, assert_exit, launcher, limits, run_in, sandboxes};

/// Covers S1-34.
#[test]
fn a_sandbox_changes_nothing_for_an_ordinary_command() {
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        let done = ground.sh(sandbox, "pwd; echo b >&2; echo c; cat; exit 3", &limits());
        assert_exit(&done, Exit::Code(3), name);
        assert_eq!(done.output, format!("{}\nb\nc\n", ground.tree().display()), "{name}");
        assert_exit(&ground.sh(sandbox, "exit 0", &limits()), Exit::Code(0), name);
        assert_exit(&ground.sh(sandbox, "kill -9 $$", &limits()), Exit::Signal(9), name);
        let missing = ground.run(sandbox, &["no-such-program-anywhere"], &limits());
        assert_exit(&missing, Exit::NotFound("no-such-program-anywhere".to_owned()), name);
        std::fs::write(ground.tree().join("plain"), "").unwrap();
        let plain = ground.run(sandbox, &["./plain"], &limits());
        assert!(matches!(plain.exit, Exit::NotStarted(_)), "{name}: {plain:?}");
    }
}

/// Git's status 129 is no signal, nor is a shell's 137 for what it has seen killed.
#[test]
fn a_status_is_told_as_it_is() {
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        for status in [126, 128, 129, 137, 192, 193, 254, 255] {
            let done = ground.sh(sandbox, &format!("exit {status}"), &limits());
            assert_exit(&done, Exit::Code(status), name);
        }
    }
}

/// Somebody waits for a command in bubblewrap, and what it does to its group or its parent is told of itself.
#[test]
fn who_waits_for_a_command_is_no_part_of_it() {
    for (name, sandbox) in sandboxes().iter().filter(|(name, _)| name.contains("bwrap")) {
        let ground = Ground::new();
        let done = ground.sh(sandbox, "trap '' TERM; kill -TERM 0; exit 4", &limits());
        assert_exit(&done, Exit::Code(4), name);
        assert_exit(&ground.sh(sandbox, "kill -KILL $PPID; sleep 600", &limits()), Exit::Signal(9), name);
        let done = ground.sh(sandbox, "cat /proc/$PPID/environ || exit 5", &limits());
        assert_exit(&done, Exit::Code(5), name);
    }
}

#[test]
fn a_folder_whose_name_is_no_text_is_one() {
    use std::os::unix::ffi::OsStrExt;
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        let odd = ground.tree().join(std::ffi::OsStr::from_bytes(b"a\xffb"));
        std::fs::create_dir(&odd).unwrap();
        let done = run_in(&odd, sandbox, &["sh", "-c", "echo x > made"], &limits());
        assert_exit(&done, Exit::Code(0), name);
        assert!(odd.join("made").exists(), "{name}");
        // Nor is one that is hidden a reason to wait for ever.
        let mut knowing = sandbox.clone();
        let secret = ground.outside().join(std::ffi::OsStr::from_bytes(b"secret\xff"));
        std::fs::write(&secret, "hunter2").unwrap();
        knowing.hidden.push(secret);
        let done = ground.sh(&knowing, "cat ../outside/secret* || true", &limits());
        assert_exit(&done, Exit::Code(0), name);
        assert!(!done.output.contains("hunter2"), "{name}: {}", done.output);
    }
}

/// Covers S1-34.
#[test]
fn cargo_builds_and_tests_offline() {
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tasks");
        for path in ["Cargo.toml", "Cargo.lock", "src/lib.rs", "src/greeting.rs", "tests/greeting.rs"] {
            let to = ground.tree().join(path);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(example.join(path), to).unwrap();
        }
        // The example's file lacks what its task is to add.
        let greeting = ground.tree().join("src/greeting.rs");
        let text = std::fs::read_to_string(&greeting).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let with: Vec<&str> = [&lines[..4], &["        \"fr\" => Some(\"bonjour\"),"], &lines[4..]].concat();
        let argv = ["cargo", "test", "--offline", "--quiet", "--test", "greeting"];
        let failed = ground.run(sandbox, &argv, &limits());
        assert_exit(&failed, Exit::Code(101), name);
        std::fs::write(&greeting, with.join("\n") + "\n").unwrap();
        let passed = ground.run(sandbox, &argv, &limits());
        assert_exit(&passed, Exit::Code(0), name);
        assert!(ground.tree().join("target").is_dir());
    }
}

/// Covers S1-34.
#[test]
fn what_programs_of_the_user_run_later_is_read_only() {
    for (name, sandbox) in sandboxes().iter().filter(|(name, _)| name.contains("bwrap")) {
        let ground = Ground::new();
        std::fs::create_dir_all(ground.tree().join(".git/hooks")).unwrap();
        let done = ground.sh(sandbox, "echo x > .git/hooks/pre-commit", &limits());
        assert_exit(&done, Exit::Code(2), name);
        assert!(!ground.tree().join(".git/hooks/pre-commit").exists(), "{name}");
    }
}

#[test]
fn a_folder_can_be_opened_to_a_command() {
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        let mut wider = sandbox.clone();
        wider.writable.push(ground.outside());
        let script = format!("echo changed > {}/file", ground.outside().display());
        assert_exit(&ground.sh(&wider, &script, &limits()), Exit::Code(0), name);
        assert_eq!(std::fs::read_to_string(ground.outside().join("file")).unwrap(), "changed\n", "{name}");
    }
}

/// Covers S1-34.
#[test]
fn without_a_sandbox_that_works_nothing_runs() {
    let ground = Ground::new();
    let run = |sandbox: &Sandbox| -> coder_tasks::Result<Verification> {
        let argv = ["touch", "ran"].map(str::to_owned);
        verify::run(&argv, &ground.tree(), sandbox, &limits(), &Default::default())
    };
    let mut gone = launcher();
    gone.program = ground.tree().join("gone");
    let none = Sandbox::detect(&gone);
    let error = run(&none).unwrap_err();
    assert!(matches!(&error, Error::NoSandbox { .. }), "{error}");
    assert!(error.to_string().contains("`--no-sandbox`"), "{error}");
    // A launcher that does something else is none.
    gone.program = "/bin/true".into();
    assert!(run(&Sandbox::detect(&gone)).is_err());
    assert!(!ground.tree().join("ran").exists());
    assert!(run(&Sandbox::off()).unwrap().passed());
    assert!(ground.tree().join("ran").exists());
}

/// How long a command takes that does nothing; shown with `--nocapture`.
#[test]
fn the_price_of_a_sandbox() {
    let ground = Ground::new();
    let off = ("none".to_owned(), Sandbox::off());
    for (name, sandbox) in std::iter::once(&off).chain(sandboxes()) {
        let mut times: Vec<f64> = (0..11)
            .map(|_| run_in(&ground.tree(), sandbox, &["true"], &Limits::default()).seconds * 1e3)
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{name}: {:.1} ms, the slowest of eleven {:.1} ms", times[5], times[10]);
    }
}
