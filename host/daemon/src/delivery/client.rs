//! The client: what is sent, how long it may take, what an error means.

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::{Request, Response};
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use secrecy::ExposeSecret;
use tandem_core::Millis;
use tandem_core::exchange::{Attribute, HttpRequest, HttpResponse};
use tandem_core::id::ConnectionId;
use url::Url;

use super::egress::{Gate, LeadsInside, Reach};
use super::request::{Denied, Ready, ready, replaced};
use super::{Deliver, Directory, Endpoint, SendError};
use crate::credentials::{Authorisation, CredentialError, TokenEndpoint};

/// How the client works.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Until a connection stands, TLS included.
    pub connect_timeout: Duration,
    /// For the whole exchange, connecting included.
    pub timeout: Duration,
    /// Longest answer, in bytes.
    pub max_response: usize,
    /// PEM file with authorities that are trusted beside the system's.
    pub extra_ca: Option<PathBuf>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            max_response: 8 * 1024 * 1024,
            extra_ca: None,
        }
    }
}

/// Why there is no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The file of further authorities.
    #[error("delivery.extra_ca: {file}: {what}")]
    ExtraCa {
        /// Its path.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// TLS or the client itself.
    #[error("the HTTP client cannot be built: {0}")]
    Build(String),
}

/// An idle connection is kept so long.
const IDLE: Duration = Duration::from_secs(30);
/// Idle HTTP/1 connections to one host in each pool; HTTP/2 needs one.
const IDLE_PER_HOST: usize = 64;
/// Customers share these pools, each its own one: HTTP/2 sends all of a pool's requests to a host over a single connection.
const POOLS: usize = 8;
/// TLS sessions that are remembered, over all hosts.
const SESSIONS: usize = 4096;
/// Longest answer of a token endpoint.
const TOKEN_ANSWER: usize = 256 * 1024;

/// The client. A copy is the same client.
pub struct Client<D> {
    inner: Arc<Inner<D>>,
}

struct Inner<D> {
    directory: Arc<D>,
    public: Vec<reqwest::Client>,
    loopback: Vec<reqwest::Client>,
    timeout: Duration,
    max_response: usize,
}

impl<D> Clone for Client<D> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<D> std::fmt::Debug for Client<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("timeout", &self.inner.timeout).finish_non_exhaustive()
    }
}

