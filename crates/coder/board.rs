//! What the page of `coder serve` shows of tasks: the figures of `coder stats`, from the same ledger.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use coder_escalate::{Config, Prices, RungName};
use coder_serve::{Day, Tasks, Tier};
use coder_tasks::Usage;
use coder_tasks::ledger::{Grouping, Ledger, Stats, Yardstick, tokens};

use crate::config;
use crate::failure::{Failure, Outcome};
use crate::ledger::now;
use crate::stats;

/// Days that the page has room for.
const DAYS: usize = 28;

/// What the ledger adds up to, whenever somebody looks. One that has not changed is not read again.
pub(crate) struct Figures {
    path: PathBuf,
    config: Config,
    prices: Prices,
    best: RungName,
    read: Mutex<Option<(Stamp, Tasks)>>,
}

/// Times and sizes of the ledger's file and of its log: if they are the same, so is what is in it.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Figures {
    /// Those of the ledger at `path`, which need not be there.
    pub(crate) fn new(path: PathBuf) -> Outcome<Self> {
        let config = config::user()?;
        let prices = stats::prices(None, &config)?;
        let best = config.names().resolve("best").map_err(Failure::new)?;
        Ok(Self { path, config, prices, best, read: Mutex::default() })
    }

    /// The figures as they are now; the error says why there are none.
    pub(crate) fn tasks(&self) -> Result<Tasks, String> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&self.path);
        if let Some((of, tasks)) = &*read
            && *of == stamp
        {
            return Ok(tasks.clone());
        }
        let tasks = self.look().map_err(|failure| failure.reason().to_owned())?;
        *read = Some((stamp, tasks.clone()));
        Ok(tasks)
    }

    fn look(&self) -> Outcome<Tasks> {
        let (entries, loose) = match Ledger::look(&self.path)? {
            Some(ledger) => (ledger.entries(i64::MIN)?, ledger.loose(i64::MIN)?),
            None => (Vec::new(), Vec::new()),
        };
        let best_usd = |usage: Usage| Some(self.prices.of(&self.best)?.usd(&stats::tokens(usage)));
        let electricity = self.prices.electricity;
        let (watts, kwh_usd) = (electricity.watts, electricity.kwh_usd);
        let stats =
            Stats::of(&entries, &loose, &Yardstick { best_usd: &best_usd, watts, kwh_usd, now: now() });
        let mut days = Grouping::Day.groups(&entries);
        days.drain(..days.len().saturating_sub(DAYS));
        let day = |group: coder_tasks::ledger::Group| Day {
            date: group.name,
            tasks: group.tasks,
            complete: group.complete,
        };
        let days = days.into_iter().map(day).collect();
        Ok(Tasks { days, best: self.best(), ..tasks(&stats) })
    }

    fn best(&self) -> Option<coder_serve::Prices> {
        let (_, rung) = self.config.rung(self.best.as_str()).ok()?;
        let rates = self.prices.of_rung(&self.best, rung).ok()?.rates;
        Some(coder_serve::Prices {
            name: self.best.to_string(),
            date: self.prices.date.clone(),
            input_usd: rates.input_usd,
            cached_usd: rates.cache_read_usd,
            output_usd: rates.output_usd,
        })
    }
}

fn tasks(stats: &Stats) -> Tasks {
    let (counts, cost) = (&stats.counts, &stats.cost);
    let share =
        |id: &str| stats.metrics.iter().find(|metric| metric.id == id).and_then(|metric| metric.value);
    Tasks {
        tasks: counts.tasks,
        complete: counts.complete,
        approved: counts.verified,
        blocked: counts.blocked,
        local: counts.delegated,
        escalated: counts.escalations(),
        escalation_share: share("S2-32"),
        first_pass_share: share("S1-42"),
        local_tokens: counts.local_tiers().map(|tier| tokens(tier.usage)).fold(0, u64::saturating_add),
        cloud_tokens: counts.cloud_tokens(),
        baseline_tokens: tokens(counts.baseline),
        cloud_usd: cost.cloud_usd,
        electricity_usd: cost.electricity_usd,
        baseline_usd: cost.all_best_usd,
        tiers: counts
            .tiers
            .iter()
            .map(|(name, tier)| Tier {
                name: name.clone(),
                attempts: tier.attempts,
                successes: tier.successes,
                tokens: tokens(tier.usage),
                cost_usd: tier.cost_usd,
            })
            .collect(),
        ..Tasks::default()
    }
}

fn stamp(ledger: &Path) -> Stamp {
    let mut log = ledger.as_os_str().to_owned();
    log.push("-wal");
    [ledger.to_owned(), log.into()].map(|path| {
        let about = fs::metadata(path).ok()?;
        Some((about.modified().ok()?, about.len()))
    })
}
