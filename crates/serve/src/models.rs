//! Models by name: opened when they are asked for, closed when nobody asks any more or another needs the memory.
//!
//! Owns the engines and who uses them. One model is opened at a time; those that wait for it are a queue.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use coder_engine::fit::{Memory, Plan, Tensors};
use coder_engine::{Engine, Options};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use crate::{Error, Result};

/// Who is asked for vectors by a request that names no model.
pub(crate) const EMBED: &str = "embed";

/// What models are for. Such a name is the first model's as long as it is not another name for one.
const ROLES: [&str; 3] = ["primary", "fast", EMBED];

/// How long a model waits for others to be done, before its request is refused.
const PATIENCE: Duration = Duration::from_secs(30);

/// A model that may be asked for.
#[derive(Clone, Debug)]
pub struct Model {
    /// What clients call it.
    pub name: String,
    /// How it is opened.
    pub options: Options,
    /// Why it cannot be, if that is known before: whoever asks for it is told.
    pub problem: Option<String>,
}

/// How long models stay open. By default for ever, all of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep {
    /// Bytes that all open models may take together.
    pub memory: Option<u64>,
    /// How long a model stays open after its last use.
    pub alive: Option<Duration>,
}

/// Models and their other names. Cheap to clone.
#[derive(Clone)]
pub struct Models(Arc<Shared>);

struct Shared {
    entries: Vec<Entry>,
    aliases: Vec<(String, usize)>,
    keep: Keep,
    /// Held while a model is opened.
    turn: tokio::sync::Mutex<()>,
    /// Told when a model is not in use any more.
    idle: Notify,
}

struct Entry {
    name: String,
    options: Options,
    problem: Option<String>,
    /// Weights, cache and buffers.
    bytes: u64,
    slot: Mutex<Slot>,
}

struct Slot {
    engine: Option<Engine>,
    leases: usize,
    used: Instant,
}

/// What a client may know about a model.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// A model's name, or another for it.
    pub(crate) name: String,
    /// The model's name.
    pub(crate) model: String,
    /// Bytes that it takes when it is open.
    pub(crate) bytes: u64,
}

/// A model as the board shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    /// Other names for it.
    pub(crate) others: Vec<String>,
    /// Bytes that it takes when it is open.
    pub(crate) bytes: u64,
    /// Whether it is.
    pub(crate) open: bool,
}

/// An open model that stays open as long as this lives.
pub(crate) struct Lease {
    pub(crate) engine: Engine,
    shared: Arc<Shared>,
    at: usize,
}

impl Models {
    /// `models`, of which the first one answers when none is named, and other names for them: a name and the model that
    /// it stands for. `claude-*` stands for all names that begin like this. The roles `primary`, `fast` and `embed` are names
    /// of the first model where they are not given to another. Nothing is opened yet.
    ///
    /// # Errors
    /// [`Error::Request`] if there is no model, two have the same name, or one takes more memory than all may;
    /// [`Error::NoModel`] if another name is for none of them; [`Error::Failed`] for a file that cannot be read.
    pub fn new(models: Vec<Model>, aliases: Vec<(String, String)>, keep: Keep) -> Result<Self> {
        let entries = models.into_iter().map(Entry::new).collect::<Result<Vec<_>>>()?;
        if entries.is_empty() {
            return Err(Error::request(None, "no model; give one"));
        }
        entries.iter().try_for_each(|entry| keep.check(entry))?;
        let find = |name: &str| entries.iter().position(|entry| entry.name == name);
        for (at, entry) in entries.iter().enumerate() {
            if find(&entry.name) != Some(at) {
                return Err(Error::request(None, format!("two models are called `{}`", entry.name)));
            }
        }
        let known = || entries.iter().map(|entry| entry.name.clone()).collect();
        let aliases = aliases
            .into_iter()
            .map(|(alias, name)| match find(&name) {
                Some(at) => Ok((alias, at)),
                None => Err(Error::NoModel { name, known: known() }),
            })
            .collect::<Result<_>>()?;
        let (turn, idle) = (tokio::sync::Mutex::new(()), Notify::new());
        Ok(Self(Arc::new(Shared { entries, aliases, keep, turn, idle })))
    }

    /// Opens the model called `name` now, so that the first request does not wait for it.
    ///
    /// # Errors
    /// [`Error::NoModel`], [`Error::Failed`].
    pub async fn open(&self, name: &str) -> Result<()> {
        self.lease(Some(name)).await.map(drop)
    }

