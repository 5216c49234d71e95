//! New records, without doing it twice: intents, identity, and records that turn out to exist.
//!
//! An intent is on disk before a create is sent. While it is open, unlinked records of that connection and object that were
//! noticed after it wait (bounded), and are then recognised by key, by intent or by reading: our own creation webhook often
//! arrives before the answer. A create whose outcome is not known is looked for, after the CRM's search has settled, before
//! it is sent again.

use std::sync::Arc;

use serde_json::Value;
use tandem_core::Millis;
use tandem_core::document;
use tandem_core::exchange::{Answer, Attribute, Find, Operation, Reference, State};
use tandem_core::id::{EntityKey, ExternalId, ExternalKey, InternalId};
use tandem_core::link::{Fields, Life, Link};
use tandem_core::normalise;
use tandem_core::plan::{self, External, ExternalWrite, ExternalWritten, Internal, Returned, Unsettled};
use tandem_core::policy::ObjectPolicy;

use super::dispatch::Hand;
use super::exchange::{Body, Seen};
use super::inbox::problem;
use super::record::{Case, Held, Next};
use super::settle::End;
use super::{Clock, Connection, Object, Pipeline, PipelineError, Work, internal_id};
use crate::delivery::Deliver;
use crate::internal::Internal as SystemA;
use crate::provider::Runtime;
use crate::store::{Call, Commit, Intent, Op, Store, Subject};

/// A busy hand is asked for again after so many milliseconds.
pub(super) const BUSY_MS: u64 = 25;

/// Nobody waits longer for a hand that is busy, in milliseconds.
const BUSY_LONG_MS: u64 = 1_000;

/// Whether an existing record could be linked.
pub(super) enum Created {
    /// Linked; plan again with what it has.
    Linked,
    /// It belongs to somebody else.
    Taken(End),
}

impl<S: Store, R: Runtime, D: Deliver, I: SystemA, C: Clock> Pipeline<S, R, D, I, C> {
    /// The create may have taken effect: it is looked for once the CRM's search has settled.
    pub(super) async fn unknown_create(
        &self,
        case: &mut Case<'_>,
        now: Millis,
    ) -> Result<End, PipelineError> {
        if let Some(mut intent) = self.rooms.store.intent(&case.link.entity, &case.connection.id)?
            && let Call::Create { unknown_since, .. } = &mut intent.call
        {
            *unknown_since = Some(now);
            case.commit.push(Op::PutIntent(intent));
        }
        case.note("unknown", "the answer to the create was lost; it is looked for", now);
        case.create_open = false;
        let until = now.saturating_add(case.object.abilities.find_settles_after_ms.max(50));
        let commit = self.take_commit(case);
        Ok(End::Later { until, touched: false, commit })
    }

    /// An open intent of an earlier run or try: look for the record before it is made again.
    pub(super) async fn resolve_intent(
        &self,
        case: &mut Case<'_>,
        intent: Intent,
    ) -> Result<Next, PipelineError> {
        let now = self.rooms.clock.now();
        let Call::Create { key: own_key, identity: own_identity, unknown_since, .. } = &intent.call else {
            return Ok(Next::Round);
        };
        let settled = unknown_since
            .unwrap_or(intent.opened_at)
            .saturating_add(case.object.abilities.find_settles_after_ms);
        if now < settled {
            return Ok(Next::End(End::Later { until: settled, touched: false, commit: Commit::new() }));
        }
        let key = case.object.abilities.key.then(|| own_key.clone());
        if key.is_none() && own_identity.is_empty() {
            // There is nothing to find it by. The guarantee for such records is stated in the provider's document.
            case.create_open = true;
            return Ok(Next::Round);
        }
        let identity = own_identity
            .iter()
            .map(|(name, value)| Attribute { name: name.clone(), value: value.clone() })
            .collect();
        let operation = Operation::Find(Find { object: case.link.entity.object.to_string(), key, identity });
        let sent = self.exchange_for(case, None, move |_| Ok(Ok(operation))).await;
        let entity = case.link.entity.clone();
        let concluded = match sent {
            Ok(concluded) => concluded,
            Err(error) => {
                let commit = self.take_commit(case);
                let end = self.failed(case.connection, error, Some(entity), commit)?;
                return Ok(Next::End(case.tell(end, now)));
            }
        };
        let found = match concluded.answer {
            Answer::Found(_) => concluded.seen,
            answer => {
                let commit = self.take_commit(case);
                let end = self.waits(case.connection, answer, Some(entity), commit);
                return Ok(Next::End(case.tell(end, now)));
            }
        };
        case.create_open = true;
        let left = case.stored.as_ref().and_then(|link| link.external.clone());
        for seen in likeliest_first(found, &intent) {
            if left.as_ref() == Some(&seen.id) {
                // It was made in place of this one, which is gone.
                continue;
            }
            let external = self.external_key(case, &seen.id);
            if self.rooms.store.entity_of(&external)?.is_some_and(|other| other != entity) {
                continue;
            }
            self.recognise(case, &intent, &seen);
            case.external = match self.external_of(case, (seen, concluded.began), true) {
                Ok(external) => external,
                Err(end) => return Ok(Next::End(end)),
            };
            return Ok(Next::Round);
        }
        Ok(Next::Round)
    }

