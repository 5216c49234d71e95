//! Secrets, OAuth refresh in single flight, verification of webhooks.
//!
//! Invariants: a secret is never logged, shown or serialised (no type here that holds one has a revealing `Debug`); it reaches a
//! request as a header that is marked sensitive, and never the provider. A refresh token that the CRM rotates is on disk before the access
//! token that came with it is used. At most one refresh of a connection is under way, and it is carried to its end even if
//! who asked for it has gone away: a rotated token that nobody wrote down would lock the customer out.
//!
//! This room sends nothing itself: token requests go through [`TokenEndpoint`], which delivery implements under its
//! egress rules.

mod oauth;
mod tokens;
pub mod webhook;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use parking_lot::RwLock;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use tandem_core::Millis;
use tandem_core::descriptor::{AuthKind, AuthScheme};
use tandem_core::id::ConnectionId;

use oauth::Refreshing;
pub use tokens::{FileTokens, StoredToken, TokenStore};

/// Why there is nothing to authenticate with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The scheme or its parts cannot be used.
    #[error("connection {connection}: auth: {what}")]
    Scheme {
        /// Whose.
        connection: String,
        /// What is wrong, and the way out.
        what: String,
    },
    /// The CRM does not accept the credentials; somebody has to act.
    #[error(
        "connection {connection}: the token endpoint refuses the refresh token: {what}; authorise the connection again"
    )]
    Refused {
        /// Whose.
        connection: String,
        /// What the endpoint said.
        what: String,
    },
    /// The token endpoint or the disk does not work at the moment.
    #[error("connection {connection}: no access token: {what}")]
    Unavailable {
        /// Whose.
        connection: String,
        /// What failed.
        what: String,
    },
}

/// Where token requests go: delivery's client, under the connection's egress rules.
pub trait TokenEndpoint: Clone + Send + Sync + 'static {
    /// One POST of a form, answered with status and body. An error means that there was no answer; it holds no secret.
    fn post(
        &self,
        connection: &ConnectionId,
        url: &str,
        authorization: Option<HeaderValue>,
        form: Bytes,
    ) -> impl Future<Output = Result<(u16, Bytes), String>> + Send;
}

/// What a connection authenticates with, as the configuration gives it.
pub struct Account {
    /// The scheme of the provider's descriptor that the configuration picked.
    pub scheme: AuthScheme,
    /// The token, or the first refresh token.
    pub credential: SecretString,
    /// The app's client id, for OAuth.
    pub client_id: Option<String>,
    /// The app's client secret, for OAuth.
    pub client_secret: Option<SecretString>,
    /// The connection's settings, for `{name}` in the token URL.
    pub settings: Map<String, Value>,
    /// For `{base_url}` in the token URL. No trailing slash.
    pub base_url: String,
}

/// One access token in the form in which requests carry it.
pub struct Authorisation {
    header: HeaderName,
    value: HeaderValue,
    token: SecretString,
    base_url: Option<String>,
    expires_at: Option<Millis>,
    number: u64,
}

impl Authorisation {
    /// The header that carries it.
    #[must_use]
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// The header's value, marked sensitive.
    #[must_use]
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// The token alone, for blanking it where an answer repeats it.
    #[must_use]
    pub fn token(&self) -> &SecretString {
        &self.token
    }

    /// The base URL that came with it.
    #[must_use]
    pub fn base_url(&self) -> Option<&str> {
        self.base_url.as_deref()
    }
}

/// A connection's credentials. Cheap to ask while the token is good.
pub struct Credential {
    connection: ConnectionId,
    header: HeaderName,
    kind: Kind,
}

enum Kind {
    Static(Arc<Authorisation>),
    OAuth(Arc<Refreshing>),
}

