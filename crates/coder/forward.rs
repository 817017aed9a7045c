//! Who answers a request to `coder serve`: a model here, or a rung elsewhere, through egress, budget and ledger.
//!
//! The order: a rule of the configuration (`routes`: a phase, a tag) that fits; then the model's name, which is a model's
//! here, or a rung's, or another name for one of either; then `--default`. The rung `local` is the first model here, and
//! further rungs in this process are models beside it. Who comes after one that cannot answer, the ladders say, as they do
//! for tasks (S2-03, S2-07, S3-32); a model that is no rung, and `local:` and a name, have nobody after them.

mod hearing;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use coder_engine::Source;
use coder_escalate::config::Routed;
use coder_escalate::{Config, Fault, Reach, RungName};
use coder_serve::{Asked, Choice, Client, Elsewhere, Error, Keep, Lack, Model, Models};

use self::hearing::{Hearing, spoken};
use crate::cloud::Cloud;
use crate::failure::{Failure, Outcome};
use crate::ledger::Recorder;
use crate::rungs::Rungs;
use crate::writer::Stop;

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Models here, as rungs and other programs know them.
#[derive(Debug)]
pub(crate) struct Served {
    /// Names of all of them; the first one is the rung `local`.
    names: Vec<String>,
    /// The name of the model of each further rung in this process, or why it is not served.
    rungs: BTreeMap<RungName, Result<String, String>>,
}

impl Served {
    /// Adds the models of further rungs in this process to those that are served. What cannot be is told, and is no reason
    /// not to begin.
    pub(crate) fn new(
        config: &Config,
        models: &mut Vec<Model>,
        keep: Keep,
        find: impl Fn(&str) -> Outcome<Model>,
    ) -> Self {
        let mut add = |engine: &str| -> Outcome<String> {
            let mut model = find(engine)?;
            if let Some(other) = models.iter().find(|other| other.name == model.name) {
                let taken =
                    || Failure::new(format!("another model is served as `{}`; rename a file", model.name));
                return is_same(&other.options.source, &model.options.source)
                    .then(|| model.name.clone())
                    .ok_or_else(taken);
            }
            // That is of the model that was asked for.
            model.options.prefix_cache = None;
            Models::new(vec![model.clone()], Vec::new(), keep).map_err(Failure::new)?;
            models.push(model.clone());
            Ok(model.name)
        };
        let mut rungs = BTreeMap::new();
        for (name, rung) in config.rungs.iter().filter(|(name, _)| **name != RungName::local()) {
            let Reach::Engine(engine) = &rung.reach else { continue };
            let added = add(engine).map_err(|failure| format!("rung `{name}`: {}", failure.reason()));
            if let Err(problem) = &added {
                eprintln!("warning: {problem}");
            }
            rungs.insert(name.clone(), added);
        }
        Self { names: models.iter().map(|model| model.name.clone()).collect(), rungs }
    }

    /// The model that has this name in some spelling.
    fn named(&self, name: &str) -> Option<&String> {
        let key = coder_hub::key(name);
        self.names.iter().find(|name| coder_hub::key(name) == key)
    }

    /// The rung whose model this is.
    fn rung(&self, model: &str) -> Option<RungName> {
        if self.names.first().is_some_and(|first| first == model) {
            return Some(RungName::local());
        }
        let has = |of: &Result<String, String>| of.as_ref().is_ok_and(|of| of == model);
        self.rungs.iter().find(|(_, of)| has(of)).map(|(rung, _)| rung.clone())
    }

    /// Names of rungs as other names for their models.
    pub(crate) fn words(&self) -> impl Iterator<Item = (String, String)> {
        self.rungs.iter().filter_map(|(rung, model)| Some((rung.to_string(), model.clone().ok()?)))
    }
}

