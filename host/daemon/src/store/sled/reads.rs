//! Reads: rows to values. A row that cannot be read is set aside, named, and reads as if it were not there.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::super::StoreError;
use super::codec::{self, Damage};
use super::engine::Engine;
use super::keys::{self, Key};

/// What to do with a row of a scan.
pub(super) enum Found<T> {
    /// It belongs to the answer.
    Take(T),
    /// Neither it nor anything behind it does.
    Stop,
}

/// The stretch of keys that a scan goes over.
pub(super) struct Stretch {
    pub(super) from: Bound<Key>,
    pub(super) to: Option<Key>,
    pub(super) reverse: bool,
}

impl Stretch {
    /// All keys that begin so.
    pub(super) fn prefix(prefix: Key) -> Self {
        let to = keys::after_prefix(&prefix);
        Self { from: Bound::Included(prefix), to, reverse: false }
    }

    /// The same in reverse.
    pub(super) fn newest_first(mut self) -> Self {
        self.reverse = true;
        self
    }
}

impl Engine {
    /// One value.
    pub(super) fn value<T>(
        &self,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T, Damage>,
    ) -> Result<Option<T>, StoreError> {
        let value = self.tables.read().get(&self.tree, key).map_err(|error| self.unreadable(&error))?;
        let Some(value) = value else { return Ok(None) };
        match codec::open(key, &value).and_then(read) {
            Ok(found) => Ok(Some(found)),
            Err(damage) => {
                self.set_aside(vec![(key.into(), damage)]);
                Ok(None)
            }
        }
    }

    /// At most `limit` values of a stretch.
    pub(super) fn values<T>(
        &self,
        stretch: &Stretch,
        limit: usize,
        mut read: impl FnMut(&[u8], &[u8]) -> Result<Found<T>, Damage>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        let mut bad = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        let mut visit = |key: &[u8], value: Bytes| {
            match codec::open(key, &value).and_then(|payload| read(key, payload)) {
                Ok(Found::Take(item)) => {
                    found.push(item);
                    if found.len() == limit {
                        return ControlFlow::Break(());
                    }
                }
                Ok(Found::Stop) => return ControlFlow::Break(()),
                Err(damage) => bad.push((key.into(), damage)),
            }
            ControlFlow::Continue(())
        };
        let from = match &stretch.from {
            Bound::Included(key) => Bound::Included(&**key),
            Bound::Excluded(key) => Bound::Excluded(&**key),
            Bound::Unbounded => Bound::Unbounded,
        };
        let outcome =
            self.tables.read().scan(&self.tree, from, stretch.to.as_deref(), stretch.reverse, &mut visit);
        if !bad.is_empty() {
            self.set_aside(bad);
        }
        outcome.map_err(|error| self.unreadable(&error))?;
        Ok(found)
    }
}
