//! What is loaded: versions of providers, and which connection uses which version with which settings and facts.
//!
//! A connection points to its version on its own, so that one can move while another stays. Replacing a connection is one
//! atomic store; work that has begun keeps what it began with. Nothing here blocks a reader.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tandem_core::descriptor::Descriptor;
use tandem_core::id::{ConnectionId, ProviderId};

use super::View;
use super::breaker::{Breaker, BreakerConfig};
use super::contract::Prepared;
use super::lane::Placement;

/// SHA-256.
pub(super) type Digest = [u8; 32];

pub(super) fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// One admitted version of a provider.
pub struct Version {
    /// The provider.
    pub provider: ProviderId,
    /// `hubspot@0.1.0#1a2b3c4d`: id, the provider's own version, the beginning of the file's digest.
    pub label: Arc<str>,
    /// What it says of itself.
    pub descriptor: Arc<Descriptor>,
    /// The file that it came from.
    pub file: PathBuf,
    /// The file's SHA-256.
    pub digest: [u8; 32],
    /// The file's size.
    pub bytes: u64,
    /// WebAssembly interfaces that it imports.
    pub imports: Vec<String>,
    /// Time that compiling took (or reading the compiled code back).
    pub compiled_in: Duration,
    pub(super) settings: Option<jsonschema::Validator>,
    pub(super) prepared: Box<dyn Prepared>,
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Version")
            .field("label", &self.label)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// A connection with everything that its instance depends on.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) name: Arc<str>,
    pub(super) version: Arc<Version>,
    pub(super) settings: Vec<u8>,
    pub(super) facts: Vec<u8>,
    pub(super) settings_digest: Digest,
    pub(super) facts_digest: Digest,
    pub(super) view: Arc<View>,
    /// Different for each `Connection` that was ever made: an instance belongs to exactly one.
    pub(super) serial: u64,
    pub(super) seat: Arc<Seat>,
    pub(super) breaker: Arc<Mutex<Breaker>>,
}

/// Where a connection runs. It outlives changes of version and settings.
#[derive(Default)]
pub(super) struct Seat {
    pub(super) placement: Mutex<Placement>,
}

/// A number that was never given before.
pub(super) fn next_serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

type Versions = HashMap<ProviderId, Arc<Version>>;
type Connections = HashMap<ConnectionId, Arc<ArcSwap<Connection>>>;

/// The maps.
#[derive(Default)]
pub(super) struct Registry {
    versions: ArcSwap<Versions>,
    connections: ArcSwap<Connections>,
    /// Changes of the maps come one after the other.
    changes: Mutex<()>,
}

impl Registry {
    /// The version of a provider that serves.
    pub(super) fn serving(&self, provider: &ProviderId) -> Option<Arc<Version>> {
        self.versions.load().get(provider).cloned()
    }

    /// The serving versions of all providers.
    pub(super) fn all_serving(&self) -> Vec<Arc<Version>> {
        let mut all: Vec<_> = self.versions.load().values().cloned().collect();
        all.sort_by(|a, b| a.provider.cmp(&b.provider));
        all
    }

    /// Adds a version. Another file with the same provider is refused: it is given back.
    pub(super) fn add_version(&self, version: Arc<Version>) -> Result<(), Arc<Version>> {
        let _changes = self.changes.lock();
        let mut versions = Versions::clone(&self.versions.load());
        match versions.get(&version.provider) {
            Some(other) if other.digest == version.digest => return Ok(()),
            Some(other) => return Err(Arc::clone(other)),
            None => versions.insert(version.provider.clone(), version),
        };
        self.versions.store(Arc::new(versions));
        Ok(())
    }

    /// Lets a version serve in place of the one before.
    pub(super) fn serve(&self, version: Arc<Version>) {
        let _changes = self.changes.lock();
        let mut versions = Versions::clone(&self.versions.load());
        versions.insert(version.provider.clone(), version);
        self.versions.store(Arc::new(versions));
    }

    /// No version of a provider serves any more. Connections keep what they have.
    pub(super) fn retire(&self, provider: &ProviderId) {
        let _changes = self.changes.lock();
        let mut versions = Versions::clone(&self.versions.load());
        versions.remove(provider);
        self.versions.store(Arc::new(versions));
    }

    pub(super) fn connection(&self, id: &ConnectionId) -> Option<Arc<Connection>> {
        self.connections.load().get(id).map(|slot| slot.load_full())
    }

    /// Adds connections or replaces those that are there. One copy of the map for all new ones.
    pub(super) fn put(&self, connections: Vec<Arc<Connection>>) {
        let _changes = self.changes.lock();
        let known = self.connections.load();
        let mut new = Vec::new();
        for connection in connections {
            match known.get(&connection.id) {
                Some(slot) => slot.store(connection),
                None => new.push(connection),
            }
        }
        if !new.is_empty() {
            let mut all = Connections::clone(&known);
            all.extend(new.into_iter().map(|c| (c.id.clone(), Arc::new(ArcSwap::new(c)))));
            self.connections.store(Arc::new(all));
        }
    }

    /// Takes a connection out.
    pub(super) fn remove(&self, id: &ConnectionId) -> Option<Arc<Connection>> {
        let _changes = self.changes.lock();
        let mut all = Connections::clone(&self.connections.load());
        let removed = all.remove(id)?;
        self.connections.store(Arc::new(all));
        Some(removed.load_full())
    }

    /// How many connections there are, and how many breakers are open or wait for their try.
    pub(super) fn figures(&self, config: &BreakerConfig) -> (u64, u64) {
        let connections = self.connections.load();
        let tripped =
            |slot: &&Arc<ArcSwap<Connection>>| slot.load().breaker.lock().tripped(config, Instant::now);
        let open = connections.values().filter(tripped).count();
        (connections.len() as u64, open as u64)
    }
}
