//! Which version of which provider serves, and how another one takes its place while the daemon runs.
//!
//! What serves is a record in the store ([`Deployments`]) that names files of an archive by their digest: both are on disk
//! before a swap happens in memory, so that after a crash exactly one version serves, a whole one. The folder of providers is
//! where files come in: what stands there is a wish, looked at by `scan`, taken through admission by `admit`.
//!
//! Invariants: nothing of the version that serves is touched before the other one has passed everything; a connection for
//! which it fails stays on the version that it has and is named; work that has begun ends on the version that it began with;
//! one change of providers or connections at a time.

mod admit;
mod archive;
mod scan;
mod stored;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_core::Millis;
use tandem_core::id::{ConnectionId, ProviderId};

use super::Engine;
use crate::admin::ControlError;
use crate::admin::view::{ProviderState, ProviderView};
use crate::provider::{LoadError, Version};
use crate::store::{Commit, Op, Store as _, StoreError, Until};

pub(super) use archive::Archive;
pub(super) use scan::{Found, Scan};
pub(super) use watch::watch;

/// Where the record is kept.
const DEPLOYMENTS: &str = "deployments";

/// Made-up records of each object when a version is admitted.
const RECORDS: usize = 200;

/// Made-up records of each object when a version, or other settings, are tried for a connection.
pub(super) const RECORDS_OF_CONNECTION: usize = 24;

/// Which versions serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Deployments {
    #[serde(default)]
    providers: BTreeMap<ProviderId, Deployment>,
}

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Deployment {
    serving: Deployed,
    /// What served before, for a rollback.
    #[serde(default)]
    previous: Option<Deployed>,
    /// Connections that stay on another version, and why.
    #[serde(default)]
    behind: BTreeMap<ConnectionId, Behind>,
    /// Digests that were rolled back from: they are not taken again by themselves.
    #[serde(default)]
    set_back: BTreeSet<String>,
    /// No other file is taken until this is undone.
    #[serde(default)]
    pinned: bool,
    /// Its file was removed: nothing runs, the queues wait.
    #[serde(default)]
    disabled: bool,
}

/// One version that serves or served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Deployed {
    /// SHA-256 of the file, in hexadecimal: its name in the archive.
    digest: String,
    /// `hubspot@0.1.0#1a2b3c4d`.
    label: String,
    /// Where it came from.
    file: PathBuf,
    /// Since when.
    since: Millis,
}

/// A connection that could not follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Behind {
    on: Deployed,
    why: String,
}

/// What the daemon knows of providers beyond what runs.
#[derive(Default)]
pub(super) struct Shelf {
    deployments: Mutex<Deployments>,
    /// Versions that were loaded, by digest.
    versions: Mutex<HashMap<String, Arc<Version>>>,
    /// Files of the folder as they were last seen.
    pub(super) found: Mutex<BTreeMap<PathBuf, Found>>,
}

pub(super) fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Deployed {
    fn of(version: &Version, since: Millis) -> Self {
        Self {
            digest: hex(&version.digest),
            label: version.label.to_string(),
            file: version.file.clone(),
            since,
        }
    }
}

impl Deployment {
    fn first(deployed: Deployed) -> Self {
        Self {
            serving: deployed,
            previous: None,
            behind: BTreeMap::new(),
            set_back: BTreeSet::new(),
            pinned: false,
            disabled: false,
        }
    }
}

impl Deployments {
    /// Files of the archive that something names.
    fn digests(&self) -> BTreeSet<&str> {
        let all = self.providers.values().flat_map(|deployment| {
            let behind = deployment.behind.values().map(|behind| &behind.on);
            std::iter::once(&deployment.serving).chain(&deployment.previous).chain(behind)
        });
        all.map(|deployed| deployed.digest.as_str()).collect()
    }
}

impl Shelf {
    /// The version that a connection gets: the one that it stayed on, else the one that serves.
    pub(super) fn version_for(
        &self,
        connection: &ConnectionId,
        provider: &ProviderId,
    ) -> Option<Arc<Version>> {
        let deployments = self.deployments.lock();
        let behind = deployments.providers.get(provider)?.behind.get(connection)?;
        self.versions.lock().get(&behind.on.digest).cloned()
    }

    /// Why a connection stays behind, and on what.
    pub(super) fn behind(&self, connection: &ConnectionId, provider: &ProviderId) -> Option<String> {
        let deployments = self.deployments.lock();
        let behind = deployments.providers.get(provider)?.behind.get(connection)?;
        Some(format!("it stays on {}: {}", behind.on.label, behind.why))
    }

    /// Whether a provider's file was removed.
    pub(super) fn disabled(&self, provider: &ProviderId) -> bool {
        self.deployments.lock().providers.get(provider).is_some_and(|deployment| deployment.disabled)
    }

    fn put_version(&self, version: Arc<Version>) {
        self.versions.lock().insert(hex(&version.digest), version);
    }

    /// Lets go of versions that nothing names any more.
    fn forget_versions(&self) {
        let deployments = self.deployments.lock().clone();
        let named = deployments.digests();
        self.versions.lock().retain(|digest, _| named.contains(digest.as_str()));
    }
}

impl Engine {
    /// Reads the record. One that cannot be read is named; the folder's files are then admitted as at the first start.
    pub(super) fn read_deployments(&self) -> Result<(), StoreError> {
        if let Some(stored) = self.store.value(DEPLOYMENTS)? {
            match serde_json::from_slice(&stored) {
                Ok(read) => *self.shelf.deployments.lock() = read,
                Err(error) => {
                    tracing::error!(%error, "which versions served cannot be read; the folder's files are taken");
                }
            }
        }
        Ok(())
    }

