//! Which lines for a shell a person has approved.

use std::path::PathBuf;

use crate::command::Command;
use crate::workspace::{make_private, sha256};
use crate::{Error, Result};

/// Approved lines: a folder with one file each, named by the line's hash and holding the line, so that a
/// person can read and remove them. The default approves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Approvals {
    folder: Option<PathBuf>,
}

impl Approvals {
    /// Those in a folder, which need not exist yet. It must not be one that commands can write.
    pub fn open(folder: PathBuf) -> Approvals {
        Approvals { folder: Some(folder) }
    }

    /// An error if the command is for a shell and was not approved, to the letter.
    pub fn check(&self, command: &Command) -> Result<()> {
        let approved = self.file(command).and_then(|file| std::fs::read_to_string(file).ok());
        if !command.shell || approved.is_some_and(|approved| approved == command.line) {
            return Ok(());
        }
        Err(Error::ShellNotApproved { command: command.line.clone() })
    }

    /// Approves a command, for good.
    pub fn approve(&self, command: &Command) -> Result<()> {
        let (Some(folder), Some(file)) = (&self.folder, self.file(command)) else {
            return Err(Error::ShellNotApproved { command: command.line.clone() });
        };
        let io = |source| Error::Io { path: file.clone(), source };
        make_private(folder).map_err(io)?;
        let mut made = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
        std::io::Write::write_all(&mut made, command.line.as_bytes()).map_err(io)?;
        made.persist(&file).map_err(|error| io(error.error))?;
        Ok(())
    }

    fn file(&self, command: &Command) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(sha256(command.line.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_line_is_approved() {
        let dir = tempfile::tempdir().unwrap();
        let approvals = Approvals::open(dir.path().join("new"));
        let (one, other) = (Command::shell("a && b").unwrap(), Command::shell("a && b ;c").unwrap());
        let error = approvals.check(&one).unwrap_err();
        assert!(matches!(error, Error::ShellNotApproved { .. }));
        assert!(error.to_string().contains("`--approve-shell`"), "{error}");
        approvals.approve(&one).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &dir.path().join("new").metadata().unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o700);
        assert!(approvals.check(&one).is_ok() && approvals.check(&other).is_err());
        assert!(approvals.check(&Command::parse("a").unwrap()).is_ok());
        let none = Approvals::default();
        assert!(none.check(&one).is_err() && none.approve(&one).is_err());
        // A file with the right name and another line approves nothing.
        std::fs::write(approvals.file(&one).unwrap(), "a").unwrap();
        assert!(approvals.check(&one).is_err());
    }
}
