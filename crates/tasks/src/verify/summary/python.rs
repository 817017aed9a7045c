//! pytest and unittest, and tracebacks of whatever program.

use super::marks::{Marks, Rank};

/// The output of pytest: what a line is follows from the section in which it stands.
pub(super) fn pytest(marks: &mut Marks<'_>) {
    let mut section = "";
    for at in 0..marks.lines.len() {
        let line = marks.line(at);
        if let Some(title) = title(line, '=') {
            section = title;
            if let Some(rank) = of_title(title) {
                marks.set(at, rank);
            }
            // Only the counts are a title with nothing below.
            if is_count(title) {
                section = "";
            }
            continue;
        }
        if title(line, '!').is_some() {
            section = "";
            marks.set(at, Rank::Reason);
            continue;
        }
        let is_report = matches!(section, "FAILURES" | "ERRORS");
        if is_bare_count(line) && !is_report {
            // With `-q` the counts are no title, and what comes below them is another program's.
            section = "";
        }
        let rank = match section {
            _ if is_report => Some(of_failure(line)),
            "warnings summary" => Some(Rank::Aside),
            "short test summary info" => of_name(line),
            _ if section.starts_with("slowest ") || section == "PASSES" => Some(Rank::Noise),
            _ => of_session(line, section == "test session starts"),
        };
        if let Some(rank) = rank.filter(|_| !line.is_empty()) {
            marks.set(at, rank);
        }
    }
}

/// The words between runs of a mark.
fn title(line: &str, mark: char) -> Option<&str> {
    let inner = line.trim_start_matches(mark);
    if line.len() < inner.len() + 3 {
        return None;
    }
    let title = inner.trim_end_matches(mark);
    let is = title.len() < inner.len() && title.starts_with(' ') && title.ends_with(' ');
    is.then(|| title.trim()).filter(|title| !title.is_empty())
}

/// Titles of pytest's own; other programs have such too.
fn of_title(title: &str) -> Option<Rank> {
    match title {
        "FAILURES" | "ERRORS" => Some(Rank::Detail),
        "test session starts" | "short test summary info" | "warnings summary" | "PASSES" => {
            Some(Rank::Noise)
        }
        _ if title.starts_with("slowest ") => Some(Rank::Noise),
        _ if is_count(title) => Some(of_count(title)),
        _ => None,
    }
}

/// Such as "1 failed, 119 passed in 0.12s".
fn is_count(text: &str) -> bool {
    let known = ["passed", "failed", "error", "skipped", "no tests ran", "xfailed", "deselected"];
    let (counts, time) = text.rsplit_once(" in ").unwrap_or_default();
    time.starts_with(|c: char| c.is_ascii_digit()) && known.iter().any(|word| counts.contains(word))
}

fn is_bare_count(line: &str) -> bool {
    line.starts_with(|c: char| c.is_ascii_digit()) && is_count(line)
}

fn of_count(text: &str) -> Rank {
    if text.contains("failed") || text.contains("error") { Rank::Total } else { Rank::Aside }
}

/// A line about one failed test: its assertion and its place, or what surrounds them.
fn of_failure(line: &str) -> Rank {
    let place = line.split_once(".py:").is_some_and(|(_, rest)| {
        rest.starts_with(|c: char| c.is_ascii_digit()) && !line.starts_with([' ', '\t'])
    });
    let is_reason = title(line, '_').is_some() || place;
    match is_reason || line == "E" || line.starts_with("E  ") || line.starts_with("> ") {
        true => Rank::Reason,
        false => Rank::Detail,
    }
}

fn is_name(line: &str) -> bool {
    line.starts_with("FAILED ") || line.starts_with("ERROR ")
}

/// A line of the list of tests at the end.
fn of_name(line: &str) -> Option<Rank> {
    let fine = ["SKIPPED ", "XFAIL ", "XPASS ", "PASSED "].iter().any(|start| line.starts_with(start));
    match is_name(line) {
        true => Some(Rank::Name),
        false => fine.then_some(Rank::Noise),
    }
}

