//! One run of the daemon: the pipeline with the rooms of the simulation, and by hand what `app` does with threads.
//!
//! Dropping it is the end of the process. What is on disk is in the store that the next run is given.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tandem::pipeline::dispatch::Hand;
use tandem::pipeline::listing::{Kind, Looked};
use tandem::pipeline::{
    Approval, Connection, Directions, Limits, Object, Pipeline, PipelineError, Rooms, Selection, Work,
};
use tandem::quota::{Cause, Extent, QuotaConfig, Quotas};
use tandem::store::{Class, Commit, Hint, Op, Store as _, StoredDelivery, Subject, Until};
use tandem::telemetry::Metrics;
use tandem_core::Millis;
use tandem_core::exchange::{Delivery, Observed};
use tandem_core::id::{ConnectionId, ObjectName};
use tandem_core::places::Places;
use tandem_core::policy::{ObjectPolicy, OnDeleteConflict};
use tandem_core::rules::Rules;

use crate::check::traces;
use crate::erasure::Erasures;
use crate::habits::Habits;
use crate::history::History;
use crate::plant::Plant;
use crate::provider::{Natives, bind};
use crate::shared::{Shared, Tasks, VirtualClock};
use crate::store::Disk;
use crate::system_a::SystemA;
use crate::values::{OBJECT, SCHEMAS};
use crate::wire::{Faults, Wire, place_of};
use crate::world::Event;

/// The pipeline of the simulation: the real one, with rooms of models.
pub(crate) type Engine = Pipeline<Disk<Event>, Natives<Event>, Wire, SystemA, VirtualClock<Event>>;

/// What a run is built from.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared<Event>>,
    pub(crate) history: Arc<Mutex<History>>,
    pub(crate) disk: Arc<Disk<Event>>,
    pub(crate) system_a: Arc<SystemA>,
    pub(crate) faults: Arc<Mutex<Faults>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) accounts: Vec<(Arc<Habits>, ObjectPolicy)>,
    pub(crate) limits: Limits,
    pub(crate) workers: usize,
    pub(crate) run: u64,
    pub(crate) plant: Option<Plant>,
}

/// The daemon while it runs.
pub(crate) struct Daemon {
    pub(crate) engine: Arc<Engine>,
    tasks: Tasks<Event>,
    shared: Arc<Shared<Event>>,
    woken: Arc<AtomicBool>,
    working: Arc<AtomicUsize>,
    looking: Arc<AtomicUsize>,
    /// Erasures that were asked for and not answered yet.
    erasing: Arc<AtomicUsize>,
    started: Arc<AtomicBool>,
    failed: Arc<Mutex<Option<PipelineError>>>,
    workers: usize,
    timer: Option<Millis>,
    /// Deliveries that were answered.
    pub(crate) acknowledged: Arc<Mutex<Vec<u64>>>,
    history: Arc<Mutex<History>>,
    plant: Option<Plant>,
}

pub(crate) fn connection_id(place: usize) -> ConnectionId {
    ConnectionId::from(format!("c{place}"))
}

fn object() -> ObjectName {
    OBJECT.into()
}

