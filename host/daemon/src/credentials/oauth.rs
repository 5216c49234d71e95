//! OAuth 2 refresh from a description (RFC 6749, section 6), in single flight.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tandem_core::Millis;
use tandem_core::descriptor::Refresh;
use tandem_core::id::ConnectionId;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::tokens::{StoredToken, TokenStore};
use super::{Account, Authorisation, CredentialError, TokenEndpoint, authorisation};

/// A token is renewed so long before its end, or a tenth of its life if that is shorter.
const EARLY: Millis = 60_000;
/// First and longest pause after a refresh that failed without a verdict.
const PAUSE: Millis = 1_000;
const LONGEST: Millis = 60_000;

/// An OAuth connection's tokens.
pub(super) struct Refreshing {
    connection: ConnectionId,
    header: HeaderName,
    template: String,
    refresh: Refresh,
    url: String,
    client_id: String,
    client_secret: SecretString,
    seed: String,
    tokens: Arc<dyn TokenStore>,
    current: ArcSwapOption<Authorisation>,
    /// The number of the newest token that the CRM refused.
    refused: AtomicU64,
    flight: Arc<Mutex<Flight>>,
}

/// What only the one who refreshes touches.
struct Flight {
    refresh_token: SecretString,
    /// The refresh token or the base URL is another than on disk.
    unsaved: bool,
    /// The base URL that the CRM named last.
    base_url: Option<String>,
    last: u64,
    failures: u32,
    not_before: Millis,
    verdict: Option<CredentialError>,
}

/// What a token endpoint answered.
struct Answer {
    token: SecretString,
    refresh_token: Option<SecretString>,
    base_url: Option<String>,
    lifetime: Option<Millis>,
}

enum Failure {
    /// The refresh token is no good (`invalid_grant` and its like).
    Refused(String),
    /// Anything else.
    Unavailable(String),
}

impl Refreshing {
    pub(super) fn new(
        connection: &ConnectionId,
        header: &HeaderName,
        account: Account,
        tokens: Arc<dyn TokenStore>,
    ) -> Result<Arc<Self>, CredentialError> {
        let wrong = |what: &str| CredentialError::Scheme {
            connection: connection.to_string(),
            what: what.to_owned(),
        };
        let refresh = account.scheme.refresh.clone().ok_or_else(|| wrong("oauth2 without refresh"))?;
        let url = token_url(&refresh.url, &account).map_err(|what| wrong(&what))?;
        let client_id = account.client_id.ok_or_else(|| wrong("oauth2 needs the app's client_id"))?;
        let client_secret =
            account.client_secret.ok_or_else(|| wrong("oauth2 needs the app's client_secret"))?;
        let seed = seed_of(&account.credential);
        let (refresh_token, base_url) = match tokens.load(connection) {
            Some(stored) if stored.seed == seed => {
                let base_url = stored.base_url.filter(|_| refresh.base_url.is_some());
                (stored.token.unwrap_or(account.credential), base_url)
            }
            _ => (account.credential, None),
        };
        Ok(Arc::new(Self {
            connection: connection.clone(),
            header: header.clone(),
            template: account.scheme.template,
            refresh,
            url,
            client_id,
            client_secret,
            seed,
            tokens,
            current: ArcSwapOption::empty(),
            refused: AtomicU64::new(0),
            flight: Arc::new(Mutex::new(Flight {
                refresh_token,
                unsaved: false,
                base_url,
                last: 0,
                failures: 0,
                not_before: 0,
                verdict: None,
            })),
        }))
    }

    pub(super) async fn authorise<E: TokenEndpoint>(
        self: &Arc<Self>,
        via: &E,
        now: Millis,
    ) -> Result<Arc<Authorisation>, CredentialError> {
        if let Some(good) = self.good(now) {
            return Ok(good);
        }
        let flight = Arc::clone(&self.flight).lock_owned().await;
        if let Some(good) = self.good(now) {
            return Ok(good);
        }
        if let Some(verdict) = flight.verdict.as_ref().filter(|_| now < flight.not_before) {
            return Err(verdict.clone());
        }
        // On a task of its own: if the caller gives up, a rotated token is still written down.
        let (this, via) = (Arc::clone(self), via.clone());
        tokio::spawn(async move { this.refresh(flight, &via, now).await })
            .await
            .map_err(|error| self.unavailable(error.to_string()))?
    }

