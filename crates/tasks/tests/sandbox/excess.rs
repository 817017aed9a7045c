//! Commands that take more than their due: time, memory, disk, processes, output.

use std::time::Duration;

use coder_tasks::verify::{Exit, Limits};

use crate::support::{Ground, assert_exit, assert_gone, limits, nap, processes_with, sandboxes};

/// Covers S1-34.
#[test]
fn one_that_forks_without_end_is_stopped() {
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        // Left alone, these would be 2047 processes.
        let bounded = Limits { processes: 40, ..limits() };
        let mark = nap(4);
        let done = ground.act(sandbox, &format!("fork 10 {mark}"), &bounded);
        assert_exit(&done, Exit::Processes(40), name);
        assert_eq!(done.exit.to_string(), "stopped: it had more than 40 processes");
        assert_eq!(processes_with(&mark), Vec::<String>::new(), "{name}");
        assert!(done.seconds < 30.0, "{name}: {}", done.seconds);
    }
}

/// Covers S1-34.
#[test]
fn one_that_fills_memory_is_stopped() {
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        let bounded = Limits { memory_bytes: 200 << 20, ..limits() };
        let done = ground.act(sandbox, "memory 3000", &bounded);
        // One that is faster than the supervisor looks meets the limit of its own process, and aborts.
        let ended = matches!(done.exit, Exit::Memory(_) | Exit::Signal(6));
        assert!(ended && !done.output.contains("DONE"), "{name}: {done:?}");
        let done = ground.act(sandbox, "memory 100", &bounded);
        assert_exit(&done, Exit::Code(0), name);
        // Many small processes are together what one large one is.
        let act =
            format!("for i in 1 2 3 4 5 6; do (head -c 60000000 /dev/zero | tail) & done; sleep {}", nap(1));
        let done = ground.sh(sandbox, &act, &bounded);
        assert_exit(&done, Exit::Memory(200 << 20), name);
        assert_eq!(done.exit.to_string(), "stopped: it used more than 209715200 bytes of memory");
    }
}

/// Covers S1-34.
#[test]
fn one_that_fills_the_disk_is_stopped() {
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        let bounded = Limits { written_bytes: 50 << 20, file_bytes: 20 << 20, ..limits() };
        let done = ground.act(sandbox, "disk 10 100", &bounded);
        assert_exit(&done, Exit::Written(50 << 20), name);
        assert!(done.exit.to_string().contains("wrote more than 52428800 bytes"), "{}", done.exit);
        let ground = Ground::new();
        // Programs that each write little, one after the other, write much.
        let script = "i=0; while [ $i -lt 400 ]; do head -c 1000000 /dev/urandom > f$i; i=$((i+1)); done";
        let done = ground.sh(sandbox, script, &bounded);
        assert_exit(&done, Exit::Written(50 << 20), name);
        let done = ground.sh(sandbox, "exec head -c 30000000 /dev/zero > one", &bounded);
        assert_exit(&done, Exit::Signal(25), name);
        assert!(done.exit.to_string().contains("a file grew over its limit"), "{}", done.exit);
        assert_eq!(std::fs::metadata(ground.tree().join("one")).unwrap().len(), 20 << 20, "{name}");
        let done = ground.sh(sandbox, "fallocate -l 1000000 space", &bounded);
        assert!(!done.passed(), "{name}: space was taken without writing");
    }
}

/// Covers S1-34.
#[test]
fn one_that_ignores_signals_is_killed() {
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        let short =
            Limits { time: Duration::from_millis(700), grace: Duration::from_millis(300), ..limits() };
        let sleep = nap(2);
        let script = format!("trap '' TERM INT HUP; sleep {sleep} & sleep {sleep}; sleep {sleep}");
        let done = ground.sh(sandbox, &script, &short);
        assert_exit(&done, Exit::TimedOut(0), name);
        assert_eq!(processes_with(&sleep), Vec::<String>::new(), "{name}");
        assert!(done.seconds < 20.0, "{name}: {}", done.seconds);
        // One that listens may clean up.
        let patient = Limits { grace: Duration::from_secs(30), ..short };
        let script = "trap 'echo cleaned > up; exit 1' TERM; echo up; while :; do sleep 0.05; done";
        let done = ground.sh(sandbox, script, &patient);
        assert_exit(&done, Exit::TimedOut(0), name);
        assert_eq!(std::fs::read_to_string(ground.tree().join("up")).unwrap(), "cleaned\n", "{name}");
    }
}

/// Covers S1-34, S1-48.
#[test]
fn one_that_prints_a_gigabyte_is_stopped() {
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        let done = ground.sh(sandbox, "yes 'a line of output' | head -c 1000000000", &limits());
        assert_exit(&done, Exit::Printed(64 << 20), name);
        assert!(done.output.len() <= (8 << 10) + 100, "{name}: {}", done.output.len());
        assert!(done.output.contains(&format!("[… {} of {} lines kept …]", done.lines_kept, done.lines)));
        // Of 59 million; how many more come before the end depends on the machine.
        assert!(done.lines > 3_900_000 && done.lines < 30_000_000, "{name}: {}", done.lines);
        let done = ground.sh(sandbox, "head -c 1000000000 /dev/zero", &limits());
        assert_exit(&done, Exit::Printed(64 << 20), name);
    }
}

/// Covers S1-34.
#[test]
fn one_that_leaves_a_daemon_behind_does_not() {
    for (name, sandbox) in sandboxes() {
        let ground = Ground::new();
        let sleep = nap(3);
        // Two forks and a session of its own, with no descriptor of ours.
        let daemon =
            format!("setsid sh -c 'sh -c \"sleep {sleep}\" >/dev/null 2>&1 </dev/null & exit 0' & wait");
        let done = ground.sh(sandbox, &format!("{daemon}; echo done"), &limits());
        assert_exit(&done, Exit::Code(0), name);
        assert_eq!(done.output, "done\n", "{name}");
        assert_gone(&sleep, name);
        let held = format!("setsid sh -c 'trap \"\" TERM HUP; sleep {sleep}' & echo $!");
        let done = ground.sh(sandbox, &held, &limits());
        assert_exit(&done, Exit::Code(0), name);
        assert!(done.seconds < 20.0, "{name}: {}", done.seconds);
        assert_gone(&sleep, name);
    }
}
