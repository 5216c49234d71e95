//! The folder of connections. A bad file is named and leaves the others working.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tandem_core::id::ConnectionId;

use super::connection::ConnectionConfig;
use super::daemon::Config;
use super::place::{ConfigError, Finding, Place};
use super::words::{NAME_RULE, is_name};

/// Longest file of a connection, in bytes.
const LONGEST: u64 = 256 * 1024;

/// All connections of a folder.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    /// Those that can be used.
    pub good: BTreeMap<ConnectionId, Arc<ConnectionConfig>>,
    /// Those that cannot: `run` names them and goes on without them, `check` fails.
    pub bad: Vec<BadConnection>,
}

/// A connection whose file is wrong.
#[derive(Clone, Debug)]
pub struct BadConnection {
    /// The file's name without `.toml`.
    pub id: ConnectionId,
    /// The file.
    pub file: PathBuf,
    /// Everything that is wrong with it. Never empty.
    pub findings: Vec<Finding>,
}

/// Files as they were read last: a file that has not changed is not read again.
#[derive(Clone, Debug, Default)]
pub struct Read {
    files: BTreeMap<PathBuf, Known>,
    changed: bool,
}

impl Read {
    /// Whether the last look found anything else than the one before.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.changed
    }
}

#[derive(Clone, Debug)]
struct Known {
    stamp: (Option<SystemTime>, u64, u64),
    outcome: Result<Arc<ConnectionConfig>, Vec<Finding>>,
}

impl Connections {
    /// Reads the folder: every file that ends in `.toml` and does not start with a dot, in order of name.
    ///
    /// # Errors
    /// When the folder itself cannot be read.
    pub fn load(config: &Config) -> Result<Self, ConfigError> {
        Self::load_again(config, &mut Read::default())
    }

    /// [`Connections::load`], but for files that are as they were: what was made of them is given again.
    ///
    /// # Errors
    /// As [`Connections::load`].
    pub fn load_again(config: &Config, read: &mut Read) -> Result<Self, ConfigError> {
        let folder = &config.connections_dir;
        let unreadable = |error: std::io::Error| {
            let place = Place { key: "connections_dir".to_owned(), ..Place::file(&config.file) };
            ConfigError {
                findings: vec![Finding { place, what: format!("folder {}: {error}", folder.display()) }],
            }
        };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".toml")) else { continue };
            if !id.starts_with('.') {
                files.push((id.to_owned(), entry.path()));
            }
        }
        files.sort();

        let mut connections = Self::default();
        let before = std::mem::take(&mut read.files);
        read.changed = before.len() != files.len();
        for (id, file) in files {
            let stamp = stamp(&file);
            let outcome = match before.get(&file) {
                Some(known) if stamp.0.is_some() && known.stamp == stamp => known.outcome.clone(),
                _ => {
                    read.changed = true;
                    read_file(config, &id, &file).map(Arc::new)
                }
            };
            read.files.insert(file.clone(), Known { stamp, outcome: outcome.clone() });
            match outcome {
                Ok(connection) => {
                    connections.good.insert(connection.id.clone(), connection);
                }
                Err(findings) => connections.bad.push(BadConnection { id: id.into(), file, findings }),
            }
        }
        connections.refuse_shared_accounts();
        Ok(connections)
    }

    /// A delivery of a webhook must lead to one connection: an account of an app that two claim is taken from the second.
    fn refuse_shared_accounts(&mut self) {
        let mut owners: BTreeMap<_, &ConnectionConfig> = BTreeMap::new();
        let mut refused = Vec::new();
        for connection in self.good.values() {
            let Some(account) = connection.account.as_deref() else { continue };
            let app = connection.app.as_ref().map(|app| app.name.as_str());
            let owner = *owners.entry((&connection.provider, app, account)).or_insert(connection);
            if owner.id != connection.id {
                let what = format!(
                    "{account:?} is the account of connection {} already ({}); one account has one connection",
                    owner.id, owner.account_place
                );
                let finding = Finding { place: connection.account_place.clone(), what };
                refused.push(BadConnection {
                    id: connection.id.clone(),
                    file: connection.file.clone(),
                    findings: vec![finding],
                });
            }
        }
        for bad in refused {
            self.good.remove(&bad.id);
            self.bad.push(bad);
        }
        self.bad.sort_by(|left, right| left.id.cmp(&right.id));
    }

    /// Where a connection's file stands.
    ///
    /// # Errors
    /// The name is none.
    pub fn file_of(config: &Config, id: &ConnectionId) -> Result<PathBuf, String> {
        if is_name(id.as_str()) {
            Ok(config.connections_dir.join(format!("{id}.toml")))
        } else {
            Err(format!("{id:?} is not a connection's name; {NAME_RULE}"))
        }
    }

    /// Reads the text of one file, as it would be read in its place.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read_one(
        config: &Config,
        id: &ConnectionId,
        file: &Path,
        text: &str,
    ) -> Result<ConnectionConfig, Vec<Finding>> {
        if text.len() as u64 > LONGEST {
            let what =
                format!("{} bytes are too many for a connection's file, the limit is {LONGEST}", text.len());
            return Err(vec![Finding { place: Place::file(file), what }]);
        }
        ConnectionConfig::read(config, id.clone(), file, text)
    }

    /// Whether a connection's account is free among others.
    ///
    /// # Errors
    /// Another one has it.
    pub fn refuse_account(one: &ConnectionConfig, others: &[Arc<ConnectionConfig>]) -> Result<(), Finding> {
        let app = |connection: &ConnectionConfig| connection.app.as_ref().map(|app| app.name.clone());
        let same = |other: &&Arc<ConnectionConfig>| {
            one.account.is_some()
                && other.provider == one.provider
                && other.account == one.account
                && app(other) == app(one)
        };
        match others.iter().find(same) {
            Some(owner) => Err(Finding {
                place: one.account_place.clone(),
                what: format!(
                    "{:?} is the account of connection {} already; one account has one connection",
                    one.account.as_deref().unwrap_or_default(),
                    owner.id
                ),
            }),
            None => Ok(()),
        }
    }

    /// Everything that is wrong in the folder.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.bad.iter().flat_map(|bad| &bad.findings)
    }
}

fn stamp(file: &Path) -> (Option<SystemTime>, u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(file)
        .map_or((None, 0, 0), |metadata| (metadata.modified().ok(), metadata.len(), metadata.ino()))
}

fn read_file(config: &Config, id: &str, file: &PathBuf) -> Result<ConnectionConfig, Vec<Finding>> {
    let refuse = |what: String| vec![Finding { place: Place::file(file), what }];
    if !is_name(id) {
        return Err(refuse(format!("{id:?} is not a connection's name; {NAME_RULE}")));
    }
    let length = std::fs::metadata(file).map_err(|error| refuse(error.to_string()))?.len();
    if length > LONGEST {
        return Err(refuse(format!(
            "{length} bytes are too many for a connection's file, the limit is {LONGEST}"
        )));
    }
    let text = std::fs::read_to_string(file).map_err(|error| refuse(error.to_string()))?;
    ConnectionConfig::read(config, id.into(), file, &text)
}
