//! What may leave the machine: decided on the exact bytes of a request, before anything is connected.
//!
//! Owns the policy, the files that never leave, and the record of what does. A server on this machine (loopback) counts
//! as this machine: what goes to it does not leave, so nothing is asked or refused there. A proxy that sends on to others
//! is named in `egress.forwards`, and then it counts as what it is. A cluster in one's own network is another machine.

mod address;

use std::collections::BTreeSet;
use std::fmt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Config, Error, Finding, Outgoing, Result, RungName, Scanner};

pub use address::Address;

/// Whether something may be sent at all. The stricter comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Nothing is sent.
    #[default]
    Never,
    /// Each request is shown first, and sent if somebody agrees.
    Ask,
    /// What the rules let through is sent.
    Allow,
}

/// Rules, as `[egress]` has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Whether something may be sent at all.
    pub policy: Policy,
    /// Files that are never sent, besides [`DENIED`].
    pub deny: Vec<String>,
    /// Fingerprints of what looks like a secret and may be sent.
    pub allow_secrets: Vec<String>,
    /// Endpoints on this machine that send on to others, such as a proxy.
    pub forwards: Vec<String>,
}

/// Files that hold secrets wherever they are. A pattern without `/` fits names in every folder, and a folder's name all
/// that is in it.
pub const DENIED: [&str; 42] = [
    ".env*",
    "*.env",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.p8",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.ppk",
    "*.gpg",
    "*.age",
    ".npmrc",
    ".yarnrc*",
    ".pypirc",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".my.cnf",
    ".htpasswd",
    ".git-credentials",
    ".dockercfg",
    ".docker/config.json",
    ".cargo/credentials*",
    ".kube",
    "*.kubeconfig",
    "*.tfstate",
    "*.tfstate.*",
    "*.tfvars",
    ".vault-token",
    "secrets.yml",
    "secrets.yaml",
    "secrets.json",
    "secrets.toml",
    ".git",
    ".ssh",
    ".aws",
    ".gnupg",
    ".azure",
    ".config/gcloud",
    "service-account*.json",
];

/// Names of files with keys that sources have too: there, the end of the name decides.
const DENIED_BUT_SOURCES: [&str; 3] = ["id_*", "credentials*", "*credentials.json"];

/// Ends of names of sources.
const SOURCES: [&str; 24] = [
    "rs", "py", "js", "mjs", "cjs", "jsx", "ts", "tsx", "go", "java", "kt", "c", "h", "cc", "cpp", "hpp",
    "cs", "rb", "php", "swift", "scala", "md", "html", "css",
];

/// Decides what may leave.
#[derive(Debug)]
pub struct Egress {
    policy: Policy,
    denied: Denied,
    allowed: BTreeSet<String>,
    /// Addresses of endpoints that send on.
    forwards: Vec<String>,
    scanner: Scanner,
}

/// A file of which something is in a request.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Its path in the project.
    pub path: &'a str,
    /// Its text, or the part that is shown, to say where in it a secret is.
    pub text: &'a str,
}

/// What is to happen with a request.
#[derive(Debug)]
pub enum Decision {
    /// It may be sent.
    Cleared(Clearance),
    /// It may be sent if somebody agrees.
    AskFirst(Question),
    /// It may not be sent.
    Refused(Refusal),
}

/// What will leave. Only a decision makes one, and it is for the bytes that were looked at and no others.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Clearance {
    /// Who is asked.
    pub rung: RungName,
    /// The host that gets it.
    pub host: String,
    /// Whether it leaves the machine.
    pub leaves: bool,
    /// Files of which something is in it.
    pub files: Vec<String>,
    /// Its length.
    pub bytes: usize,
    /// The SHA-256 of its bytes.
    pub sha256: String,
    /// What looks like a secret and is let through, because the user's file lists it.
    pub listed: Vec<Finding>,
}

/// A request that waits for somebody to agree.
#[derive(Debug)]
#[must_use]
pub struct Question {
    clearance: Clearance,
}

/// Why a request is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing is sent: the policy is `never`.
    Policy {
        /// Where it would have gone.
        host: String,
        /// Whether only the task says so, and not the configuration.
        of_task: bool,
    },
    /// A file in it is never sent.
    File {
        /// Which.
        path: String,
        /// By which pattern.
        pattern: String,
    },
    /// Secrets are in it that are not listed.
    Secrets {
        /// All of them.
        findings: Vec<Finding>,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Policy { host, of_task: true } => {
                write!(f, "nothing is sent to `{host}`, because the task says `egress: never`")
            }
            Refusal::Policy { host, of_task: false } => write!(
                f,
                "nothing is sent to `{host}`, because the policy is `never`; `egress = \"ask\"` in your own coder.toml \
                 changes that"
            ),
            Refusal::File { path, pattern } => {
                write!(f, "`{path}` is never sent (`{pattern}`); take it out of the task's context")
            }
            Refusal::Secrets { findings } => {
                write!(f, "nothing was sent, because of what looks like secrets: ")?;
                for (at, Finding { kind, place, line, fingerprint }) in findings.iter().take(5).enumerate() {
                    let comma = if at > 0 { ", " } else { "" };
                    write!(f, "{comma}{kind} in `{place}` line {line} ({fingerprint})")?;
                }
                if let Some(more) = findings.len().checked_sub(5).filter(|more| *more > 0) {
                    write!(f, " and {more} more")?;
                }
                write!(f, "; remove them, or list in `egress.allow_secrets` what is none")
            }
        }
    }
}

impl Question {
    /// What would leave.
    pub fn clearance(&self) -> &Clearance {
        &self.clearance
    }

