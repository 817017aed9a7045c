//! The ledger's file: what it keeps, who may write it at once, and what happens when something goes wrong.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;

use coder_tasks::ledger::{
    AttemptResult, Begin, By, Draft, Entry, Ledger, MECHANICAL, Record, TaskRow, Verdict,
};
use coder_tasks::{Error, FailureClass, Progress, TaskResult, Usage, run_task};

use crate::scripted::{Folder, Scripted, only, settings, task};

const LEDGER: &str = "CODER_TEST_LEDGER";
const COUNT: &str = "CODER_TEST_LEDGER_COUNT";

fn record(number: u64) -> Record {
    Record {
        by: By::Model,
        draft: Some(Draft {
            tier: "local".into(),
            model: "m".into(),
            template: "t".into(),
            seed: u64::MAX - number,
            temperature: 0.7,
        }),
        usage: Usage { prompt_tokens: 100 + number, cached_tokens: 40, completion_tokens: 7 },
        seconds: 1.5,
        cost_usd: 0.25,
        lines: 3,
        verdict: Verdict::Failed { class: FailureClass::Quality, reason: "exit status 1".into() },
        ..Record::default()
    }
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/coder/ledger.db");
    (folder, path)
}

fn begin(ledger: &Ledger, task_id: &str) -> TaskRow {
    let session = ledger.session("0.0", Path::new("/w"), 1).unwrap();
    ledger.begin(session, &Begin { task_id, file: "src/a.py", ..Begin::default() }, 2).unwrap()
}

fn entries(path: &Path) -> Vec<Entry> {
    Ledger::look(path).unwrap().map_or(Vec::new(), |ledger| ledger.entries(i64::MIN).unwrap())
}

/// Does a task with the ledger looking on, as the program does.
fn run(ledger: &Ledger, folder: &Folder, replies: [&str; 2]) -> TaskResult {
    let task = task("src/a.py", Some("grep -q good src/a.py"));
    let row = begin(ledger, &task.id);
    let mut number = 0;
    let mut observe = |progress: &Progress<'_>| {
        if let Progress::Attempted(record) = progress {
            ledger.attempt(row, number, record, 10 + number as i64).unwrap();
            number += 1;
        }
    };
    let workspace = folder.workspace();
    let mut writer = Scripted::new(replies);
    let settings = settings();
    let cancel = AtomicBool::new(false);
    let writers = &mut only(&mut writer);
    let result = run_task(&task, &workspace, writers, &settings, &mut observe, &cancel);
    ledger.finish(row, &result, 20).unwrap();
    result
}

/// Covers S1-49: every attempt of a task is written down.
#[test]
fn a_run_is_written_down_attempt_by_attempt() {
    let (_folder, path) = place();
    let work = Folder::new(&[("src/a.py", "old\n")]);
    let ledger = Ledger::open(&path).unwrap();
    let result = run(&ledger, &work, ["bad", "good\nold"]);
    let [entry] = &entries(&path)[..] else { panic!("one task") };
    assert_eq!((entry.task_id.as_str(), entry.language.as_str(), entry.began), ("T-1", "python", 2));
    let end = entry.end.as_ref().unwrap();
    assert_eq!((end.outcome.as_str(), end.verified, end.at), ("complete", true, 20));
    assert_eq!(end.seconds, result.seconds);
    let [first, second] = &entry.attempts[..] else { panic!("two attempts") };
    let (class, gate, reason) = (FailureClass::Quality, "test".to_owned(), "exit status 1".to_owned());
    assert_eq!(first.result, AttemptResult::Failed { class, gate, reason });
    assert_eq!((first.sampled, first.lines, first.at), (Some((0, 0.0)), 1, 10));
    assert_eq!(second.result, AttemptResult::Verified);
    assert_eq!((second.lines, second.model.as_str(), second.tier.as_str()), (1, "scripted", "local"));
    assert_eq!(second.sampled.map(|(seed, _)| seed), Some(1));
    assert_eq!(second.usage, Usage { prompt_tokens: 10, cached_tokens: 4, completion_tokens: 5 });
    assert_eq!(second.template.len(), 12);
    let test = second.stages.iter().find(|stage| stage.name == "test").unwrap();
    assert_eq!((test.verdict.as_str(), test.seconds > 0.0), ("passed", true));
}

