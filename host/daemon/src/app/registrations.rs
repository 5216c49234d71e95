//! Webhooks that a CRM has to be asked for: registered where a connection's file says so, renewed before the CRM lets them lapse, and
//! ended when the file no longer says so or goes.
//!
//! Invariants: one request about a connection at a time; that a registration may stand is on disk before the first request is made, and
//! what the CRM gave for it before it counts, so that one whose answer was lost is found by its address and ended like any other. A
//! failure stops nothing else, since what changed is asked for as well, and is tried again, less and less often. A connection that
//! gets another account or provider leaves the old one's behind, with a warning: there is nothing to end it with.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_core::Millis;
use tandem_core::exchange::Watch;
use tandem_core::id::{ConnectionId, ProviderId};
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

/// A request that failed is made again after this, and after twice as long each time that it fails again.
const AGAIN: Millis = 60_000;

/// But not later than this.
const AGAIN_AT_MOST: Millis = 3_600_000;

/// A provider that never wants to be asked again is asked after this all the same: somebody may have removed the registration.
const AT_MOST: Millis = 24 * 3_600_000;

/// Nor more often than this, whatever it wants.
const AT_LEAST: Millis = 10_000;

/// How long the end of connections waits for the end of their registrations.
const PARTING: Duration = Duration::from_secs(5);

/// One that stands, or may stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Registration {
    provider: ProviderId,
    account: Option<String>,
    callback: String,
    objects: Vec<String>,
    /// The provider's own. None: the CRM was asked for it, and no answer came yet.
    state: Option<Vec<u8>>,
    check_at: Millis,
}

/// What went wrong last.
#[derive(Debug)]
struct Failure {
    why: String,
    again_at: Millis,
    pause: Millis,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    known: Mutex<BTreeMap<ConnectionId, Registration>>,
    under_way: Mutex<HashSet<ConnectionId>>,
    failed: Mutex<HashMap<ConnectionId, Failure>>,
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

    fn fail(&self, connection: &ConnectionId, why: String, now: Millis) {
        let mut failed = self.failed.lock();
        let before = failed.get(connection).map(|failure| failure.pause);
        let pause = before.map_or(AGAIN, |pause| pause.saturating_mul(2).min(AGAIN_AT_MOST));
        let failure = Failure { why, again_at: now.saturating_add(pause), pause };
        failed.insert(connection.clone(), failure);
    }

    fn succeed(&self, connection: &ConnectionId) {
        self.failed.lock().remove(connection);
    }
}