/// A line outside of all reports.
fn of_session(line: &str, heads: bool) -> Option<Rank> {
    const HEAD: [&str; 8] = [
        "platform ",
        "rootdir: ",
        "plugins: ",
        "cachedir: ",
        "collecting ",
        "collected ",
        "configfile: ",
        "asyncio: ",
    ];
    if let Some(progress) = line.strip_suffix("%]").and_then(|rest| rest.rsplit_once('[')) {
        let done = progress.1.trim();
        if done.len() <= 3 && done.bytes().all(|byte| byte.is_ascii_digit()) {
            let failed = [" FAILED", " ERROR"].iter().any(|word| progress.0.trim_end().ends_with(word));
            return Some(if failed { Rank::Name } else { Rank::Noise });
        }
    }
    // pytest-xdist names the worker in front.
    if line.starts_with("[gw") && line.contains("%] ") {
        return Some(if line.contains(" FAILED ") || line.contains(" ERROR ") {
            Rank::Name
        } else {
            Rank::Noise
        });
    }
    match line {
        _ if is_bare_count(line) => Some(of_count(line)),
        _ if heads && HEAD.iter().any(|start| line.starts_with(start)) => Some(Rank::Noise),
        _ if is_name(line) && line.contains("::") => Some(Rank::Name),
        _ if is_dots(line) => Some(Rank::Noise),
        _ => None,
    }
}

/// A line of one character for each test, with a count behind it or none, as many tools print it.
fn is_dots(line: &str) -> bool {
    let dots = line.split(' ').next().unwrap_or_default();
    let rest = line[dots.len()..].trim();
    let count = rest.is_empty() || rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'/');
    count && dots.contains('.') && dots.bytes().all(|byte| b".FEsSxXui*".contains(&byte))
}

/// The output of unittest, and tracebacks.
pub(super) fn unittest(marks: &mut Marks<'_>) {
    let mut at = 0;
    while at < marks.lines.len() {
        let line = marks.line(at);
        let mut next = at + 1;
        if (line.starts_with("FAIL: ") || line.starts_with("ERROR: "))
            && is_rule(at.checked_sub(1).map_or("", |at| marks.line(at)), '=')
        {
            // The first rule stands below the name.
            next = marks.find(at + 2, |line| is_rule(line, '=') || is_rule(line, '-'));
            marks.failure(at..next);
            marks.set(at, Rank::Name);
        } else if line.trim_start().starts_with("Traceback (most recent call last):") {
            let indent = line.len() - line.trim_start().len();
            let is_inside = |line: &str| line.len() - line.trim_start().len() > indent;
            next = marks.find(at + 1, |line| !is_inside(line)).saturating_add(1).min(marks.lines.len());
            // What was raised, and where, stands last.
            let last = next.saturating_sub(16).max(at);
            marks.all(at..last, Rank::Detail);
            marks.all(last..next, Rank::Reason);
        } else if let Some((_, result)) = line.rsplit_once(" ... ") {
            match result {
                "FAIL" | "ERROR" => marks.set(at, Rank::Name),
                "ok" | "expected failure" => marks.set(at, Rank::Noise),
                _ if result.starts_with("skipped") => marks.set(at, Rank::Noise),
                _ => {}
            }
        } else if line.starts_with("Ran ") && line.contains(" test") && line.contains(" in ") {
            marks.set(at, Rank::Total);
            let verdict = marks.find(at + 1, |line| !line.is_empty());
            if marks.line(verdict).starts_with("FAILED (") || marks.line(verdict).starts_with("OK") {
                marks.set(verdict, Rank::Total);
            }
        }
        at = next;
    }
}

fn is_rule(line: &str, mark: char) -> bool {
    line.len() >= 70 && line.chars().all(|c| c == mark)
}
