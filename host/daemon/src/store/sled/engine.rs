//! What the threads and the callers share.

use std::collections::HashMap;
use std::fs::File;
use std::ops::{Bound, ControlFlow};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};
use tandem_core::id::ConnectionId;
use tokio::sync::{Notify, oneshot};

use super::super::{Commit, Op, StoreError, Until};
use super::Options;
use super::codec::Damage;
use super::journal::Frame;
use super::keys::{self, Key};
use super::stage::{Count, Stage, prepare};
use super::tables::Tables;
use super::tree::{Tree, TreeError};

/// Meta row: sequence numbers up to here may have been given.
pub(super) const SEQ: &str = "seq";
/// Meta row: the journal's files before this number are in the tree.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// Sequence numbers are reserved in blocks of this many.
pub(super) const BLOCK: u64 = 1 << 20;

/// Connections by number.
#[derive(Default)]
pub(super) struct Connections {
    numbers: HashMap<ConnectionId, u32>,
    all: Vec<(ConnectionId, Count)>,
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn number(&self, id: &ConnectionId) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    pub(super) fn count(&self, conn: u32) -> Count {
        self.all.get(conn as usize).map(|(_, count)| *count).unwrap_or_default()
    }

    pub(super) fn all(&self) -> &[(ConnectionId, Count)] {
        &self.all
    }

    pub(super) fn push(&mut self, id: ConnectionId) {
        let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.numbers.insert(id.clone(), number);
        self.all.push((id, Count::default()));
    }

    pub(super) fn set(&mut self, conn: u32, count: Count) {
        if let Some((_, known)) = self.all.get_mut(conn as usize) {
            *known = count;
        }
    }
}

/// How the store is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// What was committed is made durable.
    Flush,
    /// And everything is carried into the tree.
    Checkpoint,
}

/// What commits leave for the committer. Its lock orders commits.
#[derive(Default)]
pub(super) struct Writer {
    /// Rows that are applied and not yet in the journal.
    pub(super) frame: Frame,
    /// Those who wait for them.
    pub(super) waiters: Vec<oneshot::Sender<()>>,
    /// Rows with a sequence number from here on are in the active generation or nowhere.
    pub(super) floor: u64,
    /// Sequence numbers below this are reserved once the frame is durable.
    pub(super) seq_high: u64,
    pub(super) closing: Option<Closing>,
    /// A checkpoint was asked for.
    pub(super) checkpoint: bool,
}

pub(super) struct Engine {
    pub(super) path: PathBuf,
    pub(super) options: Options,
    pub(super) tree: Tree,
    pub(super) tables: RwLock<Tables>,
    pub(super) connections: RwLock<Connections>,
    pub(super) writer: Mutex<Writer>,
    /// Something changed for the committer.
    pub(super) wake: Condvar,
    /// There is room again, or the store failed.
    pub(super) room: Notify,
    /// Too much waits to be written: commits wait.
    pub(super) crowded: AtomicBool,
    /// Too little space is free on the disk.
    pub(super) scarce: AtomicBool,
    pub(super) failed: OnceLock<String>,
    /// Commits that were applied since it was opened.
    pub(super) commits: AtomicU64,
    pub(super) seq: AtomicU64,
    /// Numbers below this are reserved or about to be.
    pub(super) seq_asked: AtomicU64,
    /// Numbers below this are reserved on disk.
    pub(super) seq_durable: Mutex<u64>,
    pub(super) seq_wake: Condvar,
    /// Held as long as the store is open.
    pub(super) _lock: File,
}

impl Engine {
    fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// The error of a failed store.
    pub(super) fn failure(&self) -> StoreError {
        let what = self.failed.get().cloned().unwrap_or_else(|| "it is closed".to_owned());
        StoreError::Failed { path: self.shown(), what }
    }

    /// The error of a read that the tree refused. The store goes on.
    pub(super) fn unreadable(&self, error: &TreeError) -> StoreError {
        StoreError::Unreadable { path: self.shown(), what: error.to_string() }
    }

    /// Nothing more is accepted from here on.
    pub(super) fn fail(&self, what: String) {
        tracing::error!(path = %self.path.display(), %what, "store: failed; nothing more is accepted until the daemon is restarted");
        let _ = self.failed.set(what);
        self.writer.lock().waiters.clear();
        self.wake.notify_all();
        self.room.notify_waiters();
        let _durable = self.seq_durable.lock();
        self.seq_wake.notify_all();
    }

