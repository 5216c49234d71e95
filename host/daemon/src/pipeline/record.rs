//! One record: look at both sides, plan, write, and plan again until there is nothing left to do.

use std::sync::Arc;

use serde_json::Value;
use tandem_core::Millis;
use tandem_core::document;
use tandem_core::exchange::{Answer, Decision, Operation, Problem, Reference, Remove, Write};
use tandem_core::id::{EntityKey, ExternalId, ProviderId};
use tandem_core::link::{Fields, Life, Link};
use tandem_core::plan::{
    self, Ask, External, ExternalWrite, ExternalWritten, Internal as InternalState, InternalWrite, Source,
    Verdict,
};

use super::create::Created;
use super::dispatch::{Dispatch, Hand};
use super::exchange::{Body, Concluded, ExchangeError, Seen, provider_document};
use super::inbox::problem;
use super::settle::End;
use super::trail::Trail;
use super::{Clock, Connection, Object, Pipeline, PipelineError, Work};
use crate::delivery::Deliver;
use crate::internal::{Expected, Internal, Outcome, Write as InternalRequest};
use crate::provider::Runtime;
use crate::store::{Class, Commit, Op, Store};

/// Rounds of plan and write for one piece of work. A plan settles in three; the rest is for people who edit meanwhile.
const ROUNDS: u32 = 12;

/// Hands that a piece of work holds besides its own; let go when it is settled.
pub(super) struct Held<'a> {
    dispatch: &'a parking_lot::Mutex<Dispatch>,
    hands: Vec<Hand>,
}

impl<'a> Held<'a> {
    pub(super) fn new(dispatch: &'a parking_lot::Mutex<Dispatch>) -> Self {
        Self { dispatch, hands: Vec::new() }
    }

    /// Takes one more hand; false when somebody else has it.
    pub(super) fn hold(&mut self, hand: Hand) -> bool {
        if self.hands.contains(&hand) {
            return true;
        }
        let held = self.dispatch.lock().hold(&hand);
        if held {
            self.hands.push(hand);
        }
        held
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut dispatch = self.dispatch.lock();
        for hand in self.hands.drain(..) {
            dispatch.let_go(&hand);
        }
    }
}

/// One link in work.
pub(super) struct Case<'a> {
    pub(super) connection: &'a Arc<Connection>,
    pub(super) object: &'a Object,
    pub(super) class: Class,
    pub(super) link: Link,
    /// The link as it is stored.
    pub(super) stored: Option<Link>,
    pub(super) external: External,
    pub(super) trail: Trail,
    pub(super) provider: ProviderId,
    pub(super) commit: Commit,
    /// An intent of this link was opened or found, and has to be closed with the link.
    pub(super) intent: bool,
}

/// Goes on, or ends here.
pub(super) enum Next {
    /// Plan again.
    Round,
    /// System A's record changed under us: read it and plan again.
    Reread,
    /// The work ends.
    End(End),
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    pub(super) async fn work_record(
        &self,
        connection: &Arc<Connection>,
        work: &Work,
        held: &mut Held<'_>,
    ) -> Result<End, PipelineError> {
        let Some(object) = connection.objects.get(&work.object) else {
            // The object was taken out of the configuration: nothing is kept the same any more.
            return Ok(End::Done(Commit::new()));
        };
        match &work.hand {
            Hand::Entity(entity) => {
                let stored = self.rooms.store.link(entity, &connection.id)?;
                let link = stored.clone().unwrap_or_else(|| Link::new(entity.clone(), connection.id.clone()));
                let external = match self.observe(connection, object, work).await {
                    Ok(external) => external,
                    Err(fault) => {
                        return self.failed(connection, fault.into(), Some(entity.clone()), Commit::new());
                    }
                };
                let mut case = self.case(connection, object, work, link, stored, external);
                if case.link.external.is_none()
                    && case.link.life == Life::Active
                    && let Some(intent) = self.rooms.store.intent(entity, &connection.id)?
                {
                    match self.resolve_intent(&mut case, intent).await? {
                        Next::Round | Next::Reread => {}
                        Next::End(end) => return Ok(end),
                    }
                }
                self.rounds(case, held).await
            }
            Hand::External(key) => self.work_unlinked(connection, object, work, key, held).await,
            Hand::Identity(..) | Hand::Delivery(_) => Ok(End::Done(Commit::new())),
        }
    }

