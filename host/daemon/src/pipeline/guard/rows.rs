//! Withheld writes as rows of the store, and a person's word about them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tandem_core::Millis;
use tandem_core::exchange::Observed;
use tandem_core::id::{ConnectionId, EntityKey, ExternalId, InternalId, ObjectName, ScopeId};
use tandem_core::link::{Link, Side};
use tandem_core::plan::Aim;

use super::super::{Clock, Connection, Grip, Pipeline};
use super::Kind;
use super::meter::{Gauge, Meter, Meters, Watch};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::provider::Runtime;
use crate::store::{Class, Commit, Hint, Op, Store, StoreError, Subject, Until};

/// Rows that are read or ruled on at once.
pub(in super::super) const PAGE: usize = 128;

/// What was said of a withheld write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// Nothing yet.
    #[default]
    Pending,
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
    pub approval: Approval,
}

impl Withheld {
    pub(super) fn name(&self) -> String {
        row_name(&self.entity, &self.connection)
    }

    pub(super) fn put(&self) -> Op {
        Op::PutValue(self.name(), serde_json::to_vec(self).unwrap_or_default())
    }
}

/// Which withheld writes, or carried out deletions, are meant. What is not said fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of this connection.
    pub connection: Option<ConnectionId>,
    /// Of this batch.
    pub batch: Option<u64>,
    /// Of this object.
    pub object: Option<ObjectName>,
    /// Of this scope.
    pub scope: Option<ScopeId>,
    /// These internal records. Empty: all.
    pub ids: Vec<InternalId>,
}

impl Selection {
    pub(in super::super) fn fits(&self, entity: &EntityKey, connection: &ConnectionId, batch: u64) -> bool {
        self.connection.as_ref().is_none_or(|wanted| wanted == connection)
            && self.batch.is_none_or(|wanted| wanted == batch)
            && self.object.as_ref().is_none_or(|wanted| *wanted == entity.object)
            && self.scope.as_ref().is_none_or(|wanted| *wanted == entity.scope)
            && (self.ids.is_empty() || self.ids.contains(&entity.id))
    }

    /// What the names of values of a kind begin with that can be meant.
    pub(in super::super) fn prefix(&self, kind: &str) -> String {
        match &self.connection {
            Some(connection) => format!("{kind}/{connection}/"),
            None => format!("{kind}/"),
        }
    }
}

