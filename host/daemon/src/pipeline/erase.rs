//! Erasing a person: the record goes from everywhere, whatever policies, pauses and the guard say, and does not come back.
//!
//! What is erased: the record in each linked CRM, by the CRM's own erasure where its provider knows it (`operation.other` `erase`),
//! otherwise deleted; System A's record; links, history, intents, dead letters, waiting hints with what they observed, withheld
//! writes, and what was kept for undoing.
//!
//! Invariants:
//! - The order is on disk before anything is erased, and stays until all is done: a crash, or a CRM that cannot be reached, only
//!   delays it.
//! - Nobody works on the record meanwhile.
//! - What stays is a keyed digest of each CRM's id, by which an old listing or a late event is recognised and dropped.
//! - Nothing is said to be gone that was not looked for afterwards; nor while a create is under way whose outcome is not known.
//! - A record that was merged into another one goes with that one, unless that belongs to somebody else: nothing of others is erased.
//!
//! What it cannot reach, and says: bytes in files that were freed and not overwritten yet, backups, and records that never were
//! linked.

mod copies;
mod traces;

use std::sync::Arc;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tandem_core::Millis;
use tandem_core::exchange::{Answer, Operation, Reference, Remove};
use tandem_core::id::{ConnectionId, EntityKey, ExternalId, ExternalKey, ObjectName};

use super::exchange::{Body, Concluded, ExchangeError};
use super::guard::digest;
use super::{Clock, Connection, Pipeline, PipelineError};
use crate::delivery::Deliver;
use crate::internal::{Expected, Internal, Outcome, Write};
use crate::provider::Runtime;
use crate::store::{Class, Commit, Op, Store, StoreError, Until};

/// Where the key of the digests is kept.
const KEY: &str = "erased-key";

/// How often something is erased again when it is written meanwhile.
const TRIES: u32 = 20;

/// A record of a CRM that has to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Copy {
    connection: ConnectionId,
    id: ExternalId,
    /// It went. None: not yet.
    done: Option<Done>,
}

/// How a record went from a CRM, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Done {
    how: String,
    at: Millis,
}

/// What is to be erased, until all of it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Order {
    entity: EntityKey,
    since: Millis,
    copies: Vec<Copy>,
    /// Keys that records were given which were made for it.
    #[serde(default)]
    keys: Vec<Key>,
}

/// A key that a record of a CRM may bear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    connection: ConnectionId,
    key: String,
    /// The CRM was asked who bears it.
    searched: bool,
}

/// One place of which an erasure tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which place.
    pub place: String,
    /// What was there, and what became of it.
    pub what: String,
    /// It was looked for afterwards, and is gone.
    pub gone: bool,
}

/// The proof of an erasure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The internal record.
    pub entity: EntityKey,
    /// Each place that was looked at.
    pub places: Vec<Place>,
    /// Everything is gone. Otherwise the rest is tried again until it is.
    pub done: bool,
}

/// A CRM that is asked, and whether its quota is waited for in line.
#[derive(Clone, Copy)]
struct Asked<'a> {
    connection: &'a Arc<Connection>,
    patient: bool,
}

/// What a read shows of a record.
enum Sought {
    There,
    Gone,
    /// It lives on in another one.
    Merged(ExternalId),
}

impl Order {
    /// One more record that has to go.
    fn add(&mut self, copy: Copy) {
        if !self.copies.iter().any(|known| known.connection == copy.connection && known.id == copy.id) {
            self.copies.push(copy);
        }
    }
}