    /// All names: models first, then other names for them that stand for one name alone.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let own = self.0.entries.iter().enumerate().map(|(at, entry)| self.listed(&entry.name, at));
        let others = self.0.aliases.iter().filter(|(alias, _)| !alias.ends_with('*'));
        own.chain(others.map(|(alias, at)| self.listed(alias, *at))).collect()
    }

    fn listed(&self, name: &str, at: usize) -> Listed {
        let Entry { name: model, bytes, .. } = &self.0.entries[at];
        Listed { name: name.to_owned(), model: model.clone(), bytes: *bytes }
    }

    /// Engines that are open, with their models' names. Whoever holds one keeps it open.
    pub fn engines(&self) -> Vec<(String, Engine)> {
        let entries = self.0.entries.iter();
        entries.filter_map(|entry| Some((entry.name.clone(), entry.slot().engine.clone()?))).collect()
    }

    /// Whether somebody has this name, or the name of a role.
    pub(crate) fn knows(&self, name: Option<&str>) -> bool {
        self.resolve(name).is_ok()
    }

    /// The name of the model that answers to `name`, if one does.
    pub(crate) fn name(&self, name: Option<&str>) -> Option<String> {
        self.resolve(name).ok().map(|at| self.0.entries[at].name.clone())
    }

    /// All models, each with its other names, those for many names as well.
    pub(crate) fn named(&self) -> Vec<Named> {
        let entries = self.0.entries.iter().enumerate();
        let others = |at| self.0.aliases.iter().filter(move |(_, of)| *of == at);
        let named = |(at, entry): (usize, &Entry)| Named {
            name: entry.name.clone(),
            others: others(at).map(|(alias, _)| alias.clone()).collect(),
            bytes: entry.bytes,
            open: entry.slot().engine.is_some(),
        };
        entries.map(named).collect()
    }

    /// Bytes that all open models may take together.
    pub(crate) fn most_bytes(&self) -> Option<u64> {
        self.0.keep.memory
    }

    /// The number of the model that answers to `name`, which need not be in the list.
    ///
    /// # Errors
    /// [`Error::NoModel`].
    pub(crate) fn resolve(&self, name: Option<&str>) -> Result<usize> {
        let Some(name) = name else { return Ok(0) };
        let Shared { entries, aliases, .. } = &*self.0;
        let begins = |alias: &str| alias.strip_suffix('*').is_some_and(|start| name.starts_with(start));
        let alias = |test: &dyn Fn(&str) -> bool| Some(aliases.iter().find(|(alias, _)| test(alias))?.1);
        entries
            .iter()
            .position(|entry| entry.name == name)
            .or_else(|| alias(&|alias| alias == name))
            .or_else(|| alias(&begins))
            .or_else(|| ROLES.contains(&name).then_some(0))
            .ok_or_else(|| Error::NoModel {
                name: name.chars().take(100).collect(),
                known: self.list().into_iter().map(|listed| listed.name).collect(),
            })
    }

    /// The model called `name`, or the first one, for as long as the lease lives.
    pub(crate) async fn lease(&self, name: Option<&str>) -> Result<Lease> {
        let at = self.resolve(name)?;
        if let Some(lease) = self.open_lease(at) {
            return Ok(lease);
        }
        // What was begun is finished, also when the client is gone: the next one may want it.
        let models = self.clone();
        let opening = tokio::spawn(async move { models.open_in_turn(at).await });
        opening.await.map_err(|error| Error::Failed(error.to_string()))?
    }

    fn open_lease(&self, at: usize) -> Option<Lease> {
        let mut slot = self.0.entries[at].slot();
        let engine = slot.engine.clone()?;
        slot.leases += 1;
        Some(Lease { engine, shared: self.0.clone(), at })
    }

    async fn open_in_turn(&self, at: usize) -> Result<Lease> {
        let _turn = self.0.turn.lock().await;
        let entry = &self.0.entries[at];
        loop {
            if let Some(lease) = self.open_lease(at) {
                return Ok(lease);
            }
            if let Some(problem) = &entry.problem {
                return Err(Error::Failed(format!("model `{}`: {problem}", entry.name)));
            }
            self.make_room(entry).await?;
            let (began, options) = (Instant::now(), entry.options.clone());
            let opened = spawn_blocking(move || Engine::open(&options)).await;
            match opened.map_err(|error| Error::Failed(error.to_string()))? {
                Ok(engine) => {
                    let seconds = began.elapsed().as_secs_f64();
                    tracing::info!(model = entry.name, seconds, "model opened");
                    if let Some(notice) = &engine.info().notice {
                        tracing::warn!(model = entry.name, "{notice}");
                    }
                    *entry.slot() = Slot { engine: Some(engine), leases: 0, used: Instant::now() };
                    self.close_when_idle(at);
                }
                // The machine has less than the limit says.
                Err(coder_engine::Error::TooLarge { .. }) if self.close_oldest().await => {}
                Err(error) => return Err(Error::Failed(format!("model `{}`: {error}", entry.name))),
            }
        }
    }

    /// Closes idle models until there is room for `entry`; waits for those that are in use.
    async fn make_room(&self, entry: &Entry) -> Result<()> {
        let Some(memory) = self.0.keep.memory else { return Ok(()) };
        let taken = || -> u64 {
            let open = self.0.entries.iter().filter(|entry| entry.slot().engine.is_some());
            open.map(|entry| entry.bytes).sum()
        };
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            // Listens before it looks, so that no word is missed.
            let idle = self.0.idle.notified();
            if taken() + entry.bytes <= memory {
                return Ok(());
            }
            if !self.close_oldest().await && tokio::time::timeout_at(end, idle).await.is_err() {
                return Err(Error::NoMemory { name: entry.name.clone() });
            }
        }
    }

    /// Closes the model that was not used for the longest time, if one is not in use.
    async fn close_oldest(&self) -> bool {
        let idle = self.0.entries.iter().filter(|entry| entry.slot().is_idle());
        let Some(entry) = idle.min_by_key(|entry| entry.slot().used) else { return false };
        entry.close_if(|_| true).await
    }

    /// Closes a model once it has not been used for the time that it is kept.
    fn close_when_idle(&self, at: usize) {
        let Some(time) = self.0.keep.alive else { return };
        let shared: Weak<Shared> = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut wait = time;
            loop {
                tokio::time::sleep(wait).await;
                let Some(shared) = shared.upgrade() else { return };
                let entry = &shared.entries[at];
                if entry.close_if(|slot| slot.used.elapsed() >= time).await || entry.slot().engine.is_none() {
                    return;
                }
                let slot = entry.slot();
                let left = if slot.leases > 0 { time } else { time.saturating_sub(slot.used.elapsed()) };
                wait = left.max(Duration::from_millis(10));
            }
        });
    }
}

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

