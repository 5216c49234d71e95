//! What a person decides about a clash, and the work that carries it out.
//!
//! A decision is written beside the question, and the record is looked at again. That look asks the same question and finds it decided; where
//! it would not ask any more (nothing is made in the CRM, the record is the loser of a merge), the decision is carried out here. A
//! decision is about the records that were shown: where one of them is somebody else by now, nothing is done by it.

use tandem_core::clash::{Choice, ChoiceError, Clash, Kind, Waits};
use tandem_core::id::{EntityKey, ExternalId, ExternalKey, ObjectName};
use tandem_core::link::{Life, Link};
use tandem_core::matching::identity_digest;
use tandem_core::plan::{self, External, Internal as InternalState};

use super::super::create::{BUSY_LONG_MS, BUSY_MS, identity_of};
use super::super::dispatch::Hand;
use super::super::record::{Case, Held, paused};
use super::super::settle::End;
use super::super::{Clock, Connection, Pipeline, PipelineError, Work, origin_of};
use super::{RIVAL, clash, rival};
use crate::delivery::Deliver;
use crate::internal::{Expected, Internal, Outcome, Write};
use crate::provider::Runtime;
use crate::store::{Class, Commit, HistoryEntry, Moved, Op, Store, StoreError, Until};

/// Why a decision was not taken.
#[derive(Debug, thiserror::Error)]
pub enum DecideClashError {
    /// There is no such question.
    #[error("{0} does not wait for a decision; `tandem review list` lists what does")]
    Unknown(String),
    /// Somebody works on the record.
    #[error("{0} is in work; ask again")]
    Busy(String),
    /// The question has other choices.
    #[error(transparent)]
    Unfit(#[from] ChoiceError),
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Takes a decision. The record is looked at again, and that look carries it out.
    ///
    /// # Errors
    /// There is nothing to decide, or not so.
    pub async fn decide_clash(
        &self,
        connection: &Connection,
        object: &ObjectName,
        waits: &Waits,
        choice: Choice,
    ) -> Result<(), DecideClashError> {
        let unknown = || DecideClashError::Unknown(format!("{object} {}", waits.id()));
        let stored = |pipeline: &Self| pipeline.clash_about(&connection.id, object, waits);
        if stored(self)?.is_none() {
            return Err(unknown());
        }
        let hand = match waits {
            Waits::Internal(id) => Hand::Entity(EntityKey {
                scope: connection.scope.clone(),
                object: object.clone(),
                id: id.clone(),
            }),
            Waits::External(id) => {
                let key =
                    ExternalKey { connection: connection.id.clone(), object: object.clone(), id: id.clone() };
                self.rooms.store.entity_of(&key)?.map_or(Hand::External(key), Hand::Entity)
            }
        };
        let grip = self.hold(hand).await.ok_or_else(|| DecideClashError::Busy(waits.id().to_owned()))?;
        // Whoever had the record in hand may have settled it.
        let mut clash = stored(self)?.ok_or_else(unknown)?;
        clash.check(&choice)?;
        clash.decided = Some(choice.clone());
        let mut commit = Commit::new();
        self.note_clash(&mut commit, connection, clash)?;
        let mut hints = vec![self.look_again_hint(connection, object, waits, "review", Class::Interactive)];
        let is_made = connection.objects.get(object).is_none_or(|object| object.policy.create_external);
        if let (Waits::Internal(_), Choice::Link(id), false) = (waits, &choice, is_made) {
            // No record of System A's is made in the CRM, or looks for another one there: where that one is free, its own work finds the two.
            let other = Waits::External(ExternalId::from(id.as_str()));
            hints.push(self.look_again_hint(connection, object, &other, "review", Class::Interactive));
        }
        for hint in &hints {
            commit.push(Op::AddHint(hint.clone()));
        }
        self.rooms.store.commit(commit, Until::Durable).await?;
        drop(grip);
        self.arrive(hints);
        Ok(())
    }

    /// A linked record, or one of System A, about which there is a clash. The inner end: there is nothing else to do.
    pub(in crate::pipeline) async fn work_clash(
        &self,
        case: &mut Case<'_>,
        work: &Work,
        held: &mut Held<'_>,
    ) -> Result<Option<End>, PipelineError> {
        let entity = case.link.entity.clone();
        let about = Waits::Internal(entity.id.clone());
        let Some(mut clash) = self.clash_about(&case.connection.id, &entity.object, &about)? else {
            return Ok(None);
        };
        let now = self.rooms.clock.now();
        let woken = work.hints.iter().any(|hint| hint.cause == RIVAL);
        if clash.kind == Kind::Merged {
            return self.work_merged(case, clash).await;
        }
        if !clash.held.is_empty() {
            if woken {
                case.link = plan::release_identity(&case.link, &clash.held, now);
                case.external = External::Touched;
            }
            return Ok(None);
        }
        let is_free = case.link.external.is_none() && case.link.life == Life::Active;
        if let Some(Choice::Link(id)) = &clash.decided
            && is_free
            && !case.object.policy.create_external
        {
            let id = ExternalId::from(id.as_str());
            return self.work_decided_link(case, &clash, id, held).await;
        }
        if clash.decided == Some(Choice::Apart) && !woken && case.link.external.is_none() {
            // Nothing is asked of the CRM for a record that is left alone, unless it is known by something else now.
            let (InternalState::Present { fields, .. }, _) = self.read_internal(&entity).await? else {
                return Ok(None);
            };
            if identity_digest(&identity_of(&fields, &case.object.policy)) == clash.identity {
                clash.seen = now;
                return Ok(Some(End::Clash { clash: Box::new(clash), commit: self.take_commit(case) }));
            }
        }
        Ok(None)
    }

    /// A record of System A that a person has decided to be one of the CRM's which another entity has, where nothing is made in the CRM:
    /// no create meets that one, so it is taken here. One that is linked to nobody is linked by its own work.
    async fn work_decided_link(
        &self,
        case: &mut Case<'_>,
        clash: &Clash,
        id: ExternalId,
        held: &mut Held<'_>,
    ) -> Result<Option<End>, PipelineError> {
        let key = self.external_key(case, &id);
        let is_rival =
            |owner: &EntityKey| clash.rivals.contains(&rival(Some(owner.id.clone()), Some(id.clone())));
        let Some(other) = self.rooms.store.entity_of(&key)?.filter(is_rival) else { return Ok(None) };
        let (InternalState::Present { fields, .. }, _) = self.read_internal(&case.link.entity).await? else {
            return Ok(None);
        };
        let identity = identity_of(&fields, &case.object.policy);
        if identity_digest(&identity) != clash.identity {
            // It is somebody else by now than the person has decided about.
            return Ok(None);
        }
        if let Some(end) = self.take_from(case, (&id, &other), held)? {
            return Ok(Some(end));
        }
        for rival in clash.rivals.iter().filter(|rival| rival.internal.is_none()) {
            if let Some(left) = rival.external.clone().filter(|left| *left != id) {
                self.leave_apart(case, left, &identity, &id)?;
            }
        }
        case.link.external = Some(id);
        case.external = External::Touched;
        case.note("linked", "decided in review", self.rooms.clock.now());
        Ok(None)
    }

    /// A record of System A whose record in the CRM was merged into that of another one.
    async fn work_merged(&self, case: &mut Case<'_>, mut clash: Clash) -> Result<Option<End>, PipelineError> {
        let now = self.rooms.clock.now();
        let entity = case.link.entity.clone();
        let version = match self.read_internal(&entity).await?.0 {
            InternalState::Present { version, .. } => version,
            InternalState::Deleted { version, .. } => {
                Self::drop_clash(&mut case.commit, &clash);
                return Ok(Some(self.bury_loser(case, version)));
            }
            InternalState::Absent => {
                Self::drop_clash(&mut case.commit, &clash);
                return Ok(Some(End::Done(self.take_commit(case))));
            }
        };
        match clash.decided {
            Some(Choice::New) => {
                Self::drop_clash(&mut case.commit, &clash);
                case.link = plan::renew(&case.link, now);
                let why = "decided in review: the loser of a merge is a record of its own";
                case.note("decided", why, now);
                Ok(None)
            }
            Some(Choice::Merge) => {
                if case.connection.directions.internal_paused() {
                    return Ok(Some(paused(now)));
                }
                let write = Write {
                    scope: entity.scope.clone(),
                    object: entity.object.clone(),
                    id: entity.id.clone(),
                    expected: Expected::Version(version),
                    document: None,
                    origin: origin_of(&case.connection.id),
                };
                match self.rooms.internal.write_if(write).await? {
                    Outcome::Written(record) => {
                        Self::drop_clash(&mut case.commit, &clash);
                        case.link = plan::bury_merged(&case.link, record.version, now);
                        self.rooms.metrics.record(&case.provider, "removed-internal");
                        let why = "decided in review: it is the record that it was merged into";
                        case.note("removed-internal", why, now);
                        Ok(Some(End::Done(self.take_commit(case))))
                    }
                    Outcome::Rejected(problems) => Ok(Some(self.aside(case, "canonical-in", problems))),
                    // It was changed this moment.
                    Outcome::Conflict(_) | Outcome::Exists(_) => {
                        Ok(Some(End::PutBack { until: now.saturating_add(BUSY_MS), whole: false }))
                    }
                }
            }
            None | Some(Choice::Apart | Choice::Link(_)) => {
                clash.seen = now;
                Ok(Some(End::Clash { clash: Box::new(clash), commit: self.take_commit(case) }))
            }
        }
    }

    /// A person has chosen one of the CRM's records for this entity: another one that has its identity too is left alone from now on.
    pub(in crate::pipeline) fn leave_apart(
        &self,
        case: &mut Case<'_>,
        other: ExternalId,
        identity: &[(String, String)],
        chosen: &ExternalId,
    ) -> Result<(), StoreError> {
        let rivals = vec![rival(Some(case.link.entity.id.clone()), Some(chosen.clone()))];
        let why = format!("decided in review: the record is {chosen}");
        let (waits, now) = (Waits::External(other), self.rooms.clock.now());
        let mut left = clash(case, waits, Kind::Duplicate, identity, rivals, (why, now));
        left.decided = Some(Choice::Apart);
        self.note_clash(&mut case.commit, case.connection, left)
    }

    /// Takes a record from the link of another entity, if that one has it still. It gets a record of its own, or whatever its identity
    /// says.
    pub(in crate::pipeline) fn take_from(
        &self,
        case: &mut Case<'_>,
        (id, other): (&ExternalId, &EntityKey),
        held: &mut Held<'_>,
    ) -> Result<Option<End>, PipelineError> {
        let now = self.rooms.clock.now();
        let key = self.external_key(case, id);
        let is_had = held.hold(Hand::External(key.clone())) && held.hold(Hand::Entity(other.clone()));
        let owner = self.rooms.store.entity_of(&key)?;
        if !is_had || owner.as_ref().is_some_and(|owner| owner != other && *owner != case.link.entity) {
            // Each try costs a call: whoever has one of them comes first.
            let (until, commit) = (now.saturating_add(BUSY_LONG_MS), self.take_commit(case));
            return Ok(Some(End::Later { until, touched: false, commit }));
        }
        if owner.as_ref() == Some(other)
            && let Some(link) = self.rooms.store.link(other, &case.connection.id)?
        {
            let next: Link = plan::renew(&link, now);
            let mut entry = HistoryEntry {
                what: "decided".into(),
                why: "its record in the CRM was given to another one in review".into(),
                cause: case.trail.cause.clone(),
                delta: Moved::between(&link.base, &next.base),
                ..HistoryEntry::new(&next, now, self.label(case.connection))
            };
            entry.fit();
            case.commit.push(Op::AddHistory(entry));
            case.commit.push(Op::PutLink(next));
            let waits = Waits::Internal(other.id.clone());
            let hint =
                self.look_again_hint(case.connection, &other.object, &waits, "review", Class::Interactive);
            case.commit.push(Op::AddHint(hint));
        }
        Ok(None)
    }
}
