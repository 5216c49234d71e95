//! New records, without doing it twice: intents, identity, and records that turn out to exist.
//!
//! An intent is on disk before a create is sent. While it is open, unlinked records of that connection and object that were
//! noticed after it wait (bounded), and are then recognised by key, by intent or by reading: our own creation webhook often
//! arrives before the answer. A create whose outcome is not known is looked for, after the CRM's search has settled, before
//! it is sent again.

use std::sync::Arc;

use tandem_core::Millis;
use tandem_core::clash::Waits;
use tandem_core::document;
use tandem_core::exchange::{Answer, Attribute, Find, Operation, Proof, Reference, State};
use tandem_core::id::{EntityKey, ExternalId, ExternalKey, InternalId};
use tandem_core::link::{Fields, Life, Link, Side};
pub(super) use tandem_core::matching::identity_of;
use tandem_core::plan::{
    self, External, ExternalWrite, ExternalWritten, Internal, InternalWrite, Returned, Unsettled,
};

use super::again::is_from_before_its_end;
use super::clash::rival;
use super::dispatch::Hand;
use super::exchange::{Body, Seen};
use super::identity::Whose;
use super::inbox::problem;
use super::intent::place_of;
use super::record::{Case, Held, Next, paused};
use super::settle::End;
use super::{Clock, Connection, Object, Pipeline, PipelineError, Work, internal_id};
use crate::delivery::Deliver;
use crate::internal::Internal as SystemA;
use crate::provider::Runtime;
use crate::store::{Call, Commit, Intent, Op, Store, StoreError, Subject};

/// A busy hand is asked for again after so many milliseconds.
pub(super) const BUSY_MS: u64 = 25;

