//! Statistics of the ledger: the metrics, and the same tasks in groups and weeks.
//!
//! Pure: entries in, figures out. Where there is no data, there is no figure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::calendar::{DAY, date, timestamp, week};
use super::counts::{Counts, tokens};
use super::entry::{Entry, MECHANICAL, Millis};
use super::escalation::Routed;
use super::metric::{Cost, Metric, Yardstick};
use super::request::Sent;
use super::state::LocalModelStats;

/// What `coder stats` says. Its JSON keeps its keys; new ones may come.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// When the first of the tasks began; None without any.
    pub from: Option<String>,
    /// When the last of them began.
    pub to: Option<String>,
    /// All metrics.
    pub metrics: Vec<Metric>,
    /// S2's figures, by their names there.
    #[serde(rename = "localModelStats")]
    pub local_model_stats: LocalModelStats,
    /// Money.
    pub cost: Cost,
    /// The sums that everything is made of.
    pub counts: Counts,
    /// One group for each week, oldest first, named by its Monday.
    pub weeks: Vec<Group>,
    /// How the newest week compares with those before.
    pub trend: Vec<Trend>,
}

/// Tasks that have something in common.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Group {
    /// What they have in common.
    pub name: String,
    /// When the first of them began.
    pub from: Option<String>,
    /// How many.
    pub tasks: u64,
    /// Complete ones.
    pub complete: u64,
    /// Blocked ones.
    pub blocked: u64,
    /// S1-41 of them.
    pub delegation: Option<f64>,
    /// S1-42 of them.
    pub first_pass: Option<f64>,
    /// S1-43 of them.
    pub tokens_saved: Option<f64>,
    /// Attempts.
    pub attempts: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of prompts that did not need to be computed again.
    pub cached_tokens: u64,
    /// Tokens of replies.
    pub completion_tokens: u64,
    /// Seconds of the writers.
    pub seconds: f64,
    /// US dollars.
    pub cost_usd: f64,
}

/// A rate of the newest week beside the weeks before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trend {
    /// Which rate: a key of [`Group`].
    pub name: &'static str,
    /// Of the newest week that has it.
    pub last: Option<f64>,
    /// The mean of up to four weeks before that have it.
    pub before: Option<f64>,
    /// The difference; None without both.
    pub change: Option<f64>,
}

/// What tasks may have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// The run of the program.
    Session,
    /// The week in which they began.
    Week,
    /// The day on which they began.
    Day,
    /// Nothing: every task is a group.
    Task,
    /// The tier of their last attempt.
    Tier,
    /// The model of their last attempt with one.
    Model,
    /// The templates of their last prompt.
    Template,
    /// The category.
    Category,
    /// The language.
    Language,
}

/// The period of S3-43.
const MONTH: Millis = 30 * DAY;

impl Stats {
    /// Of these tasks, oldest first, and of requests that belong to none.
    pub fn of(entries: &[Entry], loose: &[Sent], yardstick: &Yardstick<'_>) -> Stats {
        let month = yardstick.now - MONTH;
        let mut counts = Counts::of(entries);
        counts.add_loose(loose);
        let mut recent = Counts::of(entries.iter().filter(|entry| entry.began >= month));
        recent.add_loose(loose.iter().filter(|sent| sent.at >= month));
        let routed: Vec<Routed> = entries.iter().filter_map(Routed::of).collect();
        let weeks = Grouping::Week.groups(entries);
        Stats {
            from: counts.first.map(timestamp),
            to: counts.last.map(timestamp),
            metrics: Metric::all(&counts, &recent, &routed, yardstick),
            local_model_stats: LocalModelStats::of(&counts),
            cost: Cost::of(&counts, yardstick),
            trend: trends(&weeks),
            weeks,
            counts,
        }
    }
}

