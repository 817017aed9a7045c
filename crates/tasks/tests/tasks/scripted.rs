//! A writer that says what it was told to, and a folder to work in.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use coder_tasks::{
    DraftOptions, Prompt, Reply, Sandbox, Settings, Task, TaskResult, Usage, Workspace, Writer, WriterError,
};

/// Settings of tests whose commands are their own: nothing is kept from them.
pub(crate) fn settings() -> Settings {
    Settings { sandbox: Sandbox::off(), ..Settings::default() }
}

/// Gives its replies in turn and remembers what it was asked.
#[derive(Default)]
pub(crate) struct Scripted {
    pub(crate) replies: VecDeque<Result<String, WriterError>>,
    pub(crate) asked: Vec<(Prompt, DraftOptions)>,
    /// Why it cannot be held to edits.
    pub(crate) unfit: Option<String>,
    /// Called when it is asked, before it replies.
    pub(crate) on_draft: Option<Box<dyn Fn()>>,
}

impl Scripted {
    pub(crate) fn new<const N: usize>(contents: [&str; N]) -> Scripted {
        let replies = contents.map(|content| Ok(format!("```python\n{content}\n```"))).into();
        Scripted { replies, ..Scripted::default() }
    }
}

impl Writer for Scripted {
    fn unfit(&mut self, _: &Prompt, _: DraftOptions) -> Option<String> {
        self.unfit.clone()
    }

    fn draft(&mut self, prompt: &Prompt, options: DraftOptions) -> Result<Reply, WriterError> {
        self.asked.push((prompt.clone(), options));
        if let Some(act) = &self.on_draft {
            act();
        }
        let text = self.replies.pop_front().expect("one reply more than was asked for")?;
        let usage = Usage { prompt_tokens: 10, cached_tokens: 4, completion_tokens: 5 };
        Ok(Reply { text, usage, seconds: 0.5, cost_usd: 0.0, model: "scripted".to_owned() })
    }
}

/// Whatever the rung, this writer.
pub(crate) fn only<'w>(
    writer: impl Into<Option<&'w mut Scripted>>,
) -> impl FnMut(&str) -> Option<Box<dyn Writer + 'w>> {
    let mut writer = writer.into();
    move |_| Some(Box::new(writer.take()?))
}

/// A private folder with files in it, and a private folder for the state of workspaces.
pub(crate) struct Folder(tempfile::TempDir, tempfile::TempDir);

impl Folder {
    pub(crate) fn new(files: &[(&str, &str)]) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (path, content) in files {
            let path = folder.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        folder
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    pub(crate) fn workspace(&self) -> Workspace {
        Workspace::open(self.0.path(), self.state()).unwrap()
    }

    /// A workspace in a folder of this one.
    pub(crate) fn workspace_in(&self, folder: &str) -> Workspace {
        Workspace::open(&self.path(folder), self.state()).unwrap()
    }

    pub(crate) fn state(&self) -> &Path {
        self.1.path()
    }

    /// Every file and folder.
    pub(crate) fn tree(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(self.0.path(), self.0.path(), &mut found);
        found.sort();
        found
    }

    pub(crate) fn run(&self, task: &Task, writer: Option<&mut Scripted>) -> TaskResult {
        self.run_with(task, writer, &settings(), &AtomicBool::new(false))
    }

    pub(crate) fn run_with(
        &self,
        task: &Task,
        writer: Option<&mut Scripted>,
        settings: &Settings,
        cancel: &AtomicBool,
    ) -> TaskResult {
        let writers = &mut only(writer);
        coder_tasks::run_task(task, &self.workspace(), writers, settings, &mut |_| {}, cancel)
    }
}

fn list(root: &Path, dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && !path.is_symlink() {
            list(root, &path, found);
        }
        found.push(name);
    }
}

/// A JSON task whose command is a script for `sh`.
pub(crate) fn task(file: &str, script: Option<&str>) -> Task {
    let spec = serde_json::json!({
        "task_id": "T-1", "description": "Set x.", "output_file": file,
        "test_command": script.map(|script| ["sh", "-c", script]),
    });
    Task::parse("t.json", &spec.to_string()).unwrap()
}
