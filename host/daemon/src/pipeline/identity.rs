//! Whom a record belongs to: by its key, by its identity, by what a person decided; and who stands in the way.
//!
//! Nothing is linked where more than one record could be meant, and no link is taken from another record but by a decision: the
//! record waits as a clash instead. What somebody else's open create may have made is waited for, for a while.

use std::collections::{BTreeSet, HashMap, HashSet};

use tandem_core::Millis;
use tandem_core::clash::{Choice, Clash, Kind, Rival, Waits};
use tandem_core::exchange::{Answer, Attribute, Find, Observed, Operation, Proof, State};
use tandem_core::id::{EntityKey, ExternalId, ExternalKey, InternalId};
use tandem_core::link::{Fields, Life, Link, Pair, Side};
use tandem_core::plan::{self, Internal as InternalState};

use super::clash::{clash, rival};
use super::create::{BUSY_LONG_MS, identity_of, is_of};
use super::dispatch::Hand;
use super::exchange::{Body, Seen};
use super::record::{Case, Held, Next};
use super::settle::End;
use super::{Clock, Connection, Pipeline, PipelineError};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::provider::Runtime;
use crate::store::{Call, Intent, Op, Store, StoreError, Subject};

/// The most records of one identity that a question names.
const MOST_NAMESAKES: usize = 16;

/// Where a record's id leads after the moves of one delivery.
fn led_to<'a>(moves: &HashMap<(&'a str, &'a str), &'a str>, object: &'a str, mut id: &'a str) -> &'a str {
    // Not further than there are moves: they might go in a circle.
    for _ in 0..moves.len() {
        let Some(to) = moves.get(&(object, id)) else { break };
        id = to;
    }
    id
}

/// The CRM's records that have an identity.
struct Namesakes {
    /// Those that are not linked to another entity.
    free: Vec<Seen>,
    /// Those that are, with whom.
    taken: Vec<(InternalId, ExternalId)>,
    /// When they were looked for.
    began: Millis,
}

/// Whom an unlinked record of the CRM belongs to.
pub(super) enum Whose {
    /// Nobody: it is new.
    Nobody,
    /// A record of System A, by its key or by its identity.
    One {
        /// The record.
        entity: EntityKey,
        /// It is there; found by the key, it may be deleted.
        live: bool,
        /// It had the same identity when it was found.
        by_identity: bool,
        /// A person said so: it may be linked to another record of the CRM.
        decided: bool,
    },
    /// A person has to decide, or has decided that it is left alone.
    Undecided(End),
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Finds the record of System A that an unlinked record of the CRM belongs to.
    pub(super) async fn whose(
        &self,
        case: &mut Case<'_>,
        key: &ExternalKey,
        seen: &Seen,
        identity: &[(String, String)],
        held: &mut Held<'_>,
    ) -> Result<Whose, PipelineError> {
        let (mut candidates, mut live, mut by_identity) = (Vec::new(), false, false);
        if let Some((entity, is_there)) = self.entity_by_key(case.connection, key, seen).await? {
            candidates.push(entity);
            live = is_there;
        } else if !identity.is_empty() {
            (live, by_identity) = (true, true);
            let found = self.rooms.internal.find(&case.connection.scope, &key.object, identity).await?;
            let entity =
                |id| EntityKey { scope: case.connection.scope.clone(), object: key.object.clone(), id };
            candidates.extend(found.into_iter().map(entity));
        }
        // System A's record that was once made from this one may have another by now: what was deleted, made anew and then put back.
        let made_from_it = &case.link.entity;
        if candidates.is_empty()
            && let Some(link) = self.rooms.store.link(made_from_it, &case.connection.id)?
            && link.life == Life::Active
            && link.external.is_some_and(|other| other != key.id)
        {
            (live, by_identity) = (true, false);
            candidates.push(made_from_it.clone());
        }
        let mut rivals = Vec::new();
        for entity in &candidates {
            let link = self.rooms.store.link(entity, &case.connection.id)?;
            let other = link.filter(|link| link.life == Life::Active).and_then(|link| link.external);
            rivals.push(rival(Some(entity.id.clone()), other.filter(|other| *other != key.id)));
        }
        let kind = match (candidates.as_slice(), rivals.as_slice()) {
            ([], _) => return Ok(Whose::Nobody),
            ([only], [Rival { external: None, .. }]) => {
                if by_identity && let Some(end) = self.has_namesakes(case, only, seen, held).await? {
                    return Ok(Whose::Undecided(end));
                }
                return Ok(Whose::One { entity: only.clone(), live, by_identity, decided: false });
            }
            ([_], _) => Kind::Duplicate,
            _ => Kind::Ambiguous,
        };
        let why = match (kind, rivals.first()) {
            (Kind::Duplicate, Some(one)) => format!("it is one with {one}"),
            _ => {
                let all: Vec<String> = rivals.iter().map(ToString::to_string).collect();
                format!("its identity fields are those of different records: {}", all.join("; "))
            }
        };
        let now = self.rooms.clock.now();
        let waits = Waits::External(key.id.clone());
        let asked = clash(case, waits, kind, identity, rivals, (why, now));
        Ok(match self.decision(&asked)? {
            Some(Choice::Link(id)) => match candidates.into_iter().find(|entity| entity.id.as_str() == id) {
                Some(entity) => Whose::One { entity, live, by_identity: false, decided: true },
                None => Whose::Undecided(self.asks(case, asked)),
            },
            _ => Whose::Undecided(self.asks(case, asked)),
        })
    }

