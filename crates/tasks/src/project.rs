//! The files of a project that a model may be shown: those that git does not ignore, that are not hidden, hold no secrets by
//! their names, are denied by nobody, and are text that somebody wrote.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ignore::{DirEntry, WalkBuilder};

use crate::prompt::ContextFile;
use crate::related::{self, Passage};
use crate::task::Task;
use crate::workspace::Workspace;
use crate::{Result, language, path};

/// The most bytes of a file; longer ones are data.
const LONGEST: u64 = 512 << 10;

/// The most bytes of all files together: what is found in some seconds.
const ALL: u64 = 16 << 20;

/// Ends of names of files that programs write.
const GENERATED: [&str; 8] =
    [".lock", "-lock.json", "-lock.yaml", ".lockb", ".min.js", ".min.css", ".map", ".svg"];

/// The texts of a project, and what of it is too much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Project {
    /// The files, in the order of their paths.
    pub files: Vec<ContextFile>,
    /// How many further ones were not looked at, because all of them would be more than 16 MiB.
    pub left_out: usize,
}

/// Which files are shown to no model that was not told of them, besides those with secrets by their names.
#[derive(Clone, Default)]
pub struct Denied(Option<Arc<Test>>);

type Test = dyn Fn(&str) -> bool + Send + Sync;

impl Denied {
    /// Those of which this holds, by their paths.
    pub fn by(denies: impl Fn(&str) -> bool + Send + Sync + 'static) -> Denied {
        Denied(Some(Arc::new(denies)))
    }

    fn has(&self, path: &str) -> bool {
        self.0.as_ref().is_some_and(|denies| denies(path))
    }
}

impl fmt::Debug for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Denied").field(&self.0.is_some()).finish()
    }
}

impl PartialEq for Denied {
    fn eq(&self, other: &Denied) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

/// Names of a folder's files without those that git ignores and hidden ones, in the order of their paths.
pub fn names(folder: &Path) -> impl Iterator<Item = String> {
    let walk = WalkBuilder::new(folder).require_git(false).sort_by_file_path(Path::cmp).build();
    let files = walk.flatten().filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()));
    files.filter_map(move |entry: DirEntry| {
        let name = entry.path().strip_prefix(folder).ok()?.to_str()?.to_owned();
        (!name.chars().any(char::is_control)).then_some(name)
    })
}

impl Project {
    /// Reads the files of a workspace that are text. What cannot be read is not among them: nothing depends on one file.
    pub fn read(workspace: &Workspace, denied: &Denied) -> Project {
        Project::within(ALL, workspace, denied)
    }

    /// The same of files that have at most so many bytes together: sources, and then what is data by its name.
    fn within(most: u64, workspace: &Workspace, denied: &Denied) -> Project {
        let root = workspace.path();
        let may = |path: &String| {
            let name = path.to_ascii_lowercase();
            !path::is_secret(path) && !GENERATED.iter().any(|end| name.ends_with(end)) && !denied.has(path)
        };
        let sized = |path: String| {
            let bytes = root.join(&path).symlink_metadata().ok()?.len();
            (bytes <= LONGEST).then_some((path, bytes))
        };
        let mut found: Vec<_> = names(root).filter(may).filter_map(sized).enumerate().collect();
        found.sort_by_key(|(_, (path, _))| matches!(language::of(path), "" | "json" | "xml" | "yaml"));
        let (mut read, mut all, mut left_out) = (Vec::new(), 0, 0);
        for (at, (path, bytes)) in found {
            all += bytes;
            if all > most {
                left_out += 1;
            } else if let Ok(content) = workspace.read(&path, LONGEST)
                && !is_key(&content)
            {
                read.push((at, ContextFile { path, content }));
            }
        }
        read.sort_by_key(|(at, _)| *at);
        Project { files: read.into_iter().map(|(_, file)| file).collect(), left_out }
    }

    /// The same as [`read`](Self::read), of a folder.
    pub fn open(folder: &Path, denied: &Denied) -> Result<Project> {
        // Nothing is written, so there is no place for a state.
        Ok(Project::read(&Workspace::open(folder, Path::new(""))?, denied))
    }

