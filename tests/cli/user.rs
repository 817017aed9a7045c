//! A user with cloud rungs behind a server of the test's own, and tasks that only some answers pass.

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::Server;
use crate::support::{coder, folder, stderr, stdout};

/// A user with a configuration, a state folder and a task.
pub(crate) struct User {
    pub(crate) config: TempDir,
    pub(crate) state: TempDir,
    pub(crate) work: TempDir,
}

impl User {
    /// All cloud rungs stand behind one server.
    pub(crate) fn new(server: &Server, more: &str, files: &[(&str, &str)]) -> User {
        let rung = |name: &str, input: f64, output: f64| {
            format!(
                "[rungs.{name}]\nendpoint = \"fake\"\nmodel = \"model-{name}\"\n\
                 price = {{ input_usd = {input}, output_usd = {output} }}\n"
            )
        };
        let rungs = rung("haiku", 1.0, 5.0) + &rung("sonnet", 2.0, 10.0) + &rung("opus", 4.0, 20.0);
        let endpoint = format!(
            "[endpoints.fake]\ndialect = \"openai\"\nurl = \"{}\"\nidle_s = 1\ndeadline_s = 20\n",
            server.url
        );
        let config = folder(&[("coder/coder.toml", &format!("{more}\n{endpoint}{rungs}"))]);
        User { config, state: tempfile::tempdir().unwrap(), work: folder(files) }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = coder(args);
        command.env("XDG_CONFIG_HOME", self.config.path()).env("XDG_STATE_HOME", self.state.path());
        command.current_dir(self.work.path());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> (Option<i32>, Value, String) {
        let args = [&["run", "--no-sandbox", "--output-format", "json"], args].concat();
        let output = self.command(&args).output().unwrap();
        let value = serde_json::from_slice(&output.stdout);
        let said = stderr(&output);
        (
            output.status.code(),
            value.unwrap_or_else(|error| panic!("{error}: {} {said}", stdout(&output))),
            said,
        )
    }

    pub(crate) fn log(&self) -> Value {
        let output = self.command(&["stats", "--log", "--json"]).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["tasks"].clone()
    }
}

pub(crate) const REVIEW_OFF: &str = "review.when = \"never\"";

/// A task that only a text with this word passes.
pub(crate) fn task(word: &str) -> String {
    json!({
        "task_id": "T-001", "description": "Write a text about the sea", "output_file": "out.txt",
        "test_command": ["grep", "-q", word, "out.txt"],
    })
    .to_string()
}

pub(crate) fn fenced(content: &str) -> String {
    format!("```text\n{content}\n```")
}

pub(crate) fn asks_for(body: &Value) -> &str {
    body["model"].as_str().unwrap().strip_prefix("model-").unwrap()
}

pub(crate) fn said(body: &Value) -> String {
    body["messages"].as_array().unwrap().iter().map(|message| message["content"].as_str().unwrap()).collect()
}
