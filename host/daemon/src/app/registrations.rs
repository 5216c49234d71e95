//! Webhooks that a CRM has to be asked for: registered where a connection's file says so, renewed before the CRM lets them lapse, and
//! ended when the file no longer says so or goes.
//!
//! Invariants: one request about a connection at a time; what the CRM gave is on disk before it counts; a failure stops nothing
//! else, since what changed is asked for as well, and is tried again later. A registration of which the answer was lost is found
//! by the provider under the same address.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_core::Millis;
use tandem_core::exchange::Watch;
use tandem_core::id::ConnectionId;
use tokio::sync::{Semaphore, watch};

use super::Engine;
use crate::config::ConnectionConfig;
use crate::pipeline::{Clock as _, PipelineError};
use crate::store::{Commit, Op, Store as _, StoreError, Until};

/// Where they are kept, by connection.
const UNDER: &str = "channel/";

/// How often it is looked what is to be done.
const EVERY: Duration = Duration::from_secs(1);

/// Requests at once.
const AT_ONCE: usize = 8;

/// A request that failed is made again after this.
const AGAIN: Millis = 60_000;

/// A provider that never wants to be asked again is asked after this all the same: somebody may have removed the registration.
const AT_MOST: Millis = 24 * 3_600_000;

/// Nor more often than this, whatever it wants.
const AT_LEAST: Millis = 10_000;

/// How long the end of a connection waits for the end of its registration.
const PARTING: Duration = Duration::from_secs(5);

/// One that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Registration {
    callback: String,
    objects: Vec<String>,
    /// The provider's own.
    state: Vec<u8>,
    check_at: Millis,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    known: Mutex<BTreeMap<ConnectionId, Registration>>,
    under_way: Mutex<HashSet<ConnectionId>>,
    /// Why the last request failed, and when the next is made.
    failed: Mutex<HashMap<ConnectionId, (String, Millis)>>,
}

/// The right to make the request of a connection, given back when dropped.
struct Turn<'r> {
    registrations: &'r Registrations,
    connection: &'r ConnectionId,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.registrations.under_way.lock().remove(self.connection);
    }
}

impl Registrations {
    fn take<'r>(&'r self, connection: &'r ConnectionId) -> Option<Turn<'r>> {
        let free = self.under_way.lock().insert(connection.clone());
        free.then_some(Turn { registrations: self, connection })
    }

    /// Why a connection has no registration although it wants one.
    pub(super) fn why_not(&self, connection: &ConnectionId) -> Option<String> {
        self.failed.lock().get(connection).map(|(why, _)| why.clone())
    }
}

/// Keeps the registrations until told to stop.
pub(super) async fn keep(engine: Arc<Engine>, mut stop: watch::Receiver<bool>) -> Result<(), PipelineError> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    while !*stop.borrow() {
        for connection in engine.due_registrations() {
            let Ok(permit) = permits.clone().acquire_owned().await else { return Ok(()) };
            let engine = engine.clone();
            tokio::spawn(async move {
                if let Err(error) = engine.see_to_registration(&connection).await {
                    tracing::error!(%connection, %error, "a webhook registration cannot be noted");
                }
                drop(permit);
            });
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.changed() => {}
        }
    }
    let _ended = permits.acquire_many(u32::try_from(AT_ONCE).unwrap_or(u32::MAX)).await;
    Ok(())
}

impl Engine {
    /// Reads what stands.
    pub(super) fn read_registrations(&self) -> Result<(), StoreError> {
        let mut known = self.registrations.known.lock();
        for (name, stored) in self.store.values_under(UNDER, None, usize::MAX)? {
            match (name.strip_prefix(UNDER), serde_json::from_slice(&stored)) {
                (Some(connection), Ok(registration)) => {
                    known.insert(connection.into(), registration);
                }
                (_, Err(error)) => {
                    tracing::error!(name, %error, "a webhook registration cannot be read; it is made anew");
                }
                (None, _) => {}
            }
        }
        Ok(())
    }

    /// Where a connection's webhooks are to go, and of which objects. None: it wants none.
    fn wanted(&self, file: &ConnectionConfig) -> Option<(String, Vec<String>)> {
        let public = self.config.http.public_url.as_ref().filter(|_| file.register_webhooks)?;
        let callback = format!("{}/hooks/connection/{}", public.as_str().trim_end_matches('/'), file.id);
        Some((callback, file.enabled().map(|(name, _)| name.to_string()).collect()))
    }

