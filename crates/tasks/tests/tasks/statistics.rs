//! Statistics of random histories against a computation that is as plain as can be.

use coder_tasks::ledger::{
    Attempt, AttemptResult, Begin, By, Draft, End, Entry, Grouping, Ledger, Metric, Record, Routed, Stats,
    Verdict, Yardstick, week,
};
use coder_tasks::{FailureClass, Outcome, TaskResult, Usage};
use proptest::prelude::*;

const TIERS: [&str; 5] = ["mechanical", "local", "local-big", "sonnet", "opus"];
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
            requests: Vec::new(),
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

fn local(attempt: &Attempt) -> bool {
    attempt.tier == "local" || attempt.tier == "local-big"
}

fn here(attempt: &Attempt) -> bool {
    attempt.tier == "mechanical" || local(attempt)
}

fn is(entry: &Entry, outcome: &str) -> bool {
    entry.end.as_ref().is_some_and(|end| end.outcome == outcome)
}

fn approved(entry: &Entry) -> bool {
    is(entry, "complete") && entry.end.as_ref().unwrap().verified
}

fn judged(entry: &Entry) -> bool {
    let wrong = |attempt: &Attempt| class(attempt) == Some(FailureClass::Quality);
    approved(entry) || (is(entry, "blocked") && entry.attempts.iter().any(wrong))
}

fn tried(entry: &Entry) -> Vec<&Attempt> {
    entry.attempts.iter().filter(|a| class(a) != Some(FailureClass::Availability)).collect()
}

fn delegated(entry: &Entry) -> bool {
    let usable = tried(entry);
    match (usable.first(), entry.attempts.first()) {
        (Some(first), _) => here(first),
        (None, first) => first.is_some_and(here),
    }
}

fn routine(entry: &Entry) -> bool {
    match entry.eligible {
        Some(yes) => yes,
        None => delegated(entry),
    }
}

fn class(attempt: &Attempt) -> Option<FailureClass> {
    match &attempt.result {
        AttemptResult::Failed { class, .. } => Some(*class),
        _ => None,
    }
}

/// What is added up over tasks.
#[derive(Default)]
struct OfTasks {
    local_lines: f64,
    lines: f64,
    base: f64,
    routine_base: f64,
    best: f64,
}

fn of_tasks(entries: &[Entry]) -> OfTasks {
    let mut sums = OfTasks::default();
    for e in entries.iter().filter(|e| is(e, "complete")) {
        if let Some(last) = e.attempts.last() {
            sums.lines += last.lines as f64;
            sums.local_lines += if local(last) { last.lines as f64 } else { 0.0 };
        }
        let with_model: Vec<_> = e.attempts.iter().filter(|a| a.tier != "mechanical").collect();
        if !with_model.is_empty() {
            let prompt = with_model[0].usage.prompt_tokens;
            let reply = with_model[with_model.len() - 1].usage.completion_tokens;
            sums.base += (prompt + reply) as f64;
            sums.routine_base += if routine(e) { (prompt + reply) as f64 } else { 0.0 };
            let request = Usage { prompt_tokens: prompt, cached_tokens: 0, completion_tokens: reply };
            sums.best += best_usd(request).unwrap();
        }
    }
    sums
}

/// What is added up over attempts.
#[derive(Default)]
struct OfAttempts {
    cloud: f64,
    routine_cloud: f64,
    paid: f64,
    power: f64,
    month: f64,
    seconds: f64,
    replies: f64,
    missing: f64,
    asked: f64,
}

fn of_attempts(entries: &[Entry]) -> OfAttempts {
    let mut sums = OfAttempts::default();
    for (e, a) in entries.iter().flat_map(|e| e.attempts.iter().map(move |a| (e, a))) {
        let tokens = (a.usage.prompt_tokens + a.usage.completion_tokens) as f64;
        // 600 W at 50 cents.
        let power = if local(a) { a.seconds * 600.0 / 3.6e6 * 0.5 } else { 0.0 };
        sums.paid += a.cost_usd;
        sums.power += power;
        sums.month += if NOW - e.began <= 30 * DAY { a.cost_usd + power } else { 0.0 };
        if !here(a) {
            sums.cloud += tokens;
            sums.routine_cloud += if routine(e) { tokens } else { 0.0 };
        }
        if local(a) {
            let class = class(a);
            sums.asked += if class == Some(FailureClass::Cancelled) { 0.0 } else { 1.0 };
            sums.missing += if class == Some(FailureClass::Availability) { 1.0 } else { 0.0 };
            if class != Some(FailureClass::Cancelled) && class != Some(FailureClass::Availability) {
                sums.replies += 1.0;
                sums.seconds += a.seconds;
            }
        }
    }
    sums
}

