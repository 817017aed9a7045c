//! What need not be kept for ever: tasks that nobody will undo any more, and the state of folders that are gone.
//! Nothing that is unfinished is ever removed, and what cannot be removed stays until a later start.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FlockOperation};

use super::fault::step;
use super::journal::{Log, contents};
use super::replace::{lock, sync};
use super::state::{OPEN, State};
use crate::Result;

/// So many finished tasks of a workspace can be undone, the last ones: whoever takes back an older one has git, and
/// every task keeps up to a few megabytes of old contents.
pub(super) const KEPT: usize = 200;

/// What no task needs stays for this long after it was last used, because somebody may still miss it: a content that
/// another program wrote during a task that came to nothing, or a folder on a disk that is not mounted now.
const MISSED: Duration = Duration::from_secs(90 * 24 * 60 * 60);

impl State {
    /// Forgets the finished tasks before the last ones, and the contents that no other task needs.
    pub(super) fn prune(&self) -> Result<()> {
        let numbers = self.numbers()?;
        let done = numbers.iter().filter(|(_, open)| !open).count();
        let mut excess = done.saturating_sub(KEPT);
        let old = self.old_contents()?;
        if excess == 0 && old.is_empty() {
            return Ok(());
        }
        let (mut doomed, mut removed, mut needed) = (Vec::new(), old, BTreeSet::new());
        for (number, open) in numbers {
            let bytes = self.bytes(number, open)?;
            let named = contents(&bytes);
            if !open && excess > 0 {
                excess -= 1;
                doomed.push(number);
                // What another program wrote is nobody's old content: it goes by its age alone.
                let displaced = Log::read(&bytes).map(|log| log.displaced).unwrap_or_default();
                let is_displaced = |name: &String| displaced.iter().any(|(_, other)| other == name);
                removed.extend(named.into_iter().filter(|name| !is_displaced(name)));
            } else {
                needed.extend(named);
            }
        }
        // The journals last: a prune that is cut off is done again by them.
        self.unlink_contents(removed.difference(&needed))?;
        self.unlink_done(&doomed)
    }

    /// Contents that were kept long ago.
    fn old_contents(&self) -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        for entry in self.objects.entries().map_err(self.wrong())? {
            let entry = entry.map_err(self.wrong())?;
            let modified = entry.metadata().and_then(|meta| meta.modified()).map_err(self.wrong())?;
            if is_old(modified.into_std())
                && let Ok(name) = entry.file_name().into_string()
            {
                found.insert(name);
            }
        }
        Ok(found)
    }

    fn unlink_contents<'n>(&self, names: impl Iterator<Item = &'n String>) -> Result<()> {
        for name in names {
            // One that is gone already was removed by a prune that was cut off.
            let _ = step().map(|()| rustix::fs::unlinkat(&self.objects, name.as_str(), AtFlags::empty()));
        }
        sync(&self.objects).map_err(self.wrong())
    }
}

/// Removes the folders in `states` that nobody has locked for long, if `is_over` says that nothing in them is
/// unfinished or can still be asked for.
pub(crate) fn prune_folders(states: &Path, is_over: impl Fn(&Path) -> bool) {
    for folder in fs::read_dir(states).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let path = folder.join("lock");
        // Every holder writes its number into the lock.
        let unused = || fs::metadata(&path).and_then(|meta| meta.modified()).is_ok_and(is_old);
        if !unused() || !is_over(&folder) {
            continue;
        }
        let Ok(file) = OpenOptions::new().write(true).open(&path) else { continue };
        let free = lock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        // Somebody may have come and gone before the lock was ours.
        if free && unused() && is_over(&folder) {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// Whether a workspace's folder is gone, and no task in it was cut off.
pub(super) fn is_gone(state: &Path) -> bool {
    let Ok(path) = fs::read(state.join("workspace")) else { return false };
    let gone = fs::symlink_metadata(OsStr::from_bytes(&path))
        .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    let Ok(journals) = fs::read_dir(state.join("journals")) else { return false };
    gone && journals
        .into_iter()
        .all(|entry| entry.is_ok_and(|entry| entry.path().extension().is_none_or(|ending| ending != OPEN)))
}

fn is_old(modified: SystemTime) -> bool {
    modified.elapsed().is_ok_and(|age| age > MISSED)
}
