use super::*;

/// An output and its expectation. A line of a file begins with "+" if the summary must show it, with "-" if it must not,
/// and with a blank if either will do; `@300` in front of a line repeats it, with its number in place of `{}`.
struct Case {
    text: String,
    kept: Vec<String>,
    left_out: Vec<String>,
}

fn case(file: &str) -> Case {
    let mut case = Case { text: String::new(), kept: Vec::new(), left_out: Vec::new() };
    for line in file.lines() {
        let (mark, line) = line.split_at(line.len().min(1));
        let (times, line) = match line.strip_prefix('@').and_then(|rest| rest.split_once(' ')) {
            Some((times, line)) => (times.parse().unwrap(), line),
            None => (1, line),
        };
        for number in 1..=times {
            let line = line.replace("{}", &number.to_string());
            case.text += &format!("{line}\n");
            match mark {
                "+" => case.kept.push(line),
                // Blank lines may stay where they were.
                "-" if !line.is_empty() => case.left_out.push(line),
                _ => {}
            }
        }
    }
    case
}

macro_rules! outputs {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("outputs/", $name, ".txt")))),*] };
}

const OUTPUTS: [(&str, &str); 29] = outputs!(
    "cargo_test",
    "nextest",
    "rustc",
    "pytest",
    "pytest_collect",
    "unittest",
    "jest",
    "vitest",
    "mocha",
    "node_test",
    "tap",
    "go_test",
    "go_panic",
    "go_vet",
    "eslint",
    "gcc",
    "dotnet",
    "maven",
    "gradle",
    "rspec",
    "tsc",
    "python_lint",
    "gcc_link",
    "cargo_run",
    "pytest_quiet",
    "go_exit",
    "go_packages",
    "banner",
    "jest_long",
);

fn summarised(text: &str, budget: usize) -> String {
    let lines = text.lines().count();
    let (summary, kept) = summary(text, lines, budget).expect("a tool that is known");
    assert!(summary.len() <= budget, "{} of {budget} bytes", summary.len());
    assert!(summary.starts_with(&format!("[… {kept} of {lines} lines kept …]\n")), "{summary}");
    let shown = summary.lines().skip(1).filter(|line| *line != "[…]").count();
    assert_eq!(shown, kept);
    summary
}