/// Share done and mean score of one side's judged tasks.
fn quality(entries: &[Entry], ours: &dyn Fn(&Attempt) -> bool) -> (Option<f64>, Option<f64>) {
    let (mut tasks, mut done, mut score) = (0.0, 0.0, 0.0);
    for e in entries.iter().filter(|e| judged(e)) {
        let counts = |a: &&Attempt| ours(a) && class(a).is_none_or(|class| class == FailureClass::Quality);
        let tries = e.attempts.iter().filter(counts).count();
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
}

/// Every metric again, with loops of its own.
fn plain(entries: &[Entry]) -> Vec<Option<f64>> {
    let count = |test: &dyn Fn(&Entry) -> bool| entries.iter().filter(|e| test(e)).count() as f64;
    let (tasks, attempts) = (of_tasks(entries), of_attempts(entries));
    let recent = entries.iter().any(|e| NOW - e.began <= 30 * DAY);
    let local = quality(entries, &local);
    let cloud = quality(entries, &|a| !here(a));
    let by = |part: Option<f64>, all: Option<f64>| share(part?, all?);
    let ends: Vec<bool> = entries.iter().filter_map(escalated).collect();
    let window = &ends[ends.len().saturating_sub(50)..];
    let less = |share: Option<f64>| share.map(|share| 1.0 - share);
    vec![
        share(tasks.local_lines, tasks.lines),
        share(count(&delegated), count(&|e| !e.attempts.is_empty())),
        share(
            count(&|e| delegated(e) && approved(e) && tried(e).len() == 1),
            count(&|e| delegated(e) && judged(e)),
        ),
        less(share(attempts.cloud, tasks.base)),
        share(count(&approved), count(&|e| is(e, "complete"))),
        entries.iter().any(|e| e.integrated.is_some()).then(|| count(&|e| e.integrated == Some(false))),
        less(share(attempts.paid + attempts.power, tasks.best)),
        less(share(attempts.paid, tasks.best)),
        less(share(attempts.routine_cloud, tasks.routine_base)),
        share(window.iter().filter(|escalated| **escalated).count() as f64, window.len() as f64),
        by(local.0, cloud.0),
        by(local.1, cloud.1),
        share(attempts.seconds, attempts.replies),
        share(attempts.asked - attempts.missing, attempts.asked),
        recent.then_some(attempts.month),
        share(count(&|e| is(e, "complete") && tried(e).into_iter().all(here)), count(&|e| e.end.is_some())),
    ]
}

/// Whether a finished local attempt was escalated.
fn escalated(e: &Entry) -> Option<bool> {
    let ours: Vec<_> = e.attempts.iter().filter(|a| local(a)).collect();
    if ours.iter().any(|a| !matches!(a.result, AttemptResult::Failed { .. })) {
        return Some(false);
    }
    let wrong = |a: &&Attempt| matches!(a.result, AttemptResult::Failed { class: FailureClass::Quality, .. });
    let last = e.attempts.iter().rposition(|a| local(a) && wrong(&a));
    let after = last.map_or(&[][..], |last| &e.attempts[last + 1..]);
    let went_on = after.iter().any(|a| a.tier == "sonnet" || a.tier == "opus")
        || e.end.as_ref().is_some_and(|end| end.outcome == "blocked");
    (ours.into_iter().any(|a| wrong(&a)) && went_on).then_some(true)
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
        let stats = Stats::of(&entries, &[], &yardstick(Some(600.0)));
        check(&stats.metrics, &plain(&entries))?;
    }

    /// Covers S2-27, S2-38, S2-39.
    #[test]
    fn the_state_figures_add_up(entries in proptest::collection::vec(entry(), 0..80)) {
        let state = Stats::of(&entries, &[], &yardstick(None)).local_model_stats;
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
        let weeks = Stats::of(&entries, &[], &yardstick(None)).weeks;
        prop_assert!(weeks.is_sorted_by(|a, b| a.name < b.name));
        prop_assert!(entries.iter().all(|entry| (0..7 * DAY).contains(&(entry.began - week(entry.began)))));
    }
}

