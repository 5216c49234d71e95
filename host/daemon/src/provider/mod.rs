//! Providers: loading components, keeping instances in lanes, limits, faults; one module for each contract version.
//!
//! No type of the WebAssembly runtime leaves this room, and no HTTP happens here.
//!
//! A file becomes a [`Version`] (`load`: read, parsed, imports allowed, compiled, linked, described, examples run). A version
//! with settings and facts becomes a connection (`registry`). A connection's visits run in its lane (`lane`), on its own
//! instance (`instance`) in its own store with its own bounds (`sandbox`, `limits`), whose answers are checked (`check`).
//! What an instance can reach is the contract's log and an empty shell (`shell`). Faults open a breaker (`breaker`).
//!
//! Invariants: no two connections share a sandbox; a store is dropped with the first fault in it; nothing a guest does
//! holds a lane longer than one deadline; precompiled native code is never loaded from a folder of providers; texts of
//! faults name places and bounds, never what a record holds.

mod breaker;
mod check;
mod contract;
mod counters;
mod describe;
mod engine;
mod examples;
mod exercise;
mod instance;
mod lane;
mod limits;
mod load;
mod measure;
mod offline;
mod registry;
mod runtime;
mod sandbox;
mod shell;
mod structure;
mod trial;
mod v0_1;

pub use breaker::BreakerConfig;
pub use counters::{CALL_TIME_BOUNDS_US, CallFigures, Snapshot};
pub use engine::{Allocation, Engine, EngineConfig, EngineError};
pub use exercise::{Exercise, Exercised};
pub use limits::Limits;
pub use load::{Candidate, LoadError, LoadStep, Setup};
pub use measure::{Asked, Cost, Measured, Sample, Weighed};
pub use offline::Offline;
pub use registry::Version;
pub use runtime::{Loaded, Providers, RuntimeConfig, StartError};
pub use trial::{Stored, Trial};

use std::any::Any;
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
    /// It asked for too many table elements.
    #[error("needed more than its {limit} table elements")]
    Table {
        /// The limit.
        limit: u64,
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

impl FaultKind {
    /// Words for the kinds, for metrics.
    pub const LABELS: [&'static str; 8] =
        ["deadline", "memory", "table", "trap", "output", "broken", "configure", "absent"];

    fn index(&self) -> usize {
        match self {
            Self::Deadline { .. } => 0,
            Self::Memory { .. } => 1,
            Self::Table { .. } => 2,
            Self::Trap { .. } => 3,
            Self::Output { .. } => 4,
            Self::Broken { .. } => 5,
            Self::Configure { .. } => 6,
            Self::Absent { .. } => 7,
        }
    }

    /// The kind in one word.
    #[must_use]
    pub fn label(&self) -> &'static str {
        Self::LABELS.get(self.index()).copied().unwrap_or_default()
    }
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

/// A connection bound to one version of its provider, with its settings and facts. Whoever holds it works with these to the
/// end, whatever is swapped meanwhile.
#[derive(Clone)]
pub struct Binding {
    connection: ConnectionId,
    view: Arc<View>,
    inner: Arc<dyn Any + Send + Sync>,
}

impl Binding {
    /// A binding as a runtime makes it; `inner` is that runtime's own.
    pub fn new(connection: ConnectionId, view: Arc<View>, inner: Arc<dyn Any + Send + Sync>) -> Self {
        Self { connection, view, inner }
    }

    /// The connection.
    #[must_use]
    pub fn connection(&self) -> &ConnectionId {
        &self.connection
    }

    /// What is known of its provider.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// What the runtime put in, if it was a runtime of that kind.
    #[must_use]
    pub fn inner<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        Arc::clone(&self.inner).downcast().ok()
    }
}

impl std::fmt::Debug for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binding")
            .field("connection", &self.connection)
            .field("label", &self.view.label)
            .finish_non_exhaustive()
    }
}

/// The rooms' way to providers.
pub trait Runtime: Send + Sync + 'static {
    /// Runs a job on the connection's instance, in the connection's lane: one hop there and back for all calls of a step.
    /// After the first fault the instance is discarded with its store and the job's further calls answer with that fault.
    fn visit<R, F>(&self, binding: &Binding, job: F) -> impl Future<Output = Result<R, Fault>> + Send
    where
        R: Send + 'static,
        F: FnOnce(&mut dyn Provider) -> Result<R, Fault> + Send + 'static;
}
