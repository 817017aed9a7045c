//! From a hub into the cache: what a repository has, and its files, whole and verified.
//!
//! The paths and headers are those of huggingface.co (`/api/models/…`, `/OWNER/REPO/resolve/…`). The crate `hf-hub` knows the
//! layout of the cache; its own downloads are not used: release 0.5 keeps no partial file across processes and compares no
//! fingerprint, and 1.0 begins every plain download anew, does not verify it either, and brings 90 crates with a second
//! cryptography library. So what is here is the part that must be right: resuming, SHA-256, room on the disk, and that the
//! token goes to the hub alone.
//!
//! - Redirects are followed here, one by one: the token is sent to the hub's own origin and never on to where it leads, and
//!   never from `https` to `http`.
//! - A file gets its name when all of its bytes are on the disk and have the fingerprint that was promised.
//! - Nothing is retried without end: attempts without a new byte are counted.

mod ask;
mod fetch;
mod listing;
mod pins;
mod place;

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use rustls_platform_verifier::BuilderVerifierExt;

pub use self::fetch::{Event, Fetched, Source};
pub use self::listing::{Listing, Remote};
pub use self::pins::Pins;
use crate::{Cache, Error, FileSet, RepoId, Result};

/// Where models are, unless HF_ENDPOINT says otherwise.
const ENDPOINT: &str = "https://huggingface.co";

/// How often the cancel flag is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// How patient to be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Attempts after the first without a new byte.
    pub retries: u32,
    /// The wait before the second attempt; it doubles.
    pub first_wait: Duration,
    /// The longest wait; a hub that asks for more is not asked again.
    pub longest_wait: Duration,
    /// How long a connection may take to come about.
    pub connect: Duration,
    /// The longest time without a byte.
    pub idle: Duration,
}

impl Default for Options {
    /// 5 retries after 1, 2, 4, 8 and 16 s, at most 60 s; 15 s to connect, 60 s without a byte.
    fn default() -> Self {
        Self {
            retries: 5,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(60),
        }
    }
}

/// A hub. Making one opens no connection.
pub struct Hub {
    endpoint: Url,
    host: String,
    token: Option<HeaderValue>,
    token_file: PathBuf,
    http: reqwest::Client,
    options: Options,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("host", &self.host)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// The hub that HF_ENDPOINT names, else huggingface.co, with the token of HF_TOKEN, or of the file that HF_TOKEN_PATH
    /// names, else `token` in HF_HOME. The token is for `https` and for this machine.
    ///
    /// # Errors
    /// [`Error::BadEndpoint`], [`Error::Unreachable`] if the machine's certificates cannot be read, [`Error::NoHome`].
    pub fn new(env: impl Fn(&str) -> Option<OsString>, options: Options) -> Result<Self> {
        let var = |name: &str| env(name).filter(|value| !value.is_empty());
        let text =
            var("HF_ENDPOINT").map_or(ENDPOINT.to_owned(), |value| value.to_string_lossy().into_owned());
        let bad = |problem| Error::BadEndpoint { endpoint: crate::name::shown(&text), problem };
        let endpoint = Url::parse(&text).map_err(|_| bad("is no address; write https://HOST"))?;
        if !matches!(endpoint.scheme(), "https" | "http") || endpoint.cannot_be_a_base() {
            return Err(bad("must begin with https://, or http:// within your own network"));
        }
        if !endpoint.username().is_empty() || endpoint.password().is_some() {
            return Err(bad("must not hold a name or a password; a token is taken from HF_TOKEN"));
        }
        let host = endpoint.host_str().ok_or_else(|| bad("names no host"))?.to_owned();
        let home = var("HF_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(var("XDG_CACHE_HOME")?).join("huggingface")))
            .or_else(|| Some(PathBuf::from(var("HOME")?).join(".cache/huggingface")))
            .ok_or(Error::NoHome)?;
        let named = var("HF_TOKEN_PATH").map(PathBuf::from);
        let token = match var("HF_TOKEN") {
            Some(token) => Some(token.to_string_lossy().trim().to_owned()),
            None => match &named {
                Some(path) => std::fs::read_to_string(path).ok().map(|token| token.trim().to_owned()),
                None => hf_hub::Cache::new(home.join("hub")).token(),
            },
        };
        let safe = endpoint.scheme() == "https" || is_here(&host);
        let token = token.filter(|token| safe && !token.is_empty()).map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| bad("cannot have this token: it has control characters"))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        let http = client(&endpoint, &host, options)?;
        let token_file = named.unwrap_or_else(|| home.join("token"));
        Ok(Self { endpoint, host, token: token.transpose()?, token_file, http, options })
    }

    /// Its name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Asks what a repository has at a branch, tag or commit. Setting `cancel` ends it.
    ///
    /// # Errors
    /// All that have to do with hubs.
    pub fn repository(&self, repo: &RepoId, revision: &str, cancel: &AtomicBool) -> Result<Listing> {
        self.run(cancel, Error::Cancelled { done: 0, total: 0 }, self.list(repo, revision))
    }

