//! What is worked on next: windows of waiting hints, merged by subject, and the hands that hold entities.
//!
//! Invariants: an entity, an unlinked external record and an identity value are each held by one hand at a time. Hints about
//! one subject merge while they wait. No record of a connection is taken while a delivery of its account waits to be read or is
//! being read, but for one after so many deliveries in a row; a delivery whose reading failed waits for its time and holds
//! nobody up. Memory is bounded by the windows: what does not fit stays in the store and is loaded when the window runs low.
//! Nothing here is durable; after a restart the windows are filled from the store again.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use tandem_core::Millis;
use tandem_core::id::{ConnectionId, EntityKey, ExternalKey, ObjectName, ScopeId};

use crate::store::{Class, Hint, Store, StoreError, Subject};

/// Hints of one connection and class that are kept in memory.
const WINDOW: usize = 512;

/// A less urgent class is looked at first once in so many takes, each in its turn, so that none starves.
const AGEING: u32 = 16;

/// Deliveries that are read in a row while records wait; then one record is taken all the same, so that a flood of webhooks
/// starves nobody.
const DELIVERIES_IN_A_ROW: u32 = 256;

/// What a worker holds while it works.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hand {
    /// An entity, over all its connections.
    Entity(EntityKey),
    /// A record of a CRM that is not linked yet.
    External(ExternalKey),
    /// An identity value on a connection: two unlinked records with the same address are one person.
    Identity(ConnectionId, ObjectName, String),
    /// A stored delivery.
    Delivery(u64),
}

/// All that waits for one subject of a connection.
#[derive(Debug, PartialEq)]
pub struct Work {
    /// Whose work it is.
    pub connection: ConnectionId,
    /// The canonical object. Empty for deliveries.
    pub object: ObjectName,
    /// What the hints point at.
    pub subject: Subject,
    /// The merged hints, oldest first. Never empty.
    pub hints: Vec<Hint>,
    /// What is held; released by [`Dispatch::finish`].
    pub hand: Hand,
    /// Hints wait in the store that are not in memory and may be word of the CRM: older word of the same record may be among them.
    pub went_ahead: bool,
}

impl Work {
    /// The most urgent class of the merged hints.
    #[must_use]
    pub fn class(&self) -> Class {
        self.hints.iter().map(|hint| hint.class).min().unwrap_or(Class::Live)
    }
}

type Place = (ObjectName, Subject);

/// Ready hints of a class that are in the store alone.
#[derive(Clone, Copy)]
struct Unloaded {
    /// From this number on.
    from: u64,
    /// Some may be about the CRM's record. What was there before this run is not known.
    external: bool,
}

/// The waiting hints of one connection.
struct Window {
    /// The customer's part of System A that the connection serves.
    scope: ScopeId,
    /// Subjects in the order of their first hint, by class.
    order: BTreeMap<Class, VecDeque<Place>>,
    /// The merged hints of each subject.
    waiting: HashMap<Place, Vec<Hint>>,
    /// Numbers in memory or in work: a hint that is read again from the store is recognised by it.
    known: HashSet<u64>,
    /// What the store may hold of ready hints that are not in memory, by class.
    unloaded: BTreeMap<Class, Unloaded>,
    /// Workers at once.
    working: usize,
    /// Deliveries that wait to be read, in the order in which they came. What they say of records is known first, so that an
    /// edit in System A meets the edits that were told of before it, and nothing is written over what was told already.
    deliveries: VecDeque<Place>,
    /// Deliveries that are being read.
    reading: usize,
    /// Deliveries that were taken in a row while records waited.
    in_a_row: u32,
    /// Nothing is taken before this moment.
    not_before: Millis,
    /// No record is taken before this moment; deliveries are read.
    records_not_before: Millis,
    /// Subjects that are looked at again at a moment of their own.
    parked: BTreeSet<(Millis, u64)>,
    parked_hints: HashMap<u64, Vec<Hint>>,
    /// Where a subject's hints are among those.
    parked_at: HashMap<Place, (Millis, u64)>,
    takes: u32,
    in_turn: bool,
}