#[test]
fn every_number_comes_back() {
    let (_folder, path) = place();
    let ledger = Ledger::open(&path).unwrap();
    let row = begin(&ledger, "T-001");
    ledger.attempt(row, 0, &record(0), 5).unwrap();
    let mechanical = Record {
        seconds: f64::NAN,
        usage: Usage { prompt_tokens: u64::MAX, ..Usage::default() },
        ..Record::default()
    };
    ledger.attempt(row, 1, &mechanical, 6).unwrap();
    ledger.integrated(row, false).unwrap();
    let [entry] = &entries(&path)[..] else { panic!("one task") };
    let first = &entry.attempts[0];
    assert_eq!(first.sampled.map(|(seed, _)| seed), Some(u64::MAX));
    assert!(first.sampled.is_some_and(|(_, temperature)| (temperature - 0.7).abs() < 1e-6));
    assert_eq!((first.usage, first.cost_usd), (record(0).usage, 0.25));
    assert_eq!((entry.attempts[1].tier.as_str(), entry.attempts[1].seconds), (MECHANICAL, 0.0));
    assert_eq!((entry.integrated, entry.end.is_none()), (Some(false), true));
    // Newer than all.
    assert_eq!(ledger.entries(3).unwrap(), []);
    begin(&ledger, "T-002");
    begin(&ledger, "T-003");
    let names = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.task_id).collect::<Vec<_>>();
    assert_eq!(names(ledger.recent(2).unwrap()), ["T-002", "T-003"]);
    assert_eq!(names(ledger.recent(9).unwrap()), ["T-001", "T-002", "T-003"]);
}

#[test]
fn an_attempt_is_written_once_however_often_it_is_told() {
    let (_folder, path) = place();
    let work = Folder::new(&[("src/a.py", "old\n")]);
    let ledger = Ledger::open(&path).unwrap();
    let result = run(&ledger, &work, ["bad\n", "worse\n"]);
    // Somebody who only finishes loses nothing either.
    let row = begin(&ledger, "T-002");
    ledger.finish(row, &result, 30).unwrap();
    ledger.finish(row, &result, 31).unwrap();
    let [first, second] = &entries(&path)[..] else { panic!("two tasks") };
    assert_eq!((first.attempts.len(), second.attempts.len()), (2, 2));
    assert_eq!(first.attempts[1].result, second.attempts[1].result);
    assert_eq!(second.outcome(), Some("blocked"));
}

/// A process of its own that writes tasks into the ledger of the variable, and says each attempt that is in. Without
/// the variable it is no test.
#[test]
fn writer() {
    let Some(path) = std::env::var_os(LEDGER) else { return };
    let count: u64 = std::env::var(COUNT).unwrap().parse().unwrap();
    let ledger = Ledger::open(Path::new(&path)).unwrap();
    let session = ledger.session("0.0", Path::new("/w"), 1).unwrap();
    for number in 0..count {
        let task_id = format!("{}-{number}", std::process::id());
        let begin = Begin { task_id: &task_id, file: "a.rs", ..Begin::default() };
        let row = ledger.begin(session, &begin, number as i64).unwrap();
        ledger.attempt(row, 0, &record(number), 1).unwrap();
        writeln!(std::io::stderr(), "in {number}").unwrap();
    }
}

fn spawn(path: &Path, count: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ledger::writer", "--nocapture"])
        .env(LEDGER, path)
        .env(COUNT, count.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn several_processes_and_threads_write_at_once() {
    const EACH: u64 = 40;
    let (_folder, path) = place();
    // The file does not exist yet, so they also begin it at once.
    let processes: Vec<Child> = (0..4).map(|_| spawn(&path, EACH)).collect();
    let ledger = Ledger::open(&path).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let ledger = &ledger;
            scope.spawn(move || {
                for number in 0..EACH {
                    let row = begin(ledger, &format!("thread-{thread}-{number}"));
                    ledger.attempt(row, 0, &record(number), 1).unwrap();
                }
            });
        }
    });
    for process in processes {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let all = entries(&path);
    assert_eq!(all.len() as u64, 8 * EACH);
    assert!(all.iter().all(|entry| entry.attempts.len() == 1));
    let mut names: Vec<_> = all.iter().map(|entry| &entry.task_id).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len() as u64, 8 * EACH);
}

