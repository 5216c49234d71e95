//! Delayed hints whose time has come.
//!
//! Invariant: whoever cannot go on holds up nobody else. Hints that are due stay in the store until their work is done, and those of a
//! connection that is disabled or was removed stay there for long: so beside the earliest ones, those behind them are looked at in
//! turn. A look is bounded, however many are due.

use tandem_core::Millis;

use crate::store::{Hint, Store, StoreError};

/// Hints for each half of a look.
const MOST: usize = 256;

/// Where the turn is.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The time and the number of the last hint that was looked at.
    behind: (Millis, u64),
}

impl Turn {
    /// The earliest hints that are due, and some of those behind them.
    pub(super) fn due<S: Store>(&mut self, store: &S, now: Millis) -> Result<Vec<Hint>, StoreError> {
        let mut due = store.delayed(now, MOST)?;
        let place = |hint: &Hint| (hint.due, hint.seq);
        let Some(last) = due.last().map(place).filter(|_| due.len() == MOST) else {
            self.behind = (0, 0);
            return Ok(due);
        };
        let more = store.delayed_after(self.behind.max(last), now, MOST)?;
        self.behind = more.last().map(place).filter(|_| more.len() == MOST).unwrap_or_default();
        due.extend(more);
        Ok(due)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::store::{Class, Commit, Op, Subject, Until};

    fn hint(seq: u64, connection: &str) -> Hint {
        Hint {
            seq,
            connection: connection.into(),
            object: "contact".into(),
            subject: Subject::Internal(format!("i{seq}").as_str().into()),
            class: Class::Retry,
            noticed_at: 0,
            due: seq,
            attempts: 1,
            cause: "test".into(),
            observed: None,
        }
    }

    #[tokio::test]
    async fn a_connection_that_goes_nowhere_holds_up_no_other_ones_retries() {
        let (store, mut turn) = (MemoryStore::default(), Turn::default());
        let stuck = 3 * MOST as u64;
        let mut commit = Commit::new();
        for seq in 1..=stuck {
            commit.push(Op::AddHint(hint(seq, "disabled")));
        }
        commit.push(Op::AddHint(hint(stuck + 1, "well"))).push(Op::AddHint(hint(stuck + 9, "not-yet")));
        store.commit(commit, Until::Applied).await.unwrap();
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            let due = turn.due(&store, stuck + 1).unwrap();
            assert!(due.len() <= 2 * MOST, "a look is bounded");
            seen.extend(due.iter().map(|hint| hint.seq));
        }
        assert_eq!(seen, (1..=stuck + 1).collect(), "all that is due, and nothing that is not");
    }
}