/// Covers S0-35, S1-41: without data there is no figure.
#[test]
fn nothing_is_made_up() {
    let stats = Stats::of(&[], &[], &yardstick(Some(600.0)));
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
    let file = "a.rs".to_owned();
    let entry = Entry { file, began: NOW, end: Some(end), attempts: vec![attempt], ..Entry::default() };
    let with = |watts| Stats::of(std::slice::from_ref(&entry), &[], &yardstick(watts));
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

/// What a run would have told the ledger of an attempt. Without a verification the reply itself was refused.
fn record(attempt: &Attempt) -> Record {
    let is_model = attempt.tier != "mechanical";
    Record {
        by: if is_model { By::Model } else { By::Rule },
        draft: is_model.then(|| Draft {
            tier: attempt.tier.clone(),
            model: attempt.model.clone(),
            template: "0123456789ab".to_owned(),
            seed: attempt.lines << 57,
            temperature: 0.5,
        }),
        usage: attempt.usage,
        seconds: attempt.seconds,
        cost_usd: attempt.cost_usd,
        lines: attempt.lines,
        verdict: match &attempt.result {
            AttemptResult::Verified => Verdict::Verified,
            AttemptResult::Unverified => Verdict::Unverified,
            AttemptResult::Failed { class, reason, .. } => {
                Verdict::Failed { class: *class, reason: reason.clone() }
            }
        },
        ..Record::default()
    }
}

/// Writes a history into a ledger as a run does.
fn write(ledger: &Ledger, entries: &[Entry]) {
    let sessions: Vec<_> =
        (0..5).map(|_| ledger.session("0.0", std::path::Path::new("/w"), NOW).unwrap()).collect();
    for entry in entries {
        let begin = Begin {
            task_id: &entry.task_id,
            file: &entry.file,
            category: entry.category.as_deref(),
            eligible: entry.eligible,
        };
        let row = ledger.begin(sessions[entry.session as usize], &begin, entry.began).unwrap();
        let history: Vec<Record> = entry.attempts.iter().map(record).collect();
        for (number, record) in history.iter().enumerate() {
            ledger.attempt(row, number, record, 0).unwrap();
        }
        if let Some(end) = &entry.end {
            let outcomes = [
                Outcome::Complete,
                Outcome::Blocked,
                Outcome::Unavailable,
                Outcome::Refused,
                Outcome::Cancelled,
            ];
            let outcome = OUTCOMES.iter().position(|name| *name == end.outcome).unwrap();
            let result = TaskResult {
                file: entry.file.clone(),
                task_id: entry.task_id.clone(),
                attempts: history.len(),
                seconds: end.seconds,
                verified: end.verified,
                history,
                ..TaskResult::nothing(outcomes[outcome], end.error.clone())
            };
            ledger.finish(row, &result, end.at).unwrap();
        }
        if let Some(passed) = entry.integrated {
            ledger.integrated(row, passed).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Covers S1-49, S3-31: figures of what was written are figures of what happened.
    #[test]
    fn a_history_survives_the_file(mut entries in proptest::collection::vec(entry(), 1..20)) {
        entries.sort_by_key(|entry| entry.began);
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&folder.path().join("ledger.db")).unwrap();
        write(&ledger, &entries);
        let read = ledger.entries(i64::MIN).unwrap();
        prop_assert_eq!(read.len(), entries.len());
        for (read, entry) in read.iter().zip(&entries) {
            prop_assert_eq!((&read.task_id, &read.end, read.integrated), (&entry.task_id, &entry.end, entry.integrated));
            for (read, attempt) in read.attempts.iter().zip(&entry.attempts) {
                let is_model = attempt.tier != "mechanical";
                prop_assert_eq!(read.sampled, is_model.then_some((attempt.lines << 57, 0.5)));
                prop_assert_eq!((&read.tier, read.usage, read.lines), (&attempt.tier, attempt.usage, attempt.lines));
                prop_assert_eq!((read.seconds, read.cost_usd), (attempt.seconds, attempt.cost_usd));
                prop_assert_eq!(read.failure(), attempt.failure());
            }
        }
        check(&Stats::of(&read, &[], &yardstick(Some(600.0))).metrics, &plain(&entries))?;
    }
}
