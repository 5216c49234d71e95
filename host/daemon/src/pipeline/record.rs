//! One record: look at both sides, plan, write, and plan again until there is nothing left to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tandem_core::Millis;
use tandem_core::descriptor::Condition;
use tandem_core::document;
use tandem_core::exchange::{Answer, Decision, Operation, Problem, Reference};
use tandem_core::id::{EntityKey, ExternalId, ProviderId};
use tandem_core::link::{Fields, Life, Link, Pair};
use tandem_core::plan::{
    self, Ask, Edit, External, ExternalWrite, Internal as InternalState, Peer, Source, Unsettled, Verdict,
};
use tandem_core::rules::Action;

use super::again::{Missed, missed_before};
use super::dispatch::{Dispatch, Hand};
use super::exchange::{Body, Seen};
use super::guard::{Kind, Reservation, Ruling, Withheld, Writes, is_bulk, is_known, is_unasked};
use super::inbox::problem;
use super::peers::Other;
use super::settle::{End, changes_nothing};
use super::trail::Trail;
use super::{Clock, Connection, Object, Pipeline, PipelineError, Work};
use crate::delivery::Deliver;
use crate::internal::{Internal, Record};
use crate::provider::Runtime;
use crate::store::{Class, Commit, Op, Store, Subject};

/// What a paused direction holds up is looked at again after this, in milliseconds.
const PAUSED_MS: Millis = 30_000;

/// Rounds of plan and write for one piece of work. A plan settles in three; the rest is for people who edit meanwhile.
const ROUNDS: u32 = 12;

/// Hands that a piece of work holds besides its own; let go when it is settled.
pub(super) struct Held<'a> {
    dispatch: &'a parking_lot::Mutex<Dispatch>,
    /// The work's own, which ends with it.
    own: Option<Hand>,
    hands: Vec<Hand>,
}

impl<'a> Held<'a> {
    pub(super) fn new(dispatch: &'a parking_lot::Mutex<Dispatch>, own: Option<Hand>) -> Self {
        Self { dispatch, own, hands: Vec::new() }
    }

