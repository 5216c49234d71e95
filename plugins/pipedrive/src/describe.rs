//! What the provider says of itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tandem_provider::{
    Abilities, AuthKind, AuthScheme, Condition, ConnectionDescriptor, Descriptor, Direction, Example,
    FieldDescriptor, ObjectDescriptor, Refresh, Verify, Webhooks,
};

use crate::person::{NAME, OBJECT};
use crate::{Pipedrive, plain, quotas, settings, watch};

pub(crate) fn descriptor() -> Descriptor {
    let refresh = Refresh {
        // Tokens are fetched below the address that a connection begins with, and name the account's.
        url: "{base_url}/oauth/token".to_owned(),
        client: "basic".to_owned(),
        access_token: Some("/access_token".to_owned()),
        refresh_token: Some("/refresh_token".to_owned()),
        expires_in: Some("/expires_in".to_owned()),
        base_url: Some("/api_domain".to_owned()),
        error: None,
    };
    let token = AuthScheme {
        kind: AuthKind::Static,
        header: "x-api-token".to_owned(),
        template: "{token}".to_owned(),
        refresh: None,
    };
    Descriptor {
        id: "pipedrive".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        title: "Pipedrive: persons as contacts".to_owned(),
        auth: BTreeMap::from([
            ("static".to_owned(), token),
            ("oauth2".to_owned(), AuthScheme::oauth2(refresh)),
        ]),
        // Those that are registered here are each connection's own; an app may have one address for all companies.
        webhooks: Some(Webhooks {
            account: Some("/meta/company_id".to_owned()),
            ..Webhooks::verified_by(Verify::Basic { secret: watch::BASIC_SECRET.to_owned() })
        }),
        rules: false,
        secrets: BTreeMap::from([(
            "watch".to_owned(),
            vec![watch::USER_SECRET.to_owned(), watch::PASSWORD_SECRET.to_owned()],
        )]),
        response_headers: [
            "retry-after",
            "x-daily-ratelimit-token-limit",
            "x-daily-ratelimit-token-remaining",
            "x-daily-requests-left",
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
        ]
        .map(str::to_owned)
        .to_vec(),
        settings: Some(settings::schema()),
        examples: examples(),
    }
}

pub(crate) fn connection(pipedrive: &Pipedrive) -> ConnectionDescriptor {
    let settings = &pipedrive.settings;
    let contact = ObjectDescriptor {
        name: NAME.to_owned(),
        schema: schema(pipedrive, true),
        write_schema: Some(schema(pipedrive, false)),
        fields: fields(pipedrive),
        abilities: Abilities {
            key: settings.key_field.is_some(),
            unique_identity: false,
            condition: Condition::None,
            consistent_listing: false,
            changes: true,
            changes_show_deleted: false,
            archives: true,
            find_settles_after_ms: settings.settle_ms,
            poll_every_ms: settings.poll_every_ms,
            event_times: false,
        },
    };
    ConnectionDescriptor {
        base_url: settings.base_url().to_owned(),
        hosts: settings.hosts(),
        objects: BTreeMap::from([(OBJECT.to_owned(), contact)]),
        quotas: quotas::descriptors(settings),
    }
}

/// The mapped fields, with the places that they have in a person.
fn fields(pipedrive: &Pipedrive) -> BTreeMap<String, FieldDescriptor> {
    let mut fields = pipedrive.persons.fields();
    for field in fields.values_mut() {
        field.provider = field.provider.iter().map(|plain| plain::place_of(plain)).collect();
    }
    fields
}

