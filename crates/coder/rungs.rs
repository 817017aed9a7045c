//! Who begins with a task, and who comes after: the configuration's rungs and ladders, as far as they may be asked.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, ValueEnum};
use coder_escalate::config::{Routed, When};
use coder_escalate::{Address, Config, Policy, Reach, RungName};
use coder_tasks::Task;
use coder_tasks::ledger::LOCAL;
use coder_tasks::policy::{Judgement, Ladders, Route};
use coder_tasks::run::ReviewRule;

use crate::bundled;
use crate::cloud::policy;
use crate::writer::Local;

/// What may leave this machine, and what it may cost.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Models elsewhere (see coder config)")]
pub(crate) struct CloudArgs {
    #[command(flatten)]
    spend: SpendArgs,
    /// Nobody reviews what the local model wrote
    #[arg(long)]
    no_review: bool,
}

/// Whether anything may be sent, and for how much.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Models elsewhere (see coder config)")]
pub(crate) struct SpendArgs {
    /// Whether anything may be sent to a model elsewhere: never, ask (each request is shown first) or allow. What a project
    /// forbids stays forbidden [default: the configuration's, and without one never]
    #[arg(long, value_name = "POLICY")]
    egress: Option<Say>,
    /// The most US dollars that this run may cost [default: the configuration's]
    #[arg(long, value_name = "USD", value_parser = usd)]
    budget: Option<f64>,
}

/// Values of `--egress`.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Say {
    Never,
    Ask,
    Allow,
}

impl CloudArgs {
    /// The arguments as a layer of the configuration.
    pub(crate) fn layer(&self) -> String {
        let mut text = self.spend.layer();
        if self.no_review {
            text += "review.when = \"never\"\n";
        }
        text
    }
}

impl SpendArgs {
    /// The arguments as a layer of the configuration.
    pub(crate) fn layer(&self) -> String {
        let mut text = String::new();
        if let Some(say) = self.egress {
            text += &format!("egress.policy = \"{}\"\n", format!("{say:?}").to_lowercase());
        }
        if let Some(usd) = self.budget {
            text += &format!("budget.run_usd = {usd:?}\n");
        }
        text
    }
}

fn usd(text: &str) -> Result<f64, String> {
    let number: f64 = text.trim_start_matches('$').parse().map_err(|_| "must be a number".to_owned())?;
    if number.is_finite() && number >= 0.0 { Ok(number) } else { Err("must be 0 or more".to_owned()) }
}

/// The rungs of a run.
#[derive(Clone, Copy)]
pub(crate) struct Rungs<'a> {
    pub(crate) config: &'a Config,
    /// Whether `--model` says which model `local` is.
    pub(crate) model_given: bool,
    /// Whether tasks that are not for a local model go to it all the same.
    pub(crate) force_local: bool,
}

impl<'a> Rungs<'a> {
    /// Those of a configuration.
    pub(crate) fn new(config: &'a Config) -> Self {
        Self { config, model_given: false, force_local: false }
    }

    /// Whether a rung may be asked at all. One on this machine always may.
    pub(crate) fn may_ask(&self, name: &RungName) -> bool {
        self.may_send(name, Policy::Allow)
    }

    /// The same where nobody is there to agree to each request.
    #[cfg(all(feature = "cloud", feature = "serve"))]
    pub(crate) fn may_ask_alone(&self, name: &RungName) -> bool {
        let agreed = self.config.egress.policy == Policy::Allow;
        self.may_send(name, if agreed { Policy::Allow } else { Policy::Never })
    }

    /// The same for a task, which may forbid it.
    fn may_ask_for(&self, task: &Task, name: &RungName) -> bool {
        self.may_send(name, task.egress.map_or(Policy::Allow, policy))
    }

    fn may_send(&self, name: &RungName, policy: Policy) -> bool {
        let Some(rung) = self.config.rungs.get(name) else { return false };
        let Reach::Endpoint { endpoint, .. } = &rung.reach else { return true };
        let rules = &self.config.egress;
        let here = self.config.endpoints.get(endpoint).and_then(|found| Address::of(found).ok());
        let stays = here.is_some_and(|address| address.loopback) && !rules.forwards.contains(endpoint);
        stays || rules.policy.min(policy) != Policy::Never
    }

