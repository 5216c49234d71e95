//! Stored webhooks: what they say of which records. A provider's fault delays them and loses none, and an event that cannot be read
//! holds up no other that came with it.

use std::collections::HashSet;
use std::sync::Arc;

use serde::de::IgnoredAny;
use tandem_core::exchange::{Context, Delivery, Observed, Problem};
use tandem_core::id::{ExternalId, ObjectName};
use tandem_core::redact::redact_one;

use super::settle::End;
use super::{Clock, Connection, Pipeline, PipelineError};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::provider::{FaultKind, Runtime};
use crate::store::{Class, Commit, Hint, Op, Store, StoredDelivery, Subject};

/// Linked records that one page of a listing or one delivery tells of, and nobody did by hand one after the other: half of what CRMs put
/// into one (100 at HubSpot and Salesforce).
const MANY: usize = 50;

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
                if let Some(apart) = self.apart(connection, seq)? {
                    return Ok(End::Done(apart));
                }
                return Ok(End::SetAside {
                    point: "provider-in",
                    problems: vec![problem],
                    entity: None,
                    commit,
                });
            }
            Err(fault) => {
                let is_of_the_delivery = !matches!(
                    fault.kind,
                    FaultKind::Broken { .. } | FaultKind::Absent { .. } | FaultKind::Configure { .. }
                );
                if is_of_the_delivery && let Some(apart) = self.apart(connection, seq)? {
                    self.rooms.metrics.fault(&self.provider_of(connection), fault.kind.label());
                    return Ok(End::Done(apart));
                }
                return self.failed(connection, fault.into(), None, commit);
            }
        };
        let rows = self.follow_merges(connection, rows)?;
        let (linked, mut others) = self.by_link(connection, rows)?;
        let of_many = is_of_many(&linked);
        let (linked, background): (Vec<_>, Vec<_>) =
            linked.into_iter().partition(|row| !of_many && !is_background(row));
        others.extend(background);
        let mut hints = self.hints_of(connection, linked, Class::Live, "webhook", received_at);
        hints.extend(self.hints_of(connection, others, Class::Background, "webhook", received_at));
        commit.push(Op::DropDelivery(seq));
        // The delivery, its hint and what came of it change hands in one commit.
        for hint in hints {
            commit.push(Op::AddHint(hint));
        }
        Ok(End::Done(commit))
    }

    /// A delivery of several events that could not be read: each becomes a delivery of its own, so that it is tried again, or set
    /// aside, alone. None: there is only one.
    fn apart(&self, connection: &Connection, seq: u64) -> Result<Option<Commit>, PipelineError> {
        let webhooks = connection.binding.view().descriptor.webhooks.as_ref();
        if !webhooks.is_some_and(|webhooks| webhooks.array) {
            return Ok(None);
        }
        let Some(stored) = self.rooms.store.delivery(seq)? else { return Ok(None) };
        let Some(events) = elements(&stored.delivery.body).filter(|events| events.len() > 1) else {
            return Ok(None);
        };
        let mut commit = Commit::new();
        for event in events {
            let seq = self.rooms.store.next_seq();
            let body = [b"[", event, b"]"].concat();
            commit.push(Op::AddDelivery(StoredDelivery {
                seq,
                delivery: Delivery { body, ..stored.delivery.clone() },
                ..stored.clone()
            }));
            commit.push(Op::AddHint(Hint {
                seq: self.rooms.store.next_seq(),
                connection: stored.connection.clone(),
                object: "".into(),
                subject: Subject::Delivery(seq),
                class: Class::Interactive,
                noticed_at: stored.received_at,
                due: 0,
                attempts: 0,
                cause: "webhook".into(),
                observed: None,
            }));
        }
        commit.push(Op::DropDelivery(stored.seq));
        Ok(Some(commit))
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

/// The elements of an array as they were written. None: it is no array of JSON.
fn elements(body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut elements = Vec::new();
    let mut rest = body.trim_ascii().strip_prefix(b"[")?.trim_ascii_start();
    if rest == b"]" {
        return Some(elements);
    }
    loop {
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        let (element, after) = rest.split_at_checked(values.byte_offset())?;
        elements.push(element);
        rest = after.trim_ascii_start();
        match rest.split_first()? {
            (b',', next) => rest = next.trim_ascii_start(),
            (b']', []) => return Some(elements),
            _ => return None,
        }
    }
}

/// Whether the CRM says that a program did it, or somebody to many records at once, so that edits of people go first.
pub(super) fn is_background(row: &Observed) -> bool {
    row.attributes.iter().any(|attribute| attribute.name == "background" && attribute.value == "true")
}

/// Whether so many records are told of in one breath that somebody changed many at once, also where the CRM does not say so.
pub(super) fn is_of_many(rows: &[Observed]) -> bool {
    rows.iter().map(|row| (&row.object, &row.id)).collect::<HashSet<_>>().len() > MANY
}

/// One problem in words.
pub(super) fn problem(code: &str, message: String) -> Problem {
    Problem { code: code.into(), message, pointer: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_many_is_counted_by_records_and_not_by_events() {
        let row = |id: usize| Observed::touched("contact", id.to_string());
        let of = |ids: std::ops::Range<usize>| ids.map(row).collect::<Vec<_>>();
        assert!(!is_of_many(&of(0..50)));
        assert!(is_of_many(&of(0..51)));
        assert!(!is_of_many(&[of(0..50), of(0..50)].concat()), "two events of each");
    }

    #[test]
    fn the_elements_of_an_array_are_its_own_bytes() {
        let body = br#" [ {"a":"],["} ,12345678901234567890.10,[1,[2]], "x" ] "#;
        let expected: [&[u8]; 4] = [br#"{"a":"],["}"#, b"12345678901234567890.10", b"[1,[2]]", br#""x""#];
        assert_eq!(elements(body).unwrap(), expected);
        assert_eq!(elements(b"[]").unwrap().len(), 0);
        for body in [&b""[..], b"{}", b"[", b"[1", b"[1,]", b"[1 2]", b"[1]x", b"[,1]"] {
            assert_eq!(elements(body), None, "{}", String::from_utf8_lossy(body));
        }
    }
}
