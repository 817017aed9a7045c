//! The ledger's tables, how older ones become today's, and what SQLite's errors mean to the caller.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use crate::{Error, Result};

/// Marks a database as a ledger: "CODR".
const APPLICATION: i32 = 0x434f_4452;

/// How long to wait for other processes that write.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Up to this size a ledger is checked page by page when it is opened; it has some 100,000 attempts then.
const CHECKED_BYTES: u64 = 32 << 20;

/// The version of the tables is the number of steps that were taken. Never change a step; add one.
const STEPS: [&str; 2] = [
    "
    CREATE TABLE sessions (
        id INTEGER PRIMARY KEY,
        began_ms INTEGER NOT NULL,
        ended_ms INTEGER,
        program TEXT NOT NULL,
        folder TEXT NOT NULL
    ) STRICT;
    CREATE TABLE tasks (
        id INTEGER PRIMARY KEY,
        session INTEGER NOT NULL REFERENCES sessions (id),
        task_id TEXT NOT NULL,
        file TEXT NOT NULL,
        language TEXT NOT NULL,
        category TEXT,
        eligible INTEGER,
        began_ms INTEGER NOT NULL,
        ended_ms INTEGER,
        outcome TEXT,
        verified INTEGER,
        seconds REAL,
        error TEXT,
        integrated INTEGER
    ) STRICT;
    CREATE INDEX tasks_by_time ON tasks (began_ms);
    CREATE TABLE attempts (
        id INTEGER PRIMARY KEY,
        task INTEGER NOT NULL REFERENCES tasks (id),
        number INTEGER NOT NULL,
        tier TEXT NOT NULL,
        model TEXT NOT NULL,
        template TEXT NOT NULL,
        seed INTEGER,
        temperature REAL,
        prompt_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        seconds REAL NOT NULL,
        cost_usd REAL NOT NULL,
        lines INTEGER NOT NULL,
        verdict TEXT NOT NULL,
        class TEXT,
        gate TEXT,
        reason TEXT,
        ended_ms INTEGER NOT NULL,
        UNIQUE (task, number)
    ) STRICT;
    CREATE TABLE stages (
        attempt INTEGER NOT NULL REFERENCES attempts (id),
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        verdict TEXT NOT NULL,
        seconds REAL NOT NULL,
        PRIMARY KEY (attempt, position)
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE requests (
        id TEXT PRIMARY KEY,
        session INTEGER NOT NULL REFERENCES sessions (id),
        task INTEGER REFERENCES tasks (id),
        purpose TEXT NOT NULL,
        rung TEXT NOT NULL,
        model TEXT NOT NULL,
        host TEXT NOT NULL,
        files TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        began_ms INTEGER NOT NULL,
        ended_ms INTEGER,
        prompt_tokens INTEGER NOT NULL DEFAULT 0,
        cached_tokens INTEGER NOT NULL DEFAULT 0,
        cache_write_tokens INTEGER NOT NULL DEFAULT 0,
        completion_tokens INTEGER NOT NULL DEFAULT 0,
        tries INTEGER NOT NULL DEFAULT 0,
        cost_usd REAL NOT NULL,
        error TEXT
    ) STRICT;
    CREATE INDEX requests_by_time ON requests (began_ms);
    CREATE INDEX requests_by_task ON requests (task);
",
];

/// Makes a connection fit for use: a ledger of today's version, in write-ahead mode.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<()> {
    let failed = |error| understand(path, error);
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    // In one transaction: another process may be making the tables, and half of that is no ledger.
    let version = recognise(&*connection.transaction().map_err(failed)?, path)?;
    check(connection, path)?;
    if !connection.is_readonly(rusqlite::MAIN_DB).map_err(failed)? {
        write_ahead(connection).map_err(failed)?;
        // A commit is in the log when it returns, so a killed process loses nothing of it. The disk has it at the next
        // checkpoint, at the latest when the last process closes the ledger: a power cut may cost the last rows, never
        // the ledger, and a run does not wait for the disk after every step.
        connection.pragma_update(None, "synchronous", "normal").map_err(failed)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
        if version < STEPS.len() {
            migrate(connection, path)?;
        }
    } else if version < STEPS.len() {
        let problem = "it is of an older version and cannot be written; make it writable once".to_owned();
        return Err(Error::LedgerUnusable { path: path.to_owned(), problem });
    }
    Ok(())
}

