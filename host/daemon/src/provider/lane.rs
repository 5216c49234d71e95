//! A lane: one thread that owns instances and runs the visits of the connections that belong to it.
//!
//! A connection has at most one instance, in one lane, and shares it with nobody. Instances stay while they are used; the
//! one that was used least lately goes when the lane's share of memory or of mappings is full. An instance that faulted is
//! dropped with its store before anything else happens in the lane. A connection that faulted lately runs on the suspects'
//! lane: what still waits for it here is passed on, so that it costs the others one deadline and not one for each visit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use lru::LruCache;
use tandem_core::id::ConnectionId;
use tokio::sync::mpsc;

use super::breaker::BreakerConfig;
use super::counters::Counters;
use super::instance::{Instance, Workshop};
use super::registry::Connection;
use super::{Fault, FaultKind};

/// Visits that may wait for a lane; whoever has one more waits before the queue.
pub(super) const QUEUE: usize = 1024;
/// Visits taken from the queue at once.
const TAKEN: usize = 64;
/// Native stack of a lane: the guest's share, and plenty for the host's functions on top of it.
const STACK_BYTES: usize = 4 << 20;

/// What a visit does.
pub(super) trait Task: Send {
    /// Does it, with the instance or with the reason why there is none.
    fn run(&mut self, instance: Result<&mut Instance, Fault>);
    /// Tells whoever waits. Called when everything that followed from the visit is done: a spoilt store is gone, the
    /// breaker knows.
    fn answer(self: Box<Self>);
}

/// What a lane is told.
pub(super) enum Message {
    /// Run a visit.
    Visit(Visit),
    /// Drop the connection's instance.
    Forget(ConnectionId),
}

/// A visit on its way.
pub(super) struct Visit {
    pub(super) connection: Arc<Connection>,
    pub(super) task: Box<dyn Task>,
    /// Held until the visit is over.
    pub(super) seated: Seated,
}

/// Where a connection is, and how many of its visits are under way.
#[derive(Default)]
pub(super) struct Placement {
    /// The lane that it belongs to; chosen at first use.
    pub(super) home: Option<usize>,
    /// The lane where its visits go now.
    pub(super) at: Option<usize>,
    under_way: usize,
}

/// Counts a visit as under way for as long as it lives.
pub(super) struct Seated(Arc<Connection>);

impl Seated {
    /// Takes a seat for a visit: where the connection sits, or, when nothing of it is under way, where it should sit.
    /// Gives the lane, and the lane that it left.
    pub(super) fn take(
        connection: &Arc<Connection>,
        choose: impl FnOnce(&mut Placement) -> usize,
    ) -> (Self, usize, Option<usize>) {
        let mut placement = connection.seat.placement.lock();
        let mut left = None;
        let lane = match placement.at {
            Some(lane) if placement.under_way > 0 => lane,
            before => {
                let lane = choose(&mut placement);
                left = before.filter(|before| *before != lane);
                placement.at = Some(lane);
                lane
            }
        };
        placement.under_way += 1;
        drop(placement);
        (Self(Arc::clone(connection)), lane, left)
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let mut placement = self.0.seat.placement.lock();
        placement.under_way = placement.under_way.saturating_sub(1);
    }
}

/// A lane from outside.
pub(super) struct Lane {
    pub(super) sender: mpsc::Sender<Message>,
    pub(super) counters: Arc<Counters>,
    /// Connections whose home it is.
    pub(super) homes: AtomicUsize,
}

/// What a lane may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) bytes: usize,
    pub(super) instances: usize,
}

/// The suspects' lane as the others see it.
pub(super) struct Suspects {
    pub(super) index: usize,
    pub(super) sender: mpsc::Sender<Message>,
}

impl Lane {
    /// Starts a lane's thread. It ends when the last sender is gone.
    pub(super) fn start(
        name: String,
        workshop: Workshop,
        share: Share,
        breaker: BreakerConfig,
        suspects: Option<Suspects>,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let counters = Arc::clone(&workshop.counters);
        let worker =
            Worker { workshop, share, breaker, suspects, instances: LruCache::unbounded(), bytes: 0 };
        std::thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || worker.run(receiver))?;
        Ok(Self { sender, counters, homes: AtomicUsize::new(0) })
    }
}

/// An instance and what it was made for.
struct Kept {
    serial: u64,
    bytes: usize,
    instance: Instance,
}

struct Worker {
    workshop: Workshop,
    share: Share,
    breaker: BreakerConfig,
    suspects: Option<Suspects>,
    instances: LruCache<ConnectionId, Kept>,
    bytes: usize,
}

