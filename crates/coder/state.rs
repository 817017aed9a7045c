//! Where the program keeps what it remembers: `--state-dir`, or the user's state folder.

use std::path::{Path, PathBuf};

use clap::Args;
use coder_tasks::Error;
use coder_tasks::workspace::default_state;

use crate::failure::Outcome;

/// Which folder.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct StateArgs {
    /// Where journals, old contents, the ledger, and records of plans and their worktrees are kept [default: coder in
    /// $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state_dir: Option<PathBuf>,
}

impl StateArgs {
    /// The folder, which need not be there.
    pub(crate) fn folder(&self) -> Outcome<PathBuf> {
        match &self.state_dir {
            Some(folder) => Ok(folder.clone()),
            None => Ok(default_state()?),
        }
    }

    /// The same for work in a folder. One that lies inside is refused before anything is written into it.
    pub(crate) fn beside(&self, working_dir: &Path) -> Outcome<PathBuf> {
        let folder = self.folder()?;
        let full = real(&folder)?;
        if working_dir.canonicalize().is_ok_and(|inside| full.starts_with(inside)) {
            return Err(Error::StateInside { path: full }.into());
        }
        Ok(folder)
    }
}

/// The path without links and `..`, as far as it is there.
fn real(path: &Path) -> std::io::Result<PathBuf> {
    let full = std::path::absolute(path)?;
    let there =
        full.ancestors().find_map(|part| Some((part.canonicalize().ok()?, full.strip_prefix(part).ok()?)));
    Ok(there.map_or_else(|| full.clone(), |(there, rest)| there.join(rest)))
}

/// `coder` in the user's state folder, which need not be there.
pub(crate) fn state_folder() -> Option<PathBuf> {
    default_state().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_in_the_working_folder_is_refused_and_not_made() {
        let work = tempfile::tempdir().unwrap();
        let args = |folder: &Path| StateArgs { state_dir: Some(folder.to_owned()) };
        let (inside, outside) = (work.path().join("state"), work.path().with_extension("state"));
        let error = args(&inside).beside(work.path()).unwrap_err();
        assert!(error.reason().contains("is inside the working directory"), "{}", error.reason());
        assert!(!inside.exists());
        let around = inside.parent().unwrap().join("..").join("state-of-nobody");
        assert_eq!(args(&around).beside(work.path()).unwrap(), around);
        assert_eq!(args(&outside).beside(work.path()).unwrap(), outside);
    }
}
