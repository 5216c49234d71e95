//! Undoing deletions: what was deleted is written down before, and can be brought back for a while.
//!
//! Undoing makes System A's record again, from which the normal way makes the CRM's again. What comes back is what Tandem knew: of a
//! record that was deleted in System A by itself, the whole of it; of one that was deleted there by others, the mapped fields. What
//! the CRM had beside the mapped fields, its id and what was attached to it, does not come back.
//!
//! What is kept is bounded in time (`undo_for`) and in bytes for each connection; the oldest goes first.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_core::Millis;
use tandem_core::document;
use tandem_core::id::{ConnectionId, EntityKey, ExternalId};
use tandem_core::link::{Fields, Life, Side};
use tandem_core::plan::{External, Internal as InternalState};

use super::guard::{PAGE, Selection, digest, parse};
use super::record::Case;
use super::{Clock, Pipeline, PipelineError};
use crate::delivery::Deliver;
use crate::internal::{Expected, Internal, Outcome, Write};
use crate::provider::Runtime;
use crate::store::{Commit, Op, Store, StoreError, Until};

/// Bytes of deleted records that are kept for each connection.
pub const KEPT_BYTES: u64 = 8 << 20;

/// How long records are kept whose connection or object is not known any more: the longest that can be configured.
const LONGEST_MS: Millis = 90 * 86_400_000;

/// A deletion that was carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The internal record.
    pub entity: EntityKey,
    /// The connection over which it was carried.
    pub connection: ConnectionId,
    /// The CRM's record.
    pub external: Option<ExternalId>,
    /// The side that was written; the other one had deleted it.
    pub side: Side,
    /// What was deleted together has one number.
    pub batch: u64,
    /// When.
    pub at: Millis,
    /// Why, in words.
    pub why: String,
    /// System A's record as far as it was known.
    pub document: Value,
}

/// What is known of kept records without looking.
#[derive(Debug, Default)]
pub(super) struct Undo {
    /// Bytes by connection, once they were counted.
    bytes: HashMap<ConnectionId, u64>,
    /// Deletions that were written down and are not done yet: a second try keeps the name.
    begun: HashMap<(ConnectionId, EntityKey), Millis>,
}

impl Undo {
    /// The record is erased.
    pub(super) fn forget(&mut self, entity: &EntityKey) {
        self.begun.retain(|(_, begun), _| begun != entity);
        self.bytes.clear();
    }
}

/// How undoing ended for one record that did not come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotUndone {
    /// The record.
    pub entity: EntityKey,
    /// Why, and the way out.
    pub why: String,
}