    /// Whether other records of the CRM have the identity of the internal record that an unlinked one would be linked to: then the
    /// question is which of them it is.
    async fn has_namesakes(
        &self,
        case: &mut Case<'_>,
        entity: &EntityKey,
        read: &Seen,
        held: &mut Held<'_>,
    ) -> Result<Option<End>, PipelineError> {
        if case.object.abilities.unique_identity {
            return Ok(None);
        }
        if !self.hold_when_free(held, &Hand::Entity(entity.clone())).await {
            return Ok(Some(self.busy()));
        }
        let (InternalState::Present { fields, .. }, _) = self.read_internal(entity).await? else {
            return Ok(None);
        };
        let identity = identity_of(&fields, &case.object.policy);
        let Namesakes { mut free, taken, .. } =
            match self.namesakes(case, entity, &identity, Some(read)).await? {
                Ok(found) => found,
                Err(end) => return Ok(Some(end)),
            };
        if taken.is_empty() && free.iter().all(|seen| seen.id == read.id) {
            return Ok(None);
        }
        if free.iter().all(|seen| seen.id != read.id) {
            // A search that lags does not show it yet: it is among those of whom it is asked all the same.
            free.push(read.clone());
            free.sort_by(|one, other| one.id.cmp(&other.id));
        }
        let asked = self.which(case, entity, &identity, &free, &taken);
        match self.decision(&asked)? {
            Some(Choice::Link(id)) if id == read.id.as_str() => Ok(None),
            _ => Ok(Some(self.asks(case, asked))),
        }
    }

    /// A record of System A was found by its identity, and has another one by now: somebody has edited it in the meantime, knowing what
    /// both sides had.
    pub(super) async fn note_identity(
        &self,
        case: &mut Case<'_>,
        identity: &[(String, String)],
        there: &Fields,
    ) -> Result<(), PipelineError> {
        let [(pointer, value)] = identity else { return Ok(()) };
        if !case.link.base.is_empty() {
            return Ok(());
        }
        let (InternalState::Present { fields, .. }, _) = self.read_internal(&case.link.entity).await? else {
            return Ok(());
        };
        let is_as_found = identity_of(&fields, &case.object.policy).iter().any(|own| own.1 == *value);
        if let Some(known) = there.get(pointer).filter(|_| !is_as_found) {
            let pair =
                Pair { internal: Some(known.clone()), external: Some(known.clone()), ..Pair::default() };
            case.link.base.insert(pointer.clone(), pair);
        }
        Ok(())
    }

