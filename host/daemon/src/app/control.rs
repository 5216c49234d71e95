//! What the admin API asks of the daemon, answered from the store and the pipeline.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use tandem_core::Millis;
use tandem_core::exchange::Observed;
use tandem_core::id::{ConnectionId, ObjectName};
use tandem_core::link::{Link, Side};
use tandem_core::policy::Flow;
use tandem_core::span;

use super::Engine;
use super::providers::Scan;
use crate::admin::matches::{DecideMatch, MatchAsked, MatchReport, MatchRows};
use crate::admin::view::{
    Cause, ChangeView, ConnectionState, ConnectionStatus, Count, DeadView, DecidedMany, ErasureView,
    Explanation, HistoryView, IntentView, InternalView, KeptView, LinkView, PastView, Paused, PlaceView,
    ProviderView, ProvidersReloaded, Reloaded, ReviewView, Status, Swapped, Undone, WithheldView,
};
use crate::admin::{
    Aspect, Control, ControlError, DeadTarget, Decide, DecideMany, DeletesTarget, Look, PauseTarget, Pin,
    Readiness, RecordRef, ReviewFilter, RollBack, Unfreeze, moment, past,
};
use crate::internal::Internal as _;
use crate::pipeline::{Approval, Clock as _, DecideClashError, Kept, Kind as Guarded, Selection, Withheld};
use crate::quota::Cause as Standing;
use crate::store::{
    Class, Commit, DeadLetter, Hint, HistoryEntry, Op, Store as _, StoreError, Subject, Until, lies_within,
};
use crate::telemetry::Freshness;

/// History entries that `explain` shows.
const HISTORY: usize = 200;

#[expect(clippy::needless_pass_by_value, reason = "it stands where an error is mapped")]
pub(super) fn store(error: StoreError) -> ControlError {
    ControlError::Failed(error.to_string())
}

impl Engine {
    pub(super) fn known(&self, connection: &ConnectionId) -> Result<(), ControlError> {
        if self.pipeline.connection(connection).is_some() || self.refused.lock().contains_key(connection) {
            Ok(())
        } else {
            Err(ControlError::NotFound(format!(
                "there is no connection {connection}; `tandem status` lists them"
            )))
        }
    }

