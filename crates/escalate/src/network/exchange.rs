//! One attempt: a request, its answer, and what went wrong in between with what it cost.

use std::error::Error as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Response, StatusCode};
use tokio::time::timeout;

use super::address::{NotAllowed, Target};
use super::heard::{Heard, line, malformed};
use super::key::Key;
use super::retry::Hints;
use super::sse::{Event, Stream};
use super::{anthropic, openai, said};
use crate::{Answer, Dialect, End, Fault, Outgoing, Spent};

/// The version of the Messages API whose forms are used here (platform.claude.com/docs/en/api/versioning).
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// The most that is read of an error's body, in bytes and in time; its sense stands at the beginning.
const LONGEST_ERROR: usize = 64 << 10;
const ERROR_TIME: Duration = Duration::from_secs(10);

/// An attempt without an answer.
#[derive(Debug)]
pub(super) struct Lapse {
    /// Why.
    pub(super) fault: Fault,
    /// What the server said about trying again.
    pub(super) hints: Hints,
    /// What it cost.
    pub(super) spent: Spent,
}

/// A part of an answer that is passed on, once it is known to be none of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed<'a> {
    /// An event of a stream.
    Event {
        /// Its kind; "" where the server named none.
        name: &'a str,
        /// What it carries.
        data: &'a str,
    },
    /// The whole answer.
    Whole(&'a str),
}

/// Who hears an answer that is passed on.
pub(super) struct Listener<'a> {
    pub(super) hear: &'a (dyn Fn(Passed<'_>) + Sync),
    /// Whether something was passed on: then there is no other attempt.
    pub(super) heard: AtomicBool,
}

impl Listener<'_> {
    fn pass(&self, passed: Passed<'_>) {
        self.heard.store(true, Ordering::Relaxed);
        (self.hear)(passed);
    }
}

/// What limits an attempt beside the deadline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The longest time without a byte.
    pub(super) idle: Duration,
    /// The most bytes of an answer.
    pub(super) longest_answer: u64,
}

/// Everything that an attempt needs; the same for each.
pub(super) struct Exchange<'a> {
    pub(super) http: &'a reqwest::Client,
    pub(super) outgoing: &'a Outgoing,
    pub(super) target: &'a Target,
    pub(super) key: &'a Key,
    pub(super) limits: Limits,
    /// Who hears the answer as it comes, if it is passed on.
    pub(super) listener: Option<&'a Listener<'a>>,
}

