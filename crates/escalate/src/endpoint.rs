//! Where a rung is reached: an address, how to speak there, and where the key is. Data, without a connection.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
    /// Its address. `https` only, but for loopback, or where `plain` allows `http`.
    pub url: String,
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
}

impl Endpoint {
    fn deadline_s() -> u64 {
        600
    }

    fn idle_s() -> u64 {
        120
    }
}
