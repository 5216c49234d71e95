//! Stored webhooks: what they say of which records. A provider's fault delays them and loses none.

use std::sync::Arc;

use tandem_core::exchange::{Context, Observed, Problem};
use tandem_core::id::{ExternalId, ObjectName};
use tandem_core::redact::redact_one;

use super::settle::End;
use super::{Clock, Connection, Pipeline, PipelineError};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::provider::Runtime;
use crate::store::{Class, Commit, Hint, Op, Store, Subject};

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    pub(super) async fn read_delivery(
        &self,
        connection: &Arc<Connection>,
        seq: u64,
    ) -> Result<End, PipelineError> {
        let mut commit = Commit::new();
        let Some(stored) = self.rooms.store.delivery(seq)? else {
            return Ok(End::Done(commit));
        };
        let context = Context { now: self.rooms.clock.now(), attributes: Vec::new() };
        let received_at = stored.received_at;
        let delivery = stored.delivery;
        let read = self
            .rooms
            .runtime
            .visit(&connection.binding, move |provider| {
                let read = provider.receive(&delivery, &context)?;
                Ok(read.map_err(|mut problem| {
                    redact_one(&mut problem, &delivery.body);
                    problem
                }))
            })
            .await;
        let rows = match read {
            Ok(Ok(rows)) => rows,
            Ok(Err(problem)) => {
                return Ok(End::SetAside {
                    point: "provider-in",
                    problems: vec![problem],
                    entity: None,
                    commit,
                });
            }
            Err(fault) => return self.failed(connection, fault.into(), None, commit),
        };
        let rows = self.follow_merges(connection, rows)?;
        let hints = self.hints_of(connection, rows, Class::Live, "webhook", received_at);
        commit.push(Op::DropDelivery(seq));
        // The delivery, its hint and what came of it change hands in one commit.
        for hint in hints {
            commit.push(Op::AddHint(hint));
        }
        Ok(End::Done(commit))
    }

    /// Observations as hints of a connection. Objects that it does not keep are left out.
    pub(super) fn hints_of(
        &self,
        connection: &Connection,
        rows: Vec<Observed>,
        class: Class,
        cause: &str,
        noticed_at: u64,
    ) -> Vec<Hint> {
        let mut hints = Vec::with_capacity(rows.len());
        for row in rows {
            let object = ObjectName::from(row.object.as_str());
            if !connection.objects.contains_key(&object) || row.id.is_empty() {
                continue;
            }
            hints.push(Hint {
                seq: self.rooms.store.next_seq(),
                connection: connection.id.clone(),
                object,
                subject: Subject::External(ExternalId::from(row.id.as_str())),
                class,
                noticed_at,
                due: 0,
                attempts: 0,
                cause: cause.into(),
                observed: Some(row),
            });
        }
        hints
    }

    /// A hint to look at a CRM's record.
    pub(super) fn touched(
        &self,
        connection: &Connection,
        object: &ObjectName,
        id: &str,
        cause: &str,
    ) -> Hint {
        let now = self.rooms.clock.now();
        Hint {
            seq: self.rooms.store.next_seq(),
            connection: connection.id.clone(),
            object: object.clone(),
            subject: Subject::External(ExternalId::from(id)),
            class: Class::Live,
            noticed_at: now,
            due: 0,
            attempts: 0,
            cause: cause.into(),
            observed: Some(Observed::touched(object.as_str(), id)),
        }
    }
}

/// One problem in words.
pub(super) fn problem(code: &str, message: String) -> Problem {
    Problem { code: code.into(), message, pointer: None }
}
