//! The loops that keep the pipeline going: hand out work, follow System A's feed, look at listings when their time comes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tandem_core::Millis;
use tandem_core::id::{ConnectionId, ObjectName};
use tokio::sync::{Notify, Semaphore, watch};

use super::Engine;
use crate::pipeline::listing::{Kind, Looked};
use crate::pipeline::{Clock as _, PipelineError, Work};
use crate::quota::Cause;
use crate::telemetry::Stage;

/// Delayed hints whose time has come but that are still in work are asked for again after this.
const EARLIEST: Duration = Duration::from_millis(10);

/// Listings looked at at once.
const LOOKS: usize = 16;

/// Milliseconds after which a listing that had to wait is looked at again at the soonest.
const SOONEST: Millis = 100;

/// System A's records wait no longer than this for the first listing of the CRM's, in milliseconds: it may not be readable at all.
const PATIENCE: Millis = 15 * 60_000;

/// What one look at a listing is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Look {
    at: Millis,
    connection: ConnectionId,
    object: ObjectName,
}

/// When which listing is looked at.
#[derive(Debug, Default)]
pub(super) struct Looks {
    planned: Mutex<Planned>,
    changed: Notify,
    /// Since when System A's records have waited for the listing of the CRM's, by connection.
    waiting: Mutex<HashMap<ConnectionId, Millis>>,
}

/// In order of time, and when each listing is in it: once at the most.
#[derive(Debug, Default)]
struct Planned {
    due: BTreeSet<Look>,
    at: HashMap<(ConnectionId, ObjectName), Millis>,
}

impl Looks {
    /// Whether System A's records have waited long enough for the listing of the CRM's. From the first time that this is asked they wait.
    fn waits_in_vain(&self, connection: &ConnectionId, now: Millis) -> bool {
        let since = *self.waiting.lock().entry(connection.clone()).or_insert(now);
        since.saturating_add(PATIENCE) <= now
    }

    fn no_longer_waits(&self, connection: &ConnectionId) {
        self.waiting.lock().remove(connection);
    }

    /// Looks at a listing at a moment, and not when it was to be looked at before.
    pub(super) fn plan(&self, at: Millis, connection: &ConnectionId, object: &ObjectName) {
        let mut look = Look { at, connection: connection.clone(), object: object.clone() };
        let mut planned = self.planned.lock();
        planned.due.insert(look.clone());
        if let Some(before) = planned.at.insert((connection.clone(), object.clone()), at)
            && before != at
        {
            look.at = before;
            planned.due.remove(&look);
        }
        drop(planned);
        self.changed.notify_one();
    }

    /// Never looks at a connection again.
    pub(super) fn forget(&self, connection: &ConnectionId) {
        let mut planned = self.planned.lock();
        planned.due.retain(|look| look.connection != *connection);
        planned.at.retain(|(known, _), _| known != connection);
        drop(planned);
        self.no_longer_waits(connection);
    }

    fn pop(&self, now: Millis) -> Result<Look, Option<Millis>> {
        let mut planned = self.planned.lock();
        match planned.due.first().cloned() {
            Some(first) if first.at <= now => {
                planned.due.remove(&first);
                planned.at.remove(&(first.connection.clone(), first.object.clone()));
                Ok(first)
            }
            first => Err(first.map(|look| look.at)),
        }
    }
}

/// Hands out work until told to stop; returns when what is in flight has ended.
pub(super) async fn hand_out(
    engine: Arc<Engine>,
    workers: usize,
    mut stop: watch::Receiver<bool>,
) -> Result<(), PipelineError> {
    let permits = Arc::new(Semaphore::new(workers));
    let failed = Arc::new(Mutex::new(None::<PipelineError>));
    while !*stop.borrow() {
        let woken = engine.wake.notified();
        engine.pipeline.wake_delayed()?;
        while let Ok(permit) = permits.clone().try_acquire_owned() {
            let Some(work) = engine.pipeline.take()? else { break };
            let (engine, failed, stop) = (engine.clone(), failed.clone(), stop.clone());
            tokio::spawn(async move {
                if let Err(error) = Box::pin(work_on(&engine, work, &stop)).await {
                    failed.lock().get_or_insert(error);
                }
                drop(permit);
                engine.wake.notify_one();
            });
        }
        if let Some(error) = failed.lock().take() {
            return Err(error);
        }
        let timer = sleep_until(&engine, engine.pipeline.next_timer()?);
        tokio::select! {
            () = woken => {}
            () = timer => {}
            _ = stop.changed() => {}
        }
    }
    // Everything that was taken comes to its end.
    let all = u32::try_from(workers).unwrap_or(u32::MAX);
    let _ended = permits.acquire_many(all).await;
    failed.lock().take().map_or(Ok(()), Err)
}