    /// Who does a task, and who after that.
    pub(crate) fn ladders(&self, task: &Task, judgement: &Judgement) -> Ladders {
        let first = self.first(task, judgement);
        if !self.may_ask_for(task, &first) {
            // Asking for it says why not, and nobody else was meant.
            return Ladders::only(&self.tier(&first));
        }
        let all = &self.config.ladders;
        let own = all.types.get(&task_type(judgement));
        let allowed = |rungs: &[RungName]| -> Vec<String> {
            rungs.iter().filter(|rung| self.may_ask_for(task, rung)).map(|rung| self.tier(rung)).collect()
        };
        let tiers = |rungs: &[RungName]| rungs.iter().map(|rung| self.tier(rung)).collect::<Vec<_>>();
        Ladders {
            first: self.tier(&first),
            order: order(&tiers(&all.availability), &tiers(&all.quality)),
            availability: allowed(own.unwrap_or(&all.availability)),
            quality: allowed(own.unwrap_or(&all.quality)),
        }
    }

    /// The rung that answers a request to a server after these, the last of which could not; `room` says that it was too long
    /// for one of them. Those that may not be asked have no turn.
    #[cfg(all(feature = "cloud", feature = "serve"))]
    pub(crate) fn after(&self, tried: &[&str], room: bool) -> Option<RungName> {
        let all = &self.config.ladders;
        let names = |rungs: &[RungName]| rungs.iter().map(RungName::to_string).collect::<Vec<_>>();
        let mut availability = if room { all.context.clone() } else { all.availability.clone() };
        let order = order(&names(&availability), &names(&all.quality));
        availability.retain(|rung| self.may_ask_alone(rung));
        let (first, quality) = (tried.first()?.to_string(), Vec::new());
        let ladders = Ladders { first, order, availability: names(&availability), quality };
        RungName::new(ladders.after(tried)?).ok()
    }

    /// Whoever the task names, a rule of the configuration sends it to, or the policy.
    fn first(&self, task: &Task, judgement: &Judgement) -> RungName {
        let local = RungName::local;
        if self.force_local {
            return local();
        }
        if let Some(named) = &task.model {
            // A name that is none of a rung is that of a local model.
            return self.config.rung(named).map_or_else(|_| local(), |(name, _)| name);
        }
        let phase = task.phase.and_then(|phase| serde_json::to_value(phase).ok());
        let kind = task_type(judgement);
        let routed = Routed {
            phase: phase.as_ref().and_then(|phase| phase.as_str()),
            tags: &task.tags,
            task_type: Some(&kind),
        };
        let routed = self.config.route(&routed).cloned();
        let judged =
            (judgement.route == Route::Cloud).then(|| self.config.rung(&judgement.model).ok()).flatten();
        let wanted = routed.or_else(|| judged.map(|(name, _)| name));
        // Unlike a model that the task names, these only say who would be best.
        wanted.filter(|name| self.may_ask_for(task, name)).unwrap_or_else(local)
    }

    /// Who reviews, if anybody does.
    pub(crate) fn review(&self) -> Option<ReviewRule> {
        let review = &self.config.review;
        let local = || self.config.rungs.iter().filter(|(_, rung)| rung.is_local());
        let of = match review.when {
            When::Never => return None,
            When::Local => Some(local().map(|(name, _)| self.tier(name)).collect()),
            When::Always => None,
        };
        let is_elsewhere = self.config.rungs.get(&review.rung).is_some_and(|rung| !rung.is_local());
        let rule = ReviewRule { rung: review.rung.to_string(), of };
        (is_elsewhere && self.may_ask(&review.rung)).then_some(rule)
    }

