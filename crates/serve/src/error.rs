use std::time::Duration;

use axum::http::StatusCode;

use crate::Lack;

/// Why a request has no answer, by what the client can do about it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be answered as it is.
    #[error("{problem}")]
    Request {
        /// The field, such as `messages[0].content`.
        field: Option<String>,
        /// What is wrong with it and what is allowed.
        problem: String,
    },
    /// Prompt and answer do not fit. Nothing is ever truncated.
    #[error(
        "this model's maximum context length is {context} tokens, but the prompt has {prompt}; shorten `{field}`, or \
         start the server with a larger context"
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of prompt and answer that there is room for.
        context: usize,
        /// The field that the prompt comes from.
        field: String,
    },
    /// No model has this name.
    #[error("no model `{name}`; there are {}", known.join(", "))]
    NoModel {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Nothing is at this path.
    #[error("nothing is at `{path}`")]
    NoPath {
        /// The path.
        path: String,
    },
    /// The path is there, for other methods.
    #[error("`{method}` is not for `{path}`")]
    Method {
        /// What was tried.
        method: String,
        /// Where.
        path: String,
    },
    /// The key is missing or wrong.
    #[error("a key is needed: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`")]
    NoKey,
    /// The request comes from a web page that is not ours, or by a name that is not this machine's.
    #[error("{what} `{got}` is not allowed; start the server with `{remedy} {got}` if it should be")]
    Foreign {
        /// The header.
        what: &'static str,
        /// What it says.
        got: String,
        /// The option that allows it.
        remedy: &'static str,
    },
    /// The body is not JSON by its own word.
    #[error("content type `{got}` is not supported; send `application/json`")]
    NotJson {
        /// The content type.
        got: String,
    },
    /// The body is too large.
    #[error("the body has more than {limit} bytes, which is the limit; send less at a time")]
    TooLarge {
        /// Bytes that are allowed.
        limit: usize,
    },
    /// The bodies of all requests together take as much memory as they may.
    #[error("the bodies of open requests take {limit} bytes, no more are taken; try again later")]
    NoRoom {
        /// Bytes that are allowed.
        limit: usize,
    },
    /// The body took too long to come.
    #[error("the body was not there after {} s", limit.as_secs())]
    Slow {
        /// The time that is allowed.
        limit: Duration,
    },
    /// As many requests as allowed are open.
    #[error("{open} requests are waiting or running, no more are taken; try again later")]
    Busy {
        /// Requests that have not ended.
        open: usize,
    },
    /// There was not time enough for an answer.
    #[error("the time for an answer was over before it was there; send less at a time")]
    Late,
    /// Somebody elsewhere was to answer, and did not.
    #[error("{problem}")]
    Elsewhere {
        /// The status that says it best: 529, which only Anthropic has, for who is overloaded.
        status: u16,
        /// What kind of failure it is, without anything of the request.
        kind: &'static str,
        /// Whether another one may answer.
        lack: Lack,
        /// Seconds after which it may go better, where that is known.
        after_s: Option<u32>,
        /// Why not, and the remedy.
        problem: String,
    },
    /// Neither whoever was to answer nor those who came after did.
    #[error("{first}; then {others}")]
    Nobody {
        /// Why the first one did not.
        first: Box<Error>,
        /// Why the others did not, by name.
        others: String,
    },
    /// The server is ending.
    #[error("the server is shutting down; try again later, or elsewhere")]
    Ending,
    /// Memory for the model is taken by others that are in use.
    #[error("no memory for model `{name}` while others are in use; try again later")]
    NoMemory {
        /// The model.
        name: String,
    },
    /// The model could not be opened, or the device failed.
    #[error("{0}")]
    Failed(String),
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A request that cannot be answered because of `field`.
    pub(crate) fn request(field: impl Into<Option<&'static str>>, problem: impl Into<String>) -> Self {
        Self::Request { field: field.into().map(str::to_owned), problem: problem.into() }
    }

    /// Somebody who cannot be asked, though another one may.
    pub fn absent(problem: String) -> Self {
        Self::Elsewhere { status: 503, kind: "absent", lack: Lack::Presence, after_s: None, problem }
    }

    /// Why all of these, one after the other, did not answer.
    pub(crate) fn of_all(failed: Vec<(String, Error)>) -> Self {
        let mut failed = failed.into_iter();
        let first =
            failed.next().map_or_else(|| Self::Failed("nobody was asked".to_owned()), |(_, error)| error);
        let others: Vec<String> = failed.map(|(name, error)| format!("`{name}`: {error}")).collect();
        if others.is_empty() {
            first
        } else {
            Self::Nobody { first: Box::new(first), others: others.join("; ") }
        }
    }

    /// The reason that counts: that of whoever was to answer.
    pub(crate) fn first(&self) -> &Self {
        match self {
            Self::Nobody { first, .. } => first,
            other => other,
        }
    }

    /// Whether somebody else may answer in the place of whoever said this.
    pub(crate) fn lack(&self) -> Lack {
        match self {
            Self::Elsewhere { lack, .. } => *lack,
            Self::TooLong { prompt, context, .. } => {
                Lack::Room { tokens: Some(*prompt as u64), limit: Some(*context as u64) }
            }
            // A model that cannot be opened, a device that fails, an answer that was not there in time.
            Self::NoMemory { .. } | Self::Failed(_) | Self::Late => Lack::Presence,
            Self::Request { .. } => Lack::Fitness,
            // The same for everybody: who may ask, how much, and whether the server takes anything at all.
            _ => Lack::Nothing,
        }
    }

    /// The same with the names that fields have in the API of whoever asks.
    pub(crate) fn renamed(self, names: &[(&str, &str)]) -> Self {
        let new_name = |field: &str| names.iter().find(|(name, _)| *name == field).map(|(_, new)| *new);
        match self {
            Self::Request { field: Some(field), problem } => match new_name(&field) {
                Some(new) => Self::Request {
                    problem: problem.replace(&format!("`{field}"), &format!("`{new}")),
                    field: Some(new.to_owned()),
                },
                None => Self::Request { field: Some(field), problem },
            },
            Self::TooLong { prompt, context, field } => {
                let field = new_name(&field).map_or(field, str::to_owned);
                Self::TooLong { prompt, context, field }
            }
            other => other,
        }
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Nobody { first, .. } => first.status(),
            Self::Request { .. } | Self::TooLong { .. } => StatusCode::BAD_REQUEST,
            Self::NoKey => StatusCode::UNAUTHORIZED,
            Self::Foreign { .. } => StatusCode::FORBIDDEN,
            Self::NoModel { .. } | Self::NoPath { .. } => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Slow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Elsewhere { status: 529, .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Elsewhere { status, .. } => {
                StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY)
            }
            Self::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Ending | Self::Late | Self::NoRoom { .. } | Self::NoMemory { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// What kind it is, without anything of the request.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Request { .. } => "request",
            Self::TooLong { .. } => "too long",
            Self::NoModel { .. } => "no model",
            Self::NoPath { .. } => "no path",
            Self::Method { .. } => "method",
            Self::NoKey => "no key",
            Self::Foreign { .. } => "foreign",
            Self::NotJson { .. } => "not JSON",
            Self::TooLarge { .. } => "too large",
            Self::NoRoom { .. } => "no room",
            Self::Slow { .. } => "slow",
            Self::Elsewhere { kind, .. } => kind,
            Self::Nobody { first, .. } => first.kind(),
            Self::Busy { .. } => "busy",
            Self::Ending => "ending",
            Self::Late => "late",
            Self::NoMemory { .. } => "no memory",
            Self::Failed(_) => "failed",
        }
    }

    /// Seconds after which it may go better.
    pub fn retry_after_s(&self) -> Option<u32> {
        match self.first() {
            Self::Busy { .. } | Self::NoRoom { .. } => Some(1),
            Self::Ending | Self::NoMemory { .. } => Some(5),
            Self::Elsewhere { after_s, .. } => *after_s,
            _ => None,
        }
    }
}

impl From<coder_engine::Error> for Error {
    fn from(error: coder_engine::Error) -> Self {
        use coder_engine::Error as Engine;
        match error {
            Engine::ContextTooLong { prompt, context, .. } => {
                Self::TooLong { prompt, context, field: "messages".to_owned() }
            }
            Engine::Request { field, ref problem } => {
                Self::Request { field: Some(field.to_owned()), problem: format!("`{field}`: {problem}") }
            }
            Engine::Template(_) => Self::request("messages", format!("`messages`: {error}")),
            Engine::Grammar(_) => Self::request("response_format", format!("`response_format`: {error}")),
            Engine::Tool { .. } => Self::request("tools", format!("`tools`: {error}")),
            Engine::Unsupported { .. } => Self::request(None, error.to_string()),
            Engine::Deadline => Self::Late,
            Engine::Busy { open } => Self::Busy { open },
            other => Self::Failed(other.to_string()),
        }
    }
}