/// The rungs of the configuration behind a server. It lives as long as the process.
pub(crate) struct Forward {
    config: &'static Config,
    served: Served,
    recorder: &'static Recorder,
    stop: Stop,
    /// Other names for rungs; one that ends with `*` is for all names that begin like it.
    aliases: Vec<(String, RungName)>,
    /// Who answers what names nobody.
    default: Option<RungName>,
    /// The budget of a day, and the day.
    today: Mutex<(i64, Arc<Cloud<'static>>)>,
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("aliases", &self.aliases).finish_non_exhaustive()
    }
}

impl Forward {
    /// For a server that begins now, with other names for rungs and the rung that answers what names nobody.
    pub(crate) fn new(
        config: Config,
        served: Served,
        recorder: Recorder,
        aliases: Vec<(String, String)>,
        default: Option<&str>,
    ) -> Outcome<Self> {
        // As long as the process lives, and one only.
        let (config, recorder): (&'static Config, &'static Recorder) =
            (Box::leak(Box::new(config)), Box::leak(Box::new(recorder)));
        let rung = |name: &str| config.rung(name).map(|(name, _)| name).map_err(Failure::new);
        let aliases = aliases.into_iter().map(|(alias, name)| {
            let unknown =
                |error| Failure::new(format!("`{alias}`: no model `{name}` is served, and {error}"));
            let rung = config.rung(&name).map(|(name, _)| name).map_err(unknown)?;
            Ok((alias.clone(), rung))
        });
        let aliases = aliases.collect::<Outcome<Vec<_>>>()?;
        let (default, stop) = (default.map(rung).transpose()?, Stop::default());
        let today = Mutex::new((day(), Arc::new(Cloud::new(config, recorder, stop.clone())?)));
        Ok(Self { config, served, recorder, stop, aliases, default, today })
    }

    /// Whether anybody elsewhere may be asked.
    pub(crate) fn may_ask(&self) -> bool {
        let mut rungs = self.config.rungs.iter().filter(|(_, rung)| !rung.is_local());
        rungs.any(|(name, _)| Rungs::new(self.config).may_ask_alone(name))
    }

    /// Today's budget: a server sees many days.
    fn cloud(&self) -> Outcome<Arc<Cloud<'static>>> {
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        if today.0 != day() {
            *today = (day(), Arc::new(Cloud::new(self.config, self.recorder, self.stop.clone())?));
        }
        Ok(today.1.clone())
    }

    /// The rung that a model's name means, if it means one.
    fn rung(&self, model: &str) -> Option<RungName> {
        let begins = |alias: &str| alias.strip_suffix('*').is_some_and(|start| model.starts_with(start));
        let alias = |test: &dyn Fn(&str) -> bool| self.aliases.iter().find(|(alias, _)| test(alias));
        let alias = alias(&|alias| alias == model).or_else(|| alias(&begins)).map(|(_, rung)| rung.clone());
        alias.or_else(|| self.config.rung(model).ok().map(|(name, _)| name))
    }

    /// Where a rung is.
    fn at(&self, rung: &RungName) -> Choice {
        let here =
            |model: Option<&String>| Choice::Here { model: model.cloned(), rung: Some(rung.to_string()) };
        if *rung == RungName::local() {
            return here(self.served.names.first());
        }
        match self.served.rungs.get(rung) {
            Some(Ok(model)) => here(Some(model)),
            Some(Err(problem)) => Choice::Absent { rung: rung.to_string(), problem: problem.clone() },
            None => Choice::There(rung.to_string()),
        }
    }

    /// The model here that the request names, if it names one.
    fn known(&self, asked: &Asked) -> Option<Choice> {
        let rung = self.served.rung(asked.here.as_ref()?);
        Some(Choice::Here { model: None, rung: rung.map(|rung| rung.to_string()) })
    }

    /// Where a rung is that a rule sends a request to: the local one is the model that it names, if that is one here.
    fn routed(&self, rung: &RungName, asked: &Asked) -> Choice {
        let named = self.known(asked).filter(|_| *rung == RungName::local());
        named.unwrap_or_else(|| self.at(rung))
    }

    /// Who answers to `local:` and a name: nobody elsewhere, and nobody in its place.
    fn local(&self, name: &str) -> coder_serve::Result<Choice> {
        let alone = |model: &str| Choice::Here { model: Some(model.to_owned()), rung: None };
        if let Some(model) = self.served.named(name) {
            return Ok(alone(model));
        }
        match self.config.rung(name) {
            Ok((name, rung)) if rung.is_local() => match self.at(&name) {
                Choice::Here { model, .. } => Ok(Choice::Here { model, rung: None }),
                Choice::Absent { problem, .. } => Err(Error::absent(problem)),
                other => Ok(other),
            },
            _ => Ok(alone(name)),
        }
    }
}

