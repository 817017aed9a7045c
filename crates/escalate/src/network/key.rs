//! The key of an endpoint: read when it is needed, never shown.

use std::fmt;
use std::io::Read;
use std::path::Path;

use crate::{Endpoint, Fault};

/// The longest key file.
const LONGEST: u64 = 16 << 10;

/// The shortest text that is taken for a secret.
const SHORTEST: usize = 6;

/// A key, or that there is none to send.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Key {
    text: String,
    /// Where it came from, such as "the variable `X`".
    pub(super) from: String,
}

impl Key {
    /// The endpoint's key. The variable comes before the file; without either, none is sent.
    pub(super) fn of(endpoint: &Endpoint, env: fn(&str) -> Option<String>) -> Result<Key, Fault> {
        if let Some(name) = &endpoint.key_env {
            let from = format!("the variable `{name}`");
            match (env(name).filter(|text| !text.trim().is_empty()), &endpoint.key_file) {
                (Some(text), _) => return Key::checked(&text, from),
                (None, None) => return Err(none(from, "it is not set; set it, or name a `key_file`")),
                (None, Some(_)) => {}
            }
        }
        match &endpoint.key_file {
            Some(path) => {
                let from = format!("the file `{}`", path.display());
                Key::checked(&read(path, &from)?, from)
            }
            None => Ok(Key { text: String::new(), from: "no key (none is configured)".to_owned() }),
        }
    }

    fn checked(text: &str, from: String) -> Result<Key, Fault> {
        let text = text.trim();
        if text.is_empty() {
            return Err(none(from, "it is empty; write the key into it"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(none(from, "a key is one word of printable ASCII characters; correct it"));
        }
        Ok(Key { text: text.to_owned(), from })
    }

    /// The key for a header; None if there is none.
    pub(super) fn secret(&self) -> Option<&str> {
        (!self.text.is_empty()).then_some(&self.text)
    }

    /// A server's words without the key, which some servers quote. What is shorter than any key, such as the "x" that
    /// stands for none at a server of one's own, stays: it is part of many words.
    pub(super) fn hide(&self, words: String) -> String {
        match self.secret() {
            Some(secret) if secret.len() >= SHORTEST && words.contains(secret) => {
                words.replace(secret, "[key]")
            }
            _ => words,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("from", &self.from).finish_non_exhaustive()
    }
}

fn none(from: String, problem: impl Into<String>) -> Fault {
    Fault::NoKey { from, problem: problem.into() }
}

fn read(path: &Path, from: &str) -> Result<String, Fault> {
    let fail = |problem: String| none(from.to_owned(), problem);
    let io = |error: std::io::Error| fail(format!("{error}; correct `key_file`"));
    // Looked at before it is opened, because opening a pipe waits; and after, because it may have been replaced.
    let before = std::fs::metadata(path).map_err(io)?;
    if !before.is_file() {
        return Err(fail("it is not a file; correct `key_file`".to_owned()));
    }
    let file = std::fs::File::open(path).map_err(io)?;
    let about = file.metadata().map_err(io)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = about.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let problem = format!("others may read it (mode {mode:04o}); run `chmod 600 {}`", path.display());
            return Err(fail(problem));
        }
    }
    if about.len() > LONGEST {
        return Err(fail(format!("it has `{}` bytes, which is no key; correct `key_file`", about.len())));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;

    fn env(name: &str) -> Option<String> {
        match name {
            "SET" => Some(" sk-sesame\n".to_owned()),
            "TWO_LINES" => Some("sk\r\nx-evil: 1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn endpoint(key_env: Option<&str>, key_file: Option<&Path>) -> Endpoint {
        let mut endpoint = Endpoint::new(Dialect::Anthropic, "https://h");
        endpoint.key_env = key_env.map(str::to_owned);
        endpoint.key_file = key_file.map(Path::to_owned);
        endpoint
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = Key::of(&endpoint(Some("SET"), None), env).unwrap();
        assert_eq!(key.secret(), Some("sk-sesame"));
        assert!(!format!("{key:?}").contains("sesame"));
        assert_eq!(key.hide("got sk-sesame, want another".to_owned()), "got [key], want another");
    }

    #[test]
    fn what_is_missing_is_named() {
        for (name, word) in [("UNSET", "not set"), ("EMPTY", "not set"), ("TWO_LINES", "one word")] {
            let error = Key::of(&endpoint(Some(name), None), env).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(word), "{error}");
            assert!(!error.contains("evil"), "{error}");
        }
        assert_eq!(Key::of(&endpoint(None, None), env).unwrap().secret(), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_is_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "sk-sesame\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o640);
        let error = Key::of(&endpoint(None, Some(&path)), env).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && !error.contains("sesame"), "{error}");
        mode(0o600);
        assert_eq!(Key::of(&endpoint(None, Some(&path)), env).unwrap().secret(), Some("sk-sesame"));
        // A variable that is not set falls back to the file.
        assert!(Key::of(&endpoint(Some("UNSET"), Some(&path)), env).is_ok());
        let gone = folder.path().join("gone");
        let error = Key::of(&endpoint(None, Some(&gone)), env).unwrap_err().to_string();
        assert!(error.contains("gone"), "{error}");
        assert!(Key::of(&endpoint(None, Some(folder.path())), env).is_err());
    }
}
