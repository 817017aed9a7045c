//! Errors in the words of each dialect.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use crate::{Error, Lack};

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
                    error if has_no_room(error) => Some("messages"),
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
        error if has_no_room(error) => ("invalid_request_error", Some("context_length_exceeded")),
        Error::NoModel { .. } => ("invalid_request_error", Some("model_not_found")),
        Error::NoKey => ("invalid_request_error", Some("invalid_api_key")),
        Error::Busy { .. } => ("rate_limit_error", Some("rate_limit_exceeded")),
        Error::Ending | Error::Late | Error::NoRoom { .. } | Error::NoMemory { .. } => {
            ("server_error", Some("overloaded"))
        }
        Error::Elsewhere { status: 429, .. } => ("rate_limit_error", Some("rate_limit_exceeded")),
        Error::Elsewhere { status: 402, .. } => ("insufficient_quota", Some("insufficient_quota")),
        Error::Elsewhere { status: 529, .. } => ("server_error", Some("overloaded")),
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
        Error::Elsewhere { status: 529, .. } => OVERLOADED,
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
    match error.lack() {
        Lack::Room { tokens: Some(tokens), limit: Some(limit) } => {
            format!("prompt is too long: {tokens} tokens > {limit} maximum")
        }
        Lack::Room { .. } => format!("prompt is too long: {error}"),
        _ => error.to_string(),
    }
}

/// Whether somebody, here or elsewhere, has no room for the prompt.
fn has_no_room(error: &Error) -> bool {
    matches!(error.lack(), Lack::Room { .. })
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

    fn elsewhere(status: u16, lack: Lack, after_s: Option<u32>) -> Error {
        Error::Elsewhere { status, kind: "ill", lack, after_s, problem: "it is ill".to_owned() }
    }

    #[test]
    fn who_is_overloaded_elsewhere_says_so_too_and_when_it_may_go_better() {
        for (dialect, status, after_s, expected, word) in [
            (Dialect::Anthropic, 529, None, 529, "overloaded_error"),
            (Dialect::OpenAi, 529, Some(3), 503, "overloaded"),
            (Dialect::Anthropic, 503, None, 503, "api_error"),
            (Dialect::Anthropic, 429, Some(17), 429, "rate_limit_error"),
            (Dialect::OpenAi, 429, Some(17), 429, "rate_limit_exceeded"),
        ] {
            let error = elsewhere(status, Lack::Presence, after_s);
            // It is the first one's reason, whoever came after it.
            let others = "`other`: it is away".to_owned();
            let nobody = Error::Nobody { first: Box::new(error.clone()), others };
            for error in [error, nobody] {
                let response = dialect.error(&error);
                assert_eq!(response.status().as_u16(), expected, "{status}");
                let after = response.headers().get(header::RETRY_AFTER);
                assert_eq!(
                    after.map(HeaderValue::to_str).transpose().unwrap(),
                    after_s.map(|s| s.to_string()).as_deref()
                );
                assert!(dialect.error_body(&error).to_string().contains(word), "{status}");
            }
        }
    }

    #[test]
    fn a_prompt_that_is_too_long_is_told_in_the_same_words_whoever_has_no_room() {
        let (tokens, limit) = (Some(210_000), Some(200_000));
        let here = Error::TooLong { prompt: 210_000, context: 200_000, field: "messages".to_owned() };
        let both = "prompt is too long: 210000 tokens > 200000 maximum";
        for (error, words) in [
            (here, both),
            (elsewhere(400, Lack::Room { tokens, limit }, None), both),
            (elsewhere(400, Lack::Room { tokens: None, limit }, None), "prompt is too long: it is ill"),
        ] {
            let told = Dialect::Anthropic.error_body(&error);
            assert_eq!(told["error"], json!({ "type": "invalid_request_error", "message": words }));
            let told = Dialect::OpenAi.error_body(&error);
            let error = &told["error"];
            assert_eq!(
                (&error["type"], &error["param"], &error["code"]),
                (&json!("invalid_request_error"), &json!("messages"), &json!("context_length_exceeded"))
            );
        }
    }
}
