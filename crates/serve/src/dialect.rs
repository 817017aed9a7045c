//! Errors in the words of each dialect.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use crate::Error;

/// Whose API a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's.
    OpenAi,
    /// Anthropic's.
    Anthropic,
}

impl Dialect {
    /// By its path; where both have that, by the header that clients of one of them always send.
    pub(crate) fn of(path: &str, headers: &HeaderMap) -> Self {
        let under =
            |root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let shared = under("/v1/models") && headers.contains_key("anthropic-version");
        if shared || under("/v1/messages") { Self::Anthropic } else { Self::OpenAi }
    }

    /// The whole response to a request that failed.
    pub(crate) fn error(self, error: &Error) -> Response {
        let mut response = json_response(&self.error_body(error));
        *response.status_mut() = self.status(error);
        if let Some(seconds) = error.retry_after_s() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// The status, which for one kind of error only Anthropic has.
    fn status(self, error: &Error) -> StatusCode {
        match self {
            Self::Anthropic if anthropic(error) == OVERLOADED => {
                StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
            }
            _ => error.status(),
        }
    }

    /// `{"error": …}` as the dialect has it.
    pub(crate) fn error_body(self, error: &Error) -> Value {
        match self {
            Self::OpenAi => {
                let (kind, code) = openai(error);
                let field = match error.first() {
                    Error::Request { field, .. } => field.as_deref(),
                    Error::TooLong { field, .. } => Some(field.as_str()),
                    Error::NoModel { .. } => Some("model"),
                    _ => None,
                };
                json!({ "error": { "message": error.to_string(), "type": kind, "param": field, "code": code } })
            }
            Self::Anthropic => {
                let message = match error {
                    Error::Nobody { first, others } => format!("{}; then {others}", message(first)),
                    error => message(error),
                };
                json!({ "type": "error", "error": { "type": anthropic(error), "message": message } })
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Dialect {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts.uri.path(), &parts.headers))
    }
}

/// Type and code (platform.openai.com, "Error codes").
fn openai(error: &Error) -> (&'static str, Option<&'static str>) {
    match error.first() {
        Error::TooLong { .. } => ("invalid_request_error", Some("context_length_exceeded")),
        Error::NoModel { .. } => ("invalid_request_error", Some("model_not_found")),
        Error::NoKey => ("invalid_request_error", Some("invalid_api_key")),
        Error::Busy { .. } => ("rate_limit_error", Some("rate_limit_exceeded")),
        Error::Ending | Error::Late | Error::NoRoom { .. } | Error::NoMemory { .. } => {
            ("server_error", Some("overloaded"))
        }
        Error::Elsewhere { status: 429, .. } => ("rate_limit_error", Some("rate_limit_exceeded")),
        Error::Elsewhere { status: 402, .. } => ("insufficient_quota", Some("insufficient_quota")),
        Error::Elsewhere { status: 500.., .. } => ("server_error", Some("upstream")),
        Error::Failed(_) => ("server_error", None),
        _ => ("invalid_request_error", None),
    }
}

/// What has a status of its own.
const OVERLOADED: &str = "overloaded_error";

/// Type (platform.claude.com, "Errors").
fn anthropic(error: &Error) -> &'static str {
    match error.first() {
        Error::NoKey => "authentication_error",
        Error::Foreign { .. } => "permission_error",
        Error::NoModel { .. } | Error::NoPath { .. } => "not_found_error",
        Error::TooLarge { .. } => "request_too_large",
        Error::Slow { .. } => "timeout_error",
        Error::Busy { .. } => "rate_limit_error",
        Error::Ending | Error::Late | Error::NoRoom { .. } | Error::NoMemory { .. } => OVERLOADED,
        Error::Elsewhere { status: 429, .. } => "rate_limit_error",
        Error::Elsewhere { status: 402, .. } => "billing_error",
        Error::Elsewhere { status: 403, .. } => "permission_error",
        Error::Elsewhere { status: 500.., .. } => "api_error",
        Error::Elsewhere { .. } => "invalid_request_error",
        Error::Failed(_) => "api_error",
        Error::Request { .. } | Error::TooLong { .. } | Error::Method { .. } | Error::NotJson { .. } => {
            "invalid_request_error"
        }
        // That is never the first.
        Error::Nobody { .. } => "api_error",
    }
}

/// Clients of Anthropic's know these words, and make the conversation shorter.
fn message(error: &Error) -> String {
    match error {
        Error::TooLong { prompt, context, .. } => {
            format!("prompt is too long: {prompt} tokens > {context} maximum")
        }
        other => other.to_string(),
    }
}

/// A value as a response.
pub(crate) fn json_response(value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_overloaded_says_so_with_the_status_of_the_dialect() {
        for (dialect, status) in [(Dialect::Anthropic, 529), (Dialect::OpenAi, 503)] {
            let response = dialect.error(&Error::Ending);
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()[header::RETRY_AFTER], "5");
        }
        assert_eq!(Dialect::Anthropic.error(&Error::NoKey).status(), 401);
    }
}
