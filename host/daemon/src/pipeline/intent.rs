//! Intents: what is written down before a write is made, and what is found out by it when the write's commit is lost.
//!
//! A create cannot be repeated without harm: its intent says by what the record is recognised. An update can be repeated, but
//! an edit that meets it half done looks like a conflict; and a removal that is not known to be ours looks like the CRM's
//! deletion, by which a record that came back meanwhile would be deleted. Their intent says what was on its way, see
//! [`Unsettled`]. An intent is opened when the quota has let the request go and before it is sent, so that what has to wait costs
//! nothing; it is closed by the commit of the link. A deletion in System A needs none: its record says who deleted it.

use std::collections::{HashMap, HashSet};

use tandem_core::Millis;
use tandem_core::clash::{Choice, Waits};
use tandem_core::document;
use tandem_core::id::{ConnectionId, EntityKey, ObjectName};
use tandem_core::link::{Fields, Life, Link};
use tandem_core::plan::{self, External, Internal as InternalState, InternalWrite, Source, Unsettled};

use super::create::{BUSY_MS, identity_of};
use super::dispatch::Hand;
use super::record::{Case, Held};
use super::settle::End;
use super::{Clock, Pipeline, PipelineError, origin_of};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::provider::Runtime;
use crate::store::{Call, Commit, Intent, Op, Store, StoreError, Until};

/// An intent that is opened right before a request is sent.
pub(super) struct Guard {
    intent: Intent,
    /// The link as far as it is known, where the intent takes the place of an earlier one that was accounted for in it.
    link: Option<Link>,
    /// It is on disk.
    pub(super) opened: bool,
}

impl Guard {
    fn new(link: &Link, call: Call) -> Self {
        let (entity, connection) = (link.entity.clone(), link.connection.clone());
        Self { intent: Intent { entity, connection, opened_at: 0, call }, link: None, opened: false }
    }

    /// For a create of these fields.
    pub(super) fn create(case: &Case<'_>, fields: &Fields) -> Self {
        let call = Call::Create {
            key: case.link.key(),
            identity: identity_of(fields, &case.object.policy),
            sent: serde_json::to_vec(&document::value(fields)).unwrap_or_default(),
            unknown_since: None,
        };
        Self::new(&case.link, call)
    }

    /// For the updates of a case. None: an intent of a create stands in their place, or there is nothing to find out.
    pub(super) fn update(case: &Case<'_>) -> Option<Self> {
        if case.create_open || case.unsettled.is_empty() {
            return None;
        }
        let unsettled = serde_json::to_vec(&case.unsettled).ok()?;
        let link = case.update_open.then(|| case.link.clone());
        Some(Self { link, ..Self::new(&case.link, Call::Update { unsettled }) })
    }
}

/// One object of one connection.
pub(super) type Place = (ConnectionId, ObjectName);

/// Where the creates of a link's object are counted.
pub(super) fn place_of(link: &Link) -> Place {
    (link.connection.clone(), link.entity.object.clone())
}

/// Creates that are under way, with the moment they were opened: records of a CRM that nobody knows yet wait for them.
#[derive(Debug, Default)]
pub(super) struct Creates {
    open: HashMap<Place, HashMap<EntityKey, Millis>>,
    /// Those of an earlier run are known here.
    recalled: HashSet<Place>,
}

impl Creates {
    fn open(&mut self, place: Place, entity: EntityKey, at: Millis) {
        self.open.entry(place).or_default().insert(entity, at);
    }

    fn close(&mut self, place: &Place, entity: &EntityKey) {
        if let Some(known) = self.open.get_mut(place) {
            known.remove(entity);
            if known.is_empty() {
                self.open.remove(place);
            }
        }
    }

    /// Takes up what the store has, once: see [`Pipeline::recall_intents`].
    fn recall(&mut self, place: &Place, stored: Vec<Intent>) {
        if !self.recalled.insert(place.clone()) {
            return;
        }
        for intent in stored {
            self.open(place.clone(), intent.entity, intent.opened_at);
        }
    }

