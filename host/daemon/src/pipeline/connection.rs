//! A connection as the pipeline sees it: whose account, which objects, by which policies.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tandem_core::descriptor::Abilities;
use tandem_core::id::{ConnectionId, ObjectName, ScopeId};
use tandem_core::policy::ObjectPolicy;
use tandem_core::schema::{CanonicalSchema, Schema};

/// One customer's account at one provider.
pub struct Connection {
    /// Its name.
    pub id: ConnectionId,
    /// The part of System A that it serves.
    pub scope: ScopeId,
    /// What is kept the same, by canonical name.
    pub objects: HashMap<ObjectName, Object>,
    /// What is paused.
    pub directions: Directions,
}

/// One object of a connection.
pub struct Object {
    /// Who wins, which way a field flows.
    pub policy: ObjectPolicy,
    /// The canonical schema.
    pub canonical: Arc<CanonicalSchema>,
    /// The schema of a provider document in read form.
    pub read: Arc<Schema>,
    /// The schema of what may be sent.
    pub write: Arc<Schema>,
    /// What the CRM can do with it.
    pub abilities: Abilities,
}

/// Paused directions. A paused direction keeps its queue.
#[derive(Debug, Default)]
pub struct Directions {
    to_external: AtomicBool,
    to_internal: AtomicBool,
}

impl Directions {
    /// Pauses or resumes writing to the CRM.
    pub fn pause_external(&self, paused: bool) {
        self.to_external.store(paused, Ordering::Relaxed);
    }

    /// Pauses or resumes writing to System A.
    pub fn pause_internal(&self, paused: bool) {
        self.to_internal.store(paused, Ordering::Relaxed);
    }

    /// Whether writing to the CRM is paused.
    #[must_use]
    pub fn external_paused(&self) -> bool {
        self.to_external.load(Ordering::Relaxed)
    }

    /// Whether writing to System A is paused.
    #[must_use]
    pub fn internal_paused(&self) -> bool {
        self.to_internal.load(Ordering::Relaxed)
    }
}
