//! What the guard counts: for each object of a connection, each side that is written and each kind, a window of what passed and who
//! waits.
//!
//! In memory; what has to outlast a restart is a value of the store for each object (the windows) and the rows of withheld writes.
//! A withheld write costs two numbers here, whatever it is about.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_core::Millis;
use tandem_core::id::{ConnectionId, EntityKey, ObjectName};
use tandem_core::link::Side;
use tandem_core::policy::Guard as Limits;

use super::super::undo::Undo;
use super::Kind;
use super::rows::{Approval, Withheld, digest};
use crate::store::Op;

/// A window is counted in so many pieces.
const PIECES: u64 = 60;

/// The side that is written, and how.
pub(super) type Gauge = (Side, Kind);

/// What is counted of one gauge.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Meter {
    /// What belongs together has one number.
    pub(super) batch: u64,
    /// Something was stopped, and a person has not ruled on all of it.
    pub(super) tripped: bool,
    /// What passed: the beginning of a piece of the window, and how many.
    passed: VecDeque<(Millis, u64)>,
    /// Who waits.
    #[serde(skip)]
    pub(super) pending: HashSet<u64>,
}

impl Meter {
    /// How many passed within the window.
    pub(super) fn count(&mut self, limits: &Limits, now: Millis) -> u64 {
        while self.passed.front().is_some_and(|(at, _)| at.saturating_add(limits.window_ms) <= now) {
            self.passed.pop_front();
        }
        self.passed.iter().map(|(_, count)| count).sum()
    }

    pub(super) fn add(&mut self, count: u64, limits: &Limits, now: Millis) {
        let piece = (limits.window_ms / PIECES).max(1);
        match self.passed.back_mut() {
            Some((at, sum)) if at.saturating_add(piece) > now => *sum = sum.saturating_add(count),
            _ => self.passed.push_back((now, count)),
        }
    }

    /// One did not pass in the end.
    fn take_back(&mut self) {
        if let Some((_, sum)) = self.passed.back_mut() {
            *sum = sum.saturating_sub(1);
        }
    }
}

/// The meters of one object of a connection.
#[derive(Debug, Default)]
pub(super) struct Meters {
    pub(super) by_gauge: BTreeMap<Gauge, Meter>,
    /// How many links there are, and when they were counted.
    pub(super) links: Option<(Millis, u64)>,
}

impl Meters {
    pub(super) fn at(&mut self, gauge: Gauge) -> &mut Meter {
        self.by_gauge.entry(gauge).or_default()
    }

    /// Whether something waits to be weighed.
    pub(super) fn gathers(&self) -> bool {
        self.by_gauge.values().any(|meter| !meter.tripped && !meter.pending.is_empty())
    }

    pub(super) fn stored(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(&self.by_gauge.iter().collect::<Vec<_>>()).ok()
    }

    pub(super) fn read(stored: Vec<(Gauge, Meter)>) -> Self {
        Self { by_gauge: stored.into_iter().collect(), links: None }
    }

    pub(super) fn put(&self, connection: &ConnectionId, object: &ObjectName) -> Option<Op> {
        Some(Op::PutValue(format!("guard/{connection}/{object}"), self.stored()?))
    }
}

/// What the guard knows of one connection.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) objects: BTreeMap<ObjectName, Meters>,
    /// Records with a row, whatever was said of it.
    pub(super) rows: HashSet<u64>,
    /// It is being weighed.
    pub(super) weighing: bool,
    /// Looks at everything that are still adding their hints.
    pub(super) looks: u64,
    /// Objects whose walk is not at its end.
    pub(super) walks: BTreeSet<ObjectName>,
}

impl Watch {
    /// Whether something waits to be weighed.
    pub(super) fn gathers(&self) -> bool {
        !self.rows.is_empty() && self.objects.values().any(Meters::gathers)
    }

    /// Whether more bulk work is still to come.
    pub(super) fn is_looking(&self) -> bool {
        self.looks > 0 || !self.walks.is_empty()
    }