    fn connection_status(&self, id: &ConnectionId) -> Result<ConnectionStatus, ControlError> {
        let now = self.clock.now();
        let mut status = ConnectionStatus {
            connection: id.clone(),
            provider: None,
            scope: None,
            state: ConnectionState::Running,
            paused: Paused::default(),
            freshness_ms: None,
            waiting: 0,
            delayed: 0,
            last: None,
            review: 0,
            dead: 0,
            withheld: 0,
            cause: Cause::None,
            detail: String::new(),
        };
        status.count(&self.store.backlog(id).map_err(store)?, now);
        let held = self.store.held_links(Some(id), 10_000).map_err(store)?;
        status.review = held.iter().map(|link| (link.held.len() + link.frozen.len()) as u64).sum();
        status.review += self.pipeline.clashes(Some(id), 10_000).map_err(store)?.len() as u64;
        status.dead = self.store.dead_count(id).map_err(store)?;
        let stopped = self.pipeline.stopped(id);
        status.withheld = stopped.iter().map(|(.., count)| count).sum();
        let Some(connection) = self.pipeline.connection(id) else {
            status.state = ConnectionState::Stopped;
            status.cause = Cause::Configuration;
            status.detail = self.refused.lock().get(id).map(|why| why.join("; ")).unwrap_or_default();
            return Ok(status);
        };
        status.last = connection.directions.last();
        status.scope = Some(connection.scope.clone());
        status.provider = self.runtime.view(id).ok().map(|view| view.label.clone());
        status.paused = Paused {
            to_external: connection.directions.external_paused(),
            to_internal: connection.directions.internal_paused(),
        };
        let standing = self.quotas.standing(id, now);
        let until = standing.not_before;
        let reason = standing.detail;
        let (state, cause, detail) = match standing.cause {
            _ if connection.directions.disabled() => {
                let provider = &connection.binding.view().provider;
                (
                    ConnectionState::Stopped,
                    Cause::Configuration,
                    format!("provider {provider} was removed; put its file back, and the queue goes on"),
                )
            }
            _ if status.paused.to_external && status.paused.to_internal => {
                (ConnectionState::Paused, Cause::Paused, "paused; `tandem resume` lets it go on".to_owned())
            }
            Standing::Quota => {
                let of = standing.quotas.iter().find(|quota| quota.quota == reason);
                let what = match of.map(|quota| quota.limit.saturating_sub(quota.used)) {
                    _ if reason.is_empty() => "the CRM asked for a pause".to_owned(),
                    _ if of.is_some_and(|quota| quota.not_before > now) => {
                        format!("the CRM asked for a pause of quota {reason}")
                    }
                    Some(left @ 1..) => {
                        format!("quota {reason} has {left} left, too little for the next call")
                    }
                    _ => format!("quota {reason} is used up"),
                };
                (
                    ConnectionState::Waiting,
                    Cause::Quota,
                    format!("{what}; it goes on in {}", span::until(until, now)),
                )
            }
            Standing::Breaker => (
                ConnectionState::Waiting,
                Cause::Breaker,
                format!(
                    "the CRM failed too often in a row; it is tried again in {}",
                    span::until(until, now)
                ),
            ),
            Standing::Authorisation => (
                ConnectionState::Stopped,
                Cause::Authorisation,
                format!("{reason}; mend its credentials, then `tandem resume {id}`"),
            ),
            Standing::Blocked => (ConnectionState::Stopped, Cause::Configuration, reason),
            Standing::None => {
                let behind = connection.binding.view();
                if let Some(behind) = self.shelf.behind(id, &behind.provider)
                    && !status.paused.to_external
                    && !status.paused.to_internal
                    && self.faulty(id).is_none()
                {
                    (ConnectionState::Running, Cause::Configuration, behind)
                } else if let Some(why) = self.refused.lock().get(id) {
                    let detail =
                        format!("its file is refused, it goes on with what it had: {}", why.join("; "));
                    (ConnectionState::Running, Cause::Configuration, detail)
                } else if status.paused.to_external || status.paused.to_internal {
                    (ConnectionState::Running, Cause::Paused, "one direction is paused".to_owned())
                } else if let Some(fault) = self.faulty(id) {
                    let detail = format!(
                        "{fault}; it is tried again now and then, and at once with a mended component"
                    );
                    (ConnectionState::Waiting, Cause::Fault, detail)
                } else if !stopped.is_empty() {
                    (ConnectionState::Running, Cause::Guard, stopped_in_words(&stopped))
                } else if let Some(detail) = self.trouble_with_webhooks(id) {
                    (ConnectionState::Running, Cause::Configuration, detail)
                } else if status.review > 0 && status.waiting == 0 && status.delayed == 0 {
                    (
                        ConnectionState::Running,
                        Cause::Review,
                        "`tandem review list` shows what waits".to_owned(),
                    )
                } else {
                    (ConnectionState::Running, Cause::None, String::new())
                }
            }
        };
        status.state = state;
        status.cause = cause;
        status.detail = detail;
        Ok(status)
    }

    /// The engine as whoever outlives this call holds it.
    fn this(&self) -> Result<std::sync::Arc<Self>, ControlError> {
        self.itself.upgrade().ok_or_else(|| ControlError::Failed("the daemon ends".to_owned()))
    }

    fn all_connections(&self) -> Vec<ConnectionId> {
        let mut all: Vec<ConnectionId> =
            self.pipeline.connections().iter().map(|connection| connection.id.clone()).collect();
        all.extend(self.refused.lock().keys().cloned());
        all.sort();
        all.dedup();
        all
    }

    async fn set_paused(&self, target: &PauseTarget, paused: bool) -> Result<Count, ControlError> {
        if let Some(connection) = &target.connection {
            self.known(connection)?;
        }
        self.note_pause(target.connection.as_ref(), target.direction, paused).await?;
        let mut count = 0;
        let mut resumed = HashSet::new();
        for connection in self.pipeline.connections() {
            if target.connection.as_ref().is_some_and(|wanted| *wanted != connection.id) {
                continue;
            }
            if matches!(target.direction, Flow::Both | Flow::ToExternal) {
                connection.directions.pause_external(paused);
            }
            if matches!(target.direction, Flow::Both | Flow::ToInternal) {
                connection.directions.pause_internal(paused);
            }
            if !paused {
                self.quotas.clear(&connection.id);
                resumed.insert(connection.id.clone());
            }
            count += 1;
        }
        self.pipeline.release(&resumed).map_err(|error| ControlError::Failed(error.to_string()))?;
        Ok(Count { count })
    }

