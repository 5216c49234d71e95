//! Whose turn it is: fair turns over connections.
//!
//! Deficit round robin (Shreedhar and Varghese, 1995) over the connections that have work, one ring for each class. A turn is a small
//! batch for one connection and class; what it really cost is said afterwards and comes off later turns. The most urgent class goes
//! first, but work that has waited for longer than its class's patience gets one turn in [`SHARE`], so that nothing starves and nothing aged can
//! flood what is urgent. A connection that must wait for its quota is set aside until then and delays nobody. Deterministic: same
//! calls, same turns. Not synchronised: it belongs to one lane, or goes behind a lock. Each step is O(log n) at most.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use tandem_core::Millis;
use tandem_core::id::ConnectionId;

use crate::store::Class;

const CLASSES: usize = Class::ALL.len();

/// One turn in so many goes to work that waited too long, while more urgent work is there.
pub const SHARE: u32 = 8;

/// How long each class waits before it counts as aged, in milliseconds, most urgent first.
const PATIENCE: [Millis; CLASSES] = [0, 500, 2_000, 10_000, 10_000];

/// Deepest debt that a costly batch leaves, in turns' worth of quantum.
const DEBT: i64 = 16;

/// A batch of work that a connection may take now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Whose.
    pub connection: ConnectionId,
    /// Of which class.
    pub class: Class,
    /// At most so many pieces of work. Each is answered with [`Turns::done`] or [`Turns::unused`].
    pub budget: u32,
}

#[derive(Debug, Default, Clone, Copy)]
struct Seat {
    ready: bool,
    /// It stands in its class's ring.
    queued: bool,
    /// It is set aside until this moment.
    held: Option<Millis>,
    since: Millis,
    deficit: i64,
}

#[derive(Debug)]
struct Slot {
    id: ConnectionId,
    weight: u32,
    at_once: u32,
    running: u32,
    seats: [Seat; CLASSES],
}

/// The turns of one lane.
#[derive(Debug)]
pub struct Turns {
    quantum: u32,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    by_id: HashMap<ConnectionId, usize>,
    rings: [VecDeque<usize>; CLASSES],
    held: BinaryHeap<Reverse<(Millis, usize, usize)>>,
    /// Turns given to the most urgent class since an aged one was served.
    run: u32,
}

impl Turns {
    /// `quantum`: pieces of work that a connection of weight 1 may take in one round.
    #[must_use]
    pub fn new(quantum: u32) -> Self {
        Self {
            quantum: quantum.max(1),
            slots: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::new(),
            rings: std::array::from_fn(|_| VecDeque::new()),
            held: BinaryHeap::new(),
            run: 0,
        }
    }

    /// Makes a connection known, or changes its weight (at least 1) and how many pieces it works on at once (at least 1).
    pub fn add(&mut self, connection: &ConnectionId, weight: u32, at_once: u32) {
        let (weight, at_once) = (weight.max(1), at_once.max(1));
        if let Some(&at) = self.by_id.get(connection) {
            if let Some(slot) = self.slot(at) {
                (slot.weight, slot.at_once) = (weight, at_once);
            }
            self.unpark(at);
            return;
        }
        let slot = Some(Slot {
            id: connection.clone(),
            weight,
            at_once,
            running: 0,
            seats: [Seat::default(); CLASSES],
        });
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(place) = self.slots.get_mut(at) {
                    *place = slot;
                }
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.by_id.insert(connection.clone(), at);
    }

    /// Forgets a connection.
    pub fn remove(&mut self, connection: &ConnectionId) {
        let Some(at) = self.by_id.remove(connection) else { return };
        for ring in &mut self.rings {
            ring.retain(|&known| known != at);
        }
        self.held.retain(|Reverse((_, known, _))| *known != at);
        if let Some(place) = self.slots.get_mut(at) {
            *place = None;
            self.free.push(at);
        }
    }

    /// The connection has work of this class.
    pub fn ready(&mut self, connection: &ConnectionId, class: Class, now: Millis) {
        let Some(&at) = self.by_id.get(connection) else { return };
        if let Some(seat) = self.seat(at, class as usize)
            && !seat.ready
        {
            seat.ready = true;
            seat.since = now;
        }
        self.enqueue(at, class as usize);
    }

    /// The connection has no work of this class any more.
    pub fn idle(&mut self, connection: &ConnectionId, class: Class) {
        let Some(&at) = self.by_id.get(connection) else { return };
        if let Some(seat) = self.seat(at, class as usize) {
            seat.ready = false;
            seat.deficit = seat.deficit.min(0);
        }
    }

    /// The connection's work of this class and of all less urgent ones waits until a moment. `u64::MAX`: until [`Self::release`].
    pub fn hold(&mut self, connection: &ConnectionId, from: Class, until: Millis) {
        let Some(&at) = self.by_id.get(connection) else { return };
        for class in from as usize..CLASSES {
            let Some(seat) = self.seat(at, class) else { continue };
            if seat.held.is_none_or(|held| held < until) {
                seat.held = Some(until);
                self.held.push(Reverse((until, at, class)));
            }
        }
    }

    /// Ends all waits of a connection: its cause was cleared.
    pub fn release(&mut self, connection: &ConnectionId) {
        let Some(&at) = self.by_id.get(connection) else { return };
        for class in 0..CLASSES {
            if let Some(seat) = self.seat(at, class) {
                seat.held = None;
            }
            self.enqueue(at, class);
        }
    }

