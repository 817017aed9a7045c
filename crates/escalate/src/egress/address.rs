//! Where an endpoint is: its host, and whether that is this machine.

use serde::Serialize;
use url::{Host, Url};

use crate::Endpoint;

/// A host and a port, as the client will reach them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    /// The host, as addresses have it.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether it is this machine.
    pub loopback: bool,
}

impl Address {
    /// An endpoint's address; the error says what is wrong with it, and never what it is: it may hold a password.
    pub fn of(endpoint: &Endpoint) -> Result<Address, &'static str> {
        let url = Url::parse(&endpoint.url).map_err(|_| "must be an address such as https://host/v1")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not have a name or a password in it; use `key_env` or `key_file`");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must end with its path, without `?` or `#`");
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err("must have a host");
        };
        let loopback = match &host {
            Host::Domain(name) => *name == "localhost",
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
        };
        match url.scheme() {
            "https" => {}
            "http" if loopback || endpoint.private => {}
            "http" => return Err("must be https, or say `private = true` for a server in your own network"),
            _ => return Err("must be https"),
        }
        Ok(Address { host: host.to_string(), port, loopback })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;

    fn of(url: &str, private: bool) -> Result<Address, &'static str> {
        Address::of(&Endpoint { private, ..Endpoint::new(Dialect::Openai, url) })
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for url in [
            "http://localhost:11434/v1",
            "http://LOCALHOST/v1",
            "http://127.0.0.1:1",
            "http://127.1",
            "http://2130706433",
            "http://0x7f.1/",
            "http://[::1]:80/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(of(url, false).unwrap().loopback, "{url}");
        }
        for url in [
            "https://api.anthropic.com",
            "https://localhost.example.com",
            "https://127.0.0.1.example.com",
            "https://example.com/localhost",
            "https://0.0.0.0",
            "https://10.0.0.1",
            "https://[fe80::1]",
            "https://xn--lcalhost-54a.com",
        ] {
            assert!(!of(url, false).unwrap().loopback, "{url}");
        }
    }

    #[test]
    fn what_is_no_safe_address_is_refused_without_showing_it() {
        for (url, word) in [
            ("http://10.0.0.1/v1", "private"),
            ("http://localhost@example.com/", "password"),
            ("https://user:hunter2@example.com", "password"),
            ("https://example.com/?key=hunter2", "`?`"),
            ("ftp://example.com/", "https"),
            ("file:///etc/passwd", "host"),
            ("hunter2", "such as"),
        ] {
            let error = of(url, false).unwrap_err();
            assert!(error.contains(word) && !error.contains("hunter2"), "{url}: {error}");
        }
        assert!(of("http://10.0.0.1/v1", true).is_ok());
    }
}
