//! One exchange with a CRM: from an operation to its answer, over as many requests as the provider asks for.
//!
//! Each step is one visit to the connection's lane: mapping, validation and the provider's calls happen together there.
//! Before each request the quota is asked; nothing is sent twice here.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tandem_core::Millis;
use tandem_core::document;
use tandem_core::exchange::{
    Answer, Attribute, Context, HttpRequest, Observed, Opaque, Operation, Problem, Proof, QuotaState,
    Reference, Reply, State, Step, Wait, Written,
};
use tandem_core::id::{ConnectionId, ExternalId, ObjectName};
use tandem_core::link::{Fields, Link};
use tandem_core::redact::{redact, redact_one};

use super::intent::Guard;
use super::record::Case;
use super::settle::word;
use super::{Clock, Connection, Pipeline, PipelineError};
use crate::delivery::{Deliver, SendError};
use crate::internal::Internal;
use crate::provider::{Fault, Provider, Runtime};
use crate::quota::{Admission, Answered, Cause, Extent, Outcome, Permit};
use crate::store::{Class, Commit, Exchanged, Op, Store, StoreError, Until};
use crate::telemetry::Metrics;

/// While something of a connection waits in line for its quota, the rest is looked at again after so many milliseconds.
const LINE_MS: u64 = 100;

/// What waits in line looks again so often, in milliseconds: an answer or the operator may have raised the limit.
const LOOK_MS: u64 = 1_000;

/// A record of the CRM in canonical form, or why it has none.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The canonical object.
    pub object: ObjectName,
    /// The CRM's id.
    pub id: ExternalId,
    /// What was seen.
    pub body: Body,
    /// Equality only.
    pub version: Option<String>,
    /// Order.
    pub stamp: Option<u64>,
    /// Tandem's key in the record.
    pub key: Option<String>,
    /// The provider's own bytes.
    pub keep: Option<Opaque>,
    /// The record says that somebody else was the last who changed it.
    pub by_other: bool,
}

/// What was seen of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Something happened to it.
    Touched,
    /// Some of its fields.
    Partial(Fields),
    /// All of its mapped fields.
    Whole(Fields),
    /// It cannot be taken in.
    Invalid {
        /// "provider-in" or "canonical-in".
        point: &'static str,
        /// What is wrong.
        problems: Vec<Problem>,
    },
    /// It is gone.
    Gone(Proof),
    /// It lives on under another id.
    Moved(Reference),
}

/// How an exchange ended.
#[derive(Debug)]
pub struct Concluded {
    /// The answer; documents in it are empty, they are in `seen`.
    pub answer: Answer,
    /// The answer's records in canonical form, in its order.
    pub seen: Vec<Seen>,
    /// Requests that were sent.
    pub calls: u32,
    /// When the first request was sent.
    pub began: Millis,
}

/// Why an exchange has no answer.
#[derive(Debug)]
pub enum ExchangeError {
    /// The component's fault.
    Fault(Fault),
    /// There is no answer from the CRM.
    Send(SendError),
    /// No quota, or a breaker is open; nothing is under way.
    Held {
        /// Not before this moment.
        until: Millis,
    },
    /// The document cannot be sent as it is.
    Refused {
        /// "canonical-in" or "provider-out".
        point: &'static str,
        /// What is wrong.
        problems: Vec<Problem>,
    },
    /// The store or System A is out of order.
    Pipeline(PipelineError),
}

impl From<Fault> for ExchangeError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What a preparation gives: the operation, or why there is none.
pub(super) type Prepared = Result<Operation, (&'static str, Vec<Problem>)>;

/// What stands beside an exchange.
struct Beside<'a> {
    /// Whose record is written.
    link: Option<&'a Link>,
    /// What is on disk before the first request is sent.
    guard: Option<&'a mut Guard>,
    /// Calls were made for the same piece of work already, and would have to be made again if it were put back.
    begun: bool,
    /// What is told of it, however it ends.
    told: &'a mut Exchanged,
}

