//! The variables that a command sees: those that tools need, and no others.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The variables of this process that a command may see: those of the list here, and those that are named.
pub(super) fn allowed(named: &[String]) -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| is_allowed(name, named)).collect()
}

fn is_allowed(name: &OsStr, named: &[String]) -> bool {
    // What is no text is no variable that a tool looks for.
    let Some(name) = name.to_str() else { return false };
    if named.iter().any(|allowed| allowed == name) {
        return true;
    }
    let known = NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    known && !is_secret(name)
}

/// Variables that lead tools to a private folder, where otherwise they would write what they keep between
/// runs; and that tell them that there is no network.
pub(super) fn private(temporary: &Path) -> Vec<(&'static str, OsString)> {
    let within = |name: &str| temporary.join(name).into_os_string();
    let mut made: Vec<_> = ["TMPDIR", "TMP", "TEMP"].map(|name| (name, temporary.into())).into();
    made.extend([
        ("XDG_CACHE_HOME", within("cache")),
        ("GOCACHE", within("go-build")),
        ("npm_config_cache", within("npm")),
        ("CARGO_NET_OFFLINE", "true".into()),
        ("GOPROXY", "off".into()),
    ]);
    made
}

/// Whether a variable's name says that its value is nobody's business.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTH"]
        .iter()
        .any(|word| name.contains(word))
}

/// What tools look for, and what says who and where they are. `CARGO_TARGET_DIR` is not among them: it
/// lies outside the work tree, and what a command builds there would be run by others.
const NAMES: [&str; 44] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "COLUMNS",
    "LINES",
    "NO_COLOR",
    "CI",
    "CARGO_HOME",
    "CARGO_BUILD_JOBS",
    "CARGO_INCREMENTAL",
    "CARGO_TERM_COLOR",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "RUSTFLAGS",
    "RUST_BACKTRACE",
    "RUST_TEST_THREADS",
    "CC",
    "CXX",
    "CFLAGS",
    "CXXFLAGS",
    "LDFLAGS",
    "MAKEFLAGS",
    "LD_LIBRARY_PATH",
    "LIBRARY_PATH",
    "CPATH",
    "PKG_CONFIG_PATH",
    "PYTHONPATH",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHASHSEED",
    "VIRTUAL_ENV",
    "PYENV_ROOT",
    "PYENV_VERSION",
    "NODE_PATH",
    "NVM_DIR",
    "JAVA_HOME",
    "GOROOT",
    "GOPATH",
    "GOMODCACHE",
];

const PREFIXES: [&str; 3] = ["LC_", "CUDA_", "NIX_"];

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers S1-34.
    #[test]
    fn only_what_tools_need_is_passed() {
        for name in ["PATH", "HOME", "LC_ALL", "CARGO_HOME", "VIRTUAL_ENV"] {
            assert!(is_allowed(name.as_ref(), &[]), "{name}");
        }
        for name in ["OPENAI_API_KEY", "SSH_AUTH_SOCK", "DATABASE_URL", "CUDA_API_TOKEN", "CARGO_TARGET_DIR"]
        {
            assert!(!is_allowed(name.as_ref(), &[]), "{name}");
        }
        assert!(is_allowed("DATABASE_URL".as_ref(), &["DATABASE_URL".to_owned()]));
        assert!(!is_allowed("DATABASE_URL_TOO".as_ref(), &["DATABASE_URL".to_owned()]));
    }
}
