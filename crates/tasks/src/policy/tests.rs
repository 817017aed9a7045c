use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::ledger::{By, Draft};
use crate::stages::{Stage, StageOutcome};

fn record(by: By, verdict: Verdict) -> Record {
    of("local", by, verdict)
}

fn of(rung: &str, by: By, verdict: Verdict) -> Record {
    let draft = (by == By::Model).then(|| Draft { tier: rung.to_owned(), ..Draft::default() });
    // Wrong work is work: there was a reply, and a gate refused it.
    let wrong = matches!(verdict, Verdict::Failed { class: FailureClass::Quality, .. });
    let stages = wrong.then_some(StageOutcome { stage: Stage::Test, passed: false, seconds: 0.0 });
    Record { by, verdict, draft, stages: stages.into_iter().collect(), ..Record::default() }
}

fn names(rungs: &[&str]) -> Vec<String> {
    rungs.iter().map(|rung| (*rung).to_owned()).collect()
}

/// Decision 1.
fn ladders(first: &str) -> Ladders {
    Ladders {
        first: first.to_owned(),
        order: names(&["local", "haiku", "sonnet", "opus"]),
        availability: names(&["local", "haiku", "sonnet"]),
        quality: names(&["local", "sonnet", "opus"]),
    }
}

/// The rungs that are asked, one after the other, if each attempt ends like this; and the end.
fn climb(policy: &Policy, mut end: impl FnMut(&str) -> Verdict) -> (Vec<String>, Outcome) {
    let mut history = Vec::new();
    let mut rungs = Vec::new();
    loop {
        match policy.next(&history) {
            Decision::Stop { outcome } => return (rungs, outcome),
            Decision::Draft { rung, .. } => {
                history.push(of(&rung, By::Model, end(&rung)));
                rungs.push(rung);
            }
        }
    }
}

fn failed(class: FailureClass) -> Verdict {
    Verdict::Failed { class, reason: "x".into() }
}

fn stop(outcome: Outcome) -> Decision {
    Decision::Stop { outcome }
}

#[test]
fn names_are_those_of_the_json() {
    for outcome in
        [Outcome::Complete, Outcome::Blocked, Outcome::Unavailable, Outcome::Refused, Outcome::Cancelled]
    {
        assert_eq!(serde_json::json!(outcome), outcome.as_str());
    }
    for class in FailureClass::ALL {
        assert_eq!(serde_json::json!(class), class.as_str());
    }
}

#[test]
fn two_attempts_then_blocked() {
    let policy = Policy::default();
    let wrong = record(By::Model, failed(FailureClass::Quality));
    assert_eq!(
        policy.next(&[]),
        Decision::Draft { rung: "local".into(), attempt: 1, temperature: 0.0, seed: 0 }
    );
    assert_eq!(
        policy.next(std::slice::from_ref(&wrong)),
        Decision::Draft { rung: "local".into(), attempt: 2, temperature: 0.7, seed: 1 }
    );
    assert_eq!(policy.next(&[wrong.clone(), wrong]), stop(Outcome::Blocked));
}

#[test]
fn a_mechanical_failure_costs_no_attempt() {
    let mechanical = record(By::Rule, failed(FailureClass::Quality));
    assert!(matches!(Policy::default().next(&[mechanical]), Decision::Draft { attempt: 1, .. }));
}

#[test]
fn classes_have_outcomes_of_their_own() {
    let policy = Policy::default();
    let after = |verdict| policy.next(&[record(By::Model, verdict)]);
    assert_eq!(after(Verdict::Verified), stop(Outcome::Complete));
    assert_eq!(after(Verdict::Unverified), stop(Outcome::Complete));
    assert_eq!(after(failed(FailureClass::Availability)), stop(Outcome::Unavailable));
    assert_eq!(after(failed(FailureClass::Cancelled)), stop(Outcome::Cancelled));
    assert_eq!(after(failed(FailureClass::Setup)), stop(Outcome::Refused));
    let none = Policy { attempts: 0, ..Policy::default() };
    assert_eq!(none.next(&[]), stop(Outcome::Blocked));
}

/// Covers S0-30, S0-33, S1-57: wrong work climbs the ladder of quality, two attempts on each rung.
#[test]
fn wrong_work_is_escalated() {
    let policy = Policy { ladders: ladders("local"), ..Policy::default() };
    let (rungs, outcome) = climb(&policy, |_| failed(FailureClass::Quality));
    assert_eq!(rungs, ["local", "local", "sonnet", "sonnet", "opus", "opus"]);
    assert_eq!(outcome, Outcome::Blocked);
    let (rungs, outcome) = climb(&policy, |rung| match rung {
        "sonnet" => Verdict::Verified,
        _ => failed(FailureClass::Quality),
    });
    assert_eq!((rungs.len(), outcome), (3, Outcome::Complete));
}