    /// A stored hint as a fresh one: tried from the start, looking at the record as it is now.
    fn fresh(&self, letter: &DeadLetter) -> Hint {
        let hint = &letter.hint;
        Hint {
            seq: self.store.next_seq(),
            class: Class::Interactive,
            due: 0,
            attempts: 0,
            cause: "replay".into(),
            observed: match &hint.subject {
                Subject::External(id) => Some(Observed::touched(hint.object.as_str(), id.as_str())),
                _ => None,
            },
            ..hint.clone()
        }
    }

    async fn letters(&self, target: &DeadTarget) -> Result<Vec<DeadLetter>, ControlError> {
        Ok(match target {
            DeadTarget::Seq(seq) => vec![self.store.dead_letter(*seq).map_err(store)?.ok_or_else(|| {
                ControlError::NotFound(format!(
                    "there is no dead letter {seq}; `tandem dead list` lists them"
                ))
            })?],
            DeadTarget::Connection(connection) => {
                self.known(connection)?;
                self.store.dead(Some(connection), 100_000).map_err(store)?
            }
            DeadTarget::All => self.store.dead(None, 100_000).map_err(store)?,
        })
    }

    async fn replay_letters(&self, target: &DeadTarget) -> Result<Count, ControlError> {
        let letters = self.letters(target).await?;
        let mut commit = Commit::new();
        let mut hints = Vec::new();
        for letter in &letters {
            let hint = self.fresh(letter);
            commit.push(Op::DropDead(letter.seq)).push(Op::AddHint(hint.clone()));
            hints.push(hint);
        }
        self.store.commit(commit, Until::Durable).await.map_err(store)?;
        self.pipeline.arrive(hints);
        Ok(Count { count: letters.len() as u64 })
    }

    async fn decide_question(&self, decision: DecideMatch) -> Result<Count, ControlError> {
        self.known(&decision.connection)?;
        let connection = self.pipeline.connection(&decision.connection).ok_or_else(|| {
            ControlError::Conflict(format!("connection {} cannot be used", decision.connection))
        })?;
        let DecideMatch { object, waits, choice, .. } = decision;
        match self.pipeline.decide_clash(&connection, &object, &waits, choice).await {
            Ok(()) => Ok(Count { count: 1 }),
            Err(error @ DecideClashError::Unknown(_)) => Err(ControlError::NotFound(error.to_string())),
            Err(error @ DecideClashError::Busy(_)) => Err(ControlError::Conflict(error.to_string())),
            Err(error @ DecideClashError::Unfit(_)) => Err(ControlError::Invalid(error.to_string())),
            Err(DecideClashError::Store(error)) => Err(store(error)),
        }
    }

    async fn undo_deletions(&self, target: DeletesTarget) -> Result<Undone, ControlError> {
        let selection = selection(target)?;
        if let Some(connection) = &selection.connection {
            self.known(connection)?;
        }
        let undone = self.pipeline.undo(&selection).await;
        let (count, not) = undone.map_err(|error| ControlError::Failed(error.to_string()))?;
        let not = not.iter().map(|not| format!("{}: {}", not.entity, not.why));
        Ok(Undone { count, not: not.collect() })
    }

    async fn erase_record(&self, record: RecordRef) -> Result<ErasureView, ControlError> {
        let entity = match record {
            RecordRef::Internal(entity) => entity,
            RecordRef::External(external) => {
                self.known(&external.connection)?;
                self.store.entity_of(&external).map_err(store)?.ok_or_else(|| {
                    ControlError::NotFound(format!("{external} is not linked; erase it in the CRM itself"))
                })?
            }
        };
        if !self.pipeline.connections().iter().any(|connection| connection.scope == entity.scope)
            && self.store.links(&entity).map_err(store)?.is_empty()
        {
            return Err(ControlError::NotFound(format!(
                "no connection serves scope {}; `tandem status` shows the scopes",
                entity.scope
            )));
        }
        let erased = self.pipeline.erase(&entity).await;
        let erased = erased.map_err(|error| ControlError::Failed(error.to_string()))?;
        let erased =
            erased.ok_or_else(|| ControlError::Conflict(format!("{entity} is in work; ask again")))?;
        let places = erased.places.into_iter().map(|place| PlaceView {
            place: place.place,
            what: place.what,
            gone: place.gone,
        });
        let (reports, gone) = self.drop_reports(&entity);
        let reports = PlaceView {
            place: "reports of a first sync".to_owned(),
            what: match (reports, gone) {
                (0, _) => "none was there".to_owned(),
                (1, true) => "1 was there and is gone".to_owned(),
                (count, true) => format!("{count} were there and are gone"),
                (_, false) => {
                    "their files cannot be removed from data_dir/match; remove them by hand".to_owned()
                }
            },
            gone,
        };
        Ok(ErasureView {
            entity: erased.entity,
            places: places.chain([reports]).collect(),
            remains: REMAINS.map(str::to_owned).to_vec(),
            done: erased.done && gone,
        })
    }
}

