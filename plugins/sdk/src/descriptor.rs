//! What a provider says of itself, as data. The JSON is what `schemas/descriptor.schema.json` and
//! `schemas/connection.schema.json` describe: members in kebab-case.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// What holds for every account of a provider.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Descriptor {
    /// The provider's id: lower-case letters, digits and hyphens.
    pub id: String,
    /// Its version.
    pub version: String,
    /// One line for people.
    pub title: String,
    /// Ways of authentication by name.
    pub auth: BTreeMap<String, AuthScheme>,
    /// Webhooks, if it has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhooks: Option<Webhooks>,
    /// `decide` has rules of its own. False: the host does not call it.
    pub rules: bool,
    /// Names of secrets that requests may bear, by operation: `write`, `watch` and so on. A request that bears another one is not sent.
    pub secrets: BTreeMap<String, Vec<String>>,
    /// Response headers that it wants to see, lower case.
    pub response_headers: Vec<String>,
    /// JSON Schema of the settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<Value>,
    /// Golden examples.
    pub examples: Vec<Example>,
}

/// A golden example of the mapping.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Example {
    /// What it shows.
    pub name: String,
    /// The canonical object.
    pub object: String,
    /// Settings that it is run with.
    pub settings: Value,
    /// Facts that it is run with.
    pub facts: Value,
    /// Canonical document.
    pub canonical: Value,
    /// Provider document in read form.
    pub document: Value,
    /// Which directions give the other member exactly.
    pub direction: Direction,
}

/// A way of authentication.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AuthScheme {
    /// Where the token comes from.
    pub kind: AuthKind,
    /// Header that carries it, lower case.
    pub header: String,
    /// Its value; `{token}` stands for the token.
    pub template: String,
    /// How to refresh it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Refresh>,
}

impl AuthScheme {
    /// `Authorization: Bearer TOKEN` with one token from the configuration.
    #[must_use]
    pub fn bearer() -> Self {
        Self {
            kind: AuthKind::Static,
            header: "authorization".to_owned(),
            template: "Bearer {token}".to_owned(),
            refresh: None,
        }
    }

    /// `Authorization: Bearer TOKEN` with a token that the host refreshes.
    #[must_use]
    pub fn oauth2(refresh: Refresh) -> Self {
        Self { kind: AuthKind::Oauth2, refresh: Some(refresh), ..Self::bearer() }
    }
}

/// Where a token comes from.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthKind {
    /// The configuration.
    Static,
    /// A refresh.
    Oauth2,
}

/// An OAuth 2 refresh.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Refresh {
    /// Token URL; `{name}` stands for a setting.
    pub url: String,
    /// "body" or "basic".
    pub client: String,
    /// Pointer to the access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// Pointer to a rotated refresh token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// Pointer to the lifetime in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// Pointer to the base URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Pointer to an error inside a 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Webhooks.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Webhooks {
    /// How a delivery proves its sender.
    pub verify: Verify,
    /// What a body is.
    pub format: BodyFormat,
    /// The body is a JSON array; each element is routed on its own.
    pub array: bool,
    /// Pointer to the account. In XML: the names of the elements from the root on, without their prefixes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Pointers of the same kind to what is secret.
    pub blank: Vec<String>,
    /// Headers to store, lower case.
    pub headers: Vec<String>,
    /// What it is answered with.
    pub answer: WebhookAnswer,
}

impl Webhooks {
    /// One JSON document each, for the connection that the address names, with nothing secret in it, answered with an empty 200.
    #[must_use]
    pub fn verified_by(verify: Verify) -> Self {
        Self {
            verify,
            format: BodyFormat::Json,
            array: false,
            account: None,
            blank: Vec::new(),
            headers: Vec::new(),
            answer: WebhookAnswer::default(),
        }
    }
}

/// What the body of a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyFormat {
    /// JSON.
    Json,
    /// XML (SOAP).
    Xml,
}

/// How a delivery proves its sender.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "scheme", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Verify {
    /// HMAC over a template of `{method}`, `{url}`, `{path}`, `{body}`, `{timestamp}`.
    HmacSha256 {
        /// Name of the secret.
        secret: String,
        /// The template.
        message: String,
        /// Header with the signature.
        header: String,
        /// "base64" or "hex".
        encoding: String,
        /// Header with the time.
        #[serde(skip_serializing_if = "Option::is_none")]
        timestamp: Option<String>,
        /// Oldest acceptable time in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        tolerance_ms: Option<u64>,
    },
    /// HTTP Basic.
    Basic {
        /// Name of the secret that holds `user:password`.
        secret: String,
    },
    /// A shared token.
    Token {
        /// Name of the secret.
        secret: String,
        /// "header:NAME", "query:NAME" or "body:POINTER".
        place: String,
    },
    /// Nothing but the unguessable path.
    Path,
}

