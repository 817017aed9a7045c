//! `coder stats`: what the ledger adds up to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use coder_escalate::{Config, Prices, Tokens};
use coder_tasks::Usage;
use coder_tasks::ledger::{
    DEFINITIONS, Definition, Exported, Grouping, LOCAL, Ledger, MECHANICAL, STATE_FILE, Stats, Yardstick,
    since,
};
use serde::Serialize;

use crate::args::read_text;
use crate::config;
use crate::failure::{Failure, Outcome};
use crate::ledger::{LedgerArgs, now};
use crate::output::Output;
use crate::rungs::Rungs;
use crate::state::StateArgs;

mod show;

/// Show what all runs add up to: success, tokens, time and money, from the ledger
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub(crate) struct StatsArgs {
    /// Only tasks begun since then: an age such as 24h, 7d or 4w, or a date (UTC) such as 2026-11-01
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only tasks that this tier had a part in: local, haiku, sonnet, opus, their price tiers (free, cheap, …), any other rung of
    /// coder config, or mechanical
    #[arg(long, value_name = "TIER")]
    tier: Option<String>,
    /// A line for each group of tasks in place of the metrics
    #[arg(long, value_name = "WHAT", value_parser = grouping(), conflicts_with = "log")]
    by: Option<Grouping>,
    /// The tasks themselves, oldest first; with --json with every attempt and stage
    #[arg(long)]
    log: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the figures of all time into a state file as `stats.localModelStats`, and bring it to version 6.1; everything
    /// else in it stays [default FILE: .claude/implementer-state.json]
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = STATE_FILE,
          conflicts_with_all = ["since", "tier", "by", "log", "json"])]
    export: Option<PathBuf>,
    /// With --export: write the figures even if the file counts more attempts than the ledger
    #[arg(long, requires = "export")]
    replace: bool,
    /// Prices that replace the program's own, in part or whole [default: coder/prices.json in the user's configuration folder]
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// What this machine takes while its model works
    #[arg(long, value_name = "WATTS")]
    watts: Option<f64>,
    /// US dollars of a kilowatt hour
    #[arg(long, value_name = "USD")]
    kwh_usd: Option<f64>,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    ledger: LedgerArgs,
}

const EXAMPLES: &str = "Examples:
  coder stats
  coder stats --since 7d --watts 575 --kwh-usd 0.30
  coder stats --by week
  coder stats --by session --json
  coder stats --log --since 24h
  coder stats --export                   writes .claude/implementer-state.json

--help defines every figure. Numbers such as S1-43 name the requirement that asks for one; they mean nothing else.";

/// The whole of `--json`.
#[derive(Serialize)]
struct Json<'a, T> {
    /// Rises if a key changes its meaning or goes.
    schema: u32,
    ledger: Option<&'a Path>,
    since: Option<&'a str>,
    tier: Option<&'a str>,
    /// The date of the prices.
    prices: &'a str,
    #[serde(flatten)]
    body: T,
}

const SCHEMA: u32 = 1;

/// The statistics, and what a rung alone would have cost.
#[derive(Serialize)]
struct Body {
    #[serde(flatten)]
    stats: Stats,
    /// US dollars of all complete tasks, each as one request to this rung; rungs elsewhere that have a price.
    all_on_usd: BTreeMap<String, f64>,
}

/// What all complete tasks would have cost on each rung elsewhere (S0-35).
fn all_on(stats: &Stats, config: &Config, prices: &Prices) -> BTreeMap<String, f64> {
    let elsewhere = config.rungs.iter().filter(|(_, rung)| !rung.is_local());
    let priced = elsewhere.filter_map(|(name, rung)| Some((name, prices.of_rung(name, rung).ok()?)));
    let sum = |price: &coder_escalate::Price| {
        // The sum of nothing is -0.0.
        stats.counts.requests.iter().map(|request| price.usd(&tokens(*request))).sum::<f64>() + 0.0
    };
    priced.map(|(name, price)| (name.to_string(), sum(&price))).collect()
}

pub(crate) fn run(args: StatsArgs) -> Outcome {
    let now = now();
    let config = config::user()?;
    let tier = args.tier.as_deref().map(|name| tier(name, &config)).transpose()?;
    let from = args.since.as_deref().map(|text| since(text, now)).transpose().map_err(Failure::usage)?;
    let path = args.ledger.path(&args.state);
    let ledger = path.as_deref().map_or(Ok(None), Ledger::look)?;
    let from = from.unwrap_or(i64::MIN);
    let (mut entries, mut loose) = match ledger {
        Some(ledger) => (ledger.entries(from)?, ledger.loose(from)?),
        None => (Vec::new(), Vec::new()),
    };
    if let Some(tier) = &tier {
        entries.retain(|entry| entry.attempts.iter().any(|attempt| attempt.tier == *tier));
        loose.retain(|sent| sent.rung == *tier);
    }
    let all_prices = given_prices(&args, &config)?;
    let best = config.names().resolve("best").map_err(Failure::new)?;
    let best_usd = |usage: Usage| Some(all_prices.of(&best)?.usd(&tokens(usage)));
    let electricity = all_prices.electricity;
    let yardstick =
        Yardstick { best_usd: &best_usd, watts: electricity.watts, kwh_usd: electricity.kwh_usd, now };
    if let Some(file) = &args.export {
        return export(&Stats::of(&entries, &loose, &yardstick), file, args.replace);
    }
    let mut out = Output::new();
    let ledger = path.as_deref();
    if args.json {
        let (since, tier) = (args.since.as_deref(), tier.as_deref());
        let prices = &all_prices.date;
        match args.by {
            None if args.log => {
                let body = serde_json::json!({ "tasks": entries });
                out.json(&Json { schema: SCHEMA, ledger, since, tier, prices, body })?;
            }
            Some(by) => {
                let body = serde_json::json!({ "groups": by.groups(&entries) });
                out.json(&Json { schema: SCHEMA, ledger, since, tier, prices, body })?;
            }
            None => {
                let stats = Stats::of(&entries, &loose, &yardstick);
                let body = Body { all_on_usd: all_on(&stats, &config, &all_prices), stats };
                out.json(&Json { schema: SCHEMA, ledger, since, tier, prices, body })?;
            }
        }
        return Ok(());
    }
    let lines = match args.by {
        _ if entries.is_empty() => vec![no_data(&args, ledger)],
        None if args.log => show::log(&entries),
        Some(by) => show::groups(by, &by.groups(&entries)),
        None => {
            let stats = Stats::of(&entries, &loose, &yardstick);
            show::stats(&stats, &all_prices, &all_on(&stats, &config, &all_prices))
        }
    };
    Ok(out.text(&(lines.join("\n") + "\n"))?)
}