/// JSON Schema of a person. `read`: as Pipedrive answers; otherwise as the mapping writes, without what only Pipedrive gives.
fn schema(pipedrive: &Pipedrive, read: bool) -> Value {
    let text = |most: u32| json!({ "type": ["string", "null"], "maxLength": most });
    let entries = json!({
        "type": ["array", "null"], "maxItems": 1_000,
        "items": { "type": "object", "properties": {
            "value": text(65_536), "primary": { "type": ["boolean", "null"] }, "label": text(255),
        }},
    });
    let mut parts = Map::new();
    for name in plain::ADDRESS.iter().chain(&["value", "route", "street_number", "formatted_address"]) {
        parts.insert((*name).to_owned(), text(65_536));
    }
    let mut fields = Map::new();
    for (key, kind) in &pipedrive.kinds {
        fields.insert(key.clone(), kind.schema());
    }
    if let Some(key) = &pipedrive.settings.key_field {
        fields.insert(key.clone(), text(65_536));
    }
    let birthday = json!({
        "type": ["string", "null"], "format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    });
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "persons in read form",
        "type": "object",
        "properties": {
            "id": { "type": ["integer", "string"], "minimum": 1, "maxLength": 20 },
            "name": text(65_536),
            "first_name": text(65_536),
            "last_name": text(65_536),
            (plain::EMAILS.0): entries,
            (plain::PHONES): entries,
            "job_title": text(65_536),
            "birthday": birthday,
            "notes": text(65_536),
            (plain::POSTAL): { "type": ["object", "null"], "properties": parts },
            (plain::CUSTOM): { "type": "object", "properties": fields },
            "is_deleted": { "type": ["boolean", "null"] },
            "add_time": text(64),
            "update_time": text(64),
        },
    });
    if read && let Some(members) = schema.as_object_mut() {
        members.insert("required".to_owned(), json!(["id"]));
    }
    schema
}

fn example(
    name: &str,
    direction: Direction,
    (settings, facts): (&Value, &Value),
    canonical: Value,
    document: Value,
) -> Example {
    Example {
        name: name.to_owned(),
        object: OBJECT.to_owned(),
        settings: settings.clone(),
        facts: facts.clone(),
        canonical,
        document,
        direction,
    }
}

