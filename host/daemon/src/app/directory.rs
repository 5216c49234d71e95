//! Where a connection's requests go and with what: from its file, its provider and the secrets that both name.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use secrecy::SecretString;
use tandem_core::descriptor::{ConnectionDescriptor, Descriptor, Verify, Webhooks};
use tandem_core::id::ConnectionId;

use crate::config::{ConnectionConfig, Secret};
use crate::credentials::{Account, Credential, CredentialError, Credentials};
use crate::delivery::{Directory, Endpoint, EndpointParts};
use crate::provider::View;

/// The endpoints of all connections, ready for the client.
pub struct Accounts {
    credentials: Arc<Credentials>,
    endpoints: RwLock<HashMap<ConnectionId, Arc<Endpoint>>>,
}

impl Accounts {
    /// None yet.
    #[must_use]
    pub fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials, endpoints: RwLock::default() }
    }

    /// Whether a connection can be put in. Nothing is kept.
    ///
    /// # Errors
    /// As [`Accounts::put`].
    pub fn check(
        &self,
        file: &ConnectionConfig,
        view: &View,
        described: &ConnectionDescriptor,
    ) -> Result<(), Vec<String>> {
        let make = |account| self.credentials.check(&file.id, account).map(Arc::new);
        Self::endpoint_of(file, view, described, make).map(drop)
    }

    /// Puts a connection in, in place of what was there.
    ///
    /// # Errors
    /// Everything that is wrong, one line each; what was there stays.
    pub fn put(
        &self,
        file: &ConnectionConfig,
        view: &View,
        described: &ConnectionDescriptor,
    ) -> Result<(), Vec<String>> {
        let make = |account| self.credentials.put(&file.id, account);
        let endpoint = Self::endpoint_of(file, view, described, make)?;
        self.endpoints.write().insert(file.id.clone(), Arc::new(endpoint));
        Ok(())
    }

    fn endpoint_of(
        file: &ConnectionConfig,
        view: &View,
        described: &ConnectionDescriptor,
        credential: impl FnOnce(Account) -> Result<Arc<Credential>, CredentialError>,
    ) -> Result<Endpoint, Vec<String>> {
        let one = |what: String| vec![format!("{}: {what}", file.file.display())];
        let credential = match account(file, &view.descriptor, &described.base_url).map_err(one)? {
            Some(account) => Some(credential(account).map_err(|error| one(error.to_string()))?),
            None => None,
        };
        Endpoint::new(EndpointParts {
            base_url: described.base_url.clone(),
            fixed_base: file.base_url.is_some(),
            declared: described.hosts.clone(),
            granted: file.hosts.iter().map(ToString::to_string).collect(),
            allow_loopback: file.allow_loopback,
            credential,
            response_headers: view.descriptor.response_headers.clone(),
            secrets: secrets(file, &view.descriptor).map_err(one)?,
        })
        .map_err(one)
    }

    /// Takes a connection out.
    pub fn remove(&self, connection: &ConnectionId) {
        self.endpoints.write().remove(connection);
        self.credentials.remove(connection);
    }
}

impl Directory for Accounts {
    fn endpoint(&self, connection: &ConnectionId) -> Option<Arc<Endpoint>> {
        self.endpoints.read().get(connection).cloned()
    }
}

fn read(secret: &Secret) -> Result<SecretString, String> {
    secret.read().map_err(|finding| finding.to_string())
}