fn export(stats: &Stats, file: &Path, replace: bool) -> Outcome {
    match stats.local_model_stats.export(file, replace)? {
        Exported::Written | Exported::Migrated => {}
        Exported::Kept { file, ledger } => eprintln!(
            "note: the state counts {file} attempts, the ledger {ledger}; its figures stay, --replace writes the ledger's"
        ),
    }
    Ok(Output::new().line(&format!("State ready: {}", file.display()))?)
}

fn no_data(args: &StatsArgs, ledger: Option<&Path>) -> String {
    let place = ledger.map_or("no ledger".to_string(), |path| format!("`{}`", path.display()));
    match (&args.since, &args.tier) {
        (None, None) => format!("no data: no task has been run yet ({place})"),
        _ => format!("no data: no such task ({place})"),
    }
}

/// What a request took, as prices count it.
pub(crate) fn tokens(usage: Usage) -> Tokens {
    let cache_read = usage.cached_tokens.min(usage.prompt_tokens);
    Tokens {
        input: usage.prompt_tokens - cache_read,
        cache_write: 0,
        cache_read,
        output: usage.completion_tokens,
    }
}

/// The program's prices and those of `coder.toml`, changed by the user's file of prices.
pub(crate) fn prices(file: Option<&Path>, config: &Config) -> Outcome<Prices> {
    let prices = config.prices();
    let default = config::folder().map(|folder| folder.join("prices.json")).filter(|path| path.exists());
    let Some(path) = file.or(default.as_deref()) else { return Ok(prices) };
    let read = Prices::parse(&read_text(path)?, config.names());
    let own = read.map_err(|error| Failure::new(format!("`{}`: {error}", path.display())))?;
    Ok(prices.overridden_by(own))
}

/// The same, changed by the arguments.
fn given_prices(args: &StatsArgs, config: &Config) -> Outcome<Prices> {
    let mut prices = prices(args.prices.as_deref(), config)?;
    for (name, given, field) in [
        ("--watts", args.watts, &mut prices.electricity.watts),
        ("--kwh-usd", args.kwh_usd, &mut prices.electricity.kwh_usd),
    ] {
        if let Some(number) = given {
            if !(number.is_finite() && number >= 0.0) {
                return Err(Failure::usage(format!("{name} must be 0 or more")));
            }
            *field = Some(number);
        }
    }
    Ok(prices)
}

/// A tier's own name: tiers are rungs, and what was put in place by rule.
fn tier(name: &str, config: &Config) -> Outcome<String> {
    let rungs = Rungs::new(config);
    if name == MECHANICAL || rungs.of_tier(name).is_some() {
        return Ok(name.to_string());
    }
    let rung = config.names().resolve(name);
    let tier = rung.map(|rung| rungs.tier(&rung));
    tier.map_err(|error| Failure::usage(format!("--tier: {error}, or {MECHANICAL}")))
}

/// The names of groupings.
fn grouping() -> impl TypedValueParser<Value = Grouping> {
    let named = |name: String| Grouping::ALL.into_iter().find(|grouping| grouping.as_str() == name);
    PossibleValuesParser::new(Grouping::ALL.map(Grouping::as_str))
        .try_map(move |name| named(name).ok_or("no such group"))
}

/// The examples, and what every figure is.
fn long_help() -> String {
    let defined = DEFINITIONS.iter().map(|Definition { id, name, unit, target, text }| {
        let target = target.map(|target| format!(" ({})", show::target(target, *unit))).unwrap_or_default();
        format!("  {id} {name}{target}: {text}.")
    });
    let metrics = defined.collect::<Vec<_>>().join("\n");
    format!(
        "{EXAMPLES}

Figures:
{metrics}

A tier is `{LOCAL}`, `{LOCAL}-NAME` (a further rung in this process), `{MECHANICAL}` (the task's own code, put in place by rule), or a rung
elsewhere. The local model is that of any rung in this process. Times are UTC; weeks begin on Monday.
`local attempts` are tasks on which the local model's work was judged. Without data a figure says so.

Prices are data with a date. A file changes them in part or whole:
  {{\"models\": [{{\"rung\": \"opus\", \"model\": \"…\", \"input_usd\": 4, \"cached_usd\": 0.2, \"output_usd\": 20}}],
   \"electricity\": {{\"watts\": 575, \"kwh_usd\": 0.30}}}}
Prices are US dollars per million tokens."
    )
}