    /// Who works next; None if nobody may. The pieces of the budget count as running from now on.
    pub fn next(&mut self, now: Millis) -> Option<Turn> {
        self.rearm(now);
        loop {
            let class = self.choose(now)?;
            let at = self.rings.get_mut(class)?.pop_front()?;
            let quantum = i64::from(self.quantum);
            let Some(slot) = self.slot(at) else { continue };
            let (room, share) = (slot.at_once.saturating_sub(slot.running), quantum * i64::from(slot.weight));
            let Some(seat) = slot.seats.get_mut(class) else { continue };
            seat.queued = false;
            // Set aside (in the heap), idle, or full (comes back with `done`).
            if !seat.ready || seat.held.is_some() || room == 0 {
                continue;
            }
            if seat.deficit < 1 {
                seat.deficit += share;
            }
            if seat.deficit < 1 {
                self.enqueue(at, class);
                continue;
            }
            let budget = u32::try_from(seat.deficit).unwrap_or(u32::MAX).min(room);
            seat.deficit -= i64::from(budget);
            seat.since = now;
            slot.running += budget;
            let connection = slot.id.clone();
            self.enqueue(at, class);
            return Some(Turn { connection, class: *Class::ALL.get(class)?, budget });
        }
    }

    /// A piece of work is finished; it cost so many calls. More than one comes off the class's later turns.
    pub fn done(&mut self, connection: &ConnectionId, class: Class, cost: u32) {
        let Some(&at) = self.by_id.get(connection) else { return };
        let quantum = i64::from(self.quantum);
        if let Some(slot) = self.slot(at) {
            slot.running = slot.running.saturating_sub(1);
            let deepest = -DEBT * quantum * i64::from(slot.weight);
            if let Some(seat) = slot.seats.get_mut(class as usize) {
                seat.deficit = (seat.deficit + 1 - i64::from(cost)).max(deepest);
            }
        }
        self.unpark(at);
    }

    /// Pieces of a budget for which there was no work.
    pub fn unused(&mut self, connection: &ConnectionId, class: Class, pieces: u32) {
        let Some(&at) = self.by_id.get(connection) else { return };
        if let Some(slot) = self.slot(at) {
            slot.running = slot.running.saturating_sub(pieces);
            let (ready, refund) = (slot.seats.get(class as usize).is_some_and(|seat| seat.ready), pieces);
            if let Some(seat) = slot.seats.get_mut(class as usize)
                && ready
            {
                seat.deficit += i64::from(refund);
            }
        }
        self.unpark(at);
    }

    /// When the next wait ends, if anybody waits for a time.
    #[must_use]
    pub fn next_wake(&self) -> Option<Millis> {
        self.held.peek().map(|Reverse((until, _, _))| *until).filter(|&until| until != Millis::MAX)
    }

    /// Pieces of work that the connection is on now.
    #[must_use]
    pub fn running(&self, connection: &ConnectionId) -> u32 {
        let slot = self.by_id.get(connection).and_then(|&at| self.slots.get(at)?.as_ref());
        slot.map_or(0, |slot| slot.running)
    }

    fn slot(&mut self, at: usize) -> Option<&mut Slot> {
        self.slots.get_mut(at)?.as_mut()
    }

    fn seat(&mut self, at: usize, class: usize) -> Option<&mut Seat> {
        self.slot(at)?.seats.get_mut(class)
    }

    fn unpark(&mut self, at: usize) {
        for class in 0..CLASSES {
            self.enqueue(at, class);
        }
    }

    /// Puts a connection at the end of a ring, if it may work and does not stand there already.
    fn enqueue(&mut self, at: usize, class: usize) {
        let Some(slot) = self.slot(at) else { return };
        let room = slot.running < slot.at_once;
        if let Some(seat) = slot.seats.get_mut(class)
            && seat.ready
            && !seat.queued
            && seat.held.is_none()
            && room
        {
            seat.queued = true;
            if let Some(ring) = self.rings.get_mut(class) {
                ring.push_back(at);
            }
        }
    }

    fn rearm(&mut self, now: Millis) {
        while let Some(&Reverse((until, at, class))) = self.held.peek() {
            if until > now {
                break;
            }
            self.held.pop();
            // A later wait, or none, may have taken this one's place.
            if let Some(seat) = self.seat(at, class)
                && seat.held == Some(until)
            {
                seat.held = None;
                self.enqueue(at, class);
            }
        }
    }

    fn choose(&mut self, now: Millis) -> Option<usize> {
        let urgent = self.rings.iter().position(|ring| !ring.is_empty())?;
        if self.run + 1 >= SHARE {
            // The head of a ring is the one that was served longest ago; the most overdue of the heads is served.
            let overdue = |class: usize| {
                let head = self.rings.get(class)?.front()?;
                let since = self.slots.get(*head)?.as_ref()?.seats.get(class)?.since;
                now.checked_sub(since)?.checked_sub(*PATIENCE.get(class)?)
            };
            let aged = (urgent + 1..CLASSES)
                .filter_map(|class| Some((overdue(class)?, Reverse(class))))
                .max()
                .map(|(_, Reverse(class))| class);
            if let Some(aged) = aged {
                self.run = 0;
                return Some(aged);
            }
        }
        self.run = (self.run + 1).min(SHARE);
        Some(urgent)
    }
}