impl Keep {
    fn check(&self, entry: &Entry) -> Result<()> {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        match self.memory {
            Some(memory) if entry.bytes > memory => {
                let problem = format!(
                    "model `{}` needs `{:.2} GiB`, all together may take `{:.2} GiB`; allow more, or give it a smaller \
                     context",
                    entry.name,
                    gib(entry.bytes),
                    gib(memory)
                );
                Err(Error::request(None, problem))
            }
            _ => Ok(()),
        }
    }
}

impl Entry {
    fn new(Model { name, options, problem }: Model) -> Result<Self> {
        let slot = Mutex::new(Slot { engine: None, leases: 0, used: Instant::now() });
        if problem.is_some() {
            return Ok(Self { name, options, problem, bytes: 0, slot });
        }
        let failed = |error: coder_engine::Error| Error::Failed(format!("model `{name}`: {error}"));
        let weights = options.source.weights().map_err(failed)?;
        let room = options.room(weights.config()).map_err(failed)?;
        let plan = Plan::new(Tensors::Of(&weights), &room).map_err(failed)?;
        let taken = plan.bytes(plan.layers(), Memory::total(0));
        let bytes = taken.weights + taken.cache + taken.scratch + taken.host_weights;
        Ok(Self { name, options, problem, bytes, slot })
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        // Nothing is left half done under this lock.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes it if it is idle and `test` says so; whether it did.
    async fn close_if(&self, test: impl Fn(&Slot) -> bool) -> bool {
        let engine = {
            let mut slot = self.slot();
            if slot.is_idle() && test(&slot) { slot.engine.take() } else { None }
        };
        let Some(engine) = engine else { return false };
        // Its thread is waited for.
        let closed = spawn_blocking(move || drop(engine)).await.is_ok();
        tracing::info!(model = self.name, "model closed");
        closed
    }
}

impl Slot {
    fn is_idle(&self) -> bool {
        self.engine.is_some() && self.leases == 0
    }
}

impl Lease {
    /// The model's name.
    pub(crate) fn name(&self) -> &str {
        &self.shared.entries[self.at].name
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut slot = self.shared.entries[self.at].slot();
        slot.leases -= 1;
        slot.used = Instant::now();
        if slot.leases == 0 {
            self.shared.idle.notify_waiters();
        }
    }
}
