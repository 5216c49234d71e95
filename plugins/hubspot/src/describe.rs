//! What the provider says of itself.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tandem_provider::{
    Abilities, AuthScheme, Condition, ConnectionDescriptor, Descriptor, Direction, Example, ObjectDescriptor,
    Refresh, Verify, Webhooks,
};

use crate::HubSpot;
use crate::contact::OBJECT;
use crate::settings;

pub(crate) fn descriptor() -> Descriptor {
    let refresh = Refresh {
        url: "{base_url}/oauth/v1/token".to_owned(),
        client: "body".to_owned(),
        access_token: Some("/access_token".to_owned()),
        refresh_token: Some("/refresh_token".to_owned()),
        expires_in: Some("/expires_in".to_owned()),
        base_url: None,
        error: None,
    };
    Descriptor {
        id: "hubspot".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        title: "HubSpot: contacts".to_owned(),
        auth: BTreeMap::from([
            ("static".to_owned(), AuthScheme::bearer()),
            ("oauth2".to_owned(), AuthScheme::oauth2(refresh)),
        ]),
        webhooks: Some(Webhooks {
            array: true,
            account: Some("/portalId".to_owned()),
            // Signature version 3: the method, the address as HubSpot called it, the body and the time.
            ..Webhooks::verified_by(Verify::HmacSha256 {
                secret: "client_secret".to_owned(),
                message: "{method}{url}{body}{timestamp}".to_owned(),
                header: "x-hubspot-signature-v3".to_owned(),
                encoding: "base64".to_owned(),
                timestamp: Some("x-hubspot-request-timestamp".to_owned()),
                tolerance_ms: Some(300_000),
            })
        }),
        rules: false,
        secrets: BTreeMap::new(),
        response_headers: [
            "retry-after",
            "x-hubspot-ratelimit-daily",
            "x-hubspot-ratelimit-daily-remaining",
            "x-hubspot-ratelimit-interval-milliseconds",
            "x-hubspot-ratelimit-max",
            "x-hubspot-ratelimit-remaining",
        ]
        .map(str::to_owned)
        .to_vec(),
        settings: Some(settings::schema()),
        examples: examples(),
    }
}

pub(crate) fn connection(hubspot: &HubSpot) -> ConnectionDescriptor {
    let settings = &hubspot.settings;
    let has_key = settings.key_property.is_some();
    let contact = ObjectDescriptor {
        name: hubspot.contacts.provider_object().to_owned(),
        schema: hubspot.contacts.schema(),
        write_schema: Some(hubspot.contacts.write_schema()),
        fields: hubspot.contacts.fields(),
        abilities: Abilities {
            key: has_key,
            // Two contacts never have the same address, and that is what a contact is known by.
            unique_identity: true,
            condition: Condition::None,
            consistent_listing: false,
            changes: true,
            changes_show_deleted: true,
            archives: true,
            find_settles_after_ms: settings.settle_ms,
            poll_every_ms: settings.poll_every_ms,
            event_times: true,
        },
    };
    ConnectionDescriptor {
        base_url: settings.base_url.clone(),
        hosts: settings.hosts(),
        objects: BTreeMap::from([(OBJECT.to_owned(), contact)]),
        quotas: settings.quota_descriptors(hubspot.facts.account.time_zone.clone()),
    }
}

fn example(name: &str, direction: Direction, settings: Value, canonical: Value, document: Value) -> Example {
    Example {
        name: name.to_owned(),
        object: OBJECT.to_owned(),
        settings,
        facts: json!({}),
        canonical,
        document,
        direction,
    }
}