    /// The model of a rung in this process. A task may choose that of `local`, unless the command line does. None for a rung
    /// elsewhere.
    pub(crate) fn model(&self, name: &RungName, task: Option<&Task>) -> Option<Local> {
        let rung = self.config.rungs.get(name)?;
        let of_rung = match &rung.reach {
            Reach::Here => bundled::NAME,
            Reach::Engine(model) => model,
            Reach::Endpoint { .. } => return None,
        };
        let chosen = task.filter(|_| name.as_str() == LOCAL && !self.model_given);
        let chosen = chosen.and_then(|task| self.chosen(task));
        let deadline = rung.deadline_s.map(Duration::from_secs);
        Some(Local { model: chosen.unwrap_or(of_rung).to_owned(), deadline })
    }

    /// The local model that a task chooses, with `local_model`, or with a `model` that is no rung.
    fn chosen<'t>(&self, task: &'t Task) -> Option<&'t str> {
        let named = task.model.as_deref().filter(|name| self.config.rung(name).is_err());
        let named = named.map(|name| name.strip_prefix("local:").unwrap_or(name));
        task.local_model.as_deref().or(named)
    }

    /// The models in this process that a task may come to.
    pub(crate) fn models(&self, ladders: &Ladders, task: &Task) -> impl Iterator<Item = Local> {
        let tiers = std::iter::once(&ladders.first).chain(&ladders.availability).chain(&ladders.quality);
        let rungs: BTreeSet<RungName> = tiers.filter_map(|tier| self.of_tier(tier)).collect();
        rungs.into_iter().filter_map(move |name| self.model(&name, Some(task)))
    }

    /// All rungs but the model that the command runs with, and their tiers.
    pub(crate) fn others(&self) -> impl Iterator<Item = (&'a RungName, String)> {
        self.config.rungs.keys().filter(|name| name.as_str() != LOCAL).map(|name| (name, self.tier(name)))
    }

    /// A rung's name in results and in the ledger, which tells what is in this process by the name.
    pub(crate) fn tier(&self, name: &RungName) -> String {
        let is_local = self.config.rungs.get(name).is_some_and(coder_escalate::Rung::is_local);
        if is_local && !name.is_of_this_process() { format!("{LOCAL}-{name}") } else { name.to_string() }
    }

    /// The rung that a tier means.
    pub(crate) fn of_tier(&self, tier: &str) -> Option<RungName> {
        let all = || self.config.rungs.keys();
        all().find(|name| self.tier(name) == tier).cloned()
    }
}

/// The type's name in tables and ladders.
fn task_type(judgement: &Judgement) -> String {
    let value = serde_json::to_value(judgement.classification.task_type).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// Both ladders as one: a rung comes after all that it comes after on one of them.
fn order(availability: &[String], quality: &[String]) -> Vec<String> {
    let mut order = availability.to_vec();
    let mut at = 0;
    for rung in quality {
        match order.iter().position(|other| other == rung) {
            Some(place) => at = at.max(place + 1),
            None => {
                order.insert(at, rung.clone());
                at += 1;
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(rungs: &[&str]) -> Vec<String> {
        rungs.iter().map(|rung| (*rung).to_owned()).collect()
    }

    #[test]
    fn the_ladders_are_merged() {
        let merged = |one: &[&str], two: &[&str]| order(&names(one), &names(two)).join(" ");
        assert_eq!(
            merged(&["local", "haiku", "sonnet"], &["local", "sonnet", "opus"]),
            "local haiku sonnet opus"
        );
        assert_eq!(merged(&["local"], &["local", "big", "opus"]), "local big opus");
        assert_eq!(merged(&["local", "haiku"], &["opus"]), "opus local haiku");
        assert_eq!(merged(&[], &["a", "b"]), "a b");
    }

    #[test]
    fn arguments_are_a_layer() {
        let spend = SpendArgs { egress: Some(Say::Ask), budget: Some(0.5) };
        let args = CloudArgs { spend, no_review: true };
        assert_eq!(args.layer(), "egress.policy = \"ask\"\nbudget.run_usd = 0.5\nreview.when = \"never\"\n");
        assert_eq!(CloudArgs::default().layer(), "");
        assert!(usd("-1").is_err() && usd("inf").is_err() && usd("$2.5") == Ok(2.5));
    }
}
