//! System A's change feed: each change becomes a hint for every connection of its scope.

use tandem_core::id::ConnectionId;

use super::{Clock, Pipeline, PipelineError, origin_of};
use crate::delivery::Deliver;
use crate::internal::{Change, Internal};
use crate::provider::Runtime;
use crate::store::{Class, Commit, Hint, Op, Store, StoreError, Subject, Until};

const CURSOR: &str = "cursor/system-a";

/// A connection whose scope was gone through. No cursor of a feed looks like it.
const SEEDED: &[u8] = b"\0seeded";

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Takes in the next piece of the change feed; false when there was nothing.
    ///
    /// Cursor and hints are one commit: a crash repeats the piece or finds it done.
    ///
    /// # Errors
    /// The store or System A is out of order.
    pub async fn feed(&self) -> Result<bool, PipelineError> {
        let cursor = self.rooms.store.value(CURSOR)?;
        let piece = self.rooms.internal.changes(cursor.as_deref(), 512).await?;
        if piece.changes.is_empty() {
            return Ok(false);
        }
        let hints = self.hints_of_feed(&piece.changes);
        self.take_in(CURSOR, piece.cursor, hints).await?;
        Ok(true)
    }

    fn hints_of_feed(&self, changes: &[Change]) -> Vec<Hint> {
        let by_scope = self.by_scope.load();
        let mut hints = Vec::with_capacity(changes.len());
        for change in changes {
            let Some(connections) = by_scope.get(&change.scope) else { continue };
            for connection in connections {
                if connection.objects.contains_key(&change.object) && !is_own(change, &connection.id) {
                    hints.push(self.internal_hint(&connection.id, change, Class::Live, "edit"));
                }
            }
        }
        hints
    }

    /// A connection that comes to a System A with records: all of its scope's records become hints, once. What is written
    /// after the connection became known comes with the feed, so that this has an end however much is written.
    ///
    /// # Errors
    /// The store or System A is out of order.
    pub async fn seed(&self, id: &ConnectionId) -> Result<(), PipelineError> {
        let name = format!("seed/{id}");
        let state = self.rooms.store.value(&name)?;
        if state.as_deref() == Some(SEEDED) {
            return Ok(());
        }
        let mut cursor = state;
        let _looking = self.looking(id);
        loop {
            let piece = self.rooms.internal.changes(cursor.as_deref(), 512).await?;
            // Asked for anew each time: this may be long, and a version that was replaced must come to its end.
            let Some(connection) = self.connection(id) else { return Ok(()) };
            let hints: Vec<Hint> = piece
                .changes
                .iter()
                .filter(|change| {
                    change.scope == connection.scope && connection.objects.contains_key(&change.object)
                })
                .map(|change| self.internal_hint(id, change, Class::Backfill, "first load"))
                .collect();
            drop(connection);
            self.take_in(&name, piece.cursor.clone(), hints).await?;
            if !piece.more {
                return self.note_seeded(id).await;
            }
            cursor = Some(piece.cursor);
        }
    }

    /// Whether the feed has ever been followed: before that a connection needs no seed.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn has_followed_feed(&self) -> Result<bool, PipelineError> {
        Ok(self.rooms.store.value(CURSOR)?.is_some())
    }

    /// Marks a connection that was there from the beginning.
    ///
    /// # Errors
    /// The store does not take it.
    pub async fn note_seeded(&self, connection: &ConnectionId) -> Result<(), PipelineError> {
        let mut commit = Commit::new();
        commit.push(Op::PutValue(format!("seed/{connection}"), SEEDED.to_vec()));
        self.rooms.store.commit(commit, Until::Applied).await?;
        Ok(())
    }

    /// Who is not connected when the feed begins to be followed misses what it brings: a file that was wrong or was moved away while
    /// the daemon was down, a provider that was not there. When such a connection comes, it is given what is there then.
    ///
    /// # Errors
    /// The store is out of order.
    pub async fn forget_absent(&self) -> Result<(), PipelineError> {
        let mut commit = Commit::new();
        for (name, _) in self.rooms.store.values_under("seed/", None, usize::MAX)? {
            let id = name.strip_prefix("seed/").map(ConnectionId::from);
            if id.is_some_and(|id| self.connection(&id).is_none()) {
                commit.push(Op::DropValue(name));
            }
        }
        if !commit.ops.is_empty() {
            self.rooms.store.commit(commit, Until::Durable).await?;
        }
        Ok(())
    }

    /// A connection leaves: when it comes back, to this scope or another, it is given what is there then.
    ///
    /// # Errors
    /// The store does not take it.
    pub async fn forget_seed(&self, connection: &ConnectionId) -> Result<(), PipelineError> {
        let mut commit = Commit::new();
        commit.push(Op::DropValue(format!("seed/{connection}")));
        self.rooms.store.commit(commit, Until::Applied).await?;
        Ok(())
    }

    fn internal_hint(&self, connection: &ConnectionId, change: &Change, class: Class, cause: &str) -> Hint {
        Hint {
            seq: self.rooms.store.next_seq(),
            connection: connection.clone(),
            object: change.object.clone(),
            subject: Subject::Internal(change.id.clone()),
            class,
            noticed_at: change.at,
            due: 0,
            attempts: 0,
            cause: cause.into(),
            observed: None,
        }
    }

    /// Cursor and hints in one commit; waits while the disk is full.
    async fn take_in(&self, name: &str, cursor: Vec<u8>, hints: Vec<Hint>) -> Result<(), PipelineError> {
        let mut commit = Commit::new();
        for hint in &hints {
            commit.push(Op::AddHint(hint.clone()));
        }
        commit.push(Op::PutValue(name.into(), cursor));
        loop {
            match self.rooms.store.commit(commit.clone(), Until::Applied).await {
                Ok(()) => break,
                Err(error @ StoreError::Full { .. }) => {
                    tracing::error!(%error, "changes of system a wait");
                    self.rooms.clock.sleep(super::settle::DISK_FULL_MS).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.arrive(hints);
        Ok(())
    }

    /// Returns when there may be something for [`Pipeline::feed`].
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn wait_for_feed(&self) -> Result<(), PipelineError> {
        let cursor = self.rooms.store.value(CURSOR)?;
        self.rooms.internal.wait(cursor.as_deref()).await;
        Ok(())
    }
}

/// The write that this connection's own work made: its hint is undone until the link knows the version.
fn is_own(change: &Change, connection: &ConnectionId) -> bool {
    change.origin == origin_of(connection)
}
