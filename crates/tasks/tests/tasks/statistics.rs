//! Statistics of random histories against a computation that is as plain as can be.

use coder_tasks::ledger::{
    Attempt, AttemptResult, End, Entry, Grouping, Metric, Routed, Stats, Yardstick, week,
};
use coder_tasks::{FailureClass, Usage};
use proptest::prelude::*;

const TIERS: [&str; 4] = ["mechanical", "local", "sonnet", "opus"];
const OUTCOMES: [&str; 5] = ["complete", "blocked", "unavailable", "refused", "cancelled"];
const GATES: [&str; 3] = ["parse", "lint", "test"];
const NOW: i64 = 1_795_857_330_000;
const DAY: i64 = 86_400_000;

fn attempt() -> impl Strategy<Value = Attempt> {
    let class = prop_oneof![
        Just(FailureClass::Availability),
        Just(FailureClass::Quality),
        Just(FailureClass::Quality),
        Just(FailureClass::Setup),
        Just(FailureClass::Cancelled),
    ];
    let failed = (class, 0..3usize).prop_map(|(class, gate)| AttemptResult::Failed {
        class,
        gate: GATES[gate].to_owned(),
        reason: "x".to_owned(),
    });
    let result =
        prop_oneof![2 => Just(AttemptResult::Verified), 1 => Just(AttemptResult::Unverified), 3 => failed];
    let numbers = (0..5000u64, 0..500u64, 0..100u64, 0..400u32, 0..100u32);
    (0..TIERS.len(), result, numbers).prop_map(|(tier, result, (prompt, reply, lines, seconds, cents))| {
        Attempt {
            tier: TIERS[tier].to_owned(),
            model: format!("model {}", lines % 3),
            template: String::new(),
            sampled: None,
            usage: Usage { prompt_tokens: prompt, cached_tokens: prompt / 2, completion_tokens: reply },
            seconds: f64::from(seconds) / 4.0,
            cost_usd: f64::from(cents) / 128.0,
            lines,
            result,
            stages: Vec::new(),
            at: 0,
        }
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let end = proptest::option::weighted(0.9, (0..OUTCOMES.len(), any::<bool>()));
    let flags = (proptest::option::of(any::<bool>()), proptest::option::of(any::<bool>()));
    (proptest::collection::vec(attempt(), 0..4), end, flags, 0..60 * DAY, 0..5i64).prop_map(
        |(attempts, end, (eligible, integrated), age, session)| Entry {
            session,
            task_id: format!("T-{age}"),
            file: "a.rs".to_owned(),
            language: "rust".to_owned(),
            category: eligible.map(|_| "utility".to_owned()),
            eligible,
            began: NOW - age,
            end: end.map(|(outcome, verified)| End {
                at: NOW,
                outcome: OUTCOMES[outcome].to_owned(),
                verified,
                seconds: 1.0,
                error: String::new(),
            }),
            integrated,
            attempts,
        },
    )
}

fn best_usd(usage: Usage) -> Option<f64> {
    // Dearer for long prompts, so that adding up first would be wrong.
    let price = if usage.prompt_tokens > 2500 { 8.0 } else { 4.0 };
    Some(usage.prompt_tokens as f64 * price / 1e6 + usage.completion_tokens as f64 * 20.0 / 1e6)
}

fn yardstick(watts: Option<f64>) -> Yardstick<'static> {
    Yardstick { best_usd: &best_usd, watts, kwh_usd: Some(0.5), now: NOW }
}

fn share(part: f64, all: f64) -> Option<f64> {
    if all == 0.0 { None } else { Some(part / all) }
}

/// Every metric again, each with loops of its own.
fn plain(entries: &[Entry]) -> Vec<Option<f64>> {
    let here = |a: &Attempt| a.tier == "mechanical" || a.tier == "local";
    let is = |e: &Entry, outcome: &str| e.end.as_ref().is_some_and(|end| end.outcome == outcome);
    let approved = |e: &Entry| is(e, "complete") && e.end.as_ref().unwrap().verified;
    let judged = |e: &Entry| approved(e) || is(e, "blocked");
    let delegated = |e: &Entry| !e.attempts.is_empty() && here(&e.attempts[0]);
    let count = |test: &dyn Fn(&Entry) -> bool| entries.iter().filter(|e| test(e)).count() as f64;
    let (mut local_lines, mut all_lines) = (0.0, 0.0);
    let (mut cloud, mut base, mut routine_cloud, mut routine_base) = (0.0, 0.0, 0.0, 0.0);
    let (mut paid, mut best, mut month, mut power) = (0.0, 0.0, 0.0, 0.0);
    let (mut seconds, mut replies, mut missing, mut asked) = (0.0, 0.0, 0.0, 0.0);
    for e in entries {
        let routine = match e.eligible {
            Some(yes) => yes,
            None => delegated(e),
        };
        if is(e, "complete") {
            if let Some(last) = e.attempts.last() {
                all_lines += last.lines as f64;
                local_lines += if last.tier == "local" { last.lines as f64 } else { 0.0 };
            }
            let with_model: Vec<_> = e.attempts.iter().filter(|a| a.tier != "mechanical").collect();
            if !with_model.is_empty() {
                let prompt = with_model[0].usage.prompt_tokens;
                let reply = with_model[with_model.len() - 1].usage.completion_tokens;
                base += (prompt + reply) as f64;
                routine_base += if routine { (prompt + reply) as f64 } else { 0.0 };
                let request = Usage { prompt_tokens: prompt, cached_tokens: 0, completion_tokens: reply };
                best += best_usd(request).unwrap();
            }
        }
        for a in &e.attempts {
            let tokens = (a.usage.prompt_tokens + a.usage.completion_tokens) as f64;
            let usd = a.cost_usd + if a.tier == "local" { a.seconds * 600.0 / 3.6e6 * 0.5 } else { 0.0 };
            paid += a.cost_usd;
            power += usd - a.cost_usd;
            month += if NOW - e.began <= 30 * DAY { usd } else { 0.0 };
            if !here(a) {
                cloud += tokens;
                routine_cloud += if routine { tokens } else { 0.0 };
            }
            if a.tier == "local" {
                let class = match &a.result {
                    AttemptResult::Failed { class, .. } => Some(*class),
                    _ => None,
                };
                asked += if class == Some(FailureClass::Cancelled) { 0.0 } else { 1.0 };
                missing += if class == Some(FailureClass::Availability) { 1.0 } else { 0.0 };
                if class != Some(FailureClass::Cancelled) && class != Some(FailureClass::Availability) {
                    replies += 1.0;
                    seconds += a.seconds;
                }
            }
        }
    }
    let recent = entries.iter().any(|e| NOW - e.began <= 30 * DAY);
    let quality = |ours: &dyn Fn(&Attempt) -> bool| {
        let (mut tasks, mut done, mut score) = (0.0, 0.0, 0.0);
        for e in entries.iter().filter(|e| judged(e)) {
            let good_or_wrong = |a: &&Attempt| {
                ours(a)
                    && match &a.result {
                        AttemptResult::Failed { class, .. } => *class == FailureClass::Quality,
                        _ => true,
                    }
            };
            let tries = e.attempts.iter().filter(good_or_wrong).count();
            if tries == 0 {
                continue;
            }
            tasks += 1.0;
            let last = e.attempts.last().unwrap();
            if ours(last) && last.result == AttemptResult::Verified {
                done += 1.0;
                score += 1.0 / tries as f64;
            }
        }
        (share(done, tasks), share(score, tasks))
    };
    let (local, cloud_quality) = (quality(&|a| a.tier == "local"), quality(&|a| !here(a)));
    let by = |part: Option<f64>, all: Option<f64>| share(part?, all?);
    let ends: Vec<bool> = entries.iter().filter_map(escalated).collect();
    let window = &ends[ends.len().saturating_sub(50)..];
    let less = |share: Option<f64>| share.map(|share| 1.0 - share);
    vec![
        share(local_lines, all_lines),
        share(count(&delegated), count(&|e| !e.attempts.is_empty())),
        share(
            count(&|e| delegated(e) && approved(e) && e.attempts.len() == 1),
            count(&|e| delegated(e) && judged(e)),
        ),
        less(share(cloud, base)),
        share(count(&approved), count(&|e| is(e, "complete"))),
        entries.iter().any(|e| e.integrated.is_some()).then(|| count(&|e| e.integrated == Some(false))),
        less(share(paid + power, best)),
        less(share(paid, best)),
        less(share(routine_cloud, routine_base)),
        share(window.iter().filter(|escalated| **escalated).count() as f64, window.len() as f64),
        by(local.0, cloud_quality.0),
        by(local.1, cloud_quality.1),
        share(seconds, replies),
        share(asked - missing, asked),
        recent.then_some(month),
        share(count(&|e| is(e, "complete") && e.attempts.iter().all(here)), count(&|e| e.end.is_some())),
    ]
}

/// Whether a finished local attempt was escalated.
fn escalated(e: &Entry) -> Option<bool> {
    let local: Vec<_> = e.attempts.iter().filter(|a| a.tier == "local").collect();
    if local.iter().any(|a| !matches!(a.result, AttemptResult::Failed { .. })) {
        return Some(false);
    }
    let wrong = |a: &&Attempt| matches!(a.result, AttemptResult::Failed { class: FailureClass::Quality, .. });
    let went_on = e.attempts.iter().any(|a| a.tier == "sonnet" || a.tier == "opus")
        || e.end.as_ref().is_some_and(|end| end.outcome == "blocked");
    (local.into_iter().any(|a| wrong(&a)) && went_on).then_some(true)
}

fn check(metrics: &[Metric], plain: &[Option<f64>]) -> Result<(), TestCaseError> {
    prop_assert_eq!(metrics.len(), plain.len());
    for (metric, plain) in metrics.iter().zip(plain) {
        let close = match (metric.value, plain) {
            (None, None) => true,
            (Some(value), Some(plain)) => (value - plain).abs() <= 1e-9 * plain.abs().max(1.0),
            _ => false,
        };
        prop_assert!(close, "{} {}: {:?} and {:?}", metric.id, metric.name, metric.value, plain);
        prop_assert_eq!(metric.met.is_some(), metric.value.is_some() && metric.target.is_some());
    }
    Ok(())
}

proptest! {
    /// Covers S0-34, S0-35, S1-02, S1-41, S1-42, S1-43, S1-44, S2-32, S3-31, S3-39, S3-40, S3-41, S3-42, S3-43, S3-44, S4-17.
    #[test]
    fn every_figure_is_what_plain_loops_say(entries in proptest::collection::vec(entry(), 0..80)) {
        let stats = Stats::of(&entries, &yardstick(Some(600.0)));
        check(&stats.metrics, &plain(&entries))?;
    }

    /// Covers S2-27, S2-38, S2-39.
    #[test]
    fn the_state_figures_add_up(entries in proptest::collection::vec(entry(), 0..80)) {
        let state = Stats::of(&entries, &yardstick(None)).local_model_stats;
        let ends: Vec<bool> = entries.iter().filter_map(escalated).collect();
        prop_assert_eq!(state.total_attempts, ends.len() as u64);
        prop_assert_eq!(state.escalated_to_cloud, ends.iter().filter(|one| **one).count() as u64);
        prop_assert_eq!(state.success_count + state.escalated_to_cloud, state.total_attempts);
        prop_assert_eq!(state.failures_by_type.values().sum::<u64>(), state.escalated_to_cloud);
        prop_assert!((0.0..=1.0).contains(&state.avg_quality_score));
    }

    /// Covers S1-49: sessions and weeks hold every task once.
    #[test]
    fn groups_hold_every_task_once(entries in proptest::collection::vec(entry(), 0..40)) {
        use Grouping::{Category, Day, Language, Model, Session, Task, Template, Tier, Week};
        let attempts = entries.iter().map(|entry| entry.attempts.len() as u64).sum::<u64>();
        for by in [Session, Week, Day, Task, Tier, Model, Template, Category, Language] {
            let groups = by.groups(&entries);
            prop_assert_eq!(groups.iter().map(|group| group.tasks).sum::<u64>(), entries.len() as u64);
            prop_assert_eq!(groups.iter().map(|group| group.attempts).sum::<u64>(), attempts);
        }
        let weeks = Stats::of(&entries, &yardstick(None)).weeks;
        prop_assert!(weeks.is_sorted_by(|a, b| a.name < b.name));
        prop_assert!(entries.iter().all(|entry| (0..7 * DAY).contains(&(entry.began - week(entry.began)))));
    }
}

/// Covers S0-35, S1-41: without data there is no figure.
#[test]
fn nothing_is_made_up() {
    let stats = Stats::of(&[], &yardstick(Some(600.0)));
    assert!(stats.metrics.iter().all(|metric| metric.value.is_none() && metric.met.is_none()));
    assert_eq!((stats.from, stats.weeks.len()), (None, 0));
    let text = serde_json::to_string(&stats.local_model_stats).unwrap();
    assert_eq!(
        text,
        r#"{"totalAttempts":0,"successCount":0,"escalatedToCloud":0,"failuresByType":{},"avgQualityScore":0.0}"#
    );
}

/// Covers S0-35: without watts, no electricity and no saving that needs it.
#[test]
fn electricity_is_not_guessed() {
    let attempt = Attempt {
        tier: "local".into(),
        model: "m".into(),
        template: String::new(),
        sampled: None,
        usage: Usage { prompt_tokens: 1000, cached_tokens: 0, completion_tokens: 200 },
        seconds: 36.0,
        cost_usd: 0.0,
        lines: 5,
        result: AttemptResult::Verified,
        stages: Vec::new(),
        at: NOW,
    };
    let end =
        End { at: NOW, outcome: "complete".into(), verified: true, seconds: 40.0, error: String::new() };
    let entry = Entry { began: NOW, end: Some(end), attempts: vec![attempt], ..Entry::default() };
    let with = |watts| Stats::of(std::slice::from_ref(&entry), &yardstick(watts));
    let value =
        |stats: &Stats, name: &str| stats.metrics.iter().find(|metric| metric.name == name).unwrap().value;
    assert_eq!(value(&with(None), "saved against the best model"), None);
    assert_eq!(value(&with(None), "the same without electricity"), Some(1.0));
    // 600 W for 36 s are 0.006 kWh, 0.3 cents; the best model would have cost 0.8.
    let saved = value(&with(Some(600.0)), "saved against the best model").unwrap();
    assert!((saved - (1.0 - 0.003 / 0.008)).abs() < 1e-12, "{saved}");
}

/// Covers S2-32: what a row says to the rule.
#[test]
fn rows_that_say_nothing_are_passed_over() {
    let end = |outcome: &str| {
        Some(End { at: 0, outcome: outcome.into(), verified: false, seconds: 0.0, error: String::new() })
    };
    let bare = |outcome| Entry { end: end(outcome), ..Entry::default() };
    assert_eq!(Routed::of(&Entry::default()), None);
    assert_eq!(Routed::of(&bare("cancelled")), None);
    assert_eq!(Routed::of(&bare("refused")), Some(Routed::Elsewhere));
}