    /// A record that an open create may have made. With Tandem's key in it there is no doubt: both sides had what was sent, and
    /// what is there now beside that is a change of the CRM's. Found by its identity it may as well be somebody's own: only where it
    /// has just what was sent have both sides agreed; the rest is compared as between any two records that are linked.
    ///
    /// What it has otherwise than sent, the server may have made of it as well as a person: the answer that would tell was lost.
    fn recognise(&self, case: &mut Case<'_>, intent: &Intent, seen: &Seen) {
        let now = self.rooms.clock.now();
        case.link.external = Some(seen.id.clone());
        case.create_open = true;
        if let Call::Create { key, sent, .. } = &intent.call
            && let Ok(value) = document::parse(sent)
        {
            let fields = document::fields(&value);
            // What was filled in is not System A's. Had it the same value of its own, both sides are found to be equal.
            let mut own = fields.clone();
            own.retain(|pointer, value| case.object.policy.filled.get(pointer) != Some(value));
            let sent = Internal::Present { fields: own, version: 0, changed_at: None };
            if seen.key.as_ref() == Some(key) {
                let answered = ExternalWritten {
                    id: seen.id.clone(),
                    returned: Returned::Nothing,
                    unapplied: std::collections::BTreeSet::new(),
                    version: None,
                    stamp: None,
                    keep: None,
                };
                let write = ExternalWrite::Create { fields };
                let policy = &case.object.policy;
                case.link = plan::after_external_write(&case.link, &write, &sent, &answered, policy, now);
                case.link.own = None;
            } else {
                let changed = fields.keys().cloned().collect();
                let write = ExternalWrite::Update { fields, changed, version: None, stamp: None };
                self.doubt_create(case, &write, &sent);
                if let Body::Whole(row) = &seen.body {
                    // A row may be old: what it has of what was sent is what both sides had then.
                    let then = External::Whole {
                        id: seen.id.clone(),
                        fields: row.clone(),
                        version: None,
                        stamp: None,
                        source: plan::Source::Answer,
                        changed_at: std::collections::BTreeMap::new(),
                    };
                    let policy = &case.object.policy;
                    case.link = case.unsettled.settle(&case.link, &sent, &then, policy, now);
                    case.link.own = None;
                }
            }
        }
        case.note("linked", "the record of an open create was found", now);
    }

    /// A create met a record that was there: on what that one has just as it was sent both sides have agreed, and what System A has
    /// made of it since is an edit.
    pub(super) fn agree_as_sent(&self, case: &mut Case<'_>, write: &ExternalWrite) {
        let ExternalWrite::Create { fields } = write else { return };
        let mut own = fields.clone();
        own.retain(|pointer, value| case.object.policy.filled.get(pointer) != Some(value));
        let changed = fields.keys().cloned().collect();
        let sent = ExternalWrite::Update { fields: fields.clone(), changed, version: None, stamp: None };
        self.doubt_create(case, &sent, &Internal::Present { fields: own, version: 0, changed_at: None });
    }

