//! Another version takes the place of the one that serves: tried for every connection first, then swapped at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tandem_core::id::{ConnectionId, ObjectName, ProviderId};

use super::{Behind, Deployed, Deployment, RECORDS_OF_CONNECTION};
use crate::admin::view::Swapped;
use crate::admin::{ControlError, Pin};
use crate::app::Engine;
use crate::app::build::Prepared;
use crate::config::ConnectionConfig;
use crate::pipeline::{Clock as _, Connection};
use crate::provider::{Candidate, LoadError, LoadStep, Setup, Trial, Version};

/// A swap is reported when what had begun before has ended, or after this: other changes of providers wait for it.
const ENDING: Duration = Duration::from_secs(5);

/// Between two looks at what has not ended yet.
const LOOK: Duration = Duration::from_millis(5);

/// A connection as a version was tried for it.
struct Tried {
    file: Arc<ConnectionConfig>,
    facts: Value,
    outcome: Result<Prepared, String>,
}

impl Tried {
    /// Whether neither its file nor what its account said of itself has changed since.
    fn is_of(&self, file: &Arc<ConnectionConfig>, facts: &Value) -> bool {
        Arc::ptr_eq(&self.file, file) && self.facts == *facts
    }
}

/// What became of connections that were to move.
#[derive(Default)]
pub(in crate::app) struct MovedOver {
    /// What they were before: work that has begun ends with these.
    pub(in crate::app) old: Vec<Arc<Connection>>,
    /// Those that stay as they were, and why.
    pub(in crate::app) failed: BTreeMap<ConnectionId, String>,
}