/// What the connection authenticates with. None: nothing, by its file.
fn account(
    file: &ConnectionConfig,
    descriptor: &Descriptor,
    base_url: &str,
) -> Result<Option<Account>, String> {
    let Some(auth) = &file.auth else { return Ok(None) };
    let (_, scheme) = auth.pick(&descriptor.auth).ok_or_else(|| {
        let known: Vec<&str> = descriptor.auth.keys().map(String::as_str).collect();
        format!(
            "auth.scheme: provider {} has no {:?}; it has {}",
            file.provider,
            auth.scheme,
            known.join(", ")
        )
    })?;
    let app = file.app.as_ref();
    Ok(Some(Account {
        scheme: scheme.clone(),
        credential: read(auth.credential.secret())?,
        client_id: app.and_then(|app| app.client_id.clone()),
        client_secret: app.and_then(|app| app.client_secret.as_ref()).map(read).transpose()?,
        settings: file.settings.as_object().cloned().unwrap_or_default(),
        base_url: base_url.to_owned(),
    }))
}

/// Secrets that placeholders may ask for: those that the descriptor names and the configuration has.
fn secrets(
    file: &ConnectionConfig,
    descriptor: &Descriptor,
) -> Result<HashMap<String, SecretString>, String> {
    let mut granted = HashMap::new();
    for name in descriptor.secrets.values().flatten() {
        if let Some(secret) = file.secret(name) {
            granted.insert(name.clone(), read(secret)?);
        }
    }
    Ok(granted)
}

/// The secrets that prove webhooks: the one that the descriptor names, and during a rotation the one before, under the same name behind
/// `previous_`.
pub(super) fn webhook_secrets<'a>(
    webhooks: &Webhooks,
    find: impl Fn(&str) -> Option<&'a Secret>,
) -> Vec<SecretString> {
    let name = match &webhooks.verify {
        Verify::HmacSha256 { secret, .. } | Verify::Basic { secret } | Verify::Token { secret, .. } => secret,
        Verify::Path => return Vec::new(),
    };
    let (before, plain) = (format!("previous_{name}"), format!("previous_{}", name.replace('-', "_")));
    let known = [Some(name.as_str()), Some(before.as_str()), Some(plain.as_str()).filter(|it| *it != before)];
    let found = known.into_iter().flatten().filter_map(find);
    found
        .filter_map(|secret| match secret.read() {
            Ok(secret) => Some(secret),
            Err(finding) => {
                tracing::error!(%finding, "a secret of webhooks cannot be read; what it signs is refused");
                None
            }
        })
        .collect()
}

/// What tells that a secret was changed: a digest of all that the connection's file and its app name, as they are now.
pub(super) fn fingerprint(file: &ConnectionConfig) -> [u8; 32] {
    use secrecy::ExposeSecret as _;
    use sha2::{Digest as _, Sha256};
    let app = file.app.iter().flat_map(|app| app.all_secrets());
    let mut digest = Sha256::new();
    for secret in file.all_secrets().chain(app) {
        // One that cannot be read differs from whatever it was, and is named when the connection is taken up.
        let read = secret.read().ok();
        let text = read.as_ref().map_or("", |secret| secret.expose_secret());
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Place, SecretFrom};

    #[test]
    fn during_a_rotation_the_secret_before_proves_webhooks_too() {
        use secrecy::ExposeSecret as _;
        let folder = tempfile::tempdir().unwrap();
        let secret = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, name).unwrap();
            Secret { from: SecretFrom::File(path.clone()), place: Place::file(&path) }
        };
        let known = HashMap::from([
            ("client-secret".to_owned(), secret("new")),
            ("previous_client_secret".to_owned(), secret("old")),
            ("other".to_owned(), secret("other")),
        ]);
        let webhooks: Webhooks = serde_json::from_value(serde_json::json!({
            "verify": { "scheme": "basic", "secret": "client-secret" }
        }))
        .unwrap();
        let read = |known: &HashMap<String, Secret>| -> Vec<String> {
            let found = webhook_secrets(&webhooks, |name| known.get(name));
            found.iter().map(|secret| secret.expose_secret().to_owned()).collect()
        };
        assert_eq!(read(&known), ["new", "old"]);
        // One that is gone is not missed by the other.
        std::fs::remove_file(folder.path().join("new")).unwrap();
        assert_eq!(read(&known), ["old"]);
    }
}
