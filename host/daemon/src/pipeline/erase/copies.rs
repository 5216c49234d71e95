//! Which records of CRMs have to go with a person: those that are linked, those that a create may have made whose answer did not
//! come, and those that bear a key of the person's and belong to nobody.
//!
//! Invariant: nothing of anybody else is found; and while a CRM's search may not show what there is, that is said and nothing is claimed.

use tandem_core::exchange::{Answer, Attribute, Find, Operation};
use tandem_core::id::{ConnectionId, EntityKey, ExternalId, ExternalKey};

use super::{Asked, Copy, Key, Order, Place, unexpected};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::pipeline::exchange::Seen;
use crate::pipeline::{Clock, Connection, Pipeline, PipelineError};
use crate::provider::Runtime;
use crate::store::{Call, Intent, Store, StoreError};

/// What a create has made whose answer did not come.
enum Made {
    /// These, or nothing.
    Found(Vec<Seen>),
    /// There is nothing to find it by.
    Nowhere,
    /// That is not known yet, and why.
    Unknown(String),
}

/// What is told of a create whose answer did not come.
fn unanswered(connection: &Connection, what: String, gone: bool) -> Place {
    Place { place: format!("{} record of a create whose answer did not come", connection.id), what, gone }
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// The record's copies in CRMs: those that are linked, in whatever life, and those that an unanswered create may have made. Beside
    /// them the creates of which that is not known yet.
    pub(super) async fn copies_of(
        &self,
        entity: &EntityKey,
        patient: bool,
    ) -> Result<(Vec<Copy>, Vec<(ConnectionId, Place)>), PipelineError> {
        let (mut copies, mut unknown) = (Vec::new(), Vec::new());
        for link in self.rooms.store.links(entity)? {
            if let Some(id) = link.external {
                copies.push(Copy { connection: link.connection, id, done: None });
            }
        }
        for connection in self.connections().into_iter().filter(|found| found.scope == entity.scope) {
            let Some(intent) = self.rooms.store.intent(entity, &connection.id)? else { continue };
            let Call::Create { key, .. } = &intent.call else { continue };
            match self.made_by_create(Asked { connection: &connection, patient }, &intent).await? {
                Made::Found(found) => {
                    for seen in found {
                        let is_anothers = seen.key.as_ref().is_some_and(|other| other != key);
                        if !is_anothers && self.is_free(&connection.id, entity, &seen.id)? {
                            copies.push(Copy { connection: connection.id.clone(), id: seen.id, done: None });
                        }
                    }
                }
                Made::Nowhere => {
                    let what = "nothing finds it, if it was made: it has no identity and the CRM no place for a key, or its provider cannot look for one; erase it there";
                    unknown.push((connection.id.clone(), unanswered(&connection, what.to_owned(), true)));
                }
                Made::Unknown(why) => {
                    let what = format!("not looked for yet: {why}; it is tried again");
                    unknown.push((connection.id.clone(), unanswered(&connection, what, false)));
                }
            }
        }
        Ok((copies, unknown))
    }

    /// Adds the keys that the record's links have had at CRMs that keep them.
    pub(super) fn add_keys(&self, order: &mut Order) -> Result<(), StoreError> {
        for mut link in self.rooms.store.links(&order.entity)? {
            let known = self.connection(&link.connection);
            let object = known.as_ref().and_then(|known| known.objects.get(&order.entity.object));
            if !object.is_some_and(|object| object.abilities.key) {
                continue;
            }
            for incarnation in 0..=link.incarnation {
                link.incarnation = incarnation;
                let key = Key { connection: link.connection.clone(), key: link.key(), searched: false };
                if !order.keys.iter().any(|it| it.connection == key.connection && it.key == key.key) {
                    order.keys.push(key);
                }
            }
        }
        Ok(())
    }

    /// Adds the CRM's records that bear one of the keys, and are linked to nobody: they were made for the record once, and would be taken
    /// for it again. Answers where that is not known yet.
    pub(super) async fn add_bearers(
        &self,
        order: &mut Order,
        patient: bool,
    ) -> Result<Vec<(ConnectionId, Place)>, PipelineError> {
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        for key in order.keys.iter_mut().filter(|key| !key.searched) {
            let made = match self.connection(&key.connection) {
                Some(connection) => {
                    let asked = Asked { connection: &connection, patient };
                    self.find_made(asked, &order.entity, Some(key.key.clone()), Vec::new()).await?
                }
                None => Made::Unknown("the connection is not in use".to_owned()),
            };
            match made {
                Made::Found(seen) => {
                    key.searched = true;
                    found.extend(seen.into_iter().map(|seen| (key.clone(), seen)));
                }
                Made::Nowhere => key.searched = true,
                Made::Unknown(why) => {
                    let place = format!("{} records that were made for it before", key.connection);
                    let what = format!("not looked for yet: {why}; it is tried again");
                    unknown.push((key.connection.clone(), Place { place, what, gone: false }));
                }
            }
        }
        for (Key { connection, key, .. }, seen) in found {
            if seen.key.as_ref() == Some(&key) && self.is_free(&connection, &order.entity, &seen.id)? {
                order.add(Copy { connection, id: seen.id, done: None });
            }
        }
        Ok(unknown)
    }

    /// What a create may have made, once the CRM's search would show it.
    async fn made_by_create(&self, asked: Asked<'_>, intent: &Intent) -> Result<Made, PipelineError> {
        let Call::Create { key, identity, unknown_since, .. } = &intent.call else {
            return Ok(Made::Found(Vec::new()));
        };
        let Some(object) = asked.connection.objects.get(&intent.entity.object) else {
            return Ok(Made::Found(Vec::new()));
        };
        let key = object.abilities.key.then(|| key.clone());
        if key.is_none() && identity.is_empty() {
            return Ok(Made::Nowhere);
        }
        let since = unknown_since.unwrap_or(intent.opened_at);
        if self.rooms.clock.now() < since.saturating_add(object.abilities.find_settles_after_ms) {
            return Ok(Made::Unknown("the CRM's search may not show it".to_owned()));
        }
        let identity =
            identity.iter().map(|(name, value)| Attribute { name: name.clone(), value: value.clone() });
        self.find_made(asked, &intent.entity, key, identity.collect()).await
    }

    /// Looks for records that were made for an entity.
    async fn find_made(
        &self,
        asked: Asked<'_>,
        entity: &EntityKey,
        key: Option<String>,
        identity: Vec<Attribute>,
    ) -> Result<Made, PipelineError> {
        let find = Find { object: entity.object.to_string(), key, identity };
        let concluded = match self.ask_crm(asked, Operation::Find(find)).await? {
            Ok(concluded) => concluded,
            Err(why) => return Ok(Made::Unknown(why)),
        };
        Ok(match concluded.answer {
            Answer::Found(_) => Made::Found(concluded.seen),
            // Its provider cannot look for anything.
            Answer::Blocked(block) if block.problem.code == "unsupported" => Made::Nowhere,
            answer => Made::Unknown(unexpected(&answer)),
        })
    }

    /// Whether a record of a CRM belongs to nobody else.
    pub(super) fn is_free(
        &self,
        connection: &ConnectionId,
        entity: &EntityKey,
        id: &ExternalId,
    ) -> Result<bool, StoreError> {
        let key =
            ExternalKey { connection: connection.clone(), object: entity.object.clone(), id: id.clone() };
        Ok(self.rooms.store.entity_of(&key)?.is_none_or(|other| other == *entity))
    }
}
