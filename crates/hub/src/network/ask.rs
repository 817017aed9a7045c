//! One request to a hub: redirects, what a status means, and whether it is worth another attempt.

use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use tokio::time::timeout;

use super::Hub;
use crate::name::shown;
use crate::{Error, Result};

/// Redirects that are followed.
const HOPS: usize = 6;

/// The most bytes of an answer that is not a file.
const LONGEST: usize = 32 << 20;

/// An attempt that failed.
pub(super) enum Lapse {
    /// The next one will fail too.
    Final(Error),
    /// Another one may succeed; the hub may say when.
    Passing(Error, Option<Duration>),
    /// No connection came about: worth waiting for in the middle of a file, but not before anything is done.
    Unconnected(Error),
}

impl Lapse {
    /// The same in the middle of the work, where a connection is waited for like all that passes.
    pub(super) fn midway(self) -> Self {
        match self {
            Self::Unconnected(error) => Self::Passing(error, None),
            other => other,
        }
    }

    fn malformed(host: &str, problem: impl Into<String>) -> Self {
        Self::Final(Error::Malformed { host: host.to_owned(), problem: problem.into() })
    }
}

/// An answer with a status of success.
pub(super) struct Answer {
    pub(super) response: Response,
    /// Who gave it.
    pub(super) host: String,
    /// What the hub itself said on the way there.
    pub(super) hub: HeaderMap,
}

