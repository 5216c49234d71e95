//! What a first sync would find, piece by piece: both sides are read, neither is written, and nothing is linked.
//!
//! The CRM's records are listed by the provider's walk, as bulk work within the account's quotas; no cursor of the daemon's own
//! listings is touched and no hint is made.

use std::sync::Arc;

use tandem_core::Millis;
use tandem_core::exchange::{Answer, Listing, Operation, Reference};
use tandem_core::id::{EntityKey, ExternalKey, InternalId, ObjectName};
use tandem_core::link::{Fields, Life};
use tandem_core::matching::{Closed, Differences, Kind, Row, compare, identity_of};
use tandem_core::plan::Internal as InternalState;

use super::exchange::{Body, Concluded, ExchangeError, Seen, see};
use super::settle::End;
use super::{Clock, Connection, Object, Pipeline, PipelineError};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::provider::Runtime;
use crate::store::{Class, Commit, Store};

/// Rows of a page.
const PAGE: u32 = 100;

/// One record of the CRM, and what it is known by.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// What it would be, as far as it alone tells.
    pub row: Row,
    /// Identity fields and their normal forms.
    pub identity: Vec<(String, String)>,
}

/// A piece of the CRM's records.
#[derive(Debug)]
pub enum Piece {
    /// Records.
    Records {
        /// In the CRM's order. Records that were gone when they were read are left out.
        records: Vec<Compared>,
        /// Where the next piece starts.
        cursor: Vec<u8>,
        /// Whether there is more.
        more: bool,
        /// Requests that were sent.
        calls: u32,
    },
    /// Not before this moment: a quota, a pause, an outage.
    NotBefore(Millis),
    /// The records cannot be listed: why.
    Refused(String),
}

/// A piece of System A's records.
#[derive(Debug)]
pub struct InternalPiece {
    /// Those that no record of the CRM is, or may be.
    pub rows: Vec<Row>,
    /// How many records were gone through.
    pub seen: u64,
    /// Where the next piece starts.
    pub cursor: Vec<u8>,
    /// Whether there is more.
    pub more: bool,
}

enum Halt {
    NotBefore(Millis),
    Refused(String),
}

