use jsonschema::Validator;

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
        json!({ "api_version": "68.0", "key_field": "ns__Tandem_Key__c", "base_url": "http://127.0.0.1:8080/", "after_write": "assume" }),
        json!({ "quotas": { "requests": { "limit": 15_000, "per_ms": 1_000 }, "concurrency": { "limit": 25 } }, "client": "acme/1.0" }),
    ]
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
fn the_descriptor_is_valid_and_read_by_the_host_as_it_was_meant() {
    let said = serde_json::to_value(Salesforce::describe()).unwrap();
    valid(&published("descriptor"), &said);
    let read: tandem_core::descriptor::Descriptor = serde_json::from_value(said.clone()).unwrap();
    assert_eq!(read.id, "salesforce");
    assert_eq!(without_null(&serde_json::to_value(&read).unwrap()), without_null(&said));
    let refresh = read.auth["oauth2"].refresh.as_ref().unwrap();
    assert_eq!((refresh.base_url.as_deref(), refresh.expires_in.as_deref()), (Some("/instance_url"), None));
}

#[test]
fn messages_are_blanked_routed_and_acknowledged_as_data() {
    let webhooks = Salesforce::describe().webhooks.unwrap();
    assert_eq!(webhooks.blank, ["/Envelope/Body/notifications/SessionId"]);
    assert_eq!(webhooks.account.as_deref(), Some("/Envelope/Body/notifications/OrganizationId"));
    assert!(webhooks.answer.body.contains("<Ack>true</Ack>"));
    let mut reader = quick_xml::Reader::from_str(&webhooks.answer.body);
    while reader.read_event().unwrap() != quick_xml::events::Event::Eof {}
}

#[test]
fn the_connection_is_valid_and_read_by_the_host_as_it_was_meant() {
    for settings in settings() {
        let said = serde_json::to_value(salesforce(&settings).connection()).unwrap();
        valid(&published("connection"), &said);
        let read: tandem_core::descriptor::ConnectionDescriptor =
            serde_json::from_value(said.clone()).unwrap();
        assert_eq!(without_null(&serde_json::to_value(&read).unwrap()), without_null(&said));
        let abilities = &read.objects["contact"].abilities;
        assert_eq!(abilities.guarantee(), tandem_core::descriptor::Guarantee::ToTheSecond);
        assert_eq!(abilities.key, settings.get("key_field").is_some());
        for field in read.objects["contact"].fields.values() {
            if let Some(name) = &field.normalise {
                assert!(tandem_core::normalise::is_known(name), "{name}");
            }
        }
    }
}

#[test]
fn settings_that_the_schema_allows_are_read() {
    let schema = jsonschema::validator_for(&Salesforce::describe().settings.unwrap()).unwrap();
    for settings in
        settings().into_iter().chain(Salesforce::describe().examples.into_iter().map(|it| it.settings))
    {
        valid(&schema, &settings);
    }
    for wrong in [
        json!({ "colour": 1 }),
        json!({ "api_version": "v60" }),
        json!({ "key_field": "Email" }),
        json!({ "stages": { "nobody": "X" } }),
        json!({ "after_write": "hope" }),
        json!({ "custom": { "/a": {} } }),
    ] {
        assert!(!schema.is_valid(&wrong), "{wrong}");
    }
}

#[test]
fn documents_of_the_examples_are_valid() {
    for example in Salesforce::describe().examples {
        let provider = salesforce(&example.settings);
        let object = &provider.connection().objects["contact"];
        valid(&jsonschema::validator_for(object.write_schema.as_ref().unwrap()).unwrap(), &example.document);
        let mut record = example.document.clone();
        record["Id"] = json!(ID);
        valid(&jsonschema::validator_for(&object.schema).unwrap(), &record);
    }
}

#[test]
fn documents_that_salesforce_cannot_mean_are_invalid() {
    let provider = salesforce(&json!({ "custom": {
        "/custom/seats": { "property": "Seats__c", "type": "integer" }, "/custom/vip": { "property": "Vip__c", "type": "boolean" },
        "/custom/fee": { "property": "Fee__c", "type": "decimal" },
        "/custom/tier": { "property": "Tier__c", "type": "enumeration", "options": { "gold": "t1" } },
    }}));
    let schema = jsonschema::validator_for(&provider.connection().objects["contact"].schema).unwrap();
    valid(
        &schema,
        &contact(
            ID,
            &json!({ "Seats__c": 12.0, "Vip__c": true, "Fee__c": 1.5e3, "Tier__c": "t1", "Email": null }),
        ),
    );
    for wrong in [
        json!({ "LastName": "no id" }),
        json!({ "Id": 1 }),
        json!({ "Id": "short" }),
        json!({ "Id": ID, "Email": 5 }),
        json!({ "Id": ID, "Email": "x".repeat(65_537) }),
        json!({ "Id": ID, "Seats__c": 1.5 }),
        json!({ "Id": ID, "Vip__c": "yes" }),
        json!({ "Id": ID, "Fee__c": "12,50" }),
        json!({ "Id": ID, "Tier__c": "t9" }),
        json!({ "Id": ID, "IsDeleted": "no" }),
    ] {
        assert!(!schema.is_valid(&wrong), "{wrong}");
    }
}

#[test]
fn quotas_are_those_of_an_organisation_and_can_be_overridden() {
    let quotas = |settings: &Value| {
        let rows = salesforce(settings).connection().quotas.into_iter();
        rows.map(|it| (it.name, it.limit, it.per_ms, it.also.join(","))).collect::<Vec<_>>()
    };
    let row = |name: &str, limit, per, also: &str| (name.to_owned(), limit, per, also.to_owned());
    assert_eq!(
        quotas(&json!({})),
        [row("requests", 100_000, Some(86_400_000), "concurrency"), row("concurrency", 5, None, "")]
    );
    assert_eq!(
        quotas(&settings()[2]),
        [row("requests", 15_000, Some(1_000), "concurrency"), row("concurrency", 25, None, "")]
    );
}

#[test]
fn the_host_of_the_base_url_is_asked_for() {
    for (url, host) in [
        ("https://Acme.my.salesforce.com", "acme.my.salesforce.com"),
        ("http://127.0.0.1:9/", "127.0.0.1"),
        ("http://[::1]:9", "[::1]"),
    ] {
        let connection = salesforce(&json!({ "base_url": url })).connection();
        assert_eq!(connection.hosts, [host]);
        assert_eq!(connection.base_url, url.trim_end_matches('/'));
    }
}
