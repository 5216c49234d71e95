//! The HTTP client: egress rules, time-outs, bounded answers. It repeats a request only if no byte of it was sent, and knows
//! no provider.
//!
//! Invariants:
//! - Nothing goes to a host that the configuration does not grant, nor to an address that is not public (checked when it is dialled);
//!   redirects are not followed, no proxy is taken from the environment, cookies are not kept, nothing is decompressed.
//! - [`SendError::NotSent`] means that no byte of the request left; every doubt is [`SendError::Unknown`]. Repeated without being asked:
//!   what a pooled connection gave back unwritten, what an HTTP/2 server refused unprocessed (RFC 9113, 8.7), and once, with a fresh
//!   token, what was answered with 401.
//! - A provider sees the response headers of its list and never its credentials: tokens and secrets that an error page or an answer
//!   to a request with secrets in it repeats are blanked.
//!
//! Pools: each connection belongs to one of a few pools, each with at most one HTTP/2 connection to a host; idle connections are closed
//! after half a minute, so that thousands of hosts hold sockets only while they are busy.

mod client;
mod egress;
mod request;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use http::HeaderName;
use secrecy::SecretString;
use tandem_core::exchange::{HttpRequest, HttpResponse};
use tandem_core::id::ConnectionId;
use url::Url;

pub use client::{Client, ClientConfig, ClientError};
pub use egress::Hosts;

use crate::credentials::Credential;
use egress::{Reach, Rules};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No byte was sent: it had no effect.
    #[error("connection {connection}: {what}")]
    NotSent {
        /// Whose request.
        connection: String,
        /// What failed.
        what: String,
    },
    /// It was sent, or may have been; whether it took effect is not known.
    #[error("connection {connection}: no answer: {what}")]
    Unknown {
        /// Whose request.
        connection: String,
        /// What failed.
        what: String,
    },
    /// The egress rules forbid it.
    #[error("connection {connection}: {what}")]
    Forbidden {
        /// Whose request.
        connection: String,
        /// It is the connection's configuration that forbids it, and with it every other request. Otherwise it is this one alone: it is
        /// malformed, or goes to another host than the base URL's.
        all: bool,
        /// Which rule, which host, and the configuration key that would grant it.
        what: String,
    },
    /// There are no valid credentials.
    #[error("connection {connection}: {what}")]
    Unauthorised {
        /// Whose request.
        connection: String,
        /// Why, and the way out.
        what: String,
    },
}

impl SendError {
    /// The kind's word, for metrics and history.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotSent { .. } => "not-sent",
            Self::Unknown { .. } => "unknown",
            Self::Forbidden { .. } => "forbidden",
            Self::Unauthorised { .. } => "unauthorised",
        }
    }
}

/// Sends a provider's request for a connection: resolves the target, authenticates, obeys egress rules.
pub trait Deliver: Send + Sync + 'static {
    /// One request, one answer. Answers carry only the headers of the descriptor's allow-list.
    fn send(
        &self,
        connection: &ConnectionId,
        request: HttpRequest,
    ) -> impl Future<Output = Result<HttpResponse, SendError>> + Send;
}

/// Where each connection's requests go, and with what. Asked for each request: keep [`Endpoint`]s ready.
pub trait Directory: Send + Sync + 'static {
    /// None: the connection is not configured.
    fn endpoint(&self, connection: &ConnectionId) -> Option<Arc<Endpoint>>;
}

/// What an [`Endpoint`] is made of.
#[derive(Default)]
pub struct EndpointParts {
    /// The base URL that holds: the configuration's if it has one, else the descriptor's.
    pub base_url: String,
    /// The configuration named the base URL: token answers do not change it.
    pub fixed_base: bool,
    /// Hosts that the provider's descriptor asks for.
    pub declared: Vec<String>,
    /// Hosts that the configuration grants.
    pub granted: Vec<String>,
    /// Requests may go to this machine.
    pub allow_loopback: bool,
    /// None for providers that need none.
    pub credential: Option<Arc<Credential>>,
    /// Response headers that the provider sees.
    pub response_headers: Vec<String>,
    /// Secrets that placeholders may ask for, by name.
    pub secrets: HashMap<String, SecretString>,
}

/// One connection's target, parsed and checked once.
pub struct Endpoint {
    base: Url,
    fixed_base: bool,
    reach: Reach,
    rules: Rules,
    credential: Option<Arc<Credential>>,
    response_headers: Vec<HeaderName>,
    secrets: HashMap<String, SecretString>,
}

impl Endpoint {
    /// Checks the parts.
    ///
    /// # Errors
    /// A base URL that the rules forbid, or a header name that is none; in words, with the configuration key that would help.
    pub fn new(parts: EndpointParts) -> Result<Self, String> {
        let EndpointParts { base_url, fixed_base, declared, granted, allow_loopback, .. } = parts;
        let base = Url::parse(&base_url).map_err(|error| format!("base_url {base_url}: {error}"))?;
        if base.query().is_some() || base.fragment().is_some() {
            return Err(format!("base_url {base_url}: has a query or fragment"));
        }
        let rules =
            Rules { declared: Hosts::new(declared), granted: Hosts::new(granted), loopback: allow_loopback };
        let reach = rules.check(&base, fixed_base).map_err(|what| format!("base_url: {what}"))?;
        let mut response_headers = Vec::with_capacity(parts.response_headers.len());
        for name in parts.response_headers {
            let parsed = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("response-headers: {name:?} is not the name of a header"))?;
            if !client::private(&parsed) {
                response_headers.push(parsed);
            }
        }
        Ok(Self {
            base,
            fixed_base,
            reach,
            rules,
            credential: parts.credential,
            response_headers,
            secrets: parts.secrets,
        })
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}