    pub(super) fn invalidate(&self, refused: &Authorisation) {
        self.refused.fetch_max(refused.number, Ordering::AcqRel);
    }

    fn good(&self, now: Millis) -> Option<Arc<Authorisation>> {
        let current = self.current.load_full()?;
        let fresh = current.expires_at.is_none_or(|end| now < end);
        (fresh && current.number > self.refused.load(Ordering::Acquire)).then_some(current)
    }

    async fn refresh<E: TokenEndpoint>(
        &self,
        mut flight: OwnedMutexGuard<Flight>,
        via: &E,
        now: Millis,
    ) -> Result<Arc<Authorisation>, CredentialError> {
        let result = self.attempt(&mut flight, via, now).await;
        match &result {
            Ok(fresh) => {
                self.current.store(Some(Arc::clone(fresh)));
                (flight.failures, flight.verdict) = (0, None);
            }
            Err(error) => {
                flight.not_before = match error {
                    CredentialError::Refused { .. } | CredentialError::Scheme { .. } => Millis::MAX,
                    CredentialError::Unavailable { .. } => {
                        now + PAUSE.saturating_mul(1 << flight.failures.min(10)).min(LONGEST)
                    }
                };
                flight.failures = flight.failures.saturating_add(1);
                flight.verdict = Some(error.clone());
            }
        }
        result
    }

    async fn attempt<E: TokenEndpoint>(
        &self,
        flight: &mut Flight,
        via: &E,
        now: Millis,
    ) -> Result<Arc<Authorisation>, CredentialError> {
        if flight.unsaved {
            self.save(flight).await?;
        }
        let answer = match self.ask(flight, via).await {
            Err(Failure::Refused(_)) if self.reload(flight) => self.ask(flight, via).await,
            answer => answer,
        };
        let answer = answer.map_err(|failure| match failure {
            Failure::Refused(what) => {
                CredentialError::Refused { connection: self.connection.to_string(), what }
            }
            Failure::Unavailable(what) => self.unavailable(what),
        })?;
        if let Some(rotated) = answer.refresh_token
            && rotated.expose_secret() != flight.refresh_token.expose_secret()
        {
            flight.refresh_token = rotated;
            flight.unsaved = true;
        }
        if answer.base_url.is_some() && answer.base_url != flight.base_url {
            flight.base_url = answer.base_url;
            flight.unsaved = true;
        }
        if flight.unsaved {
            self.save(flight).await?;
        }
        flight.last += 1;
        let mut fresh = authorisation(&self.header, &self.template, answer.token, flight.last)
            .ok_or_else(|| self.unavailable("the access token cannot stand in a header".to_owned()))?;
        fresh.base_url.clone_from(&flight.base_url);
        fresh.expires_at = answer.lifetime.map(|life| (now + life).saturating_sub(EARLY.min(life / 10)));
        Ok(Arc::new(fresh))
    }

    async fn save(&self, flight: &mut Flight) -> Result<(), CredentialError> {
        // The configured token is in its own place, and in no second one.
        let rotated = seed_of(&flight.refresh_token) != self.seed;
        let token = StoredToken {
            seed: self.seed.clone(),
            token: rotated.then(|| flight.refresh_token.clone()),
            base_url: flight.base_url.clone(),
        };
        self.tokens.save(&self.connection, token).await.map_err(|what| {
            self.unavailable(format!("what the token endpoint answered cannot be kept: {what}"))
        })?;
        flight.unsaved = false;
        Ok(())
    }

    /// Somebody else may have refreshed before us and saved a newer token.
    fn reload(&self, flight: &mut Flight) -> bool {
        let stored = self.tokens.load(&self.connection).filter(|stored| stored.seed == self.seed);
        let Some(StoredToken { token: Some(token), base_url, .. }) = stored else { return false };
        if token.expose_secret() == flight.refresh_token.expose_secret() {
            return false;
        }
        flight.refresh_token = token;
        flight.base_url = base_url.or_else(|| flight.base_url.take());
        true
    }

