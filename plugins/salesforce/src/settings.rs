//! What an operator says of a connection, and what `probe` and `discover` learnt of the organisation.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use tandem_provider::{Problem, QuotaDescriptor};

/// A day.
const DAY: u64 = 86_400_000;

/// Settings of a connection.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) api_version: String,
    /// Where tokens are refreshed, and where requests go unless the token came with another address.
    pub(crate) base_url: String,
    /// A unique external id field that Tandem alone writes.
    pub(crate) key_field: Option<String>,
    /// Canonical pointer to field, for fields that are kept elsewhere than usual.
    pub(crate) fields: BTreeMap<String, String>,
    /// Canonical stage to value, where `/lifecycle_stage` is kept in a picklist.
    pub(crate) stages: BTreeMap<String, String>,
    /// Canonical pointers that take no part.
    pub(crate) ignore: Vec<String>,
    /// Fields of the customer's own.
    pub(crate) custom: Value,
    pub(crate) after_write: AfterWrite,
    /// Names Tandem in Salesforce's change events and logs.
    pub(crate) client: String,
    /// Save although a duplicate rule warns. Rules that block cannot be passed.
    pub(crate) save_duplicates: bool,
    pub(crate) quotas: Quotas,
    /// How long a transaction may take to become visible after the moment that it stamps its records with.
    pub(crate) overlap_ms: u64,
    /// How long a create whose answer was lost may still be under way.
    pub(crate) settle_ms: u64,
    pub(crate) poll_every_ms: u64,
    /// Time between two looks at the listing of deleted contacts.
    pub(crate) deletions_every_ms: u64,
    /// How long the calls that others have made are held to be used, and how long a spent limit is waited for: Salesforce
    /// names no time.
    pub(crate) limit_pause_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            api_version: "60.0".to_owned(),
            base_url: "https://login.salesforce.com".to_owned(),
            key_field: None,
            fields: BTreeMap::new(),
            stages: BTreeMap::new(),
            ignore: Vec::new(),
            custom: json!({}),
            after_write: AfterWrite::Read,
            client: "Tandem".to_owned(),
            save_duplicates: false,
            quotas: Quotas::default(),
            overlap_ms: 120_000,
            settle_ms: 10_000,
            poll_every_ms: 60_000,
            deletions_every_ms: 300_000,
            limit_pause_ms: 900_000,
        }
    }
}

/// What follows a write, which Salesforce answers without the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AfterWrite {
    /// The record is read: one call more, and the next write has its precondition.
    Read,
    /// What was sent counts until the next poll shows the record; until then a write has no precondition.
    Assume,
}

/// Overrides of the usual limits.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Quotas {
    requests: Option<Limit>,
    concurrency: Option<Limit>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    limit: u64,
    per_ms: Option<u64>,
}

/// The name of a field, a namespace and `__c` included.
fn is_name(name: &str) -> bool {
    name.len() <= 80
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
        && name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
}

/// Fields that Salesforce makes of others.
const COMPOUND: [&str; 3] = ["Name", "MailingAddress", "OtherAddress"];

/// Fields of every record that are nobody's to map.
const SYSTEM: [&str; 5] = ["Id", "SystemModstamp", "IsDeleted", "MasterRecordId", "LastModifiedById"];

fn escaped(pointer: &str) -> String {
    pointer.replace('~', "~0").replace('/', "~1")
}

/// Why a field cannot be mapped. None: it can.
pub(crate) fn unmappable(name: &str) -> Option<String> {
    if COMPOUND.contains(&name) {
        return Some(format!("{name} is made of other fields and cannot be written: name those"));
    }
    SYSTEM.contains(&name).then(|| format!("{name} is the provider's own"))
}