impl Elsewhere for Forward {
    /// Rungs, and other names for one rung alone, to which something may be sent.
    fn names(&self) -> Vec<String> {
        let Config { rungs, endpoints, egress, .. } = self.config;
        let answers = |name: &RungName| {
            let rung = rungs.get(name)?;
            let Reach::Endpoint { endpoint, .. } = &rung.reach else {
                return self.served.rungs.get(name).is_none_or(Result::is_ok).then_some(());
            };
            let address = coder_escalate::Address::of(endpoints.get(endpoint)?).ok()?;
            let stays = address.loopback && !egress.forwards.contains(endpoint);
            (stays || egress.policy == coder_escalate::Policy::Allow).then_some(())
        };
        let aliases = self.aliases.iter().filter(|(alias, _)| !alias.ends_with('*'));
        let aliases = aliases.map(|(alias, rung)| (alias.clone(), rung));
        let rungs = rungs.keys().map(|rung| (rung.to_string(), rung));
        rungs.chain(aliases).filter(|(_, rung)| answers(rung).is_some()).map(|(name, _)| name).collect()
    }

    /// Covers S0-08, S2-02.
    fn choose(&self, asked: &Asked) -> coder_serve::Result<Choice> {
        let routed = Routed { phase: asked.phase.as_deref(), tags: &asked.tags, task_type: None };
        if let Some(rung) = self.config.route(&routed) {
            return Ok(self.routed(rung, asked));
        }
        if let Some(known) = self.known(asked) {
            return Ok(known);
        }
        let unknown = Choice::Here { model: None, rung: None };
        let Some(model) = asked.model.as_deref() else { return Ok(unknown) };
        if let Some(local) = model.strip_prefix("local:") {
            return self.local(local);
        }
        if let Some(rung) = self.rung(model) {
            return Ok(self.at(&rung));
        }
        if let Some(model) = self.served.named(model) {
            let rung = self.served.rung(model).map(|rung| rung.to_string());
            return Ok(Choice::Here { model: Some(model.clone()), rung });
        }
        Ok(self.default.as_ref().map_or(unknown, |rung| self.at(rung)))
    }

    fn after(&self, tried: &[&str], room: bool) -> Option<Choice> {
        Rungs::new(self.config).after(tried, room).map(|rung| self.at(&rung))
    }

    fn answer(&self, name: &str, asked: &Asked, client: &Client) -> coder_serve::Result<()> {
        let (rung, _) = self.config.rung(name).map_err(|error| Error::absent(error.to_string()))?;
        let cloud = self.cloud().map_err(|error| Error::absent(error.reason().to_owned()))?;
        let body = (spoken(asked.dialect), asked.body.clone());
        let cleared = cloud.cleared_to_pass(&rung, body, asked.beta.clone())?;
        let hearing = Hearing::new(asked, cleared.outgoing.endpoint().dialect, client);
        let paid = cloud.pass(&rung, &cleared, client.gone(), &|passed| hearing.hear(passed));
        let (kind, lack, after_s) = ("budget", Lack::Presence, None);
        let paid = paid.map_err(|problem| Error::Elsewhere { status: 402, kind, lack, after_s, problem })?;
        // An answer that cannot be said is ended here, whatever became of it there.
        hearing.understood()?;
        match paid.answer {
            Ok(_) => {
                hearing.end();
                Ok(())
            }
            Err(failure) => Err(Error::Elsewhere {
                status: status(&failure.fault),
                kind: failure.fault.name(),
                lack: lack_of(&failure.fault),
                after_s: after_s_of(&failure.fault),
                problem: failure.to_string(),
            }),
        }
    }
}

