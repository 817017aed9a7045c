//! Requests that somebody else answers: the way out and back, for whoever decides that there is one, and on to the next
//! where somebody cannot, as long as the client has heard nothing.
//!
//! Owns no connection and no rule: an [`Elsewhere`] has both. What it passes on is sent to the client as it comes.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::body::Fields;
use crate::dialect::Dialect;
use crate::{Error, Result, Server, anthropic, openai};

/// A client hears something at least this often.
const PING: Duration = Duration::from_secs(10);

/// A request for an answer, as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whose API it speaks.
    pub dialect: Dialect,
    /// The model that it names.
    pub model: Option<String>,
    /// The model here that has that name, or another name for it.
    pub here: Option<String>,
    /// `metadata.tags`, or the header `x-litellm-tags`.
    pub tags: Vec<String>,
    /// `metadata.taskPhase`, or the header `x-task-phase`.
    pub phase: Option<String>,
    /// Its fields.
    pub body: Map<String, Value>,
    /// The header `anthropic-beta`.
    pub beta: Option<String>,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A model here.
    Here {
        /// Its name; None for the one that was asked for.
        model: Option<String>,
        /// What it is called where it is said who comes after whom; None where nobody comes after it.
        rung: Option<String>,
    },
    /// Somebody elsewhere, of this name.
    There(String),
    /// Somebody of this name who cannot answer.
    Absent {
        /// The name.
        rung: String,
        /// Why not, and the remedy.
        problem: String,
    },
}

/// What somebody lacks who did not answer: whether another one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Nothing: it is the request's own fault, or nobody waits for the answer any more.
    Nothing,
    /// What this request is or asks for, is not for it. Whoever asked for it is told; others take their turn after it.
    Fitness,
    /// It cannot be used now.
    Presence,
    /// The request is too long for it.
    Room {
        /// Tokens that it needs, where that is known.
        tokens: Option<u64>,
        /// Tokens that there is room for, where that is known.
        limit: Option<u64>,
    },
}

/// Who knows where requests go, and the way there.
pub trait Elsewhere: std::fmt::Debug + Send + Sync {
    /// Names for the list of models that clients see, beside those of models here. More names may be answered.
    fn names(&self) -> Vec<String>;

    /// Who answers a request. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Request`] for one that names nobody.
    fn choose(&self, asked: &Asked) -> Result<Choice>;

    /// Who answers after all of these, the last of which could not; None if nobody does. `room` says that the request was
    /// too long for one of them.
    fn after(&self, tried: &[&str], room: bool) -> Option<Choice>;

    /// Lets `name` answer, and tells `client` what comes. Blocks its thread until the answer has ended.
    ///
    /// # Errors
    /// Why there is no answer, or no more of it.
    fn answer(&self, name: &str, asked: &Asked, client: &Client) -> Result<()>;
}

/// The client of a request that is answered elsewhere.
#[derive(Debug)]
pub struct Client {
    /// As long as whoever answers lets an answer be: nobody waits for a slow client, which is let go after a while.
    parts: mpsc::UnboundedSender<Part>,
    gone: Arc<AtomicBool>,
}

enum Part {
    Event { name: String, data: String },
    Whole(String),
    Failed(Error),
}

impl Client {
    /// Passes on an event of a stream; its name may be empty.
    pub fn event(&self, name: &str, data: &str) {
        self.tell(Part::Event { name: name.to_owned(), data: data.to_owned() });
    }

    /// Passes on the whole answer.
    pub fn whole(&self, json: &str) {
        self.tell(Part::Whole(json.to_owned()));
    }

    /// Set when the client has gone away: nobody needs the rest.
    pub fn gone(&self) -> &AtomicBool {
        &self.gone
    }

    fn tell(&self, part: Part) {
        if self.parts.send(part).is_err() {
            self.gone.store(true, Ordering::Relaxed);
        }
    }
}

