//! A command line as argv. There is no shell unless the task says so: what only a shell could do is an
//! error here, early.

use serde::Serialize;

use crate::{Error, Result};

/// A verification command: the line as it was written, and its words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Command {
    /// The command line, as the task has it; this is what a person or a model is shown.
    pub line: String,
    /// Program and arguments, at least one word.
    pub argv: Vec<String>,
    /// Whether a shell reads the line. It runs only if a person has approved exactly this line.
    pub shell: bool,
}

impl Command {
    /// Splits a command line by the quoting rules of POSIX shells, and refuses what needs a shell.
    ///
    /// Outside quotes the characters `; | & > < ( )`, a backtick, `$` before a name or a bracket, a
    /// line break, and `#` at the start of a word are errors; inside quotes they are ordinary.
    pub fn parse(line: &str) -> Result<Command> {
        let line = line.trim();
        let fail = |problem: String| Error::Command { command: line.to_owned(), problem };
        if let Some(found) = shell_syntax(line) {
            return Err(fail(format!(
                "`{found}` needs a shell, and commands run without one; quote it, put the commands in a script, or write `Run (shell):`"
            )));
        }
        if line.contains('\0') {
            return Err(fail("it holds a NUL byte; remove it".to_owned()));
        }
        let Some(argv) = shlex::split(line) else {
            return Err(fail("a quote or a backslash is not closed; close it".to_owned()));
        };
        match argv.first() {
            None => Err(fail("it is empty; name a program".to_owned())),
            Some(program) if program.is_empty() => {
                Err(fail("the program's name is empty; name a program".to_owned()))
            }
            Some(program) if is_assignment(program) => Err(fail(format!(
                "`{program}` sets a variable, which needs a shell, and commands run without one; use `env {program} …`"
            ))),
            Some(_) => Ok(Command { line: line.to_owned(), argv, shell: false }),
        }
    }

    /// A line for `sh`, which a person has to approve before it runs.
    pub fn shell(line: &str) -> Result<Command> {
        let line = line.trim();
        let fail = |problem: &str| Error::Command { command: line.to_owned(), problem: problem.to_owned() };
        if line.is_empty() {
            return Err(fail("it is empty; name a program"));
        }
        if line.contains('\0') {
            return Err(fail("it holds a NUL byte; remove it"));
        }
        let argv = ["sh", "-c", line].map(str::to_owned).into();
        Ok(Command { line: line.to_owned(), argv, shell: true })
    }

    /// A command from ready words, as a JSON list gives it; nothing in them is interpreted.
    pub fn from_argv(argv: Vec<String>) -> Result<Command> {
        let line = argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let fail = |problem: &str| Error::Command { command: line.clone(), problem: problem.to_owned() };
        if argv.first().is_none_or(|program| program.is_empty()) {
            return Err(fail("it is empty; name a program"));
        }
        if argv.iter().any(|word| word.contains('\0')) {
            return Err(fail("it holds a NUL byte; remove it"));
        }
        Ok(Command { line, argv, shell: false })
    }
}

fn quoted(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| format!("{word:?}"), |quoted| quoted.into_owned())
}

/// The first piece of shell syntax outside quotes.
fn shell_syntax(line: &str) -> Option<String> {
    let mut quote = None;
    let mut word_start = true;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let starts_word = std::mem::replace(&mut word_start, c.is_ascii_whitespace());
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => {}
            (_, '\\') => {
                chars.next();
            }
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '\n' | '\r') => return Some("line break".to_owned()),
            (None, ';' | '|' | '&' | '>' | '<' | '`' | '(' | ')') => return Some(c.to_string()),
            (None, '#') if starts_word => return Some("#".to_owned()),
            (None, '$') => {
                let next = chars.peek().copied().unwrap_or(' ');
                if next.is_ascii_alphanumeric() || "_{(?@*#!$-".contains(next) {
                    return Some(format!("${next}"));
                }
            }
            (None, _) => {}
        }
    }
    None
}

fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else { return false };
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(line: &str) -> Vec<String> {
        Command::parse(line).unwrap().argv
    }

    #[test]
    fn splits_words_and_quotes() {
        assert_eq!(argv("cargo check -p server"), ["cargo", "check", "-p", "server"]);
        assert_eq!(argv("  python3 -c 'print(1); x > 2' "), ["python3", "-c", "print(1); x > 2"]);
        assert_eq!(argv(r#"echo "a && b" a\ b c\;d"#), ["echo", "a && b", "a b", "c;d"]);
        assert_eq!(argv("grep a$ file"), ["grep", "a$", "file"]);
        assert_eq!(argv("env A=1 make"), ["env", "A=1", "make"]);
        assert_eq!(argv("make A=1 b#c"), ["make", "A=1", "b#c"]);
    }

    #[test]
    fn refuses_what_needs_a_shell() {
        for line in [
            "a; b", "a | b", "a && b", "a & ", "a > f", "a < f", "a `b`", "a $(b)", "a\nb", "(a)", "a $HOME",
            "a ${B}", "a # c",
        ] {
            let error = Command::parse(line).unwrap_err().to_string();
            assert!(error.contains("shell"), "{line}: {error}");
        }
    }

    #[test]
    fn refuses_assignments_open_quotes_and_nothing() {
        let error = Command::parse("RUST_LOG=debug cargo test").unwrap_err().to_string();
        assert!(error.contains("env RUST_LOG=debug"), "{error}");
        for line in ["", "  ", "a 'b", "a \"b", "a \\", "''", "a '\0'"] {
            assert!(matches!(Command::parse(line), Err(Error::Command { .. })), "{line:?}");
        }
    }

    #[test]
    fn a_line_for_a_shell_is_taken_whole() {
        let command = Command::shell(" a && b > c ").unwrap();
        assert_eq!((command.line.as_str(), command.shell), ("a && b > c", true));
        assert_eq!(command.argv, ["sh", "-c", "a && b > c"]);
        assert!(Command::shell(" ").is_err() && Command::shell("a\0").is_err());
        assert!(!Command::parse("a").unwrap().shell);
    }

    #[test]
    fn words_are_taken_as_they_are() {
        let command = Command::from_argv(vec!["sh".into(), "-c".into(), "a; b".into()]).unwrap();
        assert_eq!(command.line, "sh -c 'a; b'");
        assert!(Command::from_argv(vec![]).is_err());
    }
}