    /// Somebody has seen it and agrees.
    pub fn agreed(self) -> Clearance {
        self.clearance
    }
}

impl Clearance {
    /// Whether it is for this request.
    pub fn covers(&self, outgoing: &Outgoing) -> bool {
        self.sha256 == sha256(outgoing.body())
            && Address::of(outgoing.endpoint()).is_ok_and(|address| address.host == self.host)
    }
}

impl Egress {
    /// What a configuration says.
    pub fn of(config: &Config) -> Result<Egress> {
        let rules = &config.egress;
        let bad = |problem| Error::BadConfig { at: "egress.deny".to_owned(), problem };
        let forwards = rules.forwards.iter().filter_map(|name| config.endpoints.get(name));
        Ok(Egress {
            policy: rules.policy,
            denied: Denied::new(&rules.deny).map_err(bad)?,
            allowed: rules.allow_secrets.iter().map(|text| text.to_ascii_lowercase()).collect(),
            forwards: forwards.map(|endpoint| endpoint.url.clone()).collect(),
            scanner: Scanner::new(),
        })
    }

    /// What is to happen with a request to a rung, in which something of these files is, for a task with this policy. The
    /// stricter of the two policies counts.
    pub fn decide(
        &self,
        rung: &RungName,
        outgoing: &Outgoing,
        files: &[Shown<'_>],
        task: Policy,
    ) -> Decision {
        let body = outgoing.body();
        let address = Address::of(outgoing.endpoint());
        let host = address.as_ref().map_or("an unknown host".to_owned(), |address| address.host.clone());
        // What cannot be read is not this machine.
        let here = address.is_ok_and(|address| address.loopback);
        let leaves = !here || self.forwards.contains(&outgoing.endpoint().url);
        let mut clearance = Clearance {
            rung: rung.clone(),
            host: host.clone(),
            leaves,
            files: files.iter().map(|file| file.path.to_owned()).collect(),
            bytes: body.len(),
            sha256: sha256(body),
            listed: Vec::new(),
        };
        if !leaves {
            return Decision::Cleared(clearance);
        }
        let policy = self.policy.min(task);
        if policy == Policy::Never {
            let of_task = self.policy != Policy::Never;
            return Decision::Refused(Refusal::Policy { host, of_task });
        }
        for Shown { path, .. } in files {
            if let Some(pattern) = self.denied.pattern(path) {
                return Decision::Refused(Refusal::File {
                    path: (*path).to_owned(),
                    pattern: pattern.to_owned(),
                });
            }
        }
        let found = self.located(self.scanner.body(body), files);
        let (listed, findings): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|finding| self.allowed.contains(&finding.fingerprint));
        if !findings.is_empty() {
            return Decision::Refused(Refusal::Secrets { findings });
        }
        clearance.listed = listed;
        match policy {
            Policy::Allow => Decision::Cleared(clearance),
            _ => Decision::AskFirst(Question { clearance }),
        }
    }

    /// Whether a file may not be shown to anybody elsewhere, and the pattern that says so.
    pub fn denies(&self, path: &str) -> Option<&str> {
        self.denied.pattern(path)
    }

    /// The files and lines of what was found in a request, as far as it comes from files.
    fn located(&self, mut found: Vec<Finding>, files: &[Shown<'_>]) -> Vec<Finding> {
        if found.is_empty() {
            return found;
        }
        let in_files: Vec<Finding> =
            files.iter().flat_map(|file| self.scanner.text(file.path, file.text.as_bytes())).collect();
        for finding in &mut found {
            if let Some(at) = in_files.iter().find(|other| other.fingerprint == finding.fingerprint) {
                (finding.place, finding.line) = (at.place.clone(), at.line);
            }
        }
        found
    }
}

/// Patterns of files that are never sent.
#[derive(Debug)]
pub(crate) struct Denied {
    all: GlobSet,
    /// Those that hold only where the file is no source.
    but_sources: GlobSet,
    patterns: Vec<String>,
}

impl Denied {
    /// The patterns of everybody and these; the error is what is wrong with one.
    pub(crate) fn new(more: &[String]) -> Result<Denied, String> {
        let patterns: Vec<String> =
            DENIED.into_iter().map(str::to_owned).chain(more.iter().cloned()).collect();
        let but_sources = set(&DENIED_BUT_SOURCES.map(str::to_owned))?;
        Ok(Denied { all: set(&patterns)?, but_sources, patterns })
    }

    /// The pattern that denies a file.
    pub(crate) fn pattern(&self, path: &str) -> Option<&str> {
        let path = path.replace('\\', "/");
        let path = path.trim_start_matches("./").trim_start_matches('/');
        // Each pattern is twice in a set: for the file, and for what is in the folder.
        if let Some(at) = self.all.matches(path).first() {
            return self.patterns.get(at / 2).map(String::as_str);
        }
        let end = path.rsplit_once('.').map_or("", |(_, end)| end).to_ascii_lowercase();
        let at = *self.but_sources.matches(path).first()?;
        (!SOURCES.contains(&end.as_str())).then(|| DENIED_BUT_SOURCES[at / 2])
    }
}

fn set(patterns: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let pattern = pattern.trim_start_matches("./").trim_matches('/');
        let folder = pattern.trim_end_matches("/**");
        if pattern.trim().is_empty() {
            return Err("has an empty pattern".to_owned());
        }
        for glob in [format!("**/{pattern}"), format!("**/{folder}/**")] {
            let built = GlobBuilder::new(&glob).case_insensitive(true).literal_separator(true).build();
            set.add(built.map_err(|error| format!("has the pattern `{pattern}`: {}", error.kind()))?);
        }
    }
    set.build().map_err(|error| format!("has patterns that are too large together: {}", error.kind()))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
