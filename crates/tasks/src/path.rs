//! Which paths a task may name: the rules that need no file system.

mod guarded;

use crate::{Error, Result};
pub(crate) use guarded::{HOOK, TOOL};
pub use guarded::{SECRET_ENDINGS, SECRET_FOLDERS, SECRETS, guarded, is_secret};

/// Checks a path of a task or of a reply and gives it in its plain form, without "." components.
///
/// Allowed are relative paths of ordinary components, separated by "/". Refused are absolute paths,
/// "..", NUL and other control characters, and what means something else on another system: backslashes,
/// Windows prefixes and device names, components that end with a dot or a blank. Refused as well, in any
/// letter case, are the folders of version control and our own, `.git`, `.hg`, `.svn` and `.coder`: no
/// task changes those. What is [`guarded`] may be named.
pub fn relative(path: &str) -> Result<String> {
    let shown = || path.chars().take(200).collect::<String>().escape_debug().to_string();
    let fail = |problem| Err(Error::Path { path: shown(), problem });
    if path.trim().is_empty() {
        return fail("it is empty; name a file");
    }
    if path.contains('\0') {
        return fail("it holds a NUL byte; use a plain file name");
    }
    if path.chars().any(char::is_control) {
        return fail("it holds a control character; use a plain file name");
    }
    if path.len() > MAX_BYTES {
        return fail("it has more than 4095 bytes; use a shorter path");
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
            part if is_protected(part) => {
                return fail("it lies in a protected place (.git, .hg, .svn, .coder); name another file");
            }
            part if part.ends_with(['.', ' ']) => {
                return fail("a component ends with a dot or a blank, which some systems drop; rename it");
            }
            part if is_device(part) => {
                return fail("a component is the name of a device on Windows; rename it");
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

/// Longer paths cannot be given to a system call.
const MAX_BYTES: usize = 4095;

/// Names that are never a task's. Trailing dots and spaces, which some file systems ignore, and the
/// short name that some give to `.git` are no way around.
fn is_protected(part: &str) -> bool {
    let name = part.trim_end_matches(['.', ' ']).to_ascii_lowercase();
    // HFS+ ignores these characters, so git itself refuses such names.
    let ignored = |c: &char| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let name: String = name.chars().filter(ignored).collect();
    // NTFS gives every file a stream of its own name's making: `.git::$INDEX_ALLOCATION` is `.git`.
    let name = name.split(':').next().unwrap_or("").trim_end_matches(['.', ' ']);
    matches!(name, ".git" | "git~1" | ".hg" | ".svn" | ".coder")
        || name.starts_with(crate::workspace::TEMPORARY)
}

/// The names that Windows gives to devices, with any ending.
fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or("").trim_end().to_ascii_lowercase();
    let numbered = |name: &str| {
        stem.strip_prefix(name)
            .is_some_and(|rest| rest.len() == 1 && matches!(rest.as_bytes()[0], b'1'..=b'9'))
    };
    matches!(stem.as_str(), "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt")
}

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
        assert_eq!(relative("auxiliary/com10.rs").unwrap(), "auxiliary/com10.rs");
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
            "sub/.git::$INDEX_ALLOCATION/config",
            ".coder-tmp-1",
            "a./b",
            "a/b. ",
            "src/CON",
            "nul.py",
            "a/Lpt1.tar.gz",
        ] {
            assert!(matches!(relative(path), Err(Error::Path { .. })), "{path:?}");
        }
    }

    #[test]
    fn long_paths_are_refused_and_not_repeated_in_full() {
        for path in ["x".repeat(256), "a/".repeat(3000) + "b", "\u{7f}".repeat(1 << 20)] {
            let error = relative(&path).unwrap_err().to_string();
            assert!(error.len() < 2000, "{} bytes", error.len());
        }
        assert!(relative(&"x".repeat(255)).is_ok());
    }
}