fn kept_name(kept: &Kept) -> String {
    format!("kept/{}/{:016x}/{:016x}", kept.connection, kept.at, digest(&kept.entity))
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Writes down what is about to be deleted. It is on disk when this returns.
    pub(super) async fn keep(
        &self,
        case: &mut Case<'_>,
        side: Side,
        internal: &InternalState,
        reason: &str,
    ) -> Result<(), PipelineError> {
        if case.object.policy.guard.undo_ms == 0 {
            return Ok(());
        }
        let fields = match internal {
            InternalState::Present { fields, .. } => fields.clone(),
            InternalState::Absent | InternalState::Deleted { .. } => self.last_known(case)?,
        };
        if fields.is_empty() {
            return Ok(());
        }
        let connection = case.connection.id.clone();
        let entity = case.link.entity.clone();
        let now = self.rooms.clock.now();
        let begun = (connection.clone(), entity.clone());
        let at = *self.ledger.lock().undo.begun.entry(begun).or_insert(now);
        let kept = Kept {
            entity,
            connection,
            external: case.link.external.clone(),
            side,
            batch: case.withheld.as_ref().map_or(case.batch, |row| row.batch),
            at,
            why: reason.to_owned(),
            document: document::value(&fields),
        };
        let Ok(stored) = serde_json::to_vec(&kept) else { return Ok(()) };
        let mut commit = Commit::new();
        self.make_room(&kept, stored.len() as u64, &mut commit)?;
        commit.push(Op::PutValue(kept_name(&kept), stored));
        self.rooms.store.commit(commit, Until::Durable).await?;
        Ok(())
    }

    /// The deletion of a case is done, or was not made after all.
    pub(super) fn kept(&self, case: &Case<'_>) {
        let mut ledger = self.ledger.lock();
        if !ledger.undo.begun.is_empty() {
            ledger.undo.begun.remove(&(case.connection.id.clone(), case.link.entity.clone()));
        }
    }

    /// System A's record as all links of the entity knew it, and what was seen of the CRM's.
    fn last_known(&self, case: &Case<'_>) -> Result<Fields, StoreError> {
        let mut known = Fields::new();
        let mut learn = |field: &String, value: Option<&Value>| {
            if let Some(value) = value.filter(|value| !value.is_null()) {
                known.entry(field.clone()).or_insert_with(|| value.clone());
            }
        };
        let mut links = self.rooms.store.links(&case.link.entity)?;
        links.push(case.link.clone());
        for link in &links {
            for (field, pair) in link.base.iter() {
                learn(field, pair.internal.as_ref());
            }
        }
        if let External::Whole { fields, .. } = &case.external {
            for (field, value) in fields {
                learn(field, Some(value));
            }
        }
        Ok(known)
    }

    /// Drops the oldest so that there is room for one more.
    fn make_room(&self, kept: &Kept, size: u64, commit: &mut Commit) -> Result<(), StoreError> {
        let prefix = format!("kept/{}/", kept.connection);
        let known = self.ledger.lock().undo.bytes.get(&kept.connection).copied();
        let mut bytes = match known {
            Some(bytes) => bytes,
            None => {
                let all = self.rooms.store.values_under(&prefix, None, usize::MAX)?;
                all.iter().map(|(_, stored)| stored.len() as u64).sum()
            }
        };
        bytes = bytes.saturating_add(size);
        if bytes > KEPT_BYTES {
            for (name, stored) in self.rooms.store.values_under(&prefix, None, usize::MAX)? {
                if bytes <= KEPT_BYTES / 4 * 3 {
                    break;
                }
                bytes = bytes.saturating_sub(stored.len() as u64);
                commit.push(Op::DropValue(name));
            }
        }
        self.ledger.lock().undo.bytes.insert(kept.connection.clone(), bytes);
        Ok(())
    }

    /// Deletions that were carried out and can be undone, newest first for each connection, without the records themselves.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn undoable(&self, selection: &Selection, limit: usize) -> Result<Vec<Kept>, StoreError> {
        let mut found = Vec::new();
        let now = self.rooms.clock.now();
        self.each_kept(selection, |_, kept| {
            if self.is_undoable(&kept, now)? {
                found.push(Kept { document: Value::Null, ..kept });
            }
            Ok(())
        })?;
        found.sort_by(|a, b| (&a.connection, b.at).cmp(&(&b.connection, a.at)));
        found.truncate(limit);
        Ok(found)
    }

    /// Each kept record of a selection, with its name in the store.
    pub(super) fn each_kept(
        &self,
        selection: &Selection,
        mut visit: impl FnMut(String, Kept) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let prefix = selection.prefix("kept");
        let mut after: Option<String> = None;
        loop {
            let page = self.rooms.store.values_under(&prefix, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (name, stored) in page {
                let Some(kept) = parse::<Kept>(&name, &stored) else { continue };
                if selection.fits(&kept.entity, &kept.connection, kept.batch) {
                    visit(name, kept)?;
                }
            }
        }
    }

    /// Whether the deletion was carried out (what is kept is written down before), still holds, and is not too long ago.
    fn is_undoable(&self, kept: &Kept, now: Millis) -> Result<bool, StoreError> {
        if now >= kept.at.saturating_add(self.undo_ms(kept)) {
            return Ok(false);
        }
        let link = self.rooms.store.link(&kept.entity, &kept.connection)?;
        Ok(link.is_some_and(|link| matches!(link.life, Life::Tombstone { .. })))
    }

    /// How long a deletion can be undone.
    fn undo_ms(&self, kept: &Kept) -> Millis {
        let connection = self.connection(&kept.connection);
        let object = connection.as_ref().and_then(|connection| connection.objects.get(&kept.entity.object));
        object.map_or(LONGEST_MS, |object| object.policy.guard.undo_ms)
    }

    /// Forgets deleted records that can no longer be brought back.
    ///
    /// # Errors
    /// The store does not take it.
    pub async fn forget_deleted(&self) -> Result<(), StoreError> {
        let now = self.rooms.clock.now();
        let mut after: Option<String> = None;
        // The oldest of each connection, whether it is known now or not.
        while let Some((name, stored)) = self.rooms.store.values_under("kept/", after.as_deref(), 1)?.pop() {
            let id = ConnectionId::from(name.split('/').nth(1).unwrap_or_default());
            let connection = self.connection(&id);
            let objects = connection.iter().flat_map(|connection| connection.objects.values());
            let shortest = objects.map(|object| object.policy.guard.undo_ms).min().unwrap_or(LONGEST_MS);
            let at = parse::<Kept>(&name, &stored).map_or(0, |kept| kept.at);
            if now >= at.saturating_add(shortest) {
                self.forget_deleted_of(&id, now).await?;
            }
            after = Some(format!("kept/{id}/~"));
        }
        Ok(())
    }

    async fn forget_deleted_of(&self, connection: &ConnectionId, now: Millis) -> Result<(), StoreError> {
        let prefix = format!("kept/{connection}/");
        let mut after: Option<String> = None;
        loop {
            let page = self.rooms.store.values_under(&prefix, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut commit = Commit::new();
            let mut gone = 0_u64;
            for (name, stored) in &page {
                let kept = parse::<Kept>(name, stored);
                if kept.is_none_or(|kept| now >= kept.at.saturating_add(self.undo_ms(&kept))) {
                    gone = gone.saturating_add(stored.len() as u64);
                    commit.push(Op::DropValue(name.clone()));
                }
            }
            if commit.ops.is_empty() {
                // In order of time: what is behind is younger, and goes when its time has come.
                return Ok(());
            }
            self.rooms.store.commit(commit, Until::Applied).await?;
            if let Some(bytes) = self.ledger.lock().undo.bytes.get_mut(connection) {
                *bytes = bytes.saturating_sub(gone);
            }
        }
    }

    /// Brings deleted records back. Answers how many, and which did not come back.
    ///
    /// # Errors
    /// The store or System A is out of order.
    pub async fn undo(&self, selection: &Selection) -> Result<(u64, Vec<NotUndone>), PipelineError> {
        // The names alone: the records are read one by one.
        let mut by_entity: BTreeMap<EntityKey, Vec<(String, ConnectionId)>> = BTreeMap::new();
        let now = self.rooms.clock.now();
        self.each_kept(selection, |name, kept| {
            if self.is_undoable(&kept, now)? {
                by_entity.entry(kept.entity).or_default().push((name, kept.connection));
            }
            Ok(())
        })?;
        let (mut count, mut not) = (0, Vec::new());
        for (entity, rows) in by_entity {
            match self.undo_one(&entity, &rows).await? {
                Ok(()) => {
                    let mut commit = Commit::new();
                    for (name, connection) in &rows {
                        commit.push(Op::DropValue(name.clone()));
                        self.ledger.lock().undo.bytes.remove(connection);
                    }
                    self.rooms.store.commit(commit, Until::Durable).await?;
                    count += 1;
                }
                Err(why) => not.push(NotUndone { entity, why }),
            }
        }
        Ok((count, not))
    }

    async fn undo_one(
        &self,
        entity: &EntityKey,
        rows: &[(String, ConnectionId)],
    ) -> Result<Result<(), String>, PipelineError> {
        let Some(_grip) = self.hold_entity(entity).await else {
            return Ok(Err("it is in work; ask again".to_owned()));
        };
        // Of several connections over which it was deleted, the one that knew most.
        let mut kept = Vec::new();
        for (name, _) in rows {
            kept.extend(self.rooms.store.value(name)?.and_then(|stored| parse::<Kept>(name, &stored)));
        }
        let best = kept.into_iter().map(|kept| kept.document);
        let Some(document) = best.max_by_key(|document| document.as_object().map_or(0, serde_json::Map::len))
        else {
            return Ok(Err("nothing of it was kept".to_owned()));
        };
        let there = self.rooms.internal.read(&entity.scope, &entity.object, &entity.id).await?;
        if there.is_some_and(|record| record.document.is_some()) {
            return Ok(Err("System A has it again; nothing was changed".to_owned()));
        }
        let outcome = self
            .rooms
            .internal
            .write_if(Write {
                scope: entity.scope.clone(),
                object: entity.object.clone(),
                id: entity.id.clone(),
                expected: Expected::Absent,
                document: Some(document),
                origin: "tandem-undo".into(),
            })
            .await?;
        Ok(match outcome {
            Outcome::Written(_) => Ok(()),
            Outcome::Conflict(_) => Err("somebody wrote it this moment; ask again".to_owned()),
            Outcome::Exists(other) => {
                Err(format!("record {other} of System A has the same identity by now; change one of the two"))
            }
            Outcome::Rejected(problems) => {
                let what: Vec<String> = problems
                    .iter()
                    .map(|problem| {
                        format!("{} {}", problem.pointer.as_deref().unwrap_or(""), problem.message)
                    })
                    .collect();
                Err(format!("what was kept of it is no whole record: {}", what.join("; ")))
            }
        })
    }
}