/// Keeps the registrations until told to stop.
pub(super) async fn keep(engine: Arc<Engine>, mut stop: watch::Receiver<bool>) -> Result<(), PipelineError> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    while !*stop.borrow() {
        for connection in engine.due_registrations() {
            if *stop.borrow() {
                break;
            }
            let Ok(permit) = permits.clone().acquire_owned().await else { return Ok(()) };
            let engine = engine.clone();
            tokio::spawn(async move {
                if let Err(error) = engine.see_to_registration(&connection).await {
                    tracing::error!(%connection, %error, "a webhook registration cannot be noted");
                    let why = format!("it cannot be noted: {error}");
                    engine.registrations.fail(&connection, why, engine.clock.now());
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
        let files = self.files.lock().clone();
        {
            let known = self.registrations.known.lock();
            let matters = |id: &ConnectionId| {
                known.contains_key(id) || files.get(id).is_some_and(|file| file.register_webhooks)
            };
            self.registrations.failed.lock().retain(|id, _| matters(id));
        }
        files.values().filter(|file| self.is_due(file)).map(|file| file.id.clone()).collect()
    }

    fn is_due(&self, file: &ConnectionConfig) -> bool {
        let now = self.clock.now();
        if self.registrations.failed.lock().get(&file.id).is_some_and(|failure| now < failure.again_at) {
            return false;
        }
        match (self.registrations.known.lock().get(&file.id), self.wanted(file)) {
            (None, wanted) => wanted.is_some(),
            (Some(_), None) => true,
            (Some(stands), Some((callback, objects))) => {
                stands.callback != callback
                    || stands.objects != objects
                    || stands.check_at <= now
                    || !stands.is_of(file)
            }
        }
    }

    /// What is wrong with a connection's webhooks, in words.
    pub(super) fn trouble_with_webhooks(&self, id: &ConnectionId) -> Option<String> {
        let wanted = self.files.lock().get(id).is_some_and(|file| file.register_webhooks);
        let stands = self.registrations.known.lock().get(id).is_some_and(|stands| stands.state.is_some());
        let failed = self.registrations.failed.lock();
        let why = &failed.get(id)?.why;
        Some(match (wanted, stands) {
            (true, false) => format!("no webhooks, it is asked for what changed: {why}"),
            (true, true) => format!("its webhooks could not be renewed: {why}"),
            (false, _) => format!("its webhooks could not be ended, the CRM may go on sending them: {why}"),
        })
    }

    /// Makes, renews or ends the registration of a connection.
    async fn see_to_registration(&self, id: &ConnectionId) -> Result<(), StoreError> {
        let Some(_turn) = self.registrations.take(id) else { return Ok(()) };
        let file = self.files.lock().get(id).cloned();
        let (Some(file), Some(connection)) = (file, self.pipeline.connection(id)) else { return Ok(()) };
        let wanted = self.wanted(&file);
        let idle =
            connection.directions.disabled() || (wanted.is_some() && connection.directions.internal_paused());
        // Somebody else may have seen to it while this waited.
        if idle || !self.is_due(&file) {
            return Ok(());
        }
        let mut stands = self.registrations.known.lock().get(id).cloned();
        if let Some(other) = stands.take_if(|stands| !stands.is_of(&file)) {
            tracing::warn!(
                connection = %id,
                provider = %other.provider,
                account = other.account,
                "the webhooks of the account that it had stay registered; remove them in the CRM"
            );
            self.note_registration(id, None).await?;
        }
        // Under another address, or wanted no more: the old one ends first.
        let ends =
            stands.take_if(|stands| wanted.as_ref().is_none_or(|(address, _)| *address != stands.callback));
        if let Some(old) = ends {
            if let Err(why) = self.pipeline.watch(&connection, old.watch(false)).await {
                tracing::warn!(connection = %id, why, "its webhooks could not be ended; it is tried again");
                self.registrations.fail(id, why, self.clock.now());
                return Ok(());
            }
            self.note_registration(id, None).await?;
        }
        if let Some((callback, objects)) = wanted {
            let mut registration = Registration {
                provider: file.provider.clone(),
                account: file.account.clone(),
                callback,
                objects,
                state: stands.as_ref().and_then(|stands| stands.state.clone()),
                check_at: 0,
            };
            if stands.is_none() {
                self.note_registration(id, Some(registration.clone())).await?;
            }
            match self.pipeline.watch(&connection, registration.watch(true)).await {
                Ok(channel) => {
                    let now = self.clock.now();
                    registration.check_at = channel.check_at.clamp(now + AT_LEAST, now + AT_MOST);
                    registration.state = Some(channel.state);
                    self.note_registration(id, Some(registration)).await?;
                }
                Err(why) => {
                    tracing::warn!(connection = %id, why, "the CRM was asked for webhooks in vain; it is tried again");
                    self.registrations.fail(id, why, self.clock.now());
                    return Ok(());
                }
            }
        }
        self.registrations.succeed(id);
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

    /// A connection goes: its registration ends, where the CRM can be reached now. It is forgotten in any case. Its file is not in use
    /// any more, so that nothing new begins.
    async fn end_registration(&self, id: &ConnectionId) {
        let ended = tokio::time::timeout(PARTING, async {
            // A request that is under way is waited for: what it makes is to be ended too.
            let turn = loop {
                match self.registrations.take(id) {
                    Some(turn) => break turn,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            let Some(stands) = self.registrations.known.lock().get(id).cloned() else { return Ok(()) };
            let connection = self.pipeline.connection(id).ok_or("its connection is not in use")?;
            let ended = self.pipeline.watch(&connection, stands.watch(false)).await;
            drop(turn);
            ended.map(drop)
        })
        .await
        .unwrap_or_else(|_| Err(format!("the CRM did not answer within {PARTING:?}")));
        if let Err(why) = ended {
            tracing::warn!(connection = %id, why, "its webhooks stay registered; remove them in the CRM");
        }
        if let Err(error) = self.note_registration(id, None).await {
            tracing::error!(connection = %id, %error, "that a webhook registration ended cannot be noted");
        }
        self.registrations.succeed(id);
    }

    /// Ends what stands for connections that go now, also what is being asked for at this moment, and for those whose files went while
    /// the daemon did not run.
    pub(super) async fn end_registrations_without(
        &self,
        files: impl Fn(&ConnectionId) -> bool,
        going: &[ConnectionId],
    ) {
        let mut gone: BTreeSet<ConnectionId> = going.iter().cloned().collect();
        gone.extend(self.registrations.known.lock().keys().filter(|id| !files(id)).cloned());
        futures_util::future::join_all(gone.iter().map(|id| self.end_registration(id))).await;
    }
}

impl Registration {
    /// Whether it is one with the account and provider that the file has.
    fn is_of(&self, file: &ConnectionConfig) -> bool {
        self.provider == file.provider && self.account == file.account
    }

    fn watch(&self, active: bool) -> Watch {
        let (callback, objects) = (self.callback.clone(), self.objects.clone());
        Watch { callback, objects, channel: self.state.clone(), active }
    }
}
