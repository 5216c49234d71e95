//! Where rotated refresh tokens, and the address that came with the last one, survive a restart.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;

use secrecy::{ExposeSecret, SecretString};
use tandem_core::id::ConnectionId;

/// What a token endpoint answered last, as far as the next refresh or the next run needs it.
#[derive(Clone)]
pub struct StoredToken {
    /// SHA-256 of the configured token that it descends from, in hex: when that changes, somebody authorised the connection anew and
    /// this one is void.
    pub seed: String,
    /// The refresh token that took the configured one's place. None: nothing did, and no copy of that one is kept.
    pub token: Option<SecretString>,
    /// The base URL that came with an access token, where the CRM says one: an answer that says none means this one still.
    pub base_url: Option<String>,
}

type Saving<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Durable, private storage of what token endpoints answered.
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
        Box::pin(async { Err("there is no place to keep it".to_owned()) })
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
        let (seed, token, next) = (lines.next()?, lines.next()?, lines.next()?);
        // The last line says that the file is whole. Where no base URL is known there is no line for it.
        let base_url = match (next, lines.next()) {
            ("end", None) => None,
            (base_url, Some("end")) => Some(base_url.to_owned()),
            _ => return None,
        };
        let token = (!token.is_empty()).then(|| SecretString::from(token));
        Some(StoredToken { seed: seed.to_owned(), token, base_url })
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
    writeln!(out, "{}\n{}", token.seed, token.token.as_ref().map_or("", ExposeSecret::expose_secret))?;
    // A line end in it would make the file another one: no URL has one.
    if let Some(base_url) = token.base_url.as_ref().filter(|url| !url.contains(['\n', '\r'])) {
        writeln!(out, "{base_url}")?;
    }
    writeln!(out, "end")?;
    out.sync_all()?;
    std::fs::rename(&beside, file)?;
    File::open(folder)?.sync_all()
}