    /// Points the case's link at the CRM's record that it belongs to. A record that it was linked to before is left alone from
    /// now on: a person has decided so.
    pub(super) fn point_at(
        &self,
        case: &mut Case<'_>,
        id: &ExternalId,
        live: bool,
    ) -> Result<(), StoreError> {
        let now = self.rooms.clock.now();
        let before = case.link.external.clone().filter(|before| before != id);
        match (before, case.link.life == Life::Active) {
            (Some(before), true) => {
                let seen: Fields = case
                    .link
                    .base
                    .iter()
                    .filter_map(|(field, pair)| Some((field.clone(), pair.external.clone()?)))
                    .collect();
                let identity = identity_of(&seen, &case.object.policy);
                self.leave_apart(case, before, &identity, id)?;
                case.link = plan::relink(&case.link, id, now);
                case.note("linked", "decided in review", now);
            }
            (_, false) if live => {
                case.link = plan::relink(&case.link, id, now);
                case.note("linked", "the CRM has a record with the same identity", now);
            }
            (Some(_), false) => {
                // The version and the time are those of the other record.
                case.link.external = Some(id.clone());
                case.link.external_version = None;
                case.link.external_stamp = None;
            }
            (None, _) => case.link.external = Some(id.clone()),
        }
        Ok(())
    }

    /// What was decided about a question that is asked again.
    pub(super) fn decision(&self, asked: &Clash) -> Result<Option<Choice>, StoreError> {
        let before = self.clash_about(&asked.connection, &asked.object, &asked.waits)?;
        Ok(before.filter(|before| before.asks_the_same(asked)).and_then(|before| before.decided))
    }

    /// Ends the work with a question.
    pub(super) fn asks(&self, case: &mut Case<'_>, asked: Clash) -> End {
        let (now, what) = (self.rooms.clock.now(), asked.kind.name());
        // Nothing is made before it is decided: whoever waits for an open create waits no longer.
        self.drop_create(case);
        if asked.waits == Waits::Internal(case.link.entity.id.clone()) {
            case.note(what, &asked.why, now);
        }
        End::Clash { clash: Box::new(asked), commit: self.take_commit(case) }
    }

    /// A create met a record of the CRM that is linked to another one: what a person decided, or the question `why`. None: it is linked
    /// to this one now.
    pub(super) fn meets_linked(
        &self,
        case: &mut Case<'_>,
        (id, other): (&ExternalId, &EntityKey),
        fields: &Fields,
        why: String,
        held: &mut Held<'_>,
    ) -> Result<Option<End>, PipelineError> {
        let identity = identity_of(fields, &case.object.policy);
        let rivals = vec![rival(Some(other.id.clone()), Some(id.clone()))];
        let waits = Waits::Internal(case.link.entity.id.clone());
        let now = self.rooms.clock.now();
        let mut asked = clash(case, waits, Kind::Taken, &identity, rivals, (why, now));
        // Another one is not to be had: the CRM knows this one by the key, or takes no second one.
        asked.may_be_new = false;
        match self.decision(&asked)? {
            Some(Choice::Link(_)) => self.take_from(case, (id, other), held),
            _ => Ok(Some(self.asks(case, asked))),
        }
    }

    /// Holds the identity fields that could not be carried over, since another record has their values; the rest flows. False:
    /// none of the changed fields is one.
    pub(super) fn holds_identity(
        &self,
        case: &mut Case<'_>,
        changed: &BTreeSet<String>,
        from: Side,
        internal: &InternalState,
        other: Rival,
    ) -> Result<bool, StoreError> {
        let fields: BTreeSet<String> =
            case.object.policy.identity.iter().filter(|field| changed.contains(*field)).cloned().collect();
        if fields.is_empty() {
            return Ok(false);
        }
        let now = self.rooms.clock.now();
        let why = format!("its identity was changed to that of {other}");
        let policy = &case.object.policy;
        let (link, groups) =
            plan::hold_identity(&case.link, &fields, from, (internal, &case.external), policy, &why, now);
        case.link = link;
        let waits = Waits::Internal(case.link.entity.id.clone());
        let mut asked = clash(case, waits, Kind::Taken, &[], vec![other], (why.clone(), now));
        asked.fields = fields;
        asked.held = groups;
        self.look_once_more(&mut case.commit, case.connection, &asked, case.class)?;
        self.note_clash(&mut case.commit, case.connection, asked)?;
        case.note("held", &why, now);
        Ok(true)
    }

