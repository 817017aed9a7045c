//! Commands that look for what lets one act in somebody's name.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use coder_tasks::verify::{Exit, Sandbox};

use crate::support::{Ground, assert_exit, limits, run_in, sandboxes};

/// Says that this process is the one with secrets in its environment.
const HOLDER: &str = "CODER_TEST_HOLDER";

/// Runs the command as a program whose environment holds secrets. Without the variable it is no test.
#[test]
fn holder() {
    if std::env::var_os(HOLDER).is_none() {
        return;
    }
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        let done = ground.sh(sandbox, "env; cat \"$HOME/.ssh/id\" \"$HOME/.netrc\"; exit 3", &limits());
        assert_exit(&done, Exit::Code(3), name);
        assert!(!done.output.contains("hunter2"), "{name}: {}", done.output);
        assert!(done.output.contains("HOME=") && done.output.contains("PATH="), "{name}: {}", done.output);
        // The environment of every process that it can see, those that watch it among them.
        let script = "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ; done 2>/dev/null; exit 4";
        let done = ground.sh(sandbox, script, &limits());
        assert_exit(&done, Exit::Code(4), name);
        assert!(!done.output.contains("hunter2"), "{name}: {}", done.output);
        let mut named = sandbox.clone();
        named.variables.push("DATABASE_PASSWORD".to_owned());
        assert!(ground.sh(&named, "env", &limits()).output.contains("hunter2"), "{name}");
        let done = ground.sh(sandbox, "cat \"$HOME/plain\"", &limits());
        assert_exit(&done, Exit::Code(0), name);
        // A worktree of a plan, in a folder that is hidden, sees and writes itself alone.
        let home = std::path::PathBuf::from(std::env::var_os("HOME").unwrap());
        let tree = home.join(".local/state/coder/plans/tree");
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::write(home.join(".local/state/coder/ledger.db"), "hunter2").unwrap();
        let script = "echo x > made; cat made ../../ledger.db; echo x > ../beside; exit 5";
        let done = run_in(&tree, sandbox, &["sh", "-c", script], &limits());
        assert_exit(&done, Exit::Code(5), name);
        assert!(
            done.output.starts_with("x\n") && !done.output.contains("hunter2"),
            "{name}: {}",
            done.output
        );
        assert!(tree.join("made").exists() && !tree.join("../beside").exists(), "{name}");
        // What the program itself knows to be a secret.
        std::fs::create_dir_all(home.join("state")).unwrap();
        for path in ["key", "state/ledger"] {
            std::fs::write(home.join(path), "hunter2").unwrap();
        }
        let mut knowing = sandbox.clone();
        knowing.hidden = ["key", "state", "not there"].map(|path| home.join(path)).into();
        let done = ground.sh(&knowing, "cat \"$HOME/key\" \"$HOME/state/ledger\"; exit 6", &limits());
        assert_exit(&done, Exit::Code(6), name);
        assert!(!done.output.contains("hunter2"), "{name}: {}", done.output);
        // Landlock knows no exceptions from what may be written.
        if name.contains("bwrap") {
            one_within_another(name, &knowing, &home);
        }
    }
}

/// A key, a socket and a repository in hidden folders, one of which has something to write in it, while all that is
/// around them may be written.
fn one_within_another(name: &str, sandbox: &Sandbox, home: &Path) {
    let mut nested = sandbox.clone();
    nested.hidden.extend(["state/ledger", ".ssh/id", ".local/state/coder/key"].map(|path| home.join(path)));
    let tree = home.join(".local/state/coder/plans/tree");
    for path in [".local/state/coder/key", ".local/state/coder/plans/tree/key"] {
        std::fs::write(home.join(path), "hunter2").unwrap();
    }
    nested.hidden.push(tree.join("key"));
    std::fs::create_dir_all(home.join(".ssh/.git/hooks")).unwrap();
    let sockets = [".ssh/agent", ".local/state/coder/socket", ".local/state/coder/plans/tree/socket"];
    let _listening = sockets.map(|path| UnixListener::bind(home.join(path)).unwrap());
    let script = "cd ~/.local/state/coder/plans/tree; cat key ../../key ~/.ssh/id ~/state/ledger; \
                  test -S socket || exit 7";
    for (dir, writable) in [(&*tree, None), (&*tree, Some(home)), (home, None)] {
        nested.writable = writable.into_iter().map(Path::to_owned).collect();
        let done = run_in(dir, &nested, &["sh", "-c", script], &limits());
        assert_exit(&done, Exit::Code(7), &format!("{name}: {dir:?}, {writable:?}"));
        assert!(!done.output.contains("hunter2"), "{name}: {}", done.output);
    }
}

/// Covers S1-34.
#[test]
fn secrets_of_environment_and_home_are_not_seen() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::create_dir(home.path().join(".ssh")).unwrap();
    for (path, text) in [(".ssh/id", "hunter2"), (".netrc", "hunter2"), ("plain", "plain")] {
        std::fs::write(home.path().join(path), text).unwrap();
    }
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "secrets::holder", "--nocapture"])
        .env("HOME", home.path())
        .envs([
            (HOLDER, "1"),
            ("OPENAI_API_KEY", "hunter2"),
            ("DATABASE_PASSWORD", "hunter2"),
            ("ODD", "hunter2"),
        ])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&[done.stdout, done.stderr].concat()));
}
