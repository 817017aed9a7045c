//! Which parts of the file system a command may see.
//!
//! It may read what compilers and interpreters are made of, which is nearly everything, but not the files
//! in which people and services keep what lets one act in their name, nor what other programs leave in
//! folders for temporary files.

use std::path::{Path, PathBuf};

use super::message::Places;

/// Files and folders of the home folder that are hidden.
const SECRETS: [&str; 48] = [
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
pub(super) fn sockets() -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let paths = table.lines().filter_map(|line| line.split_once('/'));
    let mut found: Vec<PathBuf> = paths.map(|(_, path)| PathBuf::from(format!("/{path}"))).collect();
    found.retain(|path| path.exists());
    found.sort();
    found.dedup();
    found
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
}
