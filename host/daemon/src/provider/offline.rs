//! A provider without a daemon: for `tandem map` and `tandem check`, under the same limits.

use std::path::Path;
use std::sync::Arc;

use tandem_core::id::ConnectionId;

use super::counters::Counters;
use super::engine::{Engine, EngineConfig};
use super::instance::{Instance, Stderr, Workshop};
use super::limits::Limits;
use super::load::{self, LoadError, LoadStep, Setup};
use super::registry::{Connection, Version};
use super::{Fault, FaultKind, Provider, View};

/// One provider, configured, on the caller's own thread.
pub struct Offline {
    workshop: Workshop,
    connection: Connection,
    instance: Instance,
}

impl std::fmt::Debug for Offline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offline").field("version", &self.connection.version).finish_non_exhaustive()
    }
}

impl Offline {
    /// Loads a file through every step of admission and configures it.
    ///
    /// # Errors
    /// As for any provider; nothing is skipped.
    pub fn load(path: &Path, setup: &Setup) -> Result<Self, LoadError> {
        Self::load_with(path, setup, &EngineConfig::default(), Limits::default())
    }

    /// [`Offline::load`] with an engine and limits of the caller's choice.
    ///
    /// # Errors
    /// As for any provider.
    pub fn load_with(
        path: &Path,
        setup: &Setup,
        engine: &EngineConfig,
        limits: Limits,
    ) -> Result<Self, LoadError> {
        let engine = Engine::new(engine).map_err(|error| LoadError {
            what: path.display().to_string(),
            step: LoadStep::Compile,
            reason: error.to_string(),
            remedy: "nothing is wrong with the file".to_owned(),
            incomplete: false,
        })?;
        let workshop = Workshop {
            engine,
            start: limits.deadline_of_admission,
            limits: Arc::new(limits),
            counters: Arc::new(Counters::default()),
            stderr: Stderr::Whole,
        };
        let version = Arc::new(load::file(&workshop, path)?);
        let (connection, instance) =
            load::connection(&workshop, &version, &ConnectionId::from("offline"), setup, None)?;
        Ok(Self { workshop, connection, instance })
    }

    /// What is known of the provider and of the connection that was made up for it.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.connection.view
    }

    /// The version that was loaded.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.connection.version
    }

    /// The instance: the one there is, or a fresh one after a fault.
    ///
    /// # Errors
    /// When a fresh one cannot be made.
    pub fn provider(&mut self) -> Result<&mut dyn Provider, Fault> {
        if self.instance.fault().is_some() {
            self.instance = self.fresh()?;
        }
        Ok(&mut self.instance)
    }

    /// Throws the instance away and takes a fresh one: what it answers may not depend on that.
    ///
    /// # Errors
    /// When a fresh one cannot be made.
    pub fn renew(&mut self) -> Result<(), Fault> {
        self.instance = self.fresh()?;
        Ok(())
    }

    fn fresh(&self) -> Result<Instance, Fault> {
        let Connection { version, name, settings, facts, .. } = &self.connection;
        let mut instance = Instance::of(&self.workshop, version, name)?;
        instance.configure(settings, facts)?.map_err(|problems| Fault {
            provider: version.label.to_string(),
            call: "configure".to_owned(),
            kind: FaultKind::Configure { what: load::said(&problems) },
        })?;
        Ok(instance)
    }
}
