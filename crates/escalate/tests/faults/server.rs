//! A server of the tests' own that answers as it is told: well, wrongly, slowly, half, or not at all. It speaks both
//! dialects, and remembers what it was asked. It listens on loopback only, and ends when it is dropped. Other tests
//! take it in by its path.
#![allow(dead_code)] // each of them uses another part

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::Response;
use futures_util::stream;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Its path.
    pub(crate) path: String,
    /// Its headers, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// A header's value; "" if it did not come.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(is, _)| is == name).map_or("", |(_, value)| value)
    }

    /// Whether it came in Anthropic's dialect.
    pub(crate) fn is_anthropic(&self) -> bool {
        self.path.ends_with("/v1/messages")
    }

    /// The key that it carries.
    pub(crate) fn key(&self) -> &str {
        match self.header("x-api-key") {
            "" => self.header("authorization").trim_start_matches("Bearer "),
            key => key,
        }
    }
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// The status.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: Vec<(String, String)>,
    /// The pieces of the body, sent one by one.
    pub(crate) pieces: Vec<String>,
    /// What comes after them.
    pub(crate) then: Then,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// As it should.
    End,
    /// The connection breaks.
    Cut,
    /// Nothing more comes, and the connection stays.
    Hang,
    /// The last piece comes again and again, after so many milliseconds each.
    Again(u64),
    /// There is not even a status.
    Silence,
}

impl Reply {
    /// A status with a JSON body. `{key}` in the body becomes the key of the request.
    pub(crate) fn status(status: u16, body: &str) -> Reply {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Reply { status, headers, pieces: vec![body.to_owned()], then: Then::End }
    }

    /// A stream of events.
    pub(crate) fn stream(events: impl IntoIterator<Item = String>) -> Reply {
        let headers = vec![("content-type".to_owned(), "text/event-stream; charset=utf-8".to_owned())];
        Reply { status: 200, headers, pieces: events.into_iter().collect(), then: Then::End }
    }

    /// No answer at all.
    pub(crate) fn silence() -> Reply {
        Reply { then: Then::Silence, ..Reply::status(200, "") }
    }

