//! Bringing a file back to what was saved of it. What somebody else wrote into it meanwhile is kept.

use super::Workspace;
use super::journal::{Saved, sha256};
use super::replace::{Staged, remove_folder, stage, take_away};
use super::state::State;
use crate::{Error, Result, path};

/// The largest content of somebody else's that is kept when a file is brought back, in bytes.
const MAX_KEPT_BYTES: u64 = 64 << 20;

impl Workspace {
    /// Brings a file back to what was saved. Does nothing where it is that already. A content that is
    /// neither the saved one nor `ours` is somebody else's: it is kept, and its names are the answer.
    pub(super) fn bring_back(
        &self,
        state: &State,
        saved: &Saved,
        ours: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>> {
        let io = self.io(&saved.path);
        let (folder, name) = path::split(&saved.path);
        let Some(before) = &saved.before else {
            let Some(dir) = self.folder(folder, &saved.path)? else { return Ok(Vec::new()) };
            let moved = take_away(&dir, name).map_err(&io)?;
            let kept = moved.map(|moved| self.keep(state, &saved.path, moved, &ours));
            return Ok(kept.transpose()?.flatten().into_iter().collect());
        };
        if let Ok(now) = self.snapshot(&saved.path)
            && now.before.is_some_and(|now| saved.is(&sha256(now.text.as_bytes())) && now.mode == before.mode)
        {
            return Ok(Vec::new());
        }
        let text = state.load(&before.sha256)?;
        let dir = self.create_folders(folder, &saved.path)?;
        // Where files cannot be exchanged, this look before is all there is.
        let seen = self.bytes_in(&dir, name, &saved.path, MAX_KEPT_BYTES).ok().flatten();
        let seen = seen.map(|(bytes, _)| bytes).filter(|bytes| !ours(&sha256(bytes)));
        let mut kept = seen.map(|bytes| state.save(&bytes)).transpose()?;
        let mut staged = stage(&dir, name, text.as_bytes(), Some(before.mode)).map_err(&io)?;
        staged.place().map_err(&io)?;
        let found =
            self.keep(state, &saved.path, staged, &ours)?.filter(|found| kept.as_ref() != Some(found));
        Ok(kept.take().into_iter().chain(found).collect())
    }

    /// Looks at what a file was exchanged for, keeps it in the store if it is somebody else's, and lets it go.
    fn keep(
        &self,
        state: &State,
        path: &str,
        mut moved: Staged,
        ours: impl Fn(&str) -> bool,
    ) -> Result<Option<String>> {
        let bytes = match moved.old().map(|(dir, name)| self.bytes_in(dir, name, path, MAX_KEPT_BYTES)) {
            None => None,
            Some(Ok(bytes)) => bytes.map(|(bytes, _)| bytes).filter(|bytes| !ours(&sha256(bytes))),
            // A link, a pipe or the like holds nothing.
            Some(Err(Error::Path { problem, .. })) if problem != super::A_FOLDER => None,
            Some(Err(error)) => {
                moved.put_back().map_err(self.io(path))?;
                return Err(error);
            }
        };
        let kept = bytes.map(|bytes| state.save(&bytes)).transpose()?;
        moved.finish().map_err(self.io(path))?;
        Ok(kept)
    }

    /// Removes folders that were made, innermost first. One in which something else appeared stays.
    pub(super) fn remove_folders(&self, made: &[String]) -> Result<()> {
        for created in made.iter().rev() {
            let (parent, name) = path::split(created);
            let Some(dir) = self.folder(parent, created)? else { continue };
            if !remove_folder(&dir, name).map_err(self.io(created))? {
                break;
            }
        }
        Ok(())
    }
}