impl Settings {
    pub(crate) fn read(settings: &Value) -> Result<Self, Vec<Problem>> {
        let mut read: Self = match serde_json::from_value(settings.clone()) {
            Ok(read) => read,
            Err(error) => return Err(vec![Problem::new("invalid-setting", error.to_string())]),
        };
        let mut problems = Vec::new();
        let mut wrong = |at: String, message: String| {
            problems.push(Problem::new("invalid-setting", message).at(at));
        };
        read.base_url.truncate(read.base_url.trim_end_matches('/').len());
        if host_of(&read.base_url).is_none() {
            wrong(
                "/base_url".to_owned(),
                "base_url must be an address such as https://acme.my.salesforce.com".to_owned(),
            );
        }
        let (major, minor) = read.api_version.split_once('.').unwrap_or_default();
        if minor != "0" || !major.parse::<u16>().is_ok_and(|major| (46..1_000).contains(&major)) {
            wrong(
                "/api_version".to_owned(),
                "api_version must be 46.0 or later, such as 60.0: before that an upsert does not say what it did".to_owned(),
            );
        }
        if let Some(name) = &read.key_field
            && !(is_name(name) && name.ends_with("__c"))
        {
            wrong(
                "/key_field".to_owned(),
                "key_field must be the API name of a custom field: Tandem_Key__c".to_owned(),
            );
        }
        if read.client.is_empty()
            || read.client.len() > 64
            || !read.client.bytes().all(|it| it.is_ascii_alphanumeric() || b"_-./".contains(&it))
        {
            wrong(
                "/client".to_owned(),
                "client must be letters, digits and _ - . /, at most 64 of them".to_owned(),
            );
        }
        for (pointer, name) in &read.fields {
            let at = format!("/fields/{}", escaped(pointer));
            if !pointer.starts_with('/') || !is_name(name) {
                let message = "fields names canonical pointers and API names: {\"/website\": \"Website__c\"}";
                wrong(at, message.to_owned());
            } else if let Some(message) = unmappable(name) {
                wrong(at, message);
            }
        }
        for (pointer, entry) in read.custom.as_object().into_iter().flatten() {
            let Some(name) = entry.get("property").and_then(Value::as_str) else { continue };
            let at = format!("/custom/{}/property", escaped(pointer));
            if !is_name(name) {
                wrong(at, format!("{name:?} is no API name of a field"));
            } else if let Some(message) = unmappable(name) {
                wrong(at, message);
            }
        }
        if problems.is_empty() { Ok(read) } else { Err(problems) }
    }

    /// The host that requests go to as long as no token answer names another.
    pub(crate) fn hosts(&self) -> Vec<String> {
        host_of(&self.base_url).into_iter().collect()
    }

    /// Limits, the default one first. Sources: Salesforce's limits quick reference; what an organisation really has is in its
    /// headers. Calls are counted over the last 24 hours, for all that the organisation's programs ask for.
    pub(crate) fn quota_descriptors(&self) -> Vec<QuotaDescriptor> {
        let requests = self.quotas.requests.map_or(100_000, |limit| limit.limit);
        let window = self.quotas.requests.and_then(|limit| limit.per_ms).unwrap_or(DAY);
        // Five calls that take longer than 20 s may run at once in a developer's organisation, 25 in others.
        let concurrency = self.quotas.concurrency.map_or(5, |limit| limit.limit);
        vec![
            QuotaDescriptor::window("requests", requests, window).also("concurrency"),
            QuotaDescriptor::concurrency("concurrency", concurrency),
        ]
    }
}

/// The host of an address, without its port.
fn host_of(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(address) => format!("[{}]", address.split_once(']')?.0),
        None => authority.split(':').next()?.to_ascii_lowercase(),
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

/// The organisation and the user that asked, from `probe`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Account {
    pub(crate) id: Option<String>,
    pub(crate) user: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Object {
    fields: BTreeMap<String, Field>,
}

/// A field, from `discover`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Field {
    /// An external id with unique values.
    pub(crate) key: bool,
    pub(crate) read_only: bool,
    /// Other values than `options` are refused.
    pub(crate) restricted: bool,
    pub(crate) options: Vec<String>,
}

impl Facts {
    /// Facts of another version are no facts: they are learnt again.
    pub(crate) fn read(facts: &Value) -> Self {
        serde_json::from_value(facts.clone()).unwrap_or_default()
    }

