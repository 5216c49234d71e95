//! Another version takes the place of the one that serves: tried for every connection first, then swapped at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem_core::id::{ConnectionId, ObjectName, ProviderId};

use super::{Behind, Deployed, Deployment, RECORDS_OF_CONNECTION};
use crate::admin::view::Swapped;
use crate::admin::{ControlError, Pin};
use crate::app::Engine;
use crate::config::ConnectionConfig;
use crate::pipeline::{Clock as _, Connection};
use crate::provider::{Binding, Candidate, LoadError, LoadStep, Setup, Trial, Version};

/// A swap is reported when what had begun before has ended, or after this: other changes wait for it.
const ENDING: Duration = Duration::from_secs(5);

/// Between two looks at what has not ended yet.
const LOOK: Duration = Duration::from_millis(5);

impl Engine {
    /// Admits a version and lets it serve. `candidate`: its bytes, unless they are in the archive.
    ///
    /// The error is one line; nothing has changed then.
    pub(super) async fn admit(
        self: &Arc<Self>,
        version: Arc<Version>,
        candidate: Option<&Candidate>,
    ) -> Result<Swapped, String> {
        let began = Instant::now();
        let provider = version.provider.clone();
        let users: Vec<Arc<ConnectionConfig>> =
            self.files.lock().values().filter(|file| file.provider == provider).cloned().collect();
        let tried = self.try_all(&version, users).await?;
        let (mut ready, mut failed) = (Vec::new(), BTreeMap::new());
        for (file, outcome) in tried {
            match outcome {
                Ok(binding) => ready.push((file, binding)),
                Err(why) => {
                    failed.insert(file.id.clone(), why);
                }
            }
        }
        if let (true, Some((id, why))) = (ready.is_empty(), failed.first_key_value()) {
            let others = match failed.len() {
                1 => String::new(),
                more => format!(" (and so for {} others)", more - 1),
            };
            let remedy = "mend it, or the connection's settings, and drop it in again";
            return Err(format!(
                "{}: provider {}: connection {id}: {why}{others}; {remedy}",
                version.file.display(),
                version.label
            ));
        }
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
        let swapped = self.swap(version, ready, failed).await?;
        Ok(Swapped { took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), ..swapped })
    }

    /// Configures and tries a version for each of its connections, on a thread that may block.
    async fn try_all(
        self: &Arc<Self>,
        version: &Arc<Version>,
        users: Vec<Arc<ConnectionConfig>>,
    ) -> Result<Vec<(Arc<ConnectionConfig>, Result<Binding, String>)>, String> {
        let (engine, version) = (self.clone(), version.clone());
        tokio::task::spawn_blocking(move || {
            let trial = Trial::new(RECORDS_OF_CONNECTION, engine.clock.now());
            users
                .into_iter()
                .map(|file| {
                    let tried = engine.try_blocking(&version, &file, &trial);
                    (file, tried)
                })
                .collect()
        })
        .await
        .map_err(|error| format!("trying {} ended early: {error}", self.config.providers_dir.display()))
    }

    /// Tries a version for one connection, with what is stored for it.
    pub(in crate::app) fn try_blocking(
        &self,
        version: &Arc<Version>,
        file: &ConnectionConfig,
        trial: &Trial,
    ) -> Result<Binding, String> {
        let objects: Vec<ObjectName> = file.enabled().map(|(name, _)| name.clone()).collect();
        let stored = self.stored(&file.id, &objects);
        let setup = Setup { settings: file.settings.clone(), facts: self.facts(&file.id) };
        let binding = self.runtime.bind_blocking(version, &file.id, &setup, Some((&stored, trial))).map_err(
            |LoadError { step, reason, remedy, .. }| match step {
                LoadStep::Laws | LoadStep::Stored => format!("{step}: {reason}; {remedy}"),
                _ => format!("{step}: {reason}"),
            },
        )?;
        self.prepare(file, &binding).map_err(|findings| findings.join("; "))?;
        Ok(binding)
    }

    /// The record first, then the swap in memory, then what had begun ends.
    async fn swap(
        self: &Arc<Self>,
        version: Arc<Version>,
        ready: Vec<(Arc<ConnectionConfig>, Binding)>,
        failed: BTreeMap<ConnectionId, String>,
    ) -> Result<Swapped, String> {
        let provider = version.provider.clone();
        let mut behind = BTreeMap::new();
        for (id, why) in &failed {
            tracing::error!(connection = %id, provider = %version.label, why, "a connection stays on the version that it has");
            if let Some(own) = self.runtime.version_of(id) {
                self.shelf.put_version(own.clone());
                behind.insert(
                    id.clone(),
                    Behind { on: Deployed::of(&own, self.clock.now()), why: why.clone() },
                );
            }
        }
        self.shelf.put_version(version.clone());
        let deployed = Deployed::of(&version, self.clock.now());
        let before = self
            .note_deployments(|deployments| {
                let Some(one) = deployments.providers.get_mut(&provider) else {
                    let first = Deployment { behind, ..Deployment::first(deployed) };
                    deployments.providers.insert(provider.clone(), first);
                    return None;
                };
                let before = std::mem::replace(&mut one.serving, deployed);
                if before.digest != one.serving.digest {
                    one.previous = Some(before.clone());
                }
                one.behind = behind;
                one.set_back.remove(&one.serving.digest);
                one.disabled = false;
                Some(before)
            })
            .await
            .map_err(|error| error.to_string())?;

        self.runtime.serve(version.clone());
        let moved = ready.len() as u64;
        let old = self.move_over(ready);
        self.open_doors();
        let finishing = ended(old).await;
        let deployments = self.shelf.deployments.lock().clone();
        let archive = self.archive.clone();
        // What nothing names any more may go; when is of no interest.
        drop(tokio::task::spawn_blocking(move || archive.sweep(&deployments.digests())));
        self.shelf.forget_versions();
        tracing::info!(provider = %version.label, connections = moved, behind = failed.len(), "another version serves");
        Ok(Swapped {
            provider,
            from: before.map(|before| before.label),
            to: version.label.to_string(),
            moved,
            behind: failed,
            finishing,
            took_ms: 0,
        })
    }

    /// Connections with their new bindings, all at once. Gives back those that they replace.
    pub(in crate::app) fn move_over(
        &self,
        ready: Vec<(Arc<ConnectionConfig>, Binding)>,
    ) -> Vec<Arc<Connection>> {
        let (mut connections, mut bindings, mut old) = (Vec::new(), Vec::new(), Vec::new());
        for (file, binding) in ready {
            let made = self.prepare(&file, &binding).and_then(|prepared| self.install(&file, prepared));
            match made {
                Ok(mut connection) => {
                    if let Some(before) = self.pipeline.connection(&file.id) {
                        connection.directions = before.directions.clone();
                        connection.directions.disable(false);
                        old.push(before);
                    }
                    bindings.push(binding);
                    connections.push(connection);
                }
                Err(findings) => {
                    tracing::error!(connection = %file.id, ?findings, "a connection stays as it was");
                }
            }
        }
        self.runtime.put(&bindings);
        if let Err(error) = self.pipeline.connect(connections) {
            tracing::error!(%error, "the queue of a connection cannot be read");
        }
        old
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
        let swapped = self.swap_to(&previous).await?;
        let set_back = deployment.serving.digest;
        self.note_deployments(|deployments| {
            if let Some(one) = deployments.providers.get_mut(provider) {
                one.set_back.insert(set_back);
            }
        })
        .await
        .map_err(|error| ControlError::Failed(error.to_string()))?;
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
                    false => Some(self.swap_to(one).await?),
                }
            }
            None => None,
        };
        let pinned = !pin.off;
        let serving = self
            .note_deployments(|deployments| {
                let one = deployments.providers.get_mut(&pin.provider)?;
                one.pinned = pinned;
                if pinned && pin.version.is_some() {
                    one.set_back.remove(&one.serving.digest);
                }
                Some(one.serving.label.clone())
            })
            .await
            .map_err(|error| ControlError::Failed(error.to_string()))?
            .unwrap_or_default();
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

    async fn swap_to(self: &Arc<Self>, deployed: &Deployed) -> Result<Swapped, ControlError> {
        let (engine, wanted) = (self.clone(), deployed.clone());
        let version = tokio::task::spawn_blocking(move || engine.archived_blocking(&wanted))
            .await
            .map_err(|error| ControlError::Failed(error.to_string()))?
            .map_err(|error| ControlError::Failed(error.to_string()))?;
        self.admit(version, None).await.map_err(ControlError::Conflict)
    }

    /// Files of the folder are looked at anew: what holds them back has changed.
    fn hold_back(&self, provider: &ProviderId) {
        self.shelf.found.lock().retain(|_, found| !found.is_of(provider));
    }
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
