//! The pipeline: take, observe, decide, plan, map, send, interpret, commit.
//!
//! It ties the rooms together and knows none of their insides. Generic over clock, randomness, store, delivery, provider
//! runtime and System A; it spawns nothing and owns no timer, so that the whole of it runs on virtual time in one thread.
//!
//! Invariants:
//! - an entity is in one hand ([`dispatch`]);
//! - an intent is durable before a create is sent; a link and the acknowledgement of its hints are one commit;
//! - what went wrong with one record is that record's: it is tried again or set aside, and the next one goes on;
//! - nothing is repeated whose outcome is unknown before the record was read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tandem_core::Millis;
use tandem_core::id::{ConnectionId, EntityKey, InternalId, ObjectName, ScopeId};
use tandem_core::places::Places;

use crate::delivery::Deliver;
use crate::internal::{Internal, InternalError};
use crate::provider::Runtime;
use crate::quota::Quotas;
use crate::store::{Commit, Hint, Op, Store, StoreError, Until};
use crate::telemetry::{Metrics, Stage};

mod again;
mod clash;
mod connection;
mod create;
mod delayed;
pub mod dispatch;
mod erase;
mod exchange;
mod feed;
mod guard;
mod identity;
mod inbox;
mod intent;
pub mod listing;
mod matching;
mod observe;
mod peers;
mod probe;
mod record;
mod settle;
mod trail;
mod undo;
mod watch;
mod write;

pub use clash::DecideClashError;
pub use connection::{Connection, Directions, Object};
pub use dispatch::Work;
pub use erase::{Erasure, Place};
pub use exchange::{Concluded, ExchangeError, Seen};
pub use guard::{Approval, Kind, Looking, Selection, Withheld};
pub use matching::{Compared, InternalPiece, Piece};
pub use undo::{KEPT_BYTES, Kept, NotUndone};

/// What the pipeline knows of time and chance.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the epoch.
    fn now(&self) -> Millis;

    /// A number in `0..bound`, for jitter.
    fn jitter(&self, bound: u64) -> u64;

    /// Returns when so many milliseconds have passed.
    fn sleep(&self, ms: u64) -> impl Future<Output = ()> + Send;
}

/// Delayed hints that are looked through when connections are released; what lies behind them comes when its time has come.
const MOST_RELEASED: usize = 10_000;

/// A connection that does nothing, since it has no provider or is paused, is looked at again after this, in milliseconds. Whoever
/// changes that releases it.
const IDLE_MS: Millis = 5_000;

/// While an account was not asked about itself yet, its records wait for so long, in milliseconds.
const FACTS_MS: Millis = 100;

/// Why a piece of work could not even be accounted for. The daemon stops: its store or System A is out of order.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The local store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// System A failed.
    #[error(transparent)]
    Internal(#[from] InternalError),
}

/// The rooms that the pipeline works with.
pub struct Rooms<S, R, D, I, C> {
    /// Hints, links, intents, history.
    pub store: Arc<S>,
    /// Providers.
    pub runtime: Arc<R>,
    /// The HTTP client.
    pub deliver: Arc<D>,
    /// System A.
    pub internal: Arc<I>,
    /// Time and chance.
    pub clock: Arc<C>,
    /// Quotas and breakers.
    pub quotas: Arc<Quotas>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// How the pipeline behaves where neither a CRM nor a policy says it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Workers at once for one connection.
    pub per_connection: usize,
    /// Tries before a record is set aside.
    pub attempts: u32,
    /// First wait before a second try, in milliseconds; it doubles.
    pub backoff_ms: u64,
    /// Longest wait before another try, in milliseconds.
    pub backoff_max_ms: u64,
    /// A worker waits so long for a quota before it gives its turn to others, in milliseconds.
    pub patience_ms: u64,
    /// An unlinked record of a CRM waits so long for open creates, in milliseconds.
    pub intent_patience_ms: u64,
    /// Requests of one exchange.
    pub steps: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_connection: 8,
            attempts: 12,
            backoff_ms: 500,
            backoff_max_ms: 600_000,
            patience_ms: 20,
            intent_patience_ms: 30_000,
            steps: 8,
        }
    }
}

