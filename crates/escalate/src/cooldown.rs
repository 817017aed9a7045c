//! Leaving an endpoint alone that failed several times in a row, so that no task waits for it in vain. The states
//! are pure: the clock is given. Several tasks share them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// When an endpoint is left alone, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Failures in a row after which it is.
    pub after: u32,
    /// How long at first; twice as long after each probe that fails.
    pub first: Duration,
    /// The longest time.
    pub longest: Duration,
}

impl Default for Rest {
    /// After 3 failures, 30 s, doubling to 5 min.
    fn default() -> Rest {
        Rest { after: 3, first: Duration::from_secs(30), longest: Duration::from_secs(300) }
    }
}

/// Whether an endpoint may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Open,
    /// Yes, once, to see whether it is well again; others wait for what comes of it.
    Probe,
    /// No, for so much longer.
    Closed(Duration),
}

/// What an endpoint's last questions came to.
#[derive(Clone, Debug, Default)]
struct Health {
    failures: u32,
    /// How long it rests, and since when; None while it is well.
    resting: Option<(Instant, Duration)>,
    probing: bool,
}

impl Health {
    fn admit(&mut self, now: Instant) -> Admission {
        let Some((since, rest)) = self.resting else { return Admission::Open };
        let left = rest.saturating_sub(now.saturating_duration_since(since));
        if !left.is_zero() {
            return Admission::Closed(left);
        }
        if self.probing {
            // The probe ends some time; there is no telling when.
            return Admission::Closed(Duration::from_secs(1));
        }
        self.probing = true;
        Admission::Probe
    }

    fn failed(&mut self, now: Instant, rest: &Rest) {
        self.failures = self.failures.saturating_add(1);
        self.probing = false;
        let time = match self.resting {
            // A question that was sent before the rest began does not prolong it.
            Some((since, time)) if now.saturating_duration_since(since) < time => return,
            Some((_, time)) => time.saturating_mul(2).min(rest.longest),
            None if self.failures >= rest.after => rest.first.min(rest.longest),
            None => return,
        };
        self.resting = Some((now, time));
    }
}

/// The states of all endpoints, by name.
#[derive(Debug, Default)]
pub struct Cooldowns {
    rest: Rest,
    health: Mutex<HashMap<String, Health>>,
}

impl Cooldowns {
    /// All endpoints are well.
    pub fn new(rest: Rest) -> Cooldowns {
        Cooldowns { rest, health: Mutex::default() }
    }

    /// Whether `endpoint` may be asked now. Each [`Admission::Probe`] is followed by a report of what came of it.
    pub fn admit(&self, endpoint: &str, now: Instant) -> Admission {
        self.lock().entry(endpoint.to_owned()).or_default().admit(now)
    }

    /// It answered: it is well.
    pub fn succeeded(&self, endpoint: &str) {
        self.lock().remove(endpoint);
    }

    /// It failed.
    pub fn failed(&self, endpoint: &str, now: Instant) {
        self.lock().entry(endpoint.to_owned()).or_default().failed(now, &self.rest);
    }

    /// The question was dropped before anything was known: somebody else may probe.
    pub fn dropped(&self, endpoint: &str) {
        if let Some(health) = self.lock().get_mut(endpoint) {
            health.probing = false;
        }
    }

    /// How often it failed in a row.
    pub fn failures(&self, endpoint: &str) -> u32 {
        self.lock().get(endpoint).map_or(0, |health| health.failures)
    }

    /// A panic elsewhere leaves counts that are whole, so they are used on.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn three_failures_in_a_row_close_it_and_one_probe_opens_it() {
        let (all, t0) = (Cooldowns::default(), Instant::now());
        all.failed("a", t0);
        all.failed("a", t0);
        all.succeeded("a");
        all.failed("a", t0);
        all.failed("a", t0);
        assert_eq!(all.admit("a", t0), Admission::Open);
        all.failed("a", t0);
        assert_eq!(all.admit("a", t0 + S(10)), Admission::Closed(S(20)));
        assert_eq!(all.admit("b", t0), Admission::Open, "another endpoint is not concerned");
        assert_eq!(all.admit("a", t0 + S(30)), Admission::Probe);
        assert_eq!(all.admit("a", t0 + S(30)), Admission::Closed(S(1)), "one probe at a time");
        all.dropped("a");
        assert_eq!(all.admit("a", t0 + S(31)), Admission::Probe);
        all.succeeded("a");
        assert_eq!((all.admit("a", t0 + S(31)), all.failures("a")), (Admission::Open, 0));
    }

    #[test]
    fn the_rest_doubles_up_to_its_limit() {
        let (all, mut now) = (Cooldowns::default(), Instant::now());
        for _ in 0..3 {
            all.failed("a", now);
        }
        for rest in [30, 60, 120, 240, 300, 300] {
            assert_eq!(all.admit("a", now), Admission::Closed(S(rest)));
            now += S(rest);
            assert_eq!(all.admit("a", now), Admission::Probe);
            all.failed("a", now);
        }
    }

    #[test]
    fn late_failures_of_earlier_questions_do_not_prolong_it() {
        let (all, t0) = (Cooldowns::default(), Instant::now());
        for _ in 0..8 {
            all.failed("a", t0);
        }
        assert_eq!(all.admit("a", t0), Admission::Closed(S(30)));
    }

    #[test]
    fn of_many_tasks_one_probes() {
        let (all, t0) = (Cooldowns::default(), Instant::now());
        for _ in 0..3 {
            all.failed("a", t0);
        }
        let probes = std::thread::scope(|scope| {
            let admit = || all.admit("a", t0 + S(30)) == Admission::Probe;
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(admit)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|probe| *probe).count()
        });
        assert_eq!(probes, 1);
    }
}