    /// The link is about to point at another record of the CRM. If that one is linked to another entity, this one has lost a
    /// merge: its link is cut, and a person decides, unless it was deleted in System A meanwhile.
    pub(super) fn redirected(
        &self,
        case: &mut Case<'_>,
        next: &Link,
        internal: &InternalState,
        held: &mut Held<'_>,
    ) -> Result<Option<End>, PipelineError> {
        let (Some(from), Some(to)) = (&case.link.external, &next.external) else { return Ok(None) };
        if from == to {
            return Ok(None);
        }
        let now = self.rooms.clock.now();
        let key = self.external_key(case, to);
        // Whoever looks at it as at an unlinked record is let go first.
        if !held.hold(Hand::External(key.clone())) {
            return Ok(Some(self.busy()));
        }
        // A record that is erased takes nobody else's with it, though its link may be gone before it.
        let is_erased = self.is_erased(&key)?;
        let other = self.rooms.store.entity_of(&key)?.filter(|other| *other != case.link.entity);
        let winner = match other {
            _ if is_erased => None,
            Some(other) => match self.rooms.store.link(&other, &case.connection.id)? {
                Some(link) if link.life == Life::Active => Some(other),
                _ => return Ok(None),
            },
            None => return Ok(None),
        };
        if let InternalState::Deleted { version, .. } = internal {
            return Ok(Some(self.bury_loser(case, *version)));
        }
        let waits = Waits::Internal(case.link.entity.id.clone());
        let (why, rivals) = match winner {
            Some(winner) => (
                format!(
                    "its record {from} in the CRM was merged into {to}, which is linked to {}",
                    winner.id
                ),
                vec![rival(Some(winner.id), Some(to.clone()))],
            ),
            None => (
                format!(
                    "its record {from} in the CRM was merged into one that is erased; erase it too if it is the same person"
                ),
                Vec::new(),
            ),
        };
        let asked = clash(case, waits, Kind::Merged, &[], rivals, (why, now));
        case.link = plan::cut(&case.link, now);
        Ok(Some(self.asks(case, asked)))
    }

    /// The loser of a merge was deleted in System A: there is nothing to decide, and the winner is not its record.
    pub(super) fn bury_loser(&self, case: &mut Case<'_>, version: u64) -> End {
        let now = self.rooms.clock.now();
        case.link = plan::bury_merged(&case.link, version, now);
        case.note("merged", "the loser of a merge was deleted in System A", now);
        End::Done(self.take_commit(case))
    }

    /// Leaves out of a delivery what would take the result of a merge for a new record: where one of the merged records is
    /// linked, its link leads there, and what is not linked is not looked at beside it.
    pub(super) fn follow_merges(
        &self,
        connection: &Connection,
        rows: Vec<Observed>,
    ) -> Result<Vec<Observed>, StoreError> {
        let moves: HashMap<(&str, &str), &str> = rows
            .iter()
            .filter_map(|row| match &row.state {
                State::Moved(to) => Some(((row.object.as_str(), row.id.as_str()), to.id.as_str())),
                _ => None,
            })
            .collect();
        if moves.is_empty() {
            return Ok(rows);
        }
        let is_linked = |object: &str, id: &str| {
            let key = ExternalKey { connection: connection.id.clone(), object: object.into(), id: id.into() };
            self.rooms.store.entity_of(&key).map(|entity| entity.is_some())
        };
        let mut led = HashSet::new();
        for (object, id) in moves.keys() {
            if is_linked(object, id)? {
                led.insert((*object, led_to(&moves, object, id)));
            }
        }
        let mut keep = Vec::with_capacity(rows.len());
        for row in &rows {
            let (object, id) = (row.object.as_str(), row.id.as_str());
            let aside = matches!(row.state, State::Moved(_)) || led_to(&moves, object, id) == id;
            let beside = aside && led.contains(&(object, led_to(&moves, object, id)));
            keep.push(!beside || is_linked(object, id)?);
        }
        Ok(rows.into_iter().zip(keep).filter_map(|(row, keep)| keep.then_some(row)).collect())
    }

