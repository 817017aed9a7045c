//! What a server's error means. Every vendor has a form of its own; the sense is found in this order: the kind or
//! code by name, what the message says about context and money, the HTTP status.
//!
//! Forms: platform.claude.com/docs/en/api/errors, platform.openai.com/docs/guides/error-codes,
//! docs.litellm.ai/docs/exception_mapping, openrouter.ai/docs/api-reference/errors, vLLM's `ErrorResponse`,
//! llama.cpp's tools/server/README.md, FastAPI's `detail`.

use serde_json::Value;

use crate::Fault;

/// An error as a server put it.
#[derive(Debug, Default, PartialEq)]
struct Said {
    /// Every name that it gives the kind of error, in lower case.
    kinds: Vec<String>,
    /// For people.
    message: String,
    /// A status that the body names.
    status: Option<u16>,
    /// Somebody looked at the content and did not like it: OpenRouter's `metadata` says why.
    flagged: bool,
    /// llama.cpp's own fields for a prompt that is too long: its tokens, and the context.
    numbers: (Option<u64>, Option<u64>),
}

/// What an answer with an error's status means. Where a refused key came from is for the caller to add.
pub(super) fn response(status: u16, body: &str) -> Fault {
    let said = match serde_json::from_str(body) {
        Ok(value) => read(&value),
        Err(_) => Said { message: body.to_owned(), ..Said::default() },
    };
    meaning(status, said)
}

/// What an error inside an answer with status 200 means.
pub(super) fn mid_stream(value: &Value) -> Fault {
    let said = read(value);
    let by_kind = said.kinds.iter().find_map(|kind| match kind.as_str() {
        "overloaded_error" => Some(529),
        "rate_limit_error" | "rate_limit_exceeded" => Some(429),
        "timeout_error" => Some(504),
        "authentication_error" => Some(401),
        "permission_error" => Some(403),
        "not_found_error" => Some(404),
        "invalid_request_error" | "badrequesterror" => Some(400),
        _ => None,
    });
    let status = said.status.or(by_kind).unwrap_or(500);
    meaning(status, said)
}

fn meaning(status: u16, mut said: Said) -> Fault {
    if said.message.trim().is_empty() {
        said.message = "it says nothing more".to_owned();
    }
    let is = |names: &[&str]| said.kinds.iter().any(|kind| names.contains(&kind.as_str()));
    let text = said.message.to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    let too_long =
        is(&["context_length_exceeded", "exceed_context_size_error", "contextwindowexceedederror"])
            || status != 429 && says(&TOO_LONG);
    if too_long {
        let (tokens, limit) = numbers(&said.message);
        return Fault::TooLong { tokens: said.numbers.0.or(tokens), limit: said.numbers.1.or(limit) };
    }
    let no_credit = is(&["insufficient_quota", "billing_error", "budget_exceeded", "insufficient_credits"])
        || status == 402
        || status < 500 && says(&NO_CREDIT);
    if no_credit {
        return Fault::OutOfCredit { message: said.message };
    }
    // LiteLLM names its exceptions in the message only.
    let filtered = said.flagged
        || is(&["content_policy_violation", "content_filter"])
        || status < 500 && says(&["litellm.contentpolicyviolationerror"]);
    if filtered {
        return Fault::Refused { message: said.message };
    }
    match status {
        // What the server says here may quote the key, and adds nothing.
        401 | 403 => Fault::KeyRefused { from: String::new(), status },
        429 => Fault::RateLimited { message: said.message, after_s: None },
        408 | 409 | 500.. => Fault::Server { status, message: said.message },
        _ => Fault::Rejected { status, message: said.message },
    }
}

/// How servers say that a prompt is too long: Anthropic, OpenAI and vLLM, llama.cpp, LiteLLM.
const TOO_LONG: [&str; 8] = [
    "prompt is too long",
    "exceed context limit",
    "maximum context length",
    "exceeds the available context size",
    "context size has been exceeded",
    "exceeds the context window",
    "context_length_exceeded",
    "litellm.contextwindowexceedederror",
];

/// How they say that there is no money: Anthropic, OpenAI, LiteLLM, OpenRouter.
const NO_CREDIT: [&str; 5] = [
    "credit balance is too low",
    "exceeded your current quota",
    "budget has been exceeded",
    "requires more credits",
    "insufficient credits",
];

/// Finds the parts of an error in any of the forms.
fn read(value: &Value) -> Said {
    // Google's servers put it into an array.
    let value = value.get(0).unwrap_or(value);
    let error = match &value["error"] {
        Value::Null => value,
        error => error,
    };
    let detail = &value["detail"];
    let texts = [error, &error["message"], &value["message"], detail, &detail["message"], &detail[0]["msg"]];
    let message = texts.into_iter().find_map(Value::as_str).map(str::to_owned);
    let names = [&error["type"], &error["code"], &value["code"], &value["error_type"]];
    let status = [&error["code"], &value["code"], &value["status"]].into_iter().find_map(number);
    Said {
        kinds: names.into_iter().filter_map(Value::as_str).map(str::to_ascii_lowercase).collect(),
        message: message.unwrap_or_else(|| error.to_string()),
        status: status.and_then(|status| u16::try_from(status).ok()).filter(|s| (400..600).contains(s)),
        flagged: ["reasons", "flagged_input"].iter().any(|field| !error["metadata"][field].is_null()),
        numbers: (number(&error["n_prompt_tokens"]), number(&error["n_ctx"])),
    }
}