/// Nobody waits longer for a hand that is busy, in milliseconds.
pub(super) const BUSY_LONG_MS: u64 = 1_000;

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
        held: &mut Held<'_>,
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
        let left = case.stored.as_ref().and_then(|link| link.external.clone());
        let mut free = Vec::with_capacity(found.len());
        let mut taken = None;
        for seen in found {
            // One was left because it is gone; one with another key is the record of another create.
            if left.as_ref() == Some(&seen.id) || seen.key.as_ref().is_some_and(|key| key != own_key) {
                continue;
            }
            let external = self.external_key(case, &seen.id);
            if self.is_erased(&external)? {
                continue;
            }
            let other = self.rooms.store.entity_of(&external)?.filter(|other| *other != entity);
            match other {
                Some(other) if seen.key.as_ref() == Some(own_key) => {
                    if !matches!(self.read_internal(&entity).await?.0, Internal::Present { .. }) {
                        // It is to be made no more: there is nothing to ask.
                        case.create_open = true;
                        return Ok(Next::Round);
                    }
                    // It is known by our key, and somebody else was linked to it meanwhile: made once more it would be written over. The
                    // intent stays, so that each later look comes here first, and nobody waits for it.
                    self.close_create(&case.link);
                    let why = format!(
                        "the CRM's record {} was made for it, and is linked to {}",
                        seen.id, other.id
                    );
                    let sent = sent_by(&intent);
                    if let Some(end) = self.meets_linked(case, (&seen.id, &other), &sent, why, held)? {
                        return Ok(Next::End(end));
                    }
                    taken = Some(other);
                    free.push(seen);
                }
                Some(_) => {}
                None => free.push(seen),
            }
        }
        if let Some(own) = free.iter().position(|seen| seen.key.as_ref() == Some(own_key)) {
            free = vec![free.swap_remove(own)];
        }
        let sent = sent_by(&intent);
        let made = match self.made_by(case, own_identity, &sent, free)? {
            Ok(made) => made,
            Err(end) => return Ok(Next::End(end)),
        };
        if let Some(seen) = &made {
            let key = self.external_key(case, &seen.id);
            if !held.hold(Hand::External(key.clone())) {
                // Somebody looks whose it is, and may find this very create: nobody waits for the other one.
                let until = now.saturating_add(BUSY_LONG_MS);
                return Ok(Next::End(End::PutBack { until, whole: false }));
            }
            if self.rooms.store.entity_of(&key)?.is_some_and(|other| other != entity && Some(other) != taken)
            {
                return Ok(Next::End(self.busy()));
            }
        }
        case.create_open = true;
        if let Some(seen) = made {
            self.recognise(case, &intent, &seen);
            if case.object.abilities.find_settles_after_ms > 0 {
                // A search that lags tells that it is there, and not how it is: somebody may have edited it since.
                case.external = External::Touched;
                return Ok(Next::Round);
            }
            case.external = match self.external_of(case, (seen, concluded.began), true) {
                Ok(external) => external,
                Err(end) => return Ok(Next::End(end)),
            };
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
        let fields = sent_by(intent);
        if let Call::Create { key, .. } = &intent.call
            && !fields.is_empty()
        {
            if seen.key.as_ref() == Some(key) {
                had_what_was_sent(case, seen.id.clone(), fields, now);
            } else {
                let sent = own_of(case, &fields);
                self.doubt_create(case, &fields, &sent);
                if let Body::Whole(row) = &seen.body {
                    // A row may be old: what it has of what was sent is what both sides had then.
                    let then = External::Whole {
                        id: seen.id.clone(),
                        fields: row.clone(),
                        version: None,
                        stamp: None,
                        source: plan::Source::Answer,
                        changed_at: std::collections::BTreeMap::new(),
                        by_other: false,
                    };
                    let policy = &case.object.policy;
                    case.link = case.unsettled.settle(&case.link, &sent, &then, policy, now);
                    case.link.own = None;
                }
            }
        }
        case.note("linked", "the record of an open create was found", now);
    }

    /// The record of an open create is known, and what was to follow it was cut off: the answer was lost, or the daemon died. Both sides
    /// had what was sent; the CRM's record is read, since what came after is not known. False: it is not.
    pub(super) fn was_made(&self, case: &mut Case<'_>, intent: &Intent) -> bool {
        let Some(id) = case.link.external.clone() else { return false };
        let fields = sent_by(intent);
        if fields.is_empty() {
            return true;
        }
        let now = self.rooms.clock.now();
        had_what_was_sent(case, id, fields, now);
        case.create_open = true;
        if !matches!(case.external, External::Whole { source: plan::Source::Read { .. }, .. }) {
            case.external = External::Touched;
        }
        case.note("linked", "its record was made, and what was to follow was cut off", now);
        true
    }

    /// A create met a record that was there: on what that one has just as it was sent both sides have agreed, and what System A has
    /// made of it since is an edit.
    pub(super) fn agree_as_sent(&self, case: &mut Case<'_>, write: &ExternalWrite) {
        let ExternalWrite::Create { fields } = write else { return };
        let sent = own_of(case, fields);
        self.doubt_create(case, fields, &sent);
    }

    /// From now on the create counts as an update that may have been made: its intent becomes that of an update.
    fn doubt_create(&self, case: &mut Case<'_>, fields: &Fields, sent: &Internal) {
        let changed = fields.keys().cloned().collect();
        let write = ExternalWrite::Update { fields: fields.clone(), changed, version: None, stamp: None };
        self.close_create(&case.link);
        case.create_open = false;
        case.unsettled = Unsettled { external: case.link.external.clone(), ..Unsettled::default() };
        case.unsettled.note_external(&write, sent);
        case.settling = true;
        self.open_update(case);
    }

    pub(super) fn external_key(&self, case: &Case<'_>, id: &ExternalId) -> ExternalKey {
        ExternalKey {
            connection: case.connection.id.clone(),
            object: case.link.entity.object.clone(),
            id: id.clone(),
        }
    }

    /// A create of these fields met a record of the CRM with the same identity: link it, and plan with what it has. Nobody else takes it
    /// in meanwhile.
    pub(super) fn adopt_external(
        &self,
        case: &mut Case<'_>,
        id: ExternalId,
        fields: &Fields,
        held: &mut Held<'_>,
    ) -> Result<Created, PipelineError> {
        let now = self.rooms.clock.now();
        let key = self.external_key(case, &id);
        if !held.hold(Hand::External(key.clone())) {
            // Whoever has it may wait for this record's hand, and comes first.
            self.drop_create(case);
            let until = now.saturating_add(BUSY_LONG_MS);
            let commit = self.take_commit(case);
            return Ok(Created::Taken(End::Later { until, touched: false, commit }));
        }
        if self.is_erased(&key)? {
            // It goes in a moment, or somebody has brought it back, and it is left alone: nothing of it is taken over.
            self.drop_create(case);
            let what = "the CRM has a record with the same identity that is erased, or was brought back after that: delete it there";
            return Ok(Created::Taken(End::Again {
                problem: problem("erased", what.to_owned()),
                point: "rejected",
                not_before: now,
                touched: false,
                commit: self.take_commit(case),
            }));
        }
        match self.rooms.store.entity_of(&key)? {
            Some(other) if other != case.link.entity => {
                self.drop_create(case);
                let why =
                    format!("the CRM's record {id} has the same identity and is linked to {}", other.id);
                if let Some(end) = self.meets_linked(case, (&id, &other), fields, why, held)? {
                    return Ok(Created::Taken(end));
                }
            }
            Some(_) => {}
            None => {
                let (entity, identity) = (case.link.entity.clone(), identity_of(fields, &case.object.policy));
                let shares = |intent: &Intent| shares_identity(intent, &identity);
                // It may be what that one has made, which finds out: nothing is known of the record but its id.
                match self.open_create(case, &entity, shares)? {
                    None => {}
                    Some((_, Some(until))) => {
                        self.drop_create(case);
                        let commit = self.take_commit(case);
                        return Ok(Created::Taken(End::Later { until, touched: false, commit }));
                    }
                    Some((other, None)) => {
                        self.drop_create(case);
                        let why = format!("the CRM's record {id} may be what was made for {}", other.id);
                        if let Some(end) = self.meets_linked(case, (&id, &other), fields, why, held)? {
                            return Ok(Created::Taken(end));
                        }
                    }
                }
            }
        }
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
        write: &InternalWrite,
        internal: &Internal,
    ) -> Result<Next, PipelineError> {
        let now = self.rooms.clock.now();
        if let InternalWrite::Update { changed, .. } = write {
            // An edit in the CRM that takes another record's identity.
            let entity = EntityKey { id: other.clone(), ..case.link.entity.clone() };
            let linked = self.rooms.store.link(&entity, &case.connection.id)?.and_then(|link| link.external);
            let by = rival(Some(other.clone()), linked);
            if self.holds_identity(case, changed, Side::External, internal, by)? {
                return Ok(Next::Reread);
            }
        }
        let (Some(external), InternalWrite::Create { fields }) = (case.link.external.clone(), write) else {
            let problems = vec![problem(
                "identity-taken",
                format!("record {other} of system a has the same identity; merge the two or change one"),
            )];
            return Ok(Next::End(self.aside(case, "canonical-in", problems)));
        };
        let before = case.link.entity.clone();
        if other == before.id {
            return Ok(Next::Reread);
        }
        let entity = EntityKey { id: other, ..before.clone() };
        if !self.hold_when_free(held, &Hand::Entity(entity.clone())).await {
            return Ok(Next::End(self.busy()));
        }
        let stored = self.rooms.store.link(&entity, &case.connection.id)?;
        let link = stored.clone().unwrap_or_else(|| Link::new(entity.clone(), case.connection.id.clone()));
        let elsewhere = link.external.as_ref().is_some_and(|known| *known != external);
        if elsewhere && link.life == Life::Active {
            if self.rooms.store.entity_of(&self.external_key(case, &external))?.is_none() {
                // It came up this moment: the next look finds whose record it is before anything is made.
                return Ok(Next::End(End::PutBack { until: now.saturating_add(BUSY_MS), whole: false }));
            }
            let identity = identity_of(fields, &case.object.policy);
            if let Some(end) = self.meets_duplicate(case, &external, &link, &identity)? {
                return Ok(Next::End(end));
            }
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
        if before != entity {
            self.forget_external(case, &before, &external)?;
        }
        let keep = case.link.keep.take();
        case.turn_to(link, stored);
        self.point_at(case, &external, true)?;
        case.link.keep = keep;
        case.peers = self.peers(case)?;
        case.connection.directions.note(&case.link.entity);
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
        if self.is_erased(key)? {
            return Ok(End::Done(Commit::new()));
        }
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
        let provisional = EntityKey {
            scope: connection.scope.clone(),
            object: key.object.clone(),
            id: internal_id(&connection.id, &key.object, key.id.as_str(), 0),
        };
        let (set_aside, asked) = (Subject::External(key.id.clone()), Waits::External(key.id.clone()));
        if all_gone
            && self.rooms.store.dead_about(&connection.id, &key.object, &set_aside)?.is_none()
            && self.clash_about(&connection.id, &key.object, &asked)?.is_none()
            && !self.is_left(&provisional, connection).await?
        {
            return Ok(End::Done(Commit::new()));
        }
        // Late word of a deletion settles neither what was set aside nor a question: the record may have been restored since. It is
        // read.
        if connection.directions.internal_paused() {
            return Ok(paused(now));
        }
        let link = Link::new(provisional.clone(), connection.id.clone());
        let mut case = self.case(connection, object, work, link, None, External::Touched);
        let (seen, began) = match self.read_external(&mut case, &key.id).await? {
            Ok(read) => read,
            Err(end) => return Ok(without_entity(end)),
        };
        let fields = match &seen.body {
            Body::Whole(fields) => fields.clone(),
            Body::Gone(proof) => {
                if self.rooms.store.entity_of(key)?.is_some() {
                    // Linked while it was read.
                    return Ok(self.busy());
                }
                if *proof == Proof::Unconfirmed
                    && let Some(until) = case.misses(&key.id, began)
                {
                    // Nothing else may ever tell of it again.
                    let (missed, commit) = (std::mem::take(&mut case.missed), Commit::new());
                    return Ok(End::Missed { missed, until, commit });
                }
                if !self.is_left(&provisional, connection).await? {
                    return Ok(End::Done(Commit::new()));
                }
                if !self.hold_when_free(held, &Hand::Entity(provisional.clone())).await
                    || self.rooms.store.link(&provisional, &connection.id)?.is_some()
                {
                    return Ok(self.busy());
                }
                self.point_at(&mut case, &key.id, true)?;
                if let Some(end) = self.take_up(&mut case, held)? {
                    return Ok(end);
                }
                return self.rounds(case, held).await;
            }
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
        if is_from_before_its_end(work, seen.stamp)
            && let Some(until) = case.misses(&key.id, began)
        {
            // A replica that lags, or it was restored: the later look tells.
            let (missed, commit) = (std::mem::take(&mut case.missed), Commit::new());
            return Ok(End::Missed { missed, until, commit });
        }
        let identity = identity_of(&fields, &object.policy);
        let mut intent = None;
        for open in self.rooms.store.intents(&connection.id, &key.object)? {
            if is_of(&open, &seen, &identity, object.abilities.key)
                && !self.is_elsewhere(&open.entity, key)?
            {
                intent = Some(open);
                break;
            }
        }
        for (pointer, value) in &identity {
            let hand =
                Hand::Identity(connection.id.clone(), key.object.clone(), format!("{pointer}={value}"));
            if !self.hold_when_free(held, &hand).await {
                return Ok(self.busy());
            }
        }
        let (entity, live, by_identity, decided) = match &intent {
            Some(intent) => (intent.entity.clone(), true, false, false),
            None => match self.whose(&mut case, key, &seen, &identity, held).await? {
                Whose::Nobody => (provisional, false, false, false),
                Whose::One { entity, live, by_identity, decided } => (entity, live, by_identity, decided),
                Whose::Undecided(end) => return Ok(end),
            },
        };
        if !self.hold_when_free(held, &Hand::Entity(entity.clone())).await {
            return Ok(self.busy());
        }
        if self.rooms.store.entity_of(key)?.is_some_and(|linked| linked != entity) {
            // It was linked while it was read and looked up: whose it is was answered without that.
            return Ok(self.busy());
        }
        let stored = self.rooms.store.link(&entity, &connection.id)?;
        if !decided && self.is_elsewhere(&entity, key)? {
            // So was the entity.
            return Ok(self.busy());
        }
        let link = stored.clone().unwrap_or_else(|| Link::new(entity, connection.id.clone()));
        case.turn_to(link, stored);
        match &intent {
            Some(intent) => {
                self.recognise(&mut case, intent, &seen);
            }
            None => {
                // What was about to be made is there.
                case.create_open = self.is_being_made(&case.link);
                self.point_at(&mut case, &key.id, live)?;
                if by_identity {
                    self.note_identity(&mut case, &identity, &fields).await?;
                }
            }
        }
        case.external = match self.external_of(&mut case, (seen, began), true) {
            Ok(external) => external,
            Err(end) => return Ok(end),
        };
        if let Some(end) = self.take_up(&mut case, held)? {
            return Ok(end);
        }
        self.rounds(case, held).await
    }

    /// Whether an entity is linked to another record of the CRM than this one.
    fn is_elsewhere(&self, entity: &EntityKey, key: &ExternalKey) -> Result<bool, StoreError> {
        let link = self.rooms.store.link(entity, &key.connection)?;
        let external = link.filter(|link| link.life == Life::Active).and_then(|link| link.external);
        Ok(external.is_some_and(|external| external != key.id))
    }

    /// Whether System A has a record that was made of a CRM's one, and the daemon died before the link was kept. When the CRM's goes
    /// meanwhile, nothing else would ever tell of it.
    async fn is_left(&self, made: &EntityKey, connection: &Connection) -> Result<bool, PipelineError> {
        if self.rooms.store.link(made, &connection.id)?.is_some() {
            return Ok(false);
        }
        let record = self.rooms.internal.read(&made.scope, &made.object, &made.id).await?;
        Ok(record.is_some_and(|record| record.document.is_some()))
    }

    /// Takes one more hand. False: somebody else had it. Then this waits until it is free, or for a while, and what was read and looked
    /// up before is out of date: the work is put back and looks anew, without asking the CRM over and over meanwhile.
    pub(super) async fn hold_when_free(&self, held: &mut Held<'_>, hand: &Hand) -> bool {
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

    pub(super) fn busy(&self) -> End {
        End::PutBack { until: self.rooms.clock.now().saturating_add(BUSY_MS), whole: false }
    }

    /// The record bears the key of one of System A's records. Whether that one is there, or was deleted.
    pub(super) async fn entity_by_key(
        &self,
        connection: &Connection,
        key: &ExternalKey,
        seen: &Seen,
    ) -> Result<Option<(EntityKey, bool)>, PipelineError> {
        let Some(own) = seen.key.as_deref().and_then(|key| key.split('.').next()) else { return Ok(None) };
        let entity = EntityKey {
            scope: connection.scope.clone(),
            object: key.object.clone(),
            id: InternalId::from(own),
        };
        let record = self.rooms.internal.read(&entity.scope, &entity.object, &entity.id).await?;
        Ok(record.map(|record| (entity, record.document.is_some())))
    }

    /// Whether a create that may have made this record is under way.
    fn awaits_create(&self, key: &ExternalKey, noticed: Millis) -> bool {
        self.creates.lock().any_since_before(&(key.connection.clone(), key.object.clone()), noticed)
    }

    /// Whether a create of this record is under way, or its outcome is not known.
    fn is_being_made(&self, link: &Link) -> bool {
        self.creates.lock().has(&place_of(link), &link.entity)
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
        End::Again { commit, .. } | End::Clash { commit, .. } | End::Missed { commit, .. } => {
            commit.ops.retain(|op| !matches!(op, Op::AddHistory(_)));
        }
        End::Done(_) | End::PutBack { .. } | End::Later { .. } => {}
    }
    end
}

/// The fields that an open create sends.
fn sent_by(intent: &Intent) -> Fields {
    match &intent.call {
        Call::Create { sent, .. } => document::parse(sent).map(document::into_fields).unwrap_or_default(),
        Call::Update { .. } => Fields::new(),
    }
}

/// A create took effect, and its answer is not known: both sides had what was sent.
fn had_what_was_sent(case: &mut Case<'_>, id: ExternalId, fields: Fields, now: Millis) {
    let sent = own_of(case, &fields);
    let answered = ExternalWritten {
        id,
        returned: Returned::Nothing,
        unapplied: std::collections::BTreeSet::new(),
        version: None,
        stamp: None,
        keep: None,
    };
    let write = ExternalWrite::Create { fields };
    case.link = plan::after_external_write(&case.link, &write, &sent, &answered, &case.object.policy, now);
    case.link.own = None;
}

/// What System A had of what a create sends. What was filled in is not its own; had it the same value, both sides are found to be
/// equal.
fn own_of(case: &Case<'_>, fields: &Fields) -> Internal {
    let mut own = fields.clone();
    own.retain(|pointer, value| case.object.policy.filled.get(pointer) != Some(value));
    Internal::Present { fields: own, version: 0, changed_at: None }
}

/// Whether an open create sends one of these identity values.
fn shares_identity(intent: &Intent, identity: &[(String, String)]) -> bool {
    matches!(&intent.call, Call::Create { identity: own, .. } if own.iter().any(|one| identity.contains(one)))
}

/// Whether a record is the one that an open create made. Where records bear our key (`keyed`), one without is somebody's own.
pub(super) fn is_of(intent: &Intent, seen: &Seen, identity: &[(String, String)], keyed: bool) -> bool {
    let Call::Create { key: own_key, identity: own_identity, .. } = &intent.call else { return false };
    match &seen.key {
        Some(key) => key == own_key,
        None => !keyed && !own_identity.is_empty() && own_identity.iter().all(|own| identity.contains(own)),
    }
}
