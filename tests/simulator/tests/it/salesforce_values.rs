//! Salesforce: values of contacts, and the rules that they are under.

use http::Method;
use serde_json::{Value, json};
use tandem_simulator::control::salesforce::SalesforceSettings;

use crate::salesforce_setting::Force;

const CONTACT: &str = "/sobjects/Contact";

#[tokio::test]
async fn texts_are_trimmed_addresses_made_small_and_both_can_be_switched_off() {
    let f = Force::new().await;
    let values = json!({ "Title": "  Boss ", "Email": " Ann@Example.COM ", "Phone": "a\nb" });
    let id = f.contact(values.clone()).await;
    let read = f.read(&id, "Title,Email,Phone").await;
    assert_eq!((&read["Title"], &read["Email"]), (&json!("Boss"), &json!("ann@example.com")));
    assert_eq!(read["Phone"], "a b");
    f.settings(json!({ "trimTexts": false, "lowercaseEmail": false })).await;
    let id = f.contact(json!({ "Title": "  Boss ", "Email": "Ann@Example.COM" })).await;
    let read = f.read(&id, "Title,Email").await;
    assert_eq!((&read["Title"], &read["Email"]), (&json!("  Boss "), &json!("Ann@Example.COM")));
}

#[tokio::test]
async fn a_text_has_a_length_and_one_that_is_longer_is_refused() {
    let f = Force::new().await;
    for (values, field, message) in [
        (
            json!({ "FirstName": "x".repeat(41) }),
            "FirstName",
            format!("First Name: data value too large: {} (max length=40)", "x".repeat(41)),
        ),
        (
            json!({ "Short__c": "äöüß€x" }),
            "Short__c",
            "Short Text: data value too large: äöüß€x (max length=5)".to_owned(),
        ),
    ] {
        let reply = f.post(CONTACT, with(&values, "LastName", json!("Doe"))).await;
        assert_eq!(reply.refusal(), (400, "STRING_TOO_LONG"));
        assert_eq!((reply.message(), &reply.body[0]["fields"]), (message.as_str(), &json!([field])));
    }
    f.contact(json!({ "FirstName": "ä".repeat(40), "Short__c": "äöüß€" })).await;
}

fn with(values: &Value, name: &str, value: Value) -> Value {
    let mut values = values.clone();
    values[name] = value;
    values
}

#[tokio::test]
async fn an_address_must_be_one() {
    let f = Force::new().await;
    for address in [
        "ann",
        "ann@example",
        ".ann@example.com",
        "ann@@example.com",
        "a nn@example.com",
        "ännchen@example.com",
    ] {
        let reply = f.post(CONTACT, json!({ "LastName": "Doe", "Email": address })).await;
        assert_eq!(reply.refusal(), (400, "INVALID_EMAIL_ADDRESS"), "{address}");
        assert_eq!(reply.message(), format!("Email: invalid email address: {address}"));
    }
    f.contact(json!({ "Email": "o'neil+x@sub.example.com" })).await;
}