/// Covers S1-58, S2-03, S2-07, S2-08: what cannot be used is passed over on a ladder of its own, without a second try.
#[test]
fn what_cannot_be_used_is_passed_over() {
    let policy = Policy { ladders: ladders("local"), ..Policy::default() };
    let (rungs, outcome) = climb(&policy, |_| failed(FailureClass::Availability));
    assert_eq!(rungs, ["local", "haiku", "sonnet"]);
    assert_eq!(outcome, Outcome::Blocked);
    // Once work was wrong, a smaller model is no help.
    let (rungs, _) = climb(&policy, |rung| match rung {
        "local" => failed(FailureClass::Quality),
        _ => failed(FailureClass::Availability),
    });
    assert_eq!(rungs, ["local", "local", "sonnet", "opus"]);
    let (rungs, _) = climb(&policy, |rung| match rung {
        "local" => failed(FailureClass::Availability),
        _ => failed(FailureClass::Quality),
    });
    assert_eq!(rungs, ["local", "haiku", "haiku", "sonnet", "sonnet", "opus", "opus"]);
}

/// Covers S3-32: with the cloud out of reach, the local model goes on.
#[test]
fn without_the_cloud_work_goes_on_here() {
    let policy = Policy { ladders: ladders("opus"), ..Policy::default() };
    let (rungs, outcome) = climb(&policy, |rung| match rung {
        "local" => Verdict::Verified,
        _ => failed(FailureClass::Availability),
    });
    assert_eq!((rungs, outcome), (names(&["opus", "sonnet", "haiku", "local"]), Outcome::Complete));
    // Wrong work of a better model is not given to a lesser one.
    let (rungs, outcome) = climb(&policy, |_| failed(FailureClass::Quality));
    assert_eq!((rungs, outcome), (names(&["opus", "opus"]), Outcome::Blocked));
}

/// Covers S0-26: a rung that is on no ladder is followed by the next better one.
#[test]
fn a_rung_beside_the_ladder_is_followed_by_a_better_one() {
    let policy = Policy { ladders: ladders("haiku"), ..Policy::default() };
    let (rungs, _) = climb(&policy, |_| failed(FailureClass::Quality));
    assert_eq!(rungs, ["haiku", "haiku", "sonnet", "sonnet", "opus", "opus"]);
    let policy = Policy { ladders: ladders("unheard-of"), ..Policy::default() };
    let (rungs, _) = climb(&policy, |_| failed(FailureClass::Quality));
    assert_eq!(rungs, ["unheard-of", "unheard-of"]);
}

#[test]
fn one_rung_alone_that_cannot_be_used_says_nothing_about_the_task() {
    let (rungs, outcome) = climb(&Policy::default(), |_| failed(FailureClass::Availability));
    assert_eq!((rungs.len(), outcome), (1, Outcome::Unavailable));
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    let class = prop_oneof![
        5 => Just(FailureClass::Quality),
        5 => Just(FailureClass::Availability),
        1 => Just(FailureClass::Setup),
        1 => Just(FailureClass::Cancelled),
    ];
    prop_oneof![8 => class.prop_map(failed), 1 => Just(Verdict::Verified), 1 => Just(Verdict::Unverified)]
}

fn some_of() -> impl Strategy<Value = Vec<String>> {
    proptest::sample::subsequence(names(&["local", "haiku", "big", "sonnet", "opus"]), 0..=5).prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// Covers S0-30, S0-31, S1-57: every climb ends, no rung is entered twice or tried too often, and only wrong work is
    /// followed by a second try.
    #[test]
    fn every_climb_ends(
        first in 0usize..6, order in some_of(), availability in some_of(), quality in some_of(),
        attempts in 0u32..4, ends in proptest::collection::vec(verdicts(), 40),
    ) {
        let first = ["local", "haiku", "big", "sonnet", "opus", "other"][first].to_owned();
        let ladders = Ladders { first, order, availability, quality };
        let policy = Policy { ladders: ladders.clone(), attempts, ..Policy::default() };
        let mut ends = ends.into_iter();
        let mut seen = Vec::new();
        let (rungs, outcome) = climb(&policy, |rung| {
            // More than 40 attempts would run out of ends.
            let end = ends.next().unwrap();
            seen.push((rung.to_owned(), end.clone()));
            end
        });
        prop_assert!(rungs.len() <= 6 * attempts as usize);
        let mut entered = HashSet::new();
        for (at, (rung, _)) in seen.iter().enumerate() {
            let same = at > 0 && seen[at - 1].0 == *rung;
            prop_assert!(same || entered.insert(rung.clone()), "`{rung}` is entered twice");
            if same {
                let wrong = matches!(seen[at - 1].1, Verdict::Failed { class: FailureClass::Quality, .. });
                prop_assert!(wrong, "`{rung}` is tried again although nothing was wrong");
            }
            prop_assert!(seen.iter().filter(|other| other.0 == *rung).count() <= attempts as usize);
            let known = rung == &ladders.first || ladders.availability.contains(rung) || ladders.quality.contains(rung);
            prop_assert!(known, "`{rung}` is on no ladder");
        }
        let wrong = |class| seen.iter().any(|(_, end)| matches!(end, Verdict::Failed { class: found, .. } if *found == class));
        match outcome {
            Outcome::Complete => prop_assert!(matches!(seen.last().unwrap().1, Verdict::Verified | Verdict::Unverified)),
            Outcome::Unavailable => prop_assert!(!wrong(FailureClass::Quality)),
            Outcome::Cancelled => prop_assert!(wrong(FailureClass::Cancelled)),
            Outcome::Refused => prop_assert!(wrong(FailureClass::Setup)),
            Outcome::Blocked => prop_assert!(attempts == 0 || seen.len() > 1 || wrong(FailureClass::Quality)),
        }
    }
}
