//! The supervisor of a command: a process of its own that outlives nothing and lets nothing outlive it.
//!
//! It is the reaper of whatever the command starts, in whatever way that leaves its parent. It ends all of
//! it when the command ends, when a limit is exceeded, when it is told to, and when the program that
//! started it is gone, however that went.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use super::message::{Confinement, Plan, Report, Step, TERMINATE, receive, received, send};
use super::processes::{self, Usage};
use super::sandbox::Means;
use super::{bubblewrap, environment, places};

/// Reads the plan from standard input, does it, and says there how it went.
pub(super) fn supervise() -> std::io::Result<()> {
    let control = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let plan: Plan = receive(&control)?;
    // No terminal's signals and no terminal at all.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let private = tempfile::Builder::new().prefix("coder-run-").tempdir_in(temporary())?;
    for name in ["tmp", "shm", "empty"] {
        std::fs::create_dir(private.path().join(name))?;
    }
    let mut starts = 1;
    let report = loop {
        let report = match start(&plan, private.path()) {
            Ok(command) => command.watch(&plan, &control),
            Err(problem) => break Report::NoSandbox(problem),
        };
        // What was to be hidden may be gone when it is mounted over, such as the socket of another program that just
        // ended. The command has not begun then, and what is there now is looked for again.
        if !matches!(report, Report::NoSandbox(_)) || starts == STARTS {
            break report;
        }
        starts += 1;
    };
    // What the command made unreadable for its own user stays; that is no reason to fail it.
    let _ = private.close();
    send(&control, &report)
}

/// How often a sandbox that does not come up is tried.
const STARTS: usize = 3;

/// The folder for private folders: on a disk, if there is one, because what is written to memory is memory.
fn temporary() -> PathBuf {
    let usual = std::env::temp_dir();
    let on_disk = Path::new("/var/tmp");
    if in_memory(&usual).is_some() && in_memory(on_disk).is_none() && on_disk.is_dir() {
        return on_disk.to_owned();
    }
    usual
}

/// The bytes taken of the file system of a path, if it is one that lies in memory.
fn in_memory(path: &Path) -> Option<u64> {
    const TMPFS: i64 = 0x0102_1994;
    let stat = rustix::fs::statfs(path).ok()?;
    #[allow(clippy::unnecessary_cast, reason = "its width differs between processors")]
    let is = stat.f_type as i64 == TMPFS;
    let blocks = stat.f_blocks.saturating_sub(stat.f_bfree);
    is.then(|| blocks.saturating_mul(u64::try_from(stat.f_bsize).unwrap_or(0)))
}

/// A command that is running.
struct Running {
    main: Pid,
    handle: OwnedFd,
    /// What the process that became it said on the way.
    steps: UnixStream,
    /// Processes above the command that must not be asked to end, but end with it.
    above: usize,
    /// File systems in memory that it can write to, and what was taken of them before.
    memory: Vec<(PathBuf, u64)>,
}

