//! The files of a project that a model may be shown: those that git does not ignore, that are not hidden, hold no secrets by
//! their names, and are text that somebody wrote.

use std::path::Path;

use ignore::{DirEntry, WalkBuilder};

use crate::prompt::ContextFile;
use crate::related::Index;
use crate::task::Task;
use crate::workspace::Workspace;
use crate::{Result, path};

/// The most bytes of a file; longer ones are data.
const LONGEST: u64 = 512 << 10;

/// The most bytes of all files together.
const ALL: usize = 64 << 20;

/// Ends of names of files that programs write.
const GENERATED: [&str; 8] =
    [".lock", "-lock.json", "-lock.yaml", ".lockb", ".min.js", ".min.css", ".map", ".svg"];

/// The texts of a project, and what of it is too much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Project {
    /// The files, in the order of their paths.
    pub files: Vec<ContextFile>,
    /// How many further ones there are, because all of them would be more than 64 MiB.
    pub left_out: usize,
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
    pub fn read(workspace: &Workspace) -> Project {
        let mut project = Project::default();
        let mut bytes = 0;
        for path in names(workspace.path()) {
            let name = path.to_ascii_lowercase();
            if path::is_secret(&path) || GENERATED.iter().any(|end| name.ends_with(end)) {
                continue;
            }
            let Ok(content) = workspace.read(&path, LONGEST) else { continue };
            bytes += content.len();
            match bytes > ALL {
                true => project.left_out += 1,
                false => project.files.push(ContextFile { path, content }),
            }
        }
        project
    }

    /// The same of a folder.
    pub fn open(folder: &Path) -> Result<Project> {
        // Nothing is written, so there is no place for a state.
        Ok(Project::read(&Workspace::open(folder, Path::new(""))?))
    }

    /// Its words.
    pub fn index(&self) -> Index<'_> {
        Index::new(self.files.iter().map(|file| (file.path.as_str(), file.content.as_str())))
    }

    /// The files that belong to a task, the best first, without those that it names itself and without tasks: the one it was
    /// read from, and those that lie beside that.
    pub fn related(&self, task: &Task, most: usize) -> Vec<String> {
        let words = [task.title.as_deref().unwrap_or(""), &task.description];
        let words = words.into_iter().chain(task.files.iter().chain(&task.constraints).map(String::as_str));
        let index = self.index();
        let found = index.files(&words.collect::<Vec<_>>().join("\n"));
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
            ("Cargo.lock", b"[[package]]\n"),
            ("picture.png", b"\x89PNG\0"),
            ("data.json", &long),
        ]);
        assert_eq!(
            names(workspace.path()).collect::<Vec<_>>(),
            ["Cargo.lock", "b.md", "data.json", "picture.png", "server.pem", "src/a.rs"]
        );
        let project = Project::read(&workspace);
        assert_eq!(
            project.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
            ["b.md", "src/a.rs"]
        );
        assert_eq!(project.left_out, 0);
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