#[expect(clippy::large_enum_variant, reason = "there is one for each exchange under way, and none is kept")]
enum Progress {
    Send(Operation, Box<Step>, Vec<QuotaState>),
    Done(Answer, Vec<Seen>, Vec<QuotaState>),
    Refused(&'static str, Vec<Problem>),
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Runs an exchange. `prepare` gives the operation, in the lane. `link`: whose record is written, for steps that say
    /// what is already true in the CRM.
    pub(super) async fn exchange<P>(
        &self,
        connection: &Arc<Connection>,
        class: Class,
        link: Option<&Link>,
        prepare: P,
    ) -> Result<Concluded, ExchangeError>
    where
        P: FnOnce(&mut dyn Provider) -> Result<Prepared, Fault> + Send + 'static,
    {
        let beside = Beside { link, guard: None, begun: false, told: &mut nothing_yet() };
        self.exchange_beside(connection, class, beside, prepare).await
    }

    /// As [`exchange`](Self::exchange), of something that is not tried over and over: it waits in line for its quota, as what has begun.
    pub(super) async fn exchange_in_line(
        &self,
        connection: &Arc<Connection>,
        class: Class,
        operation: Operation,
    ) -> Result<Concluded, ExchangeError> {
        let beside = Beside { link: None, guard: None, begun: true, told: &mut nothing_yet() };
        self.exchange_beside(connection, class, beside, move |_| Ok(Ok(operation))).await
    }

    /// As [`exchange`](Self::exchange), about the record of a case, and told in its trail. `guard` is on disk before the first request
    /// is sent.
    pub(super) async fn exchange_for<P>(
        &self,
        case: &mut Case<'_>,
        guard: Option<&mut Guard>,
        prepare: P,
    ) -> Result<Concluded, ExchangeError>
    where
        P: FnOnce(&mut dyn Provider) -> Result<Prepared, Fault> + Send + 'static,
    {
        let mut told = nothing_yet();
        let beside = Beside { link: Some(&case.link), guard, begun: case.begun, told: &mut told };
        let ended = self.exchange_beside(case.connection, case.class, beside, prepare).await;
        told.answer = match &ended {
            Ok(concluded) => word(&concluded.answer),
            Err(ExchangeError::Send(error)) => error.word(),
            Err(ExchangeError::Held { .. }) => "held-back",
            Err(ExchangeError::Refused { .. }) => "refused-here",
            Err(ExchangeError::Fault(_)) => "fault",
            Err(ExchangeError::Pipeline(_)) => "store",
        }
        .to_owned();
        case.begun |= told.requests > 0;
        case.trail.exchanged(told);
        ended
    }

    async fn exchange_beside<P>(
        &self,
        connection: &Arc<Connection>,
        class: Class,
        beside: Beside<'_>,
        prepare: P,
    ) -> Result<Concluded, ExchangeError>
    where
        P: FnOnce(&mut dyn Provider) -> Result<Prepared, Fault> + Send + 'static,
    {
        let Beside { link, mut guard, begun, told } = beside;
        let clock = &self.rooms.clock;
        let context = context(clock.now(), class);
        let room = connection.clone();
        let mut progress = self
            .rooms
            .runtime
            .visit(&connection.binding, move |provider| match prepare(provider)? {
                Ok(operation) => {
                    let reply = provider.start(&operation, &context)?;
                    advance(provider, &room, operation, reply)
                }
                Err((point, problems)) => Ok(Progress::Refused(point, problems)),
            })
            .await?;
        let mut calls = 0;
        let mut began = clock.now();
        let mut answered = Answered::default();
        loop {
            match progress {
                Progress::Refused(point, problems) => return Err(ExchangeError::Refused { point, problems }),
                Progress::Done(answer, seen, quotas) => {
                    self.learn(connection, &quotas, &answered);
                    return Ok(Concluded { answer, seen, calls, began });
                }
                Progress::Send(operation, step, quotas) => {
                    self.learn(connection, &quotas, &answered);
                    if calls >= self.limits.steps {
                        return Err(ExchangeError::Refused {
                            point: "provider-out",
                            problems: vec![Problem {
                                code: "too-many-requests-in-one-exchange".into(),
                                message: format!(
                                    "the provider asked for more than {} requests for one {}",
                                    self.limits.steps,
                                    operation.name()
                                ),
                                pointer: None,
                            }],
                        });
                    }
                    let Step { request, note, so_far } = *step;
                    if let (Some(written), Some(link)) = (so_far, link) {
                        self.keep_progress(link, &written).await.map_err(ExchangeError::Pipeline)?;
                    }
                    let permit = self.admit(connection, &request, class, begun || calls > 0).await?;
                    let mut kept = self.keep_count(&permit).await.map_err(PipelineError::from);
                    if let (true, Some(guard)) = (kept.is_ok(), guard.take()) {
                        kept = self.open(guard).await;
                    }
                    if let Err(error) = kept {
                        permit.finish(Outcome::NotSent, clock.now());
                        return Err(self.unkept(error));
                    }
                    if calls == 0 {
                        began = clock.now();
                    }
                    calls += 1;
                    told.requests = calls;
                    if calls == 1 {
                        operation.name().clone_into(&mut told.operation);
                    }
                    let asked = clock.now();
                    let sent = self.rooms.deliver.send(&connection.id, request).await;
                    answered = permit.finish(
                        match &sent {
                            Err(SendError::NotSent { .. } | SendError::Forbidden { .. }) => Outcome::NotSent,
                            _ => Outcome::Sent,
                        },
                        clock.now(),
                    );
                    let outcome = match &sent {
                        Ok(response) => Metrics::status(response.status),
                        Err(error) => error.word(),
                    };
                    let now = clock.now();
                    told.status = sent.as_ref().map_or(0, |response| response.status);
                    told.took_ms = now.saturating_sub(began);
                    let time = Duration::from_millis(now.saturating_sub(asked));
                    self.rooms.metrics.call(&self.provider_of(connection), operation.name(), outcome, time);
                    let response = match sent {
                        Ok(response) => response,
                        Err(error) => return Err(ExchangeError::Send(error)),
                    };
                    let room = connection.clone();
                    let context = self::context(clock.now(), class);
                    progress = self
                        .rooms
                        .runtime
                        .visit(&connection.binding, move |provider| {
                            let reply = provider.resume(&operation, &note, &response, &context)?;
                            advance(provider, &room, operation, reply)
                        })
                        .await?;
                }
            }
        }
    }

    /// Asks the quota, and waits for it. What has begun is worth a longer wait: starting again costs its first calls twice, and where
    /// a quota frees one call at a time it would never come to its last one. One of each connection waits in line as long as a
    /// connection may be held up, and nothing else of it begins meanwhile; the others give their turn to other connections.
    async fn admit(
        &self,
        connection: &Arc<Connection>,
        request: &HttpRequest,
        class: Class,
        begun: bool,
    ) -> Result<Permit, ExchangeError> {
        let clock = &self.rooms.clock;
        let patience =
            if begun { self.limits.patience_ms.saturating_mul(100) } else { self.limits.patience_ms };
        let give_up = clock.now().saturating_add(patience);
        let longest = clock.now().saturating_add(super::settle::LONGEST_HOLD);
        let mut place = None;
        loop {
            let now = clock.now();
            if !begun && self.in_line.lock().contains(&connection.id) {
                return Err(ExchangeError::Held { until: now.saturating_add(LINE_MS) });
            }
            match self.rooms.quotas.admit(&connection.id, &request.charges, class, now) {
                Admission::Go(permit) => return Ok(permit),
                Admission::Wait { until, .. } if until <= give_up => {
                    clock.sleep(until.saturating_sub(now).max(1)).await;
                }
                Admission::Wait { until, cause: Cause::Quota, .. } if begun && until <= longest => {
                    if place.is_none() {
                        place = Place::take(&self.in_line, &connection.id);
                    }
                    if place.is_none() {
                        return Err(ExchangeError::Held { until });
                    }
                    clock.sleep(until.saturating_sub(now).clamp(1, LOOK_MS)).await;
                }
                Admission::Wait { until, .. } => {
                    let until = until.min(now.saturating_add(super::settle::LONGEST_HOLD));
                    return Err(ExchangeError::Held { until });
                }
            }
        }
    }

    /// What the headers of an answer say. What was put back for a quota goes on where calls may go that had to wait.
    fn learn(&self, connection: &Arc<Connection>, states: &[QuotaState], answered: &Answered) {
        if self.rooms.quotas.observe(&connection.id, states, answered, self.rooms.clock.now()) {
            self.dispatch.lock().release(&connection.id);
            (self.arrived)();
        }
    }

    /// What a call takes of a budget that outlasts the daemon is on disk before it is sent.
    async fn keep_count(&self, permit: &Permit) -> Result<(), StoreError> {
        if permit.is_saved() {
            return Ok(());
        }
        let turn = self.saving.lock().await;
        // Whoever had the turn before saved for all that waited.
        if permit.is_saved() {
            return Ok(());
        }
        // Rarely: what is saved reaches ahead of what is used.
        Box::pin(self.save_counters(turn, Extent::Due)).await
    }

    /// Saves the counters of quotas; with a full disk, when somebody saves next.
    ///
    /// # Errors
    /// The store is out of order.
    pub async fn keep_counters(&self, extent: Extent) -> Result<(), StoreError> {
        let turn = self.saving.lock().await;
        match self.save_counters(turn, extent).await {
            Err(error @ StoreError::Full { .. }) => {
                tracing::error!(%error, "counters of quotas wait to be saved");
                Ok(())
            }
            kept => kept,
        }
    }

    /// One save at a time: an earlier state may not be written over a later one.
    async fn save_counters(
        &self,
        _turn: tokio::sync::MutexGuard<'_, ()>,
        extent: Extent,
    ) -> Result<(), StoreError> {
        let mut saving = self.rooms.quotas.to_save(extent);
        if saving.values.is_empty() {
            return Ok(());
        }
        let mut commit = Commit::new();
        for (name, value) in std::mem::take(&mut saving.values) {
            commit.push(Op::PutValue(name, value));
        }
        match self.rooms.store.commit(commit, Until::Durable).await {
            Ok(()) => {
                self.rooms.quotas.saved(saving);
                Ok(())
            }
            Err(error) => {
                self.rooms.quotas.unsaved(saving);
                Err(error)
            }
        }
    }

    /// What has to be on disk before a request is sent is not: with a full disk it is not sent now.
    fn unkept(&self, error: PipelineError) -> ExchangeError {
        match error {
            PipelineError::Store(StoreError::Full { .. }) => ExchangeError::Held {
                until: self.rooms.clock.now().saturating_add(super::settle::DISK_FULL_MS),
            },
            error => ExchangeError::Pipeline(error),
        }
    }

    /// What is already true in the CRM is on disk before the next request of the same write is sent.
    async fn keep_progress(&self, link: &Link, written: &Written) -> Result<(), PipelineError> {
        let mut link = link.clone();
        link.external = Some(ExternalId::from(written.observed.id.as_str()));
        let mut commit = Commit::new();
        commit.push(Op::PutLink(link));
        self.rooms.store.commit(commit, Until::Durable).await?;
        Ok(())
    }
}

/// The place of the one piece of work of a connection that waits for its quota in line.
struct Place<'a> {
    line: &'a Mutex<HashSet<ConnectionId>>,
    connection: ConnectionId,
}