fn examples() -> Vec<Example> {
    const TIER: &str = "1111111111111111111111111111111111111111";
    const AREAS: &str = "2222222222222222222222222222222222222222";
    const FEE: &str = "3333333333333333333333333333333333333333";
    const SEATS: &str = "4444444444444444444444444444444444444444";
    const RENEWAL: &str = "5555555555555555555555555555555555555555";
    const SITE: &str = "6666666666666666666666666666666666666666";
    let nothing = (&json!({}), &json!({}));
    let synced = (&json!({ "contact_sync": true }), &json!({}));
    let settings = json!({
        "ignore": ["/mobile_phone"],
        "custom": {
            "/website": { "field": SITE, "type": "text" },
            "/custom/tier": { "field": TIER, "type": "enumeration" },
            "/custom/areas": { "field": AREAS, "type": "set", "options": { "north": "North", "south": "22" } },
            "/custom/fee": { "field": FEE, "type": "decimal" },
            "/custom/seats": { "field": SEATS, "type": "integer" },
            "/custom/renewal": { "field": RENEWAL, "type": "date" },
        },
    });
    let facts = json!({
        "account": { "id": "7", "user_id": "9", "currency": "EUR" },
        "objects": { OBJECT: { "fields": {
            "name": { "type": "varchar" }, "email": { "type": "varchar" }, "phone": { "type": "phone" },
            SITE: { "type": "varchar" },
            TIER: { "type": "enum", "options": { "11": "gold", "12": "silver" } },
            AREAS: { "type": "set", "options": { "21": "North", "22": "South" } },
            FEE: { "type": "monetary" }, SEATS: { "type": "double" }, RENEWAL: { "type": "date" },
        }}},
    });
    let custom = (&settings, &facts);
    vec![
        example(
            "a person with name, address and numbers",
            Direction::Both,
            nothing,
            json!({
                "email": "ann.obrien@example.com", "given_name": "Ann", "family_name": "O'Brien",
                "phone": "+44 20 7946 0018", "mobile_phone": "+44 7700 900123",
            }),
            json!({
                "first_name": "Ann", "last_name": "O'Brien",
                "emails": [{ "value": "ann.obrien@example.com", "primary": true, "label": "work" }],
                "phones": [
                    { "value": "+44 20 7946 0018", "primary": true, "label": "work" },
                    { "value": "+44 7700 900123", "primary": false, "label": "mobile" },
                ],
            }),
        ),
        example(
            "only an address",
            Direction::Both,
            nothing,
            json!({ "email": "solo@example.org" }),
            json!({ "emails": [{ "value": "solo@example.org", "primary": true, "label": "work" }] }),
        ),
        example("nothing at all", Direction::Both, nothing, json!({}), json!({})),
        example(
            "of several addresses the primary one, of several numbers one that is not mobile and one that is",
            Direction::ToCanonical,
            nothing,
            json!({ "email": "b@example.com", "given_name": "Bo", "family_name": null, "phone": "1", "mobile_phone": "3" }),
            json!({
                "id": 512, "name": "Bo", "first_name": "Bo", "last_name": null, "owner_id": 1, "org_id": null,
                "add_time": "2026-01-02T03:04:05Z", "update_time": "2026-01-03T00:00:00Z",
                "emails": [
                    { "value": "a@example.com", "primary": false, "label": "home" },
                    { "value": "b@example.com", "primary": true, "label": "work" },
                ],
                "phones": [
                    { "value": "3", "primary": true, "label": "Mobile" },
                    { "value": "1", "primary": false, "label": "home" },
                    { "value": "2", "primary": false, "label": "work" },
                ],
                "is_deleted": false, "visible_to": 3, "label_ids": [], "picture_id": null, "custom_fields": {},
            }),
        ),
        example(
            "lists without entries read as null, and so does an entry without a value",
            Direction::ToCanonical,
            nothing,
            json!({ "email": null, "phone": null, "mobile_phone": null, "given_name": "C" }),
            json!({ "id": 7, "first_name": "C", "emails": [], "phones": [{ "value": "", "primary": true }] }),
        ),
        example(
            "null, empty and absent are nothing to write when there was nothing",
            Direction::ToProvider,
            nothing,
            json!({ "email": "d@example.com", "given_name": null, "phone": "" }),
            json!({ "emails": [{ "value": "d@example.com", "primary": true, "label": "work" }] }),
        ),
        example(
            "odd characters stay as they are",
            Direction::Both,
            synced,
            json!({
                "given_name": "Zoë \u{1f600} \"Z\" \\ / \u{7f}", "family_name": "Ng\u{169}g\u{129} wa Thiong\u{2019}o",
                "notes": "a;b;c & <b> %20 \u{feff}",
            }),
            json!({
                "first_name": "Zoë \u{1f600} \"Z\" \\ / \u{7f}", "last_name": "Ng\u{169}g\u{129} wa Thiong\u{2019}o",
                "notes": "a;b;c & <b> %20 \u{feff}",
            }),
        ),
        example(
            "what comes with the contact sync",
            Direction::Both,
            synced,
            json!({
                "given_name": "Eve", "job_title": "Head of Purchasing", "date_of_birth": "1980-02-29",
                "notes": "Met at the fair.\nCall in May.", "street": "1 High Street", "city": "London",
                "region": "Greater London", "postal_code": "SW1A 1AA", "country": "United Kingdom",
            }),
            json!({
                "first_name": "Eve", "job_title": "Head of Purchasing", "birthday": "1980-02-29",
                "notes": "Met at the fair.\nCall in May.",
                "postal_address": {
                    "locality": "London", "admin_area_level_1": "Greater London", "postal_code": "SW1A 1AA",
                    "country": "United Kingdom", "route": "1 High Street", "street_number": null,
                    "value": "1 High Street, SW1A 1AA London, Greater London, United Kingdom",
                },
            }),
        ),
        example(
            "street and house number are one text, in the order of the whole address",
            Direction::ToCanonical,
            synced,
            json!({ "street": "Hauptstraße 5", "city": "Ulm", "region": null, "postal_code": null, "country": null }),
            json!({ "id": 9, "postal_address": {
                "value": "Hauptstraße 5, Ulm", "route": "Hauptstraße", "street_number": "5", "locality": "Ulm",
            }}),
        ),
        example(
            "fields of the settings: options by label, sets, amounts, numbers",
            Direction::ToCanonical,
            custom,
            json!({
                "website": "https://example.com",
                "custom": { "tier": "gold", "areas": ["north", "south"], "fee": "12.5", "seats": 3, "renewal": "2027-01-31" },
            }),
            json!({ "id": 9, "custom_fields": {
                SITE: "https://example.com", TIER: 11, AREAS: [21, 22], FEE: { "value": 12.5, "currency": "USD" },
                SEATS: 3, RENEWAL: "2027-01-31", "7777777777777777777777777777777777777777": "not mapped",
            }}),
        ),
        example(
            "fields of the settings, written",
            Direction::ToProvider,
            custom,
            json!({
                "website": "https://example.com", "mobile_phone": "left out",
                "custom": { "tier": "silver", "areas": ["south"], "fee": "12.50", "seats": 0, "renewal": "2027-01-31" },
            }),
            json!({ "custom_fields": {
                SITE: "https://example.com", TIER: 12, AREAS: [22], FEE: { "value": 12.50, "currency": "EUR" },
                SEATS: 0, RENEWAL: "2027-01-31",
            }}),
        ),
    ]
}
