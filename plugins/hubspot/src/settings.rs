//! What an operator says of a connection, and what `probe` and `discover` learnt of the account.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use tandem_provider::{Problem, QuotaDescriptor};

/// Settings of a connection.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) api_version: ApiVersion,
    pub(crate) base_url: String,
    pub(crate) app: App,
    pub(crate) tier: Tier,
    /// Id of our app at HubSpot, to recognise our own writes in webhooks. None: the app that a webhook names.
    pub(crate) app_id: Option<Id>,
    /// A unique property that Tandem alone writes.
    pub(crate) key_property: Option<String>,
    /// Canonical pointer to property, for fields that are kept elsewhere than usual.
    pub(crate) properties: BTreeMap<String, String>,
    /// Canonical pointers that take no part.
    pub(crate) ignore: Vec<String>,
    /// Fields of the customer's own.
    pub(crate) custom: Value,
    pub(crate) quotas: Quotas,
    /// How long search may lag behind a write.
    pub(crate) settle_ms: u64,
    pub(crate) poll_every_ms: u64,
    /// Time between two looks through the archived contacts.
    pub(crate) deletions_every_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            api_version: ApiVersion::V3,
            base_url: "https://api.hubapi.com".to_owned(),
            app: App::Private,
            tier: Tier::Professional,
            app_id: None,
            key_property: None,
            properties: BTreeMap::new(),
            ignore: Vec::new(),
            custom: json!({}),
            quotas: Quotas::default(),
            settle_ms: 10_000,
            poll_every_ms: 30_000,
            deletions_every_ms: 900_000,
        }
    }
}

/// The API's version. Paths differ, bodies do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum ApiVersion {
    #[serde(rename = "v3")]
    V3,
    #[serde(rename = "2026-03")]
    March2026,
    #[serde(rename = "2026-09")]
    September2026,
}

impl ApiVersion {
    fn dated(self) -> Option<&'static str> {
        match self {
            Self::V3 => None,
            Self::March2026 => Some("2026-03"),
            Self::September2026 => Some("2026-09"),
        }
    }

    /// Path of an object's records.
    pub(crate) fn objects(self, object: &str) -> String {
        match self.dated() {
            None => format!("/crm/v3/objects/{object}"),
            Some(date) => format!("/crm/objects/{date}/{object}"),
        }
    }

    /// Path of an object's properties. The dated form follows that of the objects; no public description names it.
    pub(crate) fn properties(self, object: &str) -> String {
        match self.dated() {
            None => format!("/crm/v3/properties/{object}"),
            Some(date) => format!("/crm/properties/{date}/{object}"),
        }
    }
}

/// What kind of app the token is of: it decides the burst limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum App {
    Oauth,
    Private,
}

/// The account's subscription: it decides the limits of private apps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tier {
    Free,
    Starter,
    Professional,
    Enterprise,
}

/// An id that may be written as number or text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Id {
    Text(String),
    Number(u64),
}

impl Id {
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

/// Overrides of the usual limits.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Quotas {
    burst: Option<Limit>,
    search: Option<Limit>,
    daily: Option<Limit>,
    concurrency: Option<Limit>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    limit: u64,
    per_ms: Option<u64>,
}

impl Settings {
    pub(crate) fn read(settings: &Value) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut read: Self = match serde_json::from_value(settings.clone()) {
            Ok(read) => read,
            Err(error) => return Err(vec![Problem::new("invalid-setting", error.to_string())]),
        };
        read.base_url.truncate(read.base_url.trim_end_matches('/').len());
        if host_of(&read.base_url).is_none() {
            let message = "base_url must be an address such as https://api.hubapi.com";
            problems.push(Problem::new("invalid-setting", message).at("/base_url"));
        }
        let is_name = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_')
        };
        if let Some(name) = &read.key_property
            && !is_name(name)
        {
            let message = "key_property must be a property's internal name: lower-case letters, digits and _";
            problems.push(Problem::new("invalid-setting", message).at("/key_property"));
        }
        for (pointer, name) in &read.properties {
            if !pointer.starts_with('/') || !is_name(name) {
                let place = format!("/properties/{}", pointer.replace('~', "~0").replace('/', "~1"));
                let message =
                    "properties names canonical pointers and internal names: {\"/phone\": \"hs_phone\"}";
                problems.push(Problem::new("invalid-setting", message).at(place));
            }
        }
        if problems.is_empty() { Ok(read) } else { Err(problems) }
    }

    /// The hosts that requests go to.
    pub(crate) fn hosts(&self) -> Vec<String> {
        host_of(&self.base_url).into_iter().collect()
    }

    /// Limits, the default one first. Sources: HubSpot's usage guidelines; what an account really has is in its headers.
    pub(crate) fn quota_descriptors(&self, time_zone: Option<String>) -> Vec<QuotaDescriptor> {
        let burst = self.quotas.burst.map_or_else(
            || match (self.app, self.tier) {
                (App::Oauth, _) => 110,
                (App::Private, Tier::Free | Tier::Starter) => 100,
                (App::Private, _) => 190,
            },
            |limit| limit.limit,
        );
        let daily = self.quotas.daily.map(|limit| limit.limit).or(match (self.app, self.tier) {
            // Apps with OAuth have no daily limit of their own.
            (App::Oauth, _) => None,
            (_, Tier::Free | Tier::Starter) => Some(250_000),
            (_, Tier::Professional) => Some(650_000),
            (_, Tier::Enterprise) => Some(1_000_000),
        });
        let window = |limit: Option<Limit>, usual: u64| limit.and_then(|it| it.per_ms).unwrap_or(usual);
        let mut burst = QuotaDescriptor::window("burst", burst, window(self.quotas.burst, 10_000));
        let mut search = QuotaDescriptor::window(
            "search",
            self.quotas.search.map_or(5, |limit| limit.limit),
            window(self.quotas.search, 1_000),
        );
        let mut all = Vec::new();
        if let Some(limit) = daily {
            burst = burst.also("daily");
            search = search.also("daily");
            all.push(QuotaDescriptor::daily("daily", limit, time_zone));
        }
        if let Some(limit) = self.quotas.concurrency {
            burst = burst.also("concurrency");
            search = search.also("concurrency");
            all.push(QuotaDescriptor::concurrency("concurrency", limit.limit));
        }
        all.insert(0, search);
        all.insert(0, burst);
        all
    }
}

