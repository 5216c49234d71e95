//! A look at every row: checksums, indexes, counts.

use std::collections::HashMap;
use std::ops::{Bound, ControlFlow};

use serde::Serialize;

use super::super::StoreError;
use super::codec;
use super::engine::Engine;
use super::keys::{self, Key};
use super::stage::{Count, Stage};

/// What a look at every row found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Rows that were read.
    pub rows: u64,
    /// Values that could not be read, by key. They were set aside.
    pub damaged: Vec<String>,
    /// Values that were set aside, now or earlier.
    pub set_aside: u64,
    /// Index rows that point at nothing. They were removed.
    pub dangling: u64,
    /// Connections whose count was wrong. It was put right.
    pub miscounted: u64,
}

/// Rows that are looked at while the tables are held.
const PIECE: usize = 512;

impl Engine {
    /// Reads everything. Meant for a store that nobody writes to meanwhile; on a busy one the counts are left alone.
    pub(super) fn check(&self) -> Result<Check, StoreError> {
        let mut check = Check::default();
        let mut counts: HashMap<u32, Count> = HashMap::new();
        let mut dangling: Vec<Key> = Vec::new();
        let mut from: Bound<Key> = Bound::Unbounded;
        let before = self.connections.read().all().to_vec();
        loop {
            let mut piece = Vec::new();
            let bound = match &from {
                Bound::Included(key) => Bound::Included(&**key),
                Bound::Excluded(key) => Bound::Excluded(&**key),
                Bound::Unbounded => Bound::Unbounded,
            };
            self.tables
                .read()
                .scan(&self.tree, bound, None, false, &mut |key, value| {
                    piece.push((Key::from(key), value));
                    if piece.len() < PIECE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })
                .map_err(|error| self.unreadable(&error))?;
            let Some((last, _)) = piece.last() else { break };
            from = Bound::Excluded(last.clone());
            let mut bad = Vec::new();
            for (key, value) in piece {
                if let Some(&(keys::PART | keys::SET_ASIDE)) = key.first() {
                    continue;
                }
                check.rows += 1;
                if let Err(damage) = codec::open(&key, &value) {
                    check.damaged.push(format!("{}: {damage}", keys::shown(&key)));
                    bad.push((key, damage));
                    continue;
                }
                if let Some(target) = self.target(&key, &value)
                    && self
                        .tables
                        .read()
                        .get(&self.tree, &target)
                        .map_err(|error| self.unreadable(&error))?
                        .is_none()
                {
                    dangling.push(key);
                    continue;
                }
                let _ = count(&key, &mut counts);
            }
            if !bad.is_empty() {
                self.set_aside(bad);
            }
        }
        check.dangling = dangling.len() as u64;
        let end = keys::after_prefix(&[keys::SET_ASIDE]);
        self.tables
            .read()
            .scan(&self.tree, Bound::Included(&[keys::SET_ASIDE]), end.as_deref(), false, &mut |_, _| {
                check.set_aside += 1;
                ControlFlow::Continue(())
            })
            .map_err(|error| self.unreadable(&error))?;
        self.mend(&before, &counts, dangling, &mut check)?;
        Ok(check)
    }

    /// The row that an index row points at.
    fn target(&self, key: &[u8], value: &[u8]) -> Option<Key> {
        let mut parser = keys::Parser::new(key);
        match *key.first()? {
            keys::ENTITY => {
                let entity = parser.entity()?;
                Some(keys::link(parser.conn()?, &entity))
            }
            keys::HELD => {
                let conn = parser.conn()?;
                Some(keys::link(conn, &parser.entity()?))
            }
            keys::EXTERNAL => {
                let entity = codec::open(key, value).ok().and_then(|payload| {
                    codec::unpack::<tandem_core::id::EntityKey>("entity", payload).ok()
                })?;
                Some(keys::link(parser.conn()?, &entity))
            }
            keys::DEAD_BY_CONNECTION => {
                let _ = parser.conn()?;
                Some(keys::dead(parser.number()?))
            }
            keys::DEAD_ABOUT => {
                let seq = codec::open(key, value).and_then(codec::number).ok()?;
                Some(keys::dead(seq))
            }
            _ => None,
        }
    }

    fn mend(
        &self,
        before: &[(tandem_core::id::ConnectionId, Count)],
        found: &HashMap<u32, Count>,
        dangling: Vec<Key>,
        check: &mut Check,
    ) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        let mut stage = Stage::new(self, writer.floor);
        for key in dangling {
            stage.drop_row(key);
        }
        let unmoved = self.connections.read().all() == before;
        for (conn, (_, count)) in before.iter().enumerate() {
            let conn = u32::try_from(conn).unwrap_or(u32::MAX);
            let right = found.get(&conn).copied().unwrap_or_default();
            if unmoved && right != *count {
                check.miscounted += 1;
                stage.counts.insert(conn, right);
            }
        }
        stage.finish()?;
        self.install(&mut writer, stage);
        drop(writer);
        self.wake.notify_one();
        Ok(())
    }
}

/// Counts a row for its connection.
fn count(key: &[u8], counts: &mut HashMap<u32, Count>) -> Option<()> {
    let mut parser = keys::Parser::new(key);
    match *key.first()? {
        keys::READY => counts.entry(parser.conn()?).or_default().ready += 1,
        keys::DELAYED => {
            let _ = (parser.number()?, parser.number()?);
            counts.entry(parser.conn()?).or_default().delayed += 1;
        }
        keys::DEAD_BY_CONNECTION => counts.entry(parser.conn()?).or_default().dead += 1,
        _ => {}
    }
    Some(())
}
