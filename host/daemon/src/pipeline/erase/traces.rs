//! What the store has of a person, taken away and looked for afterwards: links, history, intents, letters, waiting hints, webhooks that
//! were not read, questions, withheld writes, and what was kept for undoing.
//!
//! Invariant: what is there afterwards is counted anew; of what is too much to look through nothing is said to be gone.

use tandem_core::Millis;
use tandem_core::clash::Waits;
use tandem_core::exchange::Delivery;
use tandem_core::id::{ConnectionId, EntityKey, ExternalId, ObjectName};
use tandem_core::link::Link;

use super::{Order, Place, TRIES};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::pipeline::guard::Selection;
use crate::pipeline::{Clock, Pipeline, PipelineError};
use crate::provider::Runtime;
use crate::store::{Class, Commit, Hint, Op, Store, StoreError, StoredDelivery, Subject, Until};

/// Delayed hints, or letters of one connection, that are looked through. With more, nothing is said to be gone.
const MOST: usize = 100_000;

/// Waiting hints that are read at once.
const HINTS: usize = 1024;

/// One kind of thing that the store has of a record.
struct Trace {
    what: &'static str,
    count: usize,
    ops: Vec<Op>,
    /// There was more than could be looked through.
    cut: bool,
}

impl Order {
    /// Whether a webhook that waits to be read has something of the record: it came before the CRM had forgotten it.
    fn is_told_by(&self, stored: &StoredDelivery) -> bool {
        let copies = self.copies.iter().filter(|copy| copy.connection == stored.connection);
        let before =
            copies.filter(|copy| copy.done.as_ref().is_none_or(|done| stored.received_at <= done.at));
        names_any(&stored.delivery, &before.map(|copy| &copy.id).collect::<Vec<_>>())
    }
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Erases what the store knows of a record, and looks for it afterwards. What the erasure itself was told of meanwhile is erased
    /// like the rest.
    pub(super) async fn erase_traces(
        &self,
        entity: &EntityKey,
        order: &Order,
        in_doubt: &[ConnectionId],
    ) -> Result<Vec<Place>, PipelineError> {
        let mut found = self.traces(entity, order, in_doubt)?;
        let mut counts: Vec<usize> = found.iter().map(|trace| trace.count).collect();
        for tried in 1..=TRIES {
            self.drop_traces(entity, &found).await?;
            found = self.traces(entity, order, in_doubt)?;
            if tried == TRIES || found.iter().all(|trace| trace.ops.is_empty()) {
                break;
            }
            for (count, more) in counts.iter_mut().zip(&found) {
                *count = count.saturating_add(more.ops.len());
            }
        }
        let places = counts.into_iter().zip(found).map(|(before, after)| Place {
            place: after.what.to_owned(),
            what: match (before, after.count) {
                _ if after.cut => {
                    format!("more than {MOST}, which is too many to look through; it is tried again")
                }
                (0, 0) => "nothing was there".to_owned(),
                (1, 0) => "1 was there and is gone".to_owned(),
                (count, 0) => format!("{count} were there and are gone"),
                (_, left) => format!("{left} left; they are gone once the daemon has read them"),
            },
            gone: after.count == 0 && !after.cut,
        });
        Ok(places.collect())
    }

    async fn drop_traces(&self, entity: &EntityKey, found: &[Trace]) -> Result<(), PipelineError> {
        let ops = || found.iter().flat_map(|trace| &trace.ops);
        let mut commit = Commit::new();
        commit.ops.extend(ops().cloned());
        commit.push(Op::DropHistory(entity.clone()));
        self.rooms.store.commit(commit, Until::Durable).await?;
        let hints = ops().filter_map(|op| if let Op::AddHint(hint) = op { Some(hint.clone()) } else { None });
        self.arrive(hints.collect());
        self.ledger.lock().forget(entity);
        for op in ops() {
            if let Op::DropIntent(_, connection) = op {
                self.close_create(&Link::new(entity.clone(), connection.clone()));
                self.unsettled.lock().remove(&(connection.clone(), entity.clone()));
            }
        }
        Ok(())
    }

