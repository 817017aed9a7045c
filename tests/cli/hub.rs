//! A hub with the paths and headers of Hugging Face's, and a second server that it sends to for the files, both on this
//! machine. They do as they are told, and remember what they were asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::coder;

/// The commit that everything is in.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The model that is served: a real one, so that what was fetched can be run.
pub(crate) fn tiny() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/models/coder-tiny.gguf")).unwrap()
}

/// A question that was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Whether it was asked of the second server.
    pub(crate) away: bool,
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// The first byte that was wanted.
    pub(crate) from: Option<u64>,
    pub(crate) token: Option<String>,
}

/// What the servers do with a question.
pub(crate) enum Act {
    /// As hubs do.
    Well,
    /// This status, with these headers and body.
    Status(u16, &'static str, &'static str),
    /// As hubs do, but the connection ends after so many bytes of the file.
    Cut(usize),
    /// As hubs do, but after so many bytes of the file it waits until it is let go on.
    Hold(usize),
    /// The whole file, whatever part was wanted.
    Whole,
    /// These bytes in place of the file's.
    Other(Vec<u8>),
    /// This text in place of the JSON.
    Says(String),
}

/// A file of a repository.
struct Stored {
    bytes: Vec<u8>,
    sha256: String,
}

/// Both servers. Their threads end with the process.
#[derive(Clone)]
pub(crate) struct Hub {
    pub(crate) url: String,
    away: String,
    shared: Arc<Shared>,
}

type Acts = Box<dyn Fn(&Asked, usize) -> Act + Send + Sync>;

struct Shared {
    /// By `OWNER/REPO/PATH`.
    files: BTreeMap<String, Stored>,
    asked: Mutex<Vec<Asked>>,
    acts: Acts,
    /// Questions that hold, and those that may go on.
    held: Mutex<(usize, usize)>,
    changed: Condvar,
}

