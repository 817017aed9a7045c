//! The exact bytes that will leave, made before anything does, so that egress can scan and a budget can bound them.
//! Pure: nothing here opens a connection. The bodies of the two dialects are in the submodules.

mod anthropic;
mod content;
mod forward;
mod openai;

use std::fmt;

use crate::{Ask, Dialect, Endpoint, Error, Result, Said, Speaker, Tokens};

/// The largest body; Anthropic's own limit for messages (platform.claude.com/docs/en/api/errors).
const LONGEST_BODY: usize = 32 << 20;

/// Tokens that a server may add to a prompt: its template, and instructions for a schema.
const ADDED_TOKENS: u64 = 1024;

/// A request as it will be sent, and to whom. Nothing can change it.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing {
    endpoint: Endpoint,
    url: String,
    id: String,
    model: String,
    /// The most tokens of the prompt.
    prompt: u64,
    /// Bytes of the body without those of pictures and documents.
    text: u64,
    max_tokens: u32,
    /// The tokens of an answer that a client asked for, if it may not have so many.
    asked: Option<u64>,
    /// What of a client's request the server has no words for or its model refuses, and no answer depends on.
    left_out: Vec<&'static str>,
    body: Vec<u8>,
    /// The header `anthropic-beta` of whoever is passed on.
    beta: Option<String>,
}

impl Outgoing {
    /// Makes the request; the same question gives the same bytes.
    ///
    /// The conversation must be one that both dialects accept: what the system says first, then the user, the user
    /// last (there is no prefilling of answers), no empty message.
    pub fn prepare(endpoint: &Endpoint, ask: &Ask) -> Result<Outgoing> {
        let (system, talk) = check(ask)?;
        let base = endpoint.url.trim_end_matches('/');
        let (url, body) = match endpoint.dialect {
            Dialect::Anthropic => {
                (format!("{base}/v1/messages"), anthropic::body(endpoint, ask, system, talk))
            }
            Dialect::Openai => (format!("{base}/chat/completions"), openai::body(endpoint, ask)),
        };
        let body = body.map_err(|problem| bad(problem.to_string()))?;
        if body.len() > LONGEST_BODY {
            return Err(bad(format!(
                "it has `{}` bytes, the limit is `{LONGEST_BODY}`; show the model less",
                body.len()
            )));
        }
        Ok(Outgoing {
            endpoint: endpoint.clone(),
            url,
            id: ask.id.clone(),
            model: ask.model.clone(),
            prompt: body.len() as u64 + ADDED_TOKENS,
            text: body.len() as u64,
            max_tokens: ask.max_tokens,
            asked: None,
            left_out: Vec::new(),
            body,
            beta: None,
        })
    }

    /// Every byte of content that will leave; beside it go the key, the request's id and fixed headers.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// How many of these bytes are neither a picture nor a document, of which nobody knows the least tokens.
    pub fn text_bytes(&self) -> u64 {
        self.text
    }

    /// Where it goes, path included.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Who gets it.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The request's id, on every attempt the same.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The model that is asked.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// What the header `anthropic-beta` says.
    #[cfg(feature = "network")]
    pub(crate) fn beta(&self) -> Option<&str> {
        self.beta.as_deref()
    }

    /// The most tokens of the answer, thoughts included.
    pub fn max_tokens(&self) -> u32 {
        self.max_tokens
    }

    /// The tokens of an answer that a client asked for, if it may not have so many.
    pub fn asked(&self) -> Option<u64> {
        self.asked
    }

    /// The hints of a client that were left out, since the server has no words for them or its model refuses them.
    pub fn left_out(&self) -> &[&'static str] {
        &self.left_out
    }

    /// The most that one attempt can take, before anybody counted: a token of a text has at least one byte, pictures have
    /// limits of their own, and only a long document may have more. Where the body marks a prefix for the server's cache,
    /// all of the prompt is taken as written to it, which is dearest.
    pub fn most(&self) -> Tokens {
        let prompt = self.prompt;
        let output = u64::from(self.max_tokens);
        match self.endpoint.dialect {
            Dialect::Anthropic => Tokens { cache_write: prompt, output, ..Tokens::default() },
            Dialect::Openai => Tokens { input: prompt, output, ..Tokens::default() },
        }
    }
}

