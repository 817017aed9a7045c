//! What the launcher does: the entry point of the processes that stand between a program and a command.

use std::io::Write;
use std::process::ExitCode;

/// Supervises a command, becomes one, or tries what a command must not be able to do, as the arguments
/// say. A program that uses a [`super::Sandbox`] calls this, and nothing else, when it is started with the
/// arguments of its [`super::Launcher`]; the rest of the arguments are given here.
pub fn launch(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [super::SUPERVISE] => supervise(),
        [super::CONFINE] => confine(),
        [super::PROBE, path] => probe(path),
        _ => Err(std::io::Error::other("the launcher of sandboxes is not for people; use `coder run`")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever would be told may be gone.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Succeeds if this folder can be written, and the file, which is outside, cannot.
fn probe(outside: &str) -> std::io::Result<()> {
    std::fs::write("inside", "")?;
    match std::fs::write(outside, "") {
        Ok(()) => Err(std::io::Error::other("the sandbox does not hold")),
        Err(_) => Ok(()),
    }
}

#[cfg(target_os = "linux")]
fn supervise() -> std::io::Result<()> {
    super::supervise::supervise()
}

#[cfg(target_os = "linux")]
fn confine() -> std::io::Result<()> {
    super::confine::become_command()
}

#[cfg(not(target_os = "linux"))]
fn supervise() -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn confine() -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
