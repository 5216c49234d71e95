//! The guard: deletions, and updates that no edit asked for, stop beyond a rate and a share and wait for a person's approval.
//!
//! What is counted, for each object of a connection and each side that is written: deletions that are carried over; and updates of
//! records that agreed before, when the only reason for the look is a look at all (`look`, a walk, a first load) and neither record
//! is newer than the link knows. Such an update comes from changed settings, rules or a changed version of the provider.
//!
//! Invariants:
//! - Of a bulk look nothing is written before all of it was looked at: what it would write is withheld, and weighed once no other bulk
//!   work of the connection waits. What the guard allows is let go then; otherwise not one write was made.
//! - Once it has stopped something, it stops everything of that kind until a person has ruled on all of it.
//! - A withheld write is a row of the store and nothing else: its hint is done, and it survives a restart. When it is let go, the
//!   record is read and planned anew; a record that came back, or was edited, is no longer deleted.
//! - What is deleted is written down before, so that it can be brought back for a while.
//!
//! It refuses to judge whether a write is right.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tandem_core::Millis;
use tandem_core::document;
use tandem_core::exchange::Observed;
use tandem_core::id::{ConnectionId, EntityKey, ExternalId, ObjectName};
use tandem_core::link::{Link, Side};
use tandem_core::plan::{
    self, Aim, External, ExternalWrite, Internal as InternalState, InternalWrite, agree_to_differ,
    keep_record, leave_deleted, without_external, without_internal,
};
use tandem_core::policy::Guard as Limits;

use super::record::Case;
use super::settle::End;
use super::undo::Undo;
use super::{Clock, Connection, Grip, Pipeline, PipelineError, Work};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::provider::Runtime;
use crate::store::{Class, Commit, Hint, Op, Store, StoreError, Subject, Until};

/// A window is counted in so many pieces.
const PIECES: u64 = 60;

/// Rows that are read or ruled on at once.
pub(super) const PAGE: usize = 128;

/// Delayed hints that are looked through for bulk work that waits.
const MOST_DELAYED: usize = 10_000;

/// The number of links is counted anew after this, in milliseconds.
const RECOUNT_MS: Millis = 600_000;

/// What kind of write is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The record is deleted.
    Delete,
    /// Fields are written that nobody edited.
    Rewrite,
}

impl Kind {
    /// The kind's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Rewrite => "rewrite",
        }
    }
}

/// What was said of a withheld write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Nothing yet.
    #[default]
    Waiting,
    /// It is made, if the record still asks for it.
    Approved,
    /// It is not made: the two sides stay different until one of them is edited.
    Rejected,
    /// It is not made, and the record is made again on the side that deleted it. Of a rewrite: as `Rejected`.
    Restored,
}

/// A write that waits for approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Withheld {
    /// The internal record.
    pub entity: EntityKey,
    /// The connection.
    pub connection: ConnectionId,
    /// The CRM's record.
    pub external: Option<ExternalId>,
    /// What would be done.
    pub kind: Kind,
    /// The sides that would be written.
    pub sides: Vec<Side>,
    /// What was stopped together has one number.
    pub batch: u64,
    /// Since when it waits.
    pub since: Millis,
    /// What brought it about: the hint's word.
    pub cause: String,
    /// Why it would be written, in words.
    pub why: String,
    /// What a rewrite would write.
    #[serde(default)]
    pub aims: Vec<Aim>,
    /// What was said of it.
    #[serde(default)]
    pub word: Word,
}

/// Which withheld writes, or carried out deletions, are meant. What is not said fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meant {
    /// Of this connection.
    pub connection: Option<ConnectionId>,
    /// Of this batch.
    pub batch: Option<u64>,
    /// Of this object.
    pub object: Option<ObjectName>,
    /// Of this scope.
    pub scope: Option<tandem_core::id::ScopeId>,
    /// These internal records. Empty: all.
    pub ids: Vec<tandem_core::id::InternalId>,
}

impl Meant {
    pub(super) fn fits(&self, entity: &EntityKey, connection: &ConnectionId, batch: u64) -> bool {
        self.connection.as_ref().is_none_or(|wanted| wanted == connection)
            && self.batch.is_none_or(|wanted| wanted == batch)
            && self.object.as_ref().is_none_or(|wanted| *wanted == entity.object)
            && self.scope.as_ref().is_none_or(|wanted| *wanted == entity.scope)
            && (self.ids.is_empty() || self.ids.contains(&entity.id))
    }

    /// What the names of values of a kind begin with that can be meant.
    pub(super) fn prefix(&self, kind: &str) -> String {
        match &self.connection {
            Some(connection) => format!("{kind}/{connection}/"),
            None => format!("{kind}/"),
        }
    }
}

/// What the guard counts of one object of a connection, on one side, of one kind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Meter {
    /// What belongs together has one number.
    batch: u64,
    /// Something was stopped, and a person has not ruled on all of it.
    stopped: bool,
    /// What was let go: the beginning of a piece of the window, and how many.
    let_go: VecDeque<(Millis, u64)>,
    /// Who waits.
    #[serde(skip)]
    waiting: HashSet<u64>,
}

