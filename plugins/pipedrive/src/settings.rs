//! What an operator says of a connection, and what `probe` and `discover` learnt of the account.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tandem_provider::Problem;

use crate::quotas::{Plan, Quotas};

/// Settings of a connection.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// None: the usual one of the app's kind.
    base_url: Option<String>,
    pub(crate) app: App,
    pub(crate) plan: Plan,
    pub(crate) seats: u64,
    /// Tokens a day that were bought besides.
    pub(crate) top_up: u64,
    /// Whose midnight gives a new budget. Pipedrive says "the server's" and names no zone; None is UTC.
    pub(crate) day_zone: Option<String>,
    /// Where version 1 of the API stands: webhooks and users have no other.
    pub(crate) v1_path: String,
    /// Key of a text field of persons that Tandem alone writes.
    pub(crate) key_field: Option<String>,
    pub(crate) names: Names,
    /// The account has the fields of the contact sync. None: as `discover` saw it.
    contact_sync: Option<bool>,
    /// Telephone numbers with this label are mobile ones.
    pub(crate) mobile_label: String,
    /// Currency of amounts that have none yet. None: the account's.
    currency: Option<String>,
    /// Canonical pointers that take no part.
    pub(crate) ignore: Vec<String>,
    /// Custom fields by canonical pointer.
    pub(crate) custom: BTreeMap<String, Custom>,
    pub(crate) quotas: Quotas,
    /// How long search may lag behind a write.
    pub(crate) settle_ms: u64,
    /// How far a poll looks back behind the newest record of the last one.
    pub(crate) overlap_ms: u64,
    pub(crate) poll_every_ms: u64,
    /// Time between two looks at the webhook.
    pub(crate) watch_every_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            base_url: None,
            app: App::Token,
            plan: Plan::Lite,
            seats: 1,
            top_up: 0,
            day_zone: None,
            v1_path: "/v1".to_owned(),
            key_field: None,
            names: Names::Parts,
            contact_sync: None,
            mobile_label: "mobile".to_owned(),
            currency: None,
            ignore: Vec::new(),
            custom: BTreeMap::new(),
            quotas: Quotas::default(),
            settle_ms: 30_000,
            overlap_ms: 10_000,
            poll_every_ms: 300_000,
            watch_every_ms: 21_600_000,
        }
    }
}

/// How the credentials came about: it decides the limit of calls and where the first request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum App {
    /// A user's API token.
    Token,
    /// An app of the marketplace. The token answer names the account's own address.
    Oauth,
}

/// How a person's name is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Names {
    /// As `first_name` and `last_name`, which the migration guide describes and the OpenAPI description leaves out.
    Parts,
    /// As `name` alone, which Pipedrive takes apart by rules of its own.
    Whole,
}

/// A custom field.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Custom {
    /// Its key: forty characters.
    pub(crate) field: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// What Pipedrive calls its type, where `discover` is not to be asked.
    pub(crate) field_type: Option<String>,
    /// Canonical word to option: its id, or its label. None: the labels of the account are the words.
    pub(crate) options: Option<BTreeMap<String, String>>,
    pub(crate) direction: Option<String>,
    pub(crate) normalise: Option<String>,
}

impl Settings {
    pub(crate) fn read(settings: &Value) -> Result<Self, Vec<Problem>> {
        let mut read: Self = match serde_json::from_value(settings.clone()) {
            Ok(read) => read,
            Err(error) => return Err(vec![Problem::new("invalid-setting", error.to_string())]),
        };
        let mut problems = Vec::new();
        let mut wrong = |place: &str, message: String| {
            problems.push(Problem::new("invalid-setting", message).at(place));
        };
        if let Some(url) = &mut read.base_url {
            url.truncate(url.trim_end_matches('/').len());
            if host_of(url).is_none() {
                wrong(
                    "/base_url",
                    "base_url must be an address such as https://acme.pipedrive.com".to_owned(),
                );
            }
        }
        if let Some(name) = read.key_field.as_ref().filter(|name| !is_key(name)) {
            wrong(
                "/key_field",
                format!("key_field must be a field's key, forty characters of 0-9 and a-f, not {name}"),
            );
        }
        for (pointer, custom) in &read.custom {
            let place = format!("/custom/{}", pointer.replace('~', "~0").replace('/', "~1"));
            if !is_key(&custom.field) {
                wrong(&place, "field must be a field's key as Pipedrive shows it under API key".to_owned());
            }
        }
        read.v1_path.truncate(read.v1_path.trim_end_matches('/').len());
        if !read.v1_path.starts_with('/') {
            wrong("/v1_path", "v1_path must be a path such as /v1 or /api/v1".to_owned());
        }
        if problems.is_empty() { Ok(read) } else { Err(problems) }
    }

    /// Where requests go until a token answer names another address.
    ///
    /// An app's tokens are fetched below this address, and the answer names the account's.
    pub(crate) fn base_url(&self) -> &str {
        match (&self.base_url, self.app) {
            (Some(url), _) => url,
            (None, App::Token) => "https://api.pipedrive.com",
            (None, App::Oauth) => "https://oauth.pipedrive.com",
        }
    }

    /// The hosts that requests go to. The account's own is named by the token answer and needs the operator's grant alone.
    pub(crate) fn hosts(&self) -> Vec<String> {
        host_of(self.base_url()).into_iter().collect()
    }