    /// Whether the create of this entity is under way.
    pub(super) fn has(&self, place: &Place, entity: &EntityKey) -> bool {
        self.open.get(place).is_some_and(|known| known.contains_key(entity))
    }

    /// Whether the create of any other entity is under way.
    fn has_others(&self, place: &Place, entity: &EntityKey) -> bool {
        self.open.get(place).is_some_and(|known| known.keys().any(|other| other != entity))
    }

    /// Whether any create is under way that was opened by then.
    pub(super) fn any_since_before(&self, place: &Place, moment: Millis) -> bool {
        self.open.get(place).is_some_and(|known| known.values().any(|opened| *opened <= moment))
    }

    /// Whether any create is under way that was opened after a moment and by another one.
    pub(super) fn any_opened_within(&self, place: &Place, after: Millis, until: Millis) -> bool {
        let is_within = |opened: &Millis| *opened > after && *opened <= until;
        self.open.get(place).is_some_and(|known| known.values().any(is_within))
    }
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Takes the identity of a record that is to be made. How the work ends if somebody else has it.
    pub(super) fn hold_identity(&self, case: &Case<'_>, fields: &Fields, held: &mut Held<'_>) -> Option<End> {
        for (pointer, value) in identity_of(fields, &case.object.policy) {
            let hand = Hand::Identity(
                case.connection.id.clone(),
                case.link.entity.object.clone(),
                format!("{pointer}={value}"),
            );
            if !held.hold(hand) {
                let until = self.rooms.clock.now().saturating_add(BUSY_MS);
                return Some(End::PutBack { until, whole: false });
            }
        }
        None
    }

    /// Writes an intent down. When this returns it is on disk.
    pub(super) async fn open(&self, guard: &mut Guard) -> Result<(), PipelineError> {
        let now = self.rooms.clock.now();
        guard.intent.opened_at = now;
        self.remember(&guard.intent);
        let mut commit = Commit::new();
        let replaces = guard.link.is_some();
        if let Some(link) = guard.link.take() {
            commit.push(Op::PutLink(link));
        }
        commit.push(Op::PutIntent(guard.intent.clone()));
        if let Err(error) = self.rooms.store.commit(commit, Until::Durable).await {
            if !replaces {
                self.forget(&guard.intent);
            }
            return Err(error.into());
        }
        guard.opened = true;
        Ok(())
    }

    /// An intent is open, of this run or of an earlier one.
    pub(super) fn remember(&self, intent: &Intent) {
        let (entity, connection) = (intent.entity.clone(), intent.connection.clone());
        match &intent.call {
            Call::Create { .. } => {
                let place = (connection, entity.object.clone());
                self.creates.lock().open(place, entity, intent.opened_at);
            }
            Call::Update { .. } => {
                self.unsettled.lock().insert((connection, entity));
            }
        }
    }

    /// An intent did not reach the disk, and none stood before it: nothing is under way.
    fn forget(&self, intent: &Intent) {
        let (entity, connection) = (intent.entity.clone(), intent.connection.clone());
        match &intent.call {
            Call::Create { .. } => {
                let place = (connection, entity.object.clone());
                self.creates.lock().close(&place, &entity);
            }
            Call::Update { .. } => {
                self.unsettled.lock().remove(&(connection, entity));
            }
        }
    }

    /// The intent of a create is settled: nobody waits for it any more.
    pub(super) fn close_create(&self, link: &Link) {
        self.creates.lock().close(&place_of(link), &link.entity);
    }

    /// Whether the create of any other entity of an object is under way, or its outcome is not known. One that is asked about is not.
    pub(super) fn has_other_creates(&self, connection: &ConnectionId, entity: &EntityKey) -> bool {
        self.creates.lock().has_others(&(connection.clone(), entity.object.clone()), entity)
    }

