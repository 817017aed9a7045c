//! What left this machine: one row for each request to a model elsewhere, written before anything is sent.
//!
//! A request that is under way counts with the most that it can cost, so that a budget holds across processes and after
//! a crash. There is no text here: names of files, how many bytes, and their hash.

use rusqlite::{Connection, Row, Transaction, params};
use serde::Serialize;

use super::entry::Millis;
use super::{SessionId, TaskRow, Usage};

/// A request that is about to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Sending<'a> {
    /// Its name, also at the server.
    pub id: &'a str,
    /// What for: "draft", "review", "plan".
    pub purpose: &'a str,
    /// The rung.
    pub rung: &'a str,
    /// The model, as the server knows it.
    pub model: &'a str,
    /// The server's host.
    pub host: &'a str,
    /// The files whose content is in it.
    pub files: &'a [String],
    /// Bytes of its body.
    pub bytes: u64,
    /// SHA-256 of its body, in hexadecimal.
    pub sha256: &'a str,
    /// The most US dollars that it can cost.
    pub most_usd: f64,
}

/// What came of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered<'a> {
    /// Tokens of the prompt and the answer; of what was cut off, the most that it can have been.
    pub usage: Usage,
    /// Tokens of the prompt that the server put into its cache.
    pub cache_write_tokens: u64,
    /// How often it was sent.
    pub tries: u32,
    /// US dollars.
    pub cost_usd: f64,
    /// Why there is no answer; empty if there is one.
    pub error: &'a str,
}

/// A request as the ledger has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sent {
    /// Its name.
    pub id: String,
    /// What for.
    pub purpose: String,
    /// The rung.
    pub rung: String,
    /// The model.
    pub model: String,
    /// Where it went.
    pub host: String,
    /// The files whose content was in it.
    pub files: Vec<String>,
    /// Bytes of its body.
    pub bytes: u64,
    /// SHA-256 of its body.
    pub sha256: String,
    /// When it was sent.
    pub at: Millis,
    /// Tokens; all zero while it is under way.
    pub usage: Usage,
    /// US dollars; while it is under way, and for ever if the program was killed, the most that it can cost.
    pub cost_usd: f64,
    /// Why there is no answer; None while it is under way.
    pub error: Option<String>,
}

/// The purpose of drafts: they are attempts as well, which have their tokens and cost.
const DRAFT: &str = "draft";

impl Sent {
    /// Whether an attempt tells of it as well.
    pub fn is_draft(&self) -> bool {
        self.purpose == DRAFT
    }
}

/// What a day may cost, in US dollars: of all processes together, since they write one ledger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DayLimit {
    /// When the day began.
    pub since: Millis,
    /// Of all rungs.
    pub usd: f64,
    /// Of the rung that is asked; None for no limit of its own.
    pub rung_usd: Option<f64>,
}

impl DayLimit {
    /// Whether a request that can cost this much still fits. What costs nothing always does.
    fn fits(&self, all: &Connection, rung: &str, most_usd: f64) -> rusqlite::Result<bool> {
        if most_usd <= 0.0 {
            return Ok(true);
        }
        let sums = spent(all, self.since)?;
        let day: f64 = sums.iter().map(|(_, usd)| usd).sum();
        let own: f64 = sums.iter().filter(|(name, _)| name == rung).map(|(_, usd)| usd).sum();
        Ok(day + most_usd <= self.usd && self.rung_usd.is_none_or(|limit| own + most_usd <= limit))
    }
}

/// Adds a row if the day's limit has room for it; whether it has.
pub(super) fn insert(
    all: &Transaction<'_>,
    session: SessionId,
    task: Option<TaskRow>,
    sending: &Sending<'_>,
    limit: &DayLimit,
    now: Millis,
) -> rusqlite::Result<bool> {
    if !limit.fits(all, sending.rung, sending.most_usd)? {
        return Ok(false);
    }
    let files = serde_json::to_string(sending.files).unwrap_or_default();
    all.execute(
        "INSERT INTO requests (id, session, task, purpose, rung, model, host, files, bytes, sha256, began_ms, cost_usd)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            sending.id,
            session.0,
            task.map(|task| task.0),
            sending.purpose,
            sending.rung,
            sending.model,
            sending.host,
            files,
            count(sending.bytes),
            sending.sha256,
            now,
            super::store::finite(sending.most_usd),
        ],
    )?;
    Ok(true)
}

/// The request is sent once more, which may cost as much again; whether the day's limit has room for that.
pub(super) fn again(
    all: &Transaction<'_>,
    sending: &Sending<'_>,
    limit: &DayLimit,
) -> rusqlite::Result<bool> {
    let fits = limit.fits(all, sending.rung, sending.most_usd)?;
    if fits {
        all.execute(
            "UPDATE requests SET cost_usd = cost_usd + ?2 WHERE id = ?1",
            params![sending.id, super::store::finite(sending.most_usd)],
        )?;
    }
    Ok(fits)
}

pub(super) fn settle(
    all: &Transaction<'_>,
    id: &str,
    answered: &Answered<'_>,
    now: Millis,
) -> rusqlite::Result<()> {
    let Usage { prompt_tokens, cached_tokens, completion_tokens } = answered.usage;
    all.execute(
        "UPDATE requests SET ended_ms = ?2, prompt_tokens = ?3, cached_tokens = ?4, completion_tokens = ?5,
             cache_write_tokens = ?6, tries = ?7, cost_usd = ?8, error = ?9
         WHERE id = ?1",
        params![
            id,
            now,
            count(prompt_tokens),
            count(cached_tokens),
            count(completion_tokens),
            count(answered.cache_write_tokens),
            answered.tries,
            super::store::finite(answered.cost_usd),
            answered.error,
        ],
    )?;
    Ok(())
}

/// Selects the requests of a task, and with NULL those of none, since a time.
pub(super) const SELECT: &str =
    "SELECT id, purpose, rung, model, host, files, bytes, sha256, began_ms, prompt_tokens, cached_tokens,
         completion_tokens, cost_usd, error
     FROM requests WHERE task IS ?1 AND began_ms >= ?2 ORDER BY began_ms, id";

/// Requests that belong to no task.
pub(super) fn loose(all: &Connection, since: Millis) -> rusqlite::Result<Vec<Sent>> {
    all.prepare(SELECT)?.query_map(params![None::<i64>, since], sent)?.collect()
}

/// US dollars since a time, by rung.
pub(super) fn spent(all: &Connection, since: Millis) -> rusqlite::Result<Vec<(String, f64)>> {
    let mut sums = all.prepare(
        "SELECT rung, sum(cost_usd) FROM requests WHERE began_ms >= ?1 GROUP BY rung ORDER BY rung",
    )?;
    sums.query_map([since], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

pub(super) fn sent(row: &Row<'_>) -> rusqlite::Result<Sent> {
    let number = |name| Ok::<_, rusqlite::Error>(u64::try_from(row.get::<_, i64>(name)?).unwrap_or(0));
    let files: String = row.get("files")?;
    Ok(Sent {
        id: row.get("id")?,
        purpose: row.get("purpose")?,
        rung: row.get("rung")?,
        model: row.get("model")?,
        host: row.get("host")?,
        files: serde_json::from_str(&files).unwrap_or_default(),
        bytes: number("bytes")?,
        sha256: row.get("sha256")?,
        at: row.get("began_ms")?,
        usage: Usage {
            prompt_tokens: number("prompt_tokens")?,
            cached_tokens: number("cached_tokens")?,
            completion_tokens: number("completion_tokens")?,
        },
        cost_usd: row.get("cost_usd")?,
        error: row.get("error")?,
    })
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