impl Daemon {
    /// Starts a run.
    pub(crate) fn start(parts: &Parts) -> Result<Self, String> {
        let Parts { shared, disk, accounts, .. } = parts;
        let schemas = SCHEMAS.as_ref()?;
        let woken = Arc::new(AtomicBool::new(true));
        let quotas = Arc::new(Quotas::new(QuotaConfig::default()));
        let mut connections = Vec::new();
        for (place, (habits, policy)) in accounts.iter().enumerate() {
            let id = connection_id(place);
            for name in quotas.to_restore(&id, None) {
                if let Some(saved) = disk.value(&name).map_err(|error| error.to_string())? {
                    quotas.restore(&name, &saved).map_err(|error| error.to_string())?;
                }
            }
            quotas.configure(&id, None, &habits.quotas()).map_err(|error| error.to_string())?;
            let mut abilities = habits.abilities();
            if parts.plant == Some(Plant::SearchSaidSettled) {
                abilities.find_settles_after_ms = 0;
            }
            let mut policy = policy.clone();
            if parts.plant == Some(Plant::DeletionWins) {
                policy.on_delete_conflict = OnDeleteConflict::Delete;
            }
            let object = Object {
                policy,
                canonical: schemas.canonical.clone(),
                read: schemas.read.clone(),
                write: schemas.read.clone(),
                abilities,
                places: Places::default(),
            };
            connections.push(Connection {
                binding: bind(&id, habits.clone()),
                id,
                scope: parts.system_a.scope(),
                objects: HashMap::from([(OBJECT.into(), object)]),
                rules: Rules::default(),
                directions: Arc::new(Directions::default()),
                since: 0,
            });
        }
        let wire = Wire {
            shared: shared.clone(),
            history: parts.history.clone(),
            faults: parts.faults.clone(),
            run: parts.run,
            plant: parts.plant,
        };
        let rooms = Rooms {
            store: disk.clone(),
            runtime: Arc::new(Natives {
                shared: shared.clone(),
                history: parts.history.clone(),
                faults: parts.faults.clone(),
                plant: parts.plant,
            }),
            deliver: Arc::new(wire),
            internal: parts.system_a.clone(),
            clock: Arc::new(VirtualClock(shared.clone())),
            quotas,
            metrics: parts.metrics.clone(),
        };
        let arrived = woken.clone();
        let engine = Arc::new(Pipeline::new(
            rooms,
            parts.limits,
            Box::new(move || arrived.store(true, Ordering::Relaxed)),
        ));
        let mut daemon = Self {
            engine,
            tasks: Tasks::new(shared.clone()),
            shared: shared.clone(),
            woken,
            working: Arc::default(),
            looking: Arc::default(),
            erasing: Arc::default(),
            started: Arc::default(),
            failed: Arc::default(),
            workers: parts.workers,
            timer: None,
            acknowledged: Arc::default(),
            history: parts.history.clone(),
            plant: parts.plant,
        };
        daemon.loops(connections);
        Ok(daemon)
    }

    fn loops(&mut self, connections: Vec<Connection>) {
        let ids: Vec<ConnectionId> = connections.iter().map(|connection| connection.id.clone()).collect();
        let (engine, started) = (self.engine.clone(), self.started.clone());
        let known = ids.clone();
        self.watched(async move {
            if !engine.has_followed_feed()? {
                for id in &known {
                    engine.note_seeded(id).await?;
                }
            }
            engine.connect(connections)?;
            started.store(true, Ordering::Relaxed);
            Ok(())
        });
        let (engine, shared, started) = (self.engine.clone(), self.shared.clone(), self.started.clone());
        self.watched(async move {
            while !started.load(Ordering::Relaxed) {
                shared.sleep(5).await;
            }
            loop {
                if !engine.feed().await? {
                    engine.wait_for_feed().await?;
                }
            }
        });
        for id in ids.clone() {
            let (engine, shared, started) = (self.engine.clone(), self.shared.clone(), self.started.clone());
            let looking = self.looking.clone();
            self.watched(async move {
                let first = shared.roll(|dice| dice.below(1_000));
                shared.sleep(first).await;
                while !started.load(Ordering::Relaxed) {
                    shared.sleep(5).await;
                }
                loop {
                    looking.fetch_add(1, Ordering::Relaxed);
                    let next = look_once(&engine, &shared, &id).await;
                    looking.fetch_sub(1, Ordering::Relaxed);
                    let Some(at) = next? else { return Ok(()) };
                    shared.sleep(at.saturating_sub(shared.now()).max(1)).await;
                }
            });
        }
        let (engine, shared) = (self.engine.clone(), self.shared.clone());
        self.watched(async move {
            loop {
                shared.sleep(30_000).await;
                let quotas = &engine.rooms().quotas;
                let halted = ids.iter().filter(|id| {
                    let cause = quotas.standing(id, shared.now()).cause;
                    matches!(cause, Cause::Authorisation | Cause::Blocked)
                });
                let halted: HashSet<ConnectionId> = halted.cloned().collect();
                for id in &halted {
                    quotas.clear(id);
                }
                engine.release(&halted)?;
                for connection in engine.connections() {
                    engine.weigh(&connection).await?;
                }
                engine.forget_deleted().await?;
                engine.go_on_erasing().await?;
            }
        });
        let (engine, shared) = (self.engine.clone(), self.shared.clone());
        self.watched(async move {
            loop {
                shared.sleep(5_000).await;
                engine.keep_counters(Extent::Changed).await?;
            }
        });
    }