/// A static answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct WebhookAnswer {
    /// The status.
    pub status: u16,
    /// Its content type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Its body.
    pub body: String,
    /// Query parameter that is echoed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo: Option<String>,
}

impl Default for WebhookAnswer {
    fn default() -> Self {
        Self { status: 200, content_type: None, body: String::new(), echo: None }
    }
}

/// What one connection has.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConnectionDescriptor {
    /// Where requests go; no trailing slash.
    pub base_url: String,
    /// Hosts that requests may go to.
    pub hosts: Vec<String>,
    /// Objects by canonical name.
    pub objects: BTreeMap<String, ObjectDescriptor>,
    /// Quotas; the first is the default one.
    pub quotas: Vec<QuotaDescriptor>,
}

/// One object.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ObjectDescriptor {
    /// The CRM's name for it.
    pub name: String,
    /// JSON Schema of the read form.
    pub schema: Value,
    /// JSON Schema of what may be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_schema: Option<Value>,
    /// Mapped fields by canonical pointer.
    pub fields: BTreeMap<String, FieldDescriptor>,
    /// What the CRM can do with it.
    pub abilities: Abilities,
}

/// One mapped field.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FieldDescriptor {
    /// Pointers into the provider document.
    pub provider: Vec<String>,
    /// The host's normaliser.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalise: Option<String>,
    /// Which way it is mapped.
    pub direction: Direction,
    /// Why a value may not come back as it went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lossy: Option<String>,
}

/// Which way a field is mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Both ways.
    #[default]
    Both,
    /// To the CRM only.
    ToProvider,
    /// From the CRM only.
    ToCanonical,
}

/// What the CRM can do with an object.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Abilities {
    /// Tandem's key is stored in the record and can be found.
    pub key: bool,
    /// The CRM refuses a second record with the same value of an identity field (its address, for a contact). Otherwise
    /// Tandem looks for a record before it makes one, which costs a call.
    pub unique_identity: bool,
    /// How a write can be made conditional.
    pub condition: Condition,
    /// Listings are consistent.
    pub consistent_listing: bool,
    /// `changes` works.
    pub changes: bool,
    /// `changes` reports deletions.
    pub changes_show_deleted: bool,
    /// What is removed can be restored in the CRM for a while: a bin, an archive.
    pub archives: bool,
    /// Longest time until `find` finds what was created.
    pub find_settles_after_ms: u64,
    /// Wanted time between polls.
    pub poll_every_ms: u64,
    /// Events of single fields say when the field was edited (attribute `occurred-at`, milliseconds on the clock of the records'
    /// stamps). Edits that the host's own write overtook are then found afterwards.
    pub event_times: bool,
}

impl Default for Abilities {
    fn default() -> Self {
        Self {
            key: false,
            unique_identity: false,
            condition: Condition::None,
            consistent_listing: false,
            changes: false,
            changes_show_deleted: false,
            archives: false,
            find_settles_after_ms: 60_000,
            poll_every_ms: 60_000,
            event_times: false,
        }
    }
}

/// How a write can be made conditional.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// An entity tag.
    Etag,
    /// A modification time, to the second.
    Second,
    /// It cannot.
    None,
}

/// One quota.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct QuotaDescriptor {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: QuotaKind,
    /// Units, or calls at once.
    pub limit: u64,
    /// Window in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_ms: Option<u64>,
    /// Time zone of its midnight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Who shares it.
    pub scope: QuotaScope,
    /// Quotas that each charge also takes one unit of.
    pub also: Vec<String>,
}

impl QuotaDescriptor {
    /// So many units in a rolling window.
    #[must_use]
    pub fn window(name: &str, limit: u64, per_ms: u64) -> Self {
        Self {
            name: name.to_owned(),
            kind: QuotaKind::Window,
            limit,
            per_ms: Some(per_ms),
            time_zone: None,
            scope: QuotaScope::Connection,
            also: Vec::new(),
        }
    }

    /// So many units in a day.
    #[must_use]
    pub fn daily(name: &str, limit: u64, time_zone: Option<String>) -> Self {
        Self { kind: QuotaKind::Daily, per_ms: None, time_zone, ..Self::window(name, limit, 0) }
    }

    /// So many calls at once.
    #[must_use]
    pub fn concurrency(name: &str, limit: u64) -> Self {
        Self { kind: QuotaKind::Concurrency, per_ms: None, ..Self::window(name, limit, 0) }
    }

    /// Each charge also takes one unit of this quota.
    #[must_use]
    pub fn also(mut self, quota: &str) -> Self {
        self.also.push(quota.to_owned());
        self
    }
}

/// Kinds of quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuotaKind {
    /// Rolling window.
    Window,
    /// A day.
    Daily,
    /// Calls at once.
    Concurrency,
}

/// Who shares a quota.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuotaScope {
    /// One connection.
    Connection,
    /// All connections of an app.
    App,
}