    /// Takes up the intents that an earlier run left open, when this run meets the object of a connection for the first time. Later
    /// on the store lags: a create that was just settled still stands there until its commit is applied, and would be taken for
    /// one that is under way from then on.
    pub(super) fn recall_intents(
        &self,
        connection: &ConnectionId,
        object: &ObjectName,
    ) -> Result<(), StoreError> {
        let place = (connection.clone(), object.clone());
        if self.creates.lock().recalled.contains(&place) {
            return Ok(());
        }
        let intents = self.rooms.store.intents(connection, object)?;
        let (creates, updates): (Vec<Intent>, Vec<Intent>) =
            intents.into_iter().partition(|intent| matches!(intent.call, Call::Create { .. }));
        // One that a person is asked about is found out by nobody before that.
        let mut awaited = Vec::with_capacity(creates.len());
        for intent in creates {
            let about = Waits::Internal(intent.entity.id.clone());
            let clash = self.clash_about(connection, object, &about)?;
            if clash.is_none_or(|clash| !clash.is_open() && clash.decided != Some(Choice::Apart)) {
                awaited.push(intent);
            }
        }
        self.creates.lock().recall(&place, awaited);
        updates.iter().for_each(|intent| self.remember(intent));
        Ok(())
    }

    /// The create had no effect: the intent goes with the next commit of the case.
    pub(super) fn drop_create(&self, case: &mut Case<'_>) {
        if case.create_open {
            case.commit.push(Op::DropIntent(case.link.entity.clone(), case.link.connection.clone()));
            self.close_create(&case.link);
            case.create_open = false;
        }
    }

    /// The case's updates are accounted for in its link: the intent goes with the same commit.
    pub(super) fn drop_update(&self, case: &mut Case<'_>) {
        if case.update_open {
            case.commit.push(Op::DropIntent(case.link.entity.clone(), case.link.connection.clone()));
            self.unsettled.lock().remove(&(case.link.connection.clone(), case.link.entity.clone()));
            case.update_open = false;
            case.unsettled = Unsettled::default();
        }
    }

    /// The case's updates may have been made: their intent goes with its next commit, after that of a create in whose place it stands.
    pub(super) fn open_update(&self, case: &mut Case<'_>) {
        case.update_open = true;
        if let Ok(unsettled) = serde_json::to_vec(&case.unsettled) {
            let intent = Intent {
                entity: case.link.entity.clone(),
                connection: case.link.connection.clone(),
                opened_at: self.rooms.clock.now(),
                call: Call::Update { unsettled },
            };
            self.remember(&intent);
            case.commit.push(Op::PutIntent(intent));
        }
    }

    /// Folds updates that were found half done into the link, once the CRM's record was read. While it is only missed, they stay in
    /// doubt, and their intent on disk.
    pub(super) fn settle_updates(&self, case: &mut Case<'_>, internal: &InternalState, now: Millis) {
        if !case.settling || !Unsettled::is_told_by(&case.link, &case.external, &case.object.policy) {
            return;
        }
        case.settling = false;
        let settled = case.unsettled.settle(&case.link, internal, &case.external, &case.object.policy, now);
        if settled != case.link {
            // Only now it is known what the write went over; the read that told is from after it all the same.
            let edits = case.unsettled.may_have_overtaken(&case.edits, &case.object.policy);
            let noted = plan::note_edits(&settled, &edits, &case.object.policy, now);
            case.link = Link { committed_at: settled.committed_at, ..noted };
            case.note("settled", "a write had taken effect whose answer or commit was lost", now);
        }
    }

