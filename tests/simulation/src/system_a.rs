//! A model System A: versions, a change feed, addresses that belong to one record, deletions that are remembered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use serde_json::{Map, Value};
use tandem::internal::{Change as Entry, Changes, Expected, Internal, InternalError, Outcome, Record, Write};
use tandem_core::Millis;
use tandem_core::exchange::Problem;
use tandem_core::id::{InternalId, ObjectName, ScopeId};

use crate::history::{Change, History, Side, What, Who};
use crate::plant::Plant;
use crate::shared::Shared;
use crate::values::{CODE, FIELDS, OBJECT, SCHEMAS, blank};
use crate::wire::Faults;
use crate::world::Event;

#[derive(Clone)]
struct Kept {
    version: u64,
    changed_at: Millis,
    origin: String,
    document: Option<Map<String, Value>>,
}

impl Kept {
    fn record(&self) -> Record {
        Record {
            version: self.version,
            changed_at: self.changed_at,
            origin: self.origin.clone(),
            document: self.document.clone().map(Value::Object),
        }
    }
}

#[derive(Default)]
struct State {
    records: BTreeMap<String, Kept>,
    feed: Vec<Entry>,
    version: u64,
    born: u64,
    waiting: Vec<Waker>,
}

/// System A with one scope.
pub(crate) struct SystemA {
    shared: Arc<Shared<Event>>,
    history: Arc<Mutex<History>>,
    state: Mutex<State>,
    scope: ScopeId,
    faults: Arc<Mutex<Faults>>,
    plant: Option<Plant>,
}

fn address(document: &Map<String, Value>) -> Option<String> {
    let text = document.get("email")?.as_str()?.trim().to_lowercase();
    (!text.is_empty()).then_some(text)
}

impl SystemA {
    pub(crate) fn new(
        shared: Arc<Shared<Event>>,
        history: Arc<Mutex<History>>,
        faults: Arc<Mutex<Faults>>,
        plant: Option<Plant>,
    ) -> Self {
        Self { shared, history, state: Mutex::default(), scope: "acme".into(), faults, plant }
    }

    pub(crate) fn scope(&self) -> ScopeId {
        self.scope.clone()
    }

    fn holder(state: &State, document: &Map<String, Value>, but: &str) -> Option<String> {
        let wanted = address(document)?;
        let live = state.records.iter().filter(|(id, _)| *id != but);
        live.filter_map(|(id, kept)| Some((id, kept.document.as_ref()?)))
            .find(|(_, other)| address(other).as_ref() == Some(&wanted))
            .map(|(id, _)| id.clone())
    }

    /// Puts a document in place of what is there.
    fn put(&self, id: &str, document: Option<Map<String, Value>>, origin: &str, who: Who) -> Record {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let now = self.shared.now();
        state.version += 1;
        let before = state.records.get(id).cloned();
        let was = before.as_ref().and_then(|kept| kept.document.clone());
        let mut fields = BTreeMap::new();
        for field in &FIELDS {
            let of = |document: &Option<Map<String, Value>>| {
                document.as_ref().and_then(|it| it.get(field.member)).cloned().unwrap_or(Value::Null)
            };
            let (old, new) = (of(&was), of(&document));
            if document.is_some() && old != new && !(blank(&old) && blank(&new)) {
                fields.insert(field.pointer, new);
            }
        }
        let what = match (&before, &was, &document) {
            (None, _, _) => What::Born,
            (_, _, None) => What::Died,
            (_, None, Some(_)) => What::Back,
            _ => What::Edited,
        };
        let mut history = self.history.lock();
        if fields.is_empty()
            && what == What::Edited
            && let Who::Tandem(..) = who
        {
            history.needless.push((Side::Here, id.to_owned(), 0));
        }
        self.shared.trace(|| format!("system a: {id} {who:?} {what:?} {fields:?}"));
        let number = self.shared.number();
        history.note(Side::Here, id, Change { number, at: now, who, what, fields });
        drop(history);
        let kept = Kept { version: state.version, changed_at: now, origin: origin.to_owned(), document };
        state.records.insert(id.to_owned(), kept.clone());
        let forget = self.plant == Some(Plant::FeedSkips) && self.shared.roll(|dice| dice.chance(300));
        if !forget {
            state.feed.push(Entry {
                scope: self.scope.clone(),
                object: OBJECT.into(),
                id: id.into(),
                version: state.version,
                at: now,
                origin: origin.to_owned(),
            });
        }
        for waker in state.waiting.drain(..) {
            waker.wake();
        }
        kept.record()
    }

    /// A person makes a record; None when the address is taken.
    pub(crate) fn create(&self, document: Map<String, Value>) -> Option<String> {
        let id = {
            let mut state = self.state.lock();
            if Self::holder(&state, &document, "").is_some() {
                return None;
            }
            state.born += 1;
            format!("a{}", state.born)
        };
        self.put(&id, Some(document), "person", Who::Person);
        Some(id)
    }