/// The pipeline.
pub struct Pipeline<S, R, D, I, C> {
    rooms: Rooms<S, R, D, I, C>,
    limits: Limits,
    /// In the order of their names, as everything that is gone through: what happens then depends on nothing but what came in.
    connections: ArcSwap<BTreeMap<ConnectionId, Arc<Connection>>>,
    by_scope: ArcSwap<HashMap<ScopeId, Vec<Arc<Connection>>>>,
    dispatch: Mutex<dispatch::Dispatch>,
    delayed: Mutex<delayed::Turn>,
    /// Creates that are under way.
    creates: Mutex<intent::Creates>,
    /// Entities whose last updates may be half done.
    unsettled: Mutex<HashSet<(ConnectionId, EntityKey)>>,
    /// Connections of which something that has begun waits for the quota.
    in_line: Mutex<HashSet<ConnectionId>>,
    /// One save of the counters of quotas at a time.
    saving: tokio::sync::Mutex<()>,
    /// What the guard counts and withholds.
    ledger: Arc<Mutex<guard::Ledger>>,
    /// Connections that have, or had since the start, records of which it cannot be told whom they are.
    clashing: Mutex<HashSet<ConnectionId>>,
    arrived: Box<dyn Fn() + Send + Sync>,
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// `arrived` is called whenever there may be something to take.
    pub fn new(rooms: Rooms<S, R, D, I, C>, limits: Limits, arrived: Box<dyn Fn() + Send + Sync>) -> Self {
        Self {
            rooms,
            limits,
            connections: ArcSwap::default(),
            by_scope: ArcSwap::default(),
            dispatch: Mutex::new(dispatch::Dispatch::new(limits.per_connection)),
            delayed: Mutex::default(),
            creates: Mutex::default(),
            unsettled: Mutex::default(),
            in_line: Mutex::default(),
            saving: tokio::sync::Mutex::default(),
            ledger: Arc::default(),
            clashing: Mutex::default(),
            arrived,
        }
    }

    /// The rooms.
    pub fn rooms(&self) -> &Rooms<S, R, D, I, C> {
        &self.rooms
    }

    /// A connection by name.
    pub fn connection(&self, id: &ConnectionId) -> Option<Arc<Connection>> {
        self.connections.load().get(id).cloned()
    }

