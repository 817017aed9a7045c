//! Which parts of the file system a command may see.
//!
//! It may read what compilers and interpreters are made of, which is nearly everything, but not the files
//! in which people and services keep what lets one act in their name, nor what other programs leave in
//! folders for temporary files.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::message::Places;

/// Files and folders of the home folder that are hidden.
const SECRETS: [&str; 49] = [
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".netrc",
    ".git-credentials",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    ".my.cnf",
    ".password-store",
    ".terraform.d",
    ".vault-token",
    ".mozilla",
    ".thunderbird",
    ".claude",
    ".codex",
    ".bash_history",
    ".zsh_history",
    ".python_history",
    ".node_repl_history",
    ".psql_history",
    // Open connections to other machines.
    ".ansible/cp",
    ".gem/credentials",
    ".composer/auth.json",
    ".s3cfg",
    ".boto",
    ".gemini",
    ".m2/settings-security.xml",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".config/gcloud",
    ".config/gh",
    ".config/git/credentials",
    ".config/github-copilot",
    ".config/glab-cli",
    ".config/hub",
    ".config/op",
    ".config/containers",
    ".config/rclone",
    ".config/chromium",
    ".config/google-chrome",
    ".config/coder",
    ".cache/huggingface/token",
    ".local/share/keyrings",
    ".local/share/opencode/auth.json",
    ".local/state/coder",
];

/// Files and folders of the system that are hidden; the superuser could read them.
const SYSTEM_SECRETS: [&str; 6] =
    ["/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/sudoers.d", "/etc/ssh", "/etc/ssl/private"];

/// Folders of other programs' temporary files and sockets.
pub(super) const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/run"];

/// What programs of the system are found through, though it lies where sockets lie.
pub(super) const RUNTIME: [&str; 2] = ["/run/current-system", "/run/wrappers"];

/// Devices that hold nothing and lead nowhere.
pub(super) const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// The secrets that exist, those that the program knows of among them, apart from what the command is to write. A
/// folder of secrets may hold that.
pub(super) fn secrets(writable: &[&Path], known: &[PathBuf]) -> Vec<PathBuf> {
    let mut homes: Vec<PathBuf> = std::env::var_os("HOME").map(PathBuf::from).into_iter().collect();
    homes.push("/root".into());
    // A folder that cannot be listed cannot be read by the command either.
    homes.extend(std::fs::read_dir("/home").into_iter().flatten().flatten().map(|entry| entry.path()));
    homes.retain(|home| home.is_absolute());
    homes.sort();
    homes.dedup();
    let within = homes.iter().flat_map(|home| SECRETS.map(|secret| home.join(secret)));
    let mut found: Vec<PathBuf> =
        within.chain(SYSTEM_SECRETS.map(PathBuf::from)).chain(known.iter().cloned()).collect();
    // A link would be followed to where the secret lies; that place is what must be hidden.
    found = found.iter().filter_map(|path| path.canonicalize().ok()).collect();
    found.retain(|path| !writable.contains(&path.as_path()));
    found.sort();
    found.dedup();
    found
}

/// Sockets of the file system at which something listens: a service behind one may do for the command what
/// the command cannot.
pub(super) fn sockets() -> BTreeSet<PathBuf> {
    let names = bound(&std::fs::read("/proc/net/unix").unwrap_or_default());
    let folders = if names.iter().all(|name| name.is_absolute()) { Vec::new() } else { working_folders() };
    standing(&names, &folders)
}

/// The names in the kernel's table of sockets. They are those that were bound: some are relative to a folder that the
/// table does not tell, and the socket may have another name by now.
fn bound(table: &[u8]) -> Vec<PathBuf> {
    let name = |line: &[u8]| {
        let mut rest = line;
        for _ in 0..7 {
            rest = rest.trim_ascii_start();
            rest = &rest[rest.iter().position(|byte| *byte == b' ')?..];
        }
        // A name without a file begins with `@`.
        let name = rest.strip_prefix(b" ").filter(|name| !name.is_empty() && name[0] != b'@')?;
        Some(PathBuf::from(OsStr::from_bytes(name)))
    };
    table.split(|byte| *byte == b'\n').skip(1).filter_map(name).collect()
}