impl Hub {
    /// Serves these files, each `OWNER/REPO/PATH`; `acts` is told how many questions were asked before.
    pub(crate) fn start(
        files: &[(&str, Vec<u8>)],
        acts: impl Fn(&Asked, usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let stored = |bytes: &Vec<u8>| Stored { sha256: sha256(bytes), bytes: bytes.clone() };
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), stored(bytes))).collect();
        let (asked, held) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { files, asked, acts: Box::new(acts), held, changed: Condvar::new() });
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (here, away) = (listen(), listen());
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let hub = Hub { url: url(&here), away: url(&away), shared };
        for (listener, is_away) in [(here, false), (away, true)] {
            let hub = hub.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let hub = hub.clone();
                    std::thread::spawn(move || hub.serve(stream, is_away));
                }
            });
        }
        hub
    }

    /// One that does everything well.
    pub(crate) fn good(files: &[(&str, Vec<u8>)]) -> Self {
        Self::start(files, |_, _| Act::Well)
    }

    /// Everything that was asked.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// First bytes of the requests for a file's content.
    pub(crate) fn contents(&self) -> Vec<u64> {
        self.asked().iter().filter(|asked| asked.away).map(|asked| asked.from.unwrap_or(0)).collect()
    }

    /// Waits until so many questions have held.
    pub(crate) fn wait_held(&self, count: usize) {
        let held = self.shared.held.lock().unwrap();
        drop(self.shared.changed.wait_while(held, |held| held.0 < count).unwrap());
    }

    /// Lets everything that holds go on.
    pub(crate) fn release(&self) {
        self.shared.held.lock().unwrap().1 = usize::MAX;
        self.shared.changed.notify_all();
    }

    fn serve(&self, stream: TcpStream, away: bool) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while let Some(asked) = read(&mut reader, away) {
            let act = {
                let mut all = self.shared.asked.lock().unwrap();
                let act = (self.shared.acts)(&asked, all.len());
                all.push(asked.clone());
                act
            };
            if self.answer(&mut stream, &asked, act).is_none() {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
    }

    /// Nothing if the connection is to end.
    fn answer(&self, stream: &mut TcpStream, asked: &Asked, act: Act) -> Option<()> {
        if let Act::Status(status, headers, body) = &act {
            return send(stream, *status, headers, body.as_bytes(), asked.method == "HEAD");
        }
        if asked.away { self.content(stream, asked, act) } else { self.hub(stream, asked, act) }
    }

    /// Answers as the hub itself.
    fn hub(&self, stream: &mut TcpStream, asked: &Asked, act: Act) -> Option<()> {
        let head = asked.method == "HEAD";
        let path = asked.path.split('?').next().unwrap_or_default().trim_matches('/');
        let parts: Vec<&str> = path.split('/').collect();
        if let Act::Says(text) = act {
            return send(stream, 200, "content-type: application/json\r\n", text.as_bytes(), head);
        }
        let json = |stream: &mut TcpStream, value: Value| {
            send(stream, 200, "content-type: application/json\r\n", value.to_string().as_bytes(), head)
        };
        match parts[..] {
            ["api", "models", owner, name, "revision", _] if self.has(&format!("{owner}/{name}/")) => {
                json(stream, self.info(&format!("{owner}/{name}")))
            }
            ["api", "models", owner, name, "tree", COMMIT] => {
                json(stream, self.tree(&format!("{owner}/{name}/")))
            }
            [owner, name, "resolve", COMMIT, ref file @ ..] => {
                let Some(stored) = self.shared.files.get(&format!("{owner}/{name}/{}", file.join("/")))
                else {
                    return send(stream, 404, "x-error-code: EntryNotFound\r\n", b"", head);
                };
                let headers = format!(
                    "location: {}/content/{}?signature=not-to-be-shown\r\nx-repo-commit: {COMMIT}\r\netag: \"{}\"\r\n\
                     x-linked-etag: \"{}\"\r\nx-linked-size: {}\r\n",
                    self.away,
                    stored.sha256,
                    stored.sha256,
                    stored.sha256,
                    stored.bytes.len()
                );
                send(stream, 302, &headers, b"", head)
            }
            _ => send(
                stream,
                404,
                "x-error-code: RepoNotFound\r\n",
                b"{\"error\":\"Repository not found\"}",
                head,
            ),
        }
    }

    /// Answers as the server that has the contents.
    fn content(&self, stream: &mut TcpStream, asked: &Asked, act: Act) -> Option<()> {
        let wanted = asked.path.trim_start_matches("/content/").split('?').next().unwrap_or_default();
        let stored = self.shared.files.values().find(|stored| stored.sha256 == wanted);
        let Some(stored) = stored else { return send(stream, 403, "", b"expired", false) };
        let bytes = if let Act::Other(other) = &act { other } else { &stored.bytes };
        let from = asked.from.filter(|_| !matches!(act, Act::Whole)).unwrap_or(0) as usize;
        let rest = &bytes[from.min(bytes.len())..];
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        let range =
            format!("content-range: bytes {from}-{}/{}\r\n", bytes.len().saturating_sub(1), bytes.len());
        let head = format!(
            "HTTP/1.1 {status}\r\n{}content-length: {}\r\n\r\n",
            if from > 0 { &range } else { "" },
            rest.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        match act {
            Act::Cut(after) => {
                stream.write_all(&rest[..after.min(rest.len())]).ok()?;
                None
            }
            Act::Hold(after) => {
                let (first, second) = rest.split_at(after.min(rest.len()));
                stream.write_all(first).ok()?;
                let mut held = self.shared.held.lock().unwrap();
                held.0 += 1;
                let turn = held.0;
                self.shared.changed.notify_all();
                drop(self.shared.changed.wait_while(held, |held| held.1 < turn).unwrap());
                stream.write_all(second).ok()
            }
            _ => stream.write_all(rest).ok(),
        }
    }

    fn has(&self, start: &str) -> bool {
        self.shared.files.keys().any(|path| path.starts_with(start))
    }

    fn info(&self, repo: &str) -> Value {
        json!({ "id": repo, "sha": COMMIT, "cardData": { "license": "apache-2.0" }, "gguf": { "architecture": "qwen3" } })
    }

    fn tree(&self, start: &str) -> Value {
        let files =
            self.shared.files.iter().filter_map(|(path, stored)| Some((path.strip_prefix(start)?, stored)));
        let entry = |(path, stored): (&str, &Stored)| {
            let size = stored.bytes.len();
            json!({ "type": "file", "path": path, "size": size, "oid": COMMIT,
                    "lfs": { "oid": stored.sha256, "size": size, "pointerSize": 130 } })
        };
        let mut entries: Vec<Value> = files.map(entry).collect();
        entries.push(json!({ "type": "file", "path": "README.md", "size": 5, "oid": COMMIT }));
        entries.push(json!({ "type": "directory", "path": "Q4_K_M", "size": 0, "oid": COMMIT }));
        Value::Array(entries)
    }
}

/// A request's line and headers; none at the end.
fn read(reader: &mut BufReader<TcpStream>, away: bool) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut asked = Asked { away, method: words.next()?, path: words.next()?, from: None, token: None };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { return Some(asked) };
        match name.to_ascii_lowercase().as_str() {
            "range" => asked.from = value.strip_prefix("bytes=")?.split('-').next()?.parse().ok(),
            "authorization" => asked.token = Some(value.to_owned()),
            _ => {}
        }
    }
}