fn start(plan: &Plan, private: &Path) -> Result<Running, String> {
    if !processes::are_listed() {
        return Err("`/proc` does not list the children of a process".to_owned());
    }
    if plan.dir.parent().is_none() {
        return Err("the work tree is the whole file system; name a folder".to_owned());
    }
    let own = std::env::current_exe().map_err(|error| format!("the launcher: {error}"))?;
    let niceness = rustix::process::getpriority_process(None).unwrap_or(0);
    // A command that takes every core must not take the one on which it is watched.
    let _ = rustix::process::setpriority_process(None, niceness - 5);
    let (steps, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
    let mut arguments = plan.launcher.clone();
    arguments.push(super::CONFINE.to_owned());
    let temporary = private.join("tmp");
    let writable: Vec<&Path> = plan.writable.iter().map(PathBuf::as_path).collect();
    let (mut command, seen, opened) = match &plan.means {
        Means::Bubblewrap(program) => {
            let superuser = rustix::process::geteuid().is_root();
            let (dir, writable) = (plan.dir.as_path(), plan.writable.as_slice());
            let view = bubblewrap::View {
                dir,
                writable,
                kept: &plan.kept,
                hidden: &plan.hidden,
                private,
                launcher: &own,
                arguments: &arguments,
                superuser,
            };
            let mut command = Command::new(program);
            command.args(bubblewrap::arguments(&view));
            (command, PathBuf::from("/tmp"), None)
        }
        Means::Landlock => {
            let mut writable = writable;
            writable.extend([plan.dir.as_path(), &temporary]);
            let mut opened = places::for_landlock(&writable, &plan.hidden);
            opened.readable.push(own.clone());
            let mut command = Command::new(&own);
            command.args(&arguments);
            (command, temporary, Some(opened))
        }
    };
    let threads = processes::threads_of_user() + 8 * plan.bounds.processes as u64;
    let confinement =
        Confinement { argv: plan.argv.clone(), bounds: plan.bounds, threads, niceness, places: opened };
    command
        .envs(environment::private(&seen))
        .current_dir(&plan.dir)
        .stdin(Stdio::from(OwnedFd::from(theirs)));
    let watched = [plan.dir.as_path(), private].into_iter().chain(plan.writable.iter().map(PathBuf::as_path));
    let memory = watched.filter_map(|path| Some((path.to_owned(), in_memory(path)?))).collect();
    let child = command.spawn().map_err(|error| format!("{}: {error}", plan.means))?;
    // The command holds the other end, which must close with the child.
    drop(command);
    let main = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("the child has no number")?;
    let handle =
        rustix::process::pidfd_open(main, PidfdFlags::empty()).map_err(|error| format!("pidfd: {error}"))?;
    // If it is gone already, its end is seen below.
    let _ = send(&steps, &confinement);
    // Bubblewrap outside and inside, and who waits for the command.
    let above = if matches!(plan.means, Means::Landlock) { 0 } else { 3 };
    Ok(Running { main, handle, steps, above, memory })
}

/// How often to look at what the command takes. A tick is enough for a few hundred new processes,
/// or for a hundred megabytes.
const TICK: Duration = Duration::from_millis(20);

/// How long it may take until everything has ended that was killed.
const PATIENCE: Duration = Duration::from_secs(10);

impl Running {
    /// Waits for the end, whose ever it is, and ends the rest.
    fn watch(self, plan: &Plan, control: &UnixStream) -> Report {
        let mut status = None;
        let exceeded = loop {
            self.reap(&mut status);
            if status.is_some() {
                break None;
            }
            let all = processes::descendants();
            if let Some(report) = self.exceeded(&processes::usage(&all), plan) {
                break Some(report);
            }
            match self.next(control) {
                Wish::None => {}
                // Those above the command are the first children, each the next one's parent.
                Wish::Terminate => processes::signal(all.get(self.above..).unwrap_or(&[]), Signal::TERM),
                Wish::Kill => break None,
            }
        };
        if matches!(exceeded, Some(Report::Processes)) {
            processes::stop_all();
        }
        self.end_all(&mut status);
        let said = received(&self.steps).unwrap_or_default();
        exceeded.unwrap_or_else(|| report(&said, status, &plan.means))
    }

    /// Takes note of those that have ended; all of them are this process's children by now.
    fn reap(&self, status: &mut Option<WaitStatus>) {
        while let Ok(Some((pid, ended))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == self.main {
                *status = Some(ended);
            }
        }
    }

    fn exceeded(&self, usage: &Usage, plan: &Plan) -> Option<Report> {
        let in_memory =
            self.memory.iter().map(|(path, before)| in_memory(path).unwrap_or(0).saturating_sub(*before));
        let written = usage.written_bytes.saturating_add(in_memory.sum());
        if usage.processes.saturating_sub(self.above) > plan.bounds.processes {
            return Some(Report::Processes);
        }
        if usage.memory_bytes > plan.bounds.memory_bytes {
            return Some(Report::Memory);
        }
        (written > plan.bounds.written_bytes).then_some(Report::Written)
    }

    /// Waits a little, but not when something happens.
    fn next(&self, control: &UnixStream) -> Wish {
        let wanted = PollFlags::IN;
        let mut waited = [PollFd::new(&self.handle, wanted), PollFd::new(control, wanted)];
        let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
        let ready = rustix::event::poll(&mut waited, Some(&tick)).unwrap_or(0);
        if ready == 0 || waited[1].revents().is_empty() {
            return Wish::None;
        }
        let mut byte = [0];
        match (&*control).read(&mut byte) {
            Ok(1) if byte[0] == TERMINATE => Wish::Terminate,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Wish::None,
            // Nobody is there any more, or nothing is worth to wait for.
            _ => Wish::Kill,
        }
    }

    /// Kills until nothing is left.
    fn end_all(&self, status: &mut Option<WaitStatus>) {
        let patience = Instant::now() + PATIENCE;
        while Instant::now() < patience {
            let left = processes::descendants();
            processes::signal(&left, Signal::KILL);
            self.reap(status);
            if left.is_empty() {
                return;
            }
            let _ = rustix::event::poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
        }
    }
}

enum Wish {
    None,
    Terminate,
    Kill,
}

fn report(said: &[Step], status: Option<WaitStatus>, means: &Means) -> Report {
    for step in said {
        match step {
            Step::Confined => {}
            Step::Open(problem) => return Report::NoSandbox(problem.clone()),
            Step::NotFound => return Report::NotFound,
            Step::NotStarted(problem) => return Report::NotStarted(problem.clone()),
            Step::Code(code) => return Report::Code(*code),
            Step::Signal(signal) => return Report::Signal(*signal),
        }
    }
    let Some(status) = status else { return Report::Signal(Signal::KILL.as_raw()) };
    let code = status.exit_status().unwrap_or(1);
    if !said.contains(&Step::Confined) && status.terminating_signal().is_none() {
        return Report::NoSandbox(format!("it ended with status {code} before the command began"));
    }
    match status.terminating_signal() {
        Some(signal) => Report::Signal(signal),
        // So bubblewrap says that the process was killed that waits for the command.
        None if (129..=192).contains(&code) && matches!(means, Means::Bubblewrap(_)) => {
            Report::Signal(code - 128)
        }
        None => Report::Code(code),
    }
}
