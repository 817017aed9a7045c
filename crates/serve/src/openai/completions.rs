//! POST /v1/completions: raw text, without a chat template; with `suffix`, what belongs between the two.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use coder_engine::SamplerOptions;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    DONE, Format, Head, PING, Sampling, StreamOptions, Texts, event, finish_reason, form, some_tokens, usage,
};
use crate::answer::{Answers, End, Event, Logprob, Part, Piece, What};
use crate::ask::{Ask, Prompt};
use crate::body::Fields;
use crate::dialect::{Dialect, json_response};
use crate::elsewhere::here;
use crate::{Error, Result, Server, stream};

/// The most log-probabilities of one token, as the API says.
const TOP: usize = 5;

/// Tokens of an answer where the request does not say, as the API has it.
const TOKENS: usize = 16;

#[derive(Debug, Deserialize)]
struct Body {
    model: Option<String>,
    prompt: Given,
    suffix: Option<String>,
    max_tokens: Option<usize>,
    n: Option<usize>,
    best_of: Option<usize>,
    echo: Option<bool>,
    stop: Option<Texts>,
    logprobs: Option<usize>,
    response_format: Option<Format>,
    json_schema: Option<Value>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    grammar: Option<String>,
}

/// One prompt, as text or tokens, alone or in a list.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of tokens")]
enum Given {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    Lists(Vec<Vec<u32>>),
}

