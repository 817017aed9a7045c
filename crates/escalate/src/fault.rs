//! Why a question came back without an answer, by what the caller can do about it, and what it cost all the same.

use crate::{FailureClass, Tokens};

/// Why there is no answer. Keys never stand in it, and what a server said is shortened visibly, to one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The address is not one to which anything may be sent: correct the configuration.
    #[error("endpoint `{url}`: {problem}")]
    BadEndpoint {
        /// The address.
        url: String,
        /// Why not, and the remedy.
        problem: String,
    },
    /// The host is at an address in a private network, and nobody said that this is meant.
    #[error(
        "`{host}` is at `{address}`, which is not a public address; set `private = true` if that is meant"
    )]
    PrivateAddress {
        /// The host's name.
        host: String,
        /// Where it is.
        address: String,
    },
    /// Nothing was sent: no such host, no route, nobody listens, no trusted certificate.
    #[error("`{host}` cannot be reached: {problem}")]
    Unreachable {
        /// The host.
        host: String,
        /// The operating system's or the TLS library's reason.
        problem: String,
    },
    /// No byte came for too long, or the whole took too long.
    #[error("`{host}` did not {what} within `{limit_s}` s; raise `{limit}`, or ask for less")]
    TimedOut {
        /// The host.
        host: String,
        /// What it did not do, such as "answer".
        what: &'static str,
        /// The limit in seconds.
        limit_s: u64,
        /// The limit's name, such as "idle_s".
        limit: &'static str,
    },
    /// Too many requests: later.
    #[error("too many requests: {message}")]
    RateLimited {
        /// What the server said.
        message: String,
        /// The wait that it asked for, in seconds.
        after_s: Option<u64>,
    },
    /// The server is overloaded or broken: later.
    #[error("the server failed with status `{status}`: {message}")]
    Server {
        /// The HTTP status, or the one that its mid-stream error stands for.
        status: u16,
        /// What it said.
        message: String,
    },
    /// The answer began and did not end.
    #[error("the answer was cut off: {problem}")]
    CutOff {
        /// What happened to the connection.
        problem: String,
    },
    /// Prompt and answer are longer than the model's context.
    #[error("{}; show the model less, or use one with a longer context", too_long(*tokens, *limit))]
    TooLong {
        /// Tokens that were asked for, if the server said it.
        tokens: Option<u64>,
        /// The most that are allowed, if the server said it.
        limit: Option<u64>,
    },
    /// The account at the provider has no money or no budget left.
    #[error("the provider's account is used up: {message}; raise its limit there")]
    OutOfCredit {
        /// What the server said.
        message: String,
    },
    /// There is no key to send, or it may not be used: nothing was sent.
    #[error("no key from {from}: {problem}")]
    NoKey {
        /// Where it was to come from, such as "the variable `ANTHROPIC_API_KEY`".
        from: String,
        /// Why there is none, and the remedy.
        problem: String,
    },
    /// The server does not accept the key.
    #[error("the server refuses the key from {from} with status `{status}`; give it a valid one")]
    KeyRefused {
        /// Where the key came from.
        from: String,
        /// The HTTP status.
        status: u16,
    },
    /// The model, or a filter before or behind it, does not want to answer this.
    #[error("the model refused: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
    /// What came back is no answer in the endpoint's dialect.
    #[error("the answer is malformed: {problem}; check the endpoint's `url` and `dialect`")]
    Malformed {
        /// What is wrong with it.
        problem: String,
    },
    /// The server points elsewhere. Prompt and key go to the configured host only.
    #[error("the server redirects to `{to}`; redirects are not followed: correct the endpoint's `url`")]
    Redirected {
        /// The other host.
        to: String,
    },
    /// The server does not accept the request as it is.
    #[error("the server rejects the request with status `{status}`: {message}{}", remedy(message))]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// The endpoint failed several times in a row and is left alone; nothing was sent.
    #[error("`{host}` failed `{failures}` times in a row; it is left alone for another `{seconds}` s")]
    CoolingDown {
        /// The host.
        host: String,
        /// How often it failed.
        failures: u32,
        /// How much longer.
        seconds: u64,
    },
    /// The user stopped it.
    #[error("cancelled")]
    Cancelled,
}