fn examples() -> Vec<Example> {
    let custom = json!({
        "properties": { "/tags": "labels", "/opted_out": "no_marketing", "/employees": "headcount", "/phone": "direct_line" },
        "ignore": ["/notes"],
        "custom": {
            "/custom/tier": {
                "property": "tier", "type": "enumeration", "options": { "gold": "tier_1", "silver": "tier_2" },
            },
            "/custom/seats": { "property": "seats", "type": "integer" },
            "/custom/renewal": { "property": "renewal_date", "type": "date" },
            "/custom/score": { "property": "score", "type": "decimal", "direction": "to-canonical" },
        },
    });
    vec![
        example(
            "a contact with everything that HubSpot has a default property for",
            Direction::Both,
            json!({}),
            json!({
                "email": "ann.obrien@example.com", "given_name": "Ann", "family_name": "O'Brien",
                "phone": "+44 20 7946 0018", "mobile_phone": "+44 7700 900123", "job_title": "Head of Purchasing",
                "company_name": "Example Ltd", "website": "https://www.example.com/about?x=1",
                "street": "1 High Street", "city": "London", "region": "Greater London", "postal_code": "SW1A 1AA",
                "country": "United Kingdom", "language": "en-GB", "lifecycle_stage": "marketing_qualified_lead",
                "date_of_birth": "1980-02-29", "annual_revenue": "1234567.50",
                "notes": "Met at the fair.\nCall in May.",
            }),
            json!({ "properties": {
                "email": "ann.obrien@example.com", "firstname": "Ann", "lastname": "O'Brien",
                "phone": "+44 20 7946 0018", "mobilephone": "+44 7700 900123", "jobtitle": "Head of Purchasing",
                "company": "Example Ltd", "website": "https://www.example.com/about?x=1",
                "address": "1 High Street", "city": "London", "state": "Greater London", "zip": "SW1A 1AA",
                "country": "United Kingdom", "hs_language": "en-gb", "lifecyclestage": "marketingqualifiedlead",
                "date_of_birth": "1980-02-29", "annualrevenue": "1234567.50",
                "message": "Met at the fair.\nCall in May.",
            }}),
        ),
        example(
            "only an address",
            Direction::Both,
            json!({}),
            json!({ "email": "solo@example.org" }),
            json!({ "properties": { "email": "solo@example.org" } }),
        ),
        example("nothing at all", Direction::Both, json!({}), json!({}), json!({ "properties": {} })),
        example(
            "members that are not mapped take no part",
            Direction::ToCanonical,
            json!({}),
            json!({ "email": "b@example.com", "given_name": "Bo" }),
            json!({
                "id": "512", "archived": false, "createdAt": "2026-01-02T03:04:05.678Z", "updatedAt": "2026-01-03T00:00:00Z",
                "properties": {
                    "email": "b@example.com", "firstname": "Bo", "hs_object_id": "512", "hubspot_owner_id": "77",
                    "lastmodifieddate": "2026-01-03T00:00:00Z",
                },
            }),
        ),
        example(
            "properties without a value read as absent",
            Direction::ToCanonical,
            json!({}),
            json!({ "email": "c@example.com" }),
            json!({ "id": "7", "properties": { "email": "c@example.com", "firstname": null, "phone": null, "lifecyclestage": null } }),
        ),
        example(
            "a property that an event shows as cleared reads as null",
            Direction::ToCanonical,
            json!({}),
            json!({ "phone": null }),
            json!({ "id": "7", "properties": { "phone": "" } }),
        ),
        example(
            "null, empty and absent are nothing to write when there was nothing",
            Direction::ToProvider,
            json!({}),
            json!({ "email": "d@example.com", "given_name": null, "phone": "" }),
            json!({ "properties": { "email": "d@example.com" } }),
        ),
        example(
            "odd characters stay as they are",
            Direction::Both,
            json!({}),
            json!({
                "given_name": "Zoë \u{1f600} \"Z\" \\ / \u{7f}", "family_name": "Ng\u{169}g\u{129} wa Thiong\u{2019}o",
                "company_name": "有限会社サンプル", "street": "Straße des 17. Juni\u{2028}\t№ 1", "city": "القاهرة",
                "notes": "a;b;c & <b> %20 \u{feff}",
            }),
            json!({ "properties": {
                "firstname": "Zoë \u{1f600} \"Z\" \\ / \u{7f}", "lastname": "Ng\u{169}g\u{129} wa Thiong\u{2019}o",
                "company": "有限会社サンプル", "address": "Straße des 17. Juni\u{2028}\t№ 1", "city": "القاهرة",
                "message": "a;b;c & <b> %20 \u{feff}",
            }}),
        ),
        example(
            "fields of the settings: options, sets, yes or no, another property, one way, left out",
            Direction::ToCanonical,
            custom.clone(),
            json!({
                "email": "e@example.com", "phone": "+49 30 1", "tags": ["vip", "new"], "opted_out": true, "employees": 250,
                "custom": { "tier": "gold", "seats": 12, "renewal": "2027-01-31", "score": "0.75" },
            }),
            json!({ "properties": {
                "email": "e@example.com", "direct_line": "+49 30 1", "labels": "vip;new", "no_marketing": "true", "headcount": "250",
                "tier": "tier_1", "seats": "12", "renewal_date": "1801353600000", "score": "0.75", "message": "not mapped here",
            }}),
        ),
        example(
            "fields of the settings, written",
            Direction::ToProvider,
            custom,
            json!({
                "phone": "+49 30 1", "tags": ["vip", "new"], "opted_out": false, "notes": "left out",
                "custom": { "tier": "silver", "seats": 0, "renewal": "2027-01-31", "score": "0.75", "unknown": "stays here" },
            }),
            json!({ "properties": {
                "direct_line": "+49 30 1", "labels": "vip;new", "no_marketing": "false",
                "tier": "tier_2", "seats": "0", "renewal_date": "2027-01-31",
            }}),
        ),
        example(
            "a stage of the customer's own and free text for a date are left alone, a range of employees is not mapped",
            Direction::ToCanonical,
            json!({}),
            json!({ "lifecycle_stage": "other", "annual_revenue": "1200000" }),
            json!({ "id": "9", "properties": {
                "lifecyclestage": "4711", "date_of_birth": "spring of 1971", "numemployees": "5-25", "annualrevenue": "1.2E6",
            }}),
        ),
        example(
            "a date may come as milliseconds at midnight",
            Direction::ToCanonical,
            json!({}),
            json!({ "date_of_birth": "2019-10-31" }),
            json!({ "id": "9", "properties": { "date_of_birth": "1572480000000" } }),
        ),
    ]
}