/// Tells whoever answers when the client has gone away.
struct Listening(Arc<AtomicBool>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets whoever is to answer a request do so: `here` with a model's name, or none for the one in the request, or somebody
/// elsewhere. Who cannot is followed by the next one.
///
/// # Errors
/// Why nobody answered.
pub(crate) async fn answered<F: Future<Output = Result<Response>>>(
    server: &Server,
    dialect: Dialect,
    headers: &HeaderMap,
    fields: &Fields,
    here: impl Fn(Option<String>) -> F,
) -> Result<Response> {
    let Some(elsewhere) = server.elsewhere() else { return here(None).await };
    let asked = Arc::new(Asked::new(server, dialect, headers, fields.get()?));
    let mut choice = elsewhere.choose(&asked)?;
    let mut failed: Vec<(String, Error)> = Vec::new();
    loop {
        let (rung, answer) = match choice {
            Choice::Here { model, rung } => (rung, here(model).await),
            Choice::There(name) => {
                (Some(name.clone()), there(server, elsewhere.clone(), name, asked.clone()).await)
            }
            Choice::Absent { rung, problem } => (Some(rung), Err(Error::absent(problem))),
        };
        let error = match answer {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let (Some(rung), lack) = (rung, error.lack()) else { return Err(error) };
        if lack == Lack::Nothing || lack == Lack::Fitness && failed.is_empty() {
            return Err(error);
        }
        failed.push((rung, error));
        let tried: Vec<&str> = failed.iter().map(|(rung, _)| rung.as_str()).collect();
        let room = failed.iter().any(|(_, error)| matches!(error.lack(), Lack::Room { .. }));
        let Some(next) = elsewhere.after(&tried, room) else { return Err(Error::of_all(failed)) };
        if let Some((from, error)) = failed.last() {
            // The error itself may quote the request.
            let (status, kind) = (error.status().as_u16(), error.kind());
            tracing::warn!(from, to = next.name(), status, kind, "falls back");
            if let Error::Failed(reason) = error {
                tracing::error!(reason, "failed");
            }
        }
        choice = next;
    }
}

impl Choice {
    fn name(&self) -> &str {
        match self {
            Self::Here { model, rung } => rung.as_deref().or(model.as_deref()).unwrap_or_default(),
            Self::There(name) | Self::Absent { rung: name, .. } => name,
        }
    }
}

/// The name of the model here that answers, or none for the one in the request, on a path that has no way out.
///
/// # Errors
/// [`Error::Request`] for a request that is answered elsewhere.
pub(crate) fn here(
    server: &Server,
    dialect: Dialect,
    headers: &HeaderMap,
    fields: &Fields,
) -> Result<Option<String>> {
    let Some(elsewhere) = server.elsewhere() else { return Ok(None) };
    match elsewhere.choose(&Asked::new(server, dialect, headers, fields.get()?))? {
        Choice::Here { model, .. } => Ok(model),
        Choice::Absent { problem, .. } => Err(Error::absent(problem)),
        Choice::There(name) => {
            let paths = "only `/v1/chat/completions` and `/v1/messages` are passed on";
            Err(Error::request("model", format!("`model`: `{name}` answers elsewhere; {paths}")))
        }
    }
}

/// A name that clients can ask for.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) name: String,
    pub(crate) owner: &'static str,
}

/// All names for clients: those of models here, then those of models elsewhere.
pub(crate) fn names(server: &Server) -> Vec<Name> {
    let models = server.models();
    let own = models.list().into_iter().map(|listed| Name::here(listed.name));
    let others = server.elsewhere().map(|elsewhere| elsewhere.names()).unwrap_or_default();
    own.chain(others.into_iter().filter(|name| !models.knows(Some(name))).map(Name::elsewhere)).collect()
}

/// The name, if a request that has it is answered.
///
/// # Errors
/// [`Error::NoModel`].
pub(crate) fn find(server: &Server, dialect: Dialect, name: String) -> Result<Name> {
    let body = Map::from_iter([("model".to_owned(), name.clone().into())]);
    let asked = Asked::new(server, dialect, &HeaderMap::new(), body);
    let elsewhere = server.elsewhere();
    let own = Choice::Here { model: None, rung: None };
    let choice = elsewhere.map_or(Ok(own), |elsewhere| elsewhere.choose(&asked))?;
    match choice {
        // Whoever answers has to be one that can be asked.
        Choice::There(rung) if elsewhere.is_some_and(|other| other.names().contains(&rung)) => {
            Ok(Name::elsewhere(name))
        }
        Choice::There(_) => Err(Error::NoModel {
            name: name.chars().take(100).collect(),
            known: names(server).into_iter().map(|known| known.name).collect(),
        }),
        Choice::Absent { problem, .. } => Err(Error::absent(problem)),
        Choice::Here { model: other, .. } => {
            server.models().resolve(Some(other.as_deref().unwrap_or(&name)))?;
            Ok(Name::here(name))
        }
    }
}

impl Name {
    fn here(name: String) -> Self {
        Self { name, owner: "local" }
    }

    fn elsewhere(name: String) -> Self {
        Self { name, owner: "elsewhere" }
    }
}

impl Asked {
    fn new(server: &Server, dialect: Dialect, headers: &HeaderMap, body: Map<String, Value>) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let metadata = body.get("metadata");
        let of = |name: &str| metadata.and_then(|metadata| metadata[name].as_str()).map(str::to_owned);
        let listed = metadata.and_then(|metadata| metadata["tags"].as_array()).into_iter().flatten();
        let mut tags: Vec<String> = listed.filter_map(|tag| Some(tag.as_str()?.to_owned())).collect();
        let more = text("x-litellm-tags").unwrap_or_default();
        tags.extend(more.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned));
        let model = body.get("model").and_then(Value::as_str).map(str::to_owned);
        Self {
            dialect,
            here: server.models().name(model.as_deref()),
            model,
            tags,
            phase: of("taskPhase").or_else(|| of("phase")).or_else(|| text("x-task-phase")),
            beta: text("anthropic-beta"),
            body,
        }
    }
}

