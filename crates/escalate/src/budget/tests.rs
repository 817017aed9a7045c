use std::thread;

use proptest::prelude::*;

use super::*;

fn name(name: &str) -> RungName {
    RungName::new(name).unwrap()
}

fn limits(run_usd: f64, day_usd: f64, rungs: &[(&str, f64)]) -> Limits {
    let rungs = rungs.iter().map(|(rung, usd)| (name(rung), *usd)).collect();
    Limits { run_usd, day_usd, rungs }
}

fn spent(rungs: &[(&str, f64)]) -> SpentToday {
    SpentToday { rungs: rungs.iter().map(|(rung, usd)| (name(rung), *usd)).collect() }
}

#[test]
fn a_refusal_names_the_limit() {
    let spent = spent(&[("opus", 0.9), ("haiku", 1.5)]);
    let budget = Budget::new(&limits(2.0, 3.0, &[("opus", 1.0)]), &spent);
    let refused = budget.reserve(&name("opus"), 0.2).unwrap_err();
    assert_eq!(refused.limit, Limit::Rung(name("opus")));
    assert!((refused.left_usd - 0.1).abs() < 1e-8, "{refused:?}");
    let refused = budget.reserve(&name("sonnet"), 0.7).unwrap_err();
    assert_eq!(refused.limit, Limit::Day);
    assert!(
        refused.to_string().contains("$0.7000") && refused.to_string().contains("budget.day_usd"),
        "{refused}"
    );
    assert_eq!(budget.reserve(&name("sonnet"), 2.1).unwrap_err().limit, Limit::Run);
    assert_eq!(budget.reserve(&name("sonnet"), f64::NAN).unwrap_err().limit, Limit::Run);
    budget.reserve(&name("sonnet"), 0.6).unwrap().settle(0.5);
    assert!((budget.spent_usd() - 0.5).abs() < 1e-8);
}

/// Covers S2-10: a limit of 0 is not exhausted by what costs nothing, whatever was spent before.
#[test]
fn what_costs_nothing_is_never_refused() {
    let budget = Budget::new(&limits(0.0, 0.0, &[("free", 0.0)]), &spent(&[("free", 5.0)]));
    for _ in 0..100 {
        budget.reserve(&name("free"), 0.0).unwrap().settle(0.0);
    }
    assert_eq!(budget.reserve(&name("free"), 1e-9).unwrap_err().limit, Limit::Run);
    let endless = Budget::new(&limits(f64::INFINITY, f64::INFINITY, &[]), &SpentToday::default());
    assert!(endless.reserve(&name("opus"), 1e9).is_ok());
}

#[test]
fn requests_in_flight_count_and_lost_ones_cost_all_that_they_could() {
    let budget = Budget::new(&limits(1.0, 10.0, &[]), &SpentToday::default());
    let first = budget.reserve(&name("opus"), 0.6).unwrap();
    assert!(budget.reserve(&name("opus"), 0.6).is_err());
    first.settle(0.1);
    drop(budget.reserve(&name("opus"), 0.6).unwrap());
    assert!((budget.spent_usd() - 0.7).abs() < 1e-8);
    let held = budget.clone();
    let died = thread::spawn(move || {
        let _held = held.reserve(&name("opus"), 0.2).unwrap();
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(died.join().is_err());
    assert!((budget.spent_usd() - 0.9).abs() < 1e-8);
    // More than was asked for is spent all the same.
    budget.reserve(&name("opus"), 0.05).unwrap().settle(0.5);
    assert!(budget.reserve(&name("opus"), 1e-6).is_err());
}

#[derive(Clone, Debug)]
enum Step {
    /// Costs this share of what was reserved.
    Settle(f64),
    Drop,
    /// Stays in flight until the end.
    Keep,
}

fn step() -> impl Strategy<Value = (usize, f64, Step)> {
    let end = prop_oneof![(0.0..=1.0f64).prop_map(Step::Settle), Just(Step::Drop), Just(Step::Keep)];
    (0usize..3, prop_oneof![Just(0.0), 0.0..0.6f64, Just(1e-9), Just(f64::INFINITY)], end)
}

proptest! {
    /// Whatever threads do, no sum exceeds its limit, and nothing is lost from the account.
    #[test]
    fn no_limit_is_exceeded(
        run in 0.0..3.0f64, day in 0.0..4.0f64, opus in 0.0..2.0f64, before in prop::array::uniform3(0.0..0.5f64),
        steps in prop::collection::vec(prop::collection::vec(step(), 0..40), 1..5),
    ) {
        let rungs = ["local", "haiku", "opus"];
        let limits = limits(run, day, &[("opus", opus)]);
        let spent = spent(&[("local", before[0]), ("haiku", before[1]), ("opus", before[2])]);
        let budget = Budget::new(&limits, &spent);
        let (rungs, budget_ref) = (&rungs, &budget);
        let costs: Vec<Vec<(usize, Nano)>> = thread::scope(|scope| {
            let threads: Vec<_> = steps.iter().map(|steps| scope.spawn(move || {
                let (mut costs, mut kept) = (Vec::new(), Vec::new());
                for (rung, most, end) in steps {
                    let Ok(reservation) = budget_ref.reserve(&name(rungs[*rung]), *most) else { continue };
                    match end {
                        Step::Settle(share) => {
                            reservation.settle(most * share);
                            costs.push((*rung, up(most * share)));
                        }
                        Step::Drop => costs.push((*rung, up(*most))),
                        Step::Keep => {
                            costs.push((*rung, up(*most)));
                            kept.push(reservation);
                        }
                    }
                }
                costs
            })).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let sum = |wanted: Option<usize>| -> Nano {
            let costs = costs.iter().flatten().filter(|(rung, _)| wanted.is_none_or(|wanted| *rung == wanted));
            costs.map(|(_, cost)| cost).sum()
        };
        let before_sum: Nano = before.iter().map(|usd| up(*usd)).sum();
        prop_assert!(sum(None) <= down(run));
        prop_assert!(sum(None) == 0 || sum(None) + before_sum <= down(day));
        prop_assert!(sum(Some(2)) == 0 || sum(Some(2)) + up(before[2]) <= down(opus));
        prop_assert_eq!(lock(&budget.shared).spent, sum(None));
        prop_assert_eq!(lock(&budget.shared).run.taken, sum(None));
    }
}
