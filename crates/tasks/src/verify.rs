//! Runs a task's commands: without a shell, in a sandbox, within limits of time, output, memory, processes
//! and disk space.
//!
//! A command is the child of a supervisor, which is this program again: it confines the command, watches
//! it, and ends everything that comes from it. Only where no sandbox is wanted is the command a child
//! of this process itself, with a process group of its own and the rights of the caller.

mod approvals;
#[cfg(target_os = "linux")]
mod bubblewrap;
mod busy;
mod capture;
#[cfg(target_os = "linux")]
mod confine;
mod environment;
#[cfg(target_os = "linux")]
mod filter;
mod git;
mod guarded;
mod launch;
mod leash;
mod message;
#[cfg(target_os = "linux")]
mod places;
#[cfg(target_os = "linux")]
mod processes;
mod sandbox;
mod summary;
#[cfg(target_os = "linux")]
mod supervise;

use std::io::{PipeReader, Read};
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde::Serialize;

use crate::{Error, Result};
pub use approvals::Approvals;
use capture::Capture;
pub use guarded::Guarded;
pub use launch::launch;
use leash::Leash;
pub use sandbox::{Isolation, Launcher, Means, Sandbox};

/// The launcher's argument that makes it a supervisor.
const SUPERVISE: &str = "supervise";
/// The launcher's argument that makes it confine itself and become the command.
const CONFINE: &str = "confine";
/// The launcher's argument that makes it try to write a file.
const PROBE: &str = "probe";

/// Limits of a command. Those of memory, processes and disk space hold in a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long the command may run.
    pub time: Duration,
    /// How many bytes of its output are kept: of more, what failed, or half from the start and half from the end.
    pub output_bytes: usize,
    /// How many bytes it may print.
    pub printed_bytes: u64,
    /// How much memory all its processes together may hold.
    pub memory_bytes: u64,
    /// How many bytes all its processes together may write to disks.
    pub written_bytes: u64,
    /// How large a file may become.
    pub file_bytes: u64,
    /// How many processes it may consist of.
    pub processes: usize,
    /// How long the command has between SIGTERM and SIGKILL.
    pub grace: Duration,
}

impl Default for Limits {
    /// 120 seconds, 8 KiB kept of 64 MiB, 4 GiB of memory, 8 GiB written in files of up to 2 GiB, 512
    /// processes, 2 seconds.
    fn default() -> Self {
        Limits {
            time: Duration::from_secs(120),
            output_bytes: 8 << 10,
            printed_bytes: 64 << 20,
            memory_bytes: 4 << 30,
            written_bytes: 8 << 30,
            file_bytes: 2 << 30,
            processes: 512,
            grace: Duration::from_secs(2),
        }
    }
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verification {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// How it ended.
    pub exit: Exit,
    /// Standard output and standard error in the order in which they were written, without colours, and as much of it as
    /// is kept.
    pub output: String,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Lines of the output that are in `output`.
    pub lines_kept: usize,
    /// Lines of the output.
    pub lines: usize,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With this exit status.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
    /// Stopped at the time limit, in whole seconds.
    TimedOut(u64),
    /// Stopped because the run was cancelled.
    Cancelled,
    /// Stopped because it printed more than this many bytes.
    Printed(u64),
    /// Stopped because it held more than this many bytes of memory.
    Memory(u64),
    /// Stopped because it wrote more than this many bytes to disks.
    Written(u64),
    /// Stopped because it consisted of more than this many processes.
    Processes(usize),
    /// It changed these files, which are not the task's; they were brought back.
    Meddled(Vec<String>),
    /// It approved, and this file of the task is as it was before the edit.
    TookBack(String),
    /// It approved, and changed this file of the task each time it ran.
    Unsettled(String),
    /// The program does not exist.
    NotFound(String),
    /// The program could not be started.
    NotStarted(String),
}

impl Verification {
    /// Whether the command approves.
    pub fn passed(&self) -> bool {
        self.exit == Exit::Code(0)
    }
}

impl std::fmt::Display for Exit {
    /// In a few words, such as "exit status 1".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit status {code}"),
            // SIGXFSZ has this number wherever Linux runs on what this is built for.
            Exit::Signal(25) => write!(f, "killed by signal 25: a file grew over its limit"),
            Exit::Signal(signal) => write!(f, "killed by signal {signal}"),
            Exit::TimedOut(seconds) => write!(f, "no result within {seconds} seconds"),
            Exit::Cancelled => write!(f, "cancelled"),
            Exit::Printed(limit) => write!(f, "stopped: it printed more than {limit} bytes"),
            Exit::Memory(limit) => write!(f, "stopped: it used more than {limit} bytes of memory"),
            Exit::Written(limit) => write!(f, "stopped: it wrote more than {limit} bytes to disk"),
            Exit::Processes(limit) => write!(f, "stopped: it had more than {limit} processes"),
            Exit::Meddled(files) => {
                write!(f, "it changed `{}`, which it must leave alone; that was undone", files.join("`, `"))
            }
            Exit::TookBack(file) => write!(
                f,
                "after it `{file}` is as it was before the edit: it takes the edit back, or another program saved the file"
            ),
            Exit::Unsettled(file) => write!(
                f,
                "it changes `{file}` each time it runs; make it settle, or leave the file out of the task"
            ),
            Exit::NotFound(program) => write!(f, "program `{program}` was not found"),
            Exit::NotStarted(problem) => write!(f, "not started: {problem}"),
        }
    }
}