/// Does a change to its end, whether whoever asked for it waits or not: a change of several steps that is given up between
/// two of them is neither the old state nor the new one.
async fn whole<T: Send + 'static>(
    change: impl Future<Output = Result<T, ControlError>> + Send + 'static,
) -> Result<T, ControlError> {
    tokio::spawn(change).await.map_err(|error| ControlError::Failed(error.to_string()))?
}

/// What was known at a moment, link by link.
fn past_views(at: Millis, history: &[HistoryEntry], links: &[Link], field: Option<&str>) -> Vec<PastView> {
    let reach = history.last().map(|entry| entry.at);
    let of = |link: &Link| {
        let own: Vec<&HistoryEntry> =
            history.iter().filter(|entry| entry.connection == link.connection).collect();
        let known = past::at(at, &own, reach, &link.base);
        let last = own.iter().find(|entry| entry.at <= at && field.is_none_or(|field| entry.concerns(field)));
        PastView::of(&link.connection, &known, last.copied(), |name| {
            field.is_none_or(|field| lies_within(name, field))
        })
    };
    links.iter().map(of).collect()
}

/// What an erasure does not reach.
const REMAINS: [&str; 4] = [
    "the files of the store and of System A may hold old bytes until the space is used again",
    "backups hold what they held",
    "a keyed digest of the CRM's id stays, by which late events and listings are recognised",
    "records of the same person that were never linked are not found by this",
];

/// What the guard stopped, with the way out.
fn stopped_in_words(stopped: &[(ObjectName, Side, Guarded, u64)]) -> String {
    let each = stopped.iter().map(|(object, side, kind, count)| {
        let what = match kind {
            Guarded::Delete => "deletions",
            Guarded::Rewrite => "updates that no edit asked for",
        };
        let place = match side {
            Side::Internal => "System A",
            Side::External => "the CRM",
        };
        format!("{count} {what} of {object} in {place}")
    });
    let each: Vec<String> = each.collect();
    format!("{} wait for approval; `tandem deletes list` shows them", each.join(", "))
}

/// Which ones are meant. To mean all of them takes a word.
fn selection(target: DeletesTarget) -> Result<Selection, ControlError> {
    let DeletesTarget { connection, batch, object, scope, ids, all, restore: _ } = target;
    let is_open = connection.is_none() && batch.is_none() && ids.is_empty();
    if is_open && !all {
        return Err(ControlError::Invalid(
            "name a connection, a batch or records, or say that all are meant".to_owned(),
        ));
    }
    Ok(Selection { connection, batch, object, scope, ids })
}

fn kept_view(kept: &Kept) -> KeptView {
    KeptView {
        batch: kept.batch,
        entity: kept.entity.clone(),
        connection: kept.connection.clone(),
        external: kept.external.clone(),
        side: kept.side.name().to_owned(),
        at: kept.at,
        why: kept.why.clone(),
    }
}

impl Engine {
    fn withheld_view(&self, row: &Withheld) -> Result<WithheldView, ControlError> {
        let link = self.store.link(&row.entity, &row.connection).map_err(store)?;
        let changes = row.aims.iter().map(|(side, field, to)| {
            let pair = link.as_ref().and_then(|link| link.base.get(field));
            let from = match side {
                Side::Internal => pair.and_then(|pair| pair.internal.clone()),
                Side::External => pair.and_then(|pair| pair.external.clone()),
            };
            ChangeView { side: side.name().to_owned(), field: field.clone(), from, to: to.clone() }
        });
        Ok(WithheldView {
            batch: row.batch,
            entity: row.entity.clone(),
            connection: row.connection.clone(),
            external: row.external.clone(),
            kind: row.kind.name().to_owned(),
            sides: row.sides.iter().map(|side| side.name().to_owned()).collect(),
            since: row.since,
            cause: row.cause.clone(),
            why: row.why.clone(),
            changes: changes.collect(),
        })
    }

