//! How a command is started, told to end, and asked how it ended: through a supervisor, or as a child with
//! a process group of its own.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use super::message::{Bounds, Plan, Report, TERMINATE, receive, send};
use super::{Exit, Isolation, Limits, Sandbox, environment};
use crate::{Error, Result};

/// What holds a command that runs.
#[derive(Debug)]
pub(super) enum Leash {
    /// Its process group.
    Group(Option<Pid>),
    /// The socket to its supervisor, which ends the command when the socket ends.
    Supervisor(UnixStream),
}

/// The process to start for a command, and what it is to be told once it is started.
pub(super) fn command(
    argv: &[String],
    dir: &Path,
    sandbox: &Sandbox,
    limits: &Limits,
) -> std::io::Result<(Command, Tether)> {
    let Isolation::On { launcher, means } = &sandbox.isolation else {
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).stdin(Stdio::null()).process_group(0);
        let secret = |name: &std::ffi::OsString| environment::is_secret(&name.to_string_lossy());
        std::env::vars_os().filter(|(name, _)| secret(name)).for_each(|(name, _)| {
            command.env_remove(name);
        });
        return Ok((command, Tether(None)));
    };
    let (ours, theirs) = UnixStream::pair()?;
    let plan = Plan {
        argv: argv.to_vec(),
        dir: dir.to_owned(),
        writable: sandbox.writable.clone(),
        kept: sandbox.kept.clone(),
        hidden: sandbox.hidden.clone(),
        launcher: launcher.arguments.clone(),
        means: means.clone(),
        bounds: Bounds {
            memory_bytes: limits.memory_bytes,
            written_bytes: limits.written_bytes,
            file_bytes: limits.file_bytes,
            processes: limits.processes,
        },
    };
    let mut command = Command::new(&launcher.program);
    command.args(&launcher.arguments).arg(super::SUPERVISE).stdin(Stdio::from(OwnedFd::from(theirs)));
    command.env_clear().envs(environment::allowed(&sandbox.variables));
    Ok((command, Tether(Some((ours, plan)))))
}

/// The end of a leash that nothing is on yet.
pub(super) struct Tether(Option<(UnixStream, Plan)>);

impl Tether {
    /// Puts a started process on it.
    pub(super) fn hold(self, child: &Child) -> Leash {
        match self.0 {
            Some((control, plan)) => {
                // A supervisor that is gone already has no report either, which is looked for.
                let _ = send(&control, &plan);
                Leash::Supervisor(control)
            }
            None => Leash::Group(i32::try_from(child.id()).ok().and_then(Pid::from_raw)),
        }
    }

    /// What it means that the process could not be started.
    pub(super) fn not_started(&self, program: &str, error: &std::io::Error) -> Result<Exit> {
        if self.0.is_some() {
            return Err(Error::NoSandbox { problem: format!("the launcher does not start: {error}") });
        }
        Ok(match error.kind() {
            std::io::ErrorKind::NotFound => Exit::NotFound(program.to_owned()),
            _ => Exit::NotStarted(format!("`{program}`: {error}")),
        })
    }
}

impl Leash {
    /// Asks the command to end.
    pub(super) fn terminate(&self) {
        match self {
            Leash::Supervisor(control) => {
                // A supervisor that is gone has ended the command.
                let _ = (&mut &*control).write_all(&[TERMINATE]);
            }
            Leash::Group(_) => self.signal(Signal::TERM),
        }
    }

    /// Ends the command and everything that came from it; of a process group, what is still in it.
    pub(super) fn kill(&self) {
        match self {
            Leash::Supervisor(control) => {
                let _ = control.shutdown(std::net::Shutdown::Write);
            }
            Leash::Group(_) => self.signal(Signal::KILL),
        }
    }

    fn signal(&self, signal: Signal) {
        if let Leash::Group(Some(group)) = self {
            // The group is empty if everything in it has ended, which is what is wanted.
            let _ = kill_process_group(*group, signal);
        }
    }

    /// How the command ended, when its process has.
    pub(super) fn exit(&self, program: &str, status: ExitStatus, limits: &Limits) -> Result<Exit> {
        let Leash::Supervisor(control) = self else { return Ok(exit_of(status)) };
        let report = receive::<Report>(control);
        Ok(match report {
            Ok(report) => match report {
                Report::Code(code) => Exit::Code(code),
                Report::Signal(signal) => Exit::Signal(signal),
                Report::Memory => Exit::Memory(limits.memory_bytes),
                Report::Written => Exit::Written(limits.written_bytes),
                Report::Processes => Exit::Processes(limits.processes),
                Report::NotFound => Exit::NotFound(program.to_owned()),
                Report::NotStarted(problem) => Exit::NotStarted(format!("`{program}`: {problem}")),
                Report::NoSandbox(problem) => return Err(Error::NoSandbox { problem }),
            },
            Err(_) => {
                let problem = format!("the supervisor ended without a word, {}", exit_of(status));
                return Err(Error::NoSandbox { problem });
            }
        })
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::NotStarted("it has no exit status".to_owned()),
    }
}
