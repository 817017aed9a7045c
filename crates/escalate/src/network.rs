//! The way to a server and back: one blocking call for a question, with retries, deadlines and a rest for sick
//! endpoints. What is sent was made before, in [`Outgoing`]; what it may cost is the caller's.
//!
//! - There is one retry loop, this one. An attempt that broke off may have cost something: the caller is asked before
//!   the next.
//! - Nothing polls: the thread sleeps until a byte, a deadline, or the next look at the cancel flag.

mod address;
mod anthropic;
mod exchange;
mod heard;
#[cfg(test)]
mod hostile;
mod key;
mod openai;
mod retry;
mod said;
mod sse;

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls_platform_verifier::BuilderVerifierExt;

use self::address::Target;
pub use self::exchange::Passed;
use self::exchange::{Exchange, Lapse, Listener};
use self::key::Key;
use crate::{Admission, Answer, Attempt, Cooldowns, Endpoint, Failure, Fault, Outgoing, Rest, Spent};

/// How often the cancel flag is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// What is the same for all endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Attempts after the first, for faults that may pass.
    pub retries: u32,
    /// The longest wait before another attempt; a server that asks for more is asked again earlier. The endpoint's
    /// deadline limits it too.
    pub longest_wait: Duration,
    /// How long a connection may take to come about.
    pub connect: Duration,
    /// The most bytes of an answer.
    pub longest_answer: u64,
    /// When a sick endpoint is left alone.
    pub rest: Rest,
    /// Where keys are looked up by name.
    pub env: fn(&str) -> Option<String>,
}

impl Default for Options {
    /// 2 retries, 10 s to connect, 64 MiB, the process's environment.
    fn default() -> Options {
        Options {
            retries: 2,
            longest_wait: Duration::MAX,
            connect: Duration::from_secs(10),
            longest_answer: 64 << 20,
            rest: Rest::default(),
            env: |name| std::env::var(name).ok(),
        }
    }
}

