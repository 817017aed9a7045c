//! Nothing opens a connection: the main job under strace, where there is one.

use std::fs;
use std::process::Command;

use crate::support::{STATE, copy_of};

#[test]
fn the_main_job_opens_no_connection() {
    let folder = copy_of("examples/slugify");
    let _ = fs::remove_file(folder.path().join("src/slugify.rs"));
    let trace = folder.path().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=network", "-o"]).arg(&trace);
    // Without the right to trace, strace fails on anything.
    if !strace.arg("true").output().is_ok_and(|output| output.status.success()) {
        return;
    }
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=network", "-o"]).arg(&trace).arg(env!("CARGO_BIN_EXE_coder"));
    strace.args(["run", "task.md"]).env("XDG_STATE_HOME", STATE);
    strace.current_dir(&folder).env_remove("CARGO_TARGET_DIR");
    let output = strace.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = fs::read_to_string(trace).unwrap();
    // The sandbox asks the kernel, by netlink, to switch on a loopback device of its own.
    let internet: Vec<_> =
        calls.lines().filter(|call| call.contains("AF_INET") && !call.contains("nlmsg")).collect();
    assert!(internet.is_empty(), "{internet:?}");
}
