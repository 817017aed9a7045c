//! A repository to run plans in, and what it looks like afterwards.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use coder_tasks::{Conduct, Crew, Error, Event, Finished, Plan, Sandbox, Settings, Task, run_plan};

/// A repository with one commit, a state folder beside it, and the user's identity for git.
pub(crate) struct Repository {
    folder: tempfile::TempDir,
    /// What happened, in words.
    pub(crate) events: Mutex<Vec<String>>,
}

impl Repository {
    pub(crate) fn new(files: &[(&str, &str)]) -> Repository {
        let made = Repository { folder: tempfile::tempdir().unwrap(), events: Mutex::default() };
        std::fs::create_dir(made.root()).unwrap();
        made.git(&["init", "--quiet", "--initial-branch=main", "."]);
        for (key, value) in [("user.name", "Ada"), ("user.email", "ada@example.org")] {
            made.git(&["config", key, value]);
        }
        files.iter().for_each(|(path, text)| made.write(path, text));
        made.git(&["add", "--all"]);
        made.git(&["commit", "--quiet", "--allow-empty", "--message", "first"]);
        made
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("checkout")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    /// What git says.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        // One test sets such variables for the program; they are not meant for what the tests themselves do.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GIT_")) {
            command.env_remove(name);
        }
        let output = command.args(args).current_dir(self.root()).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The subjects of the commits, the newest first.
    pub(crate) fn subjects(&self) -> Vec<String> {
        self.git(&["log", "--format=%s"]).lines().map(str::to_owned).collect()
    }

    pub(crate) fn conduct(&self, jobs: usize) -> Conduct {
        Conduct {
            name: "plan".to_owned(),
            jobs,
            commit: true,
            state: self.state(),
            record: true,
            resume: false,
            restart: false,
            stash: false,
        }
    }

    pub(crate) fn run(&self, tasks: &[Task], conduct: &Conduct) -> Result<Vec<Finished>, Error> {
        self.run_in(&self.root(), tasks, conduct, &|_| {})
    }

    pub(crate) fn run_in(
        &self,
        folder: &Path,
        tasks: &[Task],
        conduct: &Conduct,
        observe: &(dyn Fn(&str) + Sync),
    ) -> Result<Vec<Finished>, Error> {
        let plan = Plan::new(tasks.to_vec())?;
        let crew = Crew {
            settings: &|_| Settings { sandbox: Sandbox::off(), ..Settings::default() },
            writer: &|_, _| None,
            observe: &|task, event| {
                let id = &plan.tasks[task].id;
                let words = match event {
                    Event::Begun => format!("{id} begun"),
                    Event::Again(reason) => format!("{id} again: {reason}"),
                    Event::Ended(_) => format!("{id} ended"),
                    Event::Step(_) => return,
                };
                observe(&words);
                self.events.lock().unwrap().push(words);
            },
            cancel: &AtomicBool::new(false),
        };
        run_plan(&plan, folder, conduct, &crew)
    }

    /// Demands that nothing is left but the work: no worktree, branch, lock, temporary file or record.
    pub(crate) fn assert_clean(&self, branch: &str) {
        assert_eq!(self.git(&["status", "--porcelain"]), "", "the checkout is not clean");
        assert_eq!(self.git(&["for-each-ref", "--format=%(refname)"]), branch);
        assert_eq!(self.git(&["stash", "list"]), "");
        assert_eq!(self.git(&["worktree", "list", "--porcelain"]).matches("worktree ").count(), 1);
        let mut names: Vec<String> = std::fs::read_dir(self.path(".git"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.retain(|name| {
            let known =
                ["HEAD", "config", "description", "hooks", "info", "objects", "refs", "index", "logs"];
            !known.contains(&name.as_str()) && !["COMMIT_EDITMSG", "branches"].contains(&name.as_str())
        });
        assert!(names.is_empty(), "strays in .git: {names:?}");
        self.assert_no_strays_in_the_state();
    }

    /// The record and the locks, and nothing else.
    pub(crate) fn assert_no_strays_in_the_state(&self) {
        for plan in std::fs::read_dir(self.state().join("plans")).unwrap() {
            let names =
                std::fs::read_dir(plan.unwrap().path()).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = names.collect();
            names.sort();
            assert_eq!(names, ["children", "lock", "record.json"]);
        }
    }
}

/// A task that carries its own code as a whole file.
pub(crate) fn whole(id: &str, file: &str, code: &str, run: &str) -> Task {
    let text = format!(
        "---\nid: {id}\n---\n# Task: Write {id}\n\n## File\n{file}\n\n## Code\n```\n{code}\n```\n\n\
         ## Verification\nRun: {run}\n"
    );
    Task::parse(&format!("{id}.md"), &text).unwrap()
}

/// A task that inserts a line at the top of a file.
pub(crate) fn insert(id: &str, file: &str, line: &str) -> Task {
    let text = format!(
        "---\nid: {id}\n---\n# Task: Insert {id}\n\n## File\n{file}\n\n## Code to add at line 1\n```\n{line}\n```\n\n\
         ## Verification\nRun: grep -q {line} {file}\n"
    );
    Task::parse(&format!("{id}.md"), &text).unwrap()
}

/// The same with dependencies.
pub(crate) fn after(task: Task, ids: &[&str]) -> Task {
    Task { depends_on: ids.iter().map(|id| (*id).to_owned()).collect(), ..task }
}