impl Engine {
    /// Admits a version and lets it serve. `candidate`: its bytes, unless they are in the archive. `also`: what else changes
    /// with it in the record, at once with it.
    ///
    /// Connections are tried before the turn is taken, so that saved settings need not wait for that; those that changed
    /// meanwhile are tried again within it. The error is one line; nothing has changed then.
    pub(super) async fn admit(
        self: &Arc<Self>,
        version: Arc<Version>,
        candidate: Option<&Candidate>,
        also: impl FnOnce(&mut Deployment),
    ) -> Result<Swapped, String> {
        let began = Instant::now();
        let mut tried = BTreeMap::new();
        self.try_for(&version, &mut tried).await?;
        refuse_if_all_failed(&version, &tried)?;
        if let Some(candidate) = candidate {
            let (archive, candidate) = (self.archive.clone(), candidate.clone());
            tokio::task::spawn_blocking(move || archive.keep(&candidate))
                .await
                .map_err(|error| error.to_string())?
                .map_err(|error| {
                    format!(
                        "{}: cannot be archived below data_dir: {error}; free some space",
                        version.file.display()
                    )
                })?;
        }
        let turn = self.turn.lock().await;
        self.try_for(&version, &mut tried).await?;
        refuse_if_all_failed(&version, &tried)?;
        let (swapped, old) = self.swap(version, tried, also).await?;
        drop(turn);
        let finishing = ended(old).await;
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Swapped { finishing, took_ms, ..swapped })
    }

    /// Tries a version for each of its connections that it was not tried for as they are now, on a thread that may block.
    async fn try_for(
        self: &Arc<Self>,
        version: &Arc<Version>,
        tried: &mut BTreeMap<ConnectionId, Tried>,
    ) -> Result<(), String> {
        let users: Vec<(Arc<ConnectionConfig>, Value)> = {
            let files = self.files.lock();
            let users = files.values().filter(|file| file.provider == version.provider);
            users.map(|file| (file.clone(), self.facts(&file.id))).collect()
        };
        tried
            .retain(|id, tried| users.iter().any(|(file, facts)| file.id == *id && tried.is_of(file, facts)));
        let fresh: Vec<_> = users.into_iter().filter(|(file, _)| !tried.contains_key(&file.id)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let (engine, version) = (self.clone(), version.clone());
        let more = tokio::task::spawn_blocking(move || {
            let trial = Trial::new(RECORDS_OF_CONNECTION, engine.clock.now());
            let one = |(file, facts): (Arc<ConnectionConfig>, Value)| {
                let outcome = engine.try_blocking(&version, &file, &trial);
                (file.id.clone(), Tried { file, facts, outcome })
            };
            fresh.into_iter().map(one).collect::<Vec<_>>()
        })
        .await
        .map_err(|error| format!("trying {} ended early: {error}", self.config.providers_dir.display()))?;
        tried.extend(more);
        Ok(())
    }

    /// Tries a version for one connection, with what is stored for it.
    pub(in crate::app) fn try_blocking(
        &self,
        version: &Arc<Version>,
        file: &Arc<ConnectionConfig>,
        trial: &Trial,
    ) -> Result<Prepared, String> {
        let objects: Vec<ObjectName> = file.enabled().map(|(name, _)| name.clone()).collect();
        let stored = self
            .stored(&file.id, &objects)
            .map_err(|error| format!("{}: what is stored for it: {error}", LoadStep::Stored))?;
        let setup = Setup { settings: file.settings.clone(), facts: self.facts(&file.id) };
        let binding = self.runtime.bind_blocking(version, &file.id, &setup, Some((&stored, trial))).map_err(
            |LoadError { step, reason, remedy, .. }| match step {
                LoadStep::Laws | LoadStep::Stored => format!("{step}: {reason}; {remedy}"),
                _ => format!("{step}: {reason}"),
            },
        )?;
        self.prepare(file, &binding).map_err(|findings| findings.join("; "))
    }

    /// The record first, then the swap in memory. Gives back what had begun before. The caller holds the turn.
    async fn swap(
        self: &Arc<Self>,
        version: Arc<Version>,
        tried: BTreeMap<ConnectionId, Tried>,
        also: impl FnOnce(&mut Deployment),
    ) -> Result<(Swapped, Vec<Arc<Connection>>), String> {
        let provider = version.provider.clone();
        let (mut ready, mut failed) = (Vec::new(), BTreeMap::new());
        for (id, Tried { outcome, .. }) in tried {
            match outcome {
                Ok(prepared) => ready.push(prepared),
                Err(why) => {
                    failed.insert(id, why);
                }
            }
        }
        let behind = self.stay_behind(&version, &failed);
        self.shelf.put_version(version.clone());
        let deployed = Deployed::of(&version, self.clock.now());
        let before = self
            .note_deployments(|deployments| {
                let first = !deployments.providers.contains_key(&provider);
                let one = deployments
                    .providers
                    .entry(provider.clone())
                    .or_insert_with(|| Deployment::first(deployed.clone()));
                let before = std::mem::replace(&mut one.serving, deployed);
                if before.digest != one.serving.digest {
                    one.previous = Some(before.clone());
                }
                one.behind = behind;
                one.set_back.remove(&one.serving.digest);
                one.disabled = false;
                also(one);
                (!first).then_some(before.label)
            })
            .await?;

        self.runtime.serve(version.clone());
        let wanted = ready.len();
        let engine = self.clone();
        let moved = tokio::task::spawn_blocking(move || {
            let moved = tokio::runtime::Handle::current().block_on(engine.move_over(ready));
            engine.open_doors();
            moved
        })
        .await
        .map_err(|error| format!("moving connections to {} ended early: {error}", version.label))?;
        let count = wanted.saturating_sub(moved.failed.len()) as u64;
        if !moved.failed.is_empty() {
            let more = self.stay_behind(&version, &moved.failed);
            self.note_deployments(|deployments| {
                if let Some(one) = deployments.providers.get_mut(&provider) {
                    one.behind.extend(more);
                }
            })
            .await?;
            failed.extend(moved.failed);
        }
        self.sweep().await;
        tracing::info!(provider = %version.label, connections = count, behind = failed.len(), "another version serves");
        let swapped = Swapped {
            provider,
            from: before,
            to: version.label.to_string(),
            moved: count,
            behind: failed,
            finishing: 0,
            took_ms: 0,
        };
        Ok((swapped, moved.old))
    }

    /// Names connections for which a version failed, each with the version that it stays on.
    fn stay_behind(
        &self,
        version: &Version,
        failed: &BTreeMap<ConnectionId, String>,
    ) -> BTreeMap<ConnectionId, Behind> {
        let mut behind = BTreeMap::new();
        for (id, why) in failed {
            tracing::error!(connection = %id, provider = %version.label, why, "a connection stays on the version that it has");
            if let Some(own) = self.runtime.version_of(id) {
                self.shelf.put_version(own.clone());
                let on = Deployed::of(&own, self.clock.now());
                behind.insert(id.clone(), Behind { on, why: why.clone() });
            }
        }
        behind
    }

    /// Lets go of what the record names no more. The caller holds the turn, so that nothing is swept that is being admitted
    /// by somebody else and not noted yet; what this admission kept is noted already.
    async fn sweep(&self) {
        let deployments = self.shelf.deployments.lock().clone();
        let archive = self.archive.clone();
        let swept = tokio::task::spawn_blocking(move || archive.sweep(&deployments.digests())).await;
        if let Err(error) = swept {
            tracing::warn!(%error, "versions that nothing names are still in the archive");
        }
        self.shelf.forget_versions();
    }

    /// Connections as they were prepared, all at once.
    pub(in crate::app) async fn move_over(&self, ready: Vec<Prepared>) -> MovedOver {
        let mut moved = MovedOver::default();
        let (mut connections, mut bindings) = (Vec::new(), Vec::new());
        for prepared in ready {
            let file = prepared.file.clone();
            match self.install(prepared) {
                Ok(mut connection) => {
                    if let Some(before) = self.pipeline.connection(&file.id) {
                        connection.directions = before.directions.clone();
                        moved.old.push(before);
                    }
                    connection.directions.disable(self.shelf.disabled(&file.provider));
                    bindings.push(connection.binding.clone());
                    connections.push(connection);
                }
                Err(findings) => {
                    moved.failed.insert(file.id.clone(), findings.join("; "));
                }
            }
        }
        if let Err(error) = self.pipeline.note_places(&mut connections).await {
            tracing::error!(%error, "where the fields of a connection were before cannot be read or noted");
        }
        self.runtime.put(&bindings);
        if let Err(error) = self.pipeline.connect(connections) {
            tracing::error!(%error, "the queue of a connection cannot be read");
        }
        moved
    }

    /// What served before serves again.
    pub(in crate::app) async fn roll_provider_back(
        self: &Arc<Self>,
        provider: &ProviderId,
    ) -> Result<Swapped, ControlError> {
        let deployment = self.deployed(provider)?;
        let previous = deployment.previous.clone().ok_or_else(|| {
            ControlError::Conflict(format!(
                "provider {provider} has no version before {}",
                deployment.serving.label
            ))
        })?;
        let set_back = deployment.serving.digest;
        let swapped = self
            .swap_to(&previous, |one| {
                one.set_back.insert(set_back);
            })
            .await?;
        self.hold_back(provider);
        Ok(swapped)
    }

    /// Keeps a provider on a version, or lets other files in again.
    pub(in crate::app) async fn pin_provider(self: &Arc<Self>, pin: Pin) -> Result<Swapped, ControlError> {
        let deployment = self.deployed(&pin.provider)?;
        let swapped = match &pin.version {
            Some(wanted) => {
                let known = std::iter::once(&deployment.serving).chain(&deployment.previous);
                let fitting: Vec<&Deployed> = known
                    .filter(|one| one.label == *wanted || one.digest.starts_with(wanted.as_str()))
                    .collect();
                let [one] = fitting.as_slice() else {
                    let known: Vec<&str> = std::iter::once(&deployment.serving)
                        .chain(&deployment.previous)
                        .map(|one| one.label.as_str())
                        .collect();
                    return Err(ControlError::NotFound(format!(
                        "provider {} has no version {wanted}; it has {}",
                        pin.provider,
                        known.join(", ")
                    )));
                };
                match one.digest == deployment.serving.digest {
                    true => None,
                    false => Some(self.swap_to(one, |one| one.pinned = true).await?),
                }
            }
            None => None,
        };
        let serving = match &swapped {
            Some(swapped) => swapped.to.clone(),
            None => {
                let _turn = self.turn.lock().await;
                self.note_deployments(|deployments| {
                    let Some(one) = deployments.providers.get_mut(&pin.provider) else { return };
                    one.pinned = !pin.off;
                    if !pin.off && pin.version.is_some() {
                        one.set_back.remove(&one.serving.digest);
                    }
                })
                .await
                .map_err(ControlError::Failed)?;
                deployment.serving.label
            }
        };
        self.hold_back(&pin.provider);
        Ok(swapped.unwrap_or_else(|| Swapped {
            provider: pin.provider.clone(),
            from: Some(serving.clone()),
            to: serving,
            moved: 0,
            behind: BTreeMap::new(),
            finishing: 0,
            took_ms: 0,
        }))
    }

    async fn swap_to(
        self: &Arc<Self>,
        deployed: &Deployed,
        also: impl FnOnce(&mut Deployment),
    ) -> Result<Swapped, ControlError> {
        let (engine, wanted) = (self.clone(), deployed.clone());
        let version = tokio::task::spawn_blocking(move || engine.archived_blocking(&wanted))
            .await
            .map_err(|error| ControlError::Failed(error.to_string()))?
            .map_err(|error| ControlError::Failed(error.to_string()))?;
        self.admit(version, None, also).await.map_err(ControlError::Conflict)
    }

    /// Files of the folder are looked at anew: what holds them back has changed.
    fn hold_back(&self, provider: &ProviderId) {
        self.shelf.found.lock().retain(|_, found| !found.is_of(provider));
    }
}

/// Why a version that every connection refuses is not taken. One that no connection uses is.
fn refuse_if_all_failed(version: &Version, tried: &BTreeMap<ConnectionId, Tried>) -> Result<(), String> {
    let mut failed = Vec::new();
    for (id, tried) in tried {
        match &tried.outcome {
            Ok(_) => return Ok(()),
            Err(why) => failed.push((id, why)),
        }
    }
    let Some((id, why)) = failed.first() else { return Ok(()) };
    let others = match failed.len() {
        1 => String::new(),
        more => format!(" (and so for {} others)", more - 1),
    };
    Err(format!(
        "{}: provider {}: connection {id}: {why}{others}; mend it, or the connection's settings, and drop it in again",
        version.file.display(),
        version.label
    ))
}

/// Waits until nobody works with these any more; how many still do after a while.
async fn ended(old: Vec<Arc<Connection>>) -> u64 {
    let until = Instant::now() + ENDING;
    let mut left = old;
    loop {
        left.retain(|connection| Arc::strong_count(connection) > 1);
        if left.is_empty() || Instant::now() >= until {
            return left.len() as u64;
        }
        tokio::time::sleep(LOOK).await;
    }
}