/// The host of an address, without its port.
fn host_of(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(address) => format!("[{}]", address.split_once(']')?.0),
        None => authority.split(':').next()?.to_owned(),
    };
    (!host.is_empty() && !host.contains('@')).then_some(host)
}

/// What `probe` and `discover` learnt.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Facts {
    pub(crate) account: Account,
    objects: BTreeMap<String, Object>,
}

/// The account, from `probe`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Account {
    pub(crate) time_zone: Option<String>,
    /// How far its clocks are ahead of UTC, when it was asked. Daylight saving may have changed since.
    pub(crate) utc_offset_ms: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Object {
    properties: BTreeMap<String, Property>,
}

/// A property, from `discover`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Property {
    pub(crate) unique: bool,
    pub(crate) read_only: bool,
    /// The values of its options. Empty: it has none, or takes any.
    pub(crate) options: Vec<String>,
}

impl Facts {
    /// Facts of another version are no facts: they are learnt again.
    pub(crate) fn read(facts: &Value) -> Self {
        serde_json::from_value(facts.clone()).unwrap_or_default()
    }

    /// The properties of an object, once they were discovered.
    pub(crate) fn properties(&self, object: &str) -> Option<&BTreeMap<String, Property>> {
        self.objects.get(object).map(|object| &object.properties).filter(|properties| !properties.is_empty())
    }
}

/// JSON Schema of the settings.
pub(crate) fn schema() -> Value {
    let limit = |description: &str, window: bool| {
        let number = json!({ "type": "integer", "minimum": 1 });
        let members =
            if window { json!({ "limit": number, "per_ms": number }) } else { json!({ "limit": number }) };
        json!({
            "type": "object", "additionalProperties": false, "required": ["limit"],
            "properties": members, "description": description,
        })
    };
    let name = json!({ "type": "string", "pattern": "^[a-z0-9_]+$" });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of a HubSpot connection",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "api_version": { "enum": ["v3", "2026-03", "2026-09"], "default": "v3", "description": "Version of the CRM API." },
            "base_url": { "type": "string", "format": "uri", "default": "https://api.hubapi.com" },
            "app": { "enum": ["oauth", "private"], "default": "private", "description": "Kind of app; decides the burst limit." },
            "tier": {
                "enum": ["free", "starter", "professional", "enterprise"], "default": "professional",
                "description": "The account's subscription; decides the limits of private apps.",
            },
            "app_id": {
                "type": ["string", "integer"],
                "description": "Id of the app at HubSpot, to recognise Tandem's own writes in webhooks.",
            },
            "key_property": {
                "type": "string", "pattern": "^[a-z0-9_]+$",
                "description": "Internal name of a contact property with unique values that Tandem alone writes. With it a create can be repeated without harm.",
            },
            "properties": {
                "type": "object", "additionalProperties": name,
                "description": "Canonical pointer to property: for fields kept elsewhere than usual, and for /tags, /opted_out and /employees, which have no usual place.",
            },
            "ignore": {
                "type": "array", "items": { "type": "string", "pattern": "^/" },
                "description": "Canonical pointers of fields that take no part.",
            },
            "custom": {
                "type": "object",
                "description": "Canonical pointer to property and type, for fields of the customer's own.",
                "additionalProperties": {
                    "type": "object", "additionalProperties": false, "required": ["property", "type"],
                    "properties": {
                        "property": name,
                        "type": { "enum": ["text", "integer", "decimal", "boolean", "date", "datetime", "enumeration", "set"] },
                        "options": { "type": "object", "additionalProperties": { "type": "string" } },
                        "direction": { "enum": ["both", "to-provider", "to-canonical"] },
                        "normalise": { "type": "string" },
                    },
                },
            },
            "quotas": {
                "type": "object", "additionalProperties": false,
                "properties": {
                    "burst": limit("Calls in a rolling window; usually 110 (OAuth) or 190 in 10 s.", true),
                    "search": limit("Searches; usually 5 a second.", true),
                    "daily": limit("Calls of a day.", false),
                    "concurrency": limit("Calls at once.", false),
                },
            },
            "settle_ms": {
                "type": "integer", "minimum": 0, "maximum": 3_600_000, "default": 10_000,
                "description": "How long search may lag behind a write.",
            },
            "poll_every_ms": { "type": "integer", "minimum": 100, "default": 30_000 },
            "deletions_every_ms": {
                "type": "integer", "minimum": 0, "default": 900_000,
                "description": "Time between two looks through the archived contacts.",
            },
        },
    })
}
