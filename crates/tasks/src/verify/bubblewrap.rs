//! The arguments of bubblewrap: namespaces of the command's own, in which nearly everything is read-only.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{git, places};

/// Where the launcher is found inside.
const LAUNCHER: &str = "/run/coder-launcher";

/// How many nested repositories are mounted: each makes the next mount slower. All are looked at afterwards.
const MAX_NESTED: usize = 256;

/// What to mount.
pub(super) struct View<'a> {
    /// The work tree.
    pub(super) dir: &'a Path,
    /// Further folders that may be written.
    pub(super) writable: &'a [PathBuf],
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
    let writable: Vec<&Path> =
        view.writable.iter().map(PathBuf::as_path).chain(std::iter::once(view.dir)).collect();
    // What lies in a folder that is replaced anyway is not there to be hidden.
    let secrets: Vec<PathBuf> =
        places::secrets(&writable, view.hidden).into_iter().filter(|secret| !is_replaced(secret)).collect();
    let (around, others): (Vec<_>, Vec<_>) =
        secrets.iter().partition(|secret| writable.iter().any(|path| path.starts_with(secret)));
    // Of a folder of secrets with something to write in it, only that is left, and the way to it.
    for secret in &around {
        made.add(["--tmpfs"]);
        made.0.push(secret.into());
    }
    for path in &writable {
        made.mount("--bind", path, path);
    }
    // After those, because the work tree may be a home folder.
    let empty = view.private.join("empty");
    for secret in others {
        // Within another one, it is gone with that.
        if around.iter().any(|around| secret.starts_with(around)) && !within(&writable, secret) {
            continue;
        }
        match secret.is_dir() {
            true => made.mount("--ro-bind", &empty, secret),
            false => made.mount("--ro-bind", Path::new("/dev/null"), secret),
        }
    }
    for socket in places::sockets().iter().filter(|socket| !is_replaced(socket)) {
        made.mount("--ro-bind", Path::new("/dev/null"), socket);
    }
    // Programs of the user run what lies in these, after the command or beside it, and outside of its sandbox.
    // Repositories that builds and tests make are theirs to write and to remove.
    let homes = git::homes(view.dir).unwrap_or_default().into_iter();
    let nested =
        homes.filter(|home| home.ends_with(".git") && !git::is_made(home) && home != Path::new(".git"));
    let nested = nested.map(|home| view.dir.join(home)).filter(|home| !home.is_symlink());
    let own = [".git", ".coder"].map(|name| view.dir.join(name));
    for path in own.into_iter().chain(nested.take(MAX_NESTED)) {
        made.mount("--ro-bind-try", &path, &path);
    }
    for secret in around {
        made.add(["--remount-ro"]);
        made.0.push(secret.into());
    }
    made.add(["--remount-ro", "/run", "--chdir"]);
    made.0.extend([view.dir.into(), "--".into(), LAUNCHER.into()]);
    made.0.extend(view.arguments.iter().map(OsString::from));
    made.0
}

fn within(folders: &[&Path], path: &Path) -> bool {
    folders.iter().any(|folder| path.starts_with(folder))
}

/// Whether another folder stands in the place of the one with this path.
fn is_replaced(path: &Path) -> bool {
    places::TEMPORARY.iter().any(|folder| path.starts_with(folder))
}

struct Arguments(Vec<OsString>);

impl Arguments {
    fn add<const N: usize>(&mut self, words: [&str; N]) {
        self.0.extend(words.map(OsString::from));
    }

    fn mount(&mut self, how: &str, from: &Path, to: &Path) {
        self.0.extend([how.into(), from.into(), to.into()]);
    }
}
