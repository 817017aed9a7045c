//! The arguments of bubblewrap: namespaces of the command's own, in which nearly everything is read-only.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::sandbox::OWN;
use super::{git, places};

/// Where the launcher is found inside.
const LAUNCHER: &str = "/run/coder-launcher";

/// Folders in whose place others stand.
const REPLACED: [&str; 4] = {
    let [first, second, third] = places::TEMPORARY;
    ["/dev", first, second, third]
};

/// How many nested repositories are mounted: each makes the next mount slower. All are looked at afterwards.
const MAX_NESTED: usize = 256;

/// What to mount.
pub(super) struct View<'a> {
    /// The work tree.
    pub(super) dir: &'a Path,
    /// Further folders that may be written.
    pub(super) writable: &'a [PathBuf],
    /// What in the work tree may not be written, besides what never may; relative to it.
    pub(super) kept: &'a [PathBuf],
    /// Further secrets to hide.
    pub(super) hidden: &'a [PathBuf],
    /// The private folder: `tmp` and `shm` in it are for the command, `empty` stands for what is hidden.
    pub(super) private: &'a Path,
    /// The program that becomes the command.
    pub(super) launcher: &'a Path,
    /// Its arguments.
    pub(super) arguments: &'a [String],
    /// Whether this is the superuser, who keeps the right to write other users' files in the work tree.
    pub(super) superuser: bool,
}

/// All arguments, the program inside and its own among them.
///
/// A process namespace ends with its first process, so nothing in it outlives the command. The network
/// namespace has a loopback device of its own and nothing else.
pub(super) fn arguments(view: &View<'_>) -> Vec<OsString> {
    let mut made = Arguments(Vec::new());
    made.add(["--unshare-user-try", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]);
    made.add(["--unshare-cgroup-try", "--die-with-parent", "--cap-drop", "ALL"]);
    if view.superuser {
        made.add(["--cap-add", "CAP_DAC_OVERRIDE", "--cap-add", "CAP_FOWNER", "--cap-add", "CAP_CHOWN"]);
    }
    made.mount("--ro-bind", Path::new("/"), Path::new("/"));
    made.add(["--dev", "/dev", "--proc", "/proc"]);
    // Bubblewrap leaves these to the superuser.
    for path in ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/sys"].map(Path::new) {
        made.mount("--ro-bind-try", path, path);
    }
    made.mount("--bind", &view.private.join("shm"), Path::new("/dev/shm"));
    made.add(["--remount-ro", "/dev"]);
    for folder in places::TEMPORARY.into_iter().filter(|folder| *folder != "/run") {
        made.mount("--bind", &view.private.join("tmp"), Path::new(folder));
    }
    made.add(["--tmpfs", "/run"]);
    for path in places::RUNTIME.map(Path::new) {
        made.mount("--ro-bind-try", path, path);
    }
    for place in [Path::new(LAUNCHER), view.launcher] {
        if is_replaced(place) {
            made.mount("--ro-bind", view.launcher, place);
        }
    }
    made.lay(view);
    made.add(["--remount-ro", "/run", "--chdir"]);
    made.0.extend([view.dir.into(), "--".into(), LAUNCHER.into()]);
    made.0.extend(view.arguments.iter().map(OsString::from));
    made.0
}

/// What programs of the user run lies in these, after the command or beside it, and outside of its sandbox. Repositories
/// that builds and tests make are theirs to write and to remove.
fn kept(view: &View<'_>) -> Vec<PathBuf> {
    let dir = view.dir;
    let homes = git::homes(dir).unwrap_or_default().into_iter();
    let nested =
        homes.filter(|home| home.ends_with(".git") && !git::is_made(home) && home != Path::new(".git"));
    let nested = nested.map(|home| dir.join(home)).filter(|home| !home.is_symlink());
    let own = OWN.map(|name| dir.join(name)).into_iter();
    own.chain(view.kept.iter().map(|path| dir.join(path))).chain(nested.take(MAX_NESTED)).collect()
}

/// Whether another folder stands in the place of the one with this path.
fn is_replaced(path: &Path) -> bool {
    places::TEMPORARY.iter().any(|folder| path.starts_with(folder))
}

/// What is done to a place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mount {
    Hidden,
    Written,
    Kept,
}

/// What was done to which places, in this order.
struct Laid<'a>(Vec<(&'a Path, Mount)>);

impl Laid<'_> {
    /// Whether a path is there: the last mount over it decides. What is not there cannot be mounted over.
    fn shows(&self, path: &Path) -> bool {
        let last = self.0.iter().rev().find(|(place, _)| path.starts_with(place));
        last.is_none_or(|(_, mount)| *mount != Mount::Hidden)
    }
}

struct Arguments(Vec<OsString>);

impl Arguments {
    fn add<const N: usize>(&mut self, words: [&str; N]) {
        self.0.extend(words.map(OsString::from));
    }

    fn mount(&mut self, how: &str, from: &Path, to: &Path) {
        self.0.extend([how.into(), from.into(), to.into()]);
    }

    /// Mounts what may be written and what is kept from the command: a folder before what lies in it, because the work
    /// tree may be a home folder, and may lie in a folder of secrets.
    fn lay(&mut self, view: &View<'_>) {
        let writable: Vec<&Path> =
            view.writable.iter().map(PathBuf::as_path).chain(std::iter::once(view.dir)).collect();
        let (secrets, kept) = (places::secrets(&writable, view.hidden), kept(view));
        let hidden = secrets.iter().map(|path| (path.as_path(), Mount::Hidden));
        let written = writable.iter().map(|path| (*path, Mount::Written));
        let mut mounts: Vec<_> = hidden.chain(written).collect();
        mounts.extend(kept.iter().map(|path| (path.as_path(), Mount::Kept)));
        mounts.sort();
        let mut laid = Laid(REPLACED.map(|folder| (Path::new(folder), Mount::Hidden)).into());
        let mut around = Vec::new();
        for (path, mount) in mounts {
            // Of what is hidden nothing is left but what may be written.
            if mount != Mount::Written && !laid.shows(path) {
                continue;
            }
            match mount {
                Mount::Written => self.mount("--bind", path, path),
                Mount::Kept => self.mount("--ro-bind-try", path, path),
                Mount::Hidden if writable.iter().any(|other| other.starts_with(path)) => {
                    // The way to it is made in this one.
                    self.add(["--tmpfs"]);
                    self.0.push(path.into());
                    around.push(path);
                }
                Mount::Hidden => self.hide(path, view),
            }
            laid.0.push((path, mount));
        }
        for socket in places::sockets().iter().filter(|socket| laid.shows(socket)) {
            self.hide(socket, view);
        }
        for secret in around {
            self.add(["--remount-ro"]);
            self.0.push(secret.into());
        }
    }

    fn hide(&mut self, path: &Path, view: &View<'_>) {
        match path.is_dir() {
            true => self.mount("--ro-bind", &view.private.join("empty"), path),
            false => self.mount("--ro-bind", Path::new("/dev/null"), path),
        }
    }
}