    /// Fetches what is not in the cache of a model's files, and verifies it. `on` is told how far it is. It blocks its
    /// thread, which must not be one of an async runtime.
    ///
    /// # Errors
    /// All; what was fetched so far is kept, unless it is wrong.
    pub fn fetch(
        &self,
        cache: &Cache,
        listing: &Listing,
        set: &FileSet<Remote>,
        cancel: &AtomicBool,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Vec<Fetched>> {
        fetch::all(self, cache, listing, set, cancel, on)
    }

    /// Bytes that [`fetch`](Self::fetch) would still have to get, and what is free where they would go.
    pub fn missing(&self, cache: &Cache, listing: &Listing, set: &FileSet<Remote>) -> (u64, Option<u64>) {
        fetch::missing(cache, listing, set)
    }

    /// Waits for something on this thread.
    fn run<T>(
        &self,
        cancel: &AtomicBool,
        stopped: Error,
        what: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime
            .map_err(|error| Error::Unreachable { host: self.host.clone(), problem: error.to_string() })?;
        let outcome = runtime.block_on(async {
            tokio::select! {
                biased;
                () = cancelled(cancel) => Err(stopped),
                outcome = what => outcome,
            }
        });
        // A name that is still being resolved is not waited for.
        runtime.shutdown_background();
        outcome
    }
}

/// Ends when somebody sets the flag.
async fn cancelled(flag: &AtomicBool) {
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether a host is this machine.
fn is_here(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Follows no redirect and retries nothing by itself. A proxy of the environment is used for `https`, through which it can
/// only pass the bytes on.
fn client(endpoint: &Url, host: &str, options: Options) -> Result<reqwest::Client> {
    let failed = |problem: String| Error::Unreachable { host: host.to_owned(), problem };
    let secure = endpoint.scheme() == "https";
    let tls = tls(secure).map_err(|error| failed(error.to_string()))?;
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(secure)
        .http1_only()
        .user_agent(concat!("coder/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        // Each call has a runtime of its own, with which its connections end.
        .pool_max_idle_per_host(0)
        .connect_timeout(options.connect);
    let builder = if secure { builder } else { builder.no_proxy() };
    builder.build().map_err(|error| failed(ask::root(&error)))
}

/// The machine's own trusted certificates; none where no TLS is spoken.
fn tls(secure: bool) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    if secure {
        Ok(builder.with_platform_verifier()?.with_no_client_auth())
    } else {
        Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(vars: &[(&str, &str)]) -> Result<Hub> {
        let patient = Options { retries: 2, first_wait: Duration::from_millis(1), ..Options::default() };
        Hub::new(|name| vars.iter().find(|var| var.0 == name).map(|var| var.1.into()), patient)
    }

    #[test]
    fn an_endpoint_is_an_address_without_secrets() {
        for endpoint in
            ["ftp://h", "huggingface.co", "https://", "https://user:word@h", "data:x", "file:///x"]
        {
            assert!(
                matches!(hub(&[("HOME", "/h"), ("HF_ENDPOINT", endpoint)]), Err(Error::BadEndpoint { .. })),
                "{endpoint}"
            );
        }
        assert_eq!(hub(&[("HOME", "/h")]).unwrap().host(), "huggingface.co");
        assert_eq!(
            hub(&[("HOME", "/h"), ("HF_ENDPOINT", "https://mirror/hf/")]).unwrap().url(&["a"]).as_str(),
            "https://mirror/hf/a"
        );
        assert!(matches!(hub(&[]), Err(Error::NoHome)));
    }

    #[test]
    fn the_token_is_for_https_and_for_this_machine() {
        let has = |endpoint: &str| {
            let token = hub(&[("HOME", "/h"), ("HF_TOKEN", " t "), ("HF_ENDPOINT", endpoint)]).unwrap().token;
            token.map(|token| (token.to_str().unwrap().to_owned(), token.is_sensitive()))
        };
        let sent = Some(("Bearer t".to_owned(), true));
        assert_eq!(has("https://h"), sent);
        assert_eq!(has("http://127.0.0.1:1"), sent);
        assert_eq!(has("http://[::1]:1"), sent);
        assert_eq!(has("http://mirror.lan"), None);
        assert!(hub(&[("HOME", "/h"), ("HF_TOKEN", "a\nb")]).is_err());
        let hub = hub(&[("HOME", "/h"), ("HF_TOKEN", "t")]).unwrap();
        assert!(hub.is_own(&hub.url(&["x"])) && !format!("{hub:?}").contains("Bearer"));
        for other in
            ["http://huggingface.co/x", "https://huggingface.co:8443/x", "https://cdn.huggingface.co/x"]
        {
            assert!(!hub.is_own(&Url::parse(other).unwrap()), "{other}");
        }
    }

    #[test]
    fn a_hub_that_is_not_there_is_told_after_a_few_attempts() {
        let hub = hub(&[("HOME", "/h"), ("HF_ENDPOINT", "http://127.0.0.1:1")]).unwrap();
        let error =
            hub.repository(&RepoId::new("a/b").unwrap(), "main", &AtomicBool::new(false)).unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        let stopped = hub.repository(&RepoId::new("a/b").unwrap(), "main", &AtomicBool::new(true));
        assert!(matches!(stopped, Err(Error::Cancelled { .. })));
    }
}