impl From<Halt> for Piece {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::NotBefore(at) => Self::NotBefore(at),
            Halt::Refused(why) => Self::Refused(why),
        }
    }
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// The next piece of the CRM's records, each with what it would be.
    ///
    /// # Errors
    /// The store or System A is out of order.
    pub async fn compare_external(
        &self,
        connection: &Arc<Connection>,
        object: &ObjectName,
        cursor: Option<Vec<u8>>,
    ) -> Result<Piece, PipelineError> {
        let Some(known) = connection.objects.get(object) else {
            return Ok(Piece::Refused(format!("connection {} keeps no object {object}", connection.id)));
        };
        let operation = Operation::Walk(Listing { object: object.to_string(), cursor, limit: PAGE });
        let concluded = match self.asked(connection, operation).await? {
            Ok(concluded) => concluded,
            Err(halt) => return Ok(halt.into()),
        };
        let mut calls = concluded.calls;
        let page = match concluded.answer {
            Answer::Page(page) => page,
            Answer::CursorLost(why) => {
                return Ok(Piece::Refused(format!(
                    "the CRM's listing cannot be gone on with: {why}; ask again"
                )));
            }
            answer => return Ok(self.halted(connection, answer).into()),
        };
        let room = connection.clone();
        let rows = page.rows;
        let seen = self
            .rooms
            .runtime
            .visit(&connection.binding, move |provider| {
                rows.into_iter().map(|row| see(provider, &room, row)).collect::<Result<Vec<Seen>, _>>()
            })
            .await;
        let seen = match seen {
            Ok(seen) => seen,
            Err(fault) => {
                return Ok(self.halt(self.failed(connection, fault.into(), None, Commit::new())?).into());
            }
        };
        let mut records = Vec::with_capacity(seen.len());
        for mut seen in seen {
            if matches!(seen.body, Body::Touched | Body::Partial(_)) {
                // The listing does not say enough of it.
                let read = Operation::Read(Reference { object: object.to_string(), id: seen.id.to_string() });
                let mut concluded = match self.asked(connection, read).await? {
                    Ok(concluded) => concluded,
                    Err(halt) => return Ok(halt.into()),
                };
                calls += concluded.calls;
                seen = match (concluded.answer, concluded.seen.pop()) {
                    (Answer::Current(_), Some(read)) => read,
                    (answer, _) => return Ok(self.halted(connection, answer).into()),
                };
            }
            records.extend(self.compare_record(connection, object, known, seen).await?);
        }
        Ok(Piece::Records { records, cursor: page.cursor, more: page.more, calls })
    }

    /// One question to the CRM, as bulk work. The inner error: not now, or not at all.
    async fn asked(
        &self,
        connection: &Arc<Connection>,
        operation: Operation,
    ) -> Result<Result<Concluded, Halt>, PipelineError> {
        match self.exchange(connection, Class::Backfill, None, move |_| Ok(Ok(operation))).await {
            Ok(concluded) => Ok(Ok(concluded)),
            Err(ExchangeError::Pipeline(error)) => Err(error),
            Err(error) => Ok(Err(self.halt(self.failed(connection, error, None, Commit::new())?))),
        }
    }

    fn halted(&self, connection: &Connection, answer: Answer) -> Halt {
        self.halt(self.waits(connection, answer, None, Commit::new()))
    }

    fn halt(&self, end: End) -> Halt {
        let now = self.rooms.clock.now();
        match end {
            End::PutBack { until, .. } | End::Later { until, .. } | End::Missed { until, .. } => {
                Halt::NotBefore(until)
            }
            End::Again { not_before, .. } => Halt::NotBefore(not_before.max(now.saturating_add(5_000))),
            End::SetAside { point, problems, .. } => {
                let said = problems.first().map_or("", |problem| problem.message.as_str());
                Halt::Refused(format!("the CRM's records cannot be listed ({point}): {said}"))
            }
            End::Done(_) | End::Clash { .. } => Halt::NotBefore(now.saturating_add(60_000)),
        }
    }

    /// What a record of the CRM would be. None: it is gone.
    async fn compare_record(
        &self,
        connection: &Connection,
        object: &ObjectName,
        known: &Object,
        seen: Seen,
    ) -> Result<Option<Compared>, PipelineError> {
        let key =
            ExternalKey { connection: connection.id.clone(), object: object.clone(), id: seen.id.clone() };
        let row = |kind, internal, why| Row {
            kind,
            external: Some(seen.id.clone()),
            internal,
            differences: Differences::default(),
            why,
        };
        let fields = match &seen.body {
            Body::Whole(fields) => fields,
            Body::Gone(_) | Body::Moved(_) | Body::Touched | Body::Partial(_) => return Ok(None),
            Body::Invalid { point, problems } => {
                let told = problems.first().map_or_else(String::new, |problem| {
                    format!("{} {}", problem.pointer.as_deref().unwrap_or_default(), problem.code)
                });
                let row = row(Kind::Invalid, Vec::new(), format!("{point}: {}", told.trim()));
                return Ok(Some(Compared { row, identity: Vec::new() }));
            }
        };
        let identity = identity_of(fields, &known.policy);
        if let Some(entity) = self.rooms.store.entity_of(&key)? {
            let link = self.rooms.store.link(&entity, &connection.id)?;
            if link.is_some_and(|link| link.life == Life::Active) {
                return Ok(Some(Compared {
                    row: row(Kind::Linked, vec![entity.id], String::new()),
                    identity,
                }));
            }
        }
        let candidates: Vec<EntityKey> = match self.entity_by_key(connection, &key, &seen).await? {
            Some((entity, true)) => vec![entity],
            _ if identity.is_empty() => Vec::new(),
            _ => {
                let found = self.rooms.internal.find(&connection.scope, object, &identity).await?;
                let entity = |id| EntityKey { scope: connection.scope.clone(), object: object.clone(), id };
                found.into_iter().map(entity).collect()
            }
        };
        let ids: Vec<InternalId> = candidates.iter().map(|entity| entity.id.clone()).collect();
        let row = match candidates.as_slice() {
            [] if identity.is_empty() => row(Kind::WithoutIdentity, ids, String::new()),
            [] => row(Kind::OnlyCrm, ids, String::new()),
            [only] => {
                let link =
                    self.rooms.store.link(only, &connection.id)?.filter(|link| link.life == Life::Active);
                match link.and_then(|link| link.external) {
                    Some(other) => {
                        let why = format!("that record is linked to {other} of the CRM");
                        row(Kind::Ambiguous, ids, why)
                    }
                    None => {
                        let mut matched = row(Kind::Match, ids, String::new());
                        matched.differences =
                            self.differences(connection, known, only, &seen, fields).await?;
                        matched
                    }
                }
            }
            _ => row(
                Kind::Ambiguous,
                ids,
                "its identity fields are those of different records of System A".to_owned(),
            ),
        };
        Ok(Some(Compared { row, identity }))
    }

    async fn differences(
        &self,
        connection: &Connection,
        known: &Object,
        entity: &EntityKey,
        seen: &Seen,
        fields: &Fields,
    ) -> Result<Differences, PipelineError> {
        let (InternalState::Present { fields: internal, .. }, _) = self.read_internal(entity).await? else {
            return Ok(Differences::default());
        };
        let now = self.rooms.clock.now();
        let names = (entity, &connection.id);
        Ok(compare(names, &seen.id, internal, fields.clone(), &known.policy, now))
    }

    /// The next piece of System A's records: those that no record of the CRM is, or may be.
    ///
    /// # Errors
    /// The store or System A is out of order.
    pub async fn compare_internal(
        &self,
        connection: &Connection,
        object: &ObjectName,
        cursor: Option<&[u8]>,
        closed: &Closed,
    ) -> Result<InternalPiece, PipelineError> {
        let changes = self.rooms.internal.changes(cursor, 512).await?;
        let (mut rows, mut seen) = (Vec::new(), 0);
        let Some(known) = connection.objects.get(object) else {
            return Ok(InternalPiece { rows, seen, cursor: changes.cursor, more: false });
        };
        for change in changes.changes {
            if change.scope != connection.scope || change.object != *object {
                continue;
            }
            let entity = EntityKey { scope: change.scope, object: change.object, id: change.id };
            let (InternalState::Present { fields, .. }, _) = self.read_internal(&entity).await? else {
                continue;
            };
            seen += 1;
            if closed.is_claimed(&entity.id) {
                continue;
            }
            let link =
                self.rooms.store.link(&entity, &connection.id)?.filter(|link| link.life == Life::Active);
            let external = link.and_then(|link| link.external);
            let kind = if external.is_some() {
                Kind::Linked
            } else if identity_of(&fields, &known.policy).is_empty() {
                Kind::WithoutIdentity
            } else {
                Kind::OnlySystemA
            };
            rows.push(Row {
                kind,
                external,
                internal: vec![entity.id],
                differences: Differences::default(),
                why: String::new(),
            });
        }
        Ok(InternalPiece { rows, seen, cursor: changes.cursor, more: changes.more })
    }
}
