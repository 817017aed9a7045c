//! Which paths a task may name: the rules that need no file system.

use crate::{Error, Result};

/// Checks a path of a task or of a reply and gives it in its plain form, without "." components.
///
/// Allowed are relative paths of ordinary components, separated by "/". Refused are absolute paths,
/// "..", NUL and other control characters, backslashes and Windows prefixes (they mean other things on
/// other systems), and protected places in any letter case, because programs execute or trust what lies
/// there: `.git`, `.hg`, `.svn`, `.coder`, `.githooks`, `.husky`, and a git hook in a folder `hooks`
/// (other files in such a folder are ordinary; it is a usual name for source folders).
pub fn relative(path: &str) -> Result<String> {
    let fail = |problem| Err(Error::Path { path: path.escape_debug().to_string(), problem });
    if path.trim().is_empty() {
        return fail("it is empty; name a file");
    }
    if path.chars().any(char::is_control) {
        return fail("it holds a control character; use a plain file name");
    }
    if path.starts_with('/') || path.starts_with('~') {
        return fail("it is absolute; name a file relative to the working directory");
    }
    if path.contains('\\') || path.as_bytes().get(1) == Some(&b':') {
        return fail("it is a Windows path; separate folders by `/` and start at the working directory");
    }
    if path.ends_with('/') || path.ends_with("/.") {
        return fail("it is a folder; name a file");
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return fail("it holds `..`; name a file inside the working directory"),
            part if part.len() > 255 => {
                return fail("a component has more than 255 bytes; use a shorter name");
            }
            part if is_protected(part) || is_hook(parts.last().copied(), part) => {
                return fail("it lies in a protected place (.git, .coder, hooks); name another file");
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return fail("it is a folder; name a file");
    }
    Ok(parts.join("/"))
}

/// The folder part of a plain path, "" for the root, and the file name.
pub fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Names under which other programs look for commands to run. Trailing dots and spaces, which some
/// file systems ignore, and the short name that some give to `.git` are no way around.
fn is_protected(part: &str) -> bool {
    let name = part.trim_end_matches(['.', ' ']).to_ascii_lowercase();
    // HFS+ ignores these characters, so git itself refuses such names.
    let name: String = name.chars().filter(|c| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')).collect();
    matches!(name.as_str(), ".git" | "git~1" | ".hg" | ".svn" | ".coder" | ".githooks" | ".husky")
        || name.starts_with(crate::workspace::TEMPORARY)
}

/// A file that git would run, in the hooks folder of a bare repository or of a `core.hooksPath`.
fn is_hook(folder: Option<&str>, name: &str) -> bool {
    folder.is_some_and(|folder| folder.eq_ignore_ascii_case("hooks"))
        && HOOKS.iter().any(|hook| name.eq_ignore_ascii_case(hook))
}

/// The names in githooks(5).
const HOOKS: [&str; 28] = [
    "applypatch-msg",
    "pre-applypatch",
    "post-applypatch",
    "pre-commit",
    "pre-merge-commit",
    "prepare-commit-msg",
    "commit-msg",
    "post-commit",
    "pre-rebase",
    "post-checkout",
    "post-merge",
    "pre-push",
    "pre-receive",
    "update",
    "proc-receive",
    "post-receive",
    "post-update",
    "reference-transaction",
    "push-to-checkout",
    "pre-auto-gc",
    "post-rewrite",
    "sendemail-validate",
    "fsmonitor-watchman",
    "p4-changelist",
    "p4-prepare-changelist",
    "p4-post-changelist",
    "p4-pre-submit",
    "post-index-change",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_pass() {
        assert_eq!(relative("src/a.py").unwrap(), "src/a.py");
        assert_eq!(relative("./src/./a b.py").unwrap(), "src/a b.py");
        assert_eq!(relative(".github/workflows/x.yml").unwrap(), ".github/workflows/x.yml");
        assert_eq!(relative("a..b").unwrap(), "a..b");
        assert_eq!(relative("src/hooks/useTheme.js").unwrap(), "src/hooks/useTheme.js");
    }

    #[test]
    fn hostile_paths_are_refused() {
        for path in [
            "",
            " ",
            ".",
            "./",
            "a/",
            "..",
            "../a",
            "a/../../b",
            "/etc/passwd",
            "~/.ssh/id",
            "a\0b",
            "a\nb",
            "C:/a",
            "c:a",
            r"\\host\a",
            r"a\b",
            ".git",
            ".git/config",
            ".GIT/hooks/x",
            "sub/.Git/config",
            ".git./config",
            ".git /config",
            "GIT~1/x",
            ".g\u{200c}it/config",
            ".coder/x",
            "hooks/pre-commit",
            ".coder-tmp-1",
        ] {
            assert!(matches!(relative(path), Err(Error::Path { .. })), "{path:?}");
        }
    }
}
