//! What a provider says of itself, as data: `describe` gives a [`Descriptor`], `configure` a [`ConnectionDescriptor`].
//!
//! The JSON is validated against `schemas/descriptor.schema.json` and `schemas/connection.schema.json` before it is read
//! into these types; unknown members are ignored, so that a newer provider loads in an older host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What holds for every account of a provider.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Descriptor {
    /// The provider's id: `hubspot`.
    pub id: String,
    /// The provider's own version, for people and history.
    pub version: String,
    /// One line for people.
    #[serde(default)]
    pub title: String,
    /// How requests are authenticated; the configuration of a connection picks one by name.
    pub auth: BTreeMap<String, AuthScheme>,
    /// How webhooks are verified, routed and answered. None: the provider has no webhooks.
    #[serde(default)]
    pub webhooks: Option<Webhooks>,
    /// `decide` has rules of its own. False: the host does not call it.
    #[serde(default)]
    pub rules: bool,
    /// Names of secrets that requests may bear, by operation ([`Operation::DECLARED`](crate::exchange::Operation::DECLARED)).
    #[serde(default)]
    pub secrets: BTreeMap<String, Vec<String>>,
    /// Response headers that the provider sees, lower case.
    #[serde(default)]
    pub response_headers: Vec<String>,
    /// JSON Schema of the connection's settings. None: any object.
    #[serde(default)]
    pub settings: Option<Value>,
    /// Golden examples: what the mapping must answer.
    #[serde(default)]
    pub examples: Vec<Example>,
}

/// One golden example of the mapping.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Example {
    /// What it shows.
    pub name: String,
    /// The canonical object.
    pub object: String,
    /// Settings that it is run with.
    #[serde(default)]
    pub settings: Value,
    /// Facts that it is run with.
    #[serde(default)]
    pub facts: Value,
    /// Canonical document.
    pub canonical: Value,
    /// Provider document in read form.
    pub document: Value,
    /// "both", "to-provider" or "to-canonical": which directions give the other member exactly.
    #[serde(default)]
    pub direction: Direction,
}

/// How requests are authenticated.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AuthScheme {
    /// "static": one token from the configuration. "oauth2": refreshed by the host.
    pub kind: AuthKind,
    /// Header that carries it, lower case: `authorization`.
    pub header: String,
    /// Its value; `{token}` stands for the token: `Bearer {token}`.
    pub template: String,
    /// Where and how to refresh, for `oauth2`.
    #[serde(default)]
    pub refresh: Option<Refresh>,
}

/// Kinds of authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthKind {
    /// One token from the configuration.
    Static,
    /// An access token that the host refreshes.
    Oauth2,
}

/// An OAuth 2 refresh, as data.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Refresh {
    /// The token URL; `{name}` stands for a setting of the connection.
    pub url: String,
    /// "body" or "basic": where client id and secret go.
    #[serde(default)]
    pub client: String,
    /// JSON pointers into the answer.
    #[serde(default)]
    pub access_token: Option<String>,
    /// Where a rotated refresh token stands, if it rotates.
    #[serde(default)]
    pub refresh_token: Option<String>,
    /// Where the lifetime in seconds stands. None: until it is refused.
    #[serde(default)]
    pub expires_in: Option<String>,
    /// Where the base URL stands, for CRMs that give it with the token.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Where an error stands that comes with status 200.
    #[serde(default)]
    pub error: Option<String>,
}

/// Webhooks, as data: the host verifies, splits, blanks, stores and answers without calling the provider.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Webhooks {
    /// How a delivery proves its sender.
    pub verify: Verify,
    /// What a body is.
    #[serde(default)]
    pub format: BodyFormat,
    /// True: the body is a JSON array; each element is routed on its own.
    #[serde(default)]
    pub array: bool,
    /// JSON pointer (into the body, or into each element) to the account. In XML: the names of the elements from the root on,
    /// without their prefixes, written in the same way. None: the address names the connection.
    #[serde(default)]
    pub account: Option<String>,
    /// Places of the same kind that are secret and blanked before the delivery is stored.
    #[serde(default)]
    pub blank: Vec<String>,
    /// Headers that are stored with the delivery, lower case.
    #[serde(default)]
    pub headers: Vec<String>,
    /// What a delivery is answered with.
    #[serde(default)]
    pub answer: WebhookAnswer,
}

