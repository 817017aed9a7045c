//! Jest, Vitest, mocha, `node --test` and whatever else writes TAP.

use super::GAP;
use super::marks::{Marks, Rank};

pub(super) fn mark(marks: &mut Marks<'_>) {
    // What stood in the middle of a very long output is not there any more.
    let lost = marks.lines.contains(&GAP);
    // Mocha numbers what failed where it stands among the others.
    let mocha = marks.lines.iter().any(|line| is_count(line.trim_start(), "failing"));
    let (mut at, mut former) = (0, "");
    while at < marks.lines.len() {
        let line = marks.line(at);
        let text = line.trim_start();
        let next = failure(marks, at, line, text, lost).unwrap_or(at + 1);
        if mocha && numbered(line) {
            marks.set(at, Rank::Name);
        }
        if text.starts_with("→ ") && former.starts_with('×') {
            // Vitest says the reason in short.
            marks.set(at, Rank::Reason);
        }
        former = text;
        if next == at + 1
            && let Some(rank) = rank(line, text)
        {
            marks.set(at, rank);
        }
        at = next;
    }
}

/// Marks a failure that begins here with all its lines, and tells where it ends.
fn failure(marks: &mut Marks<'_>, at: usize, line: &str, text: &str, lost: bool) -> Option<usize> {
    let indent = line.len() - text.len();
    let end = if line.starts_with("  ● ") {
        // Jest: everything below is indented. What its `console` printed is no failure.
        let end = marks.find(at + 1, |line| line.starts_with("  ● ") || opens(line));
        if line.starts_with("  ● Console") {
            marks.all(at..end, Rank::Detail);
            return Some(end);
        }
        end
    } else if line == "Summary of all failing tests" && !lost {
        // Jest says everything again.
        let end = marks.find(at + 1, |line| line.starts_with("Test Suites: "));
        marks.all(at..end, Rank::Noise);
        return Some(end);
    } else if line.starts_with(" FAIL  ") {
        // Vitest, up to the next one or to the rule below it.
        marks.find(at + 1, |line| line.starts_with(" FAIL  ") || line.starts_with('⎯'))
    } else if is_count(text, "failing") {
        // Mocha: all failures stand after the counts.
        marks.set(at, Rank::Total);
        marks.failures(at + 1..marks.lines.len(), numbered);
        return Some(marks.lines.len());
    } else if text == "✖ failing tests:" {
        marks.failures(at + 1..marks.lines.len(), |line| line.starts_with("test at "));
        return Some(marks.lines.len());
    } else if let Some(result) = tap(text) {
        let deeper = |line: &str| line.len() - line.trim_start().len() > indent;
        let end = match marks.line(at + 1).trim() {
            "---" => {
                marks.find(at + 1, |line| line.trim() == "..." || !(deeper(line) || line.is_empty())) + 1
            }
            _ => at + 1,
        };
        let end = end.min(marks.lines.len());
        if result {
            marks.all(at..end, Rank::Noise)
        } else {
            marks.failure(at..end)
        }
        return Some(end.max(at + 1));
    } else {
        return None;
    };
    marks.failure(at..end);
    Some(end)
}

/// Whether a line opens what is no longer the failure before it.
fn opens(line: &str) -> bool {
    ["PASS ", "FAIL ", "Test Suites: ", "Summary of all failing tests", "RUNS "]
        .iter()
        .any(|start| line.starts_with(start))
}

/// Whether a line of TAP tells of a test that passed, or of one that did not.
fn tap(text: &str) -> Option<bool> {
    let (rest, ok) = match text.strip_prefix("not ok ") {
        Some(rest) => (rest, false),
        None => (text.strip_prefix("ok ")?, true),
    };
    let numbered = rest.starts_with(|c: char| c.is_ascii_digit());
    let excused = rest.contains("# TODO") || rest.contains("# SKIP");
    numbered.then_some(ok || excused)
}

/// Such as "12 passing (30ms)".
fn is_count(text: &str, word: &str) -> bool {
    let (number, rest) = text.split_once(' ').unwrap_or_default();
    !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && rest.split(' ').next() == Some(word)
}

/// Such as "  1) adds".
fn numbered(line: &str) -> bool {
    let (number, rest) = line.trim_start().split_once(')').unwrap_or_default();
    line.starts_with("  ")
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && rest.starts_with(' ')
}

fn rank(line: &str, text: &str) -> Option<Rank> {
    const TOTALS: [&str; 5] = ["Test Suites: ", "Tests: ", "Snapshots: ", " Test Files  ", "      Tests  "];
    const ENDS: [&str; 6] =
        ["Time: ", "Ran all test suites", "   Start at  ", "   Duration  ", "TAP version ", " RUN  v"];
    const NODE: [&str; 3] = ["tests ", "pass ", "fail "];
    let node = line.strip_prefix("ℹ ").or_else(|| line.strip_prefix("# "));
    match text.chars().next()? {
        '✓' | '✔' | '√' | '○' | '↓' | '⎯' => Some(Rank::Noise),
        '✕' | '✗' | '×' => Some(Rank::Name),
        // ESLint counts so, and `node --test` names so.
        '✖' => Some(Rank::Name),
        '❯' if text.contains("failed") => Some(Rank::Name),
        _ if line.starts_with("PASS ") => Some(Rank::Noise),
        _ if line.starts_with("FAIL ") => Some(Rank::Name),
        _ if TOTALS.iter().any(|start| line.starts_with(start)) => Some(Rank::Total),
        _ if ENDS.iter().any(|start| line.starts_with(start)) => Some(Rank::Noise),
        _ if is_count(text, "passing") => Some(Rank::Total),
        _ if is_count(text, "pending") => Some(Rank::Aside),
        _ if line.starts_with("# Subtest: ") || text.starts_with("▶ ") => Some(Rank::Noise),
        _ => {
            let counted = node.filter(|rest| NODE.iter().any(|word| rest.starts_with(word)))?;
            counted.ends_with(|c: char| c.is_ascii_digit()).then_some(Rank::Total)
        }
    }
}
