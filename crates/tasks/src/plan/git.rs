//! Runs `git` as a child process in a repository that nobody vouches for.
//!
//! The environment is cut down to what finds programs, the user's own configuration and the time zone;
//! nothing of the repository's configuration that names a program stays in force: hooks, the file system
//! monitor, filters, external diffs, merge drivers, signing. Nothing is fetched.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::{Error, Result};

/// Variables that a child may see. `GIT_*` are not among them: they could name another repository.
const KEPT: [&str; 8] = ["PATH", "HOME", "XDG_CONFIG_HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "LANG"];

/// Settings that hold whatever the repository says. Each can start a program or change what is committed.
const FIXED: [(&str, &str); 13] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.pager", "cat"),
    ("core.editor", "false"),
    ("core.askPass", ""),
    ("core.sshCommand", "false"),
    ("core.alternateRefsCommand", ""),
    ("core.fsync", "objects,reference"),
    ("commit.gpgSign", "false"),
    ("diff.external", ""),
    ("credential.helper", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
];

/// Git in one folder.
#[derive(Debug)]
pub(super) struct Git {
    folder: PathBuf,
    settings: Vec<(OsString, OsString)>,
    /// Children hold this file open as their standard input, and with it its lock, so that a later run can
    /// wait for those that outlive this process.
    held: Option<File>,
}

/// One command before it runs.
pub(super) struct Call<'a> {
    git: &'a Git,
    args: Vec<OsString>,
    variables: Vec<(&'static str, OsString)>,
    input: Option<&'a [u8]>,
}

impl Git {
    /// Git in this folder. Reads the names in the repository's configuration, to take the force out of
    /// those that start programs.
    pub(super) fn open(folder: &Path) -> Result<Git> {
        let fixed = FIXED.iter().map(|(key, value)| (OsString::from(key), OsString::from(value)));
        let mut git = Git { folder: folder.to_owned(), settings: fixed.collect(), held: None };
        let listed = git.call(["config", "--list", "--show-scope", "--name-only", "-z"]).bytes()?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let mut fields = listed.split('\0');
        while let (Some(scope), Some(key)) = (fields.next(), fields.next()) {
            // The user's own and the system's configuration are as trusted as the user.
            if matches!(scope, "local" | "worktree")
                && let Some(value) = disarmed(key)
            {
                git.settings.push((key.into(), value.into()));
            }
        }
        Ok(git)
    }

    /// Gives children a file to hold.
    pub(super) fn hold(&mut self, file: File) {
        self.held = Some(file);
    }

    /// Whether a filter is one of the repository's own, which is not run.
    pub(super) fn disarms(&self, filter: &str) -> bool {
        let keys = ["clean", "process"].map(|last| OsString::from(format!("filter.{filter}.{last}")));
        self.settings.iter().any(|(key, _)| keys.contains(key))
    }

    /// A command.
    pub(super) fn call<const N: usize>(&self, args: [&str; N]) -> Call<'_> {
        Call { git: self, args: args.map(OsString::from).into(), variables: Vec::new(), input: None }
    }
}

/// What a setting of the repository is replaced by, if it names a program.
fn disarmed(key: &str) -> Option<&'static str> {
    let (section, rest) = key.split_once('.')?;
    // The middle part is the driver's name, which may hold dots itself.
    let (_, last) = rest.rsplit_once('.')?;
    match (section.to_ascii_lowercase().as_str(), last.to_ascii_lowercase().as_str()) {
        ("filter", "clean" | "smudge" | "process") => Some(""),
        ("filter", "required") => Some("false"),
        ("diff", "command" | "textconv") => Some(""),
        ("merge", "driver") => Some("false"),
        _ => None,
    }
}

impl<'a> Call<'a> {
    pub(super) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(super) fn variable(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name, value.as_ref().to_owned()));
        self
    }

    /// What it reads; otherwise nothing.
    pub(super) fn input(mut self, bytes: &'a [u8]) -> Self {
        self.input = Some(bytes);
        self
    }

    /// Its standard output, if it succeeds.
    pub(super) fn bytes(self) -> Result<Vec<u8>> {
        let command = self.args.first().map_or(String::new(), |arg| arg.to_string_lossy().into_owned());
        let output = self.output()?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(Error::Git { command, problem: complaint(&output) }),
        }
    }

    /// The same as text without the line's end.
    pub(super) fn text(self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes()?).trim_end_matches('\n').to_owned())
    }

    /// Whether it succeeds.
    pub(super) fn succeeds(self) -> Result<bool> {
        Ok(self.output()?.status.success())
    }

    fn output(self) -> Result<Output> {
        let mut command = Command::new("git");
        command.args(&self.args).current_dir(&self.git.folder).env_clear();
        command.envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        // What a configuration says in these variables is stronger than the repository's files.
        command.env("GIT_CONFIG_COUNT", self.git.settings.len().to_string());
        for (number, (key, value)) in self.git.settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0");
        command.env("GIT_NO_LAZY_FETCH", "1").env("GIT_ALLOW_PROTOCOL", "").env("GIT_EDITOR", "false");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        // Ctrl-C is for this program, which ends its children's work in good order.
        command.process_group(0);
        command.stdin(match (&self.input, &self.git.held) {
            (Some(_), _) => Stdio::piped(),
            (None, Some(held)) => Stdio::from(held.try_clone().map_err(not_started)?),
            (None, None) => Stdio::null(),
        });
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(not_started)?;
        let pipe = child.stdin.take();
        std::thread::scope(|scope| {
            if let (Some(mut pipe), Some(input)) = (pipe, self.input) {
                // A child that wants no more of it says why by its exit status.
                scope.spawn(move || drop(pipe.write_all(input)));
            }
            child.wait_with_output().map_err(not_started)
        })
    }
}

fn not_started(source: std::io::Error) -> Error {
    let problem = match source.kind() {
        std::io::ErrorKind::NotFound => {
            "the program is not here; install git, or run without --commit".to_owned()
        }
        _ => source.to_string(),
    };
    Error::Git { command: "(start)".to_owned(), problem }
}

/// The first lines of what git says, without marks of its own.
fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).take(3).collect();
    let said = lines.join("; ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let said = said.trim_start_matches("fatal: ").trim_start_matches("error: ").to_owned();
    if said.is_empty() { output.status.to_string() } else { said }
}