impl<D: Directory> Client<D> {
    /// A client over what the directory says of connections.
    ///
    /// # Errors
    /// An authority file that cannot be read, or a system that gives no client.
    pub fn new(config: &ClientConfig, directory: Arc<D>) -> Result<Self, ClientError> {
        let tls = tls(config)?;
        let pools = |reach| (0..POOLS).map(|_| pool(config, &tls, reach)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            inner: Arc::new(Inner {
                directory,
                public: pools(Reach::Public)?,
                loopback: pools(Reach::Loopback)?,
                timeout: config.timeout,
                max_response: config.max_response,
            }),
        })
    }

    fn pool(&self, connection: &ConnectionId, reach: Reach) -> Result<&reqwest::Client, String> {
        let pools = match reach {
            Reach::Public => &self.inner.public,
            Reach::Loopback => &self.inner.loopback,
        };
        let mix = |sum: usize, byte: u8| sum.wrapping_mul(31).wrapping_add(usize::from(byte));
        let number = connection.as_str().bytes().fold(7, mix) % POOLS;
        pools.get(number).ok_or_else(|| "there is no client".to_owned())
    }

    async fn deliver(
        &self,
        connection: &ConnectionId,
        request: HttpRequest,
    ) -> Result<HttpResponse, SendError> {
        let Some(endpoint) = self.inner.directory.endpoint(connection) else {
            return Err(SendError::NotSent {
                connection: connection.to_string(),
                what: "it is not configured".to_owned(),
            });
        };
        let Some(credential) = &endpoint.credential else {
            let ready = ready(&endpoint, None, request).map_err(|denied| forbidden(connection, denied))?;
            return self.exchange(connection, &endpoint, ready, None).await;
        };
        let authorised = credential.authorise(self, now()).await.map_err(unauthorised)?;
        if !credential.renewable() {
            return self.attempt(connection, &endpoint, request, &authorised).await;
        }
        let again = request.clone();
        let first = self.attempt(connection, &endpoint, request, &authorised).await?;
        if first.status != StatusCode::UNAUTHORIZED.as_u16() {
            return Ok(first);
        }
        // A 401 had no effect: one more try with a fresh token is no repetition. The account may have moved to another address
        // meanwhile, which the answer with the token tells.
        credential.invalidate(&authorised);
        let fresh = credential.authorise(self, now()).await.map_err(unauthorised)?;
        self.attempt(connection, &endpoint, again, &fresh).await
    }

    /// One request with one token, to the address that the token came with.
    async fn attempt(
        &self,
        connection: &ConnectionId,
        endpoint: &Endpoint,
        request: HttpRequest,
        authorised: &Authorisation,
    ) -> Result<HttpResponse, SendError> {
        let base = (!endpoint.fixed_base).then(|| authorised.base_url()).flatten();
        let ready = ready(endpoint, base, request).map_err(|denied| forbidden(connection, denied))?;
        self.exchange(connection, endpoint, ready, Some(authorised)).await
    }

    async fn exchange(
        &self,
        connection: &ConnectionId,
        endpoint: &Endpoint,
        ready: Ready,
        authorised: Option<&Authorisation>,
    ) -> Result<HttpResponse, SendError> {
        let Ready { method, url, reach, base, mut headers, body, put_in } = ready;
        if let Some(authorised) = authorised {
            headers.insert(authorised.header().clone(), authorised.value().clone());
        }
        let pool = self
            .pool(connection, reach)
            .map_err(|what| SendError::NotSent { connection: connection.to_string(), what })?;
        let mut request = Request::new(method, url);
        *request.headers_mut() = headers;
        *request.body_mut() = body.map(Into::into);
        let response =
            pool.execute(request).await.map_err(|error| match self.meaning(connection, &error) {
                SendError::Forbidden { connection, what, .. } => {
                    SendError::Forbidden { connection, all: base, what }
                }
                other => other,
            })?;
        let status = response.status();
        let mut kept = Vec::with_capacity(endpoint.response_headers.len());
        for (name, value) in response.headers() {
            if endpoint.response_headers.contains(name)
                && let Ok(value) = value.to_str()
            {
                kept.push(Attribute { name: name.as_str().to_owned(), value: value.to_owned() });
            }
        }
        let mut body = read(response, self.inner.max_response).await.map_err(|what| SendError::Unknown {
            connection: connection.to_string(),
            what: format!("status {status}, but {what}"),
        })?;
        // Error pages like to repeat what they were sent.
        if !status.is_success() || !put_in.is_empty() {
            for secret in put_in.iter().chain(authorised.map(Authorisation::token)) {
                body = replaced(body, secret.expose_secret().as_bytes(), BLANK);
                for header in &mut kept {
                    if header.value.contains(secret.expose_secret()) {
                        header.value = header.value.replace(secret.expose_secret(), "[secret]");
                    }
                }
            }
        }
        Ok(HttpResponse { status: status.as_u16(), headers: kept, body })
    }

    /// What an error of the HTTP stack says about whether anything was sent.
    pub(super) fn meaning(&self, connection: &ConnectionId, error: &reqwest::Error) -> SendError {
        let connection = connection.to_string();
        let mut source = error.source();
        let mut words = String::new();
        let mut unsent = error.is_connect() || error.is_builder();
        while let Some(cause) = source {
            if let Some(inside) = cause.downcast_ref::<LeadsInside>() {
                return SendError::Forbidden { connection, all: true, what: inside.to_string() };
            }
            // hyper gives a request back with this error only if it never began to write it.
            unsent |= cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
            words = cause.to_string();
            source = cause.source();
        }
        let what = match (error.is_timeout(), unsent) {
            (true, true) => "connecting timed out".to_owned(),
            (true, false) => format!("timed out after {} ms", self.inner.timeout.as_millis()),
            (false, _) => words,
        };
        if unsent { SendError::NotSent { connection, what } } else { SendError::Unknown { connection, what } }
    }
}

impl<D: Directory> Deliver for Client<D> {
    async fn send(&self, connection: &ConnectionId, request: HttpRequest) -> Result<HttpResponse, SendError> {
        self.deliver(connection, request).await
    }
}

