//! What the tests of the program share.

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// The user's state folder, of all tests together: so the ledger is written by many processes at once.
pub(crate) const STATE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/state");

/// The program, with the user's other folders in a place that does not exist.
pub(crate) fn coder(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coder"));
    command.args(args).env("XDG_STATE_HOME", STATE);
    command.env("XDG_DATA_HOME", "/nonexistent").env("XDG_CONFIG_HOME", "/nonexistent");
    command.env("HF_HOME", "/nonexistent").env_remove("HF_HUB_CACHE");
    // What tasks build belongs into their own folder.
    command.env_remove("CARGO_TARGET_DIR");
    command
}

/// Runs it with nothing on standard input.
pub(crate) fn output(args: &[&str]) -> Output {
    coder(args).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs it, expects success, reads one JSON value.
pub(crate) fn json(args: &[&str]) -> Value {
    let output = output(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A folder with these files.
pub(crate) fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

/// A copy of a folder of the repository, without what was built in it.
pub(crate) fn copy_of(from: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(from), folder.path());
    folder
}

/// The same into a folder.
pub(crate) fn copy_into(from: &str, to: &Path) {
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(from), to);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if from.is_dir() && !from.ends_with("target") && !from.ends_with(".coder") {
            copy(&from, &to);
        } else if from.is_file() {
            std::fs::copy(from, to).unwrap();
        }
    }
}

pub(crate) fn text(path: impl AsRef<Path>) -> &'static str {
    // Leaked: a test's paths live as long as the test anyway.
    Box::leak(path.as_ref().to_str().unwrap().to_string().into_boxed_str())
}

/// A path in the data set that may lie beside the checkout.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.ancestors().skip(1).map(|folder| folder.join("shared/data").join(path)).find(|path| path.exists())
}
