//! The bounds of providers that a configuration asks for: the same ones for the daemon and for whoever tries a component or a
//! configuration without it.

use crate::config::Config;
use crate::provider::{EngineConfig, RuntimeConfig};

/// How the room of providers is built for a configuration.
#[must_use]
pub fn runtime_config(config: &Config) -> RuntimeConfig {
    let mut runtime = RuntimeConfig {
        engine: EngineConfig { cache: Some(config.data_dir.join("compiled")), ..EngineConfig::default() },
        lanes: config.limits.lanes.map(std::num::NonZero::get),
        ..RuntimeConfig::default()
    };
    runtime.limits.memory_bytes = usize::try_from(config.limits.instance_memory).unwrap_or(usize::MAX);
    runtime.limits.deadline = config.limits.call_deadline;
    runtime.warm_bytes = usize::try_from(config.limits.instances_memory).unwrap_or(usize::MAX);
    runtime.limits.document_bytes = config.limits.max_document;
    runtime
}