    /// Everything that the store has of a record, with the changes that take it away. By the intent of a create that is in doubt at a
    /// connection its record is still to be found: it stays.
    fn traces(
        &self,
        entity: &EntityKey,
        order: &Order,
        in_doubt: &[ConnectionId],
    ) -> Result<Vec<Trace>, PipelineError> {
        let store = &self.rooms.store;
        let links = store.links(entity)?;
        let mut connections: Vec<ConnectionId> = self
            .connections()
            .iter()
            .filter(|found| found.scope == entity.scope)
            .map(|found| found.id.clone())
            .collect();
        connections.extend(links.iter().map(|link| link.connection.clone()));
        connections.extend(order.copies.iter().map(|copy| copy.connection.clone()));
        connections.sort();
        connections.dedup();
        let mut link_ops = Vec::new();
        for link in &links {
            link_ops.push(Op::DropLink(entity.clone(), link.connection.clone()));
        }
        let (mut intents, mut letters, mut hints, mut withheld, mut kept) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut clashes, mut clash_ops) = (0, Vec::new());
        let (mut unread, mut many_letters, mut many_hints) = (0, false, false);
        let history = store.history(entity, usize::MAX)?.len();
        for connection in &connections {
            if store.intent(entity, connection)?.is_some() && !in_doubt.contains(connection) {
                intents.push(Op::DropIntent(entity.clone(), connection.clone()));
            }
            let ids: Vec<&ExternalId> = order
                .copies
                .iter()
                .filter(|copy| copy.connection == *connection)
                .map(|copy| &copy.id)
                .collect();
            let is_about = |object: &ObjectName, subject: &Subject| {
                *object == entity.object
                    && match subject {
                        Subject::Internal(id) => *id == entity.id,
                        Subject::External(id) => ids.contains(&id),
                        Subject::Delivery(_) => false,
                    }
            };
            let dead = store.dead(Some(connection), MOST)?;
            many_letters |= dead.len() >= MOST;
            for letter in dead {
                let of_entity = letter.entity.as_ref() == Some(entity);
                if of_entity || is_about(&letter.hint.object, &letter.hint.subject) {
                    letters.push(Op::DropDead(letter.seq));
                } else if let Subject::Delivery(seq) = letter.hint.subject
                    && store.delivery(seq)?.is_some_and(|stored| names_any(&stored.delivery, &ids))
                {
                    letters.push(Op::DropDead(letter.seq));
                    letters.push(Op::DropDelivery(seq));
                }
            }
            let mut look_at = |hint: &Hint| -> Result<(), StoreError> {
                if is_about(&hint.object, &hint.subject) {
                    hints.push(Op::DropHint(hint.key()));
                } else if let Subject::Delivery(seq) = hint.subject
                    && store.delivery(seq)?.is_some_and(|stored| order.is_told_by(&stored))
                {
                    unread += 1;
                }
                Ok(())
            };
            for class in Class::ALL {
                let mut after = 0;
                loop {
                    let page = store.ready(connection, class, after, HINTS)?;
                    let Some(last) = page.last() else { break };
                    after = last.seq;
                    page.iter().try_for_each(&mut look_at)?;
                }
            }
            if store.backlog(connection)?.delayed > 0 {
                let delayed = store.delayed(Millis::MAX, MOST)?;
                many_hints |= delayed.len() >= MOST;
                delayed.iter().filter(|hint| hint.connection == *connection).try_for_each(&mut look_at)?;
            }
            if let Some(connection) = self.connection(connection) {
                let copies = ids.iter().map(|id| Waits::External((*id).clone()));
                let records = std::iter::once(Waits::Internal(entity.id.clone())).chain(copies);
                let (count, ops) = self.erased_clashes(&connection, &entity.object, records)?;
                clashes += count;
                clash_ops.extend(ops);
            }
            withheld.extend(self.drop_withheld(entity, connection)?);
            // A record of the CRM may have belonged to another one before, which was deleted.
            let of_object = Selection {
                connection: Some(connection.clone()),
                object: Some(entity.object.clone()),
                scope: Some(entity.scope.clone()),
                ids: Vec::new(),
                batch: None,
            };
            self.each_kept(&of_object, |name, row| {
                if row.entity == *entity || row.external.is_some_and(|id| ids.contains(&&id)) {
                    kept.push(Op::DropValue(name));
                }
                Ok(())
            })?;
        }
        let trace = |what: &'static str, ops: Vec<Op>| Trace { what, count: ops.len(), ops, cut: false };
        Ok(vec![
            trace("links, with what both sides had", link_ops),
            Trace { count: history, ..trace("history", Vec::new()) },
            trace("writes under way", intents),
            Trace { cut: many_letters, ..trace("records set aside, with stored webhooks", letters) },
            Trace { cut: many_hints, ..trace("waiting hints", hints) },
            Trace { count: unread, ..trace("webhooks that were not read yet", Vec::new()) },
            Trace { count: clashes, ..trace("questions whom a record is", clash_ops) },
            trace("withheld writes", withheld),
            trace("deleted records kept for undoing", kept),
        ])
    }
}

/// Whether a webhook that nobody could read names one of these ids.
fn names_any(delivery: &Delivery, ids: &[&ExternalId]) -> bool {
    let body = String::from_utf8_lossy(&delivery.body);
    ids.iter().any(|id| names(&body, id.as_str()))
}

/// Whether a text has an id in it that is not part of a longer one.
fn names(text: &str, id: &str) -> bool {
    let is_part = |found: Option<char>| found.is_some_and(char::is_alphanumeric);
    text.match_indices(id).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let behind = text.get(at.saturating_add(id.len())..).and_then(|behind| behind.chars().next());
        !is_part(before) && !is_part(behind)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Copy, Done};
    use super::*;

    #[test]
    fn an_id_is_named_where_it_is_not_part_of_another_one() {
        for (text, is_named) in [
            (r#"[{"objectId":512,"propertyValue":"x"}]"#, true),
            (r#"{"id":"512"}"#, true),
            ("512", true),
            (r#"{"id":15123}"#, false),
            (r#"{"id":"a512"} {"other":"5123"}"#, false),
            ("", false),
        ] {
            assert_eq!(names(text, "512"), is_named, "{text}");
        }
    }

    #[test]
    fn a_webhook_that_came_before_the_crm_forgot_tells_of_the_record() {
        let copy = |done| Copy { connection: "crm".into(), id: "512".into(), done };
        let stored = |connection: &str, received_at| StoredDelivery {
            seq: 1,
            connection: connection.into(),
            received_at,
            delivery: Delivery { body: br#"[{"objectId":512}]"#.to_vec(), ..Delivery::default() },
        };
        let entity = EntityKey { scope: "acme".into(), object: "contact".into(), id: "a".into() };
        let order =
            |done| Order { entity: entity.clone(), since: 5, copies: vec![copy(done)], keys: Vec::new() };
        assert!(order(None).is_told_by(&stored("crm", 9)));
        assert!(!order(None).is_told_by(&stored("other", 9)));
        let done = Some(Done { how: "erased".into(), at: 7 });
        assert!(order(done.clone()).is_told_by(&stored("crm", 7)));
        assert!(!order(done).is_told_by(&stored("crm", 8)), "what came later has an id and nothing else");
    }
}