    pub(super) fn case<'a>(
        &self,
        connection: &'a Arc<Connection>,
        object: &'a Object,
        work: &Work,
        link: Link,
        stored: Option<Link>,
        external: External,
    ) -> Case<'a> {
        let cause = work.hints.first().map_or("", |hint| hint.cause.as_str());
        Case {
            connection,
            object,
            class: work.class(),
            link,
            stored,
            external,
            trail: Trail::new(cause, self.label(connection)),
            provider: self.provider_of(connection),
            commit: Commit::new(),
            intent: false,
        }
    }

    /// Plans and writes until there is nothing left to do.
    pub(super) async fn rounds(&self, mut case: Case<'_>, held: &mut Held<'_>) -> Result<End, PipelineError> {
        let mut internal = self.read_internal(&case.link.entity).await?;
        for _ in 0..ROUNDS {
            let now = self.rooms.clock.now();
            let plan = plan::plan(&case.link, &internal, &case.external, &case.object.policy, now);
            if let Some(ask) = plan.ask {
                match self.ask(&mut case, ask, plan.link, &plan.reason).await? {
                    Next::Round => continue,
                    Next::Reread => {
                        internal = self.read_internal(&case.link.entity).await?;
                        continue;
                    }
                    Next::End(end) => return Ok(end),
                }
            }
            self.note_plan(&mut case, &plan, now);
            case.link = plan.link;
            let quiet = plan.internal.is_none() && plan.external.is_none();
            if let Some(write) = plan.internal {
                if case.connection.directions.internal_paused() {
                    return Ok(paused(now));
                }
                match self.write_internal(&mut case, write, &mut internal, &plan.reason, held).await? {
                    Next::Round => {}
                    Next::Reread => {
                        internal = self.read_internal(&case.link.entity).await?;
                        continue;
                    }
                    Next::End(end) => return Ok(end),
                }
                if plan.external.is_none() {
                    break;
                }
            }
            if let Some(write) = plan.external {
                if case.connection.directions.external_paused() {
                    return Ok(paused(now));
                }
                match self.write_external(&mut case, write, &internal, &plan.reason, held).await? {
                    Next::Round | Next::Reread => continue,
                    Next::End(end) => return Ok(end),
                }
            }
            if quiet {
                break;
            }
        }
        Ok(End::Done(self.conclude(case)))
    }

    /// The changes of a case, whole: link, history, intent.
    pub(super) fn conclude(&self, mut case: Case<'_>) -> Commit {
        let is_new = case.stored.is_none();
        let says_something = case.link.external.is_some() || !case.link.base.is_empty() || !is_new;
        if case.stored.as_ref() != Some(&case.link) && says_something {
            case.commit.push(Op::PutLink(case.link.clone()));
        }
        if case.intent {
            case.commit.push(Op::DropIntent(case.link.entity.clone(), case.link.connection.clone()));
            self.close_intent(&case.link);
        }
        let mut commit = std::mem::take(&mut case.commit);
        case.trail.flush(&mut commit);
        if commit.ops.is_empty() {
            self.rooms.metrics.record(&case.provider, "unchanged");
        }
        commit
    }

    async fn read_internal(&self, entity: &EntityKey) -> Result<InternalState, PipelineError> {
        let record = self.rooms.internal.read(&entity.scope, &entity.object, &entity.id).await?;
        Ok(match record {
            None => InternalState::Absent,
            Some(record) => match record.document {
                Some(document) => InternalState::Present {
                    fields: document::fields(&document),
                    version: record.version,
                    changed_at: Some(record.changed_at),
                },
                None => {
                    InternalState::Deleted { version: record.version, changed_at: Some(record.changed_at) }
                }
            },
        })
    }

    async fn ask(
        &self,
        case: &mut Case<'_>,
        ask: Ask,
        link: Link,
        reason: &str,
    ) -> Result<Next, PipelineError> {
        match ask {
            Ask::ReadInternal => Ok(Next::Reread),
            Ask::ReadExternalAt(until) => {
                case.link = link;
                let now = self.rooms.clock.now();
                case.trail.note(&case.link, None, "doubted", reason, now);
                let commit = self.take_commit(case);
                Ok(Next::End(End::Later { until, touched: true, commit }))
            }
            Ask::ReadExternal => {
                case.link = link;
                let Some(id) = case.link.external.clone() else {
                    // Nothing to read yet: whatever was said of it, the record has to be made first.
                    case.external = External::Unseen;
                    return Ok(Next::Round);
                };
                match self.read_external(case, &id).await? {
                    Ok(seen) => match self.external_of(case, seen, true) {
                        Ok(external) => {
                            case.external = external;
                            Ok(Next::Round)
                        }
                        Err(end) => Ok(Next::End(end)),
                    },
                    Err(end) => Ok(Next::End(end)),
                }
            }
        }
    }

    /// Reads a CRM's record. The inner error is how the work ends.
    pub(super) async fn read_external(
        &self,
        case: &mut Case<'_>,
        id: &ExternalId,
    ) -> Result<Result<(Seen, Millis), End>, PipelineError> {
        let operation =
            Operation::Read(Reference { object: case.link.entity.object.to_string(), id: id.to_string() });
        let entity = case.link.entity.clone();
        let sent =
            self.exchange(case.connection, case.class, Some(&case.link), move |_| Ok(Ok(operation))).await;
        let mut concluded = match sent {
            Ok(concluded) => concluded,
            Err(error) => {
                let commit = self.take_commit(case);
                return Ok(Err(self.failed(case.connection, error, Some(entity), commit)?));
            }
        };
        case.trail.calls += concluded.calls;
        let began = concluded.began;
        match (concluded.answer, concluded.seen.pop()) {
            (Answer::Current(_), Some(seen)) => {
                self.rooms.quotas.succeeded(&case.connection.id, self.rooms.clock.now());
                Ok(Ok((seen, began)))
            }
            (answer, _) => {
                let commit = self.take_commit(case);
                Ok(Err(self.waits(case.connection, answer, Some(entity), commit)))
            }
        }
    }

    /// What was seen, for the planner.
    pub(super) fn external_of(
        &self,
        case: &mut Case<'_>,
        (seen, began): (Seen, Millis),
        read: bool,
    ) -> Result<External, End> {
        Ok(match seen.body {
            Body::Touched => External::Touched,
            Body::Partial(fields) => External::Partial { fields, stamp: seen.stamp },
            Body::Whole(fields) => {
                if seen.keep.is_some() {
                    case.link.keep = seen.keep;
                }
                External::Whole {
                    id: seen.id,
                    fields,
                    version: seen.version,
                    stamp: seen.stamp,
                    source: if read { Source::Read { began } } else { Source::Answer },
                    changed_at: std::collections::BTreeMap::new(),
                }
            }
            Body::Gone(proof) => External::Gone { proof, at: began },
            Body::Moved(reference) => External::Moved { to: ExternalId::from(reference.id) },
            Body::Invalid { point, problems } => {
                return Err(End::SetAside {
                    point,
                    problems,
                    entity: Some(case.link.entity.clone()),
                    commit: self.take_commit(case),
                });
            }
        })
    }

    async fn write_internal(
        &self,
        case: &mut Case<'_>,
        write: InternalWrite,
        internal: &mut InternalState,
        reason: &str,
        held: &mut Held<'_>,
    ) -> Result<Next, PipelineError> {
        let (expected, document) = match &write {
            InternalWrite::Create { fields } => match &*internal {
                InternalState::Deleted { version, .. } => {
                    (Expected::Version(*version), Some(document::value(fields)))
                }
                _ => (Expected::Absent, Some(document::value(fields))),
            },
            InternalWrite::Update { expected, fields, .. } => {
                (Expected::Version(*expected), Some(document::value(fields)))
            }
            InternalWrite::Delete { expected } => (Expected::Version(*expected), None),
        };
        if let Some(document) = &document
            && let Err(problems) = case.object.canonical.validate(document)
        {
            return Ok(Next::End(self.aside(case, "canonical-in", problems)));
        }
        if let Some(end) = self.judge(case, "external", document.as_ref()).await? {
            return Ok(Next::End(end));
        }
        let entity = case.link.entity.clone();
        let outcome = self
            .rooms
            .internal
            .write_if(InternalRequest {
                scope: entity.scope.clone(),
                object: entity.object.clone(),
                id: entity.id.clone(),
                expected,
                document,
                origin: format!("tandem:{}", case.connection.id),
            })
            .await?;
        let now = self.rooms.clock.now();
        match outcome {
            Outcome::Written(record) => {
                let before = case.link.base.clone();
                case.link = plan::after_internal_write(
                    &case.link,
                    &write,
                    record.version,
                    &case.external,
                    &case.object.policy,
                    now,
                );
                let what = match &write {
                    InternalWrite::Create { .. } => {
                        self.rooms.metrics.record(&case.provider, "created-internal");
                        "created-internal"
                    }
                    InternalWrite::Update { .. } => {
                        self.rooms.metrics.record(&case.provider, "updated-internal");
                        "wrote-internal"
                    }
                    InternalWrite::Delete { .. } => {
                        self.rooms.metrics.record(&case.provider, "removed-internal");
                        "removed-internal"
                    }
                };
                case.trail.note(&case.link, Some(&before), what, reason, now);
                *internal = match record.document {
                    Some(document) => InternalState::Present {
                        fields: document::fields(&document),
                        version: record.version,
                        changed_at: Some(record.changed_at),
                    },
                    None => InternalState::Deleted {
                        version: record.version,
                        changed_at: Some(record.changed_at),
                    },
                };
                Ok(Next::Round)
            }
            Outcome::Conflict(_) => Ok(Next::Reread),
            Outcome::Exists(other) => self.adopt_internal(case, other, held),
            Outcome::Rejected(problems) => Ok(Next::End(self.aside(case, "canonical-in", problems))),
        }
    }

    async fn write_external(
        &self,
        case: &mut Case<'_>,
        write: ExternalWrite,
        internal: &InternalState,
        reason: &str,
        held: &mut Held<'_>,
    ) -> Result<Next, PipelineError> {
        let after = match &write {
            ExternalWrite::Create { fields } | ExternalWrite::Update { fields, .. } => {
                Some(document::value(fields))
            }
            ExternalWrite::Remove { .. } => None,
        };
        if let Some(end) = self.judge(case, "internal", after.as_ref()).await? {
            return Ok(Next::End(end));
        }
        let creates = matches!(write, ExternalWrite::Create { .. });
        if creates {
            match self.open_intent(case, &write, held).await? {
                Next::Round | Next::Reread => {}
                Next::End(end) => return Ok(Next::End(end)),
            }
        }
        let sent = self.send_write(case, &write, after).await;
        let concluded = match sent {
            Ok(concluded) => concluded,
            Err(error) => return self.write_failed(case, error, creates).await.map(Next::End),
        };
        case.trail.calls += concluded.calls;
        self.written(case, write, concluded, internal, reason, creates).await
    }

    async fn send_write(
        &self,
        case: &Case<'_>,
        write: &ExternalWrite,
        after: Option<Value>,
    ) -> Result<Concluded, ExchangeError> {
        let link = &case.link;
        let object = link.entity.object.clone();
        let room = case.connection.clone();
        let key = link.key();
        let keep = link.keep.clone();
        let id = link.external.as_ref().map(ToString::to_string);
        let previous = serde_json::to_vec(&document::value(&external_half(link))).ok();
        let (changed, version, stamp): (Vec<String>, _, _) = match write {
            ExternalWrite::Create { fields } => (fields.keys().cloned().collect(), None, None),
            ExternalWrite::Update { changed, version, stamp, .. } => {
                (changed.iter().cloned().collect(), version.clone(), *stamp)
            }
            ExternalWrite::Remove { version, stamp } => (Vec::new(), version.clone(), *stamp),
        };
        self.exchange(case.connection, case.class, Some(link), move |provider| {
            let Some(after) = after else {
                return Ok(Ok(Operation::Remove(Remove {
                    object: object.to_string(),
                    id: id.unwrap_or_default(),
                    version,
                    stamp,
                })));
            };
            let Some(schemas) = room.objects.get(&object) else {
                return Ok(Err((
                    "provider-out",
                    vec![problem("unknown-object", format!("no object {object}"))],
                )));
            };
            let canonical = match serde_json::to_vec(&after) {
                Ok(canonical) => canonical,
                Err(error) => {
                    return Ok(Err(("canonical-in", vec![problem("not-json", error.to_string())])));
                }
            };
            let sent = match provider.to_provider(object.as_str(), &canonical, None)? {
                Ok(sent) => sent,
                Err(problems) => return Ok(Err(("provider-out", problems))),
            };
            match provider_document(&sent).and_then(|value| schemas.write.validate(&value)) {
                Ok(()) => {}
                Err(problems) => return Ok(Err(("provider-out", problems))),
            }
            Ok(Ok(Operation::Write(Write {
                object: object.to_string(),
                id,
                document: sent,
                changed,
                version,
                stamp,
                key,
                keep,
                previous,
                attributes: Vec::new(),
            })))
        })
        .await
    }

    async fn written(
        &self,
        case: &mut Case<'_>,
        write: ExternalWrite,
        mut concluded: Concluded,
        internal: &InternalState,
        reason: &str,
        creates: bool,
    ) -> Result<Next, PipelineError> {
        let now = self.rooms.clock.now();
        let began = concluded.began;
        match (concluded.answer, concluded.seen.pop()) {
            (Answer::Written(written), Some(seen)) => {
                self.rooms.quotas.succeeded(&case.connection.id, now);
                let before = case.link.base.clone();
                let fields = match &seen.body {
                    Body::Whole(fields) => Some(fields.clone()),
                    _ => None,
                };
                if let Body::Invalid { problems, .. } = &seen.body {
                    // The write was taken; what came back is of no use. The sent half stays assumed until it is read.
                    tracing::warn!(
                        connection = %case.connection.id,
                        entity = %case.link.entity,
                        problems = problems.len(),
                        "the CRM's answer to a write does not fit its schema"
                    );
                }
                let outcome = ExternalWritten {
                    id: seen.id.clone(),
                    fields,
                    unapplied: written
                        .unapplied
                        .iter()
                        .filter_map(|problem| problem.pointer.clone())
                        .collect(),
                    version: seen.version.clone(),
                    stamp: seen.stamp,
                    keep: seen.keep.clone(),
                };
                case.link = plan::after_external_write(
                    &case.link,
                    &write,
                    internal,
                    &outcome,
                    &case.object.policy,
                    now,
                );
                let what = match &write {
                    ExternalWrite::Create { .. } => {
                        self.rooms.metrics.record(&case.provider, "created-external");
                        "created-external"
                    }
                    ExternalWrite::Update { .. } => {
                        self.rooms.metrics.record(&case.provider, "updated-external");
                        "wrote-external"
                    }
                    ExternalWrite::Remove { .. } => {
                        self.rooms.metrics.record(&case.provider, "removed-external");
                        "removed-external"
                    }
                };
                case.trail.note(&case.link, Some(&before), what, reason, now);
                case.external = match seen.body {
                    Body::Whole(_) => match self.external_of(case, (seen, began), false) {
                        Ok(external) => external,
                        Err(end) => return Ok(Next::End(end)),
                    },
                    _ => External::Unseen,
                };
                Ok(Next::Round)
            }
            (Answer::Exists(reference), _) if creates => {
                match self.adopt_external(case, ExternalId::from(reference.id))? {
                    Created::Linked => Ok(Next::Round),
                    Created::Taken(end) => Ok(Next::End(end)),
                }
            }
            (Answer::Refused, _) => {
                case.external = External::Touched;
                Ok(Next::Round)
            }
            (Answer::Current(_), Some(seen)) => match self.external_of(case, (seen, began), true) {
                Ok(external) => {
                    case.external = external;
                    Ok(Next::Round)
                }
                Err(end) => Ok(Next::End(end)),
            },
            (Answer::Rejected(problems), _) => {
                if creates {
                    self.drop_intent(case);
                }
                self.rejected(case, problems, internal, now)
            }
            (answer, _) => {
                let unknown = matches!(&answer, Answer::Again(_, effect) if effect != "no");
                if creates {
                    if unknown {
                        return self.unknown_create(case, now).await.map(Next::End);
                    }
                    self.drop_intent(case);
                }
                let entity = case.link.entity.clone();
                let commit = self.take_commit(case);
                Ok(Next::End(self.waits(case.connection, answer, Some(entity), commit)))
            }
        }
    }

    async fn write_failed(
        &self,
        case: &mut Case<'_>,
        error: ExchangeError,
        creates: bool,
    ) -> Result<End, PipelineError> {
        let now = self.rooms.clock.now();
        if creates {
            let lost = matches!(
                &error,
                ExchangeError::Send(crate::delivery::SendError::Unknown { .. }) | ExchangeError::Fault(_)
            );
            if lost {
                if let ExchangeError::Send(_) = &error {
                    self.rooms.quotas.failed(&case.connection.id, now, self.rooms.clock.jitter(u64::MAX));
                }
                if let ExchangeError::Fault(fault) = &error {
                    self.rooms.metrics.fault(&self.provider_of(case.connection), fault.kind.label());
                }
                return self.unknown_create(case, now).await;
            }
            self.drop_intent(case);
        }
        let entity = case.link.entity.clone();
        let commit = self.take_commit(case);
        self.failed(case.connection, error, Some(entity), commit)
    }

    /// Fields that the CRM refused: left out and flagged where every one of them may be, otherwise set aside.
    fn rejected(
        &self,
        case: &mut Case<'_>,
        problems: Vec<Problem>,
        internal: &InternalState,
        now: Millis,
    ) -> Result<Next, PipelineError> {
        let pointers: std::collections::BTreeSet<String> =
            problems.iter().filter_map(|problem| problem.pointer.clone()).collect();
        if !pointers.iter().all(|pointer| case.link.refused.contains_key(pointer))
            && let Some(link) =
                plan::after_external_reject(&case.link, &pointers, internal, &case.object.policy, now)
        {
            case.link = link;
            case.trail.note(
                &case.link,
                None,
                "refused-fields",
                "the CRM refused fields; they are left out",
                now,
            );
            case.external = External::Unseen;
            return Ok(Next::Round);
        }
        Ok(Next::End(self.aside(case, "rejected", problems)))
    }

    /// Sets the record aside, with what was done so far.
    pub(super) fn aside(&self, case: &mut Case<'_>, point: &'static str, problems: Vec<Problem>) -> End {
        End::SetAside {
            point,
            problems,
            entity: Some(case.link.entity.clone()),
            commit: self.take_commit(case),
        }
    }

    /// What was done so far, when the work does not reach its end: the link as far as it got.
    pub(super) fn take_commit(&self, case: &mut Case<'_>) -> Commit {
        let mut commit = std::mem::take(&mut case.commit);
        let says_something = case.link.external.is_some() || case.stored.is_some();
        if case.stored.as_ref() != Some(&case.link) && says_something {
            commit.push(Op::PutLink(case.link.clone()));
            case.stored = Some(case.link.clone());
            if case.intent && case.link.external.is_some() {
                commit.push(Op::DropIntent(case.link.entity.clone(), case.link.connection.clone()));
                self.close_intent(&case.link);
                case.intent = false;
            }
        }
        case.trail.flush(&mut commit);
        commit
    }

    /// What only the provider can know. None: it takes part.
    async fn judge(
        &self,
        case: &mut Case<'_>,
        origin: &'static str,
        after: Option<&Value>,
    ) -> Result<Option<End>, PipelineError> {
        let view = match self.rooms.runtime.view(&case.connection.id) {
            Ok(view) => view,
            Err(fault) => {
                let entity = Some(case.link.entity.clone());
                let commit = self.take_commit(case);
                return Ok(Some(self.failed(case.connection, fault.into(), entity, commit)?));
            }
        };
        if !view.descriptor.rules {
            return Ok(None);
        }
        let change = tandem_core::exchange::Change {
            object: case.link.entity.object.to_string(),
            origin: origin.into(),
            before: (!case.link.base.is_empty())
                .then(|| serde_json::to_vec(&document::value(&internal_half(&case.link))).ok())
                .flatten(),
            after: after.and_then(|after| serde_json::to_vec(after).ok()),
            changed: Vec::new(),
        };
        let ruling =
            self.rooms.runtime.visit(&case.connection.id, move |provider| provider.decide(&change)).await;
        let entity = Some(case.link.entity.clone());
        let ruling = match ruling {
            Ok(ruling) => ruling,
            Err(fault) => {
                let commit = self.take_commit(case);
                return Ok(Some(self.failed(case.connection, fault.into(), entity, commit)?));
            }
        };
        let now = self.rooms.clock.now();
        Ok(match ruling.decision {
            Decision::Sync => None,
            Decision::Skip(why) | Decision::Remove(why) => {
                let why = format!("rule {}: {why}", ruling.rule);
                case.trail.note(&case.link, None, "skipped", &why, now);
                Some(End::Done(self.take_commit(case)))
            }
            Decision::Hold(why) => Some(self.aside(
                case,
                "held",
                vec![problem("held-by-rule", format!("rule {}: {why}", ruling.rule))],
            )),
            Decision::Read => {
                case.external = External::Touched;
                None
            }
        })
    }

    fn note_plan(&self, case: &mut Case<'_>, plan: &plan::Plan, now: Millis) {
        for conflict in &plan.conflicts {
            let ruling = match conflict.ruling {
                Verdict::Review => "review",
                Verdict::Internal => "internal",
                Verdict::External => "external",
            };
            self.rooms.metrics.conflict(&case.provider, ruling);
            let what = match conflict.ruling {
                Verdict::Review => "held",
                Verdict::Internal | Verdict::External => "conflict",
            };
            case.trail.note(&plan.link, None, what, &conflict.why, now);
        }
        if plan.link.base != case.link.base && plan.internal.is_none() && plan.external.is_none() {
            case.trail.note(&plan.link, Some(&case.link.base), "agreed", &plan.reason, now);
        }
        for (field, why) in &plan.link.frozen {
            if !case.link.frozen.contains_key(field) {
                case.trail.note(&plan.link, None, "frozen", &format!("{field}: {why}"), now);
            }
        }
    }
}

fn paused(now: Millis) -> End {
    End::PutBack { until: now.saturating_add(1_000), whole: false }
}

/// What the CRM had when both sides last agreed.
pub(super) fn external_half(link: &Link) -> Fields {
    link.base
        .iter()
        .filter_map(|(field, pair)| pair.external.clone().map(|value| (field.clone(), value)))
        .collect()
}

fn internal_half(link: &Link) -> Fields {
    link.base
        .iter()
        .filter_map(|(field, pair)| pair.internal.clone().map(|value| (field.clone(), value)))
        .collect()
}
