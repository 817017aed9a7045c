//! Starting a program that was written a moment ago.

use std::io::{ErrorKind, Result};
use std::time::{Duration, Instant};

/// How long a program may be open for writing. The writer has closed it, but a process that another thread began to
/// start meanwhile has it open until it becomes its own program: a moment, also on a machine under load.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait in between.
const PAUSE: Duration = Duration::from_millis(2);

/// Starts a program, again and again while it is open for writing somewhere, but not for ever: it may really be.
pub(super) fn patiently<T>(mut start: impl FnMut() -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    loop {
        match start() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && begin.elapsed() < PATIENCE => {
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_that_is_open_for_writing_is_started_when_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("check");
        std::fs::write(&script, "#!/bin/sh\nexit 3\n").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut held = Some(std::fs::OpenOptions::new().append(true).open(&script).unwrap());
        let mut failed = 0;
        let status = patiently(|| {
            let status = Command::new(&script).status();
            if status.is_err() {
                failed += 1;
                held.take();
            }
            status
        });
        assert_eq!(status.unwrap().code(), Some(3));
        assert!(failed > 0, "the system does not mind");
    }

    #[test]
    fn other_errors_are_told_at_once() {
        let mut tries = 0;
        let error = patiently(|| {
            tries += 1;
            Command::new("/nonexistent/program").status()
        });
        assert_eq!((error.unwrap_err().kind(), tries), (ErrorKind::NotFound, 1));
    }
}