impl<'a> Place<'a> {
    fn take(line: &'a Mutex<HashSet<ConnectionId>>, connection: &ConnectionId) -> Option<Self> {
        let taken = line.lock().insert(connection.clone());
        taken.then(|| Self { line, connection: connection.clone() })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.lock().remove(&self.connection);
    }
}

/// Of an exchange that sent nothing yet.
fn nothing_yet() -> Exchanged {
    Exchanged { operation: String::new(), requests: 0, status: 0, took_ms: 0, answer: String::new() }
}

fn context(now: Millis, class: Class) -> Context {
    Context { now, attributes: vec![Attribute { name: "class".into(), value: class.name().into() }] }
}

fn advance(
    provider: &mut dyn Provider,
    connection: &Connection,
    operation: Operation,
    reply: Reply,
) -> Result<Progress, Fault> {
    let Reply { mut answer, quotas } = reply;
    if let Operation::Write(write) = &operation {
        match &mut answer {
            Answer::Rejected(problems) => redact(problems, &write.document),
            Answer::Blocked(block) => redact_one(&mut block.problem, &write.document),
            Answer::Written(written) => redact(&mut written.unapplied, &write.document),
            _ => {}
        }
    }
    let mut seen = Vec::new();
    let answer = match answer {
        Answer::Send(step) => return Ok(Progress::Send(operation, Box::new(step), quotas)),
        Answer::Written(mut written) => {
            seen.push(see(provider, connection, take(&mut written.observed))?);
            Answer::Written(written)
        }
        Answer::Current(mut observed) => {
            seen.push(see(provider, connection, take(&mut observed))?);
            Answer::Current(observed)
        }
        Answer::Found(rows) => {
            for row in rows {
                seen.push(see(provider, connection, row)?);
            }
            Answer::Found(Vec::new())
        }
        other => other,
    };
    Ok(Progress::Done(answer, seen, quotas))
}

