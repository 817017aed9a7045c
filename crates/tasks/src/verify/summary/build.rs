//! Maven, Gradle, `dotnet test`, RSpec, make, CMake and ninja.

use super::marks::{Marks, Rank};

pub(super) fn java_and_dotnet(marks: &mut Marks<'_>) {
    let mut at = 0;
    while at < marks.lines.len() {
        let line = marks.line(at);
        let mut next = at + 1;
        if line.contains("<<< FAILURE!") || line.contains("<<< ERROR!") {
            // Surefire: the exception and its stack, up to the next line of maven's log.
            marks.set(at, if line.contains("Tests run: ") { Rank::Detail } else { Rank::Name });
            next = marks.find(at + 1, |line| line.starts_with('[') || line.is_empty());
            exception(marks, at + 1, next);
        } else if line.ends_with(" FAILED") && (line.contains(" > ") || line.starts_with("> Task ")) {
            // Gradle.
            marks.set(at, Rank::Name);
            next = marks.find(at + 1, |line| !line.starts_with("    "));
            exception(marks, at + 1, next);
        } else if line == "* What went wrong:" {
            next = marks.find(at + 1, |line| line.starts_with("* ") || line.starts_with("BUILD "));
            marks.failure(at..next);
        } else if line == "* Try:" {
            next = marks.find(at + 1, |line| line.is_empty());
            marks.all(at..next, Rank::Noise);
        } else if line.starts_with("  Failed ") && line.ends_with(']') {
            // `dotnet test`: message and stack up to the next result or the count.
            marks.set(at, Rank::Name);
            next = marks.find(at + 1, |line| {
                line.is_empty()
                    || ["  Failed ", "  Passed ", "  Skipped ", "Failed!", "Passed!"]
                        .iter()
                        .any(|start| line.starts_with(start))
            });
            marks.failure(at + 1..next);
        } else if let Some(rank) = maven(line).or_else(|| gradle_or_dotnet(line)) {
            marks.set(at, rank);
        }
        at = next;
    }
}

/// An exception: its message and the frames of the project are the reason, those of the libraries are details.
fn exception(marks: &mut Marks<'_>, from: usize, to: usize) {
    const LIBRARIES: [&str; 9] = [
        "at java.",
        "at java.base/",
        "at jdk.",
        "at sun.",
        "at org.junit.",
        "at org.testng.",
        "at org.apache.maven.",
        "at org.gradle.",
        "at app//org.junit.",
    ];
    for at in from..to {
        let text = marks.line(at).trim_start();
        let foreign = LIBRARIES.iter().any(|start| text.starts_with(start)) || text.starts_with("... ");
        marks.set(at, if foreign { Rank::Detail } else { Rank::Reason });
    }
}

fn maven(line: &str) -> Option<Rank> {
    const HELP: [&str; 5] = [
        "To see the full stack trace",
        "Re-run Maven",
        "For more information about the errors",
        "[Help 1]",
        "-> [Help 1]",
    ];
    if let Some(said) = line.strip_prefix("[ERROR]") {
        let said = said.trim_start();
        return Some(match said {
            "" => Rank::Noise,
            _ if HELP.iter().any(|start| said.starts_with(start)) => Rank::Noise,
            _ if said.starts_with("Tests run: ") => Rank::Total,
            _ => Rank::Reason,
        });
    }
    if let Some(said) = line.strip_prefix("[INFO] ") {
        let counts = said.starts_with("Tests run: ") && !said.contains("Time elapsed");
        return Some(if counts || said.starts_with("BUILD ") { Rank::Total } else { Rank::Noise });
    }
    match line {
        _ if line.starts_with("[WARNING] ") => Some(Rank::Aside),
        "[INFO]" | "[WARNING]" => Some(Rank::Noise),
        _ if line.starts_with("Downloading from ") || line.starts_with("Downloaded from ") => {
            Some(Rank::Noise)
        }
        _ => None,
    }
}

fn gradle_or_dotnet(line: &str) -> Option<Rank> {
    const NOISE: [&str; 9] = [
        "> Task :",
        "  Determining projects to restore",
        "  Restored ",
        "  All projects are up-to-date",
        "Test run for ",
        "Starting test execution",
        "A total of ",
        "  Passed ",
        "  Skipped ",
    ];
    let completed = line.contains(" tests completed, ") || line.contains(" test completed, ");
    match line {
        _ if completed || line.starts_with("BUILD FAILED") || line.starts_with("Failed!  - ") => {
            Some(Rank::Total)
        }
        _ if line.starts_with("BUILD SUCCESSFUL") || line.starts_with("Passed!  - ") => Some(Rank::Aside),
        _ if line.ends_with(" PASSED") && line.contains(" > ") => Some(Rank::Noise),
        _ if NOISE.iter().any(|start| line.starts_with(start)) => Some(Rank::Noise),
        _ if line.starts_with("  ") && line.contains(" -> ") && line.ends_with(".dll") => Some(Rank::Noise),
        _ => None,
    }
}

pub(super) fn make_and_ruby(marks: &mut Marks<'_>) {
    let mut at = 0;
    while at < marks.lines.len() {
        let line = marks.line(at);
        let mut next = at + 1;
        if line == "Failures:" && marks.line(at + 1).is_empty() && example(marks.line(at + 2)) {
            // RSpec: one numbered paragraph for each failure.
            next = marks.find(at + 1, |line| line.starts_with("Finished in "));
            marks.failures(at + 2..next, example);
        } else if let Some(rank) = of_ruby(line).or_else(|| of_make(line)) {
            marks.set(at, rank);
        }
        at = next;
    }
}

/// Such as "  1) Calculator adds".
fn example(line: &str) -> bool {
    let (number, _) = line.trim_start().split_once(") ").unwrap_or_default();
    line.starts_with("  ") && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn of_ruby(line: &str) -> Option<Rank> {
    let counts = line.split_once(" example").is_some_and(|(number, rest)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) && rest.contains(" failure")
    });
    match line {
        _ if counts => Some(Rank::Total),
        _ if line.starts_with("rspec ./") => Some(Rank::Name),
        _ => None,
    }
}

fn of_make(line: &str) -> Option<Rank> {
    // CMake's progress, such as "[ 50%] Building C object".
    let progress =
        line.strip_prefix('[').and_then(|rest| rest.split_once("%] ")).is_some_and(|(done, rest)| {
            done.trim().bytes().all(|byte| byte.is_ascii_digit())
                && ["Building ", "Linking ", "Built target ", "Generating "]
                    .iter()
                    .any(|start| rest.starts_with(start))
        });
    let make = line.starts_with("make") && line.split_once(": ").is_some_and(|(name, _)| name.len() < 12);
    let said = line.split_once(": ").map_or("", |(_, said)| said);
    match said {
        _ if progress => Some(Rank::Noise),
        _ if make && (said.starts_with("Entering directory ") || said.starts_with("Leaving directory ")) => {
            Some(Rank::Noise)
        }
        _ if make && said.starts_with("*** ") => Some(Rank::Total),
        _ if line.starts_with("ninja: build stopped") => Some(Rank::Total),
        _ if line.starts_with("collect2: error: ") || line.contains(": undefined reference to ") => {
            Some(Rank::Reason)
        }
        _ => None,
    }
}
