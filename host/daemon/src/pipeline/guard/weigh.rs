//! Counting writes: one by one as they come, and bulk looks as a whole once all of them was looked at.

use std::ops::ControlFlow;

use super::super::record::Case;
use super::super::{Clock, Connection, Pipeline, PipelineError};
use super::meter::{Gauge, Looking, Reservation};
use super::rows::{Approval, PAGE, Selection, Withheld, digest};
use super::{Kind, Ruling};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::provider::Runtime;
use crate::store::{Class, Commit, Hint, Store, StoreError, Until};
use tandem_core::Millis;
use tandem_core::id::{ConnectionId, EntityKey, ObjectName};
use tandem_core::link::Side;
use tandem_core::plan::Aim;
use tandem_core::policy::Guard as Limits;

/// Delayed hints that are looked through for bulk work that waits.
const MOST_DELAYED: usize = 10_000;

/// The number of links is counted anew after this, in milliseconds.
const RECOUNT_MS: Millis = 3_600_000;

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Lets a write pass, or withholds it.
    pub(super) fn measure(
        &self,
        case: &mut Case<'_>,
        kind: Kind,
        sides: Vec<Side>,
        aims: Vec<Aim>,
        reason: &str,
    ) -> Result<Ruling, PipelineError> {
        let now = self.rooms.clock.now();
        let limits = case.object.policy.guard;
        let (connection, object) = (case.connection.id.clone(), case.link.entity.object.clone());
        let gauges: Vec<Gauge> = sides.iter().map(|side| (*side, kind)).collect();
        let mut gathers = case.bulk && self.awaits_bulk(&connection, &case.seqs)?;
        let links = self.links_of(&connection, &object, &gauges, 1, &limits)?;
        let digest = digest(&case.link.entity);
        let mut guard = self.ledger.lock();
        let watch = guard.watch(&connection);
        let meters = watch.objects.entry(object.clone()).or_default();
        // The last one of a bulk look is weighed with the others.
        gathers |= case.bulk && gauges.iter().any(|gauge| !meters.at(*gauge).pending.is_empty());
        let mut passes = !gathers;
        for gauge in &gauges {
            let meter = meters.at(*gauge);
            let count = meter.count(&limits, now);
            if meter.batch == 0 || (count == 0 && meter.pending.is_empty()) {
                meter.batch = self.rooms.store.next_seq();
            }
            passes &= !meter.tripped && limits.allows(count.saturating_add(1), links);
        }
        let batch = gauges.first().map_or(0, |gauge| meters.at(*gauge).batch);
        case.batch = batch;
        if passes {
            for gauge in &gauges {
                meters.at(*gauge).add(1, &limits, now);
            }
            drop(guard);
            let ledger = self.ledger.clone();
            case.reservation = Some(Reservation { ledger, connection, object, gauges, used: false });
            // Once for all rounds of this work.
            case.allowed = Some(kind);
            return Ok(Ruling::Go);
        }
        for gauge in &gauges {
            let meter = meters.at(*gauge);
            meter.pending.insert(digest);
            if !gathers && !meter.tripped {
                meter.tripped = true;
                tracing::error!(
                    %connection, %object, kind = kind.name(), to = gauge.0.name(), batch,
                    "the guard stopped writes; `tandem deletes list` shows them"
                );
            }
        }
        case.commit.ops.extend(meters.put(&connection, &object));
        watch.rows.insert(digest);
        drop(guard);
        let row = Withheld {
            entity: case.link.entity.clone(),
            connection,
            external: case.link.external.clone(),
            kind,
            sides,
            batch,
            since: now,
            cause: case.trail.cause.clone(),
            why: reason.to_owned(),
            aims,
            approval: Approval::Pending,
        };
        case.commit.push(row.put());
        case.withheld = Some(Box::new(row));
        self.rooms.metrics.guarded(&case.provider, kind.name(), "withheld");
        let what = match kind {
            Kind::Delete => "a deletion waits for approval",
            Kind::Rewrite => "an update that no edit asked for waits for approval",
        };
        case.note("withheld", &format!("{what}: {reason}"), now);
        Ok(Ruling::Wait)
    }

    /// How many links there are, where that can make a difference.
    fn links_of(
        &self,
        connection: &ConnectionId,
        object: &ObjectName,
        gauges: &[Gauge],
        more: u64,
        limits: &Limits,
    ) -> Result<u64, StoreError> {
        let now = self.rooms.clock.now();
        {
            let mut ledger = self.ledger.lock();
            let meters = ledger.meters(connection, object);
            let few = gauges
                .iter()
                .all(|gauge| meters.at(*gauge).count(limits, now).saturating_add(more) <= limits.limit);
            if few {
                return Ok(0);
            }
            if let Some((at, links)) = meters.links
                && now < at.saturating_add(RECOUNT_MS)
            {
                return Ok(links);
            }
        }
        let links = self.rooms.store.count_links(connection, object)?;
        self.ledger.lock().meters(connection, object).links = Some((now, links));
        Ok(links)
    }

    /// Whether other bulk work of a connection is not done.
    fn awaits_bulk(&self, connection: &ConnectionId, own: &[u64]) -> Result<bool, StoreError> {
        if self.ledger.lock().watch(connection).is_looking() {
            return Ok(true);
        }
        let store = &self.rooms.store;
        for class in [Class::Reconcile, Class::Backfill] {
            let ready = store.ready(connection, class, 0, own.len().saturating_add(1))?;
            if ready.iter().any(|hint| !own.contains(&hint.seq)) {
                return Ok(true);
            }
        }
        if store.backlog(connection)?.delayed == 0 {
            return Ok(false);
        }
        let delayed = store.delayed(Millis::MAX, MOST_DELAYED)?;
        let is_bulk = |hint: &Hint| {
            hint.connection == *connection && hint.class >= Class::Reconcile && !own.contains(&hint.seq)
        };
        Ok(delayed.len() >= MOST_DELAYED || delayed.iter().any(is_bulk))
    }

    /// A look at everything begins: what it finds is weighed once it added all of its hints and they were looked at.
    #[must_use]
    pub fn looking(&self, connection: &ConnectionId) -> Looking {
        self.ledger.lock().watch(connection).looks += 1;
        Looking { ledger: self.ledger.clone(), connection: connection.clone() }
    }

    /// A walk goes on, or has come to its end.
    pub(in super::super) fn note_walk(&self, connection: &ConnectionId, object: &ObjectName, goes_on: bool) {
        let mut ledger = self.ledger.lock();
        let walks = &mut ledger.watch(connection).walks;
        if goes_on {
            walks.insert(object.clone());
        } else {
            walks.remove(object);
        }
    }

    /// A connection goes: its walks do not go on.
    pub(in super::super) fn forget_walks(&self, connection: &ConnectionId) {
        if let Some(watch) = self.ledger.lock().watches.get_mut(connection) {
            watch.walks.clear();
        }
    }

    pub(in super::super) fn is_gathering(&self, connection: &ConnectionId) -> bool {
        let ledger = self.ledger.lock();
        ledger.watches.get(connection).is_some_and(|watch| watch.gathers() && !watch.weighing)
    }

    /// Weighs what was withheld of the bulk work of a connection, once all of it was looked at: lets it go, or stops it.
    ///
    /// # Errors
    /// The store does not take it.
    pub async fn weigh(&self, connection: &Connection) -> Result<(), PipelineError> {
        if !self.is_gathering(&connection.id) || self.awaits_bulk(&connection.id, &[])? {
            return Ok(());
        }
        if std::mem::replace(&mut self.ledger.lock().watch(&connection.id).weighing, true) {
            return Ok(());
        }
        let done = self.weigh_all(connection).await;
        self.ledger.lock().watch(&connection.id).weighing = false;
        done
    }

    async fn weigh_all(&self, connection: &Connection) -> Result<(), PipelineError> {
        for (object, known) in &connection.objects {
            let limits = known.policy.guard;
            let gauges: Vec<(Gauge, u64)> = {
                let ledger = self.ledger.lock();
                let watch = ledger.watches.get(&connection.id);
                let meters = watch.and_then(|watch| watch.objects.get(object));
                let meters = meters.into_iter().flat_map(|meters| meters.by_gauge.iter());
                let waits = meters.filter(|(_, meter)| !meter.tripped && !meter.pending.is_empty());
                waits.map(|(gauge, meter)| (*gauge, meter.pending.len() as u64)).collect()
            };
            if gauges.is_empty() {
                continue;
            }
            for (gauge, pending) in gauges {
                let links = self.links_of(&connection.id, object, &[gauge], pending, &limits)?;
                self.weigh_one(&connection.id, object, gauge, links, &limits);
            }
            self.release_rows(&connection.id, object, &limits).await?;
        }
        Ok(())
    }

    fn weigh_one(
        &self,
        connection: &ConnectionId,
        object: &ObjectName,
        gauge: Gauge,
        links: u64,
        limits: &Limits,
    ) {
        let now = self.rooms.clock.now();
        let mut ledger = self.ledger.lock();
        let meter = ledger.meters(connection, object).at(gauge);
        let pending = meter.pending.len() as u64;
        if !limits.allows(meter.count(limits, now).saturating_add(pending), links) {
            meter.tripped = true;
            tracing::error!(
                %connection, %object, kind = gauge.1.name(), to = gauge.0.name(), pending, links,
                batch = meter.batch, "the guard stopped writes before the first one; `tandem deletes list` shows them"
            );
        }
    }

    /// Lets go of what waits and is not stopped.
    async fn release_rows(
        &self,
        connection: &ConnectionId,
        object: &ObjectName,
        limits: &Limits,
    ) -> Result<(), PipelineError> {
        let selection = Selection {
            connection: Some(connection.clone()),
            object: Some(object.clone()),
            ..Selection::default()
        };
        let mut loose: Vec<EntityKey> = Vec::new();
        let some = self.ledger.lock().meters(connection, object).gathers();
        if some {
            self.each_row(&selection, |row| {
                let mut ledger = self.ledger.lock();
                let meters = ledger.meters(connection, object);
                let is_stopped = row.sides.iter().any(|side| meters.at((*side, row.kind)).tripped);
                if row.approval == Approval::Pending && !is_stopped {
                    loose.push(row.entity);
                }
                ControlFlow::Continue(())
            })?;
        }
        for page in loose.chunks(PAGE) {
            let now = self.rooms.clock.now();
            let ruled =
                self.rule_on_rows(page, connection, Approval::Approved, "released", Class::Reconcile).await?;
            let mut ledger = self.ledger.lock();
            let meters = ledger.meters(connection, object);
            for row in &ruled {
                for side in &row.sides {
                    meters.at((*side, row.kind)).add(1, limits, now);
                }
            }
        }
        // What is stopped, or was counted, outlasts a restart.
        let mut commit = Commit::new();
        commit.ops.extend(self.ledger.lock().meters(connection, object).put(connection, object));
        self.rooms.store.commit(commit, Until::Applied).await?;
        Ok(())
    }
}