impl Exchange<'_> {
    /// Sends the request and hears the answer out, for as long as `left`, unless `stop` ends before.
    pub(super) async fn run(
        &self,
        left: Duration,
        stop: impl Future<Output = Fault>,
    ) -> Result<Answer, Lapse> {
        let mut heard = Heard::default();
        let result = tokio::select! {
            biased;
            fault = stop => Err(self.paid(fault)),
            () = tokio::time::sleep(left) => Err(self.paid(self.too_late())),
            result = self.hear(&mut heard) => result,
        };
        let finished = match result {
            // Why it ended is for whoever it is passed on to.
            Ok(()) if self.listener.is_some() && heard.ended.is_some() => Ok((String::new(), End::Stop)),
            Ok(()) => heard.finish().map_err(|fault| self.paid(fault)),
            // Only what comes after the last word is missing.
            Err(Lapse { fault: Fault::CutOff { .. } | Fault::TimedOut { .. }, .. })
                if heard.ended.is_some() && self.listener.is_none() =>
            {
                heard.finish().map_err(|fault| self.paid(fault))
            }
            Err(lapse) => Err(lapse),
        };
        let Spent { tokens, counted } = heard.spent(self.outgoing);
        match finished {
            Ok((text, end)) => {
                let model = std::mem::take(&mut heard.model);
                Ok(Answer {
                    text,
                    end,
                    tokens,
                    counted,
                    model,
                    attempts: 1,
                    failed: Vec::new(),
                    seconds: 0.0,
                })
            }
            // A lapse that is not free costs what was heard of it.
            Err(lapse) if lapse.spent == Spent::NOTHING => Err(lapse),
            Err(lapse) => Err(Lapse { spent: Spent { tokens, counted }, ..lapse }),
        }
    }

    /// A fault that is fit to be shown. The key is taken out wherever a server quoted it, and only then are its words
    /// made one line, so that no part of the key is left at the cut. A refused key is named by where it came from.
    pub(super) fn shown(&self, mut fault: Fault) -> Fault {
        if let Some(words) = fault.words() {
            *words = line(&self.key.hide(std::mem::take(words)));
        }
        if let Fault::KeyRefused { from, .. } = &mut fault {
            from.clone_from(&self.key.from);
        }
        fault
    }

    async fn hear(&self, heard: &mut Heard) -> Result<(), Lapse> {
        // Without a stream there is no sign of life before the whole answer is there.
        let stream = self.outgoing.endpoint().stream;
        let response = if stream {
            timeout(self.limits.idle, self.send()).await.map_err(|_| self.silent())?
        } else {
            self.send().await
        };
        let response = response.map_err(|error| self.not_sent(&error))?;
        match response.status() {
            status if status.is_success() => self.answer(heard, response).await,
            status if status.is_redirection() => {
                Err(free(Fault::Redirected { to: self.location(&response) }))
            }
            status => Err(self.refused(status, response).await),
        }
    }

    async fn send(&self) -> reqwest::Result<Response> {
        let endpoint = self.outgoing.endpoint();
        let accept = if endpoint.stream { "text/event-stream, application/json" } else { "application/json" };
        let mut request = self
            .http
            .post(self.target.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, accept)
            .header("x-request-id", self.outgoing.id())
            .body(self.outgoing.body().to_vec());
        let secret = |text: &str| {
            HeaderValue::from_str(text).map(|mut value| {
                value.set_sensitive(true);
                value
            })
        };
        match endpoint.dialect {
            Dialect::Anthropic => {
                request = request.header("anthropic-version", ANTHROPIC_VERSION);
                if let Some(beta) = self.outgoing.beta() {
                    request = request.header("anthropic-beta", beta);
                }
                if let Some(Ok(key)) = self.key.secret().map(secret) {
                    request = request.header("x-api-key", key);
                }
            }
            Dialect::Openai => {
                if let Some(Ok(key)) = self.key.secret().map(|key| secret(&format!("Bearer {key}"))) {
                    request = request.header(AUTHORIZATION, key);
                }
            }
        }
        request.send().await
    }

    /// Hears an answer with a status of success, streamed or whole, as its type says.
    async fn answer(&self, heard: &mut Heard, response: Response) -> Result<(), Lapse> {
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let streamed = match kind.as_str() {
            "text/event-stream" => true,
            "application/json" => false,
            "" => self.outgoing.endpoint().stream,
            kind if kind.ends_with("+json") => false,
            other => return Err(self.paid(malformed(format!("it is `{other}`")))),
        };
        let heard =
            if streamed { self.stream(heard, response).await } else { self.whole(heard, response).await };
        heard.map_err(|fault| self.paid(fault))
    }

    async fn stream(&self, heard: &mut Heard, mut response: Response) -> Result<(), Fault> {
        let hear = match self.outgoing.endpoint().dialect {
            Dialect::Anthropic => anthropic::event,
            Dialect::Openai => openai::event,
        };
        let (mut stream, mut bytes) = (Stream::default(), 0);
        while let Some(chunk) = self.chunk(&mut response, &mut bytes).await? {
            for event in stream.push(&chunk)? {
                hear(heard, &event)?;
                self.pass(&event);
                if heard.done {
                    return Ok(());
                }
            }
        }
        match stream.end()? {
            Some(event) => hear(heard, &event).map(|()| self.pass(&event)),
            None => Ok(()),
        }
    }

    fn pass(&self, Event { name, data }: &Event) {
        if let Some(listener) = self.listener {
            listener.pass(Passed::Event { name, data });
        }
    }

    async fn whole(&self, heard: &mut Heard, mut response: Response) -> Result<(), Fault> {
        let (mut body, mut bytes) = (Vec::new(), 0);
        while let Some(chunk) = self.chunk(&mut response, &mut bytes).await? {
            body.extend_from_slice(&chunk);
        }
        let body = String::from_utf8(body).map_err(|_| malformed("it is not UTF-8 text"))?;
        match self.outgoing.endpoint().dialect {
            Dialect::Anthropic => anthropic::whole(heard, &body)?,
            Dialect::Openai => openai::whole(heard, &body)?,
        }
        if let Some(listener) = self.listener {
            listener.pass(Passed::Whole(&body));
        }
        Ok(())
    }

    /// The next bytes of an answer, in time and within its limit; `bytes` counts them.
    async fn chunk(&self, response: &mut Response, bytes: &mut u64) -> Result<Option<Vec<u8>>, Fault> {
        let chunk = timeout(self.limits.idle, response.chunk())
            .await
            .map_err(|_| self.timed_out("send a byte", "idle_s"))?
            .map_err(|error| Fault::CutOff { problem: root(&error) })?;
        *bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if *bytes > self.limits.longest_answer {
            return Err(malformed(format!("it has more than `{}` bytes", self.limits.longest_answer)));
        }
        Ok(chunk.map(|chunk| chunk.to_vec()))
    }

    /// What an answer with an error's status means. Such a request is not charged.
    async fn refused(&self, status: StatusCode, mut response: Response) -> Lapse {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let hints = Hints::read(header, SystemTime::now());
        let mut body = Vec::new();
        let reading = async {
            while let Ok(Some(chunk)) = response.chunk().await {
                body.extend_from_slice(&chunk);
                if body.len() > LONGEST_ERROR {
                    break;
                }
            }
        };
        // An error without its words is still an error.
        let _ = timeout(self.limits.idle.min(ERROR_TIME), reading).await;
        let mut fault = said::response(status.as_u16(), &String::from_utf8_lossy(&body));
        if let Fault::RateLimited { after_s, .. } = &mut fault {
            *after_s = hints.after.map(|after| after.as_secs() + u64::from(after.subsec_nanos() > 0));
        }
        Lapse { fault, hints, spent: Spent::NOTHING }
    }

    /// A request to which no answer began.
    fn not_sent(&self, error: &reqwest::Error) -> Lapse {
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(NotAllowed { host, address }) = cause.downcast_ref() {
                return free(Fault::PrivateAddress { host: host.clone(), address: address.clone() });
            }
            source = cause.source();
        }
        let problem = root(error);
        if error.is_connect() || error.is_builder() {
            return free(Fault::Unreachable { host: self.target.host.clone(), problem });
        }
        self.paid(Fault::CutOff { problem })
    }

    fn location(&self, response: &Response) -> String {
        let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
        let url = self.target.url.join(to).ok();
        let host = url.as_ref().and_then(|url| url.host_str());
        host.unwrap_or(to).to_owned()
    }

    fn silent(&self) -> Lapse {
        self.paid(self.timed_out("begin its answer", "idle_s"))
    }

    /// The deadline is over.
    pub(super) fn too_late(&self) -> Fault {
        self.timed_out("finish its answer", "deadline_s")
    }

    fn timed_out(&self, what: &'static str, limit: &'static str) -> Fault {
        let endpoint = self.outgoing.endpoint();
        let limit_s = if limit == "idle_s" { endpoint.idle_s } else { endpoint.deadline_s };
        Fault::TimedOut { host: self.target.host.clone(), what, limit_s, limit }
    }

    /// A lapse of a request that the server has, or may have.
    fn paid(&self, fault: Fault) -> Lapse {
        let spent = Spent { tokens: self.outgoing.most(), counted: false };
        Lapse { fault, hints: Hints::default(), spent }
    }
}

/// A lapse of a request that nobody charges.
fn free(fault: Fault) -> Lapse {
    Lapse { fault, hints: Hints::default(), spent: Spent::NOTHING }
}

/// The innermost cause, which is the one that says something.
pub(super) fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
