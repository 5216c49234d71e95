//! Where rotated refresh tokens survive a restart.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;

use secrecy::{ExposeSecret, SecretString};
use tandem_core::id::ConnectionId;

/// A refresh token that took the configured one's place.
#[derive(Clone)]
pub struct StoredToken {
    /// SHA-256 of the configured token that it descends from, in hex: when that changes, somebody authorised the connection anew and
    /// this one is void.
    pub seed: String,
    /// The token.
    pub token: SecretString,
}

type Saving<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Durable, private storage of rotated refresh tokens.
pub trait TokenStore: Send + Sync {
    /// The last one saved for a connection.
    fn load(&self, connection: &ConnectionId) -> Option<StoredToken>;

    /// On disk when it answers. Errors hold no secret.
    fn save<'a>(&'a self, connection: &'a ConnectionId, token: StoredToken) -> Saving<'a>;
}

/// Nowhere.
pub(super) struct NoTokens;

impl TokenStore for NoTokens {
    fn load(&self, _: &ConnectionId) -> Option<StoredToken> {
        None
    }

    fn save<'a>(&'a self, _: &'a ConnectionId, _: StoredToken) -> Saving<'a> {
        Box::pin(async { Err("there is no place to keep a rotated refresh token".to_owned()) })
    }
}

/// One file for each connection in a folder that only the daemon's user can read. Not in the queue's store: that is backed up
/// and looked into more freely.
#[derive(Clone, Debug)]
pub struct FileTokens {
    folder: PathBuf,
}

impl FileTokens {
    /// Makes the folder if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(folder: &Path) -> std::io::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn file(&self, connection: &ConnectionId) -> PathBuf {
        let name =
            percent_encoding::utf8_percent_encode(connection.as_str(), percent_encoding::NON_ALPHANUMERIC);
        self.folder.join(format!("{name}.token"))
    }
}

impl TokenStore for FileTokens {
    fn load(&self, connection: &ConnectionId) -> Option<StoredToken> {
        let mut text = String::new();
        File::open(self.file(connection)).ok()?.take(64 * 1024).read_to_string(&mut text).ok()?;
        let mut lines = text.lines();
        let (seed, token, end) = (lines.next()?, lines.next()?, lines.next()?);
        // The last line says that the file is whole.
        (end == "end").then(|| StoredToken { seed: seed.to_owned(), token: SecretString::from(token) })
    }

    fn save<'a>(&'a self, connection: &'a ConnectionId, token: StoredToken) -> Saving<'a> {
        let file = self.file(connection);
        let folder = self.folder.clone();
        Box::pin(async move {
            let write = move || write(&folder, &file, &token).map_err(|e| format!("{}: {e}", file.display()));
            tokio::task::spawn_blocking(write).await.map_err(|error| error.to_string())?
        })
    }
}

/// Beside, synced, then in place, and the folder synced.
fn write(folder: &Path, file: &Path, token: &StoredToken) -> std::io::Result<()> {
    let beside = file.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = options.open(&beside)?;
    writeln!(out, "{}\n{}\nend", token.seed, token.token.expose_secret())?;
    out.sync_all()?;
    std::fs::rename(&beside, file)?;
    File::open(folder)?.sync_all()
}
