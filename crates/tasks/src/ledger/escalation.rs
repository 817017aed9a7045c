//! Whether the local model may have the next task, from what became of the last ones (S2-32, decision 4).
//!
//! Pure: no clock and no file. The rows come from the ledger, oldest first.

use super::entry::{Entry, LocalEnd};

/// The rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Escalation {
    /// How many of the last finished local attempts count.
    pub window: usize,
    /// With fewer of them the share says nothing, and the local model may have tasks.
    pub attempts: usize,
    /// Below this share of escalated ones the local model may have tasks.
    pub threshold: f64,
    /// While it may not, one task in this many is given to it all the same, so that a bad spell heals.
    pub probe: usize,
}

impl Default for Escalation {
    /// The last 50, from 10 on, less than 30 %, one in ten.
    fn default() -> Self {
        Escalation { window: 50, attempts: 10, threshold: 0.30, probe: 10 }
    }
}

/// What became of a task, as far as the rule is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// The local model had it and did it.
    LocalSuccess,
    /// The local model had it, and somebody else had to do it.
    LocalEscalated,
    /// It went elsewhere, or nowhere: the local model was not asked.
    Elsewhere,
}

/// Local attempts of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ratio {
    /// Those that were escalated.
    pub escalated: usize,
    /// All of them.
    pub attempts: usize,
}

/// Whether the local model may have a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The ratio is low enough, or nothing is known yet.
    Open,
    /// The ratio is too high, and it is time to try again.
    Probe,
    /// The ratio is too high.
    Closed,
}

impl Admission {
    /// Whether the local model gets the task.
    pub fn is_local(self) -> bool {
        self != Admission::Closed
    }
}

impl Ratio {
    /// Escalated ones among all; None without any.
    pub fn value(self) -> Option<f64> {
        (self.attempts > 0).then(|| self.escalated as f64 / self.attempts as f64)
    }
}

impl Routed {
    /// What a row says; None for tasks that the rule does not look at: done by rule, running, stopped by the user,
    /// or not judged for want of a model.
    pub fn of(entry: &Entry) -> Option<Routed> {
        match entry.local_end() {
            Some(LocalEnd::Success) => Some(Routed::LocalSuccess),
            Some(LocalEnd::Escalated { .. }) => Some(Routed::LocalEscalated),
            None if entry.attempts.iter().any(|attempt| attempt.is_here()) => None,
            None => {
                (entry.end.is_some() && entry.outcome() != Some("cancelled")).then_some(Routed::Elsewhere)
            }
        }
    }
}

impl Escalation {
    /// The local attempts that count, newest of `routed` last.
    pub fn ratio(&self, routed: &[Routed]) -> Ratio {
        let local = routed.iter().rev().filter(|routed| **routed != Routed::Elsewhere);
        local.take(self.window).fold(Ratio::default(), |ratio, routed| Ratio {
            escalated: ratio.escalated + usize::from(*routed == Routed::LocalEscalated),
            attempts: ratio.attempts + 1,
        })
    }

    /// Whether the local model may have the task after these.
    pub fn admission(&self, routed: &[Routed]) -> Admission {
        let ratio = self.ratio(routed);
        // The quotient of whole numbers is rounded as the literal is, so that 3 of 10 is not below 0.30.
        if ratio.attempts < self.attempts || ratio.value().is_none_or(|share| share < self.threshold) {
            return Admission::Open;
        }
        let waited = routed.iter().rev().take_while(|routed| **routed == Routed::Elsewhere).count();
        if waited + 1 >= self.probe { Admission::Probe } else { Admission::Closed }
    }
}

#[cfg(test)]
mod tests {
    use super::Routed::{Elsewhere, LocalEscalated, LocalSuccess};
    use super::*;
    use proptest::prelude::*;

    fn history(successes: usize, escalations: usize) -> Vec<Routed> {
        [vec![LocalSuccess; successes], vec![LocalEscalated; escalations]].concat()
    }

    /// Covers S2-32.
    #[test]
    fn the_ratio_must_be_below_three_tenths() {
        let rule = Escalation::default();
        assert_eq!(rule.admission(&[]), Admission::Open);
        assert_eq!(rule.ratio(&[]).value(), None);
        assert_eq!(rule.admission(&history(8, 2)), Admission::Open);
        for tenth in 1..=5 {
            assert_eq!(rule.admission(&history(7 * tenth, 3 * tenth)), Admission::Closed, "{tenth}");
        }
        // One failure of two, or nine of nine, are too few to say anything.
        assert_eq!(rule.admission(&history(1, 1)), Admission::Open);
        assert_eq!(rule.admission(&history(0, 9)), Admission::Open);
        assert_eq!(rule.admission(&history(0, 10)), Admission::Closed);
        assert_eq!(rule.admission(&history(100, 14)), Admission::Open);
    }

    /// Covers S2-32: decision 4, only the last 50 count.
    #[test]
    fn old_attempts_are_forgotten() {
        let rule = Escalation::default();
        let long_ago = [history(0, 200), history(50, 0)].concat();
        assert_eq!(rule.ratio(&long_ago), Ratio { escalated: 0, attempts: 50 });
        assert_eq!(rule.admission(&long_ago), Admission::Open);
    }

    /// Covers S2-32: decision 4, one task in ten goes local while the ratio is too high.
    #[test]
    fn a_bad_spell_heals() {
        let rule = Escalation::default();
        let mut routed = history(0, 50);
        let mut probes = 0;
        let mut tasks = 0;
        while rule.admission(&routed) != Admission::Open {
            tasks += 1;
            routed.push(if rule.admission(&routed).is_local() { LocalSuccess } else { Elsewhere });
            probes += usize::from(routed.last() == Some(&LocalSuccess));
        }
        // 14 of the window's 50 may be escalated, so 36 probes are needed, each the tenth task.
        assert_eq!((probes, tasks), (36, 360));
    }

    proptest! {
        /// Covers S2-32.
        #[test]
        fn one_in_ten_goes_local_however_it_ends(ends in proptest::collection::vec(any::<bool>(), 1..200)) {
            let rule = Escalation::default();
            let mut routed = history(0, 10);
            let mut since = 0;
            for good in ends {
                let admission = rule.admission(&routed);
                let share = rule.ratio(&routed);
                prop_assert_eq!(admission == Admission::Open, share.escalated * 10 < share.attempts * 3);
                since += 1;
                if admission.is_local() {
                    prop_assert!(admission == Admission::Open || since == 10);
                    since = 0;
                    routed.push(if good { LocalSuccess } else { LocalEscalated });
                } else {
                    routed.push(Elsewhere);
                }
                prop_assert!(since < 10);
            }
        }
    }
}
