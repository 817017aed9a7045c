//! A request's body: JSON that came in time, is not too large, and has its room among the others.

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, Request};
use axum::http::header;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use crate::{Error, Result, Server};

/// The fields of a body. Those that nobody asks for are ignored.
pub(crate) struct Fields {
    text: Vec<u8>,
    /// As much as the text takes.
    room: OwnedSemaphorePermit,
}

impl FromRequest<Server> for Fields {
    type Rejection = Error;

    async fn from_request(request: Request, server: &Server) -> Result<Self> {
        let kind = request.headers().get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or("?"));
        let essence =
            kind.unwrap_or("none").split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence != "application/json" {
            return Err(Error::NotJson { got: essence.chars().take(100).collect() });
        }
        let (bytes, time) = (server.limits().body_bytes, server.limits().body_time);
        let reading = read(request.into_body(), bytes, server);
        tokio::time::timeout(time, reading).await.map_err(|_| Error::Slow { limit: time })?
    }
}

impl Fields {
    /// Those of `T`.
    ///
    /// # Errors
    /// [`Error::Request`] naming the field that is missing or not of its type.
    pub(crate) fn get<T: DeserializeOwned>(&self) -> Result<T> {
        let mut reader = serde_json::Deserializer::from_slice(&self.text);
        let mut track = serde_path_to_error::Track::new();
        let read = T::deserialize(serde_path_to_error::Deserializer::new(&mut reader, &mut track));
        let value = read.map_err(|error| {
            let (path, problem) = (track.path().to_string(), error.to_string());
            let missing = problem.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
            let inside = Some(path).filter(|path| path != ".");
            let field = match (inside, missing) {
                (inside, Some((name, _))) => {
                    Some(inside.map_or(name.to_owned(), |path| format!("{path}.{name}")))
                }
                (inside, None) => inside,
            };
            let problem = match &field {
                Some(_) if missing.is_some() => "is missing".to_owned(),
                Some(_) => problem,
                None => format!("the body is not as it should be: {problem}"),
            };
            Error::Request {
                problem: field.iter().map(|field| format!("`{field}`: ")).collect::<String>() + &problem,
                field,
            }
        })?;
        let rest = |error| Error::request(None, format!("the body is more than one JSON value: {error}"));
        reader.end().map_err(rest)?;
        Ok(value)
    }
}

/// Room is taken as bytes come, and not as they are announced: who announces a body and sends none takes none.
async fn read(mut body: Body, limit: usize, server: &Server) -> Result<Fields> {
    if body.size_hint().lower() > limit as u64 {
        return Err(Error::TooLarge { limit });
    }
    let mut read = Fields { text: Vec::new(), room: server.make_room(0)? };
    while let Some(frame) = body.frame().await {
        let unread = |error| Error::request(None, format!("the body cannot be read: {error}"));
        // Trailers are nothing to anybody here.
        let Ok(bytes) = frame.map_err(unread)?.into_data() else { continue };
        if bytes.len() > limit - read.text.len() {
            return Err(Error::TooLarge { limit });
        }
        read.room.merge(server.make_room(bytes.len())?);
        read.text.extend_from_slice(&bytes);
    }
    Ok(read)
}