/// What the body of a delivery is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyFormat {
    /// JSON.
    #[default]
    Json,
    /// XML (SOAP). It is kept byte for byte, but for what is blanked.
    Xml,
}

/// How a delivery proves its sender.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "scheme", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Verify {
    /// HMAC over a template.
    HmacSha256 {
        /// Name of the app's or connection's secret in the configuration.
        secret: String,
        /// What is signed: text with `{method}`, `{url}`, `{path}`, `{body}`, `{timestamp}`; the pieces are joined as they stand.
        message: String,
        /// Header with the signature, lower case.
        header: String,
        /// "base64" or "hex".
        encoding: String,
        /// Header with the time in milliseconds (or seconds) since the epoch.
        #[serde(default)]
        timestamp: Option<String>,
        /// Oldest acceptable time, in milliseconds.
        #[serde(default)]
        tolerance_ms: Option<u64>,
    },
    /// HTTP Basic with a user and password from the configuration.
    Basic {
        /// Name of the secret that holds `user:password`.
        secret: String,
    },
    /// A shared token in a header, a query parameter or a member of a JSON body. It is not stored with the delivery.
    Token {
        /// Name of the secret.
        secret: String,
        /// "header:NAME", "query:NAME" or "body:POINTER".
        place: String,
    },
    /// Nothing but the unguessable path.
    Path,
}

impl Verify {
    /// Name of the secret that proves a delivery.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::HmacSha256 { secret, .. } | Self::Basic { secret } | Self::Token { secret, .. } => {
                Some(secret)
            }
            Self::Path => None,
        }
    }
}

/// A static answer to a delivery.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct WebhookAnswer {
    /// Status of an accepted delivery.
    pub status: u16,
    /// Its content type.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Its body.
    #[serde(default)]
    pub body: String,
    /// Query parameter whose value is echoed as the body (a challenge).
    #[serde(default)]
    pub echo: Option<String>,
}

impl Default for WebhookAnswer {
    fn default() -> Self {
        Self { status: 200, content_type: None, body: String::new(), echo: None }
    }
}

/// What one connection has.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConnectionDescriptor {
    /// Where requests go; a token answer or the configuration may override it. No trailing slash.
    pub base_url: String,
    /// Hosts that requests may go to: `api.hubapi.com`. The configuration must grant each.
    pub hosts: Vec<String>,
    /// Objects by canonical name.
    pub objects: BTreeMap<String, ObjectDescriptor>,
    /// Quotas; the first is the default one.
    pub quotas: Vec<QuotaDescriptor>,
}

/// One object of a connection.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ObjectDescriptor {
    /// The CRM's name for it: `contacts`.
    pub name: String,
    /// JSON Schema of a provider document in read form.
    pub schema: Value,
    /// JSON Schema of what may be sent (a subset of the document). None: `schema`.
    #[serde(default)]
    pub write_schema: Option<Value>,
    /// Mapped fields by canonical pointer.
    pub fields: BTreeMap<String, FieldDescriptor>,
    /// What the CRM can do with it.
    pub abilities: Abilities,
}

/// One mapped field.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FieldDescriptor {
    /// Pointers into the provider document that it is made of.
    #[serde(default)]
    pub provider: Vec<String>,
    /// The host's normaliser: both directions agree up to it. None: exact.
    #[serde(default)]
    pub normalise: Option<String>,
    /// "both", "to-provider" or "to-canonical".
    #[serde(default)]
    pub direction: Direction,
    /// Why a value may not come back as it went, if so.
    #[serde(default)]
    pub lossy: Option<String>,
}

/// Which way a field is mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Both ways.
    #[default]
    Both,
    /// Only from System A to the CRM.
    ToProvider,
    /// Only from the CRM to System A.
    ToCanonical,
}

/// What the CRM can do with an object.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Abilities {
    /// The key that Tandem alone writes is stored in the record and can be searched or upserted on.
    pub key: bool,
    /// The CRM refuses a second record with the same value of an identity field. Otherwise Tandem looks for a record before
    /// it makes one.
    pub unique_identity: bool,
    /// "etag", "second" or "none": how a write can be made conditional.
    pub condition: Condition,
    /// Rows of `changes` and `walk` that began after the last commit count as state.
    pub consistent_listing: bool,
    /// `changes` works.
    pub changes: bool,
    /// `changes` reports deleted records.
    pub changes_show_deleted: bool,
    /// What is removed can be restored in the CRM for a while: a bin, an archive.
    pub archives: bool,
    /// Longest time until a created record is found by `find`, in milliseconds.
    pub find_settles_after_ms: u64,
    /// Wanted time between two polls, in milliseconds.
    pub poll_every_ms: u64,
    /// An event of one field tells in the attribute `occurred-at` when the field was edited, in milliseconds on the clock of the
    /// records' stamps. Then an edit that our own write overtook is found afterwards.
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