    /// The same with a header more, or another value of one.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Reply {
        self.headers.retain(|(is, _)| is != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with another end.
    pub(crate) fn then(mut self, then: Then) -> Reply {
        self.then = then;
        self
    }

    /// The same, ending after so many pieces.
    pub(crate) fn first(mut self, pieces: usize) -> Reply {
        self.pieces.truncate(pieces);
        self
    }
}

/// The events of a good answer, in the dialect of the request: 30 tokens of prompt, 10 of them cached, 7 of answer.
pub(crate) fn events(anthropic: bool, text: &str) -> Vec<String> {
    events_ending(anthropic, text, if anthropic { "end_turn" } else { "stop" })
}

/// The same with another reason to stop.
pub(crate) fn events_ending(anthropic: bool, text: &str, reason: &str) -> Vec<String> {
    let text = serde_json::Value::from(text);
    let frame = |(name, data): (&str, String)| match name {
        "" => format!("data: {data}\n\n"),
        name => format!("event: {name}\ndata: {data}\n\n"),
    };
    let events: Vec<(&str, String)> = if anthropic {
        vec![
            ("message_start", r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"fake-1","content":[],"stop_reason":null,"usage":{"input_tokens":20,"cache_read_input_tokens":10,"cache_creation_input_tokens":0,"output_tokens":1}}}"#.to_owned()),
            ("content_block_start", r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#.to_owned()),
            ("content_block_delta", r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm."}}"#.to_owned()),
            ("ping", r#"{"type":"ping"}"#.to_owned()),
            ("content_block_start", r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#.to_owned()),
            ("content_block_delta", format!(r#"{{"type":"content_block_delta","index":1,"delta":{{"type":"text_delta","text":{text}}}}}"#)),
            ("message_delta", format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}","stop_sequence":null}},"usage":{{"output_tokens":7}}}}"#)),
            ("message_stop", r#"{"type":"message_stop"}"#.to_owned()),
        ]
    } else {
        vec![
            ("", r#"{"id":"c1","object":"chat.completion.chunk","model":"fake-1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#.to_owned()),
            ("", format!(r#"{{"id":"c1","object":"chat.completion.chunk","model":"fake-1","choices":[{{"index":0,"delta":{{"content":{text}}},"finish_reason":null}}],"usage":null}}"#)),
            ("", format!(r#"{{"id":"c1","object":"chat.completion.chunk","model":"fake-1","choices":[{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}],"usage":null}}"#)),
            ("", r#"{"id":"c1","object":"chat.completion.chunk","model":"fake-1","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":7,"total_tokens":37,"prompt_tokens_details":{"cached_tokens":10}}}"#.to_owned()),
            ("", "[DONE]".to_owned()),
        ]
    };
    events.into_iter().map(frame).collect()
}

/// A good answer as one document, with the same counts.
pub(crate) fn document(anthropic: bool, text: &str) -> String {
    let text = serde_json::Value::from(text);
    if anthropic {
        format!(
            r#"{{"id":"msg_1","type":"message","role":"assistant","model":"fake-1","content":[{{"type":"thinking","thinking":"Hm."}},{{"type":"text","text":{text}}}],"stop_reason":"end_turn","usage":{{"input_tokens":20,"cache_read_input_tokens":10,"cache_creation_input_tokens":0,"output_tokens":7}}}}"#
        )
    } else {
        format!(
            r#"{{"id":"c1","object":"chat.completion","model":"fake-1","choices":[{{"index":0,"message":{{"role":"assistant","content":{text},"refusal":null}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":30,"completion_tokens":7,"total_tokens":37,"prompt_tokens_details":{{"cached_tokens":10}}}}}}"#
        )
    }
}

/// An error in the dialect's form.
pub(crate) fn error(anthropic: bool, kind: &str, message: &str) -> String {
    if anthropic {
        format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}}}}"#)
    } else {
        format!(r#"{{"error":{{"message":"{message}","type":"{kind}","param":null,"code":"{kind}"}}}}"#)
    }
}

/// The running server.
pub(crate) struct FaultServer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    // Dropping it ends the server.
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl FaultServer {
    /// Starts one that answers its n-th request, counted from 0, with `reply(request, n)`.
    pub(crate) fn start(reply: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> FaultServer {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (reply, log) = (Arc::new(reply), seen.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let handler = move |request: Request| {
                    let (reply, log) = (reply.clone(), log.clone());
                    async move { answer(request, &*reply, &log).await }
                };
                tokio::select! {
                    _ = stopped => {}
                    served = async { axum::serve(listener, axum::Router::new().fallback(handler)).await } => served.unwrap(),
                }
            });
            runtime.shutdown_background();
        });
        FaultServer { address, seen, _stop: stop }
    }

    /// The address without a path, as Anthropic's dialect wants it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(
    request: Request,
    reply: &(dyn Fn(&Seen, usize) -> Reply + Send + Sync),
    log: &Mutex<Vec<Seen>>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 20).await.unwrap_or_default();
    let headers = parts.headers.iter();
    let headers = headers.map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let seen = Seen { path: parts.uri.path().to_owned(), headers: headers.collect(), body: body.to_vec() };
    let count = {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(seen.clone());
        log.len() - 1
    };
    let Reply { status, headers, pieces, then } = reply(&seen, count);
    if then == Then::Silence {
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder().status(status);
    for (name, value) in &headers {
        response = response.header(name, value);
    }
    let key = seen.key().to_owned();
    let pieces: Vec<Bytes> =
        pieces.into_iter().map(|piece| Bytes::from(piece.replace("{key}", &key))).collect();
    let body = stream::unfold((pieces, 0), move |(pieces, at)| async move {
        // A pause lets each piece leave by itself.
        tokio::task::yield_now().await;
        if let Some(piece) = pieces.get(at).cloned() {
            return Some((Ok(piece), (pieces, at + 1)));
        }
        match then {
            Then::End | Then::Silence => None,
            Then::Cut => {
                // What was sent is let out before the connection breaks.
                tokio::time::sleep(Duration::from_millis(50)).await;
                Some((Err(std::io::Error::other("cut")), (pieces, at)))
            }
            Then::Hang => std::future::pending().await,
            Then::Again(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                pieces.last().cloned().map(|last| (Ok(last), (pieces, at)))
            }
        }
    });
    response.body(Body::from_stream(body)).unwrap()
}
