//! Which files of a folder are tasks.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{MAX_TASK_BYTES, Task, markdown};
use crate::{Error, Result};

/// What a path means, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The task files.
    pub tasks: Vec<PathBuf>,
    /// Markdown and JSON beside them that is not meant as a task. Notes called `README` are not among them.
    pub passed_over: Vec<PathBuf>,
}

impl Task {
    /// The task files that a path means: the file itself, or the tasks of a folder (not of folders in it).
    pub fn list(path: &Path) -> Result<Listing> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        if !std::fs::metadata(path).map_err(io)?.is_dir() {
            return Ok(Listing { tasks: vec![path.to_owned()], passed_over: Vec::new() });
        }
        let mut found = Listing::default();
        for entry in std::fs::read_dir(path).map_err(io)? {
            let file = entry.map_err(io)?.path();
            let is_file = std::fs::metadata(&file).is_ok_and(|meta| meta.is_file());
            let Some(format) = ending(&file).filter(|_| is_file && !crate::plan::is_batches(&file)) else {
                continue;
            };
            if is_meant(&file, &format) {
                found.tasks.push(file);
            } else if !is_readme(&file) {
                found.passed_over.push(file);
            }
        }
        found.tasks.sort();
        found.passed_over.sort();
        Ok(found)
    }

    /// Reads every task of a file or folder; the first bad one is an error.
    pub fn load_all(path: &Path) -> Result<Vec<Task>> {
        Task::list(path)?.tasks.iter().map(|file| Task::load(file)).collect()
    }
}

/// The ending of a file that may be a task, in lower case.
fn ending(file: &Path) -> Option<String> {
    let ending = file.extension()?.to_str()?.to_ascii_lowercase();
    matches!(ending.as_str(), "json" | "md" | "markdown").then_some(ending)
}

/// Whether a file is meant as a task. A broken task still is one, so that its error is seen: one that is too large, that
/// is in another coding, or that cannot be read at all.
fn is_meant(file: &Path, ending: &str) -> bool {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(MAX_TASK_BYTES).read_to_end(&mut bytes));
    if read.is_err() {
        return true;
    }
    // UTF-16 is readable without its zeros.
    let text = String::from_utf8_lossy(&bytes).replace(['\0', '\u{fffd}', '\u{feff}'], "");
    match ending {
        "json" => ["\"task_id\"", "\"output_file\"", "\"output_files\""].iter().any(|key| text.contains(key)),
        _ => markdown::is_meant(&text),
    }
}

fn is_readme(file: &Path) -> bool {
    file.file_stem().is_some_and(|stem| stem.eq_ignore_ascii_case("readme"))
}