    /// A task whose failure ends the daemon.
    fn watched(&mut self, job: impl Future<Output = Result<(), PipelineError>> + Send + 'static) {
        let failed = self.failed.clone();
        self.tasks.spawn(async move {
            if let Err(error) = job.await {
                failed.lock().get_or_insert(error);
            }
        });
    }

    /// Hands out what may be worked on now.
    pub(crate) fn hand_out(&mut self) -> Result<(), String> {
        let due = self.timer.is_some_and(|at| at <= self.shared.now());
        if !(due || self.woken.swap(false, Ordering::Relaxed)) {
            return Ok(());
        }
        self.engine.wake_delayed().map_err(|error| error.to_string())?;
        while self.working.load(Ordering::Relaxed) < self.workers {
            let Some(work) = self.engine.take().map_err(|error| error.to_string())? else { break };
            self.shared.trace(|| {
                let hints: Vec<String> =
                    work.hints.iter().map(|hint| format!("{} {}", hint.seq, hint.cause)).collect();
                format!("work of {}: {:?}, hints {}", work.connection, work.hand, hints.join(", "))
            });
            self.note_taken(&work)?;
            self.working.fetch_add(1, Ordering::Relaxed);
            let (engine, working, woken) = (self.engine.clone(), self.working.clone(), self.woken.clone());
            self.watched(async move {
                let done = engine.work(work).await;
                working.fetch_sub(1, Ordering::Relaxed);
                woken.store(true, Ordering::Relaxed);
                done
            });
        }
        let next = self.engine.next_timer().map_err(|error| error.to_string())?;
        // A hint whose time has come but that is still in work is asked for again a little later, as the daemon does.
        let timer = next.map(|at| at.max(self.shared.now() + 10));
        if let Some(at) = timer.filter(|_| timer != self.timer) {
            self.shared.after(at - self.shared.now(), Event::Timer);
        }
        self.timer = timer;
        Ok(())
    }

    /// Keeps when work on an account's record was taken up.
    fn note_taken(&self, work: &Work) -> Result<(), String> {
        let id = match &work.hand {
            Hand::Entity(entity) => {
                let link = self.engine.rooms().store.link(entity, &work.connection);
                link.map_err(|error| error.to_string())?.and_then(|link| link.external)
            }
            Hand::External(key) => Some(key.id.clone()),
            Hand::Identity(..) | Hand::Delivery(_) => None,
        };
        let place = work.connection.as_str().trim_start_matches('c').parse().ok();
        if let (Some(id), Some(place)) = (id, place) {
            let now = self.shared.now();
            self.history.lock().taken.entry((place, id.to_string())).or_default().push(now);
        }
        Ok(())
    }

    /// Lets one task do its next step; false when none can go on.
    pub(crate) fn step(&mut self) -> bool {
        self.tasks.step()
    }

    pub(crate) fn why_failed(&self) -> Option<String> {
        self.failed.lock().as_ref().map(ToString::to_string)
    }

