//! `coder serve`: the program, its signals, its key and its log.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use crate::support::{coder, folder, json, output, stderr, text};

/// A server that listens, and the rest of what it says.
pub(crate) struct Serving {
    child: Child,
    address: String,
    log: BufReader<ChildStderr>,
    said: String,
}

fn serve(args: &[&str], key: Option<&str>) -> Serving {
    let mut command = command(args);
    if let Some(key) = key {
        command.env("CODER_API_KEY", key);
    }
    started(command)
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coder"));
    command.args(["serve", "--port", "0"]).args(args).env_remove("CODER_API_KEY");
    command
}

/// A server of this command, once it listens.
#[expect(clippy::zombie_processes, reason = "what is returned waits for its end")]
pub(crate) fn started(mut command: Command) -> Serving {
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    loop {
        let mut line = String::new();
        if log.read_line(&mut line).unwrap() == 0 {
            panic!("it ended with {}: {said}", child.wait().unwrap());
        }
        if let Some(address) = line.strip_prefix("listening on http://") {
            let address = address.trim().replace("0.0.0.0", "127.0.0.1");
            return Serving { child, address, log, said };
        }
        said += &line;
    }
}

impl Serving {
    pub(crate) fn begin(&self, head: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let length = body.len();
        let text = format!(
            "{head} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}",
            self.address
        );
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    pub(crate) fn ask(&self, head: &str, body: &str) -> String {
        let mut answer = String::new();
        self.begin(head, body).read_to_string(&mut answer).unwrap();
        answer
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Its exit code and all that it said.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        self.log.read_to_string(&mut self.said).unwrap();
        (self.child.wait().unwrap().code(), std::mem::take(&mut self.said))
    }
}

impl Drop for Serving {
    /// A server that no test ends ends with its test.
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

const SECRET: &str = "Classify: the zanzibar login fails";

/// Covers S0-09, S0-15, S0-16, S2-25: an answer where other programs look for it; else a status that says no.
#[test]
fn it_serves_until_it_is_told_to_end() {
    let serving = serve(&["--alias", "claude-*=coder-tiny", "--log", "json"], None);
    let body = format!(r#"{{"model": "free", "messages": [{{"role": "user", "content": "{SECRET}"}}]}}"#);
    let answer = serving.ask("POST /v1/chat/completions", &body);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let (_, json) = answer.split_once("\r\n\r\n").unwrap();
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert!(
        json["choices"][0]["message"]["content"].as_str().is_some_and(|text| !text.is_empty()),
        "{answer}"
    );
    assert!(serving.ask("GET /api/tags", "").contains(r#""name":"free""#));
    let wrong = format!(r#"{{"model": "zanzibar", "messages": "{SECRET}", "max_tokens": "{SECRET}"}}"#);
    let refused = serving.ask("POST /v1/chat/completions", &wrong);
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
    // An answer that grows when the signal comes is completed.
    let long = r#"{"model": "claude-x", "max_tokens": 200, "stream": true, "temperature": 1,
        "messages": [{"role": "user", "content": "Write a Python function `f`."}]}"#;
    let mut growing = serving.begin("POST /v1/messages", long);
    growing.read_exact(&mut [0; 200]).unwrap();
    serving.signal("-TERM");
    let mut rest = String::new();
    growing.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("event: message_stop"), "{rest}");
    let (code, log) = serving.end();
    assert_eq!(code, Some(0), "{log}");
    // Numbers are in the log, words are not.
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answered = lines.iter().filter(|line| line["fields"]["message"] == "answered").count();
    assert_eq!(answered, 2, "{log}");
    assert!(
        !log.contains("login") && !log.contains("zanzibar") && !log.contains("FEAT") && !log.contains("def "),
        "{log}"
    );
}

/// Whoever reads the log may go away; the clients stay.
#[test]
fn a_log_that_cannot_be_written_ends_no_answer() {
    let mut serving = serve(&[], None);
    // An end of a pipe that nobody reads, in its place.
    serving.log = {
        let mut other = Command::new("true").stderr(Stdio::piped()).spawn().unwrap();
        other.wait().unwrap();
        BufReader::new(other.stderr.take().unwrap())
    };
    for _ in 0..2 {
        let body = r#"{"max_tokens": 2, "messages": [{"role": "user", "content": "x"}]}"#;
        let answer = serving.ask("POST /v1/chat/completions", body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(serving.ask("GET /nothing", "").starts_with("HTTP/1.1 404"));
    }
    serving.signal("-TERM");
    assert_eq!(serving.end().0, Some(0));
}

#[cfg(unix)]
#[test]
fn it_ends_while_it_loads() {
    let folder = folder(&[]);
    let pipe = text(folder.path().join("template"));
    assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
    let mut command = command(&["--chat-template", pipe]);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    // It is there once the server reads, which waits for what is never written.
    let writer = std::fs::File::options().write(true).open(pipe).unwrap();
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
    drop(writer);
}

#[cfg(unix)]
#[test]
fn a_key_that_nobody_can_send_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    for key in [&b"sk-\xff"[..], "klíč".as_bytes(), b"two words"] {
        let key = std::ffi::OsStr::from_bytes(key);
        let output = coder(&["serve", "--port", "0"]).env("CODER_API_KEY", key).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("visible ASCII"), "{}", stderr(&output));
    }
}

/// Covers S2-24: the request of a helper in a shell, with its key.
#[test]
fn elsewhere_than_on_loopback_a_key_is_needed() {
    let serving = serve(&["--host", "0.0.0.0"], None);
    // The log follows it.
    let note = serving.said.lines().next().unwrap();
    let (_, key) = note.rsplit_once(' ').unwrap();
    assert!(key.starts_with("sk-") && serving.said.starts_with("note: 0.0.0.0"), "{}", serving.said);
    assert!(serving.ask("GET /v1/models", "").starts_with("HTTP/1.1 401"));
    let with_key = format!("GET /v1/models HTTP/1.1\r\nx-api-key: {key}\r\nx-rest:");
    assert!(serving.ask(&with_key, "").starts_with("HTTP/1.1 200"));
    serving.signal("-INT");
    assert_eq!(serving.end().0, Some(0));

    let serving = serve(&["--host", "0.0.0.0", "--log", "none"], Some("sk-mine"));
    assert_eq!(serving.said, "");
    let with_key = "POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer sk-mine\r\nx-rest:";
    let body = r#"{"model": "free", "max_tokens": 5, "temperature": 0.2,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Reply OK"}]}"#;
    assert!(serving.ask(with_key, body).starts_with("HTTP/1.1 200"));
    serving.signal("-TERM");
    assert_eq!(serving.end(), (Some(0), String::new()));
}

/// Covers S1-49: what `coder stats` says is on the page.
#[test]
fn the_board_shows_what_the_ledger_says() {
    let insert = "---\nname: insert\nmodel: local\n---\n# Task: Add a line\n\n## File to modify\nnotes.txt\n\n\
                  ## Code to add at line 1\n```\none\n```\n\n## Verification\nRun: grep -q one notes.txt\n";
    let fail = r#"{"task_id": "T-001", "description": "Write a function `f` that returns `x` plus 1.",
        "output_file": "f.py", "context_files": [], "constraints": [], "test_command": "false"}"#;
    let work = folder(&[("insert.md", insert), ("fail.json", fail), ("notes.txt", "two\n")]);
    let state = folder(&[]);
    let place = text(state.path());
    let tasks = |args: &[&str]| -> Option<serde_json::Value> {
        let serving = serve(args, None);
        let answer = serving.ask("GET /api/board", "");
        serving.signal("-TERM");
        assert_eq!(serving.end().0, Some(0));
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let board: serde_json::Value = serde_json::from_str(body).unwrap();
        board.get("tasks").cloned()
    };
    let before = tasks(&["--state-dir", place]).unwrap();
    assert_eq!((&before["tasks"], &before["tiers"]), (&0.into(), &serde_json::json!([])));
    for (task, code) in [("insert.md", 0), ("fail.json", 1)] {
        let run = coder(&["run", task, "--state-dir", place]).current_dir(work.path()).output().unwrap();
        assert_eq!(run.status.code(), Some(code), "{}", stderr(&run));
    }
    let shown = tasks(&["--state-dir", place]).unwrap();
    let stats = json(&["stats", "--json", "--state-dir", place]);
    let counts = &stats["counts"];
    for (name, expected) in [
        ("tasks", &counts["tasks"]),
        ("complete", &counts["complete"]),
        ("approved", &counts["verified"]),
        ("blocked", &counts["blocked"]),
        ("local", &counts["delegated"]),
        ("escalated", &stats["localModelStats"]["escalatedToCloud"]),
        ("cloud_usd", &stats["cost"]["cloud_usd"]),
        ("baseline_usd", &stats["cost"]["all_best_usd"]),
        ("electricity_usd", &stats["cost"]["electricity_usd"]),
    ] {
        assert_eq!(&shown[name], expected, "{name}");
    }
    assert_eq!(shown["tiers"][0]["name"], "local");
    assert_eq!(shown["tiers"][0]["attempts"], counts["tiers"]["local"]["attempts"]);
    assert!(shown["local_tokens"].as_u64() > Some(20), "{shown}");
    assert_eq!(shown["days"].as_array().map(Vec::len), Some(1));
    assert_eq!(tasks(&["--no-ledger"]), None);
}

#[test]
fn what_cannot_be_served_is_said_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let busy = output(&["serve", "--port", &port, "--log", "none"]);
    assert_eq!(busy.status.code(), Some(1));
    assert!(stderr(&busy).contains("choose another --port"), "{}", stderr(&busy));
    // An address for documentation (RFC 5737), which no machine has.
    let elsewhere = output(&["serve", "--host", "192.0.2.1", "--port", "0", "--log", "none"]);
    assert!(stderr(&elsewhere).contains("choose another --host"), "{}", stderr(&elsewhere));
    let nobody = output(&["serve", "--alias", "x=nobody"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(stderr(&nobody).contains("no model `nobody`"), "{}", stderr(&nobody));
    assert_eq!(coder(&["serve", "--alias", "x"]).output().unwrap().status.code(), Some(2));
    for nothing in [["--max-tokens", "0"], ["--max-time", "0"], ["--threads", "20000"]] {
        let output = output(&[&["serve"], &nothing[..]].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(nothing[0]), "{}", stderr(&output));
    }
    let most = usize::MAX.to_string();
    for (option, name) in [("--cache", "cache"), ("--parallel", "parallel")] {
        let output = output(&["serve", "--log", "none", option, &most]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(name) && stderr(&output).contains(&most), "{}", stderr(&output));
    }
}
