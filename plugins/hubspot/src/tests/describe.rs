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
        json!({ "api_version": "2026-09", "app": "oauth", "app_id": 77, "key_property": "tandem_key", "base_url": "http://127.0.0.1:8080/" }),
        json!({ "tier": "starter", "app_id": "77", "quotas": { "burst": { "limit": 1000, "per_ms": 1000 }, "concurrency": { "limit": 8 } } }),
    ]
}

#[test]
fn the_descriptor_is_valid_and_read_by_the_host_as_it_was_meant() {
    let said = serde_json::to_value(HubSpot::describe()).unwrap();
    valid(&published("descriptor"), &said);
    let read: tandem_core::descriptor::Descriptor = serde_json::from_value(said.clone()).unwrap();
    assert_eq!(read.id, "hubspot");
    assert_eq!(without_null(&serde_json::to_value(&read).unwrap()), without_null(&said));
    assert!(read.examples.len() >= 8);
}

#[test]
fn the_connection_is_valid_and_read_by_the_host_as_it_was_meant() {
    for settings in settings() {
        let said = serde_json::to_value(hubspot(&settings).connection()).unwrap();
        valid(&published("connection"), &said);
        let read: tandem_core::descriptor::ConnectionDescriptor =
            serde_json::from_value(said.clone()).unwrap();
        assert_eq!(without_null(&serde_json::to_value(&read).unwrap()), without_null(&said));
        for field in read.objects["contact"].fields.values() {
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
fn settings_that_the_schema_allows_are_read() {
    let schema = jsonschema::validator_for(&HubSpot::describe().settings.unwrap()).unwrap();
    for settings in
        settings().into_iter().chain(HubSpot::describe().examples.into_iter().map(|it| it.settings))
    {
        valid(&schema, &settings);
    }
    for wrong in [
        json!({ "colour": 1 }),
        json!({ "api_version": "v4" }),
        json!({ "key_property": "A b" }),
        json!({ "custom": { "/a": {} } }),
    ] {
        assert!(!schema.is_valid(&wrong), "{wrong}");
    }
}

#[test]
fn documents_of_the_examples_are_valid() {
    for example in HubSpot::describe().examples {
        let provider = hubspot(&example.settings);
        let object = &provider.connection().objects["contact"];
        let write = jsonschema::validator_for(object.write_schema.as_ref().unwrap()).unwrap();
        valid(&write, &example.document);
        let mut record = example.document.clone();
        record["id"] = json!("1");
        valid(&jsonschema::validator_for(&object.schema).unwrap(), &record);
    }
}

#[test]
fn documents_that_hubspot_cannot_mean_are_invalid() {
    let provider = hubspot(&json!({ "custom": {
        "/custom/seats": { "property": "seats", "type": "integer" }, "/custom/vip": { "property": "vip", "type": "boolean" },
        "/custom/day": { "property": "day", "type": "date" }, "/custom/fee": { "property": "fee", "type": "decimal" },
        "/custom/tier": { "property": "tier", "type": "enumeration", "options": { "gold": "t1" } },
    }}));
    let schema = jsonschema::validator_for(&provider.connection().objects["contact"].schema).unwrap();
    valid(
        &schema,
        &json!({ "id": "1", "properties": { "seats": "12", "vip": "TRUE", "day": "", "fee": "1.5e3", "tier": "t1", "x": null } }),
    );
    for wrong in [
        json!({ "properties": {} }),
        json!({ "id": "1" }),
        json!({ "id": 1, "properties": {} }),
        json!({ "id": "1", "properties": [] }),
        json!({ "id": "1", "properties": { "email": 5 } }),
        json!({ "id": "1", "properties": { "not_mapped": 5 } }),
        json!({ "id": "1", "properties": { "email": "x".repeat(65_537) } }),
        json!({ "id": "1", "properties": { "seats": "twelve" } }),
        json!({ "id": "1", "properties": { "vip": "yes" } }),
        json!({ "id": "1", "properties": { "day": "31.12.2026" } }),
        json!({ "id": "1", "properties": { "fee": "12,50" } }),
        json!({ "id": "1", "properties": { "tier": "t9" } }),
        json!({ "id": "1", "archived": "no", "properties": {} }),
    ] {
        assert!(!schema.is_valid(&wrong), "{wrong}");
    }
}

#[test]
fn quotas_follow_app_and_subscription_and_can_be_overridden() {
    let quotas = |settings: Value| {
        hubspot(&settings)
            .connection()
            .quotas
            .into_iter()
            .map(|it| (it.name, it.limit, it.per_ms.unwrap_or(0), it.also.join(",")))
            .collect::<Vec<_>>()
    };
    let expect = |rows: &[(&str, u64, u64, &str)]| {
        rows.iter()
            .map(|(name, limit, per, also)| ((*name).to_owned(), *limit, *per, (*also).to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        quotas(json!({})),
        expect(&[("burst", 190, 10_000, "daily"), ("search", 5, 1_000, "daily"), ("daily", 650_000, 0, "")])
    );
    assert_eq!(
        quotas(json!({ "app": "oauth" })),
        expect(&[("burst", 110, 10_000, ""), ("search", 5, 1_000, "")])
    );
    assert_eq!(
        quotas(
            json!({ "tier": "free", "quotas": { "search": { "limit": 50, "per_ms": 500 }, "daily": { "limit": 9 } } })
        ),
        expect(&[("burst", 100, 10_000, "daily"), ("search", 50, 500, "daily"), ("daily", 9, 0, "")])
    );
}

#[test]
fn the_host_of_the_base_url_is_asked_for() {
    for (url, host) in [
        ("https://api.hubapi.com", "api.hubapi.com"),
        ("http://127.0.0.1:9/x/", "127.0.0.1"),
        ("http://[::1]:9", "[::1]"),
    ] {
        let connection = hubspot(&json!({ "base_url": url })).connection();
        assert_eq!(connection.hosts, [host]);
        assert_eq!(connection.base_url, url.trim_end_matches('/'));
    }
}
