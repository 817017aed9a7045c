//! A server on a loopback socket, and a client that says exactly what a test wants it to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::thread::JoinHandle;
use std::time::Duration;

use coder_engine::Options;
use coder_serve::{Access, Keep, Limits, Model, Models, Server};
use serde_json::Value;
use tokio::sync::oneshot;

/// A server that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) server: Server,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The server of all tests that change nothing about it.
pub(crate) static SERVER: LazyLock<Running> =
    LazyLock::new(|| start(models(), Access::default(), Limits::default()));

/// Another server like it, with nothing in its cache.
pub(crate) fn own() -> Running {
    start(models(), Access::default(), Limits::default())
}

pub(crate) fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/coder-tiny.gguf")
}

/// The bundled model, by its name and others.
pub(crate) fn models() -> Models {
    let aliases = [("free", "coder-tiny"), ("claude-*", "coder-tiny"), ("qwen2.5-coder:32b", "coder-tiny")];
    let aliases = aliases.map(|(alias, name)| (alias.to_owned(), name.to_owned())).into();
    Models::new(vec![model("coder-tiny", bundled())], aliases, Keep::default()).expect("the bundled model")
}

pub(crate) fn model(name: &str, path: PathBuf) -> Model {
    Model { name: name.to_owned(), options: Options::new(path), problem: None }
}

pub(crate) fn start(models: Models, access: Access, limits: Limits) -> Running {
    serve_as(Server::new(models, access, limits))
}

pub(crate) fn serve_as(server: Server) -> Running {
    let (stop, stopped) = oneshot::channel();
    let (tell, told) = std::sync::mpsc::channel();
    let of_thread = server.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            tell.send(listener.local_addr().expect("its address")).expect("a test that waits");
            let end = async { drop(stopped.await) };
            coder_serve::serve(listener, of_thread, end).await.expect("a server");
        });
        runtime.shutdown_timeout(Duration::from_secs(5));
    });
    let address = told.recv().expect("an address");
    Running { address, server, stop: Some(stop), thread: Some(thread) }
}

impl Running {
    /// Tells the server to end.
    pub(crate) fn stop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
    }

    /// Waits for its end.
    pub(crate) fn join(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server's thread");
        }
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut stream = self.begin(method, path, headers, body);
        Reply::read(&mut stream)
    }

    /// A request of which the answer is not read yet.
    pub(crate) fn begin(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        let has_host = headers.iter().any(|(name, _)| *name == "host");
        if !has_host {
            head += &format!("host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut stream = self.connect();
        // A server that refuses a body may close before it has read it.
        let _ = stream.write_all(&[head.as_bytes(), b"\r\n", body].concat());
        stream
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        // No answer of these tests takes as long; a hanging server is to fail, not to hang the test.
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a time");
        stream
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.join();
    }
}

/// What a server said.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Self {
        let at = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..at].to_vec()).expect("text").to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let body = &bytes[at + 4..];
        let chunked = head.contains("transfer-encoding: chunked");
        let body = if chunked { dechunk(body) } else { body.to_vec() };
        Self { status, head, body: String::from_utf8(body).expect("text") }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Names and data of the events of a stream. Every one is complete.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        assert_eq!(self.header("content-type"), Some("text/event-stream; charset=utf-8"), "{}", self.body);
        let whole = self.body.strip_suffix("\n\n").expect("a last event that is complete");
        let event = |text: &str| {
            let (name, data) = text.split_once('\n').unwrap_or(("", text));
            (
                name.trim_start_matches("event: ").to_owned(),
                data.strip_prefix("data: ").unwrap_or(data).to_owned(),
            )
        };
        whole.split("\n\n").map(event).collect()
    }
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let at = bytes.windows(2).position(|two| two == b"\r\n").expect("the size of a chunk");
        let size =
            usize::from_str_radix(std::str::from_utf8(&bytes[..at]).expect("text"), 16).expect("a size");
        if size == 0 {
            return out;
        }
        out.extend_from_slice(&bytes[at + 2..at + 2 + size]);
        bytes = &bytes[at + 4 + size..];
    }
}

/// A path in the data set that may lie beside the checkout.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.ancestors().skip(1).map(|folder| folder.join("shared/data").join(path)).find(|path| path.exists())
}

/// Servers of models with random weights, one for each way to write calls; none where the data is not there.
pub(crate) fn random_models() -> Vec<(&'static str, Running)> {
    let Some(path) = shared("vectors/models/tiny-qwen3-F16.gguf") else { return Vec::new() };
    let folder = env!("CARGO_TARGET_TMPDIR");
    let json_template = shared("qwen2.5/tokenizer_config.json").map(|path| {
        let config: Value =
            serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON");
        let template = Path::new(folder).join("qwen2.5.jinja");
        std::fs::write(&template, config["chat_template"].as_str().expect("a template")).expect("written");
        template
    });
    let templates = [("json", json_template), ("xml", shared("qwen3-coder/chat_template.jinja"))];
    let with = |(name, template): (&'static str, Option<_>)| {
        let mut options = Options::new(path.clone());
        options.chat_template = Some(template?);
        let model = Model { name: "random".to_owned(), options, problem: None };
        let aliases = ["free", "claude-*"].map(|alias| (alias.to_owned(), "random".to_owned())).into();
        let models = Models::new(vec![model], aliases, Keep::default()).expect("a model");
        Some((name, start(models, Access::default(), Limits::default())))
    };
    templates.into_iter().filter_map(with).collect()
}

/// The body with `fields` set.
pub(crate) fn with(mut body: Value, fields: Value) -> Value {
    body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    body
}