    /// Takes one more hand; false when somebody else has it.
    pub(super) fn hold(&mut self, hand: Hand) -> bool {
        if self.own.as_ref() == Some(&hand) || self.hands.contains(&hand) {
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
    /// The entity's links at the scope's other connections. Nobody changes them meanwhile: the entity is in this hand.
    pub(super) peers: Vec<Other>,
    pub(super) external: External,
    /// Edits in the CRM that were told of with their times.
    pub(super) edits: Vec<Edit>,
    /// Who wrote the record of System A that was read last.
    pub(super) internal_origin: String,
    pub(super) trail: Box<Trail>,
    pub(super) provider: ProviderId,
    pub(super) commit: Commit,
    /// The intent of a create was opened or found, and has to be closed with the link.
    pub(super) create_open: bool,
    /// The updates that this case made, or found half done.
    pub(super) unsettled: Unsettled,
    /// The intent of these updates is on disk, and has to be closed with the link.
    pub(super) update_open: bool,
    /// They were found half done, and what became of them is not known yet.
    pub(super) settling: bool,
    /// The answer to an update was lost: what became of it is found out by the next try.
    pub(super) lost: bool,
    /// Its record was made in the CRM by this case.
    pub(super) made: bool,
    /// Calls were made for it: what it learnt would be lost if it were put back.
    pub(super) begun: bool,
    /// A look at everything is the only reason for it.
    pub(super) bulk: bool,
    /// A poll is the only reason, and told of a state that the link knows from before the connection's last change.
    pub(super) known: bool,
    /// Somebody asked for that look.
    pub(super) asked: bool,
    /// The numbers of its hints, of such a look.
    pub(super) seqs: Vec<u64>,
    /// The row of a write that was withheld.
    pub(super) withheld: Option<Box<Withheld>>,
    /// The guard let go what is written, or somebody approved of it.
    pub(super) allowed: Option<Kind>,
    /// Room that was taken in the guard's window.
    pub(super) reservation: Option<Reservation>,
    /// The guard's number for what is deleted or withheld together.
    pub(super) batch: u64,
    /// Records that are linked to nothing and were missed.
    pub(super) missed: Missed,
}

impl Case<'_> {
    /// A record that is linked to nothing was missed by a read. Until when it is left before it is looked for again; None: that was done,
    /// and it is gone.
    pub(super) fn misses(&mut self, id: &ExternalId, began: Millis) -> Option<Millis> {
        let since = *self.missed.entry(id.clone()).or_insert(began);
        let until = since.saturating_add(self.object.policy.confirm_after());
        (began < until).then_some(until)
    }

    /// When the look began that shows a record whose removal got no answer: a replica that lags shows it as well.
    fn shown_after_removal(&self) -> Option<Millis> {
        match self.external {
            External::Whole { source: Source::Read { began }, .. } => {
                (self.settling && self.unsettled.removal).then_some(began)
            }
            _ => None,
        }
    }

    /// Fields that have moved in the CRM's record since the link was written are compared anew.
    pub(super) fn take_up_places(&mut self) {
        let forgotten = self.object.places.take_up(&mut self.link);
        if !forgotten.is_empty() {
            let at = self.trail.began();
            self.note_fields(
                forgotten,
                "remapped",
                "kept elsewhere in the CRM's record, so it is compared anew",
                at,
            );
        }
    }

    /// What a record of System A says of its state. Who wrote it is kept for the trail.
    pub(super) fn take_internal(&mut self, record: Record) -> InternalState {
        let (state, origin) = state_of(record);
        self.internal_origin = origin;
        state
    }
}

/// What a record of System A says of its state, and who wrote it last.
fn state_of(record: Record) -> (InternalState, String) {
    let Record { version, changed_at, origin, document } = record;
    let changed_at = Some(changed_at);
    let state = match document {
        Some(document) => {
            InternalState::Present { fields: document::into_fields(document), version, changed_at }
        }
        None => InternalState::Deleted { version, changed_at },
    };
    (state, origin)
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
                let seen = match self.observe(connection, object, work, &link).await {
                    Ok(external) => {
                        self.edits(connection, object, &link, work).await.map(|edits| (external, edits))
                    }
                    Err(fault) => Err(fault),
                };
                let (external, edits) = match seen {
                    Ok(seen) => seen,
                    Err(fault) => {
                        return self.failed(connection, fault.into(), Some(entity.clone()), Commit::new());
                    }
                };
                let link = if edits.is_empty() {
                    link
                } else {
                    plan::note_edits(&link, &edits, &object.policy, self.rooms.clock.now())
                };
                // An edit in System A that overtook word of the same record would be written over what was told already. Where each
                // write says which state it goes over, the CRM itself refuses that.
                let overtook = work.went_ahead
                    && link.external.is_some()
                    && has_internal(work)
                    && object.abilities.condition != Condition::Etag;
                if overtook && external == External::Unseen && connection.directions.external_paused() {
                    // The look would be for a write that waits.
                    return Ok(paused(self.rooms.clock.now()));
                }
                let external = match external {
                    External::Unseen | External::Partial { .. } if overtook => External::Touched,
                    External::Whole { source: Source::Listing { .. } | Source::Event, .. } if overtook => {
                        External::Touched
                    }
                    seen => seen,
                };
                let mut case = self.case(connection, object, work, link, stored, external);
                case.edits = edits;
                if let Some(end) = self.take_up(&mut case, held)? {
                    return Ok(end);
                }
                if let Some(end) = Box::pin(self.work_clash(&mut case, work, held)).await? {
                    return Ok(end);
                }
                if (case.link.external.is_none() || case.link.base.is_empty())
                    && case.link.life == Life::Active
                    && let Some(intent) = self.rooms.store.intent(entity, &connection.id)?
                    && !self.was_made(&mut case, &intent)
                {
                    match self.resolve_intent(&mut case, intent, held).await? {
                        Next::Round | Next::Reread => {}
                        Next::End(end) => return Ok(end),
                    }
                }
                self.rounds(case, held).await
            }
            Hand::External(key) => Box::pin(self.work_unlinked(connection, object, work, key, held)).await,
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
        let trail = Trail::new(work, &link, &external, self.label(connection), self.rooms.clock.now());
        let bulk = is_bulk(work, &link);
        // Where both sides agreed since the last change of the mapping or the rules, what differs is an edit, whatever the times say.
        let known = link.committed_at < connection.since && is_known(work, &link, object.abilities.condition);
        let mut case = Case {
            connection,
            object,
            class: work.class(),
            link,
            stored,
            peers: Vec::new(),
            external,
            edits: Vec::new(),
            internal_origin: String::new(),
            trail: Box::new(trail),
            provider: self.provider_of(connection),
            commit: Commit::new(),
            create_open: false,
            unsettled: Unsettled::default(),
            update_open: false,
            made: false,
            settling: false,
            lost: false,
            begun: false,
            bulk,
            known,
            asked: bulk && work.hints.iter().any(|hint| hint.cause == "look"),
            seqs: if bulk { work.hints.iter().map(|hint| hint.seq).collect() } else { Vec::new() },
            withheld: None,
            allowed: None,
            reservation: None,
            batch: 0,
            missed: missed_before(work),
        };
        case.take_up_places();
        case
    }

    /// Plans and writes until there is nothing left to do.
    pub(super) async fn rounds(&self, mut case: Case<'_>, held: &mut Held<'_>) -> Result<End, PipelineError> {
        case.connection.directions.note(&case.link.entity);
        case.peers = self.peers(&case)?;
        self.take_up_withheld(&mut case)?;
        let mut internal = self.read_for(&mut case).await?;
        self.settle_deletion(&mut case, &internal);
        for _ in 0..ROUNDS {
            let now = self.rooms.clock.now();
            let (removal, doubt) = (case.shown_after_removal(), case.link.doubt);
            self.settle_updates(&mut case, &internal, now);
            plan::date(&mut case.external, &case.link, &case.edits, &case.object.policy);
            let mut plan = {
                let peers: Vec<Peer<'_>> = case.peers.iter().map(Other::peer).collect();
                plan::plan_beside(&case.link, &peers, &internal, &case.external, &case.object.policy, now)
            };
            if let Some(began) = removal
                && !matches!(plan.external, Some(ExternalWrite::Remove { .. }))
                && let Some(until) = {
                    case.link.doubt = case.link.doubt.or(doubt);
                    plan::confirm_return(&mut case.link, began, &case.object.policy)
                }
            {
                case.settling = true;
                case.note("doubted", "a removal got no answer, and the record is shown still", now);
                let commit = self.take_commit(&mut case);
                return Ok(End::Later { until, touched: true, commit });
            }
            if removal.is_some() {
                // It is there: what goes from now on goes by somebody else's hand. Removed once more, either removal may be the one.
                let again = matches!(plan.external, Some(ExternalWrite::Remove { .. }));
                case.unsettled.removal = again;
                case.settling = again;
            }
            if let Some(end) = self.redirected(&mut case, &plan.link, &internal, held)? {
                return Ok(end);
            }
            if let Some(ask) = plan.ask {
                match self.ask(&mut case, ask, plan.link, &plan.reason).await? {
                    Next::Round => continue,
                    Next::Reread => {
                        internal = self.read_for(&mut case).await?;
                        continue;
                    }
                    Next::End(end) => return Ok(end),
                }
            }
            self.note_plan(&mut case, &mut plan, &internal, now);
            let before = std::mem::replace(&mut case.link, plan.link);
            let before = plan.internal.is_some().then(|| Box::new(before));
            let mut writes = Writes { internal: plan.internal, external: plan.external };
            if writes.is_empty() {
                case.note_quiet(&plan.reason, now);
            }
            if is_unasked(&case, &writes, &internal) && !self.is_set_aside(&case)? {
                return Ok(End::Done(Commit::new()));
            }
            if self.is_guarded(&case, &writes, &internal) {
                match Box::pin(self.guard(&mut case, &mut writes, &internal, &plan.reason)).await? {
                    Ruling::Go => {}
                    Ruling::Replan => continue,
                    Ruling::Wait => break,
                    Ruling::End(end) => return Ok(*end),
                }
            }
            let quiet = writes.is_empty();
            if let (Some(write), Some(before)) = (writes.internal, before) {
                if case.connection.directions.internal_paused() {
                    return Ok(self.pause(&mut case, now));
                }
                match self.write_internal(&mut case, write, &mut internal, &plan.reason, before, held).await?
                {
                    Next::Round => {}
                    Next::Reread => {
                        internal = self.read_for(&mut case).await?;
                        continue;
                    }
                    Next::End(end) => return Ok(end),
                }
                if writes.external.is_none() {
                    break;
                }
                if let Some(end) = self.keep_internal_half(&mut case).await? {
                    return Ok(end);
                }
            }
            if let Some(write) = writes.external {
                if case.connection.directions.external_paused() {
                    return Ok(self.pause(&mut case, now));
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
        self.drop_create(&mut case);
        let is_linked = case.link.life == Life::Active && case.link.external.is_some();
        if !(case.settling && case.unsettled.removal && is_linked) {
            self.drop_update(&mut case);
        }
        self.conclude_guard(&mut case);
        let mut commit = std::mem::take(&mut case.commit);
        case.trail.flush(&case.link, is_new, &mut commit);
        if case.stored.as_ref() != Some(&case.link) && says_something {
            commit.push(Op::PutLink(case.link));
        }
        if changes_nothing(&commit) {
            self.rooms.metrics.record(&case.provider, "unchanged");
        }
        commit
    }

    /// The direction of the next write is paused. What was written before is kept, since nothing would tell later what the CRM made of it.
    fn pause(&self, case: &mut Case<'_>, now: Millis) -> End {
        let is_linked = case.link.external.is_some() || case.stored.is_some();
        let says_more = is_linked && case.stored.as_ref() != Some(&case.link);
        if case.settling || !case.update_open && !case.create_open || !says_more {
            return paused(now);
        }
        let commit = self.take_commit(case);
        End::Later { until: now.saturating_add(PAUSED_MS), touched: true, commit }
    }

    /// System A's record of a case, and who wrote it.
    async fn read_for(&self, case: &mut Case<'_>) -> Result<InternalState, PipelineError> {
        let (state, origin) = self.read_internal(&case.link.entity).await?;
        if let Some(origin) = origin {
            case.internal_origin = origin;
        }
        Ok(state)
    }

    /// System A's record, and who wrote it last.
    pub(super) async fn read_internal(
        &self,
        entity: &EntityKey,
    ) -> Result<(InternalState, Option<String>), PipelineError> {
        let record = self.rooms.internal.read(&entity.scope, &entity.object, &entity.id).await?;
        Ok(match record {
            None => (InternalState::Absent, None),
            Some(record) => {
                let (state, origin) = state_of(record);
                (state, Some(origin))
            }
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
                case.note("doubted", reason, now);
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
        let sent = self.exchange_for(case, None, move |_| Ok(Ok(operation))).await;
        let mut concluded = match sent {
            Ok(concluded) => concluded,
            Err(error) => {
                let commit = self.take_commit(case);
                let end = self.failed(case.connection, error, Some(entity), commit)?;
                return Ok(Err(case.tell(end, self.rooms.clock.now())));
            }
        };
        let began = concluded.began;
        match (concluded.answer, concluded.seen.pop()) {
            (Answer::Current(_), Some(seen)) => {
                self.rooms.quotas.succeeded(&case.connection.id, self.rooms.clock.now());
                Ok(Ok((seen, began)))
            }
            (answer, _) => {
                let commit = self.take_commit(case);
                let end = self.waits(case.connection, answer, Some(entity), commit);
                Ok(Err(case.tell(end, self.rooms.clock.now())))
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
                    changed_at: BTreeMap::new(),
                    by_other: seen.by_other,
                }
            }
            Body::Gone(proof) => External::Gone { proof, at: began },
            Body::Moved(reference) => External::Moved { to: ExternalId::from(reference.id) },
            Body::Invalid { point, problems } => {
                return Err(self.aside(case, point, problems));
            }
        })
    }

    /// Sets the record aside, with what was done so far.
    pub(super) fn aside(&self, case: &mut Case<'_>, point: &'static str, problems: Vec<Problem>) -> End {
        let end = End::SetAside {
            point,
            problems,
            entity: Some(case.link.entity.clone()),
            commit: self.take_commit(case),
        };
        case.tell(end, self.rooms.clock.now())
    }

    /// What was done so far, when the work does not reach its end: the link as far as it got.
    pub(super) fn take_commit(&self, case: &mut Case<'_>) -> Commit {
        let mut commit = std::mem::take(&mut case.commit);
        let is_first = case.stored.is_none();
        let says_something = case.link.external.is_some() || case.stored.is_some();
        if case.stored.as_ref() != Some(&case.link) && says_something {
            commit.push(Op::PutLink(case.link.clone()));
            case.stored = Some(case.link.clone());
            if case.link.external.is_some() {
                let covered = case.create_open;
                self.drop_create(case);
                if covered && case.lost && !case.unsettled.is_empty() {
                    // An update under the intent of the create: its outcome is not known either.
                    self.open_update(case);
                }
            }
        }
        if !case.lost && !case.settling {
            self.drop_update(case);
        }
        commit.ops.append(&mut case.commit.ops);
        case.trail.flush(&case.link, is_first, &mut commit);
        commit
    }

    /// What the customer's own rules say. None: it takes part.
    ///
    /// A record that is skipped keeps its link and its base: whatever changes meanwhile on either side is planned when a
    /// rule lets it in again.
    fn judge_by_rules(
        &self,
        case: &mut Case<'_>,
        origin: &'static str,
        after: Option<&Value>,
    ) -> Option<End> {
        let rules = case.connection.rules.clone();
        // What is deleted is left out still if it was when there was something to judge: what the link knows is older.
        let outside = case.link.outside.take().filter(|rule| after.is_none() && rules.knows(rule));
        if let Some(rule) = outside {
            case.note("skipped", &format!("rule {rule}"), self.rooms.clock.now());
            case.link.outside = Some(rule);
            return Some(End::Done(self.take_commit(case)));
        }
        if rules.is_empty() {
            return None;
        }
        let before = (!case.link.base.is_empty()).then(|| document::value(&internal_half(&case.link)));
        let object = case.link.entity.object.clone();
        let judged = rules.judge(&tandem_core::rules::Case {
            connection: case.connection.id.as_str(),
            object: object.as_str(),
            schema: &case.object.canonical,
            origin,
            before: before.as_ref(),
            after,
        });
        match judged {
            Ok(None) => None,
            Ok(Some(judged)) => match judged.action {
                Action::Sync => {
                    case.trail.ruling = Some(format!("rule {}: sync", judged.rule));
                    None
                }
                Action::Skip => {
                    let why = format!("rule {}", judged.rule);
                    case.link.outside = Some(judged.rule.to_owned());
                    self.look_again(case, origin);
                    case.trail.ruling = Some(format!("{why}: skip"));
                    case.note("skipped", &why, self.rooms.clock.now());
                    Some(End::Done(self.take_commit(case)))
                }
                Action::Hold => {
                    case.trail.ruling = Some(format!("rule {}: hold", judged.rule));
                    let why = format!(
                        "rule {}; change the record or the rule, then `tandem dead replay`",
                        judged.rule
                    );
                    Some(self.aside(case, "held", vec![problem("held-by-rule", why)]))
                }
            },
            Err(error) => {
                let why = format!("{error}; `tandem rules test` shows it");
                Some(self.aside(case, "held", vec![problem("rule-failed", why)]))
            }
        }
    }

    /// Whether the record takes part: the customer's own rules first, then what only the provider can know. None: it does.
    pub(super) async fn judge(
        &self,
        case: &mut Case<'_>,
        origin: &'static str,
        after: Option<&Value>,
    ) -> Result<Option<End>, PipelineError> {
        if let Some(end) = self.judge_by_rules(case, origin, after) {
            return Ok(Some(end));
        }
        if !case.connection.binding.view().descriptor.rules {
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
        let ruling = self
            .rooms
            .runtime
            .visit(&case.connection.binding, move |provider| provider.decide(&change))
            .await;
        let entity = Some(case.link.entity.clone());
        let ruling = match ruling {
            Ok(ruling) => ruling,
            Err(fault) => {
                self.look_again(case, origin);
                let commit = self.take_commit(case);
                let end = self.failed(case.connection, fault.into(), entity, commit)?;
                return Ok(Some(case.tell(end, self.rooms.clock.now())));
            }
        };
        let now = self.rooms.clock.now();
        let decision = match &ruling.decision {
            Decision::Sync => "sync",
            Decision::Skip(_) => "skip",
            Decision::Hold(_) => "hold",
            Decision::Remove(_) => "remove",
            Decision::Read => "read",
        };
        case.trail.ruling = Some(format!("the provider's rule {}: {decision}", ruling.rule));
        Ok(match ruling.decision {
            Decision::Sync => None,
            Decision::Skip(why) | Decision::Remove(why) => {
                let why = format!("rule {}: {why}", ruling.rule);
                case.note("skipped", &why, now);
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

    /// What was seen of the CRM's record could not be carried to System A: the next try has to see it too.
    fn look_again(&self, case: &mut Case<'_>, origin: &str) {
        case.link.look |= origin == "external" && case.link.external.is_some();
    }

    /// Tells of what a plan decided, before it is carried out.
    fn note_plan(&self, case: &mut Case<'_>, plan: &mut plan::Plan, internal: &InternalState, now: Millis) {
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
            // What was overtaken is nowhere else any more.
            let overtaken: BTreeMap<String, Option<Pair>> = conflict
                .fields
                .iter()
                .filter_map(|field| {
                    let overtaken = case.link.overtaken.get(field)?;
                    let internal = case.link.base.get(field).and_then(|pair| pair.internal.clone());
                    let external = overtaken.value.clone();
                    Some((field.clone(), Some(Pair { internal, external, ..Pair::default() })))
                })
                .collect();
            let what = if overtaken.is_empty() { what } else { "overtaken" };
            let fields = conflict.fields.iter().filter(|field| !overtaken.contains_key(*field));
            let fields = fields.cloned().collect();
            case.note_overtaken(overtaken, fields, what, &conflict.why, now);
        }
        let mut frozen = BTreeMap::new();
        for (field, why) in &plan.link.frozen {
            if !case.link.frozen.contains_key(field) {
                case.note_fields(vec![field.clone()], "frozen", &format!("{field}: {why}"), now);
                frozen.insert(field.clone(), why.clone());
            }
        }
        case.freeze_peers(&frozen, now);
        case.sign(&mut plan.link, internal);
        case.trail.planned(plan, &case.link, internal, &case.external, &case.object.policy);
    }
}

/// Whether somebody edited the record in System A.
fn has_internal(work: &Work) -> bool {
    work.hints.iter().any(|hint| matches!(hint.subject, Subject::Internal(_)))
}

/// It waits for somebody to resume the direction, who releases it; until then each look costs a call, so that there are few.
pub(super) fn paused(now: Millis) -> End {
    End::PutBack { until: now.saturating_add(PAUSED_MS), whole: false }
}

fn internal_half(link: &Link) -> Fields {
    link.base
        .iter()
        .filter_map(|(field, pair)| pair.internal.clone().map(|value| (field.clone(), value)))
        .collect()
}