impl Window {
    fn new(scope: ScopeId) -> Self {
        Self {
            scope,
            order: BTreeMap::new(),
            waiting: HashMap::new(),
            known: HashSet::new(),
            unloaded: BTreeMap::new(),
            working: 0,
            deliveries: VecDeque::new(),
            reading: 0,
            in_a_row: 0,
            not_before: 0,
            records_not_before: 0,
            parked: BTreeSet::new(),
            parked_hints: HashMap::new(),
            parked_at: HashMap::new(),
            takes: 0,
            in_turn: false,
        }
    }

    fn push(&mut self, hint: Hint) {
        if !self.known.insert(hint.seq) {
            return;
        }
        self.enqueue(hint);
    }

    fn enqueue(&mut self, hint: Hint) {
        let place = (hint.object.clone(), hint.subject.clone());
        let class = hint.class;
        if matches!(hint.subject, Subject::Delivery(_)) {
            match self.waiting.entry(place.clone()) {
                Entry::Occupied(mut waiting) => waiting.get_mut().push(hint),
                Entry::Vacant(waiting) => {
                    waiting.insert(vec![hint]);
                    self.deliveries.push_back(place);
                }
            }
            return;
        }
        match self.waiting.get_mut(&place) {
            Some(hints) => {
                if hints.iter().all(|known| class < known.class) {
                    // More urgent than what waits: it gets a place of its own class; the older place is skipped when met.
                    self.order.entry(class).or_default().push_back(place);
                }
                hints.push(hint);
            }
            None => {
                self.order.entry(class).or_default().push_back(place.clone());
                self.waiting.insert(place, vec![hint]);
            }
        }
    }

    /// Lets hints wait for a moment of their own.
    fn park(&mut self, at: (Millis, u64), hints: Vec<Hint>) {
        for hint in &hints {
            self.parked_at.insert((hint.object.clone(), hint.subject.clone()), at);
        }
        self.parked.insert(at);
        self.parked_hints.insert(at.1, hints);
    }

    /// Takes hints back that wait for a moment.
    fn unpark(&mut self, at: (Millis, u64)) -> Vec<Hint> {
        self.parked.remove(&at);
        let hints = self.parked_hints.remove(&at.1).unwrap_or_default();
        for hint in &hints {
            self.parked_at.remove(&(hint.object.clone(), hint.subject.clone()));
        }
        hints
    }

    /// Whether anything waits for a subject.
    fn has(&self, place: &Place) -> bool {
        self.waiting.contains_key(place) || self.parked_at.contains_key(place)
    }

    /// Takes all that waits for a subject, also what waits for a moment: who works a record without it does not know what was told of it.
    fn take_all(&mut self, place: &Place) -> Vec<Hint> {
        let mut hints = self.waiting.remove(place).unwrap_or_default();
        if let Some(at) = self.parked_at.get(place).copied() {
            hints.extend(self.unpark(at));
        }
        hints
    }

    /// How much of a class is in memory, to be taken now. Deliveries are of the most urgent one.
    fn held(&self, class: Class) -> usize {
        let deliveries = if class == Class::Interactive { self.deliveries.len() } else { 0 };
        self.order.get(&class).map_or(0, VecDeque::len).saturating_add(deliveries)
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.unloaded.is_empty()
    }
}

/// Waiting hints of all connections, fair turns between them, and hands.
pub struct Dispatch {
    windows: HashMap<ConnectionId, Window>,
    /// Connections that may have work, in turn.
    turns: VecDeque<ConnectionId>,
    /// Connections that wait for a moment.
    timers: BTreeSet<(Millis, ConnectionId)>,
    hands: HashSet<Hand>,
    /// Connections that found a hand busy: they get a turn when it is free.
    wanting: HashMap<Hand, Vec<ConnectionId>>,
    /// Workers at once for one connection.
    per_connection: usize,
    next_park: u64,
}

impl Dispatch {
    /// Empty; at most `per_connection` workers at once for one connection.
    #[must_use]
    pub fn new(per_connection: usize) -> Self {
        Self {
            windows: HashMap::new(),
            turns: VecDeque::new(),
            timers: BTreeSet::new(),
            hands: HashSet::new(),
            wanting: HashMap::new(),
            per_connection,
            next_park: 0,
        }
    }

