//! Who answers a request to `coder serve`: a model here, or a rung elsewhere, through egress, budget and ledger.
//!
//! The order: a rule of the configuration (`routes`: a phase, a tag) that fits; then the model's name, which is a model's
//! here, or a rung's, or another name for one of either; then `--default`.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use coder_escalate::config::Routed;
use coder_escalate::{Config, Fault, Passed, RungName};
use coder_serve::{Asked, Choice, Client, Dialect, Elsewhere, Error};

use crate::cloud::Cloud;
use crate::failure::{Failure, Outcome};
use crate::ledger::Recorder;
use crate::writer::Stop;

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The rungs of the configuration behind a server. It lives as long as the process.
pub(crate) struct Forward {
    config: &'static Config,
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
        Ok(Self { config, recorder, stop, aliases, default, today })
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
    fn choice(&self, rung: RungName, asked: &Asked) -> Choice {
        match self.config.rungs.get(&rung).is_some_and(|rung| rung.is_local()) {
            // The first model answers where the name is that of none here.
            true if asked.known => Choice::Here(None),
            true => Choice::Here(Some("primary".to_owned())),
            false => Choice::There(rung.to_string()),
        }
    }
}

impl Elsewhere for Forward {
    /// Rungs, and other names for one rung alone, that speak the dialect and to which something may be sent.
    fn names(&self, dialect: Dialect) -> Vec<String> {
        let Config { rungs, endpoints, egress, .. } = self.config;
        let answers = |rung: &RungName| {
            let rung = rungs.get(rung)?;
            self.speaks(rung, dialect).ok()?;
            let coder_escalate::Reach::Endpoint { endpoint, .. } = &rung.reach else { return Some(()) };
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
            return Ok(self.choice(rung.clone(), asked));
        }
        let Some(model) = asked.model.as_deref() else { return Ok(Choice::Here(None)) };
        if asked.known {
            return Ok(Choice::Here(None));
        }
        if let Some(local) = model.strip_prefix("local:") {
            return Ok(Choice::Here(Some(local.to_owned())));
        }
        Ok(match self.rung(model).or_else(|| self.default.clone()) {
            Some(rung) => self.choice(rung, asked),
            None => Choice::Here(None),
        })
    }

    fn answer(&self, name: &str, asked: Asked, client: &Client) {
        if let Err((status, problem)) = self.pass(name, asked, client) {
            client.failed(Error::Elsewhere { status, problem });
        }
    }
}

impl Forward {
    fn pass(&self, name: &str, asked: Asked, client: &Client) -> Result<(), (u16, String)> {
        let failed = |error: &dyn fmt::Display| (502, error.to_string());
        let (rung, found) = self.config.rung(name).map_err(|error| failed(&error))?;
        self.speaks(found, asked.dialect)?;
        let cloud = self.cloud().map_err(|error| (502, error.reason().to_owned()))?;
        let counts = asked.body.get("stream_options").is_some_and(|options| options["include_usage"] == true);
        let cleared = cloud.cleared_to_pass(&rung, asked.body, asked.beta)?;
        let hear = |passed: Passed<'_>| match passed {
            Passed::Whole(json) => client.whole(json),
            // The count was asked for here, and not by the client.
            Passed::Event { data, .. } if asked.dialect == Dialect::OpenAi && !counts && is_count(data) => {}
            Passed::Event { name, data } => client.event(name, data),
        };
        let paid = cloud.pass(&rung, &cleared, client.gone(), &hear).map_err(|reason| (402, reason))?;
        paid.answer.map(|_| ()).map_err(|failure| (status(&failure.fault), failure.to_string()))
    }

    /// Whether a rung is spoken to as the client speaks.
    fn speaks(&self, rung: &coder_escalate::Rung, dialect: Dialect) -> Result<(), (u16, String)> {
        let coder_escalate::Reach::Endpoint { endpoint, .. } = &rung.reach else { return Ok(()) };
        let spoken = self.config.endpoints.get(endpoint).map(|endpoint| endpoint.dialect);
        match (spoken, dialect) {
            (Some(coder_escalate::Dialect::Anthropic), Dialect::OpenAi) => {
                Err((400, format!("`{endpoint}` speaks Anthropic's dialect; ask at `/v1/messages`")))
            }
            (Some(coder_escalate::Dialect::Openai), Dialect::Anthropic) => {
                Err((400, format!("`{endpoint}` speaks OpenAI's dialect; ask at `/v1/chat/completions`")))
            }
            _ => Ok(()),
        }
    }
}

fn day() -> i64 {
    crate::ledger::now().div_euclid(DAY_MS)
}

/// Whether a chunk has the count of tokens and nothing of an answer.
fn is_count(data: &str) -> bool {
    let Ok(chunk) = serde_json::from_str::<serde_json::Value>(data) else { return false };
    chunk["usage"].is_object() && chunk["choices"].as_array().is_some_and(Vec::is_empty)
}

/// The status that tells a client best what happened elsewhere.
fn status(fault: &Fault) -> u16 {
    match fault {
        Fault::RateLimited { .. } => 429,
        Fault::TooLong { .. } | Fault::Refused { .. } => 400,
        Fault::Rejected { status, .. } if (400..500).contains(status) => *status,
        Fault::TimedOut { .. } => 504,
        Fault::CoolingDown { .. } | Fault::Cancelled => 503,
        _ => 502,
    }
}