/// Asks servers. Tasks on several threads share one, and with it what is known about sick endpoints.
///
/// A request goes to its endpoint's host and nowhere else: redirects are refused, and proxies from the environment
/// (`HTTPS_PROXY` and the like) are not used, since what leaves, and to whom, is for the configuration alone to say.
/// `https` is verified with the machine's own trusted certificates; `http`, and addresses that are not public, are for
/// loopback and for endpoints that are `private`.
pub struct Client {
    options: Options,
    cooldowns: Cooldowns,
    tls: OnceLock<rustls::ClientConfig>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Client {
    /// A client; no connection is opened, no key is read.
    pub fn new(options: Options) -> Client {
        Client { options, cooldowns: Cooldowns::new(options.rest), tls: OnceLock::new() }
    }

    /// Sends `outgoing` and waits for the answer, at most for the endpoint's deadline. Setting `cancel` ends it within
    /// a tenth of a second. It blocks its thread, which must not be one of an async runtime.
    ///
    /// `again` is asked before another attempt when those before it cost something, or may have; it gets the sum. A
    /// budget that has no room for as much as [`Outgoing::most`] more says no.
    pub fn ask(
        &self,
        outgoing: &Outgoing,
        cancel: &AtomicBool,
        again: &mut dyn FnMut(Spent) -> bool,
    ) -> Result<Answer, Failure> {
        self.heard(outgoing, cancel, again, None)
    }

    /// The same for a request that is passed on, of which `hear` is told the parts of the answer as they come. Once it was
    /// told one, there is no further attempt. The answer that is given back has no text.
    pub fn forward(
        &self,
        outgoing: &Outgoing,
        cancel: &AtomicBool,
        again: &mut dyn FnMut(Spent) -> bool,
        hear: &(dyn Fn(Passed<'_>) + Sync),
    ) -> Result<Answer, Failure> {
        self.heard(outgoing, cancel, again, Some(&Listener { hear, heard: AtomicBool::new(false) }))
    }

    /// Whether the key of an endpoint is there, or none is needed: nobody need agree to what cannot be sent.
    pub fn has_key(&self, endpoint: &Endpoint) -> Result<(), Fault> {
        Key::of(endpoint, self.options.env).map(drop)
    }

    fn heard(
        &self,
        outgoing: &Outgoing,
        cancel: &AtomicBool,
        again: &mut dyn FnMut(Spent) -> bool,
        listener: Option<&Listener<'_>>,
    ) -> Result<Answer, Failure> {
        let began = Instant::now();
        let mut attempts = Vec::new();
        let answer = self.admitted((outgoing, listener), &mut attempts, began, cancel, again);
        let seconds = began.elapsed().as_secs_f64();
        match answer {
            Ok(answer) => {
                let count = u32::try_from(attempts.len()).unwrap_or(u32::MAX).saturating_add(1);
                Ok(Answer { attempts: count, failed: attempts, seconds, ..answer })
            }
            Err(fault) => Err(Failure { fault, attempts, seconds }),
        }
    }

    /// Asks unless the endpoint is to be left alone, and notes how it is.
    fn admitted(
        &self,
        (outgoing, listener): (&Outgoing, Option<&Listener<'_>>),
        attempts: &mut Vec<Attempt>,
        began: Instant,
        cancel: &AtomicBool,
        again: &mut dyn FnMut(Spent) -> bool,
    ) -> Result<Answer, Fault> {
        let target = Target::of(outgoing.endpoint(), outgoing.url())?;
        let key = Key::of(outgoing.endpoint(), self.options.env)?;
        let http = self.http(&target)?;
        // One model of a host may be overloaded while another is not.
        let name = format!("{} {}", outgoing.url(), outgoing.model());
        if let Admission::Closed(left) = self.cooldowns.admit(&name, Instant::now()) {
            let (host, failures) = (target.host, self.cooldowns.failures(&name));
            return Err(Fault::CoolingDown { host, failures, seconds: left.as_secs().max(1) });
        }
        let limits = exchange::Limits {
            idle: Duration::from_secs(outgoing.endpoint().idle_s),
            longest_answer: self.options.longest_answer,
        };
        let exchange = Exchange { http: &http, outgoing, target: &target, key: &key, limits, listener };
        let answer = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let answer = runtime.block_on(self.attempts(&exchange, attempts, began, cancel, again));
                // A name that is still being resolved is not waited for.
                runtime.shutdown_background();
                answer
            }
            Err(error) => Err(Fault::Unreachable { host: target.host.clone(), problem: error.to_string() }),
        };
        match answer.as_ref().map_or_else(Fault::is_illness, |_| Some(false)) {
            Some(true) => self.cooldowns.failed(&name, Instant::now()),
            Some(false) => self.cooldowns.succeeded(&name),
            None => self.cooldowns.dropped(&name),
        }
        answer
    }

    /// The retry loop.
    async fn attempts(
        &self,
        exchange: &Exchange<'_>,
        attempts: &mut Vec<Attempt>,
        began: Instant,
        cancel: &AtomicBool,
        again: &mut dyn FnMut(Spent) -> bool,
    ) -> Result<Answer, Fault> {
        let outgoing = exchange.outgoing;
        let deadline_s = outgoing.endpoint().deadline_s;
        let deadline = Duration::from_secs(deadline_s);
        loop {
            let sent = Instant::now();
            let left = deadline.saturating_sub(began.elapsed());
            if cancel.load(Ordering::Relaxed) {
                return Err(Fault::Cancelled);
            }
            if left.is_zero() {
                return Err(exchange.too_late());
            }
            let Lapse { fault, hints, spent } = match exchange.run(left, cancelled(cancel)).await {
                Ok(answer) => return Ok(answer),
                Err(lapse) => lapse,
            };
            let fault = exchange.shown(fault);
            attempts.push(Attempt { fault: fault.clone(), spent, seconds: sent.elapsed().as_secs_f64() });
            let limits = retry::Limits {
                retries: self.options.retries,
                longest_wait: self.options.longest_wait,
                left: deadline.saturating_sub(began.elapsed()),
            };
            let failed = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
            if was_heard(exchange) {
                return Err(fault);
            }
            let Some(wait) = retry::wait(&fault, hints, failed, limits, outgoing.id()) else {
                return Err(fault);
            };
            let sum = attempts.iter().fold(Spent::NOTHING, |sum, attempt| sum.plus(attempt.spent));
            if sum != Spent::NOTHING && !again(sum) {
                return Err(fault);
            }
            tokio::select! {
                biased;
                cancelled = cancelled(cancel) => return Err(cancelled),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// A client for one question: its connection is not kept, since answers take longer than handshakes.
    fn http(&self, target: &Target) -> Result<reqwest::Client, Fault> {
        let failed = |problem: String| Fault::Unreachable { host: target.host.clone(), problem };
        let secure = target.url.scheme() == "https";
        reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls(secure).map_err(|error| failed(error.to_string()))?)
            .https_only(secure)
            .http1_only()
            .user_agent(concat!("coder/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .dns_resolver(address::Resolver(target.reach))
            .connect_timeout(self.options.connect)
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| failed(exchange::root(&error)))
    }

    /// The machine's trusted certificates, read once; none where no TLS is spoken.
    fn tls(&self, secure: bool) -> Result<rustls::ClientConfig, rustls::Error> {
        if let (true, Some(config)) = (secure, self.tls.get()) {
            return Ok(config.clone());
        }
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        if !secure {
            return Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth());
        }
        let config = builder.with_platform_verifier()?.with_no_client_auth();
        Ok(self.tls.get_or_init(|| config).clone())
    }
}

/// Whether a part of an answer was passed on.
fn was_heard(exchange: &Exchange<'_>) -> bool {
    exchange.listener.is_some_and(|listener| listener.heard.load(Ordering::Relaxed))
}

/// Ends when somebody sets the flag.
async fn cancelled(flag: &AtomicBool) -> Fault {
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
    }
    Fault::Cancelled
}
