//! Rows of the ledger's tables as entries.

use rusqlite::{Connection, Row, params};

use super::Usage;
use super::entry::{Attempt, AttemptResult, End, Entry, Millis, StageEntry};
use super::request;
use crate::policy::FailureClass;

/// All tasks that began at `since` or later, oldest first.
pub(super) fn entries(all: &Connection, since: Millis) -> rusqlite::Result<Vec<Entry>> {
    tasks(all, "began_ms >= ?1", since)
}

/// The last tasks, oldest first.
pub(super) fn recent(all: &Connection, count: u32) -> rusqlite::Result<Vec<Entry>> {
    tasks(all, "id IN (SELECT id FROM tasks ORDER BY began_ms DESC, id DESC LIMIT ?1)", i64::from(count))
}

fn tasks(all: &Connection, which: &str, value: i64) -> rusqlite::Result<Vec<Entry>> {
    let mut tasks = all.prepare(&format!(
        "SELECT id, session, task_id, file, language, category, eligible, began_ms, ended_ms, outcome, verified,
             seconds, error, integrated
         FROM tasks WHERE {which} ORDER BY began_ms, id"
    ))?;
    let mut attempts = all.prepare(
        "SELECT id, tier, model, template, seed, temperature, prompt_tokens, cached_tokens, completion_tokens,
             seconds, cost_usd, lines, verdict, class, gate, reason, ended_ms
         FROM attempts WHERE task = ?1 ORDER BY number",
    )?;
    let mut stages =
        all.prepare("SELECT name, verdict, seconds FROM stages WHERE attempt = ?1 ORDER BY position")?;
    let mut requests = all.prepare(request::SELECT)?;
    let mut found = Vec::new();
    let mut rows = tasks.query([value])?;
    while let Some(row) = rows.next()? {
        let mut entry = task(row)?;
        let of_task = requests.query_map(params![row.get::<_, i64>("id")?, Millis::MIN], request::sent)?;
        entry.requests = of_task.collect::<Result<_, _>>()?;
        let mut rows = attempts.query(params![row.get::<_, i64>("id")?])?;
        while let Some(row) = rows.next()? {
            let mut attempt = attempt(row)?;
            let stage = |row: &Row<'_>| {
                Ok(StageEntry { name: row.get(0)?, verdict: row.get(1)?, seconds: row.get(2)? })
            };
            let of_attempt = stages.query_map(params![row.get::<_, i64>("id")?], stage)?;
            attempt.stages = of_attempt.collect::<Result<_, _>>()?;
            entry.attempts.push(attempt);
        }
        found.push(entry);
    }
    Ok(found)
}

fn task(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let end = match row.get::<_, Option<String>>("outcome")? {
        Some(outcome) => Some(End {
            at: row.get("ended_ms")?,
            outcome,
            verified: row.get("verified")?,
            seconds: row.get("seconds")?,
            error: row.get("error")?,
        }),
        None => None,
    };
    Ok(Entry {
        session: row.get("session")?,
        task_id: row.get("task_id")?,
        file: row.get("file")?,
        language: row.get("language")?,
        category: row.get("category")?,
        eligible: row.get("eligible")?,
        began: row.get("began_ms")?,
        end,
        integrated: row.get("integrated")?,
        attempts: Vec::new(),
        requests: Vec::new(),
    })
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    let count = |name| Ok::<_, rusqlite::Error>(u64::try_from(row.get::<_, i64>(name)?).unwrap_or(0));
    let result = match row.get::<_, String>("verdict")?.as_str() {
        "verified" => AttemptResult::Verified,
        "unverified" => AttemptResult::Unverified,
        _ => AttemptResult::Failed {
            class: class(row.get::<_, Option<String>>("class")?.as_deref()),
            gate: row.get::<_, Option<String>>("gate")?.unwrap_or_default(),
            reason: row.get::<_, Option<String>>("reason")?.unwrap_or_default(),
        },
    };
    let seed = row.get::<_, Option<i64>>("seed")?.map(|bits| bits as u64);
    Ok(Attempt {
        tier: row.get("tier")?,
        model: row.get("model")?,
        template: row.get("template")?,
        sampled: seed.zip(row.get("temperature")?),
        usage: Usage {
            prompt_tokens: count("prompt_tokens")?,
            cached_tokens: count("cached_tokens")?,
            completion_tokens: count("completion_tokens")?,
        },
        seconds: row.get("seconds")?,
        cost_usd: row.get("cost_usd")?,
        lines: count("lines")?,
        result,
        stages: Vec::new(),
        at: row.get("ended_ms")?,
    })
}

/// A class that this program does not know says nothing about a model's work.
fn class(name: Option<&str>) -> FailureClass {
    let known = FailureClass::ALL.into_iter().find(|class| Some(class.as_str()) == name);
    known.unwrap_or(FailureClass::Setup)
}