#[tokio::test]
async fn a_restricted_picklist_takes_its_values_only() {
    let f = Force::new().await;
    let reply = f.post(CONTACT, json!({ "LastName": "Doe", "Colour__c": "Pink" })).await;
    let error = json!([{
        "message": "Colour: bad value for restricted picklist field: Pink",
        "errorCode": "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
        "fields": ["Colour__c"]
    }]);
    assert_eq!((reply.status, &reply.body), (400, &error));
    let reply = f.post(CONTACT, json!({ "LastName": "Doe", "Colours__c": "Red;Pink" })).await;
    assert_eq!(reply.refusal(), (400, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"));
    let id = f
        .contact(
            json!({ "Colour__c": "red", "Colours__c": "Blue;Red", "Mood__c": "new", "LeadSource": "Fair" }),
        )
        .await;
    let read = f.read(&id, "Colour__c,Colours__c,Mood__c,LeadSource").await;
    assert_eq!(read["Colour__c"], "Red");
    assert_eq!(read["Colours__c"], "Blue;Red");
    assert_eq!((&read["Mood__c"], &read["LeadSource"]), (&json!("new"), &json!("Fair")));
}

#[tokio::test]
async fn values_must_be_of_their_json_type() {
    let f = Force::new().await;
    for (name, value) in [
        ("Title", json!(5)),
        ("Score__c", json!("many")),
        ("Count__c", json!(1.5)),
        ("Birthdate", json!("2026-02-30")),
        ("Seen__c", json!("soon")),
        ("DoNotCall", json!("true")),
        ("Title", json!({ "a": 1 })),
    ] {
        let reply = f.post(CONTACT, json!({ "LastName": "Doe", name: value })).await;
        assert_eq!(reply.refusal(), (400, "JSON_PARSER_ERROR"), "{name}");
        assert!(reply.message().starts_with("Cannot deserialize instance of "), "{:?}", reply.body);
    }
    let reply = f.post(CONTACT, json!({ "LastName": "Doe", "DoNotCall": null })).await;
    assert_eq!(reply.refusal(), (400, "INVALID_TYPE_ON_FIELD_IN_RECORD"));
    let id = f
        .contact(json!({ "Score__c": 1.005, "Count__c": 7, "Birthdate": "1980-02-29", "Seen__c": "2026-01-31T11:00:00.5+01:00", "DoNotCall": true }))
        .await;
    let read = f.read(&id, "Score__c,Count__c,Birthdate,Seen__c,DoNotCall").await;
    assert_eq!((&read["Count__c"], &read["Birthdate"]), (&json!(7), &json!("1980-02-29")));
    assert_eq!(
        (&read["Seen__c"], &read["DoNotCall"]),
        (&json!("2026-01-31T10:00:00.000+0000"), &json!(true))
    );
    assert_eq!(read["Score__c"], json!(1.0), "two decimals");
}

#[tokio::test]
async fn references_must_lead_somewhere() {
    let f = Force::new().await;
    let boss = f.contact(json!({ "LastName": "Boss" })).await;
    let id = f.contact(json!({ "ReportsToId": &boss[..15], "OwnerId": f.org.person_user_id })).await;
    let read = f.read(&id, "ReportsToId,OwnerId").await;
    assert_eq!((&read["ReportsToId"], &read["OwnerId"]), (&json!(boss), &json!(f.org.person_user_id)));
    for body in [
        json!({ "AccountId": "001000000000001AAA" }),
        json!({ "OwnerId": boss }),
        json!({ "ReportsToId": f.org.api_user_id }),
    ] {
        assert_eq!(f.update(&id, body).await.refusal(), (400, "INVALID_CROSS_REFERENCE_KEY"));
    }
    assert_eq!(f.update(&id, json!({ "ReportsToId": "boss" })).await.refusal(), (400, "MALFORMED_ID"));
}

#[tokio::test]
async fn a_unique_value_is_held_by_one_live_contact_and_the_refusal_names_it() {
    let f = Force::new().await;
    let first = f.contact(json!({ "Key__c": "k1", "Exact__c": "a" })).await;
    let reply = f.post(CONTACT, json!({ "LastName": "Doe", "Key__c": "K1" })).await;
    assert_eq!(reply.refusal(), (400, "DUPLICATE_VALUE"));
    assert_eq!(
        reply.message(),
        format!("duplicate value found: Key__c duplicates value on record with id: {}", &first[..15])
    );
    let second = f.contact(json!({ "Exact__c": "A" })).await;
    assert_eq!(f.update(&second, json!({ "Key__c": "k1" })).await.refusal(), (400, "DUPLICATE_VALUE"));
    assert_eq!(f.update(&first, json!({ "Key__c": "k1" })).await.status, 204);
    f.delete(&format!("{CONTACT}/{first}")).await;
    assert_eq!(f.update(&second, json!({ "Key__c": "k1" })).await.status, 204);
    let undeleted = f.control.salesforce_person_undeletes(f.number(), &first).await;
    assert!(undeleted.unwrap_err().to_string().contains("DUPLICATE_VALUE"));
}

#[tokio::test]
async fn duplicate_rules_refuse_alert_or_allow() {
    let f = Force::with(|new| {
        new.settings = SalesforceSettings {
            duplicates: serde_json::from_value(json!("alert")).unwrap(),
            ..new.settings
        };
    })
    .await;
    let first = f.contact(json!({ "Email": "ann@example.com" })).await;
    let twin = json!({ "LastName": "Twin", "Email": "Ann@example.com" });
    let reply = f.post(CONTACT, twin.clone()).await;
    assert_eq!(reply.refusal(), (400, "DUPLICATES_DETECTED"));
    assert_eq!(reply.message(), "Use one of these records?");
    let found = &reply.body[0]["duplicateResut"];
    assert_eq!(
        (&found["allowSave"], &found["matchResults"][0]["matchRecords"][0]["record"]["Id"]),
        (&json!(true), &json!(first))
    );
    let save = [("sforce-duplicate-rule-header", "allowSave=true")];
    let saved = f.call(Method::POST, CONTACT, &save, twin.clone()).await;
    assert_eq!(saved.status, 201);
    let id = saved.body["id"].as_str().unwrap();
    assert_eq!(
        f.update(id, json!({ "Title": "x" })).await.status,
        204,
        "only a changed address is looked at"
    );
    f.settings(json!({ "duplicates": "block" })).await;
    assert_eq!(
        f.call(Method::POST, CONTACT, &save, twin.clone()).await.refusal(),
        (400, "DUPLICATES_DETECTED")
    );
    f.settings(json!({ "duplicates": "allow" })).await;
    assert_eq!(f.post(CONTACT, twin).await.status, 201);
}
