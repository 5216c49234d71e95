//! A look at the folder of providers: which files are new, which are still on their way, which are gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tandem_core::id::ProviderId;

use super::{Deployed, Deployment, RECORDS, hex};
use crate::admin::view::{ProviderState, ProviderView, ProvidersReloaded};
use crate::app::Engine;
use crate::provider::{Candidate, LoadError, LoadStep, Version};

/// A file that ends in the middle and has not grown for so long is not on its way any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// How thorough a look is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) enum Scan {
    /// At the start, before there are connections: only what does not serve yet.
    First,
    /// Files that changed.
    Changed,
    /// Also those that were refused before.
    All,
}

/// A file of the folder as it was last seen.
#[derive(Clone, Debug)]
pub(in crate::app) struct Found {
    stamp: Stamp,
    seen: Instant,
    what: What,
}

/// What changes when a file does.
type Stamp = (Option<SystemTime>, u64, u64);

#[derive(Clone, Debug)]
enum What {
    /// It ends in the middle.
    Waiting(LoadError),
    /// It failed a step.
    Refused { why: String, by: Option<ProviderId> },
    /// It may be taken, was taken, or is held back: which, the record says.
    Whole { provider: ProviderId, digest: String, label: String, note: String },
}

impl Found {
    /// Whether it is a whole component of this provider.
    pub(super) fn is_of(&self, of: &ProviderId) -> bool {
        matches!(&self.what, What::Whole { provider, .. } if provider == of)
    }

    /// For people, unless it is what serves.
    pub(super) fn view(&self, path: &Path) -> Option<ProviderView> {
        let (provider, label, state, detail) = match &self.what {
            What::Waiting(error) => {
                (None, None, ProviderState::Waiting, format!("still being copied? {error}"))
            }
            What::Refused { why, by } => (by.clone(), None, ProviderState::Refused, why.clone()),
            What::Whole { note, .. } if note.is_empty() => return None,
            What::Whole { provider, label, note, .. } => {
                (Some(provider.clone()), Some(label.clone()), ProviderState::Held, note.clone())
            }
        };
        Some(ProviderView {
            provider: provider.unwrap_or_else(|| "".into()),
            label,
            file: path.display().to_string(),
            connections: 0,
            state,
            previous: None,
            behind: BTreeMap::new(),
            detail,
        })
    }
}

/// A file that was read in this look.
enum Read {
    /// As it was.
    Same,
    /// Not to be used.
    Not(LoadError),
    /// A whole component.
    Version(Arc<Version>, Candidate),
}

impl Engine {
    /// Looks at the folder, does what follows from it, and tries connections again that may have waited for that. The error is
    /// about these connections.
    pub(in crate::app) async fn look_at_providers(
        self: &Arc<Self>,
        scan: Scan,
    ) -> Result<ProvidersReloaded, String> {
        let reloaded = {
            let _one = self.admitting.lock().await;
            self.scan_providers(scan).await
        };
        if !reloaded.swapped.is_empty() {
            let _turn = self.turn.lock().await;
            self.reload_connections(true).await?;
        }
        Ok(reloaded)
    }

    /// Looks at the folder and does what follows from it. The caller is the only one who admits.
    pub(in crate::app) async fn scan_providers(self: &Arc<Self>, scan: Scan) -> ProvidersReloaded {
        let mut reloaded = ProvidersReloaded::default();
        let known = self.shelf.found.lock().clone();
        let engine = self.clone();
        let looked = tokio::task::spawn_blocking(move || engine.look_blocking(&known, scan)).await;
        let looked = match looked {
            Ok(Ok(looked)) => looked,
            Ok(Err(error)) => {
                tracing::error!(%error, "the folder of providers cannot be read; what serves goes on");
                reloaded.refused.push(error);
                return reloaded;
            }
            Err(error) => {
                reloaded.refused.push(format!("the look at the folder ended early: {error}"));
                return reloaded;
            }
        };
        let paths: BTreeSet<PathBuf> = looked.iter().map(|(path, ..)| path.clone()).collect();
        self.shelf.found.lock().retain(|path, _| paths.contains(path));
        let mut taken: HashMap<ProviderId, PathBuf> = HashMap::new();
        for (path, stamp, read) in looked {
            let what = match read {
                Read::Same => self.known_again(&path),
                Read::Not(error) => Some(self.not_whole(&path, stamp, error, &mut reloaded)),
                Read::Version(version, candidate) => {
                    Some(self.whole(&path, version, &candidate, &taken, &mut reloaded).await)
                }
            };
            let Some(what) = what else { continue };
            if let What::Whole { provider, note, .. } = &what
                && note.is_empty()
            {
                taken.insert(provider.clone(), path.clone());
            }
            let mut found = self.shelf.found.lock();
            let same = found.get(&path).filter(|before| before.stamp == stamp).map(|before| before.seen);
            found.insert(path, Found { stamp, seen: same.unwrap_or_else(Instant::now), what });
        }
        self.follow_removals(&paths, &mut reloaded).await;
        reloaded
    }