    /// A row waits for a person no more. What is written down when it was the last one: the guard lets things pass again.
    pub(super) fn no_longer_waits(&mut self, row: &Withheld) -> Option<Op> {
        let meters = self.objects.get_mut(&row.entity.object)?;
        let mut opened = false;
        for side in &row.sides {
            let Some(meter) = meters.by_gauge.get_mut(&(*side, row.kind)) else { continue };
            meter.pending.remove(&digest(&row.entity));
            if meter.pending.is_empty() && meter.tripped {
                meter.tripped = false;
                meter.batch = 0;
                opened = true;
            }
        }
        if opened { meters.put(&row.connection, &row.entity.object) } else { None }
    }

    /// A row was read from the store.
    pub(super) fn recall(&mut self, row: &Withheld) {
        let digest = digest(&row.entity);
        self.rows.insert(digest);
        if row.approval == Approval::Pending {
            let meters = self.objects.entry(row.entity.object.clone()).or_default();
            for side in &row.sides {
                meters.at((*side, row.kind)).pending.insert(digest);
            }
        }
    }

    /// All rows were recalled. Where nobody waits, a crash came between a person's word and what follows from it.
    pub(super) fn recalled(&mut self) {
        for meter in self.objects.values_mut().flat_map(|meters| meters.by_gauge.values_mut()) {
            meter.tripped &= !meter.pending.is_empty();
        }
    }

    /// The record is erased.
    fn forget(&mut self, entity: &EntityKey) {
        let digest = digest(entity);
        if self.rows.remove(&digest)
            && let Some(meters) = self.objects.get_mut(&entity.object)
        {
            for meter in meters.by_gauge.values_mut() {
                meter.pending.remove(&digest);
                meter.tripped &= !meter.pending.is_empty();
            }
        }
    }
}

/// What the guard knows of all connections.
#[derive(Debug, Default)]
pub(in super::super) struct Ledger {
    pub(super) watches: HashMap<ConnectionId, Watch>,
    pub(in super::super) undo: Undo,
    /// The key of the digests of erased records, once it was looked for.
    pub(in super::super) erased_key: Option<Option<Arc<[u8]>>>,
}

impl Ledger {
    pub(super) fn watch(&mut self, connection: &ConnectionId) -> &mut Watch {
        if !self.watches.contains_key(connection) {
            self.watches.insert(connection.clone(), Watch::default());
        }
        self.watches.entry(connection.clone()).or_default()
    }

    pub(super) fn meters(&mut self, connection: &ConnectionId, object: &ObjectName) -> &mut Meters {
        self.watch(connection).objects.entry(object.clone()).or_default()
    }

    /// The record is erased.
    pub(in super::super) fn forget(&mut self, entity: &EntityKey) {
        for watch in self.watches.values_mut() {
            watch.forget(entity);
        }
        self.undo.forget(entity);
    }
}

/// Room in the window that was taken for a write; given back when it is dropped, unless the write was made.
pub(in super::super) struct Reservation {
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) connection: ConnectionId,
    pub(super) object: ObjectName,
    pub(super) gauges: Vec<Gauge>,
    pub(super) used: bool,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.used {
            return;
        }
        let mut ledger = self.ledger.lock();
        let meters = ledger.meters(&self.connection, &self.object);
        for gauge in &self.gauges {
            meters.at(*gauge).take_back();
        }
    }
}

/// A look at everything that is still adding its hints: nothing is weighed before it has ended.
pub struct Looking {
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) connection: ConnectionId,
}