impl Fault {
    /// On which ladder to go on. Only a refusal says something about the model; everything else is about the way
    /// there, the limits of the place, or the request.
    pub fn class(&self) -> FailureClass {
        match self {
            Fault::Refused { .. } => FailureClass::Quality,
            _ => FailureClass::Availability,
        }
    }

    /// A word for it, for tables and the ledger.
    pub fn name(&self) -> &'static str {
        match self {
            Fault::BadEndpoint { .. } => "bad_endpoint",
            Fault::PrivateAddress { .. } => "private_address",
            Fault::Unreachable { .. } => "unreachable",
            Fault::TimedOut { .. } => "timed_out",
            Fault::RateLimited { .. } => "rate_limited",
            Fault::Server { .. } => "server",
            Fault::CutOff { .. } => "cut_off",
            Fault::TooLong { .. } => "too_long",
            Fault::OutOfCredit { .. } => "out_of_credit",
            Fault::NoKey { .. } => "no_key",
            Fault::KeyRefused { .. } => "key_refused",
            Fault::Refused { .. } => "refused",
            Fault::Malformed { .. } => "malformed",
            Fault::Redirected { .. } => "redirected",
            Fault::Rejected { .. } => "rejected",
            Fault::CoolingDown { .. } => "cooling_down",
            Fault::Cancelled => "cancelled",
        }
    }

    /// A server's or a library's own words in it.
    #[cfg(feature = "network")]
    pub(crate) fn words(&mut self) -> Option<&mut String> {
        match self {
            Fault::RateLimited { message, .. }
            | Fault::Server { message, .. }
            | Fault::OutOfCredit { message }
            | Fault::Refused { message }
            | Fault::Rejected { message, .. } => Some(message),
            Fault::Unreachable { problem, .. } | Fault::CutOff { problem } | Fault::Malformed { problem } => {
                Some(problem)
            }
            Fault::Redirected { to } => Some(to),
            Fault::BadEndpoint { .. }
            | Fault::PrivateAddress { .. }
            | Fault::TimedOut { .. }
            | Fault::TooLong { .. }
            | Fault::NoKey { .. }
            | Fault::KeyRefused { .. }
            | Fault::CoolingDown { .. }
            | Fault::Cancelled => None,
        }
    }

    /// Whether the same request may succeed a little later.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Fault::Unreachable { .. }
                | Fault::TimedOut { .. }
                | Fault::RateLimited { .. }
                | Fault::Server { .. }
                | Fault::CutOff { .. }
        )
    }

    /// Whether the endpoint is unwell; None where this says nothing about it, because nothing was sent.
    pub fn is_illness(&self) -> Option<bool> {
        match self {
            Fault::BadEndpoint { .. }
            | Fault::PrivateAddress { .. }
            | Fault::NoKey { .. }
            | Fault::CoolingDown { .. }
            | Fault::Cancelled => None,
            Fault::TooLong { .. } | Fault::Refused { .. } | Fault::Rejected { .. } => Some(false),
            Fault::OutOfCredit { .. }
            | Fault::KeyRefused { .. }
            | Fault::Malformed { .. }
            | Fault::Redirected { .. }
            | Fault::Unreachable { .. }
            | Fault::TimedOut { .. }
            | Fault::RateLimited { .. }
            | Fault::Server { .. }
            | Fault::CutOff { .. } => Some(true),
        }
    }
}

fn too_long(tokens: Option<u64>, limit: Option<u64>) -> String {
    match (tokens, limit) {
        (Some(tokens), Some(limit)) => {
            format!("the request needs `{tokens}` tokens, the model's context has `{limit}`")
        }
        (Some(tokens), None) => format!("a request of `{tokens}` tokens is too long for the model's context"),
        (None, Some(limit)) => {
            format!("the request does not fit into the model's context of `{limit}` tokens")
        }
        (None, None) => "the request does not fit into the model's context".to_owned(),
    }
}

