//! A connection as the pipeline sees it: whose account, which objects, by which policies.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tandem_core::Millis;
use tandem_core::descriptor::Abilities;
use tandem_core::id::{ConnectionId, EntityKey, ObjectName, ScopeId};
use tandem_core::places::Places;
use tandem_core::policy::ObjectPolicy;
use tandem_core::rules::Rules;
use tandem_core::schema::{CanonicalSchema, Schema};

use crate::provider::Binding;

/// One customer's account at one provider.
pub struct Connection {
    /// Its name.
    pub id: ConnectionId,
    /// The part of System A that it serves.
    pub scope: ScopeId,
    /// What is kept the same, by canonical name.
    pub objects: HashMap<ObjectName, Object>,
    /// The customer's rules: whether a record takes part.
    pub rules: Rules,
    /// What is paused.
    pub directions: Arc<Directions>,
    /// The version of its provider with its settings: work that began with it ends with it.
    pub binding: Binding,
    /// Since when it is as it is: settings, rules and version. Set by [`Pipeline::connect`](super::Pipeline::connect).
    pub since: Millis,
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
    /// Where its fields are in the CRM's record. [`Pipeline::note_places`](super::Pipeline::note_places) says which of them have moved.
    pub places: Places,
}

/// How a connection stands: paused directions, which keep their queues, and what it did last. It outlasts a change of the connection's settings or provider.
#[derive(Debug, Default)]
pub struct Directions {
    to_external: AtomicBool,
    to_internal: AtomicBool,
    disabled: AtomicBool,
    unasked: AtomicBool,
    last: parking_lot::Mutex<Option<EntityKey>>,
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

    /// The record that was worked on last.
    #[must_use]
    pub fn last(&self) -> Option<EntityKey> {
        self.last.lock().clone()
    }

    /// A record is being worked on.
    pub(super) fn note(&self, entity: &EntityKey) {
        let mut last = self.last.lock();
        match &mut *last {
            Some(last) => last.clone_from(entity),
            none => *none = Some(entity.clone()),
        }
    }

    /// Stops all work, reading too, or lets it go on: the provider's file was removed, or is back.
    pub fn disable(&self, disabled: bool) {
        self.disabled.store(disabled, Ordering::Relaxed);
    }

    /// Whether all work is stopped.
    #[must_use]
    pub fn disabled(&self) -> bool {
        self.disabled.load(Ordering::Relaxed)
    }

    /// Its account was not asked about itself yet, or has been: what is carried of a record may depend on what it says.
    pub fn await_facts(&self, awaited: bool) {
        self.unasked.store(awaited, Ordering::Relaxed);
    }

    /// Whether records wait until the account was asked about itself.
    #[must_use]
    pub fn awaits_facts(&self) -> bool {
        self.unasked.load(Ordering::Relaxed)
    }

    /// Whether writing to the CRM is paused.
    #[must_use]
    pub fn external_paused(&self) -> bool {
        self.to_external.load(Ordering::Relaxed)
    }

    /// Whether nothing may be written on either side.
    #[must_use]
    pub fn all_paused(&self) -> bool {
        self.external_paused() && self.internal_paused()
    }

    /// Whether writing to System A is paused.
    #[must_use]
    pub fn internal_paused(&self) -> bool {
        self.to_internal.load(Ordering::Relaxed)
    }
}