    /// Changes the record; it is durable when this returns. The caller holds the turn, or nobody else is there yet: two
    /// changes at once would lose one.
    ///
    /// The error is one line; the record is what it was.
    async fn note_deployments<T>(&self, change: impl FnOnce(&mut Deployments) -> T) -> Result<T, String> {
        let mut changed = self.shelf.deployments.lock().clone();
        let answer = change(&mut changed);
        let text = serde_json::to_vec(&changed)
            .map_err(|error| format!("which versions serve cannot be written down: {error}"))?;
        let mut commit = Commit::new();
        commit.push(Op::PutValue(DEPLOYMENTS.into(), text));
        self.store.commit(commit, Until::Durable).await.map_err(|error| error.to_string())?;
        *self.shelf.deployments.lock() = changed;
        Ok(answer)
    }

    /// A connection that has no version of its own any more: it was removed, or it follows again.
    pub(super) async fn caught_up(
        &self,
        provider: &ProviderId,
        connection: &ConnectionId,
    ) -> Result<(), String> {
        let is_behind = {
            let deployments = self.shelf.deployments.lock();
            deployments.providers.get(provider).is_some_and(|one| one.behind.contains_key(connection))
        };
        if is_behind {
            self.note_deployments(|deployments| {
                if let Some(one) = deployments.providers.get_mut(provider) {
                    one.behind.remove(connection);
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Loads what served when the daemon ended, from the archive.
    pub(super) async fn load_archived(self: &Arc<Self>) {
        let deployments = self.shelf.deployments.lock().clone();
        let engine = self.clone();
        let loading = tokio::task::spawn_blocking(move || {
            for deployment in deployments.providers.values() {
                match engine.archived_blocking(&deployment.serving) {
                    Ok(version) => engine.runtime.serve(version),
                    Err(error) => {
                        tracing::error!(%error, "what served cannot be loaded; the folder's file is taken if there is one");
                    }
                }
                for behind in deployment.behind.values() {
                    if let Err(error) = engine.archived_blocking(&behind.on) {
                        tracing::error!(%error, "what a connection stayed on cannot be loaded");
                    }
                }
            }
        });
        if let Err(error) = loading.await {
            tracing::error!(%error, "loading what served ended early");
        }
    }

    /// A version of the archive, loaded.
    fn archived_blocking(&self, deployed: &Deployed) -> Result<Arc<Version>, LoadError> {
        if let Some(version) = self.shelf.versions.lock().get(&deployed.digest) {
            return Ok(version.clone());
        }
        let path = self.archive.path(&deployed.digest);
        let candidate = self.runtime.read_blocking(&path, Some(&deployed.file))?;
        if hex(&candidate.digest) != deployed.digest {
            return Err(LoadError {
                what: format!("{}: provider {}", path.display(), deployed.label),
                step: crate::provider::LoadStep::Read,
                reason: "it is not the file that was archived".to_owned(),
                remedy: "copy the provider's file into the folder of providers again".to_owned(),
                incomplete: false,
            });
        }
        // It passed the laws when it was admitted.
        let (version, _) = self.runtime.inspect_blocking(&candidate, 0)?;
        self.shelf.put_version(version.clone());
        Ok(version)
    }

    /// Providers for people: what serves, and files that do not.
    pub(super) fn provider_views(&self) -> Vec<ProviderView> {
        let mut users: BTreeMap<ProviderId, u64> = BTreeMap::new();
        for file in self.files.lock().values() {
            *users.entry(file.provider.clone()).or_default() += 1;
        }
        let deployments = self.shelf.deployments.lock().clone();
        let mut views = Vec::new();
        for (provider, deployment) in &deployments.providers {
            let runs = self.runtime.version(provider).is_some();
            views.push(ProviderView {
                provider: provider.clone(),
                label: Some(deployment.serving.label.clone()),
                file: deployment.serving.file.display().to_string(),
                connections: users.get(provider).copied().unwrap_or_default(),
                state: match (deployment.disabled, runs, deployment.pinned) {
                    (true, ..) => ProviderState::Disabled,
                    (_, false, _) => ProviderState::Refused,
                    (.., true) => ProviderState::Pinned,
                    _ => ProviderState::Serving,
                },
                previous: deployment.previous.as_ref().map(|previous| previous.label.clone()),
                behind: deployment
                    .behind
                    .iter()
                    .map(|(id, behind)| (id.clone(), format!("stays on {}: {}", behind.on.label, behind.why)))
                    .collect(),
                detail: match deployment.disabled {
                    true => "its file was removed; put it back, and the queues go on".to_owned(),
                    false => String::new(),
                },
            });
        }
        views.extend(self.shelf.found.lock().iter().filter_map(|(path, found)| found.view(path)));
        views
    }

    /// The provider with its record, or what to say.
    fn deployed(&self, provider: &ProviderId) -> Result<Deployment, ControlError> {
        self.shelf.deployments.lock().providers.get(provider).cloned().ok_or_else(|| {
            ControlError::NotFound(format!(
                "there is no provider {provider}; `tandem provider list` lists them"
            ))
        })
    }

    /// Whether a folder's file is the one that something runs with.
    fn is_deployed_file(&self, path: &Path) -> bool {
        self.shelf.deployments.lock().providers.values().any(|deployment| deployment.serving.file == path)
    }
}