fn order_name(entity: &EntityKey) -> String {
    format!("erase/{:016x}", digest(entity))
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Erases a record everywhere. None: somebody works on it; ask again.
    ///
    /// # Errors
    /// The store or System A is out of order; the order stands, and is carried out after the next start.
    pub async fn erase(&self, entity: &EntityKey) -> Result<Option<Erasure>, PipelineError> {
        self.erase_by(entity, false).await
    }

    async fn erase_by(&self, entity: &EntityKey, patient: bool) -> Result<Option<Erasure>, PipelineError> {
        let Some(_grip) = self.hold_entity(entity).await else { return Ok(None) };
        let name = order_name(entity);
        let stored = self.rooms.store.value(&name)?;
        let known = stored.and_then(|stored| serde_json::from_slice::<Order>(&stored).ok());
        let mut order = match known.filter(|order| order.entity == *entity) {
            Some(order) => order,
            None => Order {
                entity: entity.clone(),
                since: self.rooms.clock.now(),
                copies: Vec::new(),
                keys: Vec::new(),
            },
        };
        let (copies, mut unknown) = self.copies_of(entity, patient).await?;
        copies.into_iter().for_each(|copy| order.add(copy));
        self.add_keys(&mut order)?;
        self.open_order(&name, &order).await?;
        if order.keys.iter().any(|key| !key.searched) {
            unknown.extend(self.add_bearers(&mut order, patient).await?);
            // What was found is marked before it goes.
            self.open_order(&name, &order).await?;
        }
        let mut places = Vec::new();
        let mut at = 0;
        while let Some(copy) = order.copies.get_mut(at) {
            at = at.saturating_add(1);
            let (place, moved) = self.erase_copy(entity, copy, patient).await?;
            places.push(place);
            match moved {
                Some(moved) => {
                    order.add(moved);
                    // What comes late about that one is recognised too before it goes.
                    self.open_order(&name, &order).await?;
                }
                None => self.put_order(&name, &order, Until::Applied).await?,
            }
        }
        places.push(self.erase_internal(entity).await?);
        let in_doubt =
            unknown.iter().filter(|(_, place)| !place.gone).map(|(connection, _)| connection.clone());
        let in_doubt: Vec<ConnectionId> = in_doubt.collect();
        places.extend(self.erase_traces(entity, &order, &in_doubt).await?);
        places.extend(unknown.into_iter().map(|(_, place)| place));
        let done = places.iter().all(|place| place.gone);
        if done {
            let mut commit = Commit::new();
            commit.push(Op::DropValue(name));
            self.rooms.store.commit(commit, Until::Durable).await?;
        }
        for place in &places {
            tracing::info!(
                object = %entity.object, scope = %entity.scope, place = place.place, gone = place.gone, "a record is erased"
            );
        }
        Ok(Some(Erasure { entity: entity.clone(), places, done }))
    }

    /// Goes on with erasures that did not come to their end. Where a quota frees one call at a time, whoever asks now and then would never
    /// get it: nobody waits for this, so it waits in line.
    ///
    /// # Errors
    /// The store or System A is out of order.
    pub async fn go_on_erasing(&self) -> Result<(), PipelineError> {
        for (_, stored) in self.rooms.store.values_under("erase/", None, usize::MAX)? {
            if let Ok(order) = serde_json::from_slice::<Order>(&stored) {
                self.erase_by(&order.entity, true).await?;
            }
        }
        Ok(())
    }

    async fn put_order(&self, name: &str, order: &Order, until: Until) -> Result<(), StoreError> {
        let mut commit = Commit::new();
        commit.push(Op::PutValue(name.to_owned(), serde_json::to_vec(order).unwrap_or_default()));
        self.rooms.store.commit(commit, until).await
    }

    /// The order, and the digests by which what comes late is recognised, before anything is erased.
    async fn open_order(&self, name: &str, order: &Order) -> Result<(), PipelineError> {
        let key = match self.rooms.store.value(KEY)? {
            Some(key) => key,
            None => {
                let clock = &self.rooms.clock;
                let key: Vec<u8> = (0..4).flat_map(|_| clock.jitter(u64::MAX).to_be_bytes()).collect();
                let mut commit = Commit::new();
                commit.push(Op::PutValue(KEY.into(), key.clone()));
                self.rooms.store.commit(commit, Until::Durable).await?;
                key
            }
        };
        self.ledger.lock().erased_key = Some(Some(Arc::from(key.as_slice())));
        let mut commit = Commit::new();
        for copy in &order.copies {
            let external = ExternalKey {
                connection: copy.connection.clone(),
                object: order.entity.object.clone(),
                id: copy.id.clone(),
            };
            commit.push(Op::PutValue(mark_name(&key, &external), order.since.to_string().into_bytes()));
        }
        commit.push(Op::PutValue(name.to_owned(), serde_json::to_vec(order).unwrap_or_default()));
        self.rooms.store.commit(commit, Until::Durable).await?;
        Ok(())
    }

    /// Whether a record of a CRM was erased.
    pub(super) fn is_erased(&self, external: &ExternalKey) -> Result<bool, StoreError> {
        let known = self.ledger.lock().erased_key.clone();
        let key = match known {
            Some(key) => key,
            None => {
                let read = self.rooms.store.value(KEY)?.map(Arc::from);
                self.ledger.lock().erased_key.get_or_insert(read).clone()
            }
        };
        let Some(key) = key else { return Ok(false) };
        Ok(self.rooms.store.value(&mark_name(&key, external))?.is_some())
    }

    /// Erases a CRM's record and looks for it afterwards. Beside what is told of it: the record that it was merged into, if that goes
    /// with it.
    async fn erase_copy(
        &self,
        entity: &EntityKey,
        copy: &mut Copy,
        patient: bool,
    ) -> Result<(Place, Option<Copy>), PipelineError> {
        let place = format!("{} record {}", copy.connection, copy.id);
        let say = |what: String, gone: bool| Ok((Place { place: place.clone(), what, gone }, None));
        let Some(connection) = self.connection(&copy.connection) else {
            let what = "the connection is not in use, so its CRM cannot be asked; put its file back";
            return say(what.to_owned(), false);
        };
        let object = &entity.object;
        let asked = Asked { connection: &connection, patient };
        if copy.done.is_none() {
            // What was merged answers with the other record: that one is not asked to go under this name.
            match self.look_for(asked, object, &copy.id).await? {
                Ok(Sought::Merged(_)) => {}
                Ok(Sought::There | Sought::Gone) => match self.send_erasure(asked, object, &copy.id).await? {
                    Ok(how) => copy.done = Some(Done { how, at: self.rooms.clock.now() }),
                    Err(why) => return say(format!("not erased yet: {why}; it is tried again"), false),
                },
                Err(why) => return say(format!("not erased yet: {why}; it is tried again"), false),
            }
        }
        let how = copy.done.as_ref().map(|done| done.how.clone());
        let how = how.unwrap_or_else(|| "merged into another record".to_owned());
        match self.look_for(asked, object, &copy.id).await? {
            Ok(Sought::Gone) => say(format!("{how}; a read finds it no more"), true),
            Ok(Sought::There) => {
                copy.done = None;
                say(format!("{how}, but it is still there; it is tried again"), false)
            }
            Ok(Sought::Merged(to)) => {
                copy.done.get_or_insert_with(|| Done { how: how.clone(), at: self.rooms.clock.now() });
                if self.is_free(&connection.id, entity, &to)? {
                    let what = format!("{how}; it lives on in {to}, which is erased too");
                    let moved = Copy { connection: connection.id.clone(), id: to, done: None };
                    return Ok((Place { place, what, gone: true }, Some(moved)));
                }
                let what = format!(
                    "{how}; {to}, which it was merged into, belongs to another record: erase that one too if it is the same person"
                );
                say(what, true)
            }
            Err(why) => say(format!("{how}, not looked for afterwards yet: {why}"), false),
        }
    }

    /// Asks the CRM to erase, or to delete where its provider knows no erasure. Answers how it went.
    async fn send_erasure(
        &self,
        asked: Asked<'_>,
        object: &ObjectName,
        id: &ExternalId,
    ) -> Result<Result<String, String>, PipelineError> {
        let arguments = serde_json::json!({ "object": object.as_str(), "id": id.as_str() });
        let erase = Operation::Other("erase".into(), arguments.to_string().into_bytes());
        match self.ask_crm(asked, erase).await?.map(|concluded| concluded.answer) {
            // It may be in no bin either: then it is gone as well as it can be.
            Ok(Answer::Written(_) | Answer::Current(_)) => {
                return Ok(Ok("erased by the CRM's own operation".to_owned()));
            }
            Ok(Answer::Blocked(block)) if block.problem.code == "unsupported" => {}
            Ok(other) => return Ok(Err(unexpected(&other))),
            Err(why) => return Ok(Err(why)),
        }
        let remove = Remove { object: object.to_string(), id: id.to_string(), version: None, stamp: None };
        Ok(match self.ask_crm(asked, Operation::Remove(remove)).await?.map(|concluded| concluded.answer) {
            Ok(Answer::Written(_) | Answer::Current(_)) => {
                Ok("deleted, since its provider knows no erasure: the CRM may keep it in a bin".to_owned())
            }
            Ok(other) => Err(unexpected(&other)),
            Err(why) => Err(why),
        })
    }

    /// Asks a CRM; a refusal or a failure holds its connection up as it would any other work. Err: why there is no answer.
    async fn ask_crm(
        &self,
        asked: Asked<'_>,
        operation: Operation,
    ) -> Result<Result<Concluded, String>, PipelineError> {
        let Asked { connection, patient } = asked;
        let ended = if patient {
            self.exchange_in_line(connection, Class::Interactive, operation).await
        } else {
            self.exchange(connection, Class::Interactive, None, move |_| Ok(Ok(operation))).await
        };
        match ended {
            Ok(concluded) => {
                if let Answer::Throttled(_) | Answer::Again(..) | Answer::Unauthorised(_) = &concluded.answer
                {
                    let _waits = self.waits(connection, concluded.answer.clone(), None, Commit::new());
                }
                Ok(Ok(concluded))
            }
            Err(error) => {
                let why = in_words(&error);
                let _failed = self.failed(connection, error, None, Commit::new())?;
                Ok(Err(why))
            }
        }
    }

    /// What a read shows of a record.
    async fn look_for(
        &self,
        asked: Asked<'_>,
        object: &ObjectName,
        id: &ExternalId,
    ) -> Result<Result<Sought, String>, PipelineError> {
        let read = Operation::Read(Reference { object: object.to_string(), id: id.to_string() });
        Ok(match self.ask_crm(asked, read).await? {
            Ok(mut concluded) => match concluded.seen.pop() {
                Some(seen) => Ok(match seen.body {
                    Body::Gone(_) => Sought::Gone,
                    Body::Moved(to) => Sought::Merged(to.id.as_str().into()),
                    _ if seen.id != *id => Sought::Merged(seen.id),
                    _ => Sought::There,
                }),
                None => Err(unexpected(&concluded.answer)),
            },
            Err(why) => Err(why),
        })
    }

    async fn erase_internal(&self, entity: &EntityKey) -> Result<Place, PipelineError> {
        let place = "System A".to_owned();
        let internal = &self.rooms.internal;
        let mut was_there = false;
        for _ in 0..TRIES {
            let Some(record) = internal.read(&entity.scope, &entity.object, &entity.id).await? else {
                return Ok(Place { place, what: "it had no such record".to_owned(), gone: true });
            };
            if record.document.is_none() {
                let what = if was_there {
                    "the record was deleted; what stays is its id, its version and when"
                } else {
                    "it was deleted there before; what stays is its id, its version and when"
                };
                return Ok(Place { place, what: what.to_owned(), gone: true });
            }
            was_there = true;
            let write = Write {
                scope: entity.scope.clone(),
                object: entity.object.clone(),
                id: entity.id.clone(),
                expected: Expected::Version(record.version),
                document: None,
                origin: "tandem-erase".into(),
            };
            if let Outcome::Rejected(problems) = internal.write_if(write).await? {
                let what =
                    problems.first().map_or("it refuses the deletion", |problem| problem.message.as_str());
                return Ok(Place { place, what: what.to_owned(), gone: false });
            }
        }
        let what = "somebody writes it again and again; it is tried again";
        Ok(Place { place, what: what.to_owned(), gone: false })
    }
}

