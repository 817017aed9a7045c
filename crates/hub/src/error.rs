use std::path::PathBuf;

/// What can go wrong between a name and a model on the disk, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the form of a name.
    #[error("`{name}` is no name of a model: {problem}")]
    BadName {
        /// What was written.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No model of this name in the catalog.
    #[error(
        "no model `{name}` in the catalog{}; `coder models --all` lists it, and OWNER/REPO[:QUANT] names any \
         repository with GGUF files",
        meant(near)
    )]
    Unknown {
        /// What was written.
        name: String,
        /// Names that are like it.
        near: Vec<String>,
    },
    /// The name stands for several models.
    #[error("`{name}` may be {}; write one of them", list(choices))]
    Ambiguous {
        /// What was written.
        name: String,
        /// All that it may be.
        choices: Vec<String>,
    },
    /// The repository has no such quantization.
    #[error("`{repo}` has no `{quant}`; it has {}", list(there))]
    NoQuantization {
        /// The repository.
        repo: String,
        /// What was asked for.
        quant: String,
        /// What there is.
        there: Vec<String>,
    },
    /// The repository has no GGUF file.
    #[error("`{repo}` has no GGUF files; look for a repository whose name ends in `-GGUF`")]
    NoModel {
        /// The repository.
        repo: String,
    },
    /// Parts of a split model are missing in the repository.
    #[error(
        "`{file}` has `{there}` of `{of}` parts in `{repo}`; nothing was fetched, choose another quantization"
    )]
    PartsMissing {
        /// The repository.
        repo: String,
        /// The name of the set.
        file: String,
        /// Parts that are there.
        there: usize,
        /// Parts that there must be.
        of: usize,
    },
    /// The hub does not know it.
    #[error("{host} has no `{what}` (404); check the name")]
    NotFound {
        /// The hub.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// The hub does not say whether it knows it: the token is missing or wrong.
    #[error(
        "{host} refuses `{what}` (401): {}; a token of {host} is taken from HF_TOKEN or `{}`",
        if *token { "the token is not valid, or it does not exist" } else { "it does not exist, or it is not public" },
        token_file.display()
    )]
    Unauthorized {
        /// The hub.
        host: String,
        /// What was asked for.
        what: String,
        /// Whether a token was sent.
        token: bool,
        /// Where one is read from.
        token_file: PathBuf,
    },
    /// The hub knows who asks and does not want to give it.
    #[error(
        "{host} refuses `{what}` (403): accept its terms at {page}, and use a token that may read it (HF_TOKEN)"
    )]
    Forbidden {
        /// The hub.
        host: String,
        /// What was asked for.
        what: String,
        /// Where terms are accepted.
        page: String,
    },
    /// Too many requests, also after waiting.
    #[error(
        "{host} asks to come later (429){}; a token (HF_TOKEN) has a higher limit, and the same command goes on where \
         it stopped", after_s.map_or(String::new(), |s| format!(", in {s} s"))
    )]
    RateLimited {
        /// The hub.
        host: String,
        /// Seconds, if it said.
        after_s: Option<u64>,
    },
    /// The hub fails, also after waiting.
    #[error("{host} fails (status {status}); try again later, the same command goes on where it stopped")]
    Server {
        /// The hub, or where it sent us.
        host: String,
        /// The status of HTTP.
        status: u16,
    },
    /// No connection.
    #[error("{host} cannot be reached: {problem}; check the connection, or HF_ENDPOINT")]
    Unreachable {
        /// The hub, or where it sent us.
        host: String,
        /// Why.
        problem: String,
    },
    /// The connection broke off too often.
    #[error(
        "`{file}` broke off at `{done}` of `{total}` bytes: {problem}; they are kept, the same command goes on there"
    )]
    CutOff {
        /// Which file.
        file: String,
        /// Bytes on the disk.
        done: u64,
        /// Bytes of the file.
        total: u64,
        /// Why.
        problem: String,
    },
    /// The hub's answer makes no sense, or would do harm.
    #[error("{host} answers nonsense: {problem}; is HF_ENDPOINT a hub, and is nothing between it and you?")]
    Malformed {
        /// The hub, or where it sent us.
        host: String,
        /// What is wrong.
        problem: String,
    },
    /// The address of the hub is none.
    #[error("HF_ENDPOINT is `{endpoint}`: {problem}")]
    BadEndpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The hub's file is not the one that is known.
    #[error(
        "`{file}` on the hub is another one than {known_from}: it has SHA-256 `{found}`, known is `{known}`; nothing was \
         fetched, `--update` takes the new one"
    )]
    Changed {
        /// Which file.
        file: String,
        /// Who knows it: "the catalog knows" or "was fetched before".
        known_from: &'static str,
        /// The fingerprint that is known.
        known: String,
        /// The one that the hub tells.
        found: String,
    },
    /// What came is not what was promised.
    #[error(
        "`{file}` is damaged or forged: its SHA-256 is `{found}`, it must be `{wanted}`; it was removed, fetch it again, \
         and do not trust this source if it stays so"
    )]
    WrongHash {
        /// Which file.
        file: String,
        /// The fingerprint of the bytes that came.
        found: String,
        /// The one that was promised.
        wanted: String,
    },
    /// The disk has no room: nothing was written.
    #[error(
        "`{}` needs `{needed}` bytes, the disk has `{free}` free; make room (`coder rm`), or set HF_HOME to another disk",
        path.display()
    )]
    NoRoom {
        /// The cache.
        path: PathBuf,
        /// Bytes that are still to come.
        needed: u64,
        /// What is free.
        free: u64,
    },
    /// The disk became full.
    #[error(
        "the disk is full at `{done}` of `{total}` bytes of `{}`; they are kept: make room, and the same command goes on there",
        path.display()
    )]
    DiskFull {
        /// The partial file.
        path: PathBuf,
        /// Bytes on the disk.
        done: u64,
        /// Bytes of the file.
        total: u64,
    },
    /// The user asked for the end.
    #[error("stopped at `{done}` of `{total}` bytes; they are kept, the same command goes on there")]
    Cancelled {
        /// Bytes on the disk.
        done: u64,
        /// Bytes of the file.
        total: u64,
    },
    /// Somebody else is fetching the model.
    #[error("`{name}` is being fetched by another program; stop that first")]
    InUse {
        /// The model.
        name: String,
    },
    /// No place for the cache.
    #[error("no home folder; set HF_HOME to the folder for models")]
    NoHome,
    /// A file could not be read or written.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn meant(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!(", did you mean {}?", list(near)) }
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
