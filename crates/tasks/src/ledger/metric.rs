//! Rates over tasks with their targets: what each requirement measures, defined once, for the table, the JSON and
//! the help.

use serde::Serialize;

use super::Usage;
use super::counts::{Counts, TierCounts, tokens};
use super::entry::{Millis, is_local};
use super::escalation::{Escalation, Ratio, Routed};

/// A figure, how it is made, and whether it is as it should be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metric {
    /// The requirement that asks for it, such as "S1-41".
    pub id: &'static str,
    /// In a few words.
    pub name: &'static str,
    /// The figure; None if there is no data for it.
    pub value: Option<f64>,
    /// What it counts.
    pub unit: Unit,
    /// The two numbers that it is the quotient of; None where it is none.
    pub of: Option<[f64; 2]>,
    /// What it should be.
    pub target: Option<Target>,
    /// Whether it is; None without data or target.
    pub met: Option<bool>,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A share; 1 is all.
    Share,
    /// One side's rate by the other's; 1 is as good.
    Ratio,
    /// Seconds.
    Seconds,
    /// US dollars.
    Usd,
    /// Things.
    Count,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This or more.
    AtLeast(f64),
    /// More than this.
    MoreThan(f64),
    /// Less than this.
    LessThan(f64),
    /// This and no other.
    Exactly(f64),
}

/// What figures are measured with.
pub struct Yardstick<'a> {
    /// US dollars of one request to the best cloud model; None if it has no price.
    pub best_usd: &'a dyn Fn(Usage) -> Option<f64>,
    /// Watts of this machine at work; None if nobody said.
    pub watts: Option<f64>,
    /// US dollars of a kilowatt hour; None if nobody said.
    pub kwh_usd: Option<f64>,
    /// What "the last 30 days" ends with.
    pub now: Millis,
}

/// Money of a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Paid for cloud models.
    pub cloud_usd: f64,
    /// Electricity of the local model: watts × seconds; None if it worked, and watts or price are not known.
    pub electricity_usd: Option<f64>,
    /// What the best cloud model would have cost for all complete tasks; None if it has no price.
    pub all_best_usd: Option<f64>,
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Definition {
    /// The requirement that asks for it.
    pub id: &'static str,
    /// In a few words.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// What it should be.
    pub target: Option<Target>,
    /// How it is made.
    pub text: &'static str,
}

/// Every metric.
pub const DEFINITIONS: [Definition; 16] = [
    define(
        "S1-02",
        "code by the local model",
        Unit::Share,
        Some(Target::AtLeast(0.80)),
        "lines of complete tasks that the local model wrote / all lines of complete tasks. A line counts if the new \
      file has it more often than the old one. Code that the task carried itself counts as not local",
    ),
    define(
        "S1-41",
        "delegation",
        Unit::Share,
        Some(Target::AtLeast(0.70)),
        "tasks whose first attempt was made here (by the local model, or by rule) / tasks with an attempt. Attempts for which \
      a model could not be used do not count",
    ),
    define(
        "S1-42",
        "first pass",
        Unit::Share,
        Some(Target::AtLeast(0.80)),
        "delegated tasks that their command approved at the first attempt / delegated tasks that were judged (approved, or blocked). \
      Tasks without a command are in neither",
    ),
    define(
        "S1-43",
        "cloud tokens saved",
        Unit::Share,
        Some(Target::AtLeast(0.60)),
        "1 - tokens sent to and received from cloud models / baseline. The baseline is every complete task done by a cloud model \
      at once: the tokens of its first prompt and of its last reply, counted by the tokenizer that was used. Tasks done by rule add nothing to it",
    ),
    define(
        "S1-44",
        "complete and approved",
        Unit::Share,
        Some(Target::Exactly(1.0)),
        "complete tasks that a command approved / complete tasks",
    ),
    define(
        "S1-44",
        "regressions",
        Unit::Count,
        Some(Target::Exactly(0.0)),
        "tasks whose command no longer approved after the merge; no data where no merge was checked",
    ),
    define(
        "S0-35",
        "saved against the best model",
        Unit::Share,
        Some(Target::AtLeast(0.75)),
        "1 - (cloud cost + electricity) / cost of the baseline of S1-43 at the best model's price. Electricity is watts × seconds of the local \
      model; no data without --watts and --kwh-usd",
    ),
    define(
        "S0-35",
        "the same without electricity",
        Unit::Share,
        None,
        "1 - cloud cost / cost of the baseline",
    ),
    define(
        "S4-17",
        "cloud tokens cut, routine tasks",
        Unit::Share,
        Some(Target::AtLeast(0.90)),
        "as S1-43, over the tasks that the policy gives to local models; where no policy decided, over the delegated ones",
    ),
    define(
        "S2-32",
        "escalation ratio",
        Unit::Share,
        Some(Target::LessThan(0.30)),
        "of the last 50 finished local attempts, those that somebody else had to do. A finished local attempt is a task on which the local \
      model's work was judged, with its retry; failures to run the model do not count",
    ),
    define(
        "S3-39",
        "completion against cloud",
        Unit::Ratio,
        Some(Target::MoreThan(0.80)),
        "share of judged tasks with local attempts that the local model did / the same share of cloud models",
    ),
    define(
        "S3-40",
        "quality against cloud",
        Unit::Ratio,
        Some(Target::MoreThan(0.85)),
        "mean score of judged local tasks / the same of cloud tasks. The score is 1 for approval at the first attempt, 1/2 at the second, \
      1/3 at the third, 0 for none; S2-27's avgQualityScore is the local mean",
    ),
    define(
        "S3-41",
        "seconds per local request",
        Unit::Seconds,
        Some(Target::LessThan(30.0)),
        "mean seconds from asking the local model to its reply, over the attempts that had one",
    ),
    define(
        "S3-42",
        "local model was there",
        Unit::Share,
        Some(Target::MoreThan(0.99)),
        "local attempts that did not fail for want of a model, a device or memory / local attempts not stopped by the user",
    ),
    define(
        "S3-43",
        "cost of the last 30 days",
        Unit::Usd,
        Some(Target::LessThan(100.0)),
        "cloud cost + electricity of the tasks that began in the last 30 days; as S0-35, no data while electricity is not known",
    ),
    define(
        "S3-44",
        "done offline",
        Unit::Share,
        Some(Target::MoreThan(0.70)),
        "tasks that ended complete without any cloud model / finished tasks",
    ),
];