    async fn rule_on(&self, target: DeletesTarget, approval: Approval) -> Result<Count, ControlError> {
        let selection = selection(target)?;
        if let Some(connection) = &selection.connection {
            self.known(connection)?;
        }
        let count = self.pipeline.rule_on_withheld(&selection, approval).await.map_err(store)?;
        Ok(Count { count })
    }
}

impl Control for Engine {
    fn readiness(&self) -> Readiness {
        if self.draining.load(Ordering::Relaxed) {
            Readiness::NotReady("draining".into())
        } else {
            Readiness::Ready
        }
    }

    async fn metrics(&self) -> Result<String, ControlError> {
        let now = self.clock.now();
        let mut lines = Vec::new();
        for connection in self.pipeline.connections() {
            let backlog = self.store.backlog(&connection.id).map_err(store)?;
            lines.push(Freshness {
                connection: connection.id.clone(),
                age: std::time::Duration::from_millis(
                    backlog.oldest.map_or(0, |oldest| now.saturating_sub(oldest)),
                ),
                waiting: backlog.ready + backlog.delayed,
                withheld: self.pipeline.stopped(&connection.id).iter().map(|(.., count)| count).sum(),
            });
        }
        self.bring_totals();
        Ok(self.metrics.render(&lines))
    }

    async fn status(&self, connection: Option<ConnectionId>) -> Result<Status, ControlError> {
        let wanted = match connection {
            Some(connection) => {
                self.known(&connection)?;
                vec![connection]
            }
            None => self.all_connections(),
        };
        let connections: Vec<ConnectionStatus> =
            wanted.iter().map(|id| self.connection_status(id)).collect::<Result<_, _>>()?;
        let everything = self.pipeline.connections();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            started_at: self.started_at,
            paused: Paused {
                to_external: !everything.is_empty()
                    && everything.iter().all(|connection| connection.directions.external_paused()),
                to_internal: !everything.is_empty()
                    && everything.iter().all(|connection| connection.directions.internal_paused()),
            },
            draining: self.draining.load(Ordering::Relaxed),
            connections,
        })
    }

    async fn pause(&self, target: PauseTarget) -> Result<Count, ControlError> {
        let engine = self.this()?;
        whole(async move { engine.set_paused(&target, true).await }).await
    }

    async fn resume(&self, target: PauseTarget) -> Result<Count, ControlError> {
        let engine = self.this()?;
        whole(async move { engine.set_paused(&target, false).await }).await
    }

    async fn explain(&self, record: RecordRef, aspect: Aspect) -> Result<Explanation, ControlError> {
        let at = aspect.at.as_deref().map(|text| moment(text, self.clock.now())).transpose();
        let at = at.map_err(ControlError::Invalid)?;
        let entity = match &record {
            RecordRef::Internal(entity) => Some(entity.clone()),
            RecordRef::External(external) => {
                self.known(&external.connection)?;
                self.store.entity_of(external).map_err(store)?
            }
        };
        let Some(entity) = entity else {
            let RecordRef::External(external) = record else {
                return Err(ControlError::NotFound("there is no such record".into()));
            };
            let subject = Subject::External(external.id.clone());
            let letter = self.store.dead_about(&external.connection, &external.object, &subject);
            let dead: Vec<DeadView> = letter.map_err(store)?.iter().map(DeadView::from).collect();
            if dead.is_empty() {
                return Err(ControlError::NotFound(format!("nothing is known of {external}")));
            }
            return Ok(Explanation {
                entity: None,
                internal: None,
                links: Vec::new(),
                intents: Vec::new(),
                hints: Vec::new(),
                dead,
                history: Vec::new(),
                at,
                past: Vec::new(),
            });
        };
        let internal = self
            .internal
            .read(&entity.scope, &entity.object, &entity.id)
            .await
            .map_err(|error| ControlError::Failed(error.to_string()))?;
        let links = self.store.links(&entity).map_err(store)?;
        let mut history = self.store.history(&entity, usize::MAX).map_err(store)?;
        let mut intents = Vec::new();
        let mut dead = Vec::new();
        for connection in self.pipeline.connections().iter().filter(|found| found.scope == entity.scope) {
            let link = links.iter().find(|link| link.connection == connection.id);
            let external = link.and_then(|link| link.external.clone()).map(Subject::External);
            for subject in [Some(Subject::Internal(entity.id.clone())), external].into_iter().flatten() {
                let letter = self.store.dead_about(&connection.id, &entity.object, &subject);
                dead.extend(letter.map_err(store)?.iter().map(DeadView::from));
            }
            if let Some(intent) = self.store.intent(&entity, &connection.id).map_err(store)? {
                intents.push(IntentView::from(&intent));
            }
        }
        if internal.is_none() && links.is_empty() && history.is_empty() && dead.is_empty() {
            return Err(ControlError::NotFound(format!("nothing is known of {entity}")));
        }
        let field = aspect.field.as_deref();
        let mut links_now: Vec<LinkView> = links.iter().map(LinkView::from).collect();
        let about = |name: &str| field.is_none_or(|field| lies_within(name, field));
        for link in &mut links_now {
            link.base.retain(|name, _| about(name));
            link.held.retain(|_, held| held.fields.iter().any(|name| about(name)));
        }
        let past = at.map(|at| past_views(at, &history, &links, field)).unwrap_or_default();
        history.retain(|entry| {
            at.is_none_or(|at| entry.at <= at) && field.is_none_or(|field| entry.concerns(field))
        });
        history.truncate(HISTORY);
        let mut told: Vec<HistoryView> = history.iter().map(HistoryView::from).collect();
        told.iter_mut().for_each(|entry| entry.narrow(about));
        Ok(Explanation {
            internal: internal.map(|record| InternalView {
                version: record.version,
                changed_at: record.changed_at,
                document: record.document,
            }),
            links: links_now,
            intents,
            hints: self.waiting_hints(&entity, &links).map_err(store)?,
            dead,
            history: told,
            at,
            past,
            entity: Some(entity),
        })
    }

    async fn dead(
        &self,
        connection: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Vec<DeadView>, ControlError> {
        if let Some(connection) = &connection {
            self.known(connection)?;
        }
        let letters = self.store.dead(connection.as_ref(), limit).map_err(store)?;
        Ok(letters.iter().map(DeadView::from).collect())
    }

    async fn dead_letter(&self, seq: u64) -> Result<DeadView, ControlError> {
        let letter = self.store.dead_letter(seq).map_err(store)?.ok_or_else(|| {
            ControlError::NotFound(format!("there is no dead letter {seq}; `tandem dead list` lists them"))
        })?;
        Ok(DeadView::in_full(&letter))
    }

    async fn replay(&self, target: DeadTarget) -> Result<Count, ControlError> {
        let engine = self.this()?;
        whole(async move { engine.replay_letters(&target).await }).await
    }

    async fn drop_dead(&self, target: DeadTarget) -> Result<Count, ControlError> {
        let letters = self.letters(&target).await?;
        let mut commit = Commit::new();
        for letter in &letters {
            commit.push(Op::DropDead(letter.seq));
            if let Subject::Delivery(seq) = letter.hint.subject {
                commit.push(Op::DropDelivery(seq));
            }
        }
        self.store.commit(commit, Until::Durable).await.map_err(store)?;
        Ok(Count { count: letters.len() as u64 })
    }

    async fn reviews(&self, filter: ReviewFilter, limit: usize) -> Result<Vec<ReviewView>, ControlError> {
        self.found_reviews(&filter, limit)
    }

    async fn decide_match(&self, decision: DecideMatch) -> Result<Count, ControlError> {
        let engine = self.this()?;
        whole(async move { engine.decide_question(decision).await }).await
    }

    async fn begin_match(
        &self,
        connection: Option<ConnectionId>,
        object: Option<ObjectName>,
    ) -> Result<Vec<MatchReport>, ControlError> {
        self.this()?.begin_reports(connection.as_ref(), object.as_ref())
    }

    async fn match_reports(
        &self,
        connection: Option<ConnectionId>,
        object: Option<ObjectName>,
    ) -> Result<Vec<MatchReport>, ControlError> {
        Ok(self.reports_of(connection.as_ref(), object.as_ref()))
    }

    async fn match_rows(&self, asked: MatchAsked) -> Result<MatchRows, ControlError> {
        self.report_rows(asked).await
    }

    async fn decide(&self, decision: Decide) -> Result<Count, ControlError> {
        let engine = self.this()?;
        whole(async move { engine.decide_one(&decision).await }).await
    }

    async fn decide_many(&self, decision: DecideMany) -> Result<DecidedMany, ControlError> {
        let engine = self.this()?;
        whole(async move { engine.decide_all(&decision).await }).await
    }

    async fn unfreeze(&self, target: Unfreeze) -> Result<Count, ControlError> {
        let engine = self.this()?;
        whole(async move { engine.let_flow(&target).await }).await
    }

    async fn withheld(
        &self,
        connection: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Vec<WithheldView>, ControlError> {
        if let Some(connection) = &connection {
            self.known(connection)?;
        }
        let selection = Selection { connection, ..Selection::default() };
        let rows = self.pipeline.withheld(&selection, limit).map_err(store)?;
        rows.iter().map(|row| self.withheld_view(row)).collect()
    }

    async fn deleted(
        &self,
        connection: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Vec<KeptView>, ControlError> {
        if let Some(connection) = &connection {
            self.known(connection)?;
        }
        let selection = Selection { connection, ..Selection::default() };
        let kept = self.pipeline.undoable(&selection, limit).map_err(store)?;
        Ok(kept.iter().map(kept_view).collect())
    }

    async fn approve(&self, target: DeletesTarget) -> Result<Count, ControlError> {
        let engine = self.this()?;
        whole(async move { engine.rule_on(target, Approval::Approved).await }).await
    }

    async fn reject(&self, target: DeletesTarget) -> Result<Count, ControlError> {
        let approval = if target.restore { Approval::Restored } else { Approval::Rejected };
        let engine = self.this()?;
        whole(async move { engine.rule_on(target, approval).await }).await
    }

    async fn undo(&self, target: DeletesTarget) -> Result<Undone, ControlError> {
        let engine = self.this()?;
        whole(async move { engine.undo_deletions(target).await }).await
    }

    async fn erase(&self, record: RecordRef) -> Result<ErasureView, ControlError> {
        let engine = self.this()?;
        whole(async move { engine.erase_record(record).await }).await
    }

    async fn look(&self, look: Look) -> Result<Count, ControlError> {
        self.known(&look.connection)?;
        let engine = self.this()?;
        whole(async move { engine.look(look).await }).await
    }

    async fn providers(&self) -> Result<Vec<ProviderView>, ControlError> {
        Ok(self.provider_views())
    }

    async fn reload_providers(&self) -> Result<ProvidersReloaded, ControlError> {
        let engine = self.this()?;
        whole(async move { engine.look_at_providers(Scan::All).await.map_err(ControlError::Failed) }).await
    }

    async fn roll_back(&self, target: RollBack) -> Result<Swapped, ControlError> {
        let engine = self.this()?;
        whole(async move {
            let _one = engine.admitting.lock().await;
            engine.roll_provider_back(&target.provider).await
        })
        .await
    }

    async fn pin(&self, pin: Pin) -> Result<Swapped, ControlError> {
        let engine = self.this()?;
        whole(async move {
            let _one = engine.admitting.lock().await;
            engine.pin_provider(pin).await
        })
        .await
    }

    async fn connection_file(&self, id: ConnectionId) -> Result<String, ControlError> {
        self.read_connection(&id).await
    }

    async fn put_connection(&self, id: ConnectionId, text: String) -> Result<Reloaded, ControlError> {
        let engine = self.this()?;
        whole(async move { engine.write_connection(id, text).await }).await
    }

    async fn remove_connection(&self, id: ConnectionId) -> Result<Reloaded, ControlError> {
        let engine = self.this()?;
        whole(async move { engine.delete_connection(id).await }).await
    }

    async fn reload(&self) -> Result<Reloaded, ControlError> {
        let engine = self.this()?;
        whole(async move {
            let _turn = engine.turn.lock().await;
            engine.reload_connections(true).await.map_err(ControlError::Failed)
        })
        .await
    }

    fn shut_down(&self) {
        self.draining.store(true, Ordering::Relaxed);
        let _told = self.stop.send(true);
    }
}