/// Without the content, which may be long and is not for logs.
impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("url", &self.url)
            .field("id", &self.id)
            .field("model", &self.model)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

fn bad(problem: impl Into<String>) -> Error {
    Error::BadAsk { problem: problem.into() }
}

/// What the system says, and the rest of the conversation.
fn check(ask: &Ask) -> Result<(&[Said], &[Said])> {
    let is_id = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if ask.id.is_empty() || ask.id.len() > 64 || !ask.id.chars().all(is_id) {
        return Err(bad(format!("its id `{}` is not 1 to 64 of `a-z0-9-`", ask.id.escape_debug())));
    }
    if ask.model.trim().is_empty() || ask.model.chars().any(char::is_control) {
        return Err(bad(format!("`{}` is not a model's name", ask.model.escape_debug())));
    }
    if ask.max_tokens == 0 {
        return Err(bad("`max_tokens` is 0; allow an answer of at least one token"));
    }
    if ask.schema.as_ref().is_some_and(|schema| !schema.is_object()) {
        return Err(bad("its schema is not a JSON object"));
    }
    if let Some(at) = ask.messages.iter().position(|said| said.text.trim().is_empty()) {
        return Err(bad(format!("message `{}` of the conversation is empty; leave it out", at + 1)));
    }
    let first = ask.messages.iter().take_while(|said| said.by == Speaker::System).count();
    let (system, talk) = ask.messages.split_at(first);
    match (talk.first(), talk.last()) {
        (Some(first), Some(last)) if first.by == Speaker::User && last.by == Speaker::User => {}
        _ => return Err(bad("the conversation has to begin and end with the user")),
    }
    if talk.iter().any(|said| said.by == Speaker::System) {
        return Err(bad("the system speaks in the middle of the conversation; say it at the beginning"));
    }
    Ok((system, talk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Effort;

    fn said(by: Speaker, text: &str) -> Said {
        Said { by, text: text.to_owned() }
    }

    fn ask(messages: Vec<Said>) -> Ask {
        Ask { id: "run-1".into(), model: "m".into(), messages, max_tokens: 100, schema: None, effort: None }
    }

    fn body(endpoint: &Endpoint, ask: &Ask) -> String {
        let outgoing = Outgoing::prepare(endpoint, ask).unwrap();
        assert!(outgoing.most().prompt() >= outgoing.body().len() as u64);
        String::from_utf8(outgoing.body().to_vec()).unwrap()
    }

    fn talk() -> Vec<Said> {
        vec![
            said(Speaker::System, "Be exact."),
            said(Speaker::User, &"long ".repeat(1000)),
            said(Speaker::Assistant, "No."),
            said(Speaker::User, "Yes."),
        ]
    }

    #[test]
    fn messages_of_anthropic_mark_the_stable_prefix() {
        let endpoint = Endpoint::new(Dialect::Anthropic, "https://api.anthropic.com/");
        let mut ask = ask(talk());
        ask.effort = Some(Effort::Low);
        ask.schema = Some(serde_json::json!({"type": "object"}));
        let text = body(&endpoint, &ask);
        let short = text.replace(&"long ".repeat(1000), "LONG");
        assert_eq!(
            short,
            concat!(
                r#"{"model":"m","max_tokens":100,"stream":true,"#,
                r#""system":[{"type":"text","text":"Be exact.","cache_control":{"type":"ephemeral"}}],"messages":["#,
                r#"{"role":"user","content":[{"type":"text","text":"LONG","cache_control":{"type":"ephemeral"}}]},"#,
                r#"{"role":"assistant","content":[{"type":"text","text":"No."}]},"#,
                r#"{"role":"user","content":[{"type":"text","text":"Yes."}]}],"#,
                r#""output_config":{"effort":"low","format":{"type":"json_schema","schema":{"type":"object"}}}}"#
            )
        );
        let outgoing = Outgoing::prepare(&endpoint, &ask).unwrap();
        assert_eq!(outgoing.url(), "https://api.anthropic.com/v1/messages");
        assert_eq!(outgoing.most().cache_write, text.len() as u64 + ADDED_TOKENS);
    }

    #[test]
    fn never_more_than_four_marks_and_none_on_short_messages() {
        let endpoint = Endpoint::new(Dialect::Anthropic, "https://h");
        let mut messages = vec![said(Speaker::System, "a"); 9];
        messages.extend(vec![said(Speaker::User, &"x".repeat(9000)); 9]);
        assert_eq!(body(&endpoint, &ask(messages)).matches("cache_control").count(), 2);
        let short = ask(vec![said(Speaker::User, "hi")]);
        let text = body(&endpoint, &short);
        assert!(!text.contains("cache_control") && !text.contains("system"), "{text}");
    }

    #[test]
    fn chat_completions_of_openai() {
        let mut endpoint = Endpoint::new(Dialect::Openai, "http://localhost:4000/v1");
        let mut ask = ask(vec![said(Speaker::System, "Be exact."), said(Speaker::User, "Hi")]);
        let messages =
            r#""messages":[{"role":"system","content":"Be exact."},{"role":"user","content":"Hi"}]"#;
        assert_eq!(
            body(&endpoint, &ask),
            format!(
                r#"{{"model":"m",{messages},"max_tokens":100,"stream":true,"stream_options":{{"include_usage":true}}}}"#
            )
        );
        endpoint.stream = false;
        endpoint.limit_name = Some(crate::LimitName::MaxCompletionTokens);
        ask.effort = Some(Effort::High);
        ask.schema = Some(serde_json::json!({"type": "object"}));
        assert_eq!(
            body(&endpoint, &ask),
            format!(
                concat!(
                    r#"{{"model":"m",{},"max_completion_tokens":100,"stream":false,"reasoning_effort":"high","#,
                    r#""response_format":{{"type":"json_schema","json_schema":"#,
                    r#"{{"name":"answer","strict":true,"schema":{{"type":"object"}}}}}}}}"#
                ),
                messages
            )
        );
    }

    #[test]
    fn the_limit_is_named_as_the_host_wants_it() {
        let ask = ask(vec![said(Speaker::User, "Hi")]);
        for (url, name) in [
            ("https://api.openai.com/v1", "max_completion_tokens"),
            ("https://one.openai.azure.com/openai/v1", "max_completion_tokens"),
            ("https://openrouter.ai/api/v1", "max_tokens"),
            ("https://api.openai.com.example.org/v1", "max_tokens"),
        ] {
            let text = body(&Endpoint::new(Dialect::Openai, url), &ask);
            assert!(text.contains(&format!(r#""{name}":100"#)), "{url}: {text}");
        }
    }

    #[test]
    fn what_no_server_would_take_is_refused_here() {
        use Speaker::{Assistant, System, User};
        let endpoint = Endpoint::new(Dialect::Anthropic, "https://h");
        let good = || ask(vec![said(User, "Hi")]);
        let cases: [(Ask, &str); 10] = [
            (ask(vec![]), "begin and end with the user"),
            (ask(vec![said(System, "x")]), "begin and end with the user"),
            (ask(vec![said(User, "x"), said(Assistant, "{")]), "end with the user"),
            (ask(vec![said(Assistant, "x"), said(User, "y")]), "begin"),
            (ask(vec![said(User, "x"), said(System, "y"), said(User, "z")]), "middle"),
            (ask(vec![said(User, " \n")]), "message `1`"),
            (Ask { id: "a\r\nx: y".into(), ..good() }, "id"),
            (Ask { model: String::new(), ..good() }, "model"),
            (Ask { max_tokens: 0, ..good() }, "max_tokens"),
            (Ask { schema: Some(serde_json::json!([])), ..good() }, "schema"),
        ];
        for (ask, word) in cases {
            let error = Outgoing::prepare(&endpoint, &ask).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let long = ask(vec![said(User, &"x".repeat(LONGEST_BODY))]);
        assert!(Outgoing::prepare(&endpoint, &long).unwrap_err().to_string().contains("bytes"));
    }

    #[test]
    fn content_is_not_for_logs() {
        let endpoint = Endpoint::new(Dialect::Openai, "https://h/v1");
        let outgoing = Outgoing::prepare(&endpoint, &ask(vec![said(Speaker::User, "sesame")])).unwrap();
        assert!(!format!("{outgoing:?}").contains("sesame"));
    }
}
