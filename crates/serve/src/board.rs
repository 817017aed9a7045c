//! GET /api/board: what the page at `/` shows, at the moment and since the server began.
//!
//! Whoever looks never waits long: an engine that is in the middle of a long step, and a source of tasks that takes its
//! time, are waited for a moment; then what they said last is shown. One thread at a time asks each of them.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use coder_engine::{ModelInfo, Stats};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::dialect::json_response;
use crate::metrics::Answered;
use crate::models::Named;
use crate::{Error, Result, Server};

/// How old what engines said may be, so that many who look ask them as often as one.
const ENGINES_AGE: Duration = Duration::from_millis(200);
/// How long engines are waited for.
const ENGINES_WAIT: Duration = Duration::from_millis(400);
/// How old what is known of tasks may be.
const TASKS_AGE: Duration = Duration::from_secs(5);
/// How long its source is waited for.
const TASKS_WAIT: Duration = Duration::from_millis(600);

/// What the tasks that were run on this machine add up to. Shares are of 1; none where there is no data for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tasks {
    /// Tasks that were begun.
    pub tasks: u64,
    /// Those of them that are complete.
    pub complete: u64,
    /// Those of the complete ones that a command approved.
    pub approved: u64,
    /// Those that nobody could do.
    pub blocked: u64,
    /// Tasks whose first attempt was made here.
    pub local: u64,
    /// Tasks that the local model tried and somebody else had to do.
    pub escalated: u64,
    /// Of the newest local attempts, those that somebody else had to do.
    pub escalation_share: Option<f64>,
    /// Of the tasks done here, those that were right at the first attempt.
    pub first_pass_share: Option<f64>,
    /// Tokens that local models read and wrote.
    pub local_tokens: u64,
    /// Tokens that went to cloud models and came from them.
    pub cloud_tokens: u64,
    /// Tokens that cloud models would have taken for all complete tasks.
    pub baseline_tokens: u64,
    /// US dollars paid for cloud models.
    pub cloud_usd: f64,
    /// US dollars of electricity; none if nobody said what this machine takes.
    pub electricity_usd: Option<f64>,
    /// US dollars that the best cloud model would have cost for all complete tasks.
    pub baseline_usd: Option<f64>,
    /// Who did what: the local model, rules, and each cloud model.
    pub tiers: Vec<Tier>,
    /// Days with tasks, oldest first.
    pub days: Vec<Day>,
    /// What the best cloud model costs.
    pub best: Option<Prices>,
}

/// What one kind of model did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tier {
    /// Its name, such as `local`.
    pub name: String,
    /// How often it was asked.
    pub attempts: u64,
    /// How often it was right.
    pub successes: u64,
    /// Tokens that it read and wrote.
    pub tokens: u64,
    /// US dollars.
    pub cost_usd: f64,
}

/// The tasks of a day.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Day {
    /// Such as 2026-11-28, UTC.
    pub date: String,
    /// Tasks that were begun.
    pub tasks: u64,
    /// Those of them that are complete.
    pub complete: u64,
}

/// US dollars for a million tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Prices {
    /// Whose.
    pub name: String,
    /// When they were looked up.
    pub date: String,
    /// Of a prompt.
    pub input_usd: f64,
    /// Of a prompt that was in the cache.
    pub cached_usd: f64,
    /// Of an answer.
    pub output_usd: f64,
}

type Source = dyn Fn() -> Result<Tasks, String> + Send + Sync;

/// What is kept for those who look.
pub(crate) struct Board {
    began: Instant,
    tasks: OnceLock<Arc<Source>>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    engines: Glance<HashMap<String, Engine>>,
    tasks: Glance<Option<Tasks>>,
}

/// What an engine said.
#[derive(Clone)]
struct Engine {
    /// Seconds after the server began.
    at_s: f64,
    stats: Stats,
    info: ModelInfo,
}

/// Something that takes a while to look at.
struct Glance<T> {
    last: Option<(Instant, T)>,
    looking: Option<JoinHandle<T>>,
}

/// The whole of the answer. Numbers are in the units of their names.
#[derive(Serialize)]
struct Shown {
    version: &'static str,
    uptime_s: f64,
    requests: Requests,
    memory: Memory,
    models: Vec<OfModel>,
    /// Absent without a source, null if it cannot tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<Option<Tasks>>,
}

#[derive(Serialize)]
struct Requests {
    /// Requests for answers that wait or run.
    open: usize,
    /// As many as may.
    most: usize,
    /// Requests that got an error.
    refused: u64,
}

#[derive(Serialize)]
struct Memory {
    /// Of this process, files that it maps included, where the system tells (Linux).
    resident_bytes: Option<u64>,
    /// Of the models that are open, as it was planned.
    models_bytes: u64,
    /// As much as they may take together.
    most_bytes: Option<u64>,
}

#[derive(Serialize)]
struct OfModel {
    #[serde(flatten)]
    named: Named,
    /// Since the server began.
    #[serde(flatten)]
    answered: Answered,
    /// If it is open.
    now: Option<Now>,
}

/// An engine at a moment; what it counts begins when it is opened.
#[derive(Serialize)]
struct Now {
    /// When that was, in seconds after the server began.
    at_s: f64,
    architecture: String,
    parameters: u64,
    context: usize,
    device: String,
    draft: Option<String>,
    #[serde(flatten)]
    stats: Stats,
}

