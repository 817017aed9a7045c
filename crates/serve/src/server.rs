//! The server's state, its limits, and which path is answered by whom.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::task::spawn_blocking;

use crate::board::{self, Board};
use crate::dialect::Dialect;
use crate::metrics::{self, Metrics};
use crate::models::Lease;
use crate::{Access, Elsewhere, Error, Models, Result, Tasks, admin, anthropic, openai, page, responses};

/// What clients may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests for answers that may be open at a time, waiting or running; further ones are told to come later.
    pub open: usize,
    /// Tokens that an answer may have; without it, as many as there is room for.
    pub answer_tokens: Option<usize>,
    /// How long an answer may take. It ends there, as one that has all its tokens.
    pub answer_time: Option<Duration>,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Bytes of the bodies of all open requests together; for what would be more there is no room.
    pub bodies_bytes: usize,
    /// How long a request's body may take to come.
    pub body_time: Duration,
    /// How long a request's headers may take to come.
    pub header_time: Duration,
    /// How long a client may read nothing of what it is sent.
    pub write_time: Duration,
    /// Connections that may be open at a time; further ones wait.
    pub connections: usize,
    /// How long answers may go on growing when the server ends.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open: 64,
            answer_tokens: None,
            answer_time: Some(Duration::from_secs(1800)),
            body_bytes: 16 << 20,
            bodies_bytes: 256 << 20,
            body_time: Duration::from_secs(30),
            header_time: Duration::from_secs(30),
            write_time: Duration::from_secs(30),
            connections: 1024,
            drain_time: Duration::from_secs(30),
        }
    }
}

/// A server's state: its models, who may ask and how much. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Server(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    models: Models,
    access: Access,
    limits: Limits,
    temperature: f32,
    metrics: Metrics,
    board: Board,
    open: Arc<Semaphore>,
    /// Bytes.
    bodies: Arc<Semaphore>,
    elsewhere: OnceLock<Arc<dyn Elsewhere>>,
}

impl Server {
    /// Answers with `models`.
    pub fn new(models: Models, access: Access, mut limits: Limits) -> Self {
        // More than that cannot be counted.
        for limit in [&mut limits.open, &mut limits.bodies_bytes, &mut limits.connections] {
            *limit = (*limit).min(Semaphore::MAX_PERMITS);
        }
        Self(Arc::new(Shared {
            models,
            access,
            temperature: 0.2,
            metrics: Metrics::new(),
            board: Board::new(),
            open: Arc::new(Semaphore::new(limits.open)),
            bodies: Arc::new(Semaphore::new(limits.bodies_bytes)),
            elsewhere: OnceLock::new(),
            limits,
        }))
    }

    /// The same, asking `elsewhere` about every request of a conversation who answers it.
    pub fn with_elsewhere(self, elsewhere: Arc<dyn Elsewhere>) -> Self {
        // The first one stays.
        let _ = self.0.elsewhere.set(elsewhere);
        self
    }

    pub(crate) fn elsewhere(&self) -> Option<&Arc<dyn Elsewhere>> {
        self.0.elsewhere.get()
    }

    /// Shows on the page what `source` tells of tasks; without one, the page has no such part. It is asked every few
    /// seconds at most, while somebody looks, and may take its time. An error goes to the log. The first source stays.
    pub fn show_tasks(&self, source: impl Fn() -> Result<Tasks, String> + Send + Sync + 'static) {
        self.0.board.show_tasks(Box::new(source));
    }

    /// The models.
    pub fn models(&self) -> &Models {
        &self.0.models
    }