    /// Makes a connection known, or moves it to another scope; its ready hints are loaded from the store when its turn comes.
    pub fn register(&mut self, connection: &ConnectionId, scope: &ScopeId) {
        let window = self.windows.entry(connection.clone()).or_insert_with(|| Window::new(scope.clone()));
        window.scope.clone_from(scope);
        for class in Class::ALL {
            window.unloaded.insert(class, Unloaded { from: 0, external: true });
        }
        Self::arm(&mut self.turns, connection, window);
    }

    /// Hints were committed to the store. Those of unknown connections stay there.
    pub fn arrived(&mut self, hints: impl IntoIterator<Item = Hint>) {
        for hint in hints {
            let Some(window) = self.windows.get_mut(&hint.connection) else { continue };
            let connection = hint.connection.clone();
            // A delivery says more than it takes up, and goes before the records that it is about.
            let full = match hint.subject {
                Subject::Delivery(_) => window.deliveries.len() >= WINDOW,
                _ => window.held(hint.class) >= WINDOW || window.unloaded.contains_key(&hint.class),
            };
            if hint.due == 0 && full {
                // It waits in the store, behind those that came before it.
                let external = matches!(hint.subject, Subject::External(_));
                let unloaded =
                    window.unloaded.entry(hint.class).or_insert(Unloaded { from: hint.seq, external });
                unloaded.from = unloaded.from.min(hint.seq);
                unloaded.external |= external;
            } else {
                window.push(hint);
            }
            Self::arm(&mut self.turns, &connection, window);
        }
    }

    fn arm(turns: &mut VecDeque<ConnectionId>, connection: &ConnectionId, window: &mut Window) {
        if !window.in_turn {
            window.in_turn = true;
            turns.push_back(connection.clone());
        }
    }

    /// Somebody acted (resumed it, renewed its credentials): what was put back until a moment may be taken now.
    pub fn release(&mut self, connection: &ConnectionId) {
        if let Some(window) = self.windows.get_mut(connection) {
            window.not_before = 0;
            window.records_not_before = 0;
            Self::unpark(window, Millis::MAX);
            Self::arm(&mut self.turns, connection, window);
        }
    }

    /// Forgets a connection that was removed. Its hints stay in the store.
    pub fn forget(&mut self, connection: &ConnectionId) {
        if let Some(window) = self.windows.get_mut(connection)
            && window.working == 0
        {
            self.windows.remove(connection);
        }
        self.turns.retain(|turn| turn != connection);
    }

    /// When something may be taken that cannot be taken now.
    #[must_use]
    pub fn next_timer(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Takes hold of a hand; false when somebody else has it.
    pub fn hold(&mut self, hand: &Hand) -> bool {
        self.hands.insert(hand.clone())
    }

    /// Lets go of a hand.
    pub fn let_go(&mut self, hand: &Hand) {
        self.hands.remove(hand);
        for connection in self.wanting.remove(hand).unwrap_or_default() {
            if let Some(window) = self.windows.get_mut(&connection) {
                Self::arm(&mut self.turns, &connection, window);
            }
        }
    }

    /// Takes the next work: connections in turn, the most urgent class first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn take<S: Store>(&mut self, store: &S, now: Millis) -> Result<Option<Work>, StoreError> {
        while let Some((at, connection)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            self.timers.remove(&(at, connection.clone()));
            if let Some(window) = self.windows.get_mut(&connection) {
                Self::unpark(window, now);
                Self::arm(&mut self.turns, &connection, window);
            }
        }
        for _ in 0..self.turns.len() {
            let Some(connection) = self.turns.pop_front() else { break };
            let Some(window) = self.windows.get_mut(&connection) else { continue };
            window.in_turn = false;
            if window.not_before > now {
                self.timers.insert((window.not_before, connection));
                continue;
            }
            if window.working >= self.per_connection {
                // The end of a work arms it again.
                continue;
            }
            Self::load(window, store, &connection)?;
            let taken = if window.records_not_before > now {
                Self::pick_delivery(window, &connection, &mut self.hands)
            } else {
                Self::pick(window, store, &connection, &mut self.hands, &mut self.wanting)?
            };
            let Some(work) = taken else { continue };
            window.working += 1;
            if !window.is_idle() {
                Self::arm(&mut self.turns, &connection, window);
            }
            return Ok(Some(work));
        }
        Ok(None)
    }