    /// A person changes some members; null clears one. False when the address is taken or the record is gone.
    pub(crate) fn edit(&self, id: &str, changes: &[(&'static str, Value)]) -> bool {
        let Some(mut document) = self.document(id) else { return false };
        for (pointer, value) in changes {
            let member = pointer.trim_start_matches('/');
            if value.is_null() {
                document.remove(member);
            } else {
                document.insert(member.to_owned(), value.clone());
            }
        }
        if Self::holder(&self.state.lock(), &document, id).is_some() {
            return false;
        }
        self.put(id, Some(document), "person", Who::Person);
        true
    }

    /// A person deletes a record.
    pub(crate) fn delete(&self, id: &str) {
        if self.document(id).is_some() {
            self.put(id, None, "person", Who::Person);
        }
    }

    /// A person puts a deleted record back under its own id.
    pub(crate) fn put_back(&self, id: &str, document: Map<String, Value>) -> bool {
        if self.document(id).is_some() || Self::holder(&self.state.lock(), &document, id).is_some() {
            return false;
        }
        self.put(id, Some(document), "person", Who::Person);
        true
    }

    pub(crate) fn document(&self, id: &str) -> Option<Map<String, Value>> {
        self.state.lock().records.get(id)?.document.clone()
    }

    /// Ids of the records that are there.
    pub(crate) fn live(&self) -> Vec<String> {
        let state = self.state.lock();
        let live = state.records.iter().filter(|(_, kept)| kept.document.is_some());
        live.map(|(id, _)| id.clone()).collect()
    }

    /// Ids of the records that were deleted.
    pub(crate) fn deleted(&self) -> Vec<String> {
        let state = self.state.lock();
        let gone = state.records.iter().filter(|(_, kept)| kept.document.is_none());
        gone.map(|(id, _)| id.clone()).collect()
    }

    pub(crate) fn code(&self, id: &str) -> String {
        let document = self.document(id).unwrap_or_default();
        document.get(CODE.trim_start_matches('/')).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Where the feed stands.
    pub(crate) fn end_of_feed(&self) -> Vec<u8> {
        self.state.lock().feed.len().to_string().into_bytes()
    }
}

fn place(cursor: Option<&[u8]>) -> usize {
    cursor.and_then(|cursor| std::str::from_utf8(cursor).ok()?.parse().ok()).unwrap_or(0)
}

impl Internal for SystemA {
    async fn read(
        &self,
        _: &ScopeId,
        _: &ObjectName,
        id: &InternalId,
    ) -> Result<Option<Record>, InternalError> {
        self.shared.nap(4).await;
        let record = self.state.lock().records.get(id.as_str()).map(Kept::record);
        let react = self.faults.lock().react;
        if self.shared.roll(|dice| dice.chance(react / 2)) {
            let wait = self.shared.roll(|dice| dice.below(60));
            self.shared.after(wait, Event::React(Side::Here, id.to_string()));
        }
        self.shared.nap(4).await;
        Ok(record)
    }

    async fn find(
        &self,
        _: &ScopeId,
        _: &ObjectName,
        identity: &[(String, String)],
    ) -> Result<Vec<InternalId>, InternalError> {
        self.shared.nap(4).await;
        let wanted: Vec<&str> = identity.iter().map(|(_, value)| value.as_str()).collect();
        let state = self.state.lock();
        let live = state.records.iter().filter_map(|(id, kept)| Some((id, kept.document.as_ref()?)));
        let found =
            live.filter(|(_, document)| address(document).is_some_and(|it| wanted.contains(&it.as_str())));
        Ok(found.map(|(id, _)| InternalId::from(id.as_str())).collect())
    }

    async fn write_if(&self, write: Write) -> Result<Outcome, InternalError> {
        self.shared.nap(4).await;
        let id = write.id.as_str();
        let outcome = 'done: {
            let held = self.state.lock().records.get(id).cloned();
            let holds = match write.expected {
                Expected::Absent => held.as_ref().is_none_or(|kept| kept.document.is_none()),
                // As the embedded one has it: a deleted record has no version that a write could expect.
                Expected::Version(version) => {
                    held.as_ref().is_some_and(|kept| kept.document.is_some() && kept.version == version)
                }
            };
            if !holds && self.plant != Some(Plant::VersionIgnored) {
                break 'done Outcome::Conflict(held.map(|kept| kept.record()));
            }
            let document = match write.document {
                None => None,
                Some(document) => {
                    let valid = SCHEMAS.as_ref().map(|schemas| schemas.canonical.validate(&document));
                    if let Ok(Err(problems)) = valid {
                        break 'done Outcome::Rejected(problems);
                    }
                    let Value::Object(members) = document else {
                        break 'done Outcome::Rejected(vec![Problem::default()]);
                    };
                    Some(members)
                }
            };
            if let Some(document) = &document
                && let Some(other) = Self::holder(&self.state.lock(), document, id)
            {
                break 'done Outcome::Exists(other.into());
            }
            let connection = write.origin.strip_prefix("tandem:c").and_then(|it| it.parse().ok());
            let who = Who::Tandem(connection.unwrap_or(usize::MAX), 0);
            Outcome::Written(self.put(id, document, &write.origin, who))
        };
        self.shared.nap(4).await;
        Ok(outcome)
    }

    async fn changes(&self, cursor: Option<&[u8]>, limit: usize) -> Result<Changes, InternalError> {
        self.shared.nap(4).await;
        let from = place(cursor);
        // A small piece now and then, so that pieces have ends.
        let limit = limit.min(self.shared.roll(|dice| usize::try_from(dice.between(1, 8)).unwrap_or(1)));
        let once = self.shared.roll(|dice| dice.chance(500));
        let state = self.state.lock();
        let piece: Vec<&Entry> = state.feed.iter().skip(from).take(limit).collect();
        let end = from + piece.len();
        let mut changes: Vec<Entry> = Vec::new();
        for entry in piece {
            if once {
                changes.retain(|known| known.id != entry.id);
            }
            changes.push(entry.clone());
        }
        let more = end < state.feed.len();
        Ok(Changes { changes, cursor: end.to_string().into_bytes(), more })
    }

    async fn wait(&self, cursor: Option<&[u8]>) {
        let from = place(cursor);
        let mut asked = false;
        std::future::poll_fn(|context| {
            let mut state = self.state.lock();
            if asked || state.feed.len() > from {
                return Poll::Ready(());
            }
            asked = true;
            state.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