/// One worker: goes on with the next work as long as there is some, so that a busy daemon starts no task for each record.
async fn work_on(engine: &Engine, mut work: Work, stop: &watch::Receiver<bool>) -> Result<(), PipelineError> {
    loop {
        let began = Instant::now();
        Box::pin(engine.pipeline.work(work)).await?;
        engine.metrics.stage(Stage::Work, began.elapsed());
        if *stop.borrow() {
            return Ok(());
        }
        match engine.pipeline.take()? {
            Some(next) => work = next,
            None => return Ok(()),
        }
    }
}

async fn sleep_until(engine: &Engine, at: Option<Millis>) {
    match at {
        Some(at) => {
            let wait = Duration::from_millis(at.saturating_sub(engine.clock.now())).max(EARLIEST);
            tokio::time::sleep(wait).await;
        }
        None => std::future::pending().await,
    }
}

/// Follows System A's change feed until told to stop.
pub(super) async fn follow_feed(
    engine: Arc<Engine>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), PipelineError> {
    while !*stop.borrow() {
        match engine.pipeline.feed().await {
            Ok(true) => {}
            Ok(false) => {
                tokio::select! {
                    waited = engine.pipeline.wait_for_feed() => waited?,
                    _ = stop.changed() => {}
                }
            }
            Err(PipelineError::Internal(error)) => {
                tracing::warn!(%error, "the change feed cannot be read; it is tried again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Looks at listings when their time comes until told to stop.
pub(super) async fn look_around(
    engine: Arc<Engine>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), PipelineError> {
    let permits = Arc::new(Semaphore::new(LOOKS));
    let failed = Arc::new(Mutex::new(None::<PipelineError>));
    while !*stop.borrow() {
        let changed = engine.looks.changed.notified();
        if let Some(error) = failed.lock().take() {
            return Err(error);
        }
        let next = engine.looks.pop(engine.clock.now());
        match next {
            Ok(look) => {
                let Ok(permit) = permits.clone().acquire_owned().await else { return Ok(()) };
                let engine = engine.clone();
                let failed = failed.clone();
                let stop = stop.clone();
                tokio::spawn(async move {
                    match look_once(&engine, &look, &stop).await {
                        Ok(Some(at)) => engine.looks.plan(at, &look.connection, &look.object),
                        Ok(None) => {}
                        Err(error) => {
                            failed.lock().get_or_insert(error);
                            engine.looks.changed.notify_one();
                        }
                    }
                    drop(permit);
                });
            }
            Err(at) => {
                tokio::select! {
                    () = changed => {}
                    () = sleep_until(&engine, at) => {}
                    _ = stop.changed() => {}
                }
            }
        }
    }
    let _ended = permits.acquire_many(u32::try_from(LOOKS).unwrap_or(u32::MAX)).await;
    failed.lock().take().map_or(Ok(()), Err)
}

/// One look; answers when the next one is due.
///
/// The cursor of the changes is set before all records are walked, so that nothing falls between the two. System A's records come last: a
/// record that both sides have is found by the CRM's listing, a page at a time, and else has to be looked for by a call of its own.
async fn look_once(
    engine: &Arc<Engine>,
    look: &Look,
    stop: &watch::Receiver<bool>,
) -> Result<Option<Millis>, PipelineError> {
    let pipeline = &engine.pipeline;
    let Some(connection) = pipeline.connection(&look.connection) else { return Ok(None) };
    let Some(object) = connection.objects.get(&look.object) else { return Ok(None) };
    let now = engine.clock.now();
    let every = engine.poll_every(&look.connection, &look.object, object.abilities.poll_every_ms);
    let next = now.saturating_add(every).saturating_add(engine.clock.jitter(every / 8 + 1));
    if connection.directions.internal_paused() || connection.directions.disabled() {
        let writes = !connection.directions.external_paused() && !connection.directions.disabled();
        if writes && connection.directions.awaits_facts() {
            drop(connection);
            engine.learn(&look.connection).await?;
        }
        return Ok(Some(next));
    }
    // Not for a quota that is spent: listings may have one of their own, and each call asks for those that it takes from.
    let halted = [Cause::Breaker, Cause::Authorisation, Cause::Blocked];
    if halted.contains(&engine.quotas.standing(&look.connection, now).cause) {
        return Ok(Some(now.saturating_add(1_000)));
    }
    let changes = object.abilities.changes;
    // What follows may be long, and a swap waits until nobody has the connection as it was any more.
    drop(connection);
    engine.learn(&look.connection).await?;
    if engine.looks.waits_in_vain(&look.connection, now) {
        pipeline.seed(&look.connection).await?;
    }
    if changes {
        match look_through(engine, look, Kind::Changes, stop).await? {
            Looked::CursorLost => {
                let Some(connection) = pipeline.connection(&look.connection) else { return Ok(None) };
                pipeline.forget_cursor(&connection, &look.object, Kind::Walk).await?;
                engine.forget_walk(&connection, &look.object).await?;
                return Ok(Some(now));
            }
            Looked::NotBefore(at) => return Ok(Some(at.max(now.saturating_add(SOONEST)))),
            Looked::All | Looked::More => {}
        }
    }
    let Some(connection) = pipeline.connection(&look.connection) else { return Ok(None) };
    if !engine.is_walked(&connection, &look.object)? {
        drop(connection);
        match look_through(engine, look, Kind::Walk, stop).await? {
            Looked::All => {}
            Looked::NotBefore(at) => return Ok(Some(at.max(now.saturating_add(SOONEST)))),
            Looked::CursorLost | Looked::More => return Ok(Some(now.saturating_add(1_000))),
        }
        let Some(connection) = pipeline.connection(&look.connection) else { return Ok(None) };
        engine.note_walk(&connection, &look.object).await?;
    }
    if engine.is_gone_through(&look.connection)? {
        pipeline.seed(&look.connection).await?;
        engine.looks.no_longer_waits(&look.connection);
    }
    Ok(changes.then_some(next))
}

/// Page after page until there are no more of them now. Each is looked at by whatever serves when it is asked for: a listing
/// may be long, and a busy account's has no end, but a version that was replaced must come to one. [`Looked::More`]: the
/// daemon stops, or the connection or its object has gone.
async fn look_through(
    engine: &Engine,
    look: &Look,
    kind: Kind,
    stop: &watch::Receiver<bool>,
) -> Result<Looked, PipelineError> {
    while !*stop.borrow() {
        let Some(connection) = engine.pipeline.connection(&look.connection) else { break };
        if !connection.objects.contains_key(&look.object) {
            break;
        }
        match engine.pipeline.look_at_listing(&connection, &look.object, kind).await? {
            Looked::More => {}
            looked => return Ok(looked),
        }
    }
    Ok(Looked::More)
}

/// Connections whose credentials were refused or that were blocked are tried again so often: tokens are mended elsewhere.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// Lets connections that somebody has to mend try again now and then; weighs what a crash kept from being weighed; forgets deleted
/// records that can no longer be brought back.
pub(super) async fn try_again(
    engine: Arc<Engine>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), PipelineError> {
    while !*stop.borrow() {
        tokio::select! {
            () = tokio::time::sleep(TRY_AGAIN) => {
                let now = engine.clock.now();
                let mut halted: HashSet<ConnectionId> =
                    engine.pipeline.connections().iter().map(|connection| connection.id.clone()).collect();
                halted.retain(|id| {
                    matches!(engine.quotas.standing(id, now).cause, Cause::Authorisation | Cause::Blocked)
                });
                for id in &halted {
                    engine.quotas.clear(id);
                }
                engine.pipeline.release(&halted)?;
                for connection in engine.pipeline.connections() {
                    engine.pipeline.weigh(&connection).await?;
                }
                engine.pipeline.forget_deleted().await?;
                engine.pipeline.go_on_erasing().await?;
            }
            _ = stop.changed() => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_looked_at_once_and_when_it_was_planned_last() {
        let looks = Looks::default();
        let (a, b, contact) = ("a".into(), "b".into(), "contact".into());
        looks.plan(10, &a, &contact);
        looks.plan(30, &b, &contact);
        looks.plan(20, &a, &contact);
        looks.plan(20, &a, &contact);
        assert_eq!(looks.pop(19), Err(Some(20)));
        assert_eq!(looks.pop(40).map(|look| (look.at, look.connection)), Ok((20, a.clone())));
        assert_eq!(looks.pop(40).map(|look| (look.at, look.connection)), Ok((30, b.clone())));
        assert_eq!(looks.pop(40), Err(None));
        looks.plan(5, &a, &contact);
        looks.plan(6, &b, &contact);
        looks.forget(&a);
        assert_eq!(looks.pop(40).map(|look| look.connection), Ok(b));
        assert_eq!(looks.pop(40), Err(None));
    }

    #[test]
    fn records_of_system_a_wait_for_the_first_listing_and_not_for_ever() {
        let looks = Looks::default();
        let (a, b) = ("a".into(), "b".into());
        assert!(!looks.waits_in_vain(&a, 10), "it has only begun");
        assert!(!looks.waits_in_vain(&a, 9 + PATIENCE));
        assert!(looks.waits_in_vain(&a, 10 + PATIENCE));
        assert!(!looks.waits_in_vain(&b, 10 + PATIENCE), "each has its own time");
        looks.no_longer_waits(&a);
        assert!(!looks.waits_in_vain(&a, 20 + PATIENCE), "it begins anew");
    }
}