/// A request that a rung may not have, or would not take.
pub(crate) fn unfit(status: u16, problem: String) -> Error {
    Error::Elsewhere { status, kind: "unfit", lack: Lack::Fitness, after_s: None, problem }
}

/// A request that cannot fit into the context that the configuration says a rung has: it is never sent, since servers cut
/// what is too long in silence.
pub(crate) fn no_room(bytes: u64, context: u64, rung: &RungName) -> Error {
    let problem = format!(
        "`{bytes}` bytes are more than the `{context}` tokens of `{rung}`'s context can hold; send less, or raise \
         `rungs.\"{rung}\".context` if it holds more"
    );
    let lack = Lack::Room { tokens: None, limit: Some(context) };
    Error::Elsewhere { status: 400, kind: "too_long", lack, after_s: None, problem }
}

fn is_same(one: &Source, other: &Source) -> bool {
    match (one, other) {
        (Source::Path(one), Source::Path(other)) => {
            one == other
                || one
                    .canonicalize()
                    .ok()
                    .is_some_and(|one| other.canonicalize().is_ok_and(|other| one == other))
        }
        (Source::Bytes { name: one, .. }, Source::Bytes { name: other, .. }) => one == other,
        _ => false,
    }
}

fn day() -> i64 {
    crate::ledger::now().div_euclid(DAY_MS)
}

/// The status that tells a client best what happened elsewhere.
fn status(fault: &Fault) -> u16 {
    match fault {
        Fault::RateLimited { .. } => 429,
        Fault::TooLong { .. } | Fault::Refused { .. } => 400,
        Fault::Rejected { status, .. } if (400..500).contains(status) => *status,
        Fault::TimedOut { .. } => 504,
        Fault::Server { status: 503 | 529, .. } => 529,
        Fault::CoolingDown { .. } | Fault::Cancelled => 503,
        _ => 502,
    }
}

/// Whether somebody else may answer after this: not where the request itself is wrong, or nobody waits any more. A model that
/// a server does not have is the configuration's fault.
fn lack_of(fault: &Fault) -> Lack {
    match fault {
        Fault::TooLong { tokens, limit } => Lack::Room { tokens: *tokens, limit: *limit },
        Fault::Rejected { status: 404, .. } => Lack::Presence,
        Fault::Rejected { .. } | Fault::Refused { .. } | Fault::Cancelled => Lack::Nothing,
        _ => Lack::Presence,
    }
}

/// Seconds after which it may go better there, if somebody said so.
fn after_s_of(fault: &Fault) -> Option<u32> {
    let (Fault::RateLimited { after_s: Some(seconds), .. } | Fault::CoolingDown { seconds, .. }) = fault
    else {
        return None;
    };
    Some(u32::try_from(*seconds).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fault_tells_is_what_the_client_is_told() {
        let said = || "it says so".to_owned();
        let room = Lack::Room { tokens: Some(9), limit: Some(8) };
        let limited = |after_s| Fault::RateLimited { message: said(), after_s };
        let resting = Fault::CoolingDown { host: said(), failures: 3, seconds: 30 };
        let server = |status| Fault::Server { status, message: said() };
        for (fault, expected) in [
            (limited(Some(17)), (429, Lack::Presence, Some(17))),
            (limited(Some(u64::MAX)), (429, Lack::Presence, Some(u32::MAX))),
            (limited(None), (429, Lack::Presence, None)),
            (resting, (503, Lack::Presence, Some(30))),
            (server(503), (529, Lack::Presence, None)),
            (server(529), (529, Lack::Presence, None)),
            (server(500), (502, Lack::Presence, None)),
            (Fault::TooLong { tokens: Some(9), limit: Some(8) }, (400, room, None)),
        ] {
            assert_eq!((status(&fault), lack_of(&fault), after_s_of(&fault)), expected, "{fault}");
        }
    }
}