impl Grouping {
    /// All of them.
    pub const ALL: [Grouping; 9] = [
        Grouping::Session,
        Grouping::Week,
        Grouping::Day,
        Grouping::Task,
        Grouping::Tier,
        Grouping::Model,
        Grouping::Template,
        Grouping::Category,
        Grouping::Language,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Grouping::Session => "session",
            Grouping::Week => "week",
            Grouping::Day => "day",
            Grouping::Task => "task",
            Grouping::Tier => "tier",
            Grouping::Model => "model",
            Grouping::Template => "template",
            Grouping::Category => "category",
            Grouping::Language => "language",
        }
    }

    /// The groups of these tasks. Sessions, weeks, days and tasks are in the order of time, the others in that of
    /// their names.
    pub fn groups(self, entries: &[Entry]) -> Vec<Group> {
        let mut groups: BTreeMap<(Millis, i64, String), Vec<&Entry>> = BTreeMap::new();
        for (number, entry) in entries.iter().enumerate() {
            groups.entry(self.key(number, entry)).or_default().push(entry);
        }
        let named = groups.into_iter().map(|((.., name), tasks)| Group::of(name, tasks));
        named.collect()
    }

    fn key(self, number: usize, entry: &Entry) -> (Millis, i64, String) {
        let timeless = |name: &str| (0, 0, if name.is_empty() { "(none)" } else { name }.to_owned());
        let mut last = entry.attempts.iter().rev();
        match self {
            Grouping::Session => (0, entry.session, entry.session.to_string()),
            Grouping::Week => (week(entry.began), 0, date(week(entry.began))),
            Grouping::Day => (entry.began.div_euclid(DAY), 0, date(entry.began)),
            Grouping::Task => (entry.began, number as i64, entry.task_id.clone()),
            Grouping::Tier => timeless(last.next().map_or("", |attempt| &attempt.tier)),
            Grouping::Model => {
                timeless(last.find(|attempt| attempt.tier != MECHANICAL).map_or("", |attempt| &attempt.model))
            }
            Grouping::Template => timeless(
                last.find(|attempt| attempt.tier != MECHANICAL).map_or("", |attempt| &attempt.template),
            ),
            Grouping::Category => timeless(entry.category.as_deref().unwrap_or("")),
            Grouping::Language => timeless(&entry.language),
        }
    }
}

impl Group {
    /// Adds tasks up.
    fn of<'a>(name: String, entries: impl IntoIterator<Item = &'a Entry>) -> Group {
        let counts = Counts::of(entries);
        let share = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
        let mut group = Group {
            name,
            from: counts.first.map(timestamp),
            tasks: counts.tasks,
            complete: counts.complete,
            blocked: counts.blocked,
            delegation: share(counts.delegated, counts.attempted),
            first_pass: share(counts.first_pass, counts.delegated_judged),
            tokens_saved: share(counts.cloud_tokens(), tokens(counts.baseline)).map(|share| 1.0 - share),
            cost_usd: counts.cost_usd(),
            ..Group::default()
        };
        for tier in counts.tiers.values() {
            group.attempts += tier.attempts;
            group.prompt_tokens += tier.usage.prompt_tokens;
            group.cached_tokens += tier.usage.cached_tokens;
            group.completion_tokens += tier.usage.completion_tokens;
            group.seconds += tier.seconds;
        }
        group
    }
}

fn trends(weeks: &[Group]) -> Vec<Trend> {
    type Rate = fn(&Group) -> Option<f64>;
    let rates: [(&str, Rate); 3] = [
        ("delegation", |week| week.delegation),
        ("first_pass", |week| week.first_pass),
        ("tokens_saved", |week| week.tokens_saved),
    ];
    let trend = |(name, rate): (&'static str, Rate)| {
        let mut newest_first = weeks.iter().rev().filter_map(rate);
        let last = newest_first.next();
        let before: Vec<f64> = newest_first.take(4).collect();
        let before = (!before.is_empty()).then(|| before.iter().sum::<f64>() / before.len() as f64);
        Trend { name, last, before, change: last.zip(before).map(|(last, before)| last - before) }
    };
    rates.into_iter().map(trend).collect()
}