impl<D: Directory> TokenEndpoint for Client<D> {
    async fn post(
        &self,
        connection: &ConnectionId,
        url: &str,
        authorization: Option<HeaderValue>,
        form: Bytes,
    ) -> Result<(u16, Bytes), String> {
        let endpoint =
            self.inner.directory.endpoint(connection).ok_or_else(|| "it is not configured".to_owned())?;
        let url = Url::parse(url).map_err(|error| format!("the token URL is not a URL: {error}"))?;
        let named = url.origin() == endpoint.base.origin();
        let reach = endpoint.rules.check(&url, named).map_err(|what| format!("token URL: {what}"))?;
        let mut request = Request::new(Method::POST, url);
        let headers: &mut HeaderMap = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        *request.body_mut() = Some(form.into());
        let sent = self.pool(connection, reach)?.execute(request).await;
        let response = sent.map_err(|error| match self.meaning(connection, &error) {
            SendError::NotSent { what, .. }
            | SendError::Unknown { what, .. }
            | SendError::Forbidden { what, .. }
            | SendError::Unauthorised { what, .. } => format!("token endpoint: {what}"),
        })?;
        let status = response.status().as_u16();
        let body = read(response, TOKEN_ANSWER.min(self.inner.max_response)).await?;
        Ok((status, Bytes::from(body)))
    }
}

const BLANK: &[u8] = b"[secret]";

fn forbidden(connection: &ConnectionId, denied: Denied) -> SendError {
    SendError::Forbidden { connection: connection.to_string(), all: denied.all, what: denied.what }
}

fn unauthorised(error: CredentialError) -> SendError {
    match error {
        CredentialError::Refused { connection, what } => {
            let what = format!(
                "the token endpoint refuses the refresh token: {what}; authorise the connection again"
            );
            SendError::Unauthorised { connection, what }
        }
        CredentialError::Scheme { connection, what } => SendError::Unauthorised { connection, what },
        // An outage of the token endpoint says nothing against the credentials.
        CredentialError::Unavailable { connection, what } => {
            SendError::NotSent { connection, what: format!("no access token: {what}") }
        }
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

/// The whole body, if it is not too long.
async fn read(mut response: Response, most: usize) -> Result<Vec<u8>, String> {
    let too_long = || format!("the answer is longer than {most} bytes (delivery.max_response)");
    let announced = response.content_length().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced.is_some_and(|length| length > most) {
        return Err(too_long());
    }
    let cut = |error: &reqwest::Error| {
        if error.is_timeout() { "the answer took too long" } else { "the answer was cut off" }.to_owned()
    };
    let Some(first) = response.chunk().await.map_err(|error| cut(&error))? else { return Ok(Vec::new()) };
    if first.len() > most {
        return Err(too_long());
    }
    let mut body = Vec::from(first);
    while let Some(chunk) = response.chunk().await.map_err(|error| cut(&error))? {
        if body.len() + chunk.len() > most {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn pool(
    config: &ClientConfig,
    tls: &rustls::ClientConfig,
    reach: Reach,
) -> Result<reqwest::Client, ClientError> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .dns_resolver(Gate(reach))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .user_agent(concat!("tandem/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(config.connect_timeout)
        .timeout(config.timeout)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .http2_keep_alive_timeout(Duration::from_secs(10))
        .http2_max_header_list_size(64 * 1024)
        .http1_max_headers(128)
        .tcp_nodelay(true)
        .build()
        .map_err(|error| ClientError::Build(error.to_string()))
}

/// TLS 1.2 and 1.3 by ring; the system's authorities and those of the file.
pub(super) fn tls(config: &ClientConfig) -> Result<rustls::ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    // A system without authorities is no error here: a connection that needs one says so when it fails.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = &config.extra_ca {
        let bad = |what: String| ClientError::ExtraCa { file: file.display().to_string(), what };
        let pem = std::fs::read(file).map_err(|error| bad(error.to_string()))?;
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| bad(format!("is not PEM: {error}")))?;
            roots.add(certificate).map_err(|error| bad(format!("certificate {}: {error}", count + 1)))?;
            count += 1;
        }
        if count == 0 {
            return Err(bad("has no certificate in it".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Build(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    tls.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(tls)
}

/// Headers that are never shown to a provider, whatever its list says.
pub(super) fn private(name: &HeaderName) -> bool {
    *name == header::SET_COOKIE
        || *name == header::AUTHORIZATION
        || *name == header::WWW_AUTHENTICATE
        || *name == header::PROXY_AUTHENTICATE
        || name.as_str() == "authentication-info"
}