    /// From now on the create counts as an update that may have been made: its intent becomes that of an update.
    fn doubt_create(&self, case: &mut Case<'_>, write: &ExternalWrite, sent: &Internal) {
        self.close_create(&case.link);
        case.create_open = false;
        case.unsettled = Unsettled { external: case.link.external.clone(), ..Unsettled::default() };
        case.unsettled.note_external(write, sent);
        case.settling = true;
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

    fn external_key(&self, case: &Case<'_>, id: &ExternalId) -> ExternalKey {
        ExternalKey {
            connection: case.connection.id.clone(),
            object: case.link.entity.object.clone(),
            id: id.clone(),
        }
    }

    /// A create met a record of the CRM with the same identity: link it, and plan with what it has.
    pub(super) fn adopt_external(
        &self,
        case: &mut Case<'_>,
        id: ExternalId,
    ) -> Result<Created, PipelineError> {
        let key = self.external_key(case, &id);
        if let Some(other) = self.rooms.store.entity_of(&key)?
            && other != case.link.entity
        {
            self.drop_create(case);
            let problems = vec![problem(
                "identity-taken",
                format!(
                    "the CRM's record {id} has the same identity and is linked to {other}; merge the two or change one"
                ),
            )];
            return Ok(Created::Taken(self.aside(case, "rejected", problems)));
        }
        let now = self.rooms.clock.now();
        case.link.external = Some(id);
        case.note("linked", "the CRM has a record with the same identity", now);
        case.external = External::Touched;
        Ok(Created::Linked)
    }

    /// System A has a record with the same identity: the CRM's record is linked to that one.
    pub(super) async fn adopt_internal(
        &self,
        case: &mut Case<'_>,
        other: InternalId,
        held: &mut Held<'_>,
    ) -> Result<Next, PipelineError> {
        let now = self.rooms.clock.now();
        let Some(external) = case.link.external.clone() else {
            let problems = vec![problem(
                "identity-taken",
                format!("record {other} of system a has the same identity; merge the two or change one"),
            )];
            return Ok(Next::End(self.aside(case, "canonical-in", problems)));
        };
        if !case.link.base.is_empty() || other == case.link.entity.id {
            // An edit in the CRM that takes another record's identity.
            let problems = vec![problem(
                "identity-taken",
                format!("record {other} of system a has the same identity; merge the two or change one"),
            )];
            return Ok(Next::End(self.aside(case, "canonical-in", problems)));
        }
        let entity = EntityKey { id: other, ..case.link.entity.clone() };
        if !self.hold_when_free(held, &Hand::Entity(entity.clone())).await {
            return Ok(Next::End(self.busy()));
        }
        let stored = self.rooms.store.link(&entity, &case.connection.id)?;
        let mut link =
            stored.clone().unwrap_or_else(|| Link::new(entity.clone(), case.connection.id.clone()));
        if link.external.as_ref().is_some_and(|known| *known != external) && link.life == Life::Active {
            let problems = vec![problem(
                "identity-taken",
                format!(
                    "{entity} has the same identity and is linked to another record; merge the two or change one"
                ),
            )];
            return Ok(Next::End(self.aside(case, "canonical-in", problems)));
        }
        let open = self.rooms.store.intent(&entity, &case.connection.id)?;
        if open.as_ref().is_some_and(|open| matches!(open.call, Call::Create { .. }))
            && case.object.abilities.key
        {
            // Whether that create took effect is found out by its key, and by nothing else: there may be two records.
            let until = now.saturating_add(case.object.abilities.find_settles_after_ms.max(BUSY_LONG_MS));
            return Ok(Next::End(End::Later { until, touched: true, commit: Commit::new() }));
        }
        if open.is_some() {
            case.commit.push(Op::DropIntent(entity.clone(), case.connection.id.clone()));
            self.close_create(&link);
        }
        // What was written down was about the record that is not made now.
        self.drop_update(case);
        link.external = Some(external);
        link.keep = case.link.keep.take();
        case.turn_to(link, stored);
        case.note("linked", "system a has a record with the same identity", now);
        Ok(Next::Reread)
    }

    /// A record of the CRM that is not linked: wait for open creates, read it, recognise it or take it in.
    pub(super) async fn work_unlinked(
        &self,
        connection: &Arc<Connection>,
        object: &Object,
        work: &Work,
        key: &ExternalKey,
        held: &mut Held<'_>,
    ) -> Result<End, PipelineError> {
        let now = self.rooms.clock.now();
        if self.rooms.store.entity_of(key)?.is_some() {
            // Linked while it waited: the hand is another one.
            return Ok(End::PutBack { until: now, whole: false });
        }
        let all_gone = work.hints.iter().all(|hint| {
            hint.observed.as_ref().is_some_and(|observed| matches!(observed.state, State::Gone(_)))
        });
        let noticed = work.hints.iter().map(|hint| hint.noticed_at).min().unwrap_or(now);
        if now < noticed.saturating_add(self.limits.intent_patience_ms) && self.awaits_create(key, noticed) {
            return Ok(End::PutBack { until: now.saturating_add(BUSY_MS), whole: false });
        }
        let about = Subject::External(key.id.clone());
        if all_gone && self.rooms.store.dead_about(&connection.id, &key.object, &about)?.is_none() {
            return Ok(End::Done(Commit::new()));
        }
        // Late word of a deletion does not settle what was set aside: the record may have been restored since. It is read.
        if connection.directions.internal_paused() {
            return Ok(End::PutBack { until: now.saturating_add(1_000), whole: false });
        }
        let provisional = EntityKey {
            scope: connection.scope.clone(),
            object: key.object.clone(),
            id: internal_id(&connection.id, &key.object, key.id.as_str(), 0),
        };
        let link = Link::new(provisional.clone(), connection.id.clone());
        let mut case = self.case(connection, object, work, link, None, External::Touched);
        let (seen, began) = match self.read_external(&mut case, &key.id).await? {
            Ok(read) => read,
            Err(end) => return Ok(without_entity(end)),
        };
        let fields = match &seen.body {
            Body::Whole(fields) => fields.clone(),
            Body::Gone(_) => return Ok(End::Done(Commit::new())),
            Body::Moved(reference) => return Ok(self.follow(connection, &case, reference)),
            Body::Invalid { point, problems } => {
                return Ok(End::SetAside {
                    point,
                    problems: problems.clone(),
                    entity: None,
                    commit: Commit::new(),
                });
            }
            Body::Touched | Body::Partial(_) => {
                return Ok(End::SetAside {
                    point: "provider-in",
                    problems: vec![problem("no-document", "a direct read gave no whole document".into())],
                    entity: None,
                    commit: Commit::new(),
                });
            }
        };
        if seen.id != key.id {
            return Ok(self.follow(
                connection,
                &case,
                &Reference { object: key.object.to_string(), id: seen.id.to_string() },
            ));
        }
        let identity = identity_of(&fields, &object.policy);
        let intent = self
            .rooms
            .store
            .intents(&connection.id, &key.object)?
            .into_iter()
            .find(|intent| is_of(intent, &seen, &identity, object.abilities.key));
        for (pointer, value) in &identity {
            let hand =
                Hand::Identity(connection.id.clone(), key.object.clone(), format!("{pointer}={value}"));
            if !self.hold_when_free(held, &hand).await {
                return Ok(self.busy());
            }
        }
        let entity = match &intent {
            Some(intent) => intent.entity.clone(),
            None => self.entity_by_key(connection, key, &seen).await?.unwrap_or(provisional),
        };
        if !self.hold_when_free(held, &Hand::Entity(entity.clone())).await {
            return Ok(self.busy());
        }
        let stored = self.rooms.store.link(&entity, &connection.id)?;
        let link = stored.clone().unwrap_or_else(|| Link::new(entity, connection.id.clone()));
        case.turn_to(link, stored);
        match &intent {
            Some(intent) => {
                self.recognise(&mut case, intent, &seen);
            }
            None => {
                if case.link.external.as_ref().is_some_and(|known| *known != key.id)
                    && case.link.life == Life::Active
                {
                    let problems = vec![problem(
                        "identity-taken",
                        format!(
                            "{} is linked to another record of the CRM; merge the two or change one",
                            case.link.entity
                        ),
                    )];
                    let mut end = self.aside(&mut case, "canonical-in", problems);
                    if let End::SetAside { entity, .. } = &mut end {
                        // It is about this record of the CRM: what becomes of the other one does not settle it.
                        *entity = None;
                    }
                    return Ok(end);
                }
                case.link.external = Some(key.id.clone());
            }
        }
        case.external = match self.external_of(&mut case, (seen, began), true) {
            Ok(external) => external,
            Err(end) => return Ok(end),
        };
        self.take_up(&mut case)?;
        self.rounds(case, held).await
    }

    /// Takes one more hand. False: somebody else had it. Then this waits until it is free, or for a while, and what was read and looked
    /// up before is out of date: the work is put back and looks anew, without asking the CRM over and over meanwhile.
    async fn hold_when_free(&self, held: &mut Held<'_>, hand: &Hand) -> bool {
        if held.hold(hand.clone()) {
            return true;
        }
        let clock = &self.rooms.clock;
        let give_up = clock.now().saturating_add(BUSY_LONG_MS);
        while !held.hold(hand.clone()) && clock.now() < give_up {
            clock.sleep(BUSY_MS).await;
        }
        false
    }

    fn busy(&self) -> End {
        End::PutBack { until: self.rooms.clock.now().saturating_add(BUSY_MS), whole: false }
    }

    /// The record bears the key of one of System A's records.
    async fn entity_by_key(
        &self,
        connection: &Connection,
        key: &ExternalKey,
        seen: &Seen,
    ) -> Result<Option<EntityKey>, PipelineError> {
        let Some(own) = seen.key.as_deref().and_then(|key| key.split('.').next()) else { return Ok(None) };
        let entity = EntityKey {
            scope: connection.scope.clone(),
            object: key.object.clone(),
            id: InternalId::from(own),
        };
        let record = self.rooms.internal.read(&entity.scope, &entity.object, &entity.id).await?;
        Ok(record.map(|_| entity))
    }

    /// Whether a create that may have made this record is under way.
    fn awaits_create(&self, key: &ExternalKey, noticed: Millis) -> bool {
        let open = self.open.lock();
        open.get(&(key.connection.clone(), key.object.clone()))
            .is_some_and(|intents| intents.values().any(|opened| *opened <= noticed))
    }

    /// The record lives on under another id: that one is looked at.
    fn follow(&self, connection: &Connection, case: &Case<'_>, reference: &Reference) -> End {
        let mut commit = Commit::new();
        commit.push(Op::AddHint(self.touched(connection, &case.link.entity.object, &reference.id, "moved")));
        End::Done(commit)
    }
}

/// The entity is provisional: what is set aside is known by its external id only, and nothing is told of a record that may never be.
fn without_entity(mut end: End) -> End {
    match &mut end {
        End::SetAside { entity, commit, .. } => {
            *entity = None;
            commit.ops.retain(|op| !matches!(op, Op::AddHistory(_)));
        }
        End::Again { commit, .. } => commit.ops.retain(|op| !matches!(op, Op::AddHistory(_))),
        End::Done(_) | End::PutBack { .. } | End::Later { .. } => {}
    }
    end
}

/// What was found for an open create, the likeliest first: with its key, then by how much of what was sent it has. Of two records with
/// the same address one may be somebody's own.
fn likeliest_first(mut found: Vec<Seen>, intent: &Intent) -> Vec<Seen> {
    let Call::Create { key, sent, .. } = &intent.call else { return found };
    let sent = document::parse(sent).map(|value| document::fields(&value)).unwrap_or_default();
    // With another key it is the record of another create.
    found.retain(|seen| seen.key.as_ref().is_none_or(|other| other == key));
    found.sort_by_cached_key(|seen| {
        let has = match &seen.body {
            Body::Whole(fields) | Body::Partial(fields) => {
                sent.iter().filter(|(pointer, value)| fields.get(*pointer) == Some(*value)).count()
            }
            _ => 0,
        };
        std::cmp::Reverse((seen.key.is_some(), has))
    });
    found
}

/// Identity fields and their normal forms. Empty values identify nobody.
pub(super) fn identity_of(fields: &Fields, policy: &ObjectPolicy) -> Vec<(String, String)> {
    policy
        .identity
        .iter()
        .filter_map(|pointer| {
            let value = fields.get(pointer)?;
            let normal = match policy.normalise.get(pointer) {
                Some(name) => normalise::normal_form(name, value),
                None => value.clone(),
            };
            match normal {
                Value::String(text) if !text.is_empty() => Some((pointer.clone(), text)),
                Value::Number(number) => Some((pointer.clone(), number.to_string())),
                _ => None,
            }
        })
        .collect()
}

/// Whether a record is the one that an open create made. Where records bear our key (`keyed`), one without is somebody's own.
fn is_of(intent: &Intent, seen: &Seen, identity: &[(String, String)], keyed: bool) -> bool {
    let Call::Create { key: own_key, identity: own_identity, .. } = &intent.call else { return false };
    match &seen.key {
        Some(key) => key == own_key,
        None => !keyed && !own_identity.is_empty() && own_identity.iter().all(|own| identity.contains(own)),
    }
}