    /// Applies a commit. With [`Until::Durable`] the receiver tells when it is on disk; it is closed when that failed.
    pub(super) fn apply(
        &self,
        commit: Commit,
        until: Until,
    ) -> Result<Option<oneshot::Receiver<()>>, StoreError> {
        if self.scarce.load(Ordering::Relaxed)
            && commit.ops.iter().any(|op| matches!(op, Op::AddHint(_) | Op::AddDelivery(_)))
        {
            return Err(StoreError::Full { path: self.shown(), limit: self.options.min_free_bytes });
        }
        let prepared = prepare(commit)?;
        let mut writer = self.writer.lock();
        if self.failed.get().is_some() || writer.closing.is_some() {
            return Err(self.failure());
        }
        let mut stage = Stage::new(self, writer.floor);
        for op in prepared {
            stage.add(op)?;
        }
        stage.finish()?;
        if stage.highest > 0 {
            self.seq.fetch_max(stage.highest, Ordering::SeqCst);
            let asked = self.seq_asked.load(Ordering::SeqCst);
            if stage.highest >= asked {
                let high = stage.highest + BLOCK;
                stage.reserve(high)?;
                writer.seq_high = high;
                self.seq_asked.store(high, Ordering::SeqCst);
            }
        }
        self.install(&mut writer, stage);
        self.commits.fetch_add(1, Ordering::Relaxed);
        let receiver = if until == Until::Durable {
            let (sender, receiver) = oneshot::channel();
            writer.waiters.push(sender);
            Some(receiver)
        } else {
            None
        };
        drop(writer);
        self.wake.notify_one();
        Ok(receiver)
    }

    /// Makes a staged commit visible and hands it to the committer.
    pub(super) fn install(&self, writer: &mut Writer, stage: Stage<'_>) {
        let Stage { rows, named, counts, .. } = stage;
        for (key, row) in &rows {
            writer.frame.push(key, row.value.as_deref());
        }
        let mut connections = self.connections.write();
        for name in named {
            connections.push(name);
        }
        for (conn, count) in counts {
            connections.set(conn, count);
        }
        drop(connections);
        let mut tables = self.tables.write();
        for (key, row) in rows {
            if row.value.is_none() && row.seq >= writer.floor {
                tables.forget(&key);
            } else {
                tables.put(key, row.value);
            }
        }
        if writer.frame.len() > self.options.memory_bytes
            || tables.active_bytes() > 2 * self.options.memory_bytes
        {
            self.crowded.store(true, Ordering::SeqCst);
        }
    }

    /// Moves rows that could not be read out of the way.
    pub(super) fn set_aside(&self, bad: Vec<(Key, Damage)>) {
        let mut writer = self.writer.lock();
        if self.failed.get().is_some() {
            return;
        }
        let mut stage = Stage::new(self, writer.floor);
        for (key, damage) in bad {
            // It may have been written anew since.
            let value = self.tables.read().get(&self.tree, &key);
            if let Ok(Some(value)) = value
                && super::codec::open(&key, &value).err().is_none_or(|now| now == damage)
            {
                stage.set_aside(&key, value, &damage);
            }
        }
        self.install(&mut writer, stage);
        drop(writer);
        self.wake.notify_one();
    }

    /// A number greater than all before it.
    pub(super) fn next_seq(&self) -> u64 {
        let number = self.seq.fetch_add(1, Ordering::SeqCst) + 1;
        if number + BLOCK / 2 >= self.seq_asked.load(Ordering::SeqCst) {
            self.reserve(number);
        }
        number
    }

    fn reserve(&self, number: u64) {
        let mut writer = self.writer.lock();
        if number + BLOCK / 2 >= self.seq_asked.load(Ordering::SeqCst) {
            let high = number + BLOCK;
            let mut stage = Stage::new(self, writer.floor);
            if stage.reserve(high).is_ok() {
                self.install(&mut writer, stage);
                writer.seq_high = high;
                self.seq_asked.store(high, Ordering::SeqCst);
                self.wake.notify_one();
            }
        }
        drop(writer);
        // Half a block is given out while the next one becomes durable; the wait is for a disk that stands still.
        let mut durable = self.seq_durable.lock();
        while *durable <= number && self.failed.get().is_none() {
            self.seq_wake.wait(&mut durable);
        }
    }

    /// The first or last row whose key begins with `prefix`.
    pub(super) fn edge(&self, prefix: &[u8], last: bool) -> Result<Option<(Key, Bytes)>, StoreError> {
        let mut found = None;
        let to = keys::after_prefix(prefix);
        self.tables
            .read()
            .scan(&self.tree, Bound::Included(prefix), to.as_deref(), last, &mut |key, value| {
                found = Some((key.into(), value));
                ControlFlow::Break(())
            })
            .map_err(|error| self.unreadable(&error))?;
        Ok(found)
    }
}
