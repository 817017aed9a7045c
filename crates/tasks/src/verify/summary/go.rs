//! `go test`, with `-v` or without, and panics of Go programs.

use std::collections::HashSet;
use std::ops::Range;

use super::marks::{Marks, Rank};

pub(super) fn mark(marks: &mut Marks<'_>) {
    let mut from = 0;
    while from < marks.lines.len() {
        // Two packages may have tests of one name.
        let end = marks.find(from, ends_package).saturating_add(1).min(marks.lines.len());
        package(marks, from..end);
        from = end;
    }
}

/// What the tests of one package print.
fn package(marks: &mut Marks<'_>, lines: Range<usize>) {
    // What a test prints stands before its result, and one that ends the process has none.
    let passed: HashSet<&str> = marks.lines[lines.clone()]
        .iter()
        .filter_map(|line| {
            let text = line.trim_start();
            text.strip_prefix("--- PASS: ").or_else(|| text.strip_prefix("--- SKIP: "))
        })
        .map(name)
        .collect();
    // The test to which the lines belong.
    let mut owner: Option<&str> = None;
    let mut panicked = false;
    for at in lines {
        let line = marks.line(at);
        let text = line.trim_start();
        let result =
            ["--- FAIL: ", "--- PASS: ", "--- SKIP: "].iter().position(|start| text.starts_with(start));
        let running =
            ["=== RUN ", "=== CONT ", "=== NAME ", "=== PAUSE "].iter().find_map(|s| text.strip_prefix(s));
        if let Some(test) = running {
            owner = Some(name(test.trim_start()));
            marks.set(at, Rank::Noise);
        } else if let Some(result) = result {
            owner = Some(name(&text[10..]));
            marks.set(at, if result == 0 { Rank::Name } else { Rank::Noise });
        } else if let Some(rank) = of_package(line) {
            (owner, panicked) = (None, false);
            marks.set(at, rank);
        } else if line.starts_with("panic: ") || line.starts_with("fatal error: ") {
            panicked = true;
            marks.set(at, Rank::Reason);
        } else if panicked {
            let is_place =
                text.contains(".go:") && !text.contains("/src/runtime/") && !text.contains("/src/testing/");
            marks.set(at, if is_place || line.starts_with("[signal ") { Rank::Reason } else { Rank::Detail });
        } else if let Some(test) = owner {
            marks.set(at, if passed.contains(test) { Rank::Noise } else { Rank::Reason });
        }
    }
}

/// The name in front of the time.
fn name(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

/// Whether a line is the last one of a package.
fn ends_package(line: &str) -> bool {
    ["FAIL\t", "ok  \t", "?   \t"].iter().any(|start| line.starts_with(start))
}

fn of_package(line: &str) -> Option<Rank> {
    match line {
        "FAIL" => Some(Rank::Noise),
        "PASS" => Some(Rank::Aside),
        _ if line.starts_with("FAIL\t") => Some(Rank::Total),
        _ if line.starts_with("ok  \t") || line.starts_with("?   \t") => Some(Rank::Noise),
        _ if line.starts_with("go: downloading ") || line.starts_with("coverage: ") => Some(Rank::Noise),
        _ => None,
    }
}
