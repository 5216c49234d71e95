//! The two writes of a plan: what is sent, what is written down before, and what the answer means for the link.

use serde_json::Value;
use tandem_core::Millis;
use tandem_core::document;
use tandem_core::exchange::{Answer, Operation, Problem, Remove, Write};
use tandem_core::id::ExternalId;
use tandem_core::link::{Fields, Link, Side};
use tandem_core::plan::{
    self, External, ExternalWrite, ExternalWritten, Internal as InternalState, InternalWrite, Returned,
};
use tandem_core::redact::redact;

use super::clash::rival;
use super::create::{BUSY_LONG_MS, Created};
use super::dispatch::Hand;
use super::exchange::{Body, Concluded, ExchangeError, provider_document};
use super::inbox::problem;
use super::intent::Guard;
use super::record::{Case, Held, Next};
use super::settle::{DISK_FULL_MS, End};
use super::{Clock, Pipeline, PipelineError, origin_of};
use crate::delivery::{Deliver, SendError};
use crate::internal::{Expected, Internal, Outcome, Write as InternalRequest};
use crate::provider::Runtime;
use crate::store::{Call, Op, Store, StoreError, Until};

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    pub(super) async fn write_internal(
        &self,
        case: &mut Case<'_>,
        write: InternalWrite,
        internal: &mut InternalState,
        reason: &str,
        before: Box<Link>,
        held: &mut Held<'_>,
    ) -> Result<Next, PipelineError> {
        let (expected, document) = match &write {
            // A deleted record has a version, and is absent all the same.
            InternalWrite::Create { fields } => (Expected::Absent, Some(document::value(fields))),
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
        case.unsettled.note_internal(&write, &case.link, &case.external);
        if let Some(mut guard) = Guard::update(case) {
            let replaces = case.update_open;
            self.open(&mut guard).await?;
            case.update_open = true;
            if replaces {
                case.stored = Some(case.link.clone());
            }
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
                origin: origin_of(&case.connection.id),
            })
            .await?;
        let now = self.rooms.clock.now();
        match outcome {
            Outcome::Written(record) => {
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
                case.note(what, reason, now);
                *internal = case.take_internal(record);
                Ok(Next::Round)
            }
            Outcome::Conflict(_) => {
                // What was planned from a record that is another one now is planned anew, from the same link.
                case.link = *before;
                Ok(Next::Reread)
            }
            Outcome::Exists(other) => {
                Box::pin(self.adopt_internal(case, other, held, &write, internal)).await
            }
            Outcome::Rejected(problems) => Ok(Next::End(self.aside(case, "canonical-in", problems))),
        }
    }

    /// What was written to System A is committed before the CRM's half of the same plan waits for its turn: somebody may edit all of
    /// it meanwhile, and after a crash nothing would prove that what stood there before was ours. Some: how the work ends, since the
    /// disk is full.
    pub(super) async fn keep_internal_half(&self, case: &mut Case<'_>) -> Result<Option<End>, PipelineError> {
        if case.link.external.is_none() {
            // Without a record in the CRM there is nothing to commit before the intent of its create.
            return Ok(None);
        }
        let commit = self.take_commit(case);
        match self.rooms.store.commit(commit.clone(), Until::Applied).await {
            Ok(_) => {
                // The end of the work knows of those in its own commit alone.
                let hints = commit.ops.into_iter().filter_map(|op| match op {
                    Op::AddHint(hint) => Some(hint),
                    _ => None,
                });
                self.arrive(hints.collect());
                Ok(None)
            }
            Err(StoreError::Full { .. }) => {
                let until = self.rooms.clock.now().saturating_add(DISK_FULL_MS);
                Ok(Some(End::Later { until, touched: true, commit }))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn write_external(
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
        if let (ExternalWrite::Update { .. } | ExternalWrite::Remove { .. }, Some(id)) =
            (&write, &case.link.external)
            && !held.hold(Hand::External(self.external_key(case, id)))
        {
            // Somebody has it in hand still as a record that nobody knows, with word of what people did to it.
            let until = self.rooms.clock.now().saturating_add(BUSY_LONG_MS);
            let commit = self.take_commit(case);
            return Ok(Next::End(End::Later { until, touched: false, commit }));
        }
        if case.made && matches!(write, ExternalWrite::Update { .. }) {
            // Word of a person's edits in the CRM waits under the new record's id, which nobody knew when this work was taken up.
            let (until, commit) = (self.rooms.clock.now(), self.take_commit(case));
            return Ok(Next::End(End::Later { until, touched: true, commit }));
        }
        if let Some(end) = self.judge(case, "internal", after.as_ref()).await? {
            return Ok(Next::End(end));
        }
        let creates = matches!(write, ExternalWrite::Create { .. });
        let is_settled = |op: &Op| matches!(op, Op::DropIntent(entity, _) if *entity == case.link.entity);
        if creates && !case.create_open && !case.update_open && !case.commit.ops.iter().any(is_settled) {
            let intent = self.rooms.store.intent(&case.link.entity, &case.connection.id)?;
            if let Some(intent) = intent.filter(|intent| matches!(intent.call, Call::Create { .. })) {
                // An earlier run or try may have made it, and its link was never committed.
                return Box::pin(self.resolve_intent(case, intent, held)).await;
            }
        }
        let mut guard = match &write {
            ExternalWrite::Create { fields } => {
                if let Some(end) = self.hold_identity(case, fields, held) {
                    return Ok(Next::End(end));
                }
                if let Some(next) = self.looks_before_create(case, fields, held).await? {
                    return Ok(next);
                }
                Some(Guard::create(case, fields))
            }
            ExternalWrite::Update { .. } | ExternalWrite::Remove { .. } => {
                case.unsettled.note_external(&write, internal);
                Guard::update(case)
            }
        };
        let sent = self.send_write(case, &write, after, guard.as_mut()).await;
        if guard.is_some_and(|guard| guard.opened) {
            if creates {
                case.create_open = true;
            } else {
                case.update_open = true;
            }
        }
        let concluded = match sent {
            Ok(concluded) => concluded,
            Err(error) => return self.write_failed(case, error, creates).await.map(Next::End),
        };
        self.written(case, write, concluded, internal, reason, held).await
    }

    async fn send_write(
        &self,
        case: &mut Case<'_>,
        write: &ExternalWrite,
        after: Option<Value>,
        guard: Option<&mut Guard>,
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
        self.exchange_for(case, guard, move |provider| {
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
                Err(mut problems) => {
                    redact(&mut problems, &canonical);
                    return Ok(Err(("provider-out", problems)));
                }
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
        held: &mut Held<'_>,
    ) -> Result<Next, PipelineError> {
        let creates = matches!(write, ExternalWrite::Create { .. });
        let now = self.rooms.clock.now();
        let began = concluded.began;
        match (concluded.answer, concluded.seen.pop()) {
            (Answer::Written(written), Some(seen)) => {
                self.rooms.quotas.succeeded(&case.connection.id, now);
                let returned = match &seen.body {
                    Body::Whole(fields) => Returned::Whole(fields.clone()),
                    Body::Partial(fields) => Returned::Partial(fields.clone()),
                    _ => Returned::Nothing,
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
                    returned,
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
                        case.made = true;
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
                case.note(what, reason, now);
                case.external = match seen.body {
                    // Moved: the write reached the winner of a merge.
                    Body::Whole(_) | Body::Partial(_) | Body::Moved(_) => {
                        match self.external_of(case, (seen, began), false) {
                            Ok(external) => external,
                            Err(end) => return Ok(Next::End(end)),
                        }
                    }
                    _ => External::Unseen,
                };
                Ok(Next::Round)
            }
            (Answer::Exists(reference), _) => {
                let id = ExternalId::from(reference.id);
                match &write {
                    ExternalWrite::Create { fields } => match self.adopt_external(case, id, fields, held)? {
                        Created::Linked => {
                            self.agree_as_sent(case, &write);
                            Ok(Next::Round)
                        }
                        Created::Taken(end) => Ok(Next::End(end)),
                    },
                    ExternalWrite::Update { changed, .. } => {
                        let key = self.external_key(case, &id);
                        let linked = self.rooms.store.entity_of(&key)?.map(|entity| entity.id);
                        let by = rival(linked, Some(id));
                        if self.holds_identity(case, changed, Side::Internal, internal, by)? {
                            return Ok(Next::Round);
                        }
                        let problems =
                            vec![problem("exists", "the CRM has such a record already".to_owned())];
                        Ok(Next::End(self.aside(case, "rejected", problems)))
                    }
                    ExternalWrite::Remove { .. } => {
                        let problems =
                            vec![problem("exists", "a removal was answered with a record".to_owned())];
                        Ok(Next::End(self.aside(case, "fault", problems)))
                    }
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
                    self.drop_create(case);
                }
                self.rejected(case, problems, internal, now)
            }
            (answer, _) => {
                let unknown = matches!(&answer, Answer::Again(_, effect) if effect != "no")
                    || (creates && self.was_kept(case)?);
                if creates {
                    if unknown {
                        return self.unknown_create(case, now).await.map(Next::End);
                    }
                    self.drop_create(case);
                }
                case.lost |= unknown;
                let entity = case.link.entity.clone();
                let commit = self.take_commit(case);
                let end = self.waits(case.connection, answer, Some(entity), commit);
                Ok(Next::End(case.tell(end, now)))
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
        let lost = matches!(&error, ExchangeError::Send(SendError::Unknown { .. }) | ExchangeError::Fault(_));
        case.lost |= lost;
        if creates {
            // Nothing was sent before the intent was opened. After its first call a create may be held up: it has taken effect.
            if case.create_open && (lost || self.was_kept(case)?) {
                if let ExchangeError::Send(_) = &error {
                    self.rooms.quotas.failed(&case.connection.id, now, self.rooms.clock.jitter(u64::MAX));
                }
                return self.unknown_create(case, now).await;
            }
            self.drop_create(case);
        }
        let entity = case.link.entity.clone();
        let commit = self.take_commit(case);
        let end = self.failed(case.connection, error, Some(entity), commit)?;
        Ok(case.tell(end, now))
    }

    /// Whether the record of a create is known on disk though its exchange did not end: its first call had taken effect.
    fn was_kept(&self, case: &Case<'_>) -> Result<bool, StoreError> {
        let link = self.rooms.store.link(&case.link.entity, &case.connection.id)?;
        let is_made = |link: Link| link.external.is_some() && link.incarnation == case.link.incarnation;
        Ok(case.link.external.is_none() && link.is_some_and(is_made))
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
            let why = "the CRM refused fields; they are left out";
            case.note_fields(pointers.into_iter().collect(), "refused-fields", why, now);
            // Nothing was written: what was seen of the CRM's record still holds, and an edit there that was outvoted with a field of its
            // group has to be outvoted again.
            return Ok(Next::Round);
        }
        Ok(Next::End(self.aside(case, "rejected", problems)))
    }
}

/// What the CRM had when both sides last agreed.
fn external_half(link: &Link) -> Fields {
    link.base
        .iter()
        .filter_map(|(field, pair)| pair.external.clone().map(|value| (field.clone(), value)))
        .collect()
}
