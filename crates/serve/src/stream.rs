//! Server-sent events: an answer to text that is sent piece by piece.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use serde_json::{Value, json};

use crate::Result;
use crate::answer::{Answers, Event};

/// A client hears something at least this often, so that neither it nor what is between gives up.
const PING: Duration = Duration::from_secs(10);

/// Streams `answers`: `first` at once, then what `write` makes of each event, `ping` when nothing else is to say, and
/// what `write` makes of nothing at the end. An error is the last event.
pub(crate) fn events(
    answers: Answers,
    first: String,
    ping: &'static str,
    write: impl FnMut(Option<Result<Event>>) -> String + Send + 'static,
) -> Response {
    let state = (Some(first), Some(answers), write);
    let pieces = stream::unfold(state, move |(mut first, mut answers, mut write)| async move {
        if let Some(first) = first.take() {
            return Some((Ok::<_, Infallible>(first), (None, answers, write)));
        }
        let growing = answers.as_mut()?;
        let text = loop {
            let Ok(event) = tokio::time::timeout(PING, growing.next()).await else {
                break ping.to_owned();
            };
            if !matches!(event, Some(Ok(_))) {
                answers = None;
                break write(event);
            }
            let text = write(event);
            if !text.is_empty() {
                break text;
            }
        };
        Some((Ok(text), (None, answers, write)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// One event; its name, which is its type, stands in front of its data.
pub(crate) fn typed(kind: &str, data: Value) -> String {
    let mut typed = json!({ "type": kind });
    if let (Some(typed), Value::Object(data)) = (typed.as_object_mut(), data) {
        typed.extend(data);
    }
    format!("event: {kind}\ndata: {typed}\n\n")
}