    /// All connections, by name.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections.load().values().cloned().collect()
    }

    /// Finds out which fields of connections have moved in the CRM's record since they were known before, and writes it down: links
    /// that were written before it forget what they know of those. To be called before [`Pipeline::connect`].
    ///
    /// # Errors
    /// The store cannot be read, or does not take it. Then a field that has moved may count as unmoved until the next change or start.
    pub async fn note_places(&self, connections: &mut [Connection]) -> Result<(), StoreError> {
        /// So many are written down at once.
        const PAGE: usize = 256;
        for page in connections.chunks_mut(PAGE) {
            let mut commit = Commit::new();
            for connection in page {
                for (object, known) in &mut connection.objects {
                    let name = format!("places/{}/{object}", connection.id);
                    let stored = self.rooms.store.value(&name)?;
                    let before = stored.as_deref().and_then(|bytes| {
                        let read = serde_json::from_slice::<Places>(bytes);
                        read.inspect_err(|error| tracing::error!(name, %error, "a value cannot be read")).ok()
                    });
                    let after =
                        before.as_ref().map_or_else(|| known.places.clone(), |it| it.follow(&known.places));
                    if before.as_ref() != Some(&after) {
                        commit.push(Op::PutValue(name, serde_json::to_vec(&after).unwrap_or_default()));
                    }
                    known.places = after;
                }
            }
            if !commit.ops.is_empty() {
                self.rooms.store.commit(commit, Until::Durable).await?;
            }
        }
        Ok(())
    }

    /// Makes connections known, in place of those with the same name. Their stored hints are taken from now on.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn connect(&self, connections: Vec<Connection>) -> Result<(), StoreError> {
        for connection in &connections {
            self.remember_guard(connection)?;
            self.recall_clashes(&connection.id)?;
            for object in connection.objects.keys() {
                self.recall_intents(&connection.id, object)?;
            }
        }
        let arrivals: Vec<(ConnectionId, ScopeId)> =
            connections.iter().map(|connection| (connection.id.clone(), connection.scope.clone())).collect();
        let mut known = BTreeMap::clone(&self.connections.load());
        let since = self.rooms.clock.now();
        for connection in connections {
            let connection = Connection { since, ..connection };
            known.insert(connection.id.clone(), Arc::new(connection));
        }
        self.publish(known);
        let mut dispatch = self.dispatch.lock();
        for (connection, scope) in arrivals {
            dispatch.register(&connection, &scope);
        }
        drop(dispatch);
        (self.arrived)();
        Ok(())
    }

    /// Forgets a connection. Its queue stays in the store.
    pub fn disconnect(&self, id: &ConnectionId) {
        let mut known = BTreeMap::clone(&self.connections.load());
        known.remove(id);
        self.publish(known);
        self.dispatch.lock().forget(id);
        self.forget_walks(id);
    }

    fn publish(&self, known: BTreeMap<ConnectionId, Arc<Connection>>) {
        let mut by_scope: HashMap<ScopeId, Vec<Arc<Connection>>> = HashMap::new();
        for connection in known.values() {
            by_scope.entry(connection.scope.clone()).or_default().push(connection.clone());
        }
        self.connections.store(Arc::new(known));
        self.by_scope.store(Arc::new(by_scope));
    }

    /// Takes the next work, if there is any that may be done now.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn take(&self) -> Result<Option<Work>, StoreError> {
        let now = self.rooms.clock.now();
        let taken = self.dispatch.lock().take(&*self.rooms.store, now)?;
        if let Some(work) = &taken {
            let since = work.hints.iter().map(|hint| hint.noticed_at.max(hint.due)).min().unwrap_or(now);
            let waited = Duration::from_millis(now.saturating_sub(since));
            self.rooms.metrics.stage(Stage::QueueWait, waited);
        }
        Ok(taken)
    }

    /// When [`Pipeline::take`] may give something that it does not give now.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn next_timer(&self) -> Result<Option<Millis>, StoreError> {
        let in_memory = self.dispatch.lock().next_timer();
        Ok(match (in_memory, self.rooms.store.next_due()?) {
            (Some(left), Some(right)) => Some(left.min(right)),
            (left, right) => left.or(right),
        })
    }

    /// Brings delayed hints whose time has come into the windows.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn wake_delayed(&self) -> Result<(), StoreError> {
        let due = self.delayed.lock().due(&*self.rooms.store, self.rooms.clock.now())?;
        if !due.is_empty() {
            self.dispatch.lock().arrived(due);
        }
        Ok(())
    }

    /// Records of a paused connection wait: nothing could come of them but calls. What was told is read all the same, which costs none.
    fn rest(&self, connection: &Connection, work: Work) {
        let until = self.rooms.clock.now().saturating_add(IDLE_MS);
        let mut dispatch = self.dispatch.lock();
        dispatch.rest(&connection.id, until);
        dispatch.put_back(work, until, false);
        if !connection.directions.all_paused() {
            // It was resumed in this moment.
            dispatch.release(&connection.id);
            drop(dispatch);
            (self.arrived)();
        }
    }

    /// Works on what was taken, to its end: done, to be tried again, or set aside.
    ///
    /// # Errors
    /// The store or System A is out of order. The hints are still undone.
    pub async fn work(&self, work: Work) -> Result<(), PipelineError> {
        let Some(connection) = self.connection(&work.connection) else {
            // Removed while it waited: the hints stay in the store.
            self.dispatch.lock().finish(&work);
            return Ok(());
        };
        if connection.directions.disabled() {
            let until = self.rooms.clock.now().saturating_add(IDLE_MS);
            let end = settle::End::PutBack { until, whole: true };
            self.settle(&connection, work, end).await?;
            return Ok(());
        }
        let is_record = !matches!(work.subject, crate::store::Subject::Delivery(_));
        if is_record && connection.directions.all_paused() {
            self.rest(&connection, work);
            return Ok(());
        }
        if connection.directions.awaits_facts() {
            let until = self.rooms.clock.now().saturating_add(FACTS_MS);
            let end = settle::End::PutBack { until, whole: true };
            self.settle(&connection, work, end).await?;
            return Ok(());
        }
        let mut held = record::Held::new(&self.dispatch, Some(work.hand.clone()));
        let end = match &work.subject {
            crate::store::Subject::Delivery(seq) => self.read_delivery(&connection, *seq).await?,
            _ => self.work_record(&connection, &work, &mut held).await?,
        };
        self.settle(&connection, work, end).await?;
        drop(held);
        if self.is_gathering(&connection.id) {
            Box::pin(self.weigh(&connection)).await?;
        }
        (self.arrived)();
        Ok(())
    }

    /// Adds hints durably, or with the next group commit, and wakes the dispatcher.
    ///
    /// # Errors
    /// The store does not take them.
    pub async fn notice(&self, hints: Vec<Hint>, until: Until) -> Result<(), StoreError> {
        let mut commit = Commit::new();
        for hint in &hints {
            commit.push(Op::AddHint(hint.clone()));
        }
        self.rooms.store.commit(commit, until).await?;
        self.arrive(hints);
        Ok(())
    }

    /// Hints were committed: they are taken when their turn comes.
    pub fn arrive(&self, hints: Vec<Hint>) {
        if hints.is_empty() {
            return;
        }
        let now = self.rooms.clock.now();
        for hint in &hints {
            self.rooms.metrics.hint_added(hint.class.name());
        }
        self.dispatch.lock().arrived(hints.into_iter().filter(|hint| hint.due <= now));
        (self.arrived)();
    }

    /// Lets connections go on at once (resumed, credentials renewed), also with what waits for another try.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn release(&self, ids: &HashSet<ConnectionId>) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut delayed = self.rooms.store.delayed(Millis::MAX, MOST_RELEASED)?;
        delayed.retain(|hint| ids.contains(&hint.connection));
        let mut dispatch = self.dispatch.lock();
        dispatch.arrived(delayed);
        let ids: BTreeSet<&ConnectionId> = ids.iter().collect();
        for id in ids {
            dispatch.release(id);
        }
        drop(dispatch);
        (self.arrived)();
        Ok(())
    }
}

