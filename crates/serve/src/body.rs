//! A request's body: JSON that came in time and is not too large.

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, Request};
use axum::http::header;
use serde::de::DeserializeOwned;

use crate::{Error, Result, Server};

/// The fields of a body. Those that nobody asks for are ignored.
pub(crate) struct Fields(Vec<u8>);

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
        let reading = read(request.into_body(), bytes);
        let body = tokio::time::timeout(time, reading).await.map_err(|_| Error::Slow { limit: time })??;
        Ok(Self(body))
    }
}

impl Fields {
    /// Those of `T`.
    ///
    /// # Errors
    /// [`Error::Request`] naming the field that is missing or not of its type.
    pub(crate) fn get<T: DeserializeOwned>(&self) -> Result<T> {
        let mut reader = serde_json::Deserializer::from_slice(&self.0);
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

async fn read(body: Body, limit: usize) -> Result<Vec<u8>> {
    if body.size_hint().lower() > limit as u64 {
        return Err(Error::TooLarge { limit });
    }
    match axum::body::to_bytes(body, limit).await {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => {
            let mut source = std::error::Error::source(&error);
            while let Some(inner) = source {
                if inner.is::<http_body_util::LengthLimitError>() {
                    return Err(Error::TooLarge { limit });
                }
                source = inner.source();
            }
            Err(Error::request(None, format!("the body cannot be read: {error}")))
        }
    }
}
