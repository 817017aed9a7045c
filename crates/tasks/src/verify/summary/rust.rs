//! `cargo test` and its kin, rustc and clippy.

use super::marks::{Marks, Rank};

/// What cargo says while it works, right-aligned in twelve columns.
const STATUS: [&str; 22] = [
    "Compiling",
    "Checking",
    "Downloading",
    "Downloaded",
    "Updating",
    "Locking",
    "Adding",
    "Blocking",
    "Finished",
    "Running",
    "Doc-tests",
    "Fresh",
    "Dirty",
    "Building",
    "Installing",
    "Installed",
    "Unpacking",
    "Documenting",
    "Generated",
    "Packaging",
    "Removing",
    "Scraping",
];

/// The output of libtest and of cargo around it, and of cargo-nextest.
pub(super) fn tests(marks: &mut Marks<'_>) {
    let mut at = 0;
    while at < marks.lines.len() {
        let line = marks.line(at);
        let text = line.trim_start();
        let mut next = at + 1;
        if is_captured(line) {
            next = marks.find(at + 1, |line| is_captured(line) || ends_captured(line));
            captured(marks, at, next);
        } else if line == "failures:" {
            // The list of names, or a blank line before what was captured.
            next = marks.find(at + 1, |line| !line.starts_with("    "));
            marks.all(at..next, Rank::Detail);
        } else if is_panic(text) {
            next = marks.find(at + 1, |line| line.trim().is_empty() || line.starts_with("test "));
            marks.failure(at..next);
        } else if let Some(rank) = rank(line, text) {
            marks.set(at, rank);
        }
        at = next;
    }
}

fn rank(line: &str, text: &str) -> Option<Rank> {
    let status = text.split(' ').next().unwrap_or_default();
    if line.len() - text.len() + status.len() == 12 && STATUS.contains(&status) {
        return Some(Rank::Noise);
    }
    if let Some(test) = line.strip_prefix("test ").and_then(|test| test.rsplit_once(" ... ")) {
        return match test.1 {
            result if result.starts_with("FAILED") => Some(Rank::Name),
            result if ["ok", "ignored", "bench:"].iter().any(|word| result.starts_with(word)) => {
                Some(Rank::Noise)
            }
            _ => None,
        };
    }
    if let Some(result) = line.strip_prefix("test result: ") {
        return Some(if result.starts_with("ok") { Rank::Aside } else { Rank::Total });
    }
    let counts =
        line.strip_prefix("running ").is_some_and(|rest| rest.ends_with(" tests") || rest.ends_with(" test"));
    // So does cargo-nextest.
    let timed = text
        .split_once(" [")
        .is_some_and(|(_, rest)| rest.trim_start().starts_with(|c: char| c.is_ascii_digit()));
    match status {
        _ if counts => Some(Rank::Noise),
        _ if line.ends_with(" --- FAILED") => Some(Rank::Name),
        "PASS" | "SLOW" | "SKIP" if timed => Some(Rank::Noise),
        "FAIL" | "TIMEOUT" | "SIGABRT" | "SIGSEGV" if timed => Some(Rank::Name),
        "Summary" if timed => Some(Rank::Total),
        _ => None,
    }
}

fn is_captured(line: &str) -> bool {
    line.starts_with("---- ") && (line.ends_with(" stdout ----") || line.ends_with(" stderr ----"))
}

fn ends_captured(line: &str) -> bool {
    matches!(line, "failures:" | "successes:") || line.starts_with("test result: ")
}

fn is_panic(line: &str) -> bool {
    line.starts_with("thread '") && line.contains("' ") && line.contains(" panicked at ")
}

/// What one test printed: the panic is the reason, what was printed before it and the stack are details.
fn captured(marks: &mut Marks<'_>, from: usize, to: usize) {
    marks.set(from, Rank::Reason);
    let panic = marks.find_in(from + 1..to, is_panic);
    if panic == to {
        // It returned an error, or did not panic though it should.
        return marks.failure(from..to);
    }
    marks.all(from + 1..panic, Rank::Detail);
    let stack = marks.find_in(panic..to, |line| line == "stack backtrace:");
    marks.failure(panic..stack);
    marks.all(stack..to, Rank::Detail);
}

/// Diagnostics of rustc and clippy, and what cargo says about them.
pub(super) fn diagnostics(marks: &mut Marks<'_>) {
    let mut at = 0;
    while at < marks.lines.len() {
        let line = marks.line(at);
        let end = match severity(line) {
            None => at + 1,
            Some(_) if marks.line(at + 1).trim_start().starts_with("--> ") => {
                marks.find(at + 1, |line| line.is_empty())
            }
            Some(_) => marks.find(at + 1, |line| !line.starts_with(' ') || line.trim().is_empty()),
        };
        match severity(line) {
            Some(true) if is_closing(line) => marks.all(at..end, Rank::Total),
            Some(false) if is_count(line) => marks.all(at..end, Rank::Noise),
            Some(is_error) => marks.diagnostic(at..end, is_error),
            None if line.starts_with("For more information about ")
                || line.starts_with("Some errors have detailed explanations: ") =>
            {
                marks.set(at, Rank::Noise);
            }
            None => {}
        }
        at = end;
    }
}

/// Whether a line opens an error, or else a warning.
fn severity(line: &str) -> Option<bool> {
    let opens = |rest: &str| rest.starts_with(": ") || (rest.starts_with('[') && rest.contains("]: "));
    let error = line.strip_prefix("error").or_else(|| line.strip_prefix("Error")).is_some_and(opens);
    let warning = line.strip_prefix("warning").is_some_and(opens);
    (error || warning).then_some(error)
}

fn is_closing(line: &str) -> bool {
    ["error: could not compile ", "error: test failed", "error: test run failed", "error: aborting due to "]
        .iter()
        .any(|start| line.starts_with(start))
}

fn is_count(line: &str) -> bool {
    (line.starts_with("warning: `") && line.contains(" generated "))
        || line.starts_with("warning: build failed, waiting ")
}