    /// Takes a webhook in, as the intake does: durable before it is acknowledged.
    pub(crate) fn take_in(&mut self, number: u64, place: usize, body: Vec<u8>) {
        let engine = self.engine.clone();
        let (shared, acknowledged) = (self.shared.clone(), self.acknowledged.clone());
        let history = self.history.clone();
        let forget = self.plant == Some(Plant::HookForgotten) && self.shared.roll(|dice| dice.chance(300));
        self.watched(async move {
            let acknowledge = || {
                for told in history.lock().told.get_mut(&number).into_iter().flatten() {
                    told.acknowledged.get_or_insert(shared.now());
                }
                acknowledged.lock().push(number);
            };
            if forget {
                acknowledge();
                return Ok(());
            }
            let store = &engine.rooms().store;
            let now = shared.now();
            let delivery = StoredDelivery {
                seq: store.next_seq(),
                connection: connection_id(place),
                received_at: now,
                delivery: Delivery { headers: Vec::new(), query: Vec::new(), body },
            };
            let hint = Hint {
                seq: store.next_seq(),
                connection: delivery.connection.clone(),
                object: "".into(),
                subject: Subject::Delivery(delivery.seq),
                class: Class::Interactive,
                noticed_at: now,
                due: 0,
                attempts: 0,
                cause: "webhook".into(),
                observed: None,
            };
            let mut commit = Commit::new();
            commit.push(Op::AddDelivery(delivery)).push(Op::AddHint(hint.clone()));
            store.commit(commit, Until::Durable).await?;
            engine.arrive(vec![hint]);
            acknowledge();
            Ok(())
        });
    }

    /// Nothing waits and nothing is under way.
    pub(crate) fn idle(&self) -> bool {
        self.started.load(Ordering::Relaxed)
            && self.working.load(Ordering::Relaxed) == 0
            && self.looking.load(Ordering::Relaxed) == 0
            && self.erasing.load(Ordering::Relaxed) == 0
            && self.engine.rooms().store.busy().is_ok_and(|busy| busy.is_empty())
            && self.has_fed()
    }

    fn has_fed(&self) -> bool {
        let rooms = self.engine.rooms();
        let cursor = rooms.store.value("cursor/system-a").ok().flatten().unwrap_or_else(|| b"0".to_vec());
        cursor == rooms.internal.end_of_feed()
    }

    /// An operator approves of everything that the guard withheld.
    pub(crate) fn approve(&mut self) {
        let engine = self.engine.clone();
        let (working, woken) = (self.working.clone(), self.woken.clone());
        let (history, shared) = (self.history.clone(), self.shared.clone());
        working.fetch_add(1, Ordering::Relaxed);
        self.watched(async move {
            for row in engine.withheld(&Selection::default(), usize::MAX)? {
                let of = (place_of(&row.connection), row.entity.id.to_string());
                history.lock().approved.entry(of).or_insert(shared.now());
            }
            let ruled = engine.rule_on_withheld(&Selection::default(), Approval::Approved).await;
            working.fetch_sub(1, Ordering::Relaxed);
            woken.store(true, Ordering::Relaxed);
            ruled.map(drop).map_err(PipelineError::from)
        });
    }

    /// An operator has somebody erased, or asks how it stands.
    pub(crate) fn erase(&mut self, place: usize, erasures: &Arc<Mutex<Erasures>>) {
        let Some(entity) = erasures.lock().orders.get(place).map(|order| order.entity.clone()) else {
            return;
        };
        let (engine, shared, erasures) = (self.engine.clone(), self.shared.clone(), erasures.clone());
        let (erasing, woken) = (self.erasing.clone(), self.woken.clone());
        erasing.fetch_add(1, Ordering::Relaxed);
        self.watched(async move {
            let linked = engine.rooms().store.links(&entity)?;
            let erased = engine.erase(&entity).await;
            erasing.fetch_sub(1, Ordering::Relaxed);
            woken.store(true, Ordering::Relaxed);
            let mut erasures = erasures.lock();
            let Some(order) = erasures.orders.get_mut(place) else { return Ok(()) };
            let linked =
                linked.into_iter().filter_map(|link| Some((place_of(&link.connection), link.external?)));
            order.copies.extend(linked.map(|(place, id)| (place, id.to_string())));
            match erased? {
                Some(erasure) => {
                    shared.trace(|| {
                        format!("erasure of {entity}, done: {}: {:?}", erasure.done, erasure.places)
                    });
                    let is_first = erasure.done && order.done.is_none();
                    order.answered(erasure, shared.number());
                    if is_first {
                        let left = traces(&*engine.rooms().store, order, false);
                        order.left.extend(left);
                    }
                }
                None => shared.trace(|| format!("erasure of {entity}: somebody works on it")),
            }
            Ok(())
        });
    }