/// A record's name in a set or in a value's name.
pub(in super::super) fn digest(entity: &EntityKey) -> u64 {
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

/// A stored row. One that cannot be read is named, and reads as if it were not there.
pub(in super::super) fn parse<T: serde::de::DeserializeOwned>(name: &str, stored: &[u8]) -> Option<T> {
    serde_json::from_slice(stored)
        .inspect_err(|error| tracing::error!(name, %error, "a row of the guard cannot be read"))
        .ok()
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Makes what the guard wrote down of a connection known, once.
    pub(in super::super) fn remember_guard(&self, connection: &Connection) -> Result<(), StoreError> {
        if self.ledger.lock().watches.contains_key(&connection.id) {
            return Ok(());
        }
        let mut watch = Watch::default();
        let prefix = format!("guard/{}/", connection.id);
        for (name, stored) in self.rooms.store.values_under(&prefix, None, usize::MAX)? {
            let Some(meters) = parse::<Vec<(Gauge, Meter)>>(&name, &stored) else { continue };
            let object = ObjectName::from(name.get(prefix.len()..).unwrap_or_default());
            watch.objects.insert(object, Meters::read(meters));
        }
        let selection = Selection { connection: Some(connection.id.clone()), ..Selection::default() };
        self.each_row(&selection, |row| {
            watch.recall(&row);
            ControlFlow::Continue(())
        })?;
        watch.recalled();
        self.ledger.lock().watches.insert(connection.id.clone(), watch);
        Ok(())
    }

    pub(super) fn each_row(
        &self,
        selection: &Selection,
        mut visit: impl FnMut(Withheld) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let prefix = selection.prefix("withheld");
        let mut after: Option<String> = None;
        loop {
            let page = self.rooms.store.values_under(&prefix, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let rows = page.iter().filter_map(|(name, stored)| parse::<Withheld>(name, stored));
            for row in rows.filter(|row| selection.fits(&row.entity, &row.connection, row.batch)) {
                if visit(row).is_break() {
                    return Ok(());
                }
            }
        }
    }

    /// Withheld writes, in no particular order.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn withheld(&self, selection: &Selection, limit: usize) -> Result<Vec<Withheld>, StoreError> {
        let mut found = Vec::new();
        self.each_row(selection, |row| {
            if found.len() >= limit {
                return ControlFlow::Break(());
            }
            if row.approval == Approval::Pending {
                found.push(row);
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// The row of a record, whatever was said of it.
    pub(super) fn row_of(
        &self,
        entity: &EntityKey,
        connection: &ConnectionId,
    ) -> Result<Option<Withheld>, StoreError> {
        let name = row_name(entity, connection);
        let row = self.rooms.store.value(&name)?.and_then(|stored| parse::<Withheld>(&name, &stored));
        Ok(row.filter(|row| row.entity == *entity))
    }

    /// What takes the row of a record away, if it has one.
    pub(in super::super) fn drop_withheld(
        &self,
        entity: &EntityKey,
        connection: &ConnectionId,
    ) -> Result<Option<Op>, StoreError> {
        Ok(self.row_of(entity, connection)?.map(|row| Op::DropValue(row.name())))
    }

    /// How many writes of a connection wait for a person, by object, side and kind.
    #[must_use]
    pub fn stopped(&self, connection: &ConnectionId) -> Vec<(ObjectName, Side, Kind, u64)> {
        let ledger = self.ledger.lock();
        let Some(watch) = ledger.watches.get(connection) else { return Vec::new() };
        let meters = watch.objects.iter().flat_map(|(object, meters)| {
            meters.by_gauge.iter().map(move |((side, kind), meter)| (object, *side, *kind, meter))
        });
        let stopped = meters.filter(|(.., meter)| meter.tripped && !meter.pending.is_empty());
        stopped
            .map(|(object, side, kind, meter)| (object.clone(), side, kind, meter.pending.len() as u64))
            .collect()
    }

    /// A person's word about withheld writes. Answers how many it was about.
    ///
    /// # Errors
    /// The store does not take it.
    pub async fn rule_on_withheld(
        &self,
        selection: &Selection,
        approval: Approval,
    ) -> Result<u64, StoreError> {
        let mut found: BTreeMap<ConnectionId, Vec<EntityKey>> = BTreeMap::new();
        self.each_row(selection, |row| {
            if row.approval == Approval::Pending {
                found.entry(row.connection).or_default().push(row.entity);
            }
            ControlFlow::Continue(())
        })?;
        let cause = match approval {
            Approval::Approved => "approved",
            Approval::Rejected | Approval::Restored | Approval::Pending => "rejected",
        };
        let class = if selection.ids.is_empty() { Class::Retry } else { Class::Interactive };
        let mut count = 0;
        for (connection, entities) in found {
            for page in entities.chunks(PAGE) {
                count += self.rule_on_rows(page, &connection, approval, cause, class).await?.len() as u64;
            }
        }
        Ok(count)
    }

    /// Writes a word into rows, each in nobody's hand but this one, and has their records looked at. Answers the rows.
    pub(super) async fn rule_on_rows(
        &self,
        entities: &[EntityKey],
        connection: &ConnectionId,
        approval: Approval,
        cause: &str,
        class: Class,
    ) -> Result<Vec<Withheld>, StoreError> {
        let mut grips: Vec<Grip<'_>> = Vec::with_capacity(entities.len());
        let (mut rows, mut hints, mut commit) = (Vec::new(), Vec::new(), Commit::new());
        for entity in entities {
            // Whoever works on it now may find that it needs no word any more.
            let Some(grip) = self.hold_entity(entity).await else { continue };
            grips.push(grip);
            let row = self.row_of(entity, connection)?.filter(|row| row.approval == Approval::Pending);
            let Some(row) = row else { continue };
            let link = self.rooms.store.link(entity, connection)?;
            let hint = self.hint_about(entity, connection, link.as_ref(), cause, class);
            let row = Withheld { approval, ..row };
            commit.push(row.put()).push(Op::AddHint(hint.clone()));
            hints.push(hint);
            rows.push(row);
        }
        if rows.is_empty() {
            return Ok(rows);
        }
        self.rooms.store.commit(commit, Until::Durable).await?;
        let mut more = Commit::new();
        {
            let mut ledger = self.ledger.lock();
            let watch = ledger.watch(connection);
            for row in &rows {
                more.ops.extend(watch.no_longer_waits(row));
                watch.rows.insert(digest(&row.entity));
            }
        }
        if !more.ops.is_empty() {
            self.rooms.store.commit(more, Until::Applied).await?;
        }
        drop(grips);
        self.arrive(hints);
        Ok(rows)
    }

    /// "Look at this record, at both sides."
    fn hint_about(
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn entity(id: &str) -> EntityKey {
        EntityKey { scope: "acme".into(), object: "contact".into(), id: id.into() }
    }

    pub(in super::super) fn row(id: &str) -> Withheld {
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
            approval: Approval::Pending,
        }
    }

    #[test]
    fn what_is_meant_is_what_fits_all_that_was_said() {
        let (entity, connection) = (entity("a"), ConnectionId::from("crm"));
        let all = Selection::default();
        assert!(all.fits(&entity, &connection, 7));
        assert_eq!((all.prefix("withheld"), all.ids.len()), ("withheld/".to_owned(), 0));
        let exact = Selection {
            connection: Some(connection.clone()),
            batch: Some(7),
            object: Some("contact".into()),
            scope: Some("acme".into()),
            ids: vec!["b".into(), "a".into()],
        };
        assert!(exact.fits(&entity, &connection, 7));
        assert_eq!(exact.prefix("kept"), "kept/crm/");
        for other in [
            Selection { connection: Some("other".into()), ..exact.clone() },
            Selection { batch: Some(8), ..exact.clone() },
            Selection { object: Some("company".into()), ..exact.clone() },
            Selection { scope: Some("globex".into()), ..exact.clone() },
            Selection { ids: vec!["b".into()], ..exact.clone() },
        ] {
            assert!(!other.fits(&entity, &connection, 7), "{other:?}");
        }
    }

    /// What the store has was written by some version: rows of this one are read by the next.
    #[test]
    fn rows_are_read_as_they_were_written() {
        let stored = r#"{"entity":{"scope":"acme","object":"contact","id":"a"},"connection":"crm","external":null,
            "kind":"delete","sides":["internal"],"batch":7,"since":1,"cause":"webhook","why":"deleted in the CRM"}"#;
        assert_eq!(parse::<Withheld>("row", stored.as_bytes()), Some(row("a")));
        let aimed = Withheld {
            kind: Kind::Rewrite,
            aims: vec![
                (Side::External, "/city".into(), None),
                (Side::Internal, "/phone".into(), Some(1.into())),
            ],
            approval: Approval::Restored,
            ..row("a")
        };
        let Op::PutValue(name, stored) = aimed.put() else { panic!() };
        assert_eq!(parse::<Withheld>(&name, &stored), Some(aimed));
        assert_eq!(parse::<Withheld>("row", b"{}"), None);
    }
}