impl Abilities {
    /// What is promised of an edit in the CRM that nobody has seen yet when the same field is written.
    #[must_use]
    pub fn guarantee(&self) -> Guarantee {
        match self.condition {
            Condition::Etag => Guarantee::Exact,
            Condition::Second => Guarantee::ToTheSecond,
            Condition::None if self.event_times => Guarantee::FoundAfterwards,
            Condition::None => Guarantee::NarrowWindow,
        }
    }
}

/// How a write can be made conditional.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// An entity tag.
    Etag,
    /// A modification time in a precondition.
    Second,
    /// It cannot.
    #[default]
    None,
}

/// What is promised of an edit in the CRM between our last look and our write of the same field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// The write is refused: nothing is overwritten unseen.
    Exact,
    /// The same, but for an edit in the same second as the state that was seen.
    ToTheSecond,
    /// It is overwritten, found afterwards by its event, and then goes by policy like any conflict.
    FoundAfterwards,
    /// It is overwritten, and nothing tells of it.
    NarrowWindow,
}

impl Guarantee {
    /// The class's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::ToTheSecond => "to-the-second",
            Self::FoundAfterwards => "found-afterwards",
            Self::NarrowWindow => "narrow-window",
        }
    }
}

/// One quota.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct QuotaDescriptor {
    /// Its name, for charges and quota states: `burst`, `daily`, `search`.
    pub name: String,
    /// What kind of limit it is.
    pub kind: QuotaKind,
    /// Units in a window or day, or calls at once.
    pub limit: u64,
    /// Length of the window in milliseconds, for `window`.
    #[serde(default)]
    pub per_ms: Option<u64>,
    /// IANA time zone whose midnight resets it, for `daily`. None: UTC.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// "connection" (default) or "app": shared by all connections of the app.
    #[serde(default)]
    pub scope: QuotaScope,
    /// A charge of this quota also takes one unit of each of these: a search counts as a call of the day.
    #[serde(default)]
    pub also: Vec<String>,
}

/// Kinds of quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuotaKind {
    /// So many units in a rolling window.
    Window,
    /// So many units in a day of the account's time zone.
    Daily,
    /// So many calls at once.
    Concurrency,
}

/// Who shares a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuotaScope {
    /// One connection.
    #[default]
    Connection,
    /// All connections of an app.
    App,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_promised_of_an_edit_follows_from_the_condition_and_then_from_what_events_tell() {
        use Guarantee::{Exact, FoundAfterwards, NarrowWindow, ToTheSecond};
        for (condition, silent, told) in [
            (Condition::Etag, Exact, Exact),
            (Condition::Second, ToTheSecond, ToTheSecond),
            (Condition::None, NarrowWindow, FoundAfterwards),
        ] {
            let of = |event_times| Abilities { condition, event_times, ..Abilities::default() }.guarantee();
            assert_eq!((of(false), of(true)), (silent, told), "{condition:?}");
        }
    }

    #[test]
    fn guarantees_are_told_by_the_words_that_they_are_kept_by() {
        for guarantee in
            [Guarantee::Exact, Guarantee::ToTheSecond, Guarantee::FoundAfterwards, Guarantee::NarrowWindow]
        {
            assert_eq!(serde_json::to_value(guarantee).unwrap(), guarantee.name());
        }
    }

    #[test]
    fn a_delivery_is_proved_by_the_secret_that_its_scheme_names() {
        for (scheme, secret) in [
            (
                json!({ "scheme": "hmac-sha256", "secret": "a", "message": "{body}", "header": "x", "encoding": "hex" }),
                Some("a"),
            ),
            (json!({ "scheme": "basic", "secret": "b" }), Some("b")),
            (json!({ "scheme": "token", "secret": "c", "place": "header:x" }), Some("c")),
            (json!({ "scheme": "path" }), None),
        ] {
            assert_eq!(
                serde_json::from_value::<Verify>(scheme.clone()).unwrap().secret(),
                secret,
                "{scheme}"
            );
        }
    }
}
