//! The room of providers for commands that need no daemon: under the daemon's own limits, and without its side effects.

use std::path::Path;

use super::failure::Failure;
use crate::config::Config;
use crate::provider::{EngineConfig, Limits, RuntimeConfig};

/// Whose limits hold.
pub(super) struct Room {
    pub(super) config: RuntimeConfig,
    /// The main file, or that there is none.
    pub(super) source: String,
}

impl Room {
    /// The limits of a configuration.
    pub(super) fn of(config: &Config) -> Self {
        // Nothing is written to the daemon's cache of compiled code.
        let room = RuntimeConfig {
            engine: EngineConfig::default(),
            lanes: Some(1),
            ..crate::app::runtime_config(config)
        };
        Self { config: room, source: config.file.display().to_string() }
    }

    /// The limits of the configuration, if there is one here; else those of one that says nothing.
    pub(super) fn found(file: &Path) -> Result<Self, Failure> {
        // A file that somebody named has to be there.
        if file == Path::new(super::CONFIG) && !file.exists() {
            let config = RuntimeConfig { lanes: Some(1), ..RuntimeConfig::default() };
            return Ok(Self { config, source: "the defaults".to_owned() });
        }
        Ok(Self::of(&Config::load(file)?))
    }

    pub(super) fn limits(&self) -> Limits {
        self.config.limits.clone()
    }
}