    /// The passages that share a word with `text`, the best first.
    pub fn passages(&self, text: &str) -> Vec<Passage<'_>> {
        related::passages(self.files.iter().map(|file| (file.path.as_str(), file.content.as_str())), text)
    }

    /// The files that share a word with `text`, the best first.
    pub fn found(&self, text: &str) -> Vec<&str> {
        related::files(self.passages(text))
    }

    /// The files that belong to a task, the best first, without those that it names itself and without tasks: the one it was
    /// read from, and those that lie beside that.
    pub fn related(&self, task: &Task, most: usize) -> Vec<String> {
        let words = [task.title.as_deref().unwrap_or(""), &task.description];
        let words = words.into_iter().chain(task.files.iter().chain(&task.constraints).map(String::as_str));
        let found = self.found(&words.collect::<Vec<_>>().join("\n"));
        let own = |path: &str| [&task.files, &task.context].into_iter().flatten().any(|own| own == path);
        // By the end of its path: the task may have been read in one checkout, and be done in another.
        let source = std::path::absolute(&task.source).unwrap_or_default();
        let is_task = |path: &str| {
            let folder = Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty());
            let beside = folder.zip(source.parent()).is_some_and(|(folder, of)| of.ends_with(folder));
            source.ends_with(path) || beside && (path.ends_with(".md") || path.ends_with(".json"))
        };
        let others = found.into_iter().filter(|path| !own(path) && !is_task(path));
        others.take(most).map(str::to_owned).collect()
    }
}

/// Whether a text is a private key, whatever its file is called.
fn is_key(text: &str) -> bool {
    let first = text.trim_start().lines().next().unwrap_or_default();
    first.starts_with("-----BEGIN ") && first.contains("PRIVATE KEY")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(files: &[(&str, &[u8])]) -> (tempfile::TempDir, tempfile::TempDir, Workspace) {
        let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (path, content) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let workspace = Workspace::open(folder.path(), state.path()).unwrap();
        (folder, state, workspace)
    }

    #[test]
    fn what_is_ignored_hidden_secret_generated_or_no_text_is_not_read() {
        let long = vec![b'x'; LONGEST as usize + 1];
        let (_folder, _state, workspace) = workspace(&[
            ("src/a.rs", b"fn a() {}\n"),
            ("b.md", b"# B\n"),
            (".env", b"K=1\n"),
            (".gitignore", b"out\n"),
            ("out/x.rs", b"fn x() {}\n"),
            ("server.pem", b"key\n"),
            ("prod.env", b"KEY=1\n"),
            ("deploy_key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb\n"),
            ("private/notes.md", b"Notes\n"),
            ("Cargo.lock", b"[[package]]\n"),
            ("picture.png", b"\x89PNG\0"),
            ("data.json", &long),
        ]);
        assert_eq!(
            names(workspace.path()).collect::<Vec<_>>(),
            [
                "Cargo.lock",
                "b.md",
                "data.json",
                "deploy_key",
                "picture.png",
                "private/notes.md",
                "prod.env",
                "server.pem",
                "src/a.rs"
            ]
        );
        let project = Project::read(&workspace, &Denied::by(|path| path.starts_with("private/")));
        assert_eq!(
            project.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
            ["b.md", "src/a.rs"]
        );
        assert_eq!(project.left_out, 0);
    }

    #[test]
    fn of_too_much_the_sources_are_read_and_the_rest_is_counted() {
        let (_folder, _state, workspace) = workspace(&[
            ("assets/a.txt", b"some words\n"),
            ("assets/b.txt", b"more words\n"),
            ("data.json", b"[]\n"),
            ("src/a.rs", b"fn a() {}\n"),
            ("src/b.rs", b"fn b() {}\n"),
        ]);
        let of = |most| {
            let project = Project::within(most, &workspace, &Denied::default());
            let paths: Vec<String> = project.files.into_iter().map(|file| file.path).collect();
            (paths.join(" "), project.left_out)
        };
        assert_eq!(of(20), ("src/a.rs src/b.rs".to_owned(), 3));
        assert_eq!(of(35), ("assets/a.txt src/a.rs src/b.rs".to_owned(), 2));
        assert_eq!(of(100).1, 0);
    }

    #[test]
    fn a_task_has_related_files_beside_its_own() {
        let file = |path: &str, content: &str| ContextFile { path: path.into(), content: content.into() };
        let project = Project {
            files: vec![
                file("src/price.rs", "pub fn price_of(tokens: u64) -> f64 { 0.0 }\n"),
                file("src/ledger.rs", "pub fn write_price(row: Row) {}\n"),
                file("src/report.rs", "pub fn price_report() {}\n"),
                file("src/other.rs", "pub fn nothing() {}\n"),
            ],
            left_out: 0,
        };
        let mut task = Task::of_text("Print the price of the tokens in the report", Some("src/report.rs"));
        // The last has only the words of its path in common.
        assert_eq!(project.related(&task, 5), ["src/price.rs", "src/ledger.rs", "src/other.rs"]);
        assert_eq!(project.related(&task, 1), ["src/price.rs"]);
        // No task belongs to another.
        let mut planned = project.clone();
        let words = "Print the price of the tokens in the report\n";
        for path in ["tasks/001.md", "tasks/002.md", "003.md"] {
            planned.files.push(file(path, words));
        }
        task.source = "/somewhere/else/tasks/001.md".into();
        assert_eq!(planned.related(&task, 2), ["003.md", "src/price.rs"]);
        task.context.push("src/price.rs".into());
        assert_eq!(project.related(&task, 1), ["src/ledger.rs"]);
    }
}