impl Meter {
    /// How many were let go within the window.
    fn count(&mut self, limits: &Limits, now: Millis) -> u64 {
        while self.let_go.front().is_some_and(|(at, _)| at.saturating_add(limits.window_ms) <= now) {
            self.let_go.pop_front();
        }
        self.let_go.iter().map(|(_, count)| count).sum()
    }

    fn add(&mut self, count: u64, limits: &Limits, now: Millis) {
        let piece = (limits.window_ms / PIECES).max(1);
        match self.let_go.back_mut() {
            Some((at, sum)) if at.saturating_add(piece) > now => *sum = sum.saturating_add(count),
            _ => self.let_go.push_back((now, count)),
        }
    }

    /// One was not let go in the end.
    fn take_back(&mut self) {
        if let Some((_, sum)) = self.let_go.back_mut() {
            *sum = sum.saturating_sub(1);
        }
    }
}

type Gauge = (Side, Kind);

#[derive(Debug, Default)]
struct Watch {
    meters: BTreeMap<Gauge, Meter>,
    /// How many links there are, and when they were counted.
    links: Option<(Millis, u64)>,
}

/// What the guard knows of all connections.
#[derive(Debug, Default)]
pub(super) struct Book {
    watches: HashMap<(ConnectionId, ObjectName), Watch>,
    /// Records with a row, by connection.
    rows: HashMap<ConnectionId, HashSet<u64>>,
    /// Connections that are being weighed.
    weighing: HashSet<ConnectionId>,
    pub(super) undo: Undo,
}

/// Room in the window that was taken for a write; given back when it is dropped, unless the write was made.
pub(super) struct Room {
    book: Arc<Mutex<Book>>,
    place: (ConnectionId, ObjectName),
    gauges: Vec<Gauge>,
    used: bool,
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.used {
            return;
        }
        let mut book = self.book.lock();
        if let Some(watch) = book.watches.get_mut(&self.place) {
            for gauge in &self.gauges {
                if let Some(meter) = watch.meters.get_mut(gauge) {
                    meter.take_back();
                }
            }
        }
    }
}

/// The writes of a plan.
pub(super) struct Writes {
    pub(super) internal: Option<InternalWrite>,
    pub(super) external: Option<ExternalWrite>,
}

impl Writes {
    fn deletes(&self) -> Vec<Side> {
        let internal = matches!(self.internal, Some(InternalWrite::Delete { .. })).then_some(Side::Internal);
        let external = matches!(self.external, Some(ExternalWrite::Remove { .. })).then_some(Side::External);
        internal.into_iter().chain(external).collect()
    }

    /// Where the first of them comes from, and the record as it will be.
    fn change(&self) -> (&'static str, Option<Value>) {
        match (&self.internal, &self.external) {
            (Some(InternalWrite::Create { fields } | InternalWrite::Update { fields, .. }), _) => {
                ("external", Some(document::value(fields)))
            }
            (Some(InternalWrite::Delete { .. }), _) => ("external", None),
            (None, Some(ExternalWrite::Create { fields } | ExternalWrite::Update { fields, .. })) => {
                ("internal", Some(document::value(fields)))
            }
            (None, _) => ("internal", None),
        }
    }

    fn aims(&self) -> Vec<Aim> {
        plan::aims(self.internal.as_ref(), self.external.as_ref())
    }
}

/// What the guard says of a plan's writes.
#[derive(Debug)]
pub(super) enum Ruling {
    /// They are made.
    Go,
    /// The link was changed: plan again.
    Replan,
    /// They wait; the work is done.
    Wait,
    /// A rule leaves the record out, or holds it: the work ends so.
    End(Box<End>),
}