    /// Requests for answers that are waiting or running.
    pub fn open_requests(&self) -> usize {
        self.0.limits.open - self.0.open.available_permits()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn board(&self) -> &Board {
        &self.0.board
    }

    /// Where a request does not say: low, as code wants it.
    pub(crate) fn temperature(&self) -> f32 {
        self.0.temperature
    }

    /// Room for one more request for answers.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit> {
        self.0.open.clone().try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => Error::Busy { open: self.0.limits.open },
            TryAcquireError::Closed => Error::Ending,
        })
    }

    /// Room for so many more bytes of a body.
    pub(crate) fn make_room(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let limit = self.0.limits.bodies_bytes;
        let permits = u32::try_from(bytes).map_err(|_| Error::NoRoom { limit })?;
        self.0.bodies.clone().try_acquire_many_owned(permits).map_err(|_| Error::NoRoom { limit })
    }

    /// What `work` finds with a model, which may take a while: a request like those for answers.
    pub(crate) async fn with_model<T: Send + 'static>(
        &self,
        model: Option<String>,
        work: impl FnOnce(&Lease) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = self.admit()?;
        let lease = self.models().lease(model.as_deref()).await?;
        let found = spawn_blocking(move || {
            let found = work(&lease);
            drop(permit);
            found
        });
        found.await.map_err(|error| Error::Failed(error.to_string()))?
    }

    /// Takes no more requests for answers; those that grow go on.
    pub(crate) fn end(&self) {
        self.0.open.close();
    }

    /// The paths of the server, for [`serve`](crate::serve) or to be mounted in another router. Who may ask is checked here,
    /// so paths beside these are the other router's own affair.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/models", get(openai::models))
            .route("/v1/models/{*name}", get(openai::model))
            .route("/v1/chat/completions", post(openai::chat::complete))
            .route("/v1/completions", post(openai::completions::complete))
            .route("/v1/responses", post(responses::respond))
            .route("/v1/embeddings", post(openai::embeddings::embed))
            .route("/v1/messages", post(anthropic::messages))
            .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
            .route("/openapi.json", get(admin::openapi))
            .route("/health", get(admin::health))
            .route("/metrics", get(metrics::metrics))
            .route("/api/version", get(admin::version))
            .route("/api/tags", get(admin::tags))
            .route("/api/board", get(board::board))
            .merge(page::files())
            .route("/tokenize", post(admin::tokenize))
            .route("/detokenize", post(admin::detokenize))
            .route("/apply-template", post(admin::apply_template))
            .fallback(no_path)
            .method_not_allowed_fallback(no_method)
            .with_state(self.clone())
            .layer(middleware::from_fn_with_state(self.clone(), guard))
    }
}

async fn no_path(request: Request) -> Error {
    Error::NoPath { path: request.uri().path().chars().take(200).collect() }
}

async fn no_method(request: Request) -> Error {
    let path = request.uri().path().chars().take(200).collect();
    Error::Method { method: request.method().as_str().chars().take(20).collect(), path }
}

/// Checks who asks, says errors in the words of the path's dialect, and allows pages that may ask to read the answer.
async fn guard(State(server): State<Server>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let (access, dialect) = (&server.0.access, Dialect::of(&path, request.headers()));
    let authority = request.uri().authority().map(|authority| authority.as_str());
    // Browsers ask without a key whether they may ask with one.
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key("access-control-request-method");
    let origin = request.headers().get(header::ORIGIN).cloned();
    let counted = request.extensions().get::<MatchedPath>().cloned();
    let checked = access.check(request.headers(), authority, preflight || page::is_open(&path));
    let is_foreign = matches!(checked, Err(Error::Foreign { .. }));
    let mut response = match checked {
        Err(error) => error.into_response(),
        Ok(()) if preflight => StatusCode::NO_CONTENT.into_response(),
        Ok(()) => next.run(request).await,
    };
    if let Some(error) = response.extensions_mut().remove::<Error>() {
        // The error itself may quote the request, and the path may be anything.
        let path = counted.as_ref().map_or("other", MatchedPath::as_str);
        tracing::info!(path, status = error.status().as_u16(), kind = error.kind(), "refused");
        if let Error::Failed(reason) = error.first() {
            tracing::error!(reason, "failed");
        }
        response = dialect.error(&error);
    }
    // A page that may ask may read why it got no answer.
    if let Some(origin) = origin.filter(|_| !is_foreign) {
        allow(&mut response, origin);
    }
    let counted = counted.as_ref().map_or("other", MatchedPath::as_str);
    server.metrics().answered(counted, response.status().as_u16());
    response
}

/// Lets the page of this origin, which was checked, read the answer.
fn allow(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*, authorization"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
}

impl IntoResponse for Error {
    /// The status and the error, for the guard to say it in the path's dialect.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