impl Credential {
    /// Checks the scheme and keeps the secret.
    ///
    /// # Errors
    /// A scheme with parts that are missing or cannot be used.
    pub fn new(
        connection: &ConnectionId,
        account: Account,
        tokens: Arc<dyn TokenStore>,
    ) -> Result<Self, CredentialError> {
        let wrong = |what: String| CredentialError::Scheme { connection: connection.to_string(), what };
        let header = HeaderName::from_bytes(account.scheme.header.as_bytes())
            .map_err(|_| wrong(format!("{:?} is not the name of a header", account.scheme.header)))?;
        if !account.scheme.template.contains(TOKEN) {
            return Err(wrong(format!("the template has no {TOKEN} in it")));
        }
        let kind = match account.scheme.kind {
            AuthKind::Static => Kind::Static(Arc::new(
                authorisation(&header, &account.scheme.template, account.credential, 1)
                    .ok_or_else(|| wrong("the token cannot stand in a header".to_owned()))?,
            )),
            AuthKind::Oauth2 => Kind::OAuth(Refreshing::new(connection, &header, account, tokens)?),
        };
        Ok(Self { connection: connection.clone(), header, kind })
    }

    /// Whose it is.
    #[must_use]
    pub fn connection(&self) -> &ConnectionId {
        &self.connection
    }

    /// The header that carries it, which no provider may set.
    #[must_use]
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Whether a refused token can be replaced by a fresh one.
    #[must_use]
    pub fn renewable(&self) -> bool {
        matches!(self.kind, Kind::OAuth(_))
    }

    /// What the next request carries; asks the token endpoint if the token is spent.
    ///
    /// # Errors
    /// The endpoint refuses, or does not answer; a refusal is remembered until the credentials are replaced.
    pub async fn authorise<E: TokenEndpoint>(
        &self,
        via: &E,
        now: Millis,
    ) -> Result<Arc<Authorisation>, CredentialError> {
        match &self.kind {
            Kind::Static(authorisation) => Ok(Arc::clone(authorisation)),
            Kind::OAuth(refreshing) => refreshing.authorise(via, now).await,
        }
    }

    /// The CRM refused this token: it is not used again. A newer one stays. Does nothing for static tokens.
    pub fn invalidate(&self, refused: &Authorisation) {
        if let Kind::OAuth(refreshing) = &self.kind {
            refreshing.invalidate(refused);
        }
    }
}

/// The credentials of all connections.
pub struct Credentials {
    tokens: Arc<dyn TokenStore>,
    all: RwLock<HashMap<ConnectionId, Arc<Credential>>>,
}

impl Credentials {
    /// None yet. Rotated refresh tokens are kept in `tokens`.
    #[must_use]
    pub fn new(tokens: Arc<dyn TokenStore>) -> Self {
        Self { tokens, all: RwLock::default() }
    }

    /// Whether a connection can have these credentials. Nothing is kept.
    ///
    /// # Errors
    /// As [`Credential::new`].
    pub fn check(&self, connection: &ConnectionId, account: Account) -> Result<Credential, CredentialError> {
        Credential::new(connection, account, Arc::clone(&self.tokens))
    }

    /// Gives a connection its credentials, in place of those before.
    ///
    /// # Errors
    /// As [`Credential::new`]; the old ones stay then.
    pub fn put(
        &self,
        connection: &ConnectionId,
        account: Account,
    ) -> Result<Arc<Credential>, CredentialError> {
        let credential = Arc::new(self.check(connection, account)?);
        self.all.write().insert(connection.clone(), Arc::clone(&credential));
        Ok(credential)
    }

    /// Those of a connection.
    #[must_use]
    pub fn get(&self, connection: &ConnectionId) -> Option<Arc<Credential>> {
        self.all.read().get(connection).map(Arc::clone)
    }

    /// Forgets a connection's; what is on disk stays.
    pub fn remove(&self, connection: &ConnectionId) {
        self.all.write().remove(connection);
    }
}

impl Default for Credentials {
    /// Without a place for rotated refresh tokens: a connection whose CRM rotates them stops at its first refresh.
    fn default() -> Self {
        Self::new(Arc::new(tokens::NoTokens))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("connections", &self.all.read().len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl fmt::Debug for Authorisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorisation").field("number", &self.number).finish_non_exhaustive()
    }
}

const TOKEN: &str = "{token}";

fn authorisation(
    header: &HeaderName,
    template: &str,
    token: SecretString,
    number: u64,
) -> Option<Authorisation> {
    let mut value = HeaderValue::from_str(&template.replace(TOKEN, token.expose_secret())).ok()?;
    value.set_sensitive(true);
    Some(Authorisation { header: header.clone(), value, token, base_url: None, expires_at: None, number })
}
