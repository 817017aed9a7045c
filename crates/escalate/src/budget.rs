//! What may be spent, asked for before a request is sent.
//!
//! Owns the limits of a run, of a day and of a rung on that day, and the sums that count against them: what was spent
//! before, what this run has spent, and what its requests in flight can cost at most. It knows neither the clock nor the
//! ledger: who makes it says what the day has cost so far. A run that goes on after midnight still counts against the day
//! on which it began, and several processes see each other's costs only through the ledger.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::RungName;

/// Billionths of a dollar, in which sums are exact: the cheapest token costs some.
type Nano = u64;

/// The most US dollars. Infinity is no limit; 0 lets through what costs nothing (decision 5).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Of one run.
    pub run_usd: f64,
    /// Of all runs of a day.
    pub day_usd: f64,
    /// Of one rung in all runs of a day.
    pub rungs: BTreeMap<RungName, f64>,
}

/// US dollars that rungs have cost since the day began, before this run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpentToday {
    /// By rung; those without a limit of their own too.
    pub rungs: BTreeMap<RungName, f64>,
}

/// A run's budget. Clones are the same budget; threads may share it.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Mutex<Sums>>,
}

#[derive(Debug)]
struct Sums {
    run: Account,
    day: Account,
    rungs: BTreeMap<RungName, Account>,
    /// Settled costs of this run.
    spent: Nano,
}

/// A limit and what counts against it.
#[derive(Clone, Copy, Debug)]
struct Account {
    limit: Nano,
    /// Spent and reserved.
    taken: Nano,
}

/// Money for one request. It is settled with what the request cost; one that is dropped instead, because a thread died or
/// a connection ended without an account, counts with all that it could have cost.
#[derive(Debug)]
#[must_use = "a reservation that is dropped counts as spent"]
pub struct Reservation {
    shared: Arc<Mutex<Sums>>,
    rung: RungName,
    most: Nano,
    settled: bool,
}

/// Why there is no money for a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// The limit that would be exceeded.
    pub limit: Limit,
    /// What is left below it, in US dollars.
    pub left_usd: f64,
    /// What the request can cost at most; infinite or not a number where the caller did not know.
    pub needed_usd: f64,
}

/// Which limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Of the run.
    Run,
    /// Of the day.
    Day,
    /// Of a rung on that day.
    Rung(RungName),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match &self.limit {
            Limit::Run => "run_usd".to_owned(),
            Limit::Day => "day_usd".to_owned(),
            Limit::Rung(rung) => format!("rungs.\"{rung}\""),
        };
        let remedy = match &self.limit {
            Limit::Run => "raise it with --budget or in coder.toml",
            Limit::Day | Limit::Rung(_) => "raise it in coder.toml",
        };
        let Refused { left_usd, needed_usd, .. } = self;
        write!(
            f,
            "a request can cost up to ${needed_usd:.4}, and ${left_usd:.4} are left of `budget.{key}`; {remedy}"
        )
    }
}

impl Budget {
    /// A budget for a run that begins now.
    pub fn new(limits: &Limits, spent: &SpentToday) -> Budget {
        let spent_nano: BTreeMap<_, _> = spent.rungs.iter().map(|(rung, usd)| (rung, up(*usd))).collect();
        let day = spent_nano.values().fold(0, |sum: Nano, usd| sum.saturating_add(*usd));
        let account = |limit: f64, taken: Nano| Account { limit: down(limit), taken };
        let rung = |(rung, limit): (&RungName, &f64)| {
            (rung.clone(), account(*limit, spent_nano.get(rung).copied().unwrap_or(0)))
        };
        let sums = Sums {
            run: account(limits.run_usd, 0),
            day: account(limits.day_usd, day),
            rungs: limits.rungs.iter().map(rung).collect(),
            spent: 0,
        };
        Budget { shared: Arc::new(Mutex::new(sums)) }
    }

    /// Takes money for a request that costs at most `most_usd`, or says which limit has too little left. What costs
    /// nothing is never refused.
    pub fn reserve(&self, rung: &RungName, most_usd: f64) -> Result<Reservation, Refused> {
        let most = up(most_usd);
        let mut sums = lock(&self.shared);
        if most > 0
            && let Some((limit, account)) =
                sums.accounts(rung).into_iter().find(|(_, account)| account.left() < most)
        {
            return Err(Refused { limit, left_usd: usd(account.left()), needed_usd: most_usd });
        }
        sums.change(rung, |taken| taken.saturating_add(most));
        Ok(Reservation { shared: Arc::clone(&self.shared), rung: rung.clone(), most, settled: false })
    }

    /// US dollars that this run's requests have cost, as far as they have ended.
    pub fn spent_usd(&self) -> f64 {
        usd(lock(&self.shared).spent)
    }
}

impl Sums {
    /// Those that a rung's requests count against.
    fn accounts(&self, rung: &RungName) -> Vec<(Limit, Account)> {
        let own = self.rungs.get(rung).map(|account| (Limit::Rung(rung.clone()), *account));
        [(Limit::Run, self.run), (Limit::Day, self.day)].into_iter().chain(own).collect()
    }

    fn change(&mut self, rung: &RungName, change: impl Fn(Nano) -> Nano) {
        let own = self.rungs.get_mut(rung);
        for account in [&mut self.run, &mut self.day].into_iter().chain(own) {
            account.taken = change(account.taken);
        }
    }
}

impl Account {
    fn left(&self) -> Nano {
        self.limit.saturating_sub(self.taken)
    }
}

impl Reservation {
    /// The request has ended and cost this. More than was reserved counts too: it has been spent.
    pub fn settle(mut self, actual_usd: f64) {
        self.end(up(actual_usd));
    }

    fn end(&mut self, cost: Nano) {
        self.settled = true;
        let mut sums = lock(&self.shared);
        let most = self.most;
        sums.change(&self.rung, |taken| taken.saturating_sub(most).saturating_add(cost));
        sums.spent = sums.spent.saturating_add(cost);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.settled {
            self.end(self.most);
        }
    }
}

/// Sums hold after every change, so a thread that died while it held the lock left them whole.
fn lock(sums: &Mutex<Sums>) -> MutexGuard<'_, Sums> {
    sums.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A cost, never less than it is. What nobody knows is more than anybody has.
fn up(usd: f64) -> Nano {
    if usd.is_nan() { Nano::MAX } else { (usd.max(0.0) * 1e9).ceil() as Nano }
}

/// A limit, never more than it is.
fn down(usd: f64) -> Nano {
    // The conversion takes NaN to 0, and infinity to the largest number.
    (usd.max(0.0) * 1e9).floor() as Nano
}

fn usd(nano: Nano) -> f64 {
    nano as f64 / 1e9
}

#[cfg(test)]
mod tests;