impl Drop for Looking {
    fn drop(&mut self) {
        let mut ledger = self.ledger.lock();
        let watch = ledger.watch(&self.connection);
        watch.looks = watch.looks.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::{entity, row};
    use super::*;

    const LIMITS: Limits = Limits { limit: 3, share: 1, window_ms: 60_000, undo_ms: 0 };
    const DELETES: Gauge = (Side::Internal, Kind::Delete);

    fn object() -> ObjectName {
        "contact".into()
    }

    #[test]
    fn a_window_forgets_what_is_behind_it_and_what_was_not_done_after_all() {
        let mut meter = Meter::default();
        for at in [1_000, 1_500, 30_000] {
            meter.add(1, &LIMITS, at);
        }
        assert_eq!(meter.count(&LIMITS, 30_000), 3);
        assert_eq!(meter.passed.len(), 2, "what is near is one piece");
        meter.take_back();
        assert_eq!(meter.count(&LIMITS, 30_000), 2);
        assert_eq!(meter.count(&LIMITS, 61_000), 0, "the first piece is behind the window");
        meter.take_back();
        assert_eq!(meter.count(&LIMITS, 61_000), 0);
    }

    #[test]
    fn the_guard_opens_when_nobody_waits_any_more() {
        let mut watch = Watch::default();
        for id in ["a", "b"] {
            watch.recall(&row(id));
        }
        assert!(watch.gathers());
        let meter = watch.objects.get_mut(&object()).unwrap().at(DELETES);
        (meter.tripped, meter.batch) = (true, 7);
        assert!(!watch.gathers(), "what is stopped is not weighed");
        assert!(watch.no_longer_waits(&row("a")).is_none());
        let tripped = |watch: &Watch| watch.objects[&object()].by_gauge[&DELETES].tripped;
        assert!(tripped(&watch));
        let other = Withheld { sides: vec![Side::External], ..row("b") };
        assert!(watch.no_longer_waits(&other).is_none(), "another side's row is not this one's");
        let written = watch.no_longer_waits(&row("b"));
        assert!(matches!(written, Some(Op::PutValue(name, _)) if name == "guard/crm/contact"));
        assert!(!tripped(&watch));
    }

    #[test]
    fn a_crash_after_the_last_word_leaves_the_guard_open() {
        for (approval, stays) in [(Approval::Pending, true), (Approval::Approved, false)] {
            let mut watch = Watch::default();
            watch.objects.entry("contact".into()).or_default().at(DELETES).tripped = true;
            watch.recall(&Withheld { approval, ..row("a") });
            watch.recalled();
            assert_eq!(watch.objects[&object()].by_gauge[&DELETES].tripped, stays);
            assert_eq!(watch.rows.len(), 1);
        }
    }

    #[test]
    fn an_erased_record_waits_no_more() {
        let mut ledger = Ledger::default();
        let watch = ledger.watch(&"crm".into());
        watch.recall(&row("a"));
        watch.objects.get_mut(&object()).unwrap().at(DELETES).tripped = true;
        ledger.forget(&entity("b"));
        assert!(ledger.watches[&"crm".into()].objects[&object()].by_gauge[&DELETES].tripped);
        ledger.forget(&entity("a"));
        let watch = &ledger.watches[&"crm".into()];
        assert!(watch.rows.is_empty() && !watch.objects[&object()].by_gauge[&DELETES].tripped);
    }

    #[test]
    fn room_that_is_not_used_is_given_back() {
        let (connection, object) = (ConnectionId::from("crm"), ObjectName::from("contact"));
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let count = || ledger.lock().meters(&connection, &object).at(DELETES).count(&LIMITS, 1_000);
        for used in [false, true] {
            assert_eq!(count(), 0);
            ledger.lock().meters(&connection, &object).at(DELETES).add(1, &LIMITS, 1_000);
            drop(Reservation {
                ledger: ledger.clone(),
                connection: connection.clone(),
                object: object.clone(),
                gauges: vec![DELETES],
                used,
            });
            assert_eq!(count(), u64::from(used));
        }
    }

    #[test]
    fn a_look_that_is_still_adding_keeps_what_was_found_from_being_weighed() {
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        ledger.lock().watch(&"crm".into()).looks += 1;
        let looking = Looking { ledger: ledger.clone(), connection: "crm".into() };
        assert!(ledger.lock().watch(&"crm".into()).is_looking());
        drop(looking);
        assert!(!ledger.lock().watch(&"crm".into()).is_looking());
        ledger.lock().watch(&"crm".into()).walks.insert("contact".into());
        assert!(ledger.lock().watch(&"crm".into()).is_looking());
    }

    /// What the store has was written by some version: the windows of this one are read by the next.
    #[test]
    fn meters_are_read_as_they_were_written() {
        let mut meters = Meters::default();
        meters.at((Side::Internal, Kind::Rewrite)).add(5, &LIMITS, 9);
        let stored = meters.stored().unwrap();
        assert_eq!(
            String::from_utf8(stored.clone()).unwrap(),
            r#"[[["internal","rewrite"],{"batch":0,"tripped":false,"passed":[[9,5]]}]]"#
        );
        let mut read = Meters::read(serde_json::from_slice(&stored).unwrap());
        assert_eq!(read.at((Side::Internal, Kind::Rewrite)).count(&LIMITS, 10), 5);
    }
}
