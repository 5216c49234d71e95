//! Where requests may go.
//!
//! A host must be asked for by the provider *and* granted by the configuration; the base URL that the operator or a token answer
//! names needs the grant alone. Only HTTPS, except to this machine where that is granted. The address is checked when it is dialled, in the
//! resolver, so that a name cannot lead inside after it was looked at (DNS rebinding): nothing but public addresses, or for a loopback grant
//! nothing but loopback.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Hosts as configuration and descriptor write them: `api.example.com`, `*.example.com` (every host below, not the domain
/// itself), `127.0.0.1`, `[::1]`.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<Pattern>);

#[derive(Clone, Debug)]
enum Pattern {
    Exact(String),
    Below(String),
}

impl Hosts {
    /// From their written form; case does not matter.
    pub fn new<T: AsRef<str>>(patterns: impl IntoIterator<Item = T>) -> Self {
        Self(
            patterns
                .into_iter()
                .map(|pattern| {
                    let lower = pattern.as_ref().to_ascii_lowercase();
                    match lower.strip_prefix("*.") {
                        Some(domain) => Pattern::Below(domain.to_owned()),
                        None => Pattern::Exact(lower),
                    }
                })
                .collect(),
        )
    }

    /// Whether a host (as in a parsed URL) is among them. A pattern never covers an IP address.
    #[must_use]
    pub fn cover(&self, host: &Host<&str>) -> bool {
        let written = host.to_string();
        self.0.iter().any(|pattern| match pattern {
            Pattern::Exact(name) => *name == written,
            Pattern::Below(domain) => {
                matches!(host, Host::Domain(_))
                    && written
                        .strip_suffix(domain.as_str())
                        .and_then(|rest| rest.strip_suffix('.'))
                        .is_some_and(|label| !label.is_empty())
            }
        })
    }
}

/// Which of the two clients a URL is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Public addresses and nothing else.
    Public,
    /// This machine and nothing else.
    Loopback,
}

/// Who decides over a URL.
pub(super) struct Rules {
    /// What the provider asks for.
    pub(super) declared: Hosts,
    /// What the configuration grants.
    pub(super) granted: Hosts,
    /// Requests may go to this machine.
    pub(super) loopback: bool,
}

impl Rules {
    /// Which client may fetch the URL, or which rule forbids it and what would grant it. `named`: the operator or a token answer named
    /// this host, so the provider need not have asked for it.
    pub(super) fn check(&self, url: &Url, named: bool) -> Result<Reach, String> {
        let Some(host) = url.host() else { return Err("the URL has no host".to_owned()) };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("host {host}: a URL with a user or password in it is refused"));
        }
        let local = match &host {
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
            Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        };
        if local && !self.loopback {
            return Err(format!(
                "host {host} is this machine; allow_loopback = true in the connection's file grants it"
            ));
        }
        if !self.granted.cover(&host) {
            let what = if matches!(host, Host::Domain(_)) { "host" } else { "IP address" };
            return Err(format!("{what} {host} is not granted; add it to hosts in the connection's file"));
        }
        if !named && !self.declared.cover(&host) {
            return Err(format!(
                "host {host} is not among the hosts that the provider's descriptor asks for"
            ));
        }
        match url.scheme() {
            "https" => {}
            "http" if local => {}
            scheme => {
                return Err(format!(
                    "host {host}: only https is allowed, not {scheme}; http needs a loopback host and allow_loopback = true"
                ));
            }
        }
        let literal = match host {
            Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
            Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
            Host::Domain(_) => None,
        };
        if let Some(kind) = literal.filter(|_| !local).and_then(|ip| inner(ip)) {
            return Err(format!("IP address {host} is {kind}; only public addresses can be granted"));
        }
        Ok(if local { Reach::Loopback } else { Reach::Public })
    }
}

/// What kind of address it is if it is not a public one (IANA's special-purpose registries).
pub(super) fn inner(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => inner_v4(ip),
        IpAddr::V6(ip) => inner_v6(ip),
    }
}

fn inner_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = ip.octets();
    Some(match (a, b, c) {
        (0, ..) => "an unspecified address",
        (127, ..) => "a loopback address",
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => "a private address",
        (100, 64..=127, _) => "a carrier's internal address",
        (169, 254, _) => "a link-local address (cloud metadata)",
        (192, 0, 0 | 2) | (198, 18..=19, _) | (198, 51, 100) | (203, 0, 113) | (192, 88, 99) => {
            "a reserved address"
        }
        (224..=255, ..) => "a multicast or reserved address",
        _ => return None,
    })
}

fn inner_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let embedded = |high: u16, low: u16| {
        let ([w, x], [y, z]) = (high.to_be_bytes(), low.to_be_bytes());
        inner_v4(Ipv4Addr::new(w, x, y, z))
    };
    if ip.is_loopback() {
        return Some("a loopback address");
    }
    match (a, b) {
        // Mapped IPv4 and, below, NAT64: what counts is the address inside.
        (0, 0) if c == 0 && d == 0 && e == 0 && f == 0xffff => embedded(g, h),
        (0x64, 0xff9b) if c == 0 && d == 0 && e == 0 && f == 0 => embedded(g, h),
        (0xfc00..=0xfdff, _) => Some("a private address"),
        (0xfe80..=0xfeff, _) => Some("a link-local address"),
        (0xff00..=0xffff, _) => Some("a multicast address"),
        // Teredo, ORCHID and the rest of 2001::/23; documentation; 6to4.
        (0x2001, 0..=0x1ff | 0xdb8) | (0x2002, _) => Some("a reserved address"),
        (0x3fff, 0..=0xfff) => Some("a reserved address"),
        (0x2000..=0x3fff, _) => None,
        _ => Some("a reserved address"),
    }
}

/// Resolves with the system's resolver and lets through what the reach allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate(pub(super) Reach);

/// A name that leads where nothing may go. Found in the error's chain and told apart from a failed lookup.
#[derive(Debug)]
pub(super) struct LeadsInside {
    host: String,
    address: IpAddr,
    kind: &'static str,
}

impl fmt::Display for LeadsInside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, address, kind } = self;
        write!(f, "host {host} resolves to {address}, {kind}; no configuration grants that")
    }
}

impl std::error::Error for LeadsInside {}

impl Resolve for Gate {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses = admit(name.as_str(), found, reach)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The addresses that may be dialled; an error if there are some, but none that may.
pub(super) fn admit(
    host: &str,
    found: impl Iterator<Item = SocketAddr>,
    reach: Reach,
) -> Result<Vec<SocketAddr>, LeadsInside> {
    let mut refused = None;
    let mut addresses = Vec::new();
    for address in found {
        let kind = match reach {
            Reach::Public => inner(address.ip()),
            Reach::Loopback => (!address.ip().is_loopback()).then_some("not a loopback address"),
        };
        match kind {
            None => addresses.push(address),
            Some(kind) => {
                refused = Some(LeadsInside { host: host.to_owned(), address: address.ip(), kind });
            }
        }
    }
    match refused {
        Some(refused) if addresses.is_empty() => Err(refused),
        _ => Ok(addresses),
    }
}