/// A record's name in a set or in a value's name.
pub(super) fn digest(entity: &EntityKey) -> u64 {
    let mut hash = Sha256::new();
    for part in [entity.scope.as_str(), entity.object.as_str(), entity.id.as_str()] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Where a withheld write is kept.
fn row_name(entity: &EntityKey, connection: &ConnectionId) -> String {
    format!("withheld/{connection}/{:016x}", digest(entity))
}

fn meters_name(connection: &ConnectionId, object: &ObjectName) -> String {
    format!("guard/{connection}/{object}")
}

/// A stored row. One that cannot be read is named, and reads as if it were not there.
pub(super) fn parse<T: serde::de::DeserializeOwned>(name: &str, stored: &[u8]) -> Option<T> {
    serde_json::from_slice(stored)
        .inspect_err(|error| tracing::error!(name, %error, "a row of the guard cannot be read"))
        .ok()
}

/// Whether nothing but a look at everything is the reason for a piece of work.
pub(super) fn is_bulk(work: &Work) -> bool {
    let bulk = |hint: &Hint| {
        hint.class >= Class::Reconcile && matches!(hint.cause.as_str(), "look" | "walk" | "first load")
    };
    work.hints.iter().all(bulk)
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Makes what the guard wrote down of a connection known, once.
    pub(super) fn remember_guard(&self, connection: &Connection) -> Result<(), StoreError> {
        if self.book.lock().rows.contains_key(&connection.id) {
            return Ok(());
        }
        let mut watches: HashMap<(ConnectionId, ObjectName), Watch> = HashMap::new();
        let prefix = format!("guard/{}/", connection.id);
        for (name, stored) in self.rooms.store.values_under(&prefix, None, usize::MAX)? {
            let Some(meters) = parse::<Vec<(Gauge, Meter)>>(&name, &stored) else { continue };
            let object = ObjectName::from(name.get(prefix.len()..).unwrap_or_default());
            let watch = Watch { meters: meters.into_iter().collect(), links: None };
            watches.insert((connection.id.clone(), object), watch);
        }
        let mut rows = HashSet::new();
        let meant = Meant { connection: Some(connection.id.clone()), ..Meant::default() };
        self.each_row(&meant, |row| {
            let digest = digest(&row.entity);
            rows.insert(digest);
            if row.word == Word::Waiting {
                let watch = watches.entry((connection.id.clone(), row.entity.object.clone())).or_default();
                for side in &row.sides {
                    watch.meters.entry((*side, row.kind)).or_default().waiting.insert(digest);
                }
            }
        })?;
        let mut book = self.book.lock();
        book.watches.extend(watches);
        book.rows.insert(connection.id.clone(), rows);
        Ok(())
    }

    fn each_row(&self, meant: &Meant, mut visit: impl FnMut(Withheld)) -> Result<(), StoreError> {
        let prefix = meant.prefix("withheld");
        let mut after: Option<String> = None;
        loop {
            let page = self.rooms.store.values_under(&prefix, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let rows = page.iter().filter_map(|(name, stored)| parse::<Withheld>(name, stored));
            for row in rows.filter(|row| meant.fits(&row.entity, &row.connection, row.batch)) {
                visit(row);
            }
        }
    }

    /// Withheld writes, in no particular order.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn withheld(&self, meant: &Meant, limit: usize) -> Result<Vec<Withheld>, StoreError> {
        let mut found = Vec::new();
        self.each_row(meant, |row| {
            if found.len() < limit && row.word == Word::Waiting {
                found.push(row);
            }
        })?;
        Ok(found)
    }

    /// The names of withheld writes.
    pub(super) fn withheld_names(&self, meant: &Meant) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        self.each_row(meant, |row| names.push(row_name(&row.entity, &row.connection)))?;
        Ok(names)
    }

    /// The record is erased: nothing of it waits any more.
    pub(super) fn forget_in_memory(&self, entity: &EntityKey) {
        let digest = digest(entity);
        let mut book = self.book.lock();
        for rows in book.rows.values_mut() {
            rows.remove(&digest);
        }
        for ((_, object), watch) in &mut book.watches {
            if *object == entity.object {
                for meter in watch.meters.values_mut() {
                    meter.waiting.remove(&digest);
                    meter.stopped &= !meter.waiting.is_empty();
                }
            }
        }
        book.undo.forget(entity);
    }

    /// How many writes of a connection wait for a person, by object, side and kind.
    #[must_use]
    pub fn stopped(&self, connection: &ConnectionId) -> Vec<(ObjectName, Side, Kind, u64)> {
        let book = self.book.lock();
        let mut all = Vec::new();
        for ((of, object), watch) in &book.watches {
            let stopped = watch.meters.iter().filter(|(_, meter)| meter.stopped && !meter.waiting.is_empty());
            if of == connection {
                all.extend(
                    stopped.map(|((side, kind), meter)| {
                        (object.clone(), *side, *kind, meter.waiting.len() as u64)
                    }),
                );
            }
        }
        all.sort();
        all
    }

    /// Takes up the withheld write of a record: what the CRM has now is what counts.
    pub(super) fn take_up_withheld(&self, case: &mut Case<'_>) -> Result<(), StoreError> {
        let entity = &case.link.entity;
        if !self.book.lock().rows.get(&case.connection.id).is_some_and(|rows| rows.contains(&digest(entity)))
        {
            return Ok(());
        }
        let name = row_name(entity, &case.connection.id);
        let stored = self.rooms.store.value(&name)?;
        case.withheld = stored.and_then(|stored| parse::<Withheld>(&name, &stored));
        case.withheld = case.withheld.take().filter(|row| row.entity == case.link.entity);
        if case.withheld.is_some() && matches!(case.external, External::Unseen | External::Partial { .. }) {
            case.external = External::Touched;
        }
        Ok(())
    }

    /// Whether a plan's writes are made. What is withheld of them is taken out.
    pub(super) async fn guard(
        &self,
        case: &mut Case<'_>,
        writes: &mut Writes,
        internal: &InternalState,
        reason: &str,
    ) -> Result<Ruling, PipelineError> {
        let deletes = writes.deletes();
        let aims = writes.aims();
        let kind = if !deletes.is_empty() {
            Some(Kind::Delete)
        } else if !aims.is_empty() && self.is_rewrite(case, internal) {
            Some(Kind::Rewrite)
        } else {
            None
        };
        if let Some(row) = case.withheld.take() {
            let fits =
                kind == Some(row.kind) || (row.kind == Kind::Rewrite && kind.is_none() && !aims.is_empty());
            match row.word {
                _ if !fits => {
                    // It came to nothing, or it was let go and has done its work.
                    if case.allowed {
                        self.rooms.metrics.guarded(&case.provider, row.kind.name(), "let-go");
                    }
                    self.drop_row(case, &row);
                }
                Word::Approved => {
                    case.allowed = true;
                    case.withheld = Some(row);
                }
                Word::Rejected | Word::Restored => {
                    self.reject(case, &row, internal, &aims);
                    return Ok(Ruling::Replan);
                }
                Word::Waiting if kind.is_some() => {
                    let row = Withheld { aims, why: reason.to_owned(), ..row };
                    case.commit.push(put_row(&row));
                    case.withheld = Some(row);
                    return Ok(Ruling::Wait);
                }
                Word::Waiting => {
                    // An edit of the record: what is withheld stays so, what was edited flows.
                    let held = |side: Side| -> BTreeSet<String> {
                        let same = row.aims.iter().filter(|aim| aim.0 == side && aims.contains(aim));
                        same.map(|(_, pointer, _)| pointer.clone()).collect()
                    };
                    let (here, there) = (held(Side::Internal), held(Side::External));
                    writes.internal =
                        writes.internal.take().and_then(|write| without_internal(write, &here, internal));
                    writes.external = writes
                        .external
                        .take()
                        .and_then(|write| without_external(write, &there, &case.link, &case.external));
                    if here.is_empty() && there.is_empty() {
                        self.drop_row(case, &row);
                    } else {
                        case.withheld = Some(row);
                    }
                    let is_left = writes.internal.is_some() || writes.external.is_some();
                    return Ok(if is_left { Ruling::Go } else { Ruling::Wait });
                }
            }
        }
        let Some(kind) = kind else { return Ok(Ruling::Go) };
        // What a rule leaves out would not be written, so it is not counted.
        let (origin, after) = writes.change();
        if let Some(end) = self.judge(case, origin, after.as_ref()).await? {
            return Ok(Ruling::End(Box::new(end)));
        }
        let ruling = if case.allowed || case.object.policy.guard.is_off() {
            Ruling::Go
        } else {
            let sides = match kind {
                Kind::Delete => deletes.clone(),
                Kind::Rewrite => aims.iter().map(|aim| aim.0).collect::<BTreeSet<_>>().into_iter().collect(),
            };
            self.measure(case, kind, sides, aims, reason)?
        };
        if matches!(ruling, Ruling::Go) && kind == Kind::Delete {
            let side = deletes.first().copied().unwrap_or(Side::External);
            self.keep(case, side, internal, reason).await?;
        }
        Ok(ruling)
    }

    /// Whether an update has no edit for a reason.
    fn is_rewrite(&self, case: &Case<'_>, internal: &InternalState) -> bool {
        let Some(stored) = case.stored.as_ref().filter(|stored| !stored.base.is_empty()) else {
            return false;
        };
        if !case.bulk || case.allowed || !stored.decided.is_empty() {
            return false;
        }
        // A person asked for a look: whatever it finds is shown first. A walk finds what nobody was told of.
        if case.trail.cause == "look" {
            return true;
        }
        let version = match internal {
            InternalState::Absent => None,
            InternalState::Present { version, .. } | InternalState::Deleted { version, .. } => Some(*version),
        };
        let is_edited = version > stored.internal_version
            || case.link.external_stamp > stored.external_stamp
            || case.link.external_version != stored.external_version;
        !is_edited
    }

    /// Lets a write go, or withholds it.
    fn measure(
        &self,
        case: &mut Case<'_>,
        kind: Kind,
        sides: Vec<Side>,
        aims: Vec<Aim>,
        reason: &str,
    ) -> Result<Ruling, PipelineError> {
        let now = self.rooms.clock.now();
        let limits = case.object.policy.guard;
        let gathers = case.bulk && self.awaits_bulk(&case.connection.id, &case.seqs)?;
        let place = (case.connection.id.clone(), case.link.entity.object.clone());
        let gauges: Vec<Gauge> = sides.iter().map(|side| (*side, kind)).collect();
        let links = self.links_of(&place, &gauges, 1, &limits)?;
        let digest = digest(&case.link.entity);
        let mut guard = self.book.lock();
        let book = &mut *guard;
        let watch = book.watches.entry(place.clone()).or_default();
        let mut allowed = !gathers;
        for gauge in &gauges {
            let meter = watch.meters.entry(*gauge).or_default();
            let count = meter.count(&limits, now);
            if meter.batch == 0 || (count == 0 && meter.waiting.is_empty()) {
                meter.batch = self.rooms.store.next_seq();
            }
            allowed &= !meter.stopped && limits.allows(count.saturating_add(1), links);
        }
        let batch = gauges.first().and_then(|gauge| watch.meters.get(gauge)).map_or(0, |meter| meter.batch);
        case.batch = batch;
        if allowed {
            for gauge in &gauges {
                watch.meters.entry(*gauge).or_default().add(1, &limits, now);
            }
            drop(guard);
            case.room = Some(Room { book: self.book.clone(), place, gauges, used: false });
            // Once for all rounds of this work.
            case.allowed = true;
            return Ok(Ruling::Go);
        }
        for gauge in &gauges {
            let meter = watch.meters.entry(*gauge).or_default();
            meter.waiting.insert(digest);
            if !gathers && !meter.stopped {
                meter.stopped = true;
                tracing::error!(
                    connection = %place.0, object = %place.1, kind = kind.name(), to = gauge.0.name(), batch,
                    "the guard stopped writes; `tandem deletes list` shows them"
                );
            }
        }
        book.rows.entry(place.0.clone()).or_default().insert(digest);
        let meters = put_meters(&place, watch);
        drop(guard);
        case.commit.ops.extend(meters);
        let row = Withheld {
            entity: case.link.entity.clone(),
            connection: case.connection.id.clone(),
            external: case.link.external.clone(),
            kind,
            sides,
            batch,
            since: now,
            cause: case.trail.cause.clone(),
            why: reason.to_owned(),
            aims,
            word: Word::Waiting,
        };
        case.commit.push(put_row(&row));
        case.withheld = Some(row);
        self.rooms.metrics.guarded(&case.provider, kind.name(), "withheld");
        let what = match kind {
            Kind::Delete => "a deletion waits for approval",
            Kind::Rewrite => "an update that no edit asked for waits for approval",
        };
        case.trail.note(&case.link, None, "withheld", &format!("{what}: {reason}"), now);
        Ok(Ruling::Wait)
    }

    /// A row that no longer says what the record asks for.
    fn drop_row(&self, case: &mut Case<'_>, row: &Withheld) {
        case.commit.push(Op::DropValue(row_name(&row.entity, &row.connection)));
        let commit = self.settle_row(row);
        case.commit.ops.extend(commit);
    }

    /// Nobody waits for a row any more. When it was the last one, the guard lets things go again.
    fn settle_row(&self, row: &Withheld) -> Option<Op> {
        let digest = digest(&row.entity);
        let mut book = self.book.lock();
        if let Some(rows) = book.rows.get_mut(&row.connection) {
            rows.remove(&digest);
        }
        no_longer_waits(&mut book, row)
    }

    /// What the end of a case means for the guard: the room that was taken is used, an approved row has done its work.
    pub(super) fn conclude_guard(&self, case: &mut Case<'_>) {
        if let Some(row) = case.withheld.take_if(|row| row.word == Word::Approved) {
            self.rooms.metrics.guarded(&case.provider, row.kind.name(), "let-go");
            self.drop_row(case, &row);
        }
        if let Some(mut room) = case.room.take() {
            room.used = true;
            for (_, kind) in &room.gauges {
                self.rooms.metrics.guarded(&case.provider, kind.name(), "passed");
            }
            let meters = {
                let book = self.book.lock();
                book.watches.get(&room.place).and_then(|watch| put_meters(&room.place, watch))
            };
            case.commit.ops.extend(meters);
        }
        self.kept(case);
    }

    /// A withheld write was refused: what that means for the link.
    fn reject(&self, case: &mut Case<'_>, row: &Withheld, internal: &InternalState, aims: &[Aim]) {
        let now = self.rooms.clock.now();
        let deleted = match row.sides.first() {
            Some(Side::Internal) => Side::External,
            _ => Side::Internal,
        };
        let why = match (row.kind, row.word) {
            (Kind::Rewrite, _) => {
                let fields = aims.iter().map(|(_, pointer, _)| pointer.clone()).collect();
                case.link = agree_to_differ(&case.link, &fields, internal, &case.external, now);
                "the update was rejected: both sides stay as they are"
            }
            (Kind::Delete, Word::Restored) => {
                case.link = keep_record(&case.link, deleted, now);
                "the deletion was rejected: the record is made again where it was deleted"
            }
            (Kind::Delete, _) => {
                case.link = leave_deleted(&case.link, deleted, now);
                "the deletion was rejected: the record is left alone until it changes"
            }
        };
        self.rooms.metrics.guarded(&case.provider, row.kind.name(), "rejected");
        case.trail.note(&case.link, None, "rejected", why, now);
        self.drop_row(case, row);
    }

    /// How many links there are, where that can make a difference.
    fn links_of(
        &self,
        place: &(ConnectionId, ObjectName),
        gauges: &[Gauge],
        more: u64,
        limits: &Limits,
    ) -> Result<u64, StoreError> {
        let now = self.rooms.clock.now();
        {
            let mut book = self.book.lock();
            let watch = book.watches.entry(place.clone()).or_default();
            let few = gauges.iter().all(|gauge| {
                let meter = watch.meters.entry(*gauge).or_default();
                meter.count(limits, now).saturating_add(more) <= limits.limit
            });
            if few {
                return Ok(0);
            }
            if let Some((at, links)) = watch.links
                && now < at.saturating_add(RECOUNT_MS)
            {
                return Ok(links);
            }
        }
        let links = self.rooms.store.count_links(&place.0, &place.1)?;
        self.book.lock().watches.entry(place.clone()).or_default().links = Some((now, links));
        Ok(links)
    }

    /// Whether other bulk work of a connection is not done.
    fn awaits_bulk(&self, connection: &ConnectionId, own: &[u64]) -> Result<bool, StoreError> {
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

    /// Weighs what was withheld of the bulk work of a connection, once all of it was looked at: lets it go, or stops it.
    ///
    /// # Errors
    /// The store does not take it.
    pub async fn weigh(&self, connection: &Connection) -> Result<(), PipelineError> {
        if !self.is_gathering(&connection.id) || self.awaits_bulk(&connection.id, &[])? {
            return Ok(());
        }
        if !self.book.lock().weighing.insert(connection.id.clone()) {
            return Ok(());
        }
        let done = self.weigh_all(connection).await;
        self.book.lock().weighing.remove(&connection.id);
        done
    }

    fn is_gathering(&self, connection: &ConnectionId) -> bool {
        let book = self.book.lock();
        if book.rows.get(connection).is_none_or(HashSet::is_empty) {
            return false;
        }
        let own = book.watches.iter().filter(|((of, _), _)| of == connection);
        own.flat_map(|(_, watch)| watch.meters.values())
            .any(|meter| !meter.stopped && !meter.waiting.is_empty())
    }

    async fn weigh_all(&self, connection: &Connection) -> Result<(), PipelineError> {
        for (object, known) in &connection.objects {
            let limits = known.policy.guard;
            let place = (connection.id.clone(), object.clone());
            let gauges: Vec<(Gauge, u64)> = {
                let book = self.book.lock();
                let meters = book.watches.get(&place).map(|watch| watch.meters.iter());
                let waits = meters.into_iter().flatten().filter(|(_, meter)| !meter.stopped);
                let waits = waits.map(|(gauge, meter)| (*gauge, meter.waiting.len() as u64));
                waits.filter(|(_, count)| *count > 0).collect()
            };
            for (gauge, waiting) in gauges {
                let links = self.links_of(&place, &[gauge], waiting, &limits)?;
                self.weigh_one(&place, gauge, waiting, links, &limits);
            }
            self.let_go(&place, &limits).await?;
        }
        Ok(())
    }

    fn weigh_one(
        &self,
        place: &(ConnectionId, ObjectName),
        gauge: Gauge,
        waiting: u64,
        links: u64,
        limits: &Limits,
    ) {
        let now = self.rooms.clock.now();
        let mut book = self.book.lock();
        let Some(meter) = book.watches.get_mut(place).and_then(|watch| watch.meters.get_mut(&gauge)) else {
            return;
        };
        if !limits.allows(meter.count(limits, now).saturating_add(waiting), links) {
            meter.stopped = true;
            tracing::error!(
                connection = %place.0, object = %place.1, kind = gauge.1.name(), to = gauge.0.name(), waiting, links,
                batch = meter.batch, "the guard stopped writes before the first one; `tandem deletes list` shows them"
            );
        }
    }

    /// Lets go of what waits and is not stopped.
    async fn let_go(&self, place: &(ConnectionId, ObjectName), limits: &Limits) -> Result<(), PipelineError> {
        let meant =
            Meant { connection: Some(place.0.clone()), object: Some(place.1.clone()), ..Meant::default() };
        let mut loose = Vec::new();
        self.each_row(&meant, |row| {
            let book = self.book.lock();
            let watch = book.watches.get(place);
            let is_stopped = |side: &Side| {
                let meter = watch.and_then(|watch| watch.meters.get(&(*side, row.kind)));
                meter.is_some_and(|meter| meter.stopped)
            };
            if row.word == Word::Waiting && !row.sides.iter().any(is_stopped) {
                loose.push(row.entity.clone());
            }
        })?;
        for page in loose.chunks(PAGE) {
            let now = self.rooms.clock.now();
            let ruled =
                self.rule_on_rows(page, &place.0, Word::Approved, "released", Class::Reconcile).await?;
            let mut book = self.book.lock();
            if let Some(watch) = book.watches.get_mut(place) {
                for row in &ruled {
                    for side in &row.sides {
                        watch.meters.entry((*side, row.kind)).or_default().add(1, limits, now);
                    }
                }
            }
        }
        // What is stopped, or was counted, outlasts a restart.
        let mut commit = Commit::new();
        commit.ops.extend(self.book.lock().watches.get(place).and_then(|watch| put_meters(place, watch)));
        self.rooms.store.commit(commit, Until::Applied).await?;
        Ok(())
    }

    /// A person's word about withheld writes. Answers how many it was about.
    ///
    /// # Errors
    /// The store does not take it.
    pub async fn rule_on_withheld(&self, meant: &Meant, word: Word) -> Result<u64, StoreError> {
        let mut found: BTreeMap<ConnectionId, Vec<EntityKey>> = BTreeMap::new();
        self.each_row(meant, |row| {
            if row.word == Word::Waiting {
                found.entry(row.connection).or_default().push(row.entity);
            }
        })?;
        let cause = match word {
            Word::Approved => "approved",
            Word::Rejected | Word::Restored | Word::Waiting => "rejected",
        };
        let class = if meant.ids.is_empty() { Class::Retry } else { Class::Interactive };
        let mut count = 0;
        for (connection, entities) in found {
            for page in entities.chunks(PAGE) {
                count += self.rule_on_rows(page, &connection, word, cause, class).await?.len() as u64;
            }
        }
        Ok(count)
    }

    /// Writes a word into rows, each in nobody's hand but this one, and has their records looked at. Answers the rows.
    async fn rule_on_rows(
        &self,
        entities: &[EntityKey],
        connection: &ConnectionId,
        word: Word,
        cause: &str,
        class: Class,
    ) -> Result<Vec<Withheld>, StoreError> {
        let mut grips: Vec<Grip<'_>> = Vec::with_capacity(entities.len());
        let (mut rows, mut hints, mut commit) = (Vec::new(), Vec::new(), Commit::new());
        for entity in entities {
            // Whoever works on it now may find that it needs no word any more.
            let Some(grip) = self.hold_entity(entity).await else { continue };
            grips.push(grip);
            let name = row_name(entity, connection);
            let stored = self.rooms.store.value(&name)?.and_then(|stored| parse::<Withheld>(&name, &stored));
            let Some(row) = stored.filter(|row| row.word == Word::Waiting && row.entity == *entity) else {
                continue;
            };
            let link = self.rooms.store.link(entity, connection)?;
            let hint = self.hint_about(entity, connection, link.as_ref(), cause, class);
            let row = Withheld { word, ..row };
            commit.push(put_row(&row)).push(Op::AddHint(hint.clone()));
            hints.push(hint);
            rows.push(row);
        }
        if rows.is_empty() {
            return Ok(rows);
        }
        self.rooms.store.commit(commit, Until::Durable).await?;
        let mut more = Commit::new();
        {
            let mut book = self.book.lock();
            for row in &rows {
                more.ops.extend(no_longer_waits(&mut book, row));
                book.rows.entry(connection.clone()).or_default().insert(digest(&row.entity));
            }
        }
        self.rooms.store.commit(more, Until::Applied).await?;
        drop(grips);
        self.arrive(hints);
        Ok(rows)
    }

    /// "Look at this record, at both sides."
    pub(super) fn hint_about(
        &self,
        entity: &EntityKey,
        connection: &ConnectionId,
        link: Option<&Link>,
        cause: &str,
        class: Class,
    ) -> Hint {
        let external = link.and_then(|link| link.external.as_ref());
        Hint {
            seq: self.rooms.store.next_seq(),
            connection: connection.clone(),
            object: entity.object.clone(),
            subject: Subject::Internal(entity.id.clone()),
            class,
            noticed_at: self.rooms.clock.now(),
            due: 0,
            attempts: 0,
            cause: cause.into(),
            observed: external.map(|id| Observed::touched(entity.object.as_str(), id.as_str())),
        }
    }
}

/// A row no longer waits. What is written down when it was the last one: the guard lets things go again.
fn no_longer_waits(book: &mut Book, row: &Withheld) -> Option<Op> {
    let place = (row.connection.clone(), row.entity.object.clone());
    let watch = book.watches.get_mut(&place)?;
    let mut opened = false;
    for side in &row.sides {
        let Some(meter) = watch.meters.get_mut(&(*side, row.kind)) else { continue };
        meter.waiting.remove(&digest(&row.entity));
        if meter.waiting.is_empty() && meter.stopped {
            meter.stopped = false;
            meter.batch = 0;
            opened = true;
        }
    }
    if opened { put_meters(&place, watch) } else { None }
}

fn put_row(row: &Withheld) -> Op {
    let name = row_name(&row.entity, &row.connection);
    Op::PutValue(name, serde_json::to_vec(row).unwrap_or_default())
}

fn put_meters(place: &(ConnectionId, ObjectName), watch: &Watch) -> Option<Op> {
    let meters: Vec<(&Gauge, &Meter)> = watch.meters.iter().collect();
    let stored = serde_json::to_vec(&meters).ok()?;
    Some(Op::PutValue(meters_name(&place.0, &place.1), stored))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { limit: 3, share: 1, window_ms: 60_000, undo_ms: 0 };

    fn entity(id: &str) -> EntityKey {
        EntityKey { scope: "acme".into(), object: "contact".into(), id: id.into() }
    }

    fn row(id: &str) -> Withheld {
        Withheld {
            entity: entity(id),
            connection: "crm".into(),
            external: None,
            kind: Kind::Delete,
            sides: vec![Side::Internal],
            batch: 7,
            since: 1,
            cause: "webhook".into(),
            why: "deleted in the CRM".into(),
            aims: Vec::new(),
            word: Word::Waiting,
        }
    }

    #[test]
    fn a_window_forgets_what_is_behind_it_and_what_was_not_done_after_all() {
        let mut meter = Meter::default();
        for at in [1_000, 1_500, 30_000] {
            meter.add(1, &LIMITS, at);
        }
        assert_eq!(meter.count(&LIMITS, 30_000), 3);
        assert_eq!(meter.let_go.len(), 2, "what is near is one piece");
        meter.take_back();
        assert_eq!(meter.count(&LIMITS, 30_000), 2);
        assert_eq!(meter.count(&LIMITS, 61_000), 0, "the first piece is behind the window");
        meter.take_back();
        assert_eq!(meter.count(&LIMITS, 61_000), 0);
    }

    #[test]
    fn the_guard_opens_when_nobody_waits_any_more() {
        let place = (ConnectionId::from("crm"), ObjectName::from("contact"));
        let mut book = Book::default();
        let watch = book.watches.entry(place.clone()).or_default();
        let meter = watch.meters.entry((Side::Internal, Kind::Delete)).or_default();
        meter.stopped = true;
        meter.batch = 7;
        meter.waiting = [digest(&entity("a")), digest(&entity("b"))].into();
        assert!(no_longer_waits(&mut book, &row("a")).is_none());
        let stopped = |book: &Book| book.watches[&place].meters[&(Side::Internal, Kind::Delete)].stopped;
        assert!(stopped(&book));
        let other = Withheld { sides: vec![Side::External], ..row("b") };
        assert!(no_longer_waits(&mut book, &other).is_none(), "another side's row is not this one's");
        let written = no_longer_waits(&mut book, &row("b"));
        assert!(matches!(written, Some(Op::PutValue(name, _)) if name == "guard/crm/contact"));
        assert!(!stopped(&book));
    }

    #[test]
    fn room_that_is_not_used_is_given_back() {
        let place = (ConnectionId::from("crm"), ObjectName::from("contact"));
        let gauge = (Side::External, Kind::Delete);
        let book = Arc::new(Mutex::new(Book::default()));
        let count = || {
            let mut book = book.lock();
            let watch = book.watches.entry(place.clone()).or_default();
            watch.meters.entry(gauge).or_default().count(&LIMITS, 1_000)
        };
        for used in [false, true] {
            count();
            book.lock()
                .watches
                .get_mut(&place)
                .unwrap()
                .meters
                .get_mut(&gauge)
                .unwrap()
                .add(1, &LIMITS, 1_000);
            drop(Room { book: book.clone(), place: place.clone(), gauges: vec![gauge], used });
            assert_eq!(count(), u64::from(used));
        }
    }

    #[test]
    fn what_is_meant_is_what_fits_all_that_was_said() {
        let (entity, connection) = (entity("a"), ConnectionId::from("crm"));
        let all = Meant::default();
        assert!(all.fits(&entity, &connection, 7));
        assert_eq!((all.prefix("withheld"), all.ids.len()), ("withheld/".to_owned(), 0));
        let exact = Meant {
            connection: Some(connection.clone()),
            batch: Some(7),
            object: Some("contact".into()),
            scope: Some("acme".into()),
            ids: vec!["b".into(), "a".into()],
        };
        assert!(exact.fits(&entity, &connection, 7));
        assert_eq!(exact.prefix("kept"), "kept/crm/");
        for other in [
            Meant { connection: Some("other".into()), ..exact.clone() },
            Meant { batch: Some(8), ..exact.clone() },
            Meant { object: Some("company".into()), ..exact.clone() },
            Meant { scope: Some("globex".into()), ..exact.clone() },
            Meant { ids: vec!["b".into()], ..exact.clone() },
        ] {
            assert!(!other.fits(&entity, &connection, 7), "{other:?}");
        }
    }

    /// What the store has was written by some version: rows of this one are read by the next.
    #[test]
    fn rows_and_meters_are_read_as_they_were_written() {
        let stored = r#"{"entity":{"scope":"acme","object":"contact","id":"a"},"connection":"crm","external":null,
            "kind":"delete","sides":["internal"],"batch":7,"since":1,"cause":"webhook","why":"deleted in the CRM"}"#;
        assert_eq!(parse::<Withheld>("row", stored.as_bytes()), Some(row("a")));
        let aimed = Withheld {
            kind: Kind::Rewrite,
            aims: vec![
                (Side::External, "/city".into(), None),
                (Side::Internal, "/phone".into(), Some(1.into())),
            ],
            word: Word::Restored,
            ..row("a")
        };
        let Op::PutValue(name, stored) = put_row(&aimed) else { panic!() };
        assert_eq!(parse::<Withheld>(&name, &stored), Some(aimed));
        let mut watch = Watch::default();
        watch.meters.entry((Side::Internal, Kind::Rewrite)).or_default().add(5, &LIMITS, 9);
        let Some(Op::PutValue(name, stored)) = put_meters(&("crm".into(), "contact".into()), &watch) else {
            panic!()
        };
        let read = parse::<Vec<(Gauge, Meter)>>(&name, &stored).unwrap();
        assert_eq!(
            (read[0].0, &read[0].1.let_go),
            ((Side::Internal, Kind::Rewrite), &VecDeque::from([(9, 5)]))
        );
        assert_eq!(parse::<Withheld>("row", b"{}"), None);
    }
}
