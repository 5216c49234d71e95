//! Providers: loading components, keeping instances in lanes, limits, faults; one module for each contract version.
//!
//! No type of the WebAssembly runtime leaves this room, and no HTTP happens here.

use std::future::Future;
use std::sync::Arc;

use tandem_core::descriptor::{ConnectionDescriptor, Descriptor};
use tandem_core::exchange::{
    Change, Context, Delivery, HttpResponse, Json, Observed, Operation, Problem, Reply, Ruling,
};
use tandem_core::id::{ConnectionId, ProviderId};

/// A fault of a component: never the record's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("provider {provider}: {call}: {kind}")]
pub struct Fault {
    /// `hubspot@0.1.0#1a2b3c4d`.
    pub provider: String,
    /// The function that was called.
    pub call: String,
    /// What happened, naming the limit.
    pub kind: FaultKind,
}

/// What a component did wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// It ran too long.
    #[error("ran longer than its deadline of {limit_ms} ms")]
    Deadline {
        /// The limit.
        limit_ms: u64,
    },
    /// It asked for too much memory.
    #[error("needed more than its {limit_bytes} bytes of memory")]
    Memory {
        /// The limit.
        limit_bytes: u64,
    },
    /// It trapped; the text is the trap and the end of what it wrote to stderr.
    #[error("trapped: {what}")]
    Trap {
        /// The trap.
        what: String,
    },
    /// It answered too much, or not what the contract says.
    #[error("answered {what}")]
    Output {
        /// What, and the limit.
        what: String,
    },
    /// Its breaker is open.
    #[error("is out of use for another {wait_ms} ms after {faults} faults in a row")]
    Broken {
        /// Faults in a row.
        faults: u32,
        /// Time until the next try.
        wait_ms: u64,
    },
    /// `configure` refused the connection's settings.
    #[error("refused the settings: {what}")]
    Configure {
        /// What it said.
        what: String,
    },
    /// There is no such connection, or its provider is not loaded.
    #[error("is not available: {what}")]
    Absent {
        /// Why, and the way out.
        what: String,
    },
}

/// One instance, from inside its lane. Every call is synchronous and bounded.
pub trait Provider {
    /// Canonical to the CRM's read form.
    fn to_provider(
        &mut self,
        object: &str,
        canonical: &[u8],
        current: Option<&[u8]>,
    ) -> Result<Result<Json, Vec<Problem>>, Fault>;
    /// The CRM's read form to canonical.
    fn to_canonical(&mut self, object: &str, document: &[u8]) -> Result<Result<Json, Vec<Problem>>, Fault>;
    /// What only the provider can know.
    fn decide(&mut self, change: &Change) -> Result<Ruling, Fault>;
    /// Begins an exchange.
    fn start(&mut self, operation: &Operation, context: &Context) -> Result<Reply, Fault>;
    /// Goes on with an exchange.
    fn resume(
        &mut self,
        operation: &Operation,
        note: &[u8],
        response: &HttpResponse,
        context: &Context,
    ) -> Result<Reply, Fault>;
    /// Reads a stored delivery.
    fn receive(
        &mut self,
        delivery: &Delivery,
        context: &Context,
    ) -> Result<Result<Vec<Observed>, Problem>, Fault>;
}

/// What is known of a connection's provider without calling it.
#[derive(Clone, Debug)]
pub struct View {
    /// The provider.
    pub provider: ProviderId,
    /// `hubspot@0.1.0#1a2b3c4d`, for history and errors.
    pub label: String,
    /// What holds for every account.
    pub descriptor: Arc<Descriptor>,
    /// What this connection has.
    pub connection: Arc<ConnectionDescriptor>,
}

/// The rooms' way to providers.
pub trait Runtime: Send + Sync + 'static {
    /// What is known of a connection's provider.
    fn view(&self, connection: &ConnectionId) -> Result<Arc<View>, Fault>;

    /// Runs a job on the connection's instance, in the connection's lane: one hop there and back for all calls of a step.
    /// After the first fault the instance is discarded with its store and the job's further calls answer with that fault.
    fn visit<R, F>(&self, connection: &ConnectionId, job: F) -> impl Future<Output = Result<R, Fault>> + Send
    where
        R: Send + 'static,
        F: FnOnce(&mut dyn Provider) -> Result<R, Fault> + Send + 'static;
}