    /// The CRM takes a second record with the same identity: whoever is there already is looked for before one is made. None: it
    /// may be made.
    pub(super) async fn looks_before_create(
        &self,
        case: &mut Case<'_>,
        fields: &Fields,
        held: &mut Held<'_>,
    ) -> Result<Option<Next>, PipelineError> {
        let identity = identity_of(fields, &case.object.policy);
        if identity.is_empty() {
            return Ok(None);
        }
        let entity = case.link.entity.clone();
        if case.object.abilities.unique_identity {
            // It refuses what is there already. What a person has decided comes before that.
            let about = Waits::Internal(entity.id.clone());
            let known = self.clash_about(&case.connection.id, &entity.object, &about)?;
            if known.is_none_or(|clash| clash.decided.is_none()) {
                return Ok(None);
            }
        }
        let found = match self.namesakes(case, &entity, &identity, None).await? {
            Ok(found) => found,
            Err(end) => return Ok(Some(Next::End(end))),
        };
        let Namesakes { mut free, taken, began } = found;
        if !taken.is_empty() || free.len() > 1 {
            let now = self.rooms.clock.now();
            let asked = self.which(case, &entity, &identity, &free, &taken);
            let id = match self.decision(&asked)? {
                Some(Choice::New) => return Ok(None),
                Some(Choice::Link(id)) => ExternalId::from(id),
                _ => return Ok(Some(Next::End(self.asks(case, asked)))),
            };
            for other in free.iter().filter(|seen| seen.id != id) {
                let Body::Whole(fields) = &other.body else { continue };
                let theirs = identity_of(fields, &case.object.policy);
                self.leave_apart(case, other.id.clone(), &theirs, &id)?;
            }
            if let Some((other, _)) = taken.iter().find(|(_, external)| *external == id) {
                let other = EntityKey { id: other.clone(), ..entity };
                if let Some(end) = self.take_from(case, (&id, &other), held)? {
                    return Ok(Some(Next::End(end)));
                }
                case.link.external = Some(id);
                case.external = plan::External::Touched;
                case.note("linked", "decided in review", now);
                return Ok(Some(Next::Round));
            }
            free.retain(|seen| seen.id == id);
        }
        let Some(seen) = free.pop() else { return Ok(None) };
        self.links_found(case, seen, began, held)
    }

    /// The CRM's records that have one of these identity values, up to [`MOST_NAMESAKES`]. One of them may have been read by now. The
    /// inner error: they cannot be looked for now.
    async fn namesakes(
        &self,
        case: &mut Case<'_>,
        entity: &EntityKey,
        identity: &[(String, String)],
        known: Option<&Seen>,
    ) -> Result<Result<Namesakes, End>, PipelineError> {
        let attributes =
            identity.iter().map(|(name, value)| Attribute { name: name.clone(), value: value.clone() });
        let object = entity.object.to_string();
        let operation = Operation::Find(Find { object, key: None, identity: attributes.collect() });
        let sent = self.exchange_for(case, None, move |_| Ok(Ok(operation))).await;
        let concluded = match sent {
            Ok(concluded) => concluded,
            Err(error) => {
                let commit = self.take_commit(case);
                return Ok(Err(self.failed(case.connection, error, Some(entity.clone()), commit)?));
            }
        };
        let mut all = Namesakes { free: Vec::new(), taken: Vec::new(), began: concluded.began };
        let mut found = match concluded.answer {
            Answer::Found(_) => concluded.seen,
            // A provider that cannot look for anything: what is made twice is found when it shows up.
            Answer::Blocked(block) if block.problem.code == "unsupported" => return Ok(Ok(all)),
            answer => {
                let commit = self.take_commit(case);
                return Ok(Err(self.waits(case.connection, answer, Some(entity.clone()), commit)));
            }
        };
        // In whatever order they are found, it is the same question.
        found.sort_by(|one, other| one.id.cmp(&other.id));
        // A search that lags shows what was just found to be gone.
        let lost = case.stored.as_ref().and_then(|stored| stored.external.clone());
        found.retain(|seen| case.link.external.is_some() || lost.as_ref() != Some(&seen.id));
        let lags = case.object.abilities.find_settles_after_ms > 0;
        let mut missed: Option<Millis> = None;
        for mut seen in found {
            if all.free.len() + all.taken.len() >= MOST_NAMESAKES {
                break;
            }
            let key = self.external_key(case, &seen.id);
            if self.is_erased(&key)? {
                // A search that lags shows it still. Nothing of it is taken over by whoever comes after.
                continue;
            }
            let other = self.rooms.store.entity_of(&key)?.filter(|other| *other != *entity);
            // One that was only named says nothing yet; one that would be linked may be gone since, or another person's, if the search
            // lags: who is linked to what is gone goes with it.
            if let Some(known) = known.filter(|known| known.id == seen.id) {
                seen = known.clone();
            } else if matches!(seen.body, Body::Touched | Body::Partial(_)) || (lags && other.is_none()) {
                let id = seen.id.clone();
                match self.read_external(case, &id).await? {
                    Ok((read, began)) => {
                        if matches!(read.body, Body::Gone(Proof::Unconfirmed)) {
                            missed = missed.max(case.misses(&id, began));
                        }
                        seen = read;
                        // What was found before is no newer for it.
                        all.began = all.began.min(began);
                    }
                    Err(end) => return Ok(Err(end)),
                }
            }
            let Body::Whole(there) = &seen.body else { continue };
            if !identity_of(there, &case.object.policy).iter().any(|one| identity.contains(one)) {
                continue;
            }
            match other {
                Some(other) => {
                    let link = self.rooms.store.link(&other, &case.connection.id)?;
                    if link.is_some_and(|link| link.life == Life::Active) {
                        all.taken.push((other.id, seen.id));
                    }
                }
                None => {
                    let identity = identity_of(there, &case.object.policy);
                    let keyed = case.object.abilities.key;
                    match self.open_create(case, entity, |intent| is_of(intent, &seen, &identity, keyed))? {
                        None => all.free.push(seen),
                        // It was set aside, or does not find it out.
                        Some((other, None)) => all.taken.push((other.id, seen.id)),
                        Some((_, Some(until))) => {
                            let commit = self.take_commit(case);
                            return Ok(Err(End::Later { until, touched: false, commit }));
                        }
                    }
                }
            }
        }
        if let Some(until) = missed {
            // The search shows them: whoever were made beside one of them might be there twice.
            let (missed, commit) = (std::mem::take(&mut case.missed), self.take_commit(case));
            return Ok(Err(End::Missed { missed, until, commit }));
        }
        all.taken.sort();
        Ok(Ok(all))
    }

