//! Why a command was not done, and the exit code that says so.

use std::fmt::Display;
use std::io;

/// What every command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// The end of a command that was not done.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// One line for standard error, as it is to appear; nothing if all has been said.
    line: Option<String>,
}

impl Failure {
    /// Not done, with the reason and its remedy.
    pub(crate) fn new(reason: impl Display) -> Self {
        Self { code: 1, line: Some(format!("error: {}", one_line(&reason.to_string()))) }
    }

    /// Not done, in exactly these words, which other programs know.
    pub(crate) fn exact(line: &str) -> Self {
        Self { code: 1, line: Some(line.to_string()) }
    }

    /// Bad usage, with the reason and its remedy.
    pub(crate) fn usage(reason: impl Display) -> Self {
        Self { code: 2, ..Self::new(reason) }
    }

    /// Ends with this code; everything has been said.
    pub(crate) fn quiet(code: u8) -> Self {
        Self { code, line: None }
    }

    /// The user pressed Ctrl-C.
    pub(crate) fn interrupted() -> Self {
        Self::quiet(130)
    }

    /// Whether nothing is to be said.
    pub(crate) fn is_quiet(&self) -> bool {
        self.line.is_none()
    }

    /// The reason alone, to be said elsewhere.
    pub(crate) fn reason(&self) -> &str {
        self.line.as_deref().map_or("stopped", |line| line.strip_prefix("error: ").unwrap_or(line))
    }

    /// Says it on standard error and returns the exit code.
    pub(crate) fn report(&self) -> u8 {
        if let Some(line) = &self.line {
            eprintln!("{line}");
        }
        self.code
    }
}

impl From<io::Error> for Failure {
    /// Meant for writing results: a reader that has seen enough ends the command quietly.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::quiet(0) } else { Self::new(error) }
    }
}

impl From<coder_engine::Error> for Failure {
    fn from(error: coder_engine::Error) -> Self {
        Self::new(error)
    }
}

impl From<coder_tasks::Error> for Failure {
    fn from(error: coder_tasks::Error) -> Self {
        Self::new(error)
    }
}

/// Errors are one line each, so that scripts can read them; a compiler's message may have more.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        let failure = Failure::new("grammar:\n  bad rule\n\n  at line 3\n");
        assert_eq!(failure.line.as_deref(), Some("error: grammar:; bad rule; at line 3"));
        assert_eq!(failure.code, 1);
    }

    #[test]
    fn a_broken_pipe_is_quiet() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.code, failure.line), (0, None));
    }
}
