//! The tables of `coder stats`.

use std::collections::BTreeMap;

use coder_escalate::Prices;
use coder_tasks::ledger::{self, Entry, Group, Grouping, Metric, Stats, Target, Unit, timestamp};

use crate::table::{self, Side};

/// All figures, for people.
pub(super) fn stats(stats: &Stats, prices: &Prices, all_on: &BTreeMap<String, f64>) -> Vec<String> {
    let counts = &stats.counts;
    let period = match (&stats.from, &stats.to) {
        (Some(from), Some(to)) => format!(" from {} to {}", day(from), day(to)),
        _ => String::new(),
    };
    let open = counts.tasks - counts.finished;
    let mut lines = vec![format!(
        "{} {}{period}: {} complete ({} approved by a command), {} blocked, {} otherwise, {open} not ended",
        counts.tasks,
        if counts.tasks == 1 { "task" } else { "tasks" },
        counts.complete,
        counts.verified,
        counts.blocked,
        counts.finished - counts.complete - counts.blocked,
    )];
    lines.push(String::new());
    lines.extend(metrics(&stats.metrics));
    lines.push(String::new());
    lines.extend(tiers(stats));
    lines.push(String::new());
    let local = &stats.local_model_stats;
    let by_gate: Vec<String> =
        local.failures_by_type.iter().map(|(gate, count)| format!("{gate} {count}")).collect();
    let by_gate = if by_gate.is_empty() { String::new() } else { format!(" ({})", by_gate.join(", ")) };
    lines.push(format!(
        "local attempts: {}, {} done, {} escalated{by_gate}, mean score {:.2}",
        local.total_attempts, local.success_count, local.escalated_to_cloud, local.avg_quality_score
    ));
    lines.push(money(stats, prices));
    lines.extend(alone(all_on));
    lines.push(String::new());
    lines.extend(groups(Grouping::Week, &stats.weeks));
    lines.extend(trends(stats));
    lines
}

/// A line for each group.
pub(super) fn groups(by: Grouping, groups: &[Group]) -> Vec<String> {
    let head = [
        if by == Grouping::Week { "week of" } else { by.as_str() },
        "since",
        "tasks",
        "complete",
        "blocked",
        "delegated",
        "first pass",
        "tokens saved",
        "attempts",
        "prompt",
        "cached",
        "reply",
        "seconds",
        "cost",
    ];
    let share = |value: Option<f64>| value.map_or("-".to_string(), percent);
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(groups.iter().map(|group| {
        vec![
            group.name.clone(),
            group.from.as_deref().map_or("", day).to_string(),
            group.tasks.to_string(),
            group.complete.to_string(),
            group.blocked.to_string(),
            share(group.delegation),
            share(group.first_pass),
            share(group.tokens_saved),
            group.attempts.to_string(),
            group.prompt_tokens.to_string(),
            group.cached_tokens.to_string(),
            group.completion_tokens.to_string(),
            format!("{:.1}", group.seconds),
            usd(group.cost_usd),
        ]
    }));
    let mut sides = [Side::Right; 14];
    sides[0] = Side::Left;
    table::lines(&sides, &rows)
}

/// A line for each task.
pub(super) fn log(entries: &[Entry]) -> Vec<String> {
    let head = ["began", "session", "task", "file", "outcome", "by", "attempts", "tokens", "seconds", "why"];
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(entries.iter().map(|entry| {
        let last = entry.attempts.last();
        let by = last.map_or(String::new(), |last| match last.model.as_str() {
            "" => last.tier.clone(),
            model => format!("{} {model}", last.tier),
        });
        let tokens = entry.attempts.iter().map(|attempt| ledger::tokens(attempt.usage)).sum::<u64>();
        let why = entry.end.as_ref().and_then(|end| end.error.lines().next()).unwrap_or_default();
        vec![
            timestamp(entry.began),
            entry.session.to_string(),
            entry.task_id.clone(),
            entry.file.clone(),
            entry.outcome().unwrap_or("not ended").to_string(),
            by,
            entry.attempts.len().to_string(),
            tokens.to_string(),
            entry.end.as_ref().map_or("-".to_string(), |end| format!("{:.1}", end.seconds)),
            why.to_string(),
        ]
    }));
    let (left, right) = (Side::Left, Side::Right);
    table::lines(&[left, right, left, left, left, left, right, right, right, left], &rows)
}

fn metrics(metrics: &[Metric]) -> Vec<String> {
    let mut rows = vec![["", "", "value", "of", "target", ""].map(String::from).to_vec()];
    rows.extend(metrics.iter().map(|metric| {
        let value = metric.value.map_or("no data".to_string(), |value| figure(value, metric.unit));
        let of = match (metric.of, metric.unit) {
            (Some([part, all]), Unit::Share) if metric.id == "S0-35" => {
                format!("{} / {}", usd(part), usd(all))
            }
            (Some([part, all]), Unit::Share) => format!("{part} / {all}"),
            _ => String::new(),
        };
        let target = metric.target.map(|limit| target(limit, metric.unit)).unwrap_or_default();
        let met = match metric.met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        vec![metric.id.to_string(), metric.name.to_string(), value, of, target, met.to_string()]
    }));
    table::lines(&[Side::Left, Side::Left, Side::Right, Side::Right, Side::Left, Side::Left], &rows)
}