    fn due_registrations(&self) -> Vec<ConnectionId> {
        let now = self.clock.now();
        let known = self.registrations.known.lock().clone();
        let files = self.files.lock().clone();
        let failed = self.registrations.failed.lock();
        let due = files.values().filter(|file| {
            let stands = known.get(&file.id);
            file.register_webhooks || stands.is_some()
        });
        due.filter(|file| failed.get(&file.id).is_none_or(|(_, again)| *again <= now))
            .filter(|file| match (known.get(&file.id), self.wanted(file)) {
                (None, wanted) => wanted.is_some(),
                (Some(_), None) => true,
                (Some(stands), Some((callback, objects))) => {
                    stands.callback != callback || stands.objects != objects || stands.check_at <= now
                }
            })
            .map(|file| file.id.clone())
            .collect()
    }

    /// Makes, renews or ends the registration of a connection.
    async fn see_to_registration(&self, id: &ConnectionId) -> Result<(), StoreError> {
        let Some(_turn) = self.registrations.take(id) else { return Ok(()) };
        let file = self.files.lock().get(id).cloned();
        let (Some(file), Some(connection)) = (file, self.pipeline.connection(id)) else { return Ok(()) };
        if connection.directions.disabled() {
            return Ok(());
        }
        let stands = self.registrations.known.lock().get(id).cloned();
        let wanted = self.wanted(&file);
        let active = wanted.is_some();
        let before = stands.as_ref().map(|stands| (stands.callback.clone(), stands.objects.clone()));
        let Some((callback, objects)) = wanted.or(before) else { return Ok(()) };
        let channel = stands.map(|stands| stands.state);
        let watch = Watch { callback: callback.clone(), objects: objects.clone(), channel, active };
        let answered = self.pipeline.watch(&connection, watch).await;
        drop(connection);
        let now = self.clock.now();
        match answered {
            Ok(channel) if active => {
                let check_at = channel.check_at.clamp(now + AT_LEAST, now + AT_MOST);
                let registration = Registration { callback, objects, state: channel.state, check_at };
                self.note_registration(id, Some(registration)).await?;
                self.registrations.failed.lock().remove(id);
            }
            Ok(_) => {
                self.note_registration(id, None).await?;
                self.registrations.failed.lock().remove(id);
            }
            Err(why) => {
                tracing::warn!(connection = %id, why, active, "the CRM was asked for webhooks in vain; it is tried again");
                self.registrations.failed.lock().insert(id.clone(), (why, now + AGAIN));
            }
        }
        Ok(())
    }

    async fn note_registration(
        &self,
        id: &ConnectionId,
        registration: Option<Registration>,
    ) -> Result<(), StoreError> {
        if self.registrations.known.lock().get(id) == registration.as_ref() {
            return Ok(());
        }
        let name = format!("{UNDER}{id}");
        let mut commit = Commit::new();
        commit.push(match &registration {
            Some(registration) => Op::PutValue(name, serde_json::to_vec(registration).unwrap_or_default()),
            None => Op::DropValue(name),
        });
        self.store.commit(commit, Until::Durable).await?;
        let mut known = self.registrations.known.lock();
        match registration {
            Some(registration) => known.insert(id.clone(), registration),
            None => known.remove(id),
        };
        Ok(())
    }

    /// A connection goes: its registration ends, if the CRM can be reached now. It is forgotten in any case.
    pub(super) async fn end_registration(&self, id: &ConnectionId) {
        let Some(stands) = self.registrations.known.lock().get(id).cloned() else { return };
        let ended = match (self.pipeline.connection(id), self.registrations.take(id)) {
            (Some(connection), Some(_turn)) => {
                let Registration { callback, objects, state, .. } = stands;
                let watch = Watch { callback, objects, channel: Some(state), active: false };
                match tokio::time::timeout(PARTING, self.pipeline.watch(&connection, watch)).await {
                    Ok(answered) => answered.map(drop),
                    Err(_) => Err(format!("the CRM did not answer within {PARTING:?}")),
                }
            }
            _ => Err("it cannot be used".to_owned()),
        };
        if let Err(why) = ended {
            tracing::warn!(connection = %id, why, "its webhooks stay registered; remove them in the CRM");
        }
        if let Err(error) = self.note_registration(id, None).await {
            tracing::error!(connection = %id, %error, "that a webhook registration ended cannot be noted");
        }
        self.registrations.failed.lock().remove(id);
    }
}