/// Covers S1-48.
#[test]
fn what_failed_is_kept_and_what_went_well_is_not() {
    let mut problems = Vec::new();
    for (name, file) in OUTPUTS {
        let case = case(file);
        let summary = summarised(&case.text, 8 << 10);
        let lines: Vec<&str> = summary.lines().collect();
        let mut shown = lines.iter();
        let missing = case.kept.iter().find(|line| !shown.any(|shown| shown == line));
        let surplus = case.left_out.iter().find(|line| lines.contains(&line.as_str()));
        if missing.is_some() || surplus.is_some() {
            problems.push(format!("{name}: missing {missing:?}, surplus {surplus:?} in\n{summary}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Covers S1-48.
#[test]
fn one_failure_among_two_thousand_tests_is_whole() {
    let mut text = "\nrunning 1984 tests\n".to_owned();
    (0..1983).for_each(|number| text += &format!("test queue::tests::passes_{number} ... ok\n"));
    text += "test queue::tests::fails ... FAILED\n\nfailures:\n\n";
    let failure = "---- queue::tests::fails stdout ----\npushed 1\npushed 2\n\n\
         thread 'queue::tests::fails' (7) panicked at src/queue.rs:41:9:\n\
         assertion `left == right` failed: the queue is full\n  left: Ok(())\n right: Err(Full)\n\
         note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
    text += failure;
    text += "\n\nfailures:\n    queue::tests::fails\n\n";
    let end = "test result: FAILED. 1983 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.31s\n\n\
         error: test failed, to rerun pass `--lib`\n";
    text += end;
    assert_eq!(text.lines().count(), 2006);
    let summary = summarised(&text, 8 << 10);
    assert!(summary.contains(failure.trim_end()), "{summary}");
    assert!(end.lines().all(|line| summary.contains(line)), "{summary}");
    // Of 90 KB.
    assert!(summary.len() < 1000, "{} bytes", summary.len());
}

/// Covers S1-48.
#[test]
fn all_names_come_before_the_last_reasons() {
    let mut text = String::new();
    (0..60).for_each(|number| text += &format!("test fails_{number} ... FAILED\n"));
    for number in 0..60 {
        text += &format!("---- fails_{number} stdout ----\n");
        (0..50).for_each(|line| text += &format!("printed {line}\n"));
        text += &format!("thread 'fails_{number}' (7) panicked at src/lib.rs:{number}:9:\nit is {number}\n");
    }
    text += "\ntest result: FAILED. 0 passed; 60 failed\n";
    let summary = summarised(&text, 4 << 10);
    assert!(summary.contains("test fails_59 ... FAILED"), "{summary}");
    assert!(summary.contains("it is 0\n") && summary.contains("it is 3\n"), "{summary}");
    // What was printed comes last.
    assert!(!summary.contains("printed 10\n"), "{summary}");
    assert!(
        summary.contains("\n[…]\n") && summary.ends_with("test result: FAILED. 0 passed; 60 failed\n"),
        "{summary}"
    );
}

#[test]
fn lines_that_no_tool_knows_fill_what_is_left() {
    let mut text: String = (0..2000).map(|number| format!("line {number}\n")).collect();
    text += "make: *** [Makefile:7: all] Error 2\n";
    let shown = summarised(&text, 2000);
    assert!(shown.contains("]\nline 0\nline 1\n") && shown.contains("\n[…]\n"), "{shown}");
    assert!(shown.ends_with("line 1999\nmake: *** [Makefile:7: all] Error 2\n"), "{shown}");
    assert!(shown.len() > 1000, "{shown}");
    // Without a line that is known it is not for a summary to say what matters.
    assert_eq!(summary_of(&"a line\n".repeat(1000)), None);
    assert_eq!(summary_of(&"\n".repeat(1000)), None);
    assert_eq!(summary(&text, 2001, 40), None);
}

/// Covers S1-48.
#[test]
fn a_count_that_is_longer_than_its_share_is_shown_where_there_is_room() {
    let mut text: String = (0..300).map(|number| format!("test passes_{number} ... ok\n")).collect();
    text += "test fails ... FAILED\n";
    let count = "test result: FAILED. 300 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
    text += count;
    assert!(summarised(&text, 512).ends_with(&format!("\ntest fails ... FAILED\n{count}")));
}

#[test]
fn where_nothing_says_why_the_last_lines_are_shown_whatever_they_are() {
    let mut text: String = (0..2000).map(|number| format!("test passes_{number} ... ok\n")).collect();
    text += "make: *** [Makefile:7: all] Error 2\n";
    let shown = summarised(&text, 2000);
    assert!(shown.ends_with("test passes_1999 ... ok\nmake: *** [Makefile:7: all] Error 2\n"), "{shown}");
    assert!(shown.len() < 1000 && !shown.contains("passes_0 "), "{shown}");
}

fn summary_of(text: &str) -> Option<(String, usize)> {
    summary(text, text.lines().count(), 4096)
}

#[test]
fn a_long_line_is_clipped() {
    let text = format!("error: {}{}end\n", "ä".repeat(40_000), "x".repeat(40_000));
    let summary = summarised(&text, 4096);
    assert!(
        summary.contains("error: ää") && summary.contains(" […] ") && summary.ends_with("xend\n"),
        "{summary}"
    );
    assert!(summary.len() < 1100, "{}", summary.len());
}

/// Lines that open something which never ends, many of each: who looks for the end of each again takes
/// minutes here.
#[test]
fn what_never_ends_takes_no_longer() {
    for opening in [
        "---- a stdout ----",
        "failures:",
        "thread 'a' (1) panicked at a",
        "error: a",
        "error[E1]: a\n  --> a",
        "warning: a",
        "=== FAILURES ===",
        "____ a ____",
        "FAIL: a",
        "Traceback (most recent call last):",
        "Ran 1 test in 1s",
        "  ● a",
        " FAIL  a",
        "1 failing",
        "✖ failing tests:",
        "ok 1\n  ---",
        "not ok 1\n  ---",
        "  1) a",
        "=== RUN   A",
        "--- FAIL: A",
        "panic: a",
        "a:1:1: error: a",
        "a.ts:1:1 - error TS1: a",
        "  1:1  error  a",
        "A\n --> a",
        "a <<< FAILURE!",
        "a > b FAILED",
        "* What went wrong:",
        "* Try:",
        "  Failed a [1 ms]",
        "Failures:\n\n  1) a",
        "1:1:1:1",
        "((((1",
        "",
    ] {
        let text = format!("{opening}\n").repeat((1 << 16) / (opening.len() + 1));
        if let Some((summary, _)) = summary(&text, text.lines().count(), 8 << 10) {
            assert!(summary.len() <= 8 << 10, "{opening}");
        }
    }
}

proptest::proptest! {
    /// Whatever lines stand in whatever order, the summary has only such lines, in their order, and fits.
    #[test]
    fn any_output_has_a_summary_that_fits(
        picks in proptest::collection::vec((0_usize..4000, 0_usize..60, ".{0,8}"), 0..200),
        budget in 0_usize..4000,
    ) {
        let all: Vec<&str> = OUTPUTS.iter().flat_map(|(_, file)| file.lines()).collect();
        let mut text = String::new();
        for (at, cut, noise) in &picks {
            // The first character is the expectation.
            let line = all[at % all.len()].get(1..).unwrap_or_default();
            let cut = beginning(line, line.len().saturating_sub(cut / 10)).len();
            text += &format!("{}{}\n", &line[..cut], if cut.is_multiple_of(3) { noise } else { "" });
        }
        let lines = text.lines().count();
        if let Some((summary, kept)) = summary(&text, lines, budget) {
            proptest::prop_assert!(summary.len() <= budget);
            let mut given = text.lines().map(str::trim_end);
            let shown = summary.lines().skip(1).filter(|line| *line != "[…]");
            proptest::prop_assert_eq!(shown.clone().count(), kept);
            for line in shown {
                proptest::prop_assert!(given.any(|given| given == line), "{}", line);
            }
        }
    }
}
