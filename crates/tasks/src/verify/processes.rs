//! The processes that come from one process, and what they take.

use std::collections::HashSet;
use std::str::FromStr;

use rustix::process::{Pid, Signal, kill_process};

/// Everything that comes from this process, itself not: children first, in no other order. Orphans among
/// them are its children, if it has declared itself their reaper.
pub(super) fn descendants() -> Vec<Pid> {
    let own = rustix::process::getpid();
    let mut found = children(own);
    let mut seen: HashSet<Pid> = found.iter().copied().collect();
    let mut at = 0;
    while at < found.len() {
        // A process may be seen twice where it loses its parent meanwhile.
        found.extend(children(found[at]).into_iter().filter(|child| seen.insert(*child)).collect::<Vec<_>>());
        at += 1;
    }
    found
}

fn children(parent: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    // A process that has ended has no threads.
    let threads = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    for thread in threads {
        let list = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        found.extend(list.split_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?)));
    }
    found
}

/// Whether this kernel lists the children of a process.
pub(super) fn are_listed() -> bool {
    std::path::Path::new("/proc/thread-self/children").exists()
}

/// What processes take at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) processes: usize,
    /// Memory that is in no file.
    pub(super) memory_bytes: u64,
    /// What was written to disks by them and by those of their children that have ended.
    pub(super) written_bytes: u64,
}

pub(super) fn usage(processes: &[Pid]) -> Usage {
    let mut all = Usage { processes: processes.len(), ..Usage::default() };
    for pid in processes {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kilobytes: u64 = field::<u64>(&status, "RssAnon:") + field::<u64>(&status, "RssShmem:");
        all.memory_bytes = all.memory_bytes.saturating_add(kilobytes.saturating_mul(1 << 10));
        all.written_bytes = all.written_bytes.saturating_add(written(&pid.to_string()));
    }
    // Those that were reaped here are counted with this process.
    all.written_bytes = all.written_bytes.saturating_add(written("self"));
    all
}

fn written(process: &str) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
    field(&io, "write_bytes:")
}

/// The threads of all processes of this user, which is what its limit counts.
pub(super) fn threads_of_user() -> u64 {
    let own = rustix::process::getuid().as_raw();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let statuses = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()))
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("status")).ok());
    statuses
        .filter(|status| field::<u32>(status, "Uid:") == own)
        .map(|status| field::<u64>(&status, "Threads:"))
        .sum()
}

/// The first number after a name; 0 where there is none.
fn field<T: FromStr + Default>(text: &str, name: &str) -> T {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// Sends a signal to each of them. Those that are gone need none.
pub(super) fn signal(processes: &[Pid], signal: Signal) {
    for pid in processes {
        let _ = kill_process(*pid, signal);
    }
}

/// Stops everything that comes from this process, so that it makes no more of its kind: what was made
/// while the others were being stopped is found by the next look.
pub(super) fn stop_all() {
    let mut stopped = HashSet::new();
    for _ in 0..MAX_LOOKS {
        let mut found = descendants();
        found.retain(|pid| stopped.insert(*pid));
        if found.is_empty() {
            return;
        }
        signal(&found, Signal::STOP);
    }
}

const MAX_LOOKS: usize = 1000;