    /// Reads what changed. Compiling and the laws happen here, off the threads of the runtime.
    fn look_blocking(
        &self,
        known: &BTreeMap<PathBuf, Found>,
        scan: Scan,
    ) -> Result<Vec<(PathBuf, Stamp, Read)>, String> {
        let folder = &self.config.providers_dir;
        let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
        let mut looked = Vec::new();
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if path.extension().is_some_and(|extension| extension == "wasm") && !hidden {
                paths.push(path);
            }
        }
        paths.sort();
        for path in paths {
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            let stamp = stamp(&metadata);
            let before = known.get(&path).filter(|before| before.stamp == stamp);
            let settled = before.is_some_and(|before| match &before.what {
                What::Waiting(_) => before.seen.elapsed() < PATIENCE && scan != Scan::All,
                What::Refused { .. } | What::Whole { .. } => scan != Scan::All,
            });
            if settled {
                looked.push((path, stamp, Read::Same));
                continue;
            }
            let read = match self.read_file_blocking(&path) {
                Ok((version, candidate)) => Read::Version(version, candidate),
                Err(error) => Read::Not(error),
            };
            looked.push((path, stamp, read));
        }
        Ok(looked)
    }

    fn read_file_blocking(&self, path: &Path) -> Result<(Arc<Version>, Candidate), LoadError> {
        let candidate = self.runtime.read_blocking(path, None)?;
        if let Some(version) = self.shelf.versions.lock().get(&hex(&candidate.digest)) {
            return Ok((version.clone(), candidate));
        }
        let (version, _) = self.runtime.inspect_blocking(&candidate, RECORDS)?;
        Ok((version, candidate))
    }

    /// A file that has not changed: what is known of it, unless it waited too long.
    fn known_again(&self, path: &Path) -> Option<What> {
        self.shelf.found.lock().get(path).map(|before| before.what.clone())
    }

    fn not_whole(
        &self,
        path: &Path,
        stamp: Stamp,
        error: LoadError,
        reloaded: &mut ProvidersReloaded,
    ) -> What {
        let waited = {
            let found = self.shelf.found.lock();
            found.get(path).filter(|before| before.stamp == stamp).map(|before| before.seen.elapsed())
        };
        let line = error.to_string();
        if error.incomplete && waited.is_none_or(|waited| waited < PATIENCE) {
            tracing::info!(file = %path.display(), "a provider's file is not whole yet; it is looked at again");
            reloaded.waiting.push(line);
            return What::Waiting(error);
        }
        let serves = self.is_deployed_file(path);
        tracing::error!(%error, serves, "a provider's file is refused; what serves goes on");
        reloaded.refused.push(line.clone());
        What::Refused { why: line, by: None }
    }

    /// A whole component: taken, or held back, or refused.
    async fn whole(
        self: &Arc<Self>,
        path: &Path,
        version: Arc<Version>,
        candidate: &Candidate,
        taken: &HashMap<ProviderId, PathBuf>,
        reloaded: &mut ProvidersReloaded,
    ) -> What {
        let digest = hex(&version.digest);
        let what = |note: &str| What::Whole {
            provider: version.provider.clone(),
            digest: digest.clone(),
            label: version.label.to_string(),
            note: note.to_owned(),
        };
        let refuse = |why: String, reloaded: &mut ProvidersReloaded| {
            tracing::error!(error = why, "a provider's file is refused; what serves goes on");
            reloaded.refused.push(why.clone());
            What::Refused { why, by: Some(version.provider.clone()) }
        };
        let deployment = self.shelf.deployments.lock().providers.get(&version.provider).cloned();
        let already = |other: &Path| {
            let error = LoadError {
                what: format!("{}: provider {}", path.display(), version.label),
                step: LoadStep::Descriptor,
                reason: format!("{} gives provider {} already", other.display(), version.provider),
                remedy: "leave one file for each provider in the folder".to_owned(),
                incomplete: false,
            };
            error.to_string()
        };
        if let Some(deployment) = &deployment
            && self.runtime.version(&version.provider).is_some()
        {
            if deployment.serving.digest == digest {
                return match self.enable(&version.provider, deployment, path, reloaded).await {
                    Ok(()) => what(""),
                    Err(why) => refuse(why, reloaded),
                };
            }
            if deployment.set_back.contains(&digest) {
                return what(
                    "it was rolled back; `tandem provider pin` takes it again, or drop in another file",
                );
            }
            if deployment.pinned {
                return what(&format!(
                    "the provider is pinned to {}; `tandem provider pin {} --off` lets others in",
                    deployment.serving.label, version.provider
                ));
            }
            let serving = deployment.serving.file.as_path();
            if serving != path && self.still_stands(&deployment.serving).await {
                return refuse(already(serving), reloaded);
            }
        }
        if let Some(other) = taken.get(&version.provider) {
            return refuse(already(other), reloaded);
        }
        match self.admit(version.clone(), Some(candidate), |_| {}).await {
            Ok(swapped) => {
                reloaded.swapped.push(swapped);
                what("")
            }
            Err(why) => refuse(why, reloaded),
        }
    }

    /// Whether the file that a version came from is still that version.
    async fn still_stands(self: &Arc<Self>, deployed: &Deployed) -> bool {
        let seen = {
            let found = self.shelf.found.lock();
            found
                .get(&deployed.file)
                .map(|found| matches!(&found.what, What::Whole { digest, .. } if *digest == deployed.digest))
        };
        if let Some(seen) = seen {
            return seen;
        }
        let (engine, deployed) = (self.clone(), deployed.clone());
        let read = tokio::task::spawn_blocking(move || {
            let read = engine.runtime.read_blocking(&deployed.file, None);
            read.is_ok_and(|candidate| hex(&candidate.digest) == deployed.digest)
        });
        read.await.unwrap_or(false)
    }

    /// The file of what serves is there: it is enabled if it was not, and known under its new name if it was moved.
    async fn enable(
        &self,
        provider: &ProviderId,
        deployment: &Deployment,
        path: &Path,
        reloaded: &mut ProvidersReloaded,
    ) -> Result<(), String> {
        let moved = deployment.serving.file != path && !deployment.serving.file.exists();
        if !deployment.disabled && !moved {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        self.note_deployments(|deployments| {
            if let Some(one) = deployments.providers.get_mut(provider) {
                one.disabled = false;
                if moved {
                    one.serving.file = path.to_owned();
                }
            }
        })
        .await?;
        if deployment.disabled {
            tracing::info!(%provider, "its file is back; its connections go on");
            self.turn_off(provider, false);
            reloaded.enabled.push(provider.clone());
        }
        Ok(())
    }

    /// Providers whose files are gone are disabled. Not when a file stands in the place that cannot be used: that is a bad
    /// copy and no removal.
    async fn follow_removals(&self, paths: &BTreeSet<PathBuf>, reloaded: &mut ProvidersReloaded) {
        let gone: Vec<ProviderId> = {
            let deployments = self.shelf.deployments.lock();
            let found = self.shelf.found.lock();
            let given: BTreeSet<&ProviderId> = found
                .values()
                .filter_map(|found| match &found.what {
                    What::Whole { provider, .. } => Some(provider),
                    What::Refused { by, .. } => by.as_ref(),
                    What::Waiting(_) => None,
                })
                .collect();
            let gone = deployments.providers.iter().filter(|(provider, deployment)| {
                let place = &deployment.serving.file;
                let another = found.get(place).is_some_and(|found| match &found.what {
                    What::Whole { provider: other, .. } => other != *provider,
                    What::Waiting(_) | What::Refused { .. } => false,
                });
                !deployment.disabled && (!paths.contains(place) || another) && !given.contains(provider)
            });
            gone.map(|(provider, _)| provider.clone()).collect()
        };
        if gone.is_empty() {
            return;
        }
        let _turn = self.turn.lock().await;
        for provider in gone {
            let noted = self
                .note_deployments(|deployments| {
                    if let Some(one) = deployments.providers.get_mut(&provider) {
                        one.disabled = true;
                    }
                })
                .await;
            if let Err(error) = noted {
                tracing::error!(error, "that a provider was removed cannot be noted");
                continue;
            }
            tracing::warn!(%provider, "its file was removed; its connections stop and keep their queues");
            self.turn_off(&provider, true);
            reloaded.disabled.push(provider);
        }
    }

    /// Stops or starts the work of all connections of a provider.
    fn turn_off(&self, provider: &ProviderId, off: bool) {
        let users: Vec<_> = self
            .files
            .lock()
            .values()
            .filter(|file| file.provider == *provider)
            .map(|file| file.id.clone())
            .collect();
        for id in &users {
            if let Some(connection) = self.pipeline.connection(id) {
                connection.directions.disable(off);
            }
        }
        if !off && let Err(error) = self.pipeline.release(&users.into_iter().collect()) {
            tracing::error!(%error, "what waits for another try cannot be read; it is tried when its time has come");
        }
    }
}

fn stamp(metadata: &std::fs::Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.modified().ok(), metadata.len(), metadata.ino())
}