    /// Another entity than this whose create is open and answers to `is_it`: that one finds out what it has made. Until when to wait for
    /// it, for a while; None: it was set aside, or it takes too long.
    pub(super) fn open_create(
        &self,
        case: &Case<'_>,
        entity: &EntityKey,
        is_it: impl Fn(&Intent) -> bool,
    ) -> Result<Option<(EntityKey, Option<Millis>)>, StoreError> {
        let (connection, object) = (&case.connection.id, &entity.object);
        if !self.has_other_creates(connection, entity) {
            return Ok(None);
        }
        let now = self.rooms.clock.now();
        let settles = case.object.abilities.find_settles_after_ms.max(BUSY_LONG_MS);
        let patience = settles.saturating_add(self.limits.intent_patience_ms);
        let mut over = None;
        let open = self.rooms.store.intents(connection, object)?;
        for intent in open.into_iter().filter(|intent| intent.entity != *entity && is_it(intent)) {
            let since = match &intent.call {
                Call::Create { unknown_since, .. } => unknown_since.unwrap_or(intent.opened_at),
                Call::Update { .. } => intent.opened_at,
            };
            let about = Subject::Internal(intent.entity.id.clone());
            let is_over = now >= since.saturating_add(patience)
                || self.rooms.store.dead_about(connection, object, &about)?.is_some();
            if !is_over {
                return Ok(Some((intent.entity, Some(now.saturating_add(settles)))));
            }
            over.get_or_insert(intent.entity);
        }
        Ok(over.map(|other| (other, None)))
    }

    /// Which of the CRM's records an internal one is.
    fn which(
        &self,
        case: &Case<'_>,
        entity: &EntityKey,
        identity: &[(String, String)],
        free: &[Seen],
        taken: &[(InternalId, ExternalId)],
    ) -> Clash {
        let unlinked = free.iter().map(|seen| rival(None, Some(seen.id.clone())));
        let linked = taken.iter().map(|(internal, id)| rival(Some(internal.clone()), Some(id.clone())));
        let rivals: Vec<Rival> = unlinked.chain(linked).collect();
        let all: Vec<String> = rivals.iter().map(ToString::to_string).collect();
        let why = format!("the CRM has records with the same identity: {}", all.join("; "));
        let kind = if free.is_empty() { Kind::Taken } else { Kind::Ambiguous };
        let (waits, now) = (Waits::Internal(entity.id.clone()), self.rooms.clock.now());
        clash(case, waits, kind, identity, rivals, (why, now))
    }