impl Board {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), tasks: OnceLock::new(), seen: Mutex::default() }
    }

    pub(crate) fn show_tasks(&self, source: Box<Source>) {
        // Of two sources the first stays, as the caller was told.
        let _ = self.tasks.set(source.into());
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("began", &self.began).finish_non_exhaustive()
    }
}

impl<T> Default for Glance<T> {
    fn default() -> Self {
        Self { last: None, looking: None }
    }
}

impl<T: Clone + Send + 'static> Glance<T> {
    /// What was seen last: at most `age` ago, unless looking takes longer than `wait`.
    async fn look(
        &mut self,
        (age, wait): (Duration, Duration),
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let is_old = self.last.as_ref().is_none_or(|(at, _)| at.elapsed() >= age);
        if is_old && self.looking.is_none() {
            self.looking = Some(spawn_blocking(look));
        }
        if let Some(looking) = &mut self.looking
            && let Ok(seen) = tokio::time::timeout(wait, looking).await
        {
            self.looking = None;
            // A look that failed leaves what was seen before.
            self.last = seen.ok().map(|seen| (Instant::now(), seen)).or(self.last.take());
        }
        self.last.as_ref().map(|(_, seen)| seen.clone())
    }
}

/// GET /api/board
pub(crate) async fn board(State(server): State<Server>) -> Result<Response> {
    let (engines, tasks) = server.board().see(&server).await;
    let (metrics, models) = (server.metrics(), server.models().named());
    let shown = Shown {
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: server.board().began.elapsed().as_secs_f64(),
        requests: Requests {
            open: server.open_requests(),
            most: server.limits().open,
            refused: metrics.refused(),
        },
        memory: Memory {
            resident_bytes: resident_bytes(),
            models_bytes: models.iter().filter(|model| model.open).map(|model| model.bytes).sum(),
            most_bytes: server.models().most_bytes(),
        },
        models: models.into_iter().map(|named| of_model(&server, named, &engines)).collect(),
        tasks,
    };
    let shown = serde_json::to_value(&shown).map_err(|error| Error::Failed(error.to_string()))?;
    let mut response = json_response(&shown);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

impl Board {
    /// What engines and tasks are doing, or what they said last.
    async fn see(&self, server: &Server) -> (HashMap<String, Engine>, Option<Option<Tasks>>) {
        let mut seen = self.seen.lock().await;
        let (began, models) = (self.began, server.models().clone());
        let ask = move || {
            let engines = models.engines().into_iter();
            let said = engines.filter_map(|(model, engine)| {
                let (stats, info) = (engine.stats().ok()?, engine.info().clone());
                Some((model, Engine { at_s: began.elapsed().as_secs_f64(), stats, info }))
            });
            said.collect()
        };
        let engines = seen.engines.look((ENGINES_AGE, ENGINES_WAIT), ask).await.unwrap_or_default();
        let Some(source) = self.tasks.get().cloned() else { return (engines, None) };
        let ask = move || match source() {
            Ok(tasks) => Some(tasks),
            Err(problem) => {
                tracing::warn!(problem, "tasks are not shown");
                None
            }
        };
        let tasks = seen.tasks.look((TASKS_AGE, TASKS_WAIT), ask).await.flatten();
        (engines, Some(tasks))
    }
}

fn of_model(server: &Server, named: Named, engines: &HashMap<String, Engine>) -> OfModel {
    let answered = server.metrics().of(&named.name);
    // One that was closed since is not shown as it was.
    let engine = engines.get(&named.name).filter(|_| named.open).cloned();
    let now = engine.map(|Engine { at_s, stats, info }| Now {
        at_s,
        architecture: info.architecture,
        parameters: info.parameters,
        context: info.context,
        device: info.device,
        draft: info.draft.map(|draft| draft.name),
        stats,
    });
    OfModel { named, answered, now }
}

/// Main memory that this process has at the moment.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const NOW: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_takes_long_is_asked_by_one_and_shown_as_it_was() {
        let mut glance = Glance::default();
        assert_eq!(glance.look((NOW, LONG), || 1).await, Some(1));
        assert_eq!(glance.look((LONG, LONG), || unreachable!("it is new enough")).await, Some(1));
        let (go, wait) = mpsc::channel::<()>();
        let slow = move || wait.recv().map_or(0, |()| 2);
        assert_eq!(glance.look((NOW, NOW), slow).await, Some(1));
        assert_eq!(glance.look((NOW, NOW), || unreachable!("somebody looks already")).await, Some(1));
        go.send(()).expect("somebody who looks");
        assert_eq!(glance.look((NOW, LONG), || unreachable!("somebody looks already")).await, Some(2));
    }

    #[tokio::test]
    async fn what_fails_is_shown_as_it_was() {
        let mut glance = Glance::default();
        assert_eq!(glance.look((NOW, LONG), || 1).await, Some(1));
        assert_eq!(glance.look((NOW, LONG), || panic!("a source that fails")).await, Some(1));
        assert_eq!(glance.look((NOW, LONG), || 2).await, Some(2));
    }
}
