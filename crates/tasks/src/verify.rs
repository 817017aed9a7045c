//! Runs a verification command: no shell, a process group of its own, a time limit, an output limit.
//!
//! What the command may do to the machine is not limited here; it runs with the rights of the caller,
//! without the variables of the environment that look like secrets.

mod capture;

use std::io::{PipeReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde::Serialize;

use crate::{Error, Result};
use capture::Capture;

/// Limits of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long the command may run.
    pub time: Duration,
    /// How many bytes of its output are kept, half from the start and half from the end.
    pub output_bytes: usize,
    /// How long the process group has between SIGTERM and SIGKILL.
    pub grace: Duration,
}

impl Default for Limits {
    /// 120 seconds, 8 KiB, 2 seconds.
    fn default() -> Self {
        Limits { time: Duration::from_secs(120), output_bytes: 8 << 10, grace: Duration::from_secs(2) }
    }
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verification {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// How it ended.
    pub exit: Exit,
    /// Standard output and standard error in the order in which they were written.
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
            Exit::Signal(signal) => write!(f, "killed by signal {signal}"),
            Exit::TimedOut(seconds) => write!(f, "no result within {seconds} seconds"),
            Exit::Cancelled => write!(f, "cancelled"),
            Exit::NotFound(program) => write!(f, "program `{program}` was not found"),
            Exit::NotStarted(problem) => write!(f, "not started: {problem}"),
        }
    }
}

/// Runs `argv` in a folder. Only a failure of the machinery itself is an error; a command that cannot be
/// started is a result.
pub fn run(argv: &[String], dir: &Path, limits: &Limits, cancel: &AtomicBool) -> Result<Verification> {
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
    let mut command = Command::new(program);
    command.args(&argv[1..]).current_dir(dir).stdin(Stdio::null());
    command.stdout(writer.try_clone().map_err(io)?).stderr(writer);
    command.process_group(0);
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_secret(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(ended(Exit::NotFound(program.clone()), capture));
        }
        Err(error) => return Ok(ended(Exit::NotStarted(format!("`{program}`: {error}")), capture)),
    };
    // The command holds the pipe's other end; without it the output would never be at an end.
    drop(command);
    let (exit, capture) = Watch::new(child, reader, capture).map_err(io)?.run(limits, cancel).map_err(io)?;
    Ok(ended(exit, capture))
}

/// Whether a variable's name says that its value is nobody's business.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"].iter().any(|word| name.contains(word))
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
    group: Option<Pid>,
    events: Receiver<Event>,
    capture: Capture,
    open: bool,
    ended: bool,
}

impl Watch {
    fn new(child: Child, reader: PipeReader, capture: Capture) -> std::io::Result<Watch> {
        let (sender, events) = channel();
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let output = sender.clone();
        std::thread::Builder::new().name("verify-output".into()).spawn(move || read(reader, &output))?;
        std::thread::Builder::new().name("verify-wait".into()).spawn(move || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Some(pid) = group
                && matches!(waitid(WaitId::Pid(pid), options), Err(rustix::io::Errno::INTR))
            {}
            // The receiver is gone if the machinery failed; then nobody needs to know.
            let _ = sender.send(Event::Ended);
        })?;
        Ok(Watch { child, group, events, capture, open: true, ended: false })
    }

    fn run(mut self, limits: &Limits, cancel: &AtomicBool) -> std::io::Result<(Exit, Capture)> {
        let deadline = Instant::now() + limits.time;
        let stopped = loop {
            if cancel.load(Ordering::Relaxed) {
                break Some(Exit::Cancelled);
            }
            if Instant::now() >= deadline {
                break Some(Exit::TimedOut(limits.time.as_secs()));
            }
            self.next_event(deadline.min(Instant::now() + TICK));
            if self.ended {
                break None;
            }
        };
        if stopped.is_some() {
            self.signal(Signal::TERM);
            let patience = Instant::now() + limits.grace;
            while !self.ended && Instant::now() < patience {
                self.next_event(patience);
            }
        }
        // What the command left running in the background ends with it.
        self.signal(Signal::KILL);
        let patience = Instant::now() + DRAIN;
        while (self.open || !self.ended) && Instant::now() < patience {
            self.next_event(patience);
        }
        let status = self.child.wait()?;
        Ok((stopped.unwrap_or_else(|| exit_of(status)), self.capture))
    }

    fn next_event(&mut self, until: Instant) {
        match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::Output(bytes)) => self.capture.push(&bytes),
            Ok(Event::OutputEnd) => self.open = false,
            Ok(Event::Ended) => self.ended = true,
            Err(RecvTimeoutError::Timeout) => {}
            // Both threads have said all they had to say.
            Err(RecvTimeoutError::Disconnected) => (self.open, self.ended) = (false, true),
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // The group is empty if everything in it has ended, which is what is wanted.
            let _ = kill_process_group(group, signal);
        }
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::NotStarted("it has no exit status".to_owned()),
    }
}

fn read(mut reader: PipeReader, output: &Sender<Event>) {
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