    /// Links a record of the CRM that was found by identity before one was made.
    fn links_found(
        &self,
        case: &mut Case<'_>,
        seen: Seen,
        began: Millis,
        held: &mut Held<'_>,
    ) -> Result<Option<Next>, PipelineError> {
        let now = self.rooms.clock.now();
        let key = self.external_key(case, &seen.id);
        if !held.hold(Hand::External(key.clone())) {
            // Whoever has it may wait for this record's hand: it comes first, or the two would put each other off for ever, with a call
            // for each time.
            let until = now.saturating_add(BUSY_LONG_MS);
            return Ok(Some(Next::End(End::PutBack { until, whole: false })));
        }
        if self.rooms.store.entity_of(&key)?.is_some_and(|other| other != case.link.entity) {
            // Whoever had it until this moment has linked it since it was found.
            return Ok(Some(Next::End(self.busy())));
        }
        case.link.external = Some(key.id);
        case.note("linked", "the CRM has a record with the same identity", now);
        Ok(Some(match self.external_of(case, (seen, began), true) {
            Ok(external) => {
                case.external = external;
                Next::Round
            }
            Err(end) => Next::End(end),
        }))
    }

    /// Which of several records that were found by identity is the one that a create made whose answer was lost: the one that
    /// has just what was sent. The inner error: it cannot be told.
    pub(super) fn made_by(
        &self,
        case: &mut Case<'_>,
        identity: &[(String, String)],
        sent: &Fields,
        found: Vec<Seen>,
    ) -> Result<Result<Option<Seen>, End>, PipelineError> {
        if found.len() < 2 {
            return Ok(Ok(found.into_iter().next()));
        }
        let has = |seen: &Seen| match &seen.body {
            Body::Whole(fields) => sent.iter().all(|(field, value)| fields.get(field) == Some(value)),
            _ => false,
        };
        if found.iter().filter(|seen| has(seen)).count() == 1 {
            return Ok(Ok(found.into_iter().find(has)));
        }
        let rivals: Vec<Rival> = found.iter().map(|seen| rival(None, Some(seen.id.clone()))).collect();
        let why = "it was created and the answer was lost; the CRM has several records with its identity"
            .to_owned();
        let waits = Waits::Internal(case.link.entity.id.clone());
        let asked = clash(case, waits, Kind::Ambiguous, identity, rivals, (why, self.rooms.clock.now()));
        Ok(match self.decision(&asked)? {
            Some(Choice::New) => Ok(None),
            Some(Choice::Link(id)) => Ok(found.into_iter().find(|seen| seen.id.as_str() == id)),
            _ => {
                case.create_open = true;
                Err(self.asks(case, asked))
            }
        })
    }

    /// The internal record that a link's record in the CRM turned out to be is linked to another one there. None: a person has
    /// decided that this is the right one.
    pub(super) fn meets_duplicate(
        &self,
        case: &mut Case<'_>,
        external: &ExternalId,
        other: &Link,
        identity: &[(String, String)],
    ) -> Result<Option<End>, PipelineError> {
        let now = self.rooms.clock.now();
        let id: InternalId = other.entity.id.clone();
        let rivals = vec![rival(Some(id), other.external.clone())];
        let why = rivals.first().map_or_else(String::new, |one| format!("it is one with {one}"));
        let waits = Waits::External(external.clone());
        let asked = clash(case, waits, Kind::Duplicate, identity, rivals, (why, now));
        if matches!(self.decision(&asked)?, Some(Choice::Link(_))) {
            return Ok(None);
        }
        // The link is as it was before this look: nothing came of it.
        let link = case
            .stored
            .clone()
            .unwrap_or_else(|| Link::new(case.link.entity.clone(), case.link.connection.clone()));
        case.link = link;
        Ok(Some(self.asks(case, asked)))
    }

    /// The record of the CRM leaves the link that remembered it: another entity has it now, with the key that it was made by and with what
    /// both sides agreed on.
    pub(super) fn forget_external(
        &self,
        case: &mut Case<'_>,
        entity: &EntityKey,
        external: &ExternalId,
    ) -> Result<(), StoreError> {
        if let Some(link) = self.rooms.store.link(entity, &case.connection.id)?
            && link.external.as_ref() == Some(external)
        {
            case.commit.push(Op::PutLink(plan::renew(&link, self.rooms.clock.now())));
        }
        Ok(())
    }
}