/// Runs `argv` in a folder. Only a failure of the machinery itself is an error; a command that cannot be
/// started is a result. Without a sandbox nothing is started.
pub fn run(
    argv: &[String],
    dir: &Path,
    sandbox: &Sandbox,
    limits: &Limits,
    cancel: &AtomicBool,
) -> Result<Verification> {
    if let Isolation::Missing(problem) = &sandbox.isolation {
        return Err(Error::NoSandbox { problem: problem.clone() });
    }
    let started = Instant::now();
    let ended = |exit, capture: Capture| {
        let (output, lines_kept, lines) = capture.finish();
        let seconds = started.elapsed().as_secs_f64();
        Verification { argv: argv.to_vec(), exit, output, seconds, lines_kept, lines }
    };
    let capture = Capture::new(limits.output_bytes);
    let Some(program) = argv.first() else {
        return Ok(ended(Exit::NotStarted("no program is named".to_owned()), capture));
    };
    let io = |source| Error::Io { path: program.into(), source };
    let (reader, writer) = std::io::pipe().map_err(io)?;
    let (mut command, tether) = leash::command(argv, dir, sandbox, limits).map_err(io)?;
    command.current_dir(dir).stdout(writer.try_clone().map_err(io)?).stderr(writer);
    let child = match busy::patiently(|| command.spawn()) {
        Ok(child) => child,
        Err(error) => return tether.not_started(program, &error).map(|exit| ended(exit, capture)),
    };
    let leash = tether.hold(&child);
    // The command holds the pipe's other end; without it the output would never be at an end.
    drop(command);
    let (exit, capture) =
        Watch::new(child, leash, reader, capture).map_err(io)?.run(program, limits, cancel)?;
    Ok(ended(exit, capture))
}

enum Event {
    Output(Vec<u8>),
    OutputEnd,
    /// The child has ended but is not reaped, so its process group still has its number.
    Ended,
}

/// How long to look for a cancellation at most.
const TICK: Duration = Duration::from_millis(50);

/// How long output may still come after the command itself ended and its group was killed. Only a
/// process that left the group can hold the pipe longer; it is not waited for.
const DRAIN: Duration = Duration::from_millis(500);

struct Watch {
    child: Child,
    leash: Leash,
    events: Receiver<Event>,
    capture: Capture,
    printed: u64,
    open: bool,
    ended: bool,
}

impl Watch {
    fn new(child: Child, leash: Leash, reader: PipeReader, capture: Capture) -> std::io::Result<Watch> {
        // A command that prints faster than this is kept waits for it.
        let (sender, events) = sync_channel(64);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let output = sender.clone();
        std::thread::Builder::new().name("verify-output".into()).spawn(move || read(reader, &output))?;
        std::thread::Builder::new().name("verify-wait".into()).spawn(move || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Some(pid) = pid
                && matches!(waitid(WaitId::Pid(pid), options), Err(rustix::io::Errno::INTR))
            {}
            // The receiver is gone if the machinery failed; then nobody needs to know.
            let _ = sender.send(Event::Ended);
        })?;
        Ok(Watch { child, leash, events, capture, printed: 0, open: true, ended: false })
    }

    fn run(mut self, program: &str, limits: &Limits, cancel: &AtomicBool) -> Result<(Exit, Capture)> {
        let deadline = after(limits.time);
        let stopped = loop {
            if cancel.load(Ordering::Relaxed) {
                break Some(Exit::Cancelled);
            }
            if Instant::now() >= deadline {
                break Some(Exit::TimedOut(limits.time.as_secs()));
            }
            if self.printed > limits.printed_bytes {
                break Some(Exit::Printed(limits.printed_bytes));
            }
            self.next_event(deadline.min(Instant::now() + TICK));
            if self.ended {
                break None;
            }
        };
        if stopped.is_some() {
            self.leash.terminate();
            let patience = after(limits.grace);
            while !self.ended && Instant::now() < patience {
                self.next_event(patience);
            }
        }
        // What the command left running in the background ends with it.
        self.leash.kill();
        let patience = Instant::now() + DRAIN;
        while (self.open || !self.ended) && Instant::now() < patience {
            self.next_event(patience);
        }
        let io = |source| Error::Io { path: "the command".into(), source };
        let status = self.child.wait().map_err(io)?;
        match self.leash.exit(program, status, limits) {
            Ok(exit) => Ok((stopped.unwrap_or(exit), self.capture)),
            // Why the sandbox did not come up, bubblewrap says where the command's output goes.
            Err(Error::NoSandbox { problem }) => {
                let said = self.capture.finish().0;
                let said = said.trim().lines().last().map(|line| format!(": {line}")).unwrap_or_default();
                Err(Error::NoSandbox { problem: problem + &said })
            }
            Err(error) => Err(error),
        }
    }

    fn next_event(&mut self, until: Instant) {
        match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::Output(bytes)) => {
                self.printed += bytes.len() as u64;
                self.capture.push(&bytes);
            }
            Ok(Event::OutputEnd) => self.open = false,
            Ok(Event::Ended) => self.ended = true,
            Err(RecvTimeoutError::Timeout) => {}
            // Both threads have said all they had to say.
            Err(RecvTimeoutError::Disconnected) => (self.open, self.ended) = (false, true),
        }
    }
}

/// When so much time will have passed; of more than clocks can tell, a time that nobody lives to see.
fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + Duration::from_secs(u32::MAX.into()))
}

fn read(mut reader: PipeReader, output: &SyncSender<Event>) {
    let mut buffer = [0; 16 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                if output.send(Event::Output(buffer[..count].to_vec())).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    // Nobody listens any more if the command was given up.
    let _ = output.send(Event::OutputEnd);
}

#[cfg(test)]
mod tests;
