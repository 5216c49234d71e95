//! Listings of a CRM: what changed since a cursor, and all records. Rows become hints; what a link knows already does not.

use std::sync::Arc;

use tandem_core::descriptor::Condition;
use tandem_core::exchange::{Answer, Listing, Observed, Operation, State};
use tandem_core::id::{ExternalId, ExternalKey, ObjectName};

use super::inbox::is_of_many;
use super::settle::End;
use super::{Clock, Connection, Pipeline, PipelineError};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::provider::Runtime;
use crate::store::{Class, Commit, Op, Store, StoreError, Until};

/// Rows of a page.
const PAGE: u32 = 100;

/// Which listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What changed since the cursor.
    Changes,
    /// All records.
    Walk,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Changes => "changes",
            Self::Walk => "walk",
        }
    }
}

/// How a look at a listing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// There is more at once.
    More,
    /// That was all.
    All,
    /// It could not be looked at; not before this moment.
    NotBefore(u64),
    /// The cursor is of no use any more: all records have to be walked.
    CursorLost,
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    fn cursor_name(connection: &Connection, object: &ObjectName, kind: Kind) -> String {
        format!("cursor/{}/{}/{object}", kind.name(), connection.id)
    }

    /// Looks at the next page of a listing. Cursor and hints are one commit.
    ///
    /// # Errors
    /// The store or System A is out of order.
    pub async fn look_at_listing(
        &self,
        connection: &Arc<Connection>,
        object: &ObjectName,
        kind: Kind,
    ) -> Result<Looked, PipelineError> {
        let name = Self::cursor_name(connection, object, kind);
        let listing =
            Listing { object: object.to_string(), cursor: self.rooms.store.value(&name)?, limit: PAGE };
        let class = match kind {
            Kind::Changes => Class::Reconcile,
            Kind::Walk => Class::Backfill,
        };
        let operation = match kind {
            Kind::Changes => Operation::Changes(listing),
            Kind::Walk => Operation::Walk(listing),
        };
        let now = self.rooms.clock.now();
        let concluded = match self.exchange(connection, class, None, move |_| Ok(Ok(operation))).await {
            Ok(concluded) => concluded,
            Err(error) => {
                let end = self.failed(connection, error, None, Commit::new())?;
                if let End::SetAside { point, problems, .. } = &end {
                    let code = problems.first().map_or("", |problem| problem.code.as_str());
                    tracing::warn!(connection = %connection.id, %object, point, code, "a listing cannot be read; it is tried again");
                }
                return Ok(not_before(&end, now));
            }
        };
        let page = match concluded.answer {
            Answer::Page(page) => page,
            Answer::CursorLost(why) => {
                tracing::warn!(connection = %connection.id, %object, why, "the cursor is lost; all records are walked");
                let mut commit = Commit::new();
                commit.push(Op::DropValue(name));
                self.rooms.store.commit(commit, Until::Applied).await?;
                return Ok(Looked::CursorLost);
            }
            answer => return Ok(not_before(&self.waits(connection, answer, None, Commit::new()), now)),
        };
        let (linked_or_gone, mut others) =
            self.by_link(connection, self.follow_merges(connection, page.rows)?)?;
        let mut linked = Vec::new();
        for row in linked_or_gone {
            if !self.is_known(connection, &row)? {
                linked.push(row);
            }
        }
        let cause = match kind {
            Kind::Changes => "poll",
            Kind::Walk => "walk",
        };
        let (of_linked, of_others) = match kind {
            // Where the CRM has pushes, each of them was told by one, too.
            Kind::Changes if is_of_many(&linked) => (Class::Background, Class::Background),
            Kind::Changes => (Class::Live, Class::Background),
            Kind::Walk => (Class::Backfill, Class::Backfill),
        };
        // Whoever waits for creates waits for those that the CRM may have carried out by the time it answered; what a row says of a
        // record is not looked at then, it is read before it is taken in.
        let answered = self.rooms.clock.now();
        let place = (connection.id.clone(), object.clone());
        let mut noticed_at = now;
        if self.creates.lock().any_opened_within(&place, now, answered) {
            others = others.into_iter().map(|row| Observed { state: State::Touched, ..row }).collect();
            noticed_at = answered;
        }
        let mut hints = self.hints_of(connection, linked, of_linked, cause, now);
        hints.extend(self.hints_of(connection, others, of_others, cause, noticed_at));
        let mut commit = Commit::new();
        for hint in &hints {
            commit.push(Op::AddHint(hint.clone()));
        }
        commit.push(Op::PutValue(name, page.cursor));
        match self.rooms.store.commit(commit, Until::Applied).await {
            Err(StoreError::Full { .. }) => {
                return Ok(Looked::NotBefore(now.saturating_add(super::settle::DISK_FULL_MS)));
            }
            done => done?,
        }
        if kind == Kind::Walk {
            self.note_walk(&connection.id, object, page.more);
        }
        self.arrive(hints);
        if kind == Kind::Walk && !page.more {
            // Where none of its rows brought work, or all of it was done by now.
            Box::pin(self.weigh(connection)).await?;
        }
        Ok(if page.more { Looked::More } else { Looked::All })
    }

    /// Starts a listing over.
    ///
    /// # Errors
    /// The store does not take it.
    pub async fn forget_cursor(
        &self,
        connection: &Connection,
        object: &ObjectName,
        kind: Kind,
    ) -> Result<(), PipelineError> {
        let mut commit = Commit::new();
        commit.push(Op::DropValue(Self::cursor_name(connection, object, kind)));
        self.rooms.store.commit(commit, Until::Applied).await?;
        Ok(())
    }

    /// Whether a listing has been looked at before.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn has_cursor(
        &self,
        connection: &Connection,
        object: &ObjectName,
        kind: Kind,
    ) -> Result<bool, PipelineError> {
        Ok(self.rooms.store.value(&Self::cursor_name(connection, object, kind))?.is_some())
    }

    /// Rows of linked records, and of others that are there.
    pub(super) fn by_link(
        &self,
        connection: &Connection,
        rows: Vec<Observed>,
    ) -> Result<(Vec<Observed>, Vec<Observed>), PipelineError> {
        let (mut linked, mut others) = (Vec::new(), Vec::new());
        for row in rows {
            let external = ExternalKey {
                connection: connection.id.clone(),
                object: ObjectName::from(row.object.as_str()),
                id: ExternalId::from(row.id.as_str()),
            };
            let is_there = !matches!(row.state, State::Gone(_) | State::Moved(_));
            if is_there && self.rooms.store.entity_of(&external)?.is_none() {
                others.push(row);
            } else {
                linked.push(row);
            }
        }
        Ok((linked, others))
    }

    /// A row that is no newer than what the link has seen says nothing; nor does one of a record that has moved and that nobody is
    /// linked to, since the record that it moved to has a row of its own.
    fn is_known(&self, connection: &Connection, row: &Observed) -> Result<bool, PipelineError> {
        if !matches!(row.state, State::Whole(_) | State::Moved(_)) {
            return Ok(false);
        }
        let external = ExternalKey {
            connection: connection.id.clone(),
            object: ObjectName::from(row.object.as_str()),
            id: ExternalId::from(row.id.as_str()),
        };
        let is_moved = matches!(row.state, State::Moved(_));
        let Some(entity) = self.rooms.store.entity_of(&external)? else { return Ok(is_moved) };
        if is_moved {
            return Ok(false);
        }
        let Some(link) = self.rooms.store.link(&entity, &connection.id)? else { return Ok(false) };
        // Of two edits in one second the second one leaves the stamp as it was: its row is planned, and dismissed by its values.
        let coarse = connection
            .objects
            .get(&external.object)
            .is_some_and(|object| object.abilities.condition == Condition::Second);
        Ok(match (row.stamp, link.external_stamp) {
            (Some(row), Some(known)) if coarse => row < known,
            (Some(row), Some(known)) => row <= known,
            _ => row.version.is_some() && row.version == link.external_version,
        })
    }
}

fn not_before(end: &End, now: u64) -> Looked {
    Looked::NotBefore(match end {
        End::PutBack { until, .. } | End::Later { until, .. } | End::Missed { until, .. } => *until,
        End::Again { not_before, .. } => (*not_before).max(now.saturating_add(5_000)),
        End::Done(_) | End::Clash { .. } | End::SetAside { .. } => now.saturating_add(60_000),
    })
}