/// The value that stands for an erased record of a CRM.
fn mark_name(key: &[u8], external: &ExternalKey) -> String {
    // A key of any length does.
    let Ok(mut hash) = <Hmac<Sha256> as Mac>::new_from_slice(key) else { return String::new() };
    for part in [external.connection.as_str(), external.object.as_str(), external.id.as_str()] {
        hash.update(part.as_bytes());
        hash.update(&[0]);
    }
    let mut name = String::from("erased/");
    for byte in hash.finalize().into_bytes() {
        name.push_str(&format!("{byte:02x}"));
    }
    name
}

fn in_words(error: &ExchangeError) -> String {
    match error {
        ExchangeError::Fault(fault) => fault.to_string(),
        ExchangeError::Send(error) => error.to_string(),
        ExchangeError::Held { .. } => "the quota is used up, or the connection waits".to_owned(),
        ExchangeError::Refused { problems, .. } => {
            problems.first().map_or_else(|| "refused".to_owned(), |problem| problem.message.clone())
        }
        ExchangeError::Pipeline(error) => error.to_string(),
    }
}

fn unexpected(answer: &Answer) -> String {
    match answer {
        Answer::Blocked(block) => block.problem.message.clone(),
        Answer::Unauthorised(why) => why.clone(),
        Answer::Throttled(_) => "the CRM asked for a pause".to_owned(),
        Answer::Again(..) => "the CRM asked to try again".to_owned(),
        Answer::Rejected(problems) => {
            problems.first().map_or_else(|| "refused".to_owned(), |problem| problem.message.clone())
        }
        _ => "the provider gave an answer that does not belong to it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_nothing_without_the_key_and_is_the_same_with_it() {
        let external =
            |id: &str| ExternalKey { connection: "crm".into(), object: "contact".into(), id: id.into() };
        let mark = mark_name(b"key", &external("512"));
        assert_eq!(mark, mark_name(b"key", &external("512")));
        assert_ne!(mark, mark_name(b"other", &external("512")));
        assert_ne!(mark, mark_name(b"key", &external("513")));
        assert!(mark.starts_with("erased/") && !mark.contains("512"), "{mark}");
    }
}