/// The sockets of these names, the relative ones in any of these folders. Where a name is gone, such as that of a
/// connection that ssh shares, which gets its name after it was bound, all in the name's folder.
fn standing(names: &[PathBuf], folders: &[PathBuf]) -> BTreeSet<PathBuf> {
    let (mut found, mut searched) = (BTreeSet::new(), BTreeSet::new());
    let root = [PathBuf::new()];
    for name in names {
        let within: &[PathBuf] = if name.is_absolute() { &root } else { folders };
        for path in within.iter().map(|folder| folder.join(name)) {
            if path.metadata().is_ok_and(|meta| meta.file_type().is_socket()) {
                found.insert(path);
            } else {
                searched.extend(path.parent().map(Path::to_owned));
            }
        }
    }
    for entry in searched.iter().flat_map(std::fs::read_dir).flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_socket()) {
            found.insert(entry.path());
        }
    }
    found.iter().filter_map(|path| path.canonicalize().ok()).collect()
}

/// The working folders of all processes that may be asked.
fn working_folders() -> Vec<PathBuf> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let folders: BTreeSet<_> =
        processes.filter_map(|process| process.path().join("cwd").read_link().ok()).collect();
    folders.into_iter().collect()
}

/// What Landlock is to open: it knows no exceptions, so a folder with something hidden in it is opened
/// entry by entry. What may be written is opened by itself, also where it lies in something hidden.
pub(super) fn for_landlock(writable: &[&Path], known: &[PathBuf]) -> Places {
    let mut hidden = secrets(writable, known);
    hidden.extend(TEMPORARY.map(PathBuf::from));
    hidden.push("/dev".into());
    let mut readable = Vec::new();
    open(Path::new("/"), &hidden, &mut readable);
    readable.extend(RUNTIME.map(PathBuf::from));
    readable.retain(|path| path.exists());
    Places {
        readable,
        writable: writable.iter().map(|path| path.to_path_buf()).collect(),
        devices: DEVICES.map(PathBuf::from).into(),
    }
}

fn open(folder: &Path, hidden: &[PathBuf], readable: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        // What a link leads to is opened, or hidden, where it is.
        if path.is_symlink() || hidden.contains(&path) {
            continue;
        }
        match hidden.iter().any(|hidden| hidden.starts_with(&path)) {
            true => open(&path, hidden, readable),
            false => readable.push(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_hidden_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for path in ["home/.ssh", "home/.config/gh", "home/.config/other", "usr/bin"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        std::fs::write(root.join("home/file"), "").unwrap();
        std::os::unix::fs::symlink("home/.ssh", root.join("link")).unwrap();
        let hidden = [root.join("home/.ssh"), root.join("home/.config/gh")];
        let mut readable = Vec::new();
        open(&root, &hidden, &mut readable);
        readable.sort();
        let expected = ["home/.config/other", "home/file", "usr"].map(|path| root.join(path));
        assert_eq!(readable, expected);
    }

    #[test]
    fn what_is_to_be_written_is_not_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let known = [dir.path().canonicalize().unwrap()];
        assert!(!secrets(&[&known[0]], &known).contains(&known[0]));
        assert!(secrets(&[&known[0].join("plans/tree")], &known).contains(&known[0]));
    }
    #[test]
    fn names_of_sockets_are_read_as_they_were_bound() {
        let table = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/a b\n\
            0000000000000000: 00000003 00000000 00000000 0001 03   345 run/x\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 23456\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 34567 @/tmp/none\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 45678 /x\xff\n";
        let odd = PathBuf::from(OsStr::from_bytes(b"/x\xff"));
        assert_eq!(bound(table), [PathBuf::from("/run/a b"), "run/x".into(), odd]);
    }

    #[test]
    fn sockets_are_found_wherever_they_stand() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let [first, last, plain] = ["control.random", "control", "plain"].map(|name| root.join(name));
        let listener = UnixListener::bind(&first).unwrap();
        std::fs::write(&plain, "").unwrap();
        assert!(sockets().contains(&first));
        std::fs::hard_link(&first, &last).unwrap();
        std::fs::remove_file(&first).unwrap();
        let found = sockets();
        assert!(found.contains(&last) && !found.contains(&first) && !found.contains(&plain));
        // A relative name, seen from any process.
        let name = [PathBuf::from(root.file_name().unwrap()).join("control")];
        let folders = ["/proc".into(), root.parent().unwrap().to_owned()];
        assert_eq!(standing(&name, &folders).into_iter().collect::<Vec<_>>(), [last]);
        drop(listener);
    }
}
