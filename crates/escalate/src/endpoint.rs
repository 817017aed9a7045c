//! Where a rung is reached: an address, how to speak there, and where the key is. Data, without a connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Anthropic's Messages API: `POST {url}/v1/messages`.
    Anthropic,
    /// OpenAI's chat completions, as LiteLLM, vLLM, OpenRouter and `coder serve` speak them too:
    /// `POST {url}/chat/completions`, where `url` ends with the version, such as `https://host/v1`.
    Openai,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// How to speak.
    pub dialect: Dialect,
    /// Its address. `https` only, but for loopback, or where `private` allows `http`. Empty where a variable is to hold it
    /// and does not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// The environment variable that holds the address, where it is set: then it comes before `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_env: Option<String>,
    /// The environment variable that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_env: Option<String>,
    /// The file that holds the key; nobody else may read it (mode 0600).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Whether `http` without TLS, and private or link-local addresses, are meant: a cluster in one's own network.
    #[serde(default)]
    pub private: bool,
    /// Seconds for a whole answer, all attempts together.
    #[serde(default = "Endpoint::deadline_s")]
    pub deadline_s: u64,
    /// Seconds without a byte after which a connection counts as dead.
    #[serde(default = "Endpoint::idle_s")]
    pub idle_s: u64,
    /// Whether answers are asked for as a stream, which shows soon that a connection is dead and what a broken
    /// answer cost. False is for servers that refuse streams.
    #[serde(default = "Endpoint::stream")]
    pub stream: bool,
    /// How the OpenAI dialect names the limit of an answer; None: by the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_name: Option<LimitName>,
}

/// The field of a chat completion that limits the answer. OpenAI's reasoning models refuse the old name, other
/// servers do not all know the new one, and both at once are refused
/// (platform.openai.com/docs/api-reference/chat/create).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitName {
    /// The old one, which vLLM, llama.cpp, Ollama, LiteLLM, OpenRouter and `coder serve` know.
    MaxTokens,
    /// The new one, which OpenAI itself and Azure want.
    MaxCompletionTokens,
}

impl Endpoint {
    /// Why it cannot be asked, where its address is in a variable that is not set; `name` is its own in the configuration.
    pub fn without_address(&self, name: &str) -> Option<String> {
        let variable = self.url_env.as_ref().filter(|_| self.url.is_empty())?;
        Some(format!(
            "endpoint `{name}` has its address from the variable `{variable}`, which is not set; set it, or add `url`"
        ))
    }

    /// A server without a key, with the usual limits.
    pub fn new(dialect: Dialect, url: impl Into<String>) -> Endpoint {
        Endpoint {
            dialect,
            url: url.into(),
            url_env: None,
            key_env: None,
            key_file: None,
            private: false,
            deadline_s: Endpoint::deadline_s(),
            idle_s: Endpoint::idle_s(),
            stream: Endpoint::stream(),
            limit_name: None,
        }
    }

    /// Takes the address that a variable holds, which other programs read too: without a scheme it is `http`, with the port of
    /// the address that it takes the place of if it has none; without a host it is the one of that, or this machine; and
    /// without a path the version of the OpenAI dialect is `/v1`. Where a server listens at all addresses, this machine
    /// reaches it at its own.
    pub(crate) fn take_address(&mut self, value: &str) {
        let value = value.trim_end_matches('/');
        let (scheme, rest) = value.split_once("://").unwrap_or(("", value));
        let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (mut host, mut port) = parted(place);
        let old = Url::parse(&self.url).ok().filter(|old| old.scheme() == "http");
        let old = old.as_ref();
        if host.is_empty() {
            host = old.and_then(Url::host_str).unwrap_or("127.0.0.1").to_owned();
        }
        if scheme.is_empty() && port.is_empty() {
            port = old.and_then(Url::port).map(|port| format!(":{port}")).unwrap_or_default();
        }
        let scheme = if scheme.is_empty() { "http" } else { scheme };
        let path = if path.is_empty() && self.dialect == Dialect::Openai { "/v1" } else { path };
        self.url = reachable(format!("{scheme}://{host}{port}{path}"));
    }

    fn stream() -> bool {
        true
    }

    fn deadline_s() -> u64 {
        600
    }

    fn idle_s() -> u64 {
        120
    }
}

/// Host and port, with its colon, of an address; an IPv6 one may lack its brackets.
fn parted(place: &str) -> (String, String) {
    if let Ok(ip) = place.parse::<Ipv6Addr>() {
        return (format!("[{ip}]"), String::new());
    }
    let colon = place.rfind(':').filter(|at| !place[*at..].contains(']'));
    let (host, port) = place.split_at(colon.unwrap_or(place.len()));
    (host.to_owned(), port.to_owned())
}

/// The address by which this machine reaches a server that listens at all addresses of it.
fn reachable(url: String) -> String {
    let Ok(mut parsed) = Url::parse(&url) else { return url };
    let own: IpAddr = match parsed.host() {
        Some(Host::Ipv4(ip)) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        Some(Host::Ipv6(ip)) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        _ => return url,
    };
    parsed.set_ip_host(own).map_or(url, |()| parsed.to_string())
}