/// POST /v1/completions
pub(crate) async fn complete(
    State(server): State<Server>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response> {
    let named = here(&server, Dialect::OpenAi, &headers, &fields)?;
    let body: Body = fields.get()?;
    let (model, streams) = (named.or_else(|| body.model.clone()), body.stream.unwrap_or(false));
    let include_usage = body.stream_options.as_ref().is_some_and(StreamOptions::include_usage);
    let shown = body.logprobs.is_some();
    let ask = body.into_ask(fields.get::<Sampling>()?.options(&server)?)?;
    let count = ask.count;
    let answers = Answers::begin(&server, model.as_deref(), ask).await?;
    let head = Head::new("cmpl", &answers.model);
    if streams {
        Ok(send(answers, head, shown, include_usage))
    } else {
        whole(answers, head, shown, count).await
    }
}

impl Body {
    fn into_ask(self, (mut sampler, seed): (SamplerOptions, Option<u64>)) -> Result<Ask> {
        let count = self.n.unwrap_or(1);
        if self.best_of.is_some_and(|best| best != count) {
            return Err(Error::request("best_of", "`best_of` is not supported; all `n` answers are given"));
        }
        if self.echo == Some(true) {
            return Err(Error::request("echo", "`echo` is not supported; the prompt is known"));
        }
        if self.logprobs.is_some_and(|top| top > TOP) {
            return Err(Error::request("logprobs", format!("`logprobs`: must be between `0` and `{TOP}`")));
        }
        sampler.logprobs = self.logprobs;
        let (grammar, grammar_field) = form(self.response_format, self.json_schema, self.grammar)?;
        Ok(Ask {
            max_tokens: some_tokens("max_tokens", self.max_tokens.or(Some(TOKENS)))?,
            sampler,
            seed,
            stop: self.stop.map(Texts::into_vec).unwrap_or_default(),
            grammar,
            grammar_field,
            count,
            ..Ask::new(self.prompt.with(self.suffix)?)
        })
    }
}

impl Given {
    fn with(self, suffix: Option<String>) -> Result<Prompt> {
        let several =
            || Error::request("prompt", "`prompt`: one prompt is supported; send a request for each");
        let one = match self {
            Self::Texts(texts) => {
                Self::Text(<[_; 1]>::try_from(texts).map(|[text]| text).map_err(|_| several())?)
            }
            Self::Lists(lists) => {
                Self::Tokens(<[_; 1]>::try_from(lists).map(|[list]| list).map_err(|_| several())?)
            }
            one => one,
        };
        match (one, suffix) {
            (Self::Text(prefix), Some(suffix)) => Ok(Prompt::Fim { prefix, suffix }),
            (Self::Text(text), None) => Ok(Prompt::Text(text)),
            (Self::Tokens(tokens), None) => Ok(Prompt::Tokens(tokens)),
            _ => Err(Error::request("suffix", "`suffix`: goes with a prompt that is text")),
        }
    }
}

/// What became certain of a text, and its tokens.
#[derive(Default)]
struct Choice {
    text: String,
    tokens: Vec<Logprob>,
}

impl Choice {
    fn add(&mut self, piece: Piece) {
        for part in piece.parts {
            // Raw text has no other parts.
            if let Part::Text(text) = part {
                self.text += &text;
            }
        }
        self.tokens.extend(piece.tokens);
    }

    fn json(&self, index: usize, end: Option<&End>, shown: bool, offset: usize) -> Value {
        json!({
            "text": self.text,
            "index": index,
            "logprobs": if shown { logprobs(&self.tokens, offset) } else { Value::Null },
            "finish_reason": end.map(|end| finish_reason(&end.reason)),
        })
    }
}

/// The form of log-probabilities that this path has had since before there was a chat. `offset` is where the first token
/// begins in the answer, in characters.
fn logprobs(tokens: &[Logprob], mut offset: usize) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut offsets = Vec::new();
    for token in tokens {
        offsets.push(offset);
        offset += text(&token.bytes).chars().count();
    }
    let top = |token: &Logprob| -> Value {
        token
            .top
            .iter()
            .map(|(bytes, p)| (text(bytes), Value::from(*p)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    json!({
        "tokens": tokens.iter().map(|token| text(&token.bytes)).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.logprob).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

fn object(head: &Head, choices: Vec<Value>) -> Value {
    json!({
        "id": head.id,
        "object": "text_completion",
        "created": head.created,
        "model": head.model,
        "choices": choices,
    })
}

/// The whole answer at once.
async fn whole(mut answers: Answers, head: Head, shown: bool, count: usize) -> Result<Response> {
    let choices = answers.gather(count, Choice::add).await?;
    let ends: Vec<End> = choices.iter().map(|(_, end)| end.clone()).collect();
    let numbered = choices.iter().enumerate();
    let choices = numbered.map(|(index, (choice, end))| choice.json(index, Some(end), shown, 0)).collect();
    let mut body = object(&head, choices);
    body["usage"] = usage(&ends);
    Ok(json_response(&body))
}

/// The answer as it grows.
fn send(answers: Answers, head: Head, shown: bool, include_usage: bool) -> Response {
    let chunk = move |choices: Vec<Value>, usage: Value| {
        let mut chunk = object(&head, choices);
        if include_usage {
            chunk["usage"] = usage;
        }
        event(&chunk)
    };
    let (mut ends, mut offsets) = (Vec::new(), std::collections::HashMap::<usize, usize>::new());
    stream::events(answers, String::new(), PING, move |heard| match heard {
        Some(Ok(Event { index, what: What::Piece(piece) })) => {
            let mut choice = Choice::default();
            choice.add(piece);
            let offset = offsets.entry(index).or_default();
            let value = choice.json(index, None, shown, *offset);
            let chars = |token: &Logprob| String::from_utf8_lossy(&token.bytes).chars().count();
            *offset += choice.tokens.iter().map(chars).sum::<usize>();
            chunk(vec![value], Value::Null)
        }
        Some(Ok(Event { index, what: What::End(end) })) => {
            let last = Choice::default().json(index, Some(&end), false, 0);
            ends.push(end);
            chunk(vec![last], Value::Null)
        }
        Some(Err(error)) => event(&Dialect::OpenAi.error_body(&error)),
        None if include_usage => chunk(Vec::new(), usage(&ends)) + DONE,
        None => DONE.to_owned(),
    })
}