/// The version of the tables; 0 for a database with nothing in it.
fn recognise(connection: &Connection, path: &Path) -> Result<usize> {
    let failed = |error| understand(path, error);
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let version = number("user_version").map_err(failed)?;
    if number("application_id").map_err(failed)? != i64::from(APPLICATION) {
        let tables =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
        return match tables.map_err(failed)? {
            0 if version == 0 => Ok(0),
            _ => Err(Error::NotALedger { path: path.to_owned() }),
        };
    }
    match usize::try_from(version) {
        Ok(version) if version <= STEPS.len() => Ok(version),
        _ => Err(Error::LedgerNewer { path: path.to_owned(), version, known: STEPS.len() }),
    }
}

fn check(connection: &Connection, path: &Path) -> Result<()> {
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() > CHECKED_BYTES) {
        return Ok(());
    }
    let said = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match said.map_err(|error| understand(path, error))? {
        said if said == "ok" => Ok(()),
        problem => Err(Error::LedgerDamaged { path: path.to_owned(), problem }),
    }
}

/// SQLite does not wait by itself when two processes switch a new file to write-ahead mode at once.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Where the file system cannot have it, the older mode stays, which is as safe but slower.
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

/// Takes the missing steps, all or none. Another process may have taken them in the meantime.
fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let failed = |error| understand(path, error);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let version = recognise(&transaction, path)?;
    for step in &STEPS[version..] {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
    transaction.pragma_update(None, "user_version", STEPS.len() as i64).map_err(failed)?;
    transaction.commit().map_err(failed)
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// What the caller can do about an error of SQLite.
pub(super) fn understand(path: &Path, error: rusqlite::Error) -> Error {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::LedgerDamaged { path, problem: error.to_string() }
        }
        _ => Error::LedgerUnusable { path, problem: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(folder: &Path) -> std::path::PathBuf {
        folder.join("ledger.db")
    }

    #[test]
    fn a_ledger_of_any_older_version_is_brought_up_to_date() {
        for version in 0..=STEPS.len() {
            let folder = tempfile::tempdir().unwrap();
            let path = fresh(folder.path());
            let mut connection = Connection::open(&path).unwrap();
            STEPS[..version].iter().for_each(|step| connection.execute_batch(step).unwrap());
            if version > 0 {
                connection.pragma_update(None, "application_id", APPLICATION).unwrap();
                connection.pragma_update(None, "user_version", version as i64).unwrap();
                connection.execute("INSERT INTO sessions VALUES (7, 1, NULL, 'old', '/')", []).unwrap();
            }
            prepare(&mut connection, &path).unwrap();
            prepare(&mut connection, &path).unwrap();
            assert_eq!(recognise(&connection, &path).unwrap(), STEPS.len());
            let kept = connection.query_row("SELECT count(*) FROM sessions", [], |row| row.get::<_, i64>(0));
            assert_eq!(kept.unwrap(), i64::from(version > 0));
        }
    }

    #[test]
    fn all_that_begin_a_ledger_at_once_have_it() {
        for _ in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            let path = fresh(folder.path());
            let open = || prepare(&mut Connection::open(&path).unwrap(), &path);
            std::thread::scope(|scope| {
                let all: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
                all.into_iter().for_each(|one| one.join().unwrap().unwrap());
            });
        }
    }

    #[test]
    fn what_is_not_ours_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = fresh(folder.path());
        let mut other = Connection::open(&path).unwrap();
        other.execute_batch("CREATE TABLE mail (text)").unwrap();
        assert!(matches!(prepare(&mut other, &path), Err(Error::NotALedger { .. })));
        let tables: i64 =
            other.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
        assert_eq!(tables, 1);
    }

    #[test]
    fn a_newer_ledger_is_left_to_a_newer_program() {
        let folder = tempfile::tempdir().unwrap();
        let path = fresh(folder.path());
        let mut connection = Connection::open(&path).unwrap();
        prepare(&mut connection, &path).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = prepare(&mut connection, &path).unwrap_err();
        assert!(matches!(error, Error::LedgerNewer { version: 99, .. }), "{error}");
    }
}