#[test]
fn a_killed_writer_loses_at_most_the_attempt_in_progress() {
    let (_folder, path) = place();
    let mut before = 0;
    let mut random = 1u64;
    for round in 0..30 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wanted = random >> 60;
        let mut child = spawn(&path, u64::MAX);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut told = 0;
        while told <= wanted {
            told += u64::from(lines.next().unwrap().unwrap().starts_with("in "));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What was in the pipe was also said before the end.
        told += lines.map_while(Result::ok).filter(|line| line.starts_with("in ")).count() as u64;
        let attempts: u64 = entries(&path).iter().map(|entry| entry.attempts.len() as u64).sum();
        let found = attempts - before;
        assert!(found == told || found == told + 1, "round {round}: {told} were told, {found} are there");
        before = attempts;
    }
}

#[test]
fn a_damaged_ledger_is_kept_and_another_is_begun() {
    let (_folder, path) = place();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let garbage = "this is no database, but it may be somebody's\n".repeat(100);
    std::fs::write(&path, &garbage).unwrap();
    let error = Ledger::open(&path).unwrap_err();
    assert!(matches!(error, Error::LedgerDamaged { .. }), "{error}");
    assert!(error.to_string().contains("--ledger"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), garbage);

    let mut asides = Vec::new();
    std::thread::scope(|scope| {
        let renew = || Ledger::open_or_renew(&path, 77).unwrap().1;
        let all: Vec<_> = (0..4).map(|_| scope.spawn(renew)).collect();
        asides.extend(all.into_iter().filter_map(|one| one.join().unwrap()));
    });
    let [aside] = &asides[..] else { panic!("one of four puts it aside: {asides:?}") };
    assert!(aside.ends_with("ledger.db.damaged-77"));
    // What the day has cost is not known then.
    let since = |time| Ledger::open(&path).unwrap().put_aside_since(time);
    assert_eq!((since(77), since(78)), (Some(aside.clone()), None));
    assert_eq!(std::fs::read_to_string(aside).unwrap(), garbage);
    begin(&Ledger::open(&path).unwrap(), "T-001");
    // The second one of the same moment does not take the place of the first.
    std::fs::write(
        &path,
        "damaged again, and long enough to have a header of a hundred bytes or so, whatever is in it",
    )
    .unwrap();
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
    let (_, second) = Ledger::open_or_renew(&path, 77).unwrap();
    assert!(second.unwrap().ends_with("ledger.db.damaged-77-1"));
    assert_eq!(std::fs::read_to_string(aside).unwrap(), garbage);
}

#[test]
fn any_damage_is_an_error_or_is_not_seen_and_the_file_stays() {
    let (folder, path) = place();
    let ledger = Ledger::open(&path).unwrap();
    for number in 0..50 {
        let row = begin(&ledger, &format!("T-{number}"));
        ledger.attempt(row, 0, &record(number), 1).unwrap();
    }
    drop(ledger);
    let whole = std::fs::read(&path).unwrap();
    let hurt = folder.path().join("hurt.db");
    let mut random = 4u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let mut errors = 0;
    for round in 0..200 {
        let mut bytes = whole.clone();
        match round % 3 {
            0 => bytes.truncate(1 + next(whole.len() - 1)),
            1 => (0..8).for_each(|_| bytes[next(whole.len())] ^= 1 << next(8)),
            _ => {
                let at = next(whole.len() - 512);
                bytes[at..at + 512].fill(0);
            }
        }
        std::fs::write(&hurt, &bytes).unwrap();
        let read = Ledger::look(&hurt).and_then(|ledger| ledger.unwrap().entries(i64::MIN));
        if let Err(error) = read {
            errors += 1;
            let known = matches!(
                error,
                Error::LedgerDamaged { .. }
                    | Error::NotALedger { .. }
                    | Error::LedgerNewer { .. }
                    | Error::LedgerUnusable { .. }
            );
            assert!(known, "{error}");
            // Nothing was repaired, overwritten or begun anew in its place.
            assert_eq!(std::fs::read(&hurt).unwrap().len(), bytes.len());
        }
        for end in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", hurt.display()));
        }
    }
    assert!(errors > 50, "only {errors} of 200 were seen");
}

#[test]
fn a_place_that_cannot_be_is_an_error_with_a_remedy() {
    let error = Ledger::open(Path::new("/dev/null/ledger.db")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let error = Ledger::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("--ledger"), "{error}");
    assert!(Ledger::look(&folder.path().join("none.db")).unwrap().is_none());
    assert!(!folder.path().join("none.db").exists());
}
