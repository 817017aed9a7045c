//! A server that answers as it is told, in OpenAI's dialect if nothing else is said, and remembers what it was sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What comes back.
pub(crate) enum Answer {
    /// A text, with tokens of the prompt and of the text.
    Say(String, u64, u64),
    /// This, whole.
    Json(Value),
    /// Events of a stream, by their data.
    Stream(Vec<String>),
    /// The same, and the stream stays open.
    Open(Vec<String>),
    /// A status and the text of an error.
    Fail(u16, &'static str),
    /// Nothing, until the other side gives up.
    Hang,
    /// The connection ends after the first bytes.
    Cut,
}

/// The server; its threads end with the process.
pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Server {
    /// Begins to listen on this machine.
    pub(crate) fn start(answer: impl Fn(&Value) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let server = Server { url, asked: asked.clone() };
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, answer) = (asked.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &asked, &*answer));
            }
        });
        server
    }

    /// The bodies that it was sent.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }

    /// The models that were asked, in order.
    pub(crate) fn models(&self) -> Vec<String> {
        self.asked().iter().map(|body| body["model"].as_str().unwrap().to_owned()).collect()
    }
}

fn serve(
    mut stream: TcpStream,
    asked: &Mutex<Vec<Value>>,
    answer: &(dyn Fn(&Value) -> Answer + Send + Sync),
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(number) = line.strip_prefix("content-length:") {
            length = number.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    asked.lock().unwrap().push(body.clone());
    let answer = answer(&body);
    let stays = matches!(answer, Answer::Open(_));
    let (status, text) = match answer {
        Answer::Say(text, prompt, completion) => {
            let choice = json!({ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" });
            let usage = json!({ "prompt_tokens": prompt, "completion_tokens": completion });
            let said = json!({ "object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage });
            (200, said.to_string())
        }
        Answer::Json(value) => (200, value.to_string()),
        Answer::Stream(events) | Answer::Open(events) => {
            let text: String = events.iter().map(|data| format!("data: {data}\n\n")).collect();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes()));
            if stays {
                let _ = reader.read(&mut [0]);
            }
            return;
        }
        Answer::Fail(status, message) => (status, json!({ "error": { "message": message } }).to_string()),
        Answer::Hang => {
            let _ = reader.read(&mut [0]);
            return;
        }
        Answer::Cut => {
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{",
            );
            return;
        }
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes()));
}