    async fn ask<E: TokenEndpoint>(&self, flight: &Flight, via: &E) -> Result<Answer, Failure> {
        let mut form = String::from("grant_type=refresh_token&refresh_token=");
        form.extend(encoded(flight.refresh_token.expose_secret()));
        let basic = self.refresh.client == "basic";
        let authorization = basic.then(|| self.basic()).flatten();
        if !basic {
            let _ = write!(form, "&client_id={}&client_secret=", encoded(&self.client_id));
            form.extend(encoded(self.client_secret.expose_secret()));
        }
        let (status, body) = via
            .post(&self.connection, &self.url, authorization, Bytes::from(form))
            .await
            .map_err(Failure::Unavailable)?;
        read(&self.refresh, status, &body)
    }

    fn basic(&self) -> Option<HeaderValue> {
        let pair = format!("{}:{}", self.client_id, self.client_secret.expose_secret());
        let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn unavailable(&self, what: String) -> CredentialError {
        CredentialError::Unavailable { connection: self.connection.to_string(), what }
    }
}

/// By which a token is known to be the configured one, or to descend from it.
fn seed_of(configured: &SecretString) -> String {
    hex(&Sha256::digest(configured.expose_secret().as_bytes()))
}

fn encoded(text: &str) -> percent_encoding::PercentEncode<'_> {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `{name}` stands for a setting, percent-encoded; `{base_url}` for the base URL as it is.
fn token_url(template: &str, account: &Account) -> Result<String, String> {
    let mut url = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) =
            after.split_once('}').ok_or_else(|| format!("refresh.url {template}: open {{"))?;
        url.push_str(before);
        if name == "base_url" {
            url.push_str(&account.base_url);
        } else {
            match account.settings.get(name) {
                Some(Value::String(text)) => url.extend(encoded(text)),
                Some(Value::Number(number)) => url.push_str(&number.to_string()),
                _ => {
                    return Err(format!(
                        "refresh.url needs settings.{name}, a text; set it for the connection"
                    ));
                }
            }
        }
        rest = after;
    }
    url.push_str(rest);
    Ok(url)
}

fn read(refresh: &Refresh, status: u16, body: &[u8]) -> Result<Answer, Failure> {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let at = |pointer: &Option<String>, default: &str| {
        json.pointer(pointer.as_deref().unwrap_or(default)).filter(|value| !value.is_null())
    };
    let error = at(&refresh.error, "/error").map(word);
    if error.is_some() || !(200..300).contains(&status) {
        let word = error.unwrap_or_else(|| "no reason given".to_owned());
        // A misspelt secret, a revoked app and a void token all need somebody. Server errors and throttling do not.
        let refused = matches!(status, 200..=299 | 400 | 401 | 403);
        return Err(if refused {
            Failure::Refused(word)
        } else {
            Failure::Unavailable(format!("status {status}, {word}"))
        });
    }
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let token = at(&refresh.access_token, "/access_token")
        .and_then(text)
        .ok_or_else(|| Failure::Unavailable("the answer has no access token".to_owned()))?;
    let seconds = at(&refresh.expires_in, "/expires_in").and_then(|value| match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    });
    Ok(Answer {
        token: SecretString::from(token),
        refresh_token: at(&refresh.refresh_token, "/refresh_token").and_then(text).map(SecretString::from),
        base_url: refresh.base_url.is_some().then(|| at(&refresh.base_url, "").and_then(text)).flatten(),
        lifetime: seconds.map(|seconds| seconds.saturating_mul(1_000)),
    })
}

/// The error's code and nothing that might repeat a secret: OAuth codes are short words.
fn word(error: &Value) -> String {
    match error.as_str() {
        Some(code)
            if code.len() <= 40
                && code.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-')) =>
        {
            code.to_owned()
        }
        _ => "an error without a code".to_owned(),
    }
}
