//! System A's change feed: each change becomes a hint for every connection of its scope.

use tandem_core::id::ConnectionId;

use super::{Clock, Pipeline, PipelineError};
use crate::delivery::Deliver;
use crate::internal::{Change, Internal};
use crate::provider::Runtime;
use crate::store::{Class, Commit, Hint, Op, Store, Subject, Until};

const CURSOR: &str = "cursor/system-a";

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
        let by_scope = self.by_scope.load();
        let mut hints = Vec::with_capacity(piece.changes.len());
        for change in &piece.changes {
            let Some(connections) = by_scope.get(&change.scope) else { continue };
            for connection in connections {
                if connection.objects.contains_key(&change.object) && !is_own(change, &connection.id) {
                    hints.push(Hint {
                        seq: self.rooms.store.next_seq(),
                        connection: connection.id.clone(),
                        object: change.object.clone(),
                        subject: Subject::Internal(change.id.clone()),
                        class: Class::Live,
                        noticed_at: change.at,
                        due: 0,
                        attempts: 0,
                        cause: "edit".into(),
                        observed: None,
                    });
                }
            }
        }
        let mut commit = Commit::new();
        for hint in &hints {
            commit.push(Op::AddHint(hint.clone()));
        }
        commit.push(Op::PutValue(CURSOR.into(), piece.cursor));
        self.rooms.store.commit(commit, Until::Applied).await?;
        self.arrive(hints);
        Ok(true)
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
    change.origin.strip_prefix("tandem:") == Some(connection.as_str())
}