/// What the configuration can change about a rejection.
fn remedy(message: &str) -> &'static str {
    let message = message.to_ascii_lowercase();
    if message.contains("max_completion_tokens") {
        "; set the endpoint's `limit_name` to `max_completion_tokens`, or to `max_tokens` if it is that already"
    } else if ["output_config.format", "response_format", "json_schema"]
        .iter()
        .any(|name| message.contains(name))
    {
        "; if the model knows no schemas, or not this one, ask it without"
    } else if message.contains("effort") {
        "; if the model knows no effort, ask it without"
    } else if message.contains("stream") {
        "; if the server refuses streams, ask without one: for tasks, set the endpoint's `stream = false`"
    } else {
        ""
    }
}

/// Tokens that were paid for, or may have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// How many.
    pub tokens: Tokens,
    /// Whether the server counted them; else they are upper bounds.
    pub counted: bool,
}

impl Spent {
    /// Nothing was done, for certain.
    pub const NOTHING: Spent =
        Spent { tokens: Tokens { input: 0, cache_write: 0, cache_read: 0, output: 0 }, counted: true };

    /// Both; exact if both are.
    pub fn plus(self, other: Spent) -> Spent {
        Spent { tokens: self.tokens.plus(other.tokens), counted: self.counted && other.counted }
    }
}

/// One request that brought no answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Why.
    pub fault: Fault,
    /// What it cost.
    pub spent: Spent,
    /// Seconds until that was known, without the wait before it.
    pub seconds: f64,
}

/// A question that was given up.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{fault}{}", after(attempts.len()))]
pub struct Failure {
    /// Why; the last attempt's reason where there was one.
    pub fault: Fault,
    /// Every attempt, in order; none where it came to nothing before.
    pub attempts: Vec<Attempt>,
    /// Seconds, waiting included.
    pub seconds: f64,
}

impl Failure {
    /// On which ladder to go on.
    pub fn class(&self) -> FailureClass {
        self.fault.class()
    }

    /// What all attempts cost together.
    pub fn spent(&self) -> Spent {
        self.attempts.iter().fold(Spent::NOTHING, |sum, attempt| sum.plus(attempt.spent))
    }
}

fn after(attempts: usize) -> String {
    if attempts > 1 { format!(" (after {attempts} attempts)") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_is_about_the_model() {
        let refused = Fault::Refused { message: String::new() };
        assert_eq!(refused.class(), FailureClass::Quality);
        let server = Fault::Server { status: 529, message: "Overloaded".into() };
        let too_long = Fault::TooLong { tokens: Some(210_000), limit: Some(200_000) };
        for fault in [server, too_long, Fault::Cancelled, Fault::CutOff { problem: "reset".into() }] {
            assert_eq!(fault.class(), FailureClass::Availability, "{fault}");
        }
    }

    #[test]
    fn both_numbers_and_the_remedy_are_named() {
        let fault = Fault::TooLong { tokens: Some(210_000), limit: Some(200_000) };
        assert_eq!(
            fault.to_string(),
            "the request needs `210000` tokens, the model's context has `200000`; show the model less, or use one with a longer context"
        );
        let message = "Use 'max_completion_tokens' instead.".to_owned();
        let rejected = Fault::Rejected { status: 400, message };
        assert!(rejected.to_string().contains("`limit_name`"), "{rejected}");
        // Tasks have a setting, and a client that is passed on says it itself.
        let rejected = Fault::Rejected { status: 400, message: "stream is not supported".to_owned() };
        assert!(
            rejected.to_string().ends_with("ask without one: for tasks, set the endpoint's `stream = false`")
        );
    }

    #[test]
    fn what_attempts_cost_adds_up() {
        let tokens = Tokens { input: 10, cache_write: 1, cache_read: 2, output: 3 };
        let fault = Fault::CutOff { problem: "reset".into() };
        let attempt =
            |counted| Attempt { fault: fault.clone(), spent: Spent { tokens, counted }, seconds: 0.1 };
        let attempts = vec![attempt(true), attempt(true)];
        let failure = Failure { fault: fault.clone(), attempts, seconds: 1.0 };
        assert_eq!(failure.spent(), Spent { tokens: tokens.plus(tokens), counted: true });
        assert!(failure.to_string().ends_with("(after 2 attempts)"));
        let attempts = vec![attempt(true), attempt(false)];
        assert!(!Failure { fault, attempts, seconds: 1.0 }.spent().counted);
    }
}
