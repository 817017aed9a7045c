//! What a command is kept from, and by which means of the operating system.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::{Exit, Limits, git, guarded};

/// A sandbox for commands. The default is none at all, and without one no command runs.
///
/// Inside, the work tree and a private folder for temporary files can be written, the rest of the file
/// system can be read apart from secrets, there is no network, and the environment holds only what
/// tools need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// The means.
    pub isolation: Isolation,
    /// Folders that commands may write besides the work tree.
    pub writable: Vec<PathBuf>,
    /// Files and folders of the work tree, relative to it, that commands may not write, besides those of git and of this
    /// program, if the means allow that.
    pub kept: Vec<PathBuf>,
    /// Files and folders that hold secrets, besides those that are known everywhere.
    pub hidden: Vec<PathBuf>,
    /// Variables that commands see besides those that tools need.
    pub variables: Vec<String>,
}

/// What programs of the user run or believe at the root of a work tree; read-only to a command if the means allow that.
pub(super) const OWN: [&str; 2] = [".git", ".coder"];

/// How a command is kept from the rest of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// None is there, for this reason.
    Missing(String),
    /// None is wanted: the caller takes what the command does upon itself.
    Off,
    /// By these means, through a launcher.
    On {
        /// The program that confines itself and becomes the command.
        launcher: Launcher,
        /// The means.
        means: Means,
    },
}

/// Means of the operating system.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// Namespaces, through this program.
    Bubblewrap(PathBuf),
    /// Landlock and seccomp, without a program.
    Landlock,
}

/// How to start a process that calls [`super::launch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// The arguments after which it calls it.
    pub arguments: Vec<String>,
}

impl Default for Isolation {
    fn default() -> Self {
        Isolation::Missing("none was looked for".to_owned())
    }
}

impl std::fmt::Display for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Means::Bubblewrap(program) => write!(f, "namespaces and seccomp (`{}`)", program.display()),
            Means::Landlock => write!(f, "Landlock and seccomp"),
        }
    }
}

impl Sandbox {
    /// No isolation: the command may do whatever the caller may.
    pub fn off() -> Sandbox {
        Sandbox { isolation: Isolation::Off, ..Sandbox::default() }
    }

    /// The best isolation that works here: bubblewrap if it is on `PATH`, else Landlock. Each is tried,
    /// with a command that attempts to write outside, before it is believed.
    pub fn detect(launcher: &Launcher) -> Sandbox {
        let mut problems = Vec::new();
        for means in bubblewrap().into_iter().map(Means::Bubblewrap).chain([Means::Landlock]) {
            match Sandbox::with(launcher, means.clone()) {
                Ok(sandbox) => return sandbox,
                Err(problem) => problems.push(format!("{means}: {problem}")),
            }
        }
        Sandbox { isolation: Isolation::Missing(problems.join("; ")), ..Sandbox::default() }
    }

    /// Isolation by these means, if they work here; else the reason.
    pub fn with(launcher: &Launcher, means: Means) -> Result<Sandbox, String> {
        let isolation = Isolation::On { launcher: launcher.clone(), means };
        let sandbox = Sandbox { isolation, ..Sandbox::default() };
        probe(&sandbox, launcher).map(|()| sandbox)
    }

    /// The same for commands in a work tree at whose root tools of the user find their configuration. A command reads it,
    /// and what changes there meanwhile was not the command. `own` are the files that the task, and so its commands, may
    /// change.
    pub fn keeping(&self, root: &Path, own: &[String]) -> Sandbox {
        let mut kept = Vec::new();
        for (name, kind) in git::entries(root).unwrap_or_default() {
            let Some(name) = name.to_str() else { continue };
            match kind.is_dir() {
                true if guarded::is_tool(&format!("{name}/x")) => kept.push(PathBuf::from(name)),
                // Cargo keeps more than that in its folder, and commands may write it.
                true if name == ".cargo" => {
                    kept.extend(["config", "config.toml"].map(|file| Path::new(name).join(file)))
                }
                false if kind.is_file() && guarded::is_tool(name) => kept.push(PathBuf::from(name)),
                _ => {}
            }
        }
        kept.retain(|path| {
            let full = root.join(path);
            full.symlink_metadata().is_ok_and(|meta| !meta.is_symlink())
                && !own.iter().any(|own| Path::new(own).starts_with(path))
                && !self.writable.iter().any(|other| other.starts_with(&full))
        });
        Sandbox { kept, ..self.clone() }
    }

    /// What lies in a work tree and cannot be written by a command, nor another thing be put in its place: a mount keeps its
    /// own place, and not that of the folder in which it lies.
    pub(super) fn read_only(&self, dir: &Path) -> Vec<PathBuf> {
        let Isolation::On { means: Means::Bubblewrap(_), .. } = &self.isolation else { return Vec::new() };
        let stays = |name: &PathBuf| {
            let path = dir.join(name);
            let lies_in_folder = name.components().count() > 1;
            // Whoever may write around the work tree may put another one in its place.
            let is_written =
                |other: &PathBuf| other != dir && dir.starts_with(other) || other.starts_with(&path);
            !lies_in_folder
                && path.symlink_metadata().is_ok_and(|meta| !meta.is_symlink())
                && !self.writable.iter().any(is_written)
        };
        OWN.into_iter().map(PathBuf::from).chain(self.kept.iter().cloned()).filter(stays).collect()
    }
}

/// The program `bwrap`, in the folders in which a shell would look for it.
fn bubblewrap() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("bwrap"))
        .find(|file| file.is_file())
}

/// Lets the launcher try, inside, to write a file outside.
fn probe(sandbox: &Sandbox, launcher: &Launcher) -> Result<(), String> {
    let folder = |problem: std::io::Error| format!("no folder for temporary files: {problem}");
    let inside = tempfile::tempdir().map_err(folder)?;
    let outside = tempfile::tempdir().map_err(folder)?;
    let target = outside.path().join("written");
    let mut argv = vec![text(&launcher.program)?];
    argv.extend(launcher.arguments.iter().cloned());
    argv.extend([super::PROBE.to_owned(), text(&target)?]);
    let limits = Limits { time: std::time::Duration::from_secs(20), ..Limits::default() };
    let dir = inside.path().canonicalize().map_err(folder)?;
    let done = super::run(&argv, &dir, sandbox, &limits, &AtomicBool::new(false))
        .map_err(|error| error.to_string())?;
    if target.exists() {
        return Err("a command could write outside".to_owned());
    }
    match done.exit {
        Exit::Code(0) => Ok(()),
        exit => {
            let said = done.output.lines().map(str::trim).filter(|line| !line.is_empty());
            Err(std::iter::once(exit.to_string().as_str()).chain(said).collect::<Vec<_>>().join(", "))
        }
    }
}

fn text(path: &Path) -> Result<String, String> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("`{}` is no UTF-8 text", path.display()))
}
