//! Configuration: TOML files to checked values.
//!
//! One main file ([`Config`]) and a folder with one file for each connection ([`ConnectionConfig`]). Reading has no side effects and
//! opens no port. Invariants: everything is checked at once and every mistake is listed with file, line, key and way out; a key that is
//! not known is refused; a value that got through needs no second look (durations, sizes and counts are in range, URLs and addresses are
//! parsed, policies have their defaults); secrets are only pointed at ([`Secret`]) and never shown.
//!
//! What only a provider can judge (its settings, whether it knows an object) is not judged here.

mod connection;
mod daemon;
mod folder;
mod place;
mod raw;
mod secret;
#[cfg(test)]
mod tests;
mod words;

use std::path::Path;

pub use connection::{ConnectionAuth, ConnectionConfig, Credential, HostGrant, ObjectConfig, QuotaOverride};
pub use daemon::{
    App, Auth, Config, Delivery, Http, Limits, Log, LogFormat, LogLevel, Quota, Retry, SystemA,
};
pub use folder::{BadConnection, Connections, Read};
pub use place::{ConfigError, Finding, Place};
pub use secret::{Secret, SecretFrom};

impl Config {
    /// Reads the main file.
    ///
    /// # Errors
    /// Everything that is wrong with it, or that it cannot be read.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            let what = format!("cannot be read: {error}; name another with --config or TANDEM_CONFIG");
            ConfigError { findings: vec![Finding { place: Place::file(file), what }] }
        })?;
        Self::read(file, &text).map_err(|findings| ConfigError { findings })
    }
}