impl Hub {
    /// An address below the hub's own.
    pub(super) fn url(&self, path: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// The JSON at an address of the hub's, with the header `link`; retried as long as that may help. `what` names it.
    pub(super) async fn json(&self, url: &Url, what: &str) -> Result<(serde_json::Value, Option<String>)> {
        let mut attempt = 0;
        loop {
            match self.json_once(url, what).await {
                Ok(found) => return Ok(found),
                Err(lapse) => self.rest(lapse, &mut attempt).await?,
            }
        }
    }

    /// Waits before another attempt, or ends with the reason not to make one.
    pub(super) async fn rest(&self, lapse: Lapse, attempt: &mut u32) -> Result<()> {
        let (error, after) = match lapse {
            Lapse::Final(error) | Lapse::Unconnected(error) => return Err(error),
            Lapse::Passing(error, after) => (error, after),
        };
        let wait = after.unwrap_or_else(|| self.options.first_wait.saturating_mul(1 << (*attempt).min(16)));
        if *attempt >= self.options.retries || after.is_some_and(|after| after > self.options.longest_wait) {
            return Err(error);
        }
        *attempt += 1;
        tokio::time::sleep(wait.min(self.options.longest_wait)).await;
        Ok(())
    }

    async fn json_once(&self, url: &Url, what: &str) -> Result<(serde_json::Value, Option<String>), Lapse> {
        let answer = self.get(url.clone(), what, None).await?;
        // What the hub knows is not for others to say.
        if !self.is_own(answer.response.url()) {
            return Err(Lapse::malformed(
                &self.host,
                format!("sends us to {} for what it has itself", answer.host),
            ));
        }
        let link =
            answer.response.headers().get("link").and_then(|link| link.to_str().ok()).map(str::to_owned);
        let mut response = answer.response;
        let mut body = Vec::new();
        loop {
            let chunk = timeout(self.options.idle, response.chunk()).await;
            let broke =
                |problem| Lapse::Passing(Error::Unreachable { host: self.host.clone(), problem }, None);
            match chunk.map_err(|_| broke("it says no more".into()))?.map_err(|error| broke(root(&error)))? {
                Some(chunk) => body.extend_from_slice(&chunk),
                None => break,
            }
            if body.len() > LONGEST {
                return Err(Lapse::malformed(
                    &self.host,
                    format!("more than {LONGEST} bytes about `{what}`"),
                ));
            }
        }
        match serde_json::from_slice(&body) {
            Ok(value) => Ok((value, link)),
            Err(error) => Err(Lapse::malformed(&self.host, format!("no JSON about `{what}`: {error}"))),
        }
    }

    /// Whether an address is the hub's own: only there the token goes.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }

    /// Asks for an address, from byte `from` on, and follows redirects.
    pub(super) async fn get(&self, url: Url, what: &str, from: Option<u64>) -> Result<Answer, Lapse> {
        let (mut url, mut hub) = (url, HeaderMap::new());
        for _ in 0..HOPS {
            let host = host_of(&url);
            let own = self.is_own(&url);
            let mut request = self.http.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            if let Some(token) = self.token.as_ref().filter(|_| own) {
                request = request.header(AUTHORIZATION, token.clone());
            }
            if let Some(from) = from {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let unreachable = |problem| Error::Unreachable { host: host.clone(), problem };
            let response = timeout(self.options.idle, request.send()).await;
            let response = response
                .map_err(|_| Lapse::Passing(unreachable("no answer in time".to_owned()), None))?
                .map_err(|error| {
                    // The innermost reason: the address may be signed, and is not for others.
                    let reason = unreachable(root(&error));
                    if error.is_connect() { Lapse::Unconnected(reason) } else { Lapse::Passing(reason, None) }
                })?;
            if own && hub.is_empty() {
                hub = response.headers().clone();
            }
            match response.status() {
                status if status.is_success() => return Ok(Answer { response, host, hub }),
                status if status.is_redirection() => url = self.next(&url, &response)?,
                status if own => return Err(self.refused(status, &response, what)),
                status => return Err(away(status, &response, host)),
            }
        }
        Err(Lapse::malformed(&self.host, format!("more than {HOPS} redirects for `{what}`")))
    }

    /// Where a redirect leads.
    fn next(&self, url: &Url, response: &Response) -> Result<Url, Lapse> {
        let nonsense = |problem: &str| Lapse::malformed(&host_of(url), problem);
        let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        let to = to.and_then(|to| url.join(to).ok()).ok_or_else(|| nonsense("a redirect to nowhere"))?;
        match to.scheme() {
            "https" => Ok(to),
            "http" if self.endpoint.scheme() == "http" => Ok(to),
            _ => Err(nonsense("a redirect to what is not https")),
        }
    }

    /// What a status of the hub itself means.
    fn refused(&self, status: StatusCode, response: &Response, what: &str) -> Lapse {
        let (host, what) = (self.host.clone(), shown(what));
        let after = retry_after(response);
        match status.as_u16() {
            401 => {
                let (token, token_file) = (self.token.is_some(), self.token_file.clone());
                Lapse::Final(Error::Unauthorized { host, what, token, token_file })
            }
            403 => {
                let repo = what.split(' ').next().unwrap_or_default().to_owned();
                let page = self.url(&repo.split('/').take(2).collect::<Vec<_>>()).to_string();
                Lapse::Final(Error::Forbidden { host, what, page })
            }
            404 => Lapse::Final(Error::NotFound { host, what }),
            429 => Lapse::Passing(
                Error::RateLimited { host, after_s: after.map(|after| after.as_secs()) },
                after,
            ),
            status @ (408 | 500..=599) => Lapse::Passing(Error::Server { host, status }, after),
            status => Lapse::Final(Error::Server { host, status }),
        }
    }
}

/// What a status of a host means that the hub sent us to: its addresses are valid for a while only, so the hub is asked anew.
fn away(status: StatusCode, response: &Response, host: String) -> Lapse {
    let after = retry_after(response);
    match status.as_u16() {
        429 => {
            Lapse::Passing(Error::RateLimited { host, after_s: after.map(|after| after.as_secs()) }, after)
        }
        status => Lapse::Passing(Error::Server { host, status }, after),
    }
}

/// Seconds, as hubs say it; a date is not worth a parser.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Host and port of an address, and none of the rest, which may be signed.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The innermost cause, which is the one that says something.
pub(super) fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