/// A number, or its digits in a text, as LiteLLM writes codes.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// The tokens that were asked for and the limit, from what a server says about them.
fn numbers(message: &str) -> (Option<u64>, Option<u64>) {
    let text = message.to_ascii_lowercase();
    let after = |phrases: &[&str]| {
        phrases.iter().find_map(|phrase| first_number(&text[text.find(phrase)? + phrase.len()..]))
    };
    let limit = after(&[
        "maximum context length is",
        "maximum context length of",
        "available context size (",
        "context window of",
        " > ",
    ]);
    // Anthropic: "context limit: 199000 + 20000 > 200000".
    if let Some(at) = text.find("context limit:") {
        let sum = &text[at + "context limit:".len()..];
        let parts = sum.split('>').next().unwrap_or_default().split('+');
        let parts: Option<Vec<u64>> = parts.map(first_number).collect();
        return (parts.map(|parts| parts.into_iter().fold(0, u64::saturating_add)), limit);
    }
    let tokens = after(&[
        "prompt is too long:",
        "you requested about",
        "you requested",
        "resulted in",
        "your request has",
        "your prompt contains at least",
        "your prompt contains",
        "request (",
    ]);
    (tokens, limit)
}

/// The number that a text begins with; commas between digits are passed over.
fn first_number(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let digits: String =
        text.chars().take_while(|c| c.is_ascii_digit() || *c == ',').filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(status: u16, body: &str) -> &'static str {
        response(status, body).name()
    }

    #[test]
    fn forms_of_every_vendor() {
        let table = [
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"x: bad"}}"#,
                "rejected",
            ),
            (401, r#"{"type":"error","error":{"type":"authentication_error","message":"k"}}"#, "key_refused"),
            (403, r#"{"error":{"message":"no"}}"#, "key_refused"),
            (404, r#"{"error":{"message":"no such model","code":"model_not_found"}}"#, "rejected"),
            (402, "{}", "out_of_credit"),
            (
                400,
                r#"{"error":{"message":"Your credit balance is too low to access the API"}}"#,
                "out_of_credit",
            ),
            (429, r#"{"error":{"code":"insufficient_quota","message":"You exceeded it"}}"#, "out_of_credit"),
            (
                400,
                r#"{"error":{"type":"budget_exceeded","message":"Budget has been exceeded!"}}"#,
                "out_of_credit",
            ),
            (429, r#"{"error":{"message":"slow down","code":"429"}}"#, "rate_limited"),
            (529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, "server"),
            (503, r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#, "server"),
            (500, "<html><h1>502</h1>", "server"),
            (408, "", "server"),
            (413, r#"{"error":{"type":"request_too_large","message":"big"}}"#, "rejected"),
            (422, r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#, "rejected"),
            (400, r#"{"object":"error","message":"bad","type":"BadRequestError","code":400}"#, "rejected"),
            (400, r#"{"error":{"code":"content_filter","message":"no"}}"#, "refused"),
            (400, r#"[{"error":{"code":400,"message":"API key not valid"}}]"#, "rejected"),
            (
                400,
                r#"{"error":{"message":"litellm.ContextWindowExceededError: x\nLiteLLM: y","code":"400"}}"#,
                "too_long",
            ),
            (
                400,
                r#"{"error":{"message":"litellm.ContentPolicyViolationError: x","code":"400"}}"#,
                "refused",
            ),
            (403, r#"{"error":{"code":403,"message":"flagged","metadata":{"reasons":["x"]}}}"#, "refused"),
            (
                500,
                r#"{"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}}"#,
                "too_long",
            ),
            (
                500,
                r#"{"error":{"type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":8}}"#,
                "too_long",
            ),
            (400, "null", "rejected"),
            (400, "[]", "rejected"),
        ];
        for (status, body, expected) in table {
            assert_eq!(name(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn both_numbers_of_a_prompt_that_is_too_long() {
        let table = [
            ("prompt is too long: 210000 tokens > 200000 maximum", Some(210_000), Some(200_000)),
            (
                "input length and `max_tokens` exceed context limit: 199000 + 20000 > 200000, decrease",
                Some(219_000),
                Some(200_000),
            ),
            (
                "This model's maximum context length is 8,192 tokens. However, your messages resulted in 9000 tokens.",
                Some(9000),
                Some(8192),
            ),
            (
                "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 in",
                Some(5000),
                Some(4096),
            ),
            (
                "the request exceeds the available context size (4096 tokens), try increasing it",
                None,
                Some(4096),
            ),
            (
                "request (5000 tokens) exceeds the available context size (4096 tokens)",
                Some(5000),
                Some(4096),
            ),
            ("This model's maximum context length is 99999999999999999999999 tokens", None, None),
        ];
        for (message, tokens, limit) in table {
            let body = serde_json::json!({"error": {"message": message}}).to_string();
            assert_eq!(response(400, &body), Fault::TooLong { tokens, limit }, "{message}");
        }
        let own = r#"{"error":{"code":400,"type":"exceed_context_size_error","message":"long","n_prompt_tokens":5,"n_ctx":4}}"#;
        assert_eq!(response(400, own), Fault::TooLong { tokens: Some(5), limit: Some(4) });
    }

    #[test]
    fn what_refuses_a_key_is_not_quoted() {
        let body = r#"{"error":{"message":"Incorrect API key provided: sk-abc***xyz"}}"#;
        let fault = response(401, body);
        assert_eq!(fault, Fault::KeyRefused { from: String::new(), status: 401 });
    }

    proptest! {
        #[test]
        fn any_body_has_a_meaning(status in 400u16..600, body in "\\PC{0,80}") {
            prop_assert!(!response(status, &body).to_string().is_empty());
            let json = serde_json::json!({"error": {"message": body, "code": body}}).to_string();
            prop_assert!(!response(status, &json).to_string().is_empty());
        }
    }
}