/// By whom System A's records are written when a connection writes them.
fn origin_of(connection: &ConnectionId) -> String {
    format!("tandem:{connection}")
}

/// The id that System A's record gets when it was born in a CRM: the same after every crash.
fn internal_id(
    connection: &ConnectionId,
    object: &ObjectName,
    external: &str,
    incarnation: u32,
) -> InternalId {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for part in [connection.as_str(), object.as_str(), external] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.update(incarnation.to_be_bytes());
    let mut bytes = [0_u8; 16];
    for (to, from) in bytes.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    InternalId::from(uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string())
}

/// Holds an entity for somebody outside of the pipeline; nobody works on it until this is dropped. Whoever found it busy is told then:
/// no work ends here that would have its connection looked at.
pub struct Grip<'a> {
    held: Option<record::Held<'a>>,
    arrived: &'a (dyn Fn() + Send + Sync),
}

impl Drop for Grip<'_> {
    fn drop(&mut self) {
        drop(self.held.take());
        (self.arrived)();
    }
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Takes an entity in hand, waiting up to five seconds for whoever works on it.
    pub async fn hold_entity(&self, entity: &EntityKey) -> Option<Grip<'_>> {
        self.hold(dispatch::Hand::Entity(entity.clone())).await
    }

    /// Takes a hand, waiting up to five seconds for whoever has it.
    async fn hold(&self, hand: dispatch::Hand) -> Option<Grip<'_>> {
        for _ in 0..500 {
            let mut held = record::Held::new(&self.dispatch, None);
            if held.hold(hand.clone()) {
                return Some(Grip { held: Some(held), arrived: &*self.arrived });
            }
            self.rooms.clock.sleep(10).await;
        }
        None
    }
}