    /// Whether the account has a field that comes with the contact sync.
    ///
    /// To write one that it does not have is refused with 403: before anything is known, there is none.
    pub(crate) fn has_synced(&self, name: &str, facts: &Facts) -> bool {
        match (self.contact_sync, facts.fields()) {
            (Some(said), None) => said,
            (Some(false), _) | (None, None) => false,
            (_, Some(fields)) => fields.contains_key(name),
        }
    }

    /// The currency of an amount that has none.
    pub(crate) fn currency<'a>(&'a self, facts: &'a Facts) -> Option<&'a str> {
        self.currency.as_deref().or(facts.account.currency.as_deref())
    }
}

/// A field's key: forty characters for custom ones, a word for the others.
fn is_key(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_')
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
    /// Who the credentials are of, to recognise our own writes.
    pub(crate) user_id: Option<String>,
    pub(crate) currency: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Object {
    fields: BTreeMap<String, Field>,
}

/// A field of persons, from `discover`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Field {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) read_only: bool,
    /// Id to label.
    pub(crate) options: BTreeMap<String, String>,
}

impl Facts {
    /// Facts of another version are no facts: they are learnt again.
    pub(crate) fn read(facts: &Value) -> Self {
        serde_json::from_value(facts.clone()).unwrap_or_default()
    }

    /// The fields of persons, once they were discovered.
    pub(crate) fn fields(&self) -> Option<&BTreeMap<String, Field>> {
        self.objects
            .get(crate::person::OBJECT)
            .map(|object| &object.fields)
            .filter(|fields| !fields.is_empty())
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
    let key = json!({ "type": "string", "pattern": "^[a-z0-9_]{1,64}$" });
    let members = [
        (
            "base_url",
            json!({ "type": "string", "format": "uri", "description": "Usually the account's own address." }),
        ),
        (
            "app",
            json!({
                "enum": ["token", "oauth"], "default": "token",
                "description": "What the credentials are: a user's API token, or those of a marketplace app.",
            }),
        ),
        (
            "plan",
            json!({
                "enum": ["lite", "growth", "premium", "ultimate"], "default": "lite",
                "description": "The account's plan: with the seats it decides the daily budget and the limit of calls.",
            }),
        ),
        ("seats", json!({ "type": "integer", "minimum": 1, "default": 1 })),
        (
            "top_up",
            json!({ "type": "integer", "minimum": 0, "default": 0, "description": "Tokens a day bought besides." }),
        ),
        (
            "day_zone",
            json!({ "type": "string", "description": "Time zone at whose midnight the budget begins anew. Default: UTC." }),
        ),
        ("v1_path", json!({ "type": "string", "pattern": "^/", "default": "/v1" })),
        (
            "key_field",
            json!({
                "type": "string", "pattern": "^[a-z0-9_]{1,64}$",
                "description": "Key of a text field of persons that Tandem alone writes. With it a create whose answer was lost is found again.",
            }),
        ),
        (
            "names",
            json!({
                "enum": ["parts", "whole"], "default": "parts",
                "description": "Whether names are written as first_name and last_name, or as name alone, which Pipedrive takes apart itself.",
            }),
        ),
        (
            "contact_sync",
            json!({
                "type": "boolean",
                "description": "Whether the account has the fields of the contact sync: job title, birthday, notes, postal address. Default: as it is discovered.",
            }),
        ),
        ("mobile_label", json!({ "type": "string", "minLength": 1, "default": "mobile" })),
        (
            "currency",
            json!({ "type": "string", "pattern": "^[A-Z]{3}$", "description": "Of amounts that have none yet. Default: the account's." }),
        ),
        (
            "ignore",
            json!({
                "type": "array", "items": { "type": "string", "pattern": "^/" },
                "description": "Canonical pointers of fields that take no part.",
            }),
        ),
        (
            "custom",
            json!({
                "type": "object",
                "description": "Canonical pointer to custom field: for fields of the customer's own, and for canonical ones that Pipedrive has no field for.",
                "additionalProperties": {
                    "type": "object", "additionalProperties": false, "required": ["field", "type"],
                    "properties": {
                        "field": key,
                        "type": { "enum": ["text", "integer", "decimal", "boolean", "date", "datetime", "enumeration", "set"] },
                        "field_type": { "type": "string", "description": "Pipedrive's word for its type. Default: as it is discovered." },
                        "options": {
                            "type": "object", "additionalProperties": { "type": "string" },
                            "description": "Word to option, by id or label. Default: the labels that are discovered.",
                        },
                        "direction": { "enum": ["both", "to-provider", "to-canonical"] },
                        "normalise": { "type": "string" },
                    },
                },
            }),
        ),
        (
            "quotas",
            json!({
                "type": "object", "additionalProperties": false,
                "properties": {
                    "burst": limit("Calls in a rolling window of two seconds.", true),
                    "search": limit("Searches; usually 10 in two seconds.", true),
                    "daily": limit("Tokens of a day, all apps of the account together.", false),
                },
            }),
        ),
        (
            "settle_ms",
            json!({
                "type": "integer", "minimum": 0, "maximum": 3_600_000, "default": 30_000,
                "description": "How long search may lag behind a write.",
            }),
        ),
        (
            "overlap_ms",
            json!({
                "type": "integer", "minimum": 1_000, "maximum": 3_600_000, "default": 10_000,
                "description": "How far a poll looks back.",
            }),
        ),
        ("poll_every_ms", json!({ "type": "integer", "minimum": 100, "default": 300_000 })),
        (
            "watch_every_ms",
            json!({ "type": "integer", "minimum": 10_000, "maximum": 86_400_000, "default": 21_600_000 }),
        ),
    ];
    let properties: Map<String, Value> =
        members.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of a Pipedrive connection",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}