    fn unpark(window: &mut Window, now: Millis) {
        while let Some(at) = window.parked.first().copied().filter(|(at, _)| *at <= now) {
            for hint in window.unpark(at) {
                window.enqueue(hint);
            }
        }
    }

    fn load<S: Store>(window: &mut Window, store: &S, connection: &ConnectionId) -> Result<(), StoreError> {
        // Each class has a window of its own: what is urgent does not wait in the store for what is not.
        let low = |(class, _): &(&Class, &Unloaded)| window.held(**class) <= WINDOW / 4;
        let classes: Vec<(Class, Unloaded)> =
            window.unloaded.iter().filter(low).map(|(class, unloaded)| (*class, *unloaded)).collect();
        for (class, unloaded) in classes {
            let mut after = unloaded.from.saturating_sub(1);
            loop {
                let hints = store.ready(connection, class, after, WINDOW)?;
                let last = hints.last().map(|hint| hint.seq);
                let full = hints.len() >= WINDOW;
                for hint in hints {
                    window.push(hint);
                }
                match last {
                    Some(seq) if full => {
                        after = seq;
                        window.unloaded.insert(class, Unloaded { from: seq.saturating_add(1), ..unloaded });
                        if window.held(class) >= WINDOW {
                            break;
                        }
                    }
                    _ => {
                        window.unloaded.remove(&class);
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn pick<S: Store>(
        window: &mut Window,
        store: &S,
        connection: &ConnectionId,
        hands: &mut HashSet<Hand>,
        wanting: &mut HashMap<Hand, Vec<ConnectionId>>,
    ) -> Result<Option<Work>, StoreError> {
        let passed_by = window.in_a_row >= DELIVERIES_IN_A_ROW;
        if !passed_by && let Some(work) = Self::pick_delivery(window, connection, hands) {
            return Ok(Some(work));
        }
        let work = if passed_by || window.reading == 0 {
            Self::pick_record(window, store, connection, hands, wanting)?
        } else {
            None
        };
        Ok(match work {
            Some(work) => {
                window.in_a_row = 0;
                Some(work)
            }
            // No record can be taken.
            None => Self::pick_delivery(window, connection, hands),
        })
    }

    fn pick_delivery(
        window: &mut Window,
        connection: &ConnectionId,
        hands: &mut HashSet<Hand>,
    ) -> Option<Work> {
        let place = window.deliveries.pop_front()?;
        let hints = window.waiting.remove(&place).unwrap_or_default();
        let (object, subject) = place;
        let Subject::Delivery(seq) = subject else { return None };
        let hand = Hand::Delivery(seq);
        hands.insert(hand.clone());
        window.reading += 1;
        let records_wait = window.waiting.len() > window.deliveries.len();
        window.in_a_row = if records_wait { window.in_a_row.saturating_add(1) } else { 0 };
        Some(Work { connection: connection.clone(), object, subject, hints, hand, went_ahead: false })
    }

    fn pick_record<S: Store>(
        window: &mut Window,
        store: &S,
        connection: &ConnectionId,
        hands: &mut HashSet<Hand>,
        wanting: &mut HashMap<Hand, Vec<ConnectionId>>,
    ) -> Result<Option<Work>, StoreError> {
        window.takes = window.takes.wrapping_add(1);
        let mut classes: Vec<Class> =
            window.order.iter().filter(|(_, queue)| !queue.is_empty()).map(|(class, _)| *class).collect();
        if window.takes.is_multiple_of(AGEING) && classes.len() > 1 {
            let less_urgent = classes.len().saturating_sub(1);
            let turn = usize::try_from(window.takes / AGEING).unwrap_or(0) % less_urgent;
            classes.rotate_left(turn.saturating_add(1));
        }
        for class in classes {
            let Some(queue) = window.order.get_mut(&class) else { continue };
            for _ in 0..queue.len() {
                let Some(place) = queue.pop_front() else { break };
                if !window.waiting.contains_key(&place) {
                    // Taken already through a place in another class.
                    continue;
                }
                let hand = hand_of(store, connection, &window.scope, &place)?;
                if hands.contains(&hand) {
                    let waiters = wanting.entry(hand).or_default();
                    if !waiters.contains(connection) {
                        waiters.push(connection.clone());
                    }
                    queue.push_back(place);
                    continue;
                }
                hands.insert(hand.clone());
                let mut hints = window.take_all(&place);
                let (object, subject) = place;
                if let Hand::Entity(entity) = &hand {
                    // What waits for the other side of the same link is the same work, unless that record is another entity's by now.
                    let other = match &subject {
                        Subject::External(_) => Some(Subject::Internal(entity.id.clone())),
                        Subject::Internal(_) => store
                            .link(entity, connection)?
                            .and_then(|link| link.external)
                            .map(Subject::External),
                        Subject::Delivery(_) => None,
                    };
                    if let Some(other) = other.map(|other| (object.clone(), other))
                        && window.has(&other)
                        && hand_of(store, connection, &window.scope, &other)? == hand
                    {
                        hints.extend(window.take_all(&other));
                    }
                }
                let went_ahead = window.unloaded.values().any(|unloaded| unloaded.external);
                let connection = connection.clone();
                return Ok(Some(Work { connection, object, subject, hints, hand, went_ahead }));
            }
        }
        Ok(None)
    }

    /// The work is done: its hints were dropped or replaced in the store.
    pub fn finish(&mut self, work: &Work) {
        self.let_go(&work.hand);
        if let Some(window) = self.windows.get_mut(&work.connection) {
            window.working = window.working.saturating_sub(1);
            if matches!(work.hand, Hand::Delivery(_)) {
                window.reading = window.reading.saturating_sub(1);
            }
            for hint in &work.hints {
                window.known.remove(&hint.seq);
            }
            if !window.is_idle() {
                Self::arm(&mut self.turns, &work.connection, window);
            }
        }
    }

    /// No record of a connection is taken until the moment; what was told of them is still read.
    pub fn rest(&mut self, connection: &ConnectionId, until: Millis) {
        if let Some(window) = self.windows.get_mut(connection) {
            window.records_not_before = window.records_not_before.max(until);
            self.timers.insert((until, connection.clone()));
        }
    }

    /// The work could not be done now and nothing was changed: its hints wait again, in memory, until the moment.
    pub fn put_back(&mut self, work: Work, until: Millis, whole_connection: bool) {
        self.let_go(&work.hand);
        let park = self.next_park;
        self.next_park = self.next_park.wrapping_add(1);
        let Some(window) = self.windows.get_mut(&work.connection) else { return };
        window.working = window.working.saturating_sub(1);
        if matches!(work.hand, Hand::Delivery(_)) {
            window.reading = window.reading.saturating_sub(1);
        }
        if whole_connection {
            window.not_before = window.not_before.max(until);
        }
        window.park((until, park), work.hints);
        self.timers.insert((until, work.connection.clone()));
        if !window.is_idle() {
            Self::arm(&mut self.turns, &work.connection, window);
        }
    }

    /// Workers at once, over all connections.
    #[must_use]
    pub fn working(&self) -> usize {
        self.windows.values().map(|window| window.working).sum()
    }
}

/// What has to be held for a subject.
fn hand_of<S: Store>(
    store: &S,
    connection: &ConnectionId,
    scope: &ScopeId,
    place: &Place,
) -> Result<Hand, StoreError> {
    let (object, subject) = place;
    Ok(match subject {
        Subject::Delivery(seq) => Hand::Delivery(*seq),
        Subject::External(id) => {
            let external =
                ExternalKey { connection: connection.clone(), object: object.clone(), id: id.clone() };
            match store.entity_of(&external)? {
                Some(entity) => Hand::Entity(entity),
                None => Hand::External(external),
            }
        }
        Subject::Internal(id) => {
            Hand::Entity(EntityKey { scope: scope.clone(), object: object.clone(), id: id.clone() })
        }
    })
}

#[cfg(test)]
mod tests;
