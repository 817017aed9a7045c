//! Who may ask: the key, and against web pages that reach for a local server, the headers Host and Origin.
//!
//! A browser sends a page's requests to any address, so a server on the loopback interface is not alone with its user.
//! Another page's requests carry its Origin. A page whose own name was made to point here (DNS rebinding) carries that
//! name as Host. Neither can be changed by the page, and no page knows the key.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, header};
use subtle::ConstantTimeEq;

use crate::{Error, Result};

/// Who may ask. By default everyone who reaches the server as `localhost` or by its address, and no web page.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// What every request but `/health` must know. With it, any Host is fine.
    pub key: Option<String>,
    /// Further names of this machine.
    pub hosts: Vec<String>,
    /// Web pages that may ask, such as `http://localhost:3000`.
    pub origins: Vec<String>,
}

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

impl Access {
    /// A key that nobody can guess: 256 random bits.
    ///
    /// # Errors
    /// [`Error::Failed`] if the system has no random numbers.
    pub fn random_key() -> Result<String> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| Error::Failed(format!("random numbers: {error}")))?;
        Ok(bytes.iter().fold("sk-".to_owned(), |key, byte| key + &format!("{byte:02x}")))
    }

    /// Checks a request's headers; `open` is a path that needs no key.
    pub(crate) fn check(&self, headers: &HeaderMap, authority: Option<&str>, open: bool) -> Result<()> {
        let host = text(headers, &header::HOST).or(authority).unwrap_or_default();
        if let Some(origin) = text(headers, &header::ORIGIN)
            && !self.is_ours(origin, host)
        {
            let got = origin.to_owned();
            return Err(Error::Foreign { what: "origin", got, remedy: "--allow-origin" });
        }
        match &self.key {
            Some(key) if !open => {
                // Clients may send one of each, of which one is for somebody else.
                let given = [bearer(headers), text(headers, &API_KEY)];
                let [bearer, api_key] =
                    given.map(|given| given.unwrap_or_default().as_bytes().ct_eq(key.as_bytes()));
                if !bool::from(bearer | api_key) {
                    return Err(Error::NoKey);
                }
            }
            None if !self.is_this_machine(host) => {
                let got = name(host).to_owned();
                return Err(Error::Foreign { what: "host", got, remedy: "--allow-host" });
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a page of this origin is the server's own, or one that was allowed.
    pub(crate) fn is_ours(&self, origin: &str, host: &str) -> bool {
        let own = origin.split_once("://").is_some_and(|(_, authority)| authority == host);
        // As people copy them from the line of addresses; browsers send them without a path, in lower case.
        let is_allowed = |allowed: &String| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin);
        own || self.origins.iter().any(is_allowed)
    }

    /// Names that no name server gives out for somebody else.
    fn is_this_machine(&self, host: &str) -> bool {
        let name = name(host);
        let address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let is_name = |known: &str| known.eq_ignore_ascii_case(name);
        address || is_name("localhost") || self.hosts.iter().any(|host| is_name(host))
    }
}

/// The host without its port.
fn name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    // What is no text is no name, no origin and no key of ours.
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = text(headers, &header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(access: &Access, headers: &[(&'static str, &str)]) -> Result<()> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a header"));
        }
        access.check(&map, None, false)
    }

    #[test]
    fn a_rebound_name_and_a_foreign_page_are_refused() {
        let access = Access { hosts: vec!["Box.lan".into()], ..Access::default() };
        for host in
            ["localhost:8080", "LOCALHOST", "127.0.0.1:8080", "[::1]:8080", "192.168.1.2", "box.lan:1"]
        {
            assert!(check(&access, &[("host", host)]).is_ok(), "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "", "box.lan.x"]
        {
            assert!(matches!(check(&access, &[("host", host)]), Err(Error::Foreign { .. })), "{host}");
        }
        let page = |origin| check(&access, &[("host", "localhost:8080"), ("origin", origin)]);
        assert!(page("http://localhost:8080").is_ok());
        for origin in ["http://localhost:3000", "http://evil.example", "null", "", "localhost:8080"] {
            assert!(matches!(page(origin), Err(Error::Foreign { .. })), "{origin}");
        }
        for allowed in ["http://localhost:3000", "http://Localhost:3000/"] {
            let access = Access { origins: vec![allowed.into()], ..access.clone() };
            let page = |origin| check(&access, &[("host", "localhost:8080"), ("origin", origin)]);
            assert!(page("http://localhost:3000").is_ok(), "{allowed}");
            assert!(matches!(page(""), Err(Error::Foreign { .. })), "{allowed}");
        }
    }

    #[test]
    fn a_key_is_asked_for_in_either_header() {
        let access = Access { key: Some("secret".into()), ..Access::default() };
        for given in
            [("authorization", "Bearer secret"), ("authorization", "bearer  secret"), ("x-api-key", "secret")]
        {
            assert!(check(&access, &[("host", "anything"), given]).is_ok(), "{given:?}");
            let other = if given.0 == "x-api-key" { "authorization" } else { "x-api-key" };
            assert!(
                check(&access, &[("host", "anything"), given, (other, "Bearer old")]).is_ok(),
                "{given:?}"
            );
        }
        for given in [
            ("authorization", "Bearer secre"),
            ("authorization", "Basic secret"),
            ("x-api-key", ""),
            ("x", "y"),
        ] {
            assert!(
                matches!(check(&access, &[("host", "localhost"), given]), Err(Error::NoKey)),
                "{given:?}"
            );
        }
        assert!(access.check(&HeaderMap::new(), None, true).is_ok());
    }

    #[test]
    fn random_keys_differ() {
        let key = Access::random_key().expect("a key");
        assert_eq!(key.len(), 67);
        assert_ne!(key, Access::random_key().expect("another"));
    }
}