/// The observation itself; what stays behind has no document.
fn take(observed: &mut Observed) -> Observed {
    let state = std::mem::replace(&mut observed.state, State::Touched);
    Observed { state, ..observed.clone() }
}

/// Brings an observation into canonical form, validating the provider's document and the canonical one.
pub(super) fn see(
    provider: &mut dyn Provider,
    connection: &Connection,
    observed: Observed,
) -> Result<Seen, Fault> {
    let Observed { object, id, state, version, stamp, key, keep, author, .. } = observed;
    let object = ObjectName::from(object);
    let body = match state {
        State::Touched => Body::Touched,
        State::Gone(proof) => Body::Gone(proof),
        State::Moved(reference) => Body::Moved(reference),
        State::Partial(document) => match provider.to_canonical(object.as_str(), &document)? {
            // An event that cannot be mapped says only that something happened.
            Err(_) => Body::Touched,
            Ok(canonical) => match document::parse(&canonical) {
                Ok(value) => Body::Partial(document::into_fields(value)),
                Err(_) => Body::Touched,
            },
        },
        State::Whole(document) => whole(provider, connection, &object, &document)?,
    };
    let by_other = author.as_deref() == Some("other");
    Ok(Seen { object, id: ExternalId::from(id), body, version, stamp, key, keep, by_other })
}

