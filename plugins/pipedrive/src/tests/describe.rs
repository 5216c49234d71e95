use jsonschema::Validator;
use serde_json::{Value, json};
use tandem_provider::Provider;

use super::*;

fn published(name: &str) -> Validator {
    let path = format!("{}/../../schemas/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

fn valid(validator: &Validator, value: &Value) {
    let errors: Vec<String> =
        validator.iter_errors(value).map(|it| format!("{}: {it}", it.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

fn settings() -> Vec<Value> {
    vec![
        json!({}),
        json!({ "app": "oauth", "plan": "premium", "seats": 3, "key_field": KEY, "contact_sync": true, "names": "whole" }),
        json!({
            "base_url": "http://127.0.0.1:8080/", "quotas": { "burst": { "limit": 1000, "per_ms": 1000 }, "daily": { "limit": 9 } },
            "day_zone": "Europe/Berlin", "poll_every_ms": 100, "custom": {
                "/custom/tier": { "field": TIER, "type": "enumeration", "options": { "gold": "11" } },
                "/tags": { "field": FEE, "type": "set", "options": { "a": "1" }, "direction": "to-canonical" },
            },
        }),
    ]
}

#[test]
fn the_descriptor_is_valid_and_read_by_the_host_as_it_was_meant() {
    let said = serde_json::to_value(Pipedrive::describe()).unwrap();
    valid(&published("descriptor"), &said);
    let read: tandem_core::descriptor::Descriptor = serde_json::from_value(said.clone()).unwrap();
    assert_eq!(read.id, "pipedrive");
    assert_eq!(without_null(&serde_json::to_value(&read).unwrap()), without_null(&said));
    let refresh = read.auth["oauth2"].refresh.as_ref().unwrap();
    assert_eq!((refresh.client.as_str(), refresh.base_url.as_deref()), ("basic", Some("/api_domain")));
    assert_eq!(
        (read.auth["static"].header.as_str(), read.auth["static"].template.as_str()),
        ("x-api-token", "{token}")
    );
}

#[test]
fn the_connection_is_valid_and_read_by_the_host_as_it_was_meant() {
    for settings in settings() {
        let said = serde_json::to_value(pipedrive(&settings).connection()).unwrap();
        valid(&published("connection"), &said);
        let read: tandem_core::descriptor::ConnectionDescriptor =
            serde_json::from_value(said.clone()).unwrap();
        assert_eq!(without_null(&serde_json::to_value(&read).unwrap()), without_null(&said));
        let contact = &read.objects["contact"];
        assert_eq!(contact.abilities.guarantee().name(), "narrow-window");
        for field in contact.fields.values() {
            if let Some(name) = &field.normalise {
                assert!(tandem_core::normalise::is_known(name), "{name}");
            }
        }
    }
}

/// Absent and null are one thing in descriptors, except inside schemas and examples.
fn without_null(value: &Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .iter()
                .filter(|(name, value)| !value.is_null() && *name != "examples")
                .map(|(name, value)| (name.clone(), without_null(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(without_null).collect()),
        other => other.clone(),
    }
}

#[test]
fn fields_say_where_they_stand_in_a_person() {
    let connection = rich().connection();
    let place = |pointer: &str| connection.objects["contact"].fields[pointer].provider.clone();
    assert_eq!(place("/email"), ["/emails"]);
    assert_eq!(
        (place("/phone"), place("/mobile_phone")),
        (vec!["/phones".to_owned()], vec!["/phones".to_owned()])
    );
    assert_eq!(place("/street"), ["/postal_address"]);
    assert_eq!(place("/given_name"), ["/first_name"]);
    assert_eq!(place("/custom/tier"), [format!("/custom_fields/{TIER}")]);
}

#[test]
fn settings_that_the_schema_allows_are_read() {
    let schema = jsonschema::validator_for(&Pipedrive::describe().settings.unwrap()).unwrap();
    for settings in
        settings().into_iter().chain(Pipedrive::describe().examples.into_iter().map(|it| it.settings))
    {
        valid(&schema, &settings);
        pipedrive(&settings);
    }
    for wrong in [
        json!({ "colour": 1 }),
        json!({ "plan": "free" }),
        json!({ "key_field": "A b" }),
        json!({ "custom": { "/a": {} } }),
        json!({ "seats": 0 }),
    ] {
        assert!(!schema.is_valid(&wrong), "{wrong}");
    }
}

#[test]
fn documents_of_the_examples_are_valid() {
    for example in Pipedrive::describe().examples {
        let provider = Pipedrive::configure(&example.settings, &example.facts).unwrap();
        let object = &provider.connection().objects["contact"];
        valid(&jsonschema::validator_for(object.write_schema.as_ref().unwrap()).unwrap(), &example.document);
        let mut record = example.document.clone();
        record["id"] = json!(1);
        valid(&jsonschema::validator_for(&object.schema).unwrap(), &record);
    }
}

#[test]
fn documents_that_pipedrive_cannot_mean_are_invalid() {
    let schema = jsonschema::validator_for(&rich().connection().objects["contact"].schema).unwrap();
    valid(
        &schema,
        &person(
            1,
            &json!({ "postal_address": null, "custom_fields": { TIER: 11, FEE: null, "x": {} }, "more": [1] }),
        ),
    );
    for wrong in [
        json!({ "id": null }),
        json!({ "first_name": 5 }),
        json!({ "emails": "a@b.c" }),
        json!({ "emails": ["a@b.c"] }),
        json!({ "emails": [{ "value": 5 }] }),
        json!({ "phones": [{ "value": "1", "primary": "yes" }] }),
        json!({ "birthday": "spring" }),
        json!({ "postal_address": "Ulm" }),
        json!({ "custom_fields": [] }),
        json!({ "custom_fields": { TIER: true } }),
        json!({ "custom_fields": { FEE: 5 } }),
        json!({ "first_name": "x".repeat(65_537) }),
    ] {
        assert!(!schema.is_valid(&person(1, &wrong)), "{wrong}");
    }
    assert!(!schema.is_valid(&json!({ "first_name": "A" })));
}

#[test]
fn quotas_follow_plan_seats_and_credentials_and_can_be_overridden() {
    let quotas = |settings: Value| {
        pipedrive(&settings)
            .connection()
            .quotas
            .into_iter()
            .map(|it| format!("{} {} {} {}", it.name, it.limit, it.per_ms.unwrap_or(0), it.also.join(",")))
            .collect::<Vec<_>>()
    };
    assert_eq!(quotas(json!({})), ["burst 20 2000 daily", "search 10 2000 ", "daily 30000 0 "]);
    assert_eq!(
        quotas(json!({ "app": "oauth", "plan": "premium", "seats": 4, "top_up": 500 })),
        ["burst 400 2000 daily", "search 10 2000 ", "daily 600500 0 "]
    );
    assert_eq!(
        quotas(
            json!({ "plan": "ultimate", "quotas": { "search": { "limit": 5, "per_ms": 900 }, "daily": { "limit": 9 } } })
        ),
        ["burst 120 2000 daily", "search 5 900 ", "daily 9 0 "]
    );
    let zone = pipedrive(&json!({ "day_zone": "Europe/Berlin" })).connection().quotas[2].time_zone.clone();
    assert_eq!(zone.as_deref(), Some("Europe/Berlin"));
}

#[test]
fn where_requests_begin_is_a_matter_of_the_credentials() {
    for (settings, url, host) in [
        (json!({}), "https://api.pipedrive.com", "api.pipedrive.com"),
        (json!({ "app": "oauth" }), "https://oauth.pipedrive.com", "oauth.pipedrive.com"),
        (json!({ "base_url": "http://[::1]:9/" }), "http://[::1]:9", "[::1]"),
    ] {
        let connection = pipedrive(&settings).connection();
        assert_eq!((connection.base_url.as_str(), connection.hosts), (url, vec![host.to_owned()]));
    }
}