    /// The fields of an object, once they were discovered.
    pub(crate) fn fields(&self, object: &str) -> Option<&BTreeMap<String, Field>> {
        self.objects.get(object).map(|object| &object.fields).filter(|fields| !fields.is_empty())
    }
}

/// JSON Schema of the settings.
pub(crate) fn schema() -> Value {
    let name = json!({ "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]{0,79}$" });
    let positive = json!({ "type": "integer", "minimum": 1 });
    let duration = |description: &str, minimum: u64, default: u64| {
        json!({
            "type": "integer", "minimum": minimum, "maximum": 86_400_000, "default": default, "description": description,
        })
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of a Salesforce connection",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "api_version": {
                "type": "string", "pattern": "^[1-9][0-9]{1,2}\\.0$", "default": "60.0",
                "description": "Version of the REST API; 46.0 or later.",
            },
            "base_url": {
                "type": "string", "format": "uri", "default": "https://login.salesforce.com",
                "description": "The organisation's own address, https://NAME.my.salesforce.com. Tokens are refreshed there, and requests go there unless the token's answer names another address.",
            },
            "key_field": {
                "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]{0,76}__c$",
                "description": "API name of a text field of contacts that is an external id with unique values and that Tandem alone writes. With it a create can be repeated without harm.",
            },
            "fields": {
                "type": "object", "additionalProperties": name,
                "description": "Canonical pointer to API name: for fields kept elsewhere than usual, and for /company_name, /website, /language, /lifecycle_stage, /annual_revenue, /employees and /tags, which have no usual place.",
            },
            "stages": {
                "type": "object", "additionalProperties": { "type": "string", "minLength": 1 },
                "propertyNames": { "enum": crate::contact::STAGES },
                "description": "Canonical stage to the picklist's value, where /lifecycle_stage is kept in one.",
            },
            "ignore": {
                "type": "array", "items": { "type": "string", "pattern": "^/" },
                "description": "Canonical pointers of fields that take no part.",
            },
            "custom": {
                "type": "object",
                "description": "Canonical pointer to API name and type, for fields of the customer's own.",
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
            "after_write": {
                "enum": ["read", "assume"], "default": "read",
                "description": "Salesforce answers a write without the record. read: it is read, which costs a call. assume: what was sent counts until the next poll, and a second write before that has no precondition.",
            },
            "client": {
                "type": "string", "pattern": "^[A-Za-z0-9_./-]{1,64}$", "default": "Tandem",
                "description": "Names Tandem in Salesforce's change events and logs.",
            },
            "save_duplicates": {
                "type": "boolean", "default": false,
                "description": "Save although a duplicate rule warns. Rules that block cannot be passed.",
            },
            "quotas": {
                "type": "object", "additionalProperties": false,
                "properties": {
                    "requests": {
                        "type": "object", "additionalProperties": false, "required": ["limit"],
                        "properties": { "limit": positive, "per_ms": positive },
                        "description": "Calls in 24 hours, usually 100,000; the headers of answers say what the organisation has.",
                    },
                    "concurrency": {
                        "type": "object", "additionalProperties": false, "required": ["limit"],
                        "properties": { "limit": positive },
                        "description": "Calls at once; usually 5.",
                    },
                },
            },
            "overlap_ms": duration(
                "How long a transaction may take to become visible after the moment that it stamps its records with.", 0, 120_000,
            ),
            "settle_ms": duration("How long a create whose answer was lost may still be under way.", 0, 10_000),
            "poll_every_ms": duration("Time between two polls.", 100, 60_000),
            "deletions_every_ms": duration("Time between two looks at the listing of deleted contacts.", 0, 300_000),
            "limit_pause_ms": duration(
                "How long a spent limit of calls is waited for, and calls of other programs are held to be used: Salesforce says how many were made in the last 24 hours, and not when they come back.",
                1_000, 900_000,
            ),
        },
    })
}
