//! A program that is killed leaves no command behind.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::{Ground, assert_gone, limits, nap, processes_with, sandboxes};

const VICTIM: &str = "CODER_TEST_VICTIM";

/// The program that gets killed while its command runs. Without the variable it is no test.
#[test]
fn victim() {
    let Ok(words) = std::env::var(VICTIM) else { return };
    let (which, sleep) = words.split_once(' ').unwrap();
    let (_, sandbox) = &sandboxes()[which.parse::<usize>().unwrap()];
    let ground = Ground::new();
    println!("GROUND {}", ground.tree().display());
    let script = format!(
        "trap '' TERM HUP; setsid sh -c 'sleep {sleep} >/dev/null 2>&1 & exit 0'; sleep {sleep} & \
         mkfifo ready; : > ready; sleep {sleep}"
    );
    ground.sh(sandbox, &script, &limits());
}

/// Covers S1-34.
#[test]
fn a_program_that_is_killed_leaves_no_command_behind() {
    for (which, (name, _)) in sandboxes().iter().enumerate() {
        let sleep = nap(10 + which as u32);
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::victim", "--nocapture"])
            .env(VICTIM, format!("{which} {sleep}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let tree = lines.find_map(|line| line.unwrap().split_once("GROUND ").map(|(_, t)| t.to_owned()));
        let ready = std::path::Path::new(&tree.unwrap()).join("ready");
        while !ready.exists() {
            assert!(victim.try_wait().unwrap().is_none(), "{name}: it ended by itself");
            std::thread::yield_now();
        }
        // The pipe opens when everything runs.
        std::fs::read(&ready).unwrap();
        assert!(!processes_with(&sleep).is_empty(), "{name}");
        victim.kill().unwrap();
        victim.wait().unwrap();
        assert_gone(&sleep, name);
        std::fs::remove_dir_all(ready.parent().unwrap().parent().unwrap()).unwrap();
    }
}