fn whole(
    provider: &mut dyn Provider,
    connection: &Connection,
    object: &ObjectName,
    bytes: &[u8],
) -> Result<Body, Fault> {
    let invalid = |point, problems| Ok(Body::Invalid { point, problems });
    let Some(room) = connection.objects.get(object) else {
        return invalid(
            "provider-in",
            vec![Problem {
                code: "unknown-object".into(),
                message: format!("connection {} keeps no object {object}", connection.id),
                pointer: None,
            }],
        );
    };
    let value = match provider_document(bytes) {
        Ok(value) => value,
        Err(problems) => return invalid("provider-in", problems),
    };
    if let Err(problems) = room.read.validate(&value) {
        return invalid("provider-in", problems);
    }
    let canonical = match provider.to_canonical(object.as_str(), bytes)? {
        Ok(canonical) => canonical,
        Err(mut problems) => {
            redact(&mut problems, bytes);
            return invalid("provider-in", problems);
        }
    };
    let value = match document::parse(&canonical) {
        Ok(value) => value,
        Err(problems) => return invalid("canonical-in", problems),
    };
    if let Err(problems) = room.canonical.validate(&value) {
        return invalid("canonical-in", problems);
    }
    Ok(Body::Whole(document::into_fields(value)))
}

/// A provider document as JSON. Its schema judges it, not the canonical rules: a CRM may write numbers as it likes.
pub(super) fn provider_document(bytes: &[u8]) -> Result<serde_json::Value, Vec<Problem>> {
    document::parse_foreign(bytes)
}

/// The moment of a wait, or a guess where the CRM gave none.
pub(super) fn moment(wait: Wait, now: Millis, guess_ms: u64) -> Millis {
    match wait {
        Wait::Until(at) => at.max(now),
        Wait::Unknown => now.saturating_add(guess_ms),
    }
}
