//! Which hosts may be spoken to, and at which addresses. A name is checked where it is resolved for the connection
//! itself, so one that changes its address between a check and its use gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::{Endpoint, Fault};

/// Which addresses an endpoint may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those of this machine: the host is `localhost` or such an address.
    Loopback,
    /// Those of the internet.
    Public,
    /// All: the user said that the endpoint is private.
    Any,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The whole address.
    pub(super) url: Url,
    /// The host, for messages.
    pub(super) host: String,
    /// Which addresses the host may have.
    pub(super) reach: Reach,
}

impl Target {
    /// Checks the address of a request.
    pub(super) fn of(endpoint: &Endpoint, url: &str) -> Result<Target, Fault> {
        let bad = |problem: &str| Fault::BadEndpoint { url: shown(url), problem: problem.to_owned() };
        let url =
            Url::parse(url).map_err(|error| bad(&format!("{error}; write it like `https://host/path`")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("it holds a name or a password; put the key into `key_env` or `key_file`"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it has a `?` or a `#`; end it with the path"));
        }
        let host = url.host().map(|host| host.to_owned()).ok_or_else(|| bad("it has no host"))?;
        let here = match &host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        let reach = match (endpoint.private, here) {
            (true, _) => Reach::Any,
            (false, true) => Reach::Loopback,
            (false, false) => Reach::Public,
        };
        match url.scheme() {
            "https" => {}
            "http" if reach != Reach::Public => {}
            "http" => {
                return Err(bad(
                    "`http` shows prompt and key to everybody on the way; use `https`, or set `private = true` in a network of your own",
                ));
            }
            _ => return Err(bad("it is neither `https` nor `http`")),
        }
        let address = match host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
        };
        let host = host.to_string();
        if let Some(address) = address.filter(|address| !reach.allows(*address)) {
            return Err(Fault::PrivateAddress { host, address: address.to_string() });
        }
        Ok(Target { url, host, reach })
    }
}

/// An address for messages, without what may be a password.
fn shown(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(start), Some(at)) if at > start => format!("{}…{}", &url[..start + 3], &url[at..]),
        _ => url.to_owned(),
    }
}

impl Reach {
    /// Whether a connection may go there.
    pub(super) fn allows(self, address: IpAddr) -> bool {
        match self {
            Reach::Loopback => plain(address).is_loopback(),
            Reach::Public => is_public(plain(address)),
            Reach::Any => true,
        }
    }
}

/// An address of the fourth version that is written as one of the sixth means the former: mapped (RFC 4291), behind
/// a translator (64:ff9b::/96, RFC 6052), or by 6to4 (2002::/16, RFC 3056).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    if let Some(four) = six.to_ipv4_mapped() {
        return IpAddr::V4(four);
    }
    let four = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match six.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => four(high, low),
        [0x2002, high, low, ..] => four(high, low),
        _ => address,
    }
}

/// Whether an address is one of the internet: IANA's special-purpose registries (RFC 6890) without the rest.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => is_public_v4(four),
        IpAddr::V6(six) => is_public_v6(six),
    }
}

fn is_public_v4(four: Ipv4Addr) -> bool {
    let [a, b, c, _] = four.octets();
    let special = a == 0
        || four.is_loopback()
        || four.is_private()
        || four.is_link_local() // also the metadata services of clouds
        || four.is_documentation()
        || (a == 100 && (64..128).contains(&b)) // shared by carriers (RFC 6598)
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)) // benchmarks
        || a >= 224; // multicast, reserved, broadcast
    !special
}

fn is_public_v6(six: Ipv6Addr) -> bool {
    // Only 2000::/3 is given out for the internet; 2001:db8::/32 is for documents, 2001::/23 for protocols.
    let [a, b, ..] = six.segments();
    a & 0xe000 == 0x2000 && !(a == 0x2001 && (b == 0xdb8 || b < 0x200))
}

/// A name has no address that is allowed.
#[derive(Debug, thiserror::Error)]
#[error("`{host}` is at `{address}`")]
pub(super) struct NotAllowed {
    pub(super) host: String,
    pub(super) address: String,
}

/// Resolves names by the operating system, and keeps the addresses that are allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver(pub(super) Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Resolver(reach) = *self;
        Box::pin(async move {
            let all: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let (good, bad): (Vec<_>, Vec<_>) = all.into_iter().partition(|at| reach.allows(at.ip()));
            match (good.is_empty(), bad.first()) {
                (true, Some(bad)) => {
                    let (host, address) = (name.as_str().to_owned(), bad.ip().to_string());
                    Err(NotAllowed { host, address }.into())
                }
                _ => Ok(Box::new(good.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;

    fn target(url: &str, private: bool) -> Result<Target, Fault> {
        let mut endpoint = Endpoint::new(Dialect::Openai, url);
        endpoint.private = private;
        Target::of(&endpoint, url)
    }

    #[test]
    fn https_or_loopback_or_private() {
        for url in
            ["https://api.anthropic.com/v1", "http://localhost:1", "http://127.9.9.9", "http://[::1]:8"]
        {
            assert!(target(url, false).is_ok(), "{url}");
        }
        for (url, word) in [
            ("http://example.org", "http"),
            ("http://localhost.example.org", "http"),
            ("ftp://example.org", "neither"),
            ("https://a:sesame@example.org", "password"),
            ("https://example.org/?x", "`?`"),
            ("example.org", "https://host"),
        ] {
            let error = target(url, false).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("sesame"), "{url}: {error}");
        }
        assert!(target("http://10.0.0.7:8000", true).is_ok());
    }

    #[test]
    fn addresses_in_every_disguise() {
        for url in [
            "https://169.254.169.254",
            "https://0xa9fea9fe",
            "https://2852039166",
            "https://10.1.2.3",
            "https://192.168.1.1",
            "https://172.31.0.1",
            "https://100.64.0.1",
            "https://0.0.0.0",
            "https://[fe80::1]",
            "https://[fd00:ec2::254]",
            "https://[::ffff:10.0.0.1]",
            "https://[64:ff9b::a9fe:a9fe]",
            "https://[2002:a00:1::]",
            "https://[::]",
        ] {
            assert!(matches!(target(url, false), Err(Fault::PrivateAddress { .. })), "{url}");
            assert!(target(url, true).is_ok(), "{url}");
        }
        for url in ["https://1.1.1.1", "https://[2606:4700::1111]", "https://172.32.0.1"] {
            assert!(target(url, false).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_name_is_checked_where_it_is_resolved() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let look = |reach| runtime.block_on(Resolver(reach).resolve("localhost".parse().unwrap()));
        let error = look(Reach::Public).err().unwrap();
        assert!(error.downcast_ref::<NotAllowed>().is_some(), "{error}");
        assert!(look(Reach::Loopback).unwrap().all(|at| at.ip().is_loopback()));
    }
}