    /// System A's record was deleted by this very connection, and the commit of that was lost: the CRM's deletion was carried over, and
    /// there is none of System A's to carry back. What the CRM has by now came back since; whatever was seen of it is seen anew.
    pub(super) fn settle_deletion(&self, case: &mut Case<'_>, internal: &InternalState) {
        let InternalState::Deleted { version, .. } = internal else { return };
        let is_over = matches!(case.link.life, Life::Tombstone { .. } | Life::Detached { .. });
        if is_over
            || case.link.external.is_none()
            || case.link.internal_version >= Some(*version)
            || case.internal_origin != origin_of(&case.connection.id)
        {
            return;
        }
        let now = self.rooms.clock.now();
        let (write, policy) = (InternalWrite::Delete { expected: *version }, &case.object.policy);
        case.link = plan::after_internal_write(&case.link, &write, *version, &case.external, policy, now);
        case.settling = false;
        if case.external != External::Unseen {
            case.external = External::Touched;
        }
        case.note(
            "settled",
            "the CRM's deletion had been carried over, and the commit of that was lost",
            now,
        );
    }

    /// Whether something was under way for an entity and is not accounted for.
    pub(super) fn is_under_way(&self, entity: &EntityKey, connection: &ConnectionId) -> bool {
        self.unsettled.lock().contains(&(connection.clone(), entity.clone()))
    }

    /// What was under way for an entity and is not accounted for.
    fn unsettled_of(
        &self,
        entity: &EntityKey,
        connection: &ConnectionId,
    ) -> Result<Option<Unsettled>, StoreError> {
        if !self.is_under_way(entity, connection) {
            return Ok(None);
        }
        Ok(match self.rooms.store.intent(entity, connection)?.map(|intent| intent.call) {
            Some(Call::Update { unsettled }) => serde_json::from_slice(&unsettled).ok(),
            _ => None,
        })
    }

    /// Takes up what an earlier try or run left half done: the CRM's record is read before anything is planned.
    /// Some: the record is in somebody's hand.
    pub(super) fn take_up(
        &self,
        case: &mut Case<'_>,
        held: &mut Held<'_>,
    ) -> Result<Option<End>, StoreError> {
        let Some(unsettled) = self.unsettled_of(&case.link.entity, &case.connection.id)? else {
            return Ok(None);
        };
        if case.link.external.is_none()
            && let Some(id) = &unsettled.external
        {
            let external = self.external_key(case, id);
            if !held.hold(Hand::External(external.clone())) {
                return Ok(Some(self.busy()));
            }
            if self.rooms.store.entity_of(&external)?.is_some_and(|other| other != case.link.entity) {
                // A create had met it, and was held up before the two were linked; somebody else has taken it in since.
                case.update_open = true;
                return Ok(None);
            }
            case.link.external = Some(id.clone());
        }
        case.unsettled = unsettled;
        case.update_open = true;
        case.settling = true;
        if !matches!(case.external, External::Whole { source: Source::Read { .. }, .. }) {
            case.external = External::Touched;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_create_that_is_settled_is_not_taken_up_again_from_a_store_that_still_has_it() {
        let entity = EntityKey { scope: "acme".into(), object: "contact".into(), id: "1".into() };
        let place: Place = ("acme-crm".into(), "contact".into());
        let call =
            Call::Create { key: String::new(), identity: Vec::new(), sent: Vec::new(), unknown_since: None };
        let stored = Intent { entity: entity.clone(), connection: place.0.clone(), opened_at: 7, call };
        let mut creates = Creates::default();
        creates.recall(&place, vec![stored.clone()]);
        assert!(creates.has(&place, &entity) && creates.any_since_before(&place, 7));
        let other = EntityKey { id: "2".into(), ..entity.clone() };
        assert!(creates.has_others(&place, &other) && !creates.has_others(&place, &entity));
        assert!(!creates.any_since_before(&place, 6), "nobody waits for a create that came later");
        assert!(creates.any_opened_within(&place, 6, 7) && !creates.any_opened_within(&place, 7, 9));
        creates.close(&place, &entity);
        // The connection is set up anew: its provider was swapped, or its settings were saved.
        creates.recall(&place, vec![stored]);
        assert!(!creates.has(&place, &entity) && !creates.any_since_before(&place, 8));
    }
}