impl Worker {
    fn run(mut self, mut receiver: mpsc::Receiver<Message>) {
        let mut taken = Vec::with_capacity(TAKEN);
        while receiver.blocking_recv_many(&mut taken, TAKEN) > 0 {
            for message in taken.drain(..) {
                // A visit's job is the host's own code; should it panic, the lane and everybody else in it go on.
                if catch_unwind(AssertUnwindSafe(|| self.handle(message))).is_err() {
                    tracing::error!("a visit's job panicked; its instance is gone, the lane goes on");
                }
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Visit(visit) => self.visit(visit),
            Message::Forget(connection) => {
                if let Some(kept) = self.instances.pop(&connection) {
                    self.account(kept.bytes, 0);
                    Counters::add(&self.workshop.counters.retired);
                }
            }
        }
    }

    fn visit(&mut self, visit: Visit) {
        let (open, suspect) = {
            let breaker = visit.connection.breaker.lock();
            (breaker.check(Instant::now).err(), breaker.suspect(&self.breaker, Instant::now))
        };
        let visit = if suspect && open.is_none() { self.pass_on(visit) } else { Some(visit) };
        let Some(Visit { connection, mut task, seated }) = visit else { return };
        match open {
            Some(open) => {
                let fault = broken(&connection, open.faults, open.wait);
                self.workshop.counters.fault(&fault.kind);
                task.run(Err(fault));
            }
            None => self.run_task(&connection, &mut *task),
        }
        drop(seated);
        task.answer();
    }

    fn run_task(&mut self, connection: &Connection, task: &mut dyn Task) {
        Counters::add(&self.workshop.counters.visits);
        let mut instance = match self.take(connection) {
            Ok(instance) => instance,
            Err(fault) => {
                self.faulted(connection, &fault);
                return task.run(Err(fault));
            }
        };
        task.run(Ok(&mut instance));
        let answered = instance.take_answered();
        // What failed in the end did not recover, though it may have answered for the records before.
        let failed = instance.fault().map(|fault| fault.call.as_str());
        connection.breaker.lock().answered(answered.names().filter(|name| Some(*name) != failed));
        match instance.fault() {
            Some(fault) => {
                self.faulted(connection, fault);
                Counters::add(&self.workshop.counters.discarded);
            }
            None => {
                if instance.worn() {
                    Counters::add(&self.workshop.counters.retired);
                } else {
                    self.keep(connection, instance);
                }
            }
        }
    }

    /// Sends a suspect's visit to the suspects' lane. Gives it back where that is here or full.
    fn pass_on(&self, visit: Visit) -> Option<Visit> {
        let Some(suspects) = &self.suspects else { return Some(visit) };
        let connection = Arc::clone(&visit.connection);
        match suspects.sender.try_send(Message::Visit(visit)) {
            Ok(()) => {
                connection.seat.placement.lock().at = Some(suspects.index);
                Counters::add(&self.workshop.counters.rerouted);
                None
            }
            Err(error) => match error.into_inner() {
                Message::Visit(visit) => Some(visit),
                Message::Forget(_) => None,
            },
        }
    }

    fn faulted(&self, connection: &Connection, fault: &Fault) {
        let opened = {
            let mut breaker = connection.breaker.lock();
            breaker.note(fault);
            breaker.fault(&fault.call, &self.breaker, Instant::now())
        };
        tracing::warn!(connection = %connection.id, "{fault}");
        if opened {
            Counters::add(&self.workshop.counters.breakers_opened);
            tracing::warn!(connection = %connection.id, provider = %connection.version.label, "out of use after faults in a row");
        }
    }

    /// The connection's instance, taken out of the cache, or a fresh one.
    fn take(&mut self, connection: &Connection) -> Result<Instance, Fault> {
        if let Some(kept) = self.instances.pop(&connection.id) {
            self.account(kept.bytes, 0);
            if kept.serial == connection.serial {
                return Ok(kept.instance);
            }
            Counters::add(&self.workshop.counters.retired);
        }
        let version = &connection.version;
        let mut instance = Instance::of(&self.workshop, version, &connection.name)?;
        Counters::add(&self.workshop.counters.created);
        match instance.configure(&connection.settings, &connection.facts)? {
            Ok(_) => Ok(instance),
            Err(problems) => {
                let kind = FaultKind::Configure { what: super::load::said(&problems) };
                self.workshop.counters.fault(&kind);
                Err(Fault { provider: version.label.to_string(), call: "configure".to_owned(), kind })
            }
        }
    }

    /// Puts an instance into the cache and makes room for it.
    fn keep(&mut self, connection: &Connection, instance: Instance) {
        let bytes = instance.bytes();
        self.instances.push(connection.id.clone(), Kept { serial: connection.serial, bytes, instance });
        self.account(0, bytes);
        while (self.bytes > self.share.bytes || self.instances.len() > self.share.instances)
            && self.instances.len() > 1
        {
            let Some((_, oldest)) = self.instances.pop_lru() else { break };
            self.account(oldest.bytes, 0);
            Counters::add(&self.workshop.counters.evicted);
        }
    }

    fn account(&mut self, out: usize, into: usize) {
        self.bytes = self.bytes.saturating_sub(out).saturating_add(into);
        self.workshop.counters.instances.store(self.instances.len() as u64, Ordering::Relaxed);
        self.workshop.counters.bytes.store(self.bytes as u64, Ordering::Relaxed);
    }
}

/// The fault of a connection whose breaker is open.
pub(super) fn broken(connection: &Connection, faults: u32, wait: std::time::Duration) -> Fault {
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
    Fault {
        provider: connection.version.label.to_string(),
        call: "visit".to_owned(),
        kind: FaultKind::Broken { faults, wait_ms },
    }
}
