//! POST /v1/embeddings: texts as vectors.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coder_engine::{Canceller, Embedding, EmbeddingRequest, Engine, Error as EngineError};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body::Fields;
use crate::dialect::{Dialect, json_response};
use crate::elsewhere::here;
use crate::models::EMBED;
use crate::{Error, Result, Server};

/// Texts of one request at most, as the API says.
const TEXTS: usize = 2048;

/// Texts that are read at a time: enough to fill a step, and few enough to leave others their place.
const TOGETHER: usize = 16;

#[derive(Debug, Deserialize)]
struct Body {
    model: Option<String>,
    input: Input,
    dimensions: Option<usize>,
    encoding_format: Option<Encoding>,
}

/// One text or several. Clients that send tokens have them from a vocabulary of OpenAI's; here they would be other words.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a text or a list of texts; tokens are not taken, for they may be of another vocabulary \
                 (LangChain: `check_embedding_ctx_length=False`)"
)]
enum Input {
    One(String),
    Many(Vec<String>),
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Encoding {
    #[default]
    Float,
    Base64,
}

/// POST /v1/embeddings
pub(crate) async fn embed(
    State(server): State<Server>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response> {
    let named = here(&server, Dialect::OpenAi, &headers, &fields)?;
    let Body { model, input, dimensions, encoding_format } = fields.get()?;
    let texts = input.into_texts()?;
    let encoding_format = encoding_format.unwrap_or_default();
    let going = Going::default();
    let held = going.0.clone();
    let deadline = server.limits().answer_time.and_then(|time| Instant::now().checked_add(time));
    let (name, columns, found) = server
        .with_model(named.or_else(|| model.clone()).or_else(|| Some(EMBED.to_owned())), move |lease| {
            let columns = width(dimensions, lease.engine.info().hidden)?;
            Ok((lease.name().to_owned(), columns, vectors(&lease.engine, texts, deadline, &held)?))
        })
        .await?;
    let mut tokens = 0;
    let data: Vec<Value> = found
        .into_iter()
        .enumerate()
        .map(|(index, Embedding { mut vector, usage })| {
            tokens += usage.prompt_tokens;
            shorten(&mut vector, columns);
            json!({ "object": "embedding", "index": index, "embedding": encoding_format.say(&vector) })
        })
        .collect();
    server.metrics().read(&name, tokens);
    tracing::info!(model = name, prompt_tokens = tokens, texts = data.len(), "embedded");
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    let model = model.unwrap_or(name);
    Ok(json_response(&json!({ "object": "list", "data": data, "model": model, "usage": usage })))
}

impl Input {
    fn into_texts(self) -> Result<Vec<String>> {
        let texts = match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        };
        if (1..=TEXTS).contains(&texts.len()) {
            Ok(texts)
        } else {
            let problem = format!("`input`: `{}` texts; send between `1` and `{TEXTS}`", texts.len());
            Err(Error::request("input", problem))
        }
    }
}

impl Encoding {
    /// As numbers, or as the bytes of little-endian floats.
    fn say(self, vector: &[f32]) -> Value {
        match self {
            Self::Float => json!(vector),
            Self::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                STANDARD.encode(bytes).into()
            }
        }
    }
}

/// Numbers of a vector that are wanted.
fn width(dimensions: Option<usize>, hidden: usize) -> Result<usize> {
    match dimensions {
        Some(n) if n == 0 || n > hidden => {
            let problem = format!("`dimensions`: `{n}` is not between `1` and the model's `{hidden}`");
            Err(Error::request("dimensions", problem))
        }
        wanted => Ok(wanted.unwrap_or(hidden)),
    }
}

/// The first `columns` numbers, of length 1 again (Kusupati et al. 2022, "Matryoshka Representation Learning").
fn shorten(vector: &mut Vec<f32>, columns: usize) {
    if columns < vector.len() {
        vector.truncate(columns);
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > 0.0 {
            vector.iter_mut().for_each(|x| *x /= length);
        }
    }
}

/// The vectors of all texts, a few at a time.
fn vectors(
    engine: &Engine,
    texts: Vec<String>,
    deadline: Option<Instant>,
    held: &Mutex<Held>,
) -> Result<Vec<Embedding>> {
    let mut found = Vec::with_capacity(texts.len());
    let mut started = VecDeque::new();
    let mut texts = texts.into_iter().enumerate();
    loop {
        while started.len() < TOGETHER
            && let Some((at, text)) = texts.next()
        {
            let request = engine.embedding(&text).map(|request| EmbeddingRequest { deadline, ..request });
            let embedder = request.and_then(|request| engine.embed(request)).map_err(|e| refused(at, e))?;
            hold(held, embedder.canceller());
            started.push_back((at, embedder));
        }
        let Some((at, embedder)) = started.pop_front() else { return Ok(found) };
        found.push(embedder.wait().map_err(|error| refused(at, error))?);
    }
}

/// What is wrong with the text of this number.
fn refused(at: usize, error: EngineError) -> Error {
    match error {
        EngineError::Request { problem, .. } => {
            let field = format!("input[{at}]");
            Error::Request { problem: format!("`{field}`: {problem}"), field: Some(field) }
        }
        other => Error::from(other).renamed(&[("messages", &format!("input[{at}]"))]),
    }
}

/// Lives as long as the client listens; then nothing more is read for it.
#[derive(Default)]
struct Going(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    gone: bool,
    cancellers: Vec<Canceller>,
}

impl Drop for Going {
    fn drop(&mut self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.gone = true;
        held.cancellers.iter().for_each(Canceller::cancel);
    }
}

fn hold(held: &Mutex<Held>, canceller: Canceller) {
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    if held.gone {
        canceller.cancel();
    }
    held.cancellers.push(canceller);
}