    /// What an operator does at the end: everything that was set aside is tried once more.
    pub(crate) fn replay(&mut self) -> usize {
        let engine = self.engine.clone();
        let letters = engine.rooms().store.dead(None, 1_000).unwrap_or_default();
        let count = letters.len();
        self.watched(async move {
            for letter in letters {
                let store = &engine.rooms().store;
                let hint = Hint {
                    seq: store.next_seq(),
                    class: Class::Interactive,
                    due: 0,
                    attempts: 0,
                    cause: "replay".into(),
                    observed: match &letter.hint.subject {
                        Subject::External(id) => {
                            Some(Observed::touched(letter.hint.object.as_str(), id.as_str()))
                        }
                        _ => None,
                    },
                    ..letter.hint.clone()
                };
                let mut commit = Commit::new();
                commit.push(Op::DropDead(letter.seq)).push(Op::AddHint(hint.clone()));
                store.commit(commit, Until::Durable).await?;
                engine.arrive(vec![hint]);
            }
            Ok(())
        });
        count
    }
}

fn walked_name(id: &ConnectionId) -> String {
    format!("walked/{id}/{OBJECT}")
}

/// One look at a listing, as `app` takes it; answers when the next one is due.
async fn look_once(
    engine: &Arc<Engine>,
    shared: &Arc<Shared<Event>>,
    id: &ConnectionId,
) -> Result<Option<Millis>, PipelineError> {
    let Some(connection) = engine.connection(id) else { return Ok(None) };
    let Some(kept) = connection.objects.get(&object()) else { return Ok(None) };
    let now = shared.now();
    let every = kept.abilities.poll_every_ms;
    let next = now + every + shared.roll(|dice| dice.below(every / 8 + 1));
    let halted = [Cause::Breaker, Cause::Authorisation, Cause::Blocked];
    if halted.contains(&engine.rooms().quotas.standing(id, now).cause) {
        return Ok(Some(now + 1_000));
    }
    let changes = kept.abilities.changes;
    engine.seed(id).await?;
    if changes {
        match through(engine, &connection, Kind::Changes).await? {
            Looked::CursorLost => {
                engine.forget_cursor(&connection, &object(), Kind::Walk).await?;
                let mut commit = Commit::new();
                commit.push(Op::DropValue(walked_name(id)));
                engine.rooms().store.commit(commit, Until::Applied).await?;
                return Ok(Some(now));
            }
            Looked::NotBefore(at) => return Ok(Some(at.max(now + 100))),
            Looked::All | Looked::More => {}
        }
    }
    if engine.rooms().store.value(&walked_name(id))?.is_none() {
        match through(engine, &connection, Kind::Walk).await? {
            Looked::All => {}
            Looked::NotBefore(at) => return Ok(Some(at.max(now + 100))),
            Looked::CursorLost | Looked::More => return Ok(Some(now + 1_000)),
        }
        let mut commit = Commit::new();
        commit.push(Op::PutValue(walked_name(id), now.to_string().into_bytes()));
        engine.rooms().store.commit(commit, Until::Applied).await?;
    }
    Ok(changes.then_some(next))
}

async fn through(
    engine: &Arc<Engine>,
    connection: &Arc<Connection>,
    kind: Kind,
) -> Result<Looked, PipelineError> {
    loop {
        match engine.look_at_listing(connection, &object(), kind).await? {
            Looked::More => {}
            looked => return Ok(looked),
        }
    }
}