fn send(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8], head: bool) -> Option<()> {
    let text = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len());
    stream.write_all(text.as_bytes()).ok()?;
    if head { Some(()) } else { stream.write_all(body).ok() }
}

/// By the system's own program, so that a fault here is not one of both sides.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let output = Command::new("sha256sum").arg(file.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

/// A machine's folders, and a hub.
pub(crate) struct Home {
    pub(crate) folder: TempDir,
    pub(crate) hub: Hub,
}

impl Home {
    pub(crate) fn new(hub: Hub) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), hub }
    }

    /// The program, with this hub and these folders.
    pub(crate) fn coder(&self, args: &[&str]) -> assert_cmd::Command {
        let mut command = coder(args);
        for (name, value) in self.variables() {
            command.env(name, value);
        }
        command.env_remove("HF_TOKEN").env_remove("HF_TOKEN_PATH").env_remove("HF_HUB_CACHE");
        command
    }

    /// The same, to be run beside the test.
    pub(crate) fn spawn(&self, args: &[&str]) -> std::process::Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coder"));
        command.args(args).envs(self.variables()).env_remove("HF_TOKEN").env_remove("HF_HUB_CACHE");
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    }

    pub(crate) fn variables(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("HF_ENDPOINT", PathBuf::from(&self.hub.url)),
            ("HF_HOME", self.folder.path().join("hf")),
            ("XDG_DATA_HOME", self.folder.path().join("data")),
        ]
    }

    /// Runs it: whether it succeeded, standard output and standard error.
    pub(crate) fn run(&self, args: &[&str]) -> (bool, String, String) {
        let output = self.coder(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    /// Runs it, expects success, reads one JSON value.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let (done, out, err) = self.run(args);
        assert!(done, "{args:?}: {err}");
        serde_json::from_str(&out).unwrap()
    }

    /// Runs it and expects an error.
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let (done, out, err) = self.run(args);
        assert!(!done, "{args:?}: {out}");
        err
    }

    /// Every file below the cache, sorted; locks left out.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        walk(&self.folder.path().join("hf"), &mut files);
        files.retain(|path| !path.components().any(|part| part.as_os_str() == ".locks"));
        files.sort();
        files
    }

    /// The partial files among them.
    pub(crate) fn partial(&self) -> Vec<PathBuf> {
        self.files()
            .into_iter()
            .filter(|path| path.extension().is_some_and(|ending| ending == "incomplete"))
            .collect()
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), files)
        } else {
            files.push(entry.path())
        }
    }
}