fn tiers(stats: &Stats) -> Vec<String> {
    let head = [
        "tier", "attempts", "good", "no model", "prompt", "cached", "reply", "tok/s", "seconds", "lines",
        "cost",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(stats.counts.tiers.iter().map(|(name, tier)| {
        let rate = tier.usage.completion_tokens as f64 / tier.seconds;
        vec![
            name.clone(),
            tier.attempts.to_string(),
            tier.successes.to_string(),
            tier.unavailable.to_string(),
            tier.usage.prompt_tokens.to_string(),
            tier.usage.cached_tokens.to_string(),
            tier.usage.completion_tokens.to_string(),
            if tier.seconds > 0.0 { format!("{rate:.1}") } else { "-".to_string() },
            format!("{:.1}", tier.seconds),
            stats.counts.lines.get(name).copied().unwrap_or(0).to_string(),
            usd(tier.cost_usd),
        ]
    }));
    let mut sides = [Side::Right; 11];
    sides[0] = Side::Left;
    table::lines(&sides, &rows)
}

fn money(stats: &Stats, prices: &Prices) -> String {
    let cost = stats.cost;
    let electricity = match cost.electricity_usd {
        Some(0.0) => "no electricity".to_string(),
        Some(amount) => {
            let watts = prices.electricity.watts.unwrap_or_default();
            let seconds = stats.counts.local_seconds();
            format!("{} of electricity ({watts} W for {seconds:.0} s)", usd(amount))
        }
        None => "electricity not known (--watts, --kwh-usd)".to_string(),
    };
    let best = match cost.all_best_usd {
        Some(amount) => format!("all by the best model: {} at prices of {}", usd(amount), prices.date),
        None => "no price of the best model".to_string(),
    };
    format!("cost: {} for cloud models, {electricity}; {best}", usd(cost.cloud_usd))
}

/// What one rung alone would have cost, the cheapest first.
fn alone(all_on: &BTreeMap<String, f64>) -> Option<String> {
    let mut rungs: Vec<(&String, &f64)> = all_on.iter().collect();
    rungs.sort_by(|one, other| one.1.total_cmp(other.1));
    let each: Vec<String> = rungs.iter().map(|(rung, amount)| format!("{rung} {}", usd(**amount))).collect();
    (!each.is_empty()).then(|| format!("all of it on one rung: {}", each.join(", ")))
}

fn trends(stats: &Stats) -> Vec<String> {
    let change = stats.trend.iter().filter_map(|trend| {
        let (last, change) = (trend.last?, trend.change?);
        Some(format!("{} {} ({:+.1} points)", trend.name.replace('_', " "), percent(last), change * 100.0))
    });
    let changes: Vec<String> = change.collect();
    if changes.is_empty() {
        return Vec::new();
    }
    vec![format!("newest week against up to four before it: {}", changes.join(", "))]
}

/// What a figure should be.
pub(super) fn target(target: Target, unit: Unit) -> String {
    let (sign, limit) = match target {
        Target::AtLeast(limit) => ("≥", limit),
        Target::MoreThan(limit) => (">", limit),
        Target::LessThan(limit) => ("<", limit),
        Target::Exactly(limit) => ("=", limit),
    };
    let limit = match unit {
        Unit::Share | Unit::Ratio => format!("{:.0} %", limit * 100.0),
        Unit::Seconds => format!("{limit} s"),
        Unit::Usd => format!("${limit}"),
        Unit::Count => limit.to_string(),
    };
    format!("{sign} {limit}")
}

fn figure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Share | Unit::Ratio => percent(value),
        Unit::Seconds => format!("{value:.1} s"),
        Unit::Usd => usd(value),
        Unit::Count => value.to_string(),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// To the cent, and what is less than a cent to two digits.
fn usd(amount: f64) -> String {
    let zeros = if amount == 0.0 { 0.0 } else { -amount.abs().log10().floor() };
    // A price of less than a billionth of a dollar says nothing more.
    let digits = (zeros + 1.0).clamp(2.0, 10.0) as usize;
    format!("${amount:.digits$}")
}

fn day(timestamp: &str) -> &str {
    timestamp.split_once('T').map_or(timestamp, |(day, _)| day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_amounts_keep_two_digits() {
        let shown = [0.0, 12.5, 0.01, 0.00144, 2.18e-6, 1e-20].map(usd);
        assert_eq!(shown, ["$0.00", "$12.50", "$0.010", "$0.0014", "$0.0000022", "$0.0000000000"]);
    }
}
