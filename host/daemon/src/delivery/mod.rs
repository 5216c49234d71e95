//! The HTTP client: egress rules, time-outs, bounded answers. It repeats a request only if no byte of it was sent, and knows
//! no provider.

use std::future::Future;

use tandem_core::exchange::{HttpRequest, HttpResponse};
use tandem_core::id::ConnectionId;

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

/// Sends a provider's request for a connection: resolves the target, authenticates, obeys egress rules.
pub trait Deliver: Send + Sync + 'static {
    /// One request, one answer. Answers carry only the headers of the descriptor's allow-list.
    fn send(
        &self,
        connection: &ConnectionId,
        request: HttpRequest,
    ) -> impl Future<Output = Result<HttpResponse, SendError>> + Send;
}
