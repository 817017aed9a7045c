//! The process that becomes the command: it gives up what it may do, then replaces itself, or waits for the command where
//! that could not be told how the command ended.
//!
//! All of it is irrevocable and inherited, so the order matters only in that nothing may be given up that
//! a later step needs.

use std::convert::Infallible;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use rustix::thread::CapabilitySet;

use super::busy::patiently;
use super::filter;
use super::message::{Confinement, Places, Step, receive, send};

/// Reads what to become from standard input, and becomes it, or waits for it. When it returns, the supervisor knows how the
/// command ended, or that there was none.
pub(super) fn become_command() -> std::io::Result<()> {
    let control = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let confinement: Confinement = receive(&control)?;
    let nothing = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    if let Err(problem) = confine(&confinement) {
        return send(&control, &Step::Open(problem));
    }
    send(&control, &Step::Confined)?;
    let argv = &confinement.argv;
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]);
    let done = match confinement.places {
        Some(_) => patiently(|| Err::<Infallible, _>(command.exec())).map(|never| match never {}),
        None => waited(command),
    };
    let step = match done {
        Ok(step) => step,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Step::NotFound,
        Err(error) => Step::NotStarted(error.to_string()),
    };
    send(&control, &step)
}

/// Waits for the command and says how it ended: bubblewrap tells a signal as a status that a command may have of its own.
fn waited(mut command: Command) -> std::io::Result<Step> {
    // The command is of the same user, and must not say in the name of this process how it ended.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // A signal to its group is one to the command, and not to who waits for it.
    let mut child = patiently(|| command.process_group(0).spawn())?;
    let status = child.wait()?;
    Ok(status.signal().map_or_else(|| Step::Code(status.code().unwrap_or(1)), Step::Signal))
}

fn confine(confinement: &Confinement) -> Result<(), String> {
    let errno = |what: &'static str| move |error: rustix::io::Errno| format!("{what}: {error}");
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(errno("death signal"))?;
    // The supervisor may have been given more than its due, which is not the command's.
    rustix::process::setpriority_process(None, confinement.niceness).map_err(errno("priority"))?;
    limit(confinement).map_err(errno("resource limits"))?;
    rustix::thread::set_no_new_privs(true).map_err(errno("no new privileges"))?;
    drop_capabilities().map_err(errno("capabilities"))?;
    if let Some(places) = &confinement.places {
        restrict(places).map_err(|error| format!("Landlock: {error}"))?;
    }
    filter::install(confinement.places.is_none()).map_err(|error| format!("seccomp: {error}"))
}

/// Limits that hold for each process, behind those for all together that the supervisor watches.
fn limit(confinement: &Confinement) -> Result<(), rustix::io::Errno> {
    let bounds = &confinement.bounds;
    let most = |value| Rlimit { current: Some(value), maximum: Some(value) };
    for (resource, value) in [
        (Resource::Core, 0),
        (Resource::Fsize, bounds.file_bytes),
        // Twice the limit, so that who only fills memory meets the supervisor, which can say so.
        (Resource::Data, bounds.memory_bytes.saturating_mul(2)),
        (Resource::Nproc, confinement.threads),
    ] {
        let present = rustix::process::getrlimit(resource).maximum;
        rustix::process::setrlimit(resource, most(present.map_or(value, |present| present.min(value))))?;
    }
    Ok(())
}

/// Takes away what the superuser may do, apart from working on files of other users; the places where
/// that is possible are bounded otherwise.
fn drop_capabilities() -> Result<(), rustix::io::Errno> {
    let kept = CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER | CapabilitySet::CHOWN;
    let mut sets = rustix::thread::capabilities(None)?;
    if sets.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(kept).iter() {
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                // One that this kernel does not know cannot be had.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error),
            }
        }
    }
    sets.effective &= kept;
    sets.permitted &= kept;
    sets.inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, sets)
}

/// Opens the places and closes all others. What is needed of Landlock came with Linux 6.2; what came
/// later (device commands, signals to other programs) is used where it is there.
fn restrict(places: &Places) -> Result<(), Box<dyn std::error::Error>> {
    let all = AccessFs::from_all(ABI::V3);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(all)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::IoctlDev)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?
        .set_compatibility(CompatLevel::BestEffort);
    let read: BitFlags<AccessFs> = AccessFs::from_read(ABI::V3);
    let device: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile;
    let rules = places.readable.iter().map(|path| (path, read));
    let rules = rules.chain(places.writable.iter().map(|path| (path, all)));
    for (path, access) in rules.chain(places.devices.iter().map(|path| (path, device))) {
        // What has gone away meanwhile, or cannot be opened, stays closed.
        let Ok(opened) = PathFd::new(path) else { continue };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(ABI::V3) };
        ruleset = ruleset.add_rule(PathBeneath::new(opened, access))?;
    }
    // Names may be listed everywhere; contents not.
    ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new("/")?, AccessFs::ReadDir))?;
    match ruleset.restrict_self()?.ruleset {
        RulesetStatus::NotEnforced => Err("this kernel does not have it".into()),
        _ => Ok(()),
    }
}