impl Metric {
    /// All metrics of these sums, in the order of [`DEFINITIONS`]. `recent` are the sums of the last 30 days,
    /// `routed` the history of local attempts, oldest first.
    pub fn all(
        counts: &Counts,
        recent: &Counts,
        routed: &[Routed],
        yardstick: &Yardstick<'_>,
    ) -> Vec<Metric> {
        let values = values(counts, recent, routed, yardstick);
        let made = DEFINITIONS.iter().zip(values).map(|(defined, (value, of))| Metric {
            id: defined.id,
            name: defined.name,
            value,
            unit: defined.unit,
            of,
            target: defined.target,
            met: value.zip(defined.target).map(|(value, target)| target.is_met(value)),
        });
        made.collect()
    }
}

impl Target {
    /// Whether a figure is as it should be.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Target::AtLeast(limit) => value >= limit,
            Target::MoreThan(limit) => value > limit,
            Target::LessThan(limit) => value < limit,
            Target::Exactly(limit) => value == limit,
        }
    }
}

impl Cost {
    /// What these tasks cost.
    pub fn of(counts: &Counts, yardstick: &Yardstick<'_>) -> Cost {
        let kwh = yardstick.watts.map(|watts| watts * counts.local_seconds() / 3.6e6);
        let electricity_usd = match counts.local_seconds() {
            0.0 => Some(0.0),
            _ => kwh.zip(yardstick.kwh_usd).map(|(kwh, price)| kwh * price),
        };
        Cost {
            cloud_usd: counts.cost_usd(),
            electricity_usd,
            all_best_usd: counts
                .requests
                .iter()
                .map(|request| (yardstick.best_usd)(*request))
                .sum::<Option<f64>>()
                // The sum of nothing is -0.0.
                .map(|usd| usd + 0.0),
        }
    }
}

const fn define(
    id: &'static str,
    name: &'static str,
    unit: Unit,
    target: Option<Target>,
    text: &'static str,
) -> Definition {
    Definition { id, name, unit, target, text }
}

/// The value, and the quotient that it is, if it is one.
type Figure = (Option<f64>, Option<[f64; 2]>);

fn values(
    counts: &Counts,
    recent: &Counts,
    routed: &[Routed],
    yardstick: &Yardstick<'_>,
) -> [Figure; DEFINITIONS.len()] {
    let whole = |part: u64, all: u64| quotient(part as f64, all as f64);
    let saved = |part: f64, all: f64| {
        let (value, of) = quotient(part, all);
        (value.map(|share| 1.0 - share), of)
    };
    let ratio = |local: Option<f64>, cloud: Option<f64>| match local.zip(cloud) {
        Some((local, cloud)) => quotient(local, cloud),
        None => (None, None),
    };
    let local = |of: fn(&TierCounts) -> u64| counts.local_tiers().map(of).sum::<u64>();
    let asked = local(|tier| tier.attempts - tier.cancelled);
    let answered_seconds: f64 = counts.local_tiers().map(|tier| tier.answered_seconds).sum::<f64>() + 0.0;
    let money = Cost::of(counts, yardstick);
    let with_electricity = match (money.electricity_usd, money.all_best_usd) {
        (Some(electricity), Some(best)) => saved(money.cloud_usd + electricity, best),
        _ => (None, None),
    };
    let without = money.all_best_usd.map_or((None, None), |best| saved(money.cloud_usd, best));
    let Ratio { escalated, attempts } = Escalation::default().ratio(routed);
    let month = Cost::of(recent, yardstick);
    let month = month.electricity_usd.map(|electricity| month.cloud_usd + electricity);
    let month = month.filter(|_| recent.tasks > 0);
    let done = |quality: super::counts::Quality| {
        (quality.judged > 0).then(|| quality.done as f64 / quality.judged as f64)
    };
    let lines = |test: fn(&str) -> bool| {
        counts.lines.iter().filter(|(tier, _)| test(tier)).map(|(_, lines)| lines).sum()
    };
    let baseline = tokens(counts.baseline);
    [
        whole(lines(is_local), lines(|_| true)),
        whole(counts.delegated, counts.attempted),
        whole(counts.first_pass, counts.delegated_judged),
        saved(counts.cloud_tokens() as f64, baseline as f64),
        whole(counts.verified, counts.complete),
        ((counts.integrated > 0).then_some(counts.regressed as f64), None),
        with_electricity,
        without,
        saved(counts.routine_cloud_tokens as f64, tokens(counts.routine_baseline) as f64),
        whole(escalated as u64, attempts as u64),
        ratio(done(counts.local), done(counts.cloud)),
        ratio(counts.local.mean(), counts.cloud.mean()),
        quotient(answered_seconds, local(|tier| tier.answered) as f64),
        whole(asked - local(|tier| tier.unavailable), asked),
        (month, None),
        whole(counts.offline, counts.finished),
    ]
}

/// No quotient by zero: without a whole there is no data.
fn quotient(part: f64, all: f64) -> Figure {
    if all > 0.0 { (Some(part / all), Some([part, all])) } else { (None, None) }
}