async fn there(
    server: &Server,
    elsewhere: Arc<dyn Elsewhere>,
    name: String,
    asked: Arc<Asked>,
) -> Result<Response> {
    let permit = server.admit()?;
    let (sender, mut parts) = mpsc::unbounded_channel();
    let listening = Listening(Arc::default());
    let client = Client { parts: sender, gone: listening.0.clone() };
    let dialect = asked.dialect;
    tracing::info!(to = name, "passed on");
    spawn_blocking(move || {
        let answer = elsewhere.answer(&name, &asked, &client);
        // Whoever comes next needs it.
        drop(permit);
        if let Err(error) = answer {
            client.tell(Part::Failed(error));
        }
    });
    match parts.recv().await {
        None => Err(Error::Failed("no answer came".to_owned())),
        Some(Part::Failed(error)) => Err(error),
        Some(Part::Whole(json)) => {
            let mut response = Response::new(Body::from(json));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok(response)
        }
        Some(first) => Ok(stream(dialect, first, parts, listening)),
    }
}

fn stream(
    dialect: Dialect,
    first: Part,
    parts: mpsc::UnboundedReceiver<Part>,
    listening: Listening,
) -> Response {
    let state = (Some(first), parts, listening);
    let pieces = stream::unfold(state, move |(mut first, mut parts, listening)| async move {
        let part = match first.take() {
            Some(first) => Some(first),
            None => match tokio::time::timeout(PING, parts.recv()).await {
                Ok(part) => Some(part?),
                Err(_) => None,
            },
        };
        let text = part.map_or_else(|| ping(dialect).to_owned(), |part| write(dialect, part));
        Some((Ok::<_, Infallible>(text), (None, parts, listening)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// What is sent when nothing else is to say.
fn ping(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi => openai::PING,
        Dialect::Anthropic => anthropic::PING,
    }
}

/// A part as the client reads it.
fn write(dialect: Dialect, part: Part) -> String {
    match part {
        Part::Event { name, data } => {
            let name = if name.is_empty() { String::new() } else { format!("event: {name}\n") };
            let data: String = data.split('\n').map(|line| format!("data: {line}\n")).collect();
            format!("{name}{data}\n")
        }
        Part::Whole(json) => format!("data: {json}\n\n"),
        Part::Failed(error) => {
            let name = if dialect == Dialect::Anthropic { "event: error\n" } else { "" };
            format!("{name}data: {}\n\n", dialect.error_body(&error))
        }
    }
}
