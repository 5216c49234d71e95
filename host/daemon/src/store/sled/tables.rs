//! What reads see: the rows in memory over the rows in the tree.
//!
//! Two generations are in memory: the *active* one takes commits; the *frozen* one is being carried into the tree by a
//! checkpoint. A row of a younger source hides that of an older one; a missing value is a tombstone.
//!
//! A reader holds the lock of [`Tables`] while it reads, also from the tree. A checkpoint changes only such rows of the tree
//! as the frozen generation hides, and generations change places under the write lock: so every scan is a snapshot.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;

use super::keys::Key;
use super::tree::{Tree, TreeError};

/// Rows by key. `None`: deleted.
pub(super) type Rows = BTreeMap<Key, Option<Bytes>>;

/// What one row costs in memory beside its bytes.
const ROW: usize = 96;

/// The generations in memory.
#[derive(Default)]
pub(super) struct Tables {
    active: Rows,
    active_bytes: usize,
    frozen: Option<Arc<Rows>>,
}

fn cost(key: &[u8], value: Option<&Bytes>) -> usize {
    ROW + key.len() + value.map_or(0, Bytes::len)
}

impl Tables {
    /// About how much memory the active generation takes.
    pub(super) fn active_bytes(&self) -> usize {
        self.active_bytes
    }

    /// A checkpoint is under way.
    pub(super) fn has_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Puts a row, or a tombstone, into the active generation.
    pub(super) fn put(&mut self, key: Key, value: Option<Bytes>) {
        let len = key.len();
        self.active_bytes += cost(&key, value.as_ref());
        if let Some(old) = self.active.insert(key, value) {
            self.active_bytes -= ROW + len + old.as_ref().map_or(0, Bytes::len);
        }
    }

    /// Takes a row out of the active generation without leaving a tombstone: it is known to be in no older one.
    pub(super) fn forget(&mut self, key: &[u8]) {
        if let Some(old) = self.active.remove(key) {
            self.active_bytes -= cost(key, old.as_ref());
        }
    }

    /// Makes the active generation the frozen one.
    pub(super) fn freeze(&mut self) -> Arc<Rows> {
        self.active_bytes = 0;
        let rows = Arc::new(std::mem::take(&mut self.active));
        self.frozen = Some(rows.clone());
        rows
    }

    /// The frozen generation is in the tree.
    pub(super) fn thaw(&mut self) {
        self.frozen = None;
    }

    /// A row of the active generation. The outer `None`: it says nothing of the key.
    pub(super) fn active(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        self.active.get(key)
    }

    /// A row.
    pub(super) fn get(&self, tree: &Tree, key: &[u8]) -> Result<Option<Bytes>, TreeError> {
        if let Some(row) = self.active.get(key) {
            return Ok(row.clone());
        }
        if let Some(row) = self.frozen.as_ref().and_then(|rows| rows.get(key)) {
            return Ok(row.clone());
        }
        tree.get(key)
    }

    /// Shows the rows from `from` up to but without `to`, in order or in reverse, until `visit` breaks.
    pub(super) fn scan(
        &self,
        tree: &Tree,
        from: Bound<&[u8]>,
        to: Option<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), TreeError> {
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        if let (Bound::Included(a) | Bound::Excluded(a), Bound::Excluded(b)) = (from, to)
            && a >= b
        {
            return Ok(());
        }
        let active = self.active.range::<[u8], _>((from, to));
        let frozen = self.frozen.as_ref().map(|rows| rows.range::<[u8], _>((from, to)));
        let old = tree.range(from, to);
        let active = active.map(|(key, value)| (&**key, value));
        let frozen = frozen.into_iter().flatten().map(|(key, value)| (&**key, value));
        if reverse {
            merge([Box::new(active.rev()), Box::new(frozen.rev())], old.rev(), true, tree, visit)
        } else {
            merge([Box::new(active), Box::new(frozen)], old, false, tree, visit)
        }
    }
}

type MemoryRows<'a> = Box<dyn Iterator<Item = (&'a [u8], &'a Option<Bytes>)> + 'a>;

/// Merges sorted sources, the youngest first.
fn merge(
    memory: [MemoryRows<'_>; 2],
    tree_rows: impl Iterator<Item = Result<(sled::IVec, sled::IVec), TreeError>>,
    reverse: bool,
    tree: &Tree,
    visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
) -> Result<(), TreeError> {
    let [active, frozen] = memory;
    let (mut active, mut frozen, mut old) = (active.peekable(), frozen.peekable(), tree_rows.peekable());
    loop {
        let mut least: Option<Key> = None;
        let mut offer = |key: &[u8]| {
            let better = least.as_deref().is_none_or(|best| if reverse { key > best } else { key < best });
            if better {
                least = Some(key.into());
            }
        };
        if let Some((key, _)) = active.peek() {
            offer(key);
        }
        if let Some((key, _)) = frozen.peek() {
            offer(key);
        }
        match old.peek() {
            Some(Ok((key, _))) => offer(key),
            Some(Err(error)) => return Err(error.clone()),
            None => {}
        }
        let Some(key) = least else { return Ok(()) };
        let young = active.next_if(|(at, _)| *at == &*key);
        let middle = frozen.next_if(|(at, _)| *at == &*key);
        let oldest = old.next_if(|row| matches!(row, Ok((at, _)) if **at == *key));
        let value = match (young.or(middle), oldest) {
            (Some((_, value)), _) => value.clone(),
            (None, Some(Ok((_, value)))) => Some(tree.whole(&key, &value)?),
            _ => None,
        };
        if let Some(value) = value
            && visit(&key, value).is_break()
        {
            return Ok(());
        }
    }
}
